"""Reducers pixel by pixel: layers of a stack are taken one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import arraykernels, kernels
from ..budget import steps
from ..cells import cell, chosen, gathered, is_cells, packed, ragged
from ..errors import EngineError
from ..pixels import Array, Pixels
from ..types import PixelType
from .base import Fold, MakeFold, Reducer, widen

__all__ = [
    "BestFold",
    "CountFold",
    "EachPixelFold",
    "EndFold",
    "ListFold",
    "LogicFold",
    "MomentFold",
    "PartsFold",
    "ProductFold",
    "StackFold",
    "SumFold",
    "TableFold",
    "empty",
    "stacked",
    "tabled",
]


class PartsFold(Fold):
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


class SumFold(_Base):
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
            np.add(self.total, data * widen(mask), out=self.total, where=ok)
            self.weight = self.weight + widen(mask)

    def result(self) -> list[Pixels]:
        if self.kind == "mean":
            weight = np.asarray(self.weight, float)
            out = np.divide(self.total, weight, where=weight > 0, out=np.zeros(self.shape))
            return [Pixels(out, self.mask)]
        return [Pixels(self.total, self.mask)]


class CountFold(_Base):
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


class MomentFold(_Base):
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


class BestFold(_Base):
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
            return [empty(self.shape)] * max(len(self.kinds), 1)
        return [Pixels(b, self.mask) for b in self.best]


def empty(shape: tuple[int, int]) -> Pixels:
    return Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool))


class EndFold(_Base):
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
            self.data = np.broadcast_to(data, self.shape)
            if not is_cells(data):
                self.data = self.data.astype(self.kinds[0].dtype)
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
        if is_cells(data) or is_cells(self.data):
            take = np.broadcast_to(np.asarray(take), self.shape)
            self.data = chosen(take, np.broadcast_to(data, self.shape), self.data)
        else:
            np.copyto(self.data, data, where=take)
        if self.mask is None and mask is not None and mask.dtype != bool:
            # What lies on top is there in part, however whole it is below.
            self.mask = np.ones(self.shape, np.float32)
        if self.mask is not None:
            fresh = np.float32(1) if mask is None else mask
            if self.mask.dtype == bool and (mask is None or mask.dtype == bool):
                self.mask |= np.asarray(take)
            else:
                self.mask = np.where(take, fresh, self.mask).astype(np.float32)

    def result(self) -> list[Pixels]:
        if self.data is None:
            return [empty(self.shape)]
        return [Pixels(self.data, self.mask)]


class LogicFold(_Base):
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


class ProductFold(_Base):
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


class StackFold(_Base):
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
            return [empty(self.shape)]
        dtype = self.kinds[0].dtype
        if dtype.kind != "f":
            dtype = np.result_type(dtype, *(a.dtype for a in self.layers))
        ordered, count = kernels.sorted_valid(self.layers, self.masks, dtype)
        out = self.finish(ordered, count)
        return [Pixels(np.broadcast_to(a, self.shape), self.mask) for a in out]


class TableFold(_Base):
    """Holds every layer and hands all of them to a function of tables.

    Parameters
    ----------
    kinds : sequence of PixelType
    shape : (height, width)
    function : (columns, ok) -> outputs, or (outputs, valid)
        ``columns`` are (n, layers) per input; ``ok`` (n, layers) tells what counts, or is
        None where everything does. Outputs are stacks (n, *lengths); ``valid`` (n,) bool.
    outputs : int
    """

    # Doubles that one call may take beside its inputs.
    _AT_ONCE = 2**21

    def __init__(
        self,
        kinds: Sequence[PixelType],
        shape: tuple[int, int],
        function: Callable[..., Any],
        outputs: int,
    ) -> None:
        super().__init__(kinds, shape)
        self.function = function
        self.outputs = outputs
        self.layers: list[list[Array]] = []
        self.masks: list[Array | None] = []

    def add(self, layers: Sequence[Pixels]) -> None:
        mask = layers[0].mask
        for layer in layers[1:]:
            mask = kernels.both(mask, layer.mask)
        self.masks.append(self.see(mask))
        self.layers.append([layer.data for layer in layers])

    def result(self) -> list[Pixels]:
        if not self.layers:
            return [empty(self.shape)] * self.outputs
        n = self.shape[0] * self.shape[1]
        width = max(self._AT_ONCE // (len(self.layers) * len(self.kinds)), 1)
        parts = [self._part(slice(start, min(start + width, n))) for start in range(0, n, width)]
        out = []
        for k in range(self.outputs):
            stack = np.concatenate([made[k] for made, _ in parts])
            out.append(packed(stack).reshape(self.shape))
        valid = None
        if any(ok is not None for _, ok in parts):
            valid = np.concatenate(
                [np.ones(len(made[0]), bool) if ok is None else ok for made, ok in parts]
            ).reshape(self.shape)
        mask = kernels.both(self.mask, valid)
        return [Pixels(data, mask) for data in out]

    def _part(self, rows: slice) -> tuple[list[Array], Array | None]:
        columns = [
            np.stack([_flat(layer[k], self.shape)[rows] for layer in self.layers], axis=1)
            for k in range(len(self.layers[0]))
        ]
        ok = None
        if any(m is not None for m in self.masks):
            ok = np.stack(
                [
                    np.ones(len(columns[0]), bool) if m is None else _flat(m, self.shape)[rows]
                    for m in self.masks
                ],
                axis=1,
            )
        made = self.function(columns, ok)
        return made if isinstance(made, tuple) else (made, None)


def _flat(data: Array, shape: tuple[int, int]) -> Array:
    return np.broadcast_to(data, shape).reshape(-1)


class ListFold(TableFold):
    """The valid layers of every pixel, one after another, as arrays."""

    def __init__(self, kinds: Sequence[PixelType], shape: tuple[int, int], tuples: bool) -> None:
        super().__init__(kinds, shape, lambda columns, ok: columns, 1)
        self.tuples = tuples

    def result(self) -> list[Pixels]:
        if not self.layers:
            return [empty(self.shape)]
        columns = [
            np.stack([_flat(layer[k], self.shape) for layer in self.layers], axis=1)
            for k in range(len(self.layers[0]))
        ]
        table = np.stack(columns, axis=2) if self.tuples else columns[0]
        found: Any = table
        if any(m is not None for m in self.masks):
            every = np.ones((1, 1), bool)
            ok = [_flat(every if m is None else m, self.shape) for m in self.masks]
            found = arraykernels.kept(table, np.stack(ok, axis=1))
        if not isinstance(found, list):
            return [Pixels(packed(found).reshape(self.shape), self.mask)]
        return [Pixels(ragged(found, len(table)).reshape(self.shape), self.mask)]


class EachPixelFold(_Base):
    """Calls a reducer for the column of every pixel: for what has no faster form."""

    def __init__(
        self, reducer: Reducer, kinds: Sequence[PixelType], shape: tuple[int, int]
    ) -> None:
        super().__init__(kinds, shape)
        self.reducer = reducer
        self.types = reducer.types(kinds)
        self.layers: list[Sequence[Pixels]] = []

    def add(self, layers: Sequence[Pixels]) -> None:
        mask = layers[0].mask
        for layer in layers[1:]:
            mask = kernels.both(mask, layer.mask)
        self.see(mask)
        self.layers.append(layers)

    def result(self) -> list[Pixels]:
        if not self.layers:
            return [empty(self.shape)] * len(self.types)
        width = len(self.layers[0])
        required = width - self.reducer.optional
        data = [
            [np.broadcast_to(p.data, self.shape).reshape(-1) for p in layer]
            for layer in self.layers
        ]
        valid = [
            [
                None if p.mask is None
                else np.broadcast_to(np.asarray(kernels.valid(p.mask)), self.shape).reshape(-1)
                for p in layer
            ]
            for layer in self.layers
        ]  # fmt: skip
        n = self.shape[0] * self.shape[1]
        out = [np.empty(n, object) for _ in self.types]
        good = np.zeros(n, bool)
        for place in steps(range(n)):
            rows = []
            for layer, masks in zip(data, valid, strict=True):
                row = [
                    cell(d[place]) if m is None or m[place] else None
                    for d, m in zip(layer, masks, strict=True)
                ]
                if self.reducer.nulls or all(v is not None for v in row[:required]):
                    rows.append(row)
            columns = [list(c) for c in zip(*rows, strict=True)] if rows else [[]] * width
            found = self.reducer.reduce(columns)
            if any(v is None for v in found):
                continue
            good[place] = True
            for slot, value in enumerate(found):
                out[slot][place] = _as_cell(value, self.types[slot])
        if not good.any():
            return [empty(self.shape)] * len(self.types)
        mask = kernels.both(self.mask, good.reshape(self.shape))
        return [
            Pixels(_compact(cells.reshape(self.shape), good.reshape(self.shape), kind), mask)
            for cells, kind in zip(out, self.types, strict=True)
        ]


def _as_cell(value: Any, kind: PixelType) -> Any:
    from ..values import Array as ArrayValue

    found = np.asarray(value.values if isinstance(value, ArrayValue) else value)
    if found.dtype == object or found.dtype.kind not in "iufb":
        if found.size:
            raise EngineError("Pixels can hold numbers and arrays of one shape only.")
        found = np.zeros(found.shape)
    if found.size == 0 and found.ndim < kind.dimensions:
        found = found.reshape((0,) * kind.dimensions)
    return found.astype(kind.dtype)


def _compact(cells: Array, good: Array, kind: PixelType) -> Array:
    """Return cells in the fastest form that holds them."""
    if kind.dimensions == 0:
        out = np.zeros(cells.shape, kind.dtype)
        out[good] = [float(v) if kind.precision != "int" else int(v) for v in cells[good]]
        return out
    found = [item if ok else None for item, ok in zip(cells.ravel(), good.ravel(), strict=True)]
    return gathered(found).reshape(cells.shape)


def stacked(finish: Callable[[list[Array], Any], list[Array]]) -> MakeFold:
    """Return a fold over the sorted layers."""
    return lambda kinds, shape: StackFold(kinds, shape, finish)


def tabled(function: Callable[..., Any], outputs: int = 1) -> MakeFold:
    """Return a fold over the table of all layers."""
    return lambda kinds, shape: TableFold(kinds, shape, function, outputs)
