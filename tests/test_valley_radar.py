"""Sentinel-1 of the made-up valley: geometry against independent ray tracing, speckle, levels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, special

from gee.valley import landscape, radar
from gee.valley.landscape import Landscape
from gee.valley.radar import ALTITUDE, Geometry
from gee.valley.scenes import Scenes, radar_passes

PIXEL = 10.0


@pytest.fixture(scope="module")
def land() -> Landscape:
    return landscape.make(2, (224, 192))


def ridge(slope_near: float, slope_far: float, top: float = 220.0, cols: int = 160) -> np.ndarray:
    """Return heights across a ridge whose two sides have the given slopes in degrees."""
    x = (np.arange(cols) - cols / 2) * PIXEL
    near, far = np.tan(np.radians(slope_near)), np.tan(np.radians(slope_far))
    return np.clip(top + np.where(x < 0, x * near, -x * far), 0.0, None).astype(np.float32)


def traced(profile: np.ndarray, incidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Layover and shadow of a profile seen from the left, one pair of points after the other.

    Written without running extremes: each point is compared with every other one.
    """
    n = profile.size
    x = ALTITUDE * np.tan(np.radians(incidence)) + (np.arange(n) - n // 2) * PIXEL
    sensor = np.array([0.0, ALTITUDE])
    points = np.column_stack([x, profile.astype(float)])
    distance = np.linalg.norm(points - sensor, axis=1)
    layover, shadow = np.zeros(n, bool), np.zeros(n, bool)
    for i in range(n):
        # Layover: the order in distance is not the order over ground.
        layover[i] = any((x[j] - x[i]) * (distance[j] - distance[i]) < 0 for j in range(n))
        # Shadow: ground between the point and the sensor rises above the ray.
        for j in range(i):
            share = (x[j] - sensor[0]) / (x[i] - sensor[0])
            ray = sensor[1] + share * (profile[i] - sensor[1])
            if profile[j] > ray + 1e-6:
                shadow[i] = True
                break
    return layover, shadow


@pytest.mark.parametrize("incidence", [31.0, 39.0, 45.0])
@pytest.mark.parametrize("sides", [(50.0, 20.0), (25.0, 65.0), (60.0, 70.0), (15.0, 15.0)])
def test_layover_and_shadow_against_ray_tracing(
    sides: tuple[float, float], incidence: float
) -> None:
    "A synthetic ridge, looked at along the rows"
    profile = ridge(*sides)
    height = np.tile(profile, (40, 1))
    east = np.arange(profile.size) * PIXEL
    north = -np.arange(40) * PIXEL
    view = Geometry(0.0, incidence, float(east[profile.size // 2]), float(north[20]))
    light = radar.illuminate(height, PIXEL, view, east, north)
    layover, shadow = traced(profile, incidence)
    # A pixel on either side of an edge: the profile is sampled again on the range line.
    sure = ~ndimage.binary_dilation(layover) | ndimage.binary_erosion(layover)
    assert np.array_equal(light.layover[20][sure], layover[sure])
    sure = ~ndimage.binary_dilation(shadow) | ndimage.binary_erosion(shadow)
    assert np.array_equal(light.shadow[20][sure], shadow[sure])
    assert layover.any() == (sides[0] > incidence)
    assert shadow.any() == (sides[1] > 90.0 - incidence)


@pytest.mark.parametrize("heading", [332.5, 27.0, 200.0])
def test_any_heading_sees_what_the_turned_ridge_shows(heading: float) -> None:
    "The ridge and the track turned together give the same shares of layover and shadow"
    profile = ridge(55.0, 62.0, cols=201)
    layover, shadow = traced(profile, 39.0)
    size = 201
    look = np.radians(heading + 90.0)
    y, x = np.mgrid[0:size, 0:size] - size // 2
    along = x * np.sin(look) - y * np.cos(look)
    height = np.interp(along + size // 2, np.arange(size), profile).astype(np.float32)
    axis = (np.arange(size) - size // 2) * PIXEL
    light = radar.illuminate(height, PIXEL, Geometry(heading, 39.0, 0.0, 0.0), axis, -axis)
    middle = np.hypot(x, y) < 80
    at = np.clip(np.rint(along + size // 2).astype(int), 0, size - 1)
    assert np.mean(light.layover[middle] == layover[at][middle]) > 0.97
    assert np.mean(light.shadow[middle] == shadow[at][middle]) > 0.97
    assert (light.volume[light.shadow] == 0).all()


@pytest.mark.parametrize("steep", [-20.0, -8.0, 0.0, 8.0, 20.0])
def test_slopes_brighten_as_the_volume_model_says(steep: float) -> None:
    "A plane tilted towards the radar: tan(90 - theta + alpha) / tan(90 - theta), Vollrath 2020"
    theta = 39.0
    x = (np.arange(81) - 40) * PIXEL
    height = np.tile((x * np.tan(np.radians(steep))).astype(np.float32), (21, 1))
    axis = -(np.arange(21) - 10) * PIXEL
    light = radar.illuminate(height, PIXEL, Geometry(0.0, theta, 0.0, 0.0), x, axis)
    cosine = np.cos(np.radians(theta))
    ratio = np.tan(np.radians(90 - theta + steep)) / np.tan(np.radians(90 - theta))
    assert light.volume[10, 40] == pytest.approx(cosine * ratio, rel=2e-3)
    surface = np.sin(np.radians(theta)) / np.sin(np.radians(theta - steep)) * cosine
    assert light.surface[10, 40] == pytest.approx(surface, rel=2e-3)
    assert light.local[10, 40] == pytest.approx(theta - steep, abs=0.05)


def test_layover_is_bright() -> None:
    "What falls together adds up: at least twice the flat ground"
    profile = ridge(60.0, 20.0)
    height = np.tile(profile, (40, 1))
    axis = (np.arange(profile.size) - 80) * PIXEL
    north = -np.arange(40) * PIXEL
    light = radar.illuminate(height, PIXEL, Geometry(0.0, 35.0, 0.0, -200.0), axis, north)
    assert light.volume[20][light.layover[20]].mean() > 2 * np.cos(np.radians(35.0))


def test_speckle_has_its_looks_and_law() -> None:
    "Mean 1, variance 1/L, and the logarithm's variance of a gamma law, trigamma(L)"
    field = radar.speckle((700, 700), np.random.default_rng(2))
    assert field.mean() == pytest.approx(1.0, abs=0.01)
    assert radar.equivalent_looks(field) == pytest.approx(radar.LOOKS, rel=0.04)
    assert np.log(field).var() == pytest.approx(special.polygamma(1, radar.LOOKS), rel=0.04)


def test_speckle_is_as_wide_as_the_resolution() -> None:
    "Neighbours are alike, pixels 40 m apart are not"
    field = radar.speckle((500, 500), np.random.default_rng(5)).astype(float)

    def alike(lag: int) -> float:
        return float(np.corrcoef(field[:, lag:].ravel(), field[:, :-lag].ravel())[0, 1])

    assert 0.4 < alike(1) < 0.85
    assert abs(alike(4)) < 0.05


def test_scenes_have_their_looks(land: Landscape) -> None:
    "Two scenes of one summer and pass: with the noise put back, their ratio has two scenes' looks"
    scenes = Scenes(land)
    taken = [
        bands["VV"]
        for each, bands in scenes.radar()
        if each.when.year == 2020 and not each.ascending and each.when.month >= 7
    ]
    light = scenes.illumination(False, 2020)
    plain = ndimage.binary_erosion(
        ~(land.river | land.lake) & ~light.layover & ~light.shadow & (land.pre.melt < 175)
    )[land.inner]
    noise = 10 ** (radar.NOISE_FLOOR / 10)
    whole = [np.log(10 ** (each[plain] / 10) + noise) for each in taken[:2]]
    difference = whole[0] - whole[1]
    expected = 2 * special.polygamma(1, radar.LOOKS)
    assert difference.var() == pytest.approx(expected, rel=0.07)


def flat(power: float, size: int = 600) -> tuple[np.ndarray, radar.Illumination]:
    """Return ground of one gamma nought and light that changes nothing."""
    even = np.ones((size, size), np.float32)
    no = np.zeros((size, size), bool)
    return even * np.float32(power), radar.Illumination(even, even, no, no, even * 39)


@pytest.mark.parametrize("db", [-12.0, -20.0])
def test_thermal_noise_is_subtracted_and_speckles_on(db: float) -> None:
    "The mean is the ground's own; the variance is that of ground and noise together"
    power = 10 ** (db / 10)
    noise = 10 ** (radar.NOISE_FLOOR / 10)
    ground, light = flat(power)
    nothing = np.zeros_like(ground)
    grains = radar.speckle(ground.shape, np.random.default_rng(3))
    seen = 10 ** (radar.observe(ground, nothing, light, grains, nothing, 0.0) / 10.0)
    assert seen.mean() == pytest.approx(power, rel=0.02)
    assert seen.var() == pytest.approx((power + noise) ** 2 / radar.LOOKS, rel=0.05)
    assert seen.var() > 1.1 * power**2 / radar.LOOKS


def test_darker_than_the_noise_is_very_dark_and_not_missing() -> None:
    "Half of what has no echo is below the noise's mean: the floor, finite, never masked"
    ground, light = flat(0.0)
    grains = radar.speckle(ground.shape, np.random.default_rng(4))
    seen = radar.observe(ground, ground, light, grains, ground, 0.0)
    assert np.isfinite(seen).all()
    assert seen.min() == pytest.approx(radar.DENOISED_FLOOR, abs=1e-4)
    below = special.gammainc(radar.LOOKS, radar.LOOKS * (1 + 10 ** (-2.5)))
    assert (seen == seen.min()).mean() == pytest.approx(below, abs=0.03)


def test_levels_are_those_of_tundra_and_water(land: Landscape) -> None:
    "dB of the classes lie where C-band has them; water is dark; VH lies below VV"
    for _, bands in Scenes(land).radar():
        vv, vh = bands["VV"], bands["VH"]
        assert vv.dtype == vh.dtype == np.float32
        assert np.isfinite(vv).all() and np.isfinite(vh).all()
        assert -16 < np.median(vv) < -9 and -23 < np.median(vh) < -15
        assert np.median(vv[land.river[land.inner]]) < np.median(vv) - 4
        break


@pytest.mark.parametrize(("lat", "ascending", "expected"), [(0, True, 348), (0, False, 192)])
def test_heading_at_the_equator(lat: float, ascending: bool, expected: float) -> None:
    "Documented heading of Sentinel-1 at the equator, about 348 and 192 degrees"
    assert radar.heading(lat, ascending) == pytest.approx(expected, abs=0.7)


def test_heading_is_where_the_orbit_goes() -> None:
    "Against stepping a satellite along its orbit over a turning sphere"
    period, day = 2 * np.pi * np.sqrt((6.371e6 + ALTITUDE) ** 3 / 3.986e14), 86164.1
    lean = np.radians(radar.INCLINATION)

    def place(t: float) -> tuple[float, float]:
        u = 2 * np.pi * t / period
        x, y, z = np.cos(u), np.sin(u) * np.cos(lean), np.sin(u) * np.sin(lean)
        return np.arcsin(z), np.arctan2(y, x) - 2 * np.pi * t / day

    for t in (200.0, 900.0, 1250.0):
        (lat0, lon0), (lat1, lon1) = place(t - 0.5), place(t + 0.5)
        lat = (lat0 + lat1) / 2
        step = (lon1 - lon0 + np.pi) % (2 * np.pi) - np.pi
        stepped = np.degrees(np.arctan2(step * np.cos(lat), lat1 - lat0)) % 360
        assert radar.heading(float(np.degrees(lat)), True) == pytest.approx(stepped, abs=0.05)


def test_beyond_the_orbit_is_refused() -> None:
    "The orbit never passes the pole"
    with pytest.raises(ValueError, match="beyond the orbit"):
        radar.heading(89.0, True)


def test_angle_band_grows_away_from_the_sensor(land: Landscape) -> None:
    "Its gradient points where the sensor does not stand; it covers more than the scene"
    scenes = Scenes(land)
    for ascending in (True, False):
        frame, angle = scenes.angle(ascending)
        rise = np.array(
            [np.gradient(angle, 1000.0, axis=1).mean(), -np.gradient(angle, 1000.0, axis=0).mean()]
        )
        away = np.array(scenes.geometry(ascending).away)
        assert rise @ away / np.linalg.norm(rise) > 0.999
        assert 30 < angle.min() < angle.max() < 46
        assert frame.left < scenes.frame.left - 2000


def test_passes_repeat_every_twelve_days() -> None:
    "One relative orbit per direction, six scenes in each window"
    from gee.valley.place import POST, PRE

    passes = radar_passes()
    for ascending in (True, False):
        mine = [p for p in passes if p.ascending == ascending]
        assert len({p.relative for p in mine}) == 1
        for start, end in (PRE, POST):
            assert sum(start <= p.when.date() < end for p in mine) == 6
