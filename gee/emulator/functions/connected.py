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

EIGHT = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Half of the neighbours (row, column) that touch at an edge or a corner."""
FOUR = ((0, 1), (1, 0))
"""Half of the neighbours that share an edge."""

Steps = tuple[tuple[int, int], ...]


def labelled(data: Array, ok: Array | None, steps: Steps) -> tuple[Array, int]:
    """Number the patches of connected pixels of one value.

    Parameters
    ----------
    data : (h, w)
    ok : bool (h, w), optional
        Pixels that count.
    steps : tuple of (row, column)
        Neighbours that are connected; each stands for its opposite too.

    Returns
    -------
    labels : int32 or int64 (h, w)
        From 1 on, in the order of the first pixels; 0 where nothing counts.
    count : int

    Examples
    --------
    >>> labelled(np.array([[5, 5, 7], [7, 7, 5]]), None, FOUR)[0].tolist()
    [[1, 1, 2], [3, 3, 4]]
    >>> labelled(np.array([[5, 5, 7], [7, 7, 5]]), None, EIGHT)[0].tolist()
    [[1, 1, 2], [2, 2, 1]]
    """
    if ok is not None and not ok.any():
        return np.zeros(data.shape, np.int64), 0
    if steps in (EIGHT, FOUR):
        from skimage.measure import label

        if data.dtype.kind in "iu" and data.dtype.itemsize <= 2:
            codes = data.astype(np.int32) + (1 - int(np.iinfo(data.dtype).min))
        else:
            codes = np.unique(data, return_inverse=True)[1].reshape(data.shape).astype(np.int32) + 1
        if ok is not None:
            codes[~ok] = 0
        found, count = label(
            codes, background=0, return_num=True, connectivity=1 if steps == FOUR else 2
        )
        return found, int(count)
    return _by_graph(data, np.ones(data.shape, bool) if ok is None else ok, steps)


def _by_graph(data: Array, valid: Array, steps: Steps) -> tuple[Array, int]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    h, w = data.shape
    number = np.arange(h * w).reshape(h, w)
    one, two = [], []
    for dr, dc in steps:
        if abs(dr) >= h or abs(dc) >= w:
            continue
        here = np.s_[max(-dr, 0) : h - max(dr, 0), max(-dc, 0) : w - max(dc, 0)]
        there = np.s_[max(dr, 0) : h + min(dr, 0), max(dc, 0) : w + min(dc, 0)]
        same = (data[here] == data[there]) & valid[here] & valid[there]
        one.append(number[here][same])
        two.append(number[there][same])
    a, b = (np.concatenate(x) if x else np.zeros(0, int) for x in (one, two))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(h * w, h * w))
    found = connected_components(graph, directed=False)[1]
    # Numbered anew in the order of the first pixels, masked ones left out.
    on = valid.ravel()
    first, inverse = np.unique(found[on], return_index=True, return_inverse=True)[1:]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    labels = np.zeros(h * w, np.int64)
    labels[on] = rank[inverse]
    return labels.reshape(h, w), len(first)


@function("Image.connectedPixelCount")
def connected_pixel_count(image: Image, most: int, eight: bool) -> Image:
    """Return the size of the patch of equal pixels, up to ``most``."""
    steps = EIGHT if eight else FOUR
    most = _checked(most)

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        ok = kernels.valid(pixels.mask)
        labels, _ = labelled(pixels.data, ok, steps)
        sizes = np.minimum(np.bincount(labels.ravel()), most)
        sizes[0] = 0
        # A patch of fewer pixels than the border is wide cannot reach beyond it unseen.
        found = sizes[labels[most:-most, most:-most]]
        return [Pixels(found, inner(ok, most))]

    kind = PixelType("int", 1, most)
    return image.with_bands([b.computed(kind, HaloNode(compute, [b], most)) for b in image.bands])


def _checked(most: int) -> int:
    if most < 1:
        raise EngineError(f"maxSize must be positive, not {most}.")
    return most


def _steps(kernel: Kernel) -> tuple[Steps, int]:
    """Return the neighbours that a kernel connects a pixel with, and how far they reach."""
    weights, centre = kernel.built()
    found = set()
    for r, c in zip(*np.nonzero(weights), strict=True):
        step = int(r) - centre[0], int(c) - centre[1]
        # Connections go both ways, so the half after the pixel itself is enough.
        found.add(max(step, (-step[0], -step[1])))
    found.discard((0, 0))
    ordered: Steps = tuple(sorted(found))
    return ordered, kernels.reach_of(weights, centre)


@function("Image.connectedComponents")
def connected_components(image: Image, kernel: Kernel, most: int) -> Image:
    """Label patches of equal pixels; larger ones are masked ([A]).

    A label is the number of the patch's first pixel on the output lattice, so it is the same
    in every tile.
    """
    steps, reach = _steps(kernel)
    border = _checked(most) * max(reach, 1)

    def compute(window: Window, pixels: Pixels) -> list[Pixels]:
        ok = kernels.valid(pixels.mask)
        labels, count = labelled(pixels.data, ok, steps)
        flat = labels.ravel()
        sizes = np.bincount(flat, minlength=count + 1)
        first = np.full(count + 1, -1, np.int64)
        order = np.arange(flat.size - 1, -1, -1)
        first[flat[order]] = order
        rows, columns = np.divmod(first, pixels.data.shape[1])
        number = (rows + window.row - border + 2**31) % 2**31 * 2**31 + (
            columns + window.column - border + 2**31
        ) % 2**31
        keep = (sizes <= most) & (np.arange(count + 1) > 0)
        shown = labels[border:-border, border:-border]
        return [Pixels(number[shown], keep[shown])]

    source = image.bands[0]
    kind = PixelType("int", 0, 2**62)
    made = source.computed(kind, HaloNode(compute, [source], border)).renamed("labels")
    return image.with_bands([*image.bands, made])


@function("Image.reduceConnectedComponents")
def reduce_components(image: Image, reducer: Reducer, label: str | None, most: int) -> Image:
    """Reduce every band over the patches of a label band ([A]).

    Patches that are higher or wider than ``most`` pixels are masked: parts of them might lie
    beyond the neighbourhood.
    """
    if reducer.inputs != 1:
        raise EngineError("The reducer must have a single input.")
    labels = image.band(label) if label is not None else image.bands[0]
    others = [b for b in image.bands if b.id != labels.id]
    kinds = [k for b in others for k in reducer.types([b.type])]
    most = _checked(most)

    def compute(window: Window, marks: Pixels, *rest: Pixels) -> list[Pixels]:
        found, count = labelled(marks.data, kernels.valid(marks.mask), EIGHT)
        shown = found[most:-most, most:-most]
        keep = np.zeros(count + 1, bool)
        keep[np.unique(shown)] = True
        keep &= _extents(found, count) <= most
        keep[0] = False
        order = np.argsort(found.ravel(), kind="stable")
        sizes = np.bincount(found.ravel(), minlength=count + 1)
        ends = np.cumsum(sizes)
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
                picked = row[shown]
                out.append(Pixels(np.nan_to_num(picked), keep[shown] & np.isfinite(picked)))
        return out

    node = HaloNode(compute, [labels, *others], most)
    bands = []
    for i, b in enumerate(others):
        for k, output in enumerate(reducer.outputs):
            at = i * len(reducer.outputs) + k
            name = b.id if len(reducer.outputs) == 1 else f"{b.id}_{output}"
            bands.append(b.computed(kinds[at], node, at).renamed(name))
    return image.with_bands(bands)


def _extents(labels: Array, count: int) -> Array:
    """Return the larger of height and width of every patch, in pixels."""
    out = np.zeros(count + 1, np.int64)
    for axis in (0, 1):
        places = np.broadcast_to(
            np.arange(labels.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1)), labels.shape
        ).ravel()
        low = np.full(count + 1, np.iinfo(np.int64).max)
        high = np.full(count + 1, -1)
        np.minimum.at(low, labels.ravel(), places)
        np.maximum.at(high, labels.ravel(), places)
        out = np.maximum(out, high - low + 1)
    return out
