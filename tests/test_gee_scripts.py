"""The server-side scripts, computed by the emulator and held against numpy and geometry."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from gee_world import (
    CRS,
    FLAT,
    GIVEN,
    LOOK,
    NORTH,
    PRE,
    S1_DATES,
    S2_DATES,
    WEST,
    Array,
    World,
    a_site,
    centres,
    downhill,
    height,
    in_range,
    incidence,
    make_world,
    part_of,
)
from odc.geo.geobox import GeoBox

from gee.config import BackendConfig
from gee.scripts import (
    context,
    factors,
    radar_geometry,
    sentinel1,
    sentinel2,
    slope_correction,
    stack,
    terrain,
)
from gee.scripts.place import region, source, terrain_grid
from gee.session import connect
from thawslump.errors import ConfigError
from thawslump.grid import coarser, lonlat_bounds
from thawslump.site import Window


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("gee") / "catalog")
    with connect(BackendConfig(), made.folder):
        yield made


def pixels(image: ee.Image, grid: GeoBox) -> dict[str, Array]:
    """Compute an image on a grid; masked pixels are NaN."""
    a = grid.transform
    request = {
        "expression": image.toDouble().unmask(-99999, False),
        "fileFormat": "NUMPY_NDARRAY",
        "grid": {
            "dimensions": {"width": grid.shape[1], "height": grid.shape[0]},
            "affineTransform": {
                "scaleX": a.a,
                "shearX": a.b,
                "translateX": a.c,
                "shearY": a.d,
                "scaleY": a.e,
                "translateY": a.f,
            },
            "crsCode": CRS,
        },
    }
    answer = ee.data.computePixels(request)
    return {
        name: np.where(answer[name] == -99999, np.nan, answer[name]) for name in answer.dtype.names
    }


def window_of(grid: GeoBox) -> tuple[slice, slice]:
    """Rows and columns of the world that a site's grid covers."""
    col = round((grid.transform.c - WEST) / 10)
    row = round((NORTH - grid.transform.f) / 10)
    return slice(row, row + grid.shape[0]), slice(col, col + grid.shape[1])


# Sentinel-2 ----------------------------------------------------------------------------------


def greenest(made: World, dates: list[str], place: tuple[slice, slice]) -> dict[str, Array]:
    """The same composite in numpy."""
    stacks = {name: [] for name in ("B2", "B3", "B4", "B8", "NDVI")}
    for date in dates:
        scene = {name: array[place].astype(float) for name, array in made.s2[date].items()}
        clear = np.isin(scene["SCL"], sentinel2.CLEAR)
        scene["NDVI"] = (scene["B8"] - scene["B4"]) / (scene["B8"] + scene["B4"])
        for name, parts in stacks.items():
            parts.append(np.where(clear, scene[name], np.nan))
    ndvi = np.stack(stacks["NDVI"])
    best = np.where(np.isnan(ndvi), -np.inf, ndvi).argmax(axis=0)
    return {
        name: np.take_along_axis(np.stack(parts), best[None], axis=0)[0]
        for name, parts in stacks.items()
    }


def test_greenest_pixel_is_that_of_numpy(earth: World) -> None:
    site = a_site()
    ours = pixels(sentinel2.greenest(site, PRE), site.grid())
    theirs = greenest(earth, [d for d in S2_DATES if d < "2021"], window_of(site.grid()))
    assert list(ours) == ["B2", "B3", "B4", "B8", "NDVI"]
    assert np.isnan(theirs["NDVI"]).any() and not np.isnan(theirs["NDVI"]).all()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], atol=1e-6)


def test_dndvi_is_after_minus_before(earth: World) -> None:
    site = a_site()
    ours = pixels(sentinel2.dndvi(site), site.grid())["dNDVI"]
    place = window_of(site.grid())
    before = greenest(earth, [d for d in S2_DATES if d < "2021"], place)["NDVI"]
    after = greenest(earth, [d for d in S2_DATES if d > "2021"], place)["NDVI"]
    np.testing.assert_allclose(ours, after - before, atol=1e-6)


@pytest.mark.parametrize("kind", range(12))
def test_only_the_ground_counts_as_seen(earth: World, kind: int) -> None:
    "Nothing, saturated, dark or shaded slopes, cloud shadow, three of clouds, snow are left out."
    image = ee.Image.constant(kind).rename("SCL")
    clear = pixels(sentinel2.clear(image), part_of(a_site().grid(), 2, 2))["clear"]
    assert (clear == (kind in (4, 5, 6, 7))).all()


def test_a_window_ends_before_its_last_day(earth: World) -> None:
    until = Window(start=PRE.start, end=dt.date(2020, 8, 10))
    assert sentinel2.collection(a_site(), until).size().getInfo() == 2


# Terrain -------------------------------------------------------------------------------------


def test_slope_and_aspect_are_those_of_the_surface(earth: World) -> None:
    site = a_site()
    grid = coarser(site.grid(), 30)
    found = pixels(factors.factors(site), grid)
    x, y = centres(grid)
    east, north = downhill(x, y)
    np.testing.assert_allclose(found["elevation"], height(x, y), atol=0.7)
    steepness = np.degrees(np.arctan(np.hypot(east, north)))
    np.testing.assert_allclose(found["slope"], steepness, atol=0.3)
    facing = np.degrees(np.arctan2(east, north)) % 360
    turn = (found["aspect"] - facing + 180) % 360 - 180
    assert np.abs(turn).max() < 2.0


def test_slope_has_no_steps_at_ten_metres(earth: World) -> None:
    """Heights every 30 m, asked for every 10 m: slopes must not show the pixels of the DEM."""
    site = a_site()
    found = pixels(terrain.slope(site), site.grid())["slope"]
    east, north = downhill(*centres(site.grid()))
    assert np.abs(found - np.degrees(np.arctan(np.hypot(east, north)))).max() < 0.5


def test_an_own_dem_replaces_the_global_one(earth: World) -> None:
    site = a_site(sources={"dem": "users/a/dem"})
    assert terrain_grid(site).transform.a == 10
    ours = pixels(terrain.elevation(site), site.grid())["elevation"]
    np.testing.assert_allclose(ours, height(*centres(site.grid())), atol=0.7)


def test_hillshade_is_that_of_the_plane(earth: World) -> None:
    site = a_site()
    found = pixels(terrain.hillshade(site), site.grid())["hillshade"]
    east, north = downhill(*centres(site.grid()))
    sun = math.radians(315)
    lit = (math.sin(sun) * east + math.cos(sun) * north + 1) * math.sqrt(0.5)
    np.testing.assert_allclose(found, 255 * lit / np.sqrt(1 + east**2 + north**2), atol=1.0)


# Sentinel-1 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["ASCENDING", "DESCENDING"])
def test_look_direction_comes_from_the_angle_band(earth: World, direction: Any) -> None:
    site = a_site(orbit_pass=direction)
    seen = radar_geometry.view(sentinel1.collection(site, PRE), site, direction).getInfo()
    assert seen["look"] == pytest.approx(LOOK[direction], abs=1.0)
    x, y = centres(site.grid())
    assert seen["incidence"] == pytest.approx(incidence(x, y, direction).mean(), abs=0.01)


@pytest.mark.parametrize("kind", ["constant", "masked"])
def test_look_direction_falls_back_on_the_orbit(earth: World, kind: str) -> None:
    """A level angle band has no aspect."""
    site = a_site()
    image = ee.Image.constant(38).rename("angle")
    images = ee.ImageCollection([image if kind == "constant" else image.updateMask(0)])
    seen = radar_geometry.view(images, site, "DESCENDING").getInfo()
    assert seen["look"] == pytest.approx(sentinel1.orbit_look(site, "DESCENDING"), abs=1e-6)
    assert seen["incidence"] == pytest.approx(38 if kind == "constant" else 0)
    assert radar_geometry.view(images, site, None).getInfo()["look"] is None


@pytest.mark.parametrize(
    ("latitude", "direction", "heading"),
    [(0.0, "ASCENDING", -12.0), (0.0, "DESCENDING", 192.0), (45.0, "ASCENDING", -14.4)],
    ids=["equator up", "equator down", "middle up"],
)
def test_orbit_geometry_matches_known_headings(
    latitude: float, direction: Any, heading: float
) -> None:
    site = a_site(bounds=(14.99, latitude - 0.01, 15.01, latitude + 0.01), crs=None)
    below = sentinel1.orbit_look(site, direction, incidence=1e-4)
    assert below == pytest.approx((heading + 270) % 360, abs=0.8)


@pytest.mark.parametrize("direction", ["ASCENDING", "DESCENDING"])
def test_volume_correction_gives_back_level_ground(earth: World, direction: str) -> None:
    """Backscatter made with the model of the paper and analytic slopes comes out flat."""
    site = a_site(orbit_pass=direction)
    grid = site.grid()
    flat = pixels(sentinel1.composite(site, PRE), grid)
    untouched = a_site(orbit_pass=direction, slope_correction="none")
    raw = pixels(sentinel1.composite(untouched, PRE), grid)
    gain = np.median([earth.gain[f"{direction} {date}"] for date in S1_DATES[:3]])
    for name in ("VV", "VH"):
        assert np.ptp(raw[name]) > 2.0
        np.testing.assert_allclose(flat[name], 10 * np.log10(FLAT[name] * gain), atol=0.15)


def test_median_is_taken_in_power_and_change_is_after_minus_before(earth: World) -> None:
    site = a_site(slope_correction="none")
    found = pixels(sentinel1.change(site), site.grid())
    assert tuple(found) == sentinel1.BANDS
    gains = [earth.gain[f"DESCENDING {date}"] for date in S1_DATES]
    expected = 10 * np.log10(np.median(gains[3:]) / np.median(gains[:3]))
    for name in ("VV", "VH"):
        np.testing.assert_allclose(found[f"d{name}"], expected, atol=1e-4)
        difference = found[f"post{name}"] - found[f"pre{name}"]
        np.testing.assert_allclose(found[f"d{name}"], difference, atol=1e-5)


def test_even_count_of_images_shows_that_the_mean_is_of_powers(earth: World) -> None:
    site = a_site(slope_correction="none")
    two = Window(start=PRE.start, end=dt.date(2020, 6, 20))
    found = pixels(sentinel1.composite(site, two), part_of(site.grid(), 1, 1))["VV"].item()
    x, y = centres(part_of(site.grid(), 1, 1))
    theta = np.radians(incidence(x, y, "DESCENDING")).item()
    upright = math.pi / 2 - theta
    tilt = math.tan(upright + in_range(x, y, "DESCENDING").item()) / math.tan(upright)
    gains = [earth.gain[f"DESCENDING {date}"] for date in S1_DATES[:2]]
    power = FLAT["VV"] * math.cos(theta) * tilt * np.mean(gains)
    assert found == pytest.approx(10 * math.log10(power), abs=1e-3)


def test_geometry_agrees_with_vectors(earth: World) -> None:
    """Local incidence is the angle between the normal and the line of sight."""
    theta, look = math.radians(38), math.radians(104)
    for east, north in [(0.0, 0.0), (0.3, 0.0), (-0.3, 0.1), (0.05, -0.2)]:
        gradient = ee.Image.constant([north, east]).rename(["north", "east"])
        image = radar_geometry.terrain_geometry(ee.Image.constant(theta), gradient, ee.Number(look))
        found = {k: v.item() for k, v in pixels(image, part_of(a_site().grid(), 1, 1)).items()}
        normal = np.array([east, north, 1.0]) / math.sqrt(1 + east**2 + north**2)
        sight = [
            math.sin(theta) * math.sin(look),
            math.sin(theta) * math.cos(look),
            math.cos(theta),
        ]
        local = math.degrees(math.acos(float(normal @ sight)))
        assert found["lia"] == pytest.approx(local, abs=1e-6)
        assert (found["layover"], found["shadow"]) == (0, 0)


@pytest.mark.parametrize(
    ("steepness", "layover", "shadow"), [(45, 1, 0), (30, 0, 0), (-45, 0, 0), (-60, 0, 1)]
)
def test_layover_and_shadow_begin_where_the_beam_grazes(
    earth: World, steepness: float, layover: int, shadow: int
) -> None:
    """At 38 degrees: layover from 38 degrees towards the radar, shadow from 52 away from it."""
    theta, look = ee.Image.constant(math.radians(38)), ee.Number(math.pi / 2)
    towards = math.tan(math.radians(steepness))
    gradient = ee.Image.constant([0.0, towards]).rename(["north", "east"])
    geometry = radar_geometry.terrain_geometry(theta, gradient, look)
    corrected = slope_correction.gain(theta, geometry, "volume").multiply(0.1)
    grid = part_of(a_site().grid(), 1, 1)
    found = pixels(geometry, grid)
    assert (found["layover"].item(), found["shadow"].item()) == (layover, shadow)
    value = next(iter(pixels(corrected, grid).values())).item()
    assert math.isnan(value) == bool(layover or shadow)


def test_surface_model_is_that_of_the_paper(earth: World) -> None:
    theta, tilt, along = math.radians(38), math.atan(0.2), math.atan(-0.1)
    # Looking from the east, the slope 0.2 to the east faces the radar and 0.1 to the north not.
    gradient = ee.Image.constant([0.1, 0.2]).rename(["north", "east"])
    geometry = radar_geometry.terrain_geometry(
        ee.Image.constant(theta), gradient, ee.Number(math.pi / 2)
    )
    image = slope_correction.gain(ee.Image.constant(theta), geometry, "surface").multiply(0.1)
    upright = math.pi / 2 - theta
    factor = math.cos(upright) / (math.cos(along) * math.cos(upright + tilt))
    found = next(iter(pixels(image, part_of(a_site().grid(), 1, 1)).values())).item()
    assert found == pytest.approx(0.1 / math.cos(theta) / factor, rel=1e-6)


@pytest.mark.parametrize(("direction", "count"), [("ASCENDING", 6), ("DESCENDING", 6), (None, 12)])
def test_orbit_pass_is_a_filter(earth: World, direction: Any, count: int) -> None:
    assert sentinel1.collection(a_site(orbit_pass=direction)).size().getInfo() == count


def test_orbits_keep_one_geometry(earth: World) -> None:
    site = a_site(orbit_pass=None)
    images = sentinel1.collection(site, orbits=[sentinel1.Orbit("ASCENDING", 44)])
    assert images.size().getInfo() == 6
    others = sentinel1.collection(site, orbits=[sentinel1.Orbit("ASCENDING", 7)])
    assert others.size().getInfo() == 0
    with pytest.raises(ConfigError, match="list of Sentinel-1 orbits is empty"):
        sentinel1.collection(site, orbits=[])


# Together ------------------------------------------------------------------------------------


def test_stack_has_the_bands_asked_for_in_that_order(earth: World) -> None:
    names = ("dNDVI", "slope", "dVH")
    assert stack.stack(a_site(), names).bandNames().getInfo() == list(names)
    found = stack.stack(a_site(), GIVEN).bandTypes().getInfo()
    assert tuple(found) == GIVEN
    assert {kind["precision"] for kind in found.values()} == {"float"}


def test_bands_that_do_not_exist_are_absent(earth: World) -> None:
    assert stack.available(a_site(sources={"landcover": "none"})) == GIVEN
    bare = a_site(sources={"s1": "none", "landcover": "none"})
    assert stack.available(bare) == ("elevation", "slope", "dNDVI")
    level = a_site(slope_correction="none", bands=("dVV", "liaDeg", "slope"))
    assert stack.available(level) == ("dVV", "slope")
    assert stack.left_out(level) == {
        "liaDeg": "slope_correction is none: incidence angles are not looked at"
    }
    own = a_site(sources={"climate": "users/a/climate", "canopy": "users/a/canopy"})
    assert stack.available(own) == own.bands


def test_context_is_whole_numbers_of_both_sides(earth: World) -> None:
    site = a_site()
    image = context.context(site)
    assert tuple(image.bandNames().getInfo()) == site.context
    found = pixels(image, site.grid())
    place = window_of(site.grid())
    after = greenest(earth, [d for d in S2_DATES if d > "2021"], place)
    np.testing.assert_array_equal(found["post_nir"], after["B8"])
    np.testing.assert_array_equal(found["post_red"], after["B4"])
    assert found["hillshade"].max() <= 255


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'no band "dNVDI".*Did you mean "dNDVI"'):
        stack.stack(a_site(), ("dNVDI",))
    with pytest.raises(ConfigError, match=r'no factor "aspekt".*Did you mean "aspect"'):
        factors.factors(a_site(), ("aspekt",))
    with pytest.raises(ConfigError, match='has the key "s3"; it may have s1, s2, dem'):
        source(a_site(sources={"s3": "x"}), "s1")
    with pytest.raises(ConfigError, match="only s1 and landcover can be left out"):
        source(a_site(sources={"s2": "none"}), "s2")


def test_region_holds_the_grid(earth: World) -> None:
    site = a_site()
    ring = np.array(region(site).toGeoJSON()["coordinates"][0])
    west, south, east, north = lonlat_bounds(site.grid())
    assert ring[:, 0].min() <= west and ring[:, 0].max() >= east
    assert ring[:, 1].min() <= south and ring[:, 1].max() >= north


def test_scripts_need_no_answer_from_the_service(earth: World, monkeypatch: Any) -> None:
    """Building the graphs sends nothing."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a script asked the service for a value")

    monkeypatch.setattr(ee.data, "computeValue", refuse)
    site = a_site()
    first = [f(site).serialize() for f in (stack.stack, context.context, factors.factors)]
    again = [f(site).serialize() for f in (stack.stack, context.context, factors.factors)]
    assert first == again
