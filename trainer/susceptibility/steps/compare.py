"""Step `susceptibility-compare`: all models on the same folds, side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.files import atomic, write_json, write_text
from trainer.susceptibility import figures, held, importance, scores, table, validation
from trainer.susceptibility.applicability import Applicability
from trainer.susceptibility.calibration import Reliability, held_out, reliability
from trainer.susceptibility.files import Files
from trainer.susceptibility.folds import described
from trainer.susceptibility.steps.fit import Ground, columns_of
from trainer.susceptibility.table import Samples

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace
    from trainer.susceptibility.validation import Interval

__all__ = ["COLUMNS", "SIMPLEST_FIRST", "run"]

SIMPLEST_FIRST = (
    "logistic",
    "forest_small",
    "forest",
    "boosting",
    "svr",
    "svc",
    "spatial_average",
    "bagging",
    "cnn_small",
    "mlp",
    "cnn",
    "blending",
    "stacking",
)
"""Order in which models are preferred where their AUC over spatial folds is the same."""
COLUMNS = (
    "gap_random_minus_spatial",
    "auc_spatial",
    "auc_random",
    "auc_test",
)


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Write comparison.json, its table and figures, and the space of the samples."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    samples = table.read(files.samples)
    names = list(settings["models"])
    said = {name: held.read(files.held(name)) for name in names}
    ground = Ground.of(samples, settings, workspace)
    spatial, blocks = ground.spatial, ground.blocks
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    _areas(found, said, ground, progress)
    order = sorted(
        names, key=lambda each: (-found[each]["auc_spatial"], SIMPLEST_FIRST.index(each))
    )
    chosen = order[0] if settings["map_model"] == "best" else str(settings["map_model"])
    progress(0.5, "scores")
    _scores(found, said, ground)
    _beside(found, said, ground, order[0])
    progress(0.6, "calibration")
    curves = {name: _calibration(found[name], said[name], ground) for name in names}
    worth = _importance(found, said, ground)
    if settings["test"]:
        _score_elsewhere(table.read(files.test_samples), said, found, settings)
    _without_each(found, said, ground)
    for name in names:
        _fitting(found[name], said[name])
    if settings["applicability"]:
        _applicability(samples, said[chosen], spatial, worth.get(chosen)).write(files.applicability)
    write_json(
        files.comparison,
        {
            "models": found,
            "map_model": chosen,
            "best": order[0],
            "not_told_apart_from_best": [
                name
                for name in order[1:]
                if not (found[name]["auc_spatial_behind_best_interval"][0] or 0) > 0
            ],
            **_after_choice(said, ground),
            "spatial": spatial,
            "folds": _folds(said[chosen]),
            "seed": settings["seed"],
            "interval": f"95 %, {settings['resamples']} bootstrap draws of whole blocks",
            "threshold": 0.5,
            "n_blocks": int(np.unique(blocks).size),
            "block_size_m": samples.widest_blocks(float(settings["block_size"])),
            "block_size_asked_m": settings["block_size"],
            "made_up": bool(settings["made_up"]),
        },
    )
    _write_table(files, found, [*settings["validation"]])
    progress(0.7, "figures")
    _draw(files, samples, said, found, curves, worth, chosen, spatial, bool(settings["made_up"]))
    progress(1.0, "done")
    best = found[chosen]
    return {
        "map_model": chosen,
        "gap": round(best["gap_random_minus_spatial"], 4),
        "auc_spatial": round(best["auc_spatial"], 4),
        "auc_random": round(best["auc_random"], 4),
    }


def _told(name: str, found: Interval) -> dict[str, Any]:
    return {
        name: _finite(found.value),
        f"{name}_interval": [_finite(found.low), _finite(found.high)],
    }


def _finite(value: float) -> float | None:
    # JSON has no NaN; a fold without a slump has no area under the curve.
    return float(value) if np.isfinite(value) else None


def _list(values: NDArray[Any]) -> list[float | None]:
    return [_finite(value) for value in values]


def _areas(
    found: dict[str, dict[str, Any]],
    said: Mapping[str, held.Held],
    ground: Ground,
    progress: Callable[[float, str], None],
) -> None:
    """Add gap and AUC of every kind of folds; the gap of the kind that judges comes first."""
    labels, settings = ground.samples.labels, ground.settings
    resamples, seed = int(settings["resamples"]), int(settings["seed"])
    kinds = [ground.spatial, *(k for k in settings["validation"] if k != ground.spatial)]
    for number, (name, each) in enumerate(said.items()):
        progress(0.45 * number / len(said), f"gap of {name}")
        by_kind: dict[str, Any] = {}
        for kind in kinds:
            if kind == "random":
                continue
            gap = scores.gap(
                labels, each.of("random"), each.of(kind), ground.blocks, resamples, seed
            )
            if kind == ground.spatial:
                found[name] |= _told("gap_random_minus_spatial", gap.difference)
                found[name] |= _told("auc_spatial", gap.spatial)
                found[name] |= _told("auc_random", gap.random)
                by_kind["random"] = {
                    **_told("auc", gap.random),
                    "auc_repetitions": _list(gap.random_each),
                    "auc_standard_error": _finite(gap.random_error),
                }
            by_kind[kind] = {
                **_told("gap_random_minus_spatial", gap.difference),
                **_told("auc", gap.spatial),
                "auc_repetitions": _list(gap.spatial_each),
                "auc_standard_error": _finite(gap.spatial_error),
            }
        for kind, about in by_kind.items():
            inside = scores.within_folds(
                labels, each.of(kind), each.folds(kind), ground.blocks, resamples, seed
            )
            about |= _told("auc_within_folds", inside)
            pairs = zip(each.of(kind), each.folds(kind), strict=True)
            about["auc_folds"] = [
                [
                    _finite(validation.auc(labels[of == fold], values[of == fold]))
                    for fold in np.unique(of[of >= 0])
                ]
                for values, of in pairs
            ]
        found[name]["auc_spatial_folds"] = by_kind[ground.spatial]["auc_folds"][0]
        found[name]["by_kind"] = {kind: by_kind[kind] for kind in settings["validation"]}


def _scores(
    found: dict[str, dict[str, Any]], said: Mapping[str, held.Held], ground: Ground
) -> None:
    """Add the eight scores of the first repetition: called at 0.5, and where others' folds say."""
    labels, settings = ground.samples.labels, ground.settings
    resamples, seed = int(settings["resamples"]), int(settings["seed"])
    for kind in settings["validation"]:
        first = {name: each.probability[kind, 0] for name, each in said.items()}
        plain = scores.side_by_side(labels, first, ground.blocks, resamples=resamples, seed=seed)
        for name, each in plain.scores.items():
            about = found[name]["by_kind"][kind]
            about["scores"] = {
                s: [*map(_finite, (i.value, i.low, i.high))] for s, i in each.items()
            }
            about["samples_scored"] = plain.samples
            of = said[name].fold[kind, 0]
            tested = of >= 0
            try:
                threshold = scores.cross_threshold(labels[tested], first[name][tested], of[tested])
            except DataError:
                continue  # all slumps in one fold: the others cannot say
            called = scores.from_calls(
                scores.calls(labels[tested], first[name][tested], threshold).sum(axis=0)
            )
            about["threshold_of_other_folds"] = {
                "mean": float(threshold.mean()),
                **{score: _finite(float(value)) for score, value in called.items()},
            }


def _beside(
    found: dict[str, dict[str, Any]], said: Mapping[str, held.Held], ground: Ground, best: str
) -> None:
    """Add by how much each model's AUC over spatial folds lies behind the best one's, paired."""
    resamples, seed = int(ground.settings["resamples"]), int(ground.settings["seed"])
    for name, each in said.items():
        if name == best:
            continue
        behind = scores.gap(
            ground.samples.labels,
            said[best].of(ground.spatial),
            each.of(ground.spatial),
            ground.blocks,
            resamples,
            seed,
        ).difference
        found[name] |= _told("auc_spatial_behind_best", behind)


def _after_choice(said: Mapping[str, held.Held], ground: Ground) -> dict[str, Any]:
    """Return the AUC to expect of the best, chosen on some blocks and judged on others."""
    if len(said) < 2:
        return {}
    try:
        found, chosen = scores.after_choice(
            ground.samples.labels,
            {name: each.of(ground.spatial) for name, each in said.items()},
            ground.blocks,
            int(ground.settings["resamples"]),
            int(ground.settings["seed"]),
        )
    except DataError:
        return {}  # too few blocks to leave some out
    return {**_told("auc_spatial_after_choice", found), "best_in_draws": chosen}


def _calibration(about: dict[str, Any], each: held.Held, ground: Ground) -> Reliability:
    """Add whether probabilities over spatial folds mean what they say, and sets that hold."""
    labels, settings = ground.samples.labels, ground.settings
    values, of = each.probability[ground.spatial, 0], each.fold[ground.spatial, 0]
    about["calibration"] = held_out(
        labels,
        values,
        of,
        ground.blocks,
        resamples=int(settings["resamples"]),
        seed=int(settings["seed"]),
    )
    for kind, of_kind in about["by_kind"].items():
        said = each.probability[kind, 0]
        known = np.isfinite(said)
        of_kind["brier"] = reliability(said[known], labels[known]).brier
    tested = of >= 0
    return reliability(values[tested], labels[tested])


def _importance(
    found: dict[str, dict[str, Any]], said: Mapping[str, held.Held], ground: Ground
) -> dict[str, dict[str, float]]:
    """Add what each model owes to each factor; return the falls in AUC."""
    worth: dict[str, dict[str, float]] = {}
    for name, each in said.items():
        if not each.shuffled:
            continue
        made = importance.assembled(
            ground.samples.labels,
            each.probability[ground.spatial, 0],
            each.shuffled,
            each.fold[ground.spatial, 0],
            ground.blocks,
            int(ground.settings["resamples"]),
            int(ground.settings["seed"]),
        )
        found[name]["importance"] = {
            factor: {**_told("fall", of.fall), "spread": _finite(of.spread)}
            for factor, of in made.items()
        }
        worth[name] = {factor: of.fall.value for factor, of in made.items()}
    return worth


def _without_each(
    found: dict[str, dict[str, Any]], said: Mapping[str, held.Held], ground: Ground
) -> None:
    """Add the AUC over spatial folds with each factor left out: what hangs on it alone."""
    labels = ground.samples.labels
    for name, each in said.items():
        for factor, values in each.without.items():
            known = np.isfinite(values)
            area = validation.auc(labels[known], values[known])
            found[name].setdefault("auc_spatial_without", {})[factor] = _finite(area)


def _score_elsewhere(
    elsewhere: Samples,
    said: Mapping[str, held.Held],
    found: dict[str, dict[str, Any]],
    settings: Mapping[str, Any],
) -> None:
    """Add the scores on held-out sites, whose cells no model was fitted or chosen on."""
    if not len(elsewhere.labels):
        return
    blocks = elsewhere.blocks(elsewhere.widest_blocks(float(settings["block_size"])))
    made = scores.side_by_side(
        elsewhere.labels,
        {name: each.test for name, each in said.items()},
        blocks,
        resamples=int(settings["resamples"]),
        seed=int(settings["seed"]),
    )
    for name, each in made.scores.items():
        found[name] |= _told("auc_test", each["auc"])
        found[name]["scores_test"] = {
            s: [*map(_finite, (i.value, i.low, i.high))] for s, i in each.items()
        }
        found[name]["n_test"] = [
            int((elsewhere.labels == 1).sum()), int((elsewhere.labels == 0).sum())
        ]  # fmt: skip


def _fitting(about: dict[str, Any], each: held.Held) -> None:
    """Add how many fits there were, and which factors were dropped inside how many of them."""
    folds = each.facts["folds"]
    dropped: dict[str, int] = {}
    for fold in folds:
        # A model with several below it counts a factor where any of them dropped it.
        for factor in {each["factor"] for each in fold["dropped"]}:
            dropped[factor] = dropped.get(factor, 0) + 1
    about["folds_fitted"] = len(folds)
    about["dropped_in_folds"] = dict(sorted(dropped.items()))
    about |= {key: each.facts[key] for key in ("coefficients", "dropped") if key in each.facts}


def _folds(each: held.Held) -> dict[str, Any]:
    """Return, by kind, the facts of the folds of each repetition; the same for all models."""
    found: dict[str, Any] = {}
    for key, facts in each.facts["kinds"].items():
        kind, _ = key.split(".")
        of = found.setdefault(kind, {"words": described(facts), "repetitions": []})
        sizes = [
            {"train": fold["train"], "test": fold["test"]}
            for fold in each.facts["folds"]
            if f"{fold['kind']}.{fold['repetition']}" == key
        ]
        of["repetitions"].append({**facts, "slumps_and_others": sizes})
    return found


def _applicability(
    samples: Samples, each: held.Held, spatial: str, worth: Mapping[str, float] | None
) -> Applicability:
    """Return the space of the samples, its axes weighted by what the chosen model owes to them.

    As Meyer and Pebesma (2021). A factor's columns share its weight evenly (squared distances
    add, so each column takes the weight over the root of their number). A fall at or below 0 is
    no worth. Without any worth all factors count alike. Columns of classes are 0 and 1 and are
    scaled as all others.
    """
    features = samples.features
    of = each.fold[spatial, 0]
    whole = np.isfinite(features).all(axis=1) & (of >= 0)
    weights = None
    if worth is not None and max(worth.values()) > 0:
        weights = np.zeros(features.shape[1])
        for factor, columns in columns_of(samples).items():
            weights[columns] = max(worth[factor], 0.0) / np.sqrt(len(columns))
        weights /= weights.max()
    return Applicability.fit(features[whole], of[whole], weights)


def _write_table(files: Files, found: Mapping[str, Mapping[str, Any]], kinds: list[str]) -> None:
    """Write a row per model: gap first, then AUC with intervals, then the scores of each kind."""
    shown = [column for column in COLUMNS if any(column in each for each in found.values())]
    head = ["model"]
    for column in shown:
        head += [column, f"{column}_low", f"{column}_high"]
    head += [f"{score}_{kind}" for kind in kinds for score in scores.NAMES]
    head += [f"brier_{kind}" for kind in kinds]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(head)
    for name, each in found.items():
        row: list[Any] = [name]
        for column in shown:
            row += [each.get(column), *each.get(f"{column}_interval", (None, None))]
        row += [each["by_kind"][kind]["scores"][s][0] for kind in kinds for s in scores.NAMES]
        row += [each["by_kind"][kind]["brier"] for kind in kinds]
        rows.writerow(["" if value is None else value for value in row])
    write_text(files.table, text.getvalue())


def _draw(
    files: Files,
    samples: Samples,
    said: Mapping[str, held.Held],
    found: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Reliability],
    worth: Mapping[str, Mapping[str, float]],
    chosen: str,
    spatial: str,
    made_up: bool,
) -> None:
    first = {
        kind: {name: each.probability[kind, 0] for name, each in said.items()}
        for kind in ("random", spatial)
    }
    by_kind = {
        name: {kind: each["by_kind"][kind]["scores"] for kind in ("random", spatial)}
        for name, each in found.items()
    }
    areas = {name: (of["random"]["auc"][0], of[spatial]["auc"][0]) for name, of in by_kind.items()}
    pictures = {
        "scores": figures.score_dots(by_kind, spatial, made_up),
        "roc": figures.roc_curves(
            samples.labels, first["random"], first[spatial], areas, spatial, made_up
        ),
        "calibration": figures.calibration_curves(curves, spatial, made_up),
    }
    if worth:
        pictures["importance"] = figures.importance_table(worth, spatial, chosen, made_up)
    for name, content in pictures.items():
        path = files.figure(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_bytes(content)
