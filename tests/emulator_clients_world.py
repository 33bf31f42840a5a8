"""A catalogue with known, made-up pixels for tests that run real clients against the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ee
import ee.deprecation
import numpy as np
from google.auth.credentials import AnonymousCredentials

from gee.emulator.catalog import BandData, Catalog

DAY = 86_400_000
UTM = "EPSG:32633"
NORTH = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
SHAPE = (96, 128)
HALF = 20037508.342789244
TILE = (12, 2240, 1475)  # z, x, y of a map tile that one image fills exactly
SERIES = "COPERNICUS/S2_SR_HARMONIZED"


@dataclass
class World:
    """A catalogue with known pixels, and the arrays behind it."""

    root: Path
    dates: list[int]
    red: np.ndarray  # (time, y, x)
    nir: np.ndarray
    clear: np.ndarray
    dem: np.ndarray
    tile: np.ndarray


def make_world(root: Path) -> World:
    """Write the catalogue and return it with its arrays."""
    random = np.random.default_rng(11)
    catalog = Catalog(root, writable=True)
    catalog.put_collection(SERIES)
    dates = [19000 * DAY, 19005 * DAY, 19010 * DAY]
    red = random.integers(100, 3000, (3, *SHAPE)).astype(np.uint16)
    nir = random.integers(100, 6000, (3, *SHAPE)).astype(np.uint16)
    clear = random.random((3, *SHAPE)) > 0.2
    for n, date in enumerate(dates):
        catalog.put_image(
            f"{SERIES}/made_up_{n}",
            [
                BandData("B4", red[n], UTM, NORTH, mask=clear[n]),
                BandData("B8", nir[n], UTM, NORTH, mask=clear[n]),
            ],
            {"CLOUDY_PIXEL_PERCENTAGE": 10.0 * n},
            start_ms=date,
        )
    dem = random.normal(500, 100, SHAPE).astype(np.float32)
    catalog.put_image("users/me/dem", [BandData("elevation", dem, UTM, NORTH)])
    z, x, y = TILE
    size = 2 * HALF / 2**z
    corner = (size / 256, 0.0, -HALF + x * size, 0.0, -size / 256, HALF - y * size)
    tile = random.integers(0, 256, (256, 256)).astype(np.uint8)
    catalog.put_image(
        "users/me/tile",
        [BandData("b", tile, "EPSG:3857", corner, mask=tile > 50, pyramiding="SAMPLE")],
    )
    points = [
        {
            "id": f"p{n:04d}",
            "geometry": {"type": "Point", "coordinates": [15 + n / 1e5, 45]},
            "properties": {"n": n, "name": f"point {n}"},
        }
        for n in range(25)
    ]
    catalog.put_table("users/me/points", points)
    return World(root, dates, red, nir, clear, dem, tile)


@contextlib.contextmanager
def connected(**options: Any) -> Iterator[None]:
    """Initialise the client, and reset it afterwards."""
    # Without this the client asks Google for a list of deprecated assets.
    ee.deprecation.deprecated_assets = {"-": ee.deprecation.DeprecatedAsset("-", None, None, None)}
    ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", **options)
    ee.data.setMaxRetries(0)
    try:
        yield
    finally:
        ee.Reset()


def grid(row: int, col: int, height: int, width: int) -> dict[str, Any]:
    """Return the grid of a window of the images in UTM."""
    a, _, c, _, e, f = NORTH
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": {
            "scaleX": a, "shearX": 0, "translateX": c + a * col,
            "shearY": 0, "scaleY": e, "translateY": f + e * row,
        },
        "crsCode": UTM,
    }  # fmt: skip


def box(west: int, top: int, east: int, bottom: int) -> ee.Geometry:
    """Return a rectangle given in pixels of the images in UTM."""
    corners = [
        NORTH[2] + 10 * west, NORTH[5] - 10 * bottom, NORTH[2] + 10 * east, NORTH[5] - 10 * top,
    ]  # fmt: skip
    return ee.Geometry.Rectangle(corners, UTM, False)


def collection() -> ee.ImageCollection:
    """Return the series of three images."""
    return ee.ImageCollection(SERIES)
