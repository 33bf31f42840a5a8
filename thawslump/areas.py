"""Large areas in parts: UTM zones first, and within each blocks of one pinned grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from thawslump.errors import ConfigError
from thawslump.grid import coarser, grid_over, unwrapped, utm_crs
from thawslump.site import Site

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

__all__ = ["FACTOR_SIZE", "HALO", "Mosaic", "Part", "Pinned", "mosaics"]

FACTOR_SIZE = 30.0
"""Metres of the factors' pixels; blocks begin on whole multiples of them."""

HALO = 64
"""Pixels by which a zone's grid goes on beyond the meridian where its neighbour begins."""

Pinned = tuple[str, float, float, int, int]
"""CRS, left, top, rows, columns."""

_LONGEST = 64  # letters of a site's name


class _Piece(Site):
    """A rectangle of an area; what the area's file says holds for it.

    Attributes
    ----------
    area : str
        Name of the area.
    pinned : (CRS, left, top, rows, columns)
    """

    area: str
    pinned: Pinned

    def grid(self) -> GeoBox:
        """Return the pinned grid."""
        crs, left, top, rows, columns = self.pinned
        size = self.resolution
        return GeoBox((rows, columns), Affine(size, 0, left, 0, -size, top), crs)


class Part(_Piece):
    """A block of an area: exported, mapped and checkpointed as an item of its own.

    Attributes
    ----------
    mosaic : str
        Name of the `Mosaic` that it belongs to.
    """

    mosaic: str


class Mosaic(_Piece):
    """The blocks of an area in one CRS, as one grid.

    Attributes
    ----------
    parts : tuple of Part
        Without gaps between them, but for blocks that lie off the area.
    own : (west, south, east, north)
        What it answers for: the box of the area, cut at the meridians of its zone. Its grid goes
        on beyond those. East may be above 180.
    inner : (bool, bool)
        Whether another zone of the area begins at its west, and at its east.
    """

    parts: tuple[Part, ...]
    own: tuple[float, float, float, float]
    inner: tuple[bool, bool]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parts."""
        return tuple(part.name for part in self.parts)

    def holds(self, longitude: float) -> bool:
        """Return whether a longitude (-180 to 180) is the zone's to answer for.

        The first and the last zone of an area hold what lies beyond the area's box too.
        """
        # Counted from the middle of the zone, so that 180 and -180 are near each other.
        middle = (self.own[0] + self.own[2]) / 2
        away = (longitude - middle + 180.0) % 360.0 - 180.0
        half = (self.own[2] - self.own[0]) / 2
        return (away >= -half or not self.inner[0]) and (away < half or not self.inner[1])

    @property
    def nests(self) -> bool:
        """Whether the factors' pixels of all parts lie on one grid."""
        return self.resolution >= FACTOR_SIZE or _step(self.resolution) > 1

    def factor_grid(self) -> GeoBox:
        """Return the grid of the factors of all parts, where it `nests`."""
        return coarser(self.grid(), max(FACTOR_SIZE, self.resolution))

    def meridian(self, side: int, ys: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where a meridian that ends the zone crosses rows of the grid.

        Parameters
        ----------
        side : {0, 1}
            West or east end of `own`.
        ys : ndarray of float64
            In the CRS.

        Returns
        -------
        ndarray of float64
            Their x; to a few millimetres within the area.
        """
        _, south, _, north = self.own
        to_grid = Transformer.from_crs("EPSG:4326", self.pinned[0], always_xy=True)
        # Zones of an area meet along meridians that run up the grid, never along a row.
        latitudes = np.arange(max(-89.0, south - 1.0), min(89.0, north + 1.0), 0.01)
        longitudes = np.full(latitudes.shape, (self.own[0], self.own[2])[side])
        x, y = to_grid.transform(longitudes, latitudes)
        return np.interp(ys, y, x)


def mosaics(site: Site) -> tuple[Mosaic, ...]:
    """Return the zones of an area with their parts; nothing where a site is mapped whole.

    - Only areas from Earth Engine that have more than `block` pixels a side are split.
    - Without a `crs` of its own, an area is cut at the meridians of the UTM zones that it lies
      in, so that no pixel is far from its zone. Across a meridian, the grids of both zones go on
      by `HALO` pixels.
    - Within a zone there is one grid. Blocks begin at whole multiples of their size, counted from
      the origin of the CRS: when an area grows, blocks inside it keep their names and pixels. They
      touch without overlap; those at the edge are cut to the area, those off it left out.
    - Blocks begin on whole factor pixels too, where the resolution allows.

    Parameters
    ----------
    site : Site

    Returns
    -------
    tuple of Mosaic
        From west to east.

    Raises
    ------
    ConfigError
        The bounds or the CRS do not fit, or the name leaves no room for those of the parts.

    Examples
    --------
    >>> area = Site(name="a", role="area", bounds=(130.9, 71.8, 133.2, 72.0),
    ...             pre={"start": "2020-06-15", "end": "2020-09-01"},
    ...             post={"start": "2023-06-15", "end": "2023-09-01"})
    >>> [(zone.name, len(zone.parts)) for zone in mosaics(area)]
    [('a-52N', 4), ('a-53N', 6)]
    >>> mosaics(area)[0].names[0]
    'a-52N-n260e018'
    """
    if site.role != "area" or site.source != "earthengine" or not _large(site):
        return ()
    return tuple(_mosaic(site, *zone) for zone in _zones(site))


def _large(site: Site) -> bool:
    west, _, east, _ = unwrapped(site.bounds)
    if site.crs is None and east - west > 12.0:
        # Wider than two zones: no one zone could hold it.
        return True
    return max(site.grid().shape) > site.block


def _zones(
    site: Site,
) -> Iterator[tuple[str, tuple[float, float, float, float], tuple[bool, bool]]]:
    """Yield CRS, box and whether its west and east are cut, from west to east."""
    west, south, east, north = unwrapped(site.bounds)
    if site.crs is not None or north > 84.0 or south < -80.0:
        crs = site.crs or utm_crs(0.0, north if north > 84.0 else south)
        yield crs, (west, south, east, north), (False, False)
        return
    middle = (south + north) / 2
    first, last = math.floor((west + 180.0) / 6.0), math.ceil((east + 180.0) / 6.0)
    for number in range(first, last):
        left, right = 6.0 * number - 180.0, 6.0 * number - 174.0
        box = (max(west, left), south, min(east, right), north)
        yield utm_crs(left + 3.0, middle), box, (west < left, right < east)


def _step(resolution: float) -> int:
    """Return the pixels after which an edge lies on a whole factor pixel again; 1 where none does.

    Examples
    --------
    >>> _step(10.0), _step(20.0), _step(12.5), _step(30.0), _step(4.77)
    (3, 3, 12, 1, 1)
    """
    if resolution >= FACTOR_SIZE:
        return 1
    for count in range(1, 65):
        if abs(count * resolution / FACTOR_SIZE - round(count * resolution / FACTOR_SIZE)) < 1e-9:
            return count
    return 1


def _mosaic(
    site: Site,
    crs: str,
    own: tuple[float, float, float, float],
    inner: tuple[bool, bool],
) -> Mosaic:
    from shapely.geometry import box

    west, south, east, north = own
    halo = HALO * site.resolution / (111_320.0 * math.cos(math.radians(max(-south, north))))
    wide = (west - halo * inner[0], south, east + halo * inner[1], north)
    step = _step(site.resolution)
    outer = grid_over(_wrapped(wide), site.resolution, crs, step=step)
    edges = outer.boundingbox
    side = max(step, site.block // step * step) * site.resolution
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    shape = _outline(wide, crs)
    prefix = f"{site.name}-{_label(crs)}"
    common = dict(site)
    parts = []
    # From the top down, as rows of a raster.
    for row in reversed(range(*_span(edges.bottom, edges.top, side))):
        for column in range(*_span(edges.left, edges.right, side)):
            left, right = max(edges.left, column * side), min(edges.right, (column + 1) * side)
            bottom, top = max(edges.bottom, row * side), min(edges.top, (row + 1) * side)
            if box(left, bottom, right, top).intersection(shape).area == 0:
                continue
            pinned = _pinned(crs, left, bottom, right, top, site.resolution)
            parts.append(
                Part.model_construct(
                    **common
                    | {
                        "name": f"{prefix}-{_count(row, 'ns')}{_count(column, 'ew')}",
                        "bounds": to_lonlat.transform_bounds(left, bottom, right, top),
                        "crs": crs,
                        "area": site.name,
                        "mosaic": prefix,
                        "pinned": pinned,
                    }
                )
            )
    for name in (prefix, *(part.name for part in parts)):
        if len(name) > _LONGEST:
            raise ConfigError(
                f'The area "{site.name}" is mapped in parts such as "{name}", which has '
                f"{len(name)} letters; names have at most {_LONGEST}.",
                hint="Give the area a shorter name.",
            )
    return Mosaic.model_construct(
        **common
        | {
            "name": prefix,
            "bounds": _wrapped(own),
            "crs": crs,
            "area": site.name,
            "pinned": _over(parts, crs, site.resolution),
            "parts": tuple(parts),
            "own": own,
            "inner": inner,
        }
    )


def _wrapped(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return a box with longitudes from -180 to 180; an east end of 180 stays 180."""

    def into(longitude: float) -> float:
        return longitude if longitude <= 180.0 else longitude - 360.0

    west, south, east, north = box
    if west < -180.0:
        west += 360.0
    # Of a zone that begins at the antimeridian, the west is -180, not 180.
    return (-180.0 if west == 180.0 else into(west)), south, into(east), north


def _outline(box: tuple[float, float, float, float], crs: str) -> BaseGeometry:
    """Return a longitude/latitude box in a CRS, its sides bent as they run there."""
    import shapely

    west, south, east, north = box
    fine = max(east - west, north - south) / 200
    ring = shapely.segmentize(shapely.box(west, south, east, north), fine)
    to_grid = Transformer.from_crs("EPSG:4326", crs, always_xy=True)

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(to_grid.transform(xy[:, 0], xy[:, 1]), axis=1)

    return shapely.make_valid(shapely.transform(ring, place))


def _span(low: float, high: float, side: float) -> tuple[int, int]:
    return math.floor(low / side + 1e-9), math.ceil(high / side - 1e-9)


def _pinned(crs: str, left: float, bottom: float, right: float, top: float, size: float) -> Pinned:
    return crs, left, top, round((top - bottom) / size), round((right - left) / size)


def _over(parts: list[Part], crs: str, size: float) -> Pinned:
    boxes = [part.grid().boundingbox for part in parts]
    return _pinned(
        crs,
        min(box.left for box in boxes),
        min(box.bottom for box in boxes),
        max(box.right for box in boxes),
        max(box.top for box in boxes),
        size,
    )


def _label(crs: str) -> str:
    """Return a CRS in few letters: the zone of UTM, the number of EPSG, or "grid"."""
    code = CRS.from_user_input(crs).to_epsg()
    if code is None:
        return "grid"
    zone, half = code % 100, {326: "N", 327: "S"}.get(code // 100)
    return f"{zone:02}{half}" if half and 1 <= zone <= 60 else str(code)


def _count(number: int, letters: str) -> str:
    """Return a block's number counted from the origin of the CRS: n012 from 12 on, s003 from -3."""
    return f"{letters[0]}{number:03}" if number >= 0 else f"{letters[1]}{-number:03}"
