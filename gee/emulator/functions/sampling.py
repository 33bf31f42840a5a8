"""Points drawn from images and regions.

Drawn by numbers that depend on place and seed alone: the same request gives the same points.
Earth Engine's own draws for a seed are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely

from ..errors import EngineError
from ..geometry import Geometry
from ..image import Element, Image
from ..projection import Projection, transformer
from ..values import Collection, Feature, geometry_of
from .regions import Sampled, _region, region_pixels, target_projection
from .registry import function
from .sources import hashed

__all__: list[str] = []


def _usable(part: Sampled, drop: bool) -> np.ndarray[Any, Any]:
    """Rows whose centre is inside; without nulls unless they are kept."""
    keep = part.inside.copy()
    if drop:
        for mask in part.masks:
            keep &= mask > 0
    return keep


def _points(
    projection: Projection, columns: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]
) -> list[Geometry]:
    x, y = projection.to_crs(columns + 0.5, rows + 0.5)
    lon, lat = transformer(projection.crs, "EPSG:4326").transform(x, y)
    return [
        Geometry(shapely.Point(a, b))
        for a, b in zip(np.atleast_1d(lon), np.atleast_1d(lat), strict=True)
    ]


def _table(
    image: Image, region: Geometry, projection: Projection, evaluator: Any, drop: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[Any], list[Any]]:
    rows, columns = [], []
    values: list[list[Any]] = [[] for _ in image.bands]
    masks: list[list[Any]] = [[] for _ in image.bands]
    for part in region_pixels(image, region, projection, evaluator.limits):
        keep = _usable(part, drop)
        rows.append(part.rows[keep])
        columns.append(part.columns[keep])
        for k in range(len(image.bands)):
            values[k].append(part.values[k][keep])
            masks[k].append(part.masks[k][keep])

    def joined(parts: list[Any]) -> Any:
        return np.concatenate(parts) if parts else np.empty(0)

    found_rows, found_columns = joined(rows).astype(np.int64), joined(columns).astype(np.int64)
    # In the order of rows, however the region was cut into tiles.
    order = np.lexsort((found_columns, found_rows))
    return (
        found_rows[order],
        found_columns[order],
        [joined(v)[order] for v in values],
        [joined(m)[order] for m in masks],
    )


def _features(
    image: Image,
    projection: Projection,
    rows: Any,
    columns: Any,
    values: Any,
    masks: Any,
    geometries: bool,
) -> list[Element]:
    points = _points(projection, columns, rows) if geometries and len(rows) else []
    out: list[Element] = []
    for k in range(len(rows)):
        properties = {
            b.id: v[k].item()
            for b, v, m in zip(image.bands, values, masks, strict=True)
            if m[k] > 0
        }
        properties["system:index"] = str(k)
        out.append(Feature(points[k] if geometries else None, properties))
    return out


@function("Image.sample", evaluator=True)
def sample(
    evaluator: Any,
    image: Image,
    region: Geometry | None,
    scale: float | None,
    projection: Projection | None,
    factor: float | None,
    count: int | None,
    seed: int,
    drop: bool,
    tile_scale: float,
    geometries: bool,
) -> Collection:
    """Draw pixels of a region: a share of them, about so many, or all."""
    if factor is not None and count is not None:
        raise EngineError("Only one of 'factor' and 'numPixels' may be specified.")
    area = _region(image, region)
    lattice = target_projection(image, projection, None, scale)

    def source() -> list[Element]:
        rows, columns, values, masks = _table(image, area, lattice, evaluator, drop)
        draws = hashed(columns, rows, seed)
        if factor is not None:
            keep = np.nonzero(draws < factor)[0]
        elif count is not None:
            keep = np.sort(np.argsort(draws, kind="stable")[:count])
        else:
            keep = np.arange(len(rows))
        return _features(
            image, lattice, rows[keep], columns[keep], [v[keep] for v in values],
            [m[keep] for m in masks], geometries,
        )  # fmt: skip

    return Collection(source)


@function("Image.stratifiedSample", evaluator=True)
def stratified_sample(
    evaluator: Any,
    image: Image,
    count: int,
    class_band: str | None,
    region: Geometry | None,
    scale: float | None,
    projection: Projection | None,
    seed: int,
    class_values: list[int] | None,
    class_points: list[int] | None,
    drop: bool,
    tile_scale: float,
    geometries: bool,
) -> Collection:
    """Draw so many pixels of every class."""
    area = _region(image, region)
    lattice = target_projection(image, projection, None, scale)
    place = 0 if class_band is None else image.names.index(image.band(class_band).id)
    if not image.bands[place].type.is_int:
        raise EngineError("The class band must be of an integer type.")
    if (class_values is None) != (class_points is None) or (
        class_values is not None and len(class_values) != len(class_points or ())
    ):
        raise EngineError("classValues and classPoints must be lists of one length.")

    def source() -> list[Element]:
        rows, columns, values, masks = _table(image, area, lattice, evaluator, drop)
        ok = masks[place] > 0
        classes = values[place]
        wanted = {int(c): count for c in np.unique(classes[ok])}
        for value, points in zip(class_values or (), class_points or (), strict=True):
            wanted[int(value)] = points
        draws = hashed(columns, rows, seed)
        order = np.argsort(draws, kind="stable")
        keep = []
        for value, points in sorted(wanted.items()):
            keep.append(order[(classes[order] == value) & ok[order]][:points])
        chosen = np.concatenate(keep) if keep else np.empty(0, np.int64)
        return _features(
            image, lattice, rows[chosen], columns[chosen], [v[chosen] for v in values],
            [m[chosen] for m in masks], geometries,
        )  # fmt: skip

    return Collection(source)


@function("Image.sampleRegions", evaluator=True)
def sample_regions(
    evaluator: Any,
    image: Image,
    items: Collection,
    properties: list[str] | None,
    scale: float | None,
    projection: Projection | None,
    tile_scale: float,
    geometries: bool,
) -> Collection:
    """Return the pixels of every feature as features that keep its properties."""
    lattice = target_projection(image, projection, None, scale)

    def source() -> Iterator[Element]:
        for number, item in enumerate(items):
            shape = geometry_of(item)
            if shape is None or shape.shape.is_empty:
                continue
            names = properties
            if names is None:
                names = [k for k in item.properties if not k.startswith("system:")]
            kept = {k: item.properties[k] for k in names if item.properties.get(k) is not None}
            index = item.properties.get("system:index", str(number))
            found = _table(image, shape, lattice, evaluator, True)
            for place, made in enumerate(_features(image, lattice, *found, geometries)):
                assert isinstance(made, Feature)
                yield Feature(
                    made.geometry,
                    {**kept, **made.properties, "system:index": f"{index}_{place}"},
                )

    return Collection(source)


@function("FeatureCollection.randomPoints")
def random_points(region: Geometry, count: int, seed: int, margin: Any) -> Collection:
    """Draw points evenly by area in a region."""

    def source() -> list[Element]:
        shape = region.in_crs("EPSG:4326")
        left, bottom, right, top = shape.bounds
        random = np.random.default_rng(seed % 2**64)
        low, high = np.sin(np.radians([bottom, top]))
        points: list[Any] = []
        shapely.prepare(shape)
        for _ in range(10_000):
            if len(points) >= count:
                break
            lon = random.uniform(left, right, 1024)
            lat = np.degrees(np.arcsin(random.uniform(low, high, 1024)))
            ok = shapely.contains_xy(shape, lon, lat)
            points += list(zip(lon[ok], lat[ok], strict=True))
        return [
            Feature(Geometry(shapely.Point(*p)), {"system:index": str(k)})
            for k, p in enumerate(points[:count])
        ]

    return Collection(source)
