"""Windows of rasters that stay open, so that a neighbour's chip costs no second reading."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.windows import Window

from thawslump.errors import DataError
from thawslump.raster import open_raster

__all__ = ["Kept", "OpenRaster", "Rasters", "to_crs"]

Value = TypeVar("Value")
_OPEN = 12
_WINDOWS = 48
_MAXIMUM = 768
_local = threading.local()


def to_crs(crs: str) -> Transformer:
    """Return the transformation from longitude and latitude; made once per thread and CRS."""
    known = _local.__dict__.setdefault("transformers", {})
    if crs not in known:
        known[crs] = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return known[crs]


class Kept(Generic[Value]):
    """The values that were asked for last, by key; safe between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Any, Value] = OrderedDict()

    def get(self, key: Any) -> Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Any, value: Value) -> list[Value]:
        """Keep a value; return those that had to go."""
        gone = []
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                gone.append(self._values.popitem(last=False)[1])
        return gone

    def take_all(self) -> list[Value]:
        """Return every value and keep none."""
        with self._lock:
            values = list(self._values.values())
            self._values.clear()
        return values


class OpenRaster:
    """One open file: its grid, its bands, its windows.

    Attributes
    ----------
    names : tuple of str
    transform : Affine
    crs : str
        WKT.
    shape : (int, int)
    place : tuple
        Equal for files on one grid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = open_raster(path)
        if self._source.crs is None:
            self._source.close()
            raise DataError(f"{path} has no CRS.", hint="Export or import the tile again.")
        # GDAL datasets must not be read by two threads at once.
        self._lock = threading.Lock()
        self._windows: Kept[NDArray[np.float32]] = Kept(_WINDOWS)
        self.names = tuple(name or "" for name in self._source.descriptions)
        self.transform: Affine = self._source.transform
        self.crs: str = self._source.crs.to_wkt()
        self.shape: tuple[int, int] = self._source.shape
        self.place = (self.shape, tuple(round(v, 6) for v in self.transform[:6]), self.crs)
        self._nodata = self._source.nodata
        self._scales = np.array(self._source.scales, dtype="float32")[:, None, None]
        self._offsets = np.array(self._source.offsets, dtype="float32")[:, None, None]

    def square(
        self, names: tuple[str, ...], column: int, row: int, side: int
    ) -> NDArray[np.float32]:
        """Return bands in a square of pixels that may reach beyond the raster.

        Parameters
        ----------
        names : tuple of str
        column, row, side : int
            In pixels of the file. Sides above 768 pixels are read more coarsely.

        Returns
        -------
        ndarray of float32, shape (band, y, x)
            Scale and offset applied; NaN for nodata and beyond the raster.
        """
        key = (column, row, side)
        every = self._windows.get(key)
        if every is None:
            every = self._square(column, row, side)
            self._windows.put(key, every)
        return every[[self.names.index(name) for name in names]]

    def _square(self, column: int, row: int, side: int) -> NDArray[np.float32]:
        height, width = self.shape
        row0, row1 = max(0, row), min(height, row + side)
        column0, column1 = max(0, column), min(width, column + side)
        step = max(1, -(-side // _MAXIMUM))
        size = -(-side // step)
        out = np.full((len(self.names), size, size), np.nan, dtype="float32")
        if row0 >= row1 or column0 >= column1:
            return out
        shape = (-(-(row1 - row0) // step), -(-(column1 - column0) // step))
        window = Window(column0, row0, column1 - column0, row1 - row0)
        values = self._floats(window=window, out_shape=(len(self.names), *shape))
        top, left = (row0 - row) // step, (column0 - column) // step
        rows, columns = min(shape[0], size - top), min(shape[1], size - left)
        out[:, top : top + rows, left : left + columns] = values[:, :rows, :columns]
        return out

    def overview(self, names: tuple[str, ...], size: int = 512) -> NDArray[np.float32]:
        """Return bands of the whole raster with at most `size` pixels a side."""
        scale = max(1.0, max(self.shape) / size)
        shape = tuple(max(1, int(n / scale)) for n in self.shape)
        values = self._floats(out_shape=(len(self.names), *shape))
        return values[[self.names.index(name) for name in names]]

    def _floats(self, **options: Any) -> NDArray[np.float32]:
        with self._lock:
            if self._source.closed:
                # It had to make room while this reader still held it.
                with open_raster(self._path) as source:
                    raw = source.read(**options)
            else:
                raw = self._source.read(**options)
        values = raw.astype("float32")
        if self._nodata is not None and not np.isnan(self._nodata):
            values[raw == self._nodata] = np.nan
        return np.asarray(values * self._scales + self._offsets)

    def close(self) -> None:
        """Close the file; a reader that still holds this object opens it for itself."""
        with self._lock:
            self._source.close()


class Rasters:
    """Open files by path; a file that was replaced is opened anew."""

    def __init__(self) -> None:
        self._open: Kept[OpenRaster] = Kept(_OPEN)

    def get(self, path: Path) -> OpenRaster | None:
        """Return an open raster, None where there is no such file."""
        stamp = self.stamp(path)
        if stamp is None:
            return None
        known = self._open.get((path, stamp))
        if known is None:
            known = OpenRaster(path)
            for gone in self._open.put((path, stamp), known):
                gone.close()
        return known

    def close(self) -> None:
        """Close all files."""
        for source in self._open.take_all():
            source.close()

    @staticmethod
    def stamp(path: Path) -> str | None:
        """Return a word that changes when the file does, None where there is none."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return f"{found.st_mtime_ns:x}.{found.st_size:x}"
