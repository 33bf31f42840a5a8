"""Scores from counts, against scikit-learn and by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from trainer import metrics


def made_up(seed: int, size: int = 400, levels: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(size) < 0.2).astype("uint8")
    probability = np.clip(random.normal(0.3 + 0.3 * labels, 0.2), 0, 1)
    return np.rint(probability * levels) / levels, labels


@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 100, 10_000]))
@settings(max_examples=40, deadline=None)
def test_average_precision_equals_scikit_learn(seed: int, levels: int) -> None:
    """Ties included: few levels make many pixels equal."""
    probability, labels = made_up(seed, levels=levels)
    found = metrics.histogram(probability, labels)
    assert metrics.average_precision(found) == pytest.approx(
        average_precision_score(labels, metrics.quantise(probability)), rel=1e-9
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9999))
@settings(max_examples=40, deadline=None)
def test_scores_equal_scikit_learn(seed: int, level: int) -> None:
    probability, labels = made_up(seed)
    threshold = level / 10_000
    mapped = np.rint(probability * 10_000) >= level
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, mapped, average="binary", zero_division=np.nan
    )
    found = metrics.scores(metrics.counts_at(metrics.histogram(probability, labels), threshold))
    np.testing.assert_allclose(
        [found.precision, found.recall, found.f1],
        [precision, recall, f1 if found.tp else 0.0],
        equal_nan=True,
    )
    curve = metrics.curve(metrics.histogram(probability, labels))[:, level]
    np.testing.assert_allclose(curve[1:], [found.recall, found.f1])


def test_histogram_ignores_what_nobody_looked_at_and_nodata() -> None:
    probability = np.array([[0.9, np.nan, 0.3], [0.1, 0.5, 0.5]])
    labels = np.array([[1, 1, 255], [0, 255, 0]], dtype="uint8")
    found = metrics.histogram(probability, labels)
    assert found.sum() == 3
    assert metrics.counts_at(found, 0.5).tolist() == [1, 1, 0, 1]


def test_best_threshold_beats_every_other() -> None:
    probability, labels = made_up(3)
    found = metrics.histogram(probability, labels)
    every = [metrics.scores(metrics.counts_at(found, k / 10_000)).f1 for k in range(1, 10_001)]
    exact = metrics.best_threshold(found, tolerance=0)
    assert metrics.scores(metrics.counts_at(found, exact)).f1 == max(every)
    middle = metrics.best_threshold(found)
    assert metrics.scores(metrics.counts_at(found, middle)).f1 >= max(every) - 0.02


def test_best_threshold_is_the_middle_of_a_flat_top() -> None:
    """A lucky pixel at the end of a wide top does not pull the threshold there."""
    probability = np.concatenate([np.full(50, 0.1), np.full(100, 0.8), [0.25]])
    labels = np.concatenate([np.zeros(50), np.ones(100), [1]]).astype("uint8")
    found = metrics.histogram(probability, labels)
    assert metrics.best_threshold(found, tolerance=0) == pytest.approx(0.175, abs=1e-3)
    assert metrics.best_threshold(found) == pytest.approx(0.45, abs=1e-3)
    assert 0 < metrics.best_threshold(metrics.histogram(probability, np.ones(151, "uint8"))) <= 1


def test_bias_tells_how_much_more_is_mapped() -> None:
    found = metrics.scores(np.array([6, 6, 2, 86]))
    assert found.bias == 1.5
    assert found.iou == pytest.approx(found.f1 / (2 - found.f1))


def test_undefined_scores_are_not_numbers() -> None:
    found = metrics.scores(np.array([0, 0, 5, 5]))
    assert np.isnan(found.precision)
    assert found.f1 == 0
    assert np.isnan(metrics.scores(np.array([0, 0, 0, 5])).f1)


def test_blocks_add_up_to_the_whole() -> None:
    random = np.random.default_rng(0)
    probability = random.random((50, 37))
    probability[:8, :8] = np.nan
    labels = random.choice(np.array([0, 1, 255], dtype="uint8"), (50, 37))
    whole = metrics.counts_at(metrics.histogram(probability, labels), 0.6)
    blocks = metrics.block_counts(probability, labels, 0.6, 8)
    assert blocks.sum(axis=0).tolist() == whole.tolist()
    assert len(blocks) == 7 * 5 - 1


def test_bootstrap_covers_the_truth_of_independent_blocks() -> None:
    """About 95 % of the intervals hold the score that generated the data."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        tp = random.binomial(20, 0.7, 60)
        counts = np.stack([tp, 20 - tp, 20 - tp, np.full(60, 60)], axis=1)
        low, high = metrics.bootstrap(counts, resamples=300, seed=int(random.integers(1e6)))
        inside += low <= 0.7 <= high
    assert 88 <= inside <= 100


def test_paired_difference_is_sharper_than_two_intervals() -> None:
    """Two maps that err in the same places differ surely where each alone is unsure."""
    random = np.random.default_rng(2)
    hard = random.integers(0, 15, 40)
    worse = np.stack([20 - hard, hard, hard, np.full(40, 50)], axis=1)
    better = worse + np.array([2, -1, -2, 1]) * (hard > 2)[:, None]
    whole, low, high = metrics.bootstrap_difference(better, worse)
    assert 0 < low <= whole <= high
    first, second = metrics.bootstrap(better), metrics.bootstrap(worse)
    assert first[0] < second[1]
    assert metrics.bootstrap_difference(worse, worse) == (0, 0, 0)
    with pytest.raises(ValueError, match="same blocks"):
        metrics.bootstrap_difference(worse, worse[1:])
