"""Numbers as intervals (ChiMerge), and what intervals or classes tell of the labels (entropy)."""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError

__all__ = [
    "FLOOR",
    "chimerge",
    "discretise",
    "entropy",
    "information_gain",
    "information_gain_ratio",
]

Floats = NDArray[np.float64]
FLOOR = 0.5
"""Kerber's least denominator of chi-square: keeps single samples from being intervals."""
# A row of counts by class, as whole numbers of Python: products of them are exact.
_Row = tuple[int, ...]


def chimerge(
    x: ArrayLike,
    y: ArrayLike,
    max_intervals: int = 8,
    alpha: float = 0.05,
    *,
    start: int | None = 10_000,
    floor: float = 0.0,
) -> tuple[float, ...]:
    """Return the cut points that ChiMerge finds between the values of a factor.

    Every distinct value begins as an interval of its own. The two neighbours whose classes differ
    least (smallest chi-square of the table of their counts; the lower ones where several are
    equal) become one, until all neighbours differ at the level `alpha` and there are no more than
    `max_intervals`.

    Parameters
    ----------
    x : array_like of float, shape (n,)
        Finite.
    y : array_like, shape (n,)
        Classes; two or more.
    max_intervals : int
        Zhang et al. 2023 use 8.
    alpha : float
        0 < alpha < 1: a smaller one merges more.
    start : int, optional
        Where there are more distinct values than this, as many groups of about equally many
        samples are what is merged: cut points are then exact to that share of the samples. None
        begins with the distinct values however many there are. Fewer groups find fewer intervals
        that are nothing but noise: 1,000 of a million samples are plenty.
    floor : float
        Least denominator of the terms of chi-square: `FLOOR` gives Kerber's published tables and
        keeps single samples from being intervals; 0 gives those of R's `discretization::chiM`.

    Returns
    -------
    tuple of float
        Ascending, midway between values; ``x`` up to and with the first is interval 0.

    Raises
    ------
    DataError
        Lengths differ, values are not finite, one class only, or a setting is out of range.

    Notes
    -----
    R. Kerber, ChiMerge: discretization of numeric attributes, AAAI 1992. A class that is absent in
    both intervals adds nothing to their chi-square. R's `discretization::chiM` adds 0.0001 to
    every count instead, which is the same for small intervals; but one sample beside a million of
    its own class would then differ by 50.

    Examples
    --------
    >>> chimerge([1, 2, 3, 7, 8, 9], [0, 0, 0, 1, 1, 1])
    (5.0,)
    """
    from scipy.special import chdtri

    values, labels = _pair(x, y)
    if max_intervals < 1 or not 0 < alpha < 1 or (start is not None and start < 2) or floor < 0:
        raise DataError(
            f"ChiMerge was given max_intervals={max_intervals}, alpha={alpha:g}, start={start} "
            f"and floor={floor:g}.",
            hint="Give at least one interval, an alpha between 0 and 1, such as 0.05, at least two "
            "groups to start from, and a floor of 0 or more.",
        )
    classes, kind = _codes(labels)
    if classes.size < 2:
        raise DataError(
            f"All {labels.size} samples are of the class {classes[0]}.",
            hint="ChiMerge needs samples of at least two classes.",
        )
    order = np.argsort(values)
    values, kind = values[order], kind[order]
    last = np.r_[np.flatnonzero(values[1:] > values[:-1]), values.size - 1]
    if start is not None and last.size > start:
        aims = np.arange(1, start) * values.size // start - 1
        last = np.unique(np.r_[last[np.searchsorted(last, aims)], values.size - 1])
    # Counts of each class from one end to the next.
    until = np.stack([np.cumsum(kind == number)[last] for number in range(classes.size)], axis=1)
    counts = np.diff(until, axis=0, prepend=0)
    counts, last = _equal_shares(counts, last)
    enough = float(chdtri(classes.size - 1, alpha))
    kept = _merge([tuple(row) for row in counts.tolist()], max_intervals, enough, floor)
    low, high = values[last[kept]], values[last[kept] + 1]
    cuts = low / 2 + high / 2
    # Between neighbouring floats there is no middle.
    return tuple(np.where((cuts >= high) | (cuts < low), low, cuts).tolist())


def _equal_shares(
    counts: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Merge all neighbours whose chi-square is exactly 0: they would go first, in any order."""
    size = counts.sum(axis=1)
    # Whole numbers: shares as floats would tie by rounding.
    alike = (counts[1:] * size[:-1, None] == counts[:-1] * size[1:, None]).all(axis=1)
    first = np.r_[0, np.flatnonzero(~alike) + 1]
    return np.add.reduceat(counts, first, axis=0), last[np.r_[first[1:] - 1, last.size - 1]]


def _merge(rows: list[_Row], most: int, enough: float, floor: float) -> NDArray[np.int64]:
    """Return after which rows a cut stays; a queue finds the next pair, so O(n log n)."""
    held: list[_Row | None] = list(rows)
    after = list(range(1, len(rows) + 1))
    before = list(range(-1, len(rows) - 1))
    # The chi-square of each row and the next as it stands; what the queue holds beside is stale.
    stands = [_chi_square(a, b, floor) for a, b in pairwise(rows)] + [0.0]
    queue = [(value, k) for k, value in enumerate(stands[:-1])]
    heapq.heapify(queue)
    left, end = len(rows), len(rows)
    while queue:
        value, k = heapq.heappop(queue)
        mine = held[k]
        if mine is None or value != stands[k] or after[k] == end:
            continue
        if value > enough and left <= most:
            break
        following = after[k]
        theirs = held[following]
        assert theirs is not None
        merged = tuple(a + b for a, b in zip(mine, theirs, strict=True))
        held[k], held[following] = merged, None
        after[k] = after[following]
        left -= 1
        if after[k] < end:
            before[after[k]] = k
            beyond = held[after[k]]
            assert beyond is not None
            stands[k] = _chi_square(merged, beyond, floor)
            heapq.heappush(queue, (stands[k], k))
        if before[k] >= 0:
            ahead = held[before[k]]
            assert ahead is not None
            stands[before[k]] = _chi_square(ahead, merged, floor)
            heapq.heappush(queue, (stands[before[k]], before[k]))
    starts = [k for k, row in enumerate(held) if row is not None]
    return np.array([k - 1 for k in starts[1:]], np.int64)


def _chi_square(left: _Row, right: _Row, floor: float) -> float:
    """Chi-square of a table of two rows of counts, without any that is 0 in both."""
    m, n = sum(left), sum(right)
    total = 0.0
    for a, b in zip(left, right, strict=True):
        if a or b:
            off, share = (a * n - b * m) ** 2, (a + b) / (m + n)
            if floor:
                total += (
                    off * (1 / max(m * share, floor) + 1 / max(n * share, floor)) / (m + n) ** 2
                )
            else:
                total += off / ((a + b) * m * n)
    # To 33 bits: tables of the same chi-square tie, however their terms were rounded.
    wide = total * 1_048_577.0
    return wide - (wide - total)


def discretise(x: ArrayLike, cuts: ArrayLike) -> NDArray[np.int64]:
    """Return the interval of every value: 0 up to and with the first cut, and so on.

    Examples
    --------
    >>> discretise([1.0, 5.0, 5.1, 9.0], (5.0, 8.0)).tolist()
    [0, 0, 1, 2]
    """
    return np.asarray(np.searchsorted(np.asarray(cuts, float), np.asarray(x, float), "left"))


def entropy(labels: ArrayLike) -> float:
    """Return the entropy of a list of labels in bits.

    Examples
    --------
    >>> entropy([0, 0, 1, 1]), entropy([3, 3])
    (1.0, 0.0)
    """
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return _bits(counts)


def information_gain(codes: ArrayLike, y: ArrayLike) -> float:
    """Return how many bits the classes of a factor tell of the labels.

    Parameters
    ----------
    codes, y : array_like, shape (n,)
        As for `information_gain_ratio`.

    Returns
    -------
    float
        Info(y) - sum_j n_j / n Info(y in class j), at least 0.

    Raises
    ------
    DataError
        Lengths differ, or nothing is given.

    Examples
    --------
    >>> information_gain(["a", "a", "b", "b"], [0, 0, 1, 1])
    1.0
    """
    return _gain(_table(codes, y))


def information_gain_ratio(codes: ArrayLike, y: ArrayLike) -> float:
    """Return the information gain ratio of a factor in classes.

    Parameters
    ----------
    codes : array_like, shape (n,)
        Interval or class of the factor.
    y : array_like, shape (n,)
        Labels.

    Returns
    -------
    float
        (Info(y) - sum_j n_j / n Info(y in class j)) / entropy(codes), 0 to 1; 0 where the factor
        has one class only.

    Raises
    ------
    DataError
        Lengths differ, or nothing is given.

    References
    ----------
    J. R. Quinlan, C4.5: programs for machine learning, 1993, section 2.2; WEKA's
    GainRatioAttributeEval.

    Examples
    --------
    >>> information_gain_ratio(["a", "a", "b", "b"], [0, 0, 1, 1])
    1.0
    """
    table = _table(codes, y)
    split = _bits(table.sum(axis=1))
    return min(_gain(table) / split, 1.0) if split else 0.0


def _table(codes: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
    """Counts by code and label."""
    groups, labels = np.asarray(codes).ravel(), np.asarray(y).ravel()
    if groups.size != labels.size or not groups.size:
        raise DataError(
            f"There are {groups.size} codes for {labels.size} labels.",
            hint="Give one code and one label per sample.",
        )
    (kinds, at), (classes, of) = _codes(groups), _codes(labels)
    cells = np.bincount(at * classes.size + of, minlength=kinds.size * classes.size)
    return cells.reshape(kinds.size, classes.size)


def _bits(counts: NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def _gain(table: NDArray[np.int64]) -> float:
    inside = sum(row.sum() / table.sum() * _bits(row) for row in table)
    return max(float(_bits(table.sum(axis=0)) - inside), 0.0)


def _codes(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct labels, and the number of each one's."""
    if labels.dtype.kind in "biu" and labels.size:
        low, high = int(labels.min()), int(labels.max())
        if high - low < 65_536:  # no need to sort
            shifted = labels.astype(np.int64) - low
            found = np.flatnonzero(np.bincount(shifted, minlength=high - low + 1))
            number = np.zeros(high - low + 1, np.int64)
            number[found] = np.arange(found.size)
            return (found + low).astype(labels.dtype), number[shifted]
    kinds, at = np.unique(labels, return_inverse=True)
    return kinds, at.ravel()


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[Any]]:
    values, labels = np.asarray(x, np.float64).ravel(), np.asarray(y).ravel()
    if values.size != labels.size or not values.size:
        raise DataError(
            f"There are {values.size} values for {labels.size} labels.",
            hint="Give one value and one label per sample.",
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} values are not finite.",
            hint="Leave out samples with missing factors first.",
        )
    return values, labels
