"""How the files of a site are cut into requests, and about what that costs; needs no client."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gee.grids import crs_code, factor_grid
from gee.steps import FILES

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from thawslump.workspace import Workspace

__all__ = ["Tile", "estimate_eecu", "request_grid", "tiles", "totals"]

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


def totals(workspace: Workspace) -> dict[str, float]:
    """Return what the exports that are left would take, without asking the service.

    Returns
    -------
    dict
        ``sites``, ``pixels``, ``requests``, ``bytes`` (uncompressed) and ``eecu_seconds`` (a rough
        estimate: a Sentinel-2 image every 5 days and a Sentinel-1 image every 12 days).
    """
    side = workspace.config.export.tile
    found: dict[str, float] = {
        "sites": 0,
        "pixels": 0,
        "requests": 0,
        "bytes": 0,
        "eecu_seconds": 0.0,
    }
    for site in workspace.sites.values():
        folder = workspace.tiles(site.name)
        if site.source != "earthengine" or all((folder / name).exists() for name in FILES):
            continue
        days = sum((w.end - w.start).days for w in (site.pre, site.post) if w is not None)
        images = round(days / _S1_DAYS) + round(days / _S2_DAYS)
        found["sites"] += 1
        for grid, size in (
            (site.grid(), 4 * len(site.bands)),
            (site.grid(), 2 * len(site.context)),
            (factor_grid(site), 4 * len(site.factors)),
        ):
            rows, cols = grid.shape
            found["pixels"] += rows * cols
            found["bytes"] += rows * cols * size
            found["requests"] += len(tiles((rows, cols), side, size))
            found["eecu_seconds"] += estimate_eecu(rows * cols, images)
    return found
