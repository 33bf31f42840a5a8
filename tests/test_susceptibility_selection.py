"""Collinearity, ChiMerge and gain against published values and definitions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.metrics import mutual_info_score

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


# O. D. Duncan 1961: income, education and type (professional, white or blue collar) of 45
# occupations, as the R package carData brings them.
DUNCAN = np.array([
    [62, 86, 0], [72, 76, 0], [75, 92, 0], [55, 90, 0], [64, 86, 0], [21, 84, 0], [64, 93, 0],
    [80, 100, 0], [67, 87, 1], [72, 86, 0], [42, 74, 0], [76, 98, 0], [76, 97, 0], [41, 84, 0],
    [48, 91, 0], [76, 34, 1], [53, 45, 0], [60, 56, 0], [42, 44, 0], [78, 82, 0], [29, 72, 1],
    [48, 55, 1], [55, 71, 1], [29, 50, 1], [21, 23, 2], [47, 39, 2], [81, 28, 2], [36, 32, 2],
    [22, 22, 2], [44, 25, 2], [15, 29, 2], [7, 7, 2], [42, 26, 2], [9, 19, 2], [21, 15, 2],
    [21, 20, 2], [16, 26, 2], [16, 28, 2], [9, 17, 2], [14, 22, 2], [12, 30, 2], [17, 25, 2],
    [7, 20, 2], [34, 47, 2], [8, 32, 2],
])  # fmt: skip


def test_generalised_inflation_of_duncans_data_as_r_prints_it() -> None:
    "The example of R's car::vif: GVIF 2.209178, 5.297584 and 5.098592; df 1, 1 and 2."
    one_hot = DUNCAN[:, 2:] == np.arange(3)
    x = np.column_stack([DUNCAN[:, :2], one_hot]).astype(float)
    found = selection.generalised_inflation(x, [[0], [1], [2, 3, 4]])
    np.testing.assert_allclose(found.generalised, [2.209178, 5.297584, 5.098592], atol=5e-7)
    assert found.df.tolist() == [1, 1, 2]
    np.testing.assert_allclose(found.comparable**0.5, [1.486330, 2.301648, 1.502666], atol=5e-7)
    # Whichever class is left out, and with income and education alone.
    for left_out in (2, 3, 4):
        less = np.delete(x, left_out, axis=1)
        again = selection.generalised_inflation(less, [[0], [1], [2, 3]])
        np.testing.assert_allclose(again.generalised, found.generalised, rtol=1e-10)
    np.testing.assert_allclose(selection.variance_inflation_factors(x[:, :2]), 2.1049, atol=5e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 3), min_size=2, max_size=4))
def test_generalised_inflation_is_that_of_determinants(seed: int, sizes: list[int]) -> None:
    "Fox and Monette: det(R11) det(R22) / det(R), and the VIF where factors have one column."
    dice = np.random.default_rng(seed)
    count = sum(sizes)
    x = dice.normal(size=(80, count)) @ dice.normal(size=(count, count)) * 100
    x += dice.normal(size=(80, count))
    order = dice.permutation(count)
    ends = np.cumsum(sizes)
    groups = [order[end - size : end].tolist() for end, size in zip(ends, sizes, strict=True)]
    r = np.corrcoef(x, rowvar=False).reshape(count, count)
    found = selection.generalised_inflation(x, groups)
    for group, value in zip(groups, found.generalised, strict=True):
        rest = [c for c in range(count) if c not in group]
        dets = [np.linalg.det(r[np.ix_(part, part)]) for part in (group, rest)]
        assert value == pytest.approx(dets[0] * dets[1] / np.linalg.det(r), rel=1e-5)
    alone = selection.generalised_inflation(x)
    np.testing.assert_allclose(alone.comparable, selection.variance_inflation_factors(x), rtol=1e-8)


def test_inflation_does_not_depend_on_where_north_is() -> None:
    "Sine and cosine of aspect turned by any angle; their columns one by one do depend on it."
    dice = np.random.default_rng(7)
    angle = dice.vonmises(1.0, 1.0, 300)
    slope = np.cos(angle - 0.5) + 0.4 * dice.normal(size=300)
    found = []
    for turn in (0.0, 0.9):
        x = np.column_stack([np.sin(angle + turn), np.cos(angle + turn), slope])
        found.append(selection.generalised_inflation(x, [[0, 1], [2]]).generalised)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10)


def test_nearly_collinear_columns_keep_their_digits() -> None:
    "VIF of 1e10 from a difference of one part in 1e5, far from 0, against long arithmetic."
    dice = np.random.default_rng(8)
    base = dice.integers(-1000, 1000, 400)
    small = dice.integers(-10, 11, 400)
    x = np.column_stack([base * 1000 + 10**7, base * 1000 + small, dice.integers(0, 9, 400)])
    rows = [[int(v) for v in row] for row in x]
    means = [Fraction(sum(column), 400) for column in zip(*rows, strict=True)]
    cov = [
        [sum((r[i] - means[i]) * (r[j] - means[j]) for r in rows) for j in range(3)]
        for i in range(3)
    ]
    inverse = _inverse(cov)
    exact = [float(cov[k][k] * inverse[k][k]) for k in range(3)]
    assert exact[0] > 1e9
    found = selection.variance_inflation_factors(x.astype(float))
    np.testing.assert_allclose(found, exact, rtol=1e-8)
    np.testing.assert_allclose(
        selection.generalised_inflation(x.astype(float)).generalised, exact, rtol=1e-8
    )


def test_perfect_collinearity_is_named_with_the_factors_involved() -> None:
    dice = np.random.default_rng(9)
    x = dice.normal(size=(60, 4))
    glacier = (x[:, 3] > 0).astype(float)
    x = np.column_stack([x, 3 - x[:, 0] + 0.5 * x[:, 2], glacier, 1 - glacier, 1 - glacier])
    groups = [[0], [1], [2], [3], [4], [5, 6], [7]]
    found = selection.generalised_inflation(x, groups)
    assert np.isinf(found.generalised).tolist() == [1, 0, 1, 0, 1, 1, 1]
    assert found.df.tolist() == [1] * 7
    assert selection.exact_sums(x, groups) == ((0, 2, 4), (5, 6))
    # The columns of one factor that add up to one are no collinearity between factors.
    assert selection.exact_sums(x[:, :7], groups[:6]) == ((0, 2, 4),)
    names = ["elevation", "slope", "LST", "TPI", "mix", "glacier", "ice"]
    worth = [0.3, 0.2, 0.1, 0.2, 0.2, 0.05, 0.01]
    kept = selection.inflation_drop(x, names, worth=worth, groups=groups)
    # Of those that are as bad the least informative goes, one after another.
    assert [(d.name, d.because_of) for d in kept.dropped] == [
        ("ice", ("glacier",)), ("LST", ("elevation", "mix")),
    ]  # fmt: skip
    assert kept.columns == (0, 1, 3, 4, 5, 6)
    assert all(np.isinf(d.value) and d.rule == "vif" for d in kept.dropped)


def test_sums_in_single_precision_are_exact_to_its_digits() -> None:
    "Rasters hold float32: the height in feet repeats that in metres but for rounding."
    metres = np.random.default_rng(10).normal(4000, 30, 500)
    x = np.column_stack([metres, metres * 3.28084, np.sin(metres)]).astype(np.float32)
    assert np.isinf(selection.variance_inflation_factors(x)).tolist() == [True, True, False]
    assert selection.exact_sums(x) == ((0, 1),)
    noisy = x[:, 1] + np.random.default_rng(11).normal(0, 0.1, 500).astype(np.float32)
    apart = selection.variance_inflation_factors(np.column_stack([x[:, 0], noisy]))
    np.testing.assert_allclose(apart, 98.4**2 / 0.1**2, rtol=0.2)


def test_one_factor_is_dropped_at_a_time() -> None:
    "Two mixed from the same two: without one of them all the others are below the limit."
    dice = np.random.default_rng(12)
    x = dice.normal(size=(500, 3))
    x = np.column_stack([x, x[:, 0] + x[:, 1] + 0.1 * dice.normal(size=500)])
    assert (selection.variance_inflation_factors(x)[[0, 1, 3]] > 10).all()
    kept = selection.inflation_drop(x, list("abcd"))
    assert [d.name for d in kept.dropped] == ["d"] and kept.names == ("a", "b", "c")
    assert kept.dropped[0].value == pytest.approx(selection.variance_inflation_factors(x)[3])
    assert selection.inflation_drop(x, list("abcd"), limit=1e6).dropped == ()


@pytest.mark.parametrize(
    ("groups", "worth", "words"),
    [
        ([[0], [1]], None, r"groups \[\[0\], \[1\]\] do not share out 3 columns"),
        ([[0, 1, 2], []], None, "do not share out 3 columns"),
        (None, [1, 2], "worth of 2 factors was given for 3"),
        (None, [1, 2, np.nan], "worth of 3 factors was given for 3"),
        ([[0, 1], [2]], None, "There are 3 names for 2 factors"),
    ],
)
def test_groups_and_worth_that_do_not_fit_are_refused(
    groups: list, worth: list, words: str
) -> None:  # type: ignore[type-arg]
    x = np.random.default_rng(0).normal(size=(9, 3))
    with pytest.raises(DataError, match=words):
        selection.inflation_drop(x, list("abc"), groups=groups, worth=worth)


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


def test_of_two_alike_the_less_informative_goes_as_in_zhang() -> None:
    "Slope and TRI 0.90, profile curvature and TPI 0.72, shares -0.94; the published three go."
    names = ["slope", "TRI", "profile", "TPI", "linear", "nonlinear"]
    want = np.eye(6)
    for i, j, r in ((0, 1, 0.90), (2, 3, 0.72), (4, 5, -0.94)):
        want[i, j] = want[j, i] = r
    dice = np.random.default_rng(13)
    z, _ = np.linalg.qr(dice.normal(size=(300, 7)) - np.eye(300, 7))
    z = z - z.mean(axis=0)
    z = z[:, :6] @ np.linalg.inv(np.linalg.cholesky(np.cov(z[:, :6], rowvar=False)).T)
    x = z @ np.linalg.cholesky(want).T
    # Ratios of figure 14 for those that stay; the others less.
    worth = [0.0678, 0.05, 0.04, 0.03, 0.06, 0.0689]
    found = selection.pearson_drop(x, names, 0.7, worth=worth)
    assert found.names == ("slope", "profile", "nonlinear")
    assert [(d.name, *d.because_of) for d in found.dropped] == [
        ("linear", "nonlinear"), ("TRI", "slope"), ("TPI", "profile"),
    ]  # fmt: skip
    np.testing.assert_allclose([d.value for d in found.dropped], [0.94, 0.90, 0.72])


def test_a_pair_of_columns_goes_as_one_factor() -> None:
    dice = np.random.default_rng(14)
    x = dice.normal(size=(200, 2))
    x = np.column_stack([x, x[:, 1] + 0.1 * dice.normal(size=200)])
    r = np.abs(np.corrcoef(x, rowvar=False))
    alike = selection.correlations(x, [[0, 1], [2]])
    assert r[1, 2] > r[0, 2]
    np.testing.assert_allclose(alike, [[1, r[1, 2]], [r[1, 2], 1]])
    kept = selection.pearson_drop(x, ["aspect", "wet"], groups=[[0, 1], [2]], worth=[0.1, 0.2])
    assert kept.names == ("wet",) and kept.columns == (2,)


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


@pytest.mark.parametrize(
    ("alpha", "counts"),
    [
        (0.5, [(16, 0, 0), (4, 1, 1), (25, 5, 0), (2, 5, 0), (0, 5, 1), (2, 5, 1), (1, 3, 3),
               (0, 12, 7), (0, 6, 15), (0, 2, 0), (0, 5, 10), (0, 1, 0), (0, 0, 12)]),
        (0.1, [(45, 6, 1), (4, 15, 2), (1, 15, 10), (0, 14, 25), (0, 0, 12)]),
    ],
    ids=["chi-square 1.4", "chi-square 4.6"],
)  # fmt: skip
def test_chimerge_of_iris_as_kerber_published(
    alpha: float, counts: list[tuple[int, int, int]]
) -> None:
    "Kerber 1992: the two tables of sepal length, at the significance levels 0.50 and 0.90."
    x, y = load_iris(return_X_y=True)
    cuts = selection.chimerge(x[:, 0], y, 100, alpha, floor=selection.FLOOR)
    codes = selection.discretise(x[:, 0], cuts)
    found = [tuple(np.bincount(y[codes == k], minlength=3)) for k in range(len(cuts) + 1)]
    assert found == counts


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


def test_chimerge_of_many_values_starts_from_groups() -> None:
    "Two steps in 50,000 values, to a thousandth of the samples; ties stay together"
    dice = np.random.default_rng(15)
    x = dice.uniform(0, 1, 50_000)
    y = (dice.random(50_000) < np.where(x < 0.3, 0.1, np.where(x < 0.8, 0.5, 0.2))).astype(int)
    # Groups of fifty: almost no chance of a third cut by noise.
    found = selection.chimerge(x, y, alpha=1e-6, start=1000)
    np.testing.assert_allclose(found, [0.3, 0.8], atol=3e-3)
    tied = np.where(x < 0.5, 0.25, x)
    codes = selection.discretise(tied, selection.chimerge(tied, y, alpha=1e-6, start=20))
    assert np.unique(codes[tied == 0.25]).size == 1
    # No more distinct values than groups: those of the definition, also by default.
    few = np.round(x, 3)
    exact = selection.chimerge(few, y, start=None)
    assert np.unique(few).size > 900
    assert exact == selection.chimerge(few, y, start=1001) == selection.chimerge(few, y)
    assert exact != selection.chimerge(few, y, start=50)


def test_chimerge_leaves_nothing_between_neighbouring_numbers() -> None:
    low = 1.0
    high = np.nextafter(low, 2)
    x, y = [low] * 9 + [high] * 9, [0] * 9 + [1] * 9
    cuts = selection.chimerge(x, y)
    assert cuts == (low,) and selection.discretise(x, cuts).tolist() == y
    largest = np.finfo(float).max
    assert np.isfinite(selection.chimerge([largest / 2] * 9 + [largest] * 9, y)).all()
    assert selection.chimerge([5.0] * 18, y) == ()


def test_one_sample_beside_very_many_of_its_class_is_no_interval() -> None:
    "Adding 0.0001 to every count, as R's package does, would tell them apart at any level."
    x = np.r_[0.0, np.ones(1_000_000), np.full(1000, 2.0)]
    y = np.r_[np.zeros(1_000_001), np.ones(1000)]
    assert selection.chimerge(x, y) == (1.5,)
    rows = np.array([[1, 0], [1_000_000, 0]]) + 1e-4
    assert stats.chi2_contingency(rows, correction=False).statistic > 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, np.nan], [0, 1]), "1 of 2 values are not finite"),
        (([1.0, 2.0], [0]), "2 values for 1 labels"),
        (([], []), "0 values for 0 labels"),
        (([1.0, 2.0], [1, 1]), "All 2 samples are of the class 1"),
        (([1.0, 2.0], [0, 1], 0), "max_intervals=0"),
        (([1.0, 2.0], [0, 1], 8, 1.0), "alpha=1"),
    ],
)
def test_what_has_no_intervals_is_refused(arguments: tuple, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(DataError, match=words):
        selection.chimerge(*arguments)


# J. R. Quinlan 1986, table 1.
WEATHER = {
    "outlook": "ssorrrossrsoor", "temperature": "hhhmcccmcmmmhm", "humidity": "hhhhnnnhnnnhnh",
    "windy": "ftfffttfffttft",
}  # fmt: skip
PLAY = [*"nnyyynynyyyyyn"]


def test_gains_of_quinlans_weather_as_weka_prints_them() -> None:
    "InfoGainAttributeEval and GainRatioAttributeEval of weather.nominal; Quinlan: 0.247 / 1.577."
    assert selection.entropy(PLAY) == pytest.approx(0.9403, abs=5e-5)
    assert selection.entropy([*WEATHER["outlook"]]) == pytest.approx(1.5774, abs=5e-5)
    published = {
        "outlook": (0.2467, 0.1564), "temperature": (0.0292, 0.0188),
        "humidity": (0.1518, 0.1518), "windy": (0.0481, 0.0488),
    }  # fmt: skip
    for name, (gain, ratio) in published.items():
        codes = [*WEATHER[name]]
        assert selection.information_gain(codes, PLAY) == pytest.approx(gain, abs=5e-5)
        assert selection.information_gain_ratio(codes, PLAY) == pytest.approx(ratio, abs=5e-5)
    assert selection.information_gain_ratio([1] * 14, PLAY) == 0
    with pytest.raises(DataError, match="3 codes for 14 labels"):
        selection.information_gain_ratio([1, 2, 3], PLAY)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=50))
def test_gain_ratio_is_mutual_information_over_entropy(pairs: list[tuple[int, bool]]) -> None:
    "Against scikit-learn's mutual information, for any codes, also negative, as floats and words"
    codes, y = (list(column) for column in zip(*pairs, strict=True))
    split = stats.entropy(np.unique(codes, return_counts=True)[1], base=2)
    expected = mutual_info_score(codes, y) / np.log(2) / split if split > 0 else 0.0
    for same in (codes, [float(c) for c in codes], [str(c) for c in codes]):
        assert selection.information_gain_ratio(same, y) == pytest.approx(expected, abs=1e-12)
