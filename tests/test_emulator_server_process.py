"""The server as a process: it comes up, is told from others, needs a token, and dies in time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from gee.emulator import server
from gee.emulator.catalog import BandData, Catalog
from thawslump.errors import BackendError, BusyError, ConfigError, DataError

ROOT = Path(server.__file__).parents[2]
NAME = "/v1/projects/earthengine-public/assets/a"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process") / "catalog"
    catalog = Catalog(folder, writable=True)
    grid = ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
    catalog.put_image("a", [BandData("VV", np.zeros((4, 4), np.float32), *grid)])
    return folder


def fetch(url: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_it_answers_and_stops_with_the_block(root: Path) -> None:
    with server.running(root) as url:
        assert url.startswith("http://127.0.0.1:")
        status, body = fetch(url + NAME)
        assert status == 200 and json.loads(body)["id"] == "a"
        assert fetch(url + "/nothing")[0] == 404
        status, body = fetch(url + NAME, Host="evil.example")
        assert status == 403 and b"this machine only" in body
    with pytest.raises(OSError):
        fetch(url + NAME)


def test_a_token_is_asked_for(root: Path) -> None:
    with server.running(root, token="sesame") as url:
        assert fetch(url + NAME)[0] == 403
        assert fetch(url + NAME, Authorization="Bearer sesame")[0] == 200
        assert fetch(f"{url}{NAME}?key=sesame")[0] == 200


def test_workers_share_the_port_and_the_maps(root: Path, tmp_path: Path) -> None:
    with server.running(root, workers=2, state=tmp_path / "state") as url:
        call = {"functionName": "Image.load", "arguments": {"id": {"constantValue": "a"}}}
        graph = {"result": "0", "values": {"0": {"functionInvocationValue": call}}}
        status, body = fetch(url + "/v1/projects/local-proj/maps", {"expression": graph})
        assert status == 200, body
        tile = f"{url}/v1/{json.loads(body)['name']}/tiles/3/4/2"
        assert [fetch(tile)[0] for _ in range(20)] == [200] * 20


def test_a_port_in_use_is_named_with_what_to_do(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = f"Port {port} on 127.0.0.1 cannot be used"
        with pytest.raises(BusyError, match=words) as found:
            server.serve(root, port=port)
        assert f"--port {port + 1}" in str(found.value)
        with pytest.raises(BusyError, match=words), server.running(root, port=port):
            pass


def test_others_need_a_token(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"everybody who can reach 0\.0\.0\.0"):
        server.serve(root, host="0.0.0.0", port=0)


def test_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no catalogue"):
        server.serve(tmp_path / "none", port=0)
    with (
        pytest.raises(BackendError, match=r"did not start: There is no catalogue"),
        server.running(tmp_path / "none"),
    ):
        pass


PARENT = """
import sys, time
from pathlib import Path
from gee.emulator.server import running

with running(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_it_dies_when_its_parent_is_killed(root: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        url = parent.stdout.readline().decode().strip()
        assert fetch(url + NAME)[0] == 200
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            fetch(url + NAME)
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the server outlived its parent")


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    with server._bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "module, heavy",
    [
        ("gee.emulator.transport", "numpy starlette uvicorn rasterio ee"),
        ("gee.emulator.commands", "numpy starlette uvicorn rasterio ee"),
        ("gee.emulator.catalog", "rasterio pandas ee"),
    ],
)
def test_imports_are_light(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
