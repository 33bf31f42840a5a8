"""Differences between neighbours."""

from __future__ import annotations

import math

import numpy as np

from .. import kernels
from ..image import HaloNode, Image
from ..pixels import Pixels
from ..projection import Window
from ..types import FLOAT, PixelType
from .focal import inner
from .registry import function

__all__ = ["central", "rises"]


@function("Image.derivative")
def derivative(image: Image) -> Image:
    """Return central differences per pixel: band_x and band_y."""
    bands = []
    for b in image.bands:
        node = HaloNode(lambda w, p: central(p), [b], 1)
        kind = PixelType("double" if b.type.precision != "float" else "float")
        bands += [
            b.computed(kind, node, 0).renamed(f"{b.id}_x"),
            b.computed(kind, node, 1).renamed(f"{b.id}_y"),
        ]
    return image.derived(bands)


def central(pixels: Pixels) -> list[Pixels]:
    """Return half the difference of the neighbours to the right and left, below and above."""
    data, mask = pixels
    v = data.astype(np.float64)
    dx = (v[1:-1, 2:] - v[1:-1, :-2]) * 0.5
    dy = (v[2:, 1:-1] - v[:-2, 1:-1]) * 0.5
    ok = kernels.valid(mask)
    if ok is None:
        return [Pixels(dx, None), Pixels(dy, None)]
    here = ok[1:-1, 1:-1]
    return [
        Pixels(dx, here & ok[1:-1, 2:] & ok[1:-1, :-2]),
        Pixels(dy, here & ok[2:, 1:-1] & ok[:-2, 1:-1]),
    ]


def rises(window: Window, pixels: Pixels) -> list[Pixels]:
    """Return the change per metre along the x and the y axis of the coordinate system.

    Parameters
    ----------
    window : Window
    pixels : Pixels
        With a border of one pixel.

    Returns
    -------
    list of two Pixels
        Towards growing x and y (east and north). On grids that do not run along the axes each
        needs both differences, so both have one mask.
    """
    from .sources import pixel_sizes

    across, down = central(pixels)
    a, b, _, d, e, _ = window.projection.transform
    wide, high = pixel_sizes(window)
    if window.projection.is_square:
        return [
            Pixels(across.data / wide * math.copysign(1, a), across.mask),
            Pixels(down.data / high * math.copysign(1, e), down.mask),
        ]
    # Metres per unit of x and y, from the length of a pixel's sides.
    x_unit, y_unit = wide / math.hypot(a, d), high / math.hypot(b, e)
    det = a * e - b * d
    mask = kernels.both(across.mask, down.mask)
    x = (e * across.data - d * down.data) / det
    y = (a * down.data - b * across.data) / det
    return [Pixels(x / x_unit, mask), Pixels(y / y_unit, mask)]


@function("Image.gradient")
def gradient(image: Image) -> Image:
    """Return the x and y gradient of a band per metre (y grows northwards)."""
    source = image.bands[0]
    node = HaloNode(rises, [source], 1)
    return image.derived(
        [source.computed(FLOAT, node, 0).renamed("x"), source.computed(FLOAT, node, 1).renamed("y")]
    )


@function("Image.zeroCrossing")
def zero_crossing(image: Image) -> Image:
    """Return 1 where the sign changes towards a neighbour on the right or below."""

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        v = pixels.data.astype(float)
        here = v[1:-1, 1:-1]
        right, below = here * v[1:-1, 2:] < 0, here * v[2:, 1:-1] < 0
        ok = kernels.valid(pixels.mask)
        if ok is not None:
            # What lies under a mask has no sign.
            right, below = right & ok[1:-1, 2:], below & ok[2:, 1:-1]
        out = right | below | (here == 0)
        return [Pixels(out.astype(np.uint8), inner(pixels.mask, 1))]

    kind = PixelType("int", 0, 1)
    return image.derived([b.computed(kind, HaloNode(compute, [b], 1)) for b in image.bands])
