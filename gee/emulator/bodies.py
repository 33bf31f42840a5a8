"""The fields of request bodies: of the types that the REST interface gives them, or refused.

Names and types are those of Earth Engine's discovery document (reference/rest/v1); a name that
is not among them is left to the method that reads the body. null stands for a field left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from .errors import EngineError

__all__ = ["check_body"]

Check = Callable[[str, Any], None]


def _wrong(place: str, kind: str, value: Any) -> EngineError:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return EngineError(f"Invalid value at '{place}' ({kind}), {shown}")


def _text(place: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _wrong(place, "TYPE_STRING", value)
    if "\x00" in value:
        raise _wrong(place, "TYPE_STRING", value)


def _whole(bits: int, least: int | None = None) -> Check:
    def check(place: str, value: Any) -> None:
        given = value.get("value") if isinstance(value, Mapping) else value
        found: Any = None
        try:
            # Integers of 64 bits travel as text; whole doubles are integers too.
            if isinstance(given, str) and len(given) < 30:
                found = int(given)
            elif isinstance(given, (int, float)) and not isinstance(given, bool):
                found = int(given) if given == int(given) else None
        except (ValueError, OverflowError):
            found = None
        if found is None or not -(2 ** (bits - 1)) <= found < 2 ** (bits - 1):
            raise _wrong(place, f"TYPE_INT{bits}", value)
        if least is not None and found < least:
            raise EngineError(f"Invalid value at '{place}': {found} is less than {least}.")

    return check


def _number(place: str, value: Any) -> None:
    given: Any = value.get("value") if isinstance(value, Mapping) else value
    try:
        found = float(given) if not isinstance(given, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise _wrong(place, "TYPE_DOUBLE", value)


def _boolean(place: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(place, "TYPE_BOOL", value)


def _list_of(check: Check) -> Check:
    def each(place: str, value: Any) -> None:
        if not isinstance(value, list):
            raise _wrong(place, "TYPE_LIST", value)
        for number, item in enumerate(value):
            check(f"{place}[{number}]", item)

    return each


def _object(fields: Mapping[str, Check] | None = None) -> Check:
    def each(place: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(place, "TYPE_MESSAGE", value)
        for name, check in (fields or {}).items():
            found = value.get(name)
            if found is not None:
                check(f"{place}.{name}", found)

    return each


def _dimensions(place: str, value: Any) -> None:
    _object({"width": _whole(32), "height": _whole(32)})(place, value)
    for name in ("width", "height"):
        if int(value.get(name) or 0) <= 0:
            raise EngineError("Pixel grid dimensions must be positive.")


_AFFINE = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")


def _transform(place: str, value: Any) -> None:
    _object(dict.fromkeys(_AFFINE, _number))(place, value)
    a, b, _, d, e, _ = (float(value.get(name) or 0) for name in _AFFINE)
    if not value:
        return
    area = a * e - b * d
    if area == 0 or not math.isfinite(area):
        raise EngineError(f"Invalid value at '{place}': the transform cannot be inverted.")


GRID = _object(
    {"dimensions": _dimensions, "affineTransform": _transform, "crsCode": _text, "crsWkt": _text}
)
FIELDS: dict[str, Check] = {
    "expression": _object({"values": _object(), "result": _text}),
    "fileFormat": _text,
    "filename": _text,
    "filenamePrefix": _text,
    "name": _text,
    "description": _text,
    "requestId": _text,
    "workloadTag": _text,
    "pageToken": _text,
    "timeout": _text,
    "destinationName": _text,
    "overwrite": _boolean,
    "bandIds": _list_of(_text),
    "selectors": _list_of(_text),
    "pageSize": _whole(32),
    "maxPixels": _whole(64),
    "maxWorkers": _whole(32),
    "maxVertices": _whole(32),
    "priority": _whole(32),
    "grid": GRID,
    "region": _object(),
    "visualizationOptions": _object(
        {
            "ranges": _list_of(_object({"min": _number, "max": _number})),
            "paletteColors": _list_of(_text),
            "gamma": _number,
            "opacity": _number,
        }
    ),
    "fileExportOptions": _object({"fileFormat": _text}),
    "assetExportOptions": _object(),
    "videoOptions": _object({"framesPerSecond": _number}),
}


def check_body(body: Mapping[str, Any]) -> None:
    """Refuse a body with a field of another type than the interface has.

    Parameters
    ----------
    body : dict

    Raises
    ------
    EngineError
        "Invalid value at 'grid.dimensions.width' (TYPE_INT32), "x"".

    Examples
    --------
    >>> check_body({"grid": {"dimensions": {"width": 1, "height": 2}}, "fileFormat": "NPY"})
    >>> check_body({"bandIds": "B4"})
    Traceback (most recent call last):
    ...
    gee.emulator.errors.EngineError: Invalid value at 'bandIds' (TYPE_LIST), "B4"
    """
    for name, value in body.items():
        check = FIELDS.get(name)
        if check is not None and value is not None:
            check(name, value)
