"""Nodes that move pixels between grids: stored bands, reprojection, interpolation, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels
from .cells import concatenated
from .errors import EngineError
from .geometry import Geometry, covered, fractions
from .nodes import full
from .pixels import Array, Band, Context, Node, Pixels
from .projection import Projection, Window, locate

if TYPE_CHECKING:
    from .catalog import BandAsset

__all__ = ["AssetNode", "ClipNode", "ReprojectNode", "ResampleNode", "geometry_mask", "near_window"]

# Pixels that one reprojection reads at a time.
_MOST_AT_ONCE = 4 * 2**20
# Pixels of a fixed lattice under one tile. Earth Engine refuses likewise; where is not documented.
_MOST_REPROJECTED = 2**27


class AssetNode(Node):
    """A band of the catalogue: the right pyramid level, then the nearest pixel.

    The level is the one with the closest scale that is not coarser than the scale asked
    for (guides/scale).
    """

    __slots__ = ("asset", "height", "projection", "width")

    def __init__(self, asset: BandAsset) -> None:
        super().__init__()
        self.asset = asset
        self.projection = Projection(asset.crs, asset.transform)
        self.height, self.width = asset.shape

    def level(self, window: Window) -> int:
        """Return the pyramid level for a window."""
        ratio = window.projection.nominal_scale / self.projection.nominal_scale
        if ratio <= 1:
            return 0
        return min(int(math.log2(ratio) + 1e-6), self.asset.levels - 1)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        level = self.level(window)
        base = self.projection if level == 0 else self.projection.scaled(2.0**level)
        height = -(-self.height // 2**level)
        width = -(-self.width // 2**level)
        turn = self.projection.turn
        same = window.shifted_to(base)
        if same is not None and (
            turn is None or (same.column >= 0 and same.column + same.width <= width)
        ):
            return (self._copied(level, same, height, width),)
        place = locate(window, base)
        if turn is not None:
            # Longitudes repeat: 190 degrees east is 170 degrees west.
            far = (place.columns < 0) | (place.columns >= self.width / 2**level)
            if far.any():
                turned = np.mod(place.columns, turn / 2**level)
                place = replace(place, columns=np.where(far, turned, place.columns))
        # A coarse level's last pixel may reach past the image; the image ends where it ends.
        end_c, end_r = self.width / 2**level, self.height / 2**level
        valid_c = (place.columns >= 0) & (place.columns < end_c)
        valid_r = (place.rows >= 0) & (place.rows < end_r)
        if place.separable:
            if not (valid_c.any() and valid_r.any()):
                return (_nothing(window, self.asset.dtype),)
            columns = np.floor(place.columns).astype(np.int64)
            rows = np.floor(place.rows).astype(np.int64)
            c0, c1 = columns[valid_c].min(), columns[valid_c].max() + 1
            r0, r1 = rows[valid_r].min(), rows[valid_r].max() + 1
            if (c1 - c0) * (r1 - r0) > _MOST_AT_ONCE and window.width * window.height > 1:
                return (_joined(window, lambda part: self.compute(context, part)[0]),)
            data, mask = self.asset.read(level, int(r0), int(r1), int(c0), int(c1))
            take_c = np.clip(columns - c0, 0, c1 - c0 - 1)
            take_r = np.clip(rows - r0, 0, r1 - r0 - 1)
            index: Any = np.ix_(take_r, take_c)
            inside = valid_r[:, None] & valid_c[None, :]
        else:
            inside = valid_c & valid_r
            if not inside.any():
                return (_nothing(window, self.asset.dtype),)
            columns = np.floor(place.columns).astype(np.int64)
            rows = np.floor(place.rows).astype(np.int64)
            c0, c1 = columns[inside].min(), columns[inside].max() + 1
            r0, r1 = rows[inside].min(), rows[inside].max() + 1
            if (c1 - c0) * (r1 - r0) > _MOST_AT_ONCE and window.width * window.height > 1:
                # Around a pole, or on both sides of the 180th meridian.
                return (_joined(window, lambda part: self.compute(context, part)[0]),)
            data, mask = self.asset.read(level, int(r0), int(r1), int(c0), int(c1))
            index = (np.clip(rows - r0, 0, r1 - r0 - 1), np.clip(columns - c0, 0, c1 - c0 - 1))
        got, valid = data[index], mask[index]
        whole = bool(inside.all())
        if valid.dtype == bool:
            if not whole:
                valid = valid & inside
            return (Pixels(got, None if valid.all() else valid),)
        if not whole:
            valid = np.where(inside, valid, np.float32(0))
        return (Pixels(got, valid),)

    def _copied(self, level: int, window: Window, height: int, width: int) -> Pixels:
        r0, r1 = max(window.row, 0), min(window.row + window.height, height)
        c0, c1 = max(window.column, 0), min(window.column + window.width, width)
        if r0 >= r1 or c0 >= c1:
            return _nothing(window, self.asset.dtype)
        data, mask = self.asset.read(level, r0, r1, c0, c1)
        if data.shape == window.shape:
            if mask.dtype == bool and mask.all():
                return Pixels(data, None)
            return Pixels(data, mask)
        full = np.zeros(window.shape, data.dtype)
        valid = np.zeros(window.shape, mask.dtype)
        where = np.s_[r0 - window.row : r1 - window.row, c0 - window.column : c1 - window.column]
        full[where], valid[where] = data, mask
        return Pixels(full, valid)


def _nothing(window: Window, dtype: Any) -> Pixels:
    return Pixels(np.zeros((1, 1), dtype), np.zeros((1, 1), bool))


class ReprojectNode(Node):
    """Its input computed on a fixed lattice, then the nearest pixel (guides/projections)."""

    __slots__ = ("projection",)

    def __init__(self, band: Band, projection: Projection) -> None:
        super().__init__([band])
        self.projection = projection

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        band = self.inputs[0]
        same = window.shifted_to(self.projection)
        if same is not None:
            return (context.read(band, same),)
        return (_sampled(context, band, window, self.projection, _nearest, 0),)


class ResampleNode(Node):
    """Its input on its own grid, then interpolated (guides/resample).

    The grid is the band's own, or the pyramid level that nearest neighbour would take.
    Composites have no grid of their own: there it does nothing.
    """

    __slots__ = ("mode",)

    def __init__(self, band: Band, mode: str) -> None:
        super().__init__([band])
        self.mode = mode

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        band = self.inputs[0]
        if band.projection.is_default or band.type.dimensions:
            return (context.read(band, window),)
        ratio = window.projection.nominal_scale / band.projection.nominal_scale
        level = max(int(math.log2(ratio) + 1e-6), 0) if ratio > 0 else 0
        lattice = band.projection if level == 0 else band.projection.scaled(2.0**level)
        same = window.shifted_to(lattice)
        if same is not None:
            return (context.read(band, window),)
        take = kernels.bilinear if self.mode == "bilinear" else kernels.bicubic
        reach = 1 if self.mode == "bilinear" else 2
        limits: tuple[float, float, float, float] | None = None
        if band.dimensions is not None:
            k = 2.0**level
            c, r = band.origin
            w, h = band.dimensions
            limits = (c / k, r / k, (c + w) / k, (r + h) / k)
        return (
            _sampled(
                context,
                band,
                window,
                lattice,
                lambda data, mask, x, y, sep, corner: take(data, mask, x, y, sep, corner, limits),
                reach,
            ),
        )


Sampler = Callable[
    [Array, Array | None, Array, Array, bool, tuple[int, int]], tuple[Array, Array | None]
]


def _nearest(
    data: Array,
    mask: Array | None,
    columns: Array,
    rows: Array,
    separable: bool,
    corner: tuple[int, int],
) -> tuple[Array, Array | None]:
    c = np.floor(columns).astype(np.int64) - corner[0]
    r = np.floor(rows).astype(np.int64) - corner[1]
    index: Any = np.ix_(r, c) if separable else (r, c)
    return data[index], None if mask is None else mask[index]


def _sampled(
    context: Context,
    band: Band,
    window: Window,
    lattice: Projection,
    sample: Sampler,
    reach: int,
) -> Pixels:
    """Read a band on ``lattice`` around a window and sample it at the window's centres."""
    place = locate(window, lattice)
    good = None
    columns, rows = place.columns, place.rows
    if not place.separable:
        good = columns > -1e17
        if not good.any():
            return Pixels(np.zeros((1, 1), band.type.dtype), np.zeros((1, 1), bool))
        if good.all():
            good = None
        else:
            columns = np.where(good, columns, columns[good].min())
            rows = np.where(good, rows, rows[good].min())
    c0, c1 = math.floor(columns.min()) - reach, math.floor(columns.max()) + 1 + reach
    r0, r1 = math.floor(rows.min()) - reach, math.floor(rows.max()) + 1 + reach
    source = Window(lattice, c0, r0, c1 - c0, r1 - r0)
    area = source.width * source.height
    if area > _MOST_REPROJECTED and window.width * window.height > 1:
        # A fine lattice seen from far away is the classic mistake with reproject().
        raise EngineError(
            f"Reprojection output too large ({source.width}x{source.height} pixels).",
            function="Image.reproject",
        )
    if area > _MOST_AT_ONCE and window.width * window.height > 1:
        # A much finer lattice: go on with parts of the window, to hold less at a time.
        return _joined(window, lambda part: _sampled(context, band, part, lattice, sample, reach))
    got = full(context.read_bounded(band, source), source)
    data, mask = sample(got.data, got.mask, columns, rows, place.separable, (c0, r0))
    if good is not None:
        mask = kernels.both(mask, good)
    return Pixels(data, mask)


def _joined(window: Window, compute: Callable[[Window], Pixels]) -> Pixels:
    """Compute the two halves of a window one after the other."""
    axis = 0 if window.height >= window.width else 1
    parts = window.halves()
    got = [full(compute(part), part) for part in parts]
    data = concatenated([g.data for g in got], axis)
    if all(g.mask is None for g in got):
        return Pixels(data, None)
    masks = [np.ones(g.data.shape, bool) if g.mask is None else g.mask for g in got]
    return Pixels(data, np.concatenate(masks, axis))


class ClipNode(Node):
    """Masks of its inputs times the share of each pixel inside a geometry.

    Edge pixels get fractional masks, so later weighted reducers see them in part
    (guides/reducers_weighting).
    """

    __slots__ = ("geometry", "whole")

    def __init__(self, bands: Sequence[Band], geometry: Geometry, whole: bool = False) -> None:
        super().__init__(bands)
        self.geometry = geometry
        self.whole = whole

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        share = geometry_mask(self.geometry, window, not self.whole)
        if share is not None and not share.any():
            return [
                Pixels(np.zeros((1, 1), b.type.dtype), np.zeros((1, 1), bool)) for b in self.inputs
            ]
        got = [context.read(b, window) for b in self.inputs]
        return [Pixels(p.data, kernels.times(p.mask, share)) for p in got]


def geometry_mask(geometry: Geometry, window: Window, weighted: bool) -> Array | None:
    """Return the share (or the centres) of a window inside a geometry; ``None`` if all is."""
    if geometry.unbounded:
        return None
    made = geometry.in_pixels(window.projection)
    if made.is_empty:
        return np.zeros(window.shape, bool)
    shapes = near_window(made, window)
    if not shapes:
        return np.zeros((1, 1), bool)
    share = None
    for shape in shapes:
        part = fractions(shape, window) if weighted else covered(shape, window)
        share = part if share is None else np.maximum(share, part)
    assert share is not None
    low = share.min()
    if low >= 1:
        return None
    if weighted and bool(((share == 0) | (share == 1)).all()):
        return share > 0
    return share


def near_window(shape: Any, window: Window) -> list[Any]:
    """Return a shape in pixels, as often as it touches a window on its way around the Earth."""
    left, top, right, bottom = shape.bounds
    end_column, end_row = window.column + window.width, window.row + window.height
    if bottom < window.row or top > end_row:
        return []
    turn = window.projection.turn
    if turn is None or not (math.isfinite(left) and math.isfinite(right)):
        return [] if right < window.column or left > end_column else [shape]
    first, last = math.ceil((window.column - right) / turn), math.floor((end_column - left) / turn)
    laps = range(first, min(last, first + 3) + 1)
    from shapely.affinity import translate

    return [shape if k == 0 else translate(shape, k * turn) for k in laps]
