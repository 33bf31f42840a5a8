"""Own rasters as tiles: values arrive where they belong; what does not fit is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box
from typer.testing import CliRunner

from thawslump import options
from thawslump.config import config_model, save_yaml
from thawslump.errors import ConfigError, DataError, StorageError
from thawslump.raster import grid_of, read, read_float
from thawslump.tiles import Source, import_tiles
from thawslump.tiles_commands import app
from thawslump.vector import rasterize
from thawslump.workspace import Workspace

UTM = "EPSG:32652"
GRID = GeoBox((40, 50), Affine(3.0, 0, 500_001.5, 0, -3.0, 7_900_000.5), UTM)
"""Edges that lie on no multiple of the pixel size: a drone's or Planet's grid."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    save_yaml(tmp_path / "ws" / "thawslump.yaml", config_model()())
    return Workspace(tmp_path / "ws")


def write(path: Path, array: np.ndarray, grid: GeoBox = GRID, crs: str | None = UTM, **profile):
    """Write a plain GeoTIFF; bands first."""
    array = np.atleast_3d(array) if array.ndim == 3 else array[None]
    settings = {
        "driver": "GTiff", "dtype": array.dtype.name, "count": len(array),
        "height": array.shape[1], "width": array.shape[2], "transform": grid.transform, "crs": crs,
    }  # fmt: skip
    with rasterio.open(path, "w", **settings | profile) as target:
        target.write(array)
    return path


def plane(grid: GeoBox = GRID) -> np.ndarray:
    """Return a plane over the CRS's coordinates: warping it must keep it."""
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]] + 0.5
    a = grid.transform
    x, y = a.a * columns + a.c, a.e * rows + a.f
    return ((x - 500_000) + 2 * (y - 7_900_000)).astype("float32")


def outlines(path: Path, *shapes, crs: str | None = UTM) -> Path:
    geopandas.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path)
    return path


INSIDE = box(500_031, 7_899_931, 500_061, 7_899_961)
"""Ten by ten pixel centres, none on an edge."""


def test_tiles_on_the_grid_of_the_first_raster_keep_every_value(tmp_path, workspace):
    change = plane()
    change[3:5, 7:9] = np.nan
    first = write(tmp_path / "change.tif", change)
    done = import_tiles(
        workspace, "lena", {"dNDVI": Source(first)}, role="train",
        outlines=outlines(tmp_path / "o.gpkg", INSIDE), pre=("2020-07-01", "2020-08-01"),
        post=("2023-07-01", "2023-08-01"),
    )  # fmt: skip
    stack = read_float(workspace.stack("lena"))
    np.testing.assert_array_equal(stack.array[0], change)
    assert stack.names == ("dNDVI",)
    assert stack.grid.transform == GRID.transform
    assert np.isnan(read(workspace.stack("lena")).nodata)
    assert done.notes == ()
    assert done.positives == 100
    site = Workspace(workspace.root).site("lena")
    assert site.source == "files" and site.role == "train"
    assert str(site.pre) == "2020-07-01 .. 2020-08-01"
    assert Workspace(workspace.root).outlines("lena") == tmp_path / "o.gpkg"


def test_another_crs_is_warped_and_said(tmp_path, workspace):
    first = write(tmp_path / "a.tif", plane())
    wide = GeoBox((60, 70), Affine(3.0, 0, 499_970.0, 0, -3.0, 7_900_030.0), UTM)
    to_polar = Transformer.from_crs(UTM, "EPSG:3413", always_xy=True)
    left, bottom, right, top = to_polar.transform_bounds(*wide.boundingbox.bbox, densify_pts=21)
    shape = (int((top - bottom) / 3), int((right - left) / 3))
    polar = GeoBox(shape, Affine(3.0, 0, left, 0, -3.0, top), "EPSG:3413")
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = to_polar.transform(left + 3 * columns, top - 3 * rows, direction="INVERSE")
    other = ((x - 500_000) + 2 * (y - 7_900_000)).astype("float32")
    other[~((x > 499_970) & (x < 500_180) & (y < 7_900_030) & (y > 7_899_850))] = -9999
    second = write(tmp_path / "b.tif", other, polar, "EPSG:3413", nodata=-9999)
    done = import_tiles(workspace, "p", {"dNDVI": Source(first), "slope": Source(second)})
    warped = read_float(workspace.stack("p"), ["slope"]).array[0]
    # Bilinear on a plane gives the plane.
    assert np.abs(warped - plane()).max() < 0.05
    assert done.notes == ("slope: b.tif was warped from EPSG:3413 to EPSG:32652 (bilinear)",)


def test_classes_are_not_averaged(tmp_path, workspace):
    first = write(tmp_path / "a.tif", plane())
    coarse = GeoBox((9, 11), Affine(15.0, 0, 499_995.0, 0, -15.0, 7_900_005.0), UTM)
    kinds = (np.arange(99).reshape(9, 11) % 2 * 6 + 1).astype("uint8")
    second = write(tmp_path / "lc.tif", kinds, coarse, nodata=0)
    done = import_tiles(
        workspace, "c",
        {"dNDVI": Source(first), "CART_LC_classified": Source(second), "own": Source(second)},
        categorical=["own"],
    )  # fmt: skip
    stack = read_float(workspace.stack("c"))
    for name in ("CART_LC_classified", "own"):
        assert set(np.unique(stack.band(name))) == {1.0, 7.0}
    assert "lc.tif has pixels of 15 on another grid and was resampled (nearest)" in done.notes[0]


@pytest.mark.parametrize("dtype,nodata", [("int16", -32768), ("uint8", None), ("float32", -9999.0)])
def test_nodata_scale_and_offset_become_physical_values(tmp_path, workspace, dtype, nodata):
    values = (np.arange(2000).reshape(40, 50) % 200).astype(dtype)
    if nodata is not None:
        values[0, :5] = nodata
    path = write(tmp_path / "s.tif", values, nodata=nodata)
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.5,), (-3.0,)
    import_tiles(workspace, "s", {"slope": Source(path)})
    found = read_float(workspace.stack("s")).array[0]
    expected = values.astype("float32") * 0.5 - 3.0
    if nodata is not None:
        expected[0, :5] = np.nan
    np.testing.assert_allclose(found, expected)


def test_an_alpha_band_is_a_mask(tmp_path, workspace):
    first = write(tmp_path / "a.tif", plane())
    wide = GeoBox((60, 70), Affine(3.0, 0, 499_970.0, 0, -3.0, 7_900_030.0), UTM)
    rgba = np.full((4, 60, 70), 90, "uint8")
    rgba[3] = 255
    rgba[3, :, 35:] = 0
    path = write(tmp_path / "rgba.tif", rgba, wide, photometric="RGB", alpha="YES")
    import_tiles(workspace, "m", {"dNDVI": Source(first), "red": Source(path, 1)})
    red = read_float(workspace.stack("m"), ["red"]).array[0]
    assert np.isnan(red[:, 30:]).all() and (red[:, :20] == 90).all()


def test_a_grid_in_degrees_gets_a_metric_one(tmp_path, workspace):
    lonlat = GeoBox((40, 60), Affine(1e-4, 0, 129.0, 0, -5e-5, 71.2), "EPSG:4326")
    path = write(tmp_path / "deg.tif", np.ones((40, 60), "float32"), lonlat, "EPSG:4326")
    done = import_tiles(workspace, "d", {"dNDVI": Source(path)}, resolution=5)
    grid = grid_of(workspace.stack("d"))
    assert str(grid.crs) == UTM and grid.transform.a == 5 and grid.transform.c % 5 == 0
    assert "its CRS counts in degrees" in done.notes[0]
    assert np.nanmax(read_float(workspace.stack("d")).array) == 1


def test_context_and_factors(tmp_path, workspace):
    first = write(tmp_path / "a.tif", plane())
    rgb = np.linspace(0, 0.6, 3 * 2000, dtype="float32").reshape(3, 40, 50)
    rgb[:, :2] = np.nan
    path = write(tmp_path / "rgb.tif", rgb)
    shots = {f"post_{c}": Source(path, i) for c, i in (("blue", 3), ("red", 1), ("green", 2))}
    import_tiles(
        workspace, "x", {"dNDVI": Source(first)}, context=shots, context_scale=10_000,
        factors={"elevation": Source(first)},
    )  # fmt: skip
    context = read(workspace.context("x"))
    assert context.names == ("post_red", "post_green", "post_blue")
    assert context.array.dtype == "uint16" and context.nodata == 65535
    assert (context.array[:, :2] == 65535).all()
    np.testing.assert_allclose(context.array[:, 2:], rgb[:, 2:] * 1e4, atol=0.51)
    factors = grid_of(workspace.factors("x"))
    assert factors.transform.a == 30 and tuple(factors.shape) == (4, 5)
    item = json.loads(workspace.item("x").read_text())
    assert set(item["assets"]) == {"stack", "context", "factors"}
    import_tiles(workspace, "x", {"dNDVI": Source(first)})
    assert not workspace.context("x").exists() and not workspace.factors("x").exists()


def test_counts_of_clear_images_are_not_reflectance(tmp_path, workspace):
    """A scale of reflectance leaves them and the hillshade alone."""
    count = np.full((3, 40, 50), 4, "float32")
    count[1:] = 0.25
    path = write(tmp_path / "mixed.tif", count)
    context = {"pre_observations": Source(path, 1), "pre_red": Source(path, 2)}
    import_tiles(workspace, "n", {"dNDVI": Source(path, 3)}, context=context, context_scale=10_000)
    held = read(workspace.context("n"))
    assert held.names == ("pre_red", "pre_observations")
    assert (held.array[0] == 2500).all() and (held.array[1] == 4).all()


def test_the_item_names_its_sources(tmp_path, workspace):
    import hashlib

    pystac = pytest.importorskip("pystac")
    path = write(tmp_path / "a.tif", plane())
    import_tiles(workspace, "i", {"dNDVI": Source(path)}, post=("2023-07-01", "2023-08-01"))
    facts = json.loads(workspace.item("i").read_text())
    (entry,) = facts["properties"]["thawslump:files"]
    assert entry["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["path"] == "a.tif" and entry["bands"] == ["dNDVI"]
    item = pystac.Item.from_dict(facts)
    assert item.assets["stack"].href == "./stack.tif"
    assert facts["properties"]["start_datetime"] == "2023-07-01T00:00:00Z"
    import_tiles(workspace, "undated", {"dNDVI": Source(path)})
    facts = json.loads(workspace.item("undated").read_text())
    pystac.Item.from_dict(facts)
    assert facts["properties"]["processing:lineage"].endswith("; undated")


def test_the_same_import_again_gives_the_same_bytes(tmp_path, workspace):
    path = write(tmp_path / "a.tif", plane())
    first = import_tiles(workspace, "again", {"dNDVI": Source(path)})
    before = [p.read_bytes() for p in first.written]
    second = import_tiles(Workspace(workspace.root), "again", {"dNDVI": Source(path)})
    assert [p.read_bytes() for p in second.written] == before


# What the user sees ---------------------------------------------------------------------------


def refused(kind, workspace, name="bad", bands=None, **keywords) -> str:
    with pytest.raises(kind) as caught:
        import_tiles(workspace, name, bands, **keywords)
    left = [p for p in workspace.tiles(name).glob("*")] if workspace.tiles(name).exists() else []
    assert left == []
    assert not (workspace.root / "sites" / f"{name}.yaml").exists()
    return str(caught.value)


def test_a_raster_without_a_crs(tmp_path, workspace):
    path = write(tmp_path / "nocrs.tif", plane(), crs=None)
    said = refused(DataError, workspace, bands={"dNDVI": Source(path)})
    assert "nocrs.tif has no CRS" in said and "gdal_edit.py -a_srs" in said


def test_a_missing_file(tmp_path, workspace):
    said = refused(DataError, workspace, bands={"dNDVI": Source(tmp_path / "none.tif")})
    assert "none.tif does not exist" in said


@pytest.mark.parametrize("warped", [False, True])
def test_a_truncated_raster(tmp_path, workspace, warped):
    good = write(tmp_path / "good.tif", plane())
    rng = np.random.default_rng(0)
    shift = 1.0 if warped else 0.0
    moved = GeoBox((40, 50), Affine(3.0, 0, 500_001.5 + shift, 0, -3.0, 7_900_000.5), UTM)
    noise = rng.standard_normal((40, 50)).astype("float32")
    path = write(tmp_path / "cut.tif", noise, moved, tiled=True, blockxsize=16, blockysize=16)
    path.write_bytes(path.read_bytes()[:-3000])
    said = refused(DataError, workspace, bands={"dNDVI": Source(good), "slope": Source(path)})
    assert "cut.tif" in said and ("damaged" in said or "could not be opened" in said)
    assert "truncated" in said


def test_a_missing_band(tmp_path, workspace):
    path = write(tmp_path / "two.tif", np.stack([plane(), plane()]))
    said = refused(DataError, workspace, bands={"dNDVI": Source(path, 3)})
    assert "two.tif has no band 3; it has 2: band1, band2" in said
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("ndvi_change", "slope")
    said = refused(DataError, workspace, bands={"dNDVI": Source(path, "ndvi_chnge")})
    assert 'Did you mean "ndvi_change"?' in said
    import_tiles(workspace, "ok", {"dNDVI": Source(path, "ndvi_change")})


def test_a_band_without_any_value(tmp_path, workspace):
    good = write(tmp_path / "good.tif", plane())
    path = write(tmp_path / "empty.tif", np.full((40, 50), np.nan, "float32"))
    said = refused(DataError, workspace, bands={"dNDVI": Source(good), "slope": Source(path)})
    assert "slope: every pixel of band 1 of" in said
    assert "empty.tif is missing (NaN or nodata)" in said


def test_a_raster_elsewhere(tmp_path, workspace):
    good = write(tmp_path / "good.tif", plane())
    far = GeoBox((40, 50), Affine(3.0, 0, 600_000, 0, -3.0, 7_900_000), UTM)
    path = write(tmp_path / "far.tif", plane(far), far)
    said = refused(DataError, workspace, bands={"dNDVI": Source(good), "slope": Source(path)})
    assert "far.tif does not overlap the tile" in said


def test_outlines_that_miss_the_tile(tmp_path, workspace):
    path = write(tmp_path / "a.tif", plane())
    far = outlines(tmp_path / "far.gpkg", box(600_000, 7_899_000, 600_100, 7_899_100))
    said = refused(DataError, workspace, bands={"dNDVI": Source(path)}, role="train", outlines=far)
    assert "none of its 1 outlines touches the tile. They span 131.7" in said
    assert "the tile 129.00" in said


@pytest.mark.parametrize("role", ["train", "validation"])
def test_no_slump_pixel(tmp_path, workspace, role):
    path = write(tmp_path / "a.tif", plane())
    tiny = outlines(tmp_path / "t.gpkg", box(500_030.2, 7_899_930.2, 500_030.4, 7_899_930.4))
    said = refused(DataError, workspace, bands={"dNDVI": Source(path)}, role=role, outlines=tiny)
    assert "there is no slump pixel to learn from" in said and "--resolution" in said
    change = plane()
    change[10:30, 8:25] = np.nan
    lost = write(tmp_path / "lost.tif", change)
    over = outlines(tmp_path / "o.gpkg", INSIDE)
    said = refused(DataError, workspace, bands={"dNDVI": Source(lost)}, role=role, outlines=over)
    assert "no slump pixel of bad has a value in any band" in said


def test_a_role_that_needs_outlines(tmp_path, workspace):
    path = write(tmp_path / "a.tif", plane())
    said = refused(ConfigError, workspace, bands={"dNDVI": Source(path)}, role="train")
    assert "needs `outlines`" in said


def test_outlines_without_a_crs(tmp_path, workspace):
    path = write(tmp_path / "a.tif", plane())
    with pytest.warns(UserWarning, match="crs"):
        bare = outlines(tmp_path / "bare.gpkg", INSIDE, crs=None)
    said = refused(DataError, workspace, bands={"dNDVI": Source(path)}, role="train", outlines=bare)
    assert "has no CRS, so its outlines cannot be placed" in said


def test_names_that_do_not_fit(tmp_path, workspace):
    path = write(tmp_path / "a.tif", plane())
    one = {"dNDVI": Source(path)}
    assert "No band was given" in refused(ConfigError, workspace, bands={})
    said = refused(ConfigError, workspace, bands=one, context={"post_rad": Source(path)})
    assert '"post_rad" is no context band' in said and 'Did you mean "post_red"?' in said
    said = refused(ConfigError, workspace, bands=one, grid_from="dNVDI")
    assert '"dNVDI" is none of the bands dNDVI. Did you mean "dNDVI"?' in said
    said = refused(ConfigError, workspace, bands=one, pre=("2020-09-01", "2020-07-01"))
    assert "start 2020-09-01 is not before end 2020-07-01" in said


def test_reflectance_of_one_is_refused(tmp_path, workspace):
    path = write(tmp_path / "a.tif", plane())
    dark = write(tmp_path / "dark.tif", np.full((40, 50), 0.3, "float32"))
    with pytest.raises(DataError, match=r"reach 0\.3 at most; reflectance \* 10000 was expected"):
        import_tiles(
            workspace, "r", {"dNDVI": Source(path)}, context={"post_red": Source(dark)}
        )  # fmt: skip
    assert not workspace.context("r").exists()


def test_a_site_of_earth_engine_is_not_replaced(tmp_path, workspace):
    from thawslump.site import Site

    windows = {k: {"start": "2020-07-01", "end": "2020-08-01"} for k in ("pre", "post")}
    site = Site(name="ee", role="area", bounds=(129, 71, 129.1, 71.1), **windows)
    save_yaml(workspace.root / "areas" / "ee.yaml", site)
    path = write(tmp_path / "a.tif", plane())
    with pytest.raises(ConfigError, match="exported from Earth Engine"):
        import_tiles(workspace, "ee", {"dNDVI": Source(path)})
    import_tiles(workspace, "own", {"dNDVI": Source(path)})
    with pytest.raises(ConfigError, match="was imported with the role area; now it is to be train"):
        import_tiles(
            Workspace(workspace.root), "own", {"dNDVI": Source(path)}, role="train",
            outlines=outlines(tmp_path / "o.gpkg", INSIDE),
        )  # fmt: skip


def test_a_full_disk_leaves_the_old_tile(tmp_path, workspace, monkeypatch):
    path = write(tmp_path / "a.tif", plane())
    import_tiles(workspace, "full", {"dNDVI": Source(path)})
    before = workspace.stack("full").read_bytes()

    def full(*args, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thawslump.tiles.copy_raster", full)
    with pytest.raises(StorageError, match="disk is full"):
        import_tiles(Workspace(workspace.root), "full", {"dNDVI": Source(path)})
    assert workspace.stack("full").read_bytes() == before
    assert [p.name for p in workspace.tiles("full").glob("*")].sort() == ["stack.tif"].sort()


# The command ----------------------------------------------------------------------------------


@pytest.fixture
def runner(workspace, monkeypatch):
    monkeypatch.setattr(options, "current", options.Options(workspace=workspace.root))

    def run(*words: str):
        return CliRunner().invoke(app, ["import", *map(str, words)])

    return run


def test_the_command_says_what_it_made(tmp_path, workspace, runner):
    first, over = write(tmp_path / "a.tif", plane()), outlines(tmp_path / "o.gpkg", INSIDE)
    second = write(tmp_path / "two:bands.tif", np.stack([plane(), plane()]))
    done = runner(
        "lena", "--band", f"dNDVI={first}", "--band", f"slope={second}:2", "--role", "train",
        "--outlines", over,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "lena: 50 x 40 pixels of 3 in EPSG:32652" in done.output
    assert "100 slump pixels" in done.output and "slope: 100.0%" in done.output
    assert grid_of(workspace.stack("lena")).transform == GRID.transform
    options.current.json = True
    words = ("lena", "-b", f"dNDVI={first}", "--role", "train", "--outlines", over)
    facts = json.loads(runner(*words).stdout)
    assert facts["positives"] == 100 and facts["shape"] == [40, 50]


@pytest.mark.parametrize("word", ["dNDVI", "=a.tif", "dNDVI="])
def test_the_command_wants_a_name_and_a_file(runner, word):
    done = runner("x", "--band", word)
    assert isinstance(done.exception, ConfigError)
    assert "NAME=FILE[:BAND] was expected" in str(done.exception)


def test_imported_tiles_go_through_the_chain_without_earth_engine(tmp_path):
    """From own rasters to candidates that wait for people, and a report that says so."""
    from scipy import ndimage

    from thawslump import pipeline
    from thawslump.config import parse_model
    from thawslump.report import render

    values = {
        "name": "own rasters",
        "made_up": True,
        "segmentation": {
            "runs": [{"architecture": "unet", "encoder": "tu-lcnet_050", "learning_rate": 0.01}],
            "crop": 32, "batch": 4, "iterations": 12, "epochs": 2, "ensemble_size": 1,
            "window": 128, "overlap": 32,
        },
        "candidates": {"minimum_area": 0.0, "threshold": 0.3},
        "executor": {"kind": "serial"},
    }  # fmt: skip
    save_yaml(tmp_path / "ws" / "thawslump.yaml", parse_model(config_model(), values, "test"))
    rng = np.random.default_rng(5)
    for number, role in enumerate(("train", "validation", "area")):
        grid = GeoBox((64, 64), Affine(3.0, 0, 500_000 + 900 * number, 0, -3.0, 7.9e6), UTM)
        x, y = grid.transform.c, grid.transform.f
        shapes = [
            box(x + a, y - b - 45, x + a + 45, y - b)
            for a, b in rng.uniform(5, 140, (6, 2)).round()
        ]
        lost = ndimage.gaussian_filter(rasterize(shapes, grid).astype("float32"), 0.5)
        change = -lost + 0.1 * rng.standard_normal((64, 64)).astype("float32")
        path = write(tmp_path / f"{role}.tif", change.astype("float32"), grid)
        import_tiles(
            Workspace(tmp_path / "ws"), f"own-{role}", {"dNDVI": Source(path)}, role=role,
            outlines=None if role == "area" else outlines(tmp_path / f"{role}.gpkg", *shapes),
            made_up=True,
        )  # fmt: skip
    workspace = Workspace(tmp_path / "ws")
    waiting = pipeline.run(workspace)
    assert waiting is not None and waiting.count > 0
    found = read_float(workspace.maps(1) / "own-area.tif")
    assert found.grid.transform == grid_of(workspace.stack("own-area")).transform
    page = render(Workspace(workspace.root))
    assert "own files" in page and "area.tif" in page
    assert f"{waiting.count} still wait for a decision" in page
    # Once more: the same candidates wait, and nothing is done again.
    assert pipeline.run(Workspace(workspace.root)).count == waiting.count


def test_a_real_site_of_two_sensors_with_an_experts_outlines(data_dir, workspace):
    """Bykovsky: Sentinel-2 at 10 m, Landsat 8 at 15 m on another grid, nodata -inf, a shapefile."""
    folder = data_dir / "rts_expert_labels"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    (s2,) = (folder / "01_Setup" / "Bykovsky" / "data").glob("S2_*.tif")
    (l8,) = (folder / "01_Setup" / "Bykovsky" / "data").glob("L8_*.tif")
    expert = folder / "02_UserResults" / "#02" / "Bykovsky_digitized.shp"
    done = import_tiles(
        workspace, "bykovsky",
        {"red": Source(s2, 3), "nir": Source(s2, 7), "landsat": Source(l8, 4)},
        role="train", outlines=expert,
        context={f"post_{c}": Source(s2, i) for c, i in (("blue", 1), ("green", 2), ("red", 3))},
    )  # fmt: skip
    stack = read_float(workspace.stack("bykovsky"))
    with rasterio.open(s2) as source:
        red = source.read(3).astype("float32")
        assert stack.grid.transform == source.transform
    seen = red != 0
    np.testing.assert_array_equal(stack.band("red")[seen], red[seen])
    assert np.isnan(stack.band("red")[~seen]).all()
    assert any("L8" in note and "pixels of 15" in note for note in done.notes)
    # The same ground three days apart: near infrared agrees, and best where nothing is shifted.
    nir, landsat = stack.band("nir"), stack.band("landsat")
    both = np.isfinite(landsat) & np.isfinite(nir)
    assert both.mean() > 0.9
    shifts = {
        (dy, dx): np.corrcoef(landsat[both], np.roll(nir, (dy, dx), (0, 1))[both])[0, 1]
        for dy in (-3, 0, 3) for dx in (-3, 0, 3)
    }  # fmt: skip
    assert shifts[0, 0] > 0.8 and max(shifts, key=shifts.__getitem__) == (0, 0)
    frame = geopandas.read_file(expert).to_crs(UTM)
    assert abs(done.positives * 100 - frame.area.sum()) < 0.05 * frame.area.sum()
