"""Which kind of folds promises what the rest of the map then gives: made-up regions, known truth.

    python benchmarks/susceptibility_folds.py [--worlds 20] [--samples 300]

Regions of 20 km with three smooth factors and a hidden one that no model sees; slumps follow the
slope and the hidden one. Samples lie around 15 places (as those of an inventory do), or all over.
A forest is judged over each kind of folds, and on 6,000 other cells of the whole region: the AUC
there is the truth. Prints, as JSON, promise minus truth: mean over the regions, its standard error,
and the root of the mean square. ``within``: over pairs of samples of one fold only.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer.susceptibility import registry
from trainer.susceptibility.folds import KINDS, fold_numbers, plan
from trainer.susceptibility.scores import within_folds
from trainer.susceptibility.validation import auc, out_of_fold

CELLS, EDGE = 400, 50.0
SEEN = 6000


def region(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the factors and the labels of all cells of a made-up region."""
    rng = np.random.default_rng(seed)

    def field(reach: float) -> NDArray[np.float64]:
        noise = np.fft.fft2(rng.normal(size=(CELLS, CELLS)))
        smooth = np.fft.ifft2(ndimage.fourier_gaussian(noise, reach)).real
        return np.asarray(smooth / smooth.std())

    slope, elevation, greenness, hidden = field(4), field(60), field(15), field(30)
    chance = 1 / (1 + np.exp(-(slope + 1.8 * hidden)))
    labels = (rng.random(slope.shape) < chance).astype(np.uint8)
    return np.stack([slope, elevation, greenness], axis=-1).astype(np.float32), labels


def promised(seed: int, samples: int, clusters: int) -> dict[str, float]:
    """Return the AUC on the whole region, and what each kind of folds promises beyond it."""
    factors, labels = region(seed)
    rng = np.random.default_rng([seed, clusters])
    if clusters:
        middle = rng.uniform(20, CELLS - 20, (clusters, 2))[rng.integers(clusters, size=samples)]
        at = (middle + rng.normal(0, 6, (samples, 2))).round().astype(int) % CELLS
    else:
        at = rng.integers(0, CELLS, (samples, 2))
    x, y = factors[at[:, 0], at[:, 1]], labels[at[:, 0], at[:, 1]]
    model = registry.build("forest", trees=50)
    new = rng.choice(labels.size, SEEN, replace=False)
    fitted = registry.build("forest", trees=50).fit(x, y)
    truth = auc(labels.ravel()[new], fitted.predict_proba(factors.reshape(-1, 3)[new])[:, 1])
    cells = np.column_stack(np.divmod(rng.choice(labels.size, 3000, replace=False), CELLS)) * EDGE
    found = {"truth": truth}
    for kind in KINDS:
        made = plan(kind, y, at * EDGE, block_size=2000.0, buffer=500.0, prediction=cells)
        said = out_of_fold(model, x, y, made.folds)
        of = fold_numbers(made.folds, samples)
        found[kind] = auc(y, said) - truth
        inside = within_folds(y, [said], [of], np.arange(samples), 0).value
        found[f"{kind} within"] = inside - truth
    return found


def main() -> None:
    """Print what each kind of folds promises beyond the truth."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--worlds", type=int, default=20)
    arguments.add_argument("--samples", type=int, default=300)
    given = arguments.parse_args()
    start = time.perf_counter()
    told: dict[str, Any] = {}
    for name, clusters in (("clustered", 15), ("all over", 0)):
        rows = [promised(seed, given.samples, clusters) for seed in range(given.worlds)]
        about: dict[str, Any] = {}
        for key in rows[0]:
            values = np.array([row[key] for row in rows])
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
            about[key] = {
                "mean": round(float(values.mean()), 4),
                "standard_error": None if error is None else round(float(error), 4),
            }
            if key != "truth":
                about[key]["root_mean_square"] = round(float(np.sqrt((values**2).mean())), 4)
        told[name] = about
    told["worlds"], told["samples"] = given.worlds, given.samples
    told["made_up"] = True
    told["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
