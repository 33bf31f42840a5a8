"""Pixel types and error margins as values."""

from __future__ import annotations

import math
from typing import Any

from ..errors import EngineError
from ..types import NAMED, PixelType
from ..values import ErrorMargin
from .registry import function

__all__: list[str] = []

# numpy has so many axes, one of which counts pixels.
_MOST_DIMENSIONS = 31


@function("ErrorMargin")
def error_margin(value: float | None, unit: str) -> ErrorMargin:
    """Return how far a result may be off."""
    if unit not in ("meters", "projected", "infinite"):
        raise EngineError(f"Unknown error unit '{unit}': meters, projected or infinite.")
    # [A]: the value is ignored if the unit is 'infinite'.
    return ErrorMargin(None if unit == "infinite" else value, unit)


@function("PixelType")
def pixel_type(
    precision: Any, low: int | float | None, high: int | float | None, dimensions: int
) -> PixelType:
    """Return a type by name or by precision and range."""
    if isinstance(precision, PixelType):
        return precision
    if not 0 <= dimensions <= _MOST_DIMENSIONS:
        raise EngineError(f"dimensions must be 0 to {_MOST_DIMENSIONS}, not {dimensions}.")
    base = PixelType.coerce(precision)
    low, high = (base.low if low is None else low), (base.high if high is None else high)
    if low is not None and high is not None and low > high:
        raise EngineError(f"minValue {low} must not be above maxValue {high}.")
    if base.is_int:
        low, high = (None if v is None else math.trunc(v) for v in (low, high))
    return PixelType(base.precision, low, high, dimensions)


def _register(name: str) -> None:
    function(f"PixelType.{name}")(lambda: NAMED[name])


for _name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float", "double"):
    _register(_name)


@function("PixelType.precision")
def precision_of(kind: PixelType) -> str:
    """Return ``int``, ``float`` or ``double``."""
    return kind.precision


@function("PixelType.minValue")
def least(kind: PixelType) -> int | float | None:
    """Return the least value."""
    return kind.low


@function("PixelType.maxValue")
def most(kind: PixelType) -> int | float | None:
    """Return the greatest value."""
    return kind.high


@function("PixelType.dimensions")
def dimensions_of(kind: PixelType) -> int:
    """Return the number of dimensions."""
    return kind.dimensions
