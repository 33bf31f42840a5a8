"""Conditioning factors by name, on the factors' grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ee

from gee.grids import factor_grid
from gee.scripts import sentinel2, terrain
from thawslump.bands import FACTORS
from thawslump.errors import ConfigError, nearest

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = ["factors"]


def _elevation(site: Site) -> ee.Image:
    return terrain.elevation(site)


def _slope(site: Site) -> ee.Image:
    return terrain.slope(site, factor_grid(site))


def _aspect(site: Site) -> ee.Image:
    return terrain.aspect(site, factor_grid(site))


def _ndvi(site: Site) -> ee.Image:
    # Before the change: NDVI afterwards would show the slump itself, not what favoured it.
    assert site.pre is not None
    return sentinel2.greenest(site, site.pre).select("NDVI")


_FACTORS: dict[str, Callable[[Site], ee.Image]] = {
    "elevation": _elevation,
    "slope": _slope,
    "aspect": _aspect,
    "NDVI": _ndvi,
}


def factors(site: Site, names: Sequence[str] = FACTORS) -> ee.Image:
    """Return the named factors as float bands, in the order asked for.

    Parameters
    ----------
    site : Site
    names : sequence of str
        ``elevation`` (m), ``slope`` (degrees), ``aspect`` (degrees clockwise from grid north,
        masked where level), ``NDVI`` (greenest pixel of the window before).

    Raises
    ------
    ConfigError
        A name that is no factor.
    """
    for name in names:
        if name not in _FACTORS:
            raise ConfigError(
                f'There is no factor "{name}"; there are {", ".join(_FACTORS)}.'
                + nearest(name, _FACTORS),
                hint="Correct the list of factors.",
            )
    return ee.Image.cat([_FACTORS[name](site).toFloat() for name in names])
