"""The steps of susceptibility in the pipeline (loads without numpy, torch or rasterio).

samples -> select -> fit (an item per model) -> compare -> map (an item per site and model, or per
part of a large one) -> join (of the parts) -> susceptibility (classes, shares, summary).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.susceptibility.files import Files

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace
    from trainer.susceptibility.config import SusceptibilityConfig

__all__ = [
    "Sites",
    "plan_compare",
    "plan_fit",
    "plan_join",
    "plan_map",
    "plan_samples",
    "plan_select",
    "plan_susceptibility",
]

_SAMPLES = (
    "factors", "positives", "cells_per_slump", "negatives", "negatives_per_positive", "buffer",
    "nodata_check", "seed",
)  # fmt: skip
_SELECT = ("vif", "pearson", "chimerge", "chimerge_intervals", "chimerge_alpha")
_FOLDS = ("validation", "block_size", "block_shape", "folds", "repetitions", "fold_buffer", "seed")
_COMPARE = ("models", "map_model", "resamples", "importance", "applicability")
_MAP = ("applicability", "device", "chimerge_intervals", "chimerge_alpha")
_CLASSES = ("classes", "deformation", "resamples", "seed", "chimerge_intervals", "chimerge_alpha")
_FIGURES = ("maps", "class_shares", "map_parts", "frequency_ratios")
# What each model depends on beyond samples, folds and selection.
_OF_MODEL = {
    "forest": ("trees", "depth"),
    "bagging": ("trees", "depth", "bagged", "device"),
    "stacking": ("trees", "depth", "bagged", "bases", "upper", "device"),
    "blending": ("trees", "depth", "bagged", "bases", "upper", "device"),
    **dict.fromkeys(("svr", "svc", "mlp", "cnn", "cnn_small"), ("device",)),
}


# Seconds that one fit to some 500 samples takes on one core, roughly.
_SECONDS = {
    "logistic": 0.1, "forest": 0.5, "forest_small": 0.2, "boosting": 1.0, "svr": 0.1, "svc": 0.2,
    "mlp": 3.5, "cnn": 4.5, "cnn_small": 9.0, "bagging": 0.8, "spatial_average": 2.0,
}  # fmt: skip


@dataclass(frozen=True)
class Sites:
    """Which sites take part in what.

    Attributes
    ----------
    learn, test, map : tuple of str
        With labels of this round, but role "test"; of role "test"; with factors.
    made_up : bool
    """

    learn: tuple[str, ...]
    test: tuple[str, ...]
    map: tuple[str, ...]
    made_up: bool

    @classmethod
    def of(cls, workspace: Workspace, round: int) -> Sites:
        """Return the sites of a round."""
        mapped = [name for name in sorted(workspace.sites) if workspace.factors(name).exists()]
        labelled = [name for name in mapped if workspace.labels(round, name).exists()]
        tested = [name for name in labelled if workspace.sites[name].role == "test"]
        return cls(
            learn=tuple(name for name in labelled if name not in tested),
            test=tuple(tested),
            map=tuple(mapped),
            made_up=any(workspace.sites[name].made_up for name in mapped),
        )


def _config(workspace: Workspace) -> SusceptibilityConfig:
    config: SusceptibilityConfig = workspace.config.susceptibility
    return config


def _some(config: SusceptibilityConfig, names: tuple[str, ...]) -> dict[str, Any]:
    return config.model_dump(mode="json", include=set(names))


def plan_samples(workspace: Workspace, round: int) -> list[Item]:
    """Return the item that draws the samples; none where no site with factors has labels."""
    from thawslump.pipeline import Item

    sites, files = Sites.of(workspace, round), Files(workspace, round)
    if not sites.learn:
        return []
    config, own = _config(workspace), (*sites.learn, *sites.test)
    # All bands that every site has: which these are depends on sites that are only mapped, too.
    more = [] if config.factors else [name for name in sites.map if name not in own]
    return [
        Item(
            step="susceptibility-samples",
            name="samples",
            target="trainer.susceptibility.steps.samples:run",
            settings={
                **_some(config, _SAMPLES),
                "learn": list(sites.learn),
                "test": list(sites.test),
                "map": list(sites.map),
                "made_up": sites.made_up,
            },
            inputs=(
                *(
                    path
                    for name in own
                    for path in (workspace.factors(name), workspace.labels(round, name))
                ),
                # Not map(): once imported, the module steps.map goes by that name here.
                *(workspace.factors(name) for name in more),
            ),
            outputs=(files.samples, *([files.test_samples] if sites.test else [])),
            version=2,
            round=round,
            cost=2.0 * len(sites.learn),
        )
    ]


def plan_select(workspace: Workspace, round: int) -> list[Item]:
    """Return the item that looks at the factors: collinearity, gain, what is kept."""
    from thawslump.pipeline import Item

    sites, files = Sites.of(workspace, round), Files(workspace, round)
    if not sites.learn:
        return []
    return [
        Item(
            step="susceptibility-select",
            name="factors",
            target="trainer.susceptibility.steps.select:run",
            settings={**_some(_config(workspace), _SELECT), "made_up": sites.made_up},
            inputs=(files.samples,),
            outputs=(files.selection, files.figure("selection")),
            round=round,
            cost=2.0,
        )
    ]


def _places(sites: Sites, config: SusceptibilityConfig) -> list[str]:
    """Return the sites whose maps the folds are matched to; none where none are."""
    return list(sites.map) if "nearest" in config.validation else []


def _fit_cost(name: str, config: SusceptibilityConfig) -> float:
    """Return the seconds that a model takes over all folds, roughly."""
    fits = len(config.validation) * config.repetitions * config.folds + 1
    below = sum(_SECONDS.get(base, 1.0) for base in config.bases)
    # Stacking fits its bases over five folds of its own and then to all.
    each = {"stacking": 6 * below, "blending": below}.get(name, _SECONDS.get(name, 1.0))
    return 2.0 + fits * each


def plan_fit(workspace: Workspace, round: int) -> list[Item]:
    """Return an item per model: held-out probabilities over all folds, then the fitted model."""
    from thawslump.pipeline import Item

    sites, files, config = Sites.of(workspace, round), Files(workspace, round), _config(workspace)
    if not sites.learn:
        return []
    items = [
        Item(
            step="susceptibility-fit",
            name=name,
            target="trainer.susceptibility.steps.fit:run",
            settings={
                **_some(config, (*_FOLDS, *_SELECT, "importance", *_OF_MODEL.get(name, ()))),
                "model": name,
                "map": _places(sites, config),
            },
            inputs=(
                files.samples,
                *([files.test_samples] if sites.test else []),
                *(workspace.factors(name) for name in _places(sites, config)),
            ),
            outputs=(files.model(name), files.held(name)),
            version=2,
            round=round,
            cost=_fit_cost(name, config),
        )
        for name in config.models
    ]
    # The longest first: they would otherwise end alone.
    return sorted(items, key=lambda item: -item.cost)


def plan_compare(workspace: Workspace, round: int) -> list[Item]:
    """Return the item that sets the models side by side and chooses the one for the map."""
    from thawslump.pipeline import Item

    sites, files, config = Sites.of(workspace, round), Files(workspace, round), _config(workspace)
    if not sites.learn:
        return []
    return [
        Item(
            step="susceptibility-compare",
            name="models",
            target="trainer.susceptibility.steps.compare:run",
            settings={
                **_some(config, (*_FOLDS, *_SELECT, *_COMPARE)),
                "test": list(sites.test),
                "map": _places(sites, config),
                "made_up": sites.made_up,
            },
            inputs=(
                files.samples,
                *(workspace.factors(name) for name in _places(sites, config)),
                *([files.test_samples] if sites.test else []),
                *(path for name in config.models for path in (files.model(name), files.held(name))),
            ),
            outputs=(
                files.comparison,
                files.table,
                *([files.applicability] if config.applicability else []),
                files.figure("scores"),
                files.figure("roc"),
                files.figure("calibration"),
                *([files.figure("importance")] if config.importance else []),
            ),
            version=2,
            round=round,
            cost=5.0,
        )
    ]


def chosen_model(files: Files) -> str | None:
    """Return the model that draws the map; None while the models are not compared."""
    if not files.comparison.exists():
        return None
    return str(json.loads(files.comparison.read_text(encoding="utf-8"))["map_model"])


def _drawn(files: Files, config: SusceptibilityConfig) -> list[str | None]:
    """Return the models whose maps are drawn; None stands for the chosen one."""
    chosen = chosen_model(files)
    others = [name for name in config.models if name != chosen] if config.side_by_side else []
    return [None, *others]


def _parts(
    workspace: Workspace, site: str, config: SusceptibilityConfig
) -> dict[str, tuple[int, int, int, int]]:
    """Return the parts of a site's map; one or none where it is drawn at once."""
    from thawslump.raster import open_raster
    from trainer.susceptibility.mapping import parts

    with open_raster(workspace.factors(site)) as source:
        return parts(source.height, source.width, config.map_part)


def plan_map(workspace: Workspace, round: int) -> list[Item]:
    """Return an item per site and drawn model: the maps of probability, large ones in parts."""
    from thawslump.pipeline import Item

    sites, files, config = Sites.of(workspace, round), Files(workspace, round), _config(workspace)
    chosen = chosen_model(files)
    if not sites.learn or chosen is None:
        return []
    items = []
    for model in _drawn(files, config):
        for name in sites.map:
            labelled = name in (*sites.learn, *sites.test)
            of = name if model is None else f"{name} by {model}"
            parts = _parts(workspace, name, config)
            drawn = parts if len(parts) > 1 else {None: None}
            for part, window in drawn.items():
                target, tally = files.probability(name, model), files.tally(name, model)
                if part is not None:
                    target = files.part(name, model, part)
                    tally = target.with_suffix(".safetensors")
                items.append(
                    Item(
                        step="susceptibility-map",
                        name=of if part is None else f"{of} {part}",
                        target="trainer.susceptibility.steps.map:run",
                        settings={
                            **_some(config, _MAP),
                            "site": name,
                            "model": chosen if model is None else model,
                            "beside": model is not None,
                            "labelled": labelled,
                            "part": None
                            if window is None
                            else {"name": part, "window": list(window)},
                            "made_up": bool(workspace.sites[name].made_up),
                        },
                        inputs=(
                            workspace.factors(name),
                            files.samples,
                            files.model(chosen if model is None else model),
                            *([files.applicability] if config.applicability else []),
                            *([workspace.labels(round, name)] if labelled else []),
                        ),
                        outputs=(target, tally),
                        version=2,
                        round=round,
                        cost=10.0,
                    )
                )
    return items


def plan_join(workspace: Workspace, round: int) -> list[Item]:
    """Return an item per map that was drawn in parts."""
    from thawslump.pipeline import Item

    sites, files, config = Sites.of(workspace, round), Files(workspace, round), _config(workspace)
    if not sites.learn or chosen_model(files) is None:
        return []
    items = []
    for model in _drawn(files, config):
        for name in sites.map:
            parts = list(_parts(workspace, name, config))
            if len(parts) < 2:
                continue
            drawn = [files.part(name, model, part) for part in parts]
            items.append(
                Item(
                    step="susceptibility-join",
                    name=name if model is None else f"{name} by {model}",
                    target="trainer.susceptibility.steps.map:join",
                    settings={"site": name, "beside": model, "parts": parts},
                    inputs=(*drawn, *(part.with_suffix(".safetensors") for part in drawn)),
                    outputs=(files.probability(name, model), files.tally(name, model)),
                    round=round,
                    cost=2.0,
                )
            )
    return items


def plan_susceptibility(workspace: Workspace, round: int) -> list[Item]:
    """Return the item that classes all maps together and writes the summary."""
    from thawslump.mosaic import of_maps
    from thawslump.pipeline import Item

    sites, files, config = Sites.of(workspace, round), Files(workspace, round), _config(workspace)
    if not sites.learn or chosen_model(files) is None:
        return []
    drawn = _drawn(files, config)
    deformation = [] if config.deformation is None else [workspace.root / config.deformation]
    return [
        Item(
            step="susceptibility",
            name="maps",
            target="trainer.susceptibility.steps.classes:run",
            settings={
                **_some(config, _CLASSES),
                "learn": list(sites.learn),
                "test": list(sites.test),
                "map": list(sites.map),
                "beside": [model for model in drawn if model is not None],
                "made_up": sites.made_up,
            },
            inputs=tuple(
                [files.samples, files.selection, files.comparison, *deformation]
                + [workspace.factors(name) for name in sites.map]
                + [workspace.labels(round, name) for name in (*sites.learn, *sites.test)]
                + [
                    path
                    for model in drawn
                    for name in sites.map
                    for path in (files.probability(name, model), files.tally(name, model))
                ]
                + [files.held(model) for model in config.models]
            ),
            outputs=tuple(
                [files.summary, files.ratios]
                + [files.figure(name) for name in _FIGURES]
                + ([files.figure("deformation")] if config.deformation is not None else [])
                + [files.classes(name) for name in sites.map]
                + [files.models_spread(name) for name in sites.map if len(drawn) > 1]
                + list(of_maps(workspace, round, sites.map, "susceptibility-", coarse=True))
                + list(of_maps(workspace, round, sites.map, "classes-", coarse=True))
            ),
            version=4,
            round=round,
            cost=5.0 * len(sites.map),
        )
    ]
