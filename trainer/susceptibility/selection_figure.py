"""One page on the factors: inflation, information gain ratio, and how alike they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thawslump.figures import INK
from trainer.susceptibility.figure_page import new_page, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["selection_page"]


def selection_page(report: Mapping[str, Any], made_up: bool = False) -> bytes:
    """Draw a report of `factor_report.factor_report`.

    Parameters
    ----------
    report : mapping
    made_up : bool
        Say so.

    Returns
    -------
    bytes
        PNG, 1,200 pixels wide.
    """
    rows = report["factors"]
    names = report["correlations"]["factors"]
    bars = 1.15 + 0.24 * len(rows)
    matrix = min(6.6, 1.9 + 0.42 * len(names))
    gone = {each["factor"] for each in report["dropped"]}
    words = f"{len(rows)} factor{'s' if len(rows) > 1 else ''}, "
    words += f"{report['samples']} samples, {report['slumps']} of slumps"
    words += "; names in red: dropped by the limits" if gone else ""
    figure = new_page(0.7 + max(2 * bars, matrix), made_up, words)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.35))
    _inflation(figure.add_subplot(grid[0, 0]), report, gone)
    _gain(figure.add_subplot(grid[1, 0]), rows, gone)
    if len(names) > 1:
        _alike(figure.add_subplot(grid[:, 1]), report)
    return png(figure)


def _plain(axes: Axes, names: list[str], gone: set[str]) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK["grey"])
    axes.tick_params(colors=INK["ink"], labelsize=10)
    axes.grid(axis="x", color=INK["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if name in gone:
            label.set_color(INK["vermilion"])


def _inflation(axes: Axes, report: Mapping[str, Any], gone: set[str]) -> None:
    rows = report["factors"]
    limit = report["limits"]["vif"] or report["limits"]["usual_vif"]
    finite = [row["vif"] for row in rows if row["vif"] is not None]
    largest = max([*finite, limit])
    steep = largest > 30
    # Infinite ones reach the edge.
    edge = largest * (4.0 if steep else 1.25)
    axes.set_xscale("log" if steep else "linear")
    axes.set_xlim(1 if steep else 0, edge)
    _plain(axes, [row["name"] for row in rows], gone)
    for k, row in enumerate(rows):
        if row["constant"]:
            words, length = "constant", 0.0
        elif row["vif"] is None:
            words, length = "infinite: an exact sum of others", edge
        else:
            words, length = (
                f"{row['vif']:.2f}" if row["vif"] < 100 else f"{row['vif']:.3g}",
                row["vif"],
            )
        beyond = row["vif"] is None or row["vif"] > limit
        colour = INK["vermilion"] if beyond else INK["blue"]
        axes.barh(k, length, height=0.68, color=colour)
        inside = length == edge
        axes.annotate(
            words, (edge if inside else max(length, 1 if steep else 0), k),
            xytext=(-6 if inside else 4, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", fontsize=9, color="white" if inside else INK["ink"],
            bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            zorder=3,
        )  # fmt: skip
    axes.axvline(limit, color=INK["ink"], linewidth=1.4, linestyle=(0, (5, 2)), zorder=4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(
        f"Variance inflation, GVIF^(1/df) (dashed: {limit:g})",
        loc="left", fontsize=12, color=INK["ink"],
    )  # fmt: skip


def _gain(axes: Axes, rows: list[dict[str, Any]], gone: set[str]) -> None:
    ordered = sorted(rows, key=lambda row: row["gain_ratio_rank"])
    _plain(axes, [row["name"] for row in ordered], gone)
    values = [row["gain_ratio"] for row in ordered]
    axes.barh(range(len(ordered)), values, height=0.68, color=INK["green"])
    axes.set_xlim(0, 1.18 * max([*values, 1e-3]))
    for k, value in enumerate(values):
        axes.annotate(f"{value:.4f}", (value, k), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=9, color=INK["ink"])  # fmt: skip
    axes.set_title("Information gain ratio, ranked", loc="left", fontsize=12, color=INK["ink"])


def _alike(axes: Axes, report: Mapping[str, Any]) -> None:
    names, r = report["correlations"]["factors"], np.array(report["correlations"]["r"])
    limit = report["limits"]["pearson"] or report["limits"]["usual_pearson"]
    lower = np.where(np.tri(len(names), k=-1, dtype=bool), r, np.nan)
    axes.imshow(lower, vmin=0, vmax=1, cmap="Blues", aspect="equal")
    size = 11 if len(names) <= 8 else max(6.5, 9.5 - 0.1 * len(names))
    for i in range(len(names)):
        for j in range(i):
            strong = r[i, j] > limit
            axes.text(
                j, i, f"{r[i, j]:.2f}", ha="center", va="center", fontsize=size,
                fontweight="bold" if strong else "normal",
                color="white" if r[i, j] > 0.55 else INK["ink"],
            )  # fmt: skip
            if strong:
                axes.add_patch(_frame(j, i))
    axes.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
    axes.set_yticks(range(1, len(names)), names[1:])
    axes.set_xlim(-0.5, max(len(names) - 1.5, 0.5))
    axes.set_ylim(max(len(names) - 0.5, 1.5), 0.5)
    axes.tick_params(colors=INK["ink"], labelsize=10, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_anchor("NW")
    axes.set_title(
        f"|r|, the largest of their columns (framed: above {limit:g})",
        loc="left", fontsize=12, color=INK["ink"],
    )  # fmt: skip


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.46, row - 0.46), 0.92, 0.92, fill=False,
        edgecolor=INK["vermilion"], linewidth=2.0,
    )  # fmt: skip
