"""Known land cover from a file of the user's, as points to train on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gee.scripts.landcover import CLASSES, GROUP, LABEL
from thawslump.errors import DataError, nearest
from thawslump.files import sha256

if TYPE_CHECKING:
    import ee

    from thawslump.site import Site

__all__ = ["Point", "Points", "class_of", "read_points"]

PER_CLASS = 200
"""Most points of one class that are trained on."""
_LOOKED_AT = 250_000  # most pixels of one polygon that are tried

_BY_NAME = {name: number for number, names in CLASSES.items() for name in names.split(", ")}
_BY_NAME |= {names: number for number, names in CLASSES.items()}


@dataclass(frozen=True)
class Point:
    """A place of known land cover.

    Attributes
    ----------
    x, y : float
        In the CRS of the site.
    label : int
        Class, a key of `gee.scripts.landcover.CLASSES`.
    group : int
        Points that are alike because they lie together: the number of their polygon.
    """

    x: float
    y: float
    label: int
    group: int


@dataclass(frozen=True)
class Points:
    """Points of a file, within a site.

    Attributes
    ----------
    name : str
        Of the file.
    sha256 : str
        Of its content.
    points : tuple of Point
    grouped : bool
        The groups mean something: polygons, or a column ``group``. Else every point is its own.
    outside : int
        Features that lie outside the site.
    """

    name: str
    sha256: str
    points: tuple[Point, ...]
    grouped: bool
    outside: int

    def collection(self, crs: str) -> ee.FeatureCollection:
        """Return them for Earth Engine, properties ``landcover`` and ``group``."""
        import ee

        # One list instead of a feature each: the request stays small.
        rows = [[p.x, p.y, p.label, p.group] for p in self.points]

        def feature(row: Any) -> ee.Feature:
            row = ee.List(row)
            place = ee.Geometry.Point(row.slice(0, 2), crs)
            return ee.Feature(place, {LABEL: row.get(2), GROUP: row.get(3)})

        return ee.FeatureCollection(ee.List(rows).map(feature))


def class_of(value: Any) -> int | None:
    """Return the number of a class given by number or name, None for what is no class.

    Examples
    --------
    >>> class_of(5), class_of("5"), class_of("Water"), class_of("bare rock"), class_of("lava")
    (5, 5, 5, 7, None)
    """
    text = str(value).strip().lower()
    if text in _BY_NAME:
        return _BY_NAME[text]
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number in CLASSES else None


def read_points(path: Path, site: Site, per_class: int = PER_CLASS, seed: int = 0) -> Points:
    """Read points or polygons with a column ``landcover`` and return points within a site.

    Parameters
    ----------
    path : Path
        Any vector file. ``landcover`` holds numbers 1 to 8 or names of `CLASSES` (or one of their
        words: water, forest, rock). A column ``group`` (optional) tells which features belong
        together, for instance those of one visit.
    site : Site
    per_class : int
        Most points of a class, taken in turn from its polygons or points.
    seed : int
        Of the draw.

    Returns
    -------
    Points
        Polygons give the centres of the site's pixels that they hold.

    Raises
    ------
    DataError
        The file cannot be read, has no such column, holds an unknown class (it says which), or
        nothing within the site.
    """
    from thawslump.vector import read_features

    frame = read_features(path, str(site.grid().crs), "points of known land cover")
    if LABEL not in frame:
        columns = [str(name) for name in frame.columns if name != "geometry"]
        raise DataError(
            f"{path} has no column {LABEL}; it has {', '.join(columns) or 'none'}.",
            hint=f"Give every point or polygon its class in a column {LABEL}: "
            + "; ".join(f"{number} {names}" for number, names in CLASSES.items())
            + ".",
        )
    labels = [class_of(value) for value in frame[LABEL]]
    unknown = {str(v) for v, label in zip(frame[LABEL], labels, strict=True) if label is None}
    if unknown:
        first = sorted(unknown)[0]
        raise DataError(
            f"{path}: {LABEL} holds {', '.join(sorted(unknown))}, which is no class."
            + nearest(first, _BY_NAME),
            hint="Classes: " + "; ".join(f"{n} {names}" for n, names in CLASSES.items()) + ".",
        )
    # Rows of one group share a number; without such a column each row is a group.
    groups = np.arange(len(frame))
    if GROUP in frame:
        groups = np.unique(frame[GROUP].astype(str).to_numpy(), return_inverse=True)[1]
    shapes = frame.geometry.to_numpy()
    inside = [_places(shape, site) for shape in shapes]
    dice = np.random.default_rng(seed)
    chosen: list[Point] = []
    for label in sorted(CLASSES):
        rows = [k for k, other in enumerate(labels) if other == label and len(inside[k])]
        queues = [dice.permutation(inside[k]) for k in rows]
        for row, (x, y) in _in_turn(rows, queues, per_class):
            chosen.append(Point(float(x), float(y), label, int(groups[row])))
    if not chosen:
        raise DataError(
            f"{path}: none of its features lies within site {site.name}.",
            hint="Check the file's CRS and the bounds of the site.",
        )
    polygons = any(shape.geom_type.endswith("Polygon") for shape in shapes)
    return Points(
        name=Path(path).name,
        sha256=sha256(Path(path)),
        points=tuple(chosen),
        grouped=polygons or GROUP in frame,
        outside=sum(not len(places) for places in inside),
    )


def _places(shape: Any, site: Site) -> np.ndarray[Any, np.dtype[Any]]:
    """Return (n, 2) coordinates: points themselves, or the pixel centres within a polygon."""
    import shapely

    grid = site.grid()
    rows, cols = grid.shape
    a = grid.transform
    if not shape.geom_type.endswith("Polygon"):
        found = shapely.get_coordinates(shape)
        col, row = (found[:, 0] - a.c) / a.a, (found[:, 1] - a.f) / a.e
        return found[(col >= 0) & (col < cols) & (row >= 0) & (row < rows)]
    west, south, east, north = shape.bounds
    first, last = max(0, math.floor((west - a.c) / a.a)), math.ceil((east - a.c) / a.a)
    top, bottom = max(0, math.floor((north - a.f) / a.e)), math.ceil((south - a.f) / a.e)
    last, bottom = min(cols, last), min(rows, bottom)
    if last <= first or bottom <= top:
        return np.empty((0, 2))
    # A lake of a million pixels is looked at every few of them.
    step = max(1, math.ceil(math.sqrt((last - first) * (bottom - top) / _LOOKED_AT)))
    x = a.c + (np.arange(first, last, step) + 0.5) * a.a
    y = a.f + (np.arange(top, bottom, step) + 0.5) * a.e
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    found = places[shapely.contains_xy(shape, places)]
    if len(found) or step > 1:
        return found
    # Too small to hold the centre of a pixel.
    return _places(shape.representative_point(), site)


def _in_turn(rows: Sequence[int], queues: Sequence[Any], most: int) -> Iterator[tuple[int, Any]]:
    """Yield one place of each row, then the next of each, until there are enough."""
    given, place = 0, 0
    while any(place < len(queue) for queue in queues):
        for row, queue in zip(rows, queues, strict=True):
            if place < len(queue):
                yield row, queue[place]
                given += 1
                if given == most:
                    return
        place += 1
