"""Real thaw slumps: how far a model agrees with experts, beside how far they agree themselves.

    python benchmarks/real_slumps.py [--data DIR] [--seeds 0 1 2] [--epochs 8] [--keep DIR]
        [--figure PNG]

Two sites (Nitze et al. 2024, doi 10.1002/ppp.2249; MIT): Bykovsky and Peel, one Sentinel-2 image
each of 251 x 251 px, outlines that experts drew independently: 12 at Peel, 10 of them at
Bykovsky. There is one date a site, so there are no change bands: the models see the seven bands
that both images have (B2 to B8), not what the chain is made for.

- Labels: the majority of the experts, and the share of them (soft labels), with the same loss.
- Transfer: trained on one site, epoch and threshold chosen on blocks of it, judged on the other;
  once more with the bands of the other scaled by its own mean and deviation (no label needed).
- Within: every site in folds by spatial blocks with half a crop of buffer; the map that is judged
  is put together from the held-out parts.
- Baselines on the same ground: the best threshold on one band or NDVI, and a forest of pixels.
- Agreement: F1 with every expert, beside F1 of every two experts, over the same draws of blocks.

With `--keep`, what a run mapped is kept there, and a second call goes on from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump import agreement, objects
from thawslump.files import atomic, write_json
from thawslump.scores import block_ids
from trainer import metrics, splits
from trainer.baselines import best_threshold, fit_pixel_forest
from trainer.chips import Chips, Tile, fit_scaling, scale
from trainer.segmentation.experts import ExpertSite, read_experts
from trainer.segmentation.models import build
from trainer.segmentation.predict import Member, predict_array
from trainer.segmentation.train import Recipe, fit, reproducible, validate

ROOT = Path(__file__).resolve().parents[1]
BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8")
NAMES = (*BANDS, "NDVI")
CROP = 64
BUFFER = CROP // 2
FOLDS = 4
SITES: dict[str, dict[str, Any]] = {
    "bykovsky": {"block": (63, 251), "whole": False},
    "peel": {"block": (84, 84), "whole": True},
}
"""Blocks in pixels. At Bykovsky the headwall runs along the whole coast: its blocks are strips
across it, and cut it."""
RESOLUTION = 10.0
BLOCK = 50
RESAMPLES = 1000
LABELS = ("majority", "soft")

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]


def read_site(data: Path, name: str) -> ExpertSite:
    """Read one of the two sites of the data set."""
    title = name.capitalize()
    (image,) = (data / "01_Setup" / title / "data").glob("S2_*.tif")
    outlines = {
        folder.name.removeprefix("#"): folder / f"{title}_digitized.shp"
        for folder in sorted((data / "02_UserResults").iterdir())
        if (folder / f"{title}_digitized.shp").exists()
    }
    return read_experts(image, outlines, BANDS, name=name)


def ndvi(array: Floats) -> Floats:
    """Return NDVI of B8 and B4."""
    red, infrared = array[BANDS.index("B4")], array[BANDS.index("B8")]
    return (infrared - red) / (infrared + red)


@dataclass(frozen=True)
class Case:
    """What is learned from, chosen on and judged on.

    Attributes
    ----------
    name : str
    train, validation, test : Tile
        Labels 255 outside the part; soft labels beside those of the majority.
    where : tuple of slice
        Place of `test` in its site.
    judged : ndarray of bool, shape (y, x)
        Pixels of the site that this case judges.
    own_scaling : bool
        The bands of the test image are scaled by its own mean and deviation, which needs no
        label: another sensor, sun and season then shift them less.
    """

    name: str
    train: Tile
    validation: Tile
    test: Tile
    where: tuple[slice, slice]
    judged: Masks
    own_scaling: bool = False


def cases(sites: dict[str, ExpertSite]) -> dict[str, tuple[str, list[Case]]]:
    """Return the cases of each setting, and the site that it judges."""
    from scipy import ndimage

    found: dict[str, tuple[str, list[Case]]] = {}
    for own, other in (("peel", "bykovsky"), ("bykovsky", "peel")):
        tile, test = sites[own].tile(soft=True), sites[other].tile()
        codes = splits.block_split(tile.labels, **SITES[own], buffer=BUFFER, shares=(0.7, 0.3, 0))
        rows, columns = test.labels.shape
        case = Case(
            f"{own}-to-{other}",
            splits.view(tile, codes, splits.TRAIN, BUFFER),
            splits.view(tile, codes, splits.VALIDATION, BUFFER),
            test,
            (slice(0, rows), slice(0, columns)),
            np.ones((rows, columns), bool),
        )
        found[f"{own} to {other}"] = other, [case]
        again = replace(case, name=f"{case.name}-own", own_scaling=True)
        found[f"{own} to {other}, bands scaled there"] = other, [again]
    for name, site in sites.items():
        tile = site.tile(soft=True)
        parts = []
        folds = splits.block_folds(tile.labels, folds=FOLDS, **SITES[name], buffer=BUFFER)
        for fold, codes in enumerate(folds):
            seen = splits.visible(codes, splits.TEST, BUFFER)
            (where,) = ndimage.find_objects(seen.astype("uint8"))
            views = [splits.view(tile, codes, part, BUFFER) for part in range(3)]
            parts.append(Case(f"within-{name}-{fold}", *views, where, codes == splits.TEST))
        found[f"within {name}"] = name, parts
    return found


def train_and_map(
    case: Case, labels: str, loss: str, seed: int, epochs: int
) -> tuple[Floats, float]:
    """Train one model; return its map of the test tile and the threshold of the validation."""
    recipe = Recipe(
        architecture="unet", encoder="tu-resnet10t", depth=3, loss=loss, learning_rate=3e-3,
        seed=seed, batch=8, iterations=25, epochs=epochs, patience=50, schedule="cosine",
        weight_decay=0.01, flips=True, jitter=0.2, background_share=0.2, rejected_share=0.0,
    )  # fmt: skip
    train = case.train if labels == "soft" else replace(case.train, soft=None)
    scaling = fit_scaling([train.array], BANDS)
    with reproducible(seed, 1):
        fitted = fit(Chips([train], scaling, CROP), [case.validation], scaling, recipe)
        model = build("unet", "tu-resnet10t", scaling.channels, 3)
        model.load_state_dict(fitted.weights)
        model.eval()
        found, _ = validate(model, scaling, [case.validation])
        every = tuple(range(len(BANDS)))
        shown = fit_scaling([case.test.array], BANDS) if case.own_scaling else scaling
        member = Member("model", model, every, shown.mean, shown.std)
        probability = predict_array([member], case.test.array).probability
    return probability, metrics.best_threshold(found)


def kept(
    folder: Path | None, key: str, make: Callable[[], tuple[Floats, float]]
) -> tuple[Floats, float, float]:
    """Return what was made before under this key, or make it; and the processor seconds it took."""
    path = (
        None if folder is None else folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.npz"
    )
    if path is None or not path.exists():
        begun = time.process_time()
        probability, threshold = make()
        seconds = time.process_time() - begun
        if path is None:
            return probability, threshold, seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream, probability=probability, threshold=threshold, seconds=seconds
            )
    with np.load(path) as stored:
        return stored["probability"], float(stored["threshold"]), float(stored["seconds"])


def baselines(case: Case, seed: int) -> dict[str, tuple[Masks, str]]:
    """Return what the baselines call slump on the test tile, fitted on the majority."""

    def features(tile: Tile) -> Floats:
        return np.concatenate([tile.array, ndvi(tile.array)[None]])

    train, validation, test = (features(t) for t in (case.train, case.validation, case.test))
    if case.own_scaling:
        # The same shift and stretch for the baselines: test bands as the training site's are.
        here, there = fit_scaling([train], NAMES), fit_scaling([test], NAMES)
        scaled, _ = scale(test, there.mean, there.std)
        width, centre = (np.array(v, "float32")[:, None, None] for v in (here.std, here.mean))
        test = scaled * width + centre
    rules = [best_threshold(band, case.train.labels) for band in train]
    best = int(np.argmax([rule.f1 for rule in rules]))
    forest = fit_pixel_forest({"train": (train, case.train.labels)}, seed=seed).with_threshold(
        {"validation": (validation, case.validation.labels)}
    )
    sign = ">=" if rules[best].above else "<="
    vegetation = rules[NAMES.index("NDVI")]
    probability = np.nan_to_num(forest.probability(test), nan=-1)
    return {
        "threshold on one band": (
            rules[best].apply(test[best]), f"{NAMES[best]} {sign} {rules[best].value:.4g}",
        ),
        "threshold on NDVI": (
            vegetation.apply(test[NAMES.index("NDVI")]),
            f"NDVI {'>=' if vegetation.above else '<='} {vegetation.value:.3f}",
        ),
        "forest of pixels": (probability >= forest.threshold, f"p >= {forest.threshold:.3f}"),
    }  # fmt: skip


def pair_counts(first: Masks, second: Masks, blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return shared pixels of every two masks, and the pixels of both, by block.

    Returns
    -------
    ndarray of float64, shape (blocks, 2, n, m)
        Shared pixels; sum of the pixels of the two. F1 is twice the first over the second.
    """
    count = int(blocks.max()) + 1
    out = np.zeros((count, 2, len(first), len(second)))
    for block in range(count):
        inside = blocks == block
        a, b = first[:, inside].astype("float64"), second[:, inside].astype("float64")
        out[block, 0] = a @ b.T
        out[block, 1] = a.sum(axis=1)[:, None] + b.sum(axis=1)[None]
    return out


def drawn_f1(counts: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 of every two masks in every draw of blocks, shape (draws, n, m)."""
    sums = np.tensordot(draws, counts, axes=1)
    with np.errstate(invalid="ignore"):
        return 2 * sums[:, 0] / sums[:, 1]


def draws_of(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each block is drawn; in the first row each is there once."""
    count = int(blocks.max()) + 1
    random = np.random.default_rng(0)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.concatenate([np.ones((1, count), dtype="int64"), drawn])


def ends(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the value of the whole and its 95 % interval; null where not defined."""
    usable = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(usable, [0.025, 0.975]) if usable.size else (np.nan, np.nan)
    numbers = {"value": values[0], "low": low, "high": high}
    return {name: rounded(number) for name, number in numbers.items()}


def rounded(value: float) -> float | None:
    """Return a number for JSON; null where it is not defined."""
    return round(float(value), 4) if np.isfinite(value) else None


def mean_over_pairs(f1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean F1 of all pairs of different experts, in every draw."""
    upper = np.triu_indices(f1.shape[1], 1)
    return mean_of_defined(f1[:, upper[0], upper[1]])


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean along the last axis of what is defined; NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, 0).sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def experts_record(site: ExpertSite) -> dict[str, Any]:
    """Return how far the experts agree with each other."""
    drawn = site.drawn
    blocks = block_ids(drawn.shape[1:], BLOCK)
    pair = agreement.pairwise(drawn)
    upper = np.triu_indices(len(drawn), 1)
    each = agreement.leave_one_out(drawn)
    yes = drawn.sum(axis=0).ravel()
    counts = np.stack([len(drawn) - yes, yes], axis=1)
    f1 = drawn_f1(pair_counts(drawn, drawn, blocks), draws_of(blocks))
    numbers = objects.label_objects(agreement.majority(drawn), smallest=2)
    edges = [
        objects.boundary_scores(
            drawn[i], drawn[j], tolerance=2 * RESOLUTION, resolution=RESOLUTION
        ).f1
        for i, j in zip(*upper, strict=True)
    ]
    return {
        "experts": list(site.experts),
        "pixels_of_each": drawn.sum(axis=(1, 2)).tolist(),
        "pixels_any": int(drawn.any(axis=0).sum()),
        "pixels_majority": int(agreement.majority(drawn).sum()),
        "pixels_all": int(drawn.all(axis=0).sum()),
        "slumps_of_the_majority": int(numbers.max()),
        "pairwise_f1": ends(mean_over_pairs(f1)),
        "pairwise_f1_range": [round(float(v), 4) for v in np.quantile(pair["f1"][upper], [0, 1])],
        "pairwise_f1_median": round(float(np.median(pair["f1"][upper])), 4),
        "pairwise_iou": round(float(np.nanmean(pair["iou"][upper])), 4),
        "pairwise_f1_matrix": np.round(pair["f1"], 3).tolist(),
        "pairwise_edge_f1_20m": round(float(np.nanmean(edges)), 4),
        "one_against_majority_of_others_f1": np.round(each["f1"], 4).tolist(),
        "one_against_majority_of_others_f1_mean": round(float(np.nanmean(each["f1"])), 4),
        "fleiss_kappa": round(agreement.fleiss_kappa(counts), 4),
        "krippendorff_alpha": round(agreement.krippendorff_alpha(counts), 4),
    }


def judge(site: ExpertSite, maps: dict[str, Masks]) -> dict[str, dict[str, Any]]:
    """Return the scores of maps of a site against its experts, over the same draws of blocks."""
    drawn = site.drawn
    blocks = block_ids(drawn.shape[1:], BLOCK)
    draws = draws_of(blocks)
    among = mean_over_pairs(drawn_f1(pair_counts(drawn, drawn, blocks), draws))
    others = np.stack([agreement.majority(np.delete(drawn, i, 0)) for i in range(len(drawn))])
    own = drawn_f1(pair_counts(drawn, others, blocks), draws)
    own_mean = mean_of_defined(np.diagonal(own, axis1=1, axis2=2))
    found = {}
    for name, mapped in maps.items():
        with_each = drawn_f1(pair_counts(mapped[None], drawn, blocks), draws)[:, 0]
        with_others = drawn_f1(pair_counts(mapped[None], others, blocks), draws)[:, 0]
        counts = metrics.block_counts(mapped.astype("float32"), site.labels, 0.5, BLOCK)
        low, high = metrics.bootstrap(counts, resamples=RESAMPLES)
        score = metrics.scores(counts.sum(axis=0))
        found[name] = {
            "against_majority": {
                **{k: rounded(score.as_dict()[k])
                   for k in ("f1", "iou", "precision", "recall", "bias")},
                "f1_low": round(low, 4), "f1_high": round(high, 4),
            },
            "with_each_expert_f1": ends(mean_of_defined(with_each)),
            "with_each_expert_f1_list": np.round(with_each[0], 4).tolist(),
            "minus_experts_among_each_other": ends(mean_of_defined(with_each) - among),
            "with_majority_of_others_minus_expert": ends(mean_of_defined(with_others) - own_mean),
            **objects.outline_record(
                [mapped], [site.labels], resolution=RESOLUTION, block=BLOCK, smallest=2,
                interval=lambda c, f: metrics.bootstrap(c, f, resamples=RESAMPLES),
            ),
        }  # fmt: skip
    return found


def probabilities_record(site: ExpertSite, probability: Floats) -> dict[str, float]:
    """Return how far a probability is from the share of the experts, over all pixels."""
    seen = np.isfinite(probability) & np.isfinite(site.soft)
    difference = probability[seen].astype("float64") - site.soft[seen]
    # Over all experts: the share's own spread is no fault of the model.
    spread = site.soft[seen] * (1 - site.soft[seen].astype("float64"))
    return {
        "squared_error_to_share": round(float((difference**2).mean()), 5),
        "brier_over_experts": round(float((difference**2 + spread).mean()), 5),
        "mean_probability": round(float(probability[seen].mean()), 5),
        "mean_share": round(float(site.soft[seen].mean()), 5),
    }


def picture(
    path: Path, sites: dict[str, ExpertSite], shown: dict[str, tuple[Floats, Masks]], title: str
) -> None:
    """Draw image, share of the experts, probability and errors of each site."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    figure, axes = plt.subplots(len(sites), 4, figsize=(15, 7.6), layout="constrained")
    colours = {"ground": "#f3f1ec", "both": "#3c7d4e", "missed": "#e0a03b", "false": "#b5403a"}
    for row, (name, site) in zip(axes, sites.items(), strict=True):
        picked = np.moveaxis(site.array[[2, 1, 0]], 0, -1)
        low, high = np.nanpercentile(picked, [1, 99], axis=(0, 1))
        row[0].imshow(np.clip((picked - low) / (high - low), 0, 1))
        row[0].set_ylabel(name.capitalize(), fontsize=13)
        probability, mapped = shown[name]
        for axis, values in ((row[1], site.soft), (row[2], probability)):
            image = axis.imshow(values, vmin=0, vmax=1, cmap="magma")
        truth = site.labels == 1
        kind = np.select([mapped & truth, truth, mapped], [1, 2, 3], 0)
        row[3].imshow(kind, cmap=ListedColormap(list(colours.values())), vmin=-0.5, vmax=3.5)
        figure.colorbar(image, ax=row[2], shrink=0.85)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.plot(
                [190, 240], [241, 241], color="white" if axis is not row[3] else "black", lw=3
            )
        row[0].text(215, 235, "500 m", color="white", ha="center", va="bottom")
    for axis, words in zip(
        axes[0],
        ("Sentinel-2, true colour", "share of the experts", "probability, held out",
         "against the majority"),
        strict=True,
    ):  # fmt: skip
        axis.set_title(words)
    figure.legend(
        handles=[Patch(color=c, label=n) for n, c in list(colours.items())[1:]],
        loc="outside lower right", ncols=3, frameon=False,
    )  # fmt: skip
    figure.suptitle(title, fontsize=12)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def stitched(site: ExpertSite, parts: list[Case], values: list[NDArray[Any]], empty: Any) -> Any:
    """Put the held-out parts of the folds together to one map."""
    out = np.full(site.labels.shape, empty, dtype=values[0].dtype)
    for case, value in zip(parts, values, strict=True):
        whole = np.full(out.shape, empty, dtype=out.dtype)
        whole[case.where] = value
        out[case.judged] = whole[case.judged]
    return out


def measure(
    data: Path,
    seeds: list[int],
    epochs: int,
    loss: str = "bce",
    keep: Path | None = None,
    figure: Path | None = None,
    only: str = "",
    say: Callable[[str], None] = lambda words: print(words, flush=True),
) -> dict[str, Any]:
    """Run everything; return the content of the results file."""
    begun = time.monotonic()
    took: list[float] = []
    sites = {name: read_site(data, name) for name in SITES}
    settings = cases(sites)
    results: dict[str, Any] = {}
    shown: dict[str, tuple[Floats, Masks]] = {}
    for setting, (place, parts) in settings.items():
        if only not in setting:
            continue
        site = sites[place]
        maps: dict[str, Masks] = {}
        facts: dict[str, Any] = {
            "kept_for_training": [
                round(float((c.train.labels != 255).sum() / c.judged.size), 3) for c in parts
            ],
            "slump_pixels": [
                [int((t.labels == 1).sum()) for t in (c.train, c.validation, c.test)] for c in parts
            ],
        }
        rules: dict[str, list[str]] = {}
        called: dict[str, list[Masks]] = {}
        for case in parts:
            for name, (mask, words) in baselines(case, 0).items():
                called.setdefault(name, []).append(mask)
                rules.setdefault(name, []).append(words)
        facts["baselines"] = rules
        maps |= {name: stitched(site, parts, masks, False) for name, masks in called.items()}
        for labels in LABELS:
            means: list[list[Floats]] = [[] for _ in parts]
            cuts: list[list[float]] = [[] for _ in parts]
            for seed in seeds:
                single = []
                for i, case in enumerate(parts):
                    key = json.dumps([case.name, labels, loss, seed, epochs, CROP, BUFFER, SITES])
                    probability, threshold, seconds = kept(
                        keep, key,
                        lambda c=case, s=seed, l=labels: train_and_map(c, l, loss, s, epochs),
                    )  # fmt: skip
                    took.append(seconds)
                    means[i].append(probability)
                    cuts[i].append(threshold)
                    single.append(np.nan_to_num(probability, nan=-1) >= threshold)
                    say(
                        f"{time.monotonic() - begun:6.0f} s  {case.name} {labels} seed {seed}: "
                        f"threshold {threshold}"
                    )
                maps[f"{labels}, seed {seed}"] = stitched(site, parts, single, False)
            together = [np.mean(each, axis=0, dtype="float64").astype("float32") for each in means]
            cut = [float(np.mean(each)) for each in cuts]
            facts[f"thresholds, {labels}"] = [round(value, 4) for value in cut]
            maps[f"{labels}, mean of the seeds"] = stitched(
                site, parts,
                [np.nan_to_num(p, nan=-1) >= c for p, c in zip(together, cut, strict=True)], False,
            )  # fmt: skip
            probability = stitched(site, parts, together, np.float32(np.nan))
            facts[f"probabilities, {labels}"] = probabilities_record(site, probability)
            if setting.startswith("within") and labels == "soft":
                shown[place] = probability, maps[f"{labels}, mean of the seeds"]
        scored = judge(site, maps)
        both = [
            metrics.block_counts(
                maps[f"{labels}, mean of the seeds"].astype("float32"), site.labels, 0.5, BLOCK
            )
            for labels in ("soft", "majority")
        ]
        paired = metrics.bootstrap_difference(*both, resamples=RESAMPLES)
        facts["soft_minus_majority_f1"] = dict(
            zip(("value", "low", "high"), map(rounded, paired), strict=True)
        )
        for labels in LABELS:
            each = [scored[f"{labels}, seed {seed}"] for seed in seeds]
            f1 = [s["against_majority"]["f1"] for s in each]
            facts[f"f1_of_seeds, {labels}"] = {
                "mean": round(float(np.mean(f1)), 4),
                "sd": round(float(np.std(f1, ddof=1)), 4) if len(f1) > 1 else None,
                "with_each_expert": round(
                    float(np.mean([s["with_each_expert_f1"]["value"] for s in each])), 4
                ),
            }
        for name in scored:
            if "seed " in name:  # in the file, single seeds are there for their spread only
                few = ("against_majority", "with_each_expert_f1")
                scored[name] = {key: scored[name][key] for key in few}
        results[setting] = {"site": place, **facts, "maps": scored}
    if figure is not None and set(shown) == set(sites):
        picture(
            figure, sites, shown,
            "Held-out maps of folds by blocks, trained on the share of the experts",
        )  # fmt: skip
    return {
        "data": "Bykovsky and Peel, Nitze et al. 2024 (doi 10.1002/ppp.2249), MIT",
        "made_up": False,
        "change_bands": "none: one Sentinel-2 date a site",
        "bands": list(BANDS),
        "model": f"unet on tu-resnet10t, depth 3; {loss}; {epochs} epochs of 25 x 8 crops",
        "crop_pixels": CROP,
        "seeds": seeds,
        "buffer_pixels": BUFFER,
        "blocks_pixels": SITES,
        "block_of_intervals_pixels": BLOCK,
        "resamples": RESAMPLES,
        "experts": {name: experts_record(site) for name, site in sites.items()},
        "settings": results,
        "training_cpu_seconds": round(sum(took), 1),
        "runs": len(took),
    }


def show(found: dict[str, Any]) -> str:
    """Return the results as lines."""
    lines = []
    for name, each in found["experts"].items():
        pair = each["pairwise_f1"]
        lines.append(
            f"{name}: {len(each['experts'])} experts, every two F1 {pair['value']:.3f} "
            f"[{pair['low']:.3f}, {pair['high']:.3f}], one against the majority of the others "
            f"{each['one_against_majority_of_others_f1_mean']:.3f}, "
            f"kappa {each['fleiss_kappa']:.3f}, {each['slumps_of_the_majority']} slumps"
        )
    for setting, each in found["settings"].items():
        lines.append(f"{setting}")
        lines.append(f"  {'':28}majority F1            each expert            minus experts"
                     "           objects  edge F1")  # fmt: skip
        for name, scores in each["maps"].items():
            if "seed " in name:
                continue
            m, e = scores["against_majority"], scores["with_each_expert_f1"]
            d, o, b = (
                scores["minus_experts_among_each_other"], scores["objects"], scores["boundary"],
            )  # fmt: skip
            edge = "-" if b["f1"] is None else f"{b['f1']:.2f}"
            lines.append(
                f"  {name:28}{m['f1'] or 0:.3f} [{m['f1_low']:.3f}, {m['f1_high']:.3f}]   "
                f"{e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]   "
                f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]   "
                f"{o['matched']} of {o['slumps']} ({o['mapped']} mapped)  {edge}"
            )
        gain = each["soft_minus_majority_f1"]
        lines.append(
            f"  soft minus majority, F1: {gain['value']:+.3f} [{gain['low']:+.3f}, "
            f"{gain['high']:+.3f}]"
        )
        for labels in LABELS:
            seeds, said = each[f"f1_of_seeds, {labels}"], each[f"probabilities, {labels}"]
            spread = "" if seeds["sd"] is None else f" (sd {seeds['sd']:.3f})"
            lines.append(
                f"  trained on {labels}: majority F1 of one seed {seeds['mean']:.3f}{spread}, "
                f"squared error to the share {said['squared_error_to_share']:.4f}"
            )
    lines.append(
        f"{found['runs']} runs, {found['training_cpu_seconds']} s of one processor to train them"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    default = Path(os.environ.get("THAWSLUMP_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default / "rts_expert_labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--loss", default="bce", choices=("bce", "dice", "jaccard"))
    parser.add_argument("--keep", type=Path, help="folder for what runs mapped; none is kept else")
    parser.add_argument("--only", default="", help="settings with this in their name; none written")
    parser.add_argument("--figure", type=Path, help="PNG to draw the maps to")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"no real data: {arguments.data} does not exist (set THAWSLUMP_DATA)")
        return 2
    found = measure(
        arguments.data, arguments.seeds, arguments.epochs, arguments.loss, arguments.keep,
        arguments.figure, arguments.only,
    )  # fmt: skip
    print(show(found))
    if arguments.only:
        return 0
    write_json(ROOT / "benchmarks" / "results" / "real_slumps.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
