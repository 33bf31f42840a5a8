"""Landsat's digital numbers to radiance, reflectance and temperature; composites of scenes.

Coefficients come from the scene's metadata, as properties; for scenes of Landsat 4, 5 and 7
without reflectance coefficients from Chander, Markham & Helder (2009), tables 3 to 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import HaloNode, Image, MapNode, PixelsNode, ReprojectNode
from ..pixels import Array, Band, Pixels
from ..projection import Window
from ..reducers import named_reducer
from ..reducers import percentile as share_of
from ..types import BYTE, FLOAT, PixelType
from ..values import Collection, Date
from .collections import reduce_images
from .registry import function
from .resolution import reduce_resolution

__all__: list[str] = []

# Mean solar irradiance of the bands in W/(m2 um), and K1, K2 of the thermal band.
_SUN = {
    "LANDSAT_4": {"1": 1983, "2": 1795, "3": 1539, "4": 1028, "5": 219.8, "7": 83.49},
    "LANDSAT_5": {"1": 1983, "2": 1796, "3": 1536, "4": 1031, "5": 220.0, "7": 83.44},
    "LANDSAT_7": {
        "1": 1997, "2": 1812, "3": 1533, "4": 1039, "5": 230.8, "7": 84.90, "8": 1362,
    },
}  # fmt: skip
_THERMAL = {
    "LANDSAT_4": (671.62, 1284.30), "LANDSAT_5": (607.76, 1260.56), "LANDSAT_7": (666.09, 1282.71),
}  # fmt: skip
# blue, green, red, near infrared, the two of short waves, thermal.
_ROLES = {
    "LANDSAT_8": ("B2", "B3", "B4", "B5", "B6", "B7", "B10"),
    "LANDSAT_9": ("B2", "B3", "B4", "B5", "B6", "B7", "B10"),
    "LANDSAT_7": ("B1", "B2", "B3", "B4", "B5", "B7", "B6_VCID_1"),
    "LANDSAT_5": ("B1", "B2", "B3", "B4", "B5", "B7", "B6"),
    "LANDSAT_4": ("B1", "B2", "B3", "B4", "B5", "B7", "B6"),
}


def _number(image: Image, name: str) -> float:
    value = image.properties.get(name)
    if isinstance(value, str):
        # Some collections store the metadata file's text.
        try:
            value = float(value)
        except ValueError:
            value = None
    if not isinstance(value, (int, float)):
        raise EngineError(f"The image has no property '{name}', or it is not a number.")
    return float(value)


def _spacecraft(image: Image) -> str:
    name = str(image.properties.get("SPACECRAFT_ID", "")).upper().replace(" ", "_")
    return name.replace("LANDSAT-", "LANDSAT_")


def _measures(band: Band) -> str | None:
    """Return a band's number as the metadata write it; None for bands of quality."""
    return band.id[1:] if band.id[:1] == "B" and band.id[1:2].isdigit() else None


def _linear(band: Band, slope: float, offset: float) -> Band:
    return band.computed(FLOAT, MapNode(lambda v: (v * slope + offset).astype(np.float32), [band]))


@function("Landsat.calibratedRadiance")
def radiance(image: Image) -> Image:
    """Return spectral radiance: every band times its slope plus its intercept ([A]).

    Bands that are not numbered (of quality) stay as they are.
    """
    bands = []
    for band in image.bands:
        number = _measures(band)
        if number is None:
            bands.append(band)
            continue
        slope = _number(image, f"RADIANCE_MULT_BAND_{number}")
        bands.append(_linear(band, slope, _number(image, f"RADIANCE_ADD_BAND_{number}")))
    return image.with_bands(bands)


def sun_distance(moment: Date) -> float:
    """Return the distance of the Earth from the Sun in astronomical units.

    The Astronomical Almanac's low-precision formula: to 1e-4.
    """
    days = moment.ms / 86_400_000 - 10_957.5  # from 1 January 2000, noon
    anomaly = math.radians(357.528 + 0.9856003 * days)
    return 1.00014 - 0.01671 * math.cos(anomaly) - 0.00014 * math.cos(2 * anomaly)


def _is_thermal(image: Image, number: str) -> bool:
    if f"K1_CONSTANT_BAND_{number}" in image.properties:
        return True
    return _spacecraft(image) in _THERMAL and number.partition("_")[0] == "6"


def _thermal(image: Image, band: Band, number: str) -> Band:
    slope = _number(image, f"RADIANCE_MULT_BAND_{number}")
    offset = _number(image, f"RADIANCE_ADD_BAND_{number}")
    if f"K1_CONSTANT_BAND_{number}" in image.properties:
        first = _number(image, f"K1_CONSTANT_BAND_{number}")
        second = _number(image, f"K2_CONSTANT_BAND_{number}")
    else:
        first, second = _THERMAL[_spacecraft(image)]

    def compute(pixels: Pixels) -> Sequence[Pixels]:
        energy = pixels.data.astype(float) * slope + offset
        # Without radiance there is no temperature.
        some = energy > 0
        kelvin = second / np.log(first / np.where(some, energy, 1) + 1)
        return [Pixels(kelvin.astype(np.float32), kernels.both(pixels.mask, some))]

    return band.computed(FLOAT, PixelsNode(compute, [band]))


def _reflective(image: Image, band: Band, number: str, sine: float) -> Band:
    name = f"REFLECTANCE_MULT_BAND_{number}"
    if name in image.properties:
        slope, offset = _number(image, name), _number(image, f"REFLECTANCE_ADD_BAND_{number}")
        return _linear(band, slope / sine, offset / sine)
    known = _SUN.get(_spacecraft(image), {})
    if number not in known:
        raise EngineError(f"The image has no property '{name}', or it is not a number.")
    if "EARTH_SUN_DISTANCE" in image.properties:
        far = _number(image, "EARTH_SUN_DISTANCE")
    else:
        far = sun_distance(Date(_number(image, "system:time_start")))
    share = math.pi * far**2 / (known[number] * sine)
    slope = _number(image, f"RADIANCE_MULT_BAND_{number}")
    return _linear(band, slope * share, _number(image, f"RADIANCE_ADD_BAND_{number}") * share)


@function("Landsat.TOA")
def toa(image: Image) -> Image:
    """Return reflectance at the top of the atmosphere, and brightness temperature in K.

    Reflectance is divided by the sine of the sun's elevation at the scene's centre. Bands
    that are not numbered (of quality) stay as they are.
    """
    elevation = _number(image, "SUN_ELEVATION")
    if not 0 < elevation <= 90:
        raise EngineError(f"SUN_ELEVATION must be above 0, not {elevation:g}.")
    sine = math.sin(math.radians(elevation))
    bands = []
    for band in image.bands:
        number = _measures(band)
        if number is None:
            bands.append(band)
        elif _is_thermal(image, number):
            bands.append(_thermal(image, band, number))
        else:
            bands.append(_reflective(image, band, number, sine))
    return image.with_bands(bands)


@function("Landsat.translateMetadata")
def translate_metadata(image: Image) -> Image:
    """Return the image ([A]: does nothing)."""
    return image


# ------------------------------------------------------------------ clouds


def cloud_score(
    blue: Array, green: Array, red: Array, near: Array, first: Array, second: Array, heat: Array
) -> Array:
    """Return 0 to 1, how cloud-like pixels are: the least of five tests.

    Clouds are bright in blue, in all visible and in all infrared bands, cold, and not snow.
    Each test rises linearly between two values; the values are those commonly published for
    this score, Earth Engine does not document them.

    Parameters
    ----------
    blue, green, red, near, first, second : arrays
        Reflectances; the last two of the bands of short waves.
    heat : array
        Kelvin.

    Examples
    --------
    >>> bright = np.array(0.8)
    >>> float(cloud_score(*[bright] * 6, np.array(280.0)))
    1.0
    """

    def rising(values: Array, low: float, high: float) -> Array:
        return np.clip((values - low) / (high - low), 0, 1)

    total = green + first
    snow = np.divide(green - first, total, out=np.zeros(np.shape(total)), where=total != 0)
    tests = [
        rising(blue, 0.1, 0.3), rising(red + green + blue, 0.2, 0.8),
        rising(near + first + second, 0.3, 0.8), rising(heat, 300, 290), rising(snow, 0.8, 0.6),
    ]  # fmt: skip
    return np.asarray(np.minimum.reduce(np.broadcast_arrays(*tests)))


@function("Landsat.simpleCloudScore")
def simple_cloud_score(image: Image) -> Image:
    """Return the image with a band 'cloud': a score of 0 to 100 ([A])."""
    roles = _ROLES.get(_spacecraft(image))
    if roles is None:
        raise EngineError(
            "The property SPACECRAFT_ID must name Landsat 4, 5, 7, 8 or 9, not "
            f"'{image.properties.get('SPACECRAFT_ID')}'."
        )
    names = list(roles)
    if "B6_VCID_1" in names and "B6_VCID_1" not in image.names:
        names[-1] = "B6_VCID_2"
    inputs = [image.band(n) for n in names]

    def score(*values: Array) -> Array:
        found = cloud_score(*(v.astype(float) for v in values))
        return np.asarray(np.round(100 * found)).astype(np.uint8)

    kind = PixelType("int", 0, 100)
    made = inputs[0].computed(kind, MapNode(score, inputs)).renamed("cloud")
    return image.with_bands([*(b for b in image.bands if b.id != "cloud"), made])


def _limited(images: Sequence[Image], per_place: int, total: int) -> list[Image]:
    """Return the least cloudy scenes of every path and row, in their own order."""
    ranks: dict[int, tuple[int, float]] = {}
    groups: dict[Any, list[int]] = {}
    for k, image in enumerate(images):
        place = image.properties.get("WRS_PATH"), image.properties.get("WRS_ROW")
        groups.setdefault(place, []).append(k)

    def cover(k: int) -> float:
        value = images[k].properties.get("CLOUD_COVER")
        return float(value) if isinstance(value, (int, float)) else math.inf

    for members in groups.values():
        for rank, k in enumerate(sorted(members, key=cover)[: max(per_place, 0)]):
            ranks[k] = rank, cover(k)
    # Of all, first the best of every place, then the second best.
    kept = sorted(ranks, key=lambda k: ranks[k])[: max(total, 0)]
    return [images[k] for k in sorted(kept)]


@function("Landsat.pathRowLimit")
def path_row_limit(items: Collection, per_place: int, total: int) -> Collection:
    """Return so many of the least cloudy scenes per path and row, and so many in all.

    By the properties WRS_PATH, WRS_ROW and CLOUD_COVER, of the whole collection rather than
    of the tile that is asked for.
    """

    def source() -> list[Any]:
        return list(_limited(items.images(), per_place, total))

    return Collection(source, "ImageCollection", dict(items.properties))


@function("Landsat.simpleComposite")
def simple_composite(
    items: Collection, percentile: int, reach: int, depth: int, as_float: bool
) -> Image:
    """Return percentiles of the least cloudy pixels of raw scenes ([A]).

    Bands that all scenes share. As bytes reflectances are times 255, temperatures minus 100.
    """
    if not 0 <= percentile <= 100:
        raise EngineError(f"percentile must be between 0 and 100, not {percentile}.")
    chosen = _limited(items.images(), depth, depth)
    if not chosen:
        raise EngineError("The collection holds no scenes.")
    scenes = [simple_cloud_score(toa(image)) for image in chosen]
    shared = [
        b
        for b in scenes[0].bands
        if _measures(b) is not None and all(b.id in s.names for s in scenes)
    ]
    scores = [Image([s.band("cloud")]) for s in scenes]
    least = reduce_images(scores, named_reducer("min"), suffix=False).bands[0]

    def clear(band: Band, score: Band) -> Band:
        def compute(values: Pixels, own: Pixels, best: Pixels) -> Sequence[Pixels]:
            good = own.data.astype(int) <= best.data.astype(int) + reach
            mask = kernels.both(kernels.both(values.mask, kernels.valid(own.mask)), good)
            return [Pixels(values.data, mask)]

        return band.computed(band.type, PixelsNode(compute, [band, score, least]))

    kept = [Image([clear(s.band(b.id), s.band("cloud")) for b in shared]) for s in scenes]
    made = reduce_images(kept, share_of([percentile], None), suffix=False)
    bands = [b.renamed(s.id) for b, s in zip(made.bands, shared, strict=True)]
    if as_float:
        return Image(bands)
    thermal = {b.id for b in shared if any(_is_thermal(i, b.id[1:]) for i in chosen)}

    def byte(band: Band) -> Band:
        hot = band.id in thermal

        def compute(values: Array) -> Array:
            scaled = values - 100.0 if hot else values * 255.0
            return np.clip(np.round(scaled), 0, 255).astype(np.uint8)

        return band.computed(BYTE, MapNode(compute, [band]))

    return Image([byte(b) for b in bands])


# ------------------------------------------------------------------ Sentinel-2


def _averaged(band: Band) -> Band:
    if band.projection.is_default:
        return band
    return reduce_resolution(Image([band]), named_reducer("mean"), False, 64).bands[0]


@function("Sentinel2.CDI")
def cloud_displacement(image: Image) -> Image:
    """Return the cloud displacement index as a band 'cdi', on the grid of B8A.

    Frantz et al. (2018): the near infrared bands B7 and B8 see elevated objects from
    different angles, so their ratios to B8A differ more in variance. The variances are those
    of 7 x 7 pixels; B8 is averaged to the pixels of B8A. Masked where a pixel of the
    neighbourhood is.
    """
    # Finer bands are averaged to the pixels that are asked for.
    inputs = [_averaged(image.band(n)) for n in ("B7", "B8", "B8A")]

    def compute(window: Window, *got: Pixels) -> Sequence[Pixels]:
        ok = None
        for pixels in got:
            ok = kernels.both(ok, kernels.valid(pixels.mask))
        seven, eight, base = (p.data.astype(float) for p in got)
        some = base != 0 if ok is None else ok & (base != 0)
        window_of = np.ones((7, 7))
        spread = []
        for values in (seven, eight):
            ratio = np.divide(values, base, out=np.zeros(base.shape), where=some)
            mean = kernels.correlate(ratio, window_of, (3, 3), 3) / 49
            square = kernels.correlate(ratio**2, window_of, (3, 3), 3) / 49
            spread.append(np.maximum(square - mean**2, 0))
        first, second = spread
        total = first + second
        whole = kernels.correlate((~some).astype(float), window_of, (3, 3), 3) == 0
        found = np.divide(first - second, total, out=np.zeros(total.shape), where=total > 0)
        return [Pixels(found.astype(np.float32), whole)]

    source = image.band("B8A")
    made = source.computed(PixelType("float", -1.0, 1.0), HaloNode(compute, inputs, 3))
    if not source.projection.is_default:
        made = made.computed(made.type, ReprojectNode(made, source.projection))
    return image.derived([made.renamed("cdi")])
