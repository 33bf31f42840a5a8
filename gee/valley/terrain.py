"""Relief: a meandering river, the hills that drain to it, lakes, slope and aspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

from gee.valley.noise import fractal

__all__ = [
    "Drainage",
    "accumulate",
    "aspect_degrees",
    "drain",
    "gradient",
    "meander",
    "relax",
    "slope_degrees",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def meander(
    length: float,
    centre: float,
    random: np.random.Generator,
    *,
    wavelength: float = 1400.0,
    swing: float = 1.15,
    step: float = 8.0,
) -> NDArray[np.float64]:
    """Return a river course after Langbein and Leopold (1966): a sine-generated curve.

    Parameters
    ----------
    length : float
        Metres along the valley that the course must cover.
    centre : float
        Metres across the valley about which it swings.
    random : numpy Generator
    wavelength : float
        Metres along the channel of one meander.
    swing : float
        Largest angle to the valley's axis in radians; below 2.2 the course never cuts itself.
    step : float
        Metres between points.

    Returns
    -------
    float64 array (n, 2)
        Along and across, metres; begins before 0 and ends behind `length`.

    Examples
    --------
    >>> course = meander(5000.0, 2000.0, np.random.default_rng(1))
    >>> bool(course[0, 0] < 0 and course[-1, 0] > 5000)
    True
    """
    count = int((length * 2.2 + 4000.0) / step)
    # Wavelength and swing wander, or the river looks machined.
    pace = ndimage.gaussian_filter1d(random.normal(0.0, 1.0, count), 700.0 / step)
    pace = np.exp(0.45 * pace / pace.std())
    phase = np.cumsum(pace) * (2.0 * np.pi * step / wavelength) + random.uniform(0.0, 2.0 * np.pi)
    loud = ndimage.gaussian_filter1d(random.normal(0.0, 1.0, count), 900.0 / step)
    loud = np.clip(1.0 + 0.32 * loud / loud.std(), 0.2, 1.6)
    angle = swing * loud * np.sin(phase)
    along = np.cumsum(np.cos(angle)) * step - 600.0
    across = np.cumsum(np.sin(angle)) * step
    trend = ndimage.gaussian_filter1d(across, 2.0 * wavelength / step, mode="nearest")
    across = across - trend
    slow = np.interp(
        along,
        np.linspace(along[0], along[-1], 6),
        random.normal(0.0, 130.0, 6),
    )
    course = np.column_stack([along, across + centre + slow])
    return course[along < length + 600.0]


def accumulate(receiver: NDArray[np.int64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what flows through every cell of a drainage forest, its own weight counted.

    Parameters
    ----------
    receiver : int64 array (n,)
        Flat index of the cell downstream; a cell that is its own receiver is an outlet.
    weight : float64 array (n,)

    Examples
    --------
    >>> accumulate(np.array([0, 0, 1, 1]), np.ones(4)).tolist()
    [4.0, 3.0, 1.0, 1.0]
    """
    depth = np.zeros(receiver.size, dtype=np.int64)
    jump = receiver.copy()
    steps = (receiver != np.arange(receiver.size)).astype(np.int64)
    while True:  # pointer doubling: the way to the outlet in log2(longest way) rounds
        depth = steps
        ahead = steps + steps[jump]
        if np.array_equal(ahead, steps):
            break
        steps, jump = ahead, jump[jump]
    order = np.argsort(depth, kind="stable")[::-1]
    edges = np.flatnonzero(np.diff(depth[order])) + 1
    total = weight.astype(np.float64).copy()
    for cells in np.split(order, edges):
        if depth[cells[0]] == 0:
            break
        np.add.at(total, receiver[cells], total[cells])
    return total


@dataclass(frozen=True)
class Drainage:
    """Relief in balance with its drainage.

    Attributes
    ----------
    height : float32 array (rows, cols)
        Metres above the base.
    area : float32 array (rows, cols)
        Upslope area in square metres.
    """

    height: Array
    area: Array


def drain(base: Mask, steepness: Array, pixel: float, *, rounds: int = 4) -> Drainage:
    """Return hills whose every cell has the slope that its upslope area asks for.

    A river in balance has slope S = k A**-0.42 (Flint's law), capped at hillslope cells. The height
    that fulfils it is the cheapest way to the base through a field of slopes; slopes and ways are
    found in turns. The result has no pits, and its divides match by construction.

    Parameters
    ----------
    base : bool array (rows, cols)
        Height zero: floodplain and river.
    steepness : float32 array (rows, cols)
        Hillslope gradient (rise over run) where little water gathers.
    pixel : float
        Metres.
    rounds : int
        Turns of "slopes from areas, ways from slopes".

    Returns
    -------
    Drainage
    """
    shape = base.shape
    starts = np.argwhere(base & ~ndimage.binary_erosion(base, border_value=1)).tolist()
    cell = pixel * pixel
    area = np.full(shape, cell, dtype=np.float64)
    flat = np.arange(base.size).reshape(shape)
    height = np.zeros(shape)
    for _ in range(rounds):
        law = np.minimum(1.0, (area / (14.0 * 900.0)) ** -0.42)
        cost = np.where(base, 1e-4, steepness * np.maximum(law, 0.04)) * pixel
        finder = MCP_Geometric(cost)
        height, trace = finder.find_costs(starts)
        offsets = np.array(finder.offsets)
        steps = np.where(trace[..., None] >= 0, offsets[np.maximum(trace, 0)], 0)
        rows, cols = np.indices(shape)
        receiver = flat[rows - steps[..., 0], cols - steps[..., 1]].ravel()
        receiver = np.where(base.ravel(), flat.ravel(), receiver)
        area = accumulate(receiver.astype(np.int64), np.full(base.size, cell)).reshape(shape)
    return Drainage(
        np.where(base, 0.0, height).astype(np.float32), np.asarray(area, dtype=np.float32)
    )


def relax(height: Array, pixel: float, reach: float) -> Array:
    """Return the relief after soil creep: diffusion over `reach` metres, a Gaussian."""
    return np.asarray(ndimage.gaussian_filter(height, reach / pixel, mode="nearest"), np.float32)


def gradient(height: Array, pixel: float) -> tuple[Array, Array]:
    """Return the rise per metre to the east and to the north.

    Parameters
    ----------
    height : float32 array (rows, cols)
        North up.
    pixel : float
        Metres.

    Examples
    --------
    >>> east, north = gradient(np.array([[2, 3], [0, 1]], dtype="float32"), 10.0)
    >>> float(east[0, 0]), float(north[0, 0])
    (0.10000000149011612, 0.20000000298023224)
    """
    down, east = np.gradient(height, np.float32(pixel))
    return np.asarray(east, np.float32), np.asarray(-down, np.float32)


def slope_degrees(height: Array, pixel: float) -> Array:
    """Return the slope in degrees (central differences).

    Examples
    --------
    >>> ramp = np.outer(np.arange(4), np.ones(4)).astype("float32") * 10
    >>> float(slope_degrees(ramp, 10.0)[1, 1])
    45.0
    """
    east, north = gradient(height, pixel)
    return np.asarray(np.degrees(np.arctan(np.hypot(east, north))), np.float32)


def aspect_degrees(height: Array, pixel: float) -> Array:
    """Return the direction that a slope faces: degrees clockwise from north, 0 <= a < 360."""
    east, north = gradient(height, pixel)
    return np.asarray(np.degrees(np.arctan2(-east, -north)) % 360.0, np.float32)


def lake_outline(
    radius: float, random: np.random.Generator, count: int = 64
) -> NDArray[np.float64]:
    """Return a closed lobed outline about the origin, shape (count, 2), metres."""
    turn = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    shape = np.ones(count)
    for order in range(2, 7):
        shape += random.normal(0.0, 0.28 / order) * np.cos(order * turn + random.uniform(0, 6.283))
    shape = np.maximum(shape, 0.35)
    stretch, tilt = random.uniform(1.0, 1.7), random.uniform(0.0, np.pi)
    x, y = radius * shape * np.cos(turn) * np.sqrt(stretch), radius * shape * np.sin(turn)
    y = y / np.sqrt(stretch)
    return np.column_stack(
        [x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)]
    )


def settle(height: Array, lakes: Sequence[Mask], pixel: float) -> Array:
    """Return the relief with every lake level and its shore blended in over 40 m."""
    out = height.copy()
    for lake in lakes:
        box = ndimage.find_objects(lake.astype(np.int8))[0]
        reach = int(60 / pixel)
        window = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        inside = lake[window]
        level = np.float32(np.percentile(out[window][inside], 10.0))
        away = ndimage.distance_transform_edt(~inside) * pixel
        blend = np.clip(away / 50.0, 0.0, 1.0).astype(np.float32)
        out[window] = blend * out[window] + (1 - blend) * (level + np.float32(0.6) * blend)
        out[window][inside] = level
    return out


def hills(shape: tuple[int, int], random: np.random.Generator, pixel: float) -> Array:
    """Return hillslope gradients: gentle terraces, ordinary slopes, a few steep ridges."""
    mood = fractal(shape, random, pixel=pixel, longest=2600.0, shortest=250.0, slope=3.2)
    rough = fractal(shape, random, pixel=pixel, longest=500.0, slope=2.4)
    steep = 0.105 * np.exp(0.62 * mood) * np.exp(0.35 * rough)
    return np.asarray(np.clip(steep, 0.012, 0.75), np.float32)
