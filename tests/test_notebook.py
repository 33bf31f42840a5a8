"""Notebooks run from top to bottom on the small demo, and are kept without outputs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_runs_on_the_small_demo(path, small_demo, monkeypatch, tmp_path):
    from PIL import Image

    monkeypatch.setenv("THAWSLUMP_WORKSPACE", str(small_demo))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # The packages that are tested, not another installation of them.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error"]
    data = [out.get("data", {}) for out in outputs]
    assert any("application/vnd.jupyter.widget-view+json" in entry for entry in data)
    tables = " ".join(entry["text/html"] for entry in data if "text/html" in entry)
    for heading in ("slumps after", "F1 on validation", "gap, random - spatial"):
        assert heading in tables
    (picture,) = [entry["image/png"] for entry in data if "image/png" in entry]
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("L")
    low, high = image.getextrema()
    assert min(image.size) > 300 and high - low > 200
