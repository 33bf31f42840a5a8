"""Conditioning factors by name, on the factors' grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ee

from gee.grids import factor_grid
from gee.scripts import climate, distances, hydrology, relief, sentinel2, terrain
from gee.scripts.place import mapped, pinned, region, source
from thawslump.bands import EMBEDDING, FACTORS
from thawslump.errors import ConfigError, nearest

if TYPE_CHECKING:
    from gee.scripts.settled import Settled
    from thawslump.site import Site

__all__ = ["NAMES", "factors"]


def _ndvi(site: Site, settled: Settled | None = None) -> ee.Image:
    # Before the change: NDVI afterwards would show the slump itself, not what favoured it.
    assert site.pre is not None
    return sentinel2.greenest(site, site.pre, settled).select("NDVI")


def _relief(band: str) -> Callable[[Site], ee.Image]:
    return lambda site: relief.relief(site, factor_grid(site)).select(band)


def _wetness(band: str) -> Callable[[Site], ee.Image]:
    return lambda site: hydrology.wetness(site).select(band)


def _distance(key: str) -> Callable[[Site], ee.Image]:
    return lambda site: distances.to_lines(site, key)


def _classes(key: str) -> Callable[[Site], ee.Image]:
    return lambda site: pinned(mapped(site, key), factor_grid(site))  # never averaged


def _embedding(site: Site) -> ee.Image:
    """All 64 axes of the year before the change, which are of use together only."""
    assert site.pre is not None
    year = site.pre.end.year - 1
    images = ee.ImageCollection(source(site, "embedding")).filterBounds(region(site))
    of_year = images.filterDate(f"{year}-01-01", f"{year + 1}-01-01")
    return of_year.mosaic().select(list(EMBEDDING))


_FACTORS: dict[str, Callable[[Site], ee.Image]] = {
    "elevation": terrain.elevation,
    "slope": lambda site: terrain.slope(site, factor_grid(site)),
    "aspect": lambda site: terrain.aspect(site, factor_grid(site)),
    **{name: _relief(name) for name in relief.BANDS},
    "TWI": _wetness("TWI"),
    "SPI": _wetness("SPI"),
    "NDVI": _ndvi,
    "LST": climate.surface_temperature,
    "precipitation": climate.precipitation,
    "distance_faults": _distance("faults"),
    "distance_rivers": distances.to_rivers,
    "distance_roads": _distance("roads"),
    "distance_railway": _distance("railway"),
    "lithology": _classes("lithology"),
    "landcover": _classes("landcover"),
    "permafrost": _classes("permafrost"),
    "embedding": _embedding,
}

NAMES = tuple(_FACTORS)
"""Every factor there is; ``embedding`` stands for the 64 bands A00 to A63."""


def factors(site: Site, names: Sequence[str] = FACTORS, settled: Settled | None = None) -> ee.Image:
    """Return the named factors as float bands, in the order asked for.

    Parameters
    ----------
    site : Site
    names : sequence of str
        Of `NAMES`; units are in `thawslump.bands.BANDS`. All are of the ground before the change.
        ``aspect`` is masked where level.
    settled : Settled, optional
        What is known of the site already.

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
    made = [_ndvi(site, settled) if name == "NDVI" else _FACTORS[name](site) for name in names]
    return ee.Image.cat([image.toFloat() for image in made])
