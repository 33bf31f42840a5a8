"""Step `susceptibility-compare`: all models on the same folds, side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.files import atomic, write_json, write_text
from trainer.susceptibility import held, table, validation
from trainer.susceptibility.applicability import Applicability
from trainer.susceptibility.files import Files
from trainer.susceptibility.steps.fit import folds_of, model_of
from trainer.susceptibility.table import Samples

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["run"]


def _told(name: str, found: validation.Interval) -> dict[str, Any]:
    return {
        name: _finite(found.value),
        f"{name}_interval": [_finite(found.low), _finite(found.high)],
    }


def _finite(value: float) -> float | None:
    # JSON has no NaN; a fold without a slump has no area under the curve.
    return value if np.isfinite(value) else None


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Write comparison.json, its table and figures, and the space of the samples."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    samples = table.read(files.samples)
    names = list(settings["models"])
    said = {name: held.read(files.held(name)) for name in names}
    size = samples.widest_blocks(float(settings["block_size"]))
    blocks = samples.blocks(size)
    progress(0.1, "scores")
    spatial = next(kind for kind in settings["validation"] if kind != "random")
    pairs = {
        f"{name} {kind}": said[name].probability[kind, 0]
        for name in names
        for kind in ("random", spatial)
    }
    resamples, seed = int(settings["resamples"]), int(settings["seed"])
    areas, differences = validation.paired_auc(samples.labels, pairs, blocks, resamples, seed)
    folds, _ = folds_of(spatial, 0, samples, settings)
    scores: dict[str, Any] = {}
    for name in names:
        scores[name] = {
            **_told("gap_random_minus_spatial", differences[f"{name} random", f"{name} {spatial}"]),
            **_told("auc_spatial", areas[f"{name} {spatial}"]),
            **_told("auc_random", areas[f"{name} random"]),
            "auc_spatial_folds": [
                _finite(validation.auc(samples.labels[test], pairs[f"{name} {spatial}"][test]))
                for _, test in folds
            ],
        }
    progress(0.4, "without each factor")
    for left_out, without in _without_each(samples, settings, folds).items():
        for name, value in without.items():
            scores[name].setdefault("auc_spatial_without", {})[left_out] = _finite(value)
    if settings["test"]:
        _score_elsewhere(table.read(files.test_samples), said, scores, settings)
    order = sorted(names, key=lambda name: -(scores[name]["auc_spatial"] or 0.0))
    chosen = order[0] if settings["map_model"] == "best" else str(settings["map_model"])
    if settings["applicability"]:
        of = said[chosen].fold[spatial, 0]
        features = samples.features
        whole = np.isfinite(features).all(axis=1) & (of >= 0)
        Applicability.fit(features[whole], of[whole]).write(files.applicability)
    write_json(
        files.comparison,
        {
            "models": scores,
            "map_model": chosen,
            "spatial": spatial,
            "interval": f"95 %, {resamples} bootstrap draws of whole blocks",
            "n_blocks": int(np.unique(blocks).size),
            "block_size_m": size,
            "block_size_asked_m": settings["block_size"],
        },
    )
    _write_table(files, scores)
    _draw(files, samples, pairs)
    progress(1.0, "done")
    best = scores[chosen]
    return {
        "map_model": chosen,
        "auc_spatial": round(best["auc_spatial"], 4),
        "auc_random": round(best["auc_random"], 4),
    }


def _without_each(
    samples: Samples, settings: Mapping[str, Any], folds: validation.Folds
) -> dict[str, dict[str, float]]:
    """Return the AUC over spatial folds with each factor left out: what hangs on it alone.

    A factor that slumps themselves change (NDVI) may owe its worth to slumps that were there
    already; without it the score says what the terrain knows.
    """
    quick = [name for name in settings["models"] if name in ("logistic", "forest")]
    if len(samples.factors) < 2:
        return {}
    found: dict[str, dict[str, float]] = {}
    for factor in samples.factors:
        others = samples.of([name for name in samples.factors if name != factor])
        found[factor] = {}
        for name in quick:
            probability = validation.out_of_fold(
                model_of(name, settings, others), others.features, others.labels, folds
            )
            found[factor][name] = validation.auc(samples.labels, probability)
    return found


def _score_elsewhere(
    elsewhere: Samples,
    said: Mapping[str, held.Held],
    scores: dict[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Add the scores on held-out sites, whose cells no model was fitted or chosen on."""
    if not len(elsewhere.labels):
        return
    blocks = elsewhere.blocks(elsewhere.widest_blocks(float(settings["block_size"])))
    areas, _ = validation.paired_auc(
        elsewhere.labels,
        {name: each.test for name, each in said.items()},
        blocks,
        int(settings["resamples"]),
        int(settings["seed"]),
    )
    for name in said:
        scores[name] |= _told("auc_test", areas[name])
        scores[name]["n_test"] = [
            int((elsewhere.labels == 1).sum()), int((elsewhere.labels == 0).sum())
        ]  # fmt: skip


def _write_table(files: Files, scores: Mapping[str, Mapping[str, Any]]) -> None:
    text = io.StringIO()
    columns = ["model", "gap_random_minus_spatial", "auc_spatial", "auc_random"]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    for name, found in scores.items():
        rows.writerow([name, *(found[column] for column in columns[1:])])
    write_text(files.table, text.getvalue())


def _draw(files: Files, samples: Samples, pairs: Mapping[str, NDArray[np.float64]]) -> None:
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    for kind in ("scores", "roc"):
        figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot()
        if kind == "roc":
            for name, values in pairs.items():
                axes.plot(*roc_curve(samples.labels, values)[:2], label=name)
            axes.legend()
        else:
            axes.barh(
                list(pairs), [validation.auc(samples.labels, each) for each in pairs.values()]
            )
        path = files.figure(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
