"""Elevation, slope, aspect and hillshade of a site."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ee

from gee.scripts.place import is_tiled, pinned, region, source, terrain_grid

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["aspect", "elevation", "gradient", "hillshade", "slope"]

_RADIANS = math.pi / 180.0
_NEIGHBOURS = 200.0  # metres: a few pixels of 30 m
_BESIDE = 100.0  # metres: slopes of a site's last pixels need the heights beside them


def elevation(site: Site, margin: float = _BESIDE) -> ee.Image:
    """Return the heights of a site: one band ``elevation`` in metres, read bilinearly.

    The DEM is ``Site.sources["dem"]``, COPERNICUS/DEM/GLO30 where not given. The id of a
    collection of tiles ends with ``/*`` unless it is one of the known ones. The first band counts.
    Tiles are those of the site and of so many metres around it as `margin` says, at least of those
    that neighbourhoods at its edge reach into.
    """
    name = source(site, "dem")
    if not is_tiled(name):
        return ee.Image(name).select([0], ["elevation"]).resample("bilinear")
    tiles = ee.ImageCollection(name.removesuffix("/*")).filterBounds(
        region(site, max(margin, _NEIGHBOURS))
    )
    tiles = tiles.map(lambda tile: ee.Image(tile).select([0], ["elevation"]).resample("bilinear"))
    # Bilinear reading ends half a pixel before the edge of a tile, so the tiles are joined on their
    # own pixels first and then read as one. Those of another width (the global DEM changes its
    # degrees per pixel at 50, 60, 70, 80 and 85 degrees) are brought to the first one's on the way.
    grid = ee.Image(tiles.first()).projection()
    return tiles.mosaic().setDefaultProjection(grid).resample("bilinear")


def slope(site: Site, grid: GeoBox | None = None, margin: float = _BESIDE) -> ee.Image:
    """Return the steepness in degrees, band ``slope``.

    Differentiated once on `grid` (the site's terrain grid where not given), then read bilinearly.
    """
    steepness = ee.Terrain.slope(elevation(site, margin)).rename("slope")
    return pinned(steepness, grid or terrain_grid(site)).resample("bilinear")


def aspect(site: Site, grid: GeoBox | None = None) -> ee.Image:
    """Return the direction the slope faces, band ``aspect``: degrees clockwise from grid north.

    Never read bilinearly: the mean of 359 and 1 degree is not 180. Masked where level.
    """
    direction = ee.Terrain.aspect(elevation(site)).rename("aspect")
    return pinned(direction, grid or terrain_grid(site))


def gradient(site: Site, grid: GeoBox | None = None) -> ee.Image:
    """Return the downhill gradient (rise over run), bands ``north`` and ``east``.

    Unlike the aspect it can be read bilinearly, and is 0, not undefined, on level ground.
    """
    heights = elevation(site)
    rise = ee.Terrain.slope(heights).multiply(_RADIANS).tan()
    facing = ee.Terrain.aspect(heights).unmask(0, False).multiply(_RADIANS)
    parts = (
        rise.multiply(facing.cos())
        .rename("north")
        .addBands(rise.multiply(facing.sin()).rename("east"))
    )
    return pinned(parts, grid or terrain_grid(site)).resample("bilinear")


def hillshade(site: Site, azimuth: float = 315.0, height: float = 45.0) -> ee.Image:
    """Return the shaded relief, band ``hillshade``, 0 (dark) to 255 (facing the light).

    Parameters
    ----------
    azimuth : float
        Where the light comes from, degrees clockwise from grid north.
    height : float
        Of the light above the horizon, degrees.
    """
    parts = gradient(site)
    north, east = parts.select("north"), parts.select("east")
    towards = north.multiply(math.cos(azimuth * _RADIANS)).add(
        east.multiply(math.sin(azimuth * _RADIANS))
    )
    steepness = north.pow(2).add(east.pow(2)).add(1).sqrt()
    light = towards.multiply(math.cos(height * _RADIANS)).add(math.sin(height * _RADIANS))
    return light.divide(steepness).max(0).multiply(255).rename("hillshade")
