"""Reducing the pixels of a region."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import shapely

from ..accumulators import accumulator
from ..budget import steps
from ..cells import cell
from ..errors import EngineError
from ..geometry import Geometry, covered, fractions
from ..image import Element, Image
from ..kernels import valid, weights_of
from ..pixels import Array, Limits, compute_pixels
from ..projection import Projection, Window, transformer
from ..reducers import Reducer, scalar, unweighted
from ..values import Collection, Feature, geometry_of
from .registry import function

__all__ = ["Sampled", "region_pixels", "target_projection"]

# [D] reducers_reduce_region: pixels with at least about 0.5 % of their area inside count.
_LEAST = 0.005
_MOST_VALUES = 1_048_576  # of getRegion
_INVALID = (
    "The default WGS84 projection is invalid for aggregations. Specify a scale or crs & "
    "crs_transform."
)


def target_projection(
    image: Image,
    crs: Projection | None,
    transform: list[float] | None,
    scale: float | None,
) -> Projection:
    """Return the projection to aggregate in (guides/reducers_reduce_region).

    Raises
    ------
    EngineError
        The image is a composite, whose one-degree pixels say nothing, and none is given.
    """
    if not image.bands:
        raise EngineError("The image has no bands.")
    if transform and scale is not None:
        raise EngineError("Cannot specify both crsTransform and scale.")
    base = image.bands[0].projection if crs is None else crs
    if transform:
        return Projection(base.crs, tuple(transform))  # type: ignore[arg-type]
    if scale is not None:
        made = base.at_scale(scale)
        return made
    if crs is None and base.is_default:
        raise EngineError(_INVALID)
    return base


@dataclass
class Sampled:
    """Pixels of a region: one row per pixel with a weight above 0.

    Attributes
    ----------
    values : list of arrays, one per band
    masks : list of float arrays, one per band
    share : float array
        How much of the pixel is inside.
    inside : bool array
        Whether the centre is inside.
    rows, columns : int arrays
        Place on the lattice.
    """

    values: list[Array]
    masks: list[Array]
    share: Array
    inside: Array
    rows: Array
    columns: Array


def region_pixels(
    image: Image, geometry: Geometry, projection: Projection, limits: Limits
) -> Iterator[Sampled]:
    """Yield the pixels of a region, tile by tile."""
    made = geometry.in_pixels(projection)
    shapely.prepare(made)
    window = geometry.window(projection)
    names = image.names
    for row0, row1, column0, column1, tile in compute_pixels(image, window, names, limits):
        part = window.part(row0, column0, row1 - row0, column1 - column0)
        extent = shapely.box(
            part.column, part.row, part.column + part.width, part.row + part.height
        )
        if made.covers(extent):
            # Inside lies most of a large region: nothing to cut, nothing to pick.
            rows, columns = np.divmod(np.arange(part.width * part.height), part.width)
            whole = np.ones(rows.shape, np.float32)
            yield Sampled(
                [tile[n][0].ravel() for n in names],
                [weights_of(tile[n][1], part.shape).ravel() for n in names],
                whole,
                whole > 0,
                rows + part.row,
                columns + part.column,
            )
            continue
        share = fractions(made, part)
        inside = covered(made, part)
        take = (share >= _LEAST) | inside
        if not take.any():
            continue
        rows, columns = np.nonzero(take)
        yield Sampled(
            [tile[n][0][take] for n in names],
            [weights_of(tile[n][1], part.shape)[take] for n in names],
            share[take],
            inside[take],
            rows + part.row,
            columns + part.column,
        )


def _region(image: Image, geometry: Geometry | None) -> Geometry:
    if geometry is not None:
        if not geometry.unbounded:
            return geometry
    elif image.footprint is not None:
        return image.footprint
    raise EngineError("Geometry is unbounded: specify a bounded region to reduce.")


def _fitted(
    geometry: Geometry, projection: Projection, most: int, best: bool
) -> tuple[Projection, Window]:
    window = geometry.window(projection)
    count = window.width * window.height
    # The bounding box bounds the count; the area is closer for what is no box.
    if count > most:
        area = geometry.in_pixels(projection).area
        count = min(count, math.ceil(area) + 2 * (window.width + window.height))
    if count <= most:
        return projection, window
    if not best:
        raise EngineError(
            f"Too many pixels in the region. Found {count}, but maxPixels allows only {most}.\n"
            "Ensure that you are not aggregating at a higher resolution than you intended; that "
            "is the most frequent cause of this error. If not, then you may set the 'maxPixels' "
            "argument to a limit suitable for your computation; set 'bestEffort' to true to "
            "aggregate at whatever scale results in 'maxPixels' total pixels; or both."
        )
    while count > most:
        projection = projection.scaled(max(math.sqrt(count / most), 1.0001))
        window = geometry.window(projection)
        count = window.width * window.height
    return projection, window


def _rows(part: Sampled, group: Sequence[int]) -> tuple[list[Array], Array, Array]:
    """Return values, weights and whether the centre is inside, where all bands are valid."""
    mask = part.masks[group[0]]
    for band in group[1:]:
        mask = np.minimum(mask, part.masks[band])
    weights = mask * np.where(part.share > 0, part.share, 1)
    ok = mask > 0
    if ok.all():
        return [part.values[band] for band in group], weights, part.inside
    return [part.values[band][ok] for band in group], weights[ok], part.inside[ok]


def _reduce(
    image: Image, parts: Callable[[], Iterator[Sampled]], reducer: Reducer, limits: Limits
) -> tuple[list[list[Any]], bool]:
    """Return the outputs per group of bands, and whether groups are single bands.

    ``parts`` is called once for every pass over the pixels that the reducer needs.
    """
    single = reducer.inputs == 1
    n = len(image.bands)
    if not single and reducer.inputs != n:
        raise EngineError(f"Need {reducer.inputs} bands for the reducer's inputs, got {n}.")
    groups = [[i] for i in range(n)] if single else [list(range(n))]
    for group in groups:
        reducer.check([image.bands[i].type for i in group])
    made = [accumulator(reducer, max(limits.rows // len(groups), 1)) for _ in groups]
    again = True
    while again:
        for part in parts():
            for group, one in zip(groups, made, strict=True):
                one.add(*_rows(part, group))
        again = any([one.again() for one in made])
    return [one.result() for one in made], single


def named(
    image: Image, reducer: Reducer, outputs: list[list[Any]], single: bool, feature: bool
) -> dict[str, Any]:
    """Return reduced values under the names that Earth Engine gives them."""
    if not single:
        return dict(zip(reducer.outputs, outputs[0], strict=True))
    if feature and len(image.bands) == 1:
        return dict(zip(reducer.outputs, outputs[0], strict=True))
    found = {}
    for band, values in zip(image.bands, outputs, strict=True):
        for name, value in zip(reducer.outputs, values, strict=True):
            key = band.id if len(reducer.outputs) == 1 else f"{band.id}_{name}"
            found[key] = value
    return found


@function("Image.reduceRegion", evaluator=True)
def reduce_region(
    evaluator: Any,
    image: Image,
    reducer: Reducer,
    geometry: Geometry | None,
    scale: float | None,
    crs: Projection | None,
    transform: list[float] | None,
    best: bool,
    most: int,
    tile_scale: float,
) -> dict[str, Any]:
    """Reduce the pixels of a region.

    Weighted reducers count a pixel by mask times the share inside; the others count pixels
    whose centre is inside (guides/reducers_reduce_region).
    """
    region = _region(image, geometry)
    limits: Limits = evaluator.limits
    if region.shape.is_empty:
        outputs, single = _reduce(image, lambda: iter(()), reducer, limits)
    else:
        projection = target_projection(image, crs, transform, scale)
        projection, _ = _fitted(region, projection, most, best)
        outputs, single = _reduce(
            image, lambda: region_pixels(image, region, projection, limits), reducer, limits
        )
    return named(image, reducer, outputs, single, feature=False)


@function("Image.reduceRegions", evaluator=True)
def reduce_regions(
    evaluator: Any,
    image: Image,
    items: Collection,
    reducer: Reducer,
    scale: float | None,
    crs: Projection | None,
    transform: list[float] | None,
    tile_scale: float,
    most: int | None,
) -> Collection:
    """Add reduced values to every feature."""
    projection = target_projection(image, crs, transform, scale)
    limits: Limits = evaluator.limits

    def source() -> Iterator[Element]:
        for item in items:
            shape = geometry_of(item)
            values: dict[str, Any] = {}
            if shape is not None and not shape.shape.is_empty:
                parts = partial(region_pixels, image, shape, projection, limits)
                outputs, single = _reduce(image, parts, reducer, limits)
                values = named(image, reducer, outputs, single, feature=True)
            kept = {k: v for k, v in values.items() if v is not None}
            yield Feature(shape, {**item.properties, **kept})

    return items.over(source, items.size)


@function("ImageCollection.getRegion", evaluator=True)
def get_region(
    evaluator: Any,
    items: Collection,
    geometry: Geometry,
    scale: float | None,
    crs: Projection,
    transform: list[float] | None,
) -> list[list[Any]]:
    """Return a table of pixel values: id, longitude, latitude, time and bands."""
    images = items.images()
    if not images:
        return []
    names = images[0].names
    projection = Projection.combine(crs, transform, scale)
    assert projection is not None
    if projection.is_default:
        raise EngineError(_INVALID)
    _check_values(geometry, projection, len(names), len(images))
    table: list[list[Any]] = [["id", "longitude", "latitude", "time", *names]]
    for number, image in enumerate(images):
        index = image.properties.get("system:index", str(number))
        start = image.properties.get("system:time_start")
        for part in region_pixels(image, geometry, projection, evaluator.limits):
            places = np.nonzero(part.inside)[0]
            x, y = projection.to_crs(part.columns[places] + 0.5, part.rows[places] + 0.5)
            lons, lats = transformer(projection.crs, "EPSG:4326").transform(x, y)
            for k, lon, lat in zip(steps(places), lons, lats, strict=True):
                values = [
                    scalar(v[k]) if m[k] > 0 else None
                    for v, m in zip(part.values, part.masks, strict=True)
                ]
                table.append([index, float(lon), float(lat), start, *values])
    return table


def _check_values(geometry: Geometry, projection: Projection, bands: int, images: int) -> None:
    """Refuse a table of too many values, before a pixel is computed."""
    window = geometry.window(projection)
    made = geometry.in_pixels(projection)
    large = window.width * window.height > 2**22
    points = math.ceil(made.area) if large else int(covered(made, window).sum())
    if points * bands * images > _MOST_VALUES:
        raise EngineError(
            f"Too many values: {points} points x {bands} bands x {images} images > {_MOST_VALUES}."
        )


@function("Image.sampleRectangle", evaluator=True)
def sample_rectangle(
    evaluator: Any,
    image: Image,
    region: Geometry | None,
    properties: list[str] | None,
    default: float | None,
    default_array: Any,
) -> Feature:
    """Return the pixels of a rectangle as array properties."""
    from ..values import Array as ArrayValue

    area = _region(image, region)
    projection = image.projection
    if projection.is_default:
        raise EngineError(_INVALID)
    window = area.window(projection)
    if window.width * window.height > 262_144:
        raise EngineError(
            f"Too many pixels in sample; must be <= 262144. Got {window.width * window.height}."
        )
    from ..pixels import render

    found: dict[str, Any] = {}
    for name, (data, mask) in render(image, window, None, evaluator.limits).items():
        ok = valid(mask)
        if image.band(name).type.dimensions:
            found[name] = _array_rectangle(name, data, ok, default_array)
            continue
        if ok is not None and not ok.all():
            if default is None:
                raise EngineError(f"Band '{name}' has masked pixels: set a default value.")
            data = np.where(ok, data, default)
        found[name] = ArrayValue(data)
    taken = {
        k: v
        for k, v in image.properties.items()
        if (properties is None and not k.startswith("system:")) or (properties and k in properties)
    }
    return Feature(area, {**taken, **found})


def _array_rectangle(name: str, data: Array, ok: Array | None, default: Any) -> Any:
    """Return a rectangle of array pixels as an array with their axes after rows and columns."""
    from ..values import Array as ArrayValue

    valid_ = np.ones(data.shape, bool) if ok is None else np.broadcast_to(ok, data.shape)
    if not valid_.all() and default is None:
        raise EngineError(f"Band '{name}' has masked pixels: set a default array value.")
    cells = [
        np.asarray(cell(value) if good else default.values)
        for value, good in zip(data.ravel(), valid_.ravel(), strict=True)
    ]
    if any(c.shape != cells[0].shape for c in cells[1:]):
        raise EngineError(f"The arrays of band '{name}' differ in their lengths.")
    return ArrayValue(np.stack(cells).reshape(*data.shape, *cells[0].shape))


def plain(reducer: Reducer) -> Reducer:
    """Return the reducer without weights."""
    return unweighted(reducer)
