"""Step `susceptibility-select`: collinearity and worth of the factors, told before any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thawslump.files import atomic, write_json
from trainer.susceptibility import table
from trainer.susceptibility.factor_report import factor_report
from trainer.susceptibility.files import Files
from trainer.susceptibility.selection_figure import selection_page

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["run"]


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Write selection.json and its figure. Nothing is dropped here: each model chooses anew."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    samples = table.read(files.samples)
    progress(0.1, "collinearity and information gain")
    report = factor_report(
        samples.factors,
        samples.labels,
        samples.classes,
        vif=settings["vif"],
        pearson=settings["pearson"],
        max_intervals=int(settings["chimerge_intervals"]),
        alpha=float(settings["chimerge_alpha"]),
    )
    made_up = bool(settings["made_up"])
    progress(0.7, "figure")
    path = files.figure("selection")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(selection_page(report, made_up))
    write_json(files.selection, {"made_up": made_up, **report})
    progress(1.0, "done")
    return {
        "factors": len(report["factors"]),
        "dropped": _names(report["dropped"]),
        "dropped_at_usual_limits": _names(report["dropped_at_usual_limits"]),
    }


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(each["factor"]) for each in rows) or "none"
