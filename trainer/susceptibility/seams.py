"""Slumps that the edge between two rasters cuts in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from trainer.susceptibility.samples import Runs, SlumpCells, numbered

__all__ = ["Sheet", "common_slumps"]

_REACH = 1.5  # pixels between the centres of two that touch by a corner


@dataclass(frozen=True)
class Sheet:
    """The slumps of one raster of labels.

    Attributes
    ----------
    crs : str
    affine : Affine
        Pixel to CRS coordinates; north up.
    shape : (rows, columns)
    runs : Runs
    slumps : SlumpCells
    """

    crs: str
    affine: Affine
    shape: tuple[int, int]
    runs: Runs
    slumps: SlumpCells

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top, a pixel and a half wider than the raster."""
        a = self.affine
        wide, high = _REACH * a.a, -_REACH * a.e
        return (
            a.c - wide,
            a.f + self.shape[0] * a.e - high,
            a.c + self.shape[1] * a.a + wide,
            a.f + high,
        )

    def pixels(
        self, box: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the centres of slump pixels in a box, shape (n, 2), and the slump of each."""
        left, bottom, right, top = box
        a = self.affine
        runs, number = self.runs, numbered(self.runs)[0]
        y = a.f + (runs.rows + 0.5) * a.e
        low = np.maximum(runs.starts, np.ceil((left - a.c) / a.a - 0.5).astype(np.int64))
        high = np.minimum(runs.stops, np.floor((right - a.c) / a.a + 0.5).astype(np.int64))
        here = (y >= bottom) & (y <= top) & (high > low)
        low, length, y, number = low[here], (high - low)[here], y[here], number[here]
        run = np.repeat(np.arange(length.size), length)
        column = np.arange(run.size) - (np.cumsum(length) - length)[run] + low[run]
        return np.stack([a.c + (column + 0.5) * a.a, y[run]], axis=1), number[run]


def common_slumps(sheets: Sequence[Sheet]) -> tuple[NDArray[np.int64], ...]:
    """Return the number of each slump over all rasters, by raster; parts of one slump share it.

    Large areas are exported in parts, and a slump on the edge of two would count as two, with its
    halves on both sides of a split into folds. Pixels of two rasters of one coordinate system
    belong together where they touch, by an edge or a corner, or lie on each other.

    Parameters
    ----------
    sheets : sequence of Sheet

    Returns
    -------
    tuple of ndarray of int64
        Numbers from 0 in the order of the first part of each slump.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    counts = [len(sheet.slumps.centres) for sheet in sheets]
    begins = np.r_[0, np.cumsum(counts)]
    ones, others = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    boxes = [sheet.box for sheet in sheets]
    for first, sheet in enumerate(sheets):
        for second in range(first + 1, len(sheets)):
            box = (
                max(boxes[first][0], boxes[second][0]),
                max(boxes[first][1], boxes[second][1]),
                min(boxes[first][2], boxes[second][2]),
                min(boxes[first][3], boxes[second][3]),
            )
            if sheet.crs != sheets[second].crs or box[0] >= box[2] or box[1] >= box[3]:
                continue
            (here, mine), (there, theirs) = sheet.pixels(box), sheets[second].pixels(box)
            if not (len(here) and len(there)):
                continue
            near = cKDTree(here).sparse_distance_matrix(
                cKDTree(there), _REACH * sheet.affine.a, output_type="coo_matrix"
            )
            ones.append(mine[near.row] + begins[first])
            others.append(theirs[near.col] + begins[second])
    edges = np.concatenate(ones), np.concatenate(others)
    total = int(begins[-1])
    graph = coo_array((np.ones(edges[0].size, bool), edges), shape=(total, total))
    _, group = connected_components(graph, directed=False)
    _, where, inverse = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(where.size, np.int64)
    rank[np.argsort(where, kind="stable")] = np.arange(where.size)
    return tuple(np.split(rank[inverse], begins[1:-1]))
