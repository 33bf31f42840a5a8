"""Models of models: support vectors with a probability, balanced bagging, stacking, blending.

What the upper model learns from are probabilities of base models for ground that these have not
seen. Points cluster, so "not seen" means other blocks of ground, not other points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC, SVR
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from thawslump.errors import DataError
from trainer.susceptibility.kernels import RadialSum
from trainer.susceptibility.labels import two_classes
from trainer.susceptibility.networks import device_of
from trainer.susceptibility.validation import Folds, spatial_folds

__all__ = [
    "Blending",
    "Pooling",
    "Stacking",
    "SupportVectors",
    "balanced_bagging",
    "fit_on_ground",
]


class SupportVectors(ClassifierMixin, BaseEstimator):
    """Support vectors with a radial kernel (He et al. 2024: SVR, C = 1, epsilon = 0.1).

    - ``kind="regression"``: SVR on 0 and 1, as in the paper. Its value, held to 0..1, stands for a
      probability: a ranking, not a calibrated chance.
    - ``kind="classification"``: SVC; a logistic curve on held-out values (five random folds,
      Platt 1999) makes a probability of its value.

    Only support vectors and weights are kept, and values come from `kernels.RadialSum`: within
    1e-4 of scikit-learn's, many times faster.

    Parameters
    ----------
    C, epsilon : float
        epsilon of the regression alone.
    gamma : {"scale", "auto"} or float
    kind : {"regression", "classification"}
    seed : int
        Of the folds behind the logistic curve.
    device : {"auto", "cpu", "cuda"}
        Where values of new places are computed.

    Examples
    --------
    >>> x = np.array([[0.0], [0.2], [0.8], [1.0]])
    >>> SupportVectors().fit(x, [0, 0, 1, 1]).predict([[0.1], [0.9]]).tolist()
    [0, 1]
    """

    def __init__(
        self,
        C: float = 1.0,
        epsilon: float = 0.1,
        gamma: Any = "scale",
        kind: Literal["regression", "classification"] = "regression",
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.epsilon = epsilon
        self.gamma = gamma
        self.kind = kind
        self.seed = seed
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from samples of two classes."""
        values, labels = validate_data(self, X, y, dtype=np.float64)
        self.classes_, target = two_classes(self, labels)
        if self.kind not in ("regression", "classification"):
            raise ValueError(f"kind is {self.kind!r}; expected 'regression' or 'classification'.")
        fitted = self._machine().fit(values, target)
        machine = RadialSum.of(fitted)
        self.vectors_, self.weights_ = machine.vectors, machine.weights
        self.numbers_ = np.array([machine.gamma, machine.intercept])
        # Above 0 is the second class.
        self.curve_ = np.array([1.0, -0.5])
        if self.kind == "classification":
            self.curve_ = self._curve(values, target)
        return self

    def _machine(self) -> Any:
        if self.kind == "regression":
            return SVR(C=self.C, epsilon=self.epsilon, gamma=self.gamma)
        return SVC(C=self.C, gamma=self.gamma)

    def _curve(self, values: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
        least = int(np.bincount(target).min())
        if least < 2:
            return np.array([1.0, 0.0])
        split = StratifiedKFold(min(5, least), shuffle=True, random_state=self.seed)
        held = np.empty(len(target))
        for train, test in split.split(values, target):
            fitted = self._machine().fit(values[train], target[train])
            held[test] = RadialSum.of(fitted)(values[test])
        found = LogisticRegression(C=1e3).fit(held[:, None], target)
        # A curve that falls would turn the order of places round.
        return np.array([max(float(found.coef_[0, 0]), 1e-3), float(found.intercept_[0])])

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the values of the sum of kernels, shape (n,), above 0 for the second class.

        Of a regression less 0.5; of a classification the log odds of its curve.
        """
        check_is_fitted(self, "vectors_")
        values = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        gamma, intercept = self.numbers_
        device = str(device_of(self.device)) if self.device != "cpu" else "cpu"
        machine = RadialSum(self.vectors_, self.weights_, float(gamma), float(intercept))
        return self.curve_[0] * machine(values, device=device) + self.curve_[1]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the two columns of values, shape (n, 2)."""
        value = self.decision_function(X)
        if self.kind == "regression":
            found = np.clip(value + 0.5, 0, 1)
        else:
            found = 0.5 * (1.0 + np.tanh(0.5 * value))
        return np.column_stack([1 - found, found])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class."""
        second = self.predict_proba(X)[:, 1] >= 0.5
        return np.asarray(self.classes_)[second.astype(int)]


class Pooling(ClassifierMixin, BaseEstimator):
    """An upper model: the bases' log odds with weights of their own, never below 0, near equal.

    Few held-out samples say little about which base is better, and a base that looks bad on
    them is still no reason to believe its opposite. Weights minimise the logistic loss plus
    ``pull`` times the squared distance to the equal ones.

    Parameters
    ----------
    pull : float
        0 for free weights (not below 0), large for equal ones; in samples.

    Attributes
    ----------
    weights_ : ndarray, shape (bases,)
    constant_ : float

    Examples
    --------
    >>> said = np.array([[0.2, 0.4], [0.7, 0.5], [0.3, 0.4], [0.6, 0.5], [0.9, 0.6]])
    >>> weights = Pooling(1e6).fit(said, [0, 0, 0, 1, 1]).weights_
    >>> bool(np.ptp(weights) < 1e-3 * weights.mean())
    True
    """

    def __init__(self, pull: float = 100.0) -> None:
        self.pull = pull

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from probabilities of the bases, shape (n, bases), of the second class."""
        from scipy.optimize import minimize

        values, labels = validate_data(self, X, y, dtype=np.float64)
        self.classes_, target = two_classes(self, labels)
        odds, sign = _odds(values), np.where(target == 1, 1.0, -1.0)
        count = odds.shape[1]
        mean = odds.mean(axis=1)
        # The equal weights are those whose sum suits the samples best: how far to stretch.
        stretch = LogisticRegression(C=1.0).fit(mean[:, None], target)
        equal = np.full(count, max(float(stretch.coef_[0, 0]), 1e-3) / count)

        def loss(found: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            margin = sign * (odds @ found[:-1] + found[-1])
            off = found[:-1] - equal
            slope = -sign * 0.5 * (1.0 - np.tanh(0.5 * margin))
            value = np.logaddexp(0, -margin).sum() + 0.5 * self.pull * (off @ off)
            return float(value), np.append(odds.T @ slope + self.pull * off, slope.sum())

        start = np.append(equal, float(stretch.intercept_[0]))
        bounds = [(0.0, None)] * count + [(None, None)]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
        self.weights_, self.constant_ = found[:-1], float(found[-1])
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities of the two classes, shape (n, 2)."""
        check_is_fitted(self, "weights_")
        values = validate_data(self, X, dtype=np.float64, reset=False)
        second = 0.5 * (1.0 + np.tanh(0.5 * (_odds(values) @ self.weights_ + self.constant_)))
        return np.column_stack([1 - second, second])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class."""
        second = self.predict_proba(X)[:, 1] >= 0.5
        return np.asarray(self.classes_)[second.astype(int)]


def _odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    # Support vectors say 0 and 1 outright; 2 % keeps one base from outvoting all others.
    held = np.clip(probability, 0.02, 0.98)
    return np.asarray(np.log(held / (1 - held)))


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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

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
        second = self.predict_proba(X)[:, 1] >= 0.5
        return np.asarray(self.classes_)[second.astype(int)]

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        values, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        self.classes_, target = two_classes(self, labels)
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
        Of random folds (by class), used where no blocks are given.
    """

    def __init__(self, bases: Mapping[str, Any], final: Any, folds: int = 5, seed: int = 0) -> None:
        self.bases = bases
        self.final = final
        self.folds = folds
        self.seed = seed

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        blocks: ArrayLike | None = None,
        places: ArrayLike | None = None,
    ) -> Self:
        """Learn from samples.

        Parameters
        ----------
        X : array_like of float, shape (n, factors)
            NaN where the bases fill it.
        y : array_like, shape (n,)
            Two classes.
        blocks : array_like of int, shape (n,), optional
            Block of ground of each sample: no block is on both sides of an inner fold.
        places : array_like of float, shape (n, 2), optional
            Handed on to the bases that take them.
        """
        values, labels = self._checked(X, y)
        inner = _inner_folds(labels, blocks, self.folds, self.seed)
        below = np.full((len(values), len(self.bases)), np.nan)
        for train, test in inner:
            for column, base in enumerate(self.bases.values()):
                fitted = fit_on_ground(
                    clone(base),
                    values[train],
                    labels[train],
                    _part(blocks, train),
                    _part(places, train),
                )
                below[test, column] = fitted.predict_proba(values[test])[:, 1]
        self.final_ = clone(self.final).fit(below, labels)
        self.bases_ = {
            name: fit_on_ground(clone(base), values, labels, blocks, places)
            for name, base in self.bases.items()
        }
        return self


class Blending(_Above):
    """An upper model on probabilities for a held-out part, which the base models never see.

    Parameters
    ----------
    bases : mapping of str to estimator
    final : estimator
    share : float
        About what part is held out, 0 to 1.
    again : bool
        Let the bases learn from all samples once the upper model is fitted. Without, as in the
        paper, what is held out is lost to them.
    seed : int
        Of the random part, used where no blocks are given.
    """

    def __init__(
        self,
        bases: Mapping[str, Any],
        final: Any,
        share: float = 0.25,
        again: bool = False,
        seed: int = 0,
    ) -> None:
        self.bases = bases
        self.final = final
        self.share = share
        self.again = again
        self.seed = seed

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        blocks: ArrayLike | None = None,
        places: ArrayLike | None = None,
    ) -> Self:
        """Learn from samples; see `Stacking.fit`."""
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share:g}; expected a number between 0 and 1.")
        values, labels = self._checked(X, y)
        parts = max(2, round(1 / self.share))
        train, held = _inner_folds(labels, blocks, parts, self.seed)[0]
        self.bases_ = {
            name: fit_on_ground(
                clone(base),
                values[train],
                labels[train],
                _part(blocks, train),
                _part(places, train),
            )
            for name, base in self.bases.items()
        }
        self.final_ = clone(self.final).fit(self.base_probabilities(values[held]), labels[held])
        if self.again:
            self.bases_ = {
                name: fit_on_ground(clone(base), values, labels, blocks, places)
                for name, base in self.bases.items()
            }
        return self


def _part(of: ArrayLike | None, rows: NDArray[np.int64]) -> NDArray[Any] | None:
    return None if of is None else np.asarray(of)[rows]


def fit_on_ground(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    blocks: ArrayLike | None = None,
    places: ArrayLike | None = None,
) -> Any:
    """Fit a model, with the blocks and places of the samples where it can use them.

    Parameters
    ----------
    model : estimator
        Is fitted and returned; `Stacking`, `Blending` and `SpatialAverage` know blocks.
    X, y : array_like
    blocks : array_like of int, shape (n,), optional
    places : array_like of float, shape (n, 2), optional

    Examples
    --------
    >>> x, y = np.array([[0.0], [0.2], [0.8], [1.0]]), [0, 0, 1, 1]
    >>> fit_on_ground(SupportVectors(), x, y, blocks=[1, 2, 1, 2]).predict([[0.9]]).tolist()
    [1]
    """
    known = {"blocks": blocks, "places": places}
    given = {k: v for k, v in known.items() if v is not None and has_fit_parameter(model, k)}
    return model.fit(X, y, **given)


def _inner_folds(
    labels: NDArray[np.uint8], blocks: ArrayLike | None, folds: int, seed: int
) -> Folds:
    if blocks is None:
        least = int(np.bincount(labels, minlength=2).min())
        split = StratifiedKFold(max(2, min(folds, least)), shuffle=True, random_state=seed)
        found = list(split.split(labels, labels)) if least >= 2 else []
        if not found:
            raise DataError(
                f"There is {least} sample of one of the classes; inner folds need 2 of each.",
                hint="Add samples of the rarer class.",
            )
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
