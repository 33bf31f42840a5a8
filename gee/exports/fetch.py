"""Tiles fetched, verified and kept one by one, cut again where they are too much at once."""

from __future__ import annotations

import contextlib
import io
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ee
import numpy as np
from numpy.typing import NDArray

from gee.exports.checkpoint import Checkpoint, canvas, clear, release
from gee.exports.faults import Fault, classify, is_rate, patiently, words
from gee.exports.pace import Pace
from gee.exports.plan import Tile, request_grid, request_side
from thawslump.errors import BackendError, ThawslumpError

if TYPE_CHECKING:
    from gee.config import ExportConfig
    from gee.exports.meter import Meter
    from gee.exports.products import Product

__all__ = ["STEPS", "Checkpoint", "Tally", "canvas", "clear", "compute", "decode", "fetch"]

STEPS = 3
"""How often a tile that is too much for the service is cut: each time half the side."""

# Bytes of a canvas that were touched before its memory is let go of.
_RELEASE = 64 * 2**20


@dataclass
class Tally:
    """Counts of an export; shared by its threads.

    Attributes
    ----------
    requests : int
        For pixels, failed ones too.
    retries : int
        After passing faults.
    splits : int
        Requests refused as too much at once, whose tile was cut: computed in vain, and perhaps
        paid for.
    kept : int
        Tiles taken over from an earlier run.
    asked_twice : int
        Answers that held nothing at all, asked for a second time before they were believed.
    bytes : int
        Of good answers.
    """

    requests: int = 0
    retries: int = 0
    splits: int = 0
    kept: int = 0
    asked_twice: int = 0
    bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


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
    *,
    kept: Callable[[int], None] | None = None,
    meter: Meter | None = None,
    pace: Pace | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> NDArray[Any]:
    """Fetch a product tile by tile and return it whole.

    Parameters
    ----------
    product : Product
    checkpoint : Checkpoint
        Tiles that it holds are not asked for again, whatever their size.
    config : ExportConfig
    where : str
        The backend, for the words of errors.
    tally : Tally
        Counts are added to it.
    advance : callable
        Told the pixels of each finished tile.
    ask : callable
        One request; another one for pixels that lie stored, and in tests.
    kept : callable, optional
        Told the pixels of each tile that was finished before, instead of `advance`.
    meter : Meter, optional
        Counts the cost of every request, and lets none begin beyond a budget.
    pace : Pace, optional
        Of the requests of several products together; one of its own where not given.
    tell : callable
        Told in words when tiles get smaller.

    Returns
    -------
    ndarray, shape (band, y, x)
        A file of the checkpoint, mapped, where it is large.

    Raises
    ------
    BackendError
        Nothing answers any more, or the backend refuses, with its own words.
    BudgetError
        The budget is used up.

    Notes
    -----
    What is too much for the service (memory, time, size) is asked for in tiles of half the side,
    a quarter of the area, at most `STEPS` times. What was learnt from one tile holds for the rest
    of the product, and after a kill: no more than one request per slot is refused at each size.

    An answer that holds nothing in any band is asked for a second time, and stored only if both
    answers agree to the bit: a mask over a whole tile and an answer that lost its content upstream
    look alike.
    """
    rows, cols = (int(side) for side in product.grid.shape)
    array = canvas(checkpoint, (len(product.bands), rows, cols), product.dtype)
    placed = 0

    def place(tile: Tile, pixels: NDArray[Any]) -> None:
        nonlocal placed
        array[:, tile.row : tile.row + tile.height, tile.col : tile.col + tile.width] = pixels
        with tally.lock:
            # A narrow tile touches whole pages of the file for a part of each.
            placed += pixels.nbytes * max(1, mmap.PAGESIZE // (tile.width * pixels.itemsize))
            full = placed >= _RELEASE
            placed = 0 if full else placed
        if full:
            release(array)

    done = []
    for tile in checkpoint.tiles():
        if tile.row + tile.height > rows or tile.col + tile.width > cols:
            continue
        pixels = checkpoint.load(tile, len(product.bands), product.dtype)
        if pixels is None:
            continue
        place(tile, pixels)
        done.append(tile)
        tally.add(kept=1)
        (kept or advance)(tile.pixels)
    # In the order of rows, as a disk that is full or a reader in a hurry likes it best.
    largest = request_side(config.tile, product.pixel_bytes)
    queue = _Queue(_left((rows, cols), largest, done), largest, checkpoint, tell)
    asker = _Asker(product, config, where, tally, ask, queue, meter, pace or Pace(config.workers))

    def work() -> None:
        while (item := queue.next()) is not None:
            try:
                pixels = asker.tile(item)
                if pixels is not None:
                    checkpoint.keep(item.tile, pixels)
                    place(item.tile, pixels)
                    advance(item.tile.pixels)
            except BaseException as error:
                # Tiles under way end first and are kept; no other is begun.
                queue.stop(error)
                return
            finally:
                queue.ended()

    with ThreadPoolExecutor(config.workers, thread_name_prefix="export") as pool:
        jobs = [pool.submit(work) for _ in range(config.workers)]
        try:
            wait(jobs)
        except BaseException as error:
            queue.stop(error)
            raise
    if meter is not None:
        meter.settle()
    if queue.error is not None:
        raise queue.error
    release(array)
    return array


class _Stopped(BackendError):
    """A tile gave up waiting because another one had failed."""


def _left(shape: tuple[int, int], side: int, done: Iterable[Tile]) -> Iterator[Tile]:
    """Yield tiles of at most `side` pixels that cover what no finished tile covers, row by row."""
    near: dict[tuple[int, int], list[Tile]] = {}
    for tile in done:
        for row in range(tile.row // side, (tile.row + tile.height - 1) // side + 1):
            for col in range(tile.col // side, (tile.col + tile.width - 1) // side + 1):
                near.setdefault((row, col), []).append(tile)
    rows, cols = shape
    for row in range(0, rows, side):
        for col in range(0, cols, side):
            parts = [Tile(row, col, min(side, rows - row), min(side, cols - col))]
            for other in near.get((row // side, col // side), ()):
                parts = [left for part in parts for left in part.without(other)]
            yield from parts


@dataclass(frozen=True)
class _Item:
    """A tile to ask for, and how often it or what it is a part of was cut."""

    tile: Tile
    cuts: int = 0


class _Queue:
    """Tiles that are left, cut as small as was learnt that they must be."""

    def __init__(
        self,
        tiles: Iterator[Tile],
        side: int,
        checkpoint: Checkpoint,
        tell: Callable[[str], None],
    ) -> None:
        self.error: BaseException | None = None
        self._tiles, self._largest = tiles, side
        self._checkpoint, self._tell = checkpoint, tell
        self._parts: list[_Item] = []
        self._under_way = 0
        self._changed = threading.Condition()
        self._cuts = 0
        known = checkpoint.learnt()
        if known is not None:
            while self._cuts < STEPS and self._side(self._cuts) > known[0]:
                self._cuts += 1
            if self._cuts:
                self._say(known[1])

    def _side(self, cuts: int) -> int:
        return -(-self._largest // 2**cuts)

    def _say(self, reason: str) -> None:
        self._tell(f"tiles of {self._side(self._cuts)} instead of {self._largest}: {reason}")

    @property
    def stopped(self) -> bool:
        return self.error is not None

    def next(self) -> _Item | None:
        """Return what to ask for next; None when nothing is left or something failed."""
        with self._changed:
            while self.error is None:
                if not self._parts:
                    tile = next(self._tiles, None)
                    if tile is not None:
                        self._parts.append(_Item(tile))
                if self._parts:
                    item = self._parts.pop()
                    side = self._side(self._cuts)
                    if item.tile.side > side:
                        self._push(item.tile.cut(side), self._cuts)
                        continue
                    self._under_way += 1
                    # A small tile at the edge has its steps left even where others took some.
                    return item
                if not self._under_way:
                    return None
                self._changed.wait()
            return None

    def _push(self, tiles: list[Tile], cuts: int) -> None:
        self._parts.extend(_Item(tile, cuts) for tile in reversed(tiles))
        self._changed.notify_all()

    def refused(self, item: _Item, reason: str) -> None:
        """Take back a tile that was too much for the service, to be asked for in parts."""
        with self._changed:
            half = -(-item.tile.side // 2)
            cuts = item.cuts + 1
            if item.tile.side > self._side(cuts):
                # As large as others of its step: they are too much as well.
                half = self._side(cuts)
                if cuts > self._cuts:
                    self._cuts = cuts
                    self._checkpoint.learn(half, reason)
                    self._say(reason)
            self._push(item.tile.cut(half), cuts)

    def ended(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def stop(self, error: BaseException) -> None:
        with self._changed:
            # A tile that was waiting to try again says "stopped"; the one that failed says why.
            if self.error is None or isinstance(self.error, _Stopped):
                self.error = error
            self._changed.notify_all()

    def rest(self, seconds: float) -> None:
        """Wait; raise where another tile fails meanwhile."""
        with self._changed:
            if self._changed.wait_for(lambda: self.stopped, seconds):
                raise _Stopped("Stopped, because another tile failed.")


@dataclass(frozen=True)
class _Asker:
    """Asks for tiles, in the settings of one product."""

    product: Product
    config: ExportConfig
    where: str
    tally: Tally
    ask: Callable[[Product, Tile], bytes]
    queue: _Queue
    meter: Meter | None
    pace: Pace

    def tile(self, item: _Item) -> NDArray[Any] | None:
        """Return the pixels of a tile; None where it was handed back to be cut."""
        tile = item.tile
        begun = 0.0

        def once() -> NDArray[Any]:
            nonlocal begun
            with self.pace.slot(lambda: self.queue.stopped) as begun:
                pixels = self._answer(tile)
                if _holds_nothing(pixels, self.product):
                    self.tally.add(asked_twice=1)
                    again = self._answer(tile)
                    if not np.array_equal(pixels, again, equal_nan=again.dtype.kind == "f"):
                        raise ConnectionError("one of two answers held nothing")
            self.pace.answered()
            return pixels

        def waits(error: BaseException) -> None:
            self.tally.add(retries=1)
            if is_rate(error):
                self.pace.slower(begun)

        try:
            return patiently(
                once,
                where=self.where,
                retries=self.config.retries,
                backoff=self.config.backoff,
                seed=tile.row * 65537 + tile.col,
                sleep=self.queue.rest,
                on_retry=waits,
            )
        except ThawslumpError:
            raise
        except Exception as error:
            if classify(error) is not Fault.TOO_LARGE:
                raise BackendError(
                    f"{self.where} refused {self._named(tile)}: {words(error)}",
                    hint="The request itself cannot be computed; asking again will not help.",
                ) from error
            if item.cuts >= STEPS or -(-tile.side // 2) < self.config.smallest_tile:
                raise BackendError(
                    f"{self.where} refused {self._named(tile)}"
                    + (f", after {item.cuts} cuts to half the side" if item.cuts else "")
                    + f": {words(error)}",
                    hint="Use fewer images (shorter windows) or fewer bands, or export it as a "
                    "batch task (export.method: drive).",
                ) from error
            self.tally.add(splits=1)
            self.queue.refused(item, words(error))
            return None

    def _named(self, tile: Tile) -> str:
        return (
            f"a tile of {self.product.name} ({tile.width} x {tile.height} pixels "
            f"at row {tile.row}, column {tile.col})"
        )

    def _answer(self, tile: Tile) -> NDArray[Any]:
        counted = (
            contextlib.nullcontext() if self.meter is None else self.meter.request(tile.pixels)
        )
        with counted:
            self.tally.add(requests=1)
            data = self.ask(self.product, tile)
        pixels = decode(data, tile, self.product)
        self.tally.add(bytes=len(data))
        return pixels


def _holds_nothing(pixels: NDArray[Any], product: Product) -> bool:
    if product.dtype == "float32":
        return bool(np.isnan(pixels).all())
    return bool((pixels == product.nodata).all())
