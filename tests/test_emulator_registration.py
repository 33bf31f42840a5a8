"""Displacements: applied, found, and judged. [A] is the list of the installed client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import STEP, Earth, band, earth, native
from scipy import ndimage

from gee.emulator.errors import EngineError
from gee.emulator.pixels import Limits

SIZE = 64


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        noise = np.random.default_rng(1).normal(0, 1, (SIZE + 40, SIZE + 40))
        self.field = ndimage.gaussian_filter(noise, 2.5) * 100
        found.put("T/ref", band("v", self.part(0, 0)))
        found.put("T/moved", band("v", self.part(3, -2)), band("w", self.part(3, -2) + 7))
        self.mask = np.random.default_rng(2).random((SIZE, SIZE)) > 0.02
        found.put("T/holes", band("v", self.part(0, 0), self.mask))

    def part(self, right: float, down: float) -> np.ndarray:
        "The field as seen from so many pixels to the left and above."
        rows, columns = np.mgrid[20 : 20 + SIZE, 20 : 20 + SIZE]
        return ndimage.map_coordinates(self.field, [rows - down, columns - right], order=3)

    def all(self, image: Any, tile: int | None = None) -> dict[str, np.ndarray]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, native(SIZE, SIZE), limits)
        return {k: np.where(m > 0, d.astype(float), np.nan) for k, (d, m) in found.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("registration")) as found:
        yield World(found)


def shifts(east: Any, north: Any) -> Any:
    "A displacement image in metres on the made-up assets' projection."
    base = ee.Image("T/ref")
    bands = [ee.Image.constant(v) if isinstance(v, (int, float)) else v for v in (east, north)]
    return base.multiply(0).add(ee.Image.cat(bands)).rename(["dx", "dy"])


@pytest.mark.parametrize("mode", ["nearest_neighbor", "bilinear", "bicubic"])
def test_whole_pixels_are_displaced_exactly(world: World, mode: str) -> None:
    "[A] displace: [dx, dy] in metres is added to the pixel's place to find it in the image."
    image = ee.Image("T/ref").displace(shifts(30, 20), mode)
    found = world.all(image)["v"]
    expected = np.full((SIZE, SIZE), np.nan)
    expected[2:, :-3] = world.part(0, 0)[:-2, 3:]  # north is up: two rows before
    inside = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-6)
    assert np.isnan(found[:2]).all()
    assert np.isnan(found[:, -3:]).all()
    np.testing.assert_array_equal(found, world.all(image, 19)["v"])


@pytest.mark.parametrize(("mode", "order", "within"), [("bilinear", 1, 1e-4), ("bicubic", 3, 0.1)])
def test_fractions_are_interpolated(world: World, mode: str, order: int, within: float) -> None:
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    east, north = 12 * np.sin(y / 9.0), 8 * np.cos(x / 7.0)
    world.earth.put("T/wave", band("dx", east), band("dy", north))
    found = world.all(ee.Image("T/ref").displace(ee.Image("T/wave"), mode), 23)["v"]
    values = world.part(0, 0)
    expected = ndimage.map_coordinates(values, [y - north / STEP, x + east / STEP], order=order)
    inside = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(found[inside], expected[inside], atol=within)


def test_masks_and_words_of_displacing(world: World) -> None:
    hole = ee.Image("T/holes").mask()
    found = world.all(ee.Image("T/ref").displace(shifts(0, 0).updateMask(hole), "bilinear"))["v"]
    np.testing.assert_array_equal(np.isfinite(found)[2:-2, 2:-2], world.mask[2:-2, 2:-2])
    nowhere = world.all(ee.Image("T/ref").displace(shifts(1e25, 0)))["v"]
    assert np.isnan(nowhere).all()
    limited = world.all(ee.Image("T/ref").displace(shifts(500, 0), "nearest_neighbor", 20))["v"]
    np.testing.assert_allclose(limited[:, :-2], world.part(0, 0)[:, 2:], rtol=1e-6)
    with pytest.raises(EngineError, match="Unknown mode 'cubic': nearest_neighbor, bilinear"):
        world.earth.info(ee.Image("T/ref").displace(shifts(0, 0), "cubic"))
    with pytest.raises(EngineError, match="two bands, X and Y"):
        world.earth.info(ee.Image("T/ref").displace(ee.Image(1)))


def test_a_shift_is_found_and_undone(world: World) -> None:
    "The moved image lies 3 pixels right and 2 up: its like is at (+30, +20) metres."
    options = {"maxOffset": 60, "patchWidth": 170}
    image = ee.Image("T/moved").displacement(ee.Image("T/ref"), **options)
    found = world.all(image)
    assert list(found) == ["dx", "dy", "confidence"]
    middle = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(found["dx"][middle], 30, atol=1)
    np.testing.assert_allclose(found["dy"][middle], 20, atol=1)
    assert (found["confidence"][middle] > 0.98).all()
    for name, expected in world.all(image, 21).items():
        np.testing.assert_array_equal(found[name], expected)
    moved = world.all(ee.Image("T/moved").register(ee.Image("T/ref"), **options))
    assert list(moved) == ["v", "w"]
    before = np.abs(world.part(3, -2) - world.part(0, 0))[middle].mean()
    after = np.abs(moved["v"] - world.part(0, 0))[middle].mean()
    assert after < 0.1 * before
    np.testing.assert_allclose(moved["w"][middle], moved["v"][middle] + 7, rtol=1e-5)


def test_words_of_registering(world: World) -> None:
    image = ee.Image("T/moved")
    with pytest.raises(EngineError, match="maxOffset must be positive, not 0"):
        world.earth.info(image.register(ee.Image("T/ref"), 0))
    with pytest.raises(EngineError, match="stiffness must be between 0 and 10, not 11"):
        world.earth.info(image.displacement(ee.Image("T/ref"), 20, stiffness=11))
    with pytest.raises(EngineError, match="a default projection other than WGS84"):
        world.earth.info(image.displacement(ee.Image(1), 20))


def test_correlation_finds_the_shift(world: World) -> None:
    "[A] CrossCorrelation: deltaX, deltaY, distance and the coefficient; numpy's corrcoef."
    image = ee.Algorithms.CrossCorrelation(ee.Image("T/ref"), ee.Image("T/moved").select("v"), 4, 9)
    found = world.all(image)
    assert list(found) == ["deltaX", "deltaY", "distance", "correlation"]
    inside = np.s_[10:-10, 10:-10]
    assert (found["deltaX"][inside] == 3).mean() > 0.99
    assert (found["deltaY"][inside] == -2).mean() > 0.99
    one, two = world.part(0, 0), world.part(3, -2)
    for row, column in ((20, 20), (40, 31)):
        best = max(
            (
                np.corrcoef(
                    one[row - 4 : row + 5, column - 4 : column + 5].ravel(),
                    two[row + y - 4 : row + y + 5, column + x - 4 : column + x + 5].ravel(),
                )[0, 1], x, y,
            )
            for x in range(-4, 5) for y in range(-4, 5)
        )  # fmt: skip
        got = [found[k][row, column] for k in ("correlation", "deltaX", "deltaY", "distance")]
        np.testing.assert_allclose(got, [*best, np.hypot(*best[1:])], rtol=1e-5)
    for name, expected in world.all(image, 17).items():
        np.testing.assert_array_equal(found[name], expected)


def test_how_much_may_be_masked(world: World) -> None:
    "[A]: the test fails where at any shift more of the window than maxMaskedFrac is masked."
    gap, side = 1, 3
    holes, ref = ee.Image("T/holes"), ee.Image("T/ref")
    for most in (0, 0.12):
        found = world.all(ee.Algorithms.CrossCorrelation(ref, holes, gap, side, most))
        lost = ndimage.uniform_filter((~world.mask).astype(float), side) > most + 1e-9
        expected = ~ndimage.maximum_filter(lost, 2 * gap + 1)
        inside = np.s_[4:-4, 4:-4]
        np.testing.assert_array_equal(np.isfinite(found["correlation"])[inside], expected[inside])
    with pytest.raises(EngineError, match="windowSize must be odd"):
        world.earth.info(ee.Algorithms.CrossCorrelation(ref, ref, 1, 4))
    with pytest.raises(EngineError, match="same number of bands, not 1 and 2"):
        world.earth.info(ee.Algorithms.CrossCorrelation(ref, ee.Image("T/moved"), 1, 3))
