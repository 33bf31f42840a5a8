"""Commands of the Earth Engine part: `thawslump export ...`."""

from __future__ import annotations

import json
from pathlib import Path
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
    for words in _warnings(_chosen(site)):
        typer.echo(f"Warning: {words}", err=True)
    run_pipeline(workspace, until="export", site=site, reporter=options.reporter())


@app.command("submit")
def submit(site: Name = None) -> None:
    """Start batch tasks on the service, for areas too large to fetch tile by tile."""
    from gee.exports import batch

    workspace = options.workspace()
    for name in _chosen(site):
        found = batch.submit(workspace, name)
        if options.current.json:
            typer.echo(json.dumps(found, sort_keys=True))
            continue
        where = f"{found['method'].replace('_', ' ')}, {found['destination']}"
        typer.echo(f"{name}: {len(found['tasks'])} tasks write to {where}")
        for task in found["tasks"]:
            typer.echo(f"  {task['prefix']}*.tif  ({task['operation']})")


@app.command("status")
def status(site: Name = None) -> None:
    """Tell how far batch tasks are, and what they have cost so far."""
    from gee.exports import batch

    rows = batch.status(options.workspace(), _chosen(site))
    if options.current.json:
        typer.echo(json.dumps(rows, sort_keys=True))
        return
    if not rows:
        typer.echo("No batch tasks were started here: thawslump export submit")
    for row in rows:
        cost = "" if row["eecu_seconds"] is None else f", {row['eecu_seconds']:.0f} EECU-seconds"
        error = f": {row['error']}" if row["error"] else ""
        typer.echo(f"{row['site']} {row['product']}: {row['state'].lower()}{cost}{error}")


@app.command("cancel")
def cancel(site: Name = None) -> None:
    """Cancel the batch tasks that still run, and forget them."""
    from gee.exports import batch

    workspace = options.workspace()
    stopped = sum(batch.cancel(workspace, name) for name in _chosen(site))
    typer.echo(f"{stopped} tasks cancelled")


@app.command("fetch")
def fetch(
    folder: Annotated[
        Path, typer.Option("--from", help="Folder with the files that the tasks wrote.")
    ],
    site: Name = None,
) -> None:
    """Make the tiles from the files that batch tasks left in Drive or a bucket."""
    from gee.exports import batch

    workspace = options.workspace()
    for name in _chosen(site):
        if site is None and batch.record(workspace, name) is None:
            continue
        found = batch.collect(workspace, name, folder, _told)
        typer.echo(
            json.dumps({"site": name, **found}, sort_keys=True)
            if options.current.json
            else f"{name}: {found['files']} files, {found['pixels']} pixels"
        )


def _warnings(names: list[str]) -> list[str]:
    """Return each warning of the sources' terms once, with the sites that it is for."""
    from gee.exports import credits

    sites: dict[str, list[str]] = {}
    for name in names:
        site = options.workspace().site(name)
        for words in credits.warnings(credits.expected(site), site):
            sites.setdefault(words, []).append(name)
    return [f"{words}: {', '.join(found)}" for words, found in sites.items()]


def _told(share: float, words: str) -> None:
    typer.echo(f"{share:.0%} {words}", err=True)


def _chosen(site: str | None) -> list[str]:
    workspace = options.workspace()
    if site is not None:
        return [workspace.site(site).name]
    return [each.name for each in workspace.sites.values() if each.source == "earthengine"]
