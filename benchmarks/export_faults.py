"""An export of 400 tiles under faults and kills: complete, equal, nothing fetched twice.

    python benchmarks/export_faults.py [--tiles 20] [--kills 10] [--share 0.1] [--seed 1]

A made-up valley is served by the emulator with faults on demand: the given share of the pixel
requests fails at random (429, 500, dropped connections, truncated bodies in equal parts). All
files of a site are exported, the whole stack among them: slope-corrected, masked backscatter,
layover and shadow, land cover. The export is killed (SIGKILL) at random moments and started again
with the same words. A recorder in
front of the server writes down every request and whether its answer was whole; what it wrote
tells whether a finished tile was asked for again. Prints JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from _processes import kill_group, start

from gee.emulator.server import running
from gee.grids import factor_grid
from thawslump.config import save_yaml
from thawslump.demo import prepare
from thawslump.files import sha256
from thawslump.pipeline import run as run_pipeline
from thawslump.site import Site
from thawslump.workspace import Workspace

KINDS = ("429", "500", "dropped", "cut")
FILES = ("stack.tif", "context.tif", "factors.tif")


@dataclass(frozen=True)
class Asked:
    """A request for pixels: which tile of which file, when, and what came back."""

    tile: tuple[str, float, float]
    when: float
    whole: bool


class Recorder(BaseHTTPRequestHandler):
    """Hands requests on, and remembers those for pixels."""

    protocol_version = "HTTP/1.1"
    upstream: ClassVar[tuple[str, int]]
    asked: ClassVar[list[Asked]]
    lock: ClassVar[threading.Lock]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        tile = _tile(self.path, body)
        begun = time.monotonic()
        connection = http.client.HTTPConnection(*self.upstream, timeout=120)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        status, content, whole = 0, b"", False
        answer = None
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            status = answer.status
            content = answer.read()
            whole = status == 200
        except http.client.IncompleteRead as cut:
            content = cut.partial
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        if tile is not None:
            with self.lock:
                self.asked.append(Asked(tile, begun, whole))
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(status)
        for key, value in answer.getheaders():
            if key.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)
        if not whole and status == 200:
            self.close_connection = True

    do_GET = do_POST = do_DELETE = do_PATCH = _pass

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _tile(path: str, body: bytes) -> tuple[str, float, float] | None:
    """Return file and upper-left corner of a request for pixels."""
    if "image:computePixels" not in path:
        return None
    try:
        request = json.loads(body)
    except ValueError:
        return None  # whoever asked was killed in the middle of it
    affine = request["grid"]["affineTransform"]
    if affine["scaleX"] >= 30:
        name = "factors"
    else:
        # The last thing that is done to an image gives it the type of its file.
        graph = request["expression"]
        last = graph["values"][graph["result"]]["functionInvocationValue"]["functionName"]
        name = "context" if last == "Image.toUint16" else "stack"
    return name, affine["translateX"], affine["translateY"]


@contextmanager
def recorded(url: str) -> Iterator[tuple[str, list[Asked]]]:
    """Yield the address of a recorder in front of a server, and what it sees."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    asked: list[Asked] = []
    kind = type(
        "R",
        (Recorder,),
        {"upstream": (parts.hostname, parts.port), "asked": asked, "lock": threading.Lock()},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def faults(share: float, seed: int) -> str:
    """Return faults.yaml: `share` of the pixel requests fail, in four ways alike."""
    rules: list[dict[str, Any]] = []
    # Rules are asked in turn, so later ones see fewer requests.
    left = 1.0
    for kind in KINDS:
        rule: dict[str, Any] = {
            "match": {"handler": "image:computePixels"},
            "probability": round(share / len(KINDS) / left, 6),
        }
        rule |= {"status": int(kind)} if kind.isdigit() else {"connection": kind}
        rules.append(rule)
        left -= share / len(KINDS)
    return json.dumps({"seed": seed, "rules": rules})


def workspace_at(folder: Path, site: Site, url: str, side: int, name: str) -> Workspace:
    """Return a workspace with one area, exported in tiles of `side` pixels."""
    folder.mkdir(parents=True)
    save_yaml(folder / "areas" / f"{site.name}.yaml", site)
    config = {
        "name": name,
        "backend": {"kind": "emulator", "url": url},
        "export": {"tile": side, "smallest_tile": 8, "workers": 4, "retries": 12, "backoff": 0.05},
    }
    (folder / "thawslump.yaml").write_text(json.dumps(config))
    return Workspace(folder)


def export(folder: Path, log: Path, enough: Callable[[], bool] = lambda: False) -> bool:
    """Run the export, or kill it once there is enough; tell whether it came to its end."""
    command = [sys.executable, "-m", "thawslump", "--workspace", str(folder), "export", "run"]
    with log.open("ab") as stream:
        process = start(command, stream)
        while process.poll() is None:
            if enough():
                kill_group(process)
                process.wait()
                return False
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(log.read_text(errors="replace")[-3000:])
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=20, help="tiles a side")
    parser.add_argument("--side", type=int, default=32, help="pixels of a tile a side")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        pixels = options.tiles * options.side
        valley = prepare(root / "valley", seed=options.seed, shape=(pixels + 64, pixels + 64))
        run_pipeline(valley, until="valley")
        pattern = next(iter(valley.sites.values()))
        site = _area(valley, pattern, pixels)
        with running(valley.catalog, state=root / "clean") as url:
            clean = workspace_at(root / "undisturbed", site, url, options.side, "undisturbed")
            begun = time.monotonic()
            assert export(clean.root, root / "clean.log")
            undisturbed = time.monotonic() - begun
        (root / "faults.yaml").write_text(faults(options.share, options.seed))
        with (
            running(valley.catalog, state=root / "faulty", faults=root / "faults.yaml") as server,
            recorded(server) as (url, asked),
        ):
            work = workspace_at(root / "disturbed", site, url, options.side, "disturbed")
            finished_before: list[tuple[float, set[tuple[str, float, float]]]] = []
            # At random numbers of whole answers, from the first to the last.
            total = 2 * options.tiles**2
            for threshold in sorted(dice.sample(range(1, total), options.kills)):
                if export(
                    work.root,
                    root / "faulty.log",
                    lambda threshold=threshold: sum(a.whole for a in asked) >= threshold,
                ):
                    break
                finished_before.append((time.monotonic(), _kept(work, site)))
            kills = len(finished_before)
            export(work.root, root / "faulty.log")
            equal = {
                name: sha256(clean.tiles(site.name) / name) == sha256(work.tiles(site.name) / name)
                for name in FILES
            }
        finished_again = sum(
            a.tile in kept for moment, kept in finished_before for a in asked if a.when > moment
        )
        print(
            json.dumps(
                {
                    "grid_pixels": pixels,
                    "tiles_of_the_stack": options.tiles**2,
                    "tiles_of_all_files": len({a.tile for a in asked}),
                    "kills": kills,
                    "tiles_kept_at_each_kill": [len(kept) for _, kept in finished_before],
                    "requests": len(asked),
                    "failed_requests": sum(not a.whole for a in asked),
                    "requests_for_a_finished_tile": finished_again,
                    "files_equal_to_undisturbed": equal,
                    "seconds_undisturbed": round(undisturbed, 1),
                },
                indent=1,
            )
        )


def _area(valley: Workspace, pattern: Site, pixels: int) -> Site:
    """Return an area of exactly `pixels` a side in the middle of the valley."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from thawslump.grid import lonlat_bounds

    grids = [site.grid() for site in valley.sites.values()]
    crs = grids[0].crs
    west = min(g.transform.c for g in grids)
    north = max(g.transform.f for g in grids)
    grid = GeoBox((pixels - 4, pixels - 4), Affine(10, 0, west + 20, 0, -10, north - 20), crs)
    values = pattern.model_dump(exclude={"outlines", "role", "bounds", "name", "crs"})
    return Site(name="area", role="area", bounds=lonlat_bounds(grid), crs=str(crs), **values)


def _kept(work: Workspace, site: Site) -> set[tuple[str, float, float]]:
    """Return the tiles that lie finished on the disk."""
    found = set()
    for path in (work.tiles(site.name) / "checkpoint").rglob("*.npy"):
        name = path.parent.parent.name
        grid = factor_grid(site) if name == "factors" else site.grid()
        row, col = (int(part) for part in path.name.split("_")[:2])
        found.add((name, *(grid.transform @ (col, row))))
    return found


if __name__ == "__main__":
    main()
