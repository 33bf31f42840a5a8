"""Models and ensembles on 350 points of southern Ecuador: spatial against random folds.

    python benchmarks/susceptibility_ecuador.py [--repetitions 20] [--models logistic,svm,...]
        [--results FILE.jsonl] [--processes 2]

The data (lsl.csv and ta.tif of spDataLarge, CC0; folder susc_ecuador_lsl of THAWSLUMP_DATA) and
folds as in the literature: five blocks of ground by k-means of the coordinates, drawn anew in each
repetition, and five random folds. All models see the same folds; the score of a repetition is the
mean AUC over its folds. Published for these data (100 repetitions): logistic regression 0.773
spatial and 0.810 random, support vectors 0.739 and 0.799. Prints JSON.

All models learn from the five columns of the table, but ``average_scales`` and ``chosen``, which
also read the surroundings of each point (Gaussian windows of 30, 60, 120 and 240 m) from the 10 m
raster of the same folder, which holds the same five variables and no label. ``chosen`` takes the
one member of ``average_scales`` that is best over inner spatial folds, instead of averaging all.

Nothing is chosen on the folds that are scored: no model here has a setting that was fitted outside
its training part. What was settled by looking at these points is the design of the two averages;
that was done on repetitions 0 to 9, and what is run here starts at 100. The points are the same
350, so other draws of folds are no other data.

The standard error is that over repetitions (other folds of the same points), not over other points.
One line of FILE.jsonl per repetition, kind of folds and model; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.susceptibility.average import SpatialAverage, subsets
from trainer.susceptibility.context import surroundings
from trainer.susceptibility.ensembles import (
    Blending,
    Pooling,
    Stacking,
    SupportVectors,
    balanced_bagging,
    fit_on_ground,
)
from trainer.susceptibility.networks import FactorCnn, Mlp
from trainer.susceptibility.validation import spatial_folds

Array = NDArray[Any]
FACTORS = ("slope", "cplan", "cprof", "elev", "log10_carea")
SPREADS = (30.0, 60.0, 120.0, 240.0)
PUBLISHED = {"logistic": (0.773, 0.810), "svm": (0.739, 0.799)}
BASES = ("logistic", "svm", "mlp", "cnn")
ABOVE = {"bagging": ("svm",), "stacking": BASES, "blending": BASES}
FIRST = 100
DESIGN = 1  # raised when a model changes: lines of another design are not taken up again


@cache
def data() -> tuple[Array, Array, Array, tuple[tuple[int, ...], ...]]:
    """Return coordinates, factors with surroundings, labels, and the columns of each scale."""
    import rasterio

    here = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("THAWSLUMP_DATA", here)) / "susc_ecuador_lsl"
    with (folder / "lsl.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    place = np.array([[float(r["x"]), float(r["y"])] for r in rows])
    columns = [np.array([float(r[name]) for r in rows]) for name in FACTORS]
    with rasterio.open(folder / "ta.tif") as raster:
        bands, affine = raster.read(), raster.transform
    column = np.floor((place[:, 0] - affine.c) / affine.a).astype(int)
    row = np.floor((place[:, 1] - affine.f) / affine.e).astype(int)
    groups: list[tuple[int, ...]] = [()]
    for spread in SPREADS:
        around = surroundings(
            dict(zip(FACTORS, bands, strict=True)), (affine.a, -affine.e), spread, "elev"
        )
        groups.append(tuple(range(len(columns), len(columns) + len(around))))
        columns += [band[row, column].astype(float) for band in around.values()]
    labels = np.array([r["lslpts"] == "TRUE" for r in rows]).astype(int)
    return place, np.stack(columns, axis=1), labels, tuple(groups)


class Remembered(ClassifierMixin, BaseEstimator):
    """A model that is not fitted twice to the same samples: several ensembles share their bases."""

    fitted: dict[str, Any] = {}  # noqa: RUF012 - shared on purpose, emptied for every outer fold

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.model = model

    def fit(self, X: Array, y: Array) -> Remembered:
        """Learn, or recall."""
        digest = hashlib.sha256(np.ascontiguousarray(X).tobytes() + np.asarray(y).tobytes())
        key = f"{self.name} {digest.hexdigest()}"
        if key not in Remembered.fitted:
            Remembered.fitted[key] = clone(self.model).fit(X, y)
        self.classes_, self.held_ = np.unique(y), Remembered.fitted[key]
        return self

    def predict_proba(self, X: Array) -> Array:
        """Return what the model says."""
        return np.asarray(self.held_.predict_proba(X))


class Chosen(ClassifierMixin, BaseEstimator):
    """The one of several candidates that ranks best over inner folds of whole blocks.

    What is usually done instead of averaging; here to show what the choice costs.
    """

    def __init__(self, candidates: list[Any], folds: int = 5) -> None:
        self.candidates = candidates
        self.folds = folds

    def fit(self, X: Array, y: Array, blocks: Array | None = None, places: Array = None) -> Chosen:
        """Try all on inner folds, fit the best to everything."""
        if blocks is None:
            blocks = np.random.default_rng(0).permutation(len(y)) % 8
        areas = np.zeros(len(self.candidates))
        for train, test in spatial_folds(blocks, y, self.folds):
            for number, candidate in enumerate(self.candidates):
                fitted = clone(candidate).fit(X[train], y[train], None, places[train])
                areas[number] += roc_auc_score(y[test], fitted.decision_function(X[test]))
        best = clone(self.candidates[int(areas.argmax())])
        self.classes_, self.best_ = np.unique(y), best.fit(X, y, None, places)
        return self

    def predict_proba(self, X: Array) -> Array:
        """Return what the best says."""
        return np.asarray(self.best_.predict_proba(X))


def models(seed: int) -> dict[str, Any]:
    """Return the contenders, none fitted; scaling is inside, so it is fitted in each fold."""

    def scaled(name: str, model: Any) -> Any:
        return Remembered(name, make_pipeline(StandardScaler(), model))

    single = {
        "logistic": scaled("logistic", LogisticRegression(C=1e6, max_iter=1000)),
        "svm": scaled("svm", SupportVectors()),
        "forest": RandomForestClassifier(n_estimators=100, max_depth=8, random_state=seed),
        "boosting": HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.05, max_leaf_nodes=8, random_state=seed
        ),
        "mlp": scaled(
            "mlp", Mlp(epochs=60, rate=1e-3, batch=64, dropout=0.3, seed=seed, device="cpu")
        ),
        "cnn": scaled("cnn", FactorCnn("zhang", epochs=120, batch=64, seed=seed, device="cpu")),
    }
    below = {name: single[name] for name in BASES}
    members = subsets([[c] for c in range(len(FACTORS))], data()[3])
    return {
        **single,
        "bagging": make_pipeline(StandardScaler(), balanced_bagging(seed=seed)),
        "stacking": Stacking(below, Pooling(), folds=4, seed=seed),
        "blending": Blending(below, Pooling(), again=True, seed=seed),
        "average": SpatialAverage(),
        "average_scales": SpatialAverage(members),
        "chosen": Chosen([SpatialAverage([each]) for each in members]),
    }


def folds(place: Array, kind: str, seed: int) -> list[tuple[Array, Array]]:
    """Return spatial or random folds of a repetition."""
    if kind == "random":
        return list(KFold(5, shuffle=True, random_state=seed).split(place))
    block = KMeans(5, n_init=1, random_state=seed).fit_predict(place)
    return [(np.flatnonzero(block != b), np.flatnonzero(block == b)) for b in range(5)]


def score(repetition: int, kind: str, chosen: list[str]) -> list[dict[str, Any]]:
    """Return a line per model: the AUC of each fold of one repetition."""
    import torch

    torch.set_num_threads(1)
    # Bootstraps of imbalanced-learn, and labels in its own order; nothing about the numbers.
    warnings.simplefilter("ignore", FutureWarning)
    place, values, labels, _ = data()
    found: dict[str, list[float]] = {name: [] for name in chosen}
    spent = dict.fromkeys(chosen, 0.0)
    for train, test in folds(place, kind, repetition):
        if np.unique(labels[test]).size < 2:
            continue
        Remembered.fitted.clear()
        # Ensembles split as they are judged: whole ground inside spatial folds.
        blocks = None
        if kind == "spatial":
            blocks = KMeans(8, n_init=1, random_state=repetition).fit_predict(place[train])
        for name in chosen:
            begun = time.perf_counter()
            x = values if name in ("average_scales", "chosen") else values[:, : len(FACTORS)]
            model = fit_on_ground(
                clone(models(repetition)[name]), x[train], labels[train], blocks, place[train]
            )
            area = roc_auc_score(labels[test], model.predict_proba(x[test])[:, 1])
            found[name].append(round(float(area), 6))
            spent[name] += time.perf_counter() - begun
    return [
        {
            "design": DESIGN,
            "repetition": repetition,
            "kind": kind,
            "model": name,
            "auc": round(float(np.mean(found[name])), 6),
            "folds": found[name],
            "seconds": round(spent[name], 2),
        }
        for name in chosen
    ]


def told(values: Array) -> dict[str, float | None]:
    """Return the mean over repetitions and its standard error."""
    error = float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    return {
        "auc": round(float(values.mean()), 4),
        "standard_error": None if error is None else round(error, 4),
    }


def report(lines: list[dict[str, Any]], chosen: list[str]) -> dict[str, Any]:
    """Return the table: scores, gaps, and differences over the same folds."""
    held = {
        (name, kind): np.array(
            [
                line["auc"]
                for line in sorted(lines, key=lambda each: each["repetition"])
                if line["model"] == name and line["kind"] == kind
            ]
        )
        for name in chosen
        for kind in ("spatial", "random")
    }
    table: dict[str, Any] = {}
    for name in chosen:
        spatial, random = held[name, "spatial"], held[name, "random"]
        row: dict[str, Any] = {
            "random_minus_spatial": round(float(random.mean() - spatial.mean()), 4),
            "spatial": told(spatial),
            "random": told(random),
            "seconds": round(sum(x["seconds"] for x in lines if x["model"] == name), 1),
        }
        if name in PUBLISHED:
            row["published"] = dict(zip(("spatial", "random"), PUBLISHED[name], strict=True))
        if name != "logistic" and "logistic" in chosen:
            row["spatial_minus_logistic"] = told(spatial - held["logistic", "spatial"])
        bases = [base for base in ABOVE.get(name, ()) if base in chosen]
        if bases:
            best = max(bases, key=lambda base: float(held[base, "spatial"].mean()))
            row["best_base"] = best
            row["spatial_minus_best_base"] = told(spatial - held[best, "spatial"])
        table[name] = row
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first repetition")
    parser.add_argument("--models", default="")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("susceptibility_ecuador.jsonl"))
    options = parser.parse_args()
    known = list(models(0))
    chosen = options.models.split(",") if options.models else known
    if set(chosen) - set(known):
        parser.error(f"unknown models {sorted(set(chosen) - set(known))}; known are {known}")
    wanted = range(options.first, options.first + options.repetitions)

    lines: list[dict[str, Any]] = []
    if options.results.exists():
        text = options.results.read_text(encoding="utf-8").splitlines()
        # A line that was being written when the run was stopped ends without its brace.
        lines = [json.loads(line) for line in text if line.endswith("}")]
    lines = [x for x in lines if x["design"] == DESIGN and x["repetition"] in wanted]
    done = {(x["repetition"], x["kind"], x["model"]) for x in lines}
    begun = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        tasks = []
        for repetition in wanted:
            for kind in ("spatial", "random"):
                left = [name for name in chosen if (repetition, kind, name) not in done]
                if left:
                    tasks.append(pool.submit(score, repetition, kind, left))
        for task in as_completed(tasks):
            with options.results.open("a", encoding="utf-8") as file:
                file.write("".join("\n" + json.dumps(line) for line in task.result()) + "\n")
            lines += task.result()
    print(
        json.dumps(
            {
                "repetitions": [wanted.start, wanted.stop - 1],
                "seconds": round(time.perf_counter() - begun, 1),
                **report([x for x in lines if x["model"] in chosen], chosen),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # workers start after this and take it over
    main()
