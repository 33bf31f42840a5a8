"""The files of a site: what is computed for each, and how it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from odc.geo.geobox import GeoBox

from gee.grids import factor_grid, padded
from gee.scripts import terrain
from gee.scripts.context import context
from gee.scripts.factors import computed_here, factors
from gee.scripts.place import pinned, source
from gee.scripts.sources import FACTOR_SOURCES, STACK_SOURCES, catchment_margin
from gee.scripts.stack import available, stack
from thawslump.bands import BANDS, EMBEDDING

if TYPE_CHECKING:
    import ee

    from gee.exports.survey import Survey
    from thawslump.site import Site

__all__ = ["CATCHMENT", "FLOAT_FILL", "Product", "products"]

FLOAT_FILL = -99999.0
"""Stands for "masked" on the way from the service; NaN in the files."""

CATCHMENT = "catchment"
"""The product that is no file: heights and slope of a site and around it, from which factors are
computed on this machine (`gee.exports.catchment`)."""


@dataclass(frozen=True)
class Product:
    """One file of a site: what is computed, on which grid, and how it is stored.

    Attributes
    ----------
    name : str
        Of the file, without ``.tif``.
    image : ee.Image
        Lazy; masked pixels still masked.
    grid : GeoBox
    bands : tuple of str
    dtype : {"float32", "uint16"}
    fill : float
        Value that masked pixels get on the way.
    nodata : float
        Value that they have in the file.
    units, sources : tuple of str
        One per band.
    """

    name: str
    image: ee.Image
    grid: GeoBox
    bands: tuple[str, ...]
    dtype: str
    fill: float
    nodata: float
    units: tuple[str, ...]
    sources: tuple[str, ...]
    pixel_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        size = {"float32": 4, "uint16": 2}[self.dtype]
        object.__setattr__(self, "pixel_bytes", size * len(self.bands))

    @property
    def filled(self) -> ee.Image:
        """The image that is asked for: nothing masked, one data type."""
        # Without sameFootprint=False pixels outside the images' outlines would stay masked.
        whole = self.image.unmask(self.fill, False)
        return whole.toFloat() if self.dtype == "float32" else whole.toUint16()


def _origin(site: Site, key: str) -> str:
    # Rivers without a table of their own are the channels of the upslope area.
    name = source(site, "upslope" if key == "rivers" and key not in site.sources else key)
    if catchment_margin(name) is not None:
        return f"{source(site, 'dem')}, upslope area computed on this machine"
    return name


def _context_unit(name: str) -> str:
    if name == "hillshade":
        return "1"
    return "days" if name.endswith("_observations") else "reflectance * 10000"


def _catchment(site: Site) -> Product:
    margin = catchment_margin(source(site, "upslope"))
    assert margin is not None  # asked for only where the upslope area is computed here
    grid = padded(factor_grid(site), margin)
    # Tiles of the DEM that only the margin touches belong to it.
    heights = pinned(terrain.elevation(site, margin), grid)
    dem = source(site, "dem")
    return Product(
        CATCHMENT,
        heights.addBands(terrain.slope(site, grid, margin)),
        grid,
        ("elevation", "slope"),
        "float32",
        FLOAT_FILL,
        float("nan"),
        ("m", "degree"),
        (dem, dem),
    )


def products(site: Site, survey: Survey) -> list[Product]:
    """Return the files of a site: change stack, context for reviewers, conditioning factors.

    Before the factors comes `CATCHMENT`, where some of them are computed on this machine.
    """
    settled = survey.settled
    bands = available(site, settled)
    s2, dem = source(site, "s2"), source(site, "dem")
    factor_bands = [
        (band, FACTOR_SOURCES[name][0])
        for name in site.factors
        for band in (EMBEDDING if name == "embedding" else (name,))
    ]
    return [
        Product(
            "stack",
            stack(site, bands, settled),
            site.grid(),
            bands,
            "float32",
            FLOAT_FILL,
            float("nan"),
            tuple(BANDS[name].unit for name in bands),
            tuple(_origin(site, STACK_SOURCES[name][0]) for name in bands),
        ),
        Product(
            "context",
            context(site, settled),
            site.grid(),
            site.context,
            "uint16",
            65535,
            65535,
            tuple(_context_unit(name) for name in site.context),
            tuple(dem if name == "hillshade" else s2 for name in site.context),
        ),
        *([_catchment(site)] if computed_here(site, site.factors) else []),
        Product(
            "factors",
            factors(site, site.factors, settled, placeholders=True),
            factor_grid(site),
            tuple(name for name, _ in factor_bands),
            "float32",
            FLOAT_FILL,
            float("nan"),
            tuple(BANDS[name].unit for name, _ in factor_bands),
            tuple(_origin(site, key) for _, key in factor_bands),
        ),
    ]
