"""Area of applicability against its definition; conformal sets keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thawslump.errors import DataError
from trainer.susceptibility.applicability import Applicability, usual_dissimilarity
from trainer.susceptibility.conformal import Conformal


def slow(x: np.ndarray, folds: np.ndarray, weights: np.ndarray, new: np.ndarray):  # type: ignore[no-untyped-def]
    """The paper's definition, pair by pair."""
    mean, scale = x.mean(0), x.std(0, ddof=1)
    a, b = (x - mean) / scale * weights, (new - mean) / scale * weights
    pairs = [np.linalg.norm(p - q) for i, p in enumerate(a) for q in a[:i]]
    unit = np.mean(pairs)
    training = np.array(
        [min(np.linalg.norm(a[i] - a[j]) for j in range(len(a)) if folds[j] != folds[i]) / unit
         for i in range(len(a))]
    )  # fmt: skip
    found = np.array([min(np.linalg.norm(q - p) for p in a) / unit for q in b])
    q1, q3 = np.quantile(training, [0.25, 0.75])
    return found, training, min(q3 + 1.5 * (q3 - q1), training.max())


def test_threshold_is_that_which_cast_publishes() -> None:
    "The thirty dissimilarities and the threshold of CAST's own tests (cookfarm, trained model)."
    training = [
        0.09043580, 0.14046341, 0.16584582, 0.57617177, 0.26840303, 0.14353894, 0.19768329,
        0.24022059, 0.06832037, 0.29150668, 0.18471625, 0.57617177, 0.12344463, 0.09043580,
        0.14353894, 0.26896008, 0.22713731, 0.24022059, 0.20388725, 0.06832037, 0.23604264,
        0.20388725, 0.91513568, 0.09558666, 0.14046341, 0.16214832, 0.37107762, 0.16214832,
        0.18471625, 0.12344463,
    ]  # fmt: skip
    assert usual_dissimilarity(training) == pytest.approx(0.38986, abs=5e-6)
    # Where no sample is an outlier the largest is the limit.
    assert usual_dissimilarity([0.1, 0.2, 0.3]) == 0.3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_index_is_that_of_the_definition(seed: int, own_folds: bool) -> None:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(25, 3)) * [1, 100, 0.01]
    folds = np.arange(25) if own_folds else dice.integers(0, 4, 25)
    weights = dice.random(3) + 0.1
    new = dice.normal(size=(8, 3)) * [2, 200, 0.02]
    known = Applicability.fit(x, None if own_folds else folds, weights)
    found, training, threshold = slow(x, folds, weights, new)
    np.testing.assert_allclose(known.dissimilarity(new), found, rtol=1e-9)
    np.testing.assert_allclose(known.training, training, rtol=1e-9)
    assert known.threshold == pytest.approx(threshold)
    np.testing.assert_array_equal(known.applicable(new), found <= threshold)


def test_new_ground_is_outside_and_missing_factors_are_too() -> None:
    dice = np.random.default_rng(1)
    x = dice.normal(size=(400, 2))
    known = Applicability.fit(x, dice.integers(0, 5, 400))
    assert known.applicable(dice.normal(size=(500, 2))).mean() > 0.9
    assert not known.applicable(dice.normal(9, 1, (50, 2))).any()
    missing = known.dissimilarity([[np.nan, 0.0], [0.0, 0.0]])
    assert np.isnan(missing[0]) and np.isfinite(missing[1])
    assert known.applicable([[np.nan, 0.0]]).tolist() == [False]


def test_a_factor_without_weight_does_not_matter() -> None:
    dice = np.random.default_rng(2)
    x = dice.normal(size=(60, 2))
    known = Applicability.fit(x, weights=[1, 0])
    assert known.dissimilarity([[0.1, 0.0]]) == pytest.approx(known.dissimilarity([[0.1, 99.0]]))


def test_folds_far_apart_raise_the_threshold() -> None:
    "Samples judged by others far away say that the model was tried far away."
    dice = np.random.default_rng(3)
    x = np.concatenate([dice.normal(m, 0.1, (50, 1)) for m in range(5)])
    clusters = np.repeat(np.arange(5), 50)
    apart = Applicability.fit(x, clusters)
    mixed = Applicability.fit(x, dice.integers(0, 5, 250))
    assert apart.threshold > 5 * mixed.threshold


def test_many_samples_use_some_of_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.susceptibility import applicability

    x = np.random.default_rng(4).normal(size=(300, 3))
    exact = Applicability.fit(x).reference
    monkeypatch.setattr(applicability, "_PAIRS", 20_000)
    assert Applicability.fit(x).reference == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, 2.0, 3.0],), r"shape \(3,\)"),
        (([[1.0], [np.nan], [3.0]],), "1 training samples have factors that are not finite"),
        (([[1.0], [2.0], [3.0]], [0, 0, 0]), "3 fold numbers with 1 folds"),
        (([[1.0], [2.0], [3.0]], None, [1, 2]), "2 weights were given for 1 factors"),
        (([[1.0], [1.0], [1.0]],), "All training samples are alike"),
    ],
)
def test_what_has_no_area_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Applicability.fit(*arguments)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_sets_hold_the_truth_as_often_as_promised_in_each_class(level: float) -> None:
    "Over many draws of calibration and test samples, also where the model is badly calibrated."
    dice = np.random.default_rng(5)
    held = {0: [], 1: []}  # type: ignore[var-annotated]
    for _ in range(200):
        y = (dice.random(400) < 0.2).astype(int)
        p = np.clip(dice.normal(0.35 + 0.2 * y, 0.15), 0, 1)
        made = Conformal.fit(p[:200], y[:200], level)
        sets = made.sets(p[200:])
        for kind in (0, 1):
            of_kind = y[200:] == kind
            held[kind].append(sets[of_kind, kind].mean())
    for kind in (0, 1):
        assert level - 0.01 <= np.mean(held[kind]) <= level + 0.035


def test_too_few_samples_promise_nothing() -> None:
    with pytest.raises(DataError, match=r"4 calibration samples of class 1 cannot promise 0\.9"):
        Conformal.fit([0.5] * 30, [1] * 4 + [0] * 26, 0.9)
    with pytest.raises(DataError, match="outside 0 to 1"):
        Conformal.fit([1.5, 0.2], [1, 0])
    with pytest.raises(DataError, match="2 probabilities for 1 labels"):
        Conformal.fit([0.5, 0.2], [1])
