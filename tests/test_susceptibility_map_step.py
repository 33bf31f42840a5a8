"""The map steps: parts that workers share, a kill in the middle, labels seen by windows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from susceptibility_world import run_steps, settings, world

from thawslump import raster
from thawslump.config import ExecutorConfig
from thawslump.executor import running
from thawslump.ledger import Ledger
from thawslump.pipeline import Driver
from thawslump.workspace import Workspace
from trainer.susceptibility import mapping, samples, table
from trainer.susceptibility.files import Files
from trainer.susceptibility.steps import plan_join, plan_map
from trainer.susceptibility.steps.map import Labels, cuts_of
from trainer.susceptibility.tally import Tally

SITES = {"east": "train", "north": "validation", "south": "test", "west": "area"}


class Silent:
    """Listens to nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


def ready(root: Path, **changes: Any) -> Workspace:
    """Return a workspace with all that comes before the map."""
    workspace = world(root)
    run_steps(workspace, until="susceptibility-compare")
    settings(workspace, **changes)
    return workspace


def step(workspace: Workspace, name: str, kind: str = "serial") -> Any:
    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        with running(ExecutorConfig(kind=kind, workers=2), lambda message: None) as executor:
            return Driver(workspace, ledger, executor, Silent()).run_step(name, 1)
    finally:
        ledger.close()


def held(workspace: Workspace, site: str) -> np.ndarray:
    with rasterio.open(Files(workspace, 1).probability(site)) as source:
        return source.read()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose maps are drawn at once; nothing changes it."""
    workspace = ready(tmp_path_factory.mktemp("whole"))
    assert plan_join(workspace, 1) == []
    step(workspace, "susceptibility-map")
    return workspace


def again(drawn: Workspace, root: Path, **changes: Any) -> Workspace:
    """Return the same workspace elsewhere, before its maps."""
    import shutil

    shutil.copytree(drawn.root, root, dirs_exist_ok=True)
    for folder in ("maps", "susceptibility/tallies"):
        shutil.rmtree(root / "rounds" / "1" / folder)
    drop = [path for path in root.glob("ledger*")]
    for path in drop:
        path.unlink()
    return opened(root, **changes)


def opened(root: Path, **changes: Any) -> Workspace:
    workspace = Workspace(root)
    workspace.__dict__["sites"] = {
        name: SimpleNamespace(role=role, made_up=True) for name, role in SITES.items()
    }
    settings(workspace, **changes)
    return workspace


def test_parts_make_the_same_map(drawn: Workspace, tmp_path: Path) -> None:
    "Cells, counts of cells, slumps and factor classes: nothing shows where it was cut"
    workspace = again(drawn, tmp_path, map_part=32)
    items = plan_map(workspace, 1)
    assert len(items) == 4 * 6 and items[0].name == "east r0-c0"
    assert json.loads(json.dumps(dict(items[0].settings))) == dict(items[0].settings)
    step(workspace, "susceptibility-map")
    outcome = step(workspace, "susceptibility-join")
    assert outcome.ran == tuple(SITES)
    for site in SITES:
        assert np.array_equal(held(workspace, site), held(drawn, site)), site
        one, other = (Tally.read(Files(each, 1).tally(site)) for each in (workspace, drawn))
        assert one.counts == other.counts
        for kind in ("area", "looked", "slumps"):
            assert np.array_equal(getattr(one, kind), getattr(other, kind)), (site, kind)
        for kind in ("of_factor", "looked_factor", "slumps_factor"):
            mine, theirs = getattr(one, kind), getattr(other, kind)
            assert list(mine) == list(theirs) == ["NDVI", "aspect", "elevation", "slope"]
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine), kind
    # Made once, it is left alone.
    assert step(workspace, "susceptibility-map").ran == ()
    assert step(workspace, "susceptibility-join").ran == ()


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from test_susceptibility_map_step import opened, step
from pathlib import Path
step(opened(Path(sys.argv[1]), map_part=32), "susceptibility-map", "processes")
"""


def test_a_killed_map_goes_on_where_it_was(drawn: Workspace, tmp_path: Path) -> None:
    "SIGKILL while worker processes draw parts: what was finished is not drawn again"
    workspace = again(drawn, tmp_path, map_part=32)
    items = plan_map(workspace, 1)
    parts = [item.outputs[0] for item in items]
    assert len(parts) == 4 * 6
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)],
        start_new_session=True,
    )
    until = time.monotonic() + 120
    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        while sum(path.exists() for path in parts) < 3:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # the workers die with their driver
        done = {
            item.name
            for item in items
            if (row := ledger.row(item.step, 1, item.name)) is not None and row.state == "done"
        }
    finally:
        ledger.close()
    assert 1 <= len(done) < len(items)
    before = {path: path.stat().st_mtime_ns for path in parts if path.exists()}
    outcome = step(workspace, "susceptibility-map")
    assert set(outcome.skipped) == done
    assert set(outcome.ran) == {item.name for item in items} - done
    kept = [item.outputs[0] for item in items if item.name in done]
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)
    step(workspace, "susceptibility-join")
    for site in SITES:
        assert np.array_equal(held(workspace, site), held(drawn, site)), site
    folder = Files(workspace, 1).folder / "parts"
    step(workspace, "susceptibility-map")
    assert not [path for path in folder.rglob(".*") if path.suffix == ".vrt"]


def test_each_model_says_whether_it_has_members(tmp_path: Path) -> None:
    workspace = ready(tmp_path, side_by_side=True)
    names = {item.name for item in plan_map(workspace, 1)}
    chosen = json.loads(Files(workspace, 1).comparison.read_text())["map_model"]
    other = {"logistic": "forest", "forest": "logistic"}[chosen]
    assert names == {*SITES, *(f"{site} by {other}" for site in SITES)}
    step(workspace, "susceptibility-map")
    files = Files(workspace, 1)
    paths = {chosen: files.probability("west"), other: files.probability("west", other)}
    with rasterio.open(paths["forest"]) as source:
        assert source.tags(2)["meaning"].startswith("standard deviation of what the members")
        assert source.tags()["model"] == "forest" and source.tags()["made_up"] == "true"
        _, spread, outside = source.read()
        assert 0 < spread[spread != mapping.NODATA].max() <= 5000
        assert set(np.unique(outside)) == {0, 1, mapping.NODATA}
    with rasterio.open(paths["logistic"]) as source:
        assert source.tags(2)["meaning"].startswith("nodata: the model has no members")
        assert (source.read(2) == mapping.NODATA).all()
    # Only the map that is classed is counted by factor.
    assert Tally.read(files.tally("west", other)).of_factor == {}


def test_a_cell_is_nodata_only_where_all_factors_are_missing(drawn: Workspace) -> None:
    "Filled cells have a probability and lie outside of what the model learned from"
    probability, _, outside = held(drawn, "west")
    counts = Tally.read(Files(drawn, 1).tally("west")).counts
    assert probability[-1, -1] == mapping.NODATA and (probability == mapping.NODATA).sum() == 1
    assert counts["filled"] == 16 and counts["valid"] == 60 * 80 - 1
    assert (outside[:4, :4] == 1).all() and counts["outside"] == int((outside == 1).sum())


@pytest.mark.parametrize("shift", [0.0, 10.0, -300.0])
def test_labels_by_windows_are_those_of_the_whole(tmp_path: Path, shift: float) -> None:
    "Slumps on edges of windows, too small for half a cell, and ground not looked at"
    dice = np.random.default_rng(0)
    marks = np.zeros((180, 240), np.uint8)
    for row, column, size in zip(
        dice.integers(0, 170, 40), dice.integers(0, 230, 40), dice.integers(1, 12, 40), strict=True
    ):
        marks[row : row + size, column : column + size] = 1
    marks[:20, 100:] = 255
    cells = Affine(30, 0, 500_000, 0, -30, 8_000_000)
    fine = Affine(10, 0, 500_000 + shift, 0, -10, 8_000_000 - shift)
    grid = GeoBox((60, 80), cells, "EPSG:32652")
    raster.write_cog(
        tmp_path / "labels.tif", marks[None], GeoBox((180, 240), fine, "EPSG:32652"), ("label",),
        nodata=None, categorical=True,
    )  # fmt: skip
    counts = samples.count_labels(marks, fine, (60, 80), cells)
    slumps = np.zeros(60 * 80, bool)
    found = samples.slump_cells(samples.runs_of(marks == 1), fine, (60, 80), cells)
    slumps[found.cells] = True
    looked = (counts.slump + counts.clear) > 0
    assert slumps.sum() > 40
    labels = Labels(tmp_path / "labels.tif", grid)
    for size in (17, 32, 500):
        seen, hit = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
        for window in mapping.windows(60, 80, size):
            at = window.toslices()
            seen[at], hit[at] = labels(window)
        assert np.array_equal(hit, slumps.reshape(60, 80)), size
        assert np.array_equal(seen, looked | hit), size


def test_labels_that_do_not_reach_a_window_say_nothing(tmp_path: Path) -> None:
    fine = GeoBox((30, 30), Affine(10, 0, 600_000, 0, -10, 8_000_000), "EPSG:32652")
    raster.write_cog(
        tmp_path / "labels.tif", np.ones((1, 30, 30), np.uint8), fine, ("label",), nodata=None
    )
    cells = GeoBox((60, 80), Affine(30, 0, 500_000, 0, -30, 8_000_000), "EPSG:32652")
    looked, slumps = Labels(tmp_path / "labels.tif", cells)(Window(0, 0, 80, 60))
    assert not looked.any() and not slumps.any()


def test_factors_are_cut_as_the_samples_say(drawn: Workspace) -> None:
    "ChiMerge on the samples; classes of their own for class factors; none for a constant one"
    from dataclasses import replace

    from trainer.susceptibility.selection import chimerge

    told = table.read(Files(drawn, 1).samples)
    rock = np.where(told.factors["NDVI"] > 0.5, 2, 7).astype(np.float32)
    flat = np.full_like(rock, 3.0)
    other = replace(
        told,
        factors={"slope": told.factors["slope"], "rock": rock, "flat": flat},
        classes={"rock": (2, 7)},
    )
    slope, by_number, one = cuts_of(other, 6, 0.05)
    assert slope.limits == chimerge(told.factors["slope"], told.labels, 6, 0.05)
    assert 1 <= len(slope.limits) <= 5
    assert by_number.numbers == (2, 7) and by_number.words == ("2", "7", "missing")
    assert one.words == ("all", "missing")
