"""Commands of susceptibility (loads without numpy and torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from thawslump import options

if TYPE_CHECKING:
    from thawslump.workspace import Workspace

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


def _run(step: str) -> Workspace:
    from thawslump.pipeline import run

    workspace = options.workspace()
    run(workspace, until=step, reporter=options.reporter(workspace.config.rounds.maximum))
    return workspace


@app.command()
def select() -> None:
    """Draw the samples and look at the factors, with all steps before that are left."""
    workspace = _run("susceptibility-select")
    for path in sorted(workspace.root.glob("rounds/*/susceptibility/selection.json")):
        typer.echo(path)


@app.command()
def fit() -> None:
    """Fit the models in all folds and on all samples, and set them side by side."""
    workspace = _run("susceptibility-compare")
    for path in sorted(workspace.root.glob("rounds/*/susceptibility/comparison.csv")):
        typer.echo(path)


@app.command(name="map")
def draw() -> None:
    """Draw the maps and their classes, with all steps before that are left."""
    workspace = _run("susceptibility")
    for path in sorted(workspace.root.glob("rounds/*/maps/susceptibility-*.tif")):
        typer.echo(path)
