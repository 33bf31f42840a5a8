"""Susceptibility on the made-up valley, where the process behind the slumps is known.

    python benchmarks/susceptibility_valley.py [--only ranks|promise] [--seeds 1 2 3] [--draws 12]

**ranks**: the whole chain (valley, export through the emulator, samples, models, maps) on valleys
of several seeds; Spearman's rank correlation of each map with the true probability over ground that
nothing was learned from (site of role test, and the area), intervals over blocks of 1000 m. Three
stacks of factors: the chain's default; what its scripts add from relief, hydrology, distances and
land cover; and with maps of permafrost and rock. Beside them what bounds it: models that are given
what the process itself looks at, with and without the ice, and forests that learn from the true
probability of every cell instead of from slumps.

**promise**: six small valleys, all cells of their 240 or so slumps, a forest of deep trees, factors
that tell places apart (elevation, distances). What a random split promises, what spatial folds say,
and what comes true on six other valleys of the same process. The case (forest, size and number of
the valleys, all cells) was settled on draws 1 to 6; draws from 11 on had not been looked at.
Standard errors are over draws: each has other valleys.

All data are made up. Writes benchmarks/results/susceptibility_valley.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject

sys.path.insert(0, str(Path(__file__).parent))

from _valley_ground import DRIVERS, Ground, draw, drivers, ground

from gee.valley import landscape
from gee.valley.place import OWN
from thawslump import raster
from thawslump.config import load_model, save_yaml, target
from thawslump.demo import prepare
from thawslump.files import write_json
from thawslump.pipeline import STEPS, run
from thawslump.site import Site
from thawslump.workspace import Workspace
from trainer.susceptibility import folds, models, registry, samples, validation
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.files import Files
from trainer.susceptibility.steps import chosen_model

Floats = NDArray[np.float64]

DEFAULT = ("elevation", "slope", "aspect", "NDVI")
WIDER = (
    *DEFAULT,
    "plan_curvature",
    "profile_curvature",
    "TPI",
    "TRI",
    "TWI",
    "SPI",
    "distance_rivers",
    "distance_roads",
    "distance_faults",
    "landcover",
)
GROUND = (*WIDER, "permafrost", "lithology")
EXPORTED = (*WIDER, "lithology")
STACKS = {
    "default": DEFAULT,
    "wider": WIDER,
    "with ground": GROUND,
    "drivers without ice": tuple(name for name in DRIVERS if name != "true_ice"),
    "drivers": DRIVERS,
}
SOURCES = {
    "upslope": "local",
    **{name: f"{OWN}/{name}" for name in ("rivers", "roads", "faults", "lithology")},
}
MODELS = ("logistic", "forest", "spatial_average", "stacking")
SHAPE = (512, 1024)

VALLEYS, SMALL = 6, (256, 512)
ALL_CELLS = 10_000
KINDS = ("random", "blocked", "regions")
PROMISED, REVEALED = 0.08, 0.02


# Rank correlation with the truth ------------------------------------------------------------


def ranks(values: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Return mean ranks, of a sample in which value i occurs `weights[i]` times.

    Examples
    --------
    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    weight = np.ones(values.size) if weights is None else weights
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    tied = np.add.reduceat(weight[order], starts)
    middle = np.cumsum(tied) - (tied - 1) / 2
    found = np.empty(values.size)
    found[order] = np.repeat(middle, np.diff(np.r_[starts, values.size]))
    return found


def spearman(a: NDArray[Any], b: NDArray[Any], weights: Floats | None = None) -> float:
    """Return Spearman's rank correlation of a weighted sample."""
    weight = np.ones(a.size) if weights is None else weights
    x, y = ranks(a, weights), ranks(b, weights)
    x, y = x - np.average(x, weights=weight), y - np.average(y, weights=weight)
    return float((weight * x * y).sum() / np.sqrt((weight * x * x).sum() * (weight * y * y).sum()))


def over_blocks(a: NDArray[Any], b: NDArray[Any], blocks: NDArray[np.int64], resamples: int) -> Any:
    """Return the rank correlation and its 95 % interval over draws of whole blocks."""
    draws = validation.block_bootstrap(
        lambda weight: [spearman(a, b, weight)], blocks, resamples, seed=0
    )
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": spearman(a, b), "low": float(low), "high": float(high)}


def prepared(root: Path, seed: int, shape: tuple[int, int]) -> Workspace:
    """Make a valley, export all factors through the emulator, and put the drivers beside them."""
    workspace = prepare(root, seed=seed, shape=shape)
    for path in sorted([*root.glob("sites/*.yaml"), *root.glob("areas/*.yaml")]):
        site = load_model(Site, path)
        # The change stack is not looked at here; the labels need its grid.
        changes = {"factors": EXPORTED, "bands": ("elevation", "slope")}
        save_yaml(path, site.model_copy(update={**changes, "sources": {**site.sources, **SOURCES}}))
    workspace = Workspace(root)
    run(workspace, until="labels")
    land = landscape.make(seed, shape)
    known = drivers(land)
    frame = land.frame
    row0 = col0 = (frame.shape[0] - shape[0]) // 2
    left = frame.left + col0 * frame.pixel
    top = frame.top - row0 * frame.pixel
    fine = rasterio.Affine(frame.pixel, 0, left, 0, -frame.pixel, top)
    for name in workspace.sites:
        read = raster.read_float(workspace.factors(name))
        added = [warped(values, fine, read.grid) for values in known.values()]
        added.append(permafrost(known["true_ice"], fine, read.grid))
        raster.write_cog(
            workspace.factors(name),
            np.concatenate([read.array, np.stack(added)]),
            read.grid,
            (*read.names, *known, "permafrost"),
            nodata=float("nan"),
        )
    return workspace


def permafrost(ice: NDArray[Any], affine: Any, grid: Any) -> NDArray[np.float32]:
    """Return the classes that the valley's map of permafrost has: five of ice content, of 100 m."""
    rows, cols = (n // 10 * 10 for n in ice.shape)
    mean = ice[:rows, :cols].reshape(rows // 10, 10, cols // 10, 10).mean(axis=(1, 3))
    classes = np.pad(
        np.digitize(mean, [0.2, 0.35, 0.5, 0.65]) + 1.0,
        [(0, -(-ice.shape[0] // 10) - rows // 10), (0, -(-ice.shape[1] // 10) - cols // 10)],
        mode="edge",
    )
    found = np.full(grid.shape, np.nan, np.float32)
    reproject(
        classes.astype(np.float32), found, src_transform=affine * affine.scale(10),
        src_crs=str(grid.crs), dst_transform=grid.affine, dst_crs=str(grid.crs),
        dst_nodata=np.nan, resampling=Resampling.nearest,
    )  # fmt: skip
    return found


def warped(values: NDArray[Any], affine: Any, grid: Any) -> NDArray[np.float32]:
    """Return means of 10 m pixels over the cells of a site's factors."""
    found = np.full(grid.shape, np.nan, np.float32)
    reproject(
        np.asarray(values, np.float32), found, src_transform=affine, src_crs=str(grid.crs),
        dst_transform=grid.affine, dst_crs=str(grid.crs), dst_nodata=np.nan,
        resampling=Resampling.average,
    )  # fmt: skip
    return found


def chain(workspace: Workspace, config: SusceptibilityConfig) -> Files:
    """Run the steps of susceptibility in this process, up to the maps of probability."""
    whole = workspace.config.model_copy(update={"susceptibility": config})
    workspace.__dict__["config"] = whole
    for step in STEPS:
        if step.name.startswith("susceptibility-"):
            for item in target(step.plan)(workspace, 1):
                target(item.target)(item, workspace, lambda share, words: None)
    return Files(workspace, 1)


def site_cells(
    workspace: Workspace, name: str, root: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Return true probability and block of each cell of a site, and which have factors."""
    grid = raster.grid_of(workspace.factors(name))
    with rasterio.open(root / "truth" / "susceptibility_truth.tif") as source:
        truth = warped(source.read(1), source.transform, grid)
    rows, cols = np.indices(grid.shape)
    x, y = cols * abs(grid.affine.a), rows * -abs(grid.affine.e)
    blocks = samples.block_ids(x.ravel().astype(float), y.ravel().astype(float), (0.0, 0.0), 1000.0)
    known = np.isfinite(raster.read_float(workspace.factors(name)).array[0])
    return truth, blocks.reshape(grid.shape), known & np.isfinite(truth)


def taught_by_truth(
    workspace: Workspace, names: Sequence[str], root: Path, learn: Sequence[str], on: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the maps of a forest that learns from the true probability of every cell.

    No slump is needed for it: what it misses, the factors do not know.
    """
    from sklearn.ensemble import RandomForestRegressor

    def features(site: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        read = raster.read_float(workspace.factors(site), names)
        named = dict(zip(names, read.array, strict=True))
        columns = np.nan_to_num(models.design(named, classes_of(names, workspace)))
        return columns, site_cells(workspace, site, root)[2].ravel()

    X, y = [], []
    for site in learn:
        columns, known = features(site)
        X.append(columns[known])
        y.append(site_cells(workspace, site, root)[0].ravel()[known])
    forest = RandomForestRegressor(100, min_samples_leaf=5, max_features=0.5, random_state=0)
    forest.fit(np.concatenate(X), np.concatenate(y))
    shapes = {site: raster.grid_of(workspace.factors(site)).shape for site in on}
    return {site: forest.predict(features(site)[0]).reshape(shapes[site]) for site in on}


def classes_of(names: Sequence[str], workspace: Workspace) -> dict[str, tuple[int, ...]]:
    """Return the classes of those factors that hold some, over all sites."""
    found: dict[str, set[int]] = {}
    for site in workspace.sites:
        for name in names:
            if name in ("landcover", "permafrost", "lithology"):
                values = raster.read_float(workspace.factors(site), [name]).array
                seen = {int(v) for v in np.unique(values[np.isfinite(values)])}
                found.setdefault(name, set()).update(seen)
    return {name: tuple(sorted(each)) for name, each in found.items()}


def rank_correlations(
    seed: int, shape: tuple[int, int], stacks: Mapping[str, Sequence[str]], names: Sequence[str],
    resamples: int = 500,
) -> dict[str, Any]:  # fmt: skip
    """Return the rank correlations of one valley, by stack of factors and model."""
    root = Path(tempfile.mkdtemp(prefix="thawslump-valley-"))
    try:
        workspace = prepared(root / "w", seed, shape)
        root = root / "w"
        unseen = [n for n, site in workspace.sites.items() if site.role in ("test", "area")]
        learn = [n for n, site in workspace.sites.items() if site.role not in ("test", "area")]
        cells = {name: site_cells(workspace, name, root) for name in unseen}
        truth = np.concatenate([cells[n][0][cells[n][2]] for n in unseen])
        blocks = np.concatenate([cells[n][1][cells[n][2]] + 10**15 * i
                                 for i, n in enumerate(unseen)])  # fmt: skip
        found: dict[str, Any] = {}
        for stack, factors in stacks.items():
            config = SusceptibilityConfig(
                factors=factors, models=names, side_by_side=True, importance=0,
                bases=("logistic", "svc", "forest_small"), upper="pooling", applicability=False,
            )  # fmt: skip
            files = chain(workspace, config)
            chosen = chosen_model(files)
            facts = json.loads(files.comparison.read_text(encoding="utf-8"))
            rows: dict[str, Any] = {}
            for name in names:
                said = [
                    raster.read_float(
                        files.probability(site, None if name == chosen else name), ["probability"]
                    ).array[0][cells[site][2]]
                    for site in unseen
                ]
                rows[name] = {
                    "rank": over_blocks(np.concatenate(said), truth, blocks, resamples),
                    "auc_spatial": facts["models"][name]["auc_spatial"],
                    "auc_random": facts["models"][name]["auc_random"],
                    "draws_the_map": name == chosen,
                }
            taught = taught_by_truth(workspace, factors, root, learn, unseen)
            best = np.concatenate([taught[site][cells[site][2]] for site in unseen])
            found[stack] = {
                "factors": list(factors),
                "models": rows,
                "taught_by_truth": over_blocks(best, truth, blocks, resamples),
            }
            print(f"seed {seed}, {stack}: " + ", ".join(
                f"{name} {row['rank']['value']:.3f} ({row['rank']['low']:.3f} .. "
                f"{row['rank']['high']:.3f})" for name, row in rows.items()
            ) + f", taught by the truth {found[stack]['taught_by_truth']['value']:.3f}",
                flush=True)  # fmt: skip
        return {"seed": seed, "cells": int(truth.size), "stacks": found}
    finally:
        shutil.rmtree(root, ignore_errors=True)


# What a random split promises ---------------------------------------------------------------


def deep_forest(trees: int = 100) -> Any:
    """Return a forest of trees that grow until they know every sample."""
    return registry.build("forest", trees=trees, depth=40, seed=0)


def promise(
    number: int, valleys: int = VALLEYS, shape: tuple[int, int] = SMALL,
    kinds: Sequence[str] = KINDS, trees: int = 100,
) -> dict[str, float]:  # fmt: skip
    """Return the AUC by folds on some valleys and the AUC on as many new ones.

    Parameters
    ----------
    number : int
        Of the draw: it makes the seeds of its valleys.
    valleys : int
        To learn from, and new ones.
    shape : (rows, cols)
        Of each, 10 m.
    kinds : sequence of str
        Of folds (`folds.KINDS`).
    trees : int
    """

    def some(first: int) -> list[Ground]:
        return [ground(1000 * number + first + n, shape) for n in range(valleys)]

    known = draw(some(0), number, ALL_CELLS)
    found: dict[str, float] = {"samples": float(known.y.size)}
    for kind in kinds:
        parted = folds.plan(kind, known.y, known.places, known.sites, seed=number)
        said = validation.out_of_fold(deep_forest(trees), known.X, known.y, parted.folds)
        found[kind] = validation.auc(known.y, said)
    new = draw(some(500), number + 1, ALL_CELLS)
    fitted = deep_forest(trees).fit(known.X, known.y)
    found["new ground"] = validation.auc(new.y, fitted.predict_proba(new.X)[:, 1])
    return found


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Return the mean over draws and its standard error."""
    many = np.asarray(values, float)
    return {"mean": float(many.mean()), "error": float(many.std(ddof=1) / np.sqrt(many.size))}


def promises(first: int, draws: int) -> dict[str, Any]:
    """Return the promise of a random split over several draws, and what spatial folds say."""
    rows = []
    for number in range(first, first + draws):
        rows.append(promise(number))
        told = ", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items())
        print(f"draw {number}: {told}", flush=True)
    areas = {name: mean_and_error([row[name] for row in rows]) for name in (*KINDS, "new ground")}
    over = {kind: mean_and_error([row[kind] - row["new ground"] for row in rows]) for kind in KINDS}
    return {"first_draw": first, "draws": rows, "auc": areas, "minus_new_ground": over}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=("ranks", "promise"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=SHAPE[0])
    parser.add_argument("--cols", type=int, default=SHAPE[1])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--first", type=int, default=11, help="first draw; 1 to 6 made the case")
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    where = options.output or Path(__file__).parent / "results" / "susceptibility_valley.json"
    result: dict[str, Any] = {"made_up": True, "cores": os.cpu_count()}
    met: dict[str, bool] = {}
    if options.only != "ranks":
        result["promise"] = found = promises(options.first, options.draws)
        print(f"\n{'folds':12} {'AUC':>7} {'s.e.':>6} {'minus new ground':>18} {'s.e.':>6}")
        for kind in (*KINDS, "new ground"):
            area, over = found["auc"][kind], found["minus_new_ground"].get(kind)
            words = f"{over['mean']:+18.3f} {over['error']:6.3f}" if over else ""
            print(f"{kind:12} {area['mean']:7.3f} {area['error']:6.3f} {words}")
        away = found["minus_new_ground"]
        met["a random split promises 0.08 more than new ground gives"] = (
            away["random"]["mean"] >= PROMISED
        )
        met["spatial folds (blocked) are within 0.02 of new ground"] = (
            abs(away["blocked"]["mean"]) <= REVEALED
        )
    if options.only != "promise":
        valleys = [
            rank_correlations(seed, (options.rows, options.cols), STACKS, options.models)
            for seed in options.seeds
        ]
        result["ranks"] = valleys
        print(f"\nrank correlation with the true probability, mean of {len(valleys)} valleys")
        print(f"{'factors':20}" + "".join(f"{name:>17}" for name in options.models)
              + f"{'taught by truth':>17}")  # fmt: skip
        for stack in STACKS:
            each = [valley["stacks"][stack] for valley in valleys]
            shown = [
                float(np.mean([one["models"][name]["rank"]["value"] for one in each]))
                for name in options.models
            ] + [float(np.mean([one["taught_by_truth"]["value"] for one in each]))]
            print(f"{stack:20}" + "".join(f"{value:17.3f}" for value in shown))
    for words, well in met.items():
        print(f"{'met' if well else 'MISSED'}: {words}")
    result |= {"targets": met, "seconds": time.monotonic() - begun, "load": os.getloadavg()}
    write_json(where, result)
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
