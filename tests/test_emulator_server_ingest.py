"""Files into assets; the real cubes of Sen12Landslides against their own annotations and a DEM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from typer.testing import CliRunner

from gee.emulator.catalog import Catalog
from gee.emulator.commands import app
from gee.emulator.ingest import ingest
from gee.emulator.ingest_common import milliseconds
from gee.emulator.ingest_rasters import ingest_geotiff
from gee.emulator.ingest_sen12 import ingest_sen12, sen12_annotations, sen12_mask
from gee.emulator.ingest_tables import ingest_table
from thawslump.errors import DataError

DAY = 86_400_000


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", writable=True)


def raster(path: Path, array: np.ndarray, *, crs: str | None = "EPSG:32633", nodata=None, names=()):
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[1], width=array.shape[2],
        count=array.shape[0], dtype=array.dtype, crs=crs, nodata=nodata,
        transform=Affine(10, 0, 500000, 0, -10, 5000000),
    ) as target:  # fmt: skip
        target.write(array)
        for number, name in enumerate(names, 1):
            target.set_band_description(number, name)
    return path


# ---- GeoTIFF and tables


def test_geotiff_keeps_bands_grid_nodata_and_date(catalog: Catalog, tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = raster(tmp_path / "a.tif", array, nodata=5, names=["red", "near ir"])
    made = ingest_geotiff(
        catalog, [path], "projects/me-proj/assets/x", properties={"k": 1}, start="2023-05-16"
    )
    image = catalog.get(made)
    assert image is not None and [b.id for b in image.bands] == ["red", "near_ir"]
    assert image.start_ms == milliseconds("2023-05-16") and image.properties == {"k": 1}
    assert image.bands[0].crs == "EPSG:32633"
    assert image.bands[0].transform == (10, 0, 500000, 0, -10, 5000000)
    data, mask = image.bands[0].read(0, 0, 3, 0, 4)
    np.testing.assert_array_equal(mask, array[0] != 5)
    np.testing.assert_array_equal(data[mask], array[0][mask])


def test_geotiff_names_and_several_files(catalog: Catalog, tmp_path: Path) -> None:
    a = raster(tmp_path / "a.tif", np.zeros((1, 2, 2), np.uint8))
    b = raster(tmp_path / "b.tif", np.ones((1, 2, 2), np.float32))
    ingest(catalog, [a, b], "ab")
    assert [x.id for x in catalog.get("ab").bands] == ["b1", "b2"]  # type: ignore[union-attr]
    ingest(catalog, [a, b], "ab", names=["u", "v"], nodata=0.0)
    image = catalog.get("ab")
    assert image is not None and [x.id for x in image.bands] == ["u", "v"]
    assert not image.bands[0].read(0, 0, 2, 0, 2)[1].any()
    with pytest.raises(DataError, match="1 band names were given"):
        ingest(catalog, [a, b], "ab", names=["u"])


def test_rasters_that_cannot_be_taken_in(catalog: Catalog, tmp_path: Path) -> None:
    bare = raster(tmp_path / "bare.tif", np.zeros((1, 2, 2), np.uint8), crs=None)
    with pytest.raises(DataError, match="has no coordinate system"):
        ingest(catalog, [bare], "x")
    whole = raster(tmp_path / "w.tif", np.random.default_rng(0).random((1, 200, 200)))
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cut.tif cannot be read"):
        ingest(catalog, [tmp_path / "cut.tif"], "x")
    with pytest.raises(DataError, match=r'does not exist. Did you mean "bare.tif"'):
        ingest(catalog, [tmp_path / "bar.tif"], "x")
    with pytest.raises(DataError, match="An asset id is missing"):
        ingest(catalog, [whole])
    (tmp_path / "n.txt").write_text("")
    with pytest.raises(DataError, match="cannot be ingested together"):
        ingest(catalog, [whole, tmp_path / "n.txt"], "x")
    ingest(catalog, [whole], "x")
    with pytest.raises(DataError, match="nothing can be put below it"):
        ingest(catalog, [whole], "x/y")


def test_vectors_become_longitude_and_latitude(catalog: Catalog, tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import Point, shape

    frame = geopandas.GeoDataFrame(
        {"name": ["a", None]}, geometry=[Point(500000, 0), Point(500000, 4427757.2)],
        crs="EPSG:32633",
    )  # fmt: skip
    frame.to_file(tmp_path / "t.gpkg", driver="GPKG", engine="pyogrio")
    ingest_table(catalog, tmp_path / "t.gpkg", "t", properties={"made": "up"})
    rows = catalog.features("t")
    points = [shape(row["geometry"]) for row in rows]
    assert points[0].distance(Point(15, 0)) < 1e-9 and points[1].distance(Point(15, 40)) < 1e-4
    assert rows[0]["properties"] == {"name": "a"} and rows[1]["properties"] == {}
    assert catalog.get("t").properties == {"made": "up"}  # type: ignore[union-attr]


def test_commands(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", np.ones((1, 2, 2), np.uint8), names=["red"])
    folder = str(tmp_path / "cat")
    run = CliRunner().invoke
    words = ["ingest", str(path), "--as", "users/me/a", "--catalog", folder, "-p", "x=[1]"]
    assert run(app, [*words, "--start", "2023-05-16"]).output.strip() == "users/me/a"
    out = run(app, ["list", "users/me", "--catalog", folder]).output
    assert out.split() == ["IMAGE", "2023-05-16", "users/me/a", "red"]
    assert Catalog(Path(folder)).get("users/me/a").properties == {"x": [1]}  # type: ignore[union-attr]
    bad = run(app, [*words, "--pyramiding", "median"])
    assert "expected one of MEAN" in str(bad.exception)
    assert "no asset 'nothing'" in str(run(app, ["list", "nothing", "--catalog", folder]).exception)


# ---- Sen12Landslides, real data


@pytest.fixture(scope="module")
def cubes(data_dir: Path) -> dict[str, Path]:
    folder = data_dir / "sen12landslides_italy4120"
    return {key: folder / f"italy_{key}_4120.nc" for key in ("s1asc", "s1dsc", "s2")}


@pytest.fixture(scope="module")
def site(cubes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(tmp_path_factory.mktemp("sen12") / "catalog", writable=True)
    made = ingest(catalog, list(cubes.values()))
    assert len(made) == 46
    return catalog


def test_all_41_annotations_fall_on_the_mask(cubes: dict[str, Path]) -> None:
    from rasterio.features import geometry_mask
    from shapely.geometry import box

    for path in cubes.values():
        mask, crs, transform = sen12_mask(path)
        annotations = sen12_annotations(path)
        assert crs == "EPSG:32632" and mask.shape == (128, 128) and int(mask.sum()) == 631
        assert len({a.id for a in annotations}) == 41

        def hit(grid: np.ndarray, bounds, transform=transform) -> bool:
            inside = geometry_mask(
                [box(*bounds)], grid.shape, Affine(*transform), invert=True, all_touched=True
            )
            return bool(grid[inside].any())

        assert all(hit(mask, a.bounds) for a in annotations)
        # As the file stores it, rows being x, nearly none of them does.
        assert sum(hit(mask.T, a.bounds) for a in annotations) < 10


def test_cube_lies_where_an_independent_dem_has_the_same_heights(
    site: Catalog, data_dir: Path
) -> None:
    image = site.get("sen12landslides/dem")
    assert image is not None
    heights, mask = image.bands[0].read(0, 0, 128, 0, 128)
    assert mask.all()
    a, _, x, _, e, y = image.bands[0].transform
    assert (a, e) == (10, -10)
    with rasterio.open(data_dir / "emilia_dem10m" / "emilia_dem10m_utm32n.tif") as source:
        assert source.crs.to_epsg() == 32632 and image.bands[0].crs == "EPSG:32632"
        row, col = source.index(x + 5, y - 5)
        for shift in [(0, 0), (0, 1), (1, 0)]:
            window = (
                (row + shift[0], row + shift[0] + 128),
                (col + shift[1], col + shift[1] + 128),
            )
            same = np.array_equal(source.read(1, window=window), heights)
            assert same == (shift == (0, 0))


def test_sentinel1_has_what_the_cube_knows_and_no_more(
    site: Catalog, cubes: dict[str, Path]
) -> None:
    import xarray

    images = site.children("COPERNICUS/S1_GRD")
    assert len(images) == 30
    assert {b.id for image in images for b in image.bands} == {"VV", "VH"}
    known = {key for image in images for key in image.properties}
    assert known == {
        "instrumentMode", "orbitProperties_pass", "transmitterReceiverPolarisation", "source",
        "time_precision",
    }  # fmt: skip
    passes = [image.properties["orbitProperties_pass"] for image in images]
    assert passes.count("ASCENDING") == passes.count("DESCENDING") == 15
    assert all(image.start_ms is not None and image.start_ms % DAY == 0 for image in images)
    first = next(i for i in images if i.properties["orbitProperties_pass"] == "ASCENDING")
    with xarray.open_dataset(cubes["s1asc"], mask_and_scale=False) as cube:
        stored = cube["VV"].values[0]
        day = str(cube["time"].values[0])[:10]
    assert first.start_ms == milliseconds(day) == milliseconds("2022-11-24")
    data, mask = first.bands[0].read(0, 0, 128, 0, 128)
    np.testing.assert_array_equal(mask, stored.T != 0)
    np.testing.assert_array_equal(data[mask], stored.T[mask])
    assert (~mask).sum() == 28


def test_sentinel2_bands_times_and_cloud_shares(site: Catalog) -> None:
    images = site.children("COPERNICUS/S2_SR_HARMONIZED")
    assert len(images) == 15
    names = ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "SCL"]
    for image in images:
        assert [b.id for b in image.bands] == names
        assert all(b.dtype == np.uint16 for b in image.bands[:-1])
        assert image.bands[-1].dtype == np.uint8 and image.bands[-1].policy == "MODE"
        assert "SCL" in image.properties["CLOUDY_PIXEL_PERCENTAGE_source"]
    shares = {i.index[:8]: i.properties["CLOUDY_PIXEL_PERCENTAGE"] for i in images}
    cloudy = sorted(day for day, share in shares.items() if share > 95)
    assert cloudy == ["20230513", "20230518"], "the two dates around the event"
    assert sum(share < 1 for share in shares.values()) == 12
    winter = next(i for i in images if i.index.startswith("20221124"))
    assert int((~winter.bands[0].read(0, 0, 128, 0, 128)[1]).sum()) == 5802, "fill is masked"


def test_netcdf_that_is_no_cube_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    import xarray

    path = tmp_path / "other.nc"
    xarray.Dataset({"a": ("x", [1.0, 2.0])}).to_netcdf(path)
    with pytest.raises(DataError, match="An asset id is missing"):
        ingest(catalog, [path])
    with pytest.raises(DataError, match="no dimension for y; it has x"):
        ingest(catalog, [path], "a")
    with pytest.raises(DataError, match="is no cube of Sen12Landslides"):
        ingest_sen12(catalog, [path])
    (tmp_path / "torn.nc").write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"torn.nc cannot be read"):
        ingest(catalog, [tmp_path / "torn.nc"])


def test_dates() -> None:
    assert milliseconds("2023-05-16T10:30:00+02:00") == milliseconds("2023-05-16T08:30:00Z")
    assert json.dumps(milliseconds("1969-12-31")) == str(-DAY)
    with pytest.raises(DataError, match="'16 May' is no date"):
        milliseconds("16 May")
