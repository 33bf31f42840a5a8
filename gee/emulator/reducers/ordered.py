"""Medians, percentiles and modes: reducers that need values in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..pixels import Array
from .base import Reducer, averaged, numbers, real, same, widen
from .folds import stacked

__all__ = ["interval_mean", "median", "mode", "percentile", "quantiles"]


def quantiles(values: Array, percentiles: Sequence[float]) -> list[Any]:
    """Return percentiles of all values, interpolated linearly; None for no values.

    Earth Engine documents neither its interpolation nor its histogram; this is exact.
    """
    if len(values) == 0:
        return [None] * len(percentiles)
    return [float(v) for v in np.percentile(widen(values), list(percentiles))]


def _mode(columns: list[Any], weights: Array) -> list[Any]:
    values = numbers(columns[0])
    if len(values) == 0:
        return [None]
    found, counts = np.unique(values, return_counts=True)
    return [found[np.argmax(counts)].item()]


def _real_layers(ordered: list[Array]) -> list[Array]:
    if ordered[0].dtype.kind == "f":
        return ordered
    return [a.astype(np.float64) for a in ordered]


def _median_pixels(ordered: list[Array], count: Any) -> list[Array]:
    if isinstance(count, int):
        half = count // 2
        if count % 2:
            return [ordered[half]]
        return [(widen(ordered[half - 1]) + ordered[half]) * 0.5]
    low = kernels.select_sorted(ordered, (np.maximum(count, 1) - 1) // 2)
    high = kernels.select_sorted(ordered, np.maximum(count, 1) // 2)
    # Equal values (and the infinities of pixels without any) need no mean.
    return [np.where(low == high, low, low + (widen(high) - low) * 0.5)]


def _percentile_pixels(shares: Sequence[float]) -> Callable[[list[Array], Any], list[Array]]:
    def finish(ordered: list[Array], count: Any) -> list[Array]:
        real = _real_layers(ordered)
        return [kernels.quantile_sorted(real, count, p / 100) for p in shares]

    return finish


def _mode_pixels(ordered: list[Array], count: Any) -> list[Array]:
    return [kernels.mode_sorted(ordered, count)]


def mode() -> Reducer:
    """Return the most frequent value; the least of several."""
    return Reducer("mode", 1, ("mode",), _mode, stacked(_mode_pixels), same)


def median() -> Reducer:
    """Return the median."""
    return Reducer(
        "median", 1, ("median",), lambda c, w: quantiles(numbers(c[0]), [50]),
        stacked(_median_pixels), averaged,
    )  # fmt: skip


def percentile(shares: Sequence[float], names: Sequence[str] | None = None) -> Reducer:
    """Return the given percentiles, named p10, p90 and so on."""
    for share in shares:
        if not 0 <= share <= 100:
            raise EngineError(f"Percentiles must be between 0 and 100, not {share}.")
    if names is None:
        names = [f"p{int(p) if p == int(p) else p}" for p in shares]
    if len(names) != len(shares):
        raise EngineError("The numbers of percentiles and output names must match.")
    return Reducer(
        "percentile", 1, tuple(names), lambda c, w: quantiles(numbers(c[0]), shares),
        stacked(_percentile_pixels(shares)), lambda k: averaged(k) * len(shares),
        options={"percentiles": list(shares)},
    )  # fmt: skip


def interval_mean(low: float, high: float) -> Reducer:
    """Return the mean of what lies between two percentiles, both included."""
    if not 0 <= low <= high <= 100:
        raise EngineError(
            f"Percentiles must be between 0 and 100 and in order, not {low} and {high}."
        )

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        values = np.sort(real(columns[0]))
        if len(values) == 0:
            return [None]
        a, b = np.percentile(values, [low, high])
        inner = values[(values >= a) & (values <= b)]
        # Between two neighbours there may be no value at all.
        return [float(inner.mean()) if len(inner) else float((a + b) / 2)]

    def finish(ordered: list[Array], count: Any) -> list[Array]:
        layers = _real_layers(ordered)
        a, b = (kernels.quantile_sorted(layers, count, share / 100) for share in (low, high))
        total, some = np.zeros(np.shape(a)), np.zeros(np.shape(a))
        for k, layer in enumerate(layers):
            inside = (layer >= a) & (layer <= b) & (k < count)
            total += np.where(inside, layer, 0)
            some += inside
        return [np.where(some > 0, total / np.maximum(some, 1), (a + b) / 2)]

    return Reducer("intervalMean", 1, ("mean",), compute, stacked(finish))
