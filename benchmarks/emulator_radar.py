"""How fast a slope-corrected Sentinel-1 composite of made-up scenes is, by the project's script.

    python benchmarks/emulator_radar.py [--size 512] [--scenes 3] [--runs 5]

The graph is the one that the client sends for `gee.scripts.sentinel1.composite`: scenes of 10 m
in two polarisations with a coarse band of incidence angles, a DEM of one arc second, angular
slope correction (volume model) and the median in linear power. Prints JSON: seconds of the first
and of the fastest warm run, with one thread and with as many as the engine takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ee
import ee.deprecation
import numpy as np
from google.auth.credentials import AnonymousCredentials
from pyproj import Transformer

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.evaluate import Evaluator
from gee.emulator.pixels import Limits, render
from gee.emulator.projection import PixelGrid
from gee.emulator.transport import Transport
from gee.scripts import sentinel1
from thawslump.site import Site, Window

CRS = "EPSG:32652"
WEST, NORTH = 500_000.0, 7_975_000.0
DAY = 86_400_000
START = 1_592_800_000_000  # June 2020


def made_up(root: Path, size: int, scenes: int) -> tuple[Catalog, Site]:
    """Write scenes, incidence angles and a DEM around ``size`` pixels; return a site on them."""
    random = np.random.default_rng(1)
    catalog = Catalog(root, writable=True)
    wide = size + 200
    left, top = WEST - 1000, NORTH + 1000
    catalog.put_collection("COPERNICUS/S1_GRD")
    y, x = np.mgrid[: wide // 50 + 2, : wide // 50 + 2]
    for k in range(scenes):
        bands = [
            BandData(
                name,
                random.normal(level, 1.5, (wide, wide)).astype("f4"),
                CRS,
                (10.0, 0.0, left, 0.0, -10.0, top),
            )
            for name, level in (("VV", -11.0), ("VH", -18.0))
        ]
        angles = (36 + 0.02 * x + 0.005 * y + 0.01 * k).astype("f4")
        bands.append(BandData("angle", angles, CRS, (500.0, 0.0, left, 0.0, -500.0, top)))
        catalog.put_image(
            f"COPERNICUS/S1_GRD/scene{k}",
            bands,
            {
                "instrumentMode": "IW",
                "orbitProperties_pass": "DESCENDING",
                "relativeOrbitNumber_start": 61,
                "transmitterReceiverPolarisation": ["VV", "VH"],
                "resolution_meters": 10,
                "platform_number": "A",
            },
            start_ms=START + 12 * DAY * k,
        )
    degree = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    side = wide * 10
    lon, lat = degree.transform(
        np.array([left, left + side, left, left + side]),
        np.array([top, top, top - side, top - side]),
    )
    step = 1 / 3600
    rows, columns = (int(np.ptp(v) / step) + 40 for v in (lat, lon))
    gy, gx = np.mgrid[:rows, :columns]
    heights = (200 + 60 * np.sin(gx / 11) * np.cos(gy / 9)).astype("f4")
    catalog.put_collection("COPERNICUS/DEM/GLO30")
    catalog.put_image(
        "COPERNICUS/DEM/GLO30/tile",
        [
            BandData(
                "DEM",
                heights,
                "EPSG:4326",
                (step, 0.0, float(lon.min()) - 20 * step, 0.0, -step, float(lat.max()) + 20 * step),
            )
        ],
        {},
    )
    west, south = degree.transform(WEST, NORTH - size * 10)
    east, north = degree.transform(WEST + size * 10, NORTH)
    site = Site(
        name="made-up",
        role="area",
        bounds=(west, south, east, north),
        crs=CRS,
        pre=Window(start="2020-06-01", end="2020-09-01"),
        post=Window(start="2021-06-01", end="2021-09-01"),
        made_up=True,
    )
    return catalog, site


def graph_of(image: ee.Image) -> dict[str, Any]:
    """Return the expression that the client sends."""
    made: dict[str, Any] = json.loads(json.dumps(ee.serializer.encode(image, for_cloud_api=True)))
    return made


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        catalog, site = made_up(root / "catalog", options.size, options.scenes)
        # Otherwise Initialize asks Google for a list of deprecated assets.
        blank = ee.deprecation.DeprecatedAsset("-", None, None, None)
        ee.deprecation.deprecated_assets = {"-": blank}
        transport = Transport(root / "catalog", root / "state")
        ee.Initialize(
            credentials=AnonymousCredentials(), project="made-up", http_transport=transport
        )
        window = site.pre
        assert window is not None
        graph = graph_of(sentinel1.composite(site, window))
        engine = Evaluator(catalog)
        grid = PixelGrid(CRS, (10.0, 0.0, WEST, 0.0, -10.0, NORTH), options.size, options.size)
        out: dict[str, Any] = {
            "size": options.size,
            "scenes": options.scenes,
            "nodes": len(graph["values"]),
            "seconds": {},
        }
        for name, limits in (("all_threads", Limits()), ("one_thread", Limits(threads=1))):
            times = []
            for _ in range(options.runs + 1):
                start = time.perf_counter()
                got = render(engine.evaluate(graph), grid, None, limits)
                times.append(time.perf_counter() - start)
            out["seconds"][name] = {"first": round(times[0], 3), "warm": round(min(times[1:]), 3)}
        out["valid_share"] = round(float((got["VV"][1] > 0).mean()), 4)
        transport.close()
        ee.Reset()
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
