"""Sums, extremes and any reducer over the neighbourhood of a pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..budget import tick
from ..errors import EngineError
from ..image import Image, full
from ..nodes import only_numbers
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Projection, Window
from ..reducers import Reducer, named_reducer
from ..types import DOUBLE, PixelType
from .kernels import SHAPES, Kernel, units_of
from .registry import function

__all__ = ["KernelNode", "inner"]


class KernelNode(Node):
    """A function of a neighbourhood given by a kernel; its size follows the output's scale."""

    __slots__ = ("function", "halo", "kernel")

    def __init__(
        self,
        inputs: Sequence[Band],
        kernel: Kernel,
        function_: Callable[[Sequence[Pixels], Array, tuple[int, int], int], Sequence[Pixels]],
    ) -> None:
        super().__init__(only_numbers(inputs))
        self.kernel = kernel
        self.function = function_
        self.halo = kernels.reach_of(*kernel.built()) if kernel.units == "pixels" else 0

    def border(self, projection: Projection) -> int:
        """Return the pixels that the kernel reaches on a projection."""
        if self.kernel.units == "pixels":
            return self.halo
        try:
            return self.kernel.reach(projection)
        except EngineError:  # too large on this projection, but it may be asked for on another
            return 0

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        weights, centre = self.kernel.on(window.projection)
        reach = kernels.reach_of(weights, centre)
        wide = window.pad(reach)
        got = [full(context.read(b, wide), wide) for b in self.inputs]
        return self.function(got, weights, centre, reach)


def inner(mask: Array | None, reach: int) -> Array | None:
    if mask is None or reach == 0:
        return mask
    return mask[reach:-reach, reach:-reach]


def _convolved(
    got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
) -> list[Pixels]:
    data, mask = got[0]
    values = data.astype(np.float64)
    ok = kernels.valid(mask)
    if ok is None:
        return [Pixels(kernels.correlate(values, weights, centre, reach), None)]
    filled = np.where(ok, values, 0.0)
    out = kernels.correlate(filled, weights, centre, reach)
    # Any masked pixel under a weight masks the result.
    gaps = kernels.correlate((~ok).astype(np.float64), (weights != 0).astype(float), centre, reach)
    return [Pixels(out, gaps == 0)]


@function("Image.convolve")
def convolve(image: Image, kernel: Kernel) -> Image:
    """Convolve every band with a kernel; masked neighbours mask the result."""
    # Convolution turns the kernel half round.
    turned = Kernel(
        kernel.name,
        lambda x, y: _turned(*kernel.make(x, y)),
        kernel.x, kernel.y, kernel.units, kernel.normalize, kernel.magnitude,
    )  # fmt: skip
    bands = []
    for b in image.bands:
        kind = PixelType("double" if b.type.precision != "float" else "float")
        bands.append(b.computed(kind, KernelNode([b], turned, _convolved)))
    return image.with_bands(bands)


def _turned(weights: Array, centre: tuple[int, int]) -> tuple[Array, tuple[int, int]]:
    h, w = np.asarray(weights).shape
    return np.asarray(weights)[::-1, ::-1], (h - 1 - centre[0], w - 1 - centre[1])


_Neighbours = Callable[[Sequence[Pixels], Array, tuple[int, int], int], Sequence[Pixels]]


def _sums(kind: str, use_mask: bool, use_kernel: bool) -> _Neighbours:
    """Mean, sum, count, variance and standard deviation by sums over the kernel."""

    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> list[Pixels]:
        data, mask = got[0]
        cells = weights if use_kernel else (weights != 0).astype(float)
        ok = kernels.valid(mask)
        shape = data.shape
        strength = np.ones(shape)
        if ok is not None:
            strength = (
                kernels.weights_of(mask, shape).astype(float) if use_mask else ok.astype(float)
            )
        if kind == "count":
            out = kernels.correlate(
                np.ones(shape) if ok is None else ok.astype(float), (weights != 0).astype(float),
                centre, reach,
            )  # fmt: skip
            return [Pixels(out, None)]
        values = data.astype(np.float64)
        # Squares are taken about a fixed number, so that large values keep their digits;
        # the same number for every tile, or borders would show.
        about = 0.0
        filled = values - about if ok is None else np.where(ok, values - about, 0.0)
        weight = kernels.correlate(strength, cells, centre, reach)
        total = kernels.correlate(filled * strength, cells, centre, reach)
        some = weight > 0
        safe = np.where(some, weight, 1)
        if kind == "sum":
            out = total
        elif kind == "mean":
            out = total / safe
        else:
            out = _spread(filled, strength, cells, centre, reach, total / safe, safe)
            if kind == "stdDev":
                out = np.sqrt(out)
        return [Pixels(out, None if some.all() else some)]

    return compute


def _spread(
    filled: Array,
    strength: Array,
    cells: Array,
    centre: tuple[int, int],
    reach: int,
    mean: Array,
    weight: Array,
) -> Array:
    """Return the weighted variance about each pixel's own mean: no cancellation."""
    h, w = mean.shape
    out = np.zeros((h, w))
    rows, columns = np.nonzero(cells)
    for r, c in zip(rows, columns, strict=True):
        tick()
        dr, dc = int(r) - centre[0], int(c) - centre[1]
        part = kernels.shifted(filled, dr, dc, reach)
        strong = kernels.shifted(strength, dr, dc, reach)
        out += (part - mean) ** 2 * strong * cells[r, c]
    return out / weight


def _extreme(largest: bool) -> _Neighbours:
    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> list[Pixels]:
        data, mask = got[0]
        ok = kernels.valid(mask)
        if ok is None:
            return [Pixels(kernels.extreme(data, weights, centre, reach, largest), None)]
        if data.dtype.kind == "f":
            worst: Any = -np.inf if largest else np.inf
        else:
            ends = np.iinfo(data.dtype)
            worst = ends.min if largest else ends.max
        filled = np.where(ok, data, data.dtype.type(worst))
        out = kernels.extreme(filled, weights, centre, reach, largest)
        some = kernels.extreme(ok.view(np.uint8), weights, centre, reach, True) > 0
        return [Pixels(out, some)]

    return compute


# Bytes that the neighbours of a strip of pixels may take, stacked.
_STACK = 16 * 2**20


def _strips(height: int, width: int, layers: int) -> Iterator[slice]:
    """Yield rows to compute at a time, so that all neighbours can be held at once."""
    step = max(_STACK // (8 * max(width * layers, 1)), 1)
    for row in range(0, height, step):
        tick()
        yield slice(row, min(row + step, height))


def _folded(
    reducer: Reducer, kinds: Sequence[PixelType], use_mask: bool, use_kernel: bool
) -> _Neighbours:
    """Any reducer, by its own fold over the neighbours."""

    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> list[Pixels]:
        h, w = got[0].data.shape[0] - 2 * reach, got[0].data.shape[1] - 2 * reach
        cells = int(np.count_nonzero(weights)) * len(got)
        parts = []
        for rows in _strips(h, w, cells):
            around = np.s_[rows.start : rows.stop + 2 * reach]
            strip = [
                Pixels(data[around], None if mask is None else mask[around]) for data, mask in got
            ]
            parts.append(_fold_strip(strip, weights, centre, reach))
        if len(parts) == 1:
            return parts[0]
        return [
            Pixels(
                np.concatenate([p.data for p in pieces]),
                np.concatenate(
                    [np.ones(p.data.shape, bool) if p.mask is None else p.mask for p in pieces]
                ),
            )
            for pieces in zip(*parts, strict=True)
        ]

    def _fold_strip(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> list[Pixels]:
        shape = got[0].data.shape[0] - 2 * reach, got[0].data.shape[1] - 2 * reach
        fold = reducer.fold(list(kinds), shape)
        top = float(np.abs(weights).max()) if weights.size else 1.0
        for r, c in zip(*np.nonzero(weights), strict=True):
            dr, dc = int(r) - centre[0], int(c) - centre[1]
            layer = []
            for data, mask in got:
                part = None if mask is None else kernels.shifted(mask, dr, dc, reach)
                if not use_mask:
                    part = kernels.valid(part)
                weight = float(weights[r, c]) / top
                if use_kernel and weight != 1.0:
                    whole = kernels.weights_of(part, shape)
                    part = (whole * np.float32(weight)).astype(np.float32)
                layer.append(Pixels(kernels.shifted(data, dr, dc, reach), part))
            fold.add(layer)
        return [
            Pixels(
                # Copied: a view would keep all the sorted neighbours.
                np.broadcast_to(data, shape).copy(),
                None if mask is None else np.broadcast_to(np.asarray(kernels.valid(mask)), shape),
            )
            for data, mask in fold.result()
        ]

    return compute


_BY_SUMS = {"mean", "sum", "count", "stdDev", "variance"}


def _reduced(reducer: Reducer, kinds: Sequence[PixelType], weight: str, skip: bool) -> _Neighbours:
    use_mask = weight == "mask"
    use_kernel = weight == "kernel"
    if reducer.name in _BY_SUMS and reducer.inputs == 1:
        plain = _sums(reducer.name, use_mask, use_kernel)
    elif reducer.name in ("min", "max") and reducer.inputs == 1:
        plain = _extreme(reducer.name == "max")
    else:
        plain = _folded(reducer, kinds, use_mask, use_kernel)

    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> Sequence[Pixels]:
        out = plain(got, weights, centre, reach)
        if not skip:
            return out
        own: Array | None = None
        for _, mask in got:
            own = kernels.both(own, inner(mask, reach))
        return [Pixels(p.data, kernels.both(p.mask, kernels.valid(own))) for p in out]

    return compute


@function("Image.reduceNeighborhood")
def reduce_neighbourhood(
    image: Image,
    reducer: Reducer,
    kernel: Kernel,
    weight: str,
    skip: bool,
    optimization: str | None,
) -> Image:
    """Reduce the neighbourhood of every pixel; outputs are named band_output ([A])."""
    if weight not in ("mask", "kernel", "min"):
        raise EngineError(f"Unknown inputWeight '{weight}': mask, kernel or min.")
    bands = []
    if reducer.inputs == 1:
        for b in image.bands:
            kinds = reducer.types([b.type])
            node = KernelNode([b], kernel, _reduced(reducer, [b.type], weight, skip))
            for k, (output, kind) in enumerate(zip(reducer.outputs, kinds, strict=True)):
                bands.append(b.computed(kind, node, k).renamed(f"{b.id}_{output}"))
        return image.with_bands(bands)
    if reducer.inputs != len(image.bands):
        raise EngineError(
            f"Need {reducer.inputs} bands for the reducer's inputs, got {len(image.bands)}."
        )
    kinds = [b.type for b in image.bands]
    node = KernelNode(image.bands, kernel, _reduced(reducer, kinds, weight, skip))
    first = image.bands[0]
    return image.with_bands(
        [
            first.computed(kind, node, k).renamed(output)
            for k, (output, kind) in enumerate(
                zip(reducer.outputs, reducer.types(kinds), strict=True)
            )
        ]
    )


def _focal(name: str) -> None:
    def apply(
        image: Image,
        radius: float,
        shape: str,
        units: str,
        iterations: int,
        kernel: Kernel | None,
    ) -> Image:
        if kernel is None:
            if shape not in SHAPES:
                raise EngineError(f"Unknown kernel type '{shape}': {', '.join(sorted(SHAPES))}.")
            kernel = Kernel(shape, SHAPES[shape], radius, radius, units_of(units))
        reducer = named_reducer(name)
        # A masked pixel with valid neighbours gets a value, as morphology needs.
        for _ in range(iterations):
            bands = []
            for b in image.bands:
                kind = reducer.types([b.type])[0]
                node = KernelNode([b], kernel, _reduced(reducer, [b.type], "kernel", False))
                bands.append(b.computed(kind, node))
            image = image.with_bands(bands)
        return image

    label = name.capitalize()
    function(f"Image.focal{label}", f"Image.focal_{name}", f"Window.{name}")(apply)


for _name in ("min", "max", "median", "mode", "mean"):
    _focal(_name)


@function("Image.neighborhoodToBands")
def to_bands(image: Image, kernel: Kernel) -> Image:
    """Return every neighbour as a band, named band_x_y."""
    weights, centre = kernel.built()
    rows, columns = np.nonzero(weights)
    offsets = [(int(r) - centre[0], int(c) - centre[1]) for r, c in zip(rows, columns, strict=True)]

    def compute(
        got: Sequence[Pixels], weights_: Array, centre_: tuple[int, int], reach: int
    ) -> list[Pixels]:
        data, mask = got[0]
        return [
            Pixels(
                kernels.shifted(data, r, c, reach),
                None if mask is None else kernels.shifted(mask, r, c, reach),
            )
            for r, c in offsets
        ]

    bands = []
    for b in image.bands:
        node = KernelNode([b], kernel, compute)
        for k, (r, c) in enumerate(offsets):
            bands.append(b.computed(b.type, node, k).renamed(f"{b.id}_{c}_{r}"))
    return image.with_bands(bands)


@function("Image.entropy")
def entropy(image: Image, kernel: Kernel) -> Image:
    """Return the windowed entropy of integer bands in bits."""

    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> list[Pixels]:
        data, mask = got[0]
        ok = kernels.valid(mask)
        h, w = data.shape[0] - 2 * reach, data.shape[1] - 2 * reach
        steps = [
            (int(r) - centre[0], int(c) - centre[1])
            for r, c in zip(*np.nonzero(weights), strict=True)
        ]
        # A value seen c times adds c log2 c: the c-th of a run of equals adds the difference.
        counts = np.arange(len(steps) + 1, dtype=float)
        times = counts * np.log2(np.maximum(counts, 1))
        gain = np.diff(times, prepend=0.0)
        out = np.zeros((h, w))
        for rows in _strips(h, w, len(steps)):
            around = np.s_[rows.start : rows.stop + 2 * reach]
            part, seen = data[around], None if ok is None else ok[around]
            layers = np.stack([kernels.shifted(part, r, c, reach) for r, c in steps], axis=-1)
            total = np.full(layers.shape[:2], len(steps))
            if seen is not None:
                good = np.stack([kernels.shifted(seen, r, c, reach) for r, c in steps], axis=-1)
                total = good.sum(axis=-1)
                # Masked ones go last, whatever their value.
                layers = np.where(good, layers, np.iinfo(layers.dtype).max)
            layers.sort(axis=-1)
            run = np.zeros(total.shape, np.int64)
            gained = np.zeros(total.shape)
            for k in range(len(steps)):
                same = layers[..., k] == layers[..., k - 1] if k else np.zeros(total.shape, bool)
                run = np.where(same, run, 0) + 1
                gained += np.where(k < total, gain[run], 0.0)
            many = np.maximum(total, 1)
            # Rounding may leave less than nothing of a window of one value.
            out[rows] = np.maximum(np.log2(many) - gained / many, 0.0)
        return [Pixels(out, kernels.valid(inner(mask, reach)))]

    bands = []
    for b in image.bands:
        if not b.type.is_int:
            raise EngineError("Entropy needs integer bands.")
        bands.append(b.computed(DOUBLE, KernelNode([b], kernel, compute)))
    return image.with_bands(bands)
