"""The one pinned grid of a tile: CRS, affine transform and shape, as an odc-geo GeoBox."""

from __future__ import annotations

import math

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from thawslump.errors import ConfigError, DataError

__all__ = ["coarser", "grid_over", "lonlat_bounds", "metres_per_pixel", "same_grid", "utm_crs"]


def utm_crs(lon: float, lat: float) -> str:
    """Return the code of the UTM zone that holds a point (WGS 84).

    Examples
    --------
    >>> utm_crs(129.4, 71.8)
    'EPSG:32652'
    >>> utm_crs(-70.0, -30.0)
    'EPSG:32719'
    """
    zone = min(int((lon + 180.0) // 6.0) + 1, 60)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def grid_over(
    bounds_lonlat: tuple[float, float, float, float], resolution: float, crs: str | None = None
) -> GeoBox:
    """Return the grid whose pixels cover a longitude/latitude box.

    Parameters
    ----------
    bounds_lonlat : (west, south, east, north)
        Degrees, EPSG:4326.
    resolution : float
        Pixel size in units of `crs` (metres for UTM).
    crs : str, optional
        Projected CRS; the UTM zone of the centre where not given.

    Returns
    -------
    GeoBox
        Edges lie on whole multiples of `resolution`, so neighbouring grids share pixels.

    Raises
    ------
    ConfigError
        West is not below east, south not below north, or the CRS counts in degrees.

    Examples
    --------
    >>> grid = grid_over((129.0, 71.80, 129.05, 71.81), 10)
    >>> str(grid.crs), grid.transform.a, grid.transform.c % 10
    ('EPSG:32652', 10.0, 0.0)
    """
    west, south, east, north = bounds_lonlat
    if not (west < east and south < north):
        raise ConfigError(
            f"bounds are (west, south, east, north) = {bounds_lonlat}: "
            "west must be below east and south below north.",
            hint="Give the bounds in degrees in that order.",
        )
    name = crs or utm_crs((west + east) / 2, (south + north) / 2)
    if CRS.from_user_input(name).is_geographic:
        raise ConfigError(
            f"crs {name} counts in degrees; the grid needs a projected CRS in metres.",
            hint="Leave crs out (the UTM zone is chosen) or give, for example, EPSG:3413.",
        )
    to_grid = Transformer.from_crs("EPSG:4326", name, always_xy=True)
    left, bottom, right, top = to_grid.transform_bounds(west, south, east, north, densify_pts=21)
    # A tolerance of a thousandth of a pixel: bounds made from a grid give that grid again.
    x0 = math.floor(left / resolution + 1e-3) * resolution
    x1 = math.ceil(right / resolution - 1e-3) * resolution
    y0 = math.floor(bottom / resolution + 1e-3) * resolution
    y1 = math.ceil(top / resolution - 1e-3) * resolution
    shape = (round((y1 - y0) / resolution), round((x1 - x0) / resolution))
    return GeoBox(shape, Affine(resolution, 0, x0, 0, -resolution, y1), name)


def coarser(grid: GeoBox, resolution: float) -> GeoBox:
    """Return a grid of another pixel size that covers `grid` from the same upper-left corner."""
    a = grid.transform
    rows = math.ceil(grid.shape[0] * abs(a.e) / resolution - 1e-6)
    cols = math.ceil(grid.shape[1] * abs(a.a) / resolution - 1e-6)
    return GeoBox((rows, cols), Affine(resolution, 0, a.c, 0, -resolution, a.f), grid.crs)


def lonlat_bounds(grid: GeoBox) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) in degrees of a grid's outline."""
    to_lonlat = Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True)
    box = grid.boundingbox
    west, south, east, north = to_lonlat.transform_bounds(
        box.left, box.bottom, box.right, box.top, densify_pts=21
    )
    return (west, south, east, north)


def metres_per_pixel(grid: GeoBox) -> float:
    """Return the pixel size of a projected, square grid in metres.

    Raises
    ------
    DataError
        The CRS counts in degrees.
    """
    crs = grid.crs.proj
    if crs.is_geographic:
        raise DataError(
            f"The grid is in {grid.crs}, which counts in degrees; metres were expected.",
            hint="Warp the raster to a projected CRS first, for example its UTM zone.",
        )
    return float(abs(grid.transform.a) * crs.axis_info[0].unit_conversion_factor)


def same_grid(left: GeoBox, right: GeoBox) -> bool:
    """Return whether two grids have the same CRS and shape and lie within 1e-6 of a pixel."""
    if left.shape != right.shape or left.crs != right.crs:
        return False
    size = abs(left.transform.a)
    return all(
        abs(p - q) <= 1e-6 * size
        for p, q in zip(left.transform[:6], right.transform[:6], strict=True)
    )
