"""Images whose pixels are arrays: making them of bands, images and neighbourhoods, and back.

Values of a pixel are reshaped, sliced, sorted and reduced by the same kernels as array values.
What the documentation leaves open: a pixel without any valid image is masked, not an empty
array; a position or slice outside an array is refused; pixels whose reducer or matrix has no
result are masked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arraykernels as kernels
from ..arraypixels import ArrayNode, Ragged, apply, array_function, by_value
from ..budget import reserve
from ..cells import cell, packed
from ..errors import EngineError
from ..image import ConstantNode, Image, PixelsNode, unique_names
from ..kernels import both, greatest, valid
from ..nodes import only_numbers
from ..pixels import Band, Context, Node, Pixels
from ..projection import WGS84, Window
from ..reducers import Reducer, named_reducer
from ..types import INT32, INT64, UNIT, PixelType
from ..values import Array, Collection
from ._maths import cast_values
from .arithmetic import matched
from .arrays import joined_type, pad_type

__all__ = ["constant_array"]

Stack = NDArray[Any]


# ------------------------------------------------------------------ making arrays


def constant_array(item: Array, name: str = "constant") -> Image:
    """Return an image with one array everywhere; of a single number, with that number."""
    kind = item.type.with_dimensions(item.values.ndim)
    node = ConstantNode(0, item.type)
    node.pixels = Pixels(packed(item.values[None]).reshape(1, 1), None)
    return Image([Band(name, kind, WGS84, node)])


def _arrays(image: Image) -> Sequence[Band]:
    for band in image.bands:
        if not band.type.dimensions:
            raise EngineError(f"Band '{band.id}' does not hold arrays.")
    return image.bands


def _element(band: Band) -> PixelType:
    return band.type.with_dimensions(0)


def _join(axis: int, dtype: Any) -> Callable[..., list[Stack]]:
    return lambda *stacks: [kernels.concatenate(stacks, axis, dtype)]


def _check_join(bands: Sequence[Band], axis: int) -> int:
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
    dimensions = _check_join(image.bands, axis)
    kind = joined_type([_element(b) for b in image.bands])
    node = ArrayNode(_join(axis, kind.dtype), image.bands)
    first = image.bands[0].computed(kind.with_dimensions(dimensions), node)
    return image.with_bands([first.renamed("array")])


class _SeriesNode(Node):
    """The valid images of a collection along axis 0, their bands along axis 1."""

    __slots__ = ("kind", "width")

    def __init__(self, layers: Sequence[Sequence[Band]], kind: PixelType) -> None:
        super().__init__([b for layer in layers for b in layer])
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
        out = np.empty(h * w, object)
        for rows, stack in found:
            for row, found_cell in zip(rows, stack, strict=True):
                out[row] = found_cell
        return [Pixels(out.reshape(h, w), mask)]


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
        dimensions = _check_join(layers, axis)
        kind = joined_type([_element(b) for b in layers])
        node: Node
        if drop:
            node = _DroppingNode(layers, axis, kind)
        else:
            node = ArrayNode(_join(axis, kind.dtype), layers)
        bands.append(Band(name, kind.with_dimensions(dimensions), WGS84, node))
    return Image(bands, footprint=_footprints(images))


class _DroppingNode(Node):
    """The arrays of the valid layers of every pixel, one after another along an axis."""

    pixelwise = True
    __slots__ = ("axis", "kind")

    def __init__(self, layers: Sequence[Band], axis: int, kind: PixelType) -> None:
        super().__init__(layers)
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
        out = np.empty(shape[0] * shape[1], object)
        for number, pattern in enumerate(patterns):
            chosen = [p for p, on in zip(got, pattern, strict=True) if on]
            here = (place.ravel() == number).reshape(shape)
            if not chosen:
                continue
            made = apply(
                _join(self.axis, self.kind.dtype),
                [Pixels(p.data, here) for p in chosen],
                shape,
            )[0]
            if here.all():
                return [Pixels(made.data, mask)]
            for row in np.nonzero(here.ravel())[0]:
                out[row] = np.asarray(cell(made.data.ravel()[row]))
        return [Pixels(out.reshape(shape), mask)]


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


@array_function("Image.neighborhoodToArray")
def neighbourhood(image: Image, kernel: Any, default: float) -> Image:
    """Turn the neighbourhood of every pixel into a 2-D array of rows and columns."""
    from .focal import KernelNode, inner
    from .kernels import Kernel

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
            reserve(float(h) * w * rows * columns)
            views = np.lib.stride_tricks.sliding_window_view(data, (rows, columns))
            top, left = reach - centre[0], reach - centre[1]
            table = views[top : top + h, left : left + w].reshape(h * w, rows, columns)
            return [Pixels(packed(table).reshape(h, w), inner(mask, reach))]

        return compute

    bands = []
    for band in image.bands:
        if band.type.dimensions:
            raise EngineError(f"Band '{band.id}' must hold numbers, not arrays.")
        node = KernelNode([band], shape, maker(band))
        bands.append(band.computed(band.type.with_dimensions(2), node))
    return image.with_bands(bands)


# ------------------------------------------------------------------ numbers out of arrays


@array_function("Image.arrayGet")
def get(image: Image, position: Image) -> Image:
    """Return the element at a position, whose coordinates are the bands of an image."""
    bands = []
    only_numbers(position.bands)
    for band in _arrays(image):
        if len(position.bands) != band.type.dimensions:
            raise EngineError(
                f"The position must have as many bands as the array has dimensions "
                f"({band.type.dimensions}), not {len(position.bands)}."
            )

        def element(stack: Stack, *at: Stack) -> list[Stack]:
            index = [np.asarray(a).astype(np.int64) for a in at]
            for place, length in zip(index, stack.shape[1:], strict=True):
                outside = (place < 0) | (place >= length)
                if outside.any():
                    raise EngineError(
                        f"Position {int(place[outside][0])} is out of range for an array of "
                        f"lengths {kernels.lengths_of(stack)}."
                    )
            rows = np.arange(len(stack)) if len(stack) > 1 else np.zeros(1, np.int64)
            found: Stack = stack[(rows, *index)]
            return [found]

        node = ArrayNode(element, [band, *position.bands])
        bands.append(band.computed(_element(band), node))
    return image.derived(bands)


@array_function("Image.arrayFlatten")
def flatten(image: Image, labels: list[Any], separator: str) -> Image:
    """Return a band for every element, named by the labels of its position."""
    if len(image.bands) != 1:
        raise EngineError(f"The image must have one band, not {len(image.bands)}.")
    band = _arrays(image)[0]
    if not all(isinstance(axis, list) and all(isinstance(n, str) for n in axis) for axis in labels):
        raise EngineError("coordinateLabels must be a list of lists of strings, one per axis.")
    if len(labels) != band.type.dimensions:
        raise EngineError(
            f"The array has {band.type.dimensions} dimension(s), but labels are given for "
            f"{len(labels)}."
        )
    names = [separator.join(parts) for parts in itertools.product(*labels)]
    if len(names) > 5000:
        raise EngineError(f"Too many bands: {len(names)} (the maximum is 5000).")
    lengths = [len(axis) for axis in labels]

    def elements(stack: Stack) -> list[Stack]:
        if kernels.lengths_of(stack) != lengths:
            raise EngineError(
                f"An array has lengths {kernels.lengths_of(stack)}, but there are labels for "
                f"{lengths}."
            )
        flat = stack.reshape(len(stack), -1)
        return [flat[:, k] for k in range(flat.shape[1])]

    node = ArrayNode(elements, [band], len(names))
    kind = _element(band)
    if len(set(names)) != len(names):
        names = unique_names((), names)
    return image.with_bands(
        [band.computed(kind, node, k).renamed(name) for k, name in enumerate(names)]
    )


def _lengths(stack: Stack) -> Stack:
    return np.broadcast_to(
        np.asarray(stack.shape[1:], np.int64), (len(stack), stack.ndim - 1)
    ).copy()


def _each(
    image: Image,
    function_: Callable[[Band], tuple[PixelType, Callable[..., Any]]],
    checked: bool = True,
) -> Image:
    """Return an image with a function of stacks applied to every band."""
    bands = []
    for band in _arrays(image) if checked else image.bands:
        kind, call = function_(band)
        bands.append(band.computed(kind, ArrayNode(call, [band])))
    return image.derived(bands)


@array_function("Image.arrayDimensions")
def dimensions(image: Image) -> Image:
    """Return the number of dimensions, 0 for bands of numbers."""
    return _each(
        image,
        lambda band: (
            PixelType("int", 0, 31),
            lambda stack: [np.full(len(stack), band.type.dimensions, np.uint8)],
        ),
        checked=False,
    )


@array_function("Image.arrayLength")
def length(image: Image, axis: int) -> Image:
    """Return the length along an axis."""
    return _each(
        image,
        lambda band: (
            INT32,
            lambda stack: [
                np.full(len(stack), stack.shape[kernels.axis_of(stack, axis)], np.int32)
            ],
        ),
    )


@array_function("Image.arrayLengths")
def lengths(image: Image) -> Image:
    """Return the lengths of all axes as an array."""
    return _each(image, lambda band: (INT32.with_dimensions(1), lambda stack: [_lengths(stack)]))


@array_function("Image.arrayArgmax")
def argmax(image: Image) -> Image:
    """Return the position of the first maximum as an array."""

    def place(stack: Stack) -> tuple[list[Stack], NDArray[np.bool_] | None]:
        if stack.size == 0:
            return [], np.zeros(len(stack), bool)
        return [kernels.argmax(stack)], None

    return _each(image, lambda band: (INT32.with_dimensions(1), place))


@array_function("Image.arrayDotProduct")
def dot(image1: Image, image2: Image) -> Image:
    """Return the dot products of 1-D arrays."""

    def product(a: Stack, b: Stack) -> list[Stack]:
        if a.ndim != 2 or a.shape[1:] != b.shape[1:]:
            raise EngineError(
                "Both arrays must be 1-D and of one length; their lengths are "
                f"{kernels.lengths_of(a)} and {kernels.lengths_of(b)}."
            )
        return [(a.astype(float) * b).sum(axis=1)]

    for band in (*image1.bands, *image2.bands):
        if band.type.dimensions != 1:
            raise EngineError(
                f"Band '{band.id}' must hold 1-D arrays, not arrays of {band.type.dimensions} "
                "dimension(s)."
            )
    return _paired(image1, image2, lambda a, b: (PixelType("double"), product))


def _paired(
    image1: Image,
    image2: Image,
    make: Callable[[Band, Band], tuple[PixelType, Callable[..., Any]]],
) -> Image:
    """Return an image with a function of stacks applied to matched bands."""
    bands = []
    for x, y, name in matched(image1, image2):
        kind, call = make(x, y)
        grid = y if x.projection.is_default and not y.projection.is_default else x
        bands.append(grid.computed(kind, ArrayNode(call, [x, y])).renamed(name))
    source = image1.footprint_source
    return Image(bands, footprint=image2.footprint_source if source is None else source)


# ------------------------------------------------------------------ arrays of arrays


@array_function("Image.arrayCat")
def cat(image1: Image, image2: Image, axis: int) -> Image:
    """Concatenate the arrays of matched bands along an axis."""

    def make(a: Band, b: Band) -> tuple[PixelType, Callable[..., Any]]:
        kind = _element(a).union(_element(b))
        count = _check_join([a, b], axis)
        return kind.with_dimensions(count), _join(axis, kind.dtype)

    return _paired(image1, image2, make)


def _partners(image: Image, other: Image, what: str) -> list[Band]:
    from .masks import partners

    return partners(image, other, what)


@array_function("Image.arrayMask")
def mask(image: Image, wanted: Image) -> Image:
    """Keep what is parallel to elements of a mask other than 0."""
    bands = []
    for band, flags in zip(_arrays(image), _partners(image, wanted, "mask"), strict=True):
        node = ArrayNode(lambda stack, on: [kernels.kept(stack, on)], [band, flags])
        bands.append(band.computed(band.type, node))
    return image.derived(bands)


@array_function("Image.arrayPad")
def pad(image: Image, sizes: list[int], value: float) -> Image:
    """Append a value until every axis has a length."""
    if len({b.type.dimensions for b in image.bands}) > 1:
        raise EngineError("All bands must have arrays of the same number of dimensions.")

    def make(band: Band) -> tuple[PixelType, Callable[..., Any]]:
        kind = pad_type(_element(band), value)
        count = max(band.type.dimensions, len(sizes))
        return kind.with_dimensions(count), lambda stack: [
            kernels.pad(stack, sizes, value, kind.dtype)
        ]

    return _each(image, make)


@array_function("Image.arrayProject")
def project(image: Image, axes: list[int]) -> Image:
    """Keep some axes; the others must have length 1."""
    return _each(
        image,
        lambda band: (
            band.type.with_dimensions(len(axes)),
            lambda stack: [kernels.project(stack, axes)],
        ),
    )


@array_function("Image.arrayTranspose", "Image.matrixTranspose")
def transpose(image: Image, first: int, second: int) -> Image:
    """Exchange two axes."""
    return _each(
        image,
        lambda band: (
            band.type.with_dimensions(max(band.type.dimensions, first + 1, second + 1)),
            lambda stack: [kernels.transpose(stack, first, second)],
        ),
    )


@array_function("Image.arrayRepeat")
def repeat(image: Image, axis: int, copies: Image) -> Image:
    """Repeat along an axis; a new axis may be the next one."""
    bands = []
    only_numbers(copies.bands)
    for band, count in zip(_arrays(image), _partners(image, copies, "copies"), strict=True):
        kind = band.type.with_dimensions(max(band.type.dimensions, axis + 1))

        def repeated(stack: Stack, times: Stack) -> list[Any]:
            settings = np.asarray(times).astype(np.int64)[:, None]
            return [by_value(stack, settings, lambda s, n: kernels.repeat(s, axis, int(n[0])))]

        bands.append(band.computed(kind, ArrayNode(repeated, [band, count])))
    return image.derived(bands)


@array_function("Image.arrayReshape")
def reshape(image: Image, shape: Image, count: int) -> Image:
    """Return the elements in arrays of other lengths."""
    if len(shape.bands) != 1 or shape.bands[0].type.dimensions != 1:
        raise EngineError("The lengths must be an image of one band of 1-D arrays.")
    if count < 0:
        raise EngineError(f"The number of dimensions must not be negative, not {count}.")
    bands = []

    def reshaped(stack: Stack, wanted: Stack) -> list[Any]:
        if wanted.shape[1] != count:
            raise EngineError(
                f"The lengths have {wanted.shape[1]} values; there must be {count}, one per "
                "dimension."
            )
        return [
            by_value(
                stack,
                wanted.astype(np.int64),
                lambda s, n: kernels.reshape(s, [int(v) for v in n]),
            )
        ]

    for band in _arrays(image):
        node = ArrayNode(reshaped, [band, shape.bands[0]])
        bands.append(band.computed(band.type.with_dimensions(count), node))
    return image.derived(bands)


# Stands for an end of a slice that is masked.
_UNSET = np.iinfo(np.int64).min


def _ends(image: Image, ends: Image | None) -> list[Band | None]:
    if ends is None:
        return [None] * len(image.bands)

    def settled(pixels: Pixels) -> list[Pixels]:
        ok = valid(pixels.mask)
        data = pixels.data.astype(np.int64)
        return [Pixels(data if ok is None else np.where(ok, data, _UNSET), None)]

    return [
        b.computed(INT64, PixelsNode(settled, (b,))) for b in _partners(image, ends, "slice end")
    ]


@array_function("Image.arraySlice")
def slice_pixels(
    image: Image, axis: int, start: Image | None, end: Image | None, step: int
) -> Image:
    """Return a range along an axis; its ends may differ between pixels."""
    if step < 1:
        raise EngineError(f"Step must be positive, not {step}.")
    bands = []
    for band, low, high in zip(_arrays(image), _ends(image, start), _ends(image, end), strict=True):
        if not 0 <= axis < band.type.dimensions:
            raise EngineError(
                f"Axis {axis} is out of range for an array of {band.type.dimensions} dimension(s)."
            )
        which = [b for b in (low, high) if b is not None]
        has_low, has_high = low is not None, high is not None

        def sliced(
            stack: Stack, *given: Stack, has_low: bool = has_low, has_high: bool = has_high
        ) -> list[Any]:
            unset = np.full(1, _UNSET)
            rest = iter(given)
            first = next(rest) if has_low else unset
            last = next(rest) if has_high else unset
            settings = np.stack(np.broadcast_arrays(first, last), axis=1)

            def part(some: Stack, ends: Stack) -> Stack:
                a, b = (None if v == _UNSET else int(v) for v in ends)
                return kernels.slice_axis(some, axis, a or 0, b, step)

            return [by_value(stack, settings, part)]

        bands.append(band.computed(band.type, ArrayNode(sliced, [band, *which], masks=[0])))
    return image.derived(bands)


@array_function("Image.arraySort")
def sort(image: Image, keys: Image | None) -> Image:
    """Sort along one axis, by keys if given."""
    if keys is None:
        return _each(image, lambda band: (band.type, lambda stack: [kernels.sort(stack, None)]))
    bands = []
    for band, key in zip(_arrays(image), _partners(image, keys, "keys"), strict=True):
        node = ArrayNode(lambda stack, by: [kernels.sort(stack, by)], [band, key])
        bands.append(band.computed(band.type, node))
    return image.derived(bands)


# ------------------------------------------------------------------ reducing


@array_function("Image.arrayAccum")
def accumulate(image: Image, axis: int, reducer: Reducer | None) -> Image:
    """Reduce everything up to each position along an axis."""
    used = reducer or named_reducer("sum")

    def make(band: Band) -> tuple[PixelType, Callable[..., Any]]:
        given = _element(band)
        kind = used.types([given])[0]

        def running(stack: Stack) -> tuple[list[Stack], Any]:
            found, _, ok = kernels.accumulate(stack, given, axis, used)
            return [found], ok

        return kind.with_dimensions(band.type.dimensions), running

    return _each(image, make)


@array_function("Image.arrayReduce")
def reduce(image: Image, reducer: Reducer, axes: list[int], field: int | None) -> Image:
    """Collapse axes to length 1 by a reducer."""

    def make(band: Band) -> tuple[PixelType, Callable[..., Any]]:
        given = _element(band)
        kind = joined_type(reducer.types([given] * reducer.inputs))

        def reduced(stack: Stack) -> tuple[list[Stack], Any]:
            found, _, ok = kernels.reduce(stack, given, reducer, axes, field)
            return [found], ok

        return kind.with_dimensions(max(band.type.dimensions, (field or 0) + 1)), reduced

    return _each(image, make)


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
