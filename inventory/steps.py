"""Plans of the steps import, labels, candidates and review."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from thawslump.errors import ConfigError
from thawslump.pipeline import Item, Waiting

if TYPE_CHECKING:
    from pathlib import Path

    from inventory.store import Inventory
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["plan_candidates", "plan_import", "plan_labels", "plan_review"]


def _inventory(workspace: Workspace) -> Inventory:
    from inventory.store import Inventory

    return Inventory(workspace.inventory)


def plan_import(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per site that has outlines: they enter the inventory as round 0."""
    items = []
    inventory = _inventory(workspace)
    for name, site in workspace.declared.items():
        path = workspace.outlines(name)
        if path is None:
            continue
        receipt = workspace.round(0) / name / "outlines.geojson"
        settings: dict[str, Any] = {
            "site": name,
            "bounds": list(site.bounds),
            "made_up": site.made_up,
            "source": path.name,
        }
        if receipt.exists() and not inventory.imported(name):
            # The inventory was put away after the import: bring the outlines in again.
            settings["again"] = True
        items.append(
            Item(
                step="import",
                name=name,
                target="inventory.work:import_outlines",
                settings=settings,
                inputs=(path,),
                outputs=(receipt,),
                cost=1.0,
            )
        )
    return items


def plan_labels(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per site with outlines, and per area where something was decided.

    What an item depends on is the inventory as it was before the round: later decisions do not
    change the labels of this round.
    """
    inventory = _inventory(workspace)
    items = []
    looked: dict[str, Any] = {}
    for name, site in workspace.sites.items():
        whole = site.role != "area"
        area = workspace.area_of(name)
        if not whole:
            if area not in looked:
                looked[area] = _looked_at(inventory, area, round)
            if not _touches(site, looked[area]):
                continue
        settings: dict[str, Any] = {
            "site": name,
            "round": round,
            "whole": whole,
            "ring": workspace.config.review.ring,
            "inventory": inventory.digest(area, before=round),
        }
        if area != name:
            settings["area"] = area
        items.append(
            Item(
                step="labels",
                name=name,
                target="inventory.work:labels",
                settings=settings,
                inputs=(workspace.stack(name),),
                outputs=(workspace.labels(round, name),),
                round=round,
                cost=1.0,
            )
        )
    return items


def _looked_at(inventory: Inventory, area: str, round: int) -> list[Any]:
    """Return what was decided of an area: slumps, and candidates that are no longer open."""
    if not inventory.looked_at(area, before=round):
        return []
    decided = inventory.candidates(site=area, before=round)
    return [
        *inventory.slumps(area, before=round).geometry,
        *(c.geometry for c in decided if c.state != "open"),
    ]


def _touches(site: Site, shapes: list[Any]) -> bool:
    """Return whether an area was looked at; of a large area, whether this part was."""
    if not shapes or not hasattr(site, "pinned"):
        return bool(shapes)
    import shapely

    from thawslump.grid import lonlat_box

    # Bounds reach as far as the part's corners, so a little beyond its sides.
    return bool(shapely.intersects(shapes, lonlat_box(site.bounds)).any())


def plan_candidates(workspace: Workspace, round: int) -> list[Item]:
    """Return one item: the outlines of all areas of the round, in the order of review.

    Areas without a map are left out: a run of one site alone (`--site`) has mapped only that one.
    """
    maps = {
        name: [
            path for part in workspace.parts(name) if (path := workspace.map(round, part)).exists()
        ]
        for name, site in workspace.declared.items()
        if site.role == "area"
    }
    areas = [name for name, paths in maps.items() if paths]
    if not areas:
        return []
    inventory = _inventory(workspace)
    output = workspace.round(round) / "candidates.geojson"
    config = workspace.config.candidates
    settings: dict[str, Any] = {
        "round": round,
        "areas": areas,
        "made_up": {name: workspace.declared[name].made_up for name in areas},
        "candidates": config.model_dump(mode="json"),
        "inventory": inventory.digest(before=round),
    }
    if output.exists() and not _hold(inventory, output, round):
        settings["again"] = True
    return [
        Item(
            step="candidates",
            name="outlines",
            target="inventory.work:candidates",
            settings=settings,
            inputs=(
                *(path for name in areas for path in maps[name]),
                workspace.models(round) / "ensemble" / "metrics.json",
            ),
            outputs=(output, *_mosaics(workspace, maps, round)),
            round=round,
            cost=2.0,
        )
    ]


def _mosaics(workspace: Workspace, maps: dict[str, list[Path]], round: int) -> list[Path]:
    """Return the files that the maps of large areas are seen as one through."""
    there = {path for paths in maps.values() for path in paths}
    return [
        workspace.map(round, zone.name)
        for area in maps
        for zone in workspace.zones(area)
        if any(workspace.map(round, part) in there for part in zone.names)
    ]


def _hold(inventory: Inventory, path: Any, round: int) -> bool:
    """Return whether the inventory has the candidates of a file."""
    import json

    wanted = {feature["id"] for feature in json.loads(path.read_text("utf-8"))["features"]}
    return wanted <= {c.candidate_id for c in inventory.candidates(round)}


def plan_review(workspace: Workspace, round: int) -> list[Item] | Waiting:
    """Return `Waiting` while people have candidates to decide, or the scripted reviewer's item."""
    inventory = _inventory(workspace)
    config = workspace.config.review
    left = inventory.open_candidates(round)
    if config.reviewer == "people":
        if not left:
            return []
        total = sum(inventory.counts(round).values())
        return Waiting(
            len(left),
            f"{len(left)} of {total} candidates of round {round} wait for a decision. "
            f"Decide them with `thawslump review --workspace {workspace.root}`, then run again.",
        )
    candidates = workspace.round(round) / "candidates.geojson"
    if not candidates.exists():
        return []
    truth = workspace.truth / "slumps.gpkg"
    if not truth.exists():
        raise ConfigError(
            f"review.reviewer is scripted, but {truth} does not exist: the scripted reviewer "
            "knows the truth of made-up data only.",
            hint="Set `review: {reviewer: people}` in thawslump.yaml.",
        )
    output = workspace.round(round) / "review.json"
    settings: dict[str, Any] = {
        "round": round,
        "error_rate": config.error_rate,
        "seed": config.seed,
    }
    if output.exists() and left:
        names = "|".join(sorted(c.candidate_id for c in left))
        settings["again"] = hashlib.sha256(names.encode()).hexdigest()
    return [
        Item(
            step="review",
            name="scripted",
            target="inventory.scripted:run",
            settings=settings,
            inputs=(candidates, truth),
            outputs=(output,),
            round=round,
            cost=5.0,
        )
    ]
