"""Samples: which cells stand for slumps, which for none, and their blocks."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thawslump.errors import DataError
from trainer.susceptibility.samples import (
    block_ids,
    count_labels,
    draw_positives,
    negative_candidates,
    slump_cells,
)

FINE = Affine(10, 0, 500_000, 0, -10, 8_000_000)
COARSE = Affine(30, 0, 500_000, 0, -30, 8_000_000)
LABELS = arrays(np.uint8, (12, 15), elements=st.sampled_from([0, 0, 0, 1, 255]))


@settings(max_examples=40, deadline=None)
@given(labels=LABELS)
def test_counts_add_up_to_the_pixels_below(labels: np.ndarray) -> None:
    "Aligned grids: counts are the sums over 3 x 3 blocks"
    counts = count_labels(labels, FINE, (4, 5), COARSE)
    for kind, held in ((1, counts.slump), (0, counts.clear), (255, counts.unseen)):
        blocks = (labels == kind).reshape(4, 3, 5, 3).sum(axis=(1, 3))
        assert np.array_equal(held, blocks)


def test_pixels_outside_the_cells_are_passed_over() -> None:
    "Cells that cover a quarter of the labels count that quarter"
    counts = count_labels(np.zeros((12, 12), np.uint8), FINE, (2, 2), COARSE)
    assert counts.clear.sum() == 36


@settings(max_examples=40, deadline=None)
@given(labels=LABELS)
def test_no_slump_is_lost_and_none_is_invented(labels: np.ndarray) -> None:
    "Every slump has a cell; every cell holds a slump pixel; centres lie in the raster"
    cells, slumps, centres = slump_cells(labels, FINE, (4, 5), COARSE)
    assert np.array_equal(np.unique(slumps), np.arange(len(centres)))
    counts = count_labels(labels, FINE, (4, 5), COARSE)
    assert (counts.slump.ravel()[cells] > 0).all()
    assert (centres[:, 0] > 500_000).all() and (centres[:, 0] < 500_150).all()
    assert (centres[:, 1] < 8_000_000).all() and (centres[:, 1] > 8_000_000 - 120).all()


def test_majority_rule_with_a_fallback_for_small_slumps() -> None:
    "5 of 9 pixels make a cell; 4 do not, unless the slump has nothing better"
    labels = np.zeros((6, 9), np.uint8)
    labels[0:2, 0:3] = 1  # 6 of 9 in cell 0
    labels[0:2, 3:5] = 1  # 4 of 9 in cell 1: same slump, no majority
    labels[4:6, 7:9] = 1  # 4 of 9 in cell 5: another slump
    cells, slumps, _ = slump_cells(labels, FINE, (2, 3), COARSE)
    assert cells.tolist() == [0, 5]
    assert slumps.tolist() == [0, 1]


def test_large_slumps_do_not_outvote_small_ones() -> None:
    slumps = np.array([2] * 50 + [0] + [1] * 3)
    chosen = draw_positives(np.arange(54), slumps, 4, np.random.default_rng(0))
    assert np.bincount(slumps[chosen]).tolist() == [1, 3, 4]
    assert np.unique(chosen).size == chosen.size


def test_a_draw_of_cells_is_random_but_repeatable() -> None:
    slumps = np.zeros(100, int)
    draws = [
        draw_positives(np.arange(100), slumps, 4, np.random.default_rng(seed)).tolist()
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


@settings(max_examples=30, deadline=None)
@given(labels=LABELS, buffer=st.sampled_from([0.0, 30.0, 45.0, 90.0]))
def test_negatives_keep_their_distance(labels: np.ndarray, buffer: float) -> None:
    "Brute force over all pairs of cells gives the same candidates"
    counts = count_labels(labels, FINE, (4, 5), COARSE)
    rows, columns = np.indices((4, 5))
    expected = []
    for cell in range(20):
        row, column = divmod(cell, 5)
        away = np.hypot(rows - row, columns - column)[counts.slump > 0] * 30
        looked_at = counts.unseen[row, column] == 0 and counts.slump[row, column] == 0
        if looked_at and (away > buffer).all():
            expected.append(cell)
    assert negative_candidates(counts, COARSE, buffer).tolist() == expected


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
