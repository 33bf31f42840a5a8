"""The counting behind the comparison on the valley (benchmarks/segmentation_valley.py)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from trainer.baselines import f1_score

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def valley() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("segmentation_valley")
    finally:
        sys.path.remove(str(FOLDER))


def made_up(seed: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up labels in blobs, some not looked at, and a noisy map of them."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(size, size)), 4)
    labels = (smooth > np.quantile(smooth, 0.9)).astype(np.uint8)
    labels[: size // 8] = 255
    return labels, (labels == 1) ^ (rng.random((size, size)) < 0.05)


def test_no_slump_is_cut(valley: ModuleType) -> None:
    "All pixels of a slump are in one block; other pixels are in their square"
    labels, _ = made_up(0)
    numbers = valley.block_numbers(labels, 32)
    slumps, count = ndimage.label(labels == 1, structure=np.ones((3, 3), int))
    assert all(np.unique(numbers[slumps == each]).size == 1 for each in range(1, count + 1))
    rows, columns = np.indices(labels.shape) // 32
    assert np.array_equal(numbers[labels != 1], (rows * 4 + columns)[labels != 1])


def test_blocks_add_up_to_the_whole(valley: ModuleType) -> None:
    "F1 of the sums is F1 of the map"
    labels, predicted = made_up(1)
    counts = valley.counts_in_blocks(predicted, labels, valley.block_numbers(labels, 32))
    assert counts.sum() == (labels != 255).sum()
    tp, fp, fn, _ = counts.sum(axis=0)
    assert 2 * tp / (2 * tp + fp + fn) == pytest.approx(f1_score(predicted, labels))


def test_a_contender_beside_itself_differs_by_nothing(valley: ModuleType) -> None:
    "Paired draws: the difference of equal maps is zero, with an interval of zero width"
    trials = []
    for seed in (1, 2):
        labels, predicted = made_up(seed)
        counts = valley.counts_in_blocks(predicted, labels, valley.block_numbers(labels, 32))
        worse = valley.counts_in_blocks(
            predicted & (np.arange(128) % 2 == 0), labels, valley.block_numbers(labels, 32)
        )
        held = {name: counts for name in ("ensemble", "a", *valley.CONTENDERS[1:])}
        held["per-pixel forest"] = worse
        trials.append(valley.Trial(held, ["a"], {"seed": seed}))
    found = valley.table(trials)
    assert set(found) == {"seed 1", "seed 2", "mean over seeds"}
    for rows in found.values():
        for name in valley.CONTENDERS:
            if name == "per-pixel forest":
                assert rows[name]["difference_interval"][0] > 0
            else:
                assert rows[name]["ensemble_minus_it"] == 0
                assert rows[name]["difference_interval"] == [0, 0]
        low, high = rows["ensemble"]["f1_interval"]
        assert low < rows["ensemble"]["f1"] < high
    assert "per-pixel forest" in valley.show(found)
