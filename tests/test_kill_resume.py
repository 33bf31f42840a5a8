"""Killed at any moment and started again, the chain ends with the same inventory."""

from __future__ import annotations

import importlib
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("kill_resume")
    finally:
        sys.path.remove(str(FOLDER))


def test_every_step_gets_a_kill(bench: ModuleType) -> None:
    "Each step of each round once; the others where the time goes; inside the step"
    spans = [
        bench.Span("export", 0, 2.0, 12.0),
        bench.Span("train", 1, 12.0, 112.0),
        bench.Span("train", 2, 113.0, 113.0),
    ]
    found = bench.moments(spans, 20, random.Random(0))
    assert len(found) == 20
    places = [moment.place for moment in found]
    assert set(places) == {span.place for span in spans}
    assert places.count(("train", 1)) > 10
    assert places == sorted(places, key=[span.place for span in spans].index)
    assert all(0 <= moment.delay <= 100 for moment in found)
    assert len(bench.moments(spans, 1, random.Random(0), only=["train"])) == 2


def test_spans_come_from_the_ledger(bench: ModuleType, tmp_path: Path) -> None:
    from thawslump.ledger import Ledger

    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path)
    begun = time.time()
    for step, number, name in (("export", 0, "a"), ("export", 0, "b"), ("train", 1, "r")):
        ledger.start(step, number, name, "key")
        ledger.finish(step, number, name, [], 1.0, {})
    ledger.start("train", 2, "r", "key")
    ledger.close()
    spans = bench.spans_of(tmp_path / "ledger.sqlite", begun)
    assert [span.place for span in spans] == [("export", 0), ("train", 1), ("train", 2)]
    assert all(0 <= span.begin <= span.end < 60 for span in spans)


def test_a_missing_ledger_holds_nothing(bench: ModuleType, tmp_path: Path) -> None:
    assert bench.ledger_rows(tmp_path / "none.sqlite") == []
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    assert bench.ledger_rows(tmp_path / "empty.sqlite") == []


def test_the_whole_group_dies(bench: ModuleType, tmp_path: Path) -> None:
    "A child of the child is gone as well"
    words = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('up', flush=True); time.sleep(60)"
    )
    process = bench.start([sys.executable, "-c", words], subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    assert bench.kill_group(process) == []
    process.stdout.close()
    assert process.returncode == -9


@pytest.mark.timeout(900)
def test_killed_chain_ends_with_the_same_inventory(bench: ModuleType, tmp_path: Path) -> None:
    "A small made-up valley, killed while it exports, trains, and is reviewed"
    outcome = bench.trial(
        tmp_path,
        bench.small,
        (),
        kills=3,
        seed=random.randrange(2**31),  # pytest-randomly tells its seed
        only=("export", "train", "review"),
        timeout=300,
        most_workspaces=1,
    )
    assert outcome.kills, "no kill came in time"
    assert not any(kill.survivors for kill in outcome.kills)
    assert outcome.same, outcome.difference
