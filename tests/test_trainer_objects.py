"""Object and boundary scores, against brute force, scikit-image, scipy and hand-made cases."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import label as label_of_skimage
from skimage.metrics import hausdorff_distance, variation_of_information
from sklearn.metrics import f1_score

from thawslump import objects
from trainer import metrics


def scattered(seed: int, side: int = 24, share: float = 0.04) -> np.ndarray:
    random = np.random.default_rng(seed)
    return ndimage.binary_dilation(random.random((side, side)) < share, iterations=1)


def disc(centre: tuple[int, int], radius: float, shape: tuple[int, int] = (60, 60)) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_objects_are_those_of_scikit_image(seed: int, smallest: int) -> None:
    """Corners join; small ones are left out; the numbers have no gap."""
    mask = scattered(seed)
    found = objects.label_objects(mask, smallest=smallest)
    other = label_of_skimage(mask, connectivity=2)
    sizes = np.bincount(other.ravel())
    sizes[0] = 0
    kept = np.where(sizes[other] >= smallest, other, 0)
    assert max(variation_of_information(found, kept)) == pytest.approx(0)
    np.testing.assert_array_equal(np.unique(found[found > 0]), np.arange(1, found.max() + 1))


def brute(mapped: np.ndarray, true: np.ndarray, threshold: float) -> tuple[int, float]:
    """Return most matches and the largest sum of IoU with so many, over all ways to match."""
    names_a, names_b = np.unique(mapped[mapped > 0]), np.unique(true[true > 0])
    iou = np.array(
        [
            [
                ((mapped == a) & (true == b)).sum() / ((mapped == a) | (true == b)).sum()
                for b in names_b
            ]
            for a in names_a
        ]
    ).reshape(len(names_a), len(names_b))
    if len(names_a) > len(names_b):
        iou = iou.T
    best = (0, 0.0)
    for way in permutations(range(iou.shape[1]), iou.shape[0]):
        values = iou[range(iou.shape[0]), way]
        values = values[values >= threshold]
        best = max(best, (len(values), float(values.sum())))
    return best


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.2, 0.5, 0.7]))
@settings(max_examples=60, deadline=None)
def test_matching_is_the_best_of_all_ways(seed: int, threshold: float) -> None:
    """Low thresholds make chains of overlaps, in which a greedy match would go wrong."""
    random = np.random.default_rng(seed)
    mapped = np.kron(random.integers(0, 5, (4, 4)), np.ones((2, 2), int))
    true = np.roll(np.kron(random.integers(0, 6, (4, 4)), np.ones((2, 2), int)), 1, axis=1)
    found = objects.match(mapped, true, threshold=threshold)
    count, total = brute(mapped, true, threshold)
    assert len(found.iou) == count
    assert found.iou.sum() == pytest.approx(total)
    assert len(set(found.mapped)) == len(set(found.true)) == count
    for a, b, iou in zip(found.mapped, found.true, found.iou, strict=True):
        both, either = (mapped == a) & (true == b), (mapped == a) | (true == b)
        assert iou == pytest.approx(both.sum() / either.sum())


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5]))
@settings(max_examples=40, deadline=None)
def test_map_and_truth_change_places(first: int, second: int, threshold: float) -> None:
    """Precision becomes recall, splits become merges; F1, IoU and distances stay."""
    one, two = scattered(first), scattered(second)
    a, b = objects.label_objects(one), objects.label_objects(two)
    here = objects.object_scores(a, b, threshold=threshold)
    there = objects.object_scores(b, a, threshold=threshold)
    assert (here.tp, here.fp, here.fn) == (there.tp, there.fn, there.fp)
    assert (here.splits, here.merges) == (there.merges, there.splits)
    for name in ("f1", "mean_iou"):
        assert getattr(here, name) == pytest.approx(getattr(there, name), nan_ok=True)
    assert here.precision == pytest.approx(there.recall, nan_ok=True)
    edge = objects.boundary_scores(one, two, tolerance=15, resolution=10)
    back = objects.boundary_scores(two, one, tolerance=15, resolution=10)
    assert edge.precision == pytest.approx(back.recall, nan_ok=True)
    for name in ("f1", "mean", "p95", "hausdorff"):
        assert getattr(edge, name) == pytest.approx(getattr(back, name), nan_ok=True)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_perfect_map_scores_one(seed: int) -> None:
    mask = scattered(seed)
    mask[5, 5] = True
    mask[12:20, 12:20] = False
    ids = objects.label_objects(mask)
    for row in objects.threshold_table(ids, ids):
        assert (row.f1, row.mean_iou, row.fp, row.fn, row.splits, row.merges) == (1, 1, 0, 0, 0, 0)
        assert row.tp == row.touched == ids.max()
    edge = objects.boundary_scores(mask, mask, tolerance=0, resolution=10)
    assert (edge.precision, edge.recall, edge.f1) == (1, 1, 1)
    assert (edge.mean, edge.p95, edge.hausdorff) == (0, 0, 0)


@given(st.integers(-4, 4), st.integers(-4, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_shift_within_the_tolerance_costs_nothing(down: int, right: int, seed: int) -> None:
    mask = np.pad(scattered(seed), 6)
    mask[12, 12] = True
    moved = np.roll(mask, (down, right), (0, 1))
    shift = 10 * float(np.hypot(down, right))
    edge = objects.boundary_scores(moved, mask, tolerance=shift, resolution=10)
    assert edge.f1 == 1
    assert edge.mean <= edge.p95 <= edge.hausdorff <= shift * (1 + 1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats(0, 60))
@settings(max_examples=40, deadline=None)
def test_edges_equal_brute_force(first: int, second: int, tolerance: float) -> None:
    one, two = scattered(first), scattered(second)
    one[3, 3] = two[20, 20] = True
    one[4:8, 3] = two[:8, 20] = False
    found = objects.boundary_scores(one, two, tolerance=tolerance, resolution=10)

    def outermost(mask: np.ndarray) -> np.ndarray:
        wide = np.pad(mask, 1, constant_values=True)
        inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
        return np.argwhere(mask & ~inner) * 10.0

    a, b = outermost(one), outermost(two)
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    assert (found.mapped, found.true) == (len(a), len(b))
    near = tolerance * (1 + 1e-9)
    assert found.precision == pytest.approx((there <= near).mean())
    assert found.recall == pytest.approx((back <= near).mean())
    together = np.r_[there, back]
    assert found.mean == pytest.approx(together.mean())
    assert found.p95 == pytest.approx(np.quantile(together, 0.95))
    edges = [objects.boundary(one), objects.boundary(two)]
    assert found.hausdorff == pytest.approx(10 * hausdorff_distance(*edges))


def test_a_circle_drawn_too_large() -> None:
    """The edge lies 5 pixels too far out all around: known without any program."""
    found = objects.boundary_scores(
        disc((30, 30), 20), disc((30, 30), 15), tolerance=20, resolution=10
    )
    assert found.f1 == 0
    assert found.mean == pytest.approx(50, abs=6)
    assert 45 <= found.p95 <= found.hausdorff <= 60
    wider = objects.boundary_scores(
        disc((30, 30), 20), disc((30, 30), 15), tolerance=60, resolution=10
    )
    assert wider.f1 == 1


def test_splits_merges_and_small_ones_by_hand() -> None:
    true = np.zeros((12, 30), int)
    true[1:5, 1:13] = 1  # mapped in two pieces
    true[1:5, 15:19] = 2  # swallowed together with the next
    true[1:5, 20:24] = 3
    true[8:10, 1:3] = 4  # found as it is
    true[8:10, 10:12] = 5  # missed
    mapped = np.zeros_like(true)
    mapped[1:5, 1:6] = 1
    mapped[1:5, 7:13] = 2
    mapped[1:5, 15:24] = 3
    mapped[8:10, 1:3] = 4
    mapped[8:10, 26:28] = 5  # false
    found = objects.object_scores(mapped, true)
    assert (found.splits, found.merges, found.touched) == (1, 1, 4)
    # IoU of 24/48 is just enough for the larger half; 16/36 is not for the swallowed.
    assert (found.tp, found.fp, found.fn) == (2, 3, 3)
    assert found.f1 == pytest.approx(0.4)
    assert found.mean_iou == pytest.approx(0.75)
    counts = objects.object_blocks(mapped, true, np.indices(true.shape)[1] // 14)
    np.testing.assert_array_equal(counts.sum(axis=0), [2, 3, 3])
    np.testing.assert_array_equal(counts, [[2, 1, 1], [0, 2, 2], [0, 0, 0]])
    assert float(objects.object_f1(counts.sum(axis=0))) == pytest.approx(found.f1)


def test_shares_of_few_slumps_are_not_given() -> None:
    """Nine slumps: counts alone; ten: shares too. Other programs count F1 the same."""
    for slumps in (9, 10):
        true = np.zeros((4, 6 * slumps), "uint8")
        for i in range(slumps):
            true[1:3, 6 * i : 6 * i + 4] = 1
        mapped = true.copy()
        mapped[:, :6] = 0  # one is missed
        ids = objects.label_objects(mapped == 1), objects.label_objects(true == 1)
        record = objects.object_scores(*ids).as_dict()
        assert (record["slumps"], record["matched"], record["mapped"]) == (
            slumps, slumps - 1, slumps - 1,
        )  # fmt: skip
        whole = objects.outline_record(
            [mapped == 1], [true], resolution=10, block=6, interval=metrics.bootstrap
        )
        if slumps < objects.FEWEST:
            assert record["f1"] is record["precision"] is record["recall"] is None
            assert "f1_interval" not in whole["objects"]
        else:
            hits = np.r_[0, np.ones(slumps - 1)]
            assert record["f1"] == pytest.approx(f1_score(np.ones(slumps), hits))
            ends = whole["objects"]["f1_interval"]
            assert ends["low"] < record["f1"] < ends["high"] <= 1
        assert whole["objects"]["table"][0] == {
            "iou": 0.1, "matched": slumps - 1, "false": 0, "missed": 1,
        }  # fmt: skip


def test_ground_that_nobody_looked_at_counts_nowhere() -> None:
    labels = np.zeros((20, 20), "uint8")
    labels[2:8, 2:8] = 1
    labels[:, 12:] = 255
    mapped = labels == 1
    mapped[4:9, 14:18] = True
    record = objects.outline_record([mapped], [labels], resolution=10)
    assert record["objects"]["mapped"] == record["objects"]["matched"] == 1
    assert record["boundary"]["hausdorff_m"] == 0
    # A slump that the view cuts has no edge there.
    labels[:, :] = 1
    labels[:, 12:] = 255
    assert not objects.boundary(labels == 1, labels != 255).any()


def test_blocks_add_up_to_the_whole() -> None:
    one, two = scattered(1, 64), scattered(2, 64)
    blocks = np.indices(one.shape)[0] // 16 * 4 + np.indices(one.shape)[1] // 16
    counts = objects.boundary_blocks(one, two, blocks, tolerance=10, resolution=10)
    assert counts.shape == (16, 4)
    whole = objects.boundary_scores(one, two, tolerance=10, resolution=10)
    assert float(objects.boundary_f1(counts.sum(axis=0))) == pytest.approx(whole.f1)
    low, high = metrics.bootstrap(counts, objects.boundary_f1)
    assert low < whole.f1 < high
    ids = objects.label_objects(one), objects.label_objects(two)
    matched = objects.object_blocks(*ids, blocks, threshold=0.1)
    score = objects.object_scores(*ids, threshold=0.1)
    np.testing.assert_array_equal(matched.sum(axis=0), [score.tp, score.fp, score.fn])


def test_several_maps_are_scored_together() -> None:
    parts = [scattered(seed, 40) for seed in (1, 2, 3)]
    truth = [scattered(seed, 40).astype("uint8") for seed in (1, 5, 6)]
    both = objects.outline_record(parts, truth, resolution=10)
    # Far apart on one sheet they are the same maps.
    sheet = np.concatenate([np.pad(p, 30) for p in parts])
    marks = np.concatenate([np.pad(t, 30) for t in truth])
    one = objects.outline_record([sheet], [marks], resolution=10)
    apart = [objects.boundary_scores(p, t == 1, tolerance=20, resolution=10)
             for p, t in zip(parts, truth, strict=True)]  # fmt: skip
    assert both["objects"] == one["objects"]
    assert both["boundary"]["hausdorff_m"] == max(each.hausdorff for each in apart)
    with pytest.raises(ValueError, match="not of the same ground"):
        objects.object_scores(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_nothing_mapped_and_nothing_there() -> None:
    none, some = np.zeros((9, 9), bool), disc((4, 4), 2, (9, 9))
    missed = objects.object_scores(objects.label_objects(none), objects.label_objects(some))
    assert (missed.tp, missed.fp, missed.fn, missed.recall, missed.f1) == (0, 0, 1, 0, 0)
    assert np.isnan(missed.precision) and np.isnan(missed.mean_iou)
    edge = objects.boundary_scores(none, some, tolerance=10, resolution=10)
    assert (edge.recall, edge.f1) == (0, 0)
    assert np.isnan([edge.precision, edge.mean, edge.p95, edge.hausdorff]).all()
    empty = objects.outline_record([none], [none.astype("uint8")], resolution=10)
    assert empty["boundary"]["f1"] is None and empty["objects"]["slumps"] == 0
