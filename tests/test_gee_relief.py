"""Curvatures, position and ruggedness against calculus, numpy and GDAL."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from affine import Affine
from emulator_engine_world import Earth, earth
from gee_world import CRS, NORTH, WEST, Array, band, centres
from odc.geo.geobox import GeoBox
from scipy import ndimage

from gee.emulator.projection import PixelGrid
from gee.scripts import relief

STEP = 30.0
SIZE = 40
GRID = GeoBox((SIZE, SIZE), Affine(STEP, 0, WEST, 0, -STEP, NORTH), CRS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("relief")) as found:
        x, y = centres(GRID)
        u, v = x - x.mean(), y - y.mean()
        rough = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=GRID.shape), 1.2)
        shapes = {
            "plane": 500 + 0.2 * u - 0.1 * v,
            "dome": 900 - (u**2 + v**2) / 2000,
            "ridge": 900 - u**2 / 2000 + 0.05 * v,  # falls to both sides of a line to the north
            "steepens": 900 - u**2 / 2000,
            "level": np.full(GRID.shape, 12.0),
            "rough": 600 + 0.2 * u + 200 * rough,
        }
        for name, heights in shapes.items():
            found.put(f"D/{name}", band("h", heights.astype("float64"), GRID))
        yield found


def compute(world: Earth, make: Any, name: str) -> dict[str, Array]:
    heights = ee.Image(f"D/{name}").select([0], ["elevation"])
    grid = PixelGrid(CRS, (STEP, 0, WEST, 0, -STEP, NORTH), SIZE, SIZE)
    pixels = world.pixels(make(heights), grid)
    return {k: np.where(m > 0, d, np.nan) for k, (d, m) in pixels.items()}


def heights_of(world: Earth, name: str) -> Array:
    grid = PixelGrid(CRS, (STEP, 0, WEST, 0, -STEP, NORTH), SIZE, SIZE)
    return world.data(ee.Image(f"D/{name}"), grid)


INSIDE = np.s_[1:-1, 1:-1]
WITHIN = np.s_[2:-2, 2:-2]


def test_curvatures_of_known_surfaces(world: Earth) -> None:
    "Second differences are exact on parabolas: 1/1000 m from u^2 / 2000 m."
    make = lambda image: relief.curvatures(image, STEP)  # noqa: E731
    plane = compute(world, make, "plane")
    for found in plane.values():
        np.testing.assert_allclose(found[INSIDE], 0, atol=1e-12)
    dome = compute(world, make, "dome")
    np.testing.assert_allclose(dome["curvature"][INSIDE], 2e-3, rtol=1e-9)
    np.testing.assert_allclose(dome["plan_curvature"][INSIDE], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(dome["profile_curvature"][INSIDE], 1e-3, rtol=1e-6)
    # Contours are straight lines: all curvature lies along the slope.
    steepens = compute(world, make, "steepens")
    np.testing.assert_allclose(steepens["profile_curvature"][INSIDE], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(steepens["plan_curvature"][INSIDE], 0, atol=1e-12)
    level = compute(world, make, "level")
    assert all((found[INSIDE] == 0).all() for found in level.values())


def test_plan_and_profile_add_up(world: Earth) -> None:
    found = compute(world, lambda image: relief.curvatures(image, STEP), "rough")
    both = found["plan_curvature"] + found["profile_curvature"]
    np.testing.assert_allclose(both[INSIDE], found["curvature"][INSIDE], rtol=1e-7, atol=1e-12)


def test_a_missing_neighbour_masks(world: Earth) -> None:
    found = compute(world, lambda image: relief.curvatures(image, STEP), "rough")
    for array in found.values():
        assert np.isnan(array[0]).all() and np.isnan(array[:, -1]).all()
        assert np.isfinite(array[INSIDE]).all()


def test_position_and_ruggedness_are_those_of_numpy(world: Earth) -> None:
    z = heights_of(world, "rough")
    around = np.stack([np.roll(z, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    position = z - (around.sum(0) - z) / 8
    found = compute(world, relief.topographic_position, "rough")["TPI"]
    np.testing.assert_allclose(found[INSIDE], position[INSIDE], atol=1e-9)
    found2 = compute(world, relief.ruggedness, "rough")
    riley = np.sqrt(((around - z) ** 2).sum(0))
    np.testing.assert_allclose(found2["TRI"][INSIDE], riley[INSIDE], rtol=1e-9)
    span = np.sqrt(around.max(0) ** 2 - around.min(0) ** 2)
    np.testing.assert_allclose(found2["TRI_range"][INSIDE], span[INSIDE], rtol=1e-9)


@pytest.mark.skipif(shutil.which("gdaldem") is None, reason="GDAL's gdaldem is not installed")
@pytest.mark.parametrize("mode", ["TPI", "TRI"])
def test_position_and_ruggedness_are_those_of_gdal(world: Earth, mode: str, tmp_path: Path) -> None:
    import rasterio

    from thawslump.raster import write_cog

    z = heights_of(world, "rough")
    write_cog(tmp_path / "z.tif", z[None].astype("float32"), GRID, ["z"], nodata=-9999)
    more = ["-alg", "Riley"] if mode == "TRI" else []
    subprocess.run(
        ["gdaldem", mode, str(tmp_path / "z.tif"), str(tmp_path / "out.tif"), *more, "-q"],
        check=True,
    )
    with rasterio.open(tmp_path / "out.tif") as source:
        theirs = source.read(1)
    make = relief.topographic_position if mode == "TPI" else relief.ruggedness
    ours = compute(world, make, "rough")[mode]
    np.testing.assert_allclose(ours[INSIDE], theirs[INSIDE], rtol=1e-3, atol=2e-3)


@pytest.mark.skipif(shutil.which("gdaldem") is None, reason="GDAL's gdaldem is not installed")
@pytest.mark.parametrize(
    ("alg", "make"),
    [
        (
            "ZevenbergenThorne",
            lambda image: ee.Terrain.slope(image).addBands(ee.Terrain.aspect(image)),
        ),
        ("Horn", relief.horn),
    ],
    ids=["four neighbours", "eight neighbours"],
)
def test_slope_and_aspect_are_those_of_gdal(
    world: Earth, alg: str, make: Any, tmp_path: Path
) -> None:
    "Earth Engine's own are those of Zevenbergen and Thorne; Horn's differ by degrees."
    import rasterio

    from thawslump.raster import write_cog

    z = heights_of(world, "rough")
    write_cog(tmp_path / "z.tif", z[None].astype("float32"), GRID, ["z"], nodata=-9999)
    theirs = {}
    for mode in ("slope", "aspect"):
        command = ["gdaldem", mode, "z.tif", f"{mode}.tif", "-alg", alg, "-q"]
        subprocess.run(command, check=True, cwd=tmp_path)
        with rasterio.open(tmp_path / f"{mode}.tif") as source:
            theirs[mode] = source.read(1).astype(float)
    ours = compute(world, make, "rough")
    slope, aspect = list(ours.values())
    np.testing.assert_allclose(slope[WITHIN], theirs["slope"][WITHIN], atol=1e-3)
    turned = (aspect - theirs["aspect"] + 180) % 360 - 180
    np.testing.assert_allclose(turned[WITHIN], 0, atol=1e-2)
    other = relief.horn if alg != "Horn" else ee.Terrain.slope
    unlike = next(iter(compute(world, other, "rough").values()))
    assert np.abs(unlike - theirs["slope"])[WITHIN].max() > 2


def test_slope_and_aspect_of_known_surfaces(world: Earth) -> None:
    plane = compute(world, relief.horn, "plane")  # 0.2 up to the east, 0.1 up to the south
    steep = np.degrees(np.arctan(np.hypot(0.2, 0.1)))
    np.testing.assert_allclose(plane["slope_horn"][WITHIN], steep, rtol=1e-6)
    facing = np.degrees(np.arctan2(-0.2, 0.1)) % 360
    np.testing.assert_allclose(plane["aspect_horn"][WITHIN], facing, rtol=1e-6)
    level = compute(world, relief.horn, "level")
    assert (level["slope_horn"][WITHIN] == 0).all() and np.isnan(level["aspect_horn"]).all()
    assert np.isnan(compute(world, relief.horn, "rough")["slope_horn"][1]).all()
