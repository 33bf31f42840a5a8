"""Dates and ranges of dates."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import EngineError
from ..values import EPOCH, Date, DateRange, zone
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


@function("Date.fromYMD")
def from_ymd(year: int, month: int, day: int, time_zone: str | None) -> Date:
    """Return midnight of a day."""
    try:
        return Date.of(datetime(year, month, day, tzinfo=zone(time_zone)))
    except ValueError as problem:
        raise EngineError(f"{problem}.") from None


@function("Date.millis")
def millis(value: Date) -> int | float:
    """Return milliseconds since 1970 UTC."""
    return value.ms


def _months(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def advanced(value: Date, delta: float, unit: str, time_zone: str | None = None) -> Date:
    """Return a date so many units later; months and years by the calendar."""
    name = _unit(unit)
    if name in ("month", "year"):
        whole = int(delta // 1)
        moment = _months(value.at(time_zone), whole * (12 if name == "year" else 1))
        part = delta - whole
        out = Date.of(moment.astimezone(UTC) if moment.tzinfo is UTC else moment)
        if part:
            later = _months(moment, 12 if name == "year" else 1)
            out = Date(out.ms + part * (Date.of(later).ms - out.ms))
        return out
    if name in ("day", "week") and time_zone and delta == int(delta):
        moment = value.at(time_zone) + timedelta(days=int(delta) * (7 if name == "week" else 1))
        return Date.of(moment)
    return Date(_round(value.ms + delta * _MS[name]))


def _round(ms: float) -> int | float:
    return int(ms) if float(ms).is_integer() else round(ms)


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
        raise EngineError(f"Date.get does not know the unit '{unit}'.")
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
    """Return the date with parts replaced."""
    moment = value.at(time_zone)
    named = {"year": year, "month": month, "day": day, "hour": hour, "minute": minute}
    given: dict[str, Any] = {k: v for k, v in named.items() if v is not None}
    if second is not None:
        given["second"] = int(second)
        given["microsecond"] = round((second % 1) * 1e6)
    try:
        return Date.of(moment.replace(**given))
    except ValueError as problem:
        raise EngineError(f"{problem}.") from None


_JODA = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|.", re.DOTALL)


def formatted(value: Date, pattern: str | None, time_zone: str | None) -> str:
    """Write a date by a Joda pattern (``YYYY-MM-dd``, ``DDD``, ``w``...)."""
    moment = value.at(time_zone)
    if pattern is None:
        return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    out = []
    for found in _JODA.finditer(pattern):
        if found[1] is not None:
            out.append(found[1].replace("''", "'") or "'")
        elif found[2] is None:
            out.append(found[0])
        else:
            out.append(_piece(moment, found[2], len(found[0])))
    return "".join(out)


def _piece(t: datetime, letter: str, n: int) -> str:
    iso_year, iso_week, iso_day = t.isocalendar()
    millis = t.microsecond // 1000
    numbers: dict[str, int] = {
        "C": t.year // 100, "Y": t.year, "x": iso_year, "y": t.year, "u": t.year, "w": iso_week,
        "e": iso_day, "D": t.timetuple().tm_yday, "d": t.day, "H": t.hour,
        "k": t.hour or 24, "K": t.hour % 12, "h": t.hour % 12 or 12, "m": t.minute, "s": t.second,
    }  # fmt: skip
    if letter in "Yyx" and n == 2:
        return f"{numbers[letter] % 100:02d}"
    if letter in "ML":
        if n >= 4:
            return calendar.month_name[t.month]
        return calendar.month_abbr[t.month] if n == 3 else f"{t.month:0{n}d}"
    if letter == "E":
        return calendar.day_name[t.weekday()] if n >= 4 else calendar.day_abbr[t.weekday()]
    if letter == "a":
        return "AM" if t.hour < 12 else "PM"
    if letter == "S":
        return f"{t.microsecond:06d}".ljust(9, "0")[:n] if n > 3 else f"{millis:03d}"[:n]
    if letter == "G":
        return "AD" if t.year > 0 else "BC"
    offset = t.utcoffset() or timedelta()
    if letter == "Z":
        minutes = int(offset.total_seconds() // 60)
        sign = "-" if minutes < 0 else "+"
        colon = ":" if n >= 2 else ""
        if n >= 3:
            return "UTC" if not minutes else str(t.tzinfo)
        return f"{sign}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}"
    if letter == "z":
        return t.tzname() or "UTC"
    if letter in numbers:
        return f"{numbers[letter]:0{n}d}"
    raise EngineError(f"Illegal pattern component: {letter * n}")


@function("Date.format")
def format_date(value: Date, pattern: str | None, time_zone: str | None) -> str:
    """Write a date by a Joda pattern; ISO 8601 without one."""
    return formatted(value, pattern, time_zone)


_READ = {
    "Y": r"-?\d{%d,}", "y": r"-?\d{%d,}", "M": r"\d{1,2}", "d": r"\d{1,2}", "H": r"\d{1,2}",
    "h": r"\d{1,2}", "m": r"\d{1,2}", "s": r"\d{1,2}", "D": r"\d{1,3}", "S": r"\d{1,9}",
    "a": r"[AaPp][Mm]",
}  # fmt: skip


@function("Date.parse")
def parse(pattern: str, text: str, time_zone: str | None) -> Date:
    """Read a date by a Joda pattern."""
    regex, letters = "", []
    for found in _JODA.finditer(pattern):
        letter, n = found[2], len(found[0])
        if letter is None:
            regex += re.escape(found[1] if found[1] is not None else found[0])
        elif letter in "ML" and n >= 3:
            regex += r"([A-Za-z]+)"
            letters.append("MMM")
        elif letter in _READ:
            shape = _READ[letter]
            if letter in "MdHhmsD" and n > 1:
                shape = rf"\d{{{n}}}"
            elif letter in "Yy":
                shape = rf"\d{{{n}}}" if n >= 4 else r"\d{2,4}"
            regex += f"({shape})"
            letters.append(letter)
        else:
            raise EngineError(f"Illegal pattern component: {found[0]}")
    match = re.fullmatch(regex, text)
    if not match:
        raise EngineError(f"Invalid format: \"{text}\" does not match '{pattern}'.")
    got = dict(zip(letters, match.groups(), strict=True))
    months = {m.lower(): i for i, m in enumerate(calendar.month_abbr) if m}
    month = int(got.get("M", 1))
    if "MMM" in got:
        month = months.get(got["MMM"][:3].lower(), 0)
    hour = int(got.get("H", got.get("h", 0)))
    if "a" in got:
        hour = hour % 12 + (12 if got["a"].lower() == "pm" else 0)
    year = int(got.get("Y", got.get("y", 1970)))
    if len(got.get("Y", got.get("y", "1970"))) == 2:
        year += 2000 if year < 50 else 1900
    try:
        moment = datetime(
            year, month, int(got.get("d", 1)), hour, int(got.get("m", 0)), int(got.get("s", 0)),
            int(got.get("S", "0").ljust(6, "0")[:6]), tzinfo=zone(time_zone),
        )  # fmt: skip
    except ValueError as problem:
        raise EngineError(f'Cannot parse "{text}": {problem}.') from None
    if "D" in got:
        moment += timedelta(days=int(got["D"]) - 1)
    return Date.of(moment)


# ------------------------------------------------------------------ ranges


@function("DateRange")
def date_range(start: Any, end: Any, time_zone: str | None) -> DateRange:
    """Return a range; without an end one millisecond long."""
    if isinstance(start, DateRange):
        return start
    first = date(start, time_zone).ms
    last = first + 1 if end is None else date(end, time_zone).ms
    if last < first:
        raise EngineError("DateRange end must not be before its start.")
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
    return a < d and c < b


def _narrow(low: float, high: float) -> DateRange:
    return DateRange(None if low == float("-inf") else low, None if high == float("inf") else high)


@function("DateRange.intersection")
def intersection(span: DateRange, other: DateRange) -> DateRange:
    """Return what two ranges share."""
    (a, b), (c, d) = _whole(span), _whole(other)
    low, high = max(a, c), min(b, d)
    if low > high:
        raise EngineError("The ranges do not intersect.")
    return _narrow(low, high)


@function("DateRange.union")
def union(span: DateRange, other: DateRange) -> DateRange:
    """Return the range from the first start to the last end."""
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
