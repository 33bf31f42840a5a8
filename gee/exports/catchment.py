"""Factors that are computed here from the heights around a site: TWI, SPI, distance to channels.

The catchment of a place can reach far beyond it. Heights are therefore fetched with a margin
(`sources.upslope: local`, 5 km, or `local:METRES`); cells whose catchment reaches the end of the
margin are flagged and counted, because more may drain through them than could be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gee import drainage
from gee.exports.products import CATCHMENT
from gee.scripts.factors import computed_here
from gee.scripts.place import source
from gee.scripts.sources import catchment_margin
from thawslump.grid import metres_per_pixel

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from gee.exports.products import Product
    from thawslump.site import Site

__all__ = ["Catchment", "local_factors"]


class Catchment:
    """Puts the factors that are computed here among those that were fetched.

    Attributes
    ----------
    facts : dict
        For `item.json`, once the factors are complete: method, ``margin`` in metres, and
        ``cut_share``, the share of the site's cells whose catchment reaches beyond the margin.
        Empty where nothing is computed here.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.facts: dict[str, Any] = {}

    def completed(
        self, wanted: Sequence[Product], arrays: Iterable[NDArray[Any]]
    ) -> Iterator[tuple[Product, NDArray[Any]]]:
        """Yield the files of a site with their pixels; the catchment itself is no file.

        Parameters
        ----------
        wanted : sequence of Product
        arrays : iterable of ndarray, shape (band, y, x)
            One per product, in their order.
        """
        made: dict[str, NDArray[np.float32]] = {}
        for product, array in zip(wanted, arrays, strict=True):
            if product.name == CATCHMENT:
                made = self._made(product, array, wanted)
                continue
            if product.name == "factors":
                for name, band in made.items():
                    array[product.bands.index(name)] = band
            yield product, array

    def _made(
        self, product: Product, array: NDArray[Any], wanted: Sequence[Product]
    ) -> dict[str, NDArray[np.float32]]:
        site = self._site
        margin = catchment_margin(source(site, "upslope"))
        assert margin is not None  # products() asks for a catchment only then
        inner = next(one.grid for one in wanted if one.name == "factors")
        heights, slope = array
        if np.isnan(heights).all():
            return {}  # as what comes of it: empty bands, which a site is not allowed
        made = local_factors(heights, slope, product.grid, inner, margin)
        known = ~np.isnan(made["TWI"])
        if not known.any():
            return {}
        self.facts = {
            "method": "steepest of eight neighbours, depressions filled (pyflwdir)",
            "margin": margin,
            "cut_share": round(float(made["upslope_cut"][known].mean()), 4),
        }
        return {name: made[name] for name in computed_here(site, site.factors)}


def local_factors(
    heights: NDArray[Any], slope: NDArray[Any], grid: GeoBox, inner: GeoBox, margin: float
) -> dict[str, NDArray[np.float32]]:
    """Return the factors of a site from the heights of the site and its margin.

    Parameters
    ----------
    heights, slope : ndarray of float, shape of `grid`
        Metres and degrees, NaN without data.
    grid : GeoBox
        Of the heights.
    inner : GeoBox
        Of the site: whole pixels of `grid`.
    margin : float
        Metres; no channel is looked for farther away.

    Returns
    -------
    dict of ndarray of float32, shape of `inner`
        ``TWI``, ``SPI`` (m), ``upslope_cut`` (0 or 1) and ``distance_rivers`` (m); NaN without
        heights.
    """
    cell = metres_per_pixel(grid)
    area, cut = drainage.drainage(heights, cell)
    twi, spi = drainage.wetness(area, slope, cell)
    with np.errstate(invalid="ignore"):
        channels = area >= drainage.CHANNEL
    away = np.where(np.isnan(area), np.nan, drainage.distance_to(channels, cell, margin))
    flag = np.where(np.isnan(area), np.nan, cut)
    col, row = (round(value) for value in ~grid.transform @ (inner.transform.c, inner.transform.f))
    rows, cols = inner.shape
    here = np.s_[row : row + rows, col : col + cols]
    made = {"TWI": twi, "SPI": spi, "upslope_cut": flag, "distance_rivers": away}
    return {name: values[here].astype(np.float32) for name, values in made.items()}
