"""Values as ``getInfo`` shows them: plain JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .budget import count
from .errors import EngineError
from .image import Element, Image
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
    type_name,
)

__all__ = ["text_key", "to_json"]

_MOST_ELEMENTS = 5000


def to_json(value: Any) -> Any:
    """Return a value as ``getInfo`` shows it: plain JSON, whole floats as integers."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float, np.number)):
        return _json_number(value)
    if isinstance(value, (list, tuple)):
        # Lists that hold one list many times are small until they are written out.
        count(len(value))
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        count(len(value))
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, Image):
        return _image_json(value)
    if isinstance(value, Feature):
        return _feature_json(value)
    if isinstance(value, Collection):
        return _collection_json(value)
    if isinstance(value, Date):
        return {"type": "Date", "value": _json_number(value.ms)}
    if isinstance(value, DateRange):
        return {"type": "DateRange", "dates": [_json_number(value.start), _json_number(value.end)]}
    if isinstance(value, Array):
        return to_json(value.values.tolist())
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, ConfusionMatrix):
        return to_json(value.values.tolist())
    if isinstance(value, ErrorMargin):
        most = {} if value.value is None else {"value": to_json(value.value)}
        return {"type": "ErrorMargin", "unit": value.unit, **most}
    if isinstance(value, Filter):
        return {"type": value.name, **to_json(value.shown)}
    if isinstance(value, bytes):
        return {"type": "Bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, Blob):
        return {"type": "Blob", "id": value.url}
    if isinstance(value, Function):
        return {"type": "Algorithm", "args": [{"name": n} for n in value.names]}
    shown = getattr(value, "json", None)
    if shown is not None:
        return to_json(shown())
    raise EngineError(f"A value of type {type_name(value)} cannot be shown as JSON.")


def text_key(value: Any) -> str:
    """Return a text that equal values share and others do not, in bounded time."""
    if isinstance(value, (list, dict)):
        return json.dumps(to_json(value), sort_keys=True)
    return repr(value)


def _json_number(value: Any) -> Any:
    if value is None:
        return None
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, float):
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        if number == int(number) and abs(number) < 2**53:
            return int(number)
    return number


def _image_json(image: Image) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "Image", "bands": []}
    for band in image.bands:
        entry: dict[str, Any] = {"id": band.id, "data_type": to_json(band.type.json())}
        if band.dimensions is not None:
            entry["dimensions"] = list(band.dimensions)
            if band.origin != (0, 0):
                entry["origin"] = list(band.origin)
        shown = band.projection.json()
        entry["crs" if "crs" in shown else "crs_wkt"] = shown.get("crs", shown.get("wkt"))
        entry["crs_transform"] = shown["transform"]
        out["bands"].append(entry)
    if image.id is not None:
        out["id"] = image.id
    if image.version is not None:
        out["version"] = image.version
    properties = {k: to_json(v) for k, v in image.properties.items()}
    if image.footprint is not None:
        properties.setdefault("system:footprint", image.footprint.json())
    if properties:
        out["properties"] = properties
    return out


def _feature_json(feature: Feature) -> dict[str, Any]:
    out: dict[str, Any] = {
        "type": "Feature",
        "geometry": None if feature.geometry is None else feature.geometry.json(),
    }
    index = feature.properties.get("system:index")
    if index is not None:
        out["id"] = index
    out["properties"] = {
        k: to_json(v) for k, v in feature.properties.items() if k != "system:index"
    }
    return out


def _collection_json(collection: Collection) -> dict[str, Any]:
    items: list[Element] = []
    for item in collection:
        items.append(item)
        if len(items) > _MOST_ELEMENTS:
            raise EngineError(
                f"Collection query aborted after accumulating over {_MOST_ELEMENTS} elements."
            )
    images = bool(items) and all(isinstance(i, Image) for i in items)
    kind = (
        "ImageCollection"
        if images or (not items and collection.kind[0] == "I")
        else ("FeatureCollection")
    )
    out: dict[str, Any] = {"type": kind}
    if kind == "ImageCollection":
        out["bands"] = []
    else:
        out["columns"] = _columns(items)
    if collection.id is not None:
        out["id"] = collection.id
    if collection.version is not None:
        out["version"] = collection.version
    if collection.properties:
        out["properties"] = to_json(collection.properties)
    # An empty collection has no such member (ee tests; clients read it with get()).
    if items:
        out["features"] = [to_json(i) for i in items]
    return out


def _columns(items: Iterable[Element]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for item in items:
        for key, value in item.properties.items():
            columns.setdefault(key, type_name(value))
    return dict(sorted(columns.items()))
