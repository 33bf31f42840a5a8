"""An average of plain kernel machines that does not trust any single factor, scale or place.

With few samples the best of several models by inner spatial folds does worse on new ground than the
average of all (`chosen` against `average_scales` in docs/susceptibility.md). This model chooses
nothing: it averages, with equal weights, linear and radial kernel regressions on all factors and on
all but one of them in turn, each beside a regional effect that is learned and then left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data

from thawslump.errors import DataError
from trainer.susceptibility.kernels import RadialSum
from trainer.susceptibility.labels import two_classes

__all__ = ["SpatialAverage", "subsets"]

_Array = NDArray[np.float64]


def subsets(
    factors: Sequence[Sequence[int]], contexts: Sequence[Sequence[int]] = ((),)
) -> tuple[tuple[int, ...], ...]:
    """Return sets of columns: all factors and all but each, beside each context in turn.

    Parameters
    ----------
    factors : sequence of sequence of int
        Columns of each factor (sine and cosine of an aspect together, classes together).
    contexts : sequence of sequence of int
        Columns that say the same at another scale (`context.surroundings`); an empty one for
        the factors alone.

    Examples
    --------
    >>> subsets([[0], [1, 2]], [[], [3]])
    ((0, 1, 2), (1, 2), (0,), (0, 1, 2, 3), (1, 2, 3), (0, 3))
    """
    found = []
    for context in contexts:
        for left_out in range(-1, len(factors)):
            kept = [c for f, part in enumerate(factors) if f != left_out for c in part]
            if kept or context:
                found.append((*kept, *context))
    return tuple(found)


class SpatialAverage(ClassifierMixin, BaseEstimator):
    """The average of linear and radial kernel regressions over subsets of the factors.

    Each member is a Gaussian-process regression of -1 and 1 with a constant mean, noise of
    variance 1 and the covariance

        strength x.z / k                        (linear member), or
        strength exp(-width ||x - z||^2 / k)    (radial member)
        + region exp(-||p - q||^2 / (2 reach^2))

    of k standardised factors at places p and q. The last line takes up what neighbours share for
    reasons that no factor knows, so that factors which merely differ between regions (elevation)
    are not credited with it. A new place gets the part of the factors alone. Members are divided
    by the spread of their held-out values, and a logistic curve on the held-out averages (whole
    blocks, in closed form) makes a probability of the sum.

    Missing values take the mean and every column is standardised, inside.

    Parameters
    ----------
    columns : sequence of sequence of int, optional
        Columns of each pair of members, such as `subsets` gives. Where not given: all, and all
        but each.
    strength, width, region : float
        Above; ``region=0`` for none.
    reach : float, optional
        In the unit of the places; where not given the median distance to the third nearest sample.
    most : int
        Samples that one member learns from (time grows with their cube); with more, each member
        draws as many at random.
    seed : int
        Of these draws.

    Attributes
    ----------
    reach_ : float
        0 without places.

    References
    ----------
    Leave-out values: Dubrule 1983, Cross validation of kriging in a unique neighborhood. Subsets:
    Ho 1998, The random subspace method.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> SpatialAverage().fit(x, x[:, 0] > 0.1).predict([[-0.8], [0.9]]).tolist()
    [False, True]
    """

    def __init__(
        self,
        columns: Sequence[Sequence[int]] | None = None,
        strength: float = 0.3,
        width: float = 1.0,
        region: float = 0.3,
        reach: float | None = None,
        most: int = 2000,
        seed: int = 0,
    ) -> None:
        self.columns = columns
        self.strength = strength
        self.width = width
        self.region = region
        self.reach = reach
        self.most = most
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

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
            NaN where missing.
        y : array_like, shape (n,)
            Two classes.
        blocks : array_like of int, shape (n,), optional
            Ground that is held out together for the logistic curve; single samples otherwise.
        places : array_like of float, shape (n, 2), optional
            Coordinates in any unit, of the regional effect. They are no predictors.

        Raises
        ------
        ValueError
            Not two classes.
        DataError
            Blocks or places do not fit the samples.
        """
        values, labels = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=3
        )
        self.classes_, target = two_classes(self, labels)
        count = len(values)
        ground = np.arange(count) if blocks is None else np.asarray(blocks).ravel()
        where = None if places is None else np.asarray(places, np.float64)
        if ground.size != count or (where is not None and where.shape != (count, 2)):
            shape = ground.shape if where is None or ground.size != count else where.shape
            raise DataError(
                f"Blocks or places of shape {shape} were given for {count} samples.",
                hint="Give one block number and one pair of coordinates per sample.",
            )
        known = np.isfinite(values)
        share = np.maximum(known.sum(axis=0), 1)
        self.mean_ = np.where(known, values, 0).sum(axis=0) / share
        off = np.where(known, values - self.mean_, 0)
        spread = np.sqrt((off**2).sum(axis=0) / share)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        x = off / self.scale_

        members = self.columns
        if members is None:
            members = subsets([[c] for c in range(x.shape[1])]) if x.shape[1] > 1 else ((0,),)
        self.reach_ = 0.0
        if where is not None and self.region > 0:
            self.reach_ = self._reach(where)
        rng = np.random.default_rng(self.seed)
        self.columns_ = [np.asarray(m, np.int64) for m in members]
        self.slopes_ = np.zeros(x.shape[1])
        self.constant_ = 0.0
        self.vectors_: list[_Array] = []
        self.weights_: list[_Array] = []
        held, seen = np.zeros(count), np.zeros(count)
        for chosen in self.columns_:
            rows = np.arange(count)
            if count > self.most:
                rows = _drawn(target, self.most, rng)
            part, size = x[np.ix_(rows, chosen)], chosen.size
            shared = np.zeros((rows.size, rows.size))
            if self.reach_ and where is not None:
                shared = self.region * _radial(where[rows], 0.5 / self.reach_**2)
            for kind in ("linear", "radial"):
                if kind == "linear":
                    own = self.strength * (part @ part.T) / size
                else:
                    own = self.strength * _radial(part, self.width / size)
                weights, constant, out = _regression(
                    own, shared, (2 * target[rows] - 1).astype(np.float64), ground[rows]
                )
                unit = 1.0 / max(float(out.std()), 1e-12) / (2 * len(self.columns_))
                held[rows] += out * unit
                seen[rows] += 1
                self.constant_ += constant * unit
                if kind == "linear":
                    self.slopes_[chosen] += self.strength / size * (part.T @ weights) * unit
                else:
                    self.vectors_.append(part)
                    self.weights_.append(self.strength * weights * unit)
        told = seen > 0
        held = held[told] * (2 * len(self.columns_)) / seen[told]
        curve = LogisticRegression(C=1e3).fit(held[:, None], target[told])
        # Where the held-out values tell nothing, the order is kept and the curve nearly flat.
        self.curve_ = np.array([max(float(curve.coef_[0, 0]), 1e-3), float(curve.intercept_[0])])
        return self

    def _reach(self, places: _Array) -> float:
        if self.reach is not None:
            return float(self.reach)
        from scipy.spatial import KDTree

        away = KDTree(places).query(places, k=min(4, len(places)))[0][:, -1]
        # Places that coincide by fours have no reach of their own.
        return float(np.median(away)) or float(away.max())

    def decision_function(self, X: ArrayLike) -> _Array:
        """Return the average before the logistic curve, shape (n,)."""
        check_is_fitted(self, "curve_")
        values = validate_data(
            self, X, dtype=np.float64, reset=False, ensure_all_finite="allow-nan"
        )
        x = np.nan_to_num((values - self.mean_) / self.scale_, nan=0.0)
        total = x @ self.slopes_ + self.constant_
        for chosen, vectors, weights in zip(
            self.columns_, self.vectors_, self.weights_, strict=True
        ):
            total += RadialSum(vectors, weights, self.width / chosen.size, 0.0)(x[:, chosen], 1e-6)
        return np.asarray(total)

    def predict_proba(self, X: ArrayLike) -> _Array:
        """Return the probabilities of the two classes, shape (n, 2)."""
        slope, offset = self.curve_ if hasattr(self, "curve_") else (1.0, 0.0)
        second = 0.5 * (1.0 + np.tanh(0.5 * (slope * self.decision_function(X) + offset)))
        return np.column_stack([1 - second, second])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class of each place."""
        second = self.predict_proba(X)[:, 1] >= 0.5
        return np.asarray(self.classes_)[second.astype(int)]


def _drawn(target: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows drawn at random, both classes by their share, at least one of each."""
    rows = []
    for kind in (0, 1):
        own = np.flatnonzero(target == kind)
        rows.append(rng.choice(own, max(1, round(most * own.size / target.size)), replace=False))
    return np.sort(np.concatenate(rows))


def _radial(x: _Array, gamma: float) -> _Array:
    squares = np.einsum("ij,ij->i", x, x)
    away = squares[:, None] + squares - 2.0 * (x @ x.T)
    return np.asarray(np.exp(-gamma * np.maximum(away, 0.0)))


def _regression(
    own: _Array, shared: _Array, target: _Array, blocks: NDArray[Any]
) -> tuple[_Array, float, _Array]:
    """Solve one member.

    Returns
    -------
    weights : ndarray, shape (n,)
    constant : float
    out : ndarray, shape (n,)
        What the factors' part says of each block when that block is left out.
    """
    whole = own + shared
    whole[np.diag_indices_from(whole)] += 1.0
    inverse = np.linalg.inv(whole)
    ones = inverse.sum(axis=1)
    total = ones.sum()
    # With the constant mean taken out (universal kriging).
    inverse -= np.outer(ones, ones) / total
    weights = inverse @ target
    constant = float((target - whole @ weights).mean())
    said = own @ weights
    out = np.empty_like(target)
    distinct, of = np.unique(blocks, return_inverse=True)
    if distinct.size == target.size:  # single samples: all at once
        taken = weights / np.diag(inverse)
        return (
            weights,
            constant,
            said - np.einsum("ij,ji->i", own, inverse) * taken + (constant - taken * ones / total),
        )
    for block in range(distinct.size):
        inside = np.flatnonzero(of == block)
        if inside.size == target.size:
            out[:] = constant
            break
        # What the block's own values had added to the weights of all others.
        taken = np.linalg.solve(inverse[np.ix_(inside, inside)], weights[inside])
        middle = constant - float(ones[inside] @ taken) / total
        out[inside] = said[inside] - own[inside] @ (inverse[:, inside] @ taken) + middle
    return weights, constant, out
