"""What reviewers look at: true colour and near infrared before and after, and the relief."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ee

from gee.scripts import sentinel2, terrain
from thawslump.bands import CONTEXT

if TYPE_CHECKING:
    from gee.scripts.settled import Settled
    from thawslump.site import Site, Window

__all__ = ["context"]

_COLOURS = {"red": "B4", "green": "B3", "blue": "B2", "nir": "B8"}


def _colours(site: Site, window: Window, prefix: str, settled: Settled | None) -> ee.Image:
    composite = sentinel2.greenest(site, window, settled)
    return composite.select(list(_COLOURS.values()), [f"{prefix}_{name}" for name in _COLOURS])


def context(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the bands of `thawslump.bands.CONTEXT` as whole numbers.

    Reflectance * 10000 of the greenest-pixel composites (held below 65535, which is nodata), the
    hillshade 0..255, and how many images of each window show the ground (0 where none does, never
    nodata). All of Sentinel-2 is seen through the same mask.
    """
    assert site.pre is not None and site.post is not None
    parts = [terrain.hillshade(site)]
    for side, window in (("pre", site.pre), ("post", site.post)):
        parts.append(_colours(site, window, side, settled))
        seen = sentinel2.observations(site, window, settled)
        parts.append(seen.rename(f"{side}_observations"))
    images = ee.Image.cat(parts)
    return images.round().max(0).min(65534).select(list(CONTEXT)).toUint16()
