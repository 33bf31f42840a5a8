"""Made-up valleys as factors, labels and truth at 30 m, without scenes, catalogue or export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from gee.valley import landscape, terrain
from gee.valley.landscape import Landscape
from gee.valley.place import MARGIN, PIXEL
from thawslump.vector import rasterize
from trainer.susceptibility import models, samples

Floats = NDArray[np.floating[Any]]

TIMES = 3
CELL = TIMES * PIXEL
DRIVERS = (
    "true_slope",
    "true_north",
    "true_ice",
    "true_height",
    "true_shore",
    "true_ruled_out",
)
"""What the process behind the slumps looks at (`gee.valley.slumps.susceptibility`)."""


def coarse(values: Floats) -> NDArray[np.float32]:
    """Return means of 3 x 3 pixels; what is left over at the edges is dropped."""
    rows, cols = (n // TIMES for n in values.shape)
    blocks = values[: rows * TIMES, : cols * TIMES].reshape(rows, TIMES, cols, TIMES)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def drivers(land: Landscape) -> dict[str, Floats]:
    """Return what decides where slumps form, on the 10 m grid of the catalogued area.

    Parameters
    ----------
    land : Landscape

    Returns
    -------
    dict of arrays
        By the names in `DRIVERS`: slope in degrees and cosine of the direction (of the ground
        before any slump, smoothed as the process sees it), ice content, metres above the river,
        metres to water, and 1 where nothing can fail.
    """
    wide = terrain.relax(land.ground, PIXEL, 40.0)
    long = max(land.frame.shape)
    rows_long = land.frame.shape[0] >= land.frame.shape[1]
    along = np.arange(long, dtype=np.float32) * np.float32(PIXEL)
    bed = 12.2 + 0.0009 * (long * PIXEL - (along[:, None] if rows_long else along[None, :]))
    water = land.river | land.lake | land.stream
    found = {
        "true_slope": terrain.slope_degrees(wide, PIXEL),
        "true_north": np.cos(np.radians(terrain.aspect_degrees(wide, PIXEL) - 15.0)),
        "true_ice": land.ice,
        "true_height": land.ground - bed,
        "true_shore": ndimage.distance_transform_edt(~water) * PIXEL,
        # Of the possible ground none has no chance at all.
        "true_ruled_out": (land.susceptibility == 0).astype(np.float32),
    }
    return {name: np.asarray(values, np.float32)[land.inner] for name, values in found.items()}


@dataclass(frozen=True)
class Ground:
    """A made-up valley at 30 m.

    Attributes
    ----------
    factors : dict of name to float32 array (rows, cols)
        elevation, slope, aspect, NDVI, distances to rivers, roads and faults: what maps tell.
        Ice content is not among them.
    truth : float32 array (rows, cols)
        Expected share that slumps cover, under the process that placed them.
    labels : uint8 array, 10 m
        1 where the outline of a slump covers the pixel's centre.
    """

    factors: dict[str, NDArray[np.float32]]
    truth: NDArray[np.float32]
    labels: NDArray[np.uint8]


def ground(seed: int, shape: tuple[int, int]) -> Ground:
    """Make a valley and look at it as maps do."""
    land = landscape.make(seed, shape)
    # A ring of 30 m cells around: slopes at the edge are real.
    ring = 10
    edge = MARGIN - ring * TIMES
    height = coarse(land.dem[edge:-edge, edge:-edge])
    inner = (slice(ring, -ring), slice(ring, -ring))
    found = {
        "elevation": coarse(land.dem[land.inner]),
        "slope": terrain.slope_degrees(height, CELL)[inner],
        "aspect": terrain.aspect_degrees(height, CELL)[inner],
        "NDVI": coarse(land.pre.green[land.inner]),
    }
    for name, lines in land.lines.items():
        there = rasterize([line.buffer(PIXEL) for _, line in lines], land.frame.geobox) == 1
        away = ndimage.distance_transform_edt(~there)[land.inner] * PIXEL
        found[f"distance_{name}"] = coarse(away)
    rows, cols = found["elevation"].shape
    labels = rasterize([slump.outline for slump in land.slumps], land.frame.geobox)[land.inner]
    return Ground(
        {name: np.asarray(values[:rows, :cols], np.float32) for name, values in found.items()},
        coarse(land.susceptibility[land.inner]),
        np.asarray(labels, np.uint8),
    )


@dataclass(frozen=True)
class Drawn:
    """Samples of some valleys, in the form that folds and models take.

    Attributes
    ----------
    X : float32 array (n, features)
    y : uint8 array (n,)
    places : float64 array (n, 2)
        Metres in the sample's valley; of a slump's cells the slump's centre.
    sites : int64 array (n,)
        Number of the valley.
    """

    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    places: NDArray[np.float64]
    sites: NDArray[np.int64]


def draw(valleys: Sequence[Ground], seed: int, cells_per_slump: int, buffer: float = 90.0) -> Drawn:
    """Draw cells with a slump and as many without from each valley, by the rules of the chain."""
    fine, wide = Affine.scale(PIXEL, -PIXEL), Affine.scale(CELL, -CELL)
    parts = []
    for number, valley in enumerate(valleys):
        rng = np.random.default_rng([seed, number])
        shape = valley.truth.shape
        marks = valley.labels
        found = samples.slump_cells(samples.runs_of(marks == 1), fine, shape, wide)
        cells, slumps, centres = found.cells, found.slumps, found.centres
        kept = samples.draw_positives(slumps, cells_per_slump, rng)
        clear = samples.clear_cells(samples.count_labels(marks, fine, shape, wide))
        away = np.ones(shape, bool)
        away.flat[found.touched] = False
        far = ndimage.distance_transform_edt(away, sampling=CELL) > buffer
        free = np.flatnonzero(clear & far)
        others = np.sort(rng.choice(free, min(kept.size, free.size), replace=False))
        chosen = np.r_[cells[kept], others]
        middle = np.stack([chosen % shape[1] + 0.5, -(chosen // shape[1]) - 0.5], axis=1) * CELL
        middle[: kept.size] = centres[slumps[kept]]
        named = {name: values.ravel()[chosen] for name, values in valley.factors.items()}
        labels = np.r_[np.ones(kept.size, np.uint8), np.zeros(others.size, np.uint8)]
        parts.append((models.design(named), labels, middle, np.full(chosen.size, number)))
    X, y, places, sites = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Drawn(X, y, places, sites)
