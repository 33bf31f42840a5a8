"""Projections, and images moved between them."""

from __future__ import annotations

import math
from typing import Any

import shapely

from ..errors import EngineError
from ..geometry import Geometry
from ..image import Image, ReprojectNode, ResampleNode
from ..pixels import Band, Context, Node, Pixels
from ..projection import Projection, Window, crs_of, plain
from ..types import PixelType
from .masks import clip_to
from .registry import function

__all__ = ["reproject"]


@function("Projection", "Proj")
def projection(crs: Any, transform: list[Any] | None, wkt: str | None) -> Projection:
    """Return a projection of a code or WKT."""
    base = Projection.coerce(crs)
    if wkt is not None:
        return Projection(base.crs, _from_wkt(wkt))
    if transform:
        return Projection(base.crs, tuple(transform))
    return base


def _from_wkt(text: str) -> tuple[float, float, float, float, float, float]:
    import re

    values = {(0, 0): 1.0, (0, 1): 0.0, (0, 2): 0.0, (1, 0): 0.0, (1, 1): 1.0, (1, 2): 0.0}
    for row, column, number in re.findall(r'PARAMETER\["elt_(\d)_(\d)",\s*([-+\d.eE]+)\]', text):
        values[int(row), int(column)] = float(number)
    return tuple(values[r, c] for r in (0, 1) for c in (0, 1, 2))  # type: ignore[return-value]


@function("Projection.crs")
def crs(value: Projection) -> str:
    """Return the code."""
    return value.crs


@function("Projection.nominalScale")
def nominal_scale(value: Projection) -> float:
    """Return metres per pixel."""
    return value.nominal_scale


@function("Projection.atScale")
def at_scale(value: Projection, metres: float) -> Projection:
    """Return the projection with pixels of so many metres."""
    return value.at_scale(metres)


@function("Projection.scale")
def scale(value: Projection, x: float, y: float) -> Projection:
    """Return the projection with pixels so many times as large."""
    return value.scaled(x, y)


@function("Projection.translate")
def translate_projection(value: Projection, x: float, y: float) -> Projection:
    """Return the projection moved by pixels."""
    return value.translated(x, y)


@function("Projection.transform")
def transform(value: Projection) -> str:
    """Return the transform as WKT."""
    a, b, c, d, e, f = value.transform
    rows = [("0_0", a), ("0_1", b), ("0_2", c), ("1_0", d), ("1_1", e), ("1_2", f)]
    body = "".join(
        f', \n  PARAMETER["elt_{name}", {float(number)}]'
        for name, number in rows
        if number != (1.0 if name in ("0_0", "1_1") else 0.0)
    )
    return (
        'PARAM_MT["Affine", \n  PARAMETER["num_row", 3], \n  PARAMETER["num_col", 3]' + body + "]"
    )


@function("Projection.wkt")
def wkt(value: Projection) -> str:
    """Return the coordinate system as WKT."""
    return str(crs_of(value.crs).to_wkt("WKT1_GDAL", pretty=True))


@function("Image.projection")
def image_projection(image: Image) -> Projection:
    """Return the default projection, which all bands must share."""
    return image.projection


def _target(base: Projection, transform_: list[float] | None, metres: float | None) -> Projection:
    if transform_ and metres is not None:
        raise EngineError("Cannot specify both crsTransform and scale.")
    made = Projection.combine(base, transform_, metres)
    assert made is not None
    return made


@function("Image.reproject")
def reproject(
    image: Image, base: Projection, transform_: list[float] | None, metres: float | None
) -> Image:
    """Compute everything before on a grid (guides/projections)."""
    target = _target(base, transform_, metres)
    bands = []
    for b in image.bands:
        made = Band(b.id, b.type, target, ReprojectNode(b, target))
        size = _extent(b, target)
        if size is not None:
            made = Band(b.id, b.type, target, made.node, 0, size[1], size[0])
        bands.append(made)
    return image.with_bands(bands)


def _extent(band: Band, target: Projection) -> tuple[tuple[int, int], tuple[int, int]] | None:
    own = band.window
    if own is None:
        return None
    left, bottom, right, top = own.bounds()
    outline = Geometry(shapely.box(left, bottom, right, top), band.projection.crs, False)
    try:
        window = outline.window(target)
    except EngineError:
        return None
    return (window.column, window.row), (window.width, window.height)


@function("Image.setDefaultProjection")
def set_default_projection(
    image: Image, base: Projection, transform_: list[float] | None, metres: float | None
) -> Image:
    """Set the default projection; computes nothing."""
    target = _target(base, transform_, metres)
    return image.with_bands([b.on(target) for b in image.bands])


@function("Image.resample")
def resample(image: Image, mode: str) -> Image:
    """Interpolate at the next reprojection (guides/resample)."""
    if mode not in ("bilinear", "bicubic"):
        raise EngineError(f"Unknown resampling mode '{mode}': bilinear or bicubic.")
    bands = []
    for b in image.bands:
        kind = b.type
        if kind.is_int:
            # Values between integers are what interpolation is for.
            kind = PixelType("float", kind.low, kind.high)
        if mode == "bicubic":
            kind = PixelType(kind.precision)  # overshoots the range
        bands.append(b.computed(kind, ResampleNode(b, mode)))
    return image.with_bands(bands)


@function("Image.clipToBoundsAndScale")
def clip_to_bounds_and_scale(
    image: Image,
    geometry: Geometry | None,
    width: int | None,
    height: int | None,
    longest: int | None,
    metres: float | None,
) -> Image:
    """Clip to the bounds of a geometry and scale to a size (what getDownloadURL sends)."""
    if not image.bands:
        return image
    base = image.bands[0].projection
    if geometry is not None:
        left, bottom, right, top = geometry.in_crs(base.crs).bounds
        outline = Geometry(shapely.box(left, bottom, right, top), base.crs, False)
    else:
        own = image.bands[0].window
        if own is not None:
            outline = Geometry(shapely.box(*own.bounds()), base.crs, False)
        elif image.footprint is not None:
            outline = Geometry(
                shapely.box(*image.footprint.in_crs(base.crs).bounds), base.crs, False
            )
        else:
            raise EngineError("The image is unbounded: a geometry is required.")
        left, bottom, right, top = outline.shape.bounds
    if (width is None) != (height is None):
        raise EngineError("Width and height must be given together.")
    if width is None and longest is not None:
        size = max(right - left, top - bottom) / longest
        width = max(round((right - left) / size), 1)
        height = max(round((top - bottom) / size), 1)
    if width is not None and height is not None:
        if not (right > left and top > bottom):
            raise EngineError("The geometry has no area to scale.")
        target = Projection(
            base.crs,
            ((right - left) / width, 0.0, left, 0.0, -(top - bottom) / height, top),
        )
        window = Window(target, 0, 0, width, height)
    else:
        target = base if metres is None else base.at_scale(metres)
        if base.is_default and metres is not None:
            a, _, _, _, e, _ = target.transform
            target = Projection(base.crs, (abs(a), 0.0, 0.0, 0.0, -abs(e), 0.0))
        window = outline.window(target)
    clipped = clip_to(image, outline) if geometry is not None else image
    moved = target.translated(window.column, window.row)
    bands = [
        Band(b.id, b.type, moved, ReprojectNode(b, moved), 0, (window.width, window.height))
        for b in clipped.bands
    ]
    return clipped.with_bands(bands)


@function("Image.changeProj")
def change_projection(image: Image, before: Projection, after: Projection) -> Image:
    """Tell pixels of one projection to lie on the same pixels of another."""
    return image.with_bands(
        [b.computed(b.type, _RelocatedNode(b, before, after)) for b in image.bands]
    )


class _RelocatedNode(Node):
    """Its input read at the pixels of another projection that have the same numbers."""

    __slots__ = ("after", "before")

    def __init__(self, band: Band, before: Projection, after: Projection) -> None:
        super().__init__([band])
        self.before, self.after = before, after

    def compute(self, context: Context, window: Window) -> list[Pixels]:
        a, b, c, d, e, f = window.projection.transform
        if crs_of(window.projection.crs) != crs_of(self.after.crs):
            raise EngineError(
                f"The output must be in {self.after.crs}, the new projection.",
                function="Image.changeProj",
            )
        corner = self.after.to_pixels(c, f)
        right = self.after.to_pixels(c + a, f + d)
        below = self.after.to_pixels(c + b, f + e)
        points = [self.before.to_crs(*p) for p in (corner, right, below)]
        (x0, y0), (x1, y1), (x2, y2) = points
        source = Projection(self.before.crs, (x1 - x0, x2 - x0, x0, y1 - y0, y2 - y0, y0))
        moved = Window(source, window.column, window.row, window.width, window.height)
        return [context.read(self.inputs[0], moved)]


@function("Image.retile")
def retile(image: Image, size: int) -> Image:
    """Return the image: tiles are the emulator's own affair."""
    return image


@function("Image.translate")
def translate(image: Image, x: float, y: float, units: str, base: Projection | None) -> Image:
    """Move an image."""
    if units not in ("meters", "pixels"):
        raise EngineError(f"Unknown units '{units}': meters or pixels.")
    bands = []
    for b in image.bands:
        grid = base or b.projection
        dx, dy = x, y
        if units == "meters":
            dx, dy = x / grid.nominal_scale, y / grid.nominal_scale
            a, _, _, _, e, _ = grid.transform
            dx, dy = dx * math.copysign(1, a), dy * math.copysign(1, e)
        bands.append(b.computed(b.type, _MovedNode(b, grid, dx, dy)))
    return image.with_bands(bands)


class _MovedNode(Node):
    """Its input, looked up where it came from."""

    __slots__ = ("grid", "x", "y")

    def __init__(self, band: Band, grid: Projection, x: float, y: float) -> None:
        super().__init__([band])
        self.grid, self.x, self.y = grid, x, y

    def compute(self, context: Context, window: Window) -> list[Pixels]:
        change = self.grid.translated(self.x, self.y)
        dx = change.transform[2] - self.grid.transform[2]
        dy = change.transform[5] - self.grid.transform[5]
        if crs_of(self.grid.crs) != crs_of(window.projection.crs):
            raise EngineError(
                "An image can be translated only in the coordinate system of the output.",
                function="Image.translate",
            )
        a, b, c, d, e, f = window.projection.transform
        back = Projection(window.projection.crs, (a, b, c - dx, d, e, f - dy))
        moved = Window(back, window.column, window.row, window.width, window.height)
        return [context.read(self.inputs[0], moved)]


def whole(values: list[float]) -> list[int | float]:
    """Return whole floats as integers."""
    return [plain(v) for v in values]
