"""What positives and negatives do to the scores of susceptibility, and what a draw takes.

    python benchmarks/susceptibility_samples.py negatives WORKSPACE [--seeds 5] [--round 2]
    python benchmarks/susceptibility_samples.py large [--side 6000] [--factors 14] [--folder DIR]

``negatives``: a workspace of `thawslump demo`, whose truth is known (made-up data). For each kind
of negatives (cells of slumps as positives) and of positives (buffered negatives), with each seed:
a logistic regression and a forest over the same kinds of folds; then, on one yardstick for all,
the held-out site with random negatives that all share, and the rank correlation with the true
probability there, and on the third of it that is most like the ground of slumps. Prints a table in
Markdown; standard errors are over seeds.

``large``: a made-up site of side x side cells and nine times as many label pixels, 0.4 % of it
slumps; a draw in a process of its own, its time and its largest resident set beside what the
rasters would take whole.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("logistic", "forest")


def config(**changes: Any) -> Any:
    """Return the settings of the demo with some changes."""
    from trainer.susceptibility.config import SusceptibilityConfig

    return SusceptibilityConfig.model_validate(changes)


def negatives(options: argparse.Namespace) -> None:
    """Print scores by kind of negatives and of positives."""
    from scipy.stats import spearmanr

    from thawslump import raster
    from thawslump.workspace import Workspace
    from trainer.susceptibility import models, registry, validation
    from trainer.susceptibility.likeness import Likeness
    from trainer.susceptibility.steps.samples import draw

    workspace = Workspace(options.workspace)
    found = {role: [] for role in ("train", "validation", "test")}
    for name, site in workspace.sites.items():
        labels = workspace.labels(options.round, name)
        if site.role in found and workspace.factors(name).exists() and labels.exists():
            found[site.role].append((name, workspace.factors(name), labels))
    learn, test = [*found["train"], *found["validation"]], found["test"]
    kinds = [
        *(("cells", kind) for kind in ("random", "buffered", "similar")),
        *((kind, "buffered") for kind in ("centroid", "one")),
    ]
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    for seed in range(options.seeds):
        held = draw(learn, config(negatives="similar", seed=seed)).facts["likeness"]
        like = Likeness.from_json(held["propensity"])
        for kind in kinds:
            asked = config(positives=kind[0], negatives=kind[1], seed=seed)
            drawn = draw(learn, asked)
            apart = np.abs(list(drawn.facts["standardised_differences"].values())).max()
            shared = draw(test, config(negatives="random", seed=seed), drawn)
            blocks = drawn.blocks(drawn.widest_blocks(asked.block_size))
            for name in MODELS:
                model = registry.build(name, seed=seed)
                folds = (
                    validation.random_folds(len(drawn.labels), asked.folds, seed),
                    validation.spatial_folds(blocks, drawn.labels, asked.folds),
                )
                random, spatial = (
                    validation.auc(
                        drawn.labels,
                        validation.out_of_fold(model, drawn.features, drawn.labels, each),
                    )
                    for each in folds
                )
                model.fit(drawn.features, drawn.labels)
                there = validation.auc(shared.labels, model.predict_proba(shared.features)[:, 1])
                ranks, alike = [], []
                for _, path, _ in test:
                    read = raster.read_float(path, tuple(drawn.factors))
                    named = dict(zip(read.names, read.array, strict=True))
                    truth = _truth_on(workspace.truth / "susceptibility_truth.tif", read.grid)
                    features = models.design(named, drawn.classes)
                    said = model.predict_proba(features)[:, 1]
                    both = (np.isfinite(truth) & np.isfinite(read.array).all(axis=0)).ravel()
                    ranks.append(spearmanr(said[both], truth.ravel()[both]).statistic)
                    # The factors of the propensity are those of the samples, in their order.
                    weight = like.weights(features)
                    both &= weight >= np.quantile(weight[both], 2 / 3)
                    alike.append(spearmanr(said[both], truth.ravel()[both]).statistic)
                rows.setdefault((*kind, name), []).append(
                    [
                        random - spatial,
                        spatial,
                        random,
                        there,
                        float(np.mean(ranks)),
                        float(np.mean(alike)),
                        apart,
                    ]
                )
    print(f"made-up valley, {options.seeds} seeds; standard errors over seeds in brackets\n")
    print(
        "| positives | negatives | model | gap, random - spatial | AUC spatial | AUC random "
        "| AUC on the held-out site, one random sample for all | rank correlation with the truth "
        "there | on the third of it most like slump ground | largest standardised difference |"
    )
    print("|" + "---|" * 10)
    for key, values in rows.items():
        mean, error = np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(len(values))
        cells = [f"{m:+.3f} ({e:.3f})" if n == 0 else f"{m:.3f} ({e:.3f})"
                 for n, (m, e) in enumerate(zip(mean, error, strict=True))]  # fmt: skip
        print("| " + " | ".join([*key, *cells]) + " |")


def _truth_on(path: Path, grid: Any) -> np.ndarray:
    """Return the true probability as the mean of its pixels on a grid."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source, crs=grid.crs.to_wkt(), transform=grid.affine, height=int(grid.shape[0]),
            width=int(grid.shape[1]), resampling=Resampling.average, dtype="float32",
            nodata=float("nan"),
        ) as view,
    ):  # fmt: skip
        return np.asarray(view.read(1), np.float64)


def _strips(side: int, height: int = 512) -> Iterable[tuple[int, int]]:
    return ((first, min(height, side - first)) for first in range(0, side, height))


def _large_site(folder: Path, side: int, count: int) -> tuple[str, Path, Path]:
    """Write a made-up site by strips; return its name and paths."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    paths = folder / "factors.tif", folder / "labels.tif"
    shared = {
        "driver": "GTiff", "crs": "EPSG:32652", "tiled": True, "blockxsize": 512,
        "blockysize": 512, "bigtiff": "IF_SAFER", "compress": "ZSTD", "zstd_level": 1,
    }  # fmt: skip
    grain = rng.normal(size=(512, 512)).astype(np.float32)
    tiled = np.tile(grain, (1, side // 512 + 1))[:, :side]
    if not paths[0].exists():
        with rasterio.open(
            paths[0], "w", count=count, dtype="float32", height=side, width=side,
            transform=Affine(30, 0, 5e5, 0, -30, 8e6), interleave="pixel", **shared,
        ) as target:  # fmt: skip
            target.descriptions = tuple(f"factor{number}" for number in range(count))
            for first, rows in _strips(side):
                slope = np.linspace(first, first + rows, rows, dtype=np.float32)[:, None] / side
                stack = np.stack([tiled[:rows] * (n + 1) + slope for n in range(count)])
                target.write(stack, window=Window(0, first, side, rows))
    if not paths[1].exists():
        slumps = rng.integers(30, side * 3 - 90, (side * side // 30_000, 2))
        with rasterio.open(
            paths[1], "w", count=1, dtype="uint8", height=side * 3, width=side * 3,
            transform=Affine(10, 0, 5e5, 0, -10, 8e6), **shared,
        ) as target:  # fmt: skip
            for first, rows in _strips(side * 3, 1536):
                marks = np.zeros((rows, side * 3), np.uint8)
                for row, column in slumps - (first, 0):
                    if -40 < row < rows:
                        marks[max(0, row) : max(0, row + 40), column : column + 30] = 1
                target.write(marks[None], window=Window(0, first, side * 3, rows))
    return "large", *paths


def large(options: argparse.Namespace) -> None:
    """Print time and memory of draws from a large site."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _large_site(folder, options.side, options.factors)
        for kind in ("buffered", "similar"):
            words = [sys.executable, __file__, "one", str(folder), kind, str(options.factors),
                     str(options.side)]  # fmt: skip
            print(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip())


def _peak() -> int:
    """Return the largest resident set of this process, KiB (that of `resource` is inherited)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def one(options: argparse.Namespace) -> None:
    """Draw once; print what it took."""
    from trainer.susceptibility.steps.samples import draw

    idle = _peak()
    begun, used = time.perf_counter(), time.process_time()
    place = _large_site(Path(options.folder), options.side, options.factors)
    drawn = draw([place], config(factors=(), negatives=options.kind))
    whole = options.side**2 * (4 * options.factors + 9)
    print(
        json.dumps(
            {
                "negatives": options.kind,
                "cells": options.side**2,
                "factors": options.factors,
                "seconds": round(time.perf_counter() - begun, 1),
                "cpu_seconds": round(time.process_time() - used, 1),
                "cells_per_cpu_second": round(options.side**2 / (time.process_time() - used)),
                "peak_mib": _peak() // 1024,
                "before_mib": idle // 1024,
                "rasters_whole_mib": whole // 2**20,
                "slumps": drawn.facts["n_slumps"],
                "samples": len(drawn.labels),
            }
        )
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    first = parts.add_parser("negatives")
    first.add_argument("workspace", type=Path)
    first.add_argument("--seeds", type=int, default=5)
    first.add_argument("--round", type=int, default=2)
    second = parts.add_parser("large")
    second.add_argument("--side", type=int, default=6000)
    second.add_argument("--factors", type=int, default=14)
    second.add_argument("--folder", help="keep the site here, and use it again")
    third = parts.add_parser("one")
    third.add_argument("folder")
    third.add_argument("kind")
    third.add_argument("factors", type=int)
    third.add_argument("side", type=int)
    options = parser.parse_args()
    {"negatives": negatives, "large": large, "one": one}[options.part](options)


if __name__ == "__main__":
    main()
