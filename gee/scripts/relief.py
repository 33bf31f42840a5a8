"""Shape of the ground from a 3 x 3 neighbourhood: curvatures, position, ruggedness.

All are computed once on a pinned grid of square pixels and in double precision, from the heights
of the nine pixels around, and are masked where one of them is missing. Finite differences are
those of L. W. Zevenbergen and C. R. Thorne, Quantitative analysis of land surface topography,
Earth Surface Processes and Landforms 12, 1987, doi 10.1002/esp.3290120107: other methods (Horn's,
say) give other values on rough ground, so the convention is part of the number.

Earth Engine documents its slope and aspect as those of the four neighbours
(`gee.scripts.terrain`), which is Zevenbergen and Thorne's gradient; `horn` gives that of the eight.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ee

from gee.scripts.place import pinned, terrain_grid
from gee.scripts.terrain import elevation

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["BANDS", "curvatures", "horn", "relief", "ruggedness", "topographic_position"]

_LEVEL = 1e-6  # metres per metre: slopes are in single precision, less is rounding

BANDS = ("curvature", "plan_curvature", "profile_curvature", "TPI", "TRI", "TRI_range")


def curvatures(heights: ee.Image, cell: float) -> ee.Image:
    """Return the curvatures of a surface in 1/m.

    Parameters
    ----------
    heights : ee.Image
        One band, metres, computed on square pixels.
    cell : float
        Their side, metres.

    Returns
    -------
    ee.Image
        ``curvature`` (total; positive on domes, negative in bowls), ``plan_curvature`` (along the
        contour; positive where flow spreads, negative where it gathers), ``profile_curvature``
        (along the slope; positive where it steepens downhill, that is convex, negative where it
        flattens). The last two are 0 on level ground, where no direction is downhill. Their sum
        is the total curvature, so the signs of all three agree: convex is positive.

    Notes
    -----
    With D, E, F, G, H the coefficients of Zevenbergen and Thorne (1987, equations 3 to 9):
    total -2(D + E), plan -2(D H^2 + E G^2 - F G H) / (G^2 + H^2), profile
    -2(D G^2 + E H^2 + F G H) / (G^2 + H^2). Some programs multiply by 100 or turn the sign of
    one of them. xDEM 0.2.3 with ``surface_fit="ZevenbergThorne", curv_method="directional"``
    gives 200, 100 (its ``tangential_curvature``) and 100 times these
    (`benchmarks/relief_peers.py`).
    """

    def weighted(rows: list[list[float]]) -> ee.Image:
        return heights.toDouble().convolve(ee.Kernel.fixed(3, 3, rows, 1, 1))

    per_area, slant = 1 / cell**2, 1 / (4 * cell**2)
    d = weighted([[0, 0, 0], [per_area / 2, -per_area, per_area / 2], [0, 0, 0]])
    e = weighted([[0, per_area / 2, 0], [0, -per_area, 0], [0, per_area / 2, 0]])
    f = weighted([[-slant, 0, slant], [0, 0, 0], [slant, 0, -slant]])
    g = weighted([[0, 0, 0], [-0.5 / cell, 0, 0.5 / cell], [0, 0, 0]])
    h = weighted([[0, 0.5 / cell, 0], [0, 0, 0], [0, -0.5 / cell, 0]])
    steep = g.multiply(g).add(h.multiply(h))
    across = f.multiply(g).multiply(h)
    along = d.multiply(g).multiply(g).add(e.multiply(h).multiply(h)).add(across)
    around = d.multiply(h).multiply(h).add(e.multiply(g).multiply(g)).subtract(across)
    # Earth Engine's division by zero gives 0, which is what level ground has.
    return ee.Image.cat(
        [
            d.add(e).multiply(-2).rename("curvature"),
            around.divide(steep).multiply(-2).rename("plan_curvature"),
            along.divide(steep).multiply(-2).rename("profile_curvature"),
        ]
    )


def horn(heights: ee.Image) -> ee.Image:
    """Return slope and aspect from the eight neighbours, bands ``slope_horn`` and ``aspect_horn``.

    B. K. P. Horn, Hill shading and the reflectance map, Proceedings of the IEEE 69, 1981, doi
    10.1109/PROC.1981.11918; what ArcGIS, QGIS and `gdaldem` give unless told otherwise, and so
    what most published slopes are.

    Parameters
    ----------
    heights : ee.Image
        One band, metres, computed on square pixels.

    Returns
    -------
    ee.Image
        Degrees; the aspect clockwise from grid north, masked where level. Both are masked within
        two pixels of a missing height: Earth Engine's own slope and aspect, which say which way is
        north and east, are taken of smoothed heights.
    """
    high = heights.toDouble()
    # The mean of three differences (weights 1, 2, 1) is the difference of such means.
    upright = high.convolve(ee.Kernel.fixed(1, 3, [[0.25], [0.5], [0.25]], 0, 1))
    level = high.convolve(ee.Kernel.fixed(3, 1, [[0.25, 0.5, 0.25]], 1, 0))

    def rise(surface: ee.Image) -> tuple[ee.Image, ee.Image]:
        steep = ee.Terrain.slope(surface).toDouble().multiply(math.pi / 180).tan()
        facing = ee.Terrain.aspect(surface).toDouble().unmask(0, False).multiply(math.pi / 180)
        return steep.multiply(facing.sin()), steep.multiply(facing.cos())

    (east, _), (_, north) = rise(upright), rise(level)  # downhill, metres per metre
    steep = east.hypot(north)
    slope = steep.atan().multiply(180 / math.pi).rename("slope_horn")
    facing = north.atan2(east).multiply(180 / math.pi).add(360).mod(360)
    return slope.addBands(facing.updateMask(steep.gt(_LEVEL)).rename("aspect_horn"))


def _differences(heights: ee.Image) -> ee.Image:
    """Return the nine neighbours minus the pixel in the middle (which is 0 itself)."""
    high = heights.toDouble()
    return high.neighborhoodToBands(ee.Kernel.square(1)).subtract(high)


def topographic_position(heights: ee.Image) -> ee.Image:
    """Return the height above the mean of the eight neighbours, band ``TPI`` (m).

    Positive on ridges, negative in hollows (A. Weiss, Topographic position and landforms
    analysis, 2001; as GDAL's `gdaldem TPI`).
    """
    return _differences(heights).reduce(ee.Reducer.sum()).divide(-8).rename("TPI")


def ruggedness(heights: ee.Image) -> ee.Image:
    """Return two measures of how uneven the ground is, metres.

    Returns
    -------
    ee.Image
        ``TRI``: root of the sum of squared differences to the eight neighbours (S. J. Riley, S.
        D. DeGloria and R. Elliot, Intermountain Journal of Sciences 5, 1999; as GDAL's `gdaldem
        TRI -alg Riley`). ``TRI_range``: root of |highest^2 - lowest^2| of the nine heights, as in
        Zhang et al. (2023); it grows with the height above the sea and so compares places of
        like height only.
    """
    squares = _differences(heights).pow(2).reduce(ee.Reducer.sum())
    around = heights.toDouble().neighborhoodToBands(ee.Kernel.square(1))
    high, low = around.reduce(ee.Reducer.max()), around.reduce(ee.Reducer.min())
    span = high.multiply(high).subtract(low.multiply(low)).abs().sqrt()
    return squares.sqrt().rename("TRI").addBands(span.rename("TRI_range"))


def relief(site: Site, grid: GeoBox | None = None) -> ee.Image:
    """Return the bands `BANDS` of a site.

    Parameters
    ----------
    site : Site
    grid : GeoBox, optional
        Square pixels on which the ground is taken; the site's terrain grid where not given.

    Returns
    -------
    ee.Image
        Curvatures in 1/m, the others in metres; never interpolated afterwards.
    """
    grid = grid or terrain_grid(site)
    heights = pinned(elevation(site), grid)
    parts = curvatures(heights, abs(grid.transform.a))
    parts = parts.addBands(topographic_position(heights)).addBands(ruggedness(heights))
    return pinned(parts.select(list(BANDS)), grid)
