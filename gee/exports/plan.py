"""How the files of a site are cut into requests, and about what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from odc.geo.geobox import GeoBox

from gee.scripts.context import context
from gee.scripts.factors import factor_grid, factors
from gee.scripts.place import crs_code, source
from gee.scripts.stack import available, stack
from thawslump.bands import BANDS

if TYPE_CHECKING:
    import ee

    from gee.exports.survey import Survey
    from thawslump.site import Site

__all__ = ["Product", "Tile", "estimate_eecu", "products", "request_grid", "tiles"]

LARGEST_REQUEST = 48_000_000
"""Bytes that one answer of computePixels may have."""

FLOAT_FILL = -99999.0
"""Stands for "masked" on the way from the service; NaN in the files."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid in pixels: the upper-left corner and the size."""

    row: int
    col: int
    height: int
    width: int

    def halves(self) -> tuple[Tile, Tile]:
        """Return the two halves across the longer side.

        Examples
        --------
        >>> Tile(0, 0, 4, 9).halves()
        (Tile(row=0, col=0, height=4, width=4), Tile(row=0, col=4, height=4, width=5))
        """
        if self.height > self.width:
            cut = self.height // 2
            return (
                Tile(self.row, self.col, cut, self.width),
                Tile(self.row + cut, self.col, self.height - cut, self.width),
            )
        cut = self.width // 2
        return (
            Tile(self.row, self.col, self.height, cut),
            Tile(self.row, self.col + cut, self.height, self.width - cut),
        )


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


def tiles(shape: tuple[int, int], side: int, pixel_bytes: int = 1) -> list[Tile]:
    """Cut a grid into tiles of at most `side` pixels, row by row.

    Parameters
    ----------
    shape : (rows, columns)
    side : int
        Lowered where an answer would pass the limit of one request.
    pixel_bytes : int
        Of all bands together.

    Examples
    --------
    >>> [(t.row, t.col, t.height, t.width) for t in tiles((300, 256), 256)]
    [(0, 0, 256, 256), (256, 0, 44, 256)]
    """
    side = max(1, min(side, math.isqrt(LARGEST_REQUEST // max(1, pixel_bytes))))
    rows, cols = shape
    return [
        Tile(row, col, min(side, rows - row), min(side, cols - col))
        for row in range(0, rows, side)
        for col in range(0, cols, side)
    ]


def request_grid(grid: GeoBox, tile: Tile) -> dict[str, Any]:
    """Return the grid of a request as computePixels takes it: CRS, affine transform and size."""
    a = grid.transform
    x = a.c + tile.col * a.a + tile.row * a.b
    y = a.f + tile.col * a.d + tile.row * a.e
    return {
        "dimensions": {"width": tile.width, "height": tile.height},
        "affineTransform": {
            "scaleX": a.a,
            "shearX": a.b,
            "translateX": x,
            "shearY": a.d,
            "scaleY": a.e,
            "translateY": y,
        },
        "crsCode": crs_code(grid),
    }


def products(site: Site, survey: Survey) -> list[Product]:
    """Return the files of a site: change stack, context for reviewers, conditioning factors."""
    bands = available(site)
    s1, s2, dem = source(site, "s1"), source(site, "s2"), source(site, "dem")
    origin = {"S1": s1, "S2": s2, "terrain": dem}

    def described(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        known = [BANDS[name] for name in names]
        return tuple(b.unit for b in known), tuple(origin[b.origin] for b in known)

    colours = tuple(name for name in site.context if name != "hillshade")
    return [
        Product(
            "stack",
            stack(site, bands, survey.orbits),
            site.grid(),
            bands,
            "float32",
            FLOAT_FILL,
            float("nan"),
            *described(bands),
        ),
        Product(
            "context",
            context(site),
            site.grid(),
            (*colours, "hillshade"),
            "uint16",
            65535,
            65535,
            ("reflectance * 10000",) * len(colours) + ("1",),
            (s2,) * len(colours) + (dem,),
        ),
        Product(
            "factors",
            factors(site, site.factors),
            factor_grid(site),
            site.factors,
            "float32",
            FLOAT_FILL,
            float("nan"),
            *described(site.factors),
        ),
    ]


def estimate_eecu(pixels: int, images: int) -> float:
    """Return a rough estimate of the Earth Engine compute seconds (EECU-seconds) of a site.

    Parameters
    ----------
    pixels : int
        Of the finest grid.
    images : int
        Sentinel images in both windows.

    Notes
    -----
    A rule of thumb, one EECU-second for a million pixels read: not calibrated against a bill.
    """
    return pixels * max(1, images) / 1e6
