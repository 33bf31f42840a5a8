"""What a map is predicted from: a whole stack, or a part of a large area with its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.raster import grid_of
from trainer.segmentation.blend import starts, windows_over

if TYPE_CHECKING:
    from thawslump.areas import Mosaic, Part
    from trainer.segmentation.maps import Strip

__all__ = ["Place", "around", "windows_over"]


def around(
    part: Part, mosaic: Mosaic, window: int, overlap: int
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """Return what a part is predicted from.

    Returns
    -------
    (top, left, bottom, right) : tuple of int
        The pixels of all windows that touch the part, counted from its upper left corner.
    names : tuple of str
        Parts that lie in them, the part itself left out.
    """
    top, left, bottom, right = _pixels(part)
    first, last = windows_over(top, bottom, window, overlap)
    west, east = windows_over(left, right, window, overlap)
    names = []
    for other in mosaic.parts:
        t, l, b, r = _pixels(other)
        if other.name != part.name and t < last and b > first and l < east and r > west:
            names.append(other.name)
    return (first - top, west - left, last - top, east - left), tuple(names)


def _pixels(part: Part) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right in pixels from the origin of the CRS, rows downwards."""
    _, x, y, rows, columns = part.pinned
    top, left = round(-y / part.resolution), round(x / part.resolution)
    return top, left, top + rows, left + columns


class Place:
    """The pixels that windows are read from, and those of them that belong to the map.

    Parameters
    ----------
    stack : Path
        Of the site, or of the part.
    mosaic : Path, optional
        Of the stacks of all parts; with `around`.
    around : (top, left, bottom, right), optional
        Pixels to predict, counted from the upper left corner of the part.

    Attributes
    ----------
    grid : GeoBox
        Of the map.
    shape : (rows, columns)
        Of what is predicted.
    """

    def __init__(
        self, stack: Path, mosaic: Path | None = None, around: Sequence[int] | None = None
    ) -> None:
        self.grid = grid_of(stack)
        rows, columns = (int(side) for side in self.grid.shape)
        self._path = stack
        self._corner = (0, 0)
        self._own = (0, 0, rows, columns)
        self._whole = (rows, columns)
        self.shape = (rows, columns)
        if mosaic is None or around is None:
            return
        large = grid_of(mosaic)
        a, b = large.transform, self.grid.transform
        top, left, bottom, right = around
        self._path = mosaic
        self._whole = (int(large.shape[0]), int(large.shape[1]))
        self._corner = (
            round((b.f - a.f) / a.e) + top,
            round((b.c - a.c) / a.a) + left,
        )
        self._own = (-top, -left, rows - top, columns - left)
        self.shape = (bottom - top, right - left)

    @classmethod
    def block(
        cls, stack: Path, block: tuple[int, int, int, int], window: int, overlap: int
    ) -> Place:
        """Return a block of a raster, with the windows that the whole raster would have.

        Parameters
        ----------
        stack : Path
        block : (top, left, bottom, right)
            Pixels that belong to the map.
        window, overlap : int
        """
        from affine import Affine
        from odc.geo.geobox import GeoBox

        place = cls(stack)
        top, left, bottom, right = block
        sides = []
        for first, last, size in zip(block[:2], block[2:], place._whole, strict=True):
            begins = starts(size, window, overlap)
            over = [at for at in begins if at < last and at + window > first]
            sides.append((over[0], over[-1] + window))
        (above, below), (west, east) = sides
        t = place.grid.transform
        moved = Affine(
            t.a, t.b, t.c + t.a * left + t.b * top, t.d, t.e, t.f + t.d * left + t.e * top
        )
        place.grid = GeoBox((bottom - top, right - left), moved, place.grid.crs)
        place._corner = (above, west)
        place._own = (top - above, left - west, bottom - above, right - west)
        place.shape = (below - above, east - west)
        return place

    def read(
        self, bands: Sequence[str], first: int, last: int, west: int = 0, east: int | None = None
    ) -> NDArray[np.float32]:
        """Return pixels of bands, NaN where there is nothing.

        Parameters
        ----------
        bands : sequence of str
        first, last : int
            Rows of `shape`: the first, and the one after the last.
        west, east : int, optional
            Columns of `shape`; all of them where not given.

        Returns
        -------
        ndarray of float32, shape (band, last - first, east - west)
        """
        from rasterio.windows import Window

        from trainer.chips import read_bands

        columns = (self.shape[1] if east is None else east) - west
        row, column = self._corner[0] + first, self._corner[1] + west
        top, bottom = max(0, row), min(self._whole[0], row + last - first)
        left, right = max(0, column), min(self._whole[1], column + columns)
        out = np.full((len(bands), last - first, columns), np.nan, dtype="float32")
        if top < bottom and left < right:
            window: Any = Window(left, top, right - left, bottom - top)
            out[:, top - row : bottom - row, left - column : right - column] = read_bands(
                self._path, bands, window
            )
        return out

    def rows_done(self, own: int) -> int:
        """Return how many rows of `shape` are done where so many of the map are."""
        if own == 0:
            return 0
        top, _, bottom, _ = self._own
        return self.shape[0] if top + own == bottom else top + own

    def own(self, strips: Iterator[Strip]) -> Iterator[Strip]:
        """Yield what belongs to the map of strips of what is predicted."""
        top, left, bottom, right = self._own
        for strip in strips:
            height = strip.probability.shape[0]
            first, last = max(top, strip.row), min(bottom, strip.row + height)
            if first >= last:
                continue
            cut = (slice(first - strip.row, last - strip.row), slice(left, right))
            yield replace(
                strip,
                row=first - top,
                probability=strip.probability[cut],
                disagreement=strip.disagreement[cut],
                filled=strip.filled[cut],
                information=strip.information[cut],
            )
