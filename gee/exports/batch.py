"""Batch exports for large areas: tasks that the service runs by itself, and what they left.

`submit` starts one task per file of a site; `status` tells how far they are and what they have
cost, `watch` looks by itself until they end; `collect` takes the GeoTIFFs that they left in a
folder (Drive, or a bucket, brought to this machine by whatever means), or reads back the assets
that they left on the service, verifies them against the pinned grid and writes the same files as
an export by pixels. ``batch.json`` beside the tiles remembers the tasks and the images that they
use, so nothing is started twice.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
from numpy.typing import NDArray

from gee.exports import assets, kept, parts
from gee.exports.bare import as_surveyed, nothing
from gee.exports.faults import patiently, words
from gee.exports.fetch import Checkpoint, clear
from gee.exports.meter import LEDGER, Ledger, Meter
from gee.exports.pace import TimeLeft
from gee.exports.products import CATCHMENT, Product, products
from gee.exports.step import finish, identity, surveyed, tag_of
from gee.exports.survey import Survey
from gee.grids import crs_code, crs_transform
from gee.session import connect, describe
from gee.steps import export_settings, settings_digest
from thawslump.bands import BANDS
from thawslump.errors import BackendError, BudgetError, ConfigError, DataError
from thawslump.files import write_json

if TYPE_CHECKING:
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["RECORD", "cancel", "collect", "record", "status", "submit", "watch"]

RECORD = "batch.json"
_LARGEST = 10_000_000_000_000  # pixels; the service has limits of its own
_SHARD = 256  # pixels a side that the service computes at a time
_FILE_BYTES = 2**30  # of one file, uncompressed
_DESCRIPTION = 100  # characters
_DONE = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_AGAIN = frozenset({"FAILED", "CANCELLED"})
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
    """Start the tasks of a site that were not started for the same settings, or failed.

    Parameters
    ----------
    workspace : Workspace
        ``export.method`` says where to: ``drive``, ``cloud_storage`` or ``asset``.
    name : str
        Of a site whose source is Earth Engine.

    Returns
    -------
    dict
        The record: ``tasks`` with ``product``, ``prefix``, ``operation`` and ``attempt``.

    Raises
    ------
    BackendError
        The endpoint cannot be reached or refuses a task.
    BudgetError
        ``export.eecu_budget`` is used up.
    ConfigError
        ``export.method`` is ``pixels``.
    DataError
        The site does not fit the collections, or comes from own files.

    Notes
    -----
    The record is written before the first task is started and after each: a submission that was
    cut off is continued with the same images, and what it had started is found by its description.
    """
    settings = _settings(workspace, name)
    digest = settings_digest(settings)
    config, backend = workspace.config.export, workspace.config.backend
    if config.method == "pixels":
        raise ConfigError(
            "export.method is pixels: tiles are fetched by `thawslump export run`.",
            hint="For batch tasks, set export.method to drive, cloud_storage or asset in "
            "thawslump.yaml.",
        )
    before = record(workspace, name)
    if before is not None and before["settings"] != digest:
        before = None
    where = describe(backend, workspace.catalog)
    with _ledger(workspace) as ledger, connect(backend, workspace.catalog):
        ee.data.setDefaultWorkloadTag(tag_of(workspace, name))
        states: dict[str, str] = {}
        if before is not None:
            for task in before["tasks"]:
                states[task["product"]] = _state(workspace, task, where)["state"]
            if not _AGAIN & set(states.values()) and before.get("complete", True):
                return before
        _refuse_spent(workspace, ledger)
        if before is None:
            meter = Meter(ledger, f"{name}/survey", config.eecu_budget, ask=config.meter)
            found = surveyed(workspace.site(name), config, where, meter, workspace)
            before = {
                "site": name,
                "settings": digest,
                "nonce": uuid.uuid4().hex,
                "method": config.method,
                "destination": config.destination,
                "state": "submitted",
                "complete": False,
                "images": found.images,
                "survey": kept.to_json(found),
                "tasks": [],
            }
            # Before the first task is started: a submission that is cut off is seen, and continued.
            write_json(workspace.tiles(name) / RECORD, before)
            begun: dict[str, str] = {}
        else:
            found = _survey(before)
            begun = {} if before["complete"] else _started()
        # Of a part that nothing shows, nothing is asked.
        wanted = _wanted(workspace, name, found)[1] if found.pictures else []
        if before["method"] == "asset":
            assets.make_folder(str(before["destination"]), where)
        tasks = {task["product"]: task for task in before["tasks"]}
        for product in wanted:
            task = tasks.get(product.name)
            if task is not None and states.get(product.name) not in _AGAIN:
                continue
            prefix = _prefix(name, product, settings)
            attempt = 1 if task is None else int(task.get("attempt", 1)) + 1
            operation = begun.get(prefix[:_DESCRIPTION]) or _start(
                product, prefix, before, attempt, config.priority, where
            )
            tasks[product.name] = {
                "product": product.name,
                "prefix": prefix,
                "operation": operation,
                "attempt": attempt,
            }
            before = {**before, "state": "submitted", "tasks": list(tasks.values())}
            write_json(workspace.tiles(name) / RECORD, before)
    before = {**before, "complete": True}
    write_json(workspace.tiles(name) / RECORD, before)
    return before


def _start(
    product: Product,
    prefix: str,
    kept_: Mapping[str, Any],
    attempt: int,
    priority: int,
    where: str,
) -> str | None:
    """Start a task and return its name; None where its asset is there already."""
    destination = str(kept_["destination"])
    if kept_["method"] == "asset" and assets.find(f"{destination}/{prefix}") is not None:
        return None
    task = _task(product, prefix, str(kept_["method"]), destination, priority)
    # The service starts one task for a request id, however often it is asked.
    request = str(uuid.uuid5(uuid.UUID(str(kept_["nonce"])), f"{prefix}/{attempt}"))
    config = {**task.config, "workloadTag": ee.data.getWorkloadTag()}
    try:
        name = ee.data.exportImage(request, config)["name"]
    except ee.EEException as error:
        raise BackendError(
            f"{where} did not take the export of {product.name} of site {kept_['site']}: "
            f"{words(error)}",
            hint="Correct what it says, then submit again; tasks that were started run on.",
        ) from error
    return str(name)


def _started() -> dict[str, str]:
    """Return the tasks of the project that run or have ended well, by their description."""
    return {
        str(operation["metadata"].get("description")): str(operation["name"])
        for operation in ee.data.listOperations()
        if operation.get("metadata", {}).get("state") not in {*_AGAIN, None}
    }


def status(workspace: Workspace, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tasks of some sites: state, share done where known, and cost so far.

    With ``export.eecu_budget`` set, tasks that still run are cancelled once everything that the
    workspace exported has used it up.

    Returns
    -------
    list of dict
        ``site``, ``product``, ``operation``, ``state``, ``progress`` (0 to 1) and
        ``seconds_left`` (None until the service says), ``eecu_seconds`` (None until it says),
        ``error``.
    """
    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    rows: list[dict[str, Any]] = []
    with _ledger(workspace) as ledger, connect(backend, workspace.catalog):
        for name in names:
            found = record(workspace, name)
            for task in found["tasks"] if found is not None else ():
                row = {"site": name, **_state(workspace, task, where)}
                if row["eecu_seconds"] is not None and row["operation"]:
                    ledger.put(str(row["operation"]), measured=row["eecu_seconds"])
                rows.append(row)
        budget, used = workspace.config.export.eecu_budget, ledger.total()
        if budget is not None and used >= budget:
            for row in rows:
                if row["state"] not in _DONE:
                    # It may have ended since it was looked at.
                    with contextlib.suppress(ee.EEException):
                        ee.data.cancelOperation(row["operation"])
                    row["state"] = "CANCELLING"
                    row["error"] = f"the budget of {budget:g} EECU-seconds is used up ({used:.0f})"
    return rows


def watch(
    workspace: Workspace,
    names: Sequence[str],
    every: float,
    tell: Callable[[list[dict[str, Any]]], None],
    sleep: Callable[[float], None] = time.sleep,
) -> list[dict[str, Any]]:
    """Look at tasks every so often until all have ended, and cancel them at the budget.

    Parameters
    ----------
    workspace : Workspace
    names : sequence of str
    every : float
        Seconds between two looks. The budget is overshot by at most what the tasks under way use
        in this time, and until the service has stopped them.
    tell : callable
        Given what `status` returns, each time that something changed.

    Raises
    ------
    BudgetError
        The budget is used up, and tasks were cancelled.
    """
    told: list[dict[str, Any]] | None = None
    while True:
        rows = status(workspace, names)
        if rows != told:
            tell(rows)
            told = rows
        if any(row["state"] == "CANCELLING" and "budget" in (row["error"] or "") for row in rows):
            with _ledger(workspace) as ledger:
                _refuse_spent(workspace, ledger)
        if all(row["state"] in _DONE for row in rows):
            return rows
        sleep(every)


def cancel(workspace: Workspace, name: str) -> int:
    """Cancel the tasks of a site that still run, and forget them; return how many there were."""
    found = record(workspace, name)
    if found is None:
        return 0
    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    stopped = 0
    with connect(backend, workspace.catalog):
        for task in found["tasks"]:
            if _state(workspace, task, where)["state"] not in _DONE:
                ee.data.cancelOperation(task["operation"])
                stopped += 1
    (workspace.tiles(name) / RECORD).unlink(missing_ok=True)
    return stopped


def collect(
    workspace: Workspace, name: str, folder: Path | None, progress: Progress
) -> dict[str, float | int | str]:
    """Make the files of a site from what its tasks left: files in a folder, or assets.

    Parameters
    ----------
    workspace : Workspace
    name : str
    folder : Path or None
        Searched with its subfolders for files that begin with the prefixes of the tasks. None for
        tasks that wrote assets, whose pixels are fetched.
    progress : callable

    Returns
    -------
    dict
        ``files`` read (or assets), ``pixels``.

    Raises
    ------
    BackendError
        An asset cannot be read.
    DataError
        Nothing was submitted; files are missing, twice there, or on another grid; part of the area
        is not covered (which part).
    """
    found = record(workspace, name)
    settings = _settings(workspace, name)
    if found is None or found["settings"] != settings_digest(settings):
        changed = "its settings changed since" if found is not None else "nothing was submitted"
        raise DataError(
            f"Site {name}: {changed}; files of other settings would not fit.",
            hint=f"Start the tasks with: thawslump export submit --site {name}",
        )
    stored = found["method"] == "asset"
    if not stored and folder is None:
        raise DataError(
            f"Site {name}: its tasks write files to {found['destination']}, and no folder with "
            "them was given.",
            hint="Bring the files to this machine, then: thawslump export fetch --from FOLDER",
        )
    if not stored and folder is not None and not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}.", hint="Give the folder that holds the exported files."
        )
    backend = workspace.config.backend
    prefixes = {task["product"]: task["prefix"] for task in found["tasks"]}
    files = 0
    with _ledger(workspace) as ledger, connect(backend, workspace.catalog):
        ee.data.setDefaultWorkloadTag(tag_of(workspace, name))
        used = _survey(found)
        site, wanted = _wanted(workspace, name, used)
        sizes = {one.name: one.grid.shape[0] * one.grid.shape[1] for one in wanted}
        left, done = TimeLeft(sum(sizes.values())), 0

        def advance(pixels: int, product: str, again: bool = False) -> None:
            nonlocal done
            done += pixels
            left.done(pixels, again)
            said = (f"reading {product}", f"{done / 1e6:.2f} of {left.total / 1e6:.2f} Mpx")
            progress(0.95 * done / left.total, ", ".join(w for w in (*said, left.words()) if w))

        def assembled() -> Iterator[NDArray[Any]]:
            nonlocal files
            for product in wanted:
                if _prefix(name, product, settings) != prefixes.get(product.name):
                    raise DataError(
                        f"Site {name}: what {product.name} is made of is not what was submitted "
                        "(another version of the scripts).",
                        hint="Submit again: thawslump export cancel, then thawslump export submit.",
                    )
                progress(0.95 * done / left.total, f"reading {product.name}")
                checkpoint = Checkpoint(
                    workspace.tiles(name) / "checkpoint" / product.name,
                    identity(product, settings),
                )
                if stored:
                    files += 1
                    asset = f"{found['destination']}/{prefixes[product.name]}"
                    meter = Meter(
                        ledger,
                        f"{name}/{product.name}",
                        workspace.config.export.eecu_budget,
                        ask=workspace.config.export.meter,
                    )
                    yield assets.read_back(workspace, product, asset, checkpoint, meter, advance)
                else:
                    assert folder is not None
                    paths = _files(folder, prefixes[product.name])
                    files += len(paths)
                    yield parts.assembled(
                        paths, product, checkpoint, partial(advance, product=product.name)
                    )

        arrays = assembled() if used.pictures else nothing(wanted)
        pixels = finish(workspace, site, used, wanted, arrays)
    clear(workspace.tiles(name) / "checkpoint")
    write_json(workspace.tiles(name) / RECORD, {**found, "state": "collected"})
    progress(1.0, "done")
    return {"files": files, "pixels": pixels}


@contextlib.contextmanager
def _ledger(workspace: Workspace) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(workspace.root / "tiles" / LEDGER)) as ledger:
        yield ledger


def _wanted(workspace: Workspace, name: str, found: Survey) -> tuple[Site, list[Product]]:
    """Return a site as it was surveyed, and its files."""
    site = as_surveyed(workspace.site(name), found)
    return site, [p for p in products(site, found) if found.pictures or p.name != CATCHMENT]


def _refuse_spent(workspace: Workspace, ledger: Ledger) -> None:
    budget, used = workspace.config.export.eecu_budget, ledger.total()
    if budget is not None and used >= budget:
        raise BudgetError(
            f"The budget of {budget:g} EECU-seconds is used up: the exports of this workspace have "
            f"cost {used:.4g}.",
            hint="Raise export.eecu_budget in thawslump.yaml and submit again: tasks that were "
            "cancelled are started anew, finished ones are not.",
        )


def _survey(found: Mapping[str, Any]) -> Survey:
    try:
        return kept.from_json(found["survey"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"Site {found['site']}: {RECORD} does not say which images its tasks use.",
            hint="Submit again: thawslump export cancel, then thawslump export submit.",
        ) from error


def _settings(workspace: Workspace, name: str) -> dict[str, Any]:
    site = workspace.site(name)
    if site.source != "earthengine":
        raise DataError(
            f"Site {name} comes from own files; there is nothing to export.",
            hint="Choose a site whose source is earthengine.",
        )
    return export_settings(workspace, site)


def _prefix(name: str, product: Product, settings: dict[str, Any]) -> str:
    return f"{name}_{product.name}_{identity(product, settings)[:12]}"


def _task(product: Product, prefix: str, method: str, destination: str, priority: int) -> Any:
    rows, cols = (int(side) for side in product.grid.shape)
    common: dict[str, Any] = {
        "description": prefix[:_DESCRIPTION],
        # With these three the client asks for exactly this rectangle of exactly this grid.
        "crs": crs_code(product.grid),
        "crsTransform": crs_transform(product.grid),
        "dimensions": f"{cols}x{rows}",
        "maxPixels": _LARGEST,
    }
    if priority != 100:
        common["priority"] = priority
    if method == "asset":
        # Masks stay masks: a stand-in for nodata would be averaged into the pyramid.
        typed = product.image.toFloat() if product.dtype == "float32" else product.image.toUint16()
        classes = [name for name in product.bands if name in BANDS and BANDS[name].categorical]
        return ee.batch.Export.image.toAsset(
            image=typed,
            assetId=f"{destination}/{prefix}",
            pyramidingPolicy={".default": "mean", **dict.fromkeys(classes, "mode")},
            **common,
        )
    files = {
        "image": product.filled,
        "fileNamePrefix": prefix,
        "fileFormat": "GeoTIFF",
        "shardSize": _SHARD,
        "formatOptions": {"cloudOptimized": True, "noData": product.fill},
        **common,
    }
    side = max(_SHARD, math.isqrt(_FILE_BYTES // product.pixel_bytes) // _SHARD * _SHARD)
    if max(rows, cols) > side:
        files["fileDimensions"] = side
    if method == "cloud_storage":
        return ee.batch.Export.image.toCloudStorage(bucket=destination, **files)
    return ee.batch.Export.image.toDrive(folder=destination, **files)


def _state(workspace: Workspace, task: dict[str, Any], where: str) -> dict[str, Any]:
    row = {
        "product": task["product"],
        "operation": task["operation"],
        "state": "SUCCEEDED",
        "progress": 1.0,
        "seconds_left": None,
        "eecu_seconds": None,
        "error": None,
    }
    if task["operation"] is None:
        return row  # its asset was there
    config = workspace.config.export
    operation = patiently(
        lambda: ee.data.getOperation(task["operation"]),
        where=where,
        retries=config.retries,
        backoff=config.backoff,
    )
    metadata = operation.get("metadata", {})
    used = metadata.get("batchEecuUsageSeconds")
    return row | {
        "state": metadata.get("state", "UNKNOWN"),
        "progress": metadata.get("progress"),
        "seconds_left": _seconds_left(metadata),
        "eecu_seconds": None if used is None else float(used),
        "error": operation.get("error", {}).get("message"),
    }


def _seconds_left(metadata: Mapping[str, Any]) -> float | None:
    """Return about how long a task still runs, from the share that is done and since when.

    Examples
    --------
    >>> _seconds_left({"state": "RUNNING", "progress": 0.25, "startTime": "2024-05-01T10:00:00Z",
    ...                "updateTime": "2024-05-01T10:01:00Z"})
    180.0
    """
    share = metadata.get("progress")
    if metadata.get("state") != "RUNNING" or not share or not 0 < share < 1:
        return None
    try:
        begun, looked = (
            dt.datetime.fromisoformat(str(metadata[key]).replace("Z", "+00:00"))
            for key in ("startTime", "updateTime")
        )
    except (KeyError, ValueError):
        return None
    return float((looked - begun).total_seconds() * (1 - share) / share)


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
