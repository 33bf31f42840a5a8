"""Sums of radial kernels: the library's values, at any distance and any offset."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC, SVR

from thawslump.errors import DataError
from trainer.susceptibility.kernels import RadialSum


def samples(count: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(count, 6))
    return x, (x[:, 0] * x[:, 1] + dice.normal(size=count) > 0).astype(int)


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.02, 3.0])
@pytest.mark.parametrize("kind", [SVR, SVC])
def test_values_are_those_of_the_library(kind: type, gamma: object) -> None:
    "Within 1e-4 as promised, within rounding in double precision; several blocks of rows"
    x, y = samples(1500)
    model = kind(C=1, gamma=gamma).fit(x, y)
    new = samples(700, 1)[0]
    expected = model.predict(new) if kind is SVR else model.decision_function(new)
    found = RadialSum.of(model)
    assert np.abs(found(new) - expected).max() < 1e-4
    np.testing.assert_allclose(found(new, tolerance=0.0), expected, atol=1e-10)
    np.testing.assert_allclose(found(new.astype(np.float32)), expected, atol=2e-4)
    np.testing.assert_array_equal(RadialSum.of(model)(new, threads=3), found(new))


def test_sums_are_those_of_the_definition() -> None:
    dice = np.random.default_rng(3)
    s, a, x = dice.normal(size=(2500, 3)), dice.normal(size=2500), dice.normal(size=(40, 3))
    away = ((x[:, None] - s) ** 2).sum(axis=2)
    expected = np.exp(-0.7 * away) @ a + 0.25
    assert np.abs(RadialSum(s, a, 0.7, 0.25)(x) - expected).max() < 1e-4
    np.testing.assert_allclose(RadialSum(s, a, 0.7, 0.25)(x, 0.0), expected, atol=1e-11)


def test_torch_gives_the_same_sums() -> None:
    "The way a GPU takes, on torch's CPU: single where it is enough, double where it is not"
    x, y = samples(500)
    found = RadialSum.of(SVR().fit(x, y))
    new = np.vstack([samples(200, 1)[0], x[:3] + 1e30])
    assert np.abs(found(new, device="cpu:0") - found(new, 0.0)).max() < 1e-4
    np.testing.assert_allclose(found(new, 0.0, "cpu:0"), found(new, 0.0), atol=1e-10)
    wide = RadialSum(found.vectors * 1e6, found.weights, 1e-9, 0.0)
    rows = new[:50] * 1e6
    np.testing.assert_allclose(wide(rows, device="cpu:0"), wide(rows, 0.0), atol=1e-4)


def test_far_rows_are_the_intercept_and_never_overflow() -> None:
    x, y = samples()
    model = SVR(gamma=0.5).fit(x, y)
    far = x[:5] + np.array([[1e3], [1e8], [1e18], [1e30], [-1e30]])
    found = RadialSum.of(model)(far)
    assert found.tolist() == [float(model.intercept_[0])] * 5
    np.testing.assert_allclose(found, model.predict(far))


@pytest.mark.parametrize(("offset", "stretch"), [(1e5, 1.0), (1e4, 50.0), (1e6, 1e3)])
def test_features_that_are_not_scaled_cost_time_not_accuracy(offset: float, stretch: float) -> None:
    "Large numbers with a narrow kernel: single precision alone would be off by its whole size"
    x, y = samples(300)
    raw = x * stretch + offset
    gamma = 0.2 / stretch**1.5
    model = SVR(gamma=gamma).fit(raw, y)
    near = raw + stretch * 1e-3
    assert np.abs(RadialSum.of(model)(near) - model.predict(near)).max() < 1e-4
    single = raw.astype(np.float32)
    naive = (single**2).sum(1)[:, None] + (single**2).sum(1) - np.float32(2) * (single @ single.T)
    exact = ((raw[:, None] - raw) ** 2).sum(axis=2)
    assert gamma * np.abs(naive - exact).max() > 1e-4  # what a plain product would have lost


def test_what_is_no_sum_of_radial_kernels_is_refused() -> None:
    x, y = samples(60)
    with pytest.raises(DataError, match=r"SVR with kernel 'linear' .* no single sum of radial"):
        RadialSum.of(SVR(kernel="linear").fit(x, y))
    with pytest.raises(DataError, match=r"SVC with kernel 'rbf' and 2 rows of weights"):
        RadialSum.of(SVC().fit(x, np.arange(60) % 3))
    fitted = RadialSum.of(SVR().fit(x, y))
    with pytest.raises(DataError, match=r"shape \(4, 5\) were given to support vectors of 6"):
        fitted(np.zeros((4, 5)))
    assert fitted(np.zeros((0, 6))).shape == (0,)
