"""Geometries: measured and combined.

Operations on geographic coordinates run in an equidistant plane around the geometry, which
is exact to about a part in 10^5 over 100 km; areas and lengths are those of the WGS84
ellipsoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from ..errors import EngineError
from ..geometry import Geometry, beside, local_crs, plane_of, polygons
from ..image import Element
from ..projection import WGS84, Projection, Window, crs_of
from ..values import Collection, ErrorMargin, Feature, geometry_of
from ._gnomonic import Gnomonic, gnomonic_of
from .constructors import placed, ring
from .registry import function

MOST_PARTS = 100_000

__all__ = ["box_of", "distance_between", "moved"]


# ------------------------------------------------------------------ facts


@function("Geometry.type")
def kind(shape: Geometry) -> str:
    """Return the GeoJSON type."""
    return str(shape.shape.geom_type)


@function("Geometry.coordinates")
def coordinates(shape: Geometry) -> list[Any]:
    """Return the coordinates."""
    found = shape.json().get("coordinates")
    return [] if found is None else found


@function("Geometry.geometries")
def geometries(shape: Geometry) -> list[Geometry]:
    """Return the parts."""
    return [Geometry(p, shape.crs, shape.geodesic) for p in shapely.get_parts(shape.shape)]


@function("Geometry.projection")
def geometry_projection(shape: Geometry) -> Projection:
    """Return the coordinate system."""
    return Projection(shape.crs)


@function("Geometry.edgesAreGeodesics", "Geometry.geodesic")
def edges_are_geodesics(shape: Geometry) -> bool:
    """Test for geodesic edges."""
    return shape.geodesic


@function("Geometry.isUnbounded")
def is_unbounded(shape: Geometry) -> bool:
    """Test whether the geometry covers everything."""
    return shape.unbounded


def _measured(shape: Geometry, projection: Projection | None) -> Geometry:
    if projection is None:
        return shape
    return Geometry(shape.in_crs(projection.crs), projection.crs, False)


def area(shape: Geometry, margin: Any, projection: Projection | None) -> float:
    """Return square metres, or square units of a projection."""
    found = _measured(shape, projection)
    if projection is not None:
        a, b, _, d, e, _ = projection.transform
        return float(found.shape.area) / abs(a * e - b * d)
    return found.area()


def perimeter(shape: Geometry, margin: Any, projection: Projection | None) -> float:
    """Return metres around the polygons."""
    found = _measured(shape, projection)
    if projection is not None:
        return sum(float(p.length) for p in polygons(found.shape))
    return found.length(lambda p: p.geom_type == "Polygon")


def length(shape: Geometry, margin: Any, projection: Projection | None) -> float:
    """Return metres along the lines."""
    found = _measured(shape, projection)
    return found.length(lambda p: p.geom_type in ("LineString", "LinearRing"))


# ------------------------------------------------------------------ shapes from shapes


def box_of(shape: Geometry, projection: Projection | None) -> Geometry:
    """Return the bounding box in a projection, EPSG:4326 by default."""
    if shape.unbounded:
        return shape
    target = projection or WGS84
    if shape.shape.is_empty:
        return Geometry(shapely.Polygon(), target.crs, False)
    if target.transform != WGS84.transform:
        made = shape.in_pixels(target)
        return placed(ring(*made.bounds), target, False)
    return Geometry(ring(*shape.in_crs(target.crs).bounds), target.crs, False)


def bounds(shape: Geometry, margin: Any, projection: Projection | None) -> Geometry:
    """Return the bounding box."""
    return box_of(shape, projection)


def _in_plane(
    shape: Geometry,
    projection: Projection | None,
    change: Callable[[BaseGeometry], BaseGeometry],
) -> Geometry:
    """Apply a change in a plane in metres, or in a projection."""
    if projection is not None:
        return Geometry(change(shape.in_crs(projection.crs)), projection.crs, False)
    if not shape.is_geographic:
        return Geometry(change(shape.shape), shape.crs, shape.geodesic)
    if shape.shape.is_empty:
        return shape
    x, y = shape.shape.centroid.coords[0]
    plane = local_crs(round(x, 3), round(y, 3))
    made = Geometry(change(shape.in_crs(plane)), plane, False)
    back = shapely.transform(made.shape, _path(plane, "EPSG:4326"))
    return Geometry(back, "EPSG:4326", shape.geodesic)


def _path(source: str, target: str) -> Callable[[Any], Any]:
    from ..projection import transformer

    change = transformer(source, target)
    return lambda xy: np.column_stack(change.transform(xy[:, 0], xy[:, 1]))


# Of any unit; a metre's worth of it is far beyond the Earth.
_FARTHEST = 1e12


def buffer(
    shape: Geometry, distance: float, margin: ErrorMargin | None, projection: Projection | None
) -> Geometry:
    """Return the geometry grown by a distance (shrunk by a negative one)."""
    if not abs(distance) < _FARTHEST:
        raise EngineError(f"The distance must be less than {_FARTHEST:g}. Found {distance:g}.")
    # Chords of a circle stay within the error margin of it; 1% of the distance by default.
    allowed = abs(distance) * 0.01
    if margin is not None and margin.value:
        allowed = min(max(margin.value, abs(distance) * 1e-4), abs(distance) * 0.2)
    turn = math.acos(max(1 - allowed / abs(distance), -1)) if distance else 1.0
    quarter = max(math.ceil(math.pi / 4 / max(turn, 1e-3)), 2)
    return _in_plane(shape, projection, lambda s: s.buffer(distance, quad_segs=quarter))


def centroid(shape: Geometry, margin: Any, projection: Projection | None) -> Geometry:
    """Return the centroid of the parts of highest dimension."""
    return _in_plane(shape, projection, lambda s: s.centroid)


def convex_hull(shape: Geometry, margin: Any, projection: Projection | None) -> Geometry:
    """Return the convex hull."""
    if projection is None:
        plane = _great_circle_plane(shape)
        if plane is not None:
            hull = plane.back(plane.forward(shape.shape).convex_hull)
            return Geometry(_anticlockwise(hull), shape.crs, shape.geodesic)
        return Geometry(_anticlockwise(shape.shape.convex_hull), shape.crs, shape.geodesic)
    hull = shape.in_crs(projection.crs).convex_hull
    return Geometry(_anticlockwise(hull), projection.crs, False)


def _anticlockwise(made: BaseGeometry) -> BaseGeometry:
    """Return a shape whose outer rings run anticlockwise, holes the other way (RFC 7946)."""
    if made.geom_type == "Polygon":
        return orient(made)
    if made.geom_type in ("MultiPolygon", "GeometryCollection"):
        return type(made)([_anticlockwise(part) for part in made.geoms])
    return made


def _great_circle_plane(*shapes: Geometry) -> Gnomonic | None:
    """Return the plane in which the edges of geodesic geometries are straight."""
    if all(s.geodesic and s.crs == "EPSG:4326" for s in shapes):
        return gnomonic_of([s.shape for s in shapes])
    return None


def simplify(
    shape: Geometry, margin: ErrorMargin | None, projection: Projection | None
) -> Geometry:
    """Return the geometry with fewer vertices, within an error margin."""
    most = margin.value if margin is not None and margin.value else 0.0
    if not 0 <= most < math.inf:
        raise EngineError(f"The error margin must be a positive number. Found {most:g}.")
    if not shape.is_geographic:
        return Geometry(shape.shape.simplify(most), shape.crs, shape.geodesic)
    if shape.shape.is_empty:
        return shape
    # Vertices are chosen in the plane but keep their own coordinates.
    plane = plane_of([shape])
    forward = shapely.transform(shape.shape, _path("EPSG:4326", plane))
    own = dict(
        zip(
            map(tuple, shapely.get_coordinates(forward)),
            shapely.get_coordinates(shape.shape),
            strict=True,
        )
    )
    kept = shapely.transform(
        forward.simplify(most), lambda xy: np.array([own[c] for c in map(tuple, xy)]).reshape(-1, 2)
    )
    return Geometry(kept, "EPSG:4326", shape.geodesic)


def dissolve(shape: Geometry, margin: Any, projection: Projection | None) -> Geometry:
    """Return the union of the parts."""
    if projection is not None:
        made = shapely.union_all([shape.in_crs(projection.crs)])
        return Geometry(_anticlockwise(made), projection.crs, False)
    plane = _great_circle_plane(shape)
    if plane is not None:
        made = plane.back(shapely.union_all([plane.forward(shape.shape)]))
    else:
        made = shapely.union_all([shape.shape])
    return Geometry(_anticlockwise(made), shape.crs, shape.geodesic)


def moved(
    shape: Geometry, projection: Projection, margin: Any = None, geodesic: bool | None = None
) -> Geometry:
    """Return the geometry in another projection."""
    if shape.crs == projection.crs:
        return Geometry(shape.shape, shape.crs, shape.geodesic if geodesic is None else geodesic)
    return Geometry(shape.in_crs(projection.crs), projection.crs, geodesic)


def cut_lines(
    shape: Geometry, distances: list[float], margin: Any, projection: Projection | None
) -> Geometry:
    """Return lines cut at distances along them."""
    # [A]: everything but lines becomes an empty MultiLineString.
    moved_to = shape if projection is None else shape.to(projection.crs)
    geodesic = moved_to.is_geographic and moved_to.geodesic and projection is None
    pieces: list[Any] = []
    for line in shapely.get_parts(moved_to.shape):
        if line.geom_type in ("LineString", "LinearRing") and not line.is_empty:
            pieces += _cut(shapely.get_coordinates(line), sorted(distances), geodesic)
    return Geometry(
        shapely.MultiLineString(pieces), moved_to.crs, shape.geodesic if geodesic else False
    )


@cache
def _ellipsoid() -> pyproj.Geod:
    return pyproj.Geod(ellps="WGS84")


def _cut(xy: Any, distances: list[float], geodesic: bool) -> list[Any]:
    """Return the pieces of a line between distances along it, in metres on the ellipsoid."""
    if geodesic:
        azimuths, _, steps = _ellipsoid().inv(xy[:-1, 0], xy[:-1, 1], xy[1:, 0], xy[1:, 1])
    else:
        azimuths, steps = np.zeros(len(xy) - 1), np.hypot(*np.diff(xy, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    cuts = [d for d in distances if 0 < d < along[-1]]
    pieces, current, vertex = [], [tuple(xy[0])], 1
    for cut in cuts:
        while along[vertex] <= cut:
            current.append(tuple(xy[vertex]))
            vertex += 1
        rest = cut - along[vertex - 1]
        if rest > 0:
            if geodesic:
                east, north = xy[vertex - 1]
                x, y, _ = _ellipsoid().fwd(east, north, azimuths[vertex - 1], rest)
            else:
                x, y = xy[vertex - 1] + (xy[vertex] - xy[vertex - 1]) * rest / steps[vertex - 1]
            current.append((float(x), float(y)))
        pieces.append(current)
        current = current[-1:]
    current += [tuple(c) for c in xy[vertex:]]
    pieces.append(current)
    return [p for p in pieces if len(p) > 1]


# ------------------------------------------------------------------ two geometries


def _together(
    left: Geometry, right: Geometry, projection: Projection | None
) -> tuple[str, Any, Any]:
    crs = left.crs if projection is None else projection.crs
    if projection is None and left.crs == right.crs and left.geodesic == right.geodesic:
        a, b = left.shape, right.shape
    else:
        a, b = left.in_crs(crs), right.in_crs(crs)
    return crs, a, beside(a, b) if crs_of(crs).is_geographic else b


def _combined(
    name: str,
) -> Callable[[Geometry, Geometry, Any, Projection | None], Geometry]:
    def combine(
        left: Geometry, right: Geometry, margin: Any, projection: Projection | None
    ) -> Geometry:
        if left.unbounded or right.unbounded:
            if name == "intersection":
                return right if left.unbounded else left
            if name == "union":
                return Geometry.everywhere()
        plane = _great_circle_plane(left, right) if projection is None else None
        if plane is not None:
            flat = getattr(plane.forward(left.shape), name)(plane.forward(right.shape))
            return Geometry(_anticlockwise(plane.back(flat)), left.crs, True)
        crs, a, b = _together(left, right, projection)
        made = getattr(a, name)(b)
        geodesic = left.geodesic if crs == left.crs else False
        return Geometry(_anticlockwise(made), crs, geodesic)

    return combine


def _tested(
    test: Callable[[Any, Any], bool], unbounded: bool
) -> Callable[[Geometry, Geometry, Any, Projection | None], bool]:
    def apply(left: Geometry, right: Geometry, margin: Any, projection: Projection | None) -> bool:
        if left.unbounded or right.unbounded:
            return unbounded
        plane = _great_circle_plane(left, right) if projection is None else None
        if plane is not None:
            return bool(test(plane.forward(left.shape), plane.forward(right.shape)))
        crs = left.crs if projection is None else projection.crs
        a, b = left.in_crs(crs), right.in_crs(crs)
        return bool(test(a, beside(a, b) if crs_of(crs).is_geographic else b))

    return apply


_INTERSECTS = _tested(lambda a, b: a.intersects(b), True)
# S2's mean radius of the Earth, in metres (S2Earth).
_RADIUS = 6_371_010.0


def distance_between(left: Geometry, right: Geometry) -> float:
    """Return metres between two geometries; infinite where one is empty."""
    if left.shape.is_empty or right.shape.is_empty:
        return math.inf
    if left.unbounded or right.unbounded or _INTERSECTS(left, right, None, None):
        return 0.0
    plane = plane_of([left])
    a, b = left.in_crs(plane), right.in_crs(plane)
    near = shapely.shortest_line(a, b)
    if not left.is_geographic:
        return float(near.length)
    ends = shapely.transform(near, _path(plane, "EPSG:4326"))
    return Geometry(ends, "EPSG:4326", True).length()


def distance(
    left: Geometry, right: Geometry, margin: Any, projection: Projection | None, spherical: bool
) -> float:
    """Return metres between two geometries, or units of a projection."""
    if left.shape.is_empty or right.shape.is_empty:
        return math.inf
    if projection is not None:
        return float(left.in_crs(projection.crs).distance(right.in_crs(projection.crs)))
    if spherical:
        ends = closest_points(left, right, margin, None)
        a, b = (np.radians(ends[k].lonlat().coords[0]) for k in ("left", "right"))
        half = np.sin((b - a) / 2) ** 2
        return float(
            2 * _RADIUS * np.arcsin(np.sqrt(half[1] + np.cos(a[1]) * np.cos(b[1]) * half[0]))
        )
    return distance_between(left, right)


def within_distance(
    left: Geometry, right: Geometry, most: float, margin: Any, projection: Projection | None
) -> bool:
    """Test whether two geometries are at most so far apart."""
    return distance(left, right, margin, projection, False) <= most


def closest_points(
    left: Geometry, right: Geometry, margin: Any, projection: Projection | None
) -> dict[str, Geometry]:
    """Return the nearest points of two geometries."""
    if left.shape.is_empty or right.shape.is_empty:
        return {}
    if left.unbounded or right.unbounded:
        # [A]: any point of the bounded one will do.
        found = right if left.unbounded else left
        spot = Geometry(found.shape.representative_point(), found.crs, False)
        return {"left": spot, "right": spot}
    crs = plane_of([left]) if projection is None else projection.crs
    line = shapely.shortest_line(left.in_crs(crs), right.in_crs(crs))
    if line is None or line.is_empty:
        raise EngineError(f"The geometries cannot be expressed in the projection {crs}.")
    near, far = (Geometry(shapely.Point(c), crs, False) for c in (line.coords[0], line.coords[-1]))
    return {"left": _back_to(near, left), "right": _back_to(far, right)}


def _back_to(spot: Geometry, source: Geometry) -> Geometry:
    """Return a point in the coordinates of a geometry, its vertex where it is at one."""
    moved_back = spot.to(source.crs).shape
    vertices = shapely.points(shapely.get_coordinates(source.shape))
    away = shapely.distance(vertices, moved_back)
    nearest = int(np.argmin(away))
    scale = 1e-9 * max(1.0, abs(moved_back.x), abs(moved_back.y))
    return Geometry(vertices[nearest] if away[nearest] < scale else moved_back, source.crs)


def closest_point(
    left: Geometry, right: Geometry, margin: Any, projection: Projection | None
) -> Geometry | None:
    """Return the point of the right geometry nearest to the left; null where one is empty."""
    return closest_points(left, right, margin, projection).get("right")


_GEOMETRY_TO_SHAPE: dict[str, Callable[..., Geometry]] = {
    "bounds": bounds, "buffer": buffer, "centroid": centroid, "convexHull": convex_hull,
    "simplify": simplify, "dissolve": dissolve, "cutLines": cut_lines,
}  # fmt: skip
_GEOMETRY_TO_VALUE: dict[str, Callable[..., float]] = {
    "area": area,
    "perimeter": perimeter,
    "length": length,
}
_PAIR_TO_SHAPE = {
    "intersection": _combined("intersection"), "union": _combined("union"),
    "difference": _combined("difference"),
    "symmetricDifference": _combined("symmetric_difference"),
}  # fmt: skip
_PAIR_TO_VALUE: dict[str, Callable[..., Any]] = {
    "intersects": _INTERSECTS,
    "disjoint": _tested(lambda a, b: a.disjoint(b), False),
    "contains": _tested(lambda a, b: a.contains(b), True),
    "containedIn": _tested(lambda a, b: b.contains(a), True),
    "distance": distance, "withinDistance": within_distance,
    "closestPoint": closest_point, "closestPoints": closest_points,
}  # fmt: skip


def _shape_of(element: Element) -> Geometry:
    found = geometry_of(element)
    if found is None:
        raise EngineError("The feature has no geometry.")
    return found


def _register() -> None:
    for name, one in _GEOMETRY_TO_SHAPE.items():
        function(f"Geometry.{name}")(one)
        function(f"Feature.{name}")(_on_feature(one))
    for name, value in _GEOMETRY_TO_VALUE.items():
        function(f"Geometry.{name}")(value)
        function(f"Feature.{name}")(_of_feature(value))
    for name, pair in _PAIR_TO_SHAPE.items():
        function(f"Geometry.{name}")(pair)
        function(f"Feature.{name}")(_on_features(pair))
    for name, test in _PAIR_TO_VALUE.items():
        function(f"Geometry.{name}")(test)
        function(f"Feature.{name}")(_of_features(test))


def _on_feature(change: Callable[..., Geometry]) -> Callable[..., Feature]:
    def apply(element: Element, *rest: Any) -> Feature:
        return Feature(change(_shape_of(element), *rest), element.properties)

    return apply


def _of_feature(measure: Callable[..., Any]) -> Callable[..., Any]:
    return lambda element, *rest: measure(_shape_of(element), *rest)


def _on_features(change: Callable[..., Geometry]) -> Callable[..., Feature]:
    def apply(left: Element, right: Element, *rest: Any) -> Feature:
        return Feature(change(_shape_of(left), _shape_of(right), *rest), left.properties)

    return apply


def _of_features(test: Callable[..., Any]) -> Callable[..., Any]:
    return lambda left, right, *rest: test(_shape_of(left), _shape_of(right), *rest)


_register()


@function("Geometry.transform")
def transform(
    shape: Geometry, projection: Projection, margin: Any, geodesic: bool | None
) -> Geometry:
    """Return the geometry in another projection."""
    return moved(shape, projection, margin, geodesic)


@function("Feature.transform")
def transform_feature(
    element: Element, projection: Projection, margin: Any, geodesic: bool | None
) -> Feature:
    """Return the feature in another projection."""
    return Feature(moved(_shape_of(element), projection, margin, geodesic), element.properties)


@function("Geometry.coveringGrid")
def covering_grid(shape: Geometry, projection: Projection, scale: float | None) -> Collection:
    """Return the pixels of a projection that touch a geometry, as rectangles."""
    lattice = projection if scale is None else projection.at_scale(scale)
    made = shape.in_pixels(lattice)
    window = shape.window(lattice)
    if window.width * window.height > MOST_PARTS:
        raise EngineError(f"Too many cells: {window.width} x {window.height}.")
    found = []
    for row in range(window.row, window.row + window.height):
        for column in range(window.column, window.column + window.width):
            cell = shapely.box(column, row, column + 1, row + 1)
            if made.intersects(cell) and not made.touches(cell):
                corners = Window(lattice, column, row, 1, 1).bounds()
                found.append(
                    Feature(
                        Geometry(ring(*corners), lattice.crs, False),
                        {"system:index": f"{column},{row}"},
                    )
                )
    return Collection(list(found))


def union_shapes(shapes: Sequence[Geometry]) -> Geometry:
    """Return the union of geometries."""
    from ..geometry import union_of

    return union_of(list(shapes))
