"""Folders of scenes, cubes, STAC, points and references into assets; stopped and started again."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.transform import Affine
from typer.testing import CliRunner

from gee.emulator.catalog import Catalog
from gee.emulator.commands import app
from gee.emulator.ingest import ingest
from gee.emulator.ingest_common import LEDGER, Ledger, dated, milliseconds
from gee.emulator.ingest_cubes import ingest_dataset
from gee.emulator.ingest_tables import read_table
from gee.emulator.store import timestamp
from thawslump.errors import ConfigError, DataError

UTM = "EPSG:32633"
GRID = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", writable=True)


def tiff(
    path: Path, array: np.ndarray, *, nodata: float | None = None, factors: tuple[int, ...] = (),
    crs: str = UTM,
) -> Path:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[1], width=array.shape[2], crs=crs,
        count=array.shape[0], dtype=array.dtype, nodata=nodata, transform=Affine(*GRID),
        tiled=True, blockxsize=64, blockysize=64,
    ) as target:  # fmt: skip
        target.write(array)
        if factors:
            target.build_overviews(list(factors), Resampling.average)
    return path


def whole(catalog: Catalog, asset_id: str, band: int = 0) -> tuple[np.ndarray, np.ndarray]:
    asset = catalog.get(asset_id)
    assert asset is not None
    height, width = asset.bands[band].shape
    return asset.bands[band].read(0, 0, height, 0, width)


# Folders of scenes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern", "date"),
    [
        ("S2_20230516T101031_x", "%Y%m%d", dt.datetime(2023, 5, 16)),
        ("LC08_2020123_b", "%Y%j", dt.datetime(2020, 5, 2)),
        ("a-05-16-23", "%m-%d-%y", dt.datetime(2023, 5, 16)),
        ("20230516_104531", "%Y%m%d_%H%M%S", dt.datetime(2023, 5, 16, 10, 45, 31)),
        # The first eight digits are no date, those after them are.
        ("99991399_20230516", "%Y%m%d", dt.datetime(2023, 5, 16)),
    ],
)
def test_dates_in_names(name: str, pattern: str, date: dt.datetime) -> None:
    assert dated(name, pattern) == date


@given(
    st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2068, 12, 31)), st.text("ab_-", max_size=5)
)
def test_dates_are_read_as_they_were_written(moment: dt.datetime, around: str) -> None:
    moment = moment.replace(microsecond=0)
    for pattern in ("%Y%m%dT%H%M%S", "%y-%j %H:%M:%S", "%d.%m.%Y %H %M %S"):
        assert dated(around + moment.strftime(pattern) + around, pattern) == moment


def test_bad_date_patterns_are_told() -> None:
    with pytest.raises(DataError, match="%Q is not known"):
        dated("x", "%Y%Q")
    with pytest.raises(DataError, match="it has none"):
        dated("x", "date")
    with pytest.raises(DataError, match="'x' holds no date of the form '%Y%m%d'"):
        dated("x", "%Y%m%d")


def a_folder(tmp_path: Path) -> Path:
    for number in range(3):
        tiff(tmp_path / "scenes" / f"s_2023050{number + 1}.tif", np.full((1, 5, 5), number, "u1"))
    (tmp_path / "scenes" / "notes.txt").write_text("not a raster")
    return tmp_path / "scenes"


def test_a_folder_becomes_a_collection(catalog: Catalog, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    made = ingest(
        catalog, [a_folder(tmp_path)], "users/me/s", names=["grey"], properties={"k": 1},
        policies={"grey": "MODE"}, progress=lambda *facts: told.append(facts),
    )  # fmt: skip
    assert made == [f"users/me/s/s_2023050{n}" for n in (1, 2, 3)]
    assert told == [(n + 1, 3, made[n]) for n in range(3)]
    collection = catalog.get("users/me/s")
    assert collection is not None and collection.type == "IMAGE_COLLECTION"
    for number, image in enumerate(catalog.children("users/me/s")):
        assert image.start_ms == milliseconds(f"2023-05-0{number + 1}")
        assert [b.id for b in image.bands] == ["grey"] and image.bands[0].policy == "MODE"
        assert (whole(catalog, image.id)[0] == number).all() and image.properties == {"k": 1}


def test_started_again_it_goes_on_with_what_is_missing(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_folder(tmp_path)
    put: list[str] = []
    real: Callable[..., None] = Catalog.put_image

    def counted(self: Catalog, asset_id: str, *rest: Any, **more: Any) -> None:
        if len(put) == 2 and not monkeypatch_done:
            raise KeyboardInterrupt
        put.append(asset_id)
        real(self, asset_id, *rest, **more)

    monkeypatch_done: list[int] = []
    monkeypatch.setattr(Catalog, "put_image", counted)
    with pytest.raises(KeyboardInterrupt):
        ingest(catalog, [folder], "c")
    monkeypatch_done.append(1)
    made = ingest(catalog, [folder], "c")
    assert put == made and len(made) == 3, "each once"
    # What changed is made again, what was deleted as well, the rest is not.
    tiff(folder / "s_20230502.tif", np.full((1, 5, 5), 9, "u1"))
    catalog.delete(made[2])
    put.clear()
    ingest(catalog, [folder], "c")
    assert put == made[1:] and (whole(catalog, made[1])[0] == 9).all()
    put.clear()
    ingest(catalog, [folder], "c", pyramiding="MODE")
    assert put == made, "other settings, other images"


def test_a_torn_note_of_a_killed_process_is_passed_over(catalog: Catalog) -> None:
    Ledger(catalog).note("a", "x")
    with (catalog.root / LEDGER).open("a") as stream:
        stream.write('{"id": "b", "dig')
    assert Ledger(catalog).known == {"a": "x"}


def test_a_folder_without_dates_makes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    tiff(tmp_path / "scenes" / "a.tif", np.zeros((1, 2, 2), "u1"))
    with pytest.raises(DataError, match=r"'a' holds no date.*\n.*--dates"):
        ingest(catalog, [tmp_path / "scenes"], "c")
    assert catalog.get("c") is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no raster"):
        ingest(catalog, [tmp_path / "empty"], "c")


# By reference -----------------------------------------------------------------------------------


def test_a_reference_reads_what_gdal_reads(catalog: Catalog, tmp_path: Path) -> None:
    """Every level and window equals GDAL's own reading of the file and its overviews."""
    array = np.random.default_rng(1).normal(size=(2, 700, 530)).astype(np.float32)
    array[0, 100:160, 200:300] = -9
    array[1, 5, 5] = np.nan
    path = tiff(tmp_path / "r.tif", array, nodata=-9, factors=(2, 4, 8))
    made = ingest(
        catalog, [path], "users/me/r", reference=True, names=["u", "v"], start="2023-05-16"
    )
    image = catalog.get(made[0])
    assert image is not None and image.size_bytes == 0
    assert image.start_ms == milliseconds("2023-05-16")
    assert [(b.id, b.levels, b.shape) for b in image.bands] == [
        ("u", 4, (700, 530)), ("v", 4, (700, 530))
    ]  # fmt: skip
    assert [p.name for p in (catalog.root / "users/me/r").iterdir()] == ["asset.json"]
    for level in range(4):
        options = {} if level == 0 else {"overview_level": level - 1}
        with rasterio.open(path, **options) as source:
            assert image.bands[0].level_shape(level) == source.shape
            truth = source.read(masked=True)
        h, w = image.bands[0].level_shape(level)
        windows = [(0, h, 0, w), (h // 3, h // 2, w // 4, w - 1), (h - 1, h, w - 1, w)]
        for r0, r1, c0, c1 in windows:
            for k, band in enumerate(image.bands):
                data, mask = band.read(level, r0, r1, c0, c1)
                part = truth[k, r0:r1, c0:c1]
                valid = ~np.ma.getmaskarray(part) & ~np.isnan(part.data)
                np.testing.assert_array_equal(mask, valid)
                np.testing.assert_array_equal(data, np.where(valid, part.data, 0))


def test_references_are_copied_and_deleted_without_their_file(
    catalog: Catalog, tmp_path: Path
) -> None:
    path = tiff(tmp_path / "r.tif", np.ones((1, 9, 9), np.int16))
    ingest(catalog, [path], "r", reference=True)
    catalog.copy("r", "s")
    catalog.delete("r")
    assert (whole(catalog, "s")[0] == 1).all()
    path.unlink()
    fresh = Catalog(catalog.root)
    with pytest.raises(DataError, match=r"r.tif, to which an asset refers, cannot be read"):
        whole(fresh, "s")
    tiff(path, np.full((1, 9, 9), 2, np.int16))
    with pytest.raises(DataError, match="has changed since"):
        whole(Catalog(catalog.root), "s")


def test_a_vrt_by_reference(catalog: Catalog, tmp_path: Path) -> None:
    source = tiff(tmp_path / "a.tif", np.arange(100, dtype=np.uint16).reshape(1, 10, 10))
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="20" rasterYSize="10"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1">'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
            '<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="10" ySize="10"/>'
            f'<DstRect xOff="{x}" yOff="0" xSize="10" ySize="10"/></SimpleSource>'
            for x in (0, 10)
        )
        + "</VRTRasterBand></VRTDataset>"
    )
    ingest(catalog, [vrt], "v", reference=True)
    data, mask = whole(catalog, "v")
    tile = np.arange(100).reshape(10, 10)
    np.testing.assert_array_equal(data, np.hstack([tile, tile]))
    assert mask.all()


def test_what_cannot_be_referred_to(catalog: Catalog, tmp_path: Path) -> None:
    one = tiff(tmp_path / "a.tif", np.zeros((1, 2, 2), "u1"))
    with pytest.raises(DataError, match="An image by reference is one file, not 2"):
        ingest(catalog, [one, one], "x", reference=True)
    with pytest.raises(DataError, match="2 band names were given"):
        ingest(catalog, [one], "x", reference=True, names=["a", "b"])
    with pytest.raises(DataError, match="The option pyramiding does not apply to a raster by ref"):
        ingest(catalog, [one], "x", reference=True, pyramiding="MODE")


# Cubes ------------------------------------------------------------------------------------------


def a_cube(**changes: Any) -> Any:
    import xarray

    time = np.array(["2023-05-16", "2023-06-01"], "datetime64[ns]")
    x = 500005.0 + 10 * np.arange(4)
    y = 4999995.0 - 10 * np.arange(3)
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    cube = xarray.Dataset(
        {"red": (("time", "y", "x"), values), "nir": (("time", "y", "x"), values + 100),
         "dem": (("y", "x"), values[0].astype(np.float32))},
        coords={"time": time, "y": y, "x": x, "spatial_ref": 0},
        attrs={"title": "made up"},
    )  # fmt: skip
    cube["spatial_ref"].attrs["crs_wkt"] = rasterio.CRS.from_string(UTM).to_wkt()
    return cube.assign(**changes)


def test_a_cube_becomes_a_collection_by_time(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "cube.nc"
    a_cube().to_netcdf(path, engine="h5netcdf")
    made = ingest(catalog, [path], "users/me/cube", policies={"red": "MIN"})
    assert made == ["users/me/cube/20230516", "users/me/cube/20230601"]
    values = a_cube()
    for number, image_id in enumerate(made):
        image = catalog.get(image_id)
        assert image is not None and [b.id for b in image.bands] == ["red", "nir"]
        assert image.bands[0].crs == UTM and image.bands[0].transform == GRID
        assert [b.policy for b in image.bands] == ["MIN", "MEAN"]
        assert image.start_ms == int(
            values.time.values[number].astype("datetime64[ms]").astype(int)
        )
        assert image.properties["title"] == "made up"
        np.testing.assert_array_equal(whole(catalog, image_id)[0], values["red"].values[number])


@pytest.mark.parametrize("order", [("time", "y", "x"), ("x", "y", "time"), ("y", "time", "x")])
@pytest.mark.parametrize("flips", ["", "y", "x", "yx"])
def test_any_order_and_direction_gives_the_same_image(
    catalog: Catalog, order: tuple[str, ...], flips: str
) -> None:
    cube = a_cube().drop_vars("dem").transpose(*order)
    for name in flips:
        cube = cube.isel({name: slice(None, None, -1)})
    made = ingest_dataset(catalog, cube, "c")
    image = catalog.get(made[1])
    assert image is not None and image.bands[0].transform == GRID
    np.testing.assert_array_equal(whole(catalog, made[1])[0], a_cube()["red"].values[1])


def test_scale_offset_and_fill_of_netcdf(catalog: Catalog, tmp_path: Path) -> None:
    """CF conventions, 8.1 and 2.5.1: packed data and missing values."""
    path = tmp_path / "packed.nc"
    truth = np.array([[0.5, np.nan], [2.0, 3.25]])
    import xarray

    cube = xarray.Dataset(
        {"t2m": (("latitude", "longitude"), truth)},
        coords={"latitude": [60.0, 59.5], "longitude": [10.0, 10.5]},
    )
    cube.to_netcdf(
        path, engine="h5netcdf",
        encoding={"t2m": {"dtype": "i2", "scale_factor": 0.25, "add_offset": 1, "_FillValue": -1}},
    )  # fmt: skip
    assert ingest(catalog, [path], "users/me/t") == ["users/me/t"]
    image = catalog.get("users/me/t")
    assert image is not None and image.bands[0].crs == "EPSG:4326"
    assert image.bands[0].transform == (0.5, 0, 9.75, 0, -0.5, 60.25)
    data, mask = whole(catalog, "users/me/t")
    assert data.dtype == np.float32
    np.testing.assert_array_equal(mask, np.isfinite(truth))
    np.testing.assert_allclose(data[mask], truth[mask])


def test_a_further_dimension_makes_bands(catalog: Catalog) -> None:
    import xarray

    values = np.arange(24).reshape(2, 3, 4)
    cube = xarray.Dataset(
        {"r": (("band", "y", "x"), values)},
        coords={"band": ["red", "nir"], "y": [2.0, 1, 0], "x": [0.0, 1, 2, 3]},
    )
    ingest_dataset(catalog, cube, "b", crs=UTM)
    assert [b.id for b in catalog.get("b").bands] == ["red", "nir"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(whole(catalog, "b", 1)[0], values[1])
    ingest_dataset(catalog, cube.assign_coords(band=[10, 20]), "b", crs=UTM)
    assert [b.id for b in catalog.get("b").bands] == ["r_10", "r_20"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.drop_vars("x"), "the dimension x has no coordinates"),
        (lambda c: c.assign_coords(x=[0.0, 1, 2, 9]), "its x are not evenly spaced"),
        (lambda c: c.isel(x=[0]), "two or more values of x"),
        (lambda c: c.drop_vars("spatial_ref"), "says nothing of its coordinate system"),
        (lambda c: c.assign_coords(time=[1, 2]), "its time are no dates"),
        (lambda c: c.isel(time=[]), "has no time"),
        (lambda c: c.drop_vars(["red", "nir", "dem"]), "has no variable over y and x"),
        (lambda c: c.rename(x="q"), "no dimension for x; it has"),
    ],
)
def test_cubes_that_cannot_be_taken_in(catalog: Catalog, change: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ingest_dataset(catalog, change(a_cube()), "c")


def test_variables_are_named_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(DataError, match=r"no variable 'rad' on its grid. Did you mean \"red\""):
        ingest_dataset(catalog, a_cube(), "c", names=["rad"])
    ingest_dataset(catalog, a_cube(), "c", names=["dem"])
    assert catalog.get("c").type == "IMAGE"  # type: ignore[union-attr]


def test_without_a_reader_of_zarr_it_says_so(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    (tmp_path / "a.zarr").mkdir()
    real = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "zarr" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(DataError, match=r"No reader of Zarr is installed.\npip install zarr"):
        ingest(catalog, [tmp_path / "a.zarr"], "z")


def test_times_within_a_day_have_names_of_their_own(catalog: Catalog) -> None:
    cube = a_cube().assign_coords(
        time=np.array(["2023-05-16T00", "2023-05-16T12"], "datetime64[ns]")
    )
    made = ingest_dataset(catalog, cube, "c")
    assert made == ["c/20230516T000000", "c/20230516T120000"]


# STAC -------------------------------------------------------------------------------------------


def an_item(folder: Path, number: int = 0, **asset: Any) -> Any:
    import pystac

    array = np.arange(50, dtype=np.int16).reshape(2, 5, 5) + 1000 * number
    tiff(folder / f"two{number}.tif", array)
    tiff(folder / f"thumb{number}.tif", array[:1])
    item = pystac.Item(
        f"scene-{number}",
        geometry={"type": "Polygon",
                  "coordinates": [[[15, 45], [15.1, 45], [15.1, 45.1], [15, 45]]]},
        bbox=[15, 45, 15.1, 45.1],
        datetime=dt.datetime(2023, 5, 16 + number, 10, 30, tzinfo=dt.UTC),
        properties={"eo:cloud_cover": 12.5, "platform": "made-up", "list": [1, 2], "gone": None},
    )  # fmt: skip
    bands = [{"name": "B4", "common_name": "red"}, {"name": "B8"}]
    fields = {"eo:bands": bands, **asset}
    item.add_asset(
        "image",
        pystac.Asset(f"./two{number}.tif", media_type=pystac.MediaType.COG, roles=["data"],
                     extra_fields=fields),
    )  # fmt: skip
    item.add_asset(
        "thumb", pystac.Asset(f"./thumb{number}.tif", roles=["thumbnail"], media_type="image/tiff")
    )
    item.set_self_href(str(folder / f"item{number}.json"))
    return item


def test_an_item_becomes_an_image(catalog: Catalog, tmp_path: Path) -> None:
    item = an_item(tmp_path)
    item.save_object()
    made = ingest(catalog, [tmp_path / "item0.json"], "users/me/i", properties={"mine": 1})
    assert made == ["users/me/i"]
    image = catalog.get("users/me/i")
    assert image is not None and [b.id for b in image.bands] == ["B4", "B8"]
    assert timestamp(image.start_ms / 1000) == "2023-05-16T10:30:00.000000Z"  # type: ignore[operator]
    assert image.properties == {
        "eo:cloud_cover": 12.5, "platform": "made-up", "list": [1, 2], "mine": 1
    }  # fmt: skip
    assert image.footprint == item.geometry
    np.testing.assert_array_equal(whole(catalog, made[0])[0], np.arange(25).reshape(5, 5))


@pytest.mark.parametrize(
    "fields",
    [
        {"raster:bands": [{"nodata": 3, "scale": 0.5, "offset": -1}, {}]},
        {"bands": [{"name": "B4", "nodata": 3, "raster:scale": 0.5, "raster:offset": -1},
                   {"name": "B8"}]},
    ],
    ids=["raster extension 1.1", "STAC 1.1"],
)  # fmt: skip
def test_scale_offset_and_nodata_of_stac(
    catalog: Catalog, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """Raster extension: value = scale * DN + offset."""
    an_item(tmp_path, **fields).save_object()
    ingest(catalog, [tmp_path / "item0.json"], "a")
    numbers = np.arange(25).reshape(5, 5)
    data, mask = whole(catalog, "a")
    assert data.dtype == np.float32
    np.testing.assert_array_equal(mask, numbers != 3)
    np.testing.assert_allclose(data[mask], (numbers * 0.5 - 1)[mask])
    assert whole(catalog, "a", 1)[0].dtype == np.int16, "the other band is left as it is"
    ingest(catalog, [tmp_path / "item0.json"], "b", raw=True)
    data, mask = whole(catalog, "b")
    assert data.dtype == np.int16
    np.testing.assert_array_equal(data[mask], numbers[mask])


@pytest.mark.parametrize("kind", ["collection", "catalog", "item collection"])
def test_several_items_become_a_collection(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    import pystac

    items = [an_item(tmp_path / "data", number) for number in range(3)]
    path = tmp_path / "data" / "all.json"
    if kind == "item collection":
        # Features without links to themselves: their paths count from the file.
        path.write_text(json.dumps(
            {"type": "FeatureCollection",
             "features": [item.to_dict(include_self_link=False) for item in items]}
        ))  # fmt: skip
    else:
        extent = pystac.Extent(
            pystac.SpatialExtent([[15, 45, 15.1, 45.1]]),
            pystac.TemporalExtent([[items[0].datetime, None]]),
        )
        parent: Any = (
            pystac.Collection("c", "made up", extent, title="C", license="CC0-1.0")
            if kind == "collection" else pystac.Catalog("c", "made up", title="C")
        )  # fmt: skip
        for item in items:
            item.make_asset_hrefs_absolute()
        parent.add_items(items)
        parent.normalize_and_save(
            str(tmp_path / "data" / "tree"), pystac.CatalogType.SELF_CONTAINED
        )
        name = "collection.json" if kind == "collection" else "catalog.json"
        path = tmp_path / "data" / "tree" / name
    told: list[int] = []
    made = ingest(catalog, [path], "users/me/all", progress=lambda done, *_: told.append(done))
    assert made == [f"users/me/all/scene-{n}" for n in range(3)] and told == [1, 2, 3]
    folder = catalog.get("users/me/all")
    assert folder is not None and folder.type == "IMAGE_COLLECTION"
    if kind != "item collection":
        assert folder.properties["title"] == "C"
    for number, image_id in enumerate(made):
        assert whole(catalog, image_id)[0][0, 0] == 1000 * number


def test_stac_that_leads_to_the_network_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    item = an_item(tmp_path)
    item.assets["image"].href = "https://far.example/a.tif"
    item.save_object()
    with pytest.raises(DataError, match=r"far.example/a.tif \(asset image .*not on this machine"):
        ingest(catalog, [tmp_path / "item0.json"], "x")
    (tmp_path / "catalog.json").write_text(json.dumps(
        {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "d",
         "links": [{"rel": "item", "href": "https://far.example/item.json"}]}
    ))  # fmt: skip
    with pytest.raises(DataError, match="not on this machine"):
        ingest(catalog, [tmp_path / "catalog.json"], "x")
    assert catalog.get("x") is None


def test_assets_of_an_item_are_chosen_and_named(catalog: Catalog, tmp_path: Path) -> None:
    an_item(tmp_path).save_object()
    path = tmp_path / "item0.json"
    ingest(catalog, [path], "t", assets=["thumb"])
    assert [b.id for b in catalog.get("t").bands] == ["thumb"]  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"has no asset 'imag'. Did you mean \"image\""):
        ingest(catalog, [path], "t", assets=["imag"])
    (tmp_path / "two0.tif").unlink()
    with pytest.raises(DataError, match=r"two0.tif \(asset image of item scene-0\) does not exist"):
        ingest(catalog, [path], "t")


# Points and tables ------------------------------------------------------------------------------


def csv_rows(tmp_path: Path, text: str, **options: Any) -> list[dict[str, Any]]:
    (tmp_path / "p.csv").write_text(text)
    return read_table(tmp_path / "p.csv", **options)


def test_points_of_a_csv(tmp_path: Path) -> None:
    rows = csv_rows(
        tmp_path,
        "Latitude,Longitude,n,code,share,word\n45,15,1,007,0.5,a\n46.5,16,2,010,,\n,,3,1,nan,b\n",
    )
    assert [r["geometry"] and r["geometry"]["coordinates"] for r in rows] == [
        [15, 45], [16, 46.5], None
    ]  # fmt: skip
    assert [r["properties"] for r in rows] == [
        {"n": 1, "code": "007", "share": 0.5, "word": "a"},
        {"n": 2, "code": "010"},
        {"n": 3, "code": "1", "word": "b"},
    ]


def test_places_of_a_csv_in_other_ways(tmp_path: Path) -> None:
    rows = csv_rows(tmp_path, "e;n;k\n500000;0;1\n", x="e", y="n", crs=UTM, delimiter=";")
    assert rows[0]["geometry"]["coordinates"] == pytest.approx([15, 0], abs=1e-9)
    text = 'id,.geo\n1,"{""type"":""Point"",""coordinates"":[1,2]}"\n2,POINT (3 4)\n3,\n'
    rows = csv_rows(tmp_path, text)
    assert [r["geometry"] and r["geometry"]["coordinates"] for r in rows] == [[1, 2], [3, 4], None]
    assert [r["properties"] for r in rows] == [{"id": 1}, {"id": 2}, {"id": 3}]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n1,2\n", {}, r"has no columns of places; its columns are a, b"),
        ("lon,lat\nx,2\n", {}, "line 2: 'x', '2' is no place"),
        ("lon,lat\n1,2,3\n", {}, "a row with more cells"),
        ("lon,lat\n1,2\n", {"x": "long", "y": "lat"}, "no column 'long'. Did you mean \"lon\""),
        ("geometry\nPOINT 1\n", {}, "'POINT 1' is no geometry"),
    ],
)
def test_points_that_cannot_be_read(
    tmp_path: Path, text: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        csv_rows(tmp_path, text, **options)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6)), min_size=1)
)
def test_numbers_of_a_csv_come_back(values: list[Any]) -> None:
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "n.csv")
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("lon", "lat", "v"), *((1, 2, v) for v in values)])
        rows = read_table(path)
    assert [row["properties"].get("v") for row in rows] == values


def test_a_geopackage_with_layers_asks_which(catalog: Catalog, tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import Point, Polygon

    path = tmp_path / "g.gpkg"
    when = [dt.datetime(2023, 5, 16), None]
    frame = geopandas.GeoDataFrame(
        {"n": [1, None], "when": when}, geometry=[Point(1, 2), None], crs="EPSG:4326"
    )
    frame.to_file(path, layer="points", engine="pyogrio")
    square = Polygon([(0, 0), (1, 0), (1, 1)])
    geopandas.GeoDataFrame({"a": ["x"]}, geometry=[square], crs="EPSG:4326").to_file(
        path, layer="areas", engine="pyogrio"
    )
    with pytest.raises(DataError, match=r"has 2 layers: points, areas.\n.*--layer"):
        ingest(catalog, [path], "g")
    with pytest.raises(DataError, match=r"no layer 'point'. Did you mean \"points\""):
        ingest(catalog, [path], "g", layer="point")
    ingest(catalog, [path], "g", layer="points")
    rows = catalog.features("g")
    assert rows[0]["properties"] == {"n": 1.0, "when": "2023-05-16T00:00:00"}
    assert rows[1] == {"type": "Feature", "id": "00000001", "geometry": None, "properties": {}}


def test_a_zipped_shapefile(tmp_path: Path) -> None:
    import zipfile

    import geopandas
    from shapely.geometry import Point

    frame = geopandas.GeoDataFrame(
        {"n": [1, 2], "word": ["é", "b"]}, geometry=[Point(5e5, 0), Point(5e5, 10)], crs=UTM
    )
    frame.to_file(tmp_path / "p.shp", engine="pyogrio")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in tmp_path.glob("p.*"):
            if path.suffix != ".zip":
                archive.write(path, f"folder/{path.name}")
        archive.writestr("folder/readme.txt", "not read")
    rows = read_table(tmp_path / "p.zip", safe=True)
    assert [row["properties"] for row in rows] == [{"n": 1, "word": "é"}, {"n": 2, "word": "b"}]
    assert rows[0]["geometry"]["coordinates"] == pytest.approx([15, 0], abs=1e-9)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.shp", b"")
        archive.writestr("b.shp", b"")
    with pytest.raises(DataError, match=r"two.zip holds 2 shapefiles, expected one"):
        read_table(tmp_path / "two.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"bad.zip cannot be read as an archive"):
        read_table(tmp_path / "bad.zip")


def test_mixed_real_tables(catalog: Catalog, data_dir: Path) -> None:
    """ARTS: Polygon and MultiPolygon mixed, an empty row, numbers as text, EPSG:3413."""
    import geopandas

    files = sorted((data_dir / "arts_rts").rglob("*.geojson")) or sorted(
        (data_dir / "arts_rts").rglob("*.gpkg")
    )
    assert files, "the data set holds vector files"
    for path in files[:3]:
        frame = geopandas.read_file(path, engine="pyogrio").to_crs("EPSG:4326")
        rows = read_table(path)
        assert len(rows) == len(frame)
        for row, place in zip(rows, frame.geometry, strict=True):
            if place is None or place.is_empty:
                assert row["geometry"] is None
            else:
                assert row["geometry"]["type"] == place.geom_type


# The command ------------------------------------------------------------------------------------


def test_the_command_takes_all_kinds(tmp_path: Path) -> None:
    run = CliRunner().invoke
    folder = a_folder(tmp_path)
    catalog = ["--catalog", str(tmp_path / "c")]
    out = run(app, ["ingest", str(folder), "--as", "s", "--pyramiding", "b1=mode", *catalog])
    assert out.exit_code == 0 and "s/s_20230501" in out.output.split()
    image = Catalog(tmp_path / "c").get("s/s_20230501")
    assert image is not None and image.bands[0].policy == "MODE"
    bad = run(app, ["ingest", str(folder), "--as", "t", "--pyramiding", "b9=MODE", *catalog])
    assert "There is no band 'b9' to pyramid with MODE" in str(bad.exception)
    bad = run(app, ["ingest", str(folder), "--as", "t", "--pyramiding", "median", *catalog])
    assert isinstance(bad.exception, ConfigError) and "band=POLICY" in str(bad.exception)
    bad = run(app, ["ingest", str(folder), "--as", "t", "--layer", "x", *catalog])
    assert "The option layer does not apply to a folder of scenes" in str(bad.exception)
    bad = run(app, ["ingest", str(folder), "--as", "../t", *catalog])
    assert "is not valid" in str(bad.exception)
    (tmp_path / "p.csv").write_text("lon,lat,n\n1,2,3\n")
    out = run(
        app, ["ingest", str(tmp_path / "p.csv"), "--as", "p", "--x", "lon", "--y", "lat", *catalog]
    )
    assert out.output.strip() == "p"
    a_cube().to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    out = run(
        app, ["ingest", str(tmp_path / "cube.nc"), "--as", "cube", "--bands", "red", *catalog]
    )
    assert out.exit_code == 0 and out.output.split()[-1] == "cube/20230601"
