"""What the trainer's commands print, and that they load nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from thawslump import options
from thawslump.workspace import Workspace
from trainer import commands

RUNS = """segmentation:
  runs:
  - {architecture: unet, encoder: resnet18}
  - {architecture: fpn, encoder: resnet18}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two runs and an ensemble that were trained; the pipeline is not run."""
    (tmp_path / "thawslump.yaml").write_text(RUNS)
    found = Workspace(tmp_path)
    for run, f1 in zip(found.config.segmentation.runs, (0.25, 0.5), strict=True):
        path = found.models(1) / run.name / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"validation": {"f1": f1}, "epoch": 3}))
    path = found.models(1) / "ensemble" / "metrics.json"
    path.parent.mkdir()
    sizes = [{"size": 1, "f1": 0.5, "added": "b"}, {"size": 2, "f1": 0.625, "added": "a"}]
    record = {"sizes": sizes, "members": ["b", "a"], "threshold": 0.4, "validation": {"f1": 0.625}}
    path.write_text(json.dumps(record))
    monkeypatch.setattr(commands, "_run", lambda *words: found)
    monkeypatch.setattr(options.current, "json", False)
    return found


def test_train_lists_the_runs_best_first(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.train(1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "F1", "on", "validation", "epoch"]
    assert [line.split() for line in lines[1:]] == [
        ["fpn-resnet18-dice-1e-3-all-s0", "0.5000", "3"],
        ["unet-resnet18-dice-1e-3-all-s0", "0.2500", "3"],
    ]


def test_output_for_machines_is_one_object_a_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options.current, "json", True)
    commands.ensemble(1)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"added": "b", "f1": 0.5, "size": 1}, {"added": "a", "f1": 0.625, "size": 2}]


def test_ensemble_and_predict_say_what_there_is(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.ensemble(1)
    assert "2 members, threshold 0.4, F1 on validation 0.6250" in capsys.readouterr().out
    commands.predict(1)
    assert capsys.readouterr().out == ""
    workspace.maps(1).mkdir()
    (workspace.maps(1) / "a.tif").touch()
    commands.predict(1)
    assert capsys.readouterr().out.strip().endswith("a.tif")


def test_settings_plans_and_commands_load_nothing_heavy() -> None:
    code = (
        "import sys, trainer.config, trainer.commands, trainer.steps;"
        "print(sorted({'numpy', 'torch', 'ee', 'rasterio', 'geopandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
