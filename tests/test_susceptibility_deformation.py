"""Deformation points: read whatever they are called, laid over classes, refused in plain words."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from thawslump import raster
from thawslump.errors import DataError
from trainer.susceptibility.deformation import rates_by_class, read_points
from trainer.susceptibility.steps.deformation import overlay

CRS = "EPSG:32648"
AFFINE = Affine(30, 0, 370_000, 0, -30, 3_560_000)


def class_map(path: Path, classes: np.ndarray) -> Path:
    grid = GeoBox(classes.shape, AFFINE, CRS)
    raster.write_cog(
        path, classes[None].astype(np.uint8), grid, ("class",), nodata=0, categorical=True
    )
    return path


def points(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up places on the map (its CRS) and rates."""
    dice = np.random.default_rng(seed)
    metres = np.array([370_000, 3_560_000]) + dice.uniform(0, 6000, (count, 2)) * [1, -1]
    return metres, dice.normal(0, 8, count)


def lonlat(metres: np.ndarray) -> np.ndarray:
    found = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*metres.T)
    return np.stack(found, axis=1)


def table(path: Path, **columns: object) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("east", "north", "rate", "unit"),
    [
        ("lon", "lat", "vel_mm_yr", 1),
        ("Longitude", "Latitude", "Mean velocity", 1),
        ("x", "y", "V", 1),
        ("LON", "LAT", "VEL_cm_yr", 0.1),
        ("long", "lat", "velocity_m_year", 0.001),
        ("lon", "lat", "vel (mm/yr)", 1),
        ("lon", "lat", "v_los_mm_per_year", 1),
    ],
)
def test_columns_may_be_called_as_they_are(
    tmp_path: Path, east: str, north: str, rate: str, unit: float
) -> None:
    "Rates come back in mm/yr, with the points without a rate counted"
    metres, speed = points()
    speed[3] = np.nan
    there = lonlat(metres)
    columns = {"id": np.arange(400), east: there[:, 0], north: there[:, 1], rate: speed * unit}
    found = read_points(table(tmp_path / "a.csv", **columns))
    keep = np.isfinite(speed)
    np.testing.assert_allclose(found.velocity, speed[keep])
    np.testing.assert_allclose(found.lonlat, there[keep])
    assert found.column == rate and found.left_out == 1


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "geojson"])
def test_vector_files_bring_their_crs(tmp_path: Path, suffix: str) -> None:
    metres, speed = points()
    crs = "EPSG:4326" if suffix == "geojson" else CRS
    places = lonlat(metres) if suffix == "geojson" else metres
    frame = gpd.GeoDataFrame({"velocity": speed}, geometry=gpd.points_from_xy(*places.T), crs=crs)
    path = tmp_path / f"a.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_file(path)
    found = read_points(path)
    np.testing.assert_allclose(found.lonlat, lonlat(metres), atol=1e-7)
    np.testing.assert_allclose(found.velocity, speed)


def test_bad_points_are_refused_in_words(tmp_path: Path) -> None:
    metres, speed = points()
    east, north = lonlat(metres).T
    path = tmp_path / "a.csv"
    with pytest.raises(DataError, match=r"a\.csv does not exist; deformation points"):
        read_points(path)
    table(path, lon=east, lat=north, height=speed)
    with pytest.raises(DataError, match="no column of rates; it has height") as told:
        read_points(path)
    assert "vel_mm_yr" in str(told.value.hint)
    table(path, station=east, velocity=speed)
    with pytest.raises(DataError, match="no columns of longitude and latitude; it has station"):
        read_points(path)
    table(path, lon=north, lat=east, velocity=speed)
    with pytest.raises(DataError, match=r"'lat' reaches 103\.\d+ degrees.* probably swapped"):
        read_points(path)
    table(path, x=metres[:, 0], y=metres[:, 1], velocity=speed)
    with pytest.raises(DataError, match=r"'x' and 'y' reach 37\d+ and 3\.\d+e\+06; degrees"):
        read_points(path)
    table(path, lon=east, lat=north, velocity=speed / 1000)
    with pytest.raises(DataError, match=r"below 0\.02\d+ mm/yr in size; .* probably in m/yr"):
        read_points(path)
    table(path, lon=east, lat=north, velocity=["fast"] * 400)
    with pytest.raises(DataError, match="'velocity' holds 'fast', which is no number"):
        read_points(path)
    table(path, lon=east, lat=north, velocity=np.nan)
    with pytest.raises(DataError, match="none of the 400 points has a finite rate"):
        read_points(path)
    frame = gpd.GeoDataFrame({"velocity": speed}, geometry=gpd.points_from_xy(*metres.T))
    with pytest.warns(UserWarning, match="crs"):
        frame.to_file(tmp_path / "a.gpkg")
    with pytest.raises(DataError, match="says no CRS"):
        read_points(tmp_path / "a.gpkg")
    frame.set_crs(CRS).buffer(10).to_frame().assign(velocity=speed).to_file(tmp_path / "b.gpkg")
    with pytest.raises(DataError, match="holds Polygon; points were expected"):
        read_points(tmp_path / "b.gpkg")
    (tmp_path / "c.gpkg").write_text("nothing")
    with pytest.raises(DataError, match=r"c\.gpkg could not be read as points"):
        read_points(tmp_path / "c.gpkg")


def test_rates_inside_each_class_are_those_of_its_points(tmp_path: Path) -> None:
    "Two maps, points on both, between them and on nodata; against a plain look-up"
    dice = np.random.default_rng(1)
    classes = dice.integers(0, 4, (200, 200))
    maps = {
        "a": class_map(tmp_path / "a.tif", classes[:, :120]),
        "b": class_map(tmp_path / "b.tif", classes),  # the first map that has a point counts
    }
    metres, speed = points(3000)
    metres[:7] += 1e6
    path = table(tmp_path / "p.csv", lon=lonlat(metres)[:, 0], lat=lonlat(metres)[:, 1], vel=speed)
    found = overlay(path, maps, ("low", "medium", "high"), 200, 0)
    column = ((metres[:, 0] - 370_000) // 30).astype(int)
    row = ((3_560_000 - metres[:, 1]) // 30).astype(int)
    below = np.zeros(3000, int)
    inside = (column >= 0) & (column < 200) & (row >= 0) & (row < 200)
    below[inside] = classes[row[inside], column[inside]]
    facts = found.facts
    assert facts["points"] == (below > 0).sum()
    assert facts["points_off_the_maps"] == (below == 0).sum() >= 7
    for number, each in enumerate(facts["classes"], start=1):
        mine = speed[below == number]
        assert each["points"] == mine.size
        assert each["median"] == pytest.approx(np.median(mine))
        assert each["quartiles"] == pytest.approx(np.quantile(mine, [0.25, 0.75]))
        assert each["share_moving"] == pytest.approx((np.abs(mine) > 10).mean())
        low, high = each["median_interval"]
        assert low <= each["median"] <= high
    assert set(found.sites.tolist()) == {0, 1}
    assert (found.sites == 0).sum() == ((below > 0) & (column < 120)).sum()
    assert overlay(path, maps, ("low", "medium", "high"), 200, 0).facts == facts


def test_points_elsewhere_and_swapped_points_are_said(tmp_path: Path) -> None:
    maps = {"a": class_map(tmp_path / "a.tif", np.ones((200, 200)))}
    metres, speed = points()
    there = lonlat(metres)
    path = table(tmp_path / "p.csv", lon=there[:, 0] - 30, lat=there[:, 1], v=speed)
    with pytest.raises(DataError, match=r"none of its 400 points lies on .*\(a\); they span 73\."):
        overlay(path, maps, ("all alike",), 100, 0)
    # A place whose longitude could be a latitude.
    crs, affine = "EPSG:32638", Affine(30, 0, 500_000, 0, -30, 3_560_000)
    grid = GeoBox((200, 200), affine, crs)
    raster.write_cog(
        tmp_path / "b.tif", np.ones((1, 200, 200), np.uint8), grid, ("class",), nodata=0
    )
    back = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    east, north = back.transform(*(metres + np.array([130_000, 0])).T)
    table(path, lon=north, lat=east, v=speed)
    with pytest.raises(DataError, match="with longitude and latitude exchanged they do"):
        overlay(path, {"b": tmp_path / "b.tif"}, ("all alike",), 100, 0)


def test_intervals_are_wide_where_blocks_move_as_one() -> None:
    "Points that all say the same inside a block are worth one point each block"
    dice = np.random.default_rng(2)
    blocks = np.repeat(np.arange(20), 50)
    alone = dice.normal(size=1000)
    together = dice.normal(size=20)[blocks] + 1e-6 * alone
    one = np.ones(1000, int)
    wide = rates_by_class(together, one, 1, blocks, 500)[0]["median_interval"]
    narrow = rates_by_class(alone, one, 1, blocks, 500)[0]["median_interval"]
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    # About what theory says of the median of 1,000 independent ones: 1.2533 / sqrt(n) either way.
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * 1.2533 / np.sqrt(1000), rel=0.35)


def test_a_class_without_points_and_one_block_have_no_interval() -> None:
    low, high, none = rates_by_class(
        np.array([1.0, 2.0, -20.0]), np.array([1, 1, 2]), 3, np.zeros(3, int), 100
    )
    assert low["median_interval"] is None and high["share_moving"] == 1.0
    assert none == {"points": 0, "blocks": 0}


def test_real_radar_points_are_read(data_dir: Path) -> None:
    "Maoxian (Sichuan): rates of persistent scatterers as published"
    path = data_dir / "insar_maoxian" / "maoxian_PS_tidy.csv"
    found = read_points(path)
    frame = pd.read_csv(path, usecols=["lon", "lat", "vel_mm_yr"])
    assert found.column == "vel_mm_yr" and len(found.velocity) == len(frame) == 97
    np.testing.assert_array_equal(found.velocity, frame["vel_mm_yr"])
    assert (np.abs(found.lonlat - [103.66, 32.07]) < 0.1).all()
