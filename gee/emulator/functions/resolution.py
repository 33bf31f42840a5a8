"""Many input pixels combined into each pixel of a coarser output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..budget import tick
from ..errors import EngineError
from ..image import Image, full
from ..kernels import weights_of
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Projection, Window, locate
from ..reducers import Reducer, named_reducer, renamed
from .registry import function

__all__ = ["footprints", "overlap"]

# Shares of an input pixel below this are rounding, not overlap.
_LEAST = 1e-4
# Input pixels held at a time.
_MOST_AT_ONCE = 4 * 2**20


class _Footprints(NamedTuple):
    """Where output pixels lie on the input, in its pixels.

    Attributes
    ----------
    x, y : float64
        Edges (2, width) and (2, height), the lesser first, where ``separable``; otherwise
        corners (4, height, width) in the order of going round.
    separable : bool
    """

    x: Array
    y: Array
    separable: bool


def footprints(window: Window, lattice: Projection) -> _Footprints:
    """Return the outlines of a window's pixels on another projection.

    Parameters
    ----------
    window : Window
    lattice : Projection

    Returns
    -------
    footprints
        Straight between the corners; NaN where the projection has no such place.
    """
    corners = locate(
        Window(
            window.projection.translated(-0.5, -0.5),
            window.column, window.row, window.width + 1, window.height + 1,
        ),
        lattice,
    )  # fmt: skip
    if corners.separable:
        x = np.sort(np.stack([corners.columns[:-1], corners.columns[1:]]), axis=0)
        y = np.sort(np.stack([corners.rows[:-1], corners.rows[1:]]), axis=0)
        return _Footprints(x, y, True)

    def around(v: Array) -> Array:
        return np.stack([v[:-1, :-1], v[:-1, 1:], v[1:, 1:], v[1:, :-1]])

    x, y = around(corners.columns), around(corners.rows)
    nowhere = (x < -1e17).any(axis=0)
    if nowhere.any():
        x[:, nowhere] = y[:, nowhere] = np.nan
    if lattice.turn is not None:
        # A pixel on the 180th meridian goes on beyond it, not all around the Earth.
        x -= lattice.turn * np.round((x - x[:1]) / lattice.turn)
    return _Footprints(x, y, False)


def overlap(x: Array, y: Array, column: Array, row: Array) -> Iterator[Array]:
    """Yield the area of convex quadrilaterals in the cells of a column, downwards.

    Parameters
    ----------
    x, y : (4, ...)
        Corners in the order of going round, either way.
    column, row : (...)
        The column of cells, and the first of its rows; a cell is one wide and one high.

    Yields
    ------
    ndarray, (...)
        The area in the row, the row below it, and so on without end.

    Notes
    -----
    The area above a line ``y = t`` in a strip is the integral of ``min(y, t)`` along the
    outline, edge by edge in closed form; a cell is the difference between two lines.

    Examples
    --------
    >>> square = np.array([0.5, 2.0, 2.0, 0.5]), np.array([0.0, 0.0, 1.5, 1.5])
    >>> cells = overlap(*square, np.array(0.0), np.array(0.0))
    >>> [round(float(next(cells)), 3) for _ in range(3)]
    [0.5, 0.25, 0.0]
    """
    edges = []
    for k in range(4):
        x0, y0, x1, y1 = x[k], y[k], x[(k + 1) % 4], y[(k + 1) % 4]
        a, b = np.clip(x0, column, column + 1), np.clip(x1, column, column + 1)
        run = np.where(np.abs(x1 - x0) < 1e-12, 1.0, x1 - x0)
        left, right = ((np.clip((v - x0) / run, 0, 1)) for v in (a, b))
        edges.append((b - a, y0 + (y1 - y0) * left, y0 + (y1 - y0) * right))

    def above(line: Array) -> Array:
        total = np.zeros(np.shape(line))
        for length, left, right in edges:
            p, q = line - left, line - right
            up, down = np.maximum(p, 0), np.maximum(q, 0)
            change = p - q
            # The mean of max(line - y, 0) where y goes evenly from left to right.
            flat = np.abs(change) < 1e-9
            mean = np.where(flat, up, (up**2 - down**2) / np.where(flat, 1, 2 * change))
            total += length * (line - mean)
        return total

    before = above(np.asarray(row, float))
    step = 1
    while True:
        now = above(row + step)
        yield np.abs(now - before)
        before = now
        step += 1


class _ResolutionNode(Node):
    """Its inputs on their own grid, aggregated over each output pixel.

    Weights are masks times the share of the output pixel that the input pixel covers ([A]).
    """

    __slots__ = ("best", "most", "reducer")

    def __init__(self, bands: Sequence[Band], reducer: Reducer, best: bool, most: int) -> None:
        super().__init__(bands)
        self.reducer, self.best, self.most = reducer, best, most

    def _lattice(self, window: Window) -> Projection | None:
        """Return the grid to aggregate from; None where the output is no coarser."""
        lattice = self.inputs[0].projection
        ratio = window.projection.nominal_scale / lattice.nominal_scale
        if ratio <= 1 + 1e-6:
            return None
        if not ratio < 1e9:
            raise EngineError("Too many input pixels per output pixel.")
        level = 0
        while math.ceil(ratio / 2**level - 1e-6) ** 2 > self.most:
            if not self.best:
                raise EngineError(
                    f"Too many input pixels per output pixel: {math.ceil(ratio - 1e-6) ** 2} > "
                    f"{self.most}. Increase maxPixels or set bestEffort.",
                    function="Image.reduceResolution",
                )
            level += 1
        return lattice.scaled(2.0**level) if level else lattice

    def compute(self, context: Context, window: Window) -> list[Pixels]:
        lattice = self._lattice(window)
        if lattice is None:
            fold = self.reducer.fold([b.type for b in self.inputs], window.shape)
            fold.add([full(context.read(b, window), window) for b in self.inputs])
            return fold.result()
        place = footprints(window, lattice)
        if np.isnan(place.x).all():
            shape = (1, 1)
            return [Pixels(np.zeros(shape), np.zeros(shape, bool)) for _ in self.reducer.outputs]
        c0, c1 = math.floor(np.nanmin(place.x)), math.ceil(np.nanmax(place.x)) + 1
        r0, r1 = math.floor(np.nanmin(place.y)), math.ceil(np.nanmax(place.y)) + 1
        # Input pixels under one output pixel, all of which a median holds at once.
        layers = ((c1 - c0) / window.width + 2) * ((r1 - r0) / window.height + 2)
        stack = 8 * layers * window.width * window.height * len(self.inputs)
        large = (c1 - c0) * (r1 - r0) > _MOST_AT_ONCE or stack > context.limits.stack_bytes
        if large and window.width * window.height > 1:
            from .collections import joined

            parts = list(window.halves())
            if window.height >= window.width:
                return joined([self.compute(context, p) for p in parts], parts)
            return _beside([self.compute(context, p) for p in parts], parts)
        source = Window(lattice, c0, r0, c1 - c0, r1 - r0)
        got = [full(context.read_bounded(b, source), source) for b in self.inputs]
        strengths = [weights_of(p.mask, source.shape) for p in got]
        fold = self.reducer.fold([b.type for b in self.inputs], window.shape)
        for rows, columns, share in _cells(place):
            tick()
            ri = np.clip(rows - r0, 0, source.height - 1)
            ci = np.clip(columns - c0, 0, source.width - 1)
            fold.add(
                [
                    Pixels(p.data[ri, ci], (share * s[ri, ci]).astype(np.float32))
                    for p, s in zip(got, strengths, strict=True)
                ]
            )
        return [Pixels(p.data, None if p.mask is None else p.mask > 0) for p in fold.result()]


def _beside(results: Sequence[Sequence[Pixels]], parts: Sequence[Window]) -> list[Pixels]:
    out = []
    for pixels in zip(*results, strict=True):
        shown = [full(p, w) for p, w in zip(pixels, parts, strict=True)]
        masks = [np.ones(p.data.shape, bool) if p.mask is None else p.mask for p in shown]
        out.append(Pixels(np.concatenate([p.data for p in shown], 1), np.concatenate(masks, 1)))
    return out


def _cells(place: _Footprints) -> Iterator[tuple[Array, Array, Array]]:
    """Yield (rows, columns, share of the output pixel) of input pixels under each output pixel.

    Every output pixel sees its input pixels from left to right and from the top, so that sums
    add up in the same order in any window.
    """
    if place.separable:
        across, down = _spans(place.x), _spans(place.y)
        for columns, wide in across:
            for rows, high in down:
                yield rows[:, None], columns[None, :], high[:, None] * wide[None, :]
        return
    known = ~np.isnan(place.x).any(axis=0)
    x, y = (np.where(known, v, 0.0) for v in (place.x, place.y))
    area = 0.5 * np.abs((x[2] - x[0]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[0]))
    known &= area > 0
    whole = np.where(known, area, 1.0)
    left, top = np.floor(x.min(axis=0)), np.floor(y.min(axis=0))
    most = [
        int((np.ceil(v.max(axis=0)) - first)[known].max()) if known.any() else 0
        for v, first in ((x, left), (y, top))
    ]
    for j in range(most[0]):
        cells = overlap(x, y, left + j, top)
        for i in range(most[1]):
            inside = next(cells)
            share = np.where(known & (inside >= _LEAST), inside / whole, 0.0)
            if share.any():
                yield (top + i).astype(np.int64), (left + j).astype(np.int64), share


def _spans(edges: Array) -> list[tuple[Array, Array]]:
    """Return (cells, share of the interval inside) along one axis."""
    low, high = edges
    first = np.floor(low)
    out = []
    for k in range(int((np.ceil(high) - first).max())):
        inside = np.minimum(first + k + 1, high) - np.maximum(first + k, low)
        inside = np.where(inside >= _LEAST, inside, 0.0)
        out.append(((first + k).astype(np.int64), inside / (high - low)))
    return out


@function("Image.reduceResolution")
def reduce_resolution(image: Image, reducer: Reducer, best: bool, most: int) -> Image:
    """Combine the input pixels of each output pixel at the next reprojection ([A]).

    Weights are the input's mask times the share of the output pixel that the input pixel
    covers. Where the output is no coarser, each output pixel has the one input pixel at its
    centre.
    """
    if most < 1:
        raise EngineError(f"maxPixels must be positive, not {most}.")
    for b in image.bands:
        if b.projection.is_default:
            raise EngineError(
                "The input to reduceResolution does not have a valid default projection. Use "
                "setDefaultProjection() first."
            )
    if reducer.name in ("first", "last"):
        # A pixel that the output pixel does not touch is no null input: it is no input.
        reducer = renamed(named_reducer(f"{reducer.name}NonNull"), reducer.outputs)
    if reducer.inputs != 1:
        if reducer.inputs != len(image.bands):
            raise EngineError(
                f"Need {reducer.inputs} bands for the reducer's inputs, got {len(image.bands)}."
            )
        node = _ResolutionNode(image.bands, reducer, best, most)
        kinds = reducer.types([b.type for b in image.bands])
        first = image.bands[0]
        return image.with_bands(
            [
                first.computed(kind, node, k).renamed(name)
                for k, (name, kind) in enumerate(zip(reducer.outputs, kinds, strict=True))
            ]
        )
    bands = []
    for b in image.bands:
        node = _ResolutionNode([b], reducer, best, most)
        kinds = reducer.types([b.type])
        for k, (name, kind) in enumerate(zip(reducer.outputs, kinds, strict=True)):
            shown = b.id if len(reducer.outputs) == 1 else f"{b.id}_{name}"
            bands.append(b.computed(kind, node, k).renamed(shown))
    return image.with_bands(bands)
