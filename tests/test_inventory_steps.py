"""The inventory's part of the chain on a painted workspace: plans, work, kills, rounds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from inventory_world import make_world, work_out
from odc.geo.geobox import GeoBox

from inventory.iterate import ROUND_STEPS, iterate
from inventory.statistics import summary
from inventory.steps import plan_candidates, plan_import, plan_labels, plan_review
from inventory.store import Inventory, canonical_dump
from inventory.work import export_slumps
from thawslump.errors import ConfigError, DataError
from thawslump.pipeline import Outcome, Waiting, key_of
from thawslump.raster import grid_of, read, write_cog
from thawslump.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 slumps and 6 outlines that are none, all in the map of round 1."""
    root = tmp_path_factory.mktemp("painted") / "world"
    make_world(root, slumps=20, false=6, shape=(240, 300), reviewer="scripted")
    return root


@pytest.fixture
def world(painted: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(painted, tmp_path / "world")
    return Workspace(tmp_path / "world")


def add_site(world: Workspace, frame: geopandas.GeoDataFrame, role: str = "train") -> None:
    """Give the world a site on the same ground, with outlines."""
    area = (world.root / "areas" / "hills.yaml").read_text()
    (world.root / "sites").mkdir(exist_ok=True)
    (world.root / "sites" / "known.yaml").write_text(
        area.replace("hills", "known").replace("role: area", f"role: {role}")
        + "outlines: known.gpkg\n"
    )
    frame.to_file(world.root / "known.gpkg", engine="pyogrio")
    shutil.copytree(world.tiles("hills"), world.tiles("known"))


def truth(world: Workspace) -> geopandas.GeoDataFrame:
    return geopandas.read_file(world.truth / "slumps.gpkg")


def test_candidates_are_the_outlines_of_the_map(world: Workspace) -> None:
    """Every painted outline is found once, ranked by score, in the file and in the inventory."""
    facts = work_out(world, "candidates")["outlines"]
    assert (facts["candidates"], facts["known"]) == (26, 0)
    inventory = Inventory(world.inventory)
    kept = inventory.candidates(1)
    assert [c.rank for c in kept] == list(range(1, 27))
    scores = [c.score for c in kept]
    assert scores == sorted(scores, reverse=True)
    frame = geopandas.read_file(world.round(1) / "candidates.geojson")
    assert frame["id"].tolist() == [c.candidate_id for c in kept]
    assert all(a.equals(b.geometry) for a, b in zip(frame.geometry, kept, strict=True))
    painted = truth(world).to_crs("EPSG:4326").geometry
    near = shapely.STRtree(frame.geometry.values).query(painted.values, predicate="intersects")
    assert len(set(near[0])) == 20
    ratio = np.array([c.area_m2 for c in kept]) / frame.to_crs("EPSG:32652").area.to_numpy()
    np.testing.assert_allclose(ratio, 1 / 0.9996**2, rtol=2e-3)


def test_candidates_again_are_equal_to_the_byte(world: Workspace) -> None:
    work_out(world, "candidates")
    first = (world.round(1) / "candidates.geojson").read_bytes()
    dump = canonical_dump(world.inventory)
    work_out(world, "candidates")
    assert (world.round(1) / "candidates.geojson").read_bytes() == first
    assert canonical_dump(world.inventory) == dump


def test_a_map_read_in_strips_gives_the_same_candidates(
    world: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by the strip; names, order and attributes do not depend on it."""
    work_out(world, "candidates")
    whole = json.loads((world.round(1) / "candidates.geojson").read_text())
    monkeypatch.setattr("inventory.work._STRIP", 1)
    work_out(world, "candidates")
    assert json.loads((world.round(1) / "candidates.geojson").read_text()) == whole


def test_known_and_rejected_places_are_not_asked_again(world: Workspace) -> None:
    """The map of round 2 shows the same: accepted, imported and rejected ones stay away."""
    work_out(world, "candidates")
    work_out(world, "review")
    shutil.copytree(world.round(1) / "maps", world.round(2) / "maps")
    shutil.copytree(world.round(1) / "models", world.round(2) / "models")
    facts = work_out(world, "candidates", 2)["outlines"]
    assert (facts["candidates"], facts["known"]) == (0, 26)
    assert json.loads((world.round(2) / "candidates.geojson").read_text())["features"] == []


def test_the_scripted_reviewer_is_called_scripted_and_errs_as_told(world: Workspace) -> None:
    work_out(world, "candidates")
    facts = work_out(world, "review")["scripted"]
    inventory = Inventory(world.inventory)
    assert inventory.counts(1) == {"accepted": facts["accepted"], "rejected": facts["rejected"]}
    assert {(d.kind, d.reviewer) for d in inventory.decisions()} == {("scripted", "scripted")}
    assert facts["true_slumps"] == 20
    right = {c.candidate_id for c in inventory.candidates(1, state="accepted")}
    frame = truth(world).to_crs("EPSG:4326")
    true = {
        c.candidate_id
        for c in inventory.candidates(1)
        if frame.intersects(c.geometry.representative_point()).any()
    }
    assert len(right ^ true) == facts["erred"]
    assert inventory.slumps()["kind"].unique().tolist() == ["scripted"]
    assert "accepted by the scripted reviewer" in summary(world.inventory)[0]
    assert "(made up)" in summary(world.inventory)[0]


_REVIEW = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from inventory_world import work_out
from thawslump.workspace import Workspace
print("begun", flush=True)
work_out(Workspace(Path(sys.argv[1])), "review")
"""


def test_review_killed_and_started_again_ends_the_same(world: Workspace, tmp_path: Path) -> None:
    work_out(world, "candidates")
    other = Workspace(tmp_path / "other")
    shutil.copytree(world.root, other.root)
    work_out(world, "review")
    kills = 0
    for wait in (0.0, 0.05, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-c", _REVIEW, str(other.root)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        before = len(Inventory(other.inventory).decisions())
        while process.poll() is None:
            if len(Inventory(other.inventory).decisions()) > before:
                time.sleep(wait)
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
        process.wait()
        process.stdout.close()
        if not Inventory(other.inventory).open_candidates(1):
            break
    assert kills >= 1
    work_out(other, "review")
    assert canonical_dump(other.inventory) == canonical_dump(world.inventory)
    assert (other.round(1) / "review.json").read_bytes() == (
        world.round(1) / "review.json"
    ).read_bytes()


def test_people_are_waited_for(world: Workspace) -> None:
    path = world.root / "thawslump.yaml"
    path.write_text(path.read_text().replace("reviewer: scripted", "reviewer: people"))
    people = Workspace(world.root)
    work_out(people, "candidates")
    waiting = plan_review(people, 1)
    assert isinstance(waiting, Waiting)
    assert waiting.count == 26
    assert "26 of 26 candidates of round 1 wait" in waiting.message
    assert "thawslump review" in waiting.message
    inventory = Inventory(people.inventory)
    for c in inventory.candidates(1):
        inventory.decide(c.candidate_id, "reject", "Ada")
    assert plan_review(people, 1) == []


def test_a_scripted_reviewer_without_truth_is_refused(world: Workspace) -> None:
    work_out(world, "candidates")
    shutil.rmtree(world.truth)
    with pytest.raises(ConfigError, match="made-up data only"):
        plan_review(world, 1)


def test_labels_of_sites_and_areas(world: Workspace) -> None:
    """Sites are looked at whole; an area joins once something in it was decided."""
    add_site(world, truth(world).iloc[:7])
    assert work_out(world, "import")["known"] == {"outlines": 7, "changed": 7}
    assert set(work_out(world, "labels", 1)) == {"known"}
    labels = read(world.labels(1, "known"))
    assert labels.grid == grid_of(world.stack("known"))
    assert set(np.unique(labels.array)) == {0, 1}
    work_out(world, "candidates")
    assert len(Inventory(world.inventory).candidates(1)) == 19, "imported ones are not asked"
    work_out(world, "review")
    facts = work_out(world, "labels", 2)
    assert set(facts) == {"hills", "known"}
    area = read(world.labels(2, "hills")).array[0]
    assert set(np.unique(area)) == {0, 1, 255}
    assert (area == 255).mean() > 0.5
    with rasterio.open(world.labels(2, "hills")) as source:
        assert source.nodata == 255
        assert source.tags()["made_up"] == "true"


def test_plans_do_not_change_by_being_carried_out(world: Workspace) -> None:
    """The key of an item is the same before and after: a second run finds nothing to do."""
    add_site(world, truth(world).iloc[:7])
    plans = {"import": plan_import, "labels": plan_labels, "candidates": plan_candidates}
    for step, plan in plans.items():
        before = [key_of(i, {}) for i in plan(world, 1)]
        work_out(world, step)
        assert [key_of(i, {}) for i in plan(world, 1)] == before
    first = plan_review(world, 1)
    assert isinstance(first, list)
    work_out(world, "review")
    for step, plan in {**plans, "review": plan_review}.items():
        items = plan(world, 1)
        assert isinstance(items, list)
        wanted = [key_of(i, {}) for i in (first if step == "review" else items)]
        assert [key_of(i, {}) for i in items] == wanted
    assert [key_of(i, {}) for i in plan_labels(world, 1)] == [
        key_of(i, {}) for i in plan_labels(world, 1)
    ]


def test_an_undone_decision_asks_for_the_work_that_depends_on_it(world: Workspace) -> None:
    work_out(world, "candidates")
    work_out(world, "review")
    before = [key_of(i, {}) for i in plan_labels(world, 2)]
    first = [key_of(i, {}) for i in plan_labels(world, 1)]
    Inventory(world.inventory).undo("scripted", kind="scripted")
    assert [key_of(i, {}) for i in plan_labels(world, 2)] != before
    assert [key_of(i, {}) for i in plan_labels(world, 1)] == first
    plan = plan_review(world, 1)
    assert isinstance(plan, list) and "again" in plan[0].settings


def test_an_inventory_put_away_is_filled_again(world: Workspace) -> None:
    add_site(world, truth(world).iloc[:7])
    for step in ("import", "candidates"):
        work_out(world, step)
    world.inventory.unlink()
    assert plan_import(world, 0)[0].settings["again"]
    assert plan_candidates(world, 1)[0].settings["again"]


def test_labels_that_miss_the_tile(world: Workspace) -> None:
    """The site's bounds hold the outlines, its raster lies elsewhere: both places are named."""
    add_site(world, truth(world).iloc[:2])
    work_out(world, "import")
    tile = read(world.stack("known"))
    transform = Affine.translation(0, -50_000) @ tile.grid.transform
    moved = GeoBox(tile.grid.shape, transform, tile.grid.crs)
    write_cog(world.stack("known"), tile.array, moved, tile.names, nodata=tile.nodata)
    with pytest.raises(
        DataError, match=r"the labels miss the tile\. The 2 outlines span .* E, .* N"
    ):
        work_out(world, "labels", 1)


def test_outlines_that_miss_the_site(world: Workspace) -> None:
    frame = truth(world).iloc[:2]
    add_site(world, frame.set_geometry(frame.translate(200_000, 0)))
    with pytest.raises(DataError, match="none of its 2 outlines lies on the site known"):
        work_out(world, "import")


def test_no_positive_pixel(world: Workspace) -> None:
    """An outline between four pixel centres labels nothing; that is said, not trained on."""
    box = shapely.box(500_998, 7_968_998, 501_002, 7_969_002)
    add_site(world, geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32652"))
    work_out(world, "import")
    with pytest.raises(DataError, match=r"no positive pixel\. 1 outlines touch the tile"):
        work_out(world, "labels", 1)


def test_a_map_without_a_threshold_is_refused(world: Workspace) -> None:
    (world.models(1) / "ensemble" / "metrics.json").write_text("{}")
    with pytest.raises(DataError, match='no "threshold" between 0 and 1'):
        work_out(world, "candidates")


def test_a_map_without_data_is_refused(world: Workspace) -> None:
    path = world.maps(1) / "hills.tif"
    old = read(path)
    write_cog(path, np.full_like(old.array, 65535), old.grid, old.names, nodata=65535)
    with pytest.raises(DataError, match="every pixel is nodata"):
        work_out(world, "candidates")


def test_areas_that_were_not_mapped_are_left_out(world: Workspace) -> None:
    """`--site` maps one area: the others have no map and no candidates yet."""
    text = (world.root / "areas" / "hills.yaml").read_text()
    (world.root / "areas" / "plains.yaml").write_text(text.replace("name: hills", "name: plains"))
    assert plan_candidates(Workspace(world.root), 1)[0].settings["areas"] == ["hills"]


class Driver:
    """Stands for the pipeline's driver; candidates are accepted as each round says."""

    def __init__(self, world: Workspace, accepted: dict[int, int], wait: int = 0) -> None:
        self.workspace = world
        self.accepted, self.wait = accepted, wait
        self.calls: list[tuple[str, int]] = []

    def run_step(self, name: str, round: int = 0) -> Outcome:
        self.calls.append((name, round))
        if name == "candidates" and round not in Inventory(self.workspace.inventory).rounds():
            if round > 1:
                shutil.copytree(self.workspace.round(1) / "models", self.workspace.models(round))
                shutil.copytree(self.workspace.maps(1), self.workspace.maps(round))
            work_out(self.workspace, "candidates", round)
        if name == "review":
            if round == self.wait:
                return Outcome(name, round, waiting=Waiting(3, "3 wait"))
            inventory = Inventory(self.workspace.inventory)
            for number, c in enumerate(inventory.candidates(round)):
                word = "accept" if number < self.accepted.get(round, 0) else "unsure"
                inventory.decide(c.candidate_id, word, "Ada", request=f"{round}-{c.candidate_id}")
        return Outcome(name, round)


def test_rounds_end_where_nothing_new_is_accepted(world: Workspace) -> None:
    driver = Driver(world, {1: 0})
    assert iterate(driver) is None  # type: ignore[arg-type]
    assert driver.calls == [(name, 1) for name in ROUND_STEPS]
    row = Inventory(world.inventory).iterations()[0]
    assert (row["candidates"], row["accepted"], row["unsure"]) == (26, 0, 26)
    assert row["outcome"] == "ended: no candidate was accepted"


def test_rounds_go_on_while_slumps_are_added(world: Workspace) -> None:
    driver = Driver(world, {1: 4})
    assert iterate(driver) is None  # type: ignore[arg-type]
    assert driver.calls == [(name, n) for n in (1, 2) for name in ROUND_STEPS]
    rows = Inventory(world.inventory).iterations()
    assert [r["outcome"] for r in rows] == [
        "went on: slumps were added", "ended: no candidates were found"
    ]  # fmt: skip
    assert [r["slumps"] for r in rows] == [4, 4]


def test_rounds_stop_where_people_are_waited_for(world: Workspace) -> None:
    waiting = iterate(Driver(world, {1: 4}, wait=1))  # type: ignore[arg-type]
    assert waiting is not None and waiting.count == 3
    assert Inventory(world.inventory).iterations() == []


@pytest.mark.parametrize("name", ["slumps.geojson", "slumps.parquet", "slumps.gpkg"])
def test_exports_are_read_by_geopandas(world: Workspace, tmp_path: Path, name: str) -> None:
    work_out(world, "candidates")
    work_out(world, "review")
    number = export_slumps(world.inventory, tmp_path / name)
    read_back = geopandas.read_parquet if name.endswith("parquet") else geopandas.read_file
    frame = read_back(tmp_path / name)
    assert len(frame) == number > 0
    assert frame.crs == "EPSG:4326"
    assert frame["made_up"].all()


def test_export_says_which_endings_it_knows(world: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"ends in .xlsx"):
        export_slumps(world.inventory, Path("slumps.xlsx"))


def test_items_travel_to_worker_processes(world: Workspace) -> None:
    """Settings are JSON values, targets importable names, outputs inside the workspace."""
    add_site(world, truth(world).iloc[:2])
    work_out(world, "import")
    work_out(world, "candidates")
    for plan in (plan_import, plan_labels, plan_candidates, plan_review):
        items = plan(world, 1)
        assert isinstance(items, list) and items
        for item in items:
            assert json.loads(json.dumps(item.settings)) == item.settings
            assert all(path.is_relative_to(world.root) for path in item.outputs)
