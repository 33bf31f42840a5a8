"""Where a finished product holds nothing: by tiles of one size, whichever sizes were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gee.exports.checkpoint import release

__all__ = ["SIDE", "Coverage", "coverage"]

SIDE = 256
"""Pixels of a tile a side, as the item counts them."""
_MOST = 5  # tiles that are named
_HALF = 0.5


@dataclass(frozen=True)
class Coverage:
    """Shares of pixels without a value.

    Attributes
    ----------
    shares : ndarray, float32, shape (band, row of tiles, column of tiles)
        0 to 1 for each band of each tile of `SIDE` pixels; those at the lower and right edge may
        be smaller.
    bands : tuple of str
    """

    shares: NDArray[np.float32]
    bands: tuple[str, ...]

    def empty(self) -> list[str]:
        """Return the bands without any value."""
        whole = (self.shares == 1).all(axis=(1, 2))
        return [name for name, nothing in zip(self.bands, whole, strict=True) if nothing]

    def holes(self) -> list[tuple[int, int, str]]:
        """Return (row, column, band) of tiles that are suspicious.

        A band without any value there, while every tile beside it has one in more than half of its
        pixels: masks by cloud or layover seldom end at the edges of a tile, lost answers do.
        """
        # Beyond the edge nothing speaks against it; without any neighbour nothing speaks at all.
        around = np.pad(self.shares, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        beside = np.stack(
            [
                around[:, :-2, 1:-1],
                around[:, 2:, 1:-1],
                around[:, 1:-1, :-2],
                around[:, 1:-1, 2:],
            ]
        )
        found = (self.shares == 1) & (beside < _HALF).all(axis=0) & (beside >= 0).any(axis=0)
        return [(int(r), int(c), self.bands[b]) for b, r, c in np.argwhere(found)]

    def facts(self) -> dict[str, Any]:
        """Return what the item says of it: JSON values."""
        of_tiles = self.shares.mean(axis=0)
        order = np.argsort(-of_tiles, axis=None, kind="stable")[:_MOST]
        places = [np.unravel_index(index, of_tiles.shape) for index in order]
        holes = self.holes()
        return {
            "side": SIDE,
            "count": int(of_tiles.size),
            "nodata": {
                name: round(float(value), 4)
                for name, value in (
                    ("min", of_tiles.min()),
                    ("median", np.median(of_tiles)),
                    ("max", of_tiles.max()),
                )
            },
            "emptiest": [
                {"row": int(r), "col": int(c), "nodata": round(float(of_tiles[r, c]), 4)}
                for r, c in places
                if of_tiles[r, c] > 0
            ],
            "suspicious_count": len(holes),
            "suspicious": [{"row": r, "col": c, "band": name} for r, c, name in holes[:_MOST]],
        }


def coverage(array: NDArray[Any], nodata: float, bands: Sequence[str]) -> Coverage:
    """Return the shares of pixels without a value, read tile row by tile row.

    Parameters
    ----------
    array : ndarray, shape (band, y, x)
    nodata : float
        NaN, or the value that stands for "nothing here".
    bands : sequence of str

    Examples
    --------
    >>> array = np.zeros((1, 256, 512), "float32")
    >>> array[:, :, 256:] = np.nan
    >>> coverage(array, float("nan"), ["a"]).shares.tolist()
    [[[0.0, 1.0]]]
    """
    count, rows, cols = array.shape
    tops, lefts = range(0, rows, SIDE), np.arange(0, cols, SIDE)
    widths = np.diff(np.append(lefts, cols))
    shares = np.empty((count, len(tops), len(lefts)), np.float32)
    for index, top in enumerate(tops):
        for band in range(count):
            part = np.asarray(array[band, top : top + SIDE])
            nothing = np.isnan(part) if np.isnan(nodata) else part == nodata
            sums = np.add.reduceat(nothing.sum(axis=0, dtype=np.int64), lefts)
            shares[band, index] = sums / (widths * part.shape[0])
        release(array)
    return Coverage(shares, tuple(bands))
