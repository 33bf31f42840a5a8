"""Sentinel-2: one mask of clear ground, greenest-pixel composites, NDVI and their change.

Everything made from Sentinel-2 (composites, NDVI, the image of the land cover, the counts of
clear observations) sees the same pixels: those of `seen`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.scripts.place import of_site, region, source
from gee.scripts.settled import Settled
from thawslump.errors import ConfigError
from thawslump.grid import lonlat_bounds

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = [
    "CLEAR",
    "CLOUD_SCORE",
    "by_score",
    "clear",
    "cloud_score_there",
    "collection",
    "dndvi",
    "greenest",
    "masked",
    "ndvi",
    "observations",
    "scored",
    "seen",
    "solar_day",
    "solar_shift",
]

CLEAR = (4, 5, 6, 7)
"""Classes of the scene classification that count as seen: vegetation, bare soil, water, and
unclassified, which holds clouds of low probability too. Left out: no data (0), saturated (1), dark
ground and the shadow of slopes (2, one class), cloud shadow (3), cloud of medium and high
probability (8, 9), cirrus (10), snow and ice (11)."""

CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
"""Cloud Score+ (V. J. Pasquarella et al., CVPR Workshops 2023), one image per Sentinel-2 image."""
_SCORE = "cs_cdf"
# What the scene classification adds to the score, which knows clouds and their shadows only: no
# data, saturated, the shadow of slopes, snow.
_NOT_GROUND = (0, 1, 2, 11)


def collection(
    site: Site, window: Window | None = None, settled: Settled | None = None
) -> ee.ImageCollection:
    """Return the images over a site, of a window where given, not yet masked.

    Only those that were settled on, where they were.
    """
    images = ee.ImageCollection(source(site, "s2")).filterBounds(region(site))
    return images if window is None else of_site(images, site, "s2", window, settled)


def by_score(site: Site, settled: Settled | None = None) -> bool:
    """Tell whether clouds are found by Cloud Score+ (else by the scene classification).

    `Site.cloud_mask` says so, or leaves it (``auto``) to whether the site's images have scores
    (`Settled.cloud_score`). Not asked counts as no: every image has a scene classification.

    Raises
    ------
    ConfigError
        The site wants scores, and its images have none.
    """
    there = None if settled is None else settled.cloud_score
    if site.cloud_mask == "cloud_score" and there is False:
        raise ConfigError(
            f"Site {site.name}: cloud_mask is cloud_score, but no image of its windows has a "
            f"score in {source(site, 'cloud_score')}.",
            hint="Set cloud_mask: auto (scores where they exist) or scl.",
        )
    return site.cloud_mask == "cloud_score" or (site.cloud_mask == "auto" and there is True)


def cloud_score_there(site: Site) -> ee.Number:
    """Return how many images of the site's two windows have a score, as a lazy number.

    0 where the collection of scores holds none of them; a collection that does not exist is an
    error of the service ("not found") when the number is asked for.
    """
    assert site.pre is not None and site.post is not None
    scores = ee.ImageCollection(source(site, "cloud_score")).filterBounds(region(site))
    same = ee.Filter.equals(leftField="system:index", rightField="system:index")

    def count(window: Window) -> ee.Number:
        return ee.Join.simple().apply(collection(site, window), scores, same).size()

    return ee.Number(count(site.pre)).add(count(site.post))


def clear(image: ee.Image) -> ee.Image:
    """Return 1 where the scene classification (band ``SCL``) shows the ground, else 0.

    The bit mask QA60 is never used: it is empty for 2022-01 to 2024-02 and finds no shadow.
    """
    return image.select("SCL").remap(list(CLEAR), [1] * len(CLEAR), 0).rename("clear")


def scored(
    images: ee.ImageCollection, scores: str = CLOUD_SCORE, threshold: float = 0.6
) -> ee.ImageCollection:
    """Return images with the band ``clear`` from Cloud Score+, and from `clear` where it has none.

    Parameters
    ----------
    images : ee.ImageCollection
        Sentinel-2 images with the band ``SCL``.
    scores : str
        Collection whose images have the ``system:index`` of theirs and the band ``cs_cdf``.
    threshold : float
        Ground counts as seen from this score on, 0 to 1; its authors suggest 0.5 to 0.65.

    Notes
    -----
    Snow and shaded slopes, which the score takes for clear, and pixels without data are left out
    by the scene classification in either case. An image without a partner among the scores (they
    lag behind the newest images, and gaps of the archive are still being filled) keeps the mask
    of its scene classification; so does a pixel whose score is masked.
    """
    linked = images.linkCollection(ee.ImageCollection(scores), [_SCORE])

    def with_clear(image: ee.Image) -> ee.Image:
        image = ee.Image(image)
        ground = image.select("SCL").remap(list(_NOT_GROUND), [0] * len(_NOT_GROUND), 1)
        seen = image.select(_SCORE).gte(threshold).And(ground)
        return image.addBands(seen.unmask(clear(image), False).rename("clear"))

    return linked.map(with_clear)


def seen(site: Site, window: Window, settled: Settled | None = None) -> ee.ImageCollection:
    """Return the images of a window with the band ``clear``: 1 where they show the ground, else 0.

    Nothing is masked yet; `masked` does that. All that is made from Sentinel-2 goes through here.
    """
    images = collection(site, window, settled)
    if by_score(site, settled):
        return scored(images, source(site, "cloud_score"), site.cloud_score_threshold)
    return images.map(lambda image: ee.Image(image).addBands(clear(ee.Image(image))))


def masked(site: Site, window: Window, settled: Settled | None = None) -> ee.ImageCollection:
    """Return the images of a window with everything but clear ground masked."""

    def only_clear(image: ee.Image) -> ee.Image:
        image = ee.Image(image)
        return image.updateMask(image.select("clear"))

    return seen(site, window, settled).map(only_clear)


def observations(site: Site, window: Window, settled: Settled | None = None) -> ee.Image:
    """Return on how many days of a window the ground of every pixel was seen.

    Band ``observations``; 0 where it never was; never masked. Images of one day (`solar_day`) are
    one observation: the tiles of an overpass overlap by up to 10 km.
    """

    def day(image: ee.Image) -> ee.Image:
        image = ee.Image(image)
        time = ee.Number(image.get("system:time_start"))
        number = ee.Image.constant(solar_day(time, site)).toInt32()
        return number.updateMask(image.select("clear")).rename("day")

    days = seen(site, window, settled).map(day).reduce(ee.Reducer.countDistinct())
    return days.unmask(0, False).toUint16().rename("observations")


def solar_shift(site: Site) -> int:
    """Return the milliseconds from UTC to the mean solar time of a site.

    Sentinel-2 passes at half past ten of it: around 157 degrees east that is midnight UTC, which
    would part the images of one overpass.
    """
    west, _, east, _ = lonlat_bounds(site.grid())
    middle = (west + (east + 360 if east < west else east)) / 2
    return round((middle + 180) % 360 - 180) * 240_000  # a degree is four minutes


def solar_day(time: ee.Number, site: Site) -> ee.Number:
    """Return the day of a time (milliseconds), counted from 1970-01-01, by the site's sun."""
    return time.add(solar_shift(site)).divide(86_400_000).floor()


def ndvi(image: ee.Image) -> ee.Image:
    """Return (B8 - B4) / (B8 + B4), band ``NDVI``; masked where a reflectance is negative."""
    return image.normalizedDifference(["B8", "B4"]).rename("NDVI")


def greenest(site: Site, window: Window, settled: Settled | None = None) -> ee.Image:
    """Return the greenest-pixel composite: all bands of the date with the highest NDVI.

    Bands ``B2``, ``B3``, ``B4``, ``B8`` (reflectance * 10000) and ``NDVI``; masked where no date
    of the window shows the ground.
    """
    bands = ["B2", "B3", "B4", "B8"]

    def with_ndvi(image: ee.Image) -> ee.Image:
        image = ee.Image(image).select(bands)
        return image.addBands(ndvi(image))

    return masked(site, window, settled).map(with_ndvi).qualityMosaic("NDVI")


def dndvi(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the change of the greenest pixel's NDVI, post - pre, band ``dNDVI``.

    Negative where vegetation was lost.
    """
    assert site.pre is not None and site.post is not None  # a Site from Earth Engine has both
    after, before = (greenest(site, window, settled) for window in (site.post, site.pre))
    return after.select("NDVI").subtract(before.select("NDVI")).rename("dNDVI")
