"""Natural breaks, and susceptibility maps drawn by windows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError, StorageError
from thawslump.files import atomic

if TYPE_CHECKING:
    from rasterio.windows import Window

__all__ = [
    "BANDS",
    "LEVELS",
    "NODATA",
    "Breaks",
    "Classifier",
    "classify",
    "draw",
    "natural_breaks",
    "quantise",
    "to_cog",
    "write_classes",
]

NODATA = 65535
LEVELS = 10_000  # steps of the stored probability: 0 is 0, 10000 is 1
WINDOW = 512
BANDS = ("probability", "disagreement", "outside")


class Classifier(Protocol):
    """Anything that gives a probability for each row of features."""

    def predict_proba(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return shape (n, 2): no slump, slump."""
        ...


@dataclass(frozen=True)
class Breaks:
    """Class limits by natural breaks.

    Attributes
    ----------
    upper : tuple of float
        Largest value of each class, ascending; the last is the largest value of all.
    fit : float
        Goodness of variance fit: 1 - variance within classes / variance of all.
    """

    upper: tuple[float, ...]
    fit: float


def natural_breaks(
    values: NDArray[np.float64], weights: NDArray[np.float64], classes: int
) -> Breaks:
    """Split values into classes with the least variance within them (Fisher-Jenks, exact).

    Dynamic programming over the distinct values: O(classes n^2) time, O(classes n) memory.
    Give a histogram (a few thousand bins) for anything large; the result is then exact to the
    bin.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Distinct and ascending.
    weights : ndarray of float64, shape (n,)
        How often each occurs; at least 0.
    classes : int
        Lowered to the number of values that occur.

    Returns
    -------
    Breaks

    Raises
    ------
    DataError
        No value occurs, or the values do not ascend.

    References
    ----------
    Fisher 1958, On grouping for maximum homogeneity; Jenks 1977.

    Examples
    --------
    >>> natural_breaks(np.array([1.0, 2.0, 8.0, 9.0]), np.ones(4), 2).upper
    (2.0, 9.0)
    """
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if np.any(np.diff(values) <= 0):
        raise DataError("Natural breaks were given values that do not ascend; sort them first.")
    occurs = weights > 0
    values, weights = values[occurs], weights[occurs]
    count = values.size
    if count == 0:
        raise DataError("Natural breaks were given no value: the map holds no valid cell.")
    classes = min(classes, count)
    # Centred: the sums of squares below cancel less.
    centred = values - np.average(values, weights=weights)
    mass = np.r_[0.0, np.cumsum(weights)]
    first = np.r_[0.0, np.cumsum(weights * centred)]
    second = np.r_[0.0, np.cumsum(weights * centred**2)]

    def within(start: NDArray[np.int64], stop: int) -> NDArray[np.float64]:
        """Sum of squared deviations of values[start:stop], for many starts."""
        moment = first[stop] - first[start]
        return second[stop] - second[start] - moment**2 / (mass[stop] - mass[start])

    # best[j]: least sum for the first j values in the classes so far.
    best = np.r_[0.0, [float(within(np.array([0]), stop)[0]) for stop in range(1, count + 1)]]
    cuts = np.zeros((classes, count + 1), np.int64)
    for number in range(1, classes):
        improved = np.full(count + 1, np.inf)
        for stop in range(number + 1, count + 1):
            starts = np.arange(number, stop)
            total = best[number:stop] + within(starts, stop)
            chosen = int(np.argmin(total))
            improved[stop], cuts[number, stop] = total[chosen], starts[chosen]
        best = improved
    upper: list[float] = []
    stop = count
    for number in range(classes - 1, -1, -1):
        upper.append(float(values[stop - 1]))
        stop = int(cuts[number, stop])
    spread = second[-1] - first[-1] ** 2 / mass[-1]
    fit = 1.0 if spread <= 0 else float(1.0 - best[count] / spread)
    return Breaks(tuple(reversed(upper)), fit)


def classify(values: NDArray[Any], upper: Sequence[float]) -> NDArray[np.uint16]:
    """Return the class of each value, 1 for the lowest.

    A value equal to an upper limit belongs to the class it limits; values above the last limit
    belong to the last class.

    Examples
    --------
    >>> classify(np.array([0.1, 0.2, 0.3, 0.9]), [0.2, 0.5]).tolist()
    [1, 1, 2, 2]
    """
    return (np.searchsorted(np.asarray(upper[:-1]), values, side="left") + 1).astype(np.uint16)


def quantise(probability: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Return probabilities as whole steps of 0.0001, 65535 where not valid.

    Examples
    --------
    >>> quantise(np.array([0.5, 1.0, 0.2]), np.array([True, True, False])).tolist()
    [5000, 10000, 65535]
    """
    steps = np.rint(np.clip(probability, 0.0, 1.0) * LEVELS)
    return np.where(valid, np.nan_to_num(steps), NODATA).astype(np.uint16)


def windows(height: int, width: int, size: int = WINDOW) -> Iterator[Window]:
    """Yield windows that cover a raster, row by row, none larger than `size`."""
    from rasterio.windows import Window

    for row in range(0, height, size):
        for column in range(0, width, size):
            yield Window(column, row, min(size, width - column), min(size, height - row))


def draw(
    target: Path,
    profile: Mapping[str, Any],
    read: Callable[[Window], NDArray[np.float32]],
    say: Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], ...]],
    design: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    step: Callable[[float], None],
    tags: Mapping[str, str],
    size: int = WINDOW,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Write the map of a model as a Cloud Optimized GeoTIFF, by windows.

    A cell is nodata only where all factors are missing; the model fills single missing ones.

    Parameters
    ----------
    target : Path
        Bands probability and disagreement (uint16, scale 0.0001) and outside (1 where the ground
        is unlike what the model learned from), nodata 65535; atomic.
    profile : mapping
        crs, transform, width and height of the raster.
    read : callable
        Window to factors, float32 (band, y, x), NaN where missing.
    say : callable
        Features (cells, features) to three arrays (cells,): probability, disagreement of the base
        models, and 1 outside of the area of applicability; NaN where there is none.
    design : callable
        Factors (band, y, x) to features (cells, features).
    step : callable
        Told the share that is done.
    tags : mapping
        Metadata of the file.
    size : int
        Edge of a window in cells.

    Returns
    -------
    histogram : ndarray of int64, shape (10001,)
        Cells by stored probability.
    counts : dict
        Cells: "valid", "filled" (at least one feature missing), "outside".
    """
    import rasterio
    import rasterio.shutil

    height, width = int(profile["height"]), int(profile["width"])
    histogram = np.zeros(LEVELS + 1, np.int64)
    counts = {"valid": 0, "filled": 0, "outside": 0}
    scratch = target.with_name(f".{target.name}.scratch.tif")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _writing(target), rasterio.open(scratch, "w", **_scratch(profile, len(BANDS))) as raster:
        raster.descriptions = BANDS
        raster.scales = (1.0 / LEVELS, 1.0 / LEVELS, 1.0)
        raster.units = ("1",) * len(BANDS)
        raster.update_tags(**tags)
        parts = list(windows(height, width, size))
        for number, window in enumerate(parts):
            factors = read(window)
            valid = np.asarray(~np.isnan(factors).all(axis=0))
            stored = np.full((len(BANDS), *valid.shape), NODATA, np.uint16)
            if valid.any():
                features = design(factors)[valid.ravel()]
                counts["filled"] += int(np.isnan(features).any(axis=1).sum())
                probability, disagreement, outside = say(features)
                for band, values in enumerate((probability, disagreement, outside / LEVELS)):
                    stored[band][valid] = quantise(values, ~np.isnan(values))
                counts["outside"] += int((stored[2][valid] == 1).sum())
            counts["valid"] += int(valid.sum())
            histogram += np.bincount(stored[0][valid], minlength=LEVELS + 1)
            raster.write(stored, window=window)
            step((number + 1) / len(parts))
    with atomic(target) as temporary, _writing(target):
        to_cog(scratch, temporary)
    scratch.unlink()
    return histogram, counts


def to_cog(source: Path, target: Path) -> None:
    """Copy a raster of probabilities or classes into a Cloud Optimized GeoTIFF."""
    import rasterio.shutil

    rasterio.shutil.copy(
        source,
        target,
        driver="COG",
        compress="ZSTD",
        predictor=2,
        blocksize=WINDOW,
        overviews="AUTO",
        # A mean of classes would be no class.
        resampling="NEAREST",
        BIGTIFF="IF_SAFER",
    )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """GDAL reports a full disk as an error of its own, without errno."""
    from rasterio.errors import RasterioError

    try:
        yield
    except RasterioError as error:
        raise StorageError(
            f"{path} could not be written: {error}. What was there before is unchanged.",
            hint="The disk is probably full or not writable; free space and start again.",
        ) from error


def _scratch(profile: Mapping[str, Any], count: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "count": count,
        "dtype": "uint16",
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": WINDOW,
        "blockysize": WINDOW,
        "BIGTIFF": "IF_SAFER",
        **{key: profile[key] for key in ("crs", "transform", "width", "height")},
    }


def write_classes(
    source: Path, target: Path, upper: Sequence[float], tags: Mapping[str, str]
) -> NDArray[np.int64]:
    """Write the classes of a probability map as a Cloud Optimized GeoTIFF.

    Parameters
    ----------
    source : Path
        As `draw` wrote it.
    target : Path
        Band class (uint8; 1 lowest, nodata 0) with a colour table; atomic.
    upper : sequence of float
        Largest probability of each class.
    tags : mapping
        Metadata of the file.

    Returns
    -------
    ndarray of int64, shape (classes,)
        Cells of each class.
    """
    import rasterio

    counts = np.zeros(len(upper), np.int64)
    steps = np.rint(np.asarray(upper) * LEVELS)
    scratch = target.with_name(f".{target.name}.scratch.tif")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _writing(target), rasterio.open(source) as held:
        profile = {**_scratch(held.profile, 1), "dtype": "uint8", "nodata": 0}
        with rasterio.open(scratch, "w", **profile) as raster:
            raster.descriptions = ("class",)
            raster.update_tags(**tags)
            for window in windows(held.height, held.width):
                stored = held.read(1, window=window)
                valid = stored != NODATA
                classes = np.where(valid, classify(stored, steps), 0).astype(np.uint8)
                counts += np.bincount(classes[valid] - 1, minlength=len(upper))
                raster.write(classes, 1, window=window)
    with atomic(target) as temporary, _writing(target):
        to_cog(scratch, temporary)
    scratch.unlink()
    return counts
