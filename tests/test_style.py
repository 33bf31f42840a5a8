"""The tree is linted, formatted and typed, by the settings in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "words",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["lint", "format", "types"],
)
def test_checker_finds_nothing(words: tuple[str, ...]) -> None:
    if words == ("mypy",) and sys.version_info[:2] != (3, 11):
        pytest.skip("types are checked with the pins of Python 3.11: numpy's own differ by version")
    out = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout[-4000:] + out.stderr[-1000:]


def test_no_path_of_a_machine_and_no_unfinished_word() -> None:
    """Nothing tracked names a folder of somebody's machine or says that it is unfinished."""
    names = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.yaml", "*.ipynb", "*.js", "*.css"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "/ro" + "ot/", "/wo" + "rk/", "/ho" + "me/")
    found = [
        f"{name}: {word}"
        for name in names
        for word in words
        if word in (ROOT / name).read_text(encoding="utf-8")
    ]
    assert found == []
