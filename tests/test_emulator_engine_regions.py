"""Reducing regions, sampling, vectors and classifiers."""

from __future__ import annotations

from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import NORTH, STEP, UTM, WEST, Earth, band, box, earth, native

from gee.emulator.errors import EngineError

SIZE = 60


class World:
    def __init__(self, found: Earth, values: np.ndarray, mask: np.ndarray, kinds: np.ndarray):
        self.earth, self.values, self.mask, self.kinds = found, values, mask, kinds

    def info(self, value: object) -> object:
        return self.earth.info(value)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(4)
    with earth(tmp_path_factory.mktemp("regions")) as found:
        values = random.normal(10, 3, (SIZE, SIZE))
        mask = random.random((SIZE, SIZE)) > 0.25
        kinds = np.kron(random.integers(0, 4, (12, 12)), np.ones((5, 5), int)).astype(np.uint8)
        found.put("T/v", band("v", values, mask))
        found.put("T/k", band("k", kinds))
        yield World(found, values, mask, kinds)


def test_whole_pixels(world: World) -> None:
    found = world.info(ee.Image("T/v").reduceRegion(ee.Reducer.mean(), box(5, 20, 10, 30)))
    part = np.s_[5:20, 10:30]
    assert found["v"] == pytest.approx(world.values[part][world.mask[part]].mean())


def test_weighted_reducers_count_shares_of_pixels(world: World) -> None:
    "guides/reducers_reduce_region: weight = min(mask, share inside)."
    region = box(5, 5.5, 10, 12.25)
    weights = np.array([0.5, 0.5, 0.125])
    ok = world.mask[5, 10:13]
    values = world.values[5, 10:13]
    image = ee.Image("T/v")
    total = world.info(image.reduceRegion(ee.Reducer.sum(), region))["v"]
    assert total == pytest.approx((values * weights)[ok].sum())
    mean = world.info(image.reduceRegion(ee.Reducer.mean(), region))["v"]
    assert mean == pytest.approx(np.average(values[ok], weights=weights[ok]))


def test_unweighted_reducers_count_centres(world: World) -> None:
    "guides/reducers_reduce_region: the centroid is in the region."
    region = box(5.6, 7.4, 10.6, 12.6)  # centres of row 6, columns 11 and 12
    found = world.info(ee.Image(1).reproject(UTM, None, 10).reduceRegion(
        ee.Reducer.count(), region, 10, UTM))  # fmt: skip
    assert found == {"constant": 2}
    flat = world.info(
        ee.Image("T/v").reduceRegion(ee.Reducer.mean().unweighted(), box(4.6, 7.4, 9.6, 12.4))
    )
    part = np.s_[5:7, 10:12]
    assert flat["v"] == pytest.approx(world.values[part][world.mask[part]].mean())


def test_fractional_masks_weigh(world: World) -> None:
    "guides/reducers_weighting: clip first and the weights follow."
    clipped = ee.Image("T/k").clip(box(0, 1.5, 0, 10))
    found = world.info(clipped.reduceRegion(ee.Reducer.sum(), box(0, 10, 0, 10)))["k"]
    expected = world.kinds[0, :10].sum() + 0.5 * world.kinds[1, :10].sum()
    assert found == pytest.approx(expected)


def test_names_of_outputs(world: World) -> None:
    "[A] reducers: band for one output, band_output for several; reduceRegions: the output."
    two = ee.Image("T/v").addBands(ee.Image("T/k"))
    region = box(0, 9, 0, 9)
    assert set(world.info(two.reduceRegion(ee.Reducer.mean(), region))) == {"v", "k"}
    assert set(world.info(two.reduceRegion(ee.Reducer.minMax(), region))) == {
        "v_min", "v_max", "k_min", "k_max",
    }  # fmt: skip
    features = ee.FeatureCollection([ee.Feature(region, {"id": 3})])
    single = world.info(ee.Image("T/v").reduceRegions(features, ee.Reducer.mean(), 10))
    assert set(single["features"][0]["properties"]) == {"id", "mean"}
    double = world.info(two.reduceRegions(features, ee.Reducer.mean(), 10))
    assert set(double["features"][0]["properties"]) == {"id", "v", "k"}


@pytest.mark.parametrize(
    ("make", "oracle"),
    [
        (lambda: ee.Reducer.median(), np.median),
        (lambda: ee.Reducer.stdDev(), np.std),
        (lambda: ee.Reducer.max(), np.max),
        (lambda: ee.Reducer.percentile([25]), lambda v: np.percentile(v, 25)),
        (lambda: ee.Reducer.count(), np.size),
    ],
)
def test_reducers_over_a_region(world: World, make, oracle) -> None:  # type: ignore[no-untyped-def]
    found = world.info(ee.Image("T/v").reduceRegion(make(), box(0, 50, 0, 50)))["v"]
    assert found == pytest.approx(oracle(world.values[:50, :50][world.mask[:50, :50]]))


@pytest.mark.parametrize("tile", [16, 512])
def test_streamed_and_collected_reductions_agree(world: World, tile: int) -> None:
    "Moments merged tile by tile equal the reduction of all pixels at once."
    from gee.emulator.evaluate import Evaluator
    from gee.emulator.pixels import Limits

    engine = Evaluator(world.earth.catalog, Limits(tile=tile))
    reducers = [
        ee.Reducer.mean(), ee.Reducer.sum(), ee.Reducer.stdDev(), ee.Reducer.sampleVariance(),
        ee.Reducer.count(), ee.Reducer.minMax(), ee.Reducer.mean().unweighted(),
    ]  # fmt: skip
    every = reducers[0]
    for number, reducer in enumerate(reducers[1:]):
        every = every.combine(reducer, f"r{number}_", True)
    region = box(3.3, 41.2, 2.2, 37.7)
    streamed = engine.evaluate(
        world.earth.graph(ee.Image("T/v").reduceRegion(every, region, maxPixels=10**12))
    )
    # A percentile beside them makes the engine collect the pixels.
    collected = engine.evaluate(
        world.earth.graph(
            ee.Image("T/v").reduceRegion(
                every.combine(ee.Reducer.percentile([50]), "", True), region
            )
        )
    )
    assert set(streamed) == set(collected) - {"v_p50"}
    for key, value in streamed.items():
        assert value == pytest.approx(collected[key], rel=1e-12), key


def test_histograms_and_groups(world: World) -> None:
    region = box(0, SIZE, 0, SIZE)
    counts = np.bincount(world.kinds.ravel())
    found = world.info(ee.Image("T/k").reduceRegion(ee.Reducer.frequencyHistogram(), region))
    assert found["k"] == {str(k): n for k, n in enumerate(counts) if n}
    sums = world.info(
        ee.Image("T/v").addBands(ee.Image("T/k")).reduceRegion(
            ee.Reducer.sum().group(1, "kind"), region
        )
    )["groups"]  # fmt: skip
    for group in sums:
        take = (world.kinds == group["kind"]) & world.mask
        assert group["sum"] == pytest.approx(world.values[take].sum())
    listed = world.info(ee.Image("T/k").reduceRegion(ee.Reducer.toList(), box(0, 2, 0, 3)))["k"]
    assert sorted(listed) == sorted(world.kinds[:2, :3].ravel().tolist())


def test_max_pixels_and_best_effort(world: World) -> None:
    "[A]: too many pixels is an error that names both numbers, or a coarser scale."
    region = box(0, 50, 0, 50)
    with pytest.raises(EngineError, match=r"Image.reduceRegion: Too many pixels.*Found 2500"):
        world.info(ee.Image("T/v").reduceRegion(ee.Reducer.mean(), region, maxPixels=100))
    rough = ee.Image("T/v").reduceRegion(ee.Reducer.mean(), region, maxPixels=100, bestEffort=True)
    assert world.info(rough)["v"] == pytest.approx(10, abs=1)


def test_scale_without_crs_scales_the_native_projection(world: World) -> None:
    "guides/reducers_reduce_region."
    found = world.info(ee.Image("T/v").reduceRegion(ee.Reducer.count(), box(0, 40, 0, 40), 20))
    assert 0 < found["v"] <= 400


def test_reduce_region_inside_a_map(world: World) -> None:
    "Workload: S1 slope correction reads a mean per image."
    images = ee.ImageCollection([ee.Image(k).reproject(UTM, None, 10) for k in (1, 2, 3)])
    region = box(0, 4, 0, 4)
    means = images.map(
        lambda i: i.set("m", i.reduceRegion(ee.Reducer.mean(), region, 10).get("constant"))
    )
    assert world.info(means.aggregate_array("m")) == [1, 2, 3]


# ------------------------------------------------------------------ samples


def test_sample_takes_pixel_centres(world: World) -> None:
    "[D] Image.sample: pixels whose centre is inside; nulls dropped."
    found = world.info(
        ee.Image("T/v").sample(region=box(5, 8, 5, 8), scale=10, geometries=True)
    )["features"]  # fmt: skip
    part = np.s_[5:8, 5:8]
    expected = world.values[part][world.mask[part]]
    np.testing.assert_allclose([f["properties"]["v"] for f in found], expected)
    assert all(f["geometry"]["type"] == "Point" for f in found)


def test_sampling_is_repeatable_and_sized(world: World) -> None:
    image, region = ee.Image("T/k"), box(0, SIZE, 0, SIZE)

    def drawn(seed: int) -> list:
        found = image.sample(region=region, scale=10, numPixels=50, seed=seed, geometries=True)
        return [f["geometry"]["coordinates"] for f in world.info(found)["features"]]

    assert len(drawn(1)) == 50
    assert drawn(1) == drawn(1) != drawn(2)


def test_stratified_sample_draws_from_every_class(world: World) -> None:
    found = ee.Image("T/k").stratifiedSample(12, "k", box(0, SIZE, 0, SIZE), 10, seed=3)
    values = world.info(found.aggregate_array("k"))
    assert np.bincount(values).tolist() == [min(12, n) for n in np.bincount(world.kinds.ravel())]


def test_sample_regions_keeps_properties(world: World) -> None:
    features = ee.FeatureCollection([
        ee.Feature(ee.Geometry.Point([WEST + 25, NORTH - 35], UTM), {"label": 4, "other": 1}),
    ])  # fmt: skip
    found = world.info(ee.Image("T/k").sampleRegions(features, ["label"], 10))["features"]
    assert [f["properties"] for f in found] == [{"label": 4, "k": int(world.kinds[3, 2])}]


# ------------------------------------------------------------------ vectors


def test_reduce_to_vectors_gives_the_patches_back(world: World) -> None:
    "Areas per label add up; countEvery counts pixels ([A])."
    region = box(0, SIZE, 0, SIZE)
    found = world.info(
        ee.Image("T/k").reduceToVectors(
            geometry=region, scale=10, eightConnected=False, geometryInNativeProjection=True
        )
    )["features"]
    counts: dict[int, int] = {}
    for feature in found:
        counts.setdefault(feature["properties"]["label"], 0)
        counts[feature["properties"]["label"]] += feature["properties"]["count"]
    assert counts == {k: int(n) for k, n in enumerate(np.bincount(world.kinds.ravel())) if n}


def test_paint_and_reduce_to_image_agree(world: World) -> None:
    shapes = ee.FeatureCollection(
        [ee.Feature(box(3, 9, 4, 11), {"z": 7}), ee.Feature(box(20, 30, 20, 40), {"z": 9})]
    )
    painted = world.earth.data(ee.Image(0).paint(shapes, "z"), native(SIZE, SIZE))
    expected = np.zeros((SIZE, SIZE))
    expected[3:9, 4:11] = 7
    expected[20:30, 20:40] = 9
    np.testing.assert_array_equal(painted, expected)
    reduced = shapes.reduceToImage(["z"], ee.Reducer.first())
    np.testing.assert_array_equal(
        world.earth.data(reduced, native(SIZE, SIZE)), np.where(expected > 0, expected, np.nan)
    )


def test_distance_to_features(world: World) -> None:
    "[A] Collection.distance: metres, also inside polygons; masked beyond the radius."
    point = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([WEST + 105, NORTH - 105], UTM))])
    found = world.earth.data(point.distance(80), native(20, 20))
    y, x = np.mgrid[:20, :20]
    exact = np.hypot(x - 10, y - 10) * STEP
    good = np.isfinite(found)
    np.testing.assert_allclose(found[good], exact[good], rtol=2e-3, atol=0.05)
    assert (exact[good] < 81).all()
    assert good.sum() >= (exact < 79).sum()


# ------------------------------------------------------------------ classifiers


def test_a_tree_learns_what_it_is_shown(world: World) -> None:
    "Workload smileCart: train, classify, error matrix, explain."
    random = np.random.default_rng(0)
    rows = [
        ee.Feature(None, {"v": float(v), "label": int(v > 10)}) for v in random.normal(10, 3, 120)
    ]
    training = ee.FeatureCollection(rows)
    tree = ee.Classifier.smileCart().train(training, "label", ["v"])
    found = world.earth.data(ee.Image("T/v").classify(tree), native(SIZE, SIZE))
    good = np.isfinite(found)
    np.testing.assert_array_equal(good, world.mask)
    assert (found[good] == (world.values[good] > 10)).mean() > 0.97
    assert world.info(tree.confusionMatrix().accuracy()) == 1
    tested = training.classify(tree)
    assert world.info(tested.errorMatrix("label", "classification").kappa()) == 1
    explained = world.info(tree.explain())
    assert explained["classes"] == [0, 1]
    # One split leaves pure leaves: it takes the whole Gini impurity of the root.
    share = world.info(training.aggregate_mean("label"))
    assert explained["importance"] == {"v": pytest.approx(2 * share * (1 - share))}
    random_forest = ee.Classifier.smileRandomForest(5).train(training, "label", ["v"])
    assert world.info(random_forest.mode()) == "CLASSIFICATION"


def test_confusion_matrix_measures(world: World) -> None:
    "Hand-computed."
    rows = [(0, 0)] * 5 + [(0, 1)] + [(1, 0)] * 2 + [(1, 1)] * 4
    table = ee.FeatureCollection([ee.Feature(None, {"a": a, "p": p}) for a, p in rows])
    found = table.errorMatrix("a", "p")
    assert world.info(found) == [[5, 1], [2, 4]]
    assert world.info(found.accuracy()) == pytest.approx(0.75)
    assert world.info(found.kappa()) == pytest.approx((0.75 - 0.5) / 0.5)
    assert world.info(found.producersAccuracy()) == [[pytest.approx(5 / 6)], [pytest.approx(4 / 6)]]


def test_random_column_is_even_and_repeatable(world: World) -> None:
    points = ee.FeatureCollection([ee.Feature(None, {"n": i}) for i in range(400)])
    first = world.info(points.randomColumn("r", 1).aggregate_array("r"))
    again = world.info(points.randomColumn("r", 1).aggregate_array("r"))
    assert first == again
    assert 0.42 < np.mean(first) < 0.58
    assert min(first) >= 0
    assert max(first) < 1


def test_tables_and_rectangles_of_pixels(world: World) -> None:
    "getRegion lists id, longitude, latitude, time and bands; sampleRectangle gives arrays."
    images = ee.ImageCollection([ee.Image("T/k").set("system:time_start", 5)])
    table = world.info(images.getRegion(box(2, 4, 3, 6), 10, ee.Projection(UTM)))
    assert table[0] == ["id", "longitude", "latitude", "time", "k"]
    assert [row[4] for row in table[1:]] == world.kinds[2:4, 3:6].ravel().tolist()
    assert all(row[3] == 5 for row in table[1:])
    found = world.info(ee.Image("T/k").sampleRectangle(box(2, 4, 3, 6)).get("k"))
    assert found == world.kinds[2:4, 3:6].tolist()


def test_random_points_lie_inside(world: World) -> None:
    region = ee.Geometry.Point([15.0, 60.4]).buffer(500)
    points = ee.FeatureCollection.randomPoints(region, 40, 7)
    inside = points.filterBounds(region)
    assert world.info(points.size()) == world.info(inside.size()) == 40
