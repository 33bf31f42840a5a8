"""Moving images by displacements, finding these, and judging them by correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import kernels
from ..budget import steps as paced
from ..budget import tick, work
from ..errors import EngineError
from ..image import BlockNode, HaloNode, Image, ReprojectNode, full
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Projection, Window, transformer
from ..types import DOUBLE, FLOAT
from .registry import function

__all__ = ["correlation"]

_MODES = ("nearest_neighbor", "bilinear", "bicubic")
_MOST_SHIFT = 4096
_FARTHEST = 2.0**40


def _metre(projection: Projection) -> float:
    """Return what a metre is in the units of a coordinate system."""
    a, b, _, d, e, _ = projection.transform
    return math.sqrt(abs(a * e - b * d)) / projection.nominal_scale


# ------------------------------------------------------------------ displacing


class _DisplaceNode(Node):
    """A band read at every pixel's place plus a displacement."""

    __slots__ = ("mode", "most", "projection")

    def __init__(self, band: Band, shifts: Sequence[Band], mode: str, most: float | None) -> None:
        super().__init__([band, *shifts])
        self.mode, self.most = mode, most
        self.projection = shifts[0].projection

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        band = self.inputs[0]
        east, north = (full(context.read(b, window), window) for b in self.inputs[1:])
        ok = kernels.both(kernels.valid(east.mask), kernels.valid(north.mask))
        metre = _metre(self.projection)
        dx, dy = east.data.astype(float) * metre, north.data.astype(float) * metre
        if self.most is not None:
            reach = self.most * metre
            dx, dy = np.clip(dx, -reach, reach), np.clip(dy, -reach, reach)
        columns = np.arange(window.column, window.column + window.width)[None, :] + 0.5
        rows = np.arange(window.row, window.row + window.height)[:, None] + 0.5
        x, y = (np.broadcast_to(v, window.shape) for v in window.projection.to_crs(columns, rows))
        own, other = window.projection.crs, self.projection.crs
        if own == other:
            x, y = x + dx, y + dy
        else:
            u, v = transformer(own, other).transform(x, y)
            x, y = transformer(other, own).transform(u + dx, v + dy)
        columns, rows = window.projection.to_pixels(x, y)
        # What lies beyond every lattice is nowhere.
        good = (np.abs(columns) < _FARTHEST) & (np.abs(rows) < _FARTHEST)
        if ok is not None:
            good &= ok
        if not good.any():
            return [Pixels(np.zeros((1, 1), band.type.dtype), np.zeros((1, 1), bool))]
        # Positions that are whole pixels but for rounding are these pixels.
        columns, rows = (np.round(np.where(good, v, v[good][0]), 6) for v in (columns, rows))
        first = math.floor(columns.min()) - 2, math.floor(rows.min()) - 2
        last = math.floor(columns.max()) + 3, math.floor(rows.max()) + 3
        source = Window(window.projection, *first, last[0] - first[0], last[1] - first[1])
        if max(source.width - window.width, source.height - window.height) > _MOST_SHIFT:
            raise EngineError(
                f"Displacements reach over {source.width} x {source.height} pixels at this scale; "
                "use a coarser scale, or maxOffset.",
                function="Image.displace",
            )
        got = full(context.read_bounded(band, source), source)
        if self.mode == "nearest_neighbor":
            place = (
                np.floor(rows).astype(int) - first[1], np.floor(columns).astype(int) - first[0]
            )  # fmt: skip
            data = got.data[place]
            mask = None if got.mask is None else got.mask[place]
        else:
            take = kernels.bilinear if self.mode == "bilinear" else kernels.bicubic
            data, mask = take(got.data, got.mask, columns, rows, False, first)
        return [Pixels(data, kernels.both(mask, good))]


def _displaced(image: Image, shifts: Sequence[Band], mode: str, most: float | None) -> Image:
    bands = []
    for b in image.bands:
        exact = mode == "nearest_neighbor"
        kind = b.type if exact or not b.type.is_int else FLOAT
        bands.append(b.computed(kind, _DisplaceNode(b, shifts, mode, most)))
    return image.with_bands(bands)


@function("Image.displace")
def displace(image: Image, shifts: Image, mode: str, most: float | None) -> Image:
    """Return the image read at every pixel's place plus its displacement ([A]).

    Displacements are metres along the axes of the displacement image's projection. Read on
    the output's pixels; masked where the displacement or a pixel that contributes is.
    """
    if mode not in _MODES:
        raise EngineError(f"Unknown mode '{mode}': {', '.join(_MODES)}.")
    if len(shifts.bands) < 2:
        raise EngineError("The displacement image must have two bands, X and Y.")
    return _displaced(image, shifts.bands[:2], mode, most)


# ------------------------------------------------------------------ finding displacements


def _peak(scores: Array) -> tuple[float, float, float]:
    """Return row and column of the greatest score, between pixels by parabolas, and the score."""
    row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)

    def between(line: Array, place: int) -> float:
        if not 0 < place < len(line) - 1:
            return float(place)
        left, here, right = line[place - 1 : place + 2]
        bend = left - 2 * here + right
        return place + (0.5 * float((left - right) / bend) if bend < 0 else 0.0)

    return (
        between(scores[:, column], int(row)),
        between(scores[row], int(column)),
        float(scores[row, column]),
    )


def _steady(field: Array, tolerance: float) -> Array:
    """Return a field (rows, columns, 2) with outliers and gaps made medians of neighbours."""
    height, width, _ = field.shape
    out = field.copy()
    for r in range(height):
        for c in range(width):
            near = field[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].reshape(-1, 2)
            known = near[np.isfinite(near).all(axis=1)]
            if not len(known):
                out[r, c] = np.nan
                continue
            middle = np.median(known, axis=0)
            if not np.isfinite(field[r, c]).all() or (
                np.hypot(*(field[r, c] - middle)) > tolerance
            ):
                out[r, c] = middle
    return out


def _shifts_of(
    context: Context, block: Window, inputs: Sequence[Band], patch: int, reach: int, stiff: float
) -> list[Pixels]:
    """Return columns, rows and confidence of the shifts of a block, in pixels of its lattice."""
    from scipy import ndimage
    from skimage.feature import match_template

    half, step = patch // 2, max(patch // 2, 2)
    rows = range(block.row // step - 2, (block.row + block.height) // step + 4)
    columns = range(block.column // step - 2, (block.column + block.width) // step + 4)
    border = half + reach
    wide = Window(
        block.projection, columns[0] * step - border, rows[0] * step - border,
        (len(columns) - 1) * step + 2 * border + 1, (len(rows) - 1) * step + 2 * border + 1,
    )  # fmt: skip
    moving, fixed = (full(context.read_bounded(b, wide), wide) for b in inputs)
    values = [p.data.astype(float) for p in (moving, fixed)]
    masks = [
        np.ones(wide.shape, bool) if p.mask is None else np.asarray(p.mask > 0)
        for p in (moving, fixed)
    ]
    field = np.full((len(rows), len(columns), 3), np.nan)
    for i in range(len(rows)):
        tick()
        for j in range(len(columns)):
            r, c = i * step + border, j * step + border
            inner = np.s_[r - half : r + half + 1, c - half : c + half + 1]
            outer = np.s_[r - border : r + border + 1, c - border : c + border + 1]
            if not (masks[1][inner].all() and masks[0][outer].all()):
                continue
            template = values[1][inner]
            if template.std() == 0:
                continue
            score = match_template(values[0][outer], template)
            down, right, best = _peak(score)
            field[i, j] = right - reach, down - reach, best
    moved = _steady(field[..., :2], 0.5 + 10 - stiff)
    sure = np.isfinite(moved).all(axis=2)
    y = (np.arange(block.row, block.row + block.height) - rows[0] * step) / step
    x = (np.arange(block.column, block.column + block.width) - columns[0] * step) / step
    grid = np.meshgrid(y, x, indexing="ij")

    def laid(nodes: Array) -> Array:
        return np.asarray(ndimage.map_coordinates(nodes, grid, order=1, mode="nearest"))

    known = laid(sure.astype(float))
    out = []
    for k in range(2):
        # Between nodes without a shift only those that have one are mixed.
        total = laid(np.where(sure, moved[..., k], 0))
        out.append(np.divide(total, known, out=np.zeros(block.shape), where=known > 0))
    out.append(laid(np.nan_to_num(field[..., 2])))
    return [Pixels(v, known > 0) for v in out]


def _found(
    image: Image,
    reference: Image,
    most: float,
    projection: Projection | None,
    patch: float | None,
    stiffness: float,
) -> list[Band]:
    if not image.bands or not reference.bands:
        raise EngineError("The images must have bands.")
    if not most > 0:
        raise EngineError(f"maxOffset must be positive, not {most:g}.")
    if not 0 <= stiffness <= 10:
        raise EngineError(f"stiffness must be between 0 and 10, not {stiffness:g}.")
    moving, fixed = image.bands[0], reference.bands[0]
    shown = projection or fixed.projection
    for b in (moving, fixed):
        if b.projection.is_default:
            raise EngineError("The images must have a default projection other than WGS84.")
    scale = max(p.nominal_scale for p in (moving.projection, fixed.projection, shown))
    lattice = fixed.projection
    if scale > lattice.nominal_scale * (1 + 1e-9):
        lattice = lattice.scaled(scale / lattice.nominal_scale)
    reach = max(math.ceil(most / scale - 1e-9), 1)
    side = max(round(patch / scale), 3) if patch is not None else max(2 * reach, 24)
    side += 1 - side % 2
    if reach > 256 or side > 512:
        raise EngineError(
            f"maxOffset and patchWidth are {reach} and {side} pixels at a scale of {scale:g} m: "
            "at most 256 and 512; use coarser images."
        )

    def compute(context: Context, block: Window, inputs: Sequence[Band]) -> Sequence[Pixels]:
        columns, rows, sure = _shifts_of(context, block, inputs, side, reach, stiffness)
        a, b, _, d, e, _ = block.projection.transform
        dx = a * columns.data + b * rows.data
        dy = d * columns.data + e * rows.data
        if shown.crs != block.projection.crs:
            x, y = block.centres()
            if x.ndim == 1:
                x, y = x[None, :], y[:, None]
            x, y = (np.broadcast_to(v, block.shape) for v in (x, y))
            path = transformer(block.projection.crs, shown.crs)
            (u0, v0), (u1, v1) = path.transform(x, y), path.transform(x + dx, y + dy)
            dx, dy = u1 - u0, v1 - v0
        metre = _metre(shown)
        return [
            Pixels(dx / metre, columns.mask), Pixels(dy / metre, columns.mask),
            Pixels(sure.data, columns.mask),
        ]  # fmt: skip

    node = BlockNode(compute, [moving, fixed], [DOUBLE, DOUBLE, DOUBLE])
    bands = []
    for k, name in enumerate(("dx", "dy", "confidence")):
        on = Band(name, DOUBLE, lattice, node, k)
        bands.append(Band(name, DOUBLE, shown, ReprojectNode(on, lattice)))
    return bands


@function("Image.displacement")
def displacement(
    image: Image,
    reference: Image,
    most: float,
    projection: Projection | None,
    patch: float | None,
    stiffness: float,
) -> Image:
    """Return metres from every pixel of the reference to its like in the image.

    Bands dx, dy and confidence. Simplified: patches of the first bands around the nodes of a
    grid, half a patch apart, are moved to where their correlation is greatest, to a fraction
    of a pixel; a node farther than ``10.5 - stiffness`` pixels from the median of its
    neighbours takes that; between nodes shifts are linear. The confidence is the correlation.
    A patch is twice ``maxOffset`` wide, at least 25 pixels, where its width is not given.
    """
    return reference.derived(_found(image, reference, most, projection, patch, stiffness))


@function("Image.register")
def register(
    image: Image, reference: Image, most: float, patch: float | None, stiffness: float
) -> Image:
    """Return the image moved to lie on the reference: displaced, bicubic."""
    shifts = _found(image, reference, most, None, patch, stiffness)
    return _displaced(image, shifts[:2], "bicubic", most)


# ------------------------------------------------------------------ correlation


def correlation(
    first: Sequence[Array], second: Sequence[Array], some: Array, side: int
) -> tuple[Array, Array]:
    """Return the correlation of two images in square windows, and the share that counts.

    Parameters
    ----------
    first, second : sequences of (h + side - 1, w + side - 1) float64
        Bands, pooled.
    some : (h + side - 1, w + side - 1) bool
        Pixels that count.
    side : int
        Of the windows; odd.

    Returns
    -------
    values : (h, w) float64
        0 where one of the images is flat.
    share : (h, w) float64
    """
    ones = np.ones((side, side))
    half = side // 2

    def total(values: Array) -> Array:
        return np.asarray(kernels.correlate(np.where(some, values, 0.0), ones, (half, half), half))

    count = total(np.ones(some.shape))
    n = np.maximum(count * len(first), 1)
    a, b = sum(map(total, first)) / n, sum(map(total, second)) / n
    aa = sum(total(v * v) for v in first) / n - a * a
    bb = sum(total(v * v) for v in second) / n - b * b
    ab = sum(total(v * w) for v, w in zip(first, second, strict=True)) / n - a * b
    spread = np.sqrt(np.maximum(aa, 0) * np.maximum(bb, 0))
    found = np.divide(ab, spread, out=np.zeros(np.shape(ab)), where=spread > 1e-12 * np.abs(a * b))
    return np.clip(found, -1, 1), count / side**2


@function("CrossCorrelation")
def cross_correlation(first: Image, second: Image, gap: int, side: int, masked: float) -> Image:
    """Return where the second image correlates best with every pixel of the first.

    Bands deltaX, deltaY and distance in pixels, and correlation, of the windows around; of
    equal correlations the nearest. Masked where at any shift more than ``maxMaskedFrac`` of
    the window is ([A]).
    """
    count = len(first.bands)
    if count != len(second.bands) or not count:
        raise EngineError(
            f"Images must have the same number of bands, not {count} and {len(second.bands)}."
        )
    if not 0 <= gap <= 64:
        raise EngineError(f"maxGap must be between 0 and 64, not {gap}.")
    if not 1 <= side <= 128 or side % 2 == 0:
        raise EngineError(f"windowSize must be odd and at most 127, not {side}.")
    if not 0 <= masked <= 1:
        raise EngineError(f"maxMaskedFrac must be between 0 and 1, not {masked:g}.")
    half = side // 2
    steps = sorted(
        ((x, y) for y in range(-gap, gap + 1) for x in range(-gap, gap + 1)),
        key=lambda s: (s[0] ** 2 + s[1] ** 2, s[1], s[0]),
    )

    def compute(window: Window, *got: Pixels) -> Sequence[Pixels]:
        parts = []
        for group in (got[:count], got[count:]):
            ok: Array | None = None
            for pixels in group:
                ok = kernels.both(ok, kernels.valid(pixels.mask))
            whole = np.ones(group[0].data.shape, bool) if ok is None else ok
            parts.append(([p.data.astype(float) for p in group], whole))
        (one, some), (two, other) = parts
        height, width = window.shape
        work(8.0 * len(steps) * count * some.size)
        best = np.full(window.shape, -np.inf)
        place = np.zeros((2, *window.shape))
        lost = np.zeros(window.shape, bool)
        high, wide = height + 2 * half, width + 2 * half
        centre = np.s_[gap : gap + high, gap : gap + wide]
        for x, y in paced(steps, 4):
            moved = np.s_[gap + y : gap + y + high, gap + x : gap + x + wide]
            values, share = correlation(
                [v[centre] for v in one], [v[moved] for v in two], some[centre] & other[moved],
                side,
            )  # fmt: skip
            lost |= 1 - share > masked + 1e-12
            better = values > best + 1e-12
            best[better] = values[better]
            place[0][better], place[1][better] = x, y
        mask = None if not lost.any() else ~lost
        far = np.hypot(*place)
        return [Pixels(v, mask) for v in (place[0], place[1], far, np.where(lost, 0, best))]

    node = HaloNode(compute, [*first.bands, *second.bands], gap + half)
    source = first.bands[0]
    return first.derived(
        [
            source.computed(FLOAT, node, k).renamed(name)
            for k, name in enumerate(("deltaX", "deltaY", "distance", "correlation"))
        ]
    )
