"""Whether probabilities mean what they say, and sets hold what they promise."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

from thawslump.errors import DataError
from trainer.susceptibility.calibration import (
    Curve,
    cross_curve,
    held_out,
    reliability,
)
from trainer.susceptibility.conformal import Conformal, cross_coverage
from trainer.susceptibility.folds import fold_numbers, random_folds, spatial_folds
from trainer.susceptibility.registry import build
from trainer.susceptibility.validation import block_bootstrap, out_of_fold


def truthful(count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities that mean what they say, what came, and blocks of ten."""
    rng = np.random.default_rng(seed)
    probability = rng.random(count)
    return probability, (rng.random(count) < probability).astype(int), np.arange(count) // 10


def ground(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return factors, labels and blocks of a made-up valley whose blocks have ways of their own.

    Samples of a block share the values of three factors that decide nothing there or anywhere: a
    forest learns blocks by heart from them.
    """
    blocks = np.repeat(np.arange(count), 12)
    shared = rng.normal(size=(count, 3))[blocks]
    slope = rng.normal(size=blocks.size)
    chance = expit(1.2 * slope + 3 * rng.normal(size=count)[blocks])
    features = np.column_stack([slope, shared + 0.02 * rng.normal(size=shared.shape)])
    return features.astype(np.float32), (rng.random(blocks.size) < chance).astype(np.uint8), blocks


@settings(max_examples=60, deadline=None)
@given(
    probability=arrays(np.float64, 40, elements=st.floats(0, 1)),
    labels=arrays(np.int64, 40, elements=st.integers(0, 1)),
    bins=st.integers(1, 12),
)
def test_reliability_by_hand(probability: np.ndarray, labels: np.ndarray, bins: int) -> None:
    "Bin by bin, and the Brier score of scikit-learn"
    found = reliability(probability, labels, bins)
    of = np.minimum(np.floor(probability * bins + 1e-9), bins - 1)
    error = 0.0
    for number in range(bins):
        here = of == number
        assert found.count[number] == here.sum()
        if here.any():
            assert found.said[number] == pytest.approx(probability[here].mean())
            assert found.came[number] == pytest.approx(labels[here].mean())
            error += abs(probability[here].mean() - labels[here].mean()) * here.mean()
        else:
            assert np.isnan(found.said[number]) and np.isnan(found.came[number])
    assert found.error == pytest.approx(error)
    assert found.brier == pytest.approx(brier_score_loss(labels, probability, pos_label=1))
    assert np.isnan(found.came_interval).all() and found.brier_interval is None
    if 0 < labels.sum() < 40:
        share = np.full(40, labels.mean())
        wanted = 1 - found.brier / brier_score_loss(labels, share)
        assert found.skill == pytest.approx(wanted)
    else:
        assert np.isnan(found.skill)


def test_reliability_rows_are_those_of_scikit_learn() -> None:
    probability, labels, _ = truthful()
    came, said = calibration_curve(labels, probability, n_bins=10)
    found = reliability(probability, labels)
    assert (found.came, found.said) == (pytest.approx(came), pytest.approx(said))


def test_a_tenth_belongs_to_its_own_bin() -> None:
    "0.3 times 10 is a last digit below 3 on the way through binary numbers, or not"
    limits = np.arange(10) / 10
    assert reliability(limits, np.zeros(10)).count.tolist() == [1] * 10
    assert reliability([0.3, 0.7, 0.6, 1.0], np.zeros(4)).count[[3, 6, 7, 9]].tolist() == [1] * 4


def test_true_probabilities_are_reliable_and_useful() -> None:
    probability, labels, blocks = truthful()
    found = reliability(probability, labels, blocks=blocks, resamples=300)
    assert found.error < 0.04
    # Probabilities spread evenly over 0 to 1: 1/6 against 1/4.
    assert found.skill == pytest.approx(1 / 3, abs=0.04)
    assert found.brier == pytest.approx(1 / 6, abs=0.01)
    inside = (found.came_interval[:, 0] <= found.said) & (found.said <= found.came_interval[:, 1])
    assert inside.sum() >= 8
    sure = reliability(expit(3 * logit(probability)), labels, blocks=blocks, resamples=300)
    assert sure.error > 0.08 and sure.skill < found.skill
    assert found.error_interval is not None and sure.error_interval is not None
    assert sure.error_interval.low > found.error_interval.high
    assert reliability(np.full(4000, 0.9), labels).skill < 0


def test_intervals_are_over_blocks() -> None:
    "Against one draw at a time; wider than those over samples where blocks have ways of their own"
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(40), 25)
    probability = rng.random(1000)
    labels = (rng.random(1000) < expit(logit(probability) + 2 * rng.normal(size=40)[blocks])) * 1
    found = reliability(probability, labels, 5, blocks=blocks, resamples=150, seed=3)

    def slow(weight: np.ndarray) -> list[float]:
        brier = np.average((probability - labels) ** 2, weights=weight)
        share = np.average(labels, weights=weight)
        top = probability >= 0.8
        return [
            brier,
            1 - brier / (share * (1 - share)),
            np.average(labels[top], weights=weight[top]),
        ]

    drawn = np.quantile(block_bootstrap(slow, blocks, 150, 3), [0.025, 0.975], axis=0)
    assert found.brier_interval is not None and found.skill_interval is not None
    assert (found.brier_interval.low, found.brier_interval.high) == pytest.approx(drawn[:, 0])
    assert (found.skill_interval.low, found.skill_interval.high) == pytest.approx(drawn[:, 1])
    assert found.came_interval[4] == pytest.approx(drawn[:, 2])
    alone = reliability(probability, labels, 5, blocks=np.arange(1000), resamples=150, seed=3)
    width = np.ptp(found.came_interval, axis=1)
    assert (width / np.ptp(alone.came_interval, axis=1)).mean() > 1.3


def test_curves_are_judged_on_other_folds() -> None:
    "Each fold is mended by a curve that its own truth did not teach"
    probability, labels, blocks = truthful(1200)
    sure = expit(2.5 * logit(np.clip(probability, 1e-3, 1 - 1e-3)) + 0.7)
    fold = blocks % 4
    mended = cross_curve(sure, labels, fold)
    turned = np.where(fold == 2, 1 - labels, labels)
    again = cross_curve(sure, turned, fold)
    assert np.array_equal(mended[fold == 2], again[fold == 2])
    assert not np.array_equal(mended[fold != 2], again[fold != 2])
    assert reliability(mended, labels).error < 0.5 * reliability(sure, labels).error
    assert mended == pytest.approx(probability, abs=0.06)
    here = fold == 1
    assert roc_auc_score(labels[here], mended[here]) == roc_auc_score(labels[here], sure[here])
    with pytest.raises(DataError, match="All samples lie in one fold"):
        cross_curve(sure, labels, np.zeros(1200))


@settings(max_examples=60, deadline=None)
@given(
    slumps=st.lists(st.floats(0, 1), min_size=9, max_size=30),
    others=st.lists(st.floats(0, 1), min_size=9, max_size=30),
    level=st.sampled_from([0.5, 0.8, 0.9]),
)
def test_sets_hold_the_samples_that_made_them(
    slumps: list[float], others: list[float], level: float
) -> None:
    "Within each class at least ceil((n + 1) level) calibration samples: the definition"
    made = Conformal.fit(slumps + others, [1] * len(slumps) + [0] * len(others), level)
    for values, column in ((slumps, 1), (others, 0)):
        held = made.sets(values)[:, column].sum()
        assert held >= np.ceil((len(values) + 1) * level)
        # And no more than ties bring: the next smaller value is out.
        kept = np.sort(1 - np.array(values) if column == 0 else np.array(values))
        least = made.slump if column else made.other
        assert held == (kept >= least).sum()
        assert (kept > least).sum() < np.ceil((len(values) + 1) * level)


def test_sets_of_exchangeable_samples_hold_what_they_promise() -> None:
    "Coverage of each class over 300 worlds, with a class that is ten times rarer"
    rng = np.random.default_rng(2)
    held = {0: [], 1: []}  # type: ignore[var-annotated]
    for _ in range(300):
        labels = (rng.random(600) < 0.1).astype(int)
        probability = expit(rng.normal(size=600) + 1.5 * labels - 2)
        made = Conformal.fit(probability[:400], labels[:400], 0.8)
        sets = made.sets(probability[400:])
        for kind, each in held.items():
            each += sets[labels[400:] == kind, kind].tolist()
    assert np.mean(held[0]) == pytest.approx(0.8, abs=0.01)
    # ceil((n + 1) 0.8) / (n + 1) of about 40 slumps: up to 1/41 more than promised.
    assert 0.79 < np.mean(held[1]) < 0.8 + 1 / 35


def test_spatial_folds_hold_on_new_ground_and_random_folds_do_not() -> None:
    """Sets of 0.9 calibrated on each kind of folds, and the share that they hold on new blocks

    The model learns blocks by heart; random folds let it, so their probabilities look surer than
    new ground lets them be. Over many worlds: 0.78 and 0.90.
    """
    kept: dict[str, list[float]] = {"random": [], "spatial": [], "told": []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        features, labels, blocks = ground(80, rng)
        new, truth, _ = ground(150, rng)
        model = build("forest", trees=25, depth=12)
        parts = {
            "random": random_folds(labels.size, 5, 0),
            "spatial": spatial_folds(blocks, labels, 5),
        }
        fresh = model.fit(features, labels).predict_proba(new)[:, 1]
        for kind, folds in parts.items():
            said = out_of_fold(model, features, labels, folds)
            sets = Conformal.fit(said, labels, 0.9).sets(fresh)
            kept[kind].append(sets[np.arange(truth.size), truth].mean())
            if kind == "spatial":
                found = cross_coverage(
                    said, labels, fold_numbers(folds, labels.size), blocks, resamples=200
                )
                kept["told"].append(0.5 * (found["slump"] + found["other"]))
    spatial, random, told = (np.mean(kept[kind]) for kind in ("spatial", "random", "told"))
    assert spatial == pytest.approx(0.9, abs=0.03)
    assert random < 0.84
    # What is told of the folds is what new ground gives.
    assert told == pytest.approx(spatial, abs=0.03)


def test_coverage_is_of_thresholds_that_other_folds_taught() -> None:
    "By hand, fold by fold; intervals over blocks"
    probability, labels, blocks = truthful(1000)
    fold = blocks % 5
    found = cross_coverage(probability, labels, fold, blocks, level=0.8, resamples=200)
    held = np.zeros(1000, bool)
    decided = np.zeros(1000, int)
    for each in range(5):
        here = fold == each
        made = Conformal.fit(probability[~here], labels[~here], 0.8)
        slump, other = probability[here] >= made.slump, 1 - probability[here] >= made.other
        held[here] = np.where(labels[here] == 1, slump, other)
        decided[here] = slump.astype(int) + other
    assert found["slump"] == pytest.approx(held[labels == 1].mean())
    assert found["other"] == pytest.approx(held[labels == 0].mean())
    assert found["both"] == pytest.approx((decided == 2).mean())
    assert found["neither"] == pytest.approx((decided == 0).mean())
    for name in ("slump", "other"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high and low < 0.8 < high


def test_no_probability_belongs_to_no_set() -> None:
    made = Conformal(0.9, 0.0, 0.0)
    assert made.sets([np.nan, 0.5]).tolist() == [[False, False], [True, True]]


def test_held_out_tells_all_in_json() -> None:
    probability, labels, blocks = truthful(1000)
    probability[7] = np.nan
    fold = blocks % 5
    fold[30:40] = -1
    found = json.loads(
        json.dumps(held_out(labels, probability, fold, blocks, resamples=100), allow_nan=False)
    )
    usable = np.isfinite(probability) & (fold >= 0)
    assert sum(row["count"] for row in found["reliability"]) == usable.sum() == 989
    assert found["brier"] == pytest.approx(brier_score_loss(labels[usable], probability[usable]))
    share = labels[usable].mean()
    assert found["brier_skill"] == pytest.approx(1 - found["brier"] / (share * (1 - share)))
    curve = Curve.fit(probability[usable], labels[usable])
    assert (found["curve"]["slope"], found["curve"]["offset"]) == (curve.slope, curve.offset)
    assert curve.slope == pytest.approx(1, abs=0.15) and curve.offset == pytest.approx(0, abs=0.15)
    # There is nothing to mend.
    assert found["curve"]["brier_after"] == pytest.approx(found["brier"], abs=2e-3)
    made = Conformal.fit(probability[usable], labels[usable], 0.9)
    assert (found["conformal"]["slump"], found["conformal"]["other"]) == (made.slump, made.other)
    assert found["conformal"]["coverage"]["slump"] == pytest.approx(0.9, abs=0.03)
    for name in ("brier", "brier_skill", "ece"):
        low, high = found[f"{name}_interval"]
        assert low < high and (name == "ece" or low < found[name] < high)


def test_held_out_says_why_something_is_missing() -> None:
    "Probabilities that fall where the truth rises; a class of five samples"
    rng = np.random.default_rng(3)
    labels = np.r_[np.ones(5), np.zeros(45)].astype(int)
    probability = np.clip(0.6 - 0.3 * labels + 0.1 * rng.random(50), 0, 1)
    found = held_out(labels, probability, np.arange(50) % 2, np.arange(50) // 5, resamples=100)
    assert "fall where the truth rises" in found["curve"]["why_not"]
    assert found["conformal"]["why_not"] == ("5 calibration samples of class 1 cannot promise 0.9.")
    assert found["brier_skill"] < 0
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: reliability([0.5], [1, 0]), "1 probabilities for 2 labels"),
        (lambda: reliability([1.5, 0.2], [1, 0]), "outside 0 to 1"),
        (lambda: reliability([np.nan, 0.2], [1, 0]), "outside 0 to 1"),
        (lambda: reliability([0.5, 0.2], [2, 0]), "Labels other than 0 and 1"),
        (lambda: reliability([0.5, 0.2], [1, 0], bins=0), "0 bins were asked for"),
        (lambda: Curve.fit([0.5, 0.2], [1, 1]), "All 2 samples are of class 1"),
        (lambda: Conformal.fit([0.5, 0.2], [1, 0], 1.0), "The level is 1"),
        (lambda: Conformal.fit([0.5, 0.2], [1, 0], 0.9), "1 calibration samples of class 1"),
        (
            lambda: cross_coverage(np.ones(2), np.ones(2), np.zeros(2), np.zeros(2)),
            "All samples lie in one fold",
        ),
    ],
    ids=["lengths", "range", "nan", "labels", "bins", "class", "level", "few", "fold"],
)
def test_what_has_no_calibration_is_said(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()
