"""How long a reviewer waits: key to painted next candidate, decision to disk, chip to picture.

    python benchmarks/review_latency.py [--candidates 100] [--size 3000]

Paints a workspace (made up), serves it with `thawslump review`, and decides every candidate with
keys in headless Chromium. The page measures itself: from the time stamp of the key to the message
after the frame that shows the next candidate. Ends with exit code 1 where the 95th percentile is
above 150 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

from inventory_world import make_world, work_out  # noqa: E402
from review_browser import Server, begin, chromium, find_chromium, press, waits  # noqa: E402

from inventory.review.gallery import PANELS, Gallery  # noqa: E402
from inventory.store import Inventory  # noqa: E402

LIMIT_MS = 150.0


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def told(name: str, values: list[float]) -> dict[str, float | str]:
    facts = {
        "what": name,
        "n": len(values),
        "median_ms": round(statistics.median(values), 2),
        "p95_ms": round(percentile(values, 0.95), 2),
        "max_ms": round(max(values), 2),
    }
    print(json.dumps(facts), flush=True)
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--size", type=int, default=3000, help="side of the area in pixels")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds a reviewer looks")
    options = parser.parse_args()
    if find_chromium() is None:
        print("no Chromium on this machine: only the server's part is measured", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_world(
            Path(folder) / "world", slumps=options.candidates, shape=(options.size, options.size)
        )
        work_out(workspace, "candidates")
        inventory = Inventory(workspace.inventory)
        kept = inventory.candidates(1)

        gallery = Gallery(workspace)
        begun = time.perf_counter()
        gallery.chip(kept[0], "before")
        print(json.dumps({"what": "first chip (stretch of the site)",
                          "ms": round(1000 * (time.perf_counter() - begun), 1)}))  # fmt: skip
        chips = []
        for candidate in kept[1:40]:
            for panel in PANELS:
                begun = time.perf_counter()
                gallery.chip(candidate, panel)
                chips.append(1000 * (time.perf_counter() - begun))
        told("one chip, not rendered before", chips)
        gallery.close()

        decisions = []
        for candidate in kept[:40]:
            begun = time.perf_counter()
            inventory.decide(candidate.candidate_id, "accept", "bench")
            decisions.append(1000 * (time.perf_counter() - begun))
            inventory.undo("bench")
        told("one decision on the disk", decisions)
        if find_chromium() is None:
            return 0

        with Server(workspace.root) as server, chromium() as page:
            begin(page, server.address)
            for number in range(len(kept) - 1):
                time.sleep(options.pause)
                press(page, "ar"[number % 2])
            first, *rest = waits(page)
            print(json.dumps({"what": "first candidate after opening the page",
                              "ms": round(first, 1)}))  # fmt: skip
            facts = told("key to next candidate painted", rest)
    good = float(facts["p95_ms"]) <= LIMIT_MS
    print(f"next candidate, 95th percentile: {facts['p95_ms']} ms, "
          f"{'within' if good else 'ABOVE'} {LIMIT_MS:g} ms")  # fmt: skip
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
