"""Prediction over rasters: borders, nodata, windows and memory (made-up models)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from thawslump.errors import DataError
from trainer.segmentation.predict import (
    Member,
    predict_array,
    predict_strips,
    predict_window,
    quantised,
    ramp,
    write_strips,
)


def constant(logit: float) -> Member:
    return Member(
        "constant", lambda x: torch.full((len(x), 1, *x.shape[2:]), logit), (0,), (0.0,), (1.0,)
    )


def per_pixel(band: int = 0, factor: float = 1.0) -> Member:
    return Member("pixel", lambda x: x[:, :1] * factor, (band,), (0.0,), (1.0,))


def convolution(reach: int) -> Member:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 1, 2 * reach + 1, padding=reach).eval()
    return Member("convolution", layer, (0, 1), (0.0, 0.0), (1.0, 1.0))


sides = st.integers(1, 150)
windows = st.sampled_from([(32, 0), (64, 0), (64, 32), (96, 32), (512, 64)])


@given(sides, sides, windows)
@settings(max_examples=30, deadline=None)
def test_constant_model_gives_a_constant_map(
    rows: int, columns: int, size: tuple[int, int]
) -> None:
    """Borders and corners included: no window's weight is lost there."""
    found = predict_array(
        [constant(0.4), constant(0.4)],
        np.zeros((1, rows, columns), "float32"),
        window=size[0],
        overlap=size[1],
    )
    expected = 1 / (1 + np.exp(-0.4))
    np.testing.assert_allclose(found.probability, expected, rtol=3e-7)
    assert not found.disagreement.any()
    assert not found.filled.any()


@given(sides, sides, windows, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_per_pixel_model_does_not_see_the_windows(
    rows: int, columns: int, size: tuple[int, int], seed: int
) -> None:
    """Mean, deviation and nodata of a per-pixel model are those of each pixel by itself."""
    random = np.random.default_rng(seed)
    array = random.normal(size=(2, rows, columns)).astype("float32")
    array[random.random(array.shape) < 0.2] = np.nan
    members = [per_pixel(0), per_pixel(1, -2.0), per_pixel(1, 0.5)]
    found = predict_array(members, array, window=size[0], overlap=size[1])
    single = np.stack(
        [1 / (1 + np.exp(-f * array[b].astype("float64"))) for b, f in ((0, 1), (1, -2), (1, 0.5))]
    )
    some = np.isfinite(single).any(axis=0)
    np.testing.assert_array_equal(np.isfinite(found.probability), some)
    np.testing.assert_array_equal(np.isfinite(found.disagreement), some)
    np.testing.assert_array_equal(np.isfinite(found.filled), some)
    if some.any():
        np.testing.assert_allclose(
            found.probability[some], np.nanmean(single[:, some], axis=0), atol=1e-6
        )
        np.testing.assert_allclose(
            found.disagreement[some], np.nanstd(single[:, some], axis=0), atol=1e-6
        )
        share = np.isnan(array).mean(axis=0)
        np.testing.assert_allclose(found.filled[some], share[some], atol=1e-7)


@pytest.mark.parametrize("reach", [1, 4])
def test_a_missing_pixel_touches_its_receptive_field_only(reach: int) -> None:
    """It stays nodata; beyond the reach of the model not a bit changes."""
    array = np.random.default_rng(0).normal(size=(2, 130, 200)).astype("float32")
    whole = predict_array([convolution(reach)], array, window=96, overlap=32)
    holed = array.copy()
    holed[:, 70, 90] = np.nan
    found = predict_array([convolution(reach)], holed, window=96, overlap=32)
    assert np.argwhere(np.isnan(found.probability)).tolist() == [[70, 90]]
    rows, columns = np.indices((130, 200))
    far = np.maximum(abs(rows - 70), abs(columns - 90)) > reach
    np.testing.assert_array_equal(found.probability[far], whole.probability[far])
    assert (found.probability != whole.probability)[~far].all()


def test_a_pixel_with_one_band_left_is_predicted_and_counted_as_filled() -> None:
    array = np.ones((2, 40, 40), "float32")
    array[0, 3, 3] = np.nan
    found = predict_array([convolution(1)], array)
    assert np.isfinite(found.probability).all()
    assert found.filled[3, 3] == 0.5
    assert found.filled.sum() == 0.5


def test_convolution_is_seamless_where_windows_see_enough() -> None:
    """With an overlap wider than twice the reach, seams stay below the weight of the edge."""
    array = np.random.default_rng(1).normal(size=(2, 200, 300)).astype("float32")
    one = predict_array([convolution(2)], array, window=320, overlap=0)
    many = predict_array([convolution(2)], array, window=96, overlap=32)
    cut = predict_array([convolution(2)], array, window=96, overlap=0)
    difference = abs(one.probability - many.probability).max()
    assert difference < 0.03 < abs(one.probability - cut.probability).max()


def test_strips_come_in_order_and_without_gaps() -> None:
    array = np.zeros((1, 333, 50), "float32")
    strips = list(
        predict_strips(
            [constant(0)], lambda a, b, c, d: array[:, a:b, c:d], (333, 50), window=64, overlap=32
        )
    )
    assert [s.row for s in strips] == list(
        np.cumsum([0, *[len(s.probability) for s in strips]])[:-1]
    )
    assert sum(len(s.probability) for s in strips) == 333


def test_memory_does_not_grow_with_the_height() -> None:
    def peak(rows: int) -> int:
        def read(first: int, last: int, left: int, right: int) -> np.ndarray:
            return np.ones((1, last - first, right - left), "float32")

        tracemalloc.start()
        strips = predict_strips([per_pixel()], read, (rows, 256), window=128, overlap=32)
        total = sum(float(strip.probability.sum()) for strip in strips)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total > 0
        return size

    peak(512)
    assert peak(16 * 512) < 1.1 * peak(512)


def test_weights_are_nowhere_zero_and_neighbours_add_up() -> None:
    weight = ramp(128, 32)
    assert weight.min() > 0
    np.testing.assert_allclose(weight[:32] + weight[-32:], 1, atol=2e-3)
    assert (np.diff(weight[:32]) > 0).all()


def test_output_that_is_no_number_is_an_error() -> None:
    broken = Member("broken", lambda x: x[:, :1] * float("nan"), (0,), (0.0,), (1.0,))
    with pytest.raises(DataError, match="no numbers"):
        predict_array([broken], np.ones((1, 32, 32), "float32"))


def test_members_without_data_at_a_pixel_do_not_vote() -> None:
    array = np.array([[[1.0, np.nan]], [[3.0, 3.0]]], dtype="float32")
    padded = np.pad(array, [(0, 0), (0, 31), (0, 30)], constant_values=np.nan)
    mean, deviation, _ = predict_window([per_pixel(0), per_pixel(1)], padded)
    one, three = 1 / (1 + np.exp([-1.0, -3.0]))
    np.testing.assert_allclose(mean[0, :2], [(one + three) / 2, three], rtol=1e-6)
    np.testing.assert_allclose(deviation[0, :2], [(three - one) / 2, 0], rtol=1e-5)
    assert np.isnan(mean[1:]).all()


GRID = GeoBox((100, 70), Affine(10, 0, 500_000, 0, -10, 7_900_000), "EPSG:32652")


def test_the_map_on_disk_is_a_cog_with_scale_and_nodata(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(2, 100, 70)).astype("float32")
    array[:, 5:9, 6] = np.nan
    array[0, 50] = np.nan
    path = tmp_path / "maps" / "a.tif"

    def write() -> bytes:
        strips = predict_strips(
            [per_pixel(0), per_pixel(1)],
            lambda a, b, c, d: array[:, a:b, c:d],
            (100, 70),
            window=64,
            overlap=32,
        )
        facts = write_strips(path, strips, GRID, {"made_up": "yes"})
        assert facts["nodata_pixels"] == 4
        assert facts["pixels"] == 7000
        return path.read_bytes()

    assert write() == write()
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.tif"]
    expected = quantised(predict_array([per_pixel(0), per_pixel(1)], array))
    with rasterio.open(path) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.descriptions == (
            "probability",
            "disagreement",
            "filled",
            "mutual_information",
        )
        assert source.units == ("1", "1", "1", "nat")
        assert source.scales == (1e-4,) * 4
        assert source.nodata == 65535
        assert source.tags()["made_up"] == "yes"
        np.testing.assert_array_equal(source.read(), expected)
    assert (expected == 65535).sum() == 16
    assert set(np.unique(expected[2])) == {0, 5000, 65535}


def test_a_map_without_any_value_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    empty = np.full((1, 100, 70), np.nan, "float32")
    strips = predict_strips([constant(0)], lambda a, b, c, d: empty[:, a:b, c:d], (100, 70))
    with pytest.raises(DataError, match="no valid pixel"):
        write_strips(path, strips, GRID, {})
    assert not list(tmp_path.iterdir())


def test_types_are_plain_float32() -> None:
    def model(x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        return x[:, :1]

    found = predict_array(
        [Member("m", model, (0,), (0.0,), (1.0,))], np.ones((1, 32, 32), "float32")
    )
    assert found.probability.dtype == found.disagreement.dtype == found.filled.dtype == np.float32
