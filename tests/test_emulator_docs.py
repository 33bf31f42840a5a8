"""What docs/emulator.md shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from gee.emulator.faults import load_faults
from gee.emulator.server import running

PAGE = Path(__file__).resolve().parents[1] / "docs" / "emulator.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_first_steps(tmp_path: Path) -> None:
    "The line that takes a file in, and the script, against a server on another port."
    transform = Affine(10, 0, 500_000, 0, -10, 6_700_000)
    with rasterio.open(
        tmp_path / "S2_20230516.tif", "w", driver="GTiff", width=8, height=8, count=1,
        dtype="uint16", crs="EPSG:32633", transform=transform,
    ) as out:  # fmt: skip
        out.write(np.full((8, 8), 7, "uint16"), 1)
    ingest, serve = blocks("")[0].strip().splitlines()
    assert serve == "thawslump emulator serve --catalog catalog --port 8765"
    words = ingest.split()
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (script,) = blocks("python")
    with running(tmp_path / "catalog") as url:
        assert "http://127.0.0.1:8765" in script
        done = subprocess.run(
            [sys.executable, "-c", script.replace("http://127.0.0.1:8765", url)],
            capture_output=True, text=True,
        )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_the_faults_are_read(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    (tmp_path / "faults.yaml").write_text(text)
    found = load_faults(tmp_path / "faults.yaml")
    assert len(found.rules) == 4 and found.seed == 7


def test_the_map_of_the_code_is_true() -> None:
    "Every module that the last table names is there."
    table = PAGE.read_text(encoding="utf-8").split("## Where things are")[1]
    folder = PAGE.parents[1] / "gee" / "emulator"
    names = [
        n for row in re.findall(r"^\| (`.*?) \|", table, re.M) for n in re.findall("`(.+?)`", row)
    ]
    assert len(names) > 20
    for name in names:
        if name.endswith("/"):
            assert (folder / name).is_dir(), name
        elif name.endswith("*"):
            assert list(folder.glob(f"{name}.py")), name
        else:
            assert (folder / f"{name}.py").is_file() or (folder / name).is_dir(), name
