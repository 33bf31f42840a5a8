"""Models and ensembles on 350 points of southern Ecuador: spatial against random folds.

    python benchmarks/susceptibility_ecuador.py [--repetitions 20] [--models logistic,svm,...]

The data (lsl.csv of spDataLarge, CC0; folder susc_ecuador_lsl of THAWSLUMP_DATA) and folds as in
the literature: five blocks of ground by k-means of the coordinates, drawn anew in each
repetition, and five random folds. All models see the same folds; the score of a repetition is the
mean AUC over its folds. Published for these data (100 repetitions): logistic regression 0.773
spatial and 0.810 random, support vectors 0.739 and 0.799. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.susceptibility.ensembles import Blending, Stacking, SupportVectors, balanced_bagging
from trainer.susceptibility.networks import FactorCnn, Mlp

Array = NDArray[Any]
FACTORS = ("slope", "cplan", "cprof", "elev", "log10_carea")
PUBLISHED = {"logistic": (0.773, 0.810), "svm": (0.739, 0.799)}


def data() -> tuple[Array, Array, Array]:
    """Return coordinates, factors and labels."""
    here = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("THAWSLUMP_DATA", here)) / "susc_ecuador_lsl" / "lsl.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    place = np.array([[float(r["x"]), float(r["y"])] for r in rows])
    values = np.array([[float(r[name]) for name in FACTORS] for r in rows])
    return place, values, np.array([r["lslpts"] == "TRUE" for r in rows]).astype(int)


def scaled(model: Any) -> Any:
    """Return a model behind its own scaling, which is fitted in each fold."""
    return make_pipeline(StandardScaler(), model)


def models(seed: int) -> dict[str, Any]:
    """Return the contenders, none fitted."""
    single = {
        "logistic": scaled(LogisticRegression(C=1e6, max_iter=1000)),
        "svm": scaled(SupportVectors()),
        "forest": scaled(
            RandomForestClassifier(n_estimators=100, max_depth=8, random_state=seed, n_jobs=1)
        ),
        "mlp": scaled(Mlp(epochs=60, rate=1e-3, batch=64, dropout=0.3, seed=seed, device="cpu")),
        "cnn": scaled(FactorCnn("zhang", epochs=120, batch=64, seed=seed, device="cpu")),
    }
    below = {name: single[name] for name in ("logistic", "svm", "mlp", "cnn")}
    upper = LogisticRegression(C=1.0)
    return {
        **single,
        "bagging": scaled(balanced_bagging(seed=seed)),
        "stacking": Stacking(below, upper, seed=seed),
        "blending": Blending(below, upper, seed=seed),
    }


def folds(place: Array, seed: int) -> dict[str, list[tuple[Array, Array]]]:
    """Return spatial and random folds of a repetition."""
    block = KMeans(5, n_init=1, random_state=seed).fit_predict(place)
    return {
        "spatial": [(np.flatnonzero(block != b), np.flatnonzero(block == b)) for b in range(5)],
        "random": list(KFold(5, shuffle=True, random_state=seed).split(place)),
    }


def inner_blocks(place: Array, kind: str, seed: int) -> Array | None:
    """Return the blocks of the training part, so that ensembles split as they are judged."""
    if kind == "random":
        return None
    return np.asarray(KMeans(8, n_init=1, random_state=seed).fit_predict(place))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--models", default="")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    place, values, labels = data()
    chosen = options.models.split(",") if options.models else list(models(0))
    scores: dict[str, dict[str, list[float]]] = {
        name: {"spatial": [], "random": []} for name in chosen
    }
    begun = time.perf_counter()
    for repetition in range(options.repetitions):
        for kind, parts in folds(place, repetition).items():
            for name in chosen:
                found = []
                for train, test in parts:
                    if np.unique(labels[test]).size < 2:
                        continue
                    model = clone(models(repetition)[name])
                    if isinstance(model, Stacking | Blending):
                        blocks = inner_blocks(place[train], kind, repetition)
                        model.fit(values[train], labels[train], blocks)
                    else:
                        model.fit(values[train], labels[train])
                    found.append(
                        roc_auc_score(labels[test], model.predict_proba(values[test])[:, 1])
                    )
                scores[name][kind].append(float(np.mean(found)))
    report: dict[str, Any] = {
        "repetitions": options.repetitions,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    for name, kinds in scores.items():
        row = {
            kind: {
                "auc": round(float(np.mean(v)), 4),
                "standard_error": round(float(np.std(v, ddof=1) / np.sqrt(len(v))), 4)
                if len(v) > 1
                else None,
            }
            for kind, v in kinds.items()
        }
        row["random_minus_spatial"] = round(row["random"]["auc"] - row["spatial"]["auc"], 4)
        if name in PUBLISHED:
            row["published"] = dict(zip(("spatial", "random"), PUBLISHED[name], strict=True))
        report[name] = row
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
