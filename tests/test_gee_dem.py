"""Heights as tiles in degrees, whose pixels are wider in longitude the further north they lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ee
import numpy as np
import pytest
from gee_world import POST, PRE, Array
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from gee.config import BackendConfig
from gee.emulator.catalog import BandData, Catalog
from gee.grids import crs_code
from gee.scripts import terrain
from gee.session import connect
from thawslump.site import Site

DEM = "COPERNICUS/DEM/GLO30"
Surface = Callable[[Array, Array], Array]


def place(longitude: float, latitude: float, crs: str | None, dem: str = DEM) -> Site:
    return Site(
        name="north",
        role="area",
        bounds=(longitude - 0.02, latitude - 0.006, longitude + 0.02, latitude + 0.006),
        crs=crs,
        pre=PRE,
        post=POST,
        sources={} if dem == DEM else {"dem": dem},
    )


def surface(site: Site) -> tuple[Transformer, Surface, Callable[[Array, Array], tuple[Array, ...]]]:
    """A hilly plane around the middle of a site, and its downhill gradient (east, north)."""
    to_grid = Transformer.from_crs("EPSG:4326", site.grid().crs.to_wkt(), always_xy=True)
    west, south, east, north = site.bounds
    x0, y0 = to_grid.transform((west + east) / 2, (south + north) / 2)

    def height(x: Array, y: Array) -> Array:
        u, v = x - x0, y - y0
        return 400 + 0.15 * u + 0.1 * v + 40 * np.sin(u / 240) * np.cos(v / 200)

    def downhill(x: Array, y: Array) -> tuple[Array, ...]:
        u, v = x - x0, y - y0
        east = 0.15 + 40 / 240 * np.cos(u / 240) * np.cos(v / 200)
        north = 0.1 - 40 / 200 * np.sin(u / 240) * np.sin(v / 200)
        return -east, -north

    return to_grid, height, downhill


def put_tile(
    catalog: Catalog,
    name: str,
    corner: tuple[float, float],
    shape: tuple[int, int],
    seconds: float,
    of: tuple[Transformer, Surface],
) -> None:
    """One tile: corner (west, north), pixels of `seconds` of longitude by one of latitude."""
    wide, high = seconds / 3600, 1 / 3600
    rows, cols = shape
    longitudes = corner[0] + (np.arange(cols) + 0.5) * wide
    latitudes = corner[1] - (np.arange(rows) + 0.5) * high
    x, y = of[0].transform(*np.meshgrid(longitudes, latitudes))
    heights = of[1](np.asarray(x), np.asarray(y)).astype("float32")
    transform = (wide, 0.0, corner[0], 0.0, -high, corner[1])
    catalog.put_image(name, [BandData("DEM", heights, "EPSG:4326", transform)])


def computed(image: ee.Image, grid: GeoBox) -> dict[str, Array]:
    a = grid.transform
    answer = ee.data.computePixels(
        {
            "expression": image.toDouble().unmask(-99999, False),
            "fileFormat": "NUMPY_NDARRAY",
            "grid": {
                "dimensions": {"width": grid.shape[1], "height": grid.shape[0]},
                "affineTransform": {
                    "scaleX": a.a, "shearX": 0, "translateX": a.c,
                    "shearY": 0, "scaleY": a.e, "translateY": a.f,
                },
                "crsCode": crs_code(grid),
            },
        }
    )  # fmt: skip
    return {
        name: np.where(answer[name] == -99999, np.nan, answer[name]) for name in answer.dtype.names
    }


def errors(site: Site) -> dict[str, Array]:
    """Departures of heights (m) and slopes (degrees) from the surface, on the site's grid."""
    _, height, downhill = surface(site)
    grid = site.grid()
    found = computed(terrain.elevation(site).addBands(terrain.slope(site)), grid)
    a = grid.transform
    x, y = np.meshgrid(
        a.c + (np.arange(grid.shape[1]) + 0.5) * a.a, a.f + (np.arange(grid.shape[0]) + 0.5) * a.e
    )
    steep = np.degrees(np.arctan(np.hypot(*downhill(x, y))))
    return {
        "elevation": np.abs(found["elevation"] - height(x, y)),
        "slope": np.abs(found["slope"] - steep),
    }


@pytest.mark.parametrize(
    ("latitude", "seconds", "crs"),
    [(45.0, 1, None), (55.0, 1.5, None), (65.0, 2, None), (72.0, 3, None), (82.0, 5, None),
     (82.0, 5, "EPSG:3413"), (86.0, 10, "EPSG:3413")],
)  # fmt: skip
def test_four_tiles_that_meet_in_a_site_are_one_surface(
    tmp_path: Path, latitude: float, seconds: float, crs: str | None
) -> None:
    """Neither their edges nor the width of their pixels shows, up to where Sentinel-1 ends."""
    longitude = 20.0
    site = place(longitude, latitude, crs)
    catalog = Catalog(tmp_path / "c", writable=True)
    catalog.put_collection(DEM)
    cols, rows = round(360 / seconds), 90
    for number in range(4):
        right, down = number % 2, number // 2
        corner = (
            longitude + (right - 1) * cols * seconds / 3600,
            latitude + (1 - down) * rows / 3600,
        )
        put_tile(catalog, f"{DEM}/{number}", corner, (rows, cols), seconds, surface(site)[:2])
    with connect(BackendConfig(), tmp_path / "c"):
        found = errors(site)
    assert found["elevation"].max() < 0.3
    assert found["slope"].max() < 0.3


@pytest.mark.parametrize("first", ["a", "z"], ids=["wide first", "narrow first"])
def test_tiles_of_two_widths_are_one_surface(tmp_path: Path, first: str) -> None:
    """At 70 degrees the pixels of the global DEM go from 2 to 3 seconds of longitude."""
    longitude, latitude = 20.0, 70.0
    site = place(longitude, latitude, None)
    catalog = Catalog(tmp_path / "c", writable=True)
    catalog.put_collection(DEM)
    of = surface(site)[:2]
    west = longitude - 120 / 3600
    put_tile(catalog, f"{DEM}/{first}", (west, latitude + 60 / 3600), (60, 80), 3, of)
    put_tile(catalog, f"{DEM}/m", (west, latitude), (60, 120), 2, of)
    with connect(BackendConfig(), tmp_path / "c"):
        found = errors(site)
    # Half a pixel along the joint is read without its neighbour.
    assert found["slope"].max() < 3
    assert np.mean(found["slope"] > 0.5) < 0.05
    assert not np.isnan(found["elevation"]).any()


def test_tiles_of_ones_own_are_named_with_a_star(tmp_path: Path) -> None:
    site = place(20.0, 72.0, None, dem="users/a/lidar/*")
    catalog = Catalog(tmp_path / "c", writable=True)
    catalog.put_collection("users/a/lidar")
    of = surface(site)[:2]
    for name, west in (("left", 19.95), ("right", 20.0)):
        put_tile(catalog, f"users/a/lidar/{name}", (west, 72.02), (144, 180), 1, of)
    with connect(BackendConfig(), tmp_path / "c"):
        found = errors(site)
    assert found["elevation"].max() < 0.3
    assert found["slope"].max() < 0.5
