"""Matrices that count actual against predicted classes, and the measures taken from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import EngineError
from ..values import Array, Collection, ConfusionMatrix
from .registry import function

__all__ = ["confusion"]

# A matrix of more classes than this is a mistake: a band of measurements taken for classes.
_MOST_CLASSES = 4096


def confusion(
    actual: np.ndarray[Any, Any],
    predicted: np.ndarray[Any, Any],
    order: Sequence[int] | None = None,
) -> ConfusionMatrix:
    """Return counts of actual (rows) against predicted (columns) classes.

    Parameters
    ----------
    actual, predicted : (n,) arrays of numbers
        Cut to integers.
    order : sequence of int, optional
        The classes of the matrix; pairs with another class do not count. 0 to the greatest
        class by default ([A] Collection.errorMatrix).

    Returns
    -------
    ConfusionMatrix

    Raises
    ------
    EngineError
        A class is negative, not finite or larger than 4095, and no order is given.

    Examples
    --------
    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0])).values.astype(int).tolist()
    [[1, 0], [1, 1]]
    """
    both = np.stack([np.asarray(actual, float), np.asarray(predicted, float)])
    if not np.isfinite(both).all():
        raise EngineError("Class values must be finite numbers.")
    both = np.trunc(both)
    if order is None:
        least, most = both.min(initial=0), both.max(initial=0)
        if least < 0 or most >= _MOST_CLASSES:
            found = least if least < 0 else most
            raise EngineError(
                f"Class values must be small integers, starting from 0; found {found:g}."
            )
        classes = np.arange(int(most) + 1)
    else:
        classes = np.asarray(order, np.int64)
        if len(set(order)) != len(order):
            raise EngineError(f"The order {list(order)} names a class twice.")
    by_value = np.argsort(classes, kind="stable")
    ordered = classes[by_value]
    places = np.searchsorted(ordered, both)
    inside = places < len(ordered)
    known = inside & (ordered[np.where(inside, places, 0)] == both) if len(ordered) else inside
    rows, columns = by_value[places[:, known.all(axis=0)]]
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (rows, columns), 1)
    return ConfusionMatrix(table, tuple(int(c) for c in classes))


@function("Collection.errorMatrix")
def error_matrix(
    items: Collection, actual: str, predicted: str, order: list[int] | None
) -> ConfusionMatrix:
    """Compare two properties; elements that lack one of them do not count."""
    pairs = []
    for item in items:
        pair = [item.properties.get(actual), item.properties.get(predicted)]
        for name, value in zip((actual, predicted), pair, strict=True):
            if value is not None and not isinstance(value, (int, float)):
                raise EngineError(f"Property '{name}' must be a number, not '{value}'.")
        if None not in pair:
            pairs.append(pair)
    table = np.asarray(pairs, float).reshape(-1, 2)
    return confusion(table[:, 0], table[:, 1], order)


@function("ConfusionMatrix")
def confusion_matrix(array: Any, order: list[int] | None) -> ConfusionMatrix:
    """Return a matrix of counts."""
    from .arrays import as_array

    table = as_array(array).values.astype(float)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise EngineError("A confusion matrix must be square.")
    if order is not None and len(order) != len(table):
        raise EngineError(
            f"The order names {len(order)} classes, the matrix has {len(table)} rows."
        )
    return ConfusionMatrix(table, tuple(range(len(table)) if order is None else order))


@function("ConfusionMatrix.accuracy")
def accuracy(matrix: ConfusionMatrix) -> float:
    """Return the share on the diagonal."""
    total = matrix.values.sum()
    return float(np.trace(matrix.values) / total) if total else 0.0


@function("ConfusionMatrix.kappa")
def kappa(matrix: ConfusionMatrix) -> float:
    """Return the agreement beyond chance."""
    table = matrix.values
    total = table.sum()
    if not total:
        return 0.0
    agree = np.trace(table) / total
    chance = float((table.sum(axis=0) * table.sum(axis=1)).sum()) / total**2
    return float((agree - chance) / (1 - chance)) if chance != 1 else 1.0


def _shares(table: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    sums = table.sum(axis=axis)
    return np.divide(np.diag(table), sums, out=np.zeros(len(table)), where=sums > 0)


@function("ConfusionMatrix.producersAccuracy")
def producers(matrix: ConfusionMatrix) -> Array:
    """Return the share right of each actual class, as a column."""
    return Array(_shares(matrix.values, 1)[:, None])


@function("ConfusionMatrix.consumersAccuracy")
def consumers(matrix: ConfusionMatrix) -> Array:
    """Return the share right of each predicted class, as a row."""
    return Array(_shares(matrix.values, 0)[None, :])


@function("ConfusionMatrix.fscore")
def fscore(matrix: ConfusionMatrix, beta: float) -> Array:
    """Return the F score of each class."""
    if not abs(beta) < 1e100:
        raise EngineError(f"Beta must be a finite number. Found {beta:g}.")
    p, r = _shares(matrix.values, 0), _shares(matrix.values, 1)
    square = beta**2
    low = square * p + r
    return Array(np.divide((1 + square) * p * r, low, out=np.zeros(len(p)), where=low > 0))


@function("ConfusionMatrix.order")
def order(matrix: ConfusionMatrix) -> list[int]:
    """Return the classes."""
    return list(matrix.order)


@function("ConfusionMatrix.array")
def array(matrix: ConfusionMatrix) -> Array:
    """Return the counts."""
    return Array(matrix.values)
