"""Trends of a time series by array images, by reducers and by numpy in memory.

    python benchmarks/emulator_arrays.py [--size 512] [--scenes 24] [--runs 5] [--write]

Every pixel has `scenes` values, a fifth of them masked. In one process, one tile at a time, what is
read is warm: seconds of `ImageCollection.toArray`, of a least-squares trend by `matrixSolve` and by
`matrixPseudoInverse`, of `Reducer.linearRegression`, `Reducer.sensSlope` and of
`arrayReduce(median)`; beside them the same trend by numpy's batched QR of the stack in memory.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gee.emulator.catalog import BandData, Catalog  # noqa: E402
from gee.emulator.evaluate import Evaluator  # noqa: E402
from gee.emulator.pixels import Limits, render  # noqa: E402
from gee.emulator.projection import PixelGrid  # noqa: E402
from gee.emulator.transport import Transport  # noqa: E402

CRS = "EPSG:32633"
GRID = (10.0, 0.0, 500_000.0, 0.0, -10.0, 6_762_000.0)
DAY = 86_400_000


def put_series(catalog: Catalog, size: int, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Write scenes of one band; return values and what is valid, (scenes, size, size)."""
    random = np.random.default_rng(3)
    catalog.put_collection("M/series")
    values = random.normal(0, 1, (scenes, size, size)).astype(np.float32)
    values += np.arange(scenes, dtype=np.float32)[:, None, None] * np.float32(0.05)
    valid = random.random(values.shape) > 0.2
    for k in range(scenes):
        band = BandData("a", values[k], CRS, GRID, valid[k])
        catalog.put_image(f"M/series/{k:03}", [band], {}, start_ms=k * 30 * DAY)
    return values, valid


def by_numpy(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the slope of every pixel by QR of its valid values."""
    scenes = len(values)
    weight = valid.reshape(scenes, -1).T[..., None].astype(float)
    time_ = np.stack([np.ones(scenes), np.arange(scenes) * 30.0], axis=1)
    q, r = np.linalg.qr(time_[None] * weight)
    y = values.reshape(scenes, -1).T[..., None] * weight
    slope: np.ndarray = np.linalg.solve(r, q.transpose(0, 2, 1) @ y)[:, 1, 0]
    return slope.reshape(values.shape[1:])


def trends(ee: Any) -> dict[str, Any]:
    """Return the images that are measured."""

    def terms(image: Any) -> Any:
        days = ee.Image(ee.Number(image.get("system:time_start")).divide(DAY)).rename("t")
        return ee.Image(1).rename("one").addBands(days).addBands(image.select("a")).toDouble()

    series = ee.ImageCollection("M/series").map(terms)
    array = series.toArray()
    x, y = array.arraySlice(1, 0, 2), array.arraySlice(1, 2, 3)

    def bands(solution: Any) -> Any:
        return solution.arrayProject([0]).arrayFlatten([["base", "slope"]]).select("slope")

    regression = series.reduce(ee.Reducer.linearRegression(2, 1)).select("coefficients")
    return {
        "toArray": array,
        "matrixSolve": bands(x.matrixSolve(y)),
        "matrixPseudoInverse": bands(x.matrixPseudoInverse().matrixMultiply(y)),
        "linearRegression": bands(regression),
        "sensSlope": series.select(["t", "a"]).reduce(ee.Reducer.sensSlope()).select("slope"),
        "arrayReduce(median)": array.arrayReduce(ee.Reducer.median(), [0]).arrayGet([0, 2]),
    }


def seconds(run: Callable[[], Any], runs: int) -> float:
    """Return the median time of a call, in seconds."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return round(statistics.median(found), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials

    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "catalog")
        catalog = Catalog(root, writable=True)
        values, valid = put_series(catalog, options.size, options.scenes)
        ee.Initialize(
            credentials=AnonymousCredentials(), project="local-proj",
            http_transport=Transport(root, Path(folder, "state")),
        )  # fmt: skip
        engine = Evaluator(catalog)
        grid = PixelGrid(CRS, GRID, options.size, options.size)
        limits = Limits(threads=1)
        times, slopes = {}, {}
        for name, image in trends(ee).items():
            graph = json.loads(json.dumps(ee.serializer.encode(image, for_cloud_api=True)))
            made = engine.evaluate(graph)
            slopes[name] = render(made, grid, None, limits)
            times[name] = seconds(lambda m=made: render(m, grid, None, limits), options.runs)
        times["numpy in memory"] = seconds(lambda: by_numpy(values, valid), options.runs)
        expected = by_numpy(values, valid)
    off = {
        name: float(np.abs(slopes[name]["slope"][0] - expected).max())
        for name in ("matrixSolve", "matrixPseudoInverse", "linearRegression")
    }
    out = {
        "size": options.size, "scenes": options.scenes, "runs": options.runs,
        "cores": os.cpu_count(), "seconds": times,
        "greatest difference from numpy's slope": off,
    }  # fmt: skip
    print(json.dumps(out, indent=1))
    if options.write:
        path = ROOT / "benchmarks" / "results" / "emulator_arrays.json"
        path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
