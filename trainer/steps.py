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

__all__ = ["plan_blocks", "plan_ensemble", "plan_predict", "plan_train"]

RUN_FILES = ("model.safetensors", "item.json", "README.md", "metrics.json", "history.json")
ENSEMBLE_FILES = ("item.json", "metrics.json", "README.md", "reliability.svg")
ENSEMBLE = "ensemble"
TRAINING = 2
"""`trainer.segmentation.train.VERSION`, whose module is slow to import."""
PREDICTION = 2
"""`trainer.segmentation.predict.VERSION`, likewise."""
AFTER_TRAINING = (
    "ensemble_size",
    "ensemble",
    "calibration",
    "tta",
    "window",
    "overlap",
    "prediction_block",
    "prediction_batch",
    "device",
)
"""Settings that retrain nothing."""
SPLIT = ("split", "split_block", "split_buffer", "split_seed", "labels")
"""Settings that stand in an item of work only where they are not the default."""


def _with_role(workspace: Workspace, *roles: str) -> list[Site]:
    return [site for _, site in sorted(workspace.sites.items()) if site.role in roles]


def _validation_sites(workspace: Workspace) -> list[Site]:
    found = _with_role(workspace, "validation")
    if not found and workspace.config.segmentation.split == "sites":
        raise ConfigError(
            "No site has the role validation; the epoch, the members and the threshold are "
            "chosen on validation sites.",
            hint="Give one site with known slumps `role: validation` in its file below sites/, "
            "or split the training sites: `segmentation: {split: blocks}`.",
        )
    return found


def _mapped(workspace: Workspace) -> list[Site]:
    """Return what is mapped; sites that were split by blocks are judged and looked at, too."""
    split = workspace.config.segmentation.split == "blocks"
    return _with_role(workspace, "area", "test", "validation", *(["train"] if split else []))


def _soft_labels(workspace: Workspace, round: int, site: Site) -> Path:
    """Return the newest soft labels of a site up to a round."""
    for number in range(round, 0, -1):
        path = workspace.labels_soft(number, site.name)
        if path.exists():
            return path
    raise ConfigError(
        f"Site {site.name} has no soft labels, but `labels: soft` asks for them "
        f"({workspace.labels_soft(round, site.name)} does not exist).",
        hint="Write the share of the experts there (float, NaN not looked at), or use "
        "`labels: hard`.",
    )


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
    shared = config.model_dump(mode="json", exclude={"runs", *AFTER_TRAINING, *SPLIT})
    if config.blocks is not None:
        shared["split"] = config.blocks
    if config.labels == "soft":
        shared["labels"] = "soft"
        inputs += tuple(_soft_labels(workspace, round, site) for site in training)
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
    split = config.blocks
    chosen = [*(_with_role(workspace, "train") if split else []), *_validation_sites(workspace)]
    sites = [site.name for site in chosen]
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
                "ensemble": config.ensemble,
                "calibration": config.calibration,
                "tta": config.tta,
                "device": config.device,
                "sites": sites,
                "threads": config.threads,
                **(
                    {}
                    if split is None
                    else {"split": split, "roles": {site.name: site.role for site in chosen}}
                ),
            },
            inputs=tuple(inputs),
            outputs=tuple(models / ENSEMBLE / name for name in ENSEMBLE_FILES),
            version=PREDICTION,
            round=round,
            cost=5.0,
        )
    ]


def plan_blocks(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per block of each raster that is too large for one: its part of the map.

    Raises
    ------
    DataError
        The ensemble of this round is not there.
    """
    from thawslump.pipeline import Item

    config = workspace.config.segmentation
    chosen = _Chosen(workspace, round)
    items = []
    for site in _mapped(workspace):
        found = _blocks(workspace, round, site)
        for path, (top, left, bottom, right) in found.items():
            items.append(
                Item(
                    step="predict-blocks",
                    name=f"{site.name}/{path.stem}",
                    target="trainer.segmentation.predict:run_block",
                    settings={**chosen.settings(site), "block": [top, left, bottom, right]},
                    inputs=(workspace.stack(site.name), chosen.item, *chosen.weights),
                    outputs=(path,),
                    version=PREDICTION,
                    round=round,
                    cost=4.0 * ((bottom - top) * (right - left) / config.prediction_block**2),
                )
            )
    return items


def plan_predict(workspace: Workspace, round: int) -> list[Item]:
    """Return one item per area, test site and validation site: its map.

    Raises
    ------
    DataError
        The ensemble of this round is not there.
    """
    from thawslump.pipeline import Item

    chosen = _Chosen(workspace, round)
    items = []
    for site in _mapped(workspace):
        inputs = [workspace.stack(site.name), chosen.item]
        blocks = _blocks(workspace, round, site)
        settings = chosen.settings(site)
        if blocks:
            inputs += blocks
        else:
            inputs += chosen.weights
            part, neighbours = _part(workspace, site)
            inputs += [workspace.stack(name) for name in neighbours]
            if part is not None:
                settings["part"] = part
        items.append(
            Item(
                step="predict",
                name=site.name,
                target=f"trainer.segmentation.predict:{'run_join' if blocks else 'run'}",
                settings=settings,
                inputs=tuple(inputs),
                outputs=(workspace.map(round, site.name),),
                version=PREDICTION,
                round=round,
                cost=4.0,
            )
        )
    return items


class _Chosen:
    """The ensemble of a round as plans need it."""

    def __init__(self, workspace: Workspace, round: int) -> None:
        folder = workspace.models(round) / ENSEMBLE
        record = _ensemble_record(folder / "metrics.json")
        members = [member["run"] for member in record["members"]]
        config = workspace.config.segmentation
        self.item = folder / "item.json"
        self.weights = [
            workspace.models(round) / name / file
            for name in members
            for file in ("model.safetensors", "item.json")
        ]
        self._settings = {
            "members": members,
            "threshold": record["threshold"],
            "window": config.window,
            "overlap": config.overlap,
            "tta": config.tta,
            "batch": config.prediction_batch,
            "device": config.device,
            "threads": config.threads,
        }

    def settings(self, site: Site) -> dict[str, Any]:
        return {**self._settings, "made_up": site.made_up}


def _blocks(workspace: Workspace, round: int, site: Site) -> dict[Path, tuple[int, int, int, int]]:
    """Return the blocks of a raster that is too large for one; parts of areas never are."""
    stack = workspace.stack(site.name)
    side = workspace.config.segmentation.prediction_block
    if site.name not in workspace.declared or not stack.exists():
        return {}
    from thawslump.raster import grid_of

    rows, columns = (int(n) for n in grid_of(stack).shape)
    if max(rows, columns) <= side:
        return {}
    from trainer.segmentation.blend import blocks

    folder = workspace.maps(round) / "blocks" / site.name
    return {
        folder / f"r{block[0]:06}-c{block[1]:06}.tif": block
        for block in blocks((rows, columns), side)
    }


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
