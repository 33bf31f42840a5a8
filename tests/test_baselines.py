"""Baselines: exact thresholds, and a forest that sees single pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score as reference_f1

from thawslump.errors import DataError
from trainer.baselines import Threshold, best_threshold, f1_score, fit_pixel_forest


def brute_force(band: np.ndarray, labels: np.ndarray) -> float:
    """Best F1 over every value and both directions, by trying them."""
    best = 0.0
    for value in np.unique(band[~np.isnan(band)]):
        for above in (True, False):
            score = f1_score(Threshold(float(value), above, 0.0).apply(band), labels)
            best = max(best, score)
    return best


@settings(max_examples=60, deadline=None)
@given(
    band=arrays(np.float32, 25, elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5, np.nan])),
    labels=arrays(np.uint8, 25, elements=st.sampled_from([0, 1, 255])),
)
def test_best_threshold_is_the_best_of_all(band: np.ndarray, labels: np.ndarray) -> None:
    "No value in either direction beats it, and it scores what it says"
    labels[0], band[0] = 1, 1.0
    rule = best_threshold(band, labels)
    assert rule.f1 == pytest.approx(f1_score(rule.apply(band), labels))
    assert rule.f1 == pytest.approx(brute_force(band, labels))


def test_best_threshold_does_not_care_about_the_sign() -> None:
    "Turning a band upside down turns the rule, not the score"
    rng = np.random.default_rng(0)
    band, labels = rng.normal(size=500), (rng.random(500) < 0.3).astype(np.uint8)
    band[labels == 1] += 1.0
    up, down = best_threshold(band, labels), best_threshold(-band, labels)
    assert up.above and not down.above
    assert (up.value, up.f1) == (-down.value, down.f1)


def test_f1_agrees_with_scikit_learn_where_all_was_looked_at() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((20, 20)) < 0.2).astype(np.uint8)
    predicted = rng.random((20, 20)) < 0.3
    assert f1_score(predicted, labels) == pytest.approx(
        reference_f1(labels.ravel(), predicted.ravel())
    )


def test_pixels_not_looked_at_count_nowhere() -> None:
    "Changing what the band says there changes nothing"
    rng = np.random.default_rng(2)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), 300)
    band = rng.normal(size=300)
    other = np.where(labels == 255, 99.0, band)
    assert best_threshold(band, labels) == best_threshold(other, labels)


def test_f1_without_slump_and_prediction_is_not_a_success() -> None:
    assert np.isnan(f1_score(np.zeros(4, bool), np.zeros(4, np.uint8)))


@pytest.mark.parametrize(
    ("band", "labels", "words"),
    [
        (np.zeros(3), np.zeros(3, np.uint8), "No pixel is a slump"),
        (np.full(3, np.nan), np.array([0, 1, 0], np.uint8), "missing wherever"),
        (np.zeros(3), np.zeros(4, np.uint8), "shape"),
    ],
    ids=["no slump", "no value", "other shape"],
)
def test_best_threshold_says_what_is_wrong(
    band: np.ndarray, labels: np.ndarray, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        best_threshold(band, labels)


def tiles(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A made-up tile where slump pixels need both bands: an exclusive or."""
    rng = np.random.default_rng(seed)
    stack = rng.uniform(-1, 1, (2, 60, 60)).astype(np.float32)
    labels = ((stack[0] > 0) ^ (stack[1] > 0)).astype(np.uint8)
    return {"a": (stack, labels)}


def test_forest_learns_what_no_threshold_can() -> None:
    "An exclusive or of two bands: a threshold stays near chance, the forest does not"
    forest = fit_pixel_forest(tiles(0), trees=20).with_threshold(tiles(1))
    stack, labels = tiles(2)["a"]
    assert max(best_threshold(band, labels).f1 for band in stack) < 0.7
    assert f1_score(forest.probability(stack) >= forest.threshold, labels) > 0.9


def test_forest_is_the_same_again_and_in_strips() -> None:
    "Equal seeds give equal probabilities; strips leave no seam"
    first = fit_pixel_forest(tiles(0), trees=5, per_class=100, seed=3)
    second = fit_pixel_forest(tiles(0), trees=5, per_class=100, seed=3)
    stack, _ = tiles(2)["a"]
    assert np.array_equal(first.probability(stack), second.probability(stack, strip=17))


def test_forest_fills_single_bands_and_leaves_empty_pixels_out() -> None:
    stack, labels = tiles(0)["a"]
    stack[0, 0, 0] = np.nan
    stack[:, 0, 1] = np.nan
    out = fit_pixel_forest({"a": (stack, labels)}, trees=5).probability(stack)
    assert np.isfinite(out[0, 0]) and np.isnan(out[0, 1])
    assert np.isnan(out).sum() == 1


def test_forest_without_a_slump_is_refused() -> None:
    stack, labels = tiles(0)["a"]
    with pytest.raises(DataError, match="needs both"):
        fit_pixel_forest({"a": (stack, np.zeros_like(labels))})
