"""Which factors to keep: the rules by which a factor goes, on plain arrays.

Whatever is computed here from samples has to be computed inside each fold: a bin edge or a
factor chosen on all samples has seen the ones that it is judged by. `preparation` does so.

A factor may have several columns (sine and cosine of aspect, one column per class of lithology):
`groups` names the columns of each, and a factor stays or goes as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.bins import (
    FLOOR,
    chimerge,
    discretise,
    entropy,
    information_gain,
    information_gain_ratio,
)
from trainer.susceptibility.collinearity import (
    Groups,
    Inflation,
    correlations,
    exact_sums,
    generalised_inflation,
    parts_of,
    tolerances,
    variance_inflation_factors,
)

__all__ = [
    "FLOOR",
    "Dropped",
    "Inflation",
    "Kept",
    "chimerge",
    "correlations",
    "discretise",
    "entropy",
    "exact_sums",
    "generalised_inflation",
    "inflation_drop",
    "information_gain",
    "information_gain_ratio",
    "pearson_drop",
    "tolerances",
    "variance_inflation_factors",
]

Floats = NDArray[np.float64]
# Inflations or correlations that differ by less, relatively, are the same but for rounding.
_SAME = 1e-6


class Dropped(NamedTuple):
    """A factor that was left out, and why.

    Attributes
    ----------
    name : str
    rule : str
        "vif" or "pearson".
    value : float
        What broke the rule: GVIF^(1 / df) (infinite for a sum of others), or \\|r\\|.
    because_of : tuple of str
        The factors that say the same: those it is an exact sum of, or else the one it is most
        like.
    """

    name: str
    rule: str
    value: float
    because_of: tuple[str, ...]


class Kept(NamedTuple):
    """What `pearson_drop` and `inflation_drop` decided.

    Attributes
    ----------
    names : tuple of str
        Of the factors that stay, in their order.
    columns : tuple of int
        Theirs, ascending.
    dropped : tuple of Dropped
        In the order in which they went.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    dropped: tuple[Dropped, ...]


def pearson_drop(
    X: ArrayLike,
    names: Sequence[str],
    threshold: float = 0.7,
    *,
    worth: ArrayLike | None = None,
    groups: Groups | None = None,
) -> Kept:
    """Leave out factors until no two that stay are correlated by more than a threshold.

    The pair with the largest \\|r\\| goes first. Of the two the one goes that is worth less, where
    their worth is given; else the one that is more like all the others that are still there
    (larger mean \\|r\\|). The later one goes where that does not tell them apart.

    Parameters
    ----------
    X : array_like of float, shape (samples, columns)
    names : sequence of str
        One per factor.
    threshold : float
        Of \\|r\\|; Zhang et al. 2023 use 0.7.
    worth : array_like of float, shape (factors,), optional
        Such as information gain ratios.
    groups : sequence of sequence of int, optional
        As `generalised_inflation`.

    Returns
    -------
    Kept

    Raises
    ------
    DataError
        As `generalised_inflation`, or names that do not fit.

    Examples
    --------
    >>> samples = [[1, 2, 5], [2, 4, 1], [3, 6, 4], [4, 8, 2], [5, 11, 3]]
    >>> pearson_drop(samples, ["slope", "TRI", "TPI"], worth=[0.07, 0.03, 0.02]).names
    ('slope', 'TPI')
    """
    parts, value = _named(X, names, worth, groups)
    alike = correlations(X, groups)
    np.fill_diagonal(alike, 0.0)
    left = list(range(len(parts)))
    dropped = []
    while len(left) > 1:
        part = alike[np.ix_(left, left)]
        i, j = sorted(divmod(int(part.argmax()), len(left)))
        r = float(part[i, j])
        if r <= threshold:
            break
        like = part.sum(axis=0)
        if value is not None and value[left[i]] != value[left[j]]:
            goes = i if value[left[i]] < value[left[j]] else j
        else:
            goes = i if value is None and like[i] > like[j] else j
        stays = j if goes == i else i
        dropped.append(Dropped(names[left[goes]], "pearson", r, (names[left[stays]],)))
        del left[goes]
    return _kept(left, names, parts, dropped)


def inflation_drop(
    X: ArrayLike,
    names: Sequence[str],
    limit: float = 10.0,
    *,
    worth: ArrayLike | None = None,
    groups: Groups | None = None,
) -> Kept:
    """Leave out factors, one after another, until none is inflated beyond a limit.

    The one with the largest GVIF^(1 / df) goes first; where several are as large, such as factors
    that are exact sums of each other, the one that is worth least, then the last.

    Parameters
    ----------
    X, names, worth, groups
        As `pearson_drop`.
    limit : float
        Of GVIF^(1 / df), which is the VIF of a factor with one column; He et al. 2024 use 10.

    Returns
    -------
    Kept

    Raises
    ------
    DataError
        As `generalised_inflation`, or names that do not fit.

    Examples
    --------
    >>> dice = np.random.default_rng(0).normal(size=(3, 50))
    >>> x = np.stack([dice[0], dice[1], dice[0] + 2 * dice[1], dice[2]], axis=1)
    >>> found = inflation_drop(x, ["NDVI", "slope", "mix", "TPI"])
    >>> found.names, found.dropped[0].because_of
    (('NDVI', 'slope', 'TPI'), ('NDVI', 'slope'))
    """
    values = np.asarray(X)
    parts, value = _named(X, names, worth, groups)
    left = list(range(len(parts)))
    dropped = []
    while len(left) > 1:
        columns = [c for k in left for c in parts[k]]
        within = _renumbered([parts[k] for k in left])
        part = values[:, columns]
        inflated = generalised_inflation(part, within).comparable
        largest = float(inflated.max())
        if largest <= limit:
            break
        near = np.flatnonzero(inflated >= largest * (1 - _SAME))
        tried = near if value is None else near[np.argsort(value[[left[k] for k in near]])]
        least = [k for k in tried if value is None or value[left[k]] == value[left[tried[0]]]]
        goes = int(max(least))
        if np.isinf(largest):
            sums = [s for s in exact_sums(part, within) if goes in s]
            others = [k for k in sums[0] if k != goes] if sums else []
        else:
            alike = correlations(part, within)[goes]
            alike[goes] = 0.0
            others = [int(alike.argmax())]
        because = tuple(names[left[k]] for k in others)
        dropped.append(Dropped(names[left[goes]], "vif", largest, because))
        del left[goes]
    return _kept(left, names, parts, dropped)


def _renumbered(parts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The same groups where their columns lie one after another."""
    ends = np.cumsum([len(part) for part in parts])
    return [list(range(end - len(part), end)) for part, end in zip(parts, ends, strict=True)]


def _named(
    X: ArrayLike, names: Sequence[str], worth: ArrayLike | None, groups: Groups | None
) -> tuple[list[list[int]], Floats | None]:
    shape = np.shape(X)
    parts = parts_of(groups, shape[1] if len(shape) == 2 else len(names))
    if len(names) != len(parts):
        raise DataError(
            f"There are {len(names)} names for {len(parts)} "
            f"{'columns' if groups is None else 'factors'}.",
            hint=f"Give one name per {'column' if groups is None else 'factor'}.",
        )
    if worth is None:
        return parts, None
    value = np.asarray(worth, np.float64).ravel()
    if value.size != len(parts) or np.isnan(value).any():
        raise DataError(
            f"The worth of {value.size} factors was given for {len(parts)}.",
            hint="Give one number per factor, none of them NaN.",
        )
    return parts, value


def _kept(
    left: list[int], names: Sequence[str], parts: list[list[int]], dropped: list[Dropped]
) -> Kept:
    columns = sorted(c for k in left for c in parts[k])
    return Kept(tuple(names[k] for k in left), tuple(columns), tuple(dropped))
