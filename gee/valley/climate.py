"""A coarse climate over the valley: monthly means and sums on the grid of a reanalysis."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gee.valley.place import random

__all__ = [
    "CELL",
    "FIRST_YEAR",
    "KOEPPEN",
    "KOEPPEN_CELL",
    "LAST_YEAR",
    "koeppen",
    "monthly",
    "months",
]

Array = NDArray[np.float32]

CELL = 0.1
"""Degrees; the grid's cell centres lie on multiples of it, as those of ERA5-Land do."""

# A year before the first window: factors look at the twelve months that precede it.
FIRST_YEAR, LAST_YEAR = 2019, 2023

KOEPPEN = {27: "Dfc: cold, no dry season, cold summer", 29: "ET: polar tundra"}
"""The Koeppen-Geiger classes that occur here, numbered as Beck et al. (2018) number theirs."""

KOEPPEN_CELL = 1 / 120
"""Degrees: 30 arc seconds, "1 km", the grid of those maps."""

_TEMPERATURE = (-31, -29.5, -22, -12.5, -2.5, 7.5, 11.5, 9.0, 2.5, -10, -22.5, -29)
_PRECIPITATION = (12, 10, 9, 11, 17, 31, 42, 44, 34, 24, 17, 13)


def months() -> Iterator[tuple[int, int]]:
    """Yield year and month of every image.

    Examples
    --------
    >>> list(months())[0], len(list(months()))
    ((2019, 1), 60)
    """
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        for month in range(1, 13):
            yield year, month


def monthly(
    seed: int, year: int, month: int, lats: NDArray[np.float64], lons: NDArray[np.float64]
) -> dict[str, Array]:
    """Return one month of climate.

    A tundra climate (Koeppen-Geiger ET: warmest month between 0 and 10-12 degrees): the sea to the
    north cools the summer and warms the winter.

    Parameters
    ----------
    seed : int
    year, month : int
    lats : float64 array (rows,)
    lons : float64 array (cols,)
        Degrees, of the cell centres.

    Returns
    -------
    dict of float32 arrays (rows, cols)
        temperature_2m in kelvin, total_precipitation_sum in metres of the month.

    Examples
    --------
    >>> july = monthly(1, 2020, 7, np.array([71.4, 71.3]), np.array([129.0]))
    >>> bool((july["temperature_2m"] > 278).all()), july["total_precipitation_sum"].shape
    (True, (2, 1))
    """
    chance = random(seed, "climate", year, month)
    summer = math.cos(2.0 * math.pi * (month - 7) / 12.0)
    warm = _TEMPERATURE[month - 1] + float(chance.normal(0.0, 1.4))
    inland = (71.33 - lats)[:, None] * 4.0 * summer + (lons - 129.0)[None, :] * 0.3
    temperature = 273.15 + warm + inland
    rain = _PRECIPITATION[month - 1] * float(np.exp(chance.normal(0.0, 0.25))) / 1000.0
    spread = 1.0 + 0.25 * (71.33 - lats)[:, None] + 0.1 * (lons - 129.0)[None, :]
    return {
        "temperature_2m": np.asarray(temperature, np.float32),
        "total_precipitation_sum": np.asarray(rain * spread, np.float32),
    }


def koeppen(warmest: Array) -> NDArray[np.uint8]:
    """Return the Koeppen-Geiger class from the mean temperature of the warmest month.

    No month is dry and every winter is cold here, so one limit decides: trees need 10 degrees.

    Parameters
    ----------
    warmest : float32 array
        Degrees Celsius.

    Returns
    -------
    uint8 array
        A key of `KOEPPEN`.

    Examples
    --------
    >>> koeppen(np.array([9.9, 10.0], "float32")).tolist()
    [29, 27]
    """
    return np.where(warmest >= 10.0, 27, 29).astype(np.uint8)
