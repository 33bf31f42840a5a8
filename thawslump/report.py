"""The report: one HTML page of a workspace, with everything it shows inside the file.

The plan is light; the page is made by `run`, from whatever files exist. Equal files give equal
bytes: nothing on the page tells when it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.caveats import caveats, ends, fixed, is_made_up
from thawslump.pipeline import Item
from thawslump.results import Model, Results, inventory_digest, last_round, read

if TYPE_CHECKING:
    from thawslump.evaluation import Bands
    from thawslump.workspace import Workspace

__all__ = ["plan_report", "render", "run"]

_VERSION = 3
_PACKAGES = (
    "thawslump", "numpy", "rasterio", "torch", "segmentation-models-pytorch", "timm",
    "scikit-learn", "earthengine-api",
)  # fmt: skip


def plan_report(workspace: Workspace, round: int) -> list[Item]:
    """Return the one item of the step: report.html, from the files that exist.

    Parameters
    ----------
    workspace : Workspace
    round : int
        The last round to report; 0 takes the last there is.

    Returns
    -------
    list of Item
    """
    number = round or last_round(workspace)
    return [
        Item(
            step="report",
            name="report",
            target="thawslump.report:run",
            settings={
                "config": workspace.config.model_dump(mode="json"),
                "sites": {
                    name: site.model_dump(mode="json") for name, site in workspace.declared.items()
                },
                # What the inventory says, not its bytes: opening it in QGIS changes those.
                "inventory": inventory_digest(workspace.inventory),
                "round": number,
            },
            inputs=tuple(_inputs(workspace, number)),
            outputs=(workspace.report,),
            version=_VERSION,
            round=round,
            cost=8.0,
        )
    ]


def _inputs(workspace: Workspace, last: int) -> list[Path]:
    found: list[Path] = []
    for name in (*workspace.sites, *workspace.mosaics):
        found += [
            workspace.stack(name),
            workspace.context(name),
            workspace.factors(name),
            workspace.item(name),
        ]
    for number in range(1, last + 1):
        found += [workspace.round(number) / "susceptibility.json"]
        found += sorted(workspace.round(number).glob("susceptibility/figures/*.png"))
        found += sorted(workspace.models(number).glob("*/metrics.json"))
        found += sorted(workspace.models(number).glob("*/item.json"))
        found += sorted(workspace.maps(number).glob("*.tif"))
        found += sorted(workspace.maps(number).glob("*.vrt"))
        found += [workspace.labels(number, name) for name in workspace.sites]
    return [path for path in found if path.exists()]


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Write report.html."""
    from thawslump.files import write_text

    page = render(workspace, int(item.settings.get("round", item.round)) or None, progress)
    write_text(item.outputs[0], page)
    return {"kilobytes": len(page.encode()) // 1024}


def render(
    workspace: Workspace,
    round: int | None = None,
    progress: Callable[[float, str], None] = lambda fraction, words: None,
) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    workspace : Workspace
    round : int, optional
        Report up to this round; the last where not given.
    progress : callable
        Told the fraction done and what is being done.

    Returns
    -------
    str
        A page that asks for nothing outside itself.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from thawslump.evaluation import band_table, with_test_scores
    from thawslump.pictures import shown_sites, site_map
    from thawslump.provenance import credits, landcovers, site_row
    from thawslump.susceptibility_pictures import class_rows

    progress(0.0, "reading")
    results = with_test_scores(workspace, read(workspace, round))
    progress(0.1, "bands")
    bands = band_table(workspace, results)
    progress(0.3, "maps")
    maps = [site_map(workspace, site, results) for site in shown_sites(workspace)]
    progress(0.7, "charts")
    charts = {name: Markup(svg) for name, svg in _charts(results).items()}
    progress(0.9, "page")
    environment = Environment(
        loader=PackageLoader("thawslump", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        n2=lambda value: fixed(value, 2),
        n3=lambda value: fixed(value, 3),
        signed=lambda value: "–" if value is None else f"{value:+.2f}".replace("-", "−"),
        percent=lambda value: "–" if value is None else f"{100 * value:.0f} %",
        whole=lambda value: "–" if value is None else f"{value:,.0f}".replace(",", "\u202f"),
        duration=_duration,
        size=_size,
        ends=ends,
    )
    page = environment.get_template("report.html.j2").render(
        name=workspace.config.name,
        made_up=is_made_up(workspace),
        results=results,
        headline=_headline(results, bands),
        careful=caveats(workspace, results, bands),
        maps=maps,
        charts=charts,
        bands=bands,
        sites=[
            site_row(workspace, workspace.site(view))
            for name in workspace.declared
            for view in workspace.views(name)
        ],
        landcovers=landcovers(workspace),
        credits=credits(workspace),
        config=_config_text(workspace),
        versions=_versions(),
        members={model.round: model.members for model in results.ensembles},
        classes=class_rows(results),
        likely=_likely(workspace, results),
        has_susceptibility_map=any("susceptibility" in m.positions for m in maps),
        scripted=results.kinds.get("scripted", 0) > 0,
        people=results.kinds.get("people", 0) > 0,
    )
    progress(1.0, "done")
    return page


# Words and numbers --------------------------------------------------------------------------


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def _headline(results: Results, bands: Bands) -> dict[str, Any]:
    """Return the numbers of the first screen."""
    ensemble = results.ensemble
    runs = results.runs_of(ensemble.round) if ensemble else ()
    members = [run for run in runs if not ensemble or run.name in ensemble.members] or list(runs)
    rows = []
    for split in ("validation", "test"):
        own = ensemble.splits.get(split) if ensemble else None
        values = [value for run in members if (value := run.f1(split)) is not None]
        best = max(
            (run for run in runs if run.f1("validation") is not None),
            key=lambda run: run.f1("validation") or 0.0,
            default=None,
        )
        if own is None and not values:
            continue
        rows.append(
            {
                "split": split,
                "ensemble": own.f1 if own else None,
                "mean": sum(values) / len(values) if values else None,
                "low": min(values, default=None),
                "high": max(values, default=None),
                "best": best.f1(split) if best else None,
                "best_name": best.name if best else "",
                "rule": bands.rule_splits.get(split),
                "outlines": _outlines(ensemble, split),
            }
        )
    last = results.rounds[-1] if results.rounds else None
    return {
        "f1": rows,
        "members": len(members),
        "proposed": sum(r.proposed for r in results.rounds),
        "accepted": sum(r.accepted for r in results.rounds),
        "rejected": sum(r.rejected for r in results.rounds),
        "open": sum(r.open for r in results.rounds),
        "slumps": last.slumps if last else results.known,
        "hectares": last.hectares if last else results.known_hectares,
        "susceptibility": results.map_model,
    }


def _likely(workspace: Workspace, results: Results) -> dict[str, Any]:
    """Return what the section on susceptibility shows beside the scores."""
    from thawslump.susceptibility_pictures import figures
    from thawslump.susceptibility_results import (
        SCORES,
        dropped_words,
        factor_words,
        model_words,
        outside,
        rates,
        worth,
    )

    facts, chosen = results.susceptibility_facts, results.map_model
    number = results.susceptibility_round
    about, rows = rates(facts)
    counted: dict[str, list[int]] = {}
    for site, (count, cells) in outside(facts).items():
        place = workspace.area_of(site) if site in workspace.sites else site
        sums = counted.setdefault(place, [0, 0])
        sums[0], sums[1] = sums[0] + count, sums[1] + cells
    dropped: dict[str, list[str]] = {}
    for model in results.susceptibility:
        words = dropped_words(model)
        if words:
            dropped.setdefault(words, []).append(model_words(model.name))
    return {
        "names": {model.name: model_words(model.name) for model in results.susceptibility},
        "factors": factor_words(facts),
        "score_names": SCORES,
        "figures": figures(workspace, number) if number else [],
        "outside": [(place, *sums) for place, sums in counted.items()],
        "worth": worth(facts, chosen.name) if chosen else [],
        "dropped": [(", ".join(names), words) for words, names in dropped.items()],
        "deformation": about,
        "rates": rows,
    }


def _outlines(ensemble: Model | None, split: str) -> dict[str, Any] | None:
    """Return the object and boundary scores of a part; None where a file has none."""
    part = ensemble.facts.get(split) if ensemble else None
    return part if isinstance(part, dict) and {"objects", "boundary"} <= set(part) else None


# Charts -------------------------------------------------------------------------------------


def _charts(results: Results) -> dict[str, str]:
    from thawslump.figures import Point, lines, performance_diagram

    charts = {"performance": "", "rounds": "", "sizes": ""}
    last = results.ensemble.round if results.ensemble else results.round
    points = []
    models: list[tuple[Model, str, bool]] = [
        (run, run.architecture or run.name, False) for run in results.runs_of(last)
    ]
    if results.ensemble:
        models.append((results.ensemble, "ensemble", True))
    models.sort(key=lambda entry: (entry[2], entry[1]))
    for split, hollow in (("test", False), ("validation", True)):
        for model, group, strong in models:
            part = model.splits.get(split)
            if part and part.precision is not None and part.recall is not None:
                points.append(Point(part.precision, part.recall, group, strong, hollow))
    if points:
        charts["performance"] = performance_diagram(points)
    if len(results.ensembles) > 1:
        series: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
        for split in ("validation", "test"):
            values: list[tuple[float, float, float | None, float | None]] = [
                (float(m.round), m.splits[split].f1.value, m.splits[split].f1.low,
                 m.splits[split].f1.high)
                for m in results.ensembles if split in m.splits
            ]  # fmt: skip
            if values:
                series[f"ensemble, {split}"] = values
            means: list[tuple[float, float, float | None, float | None]] = [
                (float(m.round), sum(v) / len(v), None, None)
                for m in results.ensembles
                if (v := [f for run in results.runs_of(m.round)
                          if run.name in m.members and (f := run.f1(split)) is not None])
            ]  # fmt: skip
            if means:
                series[f"mean member, {split}"] = means
        if series:
            charts["rounds"] = lines(
                series, x_label="round", y_label="F1", name="rounds", title="F1 per round"
            )
    sizes = _sizes(results)
    if sizes:
        charts["sizes"] = lines(
            sizes, x_label="members, best first", y_label="F1 on validation", name="sizes",
            title="F1 against ensemble size",
        )  # fmt: skip
    return charts


def _sizes(
    results: Results,
) -> dict[str, list[tuple[float, float, float | None, float | None]]]:
    """Return F1 on validation against ensemble size, per round."""
    return {
        f"round {model.round}": [(float(size), f1, None, None) for size, f1 in model.sizes]
        for model in results.ensembles
        if len(model.sizes) > 1
    }


# Provenance ---------------------------------------------------------------------------------


def _config_text(workspace: Workspace) -> str:
    from thawslump.config import commented_yaml

    lines = commented_yaml(workspace.config).splitlines()
    # Where a key lies on somebody's machine is nothing for a page that is passed on.
    key = "service_account_key:"
    lines = [
        line if not line.lstrip().startswith(key) or line.rstrip().endswith("null")
        else f"{line.partition(key)[0]}{key} (set)"
        for line in lines
    ]  # fmt: skip
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _versions() -> list[tuple[str, str]]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from thawslump import __version__

    found = [("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, __version__ if name == "thawslump" else version(name)))
        except PackageNotFoundError:
            continue
    return found
