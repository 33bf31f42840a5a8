"""The unmodified xee (`xarray.open_dataset(engine="ee")`) against the emulator, over HTTP."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import rasterio.warp
import shapely
import xarray
from emulator_clients_world import (
    NORTH,
    SERIES,
    SHAPE,
    UTM,
    World,
    collection,
    connected,
    make_world,
)

from gee.emulator.server import running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("xee") / "catalog")


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(world.root, state=tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture(autouse=True)
def client(url: str) -> Iterator[None]:
    with warnings.catch_warnings(), connected(url=url):
        warnings.simplefilter("ignore")
        yield


def opened(what: Any, **options: Any) -> xarray.Dataset:
    given = {
        "engine": "ee", "crs": UTM, "crs_transform": NORTH, "shape_2d": (SHAPE[1], SHAPE[0]),
        # A request that fails shall not be tried for 46 seconds.
        "getitem_kwargs": {"max_retries": 0},
        **options,
    }  # fmt: skip
    return xarray.open_dataset(what, **given)


def check(dataset: xarray.Dataset, world: World) -> None:
    for name, want in (("B4", world.red), ("B8", world.nir)):
        got = dataset[name].transpose("time", "y", "x").values
        np.testing.assert_array_equal(np.isnan(got), ~world.clear)
        np.testing.assert_array_equal(got[world.clear], want[world.clear])


@pytest.mark.parametrize("form", ["collection", "ee://", "id"])
def test_values_masks_and_axes(form: str, world: World) -> None:
    what = {"collection": collection(), "ee://": f"ee://{SERIES}", "id": SERIES}[form]
    dataset = opened(what)
    check(dataset, world)
    times = dataset["time"].values.astype("datetime64[ms]").astype(np.int64)
    assert times.tolist() == world.dates
    assert (float(dataset.x[0]), float(dataset.y[0])) == (500005, 4999995)
    assert (float(dataset.x[-1]), float(dataset.y[-1])) == (501275, 4999045)
    assert set(dataset.data_vars) == {"B4", "B8"} and dataset["B4"].dtype == np.float32


def test_chunks_are_read_by_threads(world: World) -> None:
    import dask

    dataset = opened(collection(), chunks={"time": 1, "x": 50, "y": 40})
    assert dataset["B4"].chunksizes == {"time": (1, 1, 1), "x": (50, 50, 28), "y": (40, 40, 16)}
    with dask.config.set(scheduler="threads", num_workers=8):
        check(dataset.compute(), world)
        mean = dataset["B8"].mean("time").compute().transpose("y", "x").values
    with np.errstate(invalid="ignore"):
        want = np.nanmean(np.where(world.clear, world.nir, np.nan).astype(np.float32), axis=0)
    np.testing.assert_allclose(mean, want, rtol=1e-5)


def test_netcdf_by_chunks(world: World, tmp_path: Path) -> None:
    path = tmp_path / "cube.nc"
    opened(collection(), chunks={"time": 1, "x": 64}).to_netcdf(path, engine="h5netcdf")
    with xarray.open_dataset(path, engine="h5netcdf") as read:
        check(read, world)


def test_one_image_with_and_without_a_date(world: World) -> None:
    plain = opened(ee.Image("users/me/dem"))
    assert plain["elevation"].sizes == {"time": 1, "x": 128, "y": 96} or (
        plain["elevation"].sizes == {"time": 1, "y": 96, "x": 128}
    )
    wrapped = opened(
        ee.ImageCollection(ee.Image("users/me/dem").set("system:time_start", world.dates[0]))
    )
    assert str(wrapped["time"].values[0]).startswith("2022-01-08")
    for dataset in (plain, wrapped):
        got = dataset["elevation"].isel(time=0).transpose("y", "x").values
        np.testing.assert_array_equal(got, world.dem)


def test_parts_are_read_alone(world: World) -> None:
    dataset = opened(collection())
    row, col = np.argwhere(world.clear[1])[40]
    assert float(dataset["B4"].isel(time=1, x=col, y=row)) == world.red[1, row, col]
    piece = dataset["B8"].isel(time=2, x=slice(10, 30), y=slice(5, 20)).transpose("y", "x").values
    here = np.s_[2, 5:20, 10:30]
    np.testing.assert_array_equal(piece[world.clear[here]], world.nir[here][world.clear[here]])


def test_reprojection_takes_the_nearest_pixel(world: World) -> None:
    """Against GDAL's, where no centre lies within a twentieth of a pixel from a border."""
    to = (0.00015, 0.0, 15.0005, 0.0, -0.0001, 45.1530)
    width, height = 80, 60
    dataset = opened(
        ee.Image("users/me/dem"), crs="EPSG:4326", crs_transform=to, shape_2d=(width, height)
    )
    got = dataset["elevation"].isel(time=0).transpose("y", "x").values
    lon = to[2] + to[0] * (np.arange(width) + 0.5)
    lat = to[5] + to[4] * (np.arange(height) + 0.5)
    x, y = rasterio.warp.transform("EPSG:4326", UTM, *(a.ravel() for a in np.meshgrid(lon, lat)))
    col = (np.array(x) - NORTH[2]) / 10
    row = (NORTH[5] - np.array(y)) / 10
    inside = (
        (col > 0) & (col < 128) & (row > 0) & (row < 96)
        & (np.abs(col - np.round(col)) > 0.05) & (np.abs(row - np.round(row)) > 0.05)
    )  # fmt: skip
    assert inside.mean() > 0.7
    want = world.dem[row[inside].astype(int), col[inside].astype(int)]
    np.testing.assert_array_equal(got.ravel()[inside], want)


def test_computed_series_and_other_axes(world: World) -> None:
    def index(image: ee.Image) -> ee.Image:
        nd = image.normalizedDifference(["B8", "B4"]).rename("ndvi")
        return ee.Image(nd.copyProperties(image, ["system:time_start"]))

    got = opened(collection().map(index))["ndvi"].transpose("time", "y", "x").values
    red, nir = world.red.astype(float), world.nir.astype(float)
    np.testing.assert_allclose(
        got[world.clear], ((nir - red) / (nir + red))[world.clear], atol=1e-6
    )
    by_cloud = opened(
        collection(), primary_dim_name="cloud", primary_dim_property="CLOUDY_PIXEL_PERCENTAGE"
    )
    assert by_cloud["cloud"].values.tolist() == [0, 10, 20]
    assert opened(collection(), n_images=2).sizes["time"] == 2
    fast = opened(collection(), fast_time_slicing=True)["B4"].isel(time=2)
    clear = world.clear[2]
    values = fast.transpose("y", "x").values
    np.testing.assert_array_equal(values[clear], world.red[2][clear])


def test_bands_of_several_types_share_one() -> None:
    mixed = ee.Image("users/me/dem").addBands(ee.Image(7).toByte().rename("seven"))
    dataset = opened(ee.ImageCollection([mixed.set("system:time_start", 0)]))
    assert dataset["elevation"].dtype == dataset["seven"].dtype == np.float32
    assert (dataset["seven"].values == 7).all()


def test_helpers_find_the_grid() -> None:
    import xee

    found = xee.extract_grid_params(collection())
    assert found["crs"] == UTM and tuple(found["crs_transform"]) == NORTH
    assert found["shape_2d"] == (128, 96)
    fitted = xee.fit_geometry(
        shapely.box(500000, 4999040, 501280, 5000000),
        geometry_crs=UTM, grid_crs=UTM, grid_shape=(64, 48),
    )  # fmt: skip
    dataset = opened(ee.Image("users/me/dem"), **fitted)
    assert dict(dataset.sizes) == {"time": 1, "x": 64, "y": 48}


def test_a_refusal_is_not_hidden() -> None:
    with pytest.raises(ee.EEException, match="not found"):
        opened("ee://users/me/nonesuch")
    broken = collection().map(lambda image: image.addBands(ee.Image("users/me/none")))
    with pytest.raises(ee.EEException, match=r"Image asset 'users/me/none' not found"):
        opened(broken)["B4"].values  # noqa: B018 (reading asks)
