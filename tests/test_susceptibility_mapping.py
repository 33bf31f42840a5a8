"""Maps that have no seams, and hold what was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from trainer.susceptibility import mapping
from trainer.susceptibility.mapping import classify, quantise


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
