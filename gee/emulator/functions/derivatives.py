"""Differences between neighbours."""

from __future__ import annotations

import math

import numpy as np

from .. import kernels
from ..image import HaloNode, Image
from ..pixels import Array, Pixels
from ..projection import Window
from ..types import FLOAT, PixelType
from .focal import inner
from .registry import function

__all__ = ["central"]


@function("Image.derivative")
def derivative(image: Image) -> Image:
    """Return central differences per pixel: band_x and band_y."""
    bands = []
    for b in image.bands:
        node = HaloNode(lambda w, p: central(p, None), [b], 1)
        kind = PixelType("double" if b.type.precision != "float" else "float")
        bands += [
            b.computed(kind, node, 0).renamed(f"{b.id}_x"),
            b.computed(kind, node, 1).renamed(f"{b.id}_y"),
        ]
    return image.derived(bands)


def central(pixels: Pixels, sizes: tuple[Array, Array] | None) -> list[Pixels]:
    """Return half the difference of the neighbours, per pixel or per metre."""
    data, mask = pixels
    v = data.astype(np.float64)
    dx = (v[1:-1, 2:] - v[1:-1, :-2]) * 0.5
    dy = (v[2:, 1:-1] - v[:-2, 1:-1]) * 0.5
    ok = kernels.valid(mask)
    if sizes is not None:
        dx, dy = dx / sizes[0], dy / sizes[1]
    if ok is None:
        return [Pixels(dx, None), Pixels(dy, None)]
    here = ok[1:-1, 1:-1]
    return [
        Pixels(dx, here & ok[1:-1, 2:] & ok[1:-1, :-2]),
        Pixels(dy, here & ok[2:, 1:-1] & ok[:-2, 1:-1]),
    ]


@function("Image.gradient")
def gradient(image: Image) -> Image:
    """Return the x and y gradient of a band per metre (y grows northwards)."""
    from .sources import pixel_sizes

    source = image.bands[0]

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        dx, dy = central(pixels, pixel_sizes(window))
        a, e = window.projection.transform[0], window.projection.transform[4]
        return [
            Pixels(dx.data * math.copysign(1, a), dx.mask),
            Pixels(dy.data * math.copysign(1, e), dy.mask),
        ]

    node = HaloNode(compute, [source], 1)
    return image.derived(
        [source.computed(FLOAT, node, 0).renamed("x"), source.computed(FLOAT, node, 1).renamed("y")]
    )


@function("Image.zeroCrossing")
def zero_crossing(image: Image) -> Image:
    """Return 1 where the sign changes towards a neighbour on the right or below."""

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        v = pixels.data.astype(float)
        here = v[1:-1, 1:-1]
        out = (here * v[1:-1, 2:] < 0) | (here * v[2:, 1:-1] < 0) | (here == 0)
        return [Pixels(out.astype(np.uint8), inner(pixels.mask, 1))]

    kind = PixelType("int", 0, 1)
    return image.derived([b.computed(kind, HaloNode(compute, [b], 1)) for b in image.bands])
