"""Lists and dictionaries: places, typed getters, what the descriptions promise of corners."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import ee
import pytest
from emulator_engine_world import Earth, earth
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("lists")) as found:
        yield found


def call(name: str, *given: Any) -> Any:
    return load_all()[name].call(*given)


# The client makes objects only once it is connected.
def _items() -> Any:
    return ee.List([5, "a", [1]])


def _table() -> Any:
    return ee.Dictionary({"a": 1, "b": "x"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            lambda: _items().get(3),
            "List.get: List index must be between 0 and 2, or -3 and -1. Found",
        ),
        (
            lambda: _items().set(-4, 1),
            "List.set: List index must be between 0 and 2, or -3 and -1.",
        ),
        (lambda: _items().swap(0, 3), "List.swap: List index must be between 0 and 2"),
        (lambda: _items().insert(4, 1), "List.insert: List index must be between 0 and 3"),
        (lambda: _items().splice(9, 1), "List.splice: List index must be between 0 and 3"),
        (lambda: ee.List([]).get(0), "List.get: List index 0 is out of range"),
        (
            lambda: _items().getNumber(1),
            "List.getNumber: The value is no number. Actual type: String",
        ),
        (lambda: _items().getString(0), "List.getString: The value is no string"),
        (lambda: _items().getArray(0), "List.getArray: The value is no array"),
        (lambda: _items().getGeometry(0), "List.getGeometry: The value is no geometry"),
        (lambda: _items().sort([1]), "List.sort: The list and its keys must have the same length"),
        (lambda: _items().slice(0, 3, 0), "List.slice: The step must be positive"),
        (lambda: _items().unzip(), "List.unzip: The elements of the list must be lists"),
        (lambda: ee.List.repeat(1, -1), "List.repeat: The count must not be negative"),
        (lambda: ee.List.sequence(1, 5, 0), "List.sequence: The step must not be zero"),
        (lambda: ee.List.sequence(1), "List.sequence: At least one of 'end' or 'count'"),
        (lambda: _table().get("c"), "Dictionary.get: Dictionary does not contain key: 'c'"),
        (lambda: _table().getNumber("b"), "Dictionary.getNumber: The value is no number"),
        (lambda: _table().select(["z.*"]), "Dictionary.select: Dictionary does not contain key"),
        (lambda: _table().rename(["a"], ["b"]), "Dictionary.rename: Dictionary already contains"),
        (
            lambda: _table().rename(["a"], []),
            "Dictionary.rename: 'from' and 'to' must have the same",
        ),
        (lambda: ee.Dictionary(["a"]), "Dictionary: A list of keys and values must have an even"),
        (lambda: ee.Dictionary([1, 2]), "Dictionary: Keys must be strings"),
    ],
)
def test_what_is_refused_and_how(world: Earth, value: Any, words: str) -> None:
    "Function.name: message. The words of list indices are those that users report."
    with pytest.raises(EngineError, match=f"^{re.escape(words)}"):
        world.info(value())


def test_corners_of_lists(world: Earth) -> None:
    cases = [
        (ee.List([1, 2]).indexOfSublist([]), 0),
        (ee.List([1, 2]).lastIndexOfSubList([]), 2),
        (ee.List([1, 2, 3]).insert(-1, "x"), [1, 2, "x", 3]),
        (ee.List([1, 2, 3]).insert(3, "x"), [1, 2, 3, "x"]),
        (ee.List([1, 2, 3, 4]).splice(-2, 9, ["x"]), [1, 2, "x"]),
        (ee.List.sequence(0, 1, 0.1).size(), 11),
        (ee.List.sequence(0, 10, None, 1), [0]),
        (ee.List.sequence(0, 10, None, 0), []),
        (ee.List.sequence(5, None, -2, 3), [5, 3, 1]),
        (ee.List.sequence(1, 0), []),
        (ee.List([1, 1.0, "1", True]).distinct(), [1, "1", True]),
        (ee.List([[1, 2], [3]]).unzip(), [[1, 3]]),
        (ee.List(["b", 2, "a", 1.5]).sort(), [1.5, 2, "a", "b"]),
        (ee.List([1, True, 2.5, "a"]).join("-"), "1-true-2.5-a"),
        (ee.List([ee.Array([1, 2])]).getArray(0), [1, 2]),
        (ee.List([ee.Geometry.Point(1, 2)]).getGeometry(0).type(), "Point"),
        (ee.List([1, 2, 3]).filter(ee.Filter.inList("item", [1, 3])), [1, 3]),
        (_table().rename(["a", "b"], ["b", "a"]), {"a": "x", "b": 1}),
        (_table().rename(["a"], ["b"], True), {"b": 1}),
        (_table().remove(["[ab]"]), {}),
        (_table().remove(["z"], True), {"a": 1, "b": "x"}),
        (ee.Dictionary({"a": None}).get("a", 5), None),
        (ee.Dictionary({"b": 1, "C": 2}).keys(), ["C", "b"]),
        (ee.Algorithms.Describe(ee.List([ee.Date(0)])), [{"type": "Date", "value": 0}]),
    ]
    for value, expected in cases:
        assert world.info(value) == expected


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=3))
@settings(max_examples=150, deadline=None)
def test_sublists_are_where_java_finds_them(items: list[int], target: list[int]) -> None:
    "Collections.indexOfSubList and lastIndexOfSubList, by definition."
    places = [
        i
        for i in range(len(items) - len(target) + 1)
        if all(items[i + k] == t for k, t in enumerate(target))
    ]
    assert call("List.indexOfSublist", items, target) == (places[0] if places else -1)
    assert call("List.lastIndexOfSubList", items, target) == (places[-1] if places else -1)


@given(
    st.lists(st.integers(), max_size=6), st.integers(-8, 8), st.integers(-8, 8) | st.none(),
    st.integers(1, 3),
)  # fmt: skip
@settings(deadline=None)
def test_slices_are_those_of_the_description(
    items: list[int], start: int, end: int | None, step: int
) -> None:
    "Negative places count from the end; what is beyond is cut off."
    n = len(items)
    first = min(max(start + n if start < 0 else start, 0), n)
    last = n if end is None else min(max(end + n if end < 0 else end, 0), n)
    expected = [items[i] for i in range(first, last, step)]
    assert call("List.slice", items, start, end, step) == expected


def test_rows_of_features(world: Earth) -> None:
    "[A] makeArray drops what has not all; aggregates count what is there."
    rows = ee.FeatureCollection(
        [ee.Feature(None, {"a": 1, "b": 2}), ee.Feature(None, {"a": 4}), ee.Feature(None, {})]
    )
    assert world.info(rows.makeArray(["a", "b"]).aggregate_array("array")) == [[1, 2]]
    stats = world.info(rows.aggregate_stats("a"))
    assert (stats["total_count"], stats["valid_count"], stats["sum"]) == (3, 2, 5)
    assert stats["sample_var"] == pytest.approx(4.5)
    assert stats["total_var"] == pytest.approx(2.25)
    assert world.info(ee.FeatureCollection([]).aggregate_stats("a"))["mean"] is None
    texts = ee.FeatureCollection([ee.Feature(None, {"t": "x"}), ee.Feature(None, {"t": 2.0})])
    assert world.info(texts.aggregate_histogram("t")) == {"2": 1, "x": 1}
    with pytest.raises(EngineError, match=r"^AggregateFeatureCollection.mean: Property 't' must"):
        world.info(texts.aggregate_mean("t"))
    with pytest.raises(EngineError, match=r"^Element.getNumber: Property 't' is no number"):
        world.info(ee.Feature(None, {"t": "x"}).getNumber("t"))
    with pytest.raises(EngineError, match=r"^Collection.remap: The lookup lists must have"):
        world.info(rows.remap([1], [1, 2], "a"))
    for count in (-1, 0):
        with pytest.raises(EngineError, match=r"^Collection.toList: count must be positive"):
            world.info(rows.toList(count))


def test_a_blob_cannot_be_read(world: Earth) -> None:
    blob = ee.Blob("gs://bucket/file.txt")
    assert world.info(blob.url()) == "gs://bucket/file.txt"
    with pytest.raises(EngineError, match=r"^Blob.string: Unable to read 'gs://bucket/file.txt'"):
        world.info(blob.string())


def test_errors_of_mapped_functions_name_the_element(world: Earth) -> None:
    """guides/debugging: "Error in map(ID=2):" and the function that failed, in a line of its own.

    The function that asks for the elements stands before it, where one does.
    """
    rows = ee.FeatureCollection([ee.Feature(None, {"a": 1}), ee.Feature(None, {})])
    summed = rows.map(lambda f: f.set("b", ee.Number(f.get("a")).add(1)))
    words = r"Error in map\(ID=1\):\nNumber.add: Parameter 'left' is required and may not be null"
    with pytest.raises(EngineError, match=f"^{words}"):
        world.info(summed)
    with pytest.raises(EngineError, match=f"^Collection.toList: {words}"):
        world.info(summed.toList(5))
    with pytest.raises(EngineError, match=f"^Collection.toList: {words}"):
        world.info(summed.filter(ee.Filter.notNull(["b"])).limit(9).toList(5))
    joined = ee.Join.inner().apply(rows, rows, ee.Filter.equals(leftField="a", rightField="a"))
    nameless = joined.map(lambda f: f.set("b", ee.Number(f.get("c")).add(1)))
    with pytest.raises(EngineError, match=r"Error in map\(ID=0_0\):\nNumber.add: "):
        world.info(nameless)
