"""Whether a probability means what it says, and a curve that makes it so.

Learn curves from held-out probabilities, of other blocks of ground than those the model saw: a
model knows its own samples too well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError

__all__ = ["Curve", "Reliability", "reliability"]


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
        Expected calibration error: mean of abs(said - came), weighted by the samples.
    """

    said: NDArray[np.float64]
    came: NDArray[np.float64]
    count: NDArray[np.int64]
    brier: float
    error: float


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


def reliability(probability: ArrayLike, y: ArrayLike, bins: int = 10) -> Reliability:
    """Compare probabilities with the truth.

    Parameters
    ----------
    probability : array_like of float, shape (n,)
        Of a slump, 0 to 1, held out.
    y : array_like of {0, 1}, shape (n,)
    bins : int
        Of equal width; a value on a limit belongs to the upper bin.

    Examples
    --------
    >>> found = reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2)
    >>> found.came.tolist(), round(found.error, 3), round(found.brier, 3)
    ([0.0, 0.5], 0.25, 0.21)
    """
    p, labels = _checked(probability, y)
    if bins < 1:
        raise DataError(f"{bins} bins were asked for.", hint="Give 1 or more.")
    of = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(of, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(of, p, bins) / count
        came = np.bincount(of, labels, bins) / count
    gap = np.where(count > 0, np.abs(said - came), 0.0)
    return Reliability(
        said, came, count, float(np.mean((p - labels) ** 2)), float((gap * count).sum() / p.size)
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
