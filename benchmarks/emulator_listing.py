"""A collection of 10,000 images: how long listing, filtering and counting take, and what they hold.

    python benchmarks/emulator_listing.py [--images 10000] [--write]

Made-up images of 16 x 16 pixels over four years and a strip of ground. The real client asks a
server in another process; "first" is the first request of its kind, "again" the median of the later
ones. Also: the size after one image was put (by another process, as an ingest would be).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gee.emulator.catalog import BandData, Catalog  # noqa: E402
from gee.emulator.server import running  # noqa: E402

CRS = "EPSG:32633"
START = 1_500_000_000_000
HOURS = 3_600_000
COLLECTION = "M/MANY"


def build(root: Path, count: int) -> None:
    """Write the collection: one image by the catalogue, the others after its example."""
    catalog = Catalog(root, writable=True)
    catalog.put_collection(COLLECTION)
    side = 16
    array = np.arange(side * side, dtype=np.uint16).reshape(side, side)
    first = f"{COLLECTION}/image_00000"
    transform = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    bands = [BandData(name, array, CRS, transform) for name in ("B4", "B8")]
    catalog.put_image(first, bands, {"CLOUDY_PIXEL_PERCENTAGE": 0}, start_ms=START)
    folder = root / first
    manifest = json.loads((folder / "asset.json").read_text(encoding="utf-8"))
    ring = manifest["footprint"]["coordinates"][0]
    for k in range(1, count):
        place = root / COLLECTION / f"image_{k:05d}"
        place.mkdir()
        for path in folder.glob("*.tif"):
            os.link(path, place / path.name)
        east = 0.002 * (k % 2000)
        moved = {
            **manifest,
            "properties": {"CLOUDY_PIXEL_PERCENTAGE": k % 100},
            "start_ms": START + k * 3 * HOURS,
            "footprint": {
                "type": "Polygon", "coordinates": [[[x + east, y] for x, y in ring]],
            },
        }  # fmt: skip
        (place / "asset.json").write_text(json.dumps(moved), encoding="utf-8")
    catalog.put_collection(COLLECTION)  # renews the time of the folder above
    catalog.put_image(f"{COLLECTION}/image_{count - 1:05d}", bands, {}, start_ms=START)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials

    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "catalog")
        build(root, options.images)
        with running(root, state=Path(folder, "state")) as url:
            ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)
            (server,) = psutil.Process().children()
            images = ee.ImageCollection(COLLECTION)
            point = ee.Geometry.Point([15.501, 45.153])
            assert ee.Number(1).add(1).getInfo() == 2
            rest = server.memory_info().rss

            def last_date() -> str:
                return str(
                    ee.Date(images.aggregate_max("system:time_start")).format("YYYY").getInfo()
                )

            calls: dict[str, Callable[[], Any]] = {
                "size": lambda: images.size().getInfo(),
                "first": lambda: images.first().get("system:index").getInfo(),
                "filterDate, 1 month, size": lambda: images.filterDate(
                    "2018-03-01", "2018-04-01"
                ).size().getInfo(),
                "filterBounds, size": lambda: images.filterBounds(point).size().getInfo(),
                "filterDate + filterBounds, first": lambda: images.filterDate(
                    "2018-01-01", "2019-01-01"
                ).filterBounds(point).first().get("system:index").getInfo(),
                "filter by a property, size": lambda: images.filter(
                    ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 5)
                ).size().getInfo(),
                "sort, first": lambda: images.sort("CLOUDY_PIXEL_PERCENTAGE", False).first().get(
                    "system:index"
                ).getInfo(),
                "aggregate_max of times": last_date,
                "listAssets, a page of 1000": lambda: len(
                    ee.data.listAssets(
                        {"parent": f"projects/earthengine-public/assets/{COLLECTION}",
                         "pageSize": 1000, "view": "BASIC"}
                    )["assets"]
                ),
                "listImages with a filter": lambda: len(
                    ee.data.listImages(
                        {"parent": f"projects/earthengine-public/assets/{COLLECTION}",
                         "filter": 'startTime >= "2018-03-01T00:00:00Z" AND '
                                   'endTime < "2018-04-01T00:00:00Z"'}
                    )["images"]
                ),
                "one image": lambda: ee.Image(f"{COLLECTION}/image_05000").get(
                    "CLOUDY_PIXEL_PERCENTAGE").getInfo(),
            }  # fmt: skip

            def timed(call: Callable[[], Any]) -> tuple[float, Any]:
                start = time.perf_counter()
                answer = call()
                return 1000 * (time.perf_counter() - start), answer

            table = {}
            for name, call in calls.items():
                first, answer = timed(call)
                again = [timed(call)[0] for _ in range(options.repeat)]
                table[name] = {
                    "first ms": round(first, 1), "again ms": round(statistics.median(again), 1),
                    "answer": answer,
                }  # fmt: skip
            held = server.memory_info().rss
            other = Catalog(root, writable=True)
            array = np.zeros((16, 16), np.uint16)
            transform = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
            other.put_image(
                f"{COLLECTION}/zz", [BandData("B4", array, CRS, transform)], {}, start_ms=START
            )
            after, size = timed(calls["size"])
            assert size == options.images + 1
    out = {
        "images": options.images,
        "requests": table,
        "size after one image was put, ms": round(after, 1),
        "server MiB before and after": [round(rest / 2**20), round(held / 2**20)],
    }
    print(json.dumps(out, indent=1))
    if options.write:
        path = ROOT / "benchmarks" / "results" / "emulator_listing.json"
        path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
