"""Numbers: special functions, casts, bits, expressions.

Printed digits of ``digamma`` show that the service uses Apache Commons Math; what its classes
``Gamma`` and ``Erf`` (version 3.6.1) answer at poles and outside of domains is meant here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, earth
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.functions._maths import _lanczos
from gee.emulator.types import PixelType

LONGS = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("numbers")) as found:
        yield found


def number(name: str) -> Callable[..., Any]:
    return load_all()[f"Number.{name}"].call


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("gamma", 0, math.nan), ("gamma", -1, math.nan), ("gamma", 200, math.inf),
        ("gamma", -1.5, 4 * math.sqrt(math.pi) / 3),
        ("digamma", 0, -math.inf), ("digamma", -1, -math.inf), ("digamma", 1, -0.5772156649015329),
        ("trigamma", 0, math.inf), ("trigamma", -1, math.inf), ("trigamma", 1, math.pi**2 / 6),
        ("trigamma", -0.5, math.pi**2 / 2 + 4),
        ("erfInv", 1, math.inf), ("erfInv", -1, -math.inf), ("erfInv", 2, math.nan),
        ("erfcInv", 0, math.inf), ("erfcInv", 2, -math.inf), ("erfcInv", 3, math.nan),
        ("erf", 40, 1), ("erfc", 40, 0), ("erfc", -40, 2),
        ("sqrt", -1, math.nan), ("log", 0, -math.inf), ("log", -1, math.nan),
        ("acos", 2, math.nan), ("cbrt", -27, -3),
        ("bitCount", -1, 64), ("bitCount", 255.9, 8), ("signum", -3.5, -1),
        ("round", 0.49999999999999994, 0), ("round", -2.5, -2), ("round", 2.5, 3),
    ],
)  # fmt: skip
def test_at_poles_and_outside_of_domains(name: str, at: float, expected: float) -> None:
    assert number(name)(at) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize(("x", "a"), [(1, 0), (0, 0), (-1, 1), (1, -1)])
def test_incomplete_gamma_without_a_value(x: float, a: float) -> None:
    "Gamma.regularizedGammaP(a, x): NaN for a <= 0 or x < 0."
    assert math.isnan(number("gammainc")(x, a))


@given(st.floats(0.01, 60), st.floats(0.01, 60))
@settings(max_examples=60, deadline=None)
def test_incomplete_gamma_is_that_of_scipy(x: float, a: float) -> None:
    "gammainc(x, a): the first argument is the limit, the second the shape."
    assert number("gammainc")(x, a) == pytest.approx(special.gammainc(a, x), rel=1e-9, abs=1e-300)


@given(st.floats(0.01, 120))
@settings(max_examples=60, deadline=None)
def test_lanczos_gives_gamma(x: float) -> None:
    "gamma(x + 1) = sqrt(2 pi) (x + g + 1/2)^(x + 1/2) e^-(x + g + 1/2) L(x), g = 607/128."
    t = x + 607 / 128 + 0.5
    logarithm = 0.5 * math.log(2 * math.pi) + (x + 0.5) * math.log(t) - t
    series = float(_lanczos(np.array([x]))[0])
    assert logarithm + math.log(series) == pytest.approx(math.lgamma(x + 1), abs=1e-11)


def test_lanczos_has_poles_and_a_limit() -> None:
    "c0 + sum c_i / (x + i), i = 1..14; c0 is 1 but for 3e-15 (P. Godfrey, 2001)."
    with np.errstate(divide="ignore"):
        found = _lanczos(np.array([-1.0, 1e12]))
    assert math.isinf(found[0])
    assert found[1] == pytest.approx(1, abs=1e-9)


@given(LONGS, st.integers(-130, 130))
@settings(deadline=None)
def test_shifts_are_those_of_java_longs(value: int, by: int) -> None:
    "Java Language Specification 15.19: the distance counts its lowest six bits."
    distance = by & 63
    wrapped = ((value << distance) + 2**63) % 2**64 - 2**63
    assert number("leftShift")(value, by) == wrapped
    assert number("rightShift")(value, by) == value >> distance


@given(LONGS, LONGS)
@settings(deadline=None)
def test_sums_and_remainders_are_those_of_java_longs(a: int, b: int) -> None:
    "Two's complement in 64 bits (JLS 15.18.2); the remainder has the dividend's sign (15.17.3)."
    assert number("add")(a, b) == (a + b + 2**63) % 2**64 - 2**63
    if abs(a) < 2**52 and 0 < abs(b) < 2**52:
        expected = int(math.copysign(abs(a) % abs(b), a))
        assert number("mod")(a, b) == expected


@given(
    st.floats(allow_nan=True, allow_infinity=True) | LONGS,
    st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"]),
)
@settings(deadline=None)
def test_casts_truncate_and_stop_at_the_ends(value: float, name: str) -> None:
    "Towards zero; NaN is 0 (JLS 5.1.3); ends of the named range."
    kind = PixelType.named(name)
    low, high = kind.low, kind.high
    assert low is not None
    assert high is not None
    if isinstance(value, float) and math.isnan(value):
        expected: float = 0
    elif isinstance(value, float) and math.isinf(value):
        expected = high if value > 0 else low
    else:
        expected = min(max(math.trunc(value), low), high)
    assert number(f"to{name[0].upper()}{name[1:]}")(value) == expected
    assert number(name)(value) == expected


def test_casts_to_float_round_and_overflow(world: Earth) -> None:
    "To the nearest float32 (IEEE 754); beyond it infinite."
    assert world.info(ee.Number(0.1).toFloat()) == float(np.float32(0.1))
    assert world.info(ee.Number(1e39).toFloat()) == "Infinity"
    assert world.info(ee.Number(-1e39).float()) == "-Infinity"


def test_not_a_number_is_kept(world: Earth) -> None:
    "Math.max and Math.min of Java: NaN if either is."
    nan = ee.Number(-1).sqrt()
    for value in (nan.max(1), ee.Number(1).max(nan), nan.min(1), ee.Number(1).min(nan), nan.add(1)):
        assert world.info(value) == "NaN"
    assert world.info(nan.eq(nan)) == 0
    assert world.info(nan.neq(nan)) == 1


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("2 * Math.PI * r", {"r": 2}, 4 * math.pi),
        ("a.b.c + 1", {"a": {"b": {"c": 4}}}, 5),
        ("hypot(3, 4) + pow(2, 3) - clamp(5, 0, 3)", {}, 10),
        ("max(1, 5, 3) > 4 ? 1 : 2", {}, 1),
        ("!0 && (6 & 3) == 2 || 0", {}, 1),
        ("-2 ** 2", {}, -4),
        ("7 % 4 + 1.5 / 2", {}, 3.75),
        ('parse("12")', {}, 12),
    ],
)
def test_expressions_of_numbers(
    world: Earth, text: str, variables: dict[str, Any], expected: float
) -> None:
    "[A] Number.expression: operators, functions of Number, '.', Math.PI and Math.E."
    assert world.info(ee.Number.expression(text, variables)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abs(1, 2)", "'abs' takes 1 argument(s), found 2"),
        ("x + 1", "Unknown variable 'x'"),
        ("t + 1", "Invalid type for 'left of add'"),
        ("min()", "'min' takes 2 argument(s), found 0"),
        ("-t", "Invalid type for '-'"),
        ("format(5)", "Invalid type for 'the result'"),
        ("nothing(1)", "Unknown function 'nothing'"),
        ("t.y", "There is no 'y'"),
        ("1 +", "Unable to parse expression '1 +'"),
    ],
)
def test_expressions_that_cannot_be(world: Earth, text: str, words: str) -> None:
    with pytest.raises(EngineError, match=rf"^Number.expression: .*{re.escape(words)}"):
        world.info(ee.Number.expression(text, {"t": "text"}))
