"""The examples of docs/earth-engine.md do what they show."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from gee_world import GIVEN, a_site, make_world
from ruamel.yaml import YAML

from gee.config import HIGH_VOLUME, STANDARD, BackendConfig
from thawslump.config import config_model, save_yaml

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "earth-engine.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


# xee 0.1.2 joins transforms with *, which affine 3.1 announces to drop.
@pytest.mark.filterwarnings("ignore:Use `@` matmul instead of:PendingDeprecationWarning:xee.ext")
def test_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my-workspace"
    make_world(root / "catalog")
    save_yaml(root / "thawslump.yaml", config_model()())
    save_yaml(root / "areas" / "bykovsky.yaml", a_site(name="bykovsky", bands=GIVEN))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "earth-engine.md", "exec"), names)
    assert "'dNDVI'" in capsys.readouterr().out
    assert -2 < names["loss"] < 2 and 0 < names["steep"] < 90
    assert math.isfinite(names["loss"])


def test_settings_are_those_there_are() -> None:
    found = [YAML(typ="safe").load(block) for block in blocks("yaml")]
    parsed = [BackendConfig(**one["backend"]) for one in found if "backend" in one]
    assert parsed and parsed[0].kind == "earthengine"
    for one in re.findall(r"^  # (\w+):", PAGE, re.MULTILINE):
        assert one in BackendConfig.model_fields
    assert parsed[0].address() == STANDARD and parsed[0].address("stored") == HIGH_VOLUME
