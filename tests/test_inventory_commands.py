"""The commands of the inventory as a user types them: words, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import pytest
from inventory_world import make_world, work_out

from thawslump.cli import main
from thawslump.workspace import Workspace


@pytest.fixture
def world(tmp_path: Path) -> Workspace:
    workspace = make_world(
        tmp_path / "world", slumps=8, false=2, shape=(160, 200), reviewer="scripted"
    )
    work_out(workspace, "candidates")
    work_out(workspace, "review")
    return workspace


def said(
    capsys: pytest.CaptureFixture[str], world: Workspace, *words: str, code: int = 0
) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main(["-w", str(world.root), *words])
    captured = capsys.readouterr()
    assert (end.value.code or 0) == code, captured.err
    return captured.out, captured.err


def test_stats_names_the_scripted_reviewer(
    capsys: pytest.CaptureFixture[str], world: Workspace
) -> None:
    out, _ = said(capsys, world, "inventory", "stats")
    assert "accepted by the scripted reviewer" in out and "(made up)" in out
    found = json.loads(said(capsys, world, "--json", "inventory", "stats")[0])
    assert found["sites"]["hills"]["slumps"] > 0


def test_export_and_import(
    capsys: pytest.CaptureFixture[str], world: Workspace, tmp_path: Path
) -> None:
    """What goes out comes in again; twice changes nothing."""
    file = tmp_path / "slumps.gpkg"
    out, _ = said(capsys, world, "inventory", "export", str(file))
    count = len(geopandas.read_file(file))
    assert out.startswith(f"{count} slumps written")
    other = make_world(tmp_path / "other", slumps=8, shape=(160, 200))
    words = ("inventory", "import", str(file), "--site", "hills")
    assert f"{count} outlines of" in said(capsys, other, *words)[0]
    assert " 0 changed" in said(capsys, other, *words)[0]


def test_import_to_an_unknown_site_offers_the_nearest(
    capsys: pytest.CaptureFixture[str], world: Workspace
) -> None:
    _, err = said(capsys, world, "inventory", "import", "x.gpkg", "--site", "hill", code=2)
    assert 'Did you mean "hills"?' in err and "Traceback" not in err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str], world: Workspace) -> None:
    _, err = said(capsys, world, "inventory", "import", "x.gpkg", "--site", "hills", code=3)
    assert "x.gpkg does not exist" in err


def test_review_outside_of_a_workspace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["-w", str(tmp_path), "review", "--port", "0"])
    assert end.value.code == 2
    assert "is no workspace" in capsys.readouterr().err
    assert not (tmp_path / "inventory.gpkg").exists()
