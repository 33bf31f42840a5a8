"""A look at a site before any pixel is computed: what is there, and what it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gee.exports import credits
from gee.exports.faults import patiently
from gee.exports.plan import estimate_eecu, tiles
from gee.exports.products import products
from gee.exports.purpose import purpose
from gee.exports.survey import survey
from gee.session import connect, describe

if TYPE_CHECKING:
    from thawslump.workspace import Workspace

__all__ = ["check"]


def check(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what exporting a site would take: images, dates, pixels, requests, estimated cost.

    Nothing is fetched; each collection is asked once.

    Returns
    -------
    dict
        JSON values; ``text`` says the same for people.

    Raises
    ------
    BackendError
        The endpoint cannot be reached.
    DataError
        Windows, bands or area do not fit the collections; says which and what there is.
    """
    site = workspace.site(name)
    if site.source != "earthengine":
        text = f"{name}: own rasters (source: {site.source}); nothing to export"
        return {"site": name, "requests": 0, "text": text}
    backend, config = workspace.config.backend, workspace.config.export
    where = describe(backend, workspace.catalog)
    with connect(backend, workspace.catalog):
        found = survey(
            site,
            lambda ask: patiently(ask, where=where, retries=config.retries, backoff=config.backoff),
        )
        wanted = products(site, found)
        aims = [(product, purpose(product.filled)) for product in wanted]
    files = {}
    for product in wanted:
        rows, cols = product.grid.shape
        files[product.name] = {
            "bands": list(product.bands),
            "shape": [rows, cols],
            "requests": len(tiles((rows, cols), config.tile, product.pixel_bytes)),
            "bytes": rows * cols * product.pixel_bytes,
        }
    pixels = sum(file["shape"][0] * file["shape"][1] for file in files.values())
    outcome: dict[str, Any] = {
        "site": name,
        "backend": where,
        "made_up": found.made_up or site.made_up,
        "images": {
            f"{key} {side}": [str(picture.date) for picture in pictures]
            for (key, side), pictures in found.pictures.items()
        },
        "orbits": None
        if found.orbits is None
        else [f"{orbit.direction.lower()} {orbit.relative}" for orbit in found.orbits],
        "other_orbits": [f"{o.direction.lower()} {o.relative}" for o in found.other_orbits],
        "platforms": found.platforms,
        "files": files,
        "pixels": pixels,
        "requests": sum(file["requests"] for file in files.values()) + found.requests,
        "eecu_seconds_estimate": round(estimate_eecu(pixels, found.images), 3),
    }
    outcome["endpoints"] = {
        product.name: describe(backend, workspace.catalog, aim) for product, aim in aims
    }
    used = credits.keys(
        ((product.name, band) for product in wanted for band in product.bands), site, found.settled
    )
    outcome["attributions"] = credits.rows(used, site)
    outcome["non_commercial"] = credits.warnings(used, site)
    outcome["text"] = _text(outcome)
    return outcome


def _satellites(names: set[str]) -> str:
    return " and ".join(sorted(names)) or "(not said)"


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['site']} on {found['backend']}" + (", made up" if found["made_up"] else "")]
    for label, dates in found["images"].items():
        lines.append(f"  {label}: {len(dates)} images, {dates[0]} to {dates[-1]}")
    if found["orbits"]:
        left = f" (left out: {', '.join(found['other_orbits'])})" if found["other_orbits"] else ""
        lines.append(f"  Sentinel-1 orbit on both sides: {', '.join(found['orbits'])}{left}")
    before, after = (set(found["platforms"][side]) for side in ("pre", "post"))
    if len(before | after) > 1:
        lines.append(
            f"  Warning: images of Sentinel-1 {_satellites(before)} before and "
            f"{_satellites(after)} after; their calibrations differ by tenths of a dB"
        )
    for name, file in found["files"].items():
        rows, cols = file["shape"]
        lines.append(
            f"  {name}.tif: {rows} x {cols} pixels, {len(file['bands'])} bands, "
            f"{file['requests']} requests, {file['bytes'] / 1e6:.1f} MB"
        )
    for words in found["non_commercial"]:
        lines.append(f"  Warning: {words}")
    others = set(found["endpoints"].values())
    if len(others) > 1:
        for name, where in found["endpoints"].items():
            lines.append(f"  {name}.tif is asked of {where}")
    lines.append(
        f"  together {found['requests']} requests, about "
        f"{found['eecu_seconds_estimate']:.0f} EECU-seconds (a rough estimate)"
    )
    return "\n".join(lines)
