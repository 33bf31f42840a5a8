"""Sentinel-2: cloud masks, NDVI, greenest-pixel composites and their change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.scripts.place import in_window, region, source

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = [
    "CLEAR",
    "CLOUD_SCORE",
    "clear",
    "collection",
    "dndvi",
    "greenest",
    "ndvi",
    "observations",
    "scored",
    "with_ndvi",
]

CLEAR = (2, 4, 5, 6, 7)
"""Classes of the scene classification that count as seen: dark ground, vegetation, bare soil,
water and unclassified. Left out: no data (0), saturated (1), cloud shadow (3), cloud of medium
and high probability (8, 9), cirrus (10), snow and ice (11)."""

CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
"""Cloud Score+ (V. J. Pasquarella et al., CVPR Workshops 2023), one image per Sentinel-2 image."""
_SCORE = "cs_cdf"
# Of the scene classification: no data, saturated, snow. The score knows clouds and shadows only.
_NOT_GROUND = (0, 1, 11)


def collection(site: Site, window: Window | None = None) -> ee.ImageCollection:
    """Return the images over a site, of a window where given, not yet masked."""
    images = ee.ImageCollection(source(site, "s2")).filterBounds(region(site))
    return images if window is None else in_window(images, window)


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
    Snow, which the score takes for clear, and pixels without data are left out by the scene
    classification in either case.
    """
    linked = images.linkCollection(ee.ImageCollection(scores), [_SCORE])

    def with_clear(image: ee.Image) -> ee.Image:
        image = ee.Image(image)
        ground = image.select("SCL").remap(list(_NOT_GROUND), [0] * len(_NOT_GROUND), 1)
        seen = image.select(_SCORE).gte(threshold).And(ground)
        return image.addBands(seen.unmask(clear(image), False).rename("clear"))

    return linked.map(with_clear)


def observations(site: Site, window: Window) -> ee.Image:
    """Return how many images of a window show the ground of every pixel, band ``observations``.

    0 where no image does; never masked.
    """
    seen = collection(site, window).map(lambda image: clear(ee.Image(image)))
    return seen.sum().unmask(0, False).toUint16().rename("observations")


def ndvi(image: ee.Image) -> ee.Image:
    """Return (B8 - B4) / (B8 + B4), band ``NDVI``; masked where a reflectance is negative."""
    return image.normalizedDifference(["B8", "B4"]).rename("NDVI")


def with_ndvi(image: ee.Image) -> ee.Image:
    """Return an image with everything but clear ground masked, and the band ``NDVI`` added."""
    seen = image.updateMask(clear(image))
    return seen.addBands(ndvi(seen))


def greenest(site: Site, window: Window) -> ee.Image:
    """Return the greenest-pixel composite: all bands of the date with the highest NDVI.

    Bands ``B2``, ``B3``, ``B4``, ``B8`` (reflectance * 10000) and ``NDVI``; masked where no date
    of the window shows the ground.
    """
    bands = ["B2", "B3", "B4", "B8"]
    seen = collection(site, window).map(
        lambda image: with_ndvi(ee.Image(image).select([*bands, "SCL"])).select([*bands, "NDVI"])
    )
    return seen.qualityMosaic("NDVI")


def dndvi(site: Site) -> ee.Image:
    """Return the change of the greenest pixel's NDVI, post - pre, band ``dNDVI``.

    Negative where vegetation was lost.
    """
    assert site.pre is not None and site.post is not None  # a Site from Earth Engine has both
    after, before = greenest(site, site.post), greenest(site, site.pre)
    return after.select("NDVI").subtract(before.select("NDVI")).rename("dNDVI")
