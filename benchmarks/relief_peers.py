"""Curvatures, TPI and TRI beside xDEM's and GDAL's on a real DEM.

    pip install xdem; python benchmarks/relief_peers.py DEM.tif

xDEM is no dependency of this project: install it into an environment of its own if it fights with
the versions here. Without `xdem` or `gdaldem` that peer is left out, and the output says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

BANDS = ("curvature", "plan_curvature", "profile_curvature", "TPI", "TRI")
XDEM = {
    # Ours, its name there, and its factor: xDEM gives curvatures per 100 m.
    "curvature": ("curvature", 200.0),
    "plan_curvature": ("tangential_curvature", 100.0),
    "profile_curvature": ("profile_curvature", 100.0),
    "TPI": ("topographic_position_index", 1.0),
    "TRI": ("terrain_ruggedness_index", 1.0),
}


def ours(heights: np.ndarray, cell: float) -> dict[str, np.ndarray]:
    """Compute the script on the emulator, on square pixels of a made-up place."""
    import ee

    from gee.config import BackendConfig
    from gee.emulator.catalog import BandData, Catalog
    from gee.scripts import relief
    from gee.session import connect

    corner = (cell, 0.0, 500_000.0, 0.0, -cell, 6_000_000.0)
    with tempfile.TemporaryDirectory() as folder:
        Catalog(Path(folder), writable=True).put_image(
            "dem", [BandData("h", heights, "EPSG:32633", corner)]
        )
        with connect(BackendConfig(), Path(folder)):
            image = ee.Image("dem").select([0], ["elevation"])
            parts = relief.curvatures(image, cell).addBands(relief.topographic_position(image))
            parts = parts.addBands(relief.ruggedness(image).select("TRI")).select(list(BANDS))
            grid = {
                "dimensions": {"width": heights.shape[1], "height": heights.shape[0]},
                "affineTransform": {
                    "scaleX": cell,
                    "shearX": 0,
                    "translateX": corner[2],
                    "shearY": 0,
                    "scaleY": -cell,
                    "translateY": corner[5],
                },
                "crsCode": "EPSG:32633",
            }
            answer = ee.data.computePixels(
                {"expression": parts, "fileFormat": "NUMPY_NDARRAY", "grid": grid}
            )
    return {name: np.asarray(answer[name], float) for name in BANDS}


def gdal(heights: np.ndarray, cell: float) -> dict[str, np.ndarray]:
    """TPI and TRI (Riley) of gdaldem."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.tif", Path(folder) / "out.tif"
        with rasterio.open(
            source, "w", driver="GTiff", height=heights.shape[0], width=heights.shape[1], count=1,
            dtype="float32", crs="EPSG:32633", transform=Affine(cell, 0, 0, 0, -cell, 0),
        ) as out:  # fmt: skip
            out.write(heights.astype("float32"), 1)
        for name, more in (("TPI", []), ("TRI", ["-alg", "Riley"])):
            subprocess.run(["gdaldem", name, str(source), str(target), "-q", *more], check=True)
            with rasterio.open(target) as made:
                found[name] = made.read(1).astype(float)
    return found


def xdem_values(heights: np.ndarray, cell: float) -> dict[str, np.ndarray]:
    """The same of xDEM, Zevenbergen and Thorne's surface."""
    import xdem

    found = {}
    for name, (theirs, factor) in XDEM.items():
        options: dict[str, Any] = (
            {"surface_fit": "ZevenbergThorne", "curv_method": "directional"}
            if "curvature" in name
            else {}
        )
        values = xdem.terrain.get_terrain_attribute(heights, theirs, resolution=cell, **options)
        found[name] = np.asarray(values, float) / factor
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dem", type=Path, nargs="?", help="a GeoTIFF in metres, square pixels")
    parser.add_argument("--save", type=Path, help="keep what was computed here (an .npz)")
    parser.add_argument(
        "--load", type=Path, help="compare with what was kept, without Earth Engine"
    )
    parser.add_argument("--cell", type=float, default=30.0)
    options = parser.parse_args()
    if options.load:
        kept = np.load(options.load)
        heights, mine = kept["heights"], {name: kept[name] for name in BANDS}
    else:
        with rasterio.open(options.dem) as source:
            heights = source.read(1, window=((0, 600), (0, 600))).astype("float64")
        mine = ours(heights, options.cell)
    if options.save:
        np.savez(options.save, heights=heights, **mine)
    report: dict[str, Any] = {"pixels": int(heights.size)}
    peers: dict[str, dict[str, np.ndarray]] = {}
    if shutil.which("gdaldem"):
        peers["gdal"] = gdal(heights, options.cell)
    else:
        report["gdal"] = "gdaldem is not installed"
    try:
        peers["xdem"] = xdem_values(heights, options.cell)
    except ImportError:
        report["xdem"] = "not installed"
    inside = np.s_[2:-2, 2:-2]
    for peer, values in peers.items():
        report[peer] = {
            name: {
                "largest_difference": float(np.nanmax(np.abs(mine[name] - theirs)[inside])),
                "standard_deviation": float(np.nanstd(mine[name][inside])),
            }
            for name, theirs in values.items()
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
