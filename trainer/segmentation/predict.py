"""Probability maps over rasters of any size: overlapping windows, blended, strip by strip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thawslump.errors import DataError
from trainer.chips import Classes, expand, unseen
from trainer.segmentation.blend import fitting, ramp, starts
from trainer.segmentation.device import Device, chosen
from trainer.segmentation.maps import CACHE, Rows, Strip, join, quantised, write_strips
from trainer.segmentation.opinions import Opinions
from trainer.segmentation.turns import TURNS, turn, turn_back

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace
    from trainer.segmentation.places import Place

__all__ = [
    "Member",
    "Strip",
    "predict_array",
    "predict_strips",
    "predict_window",
    "quantised",
    "ramp",
    "run",
    "run_block",
    "run_join",
    "write_strips",
]

Floats = NDArray[np.float32]

VERSION = 2
"""Raised when equal settings and inputs give another map (`trainer.steps.PREDICTION` follows)."""

_TOGETHER = 8  # windows that are read in one piece


@dataclass(frozen=True)
class Member:
    """A model with what it needs to be fed.

    Attributes
    ----------
    name : str
    model : callable
        (n, channel, y, x) float32 -> logits (n, 1, y, x); in evaluation mode.
    bands : tuple of int
        Which bands of the stack, in the order of the model's input.
    mean, std : tuple of float
        Scaling, one per band.
    classes : tuple of Classes or None
        One per band, None for numbers and masks; empty where no band has classes.
    weight : float
        In the mean over the members, above 0; only its ratio to the others' counts.
    """

    name: str
    model: nn.Module | Callable[[Tensor], Tensor]
    bands: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[Classes | None, ...] = ()
    weight: float = 1.0


def _scaled(images: Tensor, member: Member) -> tuple[Tensor, Tensor]:
    """Return what a member is fed, and where it has any band; as `trainer.chips.scale` does."""
    every = member.bands == tuple(range(images.shape[1]))
    part = images if every else images[:, list(member.bands)]
    known = torch.isfinite(part)
    centre = torch.tensor(member.mean, dtype=part.dtype, device=part.device)[:, None, None]
    width = torch.tensor(member.std, dtype=part.dtype, device=part.device)[:, None, None]
    values = torch.where(known, (part - centre) / width, 0.0)
    for band, each in enumerate(member.classes):
        if each is not None:
            # The first class becomes 1, the second 2 and so on; one never seen becomes 0.
            values[:, band] = 0.0
            for position, value in enumerate(each.values, start=1):
                values[:, band][part[:, band] == value] = position
    values = expand(values, member.classes, dim=1)
    return values.contiguous(memory_format=torch.channels_last), known.any(dim=1)


def _probability(member: Member, values: Tensor, device: Device, turned: bool) -> Tensor:
    """Return a member's probability, the mean over the turns of the window where asked for."""
    if not turned:
        return torch.sigmoid(device.logits(member.model, values))
    mean = torch.zeros_like(values[:, 0])
    for number in range(TURNS):
        view = turn(values, number).contiguous(memory_format=torch.channels_last)
        said = turn_back(torch.sigmoid(device.logits(member.model, view)), number)
        # A running mean of equal values is that value, to the bit; a sum of eight is not.
        mean += (said - mean) / (number + 1)
    return mean


@torch.inference_mode()
def _heard(
    members: Sequence[Member],
    images: Tensor,
    device: Device,
    turned: bool,
    broken: Tensor,
) -> Opinions:
    """Return what all members say of some windows, and mark those that gave no numbers."""
    said = Opinions(torch.zeros_like(images[:, 0]), one=len(members) == 1)
    scaled: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
    for number, member in enumerate(members):
        key = (member.bands, member.mean, member.std, member.classes)
        if key not in scaled:
            scaled[key] = _scaled(images, member)
        values, there = scaled[key]
        probability = _probability(member, values, device, turned)
        broken[number] |= ~torch.isfinite(probability).all()
        said.add(probability, there, member.weight)
    return said


def predict_window(
    members: Sequence[Member], array: Floats, *, turned: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard deviation and mutual information of the members in one window.

    Parameters
    ----------
    members : sequence of Member
    array : ndarray of float32, shape (band, y, x)
        NaN where a band is missing; sides are multiples of 32.
    turned : bool
        Each member's probability is its mean over the eight symmetries of the square.

    Returns
    -------
    mean, deviation, information : ndarray of float32, shape (y, x)
        Over the members that have a band at the pixel; NaN where none has. Accumulated member
        by member, so memory does not grow with their number. Information in nats.
    """
    images = torch.from_numpy(np.ascontiguousarray(array, dtype="float32"))[None]
    broken = torch.zeros(len(members), dtype=torch.bool)
    said = _heard(members, images, Device(torch.device("cpu")), turned, broken)
    nowhere = ~said.heard[0].numpy()
    found = []
    for values in (said.mean, said.deviation, said.information):
        plain = values[0].numpy().copy()
        plain[nowhere] = np.nan
        found.append(plain)
    return found[0], found[1], found[2]


Read = Callable[[int, int, int, int], Floats]


def _ahead(read: Read, jobs: Sequence[tuple[int, int, int, int]]) -> Iterator[Floats]:
    """Yield what is read, one piece ahead: models need not wait for the disk."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Floats] | None = None
        for job in jobs:
            now, coming = coming, pool.submit(read, *job)
            if now is not None:
                yield now.result()
        if coming is not None:
            yield coming.result()


@torch.inference_mode()
def predict_strips(
    members: Sequence[Member],
    read: Read,
    shape: tuple[int, int],
    *,
    window: int = 512,
    overlap: int = 64,
    turned: bool = False,
    batch: int = 1,
    device: Device | None = None,
    temperature: float = 1.0,
    done: int = 0,
    look: Callable[[Floats], None] | None = None,
) -> Iterator[Strip]:
    """Predict a raster from top to bottom, holding one row of windows at a time.

    Parameters
    ----------
    members : sequence of Member
        Modules lie on `device`.
    read : callable
        (top, bottom, left, right) -> ndarray of float32, shape (band, bottom - top,
        right - left), NaN where a band is missing. Called in a thread of its own, one piece
        ahead.
    shape : (rows, columns)
        Of the whole raster.
    window, overlap : int
        In pixels, multiples of 32; a raster smaller than a window is one window.
    turned : bool
        Average each member over the eight symmetries of the square.
    batch : int
        Windows that a model is given at once; always so many, so that no window's result depends
        on whether its neighbours are empty.
    device : Device, optional
        The processor where not given.
    temperature : float
        The log odds of the mean are divided by it.
    done : int
        Rows that an earlier call yielded, as many as end a strip: they are not yielded again, and
        the others come out to the bit as if they were.
    look : callable, optional
        Given each pixel's bands once, in pieces of shape (band, rows, columns).

    Yields
    ------
    Strip
        In order, without gaps, all rows in the end.

    Raises
    ------
    DataError
        A member returned a value that is not finite.

    Notes
    -----
    Windows begin at multiples of `window - overlap`, whatever the size of the raster; those that
    reach over its edge are padded with missing values. A pixel's result is the weighted mean of
    the windows that hold it. Memory grows with the columns of `shape`, not with its rows: wide
    rasters are mapped in blocks (`trainer.segmentation.blend.blocks`).
    """
    device = device or Device(torch.device("cpu"))
    height, width = shape
    tall, wide = fitting(height, window), fitting(width, window)
    tops, lefts = starts(height, tall, overlap), starts(width, wide, overlap)
    if done == height:
        return
    if done not in tops:
        raise ValueError(f"{done} rows do not end a strip; strips begin at {tops}")
    weight = torch.from_numpy(
        ramp(tall, overlap if len(tops) > 1 else 0)[:, None]
        * ramp(wide, overlap if len(lefts) > 1 else 0)
    ).to(device.where)
    used = sorted({band for member in members for band in member.bands})
    sums = torch.zeros((4, tall, lefts[-1] + wide), device=device.where)
    fills = torch.zeros((tall, width), device=device.where)
    broken = torch.zeros(len(members), dtype=torch.bool, device=device.where)
    size = max(1, _TOGETHER // batch) * batch
    groups = [lefts[i : i + size] for i in range(0, len(lefts), size)]
    # What the rows of windows above left in the first strip has to be there again; no row of
    # windows reaches beyond the next, for they overlap by half at most.
    strips = list(pairwise([*tops, height]))[max(0, tops.index(done) - 1) :]
    jobs = [
        (top, min(top + tall, height), group[0], min(group[-1] + wide, width))
        for top, _ in strips
        for group in groups
    ]
    pieces = _ahead(read, jobs)
    for top, after in strips:
        rows = after - top
        for number, group in enumerate(groups):
            piece = next(pieces)
            begin = group[0]
            end = groups[number + 1][0] if number + 1 < len(groups) else width
            own = piece[:, :rows, : end - begin]
            if look is not None and top >= done:
                look(own)
            given = torch.from_numpy(np.ascontiguousarray(piece, dtype="float32")).to(device.where)
            known = torch.isfinite(given[used])
            fills[:rows, begin:end] = 1 - known[:, :rows, : end - begin].float().mean(dim=0)
            span = group[-1] + wide - begin
            padded = torch.full((len(given), tall, span), torch.nan, device=device.where)
            padded[:, : given.shape[1], : given.shape[2]] = given
            some = torch.zeros((tall, span), dtype=torch.bool, device=device.where)
            some[: given.shape[1], : given.shape[2]] = known.any(dim=0)
            offsets = [left - begin for left in group]
            full = torch.stack([some[:, left : left + wide].any() for left in offsets]).tolist()
            offsets = [left for left, any_there in zip(offsets, full, strict=True) if any_there]
            for i in range(0, len(offsets), batch):
                held = offsets[i : i + batch]
                views = [padded[:, :, left : left + wide] for left in held]
                images = views[0][None] if len(views) == 1 else torch.stack(views)
                if len(held) < batch:
                    empty = torch.full_like(images[:1], torch.nan)
                    images = torch.cat([images, empty.expand(batch - len(held), -1, -1, -1)])
                said = _heard(members, images, device, turned, broken)
                for place, left in enumerate(held):
                    share = weight * some[:, left : left + wide]
                    area = sums[:, :, begin + left : begin + left + wide]
                    area[0] += share
                    area[1] += share * said.mean[place]
                    area[2] += share * said.deviation[place]
                    area[3] += share * said.information[place]
        _refuse_broken(members, broken, (top, min(top + tall, height)))
        if top >= done:
            yield _strip(top, sums[:, :rows, :width], fills[:rows], temperature)
        # What the next row of windows overlaps moves to the top.
        kept = sums[:, rows:].clone()
        sums.zero_()
        sums[:, : kept.shape[1]] = kept


def _refuse_broken(members: Sequence[Member], broken: Tensor, rows: tuple[int, int]) -> None:
    names = [m.name for m, bad in zip(members, broken.tolist(), strict=True) if bad]
    if names:
        raise DataError(
            f"A model gave values that are no numbers: {', '.join(names)} (rows {rows[0]} to "
            f"{rows[1]}).",
            hint="Its weights are damaged or training diverged: train the runs again.",
        )


def _strip(row: int, sums: Tensor, fills: Tensor, temperature: float) -> Strip:
    there = sums[0] > 0
    total = torch.where(there, sums[0], 1.0)
    probability = (sums[1] / total).clamp(0, 1)
    if temperature != 1:
        probability = tempered(probability, temperature)
    found = (probability, sums[2] / total, fills, sums[3] / total)
    plain = [torch.where(there, values, torch.nan).cpu().numpy() for values in found]
    return Strip(row, *plain)


def tempered(probability: Tensor, temperature: float) -> Tensor:
    """Divide the log odds of a probability by a temperature.

    Examples
    --------
    >>> tempered(torch.tensor([0.5, 0.9, 1.0]), 2.0).round(decimals=3).tolist()
    [0.5, 0.75, 0.9990000128746033]
    """
    odds = torch.special.logit(probability, eps=1e-6)
    return torch.sigmoid(odds / temperature)


def predict_array(
    members: Sequence[Member],
    array: Floats,
    *,
    window: int = 1024,
    overlap: int = 128,
    turned: bool = False,
    batch: int = 1,
    device: Device | None = None,
    temperature: float = 1.0,
) -> Strip:
    """Predict an array that fits into memory; see `predict_strips`.

    Parameters
    ----------
    members : sequence of Member
    array : ndarray of float32, shape (band, y, x)

    Returns
    -------
    Strip
        All rows.
    """
    _, height, width = array.shape
    strips = list(
        predict_strips(
            members,
            lambda top, bottom, left, right: array[:, top:bottom, left:right],
            (height, width),
            window=window,
            overlap=overlap,
            turned=turned,
            batch=batch,
            device=device,
            temperature=temperature,
        )
    )
    return Strip(
        0,
        np.concatenate([strip.probability for strip in strips]),
        np.concatenate([strip.disagreement for strip in strips]),
        np.concatenate([strip.filled for strip in strips]),
        np.concatenate([strip.information for strip in strips]),
    )


class Unseen:
    """Counts the pixels whose class no training site had, piece by piece.

    Parameters
    ----------
    bands : sequence of str
        Of the arrays that `look` gets.
    members : sequence of Member
        A class counts as seen only where every member that uses its band knows it.
    """

    def __init__(self, bands: Sequence[str], members: Sequence[Member]) -> None:
        known: dict[int, set[int]] = {}
        for member in members:
            for band, each in zip(member.bands, member.classes, strict=False):
                if each is not None:
                    known[band] = known.get(band, set(each.values)) & set(each.values)
        self.bands = tuple(bands)
        self._classes = [
            Classes(tuple(sorted(known[i])), ()) if i in known else None for i in range(len(bands))
        ]
        self.pixels = 0
        self.count = np.zeros(len(bands), dtype="int64")

    def look(self, array: Floats) -> None:
        """Count the pixels of an array, shape (band, y, x)."""
        self.count += unseen(array, self._classes)
        self.pixels += array[0].size

    def take(self, pixels: int, count: Sequence[int]) -> None:
        """Add what was counted elsewhere: `pixels` and `count` of another one."""
        self.pixels += pixels
        self.count += np.asarray(count, dtype="int64")

    @property
    def shares(self) -> dict[str, float]:
        """Share of all pixels seen so far, for the bands that have such classes."""
        return {
            band: round(int(count) / self.pixels, 6)
            for band, count in zip(self.bands, self.count, strict=True)
            if count
        }


Progress = Callable[[float, str], None]
Facts = dict[str, float | int | str]


def run(item: Item, workspace: Workspace, progress: Progress) -> Facts:
    """Map one site with the ensemble (target of the step ``predict``).

    Inputs: the stack, the ensemble's item.json, then model.safetensors and item.json of each
    member; of a part of a large area also the stacks of its neighbours. Output: the map. Rows
    that a process finished before it was killed are not computed again.
    """
    from trainer.segmentation.places import Place

    part = item.settings.get("part")
    place = (
        Place(item.inputs[0])
        if part is None
        else Place(item.inputs[0], workspace.stack(part["mosaic"]), part["around"])
    )
    return _draw(item, place, progress, may_be_empty=part is not None)


def run_block(item: Item, workspace: Workspace, progress: Progress) -> Facts:
    """Map one block of a large raster (target of the step ``predict-blocks``); as `run`."""
    from trainer.segmentation.places import Place

    settings = item.settings
    top, left, bottom, right = settings["block"]
    place = Place.block(
        item.inputs[0], (top, left, bottom, right), settings["window"], settings["overlap"]
    )
    return _draw(item, place, progress, may_be_empty=True, block=True)


def run_join(item: Item, workspace: Workspace, progress: Progress) -> Facts:
    """Make one map of the blocks of a large raster (target of the step ``predict``).

    Inputs: the stack, the ensemble's item.json, then the blocks. Output: the map.
    """
    from thawslump.raster import grid_of, open_raster
    from trainer.segmentation.cards import read_item

    stack, ensemble, *blocks = item.inputs
    grid = grid_of(stack)
    bands: dict[str, int] = {}
    pixels = 0
    for path in blocks:
        with open_raster(path) as source:
            found = json.loads(source.tags()["unseen_counts"])
        pixels += found["pixels"]
        for band, count in found["count"].items():
            bands[band] = bands.get(band, 0) + count
    shares = {band: round(count / pixels, 6) for band, count in bands.items() if count}
    tags = {
        **_tags(item.settings, read_item(ensemble)["properties"]),
        "unseen_classes": json.dumps(shares),
    }
    progress(0.0, f"{len(blocks)} blocks")
    facts: Facts = {**join(item.outputs[0], blocks, grid, tags)}
    facts.update({f"unseen_{band}": share for band, share in shares.items()})
    return facts


def _tags(settings: Any, ensemble: dict[str, Any]) -> dict[str, str]:
    temperature = ensemble.get("thawslump:temperature", 1.0)
    weights = ensemble.get("thawslump:weights", {})
    return {
        "made_up": "yes" if settings["made_up"] else "no",
        "members": ", ".join(settings["members"]),
        "weights": ", ".join(f"{weights[name]:.4g}" for name in settings["members"])
        if weights
        else "equal",
        "threshold": repr(settings["threshold"]),
        "calibration": "none"
        if temperature == 1
        else f"log odds of the mean divided by {temperature:.4g}; disagreement and "
        "mutual_information are of the members as they are",
        "tta": settings.get("tta", "none"),
        "software": "thawslump trainer.segmentation.predict",
    }


def _draw(
    item: Item, place: Place, progress: Progress, *, may_be_empty: bool, block: bool = False
) -> Facts:
    """Map a place, row of windows by row of windows, from where an earlier process stopped."""
    import rasterio

    from trainer.segmentation.cards import read_item
    from trainer.segmentation.checks import refuse_stack
    from trainer.segmentation.ensemble import load_members
    from trainer.segmentation.train import reproducible

    settings = item.settings
    stack, ensemble = item.inputs[0], item.inputs[1]
    properties = read_item(ensemble)["properties"]
    device = chosen(settings["device"])
    batch = settings["batch"] or (1 if device.where.type == "cpu" else 16)
    bands, members = load_members(
        ensemble, settings["members"], device=device.where, made=read_item(ensemble)
    )
    refuse_stack(stack, ensemble)
    strange = Unseen(bands, members)
    grid: GeoBox = place.grid
    height = int(grid.shape[0])
    with (
        reproducible(0, settings["threads"]),
        rasterio.Env(GDAL_CACHEMAX=CACHE),
        Rows(item.outputs[0], grid, fingerprint_of(item, device)) as rows,
    ):
        if rows.done:
            strange.take(rows.facts["pixels"], rows.facts["count"])
        progress(rows.done / height, f"row {rows.done} of {height}")
        strips = predict_strips(
            members,
            lambda top, bottom, left, right: place.read(bands, top, bottom, left, right),
            place.shape,
            window=settings["window"],
            overlap=settings["overlap"],
            turned=settings["tta"] == "d4",
            batch=batch,
            device=device,
            temperature=properties.get("thawslump:temperature", 1.0),
            done=place.rows_done(rows.done),
            look=strange.look,
        )
        for strip in place.own(strips):
            rows.facts = {"pixels": strange.pixels, "count": strange.count.tolist()}
            rows.add(strip)
            progress(rows.done / height, f"row {rows.done} of {height}")
        counted = {band: int(n) for band, n in zip(strange.bands, strange.count, strict=True) if n}
        tags = {
            **_tags(settings, properties),
            "unseen_classes": json.dumps(strange.shares),
            **(
                {"unseen_counts": json.dumps({"pixels": strange.pixels, "count": counted})}
                if block
                else {}
            ),
        }
        facts: Facts = {**rows.finish(tags, may_be_empty=may_be_empty, block=block)}
    # A name of its own for each band: facts are numbers and words.
    facts.update({f"unseen_{band}": share for band, share in strange.shares.items()})
    if device.most is not None:
        facts["windows_at_once"] = device.most
    return facts


def fingerprint_of(item: Item, device: Device) -> str:
    """Return a name of the map that changes with all that it depends on.

    Stacks count by size and time of change, for they may be large; the models by their content.
    """
    from thawslump.files import sha256

    def state(path: Path) -> Any:
        if path.suffix in (".tif", ".vrt"):
            found = path.stat()
            return [path.name, found.st_size, found.st_mtime_ns]
        return sha256(path)

    content = [
        VERSION,
        dict(item.settings),
        [state(path) for path in item.inputs],
        torch.__version__,
        str(device.where.type),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
