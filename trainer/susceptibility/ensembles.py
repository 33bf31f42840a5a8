"""Models of models: support vectors with a probability, balanced bagging, stacking, blending.

What the upper model learns from are probabilities of base models for ground that these have not
seen. Points cluster, so "not seen" means other blocks of ground, not other points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.svm import SVR
from sklearn.utils.validation import check_is_fitted, validate_data

from thawslump.errors import DataError
from trainer.susceptibility.validation import Folds, random_folds, spatial_folds

__all__ = ["Blending", "Stacking", "SupportVectors", "balanced_bagging"]


class SupportVectors(ClassifierMixin, BaseEstimator):
    """Support vector regression on 0 and 1 (He et al. 2024: radial kernel, C = 1, epsilon = 0.1).

    Its value, held to 0..1, stands for a probability: a ranking, not a calibrated chance.

    Parameters
    ----------
    C, epsilon : float
    gamma : {"scale", "auto"} or float

    Examples
    --------
    >>> x = np.array([[0.0], [0.2], [0.8], [1.0]])
    >>> SupportVectors().fit(x, [0, 0, 1, 1]).predict([[0.1], [0.9]]).tolist()
    [0, 1]
    """

    def __init__(self, C: float = 1.0, epsilon: float = 0.1, gamma: Any = "scale") -> None:
        self.C = C
        self.epsilon = epsilon
        self.gamma = gamma

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from samples of two classes."""
        values, labels = validate_data(self, X, y, dtype=np.float64)
        self.classes_, target = np.unique(labels, return_inverse=True)
        if self.classes_.size != 2:
            raise ValueError(f"SupportVectors was given {self.classes_.size} classes; expected 2.")
        self.regression_ = SVR(C=self.C, epsilon=self.epsilon, gamma=self.gamma).fit(
            values, target, sample_weight
        )
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the two columns of values, shape (n, 2)."""
        check_is_fitted(self, "regression_")
        values = validate_data(self, X, dtype=np.float64, reset=False)
        found = np.clip(self.regression_.predict(values), 0, 1)
        return np.column_stack([1 - found, found])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class."""
        return np.asarray(self.classes_)[(self.predict_proba(X)[:, 1] >= 0.5).astype(int)]


def balanced_bagging(base: Any | None = None, members: int = 10, seed: int = 0) -> Any:
    """Return bagging on samples that are under-sampled at random to as many of each class.

    Parameters
    ----------
    base : estimator, optional
        `SupportVectors` where not given, as in He et al. 2024 (10 of them, 1 : 1).
    members : int
    seed : int
    """
    from imblearn.ensemble import BalancedBaggingClassifier

    return BalancedBaggingClassifier(
        estimator=base if base is not None else SupportVectors(),
        n_estimators=members,
        sampling_strategy=1.0,
        replacement=False,
        bootstrap=True,
        random_state=seed,
        n_jobs=1,
    )


class _Above(ClassifierMixin, BaseEstimator):
    """A model on the probabilities of others."""

    bases: Mapping[str, Any]
    final: Any

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities of the two classes, shape (n, 2)."""
        check_is_fitted(self, "final_")
        values = validate_data(
            self, X, dtype=np.float64, reset=False, ensure_all_finite="allow-nan"
        )
        return np.asarray(self.final_.predict_proba(self.base_probabilities(values)))

    def base_probabilities(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return what each base says, shape (n, bases): their spread is the disagreement."""
        check_is_fitted(self, "bases_")
        return np.column_stack([base.predict_proba(X)[:, 1] for base in self.bases_.values()])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class."""
        return np.asarray(self.classes_)[(self.predict_proba(X)[:, 1] >= 0.5).astype(int)]

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        values, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        self.classes_, target = np.unique(labels, return_inverse=True)
        if self.classes_.size != 2:
            raise ValueError(f"{type(self).__name__} was given {self.classes_.size} classes; "
                             "expected 2.")  # fmt: skip
        if not self.bases:
            raise ValueError(f"{type(self).__name__} has no base models.")
        return values, target.astype(np.uint8)


class Stacking(_Above):
    """An upper model on out-of-fold probabilities of base models; these then learn from all.

    Parameters
    ----------
    bases : mapping of str to estimator
        Pipelines with their own filling and scaling.
    final : estimator
        He et al. 2024 put a random forest above CNN, SVR and MLP.
    folds : int
    seed : int
        Of random folds, used where no blocks are given.
    """

    def __init__(self, bases: Mapping[str, Any], final: Any, folds: int = 5, seed: int = 0) -> None:
        self.bases = bases
        self.final = final
        self.folds = folds
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, blocks: ArrayLike | None = None) -> Self:
        """Learn from samples.

        Parameters
        ----------
        X : array_like of float, shape (n, factors)
            NaN where the bases fill it.
        y : array_like, shape (n,)
            Two classes.
        blocks : array_like of int, shape (n,), optional
            Block of ground of each sample: no block is on both sides of an inner fold.
        """
        values, labels = self._checked(X, y)
        inner = _inner_folds(labels, blocks, self.folds, self.seed)
        below = np.full((len(values), len(self.bases)), np.nan)
        for train, test in inner:
            for column, base in enumerate(self.bases.values()):
                fitted = clone(base).fit(values[train], labels[train])
                below[test, column] = fitted.predict_proba(values[test])[:, 1]
        self.final_ = clone(self.final).fit(below, labels)
        self.bases_ = {name: clone(base).fit(values, labels) for name, base in self.bases.items()}
        return self


class Blending(_Above):
    """An upper model on probabilities for a held-out part, which the base models never see.

    Parameters
    ----------
    bases : mapping of str to estimator
    final : estimator
    share : float
        About what part is held out, 0 to 1.
    seed : int
        Of the random part, used where no blocks are given.
    """

    def __init__(
        self, bases: Mapping[str, Any], final: Any, share: float = 0.25, seed: int = 0
    ) -> None:
        self.bases = bases
        self.final = final
        self.share = share
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, blocks: ArrayLike | None = None) -> Self:
        """Learn from samples; see `Stacking.fit`."""
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share:g}; expected a number between 0 and 1.")
        values, labels = self._checked(X, y)
        parts = max(2, round(1 / self.share))
        train, held = _inner_folds(labels, blocks, parts, self.seed)[0]
        self.bases_ = {
            name: clone(base).fit(values[train], labels[train]) for name, base in self.bases.items()
        }
        self.final_ = clone(self.final).fit(self.base_probabilities(values[held]), labels[held])
        return self


def _inner_folds(
    labels: NDArray[np.uint8], blocks: ArrayLike | None, folds: int, seed: int
) -> Folds:
    if blocks is None:
        found = random_folds(labels.size, folds, seed)
    else:
        numbers = np.asarray(blocks).ravel()
        if numbers.size != labels.size:
            raise DataError(
                f"There are {numbers.size} block numbers for {labels.size} samples.",
                hint="Give one block per sample.",
            )
        found = spatial_folds(numbers.astype(np.int64), labels, folds)
    for train, test in found:
        for side, words in ((train, "training"), (test, "held-out")):
            if np.unique(labels[side]).size < 2:
                raise DataError(
                    f"The {words} part of an inner fold holds only one class "
                    f"({side.size} samples).",
                    hint="Use fewer folds, smaller blocks, or more samples.",
                )
    return found
