"""The values that expressions pass around, other than images and geometries."""

from __future__ import annotations

import re
import threading
from calendar import isleap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .budget import count, tick
from .errors import EngineError, LimitError, MapError, worded
from .geometry import Geometry, union_of
from .image import Element, Image
from .types import PixelType

__all__ = [
    "Array",
    "Blob",
    "Collection",
    "ConfusionMatrix",
    "Date",
    "DateRange",
    "ErrorMargin",
    "Feature",
    "Filter",
    "Function",
    "Join",
    "as_feature",
    "geometry_of",
    "type_name",
    "zone",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Feature(Element):
    """A geometry with properties.

    Parameters
    ----------
    geometry : Geometry or None
    properties : dict
        ``system:index`` is the id.
    """

    __slots__ = ("geometry", "properties")

    def __init__(self, geometry: Geometry | None, properties: dict[str, Any] | None = None):
        self.geometry = geometry
        self.properties = {} if properties is None else properties

    def replaced(self, properties: dict[str, Any]) -> Feature:
        """Return the feature with other properties."""
        return Feature(self.geometry, properties)


class Collection(Element):
    """Elements that are made when they are first asked for, once.

    Parameters
    ----------
    source : iterable or a function that returns one
    kind : {"ImageCollection", "FeatureCollection"}
    properties : dict, optional
    id : str, optional
    size : function, optional
        Counts the elements without making them.
    """

    __slots__ = (
        "_done", "_error", "_items", "_iterator", "_lock", "_size", "_source", "id", "kind",
        "origin", "properties", "version",
    )  # fmt: skip

    def __init__(
        self,
        source: Iterable[Element] | Callable[[], Iterable[Element]],
        kind: str = "FeatureCollection",
        properties: dict[str, Any] | None = None,
        id: str | None = None,
        version: int | None = None,
        size: Callable[[], int] | None = None,
    ) -> None:
        self.kind = kind
        self.origin: str | None = None
        self.properties = {} if properties is None else properties
        self.id = id
        self.version = version
        self._source: Any = source
        self._size = size
        self._lock = threading.RLock()
        self._iterator: Iterator[Element] | None = None
        self._items: list[Element] = []
        self._done = False
        self._error: EngineError | None = None
        if isinstance(source, list):
            self._items, self._done = source, True

    def __iter__(self) -> Iterator[Element]:
        at = 0
        while True:
            if at >= len(self._items) and not self._more(at):
                return
            yield self._items[at]
            at += 1

    def _more(self, at: int) -> bool:
        if self._done:
            return False
        with self._lock:
            if at < len(self._items):
                return True
            if self._done:
                return False
            if self._error is not None:
                # An iterator that failed is over: asking again must not look like an end.
                raise self._error
            if self._iterator is None:
                made = self._source() if callable(self._source) else self._source
                self._iterator = iter(made)
            tick()
            try:
                self._items.append(next(self._iterator))
            except StopIteration:
                self._done = True
                self._iterator = self._source = None
                return False
            except (LimitError, RecursionError, MemoryError):
                # Of the request and not of the elements: the next request starts again.
                if callable(self._source):
                    self._items, self._iterator = [], None
                raise
            except EngineError as problem:
                if self.origin is not None and not isinstance(problem, MapError):
                    problem.locate(self.origin)
                self._error = problem
                raise
            except Exception as problem:
                self._error = EngineError(worded(problem), function=self.origin)
                raise self._error from problem
            if not len(self._items) & 255:
                count(256)
            return True

    def items(self) -> list[Element]:
        """Return all elements."""
        if not self._done:
            for _ in self:
                pass
        return self._items

    def size(self) -> int:
        """Return the number of elements, without making them where that is possible."""
        if self._done or self._size is None:
            return len(self.items())
        # Counted once: collections that are put together with themselves double at every step.
        counted = self._size()
        self._size = lambda: counted
        return counted

    def first(self) -> Element | None:
        """Return the first element, or None."""
        return next(iter(self), None)

    def images(self) -> list[Image]:
        """Return the elements, which must be images."""
        out = []
        for item in self:
            if not isinstance(item, Image):
                raise EngineError(
                    f"Collection elements must be images; found a {type(item).__name__}."
                )
            out.append(item)
        return out

    def over(
        self,
        source: Iterable[Element] | Callable[[], Iterable[Element]],
        size: Callable[[], int] | None = None,
    ) -> Collection:
        """Return a collection of other elements that keeps kind, id and properties."""
        return Collection(source, self.kind, self.properties, self.id, self.version, size)

    def replaced(self, properties: dict[str, Any]) -> Collection:
        """Return the collection with other properties of its own."""
        return Collection(lambda: self, self.kind, properties, self.id, self.version, self.size)


@lru_cache(maxsize=64)
def zone(name: str | None) -> tzinfo:
    """Return a time zone by IANA name or offset (``+05:30``); UTC by default."""
    if not name or name in ("UTC", "GMT", "Z", "Etc/UTC"):
        return UTC
    found = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?", name)
    if found:
        if int(found[2]) > 23 or int(found[3] or 0) > 59:
            raise EngineError(f"The datetime zone id '{name}' is not recognised.")
        sign = -1 if found[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(found[2]), minutes=int(found[3] or 0)))
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise EngineError(f"The datetime zone id '{name}' is not recognised.") from None


_ORDINAL = re.compile(r"(\d{4})-(\d{3})")
_ISO = re.compile(
    r"(-?\d{4,})(?:-(\d{1,2})(?:-(\d{1,2}))?)?"
    r"(?:[T ](\d{1,2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?)?)?\s*(Z|[+-]\d{2}:?\d{2})?"
)


def _milliseconds(value: float) -> int:
    if not -(2.0**63) <= value < 2.0**63:
        raise EngineError(f"{value} is no number of milliseconds.")
    return int(value)


@dataclass(frozen=True, slots=True)
class Date:
    """A moment, in milliseconds since 1970 UTC.

    Examples
    --------
    >>> Date.parse("2017-06-24").ms
    1498262400000
    """

    ms: int | float

    @staticmethod
    def parse(text: str, time_zone: str | None = None) -> Date:
        """Read an ISO 8601 date with as many parts as it has."""
        ordinal = _ORDINAL.fullmatch(text.strip())
        if ordinal:
            whole, nth = int(ordinal[1]), int(ordinal[2])
            if not 1 <= nth <= 365 + isleap(whole) or not whole:
                raise EngineError(f"Bad date/time '{text}'.")
            start = datetime(whole, 1, 1, tzinfo=zone(time_zone))
            return Date.of(start + timedelta(days=nth - 1))
        found = _ISO.fullmatch(text.strip())
        if not found:
            raise EngineError(f"Bad date/time '{text}'.")
        year, month, day, hour, minute, second, part, offset = found.groups()
        where = zone(offset if offset and offset != "Z" else None if offset else time_zone)
        try:
            moment = datetime(
                int(year), int(month or 1), int(day or 1), int(hour or 0) % 24,
                int(minute or 0), int(second or 0), tzinfo=where,
            )  # fmt: skip
        except ValueError:
            raise EngineError(f"Bad date/time '{text}'.") from None
        if hour and int(hour) == 24:
            moment += timedelta(days=1)
        ms = round((moment - EPOCH) / timedelta(milliseconds=1))
        return Date(ms + int(f"{part}000"[:3]) if part else ms)

    @staticmethod
    def coerce(value: object) -> Date:
        """Read a date given as a Date, milliseconds, text or the JSON of a date."""
        if isinstance(value, Date):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # Whole milliseconds, as Java's longs are.
            return Date(_milliseconds(value))
        if isinstance(value, str):
            return Date.parse(value)
        if isinstance(value, dict) and value.get("type") == "Date":
            return Date.coerce(value["value"])
        raise EngineError(f"Cannot convert {type(value).__name__} to a date.")

    def at(self, time_zone: str | None = None) -> datetime:
        """Return the moment as a datetime in a zone."""
        try:
            return (EPOCH + timedelta(milliseconds=self.ms)).astimezone(zone(time_zone))
        except (OverflowError, ValueError):
            raise EngineError(
                f"The date {self.ms} is outside of the years 1 to 9999, in milliseconds."
            ) from None

    @staticmethod
    def of(moment: datetime) -> Date:
        """Return the date of a datetime that knows its zone."""
        return Date(round((moment - EPOCH) / timedelta(milliseconds=1)))


@dataclass(frozen=True, slots=True)
class DateRange:
    """Moments from ``start`` up to but without ``end``, in milliseconds; None: unbounded."""

    start: int | float | None
    end: int | float | None

    def contains(self, ms: float) -> bool:
        """Return whether a moment lies in the range."""
        return (self.start is None or ms >= self.start) and (self.end is None or ms < self.end)


@dataclass(frozen=True, slots=True)
class ErrorMargin:
    """How far a result may be off; read and carried, as results here are exact enough."""

    value: float | None
    unit: str = "meters"


@dataclass(frozen=True, slots=True)
class Filter:
    """A test of an element.

    Parameters
    ----------
    name : str
        Id of the function that made it.
    test : function of an element
    match : function of two elements, optional
        For joins: left and right.
    measure : function of two elements, optional
        How far two that match are apart.
    shown : dict
        The arguments, as ``getInfo`` shows them.
    size : int
        Number of tests in it; filters that are put together with themselves double.
    """

    name: str
    test: Callable[[Any], bool]
    match: Callable[[Any, Any], bool] | None = None
    measure: Callable[[Any, Any], float] | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    size: int = 1

    def __post_init__(self) -> None:
        if self.size > 10_000:
            raise EngineError(f"Filter has too many parts ({self.size} > 10000).")


@dataclass(frozen=True, slots=True)
class Join:
    """How matches of a join are kept."""

    kind: str
    options: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        given = {k: v for k, v in self.options.items() if v is not None}
        return {"type": f"Join.{self.kind}", **given}


class Function:
    """A function of the expression: called with values, returns a value."""

    __slots__ = ("call", "names")

    def __init__(self, names: Sequence[str], call: Callable[[dict[str, Any]], Any]) -> None:
        self.names = tuple(names)
        self.call = call

    def __call__(self, *values: Any) -> Any:
        if len(values) > len(self.names):
            raise EngineError(
                f"A mapped algorithm must take {len(values)} argument(s), not {len(self.names)}."
            )
        return self.call(dict(zip(self.names, values, strict=False)))


@dataclass(eq=False)
class Array:
    """Numbers with axes."""

    values: NDArray[Any]
    type: PixelType = field(default_factory=lambda: PixelType("double"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the numbers, for functions of numpy."""
        return np.asarray(self.values, dtype)


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of actual (rows) against predicted (columns) classes."""

    values: NDArray[np.float64]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Blob:
    """A file that an expression names by its address."""

    url: str


def geometry_of(value: Element) -> Geometry | None:
    """Return the geometry of a feature, the footprint of an image, the union of a collection."""
    if isinstance(value, Feature):
        return value.geometry
    if isinstance(value, Image):
        return value.footprint or Geometry.everywhere()
    if isinstance(value, Collection):
        return union_of([g for g in map(geometry_of, value) if g is not None])
    return None


def as_feature(item: Element) -> Feature:
    """Return an element as a feature: an image becomes its footprint and properties."""
    if isinstance(item, Feature):
        return item
    return Feature(geometry_of(item), item.properties)


def type_name(value: Any) -> str:
    """Return what Earth Engine calls the type of a value."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, (int, np.integer)):
        return "Integer"
    if isinstance(value, (float, np.floating)):
        return "Float"
    if isinstance(value, Image):
        return f"Image<[{', '.join(value.names)}]>"
    if isinstance(value, Collection):
        return value.kind
    for kind, name in ((str, "String"), (list, "List<Object>"), (dict, "Dictionary<Object>")):
        if isinstance(value, kind):
            return name
    return "Null" if value is None else type(value).__name__
