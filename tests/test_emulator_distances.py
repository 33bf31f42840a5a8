"""Distances, least costs and patches against brute force; what is refused as too large."""

from __future__ import annotations

import heapq
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
from gee.emulator.functions.connected import EIGHT, FOUR, labelled
from gee.emulator.pixels import Limits, render
from gee.emulator.projection import PixelGrid

SIZE = 40
RADIUS = 6378137.0  # [A] Image.cumulativeCost
DEGREES = (0.001, 0.0, 15.0, 0.0, -0.0005, 60.02)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    random = np.random.default_rng(8)
    price = random.integers(1, 9, (SIZE, SIZE)).astype(np.float32)
    price[::7, ::5] = 0
    toll = random.random((SIZE, SIZE)).astype(np.float32)
    way = random.random((SIZE, SIZE)) > 0.2
    seeds = (random.random((SIZE, SIZE)) > 0.99).astype(np.uint8)
    classes = random.integers(0, 3, (SIZE, SIZE)).astype(np.uint8)
    with earth(tmp_path_factory.mktemp("distances")) as found:
        found.put("D/utm", band("price", price, way), band("toll", toll), band("seeds", seeds))
        found.put(
            "D/degrees",
            BandData("price", price, "EPSG:4326", DEGREES, way),
            BandData("seeds", seeds, "EPSG:4326", DEGREES),
        )
        found.put("D/classes", band("k", classes), band("v", price))
        bar = np.zeros((300, 300), np.uint8)
        bar[10, 5:25], bar[40:45, 40:45] = 1, 2
        found.put("D/bars", band("k", bar, bar > 0), band("v", bar.astype(np.float32)))
        yield found


def step_lengths(crs: str, transform: tuple[float, ...]) -> object:
    """Return a function of two pixels: metres between their centres on the sphere."""
    change = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    a, _, c, _, e, f = transform
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    lon, lat = np.radians(change.transform(c + a * columns, f + e * rows))

    def metres(p: tuple[int, int], q: tuple[int, int]) -> float:
        # The spherical law of cosines in its stable form, by vectors.
        u, v = (
            np.array([
                math.cos(lat[i]) * math.cos(lon[i]),
                math.cos(lat[i]) * math.sin(lon[i]),
                math.sin(lat[i]),
            ])
            for i in (p, q)
        )  # fmt: skip
        return RADIUS * 2 * math.asin(min(1.0, float(np.linalg.norm(u - v)) / 2))

    return metres


def dijkstra(price: np.ndarray, way: np.ndarray, seeds: np.ndarray, metres) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Return least costs by Dijkstra's algorithm with a heap, one pixel at a time."""
    best = np.full(price.shape, np.inf)
    heap = []
    for place in zip(*np.nonzero((seeds > 0) & way), strict=True):
        best[place] = 0.0
        heap.append((0.0, (int(place[0]), int(place[1]))))
    heapq.heapify(heap)
    while heap:
        cost, (r, c) = heapq.heappop(heap)
        if cost > best[r, c]:
            continue
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                i, j = r + dr, c + dc
                if (dr, dc) == (0, 0) or not (0 <= i < SIZE and 0 <= j < SIZE) or not way[i, j]:
                    continue
                mean = (float(price[r, c]) + float(price[i, j])) / 2
                onward = cost + mean * metres((r, c), (i, j))
                if onward < best[i, j]:
                    best[i, j] = onward
                    heapq.heappush(heap, (onward, (i, j)))
    return best


@pytest.mark.parametrize("where", ["utm", "degrees"])
def test_least_costs_equal_dijkstra(world: Earth, where: str) -> None:
    "[A] Image.cumulativeCost: geodetic lengths on a sphere of 6378137 m; masked is no way."
    image = ee.Image(f"D/{where}")
    transform = (STEP, 0.0, WEST, 0.0, -STEP, NORTH) if where == "utm" else DEGREES
    crs = UTM if where == "utm" else "EPSG:4326"
    grid = PixelGrid(crs, transform, SIZE, SIZE)
    pixels = world.pixels(image, grid)
    price, way = pixels["price"]
    seeds = pixels["seeds"][0]
    expected = dijkstra(price, way > 0, seeds, step_lengths(crs, transform))
    made = image.select("price").cumulativeCost(image.select("seeds"), 4000)
    found = world.data(made, grid)
    assert np.isfinite(expected).sum() > 800
    assert (np.isfinite(found) == np.isfinite(expected)).all()
    good = np.isfinite(expected)
    np.testing.assert_allclose(found[good], expected[good], rtol=1e-6, atol=1e-6)


def test_costs_in_the_plane_and_their_band(world: Earth) -> None:
    "[A] geodeticDistance false: Euclidean distance in the plane of the projection."
    image = ee.Image("D/utm")
    price, way = world.pixels(image, native(SIZE, SIZE))["price"]
    seeds = world.pixels(image, native(SIZE, SIZE))["seeds"][0]
    expected = dijkstra(
        price, way > 0, seeds, lambda p, q: STEP * math.hypot(p[0] - q[0], p[1] - q[1])
    )
    made = image.select("price").cumulativeCost(image.select("seeds"), 4000, False)
    assert world.info(made.bandNames()) == ["cumulative_cost"]
    found = world.data(made, native(SIZE, SIZE))
    good = np.isfinite(expected)
    np.testing.assert_allclose(found[good], expected[good], rtol=1e-9)


def test_further_bands_hold_what_the_same_path_costs(world: Earth) -> None:
    "[A]: ancillary bands count only where paths over the first cost the same."
    image = ee.Image("D/utm")
    cheap = ee.Image(1).addBands(ee.Image(3)).toFloat()
    both = cheap.cumulativeCost(image.select("seeds"), 200, False)
    (first, _), (second, _) = world.pixels(both, native(SIZE, SIZE)).values()
    np.testing.assert_allclose(second, 3 * first, rtol=1e-12)
    assert first.max() > 50


def test_costs_end_at_the_greatest_distance(world: Earth) -> None:
    image = ee.Image("D/utm")
    seeds = world.pixels(image, native(SIZE, SIZE))["seeds"][0] > 0
    made = ee.Image(2).cumulativeCost(image.select("seeds"), 45, False)
    found = world.data(made, native(SIZE, SIZE))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    places = np.argwhere(seeds)
    far = np.min([np.hypot(rows - r, columns - c) for r, c in places], axis=0) * STEP
    assert (np.isfinite(found) == (far <= 45)).all()


# ------------------------------------------------------------------ features


def test_distances_to_features_are_those_on_the_ellipsoid(world: Earth) -> None:
    "[A] Collection.distance: metres to points, lines and boundaries; masked beyond the radius."
    points = [(15.001, 60.425), (15.013, 60.43)]
    features = ee.FeatureCollection([ee.Feature(ee.Geometry.Point(p)) for p in points])
    grid = at_scale(23, 40, 50)
    found = world.data(features.distance(600), grid)
    change = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    columns, rows = np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5)
    lon, lat = change.transform(WEST + 23 * columns, NORTH - 23 * rows)
    geod = Geod(ellps="WGS84")
    exact = np.min(
        [
            geod.inv(lon, lat, np.full_like(lon, x), np.full_like(lat, y))[2]
            for x, y in points
        ],
        axis=0,
    )  # fmt: skip
    assert (np.isfinite(found) == (exact <= 600)).mean() > 0.999
    good = np.isfinite(found)
    np.testing.assert_allclose(found[good], exact[good], rtol=1e-4, atol=0.01)


def test_distance_is_measured_inside_polygons_too(world: Earth) -> None:
    square = ee.FeatureCollection([ee.Feature(box(10, 30, 10, 30))])
    found = world.data(square.distance(500), native(40, 40))
    # The UTM zone's scale on its central meridian is 0.9996.
    assert found[20, 20] == pytest.approx(95 / 0.9996, rel=1e-4)
    assert found[12, 20] == pytest.approx(25 / 0.9996, rel=1e-4)
    assert found[5, 20] == pytest.approx(45 / 0.9996, rel=1e-4)


# ------------------------------------------------------------------ patches


@given(
    data=st.integers(1, 9).flatmap(
        lambda w: st.lists(
            st.lists(st.integers(0, 2), min_size=w, max_size=w), min_size=1, max_size=9
        )
    ),
    holes=st.integers(0, 2**30),
    eight=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_labels_equal_a_flood(data: list[list[int]], holes: int, eight: bool) -> None:
    "Independent reference: flooding from every pixel that has no number yet."
    values = np.array(data)
    valid = np.random.default_rng(holes).random(values.shape) > 0.2
    half = EIGHT if eight else FOUR
    steps = [*half, *((-r, -c) for r, c in half)]
    expected, number = np.zeros(values.shape, int), 0
    for r, c in np.ndindex(values.shape):
        if not valid[r, c] or expected[r, c]:
            continue
        number += 1
        edge = [(r, c)]
        expected[r, c] = number
        while edge:
            i, j = edge.pop()
            for dr, dc in steps:
                k, m = i + dr, j + dc
                inside = 0 <= k < values.shape[0] and 0 <= m < values.shape[1]
                if inside and valid[k, m] and not expected[k, m] and values[k, m] == values[i, j]:
                    expected[k, m] = number
                    edge.append((k, m))
    found, count = labelled(values, valid, half)
    assert (count, found.tolist()) == (number, expected.tolist())
    # The general way, for kernels of any shape, gives the same.
    other = labelled(values, valid, tuple(reversed(half)))
    assert (other[1], other[0].tolist()) == (number, expected.tolist())


def test_labels_do_not_depend_on_where_a_grid_begins(world: Earth) -> None:
    "[A] Image.connectedComponents: a globally unique value."
    image = ee.Image("D/classes").select("k").connectedComponents(ee.Kernel.square(1), 300)
    whole = world.pixels(image, native(SIZE, SIZE))["labels"]
    part = world.pixels(image, native(17, 12, 9, 21))["labels"]
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[9:26, 21:33], b)


def test_patches_larger_than_the_size_are_background(world: Earth) -> None:
    "[A]: connectedComponents by pixels; reduceConnectedComponents by height and width."
    bars = ee.Image("D/bars")
    grid = native(60, 60)

    def shown(image: ee.Image) -> tuple[bool, bool]:
        mask = next(iter(reversed(world.pixels(image, grid).values())))[1] > 0
        return bool(mask[10, 10]), bool(mask[42, 42])

    plus = ee.Kernel.plus(1)
    assert shown(bars.select("k").connectedComponents(plus, 20)) == (True, False)
    assert shown(bars.select("k").connectedComponents(plus, 25)) == (True, True)
    # The bar is 20 pixels long and the square 5 wide.
    assert shown(bars.reduceConnectedComponents(ee.Reducer.mean(), None, 19)) == (False, True)
    assert shown(bars.reduceConnectedComponents(ee.Reducer.mean(), None, 20)) == (True, True)


def test_the_first_band_is_the_label_unless_named(world: Earth) -> None:
    "[A] Image.reduceConnectedComponents: labelBand, by default the first band."
    made = ee.Image("D/classes").reduceConnectedComponents(ee.Reducer.max(), None, 40)
    assert world.info(made.bandNames()) == ["v"]
    classes = world.pixels(ee.Image("D/classes"), native(SIZE, SIZE))
    labels, count = labelled(classes["k"][0], None, EIGHT)
    expected = np.zeros(labels.shape)
    for number in range(1, count + 1):
        expected[labels == number] = classes["v"][0][labels == number].max()
    np.testing.assert_array_equal(world.data(made, native(SIZE, SIZE)), expected)


def test_directional_distance_brings_the_other_bands_along(world: Earth) -> None:
    "[A] Image.directionalDistanceTransform: all bands but the one that is searched."
    seeds = ee.Image("D/utm").select("seeds")
    image = ee.Image("D/utm").select("price").addBands(seeds)
    made = image.directionalDistanceTransform(0, 60, "seeds")
    names = world.info(made.bandNames())
    assert sorted(names) == ["distance", "price"]
    pixels = world.pixels(made, native(SIZE, SIZE))
    price, way = world.pixels(ee.Image("D/utm").select("price"), native(SIZE, SIZE))["price"]
    hit = world.pixels(seeds, native(SIZE, SIZE))["seeds"][0] > 0
    for r, c in np.ndindex(hit.shape):
        right = np.nonzero(hit[r, c:])[0]
        assert bool(pixels["distance"][1][r, c]) == bool(len(right))
        if len(right):
            assert pixels["distance"][0][r, c] == right[0]
            assert bool(pixels["price"][1][r, c]) == bool(way[r, c + right[0]])
            if way[r, c + right[0]]:
                assert pixels["price"][0][r, c] == price[r, c + right[0]]


def test_squared_distance_reaches_256_pixels(world: Earth) -> None:
    "[A] Image.fastDistanceTransform: squared pixels, neighbourhood 256, whatever the mask."
    bars = ee.Image("D/bars")
    data, mask = world.pixels(
        bars.select("k").eq(1).fastDistanceTransform(), native(300, 300)
    )["distance"]  # fmt: skip
    assert mask.all()
    assert data[10, 30] == 36
    assert data[20, 30] == 36 + 100
    assert data[10 + 256, 24] == 256**2
    assert data[10 + 270, 24] == 256**2


# ------------------------------------------------------------------ what is too large


def too_large(world: Earth) -> dict[str, ee.Image]:
    k = ee.Image("D/classes").select("k")
    return {
        "cumulativeCost": k.add(1).cumulativeCost(k.eq(2), 50_000),
        "connectedPixelCount": k.connectedPixelCount(6000),
        "connectedComponents": k.connectedComponents(ee.Kernel.plus(1), 6000),
        "reduceConnectedComponents": k.addBands(k).reduceConnectedComponents(
            ee.Reducer.mean(), "k", 6000
        ),
        "hillShadow": ee.Terrain.hillShadow(k, 10, 40, 6000),
        "fastDistanceTransform": k.fastDistanceTransform(6000),
        "directionalDistanceTransform": k.directionalDistanceTransform(10, 6000),
    }


@pytest.mark.parametrize("name", [
    "cumulativeCost", "connectedPixelCount", "connectedComponents", "reduceConnectedComponents",
    "hillShadow", "fastDistanceTransform", "directionalDistanceTransform",
])  # fmt: skip
def test_neighbourhoods_beyond_the_memory_are_refused(world: Earth, name: str) -> None:
    "Limits.max_pixels, in Earth Engine's words."
    with pytest.raises(EngineError, match=r"^User memory limit exceeded\.$"):
        render(world.value(too_large(world)[name]), native(50, 50))


def test_the_limit_is_the_stated_number_of_pixels(world: Earth) -> None:
    k = world.value(ee.Image("D/classes").select("k").connectedPixelCount(20))
    grid = native(20, 20)
    assert render(k, grid, None, Limits(max_pixels=60 * 60, threads=1))
    with pytest.raises(EngineError, match="User memory limit exceeded"):
        render(k, grid, None, Limits(max_pixels=60 * 60 - 1, threads=1))


def test_vectors_of_too_many_pixels_are_refused(world: Earth) -> None:
    "[A] maxPixels is the caller's; beyond it the emulator holds no more than its own limit."
    k = ee.Image("D/classes").select("k")
    region = box(0, 3000, 0, 4000)
    with pytest.raises(EngineError, match=r"Found 12000000, but maxPixels allows only 10000000"):
        world.info(k.reduceToVectors(geometry=region))
    with pytest.raises(EngineError, match="User memory limit exceeded"):
        world.info(k.reduceToVectors(geometry=box(0, 5000, 0, 5000), maxPixels=1e9))
