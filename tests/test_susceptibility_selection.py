"""Collinearity, ChiMerge, gain and frequency ratios against published values and definitions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_iris

from thawslump.errors import DataError
from trainer.susceptibility import selection

# J. W. Longley, Journal of the American Statistical Association 62, 1967: GNP deflator, GNP,
# unemployed, armed forces, population, year.
LONGLEY = np.array([
    [83.0, 234.289, 235.6, 159.0, 107.608, 1947], [88.5, 259.426, 232.5, 145.6, 108.632, 1948],
    [88.2, 258.054, 368.2, 161.6, 109.773, 1949], [89.5, 284.599, 335.1, 165.0, 110.929, 1950],
    [96.2, 328.975, 209.9, 309.9, 112.075, 1951], [98.1, 346.999, 193.2, 359.4, 113.270, 1952],
    [99.0, 365.385, 187.0, 354.7, 115.094, 1953], [100.0, 363.112, 357.8, 335.0, 116.219, 1954],
    [101.2, 397.469, 290.4, 304.8, 117.388, 1955], [104.6, 419.180, 282.2, 285.7, 118.734, 1956],
    [108.4, 442.769, 293.6, 279.8, 120.445, 1957], [110.8, 444.546, 468.1, 263.7, 121.950, 1958],
    [112.6, 482.704, 381.3, 255.2, 123.366, 1959], [114.2, 502.601, 393.1, 251.4, 125.368, 1960],
    [115.7, 518.173, 480.6, 257.2, 127.852, 1961], [116.9, 554.894, 400.7, 282.7, 130.081, 1962],
])  # fmt: skip


def test_vif_of_longleys_data_as_published() -> None:
    "The textbook case of collinearity: 135.5, 1788.5, 33.6, 3.6, 399.2, 759.0."
    found = selection.variance_inflation_factors(LONGLEY)
    published = [135.53, 1788.51, 33.62, 3.59, 399.15, 758.98]
    np.testing.assert_allclose(found, published, atol=0.006)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_vif_is_that_of_regressions(seed: int, factors: int) -> None:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(60, factors)) @ dice.normal(size=(factors, factors))
    x = x * 10.0 ** dice.integers(-3, 4, factors) + dice.normal(size=factors) * 10
    # Scaled columns: least squares on the others, as the definition says.
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = []
    for j in range(factors):
        rest = np.delete(z, j, axis=1)
        error = z[:, j] - rest @ np.linalg.lstsq(rest, z[:, j], rcond=None)[0]
        expected.append(1 / np.mean(error**2))
    found = selection.variance_inflation_factors(x)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(selection.tolerances(x) * found, 1)


def test_vif_to_eight_digits_of_exact_arithmetic() -> None:
    dice = np.random.default_rng(4)
    x = dice.integers(-50, 50, (40, 4))
    x[:, 3] += x[:, 0] * 3
    rows = [[Fraction(int(v)) for v in row] for row in x]
    means = [sum(column) / 40 for column in zip(*rows, strict=True)]
    cov = [
        [sum((r[i] - means[i]) * (r[j] - means[j]) for r in rows) for j in range(4)]
        for i in range(4)
    ]
    inverse = _inverse(cov)
    exact = [float(cov[k][k] * inverse[k][k]) for k in range(4)]
    np.testing.assert_allclose(selection.variance_inflation_factors(x), exact, rtol=1e-12)


def _inverse(matrix: list) -> list:  # type: ignore[type-arg]
    n = len(matrix)
    rows = [[*row, *(Fraction(int(i == k)) for k in range(n))] for i, row in enumerate(matrix)]
    for k in range(n):
        pivot = rows[k][k]
        rows[k] = [v / pivot for v in rows[k]]
        for i in range(n):
            if i != k:
                factor = rows[i][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[n:] for row in rows]


def test_a_sum_of_others_has_no_finite_vif() -> None:
    dice = np.random.default_rng(1)
    x = dice.normal(size=(50, 3))
    x = np.column_stack([x, x[:, 0] + x[:, 1]])
    found = selection.variance_inflation_factors(x)
    assert np.isinf(found[[0, 1, 3]]).all() and 1 <= found[2] < 2
    assert selection.tolerances(x)[0] == 0


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones(5), r"shape \(5,\); expected \(samples, factors\)"),
        (np.ones((3, 4)), "3 samples cannot tell 4 factors apart"),
        (np.column_stack([np.arange(9), np.full(9, 2.0)]), "Column 1 is 2 everywhere"),
        (np.array([[1, np.nan], [2, 3], [3, 4.0]]), "Column 1 holds values that are not finite"),
    ],
)
def test_what_has_no_vif_is_refused(x: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        selection.variance_inflation_factors(x)


def test_pearson_drops_what_says_the_same() -> None:
    dice = np.random.default_rng(2)
    slope = dice.normal(size=400)
    x = np.column_stack([
        slope, slope + 0.1 * dice.normal(size=400), dice.normal(size=400),
        -slope + 0.3 * dice.normal(size=400),
    ])  # fmt: skip
    found = selection.pearson_drop(x, ["slope", "TRI", "TPI", "wet"], 0.7)
    assert len(found.names) == 2 and "TPI" in found.names
    left = np.abs(np.corrcoef(x[:, found.columns], rowvar=False)[0, 1])
    assert left <= 0.7
    assert {d.name for d in found.dropped} | set(found.names) == {"slope", "TRI", "TPI", "wet"}
    assert all(d.value > 0.7 and d.rule == "pearson" for d in found.dropped)
    with pytest.raises(DataError, match="2 names for 4 columns"):
        selection.pearson_drop(x, ["a", "b"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.95))
def test_what_stays_is_below_the_threshold(seed: int, threshold: float) -> None:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(80, 5)) @ dice.normal(size=(5, 5))
    found = selection.pearson_drop(x, list("abcde"), threshold)
    assert found.names
    if len(found.names) > 1:
        r = np.corrcoef(x[:, found.columns], rowvar=False)
        assert np.abs(r - np.eye(len(r))).max() <= threshold + 1e-12


def test_chimerge_of_iris_as_published() -> None:
    "Cut points that R's package discretization prints for its example, chiM(iris, alpha = 0.05)."
    x, y = load_iris(return_X_y=True)
    published = [(5.45, 5.75, 7.05), (2.95, 3.35), (2.45, 4.75, 5.15), (0.80, 1.75)]
    for column, cuts in enumerate(published):
        found = selection.chimerge(x[:, column], y, max_intervals=100)
        np.testing.assert_allclose(found, cuts, atol=1e-9)


def slow_chimerge(
    x: np.ndarray, y: np.ndarray, most: int, alpha: float, floor: float = 0.0
) -> list[float]:
    """Kerber's rules on lists of samples, every table made anew, in fractions: ties are exact."""
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    parts = [[v] for v in sorted({v for v, _ in pairs})]
    kinds = sorted({k for _, k in pairs})

    def statistic(a: list[float], b: list[float]) -> Fraction:
        rows = [
            [sum(v in part and k == kind for v, k in pairs) for kind in kinds] for part in (a, b)
        ]
        total = Fraction(0)
        for row in rows:
            for j in range(len(kinds)):
                expected = Fraction(sum(row) * sum(r[j] for r in rows), sum(map(sum, rows)))
                least = max(expected, Fraction(floor))
                total += (row[j] - expected) ** 2 / least if least else 0
        return total

    limit = stats.chi2.isf(alpha, len(kinds) - 1)
    while len(parts) > 1:
        values = [statistic(a, b) for a, b in itertools.pairwise(parts)]
        k = values.index(min(values))
        if values[k] > limit and len(parts) <= most:
            break
        parts[k : k + 2] = [parts[k] + parts[k + 1]]
    return [(a[-1] + b[0]) / 2 for a, b in itertools.pairwise(parts)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=4, max_size=40),
    st.integers(1, 6),
    st.sampled_from([0.01, 0.05, 0.3]),
    st.sampled_from([0.0, 0.5]),
)
def test_chimerge_is_that_of_its_definition(
    samples: list[tuple[int, int]], most: int, alpha: float, floor: float
) -> None:
    x, y = (np.array(column, float) for column in zip(*samples, strict=True))
    if np.unique(y).size < 2:
        with pytest.raises(DataError, match="are of the class"):
            selection.chimerge(x, y, most, alpha)
        return
    found = selection.chimerge(x, y, most, alpha, floor=floor)
    assert list(found) == slow_chimerge(x, y, most, alpha, floor)
    assert len(found) < most + 1
    assert set(selection.discretise(x, found)) <= set(range(len(found) + 1))


def test_gain_ratio_of_quinlans_weather() -> None:
    "J. R. Quinlan 1986, table 1: gains 0.246, 0.151, 0.048; ratios as WEKA gives them."
    outlook, humid, windy = list("ssorrrossrsoor"), list("hhhhnnnhnnnhnh"), list("ftfffttfffttft")
    play = [*"nnyyynynyyyyyn"]
    assert selection.entropy(play) == pytest.approx(0.940, abs=5e-4)
    for codes, ratio in ((outlook, 0.156), (humid, 0.152), (windy, 0.049)):
        assert selection.information_gain_ratio(codes, play) == pytest.approx(ratio, abs=1e-3)
    assert selection.information_gain_ratio([1] * 14, play) == 0
