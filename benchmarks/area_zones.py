"""A large area over two UTM zones and the antimeridian: thousands of tiles, part by part.

    python benchmarks/area_zones.py [--side 2400] [--block 600] [--tile 48] [--kills 2]

A made-up world of side x side pixels of 10 m with 180 degrees up its middle is exported from the
emulator as an area file asks for it, by `thawslump run --until mosaic` in processes of their own.
They are killed at random moments and started again with the same words. Told are:

- parts, pixels, requests and tiles taken over of all files, and how many parts that were done at a
  kill were begun again (none should be);
- seconds, and the largest resident memory of any one process and of all together;
- the stack of both zones against the functions that the world was painted from;
- candidates drawn from the change of NDVI taken for a probability: each patch of the world once,
  with its area, those on the meridian and across parts too.

Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import _processes
import psutil
from areas_world import LATITUDE, an_area, lonlat, loss, make_workspace, world

from thawslump.grid import lonlat_bounds
from thawslump.workspace import Workspace

Patches = list[tuple[float, float, float]]


def patches_of(side: int, count: int, seed: int) -> Patches:
    """Return patches that lie apart; every fourth on the meridian."""
    dice = random.Random(seed)
    half = side * 5 - 400
    found: Patches = []
    while len(found) < count:
        radius = dice.uniform(40, 160)
        x = dice.uniform(-radius, radius) if len(found) % 4 == 0 else dice.uniform(-half, half)
        y = dice.uniform(-half, half)
        if all((x - a) ** 2 + (y - b) ** 2 > (radius + r + 80) ** 2 for a, b, r in found):
            found.append((x, y, radius))
    return found


class Memory(threading.Thread):
    """Looks at the resident memory of a process and its children, five times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.pid: int | None = None
        self.most, self.together = 0, 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            sizes = []
            for process in _processes.family(self.pid) if self.pid else []:
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.Error:
                    continue
            self.most = max([self.most, *sizes])
            self.together = max(self.together, sum(sizes))


def exported(workspace: Workspace, kills: int, seed: int, memory: Memory) -> dict[str, Any]:
    """Run the export to its end through some kills."""
    words = [sys.executable, "-m", "thawslump", "--workspace", str(workspace.root)]
    words += ["run", "--until", "mosaic"]
    dice = random.Random(seed)
    total = len(workspace.sites)
    shares = sorted(dice.uniform(0.1, 0.9) for _ in range(kills))
    begun, killed = time.monotonic(), []
    for share in [*shares, None]:
        with (workspace.root / "run.log").open("ab") as log:
            process = _processes.start(words, log)
        memory.pid = process.pid
        while process.poll() is None:
            time.sleep(0.1)
            done = sum(r.state == "done" for r in _rows(workspace))
            if share is not None and done >= share * total:
                time.sleep(dice.uniform(0, 2))
                _processes.kill_group(process)
                killed.append({r.name: r.tries for r in _rows(workspace) if r.state == "done"})
                break
        if share is None and process.returncode != 0:
            raise SystemExit((workspace.root / "run.log").read_text())
    rows = _rows(workspace)
    tries = {r.name: r.tries for r in rows}
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "parts_done": sum(r.state == "done" for r in rows),
        "parts_done_at_kills": [len(done) for done in killed],
        "done_and_begun_again": sum(
            tries[name] != count for done in killed for name, count in done.items()
        ),
    }


def _rows(workspace: Workspace) -> list[_processes.LedgerRow]:
    return [r for r in _processes.ledger_rows(workspace.ledger) if r.step == "export"]


def facts(workspace: Workspace) -> dict[str, int]:
    """Return what the exports said of themselves, all parts together."""
    from thawslump.ledger import Ledger

    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        rows = ledger.rows("export")
    finally:
        ledger.close()
    names = ("pixels", "requests", "tiles_kept", "retries")
    return {name: sum(int(row.facts[name]) for row in rows) for name in names}


def held(workspace: Workspace, patches: Patches) -> dict[str, Any]:
    """Hold the stacks of both zones against the world."""
    from thawslump.raster import read_float

    result = {}
    for name in workspace.mosaics:
        found = read_float(workspace.stack(name), ["dNDVI"])
        off = np.abs(found.array[0] - loss(*lonlat(found.grid), patches))
        there = np.isfinite(off)
        result[name] = {
            "shape": list(found.grid.shape),
            "share_with_values": round(float(there.mean()), 4),
            "median_off": round(float(np.median(off[there])), 6),
            "share_off_by_0.05": round(float((off[there] > 0.05).mean()), 6),
        }
    return result


def candidates(workspace: Workspace, patches: Patches) -> dict[str, Any]:
    """Draw candidates from the change of NDVI and hold them against the patches."""
    import shapely
    from pyproj import Transformer
    from test_areas_maps import draw, paint

    from thawslump.raster import read_float
    from thawslump.vector import from_lonlat

    for name in workspace.sites:
        stack = read_float(workspace.stack(name), ["dNDVI"])
        paint(workspace.map(1, name), np.clip(-2 * stack.array[0], 0, 1), stack.grid)
    begun = time.monotonic()
    found = draw(workspace)
    seconds = time.monotonic() - begun
    shapes = from_lonlat([c.geometry for c in found], "EPSG:32660")
    to_metres = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True)
    lon = [180 + x / (111_320 * np.cos(np.radians(LATITUDE))) for x, _, _ in patches]
    lat = [LATITUDE + y / 111_320 for _, y, _ in patches]
    middles = [shapely.Point(x, y) for x, y in zip(*to_metres.transform(lon, lat), strict=True)]
    tree = shapely.STRtree(shapes)
    hits = [tree.query(p.buffer(20), predicate="intersects") for p in middles]
    off = [
        abs(found[int(hit[0])].area_m2 / (np.pi * patch[2] ** 2) - 1)
        for hit, patch in zip(hits, patches, strict=True)
        if len(hit) == 1
    ]
    return {
        "patches": len(patches),
        "on_the_meridian": sum(abs(x) < r for x, _, r in patches),
        "candidates": len(found),
        "patches_found_once": sum(len(hit) == 1 for hit in hits),
        "patches_found_twice": sum(len(hit) > 1 for hit in hits),
        "area_off_median": round(float(np.median(off)), 4),
        "area_off_most": round(float(np.max(off)), 4),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=2400)
    parser.add_argument("--block", type=int, default=600)
    parser.add_argument("--tile", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--patches", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    patches = patches_of(given.side, given.patches, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        area = an_area(bounds=lonlat_bounds(world(given.side - 60)), block=given.block)
        settings = (
            f"export: {{tile: {given.tile}, smallest_tile: 16, workers: 4}}\n"
            f"executor: {{workers: {given.workers}}}\n"
        )
        workspace = make_workspace(Path(folder) / "w", area, settings, given.side, patches)
        memory = Memory()
        memory.start()
        outcome: dict[str, Any] = {
            "zones": {name: len(zone.parts) for name, zone in workspace.mosaics.items()},
            "export": exported(workspace, given.kills, given.seed, memory),
        }
        memory.ended.set()
        outcome["export"] |= facts(workspace)
        outcome["megabytes_of_one_process"] = memory.most // 2**20
        outcome["megabytes_together"] = memory.together // 2**20
        outcome["stacks"] = held(workspace, patches)
        outcome["candidates"] = candidates(workspace, patches)
    print(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
