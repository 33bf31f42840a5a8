"""Statistics of a property over the elements of a collection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import EngineError
from ..image import Element
from ..values import Collection, Date, type_name
from ._java import java_text
from .collections import compare_key
from .registry import function

__all__: list[str] = []


def _values(items: Collection, name: str) -> list[Any]:
    """Return the values of a property, nulls left out."""
    found = (i.properties.get(name) for i in items)
    return [v.ms if isinstance(v, Date) else v for v in found if v is not None]


def _numbers(items: Collection, name: str) -> list[float]:
    values = _values(items, name)
    for value in values:
        if not isinstance(value, (int, float, np.number)):
            raise EngineError(
                f"Property '{name}' must be a number in every element. "
                f"Actual type: {type_name(value)}."
            )
    return values


def _statistic(name: str, compute: Callable[[list[Any]], Any]) -> None:
    function(f"AggregateFeatureCollection.{name}")(
        lambda items, prop: compute(_numbers(items, prop))
    )


def _of_any(name: str, compute: Callable[[list[Any]], Any]) -> None:
    function(f"AggregateFeatureCollection.{name}")(
        lambda items, prop: compute(_values(items, prop))
    )


def _moment(root: bool, sample: bool) -> Callable[[list[Any]], float | None]:
    def compute(values: list[Any]) -> float | None:
        if len(values) < (2 if sample else 1):
            return None if not sample or not values else 0.0
        out = float(np.var(values, ddof=1 if sample else 0))
        return math.sqrt(out) if root else out

    return compute


def _least(values: list[Any]) -> Any:
    return min(values, key=compare_key) if values else None


def _most(values: list[Any]) -> Any:
    return max(values, key=compare_key) if values else None


def _mean(values: list[Any]) -> float | None:
    return float(np.mean(values)) if values else None


def _sum(values: list[Any]) -> float:
    return float(np.sum(values)) if values else 0.0


@function("AggregateFeatureCollection.stats")
def stats(items: Collection, name: str) -> dict[str, Any]:
    """Return counts, sums, moments and extremes; ``total_count`` counts nulls too."""
    values = _numbers(items, name)
    return {
        "max": _most(values),
        "mean": _mean(values),
        "min": _least(values),
        "sample_sd": _moment(True, True)(values),
        "sample_var": _moment(False, True)(values),
        "sum": _sum(values),
        "sum_sq": _sum([v * v for v in values]),
        "total_count": items.size(),
        "total_sd": _moment(True, False)(values),
        "total_var": _moment(False, False)(values),
        "valid_count": len(values),
        "weight_sum": len(values),
        "weighted_sum": _sum(values),
    }


def _histogram(values: list[Any]) -> dict[str, int]:
    table: dict[str, int] = {}
    for value in sorted(values, key=compare_key):
        key = value if isinstance(value, str) else _shown(value)
        table[key] = table.get(key, 0) + 1
    return table


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return java_text(value) if isinstance(value, (int, float)) else str(value)


def _distinct(values: list[Any]) -> int:
    from .lists import distinct

    return len(distinct(values))


@function("AggregateFeatureCollection.first")
def first(items: Collection, name: str) -> Any:
    """Return the property of the first object, null where it has none ([A])."""
    found: Element | None = items.first()
    return None if found is None else found.properties.get(name)


@function("AggregateFeatureCollection.array")
def array(items: Collection, name: str) -> list[Any]:
    """Return the values of a property as a list, nulls left out."""
    return _values(items, name)


_of_any("count", len)
_of_any("min", _least)
_of_any("max", _most)
_of_any("histogram", _histogram)
_of_any("count_distinct", _distinct)
_statistic("mean", _mean)
_statistic("product", lambda v: float(np.prod(v)) if v else None)
_statistic("sum", _sum)
_statistic("sample_sd", _moment(True, True))
_statistic("sample_var", _moment(False, True))
_statistic("total_sd", _moment(True, False))
_statistic("total_var", _moment(False, False))
