"""Validation: the area under the curve, nothing learned outside the training part, intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from thawslump.errors import DataError
from trainer.susceptibility.folds import plan
from trainer.susceptibility.registry import build
from trainer.susceptibility.samples import block_ids
from trainer.susceptibility.scores import gap
from trainer.susceptibility.validation import (
    auc,
    block_bootstrap,
    fit_fold,
    interval,
    out_of_fold,
    random_folds,
    spatial_folds,
)


@settings(max_examples=50, deadline=None)
@given(
    labels=arrays(np.uint8, 30, elements=st.integers(0, 1)),
    scores=arrays(np.float64, 30, elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])),
    weights=arrays(np.float64, 30, elements=st.integers(0, 3)),
)
def test_auc_agrees_with_scikit_learn(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> None:
    "With ties and with weights"
    labels[:2], weights[:2] = [0, 1], 1
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert auc(labels, scores, weights) == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights)
    )


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.normal(size=60).round(1)
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None]
    pairs = (positive > negative).mean() + 0.5 * (positive == negative).mean()
    assert auc(labels, scores) == pytest.approx(pairs)


def test_auc_of_one_class_is_unknown() -> None:
    assert np.isnan(auc(np.ones(3), np.arange(3.0)))
    assert np.isnan(auc(np.zeros(0), np.zeros(0)))


def test_random_folds_flatter_clustered_samples() -> None:
    "Labels that depend on nothing but the block: random folds look good, spatial ones do not"
    rng = np.random.default_rng(5)
    blocks = np.repeat(np.arange(40), 20)
    places = rng.normal(size=(40, 2))
    features = (places[blocks] + 0.05 * rng.normal(size=(800, 2))).astype(np.float32)
    labels = rng.permutation(np.repeat([0, 1], 20))[blocks].astype(np.uint8)
    model = build("forest", trees=30)
    scores = {
        "random": out_of_fold(model, features, labels, random_folds(800, 5, 0)),
        "spatial": out_of_fold(model, features, labels, spatial_folds(blocks, labels, 5)),
    }
    found = gap(labels, [scores["random"]], [scores["spatial"]], blocks, 200, 0)
    assert found.random.value > 0.95
    assert found.spatial.value < 0.7
    assert found.difference.low > 0


def test_out_of_fold_uses_no_tested_sample() -> None:
    "Turning the labels of one fold around leaves the scores of that fold as they were"
    rng = np.random.default_rng(6)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.uint8)
    folds = random_folds(60, 3, 0)
    before = out_of_fold(build("logistic"), features, labels, folds)
    turned = labels.copy()
    turned[folds[0][1]] = 1 - turned[folds[0][1]]
    features[folds[0][1][0]] = 0.0
    after = out_of_fold(build("logistic"), features, turned, folds)
    assert np.array_equal(before[folds[0][1][1:]], after[folds[0][1][1:]])


class Seen(TransformerMixin, BaseEstimator):
    """Passes values on; remembers in a common place which rows it was fitted to."""

    rows: list[set[float]] = []  # noqa: RUF012 - shared by the copies that each fold makes

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        Seen.rows.append(set(np.asarray(X)[:, 0].tolist()))
        self.fitted_ = True
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return X


def test_nothing_is_fitted_to_a_test_sample() -> None:
    "Every step of a pipeline sees the training rows of its fold and no other"
    rng = np.random.default_rng(8)
    features = rng.normal(size=(90, 2))
    features[:, 0] = np.arange(90)  # names the row
    labels = rng.integers(0, 2, 90).astype(np.uint8)
    folds = spatial_folds(np.arange(90) // 5, labels, 4)
    Seen.rows.clear()
    out_of_fold(make_pipeline(Seen(), LogisticRegression(max_iter=1000)), features, labels, folds)
    assert [sorted(rows) for rows in Seen.rows] == [train.tolist() for train, _ in folds]


def test_selection_outside_of_the_folds_finds_what_is_not_there() -> None:
    """Pure noise, 2000 factors: ten chosen before the samples are parted promise an AUC above 0.8

    Inside the folds the same ten-factor selection promises what there is: 0.5, over 12 worlds.
    """
    outside, inside = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(80, 2000)).astype(np.float32)
        labels = np.repeat([0, 1], 40).astype(np.uint8)
        folds = spatial_folds(rng.permutation(80) // 4, labels, 5)
        chosen = SelectKBest(k=10).fit_transform(features, labels)
        outside.append(auc(labels, out_of_fold(LogisticRegression(), chosen, labels, folds)))
        whole = Pipeline([("select", SelectKBest(k=10)), ("model", LogisticRegression())])
        inside.append(auc(labels, out_of_fold(whole, features, labels, folds)))
    assert min(outside) > 0.6 and np.mean(outside) > 0.8
    # Held-out labels are a little more often of the class that training lacks: below 0.5, if any.
    assert np.mean(inside) == pytest.approx(0.5, abs=3 * np.std(inside) / np.sqrt(12))
    assert np.mean(inside) < 0.55


def test_bins_and_scalers_are_those_of_the_training_part() -> None:
    "A test sample far away moves no limit and no mean"
    rng = np.random.default_rng(9)
    features = rng.normal(size=(60, 2)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.uint8)
    train, test = np.arange(40), np.arange(40, 60)
    model = make_pipeline(
        StandardScaler(),
        KBinsDiscretizer(4, encode="ordinal", strategy="uniform"),
        LogisticRegression(),
    )
    said, fitted = fit_fold(model, features, labels, train, test)
    assert fitted[0].mean_ == pytest.approx(features[train].mean(axis=0))
    features[50] = 1e6
    again, moved = fit_fold(model, features, labels, train, test)
    assert np.array_equal(np.delete(said, 10), np.delete(again, 10))
    assert np.array_equal(fitted[1].bin_edges_[0], moved[1].bin_edges_[0])
    assert not hasattr(model[0], "mean_"), "the model given is not changed"


def test_folds_are_kept_and_taken_up_again() -> None:
    "A run that stops after two folds and goes on gives the same, and fits only what is missing"
    rng = np.random.default_rng(10)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    labels = (features[:, 0] + rng.normal(size=60) > 0).astype(np.uint8)
    folds = random_folds(60, 4, 0)
    kept: dict[int, np.ndarray] = {}
    told: list[tuple[float, str]] = []

    class Stopped(Exception):
        pass

    def stopping(number: int, probability: np.ndarray, fitted: Any) -> None:
        kept[number] = probability
        assert fitted.predict_proba(features[:1]).shape == (1, 2)
        if number == 1:
            raise Stopped

    whole = out_of_fold(build("forest", trees=5), features, labels, folds)
    with pytest.raises(Stopped):
        out_of_fold(build("forest", trees=5), features, labels, folds, keep=stopping)
    fitted_anew: list[int] = []
    again = out_of_fold(
        build("forest", trees=5), features, labels, folds, held=kept,
        keep=lambda number, *_: fitted_anew.append(number),
        progress=lambda share, words: told.append((share, words)),
    )  # fmt: skip
    assert np.array_equal(again, whole)
    assert fitted_anew == [2, 3]
    assert told == [
        (0.0, "fold 1 of 4"), (0.25, "fold 2 of 4"), (0.5, "fold 3 of 4"), (0.75, "fold 4 of 4"),
        (1.0, "done"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="3 probabilities are held of fold 1, which tests 15"):
        out_of_fold(build("logistic"), features, labels, folds, held={0: np.zeros(3)})


def test_samples_that_are_never_tested_have_no_score() -> None:
    labels = np.array([1, 0, 1, 0, 1, 0], np.uint8)
    folds = [(np.array([0, 1, 2, 3]), np.array([4]))]
    found = out_of_fold(build("logistic"), np.zeros((6, 1), np.float32), labels, folds)
    assert np.isfinite(found).tolist() == [False] * 4 + [True, False]


def test_a_model_that_gives_no_probability_is_said() -> None:
    class Silent(LogisticRegression):
        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.full((len(X), 2), np.nan)

    labels, rows = np.array([1, 0, 1, 0], np.uint8), np.arange(4)
    with pytest.raises(DataError, match="Silent gives 2 of 2 test samples no probability"):
        fit_fold(Silent(), np.zeros((4, 1), np.float32), labels, rows[:2], rows[2:])
    with pytest.raises(DataError, match=r"holds only one class \(1 samples\)"):
        fit_fold(build("logistic"), np.zeros((4, 1), np.float32), labels, rows[:1], rows[2:])


def test_training_part_of_one_class_is_refused() -> None:
    labels = np.array([1, 1, 0, 0], np.uint8)
    folds = [(np.array([0, 1]), np.array([2, 3]))]
    with pytest.raises(DataError, match="only one class"):
        out_of_fold(build("logistic"), np.zeros((4, 1), np.float32), labels, folds)


def test_block_intervals_are_wider_than_those_of_independent_samples() -> None:
    "100 copies of each of 20 places carry the knowledge of 20 places"
    rng = np.random.default_rng(7)
    places = rng.normal(size=20)
    values, blocks = np.repeat(places, 100), np.repeat(np.arange(20), 100)

    def mean(weight: np.ndarray) -> list[float]:
        return [float((weight * values).sum() / weight.sum())]

    by_block = block_bootstrap(mean, blocks, 400, 0)
    by_sample = block_bootstrap(mean, np.arange(2000), 400, 0)
    assert by_block.std() == pytest.approx(places.std() / np.sqrt(20), rel=0.15)
    assert by_block.std() > 5 * by_sample.std()


def test_interval_leaves_unknown_draws_out() -> None:
    held = interval(0.5, np.r_[np.full(99, 0.5), np.nan])
    assert (held.low, held.high) == (0.5, 0.5)
    assert np.isnan(interval(0.5, np.full(3, np.nan)).low)


def ecuador(data_dir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, factors and labels of 350 points of southern Ecuador."""
    path = data_dir / "susc_ecuador_lsl" / "lsl.csv"
    rows = path.read_text().replace("FALSE", "0").replace("TRUE", "1").splitlines()[1:]
    table = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    return table[:, :2], table[:, 3:].astype(np.float32), table[:, 2].astype(np.uint8)


def test_real_landslides_over_clusters_score_as_published(data_dir: Path) -> None:
    """Five k-means clusters of the places against five random folds: 0.773 and 0.810

    Mean AUC of the folds of a logistic regression over 100 repetitions, as published for these
    points (Lovelace et al., Geocomputation with R, ch. 12); 25 repetitions here.
    """
    places, features, labels = ecuador(data_dir)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e6, max_iter=1000))
    areas: dict[str, list[float]] = {"blocked": [], "random": []}
    for repetition in range(25):
        for kind, each in areas.items():
            made = plan(kind, labels, places, repetition=repetition, block_shape="kmeans").folds
            said = out_of_fold(model, features, labels, made)
            each += [auc(labels[test], said[test]) for _, test in made]
    assert np.mean(areas["blocked"]) == pytest.approx(0.773, abs=0.01)
    assert np.mean(areas["random"]) == pytest.approx(0.810, abs=0.005)


def test_real_landslides_score_as_published(data_dir: Path) -> None:
    """350 points of southern Ecuador: spatial folds are more sober than random ones

    Lovelace et al., Geocomputation with R (ch. 12), find an AUC of about 0.78 for a logistic
    regression on these five factors over k-means spatial folds, and more over random ones.
    """
    places, features, labels = ecuador(data_dir)
    blocks = block_ids(places[:, 0], places[:, 1], (0.0, 0.0), 1000.0)
    model = build("logistic")
    spatial = [
        out_of_fold(model, features, labels, spatial_folds(blocks, labels, folds))
        for folds in (3, 5, 8)
    ]
    random = [out_of_fold(model, features, labels, random_folds(350, 5, seed)) for seed in range(5)]
    areas = [np.mean([auc(labels, scores) for scores in group]) for group in (spatial, random)]
    assert areas[0] == pytest.approx(0.78, abs=0.03)
    assert areas[0] < areas[1]
