"""Sets of classes that hold the true one as often as promised, for each class by itself.

Split conformal prediction, calibrated within each class (V. Vovk, Conditional validity of
inductive conformal predictors, Machine Learning 92, 2013, doi 10.1007/s10994-013-5355-6). The
promise holds for places that are exchangeable with the calibration samples: calibrate on samples
of other blocks of ground than those the model learned from, and do not expect it elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError
from trainer.susceptibility.bootstrap import BlockDraws, interval

__all__ = ["Conformal", "cross_coverage"]


@dataclass(frozen=True)
class Conformal:
    """Smallest probabilities of a class with which it still belongs to the set.

    Attributes
    ----------
    level : float
        Share of each class that its sets hold.
    slump, other : float
        A place's set holds "slump" where the probability of a slump is at least `slump`, and
        "not" where one minus it is at least `other`.

    Examples
    --------
    >>> probability, truth = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], [0, 0, 0, 0, 1, 1, 1, 1]
    >>> made = Conformal.fit(probability, truth, 0.8)
    >>> made.sets([0.95, 0.5, 0.05]).tolist()
    [[False, True], [False, False], [True, False]]
    """

    level: float
    slump: float
    other: float

    @classmethod
    def fit(cls, probability: ArrayLike, y: ArrayLike, level: float = 0.9) -> Conformal:
        """Calibrate on samples that the model has not learned from.

        Parameters
        ----------
        probability : array_like of float, shape (n,)
            Of a slump, 0 to 1.
        y : array_like of {0, 1}, shape (n,)
        level : float
            Between 0 and 1.

        Raises
        ------
        DataError
            Lengths differ, a probability is none, or a class has too few samples for the level:
            n + 1 > 1 / (1 - level).
        """
        p, labels = np.asarray(probability, np.float64).ravel(), np.asarray(y).ravel().astype(int)
        if p.size != labels.size or not p.size:
            raise DataError(
                f"There are {p.size} probabilities for {labels.size} labels.",
                hint="Give one of each per sample.",
            )
        if not ((p >= 0) & (p <= 1)).all():
            raise DataError("Probabilities lie outside 0 to 1.", hint="Give those of a slump.")
        if not 0 < level < 1:
            raise DataError(f"The level is {level:g}.", hint="Give one between 0 and 1: 0.9.")
        least = []
        for kind, truth in ((1, p[labels == 1]), (0, 1 - p[labels == 0])):
            rank = int(np.ceil((truth.size + 1) * level))
            if rank > truth.size:
                raise DataError(
                    f"{truth.size} calibration samples of class {kind} cannot promise {level:g}.",
                    hint=f"Give at least {int(np.ceil(1 / (1 - level))) - 1} of each class.",
                )
            # The rank-th largest probability of the true class; not one minus a difference from
            # one, whose last digit would shut out the sample that sets the threshold.
            least.append(float(np.sort(truth)[truth.size - rank]))
        return cls(level, least[0], least[1])

    def sets(self, probability: ArrayLike) -> NDArray[np.bool_]:
        """Return whether "not" and "slump" belong to the set of each place.

        Returns
        -------
        ndarray of bool, shape (m, 2)
            Both: undecided. Neither: unlike any calibration sample, or no probability (NaN).
        """
        p = np.asarray(probability, np.float64).ravel()
        return np.column_stack([1 - p >= self.other, p >= self.slump])


def cross_coverage(
    probability: NDArray[np.float64],
    y: NDArray[Any],
    fold: NDArray[np.int64],
    blocks: NDArray[np.int64],
    *,
    level: float = 0.9,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how often sets hold the true class in a fold that did not calibrate them.

    The thresholds of each fold come from the held-out probabilities of all others. With spatial
    folds this is ground that neither the model nor the thresholds have seen; each fold's model
    differs from those behind its thresholds, so the promise is checked here, not proven.

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
        Held out, of a slump.
    y : ndarray of {0, 1}, shape (n,)
    fold, blocks : ndarray of int64, shape (n,)
        Test fold, and ground that is drawn as a whole for the intervals.
    level : float
    resamples, seed : int

    Returns
    -------
    dict of JSON values
        ``slump`` and ``other``: share of each class whose set holds it, with ``_interval``;
        ``both`` and ``neither``: share of sets that decide nothing.

    Raises
    ------
    DataError
        One fold only, or the other folds hold too few samples of a class for the level.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(4000)
    >>> found = cross_coverage(p, rng.random(4000) < p, np.arange(4000) % 4, np.arange(4000))
    >>> round(found["slump"], 1), round(found["other"], 1)
    (0.9, 0.9)
    """
    labels = np.asarray(y).astype(np.int64)
    if np.unique(fold).size < 2:
        raise DataError("All samples lie in one fold.", hint="Give the test folds of the samples.")
    sets = np.empty((labels.size, 2), bool)
    for each in np.unique(fold):
        here = fold == each
        sets[here] = Conformal.fit(probability[~here], labels[~here], level).sets(probability[here])
    draws = BlockDraws(blocks, resamples, seed)
    held = sets[np.arange(labels.size), labels]
    told: dict[str, Any] = {}
    for name, kind in (("slump", 1), ("other", 0)):
        of = labels == kind
        with np.errstate(invalid="ignore"):
            share = draws.sums(held & of) / draws.sums(of)
        around = interval(float(share[0]), share[1:])
        told[name] = around.value
        told[f"{name}_interval"] = [around.low, around.high]
    told["both"] = float(sets.all(axis=1).mean())
    told["neither"] = float((~sets.any(axis=1)).mean())
    return told
