"""How the files of a site are cut into requests, and about what that costs; needs no client."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gee.grids import crs_code, factor_grid, padded
from gee.scripts.sources import UPSLOPE, catchment_margin
from gee.steps import FILES

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = ["Cost", "Tile", "cost", "request_grid", "request_side", "tiles", "totals"]

LARGEST_REQUEST = 48_000_000
"""Bytes that one answer of computePixels may have."""

# Days between two passes over a place, to guess the count of images before asking.
_S1_DAYS, _S2_DAYS = 12, 5


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid in pixels: the upper-left corner and the size."""

    row: int
    col: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def side(self) -> int:
        """The longer side."""
        return max(self.height, self.width)

    def cut(self, side: int) -> list[Tile]:
        """Return the parts of at most `side` pixels a side, row by row.

        Examples
        --------
        >>> Tile(0, 0, 4, 9).cut(5)
        [Tile(row=0, col=0, height=4, width=5), Tile(row=0, col=5, height=4, width=4)]
        """
        return [
            Tile(
                row,
                col,
                min(side, self.row + self.height - row),
                min(side, self.col + self.width - col),
            )
            for row in range(self.row, self.row + self.height, side)
            for col in range(self.col, self.col + self.width, side)
        ]

    def without(self, other: Tile) -> list[Tile]:
        """Return what is left of this tile where another one is taken out: up to four parts.

        Examples
        --------
        >>> Tile(0, 0, 4, 4).without(Tile(0, 0, 2, 2))
        [Tile(row=0, col=2, height=2, width=2), Tile(row=2, col=0, height=2, width=4)]
        >>> Tile(0, 0, 4, 4).without(Tile(4, 0, 2, 2))
        [Tile(row=0, col=0, height=4, width=4)]
        """
        top, left = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        if top >= bottom or left >= right:
            return [self]
        parts = (
            Tile(self.row, self.col, top - self.row, self.width),
            Tile(top, self.col, bottom - top, left - self.col),
            Tile(top, right, bottom - top, self.col + self.width - right),
            Tile(bottom, self.col, self.row + self.height - bottom, self.width),
        )
        return [part for part in parts if part.height and part.width]


def request_side(side: int, pixel_bytes: int) -> int:
    """Return `side`, or the side of the largest request whose answer the service allows.

    Examples
    --------
    >>> request_side(256, 60), request_side(4096, 60)
    (256, 894)
    """
    return max(1, min(side, math.isqrt(LARGEST_REQUEST // max(1, pixel_bytes))))


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
    return Tile(0, 0, int(shape[0]), int(shape[1])).cut(request_side(side, pixel_bytes))


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


# Bands of an image that are read for one product: what is measured, and what masks it.
_S2_BANDS = {"stack": 4, "context": 6, "factors": 4}
_S1_BANDS = 2
_TERRAIN_READS = 9  # a neighbourhood of heights
_SHADOW_READS = 60  # heights along the line of sight
_MAP_READS = 4
_EMBEDDING_READS = 64
_EECU_PER_MILLION_READS = 0.2
_SECONDS_PER_REQUEST = 1.0  # of a request that computes next to nothing
_TERRAIN = frozenset({"elevation", "slope", "aspect", "hillshade"})
_SHADOWS = frozenset({"layover", "shadow", "liaDeg"})


@dataclass(frozen=True)
class Cost:
    """What fetching one product is expected to take.

    Attributes
    ----------
    name : str
        Of the product.
    shape : (rows, columns)
    requests : int
    bytes : int
        Uncompressed.
    reads : dict of str to float
        Millions of pixels of bands that the service reads, by what they are of.
    """

    name: str
    shape: tuple[int, int]
    requests: int
    bytes: int
    reads: dict[str, float]

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def eecu_seconds(self) -> float:
        """Expected EECU-seconds; see `cost`."""
        return sum(self.reads.values()) * _EECU_PER_MILLION_READS

    def seconds(self, at_once: int) -> float:
        """Expected seconds with so many requests under way: one processor for each, and a second
        on the way."""
        together = self.requests * _SECONDS_PER_REQUEST + self.eecu_seconds
        return together / max(1, min(at_once, self.requests))


def cost(
    site: Site,
    name: str,
    shape: tuple[int, int],
    bands: Sequence[str],
    images: Mapping[tuple[str, str], int],
    side: int,
    pixel_bytes: int,
) -> Cost:
    """Return what fetching a product is expected to take.

    Parameters
    ----------
    site : Site
    name : {"stack", "context", "factors"}
    shape : (rows, columns)
    bands : sequence of str
    images : mapping
        Number of images by source (``s1``, ``s2``) and side (``pre``, ``post``).
    side : int
        Of one request, pixels.
    pixel_bytes : int
        Of all bands together.

    Notes
    -----
    A model, not a measurement: EECU-seconds = 0.2 per million pixels of a band that is read. Of
    Sentinel-2 every image of a window is read for every product (4 bands, 6 for the context: those
    measured and those that mask), before and after, for the factors before alone; of Sentinel-1
    every image of the chosen orbit, 2 bands; heights 9 times for terrain and 60 times more for
    shadows along the line of sight; any other map 4 times, the embedding 64 times. A product at
    30 m has a ninth of the pixels. What two requests share (overlapping neighbourhoods, what the
    service keeps) is not looked at. Never held against a bill; relative sizes of the products were
    compared with the emulator's meter (benchmarks/export_budget.py).
    """
    rows, cols = (int(side_) for side_ in shape)
    million = rows * cols / 1e6
    chosen = set(bands)
    if name == "stack":
        optical = bool({"dNDVI", "CART_LC_classified"} & chosen)
        radar = any("VV" in band or "VH" in band for band in chosen)
    else:
        optical, radar = name == "context" or "NDVI" in chosen, False
    sides = ("pre",) if name == "factors" else ("pre", "post")
    count = {key: sum(images.get((key, one), 0) for one in sides) for key in ("s1", "s2")}
    others = {
        band
        for band in chosen - _TERRAIN - _SHADOWS - {"NDVI", "dNDVI"}
        if name != "context" and not any(part in band for part in ("VV", "VH"))
    }
    axes = {band for band in others if len(band) == 3 and band[0] == "A" and band[1:].isdigit()}
    corrected = radar and site.slope_correction != "none"
    reads = {
        "Sentinel-2": million * count["s2"] * _S2_BANDS[name] if optical else 0.0,
        "Sentinel-1": million * count["s1"] * _S1_BANDS if radar else 0.0,
        "terrain": million * _TERRAIN_READS if corrected or chosen & _TERRAIN else 0.0,
        "line of sight": million * _SHADOW_READS if corrected or chosen & _SHADOWS else 0.0,
        "other maps": million
        * (_MAP_READS * len(others - axes) + (_EMBEDDING_READS if axes else 0)),
    }
    return Cost(
        name,
        (rows, cols),
        len(tiles((rows, cols), side, pixel_bytes)),
        rows * cols * pixel_bytes,
        {key: value for key, value in reads.items() if value},
    )


def totals(workspace: Workspace) -> dict[str, float]:
    """Return what the exports that are left would take, without asking the service.

    Returns
    -------
    dict
        ``sites``, ``pixels``, ``requests``, ``bytes`` (uncompressed), ``eecu_seconds`` and
        ``seconds``: the model of `cost`, with a Sentinel-2 image every 5 days and a Sentinel-1
        image every 12 days.
    """
    config = workspace.config.export
    found: dict[str, float] = {
        "sites": 0,
        "pixels": 0,
        "requests": 0,
        "bytes": 0,
        "eecu_seconds": 0.0,
        "seconds": 0.0,
    }
    for site in workspace.sites.values():
        folder = workspace.tiles(site.name)
        if site.source != "earthengine" or all((folder / name).exists() for name in FILES):
            continue
        found["sites"] += 1
        images = {
            (key, one): round((window.end - window.start).days / days)
            for one, window in (("pre", site.pre), ("post", site.post))
            for key, days in (("s1", _S1_DAYS), ("s2", _S2_DAYS))
            if window is not None and site.sources.get(key) != "none"
        }
        heights: tuple[tuple[str, GeoBox, Sequence[str], int], ...] = ()
        margin = catchment_margin(site.sources.get("upslope", ""))
        if margin is not None and set(UPSLOPE) & set(site.factors):
            wide = padded(factor_grid(site), margin)
            heights = (("catchment", wide, ("elevation", "slope"), 8),)
        for name, grid, bands, size in (
            *heights,
            ("stack", site.grid(), site.bands, 4 * len(site.bands)),
            ("context", site.grid(), site.context, 2 * len(site.context)),
            ("factors", factor_grid(site), site.factors, 4 * len(site.factors)),
        ):
            rows, cols = grid.shape
            one = cost(site, name, (rows, cols), bands, images, config.tile, size)
            found["pixels"] += one.pixels
            found["bytes"] += one.bytes
            found["requests"] += one.requests
            found["eecu_seconds"] += one.eecu_seconds
            found["seconds"] += one.seconds(config.workers)
    return found
