"""Functions of stacks of arrays applied to the pixels of a window.

:mod:`gee.emulator.cells` says how pixels that are arrays are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .budget import tick
from .cells import FIELD, LENGTHS, gathered, is_ragged, packed, ragged
from .errors import EngineError
from .pixels import Array, Band, Context, Node, Pixels
from .projection import Window

__all__ = [
    "ArrayNode",
    "Ragged",
    "apply",
    "array_function",
    "by_value",
    "located",
    "refuse_arrays",
]

Ragged = list[tuple[NDArray[np.int64], Array]]
Result = Array | Ragged
F = TypeVar("F", bound=Callable[..., Any])
# A function of stacks (pixels, *lengths): results, and which pixels have one.
Function = Callable[..., "Sequence[Result] | tuple[Sequence[Result], Array | None]"]


def by_value(stack: Array, values: Array, call: Callable[[Array, Any], Array]) -> Array | Ragged:
    """Apply a function whose settings differ between pixels.

    Parameters
    ----------
    stack : (n, *lengths) or (1, *lengths)
    values : (n, k) or (1, k)
        Settings of every pixel; ``call`` is made once for each that occurs.
    call : (stack, setting) -> stack
    """
    if len(values) == 1 or (values == values[:1]).all():
        return call(stack, values[0])
    stack = np.broadcast_to(stack, (len(values), *stack.shape[1:]))
    found, place = np.unique(values, axis=0, return_inverse=True)
    out: Ragged = []
    for number, setting in enumerate(found):
        rows = np.nonzero(place.ravel() == number)[0]
        out.append((rows, call(stack[rows], setting)))
    return out


def _lengths_key(flats: Sequence[Array]) -> Array:
    """Return a number per pixel that is the same where all lengths of ragged pixels are."""
    key: Any = np.zeros(1, np.int64)
    for flat in flats:
        lengths = flat[LENGTHS].astype(np.int64)
        for axis in range(lengths.shape[1]):
            key = key * (flat[FIELD].shape[axis + 1] + 1) + lengths[:, axis]
    found: Array = key
    return found


def _stack(flat: Array, first: int) -> Array:
    """Return ragged pixels that all have the lengths of the first one as a stack."""
    lengths = flat[LENGTHS][first]
    return flat[FIELD][(slice(None), *(slice(int(n)) for n in lengths))]


def _groups(flats: Sequence[Array], count: int) -> list[tuple[Array | slice, list[Array]]]:
    """Return inputs split so that within a group all arrays of an input have one shape."""
    flats = [gathered(list(f)) if f.dtype == object else f for f in flats]
    uneven = [f for f in flats if is_ragged(f)]
    key = _lengths_key(uneven)
    if len(key) == 1 or (key == key[0]).all():
        return [(slice(None), [_stack(f, 0) if is_ragged(f) else _plain(f) for f in flats])]
    out: list[tuple[Array | slice, list[Array]]] = []
    order = np.argsort(key, kind="stable")
    starts = np.nonzero(np.diff(key[order], prepend=key[order[0]] - 1))[0]
    for at in np.split(order, starts[1:]):
        group = []
        for flat in flats:
            mine = flat if len(flat) == 1 else flat[at]
            group.append(_stack(mine, 0) if is_ragged(flat) else _plain(mine))
        out.append((at, group))
    return out


def _plain(flat: Array) -> Array:
    return flat[FIELD] if flat.dtype.names is not None else flat


# Numbers that a function of stacks is given at once.
_AT_ONCE = 2**21


def _parts(
    groups: Sequence[tuple[Array | slice, list[Array]]], count: int
) -> Iterator[tuple[Any, list[Array]]]:
    """Cut groups of many pixels into parts, to hold less and to look at the clock."""
    for at, group in groups:
        size = count if isinstance(at, slice) else len(at)
        each = sum(stack[0].size for stack in group if len(stack))
        step = max(_AT_ONCE // max(each, 1), 1)
        if step >= size:
            yield at, group
            continue
        for start in range(0, size, step):
            rows = slice(start, min(start + step, size))
            part = [stack if len(stack) == 1 else stack[rows] for stack in group]
            yield (rows if isinstance(at, slice) else at[rows]), part


def apply(
    function: Function,
    inputs: Sequence[Pixels],
    shape: tuple[int, int],
    outputs: int = 1,
    masks: Sequence[int] | None = None,
) -> list[Pixels]:
    """Apply a function of stacks to the valid pixels of a window.

    Parameters
    ----------
    function : (stack, ...) -> results, or (results, ok)
        Takes one stack (n, *lengths) per input, or (1, *lengths) for one that is the same
        everywhere. A result is a stack (n, *lengths), (1, *lengths), or a list of
        (rows, stack) where lengths differ. ``ok`` (n,) bool: pixels that have results.
    inputs : sequence of Pixels
    shape : (height, width)
    outputs : int
        Number of results.
    masks : sequence of int, optional
        Inputs whose mask counts; all by default.

    Returns
    -------
    list of Pixels
    """
    mask: Array | None = None
    for k, pixels in enumerate(inputs):
        if masks is None or k in masks:
            mask = kernels.both(mask, pixels.mask)
    same = all(p.data.size == 1 for p in inputs) and (mask is None or mask.size == 1)
    if same:
        shape = (1, 1)
    valid = kernels.valid(mask)
    if valid is not None and valid.shape != shape:
        valid = np.broadcast_to(valid, shape)
    places = None if valid is None or valid.all() else np.nonzero(valid.ravel())[0]
    count = shape[0] * shape[1] if places is None else len(places)
    if count == 0:
        return [Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool))] * outputs
    flats = []
    for pixels in inputs:
        flat = pixels.data
        if flat.size == 1 and not same:
            flats.append(flat.reshape(1))
            continue
        flat = np.broadcast_to(flat, shape).reshape(-1)
        flats.append(flat if places is None else flat[places])
    found: list[list[tuple[Any, Array]]] = [[] for _ in range(outputs)]
    good: Array | None = None
    for at, group in _parts(_groups(flats, count), count):
        size = len(range(count)[at]) if isinstance(at, slice) else len(at)
        tick()
        made = function(*group)
        results: Sequence[Result]
        if isinstance(made, tuple):
            results, ok = made
            if ok is not None:
                good = np.ones(count, bool) if good is None else good
                good[at] = ok
        else:
            results = made
        if good is not None and not results:
            continue
        for slot, result in enumerate(results):
            if isinstance(result, list):
                rows = np.arange(count)[at] if isinstance(at, slice) else at
                found[slot] += [(rows[part], stack) for part, stack in result]
            else:
                if len(result) != size:
                    result = np.broadcast_to(result, (size, *result.shape[1:]))
                found[slot].append((at, result))
    if good is not None:
        keep = np.zeros(shape[0] * shape[1], bool)
        keep[np.arange(count) if places is None else places] = good
        if not keep.any():
            return [Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool))] * outputs
        mask = kernels.both(mask, keep.reshape(shape))
    return [Pixels(_assembled(parts, places, count, shape), mask) for parts in found]


def _assembled(
    parts: list[tuple[Any, Array]], places: Array | None, count: int, shape: tuple[int, int]
) -> Array:
    if len(parts) == 1:
        at, stack = parts[0]
        flat = packed(stack)
        if places is None and isinstance(at, slice) and len(flat) == shape[0] * shape[1]:
            return flat.reshape(shape)
        out = np.zeros(shape[0] * shape[1], flat.dtype)
        out[_where(at, places)] = flat
        return out.reshape(shape)
    if all(stack.ndim == 1 for _, stack in parts):
        out = np.zeros(shape[0] * shape[1], np.result_type(*(stack for _, stack in parts)))
        for at, stack in parts:
            out[_where(at, places)] = stack
        return out.reshape(shape)
    first = parts[0][1]
    if all(stack.shape[1:] == first.shape[1:] for _, stack in parts[1:]) and first.size:
        kind = np.result_type(*(stack for _, stack in parts))
        whole = np.zeros((shape[0] * shape[1], *first.shape[1:]), kind)
        for at, stack in parts:
            whole[_where(at, places)] = stack
        return packed(whole).reshape(shape)
    total = shape[0] * shape[1]
    return ragged([(_where(at, places), stack) for at, stack in parts], total).reshape(shape)


def _where(at: Any, places: Array | None) -> Any:
    if places is None:
        return at
    return places[at]


class ArrayNode(Node):
    """A function of stacks of arrays, pixel by pixel.

    Parameters
    ----------
    function : (stack, ...) -> results, or (results, ok)
        As :func:`apply` takes it.
    inputs : sequence of Band
    outputs : int
    masks : sequence of int, optional
        Inputs whose mask counts; all by default.
    """

    pixelwise = True
    __slots__ = ("function", "masks", "origin", "outputs")

    def __init__(
        self,
        function: Function,
        inputs: Sequence[Band],
        outputs: int = 1,
        masks: Sequence[int] | None = None,
    ) -> None:
        super().__init__(inputs)
        self.function = function
        self.outputs = outputs
        self.masks = masks
        self.origin = ""

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        got = [context.read(b, window) for b in self.inputs]
        try:
            return apply(self.function, got, window.shape, self.outputs, self.masks)
        except EngineError as problem:
            if self.origin:
                problem.locate(self.origin)
            raise


def located(bands: Sequence[Band], origin: str) -> None:
    """Let what goes wrong with the pixels of new bands name the function that made them."""
    for band in bands:
        node = band.node
        if isinstance(node, ArrayNode) and not node.origin:
            node.origin = origin


def array_function(*names: str) -> Callable[[F], F]:
    """Register a function that returns an image, under ids that its pixels' errors name."""
    from .functions.registry import function

    def register(call: F) -> F:
        for name in names:

            def run(*arguments: Any, name: str = name) -> Any:
                made = call(*arguments)
                located(made.bands, name)
                return made

            function(name)(run)
        return call

    return register


def refuse_arrays(bands: Sequence[Band]) -> None:
    """Refuse bands of arrays where only numbers can be written."""
    for band in bands:
        if band.type.dimensions:
            raise EngineError(
                f"Band '{band.id}' holds arrays of {band.type.dimensions} dimension(s), which "
                "cannot be written or shown: make bands of numbers with arrayGet or arrayFlatten."
            )
