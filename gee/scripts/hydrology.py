"""Wetness and stream power from an asset of the upslope area.

With ``sources.upslope: local`` nothing here is asked: the area is computed on this machine from the
DEM (`gee.drainage`, `gee.exports.catchment`), by the same formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import ee

from gee.drainage import CHANNEL, LEAST_SLOPE
from gee.grids import factor_grid
from gee.scripts import terrain
from gee.scripts.place import is_tiled, or_nothing, pinned, region, source
from gee.scripts.sources import catchment_margin, resembles
from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["LEAST_SLOPE", "NEAR", "channels", "specific_area", "upslope_area", "wetness"]

NEAR = 256
"""Pixels of the factors' grid within which channels are looked for."""


def upslope_area(site: Site) -> ee.Image:
    """Return the upslope area in square metres, band ``upslope``; read as it is.

    From ``sources.upslope``: MERIT Hydro (band ``upa``, km2), or the first band of an image or of
    a collection of tiles (``/*``) of yours, m2.

    Raises
    ------
    ConfigError
        ``sources.upslope`` is ``local``: there is no such image.
    """
    return _of_each(site, lambda area: area, "upslope")


def specific_area(site: Site) -> ee.Image:
    """Return the upslope area per unit contour length in metres, band ``specific_area``.

    The contour length is the side of the asset's own pixels.
    """

    def per_side(area: ee.Image) -> ee.Image:
        side = ee.Image.pixelArea().sqrt().reproject(area.projection())
        return area.divide(side).rename("specific_area")

    return _of_each(site, per_side, "specific_area")


def _of_each(site: Site, made: Callable[[ee.Image], ee.Image], band: str) -> ee.Image:
    name = source(site, "upslope")
    if catchment_margin(name) is not None:
        raise ConfigError(
            f"Site {site.name}: sources.upslope is {name}; TWI, SPI and channels are then computed "
            "on this machine during an export, and are no expression of Earth Engine.",
            hint="Read them from factors.tif after `thawslump export run`, or name an asset.",
        )
    if resembles("upslope", name):
        return made(ee.Image(name).select(["upa"], ["upslope"]).multiply(1e6))
    if is_tiled(name):
        # Tile by tile: a mosaic has pixels of one degree.
        around = region(site, NEAR * abs(factor_grid(site).transform.a))
        tiles = ee.ImageCollection(name.removesuffix("/*")).filterBounds(around)
        areas = tiles.map(lambda tile: made(ee.Image(tile).select([0], ["upslope"])))
        return or_nothing(areas, [band]).mosaic()
    return made(ee.Image(name).select([0], ["upslope"]))


def wetness(site: Site, grid: GeoBox | None = None) -> ee.Image:
    """Return ``TWI`` = ln(A_s / tan(slope)) and ``SPI`` = A_s tan(slope).

    A_s is `specific_area`; a slope below `LEAST_SLOPE` counts as that. K. J. Beven and M. J.
    Kirkby 1979, doi 10.1080/02626667909491834; I. D. Moore, R. B. Grayson and A. R. Ladson 1991,
    doi 10.1002/hyp.3360050103.
    """
    grid = grid or factor_grid(site)
    steep = terrain.slope(site, grid).max(LEAST_SLOPE).multiply(math.pi / 180).tan()
    area = specific_area(site)
    twi = area.divide(steep).log().rename("TWI")
    return pinned(twi.addBands(area.multiply(steep).rename("SPI")), grid)


def channels(site: Site) -> ee.Image:
    """Return 1 where more than 1 km2 drains through a pixel, else masked; band ``channel``."""
    return upslope_area(site).gte(CHANNEL).selfMask().rename("channel")
