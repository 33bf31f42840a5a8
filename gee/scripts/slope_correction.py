"""Angular radiometric slope correction of Sentinel-1, and the choice of its model.

A. Vollrath, A. Mullissa and J. Reiche, Angular-based radiometric slope correction for Sentinel-1
on Google Earth Engine, Remote Sensing 12(11), 1867, 2020, doi 10.3390/rs12111867; numbers of
equations below are theirs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import ee

from gee.grids import crs_code
from gee.scripts.place import is_tiled, mapped, region, source
from thawslump.errors import ConfigError
from thawslump.grid import unwrapped

if TYPE_CHECKING:
    from gee.scripts.settled import Settled
    from thawslump.site import Site

__all__ = [
    "VOLUMES",
    "Model",
    "chosen_model",
    "gain",
    "vegetated",
    "vegetated_share",
    "vegetated_share_of_area",
]

Model = Literal["volume", "surface"]

VOLUMES = {10: 1, 20: 1, 30: 1, 40: 1, 50: 0, 60: 0, 70: 0, 80: 0, 90: 1, 95: 1, 100: 1}
"""1 for the classes of ESA WorldCover that scatter as a volume: tree cover, shrubs, grass, crops,
wetlands, mangroves, moss and lichen; 0 for built-up and bare ground, snow and water."""

_WATER = 80
_DEGREE = 111_320.0  # metres of a degree of latitude


def gain(theta: ee.Image, geometry: ee.Image, model: Model | ee.Image) -> ee.Image:
    """Return what sigma0 (linear power) is multiplied by to become that of level ground.

    Parameters
    ----------
    theta : ee.Image
        Incidence angle on the ellipsoid, radians.
    geometry : ee.Image
        From `gee.scripts.radar_geometry.terrain_geometry`.
    model : {"volume", "surface"} or ee.Image
        Scattering by a volume (vegetation; equation 5) or by a surface (bare ground; equation 6),
        or an image that is 1 where a volume scatters and 0 where a surface does (`vegetated`).
        Both dates of a change need the same one, or its edges look like change.

    Returns
    -------
    ee.Image
        One band ``gain``; the product is gamma0 of level ground. Masked in layover and in shadow.
    """
    upright = theta.multiply(-1).add(math.pi / 2)
    tilted = upright.add(geometry.select("range"))
    volume = tilted.tan().divide(upright.tan())
    surface = upright.cos().divide(geometry.select("azimuth").cos().multiply(tilted.cos()))
    if isinstance(model, str):
        factor = volume if model == "volume" else surface
    else:
        factor = surface.where(model, volume)
    seen = geometry.select("layover").Or(geometry.select("shadow")).Not()
    return theta.cos().multiply(factor).pow(-1).updateMask(seen).rename("gain")


def vegetated(site: Site) -> ee.Image:
    """Return 1 where plants scatter the radar's waves as a volume does, else 0 (`VOLUMES`).

    From one fixed map, the same for both dates of a change: ``sources.landcover``, with the classes
    of ESA WorldCover. Where it has nothing: 1, as for most ground.

    Raises
    ------
    ConfigError
        ``sources.landcover`` is none.
    """
    if source(site, "landcover") == "none":
        raise ConfigError(
            f"Site {site.name}: sources.landcover is none, so no map tells where plants grow, "
            f"as slope_correction: {site.slope_correction} needs.",
            hint="Set slope_correction to volume, surface or none, or give a map with the classes "
            "of ESA WorldCover.",
        )
    return _plants(mapped(site, "landcover"))


def _plants(classes: ee.Image) -> ee.Image:
    image = classes.remap(list(VOLUMES), list(VOLUMES.values())).unmask(1, False)
    return image.rename("vegetated")


def vegetated_share(site: Site) -> ee.Number:
    """Return the share of a site's land that is `vegetated`; one half and more mean "volume".

    Water is no land: a coast is judged by its shore. 1 where the site is all water.
    """
    scale = max(100.0, site.resolution)
    return _share(mapped(site, "landcover"), region(site), crs_code(site.grid()), scale)


def vegetated_share_of_area(area: Site) -> ee.Number:
    """Return the same for the box of an area of any size, on some 500 x 500 points.

    For areas that are mapped in parts: were each judged on its own, neighbours could be corrected
    by different models, and their edge would show.
    """
    west, south, east, north = unwrapped(area.bounds)
    box = ee.Geometry.BBox(west, south, east, north)
    name = source(area, "landcover")
    classes = ee.Image(name)
    if is_tiled(name):
        tiles = ee.ImageCollection(name.removesuffix("/*")).filterBounds(box)
        classes = tiles.mosaic()
    width = (east - west) * math.cos(math.radians((south + north) / 2))
    scale = max(100.0, area.resolution, max(width, north - south) * _DEGREE / 500)
    return _share(classes.select([0]), box, "EPSG:4326", scale)


def _share(classes: ee.Image, place: ee.Geometry, crs: str, scale: float) -> ee.Number:
    # Weighed by their ground: pixels of equal degrees shrink northwards.
    land = classes.neq(_WATER).unmask(1, False).multiply(ee.Image.pixelArea()).rename("land")
    sums = (
        _plants(classes)
        .multiply(land)
        .addBands(land)
        .reduceRegion(reducer=ee.Reducer.sum(), geometry=place, crs=crs, scale=scale, maxPixels=1e9)
    )
    plants, whole = ee.Number(sums.get("vegetated")), ee.Number(sums.get("land"))
    # Too small to matter, except where both are 0.
    return plants.add(1e-6).divide(whole.add(1e-6))


def chosen_model(site: Site, settled: Settled) -> Model | Literal["none"] | ee.Image:
    """Return the model of a site's slope correction; an image where it is not one known word.

    ``auto`` is one model for the whole site, by `vegetated_share`: a constant once that was asked,
    else an image that is 1 or 0 everywhere and asks for it in every tile. ``per_pixel`` is
    `vegetated`. Never by a map of one of the dates: its changes would look like the radar's.
    """
    model = settled.model or site.slope_correction
    if model == "per_pixel":
        return vegetated(site)
    if model != "auto":
        return model
    if settled.vegetated is not None:
        return "volume" if settled.vegetated >= 0.5 else "surface"
    if source(site, "landcover") == "none":
        return "volume"
    return ee.Image.constant(vegetated_share(site).gte(0.5))
