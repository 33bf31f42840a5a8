"""Commands of the Earth Engine part: `thawslump export ...`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from thawslump import options

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Tiles from the live service or the emulator.")

Name = Annotated[str | None, typer.Option("--site", help="Only this site or area.")]


@app.command("plan")
def plan(site: Name = None) -> None:
    """Ask what images there are, and say what the export would take. Fetches nothing."""
    from gee.exports.check import check

    workspace = options.workspace()
    names = [site] if site is not None else list(workspace.sites)
    for name in names:
        found = check(workspace, name)
        typer.echo(json.dumps(found, sort_keys=True) if options.current.json else found["text"])


@app.command("run")
def run(site: Name = None) -> None:
    """Export what is not done yet; finished tiles are kept when it is stopped."""
    from thawslump.pipeline import run as run_pipeline

    workspace = options.workspace()
    run_pipeline(workspace, until="export", site=site, reporter=options.reporter())
