"""Prediction over rasters: borders, nodata, windows and memory (made-up models)."""

from __future__ import annotations

import contextlib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import special
from torch import Tensor, nn

from thawslump.errors import ConfigError, DataError, ThawslumpError
from trainer.chips import Classes, expand, scale
from trainer.segmentation import calibration
from trainer.segmentation.device import Device, chosen
from trainer.segmentation.opinions import Opinions
from trainer.segmentation.predict import (
    Member,
    Strip,
    predict_array,
    predict_strips,
    predict_window,
    quantised,
    ramp,
    write_strips,
)
from trainer.segmentation.turns import TURNS, turn, turn_back


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


@pytest.mark.parametrize(("reach", "batch"), [(1, 1), (4, 1), (4, 6)])
def test_a_missing_pixel_touches_its_receptive_field_only(reach: int, batch: int) -> None:
    """It stays nodata; beyond the reach of the model not a bit changes."""
    array = np.random.default_rng(0).normal(size=(2, 130, 200)).astype("float32")
    whole = predict_array([convolution(reach)], array, window=96, overlap=32, batch=batch)
    holed = array.copy()
    holed[:, 70, 90] = np.nan
    found = predict_array([convolution(reach)], holed, window=96, overlap=32, batch=batch)
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
    # Reading runs a piece ahead: one more or less may be there at the same time.
    pieces = 2 * 128 * 256 * 4
    assert peak(16 * 512) < 1.1 * peak(512) + pieces < 16 * 512 * 256 * 4


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


# Turns, opinions, weights -------------------------------------------------------------------------


def assert_equal_strips(first: Strip, second: Strip, tolerance: float = 0.0) -> None:
    for name in ("probability", "disagreement", "filled", "information"):
        np.testing.assert_allclose(
            getattr(first, name), getattr(second, name), rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("number", range(TURNS))
def test_turning_back_undoes_turning_to_the_bit(number: int) -> None:
    image = torch.randn(2, 3, 5, 8)
    assert torch.equal(turn_back(turn(image, number), number), image)
    others = [turn(image, n) for n in range(TURNS) if n != number]
    assert not any(o.shape == image.shape and torch.equal(turn(image, number), o) for o in others)


def equivariant() -> Member:
    """A convolution whose kernel looks the same from all eight sides."""
    torch.manual_seed(0)
    kernel = torch.randn(1, 2, 5, 5)
    kernel = sum((turn(kernel, n) for n in range(TURNS)), torch.zeros_like(kernel)) / TURNS
    return Member(
        "even",
        lambda x: nn.functional.conv2d(x, kernel, padding=2),
        (0, 1),
        (0.0, 0.0),
        (1.0, 1.0),
    )


def test_turns_do_not_change_what_an_equivariant_model_says() -> None:
    array = np.random.default_rng(0).normal(size=(2, 150, 230)).astype("float32")
    array[:, 30:40, 50:60] = np.nan
    plain = predict_array([equivariant()], array, window=96, overlap=32)
    turned = predict_array([equivariant()], array, window=96, overlap=32, turned=True)
    assert_equal_strips(plain, turned, 1e-6)
    other = predict_array([convolution(2)], array, window=96, overlap=32, turned=True)
    assert np.nanmax(abs(other.probability - plain.probability)) > 0.01


@pytest.mark.parametrize("number", range(1, TURNS))
def test_a_turned_raster_gives_the_turned_map_with_turns(number: int) -> None:
    """Of any model: the mean over all turns does not know which side is up."""

    def turned(array: np.ndarray) -> np.ndarray:
        return turn(torch.from_numpy(array), number).numpy()

    array = np.random.default_rng(1).normal(size=(2, 130, 190)).astype("float32")
    member = convolution(3)
    # Windows are padded below and on the right: the same size both ways, or paddings differ.
    padded = np.pad(array, [(0, 0), (0, 30), (0, 2)], constant_values=np.nan)
    one = predict_array([member], padded, window=192, overlap=0, turned=True)
    other = predict_array([member], turned(padded), window=192, overlap=0, turned=True)
    for name in ("probability", "disagreement"):
        np.testing.assert_allclose(getattr(other, name), turned(getattr(one, name)), atol=1e-6)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.1, 9)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=50, deadline=None)
def test_one_pass_gives_what_all_members_at_once_would(
    members: list[tuple[list[float], float]],
) -> None:
    """Weighted mean, deviation and BALD against the definitions in float64."""
    said = Opinions(torch.zeros(3))
    for values, weight in members:
        said.add(torch.tensor(values, dtype=torch.float32), torch.ones(3, dtype=torch.bool), weight)
    p = np.array([values for values, _ in members])
    w = np.array([weight for _, weight in members])[:, None] / sum(weight for _, weight in members)
    mean = (w * p).sum(axis=0)
    entropy_of = lambda q: special.entr(q) + special.entr(1 - q)  # noqa: E731
    np.testing.assert_allclose(said.mean.numpy(), mean, atol=1e-6)
    np.testing.assert_allclose(
        said.deviation.numpy() ** 2, (w * (p - mean) ** 2).sum(axis=0), atol=1e-6
    )
    bald = entropy_of(mean) - (w * entropy_of(p)).sum(axis=0)
    np.testing.assert_allclose(said.information.numpy(), bald, atol=2e-6)
    assert (said.information.numpy() <= np.log(2) + 1e-6).all()


def test_members_that_say_the_same_teach_nothing_however_unsure() -> None:
    """Spread and information are exactly zero, for any weights."""
    said = Opinions(torch.zeros(4))
    for weight in (0.3, 1.7, 0.01):
        p = torch.tensor([0.0, 0.1234567, 0.5, 1.0])
        said.add(p, torch.ones(4, dtype=torch.bool), weight)
    assert said.deviation.tolist() == [0.0] * 4
    assert said.information.tolist() == [0.0] * 4


def test_a_weight_counts_as_so_many_equal_members() -> None:
    array = np.random.default_rng(3).normal(size=(2, 64, 64)).astype("float32")
    array[0, :8] = np.nan
    thrice = [per_pixel(0), per_pixel(1), per_pixel(1), per_pixel(1)]
    weighed = [per_pixel(0), replace(per_pixel(1), weight=3.0)]
    assert_equal_strips(predict_array(thrice, array), predict_array(weighed, array), 1e-6)


# How it is computed -------------------------------------------------------------------------------


def test_windows_at_once_do_not_change_the_map() -> None:
    array = np.random.default_rng(0).normal(size=(2, 200, 300)).astype("float32")
    array[:, :100, 100:] = np.nan
    one = predict_array([convolution(3)], array, window=96, overlap=32)
    for batch in (2, 3, 16):
        many = predict_array([convolution(3)], array, window=96, overlap=32, batch=batch)
        assert_equal_strips(one, many, 1e-6)


def test_a_model_is_always_given_as_many_windows() -> None:
    """Else an empty window would change how its neighbours are rounded."""
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x[:, :1]

    array = np.ones((1, 200, 300), "float32")
    array[:, :90, :90] = np.nan
    predict_array([Member("m", model, (0,), (0.0,), (1.0,))], array, window=96, overlap=32, batch=3)
    assert set(seen) == {3}


def test_short_memory_gives_fewer_windows_at_once_and_then_an_error() -> None:
    def greedy(most: int) -> Member:
        def model(x: Tensor) -> Tensor:
            if len(x) > most:
                raise torch.OutOfMemoryError("made up")
            return x[:, :1]

        return Member("greedy", model, (0,), (0.0,), (1.0,))

    array = np.random.default_rng(0).normal(size=(1, 200, 300)).astype("float32")
    device = Device(torch.device("cpu"))
    found = predict_array([greedy(3)], array, window=96, overlap=32, batch=8, device=device)
    assert device.most == 2
    assert_equal_strips(found, predict_array([per_pixel()], array, window=96, overlap=32), 1e-6)
    with pytest.raises(ThawslumpError, match=r"cpu is too small for one window of 96 x 96 pixels"):
        predict_array([greedy(0)], array, window=96, overlap=32, batch=2)


def test_lower_precision_stays_near() -> None:
    """The path of a GPU, on the processor: autocast to bfloat16, all else in float32."""
    array = np.random.default_rng(0).normal(size=(2, 130, 200)).astype("float32")
    exact = predict_array([convolution(2)], array, window=96, overlap=32)
    seen = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolution(2).model

        def forward(self, x: Tensor) -> Tensor:
            out = self.inner(x)
            seen.append(out.dtype)
            return out

    member = replace(convolution(2), model=Watched())
    device = Device(torch.device("cpu"), torch.bfloat16)
    low = predict_array([member], array, window=96, overlap=32, batch=4, device=device)
    assert set(seen) == {torch.bfloat16}
    difference = abs(exact.probability - low.probability)
    assert 0 < difference.max() < 0.02
    assert low.probability.dtype == np.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the same code runs on the CPU")
def test_a_gpu_gives_the_map_of_the_processor() -> None:
    array = np.random.default_rng(0).normal(size=(2, 300, 400)).astype("float32")
    exact = predict_array([convolution(2)], array, window=96, overlap=32)
    device = chosen("cuda")
    member = replace(convolution(2), model=convolution(2).model.to(device.where))  # type: ignore[union-attr]
    found = predict_array([member], array, window=96, overlap=32, batch=16, device=device)
    assert abs(exact.probability - found.probability).max() < 0.02


def test_workers_spread_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda where: contextlib.nullcontext())
    found = [str(chosen("auto", worker).where) for worker in range(3)]
    assert found == ["cuda:0", "cuda:1", "cuda:0"]
    assert chosen("cuda:1", 0).where.index == 1
    assert chosen("auto", 0).precision == torch.bfloat16
    assert chosen("cpu", 0).where.type == "cpu"
    with pytest.raises(ConfigError, match="cuda:2, but torch finds 2 GPUs"):
        chosen("cuda:2")


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen("auto").where.type == "cpu"
    with pytest.raises(ConfigError, match=r"device is cuda, but torch finds 0 GPUs"):
        chosen("cuda")


@pytest.mark.parametrize("classes", [(), (None, Classes((2, 5), (0.3, 0.7)))])
def test_prediction_scales_as_training_does(classes: tuple[Classes | None, ...]) -> None:
    """To the bit: what training feeds a model is what prediction feeds it."""
    random = np.random.default_rng(0)
    array = random.normal(3, 4, size=(2, 32, 32)).astype("float32")
    array[1] = random.choice([2, 5, 7, np.nan], (32, 32))
    mean, std = (0.7, 0.0), (1.3, 1.0)
    fed = []

    def model(x: Tensor) -> Tensor:
        fed.append(x.clone())
        return x[:, :1]

    predict_array([Member("m", model, (0, 1), mean, std, classes)], array)
    values, _ = scale(array, mean, std, classes)
    expected = expand(torch.from_numpy(values), classes, dim=0)
    assert torch.equal(fed[0][0, :, :32, :32], expected)


def test_temperature_is_that_of_the_calibration() -> None:
    array = np.random.default_rng(0).normal(0, 4, size=(1, 64, 64)).astype("float32")
    plain = predict_array([per_pixel()], array)
    warm = predict_array([per_pixel()], array, temperature=2.5)
    np.testing.assert_allclose(
        warm.probability, calibration.calibrated(plain.probability, 2.5), atol=2e-6
    )
    np.testing.assert_array_equal(warm.disagreement, plain.disagreement)


@pytest.mark.parametrize("done", [0, 64, 192, 256, 333])
def test_the_rest_of_a_raster_is_to_the_bit_that_of_the_whole(done: int) -> None:
    array = np.random.default_rng(0).normal(size=(2, 333, 150)).astype("float32")
    reads: list[int] = []

    def read(top: int, bottom: int, left: int, right: int) -> np.ndarray:
        reads.append(top)
        return array[:, top:bottom, left:right]

    whole = predict_array([convolution(4)], array, window=128, overlap=64)
    rest = list(
        predict_strips([convolution(4)], read, (333, 150), window=128, overlap=64, done=done)
    )
    assert [strip.row for strip in rest][:1] == ([done] if done < 333 else [])
    # One row of windows is computed again at most.
    assert min(reads, default=0) >= (done - 64 if done < 333 else 0)
    for strip in rest:
        for name in ("probability", "disagreement", "filled", "information"):
            rows = slice(strip.row, strip.row + len(strip.probability))
            np.testing.assert_array_equal(getattr(strip, name), getattr(whole, name)[rows])


def test_monai_blends_alike() -> None:
    """MONAI's sliding window with the same windows: nets, borders and all."""
    inferers = pytest.importorskip("monai.inferers", reason="MONAI is not installed")
    window, overlap = 128, 32
    shape = (window + 2 * 96, window + 3 * 96)
    array = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    member = convolution(6)
    found = predict_array([member], array, window=window, overlap=overlap)
    weight = torch.from_numpy(np.outer(ramp(window, overlap), ramp(window, overlap)))
    peer = inferers.sliding_window_inference(
        torch.from_numpy(array)[None],
        (window, window),
        4,
        lambda x: torch.sigmoid(member.model(x)),
        overlap=overlap / window,
        roi_weight_map=weight,
    )
    assert abs(found.probability - peer[0, 0].detach().numpy()).max() < 1e-5
