"""Samples: which cells stand for slumps, which for none, and their blocks."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from thawslump.errors import DataError
from trainer.susceptibility.draws import Smallest, keys, stream
from trainer.susceptibility.likeness import Likeness, standardised_differences
from trainer.susceptibility.samples import (
    SlumpCells,
    beyond,
    block_ids,
    clear_cells,
    count_labels,
    draw_positives,
    joined,
    nearest_to_centre,
    numbered,
    runs_of,
    slump_cells,
)
from trainer.susceptibility.seams import Sheet, common_slumps

FINE = Affine(10, 0, 500_000, 0, -10, 8_000_000)
COARSE = Affine(30, 0, 500_000, 0, -30, 8_000_000)
LABELS = arrays(np.uint8, (12, 15), elements=st.sampled_from([0, 0, 0, 1, 255]))
SIDES = st.integers(1, 15)


def cells_of(labels: np.ndarray, shape: tuple[int, int] = (4, 5), side: int = 99) -> SlumpCells:
    """Return the slumps of labels that are read by squares."""
    parts = [
        runs_of(labels[row : row + side, column : column + side] == 1, row, column)
        for row in range(0, labels.shape[0], side)
        for column in range(0, labels.shape[1], side)
    ]
    return slump_cells(joined(parts), FINE, shape, COARSE)


def connected(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the number of each pixel's group from 1, and how many groups there are."""
    numbers = np.zeros(labels.shape, np.int32)
    return numbers, int(ndimage.label(labels == 1, np.ones((3, 3)), output=numbers))  # type: ignore[arg-type]


# Labels ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(labels=LABELS)
def test_counts_add_up_to_the_pixels_below(labels: np.ndarray) -> None:
    "Aligned grids: counts are the sums over 3 x 3 blocks"
    counts = count_labels(labels, FINE, (4, 5), COARSE)
    for kind, held in ((1, counts.slump), (0, counts.clear), (255, counts.unseen)):
        blocks = (labels == kind).reshape(4, 3, 5, 3).sum(axis=(1, 3))
        assert np.array_equal(held, blocks)


@settings(max_examples=40, deadline=None)
@given(labels=LABELS, row=st.integers(0, 3), column=st.integers(0, 4))
def test_counts_of_a_window_are_those_of_the_whole(
    labels: np.ndarray, row: int, column: int
) -> None:
    "One cell, from the labels below it and a pixel around"
    whole = count_labels(labels, FINE, (4, 5), COARSE)
    top, left = max(0, row * 3 - 1), max(0, column * 3 - 1)
    part = count_labels(
        labels[top : row * 3 + 4, left : column * 3 + 4],
        FINE, (1, 1), COARSE, pixel=(top, left), cell=(row, column),
    )  # fmt: skip
    for name in ("slump", "clear", "unseen"):
        assert getattr(part, name)[0, 0] == getattr(whole, name)[row, column]


def test_pixels_outside_the_cells_are_passed_over() -> None:
    "Cells that cover a quarter of the labels count that quarter"
    counts = count_labels(np.zeros((12, 12), np.uint8), FINE, (2, 2), COARSE)
    assert counts.clear.sum() == 36


# Slumps ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, side=SIDES)
def test_slumps_are_the_connected_groups_however_the_labels_are_read(
    labels: np.ndarray, side: int
) -> None:
    "Against scipy's labelling of the whole array: numbers, centres, and all cells touched"
    numbers, count = connected(labels)
    held = cells_of(labels, side=side)
    rows, columns = np.indices(labels.shape)
    assert len(held.centres) == count
    for number in range(count):
        here = numbers == number + 1
        centre = (500_005 + 10 * columns[here].mean(), 7_999_995 - 10 * rows[here].mean())
        assert held.centres[number] == pytest.approx(centre, abs=1e-6)
        share = here.reshape(4, 3, 5, 3).sum(axis=(1, 3)).ravel()
        expected = np.flatnonzero(share >= 5).tolist() or [int(np.argmax(share))]
        assert held.cells[held.slumps == number].tolist() == expected
    touched = (labels == 1).reshape(4, 3, 5, 3).any(axis=(1, 3))
    assert held.touched.tolist() == np.flatnonzero(touched).tolist()


def test_majority_rule_with_a_fallback_for_small_slumps() -> None:
    "5 of 9 pixels make a cell; 4 do not, unless the slump has nothing better"
    labels = np.zeros((6, 9), np.uint8)
    labels[0:2, 0:3] = 1  # 6 of 9 in cell 0
    labels[0:2, 3:5] = 1  # 4 of 9 in cell 1: same slump, no majority
    labels[4:6, 7:9] = 1  # 4 of 9 in cell 5: another slump
    held = cells_of(labels, (2, 3))
    assert held.cells.tolist() == [0, 5]
    assert held.slumps.tolist() == [0, 1]
    assert held.touched.tolist() == [0, 1, 5]


def test_large_slumps_do_not_outvote_small_ones() -> None:
    slumps = np.array([2] * 50 + [0] + [1] * 3)
    chosen = draw_positives(slumps, 4, np.random.default_rng(0))
    assert np.bincount(slumps[chosen]).tolist() == [1, 3, 4]
    assert np.unique(chosen).size == chosen.size


def test_a_draw_of_cells_is_random_but_repeatable() -> None:
    slumps = np.zeros(100, int)
    draws = [draw_positives(slumps, 4, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_the_centroid_of_a_crescent_stays_on_the_slump() -> None:
    "The middle of a half ring is bare ground; the cell taken is the ring's own nearest one"
    rows, columns = np.indices((60, 60))
    away = np.hypot(rows - 29.5, columns - 29.5)
    labels = ((away > 18) & (away < 27) & (columns >= 28)).astype(np.uint8)
    held = cells_of(labels, (20, 20))
    assert len(held.centres) == 1
    x, y = 500_015.0 + 30 * (held.cells % 20), 7_999_985.0 - 30 * (held.cells // 20)
    chosen = nearest_to_centre(x, y, held.slumps, held.centres)
    row, column = divmod(int(held.cells[chosen][0]), 20)
    assert labels[row * 3 : row * 3 + 3, column * 3 : column * 3 + 3].sum() >= 5
    x, y = held.centres[0]
    own = labels[int((8_000_000 - y) // 10), int((x - 500_000) // 10)]
    assert own == 0  # else this would test nothing
    middles = [(500_015 + 30 * (cell % 20), 7_999_985 - 30 * (cell // 20)) for cell in held.cells]
    nearest = min(middles, key=lambda each: np.hypot(each[0] - x, each[1] - y))
    assert (500_015 + 30 * column, 7_999_985 - 30 * row) == nearest


@settings(max_examples=40, deadline=None)
@given(labels=LABELS)
def test_every_slump_has_one_centroid_on_its_own_cells(labels: np.ndarray) -> None:
    held = cells_of(labels)
    x, y = 500_015.0 + 30 * (held.cells % 5), 7_999_985.0 - 30 * (held.cells // 5)
    chosen = nearest_to_centre(x, y, held.slumps, held.centres)
    assert sorted(held.slumps[chosen]) == list(range(len(held.centres)))


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, row=st.integers(1, 11), column=st.integers(1, 14))
def test_a_slump_cut_by_the_edges_of_sites_is_one(
    labels: np.ndarray, row: int, column: int
) -> None:
    "Four sites that part a raster: pixels share a number where they do in the whole raster"
    numbers, count = connected(labels)
    sheets, expected = [], []
    for rows in (slice(0, row), slice(row, 12)):
        for columns in (slice(0, column), slice(column, 15)):
            part = labels[rows, columns]
            affine = Affine(10, 0, 500_000 + 10 * columns.start, 0, -10, 8e6 - 10 * rows.start)
            runs = runs_of(part == 1)
            cells = slump_cells(runs, affine, part.shape, affine)
            sheets.append(Sheet("EPSG:32652", affine, part.shape, runs, cells))
            of_pixel = numbered(runs)[0].repeat(runs.stops - runs.starts)
            expected.append((of_pixel, numbers[rows, columns][part == 1]))
    found = common_slumps(sheets)
    ours = np.concatenate([each[of] for each, (of, _) in zip(found, expected, strict=True)])
    whole = np.concatenate([true for _, true in expected])
    assert np.unique(np.stack([ours, whole]), axis=1).shape[1] == np.unique(ours).size == count


def test_slumps_of_two_zones_are_two() -> None:
    "The same numbers in two coordinate systems are two places"
    runs = runs_of(np.ones((2, 2), bool))
    cells = slump_cells(runs, FINE, (2, 2), FINE)
    sheets = [Sheet(crs, FINE, (2, 2), runs, cells) for crs in ("EPSG:32651", "EPSG:32652")]
    assert [each.tolist() for each in common_slumps(sheets)] == [[0], [1]]


# Ground without slumps -------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    labels=LABELS,
    buffer=st.sampled_from([0.0, 30.0, 45.0, 90.0]),
    row=st.integers(0, 3),
    column=st.integers(0, 4),
)
def test_negatives_keep_their_distance(
    labels: np.ndarray, buffer: float, row: int, column: int
) -> None:
    "Brute force over all pairs of cells gives the same candidates, in every window"
    counts = count_labels(labels, FINE, (4, 5), COARSE)
    touched = np.flatnonzero(counts.slump)
    shape = (4 - row, 5 - column)
    free = clear_cells(counts)[row:, column:]
    free &= beyond(touched, 5, (row, column), shape, (30.0, 30.0), buffer)
    rows, columns = np.indices((4, 5))
    for y in range(row, 4):
        for x in range(column, 5):
            away = np.hypot(rows - y, columns - x)[counts.slump > 0] * 30
            looked_at = counts.unseen[y, x] == 0 and counts.slump[y, x] == 0
            assert free[y - row, x - column] == (looked_at and (away > buffer).all())


def test_a_wide_buffer_is_measured_on_a_tree() -> None:
    "20 km on cells of 30 m: no raster of the surroundings is made, and distances are the same"
    touched = np.array([2 * 3000 + 5, 900 * 3000 + 2800])
    for buffer in (20_000.0, 27_000.0, 60_000.0):
        found = beyond(touched, 3000, (800, 1000), (4, 50), (30.0, 30.0), buffer)
        rows, columns = np.indices((4, 50))
        away = [
            np.hypot(rows + 800 - cell // 3000, columns + 1000 - cell % 3000) * 30
            for cell in touched
        ]
        assert np.array_equal(found, np.min(away, axis=0) > buffer)


# Draws -----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 60), cuts=st.lists(st.integers(0, 50)))
def test_a_sample_does_not_depend_on_the_order_in_which_cells_are_seen(
    seed: int, size: int, cuts: list[int]
) -> None:
    "Shuffled and cut into parts, two sites of 50 cells give the cells of the smallest keys"
    key = [keys(stream(seed, site), np.arange(50)) for site in (0, 1)]
    kept = Smallest(size, 1)
    shuffled = np.random.default_rng(seed).permutation(50)
    for part in np.split(shuffled, sorted(cuts)):
        for site in (1, 0):
            kept.add(key[site][part], site, part, part[None] + 100.0 * site)
    sites, cells, values = kept.best(size)
    order = np.argsort(np.concatenate(key))[:size]
    expected = sorted((int(each) // 50, int(each) % 50) for each in order)
    assert list(zip(sites.tolist(), cells.tolist(), strict=True)) == expected
    assert values[0].tolist() == [cell + 100.0 * site for site, cell in expected]


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    kept = Smallest(5000, 0)
    for first in range(0, 400_000, 10_000):  # more than is held at a time
        cells = np.arange(first, first + 10_000)
        kept.add(keys(stream(3), cells), 0, cells, np.empty((0, cells.size)))
    large, small = (set(kept.best(size)[1].tolist()) for size in (5000, 100))
    assert len(small) == 100 and small < large and len(large) == 5000


def test_chances_are_those_of_draws_without_replacement() -> None:
    "Three cells of weights 1, 2, 5, two drawn: against the chances worked out by hand"
    weights = np.array([1.0, 2.0, 5.0])
    drawn = np.zeros(3)
    repeats = 20_000
    for seed in range(repeats):
        key = keys(np.uint64(seed * 2_654_435_761), np.arange(3), weights)
        drawn[np.argsort(key)[:2]] += 1
    chance = weights / weights.sum()
    inside = [
        chance[i] + sum(chance[j] * chance[i] / (1 - chance[j]) for j in range(3) if j != i)
        for i in range(3)
    ]
    assert drawn / repeats == pytest.approx(inside, abs=0.015)


def test_a_weight_of_nothing_is_never_drawn() -> None:
    kept = Smallest(10, 0)
    cells = np.arange(6)
    weights = np.array([1.0, 0, 1, 0, 1, 0])
    kept.add(keys(stream(1), cells, weights), 0, cells, np.empty((0, 6)))
    assert kept.best(10)[1].tolist() == [0, 2, 4]


# Likeness --------------------------------------------------------------------------------------


def test_standardised_differences_against_numpy() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (200, 3))
    labels = (np.arange(200) < 80).astype(np.uint8)
    values[labels == 1] += (0.0, 1.0, -2.0)
    values[rng.random((200, 3)) < 0.1] = np.nan
    one, other = values[labels == 1], values[labels == 0]
    expected = (np.nanmean(one, 0) - np.nanmean(other, 0)) / np.sqrt(
        (np.nanvar(one, 0) + np.nanvar(other, 0)) / 2
    )
    assert standardised_differences(values, labels) == pytest.approx(expected)


def test_standardised_differences_of_nothing_and_of_one_value() -> None:
    values = np.array([[1.0, 2.0, np.nan], [1.0, 3.0, 5.0]])
    found = standardised_differences(values, np.array([1, 0], np.uint8))
    assert found[0] == 0 and found[1] == -np.inf and np.isnan(found[2])


def test_likeness_is_the_overlap_weight() -> None:
    "Normal slump ground and other ground of known densities: p1 / (p0 + p1)"
    rng = np.random.default_rng(1)
    ground, slumps = rng.normal(0, 1, (20_000, 2)), rng.normal(0, 1, (20_000, 2))
    slumps[:, 0] = 1.0 + 0.7 * slumps[:, 0]
    like = Likeness.fit(slumps, ground, ["slope", "noise"])
    at = np.linspace(-1.5, 2.5, 9)
    p0, p1 = np.exp(-(at**2) / 2), np.exp(-(((at - 1) / 0.7) ** 2) / 2) / 0.7
    cells = np.stack([at, np.zeros(9)], axis=1)
    assert like.weights(cells) == pytest.approx(p1 / (p0 + p1), abs=0.03)
    # A factor that says nothing of slumps weighs next to nothing.
    apart = like.weights(np.array([[0.5, -2.0], [0.5, 2.0]]))
    assert abs(apart[0] - apart[1]) < 0.05


def test_likeness_knows_classes_and_gaps() -> None:
    "Slumps on class 2 of 1, 2: its cells weigh more; a missing value counts as the mean"
    rng = np.random.default_rng(2)
    ground = rng.integers(0, 2, 2000).astype(float)
    slumps = (rng.random(500) < 0.9).astype(float)
    names = ["lithology=1", "lithology=2"]
    like = Likeness.fit(np.stack([1 - slumps, slumps], 1), np.stack([1 - ground, ground], 1), names)
    one, two, gap = like.weights(np.array([[1.0, 0], [0, 1], [np.nan, np.nan]]))
    assert one < 0.25 < 0.5 < two < 0.75 and one < gap < two
    again = Likeness.from_json(like.as_json())
    assert again == like


def test_likeness_does_not_round_by_the_number_of_cells() -> None:
    rng = np.random.default_rng(3)
    cells = rng.normal(size=(1003, 7))
    like = Likeness.fit(cells[:100] + 0.5, cells, [f"f{n}" for n in range(7)])
    whole = like.weights(cells)
    for size in (1, 2, 3, 7, 64, 501):
        parts = [like.weights(cells[n : n + size]) for n in range(0, 1003, size)]
        assert np.array_equal(np.concatenate(parts), whole)


# Blocks ----------------------------------------------------------------------------------------


def test_blocks_are_squares() -> None:
    "Two points share a block exactly where both block coordinates agree"
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-5000, 5000, (2, 300))
    ids = block_ids(x, y, (0.0, 0.0), 1000.0)
    pairs = np.stack([np.floor(x / 1000), np.floor(y / 1000)], axis=1)
    same = (pairs[:, None] == pairs[None]).all(axis=2)
    assert np.array_equal(same, ids[:, None] == ids[None])


def test_a_block_needs_a_size() -> None:
    with pytest.raises(DataError, match="Block size 0 given"):
        block_ids(np.zeros(1), np.zeros(1), (0.0, 0.0), 0.0)
