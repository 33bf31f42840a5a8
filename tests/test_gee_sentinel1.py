"""Sentinel-1 beyond the composite: model by land cover, cast shadow, speckle."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ee
import numpy as np
import pytest
from gee_world import CRS, WEST, a_site, band, centres, make_world, part_of, world
from odc.geo.geobox import GeoBox
from scipy import ndimage
from test_gee_scripts import pixels, window_of

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.scripts import radar_geometry, sentinel1, slope_correction
from gee.session import connect
from thawslump.errors import ConfigError

COVERS = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
VOLUMES = {10, 20, 30, 40, 90, 95, 100}


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[np.ndarray]:
    folder = tmp_path_factory.mktemp("radar") / "catalog"
    make_world(folder)
    catalog = Catalog(folder, writable=True)
    dice = np.random.default_rng(1)
    grid = world(10)
    classes = dice.choice(COVERS, grid.shape).astype("uint8")
    catalog.put_collection("ESA/WorldCover/v200")
    catalog.put_image("ESA/WorldCover/v200/x", [band("Map", classes, grid, pyramiding="MODE")])
    # A wall 300 m high that runs north to south, on level ground.
    dem = world(30, margin=90)
    x, _ = centres(dem)
    wall = np.where(np.abs(x - (WEST + 1200)) < 45, 300.0, 0.0).astype("float32")
    catalog.put_image("users/a/wall", [band("h", wall, dem)])
    for number in range(6):
        speckle = dice.gamma(4, 1 / 4, (2, *grid.shape))
        step = np.where(np.arange(grid.shape[1]) < 60, 0.05, 0.2)
        catalog.put_image(
            f"users/a/series/{number}",
            [
                band(name, (step * noise).astype("float32"), grid)
                for name, noise in zip(sentinel1.POLARISATIONS, speckle, strict=True)
            ],
            {},
            start_ms=number * 86_400_000,
        )
    with connect(BackendConfig(), folder):
        yield classes


def test_plants_are_volumes(cover: np.ndarray) -> None:
    site = a_site()
    found = pixels(sentinel1.vegetated(site), site.grid())["vegetated"]
    expected = np.isin(cover[window_of(site.grid())], list(VOLUMES))
    np.testing.assert_array_equal(found, expected)
    share = sentinel1.vegetated_share(site).getInfo()
    assert share == pytest.approx(expected.mean(), abs=0.15)


def test_the_model_by_pixel_is_one_of_both(cover: np.ndarray) -> None:
    site = a_site()
    theta = ee.Image.constant(math.radians(38))
    gradient = ee.Image.constant([0.1, 0.2]).rename(["north", "east"])
    geometry = radar_geometry.terrain_geometry(theta, gradient, ee.Number(math.pi / 2))
    plants = sentinel1.vegetated(site)
    power = ee.Image.constant(0.1)

    def computed(model: object) -> np.ndarray:
        image = power.multiply(slope_correction.gain(theta, geometry, model))  # type: ignore[arg-type]
        return next(iter(pixels(image, site.grid()).values()))

    mixed, volume, surface = computed(plants), computed("volume"), computed("surface")
    where = pixels(plants, site.grid())["vegetated"] == 1
    assert abs(volume[0, 0] - surface[0, 0]) > 1e-3
    np.testing.assert_array_equal(mixed, np.where(where, volume, surface))


@pytest.mark.parametrize(("look", "east"), [(90.0, False), (270.0, True)])
def test_a_wall_casts_its_shadow_away_from_the_satellite(
    cover: np.ndarray, look: float, east: bool
) -> None:
    "At 45 degrees the shadow of 300 m is 300 m long, on the far side."
    site = a_site(sources={"dem": "users/a/wall"}, resolution=30)
    grid = GeoBox((3, 80), world(30).affine, CRS)
    theta = ee.Image.constant(math.radians(45))
    image = radar_geometry.cast_shadow(site, theta, math.radians(look))
    shadow = pixels(image, grid)["shadow"][1]
    place = WEST + 15 + 30 * np.arange(80) - (WEST + 1200)
    behind = place if east else -place
    clear_of_edges = np.abs(np.abs(place) - 300) > 60
    expected = (behind > 60) & (behind < 300)
    open_ground = (np.abs(place) > 75) & clear_of_edges
    np.testing.assert_array_equal(shadow[open_ground], expected[open_ground])


def test_speckle_goes_and_edges_stay(cover: np.ndarray) -> None:
    images = ee.ImageCollection([f"users/a/series/{n}" for n in range(6)])
    filtered = sentinel1.despeckled(images, 7)
    grid = part_of(world(10), 100, 120)
    first = pixels(ee.Image(filtered.first()), grid)["VV"]
    raw = pixels(ee.Image("users/a/series/0"), grid)["VV"]
    stack = np.stack([pixels(ee.Image(f"users/a/series/{n}"), grid)["VV"] for n in range(6)])
    # The same in numpy, away from the edges of the part.
    local = np.stack([ndimage.uniform_filter(image, 7) for image in stack])
    expected = local[0] * (stack / local).mean(0)
    inside = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(first[inside], expected[inside], rtol=1e-4)
    quiet = np.s_[10:90, 10:50]
    looks = lambda a: (a[quiet].mean() / a[quiet].std()) ** 2  # noqa: E731
    assert looks(first) > 3.5 * looks(raw)
    # The edge is between columns 59 and 60; a boxcar would spread it over 7.
    step = first[10:90].mean(0)
    box = ndimage.uniform_filter1d(np.where(np.arange(120) < 60, 0.05, 0.2), 7)
    assert step[60] - step[59] > 2 * (box[60] - box[59])


@pytest.mark.parametrize("window", [1, 4, 0])
def test_windows_without_a_middle_are_refused(cover: np.ndarray, window: int) -> None:
    with pytest.raises(ConfigError, match=f"speckle filter of {window} pixels"):
        sentinel1.despeckled(ee.ImageCollection([]), window)
