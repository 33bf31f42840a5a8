"""Speed of the susceptibility kernels, each beside the library that is usually taken for it.

    python benchmarks/susceptibility_speed.py [--only chimerge vif] [--peers PYTHON]

All data are made up. Each section times ours and the library's in turn in one run, on the same
numbers, and compares the results before the times; ``seconds`` are medians by the clock, ``cpu``
medians of the processor's. Libraries that are no dependencies of this package are asked in the
interpreter named by ``--peers`` (one with statsmodels, toad, mapclassify, jenkspy and abil); those
that it cannot import are named under ``not_installed``. Prints JSON.

- ``chimerge``: 1e6 samples of one factor (floats, ties, whole numbers, constant) against toad, and
  cut points against the definition on lists.
- ``vif``: 14 factors of 1e6 samples against statsmodels, one regression after another.
- ``breaks``: five classes of 1e6 values against mapclassify's sampled Fisher-Jenks and jenkspy.
- ``applicability``: 1e6 cells against 1e4 training samples in 14 factors, uniform and correlated,
  against a k-d tree and every distance worked out.
- ``radial``: values of support vectors (14 factors, radial kernel) in batched matrix form against
  `predict` of scikit-learn (libsvm), SVR and SVC; the best of several rounds. Time is that of the
  process on one thread (CPU seconds), and by the clock with a thread per core; on a GPU where
  torch finds one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {}


def section(function: Callable[[argparse.Namespace], dict[str, Any]]) -> Any:
    """Add a section under the name of its function."""
    SECTIONS[function.__name__] = function
    return function


def best(
    work: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Return the least time of several rounds, and the result of the last."""
    least, result = np.inf, None
    for _ in range(rounds):
        begun = clock()
        result = work()
        least = min(least, clock() - begun)
    return float(least), result


def median(work: Callable[[], Any], rounds: int) -> tuple[dict[str, float], Any]:
    """Return median seconds by the clock and of the processor, and the result of the last round."""
    clock, cpu, result = [], [], None
    for _ in range(rounds):
        begun, worked = time.perf_counter(), time.process_time()
        result = work()
        clock.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - worked)
    told = {
        "seconds": round(statistics.median(clock), 4),
        "cpu": round(statistics.median(cpu), 4),
    }
    return told, result


# Libraries, run in an interpreter that has them ------------------------------------------------


def _toad(data: dict[str, np.ndarray]) -> Any:
    import importlib

    merge = importlib.import_module("toad.merge")
    return np.asarray(merge.ChiMerge(data["x"], data["y"], n_bins=8))


def _statsmodels(data: dict[str, np.ndarray]) -> Any:
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    x = np.column_stack([data["x"], np.ones(len(data["x"]))])
    return np.array([variance_inflation_factor(x, k) for k in range(x.shape[1] - 1)])


def _mapclassify(data: dict[str, np.ndarray]) -> Any:
    import mapclassify

    # The sample that the library draws has no seed of its own.
    np.random.seed(0)
    return mapclassify.FisherJenksSampled(data["x"], k=5).bins


def _jenkspy(data: dict[str, np.ndarray]) -> Any:
    import jenkspy

    return np.array(jenkspy.jenks_breaks(data["x"], 5)[1:])


def _abil(data: dict[str, np.ndarray]) -> Any:
    from abil.analyze import area_of_applicability

    found = area_of_applicability(
        data["test"], data["train"], feature_weights=False, return_all=True
    )
    return np.asarray(found[1])


PEERS = {
    "toad": _toad,
    "statsmodels": _statsmodels,
    "mapclassify": _mapclassify,
    "jenkspy": _jenkspy,
    "abil": _abil,
}


def answer(peer: str, path: Path) -> None:
    """Be the interpreter that has the library: time it on the numbers of a file."""
    with np.load(path) as held:
        data = {name: held[name] for name in held.files}
    # Imports and compilers first: they are not what is timed.
    PEERS[peer]({name: values[:300] for name, values in data.items()})
    begun, worked = time.perf_counter(), time.process_time()
    result = PEERS[peer](data)
    told = {
        "seconds": round(time.perf_counter() - begun, 4),
        "cpu": round(time.process_time() - worked, 4),
    }
    print(json.dumps({**told, "result": np.asarray(result, float).tolist()}))


def ask(peer: str, options: argparse.Namespace, **data: np.ndarray) -> dict[str, Any]:
    """Return seconds and result of a library, or why there are none."""
    rows = len(next(iter(data.values())))
    if not options.peers:
        return {"not_installed": f"{peer}: give --peers an interpreter that has it", "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, **data)  # type: ignore[arg-type]
        command = [options.peers, "-W", "ignore", __file__, "--peer", peer, "--data", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"not_installed": f"{peer}: {why}", "rows": rows}
    return {**json.loads(done.stdout.splitlines()[-1]), "rows": rows}


def times(peer: dict[str, Any], ours: dict[str, float]) -> dict[str, Any]:
    """Return a library's answer without its result, and how many times ours is faster."""
    told = {key: value for key, value in peer.items() if key != "result"}
    if "cpu" in peer:
        told["times_faster_cpu"] = round(peer["cpu"] / max(ours["cpu"], 1e-6), 1)
    return told


# Sections -------------------------------------------------------------------------------------


def labelled(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up values of a factor, and labels that follow it in waves."""
    dice = np.random.default_rng(seed)
    x = dice.normal(size=rows)
    y = (dice.random(rows) < 1 / (1 + np.exp(-2 * np.sin(2 * x)))).astype(np.int64)
    return x, y


def literal_chimerge(x: np.ndarray, y: np.ndarray, most: int, enough: float) -> list[float]:
    """Kerber's rules as they are written, every chi-square made anew after every merge."""
    parts = [[v] for v in sorted(set(x.tolist()))]
    counts = [[int(((x == v) & (y == k)).sum()) for k in (0, 1)] for (v,) in parts]

    def differ(a: list[int], b: list[int]) -> float:
        (p, q), (r, s) = a, b
        below = (p + q) * (r + s) * (p + r) * (q + s)
        return (p * s - q * r) ** 2 * (p + q + r + s) / below if below else 0.0

    while len(parts) > 1:
        values = [differ(a, b) for a, b in itertools.pairwise(counts)]
        k = values.index(min(values))
        if values[k] > enough and len(parts) <= most:
            break
        parts[k : k + 2] = [parts[k] + parts[k + 1]]
        counts[k : k + 2] = [[a + b for a, b in zip(*counts[k : k + 2], strict=True)]]
    return [(a[-1] + b[0]) / 2 for a, b in itertools.pairwise(parts)]


@section
def chimerge(options: argparse.Namespace) -> dict[str, Any]:
    """ChiMerge of one factor."""
    from scipy.stats import chi2

    from trainer.susceptibility.selection import chimerge

    x, y = labelled(options.rows)
    found: dict[str, Any] = {"rows": options.rows, "goal_seconds": 0.5}
    kinds = {
        "floats": x,
        "ties": np.round(x, 1),
        "whole_numbers": np.round(x * 50).astype(np.int32),
        "single_precision": x.astype(np.float32),
        "constant": np.zeros(options.rows),
    }
    for name, values in kinds.items():
        told, cuts = median(lambda: chimerge(values, y), options.rounds)  # noqa: B023
        found[name] = {**told, "intervals": len(cuts) + 1}
    whole, _ = median(lambda: chimerge(x, y, start=None), 1)
    found["from_every_distinct_value"] = whole
    few = np.round(x[:20_000], 2)
    slow, expected = median(
        lambda: literal_chimerge(few, y[:20_000], 8, float(chi2.isf(0.05, 1))), 1
    )
    quick, cuts = median(lambda: chimerge(few, y[:20_000]), options.rounds)
    found["definition_on_lists"] = {
        **times({**slow, "rows": 20_000}, quick),
        "distinct": int(np.unique(few).size),
        "same_cut_points": list(cuts) == expected,
    }
    small = slice(0, options.slow_rows)
    ours, _ = median(lambda: chimerge(x[small], y[small]), options.rounds)
    found["toad"] = times(ask("toad", options, x=x[small], y=y[small]), ours)
    return found


@section
def vif(options: argparse.Namespace) -> dict[str, Any]:
    """Variance inflation of 14 factors."""
    from trainer.susceptibility.selection import (
        generalised_inflation,
        variance_inflation_factors,
    )

    dice = np.random.default_rng(0)
    x = dice.normal(size=(options.rows, 14)) @ (np.eye(14) + 0.4 * dice.normal(size=(14, 14)))
    found: dict[str, Any] = {"rows": options.rows, "factors": 14, "goal_seconds": 0.2}
    told, values = median(lambda: variance_inflation_factors(x), options.rounds)
    found["double_precision"] = {**told, "largest": round(float(values.max()), 3)}
    single = x.astype(np.float32)
    told_single, _ = median(lambda: variance_inflation_factors(single), options.rounds)
    found["single_precision"] = told_single
    groups = [[0, 1], *([k] for k in range(2, 14))]
    found["of_factors_with_several_columns"], _ = median(
        lambda: generalised_inflation(x, groups), options.rounds
    )
    near = x.copy()
    near[:, 13] = near[:, 0] + 1e-4 * near[:, 13]
    found["nearly_collinear"], _ = median(lambda: variance_inflation_factors(near), options.rounds)
    peer = ask("statsmodels", options, x=x)
    found["statsmodels"] = times(peer, told)
    if "result" in peer:
        off = np.abs(np.array(peer["result"]) / values - 1)
        found["statsmodels"]["largest_relative_difference"] = float(off.max())
    return found


@section
def breaks(options: argparse.Namespace) -> dict[str, Any]:
    """Natural breaks into five classes."""
    from trainer.susceptibility.breaks import breaks_of

    dice = np.random.default_rng(0)
    x = dice.beta(0.6, 2.0, options.rows)
    missing = np.where(dice.random(options.rows) < 0.1, np.nan, x)
    kinds = {
        "floats": x,
        "ties": np.round(x, 2),
        "stored_probabilities": np.round(x * 10_000).astype(np.int32),
        "a_tenth_missing": missing,
        "constant": np.zeros(options.rows),
    }
    found: dict[str, Any] = {"rows": options.rows, "classes": 5, "goal_seconds": 1.0}
    results = {}
    for name, values in kinds.items():
        found[name], results[name] = median(lambda: breaks_of(values, 5), options.rounds)  # noqa: B023
    ours = found["floats"]
    rounded = np.abs(np.array(results["floats"].upper) - breaks_of(np.round(x, 4), 5).upper)
    found["limits_off_those_of_values_to_four_digits"] = float(rounded.max())
    peer = ask("mapclassify", options, x=x)
    found["mapclassify_sampled"] = times(peer, ours)
    if "result" in peer:
        off = np.abs(np.array(peer["result"]) - results["floats"].upper)
        found["mapclassify_sampled"]["limits_off_the_exact_ones"] = float(off.max())
    few = x[: options.slow_rows]
    told, limits = median(lambda: breaks_of(few, 5), options.rounds)
    peer = ask("jenkspy", options, x=few)
    found["jenkspy"] = {**times(peer, told), "ours": told}
    if "result" in peer:
        off = np.abs(np.array(peer["result"]) - limits.upper)
        found["jenkspy"]["largest_difference"] = float(off.max())
    return found


@section
def applicability(options: argparse.Namespace) -> dict[str, Any]:
    """Dissimilarity of cells to training samples."""
    from scipy.spatial import cKDTree
    from scipy.spatial.distance import cdist

    from trainer.susceptibility.applicability import Applicability

    dice = np.random.default_rng(0)
    samples, cells, cores = 10_000, options.rows, os.cpu_count() or 1
    mixed = dice.normal(size=(5, 14))
    classes = dice.normal(size=(4, 10))
    found: dict[str, Any] = {
        "cells": cells, "training_samples": samples, "factors": 14, "threads": cores,
        "goal_seconds": 5.0,
    }  # fmt: skip

    def correlated(rows: int) -> np.ndarray:
        return dice.normal(size=(rows, 5)) @ mixed + 0.3 * dice.normal(size=(rows, 14))

    def with_classes(rows: int) -> np.ndarray:
        numbers = dice.normal(size=(rows, 4)) @ classes + 0.3 * dice.normal(size=(rows, 10))
        return np.column_stack([numbers, np.eye(4)[dice.integers(0, 4, rows)]])

    kinds = {
        "uniform": lambda rows: dice.random((rows, 14)),
        "correlated": correlated,
        "with_classes": with_classes,
    }
    for name, draw in kinds.items():
        train, new = draw(samples), draw(cells)
        fitted, known = median(lambda: Applicability.fit(train, np.arange(samples) % 5), 1)  # noqa: B023
        told, index = median(lambda: known.dissimilarity(new, threads=cores), options.rounds)  # noqa: B023
        some = new[:: max(1, cells // options.looked_up)][: options.looked_up]
        at = index[:: max(1, cells // options.looked_up)][: options.looked_up]
        scaled = (some - known.mean) / known.scale * known.weights
        points = (train - known.mean) / known.scale * known.weights
        tree = cKDTree(points)
        slow, by_tree = median(lambda: tree.query(scaled, workers=cores)[0], 1)  # noqa: B023
        brute, every = median(lambda: cdist(scaled, points).min(axis=1), 1)  # noqa: B023
        share = len(some) / cells
        found[name] = {
            **told,
            "fit_seconds": fitted["seconds"],
            "inside_share": round(float(np.mean(index <= known.threshold)), 4),
            "tree": {
                "cells": len(some),
                "seconds_for_all": round(slow["seconds"] / share, 2),
                "times_faster_cpu": round(slow["cpu"] / share / told["cpu"], 1),
                "largest_difference": float(np.abs(by_tree / known.reference - at).max()),
            },
            "every_distance": {
                "cells": len(some),
                "seconds_for_all": round(brute["seconds"] / share, 2),
                "times_faster_cpu": round(brute["cpu"] / share / told["cpu"], 1),
                "largest_difference": float(np.abs(every / known.reference - at).max()),
            },
        }
    train, new = kinds["correlated"](500), kinds["correlated"](2000)
    # abil does not scale: give it what is scaled.
    mean, scale = train.mean(axis=0), train.std(axis=0, ddof=1)
    peer = ask("abil", options, test=(new - mean) / scale, train=(train - mean) / scale)
    ours, index = median(lambda: Applicability.fit(train).dissimilarity(new), options.rounds)
    found["abil"] = {**times(peer, ours), "training_samples": 500, "ours": ours}
    if "result" in peer:
        found["abil"]["largest_difference"] = float(np.abs(np.array(peer["result"]) - index).max())
    return found


@section
def radial(options: argparse.Namespace) -> dict[str, Any]:
    """Radial kernels of support vectors: matrix products against libsvm."""
    import torch
    from sklearn.svm import SVC, SVR
    from threadpoolctl import threadpool_limits

    from trainer.susceptibility.kernels import RadialSum

    dice = np.random.default_rng(0)
    x = dice.normal(size=(options.samples, 14))
    y = (x[:, 0] * x[:, 1] + dice.normal(size=options.samples) > 0).astype(int)
    cells = dice.normal(size=(options.cells, 14))
    found: dict[str, Any] = {"cells": options.cells, "factors": 14}
    for name, model in (("svr", SVR(C=1, epsilon=0.1)), ("svc", SVC(C=1))):
        model.fit(x, y)
        theirs = model.predict if name == "svr" else model.decision_function
        ours = RadialSum.of(model)
        ours(cells[:256])  # what is prepared once is prepared
        with threadpool_limits(1):
            slow, expected = best(lambda: theirs(cells), 3, time.process_time)  # noqa: B023
            fast, values = best(lambda: ours(cells), 5, time.process_time)  # noqa: B023
            double, exact = best(lambda: ours(cells, 0.0), 3, time.process_time)  # noqa: B023
        clock, _ = best(lambda: ours(cells, threads=os.cpu_count() or 1), 5)  # noqa: B023
        row = {
            "support_vectors": len(ours.weights),
            "sklearn_cells_per_second": round(options.cells / slow),
            "ours_cells_per_second": round(options.cells / fast),
            "times_faster_one_thread": round(slow / fast, 1),
            "times_faster_double_precision": round(slow / double, 1),
            "ours_cells_per_second_by_the_clock": round(options.cells / clock),
            "largest_difference": float(np.abs(values - expected).max()),
            "largest_difference_double_precision": float(np.abs(exact - expected).max()),
        }
        if torch.cuda.is_available():
            many = np.tile(cells, (max(1, 2_000_000 // options.cells), 1))
            ours(many[:8192], device="cuda")
            quick, on_gpu = best(lambda: ours(many, device="cuda"), 3)  # noqa: B023
            row["gpu_cells_per_second"] = round(len(many) / quick)
            row["gpu_times_faster"] = round(slow / options.cells * len(many) / quick, 1)
            row["gpu_largest_difference"] = float(np.abs(on_gpu[: options.cells] - expected).max())
        found[name] = row
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(SECTIONS), nargs="+", help="some sections")
    parser.add_argument("--rows", type=int, default=1_000_000, help="samples, values or cells")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument(
        "--slow-rows", type=int, default=10_000, help="rows of libraries that take minutes for all"
    )
    parser.add_argument(
        "--looked-up", type=int, default=2_000, help="cells that a tree and every distance get"
    )
    parser.add_argument("--cells", type=int, default=20_000, help="rows of `radial`")
    parser.add_argument("--samples", type=int, default=4_000, help="training samples of `radial`")
    parser.add_argument("--peers", help="interpreter that has the libraries")
    parser.add_argument("--peer", choices=sorted(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        answer(options.peer, options.data)
        return
    report: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
    for name in options.only or SECTIONS:
        report[name] = SECTIONS[name](options)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
