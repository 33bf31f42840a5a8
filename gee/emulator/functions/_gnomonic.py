"""The plane in which great circles are straight: geodesic shapes combined without bending them.

Geodesic edges are great circles of the sphere of geodetic latitudes, as in S2 geometry. The
gnomonic projection (J. P. Snyder, 1987, USGS Professional Paper 1395, p. 164) shows them as
straight lines, so polygons with such edges intersect there exactly as they do on the sphere,
and vertices that stay keep their coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = ["Gnomonic", "gnomonic_of"]

Floats = NDArray[np.float64]

# Farther from the centre the plane stretches more than thirtyfold.
_LEAST_COSINE = 0.17
# Some micrometres on the ground.
_NEAR = 1e-12


class Gnomonic:
    """A gnomonic plane that remembers which degrees its vertices came from.

    Parameters
    ----------
    centre : ndarray, (3,)
        Unit vector of the point of contact.
    """

    def __init__(self, centre: Floats) -> None:
        self._centre = centre
        pole = np.array([0.0, 0.0, 1.0]) if abs(centre[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
        east = np.cross(pole, centre)
        self._east = east / np.linalg.norm(east)
        self._north = np.cross(centre, self._east)
        self._known: dict[tuple[float, float], tuple[float, float]] = {}
        self._tree: shapely.STRtree | None = None
        self._degrees: list[tuple[float, float]] = []
        self._longitude = float(np.degrees(np.arctan2(centre[1], centre[0])))

    def forward(self, shape: BaseGeometry) -> BaseGeometry:
        """Return a shape in degrees as one in the plane."""
        return shapely.transform(shape, self._forward)

    def back(self, shape: BaseGeometry) -> BaseGeometry:
        """Return a shape of the plane in degrees."""
        return shapely.transform(self._tidied(shape), self._back)

    def _tidied(self, shape: BaseGeometry) -> BaseGeometry:
        """Drop new vertices in the middle of straight edges.

        Edges on one great circle differ by the rounding of their ends and cross somewhere.
        """
        if shape.geom_type == "Polygon":
            rings = [self._straightened(r) for r in (shape.exterior, *shape.interiors)]
            return shapely.Polygon(rings[0], rings[1:]) if rings[0] is not None else shape
        if shape.geom_type in ("MultiPolygon", "GeometryCollection"):
            return type(shape)([self._tidied(part) for part in shape.geoms])
        return shape

    def _straightened(self, ring: BaseGeometry) -> Floats | None:
        xy: Floats = shapely.get_coordinates(ring)[:-1]
        if len(xy) < 4:
            return np.vstack([xy, xy[:1]]) if len(xy) else None
        before, after = np.roll(xy, 1, axis=0), np.roll(xy, -1, axis=0)
        along, out = after - before, xy - before
        length = np.hypot(along[:, 0], along[:, 1])
        off = np.abs(along[:, 0] * out[:, 1] - along[:, 1] * out[:, 0])
        new = np.array([self._nearest(place) is None for place in map(tuple, xy)])
        keep = ~(new & (off <= _NEAR * length))
        kept = xy[keep] if keep.sum() >= 3 else xy
        return np.vstack([kept, kept[:1]])

    def _nearest(self, place: tuple[float, float]) -> tuple[float, float] | None:
        """Return the degrees of a vertex at a place, but for rounding."""
        found = self._known.get(place)
        if found is None and self._known:
            if self._tree is None:
                self._tree = shapely.STRtree(shapely.points(list(self._known)))
                self._degrees = list(self._known.values())
            x, y = place
            near = self._tree.query(shapely.box(x - _NEAR, y - _NEAR, x + _NEAR, y + _NEAR))
            found = self._degrees[int(near[0])] if len(near) else None
        return found

    def _forward(self, degrees: Floats) -> Floats:
        if not len(degrees):
            return degrees
        vectors = _vectors(degrees)
        depth = vectors @ self._centre
        plane = np.column_stack([vectors @ self._east / depth, vectors @ self._north / depth])
        self._tree = None
        self._known.update(zip(map(tuple, plane), map(tuple, degrees), strict=True))
        return plane

    def _back(self, plane: Floats) -> Floats:
        if not len(plane):
            return plane
        vectors = self._centre + plane[:, :1] * self._east + plane[:, 1:] * self._north
        longitude = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))
        longitude += np.round((self._longitude - longitude) / 360) * 360
        latitude = np.degrees(np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1])))
        made = np.column_stack([longitude, latitude])
        for row, place in enumerate(map(tuple, plane)):
            known = self._nearest(place)
            if known is not None:
                made[row] = known
        return made


def gnomonic_of(shapes: Sequence[BaseGeometry]) -> Gnomonic | None:
    """Return a plane for shapes in degrees, or None where they span most of a hemisphere.

    Examples
    --------
    >>> plane = gnomonic_of([shapely.box(-60, 50, 60, 60)])
    >>> plane.forward(shapely.box(-60, 50, 60, 60)).contains(plane.forward(shapely.Point(0, 55)))
    False
    """
    degrees: Any = np.concatenate([shapely.get_coordinates(s) for s in shapes])
    if not len(degrees) or np.abs(degrees[:, 1]).max() > 90:
        return None
    vectors = _vectors(degrees)
    total = vectors.sum(axis=0)
    length = float(np.linalg.norm(total))
    if length < 1e-6 * len(vectors) or np.ptp(degrees[:, 0]) >= 180:
        return None
    centre = total / length
    return Gnomonic(centre) if (vectors @ centre).min() > _LEAST_COSINE else None


def _vectors(degrees: Floats) -> Floats:
    longitude, latitude = np.radians(degrees[:, 0]), np.radians(degrees[:, 1])
    return np.column_stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
