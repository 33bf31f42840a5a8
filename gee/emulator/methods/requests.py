"""Reading requests: bodies, pages, names, times, and expressions made around theirs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from ..bodies import check_body
from ..errors import EngineError
from ..payload import parse_json

__all__ = [
    "call",
    "constant",
    "expression_of",
    "file_name",
    "milliseconds",
    "page_size",
    "page_start",
    "read_body",
    "sized",
    "visualized",
]

PAGE = 1000


def read_body(content: bytes) -> dict[str, Any]:
    """Return the JSON object of a request's body; an empty body is an empty object.

    Raises
    ------
    EngineError
        It is something else.
    """
    body = parse_json(content)
    check_body(body)
    return body


def expression_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the expression of a request, of the right shape."""
    expression = body.get("expression")
    if (
        not isinstance(expression, dict)
        or not isinstance(expression.get("values"), dict)
        or not isinstance(expression.get("result"), str)
    ):
        raise EngineError("Invalid JSON payload received: 'expression' is missing or malformed.")
    return expression


def page_size(value: Any, default: int = PAGE) -> int:
    """Return how many items a page has.

    Examples
    --------
    >>> page_size("20"), page_size(None), page_size(10**9)
    (20, 1000, 10000)
    """
    try:
        size = int(value or 0)
    except (TypeError, ValueError, OverflowError):
        raise EngineError(f"Page size {value!r} is not a whole number.") from None
    if size < 0:
        raise EngineError("Page size must not be negative.")
    return min(size, 10_000) or default


def page_start(token: Any) -> int:
    """Return the position at which a page starts."""
    if not token:
        return 0
    text = str(token)
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise EngineError(f"Invalid page token: {text[:80]!r}.")
    return int(text)


def file_name(text: Any) -> str:
    """Return a name that is safe inside an archive and in a header.

    Examples
    --------
    >>> file_name("../../a b.tif")
    'a_b.tif'
    """
    last = str(text).rpartition("/")[2]
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in last)
    return kept.lstrip(".")[:200] or "download"


def milliseconds(text: Any) -> int:
    """Return a timestamp of the REST interface as milliseconds since 1970."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise EngineError(f"Invalid timestamp: {str(text)[:80]!r}.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def sized(node: Any) -> bool:
    """Tell whether an expression says how large its picture is (`dimensions`, `scale`)."""
    todo = [node]
    while todo:  # not recursive: a request may be nested deeper than Python calls
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            if item.get("functionName") == "Image.clipToBoundsAndScale":
                given = item.get("arguments") or {}
                if any(key in given for key in ("width", "height", "maxDimension", "scale")):
                    return True
            todo.extend(item.values())
    return False


def constant(value: Any) -> dict[str, Any]:
    """Return the node of a constant."""
    return {"constantValue": value}


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return an expression that calls one function."""
    node = {"functionInvocationValue": {"functionName": name, "arguments": arguments}}
    return {"result": "0", "values": {"0": node}}


def visualized(
    expression: dict[str, Any], bands: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the expression of a visualised image, computed by the engine's own function."""
    if not isinstance(options, Mapping):
        raise EngineError("Invalid JSON payload received: 'visualizationOptions' is no object.")
    values = dict(expression["values"])
    arguments: dict[str, Any] = {"image": {"valueReference": expression["result"]}}
    if bands:
        arguments["bands"] = constant(list(bands))
    ranges = options.get("ranges") or []
    if not isinstance(ranges, list) or not all(isinstance(r, Mapping) for r in ranges):
        raise EngineError("Invalid JSON payload received: 'ranges' is no list of objects.")
    if ranges:
        arguments["min"] = constant([r.get("min", 0) for r in ranges])
        arguments["max"] = constant([r.get("max", 1) for r in ranges])
    gamma = options.get("gamma")
    if gamma is not None:
        value = gamma.get("value", 1) if isinstance(gamma, Mapping) else gamma
        arguments["gamma"] = constant([value])
    palette = options.get("paletteColors")
    if palette:
        if not isinstance(palette, list):
            raise EngineError("Invalid JSON payload received: 'paletteColors' is no list.")
        arguments["palette"] = constant(list(palette))
    opacity = options.get("opacity")
    if opacity is not None:
        arguments["opacity"] = constant(
            opacity.get("value", 1) if isinstance(opacity, Mapping) else opacity
        )
    key = "visualized"
    while key in values:
        key += "_"
    invocation = {"functionName": "Image.visualize", "arguments": arguments}
    values[key] = {"functionInvocationValue": invocation}
    return {"result": key, "values": values}
