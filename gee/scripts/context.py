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

    Reflectance * 10000 of the greenest-pixel composites (held below 65535, which is nodata), and
    the hillshade 0..255.
    """
    assert site.pre is not None and site.post is not None
    images = ee.Image.cat(
        [
            _colours(site, site.pre, "pre", settled),
            _colours(site, site.post, "post", settled),
            terrain.hillshade(site),
            sentinel2.observations(site, site.pre, settled).rename("pre_observations"),
            sentinel2.observations(site, site.post, settled).rename("post_observations"),
        ]
    )
    return images.round().max(0).min(65534).select(list(CONTEXT)).toUint16()
