"""Importance by permutation, on held-out ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.inspection import permutation_importance as of_scikit_learn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from thawslump.errors import DataError
from trainer.susceptibility import registry
from trainer.susceptibility.folds import fold_numbers, spatial_folds
from trainer.susceptibility.importance import (
    WAYS,
    assembled,
    cost,
    permutation_importance,
    permuted,
    sources,
)
from trainer.susceptibility.validation import fit_fold

COLUMNS = {"decides": [0], "helps": [1], "noise": [2]}


def world(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Return three factors, labels, blocks and folds: one factor decides, one helps, one is noise.

    All vary with their ground, the noise as well.
    """
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(60), 15)
    features = (rng.normal(size=(60, 3))[blocks] + rng.normal(size=(900, 3))).astype(np.float32)
    value = features[:, 0] + 0.4 * features[:, 1] + rng.normal(size=900)
    labels = (value > 0).astype(np.uint8)
    return features, labels, blocks, spatial_folds(blocks, labels, 5)


@settings(max_examples=50, deadline=None)
@given(
    blocks=arrays(np.int64, 30, elements=st.integers(0, 6)),
    permutations=st.integers(0, 4),
    seed=st.integers(0, 9),
    way=st.sampled_from(WAYS),
)
def test_where_values_come_from(blocks: np.ndarray, permutations: int, seed: int, way: str) -> None:
    "Samples: a permutation. Blocks: all of a block from one other block, which serves no other one"
    blocks[:2] = [0, 1]
    found = sources(blocks, permutations, seed, way)
    assert found.shape == (permutations, 30)
    assert np.array_equal(found, sources(blocks, permutations, seed, way))
    for row in found:
        if way == "samples":
            assert sorted(row) == list(range(30))
            continue
        gives = {}
        for block in np.unique(blocks):
            of = np.unique(blocks[row[blocks == block]])
            assert of.size == 1 and of[0] != block
            gives[int(block)] = int(of[0])
            # Every value of the giver is used before one is used again.
            used = np.unique(row[blocks == block]).size
            assert used == min((blocks == block).sum(), (blocks == of[0]).sum())
        assert len(set(gives.values())) == len(gives)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", ["logistic", "forest"])
def test_the_factor_that_decides_is_first(model: str, way: str) -> None:
    "And the noise owes nothing, though it varies with its ground as the others do"
    features, labels, blocks, folds = world()
    found = permutation_importance(
        registry.build(model, trees=25), features, labels, COLUMNS, folds, blocks, way=way,
        resamples=300,
    )  # fmt: skip
    assert list(found) == ["decides", "helps", "noise"]
    assert found["decides"].fall.low > found["helps"].fall.high > 0
    assert found["noise"].fall.low <= 0
    assert found["noise"].fall.value == pytest.approx(0, abs=0.01)
    assert (found["decides"].folds > 0.1).all()
    for each in found.values():
        assert each.fall.value == pytest.approx(each.each.mean())
        assert each.spread == pytest.approx(each.each.std(ddof=1))
        assert each.folds.shape == (5,)


@pytest.mark.parametrize("way", WAYS)
def test_intervals_of_noise_hold_nothing(way: str) -> None:
    "Of 20 worlds the 95 % interval lies above 0 in a few, and holds 0 in most"
    above, holding = 0, 0
    for seed in range(20):
        features, labels, blocks, folds = world(seed)
        found = permutation_importance(
            LogisticRegression(), features, labels, {"noise": [2]}, folds, blocks, way=way,
            resamples=200,
        )["noise"].fall  # fmt: skip
        above += found.low > 0
        holding += found.low <= 0 <= found.high
    assert above <= 3
    assert holding >= 14


def test_shuffles_are_drawn_as_well_as_blocks() -> None:
    "Probabilities that are the same in every block leave the doubt of the shuffles alone"
    labels, blocks = np.tile([0, 1, 0, 1], 50), np.repeat(np.arange(50), 4)
    probability = np.tile([0.1, 0.6, 0.4, 0.9], 50)
    shuffled = np.array(
        [np.tile(each, 50) for each in ([0.1, 0.6, 0.4, 0.9], [0.9, 0.4, 0.6, 0.1])]
    )
    found = assembled(labels, probability, {"a": shuffled}, np.zeros(200, int), blocks)["a"]
    assert found.each == pytest.approx([0.0, 1.0])
    assert (found.fall.low, found.fall.value, found.fall.high) == pytest.approx((0.0, 0.5, 1.0))


def test_as_scikit_learn_has_it_for_one_fold() -> None:
    "The mean over many shuffles of one test part"
    features, labels, _, folds = world()
    train, test = folds[0]
    fitted = LogisticRegression().fit(features[train], labels[train])
    theirs = of_scikit_learn(
        fitted, features[test], labels[test], scoring="roc_auc", n_repeats=100, random_state=0
    ).importances_mean
    inside = np.arange(test.size)
    ours = permutation_importance(
        fitted, features[test], labels[test], COLUMNS, [(inside, inside)], inside,
        permutations=100, fitted=[fitted], resamples=100,
    )  # fmt: skip
    for number, name in enumerate(COLUMNS):
        assert ours[name].fall.value == pytest.approx(theirs[number], abs=0.01)
        assert ours[name].folds[0] == pytest.approx(ours[name].fall.value)


def test_a_copy_shares_the_importance() -> None:
    "Beside a copy of itself the best factor loses more than half; together they have it all"
    features, labels, blocks, folds = world()
    twice = np.column_stack([features, features[:, 0]])
    model = registry.build("logistic")

    def fall(values: np.ndarray, columns: dict[str, list[int]]) -> dict[str, float]:
        found = permutation_importance(model, values, labels, columns, folds, blocks, resamples=100)
        return {name: each.fall.value for name, each in found.items()}

    alone = fall(features, COLUMNS)["decides"]
    shared = fall(twice, {**COLUMNS, "copy": [3]})
    assert shared["copy"] == pytest.approx(shared["decides"], abs=0.03)
    assert 0.02 < shared["decides"] < 0.5 * alone
    assert fall(twice, {"decides": [0, 3], "helps": [1]})["decides"] == pytest.approx(
        alone, abs=0.03
    )


def test_columns_of_a_factor_move_together() -> None:
    "Sine and cosine of an aspect stay on the circle; classes stay one of several"
    rng = np.random.default_rng(2)
    turn = rng.uniform(0, 2 * np.pi, 40)
    kinds = np.eye(3)[rng.integers(0, 3, 40)]
    features = np.column_stack([np.sin(turn), np.cos(turn), kinds]).astype(np.float32)
    seen: list[np.ndarray] = []

    class Watching:
        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            seen.append(X.copy())
            return np.full((len(X), 2), 0.5)

    test = np.arange(10, 30)
    columns = {"aspect": [0, 1], "lithology": [2, 3, 4]}
    found = permuted(Watching(), features, test, columns, sources(np.arange(40), 3, 0))
    assert {name: rows.shape for name, rows in found.items()} == {
        "aspect": (3, 20), "lithology": (3, 20),
    }  # fmt: skip
    assert len(seen) == cost(1, 2, 3, 20, refit=False)["predictions"] / 20
    for number, moved in enumerate(seen):
        name = "aspect" if number < 3 else "lithology"
        others = [c for c in range(5) if c not in columns[name]]
        assert np.array_equal(moved[:, others], features[test][:, others])
        assert (moved[:, columns[name]] != features[test][:, columns[name]]).any()
        assert np.hypot(moved[:, 0], moved[:, 1]) == pytest.approx(1, abs=1e-6)
        assert (moved[:, 2:].sum(axis=1) == 1).all()


def test_fold_by_fold_is_the_same_as_at_once() -> None:
    "What a step does that fits the folds anyway, and with models that are fitted already"
    features, labels, blocks, folds = world()
    model = registry.build("forest", trees=10)
    at_once = permutation_importance(
        model, features, labels, COLUMNS, folds, blocks, permutations=2, resamples=100, seed=4
    )
    source = sources(blocks, 2, 4)
    probability = np.full(900, np.nan)
    shuffled = {name: np.full((2, 900), np.nan) for name in COLUMNS}
    models = []
    for train, test in folds:
        probability[test], fitted = fit_fold(model, features, labels, train, test, blocks)
        models.append(fitted)
        for name, rows in permuted(fitted, features, test, COLUMNS, source).items():
            shuffled[name][:, test] = rows
    one_by_one = assembled(labels, probability, shuffled, fold_numbers(folds, 900), blocks, 100, 4)
    again = permutation_importance(
        model, features, labels, COLUMNS, folds, blocks, permutations=2, resamples=100, seed=4,
        fitted=models,
    )  # fmt: skip
    for name, wanted in at_once.items():
        for found in (one_by_one[name], again[name]):
            assert found.fall == wanted.fall
            assert np.array_equal(found.folds, wanted.folds)
    area = roc_auc_score(labels, shuffled["helps"][1])
    assert one_by_one["helps"].each[1] == pytest.approx(roc_auc_score(labels, probability) - area)


def test_models_are_fitted_once_per_fold() -> None:
    features, labels, blocks, folds = world()
    fits: list[int] = []
    told: list[float] = []

    class Counting(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            fits.append(len(y))
            return super().fit(X, y)

    permutation_importance(
        Counting(), features, labels, COLUMNS, folds, blocks, resamples=100,
        progress=lambda share, _: told.append(share),
    )  # fmt: skip
    assert len(fits) == cost(5, 3, 5, 900, refit=True)["fits"] == 5
    assert told == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_missing_values_move_as_they_are() -> None:
    features, labels, blocks, folds = world()
    features[::7, 0] = np.nan
    found = permutation_importance(
        registry.build("logistic"), features, labels, COLUMNS, folds, blocks, resamples=100
    )
    assert found["decides"].fall.low > 0


def test_samples_that_were_not_tested_do_not_count() -> None:
    rng = np.random.default_rng(3)
    labels, fold = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    probability = rng.random(40)
    rows = rng.random((1, 40))
    blocks = np.arange(40) // 4
    wanted = assembled(labels[:20], probability[:20], {"a": rows[:, :20]}, fold[:20], blocks[:20])
    fold[20:] = -1
    rows[:, 20:] = np.nan
    found = assembled(labels, probability, {"a": rows}, fold, blocks)
    assert found["a"].fall == wanted["a"].fall
    assert np.isnan(found["a"].spread)
    assert assembled(labels, probability, {"a": rows[:0]}, fold, blocks) == {}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sources(np.arange(4), 2, 0, "rows"), 'shuffled by "rows" were asked for'),
        (lambda: sources(np.zeros(4, int), 2, 0, "blocks"), "All samples lie in one block"),
        (
            lambda: permutation_importance(
                LogisticRegression(), np.zeros((4, 2)), np.ones(4), {"a": [2]}, [], np.arange(4)
            ),
            r"Columns \[2\] were named of 2 features",
        ),
        (
            lambda: permutation_importance(
                LogisticRegression(), np.zeros((4, 2)), np.ones(4), {"a": [1]}, [], np.arange(4),
                fitted=[1],
            ),
            "1 fitted models were given for 0 folds",
        ),
    ],
    ids=["way", "block", "columns", "fitted"],
)  # fmt: skip
def test_what_has_no_importance_is_said(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()
