"""Reducers: many values in, few out; over columns of values or pixel by pixel.

Weighted ones ([A]: sum, mean, linearFit, circular*, histograms) count a value by its weight;
the others count what has a weight above 0 and, over a region, its pixel centre inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import kernels
from .errors import EngineError
from .pixels import Array, Pixels
from .types import BYTE, DOUBLE, UNIT, PixelType

__all__ = ["Fold", "Reducer", "named_reducer"]

COUNT = PixelType("int", 0, 2**31 - 1)


class Fold:
    """Takes the layers of a stack one after another; gives the reduced pixels."""

    def add(self, layers: Sequence[Pixels]) -> None:
        """Take one layer: as many pixels as the reducer has inputs."""
        raise EngineError("This reducer cannot be used per pixel.")

    def result(self) -> list[Pixels]:
        """Return one Pixels per output."""
        raise EngineError("This reducer cannot be used per pixel.")


@dataclass(frozen=True, eq=False)
class Reducer:
    """A reducer.

    Parameters
    ----------
    name : str
    inputs : int
    outputs : tuple of str
    compute : (columns, weights) -> outputs
        ``columns`` are the inputs, one sequence each, without nulls.
    make_fold : (kinds, shape) -> Fold, optional
        For use per pixel.
    kinds : (input types) -> output types
    weighted : bool
    optional : int
        Last inputs that may be null.
    options : dict
        Shown by ``getInfo``.
    """

    name: str
    inputs: int
    outputs: tuple[str, ...]
    compute: Callable[[list[Any], Array], list[Any]]
    make_fold: Callable[[Sequence[PixelType], tuple[int, int]], Fold] | None = None
    kinds: Callable[[Sequence[PixelType]], list[PixelType]] | None = None
    weighted: bool = False
    optional: int = 0
    nulls: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Reducer, ...] = ()

    def reduce(
        self,
        columns: Sequence[Any],
        weights: Array | None = None,
        inside: Array | None = None,
    ) -> list[Any]:
        """Return the outputs for columns of values.

        Parameters
        ----------
        columns : as many sequences as there are inputs
            None or NaN-free numbers; rows with a null in a required input are left out.
        weights : (n,) float, optional
        inside : (n,) bool, optional
            Rows that count for an unweighted reducer.
        """
        n = len(columns[0]) if columns else 0
        if weights is None:
            weights = np.ones(n)
        if self.parts:
            return self._parts(columns, weights, inside)
        keep = np.ones(n, bool)
        if not self.weighted:
            keep &= weights > 0
            if inside is not None:
                keep &= inside
        if not self.nulls:
            for column in columns[: len(columns) - self.optional]:
                if not (isinstance(column, np.ndarray) and column.dtype != object):
                    keep &= np.array([v is not None for v in column], bool)
        if not keep.all():
            columns = [_taken(c, keep) for c in columns]
            weights = weights[keep]
        if not self.weighted:
            weights = np.ones(len(weights))
        return self.compute([*columns], weights)

    def _parts(self, columns: Sequence[Any], weights: Array, inside: Array | None) -> list[Any]:
        out: list[Any] = []
        if self.options.get("shared"):
            for part in self.parts:
                out += part.reduce(columns, weights, inside)
            return out
        start = 0
        for part in self.parts:
            out += part.reduce(columns[start : start + part.inputs], weights, inside)
            start += part.inputs
        return self.options["collect"](out) if "collect" in self.options else out

    def types(self, kinds: Sequence[PixelType]) -> list[PixelType]:
        """Return the pixel types of the outputs for inputs of given types."""
        if self.parts and "collect" not in self.options:
            out: list[PixelType] = []
            start = 0
            for part in self.parts:
                if self.options.get("shared"):
                    out += part.types(kinds)
                else:
                    out += part.types(kinds[start : start + part.inputs])
                    start += part.inputs
            return out
        return [DOUBLE] * len(self.outputs) if self.kinds is None else self.kinds(kinds)

    def fold(self, kinds: Sequence[PixelType], shape: tuple[int, int]) -> Fold:
        """Return what reduces a stack of layers pixel by pixel."""
        if self.parts and "collect" not in self.options:
            return _PartsFold(self, kinds, shape)
        if self.make_fold is None:
            raise EngineError(f"Reducer.{self.name} cannot be used per pixel by this emulator.")
        return self.make_fold(kinds, shape)

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        shown = {k: v for k, v in self.options.items() if k not in ("shared", "collect")}
        return {"type": f"Reducer.{self.name}", **shown}


def _taken(column: Sequence[Any], keep: Array) -> Any:
    if isinstance(column, np.ndarray):
        return column[keep]
    return [v for v, k in zip(column, keep, strict=True) if k]


def _numbers(column: Sequence[Any]) -> Array:
    if isinstance(column, np.ndarray) and column.dtype != object:
        return column
    try:
        return np.asarray([float(v) for v in column])
    except (TypeError, ValueError):
        raise EngineError("Reducer inputs must be numbers.") from None


def _widen(values: Array) -> Array:
    return values.astype(np.float64, copy=False)


# ------------------------------------------------------------------ folds


class _PartsFold(Fold):
    def __init__(self, reducer: Reducer, kinds: Sequence[PixelType], shape: tuple[int, int]):
        self.shared = bool(reducer.options.get("shared"))
        self.parts = []
        start = 0
        for part in reducer.parts:
            mine = kinds if self.shared else kinds[start : start + part.inputs]
            self.parts.append((part.inputs, part.fold(mine, shape)))
            start += part.inputs

    def add(self, layers: Sequence[Pixels]) -> None:
        start = 0
        for count, fold in self.parts:
            fold.add(layers if self.shared else layers[start : start + count])
            start += count

    def result(self) -> list[Pixels]:
        return [p for _, fold in self.parts for p in fold.result()]


class _Base(Fold):
    """Keeps the mask of the result: the greatest mask of the layers."""

    def __init__(self, kinds: Sequence[PixelType], shape: tuple[int, int]) -> None:
        self.kinds = kinds
        self.shape = shape
        self.mask: Array | None = np.zeros((1, 1), bool)

    def see(self, mask: Array | None) -> Array | None:
        """Take note of a layer's mask; return it as booleans."""
        if mask is None or self.mask is None:
            self.mask = None
        elif mask.dtype == bool and self.mask.dtype == bool:
            self.mask = self.mask | mask
        else:
            self.mask = np.maximum(self.mask, mask)
        return kernels.valid(mask)


class _SumFold(_Base):
    """Weighted sums, means and their like: weights are the masks."""

    def __init__(
        self, kinds: Sequence[PixelType], shape: tuple[int, int], kind: str, weighted: bool = True
    ) -> None:
        super().__init__(kinds, shape)
        self.kind = kind
        self.weighted = weighted
        self.total: Array = np.zeros(shape)
        self.weight: Array | float = 0.0

    def add(self, layers: Sequence[Pixels]) -> None:
        data, mask = layers[0]
        ok = self.see(mask)
        if ok is None or mask is None:
            self.total += data
            self.weight = self.weight + 1
        elif mask.dtype == bool or not self.weighted:
            np.add(self.total, data, out=self.total, where=ok)
            self.weight = self.weight + ok
        else:
            np.add(self.total, data * _widen(mask), out=self.total, where=ok)
            self.weight = self.weight + _widen(mask)

    def result(self) -> list[Pixels]:
        if self.kind == "mean":
            weight = np.asarray(self.weight, float)
            out = np.divide(self.total, weight, where=weight > 0, out=np.zeros(self.shape))
            return [Pixels(out, self.mask)]
        return [Pixels(self.total, self.mask)]


class _CountFold(_Base):
    """The number of valid layers; 0 where there is none, and then masked no pixel."""

    def __init__(
        self, kinds: Sequence[PixelType], shape: tuple[int, int], every: bool = False
    ) -> None:
        super().__init__(kinds, shape)
        self.every = every
        self.count: Array = np.zeros(shape, np.int32)

    def add(self, layers: Sequence[Pixels]) -> None:
        ok = self.see(layers[0].mask)
        if ok is None or self.every:
            self.count += 1
        else:
            self.count += ok

    def result(self) -> list[Pixels]:
        return [Pixels(self.count, None)]


class _MomentFold(_Base):
    """Variance and standard deviation, by Welford's update."""

    def __init__(
        self, kinds: Sequence[PixelType], shape: tuple[int, int], root: bool, sample: bool
    ) -> None:
        super().__init__(kinds, shape)
        self.root, self.sample = root, sample
        self.count: Array = np.zeros(shape)
        self.mean: Array = np.zeros(shape)
        self.spread: Array = np.zeros(shape)

    def add(self, layers: Sequence[Pixels]) -> None:
        data, mask = layers[0]
        ok = self.see(mask)
        seen: Any = 1.0 if ok is None else ok
        self.count += seen
        step = data - self.mean
        moved = step / np.maximum(self.count, 1)
        if ok is None:
            self.mean += moved
            self.spread += step * (data - self.mean)
        else:
            np.add(self.mean, moved, out=self.mean, where=ok)
            np.add(self.spread, step * (data - self.mean), out=self.spread, where=ok)

    def result(self) -> list[Pixels]:
        less = 1 if self.sample else 0
        out = self.spread / np.maximum(self.count - less, 1)
        mask = self.mask
        if self.sample:
            mask = kernels.both(mask, self.count > 1)
        return [Pixels(np.sqrt(out) if self.root else out, mask)]


class _BestFold(_Base):
    """The layers with the least or the greatest first input; later inputs come along."""

    def __init__(self, kinds: Sequence[PixelType], shape: tuple[int, int], largest: bool) -> None:
        super().__init__(kinds, shape)
        self.largest = largest
        self.best: list[Array] = []
        self.seen: Array | None = None

    def add(self, layers: Sequence[Pixels]) -> None:
        mask = layers[0].mask
        for layer in layers[1:]:
            mask = kernels.both(mask, layer.mask)
        ok = self.see(mask)
        data = [layer.data for layer in layers]
        if not self.best:
            self.best = [np.broadcast_to(d, self.shape).copy() for d in data]
            self.seen = None if ok is None else np.broadcast_to(ok, self.shape)
            return
        if len(data) == 1 and ok is None and self.seen is None:
            pick = np.maximum if self.largest else np.minimum
            self.best[0] = pick(self.best[0], data[0])
            return
        take = data[0] > self.best[0] if self.largest else data[0] < self.best[0]
        if self.seen is not None:
            take = take | ~self.seen
        if ok is not None:
            take = take & ok
            self.seen = None if self.seen is None else self.seen | ok
        else:
            self.seen = None
        for i, d in enumerate(data):
            if d.dtype != self.best[i].dtype:
                kind = np.result_type(d.dtype, self.best[i].dtype)
                self.best[i] = self.best[i].astype(kind)
            np.copyto(self.best[i], d, where=take)

    def result(self) -> list[Pixels]:
        if not self.best:
            return [_empty(self.shape)] * max(len(self.kinds), 1)
        return [Pixels(b, self.mask) for b in self.best]


def _empty(shape: tuple[int, int]) -> Pixels:
    return Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool))


class _EndFold(_Base):
    """The first or the last layer; without nulls, the first or last valid one."""

    def __init__(
        self, kinds: Sequence[PixelType], shape: tuple[int, int], last: bool, nulls: bool
    ) -> None:
        super().__init__(kinds, shape)
        self.last, self.nulls = last, nulls
        self.data: Array | None = None
        self.seen: Array | None = None

    def add(self, layers: Sequence[Pixels]) -> None:
        data, mask = layers[0]
        if self.data is None or (self.nulls and self.last):
            self.data = np.broadcast_to(data, self.shape).astype(self.kinds[0].dtype)
            self.mask = mask if mask is None else np.broadcast_to(mask, self.shape).copy()
            return
        if self.nulls:
            return
        ok = kernels.valid(mask)
        if self.last:
            take: Array | bool = True if ok is None else ok
        else:
            if self.mask is None:
                return
            gap = ~np.asarray(kernels.valid(self.mask))
            take = gap if ok is None else gap & ok
        np.copyto(self.data, data, where=take)
        if self.mask is not None:
            fresh = np.float32(1) if mask is None else mask
            if self.mask.dtype == bool and (mask is None or mask.dtype == bool):
                self.mask |= np.asarray(take)
            else:
                self.mask = np.where(take, fresh, self.mask).astype(np.float32)

    def result(self) -> list[Pixels]:
        if self.data is None:
            return [_empty(self.shape)]
        return [Pixels(self.data, self.mask)]


class _LogicFold(_Base):
    """All or any of the layers other than zero."""

    def __init__(self, kinds: Sequence[PixelType], shape: tuple[int, int], every: bool) -> None:
        super().__init__(kinds, shape)
        self.every = every
        self.state: Array = np.full(shape, every)

    def add(self, layers: Sequence[Pixels]) -> None:
        data, mask = layers[0]
        ok = self.see(mask)
        on = data != 0
        if self.every:
            self.state &= on if ok is None else on | ~ok
        else:
            self.state |= on if ok is None else on & ok

    def result(self) -> list[Pixels]:
        return [Pixels(self.state.astype(np.uint8), self.mask)]


class _ProductFold(_Base):
    """Products, and bitwise sums, of the valid layers."""

    def __init__(
        self,
        kinds: Sequence[PixelType],
        shape: tuple[int, int],
        operator: np.ufunc,
        start: int,
        dtype: Any,
    ) -> None:
        super().__init__(kinds, shape)
        self.operator = operator
        self.state: Array = np.full(shape, start, dtype)

    def add(self, layers: Sequence[Pixels]) -> None:
        data, mask = layers[0]
        ok = self.see(mask)
        data = data.astype(self.state.dtype, copy=False)
        self.operator(self.state, data, out=self.state, where=True if ok is None else ok)

    def result(self) -> list[Pixels]:
        return [Pixels(self.state, self.mask)]


class _StackFold(_Base):
    """Holds every layer: medians, percentiles, modes and all that needs an order."""

    def __init__(
        self,
        kinds: Sequence[PixelType],
        shape: tuple[int, int],
        finish: Callable[[list[Array], Any], list[Array]],
    ) -> None:
        super().__init__(kinds, shape)
        self.finish = finish
        self.layers: list[Array] = []
        self.masks: list[Array | None] = []

    def add(self, layers: Sequence[Pixels]) -> None:
        data, mask = layers[0]
        self.layers.append(data)
        self.masks.append(self.see(mask))

    def result(self) -> list[Pixels]:
        if not self.layers:
            return [_empty(self.shape)]
        dtype = self.kinds[0].dtype
        if dtype.kind != "f":
            dtype = np.result_type(dtype, *(a.dtype for a in self.layers))
        ordered, count = kernels.sorted_valid(self.layers, self.masks, dtype)
        out = self.finish(ordered, count)
        return [Pixels(np.broadcast_to(a, self.shape), self.mask) for a in out]


class _FitFold(_Base):
    """Sums for a line through (x, y), pixel by pixel."""

    def __init__(self, kinds: Sequence[PixelType], shape: tuple[int, int]) -> None:
        super().__init__(kinds, shape)
        self.sums = np.zeros((5, *shape))

    def add(self, layers: Sequence[Pixels]) -> None:
        (x, mx), (y, my) = layers
        ok = self.see(kernels.both(mx, my))
        w = 1.0 if ok is None else ok.astype(float)
        x, y = _widen(x), _widen(y)
        if ok is not None:
            x, y = np.where(ok, x, 0), np.where(ok, y, 0)
        for i, term in enumerate((w, x, y, x * x, x * y)):
            self.sums[i] += term

    def result(self) -> list[Pixels]:
        n, sx, sy, sxx, sxy = self.sums
        spread = n * sxx - sx * sx
        flat = spread == 0
        scale = np.where(flat, 0, (n * sxy - sx * sy) / np.where(flat, 1, spread))
        offset = (sy - scale * sx) / np.maximum(n, 1)
        return [Pixels(scale, self.mask), Pixels(offset, self.mask)]


# ------------------------------------------------------------------ types of results


def _same(kinds: Sequence[PixelType]) -> list[PixelType]:
    return [kinds[0]]


def _averaged(kinds: Sequence[PixelType]) -> list[PixelType]:
    kind = kinds[0]
    precision = "float" if kind.precision == "float" else "double"
    return [PixelType(precision, kind.low, kind.high)]


def _real(kinds: Sequence[PixelType]) -> list[PixelType]:
    return [PixelType("float" if kinds[0].precision == "float" else "double")]


# ------------------------------------------------------------------ column functions


def _sum(columns: list[Any], weights: Array) -> list[Any]:
    return [float(np.dot(_widen(_numbers(columns[0])), weights))]


def _mean(columns: list[Any], weights: Array) -> list[Any]:
    total = float(weights.sum())
    if total <= 0:
        return [None]
    return [float(np.dot(_widen(_numbers(columns[0])), weights)) / total]


def _spread(root: bool, sample: bool) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = _widen(_numbers(columns[0]))
        n = len(values)
        if n == 0 or (sample and n < 2):
            return [None]
        out = float(np.var(values, ddof=1 if sample else 0))
        return [math.sqrt(out) if root else out]

    return compute


def _end(last: bool) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        column = columns[0]
        if len(column) == 0:
            return [None]
        return [_scalar(column[-1 if last else 0])]

    return compute


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _best(largest: bool, inputs: int) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        first = columns[0]
        if len(first) == 0:
            return [None] * inputs
        if isinstance(first, np.ndarray) and first.dtype != object:
            at = int(np.argmax(first) if largest else np.argmin(first))
        else:
            at = (max if largest else min)(range(len(first)), key=lambda i: first[i])
        return [_scalar(c[at]) for c in columns]

    return compute


def quantiles(values: Array, percentiles: Sequence[float]) -> list[Any]:
    """Return percentiles of all values, interpolated linearly; None for no values.

    Earth Engine documents neither its interpolation nor its histogram; this is exact.
    """
    if len(values) == 0:
        return [None] * len(percentiles)
    return [float(v) for v in np.percentile(_widen(values), list(percentiles))]


def _mode(columns: list[Any], weights: Array) -> list[Any]:
    values = _numbers(columns[0])
    if len(values) == 0:
        return [None]
    found, counts = np.unique(values, return_counts=True)
    return [found[np.argmax(counts)].item()]


def _frequencies(columns: list[Any], weights: Array) -> list[Any]:
    column = columns[0]
    if isinstance(column, np.ndarray) and column.dtype != object:
        found, place = np.unique(column, return_inverse=True)
        sums = np.bincount(place.ravel(), weights, minlength=len(found))
        return [{_key(v.item()): float(s) for v, s in zip(found, sums, strict=True)}]
    table: dict[Any, float] = {}
    for value, weight in zip(column, weights, strict=True):
        table[value] = table.get(value, 0.0) + float(weight)
    return [{_key(k): v for k, v in sorted(table.items(), key=lambda p: str(p[0]))}]


def _key(value: Any) -> str:
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return "null" if value is None else str(value)


def _fit(columns: list[Any], weights: Array) -> list[Any]:
    x, y = (_widen(_numbers(c)) for c in columns)
    total = weights.sum()
    if total <= 0:
        return [None, None]
    mx, my = np.dot(x, weights) / total, np.dot(y, weights) / total
    spread = np.dot((x - mx) ** 2, weights)
    scale = float(np.dot((x - mx) * (y - my), weights) / spread) if spread else 0.0
    return [scale, float(my - scale * mx)]


def _circular(kind: str) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        angles = _widen(_numbers(columns[0]))
        total = weights.sum()
        if total <= 0:
            return [None]
        c, s = np.dot(np.cos(angles), weights) / total, np.dot(np.sin(angles), weights) / total
        length = float(np.hypot(c, s))
        if kind == "mean":
            return [float(np.arctan2(s, c))]
        if kind == "variance":
            return [1 - length]
        return [math.sqrt(max(-2 * math.log(length), 0.0)) if length > 0 else math.inf]

    return compute


def _higher(power: int) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = _widen(_numbers(columns[0]))
        if len(values) == 0:
            return [None]
        off = values - values.mean()
        spread = float(np.mean(off**2))
        if spread == 0:
            return [0.0]
        out = float(np.mean(off**power)) / spread ** (power / 2)
        return [out - 3 if power == 4 else out]

    return compute


def _correlation(kind: str) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        from scipy import stats

        x, y = (_widen(_numbers(c)) for c in columns)
        if len(x) < 2:
            return [None, None]
        test = {
            "pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau
        }[kind]  # fmt: skip
        found = test(x, y)
        return [float(found[0]), float(found[1])]

    return compute


def _sens(columns: list[Any], weights: Array) -> list[Any]:
    from scipy import stats

    x, y = (_widen(_numbers(c)) for c in columns)
    if len(x) < 2:
        return [None, None]
    slope = float(stats.theilslopes(y, x)[0])
    return [slope, float(np.median(y - slope * x))]


def _all(every: bool) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        on = _numbers(columns[0]) != 0
        if len(on) == 0:
            return [None]
        return [int(on.all() if every else on.any())]

    return compute


def _bits(operator: np.ufunc) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = _numbers(columns[0]).astype(np.int64)
        return [int(operator.reduce(values)) if len(values) else None]

    return compute


# ------------------------------------------------------------------ the reducers


def _stack(
    finish: Callable[[list[Array], Any], list[Array]],
) -> Callable[[Sequence[PixelType], tuple[int, int]], Fold]:
    return lambda kinds, shape: _StackFold(kinds, shape, finish)


def _real_layers(ordered: list[Array]) -> list[Array]:
    if ordered[0].dtype.kind == "f":
        return ordered
    return [a.astype(np.float64) for a in ordered]


def _median_pixels(ordered: list[Array], count: Any) -> list[Array]:
    if isinstance(count, int):
        half = count // 2
        if count % 2:
            return [ordered[half]]
        return [(_widen(ordered[half - 1]) + ordered[half]) * 0.5]
    low = kernels.select_sorted(ordered, (np.maximum(count, 1) - 1) // 2)
    high = kernels.select_sorted(ordered, np.maximum(count, 1) // 2)
    # Equal values (and the infinities of pixels without any) need no mean.
    return [np.where(low == high, low, low + (_widen(high) - low) * 0.5)]


def _percentile_pixels(shares: Sequence[float]) -> Callable[[list[Array], Any], list[Array]]:
    def finish(ordered: list[Array], count: Any) -> list[Array]:
        real = _real_layers(ordered)
        return [kernels.quantile_sorted(real, count, p / 100) for p in shares]

    return finish


def _mode_pixels(ordered: list[Array], count: Any) -> list[Array]:
    return [kernels.mode_sorted(ordered, count)]


def _distinct_pixels(ordered: list[Array], count: Any) -> list[Array]:
    out = np.ones(ordered[0].shape, np.int32)
    for k in range(1, len(ordered)):
        new = ordered[k] != ordered[k - 1]
        out += new if isinstance(count, int) else new & (count > k)
    return [out]


def median() -> Reducer:
    """Return the median."""
    return Reducer(
        "median", 1, ("median",), lambda c, w: quantiles(_numbers(c[0]), [50]),
        _stack(_median_pixels), _averaged,
    )  # fmt: skip


def percentile(shares: Sequence[float], names: Sequence[str] | None = None) -> Reducer:
    """Return the given percentiles, named p10, p90 and so on."""
    if names is None:
        names = [f"p{int(p) if p == int(p) else p}" for p in shares]
    if len(names) != len(shares):
        raise EngineError("The numbers of percentiles and output names must match.")
    return Reducer(
        "percentile", 1, tuple(names), lambda c, w: quantiles(_numbers(c[0]), shares),
        _stack(_percentile_pixels(shares)), lambda k: _averaged(k) * len(shares),
        options={"percentiles": list(shares)},
    )  # fmt: skip


def extremum(largest: bool, inputs: int = 1) -> Reducer:
    """Return the least or the greatest first input, and the inputs beside it."""
    name = "max" if largest else "min"
    outputs = (name,) if inputs == 1 else (name, *(f"{name}{i}" for i in range(1, inputs)))
    return Reducer(
        name, inputs, outputs, _best(largest, inputs),
        lambda kinds, shape: _BestFold(kinds, shape, largest), list,
    )  # fmt: skip


def _min_max() -> Reducer:
    return Reducer(
        "minMax", 1, ("min", "max"), lambda c, w: _best(False, 1)(c, w) + _best(True, 1)(c, w),
        options={"shared": True}, parts=(extremum(False), extremum(True)),
    )  # fmt: skip


def _spread_reducer(name: str, output: str, root: bool, sample: bool) -> Reducer:
    return Reducer(
        name, 1, (output,), _spread(root, sample),
        lambda kinds, shape: _MomentFold(kinds, shape, root, sample), _real,
    )  # fmt: skip


def _end_reducer(name: str, output: str, last: bool, nulls: bool) -> Reducer:
    return Reducer(
        name, 1, (output,), _end(last),
        lambda kinds, shape: _EndFold(kinds, shape, last, nulls), _same, nulls=nulls,
    )  # fmt: skip


def to_list(tuple_size: int | None = None, optional: int = 0) -> Reducer:
    """Return all inputs as a list, or as a list of tuples."""
    size = tuple_size or 1

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        plain = [[_scalar(v) for v in c] for c in columns]
        if tuple_size is None:
            return [plain[0]]
        return [[list(row) for row in zip(*plain, strict=True)]]

    return Reducer("toList", size, ("list",), compute, optional=optional)


def kendalls(inputs: int = 1) -> Reducer:
    """Return Kendall's tau-b of two inputs, or of one input with its order ([A])."""
    pair = _correlation("kendall")

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        if inputs == 1:
            return pair([np.arange(len(columns[0])), columns[0]], weights)
        return pair(columns, weights)

    return Reducer("kendallsCorrelation", inputs, ("tau", "p-value"), compute)


def to_collection(names: Sequence[str], optional: int = 0) -> Reducer:
    """Return all inputs as the features of a collection."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        from .values import Collection, Feature

        rows = zip(*([_scalar(v) for v in c] for c in columns), strict=True)
        return [
            Collection(
                [
                    Feature(None, {**dict(zip(names, row, strict=True)), "system:index": str(k)})
                    for k, row in enumerate(rows)
                ]
            )
        ]

    return Reducer("toCollection", len(names), ("features",), compute, optional=optional)


def disaggregated(reducer: Reducer) -> Reducer:
    """Return the reducer over the items of lists and dictionaries ([A])."""

    def flat(value: Any) -> list[Any]:
        if isinstance(value, dict):
            value = list(value.values())
        return [x for v in value for x in flat(v)] if isinstance(value, list) else [value]

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        return reducer.reduce([[x for v in c for x in flat(v)] for c in columns])

    return Reducer("disaggregate", reducer.inputs, reducer.outputs, compute)


def combined(first: Reducer, second: Reducer, prefix: str = "", shared: bool = False) -> Reducer:
    """Return two reducers in parallel ([A] Reducer.combine)."""
    if shared and first.inputs != second.inputs:
        raise EngineError(
            "Reducers with shared inputs must have the same number of inputs; they have "
            f"{first.inputs} and {second.inputs}."
        )
    inputs = first.inputs if shared else first.inputs + second.inputs
    outputs = list(first.outputs)
    for name in second.outputs:
        outputs.append(f"{prefix}{name}")
    return Reducer(
        "combine", inputs, tuple(outputs), first.compute,
        options={"shared": shared} if shared else {}, parts=(first, second),
    )  # fmt: skip


def repeated(reducer: Reducer, count: int) -> Reducer:
    """Return copies side by side, each output a list of the copies' ([A] Reducer.repeat)."""
    n = len(reducer.outputs)

    def collect(flat: list[Any]) -> list[Any]:
        return [flat[i::n] for i in range(n)]

    return Reducer(
        "repeat", reducer.inputs * count, reducer.outputs, reducer.compute,
        options={"collect": collect}, parts=(reducer,) * count,
    )  # fmt: skip


def for_each(reducer: Reducer, names: Sequence[str]) -> Reducer:
    """Return a copy for every name ([A] Reducer.forEach)."""
    if len(reducer.outputs) == 1:
        outputs = tuple(names)
    else:
        outputs = tuple(f"{n}_{o}" for n in names for o in reducer.outputs)
    return Reducer(
        "forEach", reducer.inputs * len(names), outputs, reducer.compute,
        parts=(reducer,) * len(names),
    )  # fmt: skip


def grouped(reducer: Reducer, field_number: int, name: str) -> Reducer:
    """Return a list of dictionaries, one per value of an input ([A] Reducer.group)."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        keys = columns[field_number]
        rest = [c for i, c in enumerate(columns) if i != field_number]
        plain = np.asarray(keys) if not isinstance(keys, np.ndarray) else keys
        found, place = np.unique(plain, return_inverse=True)
        out = []
        for number, key in enumerate(found):
            keep = place.ravel() == number
            part = reducer.reduce([_taken(c, keep) for c in rest], weights[keep])
            out.append({name: _scalar(key), **_shown(reducer, part)})
        return [out]

    return Reducer(
        "group", reducer.inputs + 1, ("groups",), compute, weighted=reducer.weighted,
        options={"groupField": field_number, "groupName": name},
    )  # fmt: skip


def _shown(reducer: Reducer, values: list[Any]) -> dict[str, Any]:
    if reducer.outputs == ("groups",):
        return {"groups": values[0]}
    return dict(zip(reducer.outputs, values, strict=True))


def renamed(reducer: Reducer, outputs: Sequence[str]) -> Reducer:
    """Return the reducer with its outputs renamed."""
    if len(outputs) > len(reducer.outputs):
        raise EngineError(
            f"The reducer has {len(reducer.outputs)} outputs; {len(outputs)} names were given."
        )
    if len(outputs) < len(reducer.outputs):
        keep = [i for i, name in enumerate(reducer.outputs) if name in outputs]
        return Reducer(
            reducer.name, reducer.inputs, tuple(reducer.outputs[i] for i in keep),
            lambda c, w: [reducer.reduce(c, w)[i] for i in keep], weighted=reducer.weighted,
        )  # fmt: skip
    return Reducer(
        reducer.name, reducer.inputs, tuple(outputs), reducer.compute, reducer.make_fold,
        reducer.kinds, reducer.weighted, reducer.optional, reducer.nulls, reducer.options,
        reducer.parts,
    )  # fmt: skip


def unweighted(reducer: Reducer) -> Reducer:
    """Return the reducer with every weight taken as 1."""
    return Reducer(
        reducer.name, reducer.inputs, reducer.outputs, reducer.compute,
        None if reducer.make_fold is None else _unweighted_fold(reducer.make_fold),
        reducer.kinds, False, reducer.optional, reducer.nulls, reducer.options,
        tuple(unweighted(p) for p in reducer.parts),
    )  # fmt: skip


def _unweighted_fold(
    make: Callable[[Sequence[PixelType], tuple[int, int]], Fold],
) -> Callable[[Sequence[PixelType], tuple[int, int]], Fold]:
    def build(kinds: Sequence[PixelType], shape: tuple[int, int]) -> Fold:
        fold = make(kinds, shape)
        if isinstance(fold, _SumFold):
            fold.weighted = False
        return fold

    return build


def split_weights(reducer: Reducer) -> Reducer:
    """Return the reducer with its weight as a further input."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        return reducer.reduce(columns[:-1], _widen(_numbers(columns[-1])))

    return Reducer(reducer.name, reducer.inputs + 1, reducer.outputs, compute)


def fixed_histogram(low: float, high: float, steps: int, cumulative: bool = False) -> Reducer:
    """Return counts in bins of one width; what lies outside is left out."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = _widen(_numbers(columns[0]))
        inside = (values >= low) & (values < high)
        bins = np.floor((values[inside] - low) / (high - low) * steps).astype(int)
        counts = np.bincount(np.clip(bins, 0, steps - 1), weights[inside], minlength=steps)
        if cumulative:
            counts = np.cumsum(counts)
        edges = low + np.arange(steps) * (high - low) / steps
        return [np.column_stack([edges, counts]).tolist()]

    return Reducer("fixedHistogram", 1, ("histogram",), compute, weighted=True)


def histogram(most: int | None = None, width: float | None = None) -> Reducer:
    """Return a histogram with bins chosen from the data.

    Earth Engine doubles bin widths until few enough are left; so does this, from
    ``width`` or the power of two that fits.
    """

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = _widen(_numbers(columns[0]))
        if len(values) == 0:
            return [None]
        buckets = most or 256
        low, high = float(values.min()), float(values.max())
        step = width or 0.0
        if not step:
            step = 1.0 if (values == np.round(values)).all() else (high - low) / buckets or 1.0
            step = 2.0 ** math.floor(math.log2(step)) if step != 1.0 else 1.0
        while math.floor(high / step) - math.floor(low / step) + 1 > buckets:
            step *= 2
        first = math.floor(low / step)
        bins = np.floor(values / step).astype(np.int64) - first
        counts = np.bincount(bins, weights)
        sums = np.bincount(bins, values * weights)
        means = np.divide(
            sums, counts, out=(np.arange(len(counts)) + first + 0.5) * step, where=counts > 0
        )
        return [{
            "bucketMin": first * step, "bucketWidth": step, "bucketMeans": means.tolist(),
            "histogram": counts.tolist(),
        }]  # fmt: skip

    return Reducer("histogram", 1, ("histogram",), compute, weighted=True)


def interval_mean(low: float, high: float) -> Reducer:
    """Return the mean of what lies between two percentiles."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = np.sort(_widen(_numbers(columns[0])))
        if len(values) == 0:
            return [None]
        a, b = np.percentile(values, [low, high])
        return [float(values[(values >= a) & (values <= b)].mean())]

    return Reducer("intervalMean", 1, ("mean",), compute)


def linear_regression(x_count: int, y_count: int = 1, ridge: float | None = None) -> Reducer:
    """Return least-squares coefficients and the root mean square of the residuals."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        table = np.column_stack([_widen(_numbers(c)) for c in columns])
        x, y = table[:, :x_count], table[:, x_count:]
        if len(x) <= x_count:
            return [None, None]
        if ridge is not None:
            mx, my = x.mean(axis=0), y.mean(axis=0)
            xs, ys = x - mx, y - my
            slope = np.linalg.solve(xs.T @ xs + ridge * np.eye(x_count), xs.T @ ys)
            coefficients = np.vstack([slope, my - mx @ slope])
            off = y - (x @ slope + coefficients[-1])
        else:
            root = np.sqrt(weights)[:, None]
            coefficients = np.linalg.lstsq(x * root, y * root, rcond=None)[0]
            off = y - x @ coefficients
        return [coefficients.tolist(), np.sqrt(np.mean(off**2, axis=0)).tolist()]

    name = "linearRegression" if ridge is None else "ridgeRegression"
    return Reducer(name, x_count + y_count, ("coefficients", "residuals"), compute, weighted=True)


_SIMPLE: dict[str, Callable[[], Reducer]] = {
    "mean": lambda: Reducer(
        "mean", 1, ("mean",), _mean, lambda k, s: _SumFold(k, s, "mean"), _averaged, True
    ),
    "sum": lambda: Reducer(
        "sum", 1, ("sum",), _sum, lambda k, s: _SumFold(k, s, "sum"), _real, True
    ),
    "product": lambda: Reducer(
        "product", 1, ("product",),
        lambda c, w: [float(np.prod(_widen(_numbers(c[0]))))],
        lambda k, s: _ProductFold(k, s, np.multiply, 1, np.float64), _real,
    ),
    "count": lambda: Reducer(
        "count", 1, ("count",), lambda c, w: [len(c[0])], _CountFold, lambda k: [COUNT]
    ),
    "countEvery": lambda: Reducer(
        "countEvery", 1, ("count",), lambda c, w: [len(c[0])],
        lambda k, s: _CountFold(k, s, every=True), lambda k: [COUNT], nulls=True,
    ),
    "countDistinct": lambda: Reducer(
        "countDistinct", 1, ("count",), lambda c, w: [len({_scalar(v) for v in c[0]})],
        _stack(_distinct_pixels), lambda k: [COUNT], nulls=True,
    ),
    "countDistinctNonNull": lambda: Reducer(
        "countDistinctNonNull", 1, ("count",), lambda c, w: [len({_scalar(v) for v in c[0]})],
        _stack(_distinct_pixels), lambda k: [COUNT],
    ),
    "countRuns": lambda: Reducer(
        "countRuns", 1, ("count",),
        lambda c, w: [sum(1 for i in range(len(c[0])) if i == 0 or c[0][i] != c[0][i - 1])],
    ),
    "min": lambda: extremum(False),
    "max": lambda: extremum(True),
    "minMax": _min_max,
    "median": median,
    "mode": lambda: Reducer("mode", 1, ("mode",), _mode, _stack(_mode_pixels), _same),
    "first": lambda: _end_reducer("first", "first", False, True),
    "firstNonNull": lambda: _end_reducer("firstNonNull", "first", False, False),
    "last": lambda: _end_reducer("last", "last", True, True),
    "lastNonNull": lambda: _end_reducer("lastNonNull", "last", True, False),
    "stdDev": lambda: _spread_reducer("stdDev", "stdDev", True, False),
    "sampleStdDev": lambda: _spread_reducer("sampleStdDev", "stdDev", True, True),
    "variance": lambda: _spread_reducer("variance", "variance", False, False),
    "sampleVariance": lambda: _spread_reducer("sampleVariance", "variance", False, True),
    "skew": lambda: Reducer("skew", 1, ("skew",), _higher(3)),
    "kurtosis": lambda: Reducer("kurtosis", 1, ("kurtosis",), _higher(4)),
    "allNonZero": lambda: Reducer(
        "allNonZero", 1, ("all",), _all(True), lambda k, s: _LogicFold(k, s, True),
        lambda k: [UNIT],
    ),
    "anyNonZero": lambda: Reducer(
        "anyNonZero", 1, ("any",), _all(False), lambda k, s: _LogicFold(k, s, False),
        lambda k: [UNIT],
    ),
    "bitwiseOr": lambda: Reducer(
        "bitwiseOr", 1, ("bitwiseOr",), _bits(np.bitwise_or),
        lambda k, s: _ProductFold(k, s, np.bitwise_or, 0, np.int64), _same,
    ),
    "bitwiseAnd": lambda: Reducer(
        "bitwiseAnd", 1, ("bitwiseAnd",), _bits(np.bitwise_and),
        lambda k, s: _ProductFold(k, s, np.bitwise_and, -1, np.int64), _same,
    ),
    "linearFit": lambda: Reducer(
        "linearFit", 2, ("scale", "offset"), _fit, _FitFold, lambda k: [DOUBLE, DOUBLE], True
    ),
    "frequencyHistogram": lambda: Reducer(
        "frequencyHistogram", 1, ("histogram",), _frequencies, weighted=True
    ),
    "circularMean": lambda: Reducer(
        "circularMean", 1, ("circularMean",), _circular("mean"), weighted=True
    ),
    "circularVariance": lambda: Reducer(
        "circularVariance", 1, ("circularVariance",), _circular("variance"), weighted=True
    ),
    "circularStddev": lambda: Reducer(
        "circularStddev", 1, ("circularStdDev",), _circular("spread"), weighted=True
    ),
    "pearsonsCorrelation": lambda: Reducer(
        "pearsonsCorrelation", 2, ("correlation", "p-value"), _correlation("pearson")
    ),
    "spearmansCorrelation": lambda: Reducer(
        "spearmansCorrelation", 2, ("correlation", "p-value"), _correlation("spearman")
    ),
    "kendallsCorrelation": lambda: kendalls(1),
    "sensSlope": lambda: Reducer("sensSlope", 2, ("slope", "offset"), _sens),
    "toList": to_list,
}  # fmt: skip


def named_reducer(name: str) -> Reducer:
    """Return the reducer of a name that takes no settings.

    Examples
    --------
    >>> named_reducer("mean").reduce([[1, 2, None, 3]])
    [2.0]
    """
    try:
        return _SIMPLE[name.removeprefix("Reducer.")]()
    except KeyError:
        raise EngineError(f"Unknown reducer '{name}'.") from None


SIMPLE_REDUCERS = tuple(_SIMPLE)
LABEL = BYTE
