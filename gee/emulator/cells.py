"""How pixels that are arrays are held, so that what moves pixels need not know of them.

A window of array pixels has two axes like any other; a pixel is a block of memory (a numpy
structured type), so choosing, copying and joining pixels moves arrays whole:

- uniform: where all arrays have the same lengths the block holds their numbers, which can be
  viewed as (height, width, *lengths) without a copy;
- ragged: otherwise the block has room for the longest, and the lengths beside it.

Windows of objects, one numpy array each, are understood too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import EngineError

__all__ = [
    "FIELD",
    "LENGTHS",
    "alike",
    "cast",
    "cell",
    "chosen",
    "concatenated",
    "gathered",
    "is_cells",
    "objects",
    "packed",
    "ragged",
]

FIELD = "array"
LENGTHS = "lengths"
Array = NDArray[Any]


def is_cells(data: Array) -> bool:
    """Return whether pixels are arrays, in any form."""
    return data.dtype.names is not None or data.dtype == object


def is_ragged(data: Array) -> bool:
    """Return whether pixels are arrays with lengths of their own."""
    return data.dtype.names is not None and LENGTHS in data.dtype.names


def packed(stack: Array) -> Array:
    """Return pixels (n,) of a stack (n, *lengths) of arrays; numbers stay as they are.

    Examples
    --------
    >>> packed(np.ones((6, 2, 3))).shape
    (6,)
    >>> packed(np.ones(6)).dtype
    dtype('float64')
    """
    lengths = stack.shape[1:]
    if not lengths:
        return stack
    if stack.size == 0:
        # numpy has no use for types of no bytes.
        return ragged([(slice(None), stack)], len(stack))
    kind = np.dtype([(FIELD, stack.dtype, lengths)])
    flat = np.ascontiguousarray(stack).reshape(len(stack), -1)
    return flat.view(kind).reshape(len(stack))


def _kind(dtype: DTypeLike, most: Sequence[int]) -> np.dtype[Any]:
    room = tuple(max(int(n), 1) for n in most)
    return np.dtype([(FIELD, dtype, room), (LENGTHS, np.int32, (len(room),))])


def ragged(parts: Sequence[tuple[Any, Array]], count: int) -> Array:
    """Return pixels (count,) of arrays that differ in their lengths.

    Parameters
    ----------
    parts : sequence of (places, stack)
        Arrays of one shape, and which pixels have them; pixels in no part have none.
    count : int

    Examples
    --------
    >>> made = ragged([([0], np.ones((1, 2))), ([1], np.ones((1, 3)))], 2)
    >>> [cell(v).shape for v in made]
    [(2,), (3,)]
    """
    most = np.max([stack.shape[1:] for _, stack in parts], axis=0)
    out = np.zeros(count, _kind(np.result_type(*(stack for _, stack in parts)), most))
    for places, stack in parts:
        where = tuple(slice(n) for n in stack.shape[1:])
        if isinstance(places, slice):
            out[FIELD][(places, *where)] = stack
        else:
            block = np.zeros((len(stack), *out[FIELD].shape[1:]), out[FIELD].dtype)
            block[(slice(None), *where)] = stack
            out[FIELD][places] = block
        out[LENGTHS][places] = stack.shape[1:]
    return out


def objects(cells: Sequence[Any], count: int) -> Array:
    """Return arrays as the elements of an array of objects."""
    out = np.empty(count, object)
    for k, found in enumerate(cells):
        out[k] = found
    return out


def gathered(cells: Sequence[Any]) -> Array:
    """Return pixels of single arrays; None for those that have none.

    Examples
    --------
    >>> [cell(v).tolist() for v in gathered([np.ones(2), None, np.zeros(1)])]
    [[1.0, 1.0], [], [0.0]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, found in enumerate(cells):
        if isinstance(found, np.ndarray) and found.ndim:
            groups.setdefault(found.shape, []).append(place)
    if len({len(shape) for shape in groups}) > 1:
        raise EngineError("Arrays of one band must have the same number of dimensions.")
    if not groups:
        return np.zeros(len(cells), _kind(float, (1,)))
    parts = [(places, np.stack([cells[k] for k in places])) for places in groups.values()]
    if len(parts) == 1 and len(parts[0][0]) == len(cells):
        return packed(parts[0][1])
    return ragged(parts, len(cells))


def cell(value: Any) -> Any:
    """Return one pixel as a number or a numpy array."""
    if isinstance(value, np.void):
        names = value.dtype.names
        if names is not None and LENGTHS in names:
            return value[FIELD][tuple(slice(int(n)) for n in value[LENGTHS])]
        return value[FIELD]
    return value.item() if isinstance(value, np.generic) else value


def alike(parts: Sequence[Array]) -> list[Array]:
    """Return windows or columns of pixels in one numpy type, so that they can be joined.

    Pixels that are numbers among pixels that are arrays are masked ones, and have none.

    Raises
    ------
    EngineError
        Their arrays differ in the number of dimensions.
    """
    if all(p.dtype == parts[0].dtype for p in parts[1:]) or not any(map(is_cells, parts)):
        return list(parts)
    parts = [gathered(list(p.ravel())).reshape(p.shape) if p.dtype == object else p for p in parts]
    held = [p for p in parts if is_cells(p)]
    rooms = {len(p[FIELD].shape) - p.ndim for p in held}
    if len(rooms) > 1:
        raise EngineError(f"Arrays of {sorted(rooms)} dimensions cannot be pixels of one band.")
    most = np.max([p[FIELD].shape[p.ndim :] for p in held], axis=0)
    kind = _kind(np.result_type(*(p[FIELD] for p in held)), most)
    out = []
    for part in parts:
        made = np.zeros(part.shape, kind)
        if is_cells(part):
            room = part[FIELD].shape[part.ndim :]
            where = (*([slice(None)] * part.ndim), *(slice(n) for n in room))
            made[FIELD][where] = part[FIELD]
            made[LENGTHS] = part[LENGTHS] if is_ragged(part) else room
        out.append(made)
    return out


def concatenated(parts: Sequence[Array], axis: int = 0) -> Array:
    """Join windows or columns of pixels, of numbers or of arrays."""
    return np.concatenate(alike(parts), axis)


def chosen(condition: Array, one: Array, other: Array) -> Array:
    """Return ``one`` where the condition holds, else ``other``; arrays of any lengths."""
    one, other = alike([one, other])
    return np.where(condition, one, other)


def cast(data: Array, dtype: DTypeLike) -> Array:
    """Return pixels in a numpy type; arrays as they are."""
    return data if is_cells(data) else data.astype(dtype, copy=False)
