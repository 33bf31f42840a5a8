"""Commands of susceptibility (loads without numpy and torch)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawslump import options

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.workspace import Workspace
    from trainer.susceptibility.files import Files

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

_HELP = (
    "They need labels (known outlines, or reviewed ones) and factors; no segmentation model is "
    "trained and no review is waited for."
)


def _run(step: str) -> Files | None:
    """Run what is left up to a step; return the files of the round, None where nothing is labelled.

    Where nothing can be learned from, why is said.
    """
    from thawslump.pipeline import run
    from trainer.susceptibility.files import Files
    from trainer.susceptibility.steps import Sites

    workspace = options.workspace()
    run(workspace, until=step, rounds=False, reporter=options.reporter(0))
    rounds = [int(path.name) for path in workspace.root.glob("rounds/*") if path.name.isdigit()]
    round = max((number for number in rounds if Sites.of(workspace, number).learn), default=None)
    if round is None:
        _say("nothing", _why_nothing(workspace))
        return None
    return Files(workspace, round)


def _why_nothing(workspace: Workspace) -> str:
    known = [name for name in workspace.sites if workspace.factors(name).exists()]
    if not known:
        return (
            "No site has tiles/<site>/factors.tif. Export the sites, or import your own rasters: "
            "`thawslump tiles import NAME --factor slope=slope.tif ...`."
        )
    return (
        f"Of the sites with factors ({', '.join(sorted(known))}) none but tests has labels. Import "
        "outlines: `thawslump tiles import --outlines`, or `thawslump inventory import`."
    )


def _say(event: str, text: str) -> None:
    typer.echo(json.dumps({"event": event, "text": text}) if options.current.json else text)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _show(rows: Sequence[dict[str, Any]], wide: Sequence[dict[str, Any]] | None = None) -> None:
    """Print rows as a table; for machines one JSON line each, of `wide` where given."""
    if options.current.json:
        for row in rows if wide is None else wide:
            typer.echo(json.dumps(row, sort_keys=True))
        return
    if not rows:
        return
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _around(row: dict[str, Any], name: str, sign: str = "") -> str | None:
    """Return a score with its interval, in words."""
    if row.get(name) is None:
        return None
    low, high = row[f"{name}_interval"]
    between = "" if low is None or high is None else f" ({low:{sign}.3f} .. {high:{sign}.3f})"
    return f"{row[name]:{sign}.3f}{between}"


def _seconds(workspace: Workspace) -> dict[str, float]:
    """Return how long each model was fitted, as the ledger knows it."""
    from thawslump.ledger import Ledger

    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        rows = ledger.rows("susceptibility-fit")
    finally:
        ledger.close()
    # Of several rounds, the last.
    return {
        row.name: float(row.facts["fit_seconds"])
        for row in sorted(rows, key=lambda row: row.round)
        if "fit_seconds" in row.facts
    }


def _table(files: Files) -> None:
    """Print the models side by side, the gap first, the best over spatial folds on top."""
    report = _read(files.comparison)
    seconds = _seconds(files.workspace)
    order = sorted(report["models"], key=lambda name: -(report["models"][name]["auc_spatial"] or 0))
    rows, wide = [], []
    for name in order:
        each = report["models"][name]
        row = {
            "model": name,
            "gap, random - spatial": _around(each, "gap_random_minus_spatial", "+"),
            "AUC spatial": _around(each, "auc_spatial"),
            "AUC random": each["auc_random"],
            "AUC held-out sites": _around(each, "auc_test"),
            "accuracy spatial": each["by_kind"][report["spatial"]]["scores"]["accuracy"][0],
            "kappa spatial": each["by_kind"][report["spatial"]]["scores"]["kappa"][0],
            "fitted in": f"{seconds[name]:.0f} s" if name in seconds else None,
        }
        if row["AUC held-out sites"] is None:
            del row["AUC held-out sites"]
        rows.append(row)
        wide.append({"event": "model", "model": name, "fit_seconds": seconds.get(name), **each})
    _show(rows, wide)
    if options.current.json:
        facts = {key: value for key, value in report.items() if key != "models"}
        typer.echo(json.dumps({"event": "compared", **facts, "file": str(files.comparison)}))
        return
    made_up = "Made-up data. " if report["made_up"] else ""
    typer.echo(
        f"{made_up}Spatial: {report['folds'][report['spatial']]['words']} Intervals: "
        f"{report['interval']} ({report['n_blocks']} blocks)."
    )
    chosen, close = report["map_model"], report["not_told_apart_from_best"]
    why = "" if chosen == report["best"] else f" (map_model; {report['best']} has the highest AUC)"
    typer.echo(f"The map is drawn by {chosen}{why}.")
    if close:
        typer.echo(f"Not told apart from {report['best']} by these samples: {', '.join(close)}.")
    if report.get("auc_spatial_after_choice") is not None:
        typer.echo(
            "The best, chosen on some blocks and judged on others: AUC "
            f"{_around(report, 'auc_spatial_after_choice')}."
        )
    for words in _dropped(report["models"]):
        typer.echo(words)
    typer.echo(f"All scores: {files.comparison}, {files.table}")
    typer.echo(f"Figures: {files.figure('scores').parent}")


def _dropped(models: dict[str, Any]) -> list[str]:
    """Return in how many folds of which models each factor was dropped, in words."""
    found: dict[str, list[str]] = {}
    for name, each in models.items():
        for factor, folds in each["dropped_in_folds"].items():
            found.setdefault(factor, []).append(f"{name} {folds} of {each['folds_fitted']}")
    return [f"Dropped inside folds: {factor} ({', '.join(of)})." for factor, of in found.items()]


def _maps(files: Files) -> None:
    """Print the share of ground and of slumps in each class, and where the maps are."""
    report = _read(files.summary)
    maps = [files.probability(name) for name in report["classes"]["cells_by_site"]]
    by_model = report["classes_by_model"]
    shares = {
        "up to": "upper_probability",
        "of the area": "share_of_area",
        "of slumps, held out": "share_of_slump_cells_out_of_fold",
        "of slumps, held-out sites": "share_of_slump_cells_held_out_sites",
    }
    rows, wide = [], []
    for model in sorted(by_model, key=lambda name: (name != report["map_model"], name)):
        of = by_model[model]
        for number, name in enumerate(of["names"]):
            row = {"model": model, "class": name}
            held = {key: None if of[key] is None else of[key][number] for key in shares.values()}
            rows.append({**row, **{words: held[key] for words, key in shares.items()}})
            wide.append({"event": "class", **row, **held})
    _show(rows, wide)
    if options.current.json:
        typer.echo(json.dumps({"event": "maps", "files": [str(path) for path in maps]}))
        return
    for path in maps:
        typer.echo(path)


@app.command()
def select() -> None:
    """Draw the samples and look at the factors.

    Collinearity, what each factor tells, and what the limits would drop. Steps before that are
    left are done first.
    """
    files = _run("susceptibility-select")
    if files is None:
        return
    report = _read(files.selection)
    if options.current.json:
        for row in report["factors"]:
            typer.echo(json.dumps({"event": "factor", **row}, sort_keys=True))
        facts = {key: value for key, value in report.items() if key != "factors"}
        typer.echo(json.dumps({"event": "selected", **facts, "file": str(files.selection)}))
        return
    from trainer.susceptibility.factor_report import as_text

    typer.echo(as_text(report))
    typer.echo(files.selection)


@app.command()
def fit() -> None:
    """Fit and compare the models, over all folds.

    One table, the gap between random and spatial folds first. Steps before that are left are
    done first.
    """
    files = _run("susceptibility-compare")
    if files is not None:
        _table(files)


@app.command(name="map")
def draw() -> None:
    """Draw the maps and their classes.

    Steps before that are left are done first.
    """
    files = _run("susceptibility")
    if files is not None:
        _maps(files)


@app.command()
def compare(
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Models with commas between, or he2024 for the six of He et al. (2024). Written "
            "into thawslump.yaml with side_by_side: true, so that later runs agree.",
        ),
    ] = None,
) -> None:
    """Several models side by side, up to maps and figures.

    One table at the end, the gap between random and spatial folds first. What is done already is
    not done again; a stop costs at most one fold.
    """
    if models is not None:
        from trainer.susceptibility.edit import set_models

        for line in set_models(options.workspace().root / "thawslump.yaml", models):
            _say("edited", line)
    files = _run("susceptibility")
    if files is None:
        return
    _table(files)
    _maps(files)
    config = files.workspace.config.susceptibility
    if len(config.models) > 1 and not config.side_by_side:
        _say(
            "hint",
            "Only the chosen model's maps were drawn: set susceptibility.side_by_side: true in "
            "thawslump.yaml for those of all.",
        )


for _command in (select, fit, draw, compare):
    _command.__doc__ = f"{inspect.cleandoc(_command.__doc__ or '')}\n\n{_HELP}"
