"""Sentinel-1: filters, border noise, angular slope correction, composites and their change.

The slope correction follows A. Vollrath, A. Mullissa and J. Reiche, Angular-based radiometric
slope correction for Sentinel-1 on Google Earth Engine, Remote Sensing 12(11), 1867, 2020,
doi 10.3390/rs12111867; numbers of equations below are theirs.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import ee

from gee.grids import crs_code
from gee.scripts import terrain
from gee.scripts.place import in_window, mapped, of_site, pinned, region, source, terrain_grid
from gee.scripts.settled import Orbit, Settled
from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = [
    "BANDS",
    "POLARISATIONS",
    "Orbit",
    "cast_shadow",
    "change",
    "collection",
    "composite",
    "despeckled",
    "geometry",
    "look_direction",
    "orbit_look",
    "slope_corrected",
    "terrain_geometry",
    "to_db",
    "to_power",
    "vegetated",
    "vegetated_share",
]

POLARISATIONS = ("VV", "VH")
BANDS = ("preVV", "postVV", "dVV", "preVH", "postVH", "dVH")
"""Bands of `change`, all in dB."""

_RADIANS = math.pi / 180.0
_INCLINATION = 98.18  # degrees, of the orbit of all Sentinel-1 satellites
_REVOLUTIONS_PER_DAY = 14 + 7 / 12  # 175 in 12 days
# Scenes processed before this day still carry low values along their borders.
_BORDERS_CLEAN = dt.date(2018, 3, 13)
# Incidence angles (degrees) inside which the swath is free of them.
_SWATH = (30.64, 45.54)


def collection(
    site: Site, window: Window | None = None, orbits: Sequence[Orbit] | None = None
) -> ee.ImageCollection:
    """Return the dual-polarised IW ground-range images over a site, as stored.

    Parameters
    ----------
    site : Site
        `orbit_pass` keeps one flight direction, None keeps both.
    window : Window, optional
    orbits : sequence of Orbit, optional
        Keeps these viewing geometries only.

    Raises
    ------
    ConfigError
        `orbits` is empty: no image could pass.
    """
    images = ee.ImageCollection(source(site, "s1")).filterBounds(region(site))
    images = images.filter(ee.Filter.eq("instrumentMode", "IW"))
    for polarisation in POLARISATIONS:
        images = images.filter(
            ee.Filter.listContains("transmitterReceiverPolarisation", polarisation)
        )
    if site.orbit_pass is not None:
        images = images.filter(ee.Filter.eq("orbitProperties_pass", site.orbit_pass))
    if orbits is not None:
        if not orbits:
            raise ConfigError(
                f"Site {site.name}: the list of Sentinel-1 orbits is empty.",
                hint="Leave it out to use every orbit.",
            )
        images = images.filter(ee.Filter.Or(*[_of(orbit) for orbit in sorted(orbits)]))
    return images if window is None else in_window(images, window)


def _of(orbit: Orbit) -> ee.Filter:
    return ee.Filter.And(
        ee.Filter.eq("orbitProperties_pass", orbit.direction),
        ee.Filter.eq("relativeOrbitNumber_start", orbit.relative),
    )


def to_power(image: ee.Image) -> ee.Image:
    """Return dB as linear power; averages are only right in power."""
    return ee.Image.constant(10).pow(image.divide(10))


def to_db(image: ee.Image) -> ee.Image:
    """Return linear power as dB."""
    return image.log10().multiply(10)


def orbit_look(site: Site, direction: Literal["ASCENDING", "DESCENDING"]) -> float:
    """Return the direction from the ground to the satellite, degrees clockwise from grid north.

    From the orbit's inclination and period, the Earth's rotation under it, and the meridian
    convergence of the site's CRS; the satellite looks to its right.
    """
    from pyproj import Proj

    west, south, east, north = site.bounds
    longitude, latitude = (west + east) / 2, (south + north) / 2
    # Beyond the turning point of the orbit the track runs due west.
    ratio = math.cos(_INCLINATION * _RADIANS) / math.cos(latitude * _RADIANS)
    inertial = math.asin(max(-1.0, min(1.0, ratio)))
    eastward = _REVOLUTIONS_PER_DAY * math.sin(inertial) - math.cos(latitude * _RADIANS)
    northward = _REVOLUTIONS_PER_DAY * math.cos(inertial)
    heading = math.degrees(math.atan2(eastward, northward))
    if direction == "DESCENDING":
        heading = 180.0 - heading
    grid = site.grid()
    assert grid.crs is not None
    convergence = Proj(grid.crs.proj).get_factors(longitude, latitude).meridian_convergence
    return (heading + 270.0 - convergence) % 360.0


def look_direction(image: ee.Image, site: Site) -> ee.Number:
    """Return the direction from the ground to the satellite in radians, clockwise from grid north.

    The incidence angle grows away from the satellite, so the aspect of the ``angle`` band faces
    it. The mean over the site is a circular one: the plain mean of 359 and 1 degree is 180.
    Where the band has no aspect inside the site, the orbit's geometry stands in (`orbit_look`).
    """
    aspect = ee.Terrain.aspect(image.select("angle").resample("bilinear")).multiply(_RADIANS)
    parts = aspect.cos().rename("x").addBands(aspect.sin().rename("y"))
    grid = site.grid()
    side = max(grid.shape) * site.resolution
    # Sums of an unmasked image: never null, and 0 where nothing was seen.
    total = parts.unmask(0, False).reduceRegion(
        reducer=ee.Reducer.sum(),
        geometry=region(site),
        crs=crs_code(grid),
        scale=max(site.resolution, min(1000.0, side / 8)),
        maxPixels=1e9,
    )
    x, y = ee.Number(total.get("x")), ee.Number(total.get("y"))
    expected = ee.Dictionary(
        {name: orbit_look(site, name) * _RADIANS for name in ("ASCENDING", "DESCENDING")}
    ).get(image.get("orbitProperties_pass"))
    # Earth Engine's atan2 belongs to the x coordinate and takes y.
    return ee.Number(ee.Algorithms.If(x.abs().add(y.abs()).gt(0), x.atan2(y), expected))


def terrain_geometry(theta: ee.Image, gradient: ee.Image, look: ee.Number) -> ee.Image:
    """Return how the ground lies towards the radar.

    Parameters
    ----------
    theta : ee.Image
        Incidence angle on the ellipsoid, radians.
    gradient : ee.Image
        Bands ``north`` and ``east`` of `gee.scripts.terrain.gradient`.
    look : ee.Number
        Direction from the ground to the satellite, radians (`look_direction`).

    Returns
    -------
    ee.Image
        Bands ``range`` and ``azimuth`` (steepness towards the radar and along its track, radians,
        equations 2 and 3), ``lia`` (angle between the line of sight and the normal of the ground,
        degrees; exact, where equation 4 multiplies two cosines and is off by up to half a degree),
        ``layover`` and ``shadow`` (1 where it is so, equations 7 and 8).
    """
    north, east = gradient.select("north"), gradient.select("east")
    cos, sin = ee.Image.constant(look.cos()), ee.Image.constant(look.sin())
    # tan(slope) cos(look - aspect) and tan(slope) sin(look - aspect), written without the aspect.
    towards = north.multiply(cos).add(east.multiply(sin))
    along = north.multiply(sin).subtract(east.multiply(cos))
    in_range, in_azimuth = towards.atan(), along.atan()
    upright = towards.multiply(towards).add(along.multiply(along)).add(1).sqrt()
    local = theta.cos().add(towards.multiply(theta.sin())).divide(upright).acos()
    layover = in_range.gte(theta)
    shadow = in_range.lte(theta.subtract(math.pi / 2))
    return ee.Image.cat(
        [
            in_range.rename("range"),
            in_azimuth.rename("azimuth"),
            local.divide(_RADIANS).rename("lia"),
            layover.rename("layover"),
            shadow.rename("shadow"),
        ]
    )


def slope_corrected(
    power: ee.Image,
    theta: ee.Image,
    geometry: ee.Image,
    model: Literal["volume", "surface"] | ee.Image,
) -> ee.Image:
    """Return the backscatter that level ground would show, in linear power.

    Parameters
    ----------
    power : ee.Image
        sigma0, linear power.
    theta : ee.Image
        Incidence angle on the ellipsoid, radians.
    geometry : ee.Image
        From `terrain_geometry`.
    model : {"volume", "surface"} or ee.Image
        Scattering by a volume (vegetation; equation 5) or by a surface (bare ground; equation 6),
        or an image that is 1 where a volume scatters and 0 where a surface does (`vegetated`).
        Both dates of a change need the same one, or its edges look like change.

    Returns
    -------
    ee.Image
        gamma0 of level ground, masked in layover and in shadow.
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
    return power.divide(theta.cos()).divide(factor).updateMask(seen)


def vegetated(site: Site) -> ee.Image:
    """Return 1 where plants scatter the radar's waves as a volume does, else 0.

    From one fixed map, the same for both dates of a change: tree cover, shrubs, grass, crops,
    wetlands, mangroves, moss and lichen are volumes; built-up and bare ground, snow and water are
    surfaces. Where the map has nothing: 1, as for most ground. The map is ``sources.landcover``,
    with the classes of ESA WorldCover.
    """
    classes = mapped(site, "landcover")
    volumes = {10: 1, 20: 1, 30: 1, 40: 1, 50: 0, 60: 0, 70: 0, 80: 0, 90: 1, 95: 1, 100: 1}
    image = classes.remap(list(volumes), list(volumes.values())).unmask(1, False)
    return image.rename("vegetated")


def vegetated_share(site: Site) -> ee.Number:
    """Return the share of a site's land that is `vegetated`; over one half speaks for "volume"."""
    grid = site.grid()
    mean = vegetated(site).reduceRegion(
        reducer=ee.Reducer.mean(),
        geometry=region(site),
        crs=crs_code(grid),
        scale=max(100.0, site.resolution),
        maxPixels=1e9,
    )
    return ee.Number(mean.get("vegetated"))


def cast_shadow(site: Site, theta: ee.Number, look: ee.Number, reach: int = 100) -> ee.Image:
    """Return 1 where higher ground towards the satellite hides a pixel, band ``shadow``.

    Unlike the ``shadow`` of `terrain_geometry`, which only knows the slope of the pixel itself,
    this follows the beam over the terrain: the shadow of a light that stands where the satellite
    does.

    Parameters
    ----------
    theta : ee.Number
        Incidence angle on the ellipsoid, degrees.
    look : ee.Number
        Direction from the ground to the satellite, degrees from grid north.
    reach : int
        Pixels of the terrain grid over which shadows are followed.
    """
    grid = terrain_grid(site)
    heights = pinned(terrain.elevation(site), grid)
    lit = ee.Terrain.hillShadow(heights, look, theta, reach)
    return pinned(lit.Not(), grid).rename("shadow")


def despeckled(images: ee.ImageCollection, window: int = 7) -> ee.ImageCollection:
    """Return images of one viewing geometry with less speckle, in linear power.

    Multi-temporal filter: every image becomes its local mean times the mean over all images of
    (value / local mean), so edges that stand for long stay sharp (S. Quegan and J. J. Yu, IEEE
    Transactions on Geoscience and Remote Sensing 39(11), 2001, doi 10.1109/36.964973, equation 2
    with equal weights). A change within the series is smoothed by `window`.

    Parameters
    ----------
    images : ee.ImageCollection
        Bands `POLARISATIONS`, linear power.
    window : int
        Side of the square of the local mean, pixels of the output; odd.

    Raises
    ------
    ConfigError
        `window` is even or below 3.
    """
    if window < 3 or window % 2 == 0:
        raise ConfigError(
            f"A speckle filter of {window} pixels has no middle or no neighbours.",
            hint="Give an odd number from 3 on; 7 is usual.",
        )
    kernel = ee.Kernel.square(window // 2)
    bands = list(POLARISATIONS)

    def local(image: ee.Image) -> ee.Image:
        return image.reduceNeighborhood(ee.Reducer.mean(), kernel).rename(bands)

    texture = images.map(lambda image: ee.Image(image).divide(local(ee.Image(image)))).mean()
    return images.map(
        lambda image: local(ee.Image(image)).multiply(texture).copyProperties(
            image, ["system:time_start"]
        )
    )  # fmt: skip


def _model(site: Site, settled: Settled) -> Literal["volume", "surface", "none"] | ee.Image:
    """Return the model of a site's slope correction, as an image where it is not one word."""
    model = settled.model or site.slope_correction
    if model == "auto":
        # 1 everywhere or 0 everywhere.
        return ee.Image.constant(vegetated_share(site).gte(0.5))
    if model == "per_pixel":
        return vegetated(site)
    return model


def _look(image: ee.Image, site: Site, settled: Settled) -> ee.Number:
    if settled.look is not None:
        return ee.Number(settled.look * _RADIANS)
    return look_direction(image, site)


def _prepared(
    image: ee.Image, site: Site, settled: Settled, linear: bool, borders: bool
) -> ee.Image:
    bands = list(POLARISATIONS)
    stored = image.select(bands)
    power = stored if linear else to_power(stored).rename(bands)
    model = _model(site, settled)
    if isinstance(model, str) and model == "none":
        return power
    angle = image.select("angle").resample("bilinear")
    if borders:
        power = power.updateMask(angle.gt(_SWATH[0]).And(angle.lt(_SWATH[1])))
    theta = angle.multiply(_RADIANS)
    ground = terrain_geometry(theta, terrain.gradient(site), _look(image, site, settled))
    return slope_corrected(power, theta, ground, model)


def _images(site: Site, window: Window, settled: Settled) -> ee.ImageCollection:
    images = of_site(collection(site, None, settled.orbits), site, "s1", window, settled)
    if settled.orbits is None and site.relative_orbit is not None:
        images = images.filter(ee.Filter.eq("relativeOrbitNumber_start", site.relative_orbit))
    return images


def composite(site: Site, window: Window, settled: Settled | None = None) -> ee.Image:
    """Return the median of the (slope-corrected) images of a window: bands VV and VH in dB.

    The median is taken in linear power. With `Site.slope_correction` "none" it is that of sigma0
    as stored, and neither the ``angle`` band nor the DEM is touched.
    """
    known = settled or Settled()
    linear = source(site, "s1").endswith("_FLOAT")
    borders = window.start < _BORDERS_CLEAN
    prepared = _images(site, window, known).map(
        lambda image: _prepared(ee.Image(image), site, known, linear, borders)
    )
    return to_db(prepared.median()).rename(list(POLARISATIONS))


def change(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the composites before and after and their difference in dB, bands as in `BANDS`."""
    assert site.pre is not None and site.post is not None
    before, after = composite(site, site.pre, settled), composite(site, site.post, settled)
    parts = []
    for polarisation in POLARISATIONS:
        pre = before.select(polarisation).rename(f"pre{polarisation}")
        post = after.select(polarisation).rename(f"post{polarisation}")
        parts += [pre, post, post.subtract(pre).rename(f"d{polarisation}")]
    return ee.Image.cat(parts)


def geometry(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return how the radar sees the ground: bands ``layover``, ``shadow`` (0, 1), ``liaDeg``.

    From the mean incidence angle of the images before the change.
    """
    assert site.pre is not None
    known = settled or Settled()
    images = _images(site, site.pre, known)
    angle = images.map(lambda image: ee.Image(image).select("angle").resample("bilinear")).mean()
    first = ee.Image(images.first())
    ground = terrain_geometry(
        angle.multiply(_RADIANS), terrain.gradient(site), _look(first, site, known)
    )
    return ground.select(["layover", "shadow", "lia"], ["layover", "shadow", "liaDeg"])
