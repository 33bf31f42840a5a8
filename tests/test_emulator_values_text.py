"""Text as Java makes it: formats, numbers, regular expressions, dates.

The tables hold what OpenJDK 17.0.19 (``String.format``, ``Pattern``) and Joda-Time 2.10.14
(``DateTimeFormat``, English) answered to the same calls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import ee
import pytest
from emulator_engine_world import Earth, earth
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.emulator.errors import EngineError
from gee.emulator.functions._java import formatted, java_text, pattern_of, replaced, split
from gee.emulator.functions._joda import parsed, printed
from gee.emulator.values import Date, zone


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("text")) as found:
        yield found


@pytest.mark.parametrize(
    ("value", "pattern", "expected"),
    [
        (1.005, "%.2f", "1.01"),
        (0.125, "%.2f", "0.13"),
        (2.5, "%.0f", "3"),
        (0.5, "%.0f", "1"),
        (-0.04, "%.1f", "-0.0"),
        (9.9999995, "%.6f", "10.000000"),
        (1234567.891, "%,.2f", "1,234,567.89"),
        (-1234.5, "%(,.1f", "(1,234.5)"),
        (12345.678, "%e", "1.234568e+04"),
        (0.00012345, "%.2E", "1.23E-04"),
        (0.0001, "%g", "0.000100000"),
        (1e-05, "%g", "1.00000e-05"),
        (123456789.0, "%g", "1.23457e+08"),
        (0.0, "%g", "0.00000"),
        (100000.0, "%.3g", "1.00e+05"),
        (1.0, "%a", "0x1.0p0"),
        (-0.1, "%a", "-0x1.999999999999ap-4"),
        (3.14159, "%.3a", "0x1.922p1"),
        (5.5, "%08.2f", "00005.50"),
        (5.5, "%-8.2f|", "5.50    |"),
        (5.5, "%+.1f", "+5.5"),
        (5.5, "% .1f", " 5.5"),
        (5.0, "%#.0f", "5."),
        (math.inf, "%f", "Infinity"),
        (-math.inf, "%(f", "(Infinity)"),
        (math.nan, "%8.1f", "     NaN"),
        (10000000.0, "%s", "1.0E7"),
        (1.5e-05, "%s", "1.5E-5"),
        (0.001, "%s", "0.001"),
        (3.25, "%.3s", "3.2"),
        (42, "%05d", "00042"),
        (-42, "%05d", "-0042"),
        (1234567, "%,d", "1,234,567"),
        (-5, "%(d", "(5)"),
        (-5, "%+d", "-5"),
        (5, "% d", " 5"),
        (255, "%x", "ff"),
        (255, "%#X", "0XFF"),
        (-1, "%x", "ffffffffffffffff"),
        (8, "%#o", "010"),
        (-1, "%o", "1777777777777777777777"),
        (12, "%010x", "000000000c"),
        (7, "[%-4d]", "[7   ]"),
        (7, "%s", "7"),
        (-(2**63), "%,d", "-9,223,372,036,854,775,808"),
    ],
)
def test_formats_are_those_of_javas_formatter(value: float, pattern: str, expected: str) -> None:
    "[A] Number.format names java.util.Formatter."
    assert formatted(value, pattern) == expected


@pytest.mark.parametrize(
    "pattern",
    ["none", "%s %s", "%%", "%", "%q", "%-d", "%-05d", "%+ d", "%.2d", "%,x", "%,e", "%#g", "%#s",
     "%++d", "%(a", "%99999d", "%5.2.1f"],
)  # fmt: skip
def test_formats_that_java_or_the_page_refuses(pattern: str) -> None:
    "Exactly one conversion ([A]); flags that do not go together (java.util.Formatter)."
    with pytest.raises(EngineError, match="Invalid format string"):
        formatted(5, pattern)


@given(st.floats(-1e15, 1e15), st.integers(0, 8))
@settings(max_examples=200, deadline=None)
def test_rounded_text_is_half_a_unit_from_the_number(value: float, places: int) -> None:
    text = formatted(value, f"%.{places}f")
    assert len(text.partition(".")[2]) == places
    slack = 0.5 * 10.0**-places
    assert abs(float(text) - value) <= slack * (1 + 1e-9) + abs(value) * 1e-15


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_text_of_a_double_reads_back(value: float) -> None:
    "Double.toString: digits enough to tell it from its neighbours; E from 10^7 on, below 10^-3."
    text = java_text(value)
    assert float(text) == value
    assert ("E" in text) == (value != 0 and not 1e-3 <= abs(value) < 1e7)
    assert "." in text


def test_regular_expressions_that_python_writes_otherwise() -> None:
    "java.util.regex.Pattern: names, quotations, POSIX and Unicode classes, ASCII digits."
    assert pattern_of(r"(?<x>a)\z").search("ba") == ["a", "a"]
    assert pattern_of(r"\Qa.b\E+").search("xa.bb") == ["a.bb"]
    assert pattern_of("[[:digit:][:space:]]+").search("a1 2b") == ["1 2"]
    assert pattern_of(r"\p{Lu}+").search("aÄÖb") == ["ÄÖ"]
    assert pattern_of(r"[\p{L}-]+").search("1é-ñ2") == ["é-ñ"]
    assert pattern_of(r"\P{L}+").search("ab12c") == ["12"]
    assert pattern_of(r"\d").search("٣") is None
    assert pattern_of(r"[]a]+").search("x]a]") == ["]a]"]
    with pytest.raises(EngineError, match="Invalid regular expression"):
        pattern_of(r"\p{Nope}")


@pytest.mark.parametrize(
    ("text", "regex", "expected"),
    [
        (",a,,b,,", ",", ["", "a", "", "b"]),
        ("abc", "b*", ["a", "", "c"]),
        ("abc", "", ["a", "b", "c"]),
        ("", ",", [""]),
        ("aaa", "a", []),
        ("a1b2", "([0-9])", ["a", "b"]),
        ("ab", "x", ["ab"]),
    ],
)
def test_split_is_pattern_split(text: str, regex: str, expected: list[str]) -> None:
    "Pattern.split(CharSequence): empty text at the end is left out."
    assert split(pattern_of(regex), text) == expected


def test_replacements_are_those_of_a_matcher() -> None:
    "Matcher.replaceAll: $n, ${name}, the backslash; as many digits as make a group."
    assert replaced(pattern_of("(a)(b)"), "abab", "$2$1", True) == "baba"
    assert replaced(pattern_of("(a)"), "a", "$10", False) == "a0"
    assert replaced(pattern_of("(?<n>a)"), "ab", "[${n}]", True) == "[a]b"
    assert replaced(pattern_of("a"), "a", r"\$1\\", True) == "$1\\"
    assert replaced(pattern_of("(a)|(b)"), "ab", "<$1$2>", True) == "<a><b>"
    for wrong in ("$2", "${m}", "$", "x\\"):
        with pytest.raises(EngineError):
            replaced(pattern_of("(a)"), "a", wrong, True)
        # Not looked at without a match.
        assert replaced(pattern_of("(a)"), "b", wrong, True) == "b"


def test_text_functions(world: Earth) -> None:
    cases = [
        (ee.String("a😀b").length(), 4),
        (ee.String("a😀b").index("b"), 3),
        (ee.String("a😀b").slice(1, 3), "😀"),
        (ee.String("abcdef").slice(-3, -1), "de"),
        (ee.String("abcdef").slice(4, 2), ""),
        (ee.String("b").compareTo("abc"), 1),
        (ee.String("\ud7ff").compareTo("\U00010000"), -1),
        (ee.String("\uffff").compareTo("\U00010000"), 1),
        (ee.String("\u0001 \t x\u00a0 ").trim(), "x\u00a0"),
        (ee.String("aBa").match("b", "i"), ["B"]),
        (ee.String("aBa").match("a", "g"), ["a", "a"]),
        (ee.String("aBa").match("(x)|(a)"), ["a", None, "a"]),
        (ee.String("aBa").match("z"), []),
        (ee.String("a.b.c").replace("[.]", "-"), "a-b.c"),
        (ee.String("a.b.c").replace("[.]", "-", "g"), "a-b-c"),
        (ee.String("aXbx").split("x", "i"), ["a", "b"]),
        (ee.String("1").equals(1), False),
        (ee.String('{"a": [1, 2.5, null, true]}').decodeJSON(), {"a": [1, 2.5, None, True]}),
        (ee.String.encodeJSON({"b": "é", "a": [1, True]}), '{"a":[1,true],"b":"é"}'),
        (ee.String(ee.Number(1).divide(4)), "0.25"),
    ]
    for value, expected in cases:
        assert world.info(value) == expected
    with pytest.raises(EngineError, match=r"^String.decodeJSON: Invalid JSON"):
        world.info(ee.String("NaN").decodeJSON())
    with pytest.raises(EngineError, match=r"^String.match: Invalid regular expression flag 'x'"):
        world.info(ee.String("a").match("a", "x"))


@pytest.mark.parametrize(
    ("text", "radix", "expected"),
    [("10", 10, 10), ("+7", 10, 7), ("0001", 10, 1), (" 1.5e3 ", 10, 1500), (".5", 10, 0.5),
     ("5.", 10, 5), ("-Infinity", 10, "-Infinity"), ("NaN", 10, "NaN"), ("2.5f", 10, 2.5),
     ("3E8", 16, 1000), ("-zz", 36, -1295), ("-1010", 2, -10),
     ("9223372036854775807", 10, 2**63 - 1), ("9223372036854775808", 10, 2**63)],
)  # fmt: skip
def test_numbers_are_read_as_java_does(
    world: Earth, text: str, radix: int, expected: float | str
) -> None:
    "Long.parseLong(text, radix); Double.parseDouble for what is no integer."
    assert world.info(ee.Number.parse(text, radix)) == expected


@pytest.mark.parametrize(
    ("text", "radix"),
    [("", 10), ("1_000", 10), ("inf", 10), ("0x10", 10), ("0x10", 16), ("12", 2), ("1.5", 16),
     (" 7", 8), ("1", 1), ("1", 37), ("8000000000000000", 16), ("٣", 10)],
)  # fmt: skip
def test_what_is_no_number_in_java(world: Earth, text: str, radix: int) -> None:
    with pytest.raises(EngineError, match=r"^Number.parse: "):
        world.info(ee.Number.parse(text, radix))


# ------------------------------------------------------------------ dates


@pytest.mark.parametrize(
    ("ms", "pattern", "where", "expected"),
    [
        (0, "YYYY-MM-dd HH:mm:ss.SSS", "America/Los_Angeles", "1969-12-31 16:00:00.000"),
        (1582934400000, "D DDD w ww e E EEEE", "UTC", "60 060 9 09 6 Sat Saturday"),
        (1609459200000, "xxxx-'W'ww-e", "UTC", "2020-W53-5"),
        (1609459200000, "YYYY yy Y C G", "UTC", "2021 21 2021 20 AD"),
        (1577883909005, "h:mm:ss a K k S SS SSSS", "UTC", "1:05:09 PM 1 13 0 00 0050"),
        (1577836800000, "Z ZZ ZZZ", "Asia/Kolkata", "+0530 +05:30 Asia/Kolkata"),
        (1577836800000, "M MM MMM MMMM d dd", "UTC", "1 01 Jan January 1 01"),
        (1577836800000, "'o''clock' ''''", "UTC", "o'clock ''"),
        (951782400000, "yyyy/DDD", "Europe/Berlin", "2000/060"),
    ],
)
def test_dates_are_printed_as_joda_does(ms: int, pattern: str, where: str, expected: str) -> None:
    "[A] Date.format names Joda-Time's DateTimeFormat."
    assert printed(Date(ms).at(where), pattern) == expected


@pytest.mark.parametrize(
    ("text", "pattern", "where", "ms"),
    [
        ("16/07/2020 12:30", "dd/MM/yyyy HH:mm", "Europe/Berlin", 1594895400000),
        ("20200716", "yyyyMMdd", "UTC", 1594857600000),
        ("2020198", "yyyyDDD", "UTC", 1594857600000),
        ("Jul 4, 2020", "MMM d, YYYY", "UTC", 1593820800000),
        ("4 july 2020", "d MMM yyyy", "UTC", 1593820800000),
        ("12:05 AM", "hh:mm a", "UTC", 300000),
        ("7-4", "M-d", "UTC", 962668800000),
        ("2020-W01-3", "xxxx-'W'ww-e", "UTC", 1577836800000),
        ("2020-01-01 00:00 -0800", "YYYY-MM-dd HH:mm Z", "UTC", 1577865600000),
        ("01/02/69", "dd/MM/yy", "UTC", -28857600000),
        ("13:00", "HH:mm", "America/New_York", 64800000),
    ],
)
def test_dates_are_read_as_joda_does(text: str, pattern: str, where: str, ms: int) -> None:
    "A month without a year is one of 2000; two digits mean a year near this one."
    assert Date.of(parsed(text, pattern, zone(where), 2026)).ms == ms


@pytest.mark.parametrize(
    ("text", "pattern", "words"),
    [
        ("2020/07/16", "yyyy-MM-dd", 'Invalid format: "2020/07/16" is malformed at "/07/16"'),
        ("2020-07-16x", "yyyy-MM-dd", 'Invalid format: "2020-07-16x" is malformed at "x"'),
        ("2021-02-29", "yyyy-MM-dd", "Value 29 for dayOfMonth must be in the range [1,28]"),
        ("25:00", "HH:mm", "Value 25 for hourOfDay must be in the range [0,23]"),
        ("1", "b", "Illegal pattern component: b"),
        ("2020", "yyyy-MM", 'Invalid format: "2020" is too short'),
    ],
)
def test_dates_that_joda_refuses(text: str, pattern: str, words: str) -> None:
    with pytest.raises(EngineError, match=re.escape(words)):
        parsed(text, pattern, UTC, 2026)


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2040, 1, 1)),
    st.sampled_from(
        ["YYYY-MM-dd HH:mm:ss.SSS", "DDD/yyyy k:m:s.SSS", "xxxx-ww-e hh:mm:ss.SSS a",
         "EEEE d MMMM YYYY HHmmssSSS", "YYYYMMddHHmmssSSS"]
    ),
    st.sampled_from(["UTC", "Asia/Tokyo", "+05:30"]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_what_is_printed_is_read_back(moment: datetime, pattern: str, where: str) -> None:
    there = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=zone(where))
    assert parsed(printed(there, pattern), pattern, zone(where), 2026) == there


@pytest.mark.parametrize(
    ("start", "steps", "unit", "where", "end"),
    [
        # The hour that summer time leaves out is moved on; the day keeps its wall clock.
        ("2021-02-14T02:30", 1, "month", "America/Los_Angeles", "2021-03-14T03:30"),
        ("2021-03-13T12:00", 1, "day", "America/Los_Angeles", "2021-03-14T12:00"),
        ("2020-02-29T00:00", 1, "year", "UTC", "2021-02-28T00:00"),
        ("2020-01-31T00:00", 13, "month", "UTC", "2021-02-28T00:00"),
        ("2020-03-31T00:00", -1, "month", "Europe/Berlin", "2020-02-29T00:00"),
    ],
)
def test_calendar_steps_are_jodas(
    world: Earth, start: str, steps: int, unit: str, where: str, end: str
) -> None:
    "DateTime.plusMonths, plusYears and plusDays of Joda-Time."
    found = ee.Date(start, where).advance(steps, unit, where)
    assert world.info(found.format("YYYY-MM-dd'T'HH:mm", where)) == end


def test_dates_updated_and_out_of_range(world: Earth) -> None:
    date = ee.Date("2020-07-31T12:30:15.250")
    shown = "YYYY-MM-dd'T'HH:mm:ss.SSS"
    assert world.info(date.update(month=2).format(shown)) == "2020-02-29T12:30:15.250"
    assert world.info(date.update(second=5.5).format(shown)) == "2020-07-31T12:30:05.500"
    assert world.info(ee.Date(1.9)) == {"type": "Date", "value": 1}
    for wrong, words in (
        (date.update(hour=25), "Date.update: Value 25 for hourOfDay must be in the range [0,23]"),
        (ee.Date.fromYMD(2021, 2, 29), "Date.fromYMD: Value 29 for dayOfMonth must be in"),
        (ee.Date("2021-366"), "Date: Bad date/time '2021-366'."),
        (ee.Date(1e18).format(), "Date.format: The date 1000000000000000000 is outside"),
        (date.advance(1e300, "year"), "Date.advance: A date cannot be advanced by 1e+300 year"),
        (date.advance(1e9, "year"), "Date.advance: The year"),
        (date.getRelative("year", "month"), "Date.getRelative: 'year' is not a part of 'month'"),
        (ee.Date("2020-01-01", "+99:00"), "Date: The datetime zone id '+99:00' is not recognised"),
    ):
        with pytest.raises(EngineError, match=re.escape(words)):
            world.info(wrong)


def test_ranges_that_hold_nothing(world: Earth) -> None:
    "[A] isEmpty: contains no dates, i.e. start >= end."
    inverted = ee.DateRange("2020-02-01", "2020-01-01")
    june = ee.DateRange("2020-06-01", "2020-07-01")
    assert world.info(inverted.isEmpty()) is True
    assert world.info(june.isEmpty()) is False
    assert world.info(june.intersection(ee.DateRange("2020-08-01", "2020-09-01")).isEmpty()) is True
    assert world.info(june.union(inverted)) == world.info(june)
    rows = ee.FeatureCollection([ee.Feature(None, {"system:time_start": 0})])
    with pytest.raises(EngineError, match="Empty date ranges not supported for the current"):
        world.info(rows.filterDate("1970-01-01", "1970-01-01"))
    assert world.info(june.contains(ee.DateRange("2020-06-02", "2020-07-01"))) is True
    assert world.info(june.contains(ee.DateRange("2020-06-02", "2020-07-02"))) is False
