"""Validation: the area under the curve, folds and intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from thawslump.errors import DataError
from trainer.susceptibility.models import build
from trainer.susceptibility.samples import block_ids
from trainer.susceptibility.validation import (
    auc,
    block_bootstrap,
    interval,
    out_of_fold,
    paired_auc,
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


@settings(max_examples=50, deadline=None)
@given(
    blocks=arrays(np.int64, 40, elements=st.integers(0, 9)),
    labels=arrays(np.uint8, 40, elements=st.integers(0, 1)),
    folds=st.integers(2, 8),
)
def test_spatial_folds_split_no_block(blocks: np.ndarray, labels: np.ndarray, folds: int) -> None:
    "No block on both sides; every sample tested once; slumps in every fold"
    blocks[:2], labels[:2] = [0, 1], 1
    tested = []
    found = spatial_folds(blocks, labels, folds)
    assert len(found) == min(folds, np.unique(blocks[labels == 1]).size)
    for train, test in found:
        assert not set(blocks[train]) & set(blocks[test])
        assert np.array_equal(np.union1d(train, test), np.arange(40))
        assert labels[test].any() and labels[train].any()
        tested += test.tolist()
    assert sorted(tested) == list(range(40))


def test_spatial_folds_are_even() -> None:
    "100 equal blocks, 20 with slumps, make five folds of the same size and share of slumps"
    blocks = np.repeat(np.arange(100), 3)
    labels = (blocks < 20).astype(np.uint8)
    for _, test in spatial_folds(blocks, labels, 5):
        assert (len(test), labels[test].sum()) == (60, 12)


def test_random_folds_test_every_sample_once() -> None:
    folds = random_folds(23, 5, seed=1)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(23))


def test_one_block_cannot_be_split() -> None:
    with pytest.raises(DataError, match="12 slump samples lie in 1 block"):
        spatial_folds(np.zeros(12, np.int64), np.ones(12, np.uint8), 5)


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
    areas, differences = paired_auc(labels, scores, blocks, 200, 0)
    assert areas["random"].value > 0.95
    assert areas["spatial"].value < 0.7
    assert differences["random", "spatial"].low > 0
    assert differences["random", "spatial"].value == -differences["spatial", "random"].value


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


def test_real_landslides_score_as_published(data_dir: Path) -> None:
    """350 points of southern Ecuador: spatial folds are more sober than random ones

    Lovelace et al., Geocomputation with R (ch. 12), find an AUC of about 0.78 for a logistic
    regression on these five factors over k-means spatial folds, and more over random ones.
    """
    path = data_dir / "susc_ecuador_lsl" / "lsl.csv"
    rows = path.read_text().replace("FALSE", "0").replace("TRUE", "1").splitlines()[1:]
    table = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    labels, features = table[:, 2].astype(np.uint8), table[:, 3:].astype(np.float32)
    blocks = block_ids(table[:, 0], table[:, 1], (0.0, 0.0), 1000.0)
    model = build("logistic")
    spatial = [
        out_of_fold(model, features, labels, spatial_folds(blocks, labels, folds))
        for folds in (3, 5, 8)
    ]
    random = [out_of_fold(model, features, labels, random_folds(350, 5, seed)) for seed in range(5)]
    areas = [np.mean([auc(labels, scores) for scores in group]) for group in (spatial, random)]
    assert areas[0] == pytest.approx(0.78, abs=0.03)
    assert areas[0] < areas[1]
