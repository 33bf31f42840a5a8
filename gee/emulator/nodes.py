"""Nodes of lazy images: functions of values, of places, of neighbourhoods and of blocks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from . import kernels
from .budget import tick
from .errors import EngineError
from .pixels import Array, Band, Context, Node, Pixels
from .projection import Projection, Window
from .types import PixelType

__all__ = [
    "AnyPixelsNode",
    "BlockNode",
    "ConstantNode",
    "HaloNode",
    "MapNode",
    "PixelsNode",
    "WindowNode",
    "full",
    "only_numbers",
]


class ConstantNode(Node):
    """One value everywhere."""

    __slots__ = ("pixels",)

    def __init__(self, value: int | float, kind: PixelType, valid: bool = True) -> None:
        super().__init__()
        mask = None if valid else np.zeros((1, 1), bool)
        self.pixels = Pixels(np.full((1, 1), value, kind.dtype), mask)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        return (self.pixels,)


def only_numbers(bands: Sequence[Band]) -> Sequence[Band]:
    """Return bands of numbers; bands of arrays are refused."""
    for band in bands:
        if band.type.dimensions:
            raise EngineError(
                f"Band '{band.id}' holds arrays of {band.type.dimensions} dimension(s); expected "
                "numbers."
            )
    return bands


class MapNode(Node):
    """A function of the values of its inputs, pixel by pixel; valid where all inputs are."""

    pixelwise = True
    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Array], inputs: Sequence[Band]) -> None:
        super().__init__(only_numbers(inputs))
        self.function = function

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        got = [context.read(b, window) for b in self.inputs]
        mask = got[0].mask
        for pixels in got[1:]:
            mask = kernels.both(mask, pixels.mask)
        return (Pixels(self.function(*(p.data for p in got)), mask),)


class PixelsNode(Node):
    """A function of values and masks of its inputs, pixel by pixel, with several results."""

    arrays = False
    pixelwise = True
    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Sequence[Pixels]], inputs: Sequence[Band]) -> None:
        super().__init__(inputs if self.arrays else only_numbers(inputs))
        self.function = function

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        # Lists, not generators: those would go through C, and deep graphs through its stack.
        return self.function(*[context.read(b, window) for b in self.inputs])


class AnyPixelsNode(PixelsNode):
    """The same for functions that move pixels whole, be they numbers or arrays."""

    arrays = True
    __slots__ = ()


class WindowNode(Node):
    """A function of the place: coordinates, areas, painted shapes."""

    pixelwise = True
    __slots__ = ("function",)

    def __init__(
        self, function: Callable[..., Sequence[Pixels]], inputs: Sequence[Band] = ()
    ) -> None:
        super().__init__(only_numbers(inputs))
        self.function = function

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        return self.function(window, *[context.read(b, window) for b in self.inputs])


class HaloNode(Node):
    """A function of a neighbourhood: inputs are read with a border.

    Parameters
    ----------
    function : (window, padded pixels...) -> results
    inputs : sequence of Band
    halo : int or function of the projection
        Pixels on every side; a function where it depends on the scale.
    """

    __slots__ = ("function", "halo", "reach")

    def __init__(
        self,
        function: Callable[..., Sequence[Pixels]],
        inputs: Sequence[Band],
        halo: int | Callable[[Projection], int],
    ) -> None:
        super().__init__(only_numbers(inputs))
        self.function = function
        self.reach = halo
        self.halo = halo if isinstance(halo, int) else 0

    def border(self, projection: Projection) -> int:
        """Return the pixels that it reads beyond a window of a projection."""
        return self.reach if isinstance(self.reach, int) else self.reach(projection)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        wide = window.pad(self.border(window.projection))
        return self.function(window, *[full(context.read(b, wide), wide) for b in self.inputs])


class BlockNode(Node):
    """A function of aligned blocks of the lattice.

    For results that would depend on where a window begins: paths that may lead anywhere,
    planes laid through a region. Blocks are computed one at a time, however many threads ask,
    and the last ones are kept, as neighbouring tiles share them.

    Parameters
    ----------
    function : (context, block window, inputs) -> results on the block
    inputs : sequence of Band
    kinds : sequence of PixelType
        Of the results.
    """

    side = 256
    __slots__ = ("_kept", "_lock", "function", "kinds")

    def __init__(
        self,
        function: Callable[[Context, Window, Sequence[Band]], Sequence[Pixels]],
        inputs: Sequence[Band],
        kinds: Sequence[PixelType],
    ) -> None:
        super().__init__(only_numbers(inputs))
        self.function = function
        self.kinds = tuple(kinds)
        self._kept: OrderedDict[Window, Sequence[Pixels]] = OrderedDict()
        self._lock = threading.Lock()

    def _block(self, context: Context, block: Window) -> Sequence[Pixels]:
        with self._lock:
            found = self._kept.get(block)
            if found is None:
                tick()
                made = self.function(context, block, self.inputs)
                found = self._kept[block] = [full(p, block) for p in made]
                while len(self._kept) > 16:
                    self._kept.popitem(last=False)
            return found

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        out = [
            Pixels(np.zeros(window.shape, kind.dtype), np.zeros(window.shape, bool))
            for kind in self.kinds
        ]
        for block, part in window.blocks(self.side):
            here, there = part.within(block), part.within(window)
            for target, got in zip(out, self._block(context, block), strict=True):
                target.data[there] = got.data[here]
                assert target.mask is not None
                target.mask[there] = True if got.mask is None else got.mask[here]
        return out


def full(pixels: Pixels, window: Window) -> Pixels:
    """Return pixels whose arrays have the window's shape."""
    data = pixels.data
    if data.shape != window.shape:
        data = np.broadcast_to(data, window.shape)
    mask = pixels.mask
    if mask is not None and mask.shape != window.shape:
        mask = np.broadcast_to(mask, window.shape)
    return Pixels(data, mask)
