"""Tables: computed features in pages, downloads, and the features of assets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..messages import Response
from .requests import expression_of, file_name, page_size, page_start

if TYPE_CHECKING:
    from ..protocol import Endpoint

__all__ = [
    "assets_list_features",
    "features_of",
    "table_compute_features",
    "tables_create",
    "tables_get_features",
]


def table_compute_features(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with a page of computed features."""
    body = arguments["body"]
    size = page_size(body.get("pageSize"))
    token = body.get("pageToken") or None
    if token is not None and not isinstance(token, str):
        raise EngineError(f"Invalid page token: {str(token)[:80]!r}.")
    with endpoint.computing():
        value = endpoint.evaluator.evaluate(expression_of(body))
        features, token = endpoint.evaluator.feature_pages(value, size, token)
    out: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if token:
        out["nextPageToken"] = token
    return out


def tables_create(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep what a download asks for, and answer with its name."""
    body = arguments["body"]
    with endpoint.computing():
        # As in Earth Engine, a wrong expression fails here and not at the download.
        endpoint.evaluator.evaluate(expression_of(body))
    return {"name": f"{arguments['parent']}/tables/{endpoint.store.remember('tables', body)}"}


def tables_get_features(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Answer with a table as a file."""
    from ..tables import FORMATS, encode_table, selectors_of

    body = endpoint.recalled("tables", arguments["name"])
    file_format = body.get("fileFormat") or "CSV"
    with endpoint.computing():
        value = endpoint.evaluator.evaluate(expression_of(body))
        ending, kind = FORMATS.get(file_format, ("", ""))
        stem = file_name(body.get("filename") or "table").removesuffix(ending)
        content = encode_table(features_of(endpoint, value), file_format, selectors_of(body), stem)
    shown = {"Content-Disposition": f'attachment; filename="{stem}{ending}"'}
    return Response(200, content, kind, shown)


def features_of(endpoint: Endpoint, value: Any) -> Iterator[dict[str, Any]]:
    """Yield the GeoJSON features of a computed collection."""
    token = None
    while True:
        features, token = endpoint.evaluator.feature_pages(value, 5000, token)
        yield from features
        if not token:
            return


def assets_list_features(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with a page of the features of a table asset, filtered by properties and region."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    from ..assetfilter import property_matcher

    asset = endpoint.asset(arguments["asset"])
    if asset.type != "TABLE":
        raise EngineError(f"Asset '{asset.id}' is not a table.")
    size = page_size(arguments.get("pageSize"))
    start = page_start(arguments.get("pageToken"))
    keep = property_matcher(arguments.get("filter") or "")
    try:
        region = shape(json.loads(arguments["region"])) if arguments.get("region") else None
    except (ValueError, KeyError, TypeError, AttributeError, ShapelyError) as error:
        raise EngineError(f"The region is no GeoJSON geometry ({error}).") from None
    found: list[dict[str, Any]] = []
    features = endpoint.catalog.features(asset.id)
    end = None
    for position in range(start, len(features)):
        feature = features[position]
        if not keep(feature["properties"]):
            continue
        geometry = feature["geometry"]
        if region is not None and not (geometry and shape(geometry).intersects(region)):
            continue
        if len(found) == size:
            end = position
            break
        found.append(feature)
    out: dict[str, Any] = {"type": "FeatureCollection", "features": found}
    if end is not None:
        out["nextPageToken"] = str(end)
    return out
