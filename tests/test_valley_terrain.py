"""Relief of the made-up valley: drainage, slopes, fields, places. All data are made up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from gee.valley import landscape, noise, place, terrain
from gee.valley.landscape import Landscape
from thawslump.errors import ConfigError
from thawslump.grid import grid_over
from thawslump.site import Site


@pytest.fixture(scope="module")
def land() -> Landscape:
    return landscape.make(3, (256, 192))


def test_accumulation_equals_following_every_drop() -> None:
    "Weights that reach a cell, against walking down from every cell"
    chance = np.random.default_rng(4)
    receiver = np.array([0, *(int(chance.integers(0, i)) for i in range(1, 400))])
    receiver[7] = 7
    weight = chance.uniform(0.1, 2.0, 400)
    expected = np.zeros(400)
    for start in range(400):
        cell = start
        while True:
            expected[cell] += weight[start]
            if receiver[cell] == cell:
                break
            cell = receiver[cell]
    assert terrain.accumulate(receiver, weight) == pytest.approx(expected)


def test_drained_hills_have_no_pits() -> None:
    "From every cell there is a way down to the base"
    base = np.zeros((60, 50), bool)
    base[:, 20:24] = True
    steep = terrain.hills(base.shape, np.random.default_rng(1), 20.0)
    drained = terrain.drain(base, steep, 20.0)
    lowest = ndimage.minimum_filter(drained.height, 3, mode="nearest")
    assert (drained.height[base] == 0).all()
    assert (lowest[~base] < drained.height[~base]).all()
    # All the water arrives: what the base receives is the whole area.
    entered = drained.area[base].sum() - base.sum() * 400.0
    assert entered >= 0.99 * (~base).sum() * 400.0


def test_streams_are_gentler_than_hillslopes() -> None:
    "Flint's law: the median slope falls with upslope area"
    base = np.zeros((120, 120), bool)
    base[:, :6] = True
    steep = terrain.hills(base.shape, np.random.default_rng(2), 20.0)
    drained = terrain.drain(base, steep, 20.0)
    slope = terrain.slope_degrees(drained.height, 20.0)
    ratio = np.tan(np.radians(slope)) / steep
    hill = np.median(ratio[~base & (drained.area < 2000)])
    stream = np.median(ratio[~base & (drained.area > 60_000)])
    assert stream < 0.75 * hill


@pytest.mark.parametrize(("east", "north"), [(0.1, 0.0), (-0.05, 0.2), (0.3, -0.3)])
def test_slope_and_aspect_of_a_plane(east: float, north: float) -> None:
    "Analytic: a plane falls away from its gradient"
    y, x = np.mgrid[0:12, 0:9] * 10.0
    plane = (east * x - north * y).astype(np.float32)
    inside = (slice(1, -1), slice(1, -1))
    assert terrain.slope_degrees(plane, 10.0)[inside] == pytest.approx(
        np.degrees(np.arctan(np.hypot(east, north))), abs=1e-3
    )
    facing = np.degrees(np.arctan2(-east, -north)) % 360
    assert terrain.aspect_degrees(plane, 10.0)[inside] == pytest.approx(facing, abs=1e-2)


def test_slope_histogram(land: Landscape) -> None:
    "Rolling permafrost hills: gentle in the median, a few steep places, a flat floodplain"
    slope = terrain.slope_degrees(land.ground, 10.0)[land.inner]
    assert 1.5 < np.median(slope) < 8.0
    assert np.mean((slope > 1) & (slope < 18)) > 0.6
    assert np.percentile(slope, 99.9) < 60
    assert np.mean(slope < 1) > 0.03


def test_relief_is_rough_at_every_scale(land: Landscape) -> None:
    "Height differences grow with distance as a power between 0.3 and 1.1 (fractal, not white)"
    height = land.ground[land.inner]
    lags = np.array([4, 8, 16, 32])
    spread = [np.std(height[lag:] - height[:-lag]) for lag in lags]
    rate = np.polyfit(np.log(lags), np.log(spread), 1)[0]
    assert 0.3 < rate < 1.1


def test_water_lies_level(land: Landscape) -> None:
    "Lakes do not slope before anything is carved"
    numbers, count = ndimage.label(land.lake)
    assert count >= 1
    for each in range(1, count + 1):
        assert np.ptp(land.ground[numbers == each]) < 1.0


def test_noise_has_its_spectrum() -> None:
    "Power against wavenumber falls with the exponent asked for"
    field = noise.fractal((512, 512), np.random.default_rng(0), pixel=10, longest=1e9, slope=3.0)
    window = np.hanning(512)[:, None] * np.hanning(512)[None, :]
    power = np.abs(np.fft.fft2(field * window)) ** 2
    wave = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    bands = np.geomspace(0.02, 0.3, 8)
    mean = [power[(wave >= a) & (wave < b)].mean() for a, b in itertools.pairwise(bands)]
    rate = np.polyfit(np.log(np.sqrt(bands[:-1] * bands[1:])), np.log(mean), 1)[0]
    assert rate == pytest.approx(-3.0, abs=0.25)


@pytest.mark.parametrize("shape", [(1024, 512), (256, 192), (512, 768)])
def test_parts_lie_apart_inside_the_data(shape: tuple[int, int]) -> None:
    "The grids of the four sites do not touch each other and stay inside the scenes"
    frame = place.grid(shape)
    taken = np.zeros(shape, np.uint8)
    for box in place.layout(shape).values():
        grid = grid_over(box, 10.0, place.CRS)
        row = round((frame.top - grid.transform.f) / 10)
        col = round((grid.transform.c - frame.left) / 10)
        assert row >= 4 and col >= 4
        assert row + grid.shape[0] <= shape[0] - 4 and col + grid.shape[1] <= shape[1] - 4
        taken[row - 2 : row + grid.shape[0] + 2, col - 2 : col + grid.shape[1] + 2] += 1
    assert taken.max() == 1


def test_default_bounds_are_those_of_the_default_shape() -> None:
    "The constant agrees with what it stands for"
    assert place.bounds(place.DEFAULT_SHAPE) == pytest.approx(place.BOUNDS, abs=6e-5)


def test_sites_of_the_demo_are_sites() -> None:
    "All fields are known; the area comes without outlines"
    sites = [Site(**fields) for fields in place.demo_sites(5, (256, 192))]  # type: ignore[arg-type]
    assert [site.role for site in sites] == ["train", "validation", "test", "area"]
    assert all(site.made_up for site in sites)
    assert sites[-1].outlines is None


def test_too_small_a_valley_is_refused() -> None:
    "The message says what was given and what to set"
    with pytest.raises(ConfigError, match="valley of 64 x 200 pixels: at least 96") as error:
        place.grid((64, 200))
    assert "valley.rows" in str(error.value)


@pytest.mark.parametrize("shape", [(96, 96), (97, 131), (200, 120)])
def test_any_size_works(shape: tuple[int, int]) -> None:
    "Odd and tiny shapes, and a valley wider than long"
    small = landscape.make(1, shape)
    assert small.ground[small.inner].shape == shape
    assert np.isfinite(small.ground).all()
    assert small.post.shares.sum(axis=0) == pytest.approx(1.0, abs=1e-4)
