"""A look at a site before any pixel is computed: what is there, and what it would take."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gee.exports import credits
from gee.exports.bare import as_surveyed, survey_part
from gee.exports.faults import patiently
from gee.exports.landcover import summary
from gee.exports.meter import LEDGER, Ledger
from gee.exports.pace import duration
from gee.exports.products import CATCHMENT, products
from gee.exports.purpose import purpose
from gee.exports.step import expected
from gee.exports.survey import survey
from gee.scripts.place import source
from gee.scripts.sentinel1 import BORDERS_CLEAN, CLEAN_SWATH
from gee.scripts.sentinel2 import by_score
from gee.scripts.sources import REACH, catchment_margin
from gee.session import connect, describe
from thawslump.areas import Part
from thawslump.windows import MONTH, out_of_season

if TYPE_CHECKING:
    from gee.exports.survey import Survey
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["check", "check_area"]

SAMPLE = 5
"""Parts of a large area that are looked at: a survey of each would take longer than it is worth."""


def check(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what exporting a site would take: images, dates, pixels, requests, cost and time.

    Nothing is fetched; each collection is asked once. Of a large area, a few parts are looked at
    (`check_area`). Cost and time are estimates after the model
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
    if name not in workspace.sites:
        # A survey per part would be long, and its text longer.
        return check_area(workspace, workspace.area_of(name))
    backend, config = workspace.config.backend, workspace.config.export
    where = describe(backend, workspace.catalog)

    def ask(request: Callable[[], Any]) -> Any:
        return patiently(request, where=where, retries=config.retries, backoff=config.backoff)

    with connect(backend, workspace.catalog):
        if isinstance(site, Part):
            found = survey_part(site, workspace.site(site.area), ask, workspace.root)
            site = as_surveyed(site, found)
        else:
            found = survey(site, ask, workspace.root)
        wanted = products(site, found) if found.pictures else []
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
        "radar": _seen(site, found),
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
            "features": lines.features,
            "reach": REACH[key],
            "bytes": len(lines.text),
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


def _seen(site: Site, found: Survey) -> dict[str, Any] | None:
    """Return how the radar is used; None without it."""
    if source(site, "s1") == "none":
        return None
    assert site.pre is not None and site.post is not None
    settled, (low, high) = found.settled, CLEAN_SWATH
    old = min(site.pre.start, site.post.start) < BORDERS_CLEAN
    angle = settled.incidence
    return {
        "asked_for": site.slope_correction,
        "model": settled.model,
        "vegetated_share": settled.vegetated,
        "look": settled.look,
        "incidence": angle,
        "cut": old and angle is not None and not low < angle < high,
    }


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


def _radar(found: dict[str, Any]) -> list[str]:
    lines, seen = [], found["radar"]
    if found["orbits"]:
        left = f" (left out: {', '.join(found['other_orbits'])})" if found["other_orbits"] else ""
        lines.append(f"  Sentinel-1 orbit on both sides: {', '.join(found['orbits'])}{left}")
    before, after = (set(found["platforms"][side]) for side in ("pre", "post"))
    if len(before | after) > 1:
        lines.append(
            f"  Warning: images of Sentinel-1 {_satellites(before)} before and "
            f"{_satellites(after)} after; their calibrations differ by tenths of a dB"
        )
    if seen is not None:
        share, angle = seen["vegetated_share"], seen["incidence"]
        plants = "" if share is None else f", plants on {share:.0%} of the land"
        if share is None and seen["asked_for"] == "auto":
            plants = ", as no land cover map tells otherwise"
        angles = "" if angle is None else f"; seen at {angle:.1f} degrees from the vertical"
        lines.append(f"  slope correction: {seen['model']}{plants}{angles}")
        if seen["cut"]:
            low, high = CLEAN_SWATH
            lines.append(
                f"  Warning: images before {BORDERS_CLEAN} count between {low:.1f} and {high:.1f} "
                "degrees only, for their noisy borders; set another relative_orbit"
            )
    return lines


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['site']} on {found['backend']}" + (", made up" if found["made_up"] else "")]
    for label, dates in found["images"].items():
        lines.append(f"  {label}: {len(dates)} images, {dates[0]} to {dates[-1]}")
    lines += _radar(found)
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
    amount = f"about {_amount(found['eecu_seconds_estimate'])} EECU-seconds"
    if found["method"] == "pixels":
        lines.append(
            f"  together {found['requests']} requests, {amount} and "
            f"{duration(found['seconds_estimate'])} with {found['at_once']} requests at a time"
        )
    else:
        lines.append(f"  together {len(found['files'])} batch tasks, {amount}")
    lines.append("  (estimates after a model that was never held against a bill)")
    budget, spent = found["eecu_budget"], found["eecu_seconds_spent"]
    if budget is not None:
        lines.append(f"  {_amount(spent)} of the budget of {budget:g} EECU-seconds are spent")
        if spent + found["eecu_seconds_estimate"] > budget:
            lines.append("  Warning: the budget may not last; the export would stop there")
    return "\n".join(lines)


def _amount(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


# Large areas --------------------------------------------------------------------------------

_SCALED = ("requests", "eecu_seconds_estimate", "seconds_estimate")


def check_area(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what exporting a large area would take.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Of an area that is mapped in parts.

    Returns
    -------
    dict
        JSON values: zones with their grids and parts; pixels (of all parts and files); requests,
        EECU-seconds and seconds, scaled by pixels from `looked_at` parts; ``text`` for people.

    Raises
    ------
    BackendError, DataError
        As `gee.exports.check.check`.
    """
    zones = workspace.zones(name)
    parts = [part for zone in zones for part in zone.parts]
    step = max(1, len(parts) // SAMPLE)
    # From the middles of equal shares, so that they lie all over it.
    chosen = parts[step // 2 :: step][:SAMPLE]
    seen = [check(workspace, part.name) for part in chosen]
    pixels = {part.name: int(part.grid().shape[0] * part.grid().shape[1]) for part in parts}
    share = sum(pixels.values()) / sum(pixels[part.name] for part in chosen)
    images = {
        label: [min(counts), max(counts)]
        for label in sorted({label for one in seen for label in one["images"]})
        for counts in [[len(one["images"].get(label, [])) for one in seen]]
    }
    outcome: dict[str, Any] = {
        "site": name,
        "backend": seen[0]["backend"],
        "made_up": any(one["made_up"] for one in seen),
        "parts": len(parts),
        "looked_at": [part.name for part in chosen],
        "zones": {
            zone.name: {
                "crs": zone.pinned[0],
                "shape": list(zone.grid().shape),
                "parts": len(zone.parts),
                "pixels": sum(pixels[part] for part in zone.names),
            }
            for zone in zones
        },
        "images": images,
        "orbits": sorted({orbit for one in seen for orbit in one["orbits"] or []}),
        "done": sum(workspace.item(part.name).exists() for part in parts),
        "pixels": round(sum(one["pixels"] for one in seen) * share),
        "days_out_of_season": seen[0]["days_out_of_season"],
        "left_out": dict(sorted({pair for one in seen for pair in one["left_out"].items()})),
        "non_commercial": sorted({words for one in seen for words in one["non_commercial"]}),
        **{key: round(sum(one[key] for one in seen) * share) for key in _SCALED},
    }
    outcome["text"] = _area_text(outcome, parts[0].block)
    return outcome


def _area_text(found: dict[str, Any], block: int) -> str:
    made_up = ", made up" if found["made_up"] else ""
    lines = [
        f"{found['site']} on {found['backend']}{made_up}: {found['parts']} parts of at most "
        f"{block} x {block} pixels, {found['done']} of them exported"
    ]
    for name, zone in found["zones"].items():
        rows, columns = zone["shape"]
        lines.append(
            f"  {name}: {zone['parts']} parts on one grid of {rows} x {columns} pixels in "
            f"{zone['crs']}, {zone['pixels'] / 1e6:.1f} million pixels"
        )
    lines.append(f"  looked at {len(found['looked_at'])} of them: {', '.join(found['looked_at'])}")
    for label, (low, high) in found["images"].items():
        counts = f"{low}" if low == high else f"{low} to {high}"
        lines.append(f"  {label}: {counts} images each")
    if found["orbits"]:
        lines.append(f"  Sentinel-1 orbits on both sides: {', '.join(found['orbits'])}")
    if (days := found["days_out_of_season"]) > MONTH:
        lines.append(
            f"  Warning: the windows lie {days} days apart in the year: change of season looks "
            "like change of the ground"
        )
    lines += [f"  left out: {band}, {why}" for band, why in found["left_out"].items()]
    for words in found["non_commercial"]:
        lines.append(f"  Warning: {words}")
    lines.append(
        f"  together about {found['requests']} requests and {found['eecu_seconds_estimate']} "
        "EECU-seconds (scaled from these parts by pixels; a rough estimate)"
    )
    lines.append("  one part in detail: thawslump export plan --site NAME-OF-PART")
    return "\n".join(lines)
