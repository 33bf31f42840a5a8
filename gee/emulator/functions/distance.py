"""Distances to the nearest pixel, and least costs of a path."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import BlockNode, HaloNode, Image, full, unique_names
from ..pixels import Array, Band, Context, Limits, Node, Pixels
from ..projection import Projection, Window, transformer
from ..types import DOUBLE, FLOAT, PixelType
from .focal import inner
from .kernels import Kernel, cells, offsets
from .registry import function

__all__: list[str] = []


def _squared(on: Array, metric: str) -> Array:
    from scipy import ndimage

    if not on.any():
        return np.full(on.shape, np.inf)
    if metric == "squared_euclidean":
        rows, columns = ndimage.distance_transform_edt(
            ~on, return_distances=False, return_indices=True
        )
        h, w = on.shape
        dr = rows - np.arange(h)[:, None]
        dc = columns - np.arange(w)[None, :]
        return (dr.astype(np.int64) ** 2 + dc.astype(np.int64) ** 2).astype(float)
    name = {"manhattan": "taxicab", "chebyshev": "chessboard"}[metric]
    return ndimage.distance_transform_cdt(~on, name).astype(float)


@function("Image.fastDistanceTransform")
def fast_distance_transform(image: Image, size: int, units: str, metric: str) -> Image:
    """Return the distance to the nearest pixel other than 0 (squared by default).

    Within ``size`` pixels, whatever the mask of the input ([A]). Beyond, Earth Engine's
    value is not documented: here it is that of the neighbourhood's rim.
    """
    if metric not in ("squared_euclidean", "manhattan", "chebyshev"):
        raise EngineError(f"Unknown metric '{metric}': squared_euclidean, manhattan or chebyshev.")
    if units != "pixels":
        raise EngineError("Only 'pixels' are supported as units.")
    size = max(size, 1)
    most = float(size) ** 2 if metric == "squared_euclidean" else float(size)

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        on = pixels.data != 0
        ok = kernels.valid(pixels.mask)
        if ok is not None:
            on = on & ok
        found = _squared(on, metric)[size:-size, size:-size]
        return [Pixels(np.minimum(found, most), None)]

    bands = []
    for b in image.bands[:1]:
        kind = PixelType("float")
        bands.append(b.computed(kind, HaloNode(compute, [b], size)).renamed("distance"))
    return image.derived(bands)


_MEASURES: dict[str, Callable[[Array, Array], Array]] = {
    "euclidean": np.hypot,
    "manhattan": lambda r, c: np.abs(r) + np.abs(c),
    "chebyshev": lambda r, c: np.maximum(np.abs(r), np.abs(c)),
}


class _DistanceNode(Node):
    """Distances within a kernel's radius, in the kernel's units."""

    __slots__ = ("kernel", "skip")

    def __init__(self, band: Band, kernel: Kernel, skip: bool) -> None:
        super().__init__([band])
        self.kernel, self.skip = kernel, skip

    def _radius(self, projection: Projection) -> tuple[float, float]:
        """Return the radius in pixels and the size of a pixel in the kernel's units."""
        pixel = projection.nominal_scale if self.kernel.units == "meters" else 1.0
        return self.kernel.x / pixel, pixel

    def border(self, projection: Projection) -> int:
        """Return the pixels that the kernel reaches."""
        try:
            return cells(self._radius(projection)[0]) + 1
        except EngineError:
            return 0

    def compute(self, context: Context, window: Window) -> list[Pixels]:
        radius, pixel = self._radius(window.projection)
        reach = cells(radius) + 1
        wide = window.pad(reach)
        got = full(context.read(self.inputs[0], wide), wide)
        on = got.data != 0
        ok = kernels.valid(got.mask)
        if ok is not None:
            on = on & ok
        name = self.kernel.name
        found = _squared(on, "squared_euclidean" if name == "euclidean" else name)
        found = found[reach:-reach, reach:-reach]
        if name == "euclidean":
            found = np.sqrt(found)
        mask: Array | None = found <= radius + 1e-9
        if self.skip and ok is not None:
            mask = kernels.both(mask, inner(ok, reach))
        return [Pixels(np.where(np.isfinite(found), found, 0) * pixel, mask)]


@function("Image.distance")
def distance(image: Image, kernel: Kernel | None, skip: bool) -> Image:
    """Return the distance to the nearest pixel other than 0, masked beyond the kernel."""
    used = kernel or Kernel("euclidean", _distance_shape(np.hypot), 100.0, 100.0)
    if used.name not in _MEASURES:
        raise EngineError("The distance kernel must be euclidean, manhattan or chebyshev.")
    return image.derived([b.computed(FLOAT, _DistanceNode(b, used, skip)) for b in image.bands])


def _distance_shape(measure: Callable[[Array, Array], Array]) -> Callable[..., Any]:
    def make(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        columns, rows, centre = offsets(x, y)
        return measure(columns, rows), centre

    return make


@function("Image.directionalDistanceTransform")
def directional(image: Image, angle: float, most: int, label: str | None) -> Image:
    """Return the distance to the nearest non-zero pixel in a direction ([A]).

    The angle counts counter-clockwise from the right: cloud-shadow scripts pass 90 minus the
    azimuth of the sun to look from a shadow towards its cloud.
    """
    source = image.band(label) if label is not None else image.bands[0]
    others = [b for b in image.bands if b.id != source.id] if label is not None else []
    dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))

    def compute(window: Window, seen: Pixels, *rest: Pixels) -> list[Pixels]:
        on = seen.data != 0
        ok = kernels.valid(seen.mask)
        if ok is not None:
            on = on & ok
        h, w = window.shape
        found = np.zeros((h, w))
        done = np.zeros((h, w), bool)
        values = [np.zeros((h, w), p.data.dtype) for p in rest]
        masks = [np.zeros((h, w), bool) for _ in rest]
        for step in range(most + 1):
            c, r = round(dx * step), round(dy * step)
            hit = kernels.shifted(on, r, c, most) & ~done
            if hit.any():
                found[hit] = math.hypot(c, r)
                done |= hit
                for value, mask, pixels in zip(values, masks, rest, strict=True):
                    np.copyto(value, kernels.shifted(pixels.data, r, c, most), where=hit)
                    good = kernels.valid(pixels.mask)
                    mask |= hit if good is None else hit & kernels.shifted(good, r, c, most)
        return [
            Pixels(found, done),
            *(Pixels(v, m) for v, m in zip(values, masks, strict=True)),
        ]

    if most < 1:
        raise EngineError(f"maxDistance must be positive, not {most}.")
    node = HaloNode(compute, [source, *others], most)
    bands = [b.computed(b.type, node, k + 1) for k, b in enumerate(others)]
    bands.append(source.computed(FLOAT, node, 0).renamed("distance"))
    return image.derived(bands)


@function("Image.cumulativeCost")
def cumulative_cost(cost: Image, source: Image, most: float, geodetic: bool) -> Image:
    """Return the least cost of a path to a source pixel, up to a distance in metres ([A]).

    A step to one of the eight neighbours costs its length times the mean of the two pixels;
    masked pixels and those of negative cost are no way. Lengths are those on a sphere of
    6378137 m, or in the plane of the projection. Further bands hold what the same path costs
    there.

    Earth Engine does not say what path a ``maxDistance`` leaves out. Here pixels are masked
    whose nearest source is farther away, and paths are sought among the pixels that lie no
    farther than that from an aligned block of 256 x 256 pixels. Above an eighth of
    `Limits.max_pixels` (a reach of some 590 pixels) that is refused.
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
        steps = _lengths(area, geodetic)
        costs = _least_costs([p.data.astype(float) for p in prices], way, on, steps)
        near = _nearest_source(area, on, shown, (across, down), geodetic) <= most
        mask = near & np.isfinite(costs[0][shown])
        return [Pixels(np.where(mask, c[shown], 0), mask) for c in costs]

    node = BlockNode(compute, [*cost.bands, seeds], [DOUBLE] * len(cost.bands))
    names = unique_names([], ["cumulative_cost"] * len(cost.bands))
    return cost.derived(
        [b.computed(DOUBLE, node, k).renamed(names[k]) for k, b in enumerate(cost.bands)]
    )


_SPHERE = 6378137.0
# A path is sought in a graph, which takes this many times the room of a pixel elsewhere.
_GRAPH = 8


def _search_area(
    block: Window, most: float, geodetic: bool, limits: Limits
) -> tuple[Window, float, float]:
    """Return the block with all pixels in reach, and the least metres across and down one."""
    right, below = _lengths(block, geodetic)[:2]
    across, down = float(right.min()), float(below.min())
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


def _lengths(window: Window, geodetic: bool) -> list[Array]:
    """Return the metres from every pixel to its neighbours at ``_STEPS``."""
    if not geodetic:
        a, b, _, d, e, _ = window.projection.transform
        unit = window.projection.nominal_scale / math.sqrt(abs(a * e - b * d))
        return [
            np.full((1, 1), unit * math.hypot(a * dc + b * dr, d * dc + e * dr))
            for dr, dc in _STEPS
        ]
    # Exact where knots lie, every 3 km or nearer; between them lengths change too slowly to err.
    knot = 2 ** int(np.clip(math.log2(3000 / window.projection.nominal_scale), 0, 5))
    rows, columns = (
        np.arange(start // knot, (start + size) // knot + 2) * knot
        for start, size in ((window.row, window.height), (window.column, window.width))
    )
    cc, rr = np.meshgrid(columns + 0.5, rows + 0.5)
    lon, lat = _lonlat(window.projection, cc, rr)
    out = []
    for dr, dc in _STEPS:
        length = _arc(lon, lat, *_lonlat(window.projection, cc + dc, rr + dr))
        # All pixels of the window that have the neighbour, from the first one that has it.
        here = np.ones(window.shape, bool)[_pair(dr, dc)[0]].shape
        first_row, first_column = window.row, window.column + max(-dc, 0)
        u, i = np.modf((np.arange(here[0]) + first_row - rows[0]) / knot)
        v, j = np.modf((np.arange(here[1]) + first_column - columns[0]) / knot)
        i, j, u = i.astype(int), j.astype(int), u[:, None]
        lines = length[i] * (1 - u) + length[i + 1] * u
        out.append(lines[:, j] * (1 - v) + lines[:, j + 1] * v)
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


def _least_costs(
    prices: Sequence[Array], way: Array, on: Array, lengths: Sequence[Array]
) -> list[Array]:
    """Return the cost of the cheapest path by the first price, in every price.

    Parameters
    ----------
    prices : list of (h, w)
    way, on : bool (h, w)
        Where paths may lead, and where they begin.
    lengths : list of arrays
        Of the steps, broadcastable to the pixels that have the neighbour.

    Returns
    -------
    list of (h, w)
        Infinite where no path leads.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    shape = way.shape
    number = np.full(shape, -1, np.int32)
    number[way] = np.arange(np.count_nonzero(way), dtype=np.int32)
    one, two, weights = [], [], []
    for (dr, dc), length in zip(_STEPS, lengths, strict=True):
        here, there = _pair(dr, dc)
        both = way[here] & way[there]
        one.append(number[here][both])
        two.append(number[there][both])
        mean = (prices[0][here] + prices[0][there]) / 2
        weights.append((mean * length)[both])
    count = int(number.max()) + 1
    a, b = np.concatenate(one), np.concatenate(two)
    graph = coo_array((np.concatenate(weights), (a, b)), shape=(count, count)).tocsr()
    found, before, _ = dijkstra(
        graph, directed=False, indices=number[on], return_predecessors=True, min_only=True
    )
    out = [np.full(shape, np.inf) for _ in prices]
    out[0][way] = found
    if len(prices) == 1:
        return out
    rows, columns = np.nonzero(way)
    linked = before >= 0
    last = np.where(linked, before, np.arange(count))
    dr, dc = rows - rows[last], columns - columns[last]
    length = _step_lengths(shape, lengths, rows, columns, last, dr, dc)
    for k in range(1, len(prices)):
        values = prices[k][way]
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


def _step_lengths(
    shape: tuple[int, int],
    lengths: Sequence[Array],
    rows: Array,
    columns: Array,
    last: Array,
    dr: Array,
    dc: Array,
) -> Array:
    """Return the metres from every pixel to the one before it on its path."""
    out = np.zeros(len(rows))
    for (r, c), length in zip(_STEPS, lengths, strict=True):
        whole = np.zeros(shape)
        whole[_pair(r, c)[0]] = length
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
