"""Date windows before and after a change: from an event's date, or summer by summer.

Snow, sun and leaves change more within a year than most slopes do between two: both windows of a
pair lie in the same season, or cover whole years.
"""

from __future__ import annotations

import calendar
import itertools
import re
from datetime import date, timedelta
from typing import Any, NamedTuple

from thawslump.errors import ConfigError
from thawslump.site import Window

__all__ = ["MONTH", "Pair", "around", "asked", "out_of_season", "same_season", "series", "shifted"]


MONTH = 31
"""Days by which the windows of a pair may miss each other in the year before it is said."""


class Pair(NamedTuple):
    """The windows of one change; the end of a window is not part of it."""

    pre: Window
    post: Window


def shifted(day: date, months: int) -> date:
    """Return the same day some months later, the last of the month where there is no such day.

    Examples
    --------
    >>> shifted(date(2023, 1, 31), 1), shifted(date(2024, 2, 29), -12)
    (datetime.date(2023, 2, 28), datetime.date(2023, 2, 28))
    """
    month = day.month - 1 + months
    year, month = day.year + month // 12, month % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def around(event: date, months: int) -> Pair:
    """Return the months up to an event and those after it; the day itself is in neither.

    Parameters
    ----------
    event : date
    months : int
        The papers use 1, 2 and 12. Fewer than 12 put the two windows into different seasons
        (`same_season` does not).

    Raises
    ------
    ConfigError
        No months.

    Examples
    --------
    >>> pair = around(date(2023, 5, 16), 2)
    >>> str(pair.pre), str(pair.post)
    ('2023-03-16 .. 2023-05-16', '2023-05-17 .. 2023-07-17')
    """
    _check(months)
    after = event + timedelta(days=1)
    return Pair(
        Window(start=shifted(event, -months), end=event),
        Window(start=after, end=shifted(after, months)),
    )


def same_season(event: date, months: int) -> Pair:
    """Return the months after an event and the same months of the year before.

    Parameters
    ----------
    event : date
    months : int
        At most 12.

    Raises
    ------
    ConfigError
        No months, or more than 12: the window before would reach past the event.

    Examples
    --------
    >>> pair = same_season(date(2023, 5, 16), 2)
    >>> str(pair.pre), str(pair.post)
    ('2022-05-16 .. 2022-07-16', '2023-05-17 .. 2023-07-17')
    """
    _check(months)
    if months > 12:
        raise ConfigError(
            f"{months} months of the year before {event} reach past that day.",
            hint="Give at most 12 months.",
        )
    after = event + timedelta(days=1)
    # A day is given up before the event, so that no image of the day itself counts as before.
    start = shifted(after, -12) - timedelta(days=1)
    return Pair(
        Window(start=start, end=shifted(start, months)),
        Window(start=after, end=shifted(after, months)),
    )


def series(
    first: int, last: int, start: tuple[int, int] = (7, 1), end: tuple[int, int] = (9, 1)
) -> list[Pair]:
    """Return one pair for every two years that follow each other: slumps without an event date.

    Parameters
    ----------
    first, last : int
        Years; the first is only looked at as "before".
    start, end : (month, day)
        Season of every year, by default July and August; `end` is not part of it.

    Raises
    ------
    ConfigError
        Fewer than two years, a season that is empty or runs over the turn of the year, a day that
        a year has not.

    Examples
    --------
    >>> [(p.pre.start.year, p.post.start.year) for p in series(2020, 2022)]
    [(2020, 2021), (2021, 2022)]
    """
    if last <= first:
        raise ConfigError(
            f"A series from {first} to {last} holds no change.",
            hint="Give two years, the earlier one first.",
        )
    seasons = []
    for year in range(first, last + 1):
        try:
            begin, stop = date(year, *start), date(year, *end)
        except ValueError as problem:
            raise ConfigError(
                f"The season {start} to {end} does not exist in {year}: {problem}.",
                hint="Give (month, day) twice.",
            ) from problem
        if stop <= begin:
            raise ConfigError(
                f"The season from {begin:%m-%d} to {stop:%m-%d} is empty.",
                hint="Give its first day first; seasons over the turn of the year are not offered.",
            )
        seasons.append(Window(start=begin, end=stop))
    return [Pair(*two) for two in itertools.pairwise(seasons)]


def out_of_season(pre: Window, post: Window) -> int:
    """Return by how many days the middles of two windows miss each other in the year.

    Returns
    -------
    int
        0 to 183; 0 where both windows cover eleven months or more.

    Examples
    --------
    >>> pair = around(date(2023, 5, 16), 2)
    >>> out_of_season(*pair), out_of_season(*same_season(date(2023, 5, 16), 2))
    (62, 1)
    """
    lengths = [(window.end - window.start).days for window in (pre, post)]
    if min(lengths) >= 330:
        return 0
    middles = [window.start + (window.end - window.start) / 2 for window in (pre, post)]
    days = abs((middles[1] - middles[0]).days) % 365.2425
    return round(min(days, 365.2425 - days))


def asked(
    *,
    pre: tuple[str, str] | None = None,
    post: tuple[str, str] | None = None,
    event: str | None = None,
    months: int | None = None,
    season: str | None = None,
    years: str | None = None,
    season_start: str | None = None,
    season_end: str | None = None,
) -> list[tuple[str, dict[str, Any]]]:
    """Return what the options of ``site add`` ask for: windows given, an event, or a series.

    Returns
    -------
    list of (suffix, values)
        One entry per site: what its name ends with (nothing unless it is one of a series), and
        the keys of the site file that hold its dates.

    Raises
    ------
    ConfigError
        None of the three ways, parts of two, or a value that cannot be read; says which options.

    Examples
    --------
    >>> [suffix for suffix, _ in asked(years="2018-2020")]
    ['-2018-2019', '-2019-2020']
    >>> asked(event="2023-05-16", months=2)
    [('', {'event': '2023-05-16', 'months': 2, 'season': 'same'})]
    """
    ways: dict[str, dict[str, Any]] = {
        "--pre and --post": {"--pre": pre, "--post": post},
        "--event and --months": {"--event": event, "--months": months, "--season": season},
        "--years": {
            "--years": years,
            "--season-start": season_start,
            "--season-end": season_end,
        },
    }
    given = {
        way: [name for name, value in options.items() if value is not None]
        for way, options in ways.items()
    }
    chosen = [way for way, names in given.items() if names]
    if len(chosen) != 1:
        words = " and ".join(", ".join(given[way]) for way in chosen)
        raise ConfigError(
            f"Windows were given in more than one way: {words}."
            if chosen
            else "There are no windows: no --pre and --post, no --event, no --years.",
            hint="Give one of: " + "; ".join(ways) + ".",
        )
    optional = ("--season", "--season-start", "--season-end")
    missing = [
        name for name, value in ways[chosen[0]].items() if value is None and name not in optional
    ]
    if missing:
        raise ConfigError(
            f"{', '.join(given[chosen[0]])} needs {' and '.join(missing)} too.",
            hint=f"Give {chosen[0]}.",
        )
    if pre is not None and post is not None:
        sides = {"pre": pre, "post": post}
        return [("", {side: {"start": a, "end": b} for side, (a, b) in sides.items()})]
    if event is not None:
        return [("", {"event": event, "months": months, "season": season or "same"})]
    found = re.fullmatch(r"(\d{4})-(\d{4})", years or "")
    if found is None:
        raise ConfigError(
            f"--years {years} are not two years.", hint="Give FIRST-LAST, for example 2018-2023."
        )
    pairs = series(
        int(found[1]),
        int(found[2]),
        _day("--season-start", season_start or "07-01"),
        _day("--season-end", season_end or "09-01"),
    )
    return [
        (
            f"-{pair.pre.start.year}-{pair.post.start.year}",
            {side: getattr(pair, side).model_dump() for side in ("pre", "post")},
        )
        for pair in pairs
    ]


def _day(option: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
    if found is None:
        raise ConfigError(f"{option} {text} is no day.", hint="Give MM-DD, for example 07-01.")
    return int(found[1]), int(found[2])


def _check(months: int) -> None:
    if months < 1:
        raise ConfigError(
            f"A window of {months} months is empty.", hint="Give at least 1; 1, 2 or 12 are usual."
        )
