"""Which cells stand for slumps and which for their absence, and the block each lies in.

Kernels that see a part of a raster at a time: what they return does not depend on the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from thawslump.errors import DataError

__all__ = [
    "CellCounts",
    "Runs",
    "SlumpCells",
    "beyond",
    "block_ids",
    "clear_cells",
    "count_labels",
    "draw_positives",
    "joined",
    "nearest_to_centre",
    "numbered",
    "runs_of",
    "slump_cells",
]

NOT_LOOKED_AT = 255
_PIXELS = 2**20  # of slumps that are turned into cells at a time
_WIDE = 512  # cells: a wider buffer is measured on a tree of slump cells, not on a raster


@dataclass(frozen=True)
class CellCounts:
    """Label pixels that fall into each cell of a coarser grid, by their centres.

    Attributes
    ----------
    slump, clear, unseen : ndarray of int32, shape (y, x)
        Pixels labelled 1, 0 and 255 in each cell.
    """

    slump: NDArray[np.int32]
    clear: NDArray[np.int32]
    unseen: NDArray[np.int32]


@dataclass(frozen=True)
class Runs:
    """Pixels of a mask as runs along its rows: memory grows with the slumps, not the raster.

    Attributes
    ----------
    rows, starts, stops : ndarray of int64, shape (n,)
        Row, first column and the column after the last of each run.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


@dataclass(frozen=True)
class SlumpCells:
    """The cells that stand for each slump, and where each slump lies.

    Attributes
    ----------
    cells : ndarray of int64, shape (n,)
        Flat indices into the cells, ordered by slump, then by index.
    slumps : ndarray of int64, shape (n,)
        Number of the slump, from 0, of each of them.
    centres : ndarray of float64, shape (slumps, 2)
        x and y of the mean of each slump's pixels, in CRS coordinates.
    sizes : ndarray of int64, shape (slumps,)
        Pixels of each slump.
    touched : ndarray of int64, shape (m,)
        Flat indices of all cells with a slump pixel, ascending.
    """

    cells: NDArray[np.int64]
    slumps: NDArray[np.int64]
    centres: NDArray[np.float64]
    sizes: NDArray[np.int64]
    touched: NDArray[np.int64]


def _apply(affine: Affine, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    # Written out: the operator for this differs between versions of the affine package.
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _cells_of(
    rows: NDArray[Any], columns: NDArray[Any], pixel_affine: Affine, cell_affine: Affine
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of the cell below each pixel centre."""
    x, y = _apply(pixel_affine, columns + 0.5, rows + 0.5)
    # 1e-6 of a cell: rounding of large coordinates must not move a pixel that ends on an edge.
    column, row = (np.floor(each + 1e-6).astype(np.int64) for each in _apply(~cell_affine, x, y))
    return row, column


def count_labels(
    labels: NDArray[np.uint8],
    label_affine: Affine,
    cell_shape: tuple[int, int],
    cell_affine: Affine,
    *,
    pixel: tuple[int, int] = (0, 0),
    cell: tuple[int, int] = (0, 0),
) -> CellCounts:
    """Count the label pixels of each kind in every cell of a coarser grid.

    Parameters
    ----------
    labels : ndarray of uint8, shape (y, x)
        1 slump, 255 not looked at, 0 not a slump: all, or the part that begins at `pixel`.
    label_affine, cell_affine : Affine
        Pixel to CRS coordinates, of the whole labels and the whole cells; both in one CRS and
        north up.
    cell_shape : (rows, columns)
        Of the cells to count in.
    pixel, cell : (row, column)
        Where the part of the labels and that of the cells begin.

    Returns
    -------
    CellCounts

    Examples
    --------
    >>> labels = np.zeros((4, 4), np.uint8)
    >>> labels[0, 0] = 1
    >>> labels[3, :] = 255
    >>> fine, coarse = Affine.scale(10, -10), Affine.scale(20, -20)
    >>> counts = count_labels(labels, fine, (2, 2), coarse)
    >>> counts.slump.tolist(), counts.unseen.tolist()
    ([[1, 0], [0, 0]], [[0, 0], [2, 2]])
    >>> count_labels(labels[2:], fine, (1, 2), coarse, pixel=(2, 0), cell=(1, 0)).unseen.tolist()
    [[2, 2]]
    """
    height, width = labels.shape
    # North up, so rows of pixels lie in rows of cells.
    row, _ = _cells_of(np.arange(height) + pixel[0], np.zeros(height), label_affine, cell_affine)
    _, column = _cells_of(np.zeros(width), np.arange(width) + pixel[1], label_affine, cell_affine)
    row, column = row - cell[0], column - cell[1]
    rows, columns = (
        np.flatnonzero((each >= 0) & (each < limit))
        for each, limit in ((row, cell_shape[0]), (column, cell_shape[1]))
    )
    slump, clear, unseen = (np.zeros(cell_shape, np.int32) for _ in range(3))
    if rows.size == 0 or columns.size == 0:
        return CellCounts(slump, clear, unseen)
    part = labels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    down, first_row = np.unique(row[rows], return_index=True)
    right, first_column = np.unique(column[columns], return_index=True)
    for kind, total in ((1, slump), (NOT_LOOKED_AT, unseen)):
        marked = part == kind
        if marked.any():
            along = np.add.reduceat(marked, first_column, axis=1, dtype=np.int32)
            total[np.ix_(down, right)] = np.add.reduceat(along, first_row, axis=0)
    # The rest of the pixels of a cell, which are as many as its rows times its columns.
    size = [
        np.diff(np.r_[first, each.size])
        for first, each in ((first_row, rows), (first_column, columns))
    ]
    clear[np.ix_(down, right)] = np.outer(*size)
    clear -= slump + unseen
    return CellCounts(slump, clear, unseen)


def clear_cells(counts: CellCounts) -> NDArray[np.bool_]:
    """Return where all label pixels of a cell were looked at and none is a slump, shape (y, x)."""
    return (counts.slump == 0) & (counts.unseen == 0) & (counts.clear > 0)


def runs_of(mask: NDArray[np.bool_], row: int = 0, column: int = 0) -> Runs:
    """Return the runs of a mask, or of the part of one that begins at a row and column.

    Examples
    --------
    >>> found = runs_of(np.array([[0, 1, 1], [1, 0, 1]], bool), row=10)
    >>> found.rows.tolist(), found.starts.tolist(), found.stops.tolist()
    ([10, 11, 11], [1, 0, 2], [3, 1, 3])
    """
    edges = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    edges[:, 1:-1] = mask
    change = np.diff(edges, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    return Runs(rows + row, starts + column, stops + column)


def joined(parts: Sequence[Runs]) -> Runs:
    """Return the runs of all parts of a mask, ordered by row, then by column."""
    rows, starts, stops = (
        np.concatenate([np.empty(0, np.int64), *(getattr(part, name) for part in parts)])
        for name in ("rows", "starts", "stops")
    )
    order = np.lexsort((starts, rows))
    return Runs(rows[order], starts[order], stops[order])


def numbered(runs: Runs) -> tuple[NDArray[np.int64], int]:
    """Return the group of each run, and how many there are; pixels touch by edges or corners.

    Groups are numbered in the order of their first pixels.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = runs.rows.size
    if count == 0:
        return np.empty(0, np.int64), 0
    wide = int(runs.stops.max()) + 2
    first, last = runs.rows * wide + runs.starts, runs.rows * wide + runs.stops
    # Runs of the next row that begin before this one's end (a corner away) and end after its start.
    low = np.searchsorted(last, first + wide, side="left")
    high = np.searchsorted(first, last + wide, side="right")
    many = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(count), many)
    lower = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many) + np.repeat(low, many)
    # Parts of one run, cut where two parts of the mask meet.
    cut = np.flatnonzero((runs.rows[1:] == runs.rows[:-1]) & (runs.stops[:-1] == runs.starts[1:]))
    upper, lower = np.r_[upper, cut], np.r_[lower, cut + 1]
    graph = coo_array((np.ones(upper.size, bool), (upper, lower)), shape=(count, count))
    found, group = connected_components(graph, directed=False)
    _, begins = np.unique(group, return_index=True)
    rank = np.empty(found, np.int64)
    rank[np.argsort(begins, kind="stable")] = np.arange(found)
    return rank[group], int(found)


def slump_cells(
    runs: Runs, label_affine: Affine, cell_shape: tuple[int, int], cell_affine: Affine
) -> SlumpCells:
    """Return the cells that stand for each slump, and where each slump lies.

    - A slump is one group of touching label pixels (edges or corners).
    - Its cells are those of which it covers at least half (majority rule). A slump too small
      to cover half of any cell keeps the one it covers most (the first of equals), so that no
      slump is lost to the coarser grid.

    Parameters
    ----------
    runs : Runs
        Of the label pixels that are 1, ordered as `joined` leaves them.
    label_affine, cell_shape, cell_affine
        As for `count_labels`.

    Returns
    -------
    SlumpCells

    Examples
    --------
    >>> labels = np.zeros((6, 6), bool)
    >>> labels[0:2, 0:3] = True
    >>> labels[5, 5] = True
    >>> fine, coarse = Affine.scale(10, -10), Affine.scale(30, -30)
    >>> found = slump_cells(runs_of(labels), fine, (2, 2), coarse)
    >>> found.cells.tolist(), found.slumps.tolist(), found.centres.tolist()
    ([0, 3], [0, 1], [[15.0, -10.0], [55.0, -55.0]])
    """
    number, found = numbered(runs)
    size = cell_shape[0] * cell_shape[1]
    length = runs.stops - runs.starts
    weight = np.bincount(number, weights=length, minlength=found)
    x, y = _apply(label_affine, (runs.starts + runs.stops) / 2, runs.rows + 0.5)
    centres = np.stack(
        [np.bincount(number, weights=part * length, minlength=found) / weight for part in (x, y)],
        axis=1,
    )
    pairs, covered = np.empty(0, np.int64), np.empty(0, np.int64)
    ends = np.cumsum(length)
    for begin in range(0, int(length.sum()), _PIXELS):
        # Positions along all runs; each is a pixel.
        at = np.arange(begin, min(begin + _PIXELS, int(ends[-1])))
        run = np.searchsorted(ends, at, side="right")
        columns = runs.starts[run] + at - (ends[run] - length[run])
        row, column = _cells_of(runs.rows[run], columns, label_affine, cell_affine)
        inside = (row >= 0) & (row < cell_shape[0]) & (column >= 0) & (column < cell_shape[1])
        cell = (row * cell_shape[1] + column)[inside]
        each, times = np.unique(number[run][inside] * size + cell, return_counts=True)
        pairs, where = np.unique(np.r_[pairs, each], return_inverse=True)
        covered = np.bincount(where, weights=np.r_[covered, times]).astype(np.int64)
    slump, cell = pairs // size, pairs % size
    pixels_per_cell = abs(cell_affine.determinant / label_affine.determinant)
    largest = np.zeros(found, np.int64)
    np.maximum.at(largest, slump, covered)
    majority = covered * 2 >= pixels_per_cell
    has_majority = np.zeros(found, bool)
    has_majority[slump[majority]] = True
    fallback = ~has_majority[slump] & (covered == largest[slump])
    # Pairs are sorted: the first of equals is the first fallback of its slump.
    index = np.flatnonzero(fallback)
    _, first = np.unique(slump[index], return_index=True)
    keep = majority.copy()
    keep[index[first]] = True
    return SlumpCells(cell[keep], slump[keep], centres, weight.astype(np.int64), np.unique(cell))


def draw_positives(
    slumps: NDArray[np.int64], per_slump: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return positions of at most `per_slump` random cells of every slump, sorted.

    A large slump would otherwise outvote many small ones with near-copies of one place.

    Parameters
    ----------
    slumps : ndarray of int64, shape (n,)
        Number of the slump of each cell.
    per_slump : int
        At least 1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int64
        Positions of the cells.

    Examples
    --------
    >>> slumps = np.array([0, 0, 0, 1])
    >>> chosen = draw_positives(slumps, 2, np.random.default_rng(0))
    >>> len(chosen), slumps[chosen].tolist()
    (3, [0, 0, 1])
    """
    shuffled = rng.permutation(slumps.size)
    by_slump = shuffled[np.argsort(slumps[shuffled], kind="stable")]
    ordered = slumps[by_slump]
    starts = np.searchsorted(ordered, ordered, side="left")
    rank = np.arange(slumps.size) - starts
    return np.sort(by_slump[rank < per_slump])


def nearest_to_centre(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    slumps: NDArray[np.int64],
    centres: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the position of the one cell of every slump that lies nearest to its centre, sorted.

    - Where the centre lies on one of the slump's cells, that cell.
    - Where it does not, as in a crescent or a ring, the slump's own cell nearest to it: the
      sample always stands on the slump.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        Centres of the cells of slumps.
    slumps : ndarray of int64, shape (n,)
    centres : ndarray of float64, shape (slumps, 2)

    Returns
    -------
    ndarray of int64
        Of equally near cells the first.

    Examples
    --------
    >>> crescent = np.array([0.0, 0.0, 30.0]), np.array([0.0, 30.0, 60.0])
    >>> nearest_to_centre(*crescent, np.zeros(3, int), np.array([[20.0, 29.0]])).tolist()
    [1]
    """
    away = (x - centres[slumps, 0]) ** 2 + (y - centres[slumps, 1]) ** 2
    order = np.lexsort((np.arange(x.size), away, slumps))
    _, first = np.unique(slumps[order], return_index=True)
    return np.sort(order[first])


def beyond(
    touched: NDArray[np.int64],
    columns: int,
    first: tuple[int, int],
    shape: tuple[int, int],
    spacing: tuple[float, float],
    buffer: float,
) -> NDArray[np.bool_]:
    """Return which cells of a window lie beyond a buffer around all cells that a slump touches.

    Distances are between the centres of cells; those of the window's surroundings count.

    Parameters
    ----------
    touched : ndarray of int64, shape (m,)
        Flat indices, ascending, into all cells (`SlumpCells.touched`).
    columns : int
        Of all cells.
    first, shape : (row, column), (rows, columns)
        The window.
    spacing : (float, float)
        Height and width of a cell, units of the CRS.
    buffer : float
        In the same units; 0 leaves out the touched cells alone.

    Returns
    -------
    ndarray of bool, shape `shape`

    Examples
    --------
    >>> beyond(np.array([0]), 4, (0, 1), (1, 3), (30.0, 30.0), 30.0).tolist()
    [[False, True, True]]
    """
    reach = [int(buffer // each) + 1 for each in spacing]
    top, bottom = max(0, first[0] - reach[0]), first[0] + shape[0] + reach[0]
    low, high = np.searchsorted(touched, [top * columns, bottom * columns])
    row, column = np.divmod(touched[low:high], columns)
    near = (column >= first[1] - reach[1]) & (column < first[1] + shape[1] + reach[1])
    row, column = row[near] - first[0], column[near] - first[1]
    if row.size == 0:
        return np.ones(shape, bool)
    if max(reach) > _WIDE:
        from scipy.spatial import cKDTree

        tree = cKDTree(np.stack([row * spacing[0], column * spacing[1]], axis=1))
        rows, cols = np.indices(shape).reshape(2, -1)
        away, _ = tree.query(np.stack([rows * spacing[0], cols * spacing[1]], axis=1))
        return np.asarray(away.reshape(shape) > buffer)
    free = np.ones((shape[0] + 2 * reach[0], shape[1] + 2 * reach[1]), bool)
    free[row + reach[0], column + reach[1]] = False
    away = ndimage.distance_transform_edt(free, sampling=spacing)
    inner = away[reach[0] : reach[0] + shape[0], reach[1] : reach[1] + shape[1]]
    return np.asarray(inner > buffer)


def block_ids(
    x: NDArray[np.float64], y: NDArray[np.float64], origin: tuple[float, float], size: float
) -> NDArray[np.int64]:
    """Return the number of the square block that each point lies in.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        Coordinates in one projected CRS.
    origin : (x, y)
        A corner of the blocks; points may lie on any side of it.
    size : float
        Edge of a block, in units of the CRS.

    Returns
    -------
    ndarray of int64, shape (n,)
        Equal for points of one block; not consecutive.

    Raises
    ------
    DataError
        `size` is not positive.

    Examples
    --------
    >>> ids = block_ids(np.array([1.0, 99.0, 101.0]), np.zeros(3), (0.0, 0.0), 100.0)
    >>> bool(ids[0] == ids[1]), bool(ids[1] == ids[2])
    (True, False)
    """
    if size <= 0:
        raise DataError(f"Block size {size:g} given, a positive number of metres expected.")
    column = np.floor((np.asarray(x) - origin[0]) / size).astype(np.int64)
    row = np.floor((np.asarray(y) - origin[1]) / size).astype(np.int64)
    # Interleaved with a stride no real grid reaches (10 million blocks along an edge).
    return row * 20_000_003 + column
