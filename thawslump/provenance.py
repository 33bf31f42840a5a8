"""What a report tells of where its numbers come from: images, corrections, terms, land cover."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thawslump.bands import BANDS

if TYPE_CHECKING:
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["Landcover", "Trust", "credits", "landcovers", "site_row"]


def _properties(workspace: Workspace, site: str) -> dict[str, Any]:
    """Return the properties of a site's item; empty where it has none."""
    path = workspace.item(site)
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dict(facts.get("properties", {}))


def _of_parts(workspace: Workspace, view: str) -> list[dict[str, Any]]:
    """Return the properties of a site's item, or of those of the parts that a mosaic shows."""
    found = [_properties(workspace, part) for part in workspace.parts(view)]
    return [facts for facts in found if facts]


# Land cover ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trust:
    """How far folds of one kind say that a land cover is to be trusted.

    Attributes
    ----------
    by : str
        What was kept together: a block, a polygon, or nothing.
    folds : int
    overall, kappa : float or None
        None where it is not known.
    refused : str
        Why it is not known; empty else.
    """

    by: str
    folds: int
    overall: float | None
    kappa: float | None
    refused: str = ""


@dataclass(frozen=True)
class Landcover:
    """The land cover of a site as its item tells.

    Attributes
    ----------
    site : str
    points : int
    origin : str
        File or map that the points are of.
    note : str
    date : str
        Of the image.
    clear : float or None
        Share of the site that is clear on it.
    grouped, random : Trust or None
        By polygons, groups or blocks, and point by point.
    rows : tuple of (class, points, producer's accuracy, user's accuracy)
        Over the grouped folds; None where there is nothing to divide by.
    """

    site: str
    points: int
    origin: str
    note: str
    date: str
    clear: float | None
    grouped: Trust | None
    random: Trust | None
    rows: tuple[tuple[str, int, float | None, float | None], ...]


def landcovers(workspace: Workspace) -> list[Landcover]:
    """Return the land cover of every site whose item tells of one.

    Each part of a large area has learned one of its own: the least trusted is shown.
    """
    found = []
    for name in workspace.declared:
        told = [one for part in workspace.parts(name) for one in _landcover(workspace, part)]
        if len(told) > 1:
            worst = min(told, key=lambda one: _kappa(one.grouped))
            words = f"{worst.site} (the least trusted of {len(told)} parts)"
            told = [replace(worst, site=words)]
        found += told
    return found


def _kappa(trust: Trust | None) -> float:
    return -1.0 if trust is None or trust.kappa is None else trust.kappa


def _landcover(workspace: Workspace, name: str) -> list[Landcover]:
    """Return the land cover that an item tells of; nothing where it does not."""
    facts = _properties(workspace, name).get("thawslump:landcover")
    if not facts:
        return []
    points, image = facts.get("points", {}), facts.get("image", {})
    accuracy = facts.get("accuracy", {})
    best = accuracy.get("grouped", {})
    counts = points.get("per_class", {})
    producers, users = best.get("producers", {}), best.get("users", {})
    return [
        Landcover(
            site=name,
            points=int(points.get("used", 0)),
            origin=str(points.get("from", "")),
            note=str(points.get("note", "")),
            date=str(image.get("date", "")),
            clear=image.get("clear_share"),
            grouped=_trust(best),
            random=_trust(accuracy.get("random", {})),
            rows=tuple(
                (kind, int(counts.get(kind, 0)), producers.get(kind), users.get(kind))
                for kind in dict.fromkeys([*counts, *producers])
            ),
        )
    ]


def _trust(facts: Mapping[str, Any]) -> Trust | None:
    if not facts:
        return None
    return Trust(
        str(facts.get("by", "")),
        int(facts.get("folds", 0)),
        facts.get("overall"),
        facts.get("kappa"),
        str(facts.get("refused", "")),
    )


# Images and terms ---------------------------------------------------------------------------


def site_row(workspace: Workspace, site: Site) -> dict[str, Any]:
    """Return what the page tells of a site: its bands with units, images, and what was chosen."""
    from thawslump import raster

    path = workspace.stack(site.name)
    parts = workspace.parts(site.name)
    items = _of_parts(workspace, site.name)
    choices = Counter(choice for facts in items for choice in _choices(facts))
    row: dict[str, Any] = {
        "name": site.name,
        "role": site.role,
        "source": "Earth Engine" if site.source == "earthengine" else "own files",
        "pre": site.pre,
        "post": site.post,
        "bands": [],
        "shape": "",
        "sources": _used(items),
        "choices": [
            (name, words if count == len(items) else f"{words}, in {count} of {len(items)} parts")
            for (name, words), count in choices.items()
        ],
        "left_out": {
            band: why
            for facts in items
            for band, why in facts.get("thawslump:left_out", {}).items()
        },
    }
    if path.exists():
        with raster.open_raster(path) as source:
            row["bands"] = [
                (name or "?", unit if unit is not None else _unit(name))
                for name, unit in zip(source.descriptions, source.units, strict=True)
            ]
            row["shape"] = f"{source.width} × {source.height} px at {abs(source.transform.a):g} m"
            if site.name in workspace.mosaics:
                row["shape"] += f", {len(items)} of {len(parts)} parts"
    return row


def credits(workspace: Workspace) -> list[dict[str, Any]]:
    """Return who is to be named for the data of the sites, each once, as their items say."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for site in workspace.sites.values():
        for row in _properties(workspace, site.name).get("thawslump:attributions", []):
            name = row.get("id") or row["source"]
            key = (str(name), str(row["attribution"]))
            entry = found.setdefault(
                key,
                {
                    "name": name,
                    "title": row.get("title", row["source"]),
                    "attribution": row["attribution"],
                    "licence": row["licence"],
                    "citation": row.get("citation", ""),
                    "non_commercial": bool(row.get("non_commercial")),
                    "sites": [],
                },
            )
            area = workspace.area_of(site.name)
            if area not in entry["sites"]:
                entry["sites"].append(area)
    # Terms that exclude something first: they are what a reader must not miss.
    return sorted(found.values(), key=lambda row: (not row["non_commercial"], row["name"]))


def _used(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the collections and the dates that items say were used, those of parts together."""
    images: dict[tuple[str, str, str], dict[str, str]] = {}
    plain: dict[tuple[str, str], None] = {}
    for facts in items:
        for key, entry in sorted(facts.get("thawslump:images", {}).items()):
            for side in ("pre", "post"):
                if side in entry:
                    seen = images.setdefault((key, entry["collection"], side), {})
                    for number, image in enumerate(entry[side]):
                        seen[str(image.get("index", number))] = str(image["date"])
            if "pre" not in entry and "post" not in entry:
                plain[(entry["collection"], key)] = None
        for entry in facts.get("thawslump:files", []):
            plain[(entry["path"], ", ".join(entry["bands"]))] = None
    rows: list[dict[str, Any]] = [
        {"name": name, "side": side, "dates": sorted(set(seen.values())), "images": len(seen)}
        for (_, name, side), seen in images.items()
    ]
    return rows + [
        {"name": name, "side": side, "dates": [], "images": None} for name, side in plain
    ]


def _unit(band: str | None) -> str:
    return BANDS[band].unit if band in BANDS else ""


_MODELS = {
    "volume": "volume model",
    "surface": "surface model",
    "per_pixel": "volume or surface model pixel by pixel, by the land cover map",
    "none": "none",
}


def _choices(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what an export settled for a site, as pairs of words."""
    rows: list[tuple[str, str]] = []
    model = facts.get("thawslump:slope_correction")
    if model:
        share = facts.get("thawslump:vegetated_share")
        grown = "" if share is None else f" ({100 * share:.0f} % of the site is vegetated)"
        rows.append(("slope correction", _MODELS.get(model, str(model)) + grown))
    orbits = facts.get("thawslump:orbits")
    if orbits:
        words = [f"{str(way).lower()}, relative orbit {number}" for way, number in orbits]
        look = facts.get("thawslump:look_direction")
        to = "" if look is None else f", satellite at {look:.0f} degrees from grid north"
        rows.append(("Sentinel-1 viewing geometry", "; ".join(words) + to))
    platforms = facts.get("thawslump:platforms") or {}
    flown = [
        f"{side}: " + ", ".join(f"{craft} ({count})" for craft, count in crafts.items())
        for side in ("pre", "post")
        if (crafts := platforms.get(side))
    ]
    if flown:
        rows.append(("Sentinel-1 satellites", "; ".join(flown)))
    masks = {
        "cloud_score": "Cloud Score+ and scene classification",
        "scl": "scene classification (SCL)",
    }
    mask = facts.get("thawslump:cloud_mask")
    if mask:
        rows.append(("cloud mask", masks.get(mask, str(mask))))
    return rows
