"""Pixel types and error margins as values."""

from __future__ import annotations

from typing import Any

from ..errors import EngineError
from ..types import NAMED, PixelType
from ..values import ErrorMargin
from .registry import function

__all__: list[str] = []


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
    base = PixelType.coerce(precision)
    if low is None and high is None:
        return PixelType(base.precision, base.low, base.high, dimensions)
    return PixelType(
        base.precision,
        base.low if low is None else low,
        base.high if high is None else high,
        dimensions,
    )


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
