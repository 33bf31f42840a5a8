"""Composites, change and geometry of Sentinel-1: what is asked once, what both dates share."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import radar_world as vectors
from affine import Affine
from gee_world import (
    CRS,
    FLAT,
    LOOK,
    POST,
    PRE,
    S1_DATES,
    World,
    a_site,
    band,
    centres,
    incidence,
    make_world,
    world,
)
from odc.geo.geobox import GeoBox
from scipy import ndimage
from test_gee_scripts import pixels, window_of

from gee.config import BackendConfig
from gee.emulator.catalog import BandData, Catalog
from gee.exports import bare, check
from gee.exports.survey import Survey, survey
from gee.scripts import sentinel1, slope_correction
from gee.scripts.settled import Orbit, Settled
from gee.session import connect
from thawslump.areas import Part
from thawslump.errors import ConfigError
from thawslump.grid import lonlat_bounds
from thawslump.site import Window

DOWN, UP = Orbit("DESCENDING", 95), Orbit("ASCENDING", 44)
ASKED = Settled(orbits=(DOWN,), look=104.0, incidence=38.0, vegetated=0.8, model="volume")
DICE = np.random.default_rng(5)


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("composites") / "catalog"
    made = make_world(folder)
    _put_cover(folder)
    _put_speckled(folder)
    _put_borders(folder)
    vectors.put_mountain(folder, "steep", 44.0, lambda theta, look, east, north: 0.05 + 0 * theta)
    _put_shining(folder)
    _put_terrain(folder)
    _put_sheared(folder)
    with connect(BackendConfig(), folder):
        yield made


def _put_cover(folder: Path) -> None:
    """Water in the west, plants in the middle, rock in the east."""
    catalog = Catalog(folder, writable=True)
    grid = world(10)
    columns = np.arange(grid.shape[1])[None] * np.ones((grid.shape[0], 1))
    classes = np.select([columns < 80, columns < 112], [80, 30], 60).astype("uint8")
    catalog.put_collection("ESA/WorldCover/v200")
    catalog.put_image("ESA/WorldCover/v200/x", [band("Map", classes, grid, pyramiding="MODE")])
    sea = np.full(grid.shape, 80, "uint8")
    catalog.put_image("users/a/sea", [band("Map", sea, grid, pyramiding="MODE")])


def _put_image(
    catalog: Catalog,
    name: str,
    power: np.ndarray,
    angle: np.ndarray,
    date: str,
    transform: tuple[float, ...] = tuple(world(400, margin=2000).transform)[:6],
    known: np.ndarray | None = None,
    says_orbit: bool = True,
) -> None:
    grid = world(10)
    bands = [band(each, (10 * np.log10(power)).astype("float32"), grid) for each in ("VV", "VH")]
    bands.append(BandData("angle", angle.astype("float32"), CRS, transform, mask=known))
    properties: dict[str, Any] = {
        "instrumentMode": "IW",
        "transmitterReceiverPolarisation": ["VV", "VH"],
    }
    if says_orbit:
        properties |= {"orbitProperties_pass": "DESCENDING", "relativeOrbitNumber_start": 95}
    ms = int(dt.datetime.fromisoformat(date + "T10:00:00+00:00").timestamp() * 1000)
    catalog.put_image(name, bands, properties, start_ms=ms)


def _put_speckled(folder: Path) -> None:
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("users/a/speckled")
    grid = world(10)
    angle = incidence(*centres(world(400, margin=2000)), "DESCENDING")
    catalog.put_collection("users/a/nameless")
    for number, date in enumerate(S1_DATES):
        power = 0.05 * DICE.gamma(4, 1 / 4, grid.shape)
        _put_image(catalog, f"users/a/speckled/{number}", power, angle, date)
        _put_image(catalog, f"users/a/nameless/{number}", power, angle, date, says_orbit=False)


def _put_borders(folder: Path) -> None:
    """Two old images and a new one; the incidence angle goes from 29 to 31 over the site."""
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("users/a/borders")
    x, _ = centres(world(400, margin=2000))
    corner = a_site().grid().transform.c
    angle = 29 + 2 * (x - corner) / 600
    for date, power in (("2018-03-01", 0.1), ("2018-03-12", 0.2), ("2018-03-13", 0.4)):
        image = np.full(world(10).shape, power)
        _put_image(catalog, f"users/a/borders/{date}", image, angle, date)


def _put_terrain(folder: Path) -> None:
    """Level ground, and level ground with a wall 300 m high that runs from north to south."""
    dem = world(30, margin=90)
    x, _ = centres(dem)
    wall = np.where(np.abs(x - (x.min() + 1500)) < 45, 300.0, 0.0).astype("float32")
    catalog = Catalog(folder, writable=True)
    catalog.put_image("users/a/wall", [band("h", wall, dem)])
    catalog.put_image("users/a/flat", [band("h", 0 * wall, dem)])


def _put_sheared(folder: Path) -> None:
    """Images whose angle band lies askew, as those of the real collection do, and ends inside."""
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("users/a/sheared")
    a = a_site().grid().transform
    askew = (300.0, 120.0, a.c - 1200.0, 80.0, -310.0, a.f + 900.0)
    values = 37 + 0.2 * np.arange(6)[None] + 0 * np.arange(5)[:, None]
    # Where the outermost pixels are masked, bilinear reading ends half a pixel before them.
    known = np.zeros(values.shape, bool)
    known[1:-1, 1:-1] = True
    for date in ("2020", "2021"):
        image = np.full(world(10).shape, 0.1)
        _put_image(catalog, f"users/a/sheared/{date}", image, values, f"{date}-06-17", askew, known)


def _put_shining(folder: Path) -> None:
    """A second image of the steep mountain, a thousand times brighter inside its layover."""
    x, y = centres(world(10))
    _, east, north = vectors.cone(x, y, 44.0)
    look = np.radians(LOOK["DESCENDING"])
    facing = np.degrees(np.arctan(east * np.sin(look) + north * np.cos(look)))
    power = np.where(facing > incidence(x, y, "DESCENDING") + 2, 50.0, 0.05)
    angle = incidence(*centres(world(400, margin=2000)), "DESCENDING")
    _put_image(Catalog(folder, writable=True), "users/m/steep/shining", power, angle, "2021-06-17")


# What is asked -------------------------------------------------------------------------------


def called(image: ee.ComputedObject, name: str) -> int:
    """How often a function is called in the graph that a request sends."""
    return json.dumps(json.loads(image.serialize())).count(f'"functionName": "{name}"')


def every_band(site: Any, settled: Settled | None = None) -> ee.Image:
    return sentinel1.change(site, settled).addBands(sentinel1.geometry(site, settled))


@pytest.mark.parametrize("more", [{}, {"cast_shadow": True}, {"speckle_filter": 5}], ids=str)
@pytest.mark.parametrize("correction", ["auto", "per_pixel", "volume", "surface", "none"])
def test_what_was_asked_once_is_not_asked_by_tiles(
    earth: World, correction: Any, more: dict[str, Any]
) -> None:
    site = a_site(slope_correction=correction, **more)
    model = "volume" if correction == "auto" else correction
    settled = Settled(orbits=(DOWN,), look=104.0, incidence=38.0, vegetated=0.8, model=model)
    assert called(every_band(site, settled), "Image.reduceRegion") == 0


@pytest.mark.parametrize(
    ("changes", "times"),
    [({}, 1), ({"relative_orbit": 95}, 1), ({"slope_correction": "auto"}, 2),
     ({"orbit_pass": None}, 3), ({"cast_shadow": True}, 1)],
    ids=str,
)  # fmt: skip
def test_what_was_not_asked_is_asked_once_for_a_pass_not_for_an_image(
    earth: World, changes: dict[str, Any], times: int
) -> None:
    assert called(every_band(a_site(**changes)), "Image.reduceRegion") == times


def test_graphs_do_not_grow_with_the_images(earth: World) -> None:
    long = a_site(pre=Window(start=dt.date(2016, 1, 1), end=dt.date(2020, 9, 1)))
    short, whole = (len(every_band(site, ASKED).serialize()) for site in (a_site(), long))
    # A longer window that begins before the borders were clean adds their mask, once.
    assert whole < 1.2 * short


@pytest.mark.parametrize("orbit", [DOWN, UP], ids=lambda orbit: orbit.direction)
def test_a_survey_learns_what_tiles_would_ask(earth: World, orbit: Orbit) -> None:
    site = a_site(orbit_pass=orbit.direction, slope_correction="auto")
    facts = sentinel1.survey_facts(site, orbit).getInfo()
    settled = Settled(orbits=(orbit,), **facts)
    asked, unasked = (pixels(every_band(site, each), site.grid()) for each in (settled, None))
    assert asked.keys() == unasked.keys()
    for name, values in asked.items():
        np.testing.assert_allclose(values, unasked[name], atol=2e-4, err_msg=name)


def test_a_survey_says_nothing_of_a_direction_that_two_passes_would_share(earth: World) -> None:
    site = a_site(orbit_pass=None)
    assert sentinel1.survey_facts(site, None, with_map=False).getInfo() == {}
    assert set(sentinel1.survey_facts(site, UP).getInfo()) == {"look", "incidence", "vegetated"}
    bare = a_site(sources={"landcover": "none"})
    assert set(sentinel1.survey_facts(bare, DOWN).getInfo()) == {"look", "incidence"}


# The model -----------------------------------------------------------------------------------


def test_water_has_no_say_in_the_share_of_plants(earth: World) -> None:
    """Columns 70 to 130 of the world: 10 of water, 32 of plants, 18 of rock."""
    share = sentinel1.vegetated_share(a_site()).getInfo()
    assert share == pytest.approx(32 / 50, abs=0.12)
    assert sentinel1.vegetated_share(a_site(sources={"landcover": "users/a/sea"})).getInfo() == 1


def test_parts_of_an_area_share_its_model(earth: World) -> None:
    """A block of rock in an area of plants is corrected as its neighbours are."""
    west, north = world(10).transform.c, world(10).transform.f
    rock = GeoBox((40, 40), Affine(10, 0, west + 1500, 0, -10, north - 900), CRS)
    plants = GeoBox((40, 80), Affine(10, 0, west + 500, 0, -10, north - 900), CRS)
    area = a_site(bounds=lonlat_bounds(plants), slope_correction="auto")
    pinned = (CRS, rock.transform.c, rock.transform.f, *rock.shape)
    part = Part(**area.model_dump(), area="place", mosaic="place-33", pinned=pinned)
    assert survey(part).settled.model == "surface"
    settled = bare.survey_part(part, area, lambda request: request()).settled
    assert settled.model == "volume" and settled.vegetated > 0.5
    whole = slope_correction.vegetated_share_of_area(area).getInfo()
    assert whole == pytest.approx(sentinel1.vegetated_share(area).getInfo(), abs=0.1)


@pytest.mark.parametrize(
    ("settled", "like"),
    [(Settled(orbits=(DOWN,), look=104.0, vegetated=0.5), "volume"),
     (Settled(orbits=(DOWN,), look=104.0, vegetated=0.49), "surface"),
     (Settled(orbits=(DOWN,), look=104.0), "volume"),
     (Settled(orbits=(DOWN,), look=104.0, vegetated=0.9, model="surface"), "surface")],
    ids=["half", "less", "not asked", "settled"],
)  # fmt: skip
def test_one_model_for_the_whole_site_by_its_plants(
    earth: World, settled: Settled, like: Any
) -> None:
    grid = a_site().grid()
    auto = pixels(sentinel1.composite(a_site(slope_correction="auto"), PRE, settled), grid)["VV"]
    known = Settled(orbits=(DOWN,), look=104.0)
    named = pixels(sentinel1.composite(a_site(slope_correction=like), PRE, known), grid)["VV"]
    np.testing.assert_allclose(auto, named, atol=1e-9)


def test_without_a_map_plants_are_assumed_and_per_pixel_is_refused(earth: World) -> None:
    known = Settled(orbits=(DOWN,), look=104.0)
    bare = {"sources": {"landcover": "none"}}
    auto = sentinel1.composite(a_site(slope_correction="auto", **bare), PRE, known)
    assert auto.serialize() == sentinel1.composite(a_site(**bare), PRE, known).serialize()
    with pytest.raises(ConfigError, match=r"sources\.landcover is none.*per_pixel needs"):
        sentinel1.composite(a_site(slope_correction="per_pixel", **bare), PRE, known)


def test_the_change_of_one_orbit_is_the_same_whatever_the_model(earth: World) -> None:
    """Both dates share the correction, so its errors, and the edges of its map, cancel."""
    grid = a_site().grid()
    models = ("none", "volume", "surface", "per_pixel")
    sites = {model: a_site(slope_correction=model) for model in models}
    known = Settled(orbits=(DOWN,), look=104.0)
    found = {name: pixels(sentinel1.change(site, known), grid) for name, site in sites.items()}
    for name in ("volume", "surface", "per_pixel"):
        assert np.abs(found[name]["preVV"] - found["none"]["preVV"]).max() > 0.5
        for change in ("dVV", "dVH"):
            np.testing.assert_allclose(found[name][change], found["none"][change], atol=1e-5)
    inside = window_of(grid)[1]
    rock = (np.arange(240) >= 112)[inside]
    for part, model in ((rock, "surface"), (~rock & (np.arange(240) >= 80)[inside], "volume")):
        np.testing.assert_allclose(
            found["per_pixel"]["preVH"][:, part], found[model]["preVH"][:, part], atol=1e-9
        )


def test_each_of_two_passes_is_corrected_from_its_own_side(earth: World) -> None:
    """Both passes in one composite, as stored and with no orbit settled."""
    site = a_site(orbit_pass=None)
    found = pixels(sentinel1.composite(site, PRE), site.grid())
    gains = [earth.gain[f"{way} {date}"] for way in vectors.PASSES for date in S1_DATES[:3]]
    for name in ("VV", "VH"):
        expected = 10 * np.log10(FLAT[name] * np.median(gains))
        np.testing.assert_allclose(found[name], expected, atol=0.25)
    both = pixels(sentinel1.geometry(site), site.grid())["liaDeg"]
    each = [
        pixels(sentinel1.geometry(a_site(orbit_pass=way)), site.grid())["liaDeg"]
        for way in vectors.PASSES
    ]
    np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-4)


def test_images_that_do_not_say_their_orbit_are_seen_from_where_their_angle_falls(
    earth: World,
) -> None:
    site = a_site(sources={"s1": "users/a/nameless"}, orbit_pass=None)
    named = a_site(sources={"s1": "users/a/speckled"})
    assert sentinel1.survey_facts(site, None, with_map=False).getInfo() == {}
    found, expected = (pixels(every_band(each), named.grid()) for each in (site, named))
    # Where the pass is known, the orbit's geometry has a small say.
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=5e-3, err_msg=name)


# Masks ---------------------------------------------------------------------------------------


def test_borders_of_old_images_are_cut_those_of_new_ones_kept(earth: World) -> None:
    """Left of 30.64 degrees only the image of 2018-03-13 counts, right of it all three do."""
    window = Window(start=dt.date(2018, 3, 1), end=dt.date(2018, 3, 14))
    sources = {"s1": "users/a/borders", "dem": "users/a/flat"}
    site = a_site(sources=sources, pre=window)
    grid = site.grid()
    angle = 29 + 2 * (np.arange(grid.shape[1]) + 0.5) * 10 / 600
    known = Settled(orbits=(DOWN,), look=104.0)
    found = pixels(sentinel1.composite(site, window, known), grid)["VV"]
    raw = 10 ** (found / 10) * np.cos(np.radians(angle))
    clear = np.abs(angle - 30.64) > 0.05
    expected = np.where(angle < 30.64, 0.4, 0.2)
    np.testing.assert_allclose(
        raw[:, clear], np.tile(expected, (grid.shape[0], 1))[:, clear], rtol=5e-3
    )
    later = Window(start=dt.date(2018, 3, 13), end=dt.date(2018, 3, 14))
    assert not np.isnan(pixels(sentinel1.composite(site, later, known), grid)["VV"]).any()
    earlier = Window(start=dt.date(2018, 3, 1), end=dt.date(2018, 3, 13))
    cut = np.isnan(pixels(sentinel1.composite(site, earlier, known), grid)["VV"])
    np.testing.assert_array_equal(
        cut[:, clear], np.tile(angle < 30.64, (grid.shape[0], 1))[:, clear]
    )


def test_the_angle_reaches_as_far_as_the_image(earth: World) -> None:
    """Stored in degrees and every few hundred metres, it is known up to its last pixel's edge."""
    site = a_site(sources={"s1": "users/a/sheared"})
    grid = site.grid()
    found = pixels(sentinel1.geometry(site, Settled(orbits=(DOWN,), look=104.0)), grid)
    image = pixels(ee.Image("users/a/sheared/2020").select("angle"), grid)["angle"]
    assert np.isnan(image).any() and not np.isnan(image).all()
    np.testing.assert_array_equal(np.isnan(found["liaDeg"]), np.isnan(image))


def test_cast_shadow_counts_where_it_is_asked_for(earth: World) -> None:
    """Behind a wall level ground is dark, and only `cast_shadow` knows."""
    grid = GeoBox((20, 160), world(10).affine, CRS)
    sources = {"dem": "users/a/wall"}
    known = Settled(orbits=(DOWN,), look=90.0, incidence=45.0)
    plain = a_site(sources=sources, resolution=30)
    cast = a_site(sources=sources, resolution=30, cast_shadow=True)
    less, more = (pixels(sentinel1.geometry(site, known), grid) for site in (plain, cast))
    x, _ = centres(grid)
    wall = centres(world(30, margin=90))[0].min() + 1500
    behind = (x < wall - 120) & (x > wall - 240)
    assert not less["shadow"][behind].any()
    assert more["shadow"][behind].all()
    beyond = (x < wall - 390) | (x > wall + 90)
    assert not more["shadow"][beyond].any()
    np.testing.assert_array_equal(more["liaDeg"], less["liaDeg"])
    dark = np.isnan(pixels(sentinel1.composite(cast, PRE, known), grid)["VV"])
    np.testing.assert_array_equal(dark, (more["shadow"] == 1) | (more["layover"] == 1))


# Speckle -------------------------------------------------------------------------------------


def test_the_filter_runs_on_each_side_after_the_correction(earth: World) -> None:
    site = a_site(sources={"s1": "users/a/speckled"}, speckle_filter=5)
    grid = site.grid()
    known = Settled(orbits=(DOWN,), look=104.0)
    a = grid.transform
    corner = Affine(a.a, 0, a.c - 10 * a.a, 0, a.e, a.f - 10 * a.e)
    whole = GeoBox((grid.shape[0] + 20, grid.shape[1] + 20), corner, grid.crs)
    found = pixels(sentinel1.change(site, known), grid)
    level = {
        date: pixels(
            sentinel1.composite(
                site.model_copy(update={"speckle_filter": None}),
                Window(start=day, end=day + dt.timedelta(days=1)),
                known,
            ),
            whole,
        )["VV"]
        for date in S1_DATES
        for day in [dt.date.fromisoformat(date)]
    }
    for side, dates in (("pre", S1_DATES[:3]), ("post", S1_DATES[3:])):
        power = np.stack([10 ** (level[date] / 10) for date in dates])
        local = np.stack([ndimage.uniform_filter(image, 5) for image in power])
        expected = np.median(local * (power / local).mean(0), axis=0)[10:-10, 10:-10]
        np.testing.assert_allclose(10 ** (found[f"{side}VV"] / 10), expected, rtol=1e-5)
    unfiltered = pixels(
        sentinel1.change(site.model_copy(update={"speckle_filter": None}), known), grid
    )
    assert found["dVV"].std() < 0.9 * unfiltered["dVV"].std()


def test_the_filter_takes_nothing_from_layover(earth: World) -> None:
    """Ground in layover shines on one of two dates; its neighbours must not be lit by it."""
    sites = [
        vectors.mountain_site("steep", "DESCENDING", slope_correction="volume", speckle_filter=each)
        for each in (None, 7)
    ]
    known = Settled(orbits=(DOWN,), look=104.0)
    assert sentinel1.collection(sites[0], POST, [DOWN]).size().getInfo() == 2
    plain, filtered = (pixels(sentinel1.composite(s, POST, known), s.grid())["VV"] for s in sites)
    assert np.isnan(plain).sum() > 1000
    # The top itself is rounded off by the terrain's pixels.
    x, y = centres(sites[0].grid())
    flank = np.hypot(x - vectors.TOP[0], y - vectors.TOP[1]) > 150
    np.testing.assert_allclose(filtered[flank], plain[flank], atol=1e-5)


# What people are told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("year", "angle", "vegetated", "model", "words"),
    [
        (
            2017,
            29.5,
            0.83,
            "volume",
            ["volume, plants on 83% of the land", "between 30.6 and 45.2"],
        ),
        (2017, 37.0, 0.2, "surface", ["surface, plants on 20% of the land; seen at 37.0 degrees"]),
        (2019, 29.5, None, "volume", ["volume, as no land cover map tells otherwise"]),
    ],
    ids=["old and at the border", "old", "no map"],
)
def test_the_plan_says_how_the_radar_is_used(
    year: int, angle: float, vegetated: float | None, model: Any, words: list[str]
) -> None:
    site = a_site(
        pre=Window(start=dt.date(year, 6, 1), end=dt.date(year, 9, 1)), slope_correction="auto"
    )
    settled = Settled(orbits=(DOWN,), incidence=angle, vegetated=vegetated, model=model)
    survey = Survey({}, settled, 0)
    told = {
        "radar": check._seen(site, survey),
        "orbits": None,
        "platforms": survey.platforms,
    }
    text = "\n".join(check._radar(told))
    assert all(each in text for each in words)
    assert ("Warning" in text) == (len(words) > 1)
