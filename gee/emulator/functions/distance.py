"""Distances to the nearest pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import HaloNode, Image, full
from ..nodes import only_numbers
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Projection, Window
from ..types import FLOAT, PixelType
from .focal import inner
from .kernels import Kernel, cells, offsets
from .registry import function

__all__: list[str] = []


def _squared(on: Array, metric: str, border: int) -> Array:
    """Return distances in pixels to the nearest that is on, without a border."""
    from scipy import ndimage

    inside = np.s_[border : on.shape[0] - border, border : on.shape[1] - border]
    if not on.any():
        return np.full(on[inside].shape, np.inf)
    if metric == "squared_euclidean":
        rows, columns = ndimage.distance_transform_edt(
            ~on, return_distances=False, return_indices=True
        )
        r, c = np.ogrid[inside]
        dr, dc = rows[inside].astype(np.int64) - r, columns[inside].astype(np.int64) - c
        return (dr**2 + dc**2).astype(float)
    name = {"manhattan": "taxicab", "chebyshev": "chessboard"}[metric]
    found: Array = ndimage.distance_transform_cdt(~on, name)[inside].astype(float)
    return found


@function("Image.fastDistanceTransform")
def fast_distance_transform(image: Image, size: int, units: str, metric: str) -> Image:
    """Return the distance to the nearest pixel other than 0 (squared by default).

    Within ``size`` pixels, whatever the mask of the input ([A]). Beyond, Earth Engine's
    value is not documented: here it is that of the neighbourhood's rim.
    """
    if metric not in ("squared_euclidean", "manhattan", "chebyshev"):
        raise EngineError(f"Unknown metric '{metric}': squared_euclidean, manhattan or chebyshev.")
    if units != "pixels":
        raise EngineError("Only 'pixels' are supported as units.")
    size = max(size, 1)
    most = float(size) ** 2 if metric == "squared_euclidean" else float(size)

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        on = pixels.data != 0
        ok = kernels.valid(pixels.mask)
        if ok is not None:
            on = on & ok
        found = _squared(on, metric, size)
        return [Pixels(np.minimum(found, most), None)]

    bands = []
    for b in image.bands[:1]:
        kind = PixelType("float")
        bands.append(b.computed(kind, HaloNode(compute, [b], size)).renamed("distance"))
    return image.derived(bands)


_MEASURES: dict[str, Callable[[Array, Array], Array]] = {
    "euclidean": np.hypot,
    "manhattan": lambda r, c: np.abs(r) + np.abs(c),
    "chebyshev": lambda r, c: np.maximum(np.abs(r), np.abs(c)),
}


class _DistanceNode(Node):
    """Distances within a kernel's radius, in the kernel's units."""

    __slots__ = ("kernel", "skip")

    def __init__(self, band: Band, kernel: Kernel, skip: bool) -> None:
        super().__init__(only_numbers([band]))
        self.kernel, self.skip = kernel, skip

    def _radius(self, projection: Projection) -> tuple[float, float]:
        """Return the radius in pixels and the size of a pixel in the kernel's units."""
        pixel = projection.nominal_scale if self.kernel.units == "meters" else 1.0
        return self.kernel.x / pixel, pixel

    def border(self, projection: Projection) -> int:
        """Return the pixels that the kernel reaches."""
        try:
            return cells(self._radius(projection)[0]) + 1
        except EngineError:
            return 0

    def compute(self, context: Context, window: Window) -> list[Pixels]:
        radius, pixel = self._radius(window.projection)
        reach = cells(radius) + 1
        wide = window.pad(reach)
        got = full(context.read(self.inputs[0], wide), wide)
        on = got.data != 0
        ok = kernels.valid(got.mask)
        if ok is not None:
            on = on & ok
        name = self.kernel.name
        found = _squared(on, "squared_euclidean" if name == "euclidean" else name, reach)
        if name == "euclidean":
            found = np.sqrt(found)
        mask: Array | None = found <= radius + 1e-9
        if self.skip and ok is not None:
            mask = kernels.both(mask, inner(ok, reach))
        return [Pixels(np.where(np.isfinite(found), found, 0) * pixel, mask)]


@function("Image.distance")
def distance(image: Image, kernel: Kernel | None, skip: bool) -> Image:
    """Return the distance to the nearest pixel other than 0, masked beyond the kernel."""
    used = kernel or Kernel("euclidean", _distance_shape(np.hypot), 100.0, 100.0)
    if used.name not in _MEASURES:
        raise EngineError("The distance kernel must be euclidean, manhattan or chebyshev.")
    return image.derived([b.computed(FLOAT, _DistanceNode(b, used, skip)) for b in image.bands])


def _distance_shape(measure: Callable[[Array, Array], Array]) -> Callable[..., Any]:
    def make(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        columns, rows, centre = offsets(x, y)
        return measure(columns, rows), centre

    return make


@function("Image.directionalDistanceTransform")
def directional(image: Image, angle: float, most: int, label: str | None) -> Image:
    """Return the distance to the nearest non-zero pixel in a direction ([A]).

    The angle counts counter-clockwise from the right: cloud-shadow scripts pass 90 minus the
    azimuth of the sun to look from a shadow towards its cloud.
    """
    source = image.band(label) if label is not None else image.bands[0]
    others = [b for b in image.bands if b.id != source.id] if label is not None else []
    dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))

    def compute(window: Window, seen: Pixels, *rest: Pixels) -> list[Pixels]:
        on = seen.data != 0
        ok = kernels.valid(seen.mask)
        if ok is not None:
            on = on & ok
        h, w = window.shape
        found = np.zeros((h, w))
        done = np.zeros((h, w), bool)
        values = [np.zeros((h, w), p.data.dtype) for p in rest]
        masks = [np.zeros((h, w), bool) for _ in rest]
        for step in range(most + 1):
            c, r = round(dx * step), round(dy * step)
            hit = kernels.shifted(on, r, c, most) & ~done
            if hit.any():
                found[hit] = math.hypot(c, r)
                done |= hit
                for value, mask, pixels in zip(values, masks, rest, strict=True):
                    np.copyto(value, kernels.shifted(pixels.data, r, c, most), where=hit)
                    good = kernels.valid(pixels.mask)
                    mask |= hit if good is None else hit & kernels.shifted(good, r, c, most)
        return [
            Pixels(found, done),
            *(Pixels(v, m) for v, m in zip(values, masks, strict=True)),
        ]

    if most < 1:
        raise EngineError(f"maxDistance must be positive, not {most}.")
    node = HaloNode(compute, [source, *others], most)
    bands = [b.computed(b.type, node, k + 1) for k, b in enumerate(others)]
    bands.append(source.computed(FLOAT, node, 0).renamed("distance"))
    return image.derived(bands)
