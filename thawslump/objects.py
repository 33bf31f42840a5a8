"""Scores of mapped outlines: which slumps were found as objects, and how well edges lie.

Pixel scores are ruled by the largest slumps. Here every slump counts once, and edges are measured
in metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse

__all__ = [
    "FEWEST",
    "BoundaryScores",
    "Matches",
    "ObjectScores",
    "boundary",
    "boundary_blocks",
    "boundary_f1",
    "boundary_scores",
    "label_objects",
    "match",
    "object_blocks",
    "object_f1",
    "object_scores",
    "outline_record",
    "threshold_table",
]

FEWEST = 10
"""Below this number of slumps a share of them says nothing: counts stand alone."""

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Mask = NDArray[np.bool_]
Ids = NDArray[np.int32]

_SQUARE = np.ones((3, 3), dtype=int)


def label_objects(mask: Mask, *, smallest: int = 1) -> Ids:
    """Return the number of the object that each pixel belongs to.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
    smallest : int
        Objects of fewer pixels are left out.

    Returns
    -------
    ndarray of int32, shape (y, x)
        0 outside; 1, 2 ... for objects whose pixels touch by sides or corners.

    Examples
    --------
    >>> label_objects(np.array([[1, 0, 1, 1], [0, 0, 0, 1]], bool), smallest=2).tolist()
    [[0, 0, 1, 1], [0, 0, 0, 1]]
    """
    ids, count = ndimage.label(mask, structure=_SQUARE)
    keep = np.bincount(ids.ravel(), minlength=count + 1) >= smallest
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype("int32")
    return np.asarray(numbers[ids])


@dataclass(frozen=True)
class Matches:
    """Which mapped object is which slump.

    Attributes
    ----------
    mapped, true : ndarray of int64, shape (matches,)
        Numbers of the objects (from 1) that were matched, in the order of `true`.
    iou : ndarray of float64, shape (matches,)
    """

    mapped: NDArray[np.int64]
    true: NDArray[np.int64]
    iou: NDArray[np.float64]


@dataclass(frozen=True)
class _Overlaps:
    """Pairs of objects that share pixels."""

    mapped: NDArray[np.int64]
    true: NDArray[np.int64]
    shared: NDArray[np.int64]
    sizes_mapped: NDArray[np.int64]
    sizes_true: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        together = self.sizes_mapped[self.mapped] + self.sizes_true[self.true] - self.shared
        return np.asarray(self.shared / together)


def _overlaps(mapped: Ids, true: Ids) -> _Overlaps:
    if mapped.shape != true.shape:
        raise ValueError(f"maps of {mapped.shape} and {true.shape} are not of the same ground")
    count = int(true.max(initial=0)) + 1
    both = (mapped > 0) & (true > 0)
    pairs, shared = np.unique(mapped[both].astype("int64") * count + true[both], return_counts=True)
    return _Overlaps(
        np.asarray(pairs // count, dtype="int64"),
        np.asarray(pairs % count, dtype="int64"),
        shared,
        np.bincount(mapped.ravel(), minlength=int(mapped.max(initial=0)) + 1),
        np.bincount(true.ravel(), minlength=count),
    )


def match(mapped: Ids, true: Ids, *, threshold: float = 0.5) -> Matches:
    """Match mapped objects with slumps one to one.

    Of all ways, the one with the most pairs of an IoU of at least `threshold`, and of those the
    one with the largest sum of IoU (linear assignment, group by group of objects that overlap).

    Parameters
    ----------
    mapped, true : ndarray of int, shape (y, x)
        Numbers of objects, 0 outside; see `label_objects`.
    threshold : float
        Above 0.

    Returns
    -------
    Matches

    Examples
    --------
    >>> found = match(np.array([[1, 1, 0, 2]]), np.array([[1, 1, 1, 0]]))
    >>> found.mapped.tolist(), found.true.tolist(), found.iou.round(2).tolist()
    ([1], [1], [0.67])
    """
    return _assign(_overlaps(mapped, true), threshold)


def _assign(found: _Overlaps, threshold: float) -> Matches:
    if not 0 < threshold <= 1:
        raise ValueError(f"the IoU of a match is above 0 and at most 1, not {threshold}")
    iou = found.iou
    enough = iou >= threshold
    mapped, true, iou = found.mapped[enough], found.true[enough], iou[enough]
    chosen: list[int] = []
    size_a, size_b = len(found.sizes_mapped), len(found.sizes_true)
    graph = sparse.coo_matrix(
        (np.ones(len(iou)), (mapped, size_a + true)), shape=(size_a + size_b,) * 2
    )
    _, group = sparse.csgraph.connected_components(graph, directed=False)
    order = np.argsort(group[mapped], kind="stable")
    starts = np.flatnonzero(np.diff(group[mapped][order], prepend=-1))
    for pairs in np.split(order, starts[1:]) if order.size else []:
        if len(pairs) == 1:
            chosen.append(int(pairs[0]))
            continue
        a, row = np.unique(mapped[pairs], return_inverse=True)
        b, column = np.unique(true[pairs], return_inverse=True)
        gain = np.zeros((len(a), len(b)))
        # One pair more outweighs any sum of IoU.
        gain[row, column] = 1 + iou[pairs] / (min(len(a), len(b)) + 1)
        which = np.full(gain.shape, -1)
        which[row, column] = pairs
        rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
        chosen += [int(pair) for pair in which[rows, columns] if pair >= 0]
    picked = np.array(chosen, dtype=int)
    picked = picked[np.argsort(true[picked], kind="stable")]
    return Matches(mapped[picked], true[picked], iou[picked])


@dataclass(frozen=True)
class ObjectScores:
    """What a map got right, each slump counted once.

    Attributes
    ----------
    threshold : float
        Least IoU of a match.
    tp, fp, fn : int
        Matched slumps; mapped objects that match none; slumps that none matches.
    precision, recall, f1 : float
        NaN where not defined.
    mean_iou : float
        Of the matched; NaN without any.
    splits : int
        Slumps that fell into two or more mapped objects, each with most of its pixels in it.
    merges : int
        Mapped objects that hold most of the pixels of two or more slumps.
    touched : int
        Slumps of which at least one pixel is mapped.
    """

    threshold: float
    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float
    mean_iou: float
    splits: int
    merges: int
    touched: int

    def as_dict(self, fewest: int = FEWEST) -> dict[str, float | int | None]:
        """Return the fields for JSON: with fewer than `fewest` slumps, counts alone.

        Examples
        --------
        >>> both = np.array([[1, 0, 2]])
        >>> object_scores(both, both).as_dict()["f1"] is None
        True
        """
        enough = self.tp + self.fn >= fewest
        shares = {
            name: _or_none(getattr(self, name)) if enough else None
            for name in ("precision", "recall", "f1", "mean_iou")
        }
        return {
            "iou_of_a_match": self.threshold,
            "slumps": self.tp + self.fn,
            "mapped": self.tp + self.fp,
            "matched": self.tp,
            **shares,
            "splits": self.splits,
            "merges": self.merges,
            "touched": self.touched,
        }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def object_scores(mapped: Ids, true: Ids, *, threshold: float = 0.5) -> ObjectScores:
    """Return the object scores of a map.

    Parameters
    ----------
    mapped, true : ndarray of int, shape (y, x)
        Numbers of objects, 0 outside; see `label_objects`. Pixels that nobody looked at are 0 in
        both.
    threshold : float
        Least IoU of a match.

    Returns
    -------
    ObjectScores

    Examples
    --------
    >>> object_scores(np.array([[1, 1, 0, 2]]), np.array([[1, 1, 1, 0]])).f1
    0.6666666666666666
    """
    return _scores(_overlaps(mapped, true), threshold)


def _scores(found: _Overlaps, threshold: float) -> ObjectScores:
    pairs = _assign(found, threshold)
    # Objects may have been left out of the numbering's middle: empty numbers are none.
    mapped = int((found.sizes_mapped[1:] > 0).sum())
    true = int((found.sizes_true[1:] > 0).sum())
    tp = len(pairs.true)
    pieces = found.true[2 * found.shared > found.sizes_mapped[found.mapped]]
    swallowed = found.mapped[2 * found.shared > found.sizes_true[found.true]]
    return ObjectScores(
        threshold=threshold,
        tp=tp,
        fp=mapped - tp,
        fn=true - tp,
        precision=_share(tp, mapped),
        recall=_share(tp, true),
        f1=_share(2 * tp, mapped + true),
        mean_iou=float(pairs.iou.mean()) if tp else float("nan"),
        splits=int((np.bincount(pieces, minlength=1) > 1).sum()),
        merges=int((np.bincount(swallowed, minlength=1) > 1).sum()),
        touched=int(np.unique(found.true).size),
    )


def threshold_table(
    mapped: Ids, true: Ids, thresholds: Sequence[float] = THRESHOLDS
) -> list[ObjectScores]:
    """Return the object scores at several least IoU of a match, in the order given."""
    found = _overlaps(mapped, true)
    return [_scores(found, threshold) for threshold in thresholds]


def object_blocks(
    mapped: Ids, true: Ids, blocks: NDArray[np.integer[Any]], *, threshold: float = 0.5
) -> NDArray[np.int64]:
    """Count matched, falsely mapped and missed objects in each block of ground.

    Parameters
    ----------
    mapped, true : ndarray of int, shape (y, x)
    blocks : ndarray of int, shape (y, x)
        Number of the block of each pixel, from 0.
    threshold : float

    Returns
    -------
    ndarray of int64, shape (blocks, 3)
        Matches, false objects, misses; an object counts where its middle pixel lies (the one
        nearest to its centre), a match where the slump lies. Row k is block k.

    Examples
    --------
    >>> object_blocks(np.array([[1, 1, 0, 2]]), np.array([[1, 1, 1, 0]]), np.array([[0, 0, 1, 1]]))
    array([[1, 0, 0],
           [0, 1, 0]])
    """
    pairs = match(mapped, true, threshold=threshold)
    count = int(blocks.max()) + 1
    out = np.zeros((count, 3), dtype="int64")
    for ids, matched, columns in ((true, pairs.true, (0, 2)), (mapped, pairs.mapped, (None, 1))):
        numbers, where = _middles(ids, blocks)
        hit = np.isin(numbers, matched)
        for chosen, column in ((hit, columns[0]), (~hit, columns[1])):
            if column is not None:
                out[:, column] += np.bincount(where[chosen], minlength=count)
    return out


def _middles(ids: Ids, place: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the objects, and the value of `place` at the middle of each."""
    rows, columns = np.nonzero(ids)
    numbers, inverse, sizes = np.unique(ids[rows, columns], return_inverse=True, return_counts=True)
    if not numbers.size:
        return np.zeros(0, "int64"), np.zeros(0, "int64")
    middle = [np.bincount(inverse, weights=axis) / sizes for axis in (rows, columns)]
    away = (rows - middle[0][inverse]) ** 2 + (columns - middle[1][inverse]) ** 2
    order = np.lexsort((away, inverse))
    first = order[np.flatnonzero(np.diff(inverse[order], prepend=-1))]
    return numbers.astype("int64"), place[rows[first], columns[first]]


def object_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 of matches, false objects and misses in the last axis; NaN without any.

    Examples
    --------
    >>> float(object_f1(np.array([2, 1, 1])))
    0.6666666666666666
    """
    tp, fp, fn = (np.asarray(counts[..., i], dtype="float64") for i in range(3))
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * tp / (2 * tp + fp + fn))


def boundary(mask: Mask, counted: Mask | None = None) -> Mask:
    """Return the outermost pixels of the objects of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
    counted : ndarray of bool, optional
        Pixels that were looked at. An edge that meets others (by a side or a corner) is the edge
        of the view, not of a slump, and is left out; so is the edge of the raster.

    Returns
    -------
    ndarray of bool, shape (y, x)
        Pixels of the mask that touch ground by a side.

    Examples
    --------
    >>> boundary(np.array([[0, 1, 1, 1, 0], [0, 1, 1, 1, 0]], bool)).astype(int).tolist()
    [[0, 1, 0, 1, 0], [0, 1, 0, 1, 0]]
    """
    shown = np.asarray(mask, dtype=bool)
    edge = shown & ~ndimage.binary_erosion(shown, border_value=1)
    if counted is not None and not counted.all():
        edge &= ndimage.binary_erosion(counted, structure=_SQUARE, border_value=1)
    return np.asarray(edge)


@dataclass(frozen=True)
class BoundaryScores:
    """How well the edges of a map lie.

    Attributes
    ----------
    tolerance : float
        Metres.
    precision, recall, f1 : float
        Share of the mapped edge within the tolerance of a true one; of the true edge within that
        of a mapped one; their harmonic mean. NaN where there is no such edge.
    mean, p95, hausdorff : float
        Metres from an edge pixel of one map to the nearest of the other, of both maps together:
        mean, 95 % quantile, largest. NaN where one has no edge.
    mapped, true : int
        Edge pixels.
    """

    tolerance: float
    precision: float
    recall: float
    f1: float
    mean: float
    p95: float
    hausdorff: float
    mapped: int
    true: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the fields for JSON; null where not defined."""
        return {
            "tolerance_m": self.tolerance,
            "precision": _or_none(self.precision),
            "recall": _or_none(self.recall),
            "f1": _or_none(self.f1),
            "mean_m": _or_none(self.mean),
            "p95_m": _or_none(self.p95),
            "hausdorff_m": _or_none(self.hausdorff),
            "mapped_edge_pixels": self.mapped,
            "true_edge_pixels": self.true,
        }


def _distances(
    mapped: Mask, true: Mask, counted: Mask | None, resolution: float
) -> tuple[Mask, Mask, NDArray[np.float64], NDArray[np.float64]]:
    """Return both edges, and the metres from each mapped edge pixel to a true one and back."""
    if mapped.shape != true.shape:
        raise ValueError(f"maps of {mapped.shape} and {true.shape} are not of the same ground")
    edges = boundary(mapped, counted), boundary(true, counted)
    ways = []
    for own, other in (edges, edges[::-1]):
        if other.any():
            # Whole pixels first: a distance of just the tolerance must not fall to rounding.
            ways.append(ndimage.distance_transform_edt(~other)[own] * resolution)
        else:
            ways.append(np.full(int(own.sum()), np.inf))
    return edges[0], edges[1], ways[0], ways[1]


def boundary_scores(
    mapped: Mask,
    true: Mask,
    *,
    tolerance: float,
    resolution: float,
    counted: Mask | None = None,
) -> BoundaryScores:
    """Return how well the edges of a map lie.

    Parameters
    ----------
    mapped, true : ndarray of bool, shape (y, x)
    tolerance : float
        Metres; twice the resolution is usual: the outlines themselves are no better.
    resolution : float
        Side of a pixel in metres.
    counted : ndarray of bool, optional
        Pixels that were looked at, see `boundary`.

    Returns
    -------
    BoundaryScores

    Examples
    --------
    >>> true = np.zeros((5, 8), bool); true[1:4, 2:5] = True
    >>> found = boundary_scores(np.roll(true, 1, 1), true, tolerance=10, resolution=10)
    >>> found.f1, found.hausdorff
    (1.0, 10.0)
    """
    _, _, there, back = _distances(mapped, true, counted, resolution)
    return _boundary(there, back, tolerance)


def _boundary(
    there: NDArray[np.float64], back: NDArray[np.float64], tolerance: float
) -> BoundaryScores:
    reach = tolerance * (1 + 1e-9)
    both = np.concatenate([there, back])
    known = bool(there.size and back.size)
    hits, found = int((there <= reach).sum()), int((back <= reach).sum())
    precision, recall = _share(hits, there.size), _share(found, back.size)
    return BoundaryScores(
        tolerance=tolerance,
        precision=precision,
        recall=recall,
        f1=float(boundary_f1(np.array([hits, there.size, found, back.size]))),
        mean=float(both.mean()) if known else float("nan"),
        p95=float(np.quantile(both, 0.95)) if known else float("nan"),
        hausdorff=float(both.max()) if known else float("nan"),
        mapped=int(there.size),
        true=int(back.size),
    )


def boundary_blocks(
    mapped: Mask,
    true: Mask,
    blocks: NDArray[np.integer[Any]],
    *,
    tolerance: float,
    resolution: float,
    counted: Mask | None = None,
) -> NDArray[np.int64]:
    """Count edge pixels that lie right, and all of them, in each block of ground.

    Returns
    -------
    ndarray of int64, shape (blocks, 4)
        Mapped edge pixels within the tolerance, all mapped ones, true ones within it, all true
        ones; row k is block k.
    """
    return _in_blocks(_distances(mapped, true, counted, resolution), blocks, tolerance)


def _in_blocks(
    found: tuple[Mask, Mask, NDArray[np.float64], NDArray[np.float64]],
    blocks: NDArray[np.integer[Any]],
    tolerance: float,
) -> NDArray[np.int64]:
    edge, true_edge, there, back = found
    count = int(blocks.max()) + 1
    reach = tolerance * (1 + 1e-9)
    out = np.zeros((count, 4), dtype="int64")
    for first, (own, metres) in enumerate(((edge, there), (true_edge, back))):
        where = blocks[own]
        out[:, 2 * first] = np.bincount(where[metres <= reach], minlength=count)
        out[:, 2 * first + 1] = np.bincount(where, minlength=count)
    return out


def boundary_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return boundary F1 of counts as `boundary_blocks` gives them, in the last axis.

    Returns
    -------
    ndarray of float64
        0 where only one of the maps has edges, NaN where none has.

    Examples
    --------
    >>> boundary_f1(np.array([[1, 2, 2, 2], [0, 3, 0, 0]])).round(3).tolist()
    [0.667, 0.0]
    """
    hits, mapped, found, true = (np.asarray(counts[..., i], dtype="float64") for i in range(4))
    precision = np.divide(hits, mapped, out=np.zeros_like(hits), where=mapped > 0)
    recall = np.divide(found, true, out=np.zeros_like(found), where=true > 0)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.where(mapped + true > 0, f1, np.nan)


def outline_record(
    mapped: Sequence[Mask],
    labels: Sequence[NDArray[np.uint8]],
    *,
    resolution: float,
    block: int = 64,
    threshold: float = 0.5,
    tolerance: float | None = None,
    smallest: int = 1,
    interval: Callable[[NDArray[Any], Callable[[NDArray[Any]], NDArray[np.float64]]], Any]
    | None = None,
) -> dict[str, Any]:
    """Return object and boundary scores over several maps, for a metrics file.

    Parameters
    ----------
    mapped : sequence of ndarray of bool, shape (y, x)
    labels : sequence of ndarray of uint8, shape (y, x)
        1 slump, 0 not; elsewhere nothing counts.
    resolution : float
        Metres.
    block : int
        Side of the blocks of the intervals in pixels.
    threshold : float
        Least IoU of a match.
    tolerance : float, optional
        Of edges in metres; two pixels where not given.
    smallest : int
        Objects of fewer pixels are left out, mapped or true.
    interval : callable, optional
        (counts by block, score of counts) -> (low, high); `trainer.metrics.bootstrap` is one.

    Returns
    -------
    dict
        "objects" with scores, an interval of F1 (from ten slumps on), and the counts at other
        least IoU; "boundary" with scores and an interval of F1.

    Examples
    --------
    >>> truth = np.zeros((8, 8), "uint8"); truth[2:5, 2:5] = 1
    >>> found = outline_record([truth == 1], [truth], resolution=10)
    >>> found["objects"]["matched"], found["objects"]["f1"], found["boundary"]["f1"]
    (1, None, 1.0)
    """
    from thawslump.scores import block_ids

    reach = 2 * resolution if tolerance is None else tolerance
    tables, counts, edges = [], [], []
    ways: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for each, marks in zip(mapped, labels, strict=True):
        counted = marks <= 1
        shown, true = np.asarray(each, bool) & counted, marks == 1
        a, b = label_objects(shown, smallest=smallest), label_objects(true, smallest=smallest)
        tables.append(threshold_table(a, b, (threshold, *THRESHOLDS)))
        blocks = block_ids(marks.shape, block)
        counts.append(object_blocks(a, b, blocks, threshold=threshold))
        found = _distances(shown, true, counted, resolution)
        edges.append(_in_blocks(found, blocks, reach))
        ways.append(found[2:])
    pooled = [_pooled(column) for column in zip(*tables, strict=True)]
    there, back = (np.concatenate(way) for way in zip(*ways, strict=True))
    objects: dict[str, Any] = pooled[0].as_dict()
    objects["table"] = [
        {"iou": row.threshold, "matched": row.tp, "false": row.fp, "missed": row.fn}
        for row in pooled[1:]
    ]
    edge: dict[str, Any] = _boundary(there, back, reach).as_dict()
    if interval is not None:
        if pooled[0].tp + pooled[0].fn >= FEWEST:
            objects["f1_interval"] = _ends(interval(np.concatenate(counts), object_f1))
        if edge["f1"] is not None:
            edge["f1_interval"] = _ends(interval(np.concatenate(edges), boundary_f1))
    return {"objects": objects, "boundary": edge}


def _ends(ends: tuple[float, float]) -> dict[str, float | None]:
    return {"low": _or_none(ends[0]), "high": _or_none(ends[1])}


def _pooled(parts: Sequence[ObjectScores]) -> ObjectScores:
    """Return the scores of several maps together."""
    tp, fp, fn, splits, merges, touched = (
        sum(getattr(part, name) for part in parts)
        for name in ("tp", "fp", "fn", "splits", "merges", "touched")
    )
    matched = sum(part.mean_iou * part.tp for part in parts if part.tp)
    return ObjectScores(
        threshold=parts[0].threshold,
        tp=tp,
        fp=fp,
        fn=fn,
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        f1=_share(2 * tp, 2 * tp + fp + fn),
        mean_iou=_share(matched, tp),
        splits=splits,
        merges=merges,
        touched=touched,
    )
