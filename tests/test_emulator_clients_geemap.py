"""The unmodified geemap against the emulator, over HTTP: layers, downloads, tables, statistics.

geemap opens addresses with requests, and prints where others raise.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import requests
from emulator_clients_world import (
    NORTH,
    SHAPE,
    TILE,
    UTM,
    World,
    box,
    collection,
    connected,
    make_world,
)
from PIL import Image

from gee.emulator.server import running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import geemap

GRID = {"crs": UTM, "crs_transform": list(NORTH)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("geemap") / "catalog")


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(world.root, state=tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture(autouse=True)
def client(url: str) -> Iterator[None]:
    with warnings.catch_warnings(), connected(url=url):
        warnings.simplefilter("ignore")
        yield


def whole() -> ee.Geometry:
    return box(0, 0, SHAPE[1], SHAPE[0])


def zones() -> ee.FeatureCollection:
    return ee.FeatureCollection(
        [
            ee.Feature(box(0, 0, 50, 40), {"zone": "a"}),
            ee.Feature(box(60, 10, 100, 90), {"zone": "b"}),
        ]
    )


def points() -> ee.FeatureCollection:
    return ee.FeatureCollection("users/me/points")


def picture(address: str, x: int, y: int, z: int) -> np.ndarray:
    """Fetch a tile as a browser's map does, and return its colours."""
    answer = requests.get(
        address.format(x=x, y=y, z=z),
        headers={"Accept": "image/*", "User-Agent": "Mozilla/5.0", "Referer": "http://localhost/"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("image/")
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


# ---- maps


def test_layers_of_every_kind_show_their_tiles(world: World) -> None:
    shown = geemap.Map(center=[45.15, 15], zoom=12, ee_initialize=False)
    z, x, y = TILE
    shown.addLayer(ee.Image("users/me/tile"), {"min": 0, "max": 255}, "image")
    colours = picture(shown.layers[-1].url, x, y, z)
    valid = world.tile > 50
    np.testing.assert_array_equal(colours[..., 3] == 255, valid)
    np.testing.assert_array_equal(colours[..., 0][valid], world.tile[valid])
    # Over the series: tile 12/2218/1472 holds it.
    z, x, y = at(15.008, 45.149, 12)
    shown.addLayer(ee.Image("users/me/dem"), {"min": 200, "max": 800, "palette": "terrain"}, "dem")
    assert picture(shown.layers[-1].url, x, y, z)[..., 3].any()
    shown.addLayer(collection(), {"bands": ["B8", "B4", "B4"], "min": 0, "max": 4000}, "series")
    assert picture(shown.layers[-1].url, x, y, z)[..., 3].any()
    shown.addLayer(whole(), {"color": "ff0000"}, "geometry")
    colours = picture(shown.layers[-1].url, x, y, z)
    red = colours[colours[..., 3] > 0]
    assert len(red) and (red[:, 0] > 150).all() and (red[:, 1:3] < 100).all()
    z, x, y = at(15.0001, 45.0, 14)
    shown.addLayer(points().style(color="0000ff", pointSize=4), {}, "points")
    colours = picture(shown.layers[-1].url, x, y, z)
    assert (colours[colours[..., 3] == 255][:, 2] > 150).any()
    away = picture(shown.layers[-1].url, 0, 0, z)
    assert not away[..., 3].any()
    names = [layer.name for layer in shown.layers[-5:]]
    assert names == ["image", "dem", "series", "geometry", "points"]
    shown.centerObject(ee.Image("users/me/dem"), 11)
    assert shown.center == pytest.approx([45.1492, 15.0081], abs=1e-3)


def at(lon: float, lat: float, z: int) -> tuple[int, int, int]:
    """Return the tile (z, x, y) that holds a place."""
    x = int((lon + 180) / 360 * 2**z)
    y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**z)
    return z, x, y


# ---- images


def test_export_of_images_by_every_option(world: World, tmp_path: Path) -> None:
    image, first = ee.Image("users/me/dem"), collection().first()
    path = tmp_path / "dem.tif"
    geemap.ee_export_image(image, str(path), region=whole(), verbose=False, **GRID)
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), world.dem)
        assert tuple(source.transform)[:6] == NORTH
    geemap.ee_export_image(
        first, str(tmp_path / "s2.tif"), region=whole(), file_per_band=True, verbose=False, **GRID
    )
    with rasterio.open(tmp_path / "s2.B8.tif") as source:
        np.testing.assert_array_equal(source.read(1), np.where(world.clear[0], world.nir[0], 0))
    geemap.ee_export_image(
        first.select("B4"), str(path), scale=10, region=whole(), unmask_value=7, verbose=False
    )
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), np.where(world.clear[0], world.red[0], 7))
    geemap.ee_export_image(image, str(path), scale=20, region=whole(), verbose=False)
    with rasterio.open(path) as source:
        assert source.shape == (48, 64) and source.transform.a == 20


def test_a_failed_export_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    geemap.ee_export_image(ee.Image("users/me/none"), str(tmp_path / "none.tif"), scale=10,
                           region=whole(), verbose=False)  # fmt: skip
    assert "Image asset 'users/me/none' not found" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_export_of_a_collection(world: World, tmp_path: Path) -> None:
    geemap.ee_export_image_collection(
        collection(), str(tmp_path), region=whole(), verbose=False, **GRID
    )
    for n in range(3):
        with rasterio.open(tmp_path / f"made_up_{n}.tif") as source:
            np.testing.assert_array_equal(source.read(2), np.where(world.clear[n], world.nir[n], 0))


def test_images_as_arrays(world: World) -> None:
    image = ee.Image("users/me/dem")
    np.testing.assert_array_equal(geemap.ee_to_numpy(image)[..., 0], world.dem)
    np.testing.assert_array_equal(geemap.ee_to_numpy(image, region=whole())[..., 0], world.dem)
    part = geemap.ee_to_numpy(collection().first(), region=box(5, 10, 25, 40), bands=["B8"])
    want = np.where(world.clear[0], world.nir[0], 0)[10:40, 5:25]
    np.testing.assert_array_equal(part[..., 0], want)
    assert geemap.ee_to_numpy(image, region=whole(), scale=20).shape == (48, 64, 1)


def test_collections_as_cubes(world: World) -> None:
    if geemap.__version__.split(".")[:2] < ["0", "38"]:
        pytest.skip("geemap before 0.38 passes what xee 0.1 does not take")
    cube = geemap.ee_to_xarray(collection(), ee_initialize=False)  # on the collection's own grid
    red = cube["B4"].transpose("time", "y", "x").values
    np.testing.assert_array_equal(np.isnan(red), ~world.clear)
    np.testing.assert_array_equal(red[world.clear], world.red[world.clear])


def test_thumbnails(tmp_path: Path) -> None:
    path = tmp_path / "dem.png"
    geemap.get_image_thumbnail(ee.Image("users/me/dem"), str(path), {"min": 200, "max": 800}, 100)
    assert max(Image.open(path).size) == 100
    geemap.get_image_collection_thumbnails(
        collection(), str(tmp_path / "all"), {"bands": ["B4"], "min": 0, "max": 3000}, 50,
        verbose=False,
    )  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == [
        f"made_up_{n}.jpg" for n in range(3)
    ]


def test_tasks_of_geemap(world: World) -> None:
    name = f"projects/local-proj/assets/geemap-{time.time_ns()}"
    geemap.ee_export_image_to_asset(
        ee.Image("users/me/dem"), description="to asset", assetId=name, region=whole(),
        crs=UTM, crsTransform=list(NORTH),
    )  # fmt: skip
    geemap.ee_export_image_to_drive(ee.Image("users/me/dem"), description="to drive", scale=10,
                                    region=whole())  # fmt: skip
    geemap.ee_export_vector_to_drive(points(), description="table", fileFormat="CSV")
    ours = ("to asset", "to drive", "table")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        states = {t.config["description"]: t.state for t in ee.batch.Task.list()}
        if all(states.get(name) == "COMPLETED" for name in ours):
            break
        time.sleep(0.05)
    assert {states.get(name) for name in ours} == {"COMPLETED"}
    np.testing.assert_array_equal(geemap.ee_to_numpy(ee.Image(name))[..., 0], world.dem)


# ---- tables


def test_tables_as_frames() -> None:
    frame = geemap.ee_to_gdf(points())
    assert frame["n"].tolist() == list(range(25)) and frame.crs.to_epsg() == 4326
    assert frame.geometry.y.tolist() == [45] * 25
    few = geemap.ee_to_gdf(points(), columns=["geometry", "n"])
    assert list(few.columns) == ["geometry", "n"]
    kept = geemap.ee_to_df(points(), remove_geom=False)
    assert isinstance(kept, pandas.DataFrame) and kept["n"].tolist() == list(range(25))


@pytest.mark.parametrize("form", ["csv", "geojson", "json", "kml", "kmz", "shp"])
def test_export_of_vectors(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"points.{form}"
    geemap.ee_export_vector(points(), str(path), verbose=False)
    if form == "csv":
        assert pandas.read_csv(path)["n"].tolist() == list(range(25))
    elif form in ("geojson", "json"):
        assert len(json.loads(path.read_text())["features"]) == 25
    elif form == "shp":
        assert geopandas.read_file(path, engine="pyogrio")["n"].tolist() == list(range(25))
    else:
        assert path.stat().st_size > 500


def test_geojson_boxes_and_fishnets() -> None:
    assert geemap.ee_to_geojson(points())["features"][3]["properties"]["n"] == 3
    west, south, east, north = geemap.ee_to_bbox(ee.Image("users/me/dem"))
    assert (west, east) == pytest.approx((15.0, 15.01628), abs=1e-4)
    assert (south, north) == pytest.approx((45.14483, 45.15348), abs=1e-4)
    area = ee.Geometry.Rectangle([15, 45, 15.02, 45.01])
    cells = geemap.fishnet(area, 0.005, 0.005, delta=0)
    assert cells.size().getInfo() == 8


# ---- statistics


STATISTICS: dict[str, Any] = {
    "MEAN": np.mean, "MEDIAN": np.median, "MAXIMUM": np.max, "MINIMUM": np.min, "SUM": np.sum,
    "STD": np.std, "VARIANCE": np.var, "COUNT": np.size,
}  # fmt: skip


@pytest.mark.parametrize("name", list(STATISTICS))
def test_zonal_statistics_equal_numpys(name: str, world: World, tmp_path: Path) -> None:
    path = tmp_path / "zones.csv"
    geemap.zonal_statistics(
        ee.Image("users/me/dem"), zones(), str(path), name, scale=10, verbose=False
    )
    table = pandas.read_csv(path).set_index("zone")
    column = next(c for c in table.columns if not c.startswith(("system", ".")))
    dem = world.dem.astype(float)
    want = [STATISTICS[name](dem[0:40, 0:50]), STATISTICS[name](dem[10:90, 60:100])]
    assert table[column].loc[["a", "b"]].tolist() == pytest.approx(want, rel=1e-6)


def test_zonal_statistics_of_a_series_and_by_group(world: World, tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    geemap.zonal_statistics(collection(), zones(), str(path), "MEAN", scale=10, verbose=False)
    table = pandas.read_csv(path).set_index("zone")
    want = world.red[1][10:90, 60:100][world.clear[1][10:90, 60:100]].mean()
    assert table.loc["b", "made_up_1_B4"] == pytest.approx(want, rel=1e-6)
    geemap.zonal_statistics_by_group(
        ee.Image("users/me/dem").gt(500).toByte(), zones(), str(path), "SUM",
        scale=10, verbose=False,
    )  # fmt: skip
    table = pandas.read_csv(path).set_index("zone")
    # The first band, of areas, is in degrees: so is the grid, and pixels are its nearest ones.
    # The zone in the middle is covered whole; pixels of UTM are 0.08 % larger than 100 m2.
    assert table.loc["b", "Class_sum"] == pytest.approx(3200 * 100.08, rel=1e-4)
    assert table.loc["b", "Class_0"] + table.loc["b", "Class_1"] == table.loc["b", "Class_sum"]
    share = (world.dem[10:90, 60:100] > 500).mean()
    assert table.loc["b", "Class_1"] / table.loc["b", "Class_sum"] == pytest.approx(share, rel=0.02)


def test_statistics_of_an_image(world: World) -> None:
    found = geemap.image_stats(ee.Image("users/me/dem"), whole(), 10).getInfo()
    dem = world.dem.astype(float)
    for key, want in (("min", dem.min()), ("max", dem.max()), ("mean", dem.mean()),
                      ("std", dem.std()), ("sum", dem.sum())):  # fmt: skip
        assert found[key]["elevation"] == pytest.approx(want, rel=1e-3), key
