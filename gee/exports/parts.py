"""A product put together from the GeoTIFFs of a batch task, each verified against the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gee.exports.checkpoint import Checkpoint, canvas, release
from gee.exports.plan import Tile
from gee.grids import crs_code
from thawslump.errors import DataError

if TYPE_CHECKING:
    from rasterio import DatasetReader

    from gee.exports.products import Product

__all__ = ["assembled"]

_STRIP = 256  # rows that are read at a time


def assembled(
    paths: Sequence[Path],
    product: Product,
    checkpoint: Checkpoint,
    advance: Callable[[int], None] = lambda pixels: None,
) -> NDArray[Any]:
    """Return a product from its files; every pixel of the pinned grid is covered exactly once.

    Parameters
    ----------
    paths : sequence of Path
    product : Product
    checkpoint : Checkpoint
        Holds the product while it is put together, where it is large.
    advance : callable
        Told the pixels that were read.

    Returns
    -------
    ndarray, shape (band, y, x)
        Masked pixels hold the product's nodata value.

    Raises
    ------
    DataError
        A file is damaged, on another grid, or has other bands or types; pixels are in several
        files or in none.
    """
    import rasterio

    rows, cols = (int(side) for side in product.grid.shape)
    places = {path: _place(path, product) for path in paths}
    # Seen before anything is read: what reaches beyond the pinned grid is not part of it.
    inside = {path: _inside(place, rows, cols) for path, place in places.items()}
    _refuse_coverage(product, [tile for tile in inside.values() if tile is not None], paths)
    array = canvas(checkpoint, (len(product.bands), rows, cols), product.dtype)
    for path, tile in inside.items():
        if tile is None:
            continue
        with rasterio.open(path) as source:
            for top in range(tile.row, tile.row + tile.height, _STRIP):
                height = min(_STRIP, tile.row + tile.height - top)
                window = rasterio.windows.Window(
                    tile.col - places[path].col, top - places[path].row, tile.width, height
                )
                try:
                    pixels = source.read(window=window)
                except rasterio.errors.RasterioError as error:
                    raise DataError(
                        f"{path} is damaged: {error}.", hint="Copy it again from where it was."
                    ) from error
                if product.dtype == "float32":
                    empty = (pixels == np.float32(product.fill)) | ~np.isfinite(pixels)
                    pixels[empty] = np.nan
                array[:, top : top + height, tile.col : tile.col + tile.width] = pixels
                advance(tile.width * height)
        release(array)
    return array


def _inside(place: Tile, rows: int, cols: int) -> Tile | None:
    top, left = max(place.row, 0), max(place.col, 0)
    bottom = min(place.row + place.height, rows)
    right = min(place.col + place.width, cols)
    return None if top >= bottom or left >= right else Tile(top, left, bottom - top, right - left)


def _refuse_coverage(product: Product, tiles: Sequence[Tile], paths: Sequence[Path]) -> None:
    rows, cols = (int(side) for side in product.grid.shape)
    # Between neighbouring edges of files everything is alike: a few cells stand for all pixels.
    row_edges = np.unique([0, rows, *(e for t in tiles for e in (t.row, t.row + t.height))])
    col_edges = np.unique([0, cols, *(e for t in tiles for e in (t.col, t.col + t.width))])
    count = np.zeros((len(row_edges) - 1, len(col_edges) - 1), int)
    for tile in tiles:
        top, bottom = np.searchsorted(row_edges, (tile.row, tile.row + tile.height))
        left, right = np.searchsorted(col_edges, (tile.col, tile.col + tile.width))
        count[top:bottom, left:right] += 1
    size = np.diff(row_edges)[:, None] * np.diff(col_edges)[None, :]
    if (count > 1).any():
        raise DataError(
            f"{product.name}: {int(size[count > 1].sum())} pixels are in more than one of "
            f"{', '.join(path.name for path in paths)}.",
            hint="A task that was run twice leaves its files twice: remove one set.",
        )
    if not count.all():
        first = np.argwhere(count == 0)[0]
        raise DataError(
            f"{product.name}: {int(size[count == 0].sum())} of {rows * cols} pixels are in none of "
            f"the {len(paths)} files, the first at row {row_edges[first[0]]}, column "
            f"{col_edges[first[1]]}.",
            hint="Copy all files of the task, or wait until it is done.",
        )


def _place(path: Path, product: Product) -> Tile:
    """Return where a file lies in the pinned grid; refuse another grid, other bands or types."""
    import rasterio

    try:
        with rasterio.open(path) as source:
            return _verified(source, path, product)
    except rasterio.errors.RasterioIOError as error:
        raise DataError(
            f"{path} cannot be read as a raster: {error}.", hint="Copy it again from where it was."
        ) from error


def _verified(source: DatasetReader, path: Path, product: Product) -> Tile:
    grid = product.grid
    ours, theirs = grid.transform, source.transform
    assert grid.crs is not None
    if source.crs is None or grid.crs != source.crs.to_wkt():
        raise DataError(
            f"{path.name} is in {source.crs}, the site in {crs_code(grid)}.",
            hint="It is no file of this task.",
        )
    same_step = all(abs(getattr(ours, k) - getattr(theirs, k)) < 1e-9 * abs(ours.a) for k in "abde")
    col, row = ~ours @ (theirs.c, theirs.f)
    if not same_step or abs(col - round(col)) > 1e-4 or abs(row - round(row)) > 1e-4:
        raise DataError(
            f"{path.name} has the transform {list(theirs)[:6]}, which does not fit the site's "
            f"{list(ours)[:6]}.",
            hint="It is no file of this task.",
        )
    if source.count != len(product.bands) or set(source.dtypes) != {product.dtype}:
        raise DataError(
            f"{path.name} has {source.count} bands of {', '.join(sorted(set(source.dtypes)))}; "
            f"{product.name} has {len(product.bands)} of {product.dtype}.",
            hint="It is no file of this task.",
        )
    return Tile(round(row), round(col), source.height, source.width)
