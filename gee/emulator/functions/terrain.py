"""Slope, aspect and hillshade from elevation.

The gradient is the central difference of the four neighbours ([A] Terrain.slope), in metres
of the output's pixels: nominal sizes on projected grids, ellipsoidal arcs in degrees.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import EngineError
from ..image import HaloNode, Image, unique_names
from ..kernels import both, valid
from ..pixels import Array, Band, Pixels
from ..projection import Window
from ..types import BYTE, FLOAT, PixelType
from .derivatives import rises
from .registry import function
from .sources import pixel_sizes

__all__: list[str] = []


def _elevation(image: Image) -> Band:
    if len(image.bands) == 1:
        return image.bands[0]
    for band in image.bands:
        if band.id == "elevation":
            return band
    raise EngineError(
        "The image must have a single band, or one named 'elevation'; it has "
        f"[{', '.join(image.names)}]."
    )


def _gradient(window: Window, pixels: Pixels) -> tuple[Array, Array, Array | None]:
    """Return the rise per metre towards grid east and grid north."""
    east, north = rises(window, pixels)
    return east.data, north.data, both(east.mask, north.mask)


def _slope(window: Window, pixels: Pixels) -> list[Pixels]:
    east, north, mask = _gradient(window, pixels)
    return [Pixels(np.degrees(np.arctan(np.hypot(east, north))).astype(np.float32), mask)]


def _aspect(window: Window, pixels: Pixels) -> list[Pixels]:
    east, north, mask = _gradient(window, pixels)
    # Downhill, clockwise from north: 0 = N, 90 = E; flat ground 0.
    out = np.degrees(np.arctan2(-east, -north)) % 360
    out[(east == 0) & (north == 0)] = 0
    out = out.astype(np.float32)
    out[out >= 360] = 0
    return [Pixels(out, mask)]


def _shade(azimuth: float, elevation: float):  # type: ignore[no-untyped-def]
    sun, height = math.radians(azimuth), math.radians(elevation)

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        east, north, mask = _gradient(window, pixels)
        up = 1 / np.sqrt(1 + east**2 + north**2)
        towards = math.sin(height) - math.cos(height) * (
            math.sin(sun) * east + math.cos(sun) * north
        )
        lit = np.clip(towards * up, 0, 1) * 255
        return [Pixels(np.floor(lit + 0.5).astype(np.uint8), mask)]

    return compute


SLOPE = PixelType("float", 0, 90)
ASPECT = PixelType("float", 0, 360)


@function("Terrain.slope")
def slope(image: Image) -> Image:
    """Return the slope in degrees."""
    b = _elevation(image)
    return image.with_bands([b.computed(SLOPE, HaloNode(_slope, [b], 1)).renamed("slope")])


@function("Terrain.aspect")
def aspect(image: Image) -> Image:
    """Return the aspect in degrees clockwise from north."""
    b = _elevation(image)
    return image.with_bands([b.computed(ASPECT, HaloNode(_aspect, [b], 1)).renamed("aspect")])


@function("Terrain.hillshade")
def hillshade(image: Image, azimuth: float, elevation: float) -> Image:
    """Return the shading of a sun at an azimuth and elevation, 0..255."""
    b = _elevation(image)
    node = HaloNode(_shade(azimuth, elevation), [b], 1)
    return image.with_bands([b.computed(BYTE, node).renamed("hillshade")])


@function("Terrain.products", "Terrain")
def products(image: Image) -> Image:
    """Add slope, aspect and hillshade to an elevation image."""
    b = _elevation(image)
    made = [
        b.computed(SLOPE, HaloNode(_slope, [b], 1)),
        b.computed(ASPECT, HaloNode(_aspect, [b], 1)),
        b.computed(BYTE, HaloNode(_shade(270, 45), [b], 1)),
    ]
    names = unique_names(image.names, ["slope", "aspect", "hillshade"])
    return image.with_bands(
        [*image.bands, *(m.renamed(n) for m, n in zip(made, names, strict=True))]
    )


@function("HillShadow", "Terrain.hillShadow")
def hill_shadow(image: Image, azimuth: float, zenith: float, size: int, hysteresis: bool) -> Image:
    """Return 1 where the sun reaches the ground, 0 in the shadow of terrain within ``size``."""
    b = _elevation(image)
    reach = max(size, 1)
    rise = math.tan(math.radians(90 - zenith))
    east, north = math.sin(math.radians(azimuth)), math.cos(math.radians(azimuth))

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        from ..kernels import shifted

        v = pixels.data.astype(float)
        ok = valid(pixels.mask)
        if ok is not None:
            v = np.where(ok, v, -np.inf)
        across, down = pixel_sizes(window)
        p, q, _, s, t, _ = window.projection.transform
        # The sun's direction in pixels: one pixel long, whichever way the grid lies.
        x, y = (t * east - q * north) / (p * t - q * s), (p * north - s * east) / (p * t - q * s)
        dx, dy = x / math.hypot(x, y), y / math.hypot(x, y)
        x_unit, y_unit = across / math.hypot(p, s), down / math.hypot(q, t)
        here = shifted(v, 0, 0, reach)
        lit = np.ones(here.shape, bool)
        for step in range(1, reach + 1):
            c, r = round(dx * step), round(dy * step)
            far = np.hypot((p * c + q * r) * x_unit, (s * c + t * r) * y_unit)
            lit &= shifted(v, r, c, reach) - here <= far * rise
        inner = None if ok is None else shifted(ok, 0, 0, reach)
        return [Pixels(lit.astype(np.uint8), inner)]

    return image.with_bands(
        [b.computed(PixelType("int", 0, 1), HaloNode(compute, [b], reach)).renamed("shadow")]
    )


HEIGHT = FLOAT
