"""Radar geometry and slope correction against vectors, and properties they must have."""

from __future__ import annotations

import math
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
    LOOK,
    NORTH,
    PRE,
    WEST,
    Array,
    a_site,
    band,
    centres,
    incidence,
    part_of,
    world,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy import ndimage
from test_gee_scripts import pixels

from gee.config import BackendConfig
from gee.emulator.catalog import BandData, Catalog
from gee.scripts import radar_geometry, sentinel1, slope_correction, terrain
from gee.session import connect
from thawslump.grid import lonlat_bounds

MASSIF = GeoBox((150, 150), Affine(30, 0, WEST, 0, -30, NORTH), CRS)


@pytest.fixture(scope="module")
def mountains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cones seen as each model tells it, and as facets with cos^1 do."""
    folder = tmp_path_factory.mktemp("mountains") / "catalog"
    for model in ("volume", "surface"):

        def echo(theta: Array, look: float, east: Array, north: Array, of: str = model) -> Array:
            slope, aspect = np.arctan(np.hypot(east, north)), np.arctan2(east, north)
            return vectors.model_echo(of, theta, look, slope, aspect)

        vectors.put_mountain(folder, model, 22.0, echo)
    vectors.put_mountain(
        folder, "steep", 44.0, lambda theta, look, east, north: 0.05 + 0 * theta + 0 * east
    )
    dem = vectors.mountains(3 * MASSIF.shape[0], 10.0)[1::3, 1::3].astype("float32")
    catalog = Catalog(folder, writable=True)
    catalog.put_image("users/a/massif", [band("h", dem, MASSIF)])
    # The same ground as the global DEM has it: in degrees, wider in longitude.
    west, south, east, north = lonlat_bounds(MASSIF)
    wide, high = 2 / 3600, 1 / 3600
    shape = (math.ceil((north - south) / high), math.ceil((east - west) / wide))
    longitudes = west + (np.arange(shape[1]) + 0.5) * wide
    latitudes = north - (np.arange(shape[0]) + 0.5) * high
    to_grid = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    x, y = to_grid.transform(*np.meshgrid(longitudes, latitudes))
    fine = vectors.mountains(3 * MASSIF.shape[0], 10.0)
    rows, cols = (NORTH - y) / 10 - 0.5, (x - WEST) / 10 - 0.5
    degrees = ndimage.map_coordinates(fine, [rows, cols], order=1, mode="nearest")
    catalog.put_image(
        "users/a/massif_in_degrees",
        [BandData("h", degrees.astype("float32"), "EPSG:4326", (wide, 0, west, 0, -high, north))],
    )
    with connect(BackendConfig(), folder):
        # The first answer raises the limit of recursion, which hypothesis would complain about.
        computed(0.7, 0.0, 0.0, 0.0, "volume")
        yield folder


def computed(theta: float, look: float, east: float, north: float, model: str) -> dict[str, float]:
    """One pixel of ground, everything that is known of it; angles in radians."""
    angle = ee.Image.constant(theta)
    gradient = ee.Image.constant([north, east]).rename(["north", "east"])
    ground = radar_geometry.terrain_geometry(angle, gradient, look)
    image = ground.addBands(slope_correction.gain(angle, ground, model))  # type: ignore[arg-type]
    found = pixels(image, part_of(world(10), 1, 1))
    return {name: values.item() for name, values in found.items()}


angles = st.floats(math.radians(29), math.radians(46))
turns = st.floats(0, 2 * math.pi)
steepness = st.floats(-1.5, 1.5)


@settings(max_examples=25, deadline=None)
@given(theta=angles, look=turns, east=steepness, north=steepness)
def test_local_incidence_is_the_angle_between_two_vectors(
    mountains: Path, theta: float, look: float, east: float, north: float
) -> None:
    found = computed(theta, look, east, north, "volume")
    exact = vectors.local_incidence(*map(np.array, (theta, look, east, north)))
    assert found["lia"] == pytest.approx(float(exact), abs=1e-5)
    # Layover and shadow begin where the slope towards the radar passes the beam.
    towards = math.degrees(math.atan(east * math.sin(look) + north * math.cos(look)))
    edge = math.degrees(theta)
    if min(abs(towards - edge), abs(towards - edge + 90)) > 1e-6:
        assert found["layover"] == (towards > edge)
        assert found["shadow"] == (towards < edge - 90)
    assert math.isnan(found["gain"]) == bool(found["layover"] or found["shadow"])


@settings(max_examples=25, deadline=None)
@given(
    theta=angles, look=turns, east=steepness, north=steepness, turn=turns,
    model=st.sampled_from(["volume", "surface"]),
)  # fmt: skip
def test_turning_ground_and_radar_together_changes_nothing(
    mountains: Path, theta: float, look: float, east: float, north: float, turn: float, model: str
) -> None:
    first = computed(theta, look, east, north, model)
    sine, cosine = math.sin(turn), math.cos(turn)
    turned = (east * cosine + north * sine, north * cosine - east * sine)
    second = computed(theta, look + turn, *turned, model)
    if min(abs(first["range"] - theta), abs(first["range"] - theta + math.pi / 2)) > 1e-6:
        for name, value in first.items():
            assert second[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), name


@settings(max_examples=25, deadline=None)
@given(theta=angles, look=turns, east=steepness, north=steepness)
def test_facets_that_scatter_alike_from_every_side_come_out_level(
    mountains: Path, theta: float, look: float, east: float, north: float
) -> None:
    """Facet area x cos(local incidence): what the volume model is made for, at every aspect."""
    found = computed(theta, look, east, north, "volume")
    clear = min(abs(found["range"] - theta), abs(found["range"] - theta + math.pi / 2)) > 0.02
    if clear and not (found["layover"] or found["shadow"]):
        given_east, given_north = np.array(east), np.array(north)
        echo = vectors.facet_echo(np.array(theta), look, given_east, given_north, 1.0)
        assert float(echo) * found["gain"] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("tilt", [-30.0, -10.0, 10.0, 30.0])
def test_facets_of_equal_power_per_area_come_out_level_in_the_plane_of_incidence(
    mountains: Path, tilt: float
) -> None:
    """cos^0: what the surface model is made for, exact where the slope faces the radar."""
    theta, look = math.radians(38), math.radians(104)
    towards = math.tan(math.radians(tilt))
    east, north = towards * math.sin(look), towards * math.cos(look)
    found = computed(theta, look, east, north, "surface")
    echo = vectors.facet_echo(np.array(theta), look, np.array(east), np.array(north), 0.0)
    assert float(echo) * math.cos(theta) * found["gain"] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("direction", ["ASCENDING", "DESCENDING"])
@pytest.mark.parametrize("model", ["volume", "surface"])
def test_each_model_flattens_its_own_mountain_at_every_aspect(
    mountains: Path, model: Any, direction: str
) -> None:
    """The whole chain: heights, slopes, look direction, angle band, correction, median."""
    site = vectors.mountain_site(model, direction, slope_correction=model)
    grid = site.grid()
    x, y = centres(grid)
    _, east, north = vectors.cone(x, y, 22.0)
    away = np.hypot(x - vectors.TOP[0], y - vectors.TOP[1])
    aspect = np.degrees(np.arctan2(east, north)) % 360
    raw = vectors.mountain_site(model, direction, slope_correction="none")
    before, after = (pixels(sentinel1.composite(each, PRE), grid)["VH"] for each in (raw, site))
    whole = (away > 300) & (away < 750)
    sectors = [whole & (np.floor(aspect / 10) == number) for number in range(36)]
    assert min(sector.sum() for sector in sectors) > 200
    assert np.ptp([before[sector].mean() for sector in sectors]) > 4
    assert max(abs(after[sector].mean()) for sector in sectors) < 0.1
    assert np.abs(after[whole]).max() < 0.2


@pytest.mark.parametrize("direction", ["ASCENDING", "DESCENDING"])
def test_geometry_of_a_steep_mountain_is_that_of_vectors_and_never_masked(
    mountains: Path, direction: str
) -> None:
    site = vectors.mountain_site("steep", direction)
    grid = site.grid()
    found = pixels(sentinel1.geometry(site), grid)
    assert list(found) == ["layover", "shadow", "liaDeg"]
    x, y = centres(grid)
    _, east, north = vectors.cone(x, y, 44.0)
    theta, look = np.radians(incidence(x, y, direction)), math.radians(LOOK[direction])
    exact = vectors.local_incidence(theta, look, east, north)
    whole = np.hypot(x - vectors.TOP[0], y - vectors.TOP[1]) > 400
    assert np.abs(found["liaDeg"] - exact)[whole].max() < 0.5
    assert not any(np.isnan(values).any() for values in found.values())
    assert set(np.unique(found["layover"])) == {0.0, 1.0}
    towards = np.degrees(np.arctan(east * math.sin(look) + north * math.cos(look)))
    clear = whole & (np.abs(towards - np.degrees(theta)) > 1)
    np.testing.assert_array_equal(found["layover"][clear], (towards > np.degrees(theta))[clear])
    # The composites are masked there, and only there.
    composite = pixels(sentinel1.composite(site, PRE), grid)["VV"]
    folded = (found["layover"] == 1) | (found["shadow"] == 1)
    np.testing.assert_array_equal(np.isnan(composite), folded)


@pytest.mark.parametrize(
    ("sides", "mean"),
    [((359.0, 1.0), 0.0), ((359.0, 3.0), 1.0), ((100.0, 108.0), 104.0)],
    ids=["around north", "beyond north", "plain"],
)
def test_directions_are_averaged_as_vectors(
    mountains: Path, sides: tuple[float, float], mean: float
) -> None:
    """The plain mean of 359 and 1 degree would look from the south."""
    place = ee.Image.pixelCoordinates(ee.Projection(CRS))

    def seen(look: float) -> ee.Image:
        away = place.select("x").multiply(-math.sin(math.radians(look)))
        away = away.subtract(place.select("y").multiply(math.cos(math.radians(look))))
        return away.multiply(6e-5).add(500).rename("angle")

    images = ee.ImageCollection([seen(look) for look in sides])
    found = radar_geometry.view(images, a_site(), None).getInfo()["look"]
    assert abs((found - mean + 180) % 360 - 180) < 0.01
    assert 0 <= found < 360


def f1(found: Array, truth: Array) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


@pytest.mark.parametrize(
    ("direction", "dem"),
    [
        (106.0, "users/a/massif"),
        (20.0, "users/a/massif"),
        (106.0, "users/a/massif_in_degrees"),
    ],
)
def test_masks_of_a_steep_massif_are_those_of_rays(
    mountains: Path, direction: float, dem: str
) -> None:
    """Rays go through the same surface at a third of the pixel size, at an angle to the grid."""
    size, theta, look = MASSIF.shape[0], math.radians(38), math.radians(direction)
    truth = vectors.rays(vectors.mountains(3 * size, 10.0), 10.0, theta, look)
    inner = GeoBox((size - 40,) * 2, Affine(30, 0, WEST + 600, 0, -30, NORTH - 600), CRS)
    site = a_site(bounds=lonlat_bounds(inner), resolution=30, sources={"dem": dem})
    angle = ee.Image.constant(theta)
    ground = radar_geometry.terrain_geometry(angle, terrain.gradient(site), look)
    cast = radar_geometry.cast_shadow(site, angle, look).rename("cast")
    found = pixels(ground.select(["layover", "shadow"]).addBands(cast), MASSIF)
    inside = np.s_[20:-20, 20:-20]
    ours = {name: values[inside] > 0.5 for name, values in found.items()}
    true = {name: values[inside] for name, values in truth.items()}
    assert true["layover"].sum() > 200 and true["hidden"].sum() > 100
    assert f1(ours["layover"], true["layover"]) > 0.95
    assert f1(ours["cast"] | ours["shadow"], true["hidden"] | true["shadow"]) > 0.9
    # What hides itself is found without a look at other ground, and only that.
    assert not (ours["shadow"] & ~true["hidden"] & ~true["shadow"]).sum() > 10


def _towards_satellite(latitude: float, ascending: bool) -> float:
    """Direction to the satellite, degrees from north, found on its track; incidence 38 degrees.

    A point on a turning sphere is seen when the satellite's velocity over ground is at a right
    angle to the line of sight. Solved on the track itself, without the formula of a heading.
    """
    radius, orbit = 6371.0, 6371.0 + 693.0
    tilt = math.radians(98.18)
    revolution = 86400 / (14 + 7 / 12)
    seconds = np.arange(-revolution / 2, revolution / 2, 0.5)
    u = 2 * np.pi * seconds / revolution
    # Inertial positions, then turned back with the Earth.
    inertial = np.stack([np.cos(u), np.sin(u) * math.cos(tilt), np.sin(u) * math.sin(tilt)])
    spin = 2 * np.pi * seconds / 86400
    track = orbit * np.stack(
        [
            inertial[0] * np.cos(spin) + inertial[1] * np.sin(spin),
            inertial[1] * np.cos(spin) - inertial[0] * np.sin(spin),
            inertial[2],
        ]
    )
    speed = np.gradient(track, 0.5, axis=1)
    best = (np.inf, 0.0)
    for longitude in np.arange(-180, 180, 0.4):
        lat, lon = math.radians(latitude), math.radians(longitude)
        up = np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)])
        east = np.array([-math.sin(lon), math.cos(lon), 0.0])
        north = np.cross(up, east)
        line = track - radius * up[:, None]
        squint = (line * speed).sum(0)
        for at in np.flatnonzero(np.diff(np.sign(squint)) != 0):
            along = line[:, at] / np.linalg.norm(line[:, at])
            angle = math.degrees(math.acos(float(np.clip(along @ up, -1, 1))))
            flight = speed[:, at]
            right = float(np.cross(flight, -along) @ up) < 0
            # The satellite looks to its right and passes this latitude in the asked direction.
            if (flight[2] > 0) != ascending or not right or angle > 60:
                continue
            if abs(angle - 38) < best[0]:
                best = (
                    abs(angle - 38),
                    math.degrees(math.atan2(float(along @ east), float(along @ north))) % 360,
                )
    assert best[0] < 2
    return best[1]


@pytest.mark.parametrize("latitude", [-60.0, 47.0, 72.0, 80.0])
@pytest.mark.parametrize("ascending", [True, False], ids=["up", "down"])
def test_orbit_look_is_found_on_the_track_itself(latitude: float, ascending: bool) -> None:
    site = a_site(bounds=(14.99, latitude - 0.01, 15.01, latitude + 0.01), crs=None)
    found = radar_geometry.orbit_look(site, "ASCENDING" if ascending else "DESCENDING")
    expected = _towards_satellite(latitude, ascending)
    assert abs((found - expected + 180) % 360 - 180) < 1.5
