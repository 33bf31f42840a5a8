"""Batch exports: tasks on a real server, their files brought home, verified and joined."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from gee_world import a_site, make_world
from rasterio.windows import Window as Part
from test_gee_export import a_workspace, exported

from gee.emulator.server import running
from gee.exports import batch
from gee.steps import plan_export
from thawslump.cli import main
from thawslump.errors import ConfigError, DataError
from thawslump.pipeline import Waiting
from thawslump.raster import read
from thawslump.workspace import Workspace


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("batch")
    make_world(folder / "catalog")
    with running(folder / "catalog", state=folder / "state") as url:
        yield url, folder / "state" / "exports"


def a_batch(folder: Path, url: str, **export: Any) -> Workspace:
    settings = {"method": "drive", "destination": "tests", **export}
    return a_workspace(folder, None, backend={"kind": "emulator", "url": url}, export=settings)


def finished(workspace: Workspace) -> list[dict[str, Any]]:
    for _ in range(200):
        rows = batch.status(workspace, ["place"])
        if all(row["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") for row in rows):
            return rows
        time.sleep(0.1)
    raise AssertionError(f"the tasks do not end: {rows}")


@pytest.fixture(scope="module")
def done(
    server: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, Path]:
    url, exports = server
    workspace = a_batch(tmp_path_factory.mktemp("done"), url)
    assert isinstance(plan_export(workspace, 0), Waiting)
    first = batch.submit(workspace, "place")
    assert batch.submit(workspace, "place") == first  # nothing is started twice
    assert {task["product"] for task in first["tasks"]} == {"stack", "context", "factors"}
    rows = finished(workspace)
    assert {row["state"] for row in rows} == {"SUCCEEDED"}, rows
    return workspace, exports / "tests"


def test_batch_files_become_the_tiles_of_an_export_by_pixels(
    done: tuple[Workspace, Path], server: tuple[str, Path], tmp_path: Path
) -> None:
    workspace, folder = done
    found = batch.collect(workspace, "place", folder, lambda share, words: None)
    assert found["files"] == 3
    assert plan_export(workspace, 0) == []
    plain = a_workspace(tmp_path, None, backend={"kind": "emulator", "url": server[0]})
    exported(plain)
    for name in ("stack.tif", "context.tif", "factors.tif"):
        ours, theirs = (read(w.tiles("place") / name) for w in (workspace, plain))
        assert (ours.names, ours.grid) == (theirs.names, theirs.grid)
        np.testing.assert_array_equal(ours.array, theirs.array)
    items = [json.loads((w.tiles("place") / "item.json").read_text()) for w in (workspace, plain)]
    assert items[0]["properties"] == items[1]["properties"]


def shards(folder: Path, target: Path, extra: int = 0) -> list[Path]:
    """Cut every file of a folder as the service cuts large ones; `extra` pixels all around."""
    made = []
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as source:
            data, profile = source.read(), source.profile
        if extra:
            data = np.pad(data, ((0, 0), (extra, extra), (extra, extra)), mode="edge")
            profile["transform"] = profile["transform"] @ Affine.translation(-extra, -extra)
        base = profile["transform"]
        rows, cols = data.shape[1:]
        for row in range(0, rows, 32):
            for col in range(0, cols, 48):
                part = Part(col, row, min(48, cols - col), min(32, rows - row))
                one = target / f"{path.stem}-{row:010d}-{col:010d}.tif"
                profile.update(
                    driver="GTiff",
                    height=part.height,
                    width=part.width,
                    transform=base @ Affine.translation(col, row),
                )
                for key in ("blockxsize", "blockysize", "tiled", "interleave"):
                    profile.pop(key, None)
                with rasterio.open(one, "w", **profile) as out:
                    out.write(data[:, row : row + part.height, col : col + part.width])
                made.append(one)
    return made


@pytest.mark.parametrize("extra", [0, 1])
def test_files_in_parts_and_an_extra_row_fit(
    done: tuple[Workspace, Path], tmp_path: Path, extra: int
) -> None:
    workspace, folder = done
    batch.collect(workspace, "place", folder, lambda share, words: None)
    whole = read(workspace.stack("place")).array
    parts = shards(folder, tmp_path, extra)
    found = batch.collect(workspace, "place", tmp_path, lambda share, words: None)
    assert found["files"] == len(parts) > 3
    np.testing.assert_array_equal(read(workspace.stack("place")).array, whole)


def test_what_does_not_fit_is_refused(done: tuple[Workspace, Path], tmp_path: Path) -> None:
    workspace, folder = done

    def refused(words: str) -> None:
        with pytest.raises(DataError, match=words):
            batch.collect(workspace, "place", tmp_path, lambda share, words: None)

    refused(r"has no file place_stack_.*\.tif; it has 0 other GeoTIFFs")
    parts = shards(folder, tmp_path)
    lost = next(p for p in parts if "stack" in p.name)
    lost.rename(tmp_path / "kept")
    refused(r"stack: 1536 of 3100 pixels are in none of the 3 files, the first at row 0, column 0")
    (tmp_path / "kept").rename(lost)
    twice = lost.with_name(lost.name.replace(".tif", "-again.tif"))
    shutil.copy(lost, twice)
    refused("stack: 1536 pixels are in more than one of")
    twice.unlink()
    with rasterio.open(lost, "r+") as source:
        source.transform = source.transform @ Affine.translation(0.3, 0)
    refused("does not fit the site's")


def test_a_changed_site_is_not_mixed_with_older_files(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    workspace = a_batch(tmp_path, server[0])
    with pytest.raises(DataError, match="nothing was submitted"):
        batch.collect(workspace, "place", tmp_path, lambda share, words: None)
    batch.submit(workspace, "place")
    from thawslump.config import save_yaml

    save_yaml(tmp_path / "areas" / "place.yaml", a_site(slope_correction="none"))
    changed = Workspace(tmp_path)
    with pytest.raises(DataError, match="its settings changed since"):
        batch.collect(changed, "place", tmp_path, lambda share, words: None)
    assert batch.cancel(changed, "place") in range(4)
    assert batch.record(changed, "place") is None


def test_a_used_up_budget_cancels_what_still_runs(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ee

    workspace = a_batch(tmp_path, server[0], eecu_budget=100.0)
    batch.submit(workspace, "place")
    cancelled: list[str] = []
    # A service that has spent 60 EECU-seconds on each task and goes on.
    running_ = {"metadata": {"state": "RUNNING", "batchEecuUsageSeconds": 60.0}}
    monkeypatch.setattr(ee.data, "getOperation", lambda name: running_)
    monkeypatch.setattr(ee.data, "cancelOperation", cancelled.append)
    rows = batch.status(workspace, ["place"])
    assert len(cancelled) == 3
    assert {row["state"] for row in rows} == {"CANCELLING"}
    assert "budget of 100 EECU-seconds is used up (180)" in str(rows[0]["error"])


def test_pixels_are_not_submitted(server: tuple[str, Path], tmp_path: Path) -> None:
    workspace = a_batch(tmp_path, server[0], method="pixels")
    with pytest.raises(ConfigError, match=r"export\.method is pixels"):
        batch.submit(workspace, "place")


def test_the_commands_say_what_they_do(
    server: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = a_batch(tmp_path, server[0])

    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["--workspace", str(tmp_path), "export", *words])
        assert ended.value.code in (0, None)
        return capsys.readouterr().out

    assert "No batch tasks were started here" in said("status")
    assert "place: 3 tasks write to drive, tests" in said("submit")
    finished(workspace)
    assert "place stack: succeeded" in said("status")
    assert "place: 3 files, " in said("fetch", "--from", str(server[1]))
    assert "0 tasks cancelled" in said("cancel")
