"""Filters of elements by properties, dates and geometries."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import shapely

from ..errors import EngineError
from ..geometry import Geometry, beside, parse_geojson
from ..image import Element
from ..values import (
    Collection,
    Date,
    DateRange,
    ErrorMargin,
    Feature,
    Filter,
    geometry_of,
    type_name,
)
from .registry import function

__all__ = ["field_value", "parse_filter"]


def field_value(item: Any, name: str) -> Any:
    """Return what a filter's field names: a property, ``.all`` or ``.geo`` the geometry."""
    if name in (".all", ".geo"):
        return geometry_of(item)
    found = item.properties.get(name)
    if found is None and name == "system:id":
        return getattr(item, "id", None)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Date):
        return value.ms
    if isinstance(value, bool):
        return int(value)
    return value


def _same(a: Any, b: Any) -> bool:
    a, b = _plain(a), _plain(b)
    if a is None or b is None:
        return False
    if isinstance(a, str) != isinstance(b, str):
        return False
    return bool(a == b)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        a, b = _plain(a), _plain(b)
        number, text = (int, float), str
        if isinstance(a, number) and isinstance(b, number):
            return test(a, b)
        if isinstance(a, text) and isinstance(b, text):
            return test(a, b)
        return False

    return compare


def _text(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: isinstance(a, str) and isinstance(b, str) and test(a, b)


def _holds(container: Any, value: Any) -> bool:
    if isinstance(container, str):
        return False
    try:
        return any(_same(c, value) for c in container)
    except TypeError:
        return False


def _in_range(container: Any, value: Any) -> bool:
    span = container
    if isinstance(span, dict):
        dates = span.get("dates")
        if not isinstance(dates, list) or len(dates) != 2:
            return False
        span = DateRange(*(Date.coerce(d).ms for d in dates))
    value = _plain(value)
    if isinstance(value, dict):
        value = value.get("value")
    if not isinstance(span, DateRange):
        return False
    if span.start is not None and span.end is not None and span.start >= span.end:
        raise EngineError("Empty date ranges not supported for the current operation.")
    return isinstance(value, (int, float)) and span.contains(value)


def _pair(
    name: str,
    test: Callable[[Any, Any], bool],
    measure: Callable[[Any, Any], float] | None = None,
) -> Callable[[str | None, Any, str | None, Any], Filter]:
    """Return a maker of filters with left and right fields or values."""

    def make(
        left_field: str | None,
        right_value: Any,
        right_field: str | None,
        left_value: Any,
        *rest: Any,
    ) -> Filter:
        if left_field is None and left_value is None:
            raise EngineError("Either leftField or leftValue must be given.")

        def single(item: Any) -> bool:
            a = left_value if left_field is None else field_value(item, left_field)
            b = right_value if right_field is None else field_value(item, right_field)
            return test(a, b)

        def match(left: Any, right: Any) -> bool:
            a = left_value if left_field is None else field_value(left, left_field)
            b = right_value if right_field is None else field_value(right, right_field)
            return test(a, b)

        def distance(left: Any, right: Any) -> float:
            assert measure is not None
            a = left_value if left_field is None else field_value(left, left_field)
            b = right_value if right_field is None else field_value(right, right_field)
            return measure(a, b)

        given = {
            "leftField": left_field, "rightValue": right_value,
            "rightField": right_field, "leftValue": left_value,
        }  # fmt: skip
        shown = {k: v for k, v in given.items() if v is not None}
        far = None if measure is None else distance
        return Filter(f"Filter.{name}", single, match, far, shown)

    return make


def _register(names: tuple[str, ...], test: Callable[[Any, Any], bool]) -> None:
    for name in names:
        function(f"Filter.{name}")(_pair(name, test))


_register(("eq", "equals"), _same)
# [A]: these three pass *unless* their opposite does, so also where a value is missing.
_register(("neq", "notEquals"), lambda a, b: not _same(a, b))
_LESS = _ordered(lambda a, b: a < b)
_GREATER = _ordered(lambda a, b: a > b)
_register(("lt", "lessThan"), _LESS)
_register(("lte", "lessThanOrEquals"), lambda a, b: not _GREATER(a, b))
_register(("gt", "greaterThan"), _GREATER)
_register(("gte", "greaterThanOrEquals"), lambda a, b: not _LESS(a, b))
_COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "==": ("equals", _same),
    "=": ("equals", _same),
    "!=": ("notEquals", lambda a, b: not _same(a, b)),
    "<>": ("notEquals", lambda a, b: not _same(a, b)),
    "<": ("lessThan", _LESS),
    "<=": ("lessThanOrEquals", lambda a, b: not _GREATER(a, b)),
    ">": ("greaterThan", _GREATER),
    ">=": ("greaterThanOrEquals", lambda a, b: not _LESS(a, b)),
}
_register(("stringStartsWith",), _text(lambda a, b: a.startswith(b)))
_register(("stringEndsWith",), _text(lambda a, b: a.endswith(b)))
_register(("stringContains",), _text(lambda a, b: b in a))
# [A]: for both ids the left operand is the list.
_register(("inList", "listContains"), _holds)
_register(("dateRangeContains",), _in_range)


def _shape(value: Any) -> Geometry | None:
    if isinstance(value, Geometry):
        return value
    if isinstance(value, dict) and "type" in value:
        return parse_geojson(value.get("geometry", value))
    if isinstance(value, (Feature, Element, Collection)):
        return geometry_of(value)
    return None


# Two shapes that share nothing, to ask a test about shapes that are known to share nothing.
_HERE, _THERE = shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6)


def apart(left: Geometry, right: Geometry) -> bool:
    """Return whether boxes around two geometries show that they do not meet.

    Cheap, for filters over thousands of images: geodesic edges bulge beyond the box of the
    vertices by at most L^2 / 16 radians at high latitudes; a tenth of the span is more.
    """
    if not (left.is_geographic and right.is_geographic) or left.crs != right.crs:
        return False
    a, b = left.shape.bounds, beside(left.shape, right.shape).bounds
    pad_x = 0.1 * max(a[2] - a[0], b[2] - b[0])
    pad_y = 0.1 * max(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
    return bool(
        a[2] + pad_x < b[0] or b[2] + pad_x < a[0] or a[3] + pad_y < b[1] or b[3] + pad_y < a[1]
    )


def _spatial(test: Callable[[Any, Any], bool], unbounded: bool) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        left, right = _shape(a), _shape(b)
        if left is None or right is None:
            return False
        if left.unbounded or right.unbounded:
            return unbounded
        if apart(left, right):
            return bool(test(_HERE, _THERE))
        one = left.in_crs("EPSG:4326")
        return bool(test(one, beside(one, right.in_crs("EPSG:4326"))))

    return compare


_register(("intersects",), _spatial(lambda a, b: a.intersects(b), True))
_register(("disjoint",), _spatial(lambda a, b: a.disjoint(b), False))
_register(("contains",), _spatial(lambda a, b: a.contains(b), True))
_register(("isContained",), _spatial(lambda a, b: b.contains(a), True))


@function("Filter.withinDistance")
def within_distance(
    distance: float,
    left_field: str | None,
    right_value: Any,
    right_field: str | None,
    left_value: Any,
    margin: ErrorMargin,
) -> Filter:
    """Test whether two geometries are at most so many metres apart."""
    from .geometries import distance_between

    def near(a: Any, b: Any) -> bool:
        left, right = _shape(a), _shape(b)
        return left is not None and right is not None and distance_between(left, right) <= distance

    def far(a: Any, b: Any) -> float:
        left, right = _shape(a), _shape(b)
        return math.inf if left is None or right is None else distance_between(left, right)

    return _pair("withinDistance", near, far)(left_field, right_value, right_field, left_value)


@function("Filter.maxDifference")
def max_difference(
    difference: float,
    left_field: str | None,
    right_value: Any,
    right_field: str | None,
    left_value: Any,
) -> Filter:
    """Test whether two numbers or dates are at most so far apart."""

    def near(a: Any, b: Any) -> bool:
        a, b = _plain(a), _plain(b)
        numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
        return numbers and abs(a - b) <= difference

    def far(a: Any, b: Any) -> float:
        return float(abs(_plain(a) - _plain(b)))

    return _pair("maxDifference", near, far)(left_field, right_value, right_field, left_value)


@function("Filter.always")
def always() -> Filter:
    """Pass everything."""
    return Filter("Filter.always", lambda item: True, lambda a, b: True)


@function("Filter.never")
def never() -> Filter:
    """Pass nothing."""
    return Filter("Filter.never", lambda item: False, lambda a, b: False)


@function("Filter.notNull")
def not_null(names: list[str]) -> Filter:
    """Test that properties are there."""
    return Filter(
        "Filter.notNull",
        lambda item: all(field_value(item, n) is not None for n in names),
        shown={"properties": names},
    )


@function("Filter.hasGeometry")
def has_geometry() -> Filter:
    """Test that there is a geometry."""

    def test(item: Any) -> bool:
        found = geometry_of(item)
        return found is not None and not found.shape.is_empty

    return Filter("Filter.hasGeometry", test)


def _matcher(one: Filter) -> Callable[[Any, Any], bool]:
    return one.match or (lambda a, b: one.test(a))


@function("Filter.and")
def every(filters: list[Filter]) -> Filter:
    """Pass what passes all."""
    return Filter(
        "Filter.and",
        lambda item: all(f.test(item) for f in filters),
        lambda a, b: all(_matcher(f)(a, b) for f in filters),
        next((f.measure for f in filters if f.measure is not None), None),
        {"filters": filters},
        sum(f.size for f in filters),
    )


@function("Filter.or")
def some(filters: list[Filter]) -> Filter:
    """Pass what passes any."""
    return Filter(
        "Filter.or",
        lambda item: any(f.test(item) for f in filters),
        lambda a, b: any(_matcher(f)(a, b) for f in filters),
        shown={"filters": filters},
        size=sum(f.size for f in filters),
    )


@function("Filter.not")
def inverse(one: Filter) -> Filter:
    """Pass what does not pass."""
    return Filter(
        "Filter.not",
        lambda item: not one.test(item),
        lambda a, b: not _matcher(one)(a, b),
        shown={"filter": one},
        size=one.size + 1,
    )


_FIELDS: dict[str, Callable[[Any], int]] = {
    "year": lambda t: t.year,
    "month": lambda t: t.month,
    "hour": lambda t: t.hour,
    "minute": lambda t: t.minute,
    "day_of_month": lambda t: t.day,
    "day_of_year": lambda t: t.timetuple().tm_yday,
    # [A]: weeks begin on Monday, day 1.
    "day_of_week": lambda t: t.isoweekday(),
}


def _start(item: Any) -> Date | None:
    found = item.properties.get("system:time_start")
    return None if found is None else Date.coerce(found)


@function("Filter.calendarRange")
def calendar_range(start: int, end: int | None, field: str) -> Filter:
    """Test a part of the date, both ends included; a start after the end wraps around."""
    if field not in _FIELDS:
        raise EngineError(f"Unknown calendar field '{field}': {', '.join(sorted(_FIELDS))}.")
    read = _FIELDS[field]
    last = start if end is None else end

    def test(item: Any) -> bool:
        moment = _start(item)
        if moment is None:
            return False
        value = read(moment.at())
        if start <= last:
            return start <= value <= last
        return value >= start or value <= last

    return Filter("Filter.calendarRange", test, shown={"start": start, "end": last, "field": field})


@function("Filter.dayOfYear")
def day_of_year(start: int, end: int) -> Filter:
    """Test the day of the year, both ends included ([A]); a start after the end wraps around."""

    def test(item: Any) -> bool:
        moment = _start(item)
        if moment is None:
            return False
        value = moment.at().timetuple().tm_yday
        return start <= value <= end if start <= end else value >= start or value <= end

    return Filter("Filter.dayOfYear", test, shown={"start": start, "end": end})


@function("Filter.rangeContains")
def range_contains(field: str, low: Any, high: Any) -> Filter:
    """Test that a property lies between two values, both included."""
    least, most = _ordered(lambda a, b: a >= b), _ordered(lambda a, b: a <= b)

    def test(item: Any) -> bool:
        value = field_value(item, field)
        return least(value, low) and most(value, high)

    return Filter(
        "Filter.rangeContains", test, shown={"field": field, "minValue": low, "maxValue": high}
    )


@function("Filter.hasType")
def has_type(
    left_field: str | None, right_value: Any, right_field: str | None, left_value: Any
) -> Filter:
    """Test the type of a property, or what that is a kind of."""

    def test(a: Any, b: Any) -> bool:
        shown = type_name(a).partition("<")[0]
        return b == "Object" or shown == b or shown in _SUBTYPES.get(b, ())

    return _pair("hasType", test)(left_field, right_value, right_field, left_value)


_SUBTYPES = {
    "Number": ("Integer", "Float", "Long", "Double"),
    "Float": ("Integer",),
    "Element": ("Feature", "Image", "FeatureCollection", "ImageCollection"),
    "Collection": ("FeatureCollection", "ImageCollection"),
    "FeatureCollection": ("ImageCollection",),
}


@function("Filter.area")
def area(low: float, high: float, margin: ErrorMargin | None, selector: str | None) -> Filter:
    """Test the area of the geometry, both ends included."""

    def test(item: Any) -> bool:
        named = selector not in (None, "", ".geo")
        found = _shape(field_value(item, str(selector))) if named else geometry_of(item)
        return found is not None and low <= found.area() <= high

    return Filter("Filter.area", test, shown={"min": low, "max": high})


_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<op><=|>=|==|!=|<>|=|<|>|\(|\)|\[|\]|,|&&|\|\||!)|(?P<word>[\w.:]+))"
)


@function("Filter.expression")
def expression(text: str) -> Filter:
    """Read a filter from text."""
    return parse_filter(text)


def parse_filter(text: str) -> Filter:
    """Read a filter such as ``CLOUD < 20 and NAME == "a"``.

    Raises
    ------
    EngineError
        The text is no comparison of properties with constants.
    """
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if not found:
            raise EngineError(f"Cannot parse filter '{text}' at '{text[at:]}'.")
        tokens.append((str(found.lastgroup), str(found[found.lastgroup or 0])))
        at = found.end()
    place = 0

    def peek() -> tuple[str, str]:
        return tokens[place] if place < len(tokens) else ("end", "")

    def take() -> tuple[str, str]:
        nonlocal place
        place += 1
        return tokens[place - 1] if place <= len(tokens) else ("end", "")

    def disjunction() -> Filter:
        parts = [conjunction()]
        while peek()[1].lower() in ("or", "||"):
            take()
            parts.append(conjunction())
        return parts[0] if len(parts) == 1 else some(parts)

    def conjunction() -> Filter:
        parts = [negation()]
        while peek()[1].lower() in ("and", "&&"):
            take()
            parts.append(negation())
        return parts[0] if len(parts) == 1 else every(parts)

    def negation() -> Filter:
        if peek()[1].lower() in ("not", "!"):
            take()
            return inverse(negation())
        if peek()[1] == "(":
            take()
            inner = disjunction()
            if take()[1] != ")":
                raise EngineError(f"Cannot parse filter '{text}': a parenthesis is not closed.")
            return inner
        return comparison()

    def operand() -> tuple[str | None, Any]:
        kind, raw = take()
        if kind == "number":
            number = float(raw)
            return None, int(number) if number.is_integer() and "." not in raw else number
        if kind == "text":
            return None, raw[1:-1]
        if kind == "word":
            return raw, None
        raise EngineError(f"Cannot parse filter '{text}' at '{raw}'.")

    def listed() -> list[Any]:
        closing = {"(": ")", "[": "]"}.get(take()[1])
        if closing is None:
            raise EngineError(f"Cannot parse filter '{text}': 'in' needs a list.")
        found: list[Any] = []
        while peek()[1] != closing:
            field, value = operand()
            if field is not None:
                raise EngineError(f"Cannot parse filter '{text}': '{field}' is no constant.")
            found.append(value)
            if peek()[1] == ",":
                take()
            elif peek()[1] != closing:
                raise EngineError(f"Cannot parse filter '{text}' at '{peek()[1]}'.")
        take()
        return found

    def comparison() -> Filter:
        left_field, left_value = operand()
        sign = take()[1].lower()
        if sign == "in":
            # The list is the left operand of listContains.
            return _pair("listContains", _holds)(None, left_value, left_field, listed())
        if sign not in _COMPARISONS:
            raise EngineError(f"Cannot parse filter '{text}': '{sign}' is no comparison.")
        right_field, right_value = operand()
        name, test = _COMPARISONS[sign]
        return _pair(name, test)(left_field, right_value, right_field, left_value)

    made = disjunction()
    if place != len(tokens):
        raise EngineError(f"Cannot parse filter '{text}' at '{peek()[1]}'.")
    return made
