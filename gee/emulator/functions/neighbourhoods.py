"""Kernels, and everything computed from the neighbourhood of a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import HaloNode, Image, MapNode, full
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Projection, Window
from ..reducers import Reducer, named_reducer
from ..types import DOUBLE, FLOAT, PixelType
from .registry import function

__all__ = ["Kernel"]


@dataclass(frozen=True, eq=False)
class Kernel:
    """Weights around a pixel.

    Parameters
    ----------
    name : str
    make : function of (x radius, y radius) in pixels -> (weights, centre)
    x, y : float
        Radii.
    units : {"pixels", "meters"}
        Metres are pixels of the output's scale, so the kernel changes with it
        (apidocs ee-kernel-circle).
    """

    name: str
    make: Callable[[float, float], tuple[Array, tuple[int, int]]]
    x: float = 0.0
    y: float = 0.0
    units: str = "pixels"
    normalize: bool = False
    magnitude: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def on(self, projection: Projection) -> tuple[Array, tuple[int, int]]:
        """Return weights and (row, column) of the centre for a projection."""
        size = projection.nominal_scale if self.units == "meters" else 1.0
        return self.built(size)

    def built(self, pixel: float = 1.0) -> tuple[Array, tuple[int, int]]:
        """Return weights and centre for pixels of a size."""
        weights, centre = self.make(self.x / pixel, self.y / pixel)
        weights = np.asarray(weights, float)
        if self.normalize:
            total = weights.sum()
            if total:
                weights = weights / abs(total)
        return weights * self.magnitude, centre

    def reach(self, projection: Projection) -> int:
        """Return how many pixels the kernel reaches."""
        return kernels.reach_of(*self.on(projection))

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        weights, centre = self.built()
        rows = "\n".join(f"  [{', '.join(str(float(v)) for v in row)}]" for row in weights)
        return {
            "type": f"Kernel.{self.name}",
            "radius": self.x,
            "units": self.units,
            "normalize": self.normalize,
            "magnitude": self.magnitude,
            "weights": f"\n{rows}\n",
            "center": [centre[1], centre[0]],
        }  # fmt: skip


def _offsets(x: float, y: float) -> tuple[Array, Array, tuple[int, int]]:
    nx, ny = _cells(x), _cells(y)
    rows, columns = np.mgrid[-ny : ny + 1, -nx : nx + 1].astype(float)
    return columns, rows, (ny, nx)


def _cells(radius: float) -> int:
    if not math.isfinite(radius) or radius < 0:
        raise EngineError(f"Kernel radius must be positive, not {radius}.")
    if radius > 2048:
        raise EngineError(
            f"Kernel radius of {radius:.0f} pixels is too large at this scale; "
            "use a coarser scale or a smaller radius."
        )
    return int(radius + 1e-9)


def _area_shape(test: Callable[[Array, Array, float, float], Array]) -> Callable[..., Any]:
    def make(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        columns, rows, centre = _offsets(x, y)
        return test(columns, rows, x, y).astype(float), centre

    return make


_SHAPES: dict[str, Callable[..., Any]] = {
    "square": _area_shape(lambda c, r, x, y: np.ones(c.shape, bool)),
    "rectangle": _area_shape(lambda c, r, x, y: np.ones(c.shape, bool)),
    "circle": _area_shape(lambda c, r, x, y: c**2 + r**2 <= x**2 + 1e-9),
    "diamond": _area_shape(lambda c, r, x, y: np.abs(c) + np.abs(r) <= x + 1e-9),
    "plus": _area_shape(lambda c, r, x, y: (c == 0) | (r == 0)),
    "cross": _area_shape(lambda c, r, x, y: np.abs(c) == np.abs(r)),
    "octagon": _area_shape(lambda c, r, x, y: np.abs(c) + np.abs(r) <= int(x) + int(x) // 2),
}  # fmt: skip


def _register_shape(name: str) -> None:
    def make(radius: float, units: str, normalize: bool, magnitude: float) -> Kernel:
        return Kernel(name, _SHAPES[name], radius, radius, _units(units), normalize, magnitude)

    function(f"Kernel.{name}")(make)


def _units(name: str) -> str:
    if name in ("pixels", "pixel"):
        return "pixels"
    if name in ("meters", "meter", "metres", "m"):
        return "meters"
    raise EngineError(f"Unknown kernel units '{name}': pixels or meters.")


for _name in ("square", "circle", "diamond", "plus", "cross", "octagon"):
    _register_shape(_name)


@function("Kernel.rectangle")
def rectangle(x: float, y: float, units: str, normalize: bool, magnitude: float) -> Kernel:
    """A rectangle."""
    return Kernel("rectangle", _SHAPES["rectangle"], x, y, _units(units), normalize, magnitude)


def _distances(name: str, measure: Callable[[Array, Array], Array]) -> None:
    def shape(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        columns, rows, centre = _offsets(x, y)
        # Distances are in units of the kernel; what lies beyond the radius has none.
        found = measure(columns, rows)
        return np.where(found <= x + 1e-9, found, 0.0), centre

    def make(radius: float, units: str, normalize: bool, magnitude: float) -> Kernel:
        return Kernel(name, shape, radius, radius, _units(units), normalize, magnitude)

    function(f"Kernel.{name}")(make)


_distances("euclidean", np.hypot)
_distances("manhattan", lambda c, r: np.abs(c) + np.abs(r))
_distances("chebyshev", lambda c, r: np.maximum(np.abs(c), np.abs(r)))


@function("Kernel.gaussian")
def gaussian(radius: float, sigma: float, units: str, normalize: bool, magnitude: float) -> Kernel:
    """A sampled Gaussian; cells beyond the radius count nothing and are trimmed ([G])."""
    ratio = sigma / radius if radius else 1.0

    def make(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        # Cells at the radius itself count nothing: radius 3 makes 5 x 5 cells ([G]).
        cells = max(math.ceil(x - 1e-9) - 1, 0)
        columns, rows, centre = _offsets(cells, cells)
        spread = max(x * ratio, 1e-9)
        square = columns**2 + rows**2
        weights = np.exp(-square / (2 * spread**2)) / (2 * np.pi * spread**2)
        return np.where(square < x**2 if x > 0 else True, weights, 0.0), centre

    return Kernel("gaussian", make, radius, radius, _units(units), normalize, magnitude)


def _fixed(
    name: str,
    weights: Array,
    centre: tuple[int, int],
    normalize: bool = False,
    magnitude: float = 1.0,
) -> Kernel:
    return Kernel(
        name, lambda x, y: (weights, centre), max(centre), max(centre), "pixels", normalize,
        magnitude,
    )  # fmt: skip


@function("Kernel.fixed")
def fixed(width: int, height: int, weights: list[Any], x: int, y: int, normalize: bool) -> Kernel:
    """Weights as given: rows from the top; the centre by default in the middle."""
    table = np.asarray(weights, float)
    if table.ndim != 2 or not table.size:
        raise EngineError("Kernel weights must be rows of one length.")
    if (width > 0 and table.shape[1] != width) or (height > 0 and table.shape[0] != height):
        raise EngineError(
            f"Kernel weights have {table.shape[1]} x {table.shape[0]} cells, not "
            f"{width} x {height}."
        )
    column = table.shape[1] // 2 if x < 0 else x
    row = table.shape[0] // 2 if y < 0 else y
    return _fixed("fixed", table, (row, column), normalize)


_EDGES: dict[str, tuple[list[list[float]], tuple[int, int]]] = {
    "laplacian4": ([[0, 1, 0], [1, -4, 1], [0, 1, 0]], (1, 1)),
    "laplacian8": ([[1, 1, 1], [1, -8, 1], [1, 1, 1]], (1, 1)),
    "sobel": ([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], (1, 1)),
    "prewitt": ([[1, 0, -1], [1, 0, -1], [1, 0, -1]], (1, 1)),
    "roberts": ([[1, 0], [0, -1]], (0, 0)),
    "compass": ([[1, 1, -1], [1, -2, -1], [1, 1, -1]], (1, 1)),
    "kirsch": ([[5, -3, -3], [5, 0, -3], [5, -3, -3]], (1, 1)),
}


def _register_edge(name: str) -> None:
    weights, centre = _EDGES[name]

    def make(magnitude: float, normalize: bool) -> Kernel:
        return _fixed(name, np.asarray(weights, float), centre, normalize, magnitude)

    function(f"Kernel.{name}")(make)


for _name in _EDGES:
    _register_edge(_name)


@function("Kernel.rotate")
def rotate(kernel: Kernel, rotations: int) -> Kernel:
    """Turn by quarters, clockwise."""
    weights, centre = kernel.built()
    for _ in range(rotations % 4):
        centre = (centre[1], weights.shape[0] - 1 - centre[0])
        weights = np.rot90(weights, -1)
    return _fixed("fixed", weights, centre)


@function("Kernel.add")
def add(first: Kernel, second: Kernel, normalize: bool) -> Kernel:
    """Add two kernels, centre on centre."""
    (a, ca), (b, cb) = first.built(), second.built()
    top, left = max(ca[0], cb[0]), max(ca[1], cb[1])
    below = max(a.shape[0] - ca[0], b.shape[0] - cb[0])
    right = max(a.shape[1] - ca[1], b.shape[1] - cb[1])
    out = np.zeros((top + below, left + right))
    for weights, (r, c) in ((a, ca), (b, cb)):
        h, w = weights.shape
        out[top - r : top - r + h, left - c : left - c + w] += weights
    return _fixed("fixed", out, (top, left), normalize)


@function("Kernel.inverse")
def inverse(kernel: Kernel) -> Kernel:
    """Replace every weight by one over it; zeros stay."""
    weights, centre = kernel.built()
    return _fixed(
        "fixed", np.divide(1, weights, out=np.zeros(weights.shape), where=weights != 0), centre
    )


# ------------------------------------------------------------------ sums


class _KernelNode(Node):
    """A function of a neighbourhood given by a kernel; its size follows the output's scale."""

    __slots__ = ("function", "halo", "kernel")

    def __init__(
        self,
        inputs: Sequence[Band],
        kernel: Kernel,
        function_: Callable[[Sequence[Pixels], Array, tuple[int, int], int], Sequence[Pixels]],
    ) -> None:
        super().__init__(inputs)
        self.kernel = kernel
        self.function = function_
        self.halo = kernels.reach_of(*kernel.built()) if kernel.units == "pixels" else 16

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        weights, centre = self.kernel.on(window.projection)
        reach = kernels.reach_of(weights, centre)
        wide = window.pad(reach)
        got = [full(context.read(b, wide), wide) for b in self.inputs]
        return self.function(got, weights, centre, reach)


def _inner(mask: Array | None, reach: int) -> Array | None:
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
        bands.append(b.computed(kind, _KernelNode([b], turned, _convolved)))
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


def _folded(
    reducer: Reducer, kinds: Sequence[PixelType], use_mask: bool, use_kernel: bool
) -> _Neighbours:
    """Any reducer, by its own fold over the neighbours."""

    def compute(
        got: Sequence[Pixels], weights: Array, centre: tuple[int, int], reach: int
    ) -> list[Pixels]:
        h, w = got[0].data.shape[0] - 2 * reach, got[0].data.shape[1] - 2 * reach
        fold = reducer.fold(list(kinds), (h, w))
        rows, columns = np.nonzero(weights)
        top = float(np.abs(weights).max()) if weights.size else 1.0
        for r, c in zip(rows, columns, strict=True):
            dr, dc = int(r) - centre[0], int(c) - centre[1]
            layer = []
            for data, mask in got:
                part = None if mask is None else kernels.shifted(mask, dr, dc, reach)
                if not use_mask:
                    part = kernels.valid(part)
                weight = float(weights[r, c]) / top
                if use_kernel and weight != 1.0:
                    whole = kernels.weights_of(part, (h, w))
                    part = (whole * np.float32(weight)).astype(np.float32)
                layer.append(Pixels(kernels.shifted(data, dr, dc, reach), part))
            fold.add(layer)
        out = []
        for data, mask in fold.result():
            out.append(Pixels(data, kernels.valid(mask)))
        return out

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
            own = kernels.both(own, _inner(mask, reach))
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
            node = _KernelNode([b], kernel, _reduced(reducer, [b.type], weight, skip))
            for k, (output, kind) in enumerate(zip(reducer.outputs, kinds, strict=True)):
                bands.append(b.computed(kind, node, k).renamed(f"{b.id}_{output}"))
        return image.with_bands(bands)
    if reducer.inputs != len(image.bands):
        raise EngineError(
            f"Need {reducer.inputs} bands for the reducer's inputs, got {len(image.bands)}."
        )
    kinds = [b.type for b in image.bands]
    node = _KernelNode(image.bands, kernel, _reduced(reducer, kinds, weight, skip))
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
            if shape not in _SHAPES:
                raise EngineError(f"Unknown kernel type '{shape}': {', '.join(sorted(_SHAPES))}.")
            kernel = Kernel(shape, _SHAPES[shape], radius, radius, _units(units))
        reducer = named_reducer(name)
        # A masked pixel with valid neighbours gets a value, as morphology needs.
        for _ in range(iterations):
            bands = []
            for b in image.bands:
                kind = reducer.types([b.type])[0]
                node = _KernelNode([b], kernel, _reduced(reducer, [b.type], "kernel", False))
                bands.append(b.computed(kind, node))
            image = image.with_bands(bands)
        return image

    label = name.capitalize()
    function(f"Image.focal{label}", f"Image.focal_{name}")(apply)


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
        node = _KernelNode([b], kernel, compute)
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
        values = np.unique(data)
        ok = kernels.valid(mask)
        cells = (weights != 0).astype(float)
        total = kernels.correlate(
            np.ones(data.shape) if ok is None else ok.astype(float), cells, centre, reach
        )
        out = np.zeros(total.shape)
        for value in values:
            hit = data == value if ok is None else (data == value) & ok
            share = kernels.correlate(hit.astype(float), cells, centre, reach) / np.maximum(
                total, 1
            )
            out -= share * np.log2(np.where(share > 0, share, 1))
        return [Pixels(out, kernels.valid(_inner(mask, reach)))]

    bands = []
    for b in image.bands:
        if not b.type.is_int:
            raise EngineError("Entropy needs integer bands.")
        bands.append(b.computed(DOUBLE, _KernelNode([b], kernel, compute)))
    return image.with_bands(bands)


# ------------------------------------------------------------------ distances and components


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
            reach = _cells(radius) + 1
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
                mask = kernels.both(mask, _inner(ok, reach))
            return [Pixels(np.where(np.isfinite(found), found, 0) * pixel, mask)]

    return image.derived([b.computed(FLOAT, DistanceNode([b])) for b in image.bands])


def _distance_shape(measure: Callable[[Array, Array], Array]) -> Callable[..., Any]:
    def make(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        columns, rows, centre = _offsets(x, y)
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


def _labelled(data: Array, ok: Array | None, structure: Array) -> tuple[Array, int]:
    """Label connected pixels of one value; 0 where masked."""
    from scipy import ndimage

    labels = np.zeros(data.shape, np.int64)
    count = 0
    valid = np.ones(data.shape, bool) if ok is None else ok
    for value in np.unique(data[valid]) if valid.any() else ():
        found, number = ndimage.label((data == value) & valid, structure)
        labels[found > 0] = found[found > 0] + count
        count += number
    return labels, count


_EIGHT = np.ones((3, 3), int)
_FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@function("Image.connectedPixelCount")
def connected_pixel_count(image: Image, most: int, eight: bool) -> Image:
    """Return the size of the patch of equal pixels, up to ``most``."""
    structure = _EIGHT if eight else _FOUR

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        ok = kernels.valid(pixels.mask)
        labels, _ = _labelled(pixels.data, ok, structure)
        sizes = np.minimum(np.bincount(labels.ravel()), most)
        sizes[0] = 0
        # A patch of fewer pixels than the border is wide cannot reach beyond it unseen.
        found = sizes[labels][most:-most, most:-most]
        return [Pixels(found, _inner(ok, most))]

    kind = PixelType("int", 1, most)
    return image.with_bands([b.computed(kind, HaloNode(compute, [b], most)) for b in image.bands])


@function("Image.connectedComponents")
def connected_components(image: Image, kernel: Kernel, most: int) -> Image:
    """Label patches of equal pixels; larger ones are masked ([A]).

    A label is the number of the patch's first pixel on the output lattice, so it is the same
    in every tile.
    """
    weights, _ = kernel.built()
    if weights.shape != (3, 3):
        raise EngineError("The connectedness kernel must be 3 x 3.")
    structure = (weights != 0).astype(int)
    structure[1, 1] = 1

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        ok = kernels.valid(pixels.mask)
        labels, count = _labelled(pixels.data, ok, structure)
        flat = labels.ravel()
        sizes = np.bincount(flat, minlength=count + 1)
        first = np.full(count + 1, -1, np.int64)
        order = np.arange(flat.size - 1, -1, -1)
        first[flat[order]] = order
        rows, columns = np.divmod(first, pixels.data.shape[1])
        number = (rows + window.row - most + 2**31) % 2**31 * 2**31 + (
            columns + window.column - most + 2**31
        ) % 2**31
        keep = (sizes <= most) & (np.arange(count + 1) > 0)
        inner = labels[most:-most, most:-most]
        return [Pixels(number[inner], keep[inner])]

    source = image.bands[0]
    made = source.computed(PixelType("int", 0, 2**62), HaloNode(compute, [source], most)).renamed(
        "labels"
    )
    return image.with_bands([*image.bands, made])


@function("Image.reduceConnectedComponents")
def reduce_components(image: Image, reducer: Reducer, label: str | None, most: int) -> Image:
    """Reduce every band over the patches of a label band; larger patches are masked ([A])."""
    if reducer.inputs != 1:
        raise EngineError("The reducer must have a single input.")
    labels = image.band(label) if label is not None else image.bands[-1]
    others = [b for b in image.bands if b.id != labels.id]
    kinds = [k for b in others for k in reducer.types([b.type])]

    def compute(window: Window, marks: Pixels, *rest: Pixels) -> list[Pixels]:
        found, count = _labelled(marks.data, kernels.valid(marks.mask), _EIGHT)
        flat = found.ravel()
        sizes = np.bincount(flat, minlength=count + 1)
        order = np.argsort(flat, kind="stable")
        ends = np.cumsum(sizes)
        inner = found[most:-most, most:-most]
        keep = np.zeros(count + 1, bool)
        keep[np.unique(inner)] = True
        keep &= sizes <= most
        keep[0] = False
        out = []
        for pixels in rest:
            values, ok = pixels.data.ravel(), kernels.valid(pixels.mask)
            good = None if ok is None else ok.ravel()
            table = np.zeros((len(reducer.outputs), count + 1))
            for number in np.nonzero(keep)[0]:
                places = order[ends[number] - sizes[number] : ends[number]]
                if good is not None:
                    places = places[good[places]]
                for k, value in enumerate(reducer.reduce([values[places]])):
                    table[k, number] = np.nan if value is None else value
            for row in table:
                shown = row[inner]
                out.append(Pixels(np.nan_to_num(shown), keep[inner] & np.isfinite(shown)))
        return out

    node = HaloNode(compute, [labels, *others], most)
    bands = []
    for i, b in enumerate(others):
        for k, output in enumerate(reducer.outputs):
            at = i * len(reducer.outputs) + k
            name = b.id if len(reducer.outputs) == 1 else f"{b.id}_{output}"
            bands.append(b.computed(kinds[at], node, at).renamed(name))
    return image.with_bands(bands)


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


# ------------------------------------------------------------------ derivatives


@function("Image.derivative")
def derivative(image: Image) -> Image:
    """Return central differences per pixel: band_x and band_y."""
    bands = []
    for b in image.bands:
        node = HaloNode(lambda w, p: _central(p, None), [b], 1)
        kind = PixelType("double" if b.type.precision != "float" else "float")
        bands += [
            b.computed(kind, node, 0).renamed(f"{b.id}_x"),
            b.computed(kind, node, 1).renamed(f"{b.id}_y"),
        ]
    return image.derived(bands)


def _central(pixels: Pixels, sizes: tuple[Array, Array] | None) -> list[Pixels]:
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
        dx, dy = _central(pixels, pixel_sizes(window))
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
        return [Pixels(out.astype(np.uint8), _inner(pixels.mask, 1))]

    kind = PixelType("int", 0, 1)
    return image.derived([b.computed(kind, HaloNode(compute, [b], 1)) for b in image.bands])


def mapped(function_: Callable[[Array], Array], bands: Sequence[Band]) -> MapNode:
    """Return a node that maps values."""
    return MapNode(function_, bands)
