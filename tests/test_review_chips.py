"""Pictures from numbers: PNG against another decoder, one stretch for two dates, windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.io import MemoryFile

from inventory.review.chips import (
    limits,
    png,
    png_of_shades,
    shades,
    square_window,
    true_colour,
)


def seen(content: bytes) -> np.ndarray:
    """Decode a PNG with GDAL: red, green, blue, opacity, shape (y, x, 4)."""
    with MemoryFile(content) as memory, memory.open() as source:
        bands = source.read()
        if source.count == 1:
            table = np.array([source.colormap(1)[i] for i in range(256)], dtype="uint8")
            return table[bands[0]]
        if source.count == 3:
            bands = np.concatenate([bands, np.full_like(bands[:1], 255)])
        return np.moveaxis(bands, 0, -1)


pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4))), st.booleans())
def test_png_is_read_back_by_gdal(picture: np.ndarray, opaque: bool) -> None:
    if opaque:
        picture[..., 3] = 255
    np.testing.assert_array_equal(seen(png(picture)), picture)


@given(
    st.floats(-50, 500), st.floats(-50, 500), st.floats(0.5, 300), st.floats(0.5, 300),
    st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
)  # fmt: skip
def test_the_square_holds_the_outline_in_its_middle(
    left: float, top: float, width: float, height: float, zoom: float
) -> None:
    column, row, side = square_window((left, top, left + width, top + height), zoom=zoom)
    assert column <= left and column + side >= left + width
    assert row <= top and row + side >= top + height
    assert abs(column + side / 2 - (left + width / 2)) <= 0.5 + 1e-9
    assert abs(row + side / 2 - (top + height / 2)) <= 0.5 + 1e-9


@given(st.integers(0, 90), st.integers(0, 50), st.integers(1, 10), st.integers(40, 200))
def test_near_the_edge_the_square_moves_inside(x: int, y: int, size: int, minimum: int) -> None:
    """Where it fits it shows no pixel beyond the raster, and still the whole outline."""
    column, row, side = square_window((x, y, x + size, y + size), minimum=minimum, shape=(60, 100))
    assert column <= x and x + size <= column + side
    assert row <= y and y + size <= row + side
    assert side > 60 or (row >= 0 and row + side <= 60)
    assert side > 100 or (column >= 0 and column + side <= 100)


def test_equal_reflectance_has_an_equal_colour_on_both_dates() -> None:
    """A darker second date stays darker: no stretch of its own."""
    rng = np.random.default_rng(0)
    before = rng.uniform(200, 3000, (3, 40, 40)).astype("float32")
    after = before * 0.5
    after[:, :5] = before[:, :5]
    stretch = limits(before, after)
    one, two = true_colour(before, stretch), true_colour(after, stretch)
    np.testing.assert_array_equal(one[:5], two[:5])
    assert two[5:, :, :3].mean() < one[5:, :, :3].mean() - 20


def test_nodata_is_transparent_everywhere() -> None:
    values = np.array([[0.2, np.nan]], "float32")
    pictures = [
        seen(png_of_shades(shades(values, 0, 1), table))
        for table in ("sequential", "diverging", "grey")
    ]
    flat = np.repeat(values[None], 3, 0)
    pictures.append(true_colour(flat, np.array([[0, 1]] * 3, "float32")))
    for picture in pictures:
        assert picture[..., 3].tolist() == [[255, 0]]


def test_a_band_without_data_has_some_stretch() -> None:
    empty = np.full((3, 2, 2), np.nan, "float32")
    assert limits(empty, empty).tolist() == [[0, 1]] * 3
    flat = np.full((3, 2, 2), 7, "float32")
    assert (np.diff(limits(flat, flat)) > 0).all()


def test_signs_of_change_differ_in_hue_and_zero_is_light() -> None:
    """Brown below, green above; also apart in lightness from zero."""
    numbers = shades(np.array([[-0.5, 0, 0.5]], "float32"), -0.5, 0.5)
    loss, none, gain = seen(png_of_shades(numbers, "diverging"))[0, :, :3].astype(int)
    assert loss[0] > loss[2] + 60
    assert gain[1] > gain[0] + 40
    assert none.min() > 225


def test_probability_grows_lighter() -> None:
    """Read without colour, more is still more."""
    numbers = shades(np.linspace(0, 1, 64, dtype="float32")[None], 0, 1)
    light = seen(png_of_shades(numbers, "sequential"))[0, :, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(light) > 0).all()
