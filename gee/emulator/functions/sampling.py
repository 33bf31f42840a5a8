"""Points drawn from images and regions.

Drawn by numbers that depend on place and seed alone: the same request gives the same points.
Earth Engine's own draws for a seed are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from ..accumulators import memory_exceeded
from ..budget import reserve, steps, tick
from ..cells import concatenated
from ..errors import EngineError
from ..geometry import Geometry
from ..image import Element, Image
from ..pixels import Array, Limits
from ..projection import Projection, transformer
from ..reducers import scalar
from ..values import Collection, Feature, geometry_of
from .regions import _region, region_pixels, target_projection
from .registry import function
from .sources import hashed

__all__: list[str] = []

# Points tried before a region counts as too thin to draw from its box.
_MOST_DRAWN = 5_000_000


@dataclass
class _Drawn:
    """Pixels of a region in the order of their rows, however it was cut into tiles."""

    rows: Array
    columns: Array
    values: list[Array]
    valid: list[Array]

    def __len__(self) -> int:
        return len(self.rows)

    def taken(self, keep: Array) -> _Drawn:
        """Return the pixels of an index or a mask."""
        return _Drawn(
            self.rows[keep], self.columns[keep],
            [v[keep] for v in self.values], [m[keep] for m in self.valid],
        )  # fmt: skip

    def joined(self, other: _Drawn) -> _Drawn:
        """Return these pixels and others."""
        both = concatenated
        return _Drawn(
            both([self.rows, other.rows]), both([self.columns, other.columns]),
            [both(pair) for pair in zip(self.values, other.values, strict=True)],
            [both(pair) for pair in zip(self.valid, other.valid, strict=True)],
        )  # fmt: skip

    def ordered(self) -> _Drawn:
        """Return the pixels row by row."""
        return self.taken(np.lexsort((self.columns, self.rows)))


def _most(image: Image, limits: Limits) -> int:
    """Return how many features with the bands of an image may be held."""
    # A feature is a Python object: as large as the values of several pixels, plus its own.
    return max(limits.rows // (len(image.bands) + 6), 1)


def _points(projection: Projection, columns: Array, rows: Array) -> list[Geometry]:
    x, y = projection.to_crs(columns + 0.5, rows + 0.5)
    lon, lat = transformer(projection.crs, "EPSG:4326").transform(x, y)
    return [
        Geometry(shapely.Point(a, b))
        for a, b in zip(np.atleast_1d(lon), np.atleast_1d(lat), strict=True)
    ]


def _drawn(
    image: Image,
    region: Geometry,
    projection: Projection,
    limits: Limits,
    drop: bool,
    keep: Callable[[_Drawn], Array] | None = None,
    most: int | None = None,
) -> _Drawn:
    """Return the pixels of a region whose centre is inside, or those of them that are drawn.

    Parameters
    ----------
    drop : bool
        Without the pixels that have a masked band.
    keep : function, optional
        Draws from pixels: their indices. It is asked tile after tile, again with what was kept
        so far, so what is not drawn from a part must not be drawn from the whole either.
    most : int, optional
        Pixels that may be held.

    Raises
    ------
    LimitError
        More are to be held.
    """
    most = _most(image, limits) if most is None else most
    held: _Drawn | None = None
    waiting: list[_Drawn] = []
    waits = 0

    def settle() -> None:
        nonlocal held, waiting, waits
        for found in waiting:
            held = found if held is None else held.joined(found)
        if held is not None and keep is not None:
            held = held.ordered()
            held = held.taken(keep(held))
        waiting, waits = [], 0
        if held is not None and len(held) > most:
            raise memory_exceeded()

    for part in region_pixels(image, region, projection, limits):
        usable = part.inside.copy()
        if drop:
            for mask in part.masks:
                usable &= mask > 0
        found = _Drawn(
            part.rows[usable].astype(np.int64), part.columns[usable].astype(np.int64),
            [v[usable] for v in part.values], [m[usable] > 0 for m in part.masks],
        )  # fmt: skip
        if keep is not None:
            found = found.taken(keep(found))
        waiting.append(found)
        waits += len(found)
        if waits > min(most, 65_536):
            settle()
    settle()
    if held is None:
        nothing: list[Array] = [np.empty(0) for _ in image.bands]
        none = np.empty(0, np.int64)
        return _Drawn(none, none, nothing, nothing)
    return held.ordered()


def _features(
    image: Image, projection: Projection, drawn: _Drawn, geometries: bool
) -> Iterator[Feature]:
    points = _points(projection, drawn.columns, drawn.rows) if geometries and len(drawn) else []
    names = [b.id for b in image.bands]
    for k in range(len(drawn)):
        properties = {
            name: scalar(v[k])
            for name, v, m in zip(names, drawn.values, drawn.valid, strict=True)
            if m[k]
        }
        properties["system:index"] = str(k)
        yield Feature(points[k] if geometries else None, properties)


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

    def keep(found: _Drawn) -> Array:
        draws = hashed(found.columns, found.rows, seed)
        if factor is not None:
            return np.nonzero(draws < factor)[0]
        return np.sort(np.argsort(draws, kind="stable")[:count])

    def source() -> Iterator[Element]:
        every = factor is None and count is None
        drawn = _drawn(image, area, lattice, evaluator.limits, drop, None if every else keep)
        yield from _features(image, lattice, drawn, geometries)

    # The property that Classifier.train and Clusterer.train read ([A]).
    return Collection(source, properties={"band_order": image.names})


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

    wanted = {int(v): int(n) for v, n in zip(class_values or (), class_points or (), strict=True)}

    def keep(found: _Drawn) -> Array:
        """Take the first draws of every class, class after class."""
        ok = np.nonzero(found.valid[place])[0]
        classes = found.values[place][ok]
        draws = hashed(found.columns[ok], found.rows[ok], seed)
        order = np.lexsort((draws, classes))
        ordered = classes[order]
        if not len(order):
            return np.empty(0, np.int64)
        starts = np.nonzero(np.r_[True, ordered[1:] != ordered[:-1]])[0]
        ends = [*starts[1:], len(order)]
        chosen = [
            order[start : min(end, start + wanted.get(int(ordered[start]), count))]
            for start, end in zip(starts, ends, strict=True)
        ]
        return ok[np.concatenate(chosen)]

    def source() -> Iterator[Element]:
        drawn = _drawn(image, area, lattice, evaluator.limits, drop, keep)
        yield from _features(image, lattice, drawn.taken(keep(drawn)), geometries)

    return Collection(source, properties={"band_order": image.names})


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
        left = _most(image, evaluator.limits)
        for number, item in enumerate(items):
            shape = geometry_of(item)
            if shape is None or shape.shape.is_empty:
                continue
            names = properties
            if names is None:
                names = [k for k in item.properties if not k.startswith("system:")]
            kept = {k: item.properties[k] for k in names if item.properties.get(k) is not None}
            index = item.properties.get("system:index", str(number))
            found = _drawn(image, shape, lattice, evaluator.limits, True, most=left)
            left -= len(found)
            for place, made in enumerate(_features(image, lattice, found, geometries)):
                yield Feature(
                    made.geometry,
                    {**kept, **made.properties, "system:index": f"{index}_{place}"},
                )

    return Collection(source, properties={"band_order": image.names})


@function("FeatureCollection.randomPoints")
def random_points(region: Geometry, count: int, seed: int, margin: Any) -> Collection:
    """Draw points evenly in a region: by area, along lines, or among points ([A])."""
    if count < 0:
        raise EngineError(f"The number of points must not be negative, not {count}.")
    reserve(count, 1000)

    def source() -> list[Element]:
        random = np.random.default_rng(seed % 2**64)
        points = _scattered(region.in_crs("EPSG:4326"), count, random) if count else []
        return [
            Feature(Geometry(point), {"system:index": str(k)})
            for k, point in enumerate(steps(points))
        ]

    return Collection(source)


def _scattered(shape: Any, count: int, random: np.random.Generator) -> Any:
    """Return points at random, evenly over the parts of a shape with the most dimensions."""
    if shape.is_empty:
        raise EngineError("The region is empty: no points can be drawn in it.")
    parts = shapely.get_parts(shape)
    while any(p.geom_type == "GeometryCollection" for p in parts):
        parts = shapely.get_parts(parts)
    flat = shapely.get_dimensions(parts)
    parts = parts[flat == flat.max()]
    if flat.max() == 0:
        return parts[random.integers(0, len(parts), count)]
    if flat.max() == 1:
        length = shapely.length(parts)
        if not length.sum() > 0:
            return shapely.points(shapely.get_coordinates(parts)[:1].repeat(count, axis=0))
        chosen = random.choice(len(parts), count, p=length / length.sum())
        return shapely.line_interpolate_point(
            parts[chosen], random.uniform(0, 1, count), normalized=True
        )
    whole = shapely.union_all(parts)
    if not whole.area > 0:
        raise EngineError("The region has no area: no points can be drawn in it.")
    left, bottom, right, top = whole.bounds
    low, high = np.sin(np.radians([bottom, top]))
    places: list[Any] = []
    shapely.prepare(whole)
    missing, drawn = count, 0
    while missing > 0:
        tick()
        if drawn > _MOST_DRAWN + 100 * count:
            raise EngineError("The region is too thin for its bounds: draw points in its parts.")
        many = min(max(1024, missing), 65_536)
        lon = random.uniform(left, right, many)
        lat = np.degrees(np.arcsin(random.uniform(low, high, many)))
        ok = shapely.contains_xy(whole, lon, lat)
        places.append(shapely.points(lon[ok], lat[ok]))
        missing -= int(ok.sum())
        drawn += many
    return np.concatenate(places)[:count]
