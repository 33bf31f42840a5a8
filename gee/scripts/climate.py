"""Surface temperature and precipitation of the time before the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.scripts.place import in_window, region, source
from thawslump.windows import shifted

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = ["precipitation", "surface_temperature"]

# QA_PIXEL of Landsat Collection 2: dilated cloud, cirrus, cloud, cloud shadow, snow.
_HIDDEN = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 4) | (1 << 5)
# Collection 2 Level 2: kelvin = number * scale + offset.
_SCALE, _OFFSET, _KELVIN = 0.00341802, 149.0, 273.15


def surface_temperature(site: Site) -> ee.Image:
    """Return the mean clear-sky temperature of the ground before the change, band ``LST``.

    Degrees Celsius, mean of the days in the window `pre` on which the ground is seen (band
    ``ST_B10``, clouds, shadows, cirrus and snow by ``QA_PIXEL``). A mean of clear mornings, not of
    the season.
    """
    assert site.pre is not None
    images = ee.ImageCollection(source(site, "lst")).filterBounds(region(site))

    def prepared(image: ee.Image) -> ee.Image:
        image = ee.Image(image)
        seen = image.select("QA_PIXEL").bitwiseAnd(_HIDDEN).eq(0)
        kelvin = image.select("ST_B10").multiply(_SCALE).add(_OFFSET)
        return kelvin.subtract(_KELVIN).updateMask(seen).rename("LST")

    return in_window(images, site.pre).map(prepared).mean()


def precipitation(site: Site) -> ee.Image:
    """Return the precipitation of the twelve months before the change, mm, band ``precipitation``.

    The months that begin in the year up to the end of the window `pre`; band
    ``total_precipitation_sum`` (m) of the monthly collection.
    """
    assert site.pre is not None
    end = site.pre.end
    months = ee.ImageCollection(source(site, "precipitation")).filterDate(
        shifted(end, -12).isoformat(), end.isoformat()
    )
    total = months.select("total_precipitation_sum").sum()
    return total.multiply(1000).rename("precipitation")
