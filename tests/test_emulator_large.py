"""Large inputs: bounded memory with the same results, replaced assets, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from scipy import stats

from gee.emulator import encode, ingest_rasters, rasters, streams
from gee.emulator.accumulators import accumulator
from gee.emulator.blocks import GDAL_CACHE
from gee.emulator.catalog import BandData, BandStream, Catalog, ImageStream
from gee.emulator.dispatch import Dispatcher
from gee.emulator.encode import BandInfo, Canvas
from gee.emulator.errors import EngineError
from gee.emulator.evaluate import Evaluator
from gee.emulator.functions import regions
from gee.emulator.image import Image, load_image
from gee.emulator.memory import give_back, resident
from gee.emulator.messages import Request
from gee.emulator.pixels import Limits, compute_pixels
from gee.emulator.projection import PixelGrid
from gee.emulator.reducers import Reducer, named_reducer
from gee.emulator.reducers.combining import combined, grouped
from gee.emulator.reducers.histograms import auto_histogram, fixed_histogram, histogram
from gee.emulator.reducers.ordered import percentile
from gee.emulator.server import running
from gee.emulator.values import Array as ArrayValue
from thawslump.errors import BackendError, DataError

CRS = "EPSG:32633"
GRID = (CRS, (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))
ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64")


# ---- reducers over more values than are held


def accumulated(
    reducer: Reducer, columns: Sequence[Any], weights: Any, inside: Any, rows: int, part: int
) -> list[Any]:
    """Reduce columns that come in parts, with room for few rows."""
    made = accumulator(reducer, rows)
    for _ in range(20):
        for start in range(0, len(weights), part):
            cut = slice(start, start + part)
            made.add([c[cut] for c in columns], weights[cut], inside[cut])
        if not made.again():
            return made.result()
    raise AssertionError("it asks for passes without end")


def drawn(seed: int, dtype: str, n: int, distinct: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = random.normal(0, 10.0 ** random.integers(-3, 6), distinct)
        values[: distinct // 4] = 0.0
        values[distinct // 4 : distinct // 3] = -0.0
    else:
        info = np.iinfo(kind)
        values = random.integers(info.min, info.max, distinct, dtype=kind, endpoint=True)
    return random.choice(values, n).astype(kind)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), dtype=st.sampled_from(DTYPES), n=st.integers(1, 400),
    distinct=st.integers(1, 300), rows=st.integers(1, 60), part=st.integers(1, 90),
    shares=st.lists(st.floats(0, 100), min_size=1, max_size=4),
)  # fmt: skip
def test_percentiles_of_any_number_of_values_are_numpys(
    seed: int, dtype: str, n: int, distinct: int, rows: int, part: int, shares: list[float]
) -> None:
    values = drawn(seed, dtype, n, distinct)
    reducer = percentile(shares, [f"p{k}" for k in range(len(shares))])
    got = accumulated(reducer, [values], np.ones(n), np.ones(n, bool), rows, part)
    np.testing.assert_array_equal(got, np.percentile(values.astype(float), shares))
    median = accumulated(
        named_reducer("median"), [values], np.ones(n), np.ones(n, bool), rows, part
    )
    assert median == [np.percentile(values.astype(float), 50)]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        ["mean", "sum", "count", "min", "max", "minMax", "stdDev", "sampleVariance", "mode",
         "countDistinct", "frequencyHistogram", "fixedHistogram", "histogram", "autoHistogram",
         "combined"]
    ),
    dtype=st.sampled_from(["uint8", "int16", "int32", "float32"]),
    seed=st.integers(0, 2**32), n=st.integers(1, 300), part=st.integers(1, 70),
)  # fmt: skip
def test_few_rows_held_or_all_the_same_result(
    name: str, dtype: str, seed: int, n: int, part: int
) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(0, 40, n)).astype(dtype)
    weights = random.choice([0.25, 0.5, 1.0], n)
    inside = random.random(n) < 0.8
    reducer = {
        "fixedHistogram": lambda: fixed_histogram(-50, 50, 20),
        "histogram": lambda: histogram(16),
        "autoHistogram": lambda: auto_histogram(32, cumulative=bool(seed % 2)),
        "combined": lambda: combined(
            named_reducer("mean"),
            combined(named_reducer("median"), histogram(8), shared=True),
            shared=True,
        ),
    }.get(name, lambda: named_reducer(name))()
    want = reducer.reduce([values], weights, inside)
    # Room for all the different values, but not for the rows; and for next to nothing.
    for rows in (max(n // 2, 1), 3):
        try:
            got = accumulated(reducer, [values], weights, inside, rows, part)
        except EngineError as refused:
            assert str(refused) == "User memory limit exceeded."
            assert name in ("mode", "countDistinct", "frequencyHistogram")
            assert dtype in ("int32", "float32") and len(np.unique(values)) > rows
            continue
        assert_close(got, want)


def assert_close(got: Any, want: Any) -> None:
    if isinstance(want, dict):
        assert sorted(got) == sorted(want)
        for key in want:
            assert_close(got[key], want[key])
    elif isinstance(want, list | tuple):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert_close(a, b)
    elif isinstance(want, ArrayValue):
        np.testing.assert_allclose(got.values, want.values, rtol=1e-9, atol=1e-7)
    elif want is None:
        assert got is None
    else:
        assert got == pytest.approx(want, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("name", ["linearFit", "pearsonsCorrelation"])
def test_two_inputs_by_their_moments(name: str) -> None:
    random = np.random.default_rng(3)
    x = random.normal(1e6, 3, 5000)  # a large mean: sums of squares would lose the digits
    y = 2 * x + random.normal(0, 4, 5000)
    ones = np.ones(5000)
    got = accumulated(named_reducer(name), [x, y], ones, ones > 0, 10, 700)
    if name == "linearFit":
        fit = stats.linregress(x, y)
        assert got == pytest.approx([fit.slope, fit.intercept], rel=1e-7)
    else:
        r = stats.pearsonr(x[:40], y[:40])
        few = accumulated(named_reducer(name), [x[:40], y[:40]], ones[:40], ones[:40] > 0, 1, 7)
        assert few == pytest.approx([r.statistic, r.pvalue], rel=1e-6)
        assert got[0] == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)


@pytest.mark.parametrize("inner", ["mean", "median", "frequencyHistogram"])
def test_groups_one_by_one(inner: str) -> None:
    random = np.random.default_rng(4)
    classes = random.integers(0, 5, 4000).astype(np.uint8)
    values = random.integers(0, 40, 4000).astype(np.int16)
    reducer = grouped(named_reducer(inner), 1, "class")
    ones = np.ones(4000)
    got = accumulated(reducer, [values, classes], ones, ones > 0, 100, 333)
    assert_close(got, reducer.reduce([values, classes], ones))
    assert [g["class"] for g in got[0]] == [0, 1, 2, 3, 4]


def test_what_needs_every_value_is_refused_in_earth_engines_words() -> None:
    values = np.arange(100.0)
    for name in ("toList", "kurtosis", "product"):
        with pytest.raises(EngineError) as refused:
            accumulated(named_reducer(name), [values], np.ones(100), values >= 0, 50, 20)
        assert str(refused.value) == "User memory limit exceeded."
        accumulated(named_reducer(name), [values], np.ones(100), values >= 0, 100, 20)


# ---- regions and samples


def graph(name: str, **arguments: Any) -> dict[str, Any]:
    call = {"functionInvocationValue": {"functionName": name, "arguments": arguments}}
    return {"result": "0", "values": {"0": call}}


def inner(name: str, **arguments: Any) -> dict[str, Any]:
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def const(value: Any) -> dict[str, Any]:
    return {"constantValue": value}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, np.ndarray, np.ndarray]:
    catalog = Catalog(tmp_path_factory.mktemp("large") / "catalog", writable=True)
    random = np.random.default_rng(0)
    values = random.normal(0, 1, (300, 280)).astype(np.float32)
    classes = random.integers(0, 4, (300, 280)).astype(np.uint8)
    mask = random.random((300, 280)) > 0.2
    bands = [
        BandData("v", np.where(mask, values, 0), *GRID, mask),
        BandData("class", classes, *GRID, mask, pyramiding="MODE"),
    ]
    catalog.put_image("users/a/scene", bands)
    return catalog, np.where(mask, values, np.nan), np.where(mask, classes, 255)


IMAGE = inner("Image.load", id=const("users/a/scene"))
AREA = inner("Image.geometry", feature=IMAGE)
SMALL = Limits(tile=64, threads=1, rows=3000)


def test_region_percentiles_need_no_room_for_the_pixels(scene: Any) -> None:
    catalog, values, _ = scene
    # The frame of the image itself, so no pixel is cut.
    ring = [[500_000, 5_000_000], [502_800, 5_000_000], [502_800, 4_997_000], [500_000, 4_997_000]]
    area = inner(
        "GeometryConstructors.Polygon",
        coordinates=const([ring]), crs=inner("Projection", crs=const(CRS)),
        geodesic=const(False),
    )  # fmt: skip
    expression = graph(
        "Image.reduceRegion",
        image=inner("Image.select", input=IMAGE, bandSelectors=const(["v"])),
        reducer=inner("Reducer.percentile", percentiles=const([5, 50, 99])), geometry=area,
        scale=const(10), crs=inner("Projection", crs=const(CRS)),
    )  # fmt: skip
    engine = Evaluator(catalog, SMALL)
    got = engine.evaluate(expression)
    want = np.nanpercentile(values.astype(float), [5, 50, 99])
    assert [got["v_p5"], got["v_p50"], got["v_p99"]] == want.tolist()


def sampled(catalog: Catalog, limits: Limits, name: str, **arguments: Any) -> list[dict[str, Any]]:
    projection = inner("Projection", crs=const(CRS))
    expression = graph(
        name, image=IMAGE, region=AREA, scale=const(10), projection=projection, **arguments
    )
    found = Evaluator(catalog, limits).evaluate(expression)
    return [dict(item.properties) for item in found]


def test_samples_do_not_depend_on_tiles_and_are_pixels_of_the_image(scene: Any) -> None:
    catalog, values, classes = scene
    few = [
        sampled(
            catalog, Limits(tile=tile, threads=1), "Image.sample", numPixels=const(50),
            seed=const(3),
        )
        for tile in (32, 64, 512)
    ]  # fmt: skip
    assert few[0] == few[1] == few[2] and len(few[0]) == 50
    pairs = set(zip(values.ravel().tolist(), classes.ravel().tolist(), strict=True))
    assert {(s["v"], s["class"]) for s in few[0]} <= pairs
    share = sampled(catalog, SMALL, "Image.sample", factor=const(0.005))
    expected = np.isfinite(values).sum() * 0.005
    assert abs(len(share) - expected) < 4 * np.sqrt(expected)


def test_stratified_samples_hold_as_many_of_each_class(scene: Any) -> None:
    catalog, _, _ = scene
    got = [
        sampled(
            catalog, Limits(tile=tile, threads=1, rows=3000), "Image.stratifiedSample",
            numPoints=const(7), classBand=const("class"), classValues=const([2]),
            classPoints=const([11]),
        )
        for tile in (32, 512)
    ]  # fmt: skip
    assert got[0] == got[1]
    counts = np.bincount([s["class"] for s in got[0]])
    assert counts.tolist() == [7, 7, 11, 7]


def test_samples_that_would_hold_too_much_are_refused(scene: Any) -> None:
    catalog, _, _ = scene
    for name, arguments in (
        ("Image.sample", {}),
        ("Image.sample", {"numPixels": const(2000)}),
        ("Image.sample", {"factor": const(0.5)}),
        ("Image.stratifiedSample", {"numPoints": const(500), "classBand": const("class")}),
    ):
        with pytest.raises(EngineError) as refused:
            sampled(catalog, SMALL, name, **arguments)
        assert str(refused.value).endswith("User memory limit exceeded.")


def test_get_region_counts_before_it_computes(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, *_ = scene
    listed = {"functionName": "ImageCollection.fromImages",
              "arguments": {"images": {"arrayValue": {"values": [IMAGE, IMAGE]}}}}  # fmt: skip
    images = {"functionInvocationValue": listed}

    def table(scale: float) -> Any:
        return Evaluator(catalog).evaluate(
            graph(
                "ImageCollection.getRegion", collection=images, geometry=AREA,
                scale=const(scale), crs=inner("Projection", crs=const(CRS)),
            )
        )  # fmt: skip

    rows = table(100)
    points = (len(rows) - 1) // 2
    assert 750 <= points <= 930  # 28 x 30 pixels of 100 m, their frame a little bent
    monkeypatch.setattr(regions, "_MOST_VALUES", points * 2 * 2)
    assert table(100) == rows
    monkeypatch.setattr(regions, "_MOST_VALUES", points * 2 * 2 - 1)
    with pytest.raises(EngineError, match=f"Too many values: {points} points x 2 bands x 2 images"):
        table(100)
    monkeypatch.setattr(regions, "region_pixels", None)  # nothing is computed
    monkeypatch.setattr(regions, "_MOST_VALUES", 1_048_576)
    with pytest.raises(EngineError, match="Too many values"):
        table(1)


# ---- images by windows


def windows_of(
    arrays: dict[str, tuple[Any, Any]], side: int
) -> Iterator[tuple[int, int, int, int, dict[str, tuple[Any, Any]]]]:
    h, w = next(iter(arrays.values()))[0].shape
    for r in range(0, h, side):
        for c in range(0, w, side):
            r1, c1 = min(r + side, h), min(c + side, w)
            part = {
                name: (data[r:r1, c:c1], None if mask is None else mask[r:r1, c:c1])
                for name, (data, mask) in arrays.items()
            }
            yield r, r1, c, c1, part


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32), h=st.integers(1, 70), w=st.integers(1, 70),
    policy=st.sampled_from(["MEAN", "SAMPLE", "MODE", "MIN", "MAX"]),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
    masked=st.sampled_from(["none", "some", "fractions", "one band", "late"]),
)  # fmt: skip
def test_an_image_by_windows_reads_as_the_same_image_put_whole(
    tmp_path_factory: pytest.TempPathFactory, seed: int, h: int, w: int, policy: Any, dtype: str,
    masked: str,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    arrays: dict[str, tuple[Any, Any]] = {}
    for name in ("a", "b"):
        data = random.integers(0, 100, (h, w)).astype(dtype)
        mask: Any = None
        if masked == "some" or (masked == "one band" and name == "b"):
            mask = random.random((h, w)) > 0.4
        elif masked == "fractions":
            mask = random.integers(0, 5, (h, w)).astype(np.float32) / 4
        elif masked == "late":  # only the last window has masked pixels
            mask = np.ones((h, w), bool)
            mask[-1, -1] = False
        arrays[name] = data, mask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasters, "TOP", 8)
        patch.setattr(streams, "TOP", 8)
        patch.setattr(streams, "SIDE", 16)
        catalog = Catalog(tmp_path_factory.mktemp("streams"), writable=True)
        catalog.put_image(
            "whole", [BandData(n, d, *GRID, m, policy) for n, (d, m) in arrays.items()], {"k": 1}
        )
        bands = [BandStream(n, np.dtype(dtype), policy) for n in arrays]
        stream = ImageStream(bands, *GRID, (h, w), windows_of(arrays, 32))
        catalog.put_streams("parts", [stream], {"k": 1})
    one, two = catalog.get("whole"), catalog.get("parts")
    assert one is not None and two is not None
    assert one.properties == two.properties and one.footprint == two.footprint
    assert not list((catalog.root / "parts").glob(".*")), "nothing temporary is left"
    for a, b in zip(one.bands, two.bands, strict=True):
        assert (a.id, a.data_type, a.levels, a.policy) == (b.id, b.data_type, b.levels, b.policy)
        for level in range(a.levels):
            rows, columns = a.level_shape(level)
            x, y = (band.read(level, 0, rows, 0, columns) for band in (a, b))
            np.testing.assert_array_equal(x[0], y[0])
            np.testing.assert_array_equal(x[1], y[1])
            assert x[1].dtype == y[1].dtype


def test_a_large_image_is_written_in_little_memory(tmp_path: Path) -> None:
    side, step = 4096, 256
    row = np.arange(side, dtype=np.uint16)

    def windows() -> Iterator[Any]:
        for r in range(0, side, step):
            for c in range(0, side, 1024):
                data = np.broadcast_to(row[c : c + 1024], (step, 1024)) + np.uint16(r)
                yield r, r + step, c, c + 1024, {"a": (data, data % 7 > 0)}

    catalog = Catalog(tmp_path, writable=True)
    stream = ImageStream([BandStream("a", np.dtype("u2"))], *GRID, (side, side), windows())
    tracemalloc.start()
    try:
        catalog.put_streams("users/a/large", [stream])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Its values alone are 32 MiB; a window of its pyramid is 1024 x 1024 x 2 bytes.
    assert peak < 64 * 2**20
    image = catalog.get("users/a/large")
    assert image is not None and image.bands[0].levels == 5
    data, mask = image.bands[0].read(0, 4000, 4001, 4000, 4003)
    want = (np.array([4000, 4001, 4002]) + 3840).astype(np.uint16)
    assert (mask[0] == (want % 7 > 0)).all() and (data[0] == np.where(mask[0], want, 0)).all()


def test_windows_of_another_shape_leave_no_asset(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, writable=True)
    wrong = [(0, 4, 0, 4, {"a": (np.zeros((3, 4), np.uint8), None)})]
    stream = ImageStream([BandStream("a", np.dtype("u1"))], *GRID, (4, 4), wrong)
    with pytest.raises(DataError, match=r"window of shape \(4, 4\) came with values of shape"):
        catalog.put_streams("users/a/x", [stream])
    found = catalog.get("users/a/x")
    assert found is None or found.type == "FOLDER"
    assert not list((tmp_path / "users/a/x").iterdir())


def test_a_large_raster_is_ingested_by_windows_as_a_small_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(6)
    values = random.integers(0, 50, (2, 1100, 700)).astype(np.int16)
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=1100, width=700, count=2, dtype="int16", nodata=0,
        crs=CRS, transform=Affine(*GRID[1]),
    ) as target:  # fmt: skip
        target.write(values)
        target.descriptions = ("red", None)
    catalog = Catalog(tmp_path / "catalog", writable=True)
    options: dict[str, Any] = {
        "nodata": 7, "policies": {"b2": "MODE"}, "start": "2020-01-01", "properties": {"k": 1}
    }  # fmt: skip
    ingest_rasters.ingest_geotiff(catalog, [path], "users/a/small", **options)
    monkeypatch.setattr(ingest_rasters, "LARGE", 1000)
    ingest_rasters.ingest_geotiff(catalog, [path], "users/a/large", **options)
    small, large = catalog.get("users/a/small"), catalog.get("users/a/large")
    assert small is not None and large is not None
    assert (small.properties, small.start_ms) == (large.properties, large.start_ms)
    assert [b.id for b in large.bands] == ["red", "b2"]
    for a, b in zip(small.bands, large.bands, strict=True):
        assert (a.data_type, a.policy, a.levels) == (b.data_type, b.policy, b.levels)
        for level in range(a.levels):
            rows, columns = a.level_shape(level)
            for x, y in zip(
                a.read(level, 0, rows, 0, columns), b.read(level, 0, rows, 0, columns), strict=True
            ):
                np.testing.assert_array_equal(x, y)
    data, mask = large.bands[0].read(0, 1000, 1100, 600, 700)
    want = values[0, 1000:, 600:]
    np.testing.assert_array_equal(mask, (want != 0) & (want != 7))
    np.testing.assert_array_equal(data[mask], want[mask])
    with pytest.raises(DataError, match="3 band names were given"):
        ingest_rasters.ingest_geotiff(catalog, [path], "users/a/x", names=["a", "b", "c"])


# ---- answers


def test_answers_are_held_once(tmp_path: Path) -> None:
    side = 2048
    canvas = Canvas(*GRID, side, side)
    band = BandInfo("a", np.dtype("u1"))

    def tiles() -> Iterator[Any]:
        for r in range(0, side, 256):
            data = np.full((256, side), r // 256, np.uint8)
            yield r, r + 256, 0, side, {"a": (data, data > 0)}

    tracemalloc.start()
    try:
        colours = encode.coloured(tiles(), [band], canvas)
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 2 * 4 * side**2  # the picture, and a strip on its way into it
        assert (colours[::256, 0, 0] == range(8)).all() and (colours[::256, 0, 3] > 0).sum() == 7
        del colours
        tracemalloc.reset_peak()
        content = encode.npy(tiles(), [band], canvas)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * side**2
    finally:
        tracemalloc.stop()
    assert len(content) - side**2 < 256


def test_tiles_of_many_bands_are_smaller_and_hold_the_same(scene: Any) -> None:
    catalog, values, _ = scene
    image = load_image(catalog.get("users/a/scene"))
    band = image.band("v")
    many = Image([band.renamed(f"v{k}") for k in range(40)])
    grid = PixelGrid(CRS, GRID[1], 280, 300)
    limits = Limits(tile=512, threads=1, tile_bytes=2**20)
    tiles = list(compute_pixels(many, grid, None, limits))
    assert len(tiles) > 4
    for row0, row1, column0, column1, pixels in tiles:
        assert sum(data.nbytes for data, _ in pixels.values()) <= 2**20
        for data, mask in (pixels["v0"], pixels["v39"]):
            want = values[row0:row1, column0:column1]
            np.testing.assert_array_equal(mask, np.isfinite(want))
            np.testing.assert_array_equal(data[mask], want[np.isfinite(want)])


@pytest.mark.parametrize("given", [None, "123456789"])
def test_gdal_keeps_little_unless_it_is_told(scene: Any, given: str | None) -> None:
    catalog, _, _ = scene
    code = (
        "import sys; from pathlib import Path; from gee.emulator.catalog import Catalog\n"
        "band = Catalog(Path(sys.argv[1])).get('users/a/scene').bands[0]\n"
        "band.read(0, 0, 9, 0, 9)\n"
        "from rasterio.env import get_gdal_config; print(get_gdal_config('GDAL_CACHEMAX'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GDAL_CACHEMAX"}
    environment["PYTHONPATH"] = str(ROOT)
    if given is not None:
        environment["GDAL_CACHEMAX"] = given
    done = subprocess.run(
        [sys.executable, "-c", code, str(catalog.root)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) == (GDAL_CACHE if given is None else int(given))


def test_memory_is_given_back() -> None:
    give_back()  # on any system, at any size
    if sys.platform != "linux":
        assert resident() == 0
        return
    assert 2**20 < resident() < 2**40


# ---- many readers, one writer

WRITER = """
import sys, time
import numpy as np
from pathlib import Path
from gee.emulator.catalog import BandData, Catalog
catalog = Catalog(Path(sys.argv[1]), writable=True)
grid = ("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0))
print("ready", flush=True)
end, version = time.monotonic() + float(sys.argv[2]), 1
while time.monotonic() < end:
    version += 1
    values = np.full((600, 40), version, np.uint16)
    bands = [BandData(name, values, *grid) for name in ("a", "b")]
    catalog.put_image("users/x/y", bands, {"version": version})
print(version, flush=True)
"""


def test_an_asset_replaced_while_it_is_read_is_one_version(tmp_path: Path) -> None:
    """Another process replaces an image over and over; every reader sees one version of it."""
    catalog = Catalog(tmp_path, writable=True)
    first = np.full((600, 40), 1, np.uint16)
    catalog.put_image(
        "users/x/y", [BandData(name, first, *GRID) for name in ("a", "b")], {"version": 1}
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), "2.0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    seen: set[int] = set()
    problems: list[str] = []

    def read() -> None:
        own = Catalog(tmp_path, cache_bytes=2**20)
        while writer.poll() is None:
            image = own.get("users/x/y")
            assert image is not None
            version = image.properties["version"]
            found = set()
            for level, rows, columns in ((0, 600, 40), (1, 300, 20)):
                for band in image.bands:
                    found |= set(np.unique(band.read(level, 0, rows, 0, columns)[0]).tolist())
                time.sleep(0.01)  # a request that takes its time
            seen.add(version)
            if found != {version}:
                problems.append(f"version {version} read as {found}")

    threads = [threading.Thread(target=_noting, args=(read, problems)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = int(writer.stdout.read())
    writer.stdout.close()
    assert writer.wait() == 0 and problems == []
    assert last > 5 and len(seen) > 3, "there was something to see"


def _noting(run: Any, problems: list[str]) -> None:
    try:
        run()
    except Exception as error:
        problems.append(repr(error))


def test_files_of_a_former_version_stay_for_a_while(tmp_path: Path) -> None:
    def put(catalog: Catalog, value: int) -> None:
        catalog.put_image("users/x", [BandData("a", np.full((4, 4), value, "u1"), *GRID)])

    catalog = Catalog(tmp_path, writable=True)
    put(catalog, 1)
    old = catalog.get("users/x")
    assert old is not None
    put(catalog, 2)
    (tmp_path / "users/x/0123456789ab_0_0.tif").write_bytes(b"another writer's, not named yet")
    put(catalog, 3)
    files = {p.name for p in (tmp_path / "users/x").glob("*.tif")}
    assert len(files) == 4 and (old.bands[0].read(0, 0, 4, 0, 4)[0] == 1).all()
    # Once no request can read it any more, the next change of any asset sweeps it.
    strict = Catalog(tmp_path, writable=True, grace_seconds=0)
    strict.put_folder("users/other")
    files = {p.name for p in (tmp_path / "users/x").glob("*.tif")}
    new = strict.get("users/x")
    assert len(files) == 1 and new is not None
    assert (new.bands[0].read(0, 0, 4, 0, 4)[0] == 3).all()


def test_what_was_put_again_is_not_swept(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, writable=True)
    for value in (1, 2, 1):
        catalog.put_image("users/x", [BandData("a", np.full((4, 4), value, "u1"), *GRID)])
    strict = Catalog(tmp_path, writable=True, grace_seconds=0)
    strict.put_folder("users/other")
    image = strict.get("users/x")
    assert image is not None and (image.bands[0].read(0, 0, 4, 0, 4)[0] == 1).all()


def test_properties_set_by_several_writers_are_all_kept(tmp_path: Path) -> None:
    Catalog(tmp_path, writable=True).put_folder("users/x")

    def write(number: int) -> None:
        own = Catalog(tmp_path, writable=True)
        for k in range(10):
            own.update_properties("users/x", {f"p{number}_{k}": k})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Catalog(tmp_path).get("users/x")
    assert found is not None and len(found.properties) == 40


# ---- several processes


def post(url: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{url}/v1/projects/local-proj/{path}", json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_workers_share_maps_and_one_that_dies_is_replaced(scene: Any, tmp_path: Path) -> None:
    import psutil

    catalog, _, _ = scene
    body = {
        "expression": graph("Image.select", input=IMAGE, bandSelectors=const(["v"])),
        "fileFormat": "PNG",
    }
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with running(catalog.root, state=tmp_path, workers=2) as url:
        status, made = post(url, "maps", body)
        assert status == 200
        # Whoever has least to do answers, the workers in turns: both know the map.
        tiles = []
        for _ in range(4):
            with opener.open(f"{url}/v1/{made['name']}/tiles/10/540/370") as answer:
                tiles.append(answer.read())
        assert len(set(tiles)) == 1
        one = {"expression": {"result": "0", "values": {"0": const(7)}}}
        workers = [
            p
            for p in psutil.Process().children(recursive=True)
            if "gee.emulator.dispatch" in p.cmdline()
        ]
        assert len(workers) == 2
        workers[0].kill()
        workers[0].wait(10)
        answers = [post(url, "value:compute", one) for _ in range(6)]
        # Whatever was under way in it is refused with words, never with a broken connection.
        for status, answer in answers:
            assert (status, answer) == (200, {"result": 7}) or (
                status == 400 and "User memory limit exceeded" in answer["error"]["message"]
            )
        assert sum(status == 200 for status, _ in answers) >= 5
        end = time.monotonic() + 30
        alive: list[Any] = []
        while len(alive) < 2 and time.monotonic() < end:
            time.sleep(0.1)
            alive = [
                p
                for p in psutil.Process().children(recursive=True)
                if p.is_running() and "gee.emulator.dispatch" in p.cmdline()
            ]
        assert len(alive) == 2 and workers[0].pid not in {p.pid for p in alive}
        assert post(url, "value:compute", one) == (200, {"result": 7})
    _, gone = psutil.wait_procs(alive, timeout=10)
    assert gone == [], "workers end with the server"


def test_workers_that_cannot_start_are_told(tmp_path: Path) -> None:
    """The settings name a catalogue that is not there: no attempts without end."""
    facts = {"catalog": str(tmp_path / "none"), "workers": 2}
    environment = {
        **os.environ, "THAWSLUMP_EMULATOR": json.dumps(facts), "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    front = Dispatcher(2, environment)
    start = time.monotonic()
    with pytest.raises(BackendError, match="worker process could not start"):
        front.start()
    assert time.monotonic() - start < 50
    answer = front.handle(Request("GET", "/"))
    assert answer.status == 400 and b"no process had room" in answer.body


def test_each_request_goes_to_the_worker_with_least_to_do() -> None:
    front = Dispatcher(3, {})
    held: dict[int, list[Any]] = {n: [f"{n}-{k}" for k in range(4)] for n in range(3)}
    front._idle = held
    taken = [front._take() for _ in range(12)]
    order = [found[0] for found in taken if found is not None]
    assert len(order) == 12
    for start in (0, 3, 6, 9):
        assert sorted(order[start : start + 3]) == [0, 1, 2]
    # The one that gets something back first is asked next.
    held[2].append("2-back")
    assert front._take() == (2, "2-back")
    front.close()
    assert front._take() is None
