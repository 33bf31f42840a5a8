"""The papers' Earth Engine work as the unmodified client sends it: every id of it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import (
    DAY,
    NATIVE,
    NORTH,
    UTM,
    WEST,
    BandData,
    Earth,
    band,
    box,
    earth,
    native,
)

SIZE = 72
# Section 6 of the endpoint page: the ids in the graphs that the workload sends.
WORKLOAD = [
    "AggregateFeatureCollection.histogram",
    "Classifier.confusionMatrix",
    "Classifier.explain",
    "Classifier.smileCart",
    "Classifier.train",
    "Collection.distance",
    "Collection.errorMatrix",
    "Collection.filter",
    "Collection.loadTable",
    "Collection.map",
    "Collection.randomColumn",
    "Collection.reduceToImage",
    "ConfusionMatrix.accuracy",
    "ConfusionMatrix.kappa",
    "Date.millis",
    "DateRange",
    "Dictionary.combine",
    "Dictionary.get",
    "Element.get",
    "Element.set",
    "Feature",
    "Feature.buffer",
    "FeatureCollection.classify",
    "Filter.calendarRange",
    "Filter.dateRangeContains",
    "Filter.equals",
    "Filter.intersects",
    "Filter.lessThan",
    "Filter.listContains",
    "GeometryConstructors.Polygon",
    "If",
    "Image.acos",
    "Image.add",
    "Image.addBands",
    "Image.and",
    "Image.atan",
    "Image.bandNames",
    "Image.bitwiseAnd",
    "Image.byte",
    "Image.classify",
    "Image.clip",
    "Image.clipToBoundsAndScale",
    "Image.connectedComponents",
    "Image.connectedPixelCount",
    "Image.constant",
    "Image.convolve",
    "Image.copyProperties",
    "Image.cos",
    "Image.cumulativeCost",
    "Image.date",
    "Image.directionalDistanceTransform",
    "Image.distance",
    "Image.divide",
    "Image.eq",
    "Image.fastDistanceTransform",
    "Image.focalMax",
    "Image.focalMin",
    "Image.focal_mean",
    "Image.geometry",
    "Image.gt",
    "Image.linkCollection",
    "Image.load",
    "Image.log",
    "Image.log10",
    "Image.lt",
    "Image.lte",
    "Image.mask",
    "Image.max",
    "Image.multiply",
    "Image.normalizedDifference",
    "Image.not",
    "Image.paint",
    "Image.parseExpression",
    "Image.pixelArea",
    "Image.pixelLonLat",
    "Image.pow",
    "Image.projection",
    "Image.reduceNeighborhood",
    "Image.reduceRegion",
    "Image.reduceRegions",
    "Image.reduceToVectors",
    "Image.remap",
    "Image.rename",
    "Image.reproject",
    "Image.resample",
    "Image.rightShift",
    "Image.sample",
    "Image.sampleRegions",
    "Image.select",
    "Image.sin",
    "Image.sqrt",
    "Image.stratifiedSample",
    "Image.subtract",
    "Image.tan",
    "Image.toByte",
    "Image.toFloat",
    "Image.toInt64",
    "Image.unmask",
    "Image.updateMask",
    "ImageCollection.fromImages",
    "ImageCollection.load",
    "ImageCollection.mosaic",
    "ImageCollection.qualityMosaic",
    "ImageCollection.reduce",
    "Join.apply",
    "Join.saveFirst",
    "Kernel.euclidean",
    "Kernel.fixed",
    "Kernel.plus",
    "Kernel.square",
    "List.map",
    "List.remove",
    "List.sequence",
    "Number.gt",
    "Number.subtract",
    "Projection",
    "Reducer.first",
    "Reducer.frequencyHistogram",
    "Reducer.group",
    "Reducer.mean",
    "Reducer.percentile",
    "Reducer.stdDev",
    "Reducer.sum",
    "Terrain.aspect",
    "Terrain.slope",
    "reduce.mean",
    "reduce.median",
    "reduce.sum",
]


class World:
    """Made-up assets, and what has been sent to the engine."""

    def __init__(self, found: Earth) -> None:
        self.earth = found
        self.sent: set[str] = set()
        self.ran: set[str] = set()

    def _seen(self, node: Any) -> None:
        if isinstance(node, dict):
            if "functionName" in node:
                self.sent.add(node["functionName"])
            for value in node.values():
                self._seen(value)
        elif isinstance(node, list):
            for value in node:
                self._seen(value)

    def info(self, value: Any) -> Any:
        self._seen(self.earth.graph(value))
        return self.earth.info(value)

    def data(self, image: ee.Image) -> np.ndarray:
        self._seen(self.earth.graph(image))
        return self.earth.data(image, native(SIZE, SIZE))


def coarse(name: str, step: float, array: np.ndarray) -> BandData:
    return BandData(name, array, UTM, (step, 0.0, WEST - step, 0.0, -step, NORTH + step))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE, :SIZE]
    height = (600 + 0.8 * x + 20 * np.sin(x / 9) * np.cos(y / 7)).astype(np.float32)
    with earth(tmp_path_factory.mktemp("workload")) as found:
        put = found.put
        put("W/dem", band("elevation", height))
        found.catalog.put_collection("W/s1")
        found.catalog.put_collection("W/s2")
        found.catalog.put_collection("W/cloud")
        found.catalog.put_collection("W/rain")
        for k in range(4):
            start = (18400 + 12 * k) * DAY
            noise = random.normal(0, 0.5, (2, SIZE, SIZE))
            put(
                f"W/s1/i{k}",
                band("VV", (-10 + noise[0]).astype(np.float32)),
                band("VH", (-17 + noise[1]).astype(np.float32)),
                coarse("angle", 240, np.add.outer(np.zeros(6), 33 + 0.4 * np.arange(6.0))),
                start=start,
                instrumentMode="IW",
                transmitterReceiverPolarisation=["VV", "VH"],
                orbitProperties_pass="ASCENDING",
            )
            spectral = {
                n: band(n, random.integers(200, 4000, (SIZE, SIZE)).astype(np.uint16))
                for n in ("B2", "B3", "B4", "B8", "B11")
            }
            flags = random.choice([0, 1024, 2048], (SIZE, SIZE), p=[0.8, 0.1, 0.1])
            put(
                f"W/s2/i{k}",
                *spectral.values(),
                band("QA60", flags.astype(np.uint16), policy="SAMPLE"),
                band("SCL", random.integers(1, 12, (SIZE, SIZE)).astype(np.uint8), policy="MODE"),
                start=start,
                CLOUDY_PIXEL_PERCENTAGE=10.0 * k,
                MEAN_SOLAR_AZIMUTH_ANGLE=160.0,
            )
            put(f"W/cloud/i{k}", band("probability", random.integers(0, 100, (SIZE, SIZE)) * 1))
            put(f"W/rain/i{k}", band("rain", random.random((SIZE, SIZE)).astype("f4")), start=start)
        put("W/qa", band("QA", random.integers(0, 2**12, (SIZE, SIZE)).astype(np.uint16)))
        put("W/class", band("c", (random.random((SIZE, SIZE)) > 0.97).astype(np.uint8)))
        lon, lat = 15.0, 60.43
        found.catalog.put_table(
            "W/rivers",
            [
                {
                    "type": "Feature",
                    "geometry": {
                        "type": "LineString",
                        "coordinates": [[lon + d, lat], [lon + d + 0.004, lat - 0.004]],
                    },
                    "properties": {"kind": k, "name": f"r{k}"},
                }
                for k, d in enumerate((0.001, 0.004, 0.008))
            ],
        )
        made = World(found)
        yield made
        # With every test of this file run, every id was in a graph that was checked.
        if len(made.ran) == 9:
            assert sorted(set(WORKLOAD) - made.sent) == []


@pytest.fixture(autouse=True)
def _remembered(world: World, request: pytest.FixtureRequest) -> None:
    if "world" in request.fixturenames and request.node.name != "test_nothing_is_missing":
        world.ran.add(request.node.name)


def s1() -> ee.ImageCollection:
    return (
        ee.ImageCollection("W/s1")
        .filterBounds(ee.Geometry.Polygon([[[14.9, 60.3], [15.2, 60.3], [15.1, 60.6]]]))
        .filterDate("2020-05-01", "2020-07-01")
        .filter(ee.Filter.eq("instrumentMode", "IW"))
        .filter(ee.Filter.listContains("transmitterReceiverPolarisation", "VH"))
    )


def corrected(image: ee.Image) -> ee.Image:
    """Volume model of Vollrath et al. 2020, with layover and shadow masks and a buffer."""
    rad = math.pi / 180
    geometry = image.geometry()
    projection = image.select(1).projection()
    elevation = (
        ee.Image("W/dem").resample("bilinear").reproject(projection, None, 10).clip(geometry)
    )
    heading = ee.Terrain.aspect(image.select("angle")).reduceRegion(
        ee.Reducer.mean(), geometry, 1000
    )
    heading = ee.Dictionary(heading).combine({"aspect": 0}, False).get("aspect")
    heading = ee.Algorithms.If(
        ee.Number(heading).gt(180), ee.Number(heading).subtract(360), heading
    )
    theta = image.select("angle").multiply(rad)
    phi = ee.Image.constant(ee.Number(heading)).multiply(rad)
    slope = ee.Terrain.slope(elevation).select("slope").multiply(rad)
    aspect = ee.Terrain.aspect(elevation).select("aspect").multiply(rad)
    across = phi.subtract(aspect)
    in_range = slope.tan().multiply(across.cos()).atan()
    in_azimuth = slope.tan().multiply(across.sin()).atan()
    upright = ee.Image.constant(90).multiply(rad)
    gamma = image.select(["VV", "VH"]).subtract(theta.cos().log10().multiply(10))
    model = upright.subtract(theta).add(in_range).tan().divide(upright.subtract(theta).tan())
    linear = ee.Image.constant(10).pow(gamma.divide(10))
    flat = linear.divide(model).log10().multiply(10)
    layover = in_range.lt(theta).rename("layover")
    shadow = in_range.gt(upright.subtract(theta).multiply(-1)).rename("shadow")
    mask = layover.And(shadow)
    buffered = (
        mask.Not().unmask(1).fastDistanceTransform(30).sqrt()
        .multiply(ee.Image.pixelArea().sqrt()).gt(0).And(mask)
    )  # fmt: skip
    surface = in_azimuth.cos().lte(1)
    names = image.bandNames().remove("angle")
    return (
        flat.select(names).addBands(image.select("angle")).updateMask(buffered.mask(mask))
        .updateMask(surface).copyProperties(image)
        .set("system:time_start", image.get("system:time_start"))
    )  # fmt: skip


def test_radar_slope_correction(world: World) -> None:
    composite = s1().map(lambda i: ee.Image(corrected(i))).select(["VV", "VH"]).median()
    data = world.data(composite)
    good = np.isfinite(data)
    assert good[5:-5, 5:-5].mean() > 0.9
    assert -14 < np.nanmean(data) < -6


def test_local_incidence(world: World) -> None:
    rad = math.pi / 180
    mean = s1().select("angle").mean()
    slope = ee.Terrain.slope(ee.Image("W/dem")).multiply(rad)
    aspect = ee.Terrain.aspect(ee.Image("W/dem")).multiply(rad)
    theta = mean.multiply(rad)
    angle = (
        slope.cos().multiply(theta.cos())
        .subtract(slope.sin().multiply(theta.sin()).multiply(aspect.subtract(1.3).cos()))
        .acos().multiply(180 / math.pi)
    )  # fmt: skip
    data = world.data(angle)
    assert 0 < np.nanmin(data) < np.nanmax(data) < 90


def ndvi(image: ee.Image) -> ee.Image:
    qa = image.select("QA60").toInt64()
    clear = qa.bitwiseAnd(1 << 10).eq(0).And(qa.bitwiseAnd(1 << 11).eq(0))
    scaled = image.updateMask(clear).select(["B8", "B4"]).divide(10000)
    date = ee.Image.constant(image.date().millis()).rename("date").toInt64()
    index = scaled.normalizedDifference(["B8", "B4"]).rename("NDVI")
    return ee.Image(image.addBands(index.updateMask(clear)).addBands(date).copyProperties(image))


def greenest(start: str, end: str) -> ee.Image:
    return (
        ee.ImageCollection("W/s2")
        .filterDate(start, end)
        .filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 60))
        .map(ndvi)
        .qualityMosaic("NDVI")
    )


def test_greenest_pixel_and_change(world: World) -> None:
    change = (
        greenest("2020-05-25", "2020-07-01").select("NDVI")
        .subtract(greenest("2020-05-01", "2020-05-25").select("NDVI")).rename("dNDVI")
    )  # fmt: skip
    data = world.data(change)
    assert np.isfinite(data).mean() > 0.7
    assert np.nanmax(np.abs(data)) <= 2
    relative = change.divide(greenest("2020-05-01", "2020-05-25").select("NDVI").add(1).sqrt())
    assert np.isfinite(world.data(relative)).mean() > 0.7


def test_land_cover_with_cart(world: World) -> None:
    image = greenest("2020-05-01", "2020-07-01").select(["B2", "B3", "B4", "B8", "NDVI"])
    image = image.addBands(ee.Image("W/dem"))
    truth = ee.Image("W/dem").gt(620).add(ee.Image("W/dem").gt(640)).toByte().rename("lc")
    points = image.addBands(truth).stratifiedSample(
        numPoints=30, classBand="lc", region=box(0, SIZE, 0, SIZE), scale=10,
        projection=ee.Projection(UTM), geometries=True,
    ).randomColumn("r", 2)  # fmt: skip
    training, testing = points.filter("r < 0.7"), points.filter(ee.Filter.gte("r", 0.7))
    tree = ee.Classifier.smileCart().train(training, "lc", image.bandNames())
    data = world.data(image.classify(tree))
    expected = world.data(truth)
    good = np.isfinite(data)
    assert (data[good] == expected[good]).mean() > 0.95
    matrix = testing.classify(tree).errorMatrix("lc", "classification")
    assert world.info(matrix.accuracy()) > 0.85
    assert world.info(matrix.kappa()) > 0.8
    assert world.info(tree.confusionMatrix().accuracy()) == 1
    assert "tree" in world.info(tree.explain())
    assert sum(world.info(points.aggregate_histogram("lc")).values()) == world.info(points.size())


def test_terrain_factors(world: World) -> None:
    dem = ee.Image("W/dem")
    metres = 10
    curvature = dem.convolve(ee.Kernel.fixed(3, 3, [[0, 1, 0], [1, -4, 1], [0, 1, 0]])).divide(
        metres**2
    )
    tpi = dem.subtract(dem.focal_mean(5, "square"))
    rough = dem.reduceNeighborhood(ee.Reducer.stdDev(), ee.Kernel.square(2))
    steep = ee.Terrain.slope(dem).multiply(math.pi / 180).tan().max(0.001)
    twi = ee.Image(500).divide(steep).log()
    index = dem.expression("a * b('elevation') / 2.0 + lat * 0", {
        "a": ee.Image(2), "lat": ee.Image.pixelLonLat().select("latitude"),
    })  # fmt: skip
    stack = ee.Image.cat([curvature, tpi, rough, twi, index]).toFloat()
    names = world.info(stack.bandNames())
    assert len(names) == len(set(names)) == 5
    data = world.data(stack.select(4))
    np.testing.assert_allclose(data, world.data(dem), rtol=1e-6)
    assert np.isfinite(world.data(twi)[2:-2, 2:-2]).all()


def test_climate_and_temperature(world: World) -> None:
    rain = ee.ImageCollection("W/rain").filter(ee.Filter.calendarRange(5, 6, "month"))
    total = world.data(rain.sum().clip(box(0, SIZE, 0, SIZE)))
    assert 0 < np.nanmean(total) < 4
    spread = world.data(rain.reduce(ee.Reducer.percentile([90])))
    assert np.isfinite(spread).all()
    months = ee.ImageCollection.fromImages(
        ee.List.sequence(1, 3).map(
            lambda m: rain.mean().multiply(ee.Image.constant(ee.Number(m))).set("month", m)
        )
    )
    assert world.info(months.aggregate_array("month")) == [1, 2, 3]
    qa = ee.Image("W/qa")
    clear = qa.rightShift(8).bitwiseAnd(3).lt(2)
    masked = ee.ImageCollection([qa.multiply(0.02).subtract(273.15).updateMask(clear)]).mosaic()
    assert 0.2 < np.isfinite(world.data(masked)).mean() < 0.8


def test_vectors_and_distances(world: World) -> None:
    rivers = ee.FeatureCollection("W/rivers")
    far = world.data(rivers.filterBounds(box(0, SIZE, 0, SIZE)).distance(2000))
    assert np.nanmin(far) < 15
    painted = ee.Image(0).byte().paint(rivers.map(lambda f: f.buffer(15)), 1)
    assert 0 < world.data(painted).mean() < 1
    zones = rivers.map(lambda f: f.buffer(40)).reduceToImage(["kind"], ee.Reducer.first())
    assert set(np.unique(world.data(zones)[np.isfinite(world.data(zones))])) <= {0, 1, 2}
    spots = ee.Image("W/class")
    assert np.nanmin(world.data(spots.distance(ee.Kernel.euclidean(80, "meters")))) == 0
    cost = ee.Image(1).cumulativeCost(spots, 200)
    assert np.nanmax(world.data(cost)) <= 201
    assert np.nanmax(world.data(spots.connectedPixelCount(50))) <= 50
    labels = spots.selfMask().connectedComponents(ee.Kernel.plus(1), 64).select("labels")
    assert np.isfinite(world.data(labels)).mean() < 0.1
    outlines = spots.selfMask().reduceToVectors(geometry=box(0, SIZE, 0, SIZE), scale=10)
    assert world.info(outlines.size()) > 20


def test_cloud_alternatives(world: World) -> None:
    images = ee.ImageCollection("W/s2").map(
        lambda i: i.linkCollection(ee.ImageCollection("W/cloud"), ["probability"])
    )
    first = ee.Image(images.first())
    cloud = first.select("probability").gt(80).focalMin(1).focalMax(2)
    shadow = cloud.directionalDistanceTransform(90 - 160, 10).select("distance").mask()
    usable = first.select("SCL").remap([4, 5, 6], [1, 1, 1], 0).And(shadow.Not())
    assert set(np.unique(world.data(usable))) <= {0, 1}
    joined = ee.Join.saveFirst("cloud").apply(
        ee.ImageCollection("W/s2"), ee.ImageCollection("W/cloud"),
        ee.Filter.equals(leftField="system:index", rightField="system:index"),
    )  # fmt: skip
    assert world.info(ee.ImageCollection(joined).size()) == 4


def test_statistics_and_export_forms(world: World) -> None:
    region = box(0, 40, 0, 40)
    kinds = ee.Image("W/class").addBands(ee.Image("W/dem")).select(["elevation", "c"])
    groups = kinds.reduceRegion(ee.Reducer.sum().group(1, "kind"), region, 10)
    assert [g["kind"] for g in world.info(groups)["groups"]] == [0, 1]
    counts = ee.Image("W/class").reduceRegion(ee.Reducer.frequencyHistogram(), region, 10)
    assert sum(world.info(counts)["c"].values()) == pytest.approx(1600)
    per = ee.Image("W/dem").reduceRegions(ee.FeatureCollection([region]), ee.Reducer.mean(), 10)
    assert 500 < world.info(per.first().get("mean")) < 700
    sampled = ee.Image("W/dem").sample(region=region, scale=10, numPixels=20)
    assert world.info(sampled.size()) == 20
    regions = ee.Image("W/dem").sampleRegions(ee.FeatureCollection("W/rivers"), ["kind"], 10)
    assert set(world.info(regions.aggregate_array("kind"))) <= {0, 1, 2}
    clipped = ee.Image("W/dem").clipToBoundsAndScale(geometry=region, scale=20)
    assert world.info(clipped)["bands"][0]["dimensions"] == [20, 20]
    exact = ee.Image("W/dem").reproject(UTM, list(NATIVE)).setDefaultProjection(UTM, None, 10)
    np.testing.assert_array_equal(world.data(exact), world.data(ee.Image("W/dem")))


def test_nothing_is_missing() -> None:
    from gee.emulator.functions import load_all

    assert len(set(WORKLOAD)) == 128
    assert not set(WORKLOAD) - load_all().keys()
