"""Which cells stand for slumps and which for their absence, and the block each lies in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from thawslump.errors import DataError

__all__ = [
    "CellCounts",
    "block_ids",
    "count_labels",
    "draw_positives",
    "negative_candidates",
    "slump_cells",
]

NOT_LOOKED_AT = 255


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


def _apply(affine: Affine, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    # Written out: the operator for this differs between versions of the affine package.
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _cells_of(
    rows: NDArray[Any],
    columns: NDArray[Any],
    pixel_affine: Affine,
    cell_affine: Affine,
    cell_shape: tuple[int, int],
) -> NDArray[np.int64]:
    """Return the flat index of the cell below each pixel centre; -1 outside the cells."""
    x, y = _apply(pixel_affine, columns + 0.5, rows + 0.5)
    # 1e-6 of a cell: rounding of large coordinates must not move a pixel that ends on an edge.
    column, row = (np.floor(each + 1e-6).astype(np.int64) for each in _apply(~cell_affine, x, y))
    inside = (row >= 0) & (row < cell_shape[0]) & (column >= 0) & (column < cell_shape[1])
    return np.where(inside, row * cell_shape[1] + column, -1)


def count_labels(
    labels: NDArray[np.uint8],
    label_affine: Affine,
    cell_shape: tuple[int, int],
    cell_affine: Affine,
) -> CellCounts:
    """Count the label pixels of each kind in every cell of a coarser grid.

    Parameters
    ----------
    labels : ndarray of uint8, shape (y, x)
        1 slump, 0 not, 255 not looked at.
    label_affine, cell_affine : Affine
        Pixel to CRS coordinates, of the labels and of the cells; both in one CRS.
    cell_shape : (rows, columns)

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
    """
    size = cell_shape[0] * cell_shape[1]
    kinds = (1, 0, NOT_LOOKED_AT)
    totals = [np.zeros(size, np.int64) for _ in kinds]
    step = max(1, 2**20 // max(1, labels.shape[1]))
    for first in range(0, labels.shape[0], step):
        strip = labels[first : first + step]
        places = np.indices(strip.shape, dtype=np.int64)
        cells = _cells_of(places[0] + first, places[1], label_affine, cell_affine, cell_shape)
        for total, kind in zip(totals, kinds, strict=True):
            total += np.bincount(cells[(strip == kind) & (cells >= 0)], minlength=size)
    slump, clear, unseen = (total.reshape(cell_shape).astype(np.int32) for total in totals)
    return CellCounts(slump, clear, unseen)


def slump_cells(
    labels: NDArray[np.uint8],
    label_affine: Affine,
    cell_shape: tuple[int, int],
    cell_affine: Affine,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the cells that stand for each slump, and where each slump lies.

    - A slump is one group of touching label pixels (edges or corners).
    - Its cells are those of which it covers at least half (majority rule). A slump too small
      to cover half of any cell keeps the one it covers most (the first of equals), so that no
      slump is lost to the coarser grid.

    Parameters
    ----------
    labels, label_affine, cell_shape, cell_affine
        As for `count_labels`.

    Returns
    -------
    cells : ndarray of int64, shape (n,)
        Flat indices into the cells, ordered by slump, then by index.
    slumps : ndarray of int64, shape (n,)
        Number of the slump, from 0, of each of them.
    centres : ndarray of float64, shape (slumps, 2)
        x and y of the mean of each slump's pixels, in CRS coordinates.

    Examples
    --------
    >>> labels = np.zeros((6, 6), np.uint8)
    >>> labels[0:2, 0:3] = 1
    >>> labels[5, 5] = 1
    >>> fine, coarse = Affine.scale(10, -10), Affine.scale(30, -30)
    >>> cells, slumps, centres = slump_cells(labels, fine, (2, 2), coarse)
    >>> cells.tolist(), slumps.tolist(), centres.tolist()
    ([0, 3], [0, 1], [[15.0, -10.0], [55.0, -55.0]])
    """
    numbers, found = ndimage.label(labels == 1, structure=np.ones((3, 3), int))
    rows, columns = np.nonzero(numbers)
    number = numbers[rows, columns].astype(np.int64) - 1
    size = cell_shape[0] * cell_shape[1]
    weight = np.bincount(number, minlength=found)
    x, y = _apply(label_affine, columns + 0.5, rows + 0.5)
    with np.errstate(invalid="ignore"):
        centres = np.stack(
            [np.bincount(number, weights=part, minlength=found) / weight for part in (x, y)], axis=1
        )
    cell = _cells_of(
        rows.astype(np.int64), columns.astype(np.int64), label_affine, cell_affine, cell_shape
    )
    inside = cell >= 0
    pairs, covered = np.unique(number[inside] * size + cell[inside], return_counts=True)
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
    return cell[keep], slump[keep], centres


def draw_positives(
    cells: NDArray[np.int64],
    slumps: NDArray[np.int64],
    per_slump: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return positions of at most `per_slump` random cells of every slump, sorted.

    A large slump would otherwise outvote many small ones with near-copies of one place.

    Parameters
    ----------
    cells, slumps : ndarray of int64, shape (n,)
        As `slump_cells` returns them.
    per_slump : int
        At least 1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int64
        Positions into `cells`.

    Examples
    --------
    >>> slumps = np.array([0, 0, 0, 1])
    >>> chosen = draw_positives(np.arange(4), slumps, 2, np.random.default_rng(0))
    >>> len(chosen), slumps[chosen].tolist()
    (3, [0, 0, 1])
    """
    shuffled = rng.permutation(cells.size)
    by_slump = shuffled[np.argsort(slumps[shuffled], kind="stable")]
    ordered = slumps[by_slump]
    starts = np.searchsorted(ordered, ordered, side="left")
    rank = np.arange(cells.size) - starts
    return np.sort(by_slump[rank < per_slump])


def negative_candidates(
    counts: CellCounts, cell_affine: Affine, buffer: float
) -> NDArray[np.int64]:
    """Return the cells that may stand for the absence of slumps.

    - All their label pixels were looked at and none is a slump.
    - Their centres lie more than `buffer` from the centre of every cell that a slump touches.

    Parameters
    ----------
    counts : CellCounts
    cell_affine : Affine
        Of the cells, without rotation.
    buffer : float
        In units of the CRS.

    Returns
    -------
    ndarray of int64, shape (n,)
        Flat indices, ascending.

    Examples
    --------
    >>> slump = np.array([[1, 0, 0, 0]], np.int32)
    >>> clear, unseen = np.array([[0, 9, 9, 8]], np.int32), np.array([[0, 0, 0, 1]], np.int32)
    >>> negative_candidates(CellCounts(slump, clear, unseen), Affine.scale(30, -30), 30.0).tolist()
    [2]
    """
    suitable = (counts.slump == 0) & (counts.unseen == 0) & (counts.clear > 0)
    touched = counts.slump > 0
    if touched.any():
        spacing = (abs(cell_affine.e), abs(cell_affine.a))
        suitable &= ndimage.distance_transform_edt(~touched, sampling=spacing) > buffer
    return np.flatnonzero(suitable)


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
