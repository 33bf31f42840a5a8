"""Training crops from tiles: scaled, packed on one device, cut and turned there in one gather."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thawslump.bands import BANDS
from thawslump.errors import DataError
from thawslump.grid import same_grid
from thawslump.raster import grid_of, open_raster, read, read_float

__all__ = [
    "IGNORE",
    "Chips",
    "Classes",
    "Scaling",
    "Tile",
    "channels_of",
    "expand",
    "fit_scaling",
    "looked_at",
    "read_reviewed",
    "read_tile",
    "scale",
    "unseen",
]

IGNORE = 255
"""Label of a pixel that nobody looked at: it counts in no loss and no score."""

MOST_CLASSES = 64
"""A band of class numbers with more values than this is none, or was resampled as if it were."""


@dataclass(frozen=True)
class Classes:
    """The classes of one band on the training pixels; each becomes a channel of the model.

    Attributes
    ----------
    values : tuple of int
        Class numbers, rising.
    shares : tuple of float
        Share of the training pixels that have a value, one per class; they add up to 1.
    """

    values: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Scaling:
    """How the bands of a stack become the input channels of a model, from the training pixels.

    Attributes
    ----------
    bands : tuple of str
        In the order of the model's input.
    mean, std : tuple of float
        One per band, in the band's unit; 0 and 1 for a band of classes.
    classes : tuple of Classes or None
        One per band, None for numbers and for masks; empty where no band has classes.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[Classes | None, ...] = ()

    @property
    def channels(self) -> int:
        """Number of input channels of the model."""
        return channels_of(len(self.bands), self.classes)


@dataclass(frozen=True)
class Tile:
    """A stack with its labels.

    Attributes
    ----------
    name : str
    array : ndarray of float32, shape (band, y, x)
        NaN where a band is missing.
    labels : ndarray of uint8, shape (y, x)
        1 slump, 0 not, 255 not looked at.
    reviewed : bool
        Only places that reviewers decided on are labelled (an area of an earlier round).
    soft : ndarray of float32, shape (y, x), optional
        Share of the experts who drew a pixel, 0 to 1; NaN not looked at.
    """

    name: str
    array: NDArray[np.float32]
    labels: NDArray[np.uint8]
    reviewed: bool = False
    soft: NDArray[np.float32] | None = None

    @property
    def filled(self) -> float:
        """Share of values that are missing, among pixels that have any band."""
        missing = ~np.isfinite(self.array)
        some = ~missing.all(axis=0)
        return float(missing[:, some].mean()) if some.any() else 1.0


def read_tile(
    stack: Path, labels: Path, bands: Sequence[str], *, name: str, reviewed: bool = False
) -> Tile:
    """Read a stack and its labels.

    Parameters
    ----------
    stack : Path
        GeoTIFF with named bands; one that is absent is missing everywhere.
    labels : Path
        GeoTIFF, uint8, on the grid of `stack`.
    bands : sequence of str
    name : str
    reviewed : bool

    Returns
    -------
    Tile

    Raises
    ------
    DataError
        The grids differ, a label is none of 0, 1, 255, or none of the bands is there.
    """
    return Tile(name, read_bands(stack, bands), _marks(stack, labels), reviewed)


def read_reviewed(
    stack: Path, labels: Path, bands: Sequence[str], *, name: str, margin: int
) -> list[Tile]:
    """Read an area of which only some places were looked at: those, where it is large.

    Parameters
    ----------
    stack, labels, bands, name
        As for `read_tile`.
    margin : int
        Pixels around the places that are read too, at least: the side of a crop.

    Returns
    -------
    list of Tile
        The whole area where it has up to 4 million pixels; else rectangles that do not overlap.
        None where it has none of the bands: a part of an area may lack what the others have.

    Raises
    ------
    DataError
        As `read_tile`.
    """
    from rasterio.windows import Window

    rows, columns = grid_of(stack).shape
    if not set(bands) & set(band_names(stack)):
        return []
    if rows * columns <= _WHOLE:
        return [read_tile(stack, labels, bands, name=name, reviewed=True)]
    marks = _marks(stack, labels)
    return [
        Tile(
            name,
            read_bands(stack, bands, Window(left, top, right - left, bottom - top)),
            marks[top:bottom, left:right],
            reviewed=True,
        )
        for top, left, bottom, right in looked_at(marks != IGNORE, margin)
    ]


_WHOLE = 4_000_000  # pixels of an area that is read as it is


def looked_at(mask: NDArray[np.bool_], margin: int) -> list[tuple[int, int, int, int]]:
    """Return rectangles around marked pixels, with a margin, none of them overlapping.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
    margin : int
        Pixels around every marked one that are in its rectangle, as far as the raster goes.

    Returns
    -------
    list of (top, left, bottom, right)

    Examples
    --------
    >>> mask = np.zeros((100, 100), bool); mask[5, 5] = mask[90, 90] = True
    >>> looked_at(mask, 10)
    [(0, 0, 20, 20), (80, 80, 100, 100)]
    """
    from scipy import ndimage

    height, width = mask.shape
    tops, lefts = np.arange(0, height, margin), np.arange(0, width, margin)
    cells = np.logical_or.reduceat(np.logical_or.reduceat(mask, tops, axis=0), lefts, axis=1)
    square = np.ones((3, 3), dtype=bool)
    groups, _ = ndimage.label(ndimage.binary_dilation(cells, square), square)
    boxes = [
        (rows.start, columns.start, rows.stop, columns.stop)
        for rows, columns in ndimage.find_objects(groups)
    ]
    # A pixel in two rectangles would be drawn twice as often.
    merged = True
    while merged:
        merged = False
        for i, a in enumerate(boxes):
            over = [b for b in boxes[i + 1 :] if _overlap(a, b)]
            if over:
                kept = [b for b in boxes if b != a and b not in over]
                edges = np.array([a, *over])
                low, high = edges.min(axis=0), edges.max(axis=0)
                boxes = [*kept, (int(low[0]), int(low[1]), int(high[2]), int(high[3]))]
                merged = True
                break
    return sorted(
        (t * margin, l * margin, min(b * margin, height), min(r * margin, width))
        for t, l, b, r in boxes
    )


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _marks(stack: Path, labels: Path) -> NDArray[np.uint8]:
    """Read labels, verified."""
    if not same_grid(grid_of(stack), grid_of(labels)):
        raise DataError(
            f"{labels} is not on the grid of {stack}.",
            hint="Run `thawslump run --until labels` again; it rasterises onto the stack's grid.",
        )
    marks = read(labels).array[0]
    strange = np.setdiff1d(np.unique(marks), [0, 1, IGNORE])
    if strange.size:
        raise DataError(
            f"{labels} holds the value {strange[0]}; labels are 0, 1 and {IGNORE} (not looked at)."
        )
    return marks.astype("uint8")


def read_bands(stack: Path, bands: Sequence[str], window: Any = None) -> NDArray[np.float32]:
    """Read bands as float32; nodata and bands that the file does not have are NaN.

    Returns
    -------
    ndarray of float32, shape (band, y, x)

    Raises
    ------
    DataError
        The file has none of the bands.
    """
    there = band_names(stack)
    held = [band for band in bands if band in there]
    if not held:
        raise DataError(
            f"{stack} has none of the bands {', '.join(bands)}; it has {', '.join(there)}.",
            hint="Export the tile again, or train on bands that all tiles have.",
        )
    found = read_float(stack, held, window).array
    if len(held) == len(bands):
        return found
    array = np.full((len(bands), *found.shape[1:]), np.nan, dtype="float32")
    array[[list(bands).index(band) for band in held]] = found
    return array


def band_names(stack: Path) -> tuple[str, ...]:
    """Return the band descriptions of a raster."""
    with open_raster(stack) as source:
        return tuple(name or f"band{i + 1}" for i, name in enumerate(source.descriptions))


def channels_of(bands: int, classes: Sequence[Classes | None] = ()) -> int:
    """Return how many channels some bands become.

    Examples
    --------
    >>> channels_of(3, (None, Classes((2, 5), (0.5, 0.5)), None))
    4
    """
    return bands + sum(len(each.values) - 1 for each in classes if each is not None)


def fit_scaling(arrays: Iterable[NDArray[np.floating[Any]]], bands: Sequence[str]) -> Scaling:
    """Return mean and standard deviation, or the classes, of each band over all finite pixels.

    Which bands hold classes, and which of those are masks, `thawslump.bands.BANDS` says; bands it
    does not know are numbers.

    Parameters
    ----------
    arrays : iterable of ndarray, shape (band, y, x)
        Training tiles; NaN and infinite values do not count.
    bands : sequence of str

    Returns
    -------
    Scaling
        A band without variation gets a standard deviation of 1, and so does a mask: rare layover
        would else be the loudest of all inputs.

    Raises
    ------
    DataError
        A band is missing in every tile, or one of classes holds no class numbers.

    Examples
    --------
    >>> fit_scaling([np.array([[[0.0, 2.0, np.nan]]])], ["dNDVI"])
    Scaling(bands=('dNDVI',), mean=(1.0,), std=(1.0,), classes=())
    >>> fit_scaling([np.array([[[5.0, 7.0, 7.0, 7.0]]])], ["CART_LC_classified"]).classes
    (Classes(values=(5, 7), shares=(0.25, 0.75)),)
    """
    count = np.zeros(len(bands))
    mean = np.zeros(len(bands))
    squares = np.zeros(len(bands))
    found: list[dict[int, int]] = [{} for _ in bands]
    classed = [_has_classes(band) for band in bands]
    for array in arrays:
        for i, band in enumerate(array):
            values = band[np.isfinite(band)].astype("float64")
            if not values.size:
                continue
            if classed[i]:
                _count_classes(found[i], values, bands[i])
                count[i] += values.size
                continue
            # Chan's update: combining tiles loses no digits, unlike a sum of squares.
            here = values.mean()
            total = count[i] + values.size
            step = here - mean[i]
            squares[i] += ((values - here) ** 2).sum() + step**2 * count[i] * values.size / total
            mean[i] += step * values.size / total
            count[i] = total
    if not count.all():
        empty = [band for band, n in zip(bands, count, strict=True) if not n]
        raise DataError(
            f"Band {', '.join(empty)} has no valid pixel in any training site.",
            hint="Train on a setting without it, or export the training sites again.",
        )
    std = np.sqrt(squares / count)
    plain = [name in BANDS and BANDS[name].categorical for name in bands]
    std[(std == 0) | plain] = 1.0
    classes = tuple(
        Classes(tuple(sorted(each)), tuple(each[value] / int(n) for value in sorted(each)))
        if is_class
        else None
        for each, n, is_class in zip(found, count, classed, strict=True)
    )
    return Scaling(
        tuple(bands),
        tuple(map(float, mean)),
        tuple(map(float, std)),
        classes if any(classed) else (),
    )


def _has_classes(band: str) -> bool:
    known = BANDS.get(band)
    return known is not None and known.categorical and not known.mask


def _count_classes(found: dict[int, int], values: NDArray[np.float64], band: str) -> None:
    numbers, counts = np.unique(values, return_counts=True)
    odd = numbers[numbers != np.rint(numbers)]
    if odd.size:
        raise DataError(
            f"Band {band} holds {odd[0]:g}; its values are class numbers, so whole numbers.",
            hint="Resample it by the nearest value, never by means, and import or export it again.",
        )
    for number, n in zip(numbers, counts, strict=True):
        found[int(number)] = found.get(int(number), 0) + int(n)
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"Band {band} holds more than {MOST_CLASSES} different values; it should hold classes.",
            hint="Give it another name if it is a measurement; classes have few numbers.",
        )


def scale(
    array: NDArray[np.floating[Any]],
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[Classes | None] = (),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale bands to training mean 0 and deviation 1, missing values becoming 0.

    Parameters
    ----------
    array : ndarray, shape (band, y, x)
        Missing values are NaN or infinite.
    mean, std : sequence of float
        One per band.
    classes : sequence of Classes or None, optional
        One per band: in a band that has them, the first becomes 1, the second 2 and so on
        (`expand` makes channels of them); a class that was not seen in training becomes 0.

    Returns
    -------
    scaled : ndarray of float32, shape (band, y, x)
        Finite everywhere; a missing value is 0, the training mean.
    filled : ndarray of float32, shape (y, x)
        Share of bands that were missing; a pixel is nodata only where it is 1.

    Examples
    --------
    >>> scaled, filled = scale(np.array([[[3.0, np.nan]], [[1.0, 5.0]]]), [1, 1], [2, 1])
    >>> scaled.tolist(), filled.tolist()
    ([[[1.0, 0.0]], [[0.0, 4.0]]], [[0.0, 0.5]])
    """
    there = np.isfinite(array)
    centre = np.asarray(mean, dtype="float32")[:, None, None]
    width = np.asarray(std, dtype="float32")[:, None, None]
    scaled = np.where(there, (array - centre) / width, np.float32(0)).astype("float32", copy=False)
    for band, each in enumerate(classes):
        if each is not None:
            scaled[band] = _positions(array[band], each)
    filled = 1 - there.mean(axis=0, dtype="float32")
    return scaled, filled.astype("float32", copy=False)


def _positions(band: NDArray[np.floating[Any]], classes: Classes) -> NDArray[np.float32]:
    """Return 1 for the first class, 2 for the second ..., 0 where missing or not seen before."""
    values = np.asarray(classes.values, dtype="float64")
    place = np.searchsorted(values, band).clip(max=len(values) - 1)
    return np.where(values[place] == band, place + 1, 0).astype("float32")


def expand(scaled: Tensor, classes: Sequence[Classes | None], *, dim: int) -> Tensor:
    """Make channels of the bands of classes: one per class, 1 where it is, less its share.

    A pixel whose class is missing or was not seen in training has the training mean in all of
    them, 0, like any missing band.

    Parameters
    ----------
    scaled : Tensor of float32
        From `scale`; bands along `dim`.
    classes : sequence of Classes or None
        One per band; the same tensor comes back where it is empty.
    dim : int

    Returns
    -------
    Tensor of float32
        Channels in the order of the bands, those of a band in the order of its classes.

    Examples
    --------
    >>> positions = torch.tensor([[[1.0, 2.0, 0.0]]])
    >>> expand(positions, (Classes((4, 9), (0.25, 0.75)),), dim=0).tolist()
    [[[0.75, -0.25, 0.0]], [[-0.75, 0.25, 0.0]]]
    """
    if not any(each is not None for each in classes):
        return scaled
    channels = []
    for band, each in enumerate(classes):
        values = scaled.select(dim, band)
        if each is None:
            channels.append(values)
            continue
        known = values > 0
        for position, share in enumerate(each.shares, start=1):
            channels.append(torch.where(known, (values == position).float() - share, 0.0))
    return torch.stack(channels, dim=dim)


def unseen(
    array: NDArray[np.floating[Any]], classes: Sequence[Classes | None]
) -> NDArray[np.int64]:
    """Return how many pixels of each band have a class that was not seen in training.

    Parameters
    ----------
    array : ndarray, shape (band, y, x)
    classes : sequence of Classes or None

    Returns
    -------
    ndarray of int64, shape (band,)
        0 for bands of numbers.

    Examples
    --------
    >>> unseen(np.array([[[4.0, 5.0, np.nan]]]), (Classes((4,), (1.0,)),)).tolist()
    [1]
    """
    count = np.zeros(len(array), dtype="int64")
    for band, each in enumerate(classes):
        if each is not None:
            there = np.isfinite(array[band])
            count[band] = np.count_nonzero(there & ~np.isin(array[band], each.values))
    return count


class Chips:
    """Tiles packed into one tensor per device, from which random crops are gathered.

    Parameters
    ----------
    tiles : sequence of Tile
    scaling : Scaling
    crop : int
        Side of a crop in pixels. Smaller tiles are padded with the mean and ignored labels.
    device : torch.device or str

    Attributes
    ----------
    positives, rejected : Tensor of int64, shape (n, 3)
        (tile, row, column) of the slump pixels, and of the pixels that reviewers rejected.

    Raises
    ------
    DataError
        No tile has a slump pixel, or only some of them have soft labels.

    Notes
    -----
    Pixels lie band-last, so that a crop with its quarter turn and mirror is one gather of whole
    rows and comes out in the channels-last layout that convolutions are fastest in.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        scaling: Scaling,
        crop: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.crop = crop
        self.classes = scaling.classes
        hard = [tile.name for tile in tiles if tile.soft is None]
        if hard and len(hard) < len(tiles):
            raise DataError(
                f"{', '.join(hard)} has no soft labels, other training sites have.",
                hint="Train on soft labels of all sites, or on the hard ones of all.",
            )
        pixels, labels, shapes = [], [], []
        positives: list[NDArray[np.int64]] = []
        rejected: list[NDArray[np.int64]] = []
        for index, tile in enumerate(tiles):
            scaled, filled = scale(tile.array, scaling.mean, scaling.std, scaling.classes)
            marks = np.where(filled == 1, np.uint8(IGNORE), tile.labels)
            pad = [(0, max(0, crop - side)) for side in marks.shape]
            scaled = np.pad(scaled, [(0, 0), *pad])
            marks = np.pad(marks, pad, constant_values=IGNORE)
            positives.append(_places(index, marks == 1))
            if tile.reviewed:
                rejected.append(_places(index, marks == 0))
            shapes.append(marks.shape)
            pixels.append(np.moveaxis(scaled, 0, -1).reshape(-1, len(scaling.bands)))
            labels.append(_targets(marks, tile.soft).ravel())
        sizes = [height * width for height, width in shapes]
        self.pixels = torch.from_numpy(np.concatenate(pixels)).to(device)
        self.labels = torch.from_numpy(np.concatenate(labels)).to(device)
        self.shapes = torch.tensor(shapes, device=device)
        self.offsets = torch.tensor(np.cumsum([0, *sizes[:-1]]), device=device)
        self.positives = torch.from_numpy(np.concatenate(positives)).to(device)
        none = np.zeros((0, 3), dtype="int64")
        self.rejected = torch.from_numpy(np.concatenate([none, *rejected])).to(device)
        if not len(self.positives):
            raise DataError(
                f"No slump pixel in the {len(tiles)} training sites "
                f"({', '.join(tile.name for tile in tiles)}).",
                hint="Import outlines for them (`thawslump inventory import`), "
                "or check that the outlines lie inside the sites.",
            )
        self._turns = _turns(crop).to(device)
        # A class or a mask is what it is: gain and offset are for measurements.
        measured = [not (name in BANDS and BANDS[name].categorical) for name in scaling.bands]
        self._measured = torch.tensor(measured, dtype=torch.float32, device=device)

    def draw(
        self,
        generator: torch.Generator,
        batch: int,
        *,
        flips: bool = True,
        jitter: float = 0.0,
        background: float = 0.0,
        rejected: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw random crops, each turned by a random number of quarters.

        Parameters
        ----------
        generator : torch.Generator
            On the device of the tiles.
        batch : int
        flips : bool
            Mirror half of the crops.
        jitter : float
            Standard deviation of a random gain (around 1) and offset (around 0) of each measured
            band of each crop, in units of the scaled band; classes and masks stay as they are.
        background, rejected : float
            Shares of crops around any pixel, and around a place that reviewers rejected. All
            others hold at least one slump pixel.

        Returns
        -------
        images : Tensor of float32, shape (batch, channel, crop, crop)
            Channels-last in memory; more channels than bands where bands have classes.
        labels : Tensor of uint8, shape (batch, crop, crop)
            Of float32 where the tiles have soft labels; 255 where nobody looked, too.
        """
        device = self.pixels.device
        kind, which, row, column, turn = torch.rand(5, batch, generator=generator, device=device)
        place = self.positives[_pick(which, len(self.positives))]
        if len(self.rejected) and rejected > 0:
            other = self.rejected[_pick(which, len(self.rejected))]
            place = torch.where((kind < rejected)[:, None], other, place)
        if background > 0:
            flat = _pick(which, len(self.labels))
            tile = torch.searchsorted(self.offsets, flat, right=True) - 1
            inside = flat - self.offsets[tile]
            columns = self.shapes[tile, 1]
            other = torch.stack([tile, inside // columns, inside % columns], dim=1)
            place = torch.where((kind >= 1 - background)[:, None], other, place)
        tile, size = place[:, 0], self.crop
        space = self.shapes[tile] - size
        shift = torch.stack([_pick(row, size), _pick(column, size)], dim=1)
        # The crop may lie anywhere around the chosen pixel, as far as the tile allows.
        start = torch.minimum((place[:, 1:] - shift).clamp(min=0), space)
        turns = self._turns[_pick(turn, 8 if flips else 4)]
        rows = start[:, 0, None, None] + turns[:, 0]
        columns = start[:, 1, None, None] + turns[:, 1]
        index = self.offsets[tile, None, None] + rows * self.shapes[tile, 1, None, None] + columns
        images = self.pixels[index]
        if jitter > 0:
            shape = (2, batch, 1, 1, images.shape[-1])
            noise = jitter * torch.randn(shape, generator=generator, device=device)
            gain, offset = noise * self._measured
            images = images * (1 + gain) + offset
        images = expand(images, self.classes, dim=3)
        return images.permute(0, 3, 1, 2), self.labels[index]


def _targets(marks: NDArray[np.uint8], soft: NDArray[np.float32] | None) -> NDArray[Any]:
    """Return what is learned: the labels, or the soft ones where both were looked at."""
    if soft is None:
        return marks
    targets = np.full(marks.shape, np.float32(IGNORE))
    rows, columns = soft.shape  # the marks may be padded
    inside = np.s_[:rows, :columns]
    seen = (marks[inside] != IGNORE) & np.isfinite(soft)
    targets[inside][seen] = soft[seen]
    return targets


def _places(tile: int, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows, columns = np.nonzero(mask)
    return np.stack([np.full_like(rows, tile), rows, columns], axis=1)


def _pick(uniform: Tensor, count: int) -> Tensor:
    """Turn numbers in [0, 1) into indices below `count`."""
    # float32 has 2^24 steps: enough for places to crop around, and equal on every device.
    return (uniform.double() * count).long().clamp(max=count - 1)


def _turns(size: int) -> Tensor:
    """Return the rows and columns of a square under its 8 symmetries, shape (8, 2, size, size)."""
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    square = np.stack([rows, columns])
    plain = [np.rot90(square, k, axes=(1, 2)) for k in range(4)]
    mirrored = [turned[:, :, ::-1] for turned in plain]
    return torch.from_numpy(np.stack(plain + mirrored))
