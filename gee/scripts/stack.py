"""The change stack: bands by name, each from its own script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ee

from gee.scripts import sentinel1, sentinel2, terrain
from gee.scripts.place import source
from thawslump.bands import BANDS, CHANGE_STACK
from thawslump.errors import ConfigError, nearest

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = ["available", "stack"]


def available(site: Site) -> tuple[str, ...]:
    """Return the bands that a site's sources can give, in the order of the stack.

    With ``sources: {s1: none}`` the bands of Sentinel-1 are absent, never zero.
    """
    without = source(site, "s1") == "none"
    return tuple(name for name in site.bands if not (without and BANDS[name].origin == "S1"))


def stack(
    site: Site,
    names: Sequence[str] = CHANGE_STACK,
    orbits: Sequence[sentinel1.Orbit] | None = None,
) -> ee.Image:
    """Return the named bands of the change stack as float bands, in the order asked for.

    Parameters
    ----------
    site : Site
    names : sequence of str
        Of `thawslump.bands.CHANGE_STACK`. A band that is not named is absent, never zero.
    orbits : sequence of Orbit, optional
        Sentinel-1 orbits to use on both sides of the change; all of `Site.orbit_pass` if not given.

    Raises
    ------
    ConfigError
        A name that is no band of the stack.
    """
    for name in names:
        if name not in CHANGE_STACK:
            raise ConfigError(
                f'The change stack has no band "{name}"; it has {", ".join(CHANGE_STACK)}.'
                + nearest(name, CHANGE_STACK),
                hint="Correct the list of bands.",
            )
    parts: dict[str, ee.Image] = {}
    if any(name in sentinel1.BANDS for name in names):
        backscatter = sentinel1.change(site, orbits)
        parts |= {name: backscatter.select(name) for name in sentinel1.BANDS}
    if "slope" in names:
        parts["slope"] = terrain.slope(site)
    if "dNDVI" in names:
        parts["dNDVI"] = sentinel2.dndvi(site)
    return ee.Image.cat([parts[name] for name in names]).toFloat()
