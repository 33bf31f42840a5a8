"""Distance to the nearest of many points, exact, in few or in many dimensions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from thawslump.errors import DataError
from trainer.susceptibility.kernels import _blas

__all__ = ["Nearest"]

Floats = NDArray[np.float64]
# Rows and points of one product: 2 MB in single precision, which stays in a core's cache.
_ROWS, _POINTS = 256, 2048
# Rows given to a thread at a time.
_AT_ONCE = 65_536


class Nearest:
    """Distances to the nearest point.

    In few dimensions a k-d tree finds it after looking at some points. In many, where every
    branch of a tree has to be looked into, products of matrices look at all of them in less
    time: in single precision, and again in double precision for the rows whose two nearest points
    single precision cannot tell apart. Both give the same distances to rounding in double
    precision.

    Parameters
    ----------
    points : array_like of float, shape (n, dimensions)
        Finite; those that repeat others count once.

    Raises
    ------
    DataError
        No points, or not two-dimensional.

    Examples
    --------
    >>> Nearest([[0.0, 0.0], [3.0, 4.0]]).distances([[3.0, 0.0], [3.0, 5.0]]).tolist()
    [3.0, 1.0]
    """

    def __init__(self, points: ArrayLike) -> None:
        values = np.asarray(points, np.float64)
        if values.ndim != 2 or not values.size:
            raise DataError(
                f"Points have the shape {values.shape}; expected (points, dimensions).",
                hint="Give at least one point, one in each row.",
            )
        self.points = values
        distinct = np.unique(values, axis=0)
        count, dimensions = distinct.shape
        # Measured: a tree of 10,000 points pays up to 6 dimensions, one of 100,000 up to 8.
        self._tree = cKDTree(distinct) if 4**dimensions <= count else None
        self._centre = distinct.mean(axis=0)
        self._away = distinct - self._centre
        self._squares = np.einsum("ij,ij->i", self._away, self._away)
        self._reach = float(np.sqrt(self._squares.max()))
        # Points of one product, as many in each.
        self._together = -(-count // -(-count // _POINTS))
        self._right: dict[str, list[NDArray[Any]]] = {}

    def distances(self, rows: ArrayLike, threads: int = 1) -> Floats:
        """Return the distance of each row to the nearest point.

        Parameters
        ----------
        rows : array_like of float, shape (m, dimensions)
            Finite.
        threads : int
            That share the rows.

        Returns
        -------
        ndarray of float64, shape (m,)

        Raises
        ------
        DataError
            Another number of dimensions.
        """
        values = np.asarray(rows, np.float64)
        if values.ndim != 2 or values.shape[1] != self.points.shape[1]:
            raise DataError(
                f"Rows of shape {values.shape} were given to points of {self.points.shape[1]} "
                "dimensions.",
                hint="Give (rows, dimensions), in the order of the points' dimensions.",
            )
        if self._tree is not None:
            return np.asarray(self._tree.query(values, workers=threads)[0], np.float64)
        found = np.empty(len(values))
        self._turned(np.float32)  # what is prepared once is prepared before threads ask for it
        # Whole blocks, so that the numbers do not depend on how many threads there are.
        share = -(-len(values) // max(threads, 1)) or 1
        step = min(_AT_ONCE, -(-share // _ROWS) * _ROWS)

        def fill(first: int) -> None:
            found[first : first + step] = self._of_all(values[first : first + step])

        # The products are too small to be shared out by BLAS itself.
        with _blas().limit(limits=1, user_api="blas"):
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(fill, range(0, len(values), step)))
            else:
                for first in range(0, len(values), step):
                    fill(first)
        return found

    def _of_all(self, rows: Floats) -> Floats:
        away = rows - self._centre
        found = np.empty(len(rows))
        out = np.empty((_ROWS, self._together), np.float32)
        for first in range(0, len(rows), _ROWS):
            part = away[first : first + _ROWS]
            index, gap = self._nearest(part, np.float32, out)
            # What the terms of |b|^2 - 2 a b may be off by, twice: their inputs, sums and squares.
            lengths = np.sqrt(np.einsum("ij,ij->i", part, part))
            terms = self._reach * (self._reach + 2 * lengths)
            unsure = gap <= 2 * (part.shape[1] + 6) * 2.0**-24 * terms
            if unsure.any():
                index[unsure] = self._nearest(part[unsure], np.float64)[0]
            between = part - self._away[index]
            found[first : first + _ROWS] = np.einsum("ij,ij->i", between, between)
        return np.asarray(np.sqrt(found), np.float64)

    def _nearest(
        self, away: Floats, kind: Any, out: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.int64], Floats]:
        """Return the nearest point of each row, and by how much the next square is larger."""
        left = np.empty((len(away), away.shape[1] + 1), kind)
        left[:, :-1] = away
        left[:, -1] = 1.0
        rows = np.arange(len(away))
        index = np.zeros(len(away), np.int64)
        best, second = np.full((2, len(away)), np.inf, kind)
        for number, right in enumerate(self._turned(kind)):
            whole = out is not None and out.shape == (len(left), right.shape[1])
            squares = np.matmul(left, right, out=out if whole else None)
            here = squares.argmin(axis=1)
            least = squares[rows, here]
            squares[rows, here] = np.inf
            # The second of both: the lesser of the seconds, or the greater of the firsts.
            second = np.minimum(np.minimum(second, squares.min(axis=1)), np.maximum(best, least))
            nearer = least < best
            index[nearer] = here[nearer] + number * self._together
            best = np.minimum(best, least)
        return index, (second - best).astype(np.float64)

    def _turned(self, kind: Any) -> list[NDArray[Any]]:
        """-2 b and |b|^2 of all points, so that one product with (a, 1) gives |a - b|^2 - |a|^2."""
        key = np.dtype(kind).name
        if key not in self._right:
            whole = np.concatenate([-2.0 * self._away.T, self._squares[None]])
            self._right[key] = [
                np.ascontiguousarray(whole[:, first : first + self._together], kind)
                for first in range(0, whole.shape[1], self._together)
            ]
        return self._right[key]
