"""Which factors to keep: collinearity, discretisation and information, each on plain arrays.

Whatever is computed here from samples has to be computed inside each fold: a bin edge or a
factor chosen on all samples has seen the ones that it is judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError

__all__ = [
    "Dropped",
    "Kept",
    "chimerge",
    "discretise",
    "entropy",
    "information_gain_ratio",
    "pearson_drop",
    "tolerances",
    "variance_inflation_factors",
]

Floats = NDArray[np.float64]


def variance_inflation_factors(X: ArrayLike) -> Floats:
    """Return the variance inflation factor of every column: 1 / (1 - R^2) on all the others.

    Parameters
    ----------
    X : array_like of float, shape (samples, factors)
        Finite. A constant takes part in every regression, so columns need not be centred.

    Returns
    -------
    ndarray of float64, shape (factors,)
        At least 1; infinite where a column is a sum of others. The papers keep what is below 10.

    Raises
    ------
    DataError
        Not two-dimensional, not finite, no more samples than factors, a constant column.

    References
    ----------
    D. W. Marquardt 1970, doi 10.1080/00401706.1970.10488699; R's `car::vif` for numeric terms.

    Examples
    --------
    >>> variance_inflation_factors([[1, 1], [2, 0], [3, 1], [4, 0]]).round(6)
    array([1.25, 1.25])
    """
    values = _matrix(X)
    centred = values - values.mean(axis=0)
    # Singular values of the scaled columns: squaring first would halve the digits.
    _, sizes, axes = np.linalg.svd(centred / np.linalg.norm(centred, axis=0), full_matrices=False)
    smallest = sizes[0] * max(values.shape) * np.finfo(np.float64).eps
    useful = sizes > smallest
    factors = (axes[useful].T ** 2 / sizes[useful] ** 2).sum(axis=1)
    # A direction without any variance makes the columns that point along it predictable.
    lost = (axes[~useful] ** 2).sum(axis=0) > 1e-12
    return np.asarray(np.where(lost, np.inf, factors), np.float64)


def tolerances(X: ArrayLike) -> Floats:
    """Return 1 / VIF of every column, 0 where it is a sum of others; the papers keep above 0.1.

    Examples
    --------
    >>> tolerances([[1, 1], [2, 0], [3, 1], [4, 0]]).round(6)
    array([0.8, 0.8])
    """
    return 1.0 / variance_inflation_factors(X)


def _matrix(X: ArrayLike) -> Floats:
    values = np.asarray(X, np.float64)
    if values.ndim != 2:
        raise DataError(
            f"Factors have the shape {values.shape}; expected (samples, factors).",
            hint="Put one sample in each row and one factor in each column.",
        )
    samples, factors = values.shape
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=0))
        raise DataError(
            f"Column {bad[0]} holds values that are not finite ({bad.size} such columns).",
            hint="Leave out samples with missing factors first.",
        )
    if samples <= factors:
        raise DataError(
            f"{samples} samples cannot tell {factors} factors apart.",
            hint="Draw more samples, or leave factors out.",
        )
    flat = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if flat.size:
        raise DataError(
            f"Column {flat[0]} is {values[0, flat[0]]:g} everywhere.",
            hint="A constant factor explains nothing: leave it out.",
        )
    return values


class Dropped(NamedTuple):
    """A factor that was left out, and the one that says the same."""

    name: str
    because_of: str
    correlation: float


class Kept(NamedTuple):
    """What `pearson_drop` decided.

    Attributes
    ----------
    names : tuple of str
        In their order.
    columns : tuple of int
    dropped : tuple of Dropped
        In the order in which they went.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    dropped: tuple[Dropped, ...]


def pearson_drop(X: ArrayLike, names: Sequence[str], threshold: float = 0.7) -> Kept:
    """Leave out factors until no two that stay are correlated by more than a threshold.

    The pair with the largest \\|r\\| goes first; of the two the one goes that is more like all the
    others that are still there (larger mean \\|r\\|; the later one where they are alike).

    Parameters
    ----------
    X : array_like of float, shape (samples, factors)
    names : sequence of str
        One per column.
    threshold : float
        Of \\|r\\|; the papers use 0.7.

    Returns
    -------
    Kept

    Raises
    ------
    DataError
        As `variance_inflation_factors`, or names that do not fit the columns.

    Examples
    --------
    >>> samples = [[1, 2, 5], [2, 4, 1], [3, 6, 4], [4, 8, 2], [5, 11, 3]]
    >>> found = pearson_drop(samples, ["a", "b", "c"])
    >>> len(found.names), found.names[-1], len(found.dropped)
    (2, 'c', 1)
    """
    values = _matrix(X)
    if len(names) != values.shape[1]:
        raise DataError(
            f"There are {len(names)} names for {values.shape[1]} columns.",
            hint="Give one name per column.",
        )
    alike = np.abs(np.corrcoef(values, rowvar=False)).reshape(values.shape[1], -1)
    np.fill_diagonal(alike, 0.0)
    left = list(range(values.shape[1]))
    dropped = []
    while len(left) > 1:
        part = alike[np.ix_(left, left)]
        i, j = np.unravel_index(int(part.argmax()), part.shape)
        if part[i, j] <= threshold:
            break
        i, j = min(i, j), max(i, j)
        goes, stays = (i, j) if part[i].sum() > part[j].sum() else (j, i)
        r = float(np.corrcoef(values[:, left[i]], values[:, left[j]])[0, 1])
        dropped.append(Dropped(names[left[goes]], names[left[stays]], r))
        del left[goes]
    return Kept(tuple(names[k] for k in left), tuple(left), tuple(dropped))


def chimerge(
    x: ArrayLike, y: ArrayLike, max_intervals: int = 8, alpha: float = 0.05
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
        The paper uses 8.
    alpha : float
        0 < alpha < 1: a smaller one merges more.

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
    R. Kerber, ChiMerge: discretization of numeric attributes, AAAI 1992. Where a class is absent in
    both intervals the expected count is 0: as in R's `discretization::chiM`, 0.0001 is added to
    every count.

    Examples
    --------
    >>> chimerge([1, 2, 3, 7, 8, 9], [0, 0, 0, 1, 1, 1], alpha=0.1)
    (5.0,)
    """
    from scipy import stats

    values, labels = _pair(x, y)
    if max_intervals < 1 or not 0 < alpha < 1:
        raise DataError(
            f"ChiMerge was given max_intervals={max_intervals} and alpha={alpha:g}.",
            hint="Give at least one interval and an alpha between 0 and 1, such as 0.05.",
        )
    levels, at = np.unique(values, return_inverse=True)
    classes, kind = np.unique(labels, return_inverse=True)
    if classes.size < 2:
        raise DataError(
            f"All {labels.size} samples are of the class {classes[0]}.",
            hint="ChiMerge needs samples of at least two classes.",
        )
    counts = np.zeros((levels.size, classes.size))
    np.add.at(counts, (at, kind), 1.0)
    cuts = list((levels[:-1] + levels[1:]) / 2)
    enough = float(stats.chi2.ppf(1 - alpha, classes.size - 1))
    rows = list(counts)
    differ = [_chi_square(a, b) for a, b in pairwise(rows)]
    while cuts:
        k = int(np.argmin(differ))
        if differ[k] > enough and len(rows) <= max_intervals:
            break
        rows[k] = rows[k] + rows[k + 1]
        del rows[k + 1], cuts[k], differ[k]
        if k > 0:
            differ[k - 1] = _chi_square(rows[k - 1], rows[k])
        if k < len(differ):
            differ[k] = _chi_square(rows[k], rows[k + 1])
    return tuple(float(cut) for cut in cuts)


def _chi_square(left: Floats, right: Floats) -> float:
    table = np.stack([left, right]) + 0.0001
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


def discretise(x: ArrayLike, cuts: Sequence[float]) -> NDArray[np.int64]:
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
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


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
    groups, labels = np.asarray(codes).ravel(), np.asarray(y).ravel()
    if groups.size != labels.size or not groups.size:
        raise DataError(
            f"There are {groups.size} codes for {labels.size} labels.",
            hint="Give one code and one label per sample.",
        )
    split = entropy(groups)
    if split == 0.0:
        return 0.0
    left = sum(
        np.mean(groups == group) * entropy(labels[groups == group]) for group in np.unique(groups)
    )
    return float(max(entropy(labels) - left, 0.0) / split)


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
