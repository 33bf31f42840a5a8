"""Vectors to pixels and pixels to vectors."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from shapely.affinity import translate

from .. import kernels
from ..errors import EngineError
from ..geometry import Geometry, covered, polygons
from ..image import Element, Image, WindowNode
from ..pixels import Array, Band, Pixels, render
from ..projection import WGS84, Projection, Window, transformer
from ..reducers import Reducer, named_reducer, renamed
from ..types import BYTE, DOUBLE, PixelType
from ..values import Collection, Feature, geometry_of
from .registry import function

__all__: list[str] = []


def _shapes(items: Collection) -> list[tuple[Geometry, Element]]:
    return [(g, i) for i in items if (g := geometry_of(i)) is not None and not g.shape.is_empty]


class _Index:
    """Shapes in pixels of a lattice, found by window."""

    def __init__(self, shapes: Sequence[Geometry]) -> None:
        self.shapes = shapes
        self._known: tuple[Projection, list[Any], Any] | None = None

    def near(self, window: Window, margin: float = 0.0) -> list[tuple[int, Any]]:
        """Return (number, shape in pixels) of the shapes that may touch a window, in order."""
        known = self._known
        if known is None or known[0] != window.projection:
            made = [g.in_pixels(window.projection) for g in self.shapes]
            known = (window.projection, made, shapely.STRtree(made))
            self._known = known
        turn = window.projection.turn
        found = []
        # Longitudes repeat: a shape may come again a turn away.
        for away in (0.0,) if turn is None else (0.0, -turn, turn):
            left = window.column - margin - away
            box = shapely.box(
                left, window.row - margin,
                left + window.width + 2 * margin, window.row + window.height + margin,
            )  # fmt: skip
            for number in known[2].query(box):
                shape = known[1][int(number)]
                found.append((int(number), translate(shape, away) if away else shape))
        return sorted(found, key=lambda pair: pair[0])


def _per_feature(value: Any, items: Sequence[Element]) -> list[float | None]:
    if value is None or isinstance(value, (int, float)):
        return [value] * len(items)
    if isinstance(value, str):
        out: list[float | None] = []
        for item in items:
            found = item.properties.get(value)
            if not isinstance(found, (int, float)):
                raise EngineError(f"Property '{value}' of a feature is not a number.")
            out.append(float(found) if not isinstance(found, int) else found)
        return out
    raise EngineError(f"Expected a number or a property name, not {reprlib.repr(value)}.")


@function("Image.paint")
def paint(image: Image, items: Collection, colour: Any, width: Any) -> Image:
    """Paint geometries: pixels whose centre is inside, or lines so many pixels wide ([A])."""
    pairs = _shapes(items)
    index = _Index([g for g, _ in pairs])
    elements = [i for _, i in pairs]
    values, widths = _per_feature(colour, elements), _per_feature(width, elements)
    numbers = [v for v in values if v is not None]

    def painter(kind: PixelType) -> Any:
        def compute(window: Window, under: Pixels) -> list[Pixels]:
            data = np.broadcast_to(under.data, window.shape).astype(kind.dtype)
            mask = under.mask
            touched = np.zeros(window.shape, bool)
            widest = max((w for w in widths if w is not None), default=0)
            for number, shape in index.near(window, widest):
                line = widths[number]
                if line is None:
                    on = covered(shape, window)
                else:
                    outline = shape.boundary if polygons(shape) else shape
                    on = covered(outline.buffer(max(line, 1) / 2, cap_style="flat"), window)
                    on |= covered(outline, window) if line <= 1 else False
                data[on] = values[number]
                touched |= on
            if mask is not None and touched.any():
                # Painted pixels keep the mask that the image has there.
                mask = np.broadcast_to(mask, window.shape)
            return [Pixels(data, mask)]

        return compute

    bands = []
    for b in image.bands:
        kind = b.type
        for v in numbers:
            kind = kind.union(PixelType.of_number(v))
        if b.type.is_int and not kind.is_int and all(float(v).is_integer() for v in numbers):
            kind = b.type
            for v in numbers:
                kind = kind.union(PixelType.of_number(int(v)))
        bands.append(b.computed(kind, WindowNode(painter(kind), [b])))
    return image.with_bands(bands)


@function("Collection.reduceToImage")
def reduce_to_image(items: Collection, properties: list[str], reducer: Reducer) -> Image:
    """Reduce properties of all features that cover a pixel's centre."""
    if len(properties) != reducer.inputs:
        raise EngineError(
            f"Need {reducer.inputs} properties for the reducer's inputs, got {len(properties)}."
        )
    pairs = [
        (g, i)
        for g, i in _shapes(items)
        if all(isinstance(i.properties.get(p), (int, float)) for p in properties)
    ]
    index = _Index([g for g, _ in pairs])
    columns = [[float(i.properties[p]) for _, i in pairs] for p in properties]
    if reducer.name in ("first", "last"):
        # A feature that does not cover a pixel is no null input there: it is no input.
        reducer = renamed(named_reducer(f"{reducer.name}NonNull"), reducer.outputs)
    kinds = [DOUBLE] * reducer.inputs

    def compute(window: Window) -> list[Pixels]:
        fold = reducer.fold(kinds, window.shape)
        seen = np.zeros(window.shape, bool)
        for number, shape in index.near(window):
            on = covered(shape, window)
            if not on.any():
                continue
            seen |= on
            fold.add([Pixels(np.full((1, 1), column[number]), on) for column in columns])
        if not seen.any():
            return [Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool)) for _ in reducer.outputs]
        return [Pixels(p.data, kernels.both(p.mask, seen)) for p in fold.result()]

    node = WindowNode(compute)
    return Image(
        [
            Band(name, kind, WGS84, node, k)
            for k, (name, kind) in enumerate(
                zip(reducer.outputs, reducer.types(kinds), strict=True)
            )
        ]
    )


@function("Collection.distance")
def distance(items: Collection, radius: float, margin: float) -> Image:
    """Return metres to the nearest point, line or boundary; masked beyond the radius ([A])."""
    if not radius > 0:
        raise EngineError(f"searchRadius must be positive, not {radius:g}.")
    pairs = _shapes(items)
    parts: list[Geometry] = []
    for shape, _ in pairs:
        for part in shapely.get_parts(shape.lonlat()):
            parts.append(
                Geometry(part.boundary if part.geom_type == "Polygon" else part, "EPSG:4326",
                         shape.geodesic)
            )  # fmt: skip

    # A plane around each block keeps the Earth's distances to a part in 10^5; the same block
    # has the same plane in every window.
    laid: dict[str, Any] = {}

    def plane(block: Window) -> tuple[str, Any]:
        crs = _plane(block)
        if crs not in laid:
            if len(laid) > 64:
                laid.clear()
            laid[crs] = shapely.STRtree([g.in_crs(crs) for g in parts])
        return crs, laid[crs]

    def compute(window: Window) -> list[Pixels]:
        from .sources import lonlat_of

        if not parts:
            return [Pixels(np.zeros((1, 1)), np.zeros((1, 1), bool))]
        out = np.full(window.shape, np.inf)
        side = _PLANE
        while side > 8 and side * window.projection.nominal_scale > _WIDEST_PLANE:
            side //= 2
        for block, part in window.blocks(side):
            crs, tree = plane(block)
            lon, lat = (np.broadcast_to(v, part.shape) for v in lonlat_of(part))
            x, y = transformer("EPSG:4326", crs).transform(lon, lat)
            points = shapely.points(np.asarray(x).ravel(), np.asarray(y).ravel())
            found, far = tree.query_nearest(
                points, max_distance=radius, return_distance=True, all_matches=False
            )
            flat = np.full(part.width * part.height, np.inf)
            flat[found[0]] = far
            out[part.within(window)] = flat.reshape(part.shape)
        ok = np.isfinite(out)
        return [Pixels(np.where(ok, out, 0), ok)]

    return Image([Band("distance", DOUBLE, WGS84, WindowNode(compute))])


_PLANE = 512
_WIDEST_PLANE = 50_000.0  # metres


def _plane(block: Window) -> str:
    """Return an equidistant plane around the middle of a block."""
    from ..geometry import local_crs

    x, y = block.projection.to_crs(block.column + block.width / 2, block.row + block.height / 2)
    lon, lat = transformer(block.projection.crs, "EPSG:4326").transform(x, y)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return local_crs(0.0, 0.0)
    return local_crs(round(float(lon), 2), round(float(lat), 2))


def _outline(shape: Any, projection: Projection, native: bool) -> Geometry:
    placed = shapely.transform(
        shape, lambda xy: np.column_stack(projection.to_crs(xy[:, 0], xy[:, 1]))
    )
    if native:
        return Geometry(placed, projection.crs, False)
    path = transformer(projection.crs, "EPSG:4326")
    return Geometry(
        shapely.transform(placed, lambda xy: np.column_stack(path.transform(xy[:, 0], xy[:, 1]))),
        "EPSG:4326",
        False,
    )


@function("Image.reduceToVectors", "Image.reduceToVectorsStreaming", evaluator=True)
def reduce_to_vectors(
    evaluator: Any,
    image: Image,
    reducer: Reducer | None,
    geometry: Geometry | None,
    scale: float | None,
    kind: str,
    eight: bool,
    label: str | None,
    crs: Projection | None,
    transform: list[float] | None,
    best: bool,
    most: int,
    tile_scale: float,
    native: bool,
) -> Collection:
    """Return patches of equal pixels of the first band as polygons ([A])."""
    from rasterio.features import shapes

    from .connected import EIGHT, FOUR, labelled
    from .regions import _fitted, _region, target_projection

    if kind not in ("polygon", "bb", "centroid"):
        raise EngineError(f"Unknown geometryType '{kind}': polygon, bb or centroid.")
    region = _region(image, geometry)
    projection = target_projection(image, crs, transform, scale)
    projection, window = _fitted(region, projection, most, best)
    used = reducer or named_reducer("countEvery")
    bands = image.bands[1:]
    if reducer is not None and used.inputs not in (len(bands), 1) and used.name != "countEvery":
        raise EngineError(
            f"Need {used.inputs + 1} bands for the reducer's inputs, got {len(image.bands)}."
        )
    if not image.bands[0].type.is_int:
        raise EngineError("The first band must be of an integer type.")

    def source() -> list[Element]:
        # Patches reach anywhere, so the whole region is held at once.
        evaluator.limits.check(window.width, window.height)
        got = render(image, window, None, evaluator.limits)
        labels, mask = got[image.names[0]]
        on = np.asarray(mask > 0 if mask.dtype != bool else mask)
        made = region.in_pixels(projection)
        on = on & covered(made, window)
        if not on.any():
            return []
        patches, count = labelled(labels, on, EIGHT if eight else FOUR)
        outlines: dict[int, list[Any]] = {}
        for shape, number in shapes(
            patches.astype(np.int32), mask=on, connectivity=8 if eight else 4
        ):
            polygon = shapely.geometry.shape(shape)
            outlines.setdefault(int(number), []).append(polygon)
        flat = patches.ravel()
        order = np.argsort(flat, kind="stable")
        starts = np.searchsorted(flat[order], np.arange(1, count + 2))
        out: list[Element] = []
        corner = np.array([window.column, window.row])
        for number in range(1, count + 1):
            pixels = order[starts[number - 1] : starts[number]]
            rows, columns = np.divmod(pixels, window.width)
            drawn = _drawn(kind, outlines[number], rows, columns)
            drawn = shapely.transform(drawn, lambda xy: xy + corner)
            properties: dict[str, Any] = {}
            if label is not None:
                properties[label] = labels.ravel()[pixels[0]].item()
            properties |= _values(used, bands, got, pixels)
            properties["system:index"] = (
                f"{'+' if rows[0] + window.row >= 0 else ''}{rows[0] + window.row}"
                f"{'+' if columns[0] + window.column >= 0 else ''}{columns[0] + window.column}"
            )
            out.append(Feature(_outline(drawn, projection, native), properties))
        return out

    return Collection(source)


def _drawn(kind: str, parts: list[Any], rows: Array, columns: Array) -> Any:
    if kind == "centroid":
        return shapely.Point(columns.mean() + 0.5, rows.mean() + 0.5)
    if kind == "bb":
        return shapely.box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    made = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    # Pixels that touch at a corner make a ring that meets itself.
    return made if made.is_valid else shapely.make_valid(made)


def _values(
    reducer: Reducer, bands: Sequence[Band], got: dict[str, tuple[Array, Array]], pixels: Array
) -> dict[str, Any]:
    if reducer.name == "countEvery":
        return {"count": len(pixels)}
    columns = [got[b.id][0].ravel()[pixels] for b in bands]
    masks = [got[b.id][1].ravel()[pixels] > 0 for b in bands]
    if reducer.inputs == 1 and len(bands) != 1:
        if not bands:
            found = reducer.reduce([np.ones(len(pixels))])
            return dict(zip(reducer.outputs, found, strict=True))
        out: dict[str, Any] = {}
        for b, column, ok in zip(bands, columns, masks, strict=True):
            values = reducer.reduce([column[ok]])
            for name, value in zip(reducer.outputs, values, strict=True):
                out[b.id if len(reducer.outputs) == 1 else f"{b.id}_{name}"] = value
        return out
    ok = np.logical_and.reduce(masks)
    return dict(zip(reducer.outputs, reducer.reduce([c[ok] for c in columns]), strict=True))


# ------------------------------------------------------------------ pictures of vectors


@function("Collection.draw")
def draw(items: Collection, colour: str, point: int, line: int) -> Image:
    """Paint a collection in one colour."""
    return _styled(items, colour, float(line), None, float(point))


@function("Collection.style")
def style(
    items: Collection,
    colour: str,
    point: int,
    shape: str,
    width: float,
    fill: str | None,
    style_property: str | None,
    neighbourhood: int,
    line: str,
) -> Image:
    """Paint a collection: lines in a colour, areas in a fill."""
    return _styled(items, colour, width, fill, float(point), style_property)


def _rgba(text: str) -> tuple[int, int, int, float]:
    from .visual import colours

    raw = text.strip().lstrip("#")
    alpha = 1.0
    if len(raw) == 8 and all(c in "0123456789abcdefABCDEF" for c in raw):
        alpha = int(raw[6:], 16) / 255
    r, g, b = colours(text)[0]
    return int(r), int(g), int(b), alpha


def _styled(
    items: Collection,
    colour: str,
    width: float,
    fill: str | None,
    point: float,
    style_property: str | None = None,
) -> Image:
    pairs = _shapes(items)
    index = _Index([g for g, _ in pairs])
    looks = []
    for _, item in pairs:
        own = item.properties.get(style_property) if style_property else None
        own = own if isinstance(own, dict) else {}
        edge = _rgba(own.get("color", colour))
        inner = own.get("fillColor", fill)
        area = _rgba(inner) if inner else (*edge[:3], edge[3] * 0.66)
        looks.append(
            (edge, area, float(own.get("width", width)), float(own.get("pointSize", point)))
        )
    widest = max((max(look[2], look[3]) for look in looks), default=0.0)

    def compute(window: Window) -> list[Pixels]:
        rgb = np.zeros((3, *window.shape))
        alpha = np.zeros(window.shape)

        def lay(on: Array, look: tuple[int, int, int, float]) -> None:
            nonlocal alpha
            a = on * look[3]
            total = a + alpha * (1 - a)
            safe = np.where(total > 0, total, 1)
            for k in range(3):
                rgb[k] = (look[k] * a + rgb[k] * alpha * (1 - a)) / safe
            alpha = total

        for number, shape in index.near(window, widest + 1):
            edge, area, line, size = looks[number]
            if shape.geom_type in ("Point", "MultiPoint"):
                lay(covered(shape.buffer(size), window), edge)
                continue
            if polygons(shape):
                lay(covered(shape, window), area)
                shape = shape.boundary
            if line > 0:
                lay(covered(shape.buffer(line / 2), window), edge)
        mask = None if (alpha >= 1).all() else alpha.astype(np.float32)
        return [Pixels(np.round(rgb[k]).astype(np.uint8), mask) for k in range(3)]

    node = WindowNode(compute)
    names = ("vis-red", "vis-green", "vis-blue")
    return Image([Band(n, BYTE, WGS84, node, k) for k, n in enumerate(names)])
