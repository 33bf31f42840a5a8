"""Scores of binary maps from counts, with intervals from resampling whole blocks of ground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEVELS",
    "Scores",
    "average_precision",
    "best_threshold",
    "block_counts",
    "bootstrap",
    "bootstrap_difference",
    "counts_at",
    "curve",
    "histogram",
    "mapped_at",
    "scores",
]

LEVELS = 10_000
"""Probabilities are compared as whole ten-thousandths, as the maps store them."""

Counts = NDArray[np.int64]
Metric = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class Scores:
    """What a map got right at one threshold.

    Attributes
    ----------
    precision, recall, f1, iou : float
    bias : float
        (TP + FP) / (TP + FN): how much more area is mapped than there is.
    tp, fp, fn, tn : int
        Pixels.
    """

    precision: float
    recall: float
    f1: float
    iou: float
    bias: float
    tp: int
    fp: int
    fn: int
    tn: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields by name."""
        return asdict(self)


def scores(counts: NDArray[Any]) -> Scores:
    """Return the scores of one set of counts.

    Parameters
    ----------
    counts : array_like of int, shape (4,)
        True positives, false positives, false negatives, true negatives.

    Returns
    -------
    Scores
        NaN where a score is not defined (no slump there: recall, bias; none mapped: precision).
        F1 and IoU are 0 where there are slumps and none is hit.

    Examples
    --------
    >>> scores(np.array([6, 2, 4, 88])).f1
    0.6666666666666666
    """
    tp, fp, fn, tn = (int(value) for value in np.asarray(counts))
    return Scores(
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        f1=_share(2 * tp, 2 * tp + fp + fn),
        iou=_share(tp, tp + fp + fn),
        bias=_share(tp + fp, tp + fn),
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def quantise(probability: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return probabilities as whole ten-thousandths."""
    return np.rint(np.asarray(probability, dtype="float64") * LEVELS).astype("int64")


def histogram(probability: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> Counts:
    """Count the pixels of each probability, for all thresholds at once.

    Parameters
    ----------
    probability : ndarray
        0..1; NaN (nodata) does not count.
    labels : ndarray of the same shape
        1 slump, 0 not; every other value does not count.

    Returns
    -------
    ndarray of int64, shape (2, LEVELS + 1)
        Row 0 pixels that are no slump, row 1 slumps. Histograms of tiles may be added.

    Examples
    --------
    >>> found = histogram(np.array([0.9, 0.2, 0.5]), np.array([1, 0, 255], dtype="uint8"))
    >>> found.sum(axis=1), int(found[1].argmax())
    (array([1, 1]), 9000)
    """
    counted = (labels <= 1) & np.isfinite(probability)
    place = labels[counted].astype("int64") * (LEVELS + 1) + quantise(probability[counted])
    return np.bincount(place, minlength=2 * (LEVELS + 1)).reshape(2, LEVELS + 1)


def counts_at(found: Counts, threshold: float) -> Counts:
    """Return (TP, FP, FN, TN) of a histogram where probability >= threshold is mapped as slump."""
    level = int(np.ceil(round(threshold * LEVELS, 6)))
    fp, tp = found[:, level:].sum(axis=1)
    tn, fn = found[:, :level].sum(axis=1)
    return np.array([tp, fp, fn, tn], dtype="int64")


def mapped_at(probability: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.bool_]:
    """Return where probability >= threshold, in the steps in which maps store it.

    Parameters
    ----------
    probability : ndarray
        0..1; NaN (nodata) is never mapped.
    threshold : float

    Returns
    -------
    ndarray of bool, same shape

    Examples
    --------
    >>> mapped_at(np.array([0.30001, 0.2999, np.nan]), 0.3).tolist()
    [True, False, False]
    """
    level = int(np.ceil(round(threshold * LEVELS, 6)))
    return np.asarray(quantise(np.nan_to_num(probability, nan=0.0)) >= max(1, level))


def curve(found: Counts) -> NDArray[np.float64]:
    """Return precision, recall and F1 at every level.

    Returns
    -------
    ndarray, shape (3, LEVELS + 1)
        Column k holds the scores of "probability >= k / LEVELS"; precision is 1 where nothing
        is mapped.
    """
    fp, tp = np.cumsum(found[:, ::-1], axis=1)[:, ::-1].astype("float64")
    positives = found[1].sum()
    mapped = tp + fp
    precision = np.divide(tp, mapped, out=np.ones_like(tp), where=mapped > 0)
    with np.errstate(invalid="ignore"):
        recall = tp / positives
        f1 = 2 * tp / (mapped + positives)
    return np.stack([precision, recall, f1])


def average_precision(found: Counts) -> float:
    """Return the average precision: precision weighted by the step in recall.

    Returns
    -------
    float
        Equals scikit-learn's on probabilities in whole ten-thousandths; NaN without slumps.
    """
    precision, recall, _ = curve(found)
    steps = -np.diff(np.append(recall, 0.0))
    return float((precision * steps).sum())


def best_threshold(found: Counts, tolerance: float = 0.02) -> float:
    """Return the middle of the thresholds whose F1 is as good as the best.

    Parameters
    ----------
    found : ndarray
        From `histogram`.
    tolerance : float
        How far below the best F1 a threshold may be to count as equally good. F1 over a
        validation site is uncertain by more than that, and the single best threshold jumps
        about on a flat top; the middle of the top does not.

    Returns
    -------
    float
        In whole ten-thousandths, above 0. Only the unbroken range around the best one counts.

    Examples
    --------
    >>> probability = np.array([0.1, 0.2, 0.7, 0.8])
    >>> best_threshold(histogram(probability, np.array([0, 0, 1, 1], dtype="uint8")))
    0.4501
    """
    # Level 0 maps everything; it is no threshold.
    f1 = curve(found)[2][1:]
    best = int(f1.argmax())
    worse = np.flatnonzero(f1 < f1[best] - tolerance)
    below, above = worse[worse < best], worse[worse > best]
    first = below[-1] + 1 if below.size else 0
    last = above[0] - 1 if above.size else len(f1) - 1
    return float(round(((first + last) / 2 + 1) / LEVELS, 4))


def block_counts(
    probability: NDArray[np.floating[Any]],
    labels: NDArray[np.uint8],
    threshold: float,
    block: int,
) -> Counts:
    """Count right and wrong pixels in each square block of a map.

    Parameters
    ----------
    probability : ndarray, shape (y, x)
        NaN is nodata and does not count.
    labels : ndarray of uint8, shape (y, x)
        1 slump, 0 not; every other value does not count.
    threshold : float
    block : int
        Side in pixels; longer than slumps and their neighbourhood are alike.

    Returns
    -------
    ndarray of int64, shape (blocks, 4)
        TP, FP, FN, TN; blocks without a counted pixel are left out.

    Examples
    --------
    >>> block_counts(np.array([[0.9, 0.1]]), np.array([[1, 0]], dtype="uint8"), 0.5, 1)
    array([[1, 0, 0, 0],
           [0, 0, 0, 1]])
    """
    rows, columns = np.indices(labels.shape) // block
    number = rows * (columns.max() + 1) + columns
    counted = (labels <= 1) & np.isfinite(probability)
    level = int(np.ceil(round(threshold * LEVELS, 6)))
    mapped = quantise(probability[counted]) >= level
    slump = labels[counted] == 1
    kind = np.select([mapped & slump, mapped & ~slump, ~mapped & slump], [0, 1, 2], 3)
    total = int(number.max()) + 1
    found = np.bincount(number[counted] * 4 + kind, minlength=4 * total).reshape(total, 4)
    return found[found.sum(axis=1) > 0]


def f1_of(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 of counts in the last axis (TP, FP, FN, TN); NaN where nothing is to be found."""
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * tp / (2 * tp + fp + fn), dtype="float64")


def _draws(blocks: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each block is drawn, shape (resamples, blocks)."""
    random = np.random.default_rng(seed)
    return random.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)


def _interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap(
    counts: Counts,
    metric: Metric = f1_of,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return an interval of a score from drawing whole blocks with replacement.

    Parameters
    ----------
    counts : ndarray, shape (blocks, 4)
        From `block_counts`; blocks of several maps may be stacked.
    metric : callable
        Counts in the last axis -> score.
    resamples, level, seed
        Draws, share of them inside the interval, seed of the draws.

    Returns
    -------
    (low, high) : float
        Neighbouring pixels are alike; drawing pixels instead of blocks gives intervals that are
        far too narrow.

    Examples
    --------
    >>> bootstrap(np.array([[5, 0, 0, 9], [5, 0, 0, 9]]))
    (1.0, 1.0)
    """
    return _interval(metric(_draws(len(counts), resamples, seed) @ counts), level)


def bootstrap_difference(
    first: Counts,
    second: Counts,
    metric: Metric = f1_of,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the difference of a score of two maps of the same ground, with its interval.

    Parameters
    ----------
    first, second : ndarray, shape (blocks, 4)
        Counts of the same blocks in the same order: the draws are paired.
    metric, resamples, level, seed
        As for `bootstrap`.

    Returns
    -------
    (difference, low, high) : float
        Score of `first` minus score of `second`.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"paired maps have the same blocks, but there are {len(first)} and {len(second)}"
        )
    draws = _draws(len(first), resamples, seed)
    difference = metric(draws @ first) - metric(draws @ second)
    whole = metric(first.sum(axis=0)) - metric(second.sum(axis=0))
    return (float(whole), *_interval(difference, level))
