"""Natural breaks: published limits, every partition tried, and the plain dynamic programme."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thawslump.errors import DataError
from trainer.susceptibility import analysis, breaks
from trainer.susceptibility.breaks import Breaks, breaks_of, natural_breaks

# Jenks and Caspall 1971: gross value of farm products per acre, counties of Illinois, as the R
# package classInt brings them (`jenks71`).
JENKS71 = [
    50.12, 83.9, 76.43, 71.61, 79.66, 84.84, 87.87, 92.45, 119.9, 155.3, 131.5, 111.8, 96.78,
    86.75, 62.41, 96.37, 75.51, 77.29, 85.41, 116.4, 58.5, 75.29, 66.32, 62.65, 80.45, 72.76,
    63.67, 60.27, 68.45, 100.1, 55.3, 54.07, 57.49, 73.52, 68.25, 64.28, 50.64, 52.47, 68.19,
    57.4, 39.72, 60.66, 57.59, 38.22, 57.22, 67.04, 47.29, 71.05, 50.53, 34.63, 59.65, 62.06,
    52.89, 56.35, 57.26, 53.77, 59.89, 55.44, 45.4, 52.21, 49.38, 51.15, 54.27, 54.32, 41.2,
    34.58, 50.11, 52.05, 33.82, 39.88, 36.24, 41.02, 46.13, 51.15, 32.28, 33.26, 31.78, 31.28,
    50.52, 47.21, 32.69, 38.3, 33.83, 40.3, 40.62, 32.14, 31.66, 26.09, 39.84, 24.83, 28.2,
    31.19, 37.57, 27.16, 23.42, 18.57, 30.97, 17.82, 15.57, 15.93, 28.71, 32.22,
]  # fmt: skip
# Density of employment in California, 58 counties, as mapclassify brings it.
EMPLOYMENT = [
    329.92, 0.42, 5.9, 14.03, 2.78, 1.34, 181.27, 1.65, 10.03, 16.7, 1.32, 3.99, 3.16, 0.22, 8.7,
    6.56, 3.27, 0.33, 370.5, 4.51, 75.29, 0.99, 2.74, 8.68, 0.14, 0.92, 12.63, 28.7, 12.02,
    722.85, 36.68, 0.74, 29.82, 192.05, 3.38, 11.15, 110.74, 4111.45, 49.47, 10.33, 317.11, 20.47,
    264.93, 66.26, 5.39, 0.13, 0.61, 50.65, 40.48, 36.67, 13.09, 1.81, 0.2, 7.6, 2.51, 57.26,
    24.32, 6.97,
]  # fmt: skip


def test_limits_of_illinois_as_r_prints_them() -> None:
    "classIntervals(jenks71, 5, style = 'jenks'): 41.2, 60.66, 77.29, 100.1, 155.3."
    assert analysis.natural_breaks(JENKS71, 5) == (41.2, 60.66, 77.29, 100.1, 155.3)


def test_limits_of_california_as_mapclassify_prints_them() -> None:
    "FisherJenks(load_example()): bins and counts of its documentation."
    found = breaks_of(EMPLOYMENT, 5)
    assert found.upper == (75.29, 192.05, 370.5, 722.85, 4111.45)
    counts = np.bincount(np.searchsorted(found.upper, EMPLOYMENT))
    assert counts.tolist() == [49, 3, 4, 1, 1]


def within(values: np.ndarray, weights: np.ndarray, upper: tuple[float, ...]) -> float:
    """Sum of squared deviations within the classes."""
    classes = np.searchsorted(upper[:-1], values)
    total = 0.0
    for number in range(len(upper)):
        inside = (classes == number) & (weights > 0)
        if inside.any():
            mean = np.average(values[inside], weights=weights[inside])
            total += float((weights[inside] * (values[inside] - mean) ** 2).sum())
    return total


def brute_force(values: np.ndarray, weights: np.ndarray, classes: int) -> float:
    """Least sum over every way to cut the values."""
    values, weights = values[weights > 0], weights[weights > 0]
    classes = min(classes, values.size)
    return min(
        within(values, weights, (*values[list(cuts)], values[-1]))
        for cuts in itertools.combinations(range(values.size - 1), classes - 1)
    )


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-50, 50), min_size=1, max_size=9, unique=True),
    weights=arrays(np.float64, 9, elements=st.integers(0, 5)),
    classes=st.integers(1, 5),
)
def test_natural_breaks_are_the_best_of_all(
    values: list[int], weights: np.ndarray, classes: int
) -> None:
    "Every way to cut the values is tried; none has less variance within its classes"
    ordered = np.sort(np.array(values, float))
    weights = weights[: ordered.size]
    weights[0] = 1
    found = natural_breaks(ordered, weights, classes)
    best = brute_force(ordered, weights, classes)
    assert within(ordered, weights, found.upper) == pytest.approx(best, abs=1e-6)
    spread = within(ordered, weights, (ordered[-1],))
    assert found.fit == pytest.approx(1.0 if spread == 0 else 1 - best / spread)


def test_natural_breaks_do_not_depend_on_units() -> None:
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(size=200))
    one = natural_breaks(values, np.ones(200), 5)
    other = natural_breaks(values * 1000 + 7, np.ones(200), 5)
    assert np.allclose(np.array(one.upper) * 1000 + 7, other.upper)
    assert one.fit == pytest.approx(other.fit)


def test_natural_breaks_find_separate_groups() -> None:
    values = np.concatenate([np.linspace(c, c + 0.02, 20) for c in (0.1, 0.3, 0.5, 0.7, 0.9)])
    found = natural_breaks(values, np.ones(100), 5)
    assert found.upper == pytest.approx((0.12, 0.32, 0.52, 0.72, 0.92))
    assert found.fit > 0.999


def test_natural_breaks_of_a_full_histogram_are_quick() -> None:
    "10,001 steps, as the maps hold, in far less than a second"
    weights = np.random.default_rng(1).integers(1, 1000, 10_001).astype(float)
    begun = time.perf_counter()
    found = natural_breaks(np.linspace(0, 1, 10_001), weights, 5)
    assert time.perf_counter() - begun < 2
    assert len(found.upper) == 5 and found.upper[-1] == 1.0


def test_fewer_values_than_classes_make_fewer_classes() -> None:
    assert natural_breaks(np.array([1.0, 2.0]), np.ones(2), 5) == Breaks((1.0, 2.0), 1.0)


def test_natural_breaks_of_nothing_and_of_disorder_are_refused() -> None:
    with pytest.raises(DataError, match="no value"):
        natural_breaks(np.array([1.0]), np.zeros(1), 5)
    with pytest.raises(DataError, match="do not ascend"):
        natural_breaks(np.array([2.0, 1.0]), np.ones(2), 5)


def plain(values: np.ndarray, weights: np.ndarray, classes: int) -> tuple[float, tuple[float, ...]]:
    """Fisher's recursion as it is written: every start of every class, O(k n^2)."""
    mass, mean = np.cumsum(weights), np.average(values, weights=weights)
    first, second = np.cumsum(weights * (values - mean)), np.cumsum(weights * (values - mean) ** 2)

    def cost(i: int, j: int) -> float:
        w, a, b = (s[j] - (s[i - 1] if i else 0.0) for s in (mass, first, second))
        return float(b - a * a / w)

    n = values.size
    best = [[cost(0, j) for j in range(n)]]
    cuts = [[0] * n]
    for k in range(1, classes):
        row, cut = [np.inf] * n, [0] * n
        for j in range(k, n):
            for i in range(k, j + 1):
                total = best[k - 1][i - 1] + cost(i, j)
                if total < row[j]:
                    row[j], cut[j] = total, i
        best.append(row)
        cuts.append(cut)
    upper, j = [], n - 1
    for k in range(classes - 1, -1, -1):
        upper.append(float(values[j]))
        j = cuts[k][j] - 1
    return best[-1][-1], tuple(reversed(upper))


@pytest.mark.parametrize("seed", range(4))
def test_from_coarse_to_fine_finds_what_the_plain_recursion_finds(seed: int) -> None:
    dice = np.random.default_rng(seed)
    values = np.unique(dice.gamma(1.5, size=150 + seed))
    weights = dice.integers(1, 9, values.size).astype(float)
    for classes in (2, 5, 7):
        total, upper = plain(values, weights, classes)
        found = natural_breaks(values, weights, classes)
        np.testing.assert_allclose(found.upper, upper, atol=1e-12)
        assert within(values, weights, found.upper) == pytest.approx(total, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-9, 9), st.just(float("nan"))), min_size=1, max_size=60),
    st.integers(1, 6),
)
def test_ties_and_missing_values(raw: list[float], classes: int) -> None:
    "Many equal values weigh as often as they occur; missing ones do not."
    flat = np.array(raw, float)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        with pytest.raises(DataError, match="no finite value"):
            breaks_of(raw, classes)
        return
    values, counts = np.unique(flat, return_counts=True)
    assert breaks_of(raw, classes) == natural_breaks(values, counts, classes)


def test_beyond_the_exact_ones_limits_lie_on_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    "Far off by less than a step, and the variance within is not worse than a step allows."
    dice = np.random.default_rng(3)
    values = dice.gamma(2.0, size=9000)
    exact = breaks_of(values, 4)
    monkeypatch.setattr(breaks, "LEVELS", 300)
    found = breaks_of(values, 4)
    assert set(found.upper) <= set(values.tolist())
    step = np.ptp(values) / 300
    np.testing.assert_allclose(found.upper, exact.upper, atol=2 * step)
    assert exact.upper != found.upper
    assert exact.fit - 1e-4 <= found.fit <= exact.fit + 1e-12


def test_a_million_values_to_a_thousandth() -> None:
    "Values to six digits against the same to three, which are few enough to be exact"
    values = np.random.default_rng(5).beta(0.6, 2.0, 1_000_000)
    found = analysis.natural_breaks(values, 5)
    exact = analysis.natural_breaks(np.round(values, 3), 5)
    np.testing.assert_allclose(found, exact, atol=1e-3)


def test_one_value_is_one_class() -> None:
    assert breaks_of([3, 3, 3], 5) == Breaks((3.0,), 1.0)
    assert breaks_of([[1.0, 2.0], [2.0, np.inf]], 1).upper == (2.0,)
    with pytest.raises(DataError, match="0 classes were asked for"):
        analysis.natural_breaks([1, 2], 0)
