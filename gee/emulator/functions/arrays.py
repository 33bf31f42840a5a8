"""Arrays as values: elementwise math, slicing, reducing, linear algebra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..reducers import Reducer, named_reducer
from ..types import DOUBLE, INT64, PixelType
from ..values import Array
from ._maths import ALIASES, BINARY, CASTS, UNARY, Binary, Unary, cast_values
from .registry import function

__all__ = ["as_array"]

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


def _pair(operator: Binary) -> Callable[[Array, Array], Array]:
    def apply(left: Array, right: Array) -> Array:
        a, b = left.values, right.values
        if a.shape != b.shape and a.size != 1 and b.size != 1:
            raise EngineError(f"Array dimensions must match: {list(a.shape)} and {list(b.shape)}.")
        kind = operator.kind(_of(left), _of(right))
        with np.errstate(all="ignore"):
            return Array(operator.make(kind.dtype)(a, b), kind)

    return apply


def _of(item: Array) -> PixelType:
    """Return the element type; ranges of 64 bits are no ranges to grow from."""
    return item.type


def _one(operator: Unary) -> Callable[[Array], Array]:
    def apply(item: Array) -> Array:
        kind = operator.kind(_of(item))
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
    _register(_name, _one(_unary))


def _register_cast(name: str, kind: PixelType) -> None:
    function(f"Array.{name}", f"Array.to{name[0].upper()}{name[1:]}")(
        lambda item: Array(cast_values(item.values, kind), kind)
    )


for _name, _kind in CASTS.items():
    _register_cast(_name, _kind)


def _axis(item: Array, axis: int) -> int:
    if not 0 <= axis < max(item.values.ndim, 1):
        raise EngineError(
            f"Axis {axis} is out of range for an array of {item.values.ndim} dimension(s)."
        )
    return axis


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
    if len(position) != item.values.ndim:
        raise EngineError(
            f"Position must have {item.values.ndim} coordinates, not {len(position)}."
        )
    for place, size in zip(position, item.values.shape, strict=True):
        if not -size <= place < size:
            raise EngineError(f"Position {position} is out of bounds {list(item.values.shape)}.")
    return item.values[tuple(position)].item()


@function("Array.cut")
def cut(item: Array, position: list[int]) -> Array:
    """Return the elements at a position, -1 standing for a whole axis."""
    if len(position) != item.values.ndim:
        raise EngineError(
            f"Position must have {item.values.ndim} coordinates, not {len(position)}."
        )
    index: list[slice] = []
    for place, size in zip(position, item.values.shape, strict=True):
        if place == -1:
            index.append(slice(None))
        elif 0 <= place < size:
            index.append(slice(place, place + 1))
        else:
            raise EngineError(f"Position {position} is out of bounds {list(item.values.shape)}.")
    return Array(item.values[tuple(index)], item.type)


@function("Array.slice")
def slice_array(item: Array, axis: int, start: int, end: int | None, step: int) -> Array:
    """Return a range along an axis."""
    if step < 1:
        raise EngineError(f"Step must be positive, not {step}.")
    index = [slice(None)] * item.values.ndim
    index[_axis(item, axis)] = slice(start, end, step)
    return Array(item.values[tuple(index)], item.type)


@function("Array.cat")
def cat(items: list[Array], axis: int) -> Array:
    """Join arrays along an axis; a new axis may be the next one."""
    if not items:
        raise EngineError("There are no arrays to concatenate.")
    kind = items[0].type
    for other in items[1:]:
        kind = kind.union(other.type)
    values = [i.values for i in items]
    if axis == max(v.ndim for v in values):
        values = [np.expand_dims(v, axis) for v in values]
    try:
        joined = np.concatenate([v.astype(kind.dtype) for v in values], axis)
    except ValueError:
        shapes = [list(v.shape) for v in values]
        raise EngineError(
            f"Arrays of shapes {shapes} cannot be joined along axis {axis}."
        ) from None
    return Array(joined, kind)


@function("Array.repeat")
def repeat(item: Array, axis: int, copies: int) -> Array:
    """Repeat along an axis; a new axis may be the next one."""
    values = item.values
    if axis >= values.ndim:
        values = values.reshape(values.shape + (1,) * (axis + 1 - values.ndim))
    return Array(np.concatenate([values] * copies, axis), item.type)


@function("Array.reshape")
def reshape(item: Array, shape: Array) -> Array:
    """Return the elements in another shape."""
    wanted = [int(v) for v in shape.values.ravel()]
    try:
        return Array(item.values.reshape(wanted), item.type)
    except ValueError:
        raise EngineError(
            f"Cannot reshape an array of {item.values.size} elements to {wanted}."
        ) from None


@function("Array.project")
def project(item: Array, axes: list[int]) -> Array:
    """Keep some axes; the others must have length 1."""
    dropped = [a for a in range(item.values.ndim) if a not in axes]
    for axis in dropped:
        if item.values.shape[axis] > 1:
            raise EngineError(f"Dropped axis {axis} has length {item.values.shape[axis]}, not 1.")
    kept = item.values.squeeze(tuple(dropped))
    order = np.argsort(np.argsort([_axis(item, a) for a in axes]))
    return Array(kept.transpose(tuple(order)), item.type)


@function("Array.transpose", "Array.matrixTranspose")
def transpose(item: Array, first: int, second: int) -> Array:
    """Exchange two axes."""
    values = item.values
    if values.ndim < max(first, second) + 1:
        values = values.reshape(values.shape + (1,) * (max(first, second) + 1 - values.ndim))
    return Array(np.swapaxes(values, first, second), item.type)


@function("Array.pad")
def pad(item: Array, lengths: list[int], value: float) -> Array:
    """Append a value until every axis has a length."""
    values: Values = item.values
    if len(lengths) < values.ndim:
        raise EngineError("A length must be given for every axis.")
    values = values.reshape(values.shape + (1,) * (len(lengths) - values.ndim))
    sizes: list[int] = list(values.shape)
    widths = [(0, max(n - size, 0)) for n, size in zip(lengths, sizes, strict=True)]
    kind = item.type.union(PixelType.of_number(value))
    return Array(np.pad(values.astype(kind.dtype), widths, constant_values=value), kind)


@function("Array.mask")
def mask(item: Array, wanted: Array) -> Array:
    """Keep what is parallel to elements of a mask other than 0."""
    values: Values = item.values
    on: Values = wanted.values
    on = on.reshape(on.shape + (1,) * (values.ndim - on.ndim))
    axes = [k for k in range(on.ndim) if on.shape[k] != 1]
    if len(axes) > 1:
        raise EngineError("The mask must have more than one element along one axis only.")
    axis = axes[0] if axes else 0
    if axes and on.shape[axis] != values.shape[axis]:
        raise EngineError(
            f"The mask has length {on.shape[axis]} along axis {axis}, the array "
            f"{values.shape[axis]}."
        )
    flat = np.broadcast_to(on.ravel() != 0, (values.shape[axis],))
    return Array(np.compress(flat, values, axis), item.type)


@function("Array.sort")
def sort(item: Array, keys: Array | None) -> Array:
    """Sort along one axis, by keys if given."""
    order = item.values if keys is None else keys.values
    axes = [k for k, n in enumerate(order.shape) if n > 1]
    if len(axes) > 1:
        raise EngineError("The keys must have more than one element along one axis only.")
    if not axes:
        return item
    places = np.argsort(order.ravel(), kind="stable")
    return Array(np.take(item.values, places, axes[0]), item.type)


@function("Array.argmax")
def argmax(item: Array) -> list[int] | None:
    """Return the position of the first maximum; null for none."""
    if item.values.size == 0:
        return None
    return [int(v) for v in np.unravel_index(int(np.argmax(item.values)), item.values.shape)]


@function("Array.identity")
def identity(size: int) -> Array:
    """Return the identity matrix."""
    if size < 1:
        raise EngineError(f"The size must be positive, not {size}.")
    return Array(np.eye(size, dtype=np.int64), PixelType("int", 0, 1))


@function("Array.bitsToArray")
def bits_to_array(value: float) -> Array:
    """Return the bits of an integer, the lowest first."""
    whole = int(value) % 2**64
    bits = [whole >> k & 1 for k in range(max(whole.bit_length(), 1))]
    return Array(np.asarray(bits, np.int64), PixelType("int", 0, 1))


def _rows(item: Array, axis: int) -> Values:
    """Return the vectors along an axis as rows."""
    return np.moveaxis(item.values, axis, -1)


@function("Array.accum")
def accumulate(item: Array, axis: int, reducer: Reducer | None) -> Array:
    """Reduce everything up to each position along an axis."""
    used = reducer or named_reducer("sum")
    rows = _rows(item, _axis(item, axis))
    out = np.empty(rows.shape)
    for index in np.ndindex(rows.shape[:-1]):
        for k in range(rows.shape[-1]):
            out[(*index, k)] = used.reduce([rows[index][: k + 1]])[0]
    return _typed(np.moveaxis(out, -1, axis), item)


def _typed(values: Values, like: Array) -> Array:
    """Return results as integers where the input was integers and they are whole."""
    if like.type.is_int and values.size and (values == np.round(values)).all():
        return Array(values.astype(np.int64), INT64)
    return Array(values, DOUBLE)


@function("Array.reduce")
def reduce(item: Array, reducer: Reducer, axes: list[int], field: int | None) -> Array:
    """Collapse axes to length 1 by a reducer ([A])."""
    for axis in axes:
        _axis(item, axis)
    values = item.values
    if reducer.inputs > 1 or len(reducer.outputs) > 1:
        if field is None:
            raise EngineError("fieldAxis is required for several inputs or outputs.")
        if reducer.inputs > 1 and values.shape[field] != reducer.inputs:
            raise EngineError(
                f"The field axis has length {values.shape[field]}; the reducer takes "
                f"{reducer.inputs} inputs."
            )
        return _reduce_fields(item, reducer, axes, field)
    keep = [a for a in range(values.ndim) if a not in axes]
    moved = values.transpose(keep + list(axes)).reshape([values.shape[a] for a in keep] + [-1])
    out = np.empty(moved.shape[:-1])
    for index in np.ndindex(out.shape):
        out[index] = reducer.reduce([moved[index]])[0]
    sizes: list[int] = list(values.shape)
    shape = [1 if a in axes else n for a, n in enumerate(sizes)]
    return _typed(out.reshape(shape), item)


def _reduce_fields(item: Array, reducer: Reducer, axes: Sequence[int], field: int) -> Array:
    values = item.values
    keep = [a for a in range(values.ndim) if a not in axes and a != field]
    moved = values.transpose([*keep, *[a for a in axes if a != field], field])
    moved = moved.reshape([values.shape[a] for a in keep] + [-1, values.shape[field]])
    count = len(reducer.outputs)
    out = np.empty((*moved.shape[:-2], count))
    for index in np.ndindex(out.shape[:-1]):
        table = moved[index]
        if reducer.inputs == 1:
            out[index] = reducer.reduce([table.ravel()])
        else:
            out[index] = reducer.reduce([table[:, k] for k in range(reducer.inputs)])
    shape = [values.shape[a] for a in keep]
    full = out.reshape([*shape, *([1] * (len(axes) - (field in axes))), count])
    order = [*keep, *[a for a in axes if a != field], field]
    return _typed(full.transpose(np.argsort(order)), item)


@function("Array.dotProduct")
def dot(first: Array, second: Array) -> Any:
    """Return the dot product of two vectors."""
    if first.values.ndim != 1 or first.values.shape != second.values.shape:
        raise EngineError("Both arrays must be 1-D and of one length.")
    return np.dot(first.values, second.values).item()


# ------------------------------------------------------------------ matrices


def _matrix(item: Array, square: bool = False) -> Values:
    values = item.values.astype(float)
    if values.ndim != 2:
        raise EngineError(f"Expected a matrix (2-D), found {values.ndim} dimension(s).")
    if square and values.shape[0] != values.shape[1]:
        raise EngineError(f"Expected a square matrix, found {list(values.shape)}.")
    return values


@function("Array.matrixMultiply")
def multiply(left: Array, right: Array) -> Array:
    """Multiply matrices."""
    a, b = _matrix(left), _matrix(right)
    if a.shape[1] != b.shape[0]:
        raise EngineError(f"Inner dimensions must match: {list(a.shape)} and {list(b.shape)}.")
    if left.type.is_int and right.type.is_int:
        return Array(left.values @ right.values, INT64)
    return Array(a @ b, DOUBLE)


@function("Array.matrixInverse")
def inverse(item: Array) -> Array:
    """Invert a square matrix."""
    try:
        return Array(np.linalg.inv(_matrix(item, square=True)), DOUBLE)
    except np.linalg.LinAlgError:
        raise EngineError("The matrix is singular.") from None


@function("Array.matrixPseudoInverse")
def pseudo_inverse(item: Array) -> Array:
    """Return the Moore-Penrose inverse."""
    return Array(np.linalg.pinv(_matrix(item)), DOUBLE)


@function("Array.matrixSolve")
def solve(left: Array, right: Array) -> Array:
    """Solve A x = B, by least squares where there are more rows than unknowns."""
    a, b = _matrix(left), _matrix(right)
    if a.shape[0] != b.shape[0]:
        raise EngineError("A and B must have the same number of rows.")
    if a.shape[0] == a.shape[1]:
        try:
            return Array(np.linalg.solve(a, b), DOUBLE)
        except np.linalg.LinAlgError:
            raise EngineError("The matrix is singular.") from None
    return Array(np.linalg.lstsq(a, b, rcond=None)[0], DOUBLE)


@function("Array.matrixDeterminant")
def determinant(item: Array) -> float:
    """Return the determinant."""
    return float(np.linalg.det(_matrix(item, square=True)))


@function("Array.matrixTrace")
def trace(item: Array) -> Any:
    """Return the sum of the diagonal."""
    return np.trace(item.values if item.type.is_int else _matrix(item)).item()


@function("Array.matrixFnorm")
def fnorm(item: Array) -> float:
    """Return the Frobenius norm."""
    return float(np.linalg.norm(_matrix(item)))


@function("Array.matrixDiagonal")
def diagonal(item: Array) -> Array:
    """Return the diagonal as a column."""
    _matrix(item)
    return Array(np.diagonal(item.values)[:, None].copy(), item.type)


@function("Array.matrixToDiag")
def to_diagonal(item: Array) -> Array:
    """Return a square matrix with a column on its diagonal."""
    if item.values.ndim != 2 or item.values.shape[1] != 1:
        raise EngineError("Expected a matrix of one column.")
    return Array(np.diag(item.values[:, 0]), item.type)


@function("Array.eigen")
def eigen(item: Array) -> Array:
    """Return rows of an eigenvalue and its vector, the greatest first."""
    table = _matrix(item, square=True)
    if np.allclose(table, table.T):
        found, vectors = np.linalg.eigh(table)
    else:
        found, vectors = np.linalg.eig(table)
        if np.iscomplexobj(found) and np.abs(found.imag).max() > 1e-12:
            raise EngineError("The matrix has complex eigenvalues.")
        found, vectors = found.real, vectors.real
    order = np.argsort(-found, kind="stable")
    return Array(np.column_stack([found[order], vectors[:, order].T]), DOUBLE)


@function("Array.matrixCholeskyDecomposition")
def cholesky(item: Array) -> dict[str, Array]:
    """Return L with L L' = the matrix."""
    try:
        return {"L": Array(np.linalg.cholesky(_matrix(item, square=True)), DOUBLE)}
    except np.linalg.LinAlgError:
        raise EngineError("The matrix is not positive definite.") from None


@function("Array.matrixSingularValueDecomposition")
def svd(item: Array) -> dict[str, Array]:
    """Return U, S and V with U S V' = the matrix."""
    table = _matrix(item)
    u, s, vt = np.linalg.svd(table)
    middle = np.zeros(table.shape)
    np.fill_diagonal(middle, s)
    return {"S": Array(middle, DOUBLE), "U": Array(u, DOUBLE), "V": Array(vt.T, DOUBLE)}


@function("Array.matrixLUDecomposition")
def lu(item: Array) -> dict[str, Array]:
    """Return L, U and P with P times the matrix = L U."""
    from scipy import linalg

    p, lower, upper = linalg.lu(_matrix(item, square=True))
    return {"L": Array(lower, DOUBLE), "P": Array(p.T, DOUBLE), "U": Array(upper, DOUBLE)}


@function("Array.matrixQRDecomposition")
def qr(item: Array) -> dict[str, Array]:
    """Return Q and R with Q R = the matrix."""
    q, r = np.linalg.qr(_matrix(item), mode="complete")
    return {"Q": Array(q, DOUBLE), "R": Array(r, DOUBLE)}


@function("Dictionary.toArray")
def dictionary_to_array(items: dict[str, Any], keys: list[str] | None, axis: int) -> Array:
    """Return the values of a dictionary as an array."""
    chosen = sorted(items) if keys is None else keys
    parts = [as_array(items[k]) for k in chosen]
    if all(p.values.ndim == 0 for p in parts):
        made = as_array([p.values.item() for p in parts])
        return Array(made.values.reshape((1,) * axis + (-1,)), made.type)
    return cat(parts, axis)
