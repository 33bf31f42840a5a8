"""A small made-up world with known answers, as Sentinel-1, Sentinel-2 and DEM assets."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from gee.emulator.catalog import BandData, Catalog
from thawslump.grid import lonlat_bounds
from thawslump.site import Site, Window

Array = NDArray[Any]
CRS = "EPSG:32633"
WEST, NORTH, SIZE = 500_000.0, 6_762_000.0, 240  # the made-up world: 240 x 240 pixels of 10 m
PRE = Window(start=dt.date(2020, 6, 1), end=dt.date(2020, 9, 1))
POST = Window(start=dt.date(2021, 6, 1), end=dt.date(2021, 9, 1))
S2_DATES = ("2020-06-10", "2020-07-10", "2020-08-10", "2021-06-12", "2021-07-12", "2021-08-12")
S1_DATES = ("2020-06-05", "2020-06-17", "2020-06-29", "2021-06-05", "2021-06-17", "2021-06-29")
GIVEN = (
    "preVV", "postVV", "dVV", "preVH", "postVH", "dVH", "layover", "shadow", "liaDeg",
    "elevation", "slope", "dNDVI",
)  # fmt: skip
"""Bands that this world's assets can give: no climate, no canopy, no land cover."""
LOOK = {"ASCENDING": 255.0, "DESCENDING": 104.0}  # towards the satellite, degrees from grid north
FLAT = {"VV": 0.12, "VH": 0.03}  # gamma0 of level ground, linear power


def height(x: Array, y: Array) -> Array:
    """A plane with hills on it, slopes of 5 to 20 degrees."""
    u, v = x - WEST, y - NORTH
    return 400 + 0.15 * u + 0.1 * v + 40 * np.sin(u / 240) * np.cos(v / 200)


def downhill(x: Array, y: Array) -> tuple[Array, Array]:
    """(east, north) components of minus the gradient of `height`, by calculus."""
    u, v = x - WEST, y - NORTH
    east = 0.15 + 40 / 240 * np.cos(u / 240) * np.cos(v / 200)
    north = 0.1 - 40 / 200 * np.sin(u / 240) * np.sin(v / 200)
    return -east, -north


def centres(grid: GeoBox) -> tuple[Array, Array]:
    rows, cols = grid.shape
    a = grid.transform
    x = a.c + (np.arange(cols) + 0.5) * a.a
    y = a.f + (np.arange(rows) + 0.5) * a.e
    return np.meshgrid(x, y)  # type: ignore[return-value]


def world(resolution: float, margin: float = 0.0) -> GeoBox:
    side = round((SIZE * 10 + 2 * margin) / resolution)
    corner = Affine(resolution, 0, WEST - margin, 0, -resolution, NORTH + margin)
    return GeoBox((side, side), corner, CRS)


def part_of(grid: GeoBox, rows: int, cols: int, first_col: int = 0) -> GeoBox:
    """The upper part of a grid, from a column on."""
    a = grid.transform
    corner = Affine(a.a, 0, a.c + first_col * a.a, 0, a.e, a.f)
    return GeoBox((rows, cols), corner, grid.crs)


def band(name: str, array: Array, grid: GeoBox, **more: Any) -> BandData:
    return BandData(name, array, CRS, tuple(grid.transform)[:6], **more)


def incidence(x: Array, y: Array, direction: str) -> Array:
    """Incidence angle in degrees: grows away from the satellite, 16 degrees in 250 km."""
    look = math.radians(LOOK[direction])
    away = -((x - WEST) * math.sin(look) + (y - NORTH) * math.cos(look))
    return 38.0 + 16 / 250e3 * away


def in_range(x: Array, y: Array, direction: str) -> Array:
    """Steepness towards the satellite in radians."""
    look = math.radians(LOOK[direction])
    east, north = downhill(x, y)
    return np.arctan(east * math.sin(look) + north * math.cos(look))


@dataclass(frozen=True)
class World:
    folder: Path
    s2: dict[str, dict[str, Array]]
    gain: dict[str, float]


def make_world(folder: Path, *, angle: bool = True) -> World:
    """Write the assets into a catalogue; without `angle` the radar images lack that band."""
    catalog = Catalog(folder, writable=True)
    dice = np.random.default_rng(7)
    s2 = _put_s2(catalog, dice)
    gain = _put_s1(catalog, dice, angle)
    _put_dem(catalog)
    return World(folder, s2, gain)


def _put_s2(catalog: Catalog, dice: np.random.Generator) -> dict[str, dict[str, Array]]:
    grid, coarse = world(10), world(20)
    catalog.put_collection("COPERNICUS/S2_SR_HARMONIZED")
    kept = {}
    for date in S2_DATES:
        scene: dict[str, Array] = {
            name: dice.integers(200, 3000, grid.shape).astype("uint16")
            for name in ("B2", "B3", "B4", "B8")
        }
        scl = dice.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], coarse.shape).astype("uint8")
        bands = [band(name, array, grid) for name, array in scene.items()]
        bands.append(band("SCL", scl, coarse, pyramiding="SAMPLE"))
        _put(catalog, "COPERNICUS/S2_SR_HARMONIZED", date, bands, {})
        scene["SCL"] = scl.repeat(2, axis=0).repeat(2, axis=1)
        kept[date] = scene
    return kept


def _put_s1(catalog: Catalog, dice: np.random.Generator, with_angle: bool) -> dict[str, float]:
    grid, coarse = world(10), world(400, margin=2000)
    x, y = centres(grid)
    catalog.put_collection("COPERNICUS/S1_GRD")
    gains = {}
    for direction, relative in (("ASCENDING", 44), ("DESCENDING", 95)):
        theta = np.radians(incidence(x, y, direction))
        upright = np.pi / 2 - theta
        tilt = np.tan(upright + in_range(x, y, direction)) / np.tan(upright)
        for date in S1_DATES:
            gain = float(dice.uniform(0.8, 1.25))
            gains[f"{direction} {date}"] = gain
            bands = [
                band(
                    name,
                    (10 * np.log10(FLAT[name] * gain * np.cos(theta) * tilt)).astype("float32"),
                    grid,
                )
                for name in ("VV", "VH")
            ]
            angle = incidence(*centres(coarse), direction).astype("float32")
            if with_angle:
                bands.append(band("angle", angle, coarse))
            properties = {
                "instrumentMode": "IW",
                "transmitterReceiverPolarisation": ["VV", "VH"],
                "orbitProperties_pass": direction,
                "relativeOrbitNumber_start": relative,
            }
            _put(catalog, "COPERNICUS/S1_GRD", date, bands, properties, direction[0])
    return gains


def _put_dem(catalog: Catalog) -> None:
    grid = world(30, margin=90)
    x, y = centres(grid)
    heights = height(x, y).astype("float32")
    half = grid.shape[1] // 2
    catalog.put_collection("COPERNICUS/DEM/GLO30")
    # Two tiles that meet inside the site.
    for name, first, last in (("west", 0, half), ("east", half, grid.shape[1])):
        tile = part_of(grid, grid.shape[0], last - first, first)
        tiled = [band("DEM", heights[:, first:last], tile)]
        catalog.put_image(f"COPERNICUS/DEM/GLO30/{name}", tiled)
    catalog.put_image("users/a/dem", [band("b1", heights, grid)])


def _put(
    catalog: Catalog,
    collection: str,
    date: str,
    bands: list[BandData],
    properties: dict[str, Any],
    suffix: str = "",
) -> None:
    time = dt.datetime.fromisoformat(date + "T10:00:00+00:00").timestamp() * 1000
    name = f"{collection}/{date.replace('-', '')}{suffix}"
    catalog.put_image(name, bands, properties, start_ms=int(time))


def a_site(**changes: Any) -> Site:
    grid = GeoBox((48, 60), Affine(10, 0, WEST + 700, 0, -10, NORTH - 900), CRS)
    values: dict[str, Any] = {
        "name": "place",
        "role": "area",
        "bounds": lonlat_bounds(grid),
        "crs": CRS,
        "pre": PRE,
        "post": POST,
        # The world has no land cover map that could choose.
        "slope_correction": "volume",
    }
    return Site(**(values | changes))
