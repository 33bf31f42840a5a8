"""Where windows lie on a raster, and how much each counts at its pixels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks", "fitting", "ramp", "starts", "windows_over"]

_LEAST = 1e-3  # a window's weight at its very edge, relative to its middle: never zero


def ramp(size: int, overlap: int) -> NDArray[np.float32]:
    """Return the weight along one side of a window.

    Returns
    -------
    ndarray of float32, shape (size,)
        1 in the middle, falling smoothly over `overlap` pixels to either side, nowhere zero:
        the edge of a raster is seen by one window only, and must not get lost.

    Examples
    --------
    >>> ramp(4, 1).round(2).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    weight = np.ones(size)
    if overlap:
        rise = np.sin((np.arange(overlap) + 0.5) / overlap * np.pi / 2) ** 2
        weight[:overlap] = rise
        weight[-overlap:] = rise[::-1]
    return np.maximum(weight, _LEAST).astype("float32")


def fitting(size: int, window: int) -> int:
    """Return the window's side: no larger than the raster needs, but with room for any decoder.

    Examples
    --------
    >>> fitting(10_000, 512), fitting(200, 512), fitting(3, 512)
    (512, 224, 128)
    """
    return min(window, max(128, -(-size // 32) * 32))


def starts(size: int, window: int, overlap: int) -> list[int]:
    """Return where windows begin along one side of a raster.

    Returns
    -------
    list of int
        Multiples of `window - overlap`, whatever the size; the last may reach over the edge.

    Examples
    --------
    >>> starts(1000, 512, 64), starts(300, 512, 64)
    ([0, 448, 896], [0])
    """
    step = window - overlap
    return [0, *range(step, max(1, size - overlap), step)] if size > window else [0]


def windows_over(first: int, last: int, window: int, overlap: int) -> tuple[int, int]:
    """Return the pixels of all windows that touch some pixels.

    Windows begin at whole multiples of `window - overlap`, so two parts of an area that share a
    window see the same one.

    Parameters
    ----------
    first, last : int
        First pixel, and the one after the last.
    window, overlap : int

    Returns
    -------
    (int, int)
        First pixel of the first window, and the one after the last window.

    Examples
    --------
    >>> windows_over(100, 200, 64, 16)  # windows at 48, 96, 144, 192
    (48, 256)
    """
    step = window - overlap
    start = (first - window) // step + 1
    stop = -(-last // step) - 1
    return start * step, stop * step + window


def blocks(shape: tuple[int, int], side: int) -> list[tuple[int, int, int, int]]:
    """Cut a raster into blocks that are mapped each by itself.

    Parameters
    ----------
    shape : (rows, columns)
    side : int
        Of a block, at most.

    Returns
    -------
    list of (top, left, bottom, right)
        Row by row; of nearly equal size, so that workers end together. One for a raster that is
        no larger than a block.

    Examples
    --------
    >>> blocks((100, 250), 128)
    [(0, 0, 100, 125), (0, 125, 100, 250)]
    """
    rows, columns = (np.linspace(0, n, -(-n // side) + 1).round().astype(int) for n in shape)
    return [
        (int(top), int(left), int(bottom), int(right))
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
