"""Slope, aspect, curvatures, TPI, TRI, TWI and SPI beside GDAL's, xDEM's and pyflwdir's.

    python benchmarks/relief_peers.py [DEM.tif] [--save relief.npz]
    python benchmarks/relief_peers.py --load relief.npz        # where xdem is installed

DEM.tif is a raster in metres on square pixels, by default `dem_bigtujunga` of the shared data
(THAWSLUMP_DATA), whose slopes reach 60 degrees. xDEM is no dependency of this project: install it
into an environment of its own if it fights with the versions here, and give it what an earlier call
kept. A peer that is not installed is left out, and the output says so.

Differences are of all pixels away from edges, and of those steeper than 30 degrees. Angles of
aspects are taken the short way round, where the slope is at least 1 degree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

DATA = Path(os.environ.get("THAWSLUMP_DATA", Path(__file__).parents[2] / "shared" / "data"))
STEEP = 30.0
CURVATURES = {
    # Ours, its name in xDEM, and its factor: xDEM gives curvatures per 100 m.
    "curvature": ("curvature", 200.0),
    "plan_curvature": ("tangential_curvature", 100.0),
    "profile_curvature": ("profile_curvature", 100.0),
}
CORNER = (500_000.0, 6_000_000.0)
CRS = "EPSG:32633"  # of a made-up place: only the pixel size counts


def ours(heights: np.ndarray, cell: float) -> dict[str, np.ndarray]:
    """Compute the scripts on the emulator, on square pixels of a made-up place."""
    import ee

    from gee.config import BackendConfig
    from gee.emulator.catalog import BandData, Catalog
    from gee.scripts import relief
    from gee.session import connect

    corner = (cell, 0.0, CORNER[0], 0.0, -cell, CORNER[1])
    known = np.isfinite(heights)
    with tempfile.TemporaryDirectory() as folder:
        Catalog(Path(folder), writable=True).put_image(
            "dem", [BandData("h", np.where(known, heights, 0), CRS, corner, known)]
        )
        with connect(BackendConfig(), Path(folder)):
            image = ee.Image("dem").select([0], ["elevation"])
            parts = relief.curvatures(image, cell).addBands(relief.topographic_position(image))
            parts = parts.addBands(relief.ruggedness(image).select("TRI"))
            parts = parts.addBands(ee.Terrain.slope(image)).addBands(ee.Terrain.aspect(image))
            parts = parts.addBands(relief.horn(image)).toDouble().unmask(-99999, False)
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
                "crsCode": CRS,
            }
            found = {}
            for name in parts.bandNames().getInfo():  # one by one: answers have a largest size
                answer = ee.data.computePixels(
                    {
                        "expression": parts.select([name]),
                        "fileFormat": "NUMPY_NDARRAY",
                        "grid": grid,
                    }
                )[name]
                found[name] = np.where(answer == -99999, np.nan, answer)
    return found


def gdal(heights: np.ndarray, cell: float) -> dict[str, np.ndarray]:
    """The same of gdaldem, which reads and writes single precision."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.tif", Path(folder) / "out.tif"
        with rasterio.open(
            source, "w", driver="GTiff", height=heights.shape[0], width=heights.shape[1], count=1,
            dtype="float32", crs=CRS, transform=Affine(cell, 0, 0, 0, -cell, 0), nodata=-9999,
        ) as out:  # fmt: skip
            out.write(np.where(np.isnan(heights), -9999, heights).astype("float32"), 1)
        for name, mode, more in (
            ("slope", "slope", ["-alg", "ZevenbergenThorne"]),
            ("aspect", "aspect", ["-alg", "ZevenbergenThorne"]),
            ("slope_horn", "slope", ["-alg", "Horn"]),
            ("aspect_horn", "aspect", ["-alg", "Horn"]),
            ("TPI", "TPI", []),
            ("TRI", "TRI", ["-alg", "Riley"]),
        ):
            subprocess.run(["gdaldem", mode, str(source), str(target), "-q", *more], check=True)
            with rasterio.open(target) as made:
                values = made.read(1).astype(float)
            found[name] = np.where(values == -9999, np.nan, values)
    return found


def xdem_values(heights: np.ndarray, cell: float) -> dict[str, np.ndarray]:
    """The same of xDEM."""
    import xdem

    def attribute(name: str, **options: Any) -> np.ndarray:
        return np.asarray(
            xdem.terrain.get_terrain_attribute(heights, name, resolution=cell, **options), float
        )

    found = {
        ours_: attribute(name, surface_fit="ZevenbergThorne", curv_method="directional") / factor
        for ours_, (name, factor) in CURVATURES.items()
    }
    for ours_, fit in (("", "ZevenbergThorne"), ("_horn", "Horn")):
        for name in ("slope", "aspect"):
            found[name + ours_] = attribute(name, surface_fit=fit)
    found["TPI"] = attribute("topographic_position_index")
    found["TRI"] = attribute("terrain_ruggedness_index")
    return found


def differences(
    name: str, mine: np.ndarray, theirs: np.ndarray, slope: np.ndarray
) -> dict[str, float]:
    """Return the largest difference and its 99.9th percentile, of all and of steep ground."""
    apart = np.abs(mine - theirs)
    if name.startswith("aspect"):
        apart = np.abs((mine - theirs + 180) % 360 - 180)
        apart = np.where(slope >= 1, apart, np.nan)
    apart = apart[3:-3, 3:-3]
    steep = apart[slope[3:-3, 3:-3] > STEEP]
    row = {"pixels": int(np.isfinite(apart).sum())}
    for label, part in (("", apart), ("steep_", steep)):
        known = part[np.isfinite(part)]
        row[f"{label}largest"] = float(known.max())
        row[f"{label}p99.9"] = float(np.percentile(known, 99.9))
    return row


def by_height(filled: np.ndarray, outlets: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Count upslope cells by handing water down a list of cells sorted by height.

    The plainest way there is, and slow: each cell gives to the steepest lower neighbour; on level
    ground, where none is lower, to the cell that `otherwise` (pyflwdir's filling) names.
    """
    rows, cols = filled.shape
    heights = np.pad(filled, 1, constant_values=np.inf)
    ways = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
    best = np.full(filled.shape, -1)
    most = np.zeros(filled.shape)
    for number, (row, col) in enumerate(ways):
        there = heights[1 + row : 1 + row + rows, 1 + col : 1 + col + cols]
        fall = (filled - there) / (2**0.5 if row and col else 1.0)
        better = fall > most
        most[better], best[better] = fall[better], number
    codes = {1 << number: number for number in range(8)}
    flat = (best < 0) & ~outlets
    for row, col in np.argwhere(flat):
        best[row, col] = codes.get(int(otherwise[row, col]), -1)
    # A cell is done when all that drain into it are: counted down, not sorted, for level ground.
    target = np.full(filled.size, -1)
    for number, (row, col) in enumerate(ways):
        r, c = np.nonzero(best == number)
        target[r * cols + c] = (r + row) * cols + c + col
    waiting = np.bincount(target[target >= 0], minlength=filled.size)
    water = np.ones(filled.size, np.int64)
    ready = list(np.nonzero(waiting == 0)[0])
    while ready:
        cell = ready.pop()
        to = target[cell]
        if to >= 0:
            water[to] += water[cell]
            waiting[to] -= 1
            if waiting[to] == 0:
                ready.append(to)
    assert not waiting.any()
    return water.reshape(filled.shape)


def hydrology(heights: np.ndarray, slope: np.ndarray, cell: float) -> dict[str, Any]:
    """TWI and SPI of this project beside a plain count, pyflwdir's own flow and a coarse asset."""
    import pyflwdir

    from gee import drainage

    area, cut = drainage.drainage(heights, cell)
    twi, spi = drainage.wetness(area, slope, cell)
    whole = np.isfinite(slope) & ~cut
    ground = heights.astype("float32").astype(float)
    filled, ways = pyflwdir.dem.fill_depressions(ground, nodata=-9999.0)
    edge = np.ones(heights.shape, bool)
    edge[1:-1, 1:-1] = False
    counted = by_height(filled, edge, ways)
    own = pyflwdir.from_array(ways, ftype="d8").upstream_area("cell")
    # An asset as coarse as MERIT Hydro's: three pixels by three, its area spread over them.
    rows, cols = (size // 3 * 3 for size in heights.shape)
    coarse = heights[:rows, :cols].reshape(rows // 3, 3, cols // 3, 3).mean(axis=(1, 3))
    coarse_area, coarse_cut = drainage.drainage(coarse, 3 * cell)
    spread = np.kron(coarse_area, np.ones((3, 3)))
    steep = np.tan(np.radians(np.maximum(slope[:rows, :cols], drainage.LEAST_SLOPE)))
    twi_coarse = np.log(spread / (3 * cell) / steep)
    both = whole[:rows, :cols] & ~np.kron(coarse_cut, np.ones((3, 3), bool)).astype(bool)
    gap = np.abs(twi[:rows, :cols] - twi_coarse)[both]
    twi_own, spi_own = drainage.wetness(own * cell**2, slope, cell)
    return {
        "cells": int(whole.sum()),
        "cut_share": round(float(cut.mean()), 4),
        "largest_area_km2": round(float(area.max()) / 1e6, 2),
        "cells_unlike_a_plain_count": int((area / cell**2 != counted).sum()),
        "pyflwdir's own directions (lowest neighbour)": {
            "TWI median difference": round(float(np.median(np.abs(twi - twi_own)[whole])), 4),
            "TWI correlation": round(float(np.corrcoef(twi[whole], twi_own[whole])[0, 1]), 4),
            "log SPI correlation": round(
                float(np.corrcoef(np.log(spi[whole]), np.log(spi_own[whole]))[0, 1]), 4
            ),
        },
        "an asset of 90 m": {
            "TWI median difference": round(float(np.median(gap)), 4),
            "TWI correlation": round(
                float(np.corrcoef(twi[:rows, :cols][both], twi_coarse[both])[0, 1]), 4
            ),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = DATA / "dem_bigtujunga" / "bigtujunga.tif"
    parser.add_argument("dem", type=Path, nargs="?", default=default)
    parser.add_argument("--save", type=Path, help="keep what was computed here (an .npz)")
    parser.add_argument(
        "--load", type=Path, help="compare with what was kept, without Earth Engine"
    )
    options = parser.parse_args()
    if options.load:
        kept = dict(np.load(options.load))
        heights, cell = kept.pop("heights"), float(kept.pop("cell"))
        mine = kept
    else:
        with rasterio.open(options.dem) as source:
            heights = source.read(1).astype("float64")
            if source.nodata is not None:
                heights[heights == source.nodata] = np.nan
            cell = float(source.transform.a)
        mine = ours(heights, cell)
    if options.save:
        np.savez(options.save, heights=heights, cell=cell, **mine)
    slope = mine["slope"]
    report: dict[str, Any] = {
        "pixels": int(heights.size),
        "steeper_than_30": int((slope > STEEP).sum()),
        "steepest": round(float(np.nanmax(slope)), 2),
        "four against eight neighbours": {
            name: differences(name, mine[name], mine[f"{name}_horn"], slope)
            for name in ("slope", "aspect")
        },
    }
    peers: dict[str, Callable[[np.ndarray, float], dict[str, np.ndarray]]] = {"xdem": xdem_values}
    if shutil.which("gdaldem"):
        peers["gdal"] = gdal
    else:
        report["gdal"] = "gdaldem is not installed"
    for peer, compute in peers.items():
        try:
            theirs = compute(heights, cell)
        except ImportError:
            report[peer] = "not installed"
            continue
        report[peer] = {
            name: differences(name, mine[name], values, slope) for name, values in theirs.items()
        }
    if not options.load:
        try:
            report["upslope"] = hydrology(heights, slope, cell)
        except ImportError:
            report["upslope"] = "pyflwdir is not installed"
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
