"""The demonstration: a workspace on the made-up valley, with a scripted reviewer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thawslump.config import config_model, parse_model, save_yaml, target
from thawslump.errors import ConfigError
from thawslump.site import Site
from thawslump.workspace import Workspace

__all__ = ["prepare", "summary"]

_HEADER = (
    "A demonstration of thawslump on a MADE-UP valley: nothing in it was observed.\n"
    "Edit a value and start `thawslump demo` again: only what depends on it is done anew."
)


def settings(seed: int, shape: tuple[int, int], *, quick: bool) -> dict[str, Any]:
    """Return the content of the demonstration's thawslump.yaml that differs from the defaults."""
    values: dict[str, Any] = {
        "name": f"made-up valley, seed {seed}",
        "made_up": True,
        "backend": {"kind": "emulator"},
        "valley": {"seed": seed, "rows": shape[0], "cols": shape[1]},
        "review": {"reviewer": "scripted", "error_rate": 0.05, "seed": seed},
        "rounds": {"maximum": 2},
    }
    if quick:
        values["segmentation"] = {
            "runs": [
                {"architecture": name, "encoder": "tu-lcnet_100", "loss": "bce", "seed": seed}
                for name in ("unet", "fpn", "linknet")
            ],
            "crop": 64,
            "iterations": 12,
            "epochs": 3,
            "ensemble_size": 2,
        }
    return values


def prepare(
    directory: Path,
    *,
    seed: int = 1,
    shape: tuple[int, int] = (512, 1024),
    quick: bool = False,
) -> Workspace:
    """Make the demonstration's workspace, or take the one that is there.

    Parameters
    ----------
    directory : Path
        A new or empty folder, or one that an earlier call made; its (edited) files are kept.
    seed : int
        Seed of the valley and of the scripted reviewer.
    shape : (rows, cols)
        Of the valley, 10 m each.
    quick : bool
        A small valley and short training.

    Returns
    -------
    Workspace

    Raises
    ------
    ConfigError
        The folder holds something else.
    """
    if quick and shape == (512, 1024):
        shape = (256, 512)
    workspace = Workspace(directory)
    path = workspace.root / "thawslump.yaml"
    if path.exists():
        if workspace.config.valley is None:
            raise ConfigError(
                f"{workspace.root} is a workspace, but not of a demonstration.",
                hint="Give another folder: thawslump demo DIR",
            )
        return workspace
    if workspace.root.is_dir() and any(
        p.name not in ("sites", "areas") for p in workspace.root.iterdir()
    ):
        raise ConfigError(
            f"{workspace.root} is not empty and no workspace.",
            hint="Give a new folder: thawslump demo DIR",
        )
    for values in target("gee.valley:demo_sites")(seed, shape):
        site = parse_model(Site, values, f"site {values.get('name')}")
        folder = "areas" if site.role == "area" else "sites"
        save_yaml(workspace.root / folder / f"{site.name}.yaml", site, header="Made up.")
    # Last: a folder with this file is a workspace.
    config = parse_model(config_model(), settings(seed, shape, quick=quick), "demo")
    save_yaml(path, config, header=_HEADER)
    return workspace


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def summary(workspace: Workspace) -> str:
    """Return the closing lines: the numbers, the report, and how to open the review page."""
    lines = ["", f"{workspace.config.name} (made-up data, decisions by a SCRIPTED reviewer)"]
    counts = target("inventory.statistics:summary")(workspace.inventory)
    lines += [f"  {words}" for words in counts]
    rounds = sorted(int(p.name) for p in workspace.root.glob("rounds/*") if p.name.isdigit())
    for number in rounds:
        found = _json(workspace.models(number) / "ensemble" / "metrics.json")
        if found:
            lines.append(f"  round {number}: {_scores(found)}")
    for number in reversed(rounds):
        found = _json(workspace.round(number) / "susceptibility.json")
        if found:
            lines += [
                f"  susceptibility, {name}: AUC {m['auc_spatial']:.2f} in spatial folds, "
                f"{m['auc_random']:.2f} in random ones"
                for name, m in found["models"].items()
            ]
            break
    shown = workspace.root
    if shown.is_relative_to(Path.cwd()):
        shown = shown.relative_to(Path.cwd())
    lines += [
        f"Report:      {shown / workspace.report.name}",
        f"Review page: thawslump --workspace {shown} review",
    ]
    return "\n".join(lines)


def _scores(found: dict[str, Any]) -> str:
    parts = []
    for name in ("f1_validation", "f1_test"):
        if isinstance(found.get(name), int | float):
            parts.append(f"{name.removeprefix('f1_')} F1 {found[name]:.2f}")
    return f"ensemble of {len(found.get('members', []))}, " + ", ".join(parts)
