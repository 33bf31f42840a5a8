"""Images computed from the place of a pixel alone, and random ones."""

from __future__ import annotations

import numpy as np

from ..errors import EngineError
from ..image import Image, MapNode, WindowNode
from ..pixels import Array, Band, Pixels
from ..projection import WGS84, Projection, Window, crs_of, locate, transformer
from ..types import DOUBLE, PixelType
from .registry import function

__all__ = ["lonlat_of", "pixel_sizes"]


def lonlat_of(window: Window) -> tuple[Array, Array]:
    """Return longitude and latitude of pixel centres, broadcastable to the window."""
    return positions(window, WGS84)


# Positions are exact to 0.005 target pixels and rounded to 1e-6 of them; as values, on
# pixels of a degree, that would be far too coarse.
_FINE = 1e-6


def positions(window: Window, target: Projection) -> tuple[Array, Array]:
    """Return pixel centres in another projection's pixels, precise enough to be values."""
    place = locate(window, target.scaled(_FINE))
    columns, rows = place.columns * _FINE, place.rows * _FINE
    if place.separable:
        return columns[None, :], rows[:, None]
    return columns, rows


def pixel_sizes(window: Window) -> tuple[Array, Array]:
    """Return metres across a pixel in x and y, broadcastable to the window.

    In projected systems the nominal size; in degrees the arcs on the WGS84 ellipsoid at
    the pixel's latitude.
    """
    a, b, _, d, e, _ = window.projection.transform
    across, down = float(np.hypot(a, d)), float(np.hypot(b, e))
    crs = crs_of(window.projection.crs)
    if not crs.is_geographic:
        unit = window.projection.nominal_scale / np.sqrt(abs(a * e - b * d))
        return np.full((1, 1), across * unit), np.full((1, 1), down * unit)
    _, y = window.centres()
    lat = np.radians(y[:, None] if y.ndim == 1 else y)
    radius, square = 6378137.0, 0.00669437999014
    root = 1 - square * np.sin(lat) ** 2
    east = radius / np.sqrt(root) * np.cos(lat)
    north = radius * (1 - square) / root**1.5
    return np.radians(across) * east, np.radians(down) * north


def _area(window: Window) -> list[Pixels]:
    """Areas of pixels on the WGS84 ellipsoid."""
    if crs_of(window.projection.crs).is_geographic and window.projection.is_square:
        rows = np.arange(window.row, window.row + window.height + 1)
        _, edges = window.projection.to_crs(np.zeros(1), rows)
        sines = np.sin(np.radians(np.clip(edges, -90, 90)))
        square = 0.00669437999014
        root = np.sqrt(square)
        # Area of the ellipsoid from the equator to a latitude, per radian of longitude.
        zone = (
            0.5 * 6378137.0**2 * (1 - square)
            * (sines / (1 - square * sines**2) + np.arctanh(root * sines) / root)
        )  # fmt: skip
        wide = np.radians(abs(window.projection.transform[0]))
        return [Pixels((np.abs(np.diff(zone)) * wide)[:, None], None)]
    # Elsewhere: a pixel's corners on the ellipsoid, by its local Jacobian.
    lat = lonlat_of(window)[1]
    x_lon, x_lat, y_lon, y_lat = _jacobian(window)
    lat = np.radians(lat)
    square = 0.00669437999014
    root = 1 - square * np.sin(lat) ** 2
    east = 6378137.0 / np.sqrt(root) * np.cos(lat)
    north = 6378137.0 * (1 - square) / root**1.5
    area = np.abs(x_lon * y_lat - x_lat * y_lon) * (np.pi / 180) ** 2 * east * north
    return [Pixels(np.broadcast_to(area, window.shape), None)]


def _jacobian(window: Window) -> tuple[Array, Array, Array, Array]:
    """Return degrees per pixel: lon and lat along x, lon and lat along y.

    Exact at knots of at most 64 pixels and 10 km, interpolated between: map scale changes far
    too slowly for that to matter. Small pixels are measured over eight, for the digits.
    """
    step = 2 ** int(np.clip(np.log2(10_000 / window.projection.nominal_scale), 0, 6))
    reach = 4.0 if step == 64 else 0.5
    rows = np.arange(window.row // step, (window.row + window.height) // step + 2) * step
    cols = np.arange(window.column // step, (window.column + window.width) // step + 2) * step
    # Knots are middles of pixels.
    cc, rr = np.meshgrid(cols + 0.5, rows + 0.5)
    change = transformer(window.projection.crs, "EPSG:4326")

    def at(dc: float, dr: float) -> tuple[Array, Array]:
        x, y = window.projection.to_crs(cc + dc, rr + dr)
        lon, lat = change.transform(x, y)
        return np.asarray(lon), np.asarray(lat)

    out = []
    for dc, dr in ((reach, 0.0), (0.0, reach)):
        ahead, behind = at(dc, dr), at(-dc, -dr)
        turn = ahead[0] - behind[0]
        turn -= 360 * np.round(turn / 360)
        out += [turn / (2 * reach), (ahead[1] - behind[1]) / (2 * reach)]
    i = (np.arange(window.row, window.row + window.height) - rows[0]) / step
    j = (np.arange(window.column, window.column + window.width) - cols[0]) / step
    i0, j0 = i.astype(int), j.astype(int)
    u, v = (i - i0)[:, None], (j - j0)[None, :]
    grids = [
        (1 - u) * ((1 - v) * z[i0][:, j0] + v * z[i0][:, j0 + 1])
        + u * ((1 - v) * z[i0 + 1][:, j0] + v * z[i0 + 1][:, j0 + 1])
        for z in out
    ]
    return grids[0], grids[1], grids[2], grids[3]


@function("Image.pixelArea")
def pixel_area() -> Image:
    """Return the area of every pixel in square metres, as band ``area``."""
    return Image([Band("area", PixelType("double"), WGS84, WindowNode(_area))])


def _lonlat(window: Window) -> list[Pixels]:
    lon, lat = lonlat_of(window)
    return [
        Pixels(np.broadcast_to(lon, window.shape), None),
        Pixels(np.broadcast_to(lat, window.shape), None),
    ]


@function("Image.pixelLonLat")
def pixel_lon_lat() -> Image:
    """Return bands ``longitude`` and ``latitude`` of pixel centres in degrees."""
    node = WindowNode(_lonlat)
    return Image(
        [
            Band("longitude", PixelType("double", -180, 180), WGS84, node, 0),
            Band("latitude", PixelType("double", -90, 90), WGS84, node, 1),
        ]
    )


@function("Image.pixelCoordinates")
def pixel_coordinates(projection: Projection) -> Image:
    """Return bands ``x`` and ``y``: coordinates of pixel centres in a projection's pixels."""

    def compute(window: Window) -> list[Pixels]:
        x, y = positions(window, projection)
        return [
            Pixels(np.broadcast_to(x, window.shape), None),
            Pixels(np.broadcast_to(y, window.shape), None),
        ]

    node = WindowNode(compute)
    return Image([Band("x", DOUBLE, projection, node, 0), Band("y", DOUBLE, projection, node, 1)])


def hashed(columns: Array, rows: Array, seed: int) -> Array:
    """Return numbers in [0, 1) that depend on a pixel's place and a seed alone (splitmix64).

    Earth Engine's generator is not known: equal in distribution, not in value.
    """
    with np.errstate(over="ignore"):
        state = columns.astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = state ^ (
            rows.astype(np.int64).view(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
            + np.uint64(seed % 2**64) * np.uint64(0x165667B19E3779F9)
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _random(window: Window, seed: int) -> Array:
    columns = np.arange(window.column, window.column + window.width)
    rows = np.arange(window.row, window.row + window.height)
    # Counted from the origin of the coordinate system, so that exports of the same pixels
    # on grids with other first pixels agree.
    a, _, c, _, e, f = window.projection.transform
    if window.projection.is_square:
        columns = columns + round(c / a)
        rows = rows + round(f / e)
    return hashed(
        np.broadcast_to(columns[None, :], window.shape).copy(),
        np.broadcast_to(rows[:, None], window.shape).copy(),
        seed,
    )


@function("Image.random")
def random(seed: int, distribution: str) -> Image:
    """Return random numbers by pixel, as band ``random``."""
    if distribution not in ("uniform", "normal"):
        raise EngineError(f"Unknown distribution '{distribution}': uniform or normal.")

    def compute(window: Window, *_: Pixels) -> list[Pixels]:
        values = _random(window, seed)
        if distribution == "normal":
            other = _random(window, seed + 0x5DEECE66D)
            values = np.sqrt(-2 * np.log1p(-values)) * np.cos(2 * np.pi * other)
        return [Pixels(values, None)]

    kind = PixelType("double", 0, 1) if distribution == "uniform" else DOUBLE
    return Image([Band("random", kind, WGS84, WindowNode(compute))])


@function("Image.rgbToHsv")
def rgb_to_hsv(image: Image) -> Image:
    """Return hue, saturation and value of three bands in 0..1."""
    _three(image)

    def part(index: int) -> MapNode:
        def compute(r: Array, g: Array, b: Array) -> Array:
            high = np.maximum(np.maximum(r, g), b).astype(float)
            low = np.minimum(np.minimum(r, g), b)
            span = high - low
            if index == 2:
                return high
            if index == 1:
                return np.divide(span, high, out=np.zeros(span.shape), where=high > 0)
            safe = np.where(span == 0, 1, span)
            hue = np.where(
                high == r,
                (g - b) / safe % 6,
                np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4),
            )
            return np.where(span == 0, 0, hue / 6)

        return MapNode(compute, image.bands)

    kind = PixelType("double", 0, 1)
    return image.derived(
        [image.bands[0].computed(kind, part(i)).renamed(n)
         for i, n in enumerate(("hue", "saturation", "value"))]
    )  # fmt: skip


@function("Image.hsvToRgb")
def hsv_to_rgb(image: Image) -> Image:
    """Return red, green and blue of three bands hue, saturation and value in 0..1."""
    _three(image)

    def part(index: int) -> MapNode:
        def compute(h: Array, s: Array, v: Array) -> Array:
            k = (np.array([5.0, 3.0, 1.0])[index] + h * 6.0) % 6
            out: Array = v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)
            return out

        return MapNode(compute, image.bands)

    kind = PixelType("double", 0, 1)
    return image.derived(
        [image.bands[0].computed(kind, part(i)).renamed(n)
         for i, n in enumerate(("red", "green", "blue"))]
    )  # fmt: skip


def _three(image: Image) -> None:
    if len(image.bands) != 3:
        raise EngineError(f"Image must have 3 bands, not {len(image.bands)}.")
