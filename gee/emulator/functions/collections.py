"""Collections: loading order, mapping, choosing, aggregating, compositing."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..cells import concatenated
from ..errors import EngineError, LimitError, MapError
from ..geometry import Geometry, union_of
from ..image import Element, Image, masked_band, unique_names
from ..jsonvalues import text_key
from ..pixels import Band, Context, Node, Pixels
from ..projection import WGS84, Projection, Window
from ..reducers import Reducer, named_reducer, reduce_weighted
from ..types import PixelType
from ..values import (
    Collection,
    Date,
    ErrorMargin,
    Feature,
    Filter,
    Function,
    geometry_of,
    type_name,
)
from .registry import function

__all__ = ["compare_key", "mosaic", "reduce_images"]


# ------------------------------------------------------------------ order and choice


@function("Collection")
def collection(features: list[Element]) -> Collection:
    """Return a collection of features; those without an index get their number."""
    if features and all(isinstance(f, Image) for f in features):
        return Collection(list(features), "ImageCollection")
    return Collection(_indexed(features))


def _indexed(elements: Sequence[Element]) -> list[Element]:
    return [
        e
        if "system:index" in e.properties
        else e.replaced({**e.properties, "system:index": str(number)})
        for number, e in enumerate(elements)
    ]


@function("ImageCollection.fromImages")
def from_images(images: list[Image]) -> Collection:
    """Return a collection of images; those without an index get their number."""
    return Collection(_indexed(images), "ImageCollection")


@function("Collection.fromColumns")
def from_columns(columns: list[list[Any]], names: list[str], kinds: Any) -> Collection:
    """Return features from columns of values."""
    if len({len(c) for c in columns}) > 1 or len(columns) != len(names):
        raise EngineError("Columns must be of one length, and as many as the property names.")
    rows = [Feature(None, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    return Collection(_indexed(rows))


@function("Collection.filter", evaluator=True)
def filtered(evaluator: Any, items: Collection, test: Any) -> Collection:
    """Keep the elements that pass a filter."""
    from ..evaluate import coerce

    found: Filter = coerce("Filter", "", test, evaluator)
    return items.over(lambda: (item for item in items if found.test(item)))


def compare_key(value: Any) -> tuple[int, Any]:
    """Return a key that orders numbers before strings before what has no order."""
    if isinstance(value, Date):
        value = value.ms
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, (int, float)):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (2, "")


def _text(value: Any) -> str:
    return text_key(value) if isinstance(value, (list, dict)) else str(value)


@function("Collection.limit")
def limit(items: Collection, most: int | None, key: str | None, ascending: bool) -> Collection:
    """Sort by a property, missing values left out of the order and last; take the first."""

    def source() -> Iterator[Element]:
        found: Any = items
        if key is not None:
            known = [i for i in items if i.properties.get(key) is not None]
            rest = [i for i in items if i.properties.get(key) is None]
            known.sort(key=lambda i: compare_key(i.properties[key]), reverse=not ascending)
            found = itertools.chain(known, rest)
        yield from found if most is None else itertools.islice(found, max(most, 0))

    size = None if most is None else lambda: min(items.size(), max(most, 0))
    return items.over(source, size or items.size)


@function("Collection.first")
def first(items: Collection) -> Element | None:
    """Return the first element; null for none."""
    return items.first()


@function("Collection.size")
def size(items: Collection) -> int:
    """Return the number of elements."""
    return items.size()


@function("Collection.toList")
def to_list(items: Collection, count: int, offset: int) -> list[Element]:
    """Return elements as a list."""
    if count <= 0:
        raise EngineError("count must be positive.")
    if offset < 0:
        raise EngineError("offset must not be negative.")
    return list(itertools.islice(items, offset, offset + count))


@function("Collection.cache")
def cached(items: Collection) -> Collection:
    """Return the collection; elements are made once anyway."""
    return items


@function("Collection.merge", "ImageCollection.merge")
def merge(first_: Collection, second: Collection) -> Collection:
    """Put two collections together; indices are prefixed 1_ and 2_ ([A])."""

    def source() -> Iterator[Element]:
        for prefix, part in (("1_", first_), ("2_", second)):
            for number, item in enumerate(part):
                index = item.properties.get("system:index", str(number))
                yield item.replaced({**item.properties, "system:index": f"{prefix}{index}"})

    return Collection(
        source, first_.kind, first_.properties, size=lambda: first_.size() + second.size()
    )


@function("Collection.flatten")
def flatten(items: Collection) -> Collection:
    """Put the elements of collections in a collection together."""

    def source() -> Iterator[Element]:
        for number, item in enumerate(items):
            if not isinstance(item, Collection):
                yield item
                continue
            outer = item.properties.get("system:index", str(number))
            for place, inner in enumerate(item):
                index = inner.properties.get("system:index", str(place))
                yield inner.replaced({**inner.properties, "system:index": f"{outer}_{index}"})

    return items.over(source)


@function("Collection.distinct")
def distinct(items: Collection, properties: Any) -> Collection:
    """Keep the first of elements with equal properties."""
    names = [properties] if isinstance(properties, str) else properties
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise EngineError("The properties must be a string or a list of strings.")

    def source() -> Iterator[Element]:
        seen = set()
        for item in items:
            key = repr([text_key(_value(item, n)) for n in names])
            if key not in seen:
                seen.add(key)
                yield item

    return items.over(source)


def _value(item: Element, name: str) -> Any:
    if name == ".geo":
        found = geometry_of(item)
        return None if found is None else found.shape.wkt
    return item.properties.get(name)


@function("Collection.remap")
def remap(items: Collection, before: list[Any], after: list[int], name: str) -> Collection:
    """Replace values of a property; elements with other values are dropped ([A])."""
    if len(before) != len(after):
        raise EngineError(
            f"The lookup lists must have the same length. Found {len(before)} and {len(after)}."
        )
    for value in before:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise EngineError(
                f"The lookup values must be strings and integers. Found {type_name(value)}."
            )
    table = dict(zip(before, after, strict=True))

    def source() -> Iterator[Element]:
        for item in items:
            value = item.properties.get(name)
            if isinstance(value, (int, float, str)) and value in table:
                yield item.replaced({**item.properties, name: table[value]})

    return items.over(source)


@function("Collection.randomColumn")
def random_column(
    items: Collection, name: str, seed: int, distribution: str, keys: list[str]
) -> Collection:
    """Add random numbers that depend on the seed and on row keys alone.

    Earth Engine's hash is not known: equal in distribution, not in value.
    """
    from scipy import special

    def draw(item: Element) -> float:
        text = repr([seed, [_text(item.properties.get(k)) for k in keys]]).encode()
        raw = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        uniform = (raw >> 11) * 2.0**-53
        if distribution == "normal":
            return float(special.ndtri(uniform + 2.0**-54))
        return uniform

    return items.over(
        lambda: (i.replaced({**i.properties, name: draw(i)}) for i in items), items.size
    )


# ------------------------------------------------------------------ functions over elements


@function("Collection.map")
def mapped(items: Collection, algorithm: Function, drop_nulls: bool) -> Collection:
    """Apply a function to every element; the index stays."""

    def source() -> Iterator[Element]:
        for number, item in enumerate(items):
            try:
                made = algorithm(item)
            except LimitError:
                raise
            except EngineError as problem:
                raise MapError(item.properties.get("system:index"), problem) from problem
            if made is None:
                if drop_nulls:
                    continue
                raise EngineError(
                    "A mapped algorithm must return a Feature or Image; it returned null.",
                    function="Collection.map",
                )
            if isinstance(made, Geometry):
                made = Feature(made)
            if not isinstance(made, Element):
                raise EngineError(
                    "A mapped algorithm must return a Feature or Image.",
                    function="Collection.map",
                )
            index = item.properties.get("system:index", str(number))
            if made.properties.get("system:index") != index:
                made = made.replaced({**made.properties, "system:index": index})
            yield made

    return items.over(source, None if drop_nulls else items.size)


@function("Collection.iterate")
def iterate(items: Collection, algorithm: Function, start: Any) -> Any:
    """Fold the elements: ``function(element, result so far)``."""
    result = start
    for item in items:
        result = algorithm(item, result)
    return result


@function("Collection.reduceColumns")
def reduce_columns(
    items: Collection, reducer: Reducer, selectors: list[str], weights: list[str] | None
) -> dict[str, Any]:
    """Reduce properties of all elements."""
    if len(selectors) != reducer.inputs:
        raise EngineError(
            f"Need {reducer.inputs} selectors for the reducer's inputs, got {len(selectors)}."
        )
    elements = items.items()
    columns = [[_selected(i, s) for i in elements] for s in selectors]
    if not weights:
        return dict(zip(reducer.outputs, reducer.reduce(columns), strict=True))
    given = [_weights(elements, name) for name in weights]
    return dict(zip(reducer.outputs, reduce_weighted(reducer, columns, given), strict=True))


def _weights(elements: Sequence[Element], name: str) -> Any:
    """Return the weights of elements, 0 where there is none."""
    found = [item.properties.get(name) for item in elements]
    if any(v is not None and not isinstance(v, (int, float)) for v in found):
        raise EngineError(f"Weight '{name}' must be a number.")
    return np.array([float(v or 0) for v in found])


def _selected(item: Element, name: str) -> Any:
    if name == ".geo":
        return geometry_of(item)
    if name == "system:id" and name not in item.properties:
        return item.id if isinstance(item, Image) else item.properties.get("system:index")
    value = item.properties.get(name)
    return value.ms if isinstance(value, Date) else value


@function("Collection.geometry", "Collection.union")
def geometry(items: Collection, margin: ErrorMargin | None) -> Any:
    """Return the merged geometries."""
    shapes = [g for g in map(geometry_of, items) if g is not None]
    return union_of(shapes)


@function("Collection.bounds")
def bounds(items: Collection, margin: ErrorMargin | None, projection: Projection) -> Geometry:
    """Return a box around all geometries."""
    from .geometries import box_of

    shapes = [g for g in map(geometry_of, items) if g is not None]
    return box_of(union_of(shapes), projection)


# ------------------------------------------------------------------ composites


def _band_order(images: Sequence[Image]) -> list[str]:
    order: dict[str, None] = {}
    for image in images:
        order.update(dict.fromkeys(image.names))
    return list(order)


def _footprints(images: Sequence[Image]) -> Callable[[], Geometry]:
    def made() -> Geometry:
        found = [i.footprint for i in images]
        if any(f is None for f in found):
            return Geometry.everywhere()
        return union_of([f for f in found if f is not None])

    return made


def _union_type(bands: Sequence[Band]) -> PixelType:
    kind = bands[0].type
    for band in bands[1:]:
        if band.type != kind:
            kind = kind.union(band.type)
    return kind


class ReduceNode(Node):
    """A reducer over a stack of layers; layer k gives ``inputs[k * width : ...]``."""

    __slots__ = ("pixel_bytes", "reducer", "types", "width")

    def __init__(self, reducer: Reducer, layers: Sequence[Sequence[Band]]) -> None:
        super().__init__([b for layer in layers for b in layer])
        self.reducer = reducer
        self.width = len(layers[0])
        self.types = [_union_type([layer[i] for layer in layers]) for i in range(self.width)]
        reducer.check(self.types)
        arrays = any(kind.dimensions for kind in reducer.types(self.types))
        self.pixel_bytes = 8 * len(self.inputs) if arrays else 0

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        count = len(self.inputs) // self.width
        need = len(self.inputs) * window.width * window.height * 10
        if need > context.limits.stack_bytes and window.height > 1:
            # Too many layers to hold at once: strips of the window, one after another.
            half = window.height // 2
            parts = [
                window.part(0, 0, half, window.width),
                window.part(half, 0, window.height - half, window.width),
            ]
            return joined([self.compute(context, p) for p in parts], parts)
        fold = self.reducer.fold(self.types, window.shape)
        for k in range(count):
            fold.add(
                [
                    context.read(b, window)
                    for b in self.inputs[k * self.width : (k + 1) * self.width]
                ]
            )
        return fold.result()


def joined(parts: Sequence[Sequence[Pixels]], windows: Sequence[Window]) -> list[Pixels]:
    """Put results of strips, one above the other, together."""
    out = []
    for results in zip(*parts, strict=True):
        data = concatenated(
            [np.broadcast_to(p.data, w.shape) for p, w in zip(results, windows, strict=True)]
        )
        if all(p.mask is None for p in results):
            out.append(Pixels(data, None))
            continue
        masks = [
            np.broadcast_to(np.ones((1, 1), bool) if p.mask is None else p.mask, w.shape)
            for p, w in zip(results, windows, strict=True)
        ]
        out.append(Pixels(data, np.concatenate(masks)))
    return out


def reduce_images(images: Sequence[Image], reducer: Reducer, suffix: bool) -> Image:
    """Reduce a stack of images pixel by pixel.

    The result has the projection of all composites, EPSG:4326 at one degree
    (guides/projections), and no properties.
    """
    if not images:
        return Image([])
    footprint = _footprints(images)
    if reducer.inputs == 1:
        bands = []
        for name in _band_order(images):
            layers = [[b] for image in images for b in image.bands if b.id == name]
            node = ReduceNode(reducer, layers)
            kinds = reducer.types(node.types)
            for k, (output, kind) in enumerate(zip(reducer.outputs, kinds, strict=True)):
                label = f"{name}_{output}" if suffix else name
                bands.append(Band(label, kind, WGS84, node, k))
        return Image(bands, footprint=footprint)
    if any(len(image.bands) != reducer.inputs for image in images):
        raise EngineError(
            f"Need {reducer.inputs} bands for the reducer's inputs, got {len(images[0].bands)}."
        )
    node = ReduceNode(reducer, [image.bands for image in images])
    kinds = reducer.types(node.types)
    return Image(
        [
            Band(output, kind, WGS84, node, k)
            for k, (output, kind) in enumerate(zip(reducer.outputs, kinds, strict=True))
        ],
        footprint=footprint,
    )


@function("ImageCollection.reduce")
def reduce_collection(items: Collection, reducer: Reducer, scale: float) -> Image:
    """Reduce a collection; outputs of single-input reducers are named band_output ([A])."""
    return reduce_images(items.images(), reducer, suffix=True)


def _register_reduction(name: str, reducer: str) -> None:
    function(f"reduce.{name}")(
        lambda items: reduce_images(items.images(), named_reducer(reducer), suffix=False)
    )


for _name in ("min", "max", "count", "sum", "product", "mean", "median", "mode"):
    _register_reduction(_name, _name)
_register_reduction("and", "allNonZero")
_register_reduction("or", "anyNonZero")


@function("ImageCollection.mosaic")
def mosaic(items: Collection) -> Image:
    """Put the last image on top, by mask (guides/ic_composite_mosaic)."""
    return reduce_images(items.images(), named_reducer("lastNonNull"), suffix=False)


class _QualityNode(Node):
    """Every band from the image whose quality is greatest; the first of equals."""

    __slots__ = ("quality", "width")

    def __init__(self, layers: Sequence[Sequence[Band]], quality: int) -> None:
        super().__init__([b for layer in layers for b in layer])
        self.width = len(layers[0])
        self.quality = quality

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        best: Any = None
        seen = np.zeros(window.shape, bool)
        data: list[Any] = []
        masks: list[Any] = []
        for start in range(0, len(self.inputs), self.width):
            layer = self.inputs[start : start + self.width]
            score, mask = context.read(layer[self.quality], window)
            ok = kernels.valid(mask)
            # NaN is better than nothing and worse than any number.
            if best is None:
                best = np.full(window.shape, -np.inf)
                for band in layer:
                    data.append(np.zeros(window.shape, band.type.dtype))
                    masks.append(np.zeros(window.shape, bool))
            take = (score > best) | ~seen
            if ok is not None:
                take &= ok
            if not take.any():
                continue
            np.copyto(best, score, where=take)
            seen |= take
            every = bool(take.all())
            for i, band in enumerate(layer):
                got = context.read(band, window)
                if np.result_type(data[i], got.data) != data[i].dtype:
                    data[i] = data[i].astype(np.result_type(data[i], got.data))
                if every and got.data.shape == window.shape:
                    data[i] = got.data.astype(data[i].dtype)
                else:
                    np.copyto(data[i], got.data, where=take)
                fresh: Any = np.True_ if got.mask is None else got.mask
                if fresh.dtype != bool and masks[i].dtype == bool:
                    masks[i] = masks[i].astype(np.float32)
                np.copyto(masks[i], fresh, where=take)
        return [
            Pixels(d, None if m.dtype == bool and m.all() else m)
            for d, m in zip(data, masks, strict=True)
        ]


@function("ImageCollection.qualityMosaic")
def quality_mosaic(items: Collection, quality: str) -> Image:
    """Take all bands of a pixel from the image with the greatest quality there."""
    images = items.images()
    if not images:
        return Image([])
    names = images[0].names
    if quality not in names:
        raise EngineError(
            f"Quality band '{quality}' is not a band of the collection: [{', '.join(names)}]."
        )
    layers = []
    for image in images:
        by_name = {b.id: b for b in image.bands}
        if quality not in by_name:
            continue
        layers.append([by_name.get(n) or masked_band(n) for n in names])
    node = _QualityNode(layers, names.index(quality))
    bands = [
        Band(n, _union_type([layer[i] for layer in layers]), WGS84, node, i)
        for i, n in enumerate(names)
    ]
    return Image(bands, footprint=_footprints(images))


@function("ImageCollection.toBands")
def to_bands(items: Collection) -> Image:
    """Return all bands of all images in one, named index_band ([A])."""
    images = items.images()
    bands, names = [], []
    for number, image in enumerate(images):
        index = image.properties.get("system:index", str(number))
        for band in image.bands:
            bands.append(band)
            names.append(f"{index}_{band.id}")
    if len(bands) > 5000:
        raise EngineError(f"Too many bands: {len(bands)} (the maximum is 5000).")
    return Image(
        [b.renamed(n) for b, n in zip(bands, unique_names((), names), strict=True)],
        footprint=_footprints(images),
    )


@function("ImageCollection.combine")
def combine(primary: Collection, secondary: Collection, overwrite: bool) -> Collection:
    """Add the bands of images with the same index ([A])."""
    from .bands import add_bands

    def source() -> Iterator[Element]:
        others = {i.properties.get("system:index"): i for i in secondary.images()}
        for image in primary.images():
            other = others.get(image.properties.get("system:index"))
            if other is not None:
                yield add_bands(image, other, None, overwrite)

    return primary.over(source)


@function("ImageCollection.cast")
def cast_collection(items: Collection, types: dict[str, Any], order: list[str]) -> Collection:
    """Cast the bands of every image."""
    from .arithmetic import cast_bands

    return items.over(lambda: (cast_bands(i, types, order) for i in items.images()), items.size)


@function("Image.reduce")
def reduce_bands(image: Image, reducer: Reducer) -> Image:
    """Reduce the bands of an image pixel by pixel; bands are named by the outputs."""
    if not image.bands:
        raise EngineError("The image has no bands.")
    if reducer.inputs == 1:
        layers = [[b] for b in image.bands]
    elif len(image.bands) % reducer.inputs == 0:
        n = reducer.inputs
        layers = [list(image.bands[i : i + n]) for i in range(0, len(image.bands), n)]
    else:
        raise EngineError(
            f"Need a multiple of {reducer.inputs} bands for the reducer's inputs, got "
            f"{len(image.bands)}."
        )
    node = ReduceNode(reducer, layers)
    grid = image.bands[0]
    return image.with_bands(
        [
            Band(output, kind, grid.projection, node, k, grid.dimensions, grid.origin)
            for k, (output, kind) in enumerate(
                zip(reducer.outputs, reducer.types(node.types), strict=True)
            )
        ]
    )


@function("Image.linkCollection")
def link_collection(
    image: Image, items: Collection, bands: Any, properties: Any, match: str
) -> Image:
    """Add bands and properties of the image with the same property ([A])."""
    key = image.properties.get(match)
    found = next((i for i in items.images() if i.properties.get(match) == key), None)
    for given in (bands, properties):
        if not isinstance(given, (str, list, type(None))):
            raise EngineError("linkedBands and linkedProperties must be a name or a list of names.")
    wanted = [] if bands is None else [bands] if isinstance(bands, str) else list(bands)
    names = (
        []
        if properties is None
        else [properties]
        if isinstance(properties, str)
        else list(properties)
    )
    from .bands import add_bands, select

    out = image
    if wanted:
        if found is not None:
            out = add_bands(out, select(found, wanted), None, True)
        else:
            template = items.first()
            kinds = {b.id: b.type for b in template.bands} if isinstance(template, Image) else {}
            blank = [masked_band(n, kinds[n]) if n in kinds else masked_band(n) for n in wanted]
            out = add_bands(out, Image(blank), None, True)
    if names:
        taken = {n: None if found is None else found.properties.get(n) for n in names}
        out = out.replaced({**out.properties, **taken})
    return out.with_footprint(image.footprint_source)
