"""Histograms: fixed bins, bins chosen from the data, and counts of every value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import EngineError
from ..pixels import Array
from ..types import DOUBLE, INT32, PixelType
from .base import Reducer, array_value, real, widen
from .folds import tabled

__all__ = [
    "auto_histogram",
    "fixed_2d_histogram",
    "fixed_histogram",
    "frequencies",
    "histogram",
    "histogram_combiner",
]

_MOST_BINS = 2**20
_DEFAULT_BUCKETS = 256


def _frequencies(columns: list[Any], weights: Array) -> list[Any]:
    column = columns[0]
    if isinstance(column, np.ndarray) and column.dtype != object:
        found, place = np.unique(column, return_inverse=True)
        sums = np.bincount(place.ravel(), weights, minlength=len(found))
        return [{_key(v.item()): float(s) for v, s in zip(found, sums, strict=True)}]
    table: dict[Any, float] = {}
    for value, weight in zip(column, weights, strict=True):
        try:
            table[value] = table.get(value, 0.0) + float(weight)
        except TypeError:
            raise EngineError("A frequency histogram counts numbers and strings only.") from None
    return [{_key(k): v for k, v in sorted(table.items(), key=lambda p: str(p[0]))}]


def _key(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return "null" if value is None else str(value)


def frequencies() -> Reducer:
    """Return a (weighted) count of every value."""
    return Reducer(
        "frequencyHistogram", 1, ("histogram",), _frequencies, weighted=True, plain=False
    )


def _bins(values: Array, low: float, high: float, steps: int) -> tuple[Array, Array]:
    """Return the bin of every value, and which values have one."""
    inside = (values >= low) & (values < high)
    share = np.where(inside, (values - low) / (high - low) * steps, 0)
    return np.clip(np.floor(share), 0, steps - 1).astype(np.int64), inside


def _check_bins(low: float, high: float, steps: int) -> None:
    if steps < 1 or steps > _MOST_BINS:
        raise EngineError(f"The number of steps must be 1 to {_MOST_BINS}, not {steps}.")
    if not low < high:
        raise EngineError(f"The least value must be below the greatest: {low} and {high}.")


def _edges(low: float, high: float, steps: int) -> Array:
    return low + np.arange(steps) * (high - low) / steps


def _counted(place: Array, weights: Array, steps: int) -> Array:
    """Return sums of weights per row (n, m) and bin, shape (n, steps)."""
    n = len(place)
    flat = (place + np.arange(n)[:, None] * steps).ravel()
    return np.bincount(flat, weights.ravel(), minlength=n * steps).reshape(n, steps)


def _table_kind(given: Sequence[PixelType]) -> list[PixelType]:
    return [DOUBLE.with_dimensions(2)]


def fixed_histogram(low: float, high: float, steps: int, cumulative: bool = False) -> Reducer:
    """Return lower edges and counts of bins of one width, as an N x 2 array.

    What lies outside [min, max) is left out.
    """
    _check_bins(low, high, steps)

    def counts(values: Array, weights: Array) -> Array:
        place, inside = _bins(values, low, high, steps)
        found = _counted(place, weights * inside, steps)
        if cumulative:
            found = np.cumsum(found, axis=1)
        edges = np.broadcast_to(_edges(low, high, steps), found.shape)
        return np.stack([edges, found], axis=-1)

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        return [array_value(counts(real(columns[0])[None], weights[None])[0])]

    def table(columns: list[Array], ok: Array | None) -> list[Array]:
        values = widen(columns[0])
        return [counts(values, np.ones(values.shape) if ok is None else ok.astype(float))]

    return Reducer(
        "fixedHistogram", 1, ("histogram",), compute, tabled(table), _table_kind, weighted=True,
        options={"min": low, "max": high, "steps": steps, "cumulative": cumulative},
    )  # fmt: skip


def fixed_2d_histogram(x: tuple[float, float, int], y: tuple[float, float, int]) -> Reducer:
    """Return counts in bins of two inputs (xSteps, ySteps), and the lower edges of both axes.

    Never weighted ([A]). That the first axis is x, and the names of the outputs, are not
    documented.
    """
    for low, high, steps in (x, y):
        _check_bins(low, high, steps)
    if x[2] * y[2] > _MOST_BINS:
        raise EngineError(f"A histogram of {x[2]} x {y[2]} bins is too large.")

    def counts(a: Array, b: Array, use: Array) -> list[Array]:
        place_x, inside_x = _bins(a, *x)
        place_y, inside_y = _bins(b, *y)
        found = _counted(place_x * y[2] + place_y, use * inside_x * inside_y, x[2] * y[2])
        n = len(a)
        return [
            found.astype(np.int32).reshape(n, x[2], y[2]),
            np.broadcast_to(_edges(*x), (n, x[2])),
            np.broadcast_to(_edges(*y), (n, y[2])),
        ]

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        a, b = (real(c)[None] for c in columns)
        found = counts(a, b, np.ones(a.shape))
        return [array_value(f[0], k) for f, k in zip(found, kinds(()), strict=True)]

    def table(columns: list[Array], ok: Array | None) -> list[Array]:
        a, b = (widen(c) for c in columns)
        return counts(a, b, np.ones(a.shape) if ok is None else ok.astype(float))

    def kinds(given: Sequence[PixelType]) -> list[PixelType]:
        return [INT32.with_dimensions(2), DOUBLE.with_dimensions(1), DOUBLE.with_dimensions(1)]

    return Reducer(
        "fixed2DHistogram", 2, ("histogram", "xAxis", "yAxis"), compute, tabled(table, 3), kinds
    )


def _buckets(
    values: Array, weights: Array, most: int | None, width: float | None
) -> tuple[float, float, Array, Array] | None:
    """Return (lower bound, width, counts, means) of bins chosen from the data."""
    values, weights = values[np.isfinite(values)], weights[np.isfinite(values)]
    if len(values) == 0:
        return None
    # [A] maxBuckets "will be rounded up to a power of 2".
    buckets = 2 ** math.ceil(math.log2(most)) if most else _DEFAULT_BUCKETS
    low, high = float(values.min()), float(values.max())
    step = width or 0.0
    if not step:
        step = 1.0
        if (values != np.round(values)).any() and high > low:
            step = 2.0 ** math.floor(math.log2((high - low) / buckets))
    while math.floor(high / step) - math.floor(low / step) + 1 > buckets:
        step *= 2
    first = math.floor(low / step)
    bins = np.floor(values / step).astype(np.int64) - first
    counts = np.bincount(bins, weights)
    sums = np.bincount(bins, values * weights)
    centres = (np.arange(len(counts)) + first + 0.5) * step
    means = np.divide(sums, counts, out=centres, where=counts > 0)
    return first * step, step, counts, means


def _check_buckets(most: int | None, width: float | None) -> None:
    if most is not None and not 1 <= most <= _MOST_BINS:
        raise EngineError(f"maxBuckets must be 1 to {_MOST_BINS}, not {most}.")
    if width is not None and not 0 <= width < math.inf:
        raise EngineError(f"minBucketWidth must not be negative, not {width}.")


def histogram(most: int | None = None, width: float | None = None) -> Reducer:
    """Return a histogram with bins chosen from the data.

    Earth Engine doubles bin widths until few enough are left; so does this, from ``width`` or
    the power of two that fits. Whole numbers start with bins of 1.
    """
    _check_buckets(most, width)

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        found = _buckets(real(columns[0]), weights, most, width)
        if found is None:
            return [None]
        low, step, counts, means = found
        return [{
            "bucketMin": low, "bucketWidth": step, "bucketMeans": means.tolist(),
            "histogram": counts.tolist(),
        }]  # fmt: skip

    return Reducer("histogram", 1, ("histogram",), compute, weighted=True, plain=False)


def histogram_combiner(most: int | None = None, width: float | None = None) -> Reducer:
    """Return one histogram of several that :func:`histogram` made.

    The list does not describe it; here the values of a bucket are taken at their mean, and no
    bucket is narrower than the widest of those given.
    """
    _check_buckets(most, width)

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values, counts, step = [], [], width or 0.0
        for item, weight in zip(columns[0], weights, strict=True):
            try:
                values.append(real(item["bucketMeans"]))
                counts.append(real(item["histogram"]) * weight)
                step = max(step, float(item["bucketWidth"]))
            except (TypeError, KeyError):
                raise EngineError("The inputs must be histograms of Reducer.histogram.") from None
            if len(values[-1]) != len(counts[-1]):
                raise EngineError("The inputs must be histograms of Reducer.histogram.")
        if not values:
            return [None]
        joined, sums = np.concatenate(values), np.concatenate(counts)
        return histogram(most, step or None).compute([joined[sums > 0]], sums[sums > 0])

    return Reducer("histogramCombiner", 1, ("histogram",), compute, weighted=True, plain=False)


def auto_histogram(
    most: int | None = None, width: float | None = None, cumulative: bool = False
) -> Reducer:
    """Return the same bins as an N x 2 array of lower bounds and counts."""
    _check_buckets(most, width)

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        found = _buckets(real(columns[0]), weights, most, width)
        if found is None:
            return [None]
        low, step, counts, _ = found
        bounds = low + np.arange(len(counts)) * step
        return [array_value(np.column_stack([bounds, np.cumsum(counts) if cumulative else counts]))]

    return Reducer(
        "autoHistogram", 1, ("histogram",), compute, kinds=_table_kind, weighted=True,
        options={"cumulative": cumulative},
    )  # fmt: skip
