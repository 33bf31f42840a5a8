"""The eight scores of He et al. (2024, figure 9) and the AUC, with intervals over blocks of ground.

From the table of calls, with TP slumps called slumps, FP others called slumps, FN, TN:

- ``accuracy`` (TP + TN) / all; ``specificity`` TN / (TN + FP); ``recall`` TP / (TP + FN);
  ``precision`` TP / (TP + FP); ``g_mean`` sqrt(recall * specificity);
- ``heidke`` skill score and ``kappa``: for two classes one and the same number (both are given, as
  in the paper); ``matthews`` correlation;
- the false positive rate is 1 - specificity = FP / (FP + TN) (one of the papers prints FN below).

``auc`` needs no threshold. Undefined scores are NaN (precision without a call), but Matthews'
correlation is 0 where all or none are called, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.bootstrap import BlockDraws, Interval, interval

__all__ = [
    "NAMES",
    "Gap",
    "SideBySide",
    "after_choice",
    "calls",
    "cross_threshold",
    "from_calls",
    "gap",
    "side_by_side",
    "within_folds",
    "youden",
]

Floats = NDArray[np.float64]
NAMES = (
    "accuracy",
    "g_mean",
    "specificity",
    "recall",
    "precision",
    "heidke",
    "matthews",
    "kappa",
    "auc",
)
"""In the order of the paper."""


def calls(
    labels: ArrayLike, probability: ArrayLike, threshold: ArrayLike = 0.5
) -> NDArray[np.float64]:
    """Return TP, FP, FN and TN of every sample, as columns of 0 and 1.

    Parameters
    ----------
    labels : array_like of {0, 1}, shape (n,)
    probability : array_like of float, shape (n,)
        A slump is called from the threshold on.
    threshold : float or array_like of float, shape (n,)
        One for all, or one for each (`cross_threshold`).

    Returns
    -------
    ndarray of float64, shape (n, 4)

    Examples
    --------
    >>> calls([1, 1, 0, 0], [0.9, 0.2, 0.5, 0.1]).sum(axis=0).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    true, p = np.asarray(labels).ravel() == 1, np.asarray(probability, np.float64).ravel()
    if true.size != p.size:
        raise DataError(
            f"There are {p.size} probabilities for {true.size} labels.",
            hint="Give one of each per sample.",
        )
    called = p >= np.asarray(threshold, np.float64)
    return np.column_stack([called & true, called & ~true, ~called & true, ~called & ~true]).astype(
        np.float64
    )


def from_calls(table: ArrayLike) -> dict[str, Floats]:
    """Return the eight scores of tables of calls.

    Parameters
    ----------
    table : array_like of float, shape (..., 4)
        TP, FP, FN, TN.

    Returns
    -------
    dict of name to ndarray of float64, shape (...)

    Examples
    --------
    >>> found = from_calls([40, 10, 20, 30])
    >>> round(float(found["accuracy"]), 3), round(float(found["heidke"]), 3)
    (0.7, 0.4)
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(table, np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        chance = (tp + fn) * (fn + tn) + (tp + fp) * (fp + tn)
        heidke = 2 * (tp * tn - fn * fp) / chance
        everything = tp + fp + fn + tn
        agreed = (tp + tn) / everything
        expected = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / everything**2
        # Roots one by one: the product of four counts of a map leaves the range of integers.
        spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
        matthews = np.where(spread > 0, (tp * tn - fp * fn) / spread, 0.0)
        return {
            "accuracy": agreed,
            "g_mean": np.sqrt(recall * specificity),
            "specificity": specificity,
            "recall": recall,
            "precision": tp / (tp + fp),
            "heidke": heidke,
            "matthews": np.where(everything > 0, matthews, np.nan),
            "kappa": (agreed - expected) / (1 - expected),
        }


def youden(labels: ArrayLike, probability: ArrayLike) -> float:
    """Return the threshold with the largest recall + specificity - 1.

    Choose it on samples that are not scored with it. Of equals the lowest is taken; it lies
    half-way to the next lower probability, so that it does not hang on a last digit.

    Parameters
    ----------
    labels : array_like of {0, 1}, shape (n,)
    probability : array_like of float, shape (n,)

    Raises
    ------
    DataError
        One class only.

    Examples
    --------
    >>> youden([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9])
    0.4
    """
    true, p = np.asarray(labels).ravel() == 1, np.asarray(probability, np.float64).ravel()
    if not true.any() or true.all():
        raise DataError(
            f"All {true.size} samples are of one class; no threshold parts them.",
            hint="Give samples of both.",
        )
    values, inverse = np.unique(p, return_inverse=True)
    up = np.bincount(inverse, true, values.size)
    down = np.bincount(inverse, ~true, values.size)
    recall = up[::-1].cumsum()[::-1] / up.sum()
    specificity = (down.cumsum() - down) / down.sum()
    best = int(np.argmax(recall + specificity))
    return float(values[0] if best == 0 else 0.5 * (values[best - 1] + values[best]))


def cross_threshold(labels: NDArray[Any], probability: Floats, fold: NDArray[np.int64]) -> Floats:
    """Return for each sample the threshold chosen on the held-out samples of all other folds.

    Those of the training part were held out from models of their own, so the threshold is not
    drawn to what a model knows by heart; no label of a fold takes part in its threshold.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    probability : ndarray of float64, shape (n,)
        Held out.
    fold : ndarray of int64, shape (n,)
        Test fold of each sample; below 0 for none.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where a sample lies in no fold.

    Examples
    --------
    >>> labels, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    >>> cross_threshold(labels, np.array([0.2, 0.4, 0.6, 0.8]), fold).tolist()
    [0.7, 0.7, 0.3, 0.3]
    """
    found = np.full(np.shape(labels), np.nan)
    for each in np.unique(fold[fold >= 0]):
        others = (fold >= 0) & (fold != each)
        found[fold == each] = youden(labels[others], probability[others])
    return found


@dataclass(frozen=True)
class SideBySide:
    """Scores of several models on the same samples.

    Attributes
    ----------
    scores : dict of model to dict of score to Interval
    differences : dict of (a, b) to dict of score to Interval
        Score of `a` minus score of `b`, over the same draws of blocks; for every ordered pair.
    samples, left_out, blocks : int
        Samples scored; those without a probability of every model; blocks drawn from.
    """

    scores: dict[str, dict[str, Interval]]
    differences: dict[tuple[str, str], dict[str, Interval]]
    samples: int
    left_out: int
    blocks: int


def side_by_side(
    labels: NDArray[Any],
    probability: Mapping[str, Floats],
    blocks: NDArray[np.int64],
    *,
    thresholds: float | Mapping[str, Any] = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> SideBySide:
    """Score several models on the same samples, with 95 % intervals over whole blocks.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        1 slump, 0 not.
    probability : mapping of model to ndarray of float64, shape (n,)
        Held out. Samples where any of them is NaN are left out for all, and counted.
    blocks : ndarray of int64, shape (n,)
    thresholds : float or mapping of model to float or ndarray of float64, shape (n,)
        From where on a slump is called.
    resamples, seed : int

    Returns
    -------
    SideBySide

    Raises
    ------
    DataError
        No model, or no sample that all have a probability of.

    Examples
    --------
    >>> labels = np.array([1, 1, 0, 0])
    >>> found = side_by_side(labels, {"a": np.array([0.9, 0.6, 0.4, 0.7])}, np.arange(4))
    >>> found.scores["a"]["auc"].value, found.scores["a"]["recall"].value
    (0.75, 1.0)
    """
    if not probability:
        raise DataError("No model to score was given.")
    usable = np.logical_and.reduce([np.isfinite(each) for each in probability.values()])
    if not usable.any():
        raise DataError(
            f"No sample has a probability of all models ({', '.join(probability)}).",
            hint="Give what they said of the same samples.",
        )
    true = np.asarray(labels)[usable]
    draws = BlockDraws(np.asarray(blocks)[usable], resamples, seed)
    drawn: dict[str, dict[str, Floats]] = {}
    for name, each in probability.items():
        threshold = thresholds[name] if isinstance(thresholds, Mapping) else thresholds
        threshold = np.asarray(threshold, np.float64)
        if threshold.ndim:
            threshold = threshold[usable]
        table = draws.sums(calls(true, each[usable], threshold))
        drawn[name] = {**from_calls(table), "auc": draws.auc(true, [each[usable]])}
    return SideBySide(
        scores={name: {s: _interval(each[s]) for s in NAMES} for name, each in drawn.items()},
        differences={
            (a, b): {s: _interval(drawn[a][s] - drawn[b][s]) for s in NAMES}
            for a in drawn
            for b in drawn
            if a != b
        },
        samples=int(usable.sum()),
        left_out=int((~usable).sum()),
        blocks=draws.blocks,
    )


def _interval(found: Floats) -> Interval:
    return interval(float(found[0]), found[1:])


@dataclass(frozen=True)
class Gap:
    """What random folds promise beyond spatial ones, by two kinds of doubt.

    Attributes
    ----------
    random, spatial, difference : Interval
        Pooled AUC, mean over the repetitions, and random minus spatial. The interval is over whole
        blocks of ground, paired: what other samples of such ground would give.
    random_each, spatial_each : ndarray of float64, shape (repetitions,)
        Pooled AUC of each repetition.
    random_error, spatial_error, difference_error : float
        Standard error of the mean over the repetitions: what the luck of the dealing adds. It
        falls towards 0 with more repetitions of the same samples; the interval does not. NaN with
        one repetition.
    """

    random: Interval
    spatial: Interval
    difference: Interval
    random_each: Floats
    spatial_each: Floats
    random_error: float
    spatial_error: float
    difference_error: float


def gap(
    labels: NDArray[Any],
    random: Sequence[Floats],
    spatial: Sequence[Floats],
    blocks: NDArray[np.int64],
    resamples: int = 1000,
    seed: int = 0,
) -> Gap:
    """Compare random with spatial folds of one model.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    random, spatial : sequence of ndarray of float64, shape (n,)
        Held-out probabilities of each repetition. Samples where any of them is NaN are left out
        of all.
    blocks : ndarray of int64, shape (n,)
        The same for both.
    resamples, seed : int

    Returns
    -------
    Gap

    Examples
    --------
    >>> labels, blocks = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    >>> random, spatial = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.9, 0.1, 0.2, 0.8])
    >>> found = gap(labels, [random], [spatial], blocks)
    >>> found.random.value, found.spatial.value, found.difference.value
    (1.0, 0.75, 0.25)
    """
    if not len(random) or not len(spatial):
        raise DataError(
            f"{len(random)} repetitions of random and {len(spatial)} of spatial folds were given.",
            hint="Give at least one of each.",
        )
    usable = np.logical_and.reduce([np.isfinite(each) for each in (*random, *spatial)])
    true, draws = (
        np.asarray(labels)[usable],
        BlockDraws(np.asarray(blocks)[usable], resamples, seed),
    )
    at_random = draws.auc(true, [each[usable] for each in random])
    on_ground = draws.auc(true, [each[usable] for each in spatial])
    plain = BlockDraws(np.zeros(true.size, np.int64), 0, seed)
    each_random = np.array([plain.auc(true, [each[usable]])[0] for each in random])
    each_spatial = np.array([plain.auc(true, [each[usable]])[0] for each in spatial])
    # Repetitions of the two kinds are drawn independently, whatever their numbers.
    errors = [_standard_error(each) for each in (each_random, each_spatial)]
    return Gap(
        random=_interval(at_random),
        spatial=_interval(on_ground),
        difference=_interval(at_random - on_ground),
        random_each=each_random,
        spatial_each=each_spatial,
        random_error=errors[0],
        spatial_error=errors[1],
        difference_error=float(np.hypot(errors[0], errors[1])),
    )


def _standard_error(values: Floats) -> float:
    if values.size < 2:
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(values.size))


def within_folds(
    labels: NDArray[Any],
    probability: Sequence[Floats],
    folds: Sequence[NDArray[np.int64]],
    blocks: NDArray[np.int64],
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the AUC over pairs of samples of one fold only, mean over the repetitions.

    Pooled probabilities come from as many models as there are folds. Where the share of slumps
    differs between folds, each model was taught a share that errs the other way (it lacks its
    test), and pooling counts that as a fault: with factors that tell nothing the pooled AUC lies
    below 0.5, this one at 0.5. It does not say whether regions are ranked rightly against each
    other, which a map needs; read it beside the pooled one.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    probability : sequence of ndarray of float64, shape (n,)
        Held-out probabilities of each repetition. Samples where any of them is NaN are left out.
    folds : sequence of ndarray of int64, shape (n,)
        Test fold of each sample in each repetition.
    blocks : ndarray of int64, shape (n,)
    resamples, seed : int

    Returns
    -------
    Interval

    Examples
    --------
    >>> labels, fold = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    >>> within_folds(labels, [np.array([0.9, 0.8, 0.2, 0.1])], [fold], np.arange(4)).value
    1.0
    """
    usable = np.logical_and.reduce([np.isfinite(each) for each in probability])
    draws = BlockDraws(np.asarray(blocks)[usable], resamples, seed)
    return _interval(
        draws.auc(
            np.asarray(labels)[usable],
            [each[usable] for each in probability],
            [np.asarray(each)[usable] for each in folds],
        )
    )


def after_choice(
    labels: NDArray[Any],
    probability: Mapping[str, Sequence[Floats]],
    blocks: NDArray[np.int64],
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Interval, dict[str, float]]:
    """Return the AUC to expect of the best of several models, and how often each is the best.

    The best of many on some samples is partly the luckiest there, so its own AUC flatters. Blocks
    are drawn, the best model on them is chosen, and judged on the blocks that were not drawn (I.
    Tsamardinos, E. Greasidou and G. Borboudakis, Bootstrapping the out-of-sample predictions for
    efficient and accurate cross-validation, Machine Learning 107, 2018,
    doi 10.1007/s10994-018-5714-4; here with blocks of ground).

    Parameters
    ----------
    labels : ndarray, shape (n,)
    probability : mapping of model to sequence of ndarray of float64, shape (n,)
        Held-out probabilities of each repetition. Samples where any of them is NaN are left out.
    blocks : ndarray of int64, shape (n,)
    resamples, seed : int

    Returns
    -------
    Interval
        Mean over the draws, and where 95 % of them lie (over a third of the blocks each, so wider
        than the interval of an AUC over all).
    dict of model to float
        Share of the draws in which it was chosen; equals are shared out to the first.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels, blocks = np.arange(200) % 2, np.arange(200) // 10
    >>> models = {str(n): [rng.random(200)] for n in range(20)}
    >>> expected, _ = after_choice(labels, models, blocks)
    >>> expected.value < max(gap(labels, each, each, blocks).spatial.value for each in
    ...                      models.values())
    True
    """
    if not probability:
        raise DataError("No model to choose from was given.")
    every = [each for rows in probability.values() for each in rows]
    usable = np.logical_and.reduce([np.isfinite(each) for each in every])
    true, draws = np.asarray(labels)[usable], BlockDraws(blocks[usable], resamples, seed)
    held = {name: [each[usable] for each in rows] for name, rows in probability.items()}
    inside = np.stack([draws.auc(true, rows)[1:] for rows in held.values()])
    outside = np.stack([draws.auc(true, rows, outside=True)[1:] for rows in held.values()])
    known = np.isfinite(inside[0]) & np.isfinite(outside[0])
    if not known.any():
        raise DataError(
            f"No draw of {draws.blocks} blocks leaves samples of both classes in and out.",
            hint="Make block_size smaller, or add slumps.",
        )
    best = inside[:, known].argmax(axis=0)
    judged = outside[:, known][best, np.arange(best.size)]
    return interval(float(judged.mean()), judged), {
        name: float((best == number).mean()) for number, name in enumerate(held)
    }
