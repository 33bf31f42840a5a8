"""The averages of susceptibility_ecuador.py on ground that no choice about them has seen.

    python benchmarks/susceptibility_hungary.py [--repetitions 20]

Landslide scarps of a part of Hungary (frmod, MIT; folder susc_hungary_frmod of THAWSLUMP_DATA): one
random cell of each of the 41 scarps, 175 random cells more than three cells from any, drawn anew
in each repetition. Four factors: slope and elevation of the folder, and plan and profile curvature
of the elevation; ``average_scales`` also sees the surroundings (2, 4, 8 and 16 cells). Folds,
models and their settings are those of the other benchmark, taken over unchanged. 41 scarps are
few, and the standard errors are over draws from the same 41. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import susceptibility_ecuador as ecuador
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from trainer.susceptibility.average import SpatialAverage, subsets
from trainer.susceptibility.context import surroundings
from trainer.susceptibility.ensembles import fit_on_ground

Array = NDArray[Any]
CELL = 31.0
OTHERS = 175
SINGLE = ("logistic", "svm", "forest", "boosting")


def read(name: str) -> Array:
    """Return a grid, NaN where it holds nothing."""
    here = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("THAWSLUMP_DATA", here)) / "susc_hungary_frmod"
    with rasterio.open(folder / name) as raster:
        return np.asarray(raster.read(1, masked=True).astype(float).filled(np.nan))


def curvatures(elevation: Array) -> tuple[Array, Array]:
    """Return plan and profile curvature of a slightly smoothed surface, 1/m."""
    known = np.isfinite(elevation)
    smooth = ndimage.gaussian_filter(np.where(known, elevation, np.nanmean(elevation)), 1)
    down, east = np.gradient(smooth, CELL)
    (rows, mixed), (_, columns) = np.gradient(down, CELL), np.gradient(east, CELL)
    rise = east**2 + down**2 + 1e-9
    plan = -(columns * down**2 - 2 * mixed * east * down + rows * east**2) / rise**1.5
    profile = -(columns * east**2 + 2 * mixed * east * down + rows * down**2)
    return np.clip(plan, -0.05, 0.05), profile / (rise * (1 + rise) ** 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    elevation, slope = read("SRTM31_EG_GF_m.sdat"), read("SRTM31_EG_GF_Slope_m.sdat")
    scarps = read("scarps.sdat")
    plan, profile = curvatures(elevation)
    factors = {"slope": slope, "plan": plan, "profile": profile, "elevation": elevation}
    columns, groups = list(factors.values()), [()]
    for cells in (2, 4, 8, 16):
        around = surroundings(factors, (CELL, CELL), cells * CELL)
        groups.append(tuple(range(len(columns), len(columns) + len(around))))
        columns += list(around.values())
    stack = np.stack(columns)
    usable = np.isfinite(stack).all(axis=0) & np.isfinite(scarps)
    number, count = ndimage.label(np.nan_to_num(scarps) == 1, np.ones((3, 3)))
    free = np.argwhere(usable & (ndimage.distance_transform_edt(number == 0) > 3))
    members = subsets([[c] for c in range(len(factors))], groups)
    scores: dict[tuple[str, str], list[float]] = {}
    for repetition in range(options.repetitions):
        dice = np.random.default_rng(repetition)
        own = [np.argwhere((number == k) & usable) for k in range(1, count + 1)]
        slides = np.array([dice.choice(cells) for cells in own if len(cells)])
        cells = np.concatenate([slides, dice.choice(free, OTHERS, replace=False)])
        labels = np.repeat([1, 0], [len(slides), OTHERS])
        values, place = stack[:, cells[:, 0], cells[:, 1]].T, cells[:, ::-1] * CELL
        single = ecuador.models(repetition)
        models = {
            **{name: single[name] for name in SINGLE},
            "average": SpatialAverage(),
            "average_scales": SpatialAverage(members),
        }
        for kind in ("spatial", "random"):
            found: dict[str, list[float]] = {name: [] for name in models}
            for train, test in ecuador.folds(place, kind, repetition):
                if np.unique(labels[test]).size < 2:
                    continue
                ecuador.Remembered.fitted.clear()
                blocks = None
                if kind == "spatial":
                    blocks = KMeans(8, n_init=1, random_state=repetition).fit_predict(place[train])
                for name, model in models.items():
                    x = values if name == "average_scales" else values[:, : len(factors)]
                    fit_on_ground(model, x[train], labels[train], blocks, place[train])
                    held = model.predict_proba(x[test])[:, 1]
                    found[name].append(float(roc_auc_score(labels[test], held)))
            for name, areas in found.items():
                scores.setdefault((name, kind), []).append(float(np.mean(areas)))
    report: dict[str, Any] = {"scarps": count, "repetitions": options.repetitions}
    for name in (*SINGLE, "average", "average_scales"):
        spatial, random = np.array(scores[name, "spatial"]), np.array(scores[name, "random"])
        report[name] = {
            "random_minus_spatial": round(float(random.mean() - spatial.mean()), 4),
            "spatial": ecuador.told(spatial),
            "random": ecuador.told(random),
            "spatial_minus_logistic": ecuador.told(spatial - scores["logistic", "spatial"]),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
