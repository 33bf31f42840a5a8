"""The demonstration: a workspace on the made-up valley, with a scripted reviewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.config import config_model, parse_model, save_yaml, target
from thawslump.errors import ConfigError
from thawslump.site import Site
from thawslump.workspace import Workspace

if TYPE_CHECKING:
    from thawslump.results import Model

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


def summary(workspace: Workspace) -> str:
    """Return the closing lines: the numbers, the report, and how to open the review page."""
    from thawslump.evaluation import with_test_scores
    from thawslump.results import read

    lines = ["", f"{workspace.config.name} (made-up data, decisions by a SCRIPTED reviewer)"]
    counts = target("inventory.statistics:summary")(workspace.inventory)
    lines += [f"  {words}" for words in counts]
    results = with_test_scores(workspace, read(workspace))
    lines += [f"  {_scores(ensemble)}" for ensemble in results.ensembles]
    lines += [
        f"  susceptibility, {model.name}: AUC {model.spatial.value:.2f} in spatial folds, "
        f"{model.random.value:.2f} in random ones"
        for model in results.susceptibility
    ]
    shown = workspace.root
    if shown.is_relative_to(Path.cwd()):
        shown = shown.relative_to(Path.cwd())
    lines += [
        f"Report:      {shown / workspace.report.name}",
        f"Review page: thawslump --workspace {shown} review",
    ]
    return "\n".join(lines)


def _scores(ensemble: Model) -> str:
    parts = [
        f"F1 {split.f1.value:.2f} on {name}"
        for name, split in ensemble.splits.items()
        if split.f1 is not None
    ]
    members = len(ensemble.members)
    return f"round {ensemble.round}: ensemble of {members} runs, " + ", ".join(parts)
