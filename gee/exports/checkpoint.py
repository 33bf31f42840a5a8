"""Finished tiles on disk beside the output, so that no kill costs more than those under way."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gee.exports.plan import Tile
from thawslump.files import storage_errors, write_json

__all__ = ["Checkpoint", "canvas", "clear", "release"]

# Above this an assembled file lies in a file of the checkpoint instead of in memory.
_IN_MEMORY = 512 * 2**20


class Checkpoint:
    """Finished tiles of one product, of whatever sizes they were asked for.

    A file's name holds the place of the tile and the checksum of its content, so a half-written
    or damaged one is seen, thrown away and fetched again. The folder's name holds a digest of
    everything that determines the pixels: what was computed for other settings is never taken
    over. The folder is listed once.

    Parameters
    ----------
    folder : Path
    identity : str
        Digest of expression, grid and settings.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / identity[:16]
        self._files = {path.name.split(".")[0]: path for path in self.folder.glob("*.*.npy")}

    def tiles(self) -> Iterator[Tile]:
        """Yield the places of the tiles that lie there, whole or damaged."""
        for stem in list(self._files):
            parts = stem.split("_")
            if len(parts) == 4 and all(part.isdigit() for part in parts):
                yield Tile(*(int(part) for part in parts))

    def load(self, tile: Tile, bands: int, dtype: str) -> NDArray[Any] | None:
        """Return a kept tile, shape (band, y, x), or None."""
        path = self._files.get(_stem(tile))
        if path is None:
            return None
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:16] == path.name.split(".")[1]:
            array = np.load(io.BytesIO(data), allow_pickle=False)
            if array.shape == (bands, tile.height, tile.width) and array.dtype == dtype:
                return np.asarray(array)
        path.unlink(missing_ok=True)
        return None

    def keep(self, tile: Tile, array: NDArray[Any]) -> None:
        """Write a tile; whole or not at all."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getbuffer()
        path = self.folder / f"{_stem(tile)}.{hashlib.sha256(data).hexdigest()[:16]}.npy"
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_bytes(data)
            temporary.replace(path)

    def learnt(self) -> tuple[int, str] | None:
        """Return the side of tiles that the service could compute, and what it said of others."""
        try:
            found = json.loads((self.folder / "learnt.json").read_text(encoding="utf-8"))
            return int(found["side"]), str(found["words"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def learn(self, side: int, words: str) -> None:
        """Remember that larger tiles than `side` are too much for the service."""
        write_json(self.folder / "learnt.json", {"side": side, "words": words})


def _stem(tile: Tile) -> str:
    return f"{tile.row}_{tile.col}_{tile.height}_{tile.width}"


def canvas(checkpoint: Checkpoint, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return zeros to assemble a product in; a file of the checkpoint where they are many."""
    # Python's integers: a product of numpy's would wrap around at 2**63.
    size = np.dtype(dtype).itemsize
    for side in shape:
        size *= int(side)
    if size <= _IN_MEMORY:
        return np.zeros(shape, dtype)
    path = checkpoint.folder / "whole.bin"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return np.memmap(path, dtype=dtype, mode="w+", shape=shape)


def release(array: NDArray[Any]) -> None:
    """Let go of the memory that a canvas in a file holds; the file keeps the content."""
    mapped = getattr(array, "_mmap", None)
    # Pages of a shared mapping stay with the kernel, which writes them; this process drops them.
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def clear(folder: Path) -> None:
    """Remove the checkpoints of a site."""
    shutil.rmtree(folder, ignore_errors=True)
