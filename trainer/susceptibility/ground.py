"""Sites read by windows: their slumps first, then labels and factors together.

Memory holds one window and what is known of the slumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.windows import Window

from thawslump import raster
from thawslump.errors import DataError
from trainer.susceptibility import inputs, samples
from trainer.susceptibility.samples import Runs, SlumpCells
from trainer.susceptibility.seams import Sheet

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["WINDOW", "Part", "Place", "header", "open_place", "parts"]

WINDOW = 512  # cells a side, as the blocks of the files
_PIXELS = 2048  # label pixels a side where no factor is needed


@dataclass
class Place:
    """A site while samples are drawn from it.

    Attributes
    ----------
    number : int
        Among all sites.
    name : str
    factors, labels : Path
    grid, label_grid : GeoBox
    slumps : SlumpCells
    sheet : Sheet
        The same slumps with their pixels.
    values : ndarray of float32, shape (factors, cells)
        Of the cells of slumps, NaN where missing; filled in by `parts`.
    clear : int
        Cells where a negative may be drawn.
    watches : dict of factor to Watch
        What was seen in the cells that were looked at.
    """

    number: int
    name: str
    factors: Path
    labels: Path
    grid: GeoBox
    label_grid: GeoBox
    slumps: SlumpCells
    sheet: Sheet
    values: NDArray[np.float32]
    clear: int = 0
    watches: dict[str, inputs.Watch] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the cells."""
        return int(self.grid.shape[0]), int(self.grid.shape[1])

    @property
    def corner(self) -> NDArray[np.float64]:
        """x and y of the upper left corner."""
        return np.array([self.grid.affine.c, self.grid.affine.f])

    def centres(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return x and y of the centres of cells, shape (n, 2)."""
        row, column = np.divmod(cells, self.shape[1])
        affine = self.grid.affine
        return np.stack(
            [affine.c + (column + 0.5) * affine.a, affine.f + (row + 0.5) * affine.e], axis=1
        )

    def lonlat(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the centres of cells in degrees (EPSG:4326), shape (n, 2)."""
        centre = self.centres(cells)
        to_lonlat = Transformer.from_crs(self.grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
        return np.stack(to_lonlat.transform(centre[:, 0], centre[:, 1]), axis=1)


def header(name: str, path: Path) -> inputs.Site:
    """Return the names of the bands of a site's factors, and their grid."""
    with raster.open_raster(path) as source:
        bands = tuple(each or f"band{n + 1}" for n, each in enumerate(source.descriptions))
    return inputs.Site(name, str(path), bands, raster.grid_of(path))


def _windows(shape: tuple[int, int], side: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield first row, first column, rows and columns of the windows of a raster."""
    for row in range(0, shape[0], side):
        for column in range(0, shape[1], side):
            yield row, column, min(side, shape[0] - row), min(side, shape[1] - column)


def _marks(path: Path, window: Window) -> NDArray[np.uint8]:
    array = raster.read(path, window=window).array[0]
    strange = array[(array != 0) & (array != 1) & (array != samples.NOT_LOOKED_AT)]
    if strange.size:
        raise DataError(
            f"{path} holds {strange[0]:g}; 1 (slump), 0 (none) and 255 (not looked at) were "
            "expected.",
            hint="`thawslump run` makes the labels again; own ones must hold these numbers.",
        )
    return np.asarray(array, np.uint8)


def open_place(
    number: int, name: str, factors_path: Path, labels_path: Path, names: Sequence[str]
) -> Place:
    """Return a site with its slumps, read from the labels alone.

    Raises
    ------
    DataError
        The labels hold other numbers than 0, 1 and 255.
    """
    grid, label_grid = raster.grid_of(factors_path), raster.grid_of(labels_path)
    shape = (int(label_grid.shape[0]), int(label_grid.shape[1]))
    found: list[Runs] = []
    for row, column, rows, columns in _windows(shape, _PIXELS):
        marks = _marks(labels_path, Window(column, row, columns, rows))
        found.append(samples.runs_of(marks == 1, row, column))
    runs = samples.joined(found)
    cells = samples.slump_cells(
        runs, label_grid.affine, (int(grid.shape[0]), int(grid.shape[1])), grid.affine
    )
    sheet = Sheet(str(label_grid.crs), label_grid.affine, shape, runs, cells)
    values = np.full((len(names), cells.cells.size), np.nan, np.float32)
    watches = {each: inputs.Watch(inputs.is_classes(each)) for each in names}
    return Place(
        number, name, factors_path, labels_path, grid, label_grid, cells, sheet, values, 0, watches
    )


@dataclass(frozen=True)
class Part:
    """Cells of a window where a negative may be drawn: flat indices and values."""

    cells: NDArray[np.int64]
    values: NDArray[np.float32]


def _label_window(place: Place, first: tuple[int, int], shape: tuple[int, int]) -> Window | None:
    """Return the label pixels below a window of cells, and a pixel more around; None for none."""
    affine, fine = place.grid.affine, place.label_grid.affine
    left, top = affine.c + first[1] * affine.a, affine.f + first[0] * affine.e
    right, bottom = left + shape[1] * affine.a, top + shape[0] * affine.e
    height, width = (int(v) for v in place.label_grid.shape)
    columns = sorted(((left - fine.c) / fine.a, (right - fine.c) / fine.a))
    rows = sorted(((top - fine.f) / fine.e, (bottom - fine.f) / fine.e))
    start = (max(0, int(np.floor(rows[0])) - 1), max(0, int(np.floor(columns[0])) - 1))
    stop = (min(height, int(np.ceil(rows[1])) + 1), min(width, int(np.ceil(columns[1])) + 1))
    if start[0] >= stop[0] or start[1] >= stop[1]:
        return None
    return Window(start[1], start[0], stop[1] - start[1], stop[0] - start[0])


def parts(
    place: Place,
    names: Sequence[str],
    buffer: float,
    window: int,
    progress: Callable[[float], None],
    first_time: bool = True,
) -> Iterator[Part]:
    """Yield the cells of each window where a negative may be drawn.

    The first time it also fills in the values of the cells of slumps, and looks for numbers that
    stand for missing values in all cells that were looked at.
    """
    width = place.shape[1]
    affine = place.grid.affine
    spacing = (abs(affine.e), abs(affine.a))
    # Cells of slumps in the order of the raster, to find those of a window.
    order = np.argsort(place.slumps.cells, kind="stable")
    ordered = place.slumps.cells[order]
    windows = list(_windows(place.shape, window))
    for done, (row, column, rows, columns) in enumerate(windows):
        progress(done / len(windows))
        pixels = _label_window(place, (row, column), (rows, columns))
        if pixels is None:
            continue
        marks = _marks(place.labels, pixels)
        if (marks == samples.NOT_LOOKED_AT).all():
            continue
        counts = samples.count_labels(
            marks,
            place.label_grid.affine,
            (rows, columns),
            affine,
            pixel=(int(pixels.row_off), int(pixels.col_off)),
            cell=(row, column),
        )
        free = samples.clear_cells(counts)
        if free.any():
            free &= samples.beyond(
                place.slumps.touched, width, (row, column), (rows, columns), spacing, buffer
            )
        looked_at = (counts.slump > 0) | (counts.clear > 0)
        if not (free.any() or (first_time and looked_at.any())):
            continue
        read = raster.read_float(place.factors, names, Window(column, row, columns, rows))
        values = np.asarray(read.array, np.float32)
        if first_time:
            for name, band in zip(names, values, strict=True):
                place.watches[name].look(band[looked_at])
            low, high = np.searchsorted(ordered, [row * width, (row + rows) * width])
            at = ordered[low:high]
            here = (at % width >= column) & (at % width < column + columns)
            chosen, at = order[low:high][here], at[here]
            place.values[:, chosen] = values[:, at // width - row, at % width - column]
        free &= ~np.isnan(values).all(axis=0)
        at_row, at_column = np.nonzero(free)
        yield Part((at_row + row) * width + at_column + column, values[:, free])
