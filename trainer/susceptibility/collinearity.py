"""How far factors repeat each other: variance inflation, exact sums and correlations.

A factor may have several columns (sine and cosine of aspect, one column per class of lithology):
`groups` names the columns of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.kernels import _blas

__all__ = [
    "Groups",
    "Inflation",
    "correlations",
    "exact_sums",
    "generalised_inflation",
    "parts_of",
    "tolerances",
    "variance_inflation_factors",
]

Floats = NDArray[np.float64]
Groups = Sequence[Sequence[int]]
# Rows that are multiplied at a time: their centred copy stays in the cache.
_ROWS = 16_384
# Least eigenvalue of the correlations down to which products of columns keep ten digits.
_WELL = 1e-5


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
    values, rounding = _matrix(X)
    # Singular values of the scaled columns: inverting their products would halve the digits.
    _, sizes, axes = np.linalg.svd(_triangle(values), full_matrices=False)
    useful = sizes > sizes[0] * rounding
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


class Inflation(NamedTuple):
    """Generalised variance inflation of factors.

    Attributes
    ----------
    generalised : ndarray of float64, shape (factors,)
        GVIF: of a factor with one column its VIF; infinite where part of it is a sum of others.
    df : ndarray of int64, shape (factors,)
        Independent columns of each: one less than classes, where it has a column for each.
    """

    generalised: Floats
    df: NDArray[np.int64]

    @property
    def comparable(self) -> Floats:
        """GVIF^(1 / df), to be held against limits of the VIF: the square of what R prints."""
        return np.asarray(self.generalised ** (1.0 / self.df), np.float64)


def generalised_inflation(X: ArrayLike, groups: Groups | None = None) -> Inflation:
    """Return the generalised variance inflation factor of every factor.

    It does not depend on how a factor is written in columns: on which class is left out, or where
    north is. Columns that repeat others of their own factor, such as the last of its classes,
    count once.

    Parameters
    ----------
    X : array_like of float, shape (samples, columns)
        As `variance_inflation_factors`.
    groups : sequence of sequence of int, optional
        Columns of each factor; each column its own factor where not given.

    Returns
    -------
    Inflation

    Raises
    ------
    DataError
        As `variance_inflation_factors`, or groups that do not share out the columns.

    References
    ----------
    J. Fox and G. Monette 1992, Generalized collinearity diagnostics, doi
    10.1080/01621459.1992.10475190; R's `car::vif` for terms of several columns.

    Examples
    --------
    >>> aspect_and_slope = [[0, 1, 5], [1, 0, 9], [0, -1, 4], [-1, 0, 8], [0, 1, 6]]
    >>> found = generalised_inflation(aspect_and_slope, [[0, 1], [2]])
    >>> found.df.tolist(), bool(np.isclose(*found.generalised))
    ([2, 1], True)
    """
    values, rounding = _matrix(X)
    parts = parts_of(groups, values.shape[1])
    triangle = _triangle(values)
    factors, df = np.ones(len(parts)), np.zeros(len(parts), np.int64)
    for number, part in enumerate(parts):
        mine = _basis(triangle[:, part], rounding)
        df[number] = mine.shape[1]
        rest = _basis(np.delete(triangle, part, axis=1), rounding)
        # What is left of this factor beyond all others; twice, for what the first time rounds.
        beyond = mine - rest @ (rest.T @ mine)
        beyond -= rest @ (rest.T @ beyond)
        sines = np.linalg.svd(beyond, compute_uv=False)
        none = sines <= 10 * rounding
        factors[number] = np.inf if none.any() else np.prod(sines**-2.0)
    return Inflation(np.maximum(factors, 1.0), df)


def exact_sums(X: ArrayLike, groups: Groups | None = None) -> tuple[tuple[int, ...], ...]:
    """Return sets of factors that are exact sums of each other, up to a constant.

    Parameters
    ----------
    X, groups
        As `generalised_inflation`.

    Returns
    -------
    tuple of tuple of int
        Positions in `groups`, ascending: of each set every factor follows from the others. Empty
        where there is no perfect collinearity.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> exact_sums(np.column_stack([x, x[:, 0] - 2 * x[:, 2] + 5]))
    ((0, 2, 3),)
    """
    values, rounding = _matrix(X)
    parts = parts_of(groups, values.shape[1])
    owner = np.zeros(values.shape[1], np.int64)
    for number, part in enumerate(parts):
        owner[part] = number
    triangle = _triangle(values)
    found: list[tuple[int, ...]] = []
    free: list[int] = []
    for column in (c for part in parts for c in part):
        coefficients = np.linalg.lstsq(triangle[:, free], triangle[:, column], rcond=None)[0]
        rest = triangle[:, column] - triangle[:, free] @ coefficients
        if np.linalg.norm(rest) > 10 * rounding:
            free.append(column)
            continue
        with_it = [c for c, b in zip(free, coefficients, strict=True) if abs(b) > np.sqrt(rounding)]
        together = tuple(sorted({int(owner[c]) for c in (*with_it, column)}))
        # The classes of one factor add up to one: that says nothing of other factors.
        if len(together) > 1 and together not in found:
            found.append(together)
    return tuple(found)


def _matrix(X: ArrayLike) -> tuple[Floats, float]:
    """Check columns; tell below what length a unit column is nothing but rounding."""
    values = np.asarray(X)
    # Single precision is widened where it is multiplied.
    values = values if values.dtype == np.float32 else values.astype(np.float64, copy=False)
    if values.ndim != 2:
        raise DataError(
            f"Factors have the shape {values.shape}; expected (samples, factors).",
            hint="Put one sample in each row and one factor in each column.",
        )
    samples, factors = values.shape
    if samples <= factors:
        raise DataError(
            f"{samples} samples cannot tell {factors} factors apart.",
            hint="Draw more samples, or leave factors out.",
        )
    low, high = values.min(axis=0), values.max(axis=0)  # NaN where there is one
    bad = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if bad.size:
        raise DataError(
            f"Column {bad[0]} holds values that are not finite ({bad.size} such columns).",
            hint="Leave out samples with missing factors first.",
        )
    flat = np.flatnonzero(low == high)
    if flat.size:
        raise DataError(
            f"Column {flat[0]} is {low[flat[0]]:g} everywhere.",
            hint="A constant factor explains nothing: leave it out.",
        )
    # Single precision far from 0, such as elevations of 4000.123, is known to few digits.
    known = np.finfo(values.dtype).eps * np.maximum(np.abs(low), np.abs(high)) / (high - low)
    rounding = max(max(values.shape) * np.finfo(np.float64).eps, 4.0 * float(known.max()))
    return values, rounding


def parts_of(groups: Groups | None, columns: int) -> list[list[int]]:
    """Return the columns of each factor as lists; each column its own where no groups are given."""
    if groups is None:
        return [[column] for column in range(columns)]
    parts = [[int(column) for column in part] for part in groups]
    if sorted(c for part in parts for c in part) != list(range(columns)) or not all(parts):
        raise DataError(
            f"The groups {parts} do not share out {columns} columns.",
            hint="Name every column once, from 0, and give each factor one at least.",
        )
    return parts


def _triangle(values: Floats) -> Floats:
    """Return square T with T' T = the correlations of the columns, to the digits of the columns."""
    # Blocks are too small for BLAS to share out: its threads would wait for each other.
    with _blas().limit(limits=1, user_api="blas"):
        return _turned(values)


def _turned(values: Floats) -> Floats:
    mean = values.mean(axis=0, dtype=np.float64)
    blocks = range(0, len(values), _ROWS)
    products = np.zeros((values.shape[1],) * 2)
    for first in blocks:
        part = values[first : first + _ROWS] - mean
        products += part.T @ part
    lengths = np.sqrt(np.diag(products))
    alike = products / np.outer(lengths, lengths)
    if np.linalg.eigvalsh(alike)[0] > _WELL:
        return np.asarray(np.linalg.cholesky(alike).T, np.float64)
    # Products of nearly collinear columns lose the digits that count: rotations do not.
    triangle = np.zeros((0, values.shape[1]))
    for first in blocks:
        part = (values[first : first + _ROWS] - mean) / lengths
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, part]), mode="r"))
    return np.asarray(triangle, np.float64)


def _basis(columns: Floats, rounding: float) -> Floats:
    """Orthonormal columns that span the same."""
    if not columns.shape[1]:
        return columns
    directions, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(directions[:, sizes > sizes[0] * rounding], np.float64)


def correlations(X: ArrayLike, groups: Groups | None = None) -> Floats:
    """Return \\|r\\| (Pearson) between factors: the largest of any of their columns.

    Parameters
    ----------
    X, groups
        As `generalised_inflation`.

    Returns
    -------
    ndarray of float64, shape (factors, factors)
        0 to 1, with 1 on the diagonal.

    Examples
    --------
    >>> correlations([[1, 1], [2, 0], [3, 1], [4, 0]]).round(4)
    array([[1.    , 0.4472],
           [0.4472, 1.    ]])
    """
    values, _ = _matrix(X)
    parts = parts_of(groups, values.shape[1])
    triangle = _triangle(values)
    alike = np.minimum(np.abs(triangle.T @ triangle), 1.0)
    first = np.array([part[0] for part in parts])
    if len(parts) < values.shape[1]:
        order = np.concatenate([np.array(part) for part in parts])
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        alike = np.maximum.reduceat(
            np.maximum.reduceat(alike[np.ix_(order, order)], starts, axis=0), starts, axis=1
        )
    elif len(parts):
        alike = alike[np.ix_(first, first)]
    np.fill_diagonal(alike, 1.0)
    return np.asarray(alike, np.float64)
