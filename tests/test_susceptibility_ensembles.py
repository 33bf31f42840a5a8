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
from sklearn.svm import SVC, SVR

from thawslump.errors import DataError
from trainer.susceptibility.calibration import Curve, reliability
from trainer.susceptibility.conformal import Conformal
from trainer.susceptibility.ensembles import (
    Blending,
    Pooling,
    Stacking,
    SupportVectors,
    balanced_bagging,
    fit_on_ground,
)
from trainer.susceptibility.networks import FactorCnn, Mlp
from trainer.susceptibility.validation import out_of_fold, random_folds, spatial_folds
from trainer.susceptibility.windows import PatchCnn, patches


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


def parts(network: Any) -> list[tuple[Any, ...]]:
    """What the layers with weights look like."""
    return [tuple(part.shape) for name, part in network.state_dict().items() if "weight" in name]


def test_layouts_are_those_of_the_papers() -> None:
    "14 factors: the shapes of all weights, and what the schedules say"
    x, y = np.random.default_rng(2).normal(size=(20, 14)), np.arange(20) % 2
    zhang = FactorCnn("zhang", epochs=1, device="cpu").fit(x, y)
    # Kernel 2 leaves 13 values, pooling by 2 leaves 6 of each of 14 channels, then 20 units.
    assert parts(zhang.network_) == [(14, 1, 2), (20, 14 * 6), (1, 20)]
    assert [m.p for m in zhang.network_ if type(m).__name__ == "Dropout"] == [0.2]
    he = FactorCnn("he", epochs=1, device="cpu").fit(x, y)
    assert [shape[0] for shape in parts(he.network_)][:6] == [32, 48, 64, 96, 128, 256]
    assert all(shape[2] == 3 for shape in parts(he.network_)[:6])
    windows = np.random.default_rng(2).normal(size=(20, 14, 9, 9))
    patch = PatchCnn(epochs=1, device="cpu").fit(windows, y)
    assert [shape[0] for shape in parts(patch.network_)][:6] == [32, 48, 64, 96, 128, 256]
    assert all(shape[2:] == (3, 3) for shape in parts(patch.network_)[:6])


def test_a_kernel_of_3_x_3_on_a_column_is_a_kernel_of_3() -> None:
    "Why the vector layout is that of the paper: padded with zeros the outer columns never count"
    import torch

    flat = torch.nn.Conv2d(1, 4, 3, padding=1)
    along = torch.nn.Conv1d(1, 4, 3, padding=1)
    with torch.no_grad():
        along.weight.copy_(flat.weight[..., 1])
        along.bias.copy_(flat.bias)
    x = torch.randn(5, 1, 14)
    torch.testing.assert_close(flat(x[..., None])[..., 0], along(x))


def textured(count: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Windows in which only what surrounds the middle cell tells: a hollow, anywhere near."""
    dice = np.random.default_rng(seed)
    x, y = (
        dice.normal([[[[5]], [[300]]]], [[[[1]], [[50]]]], (count, 2, 7, 7)),
        np.arange(count) % 2,
    )
    for k in np.flatnonzero(y):
        row, column = dice.choice([1, 2, 4, 5], 2)
        x[k, 0, row - 1 : row + 2, column - 1 : column + 2] -= 2
    return x, y


@pytest.mark.parametrize("turn", [False, True])
def test_windows_show_what_the_middle_cell_does_not(turn: bool) -> None:
    x, y = textured()
    new, truth = textured(200, 1)
    net = PatchCnn((8, 8), units=16, turn=turn, epochs=25, batch=32, rate=5e-3, device="cpu")
    model = net.fit(x, y)
    area = roc_auc_score(truth, model.predict_proba(new)[:, 1])
    middle = LogisticRegression().fit(x[:, :, 3, 3], y).predict_proba(new[:, :, 3, 3])[:, 1]
    assert area > 0.9 and roc_auc_score(truth, middle) < 0.7
    again = clone(net).fit(x, y)
    np.testing.assert_array_equal(model.predict_proba(new), again.predict_proba(new))


def test_windows_are_scaled_by_those_learned_from_and_holes_are_their_mean() -> None:
    x, y = textured(40)
    net = PatchCnn((4,), units=4, epochs=2, device="cpu")
    model = clone(net).fit(x, y)
    np.testing.assert_allclose(model.mean_, x.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(model.scale_, x.std(axis=(0, 2, 3)), rtol=1e-5)
    units = np.array([1000.0, 0.01])[:, None, None]
    other = clone(net).fit(x * units + 7, y)
    np.testing.assert_allclose(
        other.predict_proba(x * units + 7), model.predict_proba(x), atol=1e-3
    )
    holes = x.copy()
    holes[:, 1, :2] = np.nan
    filled = np.where(np.isnan(holes), model.mean_[:, None, None], holes)
    np.testing.assert_allclose(model.predict_proba(holes), model.predict_proba(filled), atol=1e-6)


def test_windows_are_cut_around_their_cells() -> None:
    factors = np.random.default_rng(0).normal(size=(3, 12, 9))
    found = patches(factors, [5, 0], [4, 8], 5)
    np.testing.assert_allclose(found[0], factors[:, 3:8, 2:7], rtol=1e-6)
    assert np.isnan(found[1][:, :2]).all() and np.isnan(found[1][:, :, 3:]).all()
    np.testing.assert_allclose(found[1][:, 2:, :3], factors[:, :3, 6:], rtol=1e-6)
    with pytest.raises(DataError, match="Windows of 4 cells have no middle cell"):
        patches(factors, [0], [0], 4)
    with pytest.raises(DataError, match=r"Cell \(row 12, column 0\) lies outside 12 x 9 cells"):
        patches(factors, [3, 12], [0, 0], 3)


def test_windows_that_do_not_fit_are_refused() -> None:
    x, y = textured(20)
    net = PatchCnn((4,), units=4, epochs=1, device="cpu")
    with pytest.raises(DataError, match=r"Windows of shape \(20, 7\) were given"):
        net.fit(x[:, 0, 0], y)
    with pytest.raises(DataError, match="19 labels for 20 windows"):
        net.fit(x, y[1:])
    with pytest.raises(DataError, match="hold infinite values"):
        net.fit(np.where(x > 6, np.inf, x), y)
    net.fit(x, y)
    with pytest.raises(DataError, match=r"\(2, 5, 5\) were given to a model that .* \(2, 7, 7\)"):
        net.predict(x[:, :, 1:6, 1:6])


def test_support_vectors_are_those_of_the_library_held_to_one() -> None:
    x, y = points()
    new = points(500, 5)[0]
    found = SupportVectors().fit(x, y).predict_proba(new)[:, 1]
    expected = np.clip(SVR(C=1, epsilon=0.1, gamma="scale").fit(x, y).predict(new), 0, 1)
    assert np.abs(found - expected).max() < 1e-4
    told = SupportVectors(kind="classification").fit(x, y)
    value = SVC(C=1, gamma="scale").fit(x, y).decision_function(new)
    slope, offset = told.curve_
    assert slope > 0
    np.testing.assert_allclose(told.decision_function(new), slope * value + offset, atol=5e-4)
    # The curve makes a probability that is about right on new points.
    truth = points(500, 5)[1]
    assert reliability(told.predict_proba(new)[:, 1], truth, 5).error < 0.08
    with pytest.raises(ValueError, match="kind is 'both'; expected 'regression' or"):
        SupportVectors(kind="both").fit(x, y)  # type: ignore[arg-type]


def test_pooled_weights_are_never_negative_and_near_equal_where_little_is_known() -> None:
    dice = np.random.default_rng(0)
    truth = dice.integers(0, 2, 400)
    good = 1 / (1 + np.exp(-(2.0 * truth - 1 + dice.normal(size=400))))
    noise, wrong = dice.random(400), 1 - good
    free = Pooling(0.0).fit(np.column_stack([good, noise, wrong]), truth).weights_
    assert free.min() >= 0 and free[0] > 1 and free[1] < 0.1 and free[2] < 1e-6
    held = Pooling(1e6).fit(np.column_stack([good, noise]), truth).weights_
    assert held[0] == pytest.approx(held[1], rel=1e-3)
    # Free weights are those of a logistic regression where none would be negative.
    both = np.column_stack([good, 1 / (1 + np.exp(-(2.0 * truth - 1 + dice.normal(size=400))))])
    odds = np.log(both.clip(0.02, 0.98) / (1 - both.clip(0.02, 0.98)))
    line = LogisticRegression(C=1e8).fit(odds, truth)
    np.testing.assert_allclose(Pooling(0.0).fit(both, truth).weights_, line.coef_[0], rtol=1e-2)


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
    again = Blending({"spy": Spy()}, LogisticRegression(), again=True).fit(x, y, blocks)
    assert Spy.seen[-1].size == 80  # after the upper model was fitted
    np.testing.assert_allclose(again.final_.coef_, model.final_.coef_)


def test_stacking_is_that_of_its_definition() -> None:
    x, y = points(200)
    blocks = np.random.default_rng(3).integers(0, 10, 200)
    bases = {
        "line": make_pipeline(StandardScaler(), LogisticRegression()),
        "vectors": make_pipeline(StandardScaler(), SupportVectors()),
    }
    model = Stacking(bases, LogisticRegression(), folds=5).fit(x, y, blocks)
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


class Grounded(Spy):
    """Takes blocks and places, and remembers them."""

    ground: ClassVar[list[tuple[Any, Any]]] = []

    def fit(self, X: Any, y: Any, blocks: Any = None, places: Any = None) -> Self:
        Grounded.ground.append((blocks, places))
        return super().fit(X, y)


def test_blocks_and_places_reach_those_below_and_only_those_that_take_them() -> None:
    x, y = points(60)
    blocks, places = np.arange(60) % 6, np.arange(120.0).reshape(60, 2)
    Grounded.ground.clear()
    below = {"line": LogisticRegression(), "grounded": Grounded()}
    fit_on_ground(Stacking(below, Pooling(), folds=3), x, y, blocks, places)
    assert len(Grounded.ground) == 4
    for (given, where), (train, _) in zip(
        Grounded.ground, spatial_folds(blocks, y.astype(np.uint8), 3), strict=False
    ):
        np.testing.assert_array_equal(given, blocks[train])
        np.testing.assert_array_equal(where, places[train])
    fit_on_ground(LogisticRegression(), x, y, blocks, places)  # knows neither: is just fitted
    Grounded.ground.clear()
    folds = spatial_folds(blocks, y.astype(np.uint8), 3)
    out_of_fold(Grounded(), x, y.astype(np.uint8), folds, blocks, places)
    assert [given.size for given, _ in Grounded.ground] == [train.size for train, _ in folds]
    np.testing.assert_array_equal(Grounded.ground[1][1], places[folds[1][0]])


def test_without_blocks_both_classes_are_in_every_inner_fold() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = (np.arange(60) < 5).astype(int)
    Stacking({"spy": Spy()}, Pooling(), folds=5).fit(x, y)
    assert [labels.sum() for labels in Spy.labels] == [4, 4, 4, 4, 4, 5]
    with pytest.raises(DataError, match="There is 1 sample of one of the classes"):
        Stacking({"spy": Spy()}, Pooling()).fit(x, (np.arange(60) < 1).astype(int))


def regions(seed: int, count: int, many: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Made-up points of regions; the last factor gives the region away, each has its own odds."""
    dice = np.random.default_rng(seed)
    region = dice.integers(0, many, count)
    mark, odds = dice.normal(size=many), 2.0 * dice.normal(size=many)
    x = np.column_stack([dice.normal(size=(count, 2)), 30 * mark[region]])
    chance = 1 / (1 + np.exp(-1.5 * x[:, 0] - odds[region]))
    return x, (dice.random(count) < chance).astype(int), region


def test_sets_hold_what_they_promise_on_new_ground_only_if_calibrated_on_other_blocks() -> None:
    "By class, over new regions: held-out blocks keep the promise, random folds break it"
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(9)  # finds the samples of its own region
    covered: dict[str, list[np.ndarray]] = {"blocks": [], "random": []}
    for seed in range(12):
        x, y, region = regions(seed, 600)
        new, truth, _ = regions(1000 + seed, 1500)
        fitted = clone(model).fit(x, y)
        on_new = fitted.predict_proba(new)[:, 1]
        for kind, folds in (
            ("blocks", spatial_folds(region, y.astype(np.uint8), 10)),
            ("random", random_folds(600, 10, seed)),
        ):
            held = np.empty(600)
            for train, test in folds:
                held[test] = clone(model).fit(x[train], y[train]).predict_proba(x[test])[:, 1]
            sets = Conformal.fit(held, y, 0.8).sets(on_new)
            covered[kind].append(np.array([sets[truth == k, k].mean() for k in (0, 1)]))
    blocks, chance = np.mean(covered["blocks"], axis=0), np.mean(covered["random"], axis=0)
    error = np.std(covered["blocks"], axis=0, ddof=1) / np.sqrt(12)
    assert (blocks > 0.8 - 2 * error).all() and (error < 0.04).all()
    assert (chance < 0.79).all() and (blocks - chance > 0.08).all()


def test_a_curve_mends_what_is_too_sure_and_keeps_the_order() -> None:
    dice = np.random.default_rng(0)
    odds = dice.normal(size=4000)
    truth = (dice.random(4000) < 1 / (1 + np.exp(-odds))).astype(int)
    sure = 1 / (1 + np.exp(-3 * odds - 0.5))  # three times too sure, and shifted
    curve = Curve.fit(sure[:2000], truth[:2000])
    assert curve.slope == pytest.approx(1 / 3, abs=0.05)
    assert curve.offset == pytest.approx(-0.5 / 3, abs=0.1)
    before, after = (
        reliability(sure[2000:], truth[2000:]),
        reliability(curve(sure[2000:]), truth[2000:]),
    )
    assert after.error < 0.04 < 0.1 < before.error and after.brier < before.brier
    assert roc_auc_score(truth, curve(sure)) == pytest.approx(roc_auc_score(truth, sure))
    assert np.isnan(curve([np.nan])).all()


def test_curves_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="All 3 samples are of class 1"):
        Curve.fit([0.1, 0.2, 0.3], [1, 1, 1])
    with pytest.raises(DataError, match=r"fall where the truth rises \(slope -"):
        Curve.fit([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1])
    with pytest.raises(DataError, match="2 probabilities for 3 labels"):
        reliability([0.1, 0.2], [1, 0, 1])
    with pytest.raises(DataError, match="lie outside 0 to 1"):
        reliability([1.2], [1])
    with pytest.raises(DataError, match="Labels other than 0 and 1"):
        reliability([0.2], [2])
