"""Where slumps are more frequent than the area would let expect, and classes for maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.breaks import breaks_of

__all__ = ["FrequencyRatios", "frequency_ratio", "natural_breaks"]


@dataclass(frozen=True)
class FrequencyRatios:
    """Frequency ratio of every class of a factor.

    Attributes
    ----------
    codes : tuple of int
        Classes that occur, ascending.
    cells, slumps : ndarray of int64
        Cells of the class, and those of them in slumps.
    ratio : ndarray of float64
        (share of all slump cells) / (share of all cells): above 1 slumps are over-represented.
    """

    codes: tuple[int, ...]
    cells: NDArray[np.int64]
    slumps: NDArray[np.int64]
    ratio: NDArray[np.float64]


def frequency_ratio(codes: ArrayLike, slumps: ArrayLike) -> FrequencyRatios:
    """Return the frequency ratio of every class of a factor.

    Parameters
    ----------
    codes : array_like of int
        Class of every cell of the area.
    slumps : array_like of bool, same shape
        Whether it lies in a slump.

    Raises
    ------
    DataError
        Shapes differ, no cells, or no slump among them.

    References
    ----------
    S. Lee and B. Pradhan 2007, doi 10.1007/s10346-006-0047-y; He et al. 2024.

    Examples
    --------
    >>> found = frequency_ratio([1, 1, 1, 2], [True, False, False, True])
    >>> found.codes, found.ratio.round(4).tolist()
    ((1, 2), [0.6667, 2.0])
    """
    kinds, hit = np.asarray(codes).ravel(), np.asarray(slumps).ravel().astype(bool)
    if kinds.size != hit.size or not kinds.size:
        raise DataError(
            f"There are {kinds.size} codes for {hit.size} cells of slumps.",
            hint="Give two arrays of the same shape.",
        )
    if not hit.any():
        raise DataError(
            f"None of the {hit.size} cells lies in a slump.",
            hint="Frequency ratios compare slumps with the area: give cells of both.",
        )
    found, at = np.unique(kinds, return_inverse=True)
    cells = np.bincount(at, minlength=found.size).astype(np.int64)
    inside = np.bincount(at[hit], minlength=found.size).astype(np.int64)
    ratio = (inside / hit.sum()) / (cells / kinds.size)
    return FrequencyRatios(tuple(int(code) for code in found), cells, inside, ratio)


def natural_breaks(values: ArrayLike, k: int) -> tuple[float, ...]:
    """Return the upper limits of `k` classes with the least variance inside (Fisher-Jenks).

    Exact up to 65,536 distinct values; beyond, see `breaks.breaks_of`, which also tells how well
    the classes fit.

    Parameters
    ----------
    values : array_like of float
        What is not finite is left out.
    k : int
        Classes; fewer where there are fewer distinct values.

    Returns
    -------
    tuple of float
        Ascending; the last is the largest value.

    Raises
    ------
    DataError
        No finite value, or no class.

    Examples
    --------
    >>> natural_breaks([1, 2, 8, 9, 9.5, float("nan")], 2)
    (2.0, 9.5)
    """
    return breaks_of(values, k).upper
