"""What Sentinel-1 sees of the valley: geometry, slope radiometry, layover, shadow, speckle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special, stats

from gee.valley.terrain import gradient

__all__ = [
    "BACKSCATTER",
    "DENOISED_FLOOR",
    "LOOKS",
    "NOISE_FLOOR",
    "Geometry",
    "Illumination",
    "backscatter",
    "equivalent_looks",
    "ground_angles",
    "heading",
    "illuminate",
    "observe",
    "speckle",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

ALTITUDE = 693_000.0
INCLINATION = 98.18
LOOKS = 4.4
"""Equivalent number of looks of the IW GRD high-resolution product."""

NOISE_FLOOR = -25.0
"""Noise-equivalent sigma nought, dB. Its mean is subtracted in power, its speckle stays."""

DENOISED_FLOOR = -50.0
"""Sigma nought, dB, of pixels that are darker than the noise's mean.

The real collection subtracts the noise and calibrates by SNAP's operators, which put a small
positive number where the difference is negative, doubled until it calibrates to at least 1e-5:
such pixels are very dark, neither masked nor infinite.
"""

BACKSCATTER: dict[str, tuple[float, float, float]] = {
    "tundra": (-11.4, -18.4, 0.8),
    "shrub": (-10.4, -16.6, 0.9),
    "sedge": (-10.6, -18.8, 0.7),
    "gravel": (-13.2, -22.0, 0.0),
    "mud": (-9.6, -18.2, 0.1),
    "rock": (-10.6, -18.2, 0.0),
    "water": (-20.0, -28.0, 0.0),
}
"""Gamma nought of VV and VH on flat ground in dB, and the share that is volume scattering."""


def heading(lat: float, ascending: bool) -> float:
    """Return the direction of flight over ground of Sentinel-1, degrees clockwise from north.

    A circular orbit over a turning sphere.

    Examples
    --------
    >>> round(heading(0.0, True), 1), round(heading(0.0, False), 1), round(heading(71.3, True), 1)
    (348.0, 192.0, 332.5)
    """
    phi = math.radians(lat)
    sine = math.cos(math.radians(INCLINATION)) / math.cos(phi)
    if abs(sine) > 1:
        raise ValueError(f"latitude {lat} is beyond the orbit, which turns at {180 - INCLINATION}")
    radius, mu, turn = 6.371e6, 3.986e14, 7.2921e-5
    speed = math.sqrt(mu / (radius + ALTITUDE)) * radius / (radius + ALTITUDE)
    north = speed * math.sqrt(1.0 - sine * sine) * (1 if ascending else -1)
    east = speed * sine - turn * radius * math.cos(phi)
    return math.degrees(math.atan2(east, north)) % 360.0


@dataclass(frozen=True)
class Geometry:
    """From where a scene is seen: a straight track over flat ground, looking to the right.

    Attributes
    ----------
    heading : float
        Degrees clockwise from grid north.
    incidence : float
        Degrees, at the point (`east`, `north`) on the datum.
    east, north : float
        Metres.
    """

    heading: float
    incidence: float
    east: float
    north: float

    @property
    def away(self) -> tuple[float, float]:
        """Unit vector over ground away from the sensor (east, north)."""
        look = math.radians(self.heading + 90.0)
        return math.sin(look), math.cos(look)


def ground_angles(
    geometry: Geometry, east: NDArray[np.float64], north: NDArray[np.float64]
) -> Array:
    """Return the incidence angle on the datum over ground, degrees.

    Parameters
    ----------
    geometry : Geometry
    east : float64 array (cols,)
    north : float64 array (rows,)

    Returns
    -------
    float32 array (rows, cols)

    Examples
    --------
    >>> view = Geometry(heading=0.0, incidence=39.0, east=0.0, north=0.0)
    >>> angles = ground_angles(view, np.array([0.0, 10000.0]), np.array([0.0]))
    >>> round(float(angles[0, 0]), 3), round(float(angles[0, 1]), 3)
    (39.0, 39.496)
    """
    return np.asarray(np.degrees(np.arctan2(_reach(geometry, east, north), ALTITUDE)), np.float32)


def _reach(
    geometry: Geometry, east: NDArray[np.float64], north: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance over ground from the sensor's track."""
    away_e, away_n = geometry.away
    start = ALTITUDE * math.tan(math.radians(geometry.incidence))
    return np.asarray(
        start
        + (east[None, :] - geometry.east) * away_e
        + (north[:, None] - geometry.north) * away_n
    )


@dataclass(frozen=True)
class Illumination:
    """What the relief does to the echo.

    Attributes
    ----------
    volume, surface : float32 arrays (rows, cols)
        Sigma nought (ellipsoid) of ground with gamma nought 1 on the flat, for a scattering volume
        and for a scattering surface. In layover the sum over all that falls together.
    layover, shadow : bool arrays
    local : float32 array
        Local incidence angle, degrees.
    """

    volume: Array
    surface: Array
    layover: Mask
    shadow: Mask
    local: Array


def _fold(
    height: Array,
    reach: NDArray[np.float64],
    power: Array,
    pixel: float,
    turn: float,
    flat: float,
) -> tuple[Mask, Mask, Array]:
    """Trace rays along range lines: layover, shadow, and the power that falls into layover.

    The arrays are turned so that rows are range lines, near to far from left to right.
    """
    rows, cols = height.shape
    size = math.ceil(math.hypot(rows, cols)) + 2
    mid_row, mid_col = (rows - 1) / 2.0, (cols - 1) / 2.0
    # Away from the sensor is (sin turn) to the east and (cos turn) to the north.
    s, c = math.sin(turn), math.cos(turn)
    start = reach[rows // 2, cols // 2]
    start += ((mid_col - cols // 2) * s - (mid_row - rows // 2) * c) * pixel
    cell = pixel * math.sin(math.radians(flat))
    # Two samples per pixel in range: edges of layover and shadow are then right to a pixel.
    step = ((np.arange(2 * size) - size) / 2.0)[None, :]
    lay = np.zeros((size, 2 * size), np.float32)
    dark, summed = np.zeros_like(lay), np.zeros_like(lay)
    for first in range(0, size, 128):  # range lines know nothing of each other
        block = slice(first, min(first + 128, size))
        line = (np.arange(size)[block] - size // 2)[:, None].astype(np.float64)
        at_row, at_col = mid_row - step * c + line * s, mid_col + step * s + line * c
        where = np.stack([at_row, at_col])
        inside = (at_row > -0.5) & (at_row < rows - 0.5)
        inside &= (at_col > -0.5) & (at_col < cols - 0.5)
        drop = ALTITUDE - ndimage.map_coordinates(
            height, where, order=1, mode="nearest", output=np.float64
        )
        near = np.broadcast_to(start + step * pixel, drop.shape)
        slant, angle = np.hypot(near, drop), np.arctan2(near, drop)
        ahead = np.maximum.accumulate(slant, axis=1)
        behind = np.minimum.accumulate(slant[:, ::-1], axis=1)[:, ::-1]
        lay[block] = (slant < ahead - 1e-6) | (slant > behind + 1e-6)
        hidden = angle < np.maximum.accumulate(angle, axis=1) - 1e-12
        dark[block] = hidden
        # Power per slant-range cell; on flat ground a pixel fills one.
        echo = ndimage.map_coordinates(power, where, order=1, mode="nearest") / 2.0
        echo = np.where(hidden | ~inside, 0.0, echo)
        place = (slant - slant.min()) / cell
        low = np.floor(place).astype(np.int64)
        part = place - low
        count = int(low.max()) + 2
        index = np.arange(len(line), dtype=np.int64)[:, None] * count + low
        total = len(line) * count
        bins = np.bincount(index.ravel(), (echo * (1 - part)).ravel(), total)
        bins += np.bincount(index.ravel() + 1, (echo * part).ravel(), total)
        summed[block] = bins[index] * (1 - part) + bins[index + 1] * part

    back_r, back_c = np.indices(height.shape, dtype=np.float32)
    back_r -= np.float32(mid_row)
    back_c -= np.float32(mid_col)
    to_line = back_r * s + back_c * c + size // 2
    to_step = 2.0 * (-back_r * c + back_c * s) + size
    back = np.stack([to_line, to_step])

    def unturn(field: Array) -> Array:
        return np.asarray(ndimage.map_coordinates(field, back, order=1, mode="nearest"), np.float32)

    return unturn(lay) > 0.5, unturn(dark) > 0.5, unturn(summed)


def illuminate(
    height: Array,
    pixel: float,
    geometry: Geometry,
    east: NDArray[np.float64],
    north: NDArray[np.float64],
) -> Illumination:
    """Return how the relief brightens, folds and hides the ground in a radar image.

    The image is geocoded with the same relief. Outside layover, sigma nought of the ellipsoid
    follows from the ground area in a slant-range cell (Ulander 1996; Small 2011): a scattering
    volume keeps its gamma nought, a scattering surface its power per area.

    Parameters
    ----------
    height : float32 array (rows, cols)
        Metres, north up.
    pixel : float
        Metres.
    geometry : Geometry
    east : float64 array (cols,)
    north : float64 array (rows,)

    Returns
    -------
    Illumination

    Notes
    -----
    Flat earth: over 10 km its bend changes the incidence by less than 0.1 degrees.
    """
    reach = _reach(geometry, east, north)
    theta = np.arctan2(reach, ALTITUDE).astype(np.float32)
    rise_e, rise_n = gradient(height, pixel)
    up = 1.0 / np.sqrt(1.0 + rise_e**2 + rise_n**2)
    away_e, away_n = geometry.away
    # Component of the ground's normal over ground towards the sensor.
    toward = up * (rise_e * away_e + rise_n * away_n)
    sine, cosine = np.sin(theta), np.cos(theta)
    local = np.clip(cosine * up + sine * toward, -1.0, 1.0)
    project = sine * up - cosine * toward
    lit = np.clip(local, 0.0, 1.0)
    power = lit / up
    flat = float(np.degrees(theta.mean()))
    layover, shadow, summed = _fold(
        height, reach, power, pixel, math.radians(geometry.heading + 90.0), flat
    )
    gain = sine / np.maximum(project, 0.08)
    volume = np.where(layover, summed, lit * gain)
    surface = np.where(layover, summed, cosine * gain)
    hidden = shadow | (local <= 0)
    volume = np.where(hidden, 0.0, np.minimum(volume, 12.0))
    surface = np.where(hidden, 0.0, np.minimum(surface, 12.0))
    return Illumination(
        np.asarray(volume, np.float32),
        np.asarray(surface, np.float32),
        layover,
        shadow,
        np.asarray(np.degrees(np.arccos(local)), np.float32),
    )


def backscatter(shares: Array, shift: Array, grain: Array) -> tuple[Array, Array]:
    """Return the power that comes from volumes and from surfaces, for VV and VH.

    Parameters
    ----------
    shares : float32 array (7, rows, cols)
        Of `landcover.MATERIALS`.
    shift, grain : float32 arrays (2, rows, cols)
        Departures in dB.

    Returns
    -------
    volume, surface : float32 arrays (2, rows, cols)
        Gamma nought, linear.
    """
    table = np.array(list(BACKSCATTER.values()), np.float32)
    gamma = 10.0 ** (table[:, :2] / 10.0)
    share = table[:, 2:3]
    extra = (10.0 ** ((shift + grain) / 10.0)).astype(np.float32)
    volume = np.tensordot((gamma * share).T, shares, axes=1) * extra
    surface = np.tensordot((gamma * (1.0 - share)).T, shares, axes=1) * extra
    return np.asarray(volume, np.float32), np.asarray(surface, np.float32)


def _gamma_table(looks: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z = np.linspace(-5.5, 5.5, 2201)
    return z, stats.gamma.ppf(special.ndtr(z), looks, scale=1.0 / looks)


def speckle(
    shape: tuple[int, int],
    random: np.random.Generator,
    *,
    looks: float = LOOKS,
    resolution: float = 20.0,
    pixel: float = 10.0,
) -> Array:
    """Return multiplicative speckle: gamma distributed, mean 1, of `looks` looks.

    Neighbouring pixels are alike, as the product is sampled finer than its resolution.

    Parameters
    ----------
    shape : (rows, cols)
    random : numpy Generator
    looks : float
        The variance is 1 / looks.
    resolution, pixel : float
        Metres.

    Returns
    -------
    float32 array

    Examples
    --------
    >>> field = speckle((300, 300), np.random.default_rng(0))
    >>> bool(abs(equivalent_looks(field) - LOOKS) < 0.25)
    True
    """
    white = random.standard_normal((shape[0] + 4, shape[1] + 4), dtype=np.float32)
    reach = resolution / pixel / 2.355
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / reach) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    for axis in (0, 1):
        white = ndimage.correlate1d(white, kernel, axis=axis)
    z, values = _gamma_table(looks)
    return np.interp(white[2:-2, 2:-2], z, values).astype(np.float32)


def equivalent_looks(power: Array) -> float:
    """Return mean squared over variance of linear power on ground of one kind."""
    power = np.asarray(power, np.float64)
    return float(power.mean() ** 2 / power.var())


def observe(
    volume: Array, surface: Array, light: Illumination, grains: Array, wet: Array, weather: float
) -> Array:
    """Return sigma nought in dB of one polarisation of one scene, thermal noise removed.

    The receiver's noise adds to the echo's power and speckles with it; the processor knows the
    noise's mean only and subtracts that. What is left is right on average and noisier than its
    looks where the ground is dark.

    Parameters
    ----------
    volume, surface : float32 arrays (rows, cols)
        Gamma nought, linear.
    light : Illumination
    grains : float32 array
        Speckle, mean 1.
    wet : float32 array
        Share under melting snow, which swallows the echo.
    weather : float
        Departure of the whole scene, dB.

    Returns
    -------
    float32 array
        dB, at least `DENOISED_FLOOR`.
    """
    power = volume * light.volume + surface * light.surface
    power = power * np.float32(10.0 ** (weather / 10.0)) * (1.0 - 0.85 * wet)
    noise = np.float32(10.0 ** (NOISE_FLOOR / 10.0))
    power = (power + noise) * grains - noise
    power = np.maximum(power, np.float32(10.0 ** (DENOISED_FLOOR / 10.0)))
    return np.asarray(10.0 * np.log10(power), np.float32)
