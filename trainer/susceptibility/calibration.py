"""Whether a probability means what it says, and a curve that makes it so.

Learn curves from held-out probabilities, of other blocks of ground than those the model saw: a
model knows its own samples too well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.bootstrap import BlockDraws, Interval, interval

__all__ = ["Curve", "Reliability", "cross_curve", "held_out", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """Probabilities beside what came true, by bins of equal width.

    Attributes
    ----------
    said, came, count : ndarray, shape (bins,)
        Mean probability, share of positives (NaN in empty bins), samples.
    brier : float
        Mean squared difference of probability and truth; 0 is best.
    error : float
        Expected calibration error: mean of abs(said - came), weighted by the samples. Of few
        samples it is above 0 even where every probability is true.
    skill : float
        Brier skill score: 1 - brier / (that of always saying the share of slumps); 0 or below: the
        probabilities are of no use as such, however well they rank. NaN with one class.
    came_interval : ndarray, shape (bins, 2)
        95 % of `came` over draws of whole blocks; NaN without blocks and in empty bins.
    brier_interval, error_interval, skill_interval : Interval or None
        Over the same draws; None without blocks. That of `error` lies too high, as draws add to
        what the samples do by chance.
    """

    said: NDArray[np.float64]
    came: NDArray[np.float64]
    count: NDArray[np.int64]
    brier: float
    error: float
    skill: float
    came_interval: NDArray[np.float64]
    brier_interval: Interval | None = None
    error_interval: Interval | None = None
    skill_interval: Interval | None = None


def _checked(probability: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, labels = np.asarray(probability, np.float64).ravel(), np.asarray(y).ravel().astype(np.int64)
    if p.size != labels.size or not p.size:
        raise DataError(
            f"There are {p.size} probabilities for {labels.size} labels.",
            hint="Give one of each per sample.",
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("Probabilities lie outside 0 to 1.", hint="Give those of a slump.")
    if not np.isin(labels, (0, 1)).all():
        raise DataError("Labels other than 0 and 1 were given.", hint="1 is a slump, 0 is none.")
    return p, labels


def _skill(brier: Any, share: Any) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.asarray(share * (1 - share), np.float64)
        return np.where(known > 0, 1 - brier / known, np.nan)[()]


def reliability(
    probability: ArrayLike,
    y: ArrayLike,
    bins: int = 10,
    *,
    blocks: NDArray[np.int64] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Reliability:
    """Compare probabilities with the truth.

    Parameters
    ----------
    probability : array_like of float, shape (n,)
        Of a slump, 0 to 1, held out.
    y : array_like of {0, 1}, shape (n,)
    bins : int
        Of equal width; a value on a limit belongs to the upper bin.
    blocks : ndarray of int64, shape (n,), optional
        Ground that is drawn as a whole for the intervals.
    resamples, seed : int

    Examples
    --------
    >>> found = reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2)
    >>> found.came.tolist(), round(found.error, 3), round(found.brier, 3)
    ([0.0, 0.5], 0.25, 0.21)
    """
    p, labels = _checked(probability, y)
    if bins < 1:
        raise DataError(f"{bins} bins were asked for.", hint="Give 1 or more.")
    # The tiny lift keeps 0.3 out of the bin below 0.3: 0.3 * 10 is 3 less a last digit elsewhere.
    of = np.minimum((p * bins + 1e-9).astype(np.int64), bins - 1)
    inside = of[:, None] == np.arange(bins)
    draws = BlockDraws(
        np.zeros(p.size, np.int64) if blocks is None else np.asarray(blocks).ravel(),
        0 if blocks is None else resamples,
        seed,
    )
    count, said, came = (
        draws.sums(inside * each[:, None]) for each in (np.ones(p.size), p, labels.astype(float))
    )
    squared = draws.sums((p - labels) ** 2)
    whole = count.sum(axis=1)
    brier, share = squared / whole, came.sum(axis=1) / whole
    error = np.abs(said - came).sum(axis=1) / whole
    skill = np.atleast_1d(_skill(brier, share))
    with np.errstate(invalid="ignore"):
        said, came = said / count, came / count
    between = np.full((bins, 2), np.nan)
    if blocks is not None:
        for number in range(bins):
            found = interval(float(came[0, number]), came[1:, number])
            between[number] = found.low, found.high
    around = [
        None if blocks is None else interval(float(each[0]), each[1:])
        for each in (brier, error, skill)
    ]
    return Reliability(
        said=said[0],
        came=came[0],
        count=count[0].astype(np.int64),
        brier=float(brier[0]),
        error=float(error[0]),
        skill=float(skill[0]),
        came_interval=between,
        brier_interval=around[0],
        error_interval=around[1],
        skill_interval=around[2],
    )


@dataclass(frozen=True)
class Curve:
    """A rising logistic curve on the log odds of a probability (Platt 1999).

    Two numbers, so it suits few samples, keeps the order of places (and so every AUC) and can be
    written as JSON.

    Attributes
    ----------
    slope : float
        1 where nothing is to be stretched; below 1 the model was too sure.
    offset : float

    Examples
    --------
    >>> Curve(1.0, 0.0)([0.2, 0.7]).round(3).tolist()
    [0.2, 0.7]
    """

    slope: float
    offset: float

    @classmethod
    def fit(cls, probability: ArrayLike, y: ArrayLike) -> Curve:
        """Learn from held-out probabilities.

        Parameters
        ----------
        probability : array_like of float, shape (n,)
        y : array_like of {0, 1}, shape (n,)

        Raises
        ------
        DataError
            One class only, or probabilities that fall where the truth rises: a curve would turn
            the order of places round.
        """
        from sklearn.linear_model import LogisticRegression

        p, labels = _checked(probability, y)
        if np.unique(labels).size < 2:
            raise DataError(
                f"All {labels.size} samples are of class {labels[0]}.",
                hint="Give held-out samples of both classes.",
            )
        found = LogisticRegression(C=1e3).fit(_odds(p)[:, None], labels)
        slope = float(found.coef_[0, 0])
        if slope <= 0:
            raise DataError(
                f"The probabilities fall where the truth rises (slope {slope:.3g}).",
                hint="The model tells nothing on held-out ground; no curve mends that.",
            )
        return cls(slope, float(found.intercept_[0]))

    def __call__(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities, of the shape given; NaN stays NaN."""
        odds = _odds(np.asarray(probability, np.float64))
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (self.slope * odds + self.offset))))


def _odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    held = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(held) - np.log1p(-held))


def cross_curve(
    probability: NDArray[np.float64], y: NDArray[Any], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return held-out probabilities mended by curves that the other folds taught.

    What a curve is worth must not be judged on the samples it was learned from.

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
        Held out.
    y : ndarray of {0, 1}, shape (n,)
    fold : ndarray of int64, shape (n,)
        Test fold of each sample.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    DataError
        One fold only, or the other folds teach no curve (`Curve.fit`).

    Examples
    --------
    >>> p, fold = np.tile([0.4, 0.45, 0.55, 0.6], 2), np.repeat([0, 1], 4)
    >>> mended = cross_curve(p, np.tile([0, 0, 1, 1], 2), fold)
    >>> bool((np.abs(mended - 0.5) > np.abs(p - 0.5)).all())
    True
    """
    p, labels = _checked(probability, y)
    if np.unique(fold).size < 2:
        raise DataError("All samples lie in one fold.", hint="Give the test folds of the samples.")
    found = np.empty(p.size)
    for each in np.unique(fold):
        here = fold == each
        found[here] = Curve.fit(p[~here], labels[~here])(p[here])
    return found


def held_out(
    labels: NDArray[Any],
    probability: NDArray[np.float64],
    fold: NDArray[np.int64],
    blocks: NDArray[np.int64],
    *,
    level: float = 0.9,
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what held-out probabilities of spatial folds are worth as probabilities.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        1 slump, 0 not.
    probability : ndarray of float64, shape (n,)
        NaN where a sample was not tested: left out.
    fold : ndarray of int64, shape (n,)
        Test fold of each sample.
    blocks : ndarray of int64, shape (n,)
        Of the intervals.
    level : float
        Share of each class that conformal sets promise to hold.
    bins, resamples, seed : int

    Returns
    -------
    dict of JSON values
        - ``reliability``: rows of ``said``, ``came``, ``came_interval``, ``count``; empty bins are
          left out;
        - ``brier``, ``brier_skill``, ``ece``, each with ``_interval``;
        - ``curve``: ``slope`` and ``offset`` learned from all of them, or ``why_not``; and, of
          curves learned on the other folds, ``brier_after``, ``ece_after``: where they are not
          lower than without, leave the probabilities as they are;
        - ``conformal``: ``level``, thresholds ``slump`` and ``other`` learned from all of them, and
          ``coverage`` of thresholds learned on the other folds (`conformal.cross_coverage`); or
          ``why_not``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(400)
    >>> found = held_out(rng.random(400) < p, p, np.arange(400) % 4, np.arange(400) // 10)
    >>> round(found["curve"]["slope"], 1), found["ece"] < 0.1
    (1.0, True)
    """
    from trainer.susceptibility.conformal import Conformal, cross_coverage

    tested = np.isfinite(probability) & (fold >= 0)
    p, y = _checked(probability[tested], np.asarray(labels)[tested])
    part, ground = fold[tested], blocks[tested]
    found = reliability(p, y, bins, blocks=ground, resamples=resamples, seed=seed)
    told: dict[str, Any] = {
        "reliability": [
            {
                "said": float(found.said[number]),
                "came": float(found.came[number]),
                "came_interval": [_number(each) for each in found.came_interval[number]],
                "count": int(found.count[number]),
            }
            for number in np.flatnonzero(found.count)
        ],
    }
    for name, value, around in (
        ("brier", found.brier, found.brier_interval),
        ("brier_skill", found.skill, found.skill_interval),
        ("ece", found.error, found.error_interval),
    ):
        told[name] = _number(value)
        if around is not None:
            told[f"{name}_interval"] = [_number(around.low), _number(around.high)]
    try:
        curve = Curve.fit(p, y)
        mended = reliability(cross_curve(p, y, part), y, bins)
        told["curve"] = {
            "slope": curve.slope,
            "offset": curve.offset,
            "brier_after": mended.brier,
            "ece_after": mended.error,
        }
    except DataError as error:
        told["curve"] = {"why_not": error.message}
    try:
        sets = Conformal.fit(p, y, level)
        told["conformal"] = {
            "level": level,
            "slump": sets.slump,
            "other": sets.other,
            "coverage": cross_coverage(
                p, y, part, ground, level=level, resamples=resamples, seed=seed
            ),
        }
    except DataError as error:
        told["conformal"] = {"level": level, "why_not": error.message}
    return told


def _number(value: float) -> float | None:
    # JSON has no NaN.
    return float(value) if np.isfinite(value) else None
