"""The eight scores and the AUC, their intervals over blocks, and the gap."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from imblearn.metrics import geometric_mean_score, sensitivity_score, specificity_score
from sklearn import metrics

from thawslump.errors import DataError
from trainer.susceptibility import bootstrap
from trainer.susceptibility.bootstrap import BlockDraws, Interval
from trainer.susceptibility.scores import (
    NAMES,
    after_choice,
    calls,
    cross_threshold,
    from_calls,
    gap,
    side_by_side,
    within_folds,
    youden,
)
from trainer.susceptibility.validation import auc, block_bootstrap

counts = st.integers(0, 50)


def samples(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, probabilities with ties, and blocks."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.uint8)
    probability = np.clip(0.25 * labels + rng.uniform(0, 0.75, count), 0, 1).round(2)
    return labels, probability, rng.integers(0, 25, count)


def test_scores_agree_with_the_libraries() -> None:
    "scikit-learn and imbalanced-learn, at several thresholds"
    labels, probability, _ = samples()
    for threshold in (0.2, 0.5, 0.65):
        called = (probability >= threshold).astype(int)
        found = from_calls(calls(labels, probability, threshold).sum(axis=0))
        wanted = {
            "accuracy": metrics.accuracy_score(labels, called),
            "g_mean": geometric_mean_score(labels, called),
            "specificity": specificity_score(labels, called),
            "recall": sensitivity_score(labels, called),
            "precision": metrics.precision_score(labels, called),
            "heidke": metrics.cohen_kappa_score(labels, called),
            "matthews": metrics.matthews_corrcoef(labels, called),
            "kappa": metrics.cohen_kappa_score(labels, called),
        }
        assert found.keys() == wanted.keys() == set(NAMES) - {"auc"}
        for name, value in wanted.items():
            assert found[name] == pytest.approx(value, abs=1e-12), name


@settings(max_examples=200, deadline=None)
@given(tp=counts, fp=counts, fn=counts, tn=counts)
def test_heidke_is_kappa_and_matthews_has_its_bounds(tp: int, fp: int, fn: int, tn: int) -> None:
    found = {name: float(value) for name, value in from_calls([tp, fp, fn, tn]).items()}
    if tp + fn and fp + tn:
        assert found["heidke"] == pytest.approx(found["kappa"], abs=1e-12)
        assert found["g_mean"] ** 2 == pytest.approx(found["recall"] * found["specificity"])
        # The false positive rate has true negatives below, not false ones.
        assert 1 - found["specificity"] == pytest.approx(fp / (fp + tn))
        # Never farther from 0 than the correlation, and of the same sign.
        assert abs(found["kappa"]) <= abs(found["matthews"]) + 1e-12
    if tp + fp + fn + tn:
        assert -1 - 1e-12 <= found["matthews"] <= 1 + 1e-12
    # Calling everything the other way round turns both about.
    turned = from_calls([fn, tn, tp, fp])
    assert float(turned["matthews"]) == pytest.approx(-found["matthews"], nan_ok=True, abs=1e-12)


def test_scores_of_a_published_table() -> None:
    """Finley's tornado forecasts of 1884, as every textbook on forecast verification has them

    28 hits, 72 false alarms, 23 misses, 2680 correct negatives: Heidke 0.355, and an accuracy of
    0.966 that never calling any would beat (Wilks, Statistical Methods in the Atmospheric
    Sciences).
    """
    found = from_calls([28, 72, 23, 2680])
    assert float(found["heidke"]) == pytest.approx(0.355, abs=5e-4)
    assert float(found["accuracy"]) == pytest.approx(0.966, abs=5e-4)
    assert float(found["recall"]) == pytest.approx(0.549, abs=5e-4)
    assert 1 - float(found["precision"]) == pytest.approx(0.720, abs=5e-4)
    assert 1 - float(found["specificity"]) == pytest.approx(0.0262, abs=5e-5)
    assert float(from_calls([0, 0, 51, 2752])["accuracy"]) > float(found["accuracy"])


def test_undefined_scores_are_unknown() -> None:
    nothing_called = from_calls([0, 0, 5, 5])
    assert np.isnan(nothing_called["precision"])
    assert nothing_called["matthews"] == 0 == nothing_called["kappa"]
    assert np.isnan(from_calls([0, 3, 0, 5])["recall"])
    assert np.isnan(from_calls([0, 0, 0, 0])["matthews"])


def test_counts_of_a_large_map_do_not_overflow() -> None:
    "1e10 cells: the product of four counts leaves the range of 64-bit integers"
    large = from_calls(np.array([3, 1, 2, 4], np.int64) * 10**9)
    small = from_calls([3, 1, 2, 4])
    for name, value in small.items():
        assert float(large[name]) == pytest.approx(float(value)), name


@settings(max_examples=80, deadline=None)
@given(
    labels=arrays(np.uint8, 25, elements=st.integers(0, 1)),
    probability=arrays(np.float64, 25, elements=st.sampled_from([0.0, 0.2, 0.3, 0.7, 1.0])),
)
def test_youden_is_the_best_threshold(labels: np.ndarray, probability: np.ndarray) -> None:
    "Against every threshold there is, and against the ROC of scikit-learn"
    labels[:2] = [0, 1]

    def value(threshold: float) -> float:
        found = from_calls(calls(labels, probability, threshold).sum(axis=0))
        return float(found["recall"] + found["specificity"])

    best = value(youden(labels, probability))
    assert best == pytest.approx(max(value(t) for t in (-1.0, 0.1, 0.25, 0.5, 0.8, 1.1)))
    wrong, right, _ = metrics.roc_curve(labels, probability)
    assert best - 1 == pytest.approx((right - wrong).max())


def test_a_threshold_never_sees_the_labels_it_is_scored_on() -> None:
    "Turning the labels of a fold about leaves its threshold, and changes those of the others"
    labels, probability, _ = samples()
    fold = np.arange(300) % 3
    before = cross_threshold(labels, probability, fold)
    turned = np.where(fold == 1, 1 - labels, labels)
    after = cross_threshold(turned, probability, fold)
    assert np.array_equal(before[fold == 1], after[fold == 1])
    assert (before[fold != 1] != after[fold != 1]).any()
    for each in range(3):
        assert np.unique(before[fold == each]).tolist() == [
            youden(labels[fold != each], probability[fold != each])
        ]
    fold[5] = -1
    assert np.isnan(cross_threshold(labels, probability, fold)[5])
    with pytest.raises(DataError, match="All 4 samples are of one class"):
        youden(np.ones(4), np.linspace(0, 1, 4))


@pytest.mark.parametrize("paired", [1, 1000], ids=["sorted", "pairs of blocks"])
def test_drawn_areas_are_weighted_areas(paired: int, monkeypatch: pytest.MonkeyPatch) -> None:
    "Both ways, against the slow one: one weighted area per draw, from the same draws"
    monkeypatch.setattr(bootstrap, "_PAIRED", paired)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 500)
    labels, probability, blocks = samples()
    found = BlockDraws(blocks, 60, 3).auc(labels, [probability])
    slow = block_bootstrap(lambda weight: [auc(labels, probability, weight)], blocks, 60, 3)
    assert found[0] == pytest.approx(metrics.roc_auc_score(labels, probability))
    assert found[1:] == pytest.approx(slow[:, 0], nan_ok=True)


def test_draws_without_a_class_are_unknown() -> None:
    "Two blocks, each of one class: half of the draws hold one class only"
    found = BlockDraws(np.array([0, 0, 1, 1]), 100, 0).auc(
        np.array([1, 1, 0, 0]), [np.array([0.9, 0.8, 0.1, 0.2])]
    )
    assert 0.3 < np.isnan(found).mean() < 0.7
    assert np.nanmin(found) == 1.0
    assert np.isnan(BlockDraws(np.zeros(3, int), 5, 0).auc(np.ones(3), [np.arange(3.0)])).all()


def test_mean_over_repetitions_is_drawn_as_a_whole() -> None:
    labels, _, blocks = samples()
    rows = [samples(seed=seed)[1] for seed in (1, 2, 3)]
    draws = BlockDraws(blocks, 40, 0)
    together = draws.auc(labels, rows)
    assert together == pytest.approx(np.mean([draws.auc(labels, [row]) for row in rows], axis=0))


def test_side_by_side_agrees_with_one_draw_at_a_time() -> None:
    "Scores, intervals and paired differences against block_bootstrap with scikit-learn's weights"
    labels, one, blocks = samples()
    two = samples(seed=9)[1]
    found = side_by_side(
        labels, {"one": one, "two": two}, blocks, thresholds={"one": 0.4, "two": 0.5},
        resamples=80, seed=5,
    )  # fmt: skip

    def slow(weight: np.ndarray) -> list[float]:
        rows = []
        for probability, threshold in ((one, 0.4), (two, 0.5)):
            called, use = probability >= threshold, {"sample_weight": weight}
            rows += [
                metrics.balanced_accuracy_score(labels, called, **use),
                metrics.matthews_corrcoef(labels, called, **use),
                metrics.roc_auc_score(labels, probability, **use),
            ]
        return rows

    drawn = block_bootstrap(slow, blocks, 80, 5)
    for number, name in ((1, "matthews"), (2, "auc")):
        for column, model in ((number, "one"), (number + 3, "two")):
            low, high = np.quantile(drawn[:, column], [0.025, 0.975])
            told = found.scores[model][name]
            assert (told.low, told.high) == pytest.approx((low, high))
        low, high = np.quantile(drawn[:, number] - drawn[:, number + 3], [0.025, 0.975])
        told = found.differences["one", "two"][name]
        assert (told.low, told.high) == pytest.approx((low, high))
        back = found.differences["two", "one"][name]
        assert (back.value, back.low, back.high) == pytest.approx(
            (-told.value, -told.high, -told.low)
        )
    assert tuple(found.scores["one"]) == NAMES
    assert (found.samples, found.left_out, found.blocks) == (300, 0, 25)


def test_samples_without_a_probability_are_left_out_for_all() -> None:
    labels, one, blocks = samples()
    two = one.copy()
    two[:40] = np.nan
    found = side_by_side(labels, {"one": one, "two": two}, blocks, resamples=100)
    assert (found.samples, found.left_out) == (260, 40)
    assert found.scores["one"] == found.scores["two"]
    assert found.differences["one", "two"]["auc"] == Interval(0.0, 0.0, 0.0)
    alone = side_by_side(labels[40:], {"one": one[40:]}, blocks[40:], resamples=100)
    assert alone.scores["one"] == found.scores["one"]


def test_block_intervals_cover_as_they_say() -> None:
    """Worlds whose blocks differ: 95 % intervals of the AUC hold the truth in about 95 %

    Intervals over single samples, of the same draws, miss it far more often.
    """
    rng = np.random.default_rng(0)
    held = {"blocks": 0, "samples": 0}
    worlds, size = 120, 40

    def world(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        blocks = np.repeat(np.arange(count), 25)
        ground = rng.normal(size=(count, 2))[blocks]
        chance = 1 / (1 + np.exp(-2 * ground[:, 0]))
        labels = (rng.random(blocks.size) < chance).astype(np.uint8)
        return labels, ground[:, 0] + ground[:, 1], blocks

    labels, scores, blocks = world(8000)
    truth = auc(labels, scores)
    for seed in range(worlds):
        labels, scores, blocks = world(size)
        for name, ground in (("blocks", blocks), ("samples", np.arange(blocks.size))):
            drawn = BlockDraws(ground, 200, seed).auc(labels, [scores])
            low, high = np.nanquantile(drawn[1:], [0.025, 0.975])
            held[name] += bool(low <= truth <= high)
    assert held["blocks"] / worlds > 0.89
    assert held["samples"] / worlds < 0.7


def test_the_gap_has_two_kinds_of_doubt() -> None:
    "Over blocks it hardly changes, over repetitions it falls with their number"
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400).astype(np.uint8)
    blocks = np.repeat(np.arange(40), 10)
    # What a repetition adds is small beside what the samples themselves are.
    hidden = 0.5 * rng.normal(size=40)[blocks] + rng.normal(size=400)

    def said(strength: float) -> np.ndarray:
        return strength * labels + hidden + 0.5 * rng.normal(size=400)

    random, spatial = [said(2.0) for _ in range(16)], [said(1.0) for _ in range(16)]
    few = gap(labels, random[:4], spatial[:4], blocks, 300, 0)
    many = gap(labels, random, spatial, blocks, 300, 0)
    assert many.random_each == pytest.approx([auc(labels, each) for each in random])
    assert many.random.value == pytest.approx(np.mean(many.random_each))
    assert many.difference.value == pytest.approx(many.random.value - many.spatial.value)
    assert many.spatial_error == pytest.approx(np.std(many.spatial_each, ddof=1) / 4)
    assert many.difference_error == pytest.approx(np.hypot(many.random_error, many.spatial_error))
    assert many.difference_error < 0.8 * few.difference_error
    width = [each.difference.high - each.difference.low for each in (few, many)]
    assert width[1] > 0.6 * width[0]
    assert many.difference.low > 0
    # Paired: the doubt that both share, such as easy and hard blocks, is not in the difference.
    apart = many.random.high - many.random.low + many.spatial.high - many.spatial.low
    assert width[1] < 0.8 * apart


def test_the_gap_of_one_repetition_has_no_error_over_repetitions() -> None:
    labels, probability, blocks = samples()
    found = gap(labels, [probability], [probability], blocks, 100, 0)
    assert found.difference == Interval(0.0, 0.0, 0.0)
    assert np.isnan(found.random_error) and np.isnan(found.difference_error)
    spoiled = probability.copy()
    spoiled[:10] = np.nan
    shorter = gap(labels, [probability], [spoiled], blocks, 100, 0)
    assert shorter.difference == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("paired", [1, 1000], ids=["sorted", "pairs of blocks"])
def test_pairs_within_folds_by_brute_force(paired: int, monkeypatch: pytest.MonkeyPatch) -> None:
    "All pairs of one fold, ties half; draws of folds that are blocks weight whole folds"
    monkeypatch.setattr(bootstrap, "_PAIRED", paired)
    labels, probability, blocks = samples()
    fold = np.arange(300) % 3
    up, down = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    better = (probability[up][:, None] > probability[down]) + 0.5 * (
        probability[up][:, None] == probability[down]
    )
    inside = fold[up][:, None] == fold[down]
    found = within_folds(labels, [probability], [fold], blocks, 100, 0)
    assert found.value == pytest.approx(better[inside].mean())
    assert found.low < found.value < found.high
    draws = BlockDraws(blocks, 30, 1)
    drawn = draws.auc(labels, [probability], [fold])

    def slow(weight: np.ndarray) -> list[float]:
        pairs = weight[up][:, None] * weight[down] * inside
        return [float((pairs * better).sum() / pairs.sum())]

    assert drawn[1:] == pytest.approx(block_bootstrap(slow, blocks, 30, 1)[:, 0])
    left = draws.auc(labels, [probability], [fold], outside=True)
    once = block_bootstrap(lambda weight: slow((weight == 0) * 1.0), blocks, 30, 1)
    assert left[1:] == pytest.approx(once[:, 0])


def test_pooling_over_folds_counts_shares_of_slumps() -> None:
    """Factors that tell nothing, folds with other shares of slumps: pooled below 0.5, within at 0.5

    Each model says the share that it was taught, which is low where its test is high.
    """
    rng = np.random.default_rng(4)
    fold = np.repeat(np.arange(5), 200)
    labels = (rng.random(1000) < np.array([0.2, 0.35, 0.5, 0.65, 0.8])[fold]).astype(np.uint8)
    said = np.array([labels[fold != each].mean() for each in range(5)])[fold]
    said += 1e-6 * rng.random(1000)
    blocks = np.arange(1000) // 20
    pooled = gap(labels, [said], [said], blocks, 100, 0).spatial
    within = within_folds(labels, [said], [fold], blocks, 100, 0)
    assert pooled.high < 0.35
    assert within.low < 0.5 < within.high


def test_the_best_of_many_models_is_judged_where_it_was_not_chosen() -> None:
    "Of 20 models that say nothing the best promises too much; after the choice it is 0.5"
    promised, expected = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels, blocks = rng.integers(0, 2, 400), np.repeat(np.arange(40), 10)
        models = {str(number): [rng.random(400)] for number in range(20)}
        promised.append(max(auc(labels, rows[0]) for rows in models.values()))
        found, chosen = after_choice(labels, models, blocks, 200, seed)
        expected.append(found.value)
        assert sum(chosen.values()) == pytest.approx(1)
        assert max(chosen.values()) < 0.9
    assert np.mean(promised) > 0.54
    assert np.mean(expected) == pytest.approx(0.5, abs=0.015)


def test_a_model_that_is_clearly_best_keeps_its_score() -> None:
    labels, good, blocks = samples(2000)
    poor = samples(2000, seed=5)[1]
    found, chosen = after_choice(labels, {"poor": [poor], "good": [good]}, blocks, 200, 0)
    assert chosen == {"poor": 0.0, "good": 1.0}
    assert found.value == pytest.approx(auc(labels, good), abs=0.01)
    with pytest.raises(DataError, match="No draw of 1 blocks leaves samples of both classes"):
        after_choice(labels, {"good": [good]}, np.zeros(2000, int), 10, 0)
    with pytest.raises(DataError, match="No model to choose from"):
        after_choice(labels, {}, blocks)


def test_six_models_of_5000_samples_take_less_than_a_second() -> None:
    rng = np.random.default_rng(2)
    labels, blocks = rng.integers(0, 2, 5000), rng.integers(0, 300, 5000)
    models = {str(number): labels * 0.1 + rng.random(5000) for number in range(6)}
    spent = []
    for _ in range(3):
        start = time.process_time()
        side_by_side(labels, models, blocks, resamples=1000)
        spent.append(time.process_time() - start)
    # CPU seconds of the best of three: about 0.2 on one core; a loop over the draws takes 30.
    assert min(spent) < 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calls([1, 0], [0.5]), "1 probabilities for 2 labels"),
        (lambda: side_by_side(np.ones(2), {}, np.ones(2)), "No model to score"),
        (
            lambda: side_by_side(
                np.ones(2), {"a": np.array([np.nan, 1]), "b": np.array([1, np.nan])}, np.arange(2)
            ),
            r"probability of all models \(a, b\)",
        ),
        (lambda: gap(np.ones(2), [], [np.ones(2)], np.ones(2)), "0 repetitions of random and 1"),
        (
            lambda: BlockDraws(np.arange(2), 5, 0).auc(np.ones(2), [np.array([np.nan, 1.0])]),
            "1 of 2 scores are no numbers",
        ),
    ],
    ids=["lengths", "nothing", "none", "repetitions", "nan"],
)
def test_what_cannot_be_scored_is_said(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()
