"""Commands that belong to no single part: demo, new, run, status, doctor, site, iterate, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawslump import options

if TYPE_CHECKING:
    from thawslump.pipeline import Waiting

Until = Annotated[str | None, typer.Option("--until", help="Stop after this step.")]


def _start(
    workspace_root: Path,
    *,
    until: str | None = None,
    until_round: int = 1,
    site: str | None = None,
) -> Waiting | None:
    from thawslump.pipeline import run as run_pipeline
    from thawslump.workspace import Workspace

    workspace = Workspace(workspace_root)
    return run_pipeline(
        workspace,
        until=until,
        until_round=until_round,
        site=site,
        reporter=options.reporter(workspace.config.rounds.maximum),
    )


def demo(
    directory: Annotated[Path, typer.Argument(help="Folder of the demo's workspace.")] = Path(
        "thawslump-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the made-up valley.")] = 1,
    rows: Annotated[int, typer.Option(min=128, help="Rows of the valley, 10 m each.")] = 512,
    cols: Annotated[int, typer.Option(min=192, help="Columns of the valley.")] = 1024,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small valley and short training: minutes less.")
    ] = False,
    until: Until = None,
) -> None:
    """The whole chain on a made-up valley; no account, no download.

    A scripted reviewer that errs on 5 % of the candidates stands in for people. Started again, the
    command continues; in a folder where it has ended, only what an edited setting touches is done.
    """
    from thawslump.demo import prepare, summary

    workspace = prepare(directory, seed=seed, shape=(rows, cols), quick=quick)
    _start(workspace.root, until=until)
    if until is None:
        typer.echo(summary(workspace))


def new(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    example: Annotated[bool, typer.Option(help="With an example site file.")] = True,
) -> None:
    """Make a workspace with commented starter files."""
    from thawslump.starter import make

    for path in make(directory, example=example):
        typer.echo(path)


def run(
    until: Until = None,
    round_: Annotated[
        int, typer.Option("--round", min=1, help="Round in which --until counts.")
    ] = 1,
    site: Annotated[str | None, typer.Option(help="Only this site.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """Run every step that is not done yet; stop at review and say how many wait."""
    from thawslump.estimate import expect, show

    workspace = options.workspace()
    workspace.config  # noqa: B018  (a wrong setting is said before anything else)
    with workspace.lock():
        expected = expect(workspace)
    typer.echo(show(expected, json_lines=options.current.json), err=not options.current.json)
    if dry_run:
        return
    waiting = _start(workspace.root, until=until, until_round=round_, site=site)
    if waiting is not None:
        typer.echo(f"{waiting.count} wait: {waiting.message}")


def iterate() -> None:
    """Do the next round, and the next, until one finds nothing new (as `run` does)."""
    waiting = _start(options.workspace().root)
    if waiting is not None:
        typer.echo(f"{waiting.count} wait: {waiting.message}")


def report() -> None:
    """Write report.html from what is there, whether the chain has ended or not."""
    from thawslump.config import target
    from thawslump.pipeline import step_named

    workspace = options.workspace()
    numbers = [int(p.name) for p in workspace.root.glob("rounds/*") if p.name.isdigit()]
    items = target(step_named("report").plan)(workspace, max([1, *numbers]))
    for item in items:
        target(item.target)(item, workspace, lambda fraction, words="": None)
        for path in item.outputs:
            typer.echo(path)


def status() -> None:
    """Show what is done, running and failed, and what it took."""
    from thawslump.status import show, table

    typer.echo(show(table(options.workspace()), json_lines=options.current.json))


def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask neither the service nor an emulator.")
    ] = False,
) -> None:
    """Show what this machine has and lacks, and whether the service takes the project."""
    from thawslump.doctor import checks, show
    from thawslump.workspace import Workspace

    root = options.current.workspace
    inside = (root / "thawslump.yaml").exists()
    found = checks(Workspace(root) if inside else None, offline)
    typer.echo(show(found, options.current.json))
    if any(check.state == "fail" for check in found):
        sys.exit(1)


site = typer.Typer(no_args_is_help=True, help="Add a site file, or check one.")


@site.command("add")
def site_add(
    name: Annotated[str, typer.Argument(help="Name: letters, digits, - _ . only.")],
    bounds: Annotated[
        tuple[float, float, float, float], typer.Option(help="West south east north, degrees.")
    ],
    pre: Annotated[
        tuple[str, str] | None, typer.Option(help="Window before: first day, day after the last.")
    ] = None,
    post: Annotated[tuple[str, str] | None, typer.Option(help="Window after, same season.")] = None,
    event: Annotated[
        str | None, typer.Option(help="Day of the change, YYYY-MM-DD; gives both windows.")
    ] = None,
    months: Annotated[
        int | None, typer.Option(min=1, help="Length of the event's windows; 1, 2, 12 usual.")
    ] = None,
    season: Annotated[
        str | None,
        typer.Option(help="same: those months of the year before; around: up to the event."),
    ] = None,
    years: Annotated[
        str | None,
        typer.Option(help="FIRST-LAST: no event date; one site per two years, named NAME-Y-Y."),
    ] = None,
    season_start: Annotated[
        str | None, typer.Option(help="With --years: first day of the season, MM-DD. [07-01]")
    ] = None,
    season_end: Annotated[
        str | None, typer.Option(help="With --years: day after the season, MM-DD. [09-01]")
    ] = None,
    role: Annotated[str, typer.Option(help="train, validation, test or area.")] = "area",
    outlines: Annotated[
        Path | None, typer.Option(help="Vector file of known slumps (not for areas).")
    ] = None,
) -> None:
    """Write a site file with comments: windows given, from an event, or year by year.

    One of three: --pre and --post; --event and --months; --years.
    """
    from thawslump.config import parse_model, save_yaml
    from thawslump.errors import ConfigError
    from thawslump.site import Site
    from thawslump.windows import MONTH, asked, out_of_season

    workspace = options.workspace()
    workspace.config  # noqa: B018  (no site file outside a workspace)
    made = []
    for suffix, windows in asked(
        pre=pre,
        post=post,
        event=event,
        months=months,
        season=season,
        years=years,
        season_start=season_start,
        season_end=season_end,
    ):
        values = {
            "name": name + suffix,
            "role": role,
            "bounds": bounds,
            "outlines": outlines,
            **windows,
        }
        site = parse_model(Site, values, "site add")
        site.grid()
        made.append(site)
    folder = workspace.root / ("areas" if role == "area" else "sites")
    paths = [folder / f"{site.name}.yaml" for site in made]
    for path in paths:
        # Before any is written: a series is made whole or not at all.
        if path.exists():
            raise ConfigError(f"{path} exists.", hint="Edit it, or choose another name.")
    for path, site in zip(paths, made, strict=True):
        save_yaml(path, site.as_given())
        typer.echo(path)
    days = max(out_of_season(site.pre, site.post) for site in made if site.pre and site.post)
    if days > MONTH:
        typer.echo(
            f"The windows lie {days} days apart in the year: change of season looks like change "
            "of the ground.",
            err=True,
        )


@site.command("check")
def site_check(name: Annotated[str, typer.Argument(help="Name of the site.")]) -> None:
    """Check a site against the chosen backend before any work."""
    from thawslump.config import target

    found = target("gee.exports.check:check")(options.workspace(), name)
    typer.echo(
        json.dumps(found, indent=1, sort_keys=True) if options.current.json else found["text"]
    )
