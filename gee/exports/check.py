"""A look at a site before any pixel is computed: what is there, and what it would take."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from gee.exports import credits
from gee.exports.faults import patiently
from gee.exports.landcover import summary
from gee.exports.meter import LEDGER, Ledger
from gee.exports.pace import duration
from gee.exports.products import CATCHMENT, products
from gee.exports.purpose import purpose
from gee.exports.step import expected
from gee.exports.survey import survey
from gee.scripts.place import source
from gee.scripts.sentinel2 import by_score
from gee.scripts.sources import REACH, catchment_margin
from gee.session import connect, describe
from thawslump.windows import MONTH, out_of_season

if TYPE_CHECKING:
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["check"]


def check(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what exporting a site would take: images, dates, pixels, requests, cost and time.

    Nothing is fetched; each collection is asked once. Cost and time are estimates after the model
    of `gee.exports.plan.cost`.

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
            workspace.root,
        )
        wanted = products(site, found)
        aims = [(product, purpose(product.filled)) for product in wanted]
    costs = [expected(site, product, found, config.tile) for product in wanted]
    files = {
        product.name: {
            "bands": list(product.bands),
            "shape": list(one.shape),
            "requests": one.requests,
            "bytes": one.bytes,
            "million_reads": {key: round(value, 3) for key, value in one.reads.items()},
            "eecu_seconds_estimate": round(one.eecu_seconds, 3),
        }
        for product, one in zip(wanted, costs, strict=True)
    }
    with contextlib.closing(Ledger(workspace.root / "tiles" / LEDGER)) as ledger:
        spent = ledger.total()
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
        "pixels": sum(one.pixels for one in costs),
        "requests": sum(one.requests for one in costs) + found.requests,
        "eecu_seconds_estimate": round(sum(one.eecu_seconds for one in costs), 3),
        "seconds_estimate": round(sum(one.seconds(config.workers) for one in costs)),
        "at_once": config.workers,
        "method": config.method,
        "eecu_seconds_spent": round(spent, 3),
        "eecu_budget": config.eecu_budget,
    }
    assert site.pre is not None and site.post is not None
    outcome["days_out_of_season"] = out_of_season(site.pre, site.post)
    outcome["cloud_mask"] = "cloud_score" if by_score(site, found.settled) else "scl"
    outcome["landcover"] = found.landcover
    outcome["left_out"] = dict(found.settled.left_out)
    outcome["endpoints"] = {
        product.name: describe(backend, workspace.catalog, aim) for product, aim in aims
    }
    used = credits.keys(
        ((product.name, band) for product in wanted for band in product.bands), site, found.settled
    )
    outcome["attributions"] = credits.rows(used, site)
    outcome["non_commercial"] = credits.warnings(used, site)
    outcome["vectors"] = {
        key: {
            "file": site.sources[key],
            "features": len(lines["features"]),
            "reach": REACH[key],
            "bytes": len(json.dumps(lines)),
        }
        for key, lines in found.settled.vectors.items()
    }
    outcome["upslope"] = _upslope(workspace, site) if CATCHMENT in files else None
    outcome["text"] = _text(outcome)
    return outcome


def _upslope(workspace: Workspace, site: Site) -> dict[str, Any]:
    """Return what is known of an upslope area that is computed here; its share once exported."""
    known: dict[str, Any] = {"margin": catchment_margin(source(site, "upslope")), "cut_share": None}
    path = workspace.item(site.name)
    if path.is_file():
        properties = json.loads(path.read_text(encoding="utf-8"))["properties"]
        facts = properties.get("thawslump:upslope", {})
        if facts.get("margin") == known["margin"]:
            known["cut_share"] = facts["cut_share"]
    return known


def _file(name: str) -> str:
    return "heights around the site" if name == CATCHMENT else f"{name}.tif"


def _own_data(found: dict[str, Any]) -> list[str]:
    lines = []
    for key, one in found["vectors"].items():
        lines.append(
            f"  {key} from {one['file']}: {one['features']} features within "
            f"{one['reach'] / 1000:g} km, {one['bytes'] / 1e6:.2f} MB in every request of factors"
        )
        if not one["features"]:
            lines.append(
                f"  Warning: distance_{key} is {one['reach'] / 1000:g} km everywhere: a factor "
                "without differences teaches nothing"
            )
    upslope = found["upslope"]
    if upslope is not None:
        words = f"  upslope area from the DEM with a margin of {upslope['margin']:g} m: "
        if upslope["cut_share"] is None:
            words += "cells whose catchment reaches farther will be counted in item.json"
        else:
            words += (
                f"the catchments of {upslope['cut_share']:.0%} of its cells reach farther "
                "(sources.upslope: local:METRES)"
            )
        lines.append(words)
    return lines


def _land_and_clouds(found: dict[str, Any]) -> list[str]:
    mask = {
        "cloud_score": "Cloud Score+ (images without a score: their scene classification)",
        "scl": "the scene classification",
    }[found["cloud_mask"]]
    lines = []
    if (days := found["days_out_of_season"]) > MONTH:
        lines.append(
            f"  Warning: the windows lie {days} days apart in the year: change of season looks "
            "like change of the ground"
        )
    lines.append(f"  Sentinel-2 clouds by {mask}")
    if found["landcover"] is not None:
        first, *rest = summary(found["landcover"])
        lines += [f"  {first}", *(f"    {line}" for line in rest)]
    lines += [f"  left out: {band}, {why}" for band, why in found["left_out"].items()]
    return lines


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
    lines += _land_and_clouds(found)
    for name, file in found["files"].items():
        rows, cols = file["shape"]
        most = max(file["million_reads"].items(), key=lambda pair: pair[1], default=("", 0.0))[0]
        lines.append(
            f"  {_file(name)}: {rows} x {cols} pixels, {len(file['bands'])} bands, "
            f"{file['bytes'] / 1e6:.1f} MB; {file['requests']} requests, about "
            f"{_amount(file['eecu_seconds_estimate'])} EECU-seconds"
            + (f", most of it for {most}" if most else "")
        )
    lines += _own_data(found)
    for words in found["non_commercial"]:
        lines.append(f"  Warning: {words}")
    for name, where in found["endpoints"].items():
        if where != found["backend"]:
            lines.append(f"  {_file(name)}: stored pixels, asked of {where}")
    together = (
        f"  together {found['requests']} requests, about "
        f"{_amount(found['eecu_seconds_estimate'])} EECU-seconds"
    )
    if found["method"] == "pixels":
        together += (
            f" and {duration(found['seconds_estimate'])} with {found['at_once']} requests at a time"
        )
    lines.append(together)
    lines.append("  (estimates after a model that was never held against a bill)")
    budget, spent = found["eecu_budget"], found["eecu_seconds_spent"]
    if budget is not None:
        lines.append(f"  {_amount(spent)} of the budget of {budget:g} EECU-seconds are spent")
        if spent + found["eecu_seconds_estimate"] > budget:
            lines.append("  Warning: the budget may not last; the export would stop there")
    return "\n".join(lines)


def _amount(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
