"""Array kernels of the emulator: masks, interpolation, sorting stacks, neighbourhoods.

Arrays in, arrays out; nothing here knows of bands, windows or functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .budget import tick

__all__ = [
    "bicubic",
    "bilinear",
    "both",
    "correlate",
    "extreme",
    "greatest",
    "select_sorted",
    "sort_stack",
    "times",
    "valid",
]

Array = NDArray[Any]
Mask = Array | None


def both(a: Mask, b: Mask) -> Mask:
    """Return the mask of a result that needs two values: the lesser of the two.

    Examples
    --------
    >>> both(np.array([True, False]), None)
    array([ True, False])
    """
    if a is None or a is b:
        return b
    if b is None:
        return a
    if a.dtype == bool and b.dtype == bool:
        return a & b
    return np.minimum(_floats(a), _floats(b))


def greatest(a: Array, b: Array) -> Array:
    """Return the mask of a result that any of two values makes valid.

    Examples
    --------
    >>> greatest(np.array([True, False]), np.array([0.5, 0.5], np.float32))
    array([1. , 0.5], dtype=float32)
    """
    if a.dtype == bool and b.dtype == bool:
        return a | b
    return np.maximum(_floats(a), _floats(b))


def times(a: Mask, b: Mask) -> Mask:
    """Return the product of two masks; boolean while both are.

    Examples
    --------
    >>> times(np.array([0.5, 1], np.float32), np.array([0.5, 0.5], np.float32))
    array([0.25, 0.5 ], dtype=float32)
    """
    if a is None:
        return b
    if b is None:
        return a
    if a.dtype == bool and b.dtype == bool:
        return a & b
    product: Array = _floats(a) * _floats(b)
    return product


def valid(mask: Mask) -> Mask:
    """Return a mask as booleans: anything above 0 counts."""
    if mask is None or mask.dtype == bool:
        return mask
    return mask > 0


def _floats(mask: Array) -> Array:
    return mask.astype(np.float32) if mask.dtype == bool else mask


def weights_of(mask: Mask, shape: tuple[int, ...]) -> Array:
    """Return a mask as float32 weights of a shape."""
    if mask is None:
        return np.ones(shape, np.float32)
    return np.broadcast_to(_floats(mask), shape)


def _linear_weights(t: Array) -> list[Array]:
    return [1 - t, t]


def _cubic_weights(t: Array) -> list[Array]:
    # Keys 1981 with a = -0.5 (Catmull-Rom), which reproduces planes and parabolas.
    return [
        ((-0.5 * t + 1) * t - 0.5) * t,
        ((1.5 * t - 2.5) * t) * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        ((0.5 * t - 0.5) * t) * t,
    ]


def bilinear(
    data: Array,
    mask: Mask,
    columns: Array,
    rows: Array,
    separable: bool,
    corner: tuple[int, int],
    limits: tuple[float, float, float, float] | None = None,
) -> tuple[Array, Mask]:
    """Interpolate linearly at continuous pixel positions.

    Parameters
    ----------
    data, mask : (H, W)
        Pixels from ``corner`` on.
    columns, rows : float64
        Positions; the centre of pixel 0 is 0.5. 1-D each where ``separable``.
    corner : (column, row)
        Number of the first pixel in ``data``.
    limits : (left, top, right, bottom), optional
        Edges of the image in pixels. Within half a pixel of an edge the edge pixel is
        repeated; beyond the edge the result is masked.

    Returns
    -------
    data : float32 or float64
    mask : bool, float32 or None
        Masked where any pixel that contributes is.
    """
    return _interpolate(data, mask, columns, rows, separable, corner, limits, 0, _linear_weights)


def bicubic(
    data: Array,
    mask: Mask,
    columns: Array,
    rows: Array,
    separable: bool,
    corner: tuple[int, int],
    limits: tuple[float, float, float, float] | None = None,
) -> tuple[Array, Mask]:
    """Interpolate with cubic convolution; see `bilinear`."""
    return _interpolate(data, mask, columns, rows, separable, corner, limits, -1, _cubic_weights)


def _interpolate(
    data: Array,
    mask: Mask,
    columns: Array,
    rows: Array,
    separable: bool,
    corner: tuple[int, int],
    limits: tuple[float, float, float, float] | None,
    first: int,
    weigh: Any,
) -> tuple[Array, Mask]:
    kind = np.float64 if data.dtype.itemsize > 4 or data.dtype.kind == "f" else np.float32
    kind = np.float32 if data.dtype == np.float32 else kind
    inside: list[Mask] = [None, None]
    bases, weights = [], []
    for axis, position in enumerate((columns, rows)):
        if limits is not None:
            low, high = limits[axis], limits[axis + 2]
            inside[axis] = (position >= low) & (position < high)
            position = np.clip(position, low + 0.5, high - 0.5)
        x = position - 0.5
        base = np.floor(x)
        weights.append([w.astype(kind) for w in weigh(x - base)])
        bases.append(base.astype(np.int64) - corner[axis] + first)
    height, width = data.shape
    taps = len(weights[0])
    cols = [np.clip(bases[0] + k, 0, width - 1) for k in range(taps)]
    lines = [np.clip(bases[1] + k, 0, height - 1) for k in range(taps)]
    source = data.astype(kind, copy=False)
    gaps = None if mask is None else ~(mask if mask.dtype == bool else mask > 0)
    soft = None if mask is None or mask.dtype == bool else mask
    if gaps is not None and not gaps.any() and soft is None:
        gaps = None
    shape = (len(rows), len(columns)) if separable else columns.shape
    out = np.zeros(shape, kind)
    lost = None if gaps is None else np.zeros(shape, bool)
    # Counted from 1 down: rounded weights of whole pixels need not add up to 1.
    part = None if soft is None else np.ones(shape, np.float32)
    for i in range(taps):
        for j in range(taps):
            index: Any = np.ix_(lines[i], cols[j]) if separable else (lines[i], cols[j])
            if separable:
                w = weights[1][i][:, None] * weights[0][j][None, :]
            else:
                w = weights[1][i] * weights[0][j]
            out += source[index] * w
            if lost is not None and gaps is not None:
                lost |= gaps[index] & (w != 0)
            if part is not None and soft is not None:
                part -= (1 - soft[index]) * w.astype(np.float32)
    result: Mask = None
    if lost is not None:
        result = ~lost if part is None else np.where(lost, np.float32(0), np.clip(part, 0, 1))
    if inside[0] is not None and inside[1] is not None:
        within = inside[1][:, None] & inside[0][None, :] if separable else inside[0] & inside[1]
        if not within.all():
            result = times(result, within)
    return out, result


@lru_cache(maxsize=128)
def _comparators(n: int) -> tuple[tuple[int, int], ...]:
    """Batcher's odd-even merge sort for n values: which pairs to put in order."""
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return tuple(pairs)


def sort_stack(layers: Sequence[Array]) -> list[Array]:
    """Sort stacked layers pixel by pixel.

    Parameters
    ----------
    layers : sequence of arrays of one shape and dtype

    Returns
    -------
    list of arrays
        The least values first. A sorting network over whole layers: several times as fast
        as sorting every pixel for itself.

    Examples
    --------
    >>> [a.tolist() for a in sort_stack([np.array([3, 1]), np.array([2, 9])])]
    [[2, 1], [3, 9]]
    """
    values = list(layers)
    if len(values) > 48:
        ordered = np.sort(np.stack(values, axis=-1), axis=-1)
        return [ordered[..., k] for k in range(len(values))]
    for i, j in _comparators(len(values)):
        a, b = values[i], values[j]
        values[i], values[j] = np.minimum(a, b), np.maximum(a, b)
    return values


def sorted_valid(
    layers: Sequence[Array], masks: Sequence[Mask], dtype: Any
) -> tuple[list[Array], Array | int]:
    """Sort layers with masked values last.

    Returns
    -------
    ordered : list of arrays of ``dtype``
    count : int or array
        How many values are valid, everywhere or per pixel.
    """
    shape = np.broadcast_shapes(
        *(a.shape for a in layers), *(m.shape for m in masks if m is not None)
    )
    last = np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    if all(m is None for m in masks):
        return sort_stack([np.broadcast_to(a, shape).astype(dtype) for a in layers]), len(layers)
    filled = []
    count = np.zeros(shape, np.int32)
    for data, mask in zip(layers, masks, strict=True):
        ok = valid(mask)
        if ok is None:
            count += 1
            filled.append(np.broadcast_to(data, shape).astype(dtype))
        else:
            count += ok
            filled.append(np.where(ok, data.astype(dtype, copy=False), last))
    filled = [np.broadcast_to(a, shape) for a in filled]
    return sort_stack(filled), count


def select_sorted(ordered: Sequence[Array], index: Array) -> Array:
    """Return the value at a per-pixel place of sorted layers.

    Examples
    --------
    >>> select_sorted([np.array([1, 2]), np.array([5, 6])], np.array([1, 0]))
    array([5, 2])
    """
    out = ordered[0].copy()
    for k in range(1, len(ordered)):
        np.copyto(out, ordered[k], where=index == k)
    return out


def quantile_sorted(ordered: Sequence[Array], count: Array | int, share: float) -> Array:
    """Return a quantile of the first ``count`` sorted layers, interpolated linearly.

    Examples
    --------
    >>> quantile_sorted([np.array([1.0]), np.array([2.0])], 2, 0.5)
    array([1.5])
    """
    if isinstance(count, int):
        at = share * (count - 1)
        low = int(at)
        if at == low:
            return ordered[low]
        t = at - low
        return ordered[low] + (ordered[low + 1] - ordered[low]) * ordered[low].dtype.type(t)
    at = share * np.maximum(count - 1, 0)
    low = at.astype(np.int32)
    below = select_sorted(ordered, low)
    part = (at - low).astype(below.dtype)
    if not part.any():
        return below
    above = select_sorted(ordered, low + (part > 0))
    # Where nothing is valid both are infinite; the caller masks those.
    with np.errstate(invalid="ignore"):
        mixed = below + (above - below) * part
    return np.where(part > 0, mixed, below)


def mode_sorted(ordered: Sequence[Array], count: Array | int) -> Array:
    """Return the most frequent of the first ``count`` sorted layers, the least on ties.

    Examples
    --------
    >>> mode_sorted([np.array([1]), np.array([4]), np.array([4])], 3)
    array([4])
    """
    best = ordered[0].copy()
    most = np.ones(best.shape, np.int32)
    run = np.ones(best.shape, np.int32)
    for k in range(1, len(ordered)):
        run = np.where(ordered[k] == ordered[k - 1], run + 1, 1)
        better = run > most
        if not isinstance(count, int):
            better &= count > k
        best = np.where(better, ordered[k], best)
        most = np.where(better, run, most)
    return best


def _shifts(weights: Array, centre: tuple[int, int]) -> list[tuple[int, int, float]]:
    """Return (row, column, weight) of the kernel cells that count, relative to the pixel."""
    rows, columns = np.nonzero(weights)
    return [
        (int(r) - centre[0], int(c) - centre[1], float(weights[r, c]))
        for r, c in zip(rows, columns, strict=True)
    ]


def reach_of(weights: Array, centre: tuple[int, int]) -> int:
    """Return how many pixels a kernel reaches beyond the pixel it is centred on."""
    h, w = weights.shape
    return max(centre[0], centre[1], h - 1 - centre[0], w - 1 - centre[1])


def _separate(weights: Array) -> tuple[Array, Array] | None:
    """Return (column, row) vectors whose product is the kernel, where it has rank one."""
    if min(weights.shape) < 4:
        return None
    r, c = np.unravel_index(np.argmax(np.abs(weights)), weights.shape)
    pivot = weights[r, c]
    if pivot == 0:
        return None
    down, along = weights[:, c].copy(), weights[r, :] / pivot
    if np.allclose(np.outer(down, along), weights, rtol=1e-12, atol=0):
        return down, along
    return None


def _runs(weights: Array) -> dict[int, list[tuple[int, int]]] | None:
    """Return where rows of a kernel of equal cells begin, by their length; None with gaps."""
    on = weights != 0
    if np.count_nonzero(on) < 9 or np.ptp(weights[on]) != 0:
        return None
    out: dict[int, list[tuple[int, int]]] = {}
    for row in range(on.shape[0]):
        columns = np.nonzero(on[row])[0]
        if len(columns):
            if columns[-1] - columns[0] + 1 != len(columns):
                return None
            out.setdefault(len(columns), []).append((row, int(columns[0])))
    return out


class _Doubled:
    """Sums or extremes of runs of a row, from runs of 1, 2, 4... pixels.

    Each pixel's result is put together in the same order wherever an array begins, which
    running totals would not do.
    """

    def __init__(self, rows: Array, merge: np.ufunc) -> None:
        self.merge = merge
        self.tables = [rows]

    def _table(self, k: int) -> Array:
        while len(self.tables) <= k:
            last, half = self.tables[-1], 2 ** (len(self.tables) - 1)
            self.tables.append(self.merge(last[:, :-half], last[:, half:]))
        return self.tables[k]

    def run(self, length: int) -> Array:
        """Return the result of ``length`` pixels from every pixel on, narrower by the rest."""
        width = self.tables[0].shape[1] - length + 1
        k = length.bit_length() - 1
        if self.merge is not np.add:
            # Extremes may overlap.
            table = self._table(k)
            rest = length - 2**k
            both: Array = self.merge(table[:, :width], table[:, rest : rest + width])
            return both
        found, start = self._table(k)[:, :width], 2**k
        for lower in range(k - 1, -1, -1):
            if length >> lower & 1:
                found = found + self._table(lower)[:, start : start + width]
                start += 2**lower
        return found


def correlate(padded: Array, weights: Array, centre: tuple[int, int], reach: int) -> Array:
    """Return weighted sums over a neighbourhood, in a fixed order for every pixel.

    Parameters
    ----------
    padded : float array, (h + 2 reach, w + 2 reach)
    weights : (kh, kw)
        Applied as it lies: the first row is above the pixel.
    centre : (row, column)
        Cell of the kernel that lies on the pixel.
    reach : int

    Returns
    -------
    ndarray, (h, w)

    Examples
    --------
    >>> correlate(np.arange(9.0).reshape(3, 3), np.ones((3, 3)), (1, 1), 1)
    array([[36.]])
    """
    h, w = padded.shape[0] - 2 * reach, padded.shape[1] - 2 * reach
    pair = _separate(weights)
    if pair is not None:
        down, along = pair
        lines = np.zeros((h, padded.shape[1]), padded.dtype)
        for k, weight in enumerate(down):
            if weight:
                top = reach + k - centre[0]
                lines += padded[top : top + h] * padded.dtype.type(weight)
        out = np.zeros((h, w), padded.dtype)
        for k, weight in enumerate(along):
            if weight:
                left = reach + k - centre[1]
                out += lines[:, left : left + w] * padded.dtype.type(weight)
        return out
    out = np.zeros((h, w), padded.dtype)
    runs = _runs(weights)
    if runs is not None:
        doubled = _Doubled(padded, np.add)
        for length, starts in runs.items():
            tick()
            lines = doubled.run(length)
            for row, column in starts:
                top, left = reach + row - centre[0], reach + column - centre[1]
                out += lines[top : top + h, left : left + w]
        weight = float(np.abs(weights).max()) * (1 if weights.max() > 0 else -1)
        if weight != 1:
            out *= padded.dtype.type(weight)
        return out
    for row, column, weight in _shifts(weights, centre):
        tick()
        part = padded[reach + row : reach + row + h, reach + column : reach + column + w]
        if weight == 1:
            out += part
        else:
            out += part * padded.dtype.type(weight)
    return out


def shifted(padded: Array, row: int, column: int, reach: int) -> Array:
    """Return the neighbours at (row, column) from every pixel."""
    h, w = padded.shape[0] - 2 * reach, padded.shape[1] - 2 * reach
    return padded[reach + row : reach + row + h, reach + column : reach + column + w]


def extreme(
    padded: Array, footprint: Array, centre: tuple[int, int], reach: int, largest: bool
) -> Array:
    """Return the least or the largest value in a neighbourhood.

    Parameters
    ----------
    padded : (h + 2 reach, w + 2 reach)
        Masked values already replaced by ones that never win.
    footprint : (kh, kw)
        Cells other than 0 count.
    """
    pick = np.maximum if largest else np.minimum
    h, w = padded.shape[0] - 2 * reach, padded.shape[1] - 2 * reach
    on = footprint != 0
    if on.all() and on.size > 4:
        lines = None
        for k in range(on.shape[0]):
            top = reach + k - centre[0]
            part = padded[top : top + h]
            lines = part if lines is None else pick(lines, part)
        assert lines is not None
        out = None
        for k in range(on.shape[1]):
            left = reach + k - centre[1]
            part = lines[:, left : left + w]
            out = part if out is None else pick(out, part)
        assert out is not None
        return out.copy() if out.base is not None else out
    out = None
    runs = _runs(on.astype(float))
    if runs is not None:
        doubled = _Doubled(padded, pick)
        for length, starts in runs.items():
            tick()
            lines = doubled.run(length)
            for row, column in starts:
                top, left = reach + row - centre[0], reach + column - centre[1]
                part = lines[top : top + h, left : left + w]
                out = part.copy() if out is None else pick(out, part, out=out)
        assert out is not None
        return out
    for row, column, _ in _shifts(on.astype(float), centre):
        tick()
        part = shifted(padded, row, column, reach)
        out = part.copy() if out is None else pick(out, part, out=out)
    return np.zeros((h, w), padded.dtype) if out is None else out
