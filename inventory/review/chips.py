"""Image chips: from reflectance and other layers to pictures that two dates can be compared in."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["limits", "png", "png_of_shades", "shades", "square_window", "true_colour"]

Rgba = NDArray[np.uint8]

# Anchor colours, dark to light. Sequential: readable on a dark page and in grey; diverging: brown
# for lost vegetation, green-blue for gained, told apart with the common colour blindnesses.
SEQUENTIAL = ("#0b0d17", "#2b1a52", "#6a2479", "#b03a6d", "#ea6651", "#fba55c", "#fbf0a8")
DIVERGING = ("#6b3a06", "#b8741f", "#e6c890", "#f4f2ec", "#a8d8cf", "#3f9c90", "#0b534b")


def square_window(
    bounds: tuple[float, float, float, float],
    *,
    zoom: float = 1.0,
    minimum: int = 64,
    shape: tuple[int, int] | None = None,
) -> tuple[int, int, int]:
    """Return the square of pixels that shows an outline with its surroundings.

    Parameters
    ----------
    bounds : (left, top, right, bottom)
        Of the outline, in pixels.
    zoom : float
        2 shows half as much around, 0.5 twice as much.
    minimum : int
        Side in pixels at zoom 1 at least, so that small outlines keep their surroundings.
    shape : (rows, columns), optional
        Of the raster: the square is moved inside where it fits, and the outline out of its middle.

    Returns
    -------
    (column, row, side) : tuple of int
        May reach beyond the raster where it is larger.

    Examples
    --------
    >>> square_window((100, 100, 110, 104))
    (73, 70, 64)
    """
    left, top, right, bottom = bounds
    side = max(minimum, 2.4 * max(right - left, bottom - top)) / zoom
    # Even, and never so close that the outline is cut.
    pixels = max(2 * round(side / 2), 2 * int(np.ceil(max(right - left, bottom - top) / 2)) + 4)
    column = round((left + right) / 2 - pixels / 2)
    row = round((top + bottom) / 2 - pixels / 2)
    if shape is not None and pixels <= shape[0]:
        row = min(max(row, 0), shape[0] - pixels)
    if shape is not None and pixels <= shape[1]:
        column = min(max(column, 0), shape[1] - pixels)
    return column, row, pixels


def limits(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one stretch per band that both dates share.

    A stretch of its own for each date would hide a change of brightness and invent others. Each
    band has its own, which keeps soils and snow neutral.

    Parameters
    ----------
    before, after : ndarray of float32, shape (band, y, x)
        NaN where there is no data.

    Returns
    -------
    ndarray of float32, shape (band, 2)
        The 1st and 98th percentile over both dates; (0, 1) for a band without data.
    """
    result = np.empty((before.shape[0], 2), dtype="float32")
    for i in range(before.shape[0]):
        both = np.concatenate([before[i].ravel(), after[i].ravel()])
        both = both[np.isfinite(both)]
        low, high = np.percentile(both, [1, 98]) if both.size else (0.0, 1.0)
        result[i] = (low, high if high > low else low + 1.0)
    return result


def true_colour(
    bands: NDArray[np.float32], stretch: NDArray[np.float32], *, gamma: float = 1.5
) -> Rgba:
    """Return a picture of three bands.

    Parameters
    ----------
    bands : ndarray of float32, shape (3, y, x)
        Red, green, blue; NaN where there is no data.
    stretch : ndarray of float32, shape (3, 2)
        From `limits`.
    gamma : float
        Above 1 lifts the dark tones, in which tundra lies.

    Returns
    -------
    ndarray of uint8, shape (y, x, 4)
        Transparent where a band has no data.
    """
    span = stretch[:, 1] - stretch[:, 0]
    scaled = (bands - stretch[:, 0, None, None]) / span[:, None, None]
    valid = np.isfinite(scaled).all(axis=0)
    shown = np.clip(np.nan_to_num(scaled), 0, 1) ** (1 / gamma)
    out = np.zeros((*valid.shape, 4), dtype="uint8")
    out[..., :3] = np.moveaxis((shown * 255 + 0.5).astype("uint8"), 0, -1)
    out[..., 3] = valid * 255
    return out


def _table(anchors: Sequence[str]) -> NDArray[np.uint8]:
    rgb = np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors], dtype=float)
    at = np.linspace(0, len(anchors) - 1, 256)
    columns = [np.interp(at, np.arange(len(anchors)), rgb[:, i]) for i in range(3)]
    return np.stack(columns, axis=1).round().astype("uint8")


_GREY = ("#000000", "#ffffff")
_TABLES = {
    "sequential": _table(SEQUENTIAL),
    "diverging": _table(DIVERGING),
    "grey": _table(_GREY),
}


def shades(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Return a layer as numbers of colours: 0 no data, 1 at `low` and below .. 255 at `high`.

    Parameters
    ----------
    values : ndarray of float32, shape (y, x)
    low, high : float

    Examples
    --------
    >>> shades(np.array([[-1, 0, 0.5, 1, np.nan]], "float32"), 0, 1).tolist()
    [[1, 1, 128, 255, 0]]
    """
    valid = np.isfinite(values)
    scaled = np.clip((np.where(valid, values, low) - low) / max(high - low, 1e-9), 0, 1)
    return np.where(valid, 1 + (scaled * 254 + 0.5).astype("uint8"), 0).astype("uint8")


def png(picture: Rgba) -> bytes:
    """Return a picture as PNG; without opacity where all of it is opaque.

    Parameters
    ----------
    picture : ndarray of uint8, shape (y, x, 4)
        Red, green, blue, opacity.

    Examples
    --------
    >>> png(np.zeros((2, 3, 4), "uint8"))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    if (picture[..., 3] == 255).all():
        return _encoded(picture[..., :3], 2)
    return _encoded(picture, 6)


def png_of_shades(numbers: NDArray[np.uint8], table: str) -> bytes:
    """Return a layer from `shades` as PNG with a table of colours, a byte a pixel.

    Parameters
    ----------
    numbers : ndarray of uint8, shape (y, x)
        0 is transparent.
    table : {"sequential", "diverging", "grey"}
        Diverging is brown below the middle and green above.
    """
    return _encoded(numbers[..., None], 3, _TABLES[table])


def _encoded(
    picture: NDArray[np.uint8], kind: int, table: NDArray[np.uint8] | None = None
) -> bytes:
    height, width, channels = picture.shape
    flat = picture.reshape(height, width * channels)
    rows = np.empty((height, 1 + width * channels), dtype="uint8")
    rows[:, 1:] = flat
    # Filter 1, the difference to the pixel on the left, halves colours; numbers of a table are
    # no amounts, so they stay (filter 0).
    rows[:, 0] = 0 if table is not None else 1
    if table is None:
        rows[:, 1 + channels :] -= flat[:, :-channels]
    # Chips are noisy and go no farther than this machine as a rule: runs are all that is looked
    # for, which takes half the time of the fastest full search.
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    data = deflate.compress(rows.tobytes()) + deflate.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if table is not None:
        parts += [(b"PLTE", table.tobytes()), (b"tRNS", b"\x00")]
    parts += [(b"IDAT", data), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
