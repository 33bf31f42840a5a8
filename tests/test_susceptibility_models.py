"""Models: features and pipelines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawslump.errors import DataError
from trainer.susceptibility.models import (
    classes_of,
    design,
    feature_names,
    unseen,
)
from trainer.susceptibility.registry import build


def samples(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Made-up samples of four features, the labels drawn from a known logistic law."""
    rng = np.random.default_rng(0)
    features = rng.normal([100, 5, 0, 0.5], [20, 2, 1, 0.1], (count, 4)).astype(np.float32)
    odds = (features[:, 1] - 5) * 1.5 - (features[:, 3] - 0.5) * 10
    labels = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.uint8)
    return features, labels


@given(st.floats(0, 360), st.integers(-2, 2))
def test_aspect_has_no_seam_at_north(angle: float, turns: int) -> None:
    "Whole turns change nothing; sine and cosine lie on the unit circle"
    one = design({"aspect": np.array([angle], np.float32)})
    other = design({"aspect": np.array([angle + 360.0 * turns], np.float32)})
    assert one == pytest.approx(other, abs=1e-3)
    assert np.hypot(*one[0]) == pytest.approx(1.0)


def test_compass_directions() -> None:
    "North, east, south, west: sine is positive to the east, cosine to the north"
    held = design({"aspect": np.array([0.0, 90.0, 180.0, 270.0], np.float32)})
    assert held == pytest.approx(np.array([[0, 1], [1, 0], [0, -1], [-1, 0]]), abs=1e-6)


def test_columns_have_names_in_order() -> None:
    factors = ("elevation", "slope", "aspect", "NDVI")
    held = design({name: np.zeros((2, 3), np.float32) for name in factors})
    assert held.shape == (6, len(feature_names(factors)))
    assert feature_names(factors)[2:4] == ("aspect_sine", "aspect_cosine")


def test_logistic_regression_finds_the_law() -> None:
    "Coefficients in units of the features come close to those the labels were drawn from"
    features, labels = samples(20_000)
    steps = build("logistic").fit(features, labels).named_steps
    slopes = steps["model"].coef_[0] / steps["scale"].scale_
    assert slopes[1] == pytest.approx(1.5, rel=0.1)
    assert slopes[3] == pytest.approx(-10, rel=0.1)
    assert abs(slopes[0]) < 0.01


def test_scaling_belongs_to_the_model() -> None:
    "Other units of a feature give the same probabilities"
    features, labels = samples()
    scale = np.array([0.01, 100, 5, 1000], np.float32)
    one = build("logistic").fit(features, labels).predict_proba(features)
    other = build("logistic").fit(features * scale, labels).predict_proba(features * scale)
    assert one == pytest.approx(other, abs=1e-4)


def test_unknown_model_is_named() -> None:
    with pytest.raises(DataError, match=r"known are logistic, forest, .* and spatial_average"):
        build("magic")


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True),
    st.lists(st.one_of(st.integers(0, 120), st.just(float("nan"))), min_size=1, max_size=30),
)
def test_every_class_has_its_column(known: list[int], values: list[float]) -> None:
    "One 1 per cell of a known class; unknown and missing ones are missing in all columns"
    band = np.array(values, np.float32)
    held = design({"slope": band * 0, "landcover": band}, {"landcover": tuple(known)})
    assert held.shape == (len(values), 1 + len(known))
    for row, value in zip(held[:, 1:], values, strict=True):
        if value in known:
            assert row.sum() == 1 and row[known.index(int(value))] == 1
        else:
            assert np.isnan(row).all()
    strange = sum(value == value and value not in known for value in values)
    assert unseen({"landcover": band}, {"landcover": tuple(known)}) == {"landcover": strange}


def test_class_numbers_are_whole_numbers() -> None:
    with pytest.raises(DataError, match=r"Factor lithology holds 2\.5.*whole numbers"):
        classes_of({"lithology": np.array([1.0, 2.5])})
