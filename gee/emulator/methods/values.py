"""Values: the list of functions, `value:compute` and the images of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..discovery import algorithms
from ..errors import EngineError
from ..messages import Response
from .requests import expression_of, page_size, page_start

if TYPE_CHECKING:
    from ..protocol import Endpoint

__all__ = ["algorithms_list", "image_collection_compute_images", "value_compute"]


def algorithms_list(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Answer with the signatures of all functions."""
    return Response(200, algorithms())


def value_compute(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Compute what `getInfo` asks for."""
    expression = expression_of(arguments["body"])
    with endpoint.computing():
        value = endpoint.evaluator.evaluate(expression)
        return {"result": endpoint.evaluator.to_json(value)}


def image_collection_compute_images(
    endpoint: Endpoint, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Answer with a page of the images of a computed collection."""
    body = arguments["body"]
    size, start = page_size(body.get("pageSize")), page_start(body.get("pageToken"))
    with endpoint.computing():
        value = endpoint.evaluator.evaluate(expression_of(body))
        shown = endpoint.evaluator.to_json(value)
    if not isinstance(shown, dict) or shown.get("type") != "ImageCollection":
        raise EngineError("Expression does not evaluate to an image collection.")
    images = shown.get("features", [])
    out: dict[str, Any] = {"images": images[start : start + size]}
    if len(images) > start + size:
        out["nextPageToken"] = str(start + size)
    return out
