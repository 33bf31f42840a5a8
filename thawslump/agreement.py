"""How far people who drew the same ground agree: with each other, and with a map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fleiss_kappa", "krippendorff_alpha", "leave_one_out", "majority", "pairwise", "shares"]

Masks = NDArray[np.bool_]


def shares(drawn: Masks) -> NDArray[np.float32]:
    """Return the share of the experts who drew each pixel.

    Parameters
    ----------
    drawn : ndarray of bool, shape (experts, y, x)

    Returns
    -------
    ndarray of float32, shape (y, x)

    Examples
    --------
    >>> shares(np.array([[[1, 0]], [[1, 1]]], bool)).tolist()
    [[1.0, 0.5]]
    """
    return np.asarray(drawn, dtype=bool).mean(axis=0, dtype="float64").astype("float32")


def majority(drawn: Masks) -> Masks:
    """Return the pixels that more than half of the experts drew: a tie is no slump.

    Examples
    --------
    >>> majority(np.array([[[1, 0]], [[1, 1]]], bool)).tolist()
    [[True, False]]
    """
    drawn = np.asarray(drawn, dtype=bool)
    return np.asarray(2 * drawn.sum(axis=0) > len(drawn))


def pairwise(drawn: Masks, others: Masks | None = None) -> dict[str, NDArray[np.float64]]:
    """Return F1 and IoU of every two masks.

    Parameters
    ----------
    drawn : ndarray of bool, shape (n, ...)
    others : ndarray of bool, shape (m, ...), optional
        Compared with `drawn`; `drawn` itself where not given.

    Returns
    -------
    dict of "f1" and "iou" to ndarray of float64, shape (n, m)
        NaN where both are empty.

    Examples
    --------
    >>> pairwise(np.array([[1, 1, 0], [1, 0, 0]], bool))["f1"].round(2).tolist()
    [[1.0, 0.67], [0.67, 1.0]]
    """
    a = np.asarray(drawn, dtype=bool).reshape(len(drawn), -1).astype("float64")
    b = a if others is None else np.asarray(others, bool).reshape(len(others), -1).astype("float64")
    shared = a @ b.T
    total = a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :]
    with np.errstate(invalid="ignore"):
        return {"f1": 2 * shared / total, "iou": shared / (total - shared)}


def leave_one_out(drawn: Masks) -> dict[str, NDArray[np.float64]]:
    """Return F1 and IoU of each expert with the majority of all others.

    It is what a model's agreement with the majority is to be set beside: an expert who counts
    in the majority agrees with it by that alone.

    Parameters
    ----------
    drawn : ndarray of bool, shape (experts, y, x)
        Of two experts or more.

    Returns
    -------
    dict of "f1" and "iou" to ndarray of float64, shape (experts,)
        NaN where neither the expert nor the majority of the others drew anything.

    Examples
    --------
    >>> leave_one_out(np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]], bool))["f1"].round(2).tolist()
    [0.67, 1.0, 1.0]
    """
    if len(drawn) < 2:
        raise ValueError(f"there are no others: {len(drawn)} expert was given")
    found: dict[str, list[float]] = {"f1": [], "iou": []}
    for i in range(len(drawn)):
        others = np.delete(drawn, i, axis=0)
        pair = pairwise(drawn[i : i + 1], majority(others)[None])
        for name, values in found.items():
            values.append(float(pair[name][0, 0]))
    return {name: np.array(values) for name, values in found.items()}


def fleiss_kappa(counts: NDArray[Any]) -> float:
    """Return Fleiss' kappa: agreement beyond what the experts' shares alone would give.

    Parameters
    ----------
    counts : ndarray of int, shape (subjects, categories)
        How many experts chose each category; the same number of experts for every subject.

    Returns
    -------
    float
        1 in full agreement, 0 at chance; NaN where all chose one category throughout.

    Raises
    ------
    ValueError
        The number of experts differs between subjects, or is below 2.

    Notes
    -----
    Fleiss 1971, Psychological Bulletin 76: 378-382.

    Examples
    --------
    >>> fleiss_kappa(np.array([[2, 0], [0, 2], [2, 0]]))
    1.0
    """
    counts = np.asarray(counts, dtype="float64")
    experts = counts.sum(axis=1)
    if not counts.size or experts.min() != experts.max() or experts[0] < 2:
        raise ValueError("every subject is judged by the same number of experts, 2 or more")
    n = experts[0]
    observed = ((counts**2).sum(axis=1) - n).mean() / (n * (n - 1))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return float((observed - expected) / (1 - expected)) if expected < 1 else float("nan")


def krippendorff_alpha(counts: NDArray[Any]) -> float:
    """Return Krippendorff's alpha of nominal categories; subjects may lack experts.

    Parameters
    ----------
    counts : ndarray of int, shape (subjects, categories)
        How many experts chose each category; subjects with fewer than two do not count.

    Returns
    -------
    float
        1 in full agreement, 0 at chance; NaN where only one category was ever chosen.

    Notes
    -----
    Krippendorff 2011, "Computing Krippendorff's alpha-reliability".

    Examples
    --------
    >>> krippendorff_alpha(np.array([[2, 0], [0, 2], [1, 0]]))
    1.0
    """
    counts = np.asarray(counts, dtype="float64")
    experts = counts.sum(axis=1)
    counts, experts = counts[experts >= 2], experts[experts >= 2]
    if not counts.size:
        return float("nan")
    within = ((experts**2 - (counts**2).sum(axis=1)) / (experts - 1)).sum()
    totals = counts.sum(axis=0)
    total = totals.sum()
    between = (total**2 - (totals**2).sum()) / (total - 1)
    return float(1 - within / between) if between > 0 else float("nan")
