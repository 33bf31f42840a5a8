"""Dates and ranges of dates."""

from __future__ import annotations

import calendar
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from ..errors import EngineError
from ..values import EPOCH, Date, DateRange, zone
from ._joda import parsed, printed
from .registry import function

__all__ = ["advanced", "formatted"]

_MS = {
    "millisecond": 1,
    "second": 1000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 604_800_000,
    # Mean Gregorian lengths: what differences and ratios count in.
    "month": 86_400_000 * 365.2425 / 12,
    "year": 86_400_000 * 365.2425,
}


def _unit(name: str) -> str:
    unit = name.lower().removesuffix("s")
    if unit not in _MS:
        raise EngineError(f"Unknown time unit '{name}': expected one of {', '.join(_MS)}.")
    return unit


@function("Date")
def date(value: Any, time_zone: str | None) -> Date:
    """Return a date from text or milliseconds."""
    if isinstance(value, str):
        return Date.parse(value, time_zone)
    return Date.coerce(value)


def _built(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0,
    microsecond: int = 0, where: tzinfo = UTC,
) -> datetime:  # fmt: skip
    """Return a moment, with Joda-Time's words where a part is out of range."""
    last = calendar.monthrange(year, month)[1] if 1 <= month <= 12 and 1 <= year <= 9999 else 31
    for name, value, low, high in (
        ("year", year, 1, 9999),
        ("monthOfYear", month, 1, 12),
        ("dayOfMonth", day, 1, last),
        ("hourOfDay", hour, 0, 23),
        ("minuteOfHour", minute, 0, 59),
        ("secondOfMinute", second, 0, 59),
    ):
        if not low <= value <= high:
            raise EngineError(f"Value {value} for {name} must be in the range [{low},{high}]")
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=where)


@function("Date.fromYMD")
def from_ymd(year: int, month: int, day: int, time_zone: str | None) -> Date:
    """Return midnight of a day."""
    return Date.of(_built(year, month, day, where=zone(time_zone)))


@function("Date.millis")
def millis(value: Date) -> int | float:
    """Return milliseconds since 1970 UTC."""
    return value.ms


def _months(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise EngineError(f"The year {year} is not within 1 and 9999.")
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def advanced(value: Date, delta: float, unit: str, time_zone: str | None = None) -> Date:
    """Return a date so many units later; months and years by the calendar."""
    name = _unit(unit)
    if not abs(delta) < 2.0**63:
        raise EngineError(f"A date cannot be advanced by {delta} {unit}.")
    if name in ("month", "year"):
        whole = math.floor(delta)
        moment = _months(value.at(time_zone), whole * (12 if name == "year" else 1))
        part = delta - whole
        out = Date.of(moment)
        if part:
            later = _months(moment, 12 if name == "year" else 1)
            out = Date.coerce(_round(out.ms + part * (Date.of(later).ms - out.ms)))
        return out
    if name in ("day", "week") and time_zone and delta == int(delta):
        days = int(delta) * (7 if name == "week" else 1)
        try:
            return Date.of(value.at(time_zone) + timedelta(days=days))
        except OverflowError:
            raise EngineError(f"A date cannot be advanced by {delta} {unit}.") from None
    return Date.coerce(_round(value.ms + delta * _MS[name]))


def _round(ms: float) -> int:
    return int(ms) if float(ms).is_integer() else math.floor(ms + 0.5)


@function("Date.advance")
def advance(value: Date, delta: float, unit: str, time_zone: str | None) -> Date:
    """Return a date so many units later."""
    return advanced(value, delta, unit, time_zone)


@function("Date.difference")
def difference(value: Date, start: Date, unit: str) -> float:
    """Return the time since another date, in units; months and years at their mean length."""
    return (value.ms - start.ms) / _MS[_unit(unit)]


@function("Date.unitRatio")
def unit_ratio(numerator: str, denominator: str) -> float:
    """Return how many of one unit make another."""
    return _MS[_unit(numerator)] / _MS[_unit(denominator)]


_PARTS: dict[str, Callable[[datetime], int]] = {
    "year": lambda t: t.year,
    "month": lambda t: t.month,
    "week": lambda t: t.isocalendar()[1],
    "day": lambda t: t.day,
    "hour": lambda t: t.hour,
    "minute": lambda t: t.minute,
    "second": lambda t: t.second,
}


@function("Date.get")
def get(value: Date, unit: str, time_zone: str | None) -> int:
    """Return a part of the date."""
    name = _unit(unit)
    if name not in _PARTS:
        raise EngineError(f"Unknown time unit '{unit}': expected one of {', '.join(_PARTS)}.")
    return _PARTS[name](value.at(time_zone))


def _start(moment: datetime, unit: str) -> datetime:
    if unit == "week":
        moment = moment - timedelta(days=moment.weekday())
        unit = "day"
    order = ["year", "month", "day", "hour", "minute", "second"]
    zero: dict[str, Any] = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}
    keep = order.index(unit)
    return moment.replace(microsecond=0, **{n: zero[n] for n in order[keep + 1 :]})


@function("Date.getRange")
def get_range(value: Date, unit: str, time_zone: str | None) -> DateRange:
    """Return the unit of the calendar that holds the date."""
    name = _unit(unit)
    start = Date.of(_start(value.at(time_zone), name))
    return DateRange(start.ms, advanced(start, 1, name, time_zone).ms)


@function("Date.getRelative")
def get_relative(value: Date, unit: str, inside: str, time_zone: str | None) -> int:
    """Return a part counted from 0 within a larger unit (day of the year: 0..365)."""
    name, outer = _unit(unit), _unit(inside)
    if name in _MS and _MS[name] > _MS[outer]:
        raise EngineError(f"'{unit}' is not a part of '{inside}'.")
    moment = value.at(time_zone)
    start = _start(moment, outer)
    if name == "month":
        return (moment.year - start.year) * 12 + moment.month - start.month
    if name == "year":
        return moment.year - start.year
    wall = moment.replace(tzinfo=None) - start.replace(tzinfo=None)
    return int(wall / timedelta(milliseconds=1) // _MS[name])


@function("Date.getFraction")
def get_fraction(value: Date, unit: str, time_zone: str | None) -> float:
    """Return how much of the unit has passed, 0..1."""
    span = get_range(value, unit, time_zone)
    assert span.start is not None and span.end is not None
    return (value.ms - span.start) / (span.end - span.start)


@function("Date.update")
def update(
    value: Date,
    year: int | None,
    month: int | None,
    day: int | None,
    hour: int | None,
    minute: int | None,
    second: float | None,
    time_zone: str | None,
) -> Date:
    """Return the date with parts replaced.

    A day that the new month has not becomes its last, as in Joda-Time's ``withMonthOfYear``.
    """
    moment = value.at(time_zone)
    new_year = moment.year if year is None else year
    new_month = moment.month if month is None else month
    if day is None and 1 <= new_month <= 12 and 1 <= new_year <= 9999:
        day = min(moment.day, calendar.monthrange(new_year, new_month)[1])
    micro = moment.microsecond
    if second is not None:
        if not 0 <= second < 60:
            raise EngineError(f"Value {second} for secondOfMinute must be in the range [0,59]")
        second, micro = math.floor(second), int(second % 1 * 1000) * 1000
    return Date.of(
        _built(
            new_year,
            new_month,
            moment.day if day is None else day,
            moment.hour if hour is None else hour,
            moment.minute if minute is None else minute,
            moment.second if second is None else second,
            micro,
            moment.tzinfo or UTC,
        )
    )


def formatted(value: Date, pattern: str | None, time_zone: str | None) -> str:
    """Write a date by a Joda pattern (``YYYY-MM-dd``, ``DDD``, ``w``...)."""
    moment = value.at(time_zone)
    return printed(moment, "YYYY-MM-dd'T'HH:mm:ss" if pattern is None else pattern)


@function("Date.format")
def format_date(value: Date, pattern: str | None, time_zone: str | None) -> str:
    """Write a date by a Joda pattern; ISO 8601 without one."""
    return formatted(value, pattern, time_zone)


@function("Date.parse")
def parse(pattern: str, text: str, time_zone: str | None) -> Date:
    """Read a date by a Joda pattern."""
    return Date.of(parsed(text, pattern, zone(time_zone), datetime.now(UTC).year))


# ------------------------------------------------------------------ ranges


@function("DateRange")
def date_range(start: Any, end: Any, time_zone: str | None) -> DateRange:
    """Return a range; without an end one millisecond long."""
    if isinstance(start, DateRange):
        return start
    first = date(start, time_zone).ms
    last = first + 1 if end is None else date(end, time_zone).ms
    # An end before the start is no error: [A] isEmpty is true of such a range.
    return DateRange(first, last)


@function("DateRange.unbounded")
def unbounded() -> DateRange:
    """Return all of time."""
    return DateRange(None, None)


@function("DateRange.start")
def range_start(span: DateRange) -> Date:
    """Return the start."""
    if span.start is None:
        raise EngineError("The range has no start.")
    return Date(span.start)


@function("DateRange.end")
def range_end(span: DateRange) -> Date:
    """Return the end, which is not part of the range."""
    if span.end is None:
        raise EngineError("The range has no end.")
    return Date(span.end)


def _whole(span: DateRange) -> tuple[float, float]:
    low = float("-inf") if span.start is None else span.start
    return low, float("inf") if span.end is None else span.end


@function("DateRange.contains")
def contains(span: DateRange, other: Any) -> bool:
    """Test whether a date or a range lies inside."""
    low, high = _whole(span)
    if isinstance(other, DateRange):
        a, b = _whole(other)
        return a >= low and b <= high
    return span.contains(Date.coerce(other).ms)


@function("DateRange.intersects")
def intersects(span: DateRange, other: DateRange) -> bool:
    """Test whether two ranges share a moment."""
    (a, b), (c, d) = _whole(span), _whole(other)
    return max(a, c) < min(b, d)


def _narrow(low: float, high: float) -> DateRange:
    return DateRange(None if low == float("-inf") else low, None if high == float("inf") else high)


@function("DateRange.intersection")
def intersection(span: DateRange, other: DateRange) -> DateRange:
    """Return what two ranges share; an empty range where that is nothing."""
    (a, b), (c, d) = _whole(span), _whole(other)
    return _narrow(max(a, c), min(b, d))


@function("DateRange.union")
def union(span: DateRange, other: DateRange) -> DateRange:
    """Return the range from the first start to the last end; an empty range adds nothing."""
    if is_empty(span):
        return other
    if is_empty(other):
        return span
    (a, b), (c, d) = _whole(span), _whole(other)
    return _narrow(min(a, c), max(b, d))


@function("DateRange.isEmpty")
def is_empty(span: DateRange) -> bool:
    """Test whether the range holds no moment."""
    low, high = _whole(span)
    return low >= high


@function("DateRange.isUnbounded")
def is_unbounded(span: DateRange) -> bool:
    """Test whether the range is all of time."""
    return span.start is None and span.end is None


def iso(value: Date) -> str:
    """Write a moment as Earth Engine's REST interface does."""
    return (EPOCH + timedelta(milliseconds=value.ms)).strftime("%Y-%m-%dT%H:%M:%SZ")
