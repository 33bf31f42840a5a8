"""Joins of two collections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..image import Element
from ..values import Collection, Feature, Filter, Join
from .collections import compare_key
from .registry import function

__all__ = ["Join"]


def _saved(
    key: str, order: str | None, ascending: bool, measure: str | None, outer: bool
) -> dict[str, Any]:
    return {"key": key, "order": order, "up": ascending, "measure": measure, "outer": outer}


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
    return Join("saveAll", _saved(key, ordering, ascending, measure, outer))


@function("Join.saveFirst")
def save_first(
    key: str, ordering: str | None, ascending: bool, measure: str | None, outer: bool
) -> Join:
    """Save the first match in a property."""
    return Join("saveFirst", _saved(key, ordering, ascending, measure, outer))


@function("Join.saveBest")
def save_best(key: str, measure: str, outer: bool) -> Join:
    """Save the best match in a property: the one nearest by the condition's difference."""
    return Join("saveBest", {"key": key, "measure": measure, "outer": outer})


@function("Join.inner")
def inner(primary: str, secondary: str, measure: str | None) -> Join:
    """Return all pairs."""
    return Join("inner", {"primary": primary, "secondary": secondary})


def _with(item: Element, key: str, value: Any) -> Element:
    return item.replaced({**item.properties, key: value})


@function("Join.apply")
def apply(join: Join, primary: Collection, secondary: Collection, condition: Filter) -> Collection:
    """Join two collections."""
    match = condition.match or (lambda a, b: condition.test(a))
    options = join.options

    def source() -> Iterator[Element]:
        others = secondary.items()
        for item in primary:
            found = [o for o in others if match(item, o)]
            if join.kind == "simple":
                if found:
                    yield item
                continue
            if join.kind == "inverted":
                if not found:
                    yield item
                continue
            if join.kind == "inner":
                for other in found:
                    index = f"{item.properties.get('system:index', '')}_" + str(
                        other.properties.get("system:index", "")
                    )
                    yield Feature(
                        None,
                        {options["primary"]: item, options["secondary"]: other,
                         "system:index": index},
                    )  # fmt: skip
                continue
            measure = condition.measure
            key = options.get("measure")
            if measure is not None and (key is not None or join.kind == "saveBest"):
                ranked = sorted(((measure(item, o), k) for k, o in enumerate(found)))
                if join.kind == "saveBest":
                    ranked = ranked[:1]
                found = [_with(found[k], key, far) if key else found[k] for far, k in ranked]
            order = options.get("order")
            if order is not None:
                found.sort(
                    key=lambda o: compare_key(o.properties.get(order)), reverse=not options["up"]
                )
            if not found and not options["outer"]:
                continue
            if join.kind == "saveAll":
                yield _with(item, options["key"], found)
            elif found:
                yield _with(item, options["key"], found[0])
            else:
                yield item

    return Collection(source, primary.kind, primary.properties)
