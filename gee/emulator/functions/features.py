"""Features, and properties of any element."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..errors import EngineError
from ..geometry import Geometry
from ..image import Element, Image
from ..projection import Projection
from ..values import (
    Array,
    Collection,
    Date,
    ErrorMargin,
    Feature,
    as_feature,
    geometry_of,
    type_name,
)
from ._java import pattern_of
from .registry import function

__all__: list[str] = []


@function("Feature")
def feature(geometry: Geometry | None, metadata: dict[str, Any], key: str | None) -> Feature:
    """Return a feature."""
    return Feature(geometry, dict(metadata or {}))


@function("Feature.id")
def feature_id(element: Element) -> str | None:
    """Return the index, which is not a property named ``id`` ([G] ee_feature)."""
    return element.properties.get("system:index")


@function("Feature.geometry", "Element.geometry", "Image.geometry")
def geometry(
    element: Element,
    margin: ErrorMargin | None,
    projection: Projection | None,
    geodesic: bool | None,
) -> Geometry | None:
    """Return the geometry, or the footprint of an image."""
    found = geometry_of(element)
    if found is None or projection is None or found.unbounded:
        return found
    from .geometries import moved

    return moved(found, projection, margin, geodesic)


@function("Feature.setGeometry")
def set_geometry(element: Element, shape: Geometry | None) -> Feature:
    """Return the feature with another geometry."""
    return Feature(shape, element.properties)


@function("Feature.select")
def select(
    element: Element, selectors: list[str], new: list[str] | None, keep_geometry: bool
) -> Element:
    """Keep properties by name or regular expression, and rename them."""
    names: list[str] = []
    for selector in selectors:
        if selector in element.properties:
            names.append(selector)
            continue
        wanted = pattern_of(selector)
        names += [k for k in element.properties if wanted.fullmatch(k) and k not in names]
    shown = names if new is None else new
    if len(shown) != len(names):
        raise EngineError("The number of new properties must match the number selected.")
    found = {b: element.properties[a] for a, b in zip(names, shown, strict=True)}
    if "system:index" in element.properties:
        found.setdefault("system:index", element.properties["system:index"])
    if isinstance(element, Feature):
        return Feature(element.geometry if keep_geometry else None, found)
    return element.replaced(found)


@function("Feature.toArray")
def to_array(element: Element, names: list[str]) -> Array:
    """Return numeric properties as an array."""
    values = [element.properties.get(n) for n in names]
    for name, value in zip(names, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise EngineError(f"Property '{name}' is missing or not a number.")
    return Array(np.asarray(values, float))


def _get(element: Element, name: str) -> Any:
    found = element.properties.get(name)
    if found is None:
        if name == "system:id":
            return getattr(element, "id", None)
        if name == "system:footprint" and isinstance(element, Image):
            return element.footprint
        if name == "system:bands" and isinstance(element, Image):
            return {b.id: b.type for b in element.bands}
    return found


@function("Element.get")
def get(element: Element, name: str) -> Any:
    """Return a property; null where there is none."""
    return _get(element, name)


def _typed(kind: str, element: Element, name: str) -> Any:
    """Return a property that must be of a type; null where there is none."""
    found = _get(element, name)
    if found is None:
        return None
    if kind == "Number":
        if isinstance(found, Date):
            return found.ms
        right = isinstance(found, (int, float, np.number)) and not isinstance(found, bool)
    elif kind == "String":
        right = isinstance(found, str)
    else:
        right = isinstance(found, (Array, list))
    if not right:
        raise EngineError(
            f"Property '{name}' is no {kind.lower()}. Actual type: {type_name(found)}."
        )
    if kind == "Array":
        from .arrays import as_array

        return as_array(found)
    return found


for _kind in ("Number", "String", "Array"):
    function(f"Element.get{_kind}")(partial(_typed, _kind))


@function("Element.set")
def set_property(element: Element, key: str, value: Any) -> Element:
    """Set a property; null removes it."""
    properties = dict(element.properties)
    if value is None:
        properties.pop(key, None)
    else:
        properties[key] = value
    return element.replaced(properties)


@function("Element.setMulti")
def set_many(element: Element, values: dict[str, Any]) -> Element:
    """Set properties."""
    return element.replaced({**element.properties, **values})


@function("Element.propertyNames")
def property_names(element: Element) -> list[str]:
    """Return the names of the properties, and of what every image has."""
    names = list(element.properties)
    if isinstance(element, Image):
        extra = ["system:bands", "system:band_names"]
        if element.footprint is not None:
            extra.append("system:footprint")
        if element.id is not None:
            extra += ["system:id", "system:version"]
        names += [n for n in extra if n not in names]
    elif isinstance(element, Feature) and "system:index" not in names:
        names.append("system:index")
    return names


@function("Element.toDictionary")
def to_dictionary(element: Element, names: list[str] | None) -> dict[str, Any]:
    """Return properties; by default those that are not of the system."""
    if names is None:
        return {k: v for k, v in element.properties.items() if not k.startswith("system:")}
    return {n: _get(element, n) for n in names}


@function("Element.copyProperties", "Image.copyProperties")
def copy_properties(
    target: Element | None,
    source: Element | None,
    names: list[str] | None,
    exclude: list[str] | None,
) -> Element | None:
    """Copy properties; by default those that are not of the system ([A])."""
    if target is None or source is None:
        return target
    if names is not None and exclude is not None:
        raise EngineError("'exclude' must not be specified if 'properties' is.")
    if names is None:
        gone = set(exclude or ())
        taken = {
            k: v
            for k, v in source.properties.items()
            if not k.startswith("system:") and k not in gone
        }
    else:
        taken = {n: _get(source, n) for n in names}
        taken = {k: v for k, v in taken.items() if v is not None}
    return target.replaced({**target.properties, **taken})


@function("Element.replaceProperties")
def replace_properties(target: Element, source: Element | None) -> Element:
    """Return the element with the properties of another."""
    return target.replaced(dict(source.properties) if source is not None else {})


@function("FeatureCollection.makeArray")
def make_array(items: Collection, names: list[str], name: str) -> Collection:
    """Add an array of properties to every feature; those without all of them are dropped ([A])."""

    def source() -> Iterator[Element]:
        for item in items:
            values = [item.properties.get(n) for n in names]
            if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
                yield item.replaced({**item.properties, name: to_array(item, names)})

    return items.over(source)


def of(element: Element) -> Feature:
    """Return an element as a feature."""
    return as_feature(element)
