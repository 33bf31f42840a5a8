"""The change stack: bands by name, each from its own script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ee

from gee.scripts import landcover, place, sentinel1, sentinel2, terrain
from gee.scripts.place import source
from thawslump.bands import BANDS, CHANGE_STACK
from thawslump.errors import ConfigError, nearest

if TYPE_CHECKING:
    from gee.scripts.settled import Settled
    from thawslump.site import Site

__all__ = ["available", "left_out", "stack"]

_GEOMETRY = ("layover", "shadow", "liaDeg")
_MAPS = {"KG_climate": "climate", "Popatpv_treeheight": "canopy"}


def available(site: Site, settled: Settled | None = None) -> tuple[str, ...]:
    """Return the bands that a site's sources can give, in the order the site asks for them."""
    if settled is not None and settled.bands is not None:
        return settled.bands
    missing = left_out(site)
    return tuple(name for name in site.bands if name not in missing)


def left_out(site: Site) -> dict[str, str]:
    """Return the bands that a site asks for and its file alone shows cannot be made, and why."""
    why: dict[str, str] = {}
    for name in site.bands:
        if BANDS[name].origin == "S1" and source(site, "s1") == "none":
            why[name] = "sources.s1 is none"
        elif name in _GEOMETRY and site.slope_correction == "none":
            why[name] = "slope_correction is none: incidence angles are not looked at"
        elif name in _MAPS and _MAPS[name] not in site.sources:
            why[name] = f"sources.{_MAPS[name]} names no asset"
        elif (
            name == "CART_LC_classified"
            and not landcover.has_points(site)
            and source(site, "landcover") == "none"
        ):
            why[name] = "sources.landcover is none and there are no landcover_points"
    return why


def stack(
    site: Site, names: Sequence[str] | None = None, settled: Settled | None = None
) -> ee.Image:
    """Return the named bands of the change stack as float bands, in the order asked for.

    Parameters
    ----------
    site : Site
    names : sequence of str, optional
        Of `thawslump.bands.CHANGE_STACK`; those of `available` where not given. A band that is
        not named is absent, never zero.
    settled : Settled, optional
        What is known of the site already.

    Raises
    ------
    ConfigError
        A name that is no band of the stack.
    """
    names = available(site, settled) if names is None else names
    for name in names:
        if name not in CHANGE_STACK:
            raise ConfigError(
                f'The change stack has no band "{name}"; it has {", ".join(CHANGE_STACK)}.'
                + nearest(name, CHANGE_STACK),
                hint="Correct the list of bands.",
            )
    parts: dict[str, ee.Image] = {}
    if any(name in sentinel1.BANDS for name in names):
        backscatter = sentinel1.change(site, settled)
        parts |= {name: backscatter.select(name) for name in sentinel1.BANDS}
    if any(name in _GEOMETRY for name in names):
        geometry = sentinel1.geometry(site, settled)
        parts |= {name: geometry.select(name) for name in _GEOMETRY}
    makers: dict[str, Callable[[], ee.Image]] = {
        "elevation": lambda: terrain.elevation(site),
        "slope": lambda: terrain.slope(site),
        "KG_climate": lambda: place.mapped(site, "climate"),
        "Popatpv_treeheight": lambda: place.mapped(site, "canopy", smooth=True),
        "CART_LC_classified": lambda: landcover.cart(site, settled),
        "dNDVI": lambda: sentinel2.dndvi(site, settled),
    }
    parts |= {name: makers[name]().rename(name) for name in names if name in makers}
    return ee.Image.cat([parts[name] for name in names]).toFloat()
