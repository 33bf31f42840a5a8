"""Which runs become members, how much each counts, and on which ground that is decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainer import metrics
from trainer.splits import TRAIN, VALIDATION, blocks_of, deal, separate

__all__ = ["BLOCK", "CALIBRATION", "CHOOSING", "best_f1", "greedy", "halves", "running_means"]

CHOOSING, CALIBRATION = TRAIN, VALIDATION
"""Codes of the two parts of the validation sites."""

BLOCK = 64
"""Side of a block in pixels."""

_GAP = 4  # pixels between the parts: neighbouring pixels are nearly the same one
_LEAST = 3  # slumps that each part needs

Floats = NDArray[np.floating[Any]]


def halves(labels: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]] | None:
    """Deal blocks of the validation sites to two parts of about as many slump pixels each.

    One part chooses the members, the other calibrates their mean and sets the threshold: what the
    members were chosen on flatters them.

    Parameters
    ----------
    labels : sequence of ndarray of uint8, shape (y, x)
        Of each site: 1 slump, 0 not, 255 not looked at.

    Returns
    -------
    list of ndarray of uint8, shape (y, x), or None
        CHOOSING, CALIBRATION or 255 (neither: the few pixels between the parts) of each pixel.
        No slump lies in both. None where a part would hold fewer than three slumps.

    Examples
    --------
    >>> marks = np.zeros((128, 256), np.uint8)
    >>> marks[10:20:4, 20:250:30] = 1
    >>> found = halves([marks])[0]
    >>> [int(((found == part) & (marks == 1)).sum()) for part in (CHOOSING, CALIBRATION)]
    [12, 12]
    """
    numbers, positives, sizes = [], [], []
    first = 0
    for marks in labels:
        ids = blocks_of(marks, BLOCK)
        count = int(ids.max()) + 1
        numbers.append(ids + first)
        positives.append(np.bincount(ids[marks == 1], minlength=count))
        sizes.append(np.bincount(ids[marks <= 1], minlength=count))
        first += count
    part_of = deal(np.concatenate(positives), np.concatenate(sizes), (0.5, 0.5)).astype("uint8")
    parts = [separate(part_of[ids], _GAP) for ids in numbers]
    for part in (CHOOSING, CALIBRATION):
        slumps = sum(
            int(ndimage.label((marks == 1) & (codes == part), np.ones((3, 3)))[1])
            for marks, codes in zip(labels, parts, strict=True)
        )
        if slumps < _LEAST:
            return None
    return parts


def best_f1(probability: Floats, labels: NDArray[np.uint8]) -> float:
    """Return F1 at the threshold where it is highest; NaN where no slump is to be found.

    Examples
    --------
    >>> best_f1(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1], dtype="uint8"))
    1.0
    """
    return float(metrics.curve(metrics.histogram(probability, labels))[2][1:].max())


class _Sum:
    """A running weighted mean over runs; one that has no data at a pixel does not count there."""

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size)
        self.weight = np.zeros(size)

    def add(self, said: Floats) -> None:
        there = np.isfinite(said)
        self.total += np.where(there, said, 0.0)
        self.weight += there

    def mean(self) -> NDArray[np.float64]:
        return np.divide(
            self.total, self.weight, out=np.full_like(self.total, np.nan), where=self.weight > 0
        )


def running_means(said: Sequence[Floats]) -> Iterator[NDArray[np.float64]]:
    """Yield the mean of the first run, of the first two, of the first three ...

    Parameters
    ----------
    said : sequence of ndarray, shape (pixels,)
        Probability of each run, best first; NaN where it has no data.

    Yields
    ------
    ndarray of float64, shape (pixels,)
        Every run is added once, whatever the number of sizes.

    Examples
    --------
    >>> said = [np.array([0.0, np.nan]), np.array([1.0, 0.5])]
    >>> [mean.tolist() for mean in running_means(said)]
    [[0.0, nan], [0.5, 0.5]]
    """
    total = _Sum(len(said[0]))
    for each in said:
        total.add(each)
        yield total.mean()


def greedy(
    said: Sequence[Floats], labels: NDArray[np.uint8], draws: int
) -> tuple[list[int], list[float]]:
    """Draw members one by one, with replacement, each the one that helps the mean most.

    Parameters
    ----------
    said : sequence of ndarray, shape (pixels,)
        Probability of each run, best first; NaN where it has no data.
    labels : ndarray of uint8, shape (pixels,)
        1 slump, 0 not.
    draws : int
        At most; the draws after the best mean are taken back.

    Returns
    -------
    picks : list of int
        Indices into `said` in the order of the draws. A run that was drawn twice counts twice in
        the mean. Of runs that help alike, the one that stands first is taken.
    scores : list of float
        Highest F1 of the mean after each draw, those that were taken back among them.

    References
    ----------
    Caruana et al. 2004, Ensemble selection from libraries of models.

    Examples
    --------
    >>> labels = np.array([1, 1, 0, 0], dtype="uint8")
    >>> said = [np.array([0.9, 0.2, 0.3, 0.1]), np.array([0.1, 0.9, 0.1, 0.2])]
    >>> greedy(said, labels, 3)[0]
    [0, 1]
    """
    total = _Sum(len(labels))
    picks: list[int] = []
    scores: list[float] = []
    for _ in range(draws):
        best, score = -1, -1.0
        for index, each in enumerate(said):
            there = np.isfinite(each)
            weight = total.weight + there
            mean = np.divide(
                total.total + np.where(there, each, 0.0),
                weight,
                out=np.full_like(weight, np.nan),
                where=weight > 0,
            )
            found = best_f1(mean, labels)
            if found > score:
                best, score = index, found
        picks.append(best)
        scores.append(score)
        total.add(said[best])
    keep = int(np.argmax(scores)) + 1
    return picks[:keep], scores
