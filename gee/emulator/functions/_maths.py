"""The operators that numbers and images share: result type, and values to values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..types import DOUBLE, FLOAT, INT64, NAMED, UNIT, PixelType, interval

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["BINARY", "CASTS", "UNARY", "Binary", "Unary", "cast_values"]

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator on two values: type of the result, and what makes the function for it."""

    kind: Callable[[PixelType, PixelType], PixelType]
    make: Callable[[np.dtype[Any]], Callable[[Values, Values], Values]]


@dataclass(frozen=True, slots=True)
class Unary:
    """An operator on one value."""

    kind: Callable[[PixelType], PixelType]
    make: Callable[[np.dtype[Any]], Callable[[Values], Values]]


def _ranged(op: str) -> Callable[[PixelType, PixelType], PixelType]:
    return lambda a, b: interval(op, a, b)


def _union(a: PixelType, b: PixelType) -> PixelType:
    return a.union(b)


def _unit(a: PixelType, b: PixelType) -> PixelType:
    return UNIT


def _floating(a: PixelType, b: PixelType) -> PixelType:
    if "double" in (a.precision, b.precision) or (a.is_int and b.is_int):
        return DOUBLE
    return FLOAT


def _bits(a: PixelType, b: PixelType) -> PixelType:
    if not (a.is_int and b.is_int):
        return INT64
    return PixelType.of_dtype(a.union(b).dtype)


def _shift(a: PixelType, b: PixelType) -> PixelType:
    if None in (a.low, a.high, b.low, b.high) or not (a.is_int and b.is_int):
        return INT64
    assert a.high is not None and a.low is not None and b.high is not None
    if not 0 <= b.high < 63:
        return INT64
    ends = [int(v) << int(s) for v in (a.low, a.high) for s in (0, b.high)]
    return a.bounded(min(ends), max(ends))


def _ufunc(operator: np.ufunc) -> Callable[[np.dtype[Any]], Callable[[Values, Values], Values]]:
    def make(dtype: np.dtype[Any]) -> Callable[[Values, Values], Values]:
        return lambda a, b: operator(a, b, dtype=dtype, casting="unsafe")

    return make


def _as(
    function: Callable[[Values, Values], Values],
) -> Callable[[np.dtype[Any]], Callable[[Values, Values], Values]]:
    """Compute in the type of the result."""

    def make(dtype: np.dtype[Any]) -> Callable[[Values, Values], Values]:
        return lambda a, b: function(a.astype(dtype, copy=False), b.astype(dtype, copy=False))

    return make


def _test(operator: np.ufunc) -> Callable[[np.dtype[Any]], Callable[[Values, Values], Values]]:
    def make(dtype: np.dtype[Any]) -> Callable[[Values, Values], Values]:
        # Views of booleans: no second pass over the pixels.
        return lambda a, b: operator(*_comparable(a, b)).view(np.uint8)

    return make


def _comparable(a: Values, b: Values) -> tuple[Values, Values]:
    # A float32 pixel holds the float32 nearest to what was stored; comparing it with a
    # double in double precision is what Earth Engine's union of types means.
    return a, b


def _divide(a: Values, b: Values) -> Values:
    zero = b == 0
    if not zero.any():
        return a / b
    quotient: Values = np.where(zero, 0, a / np.where(zero, 1, b)).astype(a.dtype)
    return quotient


def _mod(a: Values, b: Values) -> Values:
    zero = b == 0
    if not zero.any():
        return np.fmod(a, b)
    return np.where(zero, 0, np.fmod(a, np.where(zero, 1, b))).astype(a.dtype)


def _power(a: Values, b: Values) -> Values:
    if b.size == 1:
        exponent = b.flat[0]
        if exponent == 2:
            return a * a
        if exponent == 1:
            return a
    raised: Values = np.power(a, b)
    return raised


def _integers(operator: np.ufunc) -> Callable[[np.dtype[Any]], Callable[[Values, Values], Values]]:
    def make(dtype: np.dtype[Any]) -> Callable[[Values, Values], Values]:
        return lambda a, b: operator(a.astype(dtype, copy=False), b.astype(dtype, copy=False))

    return make


def _shifted(left: bool) -> Callable[[np.dtype[Any]], Callable[[Values, Values], Values]]:
    def make(dtype: np.dtype[Any]) -> Callable[[Values, Values], Values]:
        def apply(a: Values, b: Values) -> Values:
            wide = a.astype(np.int64, copy=False)
            # Java, whose longs these are, shifts by the lowest six bits of the distance (Java
            # Language Specification, 15.19): by 64 not at all, by -1 as by 63.
            by = b.astype(np.int64, copy=False) & 63
            out = np.left_shift(wide, by) if left else np.right_shift(wide, by)
            return out.astype(dtype, copy=False)

        return apply

    return make


def _special(name: str) -> Callable[[Values, Values], Values]:
    def apply(a: Values, b: Values) -> Values:
        from scipy import special

        found: Values = getattr(special, name)(a, b)
        return found

    return apply


def _regular_gamma(a: Values, b: Values) -> Values:
    # Number.gammainc(x, a): the page's first argument is the upper limit. As in Commons Math
    # (Gamma.regularizedGammaP), there is none for a <= 0 or x < 0.
    return np.where((b <= 0) | (a < 0), np.nan, _special("gammainc")(b, a)).astype(a.dtype)


def _first(a: Values, b: Values) -> Values:
    return np.broadcast_to(a, np.broadcast_shapes(a.shape, b.shape))


def _first_non_zero(a: Values, b: Values) -> Values:
    return np.where(a != 0, a, b)


_EQUAL = Binary(_unit, _test(np.equal))
BINARY: dict[str, Binary] = {
    "add": Binary(_ranged("add"), _ufunc(np.add)),
    "subtract": Binary(_ranged("subtract"), _ufunc(np.subtract)),
    "multiply": Binary(_ranged("multiply"), _ufunc(np.multiply)),
    "divide": Binary(_ranged("divide"), _as(_divide)),
    "mod": Binary(_union, _as(_mod)),
    "max": Binary(_union, _as(np.maximum)),
    "min": Binary(_union, _as(np.minimum)),
    "first": Binary(_union, _as(_first)),
    "firstNonZero": Binary(_union, _as(_first_non_zero)),
    "pow": Binary(_floating, _as(_power)),
    # [G] ee_number_atan2: the first argument is x, the second y.
    "atan2": Binary(_floating, _as(lambda x, y: np.arctan2(y, x))),
    "hypot": Binary(_floating, _as(np.hypot)),
    "gammainc": Binary(_floating, _as(_regular_gamma)),
    "and": Binary(_unit, _test(np.logical_and)),
    "or": Binary(_unit, _test(np.logical_or)),
    "lt": Binary(_unit, _test(np.less)),
    "lte": Binary(_unit, _test(np.less_equal)),
    "gt": Binary(_unit, _test(np.greater)),
    "gte": Binary(_unit, _test(np.greater_equal)),
    "eq": _EQUAL,
    "neq": Binary(_unit, _test(np.not_equal)),
    "bitwiseAnd": Binary(_bits, _integers(np.bitwise_and)),
    "bitwiseOr": Binary(_bits, _integers(np.bitwise_or)),
    "bitwiseXor": Binary(_bits, _integers(np.bitwise_xor)),
    "leftShift": Binary(_shift, _shifted(True)),
    "rightShift": Binary(lambda a, b: a if a.is_int else INT64, _shifted(False)),
}
ALIASES = {
    "firstNonZero": "first_nonzero",
    "bitwiseAnd": "bitwise_and",
    "bitwiseOr": "bitwise_or",
    "bitwiseXor": "bitwise_xor",
    "bitwiseNot": "bitwise_not",
    "leftShift": "left_shift",
    "rightShift": "right_shift",
}


def _real(low: float | None = None, high: float | None = None) -> Callable[[PixelType], PixelType]:
    def kind(a: PixelType) -> PixelType:
        return PixelType("float" if a.precision == "float" else "double", low, high)

    return kind


def _monotone(function: Callable[[float], float]) -> Callable[[PixelType], PixelType]:
    def kind(a: PixelType) -> PixelType:
        if a.low is None or a.high is None:
            return a
        ends = function(a.low), function(a.high)
        return a.bounded(min(ends), max(ends))

    return kind


def _absolute(a: PixelType) -> PixelType:
    if a.low is None or a.high is None:
        return a
    most = max(abs(a.low), abs(a.high))
    least = 0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high))
    return a.bounded(least, most)


def _sign(a: PixelType) -> PixelType:
    return PixelType(a.precision, -1, 1)


def _plain(
    function: Callable[[Values], Values],
) -> Callable[[np.dtype[Any]], Callable[[Values], Values]]:
    def make(dtype: np.dtype[Any]) -> Callable[[Values], Values]:
        return lambda a: function(a.astype(dtype, copy=False))

    return make


def _from_scipy(name: str) -> Callable[[Values], Values]:
    def apply(a: Values) -> Values:
        from scipy import special

        found: Values = getattr(special, name)(a)
        return found

    return apply


def _gamma(a: Values) -> Values:
    from scipy import special

    # Not a number at every pole, as in Commons Math (Gamma.gamma); scipy gives infinity at 0.
    return np.where((a <= 0) & (a == np.floor(a)), np.nan, special.gamma(a)).astype(a.dtype)


def _digamma(a: Values) -> Values:
    from scipy import special

    # psi(x) = psi(x + 1) - 1 / x up to the first positive x (Commons Math, Gamma.digamma):
    # -infinity at every pole, where scipy has no number.
    return np.where((a <= 0) & (a == np.floor(a)), -np.inf, special.psi(a)).astype(a.dtype)


def _trigamma(a: Values) -> Values:
    from scipy import special

    found: Values = special.polygamma(1, a)
    return found.astype(a.dtype)


_LANCZOS_G = (607, 128)  # a quotient
_LANCZOS_TERMS = 15


@cache
def _lanczos_coefficients() -> tuple[float, ...]:
    """Return c of ``c[0] + sum(c[i] / (x + i))``, exact for gamma at the first whole numbers.

    Lanczos's series, cut after n terms, has no error at 0, 1, ..., n - 1 (C. Lanczos, 1964,
    SIAM J. Numer. Anal. B 1, 86): these n equations are solved, in 80 digits.
    """
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 80
        g = Decimal(_LANCZOS_G[0]) / _LANCZOS_G[1]
        root = (2 * _pi(context.prec)).sqrt()
        rows = []
        for k in range(_LANCZOS_TERMS):
            t = k + g + Decimal("0.5")
            value = math.factorial(k) * t.exp() / t ** (k + Decimal("0.5")) / root
            terms = [1 / Decimal(k + i) for i in range(1, _LANCZOS_TERMS)]
            rows.append([Decimal(1), *terms, value])
        for column in range(_LANCZOS_TERMS):
            best = max(range(column, _LANCZOS_TERMS), key=lambda r: abs(rows[r][column]))
            rows[column], rows[best] = rows[best], rows[column]
            rows[column] = [v / rows[column][column] for v in rows[column]]
            for r in range(_LANCZOS_TERMS):
                if r != column:
                    factor = rows[r][column]
                    rows[r] = [v - factor * p for v, p in zip(rows[r], rows[column], strict=True)]
        return tuple(float(row[-1]) for row in rows)


def _pi(digits: int) -> Decimal:
    """Return pi by Machin's formula."""
    from decimal import Decimal

    def arctan(inverse: int) -> Decimal:
        total, term, n = Decimal(0), Decimal(1) / inverse, 1
        while abs(term) > Decimal(10) ** -(digits + 2):
            total += term / n
            term, n = -term / inverse**2, n + 2
        return total

    return 16 * arctan(5) - 4 * arctan(239)


def _lanczos(a: Values) -> Values:
    first, *rest = _lanczos_coefficients()
    wide = a.astype(np.float64, copy=False)
    total = first + sum(c / (wide + i) for i, c in enumerate(rest, 1))
    return np.asarray(total).astype(a.dtype)


def _round(a: Values) -> Values:
    # Half up, as Java's Math.round; numpy rounds halves to even. Adding a half first would
    # round up the number before 0.5.
    if a.dtype.kind != "f":
        return a
    whole = np.floor(a)
    return np.where(a - whole >= 0.5, whole + 1, whole)


def _bit_count(a: Values) -> Values:
    return np.bitwise_count(a.astype(np.int64).view(np.uint64)).astype(np.uint8)


def _signed(a: Values) -> Values:
    # The most negative integer has no positive twin in its own type.
    return a.astype(np.int64) if a.dtype.kind == "i" else a


def _whole(function: Callable[[Values], Values]) -> Callable[[Values], Values]:
    return lambda a: function(a) if a.dtype.kind == "f" else a


UNARY: dict[str, Unary] = {
    "not": Unary(lambda a: UNIT, lambda d: lambda a: np.equal(a, 0).view(np.uint8)),
    "abs": Unary(_absolute, lambda d: lambda a: np.abs(_signed(a)).astype(d, copy=False)),
    "signum": Unary(_sign, lambda d: lambda a: np.sign(a).astype(d, copy=False)),
    "floor": Unary(lambda a: a, _plain(_whole(np.floor))),
    "ceil": Unary(lambda a: a, _plain(_whole(np.ceil))),
    "round": Unary(lambda a: a, _plain(_round)),
    "bitwiseNot": Unary(
        lambda a: INT64, lambda d: lambda a: np.invert(a.astype(np.int64, copy=False))
    ),
    "bitCount": Unary(lambda a: PixelType("int", 0, 64), lambda d: _bit_count),
    "sin": Unary(_real(-1, 1), _plain(np.sin)),
    "cos": Unary(_real(-1, 1), _plain(np.cos)),
    "tan": Unary(_real(), _plain(np.tan)),
    "asin": Unary(_real(), _plain(np.arcsin)),
    "acos": Unary(_real(), _plain(np.arccos)),
    "atan": Unary(_real(), _plain(np.arctan)),
    "sinh": Unary(_real(), _plain(np.sinh)),
    "cosh": Unary(_real(), _plain(np.cosh)),
    "tanh": Unary(_real(-1, 1), _plain(np.tanh)),
    "sqrt": Unary(_real(), _plain(np.sqrt)),
    "cbrt": Unary(_real(), _plain(np.cbrt)),
    "exp": Unary(_real(), _plain(np.exp)),
    "log": Unary(_real(), _plain(np.log)),
    "log10": Unary(_real(), _plain(np.log10)),
    "gamma": Unary(_real(), _plain(_gamma)),
    "digamma": Unary(_real(), _plain(_digamma)),
    "trigamma": Unary(_real(), _plain(_trigamma)),
    "erf": Unary(_real(), _plain(_from_scipy("erf"))),
    "erfc": Unary(_real(), _plain(_from_scipy("erfc"))),
    "erfInv": Unary(_real(), _plain(_from_scipy("erfinv"))),
    "erfcInv": Unary(_real(), _plain(_from_scipy("erfcinv"))),
    "lanczos": Unary(_real(), _plain(_lanczos)),
}


def cast_values(values: Values, kind: PixelType) -> Values:
    """Cast as Earth Engine does: towards zero, and to the nearest end of the range.

    Examples
    --------
    >>> cast_values(np.array([-3.7, 300.0, np.nan]), PixelType.named("uint8")).tolist()
    [0, 255, 0]
    """
    dtype = kind.dtype
    if values.dtype == dtype:
        return values
    if not kind.is_int:
        # Beyond float: infinite, as Java casts (Java Language Specification, 5.1.3).
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(dtype)
    ends = np.iinfo(dtype)
    if values.dtype.kind == "f":
        whole = np.trunc(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf))
        # 2**63 is the first double beyond int64; it must not wrap.
        if dtype == np.int64:
            out = np.clip(whole, -(2.0**63), np.nextafter(2.0**63, 0)).astype(dtype)
            return np.where(whole >= 2.0**63, ends.max, out)
        return np.clip(whole, ends.min, ends.max).astype(dtype)
    have = np.iinfo(values.dtype) if values.dtype != bool else None
    if have is not None and (have.min < ends.min or have.max > ends.max):
        return np.clip(values, max(ends.min, have.min), min(ends.max, have.max)).astype(dtype)
    return values.astype(dtype)


CASTS = {
    name: NAMED[name]
    for name in (
        "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64",
        "byte", "short", "int", "long", "float", "double",
    )
}  # fmt: skip
