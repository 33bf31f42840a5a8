"""Texture from co-occurrences of grey levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import kernels
from ..budget import tick
from ..errors import EngineError
from ..image import HaloNode, Image
from ..pixels import Array, Pixels
from ..projection import Window
from ..types import DOUBLE
from .kernels import Kernel
from .registry import function

__all__ = ["MEASURES", "cooccurrence"]

MEASURES = (
    "asm", "contrast", "corr", "var", "idm", "savg", "svar", "sent", "ent", "dvar", "dent",
    "imcorr1", "imcorr2", "maxcorr", "diss", "inertia", "shade", "prom",
)  # fmt: skip
# Those of the default 3 x 3 square, (x, y) ([A] Image.glcmTexture).
_OFFSETS = ((-1, -1), (0, -1), (1, -1), (-1, 0))
# Pairs held at a time: rows of a tile are taken in strips.
_PAIRS = 4 * 2**20


def _offsets(kernel: Kernel | None) -> list[tuple[int, int]]:
    """Return the offsets of a kernel, scanned by rows, one of each pair of opposites."""
    if kernel is None:
        return list(_OFFSETS)
    weights, (row, column) = kernel.built()
    found: list[tuple[int, int]] = []
    for r, c in np.argwhere(weights != 0).tolist():
        x, y = c - column, r - row
        if (x, y) != (0, 0) and (-x, -y) not in found:
            found.append((x, y))
    if not found:
        raise EngineError("The kernel has no pixel other than its centre.")
    return found


def _repeats(codes: Array) -> Array:
    """Return how often the code of every place occurs in its row; rows are sorted."""
    count, width = codes.shape
    change = codes[:, 1:] != codes[:, :-1]
    places = np.arange(width)
    begin = np.zeros((count, width), np.int32)
    begin[:, 1:] = np.where(change, places[1:], 0)
    np.maximum.accumulate(begin, axis=1, out=begin)
    end = np.full((count, width), width, np.int32)
    end[:, :-1] = np.where(change, places[1:], width)
    end = np.minimum.accumulate(end[:, ::-1], axis=1)[:, ::-1]
    return (end - begin).astype(np.float32)


def _runs(codes: Array, some: Array | None) -> tuple[Array, Array]:
    """Return (sum of squared shares, entropy) of the codes in every row that count.

    Codes are not negative. Narrow types are sorted much faster.
    """
    top = int(codes.max(initial=0)) + 1
    codes = codes.astype(np.min_scalar_type(top))
    if some is not None:
        codes = np.where(some, codes, codes.dtype.type(top))
    ordered = np.sort(codes, axis=1)
    repeats = _repeats(ordered)
    if some is None:
        # In the steps of rows with gaps, or a pixel would depend on the tile's other pixels.
        whole = np.full((len(codes), 1), float(codes.shape[1]))
        square = repeats.sum(axis=1, dtype=float) / whole[:, 0] ** 2
        return square, -np.log(repeats / whole).sum(axis=1) / whole[:, 0]
    total = np.maximum(some.sum(axis=1), 1).astype(float)
    real = ordered != top
    square = np.where(real, repeats, 0).sum(axis=1, dtype=float) / total**2
    shares = np.where(real, repeats / total[:, None], 1)
    return square, -np.log(shares).sum(axis=1) / total


def cooccurrence(first: Array, second: Array, some: Array | None = None) -> Array:
    """Return the texture measures of pairs of grey levels.

    A pair counts both ways round, so the matrix is symmetric. Logarithms are natural. The sum
    variance is about the sum average. The correlation of a flat neighbourhood is 1, its
    information measures are 0; the greatest correlation is not computed ([A]) and 0.

    Parameters
    ----------
    first, second : (n, pairs) int64
        Grey levels of the two pixels of every pair.
    some : (n, pairs) bool, optional
        The pairs that count.

    Returns
    -------
    (18, n) float64
        In the order of `MEASURES` (Haralick et al. 1973; Conners et al. 1984).

    Examples
    --------
    >>> found = dict(zip(MEASURES, cooccurrence(np.array([[1, 1]]), np.array([[1, 3]]))))
    >>> float(found["contrast"][0]), float(found["savg"][0])
    (2.0, 3.0)
    """
    i = np.concatenate([first, second], axis=1)
    j = np.concatenate([second, first], axis=1)
    both = None if some is None else np.concatenate([some, some], axis=1)
    n = float(first.shape[1]) if some is None else np.maximum(some.sum(axis=1), 1).astype(float)
    off = np.abs(first - second).astype(float)
    total = (first + second).astype(float)

    def mean(values: Array) -> Array:
        """Return the mean over pairs; both ways round they are alike."""
        found: Array = (values if some is None else np.where(some, values, 0)).sum(axis=1) / n
        return found

    middle = mean(total) / 2
    left, right = first - middle[:, None], second - middle[:, None]
    variance = mean((left**2 + right**2) / 2)
    joint = mean(left * right)
    flat = variance <= 0
    contrast, average = mean(off**2), 2 * middle
    about = total - average[:, None]
    low = int(min(i.min(), j.min())) if i.size else 0
    span = int(max(i.max(), j.max())) - low + 1 if i.size else 1
    asm, entropy = _runs((i - low) * span + (j - low), both)
    _, own = _runs(i - low, both)
    _, of_sums = _runs(first + second - 2 * low, some)
    # Differences count with their sign away, as sums do.
    _, of_differences = _runs(np.abs(first - second), some)
    first_measure = np.divide(entropy - 2 * own, own, out=np.zeros(len(own)), where=own > 1e-12)
    second_measure = np.sqrt(np.maximum(1 - np.exp(-2 * np.maximum(2 * own - entropy, 0)), 0))
    return np.stack(
        [
            asm,
            contrast,
            np.divide(joint, variance, out=np.ones(len(joint)), where=~flat),
            variance,
            mean(1 / (1 + off**2)),
            average,
            mean(about**2),
            of_sums,
            entropy,
            contrast - mean(off) ** 2,
            of_differences,
            first_measure,
            second_measure,
            np.zeros(len(asm)),
            mean(off),
            contrast,
            mean(about**3),
            mean(about**4),
        ]
    )


def _of_offset(
    data: Array, ok: Array | None, size: int, offset: tuple[int, int], rows: range, width: int
) -> tuple[Array, Array]:
    """Return measures of a strip (18, rows * width), and where there are pairs."""
    dx, dy = offset
    side = 2 * size + 1
    starts = [
        (r, c)
        for r in range(max(0, -dy), min(side, side - dy))
        for c in range(max(0, -dx), min(side, side - dx))
    ]
    height = len(rows)

    def taken(source: Array, by: tuple[int, int]) -> Array:
        parts = [
            source[
                rows.start + r + by[1] : rows.start + r + by[1] + height,
                c + by[0] : c + by[0] + width,
            ].ravel()
            for r, c in starts
        ]
        return np.stack(parts, axis=1)

    some = None if ok is None else taken(ok, (0, 0)) & taken(ok, offset)
    found = cooccurrence(taken(data, (0, 0)), taken(data, offset), some)
    has = np.ones(found.shape[1], bool)
    if some is not None:
        has = np.asarray(some.any(axis=1))
    return found, has


@function("Image.glcmTexture")
def glcm_texture(image: Image, size: int, kernel: Kernel | None, average: bool) -> Image:
    """Return 18 measures of the texture around every pixel of every band.

    Pairs with a masked pixel do not count; the result is masked where the pixel itself is, or
    where no pair is left. Bands are named band_measure, with ``average`` off
    band_measure_x_y for the offset.
    """
    if not 1 <= size <= 32:
        raise EngineError(f"size must be between 1 and 32, not {size}.")
    offsets = _offsets(kernel)
    side = 2 * size + 1
    if any(abs(x) >= side or abs(y) >= side for x, y in offsets):
        raise EngineError(f"The kernel's offsets must lie within the neighbourhood of {side}.")
    groups = 1 if average else len(offsets)

    def compute(window: Window, pixels: Pixels) -> Sequence[Pixels]:
        h, w = window.shape
        ok = kernels.valid(pixels.mask)
        data = pixels.data.astype(np.int64)
        out = np.zeros((groups, len(MEASURES), h * w))
        has = np.ones((groups, h * w), bool)
        step = max(_PAIRS // (w * 2 * side * side), 1)
        for top in range(0, h, step):
            tick()
            rows = range(top, min(top + step, h))
            part = slice(top * w, rows.stop * w)
            for k, offset in enumerate(offsets):
                found, some = _of_offset(data, ok, size, offset, rows, w)
                group = 0 if average else k
                out[group, :, part] += found / (len(offsets) if average else 1)
                has[group, part] &= some
        own = None if ok is None else ok[size:-size, size:-size]
        return [
            Pixels(
                values.reshape(h, w),
                None if own is None else own & has[group].reshape(h, w),
            )
            for group in range(groups)
            for values in out[group]
        ]

    bands = []
    for b in image.bands:
        if not b.type.is_int:
            raise EngineError(f"Inputs must be integer valued; band '{b.id}' is not.")
        node = HaloNode(compute, [b], size)
        names = MEASURES if average else [f"{m}_{x}_{y}" for x, y in offsets for m in MEASURES]
        bands += [
            b.computed(DOUBLE, node, k).renamed(f"{b.id}_{name}") for k, name in enumerate(names)
        ]
    return image.derived(bands)
