"""Folds: what is kept apart, how far, and what is said where it cannot be."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import Geod
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from thawslump.errors import DataError
from trainer.susceptibility import nearest
from trainer.susceptibility.folds import (
    KINDS,
    described,
    fold_numbers,
    folds,
    plan,
    random_folds,
    spatial_folds,
)

SOME = settings(max_examples=40, deadline=None)
places_of = arrays(np.float64, (40, 2), elements=st.integers(0, 30).map(lambda m: 100.0 * m))
labels_of = arrays(np.uint8, 40, elements=st.integers(0, 1))


def clustered(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places around 12 centres of a square of 20 km, labels, and places all over it."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 20_000, (12, 2))
    places = centres[rng.integers(12, size=count)] + rng.normal(0, 250, (count, 2))
    return places, rng.integers(0, 2, count).astype(np.uint8), rng.uniform(0, 20_000, (3000, 2))


def reached(found: Any, positions: np.ndarray) -> np.ndarray:
    """Return the distance of every test sample to its nearest training sample, by brute force."""
    return np.concatenate(
        [cdist(positions[test], positions[train]).min(axis=1) for train, test in found]
    )


def partition(found: Any, size: int) -> bool:
    return sorted(np.concatenate([test for _, test in found]).tolist()) == list(range(size))


@SOME
@given(
    blocks=arrays(np.int64, 40, elements=st.integers(0, 9)),
    labels=labels_of,
    count=st.integers(2, 8),
    dealt=st.one_of(st.none(), st.integers(0, 5)),
)
def test_spatial_folds_split_no_block(
    blocks: np.ndarray, labels: np.ndarray, count: int, dealt: int | None
) -> None:
    "No block on both sides; every sample tested once; slumps in every fold, however it is dealt"
    blocks[:2], labels[:2] = [0, 1], 1
    rng = None if dealt is None else np.random.default_rng(dealt)
    found = spatial_folds(blocks, labels, count, rng)
    assert len(found) == min(count, np.unique(blocks[labels == 1]).size)
    for train, test in found:
        assert not set(blocks[train]) & set(blocks[test])
        assert np.array_equal(np.union1d(train, test), np.arange(40))
        assert labels[test].any() and labels[train].any()
    assert partition(found, 40)


def test_spatial_folds_are_even() -> None:
    "100 equal blocks, 20 with slumps, make five folds of the same size and share of slumps"
    blocks = np.repeat(np.arange(100), 3)
    labels = (blocks < 20).astype(np.uint8)
    for _, test in spatial_folds(blocks, labels, 5):
        assert (len(test), labels[test].sum()) == (60, 12)


def test_random_folds_test_every_sample_once() -> None:
    assert partition(random_folds(23, 5, seed=1), 23)


@SOME
@given(
    places=places_of,
    sites=arrays(np.int64, 40, elements=st.integers(0, 2)),
    labels=labels_of,
    count=st.integers(2, 6),
    repetition=st.integers(0, 3),
    shape=st.sampled_from(["square", "kmeans"]),
)
def test_blocked_folds_keep_ground_together(
    places: np.ndarray, sites: np.ndarray, labels: np.ndarray, count: int, repetition: int,
    shape: str,
) -> None:  # fmt: skip
    "A partition; no block on both sides; samples of one place on one side; sites share no block"
    places[:4] = [[0, 0], [0, 0], [3000, 3000], [3000, 3000]]
    sites[:4], labels[:4] = [0, 0, 1, 1], [1, 0, 1, 0]
    try:
        made = plan(
            "blocked", labels, places, sites, count=count, repetition=repetition, block_size=900.0,
            block_shape=shape,  # type: ignore[arg-type]
        )  # fmt: skip
    except DataError as error:
        # All that is no slump may lie in one fold; then it says so.
        assert "holds only slumps" in str(error)
        assume(False)
    assert made.blocks is not None
    assert partition(made.folds, 40)
    of = fold_numbers(made.folds, 40)
    place = np.unique(np.column_stack([places, sites]), axis=0, return_inverse=True)[1].ravel()
    for group in (made.blocks, place):
        for each in np.unique(group):
            assert np.unique(of[group == each]).size == 1
    for each in np.unique(made.blocks):
        assert np.unique(sites[made.blocks == each]).size == 1
    assert all(labels[test].any() for _, test in made.folds)
    if shape == "square":
        size = made.facts["block_size_m"]
        for each in np.unique(made.blocks):
            assert np.ptp(places[made.blocks == each], axis=0).max() <= size


def test_repetitions_shift_blocks_and_are_reproducible() -> None:
    "Other repetitions and other seeds part otherwise; the same ones alike"
    places, labels, _ = clustered()
    made = [
        fold_numbers(folds("blocked", labels, places, repetition=r, seed=s, block_size=2000.0), 400)
        for r, s in ((0, 0), (1, 0), (2, 0), (1, 1), (1, 0), (0, 7))
    ]

    def together(of: np.ndarray) -> np.ndarray:
        return of[:, None] == of

    for a in range(4):
        for b in range(a):
            assert (together(made[a]) != together(made[b])).mean() > 0.02, (a, b)
    assert np.array_equal(made[1], made[4])
    # The first is that of the plain blocks, for every seed.
    assert np.array_equal(made[0], made[5])


def test_other_repetitions_of_all_kinds_but_sites() -> None:
    "Random folds are those of the seed that follows; regions of one site are cut otherwise"
    places, labels, cells = clustered()
    made = plan("random", labels, places, seed=3, repetition=2).folds
    for (train, test), (wanted, tested) in zip(made, random_folds(400, 5, 5), strict=True):
        assert np.array_equal(train, wanted) and np.array_equal(test, tested)
    for kind in set(KINDS) - {"random"}:
        first, other, again = (
            fold_numbers(
                folds(kind, labels, places, repetition=r, prediction=cells, block_size=2000.0), 400
            )
            for r in (0, 3, 3)
        )
        assert not np.array_equal(first, other), kind
        assert np.array_equal(other, again), kind


def test_shifted_blocks_are_other_ground() -> None:
    "Two samples 10 m apart across a border of repetition 0 share a block in some repetition"
    places = np.array([[995.0, 5.0], [1005.0, 5.0], [5000.0, 5.0], [9000.0, 5.0]])
    labels = np.array([1, 0, 1, 0], np.uint8)
    shared = []
    for repetition in range(6):
        blocks = plan("blocked", labels, places, count=2, repetition=repetition).blocks
        assert blocks is not None
        shared.append(bool(blocks[0] == blocks[1]))
    assert not shared[0] and any(shared)


def test_blocks_are_halved_until_two_hold_slumps() -> None:
    places = np.array([[10.0, 10.0], [300.0, 10.0], [10.0, 300.0], [300.0, 300.0]])
    made = plan("blocked", np.array([1, 1, 0, 0], np.uint8), places, block_size=1000.0)
    assert (made.facts["block_size_m"], made.facts["block_size_asked_m"]) == (250.0, 1000.0)
    assert described(made.facts) == (
        "2 folds of 4 blocks of 250 m (no more blocks hold slumps; 5 were asked for)."
    )


def test_kmeans_blocks_of_one_site_are_the_folds() -> None:
    "As in the literature: as many clusters of the coordinates as folds, each tested once"
    places, labels, _ = clustered()
    made = plan("blocked", labels, places, count=5, block_shape="kmeans")
    of = fold_numbers(made.folds, 400)
    assert len(made.folds) == 5 and made.facts["blocks"] == 5
    centres = np.stack([places[of == each].mean(axis=0) for each in range(5)])
    assert np.array_equal(cdist(places, centres).argmin(axis=1), of)
    other = plan("blocked", labels, places, count=5, block_shape="kmeans", repetition=1)
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(made.folds, other.folds, strict=True))


@SOME
@given(
    places=places_of,
    labels=labels_of,
    buffer=st.sampled_from([0.0, 150.0, 600.0, 1500.0]),
    repetition=st.integers(0, 2),
)
def test_no_training_sample_lies_within_the_buffer(
    places: np.ndarray, labels: np.ndarray, buffer: float, repetition: int
) -> None:
    "Brute force over all pairs; what is left out is nothing else; the share lost is told"
    sites = np.repeat([0, 1], 20)
    given_ = dict(sites=sites, count=3, repetition=repetition, block_size=700.0)
    try:
        made = plan("buffered", labels, places, buffer=buffer, **given_)  # type: ignore[arg-type]
    except DataError as error:
        assert re.search("holds only|none is left|lie in|slump samples and", str(error))
        assume(False)
    plain = plan("blocked", labels, places, **given_).folds  # type: ignore[arg-type]
    assert partition(made.folds, 40)
    near = cdist(places, places) <= buffer
    near &= sites[:, None] == sites
    lost = []
    for (train, test), (before, tested) in zip(made.folds, plain, strict=True):
        assert np.array_equal(test, tested)
        assert not near[np.ix_(train, test)].any()
        gone = np.setdiff1d(before, train)
        assert near[np.ix_(gone, test)].any(axis=1).all()
        lost.append(gone.size / before.size)
    assert made.facts["left_out_share"] == pytest.approx(np.mean(lost))
    assert made.facts["left_out_share_most"] == pytest.approx(np.max(lost))


def test_buffer_is_measured_between_samples_where_their_positions_are_given() -> None:
    "Places of a large slump are its centre; its cell 40 m from a test sample must go"
    places = np.array([[500.0, 500.0], [500.0, 500.0], [1100.0, 500.0], [3500.0, 500.0]] * 2)
    places[4:, 1] += 5000
    labels = np.array([1, 1, 0, 0] * 2, np.uint8)
    positions = places.copy()
    positions[0, 0] = 1060.0
    made = plan("buffered", labels, places, positions=positions, count=2, buffer=100.0)
    for train, test in made.folds:
        if 2 in test:
            assert 0 not in train
        assert cdist(positions[train], positions[test]).min() > 100.0


def test_a_buffer_that_leaves_nothing_is_said() -> None:
    places, labels, _ = clustered()
    with pytest.raises(DataError) as caught:
        plan("buffered", labels, places, buffer=50_000.0)
    assert "Within 50000 m of the test ground of fold 1 of 5 lie" in str(caught.value)
    assert "fold_buffer smaller" in str(caught.value.hint)
    with pytest.raises(DataError, match="A buffer of -1 m"):
        plan("buffered", labels, places, buffer=-1.0)


def test_each_site_is_left_out_once() -> None:
    places, labels, _ = clustered()
    sites = np.arange(400) % 3
    made = plan("regions", labels, places, sites, count=5)
    assert [np.unique(sites[test]).tolist() for _, test in made.folds] == [[0], [1], [2]]
    assert all(not set(sites[train]) & set(sites[test]) for train, test in made.folds)
    assert made.facts["same_every_repetition"]
    assert described(made.facts) == "Each of 3 sites left out once."


def test_one_site_is_cut_into_regions() -> None:
    places, labels, _ = clustered()
    made = plan("regions", labels, places, count=4)
    assert len(made.folds) == 4 and partition(made.folds, 400)
    assert described(made.facts) == (
        "Each of 4 regions by k-means (there is one site) left out once."
    )
    # A region is in one piece: its samples lie closer to its centre than to others'.
    of = fold_numbers(made.folds, 400)
    centres = np.stack([places[of == each].mean(axis=0) for each in range(4)])
    assert np.array_equal(cdist(places, centres).argmin(axis=1), of)


def test_slumps_in_one_region_only_are_said() -> None:
    labels = np.r_[np.ones(10), np.zeros(10)].astype(np.uint8)
    places, sites = np.arange(40.0).reshape(20, 2), np.repeat([0, 1], 10)
    words = r"training part of fold 1 of 2 \(regions\) holds only ground without slumps \(10"
    with pytest.raises(DataError, match=words):
        plan("regions", labels, places, sites)
    with pytest.raises(DataError, match="All samples lie at one place of one site"):
        plan("regions", labels, np.zeros((20, 2)))


def test_matched_folds_are_nearer_to_the_map_than_random_and_blocked_ones() -> None:
    "Clustered samples: Wasserstein distance by brute force, against both others"
    for seed in range(3):
        places, labels, cells = clustered(seed=seed)
        to_map = cdist(cells, places).min(axis=1)
        apart = {
            kind: wasserstein_distance(
                to_map, reached(folds(kind, labels, places, prediction=cells), places)
            )
            for kind in ("random", "blocked", "nearest")
        }
        assert apart["nearest"] < 0.6 * min(apart["random"], apart["blocked"]), apart
        made = plan("nearest", labels, places, prediction=cells)
        assert made.facts["wasserstein_m"] == pytest.approx(apart["nearest"])
        assert made.facts["wasserstein_random_m"] == pytest.approx(apart["random"])
        assert made.facts["clustered"] and partition(made.folds, 400)
        assert max(test.size for _, test in made.folds) <= 200
        assert all(labels[test].any() for _, test in made.folds)
        assert "matched to the places to map" in described(made.facts)


def test_samples_from_all_over_the_map_get_random_folds() -> None:
    "As kNNDM is documented: no clustering, no need for anything but random folds"
    rng = np.random.default_rng(3)
    places, cells = rng.uniform(0, 9000, (300, 2)), rng.uniform(0, 9000, (3000, 2))
    labels = rng.integers(0, 2, 300).astype(np.uint8)
    for repetition in range(3):
        made = plan("nearest", labels, places, prediction=cells, seed=4, repetition=repetition)
        assert not made.facts["clustered"]
        for (_, test), (_, wanted) in zip(
            made.folds, random_folds(300, 5, 4 + repetition), strict=True
        ):
            assert np.array_equal(test, wanted)
    assert described(made.facts).startswith("5 random folds: the samples lie no closer")


def test_a_map_far_from_all_samples_gets_folds_far_apart() -> None:
    "Prediction 40 km away: the parting into few whole clusters is the best there is"
    places, labels, cells = clustered()
    near = plan("nearest", labels, places, prediction=places + 30.0)
    far = plan("nearest", labels, places, prediction=cells + 60_000.0)
    assert far.facts["to_training_m"] > 5 * near.facts["to_training_m"]
    assert far.facts["clusters"] <= 15
    # No parting of these samples is that far apart, and that is said.
    assert "what is said of them is too good; compare with regions" in described(far.facts)
    assert "too good" not in described(near.facts)


def test_no_matched_fold_holds_most_of_the_samples() -> None:
    "70 of 100 samples in one place, a map far away: left whole, it would leave 30 to learn from"
    rng = np.random.default_rng(10)
    centres = np.array([[0.0, 0.0], [9000.0, 0.0], [0.0, 9000.0], [9000.0, 9000.0]])
    places = centres[np.repeat([0, 1, 2, 3], [140, 20, 20, 20])] + rng.normal(0, 200, (200, 2))
    labels = rng.integers(0, 2, 200).astype(np.uint8)
    made = plan(
        "nearest", labels, places, prediction=rng.uniform(30_000, 40_000, (500, 2)), count=3
    )
    assert max(test.size for _, test in made.folds) <= 100
    assert made.facts["wasserstein_m"] < made.facts["wasserstein_random_m"]


def test_cells_of_one_slump_stay_together_in_matched_folds() -> None:
    "Their own distances do not count, whether the folds come out random or not"
    rng = np.random.default_rng(5)
    for spread in (200.0, 9000.0):
        centres = rng.uniform(0, 9000, (6, 2))[rng.integers(6, size=100)]
        slump = centres + rng.uniform(-spread, spread, (100, 2))
        positions = np.repeat(slump, 4, axis=0) + rng.uniform(-40, 40, (400, 2))
        labels = np.repeat(rng.integers(0, 2, 100), 4).astype(np.uint8)
        made = plan(
            "nearest", labels, np.repeat(slump, 4, axis=0), positions=positions,
            prediction=rng.uniform(0, 9000, (2000, 2)),
        )  # fmt: skip
        of = fold_numbers(made.folds, 400).reshape(100, 4)
        assert (of == of[:, :1]).all()


def test_matched_folds_of_many_samples() -> None:
    "More groups than clustering takes at once are joined by squares of ground first"
    rng = np.random.default_rng(6)
    places, labels, cells = clustered(6000)
    made = plan("nearest", labels, places, prediction=cells)
    assert made.facts["clustered"] and partition(made.folds, 6000)
    assert made.facts["wasserstein_m"] < 0.4 * made.facts["wasserstein_random_m"]
    # The squares are far smaller than the clusters: nearly the same number as from a tenth.
    few = rng.permutation(6000)[:600]
    tenth = plan("nearest", labels[few], places[few], prediction=cells)
    assert (
        abs(made.facts["wasserstein_m"] - tenth.facts["wasserstein_m"])
        < 0.5 * (tenth.facts["wasserstein_random_m"])
    )


def test_matched_folds_across_sites_measure_over_the_ground() -> None:
    "Sites 50 km apart, a third one is mapped: its cells are 50 km from all samples"
    rng = np.random.default_rng(7)
    sites = np.repeat([0, 1], 100)
    lonlat = np.column_stack([rng.uniform(120, 120.05, 200), rng.uniform(68, 68.02, 200)])
    lonlat[sites == 1, 1] += 0.45
    places = rng.uniform(0, 2000, (200, 2))
    labels = rng.integers(0, 2, 200).astype(np.uint8)
    cells = np.column_stack([rng.uniform(120, 120.05, 900), rng.uniform(68.9, 68.92, 900)])
    with pytest.raises(DataError, match="2 sites, whose places do not tell"):
        plan("nearest", labels, places, sites, prediction=places)
    made = plan(
        "nearest", labels, places, sites, positions=nearest.geocentric(lonlat),
        prediction=nearest.geocentric(cells), count=2,
    )  # fmt: skip
    of = fold_numbers(made.folds, 200)
    assert np.array_equal(of == of[0], sites == 0)
    assert made.facts["to_map_m"] == pytest.approx(49_000, rel=0.03)


def test_straight_lines_are_distances_along_the_ground() -> None:
    "Against geodesics of the same ellipsoid"
    rng = np.random.default_rng(8)
    one = np.column_stack([rng.uniform(-180, 180, 50), rng.uniform(-80, 80, 50)])
    two = one + rng.uniform(-0.2, 0.2, (50, 2))
    straight = np.linalg.norm(nearest.geocentric(one) - nearest.geocentric(two), axis=1)
    along = Geod(ellps="WGS84").inv(*one.T, *two.T)[2]
    assert straight == pytest.approx(along, rel=1e-4)


def test_cells_of_several_maps_are_drawn_in_proportion() -> None:
    rng = np.random.default_rng(9)
    small, large = np.zeros((40, 50), bool), np.ones((100, 200), bool)
    small[:20] = True
    grid = Affine(30, 0, 500_000, 0, -30, 7_600_000)
    parts = [nearest.random_cells(each, grid, "EPSG:32652", 5000, rng) for each in (small, large)]
    assert [(len(cells), total) for cells, total in parts] == [(1000, 1000), (5000, 20_000)]
    # Centres of cells, and only of valid ones.
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32652", always_xy=True).transform(*parts[0][0].T)
    column, row = (x - 500_000) / 30 - 0.5, (7_600_000 - y) / 30 - 0.5
    assert np.allclose(column, column.round(), atol=1e-4)
    assert small[row.round().astype(int), column.round().astype(int)].all()
    joined = nearest.thinned(parts, 2100, rng)
    assert len(joined) == 2100
    assert len(nearest.thinned([*parts, (np.empty((0, 2)), 0)], 2100, rng)) == 2100


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_slumps_are_said(kind: str) -> None:
    places = np.random.default_rng(0).uniform(0, 9000, (20, 2))
    labels = np.zeros(20, np.uint8)
    labels[0] = 1
    with pytest.raises(DataError, match=rf"1 slump samples and 19 others for 5 folds \({kind}\)"):
        plan(kind, labels, places, prediction=places)


def test_fewer_slumps_than_random_folds_are_said() -> None:
    labels = np.r_[np.ones(3), np.zeros(17)].astype(np.uint8)
    with pytest.raises(DataError, match="3 slump samples and 17 others") as caught:
        plan("random", labels, np.random.default_rng(0).uniform(0, 9000, (20, 2)))
    assert caught.value.hint == "Set folds to 3 or fewer."


def test_slumps_of_one_place_are_said() -> None:
    labels = np.r_[np.ones(12), np.zeros(8)].astype(np.uint8)
    places = np.r_[np.zeros((12, 2)), np.random.default_rng(0).uniform(0, 9000, (8, 2))]
    for kind in ("blocked", "buffered"):
        with pytest.raises(DataError, match="12 slump samples lie in 1 block") as caught:
            plan(kind, labels, places)
        assert "block_size smaller" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "clever"}, 'kind "clever" were asked for; known are random, blocked'),
        ({"places": np.zeros((3, 2))}, r"shape \(3, 2\) and 20 sites for 20 samples"),
        ({"places": np.full((20, 2), np.nan)}, "20 samples have no place"),
        ({"count": 1}, "1 fold was asked for"),
        ({"block_shape": "round"}, 'shape "round" were asked for; known: square, kmeans'),
        ({"kind": "nearest"}, "need places of the map, and none were given"),
        ({"kind": "nearest", "prediction": np.zeros((5, 3))}, r"shape \(5, 3\), samples \(20, 2\)"),
        (
            {"kind": "nearest", "prediction": np.zeros((5, 2)), "count": 21},
            "at 20 places; 21 folds",
        ),
        ({"block_size": 0.0}, "Block size 0 given"),
    ],
    ids=["kind", "shape", "nan", "count", "block", "nothing", "coordinates", "many", "size"],
)
def test_what_makes_no_folds_is_said(changes: dict[str, Any], words: str) -> None:
    given_: dict[str, Any] = {
        "kind": "blocked",
        "labels": (np.arange(20) % 2).astype(np.uint8),
        "places": np.random.default_rng(0).uniform(0, 9000, (20, 2)),
        **changes,
    }
    with pytest.raises(DataError, match=words):
        plan(given_.pop("kind"), given_.pop("labels"), given_.pop("places"), **given_)
