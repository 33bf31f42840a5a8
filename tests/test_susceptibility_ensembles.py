"""Networks, support vectors, bagging, stacking and blending: what they learn from, and what not."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from thawslump.errors import DataError
from trainer.susceptibility.ensembles import Blending, Stacking, SupportVectors, balanced_bagging
from trainer.susceptibility.networks import FactorCnn, Mlp


def points(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that no straight line tells apart."""
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(count, 5))
    y = (x[:, 0] * x[:, 1] + 0.3 * dice.normal(size=count) > 0).astype(int)
    return x, y


@pytest.mark.parametrize(
    "model",
    [
        Mlp((32, 16), epochs=40, rate=5e-3, device="cpu"),
        FactorCnn("zhang", epochs=150, rate=5e-3, device="cpu"),
        FactorCnn("he", epochs=40, device="cpu"),
    ],
    ids=["mlp", "zhang", "he"],
)
def test_networks_learn_what_is_not_linear_and_repeat_it(model: Any) -> None:
    x, y = points(400)
    new, truth = points(300, 1)
    linear = LogisticRegression().fit(x, y).predict_proba(new)[:, 1]
    first, again = clone(model).fit(x, y), clone(model).fit(x, y)
    probability = first.predict_proba(new)
    assert roc_auc_score(truth, linear) < 0.65
    assert roc_auc_score(truth, probability[:, 1]) > 0.85
    np.testing.assert_array_equal(probability, again.predict_proba(new))
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    np.testing.assert_array_equal(first.predict(new), probability[:, 1] >= 0.5)


def test_a_network_leaves_others_random_numbers_alone() -> None:
    import torch

    x, y = points(40)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Mlp((4,), epochs=1, device="cpu").fit(x, y)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("features", [1, 2, 3, 14])
def test_layouts_fit_any_number_of_factors(features: int) -> None:
    dice = np.random.default_rng(2)
    x, y = dice.normal(size=(20, features)), np.arange(20) % 2
    for layout in ("he", "zhang"):
        model = FactorCnn(layout, epochs=1, device="cpu").fit(x, y)  # type: ignore[arg-type]
        assert model.predict_proba(x).shape == (20, 2)
    with pytest.raises(ValueError, match="layout is 'other'; expected 'he' or 'zhang'"):
        FactorCnn("other", epochs=1, device="cpu").fit(x, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="was given 1 class; expected two"):
        Mlp((2,), epochs=1, device="cpu").fit(x, np.zeros(20))


def test_support_vectors_are_those_of_the_library_held_to_one() -> None:
    x, y = points()
    found = SupportVectors().fit(x, y).predict_proba(x)[:, 1]
    expected = np.clip(SVR(C=1, epsilon=0.1, gamma="scale").fit(x, y).predict(x), 0, 1)
    np.testing.assert_allclose(found, expected)


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers what it was given; says the mean label."""

    seen: ClassVar[list[np.ndarray]] = []
    labels: ClassVar[list[np.ndarray]] = []

    def fit(self, X: Any, y: Any) -> Self:
        Spy.seen.append(np.asarray(X)[:, 0].copy())
        Spy.labels.append(np.asarray(y).copy())
        self.classes_, self.mean_ = np.unique(y), float(np.mean(y))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        return np.tile([1 - self.mean_, self.mean_], (len(X), 1))

    def predict(self, X: Any) -> np.ndarray:
        return np.full(len(X), self.classes_[0])


@pytest.fixture(autouse=True)
def fresh_spy() -> None:
    Spy.seen.clear()
    Spy.labels.clear()


def test_bagging_learns_from_as_many_of_each_class() -> None:
    x, y = np.arange(200.0)[:, None], (np.arange(200) < 20).astype(int)
    model = balanced_bagging(Spy(), members=5, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.fit(x, y)
    assert len(Spy.labels) == 5
    for labels in Spy.labels:
        assert labels.mean() == 0.5 and labels.size >= 20


def test_stacking_never_shows_a_block_to_the_model_that_judges_it() -> None:
    blocks = np.repeat(np.arange(8), 10)
    x = np.column_stack([blocks + np.linspace(0, 0.5, 80), np.ones(80)])
    y = np.tile([0, 1], 40)
    Stacking({"spy": Spy()}, LogisticRegression(), folds=4).fit(x, y, blocks)
    *inner, last = Spy.seen
    assert last.size == 80  # the base that stays learns from all
    assert len(inner) == 4
    for seen in inner:
        held = set(blocks) - set(np.floor(seen).astype(int))
        assert len(held) == 2 and seen.size == 60  # whole blocks are left out


def test_blending_keeps_its_held_out_part_from_the_bases() -> None:
    blocks = np.repeat(np.arange(8), 10)
    x = np.column_stack([blocks + np.linspace(0, 0.5, 80), np.ones(80)])
    y = np.tile([0, 1], 40)
    model = Blending({"spy": Spy()}, LogisticRegression(), share=0.25).fit(x, y, blocks)
    (seen,) = Spy.seen
    assert seen.size == 60 and len(set(np.floor(seen).astype(int))) == 6
    assert model.base_probabilities(x).shape == (80, 1)


def test_stacking_is_that_of_its_definition() -> None:
    x, y = points(200)
    blocks = np.random.default_rng(3).integers(0, 10, 200)
    bases = {
        "line": make_pipeline(StandardScaler(), LogisticRegression()),
        "vectors": make_pipeline(StandardScaler(), SupportVectors()),
    }
    model = Stacking(bases, LogisticRegression(), folds=5).fit(x, y, blocks)
    from trainer.susceptibility.validation import spatial_folds

    below = np.zeros((200, 2))
    for train, test in spatial_folds(blocks, y.astype(np.uint8), 5):
        for k, base in enumerate(bases.values()):
            below[test, k] = clone(base).fit(x[train], y[train]).predict_proba(x[test])[:, 1]
    final = LogisticRegression().fit(below, y)
    above = np.column_stack([b.fit(x, y).predict_proba(x)[:, 1] for b in bases.values()])
    np.testing.assert_allclose(model.predict_proba(x), final.predict_proba(above))


def test_what_cannot_be_stacked_is_refused() -> None:
    x, y = points(40)
    base = {"line": LogisticRegression()}
    with pytest.raises(DataError, match="3 block numbers for 40 samples"):
        Stacking(base, LogisticRegression()).fit(x, y, [1, 2, 3])
    with pytest.raises(ValueError, match="Stacking has no base models"):
        Stacking({}, LogisticRegression()).fit(x, y)
    with pytest.raises(ValueError, match="share is 1; expected a number between 0 and 1"):
        Blending(base, LogisticRegression(), share=1).fit(x, y)
    one_sided = np.array([0] * 20 + [1] * 20)
    with pytest.raises(DataError, match="inner fold holds only one class"):
        Stacking(base, LogisticRegression(), folds=2).fit(
            x, one_sided, np.repeat([0, 1, 2], [20, 10, 10])
        )
