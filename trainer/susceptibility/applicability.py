"""Where a model may be asked: distance of a place's factors from those it was trained on.

H. Meyer and E. Pebesma, Predicting into unknown space? Estimating the area of applicability of
spatial prediction models, Methods in Ecology and Evolution 12, 2021, doi 10.1111/2041-210X.13650.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from thawslump.errors import DataError
from trainer.susceptibility.neighbours import Nearest
from trainer.tensors import write_tensors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Applicability", "usual_dissimilarity"]

Floats = NDArray[np.float64]
# Places scaled at a time: copies of more would fill the memory.
_AT_ONCE = 262_144
# Pairs of training samples that the mean distance is taken over where there are more.
_PAIRS = 2_000_000


@dataclass(frozen=True)
class Applicability:
    """Dissimilarity to the training samples, and the threshold beyond which nothing is known.

    Attributes
    ----------
    mean, scale, weights : ndarray of float64, shape (factors,)
        Factors are centred, divided by their deviation, and multiplied by their weight.
    reference : float
        Mean distance between training samples: the unit of the index.
    threshold : float
        Of `usual_dissimilarity`, of the training samples to those of other folds.
    training : ndarray of float64, shape (n,)
        Dissimilarity of every training sample to those of other folds.

    Examples
    --------
    >>> x = np.arange(20.0)[:, None]
    >>> known = Applicability.fit(x, np.arange(20) // 5)
    >>> known.applicable([[7.2], [60.0]]).tolist()
    [True, False]
    """

    mean: Floats
    scale: Floats
    weights: Floats
    reference: float
    threshold: float
    training: Floats
    _nearest: Nearest

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        folds: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        seed: int = 0,
    ) -> Applicability:
        """Learn the space of the training samples.

        Parameters
        ----------
        X : array_like of float, shape (n, factors)
            Finite.
        folds : array_like of int, shape (n,), optional
            Folds by which the model was judged: the threshold then says how far from their
            training samples the judged ones were. Without them every sample is its own fold.
        weights : array_like of float, shape (factors,), optional
            Importance of the factors, at least 0; alike where not given.
        seed : int
            Of the pairs that stand for all where there are more than two million.

        Raises
        ------
        DataError
            Shapes do not fit, values are not finite, one fold only, or no weight.
        """
        values = np.asarray(X, np.float64)
        if values.ndim != 2 or len(values) < 3:
            raise DataError(
                f"Training samples have the shape {values.shape}; expected (samples, factors).",
                hint="Give at least three samples, one in each row.",
            )
        if not np.isfinite(values).all():
            raise DataError(
                f"{int((~np.isfinite(values).all(axis=1)).sum())} training samples have factors "
                "that are not finite.",
                hint="Leave them out, as the model does.",
            )
        parts = np.arange(len(values)) if folds is None else np.asarray(folds).ravel()
        if len(parts) != len(values) or np.unique(parts).size < 2:
            raise DataError(
                f"{len(parts)} fold numbers with {np.unique(parts).size} folds were given for "
                f"{len(values)} samples.",
                hint="Give one fold per sample, and two folds or more.",
            )
        if weights is None:
            share = np.ones(values.shape[1])
        else:
            share = np.asarray(weights, np.float64).ravel()
        if share.shape != (values.shape[1],) or (share < 0).any() or not share.any():
            raise DataError(
                f"{share.size} weights were given for {values.shape[1]} factors.",
                hint="Give one weight of at least 0 per factor, and not only zeros.",
            )
        mean, scale = values.mean(axis=0), values.std(axis=0, ddof=1)
        scale = np.where(scale > 0, scale, 1.0)
        points = (values - mean) / scale * share
        reference = _mean_distance(points, np.random.default_rng(seed))
        training = _to_other_folds(points, parts) / reference
        limit = usual_dissimilarity(training)
        return cls(mean, scale, share, reference, limit, training, Nearest(points))

    def dissimilarity(self, X: ArrayLike, threads: int = 1) -> Floats:
        """Return the index of places: distance to the nearest training sample / mean distance.

        Parameters
        ----------
        X : array_like of float, shape (m, factors)
            NaN in any factor gives NaN.
        threads : int
            That share the places.

        Returns
        -------
        ndarray of float64, shape (m,)
            0 at a training sample; the unit is the mean distance between training samples.
        """
        values = np.asarray(X, np.float64)
        found = np.full(len(values), np.nan)
        whole = np.flatnonzero(np.isfinite(values).all(axis=1))
        for first in range(0, whole.size, _AT_ONCE):
            at = whole[first : first + _AT_ONCE]
            points = (values[at] - self.mean) / self.scale * self.weights
            found[at] = self._nearest.distances(points, threads) / self.reference
        return found

    def applicable(self, X: ArrayLike, threads: int = 1) -> NDArray[np.bool_]:
        """Return where the model may be asked; False where a factor is missing."""
        return np.asarray(self.dissimilarity(X, threads) <= self.threshold)

    def write(self, path: Path) -> None:
        """Write as safetensors, atomically; equal ones give equal bytes."""
        parts = {
            "mean": self.mean,
            "scale": self.scale,
            "weights": self.weights,
            "numbers": np.array([self.reference, self.threshold]),
            "training": self.training,
            "points": self._nearest.points,
        }
        write_tensors(path, parts)

    @classmethod
    def read(cls, path: Path) -> Applicability:
        """Read what `write` wrote."""
        from safetensors.numpy import load_file

        held = load_file(path)
        reference, threshold = map(float, held["numbers"])
        return cls(
            held["mean"], held["scale"], held["weights"], reference, threshold, held["training"],
            Nearest(held["points"]),
        )  # fmt: skip


def usual_dissimilarity(training: ArrayLike) -> float:
    """Return up to what dissimilarity training samples are no outliers, as CAST does.

    Parameters
    ----------
    training : array_like of float, shape (n,)
        Dissimilarity of training samples to those of other folds.

    Returns
    -------
    float
        Upper quartile plus 1.5 times the distance between the quartiles (Meyer and Pebesma 2021,
        quantiles by linear interpolation), but not more than the largest.

    Examples
    --------
    >>> usual_dissimilarity([0.1, 0.2, 0.3, 0.4, 9.0])
    0.7
    """
    values = np.asarray(training, np.float64)
    low, high = np.quantile(values, [0.25, 0.75])
    return float(min(high + 1.5 * (high - low), values.max()))


def _mean_distance(points: Floats, dice: np.random.Generator) -> float:
    count = len(points)
    if count * (count - 1) // 2 <= _PAIRS:
        from scipy.spatial.distance import pdist

        mean = float(pdist(points).mean())
    else:
        left = dice.integers(0, count, _PAIRS)
        right = (left + dice.integers(1, count, _PAIRS)) % count  # never the sample itself
        mean = float(np.linalg.norm(points[left] - points[right], axis=1).mean())
    if mean == 0:
        raise DataError(
            "All training samples are alike.", hint="Give samples whose factors differ."
        )
    return mean


def _to_other_folds(points: Floats, folds: NDArray[np.int64]) -> Floats:
    found = np.empty(len(points))
    if np.unique(folds).size == len(points):
        return np.asarray(cKDTree(points).query(points, k=2)[0][:, 1], np.float64)
    for fold in np.unique(folds):
        held = folds == fold
        found[held] = Nearest(points[~held]).distances(points[held])
    return found
