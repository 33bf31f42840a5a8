"""Commands of the Earth Engine part: `thawslump export ...`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

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
    names = [site] if site is not None else list(workspace.declared)
    requests, seconds = 0, 0.0
    for name in names:
        found = check(workspace, name)
        requests += found["requests"]
        seconds += found.get("eecu_seconds_estimate", 0.0)
        typer.echo(json.dumps(found, sort_keys=True) if options.current.json else found["text"])
    if len(names) > 1 and not options.current.json:
        typer.echo(f"all {len(names)}: {requests} requests, about {seconds:.0f} EECU-seconds")


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
            end = "" if found["method"] == "asset" else "*.tif"
            typer.echo(f"  {task['prefix']}{end}  ({task['operation'] or 'it is there already'})")


@app.command("status")
def status(
    site: Name = None,
    watch: Annotated[
        bool,
        typer.Option(help="Look by itself until all tasks have ended or the budget is spent."),
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between two looks, with --watch.")
    ] = 30.0,
) -> None:
    """Tell how far batch tasks are, and what they have cost so far; cancel them at the budget."""
    from gee.exports import batch

    workspace, names = options.workspace(), _chosen(site)
    if watch:
        batch.watch(workspace, names, every, _tasks)
    else:
        _tasks(batch.status(workspace, names))


def _tasks(rows: list[dict[str, Any]]) -> None:
    from gee.exports.pace import duration

    if options.current.json:
        typer.echo(json.dumps(rows, sort_keys=True))
        return
    if not rows:
        typer.echo("No batch tasks were started here: thawslump export submit")
    for row in rows:
        running = row["state"] == "RUNNING"
        said = [
            row["state"].lower(),
            f"{row['progress']:.0%} done" if running and row["progress"] else "",
            f"about {duration(row['seconds_left'])} left" if row["seconds_left"] else "",
            "" if row["eecu_seconds"] is None else f"{row['eecu_seconds']:.0f} EECU-seconds",
        ]
        error = f": {row['error']}" if row["error"] else ""
        words = ", ".join(part for part in said if part)
        typer.echo(f"{row['site']} {row['product']}: {words}{error}")


@app.command("cost")
def cost(
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget it, so that the budget counts anew.")
    ] = False,
) -> None:
    """Tell what the exports of this workspace have cost, and what of the budget is left."""
    import contextlib

    from gee.exports.meter import LEDGER, Ledger

    workspace = options.workspace()
    budget = workspace.config.export.eecu_budget
    with contextlib.closing(Ledger(workspace.root / "tiles" / LEDGER)) as ledger:
        rows = ledger.rows()
        if reset:
            ledger.clear()
    measured, assumed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    found = {
        "eecu_seconds": round(measured, 3),
        "eecu_seconds_assumed": round(assumed, 3),
        "eecu_budget": budget,
        "jobs": [{"job": job, "measured": one, "assumed": two} for job, one, two in rows],
    }
    if options.current.json:
        typer.echo(json.dumps(found, sort_keys=True))
        return
    for job, one, two in rows:
        more = f", and {two:.4g} assumed where the service did not say" if two else ""
        typer.echo(f"{job}: {one:.4g} EECU-seconds{more}")
    left = "" if budget is None else f" of a budget of {budget:g}"
    typer.echo(f"together {measured + assumed:.4g} EECU-seconds{left}")
    if reset:
        typer.echo("forgotten; the budget counts anew")


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
        Path | None,
        typer.Option("--from", help="Folder with the files that the tasks wrote; not for assets."),
    ] = None,
    site: Name = None,
) -> None:
    """Make the tiles from the files that batch tasks left in Drive or a bucket, or as assets."""
    from gee.exports import batch

    workspace, told = options.workspace(), _Told()
    for name in _chosen(site):
        if site is None and batch.record(workspace, name) is None:
            continue
        found = batch.collect(workspace, name, folder, told)
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


class _Told:
    """Says how far something is, no oftener than every few seconds."""

    def __init__(self, seconds: float = 2.0) -> None:
        self._seconds, self._last = seconds, float("-inf")

    def __call__(self, share: float, words: str) -> None:
        if share >= 1 or time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            typer.echo(f"{share:.0%} {words}", err=True)


def _chosen(site: str | None) -> list[str]:
    workspace = options.workspace()
    if site is not None:
        return list(workspace.parts(site))
    return [each.name for each in workspace.sites.values() if each.source == "earthengine"]
