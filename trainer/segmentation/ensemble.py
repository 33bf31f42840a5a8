"""The members of the ensemble, what each counts, and what its mean means."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.files import atomic, sha256, write_json, write_text
from thawslump.objects import outline_record
from thawslump.scores import draw_interval
from trainer import metrics
from trainer.chips import IGNORE, Tile, channels_of, read_tile
from trainer.segmentation import calibration, cards, selection
from trainer.segmentation.checks import refuse_member, refuse_resolutions, refuse_stack
from trainer.segmentation.device import chosen
from trainer.segmentation.models import build
from trainer.segmentation.parts import by_part, counts
from trainer.segmentation.predict import Member, predict_array

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["load_members", "ranked", "run"]

Floats = NDArray[np.floating[Any]]

MOST = 90
"""Sizes of the ensemble that are scored at least; as in Ganerod et al. (2024)."""


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Return run names, best validation F1 first; equal ones in the order of their names.

    Examples
    --------
    >>> ranked({"b": 0.5, "a": 0.5, "c": 0.7})
    ['c', 'a', 'b']
    """
    return sorted(scores, key=lambda name: (-scores[name], name))


def load_members(
    beside: Path,
    names: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    made: Mapping[str, Any] | None = None,
) -> tuple[tuple[str, ...], list[Member]]:
    """Load trained models from their folders.

    Parameters
    ----------
    beside : Path
        A file in a sibling folder of the runs (the ensemble's item.json).
    names : sequence of str
        Folders of the runs.
    device : torch.device or str
        Where the models go.
    made : mapping, optional
        The item of the ensemble: its weights are the members', and bands and scaling must still
        be those it was made with.

    Returns
    -------
    bands : tuple of str
        Every band that one of them needs.
    members : list of Member
        Their `bands` count in the tuple above.

    Raises
    ------
    DataError
        A folder is not whole, its files do not go together, or its weights are no safetensors of
        the architecture that its item names. Nothing is ever unpickled.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    given = {} if made is None else made["properties"].get("thawslump:weights", {})
    found = []
    bands: dict[str, None] = {}
    for name in names:
        folder = beside.parent.parent / name
        item = cards.read_item(folder / "item.json")
        properties = item["properties"]
        entry = properties["mlm:input"][0]
        settings = properties["mlm:hyperparameters"]
        classes = cards.classes_of(entry)
        channels = channels_of(len(entry["bands"]), classes)
        model = build(settings["architecture"], settings["encoder"], channels, settings["depth"])
        try:
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise DataError(
                f"{folder / 'model.safetensors'} does not hold the weights of {name} "
                f"({properties['mlm:architecture']}): {_short(error)}.",
                hint="Train it again: delete the folder and run `thawslump train`.",
            ) from error
        refuse_member(folder, item, made)
        model.eval().to(device)
        bands.update(dict.fromkeys(entry["bands"]))
        found.append((name, model, entry, classes))
    order = tuple(bands)
    # Equal weights become exactly 1: a share such as 1/3 is no float.
    least = min((given[name] for name in names), default=1.0) if given else 1.0
    members = [
        Member(
            name,
            model,
            tuple(order.index(band) for band in entry["bands"]),
            tuple(scaling["mean"] for scaling in entry["value_scaling"]),
            tuple(scaling["stddev"] for scaling in entry["value_scaling"]),
            classes,
            given[name] / least if given else 1.0,
        )
        for name, model, entry, classes in found
    ]
    return order, members


def _short(error: BaseException) -> str:
    """Return the beginning of an error: torch lists every weight that does not fit."""
    words = " ".join(str(error).split()).rstrip(".")
    return words if len(words) <= 300 else f"{words[:300]} ..."


class _Ground:
    """The labelled pixels of the validation sites in a row, and what the runs say of them.

    What a run says is kept on disk: a process that is killed does not ask it again, and memory
    does not grow with the number of runs.
    """

    def __init__(self, tiles: Sequence[Tile], folder: Path, fingerprint: str) -> None:
        self.tiles = tiles
        self.marked = [tile.labels <= 1 for tile in tiles]
        self.labels = np.concatenate(
            [tile.labels[there] for tile, there in zip(tiles, self.marked, strict=True)]
        )
        self.blocks = np.concatenate(
            [
                (number * 10**8 + _blocks(there.shape))[there]
                for number, there in enumerate(self.marked)
            ]
        )
        parts = selection.halves([tile.labels for tile in tiles])
        self.whole = parts is None
        codes = (
            np.zeros(len(self.labels), dtype="uint8")
            if parts is None
            else np.concatenate([p[there] for p, there in zip(parts, self.marked, strict=True)])
        )
        self.choosing = np.flatnonzero(codes == selection.CHOOSING)
        self.other = (
            self.choosing if parts is None else np.flatnonzero(codes == selection.CALIBRATION)
        )
        self._folder = folder
        note = folder / "fingerprint"
        if not note.exists() or note.read_text(encoding="utf-8") != fingerprint:
            self.drop()
            write_text(note, fingerprint)

    def said(self, member: Member, **how: Any) -> Floats:
        """Return a run's probability at each pixel, float32, NaN where it has no data."""
        path = self._folder / f"{member.name}.npy"
        if not path.exists():
            maps = [predict_array([member], tile.array, **how).probability for tile in self.tiles]
            with atomic(path) as temporary:
                np.save(
                    temporary,
                    np.concatenate([m[t] for m, t in zip(maps, self.marked, strict=True)]),
                )
        return np.asarray(np.load(path, mmap_mode="r"))

    def drop(self) -> None:
        """Throw away what is kept on disk."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def maps(self, probability: Floats) -> list[Floats]:
        """Return probabilities as maps again, NaN where there is no label."""
        found, first = [], 0
        for there in self.marked:
            values = np.full(there.shape, np.nan)
            count = int(there.sum())
            values[there] = probability[first : first + count]
            found.append(values)
            first += count
        return found

    def counts(self, pixels: NDArray[np.intp]) -> dict[str, int]:
        """Return what a part holds."""
        return {"pixels": len(pixels), "slump_pixels": int((self.labels[pixels] == 1).sum())}

    @property
    def words(self) -> str:
        """How members on the one hand, calibration and threshold on the other were chosen."""
        if self.whole:
            return (
                "The validation sites hold too few slumps for two parts (three in each are "
                "needed): members, calibration and threshold were chosen on the same pixels, "
                "which flatters all scores on them."
            )
        return (
            f"Members were chosen on one half of the blocks of {selection.BLOCK} pixels of the "
            "validation sites; calibration and threshold on the other, in which no member was "
            "chosen. Each model's epoch was chosen on both."
        )


class _Chosen(Sequence[Floats]):
    """Some pixels of what each run says, read when they are asked for."""

    def __init__(self, said: Sequence[Floats], pixels: NDArray[np.intp]) -> None:
        self._said, self._pixels = said, pixels

    def __len__(self) -> int:
        return len(self._said)

    def __getitem__(self, index: Any) -> Any:
        return self._said[index][self._pixels]


def _blocks(shape: tuple[int, ...]) -> NDArray[np.int64]:
    rows, columns = np.indices(shape) // selection.BLOCK
    return np.asarray(rows * 10**4 + columns)


def _scored(probability: Floats, labels: NDArray[np.uint8], threshold: float) -> float:
    return metrics.scores(metrics.counts_at(metrics.histogram(probability, labels), threshold)).f1


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Choose members, calibration and threshold (target of the step ``ensemble``).

    Inputs: stack and labels of each validation site, then model.safetensors, item.json and
    metrics.json of each run. Outputs: item.json, metrics.json, README.md and reliability.svg of
    the ensemble.
    """
    from thawslump.grid import metres_per_pixel
    from thawslump.raster import grid_of
    from trainer.segmentation.train import interval, reproducible

    settings = item.settings
    sites = settings["sites"]
    outputs = {path.name: path for path in item.outputs}
    records = {}
    for path in item.inputs:
        if path.name == "metrics.json":
            records[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    recorded = {name: _f1(records.get(name), name) for name in settings["runs"]}

    device = chosen(settings["device"])
    bands, loaded = load_members(outputs["item.json"], ranked(recorded), device=device.where)
    pairs = list(
        zip(item.inputs[0 : 2 * len(sites) : 2], item.inputs[1 : 2 * len(sites) : 2], strict=True)
    )
    sides = {
        name: metres_per_pixel(grid_of(stack))
        for (stack, _), name in zip(pairs, sites, strict=True)
    }
    refuse_resolutions(sides)
    resolution = sides[sites[0]]
    for stack, _ in pairs:
        for member in loaded:
            refuse_stack(stack, outputs["item.json"].parent.parent / member.name / "item.json")
    tiles = [
        read_tile(stack, labels, bands, name=name)
        for (stack, labels), name in zip(pairs, sites, strict=True)
    ]
    # Without a split by blocks, every site here is a validation site as a whole.
    roles = settings.get("roles") or dict.fromkeys(sites, "validation")
    parts = by_part(tiles, roles, settings.get("split"))
    tiles = parts["validation"]
    ground = _Ground(tiles, outputs["item.json"].parent / "checkpoint", _fingerprint(item))
    said = {}
    how = {"turned": settings["tta"] == "d4", "device": device}
    with reproducible(0, settings["threads"]):
        for number, member in enumerate(loaded):
            progress(number / (len(loaded) + 1), f"{number + 1} of {len(loaded)} runs")
            said[member.name] = ground.said(member, **how)
    progress(len(loaded) / (len(loaded) + 1), "choose")

    # On which ground a run is good, only the pixels that choose may say.
    on = ground.labels[ground.choosing]
    scores = {name: _scored(p[ground.choosing], on, 0.5) for name, p in said.items()}
    order = ranked(scores)
    size = min(settings["size"], len(order))
    sizes = _sizes(ground, [(name, said[name]) for name in order], max(size, MOST))
    picks, trace = list(range(size)), list[float]()
    if settings["ensemble"] == "greedy":
        picks, trace = selection.greedy(
            _Chosen([said[name] for name in order], ground.choosing), on, settings["size"]
        )
    drawn = {name: picks.count(place) for place, name in enumerate(order)}
    members = sorted((n for n in order if drawn[n]), key=lambda n: (-drawn[n], order.index(n)))
    weights = {name: drawn[name] / len(picks) for name in members}
    mean = _mean([said[name] for name in members], [drawn[name] for name in members])

    temperature, report = _calibrate(ground, mean, settings["calibration"] == "temperature")
    meant = calibration.calibrated(mean, temperature)
    apart = metrics.histogram(meant[ground.other], ground.labels[ground.other])
    threshold = metrics.best_threshold(apart)
    found = metrics.histogram(meant, ground.labels)
    best = metrics.scores(metrics.counts_at(found, threshold))
    chosen_on = metrics.histogram(meant[ground.choosing], on)
    f1_choosing = metrics.scores(metrics.counts_at(chosen_on, threshold)).f1
    f1_other = metrics.scores(metrics.counts_at(apart, threshold)).f1

    items = {
        name: cards.read_item(outputs["item.json"].parent.parent / name / "item.json")
        for name in members
    }
    stac = cards.ensemble_item(
        item.name, items, weights, threshold, temperature=temperature, figure="reliability.svg"
    )
    content: dict[str, Any] = {
        "members": [
            {"run": name, "f1": recorded[name], "weight": weights[name], "draws": drawn[name]}
            for name in members
        ],
        "runs": [
            {"run": name, "f1": recorded[name], "f1_choosing": scores[name]} for name in order
        ],
        "ensemble": settings["ensemble"],
        "threshold": threshold,
        "calibration": report,
        "parts": {
            "choosing": ground.counts(ground.choosing),
            "calibration": ground.counts(ground.other),
            "same": ground.whole,
            "block_pixels": selection.BLOCK,
            "words": ground.words,
        },
        "validation": {
            **best.as_dict(),
            "average_precision": metrics.average_precision(found),
            "f1_interval": interval(ground.maps(meant), tiles, threshold),
            "f1_mean_of_members": float(np.mean([recorded[name] for name in members])),
            "f1_choosing": f1_choosing,
            "f1_calibration": f1_other,
            **_outlines(ground.maps(meant), tiles, threshold, resolution),
        },
        "sizes": sizes,
    }
    if "split" in settings:
        content["split"] = {**settings["split"], "parts": counts(parts)}
        if parts["test"]:
            progress(len(loaded) / (len(loaded) + 1), "judge on the test blocks")
            by_name = {member.name: member for member in loaded}
            with reproducible(0, settings["threads"]):
                test = [
                    _said_together(
                        [by_name[name] for name in members], [drawn[name] for name in members],
                        tile, temperature, **how,
                    )
                    for tile in parts["test"]
                ]  # fmt: skip
            judged = sum(
                (metrics.histogram(p, t.labels) for p, t in zip(test, parts["test"], strict=True)),
                np.zeros((2, metrics.LEVELS + 1), dtype="int64"),
            )
            content["test"] = {
                **_defined(metrics.scores(metrics.counts_at(judged, threshold)).as_dict()),
                "average_precision": metrics.average_precision(judged),
                "f1_interval": interval(test, parts["test"], threshold),
                **_outlines(test, parts["test"], threshold, resolution),
            }
    if trace:
        content["draws"] = [
            {"draw": n, "f1": f1, "kept": n <= len(picks)} for n, f1 in enumerate(trace, start=1)
        ]
    write_json(outputs["metrics.json"], content)
    how_many = (
        f"Mean probability of the {size} best of {len(order)} runs on validation."
        if settings["ensemble"] == "best"
        else f"Mean probability of {len(members)} of {len(order)} runs, drawn {len(picks)} times "
        "with replacement, each time the one that helped the mean most on validation."
    )
    write_text(
        outputs["README.md"],
        cards.model_card(
            item.name,
            words=how_many,
            facts={
                **{
                    f"member {i}": name if drawn[name] == 1 else f"{name} ({drawn[name]} draws)"
                    for i, name in enumerate(members, start=1)
                },
                "temperature": f"{temperature:.4g}" if temperature != 1 else "none",
                "threshold": f"{threshold} (middle of the best F1 of the mean on validation)",
                "test-time turns": "8 (d4)" if settings["tta"] == "d4" else "none",
            },
            scores={
                "f1": best.f1,
                "iou": best.iou,
                "average_precision": content["validation"]["average_precision"],
                "expected calibration error": report["after"]["ece"],
                "brier": report["after"]["brier"],
            },
            sites={
                "members and threshold chosen on": [
                    f"{name} (validation blocks)" if roles[name] == "train" else name
                    for name in sites
                ]
            },
            notes=[
                f"{ground.words} {report['words']}",
                "",
                "![Probability said against the share that is slump](reliability.svg)",
            ],
            made_up=stac["properties"]["thawslump:made_up"],
        ),
    )
    write_json(outputs["item.json"], stac)
    _draw(outputs["reliability.svg"], ground, mean, temperature, tiles, stac)
    ground.drop()
    return {
        "f1": round(best.f1, 4),
        "members": len(members),
        "threshold": threshold,
        "temperature": round(temperature, 4),
        "calibration_error": round(report["after"]["ece"], 5),
    }


def _outlines(
    maps: Sequence[Floats], tiles: Sequence[Tile], threshold: float, resolution: float
) -> dict[str, Any]:
    """Return object and boundary scores of maps at a threshold."""
    # A place without data has no map to be judged.
    labels = [
        np.where(np.isfinite(p), tile.labels, np.uint8(IGNORE))
        for p, tile in zip(maps, tiles, strict=True)
    ]
    called = [metrics.mapped_at(p, threshold) for p in maps]
    return outline_record(called, labels, resolution=resolution, interval=draw_interval)


def _said_together(
    members: Sequence[Member], draws: Sequence[int], tile: Tile, temperature: float, **how: Any
) -> NDArray[np.float64]:
    """Return the calibrated mean of members on a tile, NaN where none has data."""
    maps = [predict_array([member], tile.array, **how).probability.ravel() for member in members]
    meant = calibration.calibrated(_mean(maps, draws), temperature)
    return np.asarray(meant, dtype="float64").reshape(tile.labels.shape)


def _defined(scores: Mapping[str, float | int]) -> dict[str, float | int | None]:
    """JSON has no NaN: a score that is not defined is null."""
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


def _fingerprint(item: Item) -> str:
    content = [
        {
            key: item.settings[key]
            for key in ("sites", "tta", "threads", "device", "split", "roles")
            if key in item.settings
        },
        sorted(sha256(path) for path in item.inputs if path.name != "metrics.json"),
        torch.__version__,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sizes(ground: _Ground, said: Sequence[tuple[str, Floats]], most: int) -> list[dict[str, Any]]:
    """Score the mean of the first, of the first two ... runs; each is added once."""
    rows = []
    labels = ground.labels
    means = selection.running_means([p for _, p in said[:most]])
    for number, ((name, _), mean) in enumerate(zip(said, means, strict=False), start=1):
        together = metrics.histogram(mean, labels)
        threshold = metrics.best_threshold(together)
        on = metrics.best_threshold(
            metrics.histogram(mean[ground.choosing], labels[ground.choosing])
        )
        rows.append(
            {
                "size": number,
                "added": name,
                "f1_at_half": metrics.scores(metrics.counts_at(together, 0.5)).f1,
                "f1": metrics.scores(metrics.counts_at(together, threshold)).f1,
                "threshold": threshold,
                "f1_choosing": _scored(mean[ground.choosing], labels[ground.choosing], on),
                # Members and threshold of the one part, score of the other.
                "f1_apart": None
                if ground.whole
                else _scored(mean[ground.other], labels[ground.other], on),
            }
        )
    return rows


def _mean(said: Sequence[Floats], draws: Sequence[int]) -> NDArray[np.float64]:
    total, weight = np.zeros(len(said[0])), np.zeros(len(said[0]))
    for each, count in zip(said, draws, strict=True):
        there = np.isfinite(each)
        total += np.where(there, each, 0.0) * count
        weight += there * count
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def _calibrate(
    ground: _Ground, mean: NDArray[np.float64], wanted: bool
) -> tuple[float, dict[str, Any]]:
    """Return the temperature, and how well probabilities are met without it and with it."""
    there = ground.other[np.isfinite(mean[ground.other])]
    said, labels = mean[there], ground.labels[there]
    temperature = 1.0
    facts: dict[str, Any] = {"words": "No calibration was asked for: the mean is left as it is."}
    if wanted:
        fitted = calibration.fit_temperature(said, labels)
        low, high = calibration.temperature_interval(said, labels, ground.blocks[there])
        sure = not low <= 1 <= high
        temperature = fitted if sure else 1.0
        told = f"{fitted:.3g} (95 % of draws of blocks: {low:.3g} to {high:.3g})"
        facts = {
            "fitted": fitted,
            "interval": [low, high],
            "words": f"The log odds of the mean are divided by {told}."
            if sure
            else f"The temperature that suits best is {told}, which is not told from 1 here: the "
            "mean is left as it is.",
        }
    report: dict[str, Any] = {
        "temperature": temperature,
        **facts,
        "pixels": len(there),
        **_met(said, labels, temperature),
    }
    if not ground.whole:
        choosing = ground.choosing[np.isfinite(mean[ground.choosing])]
        # The temperature was not fitted there; the members were chosen there.
        report["choosing"] = {
            "pixels": len(choosing),
            **_met(mean[choosing], ground.labels[choosing], temperature),
        }
    return temperature, report


def _met(mean: Floats, labels: NDArray[np.uint8], temperature: float) -> dict[str, Any]:
    after = calibration.calibrated(mean, temperature)
    return {
        "before": calibration.table(calibration.reliability(mean, labels)),
        "after": calibration.table(calibration.reliability(after, labels)),
    }


def _draw(
    path: Path,
    ground: _Ground,
    mean: NDArray[np.float64],
    temperature: float,
    tiles: Sequence[Tile],
    stac: Mapping[str, Any],
) -> None:
    there = ground.other[np.isfinite(mean[ground.other])]
    labels = ground.labels[there]
    made_up = " (made up)" if stac["properties"]["thawslump:made_up"] else ""
    names = ", ".join(tile.name for tile in tiles)
    write_text(
        path,
        calibration.figure(
            calibration.reliability(mean[there], labels),
            None
            if temperature == 1
            else calibration.reliability(calibration.calibrated(mean[there], temperature), labels),
            f"{names}{made_up}: {len(there):,} pixels"
            + ("" if ground.whole else " that chose no member"),
        ),
    )


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
