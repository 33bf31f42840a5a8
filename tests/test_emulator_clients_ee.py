"""The unmodified earthengine-api against the emulator, over HTTP: what opens by address, assets,
tasks, tags, retries and tokens. Values and pixels: test_emulator_server_clients.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import rasterio
import requests
from emulator_clients_world import (
    NORTH,
    SERIES,
    SHAPE,
    UTM,
    World,
    box,
    collection,
    connected,
    grid,
    make_world,
)
from google.auth.credentials import AnonymousCredentials
from PIL import Image

from gee.emulator.server import running

# The client's older functions are tested too.
pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")

HOME = "projects/local-proj/assets"
PLACE = {"crs": UTM, "crs_transform": list(NORTH), "dimensions": [128, 96]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("ee") / "catalog")


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(world.root, state=tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture(autouse=True)
def client(url: str) -> Iterator[None]:
    with connected(url=url):
        yield


def fetched(address: str, kind: str) -> bytes:
    """Open an address as a script or a browser would."""
    answer = requests.get(address, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(kind)
    return answer.content


def bands(content: bytes) -> np.ndarray:
    with rasterio.MemoryFile(content) as memory, memory.open() as source:
        return source.read()


# ---- downloads of images


def test_every_format_of_a_download_has_the_same_pixels(world: World) -> None:
    image = collection().first()
    want = np.where(world.clear[0], np.stack([world.red[0], world.nir[0]]), 0)

    def address(**options: Any) -> str:
        return image.getDownloadURL({"name": "s2", **PLACE, **options})

    np.testing.assert_array_equal(bands(fetched(address(format="GEO_TIFF"), "image/tiff")), want)
    npy = np.load(io.BytesIO(fetched(address(format="NPY"), "application/octet-stream")))
    np.testing.assert_array_equal(np.stack([npy["B4"], npy["B8"]]), want)
    one = zipfile.ZipFile(io.BytesIO(fetched(address(format="ZIPPED_GEO_TIFF"), "application/zip")))
    assert one.namelist() == ["s2.tif"]
    np.testing.assert_array_equal(bands(one.read("s2.tif")), want)
    for options in ({"format": "ZIPPED_GEO_TIFF_PER_BAND"}, {"filePerBand": True}, {}):
        each = zipfile.ZipFile(io.BytesIO(fetched(address(**options), "application/zip")))
        assert each.namelist() == ["s2.B4.tif", "s2.B8.tif"]
        np.testing.assert_array_equal(bands(each.read("s2.B8.tif"))[0], want[1])
    together = zipfile.ZipFile(io.BytesIO(fetched(address(filePerBand=False), "application/zip")))
    assert together.namelist() == ["s2.tif"]


def test_downloads_by_scale_region_and_bands(world: World) -> None:
    image = ee.Image("users/me/dem")
    region = box(20, 10, 60, 50)
    got = fetched(
        image.getDownloadURL({"scale": 10, "region": region, "format": "GEO_TIFF"}), "image/tiff"
    )
    with rasterio.MemoryFile(got) as memory, memory.open() as source:
        np.testing.assert_array_equal(source.read(1), world.dem[10:50, 20:60])
        assert tuple(source.transform)[:6] == (10, 0, 500200, 0, -10, 4999900)
    picked = collection().first().getDownloadURL({"bands": ["B8"], "format": "NPY", **PLACE})
    assert np.load(io.BytesIO(fetched(picked, "application"))).dtype.names == ("B8",)


def test_gdal_opens_a_download_by_its_address(world: World) -> None:
    """GDAL asks for the head of an address first, then for parts of it (RFC 9110, 14)."""
    address = ee.Image("users/me/dem").getDownloadURL({"format": "GEO_TIFF", **PLACE})
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(address) as source:
        np.testing.assert_array_equal(source.read(1), world.dem)
    whole = requests.get(address, timeout=10)
    size = len(whole.content)
    head = requests.head(address, timeout=10)
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == str(size)
    for wanted, here in (
        ("10-19", slice(10, 20)),
        ("100-", slice(100, None)),
        ("-7", slice(-7, None)),
    ):
        part = requests.get(address, headers={"Range": f"bytes={wanted}"}, timeout=10)
        assert part.status_code == 206 and part.content == whole.content[here]
        first = range(size)[here][0]
        assert part.headers["content-range"].startswith(f"bytes {first}-")
    beyond = requests.get(address, headers={"Range": f"bytes={size}-"}, timeout=10)
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{size}"
    for odd in ("bytes=-", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2"):
        assert requests.get(address, headers={"Range": odd}, timeout=10).content == whole.content


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GEO_TIFF", "NPY", "NUMPY_NDARRAY"])
def test_computed_pixels_in_every_format(form: str, world: World) -> None:
    raw = ee.Image("users/me/dem")
    picture = raw.visualize(min=200, max=800)
    shown = form in ("PNG", "JPEG")
    got = ee.data.computePixels(
        {"expression": picture if shown else raw, "fileFormat": form, "grid": grid(8, 4, 20, 30)}
    )
    want = world.dem[8:28, 4:34]
    if form == "NUMPY_NDARRAY":
        np.testing.assert_array_equal(got["elevation"], want)
    elif form == "NPY":
        np.testing.assert_array_equal(np.load(io.BytesIO(got))["elevation"], want)
    elif form == "GEO_TIFF":
        np.testing.assert_array_equal(bands(got)[0], want)
    else:
        grey = np.asarray(Image.open(io.BytesIO(got)).convert("L"), dtype=float)
        expected = np.clip((want - 200) / 600 * 255, 0, 255)
        assert grey.shape == want.shape
        assert np.abs(grey - expected).mean() < (1.0 if form == "PNG" else 8.0)


def test_pixels_of_an_asset_by_region_and_visualised(world: World) -> None:
    red = ee.data.getPixels(
        {"assetId": f"{SERIES}/made_up_1", "fileFormat": "NUMPY_NDARRAY", "bandIds": ["B4"],
         "grid": grid(0, 0, *SHAPE)}
    )["B4"]  # fmt: skip
    np.testing.assert_array_equal(red, np.where(world.clear[1], world.red[1], 0))
    png = ee.data.getPixels(
        {
            "assetId": f"{SERIES}/made_up_1", "fileFormat": "PNG",
            "bandIds": ["B8", "B4", "B4"], "grid": grid(0, 0, *SHAPE),
            "visualizationOptions": {"ranges": [{"min": 0, "max": 6000}]},
        }
    )  # fmt: skip
    colours = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(float)
    np.testing.assert_array_equal(colours[..., 3] == 255, world.clear[1])
    clear = world.clear[1]
    want = world.nir[1][clear] / 6000 * 255
    assert np.abs(colours[..., 0][clear] - want).max() <= 1


# ---- pictures


def test_thumbnails_by_size_format_and_region() -> None:
    image = ee.Image("users/me/dem")
    shown = {"min": 200, "max": 800}
    jpeg = Image.open(io.BytesIO(fetched(image.getThumbURL({**shown, "format": "jpg"}), "image/j")))
    assert jpeg.format == "JPEG" and jpeg.size == (128, 96)
    sized = {**shown, "dimensions": "100x50", "format": "png"}
    assert Image.open(io.BytesIO(fetched(image.getThumbURL(sized), "image/png"))).size == (100, 50)
    part = {**shown, "region": box(0, 0, 40, 20), "dimensions": 80, "format": "png"}
    assert Image.open(io.BytesIO(fetched(image.getThumbURL(part), "image/png"))).size == (80, 40)
    content = ee.data.getThumbnail({"image": image.visualize(**shown), "dimensions": 32,
                                    "format": "png"})  # fmt: skip
    assert max(Image.open(io.BytesIO(content)).size) == 32


def test_film_of_a_collection() -> None:
    frames = collection().map(lambda image: image.visualize(bands=["B4"], min=0, max=3000))
    options = {"dimensions": 64, "framesPerSecond": 2, "crs": UTM}
    film = Image.open(io.BytesIO(fetched(frames.getVideoThumbURL(options), "image/gif")))
    assert film.n_frames == 3 and film.size == (64, 48)
    strip = fetched(
        frames.getFilmstripThumbURL({"dimensions": 64, "crs": UTM, "format": "png"}), "image/png"
    )
    assert Image.open(io.BytesIO(strip)).size == (64, 3 * 48)


# ---- tables


@pytest.mark.parametrize("form", ["csv", "json", "geojson", "kml", "kmz", "shp"])
def test_tables_in_every_format(form: str, tmp_path: Path) -> None:
    import geopandas

    table = ee.FeatureCollection("users/me/points")
    content = fetched(table.getDownloadURL(form, ["n", "name"], "my points"), "")
    if form == "csv":
        lines = content.decode().splitlines()
        assert lines[:2] == ["n,name", "0,point 0"] and len(lines) == 26
        return
    if form in ("json", "geojson"):
        features = json.loads(content)["features"]
        assert [f["properties"]["n"] for f in features] == list(range(25))
        return
    if form == "kmz":
        content = zipfile.ZipFile(io.BytesIO(content)).read("doc.kml")
    if form in ("kml", "kmz"):
        assert content.count(b"<Placemark") == 25 and b"point 24" in content
        return
    path = tmp_path / "points.zip"
    path.write_bytes(content)
    frame = geopandas.read_file(path, engine="pyogrio")
    assert frame["n"].tolist() == list(range(25)) and frame.crs.to_epsg() == 4326


def test_features_of_an_asset_by_filter_region_and_page() -> None:
    def numbers(**options: Any) -> list[int]:
        answer = ee.data.listFeatures({"assetId": "users/me/points", **options})
        return [feature["properties"]["n"] for feature in answer["features"]]

    assert numbers(pageSize=10) == list(range(10))
    assert numbers(filter="n > 20") == [21, 22, 23, 24]
    west = ee.Geometry.Rectangle([14.9, 44.9, 15.000055, 45.1], None, False)
    assert numbers(region=json.dumps(west.getInfo())) == list(range(6))
    frame = ee.data.listFeatures({"assetId": "users/me/points", "fileFormat": "PANDAS_DATAFRAME"})
    assert frame["name"].tolist() == [f"point {n}" for n in range(25)]
    frame = ee.data.computeFeatures(
        {"expression": ee.FeatureCollection("users/me/points").limit(4),
         "fileFormat": "GEOPANDAS_GEODATAFRAME"}
    )  # fmt: skip
    assert frame.geometry.x.tolist() == pytest.approx([15, 15.00001, 15.00002, 15.00003])


# ---- assets


def test_lists_of_images_and_assets() -> None:
    def names(**options: Any) -> list[str]:
        found = ee.data.listImages({"parent": SERIES, **options})["images"]
        return [image["id"][-1] for image in found]

    assert names() == ["0", "1", "2"]
    assert names(startTime="2022-01-10T00:00:00Z") == ["1", "2"]
    assert names(endTime="2022-01-10T00:00:00Z") == ["0"]
    assert names(pageSize=2) == ["0", "1"]
    found = ee.data.listAssets("users/me")["assets"]
    assert {(a["id"], a["type"]) for a in found} >= {
        ("users/me/dem", "IMAGE"), ("users/me/points", "TABLE"),
    }  # fmt: skip


def test_assets_are_made_copied_moved_changed_and_deleted(world: World) -> None:
    folder = f"{HOME}/made-{time.time_ns()}"
    ee.data.createAsset({"type": "FOLDER"}, folder)
    ee.data.createAsset({"type": "IMAGE_COLLECTION", "properties": {"a": 1}}, f"{folder}/series")
    ee.data.copyAsset("users/me/dem", f"{folder}/series/one")
    ee.data.renameAsset(f"{folder}/series/one", f"{folder}/series/two")
    ee.data.updateAsset(
        f"{folder}/series/two",
        {"properties": {"k": "v"}, "start_time": "2020-01-01T00:00:00Z"},
        ["properties", "start_time"],
    )
    ee.data.setAssetProperties(f"{folder}/series/two", {"q": 5})
    assert ee.data.getAsset(f"{folder}/series/two")["properties"] == {"k": "v", "q": 5}
    assert ee.data.getInfo(f"{folder}/series/one") is None
    series = ee.ImageCollection(f"{folder}/series")
    assert series.get("a").getInfo() == 1
    assert series.aggregate_array("system:time_start").getInfo() == [1577836800000]
    got = ee.data.getPixels(
        {"assetId": f"{folder}/series/two", "fileFormat": "NUMPY_NDARRAY",
         "grid": grid(0, 0, 5, 5)}
    )  # fmt: skip
    np.testing.assert_array_equal(got["elevation"], world.dem[:5, :5])
    with pytest.raises(ee.EEException, match="has children and cannot be deleted"):
        ee.data.deleteAsset(f"{folder}/series")
    with pytest.raises(ee.EEException, match="Cannot overwrite asset"):
        ee.data.createAsset({"type": "FOLDER"}, folder)
    roots = {root["id"] for root in ee.data.getAssetRoots()}
    assert folder in roots
    used = ee.data.getAssetRootQuota(HOME)
    assert used["asset_count"]["usage"] >= 3 and used["asset_size"]["usage"] > world.dem.nbytes / 2
    assert used["asset_count"]["usage"] < used["asset_count"]["limit"]
    acl = ee.data.getAssetAcl(f"{folder}/series/two")
    assert "allUsers" in acl["owners"]
    for name in ("series/two", "series", ""):
        ee.data.deleteAsset(f"{folder}/{name}".rstrip("/"))
    assert ee.data.getInfo(folder) is None


# ---- tasks, tags, retries


def test_tasks_by_every_way_to_see_them(tmp_path: Path) -> None:
    image = ee.Image("users/me/dem")
    with ee.data.workloadTagContext("slumps-2023"):
        task = ee.batch.Export.image.toDrive(image, "tagged", scale=10, region=box(0, 0, 9, 9))
        task.start()
    end = time.monotonic() + 30
    while task.active() and time.monotonic() < end:
        time.sleep(0.02)
    [status] = ee.data.getTaskStatus(task.id)
    assert status["state"] == "COMPLETED" and status["description"] == "tagged"
    name = f"projects/local-proj/operations/{task.id}"
    operation = ee.data.getOperation(name)
    assert operation["done"] and operation["metadata"]["state"] == "SUCCEEDED"
    assert operation["metadata"]["type"] == "EXPORT_IMAGE"
    assert name in [found["name"] for found in ee.data.listOperations()]
    assert task.id in [found["id"] for found in ee.data.getTaskList()]
    assert task.id in [found.id for found in ee.batch.Task.list()]


def test_workload_tags_go_with_every_kind_of_request() -> None:
    ee.data.setDefaultWorkloadTag("default-tag")
    ee.data.setWorkloadTag("a-tag")
    try:
        image = ee.Image("users/me/dem")
        assert ee.Number(1).add(1).getInfo() == 2
        fetched(image.getThumbURL({"min": 0, "max": 1000, "dimensions": 8}), "image/")
        image.getMapId({"min": 0, "max": 1000})
        fetched(ee.FeatureCollection("users/me/points").getDownloadURL("csv", ["n"]), "text/csv")
        assert ee.data.getWorkloadTag() == "a-tag"
    finally:
        ee.data.setDefaultWorkloadTag(None)
        ee.data.resetWorkloadTag()


def test_a_refusal_is_never_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the client's own five retries a refusal that looked passing would take seconds."""
    ee.data.setMaxRetries(5)
    waits: list[float] = []
    monkeypatch.setattr("googleapiclient.http.time.sleep", waits.append, raising=False)
    begun = time.monotonic()
    for expression in (
        ee.Image("users/me/none"),
        ee.List([1]).get(5),
        ee.Image("users/me/dem").reduceRegion(ee.Reducer.mean(), box(0, 0, 9, 9), 1e-6),
    ):
        with pytest.raises(ee.EEException):
            expression.getInfo()
    assert waits == [] and time.monotonic() - begun < 5


def test_profiles_of_computations() -> None:
    printed = io.StringIO()
    with ee.profilePrinting(destination=printed):
        ee.Number(1).add(1).getInfo()
        with pytest.raises(ee.EEException):
            ee.List([1]).get(5).getInfo()
        ee.data.computePixels(
            {"expression": ee.Image("users/me/dem"), "fileFormat": "NPY", "grid": grid(0, 0, 9, 9)}
        )
    lines = printed.getvalue().splitlines()
    assert lines[0].split() == ["EECU·s", "PeakMem", "Count", "Description"]
    rows = {line.split()[-1]: line.split() for line in lines[1:]}
    assert {name: row[2] for name, row in rows.items()} == {
        "value:compute": "2", "image:computePixels": "1",
    }  # fmt: skip
    assert all(0 <= float(row[0]) < 5 for row in rows.values())
    unknown = ee.ApiFunction.lookup("Profile.getProfiles").call(ids=["nonesuch"])
    with pytest.raises(ee.EEException, match="Profile 'nonesuch' not found"):
        unknown.getInfo()


def test_project_settings_and_roots() -> None:
    assert ee.data.getProjectConfig()["name"] == "projects/local-proj/config"
    assert len(set(ee.data.newTaskId(3))) == 3


# ---- the command line


def test_the_earthengine_command(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`earthengine --ee_config FILE ...`: the file names the endpoint; credentials are none."""
    from ee.cli import eecli, utils

    config = tmp_path / "config.json"
    config.write_text(json.dumps({"url": url, "project": "local-proj"}))
    anonymous = AnonymousCredentials()
    monkeypatch.setattr(utils.CommandLineConfig, "_get_credentials", lambda self: anonymous)

    def earthengine(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["earthengine", "--ee_config", str(config), *words])
        with contextlib.suppress(SystemExit):
            eecli.main()
        return capsys.readouterr().out

    folder = f"{HOME}/cli-{time.time_ns()}"
    assert "assets/users/me/dem" in earthengine("ls", "users/me")
    earthengine("create", "folder", folder)
    earthengine("cp", "users/me/dem", f"{folder}/one")
    earthengine("mv", f"{folder}/one", f"{folder}/two")
    earthengine("asset", "set", "-p", "made=up", f"{folder}/two")
    assert json.loads(earthengine("asset", "info", f"{folder}/two"))["properties"] == {"made": "up"}
    assert earthengine("ls", folder).split() == [f"{folder}/two"]
    size, name = earthengine("du", folder).split()
    assert int(size) > 1000 and name == f"{folder}/two"
    assert "allUsers" in earthengine("acl", "get", f"{folder}/two")
    earthengine("rm", "-r", folder)
    assert folder not in earthengine("ls", HOME)
    assert "does not exist or cannot be read" in earthengine(
        "upload", "image", f"--asset_id={folder}", "gs://bucket/none.tif"
    )


# ---- callers that are no Python


def test_pages_of_other_sites_are_refused(url: str) -> None:
    """No page of another site may compute, and none is offered to (CORS); tiles are pictures."""
    graph = {"expression": {"result": "0", "values": {"0": {"constantValue": 1}}}}
    address = f"{url}/v1/projects/local-proj/value:compute"
    theirs = {"Origin": "https://elsewhere.example"}
    answer = requests.post(address, json=graph, headers=theirs, timeout=10)
    assert answer.status_code == 403 and "this machine only" in answer.text
    preflight = requests.options(
        address, headers={**theirs, "Access-Control-Request-Method": "POST"}, timeout=10
    )
    assert preflight.status_code == 403
    named = requests.post(address, json=graph, headers={"Host": "rebound.example"}, timeout=10)
    assert named.status_code == 403
    for refused in (answer, preflight, named):
        assert "access-control-allow-origin" not in {k.lower() for k in refused.headers}
    assert requests.post(address, json=graph, timeout=10).json() == {"result": 1}


# ---- tokens


@pytest.fixture(scope="module")
def guarded(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("guarded")
    with running(world.root, token="sesame", state=state) as address:
        yield address


def test_tokens_by_the_clients_own_option(guarded: str) -> None:
    ee.Reset()
    for wrong in ({}, {"cloud_api_key": "open"}):
        with pytest.raises(Exception, match="asks for a token"), connected(url=guarded, **wrong):
            pass
    with connected(url=guarded, cloud_api_key="sesame"):
        assert ee.Number(1).getInfo() == 1
        image = ee.Image("users/me/dem")
        assert ee.data.getAsset("users/me/dem")["type"] == "IMAGE"
        task = ee.batch.Export.image.toDrive(image, "guarded", scale=10, region=box(0, 0, 4, 4))
        task.start()
        # What a browser opens has no credential: the unguessable name is enough.
        fetched(image.getThumbURL({"min": 0, "max": 1000, "dimensions": 8}), "image/")
        fetcher = image.getMapId({"min": 0, "max": 1000})["tile_fetcher"]
        tile = fetcher.format_tile_url(2218, 1476, 12)
        fetched(tile.split("?")[0], "image/")
        assert requests.get(f"{guarded}/v1/projects/local-proj/operations", timeout=9).status_code
    bare = requests.get(f"{guarded}/v1/projects/local-proj/operations", timeout=10)
    assert bare.status_code == 403 and "guarded" not in bare.text
