"""Counts, sums, moments, extremes and logic: reducers of values without an order.

Weighted ones ([A]: sum, mean, circular*) count a value by its weight; the others count what
has a weight above 0 and, over a region, its pixel centre inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import EngineError
from ..pixels import Array
from ..types import UNIT
from .base import COUNT, Reducer, averaged, numbers, real, same, scalar, unbounded, widen
from .folds import (
    BestFold,
    CountFold,
    EndFold,
    LogicFold,
    MomentFold,
    ProductFold,
    SumFold,
    stacked,
    tabled,
)

__all__ = ["SIMPLE", "extremum"]


def _sum(columns: list[Any], weights: Array) -> list[Any]:
    return [float(np.dot(real(columns[0]), weights))]


def _mean(columns: list[Any], weights: Array) -> list[Any]:
    total = float(weights.sum())
    if total <= 0:
        return [None]
    return [float(np.dot(real(columns[0]), weights)) / total]


def _spread(root: bool, sample: bool) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = real(columns[0])
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
        return [scalar(column[-1 if last else 0])]

    return compute


def _best(largest: bool, inputs: int) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        first = columns[0]
        if len(first) == 0:
            return [None] * inputs
        if isinstance(first, np.ndarray) and first.dtype != object:
            at = int(np.argmax(first) if largest else np.argmin(first))
        else:
            try:
                at = (max if largest else min)(range(len(first)), key=lambda i: first[i])
            except TypeError:
                raise EngineError("Reducer inputs of different types have no order.") from None
        return [scalar(c[at]) for c in columns]

    return compute


def _weights(values: Array, ok: Array | None) -> Array:
    return np.ones(values.shape) if ok is None else ok.astype(float)


def _circular_table(kind: str) -> Callable[[list[Array], Array | None], Any]:
    def table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
        angles = widen(columns[0])
        return _directions(kind, angles, _weights(angles, ok))

    return table


def _directions(kind: str, angles: Array, weights: Array) -> tuple[list[Array], Array]:
    total = weights.sum(axis=1)
    many = np.where(total > 0, total, 1)
    c = (np.cos(angles) * weights).sum(axis=1) / many
    s = (np.sin(angles) * weights).sum(axis=1) / many
    if kind == "mean":
        return [np.arctan2(s, c)], total > 0
    # Rounding must not make a length above 1.
    length = np.minimum(np.hypot(c, s), 1)
    if kind == "variance":
        return [1 - length], total > 0
    with np.errstate(divide="ignore"):
        return [np.sqrt(-2 * np.log(length))], total > 0


def _circular(kind: str, name: str, output: str) -> Reducer:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        (found,), ok = _directions(kind, real(columns[0])[None], weights[None])
        return [float(found[0]) if ok[0] else None]

    return Reducer(name, 1, (output,), compute, tabled(_circular_table(kind)), weighted=True)


def _moment(power: int, values: Array, weights: Array) -> tuple[list[Array], Array]:
    """Return standardised central moments of rows; 0 for rows of one value."""
    total = weights.sum(axis=1)
    many = np.where(total > 0, total, 1)
    off = (values - ((values * weights).sum(axis=1) / many)[:, None]) * weights
    spread = (off**2).sum(axis=1) / many
    flat = spread == 0
    out = (off**power).sum(axis=1) / many / np.where(flat, 1, spread) ** (power / 2)
    if power == 4:
        out = out - 3
    return [np.where(flat, 0, out)], total > 0


def _higher(name: str, power: int) -> Reducer:
    """Skewness, or kurtosis in excess of the normal distribution's, of a population."""

    def table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
        values = widen(columns[0])
        if ok is not None:
            values = np.where(ok, values, 0)
        return _moment(power, values, _weights(values, ok))

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = real(columns[0])[None]
        (found,), ok = _moment(power, values, np.ones(values.shape))
        return [float(found[0]) if ok[0] else None]

    return Reducer(name, 1, (name,), compute, tabled(table))


def _runs(columns: list[Any], weights: Array) -> list[Any]:
    column = columns[0]
    return [sum(1 for i in range(len(column)) if i == 0 or column[i] != column[i - 1])]


def _run_table(columns: list[Array], ok: Array | None) -> list[Array]:
    values = columns[0]
    count = np.zeros(len(values), np.int32)
    seen = np.zeros(len(values), bool)
    last = values[:, 0].copy()
    for k in range(values.shape[1]):
        use = np.ones(len(values), bool) if ok is None else ok[:, k]
        count += use & (~seen | (values[:, k] != last))
        last = np.where(use, values[:, k], last)
        seen |= use
    return [count]


def _all(every: bool) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        on = numbers(columns[0]) != 0
        if len(on) == 0:
            return [None]
        return [int(on.all() if every else on.any())]

    return compute


def _whole(column: Sequence[Any]) -> Array:
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        return column.astype(np.int64)
    # Doubles do not hold all bits of a large integer.
    return np.asarray([int(v) for v in column], np.int64)


def _bits(operator: np.ufunc) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = _whole(columns[0])
        return [int(operator.reduce(values)) if len(values) else None]

    return compute


def _distinct(columns: list[Any], weights: Array) -> list[Any]:
    column = columns[0]
    if isinstance(column, np.ndarray) and column.dtype != object:
        return [len(np.unique(column))]
    from ..jsonvalues import text_key

    return [len({text_key(v) if isinstance(v, (list, dict)) else v for v in column})]


def _distinct_pixels(ordered: list[Array], count: Any) -> list[Array]:
    out = np.ones(ordered[0].shape, np.int32)
    for k in range(1, len(ordered)):
        new = ordered[k] != ordered[k - 1]
        out += new if isinstance(count, int) else new & (count > k)
    return [out]


def extremum(largest: bool, inputs: int = 1) -> Reducer:
    """Return the least or the greatest first input, and the inputs beside it."""
    if not 1 <= inputs <= 1000:
        raise EngineError(f"numInputs must be at least 1 and at most 1000, not {inputs}.")
    name = "max" if largest else "min"
    outputs = (name,) if inputs == 1 else (name, *(f"{name}{i}" for i in range(1, inputs)))
    return Reducer(
        name, inputs, outputs, _best(largest, inputs),
        lambda kinds, shape: BestFold(kinds, shape, largest), list,
    )  # fmt: skip


def _min_max() -> Reducer:
    return Reducer(
        "minMax", 1, ("min", "max"), lambda c, w: _best(False, 1)(c, w) + _best(True, 1)(c, w),
        options={"shared": True}, parts=(extremum(False), extremum(True)),
    )  # fmt: skip


def _spread_reducer(name: str, output: str, root: bool, sample: bool) -> Reducer:
    return Reducer(
        name, 1, (output,), _spread(root, sample),
        lambda kinds, shape: MomentFold(kinds, shape, root, sample), unbounded,
    )  # fmt: skip


def _end_reducer(name: str, output: str, last: bool, nulls: bool) -> Reducer:
    return Reducer(
        name, 1, (output,), _end(last),
        lambda kinds, shape: EndFold(kinds, shape, last, nulls), same, nulls=nulls, arrays=True,
    )  # fmt: skip


SIMPLE: dict[str, Callable[[], Reducer]] = {
    "mean": lambda: Reducer(
        "mean", 1, ("mean",), _mean, lambda k, s: SumFold(k, s, "mean"), averaged, True
    ),
    "sum": lambda: Reducer(
        "sum", 1, ("sum",), _sum, lambda k, s: SumFold(k, s, "sum"), unbounded, True
    ),
    "product": lambda: Reducer(
        "product", 1, ("product",),
        lambda c, w: [float(np.prod(real(c[0])))],
        lambda k, s: ProductFold(k, s, np.multiply, 1, np.float64), unbounded,
    ),
    "count": lambda: Reducer(
        "count", 1, ("count",), lambda c, w: [len(c[0])], CountFold, lambda k: [COUNT],
        arrays=True,
    ),
    "countEvery": lambda: Reducer(
        "countEvery", 1, ("count",), lambda c, w: [len(c[0])],
        lambda k, s: CountFold(k, s, every=True), lambda k: [COUNT], nulls=True, arrays=True,
    ),
    "countDistinct": lambda: Reducer(
        "countDistinct", 1, ("count",), _distinct,
        stacked(_distinct_pixels), lambda k: [COUNT], nulls=True,
    ),
    "countDistinctNonNull": lambda: Reducer(
        "countDistinctNonNull", 1, ("count",), _distinct,
        stacked(_distinct_pixels), lambda k: [COUNT],
    ),
    "min": lambda: extremum(False),
    "max": lambda: extremum(True),
    "minMax": _min_max,
    "first": lambda: _end_reducer("first", "first", False, True),
    "firstNonNull": lambda: _end_reducer("firstNonNull", "first", False, False),
    "last": lambda: _end_reducer("last", "last", True, True),
    "lastNonNull": lambda: _end_reducer("lastNonNull", "last", True, False),
    "stdDev": lambda: _spread_reducer("stdDev", "stdDev", True, False),
    "sampleStdDev": lambda: _spread_reducer("sampleStdDev", "stdDev", True, True),
    "variance": lambda: _spread_reducer("variance", "variance", False, False),
    "sampleVariance": lambda: _spread_reducer("sampleVariance", "variance", False, True),
    "allNonZero": lambda: Reducer(
        "allNonZero", 1, ("all",), _all(True), lambda k, s: LogicFold(k, s, True),
        lambda k: [UNIT],
    ),
    "anyNonZero": lambda: Reducer(
        "anyNonZero", 1, ("any",), _all(False), lambda k, s: LogicFold(k, s, False),
        lambda k: [UNIT],
    ),
    "bitwiseOr": lambda: Reducer(
        "bitwiseOr", 1, ("bitwiseOr",), _bits(np.bitwise_or),
        lambda k, s: ProductFold(k, s, np.bitwise_or, 0, np.int64), same,
    ),
    "bitwiseAnd": lambda: Reducer(
        "bitwiseAnd", 1, ("bitwiseAnd",), _bits(np.bitwise_and),
        lambda k, s: ProductFold(k, s, np.bitwise_and, -1, np.int64), same,
    ),
    "countRuns": lambda: Reducer(
        "countRuns", 1, ("count",), _runs, tabled(_run_table), lambda k: [COUNT]
    ),
    "skew": lambda: _higher("skew", 3),
    "kurtosis": lambda: _higher("kurtosis", 4),
    "circularMean": lambda: _circular("mean", "circularMean", "circularMean"),
    "circularVariance": lambda: _circular("variance", "circularVariance", "circularVariance"),
    "circularStddev": lambda: _circular("spread", "circularStddev", "circularStdDev"),
}  # fmt: skip
