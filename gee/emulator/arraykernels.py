"""Kernels of arrays: stacks whose first axis counts pixels, all of one shape.

An array value is a stack of one. Axes are numbered as Earth Engine does, without the first:
axis 0 of an array is axis 1 of its stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .budget import MOST_AT_ONCE, reserve, steps
from .errors import EngineError, LimitError
from .pixels import Pixels
from .types import PixelType

if TYPE_CHECKING:
    from .reducers import Reducer

__all__ = [
    "accumulate",
    "aligned",
    "argmax",
    "axis_of",
    "concatenate",
    "cut",
    "kept",
    "pad",
    "project",
    "reduce",
    "repeat",
    "reshape",
    "slice_axis",
    "sort",
    "transpose",
]

Stack = NDArray[Any]
Ragged = list[tuple[NDArray[np.int64], Stack]]

# numpy's own limit on the number of axes, with one for the pixels.
_MOST_AXES = 31


def lengths_of(stack: Stack) -> list[int]:
    """Return the lengths of the axes of each array of a stack."""
    return [int(n) for n in stack.shape[1:]]


def axis_of(stack: Stack, axis: int, name: str = "Axis") -> int:
    """Return the axis of a stack that is ``axis`` of its arrays.

    Raises
    ------
    EngineError
        The arrays have no such axis.
    """
    if not 0 <= axis < stack.ndim - 1:
        raise EngineError(
            f"{name} {axis} is out of range for an array of {stack.ndim - 1} dimension(s)."
        )
    return axis + 1


def check_size(count: int, lengths: Sequence[int]) -> None:
    """Refuse arrays that take more memory than a request may have.

    Parameters
    ----------
    count : int
        Arrays of the stack.
    lengths : sequence of int
        Of each of them.
    """
    size = count * math.prod(max(int(n), 0) for n in lengths)
    if count == 1:
        reserve(size)
    elif size * 8 > MOST_AT_ONCE:
        # Pixels come and go with their tiles, so they do not add up.
        raise LimitError("User memory limit exceeded.")


def _widened(stack: Stack, axis: int) -> Stack:
    """Return a stack whose arrays have the axis, with axes of length 1 appended."""
    missing = axis + 2 - stack.ndim
    return stack if missing <= 0 else stack.reshape(stack.shape + (1,) * missing)


def aligned(a: Stack, b: Stack) -> tuple[Stack, Stack]:
    """Return two stacks whose arrays go together element by element.

    Lengths must match; an array of one element goes with every element of the other.

    Examples
    --------
    >>> one, two = aligned(np.ones((5, 2, 3)), np.ones((5,)))
    >>> (one * two).shape
    (5, 2, 3)
    """
    if a.shape[1:] == b.shape[1:]:
        return a, b
    single_a, single_b = math.prod(a.shape[1:]) == 1, math.prod(b.shape[1:]) == 1
    if single_b and (not single_a or b.ndim <= a.ndim):
        return a, b.reshape((len(b),) + (1,) * (a.ndim - 1))
    if single_a:
        return a.reshape((len(a),) + (1,) * (b.ndim - 1)), b
    raise EngineError(f"Array dimensions must match: {lengths_of(a)} and {lengths_of(b)}.")


def slice_axis(stack: Stack, axis: int, start: int, end: int | None, step: int) -> Stack:
    """Return positions along an axis; negative ones count from the end."""
    if step < 1:
        raise EngineError(f"Step must be positive, not {step}.")
    index = [slice(None)] * stack.ndim
    index[axis_of(stack, axis)] = slice(start, end, step)
    return stack[tuple(index)]


def cut(stack: Stack, position: Sequence[int]) -> Stack:
    """Return the elements at a position, -1 standing for a whole axis."""
    lengths = lengths_of(stack)
    if len(position) != len(lengths):
        raise EngineError(f"Position must have {len(lengths)} coordinates, not {len(position)}.")
    index = [slice(None)]
    for place, length in zip(position, lengths, strict=True):
        if place == -1:
            index.append(slice(None))
        elif 0 <= place < length:
            index.append(slice(place, place + 1))
        else:
            raise EngineError(f"Position {list(position)} is out of bounds {lengths}.")
    return stack[tuple(index)]


def concatenate(stacks: Sequence[Stack], axis: int, dtype: Any) -> Stack:
    """Join the arrays of stacks along an axis, which may be the one after their last."""
    found = {s.ndim for s in stacks}
    if len(found) > 1:
        raise EngineError(
            f"Arrays must have the same number of dimensions; found {sorted(n - 1 for n in found)}."
        )
    (ndim,) = found
    if not 0 <= axis < ndim:
        raise EngineError(
            f"Axis {axis} is out of range for arrays of {ndim - 1} dimension(s): it must be at "
            f"least 0 and at most {ndim - 1}."
        )
    if axis == ndim - 1:
        stacks = [np.expand_dims(s, -1) for s in stacks]
    count = max(len(s) for s in stacks)
    rest = [[n for k, n in enumerate(s.shape[1:]) if k != axis] for s in stacks]
    if any(r != rest[0] for r in rest[1:]):
        raise EngineError(
            f"Arrays of lengths {[lengths_of(s) for s in stacks]} cannot be joined along axis "
            f"{axis}: all other axes must match."
        )
    parts = [np.broadcast_to(s, (count, *s.shape[1:])).astype(dtype, copy=False) for s in stacks]
    return np.concatenate(parts, axis + 1)


def repeat(stack: Stack, axis: int, copies: int) -> Stack:
    """Repeat arrays along an axis, which may be a new one."""
    if axis < 0:
        raise EngineError(f"Axis must not be negative, not {axis}.")
    if copies < 0:
        raise EngineError(f"The number of copies must not be negative, not {copies}.")
    if axis >= _MOST_AXES:
        raise EngineError(f"Axis {axis} is out of range.")
    wide = _widened(stack, axis)
    check_size(len(wide), [*wide.shape[1:], copies])
    times = [1] * wide.ndim
    times[axis + 1] = copies
    return np.tile(wide, times)


def reshape(stack: Stack, lengths: Sequence[int]) -> Stack:
    """Return the elements in arrays of other lengths, one of which may be -1."""
    have = lengths_of(stack)
    wanted = [int(n) for n in lengths]
    problem = f"Cannot reshape an array of lengths {have} to {wanted}"
    if sum(n < 0 for n in wanted) > 1 or any(n < -1 for n in wanted):
        raise EngineError(f"{problem}: at most one length may be -1.")
    size = math.prod(have)
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        if rest == 0 or size % rest:
            raise EngineError(f"{problem}: {size} elements do not fit.")
        wanted[wanted.index(-1)] = size // rest
    if math.prod(wanted) != size:
        raise EngineError(f"{problem}: {size} elements do not fit.")
    if len(wanted) > _MOST_AXES:
        raise EngineError(f"{problem}: too many dimensions.")
    return stack.reshape((len(stack), *wanted))


def project(stack: Stack, axes: Sequence[int]) -> Stack:
    """Keep some axes, in the order given; the others must have length 1."""
    for axis in axes:
        axis_of(stack, axis)
    if len(set(axes)) != len(axes):
        raise EngineError(f"The axes {list(axes)} name one axis twice.")
    dropped = [k for k in range(stack.ndim - 1) if k not in axes]
    for axis in dropped:
        if stack.shape[axis + 1] > 1:
            raise EngineError(
                f"Dropped axis {axis} has length {stack.shape[axis + 1]}; it must be at most 1."
            )
        if stack.shape[axis + 1] == 0:
            raise EngineError(f"Cannot project an array without elements along axis {axis}.")
    order = [0, *(a + 1 for a in axes), *(a + 1 for a in dropped)]
    moved = stack.transpose(order)
    return moved.reshape(moved.shape[: len(axes) + 1])


def transpose(stack: Stack, first: int, second: int) -> Stack:
    """Exchange two axes; a vector is a matrix of one column."""
    if min(first, second) < 0 or max(first, second) > max(stack.ndim - 1, 2) - 1:
        axis_of(stack, min(first, second) if min(first, second) < 0 else max(first, second))
    return np.swapaxes(_widened(stack, max(first, second)), first + 1, second + 1)


def pad(stack: Stack, lengths: Sequence[int], value: Any, dtype: Any) -> Stack:
    """Append a value until every axis has a length; longer axes stay."""
    if len(lengths) < stack.ndim - 1:
        raise EngineError(
            f"A length must be given for each of the {stack.ndim - 1} axes, not {len(lengths)}."
        )
    if len(lengths) > _MOST_AXES:
        raise EngineError("Too many dimensions.")
    wide = _widened(stack, len(lengths) - 1)
    sizes = [max(int(n), size) for n, size in zip(lengths, wide.shape[1:], strict=True)]
    check_size(len(wide), sizes)
    out = np.full((len(wide), *sizes), value, dtype)
    out[tuple(slice(n) for n in wide.shape)] = wide
    return out


def _direction(lengths: Sequence[int], what: str) -> int:
    axes = [k for k, n in enumerate(lengths) if n > 1]
    if len(axes) > 1:
        raise EngineError(
            f"The {what} may have several elements along one axis only; its lengths are "
            f"{list(lengths)}."
        )
    if axes:
        return axes[0]
    empty = [k for k, n in enumerate(lengths) if n == 0]
    return empty[0] if empty else 0


def _parallel(stack: Stack, other: Stack, what: str) -> tuple[int, Stack]:
    """Return the axis along which a mask or keys run, and them as rows of its length."""
    if other.ndim > stack.ndim:
        raise EngineError(
            f"The {what} has {other.ndim - 1} dimensions, more than the array's {stack.ndim - 1}."
        )
    axis = _direction(lengths_of(other), what)
    length = stack.shape[axis + 1] if stack.ndim > 1 else 1
    have = math.prod(other.shape[1:])
    if have not in (1, length):
        raise EngineError(f"The {what} has length {have} along axis {axis}, the array {length}.")
    flat = other.reshape(len(other), have)
    return axis, np.broadcast_to(flat, (max(len(flat), len(stack)), length))


def kept(stack: Stack, mask: Stack) -> Stack | Ragged:
    """Return what is parallel to elements of a mask other than zero.

    Returns
    -------
    stack
        Where every array keeps equally many positions.
    list of (rows, stack)
        Otherwise, grouped by how many they keep.
    """
    axis, on = _parallel(stack, mask != 0, "mask")
    if stack.ndim == 1:
        stack = stack[:, None]
    values = np.broadcast_to(stack, (len(on), *stack.shape[1:]))
    if (on == on[:1]).all():
        return np.compress(on[0], values, axis + 1)
    order = np.argsort(~on, axis=1, kind="stable")
    shape = [len(on)] + [1] * (values.ndim - 1)
    shape[axis + 1] = on.shape[1]
    sorted_first = np.take_along_axis(values, order.reshape(shape), axis + 1)
    counts = on.sum(axis=1)
    out: Ragged = []
    for count in np.unique(counts):
        rows = np.nonzero(counts == count)[0]
        index = [slice(None)] * values.ndim
        index[axis + 1] = slice(int(count))
        out.append((rows, sorted_first[rows][tuple(index)]))
    return out


def sort(stack: Stack, keys: Stack | None) -> Stack:
    """Sort along one axis, by keys if given; equal keys stay in order."""
    if stack.ndim == 1:
        return stack
    axis, rows = _parallel(stack, stack if keys is None else keys, "keys")
    values = np.broadcast_to(stack, (len(rows), *stack.shape[1:]))
    order = np.argsort(rows, axis=1, kind="stable")
    shape = [len(rows)] + [1] * (values.ndim - 1)
    shape[axis + 1] = rows.shape[1]
    return np.take_along_axis(values, order.reshape(shape), axis + 1)


def argmax(stack: Stack) -> Stack:
    """Return the position of the first maximum of every array, shape (n, dimensions)."""
    flat = np.argmax(stack.reshape(len(stack), -1), axis=1)
    return np.stack(np.unravel_index(flat, stack.shape[1:]), axis=-1).astype(np.int64)


# ------------------------------------------------------------------ reducing

Reduced = tuple[list[Stack], NDArray[np.bool_] | None]


def reduce_rows(reducer: Reducer, kinds: Sequence[PixelType], columns: Sequence[Stack]) -> Reduced:
    """Reduce every row of some tables.

    Parameters
    ----------
    reducer : Reducer
    kinds : one PixelType per input
    columns : one (rows, m) array per input
        Each row holds the m values that are reduced together.

    Returns
    -------
    outputs : list of (rows,) arrays
    ok : (rows,) bool or None
        Where all outputs are there.
    """
    n, m = columns[0].shape
    types = reducer.types(kinds)
    if any(t.dimensions for t in types):
        raise EngineError("Each output of the reducer must be a number.")
    if reducer.folds and m:
        fold = reducer.fold(list(kinds), (n, 1))
        for k in range(m):
            fold.add([Pixels(c[:, k : k + 1], None) for c in columns])
        ok: Any = None
        out = []
        for found, kind in zip(fold.result(), types, strict=True):
            if found.mask is not None:
                mask = np.broadcast_to(found.mask > 0, (n, 1))[:, 0]
                ok = mask if ok is None else ok & mask
            out.append(np.broadcast_to(found.data, (n, 1))[:, 0].astype(kind.dtype, copy=False))
        return out, None if ok is None or ok.all() else ok
    out = [np.zeros(n, t.dtype) for t in types]
    ok = np.ones(n, bool)
    for row in steps(range(n)):
        for k, value in enumerate(reducer.reduce([c[row] for c in columns])):
            if value is None:
                ok[row] = False
            elif isinstance(value, (int, float, np.number)):
                out[k][row] = value
            else:
                raise EngineError("Each output of the reducer must be a number.")
    return out, None if ok.all() else ok


def reduce(
    stack: Stack, kind: PixelType, reducer: Reducer, axes: Sequence[int], field: int | None
) -> tuple[Stack, PixelType, NDArray[np.bool_] | None]:
    """Collapse axes to length 1 by a reducer ([A] Array.reduce).

    Returns
    -------
    stack
    kind : PixelType
        Of its elements.
    ok : (n,) bool or None
        Arrays for which the reducer has a result.
    """
    for axis in axes:
        axis_of(stack, axis)
    if len(set(axes)) != len(axes):
        raise EngineError(f"The axes {list(axes)} name one axis twice.")
    several = reducer.inputs > 1 or len(reducer.outputs) > 1
    if several and field is None:
        raise EngineError(
            "fieldAxis is required for a reducer with several inputs or several outputs."
        )
    n = len(stack)
    if field is None or not several:
        field = None
        kinds = [kind]
    else:
        if field == stack.ndim - 1:
            # One input needs no axis of its own; its outputs get one.
            stack = stack[..., None]
        axis_of(stack, field, "Field axis")
        if field in axes:
            raise EngineError(f"The field axis {field} cannot be reduced as well.")
        if stack.shape[field + 1] != reducer.inputs:
            raise EngineError(
                f"The field axis has length {stack.shape[field + 1]}, but the reducer has "
                f"{reducer.inputs} input(s)."
            )
        kinds = [kind] * reducer.inputs
    left = [k for k in range(stack.ndim - 1) if k not in axes and k != field]
    tail = [] if field is None else [field]
    moved = stack.transpose([0, *(k + 1 for k in [*left, *axes, *tail])])
    rest = [stack.shape[k + 1] for k in left]
    count = math.prod([stack.shape[k + 1] for k in axes])
    table = moved.reshape(
        n * math.prod(rest), count, -1 if len(moved) and moved.size else len(kinds)
    )
    columns = [table[:, :, k] for k in range(len(kinds))]
    outputs, ok = reduce_rows(reducer, kinds, columns)
    types = reducer.types(kinds)
    made = types[0]
    for other in types[1:]:
        made = made.union(other)
    joined = np.stack([o.astype(made.dtype) for o in outputs], axis=-1)
    shape = [n, *rest, *([1] * len(axes)), *([len(outputs)] if tail else [])]
    order = [*left, *axes, *tail]
    out = joined.reshape(shape).transpose([0, *(order.index(k) + 1 for k in range(len(order)))])
    if ok is not None:
        ok = np.asarray(ok.reshape(n, -1).all(axis=1))
    return out, made, ok


_RUNNING: dict[str, Callable[..., Stack]] = {
    "sum": np.cumsum,
    "max": np.maximum.accumulate,
    "min": np.minimum.accumulate,
}


def accumulate(
    stack: Stack, kind: PixelType, axis: int, reducer: Reducer
) -> tuple[Stack, PixelType, NDArray[np.bool_] | None]:
    """Reduce everything up to each position along an axis."""
    at = axis_of(stack, axis)
    if reducer.inputs != 1 or len(reducer.outputs) != 1:
        raise EngineError("The reducer must have one input and one output.")
    made = reducer.types([kind])[0]
    running = _RUNNING.get(reducer.name)
    if running is not None:
        return running(stack.astype(made.dtype, copy=False), axis=at), made, None
    rows = np.moveaxis(stack, at, -1)
    table = rows.reshape(-1, rows.shape[-1])
    out = np.zeros(table.shape, made.dtype)
    good = np.ones(len(table), bool)
    for k in range(table.shape[1]):
        (found,), ok = reduce_rows(reducer, [kind], [table[:, : k + 1]])
        out[:, k] = found
        if ok is not None:
            good &= ok
    back = np.moveaxis(out.reshape(rows.shape), -1, at)
    if good.all():
        return back, made, None
    return back, made, np.asarray(good.reshape(len(stack), -1).all(axis=1))
