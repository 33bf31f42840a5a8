"""Collections of ranges of dates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import ee
import pytest
from emulator_engine_world import Earth, earth

from gee.emulator.errors import EngineError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("periods")) as found:
        yield found


def rows(world: Earth, name: str, **given: Any) -> list[tuple[str, date, date]]:
    found = world.info(ee.FeatureCollection(ee.ApiFunction.apply_(name, given)))
    out = []
    for row in found.get("features", []):
        ends = [
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
            for ms in row["properties"]["date_range"]["dates"]
        ]
        out.append((row["id"], ends[0].date(), ends[1].date()))
    return out


def test_months_keep_their_day(world: Earth) -> None:
    found = rows(
        world, "BetterDateRangeCollection", start="2020-01-31", end="2020-04-30", delta=1,
        unit="month",
    )  # fmt: skip
    assert found == [
        ("202001", date(2020, 1, 31), date(2020, 2, 29)),
        ("202002", date(2020, 2, 29), date(2020, 3, 29)),
        ("202003", date(2020, 3, 31), date(2020, 4, 30)),
    ]


def test_ranges_begin_anew_with_the_year(world: Earth) -> None:
    "[A]: starts align to the start of each year, ends are still delta units later."
    found = rows(
        world, "BetterDateRangeCollection", start="2020-12-01", end="2021-02-01", delta=20,
        unit="day", resetAtYearBoundaries=True, format="YYYY-DDD",
    )  # fmt: skip
    starts = [date(2020, 12, 1), date(2020, 12, 21), date(2021, 1, 1), date(2021, 1, 21)]
    assert [r[1] for r in found] == starts
    assert all(r[2] - r[1] == timedelta(days=20) for r in found)
    assert [r[0] for r in found] == [f"{s.year}-{s.timetuple().tm_yday:03d}" for s in starts]


def test_ranges_run_backwards(world: Earth) -> None:
    found = rows(
        world, "BetterDateRangeCollection", start="2020-01-10", end="2020-01-05", delta=-2,
        unit="day",
    )  # fmt: skip
    assert [(r[1].day, r[2].day) for r in found] == [(8, 10), (6, 8), (4, 6)]


def test_days_and_years_alone(world: Earth) -> None:
    "[A] DateRangeCollection: only 'days' and 'years' are recognised."
    year = 1000 * 86_400 * 366
    found = rows(world, "DateRangeCollection", startTime=0, endTime=2 * year, units="years")
    assert [(r[1].year, r[2].year) for r in found] == [(1970, 1971), (1971, 1972), (1972, 1973)]
    assert len(rows(world, "DateRangeCollection", startTime=0, endTime=year, interval=61)) == 6
    for wrong in ({"units": "months"}, {"interval": 0}, {"interval": -1}):
        with pytest.raises(EngineError, match=r"^DateRangeCollection: "):
            rows(world, "DateRangeCollection", startTime=0, endTime=year, **wrong)
