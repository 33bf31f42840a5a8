"""Rasters: what is written comes back, and what is wrong is said in words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from shapely.geometry import box

from thawslump.errors import ConfigError, DataError
from thawslump.grid import coarser, grid_over, lonlat_bounds, metres_per_pixel, same_grid
from thawslump.raster import read, read_float, write_cog
from thawslump.vector import rasterize, read_outlines

GRID = GeoBox((70, 90), Affine(10, 0, 500_000, 0, -10, 7_900_700), "EPSG:32652")
ROOT = Path(__file__).resolve().parents[1]


def some(count: int = 2) -> np.ndarray:
    array = np.random.default_rng(0).normal(size=(count, 70, 90)).astype("float32")
    array[0, 3, 4] = np.nan
    return array


def test_cog_comes_back_whole(tmp_path: Path) -> None:
    array = some()
    write_cog(
        tmp_path / "a.tif",
        array,
        GRID,
        ["dVV", "dNDVI"],
        nodata=np.nan,
        units=["dB", "1"],
        sources=["s1", "s2"],
        tags={"made_up": "true"},
    )
    back = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.array, array)
    assert back.names == ("dVV", "dNDVI")
    assert same_grid(back.grid, GRID)
    with rasterio.open(tmp_path / "a.tif") as source:
        assert source.units == ("dB", "1")
        assert source.tags()["made_up"] == "true"
        assert source.tags(2)["source"] == "s2"
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    """Checksums decide what is redone, so files must not carry times or names."""
    for name in ("a.tif", "b.tif"):
        write_cog(tmp_path / name, some(), GRID, ["x", "y"], nodata=np.nan, tags={"k": "v"})
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_float_reading_applies_scale_and_nodata(tmp_path: Path) -> None:
    array = np.full((1, 70, 90), 5000, dtype="uint16")
    array[0, 0, 0] = 65535
    write_cog(tmp_path / "p.tif", array, GRID, ["probability"], nodata=65535, scales=[1e-4])
    back = read_float(tmp_path / "p.tif")
    assert np.isnan(back.array[0, 0, 0])
    assert back.band("probability")[1, 1] == pytest.approx(0.5)


def test_window_carries_its_own_grid(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", some(), GRID, ["x", "y"], nodata=np.nan)
    part = read(tmp_path / "a.tif", ["y"], Window(5, 7, 20, 10))
    np.testing.assert_array_equal(part.array, some()[1:, 7:17, 5:25])
    assert (part.grid.transform.c, part.grid.transform.f) == (500_050, 7_900_630)


def test_missing_band_is_named_with_the_nearest(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", some(), GRID, ["dVV", "dNDVI"], nodata=np.nan)
    with pytest.raises(
        DataError, match=r'has no band \'dNVDI\'; it has dVV, dNDVI\. Did you mean "dNDVI"'
    ):
        read(tmp_path / "a.tif", ["dNVDI"])


def test_truncated_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(1).normal(size=(1, 700, 900)).astype("float32")
    write_cog(path, noise, GeoBox((700, 900), GRID.transform, GRID.crs), ["x"], nodata=np.nan)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.tif (is damaged|could not be opened)"):
        read(path)


def test_no_crs_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=9,
        height=8,
        count=1,
        dtype="uint8",
        transform=GRID.transform,
    ) as target:
        target.write(np.ones((1, 8, 9), "uint8"))
    with pytest.raises(DataError, match=r"a\.tif has no CRS\.\nSay which one.*gdal_edit"):
        read(path)


def test_absent_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.tif does not exist"):
        read(tmp_path / "no.tif")


def test_wrong_shape_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not fit a grid of \(70, 90\)"):
        write_cog(tmp_path / "a.tif", np.zeros((1, 5, 5)), GRID, ["x"], nodata=None)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A real full disk: a tmpfs of 600 kB in a mount namespace of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: no full disk can be made")
    folder = tmp_path / "small"
    folder.mkdir()
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import numpy as np
from pathlib import Path
from test_raster import GRID, some
from thawslump.files import write_text
from thawslump.raster import read, write_cog
from thawslump.errors import StorageError
from odc.geo.geobox import GeoBox
path = Path({str(folder)!r}) / "a.tif"
write_cog(path, some(), GRID, ["x", "y"], nodata=np.nan)
before = path.read_bytes()
big = np.random.default_rng(0).normal(size=(4, 700, 900)).astype("float32")
large = GeoBox((700, 900), GRID.transform, GRID.crs)
for write in (
    lambda: write_cog(path, big, large, list("abcd"), nodata=None),
    lambda: write_text(path, "x" * 2_000_000),
):
    try:
        write()
    except StorageError as error:
        assert "could not be written" in str(error) and "unchanged" in str(error), error
    else:
        raise SystemExit("nothing was raised")
    assert path.read_bytes() == before
assert [p.name for p in path.parent.iterdir()] == ["a.tif"]
print("held")
"""
    script = f'mount -t tmpfs -o size=600k none {folder} && exec {sys.executable} -c "$CODE"'
    out = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={"CODE": code, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "CPL_LOG_ERRORS": "OFF"},
    )
    if "Operation not permitted" in out.stderr or "ermission denied" in out.stderr:
        pytest.skip(f"no mount namespace here: {out.stderr.strip()}")
    assert out.stdout.strip() == "held", out.stderr


@given(
    west=st.floats(-179, 178),
    south=st.floats(-70, 79),
    width=st.floats(0.001, 0.9),
    height=st.floats(0.001, 0.9),
    resolution=st.sampled_from([10.0, 20.0, 30.0]),
)
def test_grid_covers_its_bounds_on_whole_multiples(
    west: float, south: float, width: float, height: float, resolution: float
) -> None:
    bounds = (west, south, west + width, south + height)
    grid = grid_over(bounds, resolution)
    assert grid.transform.c % resolution == 0
    assert grid.transform.f % resolution == 0
    w, s, e, n = lonlat_bounds(grid)
    slack = 1e-3 * resolution / 111_000 * 10 / np.cos(np.radians(80))
    assert w <= bounds[0] + slack and s <= bounds[1] + slack
    assert e >= bounds[2] - slack and n >= bounds[3] - slack


def test_coarser_grid_keeps_the_corner() -> None:
    factors = coarser(GRID, 30)
    assert tuple(factors.shape) == (24, 30)
    assert (factors.transform.c, factors.transform.f) == (500_000, 7_900_700)
    assert metres_per_pixel(factors) == 30


def test_bounds_in_wrong_order_and_degrees_are_refused() -> None:
    with pytest.raises(ConfigError, match="west must be below east"):
        grid_over((10, 60, 9, 61), 10)
    with pytest.raises(ConfigError, match="counts in degrees"):
        grid_over((9, 60, 10, 61), 10, "EPSG:4326")


def test_rasterize_puts_later_outlines_on_top() -> None:
    left, bottom, right, top = 500_000, 7_900_000, 500_900, 7_900_700
    whole, part = box(left, bottom, right, top), box(left, bottom, left + 100, top)
    burned = rasterize([whole, part], GRID, values=[1, 7], fill=255)
    assert (burned[:, :10] == 7).all() and (burned[:, 10:] == 1).all()
    assert (rasterize([], GRID, fill=255) == 255).all()


def test_outlines_without_crs_or_polygons_are_refused(tmp_path: Path) -> None:
    (tmp_path / "points.geojson").write_text(
        '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},'
        '"geometry":{"type":"Point","coordinates":[129.0,71.8]}}]}'
    )
    with pytest.raises(DataError, match=r"points\.geojson holds no polygons"):
        read_outlines(tmp_path / "points.geojson", "EPSG:32652")
    (tmp_path / "junk.gpkg").write_text("junk")
    with pytest.raises(DataError, match=r"junk\.gpkg could not be read as a vector file"):
        read_outlines(tmp_path / "junk.gpkg", "EPSG:32652")
    with pytest.raises(DataError, match=r"none\.gpkg does not exist"):
        read_outlines(tmp_path / "none.gpkg", "EPSG:32652")
