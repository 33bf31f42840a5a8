"""Commands of the trainer (loads without numpy and torch)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawslump import options

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.workspace import Workspace

__all__ = ["ensemble", "predict", "train"]

Round = Annotated[int, typer.Option("--round", min=1, help="Round of labels to work on.")]


def _run(step: str, round: int, site: str | None = None) -> Workspace:
    from thawslump.pipeline import run

    workspace = options.workspace()
    run(
        workspace,
        until=step,
        until_round=round,
        site=site,
        reporter=options.reporter(workspace.config.rounds.maximum),
    )
    return workspace


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _show(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table, or as one JSON line each."""
    if options.current.json:
        for row in rows:
            typer.echo(json.dumps(row, sort_keys=True))
        return
    cells = [[_cell(value) for value in row.values()] for row in rows]
    names = list(rows[0]) if rows else []
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in [names, *cells]:
        typer.echo("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def train(round_: Round = 1) -> None:
    """Train the grid of runs, with all steps before it that are not done yet.

    A run that was stopped continues after its last whole epoch and ends as if it had not been.
    """
    workspace = _run("train", round_)
    rows = []
    for run in workspace.config.segmentation.runs:
        path = workspace.models(round_) / run.name / "metrics.json"
        if path.exists():
            record = _read(path)
            rows.append(
                {
                    "run": run.name,
                    "F1 on validation": record["validation"]["f1"],
                    "epoch": record["epoch"],
                }
            )
    _show(sorted(rows, key=lambda row: (-row["F1 on validation"], row["run"])))


def ensemble(round_: Round = 1) -> None:
    """Choose the best runs on validation as members, and the threshold of their mean."""
    workspace = _run("ensemble", round_)
    path = workspace.models(round_) / "ensemble" / "metrics.json"
    if path.exists():
        record = _read(path)
        _show([{key: row[key] for key in ("size", "f1", "added")} for row in record["sizes"]])
        if not options.current.json:
            typer.echo(
                f"{len(record['members'])} members, threshold {record['threshold']}, "
                f"F1 on validation {record['validation']['f1']:.4f}"
            )


def predict(
    round_: Round = 1,
    site: Annotated[str | None, typer.Option(help="Only this site or area.")] = None,
) -> None:
    """Draw the ensemble's probability maps of areas, test and validation sites."""
    workspace = _run("predict", round_, site)
    for path in sorted(workspace.maps(round_).glob("*.tif")):
        typer.echo(path)
