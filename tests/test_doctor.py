"""What doctor says, of a sound machine and of each fault."""

from __future__ import annotations

import importlib.machinery
import json
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from thawslump import doctor
from thawslump.config import config_model, save_yaml
from thawslump.doctor import Check, checks, show
from thawslump.ledger import Ledger
from thawslump.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    save_yaml(tmp_path / "thawslump.yaml", config_model()())
    return Workspace(tmp_path)


def test_every_check_has_a_known_state_and_a_remedy_where_it_is_needed(workspace):
    found = checks(workspace)
    assert {check.state for check in found} <= {"ok", "warn", "fail"}
    assert all(check.remedy for check in found if check.state != "ok")
    names = [check.name for check in found]
    for name in ("python", "packages", "imports", "processor", "memory", "disk", "graphics card",
                 "earth engine", "port", "browser", "workspace"):  # fmt: skip
        assert name in names


def test_it_imports_nothing_heavy():
    code = (
        "import sys; from thawslump.doctor import checks; checks();"
        "print([m for m in ('torch', 'ee', 'rasterio', 'geopandas', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_old_python():
    check = doctor.python_check((3, 9, 2))
    assert check.state == "fail" and check.words == "3.9.2; 3.11 or newer is needed"


def test_missing_and_old_packages(monkeypatch):
    monkeypatch.setattr(
        doctor.metadata, "requires",
        lambda name: ["numpy>=99", "no-such-thing>=1", 'mypy>=99; extra == "test"'],
    )  # fmt: skip
    (check,) = doctor.packages()
    assert check.state == "fail"
    assert "no-such-thing is missing" in check.words and "(at least 99) is too old" in check.words
    assert "mypy" not in check.words


def test_a_part_of_another_distribution(monkeypatch, tmp_path):
    other = tmp_path / "trainer"
    other.mkdir()
    spec = importlib.machinery.ModuleSpec("trainer", None, is_package=True)
    spec.submodule_search_locations = [str(other)]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda n: spec if n == "trainer" else find(n)
    )
    (check,) = doctor.shadowed()
    assert check.state == "fail"
    assert check.words == f"import trainer finds {other}, which is not thawslump's"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda n: None)
    assert doctor.shadowed()[0].words == "the part gee is not installed"


def test_little_memory(monkeypatch):
    monkeypatch.setattr(doctor, "_container_limit", lambda: None)
    monkeypatch.setattr(doctor, "_memory", lambda: (8 * 2**30, 2**30))
    check = doctor.memory()
    assert check.state == "warn" and "8.0 GiB in all, 1.0 GiB free" in check.words
    monkeypatch.setattr(doctor, "_memory", lambda: (64 * 2**30, 60 * 2**30))
    monkeypatch.setattr(doctor, "_container_limit", lambda: 2**30)
    check = doctor.memory()
    assert check.state == "warn" and "of which this container may use 1.0 GiB" in check.words


def test_little_disk(monkeypatch, tmp_path):
    usage = types.SimpleNamespace(free=5e8)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    check = doctor.disk(tmp_path / "not" / "there" / "yet")
    assert check.state == "warn" and "0.5 GiB free" in check.words
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert doctor.disk(tmp_path).state == "fail"


def test_a_graphics_card(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert "runs on the processor" in doctor.graphics().words
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/" + name)
    answer = types.SimpleNamespace(returncode=0, stdout="A card, 1000 MiB\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: answer)
    assert doctor.graphics() == Check("graphics card", "ok", "A card, 1000 MiB")
    answer.returncode = 9
    assert doctor.graphics().state == "warn"


def test_credentials(monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setattr(doctor.Path, "home", lambda: tmp_path)
    check = doctor.credentials()
    assert check.state == "ok" and "the emulator works without" in check.words
    (tmp_path / ".config" / "earthengine").mkdir(parents=True)
    (tmp_path / ".config" / "earthengine" / "credentials").write_text("{}")
    assert doctor.credentials().words == "credentials are there"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "lost.json"))
    assert doctor.credentials().state == "warn"


def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        check = doctor.port(number)
        assert check.state == "warn" and check.words == f"port {number} is in use"
        assert "--port" in check.remedy
    assert doctor.port(number).state == "ok"


def test_a_workspace_that_is_not_sound(workspace):
    found = {check.name: check for check in doctor.in_workspace(workspace)}
    assert found["sites"].words == "no site has the role train or validation or area"
    ledger = Ledger(workspace.ledger, workspace.root)
    ledger.start("export", 0, "lena", "key")
    ledger.fail("export", 0, "lena", 1.0, "no images in the window\nmore")
    ledger.close()
    found = {check.name: check for check in doctor.in_workspace(workspace)}
    assert found["ledger"].words == "export lena failed: no images in the window"
    (workspace.root / "thawslump.yaml").write_text("segmentaton: {}\n")
    (check,) = doctor.in_workspace(Workspace(workspace.root))
    assert check.state == "fail" and 'Did you mean "segmentation"?' in check.words


def test_output_for_machines():
    lines = show([Check("a", "ok", "b"), Check("c", "fail", "d", "e")], json=True).splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["ok", "fail"]
    assert show([Check("a", "ok", "b")]).endswith("Nothing is amiss.")
