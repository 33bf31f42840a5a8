"""What any segmentation has to beat: one threshold on one band, and a forest of single pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from thawslump.errors import DataError

__all__ = [
    "NOT_LOOKED_AT",
    "PixelForest",
    "Threshold",
    "best_threshold",
    "f1_score",
    "fit_pixel_forest",
]

NOT_LOOKED_AT = 255


@dataclass(frozen=True)
class Threshold:
    """A rule on one band.

    Attributes
    ----------
    value : float
    above : bool
        True: slump where the band is at least `value`; False: at most.
    f1 : float
        On the pixels it was chosen on.
    """

    value: float
    above: bool
    f1: float

    def apply(self, band: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return where the rule says slump; never where the band is missing.

        Examples
        --------
        >>> Threshold(2.0, False, 1.0).apply(np.array([1.0, 3.0, np.nan])).tolist()
        [True, False, False]
        """
        with np.errstate(invalid="ignore"):
            return band >= self.value if self.above else band <= self.value


def f1_score(
    predicted: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Return F1 = 2 TP / (2 TP + FP + FN) over the pixels that were looked at.

    - Labels 255 count nowhere.
    - Neither a slump nor a prediction anywhere: NaN, not 1.

    Examples
    --------
    >>> f1_score(np.array([True, True, False, True]), np.array([1, 0, 1, 255], np.uint8))
    0.5
    """
    seen = labels != NOT_LOOKED_AT
    weight = np.ones(labels.shape) if weights is None else weights
    true = labels == 1
    hits = float(weight[seen & true & predicted].sum())
    wrong = float(weight[seen & (true != predicted)].sum())
    total = 2.0 * hits + wrong
    return 2.0 * hits / total if total > 0 else float("nan")


def best_threshold(band: NDArray[np.float32], labels: NDArray[np.uint8]) -> Threshold:
    """Return the rule on one band with the highest F1, over every value and both directions.

    Exact: each distinct value is tried. A missing value (NaN) is never called slump, but its
    slumps count as missed.

    Parameters
    ----------
    band : ndarray of float, any shape
    labels : ndarray of uint8, same shape
        1 slump, 0 not, 255 left out.

    Returns
    -------
    Threshold
        Of equal rules the one that marks the fewest pixels; `above` before below.

    Raises
    ------
    DataError
        Shapes differ, or no pixel is a slump, or the band is missing everywhere.

    Examples
    --------
    >>> band, labels = np.array([0.1, 0.5, 0.7, 0.9]), np.array([1, 1, 0, 0], np.uint8)
    >>> best_threshold(band, labels)
    Threshold(value=0.5, above=False, f1=1.0)
    """
    if band.shape != labels.shape:
        raise DataError(f"A band of shape {band.shape} was given with labels of {labels.shape}.")
    seen = labels != NOT_LOOKED_AT
    slumps = int((labels == 1).sum())
    known = seen & ~np.isnan(band)
    if slumps == 0:
        raise DataError("No pixel is a slump: a threshold cannot be chosen.")
    if not known.any():
        raise DataError("The band is missing wherever labels were looked at.")
    values, truth = band[known], labels[known] == 1
    order = np.argsort(values, kind="stable")
    values, truth = values[order], truth[order]
    best: Threshold | None = None
    for above in (True, False):
        ordered = values[::-1] if above else values
        hits = np.cumsum(truth[::-1] if above else truth)
        # A rule ends behind the last of equal values.
        ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
        f1 = 2.0 * hits[ends] / (ends + 1 + slumps)
        chosen = int(np.argmax(f1))
        if best is None or f1[chosen] > best.f1:
            best = Threshold(float(ordered[ends[chosen]]), above, float(f1[chosen]))
    assert best is not None
    return best


@dataclass(frozen=True)
class PixelForest:
    """A random forest that sees one pixel at a time.

    Attributes
    ----------
    forest : RandomForestClassifier
    fill : ndarray of float32, shape (bands,)
        Training mean of each band, where a pixel misses it.
    threshold : float
        Probability from which a pixel is called slump.
    """

    forest: RandomForestClassifier
    fill: NDArray[np.float32]
    threshold: float = 0.5

    def probability(self, stack: NDArray[np.float32], strip: int = 2**18) -> NDArray[np.float32]:
        """Return the probability of slump, NaN where all bands are missing.

        Parameters
        ----------
        stack : ndarray of float32, shape (band, y, x)
        strip : int
            Pixels taken at once.

        Returns
        -------
        ndarray of float32, shape (y, x)
        """
        pixels = stack.reshape(stack.shape[0], -1).T
        out = np.full(pixels.shape[0], np.nan, np.float32)
        for first in range(0, len(pixels), strip):
            part = pixels[first : first + strip]
            missing = np.isnan(part)
            valid = ~missing.all(axis=1)
            if valid.any():
                filled = np.where(missing, self.fill, part)[valid]
                out[first : first + strip][valid] = self.forest.predict_proba(filled)[:, 1]
        return out.reshape(stack.shape[1:])

    def with_threshold(
        self, tiles: Mapping[str, tuple[NDArray[np.float32], NDArray[np.uint8]]]
    ) -> PixelForest:
        """Return the forest with the threshold of the highest F1 on validation tiles."""
        scores = np.concatenate([self.probability(stack).ravel() for stack, _ in tiles.values()])
        labels = np.concatenate([marks.ravel() for _, marks in tiles.values()])
        rule = best_threshold(np.nan_to_num(scores, nan=-1.0), labels)
        # A rule "at most" means the forest learned nothing; its highest scores stay the slumps.
        value = rule.value if rule.above else float(np.nanmax(scores))
        return PixelForest(self.forest, self.fill, value)


def fit_pixel_forest(
    tiles: Mapping[str, tuple[NDArray[np.float32], NDArray[np.uint8]]],
    *,
    per_class: int = 20_000,
    trees: int = 100,
    min_leaf: int = 5,
    seed: int = 0,
    jobs: int = 1,
) -> PixelForest:
    """Fit a random forest on single pixels, as many slump as other ones.

    Parameters
    ----------
    tiles : mapping of name to (stack, labels)
        Stack float32 (band, y, x), NaN missing; labels uint8 (y, x), 255 left out.
    per_class : int
        At most this many pixels of each class, drawn over all tiles.
    trees, min_leaf, seed, jobs : int

    Returns
    -------
    PixelForest
        With the threshold 0.5; choose one with `with_threshold` on other tiles.

    Raises
    ------
    DataError
        One of the classes is absent.
    """
    rng = np.random.default_rng(seed)
    groups: dict[int, list[NDArray[np.float32]]] = {0: [], 1: []}
    for stack, labels in tiles.values():
        pixels, marks = stack.reshape(stack.shape[0], -1), labels.ravel()
        usable = ~np.isnan(pixels).all(axis=0)
        for kind, parts in groups.items():
            parts.append(pixels[:, usable & (marks == kind)].T)
    chosen = []
    pooled = {kind: np.concatenate(parts) for kind, parts in groups.items()}
    size = min(per_class, *(len(pixels) for pixels in pooled.values()))
    if size == 0:
        raise DataError(
            f"{len(pooled[1])} slump pixels and {len(pooled[0])} others were given; "
            "a forest needs both."
        )
    for kind in (0, 1):
        drawn = rng.choice(len(pooled[kind]), size, replace=False)
        chosen.append(pooled[kind][np.sort(drawn)])
    features = np.concatenate(chosen)
    known = ~np.isnan(features)
    total = np.where(known, features, 0.0).sum(axis=0, dtype=np.float64)
    fill = (total / np.maximum(1, known.sum(axis=0))).astype(np.float32)
    features = np.where(known, features, fill)
    targets = np.repeat(np.array([0, 1], np.uint8), size)
    forest = RandomForestClassifier(
        n_estimators=trees, min_samples_leaf=min_leaf, random_state=seed, n_jobs=jobs
    ).fit(features, targets)
    return PixelForest(forest, fill)
