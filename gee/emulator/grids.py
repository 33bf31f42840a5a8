"""The pixel grid of a request that names none, or only part of one."""

from __future__ import annotations

from typing import Any

from .errors import EngineError
from .geometry import Geometry, parse_geojson
from .image import Image
from .projection import PixelGrid, Projection

__all__ = ["default_grid"]


def default_grid(
    image: Image,
    region: Geometry | dict[str, Any] | None = None,
    scale: float | None = None,
    *,
    crs: str | None = None,
    transform: tuple[float, ...] | None = None,
    dimensions: tuple[int | None, int | None] | int | None = None,
) -> PixelGrid:
    """Return the grid of a request that names none, or only part of one.

    Parameters
    ----------
    image : Image
    region : Geometry or GeoJSON, optional
        The footprint of the image by default.
    scale : float, optional
        Metres; the first band's own by default.
    crs : str, optional
        The first band's by default.
    transform : 6 floats, optional
        Puts the pixels exactly; ``scale`` is then not used.
    dimensions : (width, height) or int, optional
        Fits the region into so many pixels; an int bounds the longer side.

    Returns
    -------
    PixelGrid

    Raises
    ------
    EngineError
        The image has no bounds and no region is given.
    """
    band = image.bands[0] if image.bands else None
    if band is None:
        raise EngineError("Image has no bands.")
    if (
        region is None and scale is None and crs is None and transform is None
        and dimensions is None and band.dimensions is not None
    ):  # fmt: skip
        moved = band.projection.translated(*band.origin)
        return PixelGrid(moved.crs, moved.transform, *band.dimensions)
    base = band.projection
    if crs is not None and crs != base.crs:
        base = Projection(crs)
        if scale is None and transform is None and not band.projection.is_default:
            base = base.at_scale(band.projection.nominal_scale)
            a, b, c, d, e, f = base.transform
            base = Projection(crs, (a, b, c, d, -abs(e), f))
    if isinstance(region, dict):
        region = parse_geojson(region)
    if region is None:
        region = image.footprint
        own = band.window
        if own is not None and crs in (None, band.projection.crs):
            left, bottom, right, top = own.bounds()
            import shapely

            region = Geometry(shapely.box(left, bottom, right, top), band.projection.crs, False)
    if region is None:
        raise EngineError("Unable to compute the region of an unbounded image: specify a region.")
    if transform is not None:
        base = Projection(base.crs, tuple(transform))  # type: ignore[arg-type]
    elif scale is not None:
        base = base.at_scale(scale)
        a, b, c, d, e, f = base.transform
        if band.projection.is_default or crs is not None:
            base = Projection(base.crs, (abs(a), b, 0.0, d, -abs(e), 0.0))
    elif dimensions is not None:
        return _fitted(region, base.crs, dimensions)
    elif base.is_default:
        a, b, c, d, e, f = base.transform
        base = Projection(base.crs, (a, b, c, d, -abs(e), f))
    window = region.window(base)
    moved = base.translated(window.column, window.row)
    return PixelGrid(moved.crs, moved.transform, window.width, window.height)


def _fitted(
    region: Geometry, crs: str, dimensions: tuple[int | None, int | None] | int
) -> PixelGrid:
    left, bottom, right, top = region.in_crs(crs).bounds
    wide, high = right - left, top - bottom
    if not (wide > 0 and high > 0):
        raise EngineError("The region has no area: its bounds cannot be fitted into pixels.")
    width: int | None
    height: int | None
    if isinstance(dimensions, int):
        size = max(wide, high) / dimensions
        width, height = max(round(wide / size), 1), max(round(high / size), 1)
    else:
        width, height = dimensions
        if width is None and height is None:
            raise EngineError("Dimensions must name a width or a height.")
        if width is None:
            width = max(round(wide / high * (height or 1)), 1)
        if height is None:
            height = max(round(high / wide * width), 1)
    return PixelGrid(crs, (wide / width, 0.0, left, 0.0, -high / height, top), width, height)
