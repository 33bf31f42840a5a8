"""Decoded blocks of the files of a catalogue, kept within a number of bytes."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError

__all__ = ["BLOCK", "GDAL_CACHE", "Blocks", "limit_gdal"]

Array = NDArray[Any]

BLOCK = 512  # side of the tiles inside the files, and of the blocks in the cache
GDAL_CACHE = 64 * 2**20  # bytes


@functools.cache
def limit_gdal() -> None:
    """Bound GDAL's own cache of this process, by default a share of all memory.

    It would keep a second copy of every block. Who sets GDAL_CACHEMAX is obeyed.
    """
    if "GDAL_CACHEMAX" not in os.environ:
        from rasterio.env import set_gdal_config

        set_gdal_config("GDAL_CACHEMAX", GDAL_CACHE)


class Blocks:
    """Decoded blocks of files in least-recently-used order, bounded by their bytes."""

    def __init__(self, limit: int, handles: int = 64) -> None:
        self.limit = limit
        self.used = 0
        self._blocks: OrderedDict[tuple[str, int, int, int], Array] = OrderedDict()
        self._handles: OrderedDict[str, Handle] = OrderedDict()
        self._max_handles = handles
        self._lock = threading.Lock()

    def window(self, path: str, index: int, window: tuple[int, int, int, int]) -> Array:
        """Return rows and columns of band `index` (from 0) of a file, read-only."""
        row0, row1, col0, col1 = window
        rows = range(row0 // BLOCK, (row1 - 1) // BLOCK + 1)
        cols = range(col0 // BLOCK, (col1 - 1) // BLOCK + 1)
        if len(rows) == 1 and len(cols) == 1:
            i, j = rows[0], cols[0]
            block = self._block(path, index, i, j)
            y, x = i * BLOCK, j * BLOCK
            return block[row0 - y : row1 - y, col0 - x : col1 - x]
        out: Array | None = None
        for i in rows:
            for j in cols:
                block = self._block(path, index, i, j)
                if out is None:
                    out = np.empty((row1 - row0, col1 - col0), block.dtype)
                y, x = i * BLOCK, j * BLOCK
                r0, r1 = max(row0, y), min(row1, y + BLOCK)
                c0, c1 = max(col0, x), min(col1, x + BLOCK)
                out[r0 - row0 : r1 - row0, c0 - col0 : c1 - col0] = block[
                    r0 - y : r1 - y, c0 - x : c1 - x
                ]
        assert out is not None
        out.setflags(write=False)
        return out

    def _block(self, path: str, index: int, i: int, j: int) -> Array:
        key = (path, index, i, j)
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
        block = self._handle(path).read(index, i, j)
        block.setflags(write=False)
        with self._lock:
            if key not in self._blocks and block.nbytes <= self.limit:
                self._blocks[key] = block
                self.used += block.nbytes
                while self.used > self.limit:
                    _, old = self._blocks.popitem(last=False)
                    self.used -= old.nbytes
        return block

    def _handle(self, path: str) -> Handle:
        with self._lock:
            handle = self._handles.get(path)
            if handle is None:
                handle = self._handles[path] = _handle_of(path)
                closing = [
                    self._handles.popitem(last=False)[1]
                    for _ in range(len(self._handles) - self._max_handles)
                ]
            else:
                self._handles.move_to_end(path)
                closing = []
        for old in closing:
            old.close()
        return handle

    def forget(self, folder: str) -> None:
        """Drop what was read from a folder whose asset was replaced or deleted."""
        prefix = folder + "/"
        with self._lock:
            for key in [key for key in self._blocks if key[0].startswith(prefix)]:
                self.used -= self._blocks.pop(key).nbytes
            closing = [
                self._handles.pop(path) for path in list(self._handles) if path.startswith(prefix)
            ]
        for handle in closing:
            handle.close()


def _handle_of(path: str) -> Handle:
    if "\x00" not in path:
        return Handle(path)
    from .references import ReferenceHandle

    return ReferenceHandle(path)  # type: ignore[return-value]  # it has the same methods


class Handle:
    """One open file; GDAL data sets must not be read by two threads at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._dataset: Any = None

    def read(self, index: int, i: int, j: int) -> Array:
        import rasterio
        from rasterio.windows import Window

        with self._lock:
            try:
                if self._dataset is None:
                    limit_gdal()
                    self._dataset = rasterio.open(self._path, driver="GTiff", sharing=False)
                source = self._dataset
                height = min(BLOCK, source.height - i * BLOCK)
                width = min(BLOCK, source.width - j * BLOCK)
                window = Window(j * BLOCK, i * BLOCK, width, height)
                block: Array = source.read(index + 1, window=window)
            except (rasterio.errors.RasterioError, IndexError, ValueError) as error:
                raise DataError(
                    f"{self._path} cannot be read ({error}).",
                    hint="The file is missing or damaged: ingest the asset again.",
                ) from error
            return block

    def close(self) -> None:
        with self._lock:
            if self._dataset is not None:
                self._dataset.close()
                self._dataset = None
