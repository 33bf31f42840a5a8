"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thawslump import options

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def fresh_options() -> None:
    """No test inherits the options that another one's command was called with."""
    vars(options.current).update(vars(options.Options()))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data; skips aloud where it is absent."""
    folder = Path(os.environ.get("THAWSLUMP_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set THAWSLUMP_DATA)")
    return folder


def _demo(folder: Path, *words: str) -> str:
    """Run the demo as a user does; return what it says."""
    out = subprocess.run(
        [sys.executable, "-m", "thawslump", "demo", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert out.returncode == 0, out.stderr[-4000:]
    (folder / "said.txt").write_text(out.stdout)
    (folder / "shown.txt").write_text(out.stderr)
    return out.stdout


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace of the quick demo (made up). Read it; copy it before you change it."""
    folder = tmp_path_factory.mktemp("quick")
    _demo(folder, "small", "--quick")
    return folder / "small"


@pytest.fixture(scope="session")
def full_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of the demo that README.md shows, with its words beside it in said.txt."""
    folder = tmp_path_factory.mktemp("demo")
    _demo(folder)
    return folder / "thawslump-demo"
