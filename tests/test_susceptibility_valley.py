"""On the made-up valley the truth is known: what random folds promise, and what comes true."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from gee.valley import landscape, slumps
from thawslump.vector import rasterize

FOLDER = Path(__file__).parents[1] / "benchmarks"
SHAPE = (192, 288)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("susceptibility_valley")
    finally:
        sys.path.remove(str(FOLDER))


def test_random_folds_promise_what_new_ground_does_not_keep(bench: ModuleType) -> None:
    "The benchmark's case, smaller: spatial folds are near the truth, random ones are not"
    found = bench.promise(3, valleys=3, shape=SHAPE, kinds=("random", "blocked"), trees=20)
    promised = found["random"] - found["new ground"]
    assert promised > 0.05
    assert abs(found["blocked"] - found["new ground"]) < 0.6 * promised
    assert found["new ground"] > 0.7  # the model knows something, too


def test_the_drivers_are_those_of_the_process(bench: ModuleType) -> None:
    "From what `drivers` gives, the process's own formula gives the truth"
    land = landscape.make(5, SHAPE)
    known = bench.drivers(land)
    assert set(known) == set(bench.DRIVERS)
    north = np.degrees(np.arccos(np.clip(known["true_north"], -1, 1))) + 15.0
    said = slumps.susceptibility(
        known["true_slope"], north, known["true_ice"], known["true_height"], known["true_shore"],
        known["true_ruled_out"] == 1,
    )  # fmt: skip
    truth = land.susceptibility[land.inner]
    # Old scars are carved into the ground afterwards: slopes and heights differ there.
    scars = rasterize([scar.outline.buffer(200.0) for scar in land.scars], land.frame.geobox)
    there = (said > 0) & (scars[land.inner] == 0)
    scale = truth[there] / said[there]
    assert there.sum() > 5000
    assert scale == pytest.approx(np.median(scale), rel=1e-3)
    assert stats.spearmanr(said.ravel(), truth.ravel()).statistic > 0.95
    assert (said[truth == 0] == 0).all()


def test_rank_correlation_is_that_of_scipy(bench: ModuleType) -> None:
    "Ties and repeated values included"
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 9, 300).astype(float), rng.integers(0, 5, 300).astype(float)
    b += a
    assert bench.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    times = rng.integers(0, 4, 300)
    expected = stats.spearmanr(np.repeat(a, times), np.repeat(b, times)).statistic
    assert bench.spearman(a, b, times.astype(float)) == pytest.approx(expected)
    assert bench.ranks(a).tolist() == stats.rankdata(a).tolist()


def test_samples_are_cells_of_slumps_and_others(bench: ModuleType) -> None:
    "As many of either, of every valley; negatives keep away from slumps"
    valleys = [bench.ground(seed, SHAPE) for seed in (7, 8)]
    drawn = bench.draw(valleys, 0, 4)
    for number, valley in enumerate(valleys):
        here = drawn.sites == number
        assert drawn.y[here].sum() == (1 - drawn.y[here].astype(int)).sum() > 20
        marks = valley.labels.reshape(SHAPE[0] // 3, 3, SHAPE[1] // 3, 3).sum(axis=(1, 3))
        column, row = (np.abs(drawn.places[here]) // 30).astype(int).T
        others = drawn.y[here] == 0
        assert marks[row[others], column[others]].max() == 0
    assert drawn.X.shape[1] == 8 and np.isfinite(drawn.X).all()
