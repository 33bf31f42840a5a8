"""What Sentinel-2 sees of the valley: surface reflectance, clouds, shadows and scene classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from gee.valley.landcover import GRAVEL, MUD, ROCK, SEDGE, SHRUB, TUNDRA, WATER
from gee.valley.noise import fractal
from gee.valley.terrain import gradient

__all__ = [
    "BANDS",
    "SCL",
    "SPECTRA",
    "Sky",
    "cloud_score",
    "coarsen",
    "ndvi",
    "phenology",
    "reflectance",
    "scene_classes",
    "shade",
    "sky",
    "sun",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

BANDS = {
    "B1": 60,
    "B2": 10,
    "B3": 10,
    "B4": 10,
    "B5": 20,
    "B6": 20,
    "B7": 20,
    "B8": 10,
    "B8A": 20,
    "B9": 60,
    "B11": 20,
    "B12": 20,
}
"""Pixel size in metres of every band."""

SPECTRA: dict[str, tuple[float, ...]] = {
    "green": (0.02, 0.025, 0.052, 0.030, 0.09, 0.24, 0.30, 0.33, 0.345, 0.35, 0.19, 0.09),
    "litter": (0.05, 0.060, 0.085, 0.110, 0.15, 0.19, 0.215, 0.24, 0.26, 0.27, 0.32, 0.23),
    "mud": (0.07, 0.080, 0.100, 0.125, 0.14, 0.15, 0.16, 0.168, 0.175, 0.18, 0.20, 0.16),
    "gravel": (0.12, 0.140, 0.165, 0.185, 0.20, 0.21, 0.22, 0.23, 0.235, 0.24, 0.28, 0.25),
    "rock": (0.09, 0.100, 0.120, 0.140, 0.155, 0.165, 0.175, 0.185, 0.19, 0.20, 0.24, 0.21),
    "water": (0.06, 0.062, 0.060, 0.042, 0.034, 0.022, 0.02, 0.018, 0.015, 0.01, 0.006, 0.004),
    "snow": (0.88, 0.90, 0.90, 0.89, 0.88, 0.86, 0.85, 0.83, 0.81, 0.72, 0.12, 0.08),
    "cloud": (0.62, 0.60, 0.60, 0.61, 0.62, 0.63, 0.63, 0.64, 0.64, 0.50, 0.45, 0.36),
}
"""Surface reflectance of pure materials, in the order of `BANDS`: rounded textbook spectra."""

SCL = {
    "no data": 0,
    "saturated": 1,
    "dark": 2,
    "shadow": 3,
    "vegetation": 4,
    "bare": 5,
    "water": 6,
    "unclassified": 7,
    "cloud medium": 8,
    "cloud high": 9,
    "cirrus": 10,
    "snow": 11,
}
"""Scene classes of Sen2Cor."""


def sun(when: datetime, lon: float, lat: float) -> tuple[float, float]:
    """Return the solar zenith and azimuth angle in degrees.

    Declination and equation of time as Fourier series (Spencer 1971): right to about 0.3 degrees,
    without refraction.

    Parameters
    ----------
    when : datetime
        In UTC.
    lon, lat : float
        Degrees.

    Examples
    --------
    >>> zenith, azimuth = sun(datetime(2020, 6, 21, 12, 2, tzinfo=UTC), 0.0, 51.5)
    >>> round(zenith, 0), round(azimuth, 0)
    (28.0, 180.0)
    """
    when = when.astimezone(UTC)
    hour = when.hour + when.minute / 60.0 + when.second / 3600.0
    day = 2.0 * math.pi * (when.timetuple().tm_yday - 1 + (hour - 12.0) / 24.0) / 365.0
    declination = (
        0.006918
        - 0.399912 * math.cos(day)
        + 0.070257 * math.sin(day)
        - 0.006758 * math.cos(2 * day)
        + 0.000907 * math.sin(2 * day)
        - 0.002697 * math.cos(3 * day)
        + 0.00148 * math.sin(3 * day)
    )
    minutes = 229.18 * (
        0.000075
        + 0.001868 * math.cos(day)
        - 0.032077 * math.sin(day)
        - 0.014615 * math.cos(2 * day)
        - 0.040849 * math.sin(2 * day)
    )
    turn = math.radians((hour - 12.0 + minutes / 60.0) * 15.0 + lon)
    phi = math.radians(lat)
    cosine = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(
        declination
    ) * math.cos(turn)
    zenith = math.acos(max(-1.0, min(1.0, cosine)))
    azimuth = math.atan2(
        math.sin(turn), math.cos(turn) * math.sin(phi) - math.tan(declination) * math.cos(phi)
    )
    return math.degrees(zenith), (math.degrees(azimuth) + 180.0) % 360.0


def phenology(day: float | Array, delay: float | Array = 0.0) -> Array:
    """Return the greenness of the season, 0 (winter) to 1 (peak, late July).

    A double logistic: green-up about 24 June, senescence about 30 August.

    Parameters
    ----------
    day : float or array
        Day of the year.
    delay : float or array
        Days by which green-up comes late.

    Examples
    --------
    >>> [round(float(phenology(d)), 2) for d in (140, 176, 207, 242, 275)]
    [0.0, 0.55, 0.99, 0.5, 0.01]
    """
    up = special.expit((np.asarray(day - delay, np.float32) - 175.0) / 5.5)
    down = special.expit((242.0 - np.asarray(day, np.float32)) / 7.0)
    return np.asarray(up * down, np.float32)


def shade(height: Array, pixel: float, zenith: float, azimuth: float) -> Array:
    """Return the brightness of slopes relative to flat ground, with half of the light diffuse.

    Minnaert's constant is 0.5: reflectance goes with the root of the cosine of the local angle,
    as Sentinel-2 products leave it uncorrected.

    Examples
    --------
    >>> flat = np.zeros((3, 3), "float32")
    >>> float(shade(flat, 10.0, 50.0, 180.0)[1, 1])
    1.0
    """
    east, north = gradient(height, pixel)
    z, a = math.radians(zenith), math.radians(azimuth)
    level = 1.0 / np.sqrt(1.0 + east * east + north * north)
    light = level * (math.cos(z) - math.sin(z) * (east * math.sin(a) + north * math.cos(a)))
    return np.asarray(np.sqrt(np.clip(light / math.cos(z), 0.15, 2.2)), np.float32)


def coarsen(array: Array, factor: int) -> Array:
    """Return means of factor x factor pixels; the last ones are filled up with their edge.

    Examples
    --------
    >>> coarsen(np.arange(8, dtype="float32").reshape(2, 4), 2).tolist()
    [[2.5, 4.5]]
    """
    rows, cols = array.shape
    more = (-rows % factor, -cols % factor)
    if any(more):
        array = np.pad(array, ((0, more[0]), (0, more[1])), mode="edge")
    rows, cols = array.shape
    blocks = array.reshape(rows // factor, factor, cols // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


@dataclass(frozen=True)
class Sky:
    """Clouds over a scene.

    Attributes
    ----------
    cloud : float32 array (rows, cols)
        Opacity, 0..1.
    shadow : float32 array
        Share of direct light lost to clouds, 0..1.
    cirrus : float32 array
        Opacity of thin high cloud, 0..0.3.
    """

    cloud: Array
    shadow: Array
    cirrus: Array


def sky(
    shape: tuple[int, int],
    pixel: float,
    share: float,
    zenith: float,
    azimuth: float,
    random: np.random.Generator,
) -> Sky:
    """Return clouds that cover about `share` of the scene, and the shadows they throw.

    Parameters
    ----------
    shape : (rows, cols)
    pixel : float
        Metres.
    share : float
        Of the area, 0..1.
    zenith, azimuth : float
        Of the sun, degrees: a cloud at height h shades what lies h tan(zenith) behind it.
    random : numpy Generator
    """
    base = float(random.uniform(900.0, 2200.0))
    away = base * math.tan(math.radians(zenith))
    # Shadow falls away from the sun: rows grow to the south, columns to the east.
    down = away * math.cos(math.radians(azimuth)) / pixel
    right = -away * math.sin(math.radians(azimuth)) / pixel
    reach = math.ceil(max(abs(down), abs(right))) + 2
    big = (shape[0] + 2 * reach, shape[1] + 2 * reach)
    field = fractal(big, random, pixel=pixel, longest=3500.0, slope=3.1)
    here = field[reach:-reach, reach:-reach]
    none = np.zeros(shape, np.float32)
    if share <= 0.005:
        opacity, shadow = none, none
    else:
        level = float(np.quantile(here, 1.0 - min(share, 0.995)))
        whole = special.expit((field - level) / 0.05).astype(np.float32)
        opacity = whole[reach:-reach, reach:-reach]
        row, col = reach - round(down), reach - round(right)
        shadow = whole[row : row + shape[0], col : col + shape[1]]
        shadow = ndimage.gaussian_filter(shadow, 1.0)
    thin = fractal(shape, random, pixel=pixel, longest=5000.0, slope=3.4)
    cirrus = 0.10 * special.expit((thin - random.uniform(0.8, 2.6)) / 0.25)
    return Sky(opacity, np.asarray(shadow, np.float32), np.asarray(cirrus, np.float32))


def reflectance(
    shares: Array,
    green: Array,
    snow: Array,
    light: Array,
    clouds: Sky,
    bands: dict[str, int],
    pixel: float,
) -> dict[str, Array]:
    """Return surface reflectance, every band at its own pixel size.

    Parameters
    ----------
    shares : float32 array (7, rows, cols)
        Of `landcover.MATERIALS`, at `pixel`.
    green : float32 array (rows, cols)
        Share of the pixel that is green on that day.
    snow : float32 array (rows, cols)
        Share under snow.
    light : float32 array (rows, cols)
        Brightness by slope and texture, 1 on flat ground.
    clouds : Sky
    bands : dict
        Band to pixel size in metres (`BANDS`).
    pixel : float
        Of the input, metres.

    Returns
    -------
    dict of float32 arrays
        Unitless, 0..1 and above for sunlit snow.
    """
    plants = shares[[TUNDRA, SHRUB, SEDGE]].sum(axis=0)
    litter = np.maximum(plants - green, 0.0)
    clear = (1.0 - snow) * light
    seen = (1.0 - clouds.cloud) * (1.0 - clouds.cirrus)
    direct = seen * (1.0 - 0.62 * clouds.shadow)
    weights = {
        "green": green * clear * direct,
        "litter": litter * clear * direct,
        "mud": shares[MUD] * clear * direct,
        "gravel": shares[GRAVEL] * clear * direct,
        "rock": shares[ROCK] * clear * direct,
        "water": shares[WATER] * (1.0 - snow) * direct,
        "snow": snow * light * direct,
        "cloud": (1.0 - seen) * (0.92 + 0.12 * clouds.cloud),
    }
    out: dict[str, Array] = {}
    names = list(bands)
    for size in sorted(set(bands.values())):
        factor = int(size // pixel)
        scaled = {k: coarsen(w, factor) if factor > 1 else w for k, w in weights.items()}
        stack = np.stack(list(scaled.values()))
        here = [name for name in names if bands[name] == size]
        index = [names.index(name) for name in here]
        table = np.array([[SPECTRA[k][i] for k in scaled] for i in index], np.float32)
        mixed = np.tensordot(table, stack, axes=1)
        for position, name in enumerate(here):
            out[name] = np.asarray(mixed[position], np.float32)
    return {name: out[name] for name in names}


def ndvi(red: Array, nir: Array) -> Array:
    """Return (nir - red) / (nir + red).

    Examples
    --------
    >>> round(float(ndvi(np.float32(0.1), np.float32(0.3))), 6)
    0.5
    """
    return np.asarray((nir - red) / np.maximum(nir + red, 1e-6), np.float32)


def scene_classes(
    shares: Array, green: Array, snow: Array, clouds: Sky, misses: Mask
) -> NDArray[np.uint8]:
    """Return Sen2Cor-like scene classes, all inputs at 20 m.

    Parameters
    ----------
    shares : float32 array (7, rows, cols)
    green, snow : float32 arrays (rows, cols)
    clouds : Sky
    misses : bool array
        Where the classifier overlooks thin cloud edges and faint shadows, as the real one does.
    """
    bare = shares[GRAVEL] + shares[MUD] + shares[ROCK]
    out = np.full(green.shape, SCL["vegetation"], np.uint8)
    out[(green < 0.33) & (bare > 0.3)] = SCL["bare"]
    out[(green < 0.12) & (bare <= 0.3)] = SCL["unclassified"]
    out[shares[WATER] > 0.5] = SCL["water"]
    out[snow > 0.45] = SCL["snow"]
    limit = np.where(misses, 0.75, 0.30)
    out[clouds.shadow > limit + 0.15] = SCL["shadow"]
    out[clouds.cirrus > np.where(misses, 0.085, 0.05)] = SCL["cirrus"]
    out[clouds.cloud > np.where(misses, 0.5, 0.12)] = SCL["cloud medium"]
    out[clouds.cloud > 0.7] = SCL["cloud high"]
    return out


def cloud_score(clouds: Sky, snow: Array, random: np.random.Generator, pixel: float) -> Array:
    """Return how clear every pixel is, as Cloud Score+ says it: bands cs and cs_cdf.

    Close to 1 where the ground is seen, close to 0 under cloud and in its shadow. The score is
    soft at the edges of clouds, misses the thinnest of them, and takes some snow for cloud; cs_cdf
    is the more lenient of the two, as in the real collection. An invented law, not the network.

    Parameters
    ----------
    clouds : Sky
        At `pixel`.
    snow : float32 array (rows, cols)
        Share under snow.
    random : numpy Generator
    pixel : float
        Metres.

    Returns
    -------
    float32 array (2, rows, cols)
        0..1 in steps of 1/255.
    """
    rows, cols = snow.shape
    half = (-(-rows // 2), -(-cols // 2))
    noise = fractal(half, random, pixel=2 * pixel, longest=400.0, slope=2.2)
    noise = np.repeat(np.repeat(noise, 2, axis=0), 2, axis=1)[:rows, :cols]
    hidden = np.maximum(clouds.cloud, 0.8 * clouds.shadow)
    hidden = np.maximum(hidden, np.clip(5.0 * clouds.cirrus - 0.08, 0.0, 0.45))
    hidden = ndimage.uniform_filter(hidden, 5, mode="nearest")
    clear = 0.965 - 0.9 * hidden - 0.10 * snow * special.expit(2.0 * noise)
    score = np.clip(clear + 0.035 * noise, 0.0, 1.0)
    lenient = np.clip(special.expit((score - 0.45) / 0.11), 0.0, 1.0)
    return (np.rint(255.0 * np.stack([score, lenient])) / 255.0).astype(np.float32)
