"""Projections, pixel windows on them, and where the pixels of one lie on another.

A projection is a coordinate system and an affine transform: a lattice of pixels without end.
A window is a rectangle of whole pixels of that lattice. Windows of one lattice share their
arithmetic (coordinates come from global pixel numbers), so a result never depends on how
an output was cut into tiles.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError

if TYPE_CHECKING:
    # Imported where it is first used: many values have no place, and it takes 20 ms.
    from pyproj import CRS, Transformer

__all__ = [
    "WGS84",
    "PixelGrid",
    "Projection",
    "Window",
    "circumference",
    "crs_of",
    "locate",
    "transformer",
]

Floats = NDArray[Any]
Transform = tuple[float, float, float, float, float, float]
_UNIT: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

# Metres in a degree of longitude at the equator: what Earth Engine calls the nominal
# scale of EPSG:4326 at one degree.
DEGREE = 6378137.0 * math.pi / 180.0
# Coordinates are interpolated between exact ones at every 16th pixel where that errs by
# less than this many source pixels.
_TOLERANCE = 0.005
_KNOT = 16
# Columns and rows beyond this have no half pixels in double precision.
FARTHEST = 2**52
_BLOCK = 128
# Pixels from the origin of a coordinate system up to which numbers of pixels stay exact.
_FAR = 2.0**44

_MODIS_SINUSOIDAL = "+proj=sinu +R=6371007.181 +nadgrids=@null +wktext"
_ALIASES = {
    "SR-ORG:6974": _MODIS_SINUSOIDAL,
    "SR-ORG:6842": _MODIS_SINUSOIDAL,
    "SR-ORG:6627": "EPSG:3857",
    "EPSG:900913": "EPSG:3857",
}


# PROJ reads files that its text names: grids, old lists of definitions. Only its own are read.
_FILES = re.compile(r"\b(?:init|\w*grids|file|model)\s*=\s*@?[^\s,\"]*[/\\]", re.IGNORECASE)
_LONGEST = 20_000


@lru_cache(maxsize=256)
def crs_of(code: str) -> CRS:
    """Return the coordinate system that a code, WKT or PROJ text names.

    Raises
    ------
    EngineError
        The text names none.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    shown = code if len(code) <= 200 else f"{code[:200]}..."
    problem = EngineError(f"The CRS of a map projection could not be parsed: '{shown}'.")
    if len(code) > _LONGEST or _FILES.search(code):
        raise problem
    try:
        return CRS.from_user_input(_ALIASES.get(code, code))
    except (CRSError, UnicodeError):
        raise problem from None


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """Return a cached transformer with (x, y) order; safe to use from many threads."""
    from pyproj import Transformer

    return Transformer.from_crs(crs_of(source), crs_of(target), always_xy=True)


@lru_cache(maxsize=256)
def _metres_per_unit(code: str) -> float:
    crs = crs_of(code)
    if crs.is_geographic:
        return DEGREE
    axes = crs.axis_info
    return float(axes[0].unit_conversion_factor) if axes else 1.0


_CYLINDRICAL = {
    "Popular Visualisation Pseudo Mercator",
    "Mercator (variant A)",
    "Mercator (variant B)",
    "Equidistant Cylindrical",
}


@lru_cache(maxsize=256)
def circumference(code: str) -> float | None:
    """Return the length of the x axis once around the Earth, where x is a longitude."""
    crs = crs_of(code)
    if crs.is_geographic:
        return 360.0
    operation = crs.coordinate_operation
    if operation is None or operation.method_name not in _CYLINDRICAL:
        return None
    # One of these degrees is not where the map is cut.
    x, _ = transformer("EPSG:4326", code).transform([0.0, 1.0, 2.0], [0.0, 0.0, 0.0])
    return 360.0 * min(abs(x[1] - x[0]), abs(x[2] - x[1]))


@lru_cache(maxsize=1024)
def _same_crs(a: str, b: str) -> bool:
    return a == b or crs_of(a) == crs_of(b)


@dataclass(frozen=True)
class Projection:
    """A coordinate system and the transform from pixels to it.

    Parameters
    ----------
    crs : str
        ``EPSG:32607``, WKT or PROJ text.
    transform : tuple of 6 floats
        Earth Engine's order: xScale, xShear, xTranslation, yShear, yScale, yTranslation.

    Examples
    --------
    >>> round(Projection("EPSG:4326").nominal_scale)
    111319
    >>> Projection("EPSG:32607", (10, 0, 5e5, 0, -10, 7e6)).at_scale(30).transform
    (30.0, 0.0, 500000.0, 0.0, -30.0, 7000000.0)
    """

    crs: str
    transform: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        try:
            values = tuple(float(v) for v in self.transform)
        except (TypeError, ValueError, OverflowError):
            values = ()
        if len(values) != 6 or not all(map(math.isfinite, values)):
            shown = reprlib.repr(self.transform)
            raise EngineError(f"CRS transform must be a list of 6 finite numbers, not {shown}.")
        if values[0] * values[4] == values[1] * values[3]:
            raise EngineError(f"The CRS transform {list(values)} is not invertible.")
        object.__setattr__(self, "transform", values)
        object.__setattr__(self, "_hash", hash((self.crs, values)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def nominal_scale(self) -> float:
        """Metres per pixel at the point of true scale (apidocs ee-projection-nominalscale)."""
        a, b, _, d, e, _ = self.transform
        return math.sqrt(abs(a * e - b * d)) * _metres_per_unit(self.crs)

    @property
    def is_default(self) -> bool:
        """True for the projection of composites and constants: EPSG:4326 at one degree."""
        return self.crs == "EPSG:4326" and self.transform == _UNIT

    @property
    def turn(self) -> float | None:
        """Pixels once around the Earth, where columns are longitudes; else ``None``."""
        around = circumference(self.crs)
        if around is None or not self.is_square:
            return None
        return around / abs(self.transform[0])

    @property
    def is_square(self) -> bool:
        """True where rows and columns run along the axes."""
        return self.transform[1] == 0 and self.transform[3] == 0

    def at_scale(self, metres: float) -> Projection:
        """Return the projection with the same origin and pixels of ``metres``."""
        if not metres > 0:
            raise EngineError(f"Scale must be positive, not {metres}.")
        return self.scaled(metres / self.nominal_scale)

    def scaled(self, x: float, y: float | None = None) -> Projection:
        """Return the projection with pixels ``x`` by ``y`` times as large."""
        y = x if y is None else y
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a * x, b * y, c, d * x, e * y, f))

    def translated(self, x: float, y: float) -> Projection:
        """Return the projection moved by (x, y) pixels."""
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a, b, c + a * x + b * y, d, e, f + d * x + e * y))

    def to_crs(self, column: Floats | float, row: Floats | float) -> tuple[Any, Any]:
        """Return the coordinates of continuous pixel positions (0, 0 is the outer corner)."""
        a, b, c, d, e, f = self.transform
        if b == 0 and d == 0:
            return c + a * column, f + e * row
        return c + a * column + b * row, f + d * column + e * row

    def to_pixels(self, x: Floats | float, y: Floats | float) -> tuple[Any, Any]:
        """Return continuous pixel positions of coordinates."""
        a, b, c, d, e, f = self.transform
        if b == 0 and d == 0:
            return (x - c) / a, (y - f) / e
        det = a * e - b * d
        u, v = x - c, y - f
        return (e * u - b * v) / det, (a * v - d * u) / det

    def offset(self, other: Projection) -> tuple[int, int] | None:
        """Return (columns, rows) by which ``other`` is shifted, where it is the same lattice.

        ``None`` where the pixels of the two do not coincide.
        """
        if self is other or self == other:
            return 0, 0
        mine, theirs = self.transform, other.transform
        if not _same_crs(self.crs, other.crs):
            return None
        size = abs(mine[0]) + abs(mine[1])
        for i in (0, 1, 3, 4):
            # Over 2**15 pixels such a difference adds up to less than 0.01 pixels.
            if abs(mine[i] - theirs[i]) > size * 3e-7:
                return None
        # Compared where this lattice begins: the origin of the other may be far from here, and
        # the least difference in size has added up on the way.
        column, row = other.to_pixels(mine[2], mine[5])
        near = round(column), round(row)
        if abs(column - near[0]) > 1e-4 or abs(row - near[1]) > 1e-4:
            return None
        return -near[0], -near[1]

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        out: dict[str, Any] = {"type": "Projection"}
        if ":" in self.crs and len(self.crs) < 20:
            out["crs"] = self.crs
        else:
            out["wkt"] = self.crs
        out["transform"] = [plain(v) for v in self.transform]
        return out

    @staticmethod
    def coerce(value: object) -> Projection:
        """Read a projection given as a code, WKT, a JSON object or a Projection."""
        if isinstance(value, Projection):
            return value
        if isinstance(value, str):
            crs_of(value)
            return Projection(value)
        if isinstance(value, dict) and value.get("type") == "Projection":
            return Projection(
                value.get("crs") or value["wkt"], tuple(value.get("transform", (1, 0, 0, 0, 1, 0)))
            )
        raise EngineError(f"Cannot convert {reprlib.repr(value)} to a projection.")

    @staticmethod
    def combine(
        base: Projection | None,
        transform: Sequence[float] | None = None,
        scale: float | None = None,
    ) -> Projection | None:
        """Return ``base`` with a transform or a scale put in place of its own.

        A scale without an origin puts pixel edges on multiples of the scale
        (guides/exporting_images).
        """
        if base is None:
            return None
        if transform:
            return Projection(base.crs, tuple(transform))  # type: ignore[arg-type]
        return base if scale is None else base.at_scale(scale)


def plain(value: float) -> int | float:
    """Return whole floats as integers, as Earth Engine prints them."""
    return int(value) if value == int(value) else value


WGS84 = Projection("EPSG:4326")


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels of a projection.

    Parameters
    ----------
    projection : Projection
    column, row : int
        First pixel; may be negative.
    width, height : int
    """

    projection: Projection
    column: int
    row: int
    width: int
    height: int
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "_hash",
            hash((self.projection, self.column, self.row, self.width, self.height)),
        )

    def __hash__(self) -> int:
        return self._hash

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def pad(self, x: int, y: int | None = None) -> Window:
        """Return the window with ``x`` pixels more left and right, ``y`` above and below."""
        y = x if y is None else y
        if x == 0 and y == 0:
            return self
        return Window(
            self.projection,
            self.column - x,
            self.row - y,
            self.width + 2 * x,
            self.height + 2 * y,
        )

    def part(self, row: int, column: int, height: int, width: int) -> Window:
        """Return the part that starts at (row, column) of this window."""
        return Window(self.projection, self.column + column, self.row + row, width, height)

    def halves(self) -> tuple[Window, Window]:
        """Return the upper and lower half, or left and right where it is wider than high."""
        if self.height >= self.width:
            cut = self.height // 2
            return (
                self.part(0, 0, cut, self.width),
                self.part(cut, 0, self.height - cut, self.width),
            )
        cut = self.width // 2
        return (
            self.part(0, 0, self.height, cut),
            self.part(0, cut, self.height, self.width - cut),
        )

    def blocks(self, side: int) -> Iterator[tuple[Window, Window]]:
        """Yield (block, part): aligned squares of the lattice, and what of each is inside."""
        end_row, end_column = self.row + self.height, self.column + self.width
        for row in range(self.row // side * side, end_row, side):
            for column in range(self.column // side * side, end_column, side):
                top, left = max(row, self.row), max(column, self.column)
                height = min(row + side, end_row) - top
                width = min(column + side, end_column) - left
                yield (
                    Window(self.projection, column, row, side, side),
                    Window(self.projection, left, top, width, height),
                )

    def within(self, other: Window) -> tuple[slice, slice]:
        """Return the (rows, columns) of ``other`` that this window takes up."""
        top, left = self.row - other.row, self.column - other.column
        return slice(top, top + self.height), slice(left, left + self.width)

    def anchored(self) -> Window:
        """Return the same pixels, counted from the origin of the coordinate system.

        Two grids of one lattice become windows of one projection, whatever pixel each of them
        begins with: all that is computed in blocks, interpolated or numbered agrees.
        """
        column, row = self.projection.to_pixels(0.0, 0.0)
        if not (abs(column) < _FAR and abs(row) < _FAR):
            return self
        # Rounded, as the same grid may come with other last digits from another first pixel.
        column, row = round(column, 7), round(row, 7)
        shift = math.floor(column), math.floor(row)
        a, b, c, d, e, f = self.projection.transform
        x, y = column - shift[0], row - shift[1]
        corner = (0.0 - a * x - b * y, 0.0 - d * x - e * y)
        if (corner, shift) == ((c, f), (0, 0)):
            return self
        return Window(
            Projection(self.projection.crs, (a, b, corner[0], d, e, corner[1])),
            self.column - shift[0],
            self.row - shift[1],
            self.width,
            self.height,
        )

    def shifted_to(self, projection: Projection) -> Window | None:
        """Return the same pixels counted on ``projection``, where the two lattices coincide."""
        shift = projection.offset(self.projection)
        if shift is None:
            return None
        return Window(
            projection, self.column + shift[0], self.row + shift[1], self.width, self.height
        )

    def centres(self) -> tuple[Floats, Floats]:
        """Return coordinates of pixel centres.

        Returns
        -------
        x, y : float64
            (width,) and (height,) for axis-aligned projections, else (height, width) both.
        """
        columns = np.arange(self.column, self.column + self.width) + 0.5
        rows = np.arange(self.row, self.row + self.height) + 0.5
        if self.projection.is_square:
            return self.projection.to_crs(columns, rows)
        x, y = self.projection.to_crs(columns[None, :], rows[:, None])
        return x, y

    def bounds(self) -> tuple[float, float, float, float]:
        """Return (left, bottom, right, top) in the coordinate system."""
        c = np.array([self.column, self.column + self.width] * 2, float)
        r = np.array([self.row] * 2 + [self.row + self.height] * 2, float)
        x, y = self.projection.to_crs(c, r)
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())


@dataclass(frozen=True)
class PixelGrid:
    """An output grid: what ``computePixels`` calls ``grid``.

    Parameters
    ----------
    crs : str
    transform : tuple of 6 floats
        Upper-left corner and pixel size, Earth Engine's order.
    width, height : int
    """

    crs: str
    transform: Transform
    width: int
    height: int

    @property
    def projection(self) -> Projection:
        """The lattice that the grid is part of; pixel (0, 0) is the grid's first."""
        return Projection(self.crs, self.transform)

    @property
    def window(self) -> Window:
        """All pixels of the grid."""
        return Window(self.projection, 0, 0, self.width, self.height)

    def part(self, row: int, column: int, height: int, width: int) -> Window:
        """Return a window of the grid."""
        return Window(self.projection, column, row, width, height)

    @staticmethod
    def from_request(grid: dict[str, Any], fallback: Projection | None = None) -> PixelGrid:
        """Read the ``grid`` of a request.

        Parameters
        ----------
        grid : dict
            ``{dimensions: {width, height}, affineTransform: {scaleX, ...}, crsCode | crsWkt}``.
        fallback : Projection, optional
            Stands in for a coordinate system or a transform that the request leaves out.

        Raises
        ------
        EngineError
            Dimensions are missing or not positive.
        """
        size = grid.get("dimensions") or {}
        width, height = int(size.get("width", 0)), int(size.get("height", 0))
        if width <= 0 or height <= 0:
            raise EngineError("Pixel grid dimensions must be positive.")
        crs = grid.get("crsCode") or grid.get("crsWkt")
        if not crs:
            if fallback is None:
                raise EngineError("Pixel grid: a crsCode or crsWkt is required.")
            crs = fallback.crs
        crs_of(crs)
        affine = grid.get("affineTransform")
        if affine:
            values = tuple(
                float(affine.get(k, 0.0))
                for k in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
            )
        else:
            values = (fallback or Projection(crs)).transform
        Projection(crs, values)  # type: ignore[arg-type]
        return PixelGrid(crs, values, width, height)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Placed:
    """Where the pixel centres of a window lie on another projection, in its pixels.

    ``columns`` is (width,) and ``rows`` (height,) where ``separable``; both are
    (height, width) otherwise. Continuous: the centre of the first pixel is 0.5.
    """

    columns: Floats
    rows: Floats
    separable: bool


def locate(window: Window, target: Projection) -> Placed:
    """Return where the pixel centres of ``window`` lie on ``target``.

    Interpolated from exact positions at every 16th pixel where that errs by less than
    0.005 pixels, else exact. The same pixel gets the same position in any window.
    """
    source = window.projection
    if max(abs(window.column), abs(window.row)) > FARTHEST:
        raise EngineError("The pixels lie too far from the origin of their projection.")
    if _same_crs(source.crs, target.crs):
        columns = np.arange(window.column, window.column + window.width) + 0.5
        rows = np.arange(window.row, window.row + window.height) + 0.5
        if source.is_square and target.is_square:
            x, y = source.to_crs(columns, rows)
            c, r = target.to_pixels(x, y)
            return Placed(_settle(c), _settle(r), True)
        x, y = source.to_crs(columns[None, :], rows[:, None])
        c, r = target.to_pixels(x, y)
        return Placed(_settle(c), _settle(r), False)
    out_c = np.empty(window.shape)
    out_r = np.empty(window.shape)
    for bi in range(window.row // _BLOCK, (window.row + window.height - 1) // _BLOCK + 1):
        for bj in range(window.column // _BLOCK, (window.column + window.width - 1) // _BLOCK + 1):
            c, r = _block(source, target, bi, bj)
            top, left = bi * _BLOCK - window.row, bj * _BLOCK - window.column
            i0, i1 = max(top, 0), min(top + _BLOCK, window.height)
            j0, j1 = max(left, 0), min(left + _BLOCK, window.width)
            inside = np.s_[i0 - top : i1 - top, j0 - left : j1 - left]
            out_c[i0:i1, j0:j1] = c[inside]
            out_r[i0:i1, j0:j1] = r[inside]
    return Placed(out_c, out_r, False)


def _settle(values: Floats) -> Floats:
    """Take rounding noise off positions, so that ties fall the same way everywhere."""
    rounded: Floats = np.round(values, 6)
    return rounded


def _exact(window: Window, target: Projection) -> tuple[Floats, Floats]:
    columns = np.arange(window.column, window.column + window.width) + 0.5
    rows = np.arange(window.row, window.row + window.height) + 0.5
    return _positions(
        window.projection,
        target,
        np.broadcast_to(columns[None, :], window.shape),
        np.broadcast_to(rows[:, None], window.shape),
    )


def _positions(
    source: Projection, target: Projection, columns: Floats, rows: Floats
) -> tuple[Floats, Floats]:
    x, y = source.to_crs(columns, rows)
    x, y = transformer(source.crs, target.crs).transform(x, y)
    c, r = target.to_pixels(np.asarray(x), np.asarray(y))
    # Where the projection is undefined the pixel lies nowhere.
    bad = ~(np.isfinite(c) & np.isfinite(r))
    if bad.any():
        c[bad] = r[bad] = -1e18
    return _settle(c), _settle(r)


@lru_cache(maxsize=256)
def _block(source: Projection, target: Projection, bi: int, bj: int) -> tuple[Floats, Floats]:
    """Positions of one aligned block of 128 x 128 pixels, which never depend on a window."""
    window = Window(source, bj * _BLOCK, bi * _BLOCK, _BLOCK, _BLOCK)
    n = _BLOCK // _KNOT
    knots = np.arange(2 * n + 1) * (_KNOT / 2)
    c, r = _positions(
        source,
        target,
        np.broadcast_to(window.column + knots[None, :], (2 * n + 1,) * 2),
        np.broadcast_to(window.row + knots[:, None], (2 * n + 1,) * 2),
    )
    worst = 0.0
    for z in (c, r):
        coarse = z[::2, ::2]
        middle = 0.25 * (coarse[:-1, :-1] + coarse[1:, :-1] + coarse[:-1, 1:] + coarse[1:, 1:])
        edge = 0.5 * (coarse[:, :-1] + coarse[:, 1:])
        side = 0.5 * (coarse[:-1] + coarse[1:])
        worst = max(
            worst,
            float(np.abs(middle - z[1::2, 1::2]).max()),
            float(np.abs(edge - z[::2, 1::2]).max()),
            float(np.abs(side - z[1::2, ::2]).max()),
        )
    if not worst < _TOLERANCE:
        return _exact(window, target)
    t = (np.arange(_KNOT) + 0.5) / _KNOT
    out = []
    for z in (c[::2, ::2], r[::2, ::2]):
        wide = z[:, :-1, None] * (1 - t) + z[:, 1:, None] * t
        wide = wide.reshape(n + 1, _BLOCK)
        full = wide[:-1, None, :] * (1 - t)[:, None] + wide[1:, None, :] * t[:, None]
        out.append(_settle(full.reshape(_BLOCK, _BLOCK)))
    return out[0], out[1]
