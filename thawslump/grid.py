"""The one pinned grid of a tile: CRS, affine transform and shape, as an odc-geo GeoBox."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from thawslump.errors import ConfigError, DataError

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon, Polygon

__all__ = [
    "box_of_all",
    "coarser",
    "geojson_box",
    "grid_over",
    "lonlat_bounds",
    "lonlat_box",
    "metres_per_pixel",
    "same_grid",
    "unwrapped",
    "utm_crs",
]

Bounds = tuple[float, float, float, float]


def utm_crs(lon: float, lat: float) -> str:
    """Return the code of the UTM zone that holds a point (WGS 84).

    - Zones are 6 degrees wide everywhere: the wider ones of Norway and Svalbard are not followed.
    - UTM ends at 84 N and 80 S; beyond, it is the polar stereographic EPSG:3413 or EPSG:3031.

    Parameters
    ----------
    lon : float
        Degrees; 181 is 179 W.
    lat : float

    Examples
    --------
    >>> utm_crs(129.4, 71.8)
    'EPSG:32652'
    >>> utm_crs(-70.0, -30.0), utm_crs(180.5, 66.0), utm_crs(-35.0, 84.5)
    ('EPSG:32719', 'EPSG:32601', 'EPSG:3413')
    """
    if lat > 84.0:
        return "EPSG:3413"
    if lat < -80.0:
        return "EPSG:3031"
    # The 180th meridian itself belongs to zone 60 when it is reached from the west.
    zone = 60 if lon == 180.0 else int((lon + 180.0) % 360.0 // 6.0) + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def unwrapped(bounds_lonlat: Bounds) -> Bounds:
    """Return a longitude/latitude box whose east is above its west.

    A west above the east means a box across the antimeridian; its east then comes out above 180.

    Raises
    ------
    ConfigError
        Latitudes out of order or range, or a box as wide as half the globe or wider: west and
        east have changed places.

    Examples
    --------
    >>> unwrapped((178.0, 64.0, -179.0, 66.0))
    (178.0, 64.0, 181.0, 66.0)
    """
    west, south, east, north = bounds_lonlat
    hint = "Give the bounds in degrees in that order."
    if not (west != east and south < north):
        raise ConfigError(
            f"bounds are (west, south, east, north) = {bounds_lonlat}: "
            "west must be below east and south below north.",
            hint=hint,
        )
    if not (-180 <= west <= 180 and -180 <= east <= 180 and south >= -90 and north <= 90):
        raise ConfigError(
            f"bounds are (west, south, east, north) = {bounds_lonlat}: longitudes from -180 to "
            "180 and latitudes from -90 to 90 degrees were expected.",
            hint=hint,
        )
    if west > east:
        if east + 360 - west >= 180:
            raise ConfigError(
                f"bounds are (west, south, east, north) = {bounds_lonlat}: west must be below "
                "east, except for a place across the antimeridian; this one would be "
                f"{east + 360 - west:g} degrees wide.",
                hint=hint,
            )
        east += 360
    return west, south, east, north


def lonlat_box(bounds_lonlat: Bounds) -> Polygon | MultiPolygon:
    """Return a longitude/latitude box as a shape; one across the antimeridian in two pieces.

    Examples
    --------
    >>> lonlat_box((179.0, 64.0, -179.0, 65.0)).area
    2.0
    """
    from shapely.geometry import MultiPolygon, box

    west, south, east, north = bounds_lonlat
    if west <= east:
        return box(west, south, east, north)
    return MultiPolygon([box(west, south, 180, north), box(-180, south, east, north)])


def geojson_box(bounds_lonlat: Bounds) -> dict[str, Any]:
    """Return a longitude/latitude box as GeoJSON, cut at the antimeridian (RFC 7946, 3.1.9).

    Examples
    --------
    >>> geojson_box((179.0, 64.0, -179.0, 65.0))["type"]
    'MultiPolygon'
    """
    west, south, east, north = bounds_lonlat

    def ring(left: float, right: float) -> list[list[list[float]]]:
        return [[[left, south], [right, south], [right, north], [left, north], [left, south]]]

    if west <= east:
        return {"type": "Polygon", "coordinates": ring(west, east)}
    return {"type": "MultiPolygon", "coordinates": [ring(west, 180.0), ring(-180.0, east)]}


def box_of_all(boxes: Sequence[Bounds]) -> Bounds:
    """Return the box of longitudes and latitudes that holds others; west above east across 180.

    Examples
    --------
    >>> box_of_all([(178.0, 64.0, 179.0, 65.0), (-179.0, 63.0, -178.0, 64.0)])
    (178.0, 63.0, -178.0, 65.0)
    """
    first = unwrapped(boxes[0])
    west, south, east, north = first
    for box in boxes[1:]:
        w, s, e, n = unwrapped(box)
        # Counted from where it is nearest to the first.
        turns = 360.0 * round((first[0] + first[2] - w - e) / 720.0)
        west, east = min(west, w + turns), max(east, e + turns)
        south, north = min(south, s), max(north, n)
    across = west < -180.0 or east > 180.0
    # Half the globe across the antimeridian would be read as west and east in the wrong order.
    if east - west >= (180.0 if across else 360.0):
        return -180.0, south, 180.0, north
    west = west + 360.0 if west < -180.0 else west
    return west, south, (east - 360.0 if east > 180.0 else east), north


def grid_over(
    bounds_lonlat: Bounds, resolution: float, crs: str | None = None, *, step: int = 1
) -> GeoBox:
    """Return the grid whose pixels cover a longitude/latitude box.

    Parameters
    ----------
    bounds_lonlat : (west, south, east, north)
        Degrees, EPSG:4326; a west above the east crosses the antimeridian.
    resolution : float
        Pixel size in units of `crs` (metres for UTM).
    crs : str, optional
        Projected CRS; the UTM zone of the centre where not given.
    step : int
        Edges lie on whole multiples of so many pixels.

    Returns
    -------
    GeoBox
        Edges lie on whole multiples of `resolution`, so neighbouring grids share pixels.

    Raises
    ------
    ConfigError
        West is not below east (or more than half the globe apart), south not below north, the CRS
        counts in degrees, or it cannot hold the box.

    Examples
    --------
    >>> grid = grid_over((129.0, 71.80, 129.05, 71.81), 10)
    >>> str(grid.crs), grid.transform.a, grid.transform.c % 10
    ('EPSG:32652', 10.0, 0.0)
    """
    west, south, east, north = unwrapped(bounds_lonlat)
    name = crs or utm_crs((west + east) / 2, (south + north) / 2)
    if CRS.from_user_input(name).is_geographic:
        raise ConfigError(
            f"crs {name} counts in degrees; the grid needs a projected CRS in metres.",
            hint="Leave crs out (the UTM zone is chosen) or give, for example, EPSG:3413.",
        )
    to_grid = Transformer.from_crs("EPSG:4326", name, always_xy=True)
    edges = to_grid.transform_bounds(*bounds_lonlat, densify_pts=21)
    # No map is larger than the Earth; what its projection cannot hold lies at or near infinity.
    if not all(abs(edge) < 1e9 for edge in edges):
        raise ConfigError(
            f"{name} cannot hold the bounds {bounds_lonlat}: they reach too far from its middle.",
            hint="Give a crs made for the whole of it, for example EPSG:3413 for the Arctic.",
        )
    left, bottom, right, top = edges
    size = resolution * step
    # A tolerance of a thousandth of a pixel: bounds made from a grid give that grid again.
    slack = 1e-3 / step
    x0 = math.floor(left / size + slack) * size
    x1 = math.ceil(right / size - slack) * size
    y0 = math.floor(bottom / size + slack) * size
    y1 = math.ceil(top / size - slack) * size
    shape = (round((y1 - y0) / resolution), round((x1 - x0) / resolution))
    return GeoBox(shape, Affine(resolution, 0, x0, 0, -resolution, y1), name)


def coarser(grid: GeoBox, resolution: float) -> GeoBox:
    """Return a grid of another pixel size that covers `grid` from the same upper-left corner."""
    a = grid.transform
    rows = math.ceil(grid.shape[0] * abs(a.e) / resolution - 1e-6)
    cols = math.ceil(grid.shape[1] * abs(a.a) / resolution - 1e-6)
    return GeoBox((rows, cols), Affine(resolution, 0, a.c, 0, -resolution, a.f), grid.crs)


def lonlat_bounds(grid: GeoBox) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) in degrees of a grid's outline.

    West is above east where it crosses the antimeridian.
    """
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
