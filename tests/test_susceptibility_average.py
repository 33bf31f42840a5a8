"""The average that chooses nothing, its regional effect, and factors of the surroundings."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from thawslump.errors import DataError
from trainer.susceptibility.average import SpatialAverage, _regression, subsets
from trainer.susceptibility.context import surroundings


def ground(seed: int = 0, count: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Made-up ground: factor 0 matters; factor 1 and the odds differ by region, each on its own."""
    dice = np.random.default_rng(seed)
    places = dice.uniform(0, 10, (count, 2))
    region = (np.floor(places / 2.5) @ [1, 4]).astype(int)
    odds, level = 2.0 * dice.normal(size=16), dice.normal(size=16)
    x = np.column_stack([dice.normal(size=count), level[region] + 0.6 * dice.normal(size=count)])
    chance = 1 / (1 + np.exp(-1.2 * x[:, 0] - odds[region]))
    return x, (dice.random(count) < chance).astype(int), places


@pytest.mark.parametrize("blocked", [False, True], ids=["single", "blocks"])
def test_held_out_values_are_those_of_fitting_again(blocked: bool) -> None:
    "Closed form against a regression fitted anew without each block"
    dice = np.random.default_rng(1)
    n = 40
    a, b = dice.normal(size=(n, 3)), dice.normal(size=(n, 2))
    own, shared = a @ a.T / 3, np.exp(-((b[:, None] - b) ** 2).sum(axis=2))
    y = np.sign(dice.normal(size=n))
    blocks = dice.integers(0, 6, n) if blocked else np.arange(n)
    weights, constant, out = _regression(own, shared, y, blocks)
    whole = own + shared + np.eye(n)
    np.testing.assert_allclose(whole @ weights + constant, y, atol=1e-10)
    assert abs(weights.sum()) < 1e-10  # the mean is by generalised least squares
    for block in np.unique(blocks):
        test, rest = np.flatnonzero(blocks == block), np.flatnonzero(blocks != block)
        inverse = np.linalg.inv(whole[np.ix_(rest, rest)])
        mean = inverse.sum(axis=0) @ y[rest] / inverse.sum()
        again = own[np.ix_(test, rest)] @ inverse @ (y[rest] - mean) + mean
        np.testing.assert_allclose(out[test], again, atol=1e-10)


def test_value_of_one_member_is_that_of_its_definition() -> None:
    "Linear and radial covariance of one set of columns, written out"
    x, y, places = ground()
    model = SpatialAverage(columns=[(0, 1)], strength=0.4, width=0.8, region=0.5, reach=1.5)
    model.fit(x, y, places=places)
    new = ground(1)[0][:20]
    z, t = (x - x.mean(0)) / x.std(0), (new - x.mean(0)) / x.std(0)
    shared = 0.5 * np.exp(-((places[:, None] - places) ** 2).sum(axis=2) / (2 * 1.5**2))
    total = np.zeros(20)
    for own, cross in (
        (0.4 * z @ z.T / 2, 0.4 * t @ z.T / 2),
        (
            0.4 * np.exp(-0.8 / 2 * ((z[:, None] - z) ** 2).sum(axis=2)),
            0.4 * np.exp(-0.8 / 2 * ((t[:, None] - z) ** 2).sum(axis=2)),
        ),
    ):
        weights, constant, out = _regression(own, shared, 2.0 * y - 1, np.arange(len(y)))
        total += (cross @ weights + constant) / out.std() / 2
    np.testing.assert_allclose(model.decision_function(new), total, atol=1e-6)


def test_what_only_differs_between_regions_is_not_credited_to_a_factor() -> None:
    "By chance factor 1 goes with the odds of 16 regions; with places the model is not taken in"
    plain, regional, gain = [], [], []
    for seed in range(12):
        x, y, places = ground(seed)
        one = SpatialAverage([(0, 1)]).fit(x, y)
        other = SpatialAverage([(0, 1)], region=2.0, reach=1.0).fit(x, y, places=places)
        plain.append(abs(one.slopes_[1] / one.slopes_[0]))
        regional.append(abs(other.slopes_[1] / other.slopes_[0]))
        new = np.random.default_rng(seed + 50).normal(size=(3000, 2))
        truth = np.random.default_rng(seed + 9).random(3000) < 1 / (1 + np.exp(-1.2 * new[:, 0]))
        gain.append(
            roc_auc_score(truth, other.decision_function(new))
            - roc_auc_score(truth, one.decision_function(new))
        )
    assert np.mean(regional) < 0.7 * np.mean(plain)
    assert np.mean(gain) > 0.01


def test_places_are_no_predictors() -> None:
    "Moving all places changes nothing; units neither; without places there is no reach"
    x, y, places = ground()
    new = ground(1)[0]
    first = SpatialAverage().fit(x, y, places=places)
    moved = SpatialAverage().fit(x, y, places=1000 * (places - 77))
    np.testing.assert_allclose(first.predict_proba(new), moved.predict_proba(new), atol=1e-6)
    assert moved.reach_ == pytest.approx(1000 * first.reach_)
    assert SpatialAverage().fit(x, y).reach_ == 0


def test_probabilities_rise_with_the_value_and_mean_what_they_say() -> None:
    x, y, places = ground(0, 600)
    blocks = (np.floor(places / 2.5) @ [1, 4]).astype(int)
    model = SpatialAverage().fit(x, y, blocks, places)
    new, truth, _ = ground(0, 3000)  # the same regions, other points
    value, probability = model.decision_function(new), model.predict_proba(new)[:, 1]
    assert (np.diff(probability[np.argsort(value)]) >= 0).all()
    assert abs(probability.mean() - truth.mean()) < 0.08
    np.testing.assert_array_equal(model.predict(new), (probability >= 0.5).astype(int))


def test_missing_values_count_as_the_mean_and_constant_factors_as_nothing() -> None:
    x, y, _ = ground()
    holes = x.copy()
    holes[::9, 1] = np.nan
    filled = np.where(np.isnan(holes), np.nanmean(holes, axis=0), holes)
    one = SpatialAverage().fit(holes, y)
    seen = np.array([[0.3, np.nan]])
    at_mean = np.array([[0.3, np.nanmean(holes[:, 1])]])
    np.testing.assert_allclose(one.predict_proba(seen), one.predict_proba(at_mean))
    assert roc_auc_score(y, one.decision_function(filled)) > 0.6
    wide = np.column_stack([x, np.full(len(x), 7.0), np.full(len(x), np.nan)])
    found = SpatialAverage(columns=[(0, 1, 2, 3)]).fit(wide, y)
    assert np.isfinite(found.decision_function(wide)).all()
    assert found.slopes_[2:].tolist() == [0, 0]


def test_many_samples_are_drawn_by_class_for_each_member() -> None:
    "Bounded work; equal seeds, equal models"
    x, y, _ = ground(0, 900)
    small = SpatialAverage(most=100, seed=4).fit(x, y)
    assert {len(vectors) for vectors in small.vectors_} == {100}
    again = SpatialAverage(most=100, seed=4).fit(x, y)
    np.testing.assert_array_equal(small.predict_proba(x), again.predict_proba(x))
    other = SpatialAverage(most=100, seed=5).fit(x, y)
    assert not np.array_equal(small.predict_proba(x), other.predict_proba(x))


def test_subsets_leave_out_each_factor_whole() -> None:
    assert subsets([[0], [1, 2], [3]]) == ((0, 1, 2, 3), (1, 2, 3), (0, 3), (0, 1, 2))
    assert subsets([[0]], [[], [1]]) == ((0,), (0, 1), (1,))


def test_ground_that_does_not_fit_the_samples_is_refused() -> None:
    x, y, places = ground()
    with pytest.raises(DataError, match=r"shape \(3,\) were given for 240 samples"):
        SpatialAverage().fit(x, y, [1, 2, 3])
    with pytest.raises(DataError, match=r"shape \(239, 2\) were given for 240 samples"):
        SpatialAverage().fit(x, y, places=places[1:])
    with pytest.raises(ValueError, match="was given 1 class; expected two"):
        SpatialAverage().fit(x, np.ones(240))


def test_surroundings_of_a_plane_and_of_a_hill() -> None:
    "A plane: its slope and direction, no position; a hill: above its surroundings on the top"
    rows, columns = np.mgrid[:61, :61].astype(float)
    plane = -3.0 * rows * 10 + 4.0 * columns * 10  # rises to the north and the east, gradient 5
    found = surroundings({"elevation": plane, "slope": columns}, (10, 10), 50.0)
    middle = {name: float(band[30, 30]) for name, band in found.items()}
    assert middle["slope@50"] == pytest.approx(30.0, abs=1e-3)  # the mean of the factor `slope`
    only = surroundings({"elevation": plane}, (10, 10), 50.0)
    assert only["slope@50"][30, 30] == pytest.approx(np.degrees(np.arctan(5)), abs=0.01)
    # Downhill is south and west.
    assert only["north@50"][30, 30] == pytest.approx(-0.6, abs=1e-3)
    assert only["east@50"][30, 30] == pytest.approx(-0.8, abs=1e-3)
    assert only["position@50"][30, 30] == pytest.approx(0, abs=1e-2)
    # Of a plane with gradient g the heights under a Gaussian of width s spread by g s.
    assert only["roughness@50"][30, 30] == pytest.approx(5 * 50, rel=0.01)
    hill = 100 * np.exp(-((rows - 30) ** 2 + (columns - 30) ** 2) / (2 * 5.0**2))
    top = surroundings({"elevation": hill}, (10, 10), 50.0)["position@50"]
    # A Gaussian of width 5 cells smoothed by one of 5 cells is half as high.
    assert top[30, 30] == pytest.approx(50, rel=0.01) and top[30, 42] < 0


def test_surroundings_look_past_holes_and_beyond_the_edge() -> None:
    values = np.full((40, 40), 6.0)
    values[10:14, 10:14] = np.nan
    values[:, 30:] = np.nan
    found = surroundings({"ndvi": values}, (10, 10), 20.0)["ndvi@20"]
    assert found[11, 11] == pytest.approx(6) and found[0, 0] == pytest.approx(6)
    assert np.isnan(found[20, 39])
    with pytest.raises(DataError, match="spread of 0 on cells of 10 x 10"):
        surroundings({"ndvi": values}, (10, 10), 0)
