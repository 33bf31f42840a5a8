"""Functions of array images: elements, slices, joins, sorts, reductions; back to bands.

The same kernels as for array values, pixel by pixel. What the documentation leaves open: a
position outside an array is refused; pixels whose reducer has no result are masked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arraykernels as kernels
from ..arraypixels import ArrayNode, array_function, by_value
from ..errors import EngineError
from ..image import Image, PixelsNode, unique_names
from ..kernels import valid
from ..nodes import only_numbers
from ..pixels import Band, Pixels
from ..reducers import Reducer, named_reducer
from ..types import INT32, INT64, PixelType
from .arithmetic import matched
from .array_images import check_join, element_type, join
from .arrays import joined_type, pad_type

__all__: list[str] = []

Stack = NDArray[Any]


def _arrays(image: Image) -> Sequence[Band]:
    for band in image.bands:
        if not band.type.dimensions:
            raise EngineError(f"Band '{band.id}' does not hold arrays.")
    return image.bands


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
        bands.append(band.computed(element_type(band), node))
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
    kind = element_type(band)
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
        kind = element_type(a).union(element_type(b))
        count = check_join([a, b], axis)
        return kind.with_dimensions(count), join(axis, kind.dtype)

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
        kind = pad_type(element_type(band), value)
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
        given = element_type(band)
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
        given = element_type(band)
        kind = joined_type(reducer.types([given] * reducer.inputs))

        def reduced(stack: Stack) -> tuple[list[Stack], Any]:
            found, _, ok = kernels.reduce(stack, given, reducer, axes, field)
            return [found], ok

        return kind.with_dimensions(max(band.type.dimensions, (field or 0) + 1)), reduced

    return _each(image, make)
