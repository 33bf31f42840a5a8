"""Upslope area from heights, on this machine: arrays in, arrays out.

Depressions are filled by pyflwdir (L. Wang and H. Liu 2006, doi 10.1080/13658810500433453). Water
then takes the steepest of the eight ways down (D8: J. F. O'Callaghan and D. M. Mark 1984, doi
10.1016/S0734-189X(84)80011-0); where no way leads down, across the level ground of a filled
depression, it takes the way by which the filling came. pyflwdir's own directions are those of the
filling everywhere: to the lowest neighbour, whose slope need not be the steepest.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import ConfigError, DataError

__all__ = [
    "CHANNEL",
    "LEAST_SLOPE",
    "Drainage",
    "distance_to",
    "drainage",
    "require",
    "wetness",
]

LEAST_SLOPE = 0.1
"""Degrees that level ground counts as: the tangent of 0 would make TWI infinite."""

CHANNEL = 1e6
"""Square metres of upslope area from which on water runs in a channel."""

_NODATA = -99999.0
# Row and column steps of the D8 codes: east, then clockwise.
_WAYS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
_OUT, _MISSING = 0, 247  # pyflwdir's codes: water ends here; no data


class Drainage(NamedTuple):
    """Where water comes from.

    Attributes
    ----------
    area : ndarray of float64
        Upslope area in square metres, the cell itself included; NaN without data.
    cut : ndarray of bool
        The catchment touches the edge of the data: more may drain through the cell than `area`.
    """

    area: NDArray[np.float64]
    cut: NDArray[np.bool_]


def drainage(heights: NDArray[Any], cell: float) -> Drainage:
    """Return the upslope area of every cell, and whether its catchment is whole.

    Parameters
    ----------
    heights : ndarray of float, shape (rows, columns)
        Metres, on square cells; NaN without data. Taken in single precision.
    cell : float
        Side of a cell, metres.

    Returns
    -------
    Drainage
        Both of the shape of `heights`.

    Raises
    ------
    ConfigError
        pyflwdir is not installed.
    DataError
        Not two-dimensional, or nothing but missing heights.

    Examples
    --------
    Ground that falls to the south. Every line of fall begins at the edge, so none is known whole:

    >>> area, cut = drainage(np.array([[3.0, 3, 3], [2, 2, 2], [1, 1, 1]]), 10.0)
    >>> (area / 100).astype(int).tolist()
    [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    >>> bool(cut.all())
    True
    """
    pyflwdir = _pyflwdir()
    if np.ndim(heights) != 2:
        raise DataError(
            f"Heights of shape {np.shape(heights)} were given; rows and columns were expected.",
            hint="Give one band of a raster.",
        )
    # Single precision, held in doubles: the filling compares singles, and adds without rounding.
    ground = np.asarray(heights, np.float32).astype(np.float64)
    missing = ~np.isfinite(ground)
    if missing.all():
        raise DataError(
            f"None of the {missing.size} heights is there.",
            hint="Check that the DEM covers the place (sources.dem of the site).",
        )
    ground[missing] = _NODATA
    filled, toward = pyflwdir.dem.fill_depressions(ground, nodata=_NODATA)
    filled[missing] = np.nan
    edge = _edge(missing)
    toward[edge] = _OUT  # not along the edge: where all of it lies higher, water leaves the data
    toward[missing] = _MISSING
    flow = pyflwdir.from_array(_steepest(filled, toward), ftype="d8", check_ftype=False)
    cells = flow.accuflux(np.where(missing, 0.0, 1.0))
    cut = flow.accuflux(edge.astype(np.float64)) > 0
    area = np.where(missing, np.nan, cells * cell**2)
    return Drainage(area, cut & ~missing)


def wetness(
    area: NDArray[np.float64], slope: NDArray[Any], cell: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return TWI = ln(A_s / tan(slope)) and SPI = A_s tan(slope), A_s in metres.

    Parameters
    ----------
    area : ndarray of float
        Upslope area, square metres.
    slope : ndarray of float
        Degrees; below `LEAST_SLOPE` counts as that.
    cell : float
        Side of a cell in metres, which is the contour length that A_s is per unit of.

    Examples
    --------
    >>> twi, spi = wetness(np.array([900.0]), np.array([45.0]), 30.0)
    >>> round(float(twi[0]), 4) == round(math.log(30), 4), round(float(spi[0]), 4)
    (True, 30.0)
    """
    steep = np.tan(np.radians(np.maximum(np.asarray(slope, np.float64), LEAST_SLOPE)))
    specific = area / cell
    return np.log(specific / steep), specific * steep


def distance_to(marked: NDArray[np.bool_], cell: float, most: float) -> NDArray[np.float64]:
    """Return the distance to the nearest marked cell in metres, at most `most`.

    Examples
    --------
    >>> distance_to(np.array([[True, False, False, False]]), 10.0, 25.0).tolist()
    [[0.0, 10.0, 20.0, 25.0]]
    """
    from scipy import ndimage

    if not marked.any():
        return np.full(marked.shape, most)
    away = ndimage.distance_transform_edt(~marked, sampling=cell)
    return np.asarray(np.minimum(away, most), np.float64)


def require() -> None:
    """Refuse in words where pyflwdir is not installed; it is not imported, which takes a second.

    Raises
    ------
    ConfigError
    """
    if importlib.util.find_spec("pyflwdir") is None:
        _pyflwdir()


def _pyflwdir() -> Any:
    try:
        import pyflwdir
    except ImportError as error:
        raise ConfigError(
            f"sources.upslope is local, which needs pyflwdir: {error}.",
            hint="Install it with: pip install 'thawslump[hydrology]'",
        ) from error
    return pyflwdir


def _shifted(array: NDArray[Any], row: int, col: int, fill: float) -> NDArray[Any]:
    """Return the neighbour that lies `row` and `col` cells away of every cell."""
    padded = np.pad(array, 1, constant_values=fill)
    rows, cols = array.shape
    return padded[1 + row : 1 + row + rows, 1 + col : 1 + col + cols]


def _steepest(filled: NDArray[np.float64], otherwise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the D8 code of the steepest way down; `otherwise` where none leads down."""
    best = np.zeros(filled.shape)
    ways = otherwise.copy()
    for power, (row, col) in enumerate(_WAYS):
        fall = (filled - _shifted(filled, row, col, np.nan)) / math.hypot(row, col)
        better = fall > best  # false where either is missing
        best[better] = fall[better]
        ways[better] = 1 << power
    return ways


def _edge(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    beside = np.zeros(missing.shape, bool)
    for row, col in _WAYS:
        beside |= _shifted(missing, row, col, True)
    return beside & ~missing
