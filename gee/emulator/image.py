"""Lazy images, and the nodes that read assets and move pixels between grids."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels
from .cells import concatenated
from .errors import EngineError
from .geometry import Geometry, covered, fractions
from .pixels import Array, Band, Context, Node, Pixels
from .projection import WGS84, Projection, Window, locate
from .types import FLOAT, PixelType

if TYPE_CHECKING:
    from .catalog import Asset, BandAsset

__all__ = ["Element", "Image", "constant", "load_image"]

Footprint = Geometry | Callable[[], Geometry] | None

# Pixels that one reprojection reads at a time.
_MOST_AT_ONCE = 4 * 2**20

# Doubling the bands in a loop ends here; Earth Engine's own limit is not known.
MOST_BANDS = 10_000


class Element:
    """What collections hold: something with properties."""

    properties: dict[str, Any]

    def replaced(self, properties: dict[str, Any]) -> Element:
        """Return a copy with other properties."""
        raise EngineError("Element has no properties.")


class Image(Element):
    """A lazy image.

    Parameters
    ----------
    bands : sequence of Band, or a function that makes them
    properties : dict, optional
    id : str, optional
        Of the asset that it was loaded from.
    version : int, optional
    footprint : Geometry or a function that makes one, optional
        ``None``: without bounds.
    """

    __slots__ = ("_bands", "_footprint", "id", "properties", "version")

    def __init__(
        self,
        bands: Sequence[Band] | Callable[[], Sequence[Band]],
        properties: dict[str, Any] | None = None,
        id: str | None = None,
        version: int | None = None,
        footprint: Footprint = None,
    ) -> None:
        self._bands: Any = bands if callable(bands) else tuple(bands)
        if type(self._bands) is tuple and len(self._bands) > MOST_BANDS:
            raise EngineError(f"Too many bands: {len(self._bands)} (the maximum is {MOST_BANDS}).")
        self.properties = {} if properties is None else properties
        self.id = id
        self.version = version
        self._footprint = footprint

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands; of an asset, made when they are first asked for."""
        if callable(self._bands):
            self._bands = tuple(self._bands())
        found: tuple[Band, ...] = self._bands
        return found

    @property
    def footprint(self) -> Geometry | None:
        """Where the image has data; ``None`` without bounds."""
        if callable(self._footprint):
            self._footprint = self._footprint()
        found = self._footprint
        return None if found is None or found.unbounded else found

    @property
    def footprint_source(self) -> Footprint:
        """The footprint or what makes it, for images derived from this one."""
        return self._footprint

    @property
    def names(self) -> list[str]:
        """Band names in order."""
        return [b.id for b in self.bands]

    def band(self, name: str) -> Band:
        """Return the band of that name."""
        for band in self.bands:
            if band.id == name:
                return band
        raise EngineError(
            f"Band pattern '{name}' did not match any bands. Available bands: "
            f"[{', '.join(self.names)}]"
        )

    def with_bands(self, bands: Sequence[Band]) -> Image:
        """Return an image of the same properties, id and footprint with other bands."""
        return Image(bands, self.properties, self.id, self.version, self._footprint)

    def derived(self, bands: Sequence[Band]) -> Image:
        """Return the result of a computation: the footprint stays, properties do not."""
        return Image(bands, footprint=self._footprint)

    def with_footprint(self, footprint: Footprint) -> Image:
        """Return the image with another footprint."""
        return Image(self._bands, self.properties, self.id, self.version, footprint)

    def replaced(self, properties: dict[str, Any]) -> Image:
        """Return the image with other properties."""
        return Image(self._bands, properties, self.id, self.version, self._footprint)

    @property
    def projection(self) -> Projection:
        """The projection that all bands share."""
        if not self.bands:
            raise EngineError("The image has no bands.")
        first = self.bands[0].projection
        if any(b.projection != first for b in self.bands[1:]):
            raise EngineError(
                "The bands of the specified image contains different projections. Use "
                "Image.select to pick a single band."
            )
        return first

    @property
    def first_projection(self) -> Projection:
        """The projection of the first band."""
        if not self.bands:
            raise EngineError("The image has no bands.")
        return self.bands[0].projection


class ConstantNode(Node):
    """One value everywhere."""

    __slots__ = ("pixels",)

    def __init__(self, value: int | float, kind: PixelType, valid: bool = True) -> None:
        super().__init__()
        mask = None if valid else np.zeros((1, 1), bool)
        self.pixels = Pixels(np.full((1, 1), value, kind.dtype), mask)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        return (self.pixels,)


def constant(value: int | float, name: str = "constant") -> Image:
    """Return an image with one value everywhere (apidocs ee-image-constant)."""
    kind = PixelType.of_number(value)
    if kind.is_int and not -(2**63) <= int(value) < 2**63:
        kind, value = PixelType("double", float(value), float(value)), float(value)
    return Image([Band(name, kind, WGS84, ConstantNode(value, kind))])


class AssetNode(Node):
    """A band of the catalogue: the right pyramid level, then the nearest pixel.

    The level is the one with the closest scale that is not coarser than the scale asked
    for (guides/scale).
    """

    __slots__ = ("asset", "height", "projection", "width")

    def __init__(self, asset: BandAsset) -> None:
        super().__init__()
        self.asset = asset
        self.projection = Projection(asset.crs, asset.transform)
        self.height, self.width = asset.shape

    def level(self, window: Window) -> int:
        """Return the pyramid level for a window."""
        ratio = window.projection.nominal_scale / self.projection.nominal_scale
        if ratio <= 1:
            return 0
        return min(int(math.log2(ratio) + 1e-6), self.asset.levels - 1)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        level = self.level(window)
        base = self.projection if level == 0 else self.projection.scaled(2.0**level)
        height = -(-self.height // 2**level)
        width = -(-self.width // 2**level)
        turn = self.projection.turn
        same = window.shifted_to(base)
        if same is not None and (
            turn is None or (same.column >= 0 and same.column + same.width <= width)
        ):
            return (self._copied(level, same, height, width),)
        place = locate(window, base)
        if turn is not None:
            # Longitudes repeat: 190 degrees east is 170 degrees west.
            far = (place.columns < 0) | (place.columns >= self.width / 2**level)
            if far.any():
                turned = np.mod(place.columns, turn / 2**level)
                place = replace(place, columns=np.where(far, turned, place.columns))
        # A coarse level's last pixel may reach past the image; the image ends where it ends.
        end_c, end_r = self.width / 2**level, self.height / 2**level
        valid_c = (place.columns >= 0) & (place.columns < end_c)
        valid_r = (place.rows >= 0) & (place.rows < end_r)
        if place.separable:
            if not (valid_c.any() and valid_r.any()):
                return (_nothing(window, self.asset.dtype),)
            columns = np.floor(place.columns).astype(np.int64)
            rows = np.floor(place.rows).astype(np.int64)
            c0, c1 = columns[valid_c].min(), columns[valid_c].max() + 1
            r0, r1 = rows[valid_r].min(), rows[valid_r].max() + 1
            if (c1 - c0) * (r1 - r0) > _MOST_AT_ONCE and window.width * window.height > 1:
                return (_joined(window, lambda part: self.compute(context, part)[0]),)
            data, mask = self.asset.read(level, int(r0), int(r1), int(c0), int(c1))
            take_c = np.clip(columns - c0, 0, c1 - c0 - 1)
            take_r = np.clip(rows - r0, 0, r1 - r0 - 1)
            index: Any = np.ix_(take_r, take_c)
            inside = valid_r[:, None] & valid_c[None, :]
        else:
            inside = valid_c & valid_r
            if not inside.any():
                return (_nothing(window, self.asset.dtype),)
            columns = np.floor(place.columns).astype(np.int64)
            rows = np.floor(place.rows).astype(np.int64)
            c0, c1 = columns[inside].min(), columns[inside].max() + 1
            r0, r1 = rows[inside].min(), rows[inside].max() + 1
            if (c1 - c0) * (r1 - r0) > _MOST_AT_ONCE and window.width * window.height > 1:
                # Around a pole, or on both sides of the 180th meridian.
                return (_joined(window, lambda part: self.compute(context, part)[0]),)
            data, mask = self.asset.read(level, int(r0), int(r1), int(c0), int(c1))
            index = (np.clip(rows - r0, 0, r1 - r0 - 1), np.clip(columns - c0, 0, c1 - c0 - 1))
        got, valid = data[index], mask[index]
        whole = bool(inside.all())
        if valid.dtype == bool:
            if not whole:
                valid = valid & inside
            return (Pixels(got, None if valid.all() else valid),)
        if not whole:
            valid = np.where(inside, valid, np.float32(0))
        return (Pixels(got, valid),)

    def _copied(self, level: int, window: Window, height: int, width: int) -> Pixels:
        r0, r1 = max(window.row, 0), min(window.row + window.height, height)
        c0, c1 = max(window.column, 0), min(window.column + window.width, width)
        if r0 >= r1 or c0 >= c1:
            return _nothing(window, self.asset.dtype)
        data, mask = self.asset.read(level, r0, r1, c0, c1)
        if data.shape == window.shape:
            if mask.dtype == bool and mask.all():
                return Pixels(data, None)
            return Pixels(data, mask)
        full = np.zeros(window.shape, data.dtype)
        valid = np.zeros(window.shape, mask.dtype)
        where = np.s_[r0 - window.row : r1 - window.row, c0 - window.column : c1 - window.column]
        full[where], valid[where] = data, mask
        return Pixels(full, valid)


def _nothing(window: Window, dtype: Any) -> Pixels:
    return Pixels(np.zeros((1, 1), dtype), np.zeros((1, 1), bool))


def _asset_band(stored: BandAsset) -> Band:
    kind = PixelType(stored.data_type.precision, stored.data_type.min, stored.data_type.max)
    if kind.is_int:
        kind = PixelType("int", int(kind.low or 0), int(kind.high or 0))
    node = AssetNode(stored)
    height, width = stored.shape
    return Band(stored.id, kind, node.projection, node, 0, (width, height))


def load_image(asset: Asset) -> Image:
    """Return the lazy image of an asset of the catalogue.

    Bands are made when they are asked for: of thousands of images a filter keeps a few.
    """

    def bands() -> list[Band]:
        return [_asset_band(stored) for stored in asset.bands]

    properties = dict(asset.properties)
    if asset.start_ms is not None:
        properties["system:time_start"] = asset.start_ms
    if asset.end_ms is not None:
        properties["system:time_end"] = asset.end_ms
    properties.setdefault("system:index", asset.index)
    footprint: Footprint = None
    if asset.footprint is not None:
        outline = asset.footprint

        def made() -> Geometry:
            from .geometry import parse_geojson

            return parse_geojson(dict(outline))

        footprint = made
    version = int(asset.updated * 1e6) if asset.updated else None
    return Image(bands, properties, asset.id, version, footprint)


class MapNode(Node):
    """A function of the values of its inputs, pixel by pixel; valid where all inputs are."""

    pixelwise = True
    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Array], inputs: Sequence[Band]) -> None:
        super().__init__(inputs)
        self.function = function

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        got = [context.read(b, window) for b in self.inputs]
        mask = got[0].mask
        for pixels in got[1:]:
            mask = kernels.both(mask, pixels.mask)
        return (Pixels(self.function(*(p.data for p in got)), mask),)


class PixelsNode(Node):
    """A function of values and masks of its inputs, pixel by pixel, with several results."""

    pixelwise = True
    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Sequence[Pixels]], inputs: Sequence[Band]) -> None:
        super().__init__(inputs)
        self.function = function

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        # Lists, not generators: those would go through C, and deep graphs through its stack.
        return self.function(*[context.read(b, window) for b in self.inputs])


class WindowNode(Node):
    """A function of the place: coordinates, areas, painted shapes."""

    pixelwise = True
    __slots__ = ("function",)

    def __init__(
        self, function: Callable[..., Sequence[Pixels]], inputs: Sequence[Band] = ()
    ) -> None:
        super().__init__(inputs)
        self.function = function

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        return self.function(window, *[context.read(b, window) for b in self.inputs])


class HaloNode(Node):
    """A function of a neighbourhood: inputs are read with a border.

    Parameters
    ----------
    function : (window, padded pixels...) -> results
    inputs : sequence of Band
    halo : int or function of the projection
        Pixels on every side; a function where it depends on the scale.
    """

    __slots__ = ("function", "halo", "reach")

    def __init__(
        self,
        function: Callable[..., Sequence[Pixels]],
        inputs: Sequence[Band],
        halo: int | Callable[[Projection], int],
    ) -> None:
        super().__init__(inputs)
        self.function = function
        self.reach = halo
        self.halo = halo if isinstance(halo, int) else 0

    def border(self, projection: Projection) -> int:
        """Return the pixels that it reads beyond a window of a projection."""
        return self.reach if isinstance(self.reach, int) else self.reach(projection)

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        wide = window.pad(self.border(window.projection))
        return self.function(window, *[full(context.read(b, wide), wide) for b in self.inputs])


class BlockNode(Node):
    """A function of aligned blocks of the lattice.

    For results that would depend on where a window begins: paths that may lead anywhere,
    planes laid through a region. Blocks are computed one at a time, however many threads ask,
    and the last ones are kept, as neighbouring tiles share them.

    Parameters
    ----------
    function : (context, block window, inputs) -> results on the block
    inputs : sequence of Band
    kinds : sequence of PixelType
        Of the results.
    """

    side = 256
    __slots__ = ("_kept", "_lock", "function", "kinds")

    def __init__(
        self,
        function: Callable[[Context, Window, Sequence[Band]], Sequence[Pixels]],
        inputs: Sequence[Band],
        kinds: Sequence[PixelType],
    ) -> None:
        super().__init__(inputs)
        self.function = function
        self.kinds = tuple(kinds)
        self._kept: OrderedDict[Window, Sequence[Pixels]] = OrderedDict()
        self._lock = threading.Lock()

    def _block(self, context: Context, block: Window) -> Sequence[Pixels]:
        with self._lock:
            found = self._kept.get(block)
            if found is None:
                made = self.function(context, block, self.inputs)
                found = self._kept[block] = [full(p, block) for p in made]
                while len(self._kept) > 16:
                    self._kept.popitem(last=False)
            return found

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        out = [
            Pixels(np.zeros(window.shape, kind.dtype), np.zeros(window.shape, bool))
            for kind in self.kinds
        ]
        for block, part in window.blocks(self.side):
            here, there = part.within(block), part.within(window)
            for target, got in zip(out, self._block(context, block), strict=True):
                target.data[there] = got.data[here]
                assert target.mask is not None
                target.mask[there] = True if got.mask is None else got.mask[here]
        return out


def full(pixels: Pixels, window: Window) -> Pixels:
    """Return pixels whose arrays have the window's shape."""
    data = pixels.data
    if data.shape != window.shape:
        data = np.broadcast_to(data, window.shape)
    mask = pixels.mask
    if mask is not None and mask.shape != window.shape:
        mask = np.broadcast_to(mask, window.shape)
    return Pixels(data, mask)


class ReprojectNode(Node):
    """Its input computed on a fixed lattice, then the nearest pixel (guides/projections)."""

    __slots__ = ("projection",)

    def __init__(self, band: Band, projection: Projection) -> None:
        super().__init__([band])
        self.projection = projection

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        band = self.inputs[0]
        same = window.shifted_to(self.projection)
        if same is not None:
            return (context.read(band, same),)
        return (_sampled(context, band, window, self.projection, _nearest, 0),)


class ResampleNode(Node):
    """Its input on its own grid, then interpolated (guides/resample).

    The grid is the band's own, or the pyramid level that nearest neighbour would take.
    Composites have no grid of their own: there it does nothing.
    """

    __slots__ = ("mode",)

    def __init__(self, band: Band, mode: str) -> None:
        super().__init__([band])
        self.mode = mode

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        band = self.inputs[0]
        if band.projection.is_default or band.type.dimensions:
            return (context.read(band, window),)
        ratio = window.projection.nominal_scale / band.projection.nominal_scale
        level = max(int(math.log2(ratio) + 1e-6), 0) if ratio > 0 else 0
        lattice = band.projection if level == 0 else band.projection.scaled(2.0**level)
        same = window.shifted_to(lattice)
        if same is not None:
            return (context.read(band, window),)
        take = kernels.bilinear if self.mode == "bilinear" else kernels.bicubic
        reach = 1 if self.mode == "bilinear" else 2
        limits: tuple[float, float, float, float] | None = None
        if band.dimensions is not None:
            k = 2.0**level
            c, r = band.origin
            w, h = band.dimensions
            limits = (c / k, r / k, (c + w) / k, (r + h) / k)
        return (
            _sampled(
                context,
                band,
                window,
                lattice,
                lambda data, mask, x, y, sep, corner: take(data, mask, x, y, sep, corner, limits),
                reach,
            ),
        )


Sampler = Callable[
    [Array, Array | None, Array, Array, bool, tuple[int, int]], tuple[Array, Array | None]
]


def _nearest(
    data: Array,
    mask: Array | None,
    columns: Array,
    rows: Array,
    separable: bool,
    corner: tuple[int, int],
) -> tuple[Array, Array | None]:
    c = np.floor(columns).astype(np.int64) - corner[0]
    r = np.floor(rows).astype(np.int64) - corner[1]
    index: Any = np.ix_(r, c) if separable else (r, c)
    return data[index], None if mask is None else mask[index]


def _sampled(
    context: Context,
    band: Band,
    window: Window,
    lattice: Projection,
    sample: Sampler,
    reach: int,
) -> Pixels:
    """Read a band on ``lattice`` around a window and sample it at the window's centres."""
    place = locate(window, lattice)
    good = None
    columns, rows = place.columns, place.rows
    if not place.separable:
        good = columns > -1e17
        if not good.any():
            return Pixels(np.zeros((1, 1), band.type.dtype), np.zeros((1, 1), bool))
        if good.all():
            good = None
        else:
            columns = np.where(good, columns, columns[good].min())
            rows = np.where(good, rows, rows[good].min())
    c0, c1 = math.floor(columns.min()) - reach, math.floor(columns.max()) + 1 + reach
    r0, r1 = math.floor(rows.min()) - reach, math.floor(rows.max()) + 1 + reach
    source = Window(lattice, c0, r0, c1 - c0, r1 - r0)
    area = source.width * source.height
    if area > _MOST_AT_ONCE and window.width * window.height > 1:
        # A much finer lattice: go on with parts of the window, to hold less at a time.
        return _joined(window, lambda part: _sampled(context, band, part, lattice, sample, reach))
    got = full(context.read_bounded(band, source), source)
    data, mask = sample(got.data, got.mask, columns, rows, place.separable, (c0, r0))
    if good is not None:
        mask = kernels.both(mask, good)
    return Pixels(data, mask)


def _joined(window: Window, compute: Callable[[Window], Pixels]) -> Pixels:
    """Compute the two halves of a window one after the other."""
    axis = 0 if window.height >= window.width else 1
    parts = window.halves()
    got = [full(compute(part), part) for part in parts]
    data = concatenated([g.data for g in got], axis)
    if all(g.mask is None for g in got):
        return Pixels(data, None)
    masks = [np.ones(g.data.shape, bool) if g.mask is None else g.mask for g in got]
    return Pixels(data, np.concatenate(masks, axis))


class ClipNode(Node):
    """Masks of its inputs times the share of each pixel inside a geometry.

    Edge pixels get fractional masks, so later weighted reducers see them in part
    (guides/reducers_weighting).
    """

    __slots__ = ("geometry", "whole")

    def __init__(self, bands: Sequence[Band], geometry: Geometry, whole: bool = False) -> None:
        super().__init__(bands)
        self.geometry = geometry
        self.whole = whole

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        share = geometry_mask(self.geometry, window, not self.whole)
        if share is not None and not share.any():
            return [
                Pixels(np.zeros((1, 1), b.type.dtype), np.zeros((1, 1), bool)) for b in self.inputs
            ]
        got = [context.read(b, window) for b in self.inputs]
        return [Pixels(p.data, kernels.times(p.mask, share)) for p in got]


def geometry_mask(geometry: Geometry, window: Window, weighted: bool) -> Array | None:
    """Return the share (or the centres) of a window inside a geometry; ``None`` if all is."""
    if geometry.unbounded:
        return None
    made = geometry.in_pixels(window.projection)
    if made.is_empty:
        return np.zeros(window.shape, bool)
    left, top, right, bottom = made.bounds
    if (
        right < window.column
        or left > window.column + window.width
        or bottom < window.row
        or top > window.row + window.height
    ):
        return np.zeros((1, 1), bool)
    share = fractions(made, window) if weighted else covered(made, window)
    low = share.min()
    if low >= 1:
        return None
    if weighted and bool(((share == 0) | (share == 1)).all()):
        return share > 0
    return share


def masked_band(name: str, kind: PixelType = FLOAT) -> Band:
    """Return a band that is masked everywhere."""
    return Band(name, kind, WGS84, ConstantNode(0, kind, valid=False))


def unique_names(taken: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return names made unique as Earth Engine does: B4, B4_1, B4_2 ([A] Image.addBands)."""
    used = set(taken)
    out = []
    for name in names:
        fresh, number = name, 0
        while fresh in used:
            number += 1
            fresh = f"{name}_{number}"
        used.add(fresh)
        out.append(fresh)
    return out


def merged_properties(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of both, those of the second winning."""
    return {**first, **second}
