"""Features, and properties of any element."""

from __future__ import annotations

from typing import Any

from ..errors import EngineError
from ..geometry import Geometry
from ..image import Element, Image
from ..patterns import pattern
from ..projection import Projection
from ..values import Array, Collection, Date, ErrorMargin, Feature, as_feature, geometry_of
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
        wanted = pattern(selector)
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
    import numpy as np

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


@function("Element.getNumber")
def get_number(element: Element, name: str) -> Any:
    """Return a numeric property."""
    found = _get(element, name)
    if isinstance(found, str):
        raise EngineError(f"Property '{name}' is a string, not a number.")
    return found.ms if isinstance(found, Date) else found


@function("Element.getString")
def get_string(element: Element, name: str) -> Any:
    """Return a property of text."""
    found = _get(element, name)
    if found is not None and not isinstance(found, str):
        raise EngineError(f"Property '{name}' is not a string.")
    return found


@function("Element.getArray")
def get_array(element: Element, name: str) -> Any:
    """Return an array property."""
    return _get(element, name)


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
    """Add an array of properties to every feature."""
    return items.over(
        lambda: (i.replaced({**i.properties, name: to_array(i, names)}) for i in items), items.size
    )


def of(element: Element) -> Feature:
    """Return an element as a feature."""
    return as_feature(element)
