"""Intervals from drawing whole blocks of ground with replacement, all draws at once.

Samples of one block are not independent: drawing blocks keeps them together, so that the spread is
that of other places, not of other pixels of the same place. An area under the curve of drawn blocks
is a quotient of sums over pairs of blocks, counted once; a thousand draws are then two products of
matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError

__all__ = ["BlockDraws", "Interval", "interval"]

Floats = NDArray[np.float64]
# Blocks up to which pairs of them are counted; beyond, every draw weights the sorted samples.
_PAIRED = 700
# Numbers that one intermediate matrix may hold.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value and the percentile interval around it."""

    value: float
    low: float
    high: float


def interval(value: float, draws: Floats, level: float = 0.95) -> Interval:
    """Return the percentile interval of bootstrap draws; draws that are NaN are left out.

    Examples
    --------
    >>> interval(0.5, np.linspace(0, 1, 101), level=0.9)
    Interval(value=0.5, low=0.05, high=0.95)
    """
    usable = draws[np.isfinite(draws)]
    if usable.size == 0:
        return Interval(value, float("nan"), float("nan"))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(usable, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


class BlockDraws:
    """Draws of whole blocks with replacement, for statistics of the samples in them.

    Every statistic comes with that of the samples as they are first, then one per draw. All are
    taken over the same draws, so differences between them are paired.

    Parameters
    ----------
    blocks : ndarray of int64, shape (n,)
        Block of each sample.
    resamples, seed : int
        The same draws as `validation.block_bootstrap`.

    Examples
    --------
    >>> draws = BlockDraws(np.array([3, 3, 5, 5]), 200, 0)
    >>> found = draws.sums(np.array([1.0, 1.0, 0.0, 0.0]))
    >>> found.shape, float(found[0]), float(found.max())
    ((201,), 2.0, 4.0)
    """

    def __init__(self, blocks: NDArray[np.int64], resamples: int, seed: int) -> None:
        distinct, self._of = np.unique(blocks, return_inverse=True)
        self.blocks = int(distinct.size)
        even = np.full(distinct.size, 1.0 / max(1, distinct.size))
        drawn = np.random.default_rng(seed).multinomial(distinct.size, even, size=resamples)
        self._weight = np.vstack([np.ones((1, distinct.size)), drawn]).astype(np.float64)

    def sums(self, values: NDArray[Any]) -> Floats:
        """Return sums over the samples.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)

        Returns
        -------
        ndarray of float64, shape (1 + resamples,) or (1 + resamples, k)
        """
        columns = np.asarray(values, np.float64)
        columns = columns.reshape(len(columns), -1)
        by_block = np.stack(
            [np.bincount(self._of, column, minlength=self.blocks) for column in columns.T], axis=1
        )
        found = self._weight @ by_block
        return np.asarray(found[:, 0] if np.ndim(values) == 1 else found)

    def auc(
        self,
        labels: NDArray[Any],
        scores: Sequence[Floats],
        folds: Sequence[NDArray[np.int64]] | None = None,
        outside: bool = False,
    ) -> Floats:
        """Return the mean of the areas under the curve of several scores of the samples.

        Parameters
        ----------
        labels : ndarray, shape (n,)
            1 positive, 0 negative.
        scores : sequence of ndarray of float64, shape (n,)
            Such as those of several repetitions. No NaN.
        folds : sequence of ndarray of int64, shape (n,), optional
            One per score: then only pairs of samples of one fold are compared.
        outside : bool
            Over the blocks that a draw left out, each once, instead of those that it holds (the
            first, of all samples, stays).

        Returns
        -------
        ndarray of float64, shape (1 + resamples,)
            NaN where one of the classes was not drawn.
        """
        positive = np.asarray(labels) == 1
        for each in scores:
            if each.shape != positive.shape or not np.isfinite(each).all():
                raise DataError(
                    f"{int((~np.isfinite(each)).sum())} of {each.size} scores are no numbers, for "
                    f"{positive.size} labels.",
                    hint="Give one finite score per sample; leave out those that have none.",
                )
        weight = self._weight
        if outside:
            weight = np.vstack([weight[:1], weight[1:] == 0]).astype(np.float64)
        found = np.zeros(len(weight))
        whole = np.arange(positive.size)
        for number, each in enumerate(scores):
            parts = [whole]
            if folds is not None:
                of = np.asarray(folds[number])
                parts = [np.flatnonzero(of == fold) for fold in np.unique(of)]
            ordered, pairs = np.zeros(len(weight)), np.zeros(len(weight))
            right = np.zeros((self.blocks, self.blocks) if self.blocks <= _PAIRED else (0, 0))
            for rows in parts:
                inside = np.zeros(positive.size, bool)
                inside[rows] = True
                pairs += self._count(positive & inside, weight) * self._count(
                    ~positive & inside, weight
                )
                if self.blocks <= _PAIRED:
                    right += self._pairs(positive, each, rows)
                else:
                    ordered += self._sorted(positive, each, rows, weight)
            if self.blocks <= _PAIRED:
                ordered = np.einsum("rb,rb->r", weight @ right, weight)
            with np.errstate(invalid="ignore", divide="ignore"):
                found += np.where(pairs > 0, ordered / pairs, np.nan) / len(scores)
        return found

    def _count(self, chosen: NDArray[np.bool_], weight: Floats) -> Floats:
        return np.asarray(weight @ np.bincount(self._of, chosen, minlength=self.blocks))

    def _pairs(
        self, positive: NDArray[np.bool_], scores: Floats, rows: NDArray[np.int64]
    ) -> Floats:
        """Return how many pairs of a positive of a block and a negative of another are in order."""
        found = np.zeros((self.blocks, self.blocks))
        negative = rows[~positive[rows]]
        size = negative.size
        if not size:
            return found
        order = negative[np.argsort(scores[negative], kind="stable")]
        ranked, of_negative = scores[order], self._of[order]
        by_block = np.argsort(of_negative, kind="stable")
        starts = np.flatnonzero(np.diff(of_negative[by_block], prepend=-1))
        columns = of_negative[by_block][starts]
        ups = rows[positive[rows]]
        below = np.searchsorted(ranked, scores[ups], side="left")
        up_to = np.searchsorted(ranked, scores[ups], side="right")
        step = max(1, _AT_ONCE // (size + 1))
        for first in range(0, self.blocks, step):
            tall = min(step, self.blocks - first)
            here = (self._of[ups] >= first) & (self._of[ups] < first + tall)
            row = self._of[ups[here]] - first
            # A negative of rank j lies below a positive whose count of lower negatives exceeds j;
            # ties count half.
            counts = np.zeros((tall, size + 1))
            for limit in (below[here], up_to[here]):
                counts += np.bincount(
                    row * (size + 1) + limit, minlength=tall * (size + 1)
                ).reshape(tall, size + 1)
            beyond = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] * 0.5
            found[first : first + tall, columns] = np.add.reduceat(
                beyond[:, by_block], starts, axis=1
            )
        return found

    def _sorted(
        self,
        positive: NDArray[np.bool_],
        scores: Floats,
        rows: NDArray[np.int64],
        weight: Floats,
    ) -> Floats:
        order = rows[np.argsort(scores[rows], kind="stable")]
        ordered = scores[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        found = np.empty(len(weight))
        step = max(1, _AT_ONCE // order.size)
        up = positive[order]
        for first in range(0, found.size, step):
            drawn = weight[first : first + step][:, self._of[order]]
            ups = np.add.reduceat(drawn * up, starts, axis=1)
            downs = np.add.reduceat(drawn * ~up, starts, axis=1)
            below = downs.cumsum(axis=1) - 0.5 * downs
            found[first : first + step] = np.einsum("rs,rs->r", ups, below)
        return found
