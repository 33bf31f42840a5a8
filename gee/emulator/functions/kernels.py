"""Kernels: the weights around a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..pixels import Array
from ..projection import Projection
from .registry import function

__all__ = ["SHAPES", "Kernel", "cells", "offsets", "units_of"]


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
        if not (np.isfinite(self.x) and np.isfinite(self.y)):
            raise EngineError(f"Kernel radius must be a finite number, not {self.x}.")
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


def offsets(x: float, y: float) -> tuple[Array, Array, tuple[int, int]]:
    nx, ny = cells(x), cells(y)
    rows, columns = np.mgrid[-ny : ny + 1, -nx : nx + 1].astype(float)
    return columns, rows, (ny, nx)


def cells(radius: float) -> int:
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
        columns, rows, centre = offsets(x, y)
        return test(columns, rows, x, y).astype(float), centre

    return make


SHAPES: dict[str, Callable[..., Any]] = {
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
        return Kernel(name, SHAPES[name], radius, radius, units_of(units), normalize, magnitude)

    function(f"Kernel.{name}")(make)


def units_of(name: str) -> str:
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
    return Kernel("rectangle", SHAPES["rectangle"], x, y, units_of(units), normalize, magnitude)


def _distances(name: str, measure: Callable[[Array, Array], Array]) -> None:
    def shape(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        columns, rows, centre = offsets(x, y)
        # Distances are in units of the kernel; what lies beyond the radius has none.
        found = measure(columns, rows)
        return np.where(found <= x + 1e-9, found, 0.0), centre

    def make(radius: float, units: str, normalize: bool, magnitude: float) -> Kernel:
        return Kernel(name, shape, radius, radius, units_of(units), normalize, magnitude)

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
        columns, rows, centre = offsets(cells, cells)
        spread = max(x * ratio, 1e-9)
        square = columns**2 + rows**2
        weights = np.exp(-square / (2 * spread**2)) / (2 * np.pi * spread**2)
        return np.where(square < x**2 if x > 0 else True, weights, 0.0), centre

    return Kernel("gaussian", make, radius, radius, units_of(units), normalize, magnitude)


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
    try:
        table = np.asarray(weights, float)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or not table.size:
        raise EngineError("Kernel weights must be rows of one length, of numbers.")
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


def _derived(
    sources: tuple[Kernel, ...],
    change: Callable[..., tuple[Array, tuple[int, int]]],
    normalize: bool = False,
) -> Kernel:
    """Return a kernel made of others; in metres, if one of them is, it follows the scale."""
    metres = any(kernel.units == "meters" for kernel in sources)

    def make(x: float, y: float) -> tuple[Array, tuple[int, int]]:
        # The radius of one metre tells the size of a pixel.
        return change(*(k.built(1 / x if k.units == "meters" else 1.0) for k in sources))

    return Kernel("fixed", make, 1.0, 1.0, "meters" if metres else "pixels", normalize)


@function("Kernel.rotate")
def rotate(kernel: Kernel, rotations: int) -> Kernel:
    """Turn by quarters, clockwise."""

    def turned(made: tuple[Array, tuple[int, int]]) -> tuple[Array, tuple[int, int]]:
        weights, centre = made
        for _ in range(rotations % 4):
            centre = (centre[1], weights.shape[0] - 1 - centre[0])
            weights = np.rot90(weights, -1)
        return weights, centre

    return _derived((kernel,), turned)


@function("Kernel.add")
def add(first: Kernel, second: Kernel, normalize: bool) -> Kernel:
    """Add two kernels, centre on centre."""

    def summed(
        one: tuple[Array, tuple[int, int]], two: tuple[Array, tuple[int, int]]
    ) -> tuple[Array, tuple[int, int]]:
        (a, ca), (b, cb) = one, two
        top, left = max(ca[0], cb[0]), max(ca[1], cb[1])
        below = max(a.shape[0] - ca[0], b.shape[0] - cb[0])
        right = max(a.shape[1] - ca[1], b.shape[1] - cb[1])
        out = np.zeros((top + below, left + right))
        for weights, (r, c) in one, two:
            h, w = weights.shape
            out[top - r : top - r + h, left - c : left - c + w] += weights
        return out, (top, left)

    return _derived((first, second), summed, normalize)


@function("Kernel.inverse")
def inverse(kernel: Kernel) -> Kernel:
    """Replace every weight by one over it; zeros stay."""

    def inverted(made: tuple[Array, tuple[int, int]]) -> tuple[Array, tuple[int, int]]:
        weights, centre = made
        return np.divide(1, weights, out=np.zeros(weights.shape), where=weights != 0), centre

    return _derived((kernel,), inverted)
