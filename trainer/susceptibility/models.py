"""Factors as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.bands import BANDS
from thawslump.errors import DataError

__all__ = [
    "classes_of",
    "design",
    "feature_factors",
    "feature_names",
    "unseen",
]


# Directions, and the slope of the same convention.
_ASPECTS = {"aspect": "slope", "aspect_horn": "slope_horn"}


def feature_names(
    factors: Sequence[str], classes: Mapping[str, Sequence[int]] | None = None
) -> tuple[str, ...]:
    """Return the names of the columns that `design` makes of the factors.

    Examples
    --------
    >>> feature_names(["slope", "aspect", "lithology"], {"lithology": (2, 5)})
    ('slope', 'aspect_sine', 'aspect_cosine', 'lithology=2', 'lithology=5')
    >>> feature_names(["aspect_horn"])
    ('aspect_horn_sine', 'aspect_horn_cosine')
    """
    names: list[str] = []
    for factor in factors:
        if factor in _ASPECTS:
            names += [f"{factor}_sine", f"{factor}_cosine"]
        elif classes and factor in classes:
            names += [f"{factor}={number}" for number in classes[factor]]
        else:
            names.append(factor)
    return tuple(names)


def feature_factors(
    factors: Sequence[str], classes: Mapping[str, Sequence[int]] | None = None
) -> tuple[str, ...]:
    """Return the factor of each column that `design` makes of the factors.

    Examples
    --------
    >>> feature_factors(["slope", "aspect", "lithology"], {"lithology": (2, 5)})
    ('slope', 'aspect', 'aspect', 'lithology', 'lithology')
    """
    return tuple(factor for factor in factors for _ in feature_names([factor], classes))


def classes_of(factors: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    """Return the classes of the factors that hold some, such as lithology, by factor.

    Parameters
    ----------
    factors : mapping of name to ndarray of float32
        Of the samples that a model learns from. `thawslump.bands.BANDS` says which hold classes.

    Raises
    ------
    DataError
        Values that are no whole numbers.

    Examples
    --------
    >>> classes_of({"slope": np.array([1.5]), "lithology": np.array([4.0, 2.0, 4.0, np.nan])})
    {'lithology': (2, 4)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, values in factors.items():
        if name not in BANDS or not BANDS[name].categorical:
            continue
        numbers = np.unique(values[np.isfinite(values)])
        odd = numbers[numbers != np.rint(numbers)]
        if odd.size:
            raise DataError(
                f"Factor {name} holds {odd[0]:g}; its values are class numbers, so whole numbers.",
                hint="Resample it by the nearest value, never by means, and import it again.",
            )
        found[name] = tuple(int(number) for number in numbers)
    return found


def unseen(
    factors: Mapping[str, NDArray[np.float32]], classes: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Return how many cells of each factor have a class that the model never learned from.

    Examples
    --------
    >>> unseen({"lithology": np.array([2.0, 3.0, np.nan])}, {"lithology": (2, 5)})
    {'lithology': 1}
    """
    return {
        name: int(np.count_nonzero(np.isfinite(factors[name]) & ~np.isin(factors[name], known)))
        for name, known in classes.items()
    }


def design(
    factors: Mapping[str, NDArray[np.float32]], classes: Mapping[str, Sequence[int]] | None = None
) -> NDArray[np.float32]:
    """Return factor values as columns of features.

    - Aspect (degrees clockwise from north) becomes sine (east positive) and cosine (north
      positive): 359 and 1 degrees are neighbours, and a linear model can use it.
    - Where slope is given and is 0, aspect has no meaning; both become 0.
    - A factor of classes becomes one column per class, 1 where it is and else 0: class 4 is not
      twice class 2. Another class than those is missing in all of them.
    - NaN stays NaN: the pipeline fills it with the mean of its own training part, which for
      classes is their share.

    Parameters
    ----------
    factors : mapping of name to ndarray of float32, any one shape
        In the order of the columns.
    classes : mapping of name to sequence of int, optional
        Of the factors that hold classes (`classes_of`).

    Returns
    -------
    ndarray of float32, shape (cells, features)
        Cells in C order.

    Examples
    --------
    >>> cells = {"slope": np.array([5.0, 0.0]), "aspect": np.array([90.0, 90.0])}
    >>> design(cells).round(3).tolist()
    [[5.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    >>> other = {"slope_horn": cells["slope"], "aspect_horn": cells["aspect"]}
    >>> design(other).tolist() == design(cells).tolist()
    True
    >>> design({"lithology": np.array([2.0, 5.0, 3.0])}, {"lithology": (2, 5)}).tolist()
    [[1.0, 0.0], [0.0, 1.0], [nan, nan]]
    """
    columns: list[NDArray[Any]] = []
    for name, values in factors.items():
        flat = np.asarray(values, np.float32).ravel()
        if classes and name in classes:
            known = np.isin(flat, classes[name])
            columns += [np.where(known, flat == number, np.nan) for number in classes[name]]
            continue
        if name not in _ASPECTS:
            columns.append(flat)
            continue
        angle = np.deg2rad(flat.astype(np.float64))
        sine, cosine = np.sin(angle), np.cos(angle)
        slope = _ASPECTS[name] if _ASPECTS[name] in factors else "slope"
        if slope in factors:
            flat_ground = np.asarray(factors[slope]).ravel() == 0
            sine, cosine = np.where(flat_ground, 0.0, sine), np.where(flat_ground, 0.0, cosine)
        columns += [sine, cosine]
    return np.stack([column.astype(np.float32) for column in columns], axis=1)
