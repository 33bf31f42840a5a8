"""Surface temperature and precipitation of the time before the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.scripts.place import in_window, mapped, or_nothing, region, source
from gee.scripts.sources import resembles
from thawslump.errors import ConfigError
from thawslump.site import Window
from thawslump.windows import shifted

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = [
    "MONTHS",
    "clear_temperature",
    "precipitation",
    "rain_months",
    "surface_temperature",
    "temperature_days",
]

MONTHS = 12
"""Whole months that precipitation is summed over."""

# QA_PIXEL of Landsat Collection 2: fill, dilated cloud, cirrus, cloud, cloud shadow, snow.
_HIDDEN = sum(1 << bit for bit in range(6))
# Collection 2 Level 2: kelvin = number * scale + offset; numbers from 293 on are temperatures.
_SCALE, _OFFSET, _KELVIN, _LEAST = 0.00341802, 149.0, 273.15, 293


def surface_temperature(site: Site) -> ee.Image:
    """Return the mean clear-sky temperature of the ground before the change, band ``LST``.

    Degrees Celsius, mean of the days in the window `pre` on which the ground is seen (band
    ``ST_B10``; clouds, shadows, cirrus and snow by ``QA_PIXEL``). A mean of clear mornings, not of
    the season; `temperature_days` says of how many. Masked where there is none.

    Another Landsat collection of the same kind is read alike; any other ``sources.lst`` is a map
    (an image, or tiles with ``/*``), whose first band is in degrees Celsius already.
    """
    if not resembles("lst", source(site, "lst")):
        return mapped(site, "lst").rename("LST")
    return _clear_days(site).mean().rename("LST")


def temperature_days(site: Site) -> ee.Image:
    """Return how many clear days the mean of `surface_temperature` is of, band ``LST_days``.

    0 where there is none; never masked.

    Raises
    ------
    ConfigError
        ``sources.lst`` is a map, which has no days.
    """
    name = source(site, "lst")
    if not resembles("lst", name):
        raise ConfigError(
            f"Site {site.name}: LST_days counts clear days of Landsat, but sources.lst is the map "
            f"{name}.",
            hint="Leave LST_days out of the factors.",
        )
    return _clear_days(site).count().unmask(0, False).rename("LST_days")


def clear_temperature(image: ee.Image) -> ee.Image:
    """Return the temperature of the ground in one Landsat image, degrees Celsius, band ``LST``.

    Masked where the ground is hidden (``QA_PIXEL``) or ``ST_B10`` is no temperature.
    """
    image = ee.Image(image)
    numbers = image.select("ST_B10")
    seen = image.select("QA_PIXEL").bitwiseAnd(_HIDDEN).eq(0).And(numbers.gte(_LEAST))
    kelvin = numbers.multiply(_SCALE).add(_OFFSET)
    return kelvin.subtract(_KELVIN).updateMask(seen).rename("LST")


def _clear_days(site: Site) -> ee.ImageCollection:
    assert site.pre is not None
    images = ee.ImageCollection(source(site, "lst")).filterBounds(region(site))
    return or_nothing(in_window(images, site.pre).map(clear_temperature), ["LST"])


def rain_months(site: Site) -> Window:
    """Return the twelve whole months before the change: none that the window `pre` ends within.

    The month of an event would bring the rain that set it off.
    """
    assert site.pre is not None
    end = site.pre.end.replace(day=1)
    return Window(start=shifted(end, -MONTHS), end=end)


def precipitation(site: Site) -> ee.Image:
    """Return the precipitation of the twelve months before the change, mm, band ``precipitation``.

    Band ``total_precipitation_sum`` (m) of the monthly collection in `rain_months`; masked where
    one of the months is missing, never a sum of fewer. Any other ``sources.precipitation`` is a
    map (an image, or tiles with ``/*``), whose first band is in millimetres already.
    """
    if not resembles("precipitation", source(site, "precipitation")):
        return mapped(site, "precipitation")
    collection = ee.ImageCollection(source(site, "precipitation"))
    months = in_window(collection, rain_months(site)).select("total_precipitation_sum")
    total = months.sum().updateMask(months.count().gte(MONTHS))
    return total.multiply(1000).rename("precipitation")
