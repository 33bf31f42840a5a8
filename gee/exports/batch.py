"""Batch exports for large areas: tasks that the service runs by itself, and what they left.

`submit` starts one task per file of a site; `status` tells how far they are and what they have
cost; `collect` takes the GeoTIFFs that they left in a folder (Drive, or a bucket, brought to this
machine by whatever means), verifies them against the pinned grid and writes the same files as an
export by pixels. ``batch.json`` beside the tiles remembers the tasks, so nothing is started twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
import numpy as np
from numpy.typing import NDArray

from gee.exports.faults import patiently, words
from gee.exports.fetch import Checkpoint, canvas, clear
from gee.exports.products import Product, products
from gee.exports.step import finish, identity
from gee.exports.survey import Survey, survey
from gee.grids import crs_code, crs_transform
from gee.session import connect, describe
from gee.steps import export_settings, settings_digest
from thawslump.errors import BackendError, ConfigError, DataError
from thawslump.files import write_json

if TYPE_CHECKING:
    from rasterio import DatasetReader

    from thawslump.workspace import Workspace

__all__ = ["RECORD", "cancel", "collect", "record", "status", "submit"]

RECORD = "batch.json"
_LARGEST = 10_000_000_000_000  # pixels; the service has limits of its own
_DONE = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
Progress = Callable[[float, str], None]


def record(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return what is remembered of the tasks of a site, or None."""
    path = workspace.tiles(name) / RECORD
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise DataError(
            f"{path} is damaged: {problem}.",
            hint="Remove it and submit again; tasks that run already show in the task list of the "
            "project.",
        ) from problem
    return found


def submit(workspace: Workspace, name: str) -> dict[str, Any]:
    """Start the tasks of a site, unless they were started for the same settings already.

    Parameters
    ----------
    workspace : Workspace
        ``export.method`` says where to: ``drive`` or ``cloud_storage``.
    name : str
        Of a site whose source is Earth Engine.

    Returns
    -------
    dict
        The record: ``tasks`` with ``product``, ``prefix`` and ``operation``.

    Raises
    ------
    BackendError
        The endpoint cannot be reached or refuses a task.
    ConfigError
        ``export.method`` is ``pixels``.
    DataError
        The site does not fit the collections, or comes from own files.
    """
    settings = _settings(workspace, name)
    digest = settings_digest(settings)
    before = record(workspace, name)
    if before is not None and before["settings"] == digest:
        return before
    config, backend = workspace.config.export, workspace.config.backend
    if config.method == "pixels":
        raise ConfigError(
            "export.method is pixels: tiles are fetched by `thawslump export run`.",
            hint="For batch tasks, set export.method to drive or cloud_storage in thawslump.yaml.",
        )
    where = describe(backend, workspace.catalog)
    tasks = []
    with connect(backend, workspace.catalog):
        found, wanted = _asked(workspace, name, where)
        for product in wanted:
            prefix = _prefix(name, product, settings)
            task = _task(product, prefix, config.method, config.destination)
            try:
                task.start()
            except ee.EEException as error:
                raise BackendError(
                    f"{where} did not take the export of {product.name} of site {name}: "
                    f"{words(error)}",
                    hint="Correct what it says, then submit again; tasks that were started run on.",
                ) from error
            tasks.append({"product": product.name, "prefix": prefix, "operation": task.name})
    kept = {
        "site": name,
        "settings": digest,
        "method": config.method,
        "destination": config.destination,
        "state": "submitted",
        "images": found.images,
        "tasks": tasks,
    }
    write_json(workspace.tiles(name) / RECORD, kept)
    return kept


def status(workspace: Workspace, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tasks of some sites: state, share done where known, and cost so far.

    With ``export.eecu_budget`` set, tasks that still run are cancelled once all tasks together have
    used it up.

    Returns
    -------
    list of dict
        ``site``, ``product``, ``state``, ``eecu_seconds`` (None until the service says), ``error``.
    """
    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    rows: list[dict[str, Any]] = []
    with connect(backend, workspace.catalog):
        for name in names:
            kept = record(workspace, name)
            for task in kept["tasks"] if kept is not None else ():
                rows.append({"site": name, **_state(workspace, task, where)})
        budget = workspace.config.export.eecu_budget
        used = sum(row["eecu_seconds"] or 0.0 for row in rows)
        if budget is not None and used >= budget:
            for row in rows:
                if row["state"] not in _DONE:
                    ee.data.cancelOperation(row["operation"])
                    row["state"] = "CANCELLING"
                    row["error"] = f"the budget of {budget:g} EECU-seconds is used up ({used:.0f})"
    return rows


def cancel(workspace: Workspace, name: str) -> int:
    """Cancel the tasks of a site that still run, and forget them; return how many there were."""
    kept = record(workspace, name)
    if kept is None:
        return 0
    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    stopped = 0
    with connect(backend, workspace.catalog):
        for task in kept["tasks"]:
            if _state(workspace, task, where)["state"] not in _DONE:
                ee.data.cancelOperation(task["operation"])
                stopped += 1
    (workspace.tiles(name) / RECORD).unlink(missing_ok=True)
    return stopped


def collect(
    workspace: Workspace, name: str, folder: Path, progress: Progress
) -> dict[str, float | int | str]:
    """Make the files of a site from the GeoTIFFs that its tasks left in a folder.

    Parameters
    ----------
    workspace : Workspace
    name : str
    folder : Path
        Searched with its subfolders for files that begin with the prefixes of the tasks.
    progress : callable

    Returns
    -------
    dict
        ``files`` read, ``pixels``.

    Raises
    ------
    DataError
        Nothing was submitted; files are missing, twice there, or on another grid; part of the area
        is not covered (which part).
    """
    kept = record(workspace, name)
    settings = _settings(workspace, name)
    if kept is None or kept["settings"] != settings_digest(settings):
        changed = "its settings changed since" if kept is not None else "nothing was submitted"
        raise DataError(
            f"Site {name}: {changed}; files of other settings would not fit.",
            hint=f"Start the tasks with: thawslump export submit --site {name}",
        )
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}.", hint="Give the folder that holds the exported files."
        )
    backend = workspace.config.backend
    prefixes = {task["product"]: task["prefix"] for task in kept["tasks"]}
    files = 0
    with connect(backend, workspace.catalog):
        found, wanted = _asked(workspace, name, describe(backend, workspace.catalog))

        def assembled() -> Iterator[NDArray[Any]]:
            nonlocal files
            for number, product in enumerate(wanted):
                if _prefix(name, product, settings) != prefixes.get(product.name):
                    raise DataError(
                        f"Site {name}: what {product.name} is made of is not what was submitted "
                        "(other images, or another version of the scripts).",
                        hint="Submit again: thawslump export cancel, then thawslump export submit.",
                    )
                progress(number / len(wanted), f"reading {product.name}")
                paths = _files(folder, prefixes[product.name])
                files += len(paths)
                checkpoint = Checkpoint(
                    workspace.tiles(name) / "checkpoint" / product.name,
                    identity(product, settings),
                )
                yield _assembled(paths, product, checkpoint)

        pixels = finish(workspace, workspace.site(name), found, wanted, assembled())
    clear(workspace.tiles(name) / "checkpoint")
    write_json(workspace.tiles(name) / RECORD, {**kept, "state": "collected"})
    progress(1.0, "done")
    return {"files": files, "pixels": pixels}


def _settings(workspace: Workspace, name: str) -> dict[str, Any]:
    site = workspace.site(name)
    if site.source != "earthengine":
        raise DataError(
            f"Site {name} comes from own files; there is nothing to export.",
            hint="Choose a site whose source is earthengine.",
        )
    return export_settings(workspace, site)


def _asked(workspace: Workspace, name: str, where: str) -> tuple[Survey, list[Product]]:
    config = workspace.config.export
    site = workspace.site(name)
    found = survey(
        site,
        lambda ask: patiently(ask, where=where, retries=config.retries, backoff=config.backoff),
    )
    return found, products(site, found)


def _prefix(name: str, product: Product, settings: dict[str, Any]) -> str:
    return f"{name}_{product.name}_{identity(product, settings)[:12]}"


def _task(product: Product, prefix: str, method: str, destination: str) -> Any:
    a = crs_transform(product.grid)
    rows, cols = product.grid.shape
    # In the grid's own pixels, so that no rounding of coordinates adds a row or column.
    whole = ee.Geometry.Rectangle(
        [0, 0, cols, rows], ee.Projection(crs_code(product.grid), a), False
    )
    common = {
        "image": product.filled,
        "description": prefix[:100],
        "fileNamePrefix": prefix,
        "region": whole,
        "crs": crs_code(product.grid),
        "crsTransform": a,
        "maxPixels": _LARGEST,
        "fileFormat": "GeoTIFF",
    }
    if method == "cloud_storage":
        return ee.batch.Export.image.toCloudStorage(bucket=destination, **common)
    return ee.batch.Export.image.toDrive(folder=destination, **common)


def _state(workspace: Workspace, task: dict[str, Any], where: str) -> dict[str, Any]:
    config = workspace.config.export
    operation = patiently(
        lambda: ee.data.getOperation(task["operation"]),
        where=where,
        retries=config.retries,
        backoff=config.backoff,
    )
    metadata = operation.get("metadata", {})
    used = metadata.get("batchEecuUsageSeconds")
    return {
        "product": task["product"],
        "operation": task["operation"],
        "state": metadata.get("state", "UNKNOWN"),
        "progress": metadata.get("progress"),
        "eecu_seconds": None if used is None else float(used),
        "error": operation.get("error", {}).get("message"),
    }


def _files(folder: Path, prefix: str) -> list[Path]:
    """Return the files of a task: one, or several named by their first row and column."""
    found = sorted(
        path
        for path in folder.rglob(f"{prefix}*.tif")
        if path.stem == prefix or path.stem[len(prefix) :].startswith("-")
    )
    if not found:
        there = sorted(path.name for path in folder.rglob("*.tif"))
        raise DataError(
            f"{folder} has no file {prefix}*.tif; it has {len(there)} other GeoTIFFs"
            + (f", {', '.join(there[:3])} among them." if there else "."),
            hint="See with `thawslump export status` whether the task is done, and copy its files "
            "there.",
        )
    return found


def _assembled(paths: list[Path], product: Product, checkpoint: Checkpoint) -> NDArray[Any]:
    """Return a product from its files, shape (band, y, x); every pixel covered exactly once."""
    import rasterio

    rows, cols = product.grid.shape
    array = canvas(checkpoint, (len(product.bands), rows, cols), product.dtype)
    covered = np.zeros((rows, cols), np.uint8)
    for path in paths:
        with rasterio.open(path) as source:
            row, col = _place(source, path, product)
            for _, window in source.block_windows(1):
                # What reaches beyond the pinned grid is not part of it.
                top, left = max(row + window.row_off, 0), max(col + window.col_off, 0)
                bottom = min(row + window.row_off + window.height, rows)
                right = min(col + window.col_off + window.width, cols)
                if top >= bottom or left >= right:
                    continue
                part = rasterio.windows.Window(left - col, top - row, right - left, bottom - top)
                pixels = source.read(window=part)
                if product.dtype == "float32":
                    empty = (pixels == np.float32(product.fill)) | ~np.isfinite(pixels)
                    pixels = np.where(empty, np.float32(np.nan), pixels)
                array[:, top:bottom, left:right] = pixels
                covered[top:bottom, left:right] += 1
    if (covered > 1).any():
        raise DataError(
            f"{product.name}: {int((covered > 1).sum())} pixels are in more than one of "
            f"{', '.join(path.name for path in paths)}.",
            hint="A task that was run twice leaves its files twice: remove one set.",
        )
    if not covered.all():
        row, col = np.argwhere(covered == 0)[0]
        raise DataError(
            f"{product.name}: {int((covered == 0).sum())} of {rows * cols} pixels are in none of "
            f"the {len(paths)} files, the first at row {row}, column {col}.",
            hint="Copy all files of the task, or wait until it is done.",
        )
    return array


def _place(source: DatasetReader, path: Path, product: Product) -> tuple[int, int]:
    """Return row and column of a file's first pixel in the pinned grid; refuse another grid."""
    grid = product.grid
    ours, theirs = grid.transform, source.transform
    assert grid.crs is not None
    if source.crs is None or grid.crs != source.crs.to_wkt():
        raise DataError(
            f"{path.name} is in {source.crs}, the site in {crs_code(grid)}.",
            hint="It is no file of this task.",
        )
    same_step = all(abs(getattr(ours, k) - getattr(theirs, k)) < 1e-9 * abs(ours.a) for k in "abde")
    col, row = ~ours @ (theirs.c, theirs.f)
    if not same_step or abs(col - round(col)) > 1e-4 or abs(row - round(row)) > 1e-4:
        raise DataError(
            f"{path.name} has the transform {list(theirs)[:6]}, which does not fit the site's "
            f"{list(ours)[:6]}.",
            hint="It is no file of this task.",
        )
    if source.count != len(product.bands) or set(source.dtypes) != {product.dtype}:
        raise DataError(
            f"{path.name} has {source.count} bands of {', '.join(sorted(set(source.dtypes)))}; "
            f"{product.name} has {len(product.bands)} of {product.dtype}.",
            hint="It is no file of this task.",
        )
    return round(row), round(col)
