"""The REST interface without an engine: methods, assets, filters, callers, words of errors."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from googleapiclient import discovery as google
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.emulator import discovery, methods, protocol
from gee.emulator.assetfilter import matcher
from gee.emulator.catalog import BandData, Catalog
from gee.emulator.errors import EngineError
from gee.emulator.protocol import Endpoint, Request, Response
from thawslump.errors import BackendError, DataError

P = "projects/local-proj"
S1 = "projects/earthengine-public/assets/COPERNICUS/S1_GRD"
DAY = 86_400_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protocol") / "catalog"
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("COPERNICUS/S1_GRD", {"title": "made up"})
    for number in range(7):
        easting = 500000.0 + 1000 * number
        grid = ("EPSG:32633", (10.0, 0.0, easting, 0.0, -10.0, 5000000.0))
        catalog.put_image(
            f"COPERNICUS/S1_GRD/i{number}",
            [BandData("VV", np.zeros((4, 4), np.float32), *grid)],
            {"cloud": number * 10, "pass": "ASCENDING" if number % 2 else "DESCENDING"},
            start_ms=number * DAY,
            end_ms=number * DAY + 1000,
        )
    point = {"type": "Point", "coordinates": [15.0, 45.0]}
    catalog.put_table(
        "slumps",
        [{"id": str(n), "geometry": point, "properties": {"area": n}} for n in range(5)],
    )
    return folder


@pytest.fixture
def endpoint(root: Path, tmp_path: Path):
    endpoint = Endpoint(root, tmp_path / "state")
    yield endpoint
    endpoint.close()


def ask(endpoint: Endpoint, verb: str, path: str, body=None, query=None, **headers) -> Response:
    content = json.dumps(body).encode() if body is not None else b""
    plain = {key.replace("_", "-"): value for key, value in headers.items()}
    return endpoint.handle(Request(verb, path, query or {}, plain, content))


def answer(response: Response):
    assert response.status == 200, response.body
    return json.loads(response.body)


def error(response: Response) -> tuple[int, str, str]:
    found = json.loads(response.body)["error"]
    assert found["code"] == response.status
    return response.status, found["status"], found["message"]


# ---- discovery


def test_the_client_builds_itself_from_the_document() -> None:
    service = google.build_from_document(discovery.document("http://127.0.0.1/"))
    projects = service.projects()
    assert projects.assets().listAssets_next and projects.operations().list_next
    assert projects.listAssets_next
    request = projects.maps().create(parent=P, body={}, workloadTag="t", fields="name")
    assert request.uri.startswith("http://127.0.0.1/v1/projects/local-proj/maps?")
    assert "workloadTag=t" in request.uri
    tile = projects.maps().tiles().get(parent=f"{P}/maps/a", x=1, y=2, zoom=3)
    assert "/v1/projects/local-proj/maps/a/tiles/3/1/2" in tile.uri
    assert projects.image().import_ and projects.getConfig and projects.updateConfig


def test_every_method_is_answered_or_refused_by_name(endpoint: Endpoint) -> None:
    for method in discovery.METHODS:
        if method.implemented:
            assert callable(methods.find(method)), method.id
            continue
        path = {
            "project": P, "asset": f"{P}/assets/a", "config": f"{P}/config",
            "video": f"{P}/videoThumbnails/a", "filmstrip": f"{P}/filmstripThumbnails/a",
        }[method.kind]  # fmt: skip
        code, status, words = error(ask(endpoint, method.verb, f"/v1/{path}{method.suffix}", {}))
        assert (code, status) == (400, "INVALID_ARGUMENT")
        assert words == f"{method.id} is not implemented in the emulator."


def test_routes_are_told_apart() -> None:
    def handler(verb: str, path: str) -> str:
        method, _ = protocol._match(verb, path)
        assert method is not None, path
        return method.handler

    assert handler("GET", f"v1/{S1}") == "assets_get"
    assert handler("GET", f"v1/{S1}:listAssets") == "assets_list_assets"
    assert handler("GET", f"v1/{P}:listAssets") == "projects_list_assets"
    assert handler("POST", f"v1/{S1}/i1:getPixels") == "assets_get_pixels"
    assert handler("GET", f"v1/{P}/thumbnails/ab:getPixels") == "thumbnails_get_pixels"
    assert handler("GET", f"v1/{P}/operations/AB") == "operations_get"
    assert handler("POST", f"v1/{P}/operations/AB:cancel") == "operations_cancel"
    assert handler("POST", f"v1/{P}/assets") == "assets_create"
    assert handler("GET", f"v1/{P}/maps/ab/tiles/3/-1/2") == "tiles_get"
    assert protocol._match("GET", f"v1/{P}/nothing")[0] is None


def test_algorithms_come_from_the_installed_client(endpoint: Endpoint) -> None:
    found = answer(ask(endpoint, "GET", f"/v1/{P}/algorithms"))["algorithms"]
    assert len(found) > 900
    assert {"algorithms/Image.add", "algorithms/Terrain.slope"} <= {a["name"] for a in found}


def test_a_client_without_the_list_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    discovery.algorithms.cache_clear()
    monkeypatch.setattr(discovery.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="earthengine-api is not installed"):
        discovery.algorithms()
    monkeypatch.undo()
    discovery.algorithms()


# ---- assets


def test_asset_has_the_fields_of_the_interface(endpoint: Endpoint) -> None:
    got = answer(ask(endpoint, "GET", f"/v1/{S1}/i2"))
    assert got["type"] == "IMAGE" and got["name"] == f"{S1}/i2"
    assert got["id"] == "COPERNICUS/S1_GRD/i2"
    assert got["startTime"] == "1970-01-03T00:00:00.000000Z"
    assert got["properties"] == {"cloud": 20, "pass": "DESCENDING"}
    [band] = got["bands"]
    assert band["id"] == "VV" and band["dataType"] == {"precision": "FLOAT", "range": {}}
    assert band["grid"]["crsCode"] == "EPSG:32633"
    assert band["grid"]["dimensions"] == {"width": 4, "height": 4}
    assert band["grid"]["affineTransform"]["translateX"] == 502000
    assert got["geometry"]["type"] == "Polygon" and int(got["sizeBytes"]) > 0
    code, status, words = error(ask(endpoint, "GET", f"/v1/{P}/assets/none"))
    assert (code, status) == (404, "NOT_FOUND") and "does not exist" in words


def listed(endpoint: Endpoint, **query: str) -> list[str]:
    found = answer(ask(endpoint, "GET", f"/v1/{S1}:listAssets", query=query))
    return [asset["id"].rpartition("/")[2] for asset in found["assets"]]


def test_pages_and_views(endpoint: Endpoint) -> None:
    seen: list[str] = []
    token = ""
    while True:
        page = answer(
            ask(
                endpoint, "GET", f"/v1/{S1}:listAssets",
                query={"pageSize": "3", "pageToken": token, "view": "BASIC"},
            )
        )  # fmt: skip
        seen += [asset["id"][-2:] for asset in page["assets"]]
        assert set(page["assets"][0]) == {"type", "name", "id"}
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert seen == [f"i{n}" for n in range(7)]
    assert error(ask(endpoint, "GET", f"/v1/{S1}:listAssets", query={"pageSize": "x"}))[0] == 400
    assert error(ask(endpoint, "GET", f"/v1/{S1}:listAssets", query={"pageToken": "x"}))[0] == 400


@pytest.mark.parametrize(
    "text, kept",
    [
        ("", "0123456"),
        ("properties.cloud >= 20 AND properties.cloud<50", "234"),
        ('startTime >= "1970-01-03T00:00:00Z" AND endTime < "1970-01-05T00:00:00.000Z"', "23"),
        ('properties.pass = "ASCENDING"', "135"),
        ('NOT properties.pass = "ASCENDING" AND properties.cloud > 0', "246"),
        ("properties.cloud < 10 OR properties.cloud > 50", "06"),
        ("(properties.cloud = 10 OR properties.cloud = 20) AND properties.cloud != 10", "2"),
        ('properties."cloud" = 30', "3"),
        ("properties.none > 0", ""),
        ('type = "IMAGE"', "0123456"),
        ('properties.pass:"DESC"', "0246"),
        ("properties.cloud:*", "0123456"),
        ("intersects(\"{'type':'Point','coordinates':[15.0128,45.1533]}\")", "1"),
        ('intersects("POINT (15.0128 45.1533)")', "1"),
    ],
)
def test_filters(endpoint: Endpoint, text: str, kept: str) -> None:
    assert listed(endpoint, filter=text) == [f"i{n}" for n in kept]


@pytest.mark.parametrize(
    "text",
    ["cloud >", "AND", '"a" = 1', "a = 1)", "(a = 1", 'startTime > "soon"', "a ~ 1",
     'intersects("nowhere")', "intersects(1)"],
)  # fmt: skip
def test_filters_that_cannot_be_read_say_so(text: str) -> None:
    with pytest.raises(EngineError, match="Invalid filter"):
        matcher(text)


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_filter_text_does_worse_than_an_engine_error(text: str) -> None:
    with contextlib.suppress(EngineError):
        assert callable(matcher(text))


def test_long_addresses_come_as_posts(endpoint: Endpoint) -> None:
    form = urllib.parse.urlencode({"filter": "properties.cloud > 40", "pageSize": "1"}).encode()
    headers = {"x-http-method-override": "GET"}
    got = endpoint.handle(Request("POST", f"/v1/{S1}:listAssets", {}, headers, form))
    assert [asset["id"][-2:] for asset in answer(got)["assets"]] == ["i5"]


def test_folders_and_collections_are_made_changed_moved_and_deleted(
    tmp_path: Path,
) -> None:
    (tmp_path / "c").mkdir()
    endpoint = Endpoint(tmp_path / "c")
    make = {"assetId": "f"}
    assert (
        answer(ask(endpoint, "POST", f"/v1/{P}/assets", {"type": "FOLDER"}, make))["type"]
        == "FOLDER"
    )
    assert (
        "Cannot overwrite"
        in error(ask(endpoint, "POST", f"/v1/{P}/assets", {"type": "FOLDER"}, make))[2]
    )
    body = {"type": "IMAGE_COLLECTION", "properties": {"a": 1}}
    answer(ask(endpoint, "POST", f"/v1/{P}/assets", body, {"assetId": "f/c"}))
    assert (
        "the parent" in error(ask(endpoint, "POST", f"/v1/{P}/assets", body, {"assetId": "g/c"}))[2]
    )
    assert (
        "type IMAGE is not implemented"
        in error(ask(endpoint, "POST", f"/v1/{P}/assets", {"type": "IMAGE"}, {"assetId": "f/i"}))[2]
    )
    name = f"/v1/{P}/assets/f/c"
    change = {"asset": {"properties": {"b": 2}}, "updateMask": {"paths": ['properties."b"']}}
    assert answer(ask(endpoint, "PATCH", name, change))["properties"] == {"a": 1, "b": 2}
    change["updateMask"] = {"paths": ["properties"]}
    assert answer(ask(endpoint, "PATCH", name, change))["properties"] == {"b": 2}
    target = {"destinationName": f"{P}/assets/f/d"}
    assert answer(ask(endpoint, "POST", f"{name}:move", target))["id"] == f"{P}/assets/f/d"
    assert ask(endpoint, "GET", name).status == 404
    assert "has children" in error(ask(endpoint, "DELETE", f"/v1/{P}/assets/f"))[2]
    for last in ("f/d", "f"):
        assert answer(ask(endpoint, "DELETE", f"/v1/{P}/assets/{last}")) == {}
    assert answer(ask(endpoint, "GET", f"/v1/{P}:listAssets")) == {"assets": []}


def test_list_features(endpoint: Endpoint) -> None:
    path = "/v1/projects/earthengine-public/assets/slumps:listFeatures"
    page = answer(ask(endpoint, "GET", path, query={"filter": "area > 1", "pageSize": "2"}))
    assert [f["properties"]["area"] for f in page["features"]] == [2, 3]
    page = answer(ask(endpoint, "GET", path, query={"pageToken": page["nextPageToken"]}))
    assert [f["properties"]["area"] for f in page["features"]] == [4]
    far = json.dumps({"type": "Point", "coordinates": [0, 0]})
    assert answer(ask(endpoint, "GET", path, query={"region": far}))["features"] == []
    assert error(ask(endpoint, "GET", path, query={"region": "x"}))[0] == 400


# ---- callers


def test_only_this_machine_may_call(endpoint: Endpoint) -> None:
    path = f"/v1/{S1}"
    for host in ("127.0.0.1:8765", "localhost:1", "localhost", "[::1]:5"):
        assert ask(endpoint, "GET", path, host=host).status == 200
        assert ask(endpoint, "GET", path, host=host, origin=f"http://{host}").status == 200
    for headers in (
        {"host": "evil.example:8765"},
        {"host": "127.0.0.1:8765", "origin": "https://evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost:8765", "origin": "null"},
    ):
        code, status, words = error(ask(endpoint, "GET", path, **headers))
        assert (code, status) == (403, "PERMISSION_DENIED") and "this machine only" in words


def test_token(root: Path, tmp_path: Path) -> None:
    endpoint = Endpoint(root, tmp_path / "state", token="sesame")
    path = f"/v1/{S1}"
    assert error(ask(endpoint, "GET", path))[:2] == (403, "PERMISSION_DENIED")
    assert ask(endpoint, "GET", path, authorization="Bearer wrong").status == 403
    assert ask(endpoint, "GET", "/$discovery/rest").status == 403
    assert ask(endpoint, "GET", path, authorization="Bearer sesame").status == 200
    assert ask(endpoint, "GET", path, query={"key": "sesame"}).status == 200
    assert ask(endpoint, "GET", path, query={"key": "sesame"}, host="far.example").status == 200
    assert ask(endpoint, "GET", f"/v1/{P}/thumbnails/none:getPixels").status == 404
    endpoint.close()


# ---- never a fault that a client would try again


@pytest.mark.parametrize(
    "verb, path, body",
    [
        ("POST", f"/v1/{P}/value:compute", b""),
        ("POST", f"/v1/{P}/value:compute", b"{"),
        ("POST", f"/v1/{P}/value:compute", b"[1]"),
        ("POST", f"/v1/{P}/value:compute", b'{"expression": 1}'),
        ("POST", f"/v1/{P}/image:computePixels", b'{"expression": {"values": null}}'),
        ("POST", f"/v1/{P}/image:export", b'{"expression": {"result": "0", "values": {}}}'),
        ("POST", f"/v1/{P}/table:export", b'{"expression": {"result": "0", "values": {}}}'),
        ("POST", f"/v1/{P}/maps", b'{"expression": {"result": "0", "values": {}}}'),
        ("GET", f"/v1/{P}/maps/x/tiles/1/2/3", b""),
        ("GET", f"/v1/{P}/maps/x/tiles/a/b/c", b""),
        ("GET", "/v1/projects/earthengine-public/assets/../../etc/passwd", b""),
        ("GET", "/v1/projects/earthengine-public/assets/a%00b", b""),
        ("PATCH", f"/v1/{S1}", b'{"updateMask": {"paths": ["sizeBytes"]}}'),
        ("POST", f"/v1/{S1}:copy", b"{}"),
        ("DELETE", "/nothing", b""),
        ("POST", f"/v1/{P}/operations/x:wait", b'{"timeout": "x"}'),
    ],
)
def test_bad_requests_are_400_or_404_with_words(
    endpoint: Endpoint, verb: str, path: str, body: bytes
) -> None:
    code, status, words = error(endpoint.handle(Request(verb, path, {}, {}, body)))
    assert code in (400, 404) and status in ("INVALID_ARGUMENT", "NOT_FOUND") and words


@given(
    st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
    st.lists(
        st.sampled_from(
            ["v1", "projects", "p", "assets", "..", "a:listAssets", ":getPixels", "maps", "\0",
             "operations", "tiles", "-1", "value:compute", "$discovery", "é", ""]
        ),
        max_size=7,
    ),
    st.binary(max_size=20),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_request_is_answered_with_a_server_fault(root: Path, verb, parts, body) -> None:
    endpoint = _shared(root)
    response = endpoint.handle(Request(verb, "/" + "/".join(parts), {}, {}, body))
    assert response.status in (200, 400, 404)
    assert b"Internal error" not in response.body


_ENDPOINTS: dict[Path, Endpoint] = {}


def _shared(root: Path) -> Endpoint:
    if root not in _ENDPOINTS:
        _ENDPOINTS[root] = Endpoint(root, root.parent / "state")
    return _ENDPOINTS[root]


def test_a_bug_is_a_400_with_its_traceback_in_the_log(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(endpoint: object, arguments: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(protocol, "find", lambda method: bug)
    code, status, words = error(ask(endpoint, "GET", f"/v1/{S1}"))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert words == "Internal error of the emulator: KeyError: 'oops'"
    assert "Traceback" in caplog.text and "oops" in caplog.text


def test_too_long_a_request(endpoint: Endpoint) -> None:
    body = b" " * (endpoint.limits.body_bytes + 1)
    code, _, words = error(endpoint.handle(Request("POST", f"/v1/{P}/value:compute", {}, {}, body)))
    assert code == 400 and "payload size exceeds the limit" in words


@pytest.mark.parametrize(
    "options, words",
    [
        ({}, "no destination is not implemented"),
        ({"fileExportOptions": {"fileFormat": "GEO_TIFF"}}, "needs a Drive folder or a Cloud"),
        ({"fileExportOptions": {"fileFormat": "MP4"}}, "as MP4 is not"),
        ({"fileExportOptions": {"cloudStorageDestination": {"filenamePrefix": "x"}}}, "a bucket"),
        ({"fileExportOptions": {"driveDestination": {"filenamePrefix": "../../x"}}}, "not valid"),
        ({"fileExportOptions": {"driveDestination": {"folder": "/etc"}}}, "not valid"),
        ({"assetExportOptions": {"earthEngineDestination": {}}}, "needs the asset's id"),
    ],
)
def test_exports_to_nowhere_are_refused_at_once(endpoint: Endpoint, options, words: str) -> None:
    body = {"expression": {"result": "0", "values": {}}, **options}
    code, _, said = error(ask(endpoint, "POST", f"/v1/{P}/image:export", body))
    assert code == 400 and words in said


def test_a_missing_catalogue(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no catalogue"):
        Endpoint(tmp_path / "none")
