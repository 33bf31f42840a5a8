"""Linear algebra of arrays and of array images: the same kernels for one and for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import matrices
from ..arraypixels import ArrayNode, array_function
from ..errors import EngineError
from ..image import Image
from ..pixels import Band
from ..types import DOUBLE, INT64, PixelType
from ..values import Array
from .arrays import one, stack_of
from .registry import function

__all__: list[str] = []

Stack = NDArray[Any]
Good = NDArray[np.bool_] | None
Kernel = Callable[[Stack], "tuple[list[Stack], Good]"]
Kind = Callable[[PixelType], PixelType]

_SINGULAR = "The matrix is singular."


def _sure(kernel: Callable[[Stack], Stack]) -> Kernel:
    return lambda stack: ([kernel(stack)], None)


def _same(kind: PixelType) -> PixelType:
    return kind


def _double(kind: PixelType) -> PixelType:
    return DOUBLE


def _wide(kind: PixelType) -> PixelType:
    return INT64 if kind.is_int else PixelType(kind.precision)


# Kernel, type of the elements, dimensions of the result, what to say where there is none.
_UNARY: dict[str, tuple[Kernel, Kind, int, str]] = {
    "matrixDiagonal": (_sure(matrices.diagonal), _same, 2, ""),
    "matrixToDiag": (_sure(matrices.to_diagonal), _same, 2, ""),
    "matrixInverse": (matrices.inverse, _double, 2, _SINGULAR),
    "matrixPseudoInverse": (_sure(matrices.pseudo_inverse), _double, 2, ""),
    "matrixFnorm": (_sure(matrices.norm), _double, 0, ""),
    "matrixTrace": (_sure(matrices.trace), _wide, 0, ""),
    "matrixDeterminant": (_sure(matrices.determinant), _double, 0, ""),
}
_DECOMPOSITIONS: dict[str, tuple[Kernel, tuple[str, ...], str]] = {
    "matrixCholeskyDecomposition": (
        matrices.cholesky,
        ("L",),
        "The matrix is not positive definite.",
    ),
    "matrixSingularValueDecomposition": (
        lambda stack: (matrices.singular_values(stack), None),
        ("U", "S", "V"),
        "",
    ),
    "matrixLUDecomposition": (lambda stack: (matrices.lu(stack), None), ("L", "U", "P"), ""),
    "matrixQRDecomposition": (lambda stack: (matrices.qr(stack), None), ("Q", "R"), ""),
}


def _checked(ok: Good, problem: str) -> None:
    if ok is not None and not ok.all():
        raise EngineError(problem)


def _matrix_bands(image: Image) -> Sequence[Band]:
    for band in image.bands:
        if band.type.dimensions != 2:
            raise EngineError(
                f"Band '{band.id}' holds arrays of {band.type.dimensions} dimension(s); expected "
                "matrices (2-D arrays)."
            )
    return image.bands


def _register_unary(name: str, kernel: Kernel, kind: Kind, dimensions: int, problem: str) -> None:
    @function(f"Array.{name}")
    def of_array(item: Array) -> Any:
        (found,), ok = kernel(stack_of(item)) if problem == "" else _tried(kernel, item, problem)
        _checked(ok, problem)
        made = kind(item.type)
        if dimensions == 0:
            return found[0].item()
        return one(found.astype(made.dtype, copy=False), made)

    @array_function(f"Image.{name}")
    def of_image(image: Image) -> Image:
        bands = []
        for band in _matrix_bands(image):
            made = kind(band.type.with_dimensions(0))
            node = ArrayNode(_typed(kernel, made), [band])
            bands.append(band.computed(made.with_dimensions(dimensions), node))
        return image.derived(bands)


def _tried(kernel: Kernel, item: Array, problem: str) -> tuple[list[Stack], Good]:
    results, ok = kernel(stack_of(item))
    _checked(ok, problem)
    return results, ok


def _typed(kernel: Callable[..., tuple[list[Stack], Good]], kind: PixelType) -> Any:
    def apply(*stacks: Stack) -> tuple[list[Stack], Good]:
        results, ok = kernel(*stacks)
        return [r.astype(kind.dtype, copy=False) for r in results], ok

    return apply


for _name, _row in _UNARY.items():
    _register_unary(_name, *_row)


def _register_decomposition(
    name: str, kernel: Kernel, parts: tuple[str, ...], problem: str
) -> None:
    @function(f"Array.{name}")
    def of_array(item: Array) -> dict[str, Array]:
        results, _ = _tried(kernel, item, problem)
        return {part: one(found, DOUBLE) for part, found in zip(parts, results, strict=True)}

    @array_function(f"Image.{name}")
    def of_image(image: Image) -> Image:
        if len(image.bands) != 1:
            raise EngineError(f"The image must have one band, not {len(image.bands)}.")
        (band,) = _matrix_bands(image)
        node = ArrayNode(kernel, [band], len(parts))
        kind = DOUBLE.with_dimensions(2)
        return image.derived(
            [band.computed(kind, node, k).renamed(part) for k, part in enumerate(parts)]
        )


for _name, _parts in _DECOMPOSITIONS.items():
    _register_decomposition(_name, *_parts)


@function("Array.eigen")
def eigen(item: Array) -> Array:
    """Return rows of an eigenvalue and its vector, the greatest first."""
    (found,), ok = matrices.eigen(stack_of(item))
    _checked(ok, "The matrix has complex eigenvalues.")
    return one(found, DOUBLE)


def _product(left: PixelType, right: PixelType) -> PixelType:
    return _wide(left.union(right))


def _multiplied(kind: PixelType) -> Callable[[Stack, Stack], tuple[list[Stack], Good]]:
    def apply(a: Stack, b: Stack) -> tuple[list[Stack], Good]:
        return [matrices.multiply(a.astype(kind.dtype), b.astype(kind.dtype))], None

    return apply


@function("Array.matrixMultiply")
def multiply(left: Array, right: Array) -> Array:
    """Multiply matrices."""
    kind = _product(left.type, right.type)
    (found,), _ = _multiplied(kind)(stack_of(left), stack_of(right))
    return one(found, kind)


@function("Array.matrixSolve")
def solve(left: Array, right: Array) -> Array:
    """Solve A x = B, by least squares where there are more rows than unknowns."""
    results, ok = matrices.solve(stack_of(left), stack_of(right))
    _checked(ok, _SINGULAR)
    return one(results[0], DOUBLE)


def _paired(
    image1: Image,
    image2: Image,
    kernel: Callable[[PixelType], Any],
    kind: Callable[[PixelType, PixelType], PixelType],
) -> Image:
    from .arithmetic import matched

    _matrix_bands(image1)
    _matrix_bands(image2)
    bands = []
    for x, y, name in matched(image1, image2):
        made = kind(x.type.with_dimensions(0), y.type.with_dimensions(0))
        grid = y if x.projection.is_default and not y.projection.is_default else x
        node = ArrayNode(kernel(made), [x, y])
        bands.append(grid.computed(made.with_dimensions(2), node).renamed(name))
    source = image1.footprint_source
    return Image(bands, footprint=image2.footprint_source if source is None else source)


@array_function("Image.matrixMultiply")
def multiply_images(image1: Image, image2: Image) -> Image:
    """Multiply the matrices of matched bands."""
    return _paired(image1, image2, _multiplied, _product)


@array_function("Image.matrixSolve")
def solve_images(image1: Image, image2: Image) -> Image:
    """Solve A x = B pixel by pixel; masked where A is singular."""
    return _paired(image1, image2, lambda kind: matrices.solve, lambda a, b: DOUBLE)


@array_function("Image.matrixIdentity")
def identity(size: int) -> Image:
    """Return an image with the identity matrix everywhere."""
    from .array_images import constant_array
    from .arrays import identity as identity_array

    return constant_array(identity_array(size))
