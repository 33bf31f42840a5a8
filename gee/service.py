"""What the endpoint of a workspace says of itself: does it answer, for which project, how much.

``python -m gee.service ROOT`` writes one JSON line per check; `thawslump doctor` runs it as a
process of its own, so that nothing can make it hang.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.errors import BackendError, ThawslumpError

if TYPE_CHECKING:
    from gee.config import BackendConfig
    from thawslump.workspace import Workspace

__all__ = ["main", "project_words", "quota_words", "service"]

Row = dict[str, str]
_REGISTER = "https://code.earthengine.google.com/register?project={}"
_TIERS = (
    "which tier the project has (Community, Contributor, Partner: 150, 1,000, 100,000 EECU-hours a "
    "month as documented) the interface does not tell"
)
_TIERS_WHERE = (
    "The tier stands on the project's Earth Engine page: "
    "https://console.cloud.google.com/earth-engine/configuration?project={}"
)
_DAILY_WHERE = (
    "Limits stand at https://console.cloud.google.com/iam-admin/quotas?project={} "
    "(metric earthengine.googleapis.com/daily_eecu_usage_time)"
)


def service(workspace: Workspace) -> list[Row]:
    """Ask the endpoint that a workspace's settings name.

    Parameters
    ----------
    workspace : Workspace

    Returns
    -------
    list of dict
        ``name``, ``state`` (ok, warn or fail), ``words`` and ``remedy``, as
        `thawslump.doctor.Check`. Whatever the service refuses is a row, never an error.
    """
    from gee.session import connect, describe

    backend = workspace.config.backend
    where = describe(backend, workspace.catalog)
    if backend.kind == "emulator" and backend.url is None and not workspace.catalog.is_dir():
        return [
            _row(
                "backend", "ok", f"the workspace's own emulator; no {workspace.catalog} yet",
                "Fill it with `thawslump emulator ingest`, or set backend.kind to earthengine.",
            )
        ]  # fmt: skip
    begun = time.monotonic()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with connect(backend, workspace.catalog):
                took = time.monotonic() - begun
                found = [_row("backend", "ok", f"{where} answers ({took:.1f} s)")]
                if backend.kind == "earthengine":
                    found += _live(backend)
                else:
                    found += _emulator(workspace)
    except BackendError as error:
        # Without an answer only exports wait; a refusal stays one until somebody acts.
        state = "warn" if "cannot be reached" in error.message else "fail"
        return [_row("backend", state, error.message, error.hint or "")]
    for warning in caught:
        if "restricted mode" in str(warning.message):
            found.append(
                _row(
                    "quota", "warn", str(warning.message).partition(" Visit")[0],
                    "Exports are slow until the month ends; another tier has more.",
                )
            )  # fmt: skip
    return found


def _row(name: str, state: str, words: str, remedy: str = "") -> Row:
    return {"name": name, "state": state, "words": words, "remedy": remedy}


def _live(backend: BackendConfig) -> list[Row]:
    import ee

    project = str(backend.project)
    config, words = _asked(ee.data.getProjectConfig)
    if config is None:
        found = [
            _row(
                "project", "warn", f"{project}: its settings cannot be read: {words}",
                "The account needs the permission earthengine.config.get (any Earth Engine role).",
            )
        ]  # fmt: skip
    else:
        found = [project_words(project, config)]
    storage, _ = _asked(lambda: ee.data.getAssetRootQuota(f"projects/{project}/assets"))
    found.append(quota_words(project, config or {}, storage))
    found.append(_endpoints(backend))
    return found


def _asked(question: Callable[[], Any]) -> tuple[Any, str]:
    from gee.exports.faults import words

    try:
        return question(), ""
    except Exception as error:  # anything: the next question may be answered
        return None, words(error)


def project_words(project: str, config: dict[str, Any]) -> Row:
    """Say whether and for what a project is registered.

    Parameters
    ----------
    project : str
    config : dict
        `ProjectConfig` of the REST interface.

    Examples
    --------
    >>> project_words("p", {"registrationState": "REGISTERED_NOT_COMMERCIALLY"})["words"]
    'p: registered for noncommercial use'
    """
    state = config.get("registrationState", "REGISTRATION_STATE_UNSPECIFIED")
    if state == "NOT_REGISTERED":
        words = f"{project}: not registered for Earth Engine"
        return _row("project", "fail", words, f"Register it: {_REGISTER.format(project)}")
    told = {
        "REGISTERED_COMMERCIALLY": "registered for commercial use: computing is billed",
        "REGISTERED_NOT_COMMERCIALLY": "registered for noncommercial use",
    }
    if state in told:
        return _row("project", "ok", f"{project}: {told[state]}")
    words = f"{project}: usable, but the service does not say how it is registered"
    return _row("project", "ok", words, f"It stands at {_REGISTER.format(project)}")


def quota_words(project: str, config: dict[str, Any], storage: dict[str, Any] | None) -> Row:
    """Say what is known of a project's quota, and where the rest stands.

    Parameters
    ----------
    project : str
    config : dict
        `ProjectConfig` of the REST interface; its fields may be absent.
    storage : dict or None
        As `ee.data.getAssetRootQuota` answers.

    Examples
    --------
    >>> print(quota_words("p", {"maxConcurrentExports": "2"}, None)["words"])
    2 batch tasks at a time; asset storage unknown; compute quota not told by the interface
    """
    parts = []
    most, plan = config.get("maxConcurrentExports"), config.get("planMaxConcurrentExports")
    if most is None:
        parts.append("batch tasks at a time: not told")
    else:
        whole = f" (the plan allows {plan})" if plan not in (None, most) else ""
        parts.append(f"{most} batch tasks at a time{whole}")
    full = False
    if storage is None:
        parts.append("asset storage unknown")
    else:
        size = storage["asset_size"]
        full = bool(size["limit"]) and size["usage"] > 0.95 * size["limit"]
        parts.append(
            f"asset storage {size['usage'] / 2**30:.1f} of {size['limit'] / 2**30:.0f} GiB"
        )
    state = config.get("registrationState")
    if state == "REGISTERED_NOT_COMMERCIALLY":
        parts.append(_TIERS)
        where = _TIERS_WHERE
    else:
        parts.append("compute quota not told by the interface")
        where = _DAILY_WHERE
    remedy = "Remove assets that are no longer needed. " if full else ""
    return _row("quota", "warn" if full else "ok", "; ".join(parts), remedy + where.format(project))


def _endpoints(backend: BackendConfig) -> Row:
    from gee.session import aimed

    usual, stored = backend.address("computed"), backend.address("stored")
    if usual == stored:
        why = "backend.url" if backend.url is not None else f"backend.endpoint: {backend.endpoint}"
        return _row("endpoint", "ok", f"{usual} for everything ({why})")
    try:
        with aimed(backend, "stored"):
            pass
    except BackendError as error:
        return _row("endpoint", "warn", error.message, error.hint or "")
    return _row("endpoint", "ok", f"{usual} for computed pixels, {stored} for stored ones")


def _emulator(workspace: Workspace) -> list[Row]:
    import ee

    backend = workspace.config.backend
    from thawslump import __version__

    version = f"thawslump {__version__}, in this process"
    if backend.url is not None:
        version = _version(str(backend.address()), backend.timeout)
    listed, words = _asked(
        lambda: ee.data.listAssets({"parent": "projects/earthengine-public/assets"})["assets"]
    )
    if listed is None:
        return [_row("catalogue", "warn", f"it cannot be listed: {words}",
                     "Look with `thawslump emulator list`.")]  # fmt: skip
    found = [_row("emulator", "ok", version)]
    needed = _needed(workspace)
    lacking = [name for name in needed if _asked(lambda n=name: ee.data.getAsset(n))[0] is None]  # type: ignore[misc]
    if lacking:
        found.append(
            _row(
                "catalogue", "warn", f"it has no {', '.join(lacking)}, which the sites name",
                "Fill it with `thawslump emulator ingest` or `capture`, or name other `sources`.",
            )
        )  # fmt: skip
    else:
        has = (
            f"it has what the sites name: {', '.join(needed)}" if needed else "no site asks for it"
        )
        found.append(_row("catalogue", "ok", has if listed else "it is empty"))
    return found


def _needed(workspace: Workspace) -> list[str]:
    from gee.scripts.place import source

    return sorted(
        {
            name.removesuffix("/*")
            for site in workspace.sites.values()
            if site.source == "earthengine"
            for key in ("s1", "s2", "dem")
            if (name := source(site, key)) != "none"
        }
    )


def _version(address: str, seconds: float) -> str:
    import requests

    answer = requests.get(f"{address}/$discovery/rest", timeout=min(seconds, 10.0)).json()
    title = str(answer.get("title", "an endpoint that does not say its name"))
    revision = answer.get("revision")
    return f"{title} {revision}" if revision else title


def main(root: Path) -> None:
    """Write the checks of a workspace as JSON lines."""
    from thawslump.workspace import Workspace

    try:
        rows = service(Workspace(root))
    except ThawslumpError as error:
        rows = [_row("backend", "fail", error.message, error.hint or "")]
    sys.stdout.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
