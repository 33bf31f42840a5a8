"""Probability maps over rasters of any height: overlapping windows, blended, strip by strip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thawslump.errors import DataError
from trainer.chips import Classes, expand, scale, unseen

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["Member", "Strip", "predict_array", "predict_strips", "predict_window", "ramp", "run"]

Floats = NDArray[np.float32]

NODATA = 65535
SCALE = 1e-4
_LEAST = 1e-3  # a window's weight at its very edge, relative to its middle: never zero


@dataclass(frozen=True)
class Member:
    """A model with what it needs to be fed.

    Attributes
    ----------
    name : str
    model : callable
        (1, channel, y, x) float32 -> logits (1, 1, y, x); in evaluation mode.
    bands : tuple of int
        Which bands of the stack, in the order of the model's input.
    mean, std : tuple of float
        Scaling, one per band.
    classes : tuple of Classes or None
        One per band, None for numbers and masks; empty where no band has classes.
    """

    name: str
    model: nn.Module | Callable[[Tensor], Tensor]
    bands: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[Classes | None, ...] = ()


@dataclass(frozen=True)
class Strip:
    """Finished rows of a map.

    Attributes
    ----------
    row : int
        First row.
    probability, disagreement, filled : ndarray of float32, shape (rows, x)
        Mean and standard deviation over the members; share of bands that were missing. NaN
        where all bands of all members are missing.
    """

    row: int
    probability: Floats
    disagreement: Floats
    filled: Floats


def ramp(size: int, overlap: int) -> Floats:
    """Return the weight along one side of a window.

    Returns
    -------
    ndarray of float32, shape (size,)
        1 in the middle, falling smoothly over `overlap` pixels to either side, nowhere zero:
        the edge of a raster is seen by one window only, and must not get lost.

    Examples
    --------
    >>> ramp(4, 1).round(2).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    weight = np.ones(size)
    if overlap:
        rise = np.sin((np.arange(overlap) + 0.5) / overlap * np.pi / 2) ** 2
        weight[:overlap] = rise
        weight[-overlap:] = rise[::-1]
    return np.maximum(weight, _LEAST).astype("float32")


@torch.inference_mode()
def predict_window(members: Sequence[Member], array: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the members' probabilities in one window.

    Parameters
    ----------
    members : sequence of Member
    array : ndarray of float32, shape (band, y, x)
        NaN where a band is missing; sides are multiples of 32.

    Returns
    -------
    mean, deviation : ndarray of float32, shape (y, x)
        Over the members that have a band at the pixel; NaN where none has. Accumulated member
        by member, so memory does not grow with their number.
    """
    count = np.zeros(array.shape[1:], dtype="float32")
    mean = np.zeros(array.shape[1:], dtype="float32")
    squares = np.zeros(array.shape[1:], dtype="float32")
    scaled: dict[tuple[Any, ...], tuple[Tensor, NDArray[np.bool_]]] = {}
    for member in members:
        key = (member.bands, member.mean, member.std, member.classes)
        if key not in scaled:
            part = array[list(member.bands)]
            values, filled = scale(part, member.mean, member.std, member.classes)
            image = expand(torch.from_numpy(values), member.classes, dim=0)[None]
            scaled[key] = image.contiguous(memory_format=torch.channels_last), filled < 1
        image, there = scaled[key]
        if not there.any():
            continue
        probability = torch.sigmoid(member.model(image)[0, 0]).float().numpy()
        # Welford's update: equal members give a deviation of exactly zero.
        count += there
        step = np.where(there, probability - mean, np.float32(0))
        mean += step / np.maximum(count, 1)
        squares += step * np.where(there, probability - mean, np.float32(0))
    nowhere = count == 0
    mean[nowhere] = np.nan
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(squares / np.maximum(count, 1))
    deviation[nowhere] = np.nan
    return mean, deviation


def predict_strips(
    members: Sequence[Member],
    read: Callable[[int, int], Floats],
    shape: tuple[int, int],
    *,
    window: int = 512,
    overlap: int = 64,
) -> Iterator[Strip]:
    """Predict a raster from top to bottom, holding one row of windows at a time.

    Parameters
    ----------
    members : sequence of Member
    read : callable
        (first row, row after the last) -> ndarray of float32, shape (band, rows, x), NaN where a
        band is missing.
    shape : (rows, columns)
        Of the whole raster.
    window, overlap : int
        In pixels, multiples of 32; a raster smaller than a window is one window.

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
    the windows that hold it.
    """
    height, width = shape
    tall, wide = _fitting(height, window), _fitting(width, window)
    tops = _starts(height, tall, overlap)
    lefts = _starts(width, wide, overlap)
    vertical = ramp(tall, overlap if len(tops) > 1 else 0)
    horizontal = ramp(wide, overlap if len(lefts) > 1 else 0)
    weight = vertical[:, None] * horizontal[None, :]
    used = sorted({band for member in members for band in member.bands})
    sums = np.zeros((3, tall, lefts[-1] + wide), dtype="float32")
    fills = np.ones((tall, width), dtype="float32")
    for top, after in pairwise([*tops, height]):
        bottom = min(top + tall, height)
        array = read(top, bottom)
        fills[: bottom - top] = 1 - np.isfinite(array[used]).mean(axis=0, dtype="float32")
        padded = np.full((len(array), *sums.shape[1:]), np.nan, dtype="float32")
        padded[:, : bottom - top, :width] = array
        for left in lefts:
            part = padded[:, :, left : left + wide]
            if not np.isfinite(part[used]).any():
                continue
            mean, deviation = predict_window(members, part)
            there = np.isfinite(part[used]).any(axis=0)
            if not np.isfinite(mean[there]).all():
                raise DataError(
                    f"A model gave values that are no numbers (rows {top} to {bottom}, "
                    f"columns {left} to {left + wide}).",
                    hint="Its weights are damaged or training diverged: train the runs again.",
                )
            share = np.where(there, weight, np.float32(0))
            area = sums[:, :, left : left + wide]
            area[0] += share
            area[1] += share * np.nan_to_num(mean)
            area[2] += share * np.nan_to_num(deviation)
        rows = after - top
        total = sums[0, :rows, :width]
        with np.errstate(invalid="ignore"):
            probability = np.where(total > 0, sums[1, :rows, :width] / total, np.float32(np.nan))
            deviation = np.where(total > 0, sums[2, :rows, :width] / total, np.float32(np.nan))
        filled = np.where(total > 0, fills[:rows], np.float32(np.nan))
        yield Strip(top, probability.clip(0, 1), deviation, filled)
        # What the next row of windows overlaps moves to the top.
        kept = sums[:, rows:].copy()
        sums[:] = 0
        sums[:, : kept.shape[1]] = kept


def _fitting(size: int, window: int) -> int:
    """Return the window's side: no larger than the raster needs, but with room for any decoder."""
    return min(window, max(128, -(-size // 32) * 32))


def _starts(size: int, window: int, overlap: int) -> list[int]:
    step = window - overlap
    return [0, *range(step, max(1, size - overlap), step)] if size > window else [0]


def predict_array(
    members: Sequence[Member], array: Floats, *, window: int = 1024, overlap: int = 128
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
            lambda first, last: array[:, first:last],
            (height, width),
            window=window,
            overlap=overlap,
        )
    )
    return Strip(
        0,
        np.concatenate([strip.probability for strip in strips]),
        np.concatenate([strip.disagreement for strip in strips]),
        np.concatenate([strip.filled for strip in strips]),
    )


def quantised(strip: Strip) -> NDArray[np.uint16]:
    """Return a strip as stored: ten-thousandths, 65535 for nodata, shape (3, rows, x)."""
    values = np.stack([strip.probability, strip.disagreement, strip.filled])
    with np.errstate(invalid="ignore"):
        whole = np.rint(values / np.float32(SCALE))
    return np.where(np.isfinite(values), whole, NODATA).astype("uint16")


def write_strips(
    path: Path,
    strips: Iterator[Strip],
    grid: GeoBox,
    tags: dict[str, str],
    *,
    may_be_empty: bool = False,
) -> dict[str, float]:
    """Write a map as a Cloud Optimized GeoTIFF, strip by strip, atomically.

    The tags are written last: what making the strips finds out may be among them.

    Returns
    -------
    dict
        pixels, nodata_pixels, mean_probability, filled_share.

    Raises
    ------
    DataError
        No pixel has a value, and the map may not be empty.
    StorageError
        The disk is full or not writable; an older map stays as it was.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy
    from rasterio.windows import Window

    from thawslump.errors import StorageError
    from thawslump.files import atomic

    height, width = grid.shape
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": 3,
        "height": height,
        "width": width,
        "crs": grid.crs.to_wkt(),
        "transform": grid.transform,
        "nodata": NODATA,
        "bigtiff": "IF_SAFER",
    }
    sums = np.zeros(4)
    # Cached blocks of GDAL would otherwise grow with the raster, up to a share of all memory.
    with atomic(path) as temporary, rasterio.Env(GDAL_CACHEMAX=64):
        plain = temporary.with_suffix(".plain.tif")
        try:
            with rasterio.open(plain, "w", **profile) as target:
                target.descriptions = ("probability", "disagreement", "filled")
                target.units = ("1", "1", "1")
                target.scales = (SCALE,) * 3
                target.offsets = (0.0,) * 3
                for strip in strips:
                    whole = quantised(strip)
                    target.write(whole, window=Window(0, strip.row, width, whole.shape[1]))
                    there = np.isfinite(strip.probability)
                    sums += (
                        there.size,
                        there.sum(),
                        np.nansum(strip.probability, dtype="float64"),
                        np.nansum(strip.filled, dtype="float64"),
                    )
                target.update_tags(**tags)
            if not sums[1] and not may_be_empty:
                raise DataError(
                    f"{path} would be empty: the stack has no valid pixel in the models' bands.",
                    hint="Look at the tile: its windows may hold no clear image. Export it again.",
                )
            copy(
                plain,
                temporary,
                driver="COG",
                compress="ZSTD",
                predictor=2,
                blocksize=512,
                overviews="AUTO",
                resampling="average",
                bigtiff="IF_SAFER",
            )
        except RasterioError as error:
            raise StorageError(
                f"{path} could not be written: {error}. What was there before is unchanged.",
                hint="The disk is probably full or not writable; free space and start again.",
            ) from error
        finally:
            plain.unlink(missing_ok=True)
    pixels, valid, probability, filled = sums
    return {
        "pixels": int(pixels),
        "nodata_pixels": int(pixels - valid),
        "mean_probability": round(float(probability / max(valid, 1)), 6),
        "filled_share": round(float(filled / max(valid, 1)), 6),
    }


class Unseen:
    """Counts the pixels whose class no training site had, row of windows by row of windows.

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
        self._count = np.zeros(len(bands), dtype="int64")
        self._pixels = 0
        self._next = 0

    def look(self, array: Floats, first: int) -> None:
        """Count the rows of an array that begins at row `first`; rows seen before do not count."""
        fresh = array[:, max(0, self._next - first) :]
        self._count += unseen(fresh, self._classes)
        self._pixels += fresh[0].size
        self._next = max(self._next, first + array.shape[1])

    @property
    def shares(self) -> dict[str, float]:
        """Share of all pixels seen so far, for the bands that have such classes."""
        return {
            band: round(int(count) / self._pixels, 6)
            for band, count in zip(self.bands, self._count, strict=True)
            if count
        }


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Map one site with the ensemble (target of the step ``predict``).

    Inputs: the stack, the ensemble's item.json, then model.safetensors and item.json of each
    member; of a part of a large area also the stacks of its neighbours. Output: the map.
    """
    from trainer.segmentation.ensemble import load_members
    from trainer.segmentation.places import Place
    from trainer.segmentation.train import reproducible

    settings = item.settings
    stack, ensemble = item.inputs[0], item.inputs[1]
    bands, members = load_members(ensemble, settings["members"])
    part = settings.get("part")
    place = (
        Place(stack)
        if part is None
        else Place(stack, workspace.stack(part["mosaic"]), part["around"])
    )
    height = place.shape[0]

    strange = Unseen(bands, members)

    def read(first: int, last: int) -> Floats:
        progress(first / height, f"row {first} of {height}")
        array = place.read(bands, first, last)
        strange.look(array, first)
        tags["unseen_classes"] = json.dumps(strange.shares)
        return array

    tags = {
        "made_up": "yes" if settings["made_up"] else "no",
        "members": ", ".join(settings["members"]),
        "threshold": repr(settings["threshold"]),
        "software": "thawslump trainer.segmentation.predict",
    }
    with reproducible(0, settings["threads"]):
        strips = predict_strips(
            members, read, place.shape, window=settings["window"], overlap=settings["overlap"]
        )
        # Parts of an area may be sea, or lie where no image was taken.
        facts: dict[str, float | int | str] = {
            **write_strips(
                item.outputs[0],
                place.own(strips),
                place.grid,
                tags,
                may_be_empty=part is not None,
            )
        }
    # A name of its own for each band: facts are numbers and words.
    facts.update({f"unseen_{band}": share for band, share in strange.shares.items()})
    return facts
