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

from gee.commands import _tasks
from gee.emulator.server import running
from gee.exports import batch
from gee.steps import plan_export
from thawslump import options
from thawslump.cli import main
from thawslump.errors import BackendError, BudgetError, ConfigError, DataError
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


class Tasks:
    """Stands in for the service's tasks: what was asked for, and how they are said to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import ee

        self.asked: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, str] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.cancelled: list[str] = []
        self.broken_at: int | None = None
        monkeypatch.setattr(ee.data, "exportImage", self.export)
        monkeypatch.setattr(ee.data, "getOperation", self.get)
        monkeypatch.setattr(ee.data, "listOperations", lambda: [self.get(n) for n in self.asked])
        monkeypatch.setattr(ee.data, "cancelOperation", self.cancelled.append)

    def export(self, request: str, config: dict[str, Any]) -> dict[str, Any]:
        if len(self.asked) == self.broken_at:
            raise KeyboardInterrupt
        # As the service does: one task for a request id.
        name = self.requests.setdefault(request, f"projects/p/operations/{len(self.asked)}")
        self.asked[name] = config
        return {"name": name}

    def get(self, name: str) -> dict[str, Any]:
        state = {"state": "RUNNING", "description": self.asked[name]["description"]}
        return {"name": name, "metadata": state | self.states.get(name, {})}


def _expression(config: dict[str, Any]) -> str:
    return str(config["expression"].serialize())


@pytest.mark.parametrize("method", ["drive", "cloud_storage", "asset"])
def test_tasks_are_asked_for_with_canonical_options(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    tasks = Tasks(monkeypatch)
    target = "projects/thawslump-local/assets/x" if method == "asset" else "tests"
    workspace = a_batch(tmp_path, server[0], method=method, destination=target, priority=200)
    found = batch.submit(workspace, "place")
    grid = workspace.site("place").grid()
    for task, config in zip(found["tasks"], tasks.asked.values(), strict=True):
        # Equal work has an equal name, by which it is known again.
        assert config["description"] == task["prefix"]
        assert task["prefix"].startswith(f"place_{task['product']}_")
        assert config["priority"] == {"value": 200}
        assert int(config["maxPixels"]["value"]) > 10**9
        assert config["workloadTag"].startswith("thawslump-place-")
        assert "scale" not in config and "crs" not in config  # they are in the expression
    stack = next(iter(tasks.asked.values()))
    text = _expression(stack)
    rows, cols = grid.shape
    for part in ('"Image.reproject"', '"EPSG:32633"', '"GeometryConstructors.Rectangle"'):
        assert part in text
    assert f"[0, 0, {cols}, {rows}]" in text
    if method == "asset":
        options = stack["assetExportOptions"]
        assert options["earthEngineDestination"]["name"].endswith(found["tasks"][0]["prefix"])
        assert options["pyramidingPolicy"] == "MEAN"
        assert "unmask" not in text.rpartition("Image.toFloat")[2]
        return
    options = stack["fileExportOptions"]
    tiff = options["geoTiffOptions"]
    assert tiff["cloudOptimized"] is True and tiff["noData"] == {"floatValue": -99999.0}
    assert tiff["tileSize"] == {"value": 256} and "tileDimensions" not in tiff
    where = options["driveDestination" if method == "drive" else "cloudStorageDestination"]
    assert where["filenamePrefix"] == found["tasks"][0]["prefix"]


def test_large_files_are_cut_at_a_multiple_of_the_shards(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_FILE_BYTES", 0)  # below the least there is: one shard
    monkeypatch.setattr(batch, "_SHARD", 16)
    tasks = Tasks(monkeypatch)
    batch.submit(a_batch(tmp_path, server[0]), "place")
    tiff = next(iter(tasks.asked.values()))["fileExportOptions"]["geoTiffOptions"]
    assert tiff["tileDimensions"] == {"width": 16, "height": 16}
    assert tiff["tileSize"] == {"value": 16}


def test_failed_tasks_are_started_again_and_others_are_not(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = Tasks(monkeypatch)
    workspace = a_batch(tmp_path, server[0])
    first = batch.submit(workspace, "place")
    names = [task["operation"] for task in first["tasks"]]
    tasks.states = {
        names[0]: {"state": "SUCCEEDED"},
        names[1]: {"state": "FAILED"},
        names[2]: {"state": "RUNNING"},
    }
    again = batch.submit(workspace, "place")
    assert len(tasks.asked) == 4
    assert [task["attempt"] for task in again["tasks"]] == [1, 2, 1]
    assert [task["prefix"] for task in again["tasks"]] == [t["prefix"] for t in first["tasks"]]
    assert again["tasks"][1]["operation"] not in names
    assert batch.submit(workspace, "place") == again
    # Forgotten and submitted anew, they are other tasks.
    batch.cancel(workspace, "place")
    batch.submit(workspace, "place")
    assert len(tasks.asked) == 7


def test_a_submission_that_was_cut_off_starts_nothing_twice(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = Tasks(monkeypatch)
    tasks.broken_at = 2
    workspace = a_batch(tmp_path, server[0])
    with pytest.raises(KeyboardInterrupt):
        batch.submit(workspace, "place")
    # Killed between the start of a task and the note of it.
    path = workspace.tiles("place") / batch.RECORD
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "tasks": kept["tasks"][:1]}))
    tasks.broken_at = None
    found = batch.submit(workspace, "place")
    assert len(tasks.asked) == 3
    assert sorted(task["operation"] for task in found["tasks"]) == sorted(tasks.asked)


def test_watching_ends_with_the_tasks_and_tells_the_time_left(
    server: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = Tasks(monkeypatch)
    workspace = a_batch(tmp_path, server[0])
    batch.submit(workspace, "place")
    running_ = {
        "state": "RUNNING",
        "progress": 0.25,
        "batchEecuUsageSeconds": 3.0,
        "startTime": "2024-05-01T10:00:00Z",
        "updateTime": "2024-05-01T10:01:00.5Z",
    }
    looks: list[float] = []

    def rest(seconds: float) -> None:
        looks.append(seconds)
        state = running_ if len(looks) < 3 else {"state": "SUCCEEDED", "batchEecuUsageSeconds": 9.0}
        tasks.states = dict.fromkeys(tasks.asked, state)

    monkeypatch.setattr(options.current, "json", False)
    batch.watch(workspace, ["place"], 7.0, _tasks, rest)
    assert looks == [7, 7, 7]
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(tmp_path), "export", "status", "--watch", "--every", "0"])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    assert "place stack: running, 25% done, about 3 min left, 3 EECU-seconds" in shown
    assert "place factors: succeeded, 9 EECU-seconds" in shown
    with pytest.raises(SystemExit):
        main(["--workspace", str(tmp_path), "export", "cost"])
    # Tasks count what they have used, not what they had used each time somebody looked.
    assert capsys.readouterr().out.count(": 9 EECU-seconds") == 3


def test_watching_cancels_at_the_budget(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = Tasks(monkeypatch)
    workspace = a_batch(tmp_path, server[0], eecu_budget=100.0)
    batch.submit(workspace, "place")
    used = [0.0]

    def rest(seconds: float) -> None:
        used[0] += 15
        state = {"state": "RUNNING", "batchEecuUsageSeconds": used[0]}
        tasks.states = dict.fromkeys(tasks.asked, state)

    told: list[Any] = []
    with pytest.raises(BudgetError, match=r"(?s)budget of 100 .*submit again"):
        batch.watch(workspace, ["place"], 30.0, told.append, rest)
    assert len(tasks.cancelled) == 3
    # Overshot by no more than what the tasks use between two looks.
    assert 100 <= 3 * used[0] < 100 + 3 * 15 + 1
    tasks.states = {name: {"state": "CANCELLED"} for name in tasks.asked}
    with pytest.raises(BudgetError):
        batch.submit(workspace, "place")


def test_assets_are_written_and_read_back(server: tuple[str, Path], tmp_path: Path) -> None:
    target = "projects/thawslump-local/assets/exports/deep"
    workspace = a_batch(tmp_path / "asset", server[0], method="asset", destination=target)
    first = batch.submit(workspace, "place")
    assert {row["state"] for row in finished(workspace)} == {"SUCCEEDED"}
    said: list[str] = []
    found = batch.collect(workspace, "place", None, lambda share, words: said.append(words))
    assert found["files"] == 3 and any("Mpx" in words for words in said)
    plain = a_workspace(tmp_path / "plain", None, backend={"kind": "emulator", "url": server[0]})
    exported(plain)
    for name in ("stack.tif", "context.tif", "factors.tif"):
        ours, theirs = (read(w.tiles("place") / name) for w in (workspace, plain))
        assert (ours.names, ours.grid) == (theirs.names, theirs.grid)
        np.testing.assert_array_equal(ours.array, theirs.array)
    # Forgotten, and submitted again: what is there is not made again.
    batch.cancel(workspace, "place")
    again = batch.submit(workspace, "place")
    assert [task["operation"] for task in again["tasks"]] == [None] * 3
    assert [task["prefix"] for task in again["tasks"]] == [t["prefix"] for t in first["tasks"]]
    assert {row["state"] for row in batch.status(workspace, ["place"])} == {"SUCCEEDED"}


def test_an_asset_on_another_grid_is_refused(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gee.exports import assets

    Tasks(monkeypatch)
    target = "projects/thawslump-local/assets/none"
    workspace = a_batch(tmp_path, server[0], method="asset", destination=target)
    batch.submit(workspace, "place")
    with pytest.raises(BackendError, match=r"(?s)has no asset .*place_stack.*export status"):
        batch.collect(workspace, "place", None, lambda share, words: None)
    grid = {"dimensions": {"width": 60, "height": 47}, "affineTransform": {}, "crsCode": "x"}
    bands = [{"id": name, "grid": grid} for name in ("wrong",)]
    monkeypatch.setattr(assets, "find", lambda name: {"bands": bands})
    with pytest.raises(DataError, match=r"has the bands wrong; stack has "):
        batch.collect(workspace, "place", None, lambda share, words: None)
    names = [{"id": name, "grid": grid} for name in given(workspace)]
    monkeypatch.setattr(assets, "find", lambda name: {"bands": names})
    with pytest.raises(DataError, match=r"another grid: 47 x 60 pixels"):
        batch.collect(workspace, "place", None, lambda share, words: None)


def given(workspace: Workspace) -> tuple[str, ...]:
    found = batch.record(workspace, "place")
    assert found is not None
    return tuple(found["survey"]["settled"]["bands"])


def test_files_without_a_folder_are_asked_for(done: tuple[Workspace, Path]) -> None:
    with pytest.raises(DataError, match=r"(?s)write files to tests.*fetch --from FOLDER"):
        batch.collect(done[0], "place", None, lambda share, words: None)


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
