"""Scores that do not flatter: spatial folds beside random ones, intervals over blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from thawslump.errors import DataError
from trainer.susceptibility.bootstrap import Interval, interval
from trainer.susceptibility.folds import Folds, random_folds, spatial_folds

__all__ = [
    "Folds",
    "Interval",
    "auc",
    "block_bootstrap",
    "fit_fold",
    "interval",
    "out_of_fold",
    "random_folds",
    "spatial_folds",
]


def auc(
    labels: NDArray[np.uint8],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Return the area under the ROC curve: how often a positive outscores a negative.

    Ties count half. Weights multiply samples, so whole numbers act as repetitions.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        1 positive, 0 negative.
    scores : ndarray of float, shape (n,)
        Higher is more likely positive; no NaN.
    weights : ndarray of float, shape (n,), optional

    Returns
    -------
    float
        Between 0 and 1; NaN where one of the classes is absent.

    Examples
    --------
    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    order = np.argsort(scores, kind="stable")
    if order.size == 0:
        return float("nan")
    weight = np.ones(order.size) if weights is None else np.asarray(weights)[order]
    ordered, positive = np.asarray(scores)[order], np.asarray(labels)[order] == 1
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ups = np.add.reduceat(weight * positive, starts)
    downs = np.add.reduceat(weight * ~positive, starts)
    pairs = ups.sum() * downs.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(downs) - downs
    return float((ups * (below + 0.5 * downs)).sum() / pairs)


def fit_fold(
    model: Any,
    features: NDArray[np.float32],
    labels: NDArray[np.uint8],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    blocks: NDArray[np.int64] | None = None,
    places: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], Any]:
    """Fit a copy of a model to the training part; return what it says of the test part, and it.

    Filling, scaling, bins and selection belong inside `model`: what is fitted before the samples
    are parted has seen the test.

    Parameters
    ----------
    model : estimator
        Not changed.
    features : ndarray, shape (n, k)
        NaN where a factor is missing.
    labels : ndarray, shape (n,)
    train, test : ndarray of int64
        Positions.
    blocks : ndarray of int64, shape (n,), optional
        Ground that models with inner folds do not split; leave out where the folds are random.
    places : ndarray of float64, shape (n, 2), optional
        Of models with a regional effect.

    Returns
    -------
    probability : ndarray of float64, shape (len(test),)
    fitted : estimator

    Raises
    ------
    DataError
        The training part holds one class only, or the model says something that is no number.
    """
    from trainer.susceptibility.ensembles import fit_on_ground  # which splits by these folds

    if np.unique(labels[train]).size < 2:
        raise DataError(
            f"The training part holds only one class ({train.size} samples).",
            hint="Use fewer folds or smaller blocks, or add slumps.",
        )
    fitted = fit_on_ground(
        clone(model),
        features[train],
        labels[train],
        None if blocks is None else blocks[train],
        None if places is None else places[train],
    )
    said = np.asarray(fitted.predict_proba(features[test])[:, 1], np.float64)
    if not np.isfinite(said).all():
        raise DataError(
            f"{type(model).__name__} gives {int((~np.isfinite(said)).sum())} of {said.size} test "
            "samples no probability.",
            hint="Let it fill missing factors, or leave such samples out.",
        )
    return said, fitted


def out_of_fold(
    model: Pipeline,
    features: NDArray[np.float32],
    labels: NDArray[np.uint8],
    folds: Folds,
    blocks: NDArray[np.int64] | None = None,
    places: NDArray[np.float64] | None = None,
    *,
    progress: Callable[[float, str], None] | None = None,
    held: Mapping[int, NDArray[np.float64]] | None = None,
    keep: Callable[[int, NDArray[np.float64], Any], None] | None = None,
) -> NDArray[np.float64]:
    """Return for each sample the probability given by a model that never saw its fold.

    The pipeline, scaler and fill values included, is cloned and fitted anew in every fold.

    Parameters
    ----------
    model : Pipeline
        Not changed.
    features : ndarray, shape (n, k)
        NaN where a factor is missing.
    labels : ndarray, shape (n,)
    folds : list of (train, test)
    blocks, places : ndarray, optional
        As of `fit_fold`.
    progress : callable, optional
        Told the share of folds done, with words, before each fold and at the end.
    held : mapping of fold to ndarray of float64, optional
        What is known of earlier folds, as `keep` was given it: they are not fitted again.
    keep : callable, optional
        Given the number of each fold that was fitted, the probabilities of its test part, and the
        fitted model.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where a sample lies in no test part.

    Raises
    ------
    DataError
        A training part holds one class only, or what is held does not fit a fold.
    """
    scores = np.full(labels.shape, np.nan)
    for number, (train, test) in enumerate(folds):
        if progress is not None:
            progress(number / len(folds), f"fold {number + 1} of {len(folds)}")
        if held is not None and number in held:
            if held[number].shape != test.shape:
                raise DataError(
                    f"{held[number].size} probabilities are held of fold {number + 1}, which tests "
                    f"{test.size} samples.",
                    hint="They are of other folds; fit it again.",
                )
            scores[test] = held[number]
            continue
        if np.unique(labels[train]).size < 2:
            raise DataError(
                f"The training part of fold {number + 1} of {len(folds)} holds only one class "
                f"({train.size} samples).",
                hint="Use fewer folds or smaller blocks, or add slumps.",
            )
        scores[test], fitted = fit_fold(model, features, labels, train, test, blocks, places)
        if keep is not None:
            keep(number, scores[test], fitted)
    if progress is not None:
        progress(1.0, "done")
    return scores


def block_bootstrap(
    statistics: Callable[[NDArray[np.float64]], Iterable[float]],
    blocks: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return statistics of `resamples` draws of whole blocks with replacement.

    Samples of one block are not independent: drawing blocks keeps them together, so that the
    spread of the result is that of other places, not of other pixels of the same place.

    Parameters
    ----------
    statistics : callable
        Takes the weight of each sample (how often its block was drawn), returns numbers.
    blocks : ndarray of int64, shape (n,)
    resamples, seed : int

    Returns
    -------
    ndarray of float64, shape (resamples, numbers)

    Examples
    --------
    >>> draws = block_bootstrap(lambda w: [w.sum()], np.array([3, 3, 5, 5]), 200, 0)
    >>> float(draws.min()), float(draws.max())
    (4.0, 4.0)
    """
    distinct, inverse = np.unique(blocks, return_inverse=True)
    rng = np.random.default_rng(seed)
    even = np.full(distinct.size, 1.0 / distinct.size)
    rows = []
    for _ in range(resamples):
        drawn = rng.multinomial(distinct.size, even).astype(np.float64)
        rows.append(list(statistics(drawn[inverse])))
    return np.asarray(rows, np.float64).reshape(resamples, -1)
