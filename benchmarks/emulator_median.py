"""Composites over HTTP against numpy in memory, on made-up scenes.

    python benchmarks/emulator_median.py [--size 1024] [--scenes 3] [--runs 15] [--write]

1. The median of QA-masked scenes, one band, by the real client from a server in another process,
   and `np.nanmedian` of the same float32 stack in this process: in turns, so that what else the
   machine does touches both; the ratio of the medians of the runs. What the server reads is warm.
2. The slope-corrected Sentinel-1 composite of `gee.scripts.sentinel1`, 3 scenes, 512 x 512.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gee.emulator.catalog import BandData, Catalog, Transform  # noqa: E402
from gee.emulator.server import running  # noqa: E402

CRS = "EPSG:32633"
WEST, NORTH = 500_000.0, 6_762_000.0
CLOUDS = 1 << 10
RADAR = 512


def grid(scale: float, margin: float = 0.0) -> Transform:
    """Return the transform of pixels of a size that start at the made-up ground's corner."""
    return (scale, 0.0, WEST - margin, 0.0, -scale, NORTH + margin)


def put_optical(catalog: Catalog, size: int, scenes: int) -> np.ndarray:
    """Write scenes of red and QA; return the red as float32, NaN under clouds."""
    random = np.random.default_rng(1)
    catalog.put_collection("M/S2")
    stack = []
    for k in range(scenes):
        red = random.integers(1, 10_000, (size, size)).astype(np.float32)
        qa = np.where(random.random((size, size)) < 0.1, CLOUDS, 0).astype(np.uint16)
        bands = [
            BandData("B4", red, CRS, grid(10)),
            BandData("QA60", qa, CRS, grid(10), pyramiding="SAMPLE"),
        ]
        catalog.put_image(f"M/S2/scene{k}", bands, {}, start_ms=1_500_000_000_000 + k)
        stack.append(np.where(qa == 0, red, np.float32(np.nan)))
    return np.stack(stack)


def put_radar(catalog: Catalog) -> None:
    """Write three ascending scenes and the DEM under them."""
    random = np.random.default_rng(2)
    catalog.put_collection("COPERNICUS/S1_GRD")
    catalog.put_collection("COPERNICUS/DEM/GLO30")
    y, x = np.mgrid[:40, :40] * 400.0
    angle = (38 + 16 / 250e3 * x).astype(np.float32)
    for day in (5, 17, 29):
        bands = [
            BandData(
                name, random.normal(level, 1.5, (RADAR, RADAR)).astype(np.float32), CRS, grid(10)
            )
            for name, level in (("VV", -9.0), ("VH", -15.0))
        ]
        bands.append(BandData("angle", angle, CRS, grid(400, 4000)))
        time_start = dt.datetime(2020, 6, day, 10, tzinfo=dt.UTC).timestamp() * 1000
        catalog.put_image(
            f"COPERNICUS/S1_GRD/scene{day}",
            bands,
            {
                "instrumentMode": "IW", "transmitterReceiverPolarisation": ["VV", "VH"],
                "orbitProperties_pass": "ASCENDING", "relativeOrbitNumber_start": 44,
            },
            start_ms=int(time_start),
        )  # fmt: skip
    y, x = np.mgrid[:200, :200] * 30.0
    heights = (400 + 0.1 * x + 60 * np.sin(x / 300) * np.cos(y / 250)).astype(np.float32)
    catalog.put_image(
        "COPERNICUS/DEM/GLO30/made_up",
        [BandData("DEM", heights, CRS, grid(30, 90))],
    )


def request(image: Any, size: int) -> dict[str, Any]:
    """Return a request for the pixels of the made-up ground."""
    return {
        "expression": image, "fileFormat": "NPY",
        "grid": {
            "dimensions": {"width": size, "height": size}, "crsCode": CRS,
            "affineTransform": {
                "scaleX": 10, "translateX": WEST, "scaleY": -10, "translateY": NORTH
            },
        },
    }  # fmt: skip


def seconds(run: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def composite(ee: Any) -> Any:
    """Return the slope-corrected composite of the three radar scenes."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from gee.scripts import sentinel1
    from thawslump.grid import lonlat_bounds
    from thawslump.site import Site, Window

    ground = GeoBox((RADAR, RADAR), Affine(*grid(10)), CRS)
    window = Window(start=dt.date(2020, 6, 1), end=dt.date(2020, 9, 1))
    later = Window(start=dt.date(2021, 6, 1), end=dt.date(2021, 9, 1))
    site = Site(
        name="place",
        role="area",
        bounds=lonlat_bounds(ground),
        crs=CRS,
        pre=window,
        post=later,
        orbit_pass="ASCENDING",
    )
    return sentinel1.composite(site, window)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials

    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    warnings.simplefilter("ignore", RuntimeWarning)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "catalog")
        catalog = Catalog(root, writable=True)
        stack = put_optical(catalog, options.size, options.scenes)
        put_radar(catalog)
        with running(root, state=Path(folder, "state")) as url:
            ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)

            def clear(image: Any) -> Any:
                good = image.select("QA60").bitwiseAnd(CLOUDS).eq(0)
                return image.select("B4").updateMask(good)

            median = request(ee.ImageCollection("M/S2").map(clear).median(), options.size)
            radar = request(composite(ee), RADAR)

            def over_http() -> np.ndarray:
                return np.load(io.BytesIO(ee.data.computePixels(median)))["B4"]

            def in_memory() -> np.ndarray:
                return np.asarray(np.nanmedian(stack, axis=0))

            for _ in range(3):
                found, want = over_http(), in_memory()
            http, numpy = [], []
            for _ in range(options.runs):
                http.append(seconds(over_http))
                numpy.append(seconds(in_memory))
            pictures = np.load(io.BytesIO(ee.data.computePixels(radar)))
            slope = [seconds(lambda: ee.data.computePixels(radar)) for _ in range(options.runs)]
    good = np.isfinite(want)
    milliseconds = {
        "median over HTTP": 1000 * statistics.median(http),
        "np.nanmedian in memory": 1000 * statistics.median(numpy),
        "Sentinel-1 slope-corrected composite, 3 scenes of 512 x 512": 1000
        * statistics.median(slope),
    }
    out = {
        "size": options.size, "scenes": options.scenes, "runs": options.runs,
        "cores": os.cpu_count(),
        "milliseconds": {name: round(value, 1) for name, value in milliseconds.items()},
        "fastest milliseconds": {
            name: round(1000 * min(runs), 1)
            for name, runs in (("median over HTTP", http), ("np.nanmedian in memory", numpy))
        },
        "median over HTTP / np.nanmedian": round(
            statistics.median(http) / statistics.median(numpy), 3
        ),
        "target": "at most 1; the composite under 1000 ms",
        "equal to np.nanmedian": bool((found[good] == want[good]).all() and not found[~good].any()),
        "valid pixels of the composite": float(np.mean(pictures["VV"] != 0)),
    }  # fmt: skip
    print(json.dumps(out, indent=1))
    if options.write:
        path = ROOT / "benchmarks" / "results" / "emulator_median.json"
        path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
