"""How pixels that are arrays are held, so that what moves pixels need not know of them.

A window of array pixels has two axes like any other. Where all arrays have the same lengths the
numpy type of a pixel is a fixed-size block (a structured type with one field), and the numbers
can be viewed as (height, width, *lengths) without a copy; otherwise the pixels are objects, one
array each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["FIELD", "as_objects", "cast", "cell", "chosen", "concatenated", "is_cells", "packed"]

FIELD = "array"
Array = NDArray[Any]


def is_cells(data: Array) -> bool:
    """Return whether pixels are arrays, in either form."""
    return data.dtype.names is not None or data.dtype == object


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
        return objects(list(stack), len(stack))
    kind = np.dtype([(FIELD, stack.dtype, lengths)])
    flat = np.ascontiguousarray(stack).reshape(len(stack), -1)
    return flat.view(kind).reshape(len(stack))


def objects(cells: Sequence[Any], count: int) -> Array:
    """Return arrays as the elements of an array of objects."""
    out = np.empty(count, object)
    for k, found in enumerate(cells):
        out[k] = found
    return out


def cell(value: Any) -> Any:
    """Return one pixel as a number or a numpy array."""
    if isinstance(value, np.void):
        return value[FIELD]
    return value.item() if isinstance(value, np.generic) else value


def as_objects(data: Array) -> Array:
    """Return array pixels of any form as one array object each; numbers become null."""
    if data.dtype == object:
        return data
    out = np.empty(data.size, object)
    if data.dtype.names is not None:
        out[:] = objects(list(data.ravel()[FIELD]), data.size)
    return out.reshape(data.shape)


def concatenated(parts: Sequence[Array], axis: int = 0) -> Array:
    """Join windows or columns of pixels, of numbers or of arrays."""
    if any(is_cells(p) for p in parts) and any(p.dtype != parts[0].dtype for p in parts[1:]):
        parts = [as_objects(p) for p in parts]
    return np.concatenate(parts, axis)


def chosen(condition: Array, one: Array, other: Array) -> Array:
    """Return ``one`` where the condition holds, else ``other``; arrays of any lengths."""
    if one.dtype != other.dtype and (is_cells(one) or is_cells(other)):
        one, other = as_objects(one), as_objects(other)
    return np.where(condition, one, other)


def cast(data: Array, dtype: DTypeLike) -> Array:
    """Return pixels in a numpy type; arrays as they are."""
    return data if is_cells(data) else data.astype(dtype, copy=False)
