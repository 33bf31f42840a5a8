"""Sets of classes that hold the true one as often as promised, for each class by itself.

Split conformal prediction, calibrated within each class (V. Vovk, Conditional validity of
inductive conformal predictors, Machine Learning 92, 2013, doi 10.1007/s10994-013-5355-6). The
promise holds for places that are exchangeable with the calibration samples: calibrate on samples
of other blocks of ground than those the model learned from, and do not expect it elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawslump.errors import DataError

__all__ = ["Conformal"]


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
            # The rank-th smallest unlikeliness, 1 - p of the true class.
            least.append(1.0 - float(np.sort(1.0 - truth)[rank - 1]))
        return cls(level, least[0], least[1])

    def sets(self, probability: ArrayLike) -> NDArray[np.bool_]:
        """Return whether "not" and "slump" belong to the set of each place.

        Returns
        -------
        ndarray of bool, shape (m, 2)
            Both: undecided. Neither: unlike any calibration sample.
        """
        p = np.asarray(probability, np.float64).ravel()
        return np.column_stack([1 - p >= self.other, p >= self.slump])
