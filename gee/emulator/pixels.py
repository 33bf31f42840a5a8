"""Lazy pixels: nodes that compute a window when it is asked for, and the loop over tiles.

Everything is pulled from the output: a node is asked for a window of some lattice and asks
its inputs for the same window (or a wider one, or one of another lattice). Nothing larger
than a tile and its halo is held.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import cells
from .budget import current, limited, tick
from .errors import EngineError, LimitError
from .projection import PixelGrid, Projection, Window
from .types import PixelType

if TYPE_CHECKING:
    from .image import Image

__all__ = ["Band", "Context", "Limits", "Node", "Pixels", "compute_pixels", "render"]

Array = NDArray[Any]
# What costly images give; more than they could have by the deadline is refused at once.
PIXELS_PER_SECOND = 5e6
TILES_PER_SECOND = 500.0
# Depth of recursion at which a chain of pixelwise nodes is computed from its far end.
_CHAIN = 400


class Pixels(NamedTuple):
    """Values of a window and which of them count.

    Attributes
    ----------
    data : ndarray, (height, width), or shape (1, 1) that stands for every pixel
    mask : ndarray of bool or float32 in [0, 1], or None
        Broadcastable to the window; ``None`` where every pixel is valid.
    """

    data: Array
    mask: Array | None


@dataclass(frozen=True)
class Limits:
    """What one request may use.

    Parameters
    ----------
    tile : int
        Side of the tiles that an output is computed in, in pixels.
    threads : int
        Tiles computed at a time; 0 means one per core, at most 4.
    cache_bytes : int
        Intermediate results kept per tile.
    stack_bytes : int
        Most that the values of one per-pixel reduction (a median) may take.
    tile_bytes : int
        Most that the bands of one tile may take: tiles of many bands are smaller.
    max_pixels : int
        Most pixels that a step may hold at once: a tile with the border that a neighbourhood
        needs, the inputs of a reprojection, or the area of what cannot be cut into tiles
        (``cumulativeCost``, ``reduceToVectors``). Above it a request is refused with
        "User memory limit exceeded.".
    rows : int
        Most pixels of a region or a sample that are held at once; beyond it reducers go on
        with sums and tables, or are refused.
    """

    tile: int = 512
    threads: int = 0
    cache_bytes: int = 64 * 2**20
    stack_bytes: int = 64 * 2**20
    tile_bytes: int = 24 * 2**20
    max_pixels: int = 2**24
    rows: int = 2**21

    def check(self, width: int, height: int) -> None:
        """Refuse a step that would hold more pixels than one may.

        Raises
        ------
        EngineError
            Worded as by Earth Engine.

        Examples
        --------
        >>> Limits(max_pixels=100).check(10, 10)
        >>> Limits(max_pixels=100).check(10, 11)
        Traceback (most recent call last):
        ...
        gee.emulator.errors.LimitError: User memory limit exceeded.
        """
        if width * height > self.max_pixels:
            raise LimitError("User memory limit exceeded.")

    @property
    def workers(self) -> int:
        """Threads to use on this machine."""
        return self.threads or min(4, os.cpu_count() or 1)


class Node:
    """A computation with one or more single-band results.

    Parameters
    ----------
    inputs : sequence of Band
        What it reads; followed to find shared work and halos.
    """

    __slots__ = ("__weakref__", "inputs")

    halo = 0
    """Pixels that it reads beyond a window, on each side, where that is known."""
    pixelwise = False
    """Whether it reads its inputs on the very window that it is asked for."""
    pixel_bytes = 0
    """What a pixel of its results takes, where that is an array and much."""

    def border(self, projection: Projection) -> int:
        """Return the pixels that it reads beyond a window of a projection, on each side."""
        return self.halo

    def __init__(self, inputs: Sequence[Band] = ()) -> None:
        self.inputs: tuple[Band, ...] = tuple(inputs)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        """Return the results on ``window``, one per output."""
        raise EngineError(f"{type(self).__name__} computes nothing.")


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a lazy image.

    Parameters
    ----------
    id : str
    type : PixelType
    projection : Projection
        Default projection.
    node : Node
    index : int
        Which result of the node.
    dimensions : (width, height), optional
    origin : (column, row)
        First pixel of the band in its projection.
    """

    id: str
    type: PixelType
    projection: Projection
    node: Node
    index: int = 0
    dimensions: tuple[int, int] | None = None
    origin: tuple[int, int] = (0, 0)

    def renamed(self, name: str) -> Band:
        """Return the band under another name."""
        if name == self.id:
            return self
        return Band(
            name, self.type, self.projection, self.node, self.index, self.dimensions, self.origin
        )

    def computed(self, kind: PixelType, node: Node, index: int = 0) -> Band:
        """Return a band of the same name and grid with other values."""
        return Band(self.id, kind, self.projection, node, index, self.dimensions, self.origin)

    def on(self, projection: Projection) -> Band:
        """Return the band with another default projection and no dimensions."""
        return Band(self.id, self.type, projection, self.node, self.index)

    @property
    def window(self) -> Window | None:
        """The pixels of the band, where it is not without end."""
        if self.dimensions is None:
            return None
        return Window(self.projection, *self.origin, *self.dimensions)


class Context:
    """Results of the nodes of one tile, so that what several nodes read is computed once.

    Parameters
    ----------
    shared : set of int
        Identities of the nodes that more than one node reads.
    limits : Limits
    """

    def __init__(self, shared: set[int], limits: Limits) -> None:
        self.shared = shared
        self.limits = limits
        self._results: OrderedDict[tuple[int, Window], Sequence[Pixels]] = OrderedDict()
        self._held = 0
        self._depth = 0
        self._ready: dict[tuple[int, Window], Sequence[Pixels]] = {}

    def read(self, band: Band, window: Window) -> Pixels:
        """Return a band on a window."""
        return self.results(band.node, window)[band.index]

    def results(self, node: Node, window: Window) -> Sequence[Pixels]:
        """Return all results of a node on a window."""
        key = (id(node), window)
        ready = self._ready.pop(key, None)
        if ready is not None:
            return ready
        if key[0] not in self.shared:
            return self._computed(node, window)
        found = self._results.get(key)
        if found is not None:
            self._results.move_to_end(key)
            return found
        found = self._computed(node, window)
        self._results[key] = found
        self._held += _bytes(found)
        while self._held > self.limits.cache_bytes and len(self._results) > 1:
            _, dropped = self._results.popitem(last=False)
            self._held -= _bytes(dropped)
        return found

    def _computed(self, node: Node, window: Window) -> Sequence[Pixels]:
        self._depth += 1
        tick()
        try:
            if window.width * window.height > self.limits.max_pixels:
                self.limits.check(window.width, window.height)
            if self._depth % _CHAIN == 0:
                self._climb(node, window)
            return node.compute(self, window)
        finally:
            self._depth -= 1

    def _climb(self, node: Node, window: Window) -> None:
        """Compute a long chain of pixelwise nodes from its far end, so as not to recurse."""
        below: list[Node] = []
        seen = {id(node)}
        while node.pixelwise:
            # The first input that is pixelwise too leads on; the others are short branches.
            onward = next(
                (
                    b.node
                    for b in node.inputs
                    if b.node.pixelwise and id(b.node) not in seen and b.node.inputs
                ),
                None,
            )
            if onward is None:
                break
            node = onward
            seen.add(id(node))
            below.append(node)
        for step in reversed(below[_CHAIN // 2 :: _CHAIN // 2]):
            key = (id(step), window)
            if key not in self._results and key not in self._ready:
                self._ready[key] = step.compute(self, window)

    def read_bounded(self, band: Band, window: Window) -> Pixels:
        """Return a band on a window that may be large: computed and joined by tiles."""
        self.limits.check(window.width, window.height)
        side = max(self.limits.tile * 2, 1024)
        if window.width <= side and window.height <= side:
            return self.read(band, window)
        found: list[tuple[tuple[slice, slice], Array]] = []
        mask = np.zeros(window.shape, np.float32)
        for row in range(0, window.height, side):
            for column in range(0, window.width, side):
                part = window.part(
                    row,
                    column,
                    min(side, window.height - row),
                    min(side, window.width - column),
                )
                got = self.read(band, part)
                where = np.s_[row : row + part.height, column : column + part.width]
                if band.type.dimensions:
                    found.append((where, got.data))
                else:
                    if not found:
                        found.append((np.s_[:, :], np.zeros(window.shape, band.type.dtype)))
                    found[0][1][where] = got.data
                mask[where] = 1 if got.mask is None else got.mask
        if band.type.dimensions:
            parts = cells.alike([d for _, d in found])
            data = np.zeros(window.shape, parts[0].dtype)
            for (where, _), made in zip(found, parts, strict=True):
                data[where] = made
        else:
            data = found[0][1]
        return Pixels(data, mask)


def _bytes(results: Sequence[Pixels]) -> int:
    return sum(p.data.nbytes + (0 if p.mask is None else p.mask.nbytes) for p in results)


@dataclass
class _Plan:
    shared: set[int] = field(default_factory=set)
    halo: int = 0
    pixel_bytes: int = 0


def plan(bands: Sequence[Band], projection: Projection) -> _Plan:
    """Find the nodes with several readers, and the widest halo on the way to any source."""
    readers: dict[int, int] = {}
    halos: dict[int, int] = {}
    shared: set[int] = set()
    heavy = 0
    # Depth first without recursion: graphs of iterate() are thousands of nodes deep.
    stack: list[tuple[Node, bool]] = [(band.node, False) for band in bands]
    for band in bands:
        readers[id(band.node)] = readers.get(id(band.node), 0) + 1
        if band.index:
            shared.add(id(band.node))
    while stack:
        node, done = stack.pop()
        key = id(node)
        if done:
            halos[key] = node.border(projection) + max(
                (halos.get(id(b.node), 0) for b in node.inputs), default=0
            )
            continue
        if key in halos:
            continue
        halos[key] = 0
        heavy = max(heavy, node.pixel_bytes)
        stack.append((node, True))
        for band in node.inputs:
            readers[id(band.node)] = readers.get(id(band.node), 0) + 1
            if id(band.node) not in halos:
                stack.append((band.node, False))
    shared |= {key for key, count in readers.items() if count > 1}
    return _Plan(shared, max((halos[id(b.node)] for b in bands), default=0), heavy)


def finish(pixels: Pixels, kind: PixelType, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return full-size (data, mask) of a band, data in the band's type and 0 where masked."""
    data = pixels.data
    if data.shape != shape:
        data = np.broadcast_to(data, shape)
    data = cells.cast(data, kind.dtype)
    if pixels.mask is None:
        return np.ascontiguousarray(data), np.ones(shape, bool)
    mask = np.broadcast_to(pixels.mask, shape)
    valid = mask if mask.dtype == bool else mask > 0
    if not valid.all() and not cells.is_cells(data):
        data = np.where(valid, data, data.dtype.type(0))
    return np.ascontiguousarray(data), np.ascontiguousarray(mask)


Tile = tuple[int, int, int, int, dict[str, tuple[Array, Array]]]


def compute_pixels(
    image: Image,
    grid: PixelGrid | Window,
    bands: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> Iterator[Tile]:
    """Compute an image on a grid, tile by tile.

    Parameters
    ----------
    image : Image
    grid : PixelGrid or Window
    bands : sequence of str, optional
        Band names in the wanted order; all by default.
    limits : Limits, optional

    Yields
    ------
    row0, row1, col0, col1 : int
        Half-open place of the tile in the grid, in rows of tiles.
    pixels : dict of str to (data, mask)
        ``data`` in the band's numpy type, 0 where masked; ``mask`` bool or float32 in [0, 1].

    Raises
    ------
    EngineError
        A band is missing, or a function refuses.
    """
    limits = limits or Limits()
    whole = (grid.window if isinstance(grid, PixelGrid) else grid).anchored()
    chosen = image.bands if bands is None else tuple(image.band(name) for name in bands)
    if not chosen:
        raise EngineError("Image has no bands.")
    found = plan(chosen, whole.projection)
    side = limits.tile
    if found.halo > side // 8:
        side *= 2
    bytes_of_pixel = sum(b.type.dtype.itemsize + 1 for b in chosen)
    # Functions of arrays hold several times as much: what they read, what they make, copies.
    bytes_of_pixel = max(bytes_of_pixel, found.pixel_bytes)
    while side > 64 and side * side * bytes_of_pixel > limits.tile_bytes:
        side //= 2
    # Made as they are needed: a region at a scale that no one meant has any number of tiles.
    places = (
        (row, min(row + side, whole.height), column, min(column + side, whole.width))
        for row in range(0, whole.height, side)
        for column in range(0, whole.width, side)
    )
    held = current()
    if held is not None:
        tiles = -(-whole.height // side) * -(-whole.width // side)
        pixels = whole.height * whole.width
        held.expect(max(pixels / PIXELS_PER_SECOND, tiles / TILES_PER_SECOND))

    def one(place: tuple[int, int, int, int]) -> Tile:
        row0, row1, column0, column1 = place
        window = whole.part(row0, column0, row1 - row0, column1 - column0)
        context = Context(found.shared, limits)
        try:
            with limited(held), np.errstate(all="ignore"):
                tick()
                pixels = {
                    b.id: finish(context.read(b, window), b.type, window.shape) for b in chosen
                }
        except RecursionError:
            raise EngineError("The computation is nested too deeply.") from None
        return *place, pixels

    workers = min(limits.workers, -(-whole.height // side) * -(-whole.width // side))
    if (min(side, whole.width) + 2 * found.halo) * (min(side, whole.height) + 2 * found.halo) > (
        limits.max_pixels // 4
    ):
        # Wide borders: one tile at a time, or memory would not be bounded by max_pixels.
        workers = 1
    if workers < 2 or threading.current_thread().name.startswith("emulator-tile"):
        for place in places:
            yield one(place)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="emulator-tile") as pool:
        waiting: deque[Future[Tile]] = deque()
        left = iter(places)
        try:
            for place in left:
                waiting.append(pool.submit(one, place))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for job in waiting:
                job.cancel()


def render(
    image: Image,
    grid: PixelGrid | Window,
    bands: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> dict[str, tuple[Array, Array]]:
    """Compute an image on a whole grid.

    Parameters
    ----------
    image : Image
    grid : PixelGrid or Window
    bands : sequence of str, optional
    limits : Limits, optional

    Returns
    -------
    dict of str to (data, mask)
        ``data`` (height, width) in the band's numpy type, 0 where masked; ``mask`` of the
        same shape, bool or float32 in [0, 1].
    """
    whole = grid.window if isinstance(grid, PixelGrid) else grid
    out: dict[str, tuple[Array, Array]] = {}
    for row0, row1, column0, column1, pixels in compute_pixels(image, grid, bands, limits):
        if (row1 - row0, column1 - column0) == whole.shape:
            return pixels
        for name, (data, mask) in pixels.items():
            if name not in out:
                out[name] = np.zeros(whole.shape, data.dtype), np.zeros(whole.shape, mask.dtype)
            full, valid = out[name]
            if full.dtype != data.dtype and (cells.is_cells(full) or cells.is_cells(data)):
                full, data = cells.alike([full, data])
                out[name] = full, valid
            if valid.dtype == bool and mask.dtype != bool:
                out[name] = full, valid.astype(mask.dtype)
                valid = out[name][1]
            full[row0:row1, column0:column1] = data
            valid[row0:row1, column0:column1] = mask
    return out
