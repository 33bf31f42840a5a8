"""Sentinel-1: filters, border noise, composites of one viewing geometry, and their change.

From where the radar looks is in `gee.scripts.radar_geometry`, the slope correction and the choice
of its model in `gee.scripts.slope_correction`.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import ee

from gee.scripts import terrain
from gee.scripts.place import in_window, of_site, region, source
from gee.scripts.radar_geometry import (
    Direction,
    cast_shadow,
    incidence_angle,
    orbit_look,
    terrain_geometry,
    view,
)
from gee.scripts.settled import Orbit, Settled
from gee.scripts.slope_correction import Model, chosen_model, gain, vegetated, vegetated_share
from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = [
    "BANDS",
    "BORDERS_CLEAN",
    "CLEAN_SWATH",
    "POLARISATIONS",
    "Orbit",
    "change",
    "collection",
    "composite",
    "despeckled",
    "geometry",
    "orbit_look",
    "survey_facts",
    "to_db",
    "to_power",
    "vegetated",
    "vegetated_share",
]

POLARISATIONS = ("VV", "VH")
BANDS = ("preVV", "postVV", "dVV", "preVH", "postVH", "dVH")
"""Bands of `change`, all in dB."""

_MASKS = ["layover", "shadow"]
_RADIANS = math.pi / 180.0
BORDERS_CLEAN = dt.date(2018, 3, 13)
"""Products from this day on have their border noise removed (D. Stasolla and X. Neyt, Sensors
18(10), 3454, 2018, doi 10.3390/s18103454); older ones were never all processed again."""

CLEAN_SWATH = (30.63993, 45.23993)
"""Degrees of incidence inside which the swath of older ones is free of it (J. N. Hird et al.,
Remote Sensing 9(12), 1315, 2017, doi 10.3390/rs9121315; usual in Earth Engine since)."""

_CLEAN_FROM = dt.datetime.combine(BORDERS_CLEAN, dt.time(), dt.UTC).timestamp() * 1000


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


def _images(site: Site, window: Window, settled: Settled) -> ee.ImageCollection:
    images = of_site(collection(site, None, settled.orbits), site, "s1", window, settled)
    if settled.orbits is None and site.relative_orbit is not None:
        images = images.filter(ee.Filter.eq("relativeOrbitNumber_start", site.relative_orbit))
    return images


def _of_both_windows(site: Site, settled: Settled) -> ee.ImageCollection:
    assert site.pre is not None and site.post is not None
    return _images(site, site.pre, settled).merge(_images(site, site.post, settled))


def to_power(image: ee.Image) -> ee.Image:
    """Return dB as linear power; averages are only right in power."""
    return ee.Image.constant(10).pow(image.divide(10))


def to_db(image: ee.Image) -> ee.Image:
    """Return linear power as dB."""
    return image.log10().multiply(10)


def survey_facts(site: Site, orbit: Orbit | None, *, with_map: bool = True) -> ee.Dictionary:
    """Return what a survey asks once, so that no tile has to.

    Parameters
    ----------
    site : Site
    orbit : Orbit or None
        The one that is used on both sides; None where the images do not say.
    with_map : bool
        Whether ``sources.landcover`` is there.

    Returns
    -------
    ee.Dictionary
        ``look`` and ``incidence`` (`gee.scripts.radar_geometry.view`), for `Settled.look` and
        `Settled.incidence`; absent where images of both passes may be among them. ``vegetated``
        (`vegetated_share`), for `Settled.vegetated`; absent without a map.
    """
    known = Settled(orbits=None if orbit is None else (orbit,))
    direction = _direction(site, known)
    facts = ee.Dictionary({})
    if direction is not None:
        facts = view(_of_both_windows(site, known), site, direction)
    if with_map and source(site, "landcover") != "none":
        facts = facts.set("vegetated", vegetated_share(site))
    return facts


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


class _View(NamedTuple):
    """Images that look from one side, and the direction to their satellite in radians."""

    images: ee.ImageCollection
    look: ee.Number | float


def _direction(site: Site, settled: Settled) -> Direction | None:
    if settled.orbits is None:
        return site.orbit_pass
    directions = {orbit.direction for orbit in settled.orbits}
    return directions.pop() if len(directions) == 1 else None


def _views(images: ee.ImageCollection, site: Site, settled: Settled) -> list[_View]:
    """Part images by the side they look from; the service is asked only where nobody did."""
    if settled.look is not None:
        return [_View(images, settled.look * _RADIANS)]
    every = _of_both_windows(site, settled)

    def asked(kept: ee.Filter | None, direction: Direction | None) -> _View:
        mine = images if kept is None else images.filter(kept)
        facts = view(every if kept is None else every.filter(kept), site, direction)
        return _View(mine, ee.Number(facts.get("look")).multiply(_RADIANS))

    known = _direction(site, settled)
    if known is not None:
        return [asked(None, known)]
    up = ee.Filter.eq("orbitProperties_pass", "ASCENDING")
    down = ee.Filter.eq("orbitProperties_pass", "DESCENDING")
    # Images of one's own may not say their pass.
    rest = ee.Filter.Or(up, down).Not()
    return [asked(up, "ASCENDING"), asked(down, "DESCENDING"), asked(rest, None)]


def _of_one_orbit(site: Site, settled: Settled) -> bool:
    if settled.orbits is not None:
        return len(settled.orbits) == 1
    # A relative orbit has an ascending half and a descending one.
    return site.relative_orbit is not None and site.orbit_pass is not None


def _theta(image: ee.Image) -> ee.Image:
    return incidence_angle(image).multiply(_RADIANS)


def _mean_theta(site: Site, settled: Settled) -> ee.Image:
    return _of_both_windows(site, settled).map(_theta).mean()


def _ground(site: Site, seen: _View, theta: ee.Image) -> ee.Image:
    found = terrain_geometry(theta, terrain.gradient(site), seen.look)
    if not site.cast_shadow:
        return found
    shadow = found.select("shadow").Or(cast_shadow(site, theta, seen.look))
    return found.addBands(shadow.rename("shadow"), overwrite=True)


def _power(image: ee.Image, site: Site, borders: bool) -> ee.Image:
    """Return sigma0 as linear power, without the border noise of old products."""
    image = ee.Image(image)
    power = image.select(list(POLARISATIONS))
    if not source(site, "s1").endswith("_FLOAT"):
        power = to_power(power).rename(list(POLARISATIONS))
    if not borders:
        return power
    angle = incidence_angle(image)
    clean = ee.Image.constant(image.date().millis().gte(_CLEAN_FROM))
    return power.updateMask(angle.gt(CLEAN_SWATH[0]).And(angle.lt(CLEAN_SWATH[1])).Or(clean))


def _level(
    seen: _View, site: Site, settled: Settled, model: Model | ee.Image, borders: bool
) -> ee.ImageCollection:
    """Return images as level ground would show them, linear power."""

    def factor(theta: ee.Image) -> ee.Image:
        return gain(theta, _ground(site, seen, theta), model)

    if _of_one_orbit(site, settled):
        once = factor(_mean_theta(site, settled))
        return seen.images.map(lambda image: _power(image, site, borders).multiply(once))
    return seen.images.map(
        lambda image: _power(image, site, borders).multiply(factor(_theta(image)))
    )


def composite(site: Site, window: Window, settled: Settled | None = None) -> ee.Image:
    """Return the median of the (slope-corrected) images of a window: bands VV and VH in dB.

    In this order: linear power; border noise of old products masked; slope correction, masked in
    layover and shadow; `Site.speckle_filter`, so that no bright layover leaks into its windows and
    none of them averages over slopes of different brightness; median.

    Of one orbit, the correction is one image for all dates of both windows, made from their mean
    incidence angle: without a speckle filter the change in dB is the same whatever the model. With
    `Site.slope_correction` "none" it is sigma0 as stored, and neither the ``angle`` band nor the
    DEM is touched.

    Parameters
    ----------
    site : Site
    window : Window
    settled : Settled, optional
        Without it every tile asks for the look direction (once for each pass) and, with "auto",
        for the land cover; images of several relative orbits are corrected one by one.

    Returns
    -------
    ee.Image
        gamma0 of level ground, dB; sigma0 without a correction. Masked where no image sees the
        ground.
    """
    known = settled or Settled()
    images, model = _images(site, window, known), chosen_model(site, known)
    if isinstance(model, str) and model == "none":
        power = images.map(lambda image: _power(image, site, False))
    else:
        borders = window.start < BORDERS_CLEAN
        power = _joined(
            [_level(seen, site, known, model, borders) for seen in _views(images, site, known)]
        )
    if site.speckle_filter is not None:
        power = despeckled(power, site.speckle_filter)
    return to_db(power.median()).rename(list(POLARISATIONS))


def _joined(parts: Sequence[ee.ImageCollection]) -> ee.ImageCollection:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


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

    One answer for both dates, from the mean incidence angle of the images of both windows, which
    are of one orbit once that is settled. Images of several orbits are looked at one by one:
    ``layover`` and ``shadow`` are then 1 where any of them has it, ``liaDeg`` is their mean.

    Layover and shadow are those of the ground's own slope (`terrain_geometry`); with
    `Site.cast_shadow`, the shadow that other ground casts counts as well (`cast_shadow`). Layover
    that comes from ground in front of it or behind it is in neither.

    Returns
    -------
    ee.Image
        ``liaDeg`` in degrees, exact for the gradient on the terrain grid. Masked only where the
        DEM or the angle is unknown: not in layover or shadow, not where the composites are.
    """
    known = settled or Settled()
    seen = _views(_of_both_windows(site, known), site, known)
    if _of_one_orbit(site, known):
        found = _ground(site, seen[0], _mean_theta(site, known))
    else:
        every = _joined([_grounds(each, site) for each in seen])
        found = every.mean().addBands(every.select(_MASKS).max(), overwrite=True)
    return found.select([*_MASKS, "lia"], [*_MASKS, "liaDeg"])


def _grounds(seen: _View, site: Site) -> ee.ImageCollection:
    return seen.images.map(lambda image: _ground(site, seen, _theta(image)).toDouble())
