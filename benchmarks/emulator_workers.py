"""What a second worker process brings: 32 map tiles from 16 client threads, again and again.

    python benchmarks/emulator_workers.py [--rounds 9] [--write]

The tiles are different parts of a smoothed NDVI median of cloud-masked, made-up scenes; each costs
one worker at least 20 ms. Servers with one worker (which computes one request at a time, and with
its default of four at a time), and with two, are asked in turns; medians of the rounds. The client
speaks plain HTTP over connections that it keeps, and reports its own share of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import _large as large  # noqa: E402

from gee.emulator.server import running  # noqa: E402

TILES = 32
THREADS = 16
SCENES = 6
ZOOM = 13
SERVERS: dict[str, dict[str, Any]] = {
    "1 worker, 1 request at a time": {"workers": 1, "concurrency": 1},
    "1 worker": {"workers": 1, "concurrency": 4},
    "2 workers, 1 request at a time each": {"workers": 2, "concurrency": 1},
    "2 workers": {"workers": 2, "concurrency": 4},
}


class Client:
    """Threads with a connection each, which take tiles from one list."""

    def __init__(self, url: str, threads: int = THREADS) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.connections = [
            http.client.HTTPConnection(parts.hostname, parts.port) for _ in range(threads)
        ]

    def get(self, paths: list[str]) -> tuple[float, float, float]:
        """Return seconds, seconds of this process at work, and the median seconds of a tile."""
        left = list(paths)
        lock = threading.Lock()
        times: list[float] = []

        def work(connection: http.client.HTTPConnection) -> None:
            while True:
                with lock:
                    if not left:
                        return
                    path = left.pop()
                start = time.perf_counter()
                connection.request("GET", path)
                answer = connection.getresponse()
                content = answer.read()
                times.append(time.perf_counter() - start)
                assert answer.status == 200, content[:300]

        threads = [threading.Thread(target=work, args=(c,)) for c in self.connections]
        start, used = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (
            time.perf_counter() - start, time.process_time() - used, statistics.median(times)
        )  # fmt: skip


def created(url: str) -> str:
    """Make the map and return its path."""
    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials

    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    ee.Reset()
    ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)

    def greenness(image: Any) -> Any:
        good = image.select(large.QA).bitwiseAnd(large.CLOUDS).eq(0)
        return image.updateMask(good).normalizedDifference(["B8", "B4"])

    ndvi = ee.ImageCollection(large.COLLECTION).map(greenness).median().focalMedian(2, "square")
    made = ndvi.getMapId({"min": 0, "max": 1, "palette": ["brown", "yellow", "green"]})
    return urlsplit(made["tile_fetcher"].url_format).path.split("/tiles/")[0]


def tiles(count: int, skip: int) -> list[str]:
    """Return the ends of the addresses of tiles inside the scene."""
    from pyproj import Transformer

    half = large.SIDE * 5
    change = Transformer.from_crs(large.CRS, "EPSG:4326", always_xy=True)
    lon, lat = change.transform(large.TRANSFORM[2] + half, large.TRANSFORM[5] - half)
    n = 2**ZOOM
    x = int((lon / 360 + 0.5) * n)
    y = int((0.5 - np.log(np.tan(np.pi / 4 + np.radians(lat) / 2)) / (2 * np.pi)) * n)
    side = 12
    places = [(x - side // 2 + i % side, y - side // 2 + i // side) for i in range(side * side)]
    return [f"/tiles/{ZOOM}/{a}/{b}" for a, b in (places * 4)[skip : skip + count]]


def work_of(processes: list[psutil.Process]) -> list[float]:
    """Return the processor seconds of processes so far."""
    return [sum(p.cpu_times()[:2]) for p in processes]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep", type=Path, help="keep the catalogue in this folder")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    with contextlib.ExitStack() as stack:
        root = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()), "catalog")
        if not (root / large.COLLECTION).is_dir():
            large.build(root, SCENES)
        clients, maps, computing = {}, {}, {}
        for name, settings in SERVERS.items():
            state = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            known = set(psutil.Process().children(recursive=True))
            url = stack.enter_context(running(root, state=state, **settings))
            started = set(psutil.Process().children(recursive=True)) - known
            # With several workers the process in front computes nothing.
            several = settings["workers"] > 1
            computing[name] = [
                p for p in started if not several or "gee.emulator.dispatch" in p.cmdline()
            ]
            clients[name] = Client(url)
            maps[name] = created(url)
        alone: dict[str, float] = {}
        for name, client in clients.items():
            # Every cache holds what it can; then what one tile costs when nothing else runs.
            for _ in range(2):
                client.get([maps[name] + t for t in tiles(TILES, 0)])
            one = Client(f"http://{client.connections[0].host}:{client.connections[0].port}", 1)
            alone[name] = one.get([maps[name] + t for t in tiles(TILES, 0)])[2]
        seconds: dict[str, list[float]] = {name: [] for name in SERVERS}
        shares: dict[str, list[float]] = {name: [] for name in SERVERS}
        spread: dict[str, list[float]] = {name: [] for name in SERVERS}
        for _ in range(options.rounds):
            for name, client in clients.items():
                before = work_of(computing[name])
                spent, own, _ = client.get([maps[name] + t for t in tiles(TILES, 0)])
                after = work_of(computing[name])
                seconds[name].append(spent)
                shares[name].append(own / spent)
                used = [b - a for a, b in zip(before, after, strict=True)]
                spread[name].append(max(used) / max(sum(used), 1e-9))
    median = {name: statistics.median(found) for name, found in seconds.items()}
    base = "1 worker, 1 request at a time"
    out = {
        "tiles": TILES, "client threads": THREADS, "rounds": options.rounds,
        "cores": os.cpu_count(),
        "milliseconds of one tile alone": {n: round(1000 * s, 1) for n, s in alone.items()},
        "seconds": {n: round(s, 4) for n, s in median.items()},
        "processor share of the client": {
            n: round(statistics.median(s), 3) for n, s in shares.items()
        },
        "share of the busiest worker": {
            n: round(statistics.median(s), 3) for n, s in spread.items()
        },
        "two workers against one, each computing one request at a time": round(
            median[base] / median[f"2{base[1:].replace('worker', 'workers')} each"], 2
        ),
        "two workers against one, both as they are by default": round(
            median["1 worker"] / median["2 workers"], 2
        ),
        "target": 1.7,
    }  # fmt: skip
    print(json.dumps(out, indent=1))
    if options.write:
        path = ROOT / "benchmarks" / "results" / "emulator_workers.json"
        path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
