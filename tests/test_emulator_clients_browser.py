"""Map tiles in a real browser: a page of this machine shows them, as maps such as Leaflet's do."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from emulator_clients_world import TILE, World, connected, make_world
from review_browser import chromium, find_chromium

from gee.emulator.server import running

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium on this machine (install one, or name it in THAWSLUMP_CHROMIUM)",
)

PAGE = """<!doctype html><meta charset="utf-8"><title>map</title>
<style>img { position: absolute; width: 256px; height: 256px }</style><div id="map"></div>
<script>
// What map libraries do: one picture for every tile in view, by the template of the layer.
function show(template, z, x0, y0, count) {
  const waiting = [];
  for (let dy = 0; dy < count; dy++) for (let dx = 0; dx < count; dx++) {
    const tile = new Image();
    tile.crossOrigin = "anonymous";
    tile.style.left = `${256 * dx}px`; tile.style.top = `${256 * dy}px`;
    tile.dataset.place = `${x0 + dx}/${y0 + dy}`;
    waiting.push(new Promise(done => { tile.onload = () => done(true);
                                       tile.onerror = () => done(false); }));
    tile.src = template.replace("{z}", z).replace("{x}", x0 + dx).replace("{y}", y0 + dy);
    document.getElementById("map").append(tile);
  }
  return Promise.all(waiting);
}
function pixels(place) {
  const tile = document.querySelector(`img[data-place="${place}"]`);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 256;
  const context = canvas.getContext("2d");
  context.drawImage(tile, 0, 0);
  return Array.from(context.getImageData(0, 0, 256, 256).data);
}
function compute(address) {
  const body = JSON.stringify({expression: {result: "0", values: {"0": {constantValue: 1}}}});
  return fetch(address, {method: "POST", body, headers: {"Content-Type": "application/json"}})
    .then(answer => "read " + answer.status, () => "refused");
}
</script>"""


@pytest.fixture
def page_address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "map.html").write_text(PAGE, encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/map.html"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("browser") / "catalog")


def test_a_page_shows_tiles_and_cannot_compute(
    world: World, page_address: str, tmp_path: Path
) -> None:
    with (
        running(world.root, state=tmp_path / "state") as url,
        connected(url=url),
        chromium() as page,
    ):
        template = ee.Image("users/me/tile").getMapId({"min": 0, "max": 255})["tile_fetcher"]
        page.goto(page_address)
        z, x, y = TILE
        call = "([template, z, x, y]) => show(template, z, x, y, 2)"
        loaded = page.evaluate(call, [template.url_format, z, x, y])
        assert loaded == [True] * 4
        got = np.array(page.evaluate("place => pixels(place)", f"{x}/{y}")).reshape(256, 256, 4)
        valid = world.tile > 50
        np.testing.assert_array_equal(got[..., 3] == 255, valid)
        np.testing.assert_array_equal(got[..., 0][valid], world.tile[valid])
        beside = np.array(page.evaluate("place => pixels(place)", f"{x + 1}/{y + 1}"))
        assert not beside.any()
        # The page is of another port, and so another site: it must not compute.
        address = f"{url}/v1/projects/local-proj/value:compute"
        assert page.evaluate("address => compute(address)", address) == "refused"
        assert page.problems == []
