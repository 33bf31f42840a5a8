"""The command line: quick help, stable exit codes, words instead of tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thawslump import errors
from thawslump.cli import COMMANDS, build, main
from thawslump.workspace import Workspace


def thawslump(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thawslump", *words], capture_output=True, text=True, cwd=cwd
    )


def test_help_lists_every_command_quickly() -> None:
    """Under half a second (the best of five: machines are noisy); no part is imported."""
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        out = thawslump("--help")
        seconds.append(time.perf_counter() - begun)
    assert out.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in out.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    app = build(name)
    with pytest.raises(SystemExit) as stop:
        app(args=[name, "--help"], prog_name="thawslump")
    assert stop.value.code == 0


def test_exit_codes_are_those_documented() -> None:
    table = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
    text = table.read_text(encoding="utf-8")
    for kind in (
        "ThawslumpError",
        "ConfigError",
        "DataError",
        "BackendError",
        "BusyError",
        "StorageError",
    ):
        assert f"| {getattr(errors, kind).exit_code} |" in text
    assert len({getattr(errors, k).exit_code for k in errors.__all__ if k.endswith("Error")}) == 7


def test_no_workspace_is_said_without_a_traceback(tmp_path: Path) -> None:
    out = thawslump("run", cwd=tmp_path)
    assert out.returncode == 2
    assert "is no workspace: it has no thawslump.yaml" in out.stderr
    assert "thawslump new DIR" in out.stderr
    assert "Traceback" not in out.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    out = thawslump("run", "--debug", cwd=tmp_path)
    assert out.returncode == 2
    assert "Traceback" in out.stderr and "ConfigError" in out.stderr


def test_fault_of_our_own_is_said_as_such(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "status", ("test_cli:broken", "Broken."))
    with pytest.raises(SystemExit) as stop:
        main(["status"])
    assert stop.value.code == 70
    said = capsys.readouterr().err
    assert "thawslump itself failed: ZeroDivisionError" in said
    assert "thawslump --debug" in said
    assert "Traceback" not in said


def broken() -> None:
    """Fail."""
    raise ZeroDivisionError("division by zero")


def test_unknown_command_offers_the_nearest() -> None:
    out = thawslump("reprot")
    assert out.returncode == 2
    assert "Did you mean 'report'" in out.stderr


def test_second_run_in_the_same_workspace_is_refused(tmp_path: Path) -> None:
    assert thawslump("new", str(tmp_path / "w")).returncode == 0
    with Workspace(tmp_path / "w").lock():
        out = thawslump("run", "-w", str(tmp_path / "w"))
    assert out.returncode == 5
    assert "Another run holds the workspace" in out.stderr
    assert "process " in out.stderr and "since " in out.stderr


def test_unknown_key_reaches_the_user(tmp_path: Path) -> None:
    thawslump("new", str(tmp_path / "w"))
    path = tmp_path / "w" / "thawslump.yaml"
    path.write_text(path.read_text() + "\nrevew: {}\n")
    out = thawslump("status", "-w", str(tmp_path / "w"))
    assert out.returncode == 2
    assert 'unknown key "revew". Did you mean "review"?' in out.stderr


def test_site_add_writes_a_file_that_loads(tmp_path: Path) -> None:
    thawslump("new", str(tmp_path / "w"))
    words = [
        "site",
        "add",
        "north",
        "--bounds",
        "92.8",
        "34.7",
        "92.9",
        "34.8",
        "--pre",
        "2019-06-15",
        "2019-09-01",
        "--post",
        "2023-06-15",
        "2023-09-01",
    ]
    out = thawslump(*words, "-w", str(tmp_path / "w"))
    assert out.returncode == 0, out.stderr
    assert Workspace(tmp_path / "w").site("north").role == "area"
    again = thawslump(*words, "-w", str(tmp_path / "w"))
    assert again.returncode == 2
    assert "north.yaml exists" in again.stderr


def test_status_before_any_run(tmp_path: Path) -> None:
    thawslump("new", str(tmp_path / "w"))
    out = thawslump("status", "-w", str(tmp_path / "w"))
    assert "Nothing was run here yet" in out.stdout
    assert thawslump("status", "--json", "-w", str(tmp_path / "w")).stdout.strip() == ""


def test_demo_refuses_a_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    out = thawslump("demo", str(tmp_path))
    assert out.returncode == 2
    assert "is not empty and no workspace" in out.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_json_status_is_lines_of_json(tmp_path: Path) -> None:
    from thawslump.ledger import Ledger

    thawslump("new", str(tmp_path / "w"))
    ledger = Ledger(tmp_path / "w" / "ledger.sqlite", tmp_path / "w")
    ledger.start("train", 1, "unet", "k")
    ledger.fail("train", 1, "unet", 2.0, "loss is not finite")
    ledger.close()
    out = thawslump("status", "--json", "-w", str(tmp_path / "w"))
    row = json.loads(out.stdout)
    assert (row["step"], row["failed"], row["errors"]) == ("train", 1, ["unet: loss is not finite"])
