"""Lists, dictionaries, and what works on any value."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from ..budget import count, reserve, tick
from ..errors import EngineError
from ..geometry import Geometry, parse_geojson
from ..image import Element
from ..jsonvalues import text_key
from ..reducers import Reducer
from ..values import Array, Collection, Feature, Filter, Function, type_name
from ._java import pattern_of
from .collections import compare_key
from .registry import function
from .strings import string

__all__ = ["equal"]


def equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal: numbers by value, lists and dictionaries deeply."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if a is b and not isinstance(a, float):
        return True
    if isinstance(a, list) and isinstance(b, list):
        tick()
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(v, b[k]) for k, v in a.items())
    if isinstance(a, Array) and isinstance(b, Array):
        return bool(np.array_equal(a.values, b.values))
    return bool(a == b)


def _at(items: list[Any], index: int) -> int:
    place = index + len(items) if index < 0 else index
    if not items:
        raise EngineError(f"List index {index} is out of range: the list is empty.")
    if not 0 <= place < len(items):
        raise EngineError(
            f"List index must be between 0 and {len(items) - 1}, or "
            f"-{len(items)} and -1. Found {index}."
        )
    return place


@function("If", evaluator=True)
def choose(evaluator: Any, condition: Any, when: Any, otherwise: Any) -> Any:
    """Return one of two values; null, 0, "" and empty lists count as false."""
    return when if _true(condition) else otherwise


def _true(value: Any) -> bool:
    if isinstance(value, Array):
        return bool(value.values.any())
    if isinstance(value, float) and math.isnan(value):
        return False
    if value is None or isinstance(value, (bool, int, float, str, list, dict)):
        return bool(value)
    return True


@function("IsEqual")
def is_equal(left: Any, right: Any) -> bool:
    """Test equality of any two values."""
    return equal(left, right)


@function("Describe")
def describe(value: Any) -> Any:
    """Return what ``getInfo`` shows of a value, as a value."""
    from ..jsonvalues import to_json

    return to_json(value)


@function("ObjectType")
def object_type(value: Any) -> str:
    """Return the name of a value's type."""
    return type_name(value).partition("<")[0]


@function("List.add")
def add(items: list[Any], element: Any) -> list[Any]:
    """Append."""
    return [*items, element]


@function("List.cat")
def cat(items: list[Any], other: list[Any]) -> list[Any]:
    """Join two lists."""
    return items + other


@function("List.contains")
def contains(items: list[Any], element: Any) -> bool:
    """Test membership."""
    return any(equal(i, element) for i in items)


@function("List.containsAll")
def contains_all(items: list[Any], other: list[Any]) -> bool:
    """Test membership of all."""
    return all(contains(items, o) for o in other)


@function("List.distinct")
def distinct(items: list[Any]) -> list[Any]:
    """Keep the first of equals."""
    out: list[Any] = []
    seen: set[Any] = set()
    for item in items:
        if isinstance(item, (str, int, float)):
            key = (isinstance(item, bool), item)
            if key in seen:
                continue
            seen.add(key)
            out.append(item)
        elif not contains(out, item):
            out.append(item)
    return out


@function("List.equals")
def list_equals(items: list[Any], other: list[Any]) -> bool:
    """Test equality of two lists."""
    return equal(items, other)


@function("List.filter")
def filtered(items: list[Any], test: Filter) -> list[Any]:
    """Keep what passes; plain values are tested as property ``item``."""
    out = []
    for item in items:
        probe = item if isinstance(item, Element) else Feature(None, {"item": item})
        if test.test(probe):
            out.append(item)
    return out


@function("List.flatten")
def flatten(items: list[Any]) -> list[Any]:
    """Flatten nested lists."""
    out: list[Any] = []
    count(len(items))
    for item in items:
        out += flatten(item) if isinstance(item, list) else [item]
    return out


@function("List.frequency")
def frequency(items: list[Any], element: Any) -> int:
    """Count an element."""
    return sum(equal(i, element) for i in items)


@function("List.get")
def get(items: list[Any], index: int) -> Any:
    """Return an element; negative places count from the end."""
    return items[_at(items, index)]


def as_number(value: Any) -> Any:
    """Return a number, or refuse what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise _not_a("number", value)
    return value


def as_string(value: Any) -> str:
    """Return text, or refuse what is none."""
    if not isinstance(value, str):
        raise _not_a("string", value)
    return value


def as_array_value(value: Any) -> Array:
    """Return an array, or nested lists of numbers as one."""
    from .arrays import as_array

    if not isinstance(value, (Array, list)):
        raise _not_a("array", value)
    return as_array(value)


def as_geometry(value: Any) -> Geometry:
    """Return a geometry, also from GeoJSON."""
    if isinstance(value, dict) and "type" in value:
        return parse_geojson(value)
    if not isinstance(value, Geometry):
        raise _not_a("geometry", value)
    return value


def _not_a(kind: str, value: Any) -> EngineError:
    return EngineError(f"The value is no {kind}. Actual type: {type_name(value)}.")


_TYPED: dict[str, Callable[[Any], Any]] = {
    "Number": as_number,
    "String": as_string,
    "Array": as_array_value,
    "Geometry": as_geometry,
}


def _register_typed(kind: str, check: Callable[[Any], Any]) -> None:
    function(f"List.get{kind}")(lambda items, index: check(get(items, index)))
    function(f"Dictionary.get{kind}")(lambda items, name: check(_present(items, name)))


for _kind, _check in _TYPED.items():
    _register_typed(_kind, _check)


@function("List.indexOf")
def index_of(items: list[Any], element: Any) -> int:
    """Return the first place of an element, or -1."""
    return next((i for i, v in enumerate(items) if equal(v, element)), -1)


def _sublists(items: list[Any], target: list[Any]) -> list[int]:
    n = len(target)
    return [i for i in range(len(items) - n + 1) if equal(items[i : i + n], target)]


@function("List.indexOfSublist")
def index_of_sublist(items: list[Any], target: list[Any]) -> int:
    """Return the first place of a list in a list, or -1."""
    found = _sublists(items, target)
    return found[0] if found else -1


@function("List.lastIndexOfSubList")
def last_index_of_sublist(items: list[Any], target: list[Any]) -> int:
    """Return the last place of a list in a list, or -1."""
    found = _sublists(items, target)
    return found[-1] if found else -1


@function("List.insert")
def insert(items: list[Any], index: int, element: Any) -> list[Any]:
    """Insert before a place."""
    place = index + len(items) if index < 0 else index
    if not 0 <= place <= len(items):
        raise EngineError(
            f"List index must be between 0 and {len(items)}, or "
            f"-{len(items)} and -1. Found {index}."
        )
    return [*items[:place], element, *items[place:]]


@function("List.iterate")
def iterate(items: list[Any], algorithm: Function, start: Any) -> Any:
    """Fold the elements: ``function(element, result so far)``."""
    result = start
    for item in items:
        result = algorithm(item, result)
    return result


@function("List.join")
def join(items: list[Any], separator: str) -> str:
    """Join elements as text."""
    return separator.join(string(i) for i in items)


@function("List.length", "List.size")
def length(items: list[Any]) -> int:
    """Return the number of elements."""
    return len(items)


@function("List.map")
def mapped(items: list[Any], algorithm: Function, drop_nulls: bool) -> list[Any]:
    """Apply a function to every element."""
    out = [algorithm(i) for i in items]
    return [o for o in out if o is not None] if drop_nulls else out


@function("List.reduce")
def reduce(items: list[Any], reducer: Reducer) -> Any:
    """Reduce the elements; rows of a reducer with several inputs are lists."""
    if reducer.inputs == 1:
        columns: list[Any] = [items]
    else:
        if not all(isinstance(row, list) and len(row) == reducer.inputs for row in items):
            raise EngineError(f"Need lists of {reducer.inputs} values for the reducer's inputs.")
        columns = [[row[k] for row in items] for k in range(reducer.inputs)]
    values = reducer.reduce(columns)
    if len(reducer.outputs) == 1:
        return values[0]
    return dict(zip(reducer.outputs, values, strict=True))


@function("List.remove")
def remove(items: list[Any], element: Any) -> list[Any]:
    """Remove the first of an element."""
    place = index_of(items, element)
    return items if place < 0 else items[:place] + items[place + 1 :]


@function("List.removeAll")
def remove_all(items: list[Any], other: list[Any]) -> list[Any]:
    """Remove all that another list holds."""
    return [i for i in items if not contains(other, i)]


@function("List.repeat")
def repeat(value: Any, count: int) -> list[Any]:
    """Return a value many times."""
    if count < 0:
        raise EngineError(f"The count must not be negative, not {count}.")
    reserve(count)
    reserve(max(count, 0))
    if count < 0:
        raise EngineError(f"The count must not be negative. Found {count}.")
    return [value] * count


@function("List.replace")
def replace(items: list[Any], old: Any, new: Any) -> list[Any]:
    """Replace the first of a value."""
    place = index_of(items, old)
    return items if place < 0 else [*items[:place], new, *items[place + 1 :]]


@function("List.replaceAll")
def replace_all(items: list[Any], old: Any, new: Any) -> list[Any]:
    """Replace a value everywhere."""
    return [new if equal(i, old) else i for i in items]


@function("List.reverse")
def reverse(items: list[Any]) -> list[Any]:
    """Reverse the order."""
    return items[::-1]


@function("List.rotate")
def rotate(items: list[Any], distance: int) -> list[Any]:
    """Move elements towards the end, the last to the front."""
    if not items:
        return items
    k = distance % len(items)
    return items[-k:] + items[:-k] if k else items


@function("List.sequence")
def sequence(start: Any, end: Any, step: Any, count: int | None) -> list[Any]:
    """Return evenly spaced numbers; the end is included."""
    if not all(math.isfinite(v) for v in (start, end, step) if v is not None):
        raise EngineError("Start, end and step must be finite.")
    if count is None:
        if end is None:
            raise EngineError("At least one of 'end' or 'count' must be specified.")
        if step == 0:
            raise EngineError("The step must not be zero.")
        # A hair of tolerance, that ten steps of 0.1 reach 1.
        count = max(math.floor((end - start) / step + 1e-9) + 1, 0)
    elif count < 0:
        raise EngineError(f"The count must not be negative. Found {count}.")
    elif end is not None:
        step = (end - start) / (count - 1) if count > 1 else 0
    reserve(count)
    whole = isinstance(start, int) and float(step).is_integer()
    by = int(step) if whole else step
    return [start + i * by for i in range(count)]


@function("List.set")
def set_item(items: list[Any], index: int, element: Any) -> list[Any]:
    """Replace an element by place."""
    place = _at(items, index)
    return [*items[:place], element, *items[place + 1 :]]


@function("List.shuffle")
def shuffle(items: list[Any], seed: Any) -> list[Any]:
    """Shuffle; Earth Engine's order for a seed is not known."""
    out = list(items)
    random.Random(0 if seed in (None, False) else text_key(seed)).shuffle(out)
    return out


@function("List.slice")
def slice_list(items: list[Any], start: int, end: int | None, step: int | None) -> list[Any]:
    """Return a part; negative places count from the end."""
    if step is not None and step < 1:
        raise EngineError(f"The step must be positive. Found {step}.")
    return items[start : end : step or 1]


@function("List.sort")
def sort(items: list[Any], keys: list[Any] | None) -> list[Any]:
    """Sort, by keys of the same length if given."""
    if keys is None:
        return sorted(items, key=compare_key)
    if len(keys) != len(items):
        raise EngineError(
            f"The list and its keys must have the same length. Found {len(items)} and {len(keys)}."
        )
    order = sorted(range(len(items)), key=lambda i: compare_key(keys[i]))
    return [items[i] for i in order]


@function("List.splice")
def splice(items: list[Any], start: int, count: int, other: list[Any] | None) -> list[Any]:
    """Remove elements from a place on and put others there."""
    place = start + len(items) if start < 0 else start
    if not 0 <= place <= len(items):
        raise EngineError(
            f"List index must be between 0 and {len(items)}, or "
            f"-{len(items)} and -1. Found {start}."
        )
    if count < 0:
        raise EngineError(f"The count must not be negative. Found {count}.")
    return items[:place] + (other or []) + items[place + count :]


@function("List.swap")
def swap(items: list[Any], first: int, second: int) -> list[Any]:
    """Exchange two elements."""
    out = list(items)
    i, j = _at(items, first), _at(items, second)
    out[i], out[j] = out[j], out[i]
    return out


@function("List.zip")
def zipped(items: list[Any], other: list[Any]) -> list[list[Any]]:
    """Return pairs; the shorter list ends it."""
    return [list(pair) for pair in zip(items, other, strict=False)]


@function("List.unzip")
def unzipped(items: list[Any]) -> list[list[Any]]:
    """Return columns of a list of rows."""
    if not all(isinstance(row, list) for row in items):
        raise EngineError("The elements of the list must be lists.")
    return [list(column) for column in zip(*items, strict=False)]


# ------------------------------------------------------------------ dictionaries


@function("Dictionary")
def dictionary(value: Any) -> dict[str, Any]:
    """Return a dictionary, from one, from an element's properties or from pairs in a list."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, (Element, Collection)):
        return dict(value.properties)
    if isinstance(value, list):
        if len(value) % 2:
            raise EngineError("A list of keys and values must have an even length.")
        for key in value[::2]:
            if not isinstance(key, str):
                raise EngineError(f"Keys must be strings. Found {type_name(key)}.")
        return dict(zip(value[::2], value[1::2], strict=True))
    raise EngineError(f"Cannot make a dictionary of {type_name(value)}.")


@function("Dictionary.combine")
def combine(first: dict[str, Any], second: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Return the keys of both; nulls are left out of either ([A])."""
    a = {k: v for k, v in first.items() if v is not None}
    b = {k: v for k, v in second.items() if v is not None}
    return {**a, **b} if overwrite else {**b, **a}


@function("Dictionary.contains")
def has_key(items: dict[str, Any], key: str) -> bool:
    """Test for a key."""
    return key in items


@function("Dictionary.fromLists")
def from_lists(keys: list[str], values: list[Any]) -> dict[str, Any]:
    """Return a dictionary of two lists."""
    if len(keys) != len(values):
        raise EngineError(f"Keys and values must be of one length ({len(keys)} and {len(values)}).")
    return dict(zip(keys, values, strict=True))


def _missing(items: dict[str, Any], key: str) -> EngineError:
    return EngineError(
        f"Dictionary does not contain key: '{key}'. Available keys: [{', '.join(sorted(items))}]"
    )


@function("Dictionary.get")
def get_key(items: dict[str, Any], key: str, default: Any) -> Any:
    """Return the value of a key, or a default."""
    if key not in items:
        if default is None:
            raise _missing(items, key)
        return default
    return items[key]


def _present(items: dict[str, Any], key: str) -> Any:
    if key not in items:
        raise _missing(items, key)
    return items[key]


@function("Dictionary.keys")
def keys(items: dict[str, Any]) -> list[str]:
    """Return the keys, sorted."""
    return sorted(items)


@function("Dictionary.values")
def values(items: dict[str, Any], names: list[str] | None) -> list[Any]:
    """Return the values in the order of the keys."""
    chosen = sorted(items) if names is None else names
    for key in chosen:
        if key not in items:
            raise _missing(items, key)
    return [items[k] for k in chosen]


@function("Dictionary.map")
def map_values(items: dict[str, Any], algorithm: Function) -> dict[str, Any]:
    """Apply ``function(key, value)`` to every pair."""
    out = {k: algorithm(k, items[k]) for k in sorted(items)}
    return {k: v for k, v in out.items() if v is not None}


def _picked(items: dict[str, Any], selectors: list[str], ignore: bool) -> list[str]:
    out: list[str] = []
    for selector in selectors:
        if selector in items:
            out.append(selector)
            continue
        found = [k for k in items if pattern_of(selector).fullmatch(k)]
        if not found and not ignore:
            raise _missing(items, selector)
        out += found
    return out


@function("Dictionary.remove")
def remove_keys(items: dict[str, Any], selectors: list[str], ignore: bool) -> dict[str, Any]:
    """Remove keys."""
    gone = set(_picked(items, selectors, ignore))
    return {k: v for k, v in items.items() if k not in gone}


@function("Dictionary.select")
def select_keys(items: dict[str, Any], selectors: list[str], ignore: bool) -> dict[str, Any]:
    """Keep keys, by name or regular expression."""
    return {k: items[k] for k in _picked(items, selectors, ignore)}


@function("Dictionary.rename")
def rename_keys(
    items: dict[str, Any], before: list[str], after: list[str], overwrite: bool
) -> dict[str, Any]:
    """Rename keys, all at once: two may change places."""
    if len(before) != len(after):
        raise EngineError(
            f"'from' and 'to' must have the same length. Found {len(before)} and {len(after)}."
        )
    for old in before:
        _present(items, old)
    out = {k: v for k, v in items.items() if k not in before}
    for old, new in zip(before, after, strict=True):
        if new in out and not overwrite:
            raise EngineError(f"Dictionary already contains key: '{new}'.")
        out[new] = items[old]
    return out


@function("Dictionary.set")
def set_key(items: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Set a key."""
    return {**items, key: value}


@function("Dictionary.size")
def size(items: dict[str, Any]) -> int:
    """Return the number of keys."""
    return len(items)
