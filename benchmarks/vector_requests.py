"""What a vector file costs in every request: as text, and as the nested lists of GeoJSON.

    python benchmarks/vector_requests.py [--lines 1000]

Made-up rivers around a made-up site are cut and simplified (`gee.vectors`), and the distance to
them is asked of the emulator: bytes of the request, seconds in which the client writes it down (in
every request of an export), seconds of one tile. Both forms must give the same pixels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CRS, WEST, NORTH, SIDE = "EPSG:32633", 500_000.0, 6_762_000.0, 5_000.0
VERTICES = 60


def rivers(path: Path, count: int, dice: np.random.Generator) -> None:
    """Write lines that wander for some kilometres within 20 km of the site."""
    import geopandas
    import shapely

    starts = dice.uniform(-20_000, 20_000 + SIDE, (count, 1, 2))
    steps = dice.normal(0, 40, (count, VERTICES, 2)).cumsum(axis=1)
    places = starts + steps + np.array([WEST, NORTH - SIDE])
    lines = [shapely.LineString(one) for one in places]
    geopandas.GeoDataFrame(geometry=lines, crs=CRS).to_file(path, engine="pyogrio")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    import ee
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from gee.config import BackendConfig
    from gee.exports.plan import Tile, request_grid
    from gee.grids import factor_grid
    from gee.scripts import distances
    from gee.scripts.settled import Settled
    from gee.session import connect
    from gee.vectors import read_vectors
    from thawslump.grid import lonlat_bounds
    from thawslump.site import Site, Window

    cells = round(SIDE / 10)
    place = GeoBox((cells, cells), Affine(10, 0, WEST, 0, -10, NORTH), CRS)
    site = Site(
        name="made-up", role="area", bounds=lonlat_bounds(place), crs=CRS,
        pre=Window(start="2020-06-01", end="2020-09-01"),
        post=Window(start="2021-06-01", end="2021-09-01"),
        sources={"rivers": "rivers.gpkg"}, factors=("distance_rivers",),
    )  # fmt: skip
    grid = factor_grid(site)
    rows, cols = grid.shape
    report: dict[str, Any] = {"made_up": True, "lines": options.lines}

    def measured(image: ee.Image) -> tuple[dict[str, float], np.ndarray]:
        began = time.perf_counter()
        size = len(image.serialize())
        written = time.perf_counter()
        request = {"expression": image, "fileFormat": "NUMPY_NDARRAY"}
        answer = ee.data.computePixels(
            {**request, "grid": request_grid(grid, Tile(0, 0, rows, cols))}
        )
        ended = time.perf_counter()
        row = {
            "megabytes": round(size / 1e6, 3),
            "client_seconds": round(written - began, 3),
            "tile_seconds": round(ended - written, 2),
        }
        return row, np.asarray(answer["distance_rivers"])

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rivers(root / "rivers.gpkg", options.lines, np.random.default_rng(options.seed))
        began = time.perf_counter()
        found = read_vectors(root, site)
        report["reading_seconds"] = round(time.perf_counter() - began, 2)
        features = json.loads(found["rivers"].text)
        report["vertices"] = sum(len(line) for part in features for line in part)
        (root / "catalog").mkdir()
        with connect(BackendConfig(), root / "catalog"):
            text = distances.to_lines(site, "rivers", Settled(vectors=found))
            report["text"], ours = measured(text)
            nested = ee.FeatureCollection(
                [ee.Feature(ee.Geometry.MultiLineString(part)) for part in features]
            )
            reach = distances.REACH["rivers"]
            away = nested.distance(reach, 10).unmask(reach, False).min(reach)
            report["nested lists"], theirs = measured(
                distances.pinned(away.rename("distance_rivers"), grid)
            )
    report["largest_difference"] = float(np.abs(ours - theirs).max())
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
