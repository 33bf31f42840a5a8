"""Plans of the trainer's steps (loads without numpy and torch)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.errors import ConfigError, DataError

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["plan_ensemble", "plan_predict", "plan_train"]

RUN_FILES = ("model.safetensors", "item.json", "README.md", "metrics.json", "history.json")
ENSEMBLE_FILES = ("item.json", "metrics.json", "README.md")
ENSEMBLE = "ensemble"
TRAINING = 2
"""`trainer.segmentation.train.VERSION`, whose module is slow to import."""


def _with_role(workspace: Workspace, *roles: str) -> list[Site]:
    return [site for _, site in sorted(workspace.sites.items()) if site.role in roles]


def _validation_sites(workspace: Workspace) -> list[Site]:
    found = _with_role(workspace, "validation")
    if not found:
        raise ConfigError(
            "No site has the role validation; the epoch, the members and the threshold are "
            "chosen on validation sites.",
            hint="Give one site with known slumps `role: validation` in its file below sites/.",
        )
    return found


def _site_facts(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "role": site.role,
        "made_up": site.made_up,
        "start": None if site.pre is None else site.pre.start.isoformat(),
        "end": None if site.post is None else site.post.end.isoformat(),
    }


def _cost(settings: dict[str, Any]) -> float:
    """Return the seconds that one run takes on one thread, roughly."""
    pixels = settings["crop"] ** 2 * settings["batch"] * settings["iterations"]
    return 4.0 + settings["epochs"] * (pixels / 1e6 + 0.5)


def plan_train(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per run: its inputs are stacks and labels of training and validation sites.

    Areas join once an earlier round left reviewed places in them, that is, once they have labels.

    Raises
    ------
    ConfigError
        No site to train on, or none to validate on.
    """
    from thawslump.pipeline import Item

    config = workspace.config.segmentation
    training = _with_role(workspace, "train")
    if not training:
        raise ConfigError(
            "No site has the role train; there is nothing to learn from.",
            hint="`thawslump site add` makes one; it needs outlines of known slumps.",
        )
    reviewed = [
        site
        for site in _with_role(workspace, "area")
        if workspace.labels(round, site.name).exists()
    ]
    sites = [*training, *reviewed, *_validation_sites(workspace)]
    inputs = tuple(
        path
        for site in sites
        for path in (workspace.stack(site.name), workspace.labels(round, site.name))
    )
    shared = config.model_dump(mode="json", exclude={"runs", "ensemble_size", "window", "overlap"})
    items = []
    for run in config.runs:
        settings = {
            **shared,
            "run": run.model_dump(mode="json"),
            "sites": [_site_facts(site) for site in sites],
        }
        folder = workspace.models(round) / run.name
        items.append(
            Item(
                step="train",
                name=run.name,
                target="trainer.segmentation.train:run",
                settings=settings,
                inputs=inputs,
                outputs=tuple(folder / name for name in RUN_FILES),
                version=TRAINING,
                round=round,
                cost=_cost(settings),
            )
        )
    return items


def plan_ensemble(workspace: Workspace, round: int) -> list[Item]:
    """Return the one item that chooses members and threshold."""
    from thawslump.pipeline import Item

    config = workspace.config.segmentation
    sites = [site.name for site in _validation_sites(workspace)]
    names = [run.name for run in config.runs]
    models = workspace.models(round)
    inputs = [
        path for site in sites for path in (workspace.stack(site), workspace.labels(round, site))
    ]
    inputs += [
        models / name / file
        for name in names
        for file in ("model.safetensors", "item.json", "metrics.json")
    ]
    return [
        Item(
            step="ensemble",
            name=ENSEMBLE,
            target="trainer.segmentation.ensemble:run",
            settings={
                "runs": names,
                "size": config.ensemble_size,
                "sites": sites,
                "threads": config.threads,
            },
            inputs=tuple(inputs),
            outputs=tuple(models / ENSEMBLE / name for name in ENSEMBLE_FILES),
            round=round,
            cost=5.0,
        )
    ]


def plan_predict(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per area, test site and validation site: its map.

    Raises
    ------
    DataError
        The ensemble of this round is not there.
    """
    from thawslump.pipeline import Item

    config = workspace.config.segmentation
    folder = workspace.models(round) / ENSEMBLE
    chosen = _ensemble_record(folder / "metrics.json")
    members = [member["run"] for member in chosen["members"]]
    weights = tuple(
        workspace.models(round) / name / file
        for name in members
        for file in ("model.safetensors", "item.json")
    )
    items = []
    for site in _with_role(workspace, "area", "test", "validation"):
        settings: dict[str, Any] = {
            "members": members,
            "threshold": chosen["threshold"],
            "window": config.window,
            "overlap": config.overlap,
            "threads": config.threads,
            "made_up": site.made_up,
        }
        part, neighbours = _part(workspace, site)
        if part is not None:
            settings["part"] = part
        items.append(
            Item(
                step="predict",
                name=site.name,
                target="trainer.segmentation.predict:run",
                settings=settings,
                inputs=(
                    workspace.stack(site.name),
                    folder / "item.json",
                    *weights,
                    *(workspace.stack(name) for name in neighbours),
                ),
                outputs=(workspace.map(round, site.name),),
                round=round,
                cost=4.0,
            )
        )
    return items


def _part(workspace: Workspace, site: Site) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the windows of a part of a large area, and the parts that they reach into."""
    if site.name in workspace.declared:
        return None, []
    from thawslump.areas import Part
    from trainer.segmentation.places import around

    assert isinstance(site, Part)  # what no file declares is a part of what one does
    config = workspace.config.segmentation
    mosaic = workspace.mosaics[site.mosaic]
    pixels, names = around(site, mosaic, config.window, config.overlap)
    there = [name for name in names if workspace.stack(name).exists()]
    return {"mosaic": site.mosaic, "around": list(pixels)}, there


def _ensemble_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); prediction needs the ensemble of the same round.",
            hint="`thawslump ensemble` makes it.",
        ) from error
    return record
