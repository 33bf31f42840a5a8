"""Edges, lines, and the surfaces that parabolas and distances make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import kernels
from ..budget import steps as paced
from ..budget import tick
from ..errors import EngineError
from ..image import BlockNode, HaloNode, Image, full
from ..pixels import Array, Band, Context, Pixels
from ..projection import Window
from ..types import DOUBLE, FLOAT, INT64, UNIT, PixelType
from .registry import function

__all__ = ["parabolas"]


# ------------------------------------------------------------------ edges


def _smoothed(values: Array, ok: Array | None, sigma: float) -> tuple[Array, Array | None]:
    """Return values under a Gaussian of four deviations, over the valid pixels."""
    if sigma == 0:
        return values, ok
    from scipy import ndimage

    def blur(data: Array) -> Array:
        return np.asarray(ndimage.gaussian_filter(data, sigma, mode="nearest", truncate=4.0))

    if ok is None:
        return blur(values), None
    weight = blur(ok.astype(float))
    # Where no pixel is masked the weight is 1 but for rounding, which a tile without masked
    # pixels would not see.
    weight = np.where(np.abs(weight - 1) < 1e-9, 1.0, weight)
    return blur(np.where(ok, values, 0)) / np.where(weight > 0, weight, 1), weight > 1e-9


def _thin_edges(values: Array, ok: Array | None, threshold: float) -> Array:
    """Return the gradient's magnitude at its ridges above a threshold, else 0; two rows less.

    The gradient is the central difference per pixel. A pixel is on a ridge where neither
    neighbour along the gradient, in the nearest of eight directions, is larger.
    """
    dx = (values[1:-1, 2:] - values[1:-1, :-2]) / 2
    dy = (values[2:, 1:-1] - values[:-2, 1:-1]) / 2
    size = np.hypot(dx, dy)
    if ok is not None:
        whole = ok[1:-1, 1:-1] & ok[1:-1, 2:] & ok[1:-1, :-2] & ok[2:, 1:-1] & ok[:-2, 1:-1]
        size = np.where(whole, size, 0)
    way = np.round(np.arctan2(dy, dx)[1:-1, 1:-1] / (math.pi / 4)).astype(int) % 4
    here = size[1:-1, 1:-1]
    out = np.zeros(here.shape)
    for k, (c, r) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        ahead = kernels.shifted(size, r, c, 1)
        behind = kernels.shifted(size, -r, -c, 1)
        # On a plateau (to rounding) the first pixel along the direction counts: edges stay thin.
        ridge = (way == k) & (here > behind * (1 + 1e-9)) & (here >= ahead * (1 - 1e-9))
        out[ridge] = here[ridge]
    return np.where(out > threshold, out, 0)


@function("CannyEdgeDetector")
def canny(image: Image, threshold: float, sigma: float) -> Image:
    """Return the gradient's magnitude at edges, 0 elsewhere; masked where the input is.

    Masked neighbours do not take part in the smoothing; there is one threshold, no tracing.
    """
    if not 0 <= sigma <= 64:
        raise EngineError(f"sigma must be between 0 and 64, not {sigma:g}.")
    reach = int(4 * sigma + 0.5)

    def compute(window: Window, pixels: Pixels) -> Sequence[Pixels]:
        ok = kernels.valid(pixels.mask)
        values, some = _smoothed(pixels.data.astype(float), ok, sigma)
        inside = np.s_[reach : values.shape[0] - reach, reach : values.shape[1] - reach]
        found = _thin_edges(values[inside], None if some is None else some[inside], threshold)
        border = reach + 2
        own = None if ok is None else ok[border:-border, border:-border]
        return [Pixels(found, own)]

    return image.with_bands(
        [b.computed(DOUBLE, HaloNode(compute, [b], reach + 2)) for b in image.bands]
    )


# ------------------------------------------------------------------ lines


def _lines(active: Array, threshold: float, smooth: bool) -> Array:
    """Return the pixels on straight lines that so many active pixels vote for.

    Angles are whole degrees, distances whole pixels; smoothing weighs a cell's neighbours
    1 2 1 both ways.
    """
    from scipy import ndimage
    from skimage.transform import hough_line

    out = np.zeros(active.shape, bool)
    if not active.any():
        return out
    angles = np.deg2rad(np.arange(-90, 90))
    votes, _, far = hough_line(active, angles)
    votes = votes.astype(float)
    if smooth:
        for axis in (0, 1):
            votes = ndimage.convolve1d(votes, [0.25, 0.5, 0.25], axis, mode="constant")
    found = votes >= threshold
    rows, columns = np.mgrid[: active.shape[0], : active.shape[1]]
    for k in paced(np.nonzero(found.any(axis=0))[0]):
        place = np.round(columns * np.cos(angles[k]) + rows * np.sin(angles[k]) - far[0])
        out |= found[place.astype(int), k]
    return out


@function("HoughTransform")
def hough(image: Image, side: int, active: float, threshold: float, smooth: bool) -> Image:
    """Return 1 on straight lines of bright pixels, cell by cell of a grid; bands band_lines.

    The grid is one of the output's pixels, the same whatever tiles are asked for.
    """
    if not 8 <= side <= 1024:
        raise EngineError(f"gridSize must be between 8 and 1024, not {side}.")
    size = side

    class Grid(BlockNode):
        """Blocks of the grid's size."""

        __slots__ = ()
        side = size

    def compute(context: Context, block: Window, inputs: Sequence[Band]) -> Sequence[Pixels]:
        got = full(context.read(inputs[0], block), block)
        ok = kernels.valid(got.mask)
        bright = got.data >= active
        if ok is not None:
            bright = bright & ok
        return [Pixels(_lines(bright, threshold, smooth).astype(np.uint8), ok)]

    return image.derived(
        [b.computed(UNIT, Grid(compute, [b], [UNIT])).renamed(f"{b.id}_lines") for b in image.bands]
    )


# ------------------------------------------------------------------ parabolas


def parabolas(heights: Array, reach: int, margin: int = 0) -> tuple[Array, Array, Array]:
    """Return the upper envelope of parabolas ``height - distance squared``, and whose it is.

    Parameters
    ----------
    heights : (h + 2 margin, w + 2 margin) float64
        A parabola stands over every pixel whose height is positive.
    reach : int
        Parabolas farther away, by rows or columns, do not count.
    margin : int
        Pixels around what is asked for.

    Returns
    -------
    best : (h, w) float64
        0 where no parabola is positive.
    rows, columns : (h, w) int32
        Steps to the pixel whose parabola it is; 0 where there is none.

    Examples
    --------
    >>> parabolas(np.array([[0.0, 0.0, 5.0, 0.0, 0.0, 0.0]]), 8)[0].tolist()
    [[1.0, 4.0, 5.0, 4.0, 1.0, 0.0]]
    """
    top = float(heights.max(initial=0))
    far = min(reach, math.isqrt(max(int(top), 0)) + 1)
    best = np.where(heights > 0, heights, -np.inf)
    # Down the columns first, then along the rows of what that leaves.
    best, rows = _enveloped(best, far, margin)
    along, columns = _enveloped(np.ascontiguousarray(best.T), far, margin)
    best, columns = along.T, columns.T
    # The way down belongs to the column that the second pass came from.
    place = np.arange(margin, margin + best.shape[1])[None, :] + columns
    rows = np.take_along_axis(rows, place, axis=1)
    some = best > 0
    return np.where(some, best, 0), np.where(some, rows, 0), np.where(some, columns, 0)


def _enveloped(source: Array, far: int, margin: int) -> tuple[Array, Array]:
    """Return the best of parabolas up or down, without the rows of a margin, and the steps."""
    length = source.shape[0]
    found = source[margin : length - margin].copy()
    steps = np.zeros(found.shape, np.int32)
    for k in range(1, min(far, length - 1) + 1):
        tick()
        for step in (k, -k):
            low, high = max(margin, -step), min(length - margin, length - step)
            if low >= high:
                continue
            offer = source[low + step : high + step] - k * k
            here = np.s_[low - margin : high - margin]
            better = offer > found[here]
            np.copyto(found[here], offer, where=better)
            np.copyto(steps[here], step, where=better)
    return found, steps


def _near(size: int, units: str, most: int) -> int:
    if units != "pixels":
        raise EngineError(f"Only 'pixels' are supported as units, not '{units}'.")
    if not 1 <= size <= most:
        raise EngineError(f"neighborhood must be between 1 and {most}, not {size}.")
    return size


@function("Image.rsedTransform")
def rsed(image: Image, size: int, units: str) -> Image:
    """Return the highest of the inverted parabolas over all pixels of the first band ([A]).

    A masked pixel has none; the result is 0 where no parabola is positive, and never masked.
    """
    reach = _near(size, units, 1024)

    def compute(window: Window, pixels: Pixels) -> Sequence[Pixels]:
        heights = pixels.data.astype(float)
        ok = kernels.valid(pixels.mask)
        if ok is not None:
            heights = np.where(ok, heights, 0)
        best, _, _ = parabolas(heights, reach, reach)
        return [Pixels(best, None)]

    source = image.bands[0]
    return image.derived([source.computed(FLOAT, HaloNode(compute, [source], reach))])


@function("Image.medialAxis")
def medial_axis(image: Image, size: int, units: str) -> Image:
    """Return the medial axis of the zeros: bands medial, coverage, xlabel and ylabel ([A]).

    Over every zero stands a parabola as high as its squared distance to the nearest pixel
    other than 0; the pixels whose parabolas form the envelope are the axis (Coeurjolly &
    Montanvert 2007). ``medial`` is their distance and ``coverage`` the number of zeros whose
    envelope they form, 0 elsewhere; the labels are the steps from a zero to its axis pixel.
    Masked pixels count as other than 0.
    """
    from scipy import ndimage

    reach = _near(size, units, 512)
    # Distances, then whose the envelope is, then how many: each looks as far.
    halo = 3 * reach

    def compute(window: Window, pixels: Pixels) -> Sequence[Pixels]:
        on = pixels.data != 0
        ok = kernels.valid(pixels.mask)
        if ok is not None:
            on = on | ~ok
        far = np.full(on.shape, float(reach) ** 2)
        if on.any():
            np.minimum(far, np.rint(ndimage.distance_transform_edt(~on) ** 2), out=far)
        # Distances are right a reach from the rim, envelopes two.
        cut = np.s_[reach:-reach, reach:-reach]
        on, far = on[cut], far[cut]
        _, rows, columns = parabolas(far, reach, reach)
        height, width = far.shape
        y, x = np.nonzero(~on[cut])
        owner = (y + reach + rows[y, x]) * width + x + reach + columns[y, x]
        count = np.bincount(owner, minlength=height * width).reshape(height, width)
        middle = np.s_[2 * reach : -2 * reach, 2 * reach : -2 * reach]
        medial = np.where(count > 0, np.sqrt(far), 0)[middle]
        near = rows[cut], columns[cut]
        own = None if ok is None else ok[halo:-halo, halo:-halo]
        return [Pixels(a, own) for a in (medial, count[middle], near[1], near[0])]

    source = image.bands[0]
    node = HaloNode(compute, [source], halo)
    step = PixelType("int", -reach, reach)
    kinds = (("medial", FLOAT), ("coverage", INT64), ("xlabel", step), ("ylabel", step))
    return image.derived(
        [source.computed(kind, node, k).renamed(name) for k, (name, kind) in enumerate(kinds)]
    )


# ------------------------------------------------------------------ minima


def _fill(name: str) -> None:
    def fill(image: Image, border: int | None, size: int) -> Image:
        """Raise every pit to its lowest way out.

        Ways lead over the eight neighbours to the rim of a neighbourhood, or to a masked
        pixel; beyond the rim lies ``borderValue`` where it is given. The neighbourhoods are
        those of the lattice's blocks, the same whatever tiles are asked for.
        """
        if not 0 <= size <= 512:
            raise EngineError(f"neighborhood must be between 0 and 512, not {size}.")

        def compute(context: Context, block: Window, inputs: Sequence[Band]) -> Sequence[Pixels]:
            from skimage.morphology import reconstruction

            wide = block.pad(size)
            got = full(context.read(inputs[0], wide), wide)
            ok = kernels.valid(got.mask)
            level = float(got.data.min()) - 1 if border is None else float(border)
            # What is open lies around the neighbourhood and wherever pixels are masked.
            open_ = np.ones((wide.height + 2, wide.width + 2), bool)
            open_[1:-1, 1:-1] = False if ok is None else ~ok
            ground = np.full(open_.shape, level)
            ground[1:-1, 1:-1] = got.data
            ground[open_] = level
            seed = np.where(open_, level, ground.max())
            found = reconstruction(seed, ground, "erosion", footprint=np.ones((3, 3)))
            part = found[1 + size : found.shape[0] - 1 - size, 1 + size : found.shape[1] - 1 - size]
            own = None if ok is None else ok[size : size + block.height, size : size + block.width]
            return [Pixels(part.astype(got.data.dtype), own)]

        bands = []
        for b in image.bands:
            if not b.type.is_int:
                raise EngineError(f"Only integer types can be filled; band '{b.id}' is not.")
            bands.append(b.computed(b.type, BlockNode(compute, [b], [b.type])))
        return image.with_bands(bands)

    function(name)(fill)


_fill("Terrain.fillMinima")
_fill("FMask.fillMinima")
