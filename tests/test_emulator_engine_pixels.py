"""Grids, pyramids, masks and tiles: pixels are pulled from the output's grid."""

from __future__ import annotations

from collections.abc import Iterator

import ee
import numpy as np
import pytest
import rasterio.warp
import shapely
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from gee.emulator.errors import EngineError
from gee.emulator.evaluate import default_grid
from gee.emulator.geometry import covered, fractions
from gee.emulator.pixels import Limits, compute_pixels
from gee.emulator.projection import PixelGrid, Projection, Window, locate, transformer

SIZE = 160


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    random = np.random.default_rng(5)
    y, x = np.mgrid[:SIZE, :SIZE]
    # Pyramids end where the image fits into 256 pixels, so these are larger.
    by, bx = np.mgrid[:600, :600]
    checks = ((bx + by) % 2).astype(np.uint8)
    with earth(tmp_path_factory.mktemp("pixels")) as found:
        found.put("T/ramp", band("x", x.astype(np.float32)), band("y", y.astype(np.float32)))
        for policy in ("MEAN", "SAMPLE", "MODE", "MIN", "MAX"):
            found.put(f"T/checks_{policy}", band("c", checks * 10, policy=policy))
        found.put("T/long", band("x", bx.astype(np.float32)))
        half = np.ones((600, 600), bool)
        half[:, 1::2] = False
        found.put("T/stripes", band("v", np.full((600, 600), 7, np.uint8), half))
        noise = random.normal(size=(SIZE, SIZE)).astype(np.float32)
        holes = random.random((SIZE, SIZE)) > 0.15
        found.put("T/noise", band("n", noise, holes))
        found.put("T/classes", band("k", random.integers(0, 4, (SIZE, SIZE)).astype(np.uint8)))
        yield found


def test_native_pixels_come_back_as_they_are(world: Earth) -> None:
    data = world.data(ee.Image("T/ramp"), native(20, 30, 5, 7))
    assert data.tolist() == np.broadcast_to(np.arange(7, 37.0), (20, 30)).tolist()


def test_outside_the_image_is_masked(world: Earth) -> None:
    data = world.data(ee.Image("T/ramp"), native(4, 4, -2, SIZE - 2))
    assert np.isnan(data[:2]).all()
    assert np.isnan(data[:, 2:]).all()
    assert np.isfinite(data[2:, :2]).all()


def test_the_level_is_the_closest_that_is_not_coarser(world: Earth) -> None:
    "guides/scale: closest pyramid level at or below the requested scale, nearest neighbour."
    ramp = ee.Image("T/long")
    # 40 m on the native corner is level 2 exactly: means of 4 x 4 pixels.
    assert world.data(ramp, at_scale(40, 4, 4))[0].tolist() == [1.5, 5.5, 9.5, 13.5]
    # 70 m takes level 2 (40 m) too: pixel centres at 35, 105... fall in its pixels 0, 2, 4.
    assert world.data(ramp, at_scale(70, 3, 3))[0].tolist() == [1.5, 9.5, 17.5]
    # 30 m takes level 1 (20 m): centres at 15, 45, 75 fall in its pixels 0, 2, 3.
    assert world.data(ramp, at_scale(30, 3, 3))[0].tolist() == [0.5, 4.5, 6.5]


@pytest.mark.parametrize(
    ("policy", "value"), [("MEAN", 5), ("SAMPLE", 0), ("MIN", 0), ("MAX", 10), ("MODE", 0)]
)
def test_pyramid_policies_on_a_checkerboard(world: Earth, policy: str, value: int) -> None:
    "guides/image_manifest: MEAN, SAMPLE (upper left), MODE, MIN, MAX."
    data = world.data(ee.Image(f"T/checks_{policy}"), at_scale(20, 6, 6))
    assert set(np.unique(data)) == {value}


def test_masks_become_fractions_in_the_pyramid(world: Earth) -> None:
    "A half-masked pixel has mask 0.5 and the mean of what is valid."
    data, mask = world.pixels(ee.Image("T/stripes"), at_scale(40, 3, 3))["v"]
    assert data.tolist() == [[7] * 3] * 3
    assert np.allclose(mask, 0.5)


def test_results_depend_on_the_requested_scale(world: Earth) -> None:
    "guides/scale: a threshold of a coarse pixel is not the mean of thresholds."
    checks = ee.Image("T/checks_MEAN").gt(7)
    assert world.data(checks, at_scale(10, 4, 4)).mean() == 0.5
    assert world.data(checks, at_scale(20, 4, 4)).mean() == 0


def test_reproject_fixes_the_scale_of_everything_before(world: Earth) -> None:
    "guides/projections: reproject computes its input on that grid, then nearest neighbour."
    fine = ee.Image("T/checks_MEAN").gt(7).reproject(UTM, None, 10)
    native_checks = world.data(ee.Image("T/checks_MEAN").gt(7), native(12, 12))
    assert (world.data(ee.Image("T/checks_MEAN").gt(7), at_scale(30, 4, 4)) == 0).all()
    data = world.data(fine, at_scale(30, 4, 4))
    assert data.tolist() == native_checks[1::3, 1::3].tolist()


def test_set_default_projection_changes_no_pixel(world: Earth) -> None:
    "guides/projections: metadata only."
    image = ee.Image("T/noise")
    moved = image.setDefaultProjection("EPSG:4326", None, 500)
    assert world.info(moved.projection())["crs"] == "EPSG:4326"
    np.testing.assert_array_equal(world.data(moved), world.data(image))


def test_composites_have_no_scale_of_their_own(world: Earth) -> None:
    "guides/projections: EPSG:4326 at one degree; aggregating there is refused (ic_reducing)."
    composite = ee.ImageCollection([ee.Image("T/noise"), ee.Image("T/noise")]).mean()
    found = world.info(composite.projection())
    assert (found["crs"], found["transform"]) == ("EPSG:4326", [1, 0, 0, 0, 1, 0])
    with pytest.raises(EngineError, match="default WGS84 projection is invalid for aggregations"):
        world.value(composite.reduceRegion(ee.Reducer.mean(), box(0, 10, 0, 10)))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3413", "EPSG:32634"])
def test_other_coordinate_systems_agree_with_gdal(world: Earth, crs: str) -> None:
    "Nearest neighbour on another projection takes the pixel that holds the centre."
    image = world.value(ee.Image("T/classes"))
    grid = default_grid(image, crs=crs, scale=10)
    from gee.emulator.pixels import render

    data, mask = render(image, grid)["k"]
    native_data = render(image, native(SIZE, SIZE))["k"][0]
    expected = np.full((grid.height, grid.width), 255, np.uint8)
    rasterio.warp.reproject(
        native_data,
        expected,
        src_transform=rasterio.Affine(*NATIVE),
        src_crs=UTM,
        dst_transform=rasterio.Affine(*grid.transform),
        dst_crs=crs,
        resampling=rasterio.warp.Resampling.nearest,
        dst_nodata=255,
        tolerance=0,
    )
    both = (expected != 255) & (mask > 0)
    assert both.mean() > 0.3
    # GDAL interpolates positions more coarsely than the engine does.
    assert (data[both] == expected[both]).mean() > 0.99
    assert ((expected != 255) != (mask > 0)).mean() < 0.005


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:3413", "EPSG:4326", "EPSG:32635"])
def test_positions_are_exact_to_a_hundredth_of_a_pixel(crs: str) -> None:
    target = Projection(UTM, NATIVE)
    x, y = transformer(UTM, crs).transform(WEST, NORTH)
    lattice = Projection(crs, (1.0, 0.0, x, 0.0, -1.0, y)).at_scale(10)
    window = Window(lattice, -300, -250, 512, 300)
    place = locate(window, target)
    columns, rows = np.meshgrid(np.arange(-300, 212) + 0.5, np.arange(-250, 50) + 0.5)
    exact = target.to_pixels(*transformer(crs, UTM).transform(*lattice.to_crs(columns, rows)))
    assert np.abs(place.columns - exact[0]).max() < 0.01
    assert np.abs(place.rows - exact[1]).max() < 0.01


def test_rotated_and_sheared_grids(world: Earth) -> None:
    "A general affine grid reads the pixel under each centre."
    turn = (8.0, 3.0, WEST + 300, 2.0, -9.0, NORTH - 200)
    grid = PixelGrid(UTM, turn, 40, 30)
    data = world.data(ee.Image("T/ramp").select("x"), grid)
    column, row = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    x = turn[0] * column + turn[1] * row + turn[2]
    np.testing.assert_array_equal(data, np.floor((x - WEST) / STEP))


def test_bilinear_reproduces_a_plane(world: Earth) -> None:
    "guides/resample: at the next reprojection; a plane is interpolated exactly."
    ramp = ee.Image("T/ramp").select("x").resample("bilinear")
    grid = PixelGrid(UTM, (7.0, 0.0, WEST + 33, 0.0, -7.0, NORTH - 41), 50, 40)
    centres = (33 + 7 * (np.arange(50) + 0.5)) / STEP - 0.5
    np.testing.assert_allclose(world.data(ramp, grid)[0], centres, atol=1e-5)
    cubic = ee.Image("T/ramp").select("x").resample("bicubic")
    np.testing.assert_allclose(world.data(cubic, grid)[0], centres, atol=1e-5)


def test_resample_does_nothing_on_the_native_grid_and_on_composites(world: Earth) -> None:
    "guides/resample: not a valid use on composites."
    image = ee.Image("T/noise")
    np.testing.assert_array_equal(world.data(image.resample("bilinear")), world.data(image))
    mean = ee.ImageCollection([image]).mean()
    grid = at_scale(7, 30, 30)
    np.testing.assert_array_equal(
        world.data(mean.resample("bilinear"), grid), world.data(mean, grid)
    )


def test_interpolation_masks_where_a_neighbour_is_masked(world: Earth) -> None:
    grid = PixelGrid(UTM, (10.0, 0.0, WEST + 5, 0.0, -10.0, NORTH - 5), 40, 40)
    data = world.data(ee.Image("T/noise").resample("bilinear"), grid)
    plain = world.data(ee.Image("T/noise"), native(41, 41))
    four = np.stack([plain[:-1, :-1], plain[1:, :-1], plain[:-1, 1:], plain[1:, 1:]])
    np.testing.assert_allclose(data, four.mean(axis=0), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ tiles


def heavy(world: Earth) -> dict[str, ee.Image]:
    noise = ee.Image("T/noise")
    ramp = ee.Image("T/ramp")
    kinds = ee.Image("T/classes")
    return {
        "slope": ee.Terrain.slope(noise),
        "circle": noise.focalMean(3, "circle"),
        "max": noise.focalMax(2, "square", "pixels", 2),
        "convolve": noise.unmask(0).convolve(ee.Kernel.gaussian(4, 2)),
        "spread": noise.reduceNeighborhood(ee.Reducer.stdDev(), ee.Kernel.square(2)),
        "median": noise.reduceNeighborhood(ee.Reducer.median(), ee.Kernel.circle(2)),
        "distance": kinds.eq(3).fastDistanceTransform(20),
        "patches": kinds.connectedPixelCount(12, False),
        "labels": kinds.connectedComponents(ee.Kernel.plus(1), 16).select("labels"),
        "clip": ramp.clip(box(3.3, 100.2, 10.6, 120.9)),
        "buffer": ramp.select("x").clip(ee.Geometry.Point([15.01, 60.43]).buffer(300)),
        "paint": ee.Image(0).paint(
            ee.FeatureCollection([ee.Feature(ee.Geometry.Point([15.012, 60.425]).buffer(200))]), 1
        ),
        "other": noise.reproject("EPSG:4326", None, 15).focalMean(2),
        "bilinear": noise.unmask(0).reproject("EPSG:3857", None, 37).resample("bilinear"),
        "lonlat": ee.Image.pixelLonLat(),
        "area": ee.Image.pixelArea(),
        "random": ee.Image.random(3),
        "far": kinds.eq(0).directionalDistanceTransform(30, 12),
    }


@pytest.mark.parametrize("name", [
    "slope", "circle", "max", "convolve", "spread", "median", "distance", "patches", "labels",
    "clip", "buffer", "paint", "other", "bilinear", "lonlat", "area", "random", "far",
])  # fmt: skip
def test_tiles_make_no_difference(world: Earth, name: str) -> None:
    "Any tile size gives the same pixels: halos, masks and coordinates."
    image = heavy(world)[name]
    grid = native(131, 117, 9, 13)
    whole = world.pixels(image, grid, Limits(tile=1024, threads=1))
    for tile, threads in ((64, 2), (37, 1)):
        parts = world.pixels(image, grid, Limits(tile=tile, threads=threads))
        assert parts.keys() == whole.keys()
        for key, (data, mask) in whole.items():
            np.testing.assert_array_equal(np.asarray(parts[key][1], float), np.asarray(mask, float))
            np.testing.assert_array_equal(parts[key][0], data)


@given(row=st.integers(-20, 120), column=st.integers(-20, 120), size=st.integers(1, 60))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_part_equals_the_part_of_the_whole(
    world: Earth, row: int, column: int, size: int
) -> None:
    "Windows share one lattice: asking for less gives the same values."
    image = world.value(
        ee.Terrain.slope(ee.Image("T/noise").resample("bilinear").reproject("EPSG:3857", None, 23))
    )
    from gee.emulator.pixels import render

    grid = native(SIZE, SIZE)
    whole, valid = render(image, grid.part(-20, -20, 200, 200))["slope"]
    data, mask = render(image, grid.part(row, column, size, size))["slope"]
    inside = np.s_[row + 20 : min(row + 20 + size, 200), column + 20 : min(column + 20 + size, 200)]
    height, width = whole[inside].shape
    np.testing.assert_array_equal(data[:height, :width], whole[inside])
    np.testing.assert_array_equal(mask[:height, :width], valid[inside])


def test_each_input_is_read_once_per_tile(world: Earth, monkeypatch: pytest.MonkeyPatch) -> None:
    "Common subexpressions are computed once."
    from gee.emulator.catalog import BandAsset

    reads: list[int] = []
    read = BandAsset.read

    def counted(self, *arguments):  # type: ignore[no-untyped-def]
        reads.append(1)
        return read(self, *arguments)

    monkeypatch.setattr(BandAsset, "read", counted)
    a = ee.Image("T/noise")
    deep = a
    for _ in range(12):
        deep = deep.add(deep)  # 4096 paths to the one input
    world.pixels(deep.addBands(a.multiply(a)), native(64, 64))
    assert len(reads) == 1


def test_large_outputs_are_streamed(world: Earth) -> None:
    "Tiles arrive one after another, never the whole."
    image = world.value(ee.Image.pixelLonLat().select("latitude").add(1))
    tiles = compute_pixels(image, PixelGrid(UTM, NATIVE, 20_000, 20_000), None, Limits(threads=2))
    first = next(tiles)
    assert first[:4] == (0, 512, 0, 512)
    assert first[4]["latitude"][0].shape == (512, 512)
    tiles.close()  # type: ignore[attr-defined]


# ------------------------------------------------------------------ which pixels a shape covers


@st.composite
def stars(draw: st.DrawFn) -> shapely.Polygon:
    count = draw(st.integers(3, 9))
    turns = np.sort(draw(st.lists(st.floats(0, 6.28), min_size=count, max_size=count, unique=True)))
    radii = draw(st.lists(st.floats(1, 14), min_size=count, max_size=count))
    cx, cy = draw(st.floats(5, 20)), draw(st.floats(5, 20))
    points = np.column_stack([cx + radii * np.cos(turns), cy + radii * np.sin(turns)])
    return shapely.make_valid(shapely.Polygon(points))


@given(stars(), st.integers(-3, 9), st.integers(-3, 9))
@settings(max_examples=60, deadline=None)
def test_fractions_are_areas_of_intersection(
    shape: shapely.Geometry, row: int, column: int
) -> None:
    "Independent reference: shapely's intersection with every pixel."
    window = Window(Projection("EPSG:3857"), column, row, 14, 11)
    found = fractions(shape, window)
    cells = [
        [shapely.box(column + j, row + i, column + j + 1, row + i + 1) for j in range(14)]
        for i in range(11)
    ]
    exact = shapely.area(shapely.intersection(shape, cells))
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        return  # degenerate stars leave lines, which mark the pixels they cross
    assert np.abs(found - exact).max() <= 1 / 256


@given(stars())
@settings(max_examples=60, deadline=None)
def test_covered_agrees_with_gdal(shape: shapely.Geometry) -> None:
    "Independent reference: GDAL burns pixels whose centre is inside."
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        return
    window = Window(Projection("EPSG:3857"), 0, 0, 30, 28)
    found = covered(shape, window)
    centres = shapely.points(*np.meshgrid(np.arange(30) + 0.5, np.arange(28) + 0.5))
    on_edge = shapely.distance(shape.boundary, centres) < 1e-9
    burnt = rasterize([shape], (28, 30), dtype="uint8").astype(bool)
    gdal = shapely.contains(shape, centres)
    assert (found == gdal)[~on_edge].all()
    assert (burnt != found).mean() < 0.02


def test_clip_leaves_fractional_masks(world: Earth) -> None:
    "guides/reducers_weighting: edge pixels are masked in part."
    _, mask = world.pixels(ee.Image("T/ramp").clip(box(2, 6.5, 3, 8.25)), native(10, 10))["x"]
    assert mask[2, 3] == 1
    assert mask[6, 3] == pytest.approx(0.5)
    assert mask[2, 8] == pytest.approx(0.25)
    assert mask[6, 8] == pytest.approx(0.125)
    assert mask[7, 3] == 0


# ------------------------------------------------------------------ grids of requests


def test_default_grid_of_an_asset_is_its_own(world: Earth) -> None:
    grid = default_grid(world.value(ee.Image("T/ramp")))
    assert (grid.transform, grid.width, grid.height) == (NATIVE, SIZE, SIZE)


def test_a_scale_puts_edges_on_multiples_of_it(world: Earth) -> None:
    "guides/exporting_images: the translation of the transform is divisible by the scale."
    image = world.value(ee.ImageCollection([ee.Image("T/ramp")]).mean())
    region = world.value(box(3, 17, 5, 29))
    grid = default_grid(image, region, 30, crs=UTM)
    assert grid.transform[2] % 30 == 0
    assert grid.transform[5] % 30 == 0
    left, top = grid.transform[2], grid.transform[5]
    assert left <= WEST + 50 < left + 30
    assert top >= NORTH - 30 > top - 30


def test_clip_to_bounds_and_scale_fixes_size(world: Earth) -> None:
    "What geemap's download sends: width and height, or a scale."
    sized = ee.Image("T/ramp").clipToBoundsAndScale(box(0, 40, 0, 80), 20, 10)
    info = world.info(sized)["bands"][0]
    assert info["dimensions"] == [20, 10]
    assert info["crs_transform"][0] == 40
    scaled = ee.Image("T/ramp").clipToBoundsAndScale(geometry=box(0, 40, 0, 80), scale=20)
    assert world.info(scaled)["bands"][0]["dimensions"] == [40, 20]


def test_grid_of_a_request_is_read_and_checked() -> None:
    grid = PixelGrid.from_request(
        {
            "dimensions": {"width": 64, "height": 32},
            "affineTransform": {"scaleX": 10, "translateX": 5, "scaleY": -10, "translateY": 7},
            "crsCode": "EPSG:32643",
        }
    )
    assert grid == PixelGrid("EPSG:32643", (10, 0, 5, 0, -10, 7), 64, 32)
    with pytest.raises(EngineError, match="dimensions must be positive"):
        PixelGrid.from_request({"crsCode": "EPSG:4326"})
    with pytest.raises(EngineError, match="could not be parsed"):
        PixelGrid.from_request({"dimensions": {"width": 1, "height": 1}, "crsCode": "EPSG:0"})


def test_reduce_resolution_averages_what_a_pixel_covers(world: Earth) -> None:
    "guides/resample: aggregated at the next reprojection, weighted by the covered area."
    raw = world.data(ee.Image("T/noise"), native(90, 90))
    image = ee.Image("T/noise").reduceResolution(ee.Reducer.mean(), False, 64)
    found = world.data(image, at_scale(30, 30, 30))
    blocks = raw.reshape(30, 3, 30, 3).transpose(0, 2, 1, 3).reshape(30, 30, 9)
    np.testing.assert_allclose(found, np.nanmean(blocks, axis=2), rtol=1e-5)
    # 25 m: half of the third pixel counts.
    ramp = ee.Image("T/ramp").select("x").reduceResolution(ee.Reducer.mean(), False, 64)
    weights = np.array([1, 1, 0.5])
    assert world.data(ramp, at_scale(25, 2, 2))[0, 0] == pytest.approx(
        np.average([0, 1, 2], weights=weights)
    )
    with pytest.raises(EngineError, match=r"Image.reduceResolution: Too many input pixels"):
        world.data(image, at_scale(300, 2, 2))


def test_translate_moves_pixels(world: Earth) -> None:
    ramp = ee.Image("T/ramp").select("x")
    moved = world.data(ramp.translate(30, 0, "meters"), native(5, 20))
    assert np.isnan(moved[:, :3]).all()
    np.testing.assert_array_equal(moved[:, 3:], world.data(ramp, native(5, 17)))


def test_change_projection_keeps_pixel_numbers(world: Earth) -> None:
    old = ee.Projection(UTM, list(NATIVE))
    new = ee.Projection(UTM, [20, 0, WEST, 0, -20, NORTH])
    found = world.data(ee.Image("T/ramp").select("x").changeProj(old, new), at_scale(20, 4, 9))
    np.testing.assert_array_equal(found[0], np.arange(9))
