"""Exports survive cancels, repeats, failures and the death of their process; maps are kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from gee.emulator import store as module
from gee.emulator.errors import EngineError
from gee.emulator.operations import Job, Operations
from gee.emulator.store import Store, timestamp

P = "projects/local-proj"
BODY = {"expression": {"values": {}}, "description": "d1"}


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


def started(store: Store, run, threads: int = 1) -> Operations:
    return Operations(store, run, threads)


def state(operation: dict) -> str:
    return operation["metadata"]["state"]


def name_of(operation: dict) -> str:
    return operation["name"].rpartition("/")[2]


def test_an_export_runs_and_tells_where_its_files_are(store: Store) -> None:
    seen: list[Job] = []
    operations = started(store, lambda job: seen.append(job) or ["file:///a.tif"])
    first = operations.submit(P, "EXPORT_IMAGE", BODY)
    done = operations.wait(P, name_of(first), 10)
    operations.close()
    assert done["done"] and state(done) == "SUCCEEDED" and seen[0].body == BODY
    metadata = done["metadata"]
    assert metadata["destinationUris"] == ["file:///a.tif"] and metadata["description"] == "d1"
    assert metadata["attempt"] == 1 and metadata["progress"] == 1
    for key in ("createTime", "updateTime", "startTime", "endTime"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", metadata[key])
        datetime.strptime(metadata[key], "%Y-%m-%dT%H:%M:%S.%fZ")


def test_the_same_request_id_runs_once(store: Store) -> None:
    count: list[str] = []
    operations = started(store, lambda job: count.append(job.id) or [])
    body = {**BODY, "requestId": "r1"}
    first = operations.submit(P, "EXPORT_IMAGE", body)
    second = operations.submit(P, "EXPORT_IMAGE", body)
    other = operations.submit("projects/other-proj", "EXPORT_IMAGE", body)
    assert first["name"] == second["name"] and other["name"] != first["name"]
    operations.wait(P, name_of(first), 10)
    operations.wait("projects/other-proj", name_of(other), 10)
    operations.close()
    assert len(count) == 2


@pytest.mark.parametrize(
    "error, code, words",
    [
        (EngineError("Image.load: no."), 3, "Image.load: no."),
        (MemoryError(), 8, "memory limit"),
        (ZeroDivisionError("x"), 13, "Internal error of the emulator: ZeroDivisionError: x"),
    ],
)
def test_failures_are_told(store: Store, error: Exception, code: int, words: str) -> None:
    def run(job: Job) -> list[str]:
        raise error

    operations = started(store, run)
    failed = operations.wait(P, name_of(operations.submit(P, "EXPORT_IMAGE", BODY)), 10)
    operations.close()
    assert state(failed) == "FAILED" and failed["error"]["code"] == code
    assert words in failed["error"]["message"]


def test_cancel_before_and_while_running(store: Store) -> None:
    running, stop = threading.Event(), threading.Event()

    def run(job: Job) -> list[str]:
        running.set()
        while not stop.is_set():
            job.progress(0.5)
            time.sleep(0.01)
        return []

    operations = started(store, run)
    one = operations.submit(P, "EXPORT_IMAGE", BODY)
    two = operations.submit(P, "EXPORT_IMAGE", BODY)
    assert running.wait(10)
    operations.cancel(P, name_of(two))
    assert state(operations.get(P, name_of(two))) == "CANCELLED"
    with pytest.raises(EngineError, match="has not ended"):
        operations.delete(P, name_of(one))
    operations.cancel(P, name_of(one))
    ended = operations.wait(P, name_of(one), 10)
    stop.set()
    operations.cancel(P, name_of(one))
    operations.close()
    assert state(ended) == "CANCELLED" and ended["error"]["message"] == "Cancelled."
    operations.delete(P, name_of(one))
    with pytest.raises(EngineError, match="not found"):
        operations.get(P, name_of(one))


def test_pages_of_the_list_are_newest_first(store: Store, monkeypatch) -> None:
    operations = started(store, lambda job: [])
    monkeypatch.setattr(operations, "_start", lambda: None)
    names = [operations.submit(P, "EXPORT_IMAGE", BODY)["name"] for _ in range(5)]
    seen, start = [], 0
    while start is not None:
        page, start = operations.list(P, 2, start)
        seen += [o["name"] for o in page]
    assert seen == names[::-1]
    assert operations.list("projects/none-here", 2, 0) == ([], None)


def test_high_priority_goes_first(store: Store) -> None:
    order: list[str] = []
    gate = threading.Event()

    def run(job: Job) -> list[str]:
        gate.wait(10)
        order.append(job.body["description"])
        return []

    operations = started(store, run)
    for name, priority in (("first", 100), ("low", 1), ("high", 900)):
        body = {**BODY, "description": name, "priority": {"value": priority}}
        last = operations.submit(P, "EXPORT_IMAGE", body)
        if name == "first":
            time.sleep(0.1)
    gate.set()
    operations.wait(P, name_of(last), 10)
    end = time.monotonic() + 10
    while len(order) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    operations.close()
    assert order == ["first", "high", "low"]


CHILD = """
import sys, time
from pathlib import Path
from gee.emulator.operations import Operations
from gee.emulator.store import Store

def run(job):
    print("running", flush=True)
    time.sleep(60)
    return []

operations = Operations(Store(Path(sys.argv[1])), run, 1)
operations.submit("projects/local-proj", "EXPORT_IMAGE", {"description": "d1"})
time.sleep(60)
"""


def test_an_export_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"running\n"
        store = Store(folder)
        idle = Operations(store, lambda job: ["file:///late.tif"], 1)
        idle.resume()  # its owner lives: not ours to take
        [one], _ = idle.list(P, 10, 0)
        assert state(one) == "RUNNING"
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    idle.resume()
    done = idle.wait(P, name_of(one), 10)
    idle.close()
    store.close()
    assert state(done) == "SUCCEEDED" and done["metadata"]["attempt"] == 2
    assert done["metadata"]["destinationUris"] == ["file:///late.tif"]


def test_maps_are_kept_over_a_restart_and_ids_cannot_be_guessed(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "a"), Store(tmp_path / "b")
    body = {"expression": {"result": "0", "values": {}}, "fileFormat": "PNG"}
    name = one.remember("maps", body)
    assert one.remember("maps", dict(reversed(body.items()))) == name
    assert two.remember("maps", body) != name, "each state folder has its own secret"
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    one.close()
    again = Store(tmp_path / "a")
    assert again.recall("maps", name) == body
    assert again.recall("thumbnails", name) is None and again.remember("maps", body) == name
    for store in (one, two, again):
        store.close()


def test_old_maps_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_REQUESTS", 3)
    names = [store.remember("maps", {"n": n}) for n in range(5)]
    assert [store.recall("maps", name) is not None for name in names] == [False] * 2 + [True] * 3


def test_timestamps() -> None:
    assert timestamp(1684231200) == "2023-05-16T10:00:00.000000Z"
    assert timestamp(-1) == "1969-12-31T23:59:59.000000Z"
