"""Rasters on disk: Cloud Optimized GeoTIFFs with named bands on one pinned grid."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from thawslump.errors import DataError, StorageError, nearest
from thawslump.files import atomic

__all__ = ["Raster", "grid_of", "open_raster", "read", "read_float", "write_cog"]


@dataclass(frozen=True)
class Raster:
    """An array with its grid.

    Attributes
    ----------
    array : ndarray, shape (band, y, x)
    grid : GeoBox
        CRS, affine transform and shape of `array`.
    names : tuple of str
        One per band.
    nodata : float or None
        NaN for a raster from `read_float`.
    """

    array: NDArray[Any]
    grid: GeoBox
    names: tuple[str, ...]
    nodata: float | None

    def band(self, name: str) -> NDArray[Any]:
        """Return one band, shape (y, x)."""
        if name not in self.names:
            raise DataError(
                f"There is no band {name!r}; there are {', '.join(self.names)}."
                + nearest(name, self.names)
            )
        return self.array[self.names.index(name)]


_BLOCK = 512  # pixels a side of the blocks of a file
_STRIP = 64 * 2**20  # bytes that are written at a time


def _cache(array: NDArray[Any]) -> int:
    """Return the bytes that GDAL may hold: its default is a share of the machine's memory."""
    # Two rows of blocks, or every strip would be read again for each block that it crosses.
    bands, _, cols = array.shape
    # rasterio takes bytes, where GDAL's own option takes megabytes.
    return max(256 * 2**20, 2 * _BLOCK * cols * bands * array.dtype.itemsize)


def _strips(array: NDArray[Any]) -> Iterator[Window]:
    """Yield parts of full width, from top to bottom."""
    # A large array lies in a file, and need not come to memory whole. Whole rows: the COG driver
    # makes overviews of a file in blocks three times as slowly.
    bands, rows, cols = array.shape
    height = max(1, _STRIP // max(1, bands * cols * array.dtype.itemsize))
    for top in range(0, rows, height):
        yield Window(0, top, cols, min(height, rows - top))


def _release(array: NDArray[Any]) -> None:
    # Pages of a shared mapping stay with the kernel, which writes them; this process drops them.
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def open_raster(path: Path) -> rasterio.io.DatasetReader:
    """Open a raster, and say in plain words where that fails.

    Raises
    ------
    DataError
        The file is missing, is no raster or is truncated.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", hint="Check the path.")
    try:
        return rasterio.open(path)
    except RasterioIOError as error:
        raise DataError(
            f"{path} could not be opened as a raster: {error}.",
            hint="The file may be truncated or of another kind; fetch or export it again.",
        ) from error


def _band_names(source: rasterio.io.DatasetReader) -> tuple[str, ...]:
    return tuple(name or f"band{i + 1}" for i, name in enumerate(source.descriptions))


def _grid(source: rasterio.io.DatasetReader, path: Path) -> GeoBox:
    if source.crs is None:
        raise DataError(
            f"{path} has no CRS.",
            hint=f"Say which one it is in, for example: gdal_edit.py -a_srs EPSG:32652 {path.name}",
        )
    return GeoBox(
        source.shape,
        source.transform,
        source.crs.to_wkt() if source.crs.to_epsg() is None else f"EPSG:{source.crs.to_epsg()}",
    )


def _moved(t: Affine, window: Window) -> Affine:
    col, row = window.col_off, window.row_off
    return Affine(t.a, t.b, t.c + t.a * col + t.b * row, t.d, t.e, t.f + t.d * col + t.e * row)


def grid_of(path: Path) -> GeoBox:
    """Return the grid of a raster file.

    Raises
    ------
    DataError
        No such file, no raster, or no CRS.
    """
    with open_raster(path) as source:
        return _grid(source, Path(path))


def read(path: Path, bands: Sequence[str] | None = None, window: Window | None = None) -> Raster:
    """Read bands by name, as stored.

    Parameters
    ----------
    path : Path
    bands : sequence of str, optional
        Band descriptions; all bands where not given.
    window : rasterio Window, optional

    Returns
    -------
    Raster
        In the file's data type; scale and offset are not applied.

    Raises
    ------
    DataError
        The file is missing, truncated or without a CRS, or a band is not in it.
    """
    path = Path(path)
    with open_raster(path) as source:
        names = _band_names(source)
        wanted = tuple(bands) if bands is not None else names
        for name in wanted:
            if name not in names:
                raise DataError(
                    f"{path} has no band {name!r}; it has {', '.join(names)}."
                    + nearest(name, names),
                    hint="Export or import the tile again with that band, or leave the band out.",
                )
        grid = _grid(source, path)
        try:
            array = source.read([names.index(name) + 1 for name in wanted], window=window)
        except RasterioError as error:
            raise DataError(
                f"{path} is damaged: {error}.",
                hint="The file is probably truncated; fetch or export it again.",
            ) from error
        if window is not None:
            grid = GeoBox(array.shape[1:], _moved(grid.transform, window), grid.crs)
        return Raster(array, grid, wanted, source.nodata)


def read_float(
    path: Path, bands: Sequence[str] | None = None, window: Window | None = None
) -> Raster:
    """Read bands as float32 with nodata as NaN and scale and offset applied.

    Takes, returns and raises what `read` does.
    """
    raw = read(path, bands, window)
    with open_raster(path) as source:
        names = _band_names(source)
        index = [names.index(name) for name in raw.names]
        scales = np.array([source.scales[i] for i in index], dtype="float32")
        offsets = np.array([source.offsets[i] for i in index], dtype="float32")
    array = raw.array.astype("float32")
    if raw.nodata is not None and not np.isnan(raw.nodata):
        array[raw.array == raw.nodata] = np.nan
    if (scales != 1).any() or (offsets != 0).any():
        array = array * scales[:, None, None] + offsets[:, None, None]
    return Raster(array, raw.grid, raw.names, float("nan"))


def write_cog(
    path: Path,
    array: NDArray[Any],
    grid: GeoBox,
    names: Sequence[str],
    *,
    nodata: float | None,
    units: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    scales: Sequence[float] | None = None,
    offsets: Sequence[float] | None = None,
    tags: Mapping[str, str] | None = None,
    categorical: bool = False,
) -> None:
    """Write a Cloud Optimized GeoTIFF, atomically and with equal bytes for equal input.

    Parameters
    ----------
    path : Path
    array : ndarray, shape (band, y, x)
    grid : GeoBox
        Its shape must be that of the bands.
    names : sequence of str
        One per band.
    nodata : float or None
    units, sources : sequence of str, optional
        One per band; `sources` is kept as the band tag ``source``.
    scales, offsets : sequence of float, optional
        Physical value = stored value * scale + offset.
    tags : mapping, optional
        Written to the dataset.
    categorical : bool
        Overviews take the nearest value instead of the average.

    Raises
    ------
    DataError
        Shapes or counts do not fit together.
    StorageError
        The disk is full or not writable; an older file stays as it was.
    """
    path = Path(path)
    if array.ndim != 3 or array.shape[1:] != tuple(grid.shape) or len(names) != array.shape[0]:
        raise DataError(
            f"{path}: an array of shape {array.shape} with {len(names)} band names "
            f"does not fit a grid of {tuple(grid.shape)}.",
            hint="Pass (band, y, x) with one name per band.",
        )
    profile = {
        "driver": "GTiff",
        "dtype": array.dtype.name,
        "count": array.shape[0],
        "height": array.shape[1],
        "width": array.shape[2],
        "crs": grid.crs.to_wkt(),
        "transform": grid.transform,
        "nodata": nodata,
        "bigtiff": "IF_SAFER",
    }
    predictor = 3 if array.dtype.kind == "f" else 2
    with atomic(path) as temporary:
        plain = temporary.with_suffix(".plain.tif")
        try:
            with rasterio.open(plain, "w", **profile) as target:
                for window in _strips(array):
                    target.write(np.asarray(array[:, *window.toslices()]), window=window)
                    _release(array)
                target.descriptions = tuple(names)
                if units is not None:
                    target.units = tuple(units)
                if scales is not None:
                    target.scales = tuple(scales)
                if offsets is not None:
                    target.offsets = tuple(offsets)
                if tags:
                    target.update_tags(**tags)
                for index, source in enumerate(sources or (), start=1):
                    target.update_tags(index, source=source)
            with rasterio.Env(GDAL_CACHEMAX=_cache(array)):
                copy_raster(
                    plain,
                    temporary,
                    driver="COG",
                    compress="ZSTD",
                    predictor=predictor,
                    blocksize=_BLOCK,
                    overviews="AUTO",
                    resampling="nearest" if categorical else "average",
                    bigtiff="IF_SAFER",
                )
        except RasterioError as error:
            # GDAL reports a full disk as an error of its own, without errno.
            raise StorageError(
                f"{path} could not be written: {error}. What was there before is unchanged.",
                hint="The disk is probably full or not writable; free space and start again.",
            ) from error
        finally:
            plain.unlink(missing_ok=True)
