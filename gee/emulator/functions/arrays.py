"""Arrays as values: making them, elementwise math, shapes, slicing, sorting, reducing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arraykernels as kernels
from ..budget import reserve
from ..errors import EngineError
from ..reducers import Reducer, named_reducer
from ..types import DOUBLE, INT64, UNIT, PixelType
from ..values import Array
from ._maths import ALIASES, BINARY, CASTS, UNARY, Binary, Unary, cast_values
from .registry import function

__all__ = ["as_array", "joined_type", "one", "stack_of"]

Values = NDArray[Any]


def as_array(value: Any, kind: PixelType | None = None) -> Array:
    """Return numbers and nested lists of numbers as an array.

    Raises
    ------
    EngineError
        Inner lists differ in length, or hold something else than numbers.
    """
    if isinstance(value, Array):
        return value if kind is None else Array(cast_values(value.values, kind), kind)
    plain = _plain(value)
    try:
        table = np.asarray(plain)
    except ValueError:
        raise EngineError("Inner arrays at the same depth must have the same length.") from None
    if table.dtype.kind not in "iufb":
        if table.size:
            raise EngineError("Arrays are made of numbers, in lists of one length.")
        table = table.astype(float)
        if kind is None:
            raise EngineError("The type of an array without numbers must be given.")
    if table.size == 0 and kind is None:
        raise EngineError("The type of an array without numbers must be given.")
    if table.dtype.kind == "u" or table.dtype == bool:
        table = table.astype(np.int64)
    if kind is None:
        return Array(table, INT64 if table.dtype.kind == "i" else DOUBLE)
    return Array(cast_values(table, kind), kind)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.values.tolist() if isinstance(value, Array) else value


@function("Array")
def array(values: Any, kind: PixelType | None) -> Array:
    """Return an array of a number, a list or nested lists."""
    return as_array(values, kind)


def stack_of(item: Array) -> Values:
    """Return an array as a stack of one, as the kernels take it."""
    return item.values[None]


def one(stack: Values, kind: PixelType) -> Array:
    """Return the only array of a stack."""
    return Array(stack[0], kind)


def _pair(operator: Binary) -> Callable[[Array, Array], Array]:
    def apply(left: Array, right: Array) -> Array:
        a, b = kernels.aligned(stack_of(left), stack_of(right))
        kind = operator.kind(left.type, right.type)
        with np.errstate(all="ignore"):
            return one(operator.make(kind.dtype)(a, b), kind)

    return apply


def _single(operator: Unary) -> Callable[[Array], Array]:
    def apply(item: Array) -> Array:
        kind = operator.kind(item.type)
        with np.errstate(all="ignore"):
            return Array(np.asarray(operator.make(kind.dtype)(item.values)), kind)

    return apply


def _register(name: str, call: Callable[..., Array]) -> None:
    ids = [f"Array.{name}"]
    if name in ALIASES:
        ids.append(f"Array.{ALIASES[name]}")
    function(*ids)(call)


for _name, _binary in BINARY.items():
    _register(_name, _pair(_binary))
for _name, _unary in UNARY.items():
    _register(_name, _single(_unary))


def _register_cast(name: str, kind: PixelType) -> None:
    function(f"Array.{name}", f"Array.to{name[0].upper()}{name[1:]}")(
        lambda item: Array(cast_values(item.values, kind), kind)
    )


for _name, _kind in CASTS.items():
    _register_cast(_name, _kind)


# ------------------------------------------------------------------ elements and shapes


@function("Array.length")
def length(item: Array) -> Array:
    """Return the length of every axis."""
    return Array(np.asarray(item.values.shape, np.int64), INT64)


@function("Array.toList")
def to_list(item: Array) -> Any:
    """Return nested lists."""
    return item.values.tolist()


@function("Array.get")
def get(item: Array, position: list[int]) -> Any:
    """Return one element."""
    shape = item.values.shape
    if len(position) != len(shape):
        raise EngineError(f"Position must have {len(shape)} coordinates, not {len(position)}.")
    if any(not 0 <= place < size for place, size in zip(position, shape, strict=True)):
        raise EngineError(f"Position {position} is out of bounds {list(shape)}.")
    return item.values[tuple(position)].item()


@function("Array.cut")
def cut(item: Array, position: list[int]) -> Array:
    """Return the elements at a position, -1 standing for a whole axis."""
    return one(kernels.cut(stack_of(item), position), item.type)


@function("Array.slice")
def slice_array(item: Array, axis: int, start: int, end: int | None, step: int) -> Array:
    """Return a range along an axis."""
    return one(kernels.slice_axis(stack_of(item), axis, start, end, step), item.type)


def joined_type(kinds: Sequence[PixelType]) -> PixelType:
    """Return the union of the types of some elements."""
    kind = kinds[0]
    for other in kinds[1:]:
        kind = kind.union(other)
    return kind


@function("Array.cat")
def cat(items: list[Array], axis: int) -> Array:
    """Join arrays along an axis; a new axis may be the next one."""
    if not items:
        raise EngineError("There are no arrays to concatenate.")
    kind = joined_type([item.type for item in items])
    return one(kernels.concatenate([stack_of(i) for i in items], axis, kind.dtype), kind)


@function("Array.repeat")
def repeat(item: Array, axis: int, copies: int) -> Array:
    """Repeat along an axis; a new axis may be the next one."""
    return one(kernels.repeat(stack_of(item), axis, copies), item.type)


@function("Array.reshape")
def reshape(item: Array, shape: Array) -> Array:
    """Return the elements in another shape."""
    if shape.values.ndim > 1:
        raise EngineError("The shape must be a list of lengths (1-D).")
    wanted = [int(v) for v in cast_values(shape.values, INT64).ravel()]
    return one(kernels.reshape(stack_of(item), wanted), item.type)


@function("Array.project")
def project(item: Array, axes: list[int]) -> Array:
    """Keep some axes; the others must have length 1."""
    return one(kernels.project(stack_of(item), axes), item.type)


@function("Array.transpose", "Array.matrixTranspose")
def transpose(item: Array, first: int, second: int) -> Array:
    """Exchange two axes."""
    return one(kernels.transpose(stack_of(item), first, second), item.type)


@function("Array.pad")
def pad(item: Array, lengths: list[int], value: float) -> Array:
    """Append a value until every axis has a length."""
    kind = pad_type(item.type, value)
    return one(kernels.pad(stack_of(item), lengths, value, kind.dtype), kind)


def pad_type(kind: PixelType, value: float) -> PixelType:
    """Return the type of elements of a type beside a padding value."""
    whole = isinstance(value, int) or (np.isfinite(value) and float(value).is_integer())
    return kind.union(PixelType.of_number(int(value) if whole and abs(value) < 2**63 else value))


@function("Array.mask")
def mask(item: Array, wanted: Array) -> Array:
    """Keep what is parallel to elements of a mask other than 0."""
    found = kernels.kept(stack_of(item), stack_of(wanted))
    assert isinstance(found, np.ndarray)
    return one(found, item.type)


@function("Array.sort")
def sort(item: Array, keys: Array | None) -> Array:
    """Sort along one axis, by keys if given."""
    return one(kernels.sort(stack_of(item), None if keys is None else stack_of(keys)), item.type)


@function("Array.argmax")
def argmax(item: Array) -> list[int] | None:
    """Return the position of the first maximum; null for none."""
    if item.values.size == 0:
        return None
    if item.values.ndim == 0:
        return []
    return [int(v) for v in kernels.argmax(stack_of(item))[0]]


@function("Array.identity")
def identity(size: int) -> Array:
    """Return the identity matrix."""
    if size < 1:
        raise EngineError(f"The size must be positive, not {size}.")
    reserve(float(size) ** 2)
    return Array(np.eye(size, dtype=np.int64), INT64)


@function("Array.bitsToArray")
def bits_to_array(value: float) -> Array:
    """Return the bits of an integer, the lowest first."""
    whole = int(cast_values(np.asarray(value), INT64)) % 2**64
    bits = [whole >> k & 1 for k in range(max(whole.bit_length(), 1))]
    return Array(np.asarray(bits, np.int64), UNIT)


# ------------------------------------------------------------------ reducing


@function("Array.accum")
def accumulate(item: Array, axis: int, reducer: Reducer | None) -> Array:
    """Reduce everything up to each position along an axis."""
    if not item.values.size and 0 <= axis < item.values.ndim:
        return item
    found, kind, ok = kernels.accumulate(
        stack_of(item), item.type, axis, reducer or named_reducer("sum")
    )
    if ok is not None:
        raise EngineError("The reducer has no result for some of the values.")
    return one(found, kind)


@function("Array.reduce")
def reduce(item: Array, reducer: Reducer, axes: list[int], field: int | None) -> Array:
    """Collapse axes to length 1 by a reducer ([A])."""
    found, kind, ok = kernels.reduce(stack_of(item), item.type, reducer, axes, field)
    if ok is not None:
        raise EngineError("The reducer has no result for some of the values.")
    return one(found, kind)


@function("Array.dotProduct")
def dot(first: Array, second: Array) -> Any:
    """Return the dot product of two vectors."""
    if first.values.ndim != 1 or first.values.shape != second.values.shape:
        raise EngineError(
            "Both arrays must be 1-D and of one length; their lengths are "
            f"{list(first.values.shape)} and {list(second.values.shape)}."
        )
    return np.dot(first.values, second.values).item()


@function("Dictionary.toArray")
def dictionary_to_array(items: dict[str, Any], keys: list[str] | None, axis: int) -> Array:
    """Return the values of a dictionary as an array."""
    chosen = sorted(items) if keys is None else keys
    missing = [k for k in chosen if k not in items]
    if missing:
        raise EngineError(f"Dictionary does not contain key: '{missing[0]}'.")
    if axis < 0 or axis > 30:
        raise EngineError(f"Axis {axis} is out of range.")
    parts = [as_array(items[k]) for k in chosen]
    if all(part.values.ndim == 0 for part in parts):
        parts = [Array(part.values.reshape((1,) * (axis + 1)), part.type) for part in parts]
    return cat(parts, axis)
