"""Tiles fetched, verified and kept one by one, so that no kill costs more than those under way."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
import numpy as np
from numpy.typing import NDArray

from gee.exports.faults import Fault, classify, patiently, words
from gee.exports.plan import Tile, request_grid, tiles
from thawslump.errors import BackendError
from thawslump.files import storage_errors

if TYPE_CHECKING:
    from gee.config import ExportConfig
    from gee.exports.products import Product

__all__ = ["Checkpoint", "Tally", "canvas", "clear", "compute", "decode", "fetch"]

# Above this an assembled file lies in a file of the checkpoint instead of in memory.
_IN_MEMORY = 512 * 2**20


@dataclass
class Tally:
    """Counts of an export; shared by its threads."""

    requests: int = 0
    retries: int = 0
    splits: int = 0
    kept: int = 0
    bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Checkpoint:
    """Finished tiles of one product, on disk beside the output.

    A file's name holds the checksum of its content, so a half-written or damaged one is seen,
    thrown away and fetched again. The folder's name holds a digest of everything that
    determines the tiles: what was computed for other settings is never taken over.

    Parameters
    ----------
    folder : Path
    identity : str
        Digest of expression, grid and settings.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / identity[:16]
        # One listing for all tiles, not one per tile.
        self._files = {path.name.split(".")[0]: path for path in self.folder.glob("*.*.npy")}

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
        data = buffer.getvalue()
        path = self.folder / f"{_stem(tile)}.{hashlib.sha256(data).hexdigest()[:16]}.npy"
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_bytes(data)
            temporary.replace(path)


def _stem(tile: Tile) -> str:
    return f"{tile.row}_{tile.col}_{tile.height}_{tile.width}"


def decode(data: bytes, tile: Tile, product: Product) -> NDArray[Any]:
    """Return the pixels of an answer, verified: shape, bands and data type.

    Parameters
    ----------
    data : bytes
        A structured array in NPY form, as computePixels gives it.

    Returns
    -------
    ndarray, shape (band, y, x), dtype of the product
        Masked pixels hold the product's nodata value.

    Raises
    ------
    ConnectionError
        The bytes are not a whole array: a passing fault.
    BackendError
        A whole array, but not what was asked for.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ConnectionError(f"a damaged answer of {len(data)} bytes: {error}") from error
    names = array.dtype.names or ()
    types = {array.dtype[name].name for name in names}
    if names != product.bands or array.shape != (tile.height, tile.width):
        raise BackendError(
            f"The backend answered with bands {', '.join(names) or 'none'} of shape {array.shape} "
            f"instead of {', '.join(product.bands)} of shape {(tile.height, tile.width)}.",
            hint="The backend does not keep to the protocol; report it with the command's output.",
        )
    if types != {product.dtype}:
        raise BackendError(
            f"The backend answered with data type {', '.join(sorted(types))} instead of "
            f"{product.dtype}.",
            hint="The backend does not keep to the protocol; report it with the command's output.",
        )
    pixels = np.stack([array[name] for name in names])
    if product.dtype == "float32":
        # NaN and infinities come from logarithms of zero: nothing was measured there.
        pixels[(pixels == np.float32(product.fill)) | ~np.isfinite(pixels)] = np.nan
    return pixels


def compute(product: Product, tile: Tile) -> bytes:
    """Ask the connected backend for one tile."""
    answer = ee.data.computePixels(
        {
            "expression": product.filled,
            "fileFormat": "NPY",
            "grid": request_grid(product.grid, tile),
        }
    )
    return bytes(answer)


def fetch(
    product: Product,
    checkpoint: Checkpoint,
    config: ExportConfig,
    where: str,
    tally: Tally,
    advance: Callable[[int], None],
    ask: Callable[[Product, Tile], bytes] = compute,
) -> NDArray[Any]:
    """Fetch a product tile by tile and return it whole.

    Parameters
    ----------
    product : Product
    checkpoint : Checkpoint
        Tiles that it holds are not asked for again.
    config : ExportConfig
    where : str
        The backend, for the words of errors.
    tally : Tally
        Counts are added to it.
    advance : callable
        Told the pixels of each finished tile.
    ask : callable
        One request; replaced in tests.

    Returns
    -------
    ndarray, shape (band, y, x)

    Raises
    ------
    BackendError
        Nothing answers any more, or the backend refuses, with its own words.
    """
    shape = tuple(product.grid.shape)
    array = canvas(checkpoint, (len(product.bands), *shape), product.dtype)
    todo: list[Tile] = []
    for tile in tiles((shape[0], shape[1]), config.tile, product.pixel_bytes):
        kept = checkpoint.load(tile, len(product.bands), product.dtype)
        if kept is None:
            todo.append(tile)
        else:
            _place(array, tile, kept)
            tally.add(kept=1)
            advance(tile.height * tile.width)
    stop = threading.Event()

    def work(tile: Tile) -> None:
        if stop.is_set():
            return
        try:
            pixels = _tile(product, tile, config, where, tally, ask, stop)
            checkpoint.keep(tile, pixels)
        except BaseException:
            # Tiles under way end first and are kept; no other is begun.
            stop.set()
            raise
        _place(array, tile, pixels)
        advance(tile.height * tile.width)

    with ThreadPoolExecutor(config.workers, thread_name_prefix="export") as pool:
        jobs: list[Future[None]] = [pool.submit(work, tile) for tile in todo]
        wait(jobs)
    errors = [error for job in jobs if (error := job.exception()) is not None]
    # A tile that was waiting to try again says "stopped"; the one that failed says why.
    for error in sorted(errors, key=lambda error: isinstance(error, _Stopped)):
        raise error
    return array


class _Stopped(BackendError):
    """A tile gave up waiting because another one had failed."""


def canvas(checkpoint: Checkpoint, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return zeros to assemble a product in; a file of the checkpoint where they are many."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= _IN_MEMORY:
        return np.zeros(shape, dtype)
    path = checkpoint.folder / "whole.bin"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return np.memmap(path, dtype=dtype, mode="w+", shape=shape)


def _place(array: NDArray[Any], tile: Tile, pixels: NDArray[Any]) -> None:
    rows = slice(tile.row, tile.row + tile.height)
    array[:, rows, tile.col : tile.col + tile.width] = pixels


def _tile(
    product: Product,
    tile: Tile,
    config: ExportConfig,
    where: str,
    tally: Tally,
    ask: Callable[[Product, Tile], bytes],
    stop: threading.Event,
) -> NDArray[Any]:
    def once() -> NDArray[Any]:
        tally.add(requests=1)
        data = ask(product, tile)
        pixels = decode(data, tile, product)
        tally.add(bytes=len(data))
        return pixels

    try:
        return patiently(
            once,
            where=where,
            retries=config.retries,
            backoff=config.backoff,
            seed=tile.row * 65537 + tile.col,
            sleep=lambda seconds: _rest(stop, seconds),
            on_retry=lambda: tally.add(retries=1),
        )
    except BackendError:
        raise
    except Exception as error:
        small = max(tile.height, tile.width) // 2 < config.smallest_tile
        if classify(error) is not Fault.TOO_LARGE or small:
            raise BackendError(
                f"{where} refused a tile of {product.name} ({tile.width} x {tile.height} pixels "
                f"at row {tile.row}, column {tile.col}): {words(error)}",
                hint="Use fewer images (shorter windows)."
                if classify(error) is Fault.TOO_LARGE
                else "The request itself cannot be computed; asking again will not help.",
            ) from error
    tally.add(splits=1)
    pixels = np.empty((len(product.bands), tile.height, tile.width), product.dtype)
    for half in tile.halves():
        part = _tile(product, half, config, where, tally, ask, stop)
        inside = Tile(half.row - tile.row, half.col - tile.col, half.height, half.width)
        _place(pixels, inside, part)
    return pixels


def _rest(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise _Stopped("Stopped, because another tile failed.")


def clear(folder: Path) -> None:
    """Remove the checkpoints of a site."""
    shutil.rmtree(folder, ignore_errors=True)
