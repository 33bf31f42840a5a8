"""Conditioning factors by name, on the factors' grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ee

from gee.grids import factor_grid
from gee.scripts import climate, distances, hydrology, relief, sentinel2, terrain
from gee.scripts.place import is_tiled, mapped, or_nothing, pinned, region, source
from gee.scripts.sources import UPSLOPE, catchment_margin, resembles
from thawslump.bands import EMBEDDING, FACTORS
from thawslump.errors import ConfigError, nearest

if TYPE_CHECKING:
    from gee.scripts.settled import Settled
    from thawslump.site import Site

__all__ = ["FIRST_EMBEDDING", "NAMES", "computed_here", "embedding_year", "factors"]

FIRST_EMBEDDING = 2017
"""The first year of the satellite embedding."""

Maker = Callable[["Site", "Settled | None"], ee.Image]


def _ndvi(site: Site, settled: Settled | None) -> ee.Image:
    # Before the change: NDVI afterwards would show the slump itself, not what favoured it.
    assert site.pre is not None
    return sentinel2.greenest(site, site.pre, settled).select("NDVI")


def _aspect(site: Site, settled: Settled | None) -> ee.Image:
    grid = factor_grid(site)
    # What the service gives for level ground is not documented; no direction is.
    return terrain.aspect(site, grid).updateMask(terrain.slope(site, grid).gt(0))


def _horn(band: str) -> Maker:
    def make(site: Site, settled: Settled | None) -> ee.Image:
        grid = factor_grid(site)
        shape = relief.horn(pinned(terrain.elevation(site), grid))
        return pinned(shape.select(band), grid)

    return make


def _relief(band: str) -> Maker:
    return lambda site, settled: relief.relief(site, factor_grid(site)).select(band)


def _wetness(band: str) -> Maker:
    return lambda site, settled: hydrology.wetness(site).select(band)


def _distance(key: str) -> Maker:
    return lambda site, settled: distances.to_lines(site, key, settled)


def _classes(key: str) -> Maker:
    # Never averaged.
    return lambda site, settled: pinned(mapped(site, key), factor_grid(site))


def embedding_year(site: Site) -> int:
    """Return the last calendar year that lies wholly before the end of the window `pre`.

    Examples
    --------
    >>> from thawslump.site import Site, Window
    >>> window = Window(start="2019-06-01", end="2020-01-01")
    >>> later = Window(start="2020-06-01", end="2021-01-01")
    >>> place = Site(name="a", role="area", bounds=(8, 60, 8.1, 60.1), pre=window, post=later)
    >>> embedding_year(place)
    2019
    """
    assert site.pre is not None
    return site.pre.end.year - 1


def _embedding(site: Site, settled: Settled | None) -> ee.Image:
    """All 64 axes, which are of use together only; of `embedding_year` where they are dated."""
    name, axes = source(site, "embedding"), list(EMBEDDING)
    if resembles("embedding", name):
        year = embedding_year(site)
        images = ee.ImageCollection(name).filterBounds(region(site))
        of_year = images.filterDate(f"{year}-01-01", f"{year + 1}-01-01")
        return or_nothing(of_year.select(axes), axes).mosaic()
    if is_tiled(name):
        tiles = ee.ImageCollection(name.removesuffix("/*")).filterBounds(region(site))
        return or_nothing(tiles.select(axes), axes).mosaic()
    return ee.Image(name).select(axes)


_FACTORS: dict[str, Maker] = {
    "elevation": lambda site, settled: terrain.elevation(site),
    "slope": lambda site, settled: terrain.slope(site, factor_grid(site)),
    "aspect": _aspect,
    "slope_horn": _horn("slope_horn"),
    "aspect_horn": _horn("aspect_horn"),
    **{name: _relief(name) for name in relief.BANDS},
    "TWI": _wetness("TWI"),
    "SPI": _wetness("SPI"),
    "upslope_cut": _wetness("upslope_cut"),
    "NDVI": _ndvi,
    "LST": lambda site, settled: climate.surface_temperature(site),
    "LST_days": lambda site, settled: climate.temperature_days(site),
    "precipitation": lambda site, settled: climate.precipitation(site),
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


def computed_here(site: Site, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some factors that an export computes on this machine, not Earth Engine.

    With ``sources.upslope: local`` TWI, SPI and upslope_cut, and the distance to rivers where there
    is no table of them.
    """
    if not any(name in UPSLOPE for name in names):
        return ()
    if catchment_margin(source(site, "upslope")) is None:
        return ()
    tabled = site.sources.get("rivers") is not None
    return tuple(n for n in names if n in UPSLOPE and not (n == "distance_rivers" and tabled))


def factors(
    site: Site,
    names: Sequence[str] = FACTORS,
    settled: Settled | None = None,
    *,
    placeholders: bool = False,
) -> ee.Image:
    """Return the named factors as float bands, in the order asked for.

    Parameters
    ----------
    site : Site
    names : sequence of str
        Of `NAMES`; units are in `thawslump.bands.BANDS`. All are of the ground before the change.
        ``aspect`` is masked where level.
    settled : Settled, optional
        What is known of the site already.
    placeholders : bool
        Give those of `computed_here` as bands without a single pixel, for whoever puts the pixels
        in; else they are refused.

    Raises
    ------
    ConfigError
        A name that is no factor; one without a source, or whose source does not fit it.
    """
    for name in names:
        if name not in _FACTORS:
            raise ConfigError(
                f'There is no factor "{name}"; there are {", ".join(_FACTORS)}.'
                + nearest(name, _FACTORS),
                hint="Correct the list of factors.",
            )
    here = computed_here(site, names)
    if "upslope_cut" in names and "upslope_cut" not in here:
        raise ConfigError(
            f"Site {site.name}: upslope_cut flags what a local upslope area misses, but "
            f"sources.upslope is {source(site, 'upslope')}.",
            hint="Leave upslope_cut out of the factors, or set sources.upslope: local.",
        )
    empty = ee.Image.constant(0).updateMask(0)
    made = [
        empty.rename(name) if placeholders and name in here else _FACTORS[name](site, settled)
        for name in names
    ]
    return ee.Image.cat([image.toFloat() for image in made])
