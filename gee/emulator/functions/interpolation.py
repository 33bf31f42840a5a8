"""Values between points: inverse distances and kriging.

Distances are those on the Earth, from chords between points of the WGS84 ellipsoid made into
arcs of its mean radius: to a part in 10^4 over 500 km.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..budget import tick, work
from ..errors import EngineError
from ..image import Image, WindowNode
from ..pixels import Array, Band, Pixels
from ..projection import WGS84, Window
from ..reducers import Reducer
from ..types import DOUBLE
from ..values import Collection, geometry_of
from .registry import function
from .sources import lonlat_of

__all__ = ["semivariance"]

_RADIUS = 6_371_008.8
# Distances held at a time: pixels of a tile are taken in parts.
_DISTANCES = 2**22
_MOST_POINTS = 100_000
# Metres within which a pixel's centre is the point's place.
_SAME = 1e-3


def _space(lon: Array, lat: Array) -> Array:
    """Return (n, 3) places in metres from the middle of the Earth."""
    a, square = 6378137.0, 0.00669437999014
    x, y = np.radians(lon), np.radians(lat)
    across = a / np.sqrt(1 - square * np.sin(y) ** 2)
    return np.column_stack(
        [
            across * np.cos(y) * np.cos(x),
            across * np.cos(y) * np.sin(x),
            across * (1 - square) * np.sin(y),
        ]
    )


def _arc(chord: Array) -> Array:
    return np.asarray(2 * _RADIUS * np.arcsin(np.minimum(chord / (2 * _RADIUS), 1)))


def _chord(arc: float) -> float:
    return float(2 * _RADIUS * np.sin(min(arc / (2 * _RADIUS), np.pi / 2)))


class _Points:
    """The points of a collection with their values; those in one place made one."""

    def __init__(self, items: Collection, name: str, reducer: Reducer | None) -> None:
        from scipy.spatial import cKDTree

        values: dict[tuple[float, float], list[float]] = {}
        for item in items:
            shape, value = geometry_of(item), item.properties.get(name)
            if shape is None or shape.shape.is_empty or value is None:
                continue
            if not isinstance(value, (int, float)):
                raise EngineError(f"Property '{name}' must be a number, not '{value}'.")
            place = shape.lonlat()
            middle = place if place.geom_type == "Point" else place.centroid
            values.setdefault((middle.x, middle.y), []).append(float(value))
        if len(values) > _MOST_POINTS:
            raise EngineError(f"Too many points: {len(values)} > {_MOST_POINTS}.")
        places = np.asarray(list(values), float).reshape(-1, 2)
        self.values = np.asarray([_collapsed(v, reducer) for v in values.values()])
        self.space = _space(places[:, 0], places[:, 1])
        self.tree = cKDTree(self.space) if len(places) else None

    def near(self, window: Window, reach: float) -> tuple[Array, Array]:
        """Return the points that any pixel of a window may reach, and places of all pixels."""
        lon, lat = (np.broadcast_to(v, window.shape).ravel() for v in lonlat_of(window))
        places = _space(lon, lat)
        good = np.isfinite(places).all(axis=1)
        if self.tree is None or not good.any():
            return np.empty(0, np.int64), places
        middle = (places[good].min(axis=0) + places[good].max(axis=0)) / 2
        most = float(np.sqrt(((places[good] - middle) ** 2).sum(axis=1)).max())
        found = self.tree.query_ball_point(middle, most + _chord(reach) + 1)
        return np.sort(np.asarray(found, np.int64)), places


def _collapsed(values: Sequence[float], reducer: Reducer | None) -> float:
    if len(values) == 1 and reducer is None:
        return values[0]
    if reducer is None:
        return float(np.mean(values))
    found = reducer.reduce([np.asarray(values, float)])[0]
    if not isinstance(found, (int, float)):
        raise EngineError("The reducer must give a number.")
    return float(found)


def _estimated(
    points: _Points,
    reach: float,
    names: Sequence[str],
    estimate: Callable[[Array, Array], Sequence[Array]],
) -> Image:
    """Return an image of what ``estimate`` makes of distances and values, pixel by pixel.

    It is handed distances (pixels, points), infinite beyond reach, and the points' numbers;
    NaN is masked.
    """

    def compute(window: Window) -> Sequence[Pixels]:
        near, places = points.near(window, reach)
        count = window.width * window.height
        out = np.full((len(names), count), np.nan)
        step = max(_DISTANCES // max(len(near), 1), 1)
        for at in range(0, count, step) if len(near) else ():
            tick()
            part = slice(at, min(at + step, count))
            square = np.zeros((part.stop - at, len(near)))
            for axis in range(3):
                square += (places[part, axis, None] - points.space[near, axis]) ** 2
            far = _arc(np.sqrt(square))
            far[far < _SAME] = 0
            far[~(far <= reach)] = np.inf
            for k, found in enumerate(estimate(far, near)):
                out[k, part] = found
        ok = np.isfinite(out)
        return [
            Pixels(np.where(o, v, 0).reshape(window.shape), o.reshape(window.shape))
            for v, o in zip(out, ok, strict=True)
        ]

    node = WindowNode(compute)
    return Image([Band(name, DOUBLE, WGS84, node, k) for k, name in enumerate(names)])


@function("FeatureCollection.inverseDistance")
def inverse_distance(
    items: Collection,
    reach: float,
    name: str,
    mean: float,
    deviation: float,
    gamma: float,
    reducer: Reducer | None,
) -> Image:
    """Return the mean of the points within range, weighted by one over the distance.

    The global mean takes part with the weight that a point at ``range / gamma`` has: far from
    all points the estimate tends to it, the sooner the larger gamma. Earth Engine's own rule
    is not documented; the global deviation has no part in this one. One band, 'estimate',
    masked where no point is within range.
    """
    if not reach > 0 or not gamma >= 0 or not deviation >= 0:
        raise EngineError("range must be positive, gamma and stdDev not negative.")
    points = _Points(items, name, reducer)

    def estimate(far: Array, near: Array) -> Sequence[Array]:
        weight, total = np.full(len(far), gamma), np.full(len(far), gamma * mean)
        exact = np.full(len(far), np.nan)
        seen = np.zeros(len(far), bool)
        for k, number in enumerate(near):
            value = points.values[number]
            here = far[:, k] == 0
            exact[here] = value
            share = reach / np.where(here, np.inf, far[:, k])
            weight += share
            total += share * value
            seen |= np.isfinite(far[:, k])
        mixed = np.divide(total, weight, out=np.full(len(far), np.nan), where=seen & (weight > 0))
        return [np.where(np.isnan(exact), mixed, exact)]

    return _estimated(points, reach, ("estimate",), estimate)


_SHAPES: dict[str, Callable[[Array], Array]] = {
    "exponential": lambda h: 1 - np.exp(-3 * h),
    "gaussian": lambda h: 1 - np.exp(-3 * h**2),
    "spherical": lambda h: np.where(h < 1, 1.5 * h - 0.5 * h**3, 1.0),
}


def semivariance(far: Array, shape: str, reach: float, sill: float, nugget: float) -> Array:
    """Return half the expected squared difference of values so far apart.

    Parameters
    ----------
    far : array of float64
        Metres.
    shape : {"exponential", "gaussian", "spherical"}
        The first two come to 95 % of their way at the range.
    reach, sill, nugget : float
        The sill holds the nugget; at distance 0 there is no difference.

    Examples
    --------
    >>> semivariance(np.array([0.0, 50.0, 200.0]), "spherical", 100.0, 3.0, 1.0).tolist()
    [0.0, 2.375, 3.0]
    """
    found = nugget + (sill - nugget) * _SHAPES[shape](far / reach)
    return np.where(far > 0, found, 0.0)


@function("FeatureCollection.kriging")
def kriging(
    items: Collection,
    name: str,
    shape: str,
    reach: float,
    sill: float,
    nugget: float,
    most: float | None,
    reducer: Reducer | None,
) -> Image:
    """Return the ordinary kriging estimate and its variance, from the points within reach.

    Bands 'estimate' and 'variance', masked where no point is within ``maxDistance``.
    """
    shape = shape.lower()
    if shape not in _SHAPES:
        raise EngineError(f"Unknown shape '{shape}': {', '.join(_SHAPES)}.")
    if not reach > 0 or not nugget >= 0 or not sill > nugget:
        raise EngineError("range must be positive, nugget not negative and sill above it.")
    points = _Points(items, name, reducer)
    limit = reach if most is None else most

    def between(near: Array) -> Array:
        """Return the matrix of an ordinary kriging system, inverted."""
        place = points.space[near]
        gap = place[:, None, :] - place[None, :, :]
        size = len(near)
        matrix = np.ones((size + 1, size + 1))
        matrix[:size, :size] = semivariance(
            _arc(np.sqrt((gap**2).sum(axis=2))), shape, reach, sill, nugget
        )
        matrix[size, size] = 0
        return np.asarray(np.linalg.pinv(matrix, hermitian=True))

    def estimate(far: Array, near: Array) -> Sequence[Array]:
        inside = np.isfinite(far)
        out, variance = np.full(len(far), np.nan), np.full(len(far), np.nan)
        # Pixels that reach the same points share one system.
        groups, member = np.unique(inside, axis=0, return_inverse=True)
        member = np.asarray(member).ravel()
        for number, group in enumerate(groups):
            used = near[group]
            if not len(used):
                continue
            work(10.0 * len(used) ** 3)
            rows = member == number
            inverse = between(used)
            steps = semivariance(far[rows][:, group], shape, reach, sill, nugget)
            # Added point by point, so that a pixel does not depend on those beside it.
            own = np.append(points.values[used], 0.0) @ inverse
            value, error = np.full(rows.sum(), own[-1]), np.zeros(rows.sum())
            columns = [*steps.T, np.ones(rows.sum())]
            for i, column in enumerate(columns[:-1]):
                value += column * own[i]
            for i, column in enumerate(columns):
                part = np.zeros(rows.sum())
                for j, other in enumerate(columns):
                    part += inverse[i, j] * other
                error += column * part
            out[rows], variance[rows] = value, np.maximum(error, 0)
        return [out, variance]

    return _estimated(points, limit, ("estimate", "variance"), estimate)
