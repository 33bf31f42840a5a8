"""Values between points, against solutions written another way.

[A] is the list of the installed client.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import NORTH, STEP, UTM, WEST, Earth, earth, native
from pyproj import Geod, Transformer

from gee.emulator.errors import EngineError
from gee.emulator.pixels import Limits

SIZE = 32
GEOD = Geod(ellps="WGS84")
TO_LONLAT = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        random = np.random.default_rng(3)
        self.places = random.uniform(2, SIZE - 2, (9, 2))
        # The first lies on the centre of pixel (row 10, column 20).
        self.places[0] = 20.5, 10.5
        self.values = random.normal(5, 2, 9)
        x = WEST + self.places[:, 0] * STEP
        y = NORTH - self.places[:, 1] * STEP
        self.lonlat = np.column_stack(TO_LONLAT.transform(x, y))
        self.table = ee.FeatureCollection(
            [
                ee.Feature(ee.Geometry.Point([float(a), float(b)]), {"v": float(v)})
                for (a, b), v in zip(self.lonlat, self.values, strict=True)
            ]
        )
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
        lon, lat = TO_LONLAT.transform(WEST + columns * STEP, NORTH - rows * STEP)
        self.far = np.stack(
            [
                GEOD.inv(lon, lat, np.full(lon.shape, a), np.full(lon.shape, b))[2]
                for a, b in self.lonlat
            ],
            axis=-1,
        )

    def all(self, image: Any, tile: int | None = None) -> dict[str, np.ndarray]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, native(SIZE, SIZE), limits)
        return {k: np.where(m > 0, d, np.nan) for k, (d, m) in found.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("interpolation")) as found:
        yield World(found)


def test_inverse_distances(world: World) -> None:
    "Weights of one over the geodesic distance; masked where no point is within range."
    reach, gamma, mean = 90.0, 0.4, 5.0
    image = world.table.inverseDistance(reach, "v", mean, 2, gamma)
    found = world.all(image, 11)
    assert list(found) == ["estimate"]
    weight = np.where(world.far <= reach, reach / np.maximum(world.far, 1e-9), 0)
    expected = ((weight * world.values).sum(-1) + gamma * mean) / (weight.sum(-1) + gamma)
    expected[weight.sum(-1) == 0] = np.nan
    expected[10, 20] = world.values[0]
    # A pixel within a metre of the range's rim may fall on either side of it.
    sure = (np.abs(world.far - reach) > 0.01).all(-1)
    np.testing.assert_allclose(found["estimate"][sure], expected[sure], rtol=1e-3)
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(
        found["estimate"],
        world.all(world.table.inverseDistance(reach, "v", mean, 2, gamma))["estimate"],
    )


def variogram(shape: str, far: np.ndarray, reach: float, sill: float, nugget: float) -> np.ndarray:
    h = far / reach
    rise = {
        "exponential": 1 - np.exp(-3 * h),
        "gaussian": 1 - np.exp(-3 * h**2),
        "spherical": np.where(h < 1, (3 * h - h**3) / 2, 1),
    }[shape]
    return np.where(far > 0, nugget + (sill - nugget) * rise, 0)


@pytest.mark.parametrize("shape", ["exponential", "gaussian", "spherical"])
@pytest.mark.parametrize("most", [None, 120.0])
def test_kriging_is_least_squares_with_covariances(
    world: World, shape: str, most: float | None
) -> None:
    "Ordinary kriging: the generalised least-squares mean, and simple kriging of what is left."
    reach, sill, nugget = 200.0, 3.0, 0.2
    image = world.table.kriging("v", shape, reach, sill, nugget, most)
    found = world.all(image)
    assert list(found) == ["estimate", "variance"]
    gaps = np.array([[GEOD.inv(*p, *q)[2] for q in world.lonlat] for p in world.lonlat])
    limit = reach if most is None else most
    for row, column in ((0, 0), (10, 20), (16, 16), (31, 5)):
        far = world.far[row, column].copy()
        far[far < 1e-3] = 0
        used = far <= limit
        if not used.any():
            assert np.isnan(found["estimate"][row, column])
            continue
        cov = sill - variogram(shape, gaps[np.ix_(used, used)], reach, sill, nugget)
        own = sill - variogram(shape, far[used], reach, sill, nugget)
        inverse = np.linalg.inv(cov)
        ones = np.ones(used.sum())
        total = ones @ inverse @ ones
        mean = ones @ inverse @ world.values[used] / total
        value = mean + own @ inverse @ (world.values[used] - mean)
        error = sill - own @ inverse @ own + (1 - ones @ inverse @ own) ** 2 / total
        assert found["estimate"][row, column] == pytest.approx(value, rel=2e-3)
        assert found["variance"][row, column] == pytest.approx(error, rel=5e-3, abs=2e-3)
    # At a point the estimate is its value, whatever the nugget.
    assert found["estimate"][10, 20] == pytest.approx(world.values[0], abs=1e-2)
    tiled = world.all(image, 7)
    np.testing.assert_allclose(tiled["estimate"], found["estimate"], rtol=1e-9)


def test_points_in_one_place_are_made_one(world: World) -> None:
    "[A]: the reducer collapses overlapping points; without one their mean."
    lon, lat = map(float, world.lonlat[0])
    table = ee.FeatureCollection(
        [ee.Feature(ee.Geometry.Point([lon, lat]), {"v": v}) for v in (1, 2, 9)]
    )
    for reducer, expected in ((None, 4), (ee.Reducer.median(), 2), (ee.Reducer.max(), 9)):
        image = table.kriging("v", "spherical", 100, 1, 0.1, None, reducer)
        assert world.all(image)["estimate"][10, 20] == pytest.approx(expected)


def test_interpolation_refuses_in_words(world: World) -> None:
    with pytest.raises(EngineError, match="Unknown shape 'cubic': exponential, gaussian"):
        world.earth.info(world.table.kriging("v", "cubic", 100, 1, 0))
    with pytest.raises(EngineError, match="sill above it"):
        world.earth.info(world.table.kriging("v", "gaussian", 100, 1, 2))
    with pytest.raises(EngineError, match="range must be positive"):
        world.earth.info(world.table.inverseDistance(0, "v", 1, 1))
    bad = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([15, 60]), {"v": "a"})])
    with pytest.raises(EngineError, match="Property 'v' must be a number, not 'a'"):
        world.earth.info(bad.inverseDistance(9, "v", 1, 1))
