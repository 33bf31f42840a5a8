"""Collections of ranges of dates, to map over."""

from __future__ import annotations

from collections.abc import Iterator

from ..budget import steps
from ..errors import EngineError
from ..image import Element
from ..values import Collection, Date, DateRange, Feature
from .dates import advanced, formatted
from .registry import function

__all__: list[str] = []

# Up to the unit ([A] BetterDateRangeCollection, format).
_FORMATS = {
    "year": "YYYY",
    "month": "YYYYMM",
    "week": "YYYYMMdd",
    "day": "YYYYMMdd",
    "hour": "YYYYMMddHH",
    "minute": "YYYYMMddHHmm",
    "second": "YYYYMMddHHmmss",
}
_MOST = 1_000_000


@function("BetterDateRangeCollection")
def ranges(
    start: Date, end: Date, delta: int, unit: str, reset: bool, pattern: str | None
) -> Collection:
    """Return features with ``date_range`` from a date up to another, the last one whole.

    With ``reset`` a range that would begin in another year begins at its first moment instead;
    the one before it keeps its length ([A]); going backwards nothing is aligned.
    """
    name = unit.lower().removesuffix("s")
    if name not in _FORMATS:
        raise EngineError(f"Unknown time unit '{unit}': expected one of {', '.join(_FORMATS)}.")
    if delta == 0 or (end.ms - start.ms) * delta < 0:
        raise EngineError("A positive delta needs an end after the start, a negative one before.")
    shown = pattern if pattern is not None else _FORMATS[name]

    def source() -> Iterator[Element]:
        base, count = start, 0
        for _ in steps(range(_MOST)):
            # From the base on, that the last days of months do not creep forward.
            at = advanced(base, count * delta, name)
            if reset and delta > 0 and at.at().year != base.at().year:
                base, count = _new_year(at), 0
                at = base
            if (at.ms >= end.ms) if delta > 0 else (at.ms <= end.ms):
                return
            low, high = sorted((at.ms, advanced(at, delta, name).ms))
            index = formatted(at, shown, None)
            yield Feature(None, {"system:index": index, "date_range": DateRange(low, high)})
            count += 1
        raise EngineError(f"More than {_MOST} ranges.")

    return Collection(source)


def _new_year(date: Date) -> Date:
    moment = date.at()
    return Date.of(moment.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0))


@function("DateRangeCollection")
def simple_ranges(start: int, end: int, interval: int, units: str, reset: bool) -> Collection:
    """Return features with ``date_range`` of so many days or years."""
    if units not in ("days", "years"):
        raise EngineError(f"Units must be 'days' or 'years', not '{units}'.")
    return ranges(Date(start), Date(end), interval, units, reset, None)
