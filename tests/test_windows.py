"""Date windows: same season, never the event itself, never overlapping."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawslump.errors import ConfigError
from thawslump.windows import around, same_season, series, shifted

days = st.dates(date(2015, 1, 1), date(2040, 12, 31))


@given(days, st.integers(1, 12))
def test_neither_window_holds_the_event(event: date, months: int) -> None:
    for pair in (around(event, months), same_season(event, months)):
        assert pair.pre.end <= event < pair.post.start
        assert pair.post.start == event + timedelta(days=1)
        length = pair.post.end - pair.post.start
        assert 28 * months <= length.days <= 31 * months


@given(days, st.integers(1, 12))
def test_the_year_before_is_the_same_season(event: date, months: int) -> None:
    pair = same_season(event, months)
    for before, after in ((pair.pre.start, pair.post.start), (pair.pre.end, pair.post.end)):
        assert abs((after - before).days - 365) <= 4


@given(days, st.integers(-60, 60))
def test_shifted_keeps_the_day_or_ends_the_month(day: date, months: int) -> None:
    found = shifted(day, months)
    assert (found.year * 12 + found.month) - (day.year * 12 + day.month) == months
    assert found.day == day.day or (found + timedelta(days=1)).day == 1


def test_a_series_of_summers() -> None:
    pairs = series(2018, 2021, (6, 15), (9, 15))
    assert [str(p.pre) for p in pairs] == [
        "2018-06-15 .. 2018-09-15", "2019-06-15 .. 2019-09-15", "2020-06-15 .. 2020-09-15",
    ]  # fmt: skip
    assert all(a.post == b.pre for a, b in itertools.pairwise(pairs))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: around(date(2020, 1, 1), 0), "window of 0 months is empty"),
        (lambda: same_season(date(2020, 1, 1), 13), "13 months of the year before 2020-01-01"),
        (lambda: series(2020, 2020), "from 2020 to 2020 holds no change"),
        (lambda: series(2020, 2021, (9, 1), (7, 1)), "season from 09-01 to 07-01 is empty"),
        (lambda: series(2020, 2021, (2, 29), (3, 9)), "does not exist in 2021"),
    ],
)
def test_what_makes_no_window_is_refused(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=words):
        make()
