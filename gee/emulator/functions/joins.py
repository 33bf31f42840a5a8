"""Joins of two collections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..budget import steps
from ..errors import EngineError
from ..image import Element
from ..values import Collection, Feature, Filter, Join
from .collections import compare_key
from .registry import function

__all__ = ["Join"]


@function("Join.simple")
def simple() -> Join:
    """Keep what has a match."""
    return Join("simple", {})


@function("Join.inverted")
def inverted() -> Join:
    """Keep what has no match."""
    return Join("inverted", {})


@function("Join.saveAll")
def save_all(
    key: str, ordering: str | None, ascending: bool, measure: str | None, outer: bool
) -> Join:
    """Save all matches in a property."""
    return Join(
        "saveAll",
        {"matchesKey": key, "ordering": ordering, "ascending": ascending, "measureKey": measure,
         "outer": outer},
    )  # fmt: skip


@function("Join.saveFirst")
def save_first(
    key: str, ordering: str | None, ascending: bool, measure: str | None, outer: bool
) -> Join:
    """Save the first match in a property."""
    return Join(
        "saveFirst",
        {"matchKey": key, "ordering": ordering, "ascending": ascending, "measureKey": measure,
         "outer": outer},
    )  # fmt: skip


@function("Join.saveBest")
def save_best(key: str, measure: str, outer: bool) -> Join:
    """Save the best match in a property: the one nearest by the condition's measure."""
    return Join("saveBest", {"matchKey": key, "measureKey": measure, "outer": outer})


@function("Join.inner")
def inner(primary: str, secondary: str, measure: str | None) -> Join:
    """Return all pairs."""
    return Join("inner", {"primaryKey": primary, "secondaryKey": secondary, "measureKey": measure})


def _with(item: Element, key: str, value: Any) -> Element:
    return item.replaced({**item.properties, key: value})


@function("Join.apply")
def apply(join: Join, primary: Collection, secondary: Collection, condition: Filter) -> Collection:
    """Join two collections."""
    match = condition.match or (lambda a, b: condition.test(a))
    kept = _KEPT[join.kind]
    if join.kind == "saveBest" and condition.measure is None:
        raise EngineError(
            "The condition has no join measure: use a withinDistance or maxDifference filter."
        )

    def source() -> Iterator[Element]:
        others = secondary.items()
        for item in steps(primary):
            found = [o for o in steps(others) if match(item, o)]
            yield from kept(item, found, join.options, condition.measure)

    return Collection(source, primary.kind, primary.properties)


Measure = Callable[[Any, Any], float] | None
Options = dict[str, Any]


def _simple(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    return [item] if found else []


def _inverted(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    return [] if found else [item]


def _inner(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    out: list[Element] = []
    for other in found:
        pair = {
            options["primaryKey"]: item,
            options["secondaryKey"]: other,
            "system:index": f"{_index(item)}_{_index(other)}",
        }
        if options["measureKey"] is not None and far is not None:
            pair[options["measureKey"]] = far(item, other)
        out.append(Feature(None, pair))
    return out


def _index(item: Element) -> str:
    return str(item.properties.get("system:index", ""))


def _measured(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    key = options["measureKey"]
    if key is None or far is None:
        return found
    return [_with(other, key, far(item, other)) for other in found]


def _ordered(found: list[Element], options: Options) -> list[Element]:
    order = options["ordering"]
    if order is None:
        return found
    return sorted(
        found,
        key=lambda o: compare_key(o.properties.get(order)),
        reverse=not options["ascending"],
    )


def _all(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    if not found and not options["outer"]:
        return []
    matches = _ordered(_measured(item, found, options, far), options)
    return [_with(item, options["matchesKey"], matches)]


def _first(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    if not found:
        return [item] if options["outer"] else []
    matches = _ordered(_measured(item, found, options, far), options)
    return [_with(item, options["matchKey"], matches[0])]


def _best(item: Element, found: list[Element], options: Options, far: Measure) -> list[Element]:
    if not found:
        return [item] if options["outer"] else []
    assert far is not None
    # The first of equally good ones.
    distance, place = min((far(item, other), k) for k, other in enumerate(found))
    match = _with(found[place], options["measureKey"], distance)
    return [_with(item, options["matchKey"], match)]


_KEPT: dict[str, Callable[[Element, list[Element], Options, Measure], list[Element]]] = {
    "simple": _simple,
    "inverted": _inverted,
    "inner": _inner,
    "saveAll": _all,
    "saveFirst": _first,
    "saveBest": _best,
}
