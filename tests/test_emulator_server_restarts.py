"""Exports that survive: SIGKILL of the whole server, several workers, cancels, repeats, budgets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from gee.emulator import server
from gee.emulator.catalog import BandData, Catalog
from gee.emulator.quota import Meter
from gee.emulator.server import running
from gee.emulator.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ROOT = Path(server.__file__).parents[2]
P = "projects/local-proj"
SIDE = 512
GRID = ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restarts")
    values = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    catalog = Catalog(folder / "catalog", writable=True)
    catalog.put_image("a", [BandData("b", values, *GRID)])
    catalog.put_image("large", [BandData("b", np.tile(values, (2, 2)), *GRID)])
    return folder


def request(url: str, path: str, body: Any = None, verb: str | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(
        f"{url}{'/' if path == 'status' else '/v1/'}{path}", data=data, method=verb
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            found = json.loads(error.read())
    return found


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def constant(value: Any) -> dict[str, Any]:
    return {"constantValue": value}


def export(prefix: str, *, heavy: int = 2, asset: str = "a", **more: Any) -> dict[str, Any]:
    """An export in 16 files of 128 x 128 pixels; a heavy one takes seconds."""
    image = call("Image.load", id=constant(asset))
    if heavy:
        kernel = call("Kernel.square", radius=constant(5))
        for _ in range(heavy):
            image = call("Image.focalMedian", image=image, kernel=kernel)
    return {
        "expression": {"result": "0", "values": {"0": image}},
        "description": prefix,
        "requestId": str(uuid.uuid4()),
        "fileExportOptions": {
            "fileFormat": "GEO_TIFF",
            "driveDestination": {"folder": "out", "filenamePrefix": prefix},
            "geoTiffOptions": {"tileDimensions": {"width": 128, "height": 128}},
        },
        **more,
    }


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def ended(url: str, name: str) -> dict[str, Any]:
    def done() -> Any:
        operation = request(url, name)
        return operation if operation.get("done") else None

    operation: dict[str, Any] = wait_for(done)
    return operation


@contextlib.contextmanager
def group(place: Path, state: Path, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server whose processes can all be killed at once."""
    command = [
        sys.executable, "-m", "gee.emulator", str(place / "catalog"), "--port", "0",
        "--state", str(state), "--workers", str(workers),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().decode().split()[-1]
    try:
        yield process, url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_exports_survive_the_death_of_all_processes(
    place: Path, tmp_path: Path, workers: int
) -> None:
    """Killed in the middle of one export, with another waiting and one cancelled."""
    state = tmp_path / "state"
    out = state / "exports" / "out"
    with group(place, state, workers) as (process, url):
        wait_for(lambda: _answers(url))
        names = [request(url, f"{P}/image:export", export(f"x{n}"))["name"] for n in range(4)]
        request(url, f"{names[3]}:cancel", {})
        wait_for(lambda: len(list(out.glob("x*.tif"))) >= 1)
        before = [request(url, name)["metadata"]["state"] for name in names]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert before[3] == "CANCELLED" and "RUNNING" in before
    half = {path.name: path.read_bytes() for path in out.glob("x*.tif")}
    assert len(half) < 48
    with running(place / "catalog", state=state, workers=workers) as url:
        operations = [ended(url, name) for name in names]
    states = [operation["metadata"]["state"] for operation in operations]
    assert states == ["SUCCEEDED"] * 3 + ["CANCELLED"]
    attempts = [operation["metadata"]["attempt"] for operation in operations]
    assert max(attempts[:3]) == 2 and attempts[3] == 0
    files = sorted(path.name for path in out.iterdir())
    assert len(files) == 48 and all(name.endswith(".tif") for name in files), "and no remains"
    parts = {name[2:]: (out / name).read_bytes() for name in files if name.startswith("x0")}
    for name in files:
        assert (out / name).read_bytes() == parts[name[2:]]
    assert all((out / name).read_bytes() == content for name, content in half.items())
    assert all(operation["metadata"]["batchEecuUsageSeconds"] > 0 for operation in operations[:3])


def to_asset(name: str) -> dict[str, Any]:
    body = export("asset", heavy=2, asset="large")
    del body["fileExportOptions"]
    body["assetExportOptions"] = {"earthEngineDestination": {"name": f"{P}/assets/{name}"}}
    return body


def test_an_asset_is_whole_or_absent(place: Path, tmp_path: Path) -> None:
    """Killed in the middle of an export to an asset: absent, then made by who takes over."""
    state = tmp_path / "state"
    name = f"made-{uuid.uuid4().hex}"
    with group(place, state, 1) as (process, url):
        wait_for(lambda: _answers(url))
        # One after the other: neither can end while the other one is waited for.
        cancelled = request(url, f"{P}/image:export", to_asset(f"{name}-c"))["name"]
        wait_for(lambda: request(url, cancelled)["metadata"]["state"] == "RUNNING")
        request(url, f"{cancelled}:cancel", {})
        assert ended(url, cancelled)["metadata"]["state"] == "CANCELLED"
        operation = request(url, f"{P}/image:export", to_asset(name))["name"]
        wait_for(lambda: request(url, operation)["metadata"]["progress"] > 0)
        for missing in (name, f"{name}-c"):
            assert request(url, f"{P}/assets/{missing}")["error"]["code"] == 404
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with running(place / "catalog", state=state) as url:
        done = ended(url, operation)
        assert done["metadata"]["state"] == "SUCCEEDED", done
        assert done["metadata"]["attempt"] == 2
        asset = request(url, f"{P}/assets/{name}")
        assert asset["type"] == "IMAGE" and len(asset["bands"]) == 1
        assert request(url, f"{P}/assets/{name}-c")["error"]["code"] == 404
    folder = place / "catalog" / P / "assets" / name
    assert not [path.name for path in folder.iterdir() if ".tmp" in path.name]


def _answers(url: str) -> bool:
    try:
        return "service" in request(url, "status")
    except OSError:
        return False


def test_a_worker_that_dies_hands_its_exports_on(place: Path, tmp_path: Path) -> None:
    """One of two processes is killed; the server answers on, and both exports end whole."""
    import psutil

    with group(place, tmp_path / "state", 2) as (process, url):
        wait_for(lambda: _answers(url))
        bodies = [export(f"w{n}", asset="large", heavy=1) for n in range(2)]
        for body in bodies:
            size = {"width": 512, "height": 512}
            body["fileExportOptions"]["geoTiffOptions"]["tileDimensions"] = size
        names = [request(url, f"{P}/image:export", body)["name"] for body in bodies]
        wait_for(lambda: all(request(url, n)["metadata"]["state"] == "RUNNING" for n in names))
        store = Store(tmp_path / "state")
        rows = store.query("SELECT owner FROM operations WHERE state='RUNNING'")
        victim = int(str(rows[0]["owner"]).partition("-")[0])
        assert victim != process.pid
        psutil.Process(victim).kill()
        operations = [ended(url, name) for name in names]
        store.close()
    assert [o["metadata"]["state"] for o in operations] == ["SUCCEEDED"] * 2
    assert max(o["metadata"]["attempt"] for o in operations) == 2
    for prefix in ("w0", "w1"):
        files = sorted((tmp_path / "state" / "exports" / "out").glob(f"{prefix}*"))
        assert len(files) == 4 and all(path.suffix == ".tif" for path in files)


def test_shards_lie_where_their_names_say(place: Path, tmp_path: Path) -> None:
    """<prefix>-<first row>-<first column>.tif, as the guide on exporting images has it."""
    with running(place / "catalog", state=tmp_path / "state") as url:
        operation = ended(url, request(url, f"{P}/image:export", export("s", heavy=0))["name"])
    paths = [Path(uri.removeprefix("file://")) for uri in operation["metadata"]["destinationUris"]]
    assert len(paths) == 16
    truth = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    for path in paths:
        _, row, col = path.stem.split("-")
        with rasterio.open(path) as source:
            r, c = int(row), int(col)
            assert (source.transform.c, source.transform.f) == (5e5 + 10 * c, 5e6 - 10 * r)
            np.testing.assert_array_equal(source.read(1), truth[r : r + 128, c : c + 128])


def test_cancelled_in_the_middle_it_stops_soon_and_says_so(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(place / "catalog", state=state) as url:
        name = request(url, f"{P}/image:export", export("c"))["name"]
        wait_for(lambda: request(url, name)["metadata"]["progress"] > 0)
        assert request(url, f"{name}:cancel", {}) == {}
        assert request(url, name)["metadata"]["state"] in ("CANCELLING", "CANCELLED")
        operation = ended(url, name)
        written = len(list((state / "exports").rglob("c-*.tif")))
        assert operation["metadata"]["state"] == "CANCELLED"
        assert operation["error"] == {"code": 1, "message": "Cancelled."}
        assert written < 16
        assert not [p for p in (state / "exports").rglob("*") if ".tmp" in p.name]
        assert request(url, f"{name}:cancel", {}) == {}, "cancelled twice is cancelled"
        assert request(url, name, verb="DELETE") == {}
        assert request(url, name)["error"]["code"] == 404


def test_the_same_request_is_one_export_in_whichever_process(place: Path, tmp_path: Path) -> None:
    body = export("r", heavy=0)
    with running(place / "catalog", state=tmp_path / "state", workers=2) as url:
        names = {request(url, f"{P}/image:export", body)["name"] for _ in range(10)}
        assert len(names) == 1
        first = ended(url, names.pop())
        again = request(url, f"{P}/image:export", body)
        assert again["name"] == first["name"] and again["metadata"]["attempt"] == 1


def test_a_project_runs_two_exports_at_a_time(place: Path, tmp_path: Path) -> None:
    """Over all processes, unless its config says otherwise; another project has its own two."""

    def started(url: str, project: str) -> int:
        found = request(url, f"{project}/operations")["operations"]
        return sum(o["metadata"]["state"] == "RUNNING" for o in found)

    with running(place / "catalog", state=tmp_path / "state", workers=2) as url:
        request(url, f"{P}/config?updateMask=max_concurrent_exports", {"maxConcurrentExports": 1},
                "PATCH")  # fmt: skip
        for number in range(3):
            request(url, f"{P}/image:export", export(f"q{number}"))
        other = request(url, "projects/other-proj/image:export", export("o"))["name"]
        wait_for(lambda: request(url, other)["metadata"]["state"] == "RUNNING")
        assert started(url, P) == 1
        for operation in request(url, f"{P}/operations")["operations"]:
            request(url, f"{operation['name']}:cancel", {})
        request(url, f"{other}:cancel", {})


def test_a_budget_ends_a_running_export_with_words(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    faults = tmp_path / "faults.yaml"
    faults.write_text("eecu_budget: {seconds_per_month: 1000000}")
    with running(place / "catalog", state=state, faults=faults) as url:
        name = request(url, f"{P}/image:export", export("b", workloadTag="large"))["name"]
        wait_for(lambda: request(url, name)["metadata"]["progress"] > 0)
        store = Store(state)
        Meter(store, exact=True).add(P, "", 1e6)
        store.close()
        operation = ended(url, name)
        metadata = operation["metadata"]
        assert metadata["state"] == "FAILED" and operation["error"]["code"] == 8
        assert "EECU-seconds per month" in operation["error"]["message"]
        assert metadata["batchEecuUsageSeconds"] > 0 and metadata["workloadTag"] == "large"
        refused = ended(url, request(url, f"{P}/image:export", export("b2", heavy=0))["name"])
        assert refused["metadata"]["state"] == "FAILED"
        entry = request(url, "status")["eecu"][P]
        assert entry["tags"]["large"] == pytest.approx(metadata["batchEecuUsageSeconds"], rel=0.5)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"priority": {"value": "x"}}, "Invalid value at 'priority'"),
        ({"priority": -5}, "The priority must be a whole number"),
        ({"fileExportOptions": {"driveDestination": 3}}, "driveDestination"),
        ({"assetExportOptions": 3}, "assetExportOptions"),
        ({"assetExportOptions": {"earthEngineDestination": {"name": f"{P}/assets/no/x"}}},
         "the parent"),
        ({"selectors": 5, "fileExportOptions": {"driveDestination": {}}}, "selectors"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_not_queued(
    place: Path, tmp_path: Path, body: dict[str, Any], words: str
) -> None:
    from gee.emulator.messages import Request
    from gee.emulator.protocol import Endpoint

    endpoint = Endpoint(place / "catalog", tmp_path / "state")
    content = {**export("n"), **body}
    if "assetExportOptions" in body:
        del content["fileExportOptions"]
    kind = "table" if "selectors" in body else "image"
    answer = endpoint.handle(
        Request("POST", f"/v1/{P}/{kind}:export", body=json.dumps(content).encode())
    )
    assert answer.status == 400 and words in answer.body.decode()
    assert endpoint.operations.list(P, 10, 0) == ([], None)
    endpoint.close()
