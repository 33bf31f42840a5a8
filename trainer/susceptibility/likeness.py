"""How like the ground of slumps other ground is, and how far samples differ in their factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Likeness", "standardised_differences"]

CLIP = 3.0  # spreads: beyond, ground is as unlike as at it
_DIGITS = 6  # of the stored numbers: rounding of sums must not reach the draw


@dataclass(frozen=True)
class Likeness:
    """Propensity of a cell's environment: how probable a slump is where both are as frequent.

    A logistic regression of slump cells against cells drawn at random beyond the buffer, on
    standardised features and their squares (a slope may be best at 7 degrees).

    Attributes
    ----------
    features : tuple of str
        Columns, as `models.feature_names` gives them.
    mean, scale : tuple of float
        Of each: mean, which a missing one takes, and spread, of both samples together.
    linear, square : tuple of float
        Coefficients of the standardised feature, held to -3 .. 3, and of its square less 1;
        0 for squares of classes.
    intercept : float

    Notes
    -----
    Its values are the overlap weights of Li, Morgan and Zaslavsky (2018): negatives drawn by them
    follow p0 p1 / (p0 + p1), where p0 and p1 are the densities of other ground and of slump ground.
    So ground where slumps never are (flat, wet, "trivial areas": Steger and Glade 2017) is drawn
    rarely, and ground like theirs at the full rate, but no more: weights of full matching,
    p1 / p0, would make negatives equal to positives in all that the factors tell, and leave a model
    nothing to learn.

    References
    ----------
    Li, Morgan and Zaslavsky 2018, Balancing covariates via propensity score weighting (Journal of
    the American Statistical Association 113). Steger and Glade 2017, The challenge of "trivial
    areas" in statistical landslide susceptibility modelling (Advancing Culture of Living with
    Landslides, Springer).
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    linear: tuple[float, ...]
    square: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(
        cls,
        slumps: NDArray[np.floating],
        ground: NDArray[np.floating],
        features: Sequence[str],
    ) -> Likeness:
        """Return the propensity of two samples of cells.

        Parameters
        ----------
        slumps, ground : ndarray of float, shape (n, features), (m, features)
            NaN where missing. Columns of classes are named ``<factor>=<class>``.
        features : sequence of str

        Returns
        -------
        Likeness
            Numbers are rounded to six digits.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> ground = rng.normal(0, 1, (1000, 1))
        >>> like = Likeness.fit(rng.normal(1, 0.3, (200, 1)), ground, ["slope"])
        >>> flat, fits, steep = like.weights(np.array([[-1.0], [1.0], [9.0]]))
        >>> bool(flat < 0.01 and steep < 0.1), bool(fits > 0.7)
        (True, True)
        """
        from sklearn.linear_model import LogisticRegression

        both = np.concatenate([slumps, ground]).astype(np.float64)
        target = np.r_[np.ones(len(slumps)), np.zeros(len(ground))]
        known = np.isfinite(both)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, both, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(known, (both - mean) ** 2, 0.0).sum(axis=0) / count)
        scale = np.where(spread > 0, spread, 1.0)
        rounded = [[_short(float(value)) for value in each] for each in (mean, scale)]
        zero = (0.0,) * len(features)
        plain = cls(tuple(features), tuple(rounded[0]), tuple(rounded[1]), zero, zero, 0.0)
        columns = plain._columns(both)
        squares = [n for n, name in enumerate(features) if "=" not in name]
        design = np.stack([*columns, *(columns[n] ** 2 - 1.0 for n in squares)], axis=1)
        model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(design, target)
        found = model.coef_[0]
        square = np.zeros(len(features))
        square[squares] = found[len(features) :]
        return cls(
            plain.features,
            plain.mean,
            plain.scale,
            tuple(_short(float(value)) for value in found[: len(features)]),
            tuple(_short(float(value)) for value in square),
            _short(float(model.intercept_[0])),
        )

    def _columns(self, features: NDArray[np.floating]) -> list[NDArray[np.float64]]:
        return [
            np.clip(
                (np.where(np.isfinite(column), column, mean).astype(np.float64) - mean) / scale,
                -CLIP,
                CLIP,
            )
            for column, mean, scale in zip(
                np.asarray(features).T, self.mean, self.scale, strict=True
            )
        ]

    def weights(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the propensity of each cell, between 0 and 1, shape (n,).

        Parameters
        ----------
        features : ndarray of float, shape (n, features)
            In the order of `features`; NaN counts as the mean.
        """
        total = np.full(len(features), self.intercept)
        # Column by column: a product of matrices would round by the number of rows.
        for column, linear, square in zip(
            self._columns(features), self.linear, self.square, strict=True
        ):
            total += linear * column + square * (column**2 - 1.0)
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * total)))

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Likeness:
        """Return what `as_json` gave."""
        mean, scale, linear, square = (
            tuple(float(value) for value in held[name])
            for name in ("mean", "scale", "linear", "square")
        )
        return cls(tuple(held["features"]), mean, scale, linear, square, float(held["intercept"]))


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def standardised_differences(
    features: NDArray[np.floating], labels: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return how far positives and negatives lie apart in each feature, in spreads.

    Difference of the means over the root of the mean of both variances (Rosenbaum and Rubin 1985).
    Below 0.1 in size the samples are usually called balanced.

    Parameters
    ----------
    features : ndarray of float, shape (n, features)
        NaN where missing; left out.
    labels : ndarray of uint8, shape (n,)
        1 slump, 0 not.

    Returns
    -------
    ndarray of float64, shape (features,)
        NaN where one side has no value; 0 where all values are equal; infinite where each side
        has one value of its own.

    References
    ----------
    Rosenbaum and Rubin 1985, Constructing a control group using multivariate matched sampling
    methods that incorporate the propensity score (The American Statistician 39).

    Examples
    --------
    >>> slope = np.array([[1.0], [3.0], [5.0], [7.0]])
    >>> standardised_differences(slope, np.array([0, 0, 1, 1], np.uint8)).tolist()
    [4.0]
    """
    sides = []
    for label in (1, 0):
        values = np.asarray(features, np.float64)[np.asarray(labels) == label]
        known = np.isfinite(values)
        count = known.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known, values, 0.0).sum(axis=0) / count
            sides.append((mean, np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / count))
    (one, spread), (other, spread_other) = sides
    apart = one - other
    with np.errstate(invalid="ignore", divide="ignore"):
        found = apart / np.sqrt((spread + spread_other) / 2.0)
    return np.asarray(np.where(apart == 0.0, 0.0, found))
