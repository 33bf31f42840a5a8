"""Maps on disk: what a killed process leaves, blocks of large rasters, memory, bad input."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from segmentation_world import (
    a_run,
    a_stack,
    a_workspace,
    an_ensemble,
    edit,
    grid_at,
)
from torch import nn

from thawslump.errors import ConfigError, DataError, StorageError
from thawslump.executor import running
from thawslump.ledger import Ledger
from thawslump.pipeline import Driver
from thawslump.progress import Silent
from thawslump.workspace import Workspace
from trainer.segmentation import maps, predict
from trainer.segmentation.blend import blocks, starts
from trainer.segmentation.maps import Rows, Strip, quantised
from trainer.segmentation.models import build
from trainer.segmentation.places import Place
from trainer.segmentation.predict import Member, predict_array, predict_strips
from trainer.steps import plan_blocks, plan_predict

ROOT = Path(__file__).resolve().parents[1]


def quiet(fraction: float, words: str = "") -> None:
    assert 0 <= fraction <= 1


def strip(row: int, rows: int, columns: int, seed: int = 0) -> Strip:
    random = np.random.default_rng(seed + row)
    values = random.random((4, rows, columns)).astype("float32")
    values[:, 0, 0] = np.nan
    return Strip(row, *values)


# Finished rows ------------------------------------------------------------------------------------


def test_rows_of_an_earlier_process_are_taken_over(tmp_path: Path) -> None:
    grid, path = grid_at((50, 20)), tmp_path / "a.tif"
    parts = [strip(0, 30, 20), strip(30, 20, 20)]
    with Rows(tmp_path / "whole.tif", grid) as rows:
        for part in parts:
            rows.add(part)
        whole = rows.finish({"a": "b & <c>"})
    first = Rows(path, grid, "one")
    first.facts = {"seen": 3}
    first.add(parts[0])
    again = Rows(path, grid, "one")
    assert (again.done, again.facts) == (30, {"seen": 3})
    with pytest.raises(ValueError, match="expected row 30, got 0"):
        again.add(parts[0])
    again.add(parts[1])
    assert again.finish({"a": "b & <c>"}) == whole
    assert path.read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "whole.tif"]
    with rasterio.open(path) as source:
        assert source.tags()["a"] == "b & <c>"
        np.testing.assert_array_equal(source.read()[:, 30:], quantised(parts[1]))


def spoil_state(folder: Path) -> None:
    (folder / "state.json").write_text("{")


def cut_rows(folder: Path) -> None:
    path = folder / "rows.bin"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [spoil_state, cut_rows])
def test_damaged_rows_are_made_again(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    rows = Rows(tmp_path / "a.tif", grid_at((50, 20)), "one")
    rows.add(strip(0, 30, 20))
    spoil(tmp_path / ".a.rows")
    assert Rows(tmp_path / "a.tif", grid_at((50, 20)), "one").done == 0


def test_rows_of_another_map_are_thrown_away(tmp_path: Path) -> None:
    Rows(tmp_path / "a.tif", grid_at((50, 20)), "one").add(strip(0, 30, 20))
    assert Rows(tmp_path / "a.tif", grid_at((50, 20)), "two").done == 0
    assert Rows(tmp_path / "a.tif", grid_at((50, 20)), "one").done == 0


def test_a_full_disk_leaves_the_rows_and_the_older_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, grid = tmp_path / "a.tif", grid_at((50, 20))
    path.write_bytes(b"older")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="disk is full"), Rows(path, grid, "one") as rows:
        rows.add(strip(0, 30, 20))
        monkeypatch.setattr(maps, "write_json", full)
        rows.add(strip(30, 20, 20))
    monkeypatch.undo()
    assert Rows(path, grid, "one").done == 30
    assert path.read_bytes() == b"older"


KILLED = """
import os, signal, sys
from pathlib import Path
from thawslump.workspace import Workspace
from trainer.segmentation import predict
from trainer.steps import plan_predict

def progress(fraction, words=""):
    if words.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

workspace = Workspace(Path(sys.argv[1]))
predict.run(plan_predict(workspace, 1)[0], workspace, progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")
def test_a_killed_map_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """After SIGKILL in the middle of a raster: no finished row again, the bytes of a whole one."""
    workspace = a_workspace(tmp_path, (400, 140))
    (item,) = plan_predict(workspace, 1)
    path = item.outputs[0]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "row 192 of 400"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    said: list[str] = []
    predict.run(item, workspace, lambda fraction, words="": said.append(words))
    assert said == ["row 192 of 400", "row 288 of 400", "row 400 of 400"]
    assert [p.name for p in path.parent.iterdir()] == ["site.tif"]
    continued = path.read_bytes()
    path.unlink()
    predict.run(item, workspace, quiet)
    assert path.read_bytes() == continued


def test_rows_of_other_weights_are_not_taken_over(tmp_path: Path) -> None:
    workspace = a_workspace(tmp_path, (300, 140))
    (item,) = plan_predict(workspace, 1)

    class Stop(Exception):
        pass

    def stop(fraction: float, words: str = "") -> None:
        if words.startswith("row 192"):
            raise Stop

    with pytest.raises(Stop):
        predict.run(item, workspace, stop)
    a_run(workspace.models(1), "run1", 7)
    an_ensemble(workspace.models(1), ["run0", "run1"])
    said: list[str] = []
    predict.run(item, workspace, lambda fraction, words="": said.append(words))
    assert said[0] == "row 0 of 300"


# Blocks -------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 900))
@settings(max_examples=60, deadline=None)
def test_blocks_cover_a_raster_once(rows: int, columns: int, side: int) -> None:
    count = np.zeros((rows, columns), "uint8")
    for top, left, bottom, right in blocks((rows, columns), side):
        assert 0 < bottom - top <= side and 0 < right - left <= side
        count[top:bottom, left:right] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("turned", [False, True])
def test_blocks_join_to_the_map_of_the_whole(tmp_path: Path, turned: bool) -> None:
    """A net that reaches far: each block sees the windows that the whole raster has."""
    shape = (330, 470)
    path = tmp_path / "stack.tif"
    a_stack(path, shape)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 9, padding=4), nn.ReLU(), nn.Conv2d(4, 1, 9, padding=4))
    member = Member("net", net.eval(), (0, 1, 2), (-1.0, 12.0, -0.1), (2.0, 6.0, 0.2))
    names = ("dVH", "slope", "dNDVI")
    whole = Place(path)
    expected = quantised(
        predict_array(
            [member], whole.read(names, 0, shape[0]), window=96, overlap=32, turned=turned
        )
    )
    files = []
    for block in blocks(shape, 160):
        place = Place.block(path, block, 96, 32)
        drawn = predict_strips(
            [member],
            lambda t, b, l, r, place=place: place.read(names, t, b, l, r),  # type: ignore[misc]
            place.shape,
            window=96,
            overlap=32,
            turned=turned,
        )
        files.append(tmp_path / "blocks" / f"{block[0]}-{block[1]}.tif")
        with Rows(files[-1], place.grid) as rows:
            for each in place.own(drawn):
                rows.add(each)
            rows.finish({}, may_be_empty=True, block=True)
    facts = maps.join(tmp_path / "map.tif", files, whole.grid, {"made_up": "yes"})
    with rasterio.open(tmp_path / "map.tif") as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.tags()["made_up"] == "yes"
        assert "sums" not in source.tags()
        assert source.descriptions == maps.BANDS and source.units == maps.UNITS
        assert source.scales == (1e-4,) * 4 and source.nodata == 65535
        assert source.transform == whole.grid.transform
        found = source.read()
    # A pixel that one window holds is weighed by it and divided again: the last digit may differ.
    assert abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.999
    assert facts["pixels"] == shape[0] * shape[1]
    assert facts["nodata_pixels"] == (expected[0] == 65535).sum() > 0
    values = expected[0][expected[0] != 65535] * 1e-4
    assert facts["mean_probability"] == pytest.approx(values.mean(), abs=1e-5)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_block_goes_on_where_it_stopped(tmp_path: Path, stop: int) -> None:
    """Its windows begin above it, so its rows are not those of what is predicted."""
    path = tmp_path / "stack.tif"
    a_stack(path, (700, 140))
    torch.manual_seed(0)
    net = nn.Conv2d(3, 1, 17, padding=8).eval()
    member = Member("net", net, (0, 1, 2), (-1.0, 12.0, -0.1), (2.0, 6.0, 0.2))
    place = Place.block(path, (200, 0, 560, 140), 128, 32)
    reads: list[int] = []

    def read(top: int, bottom: int, left: int, right: int) -> np.ndarray:
        reads.append(top)
        return place.read(("dVH", "slope", "dNDVI"), top, bottom, left, right)

    def draw(rows: Rows, most: int) -> None:
        drawn = predict_strips(
            [member], read, place.shape, window=128, overlap=32, done=place.rows_done(rows.done)
        )
        for number, each in enumerate(place.own(drawn), start=1):
            rows.add(each)
            if number == most:
                return

    whole = Rows(tmp_path / "whole.tif", place.grid, "a")
    draw(whole, 99)
    whole.finish({})
    first = Rows(tmp_path / "a.tif", place.grid, "a")
    draw(first, stop)
    reads.clear()
    again = Rows(tmp_path / "a.tif", place.grid, "a")
    assert again.done == first.done > 0
    draw(again, 99)
    assert min(reads) >= place.rows_done(first.done) - 96
    again.finish({})
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_a_large_raster_is_mapped_in_items_of_the_executor(tmp_path: Path) -> None:
    """Planned, run by two worker processes, joined; a block that is there is not made again."""
    workspace = a_workspace(tmp_path, (300, 600))
    items = plan_blocks(workspace, 1)
    assert [item.name for item in items] == ["site/r000000-c000000", "site/r000000-c000300"]
    (one,) = plan_predict(workspace, 1)
    assert one.target.endswith("run_join")
    assert one.inputs[2:] == tuple(item.outputs[0] for item in items)
    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        with running(workspace.config.executor, lambda message: None) as executor:
            driver = Driver(workspace, ledger, executor, Silent(), site="site")
            assert driver.run_step("predict-blocks", 1).ran == tuple(i.name for i in items)
            assert driver.run_step("predict", 1).ran == ("site",)
            assert driver.run_step("predict-blocks", 1).ran == ()
            items[1].outputs[0].unlink()
            assert driver.run_step("predict-blocks", 1).ran == (items[1].name,)
    finally:
        ledger.close()
    with rasterio.open(workspace.map(1, "site")) as source:
        joined = source.read().astype(int)
        tags = source.tags()
    assert tags["threshold"] == "0.5" and tags["tta"] == "none" and tags["made_up"] == "yes"

    # The same raster as one block.
    text = (tmp_path / "thawslump.yaml").read_text()
    (tmp_path / "thawslump.yaml").write_text(text.replace("block: 512", "block: 1024"))
    workspace = Workspace(tmp_path)
    assert plan_blocks(workspace, 1) == []
    (one,) = plan_predict(workspace, 1)
    predict.run(one, workspace, quiet)
    with rasterio.open(workspace.map(1, "site")) as source:
        assert abs(source.read().astype(int) - joined).max() <= 1


def test_a_block_that_is_none_is_said(tmp_path: Path) -> None:
    a_stack(tmp_path / "strange.tif", (40, 40))
    with pytest.raises(DataError, match=r"strange.tif is not a block of a map"):
        maps.join(tmp_path / "a.tif", [tmp_path / "strange.tif"], grid_at((40, 40)), {})


MEASURED = """
import resource, sys
import numpy as np, torch
from pathlib import Path
from trainer.segmentation.blend import blocks
from trainer.segmentation.predict import Member, predict_strips
from trainer.segmentation.maps import Rows
from affine import Affine
from odc.geo.geobox import GeoBox

torch.set_num_threads(1)
members = [Member("m", torch.nn.Conv2d(1, 1, 3, padding=1).eval(), (0,), (0.0,), (1.0,))]

def draw(rows, columns):
    for top, left, bottom, right in blocks((rows, columns), 512):
        shape = (bottom - top, right - left)
        read = lambda a, b, c, d: np.ones((1, b - a, d - c), "float32")
        grid = GeoBox(shape, Affine(10, 0, 5e5, 0, -10, 7.9e6), "EPSG:32652")
        with Rows(Path(sys.argv[1]) / "m.tif", grid) as rows_:
            for strip in predict_strips(members, read, shape, window=256, overlap=32):
                rows_.add(strip)
            rows_.finish({}, block=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

draw(512, 512)
first = draw(1024, 1024)
print(first, draw(512, 8192), draw(8192, 512))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of memory from the system")
def test_memory_grows_with_neither_rows_nor_columns(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    first, wide, high = map(float, out.split())
    assert max(wide, high) < first + 24


# Bad input ----------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Workspace:
    return a_workspace(tmp_path, (70, 90))


def drawn(workspace: Workspace) -> None:
    predict.run(plan_predict(workspace, 1)[0], workspace, quiet)


def test_a_raster_smaller_than_a_window_is_mapped(small: Workspace) -> None:
    drawn(small)
    with rasterio.open(small.map(1, "site")) as source:
        found = source.read(masked=True)
    assert found.shape == (4, 70, 90)
    assert found.mask[0].sum() == 16  # where all bands are missing
    assert (found[2, 20:24] == 3333).all()


def test_bands_in_another_order_in_the_file_are_found_by_name(small: Workspace) -> None:
    drawn(small)
    before = small.map(1, "site").read_bytes()
    stack = small.stack("site")
    with rasterio.open(stack) as source:
        array = source.read()
    from thawslump.raster import write_cog

    order = [2, 0, 1]
    names = [("dVH", "slope", "dNDVI")[i] for i in order]
    write_cog(stack, array[order], grid_at((70, 90)), names, nodata=float("nan"))
    drawn(small)
    assert small.map(1, "site").read_bytes() == before


def test_bands_of_the_item_in_another_order_are_refused(small: Workspace) -> None:
    def change(item: dict[str, Any]) -> None:
        item["properties"]["mlm:input"][0]["bands"] = ["slope", "dVH", "dNDVI"]

    edit(small.models(1) / "run1" / "item.json", change)
    with pytest.raises(DataError, match=r"run1 took the bands dVH, slope, dNDVI; its item now"):
        drawn(small)


def test_a_scaling_that_changed_is_refused_by_name(small: Workspace) -> None:
    def change(item: dict[str, Any]) -> None:
        item["properties"]["mlm:input"][0]["value_scaling"][1]["mean"] = 13.0

    edit(small.models(1) / "run0" / "item.json", change)
    with pytest.raises(DataError, match=r"run0 scaled slope by mean 12 .* now says 13"):
        drawn(small)


def test_a_band_in_another_unit_is_refused_by_name(small: Workspace) -> None:
    a_stack(small.stack("site"), (70, 90), units=("dB", "percent", "1"))
    with pytest.raises(DataError, match=r"Band slope of .* is in percent; .* learned it in degree"):
        drawn(small)


def test_a_band_in_another_scale_is_refused_by_name(small: Workspace) -> None:
    from thawslump.raster import write_cog

    array = a_stack(small.stack("site"), (70, 90))
    array[2] *= 10_000
    write_cog(
        small.stack("site"), array, grid_at((70, 90)), ("dVH", "slope", "dNDVI"),
        nodata=float("nan"),
    )  # fmt: skip
    with pytest.raises(DataError, match=r"Band dNDVI of .* stored in another scale"):
        drawn(small)


def test_pixels_of_another_size_are_refused(small: Workspace) -> None:
    a_stack(small.stack("site"), (70, 90), size=20.0)
    with pytest.raises(DataError, match=r"are 20 m wide; the models learned from pixels of 10 m"):
        drawn(small)


def test_weights_of_another_architecture_are_refused(small: Workspace) -> None:
    other = build("fpn", "tu-mobilenetv3_small_050", 3, 3).state_dict()
    path = small.models(1) / "run1" / "model.safetensors"
    save_file({key: value.contiguous() for key, value in other.items()}, path)
    with pytest.raises(DataError, match=r"does not hold the weights of run1 \(linknet on") as told:
        drawn(small)
    assert len(str(told.value)) < 700


def test_weights_of_another_training_are_refused(small: Workspace, tmp_path: Path) -> None:
    other = a_run(tmp_path / "elsewhere", "run1", 9) / "model.safetensors"
    other.replace(small.models(1) / "run1" / "model.safetensors")
    with pytest.raises(DataError, match=r"is not the file that .*run1/item.json describes"):
        drawn(small)


class Trap:
    """Does harm when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_a_pickle_is_never_opened(
    small: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = small.models(1) / "run1" / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="does not hold the weights of run1"):
        drawn(small)
    assert not (tmp_path / "harm").exists()


def test_a_site_without_any_band_of_the_models_is_said(small: Workspace) -> None:
    a_stack(small.stack("site"), (70, 90), names=("a", "b", "c"), units=("1", "1", "1"))
    with pytest.raises(DataError, match="has none of the bands dVH, slope, dNDVI"):
        drawn(small)


def test_a_site_without_any_value_is_said(small: Workspace) -> None:
    from thawslump.raster import write_cog

    array = np.full((3, 70, 90), np.nan, "float32")
    write_cog(
        small.stack("site"), array, grid_at((70, 90)), ("dVH", "slope", "dNDVI"),
        nodata=float("nan"),
    )  # fmt: skip
    with pytest.raises(DataError, match="no valid pixel"):
        drawn(small)
    assert not list(small.maps(1).iterdir())


def test_windows_larger_than_a_block_are_refused() -> None:
    from trainer.config import SegmentationConfig

    with pytest.raises(ValueError, match="window 1024 is larger than prediction_block 512"):
        SegmentationConfig(window=1024, prediction_block=512)
    with pytest.raises(ValueError, match="device"):
        SegmentationConfig(device="gpu")


def test_a_gpu_that_is_not_there_stops_the_map(
    small: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = small.root / "thawslump.yaml"
    path.write_text(path.read_text().replace("device: cpu", "device: cuda"))
    with pytest.raises(ConfigError, match="torch finds 0 GPUs here"):
        drawn(Workspace(small.root))


def test_turns_weights_and_temperature_reach_the_map(small: Workspace) -> None:
    drawn(small)
    with rasterio.open(small.map(1, "site")) as source:
        plain = source.read(masked=True)
    an_ensemble(small.models(1), ["run0", "run1"], {"run0": 0.75, "run1": 0.25}, temperature=2.0)
    drawn(small)
    with rasterio.open(small.map(1, "site")) as source:
        weighed, tags = source.read(masked=True), source.tags()
    assert tags["weights"] == "0.75, 0.25"
    assert tags["calibration"].startswith("log odds of the mean divided by 2;")
    # Nearer to one half, on the whole.
    assert abs(weighed[0] - 5000.0).mean() < abs(plain[0] - 5000.0).mean()
    path = small.root / "thawslump.yaml"
    path.write_text(path.read_text() + "  tta: d4\n")
    drawn(Workspace(small.root))
    with rasterio.open(small.map(1, "site")) as source:
        assert source.tags()["tta"] == "d4"
        assert (source.read(1) != weighed[0].filled(65535)).any()


def test_windows_over_the_whole_begin_where_those_of_a_block_do() -> None:
    step = 512 - 64
    assert all(at % step == 0 for at in starts(10_000, 512, 64))
    assert json.dumps(blocks((8192, 8193), 8192)) == "[[0, 0, 8192, 4096], [0, 4096, 8192, 8193]]"
