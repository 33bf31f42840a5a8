"""Grids as Earth Engine words them; needs no client."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thawslump.grid import coarser, metres_per_pixel

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["crs_code", "crs_transform", "factor_grid", "padded"]


def crs_code(grid: GeoBox) -> str:
    """Return the code of a grid's CRS, for example ``EPSG:32652``; WKT where it has none."""
    crs = grid.crs
    assert crs is not None  # grid_over never makes a grid without one
    code = crs.to_epsg()
    return str(crs.to_wkt()) if code is None else f"EPSG:{code}"


def crs_transform(grid: GeoBox) -> list[float]:
    """Return a grid's affine transform in Earth Engine's order.

    Scale x, shear x, upper-left x, shear y, scale y, upper-left y.
    """
    a = grid.transform
    return [a.a, a.b, a.c, a.d, a.e, a.f]


def factor_grid(site: Site) -> GeoBox:
    """Return the grid of the factors: 30 m (never finer than the site), same upper-left corner."""
    return coarser(site.grid(), max(30.0, site.resolution))


def padded(grid: GeoBox, margin: float) -> GeoBox:
    """Return a grid that is wider by `margin` metres on every side, in whole pixels.

    Examples
    --------
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> wide = padded(GeoBox((2, 3), Affine(30, 0, 600, 0, -30, 900), "EPSG:32652"), 50)
    >>> tuple(wide.shape), wide.transform.c, wide.transform.f
    ((6, 7), 540.0, 960.0)
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    more = math.ceil(margin / metres_per_pixel(grid))
    a, (rows, cols) = grid.transform, grid.shape
    corner = Affine(a.a, a.b, a.c - more * a.a, a.d, a.e, a.f - more * a.e)
    return GeoBox((rows + 2 * more, cols + 2 * more), corner, grid.crs)
