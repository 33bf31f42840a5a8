"""Figures that set models side by side: numbers in, PNG out.

Colours are those of Okabe and Ito, told apart with every common form of colour blindness; models
differ in dashes or hatching as well, spatial and random folds in filled and open marks. All are
1,200 pixels wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.figures import INK
from trainer.susceptibility.figure_page import new_page, plain, png

if TYPE_CHECKING:
    from trainer.susceptibility.calibration import Reliability

__all__ = [
    "SCORES",
    "TITLES",
    "calibration_curves",
    "importance_table",
    "roc_curves",
    "score_dots",
]

Floats = NDArray[np.float64]

SCORES = {
    "accuracy": "Accuracy",
    "g_mean": "G-mean",
    "specificity": "Specificity",
    "recall": "Recall",
    "precision": "Precision",
    "heidke": "Heidke skill score = kappa",
    "matthews": "Matthews correlation",
    "auc": "AUC",
}
"""Scores that are drawn; for two classes Heidke's is Cohen's kappa."""

TITLES = {
    "logistic": "logistic",
    "forest": "RF",
    "forest_small": "RF, small",
    "boosting": "boosting",
    "svr": "SVR",
    "svc": "SVC",
    "mlp": "MLP",
    "cnn": "CNN",
    "cnn_small": "CNN, small",
    "bagging": "bagging",
    "stacking": "stacking",
    "blending": "blending",
    "spatial_average": "average",
}
"""Names of the models as the figures write them."""

_COLOURS = ("blue", "orange", "green", "vermilion", "purple", "sky")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def _name(model: str) -> str:
    return TITLES.get(model, model)


def _style(number: int) -> dict[str, Any]:
    """Return colour and dashes of a model: no two alike among the first 24."""
    colour = INK[_COLOURS[number % len(_COLOURS)]]
    return {"color": colour, "linestyle": _DASHES[(number + number // 6) % len(_DASHES)]}


def score_dots(
    scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float | None]]]],
    spatial: str,
    made_up: bool = False,
) -> bytes:
    """Draw every score of every model, spatial folds beside random ones (He et al., figure 11).

    Parameters
    ----------
    scores : mapping of model to kind of folds to score to (value, low, high)
        Of the kinds "random" and `spatial`; None where undefined.
    spatial : str
    made_up : bool
        Say so.

    Returns
    -------
    bytes
        PNG.
    """
    from matplotlib.lines import Line2D

    names = list(scores)
    figure = new_page(
        2.4 + 0.62 * len(names),
        made_up,
        f"Scores of the models: {spatial} folds beside random ones, threshold 0.5",
    )
    grid = figure.subplots(2, 4, sharey=True)
    for axes, (score, title) in zip(grid.flat, SCORES.items(), strict=True):
        plain(axes)
        for row, name in enumerate(names):
            new = _numbers(scores[name][spatial][score])
            old = _numbers(scores[name]["random"][score])
            axes.plot([new[0], old[0]], [row, row], color=INK["grey"], linewidth=1.2, zorder=1)
            axes.plot(new[1:], [row + 0.16] * 2, color=INK["blue"], linewidth=2.2, alpha=0.55)
            axes.plot(new[0], row, "o", color=INK["blue"], markersize=8, zorder=3)
            axes.plot(
                old[0], row, "o", color=INK["vermilion"], markersize=8, zorder=2,
                markerfacecolor="white", markeredgewidth=1.8,
            )  # fmt: skip
        axes.set_title(title, fontsize=12, color=INK["ink"])
        axes.set_yticks(range(len(names)), [_name(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
    figure.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color=INK["blue"], markersize=8,
                   label=f"{spatial} folds: new ground"),
            Line2D([], [], marker="o", linestyle="", color=INK["vermilion"], markersize=8,
                   markerfacecolor="white", markeredgewidth=1.8, label="random folds"),
            Line2D([], [], color=INK["blue"], linewidth=2.2, alpha=0.55,
                   label="95 %, other blocks of such ground"),
        ],
        loc="outside lower center", ncols=3, frameon=False, fontsize=12,
    )  # fmt: skip
    return png(figure)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else float(value) for value in values]


def roc_curves(
    labels: NDArray[np.uint8],
    random: Mapping[str, Floats],
    spatial: Mapping[str, Floats],
    areas: Mapping[str, tuple[float, float]],
    kind: str,
    made_up: bool = False,
) -> bytes:
    """Draw the ROC curves, random folds beside spatial ones (He et al., figure 12).

    Parameters
    ----------
    labels : ndarray, shape (n,)
    random, spatial : mapping of model to ndarray of float64, shape (n,)
        Held-out probabilities; NaN where a sample is never tested.
    areas : mapping of model to (float, float)
        AUC over random and over spatial folds, as they are reported.
    kind : str
        Of the spatial folds.
    made_up : bool
    """
    from sklearn.metrics import roc_curve

    figure = new_page(7.4, made_up, f"ROC curves of held-out samples: random and {kind} folds")
    sides = (("random folds", random), (f"{kind} folds: new ground", spatial))
    for number, (axes, (title, said)) in enumerate(
        zip(figure.subplots(1, 2, sharey=True), sides, strict=True)
    ):
        plain(axes)
        axes.plot([0, 1], [0, 1], color=INK["grey"], linewidth=1, linestyle=":")
        for place, (name, values) in enumerate(said.items()):
            told = np.isfinite(values)
            false, true, _ = roc_curve(labels[told], values[told])
            area = areas[name][number]
            axes.plot(false, true, linewidth=2, label=f"{_name(name)}  {area:.3f}", **_style(place))
        axes.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
        axes.set_title(title, fontsize=13, color=INK["ink"])
        axes.set_xlabel("share of other samples called slumps", fontsize=12)
        axes.legend(
            loc="lower right", title="AUC", fontsize=11, frameon=False, handlelength=3.2
        ).get_title().set_fontsize(11)
        if not number:
            axes.set_ylabel("share of slump samples called slumps", fontsize=12)
    return png(figure)


def calibration_curves(found: Mapping[str, Reliability], kind: str, made_up: bool = False) -> bytes:
    """Draw what came true beside what was said, a panel for each model.

    Parameters
    ----------
    found : mapping of model to Reliability
        Of held-out probabilities over the folds of `kind`.
    kind : str
    made_up : bool
    """
    columns = min(3 if len(found) in (3, 5, 6, 9) else 4, len(found))
    rows = -(-len(found) // columns)
    figure = new_page(
        1.0 + rows * min(5.0, 11.4 / columns),
        made_up,
        f"What came true beside what was said, {kind} folds (on the line: as promised)",
    )
    grid = np.atleast_1d(np.asarray(figure.subplots(rows, columns, sharex=True, sharey=True)))
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    most = max(int(each.count.max()) for each in found.values())
    for axes, (name, each) in zip(grid.flat, found.items(), strict=False):
        plain(axes)
        axes.plot([0, 1], [0, 1], color=INK["grey"], linewidth=1.2, linestyle=":")
        full = each.count > 0
        axes.plot(each.said[full], each.came[full], color=INK["blue"], linewidth=1.4)
        axes.scatter(
            each.said[full], each.came[full], s=12 + 160 * each.count[full] / most,
            color=INK["blue"], zorder=3, clip_on=False,
        )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_title(
            f"{_name(name)}: Brier {each.brier:.3f}, error {each.error:.3f}",
            fontsize=11.5, color=INK["ink"],
        )  # fmt: skip
    figure.supxlabel("probability said (area of a dot: number of samples)", fontsize=12)
    figure.supylabel("share that was a slump", fontsize=12)
    return png(figure)


def importance_table(
    found: Mapping[str, Mapping[str, float]], kind: str, chosen: str, made_up: bool = False
) -> bytes:
    """Draw how much of its AUC each model loses without what each factor says.

    Parameters
    ----------
    found : mapping of model to factor to float
        Loss of AUC over the folds of `kind` when the factor is shuffled between blocks.
    kind : str
    chosen : str
        Model by which the factors are ordered.
    made_up : bool
    """
    from matplotlib.colors import LinearSegmentedColormap

    names = [chosen, *(name for name in found if name != chosen)]
    factors = sorted(found[chosen], key=lambda factor: -found[chosen][factor])
    values = np.array([[found[name][factor] for name in names] for factor in factors])
    figure = new_page(
        1.9 + 0.42 * len(factors),
        made_up,
        f"Loss of AUC ({kind} folds) when a factor is shuffled between blocks",
    )
    axes = figure.subplots()
    ramp = LinearSegmentedColormap.from_list("worth", ["#f4f6f8", INK["sky"], INK["blue"]])
    top = max(0.01, float(values.max()))
    axes.imshow(values, cmap=ramp, vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column, row, f"{value:+.3f}", ha="center", va="center", fontsize=12,
            color="white" if value > 0.6 * top else INK["ink"],
        )  # fmt: skip
    axes.set_xticks(range(len(names)), [_name(name) for name in names], fontsize=12)
    axes.set_yticks(range(len(factors)), factors, fontsize=12)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(factors)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=3)
    axes.tick_params(which="minor", length=0)
    return png(figure)
