"""The inventory: what is acknowledged is on the disk; states follow from decisions."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory.records import (
    DECISIONS,
    Candidate,
    DecisionConflict,
    areas,
    canonical_geometry,
    stable_id,
)
from inventory.store import Inventory, canonical_dump
from thawslump.errors import BusyError, DataError, StorageError

ROOT = Path(__file__).resolve().parents[1]


def candidate(i: int, round: int = 1, site: str = "hills") -> Candidate:
    shape = canonical_geometry(shapely.box(129 + i * 0.01, 71.8, 129.005 + i * 0.01, 71.802))
    return Candidate(
        candidate_id=stable_id(round, site, shape),
        round=round,
        site=site,
        rank=i + 1,
        geometry=shape,
        probability_mean=0.7,
        probability_max=0.9,
        disagreement=0.1,
        filled=0.0,
        area_m2=areas([shape])[0],
        score=0.5,
        made_up=True,
    )


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    made = Inventory(tmp_path / "inventory.gpkg")
    made.add_candidates(1, "hills", [candidate(i) for i in range(5)])
    return made


def ids(inventory: Inventory) -> list[str]:
    return [c.candidate_id for c in inventory.candidates(1)]


def test_gdal_reads_every_layer(inventory: Inventory) -> None:
    """QGIS opens GeoPackages through GDAL: layers, CRS, types and counts are what it sees."""
    first = ids(inventory)[0]
    inventory.decide(first, "accept", "Ada")
    layers = {str(name): kind for name, kind in pyogrio.list_layers(inventory.path)}
    assert set(layers) == {"slumps", "candidates", "decisions", "iterations"}
    assert layers["slumps"] == "MultiPolygon"
    slumps = geopandas.read_file(inventory.path, layer="slumps")
    assert slumps.crs == "EPSG:4326"
    assert slumps["slump_id"].tolist() == [first]
    assert str(slumps["made_up"].dtype) == "bool"
    assert slumps["added"].dt.tz is not None
    info = pyogrio.read_info(inventory.path, layer="candidates")
    np.testing.assert_allclose(info["total_bounds"], (129.0, 71.8, 129.045, 71.802), atol=1e-9)


def test_a_change_made_in_another_program_counts(inventory: Inventory) -> None:
    """A slump drawn in QGIS (here: appended by GDAL) enters the digest and is read back."""
    before = inventory.digest("hills")
    row = geopandas.GeoDataFrame(
        {
            "slump_id": ["drawn"], "site": ["hills"], "round": [0], "source": ["drawn"],
            "kind": ["import"], "reviewer": ["Ada"], "area_m2": [1.0], "made_up": [False],
            "added": [np.datetime64("2024-01-01T00:00:00", "ms")],
        },
        geometry=[shapely.MultiPolygon([shapely.box(129, 71, 129.01, 71.01)])],
        crs="EPSG:4326",
    )  # fmt: skip
    row.to_file(inventory.path, layer="slumps", mode="a", engine="pyogrio")
    assert inventory.slumps("hills")["slump_id"].tolist() == ["drawn"]
    assert inventory.digest("hills") != before
    inventory.decide(ids(inventory)[0], "accept", "Ada")
    assert len(inventory.slumps("hills")) == 2


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 4), st.sampled_from(sorted(DECISIONS)), st.sampled_from("AB")),
            st.tuples(st.just("undo"), st.sampled_from("AB")),
        ),
        max_size=14,
    )
)
def test_states_follow_from_decisions_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[object, ...]]
) -> None:
    """Against a model in a few lines: a stack of standing decisions, undo drops one's own last."""
    inventory = Inventory(tmp_path_factory.mktemp("i") / "inventory.gpkg")
    inventory.add_candidates(1, "hills", [candidate(i) for i in range(5)])
    names = ids(inventory)
    standing: list[tuple[int, str, str]] = []
    written = 0
    for move in moves:
        if move[0] == "undo":
            mine = [d for d in standing if d[2] == move[1]]
            undone = inventory.undo(str(move[1]))
            assert (undone is None) == (not mine)
            if mine:
                assert undone is not None and undone.candidate_id == names[mine[-1][0]]
                standing.reverse()
                standing.remove(mine[-1])
                standing.reverse()
                written += 1
        else:
            i, decision, reviewer = move
            inventory.decide(names[i], str(decision), str(reviewer))  # type: ignore[index]
            standing.append((i, decision, reviewer))  # type: ignore[arg-type]
            written += 1
    expected = {name: "open" for name in names}
    for i, decision, _ in standing:
        expected[names[i]] = DECISIONS[decision]
    assert {c.candidate_id: c.state for c in inventory.candidates(1)} == expected
    accepted = {name for name, state in expected.items() if state == "accepted"}
    assert set(inventory.slumps()["slump_id"]) == accepted
    assert len(inventory.decisions()) == written
    assert inventory.problems() == []


def test_decisions_are_only_ever_added(inventory: Inventory) -> None:
    """Undo is a row of its own that names what it takes back."""
    first = ids(inventory)[0]
    made = inventory.decide(first, "accept", "Ada", note="fresh scar", seconds=2.5)
    inventory.undo("Ada")
    rows = inventory.decisions()
    assert [r.decision for r in rows] == ["accept", "undo"]
    assert rows[1].undoes == made.number
    assert (rows[0].note, rows[0].seconds, rows[0].kind) == ("fresh scar", 2.5, "people")
    assert inventory.standing(first) is None


def test_the_same_request_twice_is_one_decision(inventory: Inventory) -> None:
    """The answer was lost on the way, so the page sends again: nothing happens twice."""
    first, second = ids(inventory)[:2]
    once = inventory.decide(first, "accept", "Ada", request="request-1")
    again = inventory.decide(first, "accept", "Ada", request="request-1", expected="open")
    assert once == again
    inventory.decide(second, "reject", "Ada", request="request-2")
    a = inventory.undo("Ada", request="request-3")
    b = inventory.undo("Ada", request="request-3")
    assert a == b and a is not None and a.candidate_id == second
    assert inventory.candidate(first).state == "accepted"
    assert len(inventory.decisions()) == 3


def test_two_reviewers_do_not_overrule_each_other_unseen(inventory: Inventory) -> None:
    first = ids(inventory)[0]
    inventory.decide(first, "accept", "Ada", expected="open")
    with pytest.raises(DecisionConflict, match="accepted by now; it was open"):
        inventory.decide(first, "reject", "Ben", expected="open")
    inventory.decide(first, "reject", "Ben", expected="accepted")
    assert inventory.candidate(first).state == "rejected"


def test_a_corrected_outline_becomes_the_slump(inventory: Inventory) -> None:
    first = inventory.candidates(1)[0]
    drawn = shapely.box(129.001, 71.8, 129.004, 71.801)
    made = inventory.decide(first.candidate_id, "accept", "Ada", geometry=drawn)
    assert made.edited
    slump = inventory.slumps().iloc[0]
    assert slump.geometry.equals(canonical_geometry(drawn))
    assert slump["area_m2"] < first.area_m2
    same = inventory.decide(first.candidate_id, "accept", "Ada", geometry=first.geometry)
    assert not same.edited


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", "accept", "Ada"), "There is no candidate 'nobody'"),
        ((0, "maybe", "Ada"), "'maybe' is no decision"),
        ((0, "accept", " "), "needs the reviewer's name"),
        ((0, "accept", "Scripted"), "kept for the scripted reviewer"),
    ],
)
def test_wrong_decisions_are_refused_in_words(
    inventory: Inventory, arguments: tuple[object, str, str], words: str
) -> None:
    name = ids(inventory)[0] if arguments[0] == 0 else str(arguments[0])
    with pytest.raises(DataError, match=words):
        inventory.decide(name, arguments[1], arguments[2])
    assert inventory.decisions() == []


def test_candidates_enter_once_and_decided_ones_stay(inventory: Inventory) -> None:
    """A round computed anew drops what nobody decided, never what somebody did."""
    assert inventory.add_candidates(1, "hills", [candidate(i) for i in range(5)]) == 0
    kept = ids(inventory)[1]
    inventory.decide(kept, "accept", "Ada")
    assert inventory.add_candidates(1, "hills", [candidate(i) for i in (0, 7)]) == 4
    assert {c.candidate_id: c.state for c in inventory.candidates(1)} == {
        candidate(0).candidate_id: "open",
        kept: "accepted",
        candidate(7).candidate_id: "open",
    }
    assert inventory.problems() == []


def test_outlines_are_imported_once_and_replaced(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path / "inventory.gpkg")
    frame = geopandas.GeoDataFrame(
        geometry=[shapely.box(500_000, 7_960_000, 500_100, 7_960_100).buffer(0)], crs="EPSG:32652"
    )
    assert inventory.import_outlines("hills", frame, source="a.gpkg", made_up=True) == 1
    assert inventory.import_outlines("hills", frame, source="a.gpkg", made_up=True) == 0
    area = inventory.slumps()["area_m2"].iloc[0]
    # UTM scale at the central meridian is 0.9996: areas on the ground are larger.
    assert area == pytest.approx(10_000 / 0.9996**2, rel=1e-4)
    frame = frame.set_geometry(frame.translate(500, 0))
    assert inventory.import_outlines("hills", frame, source="a.gpkg") == 2
    assert [d.decision for d in inventory.decisions()] == ["import", "import"]
    assert [d.kind for d in inventory.decisions()] == ["import", "import"]


def test_areas_leave_holes_out() -> None:
    """Against the difference of two boxes computed alone."""
    outer, inner = shapely.box(10, 60, 10.01, 60.01), shapely.box(10.002, 60.002, 10.004, 60.004)
    holed = canonical_geometry(outer.difference(inner))
    whole, hole = areas([canonical_geometry(outer), canonical_geometry(inner)])
    assert areas([holed])[0] == pytest.approx(whole - hole, rel=1e-9)


def test_digest_knows_the_round_and_nothing_of_times(tmp_path: Path) -> None:
    """Later decisions leave the digest of an earlier round alone; equal inventories agree."""
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        inventory = Inventory(tmp_path / name / "inventory.gpkg")
        inventory.add_candidates(1, "hills", [candidate(i) for i in range(3)])
        start = inventory.digest("hills", before=2)
        inventory.decide(ids(inventory)[0], "accept", "Ada")
        first = inventory.digest("hills", before=2)
        assert first != start
        assert inventory.digest("hills", before=1) == inventory.digest("plains")
        inventory.add_candidates(2, "hills", [candidate(9, round=2)])
        inventory.decide(candidate(9, round=2).candidate_id, "reject", "Ada")
        assert inventory.digest("hills", before=2) == first
        assert inventory.digest("hills", before=3) != first
        inventory.record_iteration(1, "ended")
        made.append(inventory)
        time.sleep(0.01)
    assert made[0].digest() == made[1].digest()
    assert canonical_dump(made[0].path) == canonical_dump(made[1].path)
    made[1].undo("Ada")
    assert canonical_dump(made[0].path) != canonical_dump(made[1].path)


def test_recording_an_iteration_again_writes_nothing(inventory: Inventory) -> None:
    inventory.record_iteration(1, "ended")
    before = inventory.path.read_bytes()
    inventory.record_iteration(1, "ended")
    assert inventory.path.read_bytes() == before


_WRITER = """
import sys
from pathlib import Path
from inventory.store import Inventory
inventory = Inventory(Path(sys.argv[1]))
names = [c.candidate_id for c in inventory.candidates(1)]
number = 0
while True:
    name = names[number % len(names)]
    word = ("accept", "reject")[number // len(names) % 2]
    inventory.decide(name, word, "Ada", request=f"r-{number:06}")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_killed_at_any_moment_nothing_acknowledged_is_lost(
    inventory: Inventory, seconds: float
) -> None:
    """SIGKILL while it writes: every acknowledged decision is there, at most one more, in order."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(inventory.path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    acknowledged = int(rest.split()[-1]) + 1 if rest.split() else 1
    rows = inventory.decisions()
    assert len(rows) in (acknowledged, acknowledged + 1)
    assert [r.request for r in rows] == [f"r-{n:06}" for n in range(len(rows))]
    assert inventory.problems() == []
    with sqlite3.connect(inventory.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


def _decide_some(path: Path, reviewer: str) -> None:
    inventory = Inventory(path)
    for c in inventory.candidates(1):
        inventory.decide(c.candidate_id, "accept", reviewer)


def test_two_processes_write_at_the_same_time(inventory: Inventory) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_decide_some, args=(inventory.path, n)) for n in ("A", "B")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
        worker.close()
    assert len(inventory.decisions()) == 10
    assert inventory.problems() == []


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "inventory.gpkg"
    path.write_bytes(b"not a database at all, but long enough to have a header" * 20)
    before = path.read_bytes()
    with pytest.raises(DataError, match="no GeoPackage"):
        Inventory(path)
    assert path.read_bytes() == before
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(
        tmp_path / "other.gpkg", engine="pyogrio"
    )
    with pytest.raises(DataError, match="not an inventory of this program"):
        Inventory(tmp_path / "other.gpkg")


def test_a_lock_held_by_another_program_is_said(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inventory.store._PATIENCE", 0.05)
    holder = sqlite3.connect(inventory.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(BusyError, match="locked by another program"):
            inventory.decide("x", "accept", "Ada")
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (shapely.Point(0, 0), "a Point"),
        (shapely.Polygon(), "empty"),
        (shapely.box(500_000, 0, 500_010, 10), "longitude and latitude"),
        (shapely.box(0, 0, 1e-9, 1e-9), "no area"),
    ],
)
def test_outlines_that_are_none(geometry: shapely.Geometry, words: str) -> None:
    with pytest.raises(DataError, match=words):
        canonical_geometry(geometry)


def test_a_full_disk_is_said_and_the_old_rows_stay(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own limit of pages stands for the disk: the transaction goes, the file stays."""
    connect = sqlite3.connect

    def small(*arguments: object, **options: object) -> sqlite3.Connection:
        db = connect(*arguments, **options)  # type: ignore[call-overload]
        db.execute("PRAGMA max_page_count = 1")
        return db

    names = ids(inventory)
    inventory.decide(names[0], "accept", "Ada")
    before = canonical_dump(inventory.path)
    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StorageError, match="The disk is full"):
        for _ in range(200):
            inventory.decide(names[1], "reject", "Ada", note="x" * 2000)
    monkeypatch.undo()
    assert canonical_dump(inventory.path).startswith(before[:100])
    assert inventory.problems() == []
    assert inventory.candidate(names[0]).state == "accepted"
