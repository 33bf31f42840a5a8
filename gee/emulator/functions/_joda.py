"""Patterns of dates, as Joda-Time reads them.

Source: the documentation of ``org.joda.time.format.DateTimeFormat``, to which the descriptions
of ``Date.format`` and ``Date.parse`` refer. Names are English.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from ..errors import EngineError
from ..values import zone

__all__ = ["parsed", "printed"]

_TOKEN = re.compile(r"''|'((?:[^']|'')+)'|([A-Za-z])\2*|[^A-Za-z']+|'", re.DOTALL)
_LETTERS = frozenset("GCYxwyeEMDdaKhHkmsSzZ")
_NUMERIC = frozenset("CYxwyeDdKhHkmsS")
_NAMES_LONG = {"UTC": "Coordinated Universal Time"}


@dataclass(frozen=True, slots=True)
class _Part:
    """Literal text, or a letter that is repeated so many times."""

    text: str
    letter: str = ""
    count: int = 0

    @property
    def numeric(self) -> bool:
        return self.letter in _NUMERIC or (self.letter == "M" and self.count <= 2)


@lru_cache(maxsize=256)
def _parts(pattern: str) -> tuple[_Part, ...]:
    if not pattern:
        raise EngineError("Invalid pattern specification.")
    out = []
    for found in _TOKEN.finditer(pattern):
        if found[2] is not None:
            if found[2] not in _LETTERS:
                raise EngineError(f"Illegal pattern component: {found[0]}")
            out.append(_Part("", found[2], len(found[0])))
        elif found[1] is not None:
            out.append(_Part(found[1].replace("''", "'")))
        elif found[0] != "'":
            # Two quotes are one, alone as well as within quoted text.
            out.append(_Part("'" if found[0] == "''" else found[0]))
    return tuple(out)


_COUNTS: dict[str, Callable[[datetime], int]] = {
    "C": lambda t: t.year // 100,
    "Y": lambda t: t.year,
    "y": lambda t: t.year,
    "x": lambda t: t.isocalendar()[0],
    "w": lambda t: t.isocalendar()[1],
    "e": lambda t: t.isocalendar()[2],
    "D": lambda t: t.timetuple().tm_yday,
    "d": lambda t: t.day,
    "M": lambda t: t.month,
    "H": lambda t: t.hour,
    "k": lambda t: t.hour or 24,
    "K": lambda t: t.hour % 12,
    "h": lambda t: t.hour % 12 or 12,
    "m": lambda t: t.minute,
    "s": lambda t: t.second,
}


def printed(moment: datetime, pattern: str) -> str:
    """Write a moment, in its zone, by a pattern.

    Examples
    --------
    >>> printed(datetime(2020, 2, 3, 16, 5, tzinfo=UTC), "YYYY-MM-dd h:mm a, EEE 'week' w")
    '2020-02-03 4:05 PM, Mon week 6'
    """
    return "".join(_shown(moment, p) if p.letter else p.text for p in _parts(pattern))


def _shown(t: datetime, part: _Part) -> str:
    letter, n = part.letter, part.count
    if letter == "M" and n >= 3:
        return (calendar.month_name if n >= 4 else calendar.month_abbr)[t.month]
    if letter == "E":
        return (calendar.day_name if n >= 4 else calendar.day_abbr)[t.weekday()]
    if letter == "a":
        return "AM" if t.hour < 12 else "PM"
    if letter == "G":
        return "AD"
    if letter == "S":
        # Milliseconds are the finest that there is.
        return f"{t.microsecond // 1000:03d}".ljust(n, "0")[:n]
    if letter in "Yyx" and n == 2:
        return f"{_COUNTS[letter](t) % 100:02d}"
    if letter in _COUNTS:
        return f"{_COUNTS[letter](t):0{n}d}"
    if letter == "z":
        name = t.tzname() or "UTC"
        return _NAMES_LONG.get(name, name) if n >= 4 else name
    if n >= 3:
        return _zone_id(t.tzinfo)
    return _offset(t.utcoffset() or timedelta(), ":" if n == 2 else "")


def _zone_id(where: tzinfo | None) -> str:
    if where is None or where is UTC:
        return "UTC"
    key = getattr(where, "key", None)
    return str(key) if key else _offset(where.utcoffset(None) or timedelta(), ":")


def _offset(offset: timedelta, colon: str) -> str:
    seconds = int(offset.total_seconds())
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}{colon}{minutes % 60:02d}"


# ------------------------------------------------------------------ parsing

_MOST_DIGITS = {"w": 2, "e": 1, "D": 3, "d": 2, "M": 2, "H": 2, "k": 2, "K": 2, "h": 2, "m": 2,
                "s": 2}  # fmt: skip
_RANGES = {"M": (1, 12), "d": (1, 31), "D": (1, 366), "e": (1, 7), "w": (1, 53), "H": (0, 23),
           "k": (1, 24), "K": (0, 11), "h": (1, 12), "m": (0, 59), "s": (0, 59)}  # fmt: skip
_MONTHS = {n.lower(): i for names in (calendar.month_abbr, calendar.month_name)
           for i, n in enumerate(names) if n}  # fmt: skip
_DAYS = {n.lower(): i + 1 for names in (calendar.day_abbr, calendar.day_name)
         for i, n in enumerate(names)}  # fmt: skip
_ZONES = {"UT": "UTC", "UTC": "UTC", "GMT": "UTC", "EST": "America/New_York",
          "EDT": "America/New_York", "CST": "America/Chicago", "CDT": "America/Chicago",
          "MST": "America/Denver", "MDT": "America/Denver", "PST": "America/Los_Angeles",
          "PDT": "America/Los_Angeles"}  # fmt: skip
_YEARS_BACK = 80


def parsed(text: str, pattern: str, where: tzinfo, this_year: int) -> datetime:
    """Read a moment by a pattern.

    Parameters
    ----------
    text, pattern : str
    where : tzinfo
        The zone, if the text names none.
    this_year : int
        Two digits of a year mean one from 80 years before it to 19 after it.

    Returns
    -------
    datetime
        What the pattern has not is that of 1970-01-01; of 2000 for a month without a year.

    Raises
    ------
    EngineError
        The text does not follow the pattern, or names a date that there is not.

    Examples
    --------
    >>> parsed("3 Feb 2020, 4 PM", "d MMM YYYY, h a", UTC, 2020).isoformat()
    '2020-02-03T16:00:00+00:00'
    """
    got: dict[str, int] = {}
    at = 0
    parts = _parts(pattern)
    for number, part in enumerate(parts):
        if not part.letter:
            if text[at : at + len(part.text)].lower() != part.text.lower():
                raise _malformed(text, at)
            at += len(part.text)
            continue
        followed = number + 1 < len(parts) and parts[number + 1].numeric
        read = _read(text, at, part, followed, this_year)
        if read is None:
            raise _malformed(text, at)
        name, value, at = read
        if name == "zone":
            assert isinstance(value, tzinfo)
            where = value
        else:
            assert isinstance(value, int)
            low, high = _RANGES.get(name, (value, value))
            if not low <= value <= high:
                raise EngineError(
                    f'Cannot parse "{text}": Value {value} for {_FIELD[name]} must be in the '
                    f"range [{low},{high}]"
                )
            got[name] = value
    if at != len(text):
        raise _malformed(text, at)
    return _moment(text, got, where)


def _malformed(text: str, at: int) -> EngineError:
    if at >= len(text):
        return EngineError(f'Invalid format: "{text}" is too short')
    where = f' at "{text[at:]}"' if at else ""
    return EngineError(f'Invalid format: "{text}" is malformed{where}')


_FIELD = {"M": "monthOfYear", "d": "dayOfMonth", "D": "dayOfYear", "e": "dayOfWeek",
          "w": "weekOfWeekyear", "H": "hourOfDay", "k": "clockhourOfDay", "K": "hourOfHalfday",
          "h": "clockhourOfHalfday", "m": "minuteOfHour", "s": "secondOfMinute"}  # fmt: skip


def _read(
    text: str, at: int, part: _Part, followed: bool, this_year: int
) -> tuple[str, int | tzinfo, int] | None:
    letter, n = part.letter, part.count
    if letter == "E" or (letter == "M" and n >= 3):
        names = _DAYS if letter == "E" else _MONTHS
        return _named("e" if letter == "E" else "M", names, text, at)
    if letter == "a":
        return _named("a", {"am": 0, "pm": 1}, text, at)
    if letter == "G":
        return _named("G", {"ad": 1, "bc": 0}, text, at)
    if letter in "zZ":
        return _read_zone(text, at, part)
    if letter in "Yyx":
        return _read_year(text, at, part, followed, this_year)
    most = n if letter in "CS" else _MOST_DIGITS[letter]
    found = re.compile(rf"[0-9]{{1,{most}}}").match(text, at)
    if not found:
        return None
    value = int(found[0].ljust(3, "0")[:3]) if letter == "S" else int(found[0])
    return letter, value, found.end()


def _named(
    name: str, names: dict[str, int], text: str, at: int
) -> tuple[str, int | tzinfo, int] | None:
    for word in sorted(names, key=len, reverse=True):
        if text[at : at + len(word)].lower() == word:
            return name, names[word], at + len(word)
    return None


def _read_year(
    text: str, at: int, part: _Part, followed: bool, this_year: int
) -> tuple[str, int | tzinfo, int] | None:
    name = "x" if part.letter == "x" else "Y"
    if part.count != 2:
        digits = rf"[0-9]{{1,{part.count if followed else 9}}}"
        sign = "" if part.letter == "Y" else "[-+]?"
        found = re.compile(sign + digits).match(text, at)
        return None if found is None else (name, int(found[0]), found.end())
    found = re.compile("[0-9]{2}" if followed else "[-+]?[0-9]+").match(text, at)
    if found is None:
        return None
    value = int(found[0])
    if re.fullmatch("[0-9]{2}", found[0]):
        low = this_year - _YEARS_BACK
        value += low // 100 * 100
        value += 100 if value < low else 0
    return name, value, found.end()


def _read_zone(text: str, at: int, part: _Part) -> tuple[str, int | tzinfo, int] | None:
    if part.letter == "z":
        for name, meant in sorted(_ZONES.items(), key=lambda z: -len(z[0])):
            if text.startswith(name, at):
                return "zone", zone(meant), at + len(name)
        return None
    if part.count >= 3:
        found = re.compile(r"[A-Za-z][A-Za-z0-9_+\-/]*|[-+][0-9]{2}:[0-9]{2}").match(text, at)
        return None if found is None else ("zone", zone(found[0]), found.end())
    if text[at : at + 1] == "Z":
        return "zone", UTC, at + 1
    found = re.compile(r"([-+])([0-9]{2})(?::?([0-9]{2}))?").match(text, at)
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    if int(found[2]) > 23 or int(found[3] or 0) > 59:
        return None
    return "zone", timezone(-offset if found[1] == "-" else offset), found.end()


def _moment(text: str, got: dict[str, int], where: tzinfo) -> datetime:
    year = got.get("Y")
    if year is None and "C" in got:
        year = got["C"] * 100 + 70
    if year is None:
        year = 2000 if {"M", "d", "D", "w", "e"} & got.keys() and "x" not in got else 1970
    hour = got.get("H", got.get("k", 0) % 24)
    if "h" in got or "K" in got:
        hour = got.get("K", got.get("h", 0) % 12)
    if "a" in got:
        hour = hour % 12 + 12 * got["a"]
    try:
        if "x" in got or "w" in got:
            iso_year = got.get("x", year)
            day = datetime.fromisocalendar(iso_year, got.get("w", 1), got.get("e", 1))
        elif "D" in got:
            day = datetime(year, 1, 1) + timedelta(days=got["D"] - 1)
            if day.year != year:
                raise ValueError("Value 366 for dayOfYear must be in the range [1,365]")
        else:
            month, nth = got.get("M", 1), got.get("d", 1)
            last = calendar.monthrange(year, month)[1] if 1 <= year <= 9999 else 31
            if nth > last:
                raise ValueError(f"Value {nth} for dayOfMonth must be in the range [1,{last}]")
            day = datetime(year, month, nth)
        if "e" in got and "w" not in got:
            # Set last, within its week.
            day += timedelta(days=got["e"] - 1 - day.weekday())
        return day.replace(
            hour=hour,
            minute=got.get("m", 0),
            second=got.get("s", 0),
            microsecond=got.get("S", 0) * 1000,
            tzinfo=where,
        )
    except (ValueError, OverflowError) as problem:
        raise EngineError(f'Cannot parse "{text}": {problem}') from None
