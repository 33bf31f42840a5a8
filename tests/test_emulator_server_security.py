"""No path outside the catalogue and the state folder is read or written, and no token is told.

Every way by which a caller can name something is tried with names that lead elsewhere; then the
folders around are as they were, and no answer holds what lies there.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine

from gee.emulator import server
from gee.emulator.catalog import BandData, Catalog
from gee.emulator.messages import Request, Response
from gee.emulator.methods.imports import resolve
from gee.emulator.methods.requests import file_name
from gee.emulator.protocol import Endpoint
from gee.emulator.server import running
from thawslump.errors import ThawslumpError

P = "projects/local-proj"
GRID = ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
SECRET = b"TOPSECRET-7391"
VALUE = 73917391  # the value of every secret pixel

NAMES = [
    "..", "../outside/asset", "a/../../outside", "../../../../../../etc/passwd", "/etc/passwd",
    "//etc/passwd", "a//b", "./a", "a/.", "a/..", "%2e%2e/outside", "..%2foutside", "..\\outside",
    "C:\\outside", "\\\\host\\share", "file:///etc/passwd", "/vsicurl/http://x/y.tif",
    "/vsizip//etc/x.zip", "a\x00b", "a\nb", "a\r\nX-Injected: 1", ".state", ".state/state.sqlite",
    "asset.json", "a/asset.json", ".hidden", "a b", "～", "\u202e", "a" * 300, "x/" * 1500, "",
    "link", "link/asset", "linkfile", "-rf", "$(id)", "`id`", "a;b", "*", "?", "{0}", "%s%s",
]  # fmt: skip


def tiff(path: Path, value: int) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=4, width=4, count=1, dtype="int32", crs="EPSG:32633",
        transform=Affine(10, 0, 5e5, 0, -10, 5e6),
    ) as target:  # fmt: skip
        target.write(np.full((1, 4, 4), value, np.int32))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, a state and an imports folder, with links that lead out of each."""
    tmp_path = tmp_path_factory.mktemp("security")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(SECRET)
    (outside / "secret.csv").write_bytes(b"lon,lat,word\n1,2," + SECRET + b"\n")
    (outside / "secret.geojson").write_text(
        json.dumps({"type": "Feature", "geometry": None, "properties": {"w": SECRET.decode()}})
    )
    tiff(outside / "secret.tif", VALUE)
    # An asset as the catalogue would have it, but elsewhere.
    Catalog(outside / "catalog", writable=True).put_image(
        "asset", [BandData("b", np.full((4, 4), VALUE, np.int32), *GRID)], {"s": SECRET.decode()}
    )
    inside = tmp_path / "inside"
    catalog = Catalog(inside / "catalog", writable=True)
    catalog.put_folder(f"{P}/assets/f")
    catalog.put_image(
        f"{P}/assets/i", [BandData("b", np.ones((4, 4), np.int32), *GRID)], {"name": "mine"}
    )
    catalog.put_table(f"{P}/assets/t", [{"geometry": None, "properties": {"n": 1}}])
    imports, exports = inside / "imports", inside / "state" / "exports"
    for folder in (imports, exports, exports / "bucket"):
        folder.mkdir(parents=True)
    tiff(imports / "fine.tif", 5)
    for place in (
        inside / "catalog", inside / "catalog" / P / "assets", imports, exports, exports / "bucket",
    ):  # fmt: skip
        (place / "link").symlink_to(outside / "catalog")
        (place / "out").symlink_to(outside)
    for suffix in ("tif", "csv", "geojson"):
        (imports / f"away.{suffix}").symlink_to(outside / f"secret.{suffix}")
        (exports / "bucket" / f"away.{suffix}").symlink_to(outside / f"secret.{suffix}")
    # Files that name other files.
    vrt = (
        '<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>5e5,10,0,5e6,0,-10</GeoTransform>"
        f'<VRTRasterBand dataType="Int32" band="1"><SimpleSource><SourceFilename>'
        f"{outside / 'secret.tif'}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    (imports / "vrt.tif").write_text(vrt)
    (imports / "cog.vrt").write_text(vrt)
    ogr = (
        '<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>'
        f"{outside / 'secret.csv'}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    for name in ("ogr.csv", "ogr.shp", "ogr.geojson", "ogr.json"):
        (imports / name).write_text(ogr)
    with zipfile.ZipFile(imports / "slip.zip", "w") as archive:
        archive.writestr("../../outside/evil.shp", b"\x00\x00\x27\x0a" + bytes(96))
        archive.writestr("/tmp/evil.dbf", b"x")
        archive.writestr("../../outside/evil.shx", b"x")
    with zipfile.ZipFile(imports / "ogr.zip", "w") as archive:
        archive.writestr("a.shp", ogr)
    return tmp_path


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }  # fmt: skip


@pytest.fixture
def endpoint(world: Path) -> Iterator[Endpoint]:
    """An endpoint; at the end nothing outside has changed and nothing new lies around it."""
    before, around = snapshot(world / "outside"), {p.name for p in world.iterdir()}
    inside = {p.name for p in (world / "inside").iterdir()}
    made = Endpoint(
        world / "inside" / "catalog", world / "inside" / "state", imports=world / "inside/imports"
    )
    # What the test before made, and what it moved.
    kept = {"projects", *(f"{P}/assets/{name}" for name in "fit")}
    for asset in [*made.catalog.children(""), *made.catalog.children(f"{P}/assets")]:
        if asset.id not in kept:
            made.catalog.delete(asset.id, recursive=True)
    made.catalog.put_table(f"{P}/assets/t", [{"geometry": None, "properties": {"n": 1}}])
    yield made
    made.close()
    assert snapshot(world / "outside") == before
    assert {p.name for p in world.iterdir()} == around
    assert {p.name for p in (world / "inside").iterdir()} == inside


def ask(endpoint: Endpoint, verb: str, path: str, body: Any = None, **query: str) -> Response:
    content = b"" if body is None else json.dumps(body).encode()
    answer = endpoint.handle(Request(verb, path, query, {}, content))
    assert SECRET not in answer.body and str(VALUE).encode() not in answer.body
    assert answer.status in (200, 400, 404)
    assert b"Internal error" not in answer.body, answer.body
    assert b"Traceback" not in answer.body
    return answer


def ended(endpoint: Endpoint, answer: Response) -> dict[str, Any]:
    name = json.loads(answer.body)["name"].rpartition("/")[2]
    return endpoint.operations.wait(P, name, 30)


def load(asset_id: str) -> dict[str, Any]:
    call = {"functionName": "Image.load", "arguments": {"id": {"constantValue": asset_id}}}
    return {"result": "0", "values": {"0": {"functionInvocationValue": call}}}


# Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:40] for name in NAMES])
def test_names_of_assets_lead_nowhere(endpoint: Endpoint, world: Path, name: str) -> None:
    full = f"{P}/assets/{name}"
    for spelled in (full, f"projects/earthengine-public/assets/{name}", name):
        path = f"/v1/{spelled}"
        for verb in ("GET", "DELETE"):
            answer = ask(endpoint, verb, path)
            assert answer.status != 200 or not name or verb == "GET"
        ask(endpoint, "GET", f"{path}:listAssets")
        ask(endpoint, "GET", f"{path}:listFeatures")
        ask(endpoint, "POST", f"{path}:getPixels", {"fileFormat": "NPY"})
        ask(endpoint, "POST", f"{path}:getIamPolicy", {})
        ask(endpoint, "PATCH", path, {"asset": {"properties": {"a": 1}},
                                      "updateMask": {"paths": ["properties"]}})  # fmt: skip
        for load_as in ("Image.load", "ImageCollection.load", "Collection.loadTable"):
            key = "tableId" if load_as == "Collection.loadTable" else "id"
            graph = load(spelled)
            node = graph["values"]["0"]["functionInvocationValue"]
            node["functionName"], node["arguments"] = load_as, {key: {"constantValue": spelled}}
            answer = ask(endpoint, "POST", f"/v1/{P}/value:compute", {"expression": graph})
        ask(endpoint, "POST", f"/v1/{P}/image:computePixels",
            {"expression": load(spelled), "fileFormat": "NPY"})  # fmt: skip
    assert (world / "outside" / "catalog" / "asset" / "asset.json").is_file()


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:40] for name in NAMES])
def test_new_assets_lie_inside(endpoint: Endpoint, world: Path, name: str) -> None:
    catalog = world / "inside" / "catalog"
    source = f"/v1/{P}/assets/i"
    for target in (name, f"{P}/assets/{name}", f"{P}/assets/f/{name}"):
        ask(endpoint, "POST", f"{source}:copy", {"destinationName": target})
        ask(endpoint, "POST", f"/v1/{P}/assets/t:move", {"destinationName": target})
        ask(endpoint, "POST", f"/v1/{P}/assets/{target}:move", {"destinationName": f"{P}/assets/t"})
        for kind in ("FOLDER", "IMAGE_COLLECTION", "IMAGE"):
            ask(endpoint, "POST", f"/v1/{P}/assets", {"type": kind}, assetId=target)
        options = {"assetExportOptions": {"earthEngineDestination": {"name": target}}}
        answer = ask(
            endpoint, "POST", f"/v1/{P}/image:export",
            {"expression": load(f"{P}/assets/i"), **options},
        )  # fmt: skip
        if answer.status == 200:
            ended(endpoint, answer)
        manifest = {"name": target, "tilesets": [{"sources": [{"uris": ["fine.tif"]}]}]}
        answer = ask(endpoint, "POST", f"/v1/{P}/image:import", {"imageManifest": manifest})
        if answer.status == 200:
            ended(endpoint, answer)
    # Whatever was made is a folder with a description, without a link on the way.
    for path in catalog.rglob("asset.json"):
        assert path.resolve() == catalog.resolve() / path.relative_to(catalog)
    assert not [p for p in catalog.iterdir() if p.name not in _KNOWN and not p.name.isidentifier()]


_KNOWN = {"projects", ".changes", ".lock", ".state", "link", "out", "-rf"}


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:40] for name in NAMES])
def test_exports_lie_in_their_folder(endpoint: Endpoint, world: Path, name: str) -> None:
    exports = world / "inside" / "state" / "exports"
    places = [
        {"driveDestination": {"folder": name, "filenamePrefix": "x"}},
        {"driveDestination": {"filenamePrefix": name}},
        {"cloudStorageDestination": {"bucket": name, "filenamePrefix": "x"}},
        {"cloudStorageDestination": {"bucket": "bucket", "filenamePrefix": name}},
        {"cloudStorageDestination": {"bucket": "bucket", "filenamePrefix": f"out/{name}"}},
        {"cloudStorageDestination": {"bucket": "out", "filenamePrefix": name}},
    ]
    bodies: list[tuple[str, dict[str, Any]]] = []
    for place in places:
        files = {"fileFormat": "GEO_TIFF", **place}
        bodies.append(("image", {"expression": load(f"{P}/assets/i"), "fileExportOptions": files}))
        files = {"fileFormat": "CSV", **place}
        table = load(f"{P}/assets/t")
        node = table["values"]["0"]["functionInvocationValue"]
        node["functionName"], node["arguments"] = (
            "Collection.loadTable", {"tableId": {"constantValue": f"{P}/assets/t"}}
        )  # fmt: skip
        bodies.append(("table", {"expression": table, "fileExportOptions": files}))
        bodies.append(
            ("map", {"expression": load(f"{P}/assets/i"), "tileOptions": {"endZoom": 1},
                     "tileExportOptions": {"fileFormat": "PNG", **place}})
        )  # fmt: skip
    for kind, body in bodies:
        answer = ask(endpoint, "POST", f"/v1/{P}/{kind}:export", body)
        if answer.status != 200:
            continue
        operation = ended(endpoint, answer)
        for uri in operation["metadata"].get("destinationUris", []):
            path = Path(urllib.parse.unquote(uri.removeprefix("file://")))
            assert path.resolve().is_relative_to(exports.resolve())
            assert ".." not in path.parts


URIS = [
    "../outside/secret.tif", "../../outside/secret.tif", "out/secret.tif", "away.tif",
    "link/asset/x.tif", "/etc/passwd", "file:///etc/passwd", "gs://../outside/secret.tif",
    "gs://out/secret.tif", "gs://bucket/out/secret.tif", "gs://bucket/away.tif",
    "gs://bucket/../../../../outside/secret.tif", "gs:///etc/passwd", "gs://", "http://x/y.tif",
    "/vsicurl/http://x/y.tif", "/vsizip/fine.zip/x.tif", "vrt.tif", "cog.vrt",
    "fine.tif/../vrt.tif", "fine.tif\x00.csv",
    "../state/state.sqlite", "../catalog/projects/local-proj/assets/i/asset.json",
    "FILE:///etc/passwd", "file:fine.tif", "..\\outside\\secret.tif", "%2e%2e/outside/secret.tif",
    "file:///%2e%2e/outside/secret.tif", "", " ",
]  # fmt: skip


@pytest.mark.parametrize("uri", URIS, ids=[ascii(uri)[:40] for uri in URIS])
def test_manifests_read_the_folders_they_may(endpoint: Endpoint, world: Path, uri: str) -> None:
    absolute = str(world / "outside" / "secret.tif")
    for given_ in (uri, absolute, f"file://{absolute}"):
        image = {"name": f"{P}/assets/new", "tilesets": [{"sources": [{"uris": [given_]}]}]}
        for prefix in ("", "../outside/", "gs://", "out/"):
            body = {"imageManifest": {**image, "uriPrefix": prefix}}
            for method in ("image:import", "image:importExternal"):
                answer = ask(endpoint, "POST", f"/v1/{P}/{method}", body)
                if answer.status == 200:
                    assert uri == "vrt.tif" and not prefix and method == "image:import"
                    assert ended(endpoint, answer)["metadata"]["state"] == "FAILED"
        table = {"tableManifest": {"name": f"{P}/assets/new", "sources": [{"uris": [given_]}]}}
        assert ask(endpoint, "POST", f"/v1/{P}/table:import", table).status != 200
        location = {"type": "IMAGE", "cloudStorageLocation": {"uris": [given_]}}
        answer = ask(endpoint, "POST", f"/v1/{P}/assets", location, assetId="new")
        assert answer.status != 200
    assert endpoint.catalog.get(f"{P}/assets/new") is None


@pytest.mark.parametrize(
    "uri",
    ["ogr.csv", "ogr.shp", "ogr.geojson", "ogr.json", "slip.zip", "ogr.zip", "away.csv",
     "away.geojson", "gs://bucket/away.csv"],
)  # fmt: skip
def test_tables_that_name_other_files_are_not_followed(endpoint: Endpoint, uri: str) -> None:
    manifest = {"name": f"{P}/assets/new", "sources": [{"uris": [uri]}]}
    answer = ask(endpoint, "POST", f"/v1/{P}/table:import", {"tableManifest": manifest})
    if answer.status == 200:
        ended(endpoint, answer)
    made = endpoint.catalog.get(f"{P}/assets/new")
    rows = [] if made is None else endpoint.catalog.features(made.id)
    assert SECRET.decode() not in json.dumps(rows)


def test_a_shapefile_beside_a_link_is_refused(endpoint: Endpoint, world: Path) -> None:
    import geopandas
    from shapely.geometry import Point

    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)], crs="EPSG:4326")
    imports = world / "inside" / "imports"
    frame.to_file(imports / "p.shp", engine="pyogrio")
    manifest = {"name": f"{P}/assets/shape", "sources": [{"uris": ["p.shp"]}]}
    answer = ask(endpoint, "POST", f"/v1/{P}/table:import", {"tableManifest": manifest})
    assert ended(endpoint, answer)["metadata"]["state"] == "SUCCEEDED"
    (imports / "p.dbf").unlink()
    (imports / "p.dbf").symlink_to(world / "outside" / "secret.txt")
    body = {"tableManifest": manifest, "overwrite": True}
    operation = ended(endpoint, ask(endpoint, "POST", f"/v1/{P}/table:import", body))
    assert "is a link" in operation["error"]["message"]


def test_what_does_not_exist_and_what_may_not_be_read_are_told_alike(
    endpoint: Endpoint,
) -> None:
    words = set()
    for uri in ("../outside/secret.tif", "../outside/none.tif", "away.tif", "none.tif"):
        with pytest.raises(ThawslumpError) as found:
            resolve(endpoint, uri, (".tif",))
        words.add(str(found.value).replace(uri, "X"))
    assert words == {"'X' does not exist or cannot be read."}


def test_without_a_folder_of_imports_nothing_of_this_machine_is_read(world: Path) -> None:
    endpoint = Endpoint(world / "inside" / "catalog", world / "inside" / "state")
    for uri in ("fine.tif", str(world / "inside/imports/fine.tif"), "file:///etc/x.tif"):
        with pytest.raises(ThawslumpError, match="without a folder of imports"):
            resolve(endpoint, uri, (".tif",))
    endpoint.close()


@given(
    st.text(max_size=30), st.sampled_from(["", "gs://", "file://", "../", "out/", "gs://bucket/"])
)
@settings(max_examples=300, deadline=None)
def test_no_address_at_all_leads_out(text: str, start: str) -> None:
    endpoint = _shared()
    with contextlib.suppress(ThawslumpError):
        found = resolve(endpoint, f"{start}{text}.tif", (".tif",))
        tops = [endpoint.exports.resolve(), Path(str(endpoint.imports)).resolve()]
        assert any(found.is_relative_to(top) for top in tops)


_ENDPOINTS: list[Endpoint] = []


def _shared() -> Endpoint:
    if not _ENDPOINTS:
        import tempfile

        top = Path(tempfile.mkdtemp())
        for name in ("catalog", "imports", "outside"):
            (top / name).mkdir()
        (top / "imports" / "out").symlink_to(top / "outside")
        tiff(top / "outside" / "x.tif", 1)
        tiff(top / "imports" / "x.tif", 1)
        _ENDPOINTS.append(Endpoint(top / "catalog", top / "state", imports=top / "imports"))
    return _ENDPOINTS[0]


@given(st.text(max_size=60))
def test_names_of_downloads_are_plain(text: str) -> None:
    name = file_name(text)
    assert name and name.isascii() and not name.startswith(".")
    assert not set(name) & set('/\\"\r\n\0:;')


def test_downloads_carry_no_paths(endpoint: Endpoint) -> None:
    body = {"expression": load(f"{P}/assets/i"), "fileFormat": "ZIPPED_GEO_TIFF_PER_BAND",
            "filenamePrefix": '../../x"\r\nSet-Cookie: a=b'}  # fmt: skip
    name = json.loads(ask(endpoint, "POST", f"/v1/{P}/thumbnails", body).body)["name"]
    answer = ask(endpoint, "GET", f"/v1/{name}:getPixels")
    for member in zipfile.ZipFile(io.BytesIO(answer.body)).namelist():
        assert "/" not in member and ".." not in member
    assert "\n" not in answer.headers["Content-Disposition"]
    assert "Set-Cookie" not in answer.headers


# Callers and tokens ----------------------------------------------------------------------------


def fetch(url: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_tokens_are_told_nowhere(world: Path, tmp_path: Path) -> None:
    """Neither in an answer, nor in what the server says, nor in its command line."""
    token = "open-sesame-4711"
    state = world / "inside" / "state"
    said = tmp_path / "words.txt"
    with said.open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "gee.emulator", str(world / "inside/catalog"), "--port", "0",
             "--state", str(state), "--workers", "2"],
            env={**os.environ, "PYTHONPATH": str(Path(server.__file__).parents[2]),
                 "THAWSLUMP_EMULATOR_TOKEN": token},
            stdout=subprocess.PIPE, stderr=words,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            url = process.stdout.readline().decode().split()[-1]
            end = time.monotonic() + 30
            while True:
                with contextlib.suppress(OSError):
                    fetch(f"{url}/$discovery/rest")
                    break
                assert time.monotonic() < end
                time.sleep(0.05)
            asset = f"{url}/v1/{P}/assets/i"
            answers = [
                fetch(asset), fetch(asset, Authorization=f"Bearer {token}x"),
                fetch(f"{asset}?key={token[:-1]}"), fetch(f"{asset}?key={token}"),
                fetch(f"{asset}/none?key={token}"), fetch(f"{url}/none?key={token}"),
                fetch(f"{url}/v1/{P}/value:compute?key={token}", {"expression": token[:4]}),
                fetch(f"{url}/$discovery/rest?key={token}"), fetch(f"{url}/status?key={token}"),
                fetch(asset, Authorization=f"Bearer {token}"),
                fetch(asset, **{"x-goog-api-key": token}),
            ]  # fmt: skip
            lines = Path(f"/proc/{process.pid}/cmdline")
            shown = lines.read_bytes() if lines.exists() else b""
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
    codes = [code for code, _ in answers]
    assert codes == [403, 403, 403, 200, 404, 404, 400, 200, 200, 200, 200]
    assert not any(token.encode() in body for _, body in answers)
    assert token.encode() not in said.read_bytes() + shown
    for path in state.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_other_users_cannot_read_the_secret_of_the_state(endpoint: Endpoint) -> None:
    endpoint.store.remember("maps", {"a": 1})
    for path in endpoint.state.glob("state.sqlite*"):
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_bug_is_logged_without_the_query(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gee.emulator import protocol

    def bug(*_: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(protocol, "find", lambda method: bug)
    with caplog.at_level(logging.DEBUG):
        answer = endpoint.handle(
            Request(
                "GET", f"/v1/{P}/assets/i", {"key": "sesame"}, {"authorization": "Bearer sesame"}
            )
        )
    assert answer.status == 400 and "oops" in caplog.text
    assert "sesame" not in caplog.text and b"sesame" not in answer.body


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "127.0.0.1.nip.example"}, 403),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "169.254.169.254"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8080"}, 200),
    ],
)
def test_pages_of_other_sites_may_not_call(endpoint: Endpoint, headers: Any, code: int) -> None:
    lower = {"host": "127.0.0.1:8765", **{key.lower(): value for key, value in headers.items()}}
    answer = endpoint.handle(Request("GET", f"/v1/{P}/assets/i", {}, lower))
    assert answer.status == code
    if code == 403:
        assert json.loads(answer.body)["error"]["status"] == "PERMISSION_DENIED"


def test_raw_paths_over_http(world: Path) -> None:
    """As no client library would send them: dots, escapes and absolute addresses."""
    import socket

    with running(world / "inside/catalog", state=world / "inside/state") as url:
        place = urllib.parse.urlsplit(url)
        for path in (
            "/v1/projects/local-proj/assets/../../../../../../etc/passwd",
            "/v1/projects/local-proj/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/v1/projects/local-proj/assets/..%2f..%2f..%2fetc%2fpasswd",
            "/v1/projects/local-proj/assets/link/asset",
            "/v1/projects/local-proj/assets/out/secret.txt",
            "/../../../etc/passwd", "//etc/passwd", "/v1/%00", "/.state/state.sqlite",
            "http://other.example/etc/passwd", "/v1/projects/local-proj/assets/i%0d%0aX: y",
        ):  # fmt: skip
            with socket.create_connection((place.hostname, place.port), timeout=20) as line:
                line.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
                )
                answer = b""
                while chunk := line.recv(65536):
                    answer += chunk
            assert answer.split()[1] in (b"400", b"404"), (path, answer[:200])
            assert b"root:" not in answer and SECRET not in answer and b"\r\nX: y" not in answer
