"""A made-up world on both sides of the 180th meridian, cheap to compute, its values known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from gee.emulator.catalog import BandData, Catalog
from thawslump.config import save_yaml
from thawslump.grid import lonlat_bounds
from thawslump.site import Site, Window
from thawslump.workspace import Workspace

Array = NDArray[Any]
CRS = "EPSG:32660"
LATITUDE = 66.0
PRE = Window(start=dt.date(2020, 6, 1), end=dt.date(2020, 9, 1))
POST = Window(start=dt.date(2021, 6, 1), end=dt.date(2021, 9, 1))
DATES = ("2020-07-10", "2021-07-12")


def corner() -> tuple[float, float]:
    """Where 180 degrees, 66 N lies in UTM zone 60, to the pixel."""
    x, y = Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform(180.0, LATITUDE)
    return float(round(x / 30) * 30), float(round(y / 30) * 30)


def world(side: int = 240, resolution: float = 10.0, margin: float = 0.0) -> GeoBox:
    """A square with the meridian up its middle."""
    x, y = corner()
    count = round((side * 10 + 2 * margin) / resolution)
    half = side * 5 + margin
    return GeoBox((count, count), Affine(resolution, 0, x - half, 0, -resolution, y + half), CRS)


def lonlat(grid: GeoBox) -> tuple[Array, Array]:
    """Longitude (0 to 360) and latitude of the centres of a grid's pixels."""
    rows, cols = grid.shape
    a = grid.transform
    x, y = np.meshgrid(a.c + (np.arange(cols) + 0.5) * a.a, a.f + (np.arange(rows) + 0.5) * a.e)
    lon, lat = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(lon) % 360.0, np.asarray(lat)


def height(lon: Array, lat: Array) -> Array:
    """Metres: hills of some kilometres, in terms of longitude and latitude alone."""
    return (
        300
        + 2000 * (lon - 180.0)
        + 40 * np.sin((lon - 180.0) * 300) * np.cos((lat - LATITUDE) * 500)
    )


PATCHES = ((0.0, 0.0, 120.0), (-700.0, 300.0, 90.0), (650.0, -420.0, 110.0))
"""Metres east and north of 180 degrees, 66 N, and radius: the first lies on the meridian."""


def loss(lon: Array, lat: Array, patches: Sequence[tuple[float, float, float]] = PATCHES) -> Array:
    """Change of NDVI: round patches that lost their plants."""
    metres = 111_320.0
    x = (lon - 180.0) * metres * np.cos(np.radians(LATITUDE))
    y = (lat - LATITUDE) * metres
    found = np.zeros(lon.shape)
    for cx, cy, radius in patches:
        found = np.maximum(found, np.clip((radius - np.hypot(x - cx, y - cy)) / 20 + 0.5, 0, 1))
    return -0.5 * found


def make_world(
    folder: Path, side: int = 240, patches: Sequence[tuple[float, float, float]] = PATCHES
) -> None:
    """Write Sentinel-2 and DEM assets; there is no radar."""
    catalog = Catalog(folder, writable=True)
    grid, coarse = world(side), world(side, 20.0)
    lon, lat = lonlat(grid)
    catalog.put_collection("COPERNICUS/S2_SR_HARMONIZED")
    for date, share in zip(DATES, (0.0, 1.0), strict=True):
        ndvi = 0.6 + share * loss(lon, lat, patches)
        red = np.full(grid.shape, 1000.0)
        scene = {"B2": red, "B3": red, "B4": red, "B8": red * (1 + ndvi) / (1 - ndvi)}
        bands = [_band(name, array.round().astype("uint16"), grid) for name, array in scene.items()]
        scl = np.full(coarse.shape, 4, "uint8")
        bands.append(_band("SCL", scl, coarse, pyramiding="SAMPLE"))
        time = dt.datetime.fromisoformat(date + "T23:00:00+00:00").timestamp() * 1000
        name = f"COPERNICUS/S2_SR_HARMONIZED/{date.replace('-', '')}"
        catalog.put_image(name, bands, {"made_up": True}, start_ms=int(time))
    dem = world(side, 30.0, margin=600)
    heights = height(*lonlat(dem)).astype("float32")
    catalog.put_collection("COPERNICUS/DEM/GLO30")
    catalog.put_image("COPERNICUS/DEM/GLO30/all", [_band("DEM", heights, dem)])


def _band(name: str, array: Array, grid: GeoBox, **more: Any) -> BandData:
    return BandData(name, array, str(grid.crs), tuple(grid.transform)[:6], **more)


def an_area(**changes: Any) -> Site:
    """The middle of the world, 2 km wide, in blocks of at most 66 pixels."""
    values: dict[str, Any] = {
        "name": "bering",
        "role": "area",
        "bounds": lonlat_bounds(world(180)),
        "pre": PRE,
        "post": POST,
        "block": 66,
        "sources": {"s1": "none"},
        "slope_correction": "none",
        "bands": ("elevation", "dNDVI"),
        "factors": ("elevation",),
        "made_up": True,
    }
    return Site(**(values | changes))


def make_workspace(
    root: Path,
    area: Site,
    settings: str = "export: {tile: 64, workers: 2}\n",
    side: int = 240,
    patches: Sequence[tuple[float, float, float]] = PATCHES,
) -> Workspace:
    """Write a workspace with the world's catalogue and one area."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "thawslump.yaml").write_text("name: bering\nmade_up: true\n" + settings)
    make_world(root / "catalog", side, patches)
    (root / "areas").mkdir()
    save_yaml(root / "areas" / f"{area.name}.yaml", area)
    return Workspace(root)
