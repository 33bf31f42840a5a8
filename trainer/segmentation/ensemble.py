"""The best runs on validation, their mean probability, and the threshold that fits it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thawslump.errors import DataError
from thawslump.files import write_json, write_text
from trainer import metrics
from trainer.chips import channels_of, read_tile
from trainer.segmentation import cards
from trainer.segmentation.models import build
from trainer.segmentation.predict import Member, predict_array

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["load_members", "ranked", "run"]


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Return run names, best validation F1 first; equal ones in the order of their names.

    Examples
    --------
    >>> ranked({"b": 0.5, "a": 0.5, "c": 0.7})
    ['c', 'a', 'b']
    """
    return sorted(scores, key=lambda name: (-scores[name], name))


def load_members(beside: Path, names: Sequence[str]) -> tuple[tuple[str, ...], list[Member]]:
    """Load trained models from their folders.

    Parameters
    ----------
    beside : Path
        A file in a sibling folder of the runs (the ensemble's item.json).
    names : sequence of str
        Folders of the runs.

    Returns
    -------
    bands : tuple of str
        Every band that one of them needs.
    members : list of Member
        Their `bands` count in the tuple above.

    Raises
    ------
    DataError
        A folder is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = []
    bands: dict[str, None] = {}
    for name in names:
        folder = beside.parent.parent / name
        properties = cards.read_item(folder / "item.json")["properties"]
        entry = properties["mlm:input"][0]
        settings = properties["mlm:hyperparameters"]
        classes = cards.classes_of(entry)
        channels = channels_of(len(entry["bands"]), classes)
        model = build(settings["architecture"], settings["encoder"], channels, settings["depth"])
        try:
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise DataError(
                f"{folder / 'model.safetensors'} does not hold the weights of {name}: {error}.",
                hint="Train it again: delete the folder and run `thawslump train`.",
            ) from error
        model.eval()
        bands.update(dict.fromkeys(entry["bands"]))
        found.append((name, model, entry, classes))
    order = tuple(bands)
    members = [
        Member(
            name,
            model,
            tuple(order.index(band) for band in entry["bands"]),
            tuple(scaling["mean"] for scaling in entry["value_scaling"]),
            tuple(scaling["stddev"] for scaling in entry["value_scaling"]),
            classes,
        )
        for name, model, entry, classes in found
    ]
    return order, members


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Choose members and threshold (target of the step ``ensemble``).

    Inputs: stack and labels of each validation site, then model.safetensors, item.json and
    metrics.json of each run. Outputs: item.json, metrics.json and README.md of the ensemble.
    """
    from trainer.segmentation.train import interval, reproducible

    settings = item.settings
    runs = settings["runs"]
    sites = settings["sites"]
    outputs = {path.name: path for path in item.outputs}
    records = {}
    for path in item.inputs:
        if path.name == "metrics.json":
            records[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    scores = {name: _f1(records.get(name), name) for name in runs}
    order = ranked(scores)
    size = min(settings["size"], len(order))

    bands, members = load_members(outputs["item.json"], order)
    pairs = zip(
        item.inputs[0 : 2 * len(sites) : 2], item.inputs[1 : 2 * len(sites) : 2], strict=True
    )
    tiles = [
        read_tile(stack, labels, bands, name=name)
        for (stack, labels), name in zip(pairs, sites, strict=True)
    ]
    sums = [np.zeros(tile.labels.shape) for tile in tiles]
    counts = [np.zeros(tile.labels.shape) for tile in tiles]
    sizes = []
    kept: list[np.ndarray[Any, Any]] = []
    found = np.zeros((2, metrics.LEVELS + 1), dtype="int64")
    with reproducible(0, settings["threads"]):
        for number, member in enumerate(members, start=1):
            progress((number - 1) / len(members), f"{number} of {len(members)} runs")
            maps = []
            for tile, total, count in zip(tiles, sums, counts, strict=True):
                probability = predict_array([member], tile.array).probability
                there = np.isfinite(probability)
                total[there] += probability[there]
                count[there] += 1
                maps.append(
                    np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
                )
            together = sum(metrics.histogram(p, t.labels) for p, t in zip(maps, tiles, strict=True))
            threshold = metrics.best_threshold(np.asarray(together))
            sizes.append(
                {
                    "size": number,
                    "added": member.name,
                    "f1_at_half": metrics.scores(metrics.counts_at(np.asarray(together), 0.5)).f1,
                    "f1": metrics.scores(metrics.counts_at(np.asarray(together), threshold)).f1,
                    "threshold": threshold,
                }
            )
            if number == size:
                kept, found = maps, np.asarray(together)

    threshold = metrics.best_threshold(found)
    best = metrics.scores(metrics.counts_at(found, threshold))
    chosen = order[:size]
    weights = {name: 1 / size for name in chosen}
    items = {
        name: cards.read_item(outputs["item.json"].parent.parent / name / "item.json")
        for name in chosen
    }
    stac = cards.ensemble_item(item.name, items, weights, threshold)
    content: dict[str, Any] = {
        "members": [{"run": name, "f1": scores[name], "weight": weights[name]} for name in chosen],
        "runs": [{"run": name, "f1": scores[name]} for name in order],
        "threshold": threshold,
        "validation": {
            **best.as_dict(),
            "average_precision": metrics.average_precision(found),
            "f1_interval": interval(kept, tiles, threshold),
            "f1_mean_of_members": float(np.mean([scores[name] for name in chosen])),
        },
        "sizes": sizes,
    }
    write_json(outputs["metrics.json"], content)
    write_text(
        outputs["README.md"],
        cards.model_card(
            item.name,
            words=f"Mean probability of the {size} best of {len(order)} runs on validation.",
            facts={
                **{f"member {i}": name for i, name in enumerate(chosen, start=1)},
                "threshold": f"{threshold} (middle of the best F1 of the mean on validation)",
            },
            scores={
                "f1": best.f1,
                "iou": best.iou,
                "average_precision": content["validation"]["average_precision"],
            },
            sites={"members and threshold chosen on": sites},
            made_up=stac["properties"]["thawslump:made_up"],
        ),
    )
    write_json(outputs["item.json"], stac)
    return {"f1": round(best.f1, 4), "members": size, "threshold": threshold}


def _f1(record: Any, name: str) -> float:
    """Return a run's validation F1; a run without one has failed and is never counted as zero."""
    try:
        value = record["validation"]["f1"]
    except (KeyError, TypeError):
        value = None
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(
            f"The run {name} has no F1 on validation; it failed.",
            hint="Train it again: delete its folder below models/ and run `thawslump train`.",
        )
    return float(value)
