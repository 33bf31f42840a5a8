"""Reducers made of reducers: side by side, repeated, by group, renamed, without weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..cells import cell
from ..errors import EngineError
from ..pixels import Array
from ..types import PixelType
from .base import Fold, MakeFold, Reducer, array_value, arrays_of, real, scalar, taken
from .folds import SumFold

__all__ = [
    "combined",
    "disaggregated",
    "for_each",
    "for_each_element",
    "grouped",
    "reduce_weighted",
    "renamed",
    "repeated",
    "split_weights",
    "unweighted",
]

_MOST_INPUTS = 100_000


def combined(first: Reducer, second: Reducer, prefix: str = "", shared: bool = False) -> Reducer:
    """Return two reducers in parallel ([A] Reducer.combine)."""
    if shared and first.inputs != second.inputs:
        raise EngineError(
            "Reducers with shared inputs must have the same number of inputs; they have "
            f"{first.inputs} and {second.inputs}."
        )
    if len(first.outputs) + len(second.outputs) > _MOST_INPUTS:
        raise EngineError(f"A reducer can have at most {_MOST_INPUTS} outputs.")
    outputs = (*first.outputs, *(f"{prefix}{name}" for name in second.outputs))
    return Reducer(
        "combine", first.inputs if shared else first.inputs + second.inputs, outputs,
        first.compute, options={"shared": shared} if shared else {}, parts=(first, second),
        arrays=first.arrays and second.arrays, plain=first.plain and second.plain,
    )  # fmt: skip


def _check_count(reducer: Reducer, count: int) -> None:
    if not 0 < count * reducer.inputs <= _MOST_INPUTS:
        raise EngineError(f"Cannot make {count} copies of a reducer: 1 to {_MOST_INPUTS} inputs.")


def repeated(reducer: Reducer, count: int) -> Reducer:
    """Return copies side by side, each output a list of the copies' ([A] Reducer.repeat)."""
    _check_count(reducer, count)
    n = len(reducer.outputs)

    def collect(flat: list[Any]) -> list[Any]:
        return [flat[i::n] for i in range(n)]

    return Reducer(
        "repeat", reducer.inputs * count, reducer.outputs, reducer.compute,
        options={"collect": collect}, parts=(reducer,) * count, plain=reducer.plain,
    )  # fmt: skip


def for_each(reducer: Reducer, names: Sequence[str]) -> Reducer:
    """Return a copy for every name ([A] Reducer.forEach)."""
    _check_count(reducer, len(names))
    if len(reducer.outputs) == 1:
        outputs = tuple(names)
    else:
        outputs = tuple(f"{n}_{o}" for n in names for o in reducer.outputs)
    return Reducer(
        "forEach", reducer.inputs * len(names), outputs, reducer.compute,
        parts=(reducer,) * len(names), arrays=reducer.arrays, plain=reducer.plain,
    )  # fmt: skip


def for_each_element(reducer: Reducer) -> Reducer:
    """Return the reducer for every position of arrays of one shape ([A])."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        tables = [arrays_of(c) for c in columns]
        if not tables[0]:
            return [None] * len(reducer.outputs)
        shape = tables[0][0].shape
        if any(item.shape != shape for table in tables for item in table):
            raise EngineError("The arrays must have equal shapes.")
        stacks = [np.stack(t).reshape(len(t), -1) for t in tables]
        found = [
            reducer.reduce([s[:, k] for s in stacks], weights) for k in range(math.prod(shape))
        ]
        given = [
            PixelType("int", -(2**63), 2**63 - 1) if s.dtype.kind in "iub" else PixelType("double")
            for s in stacks
        ]
        out: list[Any] = []
        for slot, kind in enumerate(reducer.types(given)):
            values = [row[slot] for row in found]
            if any(v is None for v in values):
                out.append(None)
                continue
            if not all(isinstance(v, (int, float)) for v in values):
                raise EngineError("Each output of the reducer must be a number.")
            out.append(array_value(np.asarray(values).reshape(shape), kind))
        return out

    def kinds(given: Sequence[PixelType]) -> list[PixelType]:
        flat = [k.with_dimensions(0) for k in given]
        dimensions = max(k.dimensions for k in given) if given else 1
        return [k.with_dimensions(dimensions) for k in reducer.types(flat)]

    return Reducer(
        "forEachElement", reducer.inputs, reducer.outputs, compute, kinds=kinds,
        weighted=_is_weighted(reducer), arrays=True,
    )  # fmt: skip


def _is_weighted(reducer: Reducer) -> bool:
    return reducer.weighted or any(_is_weighted(p) for p in reducer.parts)


def disaggregated(reducer: Reducer, axis: int | None = None) -> Reducer:
    """Return the reducer over the items of arrays, lists and dictionaries ([A]).

    With ``axis`` arrays are taken apart along that axis only.
    """
    from ..values import Array as ArrayValue

    def flat(value: Any) -> list[Any]:
        if isinstance(value, ArrayValue):
            if axis is None:
                return value.values.ravel().tolist()
            if not 0 <= axis < value.values.ndim:
                raise EngineError(
                    f"Axis {axis} is out of range for an array of {value.values.ndim} dimension(s)."
                )
            parts = np.moveaxis(value.values, axis, 0)
            return [p.item() if p.ndim == 0 else ArrayValue(p, value.type) for p in parts]
        if isinstance(value, np.void):
            return flat(ArrayValue(cell(value)))
        if isinstance(value, np.ndarray):
            return flat(ArrayValue(value))
        if isinstance(value, dict):
            value = list(value.values())
        return [x for v in value for x in flat(v)] if isinstance(value, list) else [value]

    def whole(columns: Sequence[Any], weights: Array, inside: Array | None) -> list[Any]:
        items = [[flat(v) for v in c] for c in columns]
        sizes = [[len(v) for v in c] for c in items]
        if any(s != sizes[0] for s in sizes[1:]):
            raise EngineError("Aggregate inputs must have as many items each.")
        made = [[x for part in c for x in part] for c in items]
        times = np.asarray(sizes[0], int) if sizes else np.zeros(0, int)
        return reducer.reduce(
            made,
            np.repeat(weights, times),
            None if inside is None else np.repeat(inside, times),
        )

    return Reducer(
        "disaggregate", reducer.inputs, reducer.outputs, reducer.compute,
        kinds=lambda given: reducer.types([k.with_dimensions(0) for k in given]),
        whole=whole, arrays=axis is None, plain=reducer.plain,
    )  # fmt: skip


def grouped(reducer: Reducer, field_number: int, name: str) -> Reducer:
    """Return a list of dictionaries, one per value of an input ([A] Reducer.group)."""
    if not 0 <= field_number <= reducer.inputs:
        raise EngineError(
            f"groupField {field_number} is out of range: the reducer has {reducer.inputs + 1} "
            "inputs with it."
        )

    def whole(columns: Sequence[Any], weights: Array, inside: Array | None) -> list[Any]:
        keys = columns[field_number]
        known = np.array([k is not None for k in keys], bool) & (weights > 0)
        if not _is_weighted(reducer) and inside is not None:
            known &= inside
        if not known.all():
            columns = [taken(c, known) for c in columns]
            weights, keys = weights[known], columns[field_number]
            inside = None if inside is None else inside[known]
        rest = [c for i, c in enumerate(columns) if i != field_number]
        try:
            plain = keys if isinstance(keys, np.ndarray) else np.asarray(keys)
            found, place = np.unique(plain, return_inverse=True)
        except (TypeError, ValueError):
            raise EngineError("Groups must be numbers or strings.") from None
        if plain.ndim != 1:
            raise EngineError("Groups must be numbers or strings.")
        out = []
        for number, key in enumerate(found):
            keep = place.ravel() == number
            part = reducer.reduce(
                [taken(c, keep) for c in rest],
                weights[keep],
                None if inside is None else inside[keep],
            )
            out.append({name: scalar(key), **_shown(reducer, part)})
        return [out]

    return Reducer(
        "group", reducer.inputs + 1, ("groups",), reducer.compute, whole=whole, plain=False,
        weighted=_is_weighted(reducer),
        options={"groupField": field_number, "groupName": name, "inner": reducer},
    )  # fmt: skip


def _shown(reducer: Reducer, values: list[Any]) -> dict[str, Any]:
    if reducer.outputs == ("groups",):
        return {"groups": values[0]}
    return dict(zip(reducer.outputs, values, strict=True))


class _SomeFold(Fold):
    """Some of the results of a fold."""

    def __init__(self, fold: Fold, keep: Sequence[int]) -> None:
        self.fold, self.keep = fold, keep

    def add(self, layers: Sequence[Any]) -> None:
        self.fold.add(layers)

    def result(self) -> list[Any]:
        found = self.fold.result()
        return [found[k] for k in self.keep]


def renamed(reducer: Reducer, outputs: Sequence[str | None]) -> Reducer:
    """Return the reducer with its outputs renamed; those without a name are left out ([A])."""
    if len(outputs) != len(reducer.outputs):
        raise EngineError(
            f"The reducer has {len(reducer.outputs)} outputs; {len(outputs)} names were given."
        )
    keep = [k for k, name in enumerate(outputs) if name]
    names = tuple(str(outputs[k]) for k in keep)
    if len(keep) == len(outputs):
        return replace(reducer, outputs=names)
    if not keep:
        raise EngineError("A reducer must keep at least one output.")
    return Reducer(
        reducer.name, reducer.inputs, names, reducer.compute,
        lambda kinds, shape: _SomeFold(reducer.fold(kinds, shape), keep),
        lambda kinds: [reducer.types(kinds)[k] for k in keep],
        _is_weighted(reducer), arrays=reducer.arrays, plain=reducer.plain,
        whole=lambda c, w, i: [reducer.reduce(c, w, i)[k] for k in keep],
    )  # fmt: skip


def unweighted(reducer: Reducer) -> Reducer:
    """Return the reducer with every weight taken as 1."""
    whole = reducer.whole
    plain = None
    if whole is not None:
        given = whole

        def plain(columns: Sequence[Any], weights: Array, inside: Array | None) -> list[Any]:
            keep = weights > 0
            if inside is not None:
                keep = keep & inside
            return given([taken(c, keep) for c in columns], np.ones(int(keep.sum())), None)

    return replace(
        reducer,
        make_fold=None if reducer.make_fold is None else _unweighted_fold(reducer.make_fold),
        weighted=False,
        parts=tuple(unweighted(p) for p in reducer.parts),
        whole=plain,
    )


def _unweighted_fold(make: MakeFold) -> MakeFold:
    def build(kinds: Sequence[PixelType], shape: tuple[int, int]) -> Fold:
        fold = make(kinds, shape)
        if isinstance(fold, SumFold):
            fold.weighted = False
        return fold

    return build


def split_weights(reducer: Reducer) -> Reducer:
    """Return the reducer with each weighted input as two: a value, and then its weight.

    Reducers without weights stay as they are. Of a tuple the least weight counts.
    """
    if not _is_weighted(reducer):
        return reducer
    if reducer.parts and not reducer.options.get("shared"):
        parts = tuple(split_weights(p) for p in reducer.parts)
        return replace(reducer, inputs=sum(p.inputs for p in parts), parts=parts)

    def whole(columns: Sequence[Any], weights: Array, inside: Array | None) -> list[Any]:
        keep = weights > 0
        if inside is not None:
            keep = keep & inside
        keep &= np.array(
            [all(v is not None for v in row) for row in zip(*columns, strict=True)], bool
        )
        columns = [taken(c, keep) for c in columns]
        least = np.min([real(c) for c in columns[1::2]], axis=0)
        return reducer.reduce(columns[0::2], least)

    def types(kinds: Sequence[PixelType]) -> list[PixelType]:
        return reducer.types(kinds[0::2])

    return Reducer(
        reducer.name, 2 * reducer.inputs, reducer.outputs, reducer.compute, kinds=types,
        whole=whole, plain=reducer.plain,
    )  # fmt: skip


def reduce_weighted(
    reducer: Reducer, columns: Sequence[Any], weights: Sequence[Array]
) -> list[Any]:
    """Return the outputs for columns with one weight for all inputs, or one per reducer.

    Parameters
    ----------
    reducer : Reducer
    columns : one sequence per input
    weights : sequence of (n,) float
        One for all, or as many as there are weighted reducers in parallel, in their order.

    Raises
    ------
    EngineError
        Their number is another.
    """
    if len(weights) == 1:
        return reducer.reduce(columns, weights[0])
    need = _weighted_parts(reducer)
    if len(weights) != need:
        raise EngineError(f"Need 1 or {need} weights for the reducer's inputs, got {len(weights)}.")
    out: list[Any] = []
    column = weight = 0
    for part in reducer.parts:
        count = _weighted_parts(part)
        mine = columns[column : column + part.inputs]
        if count:
            out += reduce_weighted(part, mine, weights[weight : weight + count])
        else:
            out += part.reduce(mine)
        column, weight = column + part.inputs, weight + count
    return out if "collect" not in reducer.options else list(reducer.options["collect"](out))


def _weighted_parts(reducer: Reducer) -> int:
    if reducer.parts and not reducer.options.get("shared"):
        return sum(_weighted_parts(part) for part in reducer.parts)
    return int(_is_weighted(reducer))
