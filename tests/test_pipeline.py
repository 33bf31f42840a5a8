"""The driver: done once, redone when something it depends on changed, continued after a kill."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawslump import pipeline
from thawslump.config import ExecutorConfig
from thawslump.errors import BusyError, ConfigError, DataError
from thawslump.executor import running
from thawslump.ledger import Ledger
from thawslump.pipeline import Driver, Item, Step, Waiting, key_of
from thawslump.progress import Silent
from thawslump.workspace import Workspace

SETTINGS: dict[str, Any] = {"factor": 2}


def double(item: Item, workspace: Workspace, progress: Any) -> dict[str, Any]:
    """Multiply the number in the input; leave a mark that it ran."""
    progress(0.5, "half way")
    value = int(item.inputs[0].read_text()) * item.settings["factor"]
    item.outputs[0].write_text(str(value))
    with (workspace.root / "ran.txt").open("a") as stream:
        stream.write(f"{item.name}\n")
    return {"value": value}


def refuse(item: Item, workspace: Workspace, progress: Any) -> dict[str, Any]:
    raise DataError("no images", hint="widen the window")


def plan_double(workspace: Workspace, round: int) -> list[Item]:
    return [
        Item(
            "double",
            name,
            "test_pipeline:double",
            SETTINGS,
            (workspace.root / f"{name}.in",),
            (workspace.root / f"{name}.out",),
        )
        for name in ("a", "b")
    ]


def plan_refuse(workspace: Workspace, round: int) -> list[Item]:
    return [
        Item(
            "refuse",
            "c",
            "test_pipeline:refuse",
            {},
            (workspace.root / "a.in",),
            (workspace.root / "c.out",),
        )
    ]


def plan_wait(workspace: Workspace, round: int) -> Waiting:
    return Waiting(3, "three candidates wait")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    steps = tuple(
        Step(name, f"test_pipeline:plan_{name}", "before", name, 1.0)
        for name in ("double", "refuse", "wait")
    )
    monkeypatch.setattr(pipeline, "STEPS", steps)
    (tmp_path / "a.in").write_text("3")
    (tmp_path / "b.in").write_text("5")
    return Workspace(tmp_path)


def step(workspace: Workspace, name: str, kind: str = "serial") -> pipeline.Outcome:
    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        with running(ExecutorConfig(kind=kind, workers=2), lambda message: None) as executor:
            return Driver(workspace, ledger, executor, Silent()).run_step(name)
    finally:
        ledger.close()


def ran(workspace: Workspace) -> list[str]:
    path = workspace.root / "ran.txt"
    return sorted(path.read_text().split()) if path.exists() else []


def test_items_run_once(toy: Workspace) -> None:
    assert step(toy, "double").ran == ("a", "b")
    again = step(toy, "double")
    assert (again.ran, again.skipped) == ((), ("a", "b"))
    assert ran(toy) == ["a", "b"]
    assert (toy.root / "b.out").read_text() == "10"


def test_changed_input_redoes_what_depends_on_it(toy: Workspace) -> None:
    step(toy, "double")
    (toy.root / "a.in").write_text("4")
    assert step(toy, "double").ran == ("a",)
    assert (toy.root / "a.out").read_text() == "8"


def test_changed_setting_redoes_the_step(toy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    step(toy, "double")
    monkeypatch.setitem(SETTINGS, "factor", 7)
    assert step(toy, "double").ran == ("a", "b")


def test_damaged_or_missing_output_is_made_again(toy: Workspace) -> None:
    step(toy, "double")
    (toy.root / "a.out").write_text("999")
    (toy.root / "b.out").unlink()
    assert step(toy, "double").ran == ("a", "b")
    assert (toy.root / "a.out").read_text() == "6"


def test_touched_but_equal_file_is_not_redone(toy: Workspace) -> None:
    """Checksums decide, not times."""
    step(toy, "double")
    (toy.root / "a.in").write_text("3")
    assert step(toy, "double").ran == ()


def test_killed_item_is_run_again(toy: Workspace) -> None:
    """A row left as running (the process was killed) is work that is left."""
    ledger = Ledger(toy.ledger, toy.root)
    item = plan_double(toy, 0)[0]
    key = key_of(item, {"a.in": ledger.checksum(item.inputs[0]) or ""})
    ledger.start("double", 0, "a", key)
    ledger.close()
    assert step(toy, "double").ran == ("a", "b")
    ledger = Ledger(toy.ledger, toy.root)
    row = ledger.row("double", 0, "a")
    ledger.close()
    assert row is not None
    assert (row.state, row.tries, row.facts) == ("done", 2, {"value": 6})


def test_worker_processes_give_the_same(toy: Workspace) -> None:
    assert step(toy, "double", "processes").ran == ("a", "b")
    assert (toy.root / "a.out").read_text() == "6"


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_failure_is_recorded_and_said(toy: Workspace, kind: str) -> None:
    with pytest.raises(DataError, match="refuse c: no images\nwiden the window"):
        step(toy, "refuse", kind)
    ledger = Ledger(toy.ledger, toy.root)
    row = ledger.row("refuse", 0, "c")
    ledger.close()
    assert row is not None
    assert row.state == "failed"
    assert row.error == "no images\nwiden the window"


def test_missing_input_names_the_file_and_the_way_out(toy: Workspace) -> None:
    (toy.root / "a.in").unlink()
    with pytest.raises(DataError, match=r"a\.in is missing; step double \(a\) needs it"):
        step(toy, "double")


def test_waiting_is_no_failure(toy: Workspace) -> None:
    outcome = step(toy, "wait")
    assert outcome.waiting == Waiting(3, "three candidates wait")


def test_unknown_step_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'no step "trian"\. Did you mean "train"'):
        pipeline.step_named("trian")


def test_second_run_is_refused_and_says_who_holds(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with (
        workspace.lock(),
        pytest.raises(BusyError, match=r"Another run holds .*process \d+"),
        Workspace(tmp_path).lock(),
    ):
        pass
    with workspace.lock():
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] > 0


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4))
def test_key_depends_on_content_not_on_order(settings: dict[str, Any]) -> None:
    forward = Item("s", "n", "m:f", settings, (), ())
    backward = Item("s", "n", "m:f", dict(reversed(settings.items())), (), ())
    assert key_of(forward, {}) == key_of(backward, {})
    more = Item("s", "n", "m:f", {**settings, "one more key": 1}, (), ())
    assert key_of(forward, {}) != key_of(more, {})


def test_serial_executor_hands_errors_to_the_future() -> None:
    with running(ExecutorConfig(kind="serial"), lambda message: None) as executor:
        future = executor.submit(int, "x")
        assert isinstance(future, concurrent.futures.Future)
        assert isinstance(future.exception(), ValueError)
