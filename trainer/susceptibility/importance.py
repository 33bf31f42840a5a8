"""How much a model owes to each factor, on ground that it did not learn from.

A factor's values are shuffled among held-out samples of spatial folds; the fall in AUC is what the
model owes to it (L. Breiman, Random Forests, Machine Learning 45, 2001,
doi 10.1023/A:1010933404324; on spatial folds: A. Brenning, IGARSS 2012,
doi 10.1109/IGARSS.2012.6352393). All columns of a factor move together: sine and cosine of the
aspect, the columns of classes.

- ``samples``: values move between any two samples.
- ``blocks``: each block of ground takes the values of one other block. Neighbours stay as alike as
  they were, so the shuffled ground is ground that could be; the falls spread more, as there are
  fewer blocks than samples.

What one factor tells that another tells as well is credited to both in part: with a copy beside it
the best factor can look unimportant. Nothing is fitted anew: the model of each fold is asked once
per factor and shuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from trainer.susceptibility.bootstrap import BlockDraws, Interval, interval
from trainer.susceptibility.folds import Folds

__all__ = ["Importance", "assembled", "cost", "permutation_importance", "permuted", "sources"]

Floats = NDArray[np.float64]
WAYS = ("samples", "blocks")


@dataclass(frozen=True)
class Importance:
    """Fall in AUC when a factor is shuffled.

    Attributes
    ----------
    fall : Interval
        Pooled over the folds, mean over the shuffles; the interval is over whole blocks (paired)
        and over the shuffles. Unless all of it is above 0, nothing says that the model owes
        anything to the factor; below 0, the model would do better without what it fitted there.
    each : ndarray of float64, shape (permutations,)
        Pooled fall of each shuffle.
    spread : float
        Standard deviation over the shuffles; NaN with one.
    folds : ndarray of float64, shape (folds,)
        Mean fall in each fold; NaN where its test part holds one class only.
    """

    fall: Interval
    each: Floats
    spread: float
    folds: Floats


def sources(
    blocks: NDArray[np.int64], permutations: int, seed: int, way: str = "samples"
) -> NDArray[np.int64]:
    """Return from which sample each sample takes its values, for every shuffle.

    Parameters
    ----------
    blocks : ndarray of int64, shape (n,)
    permutations, seed : int
    way : {"samples", "blocks"}
        ``blocks``: blocks are put in a random ring and each takes the values of the next, samples
        of both in random order; a smaller block gives values more than once.

    Returns
    -------
    ndarray of int64, shape (permutations, n)

    Raises
    ------
    DataError
        Another way, or one block only.

    Examples
    --------
    >>> blocks = np.array([4, 4, 8, 8])
    >>> bool((blocks[sources(blocks, 9, 0, "blocks")] != blocks).all())
    True
    """
    rng = np.random.default_rng([seed, WAYS.index(way) if way in WAYS else 9])
    if way not in WAYS:
        raise DataError(f'Values shuffled by "{way}" were asked for; known: {", ".join(WAYS)}.')
    size = len(blocks)
    if way == "samples":
        return (
            np.stack([rng.permutation(size) for _ in range(permutations)])
            if permutations
            else (np.empty((0, size), np.int64))
        )
    distinct, of = np.unique(blocks, return_inverse=True)
    if distinct.size < 2:
        raise DataError(
            "All samples lie in one block; there is no other to take values from.",
            hint="Make block_size smaller, or shuffle samples.",
        )
    members = [np.flatnonzero(of == block) for block in range(distinct.size)]
    found = np.empty((permutations, size), np.int64)
    for row in found:
        ring = rng.permutation(distinct.size)
        for block, other in zip(ring, np.roll(ring, 1), strict=True):
            row[rng.permutation(members[block])] = np.resize(
                rng.permutation(members[other]), members[block].size
            )
    return found


def permuted(
    fitted: Any,
    features: NDArray[np.float32],
    test: NDArray[np.int64],
    columns: Mapping[str, Sequence[int]],
    source: NDArray[np.int64],
) -> dict[str, Floats]:
    """Return what a model of one fold says of its test part with each factor shuffled.

    Parameters
    ----------
    fitted : estimator
        Of this fold.
    features : ndarray, shape (n, k)
        Of all samples: values come from other test parts, too.
    test : ndarray of int64
        Positions of the test part.
    columns : mapping of factor to sequence of int
        Columns that move together.
    source : ndarray of int64, shape (permutations, n)
        As `sources` returns it.

    Returns
    -------
    dict of factor to ndarray of float64, shape (permutations, len(test))
    """
    found: dict[str, Floats] = {}
    for name, chosen in columns.items():
        where = list(chosen)
        found[name] = np.empty((len(source), test.size))
        for row, of in zip(found[name], source, strict=True):
            moved = features[test]
            moved[:, where] = features[np.ix_(of[test], where)]
            row[:] = fitted.predict_proba(moved)[:, 1]
    return found


def assembled(
    labels: NDArray[Any],
    probability: Floats,
    shuffled: Mapping[str, Floats],
    folds: NDArray[np.int64],
    blocks: NDArray[np.int64],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Importance]:
    """Return the importance of each factor from held-out probabilities, the largest first.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    probability : ndarray of float64, shape (n,)
        Held out; NaN where a sample lies in no fold.
    shuffled : mapping of factor to ndarray of float64, shape (permutations, n)
        What `permuted` said of each fold, put together.
    folds : ndarray of int64, shape (n,)
        Test fold of each sample; below 0 for none.
    blocks : ndarray of int64, shape (n,)
    resamples, seed : int

    Returns
    -------
    dict of factor to Importance
    """
    tested = np.flatnonzero((folds >= 0) & np.isfinite(probability))
    true, fold = np.asarray(labels)[tested], folds[tested]
    draws = BlockDraws(blocks[tested], resamples, seed)
    parts = [np.flatnonzero(fold == each) for each in np.unique(fold)]
    rng = np.random.default_rng([seed, len(WAYS)])
    whole = draws.auc(true, [probability[tested]])
    whole_of = _by_part(true, probability[tested], parts)
    found: dict[str, Importance] = {}
    for name, rows in shuffled.items():
        if not len(rows):
            continue
        kept = [np.ascontiguousarray(row[tested]) for row in rows]
        falls = whole - np.stack([draws.auc(true, [row]) for row in kept])
        each = falls[:, 0]
        # A draw takes some of the shuffles, too: five are not all there are.
        taken = rng.integers(0, len(kept), (falls.shape[1] - 1, len(kept)))
        drawn = falls[taken, np.arange(1, falls.shape[1])[:, None]].mean(axis=1)
        by_part = np.array([_by_part(true, row, parts) for row in kept])
        found[name] = Importance(
            fall=interval(float(each.mean()), drawn),
            each=each,
            spread=float(each.std(ddof=1)) if each.size > 1 else float("nan"),
            folds=whole_of - by_part.mean(axis=0),
        )
    return dict(sorted(found.items(), key=lambda item: -item[1].fall.value))


def _area(labels: NDArray[Any], scores: Floats) -> float:
    return float(BlockDraws(np.zeros(labels.size, np.int64), 0, 0).auc(labels, [scores])[0])


def _by_part(labels: NDArray[Any], scores: Floats, parts: Sequence[NDArray[np.int64]]) -> Floats:
    return np.array([_area(labels[part], scores[part]) for part in parts])


def cost(folds: int, factors: int, permutations: int, samples: int, refit: bool) -> dict[str, int]:
    """Return what `permutation_importance` will do: fits, and samples asked of a model.

    Examples
    --------
    >>> cost(folds=5, factors=14, permutations=5, samples=900, refit=True)
    {'fits': 5, 'predictions': 63900}
    """
    return {
        "fits": folds if refit else 0,
        "predictions": samples * (factors * permutations + (1 if refit else 0)),
    }


def permutation_importance(
    model: Any,
    features: NDArray[np.float32],
    labels: NDArray[np.uint8],
    columns: Mapping[str, Sequence[int]],
    folds: Folds,
    blocks: NDArray[np.int64],
    places: NDArray[np.float64] | None = None,
    *,
    way: str = "samples",
    permutations: int = 5,
    resamples: int = 1000,
    seed: int = 0,
    fitted: Sequence[Any] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Importance]:
    """Return the importance of each factor over spatial folds, the largest first.

    Where the folds are being fitted anyway, `sources`, `permuted` and `assembled` do the same
    fold by fold.

    Parameters
    ----------
    model : estimator
        Fitted once per fold; not changed.
    features : ndarray, shape (n, k)
    labels : ndarray, shape (n,)
    columns : mapping of factor to sequence of int
        Columns of the features that belong to each factor.
    folds : list of (train, test)
    blocks : ndarray of int64, shape (n,)
    places : ndarray of float64, shape (n, 2), optional
    way : {"samples", "blocks"}
    permutations, resamples, seed : int
    fitted : sequence of estimator, optional
        One per fold, instead of fitting.
    progress : callable, optional

    Returns
    -------
    dict of factor to Importance

    Raises
    ------
    DataError
        No factor, columns that are not there, or as many models as folds were not given.
    """
    from trainer.susceptibility.folds import fold_numbers
    from trainer.susceptibility.validation import fit_fold

    positions = [column for chosen in columns.values() for column in chosen]
    if not positions or min(positions) < 0 or max(positions) >= features.shape[1]:
        raise DataError(
            f"Columns {sorted(positions)} were named of {features.shape[1]} features.",
            hint="Name the columns of every factor, from 0.",
        )
    if fitted is not None and len(fitted) != len(folds):
        raise DataError(f"{len(fitted)} fitted models were given for {len(folds)} folds.")
    source = sources(blocks, permutations, seed, way)
    probability = np.full(len(labels), np.nan)
    shuffled = {name: np.full((permutations, len(labels)), np.nan) for name in columns}
    for number, (train, test) in enumerate(folds):
        if progress is not None:
            progress(number / len(folds), f"fold {number + 1} of {len(folds)}")
        if fitted is None:
            probability[test], known = fit_fold(
                model, features, labels, train, test, blocks, places
            )
        else:
            known = fitted[number]
            probability[test] = known.predict_proba(features[test])[:, 1]
        for name, rows in permuted(known, features, test, columns, source).items():
            shuffled[name][:, test] = rows
    if progress is not None:
        progress(1.0, "done")
    return assembled(
        labels, probability, shuffled, fold_numbers(folds, len(labels)), blocks, resamples, seed
    )
