"""Image math: matched bands, masks of both, types that follow the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arraykernels import aligned
from ..arraypixels import ArrayNode, array_function
from ..errors import EngineError
from ..image import Image, MapNode, PixelsNode
from ..kernels import both
from ..pixels import Array, Band, Node, Pixels
from ..types import FLOAT, PixelType
from ._maths import ALIASES, BINARY, CASTS, UNARY, Binary, Unary, cast_values
from .registry import function

__all__ = ["binary", "cast", "unary"]


def matched(image1: Image, image2: Image) -> list[tuple[Band, Band, str]]:
    """Return pairs of bands and the names of the results ([A] Image.add)."""
    a, b = image1.bands, image2.bands
    if len(a) == 1 or len(b) == 1:
        if len(a) >= len(b):
            return [(x, b[0], x.id) for x in a] if b else []
        return [(a[0], y, y.id) for y in b] if a else []
    names = {y.id: y for y in b}
    if len(a) == len(b):
        if {x.id for x in a} == set(names):
            return [(x, names[x.id], x.id) for x in a]
        return [(x, y, x.id) for x, y in zip(a, b, strict=True)]
    # Different numbers of bands: those of one name belong together.
    if len(a) > len(b):
        return [(x, names[x.id], x.id) for x in a if x.id in names]
    mine = {x.id: x for x in a}
    return [(mine[y.id], y, y.id) for y in b if y.id in mine]


def binary(operator: Binary, image1: Image, image2: Image) -> Image:
    """Return an operator applied to matched bands; valid where both are."""
    bands = []
    for x, y, name in matched(image1, image2):
        grid = y if x.projection.is_default and not y.projection.is_default else x
        dimensions = max(x.type.dimensions, y.type.dimensions)
        node: Node
        if dimensions:
            kind = operator.kind(x.type.with_dimensions(0), y.type.with_dimensions(0))
            node = ArrayNode(_elementwise(operator.make(kind.dtype)), (x, y))
            kind = kind.with_dimensions(dimensions)
        else:
            kind = operator.kind(x.type, y.type)
            node = MapNode(operator.make(kind.dtype), (x, y))
        bands.append(Band(name, kind, grid.projection, node, 0, grid.dimensions, grid.origin))
    source = image1.footprint_source
    return Image(bands, footprint=image2.footprint_source if source is None else source)


def _elementwise(call: Callable[[Array, Array], Array]) -> Callable[..., list[Array]]:
    """Return an operator as a function of stacks of arrays."""

    def apply(a: Array, b: Array) -> list[Array]:
        return [call(*aligned(a, b))]

    return apply


def _unary_band(operator: Unary, band: Band) -> Band:
    if band.type.dimensions:
        kind = operator.kind(band.type.with_dimensions(0))
        call = operator.make(kind.dtype)
        made = kind.with_dimensions(band.type.dimensions)
        return band.computed(made, ArrayNode(lambda stack: [call(stack)], (band,)))
    kind = operator.kind(band.type)
    return band.computed(kind, MapNode(operator.make(kind.dtype), (band,)))


def unary(operator: Unary, image: Image) -> Image:
    """Return an operator applied to every band."""
    return image.derived([_unary_band(operator, b) for b in image.bands])


def _register_binary(name: str, operator: Binary) -> None:
    ids = [f"Image.{name}"]
    if name in ALIASES:
        ids.append(f"Image.{ALIASES[name]}")
    array_function(*ids)(lambda image1, image2: binary(operator, image1, image2))


def _register_unary(name: str, operator: Unary) -> None:
    ids = [f"Image.{name}"]
    if name in ALIASES:
        ids.append(f"Image.{ALIASES[name]}")
    array_function(*ids)(lambda value: unary(operator, value))


for _name, _binary in BINARY.items():
    _register_binary(_name, _binary)
for _name, _unary in UNARY.items():
    _register_unary(_name, _unary)


def cast_band(band: Band, kind: PixelType) -> Band:
    """Return a band in another type: towards zero, clamped to the range."""
    if band.type.dimensions:
        made = kind.with_dimensions(band.type.dimensions)
        return band.computed(made, ArrayNode(lambda stack: [cast_values(stack, kind)], (band,)))
    if band.type == kind:
        return band
    return band.computed(kind, MapNode(lambda a: cast_values(a, kind), (band,)))


def cast(image: Image, kind: PixelType) -> Image:
    """Return an image with all bands in another type; properties stay."""
    return image.with_bands([cast_band(b, kind) for b in image.bands])


def _register_cast(name: str, kind: PixelType) -> None:
    function(f"Image.{name}", f"Image.to{name[0].upper()}{name[1:]}")(
        lambda value: cast(value, kind)
    )


for _name, _kind in CASTS.items():
    _register_cast(_name, _kind)


@function("Image.cast")
def cast_bands(image: Image, types: dict[str, Any], order: list[str] | None) -> Image:
    """Cast some bands; bands that are not there are added, masked ([A])."""
    from ..image import masked_band

    kinds = {name: PixelType.coerce(kind) for name, kind in types.items()}
    bands = {b.id: cast_band(b, kinds[b.id]) if b.id in kinds else b for b in image.bands}
    for name in sorted(kinds.keys() - bands.keys()):
        bands[name] = masked_band(name, kinds[name])
    if order is None:
        return image.with_bands(list(bands.values()))
    if set(order) != set(bands):
        raise EngineError(f"bandOrder {order} must name all of the bands [{', '.join(bands)}].")
    return image.with_bands([bands[name] for name in order])


@function("Image.clamp")
def clamp(image: Image, low: float, high: float) -> Image:
    """Clamp values to a range."""
    bands = []
    for b in image.bands:
        kind = b.type
        if kind.low is not None and kind.high is not None:
            ends = min(max(kind.low, low), high), min(max(kind.high, low), high)
            kind = kind.bounded(*ends)
        elif not kind.is_int:
            kind = kind.bounded(low, high)
        dtype = b.type.dtype if not b.type.is_int else kind.dtype
        bands.append(b.computed(kind, MapNode(_clamper(low, high, dtype), (b,))))
    return image.derived(bands)


def _clamper(low: float, high: float, dtype: Any) -> Callable[[Array], Array]:
    return lambda a: np.clip(a.astype(np.float64), low, high).astype(dtype)


@function("Image.unitScale")
def unit_scale(image: Image, low: float, high: float) -> Image:
    """Scale a range to 0..1, without clamping ([A])."""

    def scaled(dtype: Any) -> Callable[[Array], Array]:
        return lambda a: (a.astype(dtype) - dtype.type(low)) / dtype.type(high - low)

    bands = []
    for b in image.bands:
        kind = PixelType("double" if b.type.precision == "double" else "float")
        bands.append(b.computed(kind, MapNode(scaled(kind.dtype), (b,))))
    return image.derived(bands)


@function("Image.polynomial")
def polynomial(image: Image, coefficients: list[float]) -> Image:
    """Evaluate a polynomial, constant term first ([A])."""
    ordered = list(reversed(coefficients)) or [0.0]
    kind = PixelType("double")
    return image.derived(
        [b.computed(kind, MapNode(lambda a: np.polyval(ordered, a.astype(float)), (b,)))
         for b in image.bands]
    )  # fmt: skip


@function("Image.normalizedDifference")
def normalized_difference(image: Image, names: list[str] | None) -> Image:
    """Return (first - second) / (first + second) as band ``nd``; negative inputs mask ([A])."""
    if names is None:
        if len(image.bands) < 2:
            raise EngineError("The image must have at least two bands.")
        first, second = image.bands[:2]
    else:
        if len(names) != 2:
            raise EngineError(f"bandNames must hold two names, not {len(names)}.")
        first, second = (image.band(n) for n in names)
    wide = "double" in (first.type.precision, second.type.precision)
    dtype = np.dtype(np.float64 if wide else np.float32)

    def compute(a: Pixels, b: Pixels) -> list[Pixels]:
        x, y = a.data.astype(dtype, copy=False), b.data.astype(dtype, copy=False)
        total = x + y
        zero = total == 0
        out = (x - y) / np.where(zero, 1, total) if zero.any() else (x - y) / total
        mask = both(a.mask, b.mask)
        negative = None
        for band, pixels in ((first, a), (second, b)):
            if band.type.low is None or band.type.low < 0:
                ok = pixels.data >= 0
                negative = ok if negative is None else negative & ok
        if negative is not None and not negative.all():
            mask = both(mask, negative)
        return [Pixels(out, mask)]

    kind = PixelType(FLOAT.precision if not wide else "double", -1, 1)
    node = PixelsNode(compute, (first, second))
    return image.derived([first.computed(kind, node).renamed("nd")])
