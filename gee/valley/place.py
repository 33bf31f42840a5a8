"""Where and when the made-up valley lies: its grid, its windows, its parts."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import date

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from thawslump.errors import ConfigError

__all__ = [
    "BOUNDS",
    "CRS",
    "DEFAULT_SHAPE",
    "LABEL",
    "MARGIN",
    "ORIGIN",
    "OWN",
    "PIXEL",
    "POST",
    "POST_YEAR",
    "PRE",
    "PRE_YEAR",
    "Frame",
    "bounds",
    "demo_sites",
    "grid",
    "layout",
    "random",
    "site_windows",
]

CRS = "EPSG:32652"
"""UTM zone 52N: an invented place at the latitude of the Lena delta."""

ORIGIN = (497400.0, 7920000.0)
"""Upper-left corner (easting, northing); a multiple of 60 m, as Sentinel-2 grids need it.

It lies on the zone's central meridian, where grid north is true north: boxes in degrees and boxes
on the grid then agree to a pixel.
"""

PIXEL = 10.0
MARGIN = 64
"""Pixels made around the catalogued area, so that slopes and radar rays at its edge are real."""

DEFAULT_SHAPE = (1024, 512)
PRE_YEAR, POST_YEAR = 2020, 2023
PRE = (date(2020, 6, 15), date(2020, 9, 1))
POST = (date(2023, 6, 15), date(2023, 9, 1))
BOUNDS = (128.9274, 71.2902, 129.0704, 71.3820)
"""West, south, east, north in degrees of a valley of `DEFAULT_SHAPE` (rounded to 4 digits)."""

LABEL = "made up by thawslump, not observed"

OWN = "projects/thawslump-made-up/assets"
"""Where the assets lie that have no counterpart among the public ones."""

_PARTS = (("train", 0.46), ("validation", 0.17), ("test", 0.20), ("area", 0.17))


@dataclass(frozen=True)
class Frame:
    """A north-up pixel frame in the valley's CRS.

    Attributes
    ----------
    shape : (rows, cols)
    pixel : float
        Metres.
    left, top : float
        Outer edges in metres.
    """

    shape: tuple[int, int]
    pixel: float
    left: float
    top: float

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine numbers in Earth Engine's order."""
        return (self.pixel, 0.0, self.left, 0.0, -self.pixel, self.top)

    @property
    def geobox(self) -> GeoBox:
        """The same as the project's grid type."""
        return GeoBox(self.shape, Affine(*self.transform), CRS)

    def coarser(self, factor: int) -> Frame:
        """Return the frame of pixels `factor` times as large that covers this one.

        Examples
        --------
        >>> Frame((10, 7), 10.0, 0.0, 0.0).coarser(6).shape
        (2, 2)
        """
        rows, cols = (-(-n // factor) for n in self.shape)
        return Frame((rows, cols), self.pixel * factor, self.left, self.top)

    def padded(self, margin: int) -> Frame:
        """Return the frame with `margin` more pixels on every side."""
        rows, cols = self.shape
        reach = margin * self.pixel
        return Frame(
            (rows + 2 * margin, cols + 2 * margin), self.pixel, self.left - reach, self.top + reach
        )

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Return eastings (cols,) and northings (rows,) of the pixel centres."""
        rows, cols = self.shape
        east = self.left + (np.arange(cols) + 0.5) * self.pixel
        north = self.top - (np.arange(rows) + 0.5) * self.pixel
        return east, north


def grid(shape: tuple[int, int]) -> Frame:
    """Return the 10 m frame of a valley.

    Parameters
    ----------
    shape : (rows, cols)
        At least 96 pixels on each side.

    Raises
    ------
    ConfigError
        The shape is smaller than that.

    Examples
    --------
    >>> grid((128, 96)).transform
    (10.0, 0.0, 497400.0, 0.0, -10.0, 7920000.0)
    """
    rows, cols = (int(n) for n in shape)
    if min(rows, cols) < 96:
        raise ConfigError(
            f"valley of {rows} x {cols} pixels: at least 96 on each side are needed "
            "to hold a river, hills and slumps.",
            hint="Set valley.rows and valley.cols to 96 or more (10 m each).",
        )
    return Frame((rows, cols), PIXEL, *ORIGIN)


def _lonlat(left: float, bottom: float, right: float, top: float) -> tuple[float, ...]:
    """Return the largest box in degrees inside a box on the grid (sides bend by under a pixel)."""
    to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    steps = np.linspace(0.0, 1.0, 21)
    xs, ys = left + (right - left) * steps, bottom + (top - bottom) * steps
    west = to.transform(np.full(21, left), ys)[0].max()
    east = to.transform(np.full(21, right), ys)[0].min()
    south = to.transform(xs, np.full(21, bottom))[1].max()
    north = to.transform(xs, np.full(21, top))[1].min()
    return tuple(float(v) for v in (west, south, east, north))


def bounds(shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return west, south, east, north in degrees of a valley (EPSG:4326)."""
    frame = grid(shape)
    rows, cols = frame.shape
    west, south, east, north = _lonlat(
        frame.left, frame.top - rows * PIXEL, frame.left + cols * PIXEL, frame.top
    )
    return (west, south, east, north)


def site_windows(shape: tuple[int, int]) -> dict[str, tuple[int, int, int, int]]:
    """Return the parts of a valley as pixel windows (row0, row1, col0, col1), end exclusive.

    They follow each other along the longer side with unused gaps between them, so that no part
    shares a slump, a speckle cell or a cloud edge with another at pixel range.

    Examples
    --------
    >>> site_windows((1024, 512))["train"]
    (8, 450, 8, 504)
    """
    rows, cols = grid(shape).shape
    length = max(rows, cols)
    edge = 8
    gap = max(8, round(length * 0.016))
    usable = length - 2 * edge - gap * (len(_PARTS) - 1)
    found: dict[str, tuple[int, int, int, int]] = {}
    start = float(edge)
    for name, share in _PARTS:
        stop = start + usable * share
        first, last = round(start), round(stop)
        found[name] = (
            (first, last, edge, cols - edge) if rows >= cols else (edge, rows - edge, first, last)
        )
        start = stop + gap
    return found


def layout(shape: tuple[int, int]) -> dict[str, tuple[float, float, float, float]]:
    """Return the parts of a valley as longitude/latitude boxes.

    Parameters
    ----------
    shape : (rows, cols)

    Returns
    -------
    dict
        train, validation, test, area: (west, south, east, north), degrees, with gaps between.

    Examples
    --------
    >>> boxes = layout((256, 192))
    >>> list(boxes)
    ['train', 'validation', 'test', 'area']
    >>> boxes["train"][1] > boxes["validation"][3]
    True
    """
    frame = grid(shape)
    boxes = {}
    for name, (row0, row1, col0, col1) in site_windows(shape).items():
        west, south, east, north = _lonlat(
            frame.left + col0 * PIXEL,
            frame.top - row1 * PIXEL,
            frame.left + col1 * PIXEL,
            frame.top - row0 * PIXEL,
        )
        boxes[name] = (
            round(west, 6),
            round(south, 6),
            round(east, 6),
            round(north, 6),
        )
    return boxes


def demo_sites(seed: int, shape: tuple[int, int]) -> list[dict[str, object]]:
    """Return the fields of the four sites that the demo writes to sites/ and areas/.

    Parameters
    ----------
    seed : int
        Names the sites, so that two valleys in one workspace stay apart.
    shape : (rows, cols)

    Returns
    -------
    list of dict
        Fields of `thawslump.site.Site`; outlines are relative to the workspace and are absent for
        the area, which counts as not yet mapped.

    Examples
    --------
    >>> [site["role"] for site in demo_sites(1, (256, 192))]
    ['train', 'validation', 'test', 'area']
    """
    sites: list[dict[str, object]] = []
    for part, box in layout(shape).items():
        site: dict[str, object] = {
            "name": f"valley{seed}-{part}",
            "role": part,
            "bounds": box,
            "crs": CRS,
            "resolution": PIXEL,
            "pre": {"start": PRE[0].isoformat(), "end": PRE[1].isoformat()},
            "post": {"start": POST[0].isoformat(), "end": POST[1].isoformat()},
            "sources": {"climate": f"{OWN}/koeppen_geiger", "canopy": f"{OWN}/canopy_height"},
            "made_up": True,
        }
        if part != "area":
            site["outlines"] = "truth/slumps.gpkg"
        sites.append(site)
    return sites


def random(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random numbers of one named thing of one valley.

    Every field, outline and scene draws from its own stream, so nothing depends on the order in
    which things are made, or on which of them were made before.

    Examples
    --------
    >>> a, b = random(1, "speckle", 3), random(1, "speckle", 3)
    >>> bool(a.integers(100) == b.integers(100))
    True
    """
    key = zlib.crc32("/".join(str(name) for name in names).encode())
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([int(seed), key])))
