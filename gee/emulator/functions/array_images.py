"""Images whose pixels are arrays, made of bands, collections, bits and neighbourhoods; unmixing.

What the documentation leaves open: a pixel without any valid image is masked, not an empty
array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arraykernels as kernels
from ..arraypixels import ArrayNode, Ragged, apply, array_function
from ..cells import chosen, packed, ragged
from ..errors import EngineError
from ..image import ConstantNode, Image
from ..kernels import both, greatest, valid
from ..pixels import Band, Context, Node, Pixels
from ..projection import WGS84, Window
from ..types import INT64, UNIT, PixelType
from ..values import Array, Collection
from ._maths import cast_values
from .arrays import joined_type
from .focal import KernelNode
from .kernels import Kernel

__all__ = ["check_join", "constant_array", "element_type", "join"]

Stack = NDArray[Any]


# ------------------------------------------------------------------ making arrays


def constant_array(item: Array, name: str = "constant") -> Image:
    """Return an image with one array everywhere; of a single number, with that number."""
    kind = item.type.with_dimensions(item.values.ndim)
    node = ConstantNode(0, item.type)
    node.pixels = Pixels(packed(item.values[None]).reshape(1, 1), None)
    return Image([Band(name, kind, WGS84, node)])


def element_type(band: Band) -> PixelType:
    """Return the type of the numbers of a band, be they pixels or elements of arrays."""
    return band.type.with_dimensions(0)


def join(axis: int, dtype: Any) -> Callable[..., list[Stack]]:
    """Return a function of stacks that joins their arrays along an axis."""
    return lambda *stacks: [kernels.concatenate(stacks, axis, dtype)]


def check_join(bands: Sequence[Band], axis: int) -> int:
    """Return the dimensions of bands joined along an axis."""
    found = {b.type.dimensions for b in bands}
    if len(found) > 1:
        raise EngineError(
            "Bands must have scalar pixels, or array pixels of equal dimensions; found "
            f"{sorted(found)} dimension(s)."
        )
    (dimensions,) = found
    if not 0 <= axis <= dimensions:
        raise EngineError(
            f"Axis {axis} is out of range: it must be at least 0 and at most {dimensions}."
        )
    return max(dimensions, axis + 1)


@array_function("Image.toArray")
def to_array(image: Image, axis: int) -> Image:
    """Concatenate the bands of every pixel; masked where any band is."""
    if not image.bands:
        raise EngineError("The image has no bands.")
    dimensions = check_join(image.bands, axis)
    kind = joined_type([element_type(b) for b in image.bands])
    node = ArrayNode(join(axis, kind.dtype), image.bands)
    first = image.bands[0].computed(kind.with_dimensions(dimensions), node)
    return image.with_bands([first.renamed("array")])


class _SeriesNode(Node):
    """The valid images of a collection along axis 0, their bands along axis 1."""

    __slots__ = ("kind", "pixel_bytes", "width")

    def __init__(self, layers: Sequence[Sequence[Band]], kind: PixelType) -> None:
        super().__init__([b for layer in layers for b in layer])
        self.pixel_bytes = len(self.inputs) * kind.dtype.itemsize
        self.width = len(layers[0])
        self.kind = kind

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        from .collections import joined

        h, w = window.shape
        count = len(self.inputs) // self.width
        if len(self.inputs) * h * w * 8 > context.limits.stack_bytes and h > 1:
            # Too many numbers to hold at once: strips of the window, one after another.
            half = h // 2
            parts = [window.part(0, 0, half, w), window.part(half, 0, h - half, w)]
            return joined([self.compute(context, p) for p in parts], parts)
        table = np.zeros((h, w, count, self.width), self.kind.dtype)
        ok: NDArray[np.bool_] | None = None
        mask: Any = np.zeros((1, 1), bool)
        for k in range(count):
            layer: Any = None
            for j in range(self.width):
                data, own = context.read(self.inputs[k * self.width + j], window)
                table[:, :, k, j] = data
                layer = both(layer, own)
            if layer is None:
                mask = None
                continue
            if mask is not None:
                mask = greatest(mask, layer)
            if ok is None:
                ok = np.ones((h, w, count), bool)
            ok[:, :, k] = valid(layer)
        flat = table.reshape(h * w, count, self.width)
        if ok is None or ok.all():
            return [Pixels(packed(flat).reshape(h, w), mask)]
        found = kernels.kept(flat, ok.reshape(h * w, count))
        if not isinstance(found, list):
            return [Pixels(packed(found).reshape(h, w), mask)]
        return [Pixels(ragged(found, h * w).reshape(h, w), mask)]


@array_function("ImageCollection.toArray")
def series(items: Collection) -> Image:
    """Lay out the valid images of every pixel along axis 0, their bands along axis 1."""
    from .collections import _footprints

    images = items.images()
    if not images:
        raise EngineError("The collection has no images.")
    width = len(images[0].bands)
    if any(len(image.bands) != width for image in images) or not width:
        raise EngineError("All images must have the same number of bands.")
    bands = [b for image in images for b in image.bands]
    if any(b.type.dimensions for b in bands):
        raise EngineError("Bands must have scalar values, not array values.")
    kind = joined_type([b.type for b in bands])
    node = _SeriesNode([image.bands for image in images], kind)
    made = Band("array", kind.with_dimensions(2), WGS84, node)
    return Image([made], footprint=_footprints(images))


@array_function("ImageCollection.toArrayPerBand")
def series_per_band(items: Collection, axis: int, drop: bool) -> Image:
    """Concatenate the images of a collection band by band."""
    from .collections import _footprints

    images = items.images()
    if not images:
        raise EngineError("The collection has no images.")
    names = images[0].names
    bands = []
    for name in names:
        layers = [image.band(name) for image in images]
        dimensions = check_join(layers, axis)
        kind = joined_type([element_type(b) for b in layers])
        node: Node
        if drop:
            node = _DroppingNode(layers, axis, kind)
        else:
            node = ArrayNode(join(axis, kind.dtype), layers)
        bands.append(Band(name, kind.with_dimensions(dimensions), WGS84, node))
    return Image(bands, footprint=_footprints(images))


class _DroppingNode(Node):
    """The arrays of the valid layers of every pixel, one after another along an axis."""

    pixelwise = True
    __slots__ = ("axis", "kind", "pixel_bytes")

    def __init__(self, layers: Sequence[Band], axis: int, kind: PixelType) -> None:
        super().__init__(layers)
        self.pixel_bytes = len(layers) * kind.dtype.itemsize
        self.axis = axis
        self.kind = kind

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        got = [context.read(b, window) for b in self.inputs]
        shape = window.shape
        oks = [
            np.broadcast_to(np.asarray(True if p.mask is None else valid(p.mask)), shape)
            for p in got
        ]
        flags = np.stack([ok.ravel() for ok in oks], axis=1)
        mask = got[0].mask
        for pixels in got[1:]:
            mask = None if mask is None or pixels.mask is None else greatest(mask, pixels.mask)
        patterns, place = np.unique(flags, axis=0, return_inverse=True)
        out: Any = None
        for number, pattern in enumerate(patterns):
            picked = [p for p, on in zip(got, pattern, strict=True) if on]
            here = (place.ravel() == number).reshape(shape)
            if not picked:
                continue
            made = apply(
                join(self.axis, self.kind.dtype), [Pixels(p.data, here) for p in picked], shape
            )[0].data
            made = np.broadcast_to(made, shape)
            out = made if out is None else chosen(here, made, out)
        if out is None:
            return [Pixels(np.zeros((1, 1), self.kind.dtype), np.zeros((1, 1), bool))]
        return [Pixels(out, mask)]


@array_function("Image.bitsToArrayImage")
def bits_to_array(image: Image) -> Image:
    """Turn the bits of an integer into an array, the lowest first."""

    def bits(values: Stack) -> list[Ragged]:
        whole = cast_values(values, INT64).view(np.uint64)
        table = (whole[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        count = np.where(whole == 0, 1, 64 - table[:, ::-1].argmax(axis=1))
        made: Ragged = []
        for length in np.unique(count):
            rows = np.nonzero(count == length)[0]
            made.append((rows, table[rows, : int(length)].astype(np.uint8)))
        return [made]

    bands = []
    for band in image.bands:
        if band.type.dimensions:
            raise EngineError(f"Band '{band.id}' must hold numbers, not arrays.")
        bands.append(band.computed(UNIT.with_dimensions(1), ArrayNode(bits, [band])))
    return image.derived(bands)


class _NeighbourhoodNode(KernelNode):
    """The neighbourhoods of pixels."""

    __slots__ = ("pixel_bytes",)

    def __init__(self, inputs: Sequence[Band], kernel: Kernel, function_: Any) -> None:
        super().__init__(inputs, kernel, function_)
        # In metres the number of cells follows the scale, which is not known yet.
        cells = kernel.built()[0].size if kernel.units == "pixels" else 0
        self.pixel_bytes = cells * inputs[0].type.dtype.itemsize


@array_function("Image.neighborhoodToArray")
def neighbourhood(image: Image, kernel: Any, default: float) -> Image:
    """Turn the neighbourhood of every pixel into a 2-D array of rows and columns."""
    from .focal import inner

    if kernel.name not in ("fixed", "square", "rectangle"):
        raise EngineError(
            f"Only fixed, square and rectangle kernels are supported, not {kernel.name}."
        )

    def whole(x: float, y: float) -> tuple[Stack, tuple[int, int]]:
        weights, centre = kernel.make(x, y)
        return np.ones_like(np.asarray(weights, float)), centre

    shape = Kernel(kernel.name, whole, kernel.x, kernel.y, kernel.units, False, 1.0)

    def maker(band: Band) -> Callable[..., list[Pixels]]:
        filling = cast_values(np.asarray(float(default)), band.type)
        if band.type.low is not None and band.type.high is not None:
            filling = np.clip(filling, band.type.low, band.type.high).astype(filling.dtype)

        def compute(
            got: Sequence[Pixels], weights: Stack, centre: tuple[int, int], reach: int
        ) -> list[Pixels]:
            data, mask = got[0]
            ok = valid(mask)
            if ok is not None:
                data = np.where(ok, data, filling.astype(data.dtype))
            h, w = data.shape[0] - 2 * reach, data.shape[1] - 2 * reach
            rows, columns = weights.shape
            kernels.check_size(h * w, (rows, columns))
            views = np.lib.stride_tricks.sliding_window_view(data, (rows, columns))
            top, left = reach - centre[0], reach - centre[1]
            table = views[top : top + h, left : left + w].reshape(h * w, rows, columns)
            return [Pixels(packed(table).reshape(h, w), inner(mask, reach))]

        return compute

    bands = []
    for band in image.bands:
        if band.type.dimensions:
            raise EngineError(f"Band '{band.id}' must hold numbers, not arrays.")
        node = _NeighbourhoodNode([band], shape, maker(band))
        bands.append(band.computed(band.type.with_dimensions(2), node))
    return image.with_bands(bands)


# ------------------------------------------------------------------ unmixing

# Of so many endmembers every subset is solved; more are solved pixel by pixel.
_MOST_SUBSETS = 8


@array_function("Image.unmix")
def unmix(image: Image, endmembers: list[Any], sum_to_one: bool, non_negative: bool) -> Image:
    """Return the shares of endmembers, by least squares under the constraints asked for."""
    from .. import matrices

    bands = image.bands
    try:
        table = np.asarray(endmembers, float)
    except (TypeError, ValueError):
        raise EngineError("The endmembers must be lists of numbers of one length.") from None
    if table.ndim != 2 or table.shape[1] != len(bands) or not len(table):
        raise EngineError(
            f"Each endmember must have a value for each of the {len(bands)} bands; the lengths "
            f"found are {list(table.shape)}."
        )
    count = len(table)

    def shares(*values: Stack) -> list[Stack]:
        pixels = np.stack(np.broadcast_arrays(*values), axis=1).astype(float)
        found = matrices.unmixed(pixels, table, sum_to_one, non_negative, _MOST_SUBSETS)
        return [found[:, k] for k in range(count)]

    if any(b.type.dimensions for b in bands):
        raise EngineError("The bands must hold numbers, not arrays.")
    node = ArrayNode(shares, bands, count)
    kind = PixelType("double")
    return image.derived(
        [bands[0].computed(kind, node, k).renamed(f"band_{k}") for k in range(count)]
    )
