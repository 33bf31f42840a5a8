"""Segments of an image: superpixels grown from seeds, and clusters of cells of a grid.

What depends on a neighbourhood larger than any halo is computed on aligned blocks of the
output's lattice, so that the same request gives the same segments however it is cut; across
a block's edge segments may not join, as across a tile's in Earth Engine ([A]).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from .. import kernels
from ..budget import tick, work
from ..errors import EngineError
from ..image import BlockNode, Image, WindowNode, full
from ..pixels import Array, Band, Context, Pixels
from ..projection import WGS84, Window
from ..types import DOUBLE, UNIT, PixelType
from .clusterers import kmeans
from .registry import function

__all__ = ["grown"]

_LABELS = PixelType("int", 0, 2**31 - 1)
_MOST_CLUSTERS = 4096
_MOST_COMPACT = 1e9


def _blocks(side: int) -> type[BlockNode]:
    """Return nodes that compute blocks of a size."""
    size = side

    class Blocks(BlockNode):
        """Blocks of a size."""

        __slots__ = ()
        side = size

    return Blocks


# ------------------------------------------------------------------ superpixels


def _grid(rows: Array, columns: Array, size: int, kind: str) -> Array:
    """Return which pixels of a lattice are seeds: one in the middle of every cell."""
    if kind == "square":
        return (rows % size == size // 2) & (columns % size == size // 2)
    # Rows of cells nearer to each other, every other one half a cell to the right.
    step = max(round(size * np.sqrt(3) / 2), 1)
    shift = np.where((rows // step) % 2 == 0, 0, size // 2)
    return (rows % step == step // 2) & ((columns - shift) % size == size // 2)


def _seeds(window: Window, size: int, kind: str) -> Array:
    rows = np.arange(window.row, window.row + window.height)[:, None]
    columns = np.arange(window.column, window.column + window.width)[None, :]
    return np.broadcast_to(_grid(rows, columns, size, kind), window.shape)


@function("Image.Segmentation.seedGrid")
def seed_grid(size: int, kind: str) -> Image:
    """Return 1 at seeds spaced on the output's pixels, 0 elsewhere: a band 'seeds'."""
    if kind not in ("square", "hex"):
        raise EngineError(f"Unknown gridType '{kind}': square or hex.")
    _spacing(size)

    def compute(window: Window) -> Sequence[Pixels]:
        return [Pixels(_seeds(window, size, kind).astype(np.uint8), None)]

    return Image([Band("seeds", UNIT, WGS84, WindowNode(compute))])


def _spacing(size: int) -> None:
    if not 1 <= size <= 1024:
        raise EngineError(f"size must be between 1 and 1024, not {size}.")


def grown(
    values: Array, ok: Array, seeds: Array, spacing: float, compactness: float, eight: bool
) -> Array:
    """Return the cluster of every pixel, grown from seeds nearest first.

    Simple non-iterative clustering (Achanta & Süsstrunk 2017): the pixel that is nearest to
    its cluster's mean, in values and place, joins next; the distance squared is that of the
    values plus that of the places times (compactness / spacing) squared.

    Parameters
    ----------
    values : (h, w, bands) float64
    ok : (h, w) bool
        Pixels that may join.
    seeds : (h, w) int64
        Numbers of clusters from 1; 0 elsewhere.
    spacing, compactness : float
    eight : bool
        Neighbours over corners too.

    Returns
    -------
    (h, w) int64
        0 where nothing grew.

    Examples
    --------
    >>> line = np.array([[0.0, 0, 9, 9, 9]])[..., None]
    >>> grown(line, np.ones((1, 5), bool), np.array([[1, 0, 0, 0, 2]]), 3, 1, True).tolist()
    [[1, 1, 2, 2, 2]]
    """
    height, width, bands = values.shape
    count = int(seeds.max(initial=0))
    # A frame of pixels that never join saves looking for the edges.
    wide = width + 2
    framed = np.zeros((height + 2, wide, bands))
    framed[1:-1, 1:-1] = values
    flat: list[list[float]] = framed.reshape(-1, bands).tolist()
    state = np.full((height + 2, wide), -1)
    state[1:-1, 1:-1] = np.where(ok, 0, -1)
    labels: list[int] = state.ravel().tolist()
    rows: list[int] = np.repeat(np.arange(height + 2), wide).tolist()
    columns: list[int] = np.tile(np.arange(wide), height + 2).tolist()
    weight = (compactness / spacing) ** 2
    sums = [[0.0] * bands for _ in range(count + 1)]
    # Sums of rows and columns, and sizes.
    down, right, sizes = [0] * (count + 1), [0] * (count + 1), [0] * (count + 1)
    steps = [1, -1, wide, -wide]
    if eight:
        steps += [wide + 1, wide - 1, -wide + 1, -wide - 1]
    queue: list[tuple[float, int, int, int]] = []
    order = 0
    for r, c in np.argwhere(seeds > 0).tolist():
        place = (r + 1) * wide + c + 1
        if not labels[place]:
            queue.append((0.0, order, place, int(seeds[r, c])))
            order += 1
    heapq.heapify(queue)
    pop, push = heapq.heappop, heapq.heappush
    while queue:
        _, _, place, label = pop(queue)
        if labels[place]:
            continue
        if not place % 1024:
            tick()
        labels[place] = label
        size = sizes[label] = sizes[label] + 1
        total = sums[label] = [v + w for v, w in zip(sums[label], flat[place], strict=True)]
        down[label] += rows[place]
        right[label] += columns[place]
        mean = [v / size for v in total]
        row, column = down[label] / size, right[label] / size
        for step in steps:
            next_ = place + step
            if labels[next_]:
                continue
            y, x = rows[next_] - row, columns[next_] - column
            far = weight * (y * y + x * x)
            for v, w in zip(flat[next_], mean, strict=True):
                far += (v - w) * (v - w)
            push(queue, (far, order, next_, label))
            order += 1
    found = np.asarray(labels, np.int64).reshape(height + 2, wide)[1:-1, 1:-1]
    return np.maximum(found, 0)


@function("Image.Segmentation.SNIC")
def snic(
    image: Image,
    size: int,
    compactness: float,
    connectivity: int,
    neighbourhood: int | None,
    seeds: Image | None,
) -> Image:
    """Return superpixels: bands clusters, the mean of every band as band_mean, and seeds.

    The seeds come with the result where they are not given ([A]). A cluster's number follows
    from where its seed lies on the lattice. Masked where any band is.
    """
    _spacing(size)
    if connectivity not in (4, 8):
        raise EngineError(f"connectivity must be 4 or 8, not {connectivity}.")
    if not 0 <= compactness <= _MOST_COMPACT:
        raise EngineError(
            f"compactness must be between 0 and {_MOST_COMPACT:g}, not {compactness:g}."
        )
    border = 2 * size if neighbourhood is None else neighbourhood
    if not 0 <= border <= 512:
        raise EngineError(f"neighborhoodSize must be between 0 and 512, not {border}.")
    eight = connectivity == 8
    count = len(image.bands)

    def compute(context: Context, block: Window, inputs: Sequence[Band]) -> Sequence[Pixels]:
        from scipy import ndimage

        wide = block.pad(border)
        got = [full(context.read(b, wide), wide) for b in inputs]
        ok = _whole(got[:count], wide)
        if seeds is None:
            marks = _seeds(wide, size, "square")
            numbers = np.cumsum(marks.ravel()).reshape(marks.shape) * marks
        else:
            given = got[count]
            marks = (given.data != 0) & ok
            valid = kernels.valid(given.mask)
            if valid is not None:
                marks = marks & valid
            numbers, _ = ndimage.label(marks, np.ones((3, 3)) if eight else None)
        work(4000.0 * float(ok.sum()))
        values = np.stack([p.data.astype(float) for p in got[:count]], axis=-1)
        labels = grown(values, ok, numbers, float(size), compactness, eight)
        some = labels > 0
        sizes = np.maximum(np.bincount(labels.ravel()), 1)
        means = [
            np.bincount(labels.ravel(), np.where(some, values[..., k], 0).ravel()) / sizes
            for k in range(count)
        ]
        inside = np.s_[border : border + block.height, border : border + block.width]
        own, shown = labels[inside], some[inside]
        out = [Pixels(_places(numbers, wide)[own], shown)]
        out += [Pixels(mean[own], shown) for mean in means]
        if seeds is None:
            out.append(Pixels((marks & ok)[inside].astype(np.uint8), shown))
        return out

    kinds = [_LABELS, *([DOUBLE] * count)] + ([UNIT] if seeds is None else [])
    names = ["clusters", *(f"{b.id}_mean" for b in image.bands)]
    names += ["seeds"] if seeds is None else []
    inputs = [*image.bands, *(() if seeds is None else seeds.bands[:1])]
    return _made(image, _blocks(256)(compute, inputs, kinds), names, kinds)


def _whole(got: Sequence[Pixels], window: Window) -> Array:
    """Return the pixels that every band has whole: partial masks count as none ([A])."""
    ok = np.ones(window.shape, bool)
    for pixels in got:
        if pixels.mask is not None:
            ok &= pixels.mask >= 1 if pixels.mask.dtype != bool else pixels.mask
        if pixels.data.dtype.kind == "f":
            ok &= np.isfinite(pixels.data)
    return ok


def _places(numbers: Array, window: Window) -> Array:
    """Return for every cluster a number of 31 bits from the first of its seeds."""
    known, first = np.unique(numbers, return_index=True)
    rows, columns = np.divmod(first, window.width)
    out = np.zeros(int(known[-1]) + 1, np.int64)
    out[known] = (rows + window.row) % 2**15 * 2**16 + (columns + window.column) % 2**16
    return out


def _made(image: Image, node: BlockNode, names: Sequence[str], kinds: Sequence[PixelType]) -> Image:
    first = image.bands[0]
    return image.derived(
        [
            first.computed(kind, node, k).renamed(name)
            for k, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ]
    )


# ------------------------------------------------------------------ clusters of cells

_Find = Callable[[Array], Array]


def _cells(
    image: Image, find: _Find, border: int, side: int | None, unique: bool, most: int
) -> Image:
    """Return an image of clusters that are found cell by cell of a grid."""
    if not 0 <= border <= 512:
        raise EngineError(f"neighborhoodSize must be between 0 and 512, not {border}.")
    if side is not None and side > 0 and border > 0:
        raise EngineError("neighborhoodSize and gridSize exclude each other.")
    cell = side if side is not None and side > 0 else 256
    if not 2 <= cell <= 1024:
        raise EngineError(f"gridSize must be between 2 and 1024, not {cell}.")

    def compute(context: Context, block: Window, inputs: Sequence[Band]) -> Sequence[Pixels]:
        wide = block.pad(border)
        got = [full(context.read(b, wide), wide) for b in inputs]
        ok = _whole(got, wide)
        labels = np.zeros(wide.shape, np.int64)
        if ok.any():
            labels[ok] = find(np.column_stack([p.data[ok].astype(float) for p in got]))
        if unique:
            # 4096 x 4096 cells are told apart.
            cells = block.row // cell % 4096 * 4096 + block.column // cell % 4096
            labels = labels + cells * most
        inside = np.s_[border : border + block.height, border : border + block.width]
        return [Pixels(labels[inside], ok[inside])]

    kind = PixelType("int", 0, 2**24 * most if unique else most)
    return _made(image, _blocks(cell)(compute, image.bands, [kind]), ["clusters"], [kind])


@function("Image.Segmentation.KMeans")
def segment_kmeans(
    image: Image,
    count: int,
    rounds: int,
    border: int,
    side: int | None,
    force: bool,
    unique: bool,
) -> Image:
    """Return k-means clusters of cells of a grid, as a band 'clusters'.

    The first centres are spread over the cell's values in their order by brightness.
    """
    if not 1 <= count <= _MOST_CLUSTERS:
        raise EngineError(f"numClusters must be between 1 and {_MOST_CLUSTERS}, not {count}.")
    if rounds < 1:
        raise EngineError(f"numIterations must be at least 1, not {rounds}.")

    def find(table: Array) -> Array:
        centres, labels, _ = kmeans(table, _spread(table, count), "Euclidean", rounds)
        if force:
            _, again, _ = kmeans(table, centres, "Euclidean", 1)
            if (again != labels).any():
                raise EngineError(
                    f"No convergence within {rounds} iterations.",
                    function="Image.Segmentation.KMeans",
                )
        return labels

    return _cells(image, find, border, side, unique, count)


def _spread(table: Array, count: int) -> Array:
    """Return rows evenly spread over the rows that differ, ordered by their sums."""
    rows = np.unique(table, axis=0)
    rows = rows[np.argsort(rows.sum(axis=1), kind="stable")]
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]


def normality(values: Array) -> float:
    """Return the chance of a sample at least as far from normal as this one.

    Anderson & Darling's test with mean and variance from the sample, by Stephens' (1986)
    formulas.

    Examples
    --------
    >>> normality(np.repeat([0.0, 1.0], 50)) < 1e-6
    True
    """
    from scipy.special import log_ndtr

    n = len(values)
    spread = values.std(ddof=1) if n > 1 else 0.0
    if n < 8 or spread == 0:
        return 1.0
    z = np.sort((values - values.mean()) / spread)
    k = np.arange(1, n + 1)
    square = -n - ((2 * k - 1) * (log_ndtr(z) + log_ndtr(-z[::-1]))).mean()
    a = square * (1 + 0.75 / n + 2.25 / n**2)
    if a >= 13:
        return 0.0
    if a >= 0.6:
        return float(np.exp(1.2937 - 5.709 * a + 0.0186 * a**2))
    if a >= 0.34:
        return float(np.exp(0.9177 - 4.279 * a - 1.38 * a**2))
    if a >= 0.2:
        return float(1 - np.exp(-8.318 + 42.796 * a - 59.938 * a**2))
    return float(1 - np.exp(-13.436 + 101.14 * a - 223.73 * a**2))


def _gmeans(table: Array, rounds: int, level: float) -> Array:
    """Return clusters that are divided until each is normal along its main axis."""
    centres = table.mean(axis=0, keepdims=True)
    labels = np.zeros(len(table), np.int64)
    for _ in range(rounds):
        found: list[Array] = []
        for k in range(len(centres)):
            rows = table[labels == k]
            pair = _halves(rows, centres[k], level) if len(rows) > 1 else None
            found += [centres[k : k + 1]] if pair is None else [pair]
        start = np.vstack(found)
        if len(start) == len(centres) or len(start) > _MOST_CLUSTERS:
            break
        centres, labels, _ = kmeans(table, start, "Euclidean", 20)
    return labels


def _halves(rows: Array, centre: Array, level: float) -> Array | None:
    """Return two centres for rows that are not normal between them; else None."""
    off = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(off.T @ off / len(rows))
    if values[-1] <= 0:
        return None
    # Hamerly & Elkan (2003): along the main axis, at sqrt(2 lambda / pi) to both sides. The
    # axis points to the greater part of its components, as eigenvectors have no sign.
    axis = vectors[:, -1] * (1 if vectors[np.argmax(np.abs(vectors[:, -1])), -1] > 0 else -1)
    step = axis * np.sqrt(2 * values[-1] / np.pi)
    pair, _, _ = kmeans(rows, np.stack([centre - step, centre + step]), "Euclidean", 20)
    if len(pair) < 2:
        return None
    way = pair[1] - pair[0]
    return pair if normality(rows @ way) < level else None


@function("Image.Segmentation.GMeans")
def segment_gmeans(
    image: Image, rounds: int, level: float, border: int, side: int | None, unique: bool
) -> Image:
    """Return clusters of cells of a grid, as many as make each normal: a band 'clusters'.

    ``pValue`` is the significance in per cent below which a cluster is divided.
    """
    if not 0 <= level <= 100:
        raise EngineError(f"pValue must be between 0 and 100, not {level:g}.")
    if rounds < 1:
        raise EngineError(f"numIterations must be at least 1, not {rounds}.")

    def find(table: Array) -> Array:
        return _gmeans(table, rounds, level / 100)

    return _cells(image, find, border, side, unique, _MOST_CLUSTERS)
