"""How far it is to lines on the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.grids import factor_grid
from gee.scripts.hydrology import channels
from gee.scripts.place import pinned, region, source

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = ["REACH", "to_lines", "to_rivers"]

REACH = 20_000.0
"""Metres beyond which nothing is looked for: farther counts as this far."""


def to_lines(site: Site, key: str) -> ee.Image:
    """Return the distance to the nearest feature in metres, band ``distance_<key>``.

    Parameters
    ----------
    site : Site
    key : {"faults", "rivers", "roads", "railway"}
        The table is ``sources.<key>``; it may reach beyond the site, and should.
    """
    lines = ee.FeatureCollection(source(site, key))
    near = lines.filterBounds(region(site).buffer(REACH))
    away = near.distance(REACH, 10).unmask(REACH, False)
    return pinned(away.rename(f"distance_{key}"), factor_grid(site))


def to_rivers(site: Site) -> ee.Image:
    """Return the distance to rivers in metres, band ``distance_rivers``.

    To ``sources.rivers`` where given, else to the channels of the upslope area
    (`hydrology.channels`), which exist north of 60 degrees too; those within 256 pixels of the
    factors' grid, farther counts as that far.
    """
    if site.sources.get("rivers") is not None:
        return to_lines(site, "rivers")
    grid = factor_grid(site)
    drawn = pinned(channels(site).unmask(0, False), grid)
    squared = drawn.fastDistanceTransform(256)
    away = squared.sqrt().multiply(abs(grid.transform.a)).min(256 * abs(grid.transform.a))
    return pinned(away.rename("distance_rivers"), grid)
