"""Susceptibility maps drawn by windows."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import StorageError
from thawslump.files import atomic, write_text
from trainer.susceptibility.legend import class_colours, class_words
from trainer.susceptibility.tally import Tally

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.windows import Window

__all__ = [
    "BANDS",
    "LEVELS",
    "NODATA",
    "classify",
    "draw",
    "join",
    "names_of_classes",
    "parts",
    "quantise",
    "stored",
    "threads_given",
    "to_cog",
    "windows",
    "write_classes",
    "write_spread",
]

NODATA = 65535
LEVELS = 10_000  # steps of the stored probability: 0 is 0, 10000 is 1
WINDOW = 512
BANDS = ("probability", "disagreement", "outside")
_AT_ONCE = 65_536  # cells that a model is asked for at a time, so that many threads hold little
_CACHE = 128 * 2**20  # bytes that GDAL may hold: its default is a share of the memory


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


def parts(height: int, width: int, edge: int) -> dict[str, tuple[int, int, int, int]]:
    """Return the parts of a map that are drawn each by itself, by name.

    Parameters
    ----------
    height, width : int
        Of the raster, in cells.
    edge : int
        Of a part at most.

    Returns
    -------
    dict of str to (column, row, width, height)
        Their edges lie on those of the file's tiles where `edge` leaves room for that; one part
        for a raster that is no larger.

    Examples
    --------
    >>> parts(700, 1200, 1024)
    {'r0-c0': (0, 0, 1024, 700), 'r0-c1024': (1024, 0, 176, 700)}
    """

    def step(length: int) -> int:
        if length <= edge:
            return max(1, length)
        return edge // WINDOW * WINDOW or edge

    high, wide = step(height), step(width)
    return {
        f"r{row}-c{column}": (column, row, min(wide, width - column), min(high, height - row))
        for row in range(0, height, high)
        for column in range(0, width, wide)
    }


def stored(
    factors: NDArray[np.float32],
    design: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    say: Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], ...]],
) -> tuple[NDArray[np.uint16], dict[str, int]]:
    """Return what a map holds for a window of factors.

    A cell is nodata only where all factors are missing; the model fills single missing ones.

    Parameters
    ----------
    factors : ndarray of float32, shape (band, y, x)
        NaN where missing.
    design : callable
        Factors of the cells that have any, (band, cells), to features (cells, features).
    say : callable
        Features to three arrays (cells,): probability, spread of the members, and 1 outside of
        the area of applicability; NaN where there is none.

    Returns
    -------
    ndarray of uint16, shape (3, y, x)
        Bands as in `BANDS`; nodata 65535.
    dict
        Cells: "valid", "filled" (at least one feature missing), "outside".
    """
    valid = np.asarray(~np.isnan(factors).all(axis=0))
    bands = np.full((len(BANDS), *valid.shape), NODATA, np.uint16)
    counts = {"valid": int(valid.sum()), "filled": 0, "outside": 0}
    cells = factors[:, valid]
    held = np.empty((len(BANDS), counts["valid"]), np.uint16)
    for first in range(0, counts["valid"], _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        features = design(cells[:, part])
        counts["filled"] += int(np.isnan(features).any(axis=1).sum())
        probability, spread, outside = say(features)
        for band, values in enumerate((probability, spread, outside / LEVELS)):
            held[band, part] = quantise(values, ~np.isnan(values))
    bands[:, valid] = held
    counts["outside"] = int((held[2] == 1).sum())
    return bands, counts


def draw(
    target: Path,
    profile: Mapping[str, Any],
    read: Callable[[Window], Any],
    work: Callable[[Any, Window], tuple[NDArray[np.uint16], Tally]],
    step: Callable[[float], None],
    tags: Mapping[str, str],
    *,
    members: bool = True,
    part: Window | None = None,
    size: int = WINDOW,
    threads: int = 1,
) -> Tally:
    """Draw the map of a model, or a part of it, by windows into a tiled GeoTIFF.

    One thread reads ahead while others ask the model; memory holds a few windows, whatever the
    size of the raster. `join` makes the map of one or many parts.

    Parameters
    ----------
    target : Path
        Bands probability and disagreement (uint16, scale 0.0001) and outside (1 where the ground
        is unlike what the model learned from), nodata 65535; atomic.
    profile : mapping
        crs, transform, width and height of the whole raster.
    read : callable
        Window of the whole raster to what `work` takes, such as its factors; called from a
        thread of its own.
    work : callable
        What was read of a window, and the window, to bands (`stored`) and their tally; called from
        `threads` threads.
    step : callable
        Told the share that is done.
    tags : mapping
        Metadata of the file.
    members : bool
        Whether the model has any whose spread the second band holds; its description says so.
    part : rasterio Window, optional
        What to draw; all where not given.
    size : int
        Edge of a window in cells.
    threads : int
        Windows worked on at the same time.

    Returns
    -------
    Tally
        Sum over the windows.
    """
    import rasterio
    from rasterio.windows import Window
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    whole = part or Window(0, 0, int(profile["width"]), int(profile["height"]))
    left, top = int(whole.col_off), int(whole.row_off)
    tally = Tally.none()
    local = list(windows(int(whole.height), int(whole.width), size))
    asked = [Window(w.col_off + left, w.row_off + top, w.width, w.height) for w in local]
    done = 0
    with (
        atomic(target) as temporary,
        _writing(target),
        # Threads of a library below ours would only wait for each other.
        threadpool_limits(1),
        rasterio.Env(GDAL_CACHEMAX=_CACHE),
        rasterio.open(temporary, "w", **_tiled(profile, whole, len(BANDS))) as raster,
    ):
        _describe(raster, members, tags)
        for window, (bands, found) in zip(
            local, _streamed(read, work, asked, threads), strict=True
        ):
            raster.write(bands, window=window)
            tally = tally + found
            done += 1
            step(done / len(local))
    return tally


def _streamed(
    read: Callable[[Any], Any],
    work: Callable[[Any, Any], Any],
    asked: Sequence[Any],
    threads: int,
) -> Iterator[Any]:
    """Yield the work on each window, in order; a few are read and worked on ahead."""
    if not asked:
        return
    # Reading a window takes a fiftieth of the time that a stacked model needs for it.
    ahead = 2 + threads // 8
    with (
        ThreadPoolExecutor(1, thread_name_prefix="read") as reader,
        ThreadPoolExecutor(threads, "map", _one_thread) as workers,
    ):
        reading = [reader.submit(read, window) for window in asked[:ahead]]
        working: list[Future[Any]] = []
        for number, window in enumerate(asked):
            factors = reading.pop(0).result()
            if number + ahead < len(asked):
                reading.append(reader.submit(read, asked[number + ahead]))
            working.append(workers.submit(work, factors, window))
            del factors
            if len(working) > threads:
                yield working.pop(0).result()
        for each in working:
            yield each.result()


def _one_thread() -> None:
    # Of torch each thread has its own number; without torch there is nothing to hold back.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _describe(raster: Any, members: bool, tags: Mapping[str, str]) -> None:
    raster.descriptions = BANDS
    raster.scales = (1.0 / LEVELS, 1.0 / LEVELS, 1.0)
    raster.units = ("1",) * len(BANDS)
    raster.update_tags(**tags)
    spread = "standard deviation of what the members of the model say"
    none = "nodata: the model has no members whose spread could be given"
    for band, words in enumerate(
        (
            "probability of a slump",
            spread if members else none,
            "1 where the ground is unlike what the model learned from, else 0",
        ),
        start=1,
    ):
        raster.update_tags(band, meaning=words)


def join(parts: Sequence[Path], target: Path, grid: GeoBox) -> None:
    """Put the parts of a map together as a Cloud Optimized GeoTIFF, atomically.

    Parameters
    ----------
    parts : sequence of Path
        As `draw` wrote them.
    target : Path
    grid : GeoBox
        Of the whole map.
    """
    import rasterio

    from thawslump.mosaic import write_vrt

    source = parts[0]
    virtual = target.with_name(f".{target.name}.parts.vrt")
    with rasterio.open(parts[0]) as first:
        tags, meanings = first.tags(), [first.tags(band) for band in first.indexes]
    if len(parts) > 1:
        write_vrt(virtual, parts, grid)
        source = virtual
        with rasterio.open(source, "r+") as whole:
            whole.update_tags(**{k: v for k, v in tags.items() if k != "AREA_OR_POINT"})
            for band, each in zip(whole.indexes, meanings, strict=True):
                whole.update_tags(band, **each)
    try:
        with atomic(target) as temporary, _writing(target):
            to_cog(source, temporary, "AVERAGE")
    finally:
        virtual.unlink(missing_ok=True)


def to_cog(source: Path, target: Path, resampling: str = "NEAREST") -> None:
    """Copy a raster of probabilities or classes into a Cloud Optimized GeoTIFF.

    Parameters
    ----------
    source, target : Path
    resampling : str
        Of the overviews: a mean of classes would be no class.
    """
    import rasterio
    import rasterio.shutil

    with rasterio.Env(GDAL_CACHEMAX=_CACHE, GDAL_NUM_THREADS=str(threads_given())):
        rasterio.shutil.copy(
            source,
            target,
            driver="COG",
            compress="ZSTD",
            predictor=2,
            blocksize=WINDOW,
            overviews="AUTO",
            resampling=resampling,
            BIGTIFF="IF_SAFER",
        )


def threads_given() -> int:
    """Return how many threads a worker may use: its share of the machine, or all of it alone."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said):
        return int(said)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def _tiled(profile: Mapping[str, Any], window: Any, count: int) -> dict[str, Any]:
    """Return the profile of a plain tiled file of a part of a raster."""
    t = profile["transform"]
    column, row = int(window.col_off), int(window.row_off)
    moved = type(t)(
        t.a, t.b, t.c + t.a * column + t.b * row, t.d, t.e, t.f + t.d * column + t.e * row
    )
    return {
        "driver": "GTiff",
        "count": count,
        "dtype": "uint16",
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": WINDOW,
        "blockysize": WINDOW,
        "BIGTIFF": "IF_SAFER",
        "compress": "ZSTD",
        "zstd_level": 1,
        "predictor": 2,
        "interleave": "band",
        "crs": profile["crs"],
        "transform": moved,
        "width": int(window.width),
        "height": int(window.height),
    }


def write_classes(
    source: Path, target: Path, upper: Sequence[float], tags: Mapping[str, str]
) -> NDArray[np.int64]:
    """Write the classes of a probability map as a Cloud Optimized GeoTIFF.

    Parameters
    ----------
    source : Path
        As `join` wrote it.
    target : Path
        Band class (uint8; 1 lowest, nodata 0) with a colour table; atomic. The names of the
        classes, which the format has no place for, are written beside it (``.aux.xml``), where
        GDAL and QGIS look for them.
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
    words = class_words(len(upper))
    limits = [0.0, *upper[:-1]], upper
    scratch = target.with_name(f".{target.name}.scratch.tif")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _writing(target), rasterio.open(source) as held:
        whole = next(windows(held.height, held.width, max(held.height, held.width)))
        profile = {**_tiled(held.profile, whole, 1), "dtype": "uint8", "nodata": 0}
        profile["predictor"] = 1
        with rasterio.Env(GDAL_CACHEMAX=_CACHE), rasterio.open(scratch, "w", **profile) as raster:
            raster.descriptions = ("class",)
            raster.write_colormap(1, _colours(len(upper)))
            raster.update_tags(**tags)
            raster.update_tags(
                1,
                **{
                    f"class_{number}": f"{word}: {low:.4f} to {high:.4f}"
                    for number, (word, low, high) in enumerate(
                        zip(words, *limits, strict=True), start=1
                    )
                },
            )
            for window in windows(held.height, held.width, 4 * WINDOW):
                values = held.read(1, window=window)
                valid = values != NODATA
                classes = np.where(valid, classify(values, steps), 0).astype(np.uint8)
                counts += np.bincount(classes[valid] - 1, minlength=len(upper))
                raster.write(classes, 1, window=window)
    with atomic(target) as temporary, _writing(target):
        to_cog(scratch, temporary)
    scratch.unlink()
    _name_classes(target, words)
    return counts


def write_spread(maps: Sequence[Path], target: Path, tags: Mapping[str, str]) -> None:
    """Write mean and standard deviation of the probabilities of several models' maps.

    Parameters
    ----------
    maps : sequence of Path
        On one grid, as `join` wrote them.
    target : Path
        Cloud Optimized GeoTIFF, bands mean and spread (uint16, scale 0.0001, nodata 65535);
        atomic.
    tags : mapping
        Metadata of the file.
    """
    import rasterio

    scratch = target.with_name(f".{target.name}.scratch.tif")
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_writing(target))
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE))
        held = [stack.enter_context(rasterio.open(path)) for path in maps]
        whole = next(windows(held[0].height, held[0].width, max(held[0].height, held[0].width)))
        raster = stack.enter_context(
            rasterio.open(scratch, "w", **_tiled(held[0].profile, whole, 2))
        )
        raster.descriptions = ("mean", "spread")
        raster.scales = (1.0 / LEVELS,) * 2
        raster.units = ("1",) * 2
        raster.update_tags(**tags)
        raster.update_tags(1, meaning="mean of the models' probabilities of a slump")
        raster.update_tags(2, meaning="standard deviation between the models")
        for window in windows(held[0].height, held[0].width, 2 * WINDOW):
            said = np.stack([each.read(1, window=window) for each in held]).astype(np.float32)
            valid = (said != NODATA).all(axis=0)
            said /= LEVELS
            raster.write(
                np.stack(
                    [
                        quantise(each.astype(np.float64), valid)
                        for each in (said.mean(0), said.std(0))
                    ]
                ),
                window=window,
            )
    with atomic(target) as temporary, _writing(target):
        to_cog(scratch, temporary, "AVERAGE")
    scratch.unlink()


def names_of_classes(path: Path) -> Path:
    """Return the file beside a class map that holds the names of its classes."""
    return path.with_name(path.name + ".aux.xml")


def _name_classes(path: Path, words: Sequence[str]) -> None:
    named = "\n".join(f"      <Category>{word}</Category>" for word in ("nodata", *words))
    write_text(
        names_of_classes(path),
        f"""<PAMDataset>
  <PAMRasterBand band="1">
    <CategoryNames>
{named}
    </CategoryNames>
  </PAMRasterBand>
</PAMDataset>
""",
    )


def _colours(count: int) -> dict[int, tuple[int, int, int, int]]:
    table = {
        number: (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16), 255)
        for number, c in enumerate(class_colours(count), start=1)
    }
    return {0: (0, 0, 0, 0), **table}
