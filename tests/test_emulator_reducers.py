"""Reducers over lists, tables, arrays, image collections and regions, against numpy and scipy.

[A]: the description of the function in the installed client's list, ee/tests/algorithms.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native
from numpy.typing import NDArray
from scipy import optimize, stats

from gee.emulator.errors import EngineError
from gee.emulator.signatures import signatures

SIDE = 5
COUNT = 9
RNG = np.random.default_rng(7)
X = RNG.normal(0, 1, (COUNT, SIDE, SIDE)).round(2)
Y = (0.5 * X + RNG.normal(0, 0.6, X.shape)).round(2)
K = RNG.integers(0, 4, X.shape)
VALID = RNG.random(X.shape) > 0.3
VALID[:, 0, 0] = True

Array = NDArray[Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("reducers")) as found:
        for name, mask in (("full", None), ("holes", VALID)):
            found.catalog.put_collection(f"T/{name}")
            for n in range(COUNT):
                own = None if mask is None else mask[n]
                found.put(
                    f"T/{name}/{n}",
                    band("x", X[n], own),
                    band("y", Y[n], own),
                    band("k", K[n].astype(np.uint8), own),
                    start=n,
                )
        yield found


def circular(values: Array) -> complex:
    return complex(np.exp(1j * values).mean())


def runs(values: Array) -> int:
    return 1 + int((np.diff(values) != 0).sum())


# Reducers of one input: what makes them, and what their outputs must be for some values.
ONE: dict[str, tuple[Callable[[], Any], Callable[[Array], list[Any]]]] = {
    "mean": (lambda: ee.Reducer.mean(), lambda v: [v.mean()]),
    "sum": (lambda: ee.Reducer.sum(), lambda v: [v.sum()]),
    "product": (lambda: ee.Reducer.product(), lambda v: [v.prod()]),
    "count": (lambda: ee.Reducer.count(), lambda v: [len(v)]),
    "countEvery": (lambda: ee.Reducer.countEvery(), lambda v: [len(v)]),
    "countDistinct": (lambda: ee.Reducer.countDistinct(), lambda v: [len(set(v))]),
    "countDistinctNonNull": (
        lambda: ee.Reducer.countDistinctNonNull(),
        lambda v: [len(set(v))],
    ),
    "countRuns": (lambda: ee.Reducer.countRuns(), lambda v: [runs(v)]),
    "min": (lambda: ee.Reducer.min(), lambda v: [v.min()]),
    "max": (lambda: ee.Reducer.max(), lambda v: [v.max()]),
    "minMax": (lambda: ee.Reducer.minMax(), lambda v: [v.min(), v.max()]),
    "median": (lambda: ee.Reducer.median(), lambda v: [np.median(v)]),
    "percentile": (
        lambda: ee.Reducer.percentile([10, 62.5]),
        lambda v: list(np.percentile(v, [10, 62.5])),
    ),
    "intervalMean": (
        lambda: ee.Reducer.intervalMean(20, 80),
        lambda v: [v[(v >= np.percentile(v, 20)) & (v <= np.percentile(v, 80))].mean()],
    ),
    "stdDev": (lambda: ee.Reducer.stdDev(), lambda v: [v.std()]),
    "sampleStdDev": (lambda: ee.Reducer.sampleStdDev(), lambda v: [v.std(ddof=1)]),
    "variance": (lambda: ee.Reducer.variance(), lambda v: [v.var()]),
    "sampleVariance": (lambda: ee.Reducer.sampleVariance(), lambda v: [v.var(ddof=1)]),
    "skew": (lambda: ee.Reducer.skew(), lambda v: [stats.skew(v)]),
    "kurtosis": (lambda: ee.Reducer.kurtosis(), lambda v: [stats.kurtosis(v)]),
    "first": (lambda: ee.Reducer.first(), lambda v: [v[0]]),
    "last": (lambda: ee.Reducer.last(), lambda v: [v[-1]]),
    "firstNonNull": (lambda: ee.Reducer.firstNonNull(), lambda v: [v[0]]),
    "lastNonNull": (lambda: ee.Reducer.lastNonNull(), lambda v: [v[-1]]),
    "allNonZero": (lambda: ee.Reducer.allNonZero(), lambda v: [int((v != 0).all())]),
    "anyNonZero": (lambda: ee.Reducer.anyNonZero(), lambda v: [int((v != 0).any())]),
    "circularMean": (lambda: ee.Reducer.circularMean(), lambda v: [np.angle(circular(v))]),
    "circularVariance": (
        lambda: ee.Reducer.circularVariance(),
        lambda v: [1 - abs(circular(v))],
    ),
    "circularStddev": (lambda: ee.Reducer.circularStddev(), lambda v: [stats.circstd(v)]),
    "kendallsCorrelation": (
        lambda: ee.Reducer.kendallsCorrelation(1),
        lambda v: list(stats.kendalltau(np.arange(len(v)), v)),
    ),
}
ONE_BUT_ORDERED = {k: v for k, v in ONE.items() if "first" not in k and "last" not in k}

TWO: dict[str, tuple[Callable[[], Any], Callable[[Array, Array], list[Any]]]] = {
    "linearFit": (lambda: ee.Reducer.linearFit(), lambda x, y: list(np.polyfit(x, y, 1))),
    "pearsonsCorrelation": (
        lambda: ee.Reducer.pearsonsCorrelation(),
        lambda x, y: list(stats.pearsonr(x, y)),
    ),
    "spearmansCorrelation": (
        lambda: ee.Reducer.spearmansCorrelation(),
        lambda x, y: list(stats.spearmanr(x, y)),
    ),
    "kendallsCorrelation": (
        lambda: ee.Reducer.kendallsCorrelation(2),
        lambda x, y: list(stats.kendalltau(x, y)),
    ),
    "sensSlope": (
        lambda: ee.Reducer.sensSlope(),
        lambda x, y: [
            stats.theilslopes(y, x)[0],
            np.median(y - stats.theilslopes(y, x)[0] * x),
        ],
    ),
    "max": (lambda: ee.Reducer.max(2), lambda x, y: [x.max(), y[x.argmax()]]),
    "min": (lambda: ee.Reducer.min(2), lambda x, y: [x.min(), y[x.argmin()]]),
}
NAMES = {
    "minMax": ["min", "max"], "percentile": ["p10", "p62.5"], "intervalMean": ["mean"],
    "countDistinct": ["count"], "countDistinctNonNull": ["count"], "countRuns": ["count"],
    "countEvery": ["count"], "sampleStdDev": ["stdDev"], "sampleVariance": ["variance"],
    "firstNonNull": ["first"], "lastNonNull": ["last"], "allNonZero": ["all"],
    "anyNonZero": ["any"], "circularStddev": ["circularStdDev"],
    "kendallsCorrelation": ["tau", "p-value"], "linearFit": ["scale", "offset"],
    "pearsonsCorrelation": ["correlation", "p-value"],
    "spearmansCorrelation": ["correlation", "p-value"], "sensSlope": ["slope", "offset"],
}  # fmt: skip


def outputs(found: Any, names: list[str]) -> list[Any]:
    """Return the outputs of a list's or a table's reduction in order."""
    return [found[n] for n in names] if isinstance(found, dict) else [found]


@pytest.mark.parametrize("name", ONE)
def test_lists_and_tables(world: Earth, name: str) -> None:
    "[A]: names of the outputs; the same values from a list, a column and scipy."
    make, oracle = ONE[name]
    names = NAMES.get(name, [name])
    assert world.info(make().getOutputs()) == names
    for values in (X[:, 1, 2], K[:, 3, 3].astype(float), np.array([2.5])):
        with np.errstate(all="ignore"):
            expected = [None if math.isnan(v) else float(v) for v in oracle(values)] if (
                len(values) > 2 or name not in ("kendallsCorrelation", "sampleStdDev",
                                                "sampleVariance")
            ) else [None] * len(names)  # fmt: skip
        if name in ("skew", "kurtosis") and len(values) == 1:
            expected = [0.0]
        found = outputs(world.info(ee.List(values.tolist()).reduce(make())), names)
        assert found == pytest.approx(expected, abs=1e-9)
        table = ee.FeatureCollection([ee.Feature(None, {"v": v}) for v in values.tolist()])
        found = world.info(table.reduceColumns(make(), ["v"]))
        assert list(found) == names
        assert list(found.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", TWO)
def test_pairs(world: Earth, name: str) -> None:
    "Reducers of two inputs: rows of a list, columns of a table."
    make, oracle = TWO[name]
    x, y = X[:, 2, 2], Y[:, 2, 2]
    rows = np.stack([x, y], axis=1).tolist()
    names = NAMES.get(name, [name, f"{name}1"])
    expected = pytest.approx([float(v) for v in oracle(x, y)], abs=1e-9)
    assert world.info(make().getOutputs()) == names
    assert outputs(world.info(ee.List(rows).reduce(make())), names) == expected
    table = ee.FeatureCollection([ee.Feature(None, {"a": a, "b": b}) for a, b in rows])
    assert list(world.info(table.reduceColumns(make(), ["a", "b"])).values()) == expected


def per_pixel(world: Earth, image: ee.Image) -> dict[str, Array]:
    """Return bands as floats, NaN where masked."""
    return {
        name: np.where(mask > 0, np.asarray(data, float), np.nan)
        for name, (data, mask) in world.pixels(image, native(SIDE, SIDE)).items()
    }


@pytest.mark.parametrize("name", ONE)
def test_image_collections(world: Earth, name: str) -> None:
    "ImageCollection.reduce: valid layers only, bands named band_output ([A])."
    make, oracle = ONE[name]
    names = NAMES.get(name, [name])
    for source, mask in (("full", np.ones_like(VALID)), ("holes", VALID)):
        if source == "holes" and name in ("first", "last", "countEvery"):
            continue  # these count masked pixels; the tests below hold that
        found = per_pixel(world, ee.ImageCollection(f"T/{source}").select("x").reduce(make()))
        assert list(found) == [f"x_{n}" for n in names]
        for r, c in np.ndindex(SIDE, SIDE):
            values = X[mask[:, r, c], r, c]
            got = [found[f"x_{n}"][r, c] for n in names]
            if len(values) < 3:
                continue
            assert got == pytest.approx([float(v) for v in oracle(values)], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", TWO)
def test_image_collections_of_two_bands(world: Earth, name: str) -> None:
    "Bands are the inputs in order; outputs are bands."
    make, oracle = TWO[name]
    names = NAMES.get(name, [name, f"{name}1"])
    found = per_pixel(world, ee.ImageCollection("T/holes").select(["x", "y"]).reduce(make()))
    assert list(found) == names
    for r, c in np.ndindex(SIDE, SIDE):
        on = VALID[:, r, c]
        if on.sum() < 3:
            continue
        expected = [float(v) for v in oracle(X[on, r, c], Y[on, r, c])]
        assert [found[n][r, c] for n in names] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["kendallsCorrelation", "spearmansCorrelation"])
def test_ties_per_pixel(world: Earth, name: str) -> None:
    "Tied values, and series of more than 33, have scipy's statistics and p-values."
    make, oracle = TWO[name]
    names = NAMES[name]
    found = per_pixel(world, ee.ImageCollection("T/holes").select(["k", "y"]).reduce(make()))
    for r, c in np.ndindex(SIDE, SIDE):
        on = VALID[:, r, c]
        if on.sum() < 3 or np.ptp(K[on, r, c]) == 0:
            continue
        expected = [float(v) for v in oracle(K[on, r, c], Y[on, r, c])]
        assert [found[n][r, c] for n in names] == pytest.approx(expected, abs=1e-8)
    long = ee.ImageCollection("T/full").select("x")
    for _ in range(2):
        long = long.merge(long.map(lambda i: i.multiply(-0.7).add(0.1)))
    if name == "kendallsCorrelation":
        found = per_pixel(world, long.reduce(ee.Reducer.kendallsCorrelation(1)))
        series = X
        for _ in range(2):
            series = np.concatenate([series, series * -0.7 + 0.1])
        expected = stats.kendalltau(np.arange(len(series)), series[:, 1, 1])
        assert found["x_tau"][1, 1] == pytest.approx(expected[0])
        assert found["x_p-value"][1, 1] == pytest.approx(expected[1])


HERE = (500000.0, 6699950.0, 500050.0, 6700000.0)


def region() -> ee.Geometry:
    return ee.Geometry.Rectangle(list(HERE), "EPSG:32633", False)


@pytest.mark.parametrize("name", ONE_BUT_ORDERED)
def test_regions(world: Earth, name: str) -> None:
    "Image.reduceRegion over whole pixels: all weights are 1."
    if name in ("countRuns", "kendallsCorrelation"):
        return  # depend on the order of pixels, which is not documented
    make, oracle = ONE[name]
    names = NAMES.get(name, [name])
    image = ee.Image("T/holes/0").select("x")
    found = world.info(image.reduceRegion(make(), region(), 10))
    expected = [float(v) for v in oracle(X[0][VALID[0]])]
    keys = ["x"] if len(names) == 1 else [f"x_{n}" for n in names]
    assert [found[k] for k in keys] == pytest.approx(expected, abs=1e-9)


def test_every_reducer_of_the_list_is_there() -> None:
    "All ids of the family are registered."
    from gee.emulator.functions import load_all

    names = {n for n in signatures() if n.startswith("Reducer.")}
    assert len(names) > 60
    assert not names - load_all().keys()


def test_histograms_combine(world: Earth) -> None:
    "The histogram of two parts is that of the whole, where the buckets are the same."
    values = K[:, :, 0].ravel().tolist()
    parts = ee.List([values[:20], values[20:]]).map(
        lambda part: ee.List(part).reduce(ee.Reducer.histogram())
    )
    combiner = ee.ApiFunction("Reducer.histogramCombiner").apply({})
    whole = world.info(ee.List(values).reduce(ee.Reducer.histogram()))
    assert world.info(ee.List(parts).reduce(combiner)) == whole
    with pytest.raises(EngineError, match="must be histograms"):
        world.info(ee.List([1, 2]).reduce(combiner))


# ------------------------------------------------------------------ bits, lists, histograms


def test_bitwise_reducers(world: Earth) -> None:
    "64 bits: integers beyond 2**53 stay exact."
    big = [2**60 + 1, 2**60 + 6]
    values = ee.List([ee.Number(2**30).multiply(2**30).add(k) for k in (1, 6)])
    assert world.value(values.reduce(ee.Reducer.bitwiseOr())) == big[0] | big[1]
    assert world.value(values.reduce(ee.Reducer.bitwiseAnd())) == big[0] & big[1]
    found = per_pixel(
        world, ee.ImageCollection("T/full").select("k").reduce(ee.Reducer.bitwiseOr())
    )
    np.testing.assert_array_equal(found["k_bitwiseOr"], np.bitwise_or.reduce(K))


def test_lists_and_collections(world: Earth) -> None:
    "[A] Reducer.toList, toCollection: tuples, and inputs that may be null."
    rows = ee.FeatureCollection(
        [ee.Feature(None, {"a": 1, "b": 2}), ee.Feature(None, {"a": 3}), ee.Feature(None, {"b": 5})]
    )
    reduce = lambda reducer, names: world.info(rows.reduceColumns(reducer, names))  # noqa: E731
    assert reduce(ee.Reducer.toList(), ["a"]) == {"list": [1, 3]}
    assert reduce(ee.Reducer.toList(2), ["a", "b"]) == {"list": [[1, 2]]}
    assert reduce(ee.Reducer.toList(2, 1), ["a", "b"]) == {"list": [[1, 2], [3, None]]}
    found = reduce(ee.Reducer.toCollection(["p", "q"]), ["a", "b"])["features"]
    assert [f["properties"] for f in found["features"]] == [{"p": 1, "q": 2}]
    listed = world.pixels(
        ee.ImageCollection("T/holes").select("x").reduce(ee.Reducer.toList()), native(1, 1)
    )
    data, _ = listed["x_list"]
    np.testing.assert_allclose(data[0, 0][0], X[:, 0, 0])


def test_fixed_histograms(world: Earth) -> None:
    "[A] Reducer.fixedHistogram: N x 2 of lower edges and counts; outside [min, max) is ignored."
    values = X[:, :, 0].ravel()
    counts, edges = np.histogram(values[(values >= -1) & (values < 1)], 4, (-1, 1))
    items = ee.List(values.tolist())
    found = np.array(world.info(items.reduce(ee.Reducer.fixedHistogram(-1, 1, 4))))
    np.testing.assert_allclose(found, np.stack([edges[:-1], counts], axis=1))
    found = np.array(world.info(items.reduce(ee.Reducer.fixedHistogram(-1, 1, 4, True))))
    np.testing.assert_allclose(found[:, 1], np.cumsum(counts))
    assert world.info(ee.List([1]).reduce(ee.Reducer.fixedHistogram(0, 1, 1))) == [[0, 0]]
    image = ee.ImageCollection("T/full").select("x").reduce(ee.Reducer.fixedHistogram(-1, 1, 4))
    data, _ = world.pixels(image, native(SIDE, SIDE))["x_histogram"]
    for r, c in np.ndindex(SIDE, SIDE):
        inside = X[(X[:, r, c] >= -1) & (X[:, r, c] < 1), r, c]
        np.testing.assert_allclose(data[r, c][0][:, 1], np.histogram(inside, 4, (-1, 1))[0])


def test_two_dimensional_histograms(world: Earth) -> None:
    "[A] Reducer.fixed2DHistogram: counts, and the lower edges of both axes."
    x, y = X.ravel(), Y.ravel()
    rows = ee.List(np.stack([x, y], axis=1).tolist())
    found = world.info(rows.reduce(ee.Reducer.fixed2DHistogram(-2, 2, 4, -1, 2, 3)))
    inside = (x >= -2) & (x < 2) & (y >= -1) & (y < 2)
    counts, edges_x, edges_y = np.histogram2d(x[inside], y[inside], [4, 3], [[-2, 2], [-1, 2]])
    np.testing.assert_array_equal(found["histogram"], counts)
    np.testing.assert_allclose(found["xAxis"], edges_x[:-1])
    np.testing.assert_allclose(found["yAxis"], edges_y[:-1])


def test_automatic_histograms(world: Earth) -> None:
    "[A] Reducer.histogram, autoHistogram: power-of-two buckets that hold every value."
    values = X.ravel()
    items = ee.List(values.tolist())
    made = world.info(items.reduce(ee.Reducer.histogram(10)))
    assert len(made["histogram"]) <= 16
    width, low = made["bucketWidth"], made["bucketMin"]
    assert math.log2(width) == round(math.log2(width))
    edges = low + width * np.arange(len(made["histogram"]) + 1)
    np.testing.assert_array_equal(made["histogram"], np.histogram(values, edges)[0])
    for k, mean in enumerate(made["bucketMeans"]):
        inside = values[(values >= edges[k]) & (values < edges[k + 1])]
        assert mean == pytest.approx(inside.mean() if len(inside) else edges[k] + width / 2)
    table = np.array(world.info(items.reduce(ee.Reducer.autoHistogram(10))))
    np.testing.assert_allclose(table, np.stack([edges[:-1], made["histogram"]], axis=1))
    running = np.array(world.info(items.reduce(ee.Reducer.autoHistogram(10, None, None, True))))
    np.testing.assert_allclose(running[:, 1], np.cumsum(made["histogram"]))
    whole = world.info(ee.List([1, 5, 5, 7]).reduce(ee.Reducer.histogram()))
    assert (whole["bucketWidth"], whole["bucketMin"]) == (1, 1)
    assert whole["histogram"] == [1, 0, 0, 0, 2, 0, 1]
    counts = ee.List([1, 2.5, "a", 1]).reduce(ee.Reducer.frequencyHistogram())
    assert world.info(counts) == {"1": 2, "2.5": 1, "a": 1}
    found = world.info(
        ee.Image("T/full/0").select("x").reduceRegion(ee.Reducer.autoHistogram(8), region(), 10)
    )
    assert sum(n for _, n in found["x"]) == SIDE * SIDE


# ------------------------------------------------------------------ regressions


def design(x: Array) -> Array:
    return np.stack([np.ones_like(x), x], axis=1)


def test_linear_regression(world: Earth) -> None:
    "[A]: coefficients (numX, numY), root mean squares of the residuals; null when too few."
    x, y, z = X[:, 0, 0], Y[:, 0, 0], X[:, 1, 1]
    rows = ee.List(np.column_stack([design(x), y, z]).tolist())
    found = world.info(rows.reduce(ee.Reducer.linearRegression(2, 2)))
    expected = np.linalg.lstsq(design(x), np.stack([y, z], axis=1), rcond=None)[0]
    np.testing.assert_allclose(found["coefficients"], expected, atol=1e-9)
    off = np.stack([y, z], axis=1) - design(x) @ expected
    np.testing.assert_allclose(found["residuals"], np.sqrt((off**2).mean(axis=0)))
    few = rows.slice(0, 2).reduce(ee.Reducer.linearRegression(2, 2))
    assert world.info(few) == {"coefficients": None, "residuals": None}


def test_robust_regression(world: Earth) -> None:
    "[A]: Talwar: outliers beyond beta do not count at all."
    x = np.linspace(0, 4, 12)
    y = 1 + 2 * x + 0.01 * np.sin(7 * x)
    spoiled = y.copy()
    spoiled[[3, 8]] += [6, -5]
    rows = ee.List(np.column_stack([design(x), spoiled]).tolist())
    keep = spoiled == y
    expected = np.linalg.lstsq(design(x)[keep], y[keep], rcond=None)[0]
    for reducer in (
        ee.Reducer.robustLinearRegression(2, 1, 1),
        ee.Reducer.robustLinearRegression(2),
    ):
        found = world.info(rows.reduce(reducer))
        np.testing.assert_allclose(np.ravel(found["coefficients"]), expected, atol=1e-2)
    found = world.info(rows.reduce(ee.Reducer.robustLinearRegression(2, 1, 1)))
    np.testing.assert_allclose(np.ravel(found["coefficients"]), expected, atol=1e-9)
    clean = ee.List(np.column_stack([design(x), 1 + 2 * x]).tolist())
    found = world.info(clean.reduce(ee.Reducer.robustLinearRegression(2)))
    np.testing.assert_allclose(np.ravel(found["coefficients"]), [1, 2], atol=1e-9)
    assert found["residuals"] == pytest.approx([0], abs=1e-9)


def test_robust_regression_per_pixel(world: Earth) -> None:
    "All pixels at once give what each gives alone."
    reducer = ee.Reducer.robustLinearRegression(1, 1, 0.5)
    image = ee.ImageCollection("T/holes").select(["x", "y"]).reduce(reducer)
    found = world.pixels(image, native(SIDE, SIDE))
    for r, c in np.ndindex(SIDE, SIDE):
        on = VALID[:, r, c]
        rows = np.stack([X[on, r, c], Y[on, r, c]], axis=1).tolist()
        alone = world.info(ee.List(rows).reduce(reducer))
        for name, (data, mask) in found.items():
            assert mask[r, c]
            np.testing.assert_allclose(data[r, c][0], alone[name], atol=1e-9)


def test_ridge_regression(world: Earth) -> None:
    "[A]: numX + 1 coefficients, the intercept last and without penalty; sklearn's Ridge."
    from sklearn.linear_model import Ridge

    x = np.stack([X[:, 0, 0], X[:, 2, 3]], axis=1)
    y = Y[:, 0, 0]
    rows = ee.List(np.column_stack([x, y]).tolist())
    found = world.info(rows.reduce(ee.Reducer.ridgeRegression(2, 1, 0.7)))
    model = Ridge(alpha=0.7).fit(x, y)
    np.testing.assert_allclose(np.ravel(found["coefficients"]), [*model.coef_, model.intercept_])
    assert found["residuals"] == pytest.approx([np.sqrt(np.mean((y - model.predict(x)) ** 2))])
    assert 0 <= found["p-value"][0] <= 1
    # Without a penalty the p-value is that of the regression's F-test.
    alone = ee.List(np.column_stack([x[:, :1], y]).tolist())
    found = world.info(alone.reduce(ee.Reducer.ridgeRegression(1, 1, 0)))
    assert found["p-value"] == pytest.approx([stats.linregress(x[:, 0], y).pvalue])


def test_geometric_median(world: Earth) -> None:
    "The point with the least summed distance, also where that is a data point."
    points = np.stack([X[:, 0, 0], Y[:, 0, 0], X[:, 4, 4]], axis=1)

    def distance(at: Array) -> float:
        return float(np.sqrt(((points - at) ** 2).sum(axis=1)).sum())

    best = optimize.minimize(distance, points.mean(axis=0), method="Nelder-Mead",
                             options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000})  # fmt: skip
    found = world.info(ee.List(points.tolist()).reduce(ee.Reducer.geometricMedian(3)))
    np.testing.assert_allclose(list(found.values()), best.x, atol=1e-4)
    star = [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]
    found = world.info(ee.List(star).reduce(ee.Reducer.geometricMedian(2)))
    np.testing.assert_allclose(list(found.values()), [0, 0], atol=1e-4)
    image = ee.ImageCollection("T/full").select(["x", "y"]).reduce(ee.Reducer.geometricMedian(2))
    data = per_pixel(world, image)
    for r, c in ((0, 0), (3, 2)):
        pair = np.stack([X[:, r, c], Y[:, r, c]], axis=1)
        at = np.array([band_[r, c] for band_ in data.values()])
        pull = (pair - at) / np.linalg.norm(pair - at, axis=1)[:, None]
        near = np.linalg.norm(pair - at, axis=1) < 1e-3
        assert near.any() or np.linalg.norm(pull.sum(axis=0)) < 0.05


def test_covariance(world: Earth) -> None:
    "[A]: vectors of one length to a square matrix, about their means or about 0."
    vectors = np.stack([X[:, 0, 0], Y[:, 0, 0], X[:, 1, 1]], axis=1)
    items = ee.List([ee.Array(v) for v in vectors.tolist()])
    found = world.info(items.reduce(ee.Reducer.covariance()))
    np.testing.assert_allclose(found, np.cov(vectors.T, bias=True))
    found = world.info(items.reduce(ee.Reducer.centeredCovariance()))
    np.testing.assert_allclose(found, vectors.T @ vectors / len(vectors))
    with pytest.raises(EngineError, match="of one length"):
        world.info(ee.List([ee.Array([1, 2]), ee.Array([1])]).reduce(ee.Reducer.covariance()))


# ------------------------------------------------------------------ weights


def test_weights(world: Earth) -> None:
    "Weighted means, fits, spreads of directions and histograms; the others count rows."
    w = np.linspace(0.25, 2, COUNT)
    x, y, k = X[:, 0, 0], Y[:, 0, 0], K[:, 0, 0]
    rows = ee.FeatureCollection(
        [
            ee.Feature(None, {"x": a, "y": b, "k": int(c), "w": d})
            for a, b, c, d in zip(x.tolist(), y.tolist(), k, w.tolist(), strict=True)
        ]
    )

    def reduced(reducer: Any, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = world.info(rows.reduceColumns(reducer, names, ["w"]))
        return found

    assert reduced(ee.Reducer.mean(), ["x"])["mean"] == pytest.approx(np.average(x, weights=w))
    assert reduced(ee.Reducer.sum(), ["x"])["sum"] == pytest.approx(x @ w)
    assert reduced(ee.Reducer.median(), ["x"])["median"] == pytest.approx(np.median(x))
    assert reduced(ee.Reducer.count(), ["x"])["count"] == COUNT
    slope, offset = np.polyfit(x, y, 1, w=np.sqrt(w))
    assert reduced(ee.Reducer.linearFit(), ["x", "y"]) == pytest.approx(
        {"scale": slope, "offset": offset}
    )
    mean = (np.exp(1j * x) @ w) / w.sum()
    assert reduced(ee.Reducer.circularMean(), ["x"])["circularMean"] == pytest.approx(
        np.angle(mean)
    )
    table = reduced(ee.Reducer.frequencyHistogram(), ["k"])["histogram"]
    assert table == pytest.approx({str(v): w[k == v].sum() for v in np.unique(k)})
    pair = ee.Reducer.mean().combine(ee.Reducer.sum(), "", False)
    found = world.info(rows.reduceColumns(pair, ["x", "y"], ["w", "k"]))
    assert found == pytest.approx({"mean": np.average(x, weights=w), "sum": y @ k})
    with pytest.raises(EngineError, match="Need 1 or 2 weights"):
        world.info(rows.reduceColumns(pair, ["x", "y"], ["w", "k", "w"]))
    plain = reduced(ee.Reducer.mean().unweighted(), ["x"])
    assert plain["mean"] == pytest.approx(x.mean())
    split = rows.reduceColumns(ee.Reducer.mean().splitWeights(), ["x", "w"])
    assert world.info(split)["mean"] == pytest.approx(np.average(x, weights=w))
    kept = rows.reduceColumns(ee.Reducer.count().splitWeights(), ["x"])
    assert world.info(kept)["count"] == COUNT


def test_groups_keep_weights_and_parts(world: Earth) -> None:
    "[A] Reducer.group: a dictionary per group, of all outputs; groups within groups."
    w = np.linspace(0.25, 2, COUNT)
    x, k = X[:, 0, 0], K[:, 0, 0]
    rows = ee.FeatureCollection(
        [
            ee.Feature(None, {"x": a, "k": int(c), "s": "uv"[i % 2], "w": d})
            for i, (a, c, d) in enumerate(zip(x.tolist(), k, w.tolist(), strict=True))
        ]
    )
    both = ee.Reducer.mean().combine(ee.Reducer.count(), "", True)
    found = world.info(rows.reduceColumns(both.group(1, "class"), ["x", "k"], ["w"]))["groups"]
    assert [g["class"] for g in found] == sorted(set(k.tolist()))
    for g in found:
        on = k == g["class"]
        assert g["mean"] == pytest.approx(np.average(x[on], weights=w[on]))
        assert g["count"] == on.sum()
    nested = ee.Reducer.sum().group(1, "k").group(2, "s")
    found = world.info(rows.reduceColumns(nested, ["x", "k", "s"]))["groups"]
    assert [g["s"] for g in found] == ["u", "v"]
    for outer in found:
        for inner in outer["groups"]:
            on = (k == inner["k"]) & (np.arange(COUNT) % 2 == "uv".index(outer["s"]))
            assert inner["sum"] == pytest.approx(x[on].sum())


# ------------------------------------------------------------------ reducers of reducers


def test_combining(world: Earth) -> None:
    "[A] combine, repeat, forEach, setOutputs: inputs and names of outputs."
    x, y = X[:, 0, 0], Y[:, 0, 0]
    rows = ee.FeatureCollection(
        [ee.Feature(None, {"x": a, "y": b}) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    )
    apart = ee.Reducer.mean().combine(ee.Reducer.max(), "most_")
    assert world.info(apart.getOutputs()) == ["mean", "most_max"]
    assert world.info(rows.reduceColumns(apart, ["x", "y"])) == pytest.approx(
        {"mean": x.mean(), "most_max": y.max()}
    )
    shared = ee.Reducer.minMax().combine(ee.Reducer.mean(), "", True)
    assert world.info(rows.reduceColumns(shared, ["x"])) == pytest.approx(
        {"min": x.min(), "max": x.max(), "mean": x.mean()}
    )
    twice = world.info(rows.reduceColumns(ee.Reducer.minMax().repeat(2), ["x", "y"]))
    assert twice["min"] == pytest.approx([x.min(), y.min()])
    assert twice["max"] == pytest.approx([x.max(), y.max()])
    each = ee.Reducer.mean().forEach(["u", "v"])
    assert world.info(rows.reduceColumns(each, ["x", "y"])) == pytest.approx(
        {"u": x.mean(), "v": y.mean()}
    )
    named = ee.Reducer.minMax().forEach(["u", "v"])
    assert world.info(named.getOutputs()) == ["u_min", "u_max", "v_min", "v_max"]
    bands = ee.Reducer.mean().forEachBand(ee.Image("T/full/0"))
    assert world.info(bands.getOutputs()) == ["x", "y", "k"]
    other = ee.Reducer.minMax().setOutputs(["", "top"])
    assert world.info(rows.reduceColumns(other, ["x"])) == pytest.approx({"top": x.max()})
    image = ee.ImageCollection("T/full").select("x").reduce(other)
    np.testing.assert_allclose(per_pixel(world, image)["x_top"], X.max(axis=0))
    with pytest.raises(EngineError, match="3 names were given"):
        world.info(ee.Reducer.minMax().setOutputs(["a", "b", "c"]))
    with pytest.raises(EngineError, match="same number of inputs"):
        world.info(ee.Reducer.mean().combine(ee.Reducer.linearFit(), "", True))


def test_elements_and_aggregates(world: Earth) -> None:
    "[A] forEachElement: every position; disaggregate: every item, along an axis if given."
    tables = [[[1, 2], [3, 4]], [[10, 20], [30, 40]], [[5, 0], [0, 5]]]
    items = ee.List([ee.Array(t) for t in tables])
    found = world.info(items.reduce(ee.Reducer.max().forEachElement()))
    np.testing.assert_array_equal(found, np.max(tables, axis=0))
    found = world.info(items.reduce(ee.Reducer.minMax().forEachElement()))
    np.testing.assert_array_equal(found["min"], np.min(tables, axis=0))
    assert world.info(items.reduce(ee.Reducer.sum().disaggregate())) == np.sum(tables)
    rows = items.reduce(ee.Reducer.toList().disaggregate(0))
    assert world.info(rows) == [row for table in tables for row in table]
    mixed = ee.FeatureCollection(
        [ee.Feature(None, {"v": [1, 2]}), ee.Feature(None, {"v": {"a": 3, "b": 4}}),
         ee.Feature(None, {"v": 5})]
    )  # fmt: skip
    summed = mixed.reduceColumns(ee.Reducer.sum().disaggregate(), ["v"])
    assert world.info(summed) == {"sum": 15}
    images = ee.ImageCollection("T/full").map(lambda i: i.select(["x", "y"]).toArray())
    found = world.pixels(images.reduce(ee.Reducer.mean().forEachElement()), native(2, 2))
    data, _ = found["array_mean"]
    for r, c in np.ndindex(2, 2):
        np.testing.assert_allclose(data[r, c][0], [X[:, r, c].mean(), Y[:, r, c].mean()])


def test_nulls_and_nothing(world: Earth) -> None:
    "Nulls are left out, or counted by the reducers that say so; nothing gives null or 0."
    items = ee.List([3, None, 1, None])
    for reducer, expected in (
        (ee.Reducer.count(), 2),
        (ee.Reducer.countEvery(), 4),
        (ee.Reducer.countDistinct(), 3),
        (ee.Reducer.countDistinctNonNull(), 2),
        (ee.Reducer.mean(), 2),
        (ee.Reducer.first(), 3),
        (ee.Reducer.last(), None),
        (ee.Reducer.lastNonNull(), 1),
        (ee.Reducer.toList(), [3, 1]),
    ):
        assert world.info(items.reduce(reducer)) == expected
    for reducer, expected in (
        (ee.Reducer.sum(), 0),
        (ee.Reducer.count(), 0),
        (ee.Reducer.mean(), None),
        (ee.Reducer.median(), None),
        (ee.Reducer.max(), None),
        (ee.Reducer.stdDev(), None),
        (ee.Reducer.toList(), []),
    ):
        assert world.info(ee.List([]).reduce(reducer)) == expected


def test_mistakes_have_words(world: Earth) -> None:
    "Settings out of range and inputs of the wrong kind."
    for reducer, words in (
        (ee.Reducer.percentile([101]), "between 0 and 100"),
        (ee.Reducer.intervalMean(80, 20), "in order"),
        (ee.Reducer.fixedHistogram(1, 0, 4), "least value must be below"),
        (ee.Reducer.fixedHistogram(0, 1, 0), "number of steps"),
        (ee.Reducer.kendallsCorrelation(3), "must be 1 or 2"),
        (ee.Reducer.linearRegression(0), "at least 1"),
        (ee.Reducer.mean().repeat(0), "Cannot make 0 copies"),
        (ee.Reducer.mean().group(4), "out of range"),
    ):
        with pytest.raises(EngineError, match=words):
            world.info(ee.List([1, 2]).reduce(reducer))
    with pytest.raises(EngineError, match="must be numbers"):
        world.info(ee.List(["a", "b"]).reduce(ee.Reducer.mean()))
    with pytest.raises(EngineError, match="cannot be used per pixel"):
        world.pixels(
            ee.ImageCollection("T/full").select("k").reduce(ee.Reducer.frequencyHistogram()),
            native(1, 1),
        )
