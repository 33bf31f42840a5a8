"""An export of thousands of tiles: memory that stays bounded, and what each tile costs beside.

    python benchmarks/export_large.py [--tiles 64] [--side 128] [--workers 16] [--kill 0.5]

One product of tiles x tiles tiles is fetched from the emulator over HTTP (an image that is
computed from the coordinates of its pixels, so that every pixel is known), killed after a share of
the tiles, fetched to its end by a second process, and written as a Cloud Optimized GeoTIFF.
Resident memory of the fetching process is looked at ten times a second. "Overhead" is the time per
tile with answers that are there at once, made without a server: decoding, verifying, keeping on
disk, placing. Prints JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

CRS = "EPSG:32633"
BANDS = ("a", "b", "c", "d")
WEST, NORTH = 300_000, 7_000_000


def grid_of(size: int) -> GeoBox:
    return GeoBox((size, size), Affine(10, 0, WEST, 0, -10, NORTH), CRS)


def truth(row: int, col: int, height: int, width: int) -> NDArray[np.float32]:
    """Return what the image holds: column, row, their sum and difference, exact in float32."""
    rows, cols = np.mgrid[row : row + height, col : col + width].astype("float32") + 0.5
    return np.stack([cols, rows, cols + rows, cols - rows])


def product_of(size: int, lazy: bool) -> Any:
    """Return the product; with its lazy image where a service is connected."""
    from gee.exports.products import Product

    image = None
    if lazy:
        import ee

        from gee.grids import crs_transform

        grid = grid_of(size)
        place = ee.Image.pixelCoordinates(ee.Projection(CRS, crs_transform(grid)))
        x, y = place.select("x"), place.select("y")
        image = ee.Image.cat(x, y, x.add(y), x.subtract(y)).rename(list(BANDS))
    return Product(
        "stack", image, grid_of(size), BANDS, "float32", -99999.0, float("nan"), ("1",) * 4, BANDS
    )


class Memory:
    """Looks at the resident memory of this process, ten times a second."""

    def __init__(self) -> None:
        self.most = 0
        self.before = psutil.Process().memory_info().rss
        self._end = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._end.wait(0.1):
            self.most = max(self.most, me.memory_info().rss)

    def megabytes(self) -> dict[str, float]:
        return {"before": round(self.before / 1e6), "peak": round(self.most / 1e6)}


def fetching(folder: Path, url: str, tiles: int, side: int, workers: int) -> None:
    """Fetch and write; run in a process of its own. Prints JSON."""
    from gee.config import BackendConfig, ExportConfig
    from gee.exports.fetch import Checkpoint, Tally, fetch
    from gee.session import connect
    from thawslump.raster import write_cog

    size = tiles * side
    config = ExportConfig(tile=side, workers=workers)
    tally = Tally()
    with connect(BackendConfig(kind="emulator", url=url, project="local-project")):
        product = product_of(size, lazy=True)
        memory = Memory()
        begun = time.perf_counter()
        array = fetch(
            product, Checkpoint(folder, "x" * 16), config, "the emulator", tally, lambda n: None
        )
        fetched = time.perf_counter() - begun
    fetch_memory = memory.megabytes()
    begun = time.perf_counter()
    write_cog(
        folder / "stack.tif", array, product.grid, BANDS, nodata=float("nan"), units=("1",) * 4
    )
    print(
        json.dumps(
            {
                "requests": tally.requests,
                "tiles_kept": tally.kept,
                "fetch_seconds": round(fetched, 1),
                "memory_while_fetching_mb": fetch_memory,
                "write_seconds": round(time.perf_counter() - begun, 1),
                "memory_in_all_mb": memory.megabytes(),
            }
        )
    )


def overhead(folder: Path, tiles: int, side: int, workers: int) -> dict[str, Any]:
    """Return the time per tile with answers that are there at once, and of a second start."""
    from gee.config import ExportConfig
    from gee.exports.fetch import Checkpoint, Tally, fetch

    product = product_of(tiles * side, lazy=False)
    cells = np.zeros((side, side), [(name, "f4") for name in BANDS])
    cells["a"] = 1
    buffer = io.BytesIO()
    np.save(buffer, cells)
    answer = buffer.getvalue()
    config = ExportConfig(tile=side, workers=workers)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        fetch(
            product,
            Checkpoint(folder, "y" * 16),
            config,
            "nothing",
            Tally(),
            lambda n: None,
            lambda product, tile: answer,
        )
        seconds.append(time.perf_counter() - begun)
    return {
        "milliseconds_per_tile": round(1000 * seconds[0] / tiles**2, 2),
        "milliseconds_per_tile_taken_over": round(1000 * seconds[1] / tiles**2, 2),
    }


def wrong(path: Path, size: int) -> int:
    """Return how many pixels of a file differ from what they must be."""
    import rasterio

    count = 0
    with rasterio.open(path) as source:
        for top in range(0, size, 512):
            height = min(512, size - top)
            window = rasterio.windows.Window(0, top, size, height)
            count += int((source.read(window=window) != truth(top, 0, height, size)).sum())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=64, help="tiles a side")
    parser.add_argument("--side", type=int, default=128, help="pixels of a tile a side")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--kill", type=float, default=0.5, help="share of tiles at the kill")
    parser.add_argument("--fetch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.tiles * options.side
    if options.fetch is not None:
        folder, url = options.fetch
        fetching(Path(folder), url, options.tiles, options.side, options.workers)
        return
    from gee.emulator.server import running

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "catalog").mkdir()
        more = [f"--{name}={getattr(options, name)}" for name in ("tiles", "side", "workers")]
        with running(root / "catalog", state=root / "state") as url:
            command = [sys.executable, __file__, "--fetch", str(root / "work"), url, *more]
            first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            checkpoint = root / "work" / ("x" * 16)
            while first.poll() is None:
                done = 0
                if checkpoint.is_dir():
                    done = sum(entry.name.endswith(".npy") for entry in os.scandir(checkpoint))
                if done >= options.kill * options.tiles**2:
                    first.send_signal(signal.SIGKILL)
                time.sleep(0.2)
            second = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found = json.loads(second.stdout)
        report = {
            "tiles": options.tiles**2,
            "product_mb": round(size * size * 4 * len(BANDS) / 1e6),
            **found,
            "pixels_that_are_wrong": wrong(root / "work" / "stack.tif", size),
            "overhead": overhead(root / "over", options.tiles, options.side, options.workers),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
