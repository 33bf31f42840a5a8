"""Step `susceptibility-map`: one model over one site, by windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump import raster
from thawslump.files import write_json
from trainer.susceptibility import mapping, models, table
from trainer.susceptibility.applicability import Applicability
from trainer.susceptibility.files import Files
from trainer.susceptibility.persistence import load_model

if TYPE_CHECKING:
    from rasterio.windows import Window

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["run", "sayer"]


def sayer(
    model: Any, known: Applicability | None
) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], ...]]:
    """Return what `mapping.draw` asks for each cell: probability, disagreement, outside."""

    def say(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
        probability = np.asarray(model.predict_proba(features)[:, 1], np.float64)
        missing = np.full(len(features), np.nan)
        disagreement = outside = missing
        if hasattr(model, "base_probabilities"):
            disagreement = np.asarray(model.base_probabilities(features).std(axis=1), np.float64)
        if known is not None:
            outside = (~known.applicable(features)).astype(np.float64)
        return probability, disagreement, outside

    return say


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Draw the map of one model over one site."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    site, name = str(settings["site"]), str(settings["model"])
    beside = name if settings["beside"] else None
    path = workspace.factors(site)
    samples = table.read(files.samples)
    factors = tuple(samples.factors)
    model, _ = load_model(files.model(name))
    known = Applicability.read(files.applicability) if settings["applicability"] else None
    grid = raster.grid_of(path)
    strange: dict[str, int] = {}

    def features(values: NDArray[np.float32]) -> NDArray[np.float32]:
        named = dict(zip(factors, values, strict=True))
        for factor, count in models.unseen(named, samples.classes).items():
            if count:
                strange[factor] = strange.get(factor, 0) + count
        return models.design(named, samples.classes)

    def read(window: Window) -> NDArray[np.float32]:
        return np.asarray(raster.read_float(path, factors, window).array, np.float32)

    histogram, counts = mapping.draw(
        files.probability(site, beside),
        {
            "crs": grid.crs.to_wkt(),
            "transform": grid.affine,
            "height": int(grid.shape[0]),
            "width": int(grid.shape[1]),
        },
        read,
        sayer(model, known),
        features,
        lambda share: progress(share, f"mapping {site}"),
        {"model": name, "made_up": str(bool(settings["made_up"])).lower()},
    )
    where = files.histogram(site, beside)
    where.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        where, {"probability": histogram.tolist(), "unseen_classes": strange, "cells": counts}
    )
    return {"model": name, "cells": counts["valid"], "outside": counts["outside"]}
