"""Maps of the valley as their providers deliver them: other grids, coarser, with their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import ndimage

from gee.valley.noise import fractal
from gee.valley.place import CRS, PIXEL, Frame

__all__ = [
    "canopy_height",
    "degree_grid",
    "elevation_model",
    "ground_temperature",
    "on_degrees",
    "warmest_month",
]

Array = NDArray[np.float32]
Six = tuple[float, float, float, float, float, float]


def degree_grid(
    bounds: tuple[float, float, float, float], step: tuple[float, float], spare: int
) -> tuple[tuple[int, int], Six]:
    """Return shape and transform of a grid in degrees whose pixel edges lie on whole steps.

    Parameters
    ----------
    bounds : (west, south, east, north)
    step : (longitude, latitude)
        Pixel size in degrees.
    spare : int
        Pixels more on every side.

    Examples
    --------
    >>> degree_grid((128.95, 71.32, 129.04, 71.38), (0.1, 0.1), 1)
    ((3, 4), (0.1, 0.0, 128.8, 0.0, -0.1, 71.5))
    """
    dx, dy = step
    west, south, east, north = bounds
    col0, col1 = int(np.floor(west / dx)) - spare, int(np.ceil(east / dx)) + spare
    row0, row1 = int(np.floor(south / dy)) - spare, int(np.ceil(north / dy)) + spare
    left, top = round(col0 * dx, 12), round(row1 * dy, 12)
    return (row1 - row0, col1 - col0), (dx, 0.0, left, 0.0, -dy, top)


def on_degrees(
    array: NDArray[np.generic], frame: Frame, shape: tuple[int, int], transform: Six, order: int
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return an array of the valley's frame on a grid in degrees, and where it has data.

    Parameters
    ----------
    array : ndarray (rows, cols)
        On `frame`.
    frame : Frame
    shape : (rows, cols)
        Of the grid in degrees.
    transform : 6 floats
        Of that grid, Earth Engine's order.
    order : int
        0 takes the nearest value, 1 interpolates.
    """
    lon = transform[2] + (np.arange(shape[1]) + 0.5) * transform[0]
    lat = transform[5] + (np.arange(shape[0]) + 0.5) * transform[4]
    to = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    east, north = to.transform(*np.meshgrid(lon, lat))
    col = (east - frame.left) / frame.pixel - 0.5
    row = (frame.top - north) / frame.pixel - 0.5
    rows, cols = frame.shape
    valid = (row > -0.5) & (row < rows - 0.5) & (col > -0.5) & (col < cols - 0.5)
    if order == 0:
        r = np.clip(np.rint(row), 0, rows - 1).astype(np.int64)
        c = np.clip(np.rint(col), 0, cols - 1).astype(np.int64)
        return array[r, c], valid
    out = ndimage.map_coordinates(array, np.stack([row, col]), order=order, mode="nearest")
    return np.asarray(out, array.dtype), valid


def elevation_model(height: Array, random: np.random.Generator) -> Array:
    """Return what a 30 m radar elevation model makes of the relief, still on the 10 m frame.

    Means over about 30 m, and an error of 0.35 m (one sigma) that is alike over some 100 m: that of
    GLO-30 on gentle, open ground.
    """
    error = fractal(height.shape, random, pixel=PIXEL, longest=250.0, shortest=60.0, slope=2.5)
    blurred = ndimage.uniform_filter(height, 3, mode="nearest")
    return np.asarray(blurred + np.float32(0.35) * error, np.float32)


def ground_temperature(height: Array, ice: Array) -> Array:
    """Return the mean annual temperature of the ground in degrees Celsius."""
    return np.asarray(-7.2 - 0.004 * height - 1.6 * (ice - 0.4), np.float32)


def warmest_month(height: Array, random: np.random.Generator) -> Array:
    """Return the long-term mean temperature of July in degrees Celsius, on the 10 m frame.

    Around the 10 degrees that part tundra from forest climate: high ground is colder by 6.5
    degrees per kilometre, and sheltered places differ by half a degree.
    """
    shelter = fractal(height.shape, random, pixel=PIXEL, longest=6000.0, slope=3.5)
    return np.asarray(10.2 - 0.0065 * height + np.float32(0.5) * shelter, np.float32)


def canopy_height(shrub: Array, sedge: Array, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return what a canopy height map makes of the cover, in whole metres, on the 10 m frame.

    Thickets of shrub are up to 4 m high, sedge and tundra count as 0. Means over about 30 m with
    an error of 0.6 m: maps made from lidar samples and optical images are hardly better.

    Parameters
    ----------
    shrub, sedge : float32 arrays (rows, cols)
        Shares of the pixel.
    random : numpy Generator

    Examples
    --------
    >>> none = np.zeros((60, 60), "float32")
    >>> full = canopy_height(none + 1, none, np.random.default_rng(0))
    >>> bare = canopy_height(none, none, np.random.default_rng(0))
    >>> bool(full.mean() > 2.5), bool(bare.mean() < 0.3)
    (True, True)
    """
    high = ndimage.uniform_filter(3.6 * shrub**1.5 + 0.2 * sedge, 3, mode="nearest")
    error = fractal(shrub.shape, random, pixel=PIXEL, longest=300.0, shortest=60.0, slope=2.5)
    # The error grows with the height: bare ground is hardly ever taken for a thicket.
    seen = high + np.float32(0.6) * error * np.clip(0.4 + high, 0.0, 1.0)
    return np.clip(np.rint(seen), 0, 30).astype(np.uint8)
