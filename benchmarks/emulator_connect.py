"""How fast the emulator connects and answers: medians over fresh processes.

    python benchmarks/emulator_connect.py [--catalog FOLDER] [--repeat 9]

"Connect to first value" is the time from after `import ee` to the first value computed, in a new
process each time: making the transport (or nothing, over HTTP), `ee.Initialize`, and
`ee.Number(1).add(2).getInfo()`. "Connect to first pixel" has one stored pixel in its place, for
which more has to be imported. Nothing is kept between the processes but compiled bytecode, as an
installation has it. Without --catalog a small made-up one is used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CHILD = """
import json, sys, time
import ee, ee.deprecation
from google.auth.credentials import AnonymousCredentials

ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
catalog, url, asset, first = sys.argv[1:5]
out = {}
start, work = time.perf_counter(), time.process_time()
if url:
    options = {"url": url}
else:
    from gee.emulator.transport import Transport
    options = {"http_transport": Transport(catalog)}
ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", **options)
out["initialize"] = time.perf_counter() - start
if first == "value":
    assert ee.Number(1).add(2).getInfo() == 3
    out["connect to first value"] = time.perf_counter() - start
    out["  of it, this process at work"] = time.process_time() - work

def repeated(name, call, count):
    call()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    out[name] = sorted(times)[len(times) // 2]

def pixels(expression, size):
    request = {
        "expression": expression, "fileFormat": "NPY",
        "grid": {"dimensions": {"width": size, "height": size}, "crsCode": "EPSG:32633",
                 "affineTransform": {"scaleX": 10, "translateX": 500000,
                                     "scaleY": -10, "translateY": 5000000}},
    }
    return lambda: ee.data.computePixels(request)

if first == "pixel":
    pixels(ee.Image(asset), 1)()
    print(json.dumps({"connect to first pixel": time.perf_counter() - start}))
    sys.exit()
repeated("Number.getInfo", lambda: ee.Number(1).add(2).getInfo(), 50)
repeated("algorithms", lambda: ee.data.getAlgorithms(), 5)
if asset:
    image = ee.Image(asset)
    repeated("computePixels 1 x 1", pixels(image, 1), 30)
    repeated("computePixels 256 x 256, one band", pixels(image, 256), 30)
    repeated("computePixels 1024 x 1024, one band", pixels(image, 1024), 10)
    series = ee.ImageCollection([image, image.add(1), image.add(2)])
    repeated("computePixels 1024 x 1024, median of 3", pixels(series.median(), 1024), 5)
print(json.dumps(out))
"""


def made_up(folder: Path) -> str:
    """Write a small catalogue with one image and return its id."""
    import numpy as np

    from gee.emulator.catalog import BandData, Catalog

    array = np.random.default_rng(0).normal(500, 100, (1024, 1024)).astype(np.float32)
    grid = ("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0))
    catalog = Catalog(folder, writable=True)
    catalog.put_image("users/made/up", [BandData("elevation", array, *grid)])
    return "users/made/up"


def measured(catalog: Path, url: str, asset: str, repeat: int, cache: Path) -> dict[str, float]:
    """Return the medians of a number of fresh processes, in seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    # As after an installation, which compiles; a checkout may not be allowed to keep bytecode.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(cache)
    runs = []
    for number in range(2 * repeat + 1):
        # The connection is measured in every process, pixels that are there already once.
        first = "value" if number <= repeat or not asset else "pixel"
        wanted = asset if number == repeat or first == "pixel" else ""
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(catalog), url, wanted, first],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        if number:  # the first compiles
            runs.append(json.loads(done.stdout))
    names = list(dict.fromkeys(name for run in runs for name in run))
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}


def main() -> None:
    """Measure in-process and over HTTP, and print a table."""
    sys.path.insert(0, str(ROOT))
    from gee.emulator.server import running

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog, asset = options.catalog, ""
        if catalog is None:
            catalog = Path(folder, "catalog")
            asset = made_up(catalog)
        inside = measured(catalog, "", asset, options.repeat, Path(folder, "bytecode"))
        with running(catalog, state=Path(folder, "state")) as url:
            over = measured(catalog, url, asset, options.repeat, Path(folder, "bytecode"))
    print(f"medians of {options.repeat} fresh processes, milliseconds")
    print(f"{'':42}{'in-process':>12}{'HTTP':>12}")
    for name in inside:
        print(f"{name:42}{1000 * inside[name]:12.1f}{1000 * over[name]:12.1f}")


if __name__ == "__main__":
    main()
