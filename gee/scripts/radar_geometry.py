"""From where Sentinel-1 sees a site, and how the ground lies towards it.

A viewing geometry is the direction from the ground to the satellite (one number for a site), the
incidence angle on the ellipsoid (a band of every image), and the terrain.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import ee

from gee.grids import crs_code
from gee.scripts import terrain
from gee.scripts.place import pinned, region, terrain_grid
from thawslump.grid import unwrapped

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = ["Direction", "cast_shadow", "incidence_angle", "orbit_look", "terrain_geometry", "view"]

Direction = Literal["ASCENDING", "DESCENDING"]

_RADIANS = math.pi / 180.0
_INCLINATION = 98.18  # degrees, of the orbit of all Sentinel-1 satellites
_REVOLUTIONS_PER_DAY = 14 + 7 / 12  # 175 in 12 days
_HEIGHT, _RADIUS = 693.0, 6371.0  # km, of the orbit and of the Earth
# Images that are asked for their angles. All of one orbit show the same to 0.01 degrees.
_ASKED = 12
# The angle changes by some 5e-5 degrees per metre; the orbit's word counts a little beside that.
_VOTE = 1e-7


def incidence_angle(image: ee.Image) -> ee.Image:
    """Return the incidence angle on the ellipsoid, degrees: the band ``angle``, read smoothly.

    The band is stored every 10 to 20 km. Bilinear reading may end half of such a pixel before the
    image does; the nearest value stands there, at most half a degree off.
    """
    stored = ee.Image(image).select("angle")
    return stored.resample("bilinear").unmask(stored, False)


def orbit_look(site: Site, direction: Direction, incidence: float = 38.0) -> float:
    """Return the direction from the ground to the satellite, degrees clockwise from grid north.

    From the orbit's inclination, height and period, the Earth's rotation under it, and the meridian
    convergence of the site's CRS; the satellite looks to its right, on a sphere. It stands some
    500 km away: at 72 degrees north, where meridians converge, the direction to it differs by 14
    degrees from the one that its heading at that latitude suggests.

    Parameters
    ----------
    site : Site
    direction : {"ASCENDING", "DESCENDING"}
    incidence : float
        On the ellipsoid, degrees; the middle of the swath where not given.
    """
    from pyproj import Proj

    west, south, east, north = unwrapped(site.bounds)
    longitude, latitude = (west + east) / 2, (south + north) / 2
    theta = incidence * _RADIANS
    arc = theta - math.asin(math.sin(theta) / (1 + _HEIGHT / _RADIUS))
    # Angles along the orbit from the equator, northwards; what is seen moves north with them.
    south_end, north_end = (-90.0, 90.0) if direction == "ASCENDING" else (270.0, 90.0)
    for _ in range(50):
        middle = (south_end + north_end) / 2
        if _seen_from(middle * _RADIANS, arc)[0] < latitude * _RADIANS:
            south_end = middle
        else:
            north_end = middle
    towards = math.degrees(_seen_from(north_end * _RADIANS, arc)[1])
    grid = site.grid()
    assert grid.crs is not None
    convergence = Proj(grid.crs.proj).get_factors(longitude, latitude).meridian_convergence
    return float((towards - convergence) % 360.0)


def _seen_from(along: float, arc: float) -> tuple[float, float]:
    """Return the latitude that is seen `arc` to the right of the track, and the direction back.

    Radians; `along` is the angle along the orbit from the equator, northwards.
    """
    tilt = _INCLINATION * _RADIANS
    below = math.asin(math.sin(tilt) * math.sin(along))
    eastward = math.cos(tilt) / math.cos(below) - math.cos(below) / _REVOLUTIONS_PER_DAY
    northward = math.sin(tilt) * math.cos(along) / math.cos(below)
    right = math.atan2(eastward, northward) + math.pi / 2
    latitude = math.asin(
        math.sin(below) * math.cos(arc) + math.cos(below) * math.sin(arc) * math.cos(right)
    )
    turn = math.atan2(
        math.sin(right) * math.sin(arc) * math.cos(below),
        math.cos(arc) - math.sin(below) * math.sin(latitude),
    )
    back = math.atan2(
        -math.sin(turn) * math.cos(below),
        math.cos(latitude) * math.sin(below)
        - math.sin(latitude) * math.cos(below) * math.cos(turn),
    )
    return latitude, back


def view(images: ee.ImageCollection, site: Site, direction: Direction | None) -> ee.Dictionary:
    """Return from where the images of one orbit (or pass) see a site, from their ``angle`` band.

    The incidence angle grows away from the satellite, so the direction in which that band falls
    faces it. Its mean over images and site is that of vectors, not of angles: the plain mean of
    359 and 1 degree is 180. It costs one reduction over the site, of a few images.

    Parameters
    ----------
    images : ee.ImageCollection
        With a band ``angle``, degrees.
    site : Site
    direction : {"ASCENDING", "DESCENDING"} or None
        Where the band has no aspect inside the site (constant, or masked), the orbit's geometry
        stands in for it (`orbit_look`), if the pass is known.

    Returns
    -------
    ee.Dictionary
        ``look``, degrees clockwise from grid north, 0 to 360, null where neither the band nor the
        pass tells; ``incidence``, mean of the angle in degrees, 0 where it is masked everywhere.
    """

    def parts(image: ee.Image) -> ee.Image:
        angle = ee.Image(image).select("angle").resample("bilinear")
        facing = ee.Terrain.aspect(angle).multiply(_RADIANS)
        fall = ee.Terrain.slope(angle).multiply(_RADIANS).tan()
        # Means of unmasked bands are never null, and 0 where nothing was seen.
        return ee.Image.cat(
            [
                facing.cos().multiply(fall).rename("x"),
                facing.sin().multiply(fall).rename("y"),
                angle.rename("angle"),
                angle.mask().rename("seen"),
            ]
        ).unmask(0, False)

    grid = site.grid()
    side = max(grid.shape) * site.resolution
    means = (
        images.limit(_ASKED)
        .map(parts)
        .mean()
        .reduceRegion(
            reducer=ee.Reducer.mean(),
            geometry=region(site),
            crs=crs_code(grid),
            scale=max(site.resolution, min(1000.0, side / 8)),
            maxPixels=1e9,
        )
    )
    x, y = ee.Number(means.get("x")), ee.Number(means.get("y"))
    if direction is None:
        turned: ee.ComputedObject = ee.Algorithms.If(
            x.abs().add(y.abs()).gt(0), _degrees(x, y), None
        )
    else:
        expected = orbit_look(site, direction) * _RADIANS
        turned = _degrees(x.add(_VOTE * math.cos(expected)), y.add(_VOTE * math.sin(expected)))
    incidence = ee.Number(means.get("angle")).divide(ee.Number(means.get("seen")).max(1e-9))
    return ee.Dictionary({"look": turned, "incidence": incidence})


def _degrees(x: ee.Number, y: ee.Number) -> ee.Number:
    # Earth Engine's atan2 belongs to the x coordinate and takes y.
    return x.atan2(y).divide(_RADIANS).add(360).mod(360)


def terrain_geometry(theta: ee.Image, gradient: ee.Image, look: ee.Number | float) -> ee.Image:
    """Return how the ground lies towards the radar.

    Equations are those of Vollrath et al. (2020), doi 10.3390/rs12111867.

    Parameters
    ----------
    theta : ee.Image
        Incidence angle on the ellipsoid, radians.
    gradient : ee.Image
        Bands ``north`` and ``east`` of `gee.scripts.terrain.gradient`.
    look : ee.Number or float
        Direction from the ground to the satellite, radians clockwise from grid north.

    Returns
    -------
    ee.Image
        Bands ``range`` and ``azimuth`` (steepness towards the radar and along its track, radians,
        equations 2 and 3), ``lia`` (angle between the line of sight and the normal of the ground,
        degrees; exact, where equation 4 multiplies two cosines and is off by up to half a degree),
        ``layover`` and ``shadow`` (1 where it is so, equations 7 and 8). Masked where the gradient
        or the incidence angle is.
    """
    north, east = gradient.select("north"), gradient.select("east")
    if isinstance(look, ee.Number):
        cos, sin = ee.Image.constant(look.cos()), ee.Image.constant(look.sin())
    else:
        cos, sin = ee.Image.constant(math.cos(look)), ee.Image.constant(math.sin(look))
    # tan(slope) cos(look - aspect) and tan(slope) sin(look - aspect), written without the aspect.
    towards = north.multiply(cos).add(east.multiply(sin))
    along = north.multiply(sin).subtract(east.multiply(cos))
    in_range, in_azimuth = towards.atan(), along.atan()
    upright = towards.multiply(towards).add(along.multiply(along)).add(1).sqrt()
    # Rounding must not carry the cosine beyond 1, where its angle is undefined.
    cosine = theta.cos().add(towards.multiply(theta.sin())).divide(upright).clamp(-1, 1)
    layover = in_range.gte(theta)
    shadow = in_range.lte(theta.subtract(math.pi / 2))
    return ee.Image.cat(
        [
            in_range.rename("range"),
            in_azimuth.rename("azimuth"),
            cosine.acos().divide(_RADIANS).rename("lia"),
            layover.rename("layover"),
            shadow.rename("shadow"),
        ]
    )


def cast_shadow(
    site: Site, theta: ee.Image, look: ee.Number | float, reach: float = 2000.0
) -> ee.Image:
    """Return 1 where higher ground towards the satellite hides a pixel, else 0, band ``shadow``.

    Unlike the ``shadow`` of `terrain_geometry`, which only knows the slope of the pixel itself,
    this walks from every pixel towards the satellite, in steps of a pixel of the terrain grid, and
    compares the heights there, read bilinearly, with those of the beam. (`ee.Terrain.hillShadow`
    is documented for Mercator projections only, and walks over whole pixels.) Each step reads the
    DEM again, 67 times for the global one.

    Parameters
    ----------
    theta : ee.Image
        Incidence angle on the ellipsoid, radians.
    look : ee.Number or float
        Direction from the ground to the satellite, radians clockwise from grid north.
    reach : float
        Metres that are walked. Ground 1.9 km above hides nothing beyond 2 km.
    """
    grid = terrain_grid(site)
    step = max(abs(grid.transform.a), reach / 100)
    heights = terrain.elevation(site, margin=reach)
    projection = ee.Projection(crs_code(site.grid()))
    number = ee.Number(look)
    # What lies that way comes here when everything is moved the other way.
    east, north = number.sin().multiply(-1), number.cos().multiply(-1)
    fall = theta.tan().pow(-1)

    def beside(steps: ee.ComputedObject) -> ee.Image:
        metres = ee.Number(steps).multiply(step)
        moved = heights.translate(
            metres.multiply(east), metres.multiply(north), "meters", projection
        )
        return moved.subtract(fall.multiply(ee.Image.constant(metres)))

    steps = ee.List.sequence(1, math.ceil(reach / step))
    highest = ee.ImageCollection(steps.map(beside)).max()
    return pinned(highest.gt(heights), site.grid()).unmask(0, False).rename("shadow")
