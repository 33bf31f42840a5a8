"""Statistics of maps and bands against labels, with intervals over blocks of ground.

Pixels that lie side by side are alike: intervals come from drawing whole blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BandRule",
    "band_auc",
    "best_rule",
    "block_counts",
    "block_ids",
    "draw_interval",
    "f1_interval",
]

Numbers = NDArray[np.floating[Any]]


def block_ids(shape: tuple[int, int], block: int, step: int = 1) -> NDArray[np.int64]:
    """Return the number of the square block that each pixel lies in.

    Parameters
    ----------
    shape : (rows, columns)
    block : int
        Side in pixels of the whole raster.
    step : int
        Only every so many-th pixel of each side is kept; `shape` counts those.

    Examples
    --------
    >>> block_ids((2, 4), 2).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    rows = np.arange(shape[0]) * step // block
    columns = np.arange(shape[1]) * step // block
    return np.asarray(rows[:, None] * (int(columns[-1]) + 1) + columns[None, :], np.int64)


def block_counts(
    probability: Numbers, labels: NDArray[np.uint8], threshold: float, blocks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count hits, false alarms and misses in each block.

    Parameters
    ----------
    probability : ndarray of float, any shape
        NaN where not predicted: not counted.
    labels : ndarray of uint8, same shape
        1 slump, 0 not, 255 not looked at: not counted.
    threshold : float
        Slump from this probability on.
    blocks : ndarray of int, same shape

    Returns
    -------
    ndarray of int64, shape (blocks, 3)
        Only blocks that hold a counted pixel.

    Examples
    --------
    >>> labels = np.array([1, 0, 1], np.uint8)
    >>> block_counts(np.array([0.9, 0.8, 0.1]), labels, 0.5, np.zeros(3, int))
    array([[1, 1, 1]])
    """
    counted = np.isfinite(probability) & (labels != 255)
    called, true = probability[counted] >= threshold, labels[counted] == 1
    _, place = np.unique(blocks[counted], return_inverse=True)
    size = int(place.max()) + 1 if place.size else 0
    return np.stack(
        [
            np.bincount(place[kind], minlength=size)
            for kind in (called & true, called & ~true, ~called & true)
        ],
        axis=1,
    ).astype(np.int64)


def f1_interval(
    counts: NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Return F1 and its 95 % interval from draws of whole blocks.

    Parameters
    ----------
    counts : ndarray, shape (blocks, 3)
        Hits, false alarms, misses; see `block_counts`.
    resamples, seed : int

    Returns
    -------
    f1, low, high : float
        NaN where there is neither a slump nor a call.

    Examples
    --------
    >>> f1_interval(np.array([[4, 1, 1], [4, 1, 1]]))
    (0.8, 0.8, 0.8)
    """
    if not counts.size:
        return math.nan, math.nan, math.nan
    draws = np.random.default_rng(seed).multinomial(
        len(counts), np.full(len(counts), 1.0 / len(counts)), size=resamples
    )
    sums = np.vstack([counts.sum(axis=0)[None], draws @ counts])
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * sums[:, 0] / (2 * sums[:, 0] + sums[:, 1] + sums[:, 2])
    drawn = f1[1:][np.isfinite(f1[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (math.nan, math.nan)
    return float(f1[0]), float(low), float(high)


def draw_interval(
    counts: NDArray[np.integer[Any]],
    metric: Callable[[NDArray[Any]], NDArray[np.float64]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of any score of counts from draws of whole blocks.

    Parameters
    ----------
    counts : ndarray, shape (blocks, k)
    metric : callable
        Counts in the last axis -> score.
    resamples, seed : int

    Returns
    -------
    low, high : float
        NaN where no draw has a score.

    Examples
    --------
    >>> draw_interval(np.array([[4, 5], [4, 5]]), lambda c: c[..., 0] / c[..., 1])
    (0.8, 0.8)
    """
    draws = np.random.default_rng(seed).multinomial(
        len(counts), np.full(len(counts), 1.0 / len(counts)), size=resamples
    )
    values = metric(draws @ counts)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.025, 0.975]) if values.size else (math.nan, math.nan)
    return float(low), float(high)


@dataclass(frozen=True)
class BandRule:
    """Slump where a band is at least (`above`) or at most `value`; `f1` where it was chosen."""

    value: float
    above: bool
    f1: float

    def as_probability(self, band: Numbers) -> NDArray[np.float32]:
        """Return 1 where the rule says slump, 0 where not, NaN where the band is missing."""
        # In float64, as chosen: rounding the value to float32 would move equal pixels across it.
        wide = np.asarray(band, np.float64)
        with np.errstate(invalid="ignore"):
            called = wide >= self.value if self.above else wide <= self.value
        return np.where(np.isfinite(band), called, np.nan).astype(np.float32)


def best_rule(band: Numbers, labels: NDArray[np.uint8], bins: int = 2048) -> BandRule | None:
    """Return the threshold on one band with the highest F1, over quantiles and both directions.

    Parameters
    ----------
    band : ndarray of float, any shape
        NaN where missing: left out.
    labels : ndarray of uint8, same shape
        1 slump, 0 not, 255 left out.
    bins : int
        Thresholds tried.

    Returns
    -------
    BandRule or None
        None without a slump or without a value.

    Examples
    --------
    >>> best_rule(np.arange(10.0), (np.arange(10) < 3).astype(np.uint8), bins=10)
    BandRule(value=2.7, above=False, f1=1.0)
    """
    counted = np.isfinite(band) & (labels != 255)
    values, true = np.asarray(band[counted], np.float64), labels[counted] == 1
    if not true.any():
        return None
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    place = np.searchsorted(edges, values, side="left")
    size = len(edges) + 1
    hits, others = (np.bincount(place[k], minlength=size) for k in (true, ~true))
    best: BandRule | None = None
    for above in (True, False):
        # At most edges[k]: places 0..k. At least edges[k]: those beyond the edge before it.
        tp, fp = (
            (c[::-1].cumsum()[::-1] if above else c.cumsum()).astype(float) for c in (hits, others)
        )
        f1 = 2 * tp / (tp + fp + true.sum() + 1e-12)
        # Whole strata only: "at least" uses the edge below the stratum.
        chosen = int(np.argmax(f1[1:] if above else f1[: len(edges)]))
        value = float(np.nextafter(edges[chosen], np.inf)) if above else float(edges[chosen])
        score = float(f1[1:][chosen] if above else f1[chosen])
        if best is None or score > best.f1:
            best = BandRule(value, above, score)
    return best


def band_auc(
    values: NDArray[np.floating[Any]],
    labels: NDArray[np.uint8],
    blocks: NDArray[np.integer[Any]],
    *,
    resamples: int = 500,
    seed: int = 0,
    bins: int = 1024,
) -> tuple[float, float, float, int, int]:
    """Return how well one band alone tells slump pixels from others.

    The area under the ROC curve of the value itself: 0.5 is none, 1 where slumps are always
    higher, 0 where they are always lower. Values are ranked over `bins` quantiles; ties count
    half.

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        NaN where missing: left out.
    labels : ndarray of uint8, shape (n,)
        1 slump, 0 not, 255 left out.
    blocks : ndarray of int, shape (n,)
        Spatial block of each pixel; the interval comes from draws of whole blocks.
    resamples, seed, bins : int

    Returns
    -------
    auc, low, high : float
        The area and its 95 % interval; NaN where one class is absent.
    positive, negative : int
        Pixels that entered.

    Examples
    --------
    >>> values = np.arange(100.0); labels = (values >= 50).astype(np.uint8)
    >>> band_auc(values, labels, np.arange(100) % 10)[0]
    1.0
    """
    usable = np.isfinite(values) & (labels != 255)
    v, true = values[usable], labels[usable] == 1
    _, block = np.unique(blocks[usable], return_inverse=True)
    positive, negative = int(true.sum()), int((~true).sum())
    if positive == 0 or negative == 0:
        return math.nan, math.nan, math.nan, positive, negative
    edges = np.unique(np.quantile(v, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_of = np.searchsorted(edges, v, side="right")
    width, height = len(edges) + 1, int(block.max()) + 1
    counts = np.stack([
        np.bincount(block[mask] * width + bin_of[mask], minlength=width * height)
        .reshape(height, width).astype(np.float64)
        for mask in (true, ~true)
    ])  # fmt: skip
    draws = np.random.default_rng(seed).multinomial(
        height, np.full(height, 1.0 / height), size=resamples
    )
    weights = np.vstack([np.ones(height), draws])
    hits, others = weights @ counts[0], weights @ counts[1]
    below = np.cumsum(others, axis=1) - others
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = (hits * (below + 0.5 * others)).sum(1) / (hits.sum(1) * others.sum(1))
    drawn = areas[1:][np.isfinite(areas[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (math.nan, math.nan)
    return float(areas[0]), float(low), float(high), positive, negative
