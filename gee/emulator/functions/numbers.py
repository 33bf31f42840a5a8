"""Numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import EngineError
from ..types import PixelType
from ._maths import ALIASES, BINARY, CASTS, UNARY, Binary, Unary, cast_values
from .registry import function

__all__: list[str] = []

Number = int | float


def _unit(value: bool) -> int:
    return int(value)


def _divide(a: Number, b: Number) -> Number:
    return 0 if b == 0 else a / b


def _mod(a: Number, b: Number) -> Number:
    if b == 0:
        return 0
    # Java: the remainder of infinity is no number.
    out = math.fmod(a, b) if math.isfinite(a) else math.nan
    return int(out) if isinstance(a, int) and isinstance(b, int) else out


# Sums and comparisons of plain numbers, without the detour over arrays.
_QUICK: dict[str, Callable[[Number, Number], Number]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": _divide,
    "mod": _mod,
    "max": lambda a, b: max(a, b) if a == a and b == b else math.nan,
    "min": lambda a, b: min(a, b) if a == a and b == b else math.nan,
    "first": lambda a, b: a,
    "firstNonZero": lambda a, b: a or b,
    "and": lambda a, b: _unit(bool(a) and bool(b)),
    "or": lambda a, b: _unit(bool(a) or bool(b)),
    "lt": lambda a, b: _unit(a < b),
    "lte": lambda a, b: _unit(a <= b),
    "gt": lambda a, b: _unit(a > b),
    "gte": lambda a, b: _unit(a >= b),
    "eq": lambda a, b: _unit(a == b),
    "neq": lambda a, b: _unit(a != b),
    "hypot": math.hypot,
    "atan2": lambda x, y: math.atan2(y, x),
    "bitwiseAnd": lambda a, b: _long(a) & _long(b),
    "bitwiseOr": lambda a, b: _long(a) | _long(b),
    "bitwiseXor": lambda a, b: _long(a) ^ _long(b),
}


def _long(value: Number) -> int:
    """Cast as Java does (Java Language Specification, 5.1.3): NaN is 0, ends are the ends."""
    if isinstance(value, int):
        return _wrapped(value)
    return 0 if math.isnan(value) else int(min(max(value, -(2.0**63)), 2**63 - 1))


def _wrapped(value: int) -> int:
    """Return an integer as 64 bits hold it."""
    if -(2**63) <= value < 2**63:
        return value
    return (value + 2**63) % 2**64 - 2**63


def _binary(operator: Binary) -> Callable[[Number, Number], Number]:
    def apply(a: Number, b: Number) -> Number:
        kind = operator.kind(PixelType.of_number(a), PixelType.of_number(b))
        with np.errstate(all="ignore"):
            out = operator.make(kind.dtype)(np.asarray([a]), np.asarray([b]))
        found: Number = out[0].item()
        return found

    return apply


def _unary(operator: Unary) -> Callable[[Number], Number]:
    def apply(a: Number) -> Number:
        kind = operator.kind(PixelType.of_number(a))
        with np.errstate(all="ignore"):
            out = operator.make(kind.dtype)(np.asarray([a]))
        found: Number = out[0].item()
        return found

    return apply


def _register(name: str, call: Callable[..., Number]) -> None:
    ids = [f"Number.{name}"]
    if name in ALIASES:
        ids.append(f"Number.{ALIASES[name]}")

    def wrapped(*values: Number) -> Number:
        out = call(*values)
        return _wrapped(out) if isinstance(out, int) else out

    function(*ids)(wrapped)


for _name, _operator in BINARY.items():
    _register(_name, _QUICK.get(_name) or _binary(_operator))
for _name, _single in UNARY.items():
    _register(_name, _unary(_single))


def _register_cast(name: str, kind: PixelType) -> None:
    def cast(value: Number) -> Number:
        found: Number = cast_values(np.asarray([value]), kind)[0].item()
        return found

    function(f"Number.{name}", f"Number.to{name[0].upper()}{name[1:]}")(cast)


for _name, _kind in CASTS.items():
    _register_cast(_name, _kind)


@function("Number.clamp")
def clamp(value: Number, low: float, high: float) -> Number:
    """Clamp to a range."""
    return _whole(min(max(value, low), high), value)


def _whole(out: Number, like: Number) -> Number:
    return int(out) if isinstance(like, int) and float(out).is_integer() else out


@function("Number.unitScale")
def unit_scale(value: Number, low: float, high: float) -> float:
    """Scale a range to 0..1; an empty range gives 0 ([A])."""
    return 0.0 if low == high else (value - low) / (high - low)


_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?)")


@function("Number.parse")
def parse(text: str, radix: int) -> Number:
    """Read a number as ``Long.parseLong`` and, in base 10, ``Double.parseDouble`` do."""
    if not 2 <= radix <= 36:
        raise EngineError(f"Radix {radix} is not within 2 and 36.")
    problem = EngineError(f"Cannot parse '{text}' as a number with radix {radix}.")
    if radix != 10:
        digits = re.fullmatch(r"[+-]?([0-9a-zA-Z]+)", text)
        if digits is None or any(int(d, 36) >= radix for d in digits[1]):
            raise problem
        whole = int(text, radix)
        if not -(2**63) <= whole < 2**63:
            raise problem
        return whole
    number = text.strip(_CONTROL)
    if _INTEGER.fullmatch(number) and -(2**63) <= int(number) < 2**63:
        return int(number)
    if not _REAL.fullmatch(number):
        raise problem
    return float(number if number.endswith("Infinity") else number.rstrip("fFdD"))


# What Java's trim takes off.
_CONTROL = "".join(map(chr, range(0x21)))


@function("Number.format")
def format_number(value: Number, pattern: str) -> str:
    """Write a number with a format of Java's formatter (``%d``, ``%.2f``, ``%s``)."""
    from ._java import formatted

    return formatted(value, pattern)


@function("Number.expression")
def number_expression(text: str, variables: dict[str, Any] | None) -> Number:
    """Evaluate an expression of numbers, with the grammar of images."""
    from ..expressions import parse as parse_expression
    from ..expressions import scalar

    return scalar(parse_expression(text), variables or {})
