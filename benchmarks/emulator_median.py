"""How fast the emulator's engine is on made-up scenes: medians, radar, greenest pixel, scalars.

    python benchmarks/emulator_median.py [--size 1024] [--scenes 3] [--runs 5]

Prints JSON: seconds of the fastest warm run of each, and the error against numpy.
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

import numpy as np

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.evaluate import Evaluator
from gee.emulator.pixels import Limits, render
from gee.emulator.projection import PixelGrid

CRS = "EPSG:32607"
TRANSFORM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 7_600_000.0)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the node of a function call."""
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def const(value: Any) -> dict[str, Any]:
    """Return the node of a constant."""
    return {"constantValue": value}


def graph(node: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return an expression."""
    return {"result": "0", "values": {"0": node, **values}}


def mapped(body: str) -> dict[str, Any]:
    """Return the node of a function of one element."""
    return {"functionDefinitionValue": {"argumentNames": ["image"], "body": body}}


def fastest(run: Callable[[], Any], runs: int) -> float:
    """Return the seconds of the fastest run after one to warm up."""
    run()
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def made_up(root: Path, size: int, scenes: int) -> tuple[Catalog, np.ndarray]:
    """Write scenes and a DEM; return the catalogue and the red band, NaN where masked."""
    random = np.random.default_rng(1)
    catalog = Catalog(root, writable=True)
    catalog.put_collection("M/S2")
    red = []
    for k in range(scenes):
        mask = random.random((size, size)) > 0.1
        bands = [
            BandData(
                name, random.integers(1, 5000, (size, size)).astype("u2"), CRS, TRANSFORM, mask
            )
            for name in ("B4", "B8")
        ]
        catalog.put_image(f"M/S2/scene{k}", bands, {}, start_ms=1_500_000_000_000 + k)
        red.append(np.where(mask, bands[0].array.astype(float), np.nan))
    y, x = np.mgrid[:size, :size]
    heights = (400 + 30 * np.sin(x / 40) * np.cos(y / 30)).astype("f4")
    catalog.put_image("M/dem", [BandData("elevation", heights, CRS, TRANSFORM)], {})
    return catalog, np.stack(red)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog, red = made_up(Path(folder), options.size, options.scenes)
        engine = Evaluator(catalog)
        grid = PixelGrid(CRS, TRANSFORM, options.size, options.size)
        scenes = call("ImageCollection.load", id=const("M/S2"))
        image = {"argumentReference": "image"}
        ndvi = call("Image.normalizedDifference", input=image, bandNames=const(["B8", "B4"]))
        scored = call("Image.addBands", dstImg=image, srcImg=ndvi)
        dem = call("Image.load", id=const("M/dem"))
        expressions = {
            "median_1_band": graph(
                call(
                    "reduce.median",
                    collection=call("Collection.map", collection=scenes, baseAlgorithm=mapped("s")),
                ),
                s=call("Image.select", input=image, bandSelectors=const(["B4"])),
            ),
            "median_2_bands": graph(call("reduce.median", collection=scenes)),
            "greenest_pixel": graph(
                call(
                    "ImageCollection.qualityMosaic",
                    collection=call("Collection.map", collection=scenes, baseAlgorithm=mapped("s")),
                    qualityBand=const("nd"),
                ),
                s=scored,
            ),
            "slope": graph(call("Terrain.slope", input=dem)),
            "focal_mean_circle_5": graph(
                call("Image.focalMean", image=dem, radius=const(5), kernelType=const("circle"))
            ),
        }
        out: dict[str, Any] = {"size": options.size, "scenes": options.scenes, "seconds": {}}
        for name, expression in expressions.items():
            out["seconds"][name] = round(
                fastest(lambda e=expression: render(engine.evaluate(e), grid), options.runs), 4
            )
        one = Limits(threads=1)
        out["seconds"]["median_1_band_1_thread"] = round(
            fastest(
                lambda: render(engine.evaluate(expressions["median_1_band"]), grid, None, one),
                options.runs,
            ),
            4,
        )
        scalar = graph(call("Number.sqrt", input=call("Number.add", left=const(1), right=const(2))))
        out["scalar_milliseconds"] = round(
            1000 * fastest(lambda: engine.evaluate(scalar), max(options.runs, 200)), 4
        )
        data, mask = render(engine.evaluate(expressions["median_1_band"]), grid)["B4"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = np.nanmedian(red, axis=0)
        good = np.isfinite(expected)
        out["median_error"] = float(np.abs(data[good] - expected[good]).max())
        out["median_mask_equal"] = bool(((mask > 0) == good).all())
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
