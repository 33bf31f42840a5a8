"""Step `susceptibility-select`: collinearity and worth of the factors, told before any model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from thawslump.files import write_json
from trainer.susceptibility import selection, table
from trainer.susceptibility.files import Files

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["run"]


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Write selection.json and its figure."""
    files = Files(workspace, item.round)
    samples = table.read(files.samples)
    progress(0.1, "collinearity")
    features, names = samples.features.astype(np.float64), samples.feature_names
    whole = np.isfinite(features).all(axis=1)
    varies = np.ptp(features[whole], axis=0) > 0
    inflation = np.full(len(names), np.nan)
    inflation[varies] = selection.variance_inflation_factors(features[whole][:, varies])
    rows = [
        {"feature": name, "vif": None if np.isnan(value) else float(value)}
        for name, value in zip(names, inflation, strict=True)
    ]
    write_json(files.selection, {"features": rows, "samples": int(whole.sum())})
    _draw(files, names, inflation)
    progress(1.0, "done")
    return {"features": len(names)}


def _draw(files: Files, names: tuple[str, ...], inflation: np.ndarray) -> None:
    from matplotlib.figure import Figure

    from thawslump.files import atomic

    figure = Figure(figsize=(6, 0.4 * len(names) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, np.nan_to_num(inflation))
    axes.set_xlabel("variance inflation factor")
    path = files.figure("selection")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
