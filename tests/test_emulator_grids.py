"""Grids that are seldom tried: around the poles, across the 180th meridian, turned, tiny, huge."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import NORTH, STEP, UTM, WEST, Earth, at_scale, band, box, earth, native
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from gee.emulator.catalog import BandData
from gee.emulator.errors import EngineError
from gee.emulator.functions.resolution import footprints, overlap
from gee.emulator.pixels import Limits, render
from gee.emulator.projection import PixelGrid, Projection, Window

WORLD = (1.0, 0.0, -180.0, 0.0, -1.0, 90.0)
PACIFIC = (0.01, 0.0, 175.0, 0.0, -0.01, 70.0)
POLAR = (500.0, 0.0, -2_600_000.0, 0.0, -500.0, 500_000.0)


def degrees(transform: tuple[float, ...], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return transform[2] + transform[0] * columns, transform[5] + transform[4] * rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("grids")) as found:
        lon, lat = degrees(WORLD, 180, 360)
        found.put(
            "G/world",
            BandData("lon", lon.astype("f4"), "EPSG:4326", WORLD),
            BandData("lat", lat.astype("f4"), "EPSG:4326", WORLD),
        )
        # Ten degrees on both sides of the 180th meridian: columns 0 to 999 are 175 to 185 E.
        lon, lat = degrees(PACIFIC, 400, 1000)
        found.put(
            "G/pacific",
            BandData("lon", lon.astype("f4"), "EPSG:4326", PACIFIC),
            BandData("lat", lat.astype("f4"), "EPSG:4326", PACIFIC),
        )
        columns, rows = np.meshgrid(np.arange(200.0), np.arange(200.0))
        found.put(
            "G/polar",
            BandData("x", columns.astype("f4"), "EPSG:3413", POLAR),
            BandData("y", rows.astype("f4"), "EPSG:3413", POLAR),
        )
        y, x = np.mgrid[:120, :120].astype("f4")
        found.put("G/ramp", band("x", x), band("y", y), band("plane", 3 * x - 2 * y))
        yield found


# ------------------------------------------------------------------ the 180th meridian


@pytest.mark.parametrize("crs", ["EPSG:32601", "EPSG:3832", "EPSG:3413", "EPSG:3571"])
def test_images_go_on_beyond_the_180th_meridian(world: Earth, crs: str) -> None:
    "Columns of an image in degrees are longitudes, which repeat after 360."
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(180.0, 68.0)
    grid = PixelGrid(crs, (900.0, 0.0, x - 18_000, 0.0, -900.0, y + 18_000), 40, 40)
    pixels = world.pixels(ee.Image("G/pacific"), grid)
    assert all(mask.all() for _, mask in pixels.values())
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(
        grid.transform[2] + 900 * columns, grid.transform[5] - 900 * rows
    )
    lon = np.where(lon < 0, lon + 360, lon)
    assert lon.min() < 179.9 and lon.max() > 180.1
    # The nearest pixel is at most half a pixel away.
    assert np.abs(pixels["lon"][0] - lon).max() <= 0.0051
    assert np.abs(pixels["lat"][0] - lat).max() <= 0.0051


def test_degrees_may_be_counted_either_way(world: Earth) -> None:
    "A grid from -180 on and one that goes on from 180 read the same pixels."
    image = ee.Image("G/pacific").select("lon")
    beyond = PixelGrid("EPSG:4326", (0.01, 0.0, 181.0, 0.0, -0.01, 69.0), 30, 20)
    negative = PixelGrid("EPSG:4326", (0.01, 0.0, -179.0, 0.0, -0.01, 69.0), 30, 20)
    found = world.data(image, beyond)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, world.data(image, negative))
    # And the globe's first columns come again after its last.
    turned = PixelGrid("EPSG:4326", (1.0, 0.0, 178.0, 0.0, -1.0, 10.0), 4, 1)
    assert world.data(ee.Image("G/world").select("lon"), turned).tolist() == [
        [178.5, 179.5, -179.5, -178.5]
    ]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32601", "EPSG:3413"])
@pytest.mark.parametrize("corners", [(178, 60, 182, 62), (178, 60, -178, 62)])
@pytest.mark.parametrize("how", ["clip", "paint"])
def test_shapes_go_on_beyond_the_180th_meridian(
    world: Earth, crs: str, corners: tuple[float, ...], how: str
) -> None:
    "Geodesic edges take the shorter way (guides/geometries); degrees may be counted either way."
    shape = ee.Geometry.Rectangle(list(corners), None, True)
    features = ee.FeatureCollection([ee.Feature(shape)])
    image = ee.Image(1).clip(shape) if how == "clip" else ee.Image(0).paint(features, 1).selfMask()
    change = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    around = {"EPSG:4326": 360.0, "EPSG:3857": 2 * math.pi * 6378137}.get(crs, 0.0)
    for lap in (0, 1) if around else (0,):
        for lon in (178.5, 179.9, -179.9, -178.5, 177.5, -177.5):
            x, y = change.transform(lon, 61.0)
            x += lap * around * (1 if lon < 0 else -1)
            step = 0.001 if crs == "EPSG:4326" else 100.0
            grid = PixelGrid(crs, (step, 0.0, x, 0.0, -step, y), 1, 1)
            _, mask = next(iter(world.pixels(image, grid).values()))
            assert bool(mask[0, 0]) == (abs(lon) > 178), (lon, lap)


def test_tiles_do_not_show_at_the_180th_meridian(world: Earth) -> None:
    image = world.value(ee.Terrain.slope(ee.Image("G/pacific").select("lat").multiply(1e5)))
    grid = PixelGrid("EPSG:32601", (800.0, 0.0, 210_000.0, 0.0, -800.0, 7_600_000.0), 90, 70)
    data, mask = render(image, grid, None, Limits(tile=512, threads=1))["slope"]
    assert mask.mean() > 0.9
    again = render(image, grid, None, Limits(tile=16, threads=2))["slope"]
    np.testing.assert_array_equal(again[0], data)
    np.testing.assert_array_equal(again[1], mask)


# ------------------------------------------------------------------ poles


def test_the_globe_around_the_pole(world: Earth) -> None:
    "Polar stereographic output of an image in degrees: every longitude in one window."
    grid = PixelGrid("EPSG:3413", (40_000.0, 0.0, -800_000.0, 0.0, -40_000.0, 800_000.0), 40, 40)
    pixels = world.pixels(ee.Image("G/world"), grid)
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
    lon, lat = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(
        -800_000 + 40_000 * columns, 800_000 - 40_000 * rows
    )
    assert all(mask.all() for _, mask in pixels.values())
    np.testing.assert_array_equal(pixels["lat"][0], np.floor(lat) + 0.5)
    np.testing.assert_array_equal(pixels["lon"][0], np.floor(lon) + 0.5)


def test_polar_assets_are_read_as_they_lie(world: Earth) -> None:
    image = ee.Image("G/polar")
    grid = PixelGrid("EPSG:3413", POLAR, 200, 200)
    x = world.data(image.select("x"), grid)
    np.testing.assert_array_equal(x[7], np.arange(200))
    assert world.info(image.projection())["crs"] == "EPSG:3413"
    # Places in degrees find the same pixels.
    lonlat = world.pixels(ee.Image.pixelLonLat(), grid)
    lon, lat = lonlat["longitude"][0][20, 30], lonlat["latitude"][0][20, 30]
    point = ee.Geometry.Point([float(lon), float(lat)])
    found = world.info(image.reduceRegion(ee.Reducer.first(), point, 500))
    assert found == {"x": 30, "y": 20}


def test_areas_on_polar_grids_are_those_of_the_ellipsoid(world: Earth) -> None:
    "[A] Image.pixelArea: square metres, whatever the projection's own scale."
    grid = PixelGrid("EPSG:3413", (5000.0, 0.0, -2_400_000.0, 0.0, -5000.0, 300_000.0), 20, 20)
    found = world.data(ee.Image.pixelArea(), grid)
    change = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    for row, column in ((0, 0), (10, 7), (19, 19)):
        x0, y0 = -2_400_000 + 5000 * column, 300_000 - 5000 * row
        lon, lat = change.transform([x0, x0 + 5000, x0 + 5000, x0], [y0, y0, y0 - 5000, y0 - 5000])
        exact = abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])
        assert found[row, column] == pytest.approx(exact, rel=1e-4)


# ------------------------------------------------------------------ turned, tiny, huge


@given(
    turn=st.floats(0, 2 * math.pi),
    stretch=st.floats(0.4, 3),
    shear=st.floats(-0.7, 0.7),
    flip=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_gradients_of_a_plane_are_the_same_on_any_grid(
    world: Earth, turn: float, stretch: float, shear: float, flip: bool
) -> None:
    "[A] Image.gradient and Terrain.aspect: of the ground, not of rows and columns."
    c, s = math.cos(turn), math.sin(turn)
    a, b, d, e = 5 * c, 5 * (shear * c - s) * stretch, 5 * s, 5 * (shear * s + c) * stretch
    if flip:
        b, e = -b, -e
    # Interpolated exactly, so that the plane has no steps.
    plane = ee.Image("G/ramp").select("plane").resample("bilinear")
    grid = PixelGrid(UTM, (a, b, WEST + 600, d, e, NORTH - 600), 8, 7)
    pixels = world.pixels(plane.gradient(), grid)
    # 3 up a pixel of 10 m eastwards; rows count southwards.
    np.testing.assert_allclose(pixels["x"][0], 0.3, rtol=1e-3)
    np.testing.assert_allclose(pixels["y"][0], 0.2, rtol=1e-3)
    downhill = math.degrees(math.atan2(-0.3, -0.2)) % 360
    np.testing.assert_allclose(
        world.data(ee.Terrain.aspect(plane), grid), downhill, atol=0.05
    )  # fmt: skip


def test_tiny_and_huge_pixels(world: Earth) -> None:
    ramp = ee.Image("G/ramp").select("x")
    # A tenth of a millimetre: all pixels lie in one of the image's.
    tiny = PixelGrid(UTM, (1e-4, 0.0, WEST + 404.9998, 0.0, -1e-4, NORTH - 55), 6, 5)
    assert np.unique(world.data(ramp, tiny)).tolist() == [40]
    edge = PixelGrid(UTM, (1e-4, 0.0, WEST + 399.9998, 0.0, -1e-4, NORTH - 55), 4, 1)
    assert world.data(ramp, edge).tolist() == [[39, 39, 40, 40]]
    # A thousand kilometres: the image is one pixel's corner, whose centre is outside.
    huge = PixelGrid(UTM, (1e6, 0.0, 0.0, 0.0, -1e6, 7e6), 3, 3)
    assert np.isnan(world.data(ramp, huge)).all()
    assert world.info(ramp.reduceRegion(ee.Reducer.count(), box(0, 120, 0, 120), 1e6)) == {"x": 0}


def test_a_grid_may_count_rows_upwards(world: Earth) -> None:
    up = PixelGrid(UTM, (STEP, 0.0, WEST, 0.0, STEP, NORTH - 1200), 120, 120)
    image = ee.Image("G/ramp")
    np.testing.assert_array_equal(
        world.data(image.select("y"), up)[::-1], world.data(image.select("y"), native(120, 120))
    )
    np.testing.assert_allclose(
        world.data(ee.Terrain.aspect(image.select("plane")), up)[5, 5],
        world.data(ee.Terrain.aspect(image.select("plane")), native(120, 120))[5, 5],
    )


def test_one_degree_is_a_grid_like_any_other_unless_it_is_the_default(world: Earth) -> None:
    "guides/projections: the default of composites is [1, 0, 0, 0, 1, 0], not every degree."
    lon = ee.Image("G/world").select("lon").resample("bilinear")
    grid = PixelGrid("EPSG:4326", (0.25, 0.0, 10.0, 0.0, -0.25, 50.0), 8, 1)
    np.testing.assert_allclose(
        world.data(lon, grid)[0], 10 + 0.25 * (np.arange(8) + 0.5), atol=1e-4
    )
    assert world.info(
        ee.Image("G/world").select("lat").reduceRegion(
            ee.Reducer.mean(), ee.Geometry.Rectangle([0, 10, 4, 14], "EPSG:4326", False)
        )
    )["lat"] == pytest.approx(12, abs=0.01)  # fmt: skip


# ------------------------------------------------------------------ projections of composites


def composite() -> ee.Image:
    image = ee.Image("G/ramp").select("x")
    return ee.ImageCollection([image, image]).median()


@pytest.mark.parametrize("name", [
    "reduceRegion", "reduceRegions", "reduceToVectors", "sample", "sampleRegions",
])  # fmt: skip
def test_composites_need_a_scale(world: Earth, name: str) -> None:
    "guides/ic_reducing: the default projection says nothing about pixels to aggregate."
    region = box(0, 9, 0, 9)
    features = ee.FeatureCollection([ee.Feature(region, {"a": 1})])
    made = {
        "reduceRegion": lambda i, **k: i.reduceRegion(ee.Reducer.mean(), region, **k),
        "reduceRegions": lambda i, **k: i.reduceRegions(features, ee.Reducer.mean(), **k),
        "reduceToVectors": lambda i, **k: i.toInt().reduceToVectors(geometry=region, **k),
        "sample": lambda i, **k: i.sample(region, **k),
        "sampleRegions": lambda i, **k: i.sampleRegions(features, **k),
    }[name]
    words = (
        rf"^Image\.{name}: The default WGS84 projection is invalid for aggregations\. Specify a "
        r"scale or crs & crs_transform\.$"
    )
    with pytest.raises(EngineError, match=words):
        world.info(made(composite()))
    assert world.info(made(composite(), scale=10))
    # setDefaultProjection gives it one, and changes nothing else.
    pinned = composite().setDefaultProjection(UTM, [10, 0, WEST, 0, -10, NORTH])
    assert world.info(made(pinned))


def test_reduce_resolution_needs_a_projection(world: Earth) -> None:
    with pytest.raises(EngineError, match="does not have a valid default projection"):
        world.value(composite().reduceResolution(ee.Reducer.mean()))
    pinned = composite().setDefaultProjection(UTM, [10, 0, WEST, 0, -10, NORTH])
    found = world.data(pinned.reduceResolution(ee.Reducer.mean()), at_scale(40, 3, 3))
    assert found[0].tolist() == [1.5, 5.5, 9.5]


def test_the_pixels_to_combine_are_limited(world: Earth) -> None:
    "[A] maxPixels 64: eight by eight; bestEffort starts from a level that fits."
    ramp = ee.Image("G/ramp").select("x")
    assert world.data(ramp.reduceResolution(ee.Reducer.mean()), at_scale(80, 1, 1))[0, 0] == 3.5
    with pytest.raises(EngineError, match=r"Too many input pixels per output pixel: 81 > 64"):
        world.data(ramp.reduceResolution(ee.Reducer.mean()), at_scale(81, 1, 1))
    best = ramp.reduceResolution(ee.Reducer.mean(), True)
    assert np.isfinite(world.data(best, at_scale(160, 4, 4))).all()


def test_sums_are_weighted_by_the_share_of_the_output(world: Earth) -> None:
    "[A]: weights are the fraction of the output pixel, so they add up to 1; unweighted, to n."
    ramp = ee.Image("G/ramp").select("x")
    weighted = ramp.reduceResolution(ee.Reducer.sum())
    plain = ramp.reduceResolution(ee.Reducer.sum().unweighted())
    grid = at_scale(20, 2, 2)
    assert world.data(weighted, grid)[0].tolist() == [0.5, 2.5]
    assert world.data(plain, grid)[0].tolist() == [2, 10]


def test_stretched_pixels_combine_what_they_cover(world: Earth) -> None:
    "Twice as wide and four times as high: eight input pixels, not the square of nominal scales."
    both = ee.Image("G/ramp").select(["x", "y"]).reduceResolution(ee.Reducer.mean())
    grid = PixelGrid(UTM, (20.0, 0.0, WEST, 0.0, -40.0, NORTH), 3, 2)
    x, y = (data for data, _ in world.pixels(both, grid).values())
    assert x[0].tolist() == [0.5, 2.5, 4.5]
    assert y[:, 0].tolist() == [1.5, 5.5]


def test_pixels_in_degrees_are_narrow_in_the_north(world: Earth) -> None:
    "At 68 degrees north a pixel of 5 km covers 12 columns of 0.01 degrees, and 5 rows."
    image = ee.Image("G/pacific").select("lon").reduceResolution(
        ee.Reducer.count().combine(ee.Reducer.minMax(), "", True), False, 256
    )  # fmt: skip
    grid = PixelGrid("EPSG:32660", (5000.0, 0.0, 500_000.0, 0.0, -5000.0, 7_550_000.0), 2, 2)
    pixels = world.pixels(image, grid)
    width = 5000 / (111_320 * math.cos(math.radians(68.0))) / 0.01
    spread = (pixels["lon_max"][0] - pixels["lon_min"][0]) / 0.01
    assert np.abs(spread - width).max() < 1.5


@given(
    points=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=4, max_size=4),
)
@settings(max_examples=80, deadline=None)
def test_overlaps_are_areas_of_intersection(points: list[tuple[float, float]]) -> None:
    "Independent reference: shapely's intersection with every cell."
    import shapely

    hull = shapely.MultiPoint(points).convex_hull
    if hull.geom_type != "Polygon" or len(hull.exterior.coords) != 5:
        return
    ring = np.array(hull.exterior.coords)[:4]
    for column in range(5):
        cells = overlap(ring[:, 0], ring[:, 1], np.array(float(column)), np.array(0.0))
        for row in range(5):
            box_ = shapely.box(column, row, column + 1, row + 1)
            exact = hull.intersection(box_).area
            assert float(next(cells)) == pytest.approx(exact, abs=1e-6)


def test_footprints_of_turned_pixels_are_their_corners() -> None:
    target = Projection(UTM, (10, 0, WEST, 0, -10, NORTH))
    turned = Projection(UTM, (8.0, 3.0, WEST + 90, 2.0, -9.0, NORTH - 150))
    found = footprints(Window(turned, 4, 5, 3, 2), target)
    for k, (dc, dr) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
        x, y = target.to_pixels(*turned.to_crs(4 + dc, 5 + dr))
        assert (found.x[k, 0, 0], found.y[k, 0, 0]) == pytest.approx((x, y), abs=1e-6)


# ------------------------------------------------------------------ fractional masks


def test_clipped_pixels_count_in_part(world: Earth) -> None:
    "guides/reducers_weighting: weights are masks times the share of the region."
    ramp = ee.Image("G/ramp").select("x").clip(box(2, 5.5, 3, 7.25))
    region = box(0, 20, 0, 20)
    columns = np.array([1, 1, 1, 1, 0.25])
    rows = np.array([1, 1, 1, 0.5])
    weights = rows[:, None] * columns[None, :]
    values = np.broadcast_to(np.arange(3, 8), weights.shape)
    total = world.info(ramp.reduceRegion(ee.Reducer.sum(), region))["x"]
    assert total == pytest.approx((weights * values).sum(), rel=5e-3)
    mean = world.info(ramp.reduceRegion(ee.Reducer.mean(), region))["x"]
    assert mean == pytest.approx((weights * values).sum() / weights.sum(), rel=2e-3)
    # Twice in part: by the mask and by the region.
    half = box(2, 5.5, 3, 3.5)
    both = world.info(ramp.reduceRegion(ee.Reducer.sum(), half))["x"]
    assert both == pytest.approx(3 * 0.5 * (1 + 1 + 1 + 0.5 * 1), rel=0.1)
    # Combined into coarser pixels the same weights hold.
    coarse = ramp.reduceResolution(ee.Reducer.mean(), False, 64)
    found = world.data(coarse, at_scale(80, 1, 1))[0, 0]
    assert found == pytest.approx((weights * values).sum() / weights.sum(), rel=2e-3)
