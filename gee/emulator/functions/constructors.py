"""Geometries made of coordinates."""

from __future__ import annotations

import math
import reprlib
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..budget import steps
from ..errors import EngineError
from ..geometry import Geometry, polygons
from ..projection import WGS84, Projection
from .registry import function

__all__ = ["placed", "ring"]

MOST_PARTS = 100_000


def ring(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Return a box from its lower left corner on, as scripts expect that read its corners."""
    return shapely.Polygon(
        [(west, south), (east, south), (east, north), (west, north), (west, south)]
    )


def _depth(value: Any) -> int:
    return (
        1 + _depth(value[0])
        if isinstance(value, (list, tuple)) and value
        else (1 if isinstance(value, (list, tuple)) else 0)
    )


def _pairs(values: Any) -> list[tuple[float, float]]:
    """Return coordinate pairs from pairs, points or a flat list of numbers."""
    if values and all(isinstance(v, (int, float)) for v in values):
        if len(values) % 2:
            raise EngineError(f"Invalid number of coordinates: {len(values)}.")
        return list(zip(map(float, values[::2]), map(float, values[1::2]), strict=True))
    out = []
    for value in values:
        if isinstance(value, Geometry):
            out.append((value.shape.x, value.shape.y))
        elif isinstance(value, (list, tuple)) and len(value) >= 2:
            out.append((_coordinate(value[0]), _coordinate(value[1])))
        else:
            raise EngineError(f"Invalid coordinates: {reprlib.repr(value)}.")
    return out


def _coordinate(value: Any) -> float:
    if isinstance(value, str) and value in ("Infinity", "-Infinity"):
        return float(value)
    if not isinstance(value, (int, float)) or value != value:
        raise EngineError(f"Invalid coordinate: {reprlib.repr(value)}.")
    return float(value)


def placed(shape: BaseGeometry, crs: Projection | None, geodesic: bool | None) -> Geometry:
    """Return a shape in a projection, whose pixels its coordinates are."""
    if crs is None:
        return Geometry(shape, "EPSG:4326", geodesic)
    if crs.transform != WGS84.transform:
        # Coordinates are pixels of the projection.
        def place(xy: Any) -> Any:
            return np.column_stack(crs.to_crs(xy[:, 0], xy[:, 1]))

        shape = shapely.transform(shape, place)
    return Geometry(shape, crs.crs, geodesic)


def _polygon(rings: Any) -> BaseGeometry:
    rings = _nested(rings, 3)
    if not rings:
        return shapely.Polygon()
    lines = [_pairs(r) for r in rings]
    for line in lines:
        if len(line) < 3:
            raise EngineError(f"A ring must have at least 3 points, found {len(line)}.")
    made = shapely.Polygon(lines[0], lines[1:])
    return made if made.is_valid else shapely.make_valid(made)


def _nested(values: Any, depth: int) -> Any:
    """Wrap coordinates until they are ``depth`` lists deep; flat numbers count as pairs."""
    if values and all(isinstance(v, (int, float)) for v in values):
        values = _pairs(values)
    have = _depth(values)
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], Geometry):
        have = 2
    for _ in range(depth - have):
        values = [values]
    return values


@function("GeometryConstructors.Point")
def point(coordinates: list[Any], crs: Projection | None) -> Geometry:
    """Return a point."""
    if len(coordinates) != 2:
        raise EngineError(f"A point has 2 coordinates, not {len(coordinates)}.")
    return placed(shapely.Point(*_pairs(coordinates)[0]), crs, None)


@function("GeometryConstructors.MultiPoint")
def multi_point(coordinates: list[Any], crs: Projection | None) -> Geometry:
    """Return points."""
    return placed(shapely.MultiPoint(_pairs(coordinates)), crs, None)


@function("GeometryConstructors.LineString")
def line_string(
    coordinates: list[Any], crs: Projection | None, geodesic: bool | None, margin: Any
) -> Geometry:
    """Return a line."""
    return placed(shapely.LineString(_pairs(coordinates)), crs, geodesic)


@function("GeometryConstructors.LinearRing")
def linear_ring(
    coordinates: list[Any], crs: Projection | None, geodesic: bool | None, margin: Any
) -> Geometry:
    """Return a closed line."""
    if len(_pairs(coordinates)) < 3:
        raise EngineError("A ring must have at least 3 points.")
    return placed(shapely.LinearRing(_pairs(coordinates)), crs, geodesic)


@function("GeometryConstructors.MultiLineString")
def multi_line_string(
    coordinates: list[Any], crs: Projection | None, geodesic: bool | None, margin: Any
) -> Geometry:
    """Return lines."""
    lines = [_pairs(c) for c in _nested(coordinates, 3)]
    return placed(shapely.MultiLineString(lines), crs, geodesic)


@function("GeometryConstructors.Polygon")
def polygon(
    coordinates: list[Any],
    crs: Projection | None,
    geodesic: bool | None,
    margin: Any,
    even_odd: bool,
) -> Geometry:
    """Return a polygon: the outer ring, then holes."""
    return placed(_left_inside(_polygon(coordinates), coordinates, even_odd), crs, geodesic)


def _left_inside(made: BaseGeometry, rings: Any, even_odd: bool) -> BaseGeometry:
    """Return the other side of a shell that runs clockwise, unless even-odd counts.

    Without the even-odd rule the inside is on the left of the shell's edges (the client's
    ``ee.Geometry.Polygon``, ``evenOdd``).
    """
    if even_odd or not isinstance(made, shapely.Polygon) or made.is_empty:
        return made
    shell = shapely.LinearRing(_pairs(_nested(rings, 3)[0]))
    return made if shell.is_ccw else shapely.box(-180, -90, 180, 90) - made


@function("GeometryConstructors.MultiPolygon")
def multi_polygon(
    coordinates: list[Any],
    crs: Projection | None,
    geodesic: bool | None,
    margin: Any,
    even_odd: bool,
) -> Geometry:
    """Return polygons."""
    parts = [p for rings in _nested(coordinates, 4) for p in polygons(_polygon(rings))]
    return placed(shapely.MultiPolygon(parts), crs, geodesic)


@function("GeometryConstructors.Rectangle")
def rectangle(
    coordinates: list[Any], crs: Projection | None, geodesic: bool | None, even_odd: bool
) -> Geometry:
    """Return a box between two corners."""
    pairs = _pairs(coordinates)
    if len(pairs) < 2:
        raise EngineError("A rectangle needs two corners.")
    xs, ys = [p[0] for p in pairs], [p[1] for p in pairs]
    made = ring(min(xs), min(ys), max(xs), max(ys))
    return placed(made, crs, False if geodesic is None else geodesic)


def _longitude(degrees: float) -> float:
    around = math.fmod(degrees, 360)
    return around - 360 if around > 180 else around + 360 if around < -180 else around


@function("GeometryConstructors.BBox")
def bbox(west: float, south: float, east: float, north: float) -> Geometry:
    """Return a box in degrees with straight edges."""
    if any(math.isnan(v) for v in (west, south, east, north)):
        raise EngineError("The sides of a box must be numbers.")
    if east - west >= 360:
        west, east = -180.0, 180.0
    elif math.isinf(west) or math.isinf(east):
        raise EngineError("A longitude must be finite, unless the box goes all around.")
    else:
        # The client's ee.Geometry.BBox: points of a circle, from -180 to 180 degrees.
        west, east = _longitude(west), _longitude(east)
        east += 360 if east < west else 0
    low, high = (min(max(v, -90.0), 90.0) for v in (south, north))
    if low > high:
        raise EngineError(f"The southern edge ({south:g}) is north of the northern ({north:g}).")
    return Geometry(ring(west, low, east, high), "EPSG:4326", False)


@function("GeometryConstructors.MultiGeometry")
def multi_geometry(
    parts: list[Geometry], crs: Projection | None, geodesic: bool | None, margin: Any
) -> Geometry:
    """Return a collection of geometries."""
    target = parts[0].crs if parts else "EPSG:4326"
    shapes: list[BaseGeometry] = []
    count = sum(int(shapely.get_num_geometries(p.shape)) for p in parts)
    if count > MOST_PARTS:
        raise EngineError(f"Geometry has too many parts ({count} > {MOST_PARTS}).")
    for part in steps(parts):
        shape = part.shape if part.crs == target else part.in_crs(target)
        # Collections of collections have the parts of all (RFC 7946: they should not be nested).
        nested = shape.geom_type == "GeometryCollection"
        shapes += shapely.get_parts(shape).tolist() if nested else [shape]
    return Geometry(shapely.GeometryCollection(shapes), target, geodesic)
