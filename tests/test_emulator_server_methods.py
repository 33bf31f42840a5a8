"""Every REST method through the unmodified client, over HTTP: imports, tiles, animations .."""

from __future__ import annotations

import gzip
import io
import json
import struct
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import ee.deprecation
import numpy as np
import pytest
import rasterio
from google.auth.credentials import AnonymousCredentials
from PIL import Image
from rasterio.transform import Affine

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.server import running
from gee.emulator.tfrecord import records, table_records

UTM = "EPSG:32633"
GRID = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
A = "projects/local-proj/assets"
SHAPE = (48, 64)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with catalogue, state and imports."""
    folder = tmp_path_factory.mktemp("methods")
    catalog = Catalog(folder / "catalog", writable=True)
    random = np.random.default_rng(5)
    catalog.put_collection(f"{A}/series")
    for number in range(3):
        grey = np.full(SHAPE, 60 * (number + 1), np.uint8)
        catalog.put_image(
            f"{A}/series/i{number}", [BandData("b", grey, UTM, GRID)], start_ms=number * 86_400_000
        )
    dem = random.normal(500, 100, SHAPE).astype(np.float32)
    mask = random.random(SHAPE) > 0.1
    catalog.put_image(f"{A}/dem", [BandData("elevation", dem, UTM, GRID, mask=mask)])
    points = [
        {"id": f"p{n}", "geometry": {"type": "Point", "coordinates": [15 + n / 1e4, 45.1]},
         "properties": {"n": n, "name": f"é {n}", "row": [n, n + 0.5]}}
        for n in range(5)
    ]  # fmt: skip
    catalog.put_table(f"{A}/points", points)
    (folder / "imports" / "deep").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with running(
        place / "catalog", state=place / "state", imports=place / "imports", workers=2
    ) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[str]:
    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)
    ee.data.setMaxRetries(0)
    yield url
    ee.Reset()


def fetched(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        return bytes(answer.read())


def ended(name: str, seconds: float = 60) -> dict[str, Any]:
    """Return an operation when it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        operation: dict[str, Any] = ee.data.getOperation(name)
        if operation.get("done"):
            return operation
        time.sleep(0.02)
    raise AssertionError(f"{name} did not end")


def succeeded(task: Any) -> list[Path]:
    task.start()
    operation = ended(f"projects/local-proj/operations/{task.id}")
    assert operation["metadata"]["state"] == "SUCCEEDED", operation
    uris = operation["metadata"]["destinationUris"]
    return [Path(uri.removeprefix("file://")) for uri in uris]


# Imports ----------------------------------------------------------------------------------------


def tiff(
    path: Path, array: np.ndarray, nodata: float | None = None, overviews: bool = False
) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[1], width=array.shape[2], nodata=nodata,
        count=array.shape[0], dtype=array.dtype, crs=UTM, transform=Affine(*GRID), tiled=True,
        blockxsize=128, blockysize=128,
    ) as target:  # fmt: skip
        target.write(array)
        if overviews:
            target.build_overviews([2, 4], rasterio.enums.Resampling.average)
    return path


def ingestion(manifest: dict[str, Any], overwrite: bool = False) -> dict[str, Any]:
    task = ee.data.startIngestion(f"r-{time.time_ns()}", manifest, overwrite)
    return ended(task["name"])


def test_an_image_manifest_becomes_an_image(client: str, place: Path) -> None:
    """ImageManifest: bands of tilesets, missing data, policies, times, properties."""
    array = np.arange(2 * 20 * 30, dtype=np.int16).reshape(2, 20, 30)
    tiff(place / "imports" / "two.tif", array)
    mask = (np.indices((1, 20, 30))[2] > 3).astype(np.uint8)
    tiff(place / "imports" / "deep" / "mask.tif", mask)
    name = f"{A}/imported"
    done = ingestion({
        "name": name,
        "tilesets": [
            {"id": "t", "sources": [{"uris": ["two.tif"]}]},
            {"id": "m", "sources": [{"uris": ["deep/mask.tif"]}]},
        ],
        "bands": [
            {"id": "second", "tilesetId": "t", "tilesetBandIndex": 1, "pyramidingPolicy": "MODE"},
            {"id": "first", "tilesetId": "t", "missingData": {"values": [7]}},
        ],
        "maskBands": [{"tilesetId": "m", "bandIds": ["first"]}],
        "pyramidingPolicy": "MIN",
        "missingData": {"values": [601]},
        "startTime": "2023-05-16T00:00:00Z",
        "properties": {"kind": "made up"},
    })  # fmt: skip
    assert done["metadata"]["state"] == "SUCCEEDED", done
    assert done["metadata"]["type"] == "INGEST_IMAGE"
    asset = ee.data.getAsset(name)
    assert [b["id"] for b in asset["bands"]] == ["second", "first"]
    assert [b["pyramidingPolicy"] for b in asset["bands"]] == ["MODE", "MIN"]
    assert asset["startTime"].startswith("2023-05-16") and asset["properties"]["kind"] == "made up"
    image = Catalog(place / "catalog").get(name)
    assert image is not None
    second, seen = image.bands[0].read(0, 0, 20, 0, 30)
    np.testing.assert_array_equal(seen, array[1] != 601)
    np.testing.assert_array_equal(second[seen], array[1][seen])
    first, seen = image.bands[1].read(0, 0, 20, 0, 30)
    np.testing.assert_array_equal(seen, (array[0] != 7) & (mask[0] != 0))
    np.testing.assert_array_equal(first[seen], array[0][seen])
    again = ingestion({"name": name, "tilesets": [{"sources": [{"uris": ["two.tif"]}]}]})
    assert "Cannot overwrite asset" in again["error"]["message"]
    again = ingestion({"name": name, "tilesets": [{"sources": [{"uris": ["two.tif"]}]}]}, True)
    assert again["metadata"]["state"] == "SUCCEEDED"
    assert [b["id"] for b in ee.data.getAsset(name)["bands"]] == ["b1", "b2"]


def test_an_export_to_a_bucket_is_imported_from_it(client: str, place: Path) -> None:
    """gs://bucket/path of a manifest is what was exported there."""
    task = ee.batch.Export.image.toCloudStorage(
        ee.Image(f"{A}/dem").unmask(-1), "d", "my-bucket", "some/dem", crs=UTM,
        crsTransform=list(GRID), dimensions="64x48",
    )  # fmt: skip
    succeeded(task)
    uri = "gs://my-bucket/some/dem.tif"
    done = ingestion({"name": f"{A}/back", "tilesets": [{"sources": [{"uris": [uri]}]}]})
    assert done["metadata"]["state"] == "SUCCEEDED", done
    difference = ee.Image(f"{A}/back").subtract(ee.Image(f"{A}/dem").unmask(-1)).abs()
    region = ee.Geometry.Rectangle([500000, 4999520, 500640, 5000000], UTM, False)
    value = difference.reduceRegion("max", region, crs=UTM, crsTransform=list(GRID)).getInfo()
    assert list(value.values()) == [0]


def test_an_external_image_stays_in_its_file(client: str, place: Path) -> None:
    array = np.arange(300 * 260, dtype=np.float32).reshape(1, 300, 260)
    array[0, :4, :4] = -5
    path = tiff(place / "imports" / "cog.tif", array, nodata=-5, overviews=True)
    ee.data.startExternalImageIngestion(
        {"name": f"{A}/external", "tilesets": [{"sources": [{"uris": ["cog.tif"]}]}],
         "bands": [{"id": "height"}], "properties": {"k": 1}}
    )  # fmt: skip
    asset = ee.data.getAsset(f"{A}/external")
    assert [b["id"] for b in asset["bands"]] == ["height"] and asset["properties"] == {"k": 1}
    folder = place / "catalog" / A / "external"
    assert [p.name for p in folder.iterdir()] == ["asset.json"], "nothing is copied"
    grid = {
        "dimensions": {"width": 6, "height": 5},
        "affineTransform": {"scaleX": 10, "scaleY": -10, "translateX": 5e5, "translateY": 5e6},
        "crsCode": UTM,
    }
    params = {"expression": ee.Image(f"{A}/external"), "fileFormat": "NUMPY_NDARRAY", "grid": grid}
    got = ee.data.computePixels(params)["height"]
    np.testing.assert_array_equal(got, np.where(array[0, :5, :6] == -5, 0, array[0, :5, :6]))
    params["grid"] = {**grid, "affineTransform": {**grid["affineTransform"], "scaleX": 20,
                                                  "scaleY": -20}}  # fmt: skip
    with rasterio.open(path, overview_level=0) as source:
        half = source.read(1, window=((0, 5), (0, 6)), masked=True).filled(0)
    np.testing.assert_array_equal(ee.data.computePixels(params)["height"], half)
    # A file that is not what was referred to any more is not read.
    tiff(path, array[:, :200] + 1)
    params["grid"]["affineTransform"]["translateX"] += 10
    ee.data.copyAsset(f"{A}/external", f"{A}/external2")
    params["expression"] = ee.Image(f"{A}/external2")
    with pytest.raises(ee.EEException, match=r"cog.tif has changed since an asset was made"):
        ee.data.computePixels(params)
    for name in ("external", "external2"):
        ee.data.deleteAsset(f"{A}/{name}")
    assert path.is_file(), "the file is not the asset's to delete"


def test_table_manifests(client: str, place: Path) -> None:
    (place / "imports" / "places.csv").write_text("lat,lon,n,code\n45,15,1,007\n46,16,,008\n")
    task = ee.data.startTableIngestion(
        f"r-{time.time_ns()}",
        {"name": f"{A}/places", "sources": [{"uris": ["places.csv"], "xColumn": "lon"}],
         "properties": {"made": "up"}},
    )  # fmt: skip
    done = ended(task["name"])
    assert done["metadata"]["state"] == "SUCCEEDED", done
    found = ee.FeatureCollection(f"{A}/places").getInfo()["features"]
    assert [f["geometry"]["coordinates"] for f in found] == [[15, 45], [16, 46]]
    assert [f["properties"] for f in found] == [{"n": 1, "code": "007"}, {"code": "008"}]
    assert ee.data.getAsset(f"{A}/places")["properties"] == {"made": "up"}


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({}, "'tilesets' is missing"),
        ({"tilesets": []}, "'tilesets' is missing"),
        ({"tilesets": [{}]}, "has no 'sources'"),
        ({"tilesets": [{"sources": [{}]}]}, "has no 'uris'"),
        ({"tilesets": [{"sources": [{"uris": ["none.tif"]}]}]}, "does not exist or cannot be"),
        ({"tilesets": [{"sources": [{"uris": ["places.csv"]}]}]}, "is none of .tif, .tiff"),
        ({"tilesets": [{"sources": [{"uris": [3]}]}]}, "an address of a file is missing"),
        ({"properties": 3, "tilesets": []}, "'properties' is no object"),
        ({"startTime": "soon", "tilesets": []}, "Invalid timestamp: 'soon'"),
    ],
)
def test_bad_manifests_are_refused_at_once(client: str, manifest: Any, words: str) -> None:
    with pytest.raises(ee.EEException, match=words):
        ee.data.startIngestion("r1" + words, {"name": f"{A}/x", **manifest})


# Pictures ---------------------------------------------------------------------------------------


def test_an_animation_has_a_frame_per_image(client: str) -> None:
    """`ee.ImageCollection.getVideoThumbURL`: GIF, framesPerSecond 10 unless told otherwise."""
    series = ee.ImageCollection(f"{A}/series").sort("system:time_start")
    region = ee.Geometry.Rectangle([500000, 4999520, 500640, 5000000], UTM, False)
    address = series.getVideoThumbURL(
        {"region": region, "dimensions": 32, "crs": UTM, "framesPerSecond": 4, "min": 0, "max": 255}
    )
    picture = Image.open(io.BytesIO(fetched(address)))
    assert picture.format == "GIF" and picture.n_frames == 3 and picture.size == (32, 24)
    greys = []
    for number in range(3):
        picture.seek(number)
        assert picture.info["duration"] == 250
        greys.append(picture.convert("RGB").getpixel((16, 12))[0])
    assert greys == pytest.approx([60, 120, 180], abs=3)
    assert fetched(series.getVideoThumbURL({"region": region, "dimensions": 8, "crs": UTM}))


def test_a_filmstrip_is_one_picture(client: str) -> None:
    series = ee.ImageCollection(f"{A}/series").sort("system:time_start")
    region = ee.Geometry.Rectangle([500000, 4999520, 500640, 5000000], UTM, False)
    address = series.getFilmstripThumbURL(
        {"region": region, "dimensions": 32, "crs": UTM, "min": 0, "max": 255}
    )
    picture = np.asarray(Image.open(io.BytesIO(fetched(address))).convert("RGB"))
    assert picture.shape == (72, 32, 3)
    for number in range(3):
        part = picture[24 * number : 24 * (number + 1), :, 0]
        assert (part == 60 * (number + 1)).all()


def test_what_is_no_collection_has_no_animation(client: str) -> None:
    with pytest.raises(ee.EEException, match="does not evaluate to an image collection"):
        ee.data.getThumbId({"image": ee.Number(1), "format": "gif"}, "video")
    with pytest.raises(ee.EEException, match=r"between 0\.1 and 100"):
        ee.data.getThumbId(
            {"image": ee.ImageCollection(f"{A}/series"), "format": "gif", "framesPerSecond": 1000},
            "video",
        )


def test_exported_map_tiles_are_those_of_the_map(client: str) -> None:
    image = ee.Image(f"{A}/dem").visualize(min=0, max=1000)
    # Larger than the image: an export clips to its region, whose edge is half transparent.
    region = ee.Geometry.Rectangle([499000, 4998000, 501000, 5001000], UTM, False)
    task = ee.batch.Export.map.toCloudStorage(
        image, "m", bucket="tiles", path="a/b", minZoom=12, maxZoom=14, region=region,
        fileFormat="png", skipEmptyTiles=True,
    )  # fmt: skip
    (folder,) = succeeded(task)
    assert task.status()["task_type"] == "EXPORT_TILES"
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert {f.split("/")[0] for f in files} == {"12", "13", "14"} and len(files) >= 3
    shown = image.getMapId()["tile_fetcher"]
    for name in files:
        z, x, y = (int(part) for part in name.split("/"))
        theirs = np.asarray(Image.open(io.BytesIO(shown.fetch_tile(x, y, z))).convert("RGBA"))
        ours = np.asarray(Image.open(folder / name).convert("RGBA"))
        np.testing.assert_array_equal(ours[..., 3], theirs[..., 3])
        shows = ours[..., 3] > 0
        assert shows.any()
        np.testing.assert_array_equal(ours[shows], theirs[shows])


# TFRecord: read by a reader of its own ----------------------------------------------------------


def crc32c(data: bytes) -> int:
    """Castagnoli's polynomial bit by bit (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(content: bytes, check: bool = True) -> list[bytes]:
    out, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        body = content[at + 12 : at + 12 + length]
        if check:
            assert struct.unpack_from("<I", content, at + 8)[0] == masked(content[at : at + 8])
            assert struct.unpack_from("<I", content, at + 12 + length)[0] == masked(body)
        out.append(body)
        at += 16 + length
    assert at == len(content)
    return out


def fields(message: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a protocol buffer."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    out, at = [], 0
    while at < len(message):
        key, at = varint(at)
        assert key & 7 == 2
        size, at = varint(at)
        out.append((key >> 3, message[at : at + size]))
        at += size
    return out


def parsed(message: bytes) -> dict[str, Any]:
    """A tf.train.Example: {name: array of floats or list of bytes}."""
    ((_, features),) = fields(message)
    out: dict[str, Any] = {}
    for _, entry in fields(features):
        (_, name), (_, feature) = fields(entry)
        ((kind, values),) = fields(feature)
        if kind == 2:
            ((_, packed),) = fields(values)
            out[name.decode()] = np.frombuffer(packed, "<f4")
        else:
            out[name.decode()] = [item for _, item in fields(values)]
    return out


def test_checksums_are_those_of_the_standard() -> None:
    """RFC 3720, B.4: 32 bytes of zeros have CRC-32C 0x8a9136aa."""
    zeros = bytes(32)
    assert crc32c(zeros) == 0x8A9136AA
    content = records([zeros, b""])
    assert read_records(content) == [zeros, b""]


def test_a_table_as_tfrecord(client: str) -> None:
    table = ee.FeatureCollection(f"{A}/points")
    (path,) = succeeded(
        ee.batch.Export.table.toDrive(
            table, "t", fileFormat="TFRecord", selectors=["n", "name", "row"]
        )
    )
    assert path.name.endswith(".tfrecord.gz")
    rows = [parsed(body) for body in read_records(gzip.decompress(path.read_bytes()))]
    assert [row["n"].tolist() for row in rows] == [[0], [1], [2], [3], [4]]
    assert rows[3]["name"] == ["é 3".encode()] and rows[3]["row"].tolist() == [3, 3.5]
    assert set(rows[0]) == {"n", "name", "row"}
    whole = read_records(gzip.decompress(table_records([{"id": "x", "properties": {"b": True}}])))
    assert parsed(whole[0])["system:index"] == [b"x"] and parsed(whole[0])["b"].tolist() == [1.0]


def test_an_image_as_patches_of_tfrecord(client: str, place: Path) -> None:
    """Patches in reading order, those that do not fit dropped, margins on all sides."""
    image = Catalog(place / "catalog").get(f"{A}/dem")
    assert image is not None
    data, mask = image.bands[0].read(0, 0, SHAPE[0], 0, SHAPE[1])
    task = ee.batch.Export.image.toDrive(
        ee.Image(f"{A}/dem").addBands(ee.Image(3).rename("c")), "p", crs=UTM,
        crsTransform=list(GRID), dimensions="64x48", fileFormat="TFRecord",
        formatOptions={"patchDimensions": [20, 16], "kernelSize": [4, 2], "defaultValue": -1,
                       "maxFileSize": 20000},
    )  # fmt: skip
    paths = succeeded(task)
    mixer = json.loads(paths[-1].read_text())
    assert mixer["patchDimensions"] == [20, 16] and mixer["patchesPerRow"] == 3
    assert mixer["totalPatches"] == 9
    assert mixer["projection"] == {"crs": UTM, "affine": {"doubleMatrix": list(GRID)}}
    assert len(paths) > 2, "maxFileSize makes several files"
    bodies = [body for path in paths[:-1] for body in read_records(path.read_bytes(), check=False)]
    assert len(bodies) == 9
    padded = np.pad(np.where(mask, data, -1), ((1, 1), (2, 2)), constant_values=-1)
    for number, body in enumerate(bodies):
        row, col = divmod(number, 3)
        patch = parsed(body)
        ours = patch["elevation"].reshape(18, 24)
        truth = padded[16 * row : 16 * row + 18, 20 * col : 20 * col + 24]
        np.testing.assert_array_equal(ours, truth.astype(np.float32))
        np.testing.assert_array_equal(patch["c"].reshape(18, 24) == 3, truth != -1)


def test_tfrecord_settings_that_are_not_written_are_refused(client: str) -> None:
    task = ee.batch.Export.image.toDrive(
        ee.Image(1), "p", crs=UTM, crsTransform=list(GRID), dimensions="64x48",
        fileFormat="TFRecord", formatOptions={"sequenceData": True},
    )  # fmt: skip
    with pytest.raises(ee.EEException, match="sequenceData are not implemented"):
        task.start()


# Sharing, settings, long addresses --------------------------------------------------------------


def test_sharing_is_kept_with_the_asset(client: str) -> None:
    name = f"{A}/shared"
    ee.data.createAsset({"type": "FOLDER"}, name)
    policy = ee.data.getIamPolicy(name)
    assert policy["bindings"] == [{"role": "roles/owner", "members": ["allUsers"]}]
    mine = [{"role": "roles/viewer", "members": ["user:a@example.com"]}]
    ee.data.setIamPolicy(name, {"bindings": mine, "etag": policy["etag"]})
    assert ee.data.getIamPolicy(name)["bindings"] == mine
    with pytest.raises(ee.EEException, match="etag does not match"):
        ee.data.setIamPolicy(name, {"bindings": [], "etag": policy["etag"]})
    with pytest.raises(ee.EEException, match="a binding has a 'role'"):
        ee.data.setIamPolicy(name, {"bindings": [{"role": "viewer"}]})
    ee.data.renameAsset(name, f"{name}2")
    assert ee.data.getIamPolicy(f"{name}2")["bindings"] == mine
    with pytest.raises(ee.EEException, match="does not exist"):
        ee.data.getIamPolicy(name)
    asked = ["earthengine.assets.get", "earthengine.assets.update"]
    allowed = (
        ee.data._get_cloud_projects().assets()
        .testIamPermissions(resource=f"{name}2", body={"permissions": asked}).execute()
    )  # fmt: skip
    assert allowed == {"permissions": asked}
    ee.data.deleteAsset(f"{name}2")
    ee.data.createAsset({"type": "FOLDER"}, f"{name}2")
    assert ee.data.getIamPolicy(f"{name}2")["bindings"] != mine, "deleted with its asset"
    ee.data.deleteAsset(f"{name}2")


def test_assets_are_changed_by_mask(client: str, place: Path) -> None:
    """`ee.data.updateAsset`: a path that is named and not given is deleted; none means all."""
    name = f"{A}/changed"
    ee.data.copyAsset(f"{A}/dem", name)
    new = {"start_time": "2020-01-02T00:00:00Z", "endTime": "2020-01-03T00:00:00Z",
           "properties": {"a": 1, "b": 2}, "bands": [{"id": "height"}]}  # fmt: skip
    ee.data.updateAsset(name, new, ["start_time", "end_time", "properties", "bands"])
    asset = ee.data.getAsset(name)
    assert (asset["startTime"][:10], asset["endTime"][:10]) == ("2020-01-02", "2020-01-03")
    assert asset["properties"] == {"a": 1, "b": 2}
    assert ee.Image(name).bandNames().getInfo() == ["height"]
    ee.data.updateAsset(
        name, {"properties": {"b": 3}}, ["properties.a", "properties.b", "end_time"]
    )
    asset = ee.data.getAsset(name)
    assert asset["properties"] == {"b": 3} and "endTime" not in asset and "startTime" in asset
    ee.data.updateAsset(name, {"properties": {"c": 4}}, [])
    asset = ee.data.getAsset(name)
    assert asset["properties"] == {"c": 4} and "startTime" not in asset
    with pytest.raises(ee.EEException, match="has 1 bands: expected as many names"):
        ee.data.updateAsset(name, {"bands": [{"id": "x"}, {"id": "y"}]}, ["bands"])
    with pytest.raises(ee.EEException, match="Updating 'sizeBytes' of an asset is not"):
        ee.data.updateAsset(name, {}, ["sizeBytes"])
    ee.data.deleteAsset(name)


@pytest.mark.parametrize("kind", ["CSV", "GeoJSON", "KML", "KMZ", "SHP"])
def test_tables_are_read_back_from_every_format(client: str, tmp_path: Path, kind: str) -> None:
    """With GDAL, which shares no code with the writers."""
    import csv

    import pyogrio

    table = ee.FeatureCollection(f"{A}/points")
    task = ee.batch.Export.table.toCloudStorage(
        table, "t", "tables", f"some/{kind}", kind, ["name", "n"]
    )
    (path,) = succeeded(task)
    if kind == "CSV":
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        assert rows[0] == ["name", "n"] and rows[3] == ["é 2", "2"]
        return
    inside = {"SHP": f"/vsizip/{path}", "KMZ": f"/vsizip/{path}/doc.kml"}
    source = inside.get(kind, str(path))
    frame = pyogrio.read_dataframe(source)
    assert [round(float(x), 6) for x in frame.geometry.x] == [15 + n / 1e4 for n in range(5)]
    assert [int(n) for n in frame["n"]] == [0, 1, 2, 3, 4]
    if kind in ("GeoJSON", "SHP"):
        assert list(frame["name"]) == [f"é {n}" for n in range(5)]


def test_limits_in_the_words_of_earth_engine(client: str) -> None:
    """reference/rest/v1/projects.image/computePixels: 48 MB, 32K a side, 1024 bands."""

    def pixels(width: int, height: int, image: Any) -> None:
        grid = {
            "dimensions": {"width": width, "height": height}, "crsCode": UTM,
            "affineTransform": {"scaleX": 10, "scaleY": -10, "translateX": 5e5, "translateY": 5e6},
        }  # fmt: skip
        ee.data.computePixels({"expression": image, "fileFormat": "NPY", "grid": grid})

    byte = ee.Image(1).toByte()
    with pytest.raises(ee.EEException, match=r"\(32769x1\) must be less than or equal to 32768"):
        pixels(32769, 1, byte)
    with pytest.raises(ee.EEException, match=r"Total request size \(50339840 bytes\) must be less"):
        pixels(8192, 6145, byte)
    pixels(32768, 1, byte)
    many = ee.Image.constant(ee.List.repeat(1, 1025)).toByte()
    with pytest.raises(ee.EEException, match=r"Number of bands \(1025\) must be less"):
        pixels(1, 1, many)
    task = ee.batch.Export.image.toDrive(
        byte, "l", crs=UTM, crsTransform=list(GRID), dimensions="10001x10000"
    )
    task.start()
    done = ended(f"projects/local-proj/operations/{task.id}")
    assert done["error"]["message"] == (
        "Export too large: specified 100010000 pixels (max: 100000000). Specify higher maxPixels "
        "value if you intend to export a large area."
    )


def test_project_config(client: str) -> None:
    assert ee.data.getProjectConfig()["maxConcurrentExports"] == "2"
    assert ee.data.updateProjectConfig({"maxConcurrentExports": 5})["maxConcurrentExports"] == "5"
    assert ee.data.getProjectConfig()["maxConcurrentExports"] == "5"
    with pytest.raises(ee.EEException, match="a whole number from 1 to 1000"):
        ee.data.updateProjectConfig({"maxConcurrentExports": 0})


def test_addresses_of_more_than_2048_characters(client: str) -> None:
    """The client sends them as POST with x-http-method-override [S: googleapiclient.http]."""
    ring = [[15 + 0.01 * np.cos(t), 45 + 0.2 * np.sin(t)] for t in np.linspace(0, 6.28, 200)]
    ring.append(ring[0])
    region = {"type": "Polygon", "coordinates": [ring]}
    for images in (
        ee.data.listImages({"parent": f"{A}/series", "region": region}),
        # The same with escaped quotes, as another client may write it.
        ee.data.listImages(
            {"parent": f"{A}/series", "filter": f"intersects({json.dumps(json.dumps(region))})"}
        ),
    ):
        assert len(images["images"]) == 3


def test_pages_of_features_and_operations(client: str) -> None:
    assets = ee.data._get_cloud_projects().assets()
    seen, token = [], None
    while True:
        page = assets.listFeatures(asset=f"{A}/points", pageSize=2, pageToken=token).execute()
        seen += [feature["properties"]["n"] for feature in page["features"]]
        token = page.get("nextPageToken")
        if not token:
            break
    assert seen == [0, 1, 2, 3, 4]
    names = {operation["name"] for operation in ee.data.listOperations()}
    operations = ee.data._get_cloud_projects().operations()
    request = operations.list(name="projects/local-proj", pageSize=1)
    paged = []
    while request is not None and len(paged) < 100:
        answer = request.execute()
        paged += [operation["name"] for operation in answer.get("operations", [])]
        request = operations.list_next(request, answer)
    assert set(paged) == names and len(paged) == len(names)


def test_what_is_not_done_says_so_by_name(client: str) -> None:
    projects = ee.data._get_cloud_projects()
    for call in (
        projects.video().export(project="projects/local-proj", body={}),
        projects.videoMap().export(project="projects/local-proj", body={}),
        projects.featureView().create(parent="projects/local-proj", body={}),
    ):
        with pytest.raises(Exception, match="is not implemented in the emulator"):
            call.execute()
