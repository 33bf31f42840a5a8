"""Edges, lines, medial axes, parabolas and filled pits.

[A] is the list of the installed client.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native
from scipy import ndimage
from scipy.stats import norm

from gee.emulator.errors import EngineError
from gee.emulator.pixels import Limits

SIZE = 64


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        self.count = 0

    def image(self, values: np.ndarray, mask: np.ndarray | None = None) -> Any:
        self.count += 1
        self.earth.put(f"T/i{self.count}", band("v", values, mask))
        return ee.Image(f"T/i{self.count}")

    def all(self, image: Any, tile: int | None = None) -> dict[str, np.ndarray]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, native(SIZE, SIZE), limits)
        return {k: np.where(m > 0, d.astype(float), np.nan) for k, (d, m) in found.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("edges")) as found:
        yield World(found)


# ------------------------------------------------------------------ Canny


@pytest.mark.parametrize("sigma", [1.0, 2.0])
@pytest.mark.parametrize("turn", range(4))
def test_a_step_is_an_edge_as_high_as_its_gradient(world: World, sigma: float, turn: int) -> None:
    "The smoothed step rises by the kernel's weights: half of two of them is the difference."
    values = np.rot90(np.where(np.arange(SIZE) < 30, 0.0, 40.0) * np.ones((SIZE, 1)), turn)
    found = world.all(ee.Algorithms.CannyEdgeDetector(world.image(values), 3, sigma))["v"]
    found = np.rot90(found, -turn)[16:-16, 16:-16]
    step = 30.0  # between the centres of pixels 29 and 30
    weights = norm.pdf(np.arange(-round(4 * sigma), round(4 * sigma) + 1) / sigma)
    expected = 20 * norm.pdf([0, 1 / sigma]).sum() / weights.sum()
    lines = np.nonzero(found.any(axis=0))[0]
    assert len(lines) == 1
    assert lines[0] + 16 in (step - 1, step)
    np.testing.assert_allclose(found[:, lines[0]], expected)
    assert np.count_nonzero(found) == len(found)


def test_the_threshold_keeps_strong_edges(world: World) -> None:
    "[A]: only where the gradient is higher than the threshold; other pixels are 0."
    columns = np.arange(SIZE)
    image = world.image(
        np.where(columns < 20, 0, np.where(columns < 44, 10, 50)) * np.ones((SIZE, 1))
    )
    weak = world.all(ee.Algorithms.CannyEdgeDetector(image, 1, 0))["v"][20]
    strong = world.all(ee.Algorithms.CannyEdgeDetector(image, 10, 0))["v"][20]
    inside = slice(3, -3)
    assert np.count_nonzero(weak[inside]) == 2
    assert np.nonzero(strong[inside])[0].tolist() in ([40], [41])
    assert strong[inside].max() == 20  # half of the step: a central difference
    assert world.earth.info(ee.Algorithms.CannyEdgeDetector(image, 1).bandNames()) == ["v"]


def test_edges_of_a_disc_lie_on_its_circle(world: World) -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    image = world.image((np.hypot(y - 31.5, x - 31.5) < 18) * 100.0)
    found = world.all(ee.Algorithms.CannyEdgeDetector(image, 5, 1.5), 16)["v"]
    inside = np.s_[10:-10, 10:-10]
    rows, columns = np.nonzero(found[inside])
    away = np.abs(np.hypot(rows + 10 - 31.5, columns + 10 - 31.5) - 18)
    assert away.max() < 1.6
    angles = np.unique(np.degrees(np.arctan2(rows + 10 - 31.5, columns + 10 - 31.5)) // 10)
    assert len(angles) == 36
    np.testing.assert_array_equal(
        found, world.all(ee.Algorithms.CannyEdgeDetector(image, 5, 1.5))["v"]
    )


def test_masked_pixels_make_no_edges(world: World) -> None:
    values = np.full((SIZE, SIZE), 7.0)
    mask = np.random.default_rng(0).random((SIZE, SIZE)) > 0.2
    values[~mask] = 900
    image = world.image(values, mask)
    for sigma in (0, 1):
        found = world.all(ee.Algorithms.CannyEdgeDetector(image, 0.01, sigma))["v"][8:-8, 8:-8]
        np.testing.assert_array_equal(np.isfinite(found), mask[8:-8, 8:-8])
        assert np.nanmax(found) == 0
    with pytest.raises(EngineError, match="sigma must be between"):
        world.earth.info(ee.Algorithms.CannyEdgeDetector(image, 1, -1))


def test_zero_crossings_have_two_signs(world: World) -> None:
    "1 where a valid neighbour on the right or below has the other sign; masked ones have none."
    values = np.where(np.arange(SIZE) < 30, 2.0, -3.0) * np.ones((SIZE, 1))
    mask = np.ones((SIZE, SIZE), bool)
    mask[10, 30] = False
    found = world.all(world.image(values, mask).zeroCrossing(), 17)["v"]
    expected = np.zeros((SIZE, SIZE))
    expected[:, 29] = 1
    expected[10, 29] = 0
    expected[10, 30] = np.nan
    np.testing.assert_array_equal(found[:-1, :-1], expected[:-1, :-1])


# ------------------------------------------------------------------ Hough


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0), (1, 1)])
def test_a_straight_row_of_bright_pixels_is_a_line(world: World, down: int, right: int) -> None:
    "[A]: lines are where so many active pixels vote, by default 72 after smoothing."
    values = np.random.default_rng(2).integers(0, 60, (SIZE, SIZE)).astype(np.uint8)
    places = np.arange(SIZE)
    line = np.zeros((SIZE, SIZE), bool)
    line[20 * (1 - down) + places * down, 20 * (1 - right) + places * right] = True
    values[line] = 200
    # Cells of 16 pixels: 500,000 m and 6,700,000 m are whole numbers of them.
    image = ee.Algorithms.HoughTransform(world.image(values), 16, 100, 14, False)
    found = world.all(image)
    assert list(found) == ["v_lines"]
    assert (found["v_lines"][line] == 1).all()
    near = ndimage.binary_dilation(line, np.ones((3, 3)))
    assert (found["v_lines"][~near] == 0).all()
    np.testing.assert_array_equal(found["v_lines"], world.all(image, 24)["v_lines"])
    nothing = ee.Algorithms.HoughTransform(world.image(values), 16, 100, 17, False)
    assert not world.all(nothing)["v_lines"].any()


# ------------------------------------------------------------------ parabolas


def envelope(heights: np.ndarray) -> np.ndarray:
    "Every parabola over every pixel."
    rows, columns = np.nonzero(heights > 0)
    y, x = np.mgrid[: heights.shape[0], : heights.shape[1]]
    out = np.zeros(heights.shape)
    for r, c in zip(rows, columns, strict=True):
        out = np.maximum(out, heights[r, c] - (y - r) ** 2 - (x - c) ** 2)
    return out


def test_the_reverse_distance_is_the_envelope_of_parabolas(world: World) -> None:
    random = np.random.default_rng(1)
    heights = np.where(random.random((SIZE, SIZE)) < 0.01, random.integers(1, 300, (SIZE, SIZE)), 0)
    mask = random.random((SIZE, SIZE)) > 0.1
    image = world.image(heights.astype(np.int16), mask).rsedTransform(32)
    found = world.all(image)["v"]
    np.testing.assert_array_equal(found, envelope(np.where(mask, heights, 0)))
    np.testing.assert_array_equal(found, world.all(image, 13)["v"])


def blob() -> np.ndarray:
    "1 outside of a smooth patch of zeros."
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, (SIZE, SIZE)), 3)
    out = (noise < 0.02).astype(np.uint8)
    out[[0, -1]] = out[:, [0, -1]] = 1
    return out


def test_discs_on_the_medial_axis_rebuild_the_patch(world: World) -> None:
    "Coeurjolly & Montanvert (2007): the axis with its distances holds the whole shape."
    values = blob()
    image = world.image(values).medialAxis(24)
    found = world.all(image)
    assert list(found) == ["medial", "coverage", "xlabel", "ylabel"]
    far = ndimage.distance_transform_edt(values == 0)
    axis = found["medial"] > 0
    np.testing.assert_allclose(found["medial"][axis], far[axis], rtol=1e-6)
    rebuilt = envelope(np.where(axis, np.rint(far**2), 0))
    np.testing.assert_array_equal(rebuilt > 0, values == 0)
    assert axis.sum() < 0.6 * (values == 0).sum()
    # Every zero is covered by the axis pixel that its label points to.
    assert found["coverage"].sum() == (values == 0).sum()
    y, x = np.nonzero(values == 0)
    to_y = (y + found["ylabel"][y, x]).astype(int)
    to_x = (x + found["xlabel"][y, x]).astype(int)
    assert axis[to_y, to_x].all()
    np.testing.assert_allclose(
        np.rint(far[to_y, to_x] ** 2) - (to_y - y) ** 2 - (to_x - x) ** 2, rebuilt[y, x]
    )
    assert not found["xlabel"][values != 0].any()
    tiled = world.all(image, 17)
    for name, expected in found.items():
        np.testing.assert_array_equal(tiled[name], expected, err_msg=name)


def test_neighbourhoods_are_checked(world: World) -> None:
    image = world.image(blob())
    with pytest.raises(EngineError, match="Only 'pixels' are supported as units, not 'meters'"):
        world.earth.info(image.medialAxis(8, "meters"))
    with pytest.raises(EngineError, match="neighborhood must be between 1 and"):
        world.earth.info(image.rsedTransform(0))


# ------------------------------------------------------------------ pits


def flooded(ground: np.ndarray, outside: float) -> np.ndarray:
    "Water rises from the rim inwards over the lowest way (priority flood, Barnes 2014)."
    height, width = ground.shape
    out = np.full(ground.shape, np.inf)
    heap: list[tuple[float, int, int]] = []
    for r in range(height):
        for c in range(width):
            if r in (0, height - 1) or c in (0, width - 1):
                out[r, c] = max(ground[r, c], outside)
                heapq.heappush(heap, (out[r, c], r, c))
    while heap:
        level, r, c = heapq.heappop(heap)
        for y in range(max(r - 1, 0), min(r + 2, height)):
            for x in range(max(c - 1, 0), min(c + 2, width)):
                new = max(level, ground[y, x])
                if new < out[y, x]:
                    out[y, x] = new
                    heapq.heappush(heap, (new, y, x))
    return out


@pytest.mark.parametrize("border", [None, 30])
def test_pits_are_raised_to_their_outlet(world: World, border: int | None) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(0, 1, (SIZE, SIZE)), 2)
    ground = (noise * 300).astype(np.int16)
    # The image ends within the neighbourhood: beyond it everything is masked, and open.
    image = ee.Terrain.fillMinima(world.image(ground), border, SIZE)
    found = world.all(image)["v"]
    expected = flooded(ground.astype(float), -np.inf if border is None else border)
    np.testing.assert_array_equal(found, expected)
    assert (found > ground).sum() > 50
    np.testing.assert_array_equal(found, world.all(image, 15)["v"])
    again = ee.ApiFunction.call_("FMask.fillMinima", world.image(ground), border, SIZE)
    np.testing.assert_array_equal(world.all(again)["v"], expected)


def test_only_integers_are_filled(world: World) -> None:
    "[A]: only works on INT types."
    with pytest.raises(EngineError, match=r"Terrain.fillMinima: Only integer types.*'v' is not"):
        world.earth.info(ee.Terrain.fillMinima(world.image(np.zeros((SIZE, SIZE)))))
