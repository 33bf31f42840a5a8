"""Terrain and neighbourhoods: planes, kernels that the documentation prints, scipy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import NORTH, UTM, WEST, Earth, at_scale, band, earth, native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from gee.emulator.errors import EngineError
from gee.emulator.projection import PixelGrid, transformer

SIZE = 80


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    random = np.random.default_rng(3)
    with earth(tmp_path_factory.mktemp("terrain")) as found:
        noise = random.normal(size=(SIZE, SIZE)).astype(np.float32)
        found.put("T/noise", band("n", noise))
        holes = random.random((SIZE, SIZE)) > 0.2
        found.put("T/holes", band("n", noise, holes))
        found.put("T/spots", band("s", (random.random((SIZE, SIZE)) > 0.97).astype(np.uint8)))
        patches = ndimage.zoom(random.integers(0, 3, (16, 16)), 5, order=0)
        found.put("T/patches", band("p", patches.astype(np.uint8)))
        yield found


def plane(world: Earth, east: float, north: float) -> ee.Image:
    """Put a plane that rises so much per metre towards east and north."""
    y, x = np.mgrid[:SIZE, :SIZE]
    z = east * 10 * x - north * 10 * y + 500
    name = f"T/plane_{east:+.4f}_{north:+.4f}".replace(".", "p").replace("+", "u").replace("-", "m")
    if world.catalog.get(name) is None:
        world.put(name, band("elevation", z.astype(np.float64)))
    return ee.Image(name)


@given(st.floats(-2, 2), st.floats(-2, 2))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_slope_and_aspect_of_planes(world: Earth, east: float, north: float) -> None:
    "[A] Terrain.slope, aspect: degrees, 0 = N, 90 = E; edges masked."
    east, north = round(east, 3), round(north, 3)
    image = plane(world, east, north)
    slope = world.data(ee.Terrain.slope(image), native(SIZE, SIZE))
    assert slope[5, 5] == pytest.approx(math.degrees(math.atan(math.hypot(east, north))), abs=1e-4)
    assert np.isnan(slope[0]).all()
    assert np.isnan(slope[:, -1]).all()
    aspect = world.data(ee.Terrain.aspect(image), native(SIZE, SIZE))[5, 5]
    if east or north:
        downhill = math.degrees(math.atan2(-east, -north)) % 360
        assert abs((aspect - downhill + 180) % 360 - 180) < 1e-3


@pytest.mark.parametrize(
    ("east", "north", "aspect"), [(0, -1, 0), (-1, 0, 90), (0, 1, 180), (1, 0, 270)]
)
def test_aspect_points_downhill(world: Earth, east: float, north: float, aspect: float) -> None:
    "A slope that falls to the east faces east: 90."
    found = world.data(ee.Terrain.aspect(plane(world, east, north)), native(10, 10))
    assert found[5, 5] == pytest.approx(aspect)


def test_slope_follows_the_outputs_scale(world: Earth) -> None:
    "The gradient is of the output's pixels; a plane has the same slope at any scale."
    image = plane(world, 0.3, 0.2)
    expected = math.degrees(math.atan(math.hypot(0.3, 0.2)))
    for metres in (10, 30):
        data = world.data(ee.Terrain.slope(image), at_scale(metres, 12, 12))
        assert data[5, 5] == pytest.approx(expected, abs=1e-3)


def test_slope_in_degrees_uses_metres_of_the_ellipsoid(world: Earth) -> None:
    "A plane in metres seen on a grid of degrees has the slope that it has."
    image = plane(world, 0.5, 0.25).resample("bilinear")
    lon, lat = transformer(UTM, "EPSG:4326").transform(WEST + 200, NORTH - 200)
    grid = PixelGrid("EPSG:4326", (2e-4, 0, lon, 0, -1e-4, lat), 20, 20)
    data = world.data(ee.Terrain.slope(image), grid)
    expected = math.degrees(math.atan(math.hypot(0.5, 0.25)))
    assert np.median(data) == pytest.approx(expected, abs=0.05)


def test_hillshade_faces_the_sun(world: Earth) -> None:
    flat = world.data(ee.Terrain.hillshade(plane(world, 0, 0), 315, 45), native(10, 10))[5, 5]
    assert flat == round(255 * math.sin(math.radians(45)))
    # A slope of 45 degrees towards the sun is lit in full, the one behind not at all.
    lit = world.data(ee.Terrain.hillshade(plane(world, 1, 0), 270, 45), native(10, 10))[5, 5]
    dark = world.data(ee.Terrain.hillshade(plane(world, -1, 0), 270, 45), native(10, 10))[5, 5]
    assert (lit, dark) == (255, 0)


def test_products_adds_three_bands(world: Earth) -> None:
    found = world.info(ee.Terrain.products(plane(world, 1, 0)).bandNames())
    assert found == ["elevation", "slope", "aspect", "hillshade"]


# ------------------------------------------------------------------ kernels


def weights(world: Earth, kernel: ee.Kernel) -> np.ndarray:
    return world.value(kernel).built()[0]


def test_kernels_as_documented(world: Earth) -> None:
    "apidocs ee-kernel-*: shapes and weights."
    circle = weights(world, ee.Kernel.circle(3))
    assert circle.shape == (7, 7)
    assert circle[0].tolist() == pytest.approx([0, 0, 0, 1 / 29, 0, 0, 0])
    assert circle.sum() == pytest.approx(1)
    square = weights(world, ee.Kernel.square(2, "pixels", False))
    assert square.tolist() == np.ones((5, 5)).tolist()
    plus = weights(world, ee.Kernel.plus(1, "pixels", False))
    assert plus.tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    sobel = weights(world, ee.Kernel.sobel())
    assert np.abs(sobel).tolist() == [[1, 0, 1], [2, 0, 2], [1, 0, 1]]
    euclid = weights(world, ee.Kernel.euclidean(2))
    assert euclid[2].tolist() == [2, 1, 0, 1, 2]
    gauss = weights(world, ee.Kernel.gaussian(3, 1))
    assert gauss.shape == (5, 5)  # section 4.2: radius 3 is trimmed to 5 x 5
    assert gauss.sum() == pytest.approx(1)
    assert gauss[2, 2] == gauss.max()
    assert gauss[2, 3] / gauss[2, 2] == pytest.approx(math.exp(-0.5))


def test_convolve_is_scipys(world: Earth) -> None:
    "Convolution turns the kernel; masked neighbours mask the result."
    table = [[0, 1, 2], [3, 4, 5], [6, 7, 9]]
    raw = world.data(ee.Image("T/noise"), native(SIZE, SIZE))
    kernel = ee.Kernel.fixed(3, 3, table)
    found = world.data(ee.Image("T/noise").convolve(kernel), native(SIZE, SIZE))
    expected = ndimage.convolve(raw, np.array(table, float))
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-5, atol=1e-5)
    assert np.isnan(found[0]).all()


def test_kernels_in_metres_follow_the_scale(world: Earth) -> None:
    "apidocs ee-kernel-circle: resized when the zoom level is changed."
    image = ee.Image("T/spots").focalMax(20, "square", "meters")
    fine = world.data(image, native(SIZE, SIZE))
    raw = world.data(ee.Image("T/spots"), native(SIZE, SIZE))
    np.testing.assert_array_equal(fine, ndimage.maximum_filter(raw, 5, mode="nearest"))
    coarse = world.data(image, at_scale(20, 30, 30))
    same = world.data(ee.Image("T/spots").focalMax(1, "square"), at_scale(20, 30, 30))
    np.testing.assert_array_equal(coarse, same)


@pytest.mark.parametrize("name", ["mean", "min", "max", "median", "stdDev", "sum", "count"])
def test_reduce_neighbourhood_against_numpy(world: Earth, name: str) -> None:
    "Weights of the kernel, masked neighbours left out; outputs are band_name ([A])."
    kernel = ee.Kernel.square(1, "pixels", False)
    reducer = getattr(ee.Reducer, name)()
    found = ee.Image("T/holes").reduceNeighborhood(reducer, kernel)
    assert world.info(found.bandNames()) == [f"n_{name}"]
    raw = world.data(ee.Image("T/holes"), native(SIZE, SIZE))
    padded = np.pad(raw, 1, constant_values=np.nan)
    around = np.stack([padded[i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)])
    oracle = {
        "mean": np.nanmean, "min": np.nanmin, "max": np.nanmax, "median": np.nanmedian,
        "stdDev": np.nanstd, "sum": np.nansum, "count": lambda v, axis: np.isfinite(v).sum(axis),
    }[name]  # fmt: skip
    data = world.data(found, native(SIZE, SIZE))
    own = np.isfinite(raw)
    # skipMasked: where the pixel itself is masked the result is too.
    np.testing.assert_array_equal(np.isfinite(data), own)
    np.testing.assert_allclose(data[own], oracle(around[:, own], axis=0), rtol=1e-5, atol=1e-6)


def test_focal_mean_of_a_circle(world: Earth) -> None:
    raw = world.data(ee.Image("T/noise"), native(SIZE, SIZE))
    y, x = np.mgrid[-2:3, -2:3]
    disc = (x**2 + y**2 <= 4).astype(float)
    expected = ndimage.correlate(raw, disc / disc.sum())
    found = world.data(ee.Image("T/noise").focal_mean(2), native(SIZE, SIZE))
    np.testing.assert_allclose(found[3:-3, 3:-3], expected[3:-3, 3:-3], rtol=1e-5, atol=1e-6)


def test_fast_distance_transform_is_squared(world: Earth) -> None:
    "[A]: squared pixel distance to the nearest non-zero pixel."
    raw = world.data(ee.Image("T/spots"), native(SIZE, SIZE))
    expected = ndimage.distance_transform_edt(raw == 0) ** 2
    found = world.data(ee.Image("T/spots").fastDistanceTransform(60), native(SIZE, SIZE))
    near = expected < 3600
    np.testing.assert_allclose(found[near], expected[near])


def test_distance_is_masked_beyond_the_kernel(world: Earth) -> None:
    raw = world.data(ee.Image("T/spots"), native(SIZE, SIZE))
    expected = ndimage.distance_transform_edt(raw == 0)
    metres = ee.Image("T/spots").distance(ee.Kernel.euclidean(70, "meters"))
    found = world.data(metres, native(SIZE, SIZE))
    np.testing.assert_array_equal(np.isfinite(found), expected * 10 <= 70)
    good = np.isfinite(found)
    np.testing.assert_allclose(found[good], expected[good] * 10, rtol=1e-6)


def test_connected_pixels(world: Earth) -> None:
    image = ee.Image("T/patches")
    raw = world.data(image, native(SIZE, SIZE)).astype(int)
    sizes = np.zeros((SIZE, SIZE))
    for value in np.unique(raw):
        labels, _ = ndimage.label(raw == value)
        counts = np.bincount(labels.ravel())
        sizes = np.where(labels > 0, counts[labels], sizes)
    found = world.data(image.connectedPixelCount(64, False), native(SIZE, SIZE))
    np.testing.assert_array_equal(found, np.minimum(sizes, 64))


def test_unknown_units_and_shapes_are_refused(world: Earth) -> None:
    with pytest.raises(EngineError, match="Unknown kernel units 'feet'"):
        world.value(ee.Kernel.circle(3, "feet"))
    with pytest.raises(EngineError, match="Unknown kernel type 'blob'"):
        world.value(ee.Image(1).focal_mean(1, "blob"))
    with pytest.raises(EngineError, match="too large at this scale"):
        world.pixels(ee.Image("T/noise").focal_mean(1e6, "circle", "meters"), native(4, 4))


def test_gradient_per_metre(world: Earth) -> None:
    found = world.pixels(plane(world, 0.3, 0.2).gradient(), native(10, 10))
    assert found["x"][0][5, 5] == pytest.approx(0.3, abs=1e-6)
    assert found["y"][0][5, 5] == pytest.approx(0.2, abs=1e-6)


def test_cumulative_cost_of_even_ground_is_distance_times_cost(world: Earth) -> None:
    "[A]: the cost of the cheapest path; masked pixels cannot be crossed."
    spots = np.zeros((SIZE, SIZE), np.uint8)
    spots[20, 20] = 1
    world.put("T/one", band("s", spots))
    cost = ee.Image(2).cumulativeCost(ee.Image("T/one"), 150, False)
    found = world.data(cost, native(SIZE, SIZE))
    assert found[20, 20] == 0
    assert found[20, 25] == pytest.approx(100)
    assert found[25, 25] == pytest.approx(100 * math.sqrt(2))
    assert np.isnan(found[20, 50])


def test_components_are_reduced(world: Earth) -> None:
    image = ee.Image("T/noise").addBands(ee.Image("T/patches"))
    means = image.reduceConnectedComponents(ee.Reducer.mean(), "p", 400)
    found = world.data(means, native(SIZE, SIZE))
    raw = world.data(ee.Image("T/patches"), native(SIZE, SIZE))
    noise = world.data(ee.Image("T/noise"), native(SIZE, SIZE))
    labels, count = ndimage.label(raw == raw[40, 40], np.ones((3, 3)))
    patch = labels == labels[40, 40]
    if patch.sum() <= 400:
        np.testing.assert_allclose(found[patch], noise[patch].mean(), rtol=1e-5)
    else:
        assert np.isnan(found[patch]).all()
    assert count


def test_directional_distance_looks_from_shadow_to_cloud(world: Earth) -> None:
    "[A]: towards an angle; scripts pass 90 minus the azimuth of the sun."
    cloud = np.zeros((SIZE, SIZE), np.uint8)
    cloud[20, 40] = 1
    world.put("T/cloud", band("c", cloud))
    for azimuth, shadow in ((90, (20, 30)), (0, (30, 40)), (180, (10, 40)), (270, (20, 50))):
        found = ee.Image("T/cloud").directionalDistanceTransform(90 - azimuth, 20)
        data = world.data(found.select("distance"), native(SIZE, SIZE))
        assert data[shadow] == pytest.approx(10), azimuth
