"""What the emulator answers to requests that are wrong, or that no one means.

    python benchmarks/emulator_fuzz.py [--count 10000] [--seed 0] [--workers 2] [--clients 4]

Requests of real clients are recorded (`_bodies`), spoilt (`_spoiler`) and sent to a real server.
Prints JSON: how many got which status, by what was done to them; the slowest answers; words that
no answer may have; whether a request that is wrong whatever it means was taken; the server's
resident memory before and after. Exits with 1 where something is not as it must be.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from _bodies import Body, made_up, recorded
from _spoiler import Spoiler

from gee.emulator.server import running

SLOWEST = 10.0  # seconds that an answer may take
GROWTH = 1.10


def memory() -> int:
    """Return the resident bytes of the server's processes."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def settled(url: str, body: Body) -> int:
    """Return the resident bytes once the server is idle: it gives memory back after requests."""
    for _ in range(8):
        time.sleep(0.7)
        send(url, [body] * 8, 8)
    time.sleep(1)
    return memory()


class Counted:
    """What was answered."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.statuses: collections.Counter[str] = collections.Counter()
        self.taken: list[str] = []
        self.broken: list[str] = []
        self.slow: list[tuple[float, str]] = []
        self.resident: list[int] = []
        self.ways: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )

    def add(self, body: Body, status: int, answer: bytes, seconds: float) -> None:
        """Note an answer."""
        said = answer[:2000].decode("utf-8", "replace")
        shown = f"{body.how} {body.method} {body.path[:80]} {body.encoded()[:600]!r}"
        with self.lock:
            self.statuses[str(status)] += 1
            if not self.statuses.total() % 500:
                self.resident.append(memory())
            self.ways[body.how][str(status)] += 1
            self.slow = sorted([*self.slow, (round(seconds, 2), shown)], reverse=True)[:10]
            if body.malformed and not 400 <= status < 500:
                self.taken.append(shown)
            if status == 200:
                return
            try:
                error = json.loads(answer)["error"]
                shaped = error["code"] == status and error["message"] and error["status"]
            except (ValueError, KeyError, TypeError):
                shaped = False
            if not 400 <= status < 500 or not shaped or "Internal error" in said:
                self.broken.append(f"{status} {said[:300]} | {shown}")


def client(url: str, bodies: Iterator[Body], counted: Counted, timeout: float) -> None:
    """Send requests one after another and note the answers."""
    parts = urllib.parse.urlsplit(url)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    while True:
        with counted.lock:
            body = next(bodies, None)
        if body is None:
            return
        start = time.perf_counter()
        try:
            link.request(
                body.method,
                body.path,
                body.encoded(),
                {"Content-Type": "application/json"},
            )
            answer = link.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as problem:
            status, content = 0, f"{type(problem).__name__}: {problem}".encode()
            link.close()
            link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        counted.add(body, status, content, time.perf_counter() - start)


def send(url: str, bodies: Iterable[Body], clients: int, timeout: float = 600.0) -> Counted:
    """Send requests from some threads and return what was answered."""
    counted, left = Counted(), iter(bodies)  # made one by one: some are megabytes
    threads = [
        threading.Thread(target=client, args=(url, left, counted, timeout)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counted


def run(count: int, seed: int, workers: int, clients: int) -> dict[str, Any]:
    """Record, spoil, send; return the facts."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "catalog").mkdir()
        made_up(root / "catalog")
        known = recorded(root / "catalog", root / "recorded")
        spoiler = Spoiler(known, seed)
        with running(root / "catalog", state=root / "state", workers=workers) as url:
            # Warm: caches of positions and coordinate systems fill up to their bounds first.
            send(url, known, clients)
            send(url, (spoiler.one() for _ in range(max(count * 3 // 10, 1000))), clients)
            before = settled(url, known[0])
            start = time.perf_counter()
            counted = send(url, (spoiler.one() for _ in range(count)), clients)
            took = time.perf_counter() - start
            after = settled(url, known[0])
            alive = send(url, known[:1], 1).statuses
        return {
            "seed": seed,
            "requests": count,
            "recorded": len(known),
            "seconds": round(took, 1),
            "statuses": dict(counted.statuses),
            "by_what_was_done": {k: dict(v) for k, v in sorted(counted.ways.items())},
            "malformed_but_taken": counted.taken,
            "broken": counted.broken,
            "slowest": counted.slow,
            "resident_before": before,
            "resident_every_500": counted.resident,
            "resident_after": after,
            "alive_afterwards": dict(alive),
        }


def main() -> int:
    """Print the facts; 1 where one is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    facts = run(options.count, options.seed, options.workers, options.clients)
    print(json.dumps(facts, indent=1))
    good = (
        not facts["malformed_but_taken"]
        and not facts["broken"]
        and facts["slowest"][0][0] <= SLOWEST
        and facts["resident_after"] <= GROWTH * facts["resident_before"]
        and facts["alive_afterwards"]
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
