"""Geometries with a coordinate system, and which pixels of a window they cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError
from .later import later
from .projection import Projection, Window, circumference, crs_of, plain, transformer

if TYPE_CHECKING:
    import shapely
    from pyproj import Geod
    from shapely.geometry.base import BaseGeometry
else:
    # Many values have no place: the library is imported with the first that has one.
    shapely = later("shapely")

__all__ = ["Geometry", "covered", "fractions", "parse_geojson"]

Floats = NDArray[Any]

# Edges are cut to pieces of at most this many degrees (or metres) before they are bent.
_PIECE_DEGREES = 0.02
_PIECE_METRES = 2000.0
MOST_VERTICES = 2_000_000
_MOST_PIECES = 256


@lru_cache(maxsize=1)
def _geod() -> Geod:
    from pyproj import Geod

    return Geod(ellps="WGS84")


class Geometry:
    """A geometry in a coordinate system.

    Parameters
    ----------
    shape : shapely geometry
        In ``crs``, x before y.
    crs : str
    geodesic : bool
        Edges are shortest paths on the Earth rather than straight in ``crs``.
    unbounded : bool
        Covers everything: the footprint of a constant image.

    Examples
    --------
    >>> Geometry(shapely.box(0, 0, 1, 1)).json()["type"]
    'Polygon'
    """

    __slots__ = ("_cache", "_pixels", "crs", "geodesic", "shape", "unbounded")

    def __init__(
        self,
        shape: BaseGeometry,
        crs: str = "EPSG:4326",
        geodesic: bool | None = None,
        unbounded: bool = False,
    ) -> None:
        count = shapely.get_num_coordinates(shape)
        if count > MOST_VERTICES:
            raise EngineError(f"Geometry has too many edges ({count} > {MOST_VERTICES}).")
        self.shape = shape
        self.crs = crs
        self.geodesic = crs_of(crs).is_geographic if geodesic is None else geodesic
        self.unbounded = unbounded
        self._cache: dict[str, BaseGeometry] = {}
        self._pixels: tuple[Projection, BaseGeometry] | None = None

    @staticmethod
    def everywhere() -> Geometry:
        """Return the geometry that covers the Earth."""
        return Geometry(shapely.box(-180, -90, 180, 90), "EPSG:4326", False, unbounded=True)

    @property
    def is_geographic(self) -> bool:
        """True where coordinates are degrees."""
        return bool(crs_of(self.crs).is_geographic)

    def in_crs(self, crs: str) -> BaseGeometry:
        """Return the shape in another coordinate system, edges bent as they should be."""
        if crs == self.crs or crs_of(crs) == crs_of(self.crs):
            if not (self.geodesic and self.is_geographic):
                return self.shape
            key = "="
        else:
            key = crs
        found = self._cache.get(key)
        if found is None:
            dense = _densified(self.shape, self.geodesic, self.is_geographic)
            found = dense if key == "=" else _reprojected(dense, self.crs, crs)
            self._cache[key] = found
        return found

    def to(self, crs: str) -> Geometry:
        """Return the geometry in another coordinate system, with straight edges there."""
        if crs == self.crs:
            return self
        return Geometry(self.in_crs(crs), crs, False)

    def lonlat(self) -> BaseGeometry:
        """Return the shape in degrees, with the vertices it has."""
        if self.is_geographic and self.crs == "EPSG:4326":
            return self.shape
        return self.in_crs("EPSG:4326")

    def in_pixels(self, projection: Projection) -> BaseGeometry:
        """Return the shape in continuous pixels of a projection."""
        # Every tile of a request asks for the same projection.
        known = self._pixels
        if known is not None and known[0] == projection:
            return known[1]
        moved = self.in_crs(projection.crs)
        made = shapely.transform(
            moved,
            lambda xy: np.column_stack(projection.to_pixels(xy[:, 0], xy[:, 1])),
        )
        self._pixels = (projection, made)
        return made

    def window(self, projection: Projection) -> Window:
        """Return the smallest window of whole pixels that holds the geometry."""
        if self.shape.is_empty:
            raise EngineError("Geometry has no area: it is empty.")
        left, top, right, bottom = self.in_pixels(projection).bounds
        if not all(map(math.isfinite, (left, top, right, bottom))):
            raise EngineError(f"Geometry cannot be expressed in the projection {projection.crs}.")
        # A bound that lies on a pixel edge but for rounding takes no further pixel in.
        c0, r0 = math.floor(left + 1e-6), math.floor(top + 1e-6)
        c1, r1 = math.ceil(right - 1e-6), math.ceil(bottom - 1e-6)
        return Window(projection, c0, r0, max(c1 - c0, 1), max(r1 - r0, 1))

    def area(self) -> float:
        """Return square metres on the WGS84 ellipsoid, or in the plane of ``crs``."""
        if self.is_geographic:
            # pyproj signs rings by direction; polygons here may run either way.
            return sum(
                abs(_geod().geometry_area_perimeter(shapely.geometry.Polygon(p.exterior))[0])
                - sum(
                    abs(_geod().geometry_area_perimeter(shapely.geometry.Polygon(hole))[0])
                    for hole in p.interiors
                )
                for p in polygons(self.shape)
            )
        return float(self.shape.area)

    def length(self, of: Callable[[BaseGeometry], bool] | None = None) -> float:
        """Return the metres of all edges."""
        total = 0.0
        for part in shapely.get_parts(_flat(self.shape)):
            if of is not None and not of(part):
                continue
            if self.is_geographic:
                lines = part.boundary if part.geom_type == "Polygon" else part
                total += abs(float(_geod().geometry_length(lines)))
            else:
                total += float(part.length)
        return total

    def json(self) -> dict[str, Any]:
        """Return GeoJSON as ``getInfo`` shows it."""
        out: dict[str, Any] = _geojson(self.shape)
        if self.unbounded:
            out = {
                "type": "Polygon",
                "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
            }
        if self.crs != "EPSG:4326":
            out["crs"] = {"type": "name", "properties": {"name": self.crs}}
        if out["type"] not in ("Point", "MultiPoint") and not self.geodesic:
            # Shown where edges are straight; without the member they are geodesic.
            out["geodesic"] = False
        return out

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Geometry)
            and self.crs == other.crs
            and bool(shapely.equals_exact(self.shape, other.shape, 0))
        )

    def __hash__(self) -> int:
        return hash((self.crs, self.shape.wkb))


def parse_geojson(value: dict[str, Any]) -> Geometry:
    """Read GeoJSON, with Earth Engine's ``geodesic`` and ``crs`` members."""
    try:
        made = shapely.geometry.shape(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        raise EngineError(f"Invalid GeoJSON geometry: {problem}") from None
    if np.isnan(shapely.get_coordinates(made)).any():
        raise EngineError("Invalid GeoJSON geometry: a coordinate is NaN.")
    crs = "EPSG:4326"
    named = value.get("crs")
    if isinstance(named, dict):
        inner = named.get("properties")
        crs = inner.get("name", crs) if isinstance(inner, dict) else crs
    elif isinstance(named, str):
        crs = named
    if not isinstance(crs, str):
        raise EngineError("Invalid GeoJSON geometry: the name of its crs is no string.")
    return Geometry(made, crs, value.get("geodesic"))


def _geojson(made: BaseGeometry) -> dict[str, Any]:
    if made.geom_type == "GeometryCollection":
        return {"type": "GeometryCollection", "geometries": [_geojson(g) for g in made.geoms]}
    if made.is_empty:
        return {"type": made.geom_type, "coordinates": []}
    raw = shapely.geometry.mapping(made)
    return {"type": raw["type"], "coordinates": _plain(raw["coordinates"])}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return plain(value)
    return [_plain(v) for v in value]


def polygons(made: BaseGeometry) -> list[Any]:
    """Return the polygons in a geometry, however deep."""
    return [p for p in shapely.get_parts(_flat(made)) if p.geom_type == "Polygon"]


def _flat(made: BaseGeometry) -> BaseGeometry:
    if made.geom_type != "GeometryCollection":
        return made
    parts: list[BaseGeometry] = []
    for part in made.geoms:
        parts.extend(shapely.get_parts(_flat(part)))
    return shapely.GeometryCollection(parts)


def _reprojected(made: BaseGeometry, source: str, target: str) -> BaseGeometry:
    change = transformer(source, target)
    moved = shapely.transform(
        made, lambda xy: np.column_stack(change.transform(xy[:, 0], xy[:, 1]))
    )
    around = circumference(target)
    if around is None or moved.is_empty:
        return moved
    left, _, right, _ = moved.bounds
    return _continuous(moved, around) if right - left > around / 2 else moved


def _continuous(made: BaseGeometry, around: float) -> BaseGeometry:
    """Lead lines that jump from one edge of a map to the other on beyond the edge."""
    return _map_lines(made, lambda xy: _unwrapped(xy, around))


def _unwrapped(xy: Floats, around: float) -> Floats:
    if not np.isfinite(xy).all() or (np.abs(np.diff(xy[:, 0])) <= around / 2).all():
        return xy
    x = np.unwrap(xy[:, 0], period=around)
    if abs((x[-1] - x[0]) - (xy[-1, 0] - xy[0, 0])) > around / 2:
        return xy  # once around a pole
    return np.column_stack([x, xy[:, 1]])


def beside(fixed: BaseGeometry, other: BaseGeometry) -> BaseGeometry:
    """Return a shape in degrees, turned around the globe to where another one is nearest.

    A box across the antimeridian goes from 170 to 190 degrees east; what lies in it at 175 west is
    at 185.

    Examples
    --------
    >>> beside(shapely.box(170, 0, 190, 10), shapely.box(-176, 2, -174, 4)).bounds
    (184.0, 2.0, 186.0, 4.0)
    """
    if fixed.is_empty or other.is_empty:
        return other
    a, b = fixed.bounds, other.bounds
    away = (a[0] + a[2] - b[0] - b[2]) / 2
    turns = 360.0 * round(away / 360.0) if math.isfinite(away) else 0.0
    return shapely.transform(other, lambda xy: xy + np.array([turns, 0.0])) if turns else other


def _densified(made: BaseGeometry, geodesic: bool, degrees: bool) -> BaseGeometry:
    if made.geom_type in ("Point", "MultiPoint") or made.is_empty:
        return made
    piece = _PIECE_DEGREES if degrees else _PIECE_METRES
    left, bottom, right, top = made.bounds
    piece = max(piece, max(right - left, top - bottom) / _MOST_PIECES)
    # Edges that go to and fro are longer than their bounds tell.
    piece = max(piece, made.length / MOST_VERTICES)
    if not (geodesic and degrees):
        with np.errstate(all="ignore"):  # corners at infinity
            return shapely.segmentize(made, piece)
    return _map_lines(made, lambda xy: _great_circles(xy, piece))


def _map_lines(made: BaseGeometry, change: Callable[[Floats], Floats]) -> BaseGeometry:
    kind = made.geom_type
    if kind == "Polygon":
        return shapely.Polygon(
            change(shapely.get_coordinates(made.exterior)),
            [change(shapely.get_coordinates(hole)) for hole in made.interiors],
        )
    if kind in ("LineString", "LinearRing"):
        return shapely.LineString(change(shapely.get_coordinates(made)))
    if kind.startswith("Multi") or kind == "GeometryCollection":
        parts = [p if p.geom_type == "Point" else _map_lines(p, change) for p in made.geoms]
        return type(made)(parts)
    return made


def _great_circles(xy: Floats, piece: float) -> Floats:
    """Put points on the great circles between vertices, at most ``piece`` degrees apart."""
    # The shortest way between two places may cross the 180th meridian.
    xy = _unwrapped(xy, 360.0)
    start, end = xy[:-1], xy[1:]
    counts = np.maximum(np.ceil(np.abs(end - start).max(axis=1) / piece), 1).astype(int)
    if (counts == 1).all():
        return xy
    edge = np.repeat(np.arange(len(start)), counts)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    t = (np.arange(len(edge)) - first[edge]) / counts[edge]
    a, b = _unit(start)[edge], _unit(end)[edge]
    angle = np.arccos(np.clip((a * b).sum(axis=1), -1, 1))
    sine = np.sin(angle)
    # Meridians, parallels too short to bend and repeated vertices: straight in degrees.
    flat = sine < 1e-9
    sine[flat] = 1
    wa = np.where(flat, 1 - t, np.sin((1 - t) * angle) / sine)
    wb = np.where(flat, t, np.sin(t * angle) / sine)
    v = a * wa[:, None] + b * wb[:, None]
    lon = np.degrees(np.arctan2(v[:, 1], v[:, 0]))
    lat = np.degrees(np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1])))
    straight = start[edge] * (1 - t)[:, None] + end[edge] * t[:, None]
    lon += np.round((straight[:, 0] - lon) / 360) * 360
    out = np.column_stack([lon, lat])
    # Vertices, and edges along meridians, keep their exact coordinates.
    keep = (t == 0) | (start[edge, 0] == end[edge, 0])
    out[keep] = straight[keep]
    return np.vstack([out, xy[-1:]])


def _unit(xy: Floats) -> Floats:
    lon, lat = np.radians(xy[:, 0]), np.radians(xy[:, 1])
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _edges(made: BaseGeometry, oriented: bool) -> Floats:
    """Return the edges of all rings as rows (x0, y0, x1, y1)."""
    rows: list[Floats] = []
    for polygon in polygons(made):
        for number, ring in enumerate([polygon.exterior, *polygon.interiors]):
            xy = shapely.get_coordinates(ring)
            if oriented:
                x, y = xy[:, 0] - xy[0, 0], xy[:, 1] - xy[0, 1]
                area = float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))
                if (area < 0) != (number > 0):
                    xy = xy[::-1]
            rows.append(np.hstack([xy[:-1], xy[1:]]))
    return np.vstack(rows) if rows else np.empty((0, 4))


def _spread(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (which, place): each i repeated counts[i] times, and 0.. within each."""
    which = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - first[which]


def covered(made: BaseGeometry, window: Window) -> NDArray[np.bool_]:
    """Return which pixel centres lie inside, by even-odd crossings.

    Parameters
    ----------
    made : shapely geometry
        In continuous pixels of ``window.projection``; polygons count, points and lines mark
        the pixels that hold them.
    window : Window

    Returns
    -------
    ndarray of bool, (height, width)
        A centre on a left or upper edge is inside, one on a right or lower edge outside.

    Examples
    --------
    >>> covered(shapely.box(0, 0, 2, 1), Window(Projection("EPSG:3857"), 0, 0, 3, 2)).astype(int)
    array([[1, 1, 0],
           [0, 0, 0]])
    """
    h, w = window.shape
    out: NDArray[np.bool_] = np.zeros((h, w), bool)
    edges = _edges(made, oriented=False)
    if len(edges):
        low = np.minimum(edges[:, 1], edges[:, 3])
        high = np.maximum(edges[:, 1], edges[:, 3])
        first = np.clip(np.ceil(low - 0.5) - window.row, 0, h).astype(np.int64)
        last = np.clip(np.ceil(high - 0.5) - window.row, 0, h).astype(np.int64)
        edge, place = _spread(np.maximum(last - first, 0))
        row = first[edge] + place
        x0, y0, x1, y1 = edges[edge].T
        x = x0 + (row + window.row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        # Corners at infinity cross rows nowhere.
        column = np.clip(np.nan_to_num(np.ceil(x - 0.5) - window.column), 0, w).astype(np.int64)
        toggles = np.bincount(row * (w + 1) + column, minlength=h * (w + 1))
        out = (np.cumsum(toggles.reshape(h, w + 1), axis=1)[:, :w] & 1).astype(bool)
    cells = _thin_cells(made, window)
    if len(cells):
        out[cells[:, 0], cells[:, 1]] = True
    return out


def fractions(made: BaseGeometry, window: Window) -> NDArray[np.float32]:
    """Return the share of each pixel that is covered, to 1/256.

    Parameters
    ----------
    made : shapely geometry
        In continuous pixels of ``window.projection``.
    window : Window

    Returns
    -------
    ndarray of float32, (height, width)
        Points and lines give 1 to the pixels that hold them.

    Examples
    --------
    >>> fractions(shapely.box(0.5, 0, 2, 1), Window(Projection("EPSG:3857"), 0, 0, 3, 1))
    array([[0.5, 1. , 0. ]], dtype=float32)
    """
    h, w = window.shape
    edges = _edges(made, oriented=True)
    out: Floats = np.zeros((h, w))
    if len(edges):
        x0, y0, x1, y1 = _pieces(edges, window)
        row = np.floor((y0 + y1) / 2).astype(np.int64) - window.row
        middle = (x0 + x1) / 2 - window.column
        inside = (row >= 0) & (row < h)
        row, middle, rise = row[inside], middle[inside], (y1 - y0)[inside]
        column = np.floor(middle)
        # What lies left of the window covers all of its columns, right of it none.
        share = np.where(column < 0, 1.0, 1.0 - (middle - column))
        column = np.clip(np.nan_to_num(column), 0, w).astype(np.int64)
        flat = row * (w + 2) + column
        gain = np.bincount(flat, rise * share, minlength=h * (w + 2))
        gain += np.bincount(flat + 1, rise * (1 - share), minlength=h * (w + 2))
        out = -np.cumsum(gain.reshape(h, w + 2), axis=1)[:, :w]
    out = np.clip(np.round(np.abs(out) * 256) / 256, 0, 1)
    cells = _thin_cells(made, window)
    if len(cells):
        out[cells[:, 0], cells[:, 1]] = 1
    return out.astype(np.float32)


def _pieces(edges: Floats, window: Window) -> tuple[Floats, Floats, Floats, Floats]:
    """Cut edges at every pixel border in or beside the window."""
    edges = _clip_rows(edges, window.row, window.row + window.height)
    cuts: list[tuple[NDArray[np.int64], Floats]] = [
        (np.arange(len(edges)), np.zeros(len(edges))),
        (np.arange(len(edges)), np.ones(len(edges))),
    ]
    for axis, low, high in (
        (0, window.column, window.column + window.width),
        (1, window.row, window.row + window.height),
    ):
        a, b = edges[:, axis], edges[:, axis + 2]
        first = np.clip(np.floor(np.minimum(a, b)) + 1, low, high + 1).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(a, b)) - 1, low - 1, high).astype(np.int64)
        edge, place = _spread(np.maximum(last - first + 1, 0))
        line = first[edge] + place
        cuts.append((edge, (line - a[edge]) / (b[edge] - a[edge])))
    edge = np.concatenate([c[0] for c in cuts])
    t = np.clip(np.concatenate([c[1] for c in cuts]), 0, 1)
    order = np.lexsort((t, edge))
    edge, t = edge[order], t[order]
    x0, y0, x1, y1 = edges[edge].T
    x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
    same = edge[1:] == edge[:-1]
    return x[:-1][same], y[:-1][same], x[1:][same], y[1:][same]


def _clip_rows(edges: Floats, low: float, high: float) -> Floats:
    """Keep the parts of edges between two rows."""
    y0, y1 = edges[:, 1], edges[:, 3]
    near = (np.maximum(y0, y1) > low) & (np.minimum(y0, y1) < high)
    edges = edges[near].copy()
    for end, other in ((1, 3), (3, 1)):
        y = edges[:, end]
        for limit, out in ((low, y < low), (high, y > high)):
            if out.any():
                part = edges[out]
                t = (limit - part[:, end]) / (part[:, other] - part[:, end])
                edges[out, end - 1] = part[:, end - 1] + t * (part[:, other - 1] - part[:, end - 1])
                edges[out, end] = limit
                y = edges[:, end]
    return edges


def _thin_cells(made: BaseGeometry, window: Window) -> NDArray[np.int64]:
    """Return (row, column) of the pixels that hold points and lines."""
    cells: list[NDArray[np.int64]] = []
    for part in shapely.get_parts(_flat(made)):
        if part.geom_type == "Point":
            xy = shapely.get_coordinates(part)
        elif part.geom_type in ("LineString", "LinearRing"):
            line = shapely.get_coordinates(part)
            x0, y0, x1, y1 = _pieces(np.hstack([line[:-1], line[1:]]), window)
            # A level line has no height: _clip_rows drops none of it inside the window.
            xy = np.column_stack([(x0 + x1) / 2, (y0 + y1) / 2])
        else:
            continue
        cells.append(np.floor(xy[:, ::-1]).astype(np.int64) - [window.row, window.column])
    if not cells:
        return np.empty((0, 2), np.int64)
    found = np.vstack(cells)
    inside = (
        (found[:, 0] >= 0)
        & (found[:, 0] < window.height)
        & (found[:, 1] >= 0)
        & (found[:, 1] < window.width)
    )
    return found[inside]


@lru_cache(maxsize=64)
def local_crs(lon: float, lat: float) -> str:
    """Return an equidistant coordinate system in metres around a point."""
    return f"+proj=aeqd +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m"


def plane_of(geometries: Iterable[Geometry]) -> str:
    """Return the coordinate system in which to measure geometries that lie together."""
    found = list(geometries)
    first = found[0]
    if not first.is_geographic:
        return first.crs
    x, y = first.shape.centroid.coords[0] if not first.shape.is_empty else (0.0, 0.0)
    return local_crs(round(x, 3), round(y, 3))


def union_of(geometries: Sequence[Geometry]) -> Geometry:
    """Return the union, in the coordinate system of the first."""
    if not geometries:
        return Geometry(shapely.MultiPolygon(), "EPSG:4326", False)
    if any(g.unbounded for g in geometries):
        return Geometry.everywhere()
    first = geometries[0]
    shapes = [g.shape if g.crs == first.crs else g.in_crs(first.crs) for g in geometries]
    return Geometry(shapely.union_all(shapes), first.crs, first.geodesic)
