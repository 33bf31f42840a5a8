"""Mapping: natural breaks against brute force, and maps that have no seams."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.windows import Window

from thawslump.errors import DataError
from trainer.susceptibility import mapping
from trainer.susceptibility.mapping import Breaks, classify, natural_breaks, quantise


def within(values: np.ndarray, weights: np.ndarray, upper: tuple[float, ...]) -> float:
    """Sum of squared deviations within the classes."""
    classes = np.searchsorted(upper[:-1], values)
    total = 0.0
    for number in range(len(upper)):
        inside = (classes == number) & (weights > 0)
        if inside.any():
            mean = np.average(values[inside], weights=weights[inside])
            total += float((weights[inside] * (values[inside] - mean) ** 2).sum())
    return total


def brute_force(values: np.ndarray, weights: np.ndarray, classes: int) -> float:
    """Least sum over every way to cut the values."""
    values, weights = values[weights > 0], weights[weights > 0]
    classes = min(classes, values.size)
    return min(
        within(values, weights, (*values[list(cuts)], values[-1]))
        for cuts in itertools.combinations(range(values.size - 1), classes - 1)
    )


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-50, 50), min_size=1, max_size=9, unique=True),
    weights=arrays(np.float64, 9, elements=st.integers(0, 5)),
    classes=st.integers(1, 5),
)
def test_natural_breaks_are_the_best_of_all(
    values: list[int], weights: np.ndarray, classes: int
) -> None:
    "Every way to cut the values is tried; none has less variance within its classes"
    ordered = np.sort(np.array(values, float))
    weights = weights[: ordered.size]
    weights[0] = 1
    found = natural_breaks(ordered, weights, classes)
    best = brute_force(ordered, weights, classes)
    assert within(ordered, weights, found.upper) == pytest.approx(best, abs=1e-6)
    spread = within(ordered, weights, (ordered[-1],))
    assert found.fit == pytest.approx(1.0 if spread == 0 else 1 - best / spread)


def test_natural_breaks_do_not_depend_on_units() -> None:
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(size=200))
    one = natural_breaks(values, np.ones(200), 5)
    other = natural_breaks(values * 1000 + 7, np.ones(200), 5)
    assert np.allclose(np.array(one.upper) * 1000 + 7, other.upper)
    assert one.fit == pytest.approx(other.fit)


def test_natural_breaks_find_separate_groups() -> None:
    values = np.concatenate([np.linspace(c, c + 0.02, 20) for c in (0.1, 0.3, 0.5, 0.7, 0.9)])
    found = natural_breaks(values, np.ones(100), 5)
    assert found.upper == pytest.approx((0.12, 0.32, 0.52, 0.72, 0.92))
    assert found.fit > 0.999


def test_natural_breaks_of_a_full_histogram_are_quick() -> None:
    "2,001 bins, as the maps use, in well under a few seconds"
    weights = np.random.default_rng(1).integers(1, 1000, 2001).astype(float)
    begun = time.perf_counter()
    found = natural_breaks(np.linspace(0, 1, 2001), weights, 5)
    assert time.perf_counter() - begun < 5
    assert len(found.upper) == 5 and found.upper[-1] == 1.0


def test_fewer_values_than_classes_make_fewer_classes() -> None:
    assert natural_breaks(np.array([1.0, 2.0]), np.ones(2), 5) == Breaks((1.0, 2.0), 1.0)


def test_natural_breaks_of_nothing_and_of_disorder_are_refused() -> None:
    with pytest.raises(DataError, match="no value"):
        natural_breaks(np.array([1.0]), np.zeros(1), 5)
    with pytest.raises(DataError, match="do not ascend"):
        natural_breaks(np.array([2.0, 1.0]), np.ones(2), 5)


def test_every_value_has_one_class_and_limits_belong_below() -> None:
    values = np.array([0.0, 0.2, 0.2000001, 0.5, 0.9, 1.0])
    assert classify(values, (0.2, 0.5, 0.9)).tolist() == [1, 1, 2, 2, 3, 3]


def test_stored_probabilities_are_within_half_a_step() -> None:
    probability = np.random.default_rng(2).uniform(size=1000)
    stored = quantise(probability, np.ones(1000, bool))
    assert np.abs(stored / mapping.LEVELS - probability).max() <= 0.5 / mapping.LEVELS + 1e-12


class Steep:
    """A made-up model: the probability is the first feature."""

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        first = np.nan_to_num(features[:, 0], nan=0.5).astype(float)
        return np.stack([1 - first, first], axis=1)


def draw(folder: Path, factors: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Map factors with windows of `size`; return the two bands, the histogram and the filled."""
    profile = {
        "crs": "EPSG:32652",
        "transform": Affine(30, 0, 500_000, 0, -30, 8_000_000),
        "height": factors.shape[1],
        "width": factors.shape[2],
    }

    def read(window: Window) -> np.ndarray:
        rows, columns = window.toslices()
        return factors[:, rows, columns]

    scratch = folder / f"scratch-{size}.tif"
    parts = list(mapping.windows(*factors.shape[1:], size))
    assert sum(part.width * part.height for part in parts) == factors[0].size
    histogram, filled = mapping.draw_probability(
        scratch,
        profile,
        read,
        Steep(),
        lambda f: f.reshape(len(f), -1).T,
        lambda share: None,
        size=size,
    )
    counts = mapping.write_map(scratch, folder / "map.tif", (0.25, 0.5, 1.0), {"made_up": "true"})
    assert not scratch.exists()
    with rasterio.open(folder / "map.tif") as raster:
        assert raster.descriptions == ("probability", "class")
        assert raster.nodata == mapping.NODATA and raster.scales == (1e-4, 1.0)
        assert raster.tags()["made_up"] == "true"
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        bands = raster.read()
    assert np.bincount(bands[1][bands[1] != mapping.NODATA], minlength=4)[1:].tolist() == (
        counts.tolist()
    )
    return bands, histogram, filled


def test_windows_leave_no_trace(tmp_path: Path) -> None:
    "Small windows and one window give the same map; missing factors are filled or left out"
    factors = np.random.default_rng(3).uniform(size=(2, 70, 90)).astype(np.float32)
    factors[0, 3, 4] = np.nan
    factors[:, 5, 6] = np.nan
    small, histogram, filled = draw(tmp_path, factors, 16)
    whole, other, _ = draw(tmp_path, factors, 512)
    assert np.array_equal(small, whole) and np.array_equal(histogram, other)
    assert filled == 1 and histogram.sum() == 70 * 90 - 1
    assert (small[:, 5, 6] == mapping.NODATA).all() and small[0, 3, 4] == 5000
    assert small[0, 0, 0] == round(float(factors[0, 0, 0]) * 10_000)
    assert small[1, 0, 0] == np.searchsorted([0.25, 0.5], small[0, 0, 0] / 10_000) + 1
