"""Every command that README.md shows is run (its test line is what runs these tests)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def commands() -> list[str]:
    """Return the indented command lines of README.md."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    return [
        line.strip() for line in lines if re.match(r"^ {4}(pip|thawslump|python|pytest) ", line)
    ]


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a user would, with this environment's scripts first on the path."""
    scripts = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=1500
    )


def test_readme_fits_on_a_screen_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_install_lines_name_constraints_of_the_tested_versions() -> None:
    """`python -V | cut -c8-11` is the name of a constraints file."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    installs = [line for line in commands() if line.startswith("pip install")]
    assert len(installs) == 2
    for line in installs:
        name = re.search(r"-c (constraints/\S+ -V \| cut -c8-11\)\.txt)", line)
        assert name is not None, line
    out = shell("python -V | cut -c8-11", ROOT).stdout.strip()
    assert out == version
    assert (ROOT / "constraints" / f"{version}.txt").exists()


def test_constraints_name_no_host() -> None:
    for path in (ROOT / "constraints").glob("*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+|#.*|", line), (
                f"{path.name}: {line}"
            )


@pytest.mark.timeout(1600)
def test_demo_line(full_demo: Path) -> None:
    """The demo line ends with the numbers, the report and the line that opens the review page."""
    line = next(line for line in commands() if "thawslump demo" in line)
    assert line.split("&&")[1].strip() == "thawslump demo"
    said = (full_demo.parent / "said.txt").read_text()
    assert "made-up data, decisions by a SCRIPTED reviewer" in said
    assert "Report:      thawslump-demo/report.html" in said
    assert "Review page: thawslump --workspace thawslump-demo review" in said
    assert (full_demo / "report.html").stat().st_size > 100_000


def test_other_lines(tmp_path: Path) -> None:
    """`thawslump new work` and `thawslump doctor` do what they say."""
    others = [line for line in commands() if not line.startswith("pip")]
    assert [line.split("#")[0].split() for line in others] == [
        ["thawslump", "new", "work"],
        ["thawslump", "doctor"],
    ]
    for line in others:
        out = shell(line, tmp_path)
        assert out.returncode == 0, out.stderr + out.stdout
    assert (tmp_path / "work" / "thawslump.yaml").exists()
