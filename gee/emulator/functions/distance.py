"""Distances to the nearest pixel, and least costs of a path."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import HaloNode, Image, full
from ..pixels import Array, Context, Node, Pixels
from ..projection import Window
from ..types import DOUBLE, FLOAT, PixelType
from .focal import inner
from .kernels import Kernel, cells, offsets
from .registry import function

__all__: list[str] = []


def _squared(on: Array, metric: str) -> Array:
    from scipy import ndimage

    if not on.any():
        return np.full(on.shape, np.inf)
    if metric == "squared_euclidean":
        rows, columns = ndimage.distance_transform_edt(
            ~on, return_distances=False, return_indices=True
        )
        h, w = on.shape
        dr = rows - np.arange(h)[:, None]
        dc = columns - np.arange(w)[None, :]
        return (dr.astype(np.int64) ** 2 + dc.astype(np.int64) ** 2).astype(float)
    name = {"manhattan": "taxicab", "chebyshev": "chessboard"}[metric]
    return ndimage.distance_transform_cdt(~on, name).astype(float)


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
        found = _squared(on, metric)[size:-size, size:-size]
        return [Pixels(np.minimum(found, most), None)]

    bands = []
    for b in image.bands[:1]:
        kind = PixelType("float")
        bands.append(b.computed(kind, HaloNode(compute, [b], size)).renamed("distance"))
    return image.derived(bands)


@function("Image.distance")
def distance(image: Image, kernel: Kernel | None, skip: bool) -> Image:
    """Return the distance to the nearest pixel other than 0, masked beyond the kernel."""
    used = kernel or Kernel("euclidean", _distance_shape(np.hypot), 100.0, 100.0)
    measures: dict[str, Callable[[Array, Array], Array]] = {
        "euclidean": np.hypot,
        "manhattan": lambda r, c: np.abs(r) + np.abs(c),
        "chebyshev": lambda r, c: np.maximum(np.abs(r), np.abs(c)),
    }
    if used.name not in measures:
        raise EngineError("The distance kernel must be euclidean, manhattan or chebyshev.")
    metric = {"euclidean": "squared_euclidean"}.get(used.name, used.name)

    class DistanceNode(Node):
        """Distances within the kernel's radius."""

        __slots__ = ()
        halo = 32

        def compute(self, context: Context, window: Window) -> list[Pixels]:
            pixel = window.projection.nominal_scale if used.units == "meters" else 1.0
            radius = used.x / pixel
            reach = cells(radius) + 1
            wide = window.pad(reach)
            got = full(context.read(self.inputs[0], wide), wide)
            on = got.data != 0
            ok = kernels.valid(got.mask)
            if ok is not None:
                on = on & ok
            found = _squared(on, metric)[reach:-reach, reach:-reach]
            if metric == "squared_euclidean":
                found = np.sqrt(found)
            mask: Array | None = found <= radius + 1e-9
            if skip and ok is not None:
                mask = kernels.both(mask, inner(ok, reach))
            return [Pixels(np.where(np.isfinite(found), found, 0) * pixel, mask)]

    return image.derived([b.computed(FLOAT, DistanceNode([b])) for b in image.bands])


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
    others = list(image.bands) if label is not None else []
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
        for step in range(most + 1):
            c, r = round(dx * step), round(dy * step)
            hit = kernels.shifted(on, r, c, most) & ~done
            if hit.any():
                found[hit] = math.hypot(c, r)
                done |= hit
                for value, pixels in zip(values, rest, strict=True):
                    np.copyto(value, kernels.shifted(pixels.data, r, c, most), where=hit)
        return [Pixels(found, done), *(Pixels(v, done) for v in values)]

    node = HaloNode(compute, [source, *others], most)
    bands = [b.computed(b.type, node, k + 1) for k, b in enumerate(others)]
    bands.append(source.computed(FLOAT, node, 0).renamed("distance"))
    return image.derived(bands)


@function("Image.cumulativeCost")
def cumulative_cost(cost: Image, source: Image, most: float, geodetic: bool) -> Image:
    """Return the least cost of a path to a source pixel, up to a distance in metres ([A]).

    A step costs its length times the mean of the two pixels; masked pixels are no way.
    Lengths are those of the pixels on the ellipsoid, or of the projection's plane. Earth
    Engine's own rule for lengths (a sphere of 6378137 m) differs by up to 0.3 %.
    """
    from .sources import pixel_sizes

    seeds = source.bands[0]

    class CostNode(Node):
        """Shortest paths within reach."""

        __slots__ = ()
        halo = 128

        def compute(self, context: Context, window: Window) -> list[Pixels]:
            from skimage.graph import MCP_Geometric

            across, down = pixel_sizes(window)
            wide_x, wide_y = float(across.mean()), float(down.mean())
            if not geodetic:
                wide_x = wide_y = window.projection.nominal_scale
            reach = math.ceil(most / min(wide_x, wide_y)) + 1
            if reach > 2048:
                raise EngineError(
                    f"maxDistance of {most:g} m is {reach} pixels at this scale; use a coarser "
                    "scale or a smaller distance.",
                    function="Image.cumulativeCost",
                )
            area = window.pad(reach)
            price = full(context.read(self.inputs[0], area), area)
            start = full(context.read(self.inputs[1], area), area)
            values = price.data.astype(float)
            ok = kernels.valid(price.mask)
            # Negative costs mark what cannot be crossed.
            values = np.where(np.isfinite(values) & (values >= 0), values, -1)
            if ok is not None:
                values = np.where(ok, values, -1)
            on = start.data != 0
            seen = kernels.valid(start.mask)
            if seen is not None:
                on = on & seen
            on = on & (values >= 0)
            inner = np.s_[reach:-reach, reach:-reach]
            if not on.any():
                return [Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool))]
            paths = MCP_Geometric(values, sampling=(wide_y, wide_x))
            found, _ = paths.find_costs(np.argwhere(on))
            near = np.sqrt(_squared(on, "squared_euclidean")) * min(wide_x, wide_y) <= most
            mask = np.isfinite(found[inner]) & near[inner]
            return [Pixels(np.where(mask, found[inner], 0), mask)]

    bands = [
        b.computed(DOUBLE, CostNode([b, seeds])).renamed("cumulative_cost") for b in cost.bands[:1]
    ]
    return cost.derived(bands)
