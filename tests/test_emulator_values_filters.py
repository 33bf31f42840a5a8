"""Filters and joins against the plainest code that does the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ee
import pytest
from emulator_engine_world import Earth, earth
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.emulator.errors import EngineError

ROWS: list[dict[str, Any]] = [
    {"i": 0, "n": 1, "t": "ab", "l": [1, 2]},
    {"i": 1, "n": 2.5, "t": "bc", "l": ["x"]},
    {"i": 2, "n": -3, "t": "abc"},
    {"i": 3, "t": "n"},
    {"i": 4, "n": 2.5, "l": []},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("filters")) as found:
        yield found


def table(rows: list[dict[str, Any]]) -> Any:
    return ee.FeatureCollection([ee.Feature(None, r) for r in rows])


def kept(world: Earth, test: Any) -> list[int]:
    return world.info(table(ROWS).filter(test).aggregate_array("i"))


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda: ee.Filter.eq("n", 2.5), lambda r: r.get("n") == 2.5),
        (lambda: ee.Filter.neq("n", 2.5), lambda r: r.get("n") != 2.5),
        (lambda: ee.Filter.lt("n", 1), lambda r: "n" in r and r["n"] < 1),
        # [A]: these pass unless their opposite does, so without a value too.
        (lambda: ee.Filter.gte("n", 1), lambda r: "n" not in r or r["n"] >= 1),
        (lambda: ee.Filter.lte("n", 1), lambda r: "n" not in r or r["n"] <= 1),
        (lambda: ee.Filter.notNull(["n", "t"]), lambda r: "n" in r and "t" in r),
        (lambda: ee.Filter.inList("t", ["ab", "n"]), lambda r: r.get("t") in ("ab", "n")),
        (lambda: ee.Filter.listContains("l", 1), lambda r: 1 in r.get("l", [])),
        (lambda: ee.Filter.stringContains("t", "b"), lambda r: "b" in r.get("t", "")),
        (lambda: ee.Filter.stringStartsWith("t", "ab"), lambda r: r.get("t", "")[:2] == "ab"),
        (lambda: ee.Filter.stringEndsWith("t", "c"), lambda r: r.get("t", "")[-1:] == "c"),
        (lambda: ee.Filter.rangeContains("n", -3, 1), lambda r: -3 <= r.get("n", 9) <= 1),
        (
            lambda: ee.Filter.Or(ee.Filter.eq("t", "n"), ee.Filter.eq("n", 1)).Not(),
            lambda r: not (r.get("t") == "n" or r.get("n") == 1),
        ),
        (lambda: "n > 0 and t != 'bc'", lambda r: r.get("n", -1) > 0 and r.get("t") != "bc"),
        (lambda: 't in ("ab", "n") || i == 4', lambda r: r.get("t") in ("ab", "n") or r["i"] == 4),
        (lambda: "!(n == 2.5) && not t == 'n'", lambda r: r.get("n") != 2.5 and r.get("t") != "n"),
        (lambda: "i in [1, 3]", lambda r: r["i"] in (1, 3)),
        (lambda: ee.Filter.hasType("n", "Number"), lambda r: "n" in r),
        (lambda: ee.Filter.hasType("t", "String"), lambda r: "t" in r),
    ],
)
def test_filters_keep_what_they_say(
    world: Earth, make: Callable[[], Any], holds: Callable[[dict[str, Any]], bool]
) -> None:
    assert kept(world, make()) == [r["i"] for r in ROWS if holds(r)]


@pytest.mark.parametrize(
    "text", ["n >", "n 5", "(n > 1", "n in 5", "n in (a)", "n > 1 &", "in (1)"]
)
def test_filters_that_cannot_be_read(world: Earth, text: str) -> None:
    with pytest.raises(EngineError, match=r"^Collection.filter: Cannot parse filter"):
        kept(world, text)


def test_days_of_the_year_include_both_ends(world: Earth) -> None:
    "[A] Filter.dayOfYear: start and end inclusive; calendarRange wraps around."
    days = [f"2021-{m:02d}-{d:02d}" for m, d in ((1, 1), (1, 10), (1, 11), (6, 1), (12, 31))]
    rows = ee.FeatureCollection(
        [ee.Feature(None, {"d": d, "system:time_start": ee.Date(d).millis()}) for d in days]
    )

    def found(test: Any) -> Any:
        return world.info(rows.filter(test).aggregate_array("d"))

    assert found(ee.Filter.dayOfYear(1, 10)) == days[:2]
    assert found(ee.Filter.dayOfYear(365, 10)) == [days[0], days[1], days[4]]
    assert found(ee.Filter.calendarRange(12, 1, "month")) == [*days[:3], days[4]]
    # 2021-01-01 and 2021-12-31 were Fridays; Monday is 1.
    assert found(ee.Filter.calendarRange(5, 5, "day_of_week")) == [days[0], days[4]]


def test_areas_include_both_ends(world: Earth) -> None:
    "[A] Filter.area: inclusive; another property may hold the geometry."
    box = ee.Geometry.Rectangle(0, 0, 1, 1)
    rows = ee.FeatureCollection([ee.Feature(box, {"g": ee.Geometry.Point(0, 0)})])
    size = world.info(box.area())
    assert world.info(rows.filter(ee.Filter.area(0, size)).size()) == 1
    assert world.info(rows.filter(ee.Filter.area(size, size * 2)).size()) == 1
    assert world.info(rows.filter(ee.Filter.area(size + 1, size * 2)).size()) == 0
    selected = ee.ApiFunction.apply_("Filter.area", {"min": 0, "max": 0, "geometrySelector": "g"})
    assert world.info(rows.filter(ee.Filter(selected)).size()) == 1


def test_filters_and_joins_show_their_arguments(world: Earth) -> None:
    both = ee.Filter.And(ee.Filter.eq("a", 1), ee.Filter.lt("b", 2).Not())
    assert world.info(both) == {
        "type": "Filter.and",
        "filters": [
            {"type": "Filter.equals", "leftField": "a", "rightValue": 1},
            {
                "type": "Filter.not",
                "filter": {"type": "Filter.lessThan", "leftField": "b", "rightValue": 2},
            },
        ],
    }
    assert world.info(ee.Join.saveBest("m", "d")) == {
        "type": "Join.saveBest", "matchKey": "m", "measureKey": "d", "outer": False,
    }  # fmt: skip


LEFT = st.lists(st.integers(0, 9), max_size=5)
RIGHT = st.lists(st.integers(0, 9), max_size=6)


@given(LEFT, RIGHT, st.integers(0, 4), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_joins_equal_two_loops(
    world: Earth, left: list[int], right: list[int], far: int, ascending: bool, outer: bool
) -> None:
    "Join.*: every kind by definition, with the difference as measure."
    near = ee.Filter.maxDifference(difference=far, leftField="x", rightField="y")
    primary = table([{"x": x, "k": k} for k, x in enumerate(left)])
    secondary = table([{"y": y, "k": k} for k, y in enumerate(right)])
    matches = {
        k: [(j, abs(x - y)) for j, y in enumerate(right) if abs(x - y) <= far]
        for k, x in enumerate(left)
    }

    def applied(join: Any) -> Any:
        found = world.info(ee.Join.apply(join, primary, secondary, near)).get("features", [])
        return [f["properties"] for f in found]

    simple = applied(ee.Join.simple())
    assert [f["k"] for f in simple] == [k for k in matches if matches[k]]
    inverted = applied(ee.Join.inverted())
    assert [f["k"] for f in inverted] == [k for k in matches if not matches[k]]

    pairs = applied(ee.Join.inner("l", "r", "d"))
    got = [(p["l"]["properties"]["k"], p["r"]["properties"]["k"], p["d"]) for p in pairs]
    assert got == [(k, j, d) for k in matches for j, d in matches[k]]

    every = applied(ee.Join.saveAll("m", "y", ascending, "d", outer))
    assert [f["k"] for f in every] == [k for k in matches if matches[k] or outer]
    for row in every:
        shown = [(m["properties"]["k"], m["properties"]["d"]) for m in row["m"]]
        expected = sorted(matches[row["k"]], key=lambda m: right[m[0]], reverse=not ascending)
        assert shown == expected

    best = applied(ee.Join.saveBest("m", "d", outer))
    for row in best:
        if "m" in row:
            assert row["m"]["properties"]["d"] == min(d for _, d in matches[row["k"]])
    assert [f["k"] for f in best] == [k for k in matches if matches[k] or outer]
    first = applied(ee.Join.saveFirst("m", "y", ascending, None, outer))
    for row, whole in itertools.zip_longest(first, every):
        assert row["k"] == whole["k"]
        if whole["m"]:
            assert row["m"]["properties"]["k"] == whole["m"][0]["properties"]["k"]


def test_the_best_match_needs_a_measure(world: Earth) -> None:
    "[A] Join measures are produced by withinDistance and maxDifference."
    same = ee.Filter.equals(leftField="x", rightField="y")
    with pytest.raises(EngineError, match=r"^Join.apply: The condition has no join measure"):
        world.info(ee.Join.apply(ee.Join.saveBest("m", "d"), table(ROWS), table(ROWS), same))
