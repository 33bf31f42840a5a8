"""What doctor says, of a sound machine and of each fault."""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import socket
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import pytest
from gee_world import a_site, make_world
from live_world import made_up_key, token_server

from gee.emulator.server import running
from gee.emulator.store import Store
from gee.service import quota_words, service
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
                 "credentials", "port", "browser", "workspace"):  # fmt: skip
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


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """No credentials of the machine that runs the tests are seen."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path / "home"


def with_backend(workspace, **backend):
    save_yaml(workspace.root / "thawslump.yaml", config_model()(backend=backend))
    return Workspace(workspace.root)


def test_credentials(monkeypatch, tmp_path, nobody, workspace):
    check = doctor.credentials()
    assert check.state == "ok" and "the emulator works without" in check.words
    live = with_backend(workspace, kind="earthengine", project="p")
    assert doctor.credentials(live).state == "warn"
    (nobody / ".config" / "earthengine").mkdir(parents=True)
    own = nobody / ".config" / "earthengine" / "credentials"
    own.write_text('{"refresh_token": "made up"}')
    expected = f"Earth Engine: user (earthengine authenticate, {own})"
    assert doctor.credentials() == Check("credentials", "ok", expected)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "lost.json"))
    assert doctor.credentials().state == "warn"
    check = doctor.credentials(live)
    assert check.state == "fail" and "there is no such file" in check.words
    key = tmp_path / "key.json"
    key.write_text("{}")
    live = with_backend(workspace, kind="earthengine", project="p", service_account_key=str(key))
    assert f"backend.service_account_key names {key}" in doctor.credentials(live).words


def found_by(workspace, **more):
    return {check.name: check for check in doctor.service(workspace, **more)}


def test_the_workspaces_own_emulator(workspace):
    (check,) = doctor.service(workspace)
    assert check.state == "ok" and f"no {workspace.catalog} yet" in check.words
    assert "emulator ingest" in check.remedy
    make_world(workspace.catalog)
    save_yaml(workspace.root / "areas" / "place.yaml", a_site())
    save_yaml(workspace.root / "areas" / "far.yaml", a_site(name="far", sources={"dem": "users/x"}))
    found = found_by(Workspace(workspace.root))
    assert found["backend"].words.startswith(f"the emulator on {workspace.catalog} answers")
    assert found["emulator"].words.startswith("thawslump ")
    check = found["catalogue"]
    assert check.state == "warn" and check.words == "it has no users/x, which the sites name"
    (workspace.root / "areas" / "far.yaml").unlink()
    check = found_by(Workspace(workspace.root))["catalogue"]
    assert check.state == "ok" and "COPERNICUS/S2_SR_HARMONIZED" in check.words


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    make_world(folder / "catalog")
    with running(folder / "catalog", state=folder / "state") as url:
        yield url, folder / "state"


def test_an_emulator_at_an_address(workspace, server):
    found = found_by(with_backend(workspace, url=server[0]))
    assert found["backend"].words.startswith(f"the emulator at {server[0]} answers")
    assert found["emulator"].words.startswith("Earth Engine interface of the thawslump emulator ")
    check = found_by(with_backend(workspace, url="http://127.0.0.1:9"))["backend"]
    assert check.state == "fail" and "Nothing that speaks Earth Engine answers" in check.words
    assert "thawslump emulator serve" in check.remedy


@pytest.mark.parametrize(
    ("registered", "state", "project", "quota"),
    [
        ("REGISTERED_NOT_COMMERCIALLY", "ok", "registered for noncommercial use",
         "which tier the project has"),
        ("REGISTERED_COMMERCIALLY", "ok", "registered for commercial use: computing is billed",
         "compute quota not told"),
        ("NOT_REGISTERED", "fail", "not registered for Earth Engine", "compute quota not told"),
        (None, "ok", "the service does not say how it is registered", "compute quota not told"),
    ],
)  # fmt: skip
def test_a_project_as_the_service_tells_of_it(
    workspace, server, nobody, registered, state, project, quota
):
    url, folder = server
    name = f"made-up-{len(str(registered))}"
    facts = {"maxConcurrentExports": 3}
    if registered is not None:
        facts["registrationState"] = registered
    Store(folder).put(f"config:projects/{name}", facts)
    with token_server() as (token_uri, _):
        key = made_up_key(workspace.root / "key.json", token_uri)
        found = found_by(
            with_backend(
                workspace, kind="earthengine", project=name, url=url, service_account_key=str(key)
            )
        )
    assert found["backend"].words.startswith(f"Earth Engine at {url} answers")
    assert found["project"].state == state
    assert found["project"].words == f"{name}: {project}" or project in found["project"].words
    assert found["quota"].state == "ok" and quota in found["quota"].words
    assert found["quota"].words.startswith("3 batch tasks at a time; asset storage 0.0 of 250 GiB")
    assert name in found["quota"].remedy
    assert found["endpoint"].words == f"{url} for everything (backend.url)"


def test_a_token_that_is_refused(workspace, server, nobody):
    with token_server("Token has been expired or revoked.") as (token_uri, _):
        key = made_up_key(workspace.root / "key.json", token_uri)
        (check,) = doctor.service(
            with_backend(
                workspace, kind="earthengine", project="p", url=server[0],
                service_account_key=str(key),
            )
        )  # fmt: skip
    assert check.state == "fail" and "Token has been expired or revoked" in check.words
    assert "PRIVATE" not in check.words


def test_a_network_that_swallows_everything(workspace, nobody):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        begun = time.monotonic()
        (check,) = doctor.service(with_backend(workspace, url=url), limit=3.0)
    assert time.monotonic() - begun < 10
    assert check.state == "warn" and check.words == f"no answer within 3 s from {url}"
    assert "--offline" in check.remedy


def test_quota_words():
    storage = {"asset_size": {"usage": 249 * 2**30, "limit": 250 * 2**30}}
    row = quota_words("p", {"maxConcurrentExports": 2, "planMaxConcurrentExports": 20}, storage)
    assert row["state"] == "warn"
    assert row["words"].startswith(
        "2 batch tasks at a time (the plan allows 20); asset storage 249"
    )
    assert row["remedy"].startswith("Remove assets")
    assert "daily_eecu_usage_time" in row["remedy"]


def test_a_project_in_restricted_mode(workspace, monkeypatch):
    @contextlib.contextmanager
    def slowed(backend, catalog):
        # As the client words the header x-earth-engine-quota-status.
        warnings.warn(
            "Your project has exceeded its noncommercial compute quota and is now in restricted "
            "mode. Visit https://example.org to learn more.",
            stacklevel=1,
        )
        yield

    monkeypatch.setattr("gee.session.connect", slowed)
    monkeypatch.setattr("gee.service._emulator", lambda workspace: [])
    found = {row["name"]: row for row in service(with_backend(workspace, url="http://127.0.0.1"))}
    assert found["quota"]["state"] == "warn"
    assert found["quota"]["words"].endswith("is now in restricted mode.")


def test_no_question_with_offline(workspace, monkeypatch):
    monkeypatch.setattr(doctor, "service", lambda workspace: pytest.fail("asked"))
    names = [check.name for check in checks(workspace, offline=True)]
    assert "credentials" in names and "backend" not in names


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
