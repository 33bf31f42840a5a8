"""What people decided, as pixels: 1 slump, 0 not, 255 not looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from thawslump.vector import rasterize

__all__ = ["NOT_LOOKED_AT", "reviewed_labels", "whole_labels"]

NOT_LOOKED_AT = 255


def whole_labels(slumps: Sequence[BaseGeometry], grid: GeoBox) -> NDArray[np.uint8]:
    """Return labels of a site that was looked at as a whole.

    Parameters
    ----------
    slumps : sequence of polygons
        In the CRS of `grid`.
    grid : GeoBox

    Returns
    -------
    ndarray of uint8, shape of the grid
        1 where the centre of a pixel lies in a slump, 0 elsewhere.

    Examples
    --------
    >>> from affine import Affine
    >>> from shapely.geometry import box
    >>> grid = GeoBox((2, 3), Affine(10, 0, 0, 0, -10, 20), "EPSG:32652")
    >>> whole_labels([box(0, 10, 20, 20)], grid).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    return rasterize(slumps, grid)


def reviewed_labels(
    slumps: Sequence[BaseGeometry],
    rejected: Sequence[BaseGeometry],
    unsure: Sequence[BaseGeometry],
    grid: GeoBox,
    *,
    ring: int = 3,
) -> NDArray[np.uint8]:
    """Return labels of an area of which only proposed outlines were looked at.

    Parameters
    ----------
    slumps, rejected, unsure : sequence of polygons
        Accepted or imported outlines, rejected ones, and those nobody was sure of; in the CRS of
        `grid`.
    grid : GeoBox
    ring : int
        Pixels around a slump that stay 255: where its edge lies is not known to the pixel.

    Returns
    -------
    ndarray of uint8, shape of the grid
        1 in slumps, 0 in rejected outlines, 255 elsewhere. A slump wins over its own ring and
        over rejected outlines, the ring and unsure outlines win over rejected ones.

    Examples
    --------
    >>> from affine import Affine
    >>> from shapely.geometry import box
    >>> grid = GeoBox((1, 5), Affine(10, 0, 0, 0, -10, 10), "EPSG:32652")
    >>> reviewed_labels([box(0, 0, 10, 10)], [box(10, 0, 40, 10)], [], grid, ring=1).tolist()
    [[1, 255, 0, 0, 255]]
    """
    from scipy import ndimage

    inside = rasterize(slumps, grid).astype(bool)
    labels = np.full(tuple(grid.shape), NOT_LOOKED_AT, dtype="uint8")
    labels[rasterize(rejected, grid).astype(bool)] = 0
    around = inside
    if ring > 0 and inside.any():
        square = np.ones((3, 3), dtype=bool)
        around = ndimage.binary_dilation(inside, structure=square, iterations=ring)
    labels[around | rasterize(unsure, grid).astype(bool)] = NOT_LOOKED_AT
    labels[inside] = 1
    return labels
