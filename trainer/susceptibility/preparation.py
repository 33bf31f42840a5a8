"""Factors prepared inside the fold: intervals instead of numbers, and only those that are needed.

Both are transformers of scikit-learn, fitted with the model on what it learns from. What they are
told of factors are columns: `factors` names the factor of each column, `classes` are the columns
of classes (0 or 1), which have no intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from thawslump.errors import DataError
from trainer.susceptibility.bins import FLOOR, chimerge, discretise, information_gain_ratio
from trainer.susceptibility.selection import inflation_drop, pearson_drop

__all__ = ["FactorBins", "FactorSelection", "codes_of_factor", "dropped_by"]

Floats = NDArray[np.float64]


class FactorBins(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Replaces numbers by the number of their ChiMerge interval, as Zhang et al. 2023 do.

    Values beyond all that were learned from belong to the outermost intervals. A factor whose
    intervals all became one is constant afterwards: `FactorSelection` drops it.

    Parameters
    ----------
    max_intervals : int
        At most; Zhang et al. have 8.
    alpha : float
        Neighbours that differ less are merged.
    classes : sequence of int
        Columns that stay as they are.

    Attributes
    ----------
    cuts_ : list of ndarray of float64
        Cut points of each column (`bins.chimerge`, Kerber's floor); none of those of classes.

    Examples
    --------
    >>> x = [[1.0], [2.0], [3.0], [7.0], [8.0], [9.0]]
    >>> FactorBins().fit_transform(x, [0, 0, 0, 1, 1, 1]).ravel().tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, max_intervals: int = 8, alpha: float = 0.05, classes: Sequence[int] = ()
    ) -> None:
        self.max_intervals = max_intervals
        self.alpha = alpha
        self.classes = classes

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn the cut points."""
        values, labels = validate_data(self, X, y, dtype=np.float64)
        passing = _columns(self.classes, values.shape[1])
        several = np.unique(labels).size > 1
        self.cuts_ = [
            np.array(
                chimerge(column, labels, self.max_intervals, self.alpha, floor=FLOOR)
                if several and n not in passing
                else (),
                np.float64,
            )
            for n, column in enumerate(values.T)
        ]
        return self

    def transform(self, X: ArrayLike) -> Floats:
        """Return the number of the interval, from 0; classes as they are."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=np.float64)
        passing = _columns(self.classes, values.shape[1])
        columns = [
            column if n in passing else discretise(column, cuts)
            for n, (column, cuts) in enumerate(zip(values.T, self.cuts_, strict=True))
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        return _needs_labels(super().__sklearn_tags__())


class FactorSelection(SelectorMixin, BaseEstimator):
    """Leaves out factors that tell nothing or what others tell; a factor goes with all its columns.

    In this order, each rule until it is kept:

    - constant: the factor is the same in all samples that are learned from;
    - vif: its GVIF^(1 / df) exceeds a limit (`selection.inflation_drop`);
    - pearson: two factors correlate above a threshold (`selection.pearson_drop`).

    Where the rules leave a choice the factor with the lower information gain ratio goes, on its
    ChiMerge intervals (`codes_of_factor`). Which of a pair to drop Zhang et al. 2023 do not say;
    they drop TRI for slope, TPI for profile curvature and the linear share for the non-linear one.

    Parameters
    ----------
    factors : sequence of str, optional
        Factor of each column; where not given, each column is one, by its name.
    classes : sequence of int
        Columns of classes.
    vif : float, optional
        Limit, such as 10 (He et al. 2024); None for no such rule.
    pearson : float, optional
        Threshold of \\|r\\|, such as 0.7 (Zhang et al. 2023); None for no such rule.
    max_intervals, alpha
        Of ChiMerge, for the information gain ratio.

    Attributes
    ----------
    kept_ : ndarray of int64
        Columns that stay, ascending.
    dropped_ : list of dict
        In the order in which factors went: "factor"; "rule" ("constant", "vif" or "pearson");
        "value" (GVIF^(1 / df), None where infinite; \\|r\\|; None of a constant) and "limit" of the
        rule; "because_of", the factors that say the same.
    gain_ratio_ : dict of str to float
        Information gain ratio by factor, of those that vary; empty where no rule needed it.

    Examples
    --------
    >>> dice = np.random.default_rng(0)
    >>> x = dice.normal(size=(200, 2))
    >>> x = np.column_stack([x, x[:, 0] + 0.01 * dice.normal(size=200)])
    >>> chosen = FactorSelection(("slope", "TPI", "TRI"), vif=10).fit(x, x[:, 0] > 0)
    >>> chosen.dropped_[0]["factor"], chosen.dropped_[0]["because_of"]
    ('TRI', ['slope'])
    """

    def __init__(
        self,
        factors: Sequence[str] | None = None,
        classes: Sequence[int] = (),
        vif: float | None = 10.0,
        pearson: float | None = None,
        max_intervals: int = 8,
        alpha: float = 0.05,
    ) -> None:
        self.factors = factors
        self.classes = classes
        self.vif = vif
        self.pearson = pearson
        self.max_intervals = max_intervals
        self.alpha = alpha

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose the factors.

        Raises
        ------
        DataError
            No factor varies, or names do not fit the columns.
        """
        # Single precision is kept: it tells how exact a sum of others can be.
        kinds = (np.float64, np.float32)
        values, labels = validate_data(self, X, y, dtype=kinds, ensure_min_samples=2)
        named = self._named(values.shape[1])
        groups: dict[str, list[int]] = {}
        for column, factor in enumerate(named):
            groups.setdefault(factor, []).append(column)
        varies = np.ptp(values, axis=0) > 0
        self.dropped_: list[dict[str, Any]] = [
            {"factor": factor, "rule": "constant", "value": None, "limit": None, "because_of": []}
            for factor, columns in groups.items()
            if not varies[columns].any()
        ]
        left = {
            factor: [c for c in columns if varies[c]]
            for factor, columns in groups.items()
            if varies[columns].any()
        }
        if not left:
            raise DataError(
                f"None of {len(groups)} factors varies in {len(values)} samples: "
                f"{', '.join(groups)}.",
                hint="Draw samples from more ground, or give other factors.",
            )
        worth = _Worth(values, labels, left, _columns(self.classes, values.shape[1]), self)
        for rule, limit, drop in (
            ("vif", self.vif, inflation_drop),
            ("pearson", self.pearson, pearson_drop),
        ):
            if limit is None or len(left) < 2:
                continue
            part = values[:, [c for columns in left.values() for c in columns]]
            ends = np.cumsum([len(columns) for columns in left.values()])
            parts = [
                list(range(end - len(columns), end))
                for columns, end in zip(left.values(), ends, strict=True)
            ]
            found = drop(part, list(left), limit, groups=parts)
            if found.dropped:  # only now is their worth needed
                found = drop(part, list(left), limit, groups=parts, worth=worth.of(list(left)))
            self.dropped_ += [
                {
                    "factor": each.name,
                    "rule": rule,
                    "value": each.value if np.isfinite(each.value) else None,
                    "limit": float(limit),
                    "because_of": list(each.because_of),
                }
                for each in found.dropped
            ]
            left = {factor: left[factor] for factor in found.names}
        self.gain_ratio_ = dict(worth.known)
        self.kept_ = np.array(sorted(c for factor in left for c in groups[factor]), np.int64)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the columns that stay; the array itself where all do."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return np.asarray(values if len(self.kept_) == values.shape[1] else values[:, self.kept_])

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, bool)
        mask[self.kept_] = True
        return mask

    def _named(self, columns: int) -> list[str]:
        if self.factors is None:
            held = getattr(self, "feature_names_in_", None)
            return [f"x{n}" for n in range(columns)] if held is None else [str(n) for n in held]
        if len(self.factors) != columns:
            raise DataError(
                f"The factors of {len(self.factors)} columns were named, of {columns} columns.",
                hint="Name the factor of every column.",
            )
        return [str(name) for name in self.factors]

    def __sklearn_tags__(self) -> Any:
        return _needs_labels(super().__sklearn_tags__())


class _Worth:
    """Information gain ratios, each computed when it is first asked for."""

    def __init__(
        self,
        X: Floats,
        y: NDArray[Any],
        groups: dict[str, list[int]],
        classes: set[int],
        of: FactorSelection,
    ) -> None:
        self._x, self._y, self._groups, self._classes, self._of = X, y, dict(groups), classes, of
        self.known: dict[str, float] = {}

    def of(self, factors: Sequence[str]) -> list[float]:
        for factor in factors:
            if factor not in self.known:
                columns = self._groups[factor]
                codes = codes_of_factor(
                    self._x[:, columns], self._y, all(c in self._classes for c in columns),
                    self._of.max_intervals, self._of.alpha,
                )  # fmt: skip
                self.known[factor] = max(information_gain_ratio(each, self._y) for each in codes)
        return [self.known[factor] for factor in factors]


def codes_of_factor(
    X: ArrayLike, y: ArrayLike, classes: bool, max_intervals: int = 8, alpha: float = 0.05
) -> list[NDArray[np.int64]]:
    """Return the intervals or classes of a factor, for its information gain ratio.

    Parameters
    ----------
    X : array_like of float, shape (n, columns)
        Columns of one factor, finite.
    y : array_like, shape (n,)
    classes : bool
        Whether they are classes, 0 or 1 (a share where the class was missing: the largest
        counts).
    max_intervals, alpha
        Of `bins.chimerge`.

    Returns
    -------
    list of ndarray of int64, shape (n,)
        One of a factor of classes, or else one per column: a factor with several, such as sine and
        cosine of aspect, is worth what the better one is worth.

    Examples
    --------
    >>> codes_of_factor([[1, 0], [0, 1]], [0, 1], classes=True)[0].tolist()
    [0, 1]
    """
    values, labels = np.asarray(X, np.float64), np.asarray(y).ravel()
    if classes:
        # All 0: a class that does not vary here and has no column of its own.
        none = values.max(axis=1) <= 0
        return [np.where(none, -1, values.argmax(axis=1)).astype(np.int64)]
    if np.unique(labels).size < 2:
        return [np.zeros(len(values), np.int64)]
    return [
        discretise(column, chimerge(column, labels, max_intervals, alpha, floor=FLOOR))
        for column in values.T
    ]


def dropped_by(model: Any) -> list[dict[str, Any]]:
    """Return what a fitted model left out, with "part" where it has several below it.

    Parameters
    ----------
    model : estimator
        Fitted, of `registry.build`.

    Returns
    -------
    list of dict
        As `FactorSelection.dropped_`; of stacking and blending, also "part": the name of the model
        below, which chose on its own. Empty where nothing was left out.
    """
    found = []
    for part, chosen in _selections(model):
        for each in chosen.dropped_:
            found.append({**each, "part": part} if part else dict(each))
    return found


def _selections(model: Any, part: str = "") -> Iterator[tuple[str, FactorSelection]]:
    if isinstance(model, FactorSelection):
        yield part, model
    for _, step in getattr(model, "steps", ()):
        yield from _selections(step, part)
    for name, below in getattr(model, "bases_", {}).items():
        yield from _selections(below, name)


def _columns(classes: Sequence[int], columns: int) -> set[int]:
    chosen = {int(c) for c in classes}
    if chosen and not (min(chosen) >= 0 and max(chosen) < columns):
        raise DataError(
            f"Columns of classes {sorted(chosen)} were named, of {columns} columns.",
            hint="Give positions in the order of the features, from 0.",
        )
    return chosen


def _needs_labels(tags: Any) -> Any:
    tags.target_tags.required = True
    return tags
