"""Step `susceptibility-fit`: one model, over all folds and then on all samples.

A fold that is finished is kept beside the result until all are: a stop costs at most one of them.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from thawslump.errors import DataError, ThawslumpError
from thawslump.files import sha256
from trainer.susceptibility import held, importance, models, nearest, registry, table
from trainer.susceptibility.average import subsets
from trainer.susceptibility.ensembles import fit_on_ground
from trainer.susceptibility.files import Files
from trainer.susceptibility.folds import Plan, plan
from trainer.susceptibility.persistence import save_model
from trainer.susceptibility.preparation import dropped_by
from trainer.susceptibility.table import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["Ground", "columns_of", "model_of", "run"]

# Places of the maps that folds of the kind "nearest" are matched to.
_CELLS = 2000
# Models that are fitted without each factor in turn, too.
_QUICK = ("logistic", "forest")
# Cells of one raster that these are drawn from.
_LOOKED_AT = 4_000_000
_HINT = (
    "Take {name} out of susceptibility.models, or give it more to learn from: fewer folds, "
    "smaller blocks, more slumps."
)


def columns_of(samples: Samples) -> dict[str, list[int]]:
    """Return the columns of the features that stand for each factor."""
    found: dict[str, list[int]] = {}
    for factor in samples.factors:
        first = sum(map(len, found.values()))
        count = len(samples.of([factor]).feature_names)
        found[factor] = list(range(first, first + count))
    return found


def model_of(name: str, settings: Mapping[str, Any], samples: Samples) -> Any:
    """Return an unfitted model by the settings of the step."""
    columns = samples.feature_names
    classes = [n for n, column in enumerate(columns) if column.split("=")[0] in samples.classes]
    options = {
        key: settings[key]
        for key in (
            "trees", "depth", "seed", "device", "bases", "upper",
            "vif", "pearson", "chimerge", "chimerge_intervals", "chimerge_alpha",
        )
        if key in settings
    }  # fmt: skip
    if "bagged" in settings:
        options["base"] = settings["bagged"]
    options["factors"] = models.feature_factors(list(samples.factors), samples.classes)
    if name == "spatial_average" and len(samples.factors) > 1:
        options["subsets"] = subsets(list(columns_of(samples).values()))
    return registry.build(name, classes=classes, **options)


@dataclass(frozen=True)
class Ground:
    """Samples, and how they are parted.

    Attributes
    ----------
    samples : Samples
    settings : mapping
    prediction : ndarray of float64, shape (m, 3), optional
        Places of the maps, where folds of the kind "nearest" are asked for.
    """

    samples: Samples
    settings: Mapping[str, Any]
    prediction: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, samples: Samples, settings: Mapping[str, Any], workspace: Workspace) -> Ground:
        """Read what the folds need beside the samples."""
        if "nearest" not in settings["validation"]:
            return cls(samples, settings)
        paths = [workspace.factors(name) for name in settings["map"]]
        rng = np.random.default_rng(int(settings["seed"]))
        drawn = nearest.thinned([_cells(path, rng) for path in paths], _CELLS, rng)
        return cls(samples, settings, nearest.geocentric(drawn))

    def plan(self, kind: str, repetition: int) -> Plan:
        """Return the folds of a kind and repetition."""
        return plan(
            kind,
            self.samples.labels,
            self.samples.places,
            self.samples.sites,
            count=int(self.settings["folds"]),
            seed=int(self.settings["seed"]),
            repetition=repetition,
            block_size=float(self.settings["block_size"]),
            block_shape=self.settings["block_shape"],
            buffer=float(self.settings["fold_buffer"]),
            positions=nearest.geocentric(self.samples.lonlat),
            prediction=self.prediction,
        )

    def plans(self) -> Iterator[tuple[str, int, Plan]]:
        """Yield the folds of all kinds and repetitions; those that repeat themselves once."""
        for kind in self.settings["validation"]:
            for repetition in range(int(self.settings["repetitions"])):
                made = self.plan(kind, repetition)
                yield kind, repetition, made
                if made.facts["same_every_repetition"]:
                    break

    @property
    def spatial(self) -> str:
        """The kind of folds by which models are judged: the first that is not random."""
        return next(str(kind) for kind in self.settings["validation"] if kind != "random")

    @property
    def blocks(self) -> NDArray[np.int64]:
        """Blocks of ground that inner folds of the model on all samples do not split."""
        return self.samples.blocks(self.samples.widest_blocks(float(self.settings["block_size"])))


def _cells(path: Path, rng: np.random.Generator) -> tuple[NDArray[np.float64], int]:
    """Draw cells that will be mapped; of a large raster from every so manieth row and column."""
    import rasterio

    with rasterio.open(path) as source:
        step = max(1, int(np.ceil(np.sqrt(source.width * source.height / _LOOKED_AT))))
        shape = (-(-source.height // step), -(-source.width // step))
        valid = source.dataset_mask(out_shape=shape) > 0
        across, down = source.width / shape[1], source.height / shape[0]
        t = source.transform
        affine = Affine(t.a * across, t.b * down, t.c, t.d * across, t.e * down, t.f)
        lonlat, total = nearest.random_cells(valid, affine, source.crs.to_wkt(), _CELLS, rng)
    return lonlat, total * step**2


def _digest(files: Files, ground: Ground) -> str:
    """Return what a kept fold depends on: settings, samples, and where networks compute."""
    settings, device = ground.settings, ""
    if "device" in settings:
        from trainer.susceptibility.networks import device_of

        device = str(device_of(str(settings["device"])))
    places = b"" if ground.prediction is None else ground.prediction.tobytes()
    content = [
        1, dict(settings), sha256(files.samples), device, hashlib.sha256(places).hexdigest()
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _fitted(
    name: str,
    words: str,
    model: Any,
    features: NDArray[np.float32],
    samples: Samples,
    rows: NDArray[np.int64],
    blocks: NDArray[np.int64] | None,
) -> Any:
    """Fit a model to some of the samples; say what could not be fitted where."""
    labels = samples.labels[rows]
    if np.unique(labels).size < 2:
        kind = "slump" if labels.size and labels[0] == 1 else "no slump"
        raise DataError(
            f"{name} could not be fitted {words}: all {labels.size} samples to learn from are of "
            f"one class ({kind}).",
            hint=_HINT.format(name=name),
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            # imbalanced-learn on newer releases of scikit-learn; not about the model.
            warnings.filterwarnings("ignore", category=FutureWarning, module="(sklearn|imblearn)")
            return fit_on_ground(
                clone(model),
                features[rows],
                labels,
                None if blocks is None else blocks[rows],
                samples.places[rows],
            )
    except (ThawslumpError, ValueError, RuntimeError, ConvergenceWarning) as error:
        reason = error.message if isinstance(error, ThawslumpError) else str(error).split("\n")[0]
        raise DataError(
            f"{name} could not be fitted {words}: {reason}", hint=_HINT.format(name=name)
        ) from error


def _said(name: str, words: str, fitted: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    said = np.asarray(fitted.predict_proba(features)[:, 1], np.float64)
    odd = int((~np.isfinite(said)).sum())
    if odd:
        raise DataError(
            f"{name} did not converge {words}: {odd} of {said.size} probabilities are not finite.",
            hint=_HINT.format(name=name),
        )
    return said


def _without_each(
    name: str,
    words: str,
    ground: Ground,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    blocks: NDArray[np.int64] | None,
) -> dict[str, NDArray[np.float64]]:
    """Return what a model says of a fold when it learns without each factor in turn.

    A factor that slumps themselves change (NDVI) may owe its worth to slumps that were there
    already; without it the score says what the terrain knows. Only of models that are fitted in
    a moment; for the others there is the importance by permutation.
    """
    samples = ground.samples
    found: dict[str, NDArray[np.float64]] = {}
    if name not in _QUICK or len(samples.factors) < 2:
        return found
    for factor in samples.factors:
        others = samples.of([each for each in samples.factors if each != factor])
        model = model_of(name, ground.settings, others)
        told = f"{words} without {factor}"
        try:
            fitted = _fitted(name, told, model, others.features, others, train, blocks)
            found[factor] = _said(name, told, fitted, others.features[test])
        except DataError:  # nothing that varies is left
            found[factor] = np.full(test.size, 0.5)
    return found


def _coefficients(fitted: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return what a linear model adds to the log odds, for people who read it; {} of others."""
    last = getattr(fitted, "named_steps", {}).get("model")
    if not isinstance(last, LogisticRegression):
        return {}
    select = fitted.named_steps.get("select")
    kept = list(names) if select is None else [names[column] for column in select.kept_]
    return {
        "coefficients": {
            "per_standard_deviation": dict(zip(kept, last.coef_[0].tolist(), strict=True)),
            "intercept": float(last.intercept_[0]),
        }
    }


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Fit one model in every fold, then on all samples; write what it held out, and the model."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    name = str(settings["model"])
    samples = table.read(files.samples)
    features, labels = samples.features, samples.labels
    model = model_of(name, settings, samples)
    ground = Ground.of(samples, settings, workspace)
    finished = held.Finished(files.folds(name), _digest(files, ground))
    repetitions = int(settings["repetitions"])
    work = list(ground.plans())
    probability: dict[tuple[str, int], NDArray[np.float64]] = {}
    fold: dict[tuple[str, int], NDArray[np.int64]] = {}
    told: list[dict[str, Any]] = []
    columns, permutations = columns_of(samples), int(settings["importance"])
    shuffled = {
        factor: np.full((permutations, len(labels)), np.nan) for factor in columns if permutations
    }
    source = np.empty((0, len(labels)), np.int64)
    if permutations:
        source = importance.sources(ground.blocks, permutations, int(settings["seed"]), "blocks")
    without: dict[str, NDArray[np.float64]] = {}
    taken_up = 0
    for done, (kind, number, made) in enumerate(work):
        folds = made.folds
        probability[kind, number] = np.full(len(labels), np.nan)
        fold[kind, number] = np.full(len(labels), -1, np.int64)
        for index, (train, test) in enumerate(folds):
            words = f"in fold {index + 1} of {len(folds)} ({kind} folds"
            words += f", repetition {number + 1} of {repetitions})" if repetitions > 1 else ")"
            progress((done + index / len(folds)) / (len(work) + 0.2), f"{name} {words}")
            kept = finished.get(kind, number, index)
            if kept is not None and np.array_equal(kept.rows, test):
                taken_up += 1
            else:
                begun = time.monotonic()
                fitted = _fitted(name, words, model, features, samples, train, made.blocks)
                said = _said(name, words, fitted, features[test])
                facts = {
                    "kind": kind,
                    "repetition": number,
                    "fold": index,
                    "train": [int((labels[train] == 1).sum()), int((labels[train] == 0).sum())],
                    "test": [int((labels[test] == 1).sum()), int((labels[test] == 0).sum())],
                    "dropped": dropped_by(fitted),
                    "seconds": time.monotonic() - begun,
                }
                moved, less = {}, {}
                if (kind, number) == (ground.spatial, 0):
                    if shuffled:
                        moved = importance.permuted(fitted, features, test, columns, source)
                    less = _without_each(name, words, ground, train, test, made.blocks)
                kept = held.Fold(test, said, facts, moved, less)
                finished.keep(kind, number, index, kept)
            probability[kind, number][test] = kept.probability
            fold[kind, number][test] = index
            for factor, values in kept.shuffled.items():
                shuffled[factor][:, test] = values
            for factor, values in kept.without.items():
                without.setdefault(factor, np.full(len(labels), np.nan))[test] = values
            told.append(dict(kept.facts))
    words = "on all samples"
    progress(len(work) / (len(work) + 0.2), f"{name} {words}")
    begun = time.monotonic()
    every = np.arange(len(labels))
    fitted = _fitted(name, words, model, features, samples, every, ground.blocks)
    # Seconds differ from run to run: they belong to the ledger, not into files that are compared.
    seconds = time.monotonic() - begun + sum(each.pop("seconds") for each in told)
    said = np.empty(0)
    if files.test_samples in item.inputs:
        elsewhere = table.read(files.test_samples)
        if len(elsewhere.labels):
            said = _said(name, "on all samples", fitted, elsewhere.features)
    save_model(files.model(name), fitted, samples.feature_names)
    facts = {
        "model": name,
        "seed": settings["seed"],
        "kinds": {f"{kind}.{number}": made.facts for kind, number, made in work},
        "folds": told,
        "dropped": dropped_by(fitted),
        **_coefficients(fitted, samples.feature_names),
    }
    held.write(files.held(name), held.Held(probability, fold, said, facts, shuffled, without))
    finished.clear()
    progress(1.0, "done")
    return {
        "model": name,
        "fits": len(told) + 1,
        "taken_up": taken_up,
        "fit_seconds": round(seconds, 3),
    }
