"""What surrounds a cell: terrain and factors at wider scales, from the same rasters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError

__all__ = ["surroundings"]

# Below this share of weight a mean would rest on a corner of its window.
LEAST = 0.01


def surroundings(
    factors: Mapping[str, NDArray[np.floating]],
    cell: tuple[float, float],
    spread: float,
    elevation: str = "elevation",
) -> dict[str, NDArray[np.float32]]:
    """Return factors of the surroundings, by Gaussian windows.

    - Of every factor but elevation its mean: ``<name>@<spread>``.
    - Of elevation: ``position`` (height above the mean of the surroundings, as TPI), ``roughness``
      (standard deviation of the heights), and of the smoothed surface ``slope`` (degrees) and
      the unit vector that points downhill, ``north`` and ``east``. The mean height itself is not
      among them: it says where a cell lies, not what lies around it.

    Parameters
    ----------
    factors : mapping of name to ndarray of float, shape (height, width)
        Continuous; NaN where missing. Row 0 lies in the north.
    cell : (float, float)
        Width and height of a cell, both above 0, in the unit of the elevation.
    spread : float
        Standard deviation of the window in that unit.
    elevation : str
        Name of the elevation, where it is among the factors.

    Returns
    -------
    dict of name to ndarray of float32
        NaN where the window holds nothing.

    Raises
    ------
    DataError
        A spread or a cell that is not above 0.

    Examples
    --------
    >>> plane = np.tile(np.arange(9.0) * 10, (9, 1))  # rises by 45 degrees to the east
    >>> found = surroundings({"elevation": plane}, (10.0, 10.0), 10.0)
    >>> sorted(found)
    ['east@10', 'north@10', 'position@10', 'roughness@10', 'slope@10']
    >>> float(found["slope@10"][4, 4].round(1)), float(found["east@10"][4, 4].round(2))
    (45.0, -1.0)
    """
    from scipy.ndimage import gaussian_filter

    if not (spread > 0 and min(cell) > 0):
        raise DataError(
            f"A spread of {spread:g} on cells of {cell[0]:g} x {cell[1]:g} was given.",
            hint="Give both in the unit of the elevation, above 0.",
        )
    sigma = (spread / cell[1], spread / cell[0])
    found: dict[str, NDArray[np.float32]] = {}

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        known = np.isfinite(values)
        weight = gaussian_filter(known.astype(np.float64), sigma, mode="constant")
        total = gaussian_filter(np.where(known, values, 0.0), sigma, mode="constant")
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight > LEAST, total / weight, np.nan)

    def put(name: str, values: NDArray[np.float64]) -> None:
        found[f"{name}@{spread:g}"] = values.astype(np.float32)

    for name, raster in factors.items():
        values = np.asarray(raster, np.float64)
        if name != elevation:
            put(name, mean(values))
            continue
        # About their mean: squares of heights in thousands would cancel.
        values = values - np.nanmean(values) if np.isfinite(values).any() else values
        around = mean(values)
        put("position", values - around)
        put("roughness", np.sqrt(np.maximum(mean(values**2) - around**2, 0.0)))
        down, east = np.gradient(around, cell[1], cell[0])
        rise = np.hypot(down, east)
        put("slope", np.degrees(np.arctan(rise)))
        with np.errstate(invalid="ignore", divide="ignore"):
            flat = rise == 0
            # Rows run south: a rise along the rows is a slope that faces north.
            put("north", np.where(flat, 0.0, down / rise))
            put("east", np.where(flat, 0.0, -east / rise))
    return found
