"""The unmodified earthengine-api against the emulator, in-process and over HTTP: values, pixels,
maps and exports. The rest of it and the other clients: test_emulator_clients_*.py.

All pixels here are made up.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ee
import numpy as np
import pytest
import rasterio
import requests
from emulator_clients_world import (
    NORTH,
    SHAPE,
    TILE,
    UTM,
    World,
    collection,
    connected,
    grid,
    make_world,
)
from PIL import Image

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.server import running
from gee.emulator.transport import Transport


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("clients") / "catalog")


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(world.root, state=tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture
def http(url: str) -> Iterator[str]:
    with connected(url=url):
        yield url


@pytest.fixture(params=["http", "in-process"])
def client(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Iterator[None]:
    if request.param == "http":
        with connected(url=request.getfixturevalue("url")):
            yield
        return
    transport = Transport(world.root, tmp_path / "state")
    with connected(http_transport=transport):
        yield
    transport.close()


# ---- earthengine-api


def test_values(client: None, world: World) -> None:
    assert ee.Number(1).add(2).getInfo() == 3
    assert collection().size().getInfo() == 3
    few = collection().filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 15))
    assert few.aggregate_array("system:index").getInfo() == ["made_up_0", "made_up_1"]
    late = collection().filterDate(world.dates[1], world.dates[2] + 1)
    assert late.aggregate_array("system:time_start").getInfo() == world.dates[1:]


def test_image_description(client: None) -> None:
    info = ee.Image("COPERNICUS/S2_SR_HARMONIZED/made_up_0").getInfo()
    assert info["type"] == "Image" and info["id"] == "COPERNICUS/S2_SR_HARMONIZED/made_up_0"
    band = info["bands"][0]
    assert band["id"] == "B4" and band["crs"] == UTM
    assert band["crs_transform"] == [10, 0, 500000, 0, -10, 5000000]
    assert band["dimensions"] == [128, 96]
    kind = band["data_type"]
    assert (kind["precision"], kind["min"], kind["max"]) == ("int", 0, 65535)
    assert info["properties"]["CLOUDY_PIXEL_PERCENTAGE"] == 0


def test_computed_pixels_are_the_stored_pixels(client: None, world: World) -> None:
    image = ee.Image("COPERNICUS/S2_SR_HARMONIZED/made_up_1")
    got = ee.data.computePixels(
        {"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": grid(10, 20, 40, 50)}
    )
    here = np.s_[10:50, 20:70]
    assert got.dtype.names == ("B4", "B8") and got["B4"].dtype == np.uint16
    clear = world.clear[1][here]
    np.testing.assert_array_equal(got["B4"], np.where(clear, world.red[1][here], 0))
    np.testing.assert_array_equal(got["B8"], np.where(clear, world.nir[1][here], 0))
    again = ee.data.getPixels(
        {
            "assetId": "COPERNICUS/S2_SR_HARMONIZED/made_up_1",
            "fileFormat": "NUMPY_NDARRAY", "grid": grid(10, 20, 40, 50), "bandIds": ["B8"],
        }
    )  # fmt: skip
    assert again.dtype.names == ("B8",)
    np.testing.assert_array_equal(again["B8"], got["B8"])


def test_median_of_a_masked_series_equals_numpy(client: None, world: World) -> None:
    def ndvi(image):
        return image.normalizedDifference(["B8", "B4"])

    expression = collection().map(ndvi).median()
    got = ee.data.computePixels(
        {"expression": expression, "fileFormat": "NUMPY_NDARRAY", "grid": grid(0, 0, *SHAPE)}
    )["nd"]
    red, nir = world.red.astype(float), world.nir.astype(float)
    series = np.where(world.clear, (nir - red) / (nir + red), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        want = np.nan_to_num(np.nanmedian(series, axis=0))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_grid_of_the_image_where_none_is_given(client: None, world: World) -> None:
    content = ee.data.computePixels(
        {"expression": ee.Image("users/me/dem"), "fileFormat": "GEO_TIFF"}
    )
    with rasterio.MemoryFile(content) as memory, memory.open() as source:
        np.testing.assert_array_equal(source.read(1), world.dem)
        assert tuple(source.transform)[:6] == NORTH and source.descriptions == ("elevation",)


def test_parts_of_a_grid_are_filled_in_from_the_image(client: None, world: World) -> None:
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform
    west, south = to_lonlat(500205, 4999505)
    east, north = to_lonlat(500395, 4999795)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    part = ee.data.getPixels(
        {
            "assetId": "users/me/dem",
            "fileFormat": "GEO_TIFF",
            "region": {"type": "Polygon", "coordinates": [ring]},
        }
    )
    coarse = ee.data.computePixels(
        {
            "expression": ee.Image("users/me/dem"),
            "fileFormat": "GEO_TIFF",
            "grid": {
                "crsCode": UTM,
                "affineTransform": {
                    "scaleX": 40, "translateX": 500000, "scaleY": -40, "translateY": 5000000,
                },
            },
        }
    )  # fmt: skip
    with rasterio.MemoryFile(part) as memory, memory.open() as source:
        a, _, x, _, _, y = tuple(source.transform)[:6]
        row, col = round((5000000 - y) / 10), round((x - 500000) / 10)
        h, w = source.shape
        assert a == 10 and abs(row - 20) <= 1 and abs(col - 20) <= 1
        assert 29 <= h <= 32 and 19 <= w <= 22
        np.testing.assert_array_equal(source.read(1), world.dem[row : row + h, col : col + w])
    with rasterio.MemoryFile(coarse) as memory, memory.open() as source:
        assert source.shape == (24, 32) and source.transform.a == 40
        # The pyramid ends at 256 pixels, so there is no coarser level than the native one.
        np.testing.assert_array_equal(source.read(1), world.dem[2::4, 2::4])


def test_errors_in_earth_engines_words(client: None) -> None:
    with pytest.raises(ee.EEException, match=r"Image\.load: Image asset 'users/me/none' not found"):
        ee.Image("users/me/none").getInfo()
    with pytest.raises(ee.EEException, match="not implemented"):
        ee.data.getFeatureViewTilesKey({"assetId": "users/me/points"})
    with pytest.raises(ee.EEException, match=r"Total request size \(\d+ bytes\) must be less"):
        big = grid(0, 0, 5000, 5000)
        ee.data.computePixels(
            {"expression": ee.Image(1).toDouble(), "fileFormat": "NPY", "grid": big}
        )
    with pytest.raises(ee.EEException, match="less than or equal to 32768"):
        wide = grid(0, 0, 1, 40000)
        ee.data.computePixels({"expression": ee.Image(1), "fileFormat": "NPY", "grid": wide})
    with pytest.raises(ee.EEException, match="MULTI_BAND_IMAGE_TILE is not implemented"):
        ee.data.computePixels({"expression": ee.Image(1), "fileFormat": "MULTI_BAND_IMAGE_TILE"})
    with pytest.raises(ee.EEException, match="B9"):
        ee.data.computePixels(
            {
                "expression": ee.Image("COPERNICUS/S2_SR_HARMONIZED/made_up_1"),
                "fileFormat": "NPY", "grid": grid(0, 0, 2, 2), "bandIds": ["B9"],
            }
        )  # fmt: skip


def test_features_by_pages(client: None) -> None:
    table = ee.FeatureCollection("users/me/points").filter(ee.Filter.gte("n", 5))
    seen, token = [], None
    while True:
        request = {"expression": table, "pageSize": 8}
        page = ee.data.computeFeatures({**request, **({"pageToken": token} if token else {})})
        seen += [feature["properties"]["n"] for feature in page["features"]]
        token = page.get("nextPageToken")
        if not token:
            break
    assert seen == list(range(5, 25))
    frame = ee.data.computeFeatures({"expression": table, "fileFormat": "PANDAS_DATAFRAME"})
    assert frame["n"].tolist() == seen


def test_images_by_pages(client: None) -> None:
    page = ee.data.computeImages({"expression": collection(), "pageSize": 2})
    assert [image["id"][-1] for image in page["images"]] == ["0", "1"]
    rest = ee.data.computeImages(
        {"expression": collection(), "pageSize": 2, "pageToken": page["nextPageToken"]}
    )
    assert [image["id"][-1] for image in rest["images"]] == ["2"] and "nextPageToken" not in rest


def test_a_changed_asset_is_seen_by_the_same_expression(client: None, world: World) -> None:
    name = "users/me/changing"
    catalog = Catalog(world.root, writable=True)
    request = {
        "expression": ee.Image(name),
        "fileFormat": "NUMPY_NDARRAY",
        "grid": grid(0, 0, 2, 2),
    }
    for value in (1, 2):
        array = np.full((2, 2), value, np.uint8)
        catalog.put_image(name, [BandData("b", array, UTM, NORTH)])
        for _ in range(2):
            assert (ee.data.computePixels(request)["b"] == value).all()
    catalog.delete(name)
    with pytest.raises(ee.EEException, match="not found"):
        ee.data.computePixels(request)


def test_long_list_requests(client: None) -> None:
    ring = [[14 + 2 * np.cos(t), 45 + 2 * np.sin(t)] for t in np.linspace(0, 2 * np.pi, 200)]
    ring[-1] = ring[0]
    found = ee.data.listImages(
        {
            "parent": "COPERNICUS/S2_SR_HARMONIZED",
            "region": {"type": "Polygon", "coordinates": [ring]},
            "properties": ["CLOUDY_PIXEL_PERCENTAGE < 15"],
        }
    )["images"]
    assert [image["id"][-9:] for image in found] == ["made_up_0", "made_up_1"]


def test_many_threads_get_their_own_pixels(client: None, world: World) -> None:
    def one(n: int) -> bool:
        row, col = n % 40, 3 * n % 60
        got = ee.data.computePixels(
            {
                "expression": ee.Image("users/me/dem").add(n),
                "fileFormat": "NUMPY_NDARRAY", "grid": grid(row, col, 20, 30),
            }
        )["elevation"]  # fmt: skip
        return np.allclose(got, world.dem[row : row + 20, col : col + 30] + n, atol=1e-3)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(32)))


# ---- what is opened by address


def test_map_tiles(http: str, world: World) -> None:
    z, x, y = TILE
    image = ee.Image("users/me/tile")
    fetcher = image.getMapId({"min": 0, "max": 255})["tile_fetcher"]
    address = fetcher.format_tile_url(x, y, z)
    assert address.startswith(http)
    answer = requests.get(address, timeout=20)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    colours = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
    valid = world.tile > 50
    np.testing.assert_array_equal(colours[..., 3] == 255, valid)
    np.testing.assert_array_equal(colours[..., 0][valid], world.tile[valid])
    away = requests.get(fetcher.format_tile_url(0, 0, z), timeout=20)
    assert not np.asarray(Image.open(io.BytesIO(away.content)))[..., 3].any()
    assert fetcher.fetch_tile(x, y, z) == answer.content
    assert requests.get(address.replace("maps/", "maps/0"), timeout=20).status_code == 404
    with pytest.raises(ee.EEException, match="not found"):
        ee.Image("users/me/none").getMapId()


def test_palette_and_thumbnail(http: str, world: World) -> None:
    options = {"min": 0, "max": 1000, "palette": ["000000", "ff0000"], "dimensions": 64}
    options["format"] = "png"
    answer = requests.get(ee.Image("users/me/dem").getThumbURL(options), timeout=20)
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(answer.content))
    assert max(picture.size) == 64
    colours = np.asarray(picture.convert("RGBA")).astype(int)
    large = requests.get(ee.Image("users/me/dem").getThumbURL({**options, "dimensions": 600}))
    assert max(Image.open(io.BytesIO(large.content)).size) == 600
    seen = colours[colours[..., 3] == 255]
    assert len(seen) > 0.9 * 64 * 48 and not seen[:, 1].any() and not seen[:, 2].any()
    assert abs(seen[:, 0].mean() - 127) < 10


# ---- exports


def finished(task: ee.batch.Task, seconds: float = 30) -> dict:
    task.start()
    end = time.monotonic() + seconds
    while task.active() and time.monotonic() < end:
        time.sleep(0.02)
    return task.status()


def test_image_export_to_files(client: None, world: World) -> None:
    common = {"image": ee.Image("users/me/dem"), "crs": UTM, "crsTransform": list(NORTH)}
    task = ee.batch.Export.image.toCloudStorage(
        **common, description="d1", bucket="bkt", fileNamePrefix="a/b",
        formatOptions={"cloudOptimized": True, "noData": -9999},
    )  # fmt: skip
    status = finished(task)
    assert status["state"] == "COMPLETED", status
    [path] = status["destination_uris"]
    assert path.endswith("exports/bkt/a/b.tif")
    with rasterio.open(path.removeprefix("file://")) as source:
        np.testing.assert_array_equal(source.read(1), world.dem)
        assert source.nodata == -9999 and tuple(source.transform)[:6] == NORTH
    task = ee.batch.Export.image.toDrive(
        **common, description="d2", folder="my folder", fileDimensions=64, shardSize=32
    )
    status = finished(task)
    assert status["state"] == "COMPLETED", status
    names = [uri.rpartition("/")[2] for uri in status["destination_uris"]]
    assert names == [f"d2-{row:010d}-{col:010d}.tif" for row in (0, 64) for col in (0, 64)]
    with rasterio.open(
        status["destination_uris"][3].removeprefix("file://").replace("%20", " ")
    ) as source:
        np.testing.assert_array_equal(source.read(1), world.dem[64:, 64:])
    assert {"d1", "d2"} <= {t.config["description"] for t in ee.batch.Task.list()}


def test_image_export_to_an_asset_is_read_again(client: None, world: World) -> None:
    name = f"projects/local-proj/assets/copy-{time.time_ns()}"
    task = ee.batch.Export.image.toAsset(
        ee.Image("users/me/dem").multiply(2).set("made", "up"), "d3", name,
        crs=UTM, crsTransform=list(NORTH), pyramidingPolicy={".default": "sample"},
        region=ee.Geometry.Rectangle([500000, 4999040, 501280, 5000000], UTM, False),
    )  # fmt: skip
    status = finished(task)
    assert status["state"] == "COMPLETED", status
    got = ee.data.computePixels(
        {"expression": ee.Image(name), "fileFormat": "NUMPY_NDARRAY", "grid": grid(0, 0, *SHAPE)}
    )["elevation"]
    np.testing.assert_allclose(got, world.dem * 2, rtol=1e-6)
    info = ee.data.getAsset(name)
    assert info["properties"]["made"] == "up"
    assert info["bands"][0]["pyramidingPolicy"] == "SAMPLE"
    again = ee.batch.Export.image.toAsset(ee.Image("users/me/dem"), "d4", name)
    assert "Cannot overwrite asset" in finished(again)["error_message"]
    ee.data.deleteAsset(name)


def test_table_exports(client: None) -> None:
    table = ee.FeatureCollection("users/me/points")
    task = ee.batch.Export.table.toDrive(table, "t1", fileFormat="GeoJSON", selectors=["n"])
    status = finished(task)
    assert status["state"] == "COMPLETED", status
    path = Path(status["destination_uris"][0].removeprefix("file://"))
    features = json.loads(path.read_text())["features"]
    assert [f["properties"] for f in features] == [{"n": n} for n in range(25)]
    name = f"projects/local-proj/assets/table-{time.time_ns()}"
    assert finished(ee.batch.Export.table.toAsset(table, "t2", name))["state"] == "COMPLETED"
    assert ee.FeatureCollection(name).size().getInfo() == 25


def test_exports_that_fail_say_why(client: None) -> None:
    mixed = (
        ee.Image("COPERNICUS/S2_SR_HARMONIZED/made_up_0")
        .select("B4")
        .addBands(ee.Image("users/me/dem"))
    )
    status = finished(
        ee.batch.Export.image.toDrive(mixed, "bad", crs=UTM, crsTransform=list(NORTH))
    )
    assert status["state"] == "FAILED"
    assert "incompatible" in status["error_message"] or "inconsistent" in status["error_message"]
    large = ee.batch.Export.image.toDrive(
        ee.Image("users/me/dem"), "large", crs=UTM, crsTransform=list(NORTH), maxPixels=100
    )
    assert "Export too large: specified 12288 pixels (max: 100)" in finished(large)["error_message"]
