"""Patches of connected pixels of one value."""

from __future__ import annotations

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import HaloNode, Image
from ..pixels import Array, Pixels
from ..projection import Window
from ..reducers import Reducer
from ..types import PixelType
from .focal import inner
from .kernels import Kernel
from .registry import function

__all__ = ["EIGHT", "FOUR", "labelled"]


def labelled(data: Array, ok: Array | None, structure: Array) -> tuple[Array, int]:
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


EIGHT = np.ones((3, 3), int)
FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@function("Image.connectedPixelCount")
def connected_pixel_count(image: Image, most: int, eight: bool) -> Image:
    """Return the size of the patch of equal pixels, up to ``most``."""
    structure = EIGHT if eight else FOUR

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        ok = kernels.valid(pixels.mask)
        labels, _ = labelled(pixels.data, ok, structure)
        sizes = np.minimum(np.bincount(labels.ravel()), most)
        sizes[0] = 0
        # A patch of fewer pixels than the border is wide cannot reach beyond it unseen.
        found = sizes[labels][most:-most, most:-most]
        return [Pixels(found, inner(ok, most))]

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
        labels, count = labelled(pixels.data, ok, structure)
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
        found, count = labelled(marks.data, kernels.valid(marks.mask), EIGHT)
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
