"""Numbers, strings, lists, dictionaries, dates and geometries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime

import ee
import pytest
from emulator_engine_world import Earth, earth
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from gee.emulator.errors import EngineError
from gee.emulator.functions.dates import advanced, formatted
from gee.emulator.values import Date

GEOD = Geod(ellps="WGS84")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("values")) as found:
        yield found


# ------------------------------------------------------------------ dates


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-02-29", datetime(2020, 2, 29, tzinfo=UTC)),
        ("2020-060", datetime(2020, 2, 29, tzinfo=UTC)),
        ("1996-01-01T08:00", datetime(1996, 1, 1, 8, tzinfo=UTC)),
        ("2017-06-24T10:11:12.345Z", datetime(2017, 6, 24, 10, 11, 12, 345000, tzinfo=UTC)),
        ("2017-06-24T10:00:00+02:00", datetime(2017, 6, 24, 8, tzinfo=UTC)),
        ("2017", datetime(2017, 1, 1, tzinfo=UTC)),
    ],
)
def test_dates_are_read(text: str, expected: datetime) -> None:
    "[A] Date: '1996-01-01', '1996-001', '1996-01-01T08:00'."
    assert Date.parse(text).at() == expected


def test_date_parts_and_steps(world: Earth) -> None:
    date = ee.Date("2020-01-31T13:45:10")
    assert world.info(date.advance(1, "month").format("YYYY-MM-dd")) == "2020-02-29"
    assert world.info(date.advance(-1, "year").format("YYYY-MM-dd")) == "2019-01-31"
    assert world.info(date.advance(1.5, "day").millis()) == 1580478310000 + 36 * 3600_000
    assert world.info(date.get("month")) == 1
    assert world.info(date.getRelative("day", "year")) == 30
    assert world.info(date.difference(ee.Date("2020-01-30T13:45:10"), "hour")) == 24
    assert world.info(date.getRange("month").end().format("YYYY-MM-dd")) == "2020-02-01"
    assert world.info(date.update(year=2000, second=1).format("YYYY-ss")) == "2000-01"
    assert world.info(ee.Date.unitRatio("day", "minute")) == 1440
    assert world.info(ee.Date.fromYMD(2020, 5, 6)) == {"type": "Date", "value": 1588723200000}
    with pytest.raises(EngineError, match=r"^Date: Bad date/time 'yesterday'\.$"):
        world.value(ee.Date("yesterday"))
    with pytest.raises(EngineError, match=r"Date.get: Unknown time unit 'fortnight'"):
        world.value(date.get("fortnight"))


def test_date_patterns() -> None:
    "Joda patterns."
    date = Date.parse("2021-03-04T15:06:07.089")
    assert formatted(date, "YY/M/d h:mm a", None) == "21/3/4 3:06 PM"
    assert formatted(date, "EEE, d MMM yyyy", None) == "Thu, 4 Mar 2021"
    assert formatted(date, "DDD 'day' w", None) == "063 day 9"
    assert formatted(date, "HH:mm:ss.SSS Z", "America/Anchorage") == "06:06:07.089 -0900"
    assert formatted(date, None, None) == "2021-03-04T15:06:07"


def test_date_parse_reads_what_format_writes(world: Earth) -> None:
    found = ee.Date.parse("dd/MM/yyyy HH:mm", "04/03/2021 15:06")
    assert world.info(found.format("YYYY-MM-dd'T'HH:mm")) == "2021-03-04T15:06"


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2050, 1, 1)),
    st.integers(-400, 400),
    st.sampled_from(["day", "hour", "minute", "week", "second"]),
)
@settings(max_examples=60, deadline=None)
def test_advance_and_difference_are_inverse(moment: datetime, steps: int, unit: str) -> None:
    date = Date.of(moment.replace(microsecond=0, tzinfo=UTC))
    later = advanced(date, steps, unit)
    assert advanced(later, -steps, unit) == date


def test_date_ranges(world: Earth) -> None:
    span = ee.DateRange("2020-01-01", "2020-02-01")
    assert world.info(span.contains("2020-01-31")) is True
    assert world.info(span.contains("2020-02-01")) is False
    assert world.info(span.intersects(ee.DateRange("2020-02-01", "2020-03-01"))) is False
    assert world.info(span.isUnbounded()) is False
    assert world.info(ee.DateRange.unbounded().isUnbounded()) is True


# ------------------------------------------------------------------ numbers, strings


def test_numbers(world: Earth) -> None:
    cases = {
        ee.Number(7).divide(2): 3.5,
        ee.Number(7).divide(0): 0,
        ee.Number(-7).mod(3): -1,
        ee.Number(2).pow(10): 1024,
        ee.Number(-2.5).round(): -2,
        ee.Number(2.5).round(): 3,
        ee.Number(300).toUint8(): 255,
        ee.Number(5).bitwiseAnd(6): 4,
        ee.Number(1).leftShift(10): 1024,
        ee.Number(3.7).toInt(): 3,
        ee.Number(5).unitScale(5, 5): 0,
        ee.Number(12).clamp(0, 10): 10,
        ee.Number(3.14159).format("%.2f"): "3.14",
        ee.Number(42).format("%05d"): "00042",
        ee.Number(1234567).format("%,d km"): "1,234,567 km",
        ee.Number.parse("3E8", 16): 1000,
        ee.Number(1).And(0): 0,
        ee.Number(2).gt(1): 1,
    }
    for number, expected in cases.items():
        assert world.info(number) == expected
    assert world.info(ee.Number(1).log()) == 0


def test_number_expression(world: Earth) -> None:
    found = ee.Number.expression("x > 3 ? sqrt(y.z) + Math.PI : 0", {"x": 4, "y": {"z": 16}})
    assert world.info(found) == pytest.approx(4 + math.pi)


def test_strings(world: Earth) -> None:
    text = ee.String("LC08_044034_20140318")
    assert world.info(text.split("_").get(2)) == "20140318"
    assert world.info(text.slice(-8, -4)) == "2014"
    assert world.info(text.replace("_", "-")) == "LC08-044034_20140318"
    assert world.info(text.replace("_", "-", "g")) == "LC08-044034-20140318"
    assert world.info(text.match(r"(\d+)_2(\d{3})")) == ["044034_2014", "044034", "014"]
    assert world.info(text.index("044")) == 5
    assert world.info(ee.String("a").compareTo("b")) == -1
    assert world.info(ee.String("é").toUpperCase().length()) == 1
    assert world.info(ee.String.encodeJSON({"a": [1, 2.5, None]})) == '{"a":[1,2.5,null]}'
    assert world.info(ee.String('{"a": 1}').decodeJSON()) == {"a": 1}


# ------------------------------------------------------------------ lists, dictionaries


def test_lists(world: Earth) -> None:
    items = ee.List([5, 3, 9, 3])
    cases = [
        (items.sort(), [3, 3, 5, 9]),
        (ee.List(["b", "a", "c"]).sort([2, 3, 1]), ["c", "b", "a"]),
        (items.distinct(), [5, 3, 9]),
        (items.remove(3), [5, 9, 3]),
        (items.removeAll([3]), [5, 9]),
        (items.indexOf(9), 2),
        (items.get(-1), 3),
        (items.slice(1, -1), [3, 9]),
        (items.splice(1, 2, [7]), [5, 7, 3]),
        (items.swap(0, 2), [9, 3, 5, 3]),
        (items.rotate(1), [3, 5, 3, 9]),
        (items.zip([1, 2]), [[5, 1], [3, 2]]),
        (ee.List([[1, 2], [3, 4]]).unzip(), [[1, 3], [2, 4]]),
        (ee.List([1, [2, [3]]]).flatten(), [1, 2, 3]),
        (items.frequency(3), 2),
        (items.insert(1, "x"), [5, "x", 3, 9, 3]),
        (items.filter(ee.Filter.gt("item", 3)), [5, 9]),
        (items.reduce(ee.Reducer.mean()), 5),
        (items.reduce(ee.Reducer.minMax()), {"min": 3, "max": 9}),
        (items.iterate(lambda x, a: ee.Number(a).add(x), 0), 20),
        (ee.List.sequence(0, 1, None, 5), [0, 0.25, 0.5, 0.75, 1]),
        (ee.List.sequence(10, 1, -3), [10, 7, 4, 1]),
        (ee.List.repeat(1, 3), [1, 1, 1]),
        (items.map(lambda x: ee.Algorithms.If(ee.Number(x).gt(3), x, None), True), [5, 9]),
        (ee.List([1, 2]).join("-"), "1-2"),
        (items.containsAll([3, 9]), True),
        (items.indexOfSublist([9, 3]), 2),
    ]
    for value, expected in cases:
        assert world.info(value) == expected
    with pytest.raises(EngineError, match=r"between 0 and 3, or -4 and -1\. Found 4\.$"):
        world.value(items.get(4))


@given(st.lists(st.integers(-5, 5), max_size=12), st.integers(-20, 20))
@settings(max_examples=50, deadline=None)
def test_rotating_back_gives_the_list(items: list[int], distance: int) -> None:
    from gee.emulator.functions.lists import rotate

    assert rotate(rotate(items, distance), -distance) == items


def test_dictionaries(world: Earth) -> None:
    table = ee.Dictionary({"b": 2, "a": 1})
    cases = [
        (table.keys(), ["a", "b"]),
        (table.values(), [1, 2]),
        (table.values(["b"]), [2]),
        (table.get("c", 9), 9),
        (table.combine({"a": 5, "c": 3}), {"a": 5, "b": 2, "c": 3}),
        (table.combine({"a": 5}, False), {"a": 1, "b": 2}),
        (ee.Dictionary({"a": None}).combine({"a": 0}, False), {"a": 0}),
        (table.remove(["a"]), {"b": 2}),
        (table.select(["a.*"]), {"a": 1}),
        (table.rename(["a"], ["z"]), {"b": 2, "z": 1}),
        (table.set("n", 0), {"a": 1, "b": 2, "n": 0}),
        (table.map(lambda k, v: ee.Number(v).add(1)), {"a": 2, "b": 3}),
        (table.size(), 2),
        (ee.Dictionary.fromLists(["x"], [1]), {"x": 1}),
        (ee.Dictionary(["k", 1]), {"k": 1}),
    ]
    for value, expected in cases:
        assert world.info(value) == expected
    with pytest.raises(EngineError, match=r"does not contain key: 'c'. Available keys: \[a, b\]"):
        world.value(table.get("c"))


def test_if_and_equality(world: Earth) -> None:
    "[A] If: 0, NaN, empty and null are false."
    for false in (0, "", [], {}, None):
        assert world.info(ee.Algorithms.If(false, 1, 2)) == 2
    for true in (1, "0", [0], {"a": 0}):
        assert world.info(ee.Algorithms.If(true, 1, 2)) == 1
    assert world.info(ee.Algorithms.IsEqual([1, {"a": 2}], [1, {"a": 2}])) is True
    assert world.info(ee.Algorithms.ObjectType(ee.Image(1))) == "Image"
    assert world.info(ee.Algorithms.ObjectType("x")) == "String"


# ------------------------------------------------------------------ geometries


def square(west: float = 15, south: float = 60, size: float = 0.1) -> ee.Geometry:
    return ee.Geometry.Polygon(
        [[[west, south], [west + size, south], [west + size, south + size], [west, south + size]]]
    )


def test_measures_are_those_of_the_ellipsoid(world: Earth) -> None:
    "Against pyproj."
    lons, lats = [15, 15.1, 15.1, 15], [60, 60, 60.1, 60.1]
    area, perimeter = GEOD.polygon_area_perimeter(lons, lats)
    assert world.info(square().area()) == pytest.approx(abs(area), rel=1e-6)
    assert world.info(square().perimeter()) == pytest.approx(perimeter, rel=1e-6)
    line = ee.Geometry.LineString([[15, 60], [16, 61]])
    assert world.info(line.length()) == pytest.approx(GEOD.line_length([15, 16], [60, 61]))
    assert world.info(line.perimeter()) == 0
    assert world.info(square().length()) == 0
    far = ee.Geometry.Point([15, 60]).distance(ee.Geometry.Point([15.2, 60.1]))
    assert world.info(far) == pytest.approx(GEOD.inv(15, 60, 15.2, 60.1)[2], rel=1e-5)


def test_holes_are_not_counted(world: Earth) -> None:
    ring = ee.Geometry.Polygon(
        [
            [[15, 60], [15.4, 60], [15.4, 60.4], [15, 60.4], [15, 60]],
            [[15.1, 60.1], [15.1, 60.3], [15.3, 60.3], [15.3, 60.1], [15.1, 60.1]],
        ]
    )
    whole = abs(GEOD.polygon_area_perimeter([15, 15.4, 15.4, 15], [60, 60, 60.4, 60.4])[0])
    hole = abs(GEOD.polygon_area_perimeter([15.1, 15.3, 15.3, 15.1], [60.1, 60.1, 60.3, 60.3])[0])
    assert world.info(ring.area()) == pytest.approx(whole - hole, rel=1e-6)


@pytest.mark.parametrize("metres", [30.0, 1000.0, 20_000.0])
def test_buffers_have_their_radius(world: Earth, metres: float) -> None:
    "Every vertex lies at the distance; the area is a circle's within the error margin."
    found = world.value(ee.Geometry.Point([15, 68]).buffer(metres))
    lons, lats = zip(*found.shape.exterior.coords, strict=True)
    far = GEOD.inv([15] * len(lons), [68] * len(lons), lons, lats)[2]
    assert max(abs(d - metres) for d in far) < metres * 1e-3
    assert found.area() == pytest.approx(math.pi * metres**2, rel=0.03)


def test_set_operations(world: Earth) -> None:
    a, b = square(), square(15.05)
    area_a = world.info(a.area())
    assert world.info(a.intersection(b, 1).area()) == pytest.approx(area_a / 2, rel=1e-3)
    assert world.info(a.union(b, 1).area()) == pytest.approx(area_a * 1.5, rel=1e-3)
    assert world.info(a.difference(b, 1).area()) == pytest.approx(area_a / 2, rel=1e-3)
    assert world.info(a.intersects(b, 1)) is True
    assert world.info(a.contains(ee.Geometry.Point([15.05, 60.05]), 1)) is True
    assert world.info(a.disjoint(square(17), 1)) is True


def test_forms_of_geometries(world: Earth) -> None:
    info = world.info(square())
    assert info["type"] == "Polygon"
    assert info["coordinates"][0][0] == info["coordinates"][0][-1] == [15, 60]
    box = world.info(ee.Geometry.BBox(15, 60, 16, 61).bounds())
    assert sorted(map(tuple, box["coordinates"][0][:-1])) == [
        (15, 60),
        (15, 61),
        (16, 60),
        (16, 61),
    ]
    assert world.info(square().type()) == "Polygon"
    assert world.info(ee.Geometry.Point([1, 2]).coordinates()) == [1, 2]
    centre = world.info(square().centroid(1).coordinates())
    assert centre == pytest.approx([15.05, 60.05], abs=1e-3)
    moved = world.info(ee.Geometry.Point([15, 60]).transform("EPSG:32633", 1))
    assert moved["crs"]["properties"]["name"] == "EPSG:32633"
    assert moved["coordinates"][0] == pytest.approx(500_000, abs=1e-3)
    both = ee.Geometry.MultiPoint([[0, 0], [1, 1]]).convexHull()
    assert world.info(both.type()) == "LineString"


def test_geometries_in_pixels_of_a_projection(world: Earth) -> None:
    "Section 4.1: a crs with a transform makes coordinates pixels (geedim relies on it)."
    projection = ee.Projection("EPSG:32633", [10, 0, 500000, 0, -10, 6700000])
    found = world.info(ee.Geometry.Rectangle([0, 0, 10, 5], projection, False))
    xs = [p[0] for p in found["coordinates"][0]]
    ys = [p[1] for p in found["coordinates"][0]]
    assert (min(xs), max(xs), min(ys), max(ys)) == (500000, 500100, 6699950, 6700000)


def test_features(world: Earth) -> None:
    feature = ee.Feature(square(), {"a": 1, "b": "x"})
    assert world.info(feature.get("a")) == 1
    assert world.info(feature.select(["a"]).toDictionary()) == {"a": 1}
    assert world.info(feature.set("c", 2).toDictionary()) == {"a": 1, "b": "x", "c": 2}
    assert world.info(feature.propertyNames()) == ["a", "b", "system:index"]
    assert world.info(feature.buffer(100).get("a")) == 1
    assert world.info(ee.Feature(None, {"id": "yada"}).id()) is None
    info = world.info(feature)
    assert info["type"] == "Feature"
    assert info["properties"] == {"a": 1, "b": "x"}
    collection = world.info(ee.FeatureCollection([feature, feature]))
    assert [f["id"] for f in collection["features"]] == ["0", "1"]
    assert collection["columns"]["a"] == "Integer"


def test_projections(world: Earth) -> None:
    assert world.info(ee.Projection("EPSG:4326").nominalScale()) == pytest.approx(
        111319.49, abs=0.01
    )
    scaled = ee.Projection("EPSG:32633").atScale(30)
    assert world.info(scaled) == {
        "type": "Projection", "crs": "EPSG:32633", "transform": [30, 0, 0, 0, 30, 0],
    }  # fmt: skip
    assert world.info(scaled.nominalScale()) == 30
    assert world.info(scaled.crs()) == "EPSG:32633"
    with pytest.raises(EngineError, match="CRS of a map projection could not be parsed"):
        world.value(ee.Projection("EPSG:99999999"))
