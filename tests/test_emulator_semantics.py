"""The rules of Earth Engine that the emulator follows, one test each, each with its source.

Sources: `guides/...` and `apidocs/...` are pages of Earth Engine's developer documentation;
`[A]` is the description of the function in the list of the installed client. What those leave
open is in docs/emulator-undetermined.md, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import (
    NATIVE,
    NORTH,
    STEP,
    UTM,
    WEST,
    Earth,
    at_scale,
    band,
    box,
    earth,
    native,
)

from gee.emulator.catalog import BandData
from gee.emulator.errors import EngineError
from gee.emulator.projection import PixelGrid

Check = Callable[[Earth], None]
RULES: list[Any] = []


def rule(source: str, words: str) -> Callable[[Check], Check]:
    """Register a check under the rule it holds."""

    def register(check: Check) -> Check:
        RULES.append(pytest.param(check, id=f"{words} ({source})"))
        return check

    return register


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    y, x = np.mgrid[:600, :600]
    with earth(tmp_path_factory.mktemp("rules")) as found:
        found.put("R/x", band("x", x.astype(np.float32)), start=1_600_000_000_000, made="up")
        found.put("R/y", band("y", y.astype(np.float32)))
        for policy in ("MEAN", "SAMPLE", "MODE", "MIN", "MAX"):
            tens = (10 * ((x + y) % 2)).astype(np.uint8)
            found.put(f"R/checks/{policy}", band("c", tens, policy=policy))
        holes = x % 2 == 0
        found.put("R/holes", band("v", (x + 1).astype(np.float32), holes))
        found.put(
            "R/two",
            band("a", np.full((8, 8), 3, np.int16)),
            band("b", np.full((8, 8), 200, np.uint8)),
        )
        yield found


@pytest.mark.parametrize("check", RULES)
def test_rule(check: Check, world: Earth) -> None:
    check(world)


def one(world: Earth, image: Any, grid: PixelGrid | None = None) -> float:
    """Return the upper left pixel of the first band, NaN where masked."""
    return float(world.data(image, grid or native(1, 1))[0, 0])


def kind(world: Earth, image: Any) -> dict[str, Any]:
    found = world.info(image)["bands"][0]["data_type"]
    return {k: v for k, v in found.items() if k != "type"}


# ---- where a computation happens


@rule("guides/scale", "the output's scale reaches every input, so results depend on it")
def _pull(world: Earth) -> None:
    bright = ee.Image("R/checks/MEAN").gt(6)
    assert world.data(bright, native(4, 4)).mean() == 0.5
    assert world.data(bright, at_scale(20, 4, 4)).mean() == 0  # every pixel of level 1 is 5


@rule("guides/projections", "the projection too comes from the output")
def _pull_projection(world: Earth) -> None:
    grid = PixelGrid("EPSG:4326", (1e-4, 0, 15.001, 0, -1e-4, 60.43), 2, 2)
    longitude = world.data(ee.Image.pixelLonLat().select("longitude"), grid)
    np.testing.assert_allclose(longitude, [[15.00105, 15.00115]] * 2, atol=1e-9)


@rule("guides/scale", "the pyramid level of the closest scale that is not coarser, then nearest")
def _level(world: Earth) -> None:
    image = ee.Image("R/x")
    assert world.data(image, at_scale(40, 1, 3))[0].tolist() == [1.5, 5.5, 9.5]
    assert world.data(image, at_scale(70, 1, 3))[0].tolist() == [1.5, 9.5, 17.5]  # level of 40 m


for policy, value in {"MEAN": 5, "SAMPLE": 0, "MODE": 0, "MIN": 0, "MAX": 10}.items():

    @rule("guides/image_manifest", f"pyramids of policy {policy}")
    def _policy(world: Earth, policy: str = policy, value: int = value) -> None:
        data = world.data(ee.Image(f"R/checks/{policy}"), at_scale(20, 5, 5))
        assert np.unique(data).tolist() == [value]


@rule("guides/resample", "nearest neighbour unless told otherwise")
def _nearest(world: Earth) -> None:
    grid = PixelGrid(UTM, (10.0, 0, WEST + 4, 0, -10.0, NORTH), 4, 1)
    assert world.data(ee.Image("R/x"), grid)[0].tolist() == [0, 1, 2, 3]


@rule("guides/resample", "resample interpolates at the next change of grid")
def _bilinear(world: Earth) -> None:
    grid = PixelGrid(UTM, (10.0, 0, WEST + 14, 0, -10.0, NORTH - 10), 4, 1)
    for mode in ("bilinear", "bicubic"):
        data = world.data(ee.Image("R/x").resample(mode), grid)[0]
        np.testing.assert_allclose(data, [1.4, 2.4, 3.4, 4.4], rtol=1e-6)


@rule("guides/resample", "resample does nothing to a composite")
def _composite_resample(world: Earth) -> None:
    grid = PixelGrid(UTM, (10.0, 0, WEST + 14, 0, -10.0, NORTH - 10), 4, 1)
    mean = ee.ImageCollection(["R/x", "R/x"]).mean()
    np.testing.assert_array_equal(
        world.data(mean.resample("bilinear"), grid), world.data(mean, grid)
    )


@rule("guides/projections", "reproject computes everything before it on its grid, then nearest")
def _reproject(world: Earth) -> None:
    fixed = ee.Image("R/checks/MEAN").gt(6).reproject(UTM, list(NATIVE))
    at_thirty = world.data(fixed, at_scale(30, 3, 3))  # the middle of every 3 x 3
    assert at_thirty.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


@rule("guides/projections", "setDefaultProjection changes what is said, not the pixels")
def _default_projection(world: Earth) -> None:
    moved = ee.Image("R/x").setDefaultProjection("EPSG:3857", None, 77)
    assert world.info(moved.projection())["crs"] == "EPSG:3857"
    np.testing.assert_array_equal(world.data(moved), world.data(ee.Image("R/x")))


@rule("guides/projections", "a composite stands on EPSG:4326 at one degree")
def _composite(world: Earth) -> None:
    found = world.info(ee.ImageCollection(["R/x", "R/x"]).median().projection())
    assert (found["crs"], found["transform"]) == ("EPSG:4326", [1, 0, 0, 0, 1, 0])


@rule("guides/ic_reducing", "a composite is not aggregated without a scale")
def _composite_scale(world: Earth) -> None:
    mean = ee.ImageCollection(["R/x", "R/x"]).mean()
    with pytest.raises(EngineError, match=r"default WGS84 projection is invalid for aggregations"):
        world.value(mean.reduceRegion(ee.Reducer.mean(), box(0, 3, 0, 3)))
    found = world.info(mean.reduceRegion(ee.Reducer.mean(), box(0, 3, 0, 3), 10, UTM))
    assert found["x"] == pytest.approx(1)


@rule("guides/exporting_images", "the translation that a scale gives is divisible by it")
def _multiples(world: Earth) -> None:
    from gee.emulator.evaluate import default_grid

    mean = world.value(ee.ImageCollection(["R/x", "R/x"]).mean())
    grid = default_grid(mean, world.value(box(1, 5, 1, 5)), 30, crs=UTM)
    assert grid.transform[2] % 30 == 0
    assert grid.transform[5] % 30 == 0


# ---- masks


@rule("guides/image_math", "a result is valid where both inputs are")
def _both(world: Earth) -> None:
    total = world.data(ee.Image("R/holes").add(ee.Image("R/x")), native(1, 4))[0]
    np.testing.assert_array_equal(total, [1, np.nan, 5, np.nan])


@rule("apidocs/ee-image-updatemask", "updateMask changes the mask only where it was not zero")
def _update(world: Earth) -> None:
    mask = ee.Image("R/holes").updateMask(ee.Image(0.25)).mask()
    np.testing.assert_array_equal(world.data(mask, native(1, 4))[0], [0.25, 0, 0.25, 0])


@rule("[A] Image.mask", "mask(x) replaces the mask, and what it uncovers is 0")
def _mask(world: Earth) -> None:
    data = world.data(ee.Image("R/holes").mask(1), native(1, 4))[0]
    assert data[0] == 1 and data[2] == 3
    assert np.isfinite(data).all()


@rule("apidocs/ee-image-unmask", "unmask keeps the image's own area unless told otherwise")
def _unmask(world: Earth) -> None:
    outside = native(1, 2, 0, -1)
    image = ee.Image("R/x")
    np.testing.assert_array_equal(world.data(image.unmask(7), outside)[0], [np.nan, 0])
    np.testing.assert_array_equal(world.data(image.unmask(7, False), outside)[0], [7, 0])


@rule("[A] Image.where", "a masked test or value leaves the input")
def _where(world: Earth) -> None:
    x = ee.Image("R/x")
    data = world.data(x.where(ee.Image("R/holes").gt(0), -1), native(1, 4))[0]
    assert data.tolist() == [-1, 1, -1, 3]
    data = world.data(x.where(1, ee.Image("R/holes").multiply(10)), native(1, 4))[0]
    assert data.tolist() == [10, 1, 30, 3]


@rule("guides/reducers_weighting", "clip leaves fractional masks at its edge")
def _clip(world: Earth) -> None:
    clipped = ee.Image("R/x").clip(box(0, 2, 0, 1.25))
    np.testing.assert_allclose(world.data(clipped.mask(), native(1, 3))[0], [1, 0.25, 0], atol=1e-3)


@rule("guides/reducers_reduce_region", "weighted: the lesser of mask and share inside")
def _weights(world: Earth) -> None:
    x = ee.Image("R/x")
    found = world.info(x.reduceRegion(ee.Reducer.mean(), box(0, 1, 0, 2.5)))["x"]
    assert found == pytest.approx((0 + 1 + 0.5 * 2) / 2.5, rel=1e-3)


@rule("guides/reducers_reduce_region", "unweighted: pixels whose centre is inside")
def _centres(world: Earth) -> None:
    x = ee.Image("R/x")
    for reach, expected in ((2.4, 0.5), (2.6, 1)):
        region = box(0, 1, 0, reach)
        found = world.info(x.reduceRegion(ee.Reducer.mean().unweighted(), region))["x"]
        assert found == pytest.approx(expected)


@rule("guides/resample", "reduceResolution weighs by mask and by the share that is covered")
def _resolution(world: Earth) -> None:
    coarse = ee.Image("R/x").reduceResolution(ee.Reducer.mean())
    # 25 m: two whole pixels and half of the third, in both directions.
    data = world.data(coarse, at_scale(25, 1, 2))[0]
    np.testing.assert_allclose(data, [(0 + 1 + 0.5 * 2) / 2.5, (0.5 * 2 + 3 + 4) / 2.5], rtol=1e-5)
    masked = ee.Image("R/holes").reduceResolution(ee.Reducer.mean())
    np.testing.assert_allclose(
        world.data(masked, at_scale(25, 1, 1))[0], [(1 + 0.5 * 3) / 1.5], rtol=1e-5
    )


@rule("[A] Image.reduceResolution", "more input pixels than maxPixels are refused")
def _resolution_limit(world: Earth) -> None:
    coarse = ee.Image("R/x").reduceResolution(ee.Reducer.mean(), maxPixels=16)
    with pytest.raises(EngineError, match=r"[Tt]oo many"):
        world.data(coarse, at_scale(80, 1, 1))


# ---- types, names, properties


@rule("apidocs/ee-image-constant", "a constant's type holds exactly its value")
def _constant(world: Earth) -> None:
    assert kind(world, ee.Image(1)) == {"precision": "int", "min": 1, "max": 1}
    assert kind(world, ee.Image(0.5)) == {"precision": "double", "min": 0.5, "max": 0.5}


@rule("[A] Image.max", "the type of a pairwise function is the union of the inputs'")
def _union(world: Earth) -> None:
    a, b = ee.Image("R/two").select("a"), ee.Image("R/two").select("b")
    assert kind(world, a.max(b)) == {"precision": "int", "min": -32768, "max": 32767}
    assert kind(world, b.max(ee.Image("R/x")))["precision"] == "float"


@rule("[A] Image.toByte", "a cast clamps to the range of its type")
def _cast(world: Earth) -> None:
    assert one(world, ee.Image(300).toByte()) == 255
    assert one(world, ee.Image(-5.7).toByte()) == 0
    assert one(world, ee.Image(-5.7).toInt8()) == -5


@rule("[A] Image.add", "one band goes with all, equal names pair, others pair by order")
def _pairs(world: Earth) -> None:
    two = ee.Image("R/two")
    for other, expected in (
        (ee.Image(1), {"a": 4, "b": 201}),
        (two.select(["b", "a"]), {"a": 6, "b": 400}),
        (ee.Image([10, 20]), {"a": 13, "b": 220}),
    ):
        found = world.pixels(two.add(other), native(1, 1))
        assert {k: int(v[0][0, 0]) for k, v in found.items()} == expected


@rule("[A] Image.addBands", "repeated names get _1, _2")
def _names(world: Earth) -> None:
    two = ee.Image("R/two")
    found = world.info(ee.Image.cat(two, two, two).bandNames())
    assert found == ["a", "b", "a_1", "b_1", "a_2", "b_2"]


@rule("apidocs/ee-image-constant", "a list of constants gives constant_0, constant_1")
def _constants(world: Earth) -> None:
    assert world.info(ee.Image.constant([1, 2]).bandNames()) == ["constant_0", "constant_1"]
    assert world.info(ee.Image([1, 2]).bandNames()) == ["constant", "constant_1"]  # by addBands
    assert world.info(ee.Image(1).bandNames()) == ["constant"]


@rule("guides/reducers_image_collection", "a reducer's output is added to the band's name")
def _suffix(world: Earth) -> None:
    both = ee.ImageCollection(["R/x", "R/x"])
    assert world.info(both.reduce(ee.Reducer.mean()).bandNames()) == ["x_mean"]
    assert world.info(both.mean().bandNames()) == ["x"]
    assert world.info(both.reduce(ee.Reducer.percentile([5, 95])).bandNames()) == ["x_p5", "x_p95"]


@rule("[A] Image.copyProperties", "select, rename and masks keep properties, arithmetic drops them")
def _properties(world: Earth) -> None:
    x = ee.Image("R/x")
    for kept in (x.select("x"), x.rename("z"), x.updateMask(1)):
        assert world.info(kept.get("made")) == "up"
    assert world.info(x.add(1).get("made")) is None
    assert world.info(x.add(1).copyProperties(x, ["made"]).get("made")) == "up"


# ---- arithmetic


@rule("guides/image_math", "whole numbers in an expression divide with floor")
def _floor(world: Earth) -> None:
    assert one(world, ee.Image().expression("7 / 2")) == 3
    assert one(world, ee.Image().expression("7.0 / 2")) == 3.5
    assert one(world, ee.Image(7).divide(2)) == 3.5


@rule("[A] Image.divide", "division by zero gives zero")
def _zero(world: Earth) -> None:
    assert one(world, ee.Image(5).divide(0)) == 0
    assert one(world, ee.Image(5).mod(0)) == 0


@rule("[A] Image.atan2", "atan2 takes x first")
def _atan2(world: Earth) -> None:
    assert world.info(ee.Number(1).atan2(0)) == 0
    assert one(world, ee.Image(1).atan2(0)) == 0
    assert one(world, ee.Image(0).atan2(1)) == pytest.approx(np.pi / 2)


@rule("[A] Image.normalizedDifference", "the band is nd, negative input is masked")
def _nd(world: Earth) -> None:
    nd = ee.Image([3, 1]).normalizedDifference()
    assert world.info(nd.bandNames()) == ["nd"]
    assert one(world, nd) == 0.5
    assert np.isnan(one(world, ee.Image([3, -1]).normalizedDifference()))


# ---- neighbourhoods


@rule("[A] Image.fastDistanceTransform", "distances are squared, in pixels")
def _distance(world: Earth) -> None:
    corner = ee.Image("R/x").eq(2).And(ee.Image("R/y").eq(1))
    data = world.data(corner.fastDistanceTransform(), native(5, 5))
    y, x = np.mgrid[:5, :5]
    np.testing.assert_array_equal(data, (x - 2) ** 2 + (y - 1) ** 2)


@rule("[A] Image.distance", "distances by kernel are in its units, masked beyond it")
def _distance_kernel(world: Earth) -> None:
    point = ee.Image("R/x").eq(2).And(ee.Image("R/y").eq(2))
    kernel = ee.Kernel.euclidean(15, "meters")
    data = world.data(point.distance(kernel, False), native(5, 5))
    assert data[2, 3] == pytest.approx(10, rel=1e-2)
    assert data[3, 3] == pytest.approx(200**0.5, rel=1e-2)
    assert np.isnan(data[2, 4])


@rule("apidocs/ee-kernel-circle", "a kernel in metres shrinks with coarser pixels")
def _metres(world: Earth) -> None:
    ones = ee.Image(1)
    total = ones.reduceNeighborhood(ee.Reducer.sum(), ee.Kernel.square(30, "meters", False))
    assert one(world, total, native(1, 1, 9, 9)) == 49
    assert one(world, total, at_scale(30, 1, 1)) == 9


@rule(
    "apidocs/ee-image-reduceneighborhood", "masked neighbours are left out, masked pixels stay so"
)
def _neighbours(world: Earth) -> None:
    count = ee.Image("R/holes").reduceNeighborhood(ee.Reducer.count(), ee.Kernel.square(1))
    data = world.data(count, native(1, 4, 5, 2))[0]
    np.testing.assert_array_equal(data, [3, np.nan, 3, np.nan])
    everywhere = ee.Image("R/holes").reduceNeighborhood(
        ee.Reducer.count(), ee.Kernel.square(1), skipMasked=False
    )
    np.testing.assert_array_equal(world.data(everywhere, native(1, 4, 5, 2))[0], [3, 6, 3, 6])


@rule(
    "apidocs/ee-terrain-slope", "slope from the four neighbours, in degrees, at the output's scale"
)
def _slope(world: Earth) -> None:
    slope = ee.Terrain.slope(ee.Image("R/x").multiply(5))
    assert one(world, slope, native(1, 1, 9, 9)) == pytest.approx(np.degrees(np.arctan(0.5)), 1e-3)


@rule("apidocs/ee-terrain-aspect", "aspect is 0 north and 90 east, and looks down")
def _aspect(world: Earth) -> None:
    x, y = ee.Image("R/x"), ee.Image("R/y")  # y grows southwards
    for heights, expected in ((x.multiply(-1), 90), (x, 270), (y, 0), (y.multiply(-1), 180)):
        got = one(world, ee.Terrain.aspect(heights), native(1, 1, 9, 9))
        assert (got - expected + 180) % 360 - 180 == pytest.approx(0, abs=0.1)


# ---- collections and regions


@rule("guides/ic_composite_mosaic", "a mosaic shows the last valid image")
def _mosaic(world: Earth) -> None:
    both = ee.ImageCollection([ee.Image("R/x").rename("v"), ee.Image("R/holes").multiply(10)])
    assert world.data(both.mosaic(), native(1, 4))[0].tolist() == [10, 1, 30, 3]


@rule("guides/ic_composite_mosaic", "a quality mosaic takes all bands where the quality is highest")
def _quality(world: Earth) -> None:
    x = ee.Image("R/x").rename("q")
    first, second = x.addBands(ee.Image(1).rename("n")), ee.Image([2, 2]).rename(["q", "n"])
    best = ee.ImageCollection([first, second]).qualityMosaic("q").select("n")
    assert world.data(best, native(1, 5))[0][[0, 1, 3, 4]].tolist() == [2, 2, 1, 1]


@rule("guides/ic_iterating", "iterate hands over the element, then the result so far")
def _iterate(world: Earth) -> None:
    found = ee.List([1, 2, 3]).iterate(lambda e, last: ee.Number(last).multiply(10).add(e), 0)
    assert world.info(found) == 123


@rule("apidocs/ee-filterdate", "an end of dates is exclusive")
def _dates(world: Earth) -> None:
    images = ee.ImageCollection([ee.Image("R/x")])
    start = ee.Date(1_600_000_000_000)
    assert world.info(images.filterDate(start, start.advance(1, "second")).size()) == 1
    assert world.info(images.filterDate(start.advance(-1, "second"), start).size()) == 0


@rule("[A] Image.reduceToVectors", "eight neighbours connect, the property is label")
def _vectors(world: Earth) -> None:
    diagonal = ee.Image("R/x").eq(ee.Image("R/y")).toByte().selfMask()
    for eight, number in ((True, 1), (False, 4)):
        found = world.info(
            diagonal.reduceToVectors(
                geometry=box(0, 4, 0, 4), scale=10, crs=UTM, eightConnected=eight
            )
        )
        assert len(found["features"]) == number
        assert found["features"][0]["properties"]["label"] == 1
        assert "count" in found["features"][0]["properties"]


@rule("[A] Image.reduceRegion", "too many pixels are refused with the number found")
def _too_many(world: Earth) -> None:
    with pytest.raises(EngineError, match=r"Too many pixels in the region. Found \d+, but maxPix"):
        world.value(
            ee.Image("R/x").reduceRegion(ee.Reducer.mean(), box(0, 30, 0, 30), maxPixels=100)
        )


@rule("[A] Image.sample", "samples are pixel centres, those with a masked band dropped")
def _sample(world: Earth) -> None:
    found = world.info(ee.Image("R/holes").sample(box(0, 2, 0, 4), 10, UTM, geometries=True))
    assert sorted(f["properties"]["v"] for f in found["features"]) == [1, 1, 3, 3]
    longitude = found["features"][0]["geometry"]["coordinates"][0]
    easting = (longitude - 15) * np.cos(np.radians(60.4)) * 111_320
    assert (easting / STEP) % 1 == pytest.approx(0.5, abs=0.1)


@rule("guides/image_manifest", "a pixel at a band's nodata is masked")
def _nodata(world: Earth) -> None:
    world.catalog.put_image(
        "R/own",
        [BandData("v", np.array([[1, 2]], np.int16), UTM, NATIVE, np.array([[True, False]]))],
        {},
    )
    np.testing.assert_array_equal(world.data(ee.Image("R/own"), native(1, 2))[0], [1, np.nan])
