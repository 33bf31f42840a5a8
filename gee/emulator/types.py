"""Pixel types: a precision and a range, and the arithmetic that Earth Engine does on them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .errors import EngineError

__all__ = ["BYTE", "DOUBLE", "FLOAT", "INT32", "INT64", "NAMED", "UNIT", "PixelType"]

_INT_RANGES: tuple[tuple[str, int, int], ...] = (
    ("uint8", 0, 2**8 - 1),
    ("int8", -(2**7), 2**7 - 1),
    ("uint16", 0, 2**16 - 1),
    ("int16", -(2**15), 2**15 - 1),
    ("uint32", 0, 2**32 - 1),
    ("int32", -(2**31), 2**31 - 1),
    ("int64", -(2**63), 2**63 - 1),
)
_RANGE_OF = {name: (low, high) for name, low, high in _INT_RANGES}
# Beyond this an integer is not exact in float32, so a quotient needs double precision.
_EXACT_IN_FLOAT = 2**24


@dataclass(frozen=True, slots=True)
class PixelType:
    """Type of the pixels of one band.

    Parameters
    ----------
    precision : {"int", "float", "double"}
    low, high : int or float or None
        Range of the values; ``None`` for floats whose range is not known.
    dimensions : int
        0 for numbers; more for arrays.

    Examples
    --------
    >>> PixelType.named("uint16").dtype
    dtype('uint16')
    >>> PixelType("int", 0, 300).dtype
    dtype('uint16')
    """

    precision: str
    low: int | float | None = None
    high: int | float | None = None
    dimensions: int = 0

    @property
    def is_int(self) -> bool:
        """True for integer pixels."""
        return self.precision == "int"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest numpy type that holds every value of this type."""
        return _dtype(self)

    @staticmethod
    def named(name: str) -> PixelType:
        """Return the type that Earth Engine calls ``name`` (``int16``, ``byte``, ``float``...)."""
        try:
            return NAMED[name]
        except KeyError:
            raise EngineError(
                f"Invalid pixel type '{name}'; expected one of {', '.join(sorted(NAMED))}."
            ) from None

    @staticmethod
    def of_dtype(dtype: DTypeLike) -> PixelType:
        """Return the type of stored pixels."""
        name = np.dtype(dtype).name
        if name == "bool":
            return UNIT
        if name in NAMED:
            return NAMED[name]
        return FLOAT if name in ("float32", "float16") else DOUBLE

    @staticmethod
    def of_number(value: int | float) -> PixelType:
        """Return the type of a constant, whose range is its value (apidocs ee-image-constant)."""
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, int):
            return PixelType("int", value, value)
        return PixelType("double", value, value)

    @staticmethod
    def coerce(value: object) -> PixelType:
        """Read a type given as a name, a JSON object or a PixelType."""
        if isinstance(value, PixelType):
            return value
        if isinstance(value, str):
            return PixelType.named(value)
        if isinstance(value, dict) and "precision" in value:
            if value.get("min") is None and value["precision"] in NAMED:
                base = NAMED[value["precision"]]
                return PixelType(base.precision, base.low, base.high)
            return PixelType(
                value["precision"],
                value.get("min"),
                value.get("max"),
                int(value.get("dimensions", 0)),
            )
        raise EngineError(f"Cannot convert {reprlib.repr(value)} to a pixel type.")

    def union(self, other: PixelType) -> PixelType:
        """Return the smallest type that holds both ([A] Image.add, Image.where)."""
        low, high = _hull(self, other)
        dimensions = max(self.dimensions, other.dimensions)
        return PixelType(_wider(self, other), low, high, dimensions)

    def with_dimensions(self, dimensions: int) -> PixelType:
        """Return the type of arrays of such numbers; 0 for the numbers themselves."""
        if dimensions == self.dimensions:
            return self
        return PixelType(self.precision, self.low, self.high, dimensions)

    def bounded(self, low: float, high: float) -> PixelType:
        """Return this precision with another range."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return PixelType(self.precision) if not self.is_int else INT64
        return _ranged(self.precision, low, high)

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        out: dict[str, Any] = {"type": "PixelType", "precision": self.precision}
        if self.low is not None:
            out["min"] = self.low
        if self.high is not None:
            out["max"] = self.high
        if self.dimensions:
            out["dimensions"] = self.dimensions
        return out


@lru_cache(maxsize=4096)
def _dtype(kind: PixelType) -> np.dtype[Any]:
    if kind.precision == "float":
        return np.dtype("float32")
    if kind.precision == "double":
        return np.dtype("float64")
    low = -(2**63) if kind.low is None else kind.low
    high = 2**63 - 1 if kind.high is None else kind.high
    for name, least, most in _INT_RANGES:
        if low >= least and high <= most:
            return np.dtype(name)
    return np.dtype("int64")


def _wider(a: PixelType, b: PixelType) -> str:
    if a.precision == b.precision:
        return a.precision
    return "double" if "double" in (a.precision, b.precision) else "float"


def _hull(a: PixelType, b: PixelType) -> tuple[int | float | None, int | float | None]:
    if None in (a.low, b.low, a.high, b.high):
        return None, None
    return min(a.low, b.low), max(a.high, b.high)  # type: ignore[type-var]


def _ranged(precision: str, low: float, high: float) -> PixelType:
    if precision == "int":
        # A result outside 64 bits wraps to the widest integer there is.
        if low < -(2**63) or high > 2**63 - 1:
            return INT64
        return PixelType("int", int(low), int(high))
    if precision == "float":
        with np.errstate(over="ignore"):
            low, high = float(np.float32(low)), float(np.float32(high))
        if not (math.isfinite(low) and math.isfinite(high)):
            return FLOAT
    return PixelType(precision, low, high)


def interval(op: str, a: PixelType, b: PixelType) -> PixelType:
    """Type of ``a op b`` for the four operations whose range follows from the ranges.

    Earth Engine shows ranges that follow the values (``divide(10000)`` of uint16 gives
    float 0..6.5535); the exact rule is not documented, this is interval arithmetic.
    """
    precision = _wider(a, b)
    if op == "divide" and precision == "int":
        precision = "float"
        ends = [v for v in (a.low, a.high, b.low, b.high) if v is not None]
        if len(ends) < 4 or max(abs(v) for v in ends) > _EXACT_IN_FLOAT:
            precision = "double"
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return INT64 if precision == "int" else PixelType(precision)
    corners = _corners(op, (a.low, a.high), (b.low, b.high))
    if corners is None:
        return PixelType(precision) if precision != "int" else INT64
    return _ranged(precision, min(corners), max(corners))


def _corners(op: str, a: tuple[float, float], b: tuple[float, float]) -> Iterable[float] | None:
    try:
        if op == "add":
            return [a[0] + b[0], a[1] + b[1]]
        if op == "subtract":
            return [a[0] - b[1], a[1] - b[0]]
        if op == "multiply":
            return [x * y for x in a for y in b]
        if b[0] <= 0 <= b[1]:
            return [0.0] if b[0] == b[1] else None  # division by zero gives 0
        return [x / y for x in a for y in b]
    except OverflowError:
        return None


FLOAT = PixelType("float")
DOUBLE = PixelType("double")
UNIT = PixelType("int", 0, 1)
BYTE = PixelType("int", 0, 255)
INT32 = PixelType("int", -(2**31), 2**31 - 1)
INT64 = PixelType("int", -(2**63), 2**63 - 1)
NAMED: dict[str, PixelType] = {
    **{name: PixelType("int", *ends) for name, ends in _RANGE_OF.items()},
    "float": FLOAT,
    "double": DOUBLE,
}
NAMED |= {
    "byte": NAMED["uint8"],
    "short": NAMED["int16"],
    "int": NAMED["int32"],
    "long": NAMED["int64"],
    "float32": FLOAT,
    "float64": DOUBLE,
}
