"""The unmodified geedim against the emulator, over HTTP: its own downloads, and through geemap.

geedim asks for tiles by download address and opens them with aiohttp.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import rasterio
from emulator_clients_world import NORTH, SHAPE, UTM, World, box, collection, connected, make_world
from scipy import ndimage

from gee.emulator.server import running

gd = pytest.importorskip("geedim", minversion="2.0")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("geedim") / "catalog")


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(world.root, state=tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture(autouse=True)
def client(url: str) -> Iterator[None]:
    with warnings.catch_warnings(), connected(url=url):
        # geedim 2.0.0 multiplies transforms with *, of which affine 3 warns.
        warnings.simplefilter("ignore")
        yield


def computed(image: ee.Image) -> Any:
    """Return an image without id: of others geedim asks Google for metadata."""
    return image.multiply(1).copyProperties(image)


def prepared(image: ee.Image, **options: Any) -> Any:
    given = {"crs": UTM, "crs_transform": list(NORTH), "shape": SHAPE, **options}
    return ee.Image(computed(image)).gd.prepareForExport(**given).gd


def test_description_of_an_image() -> None:
    found = ee.Image("users/me/dem").gd
    assert found.shape == SHAPE and found.crs == UTM and tuple(found.transform) == NORTH
    assert found.dtype == "float32" and found.nodata == float("-inf") and found.scale == 10
    assert found.bandNames == ["elevation"] and found.count == 1 and found.bounded
    first = collection().first().gd
    assert first.dtype == "uint16" and first.date.isoformat() == "2022-01-08T00:00:00+00:00"
    assert first.properties["CLOUDY_PIXEL_PERCENTAGE"] == 0 and first.index == "made_up_0"
    composite = collection().mean().gd
    assert composite.shape is None
    with pytest.raises(ValueError, match="does not have a fixed projection"):
        composite.prepareForExport()


def test_geotiff_by_tiles(world: World, tmp_path: Path) -> None:
    path = tmp_path / "dem.tif"
    # 128 x 96 pixels in tiles of at most 50 x 50.
    prepared(ee.Image("users/me/dem")).toGeoTIFF(path, max_tile_dim=50)
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), world.dem)
        assert tuple(source.transform)[:6] == NORTH and source.crs.to_epsg() == 32633
        assert source.nodata == float("-inf") and source.descriptions == ("elevation",)
    with pytest.raises(FileExistsError):
        prepared(ee.Image("users/me/dem")).toGeoTIFF(path)


def test_masked_pixels_are_the_lowest_value_of_the_type(world: World, tmp_path: Path) -> None:
    image = prepared(collection().first(), dtype="uint16")
    path = tmp_path / "s2.tif"
    image.toGeoTIFF(path)
    with rasterio.open(path) as source:
        assert source.nodata == 0 and source.descriptions == ("B4", "B8")
        got = source.read()
    clear = world.clear[0]
    np.testing.assert_array_equal(got[0], np.where(clear, world.red[0], 0))
    np.testing.assert_array_equal(got[1], np.where(clear, world.nir[0], 0))
    array = image.toNumPy(masked=True)
    np.testing.assert_array_equal(array.mask[..., 0], ~clear)
    np.testing.assert_array_equal(array.data[..., 1][clear], world.nir[0][clear])


def test_structured_arrays_and_xarray(world: World) -> None:
    image = prepared(collection().first(), dtype="int32")
    structured = image.toNumPy(structured=True)
    assert structured.dtype.names == ("B4", "B8") and structured["B8"].dtype == np.int32
    cube = image.toXarray(masked=True)
    red = cube.sel(band="B4").transpose("y", "x")
    np.testing.assert_array_equal(np.isnan(red), ~world.clear[0])
    np.testing.assert_array_equal(red.values[world.clear[0]], world.red[0][world.clear[0]])
    assert float(red.x[0]) == 500005 and float(red.y[0]) == 4999995
    assert json.loads(cube.attrs["ee"])["CLOUDY_PIXEL_PERCENTAGE"] == 0


def test_a_region_keeps_the_grid_and_a_scale_changes_it(world: World) -> None:
    image = ee.Image(computed(ee.Image("users/me/dem")))
    native = image.gd.prepareForExport(region=box(10, 20, 60, 50)).gd
    assert native.shape == (30, 50)
    assert tuple(native.transform) == (10, 0, 500100, 0, -10, 4999800)
    np.testing.assert_array_equal(native.toNumPy()[..., 0], world.dem[20:50, 10:60])
    # Without a pyramid at 20 m, each pixel is the native one right of and below its centre.
    coarse = image.gd.prepareForExport(region=box(0, 0, 128, 96), scale=20, crs=UTM).gd
    assert coarse.shape == (48, 64)
    np.testing.assert_array_equal(coarse.toNumPy()[..., 0], world.dem[1::2, 1::2])


def test_resampling_and_types(world: World) -> None:
    """Bilinear against scipy's, on a finer grid."""
    smooth = prepared(
        ee.Image("users/me/dem"), resampling="bilinear", dtype="float64",
        crs_transform=[5, 0, 500100, 0, -5, 4999900], shape=(20, 30),
    )  # fmt: skip
    array = smooth.toNumPy()
    assert array.dtype == np.float64 and array.shape == (20, 30, 1)
    rows = 10 + (np.arange(20) + 0.5) / 2 - 0.5
    columns = 10 + (np.arange(30) + 0.5) / 2 - 0.5
    places = np.meshgrid(rows, columns, indexing="ij")
    want = ndimage.map_coordinates(world.dem.astype(float), places, order=1)
    np.testing.assert_allclose(array[..., 0], want, atol=1e-3)


def test_cloud_export_is_watched_to_its_end() -> None:
    image = ee.Image(computed(ee.Image("users/me/dem")))
    task = image.gd.prepareForExport(region=box(0, 0, 10, 10)).gd.toGoogleCloud(
        "geedim-export", folder="bucket", type="cloud", wait=True
    )
    assert task.status()["state"] == "COMPLETED"


def test_collections(world: World) -> None:
    found = collection().gd
    assert list(found.properties) == ["made_up_0", "made_up_1", "made_up_2"]
    assert found.properties["made_up_2"]["CLOUDY_PIXEL_PERCENTAGE"] == 20
    plain = collection().map(lambda image: ee.Image(image.multiply(1).copyProperties(image)))
    images = plain.map(
        lambda image: ee.Image(image).select("B4").toFloat().copyProperties(
            image, ["system:index", "system:time_start"])
    )  # fmt: skip
    arrays = ee.ImageCollection(images).gd.prepareForExport(
        crs=UTM, crs_transform=list(NORTH), shape=SHAPE
    )
    cube = arrays.gd.toNumPy(masked=True)
    assert cube.shape == (*SHAPE, 3, 1) or cube.shape == (*SHAPE, 1, 3)
    series = np.moveaxis(cube.reshape(*SHAPE, 3), -1, 0)
    np.testing.assert_array_equal(np.ma.getmaskarray(series), ~world.clear)
    np.testing.assert_array_equal(series.data[world.clear], world.red[world.clear])


def test_geemap_downloads_through_geedim(world: World, tmp_path: Path) -> None:
    import geemap

    path = tmp_path / "geemap.tif"
    image = ee.Image(computed(ee.Image("users/me/dem")))
    geemap.download_ee_image(
        image, str(path), crs=UTM, crs_transform=list(NORTH), shape=SHAPE, max_tile_dim=64
    )
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), world.dem)
    series = collection().map(lambda i: ee.Image(i.multiply(1).copyProperties(i)))
    geemap.download_ee_image_collection(
        series.limit(2), str(tmp_path / "all"), region=box(0, 0, 128, 96), crs=UTM, scale=10
    )
    with rasterio.open(tmp_path / "all" / "made_up_1.tif") as source:
        got = source.read(1)
    np.testing.assert_array_equal(got[world.clear[1]], world.red[1][world.clear[1]])


def test_a_refusal_reaches_the_user_in_words() -> None:
    bad = ee.Image(computed(ee.Image("users/me/dem"))).select("nonesuch")
    with pytest.raises(ee.EEException, match=r"Image\.select: Band pattern 'nonesuch'"):
        bad.gd.prepareForExport(crs=UTM, crs_transform=list(NORTH), shape=SHAPE)
