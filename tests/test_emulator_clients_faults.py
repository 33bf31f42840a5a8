"""Faults of clients that are not the emulator's, so that docs/emulator-clients.md stays true.

Each test shows that the fault is there in the version that the table names, and that the way
around it works. With another version the test is skipped: look whether the fault is still
there, then change the table.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import re
import urllib.error
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import ee.deprecation
import numpy as np
import pytest
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
    make_world,
)
from google.auth.credentials import AnonymousCredentials

from gee.emulator.server import running

PAGE = Path(__file__).parents[1] / "docs" / "emulator-clients.md"
NOWHERE = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("faults") / "catalog")


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(world.root, state=tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[str]:
    with warnings.catch_warnings(), connected(url=url):
        warnings.simplefilter("ignore")
        yield url


def listed(fault: str) -> None:
    """Skip unless the table's row of a fault names the installed version."""
    [row] = [line for line in PAGE.read_text().splitlines() if f"`{fault}`" in line]
    _, _, package, versions, *_ = (cell.strip() for cell in row.split("|"))
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if installed not in versions.split(", "):
        pytest.skip(f"{package} {installed}: the table knows this fault of {versions}")


def grid() -> dict[str, Any]:
    return {"crs": UTM, "crs_transform": NORTH, "shape_2d": (SHAPE[1], SHAPE[0])}


def test_every_fault_of_the_table_is_tested_or_says_so() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\|$", PAGE.read_text(), re.MULTILINE)
    source = Path(__file__).read_text()
    tested = set(re.findall(r'listed\("([a-z-]+)"\)', source))
    assert len(rows) == len(set(rows)) > 10
    assert tested == set(rows)


# ---- earthengine-api


def test_initialize_asks_google(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed("ee-asks-google")
    asked: list[str] = []

    def opened(address: Any, *rest: Any, **options: Any) -> None:
        asked.append(getattr(address, "full_url", address))
        assert "timeout" not in options
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", opened)
    monkeypatch.setattr(ee.deprecation, "deprecated_assets", None)
    ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)
    ee.Reset()
    assert len(asked) == 1 and asked[0].startswith("https://storage.googleapis.com/")
    with connected(url=url):
        pass
    assert len(asked) == 1


def test_short_project_names() -> None:
    listed("ee-project-names")
    from ee import _cloud_api_utils

    named = _cloud_api_utils.convert_asset_id_to_asset_name
    assert named("projects/p/assets/x") == "projects/earthengine-legacy/assets/projects/p/assets/x"
    assert named("projects/local-proj/assets/x") == "projects/local-proj/assets/x"


def test_the_command_asks_for_stored_credentials(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("ee-cli-credentials")
    from ee.cli import utils

    path = tmp_path / "config.json"
    path.write_text(json.dumps({"url": url, "project": "local-proj"}))
    asked: list[dict] = []
    monkeypatch.setattr(ee, "Initialize", lambda **options: asked.append(options))
    utils.CommandLineConfig(str(path)).ee_init()
    assert asked[0]["url"] == url and asked[0]["project"] == "local-proj"
    assert asked[0]["credentials"] == "persistent"


def test_proxies_are_asked_for_this_machine(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed("requests-proxy")
    address = ee.Image("users/me/dem").getThumbURL({"min": 0, "max": 1000, "dimensions": 8})
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("http_proxy", NOWHERE)
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get(address, timeout=5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert requests.get(address, timeout=5).status_code == 200


# ---- xee


def test_xee_tries_again_whatever_was_refused(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed("xee-retries")
    import xarray

    # Refused when its pixels are asked for, not before.
    coarse = [40, 0, NORTH[2], 0, -40, NORTH[5]]
    broken = collection().map(
        lambda image: (
            image.reduceResolution(ee.Reducer.mean(), False, 2)
            .reproject(UTM, coarse)
            .copyProperties(image, ["system:time_start"])
        )
    )
    waits: list[float] = []
    monkeypatch.setattr("xarray.backends.common.time.sleep", waits.append)
    for options, count in (({}, 6), ({"getitem_kwargs": {"max_retries": 0}}, 0)):
        waits.clear()
        with pytest.raises(ee.EEException, match="Too many input pixels"):
            xarray.open_dataset(broken, engine="ee", **grid(), **options)["B4"].to_numpy()
        assert len(waits) == count


def test_xee_is_not_guessed(client: str) -> None:
    listed("xee-engine")
    if importlib.util.find_spec("netCDF4") is None:
        pytest.skip("netCDF4 is not installed")
    import xarray

    with pytest.raises((TypeError, ValueError)):
        xarray.open_dataset(f"ee://{SERIES}", **grid())
    found = xarray.open_dataset(f"ee://{SERIES}", engine="ee", **grid())
    assert set(found.data_vars) == {"B4", "B8"}


# ---- geemap


def the_geemap() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import geemap as module
    return module


def test_geemap_frames_without_geometry(client: str, tmp_path: Path) -> None:
    listed("geemap-ee-to-df")
    if int(importlib.metadata.version("pandas").split(".")[0]) < 3:
        pytest.skip("pandas before 3 allowed it")
    points = ee.FeatureCollection("users/me/points")
    with pytest.raises(ValueError, match="Cannot specify both 'axis'"):
        the_geemap().ee_to_df(points)
    the_geemap().ee_to_csv(points, str(tmp_path / "points.csv"))
    assert not (tmp_path / "points.csv").exists()
    assert the_geemap().ee_to_df(points, remove_geom=False)["n"].tolist() == list(range(25))
    frame = ee.data.computeFeatures({"expression": points, "fileFormat": "PANDAS_DATAFRAME"})
    assert frame["n"].tolist() == list(range(25))


def test_geemap_passes_what_xee_does_not_take(client: str) -> None:
    listed("geemap-ee-to-xarray")
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        the_geemap().ee_to_xarray(collection(), ee_initialize=False, crs=UTM, scale=10)


def test_geemap_connects_to_google_by_default(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed("geemap-initialize")
    asked: list[dict] = []
    monkeypatch.setattr(ee, "Initialize", lambda *rest, **options: asked.append(options))
    options = {"crs": UTM, "scale": 10, "geometry": box(0, 0, 128, 96)}
    # What xee then makes of the options is another fault.
    with contextlib.suppress(TypeError):
        the_geemap().ee_to_xarray(collection(), project="local-proj", **options)
    assert [o["opt_url"] for o in asked] == ["https://earthengine-highvolume.googleapis.com"]
    with contextlib.suppress(TypeError):
        the_geemap().ee_to_xarray(collection(), ee_initialize=False, **options)
    assert len(asked) == 1


def test_geemap_prints_errors(
    client: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed("geemap-prints")
    the_geemap().ee_export_image(ee.Image("users/me/none"), str(tmp_path / "none.tif"), scale=10,
                             region=box(0, 0, 5, 5), verbose=False)  # fmt: skip
    assert "not found" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_geemap_needs_gdals_own_bindings(client: str, tmp_path: Path) -> None:
    listed("geemap-osgeo")
    if importlib.util.find_spec("osgeo") is not None:
        pytest.skip("GDAL's own Python bindings are installed here")
    shown = {"min": 0, "max": 1000}
    with pytest.raises(ModuleNotFoundError, match="osgeo"):
        the_geemap().ee_to_geotiff(
            ee.Image("users/me/dem"), str(tmp_path / "tiles.tif"), vis_params=shown, zoom=12,
            quiet=True,
        )  # fmt: skip


def test_geemap_and_folium_in_one_process() -> None:
    listed("geemap-folium")
    the_geemap()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match="xyz_to_folium"):
            import geemap.foliumap  # noqa: F401


# ---- geedim


def test_geedim_asks_google_for_metadata(
    client: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed("geedim-stac")
    import aiohttp
    from geedim.stac import STACClient

    monkeypatch.setitem(STACClient()._urls, "ROOT", f"{NOWHERE}/catalog.json")
    image = ee.Image("users/me/dem")
    with pytest.raises(aiohttp.ClientError):
        image.gd.toGeoTIFF(tmp_path / "dem.tif")
    # An image that is computed has no id to ask for.
    ee.Image(image.multiply(1).copyProperties(image)).gd.toGeoTIFF(tmp_path / "computed.tif")
    assert (tmp_path / "computed.tif").stat().st_size > 0


def test_geedim_tries_again_whatever_was_refused(
    client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed("geedim-retries")
    import aiohttp

    waits: list[float] = []

    async def sleep(seconds: float, *rest: Any) -> None:
        waits.append(seconds)

    monkeypatch.setattr("geedim.tile.asyncio.sleep", sleep)
    # Refused when its pixels are asked for, not before.
    fine = ee.Image("users/me/dem").multiply(1)
    broken = fine.reduceResolution(ee.Reducer.mean(), False, 2).reproject(
        UTM, [40, 0, NORTH[2], 0, -40, NORTH[5]]
    )
    prepared = ee.Image(broken).gd.prepareForExport(
        crs=UTM, crs_transform=[40, 0, NORTH[2], 0, -40, NORTH[5]], shape=(4, 4)
    )
    with pytest.raises((aiohttp.ClientError, ee.EEException), match="Too many input pixels"):
        prepared.gd.toNumPy()
    assert [s for s in waits if s >= 2] == [2, 4, 8, 16, 32]


def test_geedim_multiplies_transforms_with_a_star(client: str) -> None:
    listed("geedim-affine")
    if int(importlib.metadata.version("affine").split(".")[0]) < 3:
        pytest.skip("affine before 3 did not warn")
    image = ee.Image(ee.Image("users/me/dem").multiply(1)).gd.prepareForExport(
        crs=UTM, crs_transform=list(NORTH), shape=SHAPE
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", PendingDeprecationWarning)
        with pytest.raises(PendingDeprecationWarning, match="matmul"):
            image.gd.toNumPy()
    assert np.isfinite(image.gd.toNumPy()).all()
