"""Connecting as if to the live service: credentials, endpoints, and the words where they fail."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import pytest
import requests
from gee_world import a_site, make_world
from live_world import made_up_key, token_server
from test_gee_export import a_workspace, exported

from gee.config import HIGH_VOLUME, STANDARD, BackendConfig
from gee.credentials import VARIABLE, Credentials, find, load
from gee.emulator.server import running
from gee.exports.check import check
from gee.exports.purpose import purpose
from gee.scripts import factors, sentinel2, terrain
from gee.session import aimed, connect, describe
from thawslump.errors import BackendError


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials of the machine that runs the tests are seen."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (VARIABLE, "CLOUDSDK_CONFIG", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    # A machine of the cloud would have credentials without a file.
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("session") / "catalog").folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running(folder) as address:
        yield address


def stored(home: Path, text: str) -> Path:
    path = home / ".config" / "earthengine" / "credentials"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_service_account_of_the_settings_asks_with_its_token(tmp_path: Path, url: str) -> None:
    with token_server() as (token_uri, asked):
        key = made_up_key(tmp_path / "key.json", token_uri)
        live = BackendConfig(
            kind="earthengine", project="made-up", url=url, service_account_key=key
        )
        with connect(live):
            assert ee.Number(1).add(1).getInfo() == 2
            assert ee.data.getProjectConfig()["name"] == "projects/made-up/config"
    assert asked and "assertion=" in asked[0]


def test_the_key_may_stand_in_the_environment(
    tmp_path: Path, url: str, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `earthengine authenticate` stored would be taken first by the client itself.
    stored(nobody, json.dumps({"refresh_token": "made-up"}))
    with token_server() as (token_uri, asked):
        monkeypatch.setenv(VARIABLE, str(made_up_key(tmp_path / "key.json", token_uri)))
        with connect(BackendConfig(kind="earthengine", project="made-up", url=url)):
            assert ee.Number(2).getInfo() == 2
    assert asked


def test_a_key_that_is_no_longer_accepted(tmp_path: Path, url: str) -> None:
    with token_server("Invalid JWT Signature.") as (token_uri, _):
        key = made_up_key(tmp_path / "key.json", token_uri)
        live = BackendConfig(
            kind="earthengine", project="made-up", url=url, service_account_key=key
        )
        with pytest.raises(BackendError) as caught, connect(live):
            pass
    assert "are not accepted, service account tester@made-up.iam" in caught.value.message
    assert "Invalid JWT Signature" in caught.value.message
    assert caught.value.hint is not None and "key was not deleted" in caught.value.hint


def test_what_a_user_stored_is_used_and_told_apart_when_it_has_expired(
    nobody: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(nobody, json.dumps({"refresh_token": "made-up"}))
    live = BackendConfig(kind="earthengine", project="made-up", url=url)
    with token_server() as (token_uri, asked):
        monkeypatch.setattr("ee.oauth.TOKEN_URI", token_uri)
        with connect(live):
            assert ee.Number(2).getInfo() == 2
    assert "refresh_token=made-up" in asked[0]
    with token_server("Token has been expired or revoked.") as (token_uri, _):
        monkeypatch.setattr("ee.oauth.TOKEN_URI", token_uri)
        with pytest.raises(BackendError, match="are not accepted, user") as caught, connect(live):
            pass
    assert caught.value.hint is not None and "earthengine authenticate --force" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no such file"),
        ("-----BEGIN PRIVATE KEY-----", "the file is no JSON"),
        ("[1]", "the file holds no JSON object"),
        ('{"type": "authorized_user"}', 'no key of a service account (type "authorized_user"'),
        ("{}", 'no key of a service account (no type instead of "service_account")'),
        ('{"type": "service_account", "client_email": "a@b"}', "lacks private_key, token_uri"),
    ],
)
def test_a_wrong_key_file_is_told_before_anything_is_asked(
    tmp_path: Path, text: str | None, words: str
) -> None:
    key = tmp_path / "key.json"
    if text is not None:
        key.write_text(text)
    live = BackendConfig(kind="earthengine", project="p", service_account_key=key)
    with pytest.raises(BackendError) as caught, connect(live):
        pass
    assert f"backend.service_account_key names {key}: " in caught.value.message
    assert words in caught.value.message
    assert caught.value.hint is not None and "JSON file that the Cloud console" in caught.value.hint


def test_nothing_of_a_damaged_key_is_shown(tmp_path: Path) -> None:
    facts = {
        "type": "service_account", "client_email": "a@b", "token_uri": "https://127.0.0.1/t",
        "private_key": "-----BEGIN PRIVATE KEY-----\nSECRETSECRET\n-----END PRIVATE KEY-----\n",
    }  # fmt: skip
    key = tmp_path / "key.json"
    key.write_text(json.dumps(facts))
    with pytest.raises(BackendError, match="private key cannot be read") as caught:
        load(find(key))
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_key_path_means_the_same_everywhere() -> None:
    with pytest.raises(ValueError, match="expected an absolute path, or one that begins with ~"):
        BackendConfig(kind="earthengine", project="p", service_account_key=Path("key.json"))
    assert BackendConfig(service_account_key=Path("~/key.json")).service_account_key is not None


def test_what_the_files_say(nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find() == Credentials("none")
    gcloud = nobody / ".config" / "gcloud" / "application_default_credentials.json"
    gcloud.parent.mkdir(parents=True)
    gcloud.write_text('{"type": "authorized_user", "refresh_token": "x"}')
    assert (find().kind, find().origin) == ("application default", "gcloud")
    own = stored(nobody, '{"refresh_token": "x"}')
    assert find() == Credentials("user", own, "", "earthengine authenticate")
    own.write_text("{")
    assert "no JSON" in find().problem and "earthengine authenticate" in find().remedy
    monkeypatch.setenv(VARIABLE, str(tmp_path / "lost.json"))
    assert find().problem == f"{VARIABLE} names {tmp_path / 'lost.json'}: there is no such file"


def test_without_credentials_it_says_how_to_get_them(url: str) -> None:
    live = BackendConfig(kind="earthengine", project="p", url=url)
    words = "There are no credentials for Earth Engine"
    with pytest.raises(BackendError, match=words) as caught, connect(live):
        pass
    assert caught.value.hint is not None and "service_account_key" in caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        # As users of the live service have published them.
        "Caller does not have required permission to use project made-up. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role, or a custom role with the "
        "serviceusage.services.use permission.",
        "Project made-up is not registered to use Earth Engine. Visit https://example.org to "
        "register your project.",
        "Google Earth Engine API has not been used in project 1 before or it is disabled.",
        "Not signed up for Earth Engine or project is not registered.",
    ],
)
def test_a_project_that_is_refused(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def refuse() -> None:
        raise ee.EEException(words)

    monkeypatch.setattr(ee.data, "getAlgorithms", refuse)
    with token_server() as (token_uri, _):
        key = made_up_key(tmp_path / "key.json", token_uri)
        live = BackendConfig(
            kind="earthengine", project="made-up", url=url, service_account_key=key
        )
        with pytest.raises(BackendError) as caught, connect(live):
            pass
    assert caught.value.message == f"Earth Engine at {url} refused project made-up: {words}"
    assert caught.value.hint is not None
    assert "https://code.earthengine.google.com/register?project=made-up" in caught.value.hint


def test_a_service_that_does_not_answer(tmp_path: Path) -> None:
    with token_server() as (token_uri, _):
        key = made_up_key(tmp_path / "key.json", token_uri)
        live = BackendConfig(
            kind="earthengine", project="p", url="http://127.0.0.1:9", service_account_key=key
        )
        words = "cannot be reached: Connection refused"
        with pytest.raises(BackendError, match=words), connect(live):
            pass


def test_the_endpoint_follows_the_purpose() -> None:
    live = BackendConfig(kind="earthengine", project="p")
    assert (live.address("computed"), live.address("stored")) == (STANDARD, HIGH_VOLUME)
    for endpoint, address in (("standard", STANDARD), ("high_volume", HIGH_VOLUME)):
        fixed = BackendConfig(kind="earthengine", project="p", endpoint=endpoint)
        assert {fixed.address("computed"), fixed.address("stored")} == {address}
    own = BackendConfig(kind="earthengine", project="p", url="http://127.0.0.1:1/")
    assert own.address("stored") == "http://127.0.0.1:1"
    assert describe(live, purpose="stored") == f"Earth Engine at {HIGH_VOLUME}"
    assert BackendConfig().address() is None


def test_stored_pixels_are_told_from_computed_ones(folder: Path) -> None:
    site = a_site()
    with connect(BackendConfig(), folder):
        asset = ee.Image("users/a/dem").unmask(-1, False).toFloat()
        assert purpose(asset) == "stored"
        tiles = ee.ImageCollection("COPERNICUS/DEM/GLO30").select("DEM").mosaic()
        assert purpose(tiles.addBands(asset).rename(["a", "b"])) == "stored"
        assert purpose(asset.subtract(1)) == "computed"
        # Factors that a map gives as it is: what an export of them asks for.
        assert purpose(factors.factors(site, ["elevation"]).unmask(-1, False)) == "stored"
        for image in (sentinel2.dndvi(site), terrain.slope(site)):
            assert purpose(image) == "computed"


def test_a_part_of_a_block_goes_to_the_other_endpoint(
    folder: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with token_server() as (token_uri, _), running(folder) as other:
        monkeypatch.setattr("gee.config.STANDARD", url)
        monkeypatch.setattr("gee.config.HIGH_VOLUME", other)
        monkeypatch.setattr("gee.session._without_catalogue", lambda: None)
        monkeypatch.setattr("ee.deprecation.InitializeDeprecatedAssets", lambda: None)
        key = made_up_key(tmp_path / "key.json", token_uri)
        live = BackendConfig(kind="earthengine", project="p", service_account_key=key)
        asked: list[str] = []
        with connect(live):
            one = ee.Number(1)
            send = ee.data._get_state().requests_session.send

            def spy(request, **more):  # type: ignore[no-untyped-def]
                asked.append(request.url)
                return send(request, **more)

            monkeypatch.setattr(ee.data._get_state().requests_session, "send", spy)
            assert one.add(1).getInfo() == 2
            assert asked and all(a.startswith(url) for a in asked)
            asked.clear()
            with aimed(live, "stored"):
                assert one.add(2).getInfo() == 3
            assert asked and all(a.startswith(other) for a in asked[: len(asked) // 2])
            asked.clear()
            assert one.add(3).getInfo() == 4
            assert asked and all(a.startswith(url) for a in asked)
            with aimed(live, "computed"):
                assert ee.data._get_state().cloud_api_base_url == url
            with pytest.raises(ValueError, match="in the block"), aimed(live, "stored"):
                raise ValueError("in the block")
            assert ee.data._get_state().cloud_api_base_url == url


def test_an_export_asks_each_file_of_its_endpoint(
    folder: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Composites of the standard endpoint, heights of the high-volume one; the plan says so."""
    asked: list[str] = []
    send = requests.Session.send

    def spy(session: requests.Session, request: requests.PreparedRequest, **more: Any) -> Any:
        asked.append(str(request.url))
        return send(session, request, **more)

    with token_server() as (token_uri, _), running(folder) as other:
        monkeypatch.setattr("gee.config.STANDARD", url)
        monkeypatch.setattr("gee.config.HIGH_VOLUME", other)
        monkeypatch.setattr("ee.deprecation.InitializeDeprecatedAssets", lambda: None)
        monkeypatch.setattr(requests.Session, "send", spy)
        key = made_up_key(tmp_path / "key.json", token_uri)
        backend = {"kind": "earthengine", "project": "p", "service_account_key": str(key)}
        site = a_site(bands=("slope", "dNDVI"), factors=("elevation",))
        workspace = a_workspace(tmp_path / "work", None, site, backend=backend)
        text = check(workspace, "place")["text"]
        assert f"place on Earth Engine at {url}" in text
        assert f"factors.tif: stored pixels, asked of Earth Engine at {other}" in text
        assert "stack.tif: stored" not in text and "context.tif: stored" not in text
        asked.clear()
        exported(workspace)
    pixels = [where for where in asked if "image:computePixels" in where]
    assert len(pixels) == 3
    assert [where.startswith(other) for where in pixels] == [False, False, True]
