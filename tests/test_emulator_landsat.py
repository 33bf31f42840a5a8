"""Calibration, cloud scores and composites of Landsat, and Sentinel-2's displacement index.

[A] is the list of the installed client; the equations are those of the Landsat handbooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import DAY, NORTH, UTM, WEST, Earth, band, earth, native

from gee.emulator.catalog import BandData
from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.pixels import Limits
from gee.emulator.projection import PixelGrid
from gee.emulator.values import Date

load_all()

from gee.emulator.functions.landsat import sun_distance  # noqa: E402

SIZE = 16
EIGHT = ("B2", "B3", "B4", "B5", "B6", "B7", "B10")


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        self.random = np.random.default_rng(5)
        self.numbers = {
            n: self.random.integers(7000, 30000, (5, SIZE, SIZE)).astype(np.uint16) for n in EIGHT
        }
        self.mask = self.random.random((5, SIZE, SIZE)) > 0.1
        found.catalog.put_collection("T/l8")
        for k in range(5):
            bands = [band(n, v[k], self.mask[k]) for n, v in self.numbers.items()]
            bands.append(band("QA_PIXEL", np.full((SIZE, SIZE), 21824, np.uint16)))
            found.put(
                f"T/l8/s{k}", *bands, start=k * DAY, CLOUD_COVER=[30, 10, 50, 20, 40][k],
                WRS_PATH=1 + k % 2, WRS_ROW=9, **self.metadata(),
            )  # fmt: skip

    @staticmethod
    def metadata() -> dict[str, Any]:
        out: dict[str, Any] = {"SPACECRAFT_ID": "LANDSAT_8", "SUN_ELEVATION": 37.5}
        for k in (2, 3, 4, 5, 6, 7, 10):
            out |= {f"RADIANCE_MULT_BAND_{k}": 0.001 * k, f"RADIANCE_ADD_BAND_{k}": -0.5 * k}
        for k in (2, 3, 4, 5, 6, 7):
            out |= {f"REFLECTANCE_MULT_BAND_{k}": 2e-5, f"REFLECTANCE_ADD_BAND_{k}": -0.1}
        # Radiances of 65 to 295 (W/(m2 sr um)) would be far too hot: K1 is made up to match.
        return out | {"K1_CONSTANT_BAND_10": 16000.0, "K2_CONSTANT_BAND_10": 1321.0789}

    def reflectance(self, name: str, scene: int = 0) -> np.ndarray:
        return (self.numbers[name][scene] * 2e-5 - 0.1) / math.sin(math.radians(37.5))

    def kelvin(self, scene: int = 0) -> np.ndarray:
        return 1321.0789 / np.log(16000.0 / (self.numbers["B10"][scene] * 0.01 - 5.0) + 1)

    def score(self, scene: int) -> np.ndarray:
        "The least of five linear ramps."
        b, g, r, n, s, t = (self.reflectance(k, scene) for k in EIGHT[:6])

        def ramp(v: np.ndarray, low: float, high: float) -> np.ndarray:
            return np.interp((v - low) / (high - low), [0, 1], [0, 1])

        tests = [
            ramp(b, 0.1, 0.3), ramp(r + g + b, 0.2, 0.8), ramp(n + s + t, 0.3, 0.8),
            ramp(self.kelvin(scene), 300, 290), ramp((g - s) / (g + s), 0.8, 0.6),
        ]  # fmt: skip
        return np.min(tests, axis=0) * 100

    def all(self, image: Any, grid: Any = None, tile: int | None = None) -> dict[str, np.ndarray]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, grid or native(SIZE, SIZE), limits)
        return {k: np.where(m > 0, d.astype(float), np.nan) for k, (d, m) in found.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("landsat")) as found:
        yield World(found)


def masked(world: World, values: np.ndarray, scene: int = 0) -> np.ndarray:
    return np.where(world.mask[scene], values, np.nan)


def test_radiance_is_linear_in_the_metadata(world: World) -> None:
    "[A] calibratedRadiance: slope RADIANCE_MULT_BAND_N, intercept RADIANCE_ADD_BAND_N."
    found = world.all(ee.Algorithms.Landsat.calibratedRadiance(ee.Image("T/l8/s0")))
    for name in EIGHT:
        k = int(name[1:])
        expected = masked(world, world.numbers[name][0] * 0.001 * k - 0.5 * k)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
    assert np.nanmax(found["QA_PIXEL"]) == 21824


def test_reflectance_and_temperature(world: World) -> None:
    "rho = (M Q + A) / sin(elevation), T = K2 / ln(K1 / L + 1); properties stay."
    image = ee.Algorithms.Landsat.TOA(ee.Image("T/l8/s0"))
    found = world.all(image)
    for name in EIGHT[:6]:
        expected = masked(world, world.reflectance(name))
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    np.testing.assert_allclose(found["B10"], masked(world, world.kelvin()), rtol=1e-5)
    assert world.earth.info(image.get("SPACECRAFT_ID")) == "LANDSAT_8"
    shown = world.earth.info(image.select("B10"))["bands"][0]["data_type"]
    assert shown["precision"] == "float"


def test_older_scenes_take_published_constants(world: World) -> None:
    "Chander et al. (2009): rho = pi L d^2 / (ESUN cos(zenith)); K1 and K2 of Landsat 5."
    numbers = world.random.integers(20, 250, (SIZE, SIZE)).astype(np.uint8)
    moment = Date.parse("1999-07-04").ms  # at aphelion: 1.0167 au
    world.earth.put(
        "T/l5", band("B3", numbers), band("B6", numbers), start=moment,
        SPACECRAFT_ID="LANDSAT_5", SUN_ELEVATION=50.0, RADIANCE_MULT_BAND_3=1.044,
        RADIANCE_ADD_BAND_3=-2.21, RADIANCE_MULT_BAND_6=0.055, RADIANCE_ADD_BAND_6=1.18,
    )  # fmt: skip
    found = world.all(ee.Algorithms.Landsat.TOA(ee.Image("T/l5")))
    light = numbers * 1.044 - 2.21
    expected = math.pi * light * 1.0167**2 / (1536 * math.sin(math.radians(50)))
    np.testing.assert_allclose(found["B3"], expected, rtol=3e-4)
    heat = 1260.56 / np.log(607.76 / (numbers * 0.055 + 1.18) + 1)
    np.testing.assert_allclose(found["B6"], heat, rtol=1e-5)
    assert sun_distance(Date.parse("2000-01-03")) == pytest.approx(0.9833, abs=2e-4)


def test_missing_metadata_are_named(world: World) -> None:
    world.earth.put("T/bare", band("B2", np.ones((4, 4), np.uint16)), SUN_ELEVATION=30.0)
    bare = ee.Image("T/bare")
    with pytest.raises(EngineError, match=r"Landsat.TOA: .*no property 'REFLECTANCE_MULT_BAND_2'"):
        world.earth.info(ee.Algorithms.Landsat.TOA(bare))
    with pytest.raises(EngineError, match="no property 'RADIANCE_MULT_BAND_2'"):
        world.earth.info(ee.Algorithms.Landsat.calibratedRadiance(bare))
    with pytest.raises(EngineError, match="SPACECRAFT_ID must name Landsat 4, 5, 7, 8 or 9"):
        world.earth.info(ee.Algorithms.Landsat.simpleCloudScore(bare))
    with pytest.raises(EngineError, match="SUN_ELEVATION must be above 0, not -3"):
        world.earth.info(ee.Algorithms.Landsat.TOA(bare.set("SUN_ELEVATION", -3)))


def test_cloud_scores(world: World) -> None:
    "[A] simpleCloudScore: [0, 100] by brightness, temperature and NDSI; a band 'cloud'."
    toa = ee.Algorithms.Landsat.TOA(ee.Image("T/l8/s0"))
    found = world.all(ee.Algorithms.Landsat.simpleCloudScore(toa))
    assert list(found)[-1] == "cloud"
    assert list(found)[:-1] == world.earth.info(toa.bandNames())
    expected = masked(world, world.score(0))
    np.testing.assert_allclose(found["cloud"], expected, atol=0.51)
    assert np.nanmax(expected) > 60
    assert np.nanmin(expected) == 0


def test_the_least_cloudy_scenes_of_a_place(world: World) -> None:
    "[A] pathRowLimit: so many per path and row, so many in all; covers 30, 50, 40 and 10, 20."
    scenes = ee.ImageCollection("T/l8")

    def kept(*limits: int) -> list[str]:
        limited = ee.Algorithms.Landsat.pathRowLimit(scenes, *limits)
        return world.earth.info(limited.aggregate_array("system:index"))

    assert kept(1, 10) == ["s0", "s1"]
    assert kept(2, 10) == ["s0", "s1", "s3", "s4"]
    assert kept(9, 1) == ["s1"]
    assert kept(9, 3) == ["s0", "s1", "s3"]
    assert kept() == [f"s{k}" for k in range(5)]


@pytest.mark.parametrize("as_float", [True, False])
@pytest.mark.parametrize("percentile", [50, 80])
def test_composites_of_the_clearest(world: World, as_float: bool, percentile: int) -> None:
    "[A] simpleComposite: percentiles of the pixels within the lowest range of scores."
    image = ee.Algorithms.Landsat.simpleComposite(
        ee.ImageCollection("T/l8"), percentile, 10, 40, as_float
    )
    found = world.all(image)
    assert list(found) == list(EIGHT)
    scores = np.stack([masked(world, np.round(world.score(k)), k) for k in range(5)])
    # Rounded halves may fall either way: those pixels are left out of the comparison.
    exact = np.stack([masked(world, world.score(k), k) for k in range(5)])
    sure = (np.abs(exact % 1 - 0.5) > 1e-3) | np.isnan(exact)
    sure = sure.all(axis=0)
    clear = scores <= np.nanmin(np.where(np.isnan(scores), 999, scores), axis=0) + 10
    for name in ("B3", "B10"):
        values = np.stack(
            [world.kelvin(k) if name == "B10" else world.reflectance(name, k) for k in range(5)]
        )
        some = clear.any(axis=0)
        expected = np.full((SIZE, SIZE), np.nan)
        expected[some] = np.nanpercentile(
            np.where(clear, values, np.nan)[:, some], percentile, axis=0
        )
        if not as_float:
            scaled = expected - 100 if name == "B10" else expected * 255
            expected = np.clip(np.round(scaled), 0, 255)
        np.testing.assert_allclose(
            found[name][sure], expected[sure], rtol=1e-4, atol=0 if as_float else 1
        )
    kind = world.earth.info(image)["bands"][0]["data_type"]["precision"]
    assert kind == ("float" if as_float else "int") or as_float
    with pytest.raises(EngineError, match="percentile must be between 0 and 100, not 101"):
        world.earth.info(ee.Algorithms.Landsat.simpleComposite(ee.ImageCollection("T/l8"), 101))


def test_metadata_need_no_translation(world: World) -> None:
    image = ee.Image("T/l8/s0")
    same = ee.ApiFunction.call_("Landsat.translateMetadata", image)
    assert world.earth.info(same) == world.earth.info(image)


def test_cloud_displacement(world: World) -> None:
    "Frantz et al. (2018): (V(B7/B8A) - V(B8/B8A)) / (V(B7/B8A) + V(B8/B8A)) over 7 x 7 pixels."
    random = np.random.default_rng(8)
    fine = random.uniform(1000, 3000, (48, 48))
    seven, base = random.uniform(1000, 3000, (2, 24, 24))
    coarse = (20.0, 0.0, WEST, 0.0, -20.0, NORTH)
    world.earth.put(
        "T/s2", band("B8", fine), BandData("B7", seven, UTM, coarse),
        BandData("B8A", base, UTM, coarse),
    )  # fmt: skip
    image = ee.Algorithms.Sentinel2.CDI(ee.Image("T/s2"))
    found = world.all(image, PixelGrid(UTM, coarse, 24, 24))
    assert list(found) == ["cdi"]
    eight = fine.reshape(24, 2, 24, 2).mean(axis=(1, 3))
    for row, column in ((3, 3), (10, 17), (20, 20)):
        part = np.s_[row - 3 : row + 4, column - 3 : column + 4]
        a, b = (seven / base)[part].var(), (eight / base)[part].var()
        assert found["cdi"][row, column] == pytest.approx((a - b) / (a + b), abs=1e-5)
    assert np.isnan(found["cdi"][:3]).all()
    assert np.isfinite(found["cdi"][3:-3, 3:-3]).all()
    # Asked for at 10 m it is that of the 20 m pixels: two by two alike.
    twice = world.all(image, native(48, 48), 13)["cdi"]
    np.testing.assert_array_equal(twice[::2, ::2], found["cdi"])
    np.testing.assert_array_equal(twice[1::2, 1::2], found["cdi"])
