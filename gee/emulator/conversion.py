"""Values to the types that arguments take, as Earth Engine converts them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .budget import count
from .errors import EngineError
from .functions import load_all
from .geometry import Geometry, parse_geojson
from .image import Element, Image, constant
from .projection import Projection
from .signatures import Argument
from .types import PixelType
from .values import (
    Array,
    Blob,
    Collection,
    ConfusionMatrix,
    Date,
    DateRange,
    ErrorMargin,
    Feature,
    Filter,
    Function,
    geometry_of,
    type_name,
)

if TYPE_CHECKING:
    from .evaluate import Evaluator

__all__ = ["coerce", "converter", "numbers"]


def converter(function: str, argument: Argument, evaluator: Evaluator) -> Callable[[Any], Any]:
    """Return what converts the values of one argument, with the words of a refusal."""
    kind, of = argument.type, argument.of
    convert = _CONVERTERS.get(kind)
    if convert is None:
        return lambda value: value

    def run(value: Any) -> Any:
        try:
            return convert(value, of, evaluator)
        except _Mismatch:
            shown = f"{kind}<{of}>" if of else kind
            problem = EngineError(
                f"{function}, argument '{argument.name}': Invalid type.\n"
                f"Expected type: {shown}.\nActual type: {type_name(value)}."
            )
            problem.located = True
            raise problem from None
        except EngineError as problem:
            problem.locate(function)
            raise

    return run


class _Mismatch(Exception):
    """A value is not of the type that an argument takes."""


def coerce(kind: str, of: str, value: Any, evaluator: Evaluator) -> Any:
    """Convert a value to an argument type, as Earth Engine does.

    Raises
    ------
    EngineError
        The value has no such form.
    """
    convert = _CONVERTERS.get(kind)
    if convert is None or value is None:
        return value
    try:
        return convert(value, of, evaluator)
    except _Mismatch:
        raise EngineError(
            f"Invalid type.\nExpected type: {kind}.\nActual type: {type_name(value)}."
        ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _image(value: Any, of: str, evaluator: Evaluator) -> Image:
    if isinstance(value, Image):
        return value
    if isinstance(value, bool):
        value = int(value)
    if _is_number(value):
        return constant(value.item() if isinstance(value, np.number) else value)
    if isinstance(value, str):
        return evaluator.image_asset(value)
    if isinstance(value, list):
        from .functions.bands import concatenated

        count(len(value))
        return concatenated([_image(v, "", evaluator) for v in value])
    if isinstance(value, Array):
        from .functions.array_images import constant_array

        return constant_array(value)
    if isinstance(value, Collection) and value.kind == "ImageCollection":
        from .functions.collections import mosaic

        return mosaic(value)
    raise _Mismatch


def _image_collection(value: Any, of: str, evaluator: Evaluator) -> Collection:
    if isinstance(value, Collection):
        if value.kind == "ImageCollection":
            return value
        return Collection(
            lambda: value, "ImageCollection", value.properties, value.id, size=value.size
        )
    if isinstance(value, str):
        from .functions.loading import load_collection

        return load_collection(evaluator, value, None)
    if isinstance(value, list):
        count(len(value))
        return Collection([_image(v, "", evaluator) for v in value], "ImageCollection")
    return Collection([_image(value, "", evaluator)], "ImageCollection")


def _feature_collection(value: Any, of: str, evaluator: Evaluator) -> Collection:
    if isinstance(value, Collection):
        return value
    if isinstance(value, str):
        return evaluator.table_asset(value)
    if isinstance(value, list):
        count(len(value))
        return Collection([_element(v, "", evaluator) for v in value])
    return Collection([_element(value, "", evaluator)])


def _element(value: Any, of: str, evaluator: Evaluator) -> Element:
    if isinstance(value, Element):
        return value
    if isinstance(value, Geometry):
        return Feature(value)
    if isinstance(value, dict):
        if value.get("type") == "Feature":
            made = Feature(
                parse_geojson(value["geometry"]) if value.get("geometry") else None,
                dict(value.get("properties") or {}),
            )
            if "id" in value:
                made.properties["system:index"] = value["id"]
            return made
        if "coordinates" in value or "geometries" in value:
            return Feature(parse_geojson(value))
        # A dictionary stands for an element without geometry.
        return Feature(None, dict(value))
    if isinstance(value, (int, float, str)):
        return _image(value, "", evaluator)
    raise _Mismatch


def _geometry(value: Any, of: str, evaluator: Evaluator) -> Geometry:
    if isinstance(value, Geometry):
        return value
    if isinstance(value, (Feature, Image, Collection)):
        found = geometry_of(value)
        if found is None:
            raise EngineError("Element has no geometry.")
        return found
    if isinstance(value, dict):
        if value.get("type") == "Feature":
            if not isinstance(value.get("geometry"), dict):
                raise EngineError("Element has no geometry.")
            return parse_geojson(value["geometry"])
        if "type" in value:
            return parse_geojson(value)
    raise _Mismatch


def _number(value: Any, of: str, evaluator: Evaluator) -> int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, np.number):
        return value.item()
    if isinstance(value, Array) and value.values.size == 1:
        return value.values.item()
    raise _Mismatch


def _float(value: Any, of: str, evaluator: Evaluator) -> float:
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return float(value)
    return float(_number(value, of, evaluator))


def numbers(value: Any, what: str) -> list[float]:
    """Return the numbers of a list whose elements no type tells.

    Raises
    ------
    EngineError
        An element is no number; ``what`` names the list.
    """
    found = value.values.ravel().tolist() if isinstance(value, Array) else value
    found = found if isinstance(found, (list, tuple)) else [found]
    out = []
    for item in found:
        if isinstance(item, Array) and item.values.size == 1:
            item = item.values.item()
        if isinstance(item, (bool, int, float, np.number)):
            out.append(float(item))
        else:
            raise EngineError(f"{what} must be numbers; found {type_name(item)}.")
    return out


def _integer_of(bits: int) -> Callable[[Any, str, Evaluator], int]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def convert(value: Any, of: str, evaluator: Evaluator) -> int:
        number = _number(value, of, evaluator)
        if isinstance(number, float) and not math.isfinite(number):
            raise EngineError(f"Cannot convert {number} to an integer.")
        whole = int(number)
        if not least <= whole <= most:
            raise EngineError(f"{number:g} is no integer of {bits} bits.")
        return whole

    return convert


def _string(value: Any, of: str, evaluator: Evaluator) -> str:
    if isinstance(value, str):
        return value
    raise _Mismatch


def _boolean(value: Any, of: str, evaluator: Evaluator) -> bool:
    if isinstance(value, bool):
        return value
    if _is_number(value):
        return bool(value)
    raise _Mismatch


def _list(value: Any, of: str, evaluator: Evaluator) -> list[Any]:
    if isinstance(value, Array):
        value = value.values.tolist()
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, list):
        if of in ("String", "Object") and isinstance(value, (str, int, float)):
            value = [value]
        elif isinstance(value, Collection) and of in ("Element", "Object", "Image"):
            value = value.items()
        else:
            raise _Mismatch
    convert = _CONVERTERS.get(of)
    return value if convert is None else [convert(v, "", evaluator) for v in value]


def _dictionary(value: Any, of: str, evaluator: Evaluator) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, (Feature, Image)):
        return value.properties
    raise _Mismatch


def _projection(value: Any, of: str, evaluator: Evaluator) -> Projection:
    if isinstance(value, (Projection, str, dict)):
        return Projection.coerce(value)
    if isinstance(value, Image):
        return value.first_projection
    raise _Mismatch


def _margin(value: Any, of: str, evaluator: Evaluator) -> ErrorMargin:
    if isinstance(value, ErrorMargin):
        return value
    if _is_number(value):
        return ErrorMargin(float(value))
    if isinstance(value, dict):
        return ErrorMargin(value.get("value"), value.get("unit", "meters"))
    raise _Mismatch


def _date(value: Any, of: str, evaluator: Evaluator) -> Date:
    if isinstance(value, (Date, str, dict)) or _is_number(value):
        return Date.coerce(value)
    if isinstance(value, Image):
        moment = value.properties.get("system:time_start")
        if moment is not None:
            return Date(moment)
    raise _Mismatch


def _date_range(value: Any, of: str, evaluator: Evaluator) -> DateRange:
    if isinstance(value, DateRange):
        return value
    if isinstance(value, dict) and value.get("type") == "DateRange":
        return DateRange(*(None if d is None else Date.coerce(d).ms for d in value["dates"]))
    if isinstance(value, list) and len(value) == 2:
        return DateRange(*(Date.coerce(v).ms for v in value))
    if isinstance(value, (Date, str)) or _is_number(value):
        start = Date.coerce(value).ms
        return DateRange(start, start + 1)
    raise _Mismatch


def _filter(value: Any, of: str, evaluator: Evaluator) -> Filter:
    if isinstance(value, Filter):
        return value
    if isinstance(value, str):
        from .functions.filters import parse_filter

        return parse_filter(value)
    raise _Mismatch


def _algorithm(value: Any, of: str, evaluator: Evaluator) -> Function:
    if isinstance(value, Function):
        return value
    raise _Mismatch


def _pixel_type(value: Any, of: str, evaluator: Evaluator) -> PixelType:
    return PixelType.coerce(value)


def _array(value: Any, of: str, evaluator: Evaluator) -> Array:
    if isinstance(value, Array):
        return value
    if isinstance(value, list) or _is_number(value):
        from .functions.arrays import as_array

        return as_array(value)
    if isinstance(value, ConfusionMatrix):
        return Array(value.values)
    raise _Mismatch


def _only(*types: type) -> Callable[[Any, str, Evaluator], Any]:
    def check(value: Any, of: str, evaluator: Evaluator) -> Any:
        if not isinstance(value, types):
            raise _Mismatch
        return value

    return check


def _reducer(value: Any, of: str, evaluator: Evaluator) -> Any:
    from .reducers import Reducer, named_reducer

    if isinstance(value, Reducer):
        return value
    if isinstance(value, str):
        return named_reducer(value)
    raise _Mismatch


def _only_a(module: str, name: str) -> Callable[[Any, str, Evaluator], Any]:
    """Take only values of a class whose module is imported when a value is to be converted."""

    def convert(value: Any, of: str, evaluator: Evaluator) -> Any:
        load_all()
        if isinstance(value, getattr(importlib.import_module(module, __package__), name)):
            return value
        raise _Mismatch

    return convert


_CONVERTERS: dict[str, Callable[[Any, str, Evaluator], Any]] = {
    "Image": _image,
    "ImageCollection": _image_collection,
    "FeatureCollection": _feature_collection,
    "Element": _element,
    "Feature": _element,
    "Geometry": _geometry,
    "Number": _number,
    "Float": _float,
    "Integer": _integer_of(32),
    "Long": _integer_of(64),
    "String": _string,
    "Boolean": _boolean,
    "List": _list,
    "Dictionary": _dictionary,
    "Projection": _projection,
    "ErrorMargin": _margin,
    "Date": _date,
    "DateRange": _date_range,
    "Filter": _filter,
    "Algorithm": _algorithm,
    "PixelType": _pixel_type,
    "Array": _array,
    "Reducer": _reducer,
    "Kernel": _only_a(".functions.kernels", "Kernel"),
    "Classifier": _only_a(".functions.classifiers", "Classifier"),
    "Clusterer": _only_a(".functions.clusterers", "Clusterer"),
    "Join": _only_a(".functions.joins", "Join"),
    "ConfusionMatrix": _only(ConfusionMatrix),
    "Blob": _only(Blob),
}
