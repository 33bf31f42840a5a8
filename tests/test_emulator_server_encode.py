"""Pixels and features as files, read back by other libraries."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from PIL import Image

from gee.emulator import encode
from gee.emulator.encode import BandInfo, Canvas
from gee.emulator.errors import EngineError
from gee.emulator.limits import RequestLimits
from gee.emulator.tables import encode_table

CANVAS = Canvas("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), 70, 50)


def info(name: str, dtype: str, low=None, high=None) -> BandInfo:
    return BandInfo(name, np.dtype(dtype), low, high)


def made(bands: list[BandInfo], canvas: Canvas = CANVAS, side: int = 32):
    """Random arrays by band, and the same as tiles."""
    random = np.random.default_rng(5)
    shape = (canvas.height, canvas.width)
    arrays = {}
    for band in bands:
        mask = random.random(shape) > 0.25
        data = (random.random(shape) * 200).astype(band.dtype)
        arrays[band.id] = (np.where(mask, data, 0).astype(band.dtype), mask)

    def tiles():
        for r in range(0, canvas.height, side):
            for c in range(0, canvas.width, side):
                r1, c1 = min(r + side, canvas.height), min(c + side, canvas.width)
                yield (
                    r,
                    r1,
                    c,
                    c1,
                    {k: (d[r:r1, c:c1], m[r:r1, c:c1]) for k, (d, m) in arrays.items()},
                )

    return arrays, tiles


def test_npy_is_a_structured_array_without_pickles() -> None:
    bands = [info("B4", "uint16"), info("nd", "float32")]
    arrays, tiles = made(bands)
    got = np.load(io.BytesIO(encode.npy(tiles(), bands, CANVAS)), allow_pickle=False)
    assert got.shape == (50, 70) and got.dtype.names == ("B4", "nd")
    for band in bands:
        assert got[band.id].dtype == band.dtype
        np.testing.assert_array_equal(got[band.id], arrays[band.id][0])


@pytest.mark.parametrize(
    "dtypes, want, nodata",
    [
        (["uint8"], "uint8", 0),
        (["uint16", "uint8"], "uint16", 0),
        (["int16"], "int16", -32768),
        (["int16", "float32"], "float32", -np.inf),
        (["float64"], "float64", -np.inf),
        (["int64"], "float64", -np.inf),
        (["int8"], "int8", -128),
    ],
)
def test_geotiff_types_grid_and_nodata(dtypes: list[str], want: str, nodata: float) -> None:
    bands = [info(f"b{n}", dtype) for n, dtype in enumerate(dtypes)]
    arrays, tiles = made(bands)
    content = encode.geotiff(tiles(), bands, CANVAS)
    with rasterio.MemoryFile(content) as memory, memory.open() as source:
        assert set(source.dtypes) == {want} and source.nodata == nodata
        assert tuple(source.transform)[:6] == CANVAS.transform and source.crs.to_epsg() == 32633
        assert source.descriptions == tuple(band.id for band in bands)
        for number, band in enumerate(bands, 1):
            data, mask = arrays[band.id]
            got = source.read(number)
            np.testing.assert_array_equal(got[mask], data[mask].astype(want))
            assert (got[~mask] == nodata).all()


def test_cloud_optimized_export_with_own_nodata(tmp_path: Path) -> None:
    canvas = Canvas(CANVAS.crs, CANVAS.transform, 700, 600)
    bands = [info("a", "float32")]
    arrays, tiles = made(bands, canvas, 512)
    path = tmp_path / "a.tif"
    shares: list[float] = []
    assert encode.write_geotiff(
        path, tiles(), bands, canvas, nodata=-9999, cloud_optimized=True, progress=shares.append
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(path) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.nodata == -9999 and source.overviews(1)
        data, mask = arrays["a"]
        np.testing.assert_array_equal(source.read(1), np.where(mask, data, np.float32(-9999)))
    assert shares[-1] == 1 and shares == sorted(shares)
    with pytest.raises(EngineError, match="does not fit into pixels of type uint8"):
        encode.write_geotiff(path, [], [info("a", "uint8")], CANVAS, nodata=-1)


def test_pictures_stretch_by_type_and_are_transparent_where_masked() -> None:
    data = np.array([[0, 500, 1000]], np.int16)
    mask = np.array([[1, 0.5, 0]], np.float32)
    band = info("a", "int16", 0, 1000)
    colours = encode.rgba({"a": (data, mask)}, [band])
    assert colours[0, :, 0].tolist() == [0, 128, 255] and colours[0, :, 3].tolist() == [255, 128, 0]
    content, kind = encode.picture(colours, "AUTO_JPEG_PNG")
    assert kind == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), colours)
    opaque = colours.copy()
    opaque[..., 3] = 255
    assert encode.picture(opaque, "AUTO_JPEG_PNG")[1] == "image/jpeg"
    seen = np.asarray(Image.open(io.BytesIO(encode.picture(colours, "JPEG")[0])))
    assert seen.shape == (1, 3, 3)


def test_three_bytes_are_red_green_blue() -> None:
    bands = [info(name, "uint8") for name in ("vis-red", "vis-green", "vis-blue")]
    pixels = {
        band.id: (np.full((2, 2), 10 * n, np.uint8), np.ones((2, 2), bool))
        for n, band in enumerate(bands, 1)
    }
    assert encode.rgba(pixels, bands)[0, 0].tolist() == [10, 20, 30, 255]


def test_limits_speak_as_earth_engine() -> None:
    limits = RequestLimits()
    with pytest.raises(
        EngineError, match=r"Total request size \(50331652 bytes\) must be less than"
    ):
        RequestLimits(side=2**30).check_pixels(12582913, 1, [("a", 4)])
    with pytest.raises(EngineError, match=r"\(32769x1\) must be less than or equal to 32768"):
        limits.check_pixels(32769, 1, [("a", 1)])
    with pytest.raises(EngineError, match=r"Number of bands \(1025\)"):
        limits.check_pixels(1, 1, [("a", 1)] * 1025)
    limits.check_pixels(4096, 3072, [("a", 4)])


# ---- features

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
ROWS = [
    {"id": "0", "geometry": SQUARE, "properties": {"name": "a, <b>", "n": 1}},
    {"id": "1", "geometry": SQUARE, "properties": {"n": None, "list": [1, 2]}},
]


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(encode_table(ROWS, "CSV").decode())))
    assert list(rows[0]) == ["system:index", "list", "n", "name", ".geo"]
    assert rows[0]["name"] == "a, <b>" and rows[1]["list"] == "[1, 2]" and rows[1]["n"] == ""
    assert json.loads(rows[0][".geo"]) == SQUARE
    chosen = encode_table(ROWS, "CSV", ["n", ".geo"]).decode().splitlines()[0]
    assert chosen == "n,.geo"


def test_geojson_and_kml() -> None:
    collection = json.loads(encode_table(ROWS, "GEO_JSON", ["n"]))
    assert [f["properties"] for f in collection["features"]] == [{"n": 1}, {"n": None}]
    root = ElementTree.fromstring(encode_table(ROWS, "KML"))
    space = "{http://www.opengis.net/kml/2.2}"
    assert len(root.findall(f".//{space}Placemark")) == 2
    assert root.find(f".//{space}value").text == "a, <b>"  # type: ignore[union-attr]
    with zipfile.ZipFile(io.BytesIO(encode_table(ROWS, "KMZ"))) as archive:
        assert archive.namelist() == ["doc.kml"]


def test_shapefile_is_read_back(tmp_path: Path) -> None:
    import geopandas

    path = tmp_path / "t.zip"
    path.write_bytes(encode_table(ROWS, "SHP"))
    frame = geopandas.read_file(f"zip://{path}", engine="pyogrio")
    assert len(frame) == 2 and frame.crs.to_epsg() == 4326 and frame["n"].iloc[0] == 1
    names = {"a_very_long_name_1": 1, "a_very_long_name_2": 2, "geometry": "g", "é" * 9: True}
    long = [{"id": "0", "geometry": ROWS[0]["geometry"], "properties": names}]
    path.write_bytes(encode_table(long, "SHP"))
    row = geopandas.read_file(f"zip://{path}", engine="pyogrio").drop(columns="geometry").iloc[0]
    assert dict(row) == {"a_very_lon": 1, "a_very_l_1": 2, "geometry_1": "g", "é" * 5: True}
    mixed = [*ROWS, {"id": "2", "geometry": {"type": "Point", "coordinates": [0, 0]}}]
    with pytest.raises(EngineError, match="one kind of geometry"):
        encode_table(mixed, "SHP")
    with pytest.raises(EngineError, match="XLSX is not implemented"):
        encode_table(ROWS, "XLSX")
