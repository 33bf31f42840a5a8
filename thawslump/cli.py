"""The command line: a table of names, so that help imports neither torch nor ee.

Exit codes: 0 done (or waiting for people), 1 failed, 2 settings or arguments, 3 data,
4 Earth Engine or emulator, 5 busy (workspace or port), 6 storage, 70 a fault of thawslump itself,
130 stopped with Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from thawslump.errors import ThawslumpError
from thawslump.options import current

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("thawslump.commands:demo", "The whole chain on a made-up valley; no account."),
    "new": ("thawslump.commands:new", "Make a workspace with commented starter files."),
    "run": ("thawslump.commands:run", "Every step that is not done yet; stops at review."),
    "status": ("thawslump.commands:status", "What is done, running, failed, and what it took."),
    "doctor": ("thawslump.commands:doctor", "What this machine has and lacks."),
    "site": ("thawslump.commands:site", "Add a site file, or check one against the backend."),
    "tiles": ("thawslump.tiles_commands:app", "Own rasters and outlines as tiles."),
    "emulator": (
        "gee.emulator.commands:app",
        "The local Earth Engine endpoint: serve, ingest, list, capture.",
    ),
    "export": ("gee.commands:app", "Tiles from the live service or the emulator."),
    "train": ("trainer.commands:train", "Train the grid of runs."),
    "ensemble": ("trainer.commands:ensemble", "Choose the members and the threshold."),
    "predict": ("trainer.commands:predict", "Probability maps over areas."),
    "susceptibility": (
        "trainer.susceptibility.commands:app",
        "Susceptibility: select factors, fit models, draw maps.",
    ),
    "inventory": ("inventory.commands:app", "Import, export and count the inventory."),
    "review": ("inventory.commands:review", "The review page in the browser."),
    "iterate": ("thawslump.commands:iterate", "The next round, until nothing new is found."),
    "report": ("thawslump.commands:report", "One self-contained HTML page of the workspace."),
}


def _version(value: bool) -> None:
    if value:
        from thawslump import __version__

        typer.echo(f"thawslump {__version__}")
        raise typer.Exit


def _callback(
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="The workspace; the current folder else.")
    ] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Output for machines: JSON lines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    current.workspace, current.json, current.debug = workspace, json, debug


_callback.__doc__ = "From an area and a date to a reviewed inventory of retrogressive thaw slumps."


def _hoisted(arguments: list[str]) -> list[str]:
    """Bring --workspace, --json and --debug to the front, so that they may stand anywhere.

    Examples
    --------
    >>> _hoisted(["run", "--workspace", "here", "--until", "train", "--json"])
    ['--workspace', 'here', '--json', 'run', '--until', 'train']
    """
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in ("-w", "--workspace"):
            front += [argument, *([value] if (value := next(left, None)) is not None else [])]
        elif argument in ("--json", "--debug") or argument.startswith("--workspace="):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def _invoked(arguments: list[str]) -> str | None:
    """Return the command among the arguments, stepping over the options before it."""
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("-w", "--workspace"):
            skip = True
        elif not argument.startswith("-"):
            return argument
    return None


def build(invoked: str | None) -> typer.Typer:
    """Return the application in which only the invoked command is imported.

    Parameters
    ----------
    invoked : str or None
        Name in `COMMANDS`; the others are listed with their help and never imported.
    """
    from thawslump.config import target

    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_callback)
    for name, (where, words) in COMMANDS.items():
        found: Any = target(where) if name == invoked else _listed
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=words)
        else:
            app.command(name, help=words if found is _listed else None)(found)
    return app


def _listed() -> None:
    """Stand for a command in the list of commands."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error becomes words and a stable exit code."""
    words = _hoisted(sys.argv[1:] if arguments is None else arguments)
    # NumExpr, HDF5 and GDAL chatter would land between our lines.
    os.environ.setdefault("CPL_LOG_ERRORS", "OFF")
    try:
        build(_invoked(words))(args=words, prog_name="thawslump")
    except ThawslumpError as error:
        if current.debug:
            traceback.print_exc()
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  -> {error.hint}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("stopped; the same command continues.", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (head, less) went away: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if current.debug:
            traceback.print_exc()
        print(
            f"error: thawslump itself failed: {type(error).__name__}: {error}\n"
            "  -> Start again with `thawslump --debug ...` and report what it prints.",
            file=sys.stderr,
        )
        raise SystemExit(70) from None


if __name__ == "__main__":
    main()
