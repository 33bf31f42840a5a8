"""Upslope area against calculus, and properties that any network of flow has."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gee import drainage
from thawslump.errors import ConfigError, DataError

CELL = 30.0
pytest.importorskip("pyflwdir", reason="the extra `hydrology` is not installed")


def test_on_a_plane_each_line_of_fall_gathers_its_cells() -> None:
    "Falls 0.3 to the south and 0.1 to the east: due south is steeper (0.3) than SE (0.4 / 1.41)."
    rows, cols = np.mgrid[0:12, 0:9]
    area, cut = drainage.drainage(1000 - 0.3 * CELL * rows - 0.1 * CELL * cols, CELL)
    # The lowest row runs along the edge: what lies beyond it is not known.
    np.testing.assert_array_equal(area[:-1], (rows[:-1] + 1) * CELL**2)
    assert cut.all()  # every line begins at the upper edge


def test_a_diagonal_fall_runs_along_diagonals() -> None:
    rows, cols = np.mgrid[0:10, 0:10]
    area, _ = drainage.drainage(1000 - 5.0 * rows - 5.0 * cols, CELL)
    inside = np.s_[1:-1, 1:-1]
    np.testing.assert_array_equal(area[inside], ((np.minimum(rows, cols) + 1) * CELL**2)[inside])


def test_a_cone_sheds_everything_it_is_made_of() -> None:
    side = 61
    rows, cols = np.mgrid[0:side, 0:side] - side // 2
    area, cut = drainage.drainage(5000 - 10 * np.hypot(rows, cols), CELL)
    middle = side // 2
    assert area[middle, middle] == CELL**2  # the top
    ring = area[middle - 1 : middle + 2, middle - 1 : middle + 2].sum()
    assert ring == 10 * CELL**2  # the eight around it, one of which has the top's water too
    assert not cut[1:-1, 1:-1].any()  # no line begins at an edge and comes in
    assert cut[0].all() and cut[:, -1].all()
    # What leaves over the edge is the whole cone: outlets have no lower neighbour.
    heights = np.pad(5000 - 10 * np.hypot(rows, cols), 1, constant_values=np.inf)
    around = [heights[1 + i : 1 + i + side, 1 + j : 1 + j + side] for i, j in drainage._WAYS]
    outlets = heights[1:-1, 1:-1] <= np.min(around, axis=0)
    assert area[outlets].sum() == pytest.approx(side**2 * CELL**2)


def test_a_valley_gathers_both_sides() -> None:
    "Sides fall 0.5 to the axis, the axis 0.05 to the south: side water runs straight to it."
    rows, cols = np.mgrid[0:40, -10:11]
    area, cut = drainage.drainage(1000 + 0.5 * CELL * np.abs(cols) - 0.05 * CELL * rows, CELL)
    axis = area[:, 10] / CELL**2
    np.testing.assert_array_equal(axis, (np.arange(40) + 1) * 21)
    np.testing.assert_array_equal(area[:, 0], CELL**2)
    assert cut[:, 10].all()
    # Where sides are crests inside the data, only the uppermost catchment is open.
    roof = np.abs(np.abs(cols) - 8) * -0.5 * CELL + 0.001 * np.abs(cols)
    _, open_ = drainage.drainage(1000 + roof - 0.05 * CELL * rows, CELL)
    assert not open_[5:-5, 3].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 25), st.integers(4, 25))
def test_rough_ground_drains_as_a_list_of_cells_by_height_does(
    seed: int, rows: int, cols: int
) -> None:
    "Each cell, from the highest down, hands its water to the steepest of its lower neighbours."
    dice = np.random.default_rng(seed)
    down = np.add.outer(np.arange(rows) * 3.0, np.arange(cols) * 1.0)
    heights = (500 - down + dice.uniform(-0.45, 0.45, (rows, cols))).astype("float32")
    water, cut = np.ones((rows, cols)), np.zeros((rows, cols), bool)
    cut[[0, -1]] = cut[:, [0, -1]] = True
    for flat in np.argsort(-heights, axis=None, kind="stable"):
        row, col = divmod(int(flat), cols)
        falls = {
            (r, c): (float(heights[row, col]) - float(heights[r, c])) / np.hypot(r - row, c - col)
            for r in range(max(row - 1, 0), min(row + 2, rows))
            for c in range(max(col - 1, 0), min(col + 2, cols))
            if heights[r, c] < heights[row, col]
        }
        if falls:
            way = max(falls, key=lambda cell: falls[cell])
            water[way] += water[row, col]
            cut[way] |= cut[row, col]
    area, found = drainage.drainage(heights, 1.0)
    np.testing.assert_array_equal(area, water)
    np.testing.assert_array_equal(found, cut)


def test_a_pit_is_filled_and_drains() -> None:
    rows, cols = np.mgrid[0:21, 0:21]
    heights = 1000 - 0.2 * CELL * rows + 0.01 * np.abs(cols - 10)
    pit = heights.copy()
    pit[8:11, 9:12] -= 60
    area, _ = drainage.drainage(pit, CELL)
    # Nothing is lost in the pit: what leaves at the lowest place of the edge is everything.
    assert area[-1, 10] == 21 * 21 * CELL**2


def test_missing_heights_are_no_water_but_an_open_edge() -> None:
    rows = np.mgrid[0:15, 0:15][0].astype(float)
    heights = 100 - rows
    heights[7, 7] = np.nan
    area, cut = drainage.drainage(heights, CELL)
    assert np.isnan(area[7, 7]) and not cut[7, 7]
    assert cut[8:, 7].all()
    np.testing.assert_allclose(area[8:, 7], np.arange(1, 8) * CELL**2)


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(3, 14), st.integers(3, 14)),
        elements=st.integers(0, 6).map(float),  # many ties, flats and pits
    )
)
def test_water_is_neither_made_nor_lost(heights: np.ndarray) -> None:
    area, cut = drainage.drainage(heights, 1.0)
    assert (area >= 1).all() and (area <= heights.size).all()
    assert area.sum() <= heights.size**2
    # Every catchment whose area is that of the inside alone is closed.
    assert cut[0].all() and cut[-1].all() and cut[:, 0].all() and cut[:, -1].all()
    turned, cut_turned = drainage.drainage(heights + 250.0, 1.0)
    np.testing.assert_array_equal(area, turned)  # heights count by their differences only
    np.testing.assert_array_equal(cut, cut_turned)


def test_wetness_is_the_formula_and_level_ground_counts_as_nearly_level() -> None:
    area, slope = np.array([900.0, 9e6]), np.array([10.0, 0.0])
    twi, spi = drainage.wetness(area, slope, CELL)
    steep = np.tan(np.radians([10.0, drainage.LEAST_SLOPE]))
    np.testing.assert_allclose(twi, np.log(area / CELL / steep))
    np.testing.assert_allclose(spi, area / CELL * steep)


def test_distances_end_where_nothing_is_looked_for() -> None:
    marked = np.zeros((5, 40), bool)
    assert (drainage.distance_to(marked, CELL, 700.0) == 700).all()
    marked[:, 0] = True
    expected = np.minimum(np.arange(40) * CELL, 700.0)
    np.testing.assert_allclose(drainage.distance_to(marked, CELL, 700.0)[2], expected)


def test_what_does_not_fit_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"shape \(4,\).*rows and columns"):
        drainage.drainage(np.zeros(4), CELL)
    with pytest.raises(DataError, match="None of the 9 heights"):
        drainage.drainage(np.full((3, 3), np.nan), CELL)
    monkeypatch.setitem(sys.modules, "pyflwdir", None)
    with pytest.raises(ConfigError, match="needs pyflwdir") as caught:
        drainage.drainage(np.zeros((3, 3)), CELL)
    assert "thawslump[hydrology]" in str(caught.value.hint)


def test_on_real_ground_what_is_whole_stays_and_what_is_cut_is_too_small(data_dir: Path) -> None:
    "Big Tujunga: a site of 3.6 km with margins of 0.6 to 7.2 km."
    with rasterio.open(data_dir / "dem_bigtujunga" / "bigtujunga.tif") as source:
        heights = source.read(1).astype(float)
    size, row, col = 120, 250, 500
    found = {}
    for margin in (20, 60, 240):
        part = heights[row - margin : row + size + margin, col - margin : col + size + margin]
        area, cut = drainage.drainage(part, CELL)
        inner = np.s_[margin:-margin, margin:-margin]
        found[margin] = drainage.Drainage(area[inner], cut[inner])
    widest = found[240]
    shares = [found[margin].cut.mean() for margin in found]
    assert shares == sorted(shares, reverse=True) and 0 < shares[-1] < shares[0] < 0.05
    for one in found.values():
        np.testing.assert_array_equal(one.area[~one.cut], widest.area[~one.cut])
        assert not widest.cut[~one.cut].any()
        assert (one.area[one.cut] <= widest.area[one.cut]).all()
