"""The review server over HTTP: what it answers, whom it refuses, how it names what is wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
import shapely
from inventory_world import make_world, work_out
from rasterio.io import MemoryFile

from inventory.review.app import Running, create_app, listen, serve
from inventory.store import Inventory
from thawslump.errors import BusyError, ConfigError
from thawslump.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_world(tmp_path_factory.mktemp("api") / "world", slumps=12, shape=(200, 240))
    work_out(workspace, "candidates")
    return workspace


@pytest.fixture(scope="module")
def address(world: Workspace) -> Iterator[str]:
    with Running(create_app(world.root)) as where:
        yield where


def ask(
    address: str,
    path: str,
    body: dict[str, Any] | None = None,
    **headers: str,
) -> tuple[int, Any, dict[str, str]]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None
    if body is not None:
        sent = {"Content-Type": "application/json", "X-Thawslump-Review": "1", **sent}
        data = json.dumps(body)
    try:
        connection.request("GET" if body is None else "POST", path, data, sent)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    kind = answer.headers.get("content-type", "")
    found = json.loads(content) if kind.startswith("application/json") else content
    return answer.status, found, dict(answer.headers.items())


def decision(candidate: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "candidate": candidate,
        "decision": "accept",
        "reviewer": "Ada",
        "request": f"request-{number:04}",
        **more,
    }


def test_the_page_and_all_it_needs_come_from_the_package(address: str) -> None:
    """No address of another host stands in the page, its style or its script."""
    for name in ("/", "/review.css", "/review.js", "/icon.svg"):
        status, content, headers = ask(address, name)
        assert status == 200
        assert "default-src 'self'" in headers["content-security-policy"]
        text = content.decode()
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


def test_queue_and_candidate(address: str, world: Workspace) -> None:
    _, info, _ = ask(address, "/api/info")
    assert (info["round"], info["kind"], info["made_up"]) == (1, "people", True)
    _, queue, _ = ask(address, "/api/queue")
    kept = Inventory(world.inventory).candidates(1)
    assert [c["id"] for c in queue["candidates"]] == [c.candidate_id for c in kept]
    status, one, _ = ask(address, f"/api/candidates/{kept[3].candidate_id}")
    assert status == 200
    assert one["area_m2"] == pytest.approx(kept[3].area_m2)
    assert one["made_up"] is True
    assert list(one["panels"])[:2] == ["before", "after"]
    assert one["outline"].startswith("M") and one["outline"].endswith("Z")


def picture(content: bytes) -> np.ndarray:
    """Decode with GDAL; shape (channel, y, x)."""
    with MemoryFile(content) as memory, memory.open() as source:
        if source.count > 1:
            return source.read()
        table = np.array([source.colormap(1)[i] for i in range(256)], dtype="uint8")
        return np.moveaxis(table[source.read(1)], -1, 0)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_chips_show_the_pixels_under_the_outline(address: str, world: Workspace) -> None:
    """Decoded by GDAL: the probability chip is bright exactly where the outline's path lies."""
    kept = Inventory(world.inventory).candidates(1)[2]
    _, one, _ = ask(address, f"/api/candidates/{kept.candidate_id}")
    images = {}
    for name, where in one["panels"].items():
        status, content, headers = ask(address, "/" + where)
        assert status == 200 and headers["content-type"] == "image/png"
        assert "immutable" in headers["cache-control"]
        images[name] = picture(content)
        assert images[name].shape[1:] == (one["pixels"], one["pixels"])
    assert not np.array_equal(images["before"], images["after"])
    rings = [
        [tuple(map(float, pair.split(","))) for pair in part.strip("MZ").split()]
        for part in one["outline"].split("Z")
        if part
    ]
    polygon = shapely.Polygon(rings[0])
    side = one["pixels"]
    x, y = np.meshgrid((np.arange(side) + 0.5) * 1000 / side, (np.arange(side) + 0.5) * 1000 / side)
    inside = shapely.contains_xy(polygon, x, y)
    bright = images["probability"][:3].sum(axis=0, dtype=int)
    assert bright[inside].min() > 250
    near = shapely.contains_xy(polygon.buffer(40), x, y)
    # The colour at the threshold 0.5 parts inside from outside.
    assert bright[inside].min() > bright[near & ~inside].max() - 60


def test_both_dates_share_one_stretch(address: str, world: Workspace) -> None:
    """The stretch of the site is that of both dates together, by numpy."""
    from inventory.review.gallery import Gallery

    with rasterio.open(world.context("hills")) as source:
        pre, post = source.read([1, 2, 3]), source.read([5, 6, 7])
    gallery = Gallery(world)
    first = Inventory(world.inventory).candidates(1)[0]
    stretch = gallery.stretch(first, ("red", "green", "blue"))
    gallery.close()
    both = np.concatenate([pre, post], axis=1).astype(float)
    both[both == 65535] = np.nan
    low, high = np.nanpercentile(both, [1, 98], axis=(1, 2))
    np.testing.assert_allclose(stretch, np.stack([low, high], axis=1), rtol=1e-3)


def test_a_decision_is_in_the_file_before_the_answer(address: str, world: Workspace) -> None:
    inventory = Inventory(world.inventory)
    name = inventory.candidates(1)[0].candidate_id
    status, answer, _ = ask(address, "/api/decisions", decision(name, 1, seconds=1.5))
    assert (status, answer["state"]) == (200, "accepted")
    assert inventory.candidate(name).state == "accepted"
    again = ask(address, "/api/decisions", decision(name, 1, seconds=1.5))
    assert again[1]["number"] == answer["number"]
    status, conflict, _ = ask(address, "/api/decisions", decision(name, 2, expected="open"))
    assert status == 409 and "accepted by now" in conflict["error"]
    status, undone, _ = ask(address, "/api/undo", {"reviewer": "Ada", "request": "request-undo"})
    assert (undone["candidate"], undone["state"], undone["undone"]) == (name, "open", "accept")
    assert inventory.candidate(name).state == "open"


def test_a_corrected_outline_is_taken(address: str, world: Workspace) -> None:
    inventory = Inventory(world.inventory)
    kept = inventory.candidates(1)[5]
    drawn = shapely.box(*kept.geometry.bounds)
    body = decision(kept.candidate_id, 60, geometry=shapely.geometry.mapping(drawn))
    assert ask(address, "/api/decisions", body)[0] == 200
    standing = inventory.standing(kept.candidate_id)
    assert standing is not None and standing.edited and standing.geometry is not None
    assert standing.geometry.equals_exact(shapely.MultiPolygon([drawn]), 1e-6, normalize=True)
    _, one, _ = ask(address, f"/api/candidates/{kept.candidate_id}")
    assert one["edited"] and one["history"][0]["reviewer"] == "Ada"


def test_a_drawn_ring_lies_where_it_was_drawn(address: str, world: Workspace) -> None:
    """Drawn over the outline that the page shows, at another zoom, it is that outline again."""
    kept = Inventory(world.inventory).candidates(1)[6]
    _, one, _ = ask(address, f"/api/candidates/{kept.candidate_id}?zoom=0.5")
    ring = [
        [float(v) for v in pair.split(",")]
        for pair in one["outline"].split("Z")[0].strip("M").split()
    ]
    body = decision(kept.candidate_id, 70, drawn=ring, zoom=0.5)
    assert ask(address, "/api/decisions", body)[0] == 200
    slumps = Inventory(world.inventory).slumps().set_index("slump_id")
    drawn = slumps.geometry[kept.candidate_id]
    overlap = drawn.intersection(kept.geometry).area / drawn.union(kept.geometry).area
    assert overlap > 0.995
    again = ask(address, "/api/decisions", decision(kept.candidate_id, 71))
    assert again[0] == 200
    slumps = Inventory(world.inventory).slumps().set_index("slump_id")
    assert slumps.geometry[kept.candidate_id].equals(drawn), "accepted again, it stays"


def test_a_ring_without_area_is_refused(address: str, world: Workspace) -> None:
    kept = Inventory(world.inventory).candidates(1)[7]
    body = decision(kept.candidate_id, 80, drawn=[[0, 0], [500, 500], [1000, 1000]])
    status, found, _ = ask(address, "/api/decisions", body)
    assert status == 400 and "less than a pixel" in found["error"]
    assert Inventory(world.inventory).candidate(kept.candidate_id).state == "open"


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "evil.example"}, 403, "does not answer as"),
        ({"Origin": "http://evil.example"}, 403, "from the review page itself only"),
        ({"X_Thawslump_Review": None}, 403, "from the review page itself only"),
    ],
)
def test_pages_of_others_cannot_decide(
    address: str, world: Workspace, headers: dict[str, str | None], status: int, words: str
) -> None:
    """Neither a foreign name for this server, nor a foreign page, nor a plain form."""
    inventory = Inventory(world.inventory)
    before = len(inventory.decisions())
    body = decision(inventory.candidates(1)[1].candidate_id, 77)
    given = {name: value for name, value in headers.items() if value is not None}
    if "X_Thawslump_Review" in headers:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        connection.request(
            "POST", "/api/decisions", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        got, found = answer.status, json.loads(answer.read())
        connection.close()
    else:
        got, found, _ = ask(address, "/api/decisions", body, **given)
    assert got == status and words in found["error"]
    assert len(inventory.decisions()) == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/candidates/nobody", "There is no candidate"),
        ("/api/chips/nobody/before.png", "There is no candidate"),
        ("/api/chips/{first}/thermal.png", "There is no panel 'thermal'"),
    ],
)
def test_wrong_addresses_are_answered_in_words(
    address: str, world: Workspace, path: str, words: str
) -> None:
    first = Inventory(world.inventory).candidates(1)[0].candidate_id
    status, found, _ = ask(address, path.format(first=first))
    assert status == 400 and words in found["error"] and found["hint"]


@pytest.mark.parametrize("path", ["/../store.py", "/%2e%2e/app.py", "/..%2f..%2fstore.py"])
def test_nothing_outside_the_page_is_served(address: str, path: str) -> None:
    assert ask(address, path)[0] == 404


def test_a_token_is_asked_for(world: Workspace) -> None:
    app = create_app(world.root, token="larch", hosts=None)
    with Running(app) as where:
        assert ask(where, "/api/queue")[0] == 401
        assert ask(where, "/api/queue?token=birch")[0] == 401
        status, _, headers = ask(where, "/?token=larch")
        assert status == 303
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
        assert ask(where, "/api/queue", Cookie=cookie.split(";")[0])[0] == 200
        assert ask(where, "/api/queue", Authorization="Bearer larch")[0] == 200


def test_other_hosts_need_a_token(world: Workspace) -> None:
    with pytest.raises(ConfigError, match="others on the network can reach the page"):
        serve(world.root, host="0.0.0.0", port=0)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"Port {port} on 127.0.0.1 is in use") as caught:
            listen("127.0.0.1", port)
        assert f"--port {port + 1}" in str(caught.value)


def test_the_command_says_where_the_page_is_and_that_a_port_is_taken(world: Workspace) -> None:
    """`thawslump review` twice: the second names the port, with exit code 5 and no traceback."""
    command = [sys.executable, "-m", "thawslump", "review", "-w", str(world.root)]
    first = subprocess.Popen(
        [*command, "--port", "0", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    try:
        where = json.loads(first.stdout.readline())["address"]
        assert ask(where.rstrip("/"), "/api/info")[1]["workspace"] == "painted hills"
        port = str(urlsplit(where).port)
        second = subprocess.run(
            [*command, "--port", port], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert second.returncode == 5
        assert f"Port {port} on 127.0.0.1 is in use" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        first.stdout.close()


def test_a_site_without_context_still_shows_what_there_is(tmp_path: Path) -> None:
    """Own rasters may come without the reviewer's bands: the stack and the map remain."""
    workspace = make_world(tmp_path / "world", slumps=4, shape=(120, 120))
    work_out(workspace, "candidates")
    workspace.context("hills").unlink()
    with Running(create_app(workspace.root)) as where:
        first = ask(where, "/api/queue")[1]["candidates"][0]["id"]
        one = ask(where, f"/api/candidates/{first}")[1]
        assert list(one["panels"]) == ["ndvi_change", "probability", "disagreement"]
        assert ask(where, "/" + one["panels"]["ndvi_change"])[0] == 200


def test_a_raster_that_was_closed_or_replaced_is_read_again(tmp_path: Path) -> None:
    """A recomputed round replaces its map while the page is open: the new one is shown."""
    from inventory.review.gallery import Gallery
    from thawslump.raster import read, write_cog

    workspace = make_world(tmp_path / "world", slumps=4, shape=(120, 120))
    work_out(workspace, "candidates")
    first = Inventory(workspace.inventory).candidates(1)[0]
    gallery = Gallery(workspace)
    before, version = gallery.chip(first, "probability"), gallery.version(first)
    held = gallery._rasters.get(workspace.context("hills"))
    gallery.close()
    assert held is not None and held.square(("hillshade",), 3, 5, 16).shape == (1, 16, 16)
    path = workspace.maps(1) / "hills.tif"
    old = read(path)
    write_cog(
        path, 10_000 - old.array, old.grid, old.names, nodata=65535, scales=(1e-4,) * 3
    )  # fmt: skip
    assert gallery.version(first) != version
    assert gallery.chip(first, "probability") != before
    gallery.close()
