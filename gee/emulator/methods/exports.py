"""Exports: checked and queued here, run in the background by `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .pixels import band_infos, canvas_of, grid_of, windows_of
from .requests import expression_of
from .tables import features_of

if TYPE_CHECKING:
    from ..operations import Job
    from ..protocol import Endpoint

__all__ = ["classifier_export", "image_export", "map_export", "run", "table_export"]


def image_export(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Queue an export of an image to files or to an asset."""
    from ..exporting import check_image_export

    body = arguments["body"]
    expression_of(body)
    check_image_export(body, endpoint.exports)
    _check_asset_destination(endpoint, body)
    endpoint.evaluator.check(body["expression"])
    return endpoint.operations.submit(arguments["project"], "EXPORT_IMAGE", body)


def table_export(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Queue an export of a table to a file or to an asset."""
    from ..exporting import check_table_export
    from ..tables import selectors_of

    body = arguments["body"]
    expression_of(body)
    check_table_export(body, endpoint.exports)
    selectors_of(body)
    _check_asset_destination(endpoint, body)
    endpoint.evaluator.check(body["expression"])
    return endpoint.operations.submit(arguments["project"], "EXPORT_FEATURES", body)


def map_export(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Queue an export of map tiles."""
    from ..maptiles import check_map_export

    body = arguments["body"]
    expression_of(body)
    check_map_export(body, endpoint.exports)
    endpoint.evaluator.check(body["expression"])
    return endpoint.operations.submit(arguments["project"], "EXPORT_TILES", body)


def classifier_export(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Queue an export of a classifier to an asset."""
    from ..exporting import _asset_name

    body = arguments["body"]
    expression_of(body)
    _asset_name(body.get("assetExportOptions") or {})
    _check_asset_destination(endpoint, body)
    endpoint.evaluator.check(body["expression"])
    return endpoint.operations.submit(arguments["project"], "EXPORT_CLASSIFIER", body)


def _check_asset_destination(endpoint: Endpoint, body: dict[str, Any]) -> None:
    from ..exporting import _asset_name
    from .assets import check_parent

    options = body.get("assetExportOptions")
    if options is None:
        return
    # That the asset is there already fails the export when it runs: a repeated request, which the
    # client sends again with its `requestId`, must find its operation and not its own result.
    name = _asset_name(options)
    endpoint.catalog.get(name)
    check_parent(endpoint, name)


def run(endpoint: Endpoint, job: Job) -> list[str]:
    """Do the work of an operation; return the addresses of what it made.

    Raises
    ------
    EngineError
        What was asked for cannot be computed or written.
    Cancelled
        The operation was cancelled meanwhile.
    """
    from ..budget import Budget, limited

    # Exports take as long as they take; what they may hold is bounded as for any request.
    with limited(Budget(None)):
        return _run(endpoint, job)


def _run(endpoint: Endpoint, job: Job) -> list[str]:
    from ..exporting import export_image, export_table

    endpoint.check_budget(job.project)
    if job.kind in ("INGEST_IMAGE", "INGEST_TABLE"):
        from .imports import run_import

        return run_import(endpoint, job)
    if job.kind == "EXPORT_FEATURES":
        value = endpoint.evaluator.evaluate(expression_of(job.body))
        return export_table(job, endpoint.catalog, endpoint.exports, features_of(endpoint, value))
    if job.kind == "EXPORT_CLASSIFIER":
        from ..exporting import export_classifier

        value = endpoint.evaluator.evaluate(expression_of(job.body))
        return export_classifier(job, endpoint.catalog, value)
    image = endpoint.image(job.body)
    if job.kind == "EXPORT_TILES":
        from ..maptiles import export_tiles
        from .pictures import map_tile, tile_grid

        return export_tiles(
            job,
            endpoint.exports,
            endpoint.limits,
            image,
            lambda z, x, y, body: map_tile(endpoint, body, image, tile_grid(z, x, y)),
        )
    grid = grid_of(image, job.body.get("grid"))
    bands = band_infos(image, None)
    return export_image(
        job,
        endpoint.catalog,
        endpoint.exports,
        endpoint.limits,
        bands,
        canvas_of(grid),
        windows_of(endpoint, image, grid, bands),
        dict(getattr(image, "properties", {}) or {}),
    )
