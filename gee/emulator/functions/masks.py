"""Masks, conditional values and remapping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cells import cast, chosen, is_cells
from ..conversion import numbers
from ..errors import EngineError
from ..geometry import Geometry, beside, union_of
from ..image import ClipNode, Image, MapNode, PixelsNode, constant, geometry_mask
from ..kernels import both, valid
from ..nodes import AnyPixelsNode, only_numbers
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Window
from ..types import DOUBLE, PixelType
from ..values import Collection, Feature
from .registry import function

__all__ = ["clip_to", "self_mask", "update_mask"]


def partners(image: Image, other: Image, what: str) -> list[Band]:
    """Return the band of ``other`` that goes with every band of ``image``."""
    if len(other.bands) == 1:
        return [other.bands[0]] * len(image.bands)
    if len(other.bands) != len(image.bands):
        raise EngineError(
            f"The {what} must have one band or as many as the input ({len(image.bands)}), "
            f"not {len(other.bands)}."
        )
    return list(other.bands)


def as_mask(pixels: Pixels) -> Array | None:
    """Return values as a mask: clamped to 0..1, 0 where themselves masked."""
    data = pixels.data
    if is_cells(data):
        raise EngineError("A mask must be made of numbers, not of arrays.")
    if data.dtype == bool:
        mask: Array | None = data
    elif data.dtype.kind in "ui":
        mask = data > 0
    else:
        on = np.clip(np.nan_to_num(data, nan=0.0), 0, 1).astype(np.float32)
        flat = (on == 0) | (on == 1)
        mask = on > 0 if flat.all() else on
    if mask is not None and mask.all() and mask.dtype == bool:
        mask = None
    inner = pixels.mask
    if inner is None:
        return mask
    if mask is None:
        return inner
    if mask.dtype == bool and inner.dtype == bool:
        return mask & inner
    return mask * inner.astype(np.float32)


def _updated(pixels: Pixels, mask: Pixels) -> list[Pixels]:
    new = as_mask(mask)
    old = pixels.mask
    if old is None:
        return [Pixels(pixels.data, new)]
    if new is None:
        return [Pixels(pixels.data, old if old.dtype == bool else old > 0)]
    # The new mask stands wherever the old is not zero ([A] Image.updateMask).
    if new.dtype == bool:
        return [Pixels(pixels.data, new & np.asarray(valid(old)))]
    return [Pixels(pixels.data, np.where(np.asarray(valid(old)), new, np.float32(0)))]


@function("Image.updateMask")
def update_mask(image: Image, mask: Image) -> Image:
    """Replace the mask where it is not zero."""
    return image.with_bands(
        [
            b.computed(b.type, AnyPixelsNode(_updated, (b, m)))
            for b, m in zip(image.bands, partners(image, mask, "mask"), strict=True)
        ]
    )


@function("Image.selfMask")
def self_mask(image: Image) -> Image:
    """Mask zeros."""
    return update_mask(image, image)


def _mask_values(pixels: Pixels) -> list[Pixels]:
    mask = pixels.mask
    if mask is None:
        return [Pixels(np.ones((1, 1), np.float32), None)]
    return [Pixels(mask.astype(np.float32), None)]


def _nearest_zero(kind: PixelType) -> float:
    low = kind.low if kind.low is not None else 0
    high = kind.high if kind.high is not None else 0
    return min(max(0, low), high)


@function("Image.mask")
def mask(image: Image, new: Image | None) -> Image:
    """Get the mask as values 0..1, or set it; what was masked becomes 0 ([A])."""
    if new is None:
        kind = PixelType("float", 0, 1)
        return image.with_bands(
            [b.computed(kind, AnyPixelsNode(_mask_values, (b,))) for b in image.bands]
        )

    def setter(kind: PixelType) -> Callable[[Pixels, Pixels], list[Pixels]]:
        def replaced(pixels: Pixels, other: Pixels) -> list[Pixels]:
            data = pixels.data
            ok = valid(pixels.mask)
            if ok is not None and not is_cells(data):
                data = np.where(ok, data, data.dtype.type(_nearest_zero(kind)))
            return [Pixels(data, as_mask(other))]

        return replaced

    return image.with_bands(
        [
            b.computed(b.type, AnyPixelsNode(setter(b.type), (b, m)))
            for b, m in zip(image.bands, partners(image, new, "mask"), strict=True)
        ]
    )


def _filled(dtype: Any) -> Callable[[Pixels, Pixels], list[Pixels]]:
    def compute(pixels: Pixels, value: Pixels) -> list[Pixels]:
        old = pixels.mask
        if old is None:
            return [Pixels(cast(pixels.data, dtype), None)]
        ok = np.asarray(valid(old))
        data = chosen(ok, cast(pixels.data, dtype), cast(value.data, dtype))
        if value.mask is None and old.dtype == bool:
            return [Pixels(data, None)]
        fresh: Any = np.float32(1) if value.mask is None else value.mask
        if old.dtype == bool and fresh.dtype == bool:
            return [Pixels(data, ok | fresh)]
        return [Pixels(data, np.where(ok, old.astype(np.float32), fresh).astype(np.float32))]

    return compute


class _InsideNode(Node):
    """Masked outside a footprint, by pixel centres."""

    __slots__ = ("geometry",)

    def __init__(self, band: Band, geometry: Geometry) -> None:
        super().__init__([band])
        self.geometry = geometry

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        got = context.read(self.inputs[0], window)
        inside = geometry_mask(self.geometry, window, weighted=False)
        return (Pixels(got.data, both(got.mask, inside)),)


@function("Image.unmask")
def unmask(image: Image, value: Image | None, same_footprint: bool) -> Image:
    """Fill masked pixels, inside the footprint unless told otherwise ([A])."""
    value = constant(0) if value is None else value
    bands = []
    footprint = image.footprint if same_footprint else None
    for b, v in zip(image.bands, partners(image, value, "value"), strict=True):
        kind = b.type.union(v.type)
        if b.type.is_int and v.type.is_int:
            kind = PixelType("int", kind.low, kind.high)
        made = b.computed(kind, AnyPixelsNode(_filled(kind.dtype), (b, v)))
        if footprint is not None:
            # Outside the footprint only what was valid before stays valid.
            made = made.computed(kind, _WithinNode(made, b, footprint))
        bands.append(made)
    out = image.with_bands(bands)
    if not same_footprint:
        # Without an edge: pixels beyond the input are filled too.
        out = out.with_bands([b.on(b.projection) for b in out.bands])
        return out.with_footprint(None if value.footprint is None else image.footprint_source)
    return out


class _WithinNode(Node):
    """A filled band inside a footprint, the band before filling outside."""

    __slots__ = ("geometry",)

    def __init__(self, filled: Band, before: Band, geometry: Geometry) -> None:
        super().__init__([filled, before])
        self.geometry = geometry

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        inside = geometry_mask(self.geometry, window, weighted=False)
        got = context.read(self.inputs[0], window)
        if inside is None:
            return (got,)
        before = context.read(self.inputs[1], window).mask
        ok = inside if before is None else inside | np.asarray(valid(before))
        return (Pixels(got.data, both(got.mask, ok)),)


def clip_to(image: Image, geometry: Geometry) -> Image:
    """Return an image masked outside a geometry."""
    if geometry.unbounded or not image.bands:
        return image
    node = ClipNode(image.bands, geometry)
    bands = [b.computed(b.type, node, i) for i, b in enumerate(image.bands)]

    def footprint() -> Geometry:
        own = image.footprint
        if own is None:
            return geometry
        whole = own.lonlat()
        inside = whole.intersection(beside(whole, geometry.in_crs("EPSG:4326")))
        return Geometry(inside, "EPSG:4326", own.geodesic)

    return image.with_bands(bands).with_footprint(footprint)


@function("Image.clip", evaluator=True)
def clip(evaluator: Any, image: Image, geometry: Any) -> Image:
    """Mask what a geometry does not cover; edge pixels in part."""
    from ..evaluate import coerce

    return clip_to(image, coerce("Geometry", "", geometry, evaluator))


@function("Image.clipToCollection", evaluator=True)
def clip_to_collection(evaluator: Any, image: Image, collection: Any) -> Image:
    """Mask what no feature covers."""
    from ..evaluate import coerce

    found: Collection = coerce("FeatureCollection", "", collection, evaluator)
    shapes = [f.geometry for f in found if isinstance(f, Feature) and f.geometry is not None]
    return clip_to(image, union_of(shapes))


def _where(dtype: Any) -> Callable[[Pixels, Pixels, Pixels], list[Pixels]]:
    def compute(pixels: Pixels, test: Pixels, value: Pixels) -> list[Pixels]:
        take = test.data != 0
        for mask_ in (test.mask, value.mask):
            ok = valid(mask_)
            if ok is not None:
                take = take & ok
        data = chosen(take, cast(value.data, dtype), cast(pixels.data, dtype))
        return [Pixels(data, pixels.mask)]

    return compute


@function("Image.where")
def where(image: Image, test: Image, value: Image) -> Image:
    """Replace values where a test is not zero; masked tests and values replace nothing ([A])."""
    bands = []
    tests, values = partners(image, test, "test"), partners(image, value, "value")
    only_numbers(tests)
    for b, t, v in zip(image.bands, tests, values, strict=True):
        kind = b.type.union(v.type)
        bands.append(b.computed(kind, AnyPixelsNode(_where(kind.dtype), (b, t, v))))
    return image.with_bands(bands)


@function("Image.blend")
def blend(bottom: Image, top: Image) -> Image:
    """Lay one image over another, the masks being opacities ([A])."""
    many = max(len(bottom.bands), len(top.bands))
    below = bottom.bands * many if len(bottom.bands) == 1 else bottom.bands
    above = top.bands * many if len(top.bands) == 1 else top.bands
    if len(below) != len(above):
        raise EngineError("Images to blend must have the same number of bands, or one.")

    def mixer(dtype: Any) -> Callable[[Pixels, Pixels], list[Pixels]]:
        def compute(low: Pixels, high: Pixels) -> list[Pixels]:
            if high.mask is None:
                return [Pixels(high.data.astype(dtype), None)]
            alpha = high.mask.astype(np.float32)
            base = np.float32(1) if low.mask is None else low.mask.astype(np.float32)
            under = np.where(base > 0, low.data, high.data).astype(np.float64)
            data = high.data * alpha + under * (1 - alpha)
            whole = alpha + base * (1 - alpha)
            data = np.where(base > 0, data, high.data)
            return [Pixels(data.astype(dtype), whole)]

        return compute

    bands = []
    for low, high in zip(below, above, strict=True):
        kind = low.type.union(high.type)
        bands.append(low.computed(kind, PixelsNode(mixer(kind.dtype), (low, high))))
    if len(bottom.bands) == 1 and many > 1:
        # One band under several: each needs a name of its own.
        bands = [b.renamed(a.id) for b, a in zip(bands, above, strict=True)]
    return bottom.with_bands(bands)


def _table(values: Any) -> Array:
    return np.asarray(numbers(values, "Values to remap"))


@function("Image.remap")
def remap(image: Image, before: Any, after: Any, default: Any, band_name: str | None) -> Image:
    """Map values by two lists into band ``remapped``; unmatched are masked or a default ([A])."""
    band = image.band(band_name) if band_name is not None else image.bands[0]
    source, target = _table(before), _table(after)
    if len(source) != len(target):
        raise EngineError(
            f"'from' and 'to' must have the same number of values ({len(source)} and "
            f"{len(target)})."
        )
    whole = bool((target == np.round(target)).all())
    fallback = constant(default) if isinstance(default, (int, float)) else default
    if fallback is not None and not isinstance(fallback, Image):
        raise EngineError("defaultValue must be a number or an image.")
    if fallback is not None:
        whole = whole and fallback.bands[0].type.is_int
    if not whole:
        kind = DOUBLE
    else:
        ends = [target.min() if len(target) else 0, target.max() if len(target) else 0]
        kind = PixelType("int", int(ends[0]), int(ends[1]))
        if fallback is not None:
            kind = kind.union(fallback.bands[0].type)
    order = np.argsort(source, kind="stable")
    keys, values = source[order], target[order].astype(kind.dtype)

    def compute(pixels: Pixels, *rest: Pixels) -> list[Pixels]:
        if len(keys) == 0:
            at = np.zeros(pixels.data.shape, np.int64)
            hit = np.zeros(pixels.data.shape, bool)
            found = np.zeros(pixels.data.shape, kind.dtype)
        else:
            # The last of equal keys wins, as later assignments do.
            at = np.searchsorted(keys, pixels.data, side="right") - 1
            hit = (at >= 0) & (keys[at] == pixels.data)
            found = values[at]
        if not rest:
            return [Pixels(found, both(pixels.mask, hit))]
        data = np.where(hit, found, rest[0].data.astype(kind.dtype))
        if rest[0].mask is None:
            return [Pixels(data, pixels.mask)]
        return [Pixels(data, both(pixels.mask, hit | np.asarray(valid(rest[0].mask))))]

    inputs = (band,) if fallback is None else (band, fallback.bands[0])
    made = band.computed(kind, PixelsNode(compute, inputs)).renamed("remapped")
    return image.with_bands([made])


@function("Image.interpolate")
def interpolate(image: Image, x: list[float], y: list[float], behaviour: str) -> Image:
    """Interpolate values along a polyline ([A])."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    if len(xs) != len(ys) or len(xs) < 2 or (np.diff(xs) <= 0).any():
        raise EngineError("x and y must be lists of one length, x increasing.")

    def lines(a: Array) -> Array:
        v = a.astype(float)
        out = np.interp(v, xs, ys)
        if behaviour == "extrapolate":
            first = (ys[1] - ys[0]) / (xs[1] - xs[0])
            last = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
            out = np.where(v < xs[0], ys[0] + (v - xs[0]) * first, out)
            out = np.where(v > xs[-1], ys[-1] + (v - xs[-1]) * last, out)
        elif behaviour == "input":
            out = np.where((v < xs[0]) | (v > xs[-1]), v, out)
        return out

    def masked(pixels: Pixels) -> list[Pixels]:
        ok = (pixels.data >= xs[0]) & (pixels.data <= xs[-1])
        return [Pixels(lines(pixels.data), both(pixels.mask, ok))]

    bands = []
    for b in image.bands:
        node: Node = PixelsNode(masked, (b,)) if behaviour == "mask" else MapNode(lines, (b,))
        bands.append(b.computed(DOUBLE, node))
    return image.with_bands(bands)
