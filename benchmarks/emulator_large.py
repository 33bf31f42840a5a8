"""What requests on scenes of Sentinel-2's size cost: peak memory of every process, and seconds.

    python benchmarks/emulator_large.py [--only TEXT] [--workers 2] [--write]

A made-up catalogue of 6 scenes of 10,980 x 10,980 pixels in 12 bands and a QA band is served over
HTTP by two worker processes. Every kind of single request within the size limits is sent with the
real client, one after another; before each the kernel's peak of every process is set back (Linux).
Parts of the answers are compared with numpy. With --write the table goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import _large as large  # noqa: E402

from gee.emulator.server import running  # noqa: E402

MIB = 2**20
TARGET = 1024 * MIB
DAY = 432_000_000


class Watch:
    """Peaks of the resident and the proportional memory of processes, while it is entered."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self.processes = processes
        self.rss: dict[int, int] = {}
        self.pss: dict[int, int] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Watch:
        for process in self.processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        self._stop.clear()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for process in self.processes:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.rss[process.pid] = int(line.split()[1]) * 1024

    def _sample(self) -> None:
        while True:
            for process in self.processes:
                with contextlib.suppress(OSError, ValueError):
                    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                    found = int(text.split("Pss:")[1].split()[0]) * 1024
                    self.pss[process.pid] = max(self.pss.get(process.pid, 0), found)
            if self._stop.wait(0.05):
                return


def requests_of(ee: Any, fetch: Callable[[str], bytes]) -> dict[str, Callable[[], Any]]:
    """Return the requests by name; each returns what is to be checked, or raises."""
    s2 = ee.ImageCollection(large.COLLECTION)
    first = ee.Image(f"{large.COLLECTION}/scene_0")
    visible = {"bands": ["B4", "B3", "B2"], "min": 0, "max": 4000}
    x0, y0 = large.TRANSFORM[2], large.TRANSFORM[5]

    def clear(image: Any) -> Any:
        good = image.select(large.QA).bitwiseAnd(large.CLOUDS).eq(0)
        return image.updateMask(good)

    def greenness(image: Any) -> Any:
        return clear(image).normalizedDifference(["B8", "B4"]).rename("ndvi")

    masked = s2.map(clear)
    ndvi = s2.map(greenness).median()
    whole = first.geometry()

    def pixels(
        image: Any, size: int, scale: float = 10, column: int = 3000, row: int = 3000,
        kind: str = "NPY", **more: Any,
    ) -> Callable[[], Any]:  # fmt: skip
        def send() -> Any:
            content = ee.data.computePixels({
                "expression": image, "fileFormat": kind,
                "grid": {
                    "dimensions": {"width": size, "height": size}, "crsCode": large.CRS,
                    "affineTransform": {
                        "scaleX": scale, "translateX": x0 + 10 * column,
                        "scaleY": -scale, "translateY": y0 - 10 * row,
                    },
                },
                **more,
            })  # fmt: skip
            return np.load(io.BytesIO(content), max_header_size=10**6) if kind == "NPY" else content

        return send

    def region(image: Any, reducer: Any, scale: float = 10, **more: Any) -> Callable[[], Any]:
        options = {"geometry": whole, "scale": scale, "crs": large.CRS, "maxPixels": 1e9, **more}
        return lambda: image.reduceRegion(reducer, **options).getInfo()

    def tiles(image: Any, options: dict[str, Any], zooms: range) -> Callable[[], Any]:
        def send() -> int:
            made = image.getMapId(options)
            total = 0
            for zoom in zooms:
                # The tile with the scene's middle (about 133.7 W, 68.0 N).
                n = 2**zoom
                lon, lat = np.radians(MIDDLE)
                x = int((lon / (2 * np.pi) + 0.5) * n)
                y = int((0.5 - np.log(np.tan(np.pi / 4 + lat / 2)) / (2 * np.pi)) * n)
                url = made["tile_fetcher"].url_format
                total += len(fetch(url.format(z=zoom, x=x, y=y)))
            return total

        return send

    def thumbnail(image: Any, options: dict[str, Any]) -> Callable[[], Any]:
        return lambda: len(fetch(image.getThumbURL(options)))

    def download(image: Any, options: dict[str, Any]) -> Callable[[], Any]:
        return lambda: len(fetch(image.getDownloadURL(options)))

    arrays = masked.select(["B8", "B4"]).toArray()
    wide = {"units": "pixels", "normalize": True}
    floats = first.select(["B4"]).toFloat()
    reducer = ee.Reducer
    points = ee.FeatureCollection(
        [ee.Feature(ee.Geometry.Point([-133 + 0.01 * k, 68 + 0.005 * k])) for k in range(60)]
    )
    square = ee.Geometry.Rectangle([x0 + 2e4, y0 - 4e4, x0 + 4e4, y0 - 2e4], large.CRS, False)
    fields = ee.FeatureCollection([ee.Feature(whole), ee.Feature(square)])
    classes = first.select(["B8"]).divide(400).toByte().rename("class")
    return {
        "pixels: 12 x uint16, 1448 px, NPY": pixels(first.select(list(large.BANDS)), 1448),
        "pixels: 1 x float32, 3547 px, NPY": pixels(floats, 3547),
        "pixels: 1 x float64, 2508 px, NPY": pixels(floats.toDouble().sqrt(), 2508),
        "pixels: 1 x uint8, 7094 px, NPY": pixels(classes, 7094),
        "pixels: 13 x float64, 695 px, NPY": pixels(first.toDouble(), 695),
        "pixels: 100 x float32, 354 px, NPY": pixels(
            ee.Image.cat([floats.multiply(k) for k in range(100)]), 354
        ),
        "pixels: 1024 x byte, 221 px, NPY": pixels(
            classes.select([0] * 1024), 221
        ),
        "pixels: 12 x uint16, 1448 px, GeoTIFF": pixels(
            first.select(list(large.BANDS)), 1448, kind="GEO_TIFF"
        ),
        "pixels: 1 x uint8, 7094 px, GeoTIFF": pixels(classes, 7094, kind="GEO_TIFF"),
        "pixels: 1 x uint8, 7094 px, PNG": pixels(classes, 7094, kind="PNG"),
        "pixels: 3 x uint8, 4090 px, PNG": pixels(
            first, 4090, kind="PNG",
            bandIds=visible["bands"],
            visualizationOptions={"ranges": [{"min": 0, "max": 4000}]},
        ),
        "pixels: 3 x uint16, 2890 px, JPEG": pixels(
            first.select(visible["bands"]), 2890, kind="JPEG"
        ),
        "pixels: median of 6, 12 bands, 1448 px": pixels(
            masked.select(list(large.BANDS)).median().toUint16(), 1448
        ),
        "pixels: NDVI median of 6, 2500 px": pixels(ndvi, 2500),
        "pixels: percentiles of 6, 2000 px": pixels(
            masked.select(["B4"]).reduce(reducer.percentile([10, 50, 90])).toFloat(), 2000
        ),
        "pixels: sort by clouds, mosaic, 1448 px": pixels(
            masked.sort("CLOUDY_PIXEL_PERCENTAGE").mosaic().select(list(large.BANDS)), 1448
        ),
        "pixels: quality mosaic, 13 bands, 950 px": pixels(
            s2.map(lambda i: clear(i).addBands(greenness(i))).qualityMosaic("ndvi").toFloat(), 940
        ),
        "pixels: 6 scenes as 72 bands, 590 px": pixels(
            s2.select(list(large.BANDS)).toBands(), 590
        ),
        "pixels: array sorted, sliced, 1500 px": pixels(
            arrays.arraySort(arrays.arraySlice(1, 0, 1)).arraySlice(0, -1)
            .arrayProject([1]).arrayFlatten([["a", "b"]]), 1500
        ),
        "pixels: linear fit over time, 1500 px": pixels(
            s2.map(
                lambda i: greenness(i).addBands(ee.Image(i.date().millis()).divide(1e10).toFloat())
                .select([1, 0])
            ).reduce(reducer.linearFit()).toFloat(), 1500
        ),
        "pixel: 1 px at 10 m": pixels(ndvi, 1),
        "pixel: 1 px at 10 km, median of 6": pixels(ndvi, 1, scale=10_000),
        "pixel: 1 px at 10 km, mean of all its pixels": pixels(
            floats.reduceResolution(reducer.mean(), False, 65536).reproject(large.CRS, None, 2000),
            1, scale=10_000,
        ),
        "pixel: 16 px at 1 km, reduceResolution": pixels(
            floats.reduceResolution(reducer.mean(), False, 65536), 16, scale=1000
        ),
        "mistake: whole scene at 0.5 m by reproject, 256 px": pixels(
            ndvi.reproject(large.CRS, None, 0.5), 256, scale=400, column=0, row=0
        ),
        "mistake: NDVI reprojected to 10 m, seen at 400 m": pixels(
            ndvi.reproject(large.CRS, None, 10), 256, scale=400, column=0, row=0
        ),
        "kernel: focal mean, radius 50 px, 1500 px": pixels(
            floats.focalMean(50, "circle", "pixels"), 1500
        ),
        "kernel: focal median, radius 5 px, 1000 px": pixels(
            floats.focalMedian(5, "square", "pixels"), 1000
        ),
        "kernel: focal max, radius 100 px, 1500 px": pixels(
            floats.focalMax(100, "square", "pixels"), 1500
        ),
        "kernel: Gaussian, radius 50 px, 1500 px": pixels(
            floats.convolve(ee.Kernel.gaussian(50, 20, **wide)), 1500
        ),
        "kernel: standard deviation, radius 30 px, 1000 px": pixels(
            floats.reduceNeighborhood(reducer.stdDev(), ee.Kernel.circle(30)), 1000
        ),
        "kernel: percentile, radius 20 px, 400 px": pixels(
            floats.reduceNeighborhood(reducer.percentile([90]), ee.Kernel.square(20)), 400
        ),
        "kernel: neighbours as bands, 31 x 31, 100 px": pixels(
            floats.neighborhoodToBands(ee.Kernel.square(15)).reduce(reducer.mean()), 100
        ),
        "distance: 1024 px, 1500 px": pixels(
            classes.eq(3).fastDistanceTransform(1024).sqrt().toFloat(), 1500
        ),
        "components: patches to 1024 px, 1000 px": pixels(
            classes.connectedComponents(ee.Kernel.plus(1), 1024).select("labels"), 1000
        ),
        "components: sizes to 256 px, 1500 px": pixels(
            classes.connectedPixelCount(256), 1500
        ),
        "cost: cumulative, 5 km, 500 px": pixels(
            ee.Image(1).addBands(classes).select([0]).toFloat()
            .cumulativeCost(classes.eq(1), 5000), 500
        ),
        "terrain: slope of a band, 3000 px": pixels(
            ee.Terrain.slope(floats.rename("elevation")), 3000
        ),
        "tiles: true colour, all zooms": tiles(first, visible, range(21)),
        "tiles: NDVI median of 6, all zooms": tiles(
            ndvi, {"min": 0, "max": 1, "palette": ["brown", "green"]}, range(21)
        ),
        "thumbnail: whole scene, 2048 px": thumbnail(first, {**visible, "dimensions": 2048}),
        "thumbnail: whole NDVI median, 2048 px": thumbnail(
            ndvi, {"min": 0, "max": 1, "dimensions": 2048, "region": whole, "format": "png"}
        ),
        "download: 3 bands, 2400 px, ZIP": download(
            first.select(["B4", "B3", "B2"]),
            {"region": ee.Geometry.Rectangle(
                [x0, y0 - 24000, x0 + 24000, y0], large.CRS, False), "scale": 10, "crs": large.CRS},
        ),
        "region: mean of 12 bands": region(first.select(list(large.BANDS)), reducer.mean()),
        "region: min, max, deviation, count": region(
            first.select(["B4", "B8"]),
            reducer.minMax().combine(reducer.stdDev(), "", True).combine(
                reducer.count(), "", True),
        ),
        "region: mean NDVI median of 6": region(ndvi, reducer.mean()),
        "region: median of 12 bands": region(first.select(list(large.BANDS)), reducer.median()),
        "region: percentiles of a float band": region(
            first.normalizedDifference(["B8", "B4"]), reducer.percentile([2, 50, 98])
        ),
        "region: fixed histogram": region(
            first.select(["B4"]), reducer.fixedHistogram(0, 10000, 100)
        ),
        "region: histogram": region(first.select(["B4"]), reducer.histogram(256)),
        "region: automatic histogram": region(
            first.normalizedDifference(["B8", "B4"]), reducer.autoHistogram()
        ),
        "region: frequencies": region(classes, reducer.frequencyHistogram()),
        "region: mode and distinct values": region(
            first.select(["B4"]), reducer.mode().combine(reducer.countDistinct(), "", True)
        ),
        "region: linear fit of two bands": region(
            first.select(["B4", "B8"]), reducer.linearFit()
        ),
        "region: correlation of two bands": region(
            first.select(["B4", "B8"]), reducer.pearsonsCorrelation()
        ),
        "region: covariance of two bands": region(
            first.select(["B4", "B8"]).toArray(), reducer.covariance()
        ),
        "region: mean by class": region(
            first.select(["B4"]).addBands(classes), reducer.mean().group(1, "class")
        ),
        "region: area by class": region(
            ee.Image.pixelArea().addBands(classes), reducer.sum().group(1, "class")
        ),
        "region: every value as a list": region(first.select(["B4"]), reducer.toList()),
        "region: default maxPixels": region(first.select(["B4"]), reducer.mean(), maxPixels=1e7),
        "region: bestEffort": region(
            first.select(["B4"]), reducer.mean(), maxPixels=1e6, bestEffort=True
        ),
        "regions: median in two fields": lambda: first.select(["B4", "B8"]).reduceRegions(
            fields, reducer.median(), 10, large.CRS
        ).getInfo()["features"][0]["properties"],
        "sample: 5000 pixels of the scene": lambda: len(
            first.sample(whole, 10, large.CRS, numPixels=5000, seed=1).aggregate_array(
                "B4").getInfo()
        ),
        "sample: all the pixels of the scene": lambda: (
            first.sample(whole, 10, large.CRS).size().getInfo()
        ),
        "sample: 500 of every class": lambda: first.addBands(classes).stratifiedSample(
            500, "class", whole, 10, large.CRS, seed=2
        ).aggregate_histogram("class").getInfo(),
        "sample: regions, points": lambda: len(
            first.sampleRegions(points, scale=10, projection=large.CRS).aggregate_array(
                "B4").getInfo()
        ),
        "sample: regions, the scene": lambda: first.sampleRegions(
            ee.FeatureCollection([ee.Feature(whole)]), scale=10, projection=large.CRS
        ).size().getInfo(),
        "vectors: the scene at 10 m": lambda: classes.reduceToVectors(
            None, whole, 10, crs=large.CRS, maxPixels=1e9
        ).size().getInfo(),
        "vectors: 2 km at 10 m": lambda: classes.reduceToVectors(
            None, square.centroid(1).buffer(1000, 1), 10, crs=large.CRS
        ).size().getInfo(),
        "region to list: getRegion of the scene": lambda: len(
            s2.select(["B4"]).getRegion(whole, 10, large.CRS).getInfo()
        ),
        "rectangle: sampleRectangle of the scene": lambda: first.select(["B4"]).sampleRectangle(
            whole
        ).getInfo(),
    }  # fmt: skip


MIDDLE = (0.0, 0.0)


def export(ee: Any, image: Any, folder: Path, name: str, processes: list[psutil.Process],
           asset: str | None = None) -> dict[str, Any]:  # fmt: skip
    """Export an image of the whole scene and return how it went."""
    options = {
        "image": image, "description": name, "crs": large.CRS, "maxPixels": 1e9,
        "crsTransform": list(large.TRANSFORM), "dimensions": f"{large.SIDE}x{large.SIDE}",
    }  # fmt: skip
    if asset is None:
        task = ee.batch.Export.image.toCloudStorage(
            **options, bucket="bucket", fileNamePrefix=name, formatOptions={"cloudOptimized": True}
        )
    else:
        task = ee.batch.Export.image.toAsset(**options, assetId=asset)
    start = time.perf_counter()
    with Watch(processes) as watch:
        task.start()
        while (status := task.status())["state"] not in ("COMPLETED", "FAILED", "CANCELLED"):
            time.sleep(0.1)
    seconds = time.perf_counter() - start
    raw = large.SIDE**2 * 4
    out = row(watch, seconds, status["state"] + " " + status.get("error_message", ""))
    out["MB per second"] = round(raw / 1e6 / seconds, 1)
    path = folder / "exports" / "bucket" / f"{name}.tif"
    if path.is_file():
        import rasterio
        from rasterio.windows import Window

        out["file MB"] = round(path.stat().st_size / 1e6, 1)
        with rasterio.open(path) as source:
            part = source.read(1, window=Window(6000, 10_000, 700, 980))
            out["overviews"] = source.overviews(1)
            out["layout"] = source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
        out["right"] = bool(np.allclose(part, expected_ndvi(10_000, 10_980, 6000, 6700), atol=1e-6))
    return out


def expected_ndvi(row0: int, row1: int, column0: int, column1: int) -> np.ndarray:
    """Return numpy's median of the scenes' NDVI where no cloud is, -inf where none is clear."""
    layers = []
    for scene in range(6):
        bands, qa, valid = large.pattern(scene)
        rows, columns = slice(row0, row1), slice(column0, column1)
        red, near = (
            large.repeated(bands[b], rows, columns).astype(np.float32) for b in ("B4", "B8")
        )
        good = large.repeated(valid & (qa == 0), rows, columns)
        layers.append(np.where(good, (near - red) / (near + red), np.nan))
    with np.errstate(all="ignore"):
        import warnings

        warnings.simplefilter("ignore", RuntimeWarning)
        found = np.nanmedian(np.stack(layers), axis=0)
    return np.where(np.isnan(found), -np.inf, found)


def row(watch: Watch, seconds: float, answer: Any) -> dict[str, Any]:
    """Return a line of the table."""
    text = answer if isinstance(answer, str) else json.dumps(answer, default=_short)
    return {
        "seconds": round(seconds, 2),
        "peak RSS MiB": round(max(watch.rss.values()) / MIB),
        "peak PSS MiB": round(max(watch.pss.values(), default=0) / MIB),
        "answer": text[:160],
    }


def _short(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        names = value.dtype.names
        return f"{value.shape} {len(names) if names else 1} x {value.dtype[0] if names else ''}"
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def checks(results: dict[str, Any]) -> dict[str, bool]:
    """Compare parts of answers with numpy."""
    bands, _, valid = large.pattern(0)
    out: dict[str, bool] = {}
    whole = slice(0, large.SIDE)
    good = large.repeated(valid, whole, whole)

    def weights(name: str) -> np.ndarray:
        return np.asarray(large.repeated(bands[name], whole, whole)[good])

    got = results.get("pixels: 12 x uint16, 1448 px, NPY")
    if got is not None:
        place = slice(3000, 4448)
        out["pixels"] = all(
            np.array_equal(
                got[b], np.where(large.repeated(valid, place, place),
                                 large.repeated(bands[b], place, place), 0))
            for b in large.BANDS
        )  # fmt: skip
    got = results.get("pixels: NDVI median of 6, 2500 px")
    if got is not None:
        want = expected_ndvi(3000, 5500, 3000, 5500)
        want = np.where(np.isfinite(want), want, 0)
        out["median"] = bool(np.allclose(got["ndvi"], want, atol=1e-6))
    got = results.get("region: mean of 12 bands")
    if isinstance(got, dict):
        out["mean"] = bool(abs(got["B4"] - weights("B4").mean()) < 1e-3)
    got = results.get("region: median of 12 bands")
    if isinstance(got, dict):
        out["region median"] = all(got[b] == float(np.median(weights(b))) for b in ("B4", "B12"))
    got = results.get("region: percentiles of a float band")
    if isinstance(got, dict):
        red, near = weights("B4").astype(np.float32), weights("B8").astype(np.float32)
        want = np.percentile(((near - red) / (near + red)).astype(np.float64), [2, 50, 98])
        out["region percentiles"] = bool(np.allclose(sorted(got.values()), want, atol=1e-6))
    got = results.get("region: frequencies")
    if isinstance(got, dict):
        values = (weights("B8") / 400).astype(np.uint8)
        found, counts = np.unique(values, return_counts=True)
        table = {int(float(k)): v for k, v in got["class"].items()}
        want_table = dict(zip(found.tolist(), counts.tolist(), strict=True))
        out["frequencies"] = table == want_table
    return out


@contextlib.contextmanager
def catalogue(kept: Path | None) -> Iterator[Path]:
    """Yield the folder of the catalogue, made where it is not there yet."""
    with contextlib.ExitStack() as stack:
        root = kept
        if root is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "catalog"
        if not (root / large.COLLECTION).is_dir():
            large.build(root)
        yield root


def main() -> None:
    """Send the requests and print a table."""
    global MIDDLE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="requests whose names contain this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="keep the catalogue in this folder")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    import urllib.request

    import ee
    import ee.deprecation
    from google.auth.credentials import AnonymousCredentials
    from pyproj import Transformer

    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    half = large.SIDE * 5
    MIDDLE = Transformer.from_crs(large.CRS, "EPSG:4326", always_xy=True).transform(
        large.TRANSFORM[2] + half, large.TRANSFORM[5] - half
    )

    def fetch(url: str) -> bytes:
        with urllib.request.urlopen(url) as answer:
            return bytes(answer.read())

    table: dict[str, Any] = {}
    results: dict[str, Any] = {}
    with (
        catalogue(options.keep) as root,
        tempfile.TemporaryDirectory() as state,
        running(root, state=Path(state), workers=options.workers) as url,
    ):
        ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)
        ee.data.setMaxRetries(0)
        ee.data.setDeadline(600_000)
        processes = [p for p in psutil.Process().children(recursive=True) if "python" in p.name()]
        with Watch(processes) as watch:
            time.sleep(0.1)
        table["at rest"] = row(watch, 0, "")
        for name, send in requests_of(ee, fetch).items():
            if options.only not in name:
                continue
            start = time.perf_counter()
            with Watch(processes) as watch:
                try:
                    results[name] = answer = send()
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
            table[name] = row(watch, time.perf_counter() - start, answer)
            print(name, json.dumps(table[name]), flush=True)
        if options.only in "export":
            s2 = ee.ImageCollection(large.COLLECTION)

            def greenness(image: Any) -> Any:
                good = image.select(large.QA).bitwiseAnd(large.CLOUDS).eq(0)
                masked = image.updateMask(good).normalizedDifference(["B8", "B4"])
                return masked.rename("ndvi")

            ndvi = s2.map(greenness).median()
            folder = Path(state)
            made = export(ee, ndvi, folder, "ndvi", processes)
            table["export: NDVI median of 6, COG"] = made
            print(json.dumps(made), flush=True)
            asset = "projects/local-proj/assets/ndvi"
            made = export(ee, ndvi, folder, "asset", processes, asset)
            table["export: NDVI median of 6, asset"] = made
            print(json.dumps(made), flush=True)
            if options.keep:
                ee.data.deleteAsset(asset)
    found = checks(results)
    path = ROOT / "benchmarks" / "results" / "emulator_large.json"
    if options.write and options.only and path.is_file():
        # A part of the requests: the others stay as they were measured.
        known = json.loads(path.read_text(encoding="utf-8"))
        table = {**known["requests"], **table}
        found = {**known["compared with numpy"], **found}
    worst = max(line["peak RSS MiB"] for line in table.values())
    out = {
        "scenes": 6, "side": large.SIDE, "bands": len(large.BANDS) + 1,
        "workers": options.workers, "cores": os.cpu_count(),
        "largest peak RSS MiB of any process": worst, "target MiB": TARGET // MIB,
        "compared with numpy": found, "requests": table,
    }  # fmt: skip
    print(json.dumps({k: v for k, v in out.items() if k != "requests"}, indent=1))
    if options.write:
        path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
