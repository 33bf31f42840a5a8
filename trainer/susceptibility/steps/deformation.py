"""Deformation points laid over the classes of the maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.raster import open_raster
from trainer.susceptibility.deformation import STABLE, Points, rates_by_class, read_points
from trainer.susceptibility.mapping import WINDOW
from trainer.susceptibility.samples import block_ids

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Overlay", "classes_at", "overlay"]

BLOCK = 1000.0  # metres: ground that is drawn as one behind the intervals


@dataclass(frozen=True)
class Overlay:
    """Points on the maps.

    Attributes
    ----------
    facts : dict of JSON values
        What susceptibility.json holds.
    velocity : ndarray of float64, shape (n,)
        mm/yr.
    classes : ndarray of int64, shape (n,)
        Class of the map below each, from 1.
    sites : ndarray of int64, shape (n,)
        Position of its site among the maps.
    places : ndarray of float64, shape (n, 2)
        In the CRS of that map.
    """

    facts: dict[str, Any]
    velocity: NDArray[np.float64]
    classes: NDArray[np.int64]
    sites: NDArray[np.int64]
    places: NDArray[np.float64]


def classes_at(path: Path, lonlat: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the class below each point (0: none), uint8, and the points in the map's CRS."""
    from pyproj import Transformer
    from rasterio.windows import Window

    found = np.zeros(len(lonlat), np.uint8)
    with open_raster(path) as source:
        to_map = Transformer.from_crs("EPSG:4326", source.crs.to_wkt(), always_xy=True)
        x, y = to_map.transform(lonlat[:, 0], lonlat[:, 1])
        places = np.stack([x, y], axis=1)
        back = ~source.transform
        column = back.a * places[:, 0] + back.b * places[:, 1] + back.c
        row = back.d * places[:, 0] + back.e * places[:, 1] + back.f
        inside = (column >= 0) & (row >= 0) & (column < source.width) & (row < source.height)
        at = np.flatnonzero(inside)
        columns, rows = column[at].astype(np.int64), row[at].astype(np.int64)
        tiles = rows // WINDOW * 1_000_000 + columns // WINDOW
        order = np.argsort(tiles, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(tiles[order])) + 1) if at.size else ():
            top, left = rows[group[0]] // WINDOW * WINDOW, columns[group[0]] // WINDOW * WINDOW
            window = Window(
                left, top, min(WINDOW, source.width - left), min(WINDOW, source.height - top)
            )
            values = source.read(1, window=window)
            found[at[group]] = values[rows[group] - top, columns[group] - left]
    return found, places


def overlay(
    path: Path, maps: Mapping[str, Path], words: Sequence[str], resamples: int, seed: int
) -> Overlay:
    """Lay points over the class maps of all sites.

    Parameters
    ----------
    path : Path
        Of the points (`deformation.read_points`).
    maps : mapping of site to Path
        Class maps.
    words : sequence of str
        Names of the classes.
    resamples, seed : int
        Of the intervals.

    Raises
    ------
    DataError
        No point lies on a map.
    """
    points = read_points(path)
    found = _on_maps(points.lonlat, maps)
    if not len(found[0]):
        _refuse(path, points, maps)
    at, classes, sites, places = found
    velocity = points.velocity[at]
    blocks = block_ids(places[:, 0], places[:, 1], (0.0, 0.0), BLOCK) + sites * 10**15
    rows = rates_by_class(velocity, classes, len(words), blocks, resamples, seed)
    facts = {
        "file": path.name,
        "column": points.column,
        "unit": "mm/yr, with the sign of the source",
        "stable_below": STABLE,
        "points": int(velocity.size),
        "points_off_the_maps": int(len(points.velocity) - velocity.size),
        "points_left_out": points.left_out,
        "interval": f"95 %, {resamples} bootstrap draws of whole blocks of {BLOCK:g} m",
        "classes": [{"name": word, **row} for word, row in zip(words, rows, strict=True)],
    }
    return Overlay(facts, velocity, classes, sites, places)


def _on_maps(lonlat: NDArray[np.float64], maps: Mapping[str, Path]) -> tuple[Any, Any, Any, Any]:
    """Return positions, classes, sites and places of the points on the first map that has them."""
    classes, sites = np.zeros(len(lonlat), np.int64), np.full(len(lonlat), -1, np.int64)
    places = np.full((len(lonlat), 2), np.nan)
    for number, path in enumerate(maps.values()):
        left = np.flatnonzero(sites < 0)
        found, there = classes_at(path, lonlat[left])
        hit = left[found > 0]
        classes[hit], sites[hit], places[hit] = found[found > 0], number, there[found > 0]
    at = np.flatnonzero(sites >= 0)
    return at, classes[at], sites[at], places[at]


def _refuse(path: Path, points: Points, maps: Mapping[str, Path]) -> None:
    swapped = points.lonlat[:, ::-1]
    usable = swapped[np.abs(swapped[:, 1]) <= 90]
    if len(usable) and len(_on_maps(usable, maps)[0]):
        raise DataError(
            f"{path}: no point lies on a map, but with longitude and latitude exchanged they do.",
            hint="Exchange the two columns.",
        )
    low, high = points.lonlat.min(axis=0), points.lonlat.max(axis=0)
    raise DataError(
        f"{path}: none of its {len(points.velocity)} points lies on a valid cell of the maps "
        f"({', '.join(maps)}); they span {low[0]:.3f} to {high[0]:.3f} degrees east and "
        f"{low[1]:.3f} to {high[1]:.3f} north.",
        hint="Give points of the mapped ground, or set susceptibility.deformation to null.",
    )
