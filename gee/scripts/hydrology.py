"""Wetness and stream power from the upslope area."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ee

from gee.grids import factor_grid
from gee.scripts import terrain
from gee.scripts.place import pinned, source

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["LEAST_SLOPE", "channels", "specific_area", "wetness"]

LEAST_SLOPE = 0.1
"""Degrees that level ground counts as: the tangent of 0 would make TWI infinite."""

_CHANNEL = 1e6  # square metres of upslope area from which on water runs in a channel


def specific_area(site: Site) -> ee.Image:
    """Return the upslope area per unit contour length in metres, band ``specific_area``.

    From ``sources.upslope``: an image with the band ``upa`` (km2, as MERIT Hydro) or one band in
    m2. The contour length is the side of that image's pixels.
    """
    name = source(site, "upslope")
    image = ee.Image(name)
    if name == "MERIT/Hydro/v1_0_1":
        area = image.select("upa").multiply(1e6)
    else:
        area = image.select([0])
    side = ee.Image.pixelArea().sqrt().reproject(image.select([0]).projection())
    return area.divide(side).rename("specific_area")


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
    name = source(site, "upslope")
    image = ee.Image(name)
    area = image.select("upa").multiply(1e6) if name == "MERIT/Hydro/v1_0_1" else image.select([0])
    return area.gte(_CHANNEL).selfMask().rename("channel")
