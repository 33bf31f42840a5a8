"""Least costs of a path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import BlockNode, Image, full, unique_names
from ..pixels import Array, Band, Context, Limits, Pixels
from ..projection import Projection, Window, transformer
from ..types import DOUBLE
from .registry import function

__all__: list[str] = []


@function("Image.cumulativeCost")
def cumulative_cost(cost: Image, source: Image, most: float, geodetic: bool) -> Image:
    """Return the least cost of a path to a source pixel, up to a distance in metres ([A]).

    A step to one of the eight neighbours costs its length times the mean of the two pixels;
    masked pixels and those of negative cost are no way. Lengths are those on a sphere of
    6378137 m, or in the plane of the projection. Further bands hold what the same path costs
    there.

    Earth Engine does not say what path a ``maxDistance`` leaves out. Here pixels are masked
    whose nearest source is farther away, and paths are sought among the pixels that lie no
    farther than that from an aligned block of the output. Above a fifth of `Limits.max_pixels`
    (a reach of some 650 pixels) that is refused.
    """
    if not most > 0:
        raise EngineError(f"maxDistance must be positive, not {most}.")
    if not cost.bands:
        raise EngineError("The cost image has no bands.")
    seeds = source.bands[0]

    def compute(context: Context, block: Window, inputs: Sequence[Band]) -> list[Pixels]:
        area, across, down = _search_area(block, most, geodetic, context.limits)
        prices = [full(context.read(b, area), area) for b in inputs[:-1]]
        start = full(context.read(inputs[-1], area), area)
        way = np.ones(area.shape, bool)
        for price in prices:
            ok = kernels.valid(price.mask)
            way &= np.isfinite(price.data) & (price.data >= 0)
            if ok is not None:
                way &= ok
        on = (start.data != 0) & way
        seen = kernels.valid(start.mask)
        if seen is not None:
            on &= seen
        top, left = block.row - area.row, block.column - area.column
        shown = np.s_[top : top + block.height, left : left + block.width]
        if not on.any():
            return [Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool)) for _ in prices]
        costs = _least_costs([p.data for p in prices], way, on, _Lengths(area, geodetic))
        near = _nearest_source(area, on, shown, (across, down), geodetic) <= most
        mask = near & np.isfinite(costs[0][shown])
        return [Pixels(np.where(mask, c[shown], 0), mask) for c in costs]

    node = _CostNode(compute, [*cost.bands, seeds], [DOUBLE] * len(cost.bands))
    names = unique_names([], ["cumulative_cost"] * len(cost.bands))
    return cost.derived(
        [b.computed(DOUBLE, node, k).renamed(names[k]) for k, b in enumerate(cost.bands)]
    )


class _CostNode(BlockNode):
    """Least costs in blocks that are large enough for their borders to be worth it."""

    side = 512


_SPHERE = 6378137.0
# A path is sought in a graph, which takes this many times the room of a pixel elsewhere.
_GRAPH = 5


def _search_area(
    block: Window, most: float, geodetic: bool, limits: Limits
) -> tuple[Window, float, float]:
    """Return the block with all pixels in reach, and the least metres across and down one."""
    lengths = _Lengths(block, geodetic)
    across, down = float(lengths.of(0).min()), float(lengths.of(1).min())
    # Meridians draw together towards the far end of the reach.
    columns, rows = (math.ceil(1.1 * most / max(v, 1e-6)) + 1 for v in (across, down))
    limits.check(_GRAPH * (block.width + 2 * columns), block.height + 2 * rows)
    return block.pad(columns, rows), across, down


# Neighbours (row, column) to the right and below; the others are the same steps back.
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def _pair(dr: int, dc: int) -> tuple[Any, Any]:
    """Return the slices of all pixels that have a neighbour at a step, and of those."""
    if dc < 0:
        return np.s_[: -dr or None, -dc:], np.s_[dr:, :dc]
    return np.s_[: -dr or None, : -dc or None], np.s_[dr:, dc:]


class _Lengths:
    """Metres from every pixel of a window to its neighbours.

    Exact where knots lie, every 3 km or nearer; between them lengths change too slowly to err.
    """

    def __init__(self, window: Window, geodetic: bool) -> None:
        self.window, self.geodetic = window, geodetic
        self.knot = 2 ** int(np.clip(math.log2(3000 / window.projection.nominal_scale), 0, 5))
        self.rows, self.columns = (
            np.arange(start // self.knot, (start + size) // self.knot + 2) * self.knot
            for start, size in ((window.row, window.height), (window.column, window.width))
        )
        self.places = np.meshgrid(self.columns + 0.5, self.rows + 0.5)
        if geodetic:
            self.lonlat = _lonlat(window.projection, *self.places)

    def of(self, k: int) -> Array:
        """Return the lengths of step ``k``, for all pixels that have that neighbour."""
        dr, dc = _STEPS[k]
        projection, window, knot = self.window.projection, self.window, self.knot
        if not self.geodetic:
            a, b, _, d, e, _ = projection.transform
            unit = projection.nominal_scale / math.sqrt(abs(a * e - b * d))
            return np.full((1, 1), unit * math.hypot(a * dc + b * dr, d * dc + e * dr))
        cc, rr = self.places
        length = _arc(*self.lonlat, *_lonlat(projection, cc + dc, rr + dr))
        # From the first pixel on that has the neighbour.
        height, width = window.height - dr, window.width - abs(dc)
        first = window.column + max(-dc, 0)
        u, i = np.modf((np.arange(height) + window.row - self.rows[0]) / knot)
        v, j = np.modf((np.arange(width) + first - self.columns[0]) / knot)
        i, j, u = i.astype(int), j.astype(int), u[:, None]
        lines = length[i] * (1 - u) + length[i + 1] * u
        out: Array = lines[:, j] * (1 - v) + lines[:, j + 1] * v
        return out


def _lonlat(projection: Projection, columns: Array, rows: Array) -> tuple[Array, Array]:
    """Return longitude and latitude in radians of places on a projection."""
    x, y = projection.to_crs(columns, rows)
    lon, lat = transformer(projection.crs, "EPSG:4326").transform(x, y)
    return np.radians(lon), np.radians(lat)


def _arc(lon: Array, lat: Array, lon2: Array, lat2: Array) -> Array:
    """Return metres between places in radians, by the haversine formula."""
    half = (
        np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    )
    out: Array = 2 * _SPHERE * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
    return out


def _least_costs(prices: Sequence[Array], way: Array, on: Array, lengths: _Lengths) -> list[Array]:
    """Return the cost of the cheapest path by the first price, in every price.

    Parameters
    ----------
    prices : list of (h, w)
    way, on : bool (h, w)
        Where paths may lead, and where they begin.
    lengths : _Lengths
        Of the steps.

    Returns
    -------
    list of float64 (h, w)
        Infinite where no path leads.
    """
    from scipy.sparse.csgraph import dijkstra

    number = np.full(way.shape, -1, np.int32)
    count = int(np.count_nonzero(way))
    number[way] = np.arange(count, dtype=np.int32)
    seeds = number[on]
    graph = _graph(prices[0], way, number, count, lengths)
    del number
    more = len(prices) > 1
    got = dijkstra(graph, directed=False, indices=seeds, return_predecessors=more, min_only=True)
    found, before = got[:2] if more else (got, None)
    out = [np.full(way.shape, np.inf) for _ in prices]
    out[0][way] = found
    if before is None:
        return out
    rows, columns = np.nonzero(way)
    linked = before >= 0
    last = np.where(linked, before, np.arange(count))
    length = _step_lengths(way.shape, lengths, rows, columns, last)
    for k in range(1, len(prices)):
        values = prices[k][way].astype(float)
        # What the last step costs, then what two, four... steps cost.
        total = np.where(linked, length * (values + values[last]) / 2, 0.0)
        back = last
        while True:
            onward = back[back]
            if (onward == back).all():
                break
            total = total + total[back]
            back = onward
        out[k][way] = np.where(np.isfinite(found), total, np.inf)
    return out


def _graph(price: Array, way: Array, number: Array, count: int, lengths: _Lengths) -> Any:
    """Return the steps between pixels as a sparse matrix, each step once."""
    from scipy.sparse import csr_array

    ends = np.empty((count, len(_STEPS)), np.int32)
    ends[:] = -1
    costs = np.empty((count, len(_STEPS)))
    for k, (dr, dc) in enumerate(_STEPS):
        here, there = _pair(dr, dc)
        both = way[here] & way[there]
        start = number[here][both]
        ends[start, k] = number[there][both]
        mean = (price[here].astype(float) + price[there]) / 2
        costs[start, k] = (mean * lengths.of(k))[both]
    known = ends >= 0
    pointers = np.zeros(count + 1, np.int32)
    np.cumsum(known.sum(axis=1), out=pointers[1:])
    return csr_array((costs[known], ends[known], pointers), shape=(count, count))


def _step_lengths(
    shape: tuple[int, int], lengths: _Lengths, rows: Array, columns: Array, last: Array
) -> Array:
    """Return the metres from every pixel to the one before it on its path."""
    dr, dc = rows - rows[last], columns - columns[last]
    out = np.zeros(len(rows))
    for k, (r, c) in enumerate(_STEPS):
        whole = np.zeros(shape)
        whole[_pair(r, c)[0]] = lengths.of(k)
        ahead = (dr == r) & (dc == c)
        out[ahead] = whole[rows[last[ahead]], columns[last[ahead]]]
        behind = (dr == -r) & (dc == -c)
        out[behind] = whole[rows[behind], columns[behind]]
    return out


def _nearest_source(
    area: Window,
    on: Array,
    shown: tuple[slice, slice],
    pixel: tuple[float, float],
    geodetic: bool,
) -> Array:
    """Return metres in a straight line to the nearest source, of a part of an area."""
    from scipy import ndimage

    found = ndimage.distance_transform_edt(
        ~on, sampling=(pixel[1], pixel[0]), return_distances=False, return_indices=True
    )
    rows, columns = (v[shown] for v in found)
    r, c = np.mgrid[shown]
    projection = area.projection
    if geodetic:
        here = _lonlat(projection, area.column + c + 0.5, area.row + r + 0.5)
        there = _lonlat(projection, area.column + columns + 0.5, area.row + rows + 0.5)
        return _arc(*here, *there)
    a, b, _, d, e, _ = projection.transform
    unit = projection.nominal_scale / math.sqrt(abs(a * e - b * d))
    dr, dc = rows - r, columns - c
    out: Array = unit * np.hypot(a * dc + b * dr, d * dc + e * dr)
    return out
