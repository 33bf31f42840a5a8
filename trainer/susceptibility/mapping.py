"""Natural breaks, and susceptibility maps drawn by windows."""

from __future__ import annotations

import contextlib
import shutil
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
    "LEVELS",
    "NODATA",
    "Breaks",
    "Classifier",
    "classify",
    "draw_probability",
    "natural_breaks",
    "quantise",
    "write_map",
]

NODATA = 65535
LEVELS = 10_000  # steps of the stored probability: 0 is 0, 10000 is 1
WINDOW = 512


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


def draw_probability(
    target: Path,
    profile: Mapping[str, Any],
    read: Callable[[Window], NDArray[np.float32]],
    classifier: Classifier,
    design: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    step: Callable[[float], None],
    size: int = WINDOW,
) -> tuple[NDArray[np.int64], int]:
    """Write the probability of every cell into band 1 of a scratch GeoTIFF, by windows.

    A cell is nodata only where all factors are missing; the model fills single missing ones.

    Parameters
    ----------
    target : Path
        The scratch file; band 2 stays empty for the class.
    profile : mapping
        crs, transform, width and height of the raster.
    read : callable
        Window to factors, float32 (band, y, x), NaN where missing.
    classifier : Classifier
    design : callable
        Factors (band, y, x) to features (cells, features).
    step : callable
        Told the share that is done.
    size : int
        Edge of a window in cells.

    Returns
    -------
    histogram : ndarray of int64, shape (10001,)
        Cells by stored probability.
    filled : int
        Valid cells with at least one feature missing.
    """
    import rasterio

    height, width = int(profile["height"]), int(profile["width"])
    histogram = np.zeros(LEVELS + 1, np.int64)
    filled = 0
    with _writing(target), rasterio.open(target, "w", **_scratch(profile)) as raster:
        parts = list(windows(height, width, size))
        for number, window in enumerate(parts):
            factors = read(window)
            valid = np.asarray(~np.isnan(factors).all(axis=0))
            probability = np.zeros(valid.shape, np.float64)
            if valid.any():
                features = design(factors)[valid.ravel()]
                filled += int(np.isnan(features).any(axis=1).sum())
                probability[valid] = classifier.predict_proba(features)[:, 1]
            stored = quantise(probability, valid)
            histogram += np.bincount(stored[valid], minlength=LEVELS + 1)
            raster.write(stored, 1, window=window)
            step((number + 1) / len(parts))
    return histogram, filled


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


def _scratch(profile: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "count": 2,
        "dtype": "uint16",
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": WINDOW,
        "blockysize": WINDOW,
        "BIGTIFF": "IF_SAFER",
        **{key: profile[key] for key in ("crs", "transform", "width", "height")},
    }


def write_map(
    scratch: Path, target: Path, upper: Sequence[float], tags: Mapping[str, str]
) -> NDArray[np.int64]:
    """Add the class band to a scratch map and write it as a Cloud Optimized GeoTIFF.

    Parameters
    ----------
    scratch : Path
        As `draw_probability` wrote it; removed afterwards.
    target : Path
        Bands probability (uint16, scale 0.0001) and class (1 .. n), nodata 65535; atomic.
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
    import rasterio.shutil

    counts = np.zeros(len(upper), np.int64)
    steps = np.rint(np.asarray(upper) * LEVELS)
    with _writing(scratch), rasterio.open(scratch, "r+") as raster:
        for window in windows(raster.height, raster.width):
            stored = raster.read(1, window=window)
            valid = stored != NODATA
            classes = np.where(valid, classify(stored, steps), NODATA).astype(np.uint16)
            counts += np.bincount(classes[valid] - 1, minlength=len(upper))
            raster.write(classes, 2, window=window)
        raster.descriptions = ("probability", "class")
        raster.scales = (1.0 / LEVELS, 1.0)
        raster.units = ("1", "1")
        raster.update_tags(**tags)
    with atomic(target) as temporary, _writing(target):
        rasterio.shutil.copy(
            scratch,
            temporary,
            driver="COG",
            compress="ZSTD",
            predictor=2,
            blocksize=WINDOW,
            overviews="AUTO",
            # One method for both bands: a mean of classes would be no class.
            resampling="NEAREST",
            BIGTIFF="IF_SAFER",
        )
    scratch.unlink()
    return counts


def clear_folder(folder: Path) -> Path:
    """Return an empty folder; what a killed run left there is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
