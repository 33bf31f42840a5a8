"""Step `susceptibility-fit`: one model, over all folds and then on all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.susceptibility import held, registry, table, validation
from trainer.susceptibility.ensembles import fit_on_ground
from trainer.susceptibility.files import Files
from trainer.susceptibility.persistence import save_model
from trainer.susceptibility.table import Samples
from trainer.susceptibility.validation import Folds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["folds_of", "model_of", "run"]


def model_of(name: str, settings: Mapping[str, Any], samples: Samples) -> Any:
    """Return an unfitted model by the settings of the step."""
    columns = samples.feature_names
    classes = [n for n, column in enumerate(columns) if column.split("=")[0] in samples.classes]
    options = {
        key: settings[key]
        for key in ("trees", "depth", "seed", "device", "bases", "upper")
        if key in settings
    }
    return registry.build(name, classes=classes, **options)


def folds_of(
    kind: str, repetition: int, samples: Samples, settings: Mapping[str, Any]
) -> tuple[Folds, NDArray[np.int64] | None]:
    """Return the folds of a kind and repetition, and the blocks that inner folds must not split."""
    seed = int(settings["seed"]) + repetition
    count = int(settings["folds"])
    if kind == "random":
        return validation.random_folds(len(samples.labels), count, seed), None
    blocks = samples.blocks(samples.widest_blocks(float(settings["block_size"])))
    return validation.spatial_folds(blocks, samples.labels, count), blocks


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Fit one model in every fold, then on all samples; write what it held out, and the model."""
    settings, files = dict(item.settings), Files(workspace, item.round)
    name = str(settings["model"])
    samples = table.read(files.samples)
    features, labels = samples.features, samples.labels
    model = model_of(name, settings, samples)
    work = [
        (kind, number)
        for kind in settings["validation"]
        for number in range(int(settings["repetitions"]))
    ]
    probability: dict[tuple[str, int], NDArray[np.float64]] = {}
    fold: dict[tuple[str, int], NDArray[np.int64]] = {}
    for done, (kind, number) in enumerate(work):
        progress(0.9 * done / len(work), f"{name}, {kind} folds")
        folds, blocks = folds_of(kind, number, samples, settings)
        probability[kind, number] = validation.out_of_fold(
            model, features, labels, folds, blocks, samples.places
        )
        of = np.full(len(labels), -1, np.int64)
        for index, (_, test) in enumerate(folds):
            of[test] = index
        fold[kind, number] = of
    progress(0.9, f"{name}, on all samples")
    _, blocks = folds_of("blocked", 0, samples, settings)
    fitted = fit_on_ground(model, features, labels, blocks, samples.places)
    save_model(files.model(name), fitted, samples.feature_names)
    said = np.empty(0)
    if len(item.inputs) > 1:
        elsewhere = table.read(files.test_samples)
        if len(elsewhere.labels):
            said = np.asarray(fitted.predict_proba(elsewhere.features)[:, 1], np.float64)
    held.write(files.held(name), held.Held(probability, fold, said))
    progress(1.0, "done")
    return {"model": name, "fits": sum(len(set(of[of >= 0])) for of in fold.values()) + 1}
