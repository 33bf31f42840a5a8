"""Natural breaks: classes with the least variance inside (Fisher 1958, Jenks 1977), exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError

__all__ = ["LEVELS", "Breaks", "breaks_of", "natural_breaks"]

Floats = NDArray[np.float64]
LEVELS = 65_536
"""Distinct values up to which `breaks_of` is exact; beyond, limits lie on as many equal steps."""


@dataclass(frozen=True)
class Breaks:
    """Class limits by natural breaks.

    Attributes
    ----------
    upper : tuple of float
        Largest value of each class, ascending; the last is the largest value of all.
    fit : float
        Goodness of variance fit: 1 - variance within classes / variance of all.
    """

    upper: tuple[float, ...]
    fit: float


def natural_breaks(values: ArrayLike, weights: ArrayLike, classes: int) -> Breaks:
    """Split values that occur so and so often into classes with the least variance within them.

    Of several equally good partitions it is the one whose limits are lowest, from above.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        Distinct and ascending.
    weights : array_like of float, shape (n,)
        How often each occurs; at least 0.
    classes : int
        At least 1; lowered to the number of values that occur.

    Returns
    -------
    Breaks

    Raises
    ------
    DataError
        No value occurs, the values do not ascend, or no class was asked for.

    References
    ----------
    W. D. Fisher 1958, On grouping for maximum homogeneity, doi 10.1080/01621459.1958.10501479;
    G. F. Jenks 1977, Optimal data classification for choropleth maps.

    Examples
    --------
    >>> natural_breaks([1.0, 2.0, 8.0, 9.0], [1, 1, 1, 1], 2).upper
    (2.0, 9.0)
    """
    points, mass = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if not np.all(np.diff(points) > 0):
        raise DataError("Natural breaks were given values that do not ascend; sort them first.")
    occurs = mass > 0
    points, mass = points[occurs], mass[occurs]
    if not points.size:
        raise DataError("Natural breaks were given no value: the map holds no valid cell.")
    # Centred: the sums of squares cancel less.
    centred = points - np.average(points, weights=mass)
    return _split(points, mass, mass * centred, mass * centred**2, classes)


def breaks_of(values: ArrayLike, classes: int) -> Breaks:
    """Split values into classes with the least variance within them.

    Exact up to 65,536 distinct values. Beyond, the best of all partitions whose limits lie on
    65,536 equal steps between the least and the largest value.

    Parameters
    ----------
    values : array_like of float, any shape
        What is not finite is left out.
    classes : int
        At least 1; lowered to the number of distinct values.

    Raises
    ------
    DataError
        No finite value, or no class.

    Examples
    --------
    >>> breaks_of([1, 2, 8, 9, 9.5, float("nan")], 2).upper
    (2.0, 9.5)
    """
    flat = np.asarray(values, np.float64).ravel()
    flat = np.sort(flat[np.isfinite(flat)])
    if not flat.size:
        raise DataError(
            "Natural breaks were given no finite value.", hint="Give values that are not missing."
        )
    ends = np.r_[np.flatnonzero(np.diff(flat) > 0) + 1, flat.size]
    if ends.size > LEVELS:
        steps = np.linspace(flat[0], flat[-1], LEVELS + 1)[1:-1]
        ends = np.unique(np.r_[np.searchsorted(flat, steps, "right"), flat.size])
        ends = ends[ends > 0]
    starts = np.r_[0, ends[:-1]]
    centred = flat - flat.mean()
    # Sums over each step, so that the variance within classes is exact there, too.
    return _split(
        flat[ends - 1],
        np.diff(np.r_[0, ends]).astype(np.float64),
        np.add.reduceat(centred, starts),
        np.add.reduceat(centred**2, starts),
        classes,
    )


def _split(tops: Floats, mass: Floats, first: Floats, second: Floats, classes: int) -> Breaks:
    """Dynamic programming over groups with their sums of weight, value and square.

    The best start of the last class never falls as its end moves up: ends are worked through
    from coarse to fine between the starts of their neighbours, O(classes n log n).
    """
    if classes < 1:
        raise DataError(
            f"{classes} classes were asked for.", hint="Ask for at least one; 5 are usual."
        )
    count = tops.size
    classes = min(classes, count)
    mass, first, second = (np.r_[0.0, np.cumsum(each)] for each in (mass, first, second))

    def within(start: NDArray[Any], stop: NDArray[Any]) -> Floats:
        """Sum of squared deviations of the groups start to stop - 1."""
        moment = first[stop] - first[start]
        found = second[stop] - second[start] - moment**2 / (mass[stop] - mass[start])
        return np.asarray(found, np.float64)

    stops = np.arange(count + 1)
    # best[j]: least sum for the first j groups in the classes so far.
    best = np.r_[0.0, within(np.zeros(count, np.int64), stops[1:])]
    cuts = np.zeros((classes, count + 1), np.int64)
    for number in range(1, classes):
        improved, cut = np.full(count + 1, np.inf), cuts[number]
        stride = 1 << (count - number).bit_length()
        while stride:
            at = stops[number + stride :: 2 * stride]
            low = np.maximum(np.where(at - stride > number, cut[at - stride], number), number)
            above = at + stride
            high = np.where(above <= count, cut[np.minimum(above, count)], count)
            high = np.minimum(high, at - 1)
            length = high - low + 1
            offset = np.cumsum(length) - length
            start = np.arange(int(length.sum())) - np.repeat(offset - low, length)
            if at.size:
                total = best[start] + within(start, np.repeat(at, length))
                least = np.minimum.reduceat(total, offset)
                hits = np.flatnonzero(total == np.repeat(least, length))
                cut[at] = start[hits[np.searchsorted(hits, offset)]]
                improved[at] = least
            stride //= 2
        best = improved
    upper: list[float] = []
    stop = count
    for number in range(classes - 1, -1, -1):
        upper.append(float(tops[stop - 1]))
        stop = int(cuts[number, stop])
    spread = second[-1] - first[-1] ** 2 / mass[-1]
    fit = 1.0 if spread <= 0 else float(1.0 - max(best[count], 0.0) / spread)
    return Breaks(tuple(reversed(upper)), fit)
