"""The work behind the step `susceptibility`: samples, scores, models, maps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump import raster
from thawslump.errors import DataError
from thawslump.files import write_json
from thawslump.mosaic import of_maps, write_vrt
from trainer.susceptibility import mapping, models, samples, validation
from trainer.susceptibility.config import SusceptibilityConfig

if TYPE_CHECKING:
    from pathlib import Path

    from rasterio.windows import Window

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["Samples", "collect", "run"]

NOT_SETTINGS = ("learn", "test", "map", "made_up")
LABEL_RULE = (
    "a 30 m cell stands for a slump where at least half of its label pixels are slump; "
    "a slump too small for that keeps the one cell it covers most"
)


@dataclass(frozen=True)
class Samples:
    """Samples of several sites.

    Attributes
    ----------
    features : ndarray of float32, shape (n, features)
    labels : ndarray of uint8, shape (n,)
        1 slump, 0 not.
    places : ndarray of float64, shape (n, 2)
        Metres east and north of the upper left corner of the sample's site. Of a slump's cells
        it is the centre of the slump, so that they stay in one block.
    sites : ndarray of int64, shape (n,)
        Number of the sample's site.
    slumps : int
        Slumps that the positives stand for.
    classes : dict of factor to tuple of int
        Of the factors that hold classes.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.uint8]
    places: NDArray[np.float64]
    sites: NDArray[np.int64]
    slumps: int
    classes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def blocks(self, size: float) -> NDArray[np.int64]:
        """Return the spatial block of each sample; sites share none, wherever they lie."""
        inside = samples.block_ids(self.places[:, 0], self.places[:, 1], (0.0, 0.0), size)
        return inside + self.sites * 10**15

    def widest_blocks(self, size: float) -> float:
        """Return the block size, halved until at least two blocks hold slumps."""
        for _ in range(6):
            if np.unique(self.blocks(size)[self.labels == 1]).size >= 2:
                break
            size /= 2
        return size


def _factors(
    path: Path, names: tuple[str, ...], window: Window | None = None
) -> tuple[NDArray[np.float32], Any]:
    read = raster.read_float(path, names, window)
    return np.asarray(read.array, np.float32), read.grid


def _named(names: tuple[str, ...], factors: NDArray[np.float32]) -> dict[str, Any]:
    """Return the factors of an array (factor, ...) by name."""
    return dict(zip(names, factors, strict=True))


def collect(
    sites: list[tuple[Path, Path]],
    config: SusceptibilityConfig,
    classes: dict[str, tuple[int, ...]] | None = None,
) -> Samples:
    """Draw the samples from pairs of (factors.tif, labels.tif).

    Parameters
    ----------
    sites : list of (Path, Path)
        In an order that does not change from run to run.
    config : SusceptibilityConfig
    classes : dict, optional
        Of the factors that hold classes; those of the samples drawn, where not given.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        The rasters do not lie on each other, or there is no slump, or no place without one.
    """
    rng = np.random.default_rng(config.seed)
    features: list[NDArray[np.float32]] = []
    places: list[NDArray[np.float64]] = []
    sites_of: list[NDArray[np.int64]] = []
    candidates: list[tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]] = []
    slumps_seen = 0
    for number, (factors_path, labels_path) in enumerate(sites):
        factors, grid = _factors(factors_path, config.factors)
        labels = raster.read(labels_path)
        if labels.grid.crs != grid.crs:
            raise DataError(
                f"{labels_path} is in {labels.grid.crs}, {factors_path} in {grid.crs}; "
                "one coordinate system was expected.",
                hint="Run the labels step again.",
            )
        marks = labels.array[0].astype(np.uint8)
        shape, cell_affine = (int(grid.shape[0]), int(grid.shape[1])), grid.affine
        counts = samples.count_labels(marks, labels.grid.affine, shape, cell_affine)
        if not (counts.slump.any() or counts.clear.any()) and (marks != 255).any():
            raise DataError(
                f"{labels_path} and {factors_path} do not overlap.",
                hint="Export the site again; both must cover the same ground.",
            )
        usable = ~np.isnan(factors).all(axis=0).ravel()
        columns = factors.reshape(len(factors), -1).T
        corner = np.array([cell_affine.c, cell_affine.f])

        cells, slumps, centres = samples.slump_cells(marks, labels.grid.affine, shape, cell_affine)
        kept = usable[cells]
        cells, slumps = cells[kept], slumps[kept]
        chosen = samples.draw_positives(cells, slumps, config.cells_per_slump, rng)
        slumps_seen += int(np.unique(slumps).size)
        features.append(columns[cells[chosen]])
        places.append(centres[slumps[chosen]] - corner)
        sites_of.append(np.full(chosen.size, number, np.int64))

        free = samples.negative_candidates(counts, cell_affine, config.buffer)
        free = free[usable[free]]
        row, column = np.divmod(free, shape[1])
        steps = np.array([cell_affine.a, cell_affine.e])
        away = np.stack([column + 0.5, row + 0.5], axis=1) * steps
        candidates.append((columns[free], away, np.full(free.size, number, np.int64)))

    positive = np.concatenate(features)
    if len(positive) < 2:
        raise DataError(
            f"The labels of {len(sites)} sites hold {slumps_seen} slumps; "
            "susceptibility needs at least 2 cells with a slump.",
            hint="Import outlines, or accept candidates in the review.",
        )
    free_features, free_places, free_sites = (
        np.concatenate(parts) for parts in zip(*candidates, strict=True)
    )
    wanted = int(np.ceil(len(positive) * config.negatives_per_positive))
    if len(free_features) == 0:
        raise DataError(
            f"No cell without a slump was looked at beyond {config.buffer:g} m of every slump.",
            hint="Make buffer smaller, or add sites that were looked at as a whole.",
        )
    drawn = np.sort(rng.choice(len(free_features), min(wanted, len(free_features)), replace=False))
    values = _named(config.factors, np.concatenate([positive, free_features[drawn]]).T)
    if classes is None:
        classes = models.classes_of(values)
    return Samples(
        features=models.design(values, classes),
        labels=np.r_[np.ones(len(positive), np.uint8), np.zeros(len(drawn), np.uint8)],
        places=np.concatenate([*places, free_places[drawn]]),
        sites=np.concatenate([*sites_of, free_sites[drawn]]),
        slumps=slumps_seen,
        classes=classes,
    )


def score(
    drawn: Samples, config: SusceptibilityConfig
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Return the scores of every model, random folds beside spatial ones.

    Returns
    -------
    scores : dict of model name to dict
        gap_random_minus_spatial, auc_spatial and auc_random, each with a 95 % interval over
        blocks; the area of each spatial fold; the area without each factor.
    out_of_fold : dict of model name to ndarray
        Probability of each sample over the spatial folds.
    """
    by_chance = validation.random_folds(len(drawn.labels), config.folds, config.seed)
    blocks = drawn.blocks(drawn.widest_blocks(config.block_size))
    by_place = validation.spatial_folds(blocks, drawn.labels, config.folds)
    held: dict[str, NDArray[np.float64]] = {}
    for name in config.models:
        model = models.build(name, trees=config.trees, depth=config.depth, seed=config.seed)
        for kind, folds in (("random", by_chance), ("spatial", by_place)):
            held[f"{name} {kind}"] = validation.out_of_fold(
                model, drawn.features, drawn.labels, folds
            )
    areas, differences = validation.paired_auc(
        drawn.labels, held, blocks, config.resamples, config.seed
    )
    scores: dict[str, Any] = {}
    for name in config.models:
        scores[name] = {
            **_told("gap_random_minus_spatial", differences[f"{name} random", f"{name} spatial"]),
            **_told("auc_spatial", areas[f"{name} spatial"]),
            **_told("auc_random", areas[f"{name} random"]),
            "auc_spatial_folds": [
                _finite(validation.auc(drawn.labels[test], held[f"{name} spatial"][test]))
                for _, test in by_place
            ],
        }
    for left_out, areas_without in _without_each(drawn, config, by_place).items():
        for model_name, value in areas_without.items():
            scores[model_name].setdefault("auc_spatial_without", {})[left_out] = _finite(value)
    return scores, {name: held[f"{name} spatial"] for name in config.models}


def _without_each(
    drawn: Samples, config: SusceptibilityConfig, folds: validation.Folds
) -> dict[str, dict[str, float]]:
    """Return the AUC over spatial folds with each factor left out: what hangs on it alone.

    A factor that slumps themselves change (NDVI) may owe its worth to slumps that were there
    already; without it the score says what the terrain knows.
    """
    if len(config.factors) < 2:
        return {}
    columns = models.feature_names(config.factors, drawn.classes)
    found: dict[str, dict[str, float]] = {}
    for factor in config.factors:
        gone = models.feature_names([factor], drawn.classes)
        kept = [index for index, column in enumerate(columns) if column not in gone]
        found[factor] = {}
        for name in config.models:
            model = models.build(name, trees=config.trees, depth=config.depth, seed=config.seed)
            held = validation.out_of_fold(model, drawn.features[:, kept], drawn.labels, folds)
            found[factor][name] = validation.auc(drawn.labels, held)
    return found


def _told(name: str, found: validation.Interval) -> dict[str, Any]:
    return {
        name: _finite(found.value),
        f"{name}_interval": [_finite(found.low), _finite(found.high)],
    }


def _finite(value: float) -> float | None:
    # JSON has no NaN; a fold without a slump has no area under the curve.
    return value if np.isfinite(value) else None


def _score_elsewhere(
    sites: list[tuple[Path, Path]],
    config: SusceptibilityConfig,
    fitted: dict[str, Any],
    scores: dict[str, Any],
    classes: dict[str, tuple[int, ...]],
) -> None:
    """Add the scores on held-out sites, whose cells no model was fitted or chosen on."""
    try:
        drawn = collect(sites, config, classes)
    except DataError:
        # A held-out site without slumps says nothing; the folds stand by themselves.
        return
    held = {
        name: np.asarray(model.predict_proba(drawn.features)[:, 1], np.float64)
        for name, model in fitted.items()
    }
    blocks = drawn.blocks(drawn.widest_blocks(config.block_size))
    areas, _ = validation.paired_auc(drawn.labels, held, blocks, config.resamples, config.seed)
    for name in fitted:
        scores[name] |= _told("auc_test", areas[name])
        scores[name]["n_test"] = [int((drawn.labels == 1).sum()), int((drawn.labels == 0).sum())]


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Fit the models, score them, and draw the maps of every site."""
    settings = dict(item.settings)
    config = SusceptibilityConfig.model_validate(
        {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    )
    learn, sites = list(settings["learn"]), list(settings["map"])
    folder = workspace.round(item.round)

    progress(0.0, "drawing samples")
    drawn = collect(
        [(workspace.factors(name), workspace.labels(item.round, name)) for name in learn], config
    )
    progress(0.05, "scoring over random and spatial folds")
    scores, out_of_fold = score(drawn, config)
    order = sorted(config.models, key=lambda name: -scores[name]["auc_spatial"])
    chosen = order[0] if config.map_model == "best" else config.map_model
    if chosen not in config.models:
        raise DataError(
            f'map_model is "{chosen}", which is not among the models ({", ".join(config.models)}).',
            hint="Add it to susceptibility.models, or set map_model: best.",
        )

    progress(0.3, "fitting on all samples")
    names = models.feature_names(config.factors, drawn.classes)
    (folder / "susceptibility").mkdir(parents=True, exist_ok=True)
    fitted: dict[str, Any] = {}
    for name in config.models:
        fitted[name] = models.build(
            name, trees=config.trees, depth=config.depth, seed=config.seed
        ).fit(drawn.features, drawn.labels)
        if name == "logistic":
            models.write_logistic(folder / "susceptibility" / "logistic.json", fitted[name], names)
        else:
            models.save_forest(folder / "susceptibility" / "forest.skops", fitted[name])

    if settings["test"]:
        _score_elsewhere(
            [
                (workspace.factors(name), workspace.labels(item.round, name))
                for name in settings["test"]
            ],
            config,
            fitted,
            scores,
            drawn.classes,
        )

    scratch = mapping.clear_folder(workspace.maps(item.round) / ".susceptibility-scratch")
    histogram = np.zeros(mapping.LEVELS + 1, np.int64)
    filled: dict[str, int] = {}
    strange: dict[str, dict[str, int]] = {}
    for number, name in enumerate(sites):
        grid = raster.grid_of(workspace.factors(name))
        profile = {
            "crs": grid.crs.to_wkt(),
            "transform": grid.affine,
            "height": int(grid.shape[0]),
            "width": int(grid.shape[1]),
        }

        def step(share: float, name: str = name, number: int = number) -> None:
            progress(0.35 + 0.5 * (number + share) / len(sites), f"mapping {name}")

        seen = strange.setdefault(name, {})

        def features(
            factors: NDArray[np.float32], seen: dict[str, int] = seen
        ) -> NDArray[np.float32]:
            values = _named(config.factors, factors)
            for factor, count in models.unseen(values, drawn.classes).items():
                if count:
                    seen[factor] = seen.get(factor, 0) + count
            return models.design(values, drawn.classes)

        counted, filled[name] = mapping.draw_probability(
            scratch / f"{name}.tif",
            profile,
            lambda window, name=name: _factors(  # type: ignore[misc]
                workspace.factors(name), config.factors, window
            )[0],
            fitted[chosen],
            features,
            step,
        )
        histogram += counted

    progress(0.85, "natural breaks")
    # Five of the stored steps to a bin: 2,001 bins, exact to 0.0005.
    coarse = np.add.reduceat(histogram, np.arange(0, mapping.LEVELS + 1, 5)).astype(np.float64)
    tops = np.minimum(np.arange(coarse.size) * 5 + 4, mapping.LEVELS) / mapping.LEVELS
    breaks = mapping.natural_breaks(tops, coarse, config.classes)

    made_up = bool(settings["made_up"])
    block_size = drawn.widest_blocks(config.block_size)
    cells: dict[str, list[int]] = {}
    for name in sites:
        counts = mapping.write_map(
            scratch / f"{name}.tif",
            workspace.maps(item.round) / f"susceptibility-{name}.tif",
            breaks.upper,
            {
                "model": chosen,
                "classes": f"1 lowest to {len(breaks.upper)} highest, by natural breaks",
                "made_up": str(made_up).lower(),
            },
        )
        cells[name] = counts.tolist()
    shutil.rmtree(scratch, ignore_errors=True)
    large = of_maps(workspace, item.round, sites, "susceptibility-", coarse=True)
    for path, (files, grid) in large.items():
        write_vrt(path, files, grid)

    area = np.sum(list(cells.values()), axis=0)
    found = mapping.classify(out_of_fold[chosen][drawn.labels == 1], breaks.upper)
    among = np.bincount(found - 1, minlength=len(breaks.upper))
    best = scores[chosen]
    write_json(
        folder / "susceptibility.json",
        {
            "made_up": made_up,
            "models": scores,
            "map_model": chosen,
            "features": list(names),
            "factor_classes": {name: list(found) for name, found in drawn.classes.items()},
            "aspect": "as sine (east positive) and cosine (north positive)",
            "label_rule": LABEL_RULE,
            "interval": f"95 %, {config.resamples} bootstrap draws of whole blocks",
            "n_positive": int((drawn.labels == 1).sum()),
            "n_negative": int((drawn.labels == 0).sum()),
            "n_slumps": drawn.slumps,
            "n_blocks": int(np.unique(drawn.blocks(block_size)).size),
            "block_size_m": block_size,
            "block_size_asked_m": config.block_size,
            "buffer_m": config.buffer,
            "sites_learned_from": learn,
            "sites_held_out": list(settings["test"]),
            "classes": {
                "upper_probability": list(breaks.upper),
                "goodness_of_variance_fit": breaks.fit,
                "share_of_area": (area / max(1, area.sum())).tolist(),
                "share_of_slump_cells_out_of_fold": (among / max(1, among.sum())).tolist(),
                "cells_by_site": cells,
            },
            "cells_with_filled_factors": filled,
            "cells_with_unseen_classes": {name: each for name, each in strange.items() if each},
        },
    )
    progress(1.0, "done")
    return {
        "map_model": chosen,
        "auc_spatial": round(best["auc_spatial"], 4),
        "auc_random": round(best["auc_random"], 4),
        "positives": int((drawn.labels == 1).sum()),
        "negatives": int((drawn.labels == 0).sum()),
        "sites": len(sites),
    }
