"""Who may import whom (docs/chain.md), and that the light modules stay light."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from thawslump.cli import COMMANDS
from thawslump.config import SECTIONS, target
from thawslump.pipeline import STEPS

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("gee", "trainer", "inventory", "thawslump")
FORBIDDEN = {
    "thawslump": {"gee", "trainer", "inventory"},
    "gee": {"trainer", "inventory", "torch"},
    "trainer": {"gee", "inventory", "ee"},
    "inventory": {"gee", "trainer", "ee", "torch"},
}
LIGHT = [f"{part}.{name}" for part in PARTS[:3] for name in ("config", "commands", "steps")] + [
    "gee.credentials",
    "gee.exports.credits",
    "gee.service",
    "thawslump.cli",
    "thawslump.commands",
    "thawslump.pipeline",
    "thawslump.report",
]
HEAVY = ("torch", "ee", "rasterio", "geopandas", "pandas", "numpy", "matplotlib", "fastapi")


def imported(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module, node.lineno))
    return found


@pytest.mark.parametrize("part", PARTS)
def test_parts_do_not_import_each_other(part: str) -> None:
    """gee, trainer and inventory meet only in files and through the table of names."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in (ROOT / part).rglob("*.py")
        for name, line in imported(path)
        if name.split(".")[0] in FORBIDDEN[part]
    ]
    assert wrong == []


def test_emulator_imports_nothing_else_of_gee() -> None:
    """The emulator is an endpoint of its own: it knows nothing of slumps, scripts or exports."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in (ROOT / "gee" / "emulator").rglob("*.py")
        for name, line in imported(path)
        if (name == "gee" or name.startswith("gee.")) and not name.startswith("gee.emulator")
    ]
    assert wrong == []


def test_only_importer_and_scripted_reviewer_read_the_truth() -> None:
    """A model that sees truth/ would be worth nothing; the word's users are named here."""
    allowed = {
        "thawslump/workspace.py",  # says where it lies
        "inventory/scripted.py",  # the scripted reviewer
        "inventory/steps.py",  # hands the scripted reviewer its file
        "gee/steps.py",  # the valley writes it
    }
    found = {
        path.relative_to(ROOT).as_posix()
        for part in PARTS
        for path in (ROOT / part).rglob("*.py")
        if any(
            isinstance(node, ast.Attribute) and node.attr == "truth"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert {name for name in found if not name.startswith("gee/valley/")} <= allowed


@pytest.mark.parametrize("part", ["trainer", "inventory", "gee"])
def test_kernels_do_not_print(part: str) -> None:
    """Only commands speak to people."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / part).rglob("*.py")
        if path.name not in ("commands.py", "__main__.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert wrong == []


def test_light_modules_import_nothing_heavy() -> None:
    """Help, plans and settings come without torch, ee and the geo stack."""
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}: importlib.import_module(name)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_there(name: str) -> None:
    """Each target of the table exists and has words for help."""
    where, words = COMMANDS[name]
    assert callable(target(where))
    assert words.endswith(".")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_plan_takes_a_workspace_and_a_round(step: object) -> None:
    """Plans are found by name; a wrong signature would show only in the middle of a run."""
    signature = inspect.signature(target(step.plan))  # type: ignore[attr-defined]
    assert list(signature.parameters)[:2] == ["workspace", "round"]


@pytest.mark.parametrize("section", list(SECTIONS))
def test_every_section_refuses_unknown_keys_and_describes_its_fields(section: str) -> None:
    """A mistyped key is an error, and every field explains itself."""
    model = target(SECTIONS[section][0])
    assert model.model_config.get("extra") == "forbid"
    assert [n for n, f in model.model_fields.items() if not f.description] == []
