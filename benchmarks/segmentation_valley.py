"""The ensemble beside its members, a per-pixel forest and single thresholds, on made-up valleys.

    python benchmarks/segmentation_valley.py [--seeds 1 2 3] [--rows 512] [--cols 1024] [--keep DIR]
        [--bands preVV postVV dVV preVH postVH dVH slope dNDVI]

With `--bands` the stacks hold only those: what the others add, or cost, is the difference of two
runs.

For each seed a valley is made and the chain is run to the maps (`thawslump.pipeline.run`), then
everything is scored on the held-out part of that valley, which nothing was fitted or chosen on:

- every map becomes outlines at the threshold with the best F1 on the validation part;
- the per-pixel forest sees the same bands as the models, and learns from the training part;
- the threshold on one band is chosen on the training part (band, direction and value); the last
  row chooses all three on the held-out part itself, which no honest method may.

Differences are paired: all contenders are scored on the same draws of 32 px blocks (the pixels
of one slump stay in one block). The mean over the seeds draws blocks within each seed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from thawslump import demo, pipeline, raster
from thawslump.config import save_yaml
from thawslump.files import write_json
from thawslump.site import Site
from thawslump.workspace import Workspace
from trainer import metrics
from trainer.baselines import best_threshold, f1_score, fit_pixel_forest

BLOCK = 32
RESAMPLES = 600
LEVEL = 0.95

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Tile:
    """A site as arrays: stack (band, y, x) with NaN where missing, labels 0, 1, 255."""

    stack: Floats
    labels: Labels


@dataclass(frozen=True)
class Trial:
    """The held-out part of one valley.

    Attributes
    ----------
    counts : dict of contender to ndarray, shape (blocks, 4)
        TP, FP, FN, TN in the same blocks for all.
    members : list of str
    facts : dict
    """

    counts: dict[str, NDArray[np.int64]]
    members: list[str]
    facts: dict[str, Any]


def block_numbers(labels: Labels, size: int) -> NDArray[np.int64]:
    """Return the block of each pixel: squares, except that a slump is not cut.

    All pixels of a slump belong to the block that holds its centre.
    """
    rows, columns = np.indices(labels.shape) // size
    wide = -(-labels.shape[1] // size)
    numbers = rows * wide + columns
    slumps, count = ndimage.label(labels == 1, structure=np.ones((3, 3), int))
    if count:
        centres = np.array(ndimage.center_of_mass(slumps > 0, slumps, range(1, count + 1)))
        cells = (centres // size).astype(np.int64)
        own = np.r_[0, cells[:, 0] * wide + cells[:, 1]]
        numbers = np.where(slumps > 0, own[slumps], numbers)
    return numbers.astype(np.int64)


def counts_in_blocks(
    predicted: NDArray[np.bool_], labels: Labels, numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return TP, FP, FN, TN of each block, shape (blocks, 4); pixels labelled 255 are left out."""
    seen = labels != 255
    slump = labels == 1
    kind = np.select([predicted & slump, predicted & ~slump, ~predicted & slump], [0, 1, 2], 3)
    total = int(numbers.max()) + 1
    flat = np.bincount((numbers * 4 + kind)[seen], minlength=4 * total)
    return flat.reshape(total, 4).astype(np.int64)


def tiles(workspace: Workspace, role: str, bands: tuple[str, ...]) -> dict[str, Tile]:
    """Return the sites of a role."""
    found = {}
    for name, site in workspace.sites.items():
        if site.role == role:
            stack = raster.read_float(workspace.stack(name), bands).array
            labels = raster.read(workspace.labels(1, name)).array[0]
            found[name] = Tile(stack.astype(np.float32), labels.astype(np.uint8))
    return found


def pooled_threshold(maps: dict[str, Floats], parts: dict[str, Tile]) -> tuple[float, float]:
    """Return the threshold with the best F1 over the validation sites, and that F1."""
    each = [metrics.histogram(maps[name], part.labels) for name, part in parts.items()]
    held = np.sum(each, axis=0)
    threshold = metrics.best_threshold(held)
    return threshold, metrics.scores(metrics.counts_at(held, threshold)).f1


def only(workspace: Workspace, bands: Sequence[str]) -> Workspace:
    """Let the stacks of all sites hold these bands only."""
    for name, site in workspace.sites.items():
        folder = "areas" if site.role == "area" else "sites"
        fewer = Site.model_validate({**site.model_dump(), "bands": tuple(bands)})
        save_yaml(workspace.root / folder / f"{name}.yaml", fewer)
    return Workspace(workspace.root)


def run_trial(
    root: Path, seed: int, shape: tuple[int, int], say: Any, bands_only: Sequence[str] = ()
) -> Trial:
    """Make a valley, run the chain to its maps, and score every contender."""
    from trainer.segmentation.ensemble import load_members
    from trainer.segmentation.predict import predict_array

    begun = time.monotonic()
    workspace = demo.prepare(root / f"seed-{seed}", seed=seed, shape=shape)
    if bands_only:
        workspace = only(workspace, bands_only)
    pipeline.run(workspace, until="predict")
    chain = time.monotonic() - begun
    config = workspace.config.segmentation
    item = workspace.models(1) / "ensemble" / "item.json"
    ensemble = json_of(workspace.models(1) / "ensemble" / "metrics.json")
    names = [run.name for run in config.runs]
    bands, members = load_members(item, names)
    train, validation, test = (
        tiles(workspace, role, bands) for role in ("train", "validation", "test")
    )

    def mapped(chosen: list[Any], parts: dict[str, Tile]) -> dict[str, Floats]:
        return {
            name: predict_array(
                chosen, part.stack, window=config.window, overlap=config.overlap
            ).probability
            for name, part in parts.items()
        }

    chosen_names = [str(m["run"]) for m in ensemble["members"]]
    by_name = dict(zip(names, members, strict=True))
    contenders: dict[str, list[Any]] = {"ensemble": [by_name[name] for name in chosen_names]}
    contenders |= {name: [by_name[name]] for name in chosen_names}
    predicted: dict[str, dict[str, NDArray[np.bool_]]] = {}
    on_validation = {}
    for name, models in contenders.items():
        threshold, on_validation[name] = pooled_threshold(mapped(models, validation), validation)
        predicted[name] = {
            site: np.nan_to_num(each, nan=-1) >= threshold
            for site, each in mapped(models, test).items()
        }
    best = max(chosen_names, key=lambda name: on_validation[name])
    predicted["best member on validation"] = predicted[best]

    say(f"seed {seed}: forest and thresholds")
    forest = fit_pixel_forest(
        {name: (part.stack, part.labels) for name, part in train.items()}, seed=seed
    ).with_threshold({name: (part.stack, part.labels) for name, part in validation.items()})
    predicted["per-pixel forest"] = {
        name: np.nan_to_num(forest.probability(part.stack), nan=-1) >= forest.threshold
        for name, part in test.items()
    }

    def flat(parts: dict[str, Tile], band: int) -> tuple[Floats, Labels]:
        return (
            np.concatenate([part.stack[band].ravel() for part in parts.values()]),
            np.concatenate([part.labels.ravel() for part in parts.values()]),
        )

    rules = {band: best_threshold(*flat(train, i)) for i, band in enumerate(bands)}
    band = max(rules, key=lambda name: rules[name].f1)
    predicted["threshold on one band"] = {
        name: rules[band].apply(part.stack[bands.index(band)]) for name, part in test.items()
    }
    oracle = {name: best_threshold(*flat(test, i)) for i, name in enumerate(bands)}
    peek = max(oracle, key=lambda name: oracle[name].f1)
    predicted["threshold chosen on the test"] = {
        name: oracle[peek].apply(part.stack[bands.index(peek)]) for name, part in test.items()
    }

    counts = {}
    for name, maps in predicted.items():
        parts = [
            counts_in_blocks(maps[site], part.labels, block_numbers(part.labels, BLOCK))
            for site, part in test.items()
        ]
        counts[name] = np.concatenate(parts)
    seen = counts["ensemble"].sum(axis=1) > 0
    facts = {
        "seed": seed,
        "shape": list(shape),
        "chain_seconds": round(chain, 1),
        "bands": list(bands),
        "members": chosen_names,
        "best_member_on_validation": best,
        "f1_on_validation": on_validation,
        "band_of_threshold": band,
        "f1_of_each_band_on_train": {name: rule.f1 for name, rule in rules.items()},
        "f1_of_each_band_chosen_on_test": {name: rule.f1 for name, rule in oracle.items()},
        "band_of_threshold_on_test": peek,
        "test_slumps": sum(
            ndimage.label(part.labels == 1, structure=np.ones((3, 3), int))[1]
            for part in test.values()
        ),
        "test_slump_share": float(np.mean([(p.labels == 1).mean() for p in test.values()])),
        "map_of_chain_agrees": agreement(workspace, predicted["ensemble"], test, ensemble),
    }
    return Trial({name: each[seen] for name, each in counts.items()}, chosen_names, facts)


def agreement(
    workspace: Workspace,
    predicted: dict[str, NDArray[np.bool_]],
    test: dict[str, Tile],
    ensemble: dict[str, Any],
) -> dict[str, float]:
    """Return F1 of the map that the chain itself wrote, at its own threshold, beside ours."""
    found = {}
    for name, part in test.items():
        path = workspace.maps(1) / f"{name}.tif"
        if path.exists():
            own = raster.read_float(path, ["probability"]).array[0]
            found[f"{name} (chain)"] = f1_score(
                np.nan_to_num(own, nan=-1) >= float(ensemble["threshold"]), part.labels
            )
        found[f"{name} (here)"] = f1_score(predicted[name], part.labels)
    return found


def json_of(path: Path) -> dict[str, Any]:
    import json

    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def draws_of(trial: Trial, seed: int) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Return F1 of each contender, on the held-out part and on each draw of its blocks."""
    blocks = len(trial.counts["ensemble"])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES)
    value = {n: float(metrics.f1_of(c.sum(axis=0))) for n, c in trial.counts.items()}
    draws = {n: np.asarray(metrics.f1_of(drawn @ c)) for n, c in trial.counts.items()}
    value["mean of the members"] = float(np.mean([value[name] for name in trial.members]))
    draws["mean of the members"] = np.mean([draws[name] for name in trial.members], axis=0)
    return value, draws


CONTENDERS = (
    "mean of the members",
    "best member on validation",
    "per-pixel forest",
    "threshold on one band",
    "threshold chosen on the test",
)


def interval(draws: NDArray[np.float64]) -> list[float]:
    tail = 50 * (1 - LEVEL)
    return [float(each) for each in np.nanpercentile(draws, [tail, 100 - tail])]


def table(trials: list[Trial]) -> dict[str, Any]:
    """Return F1 and paired differences, for each seed and as the mean over the seeds."""
    held = [draws_of(trial, trial.facts["seed"]) for trial in trials]
    groups = {f"seed {t.facts['seed']}": [h] for t, h in zip(trials, held, strict=True)}
    groups["mean over seeds"] = held
    found: dict[str, Any] = {}
    for label, group in groups.items():
        rows: dict[str, Any] = {}
        for name in ("ensemble", *CONTENDERS):
            value = float(np.mean([values[name] for values, _ in group]))
            draws = np.mean([each[name] for _, each in group], axis=0)
            rows[name] = {"f1": value, "f1_interval": interval(draws)}
            if name != "ensemble":
                other = np.mean([each["ensemble"] for _, each in group], axis=0)
                rows[name]["ensemble_minus_it"] = rows["ensemble"]["f1"] - value
                rows[name]["difference_interval"] = interval(other - draws)
        found[label] = rows
    return found


def show(found: dict[str, Any]) -> str:
    lines = [f"{'':18}{'':30}{'F1':>6}  {'95 %':^13}   {'ensemble - it':>13}  {'95 %':^15}"]
    for label, rows in found.items():
        for name, row in rows.items():
            low, high = row["f1_interval"]
            line = f"{label:18}{name:30}{row['f1']:6.3f}  {low:5.3f} - {high:5.3f}"
            if name != "ensemble":
                low, high = row["difference_interval"]
                line += f"   {row['ensemble_minus_it']:+13.3f}  {low:+.3f} - {high:+.3f}"
            lines.append(line)
            label = ""
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--cols", type=int, default=1024)
    parser.add_argument("--keep", type=Path, help="folder for the workspaces; else removed")
    parser.add_argument("--bands", nargs="+", default=[], help="of the stack; all else left out")
    arguments = parser.parse_args()
    root = arguments.keep or Path(tempfile.mkdtemp(prefix="thawslump-valley-"))
    try:
        trials = [
            run_trial(root, seed, (arguments.rows, arguments.cols), print, arguments.bands)
            for seed in arguments.seeds
        ]
    finally:
        if arguments.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    found = table(trials)
    print("made-up valleys, held-out part; nothing was fitted or chosen on it, but the last row")
    print(show(found))
    mean = found["mean over seeds"]
    beaten = {
        name: mean[name]["ensemble_minus_it"] > 0
        for name in ("mean of the members", "per-pixel forest", "threshold on one band")
    }
    low = all(found[label]["threshold chosen on the test"]["f1"] < 0.6 for label in found)
    for name, won in beaten.items():
        print(f"{'met' if won else 'MISSED'}: the ensemble beats the {name}")
    print(f"{'met' if low else 'MISSED'}: no threshold on any one band reaches F1 0.6")
    write_json(
        Path(__file__).parent
        / "results"
        / f"segmentation_valley{'_fewer_bands' if arguments.bands else ''}.json",
        {
            "made_up": True,
            "block_pixels": BLOCK,
            "resamples": RESAMPLES,
            "level": LEVEL,
            "scores": found,
            "trials": [trial.facts for trial in trials],
            "targets": {**beaten, "thresholds below 0.6": low},
        },
    )
    return 0 if all(beaten.values()) and low else 1


if __name__ == "__main__":
    sys.exit(main())
