"""Sentinel-2: cloud masks, NDVI, greenest-pixel composites and their change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.scripts.place import in_window, region, source

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = ["CLEAR", "clear", "collection", "dndvi", "greenest", "ndvi", "with_ndvi"]

CLEAR = (2, 4, 5, 6, 7)
"""Classes of the scene classification that count as seen: dark ground, vegetation, bare soil,
water and unclassified. Left out: no data (0), saturated (1), cloud shadow (3), cloud of medium
and high probability (8, 9), cirrus (10), snow and ice (11)."""


def collection(site: Site, window: Window | None = None) -> ee.ImageCollection:
    """Return the images over a site, of a window where given, not yet masked."""
    images = ee.ImageCollection(source(site, "s2")).filterBounds(region(site))
    return images if window is None else in_window(images, window)


def clear(image: ee.Image) -> ee.Image:
    """Return 1 where the scene classification (band ``SCL``) shows the ground, else 0.

    The bit mask QA60 is never used: it is empty for 2022-01 to 2024-02 and finds no shadow.
    """
    return image.select("SCL").remap(list(CLEAR), [1] * len(CLEAR), 0).rename("clear")


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
