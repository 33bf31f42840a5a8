"""How much of the slots of a slow service an export uses, beside geedim and xee.

    python benchmarks/export_throughput.py [--tiles 20] [--side 64] [--latency 2] [--slots 40]

The emulator serves a made-up image, answers every request for pixels after a fixed time and
refuses more at once than there are slots, as a service far away with a quota does. The same area
is fetched in the same number of tiles by this package's export, by geedim and by xee. "Of the
slots" compares with all slots busy from the first request to the last. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ee
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from gee.config import BackendConfig, ExportConfig
from gee.emulator.catalog import BandData, Catalog
from gee.emulator.server import running
from gee.exports.fetch import Checkpoint, Tally, fetch
from gee.exports.products import Product
from gee.grids import crs_code, crs_transform
from gee.session import connect

BANDS = ("B2", "B3", "B4", "B8")
Array = NDArray[Any]


def ours(grid: GeoBox, side: int, slots: int, folder: Path) -> Array:
    """Fetch by the export of this package."""
    product = Product(
        "image", ee.Image("made-up/image"), grid, BANDS, "uint16", 0, 0, ("1",) * 4, ("x",) * 4
    )
    config = ExportConfig(tile=side, workers=slots)
    checkpoint = Checkpoint(folder / "checkpoint", "0" * 16)
    return fetch(product, checkpoint, config, "the emulator", Tally(), lambda pixels: None)


def by_geedim(grid: GeoBox, side: int, slots: int, folder: Path) -> Array:
    """Fetch by geedim, tiles as large as ours."""
    import geedim  # noqa: F401  (it adds `gd` to images)

    # Without an id, or geedim opens an address at Google to look for a description of it.
    image = ee.Image("made-up/image").multiply(1).toUint16()
    rows, cols = grid.shape
    ready = image.gd.prepareForExport(
        crs=crs_code(grid), crs_transform=crs_transform(grid), shape=(rows, cols), dtype="uint16"
    )
    megabytes = side * side * len(BANDS) * 2 / 2**20
    pixels: Array = ready.gd.toNumPy(max_tile_size=megabytes * 1.001, max_requests=slots)
    return np.moveaxis(np.asarray(pixels), -1, 0)


def by_xee(grid: GeoBox, side: int, slots: int, folder: Path) -> Array:
    """Fetch by xee with dask's threads, chunks as large as our tiles."""
    import dask
    import xarray
    from xee.ext import EarthEngineBackendEntrypoint

    rows, cols = grid.shape
    series = ee.ImageCollection([ee.Image("made-up/image").set("system:time_start", 0)])
    chunks = {"x": side, "y": side}
    dataset = xarray.open_dataset(
        series,
        engine=EarthEngineBackendEntrypoint,
        crs=crs_code(grid),
        crs_transform=tuple(crs_transform(grid)),
        shape_2d=(cols, rows),
        chunks=chunks,
        io_chunks={"index": 1, **chunks},
    )
    # xee asks for one band at a time: four times the requests.
    with dask.config.set(scheduler="threads", num_workers=slots):
        loaded = dataset.isel(time=0).transpose("y", "x").compute()
    return np.stack([loaded[name].values for name in BANDS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=20, help="tiles a side")
    parser.add_argument("--side", type=int, default=64, help="pixels of a tile a side")
    parser.add_argument("--latency", type=float, default=2.0)
    parser.add_argument("--slots", type=int, default=40)
    options = parser.parse_args()
    size = options.tiles * options.side
    grid = GeoBox((size, size), Affine(10, 0, 500_000, 0, -10, 6_700_000), "EPSG:32633")
    truth = np.random.default_rng(1).integers(1, 5000, (4, size, size)).astype("uint16")
    report: dict[str, Any] = {
        "tiles": options.tiles**2,
        "slots": options.slots,
        "latency_seconds": options.latency,
    }
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "catalog").mkdir()
        Catalog(root / "catalog", writable=True).put_image(
            "made-up/image",
            [
                BandData(name, array, "EPSG:32633", tuple(crs_transform(grid)))
                for name, array in zip(BANDS, truth, strict=True)
            ],
        )
        slow = {
            "rules": [
                {"match": {"handler": handler}, "latency": options.latency}
                for handler in ("image:computePixels", "thumbnails:getPixels")
            ],
            "concurrent_requests": {
                "most": options.slots,
                "match": {"handler": ["image:computePixels", "thumbnails:getPixels"]},
            },
        }
        (root / "faults.yaml").write_text(json.dumps(slow))
        runs: dict[str, tuple[Callable[..., Array], int]] = {
            "thawslump": (ours, options.tiles**2),
            "geedim": (by_geedim, options.tiles**2),
            "xee": (by_xee, options.tiles**2 * len(BANDS)),
        }
        with running(root / "catalog", state=root / "state", faults=root / "faults.yaml") as url:
            backend = BackendConfig(kind="emulator", url=url, project="local-project")
            for name, (run, requests) in runs.items():
                warnings.simplefilter("ignore")
                with connect(backend):
                    begun = time.perf_counter()
                    pixels = run(grid, options.side, options.slots, root / name)
                    seconds = time.perf_counter() - begun
                least = options.tiles**2 / options.slots * options.latency
                report[name] = {
                    "seconds": round(seconds, 2),
                    "of_the_slots": round(least / seconds, 3),
                    "requests_needed": requests,
                    "equal_to_the_source": bool(np.array_equal(pixels, truth)),
                }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
