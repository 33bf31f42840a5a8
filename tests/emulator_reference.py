"""A slow, obvious evaluator of image graphs, one pixel at a time.

It reads the graphs that the client sends and follows the documentation's pull model: an output
pixel asks its inputs for the pixel at the same place of the same grid, and only ``reproject``,
assets and the like change the grid. It shares no code with the engine: numbers, numpy's scalar
types and pyproj. Each rule names where it is written:

- [A]: the function list of the installed client (``ee/tests/algorithms.json``).
- [D]: the guides, by page.
- [?]: assumptions that `gee.emulator.functions` lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pyproj import CRS, Transformer

Transform = tuple[float, float, float, float, float, float]
DEGREE = 6378137.0 * math.pi / 180


class Grid(NamedTuple):
    """A coordinate system and the transform from pixels to it."""

    crs: str
    transform: Transform

    def place(self, column: float, row: float) -> tuple[float, float]:
        a, b, c, d, e, f = self.transform
        return a * column + b * row + c, d * column + e * row + f

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        a, b, c, d, e, f = self.transform
        u, v, det = x - c, y - f, a * e - b * d
        return (e * u - b * v) / det, (a * v - d * u) / det

    @property
    def scale(self) -> float:
        """Nominal metres per pixel (apidocs ee-projection-nominalscale)."""
        a, b, _, d, e, _ = self.transform
        unit = DEGREE if geographic(self.crs) else 1.0
        return math.sqrt(abs(a * e - b * d)) * unit

    def scaled(self, k: float) -> Grid:
        a, b, c, d, e, f = self.transform
        return Grid(self.crs, (a * k, b * k, c, d * k, e * k, f))


@lru_cache(maxsize=64)
def geographic(crs: str) -> bool:
    return bool(CRS.from_user_input(crs).is_geographic)


@lru_cache(maxsize=64)
def change(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


WORLD = Grid("EPSG:4326", (1, 0, 0, 0, 1, 0))


class Value(NamedTuple):
    """A pixel: its value, its mask from 0 to 1, and whether its place was beyond doubt.

    Engines may differ where a pixel's centre lies on an edge of the input but for rounding.
    """

    value: Any
    mask: float = 1.0
    sure: bool = True


MASKED = Value(0, 0.0)
Pixel = tuple[Grid, int, int]
At = Callable[[Grid, int, int], Value]


class Kind(NamedTuple):
    """Precision ("?" where nothing is documented), and the range where that is."""

    precision: str
    low: float | None = None
    high: float | None = None

    @property
    def number(self) -> Callable[[Any], Any]:
        made: dict[str, Callable[[Any], Any]] = {"int": int, "float": np.float32}
        return made.get(self.precision, np.float64)


@dataclass
class Band:
    """One band: its type, its own grid and how to compute a pixel."""

    kind: Kind
    grid: Grid
    compute: At
    known: dict[Pixel, Value] = field(default_factory=dict)

    def at(self, grid: Grid, column: int, row: int) -> Value:
        key = grid, column, row
        if key not in self.known:
            self.known[key] = self.compute(grid, column, row)
        return self.known[key]


Image = dict[str, Band]


@dataclass
class Asset:
    """A stored band: pixels, which count, and where they lie."""

    data: np.ndarray
    mask: np.ndarray
    grid: Grid
    kind: Kind
    levels: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        data, mask = self.data, self.mask.astype(float)
        self.levels = [(data, mask)]
        # [D] guides/scale: 2 x 2 pixels into one until a level fits into 256 x 256; means of
        # what is valid (guides/image_manifest, MEAN).
        while max(data.shape) > 256:
            h, w = -(-data.shape[0] // 2), -(-data.shape[1] // 2)
            less, part = np.zeros((h, w)), np.zeros((h, w))
            for r in range(h):
                for c in range(w):
                    block = np.s_[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
                    weight = mask[block].sum()
                    if weight > 0:
                        less[r, c] = (data[block] * mask[block]).sum() / weight
                    part[r, c] = weight / mask[block].size
            data, mask = less, part
            self.levels.append((data, mask))


def doubt(position: float, exact: bool) -> bool:
    """Whether a position is so close to an edge that rounding decides."""
    away = abs(position - round(position))
    return 1e-9 < away < 1e-5 if exact else away < 0.01


class Reference:
    """Evaluates graphs over made-up assets.

    Parameters
    ----------
    assets : dict of id to dict of band name to Asset
    """

    def __init__(self, assets: dict[str, dict[str, Asset]]) -> None:
        self.assets = assets

    def evaluate(self, expression: dict[str, Any]) -> Any:
        self.values = expression["values"]
        self.made: dict[str, Any] = {}
        return self.node(self.values[expression["result"]], {})

    def node(self, node: dict[str, Any], names: dict[str, Any]) -> Any:
        ((what, value),) = node.items()
        if what == "constantValue":
            return value
        if what == "integerValue":
            return int(value)
        if what == "valueReference":
            if names:
                return self.node(self.values[value], names)
            if value not in self.made:
                self.made[value] = self.node(self.values[value], names)
            return self.made[value]
        if what == "argumentReference":
            return names[value]
        if what == "arrayValue":
            return [self.node(v, names) for v in value["values"]]
        if what == "dictionaryValue":
            return {k: self.node(v, names) for k, v in value["values"].items()}
        if what == "functionDefinitionValue":
            return lambda x: self.node(
                self.values[value["body"]], {**names, value["argumentNames"][0]: x}
            )
        assert what == "functionInvocationValue", what
        arguments = {k: self.node(v, names) for k, v in value.get("arguments", {}).items()}
        return getattr(self, value["functionName"].replace(".", "_"))(**arguments)

    # ---- sources

    def Image_load(self, id: str, version: Any = None) -> Image:
        return {name: self._stored(asset) for name, asset in self.assets[id].items()}

    def _stored(self, asset: Asset) -> Band:
        def at(grid: Grid, column: int, row: int) -> Value:
            # [D] guides/scale: the level with the closest scale not coarser than the request,
            # then the pixel that holds the centre.
            ratio = grid.scale / asset.grid.scale
            level = 0
            while level + 1 < len(asset.levels) and 2 ** (level + 1) <= ratio * (1 + 1e-6):
                level += 1
            data, mask = asset.levels[level]
            x, y, exact = moved(grid, column + 0.5, row + 0.5, asset.grid.scaled(2**level))
            sure = not (doubt(x, exact) or doubt(y, exact))
            c, r = math.floor(x + 1e-9), math.floor(y + 1e-9)
            h, w = asset.data.shape
            inside = 0 <= x + 1e-9 < w / 2**level and 0 <= y + 1e-9 < h / 2**level
            if not inside or mask[r, c] == 0:
                return Value(0, 0.0, sure)
            return Value(asset.kind.number(data[r, c]), float(mask[r, c]), sure)

        return Band(asset.kind, asset.grid, at)

    def Image_constant(self, value: Any) -> Image:
        # apidocs ee-image-constant: the range of a constant is its value.
        if isinstance(value, list):
            return {f"constant_{i}": self._constant(v) for i, v in enumerate(value)}
        return {"constant": self._constant(value)}

    def _constant(self, value: Any) -> Band:
        kind = Kind("int" if isinstance(value, int) else "double", value, value)
        return Band(kind, WORLD, lambda g, c, r: Value(kind.number(value)))

    def Image_pixelLonLat(self) -> Image:
        def lonlat(grid: Grid, column: int, row: int) -> tuple[float, float]:
            return change(grid.crs, "EPSG:4326").transform(*grid.place(column + 0.5, row + 0.5))

        double = Kind("double")
        return {
            "longitude": Band(double, WORLD, lambda g, c, r: Value(lonlat(g, c, r)[0])),
            "latitude": Band(double, WORLD, lambda g, c, r: Value(lonlat(g, c, r)[1])),
        }

    # ---- two images

    def _pairs(self, a: Image, b: Image) -> Iterable[tuple[str, Band, Band]]:
        # [A] Image.add: one band goes with each; equal names by name; else in order.
        if len(b) == 1 and len(a) >= 1:
            other = next(iter(b.values()))
            return [(n, x, other) for n, x in a.items()]
        if len(a) == 1:
            other = next(iter(a.values()))
            return [(n, other, y) for n, y in b.items()]
        if len(a) == len(b):
            if set(a) == set(b):
                return [(n, x, b[n]) for n, x in a.items()]
            return [(n, x, y) for (n, x), y in zip(a.items(), b.values(), strict=True)]
        names = a if len(a) > len(b) else b
        return [(n, a[n], b[n]) for n in names if n in a and n in b]

    def _binary(
        self, image1: Image, image2: Image, kind: Callable[[Kind, Kind], Kind],
        apply: Callable[[Any, Any, Kind], Any],
    ) -> Image:  # fmt: skip
        out = {}
        for name, x, y in self._pairs(image1, image2):
            made = kind(x.kind, y.kind)

            def at(g: Grid, c: int, r: int, x: Band = x, y: Band = y, made: Kind = made) -> Value:
                p, q = x.at(g, c, r), y.at(g, c, r)
                sure = p.sure and q.sure
                # [D] guides/image_math: valid only where both are; [?] the lesser mask.
                if p.mask == 0 or q.mask == 0:
                    return Value(0, 0.0, sure)
                return Value(made.number(apply(p.value, q.value, made)), min(p.mask, q.mask), sure)

            # [?] the default projection of a constant with an image is the image's.
            grid = y.grid if x.grid == WORLD else x.grid
            out[name] = Band(made, grid, at)
        return out

    def Image_add(self, image1: Image, image2: Image) -> Image:
        return self._binary(image1, image2, wider, lambda a, b, k: k.number(a) + k.number(b))

    def Image_subtract(self, image1: Image, image2: Image) -> Image:
        return self._binary(image1, image2, wider, lambda a, b, k: k.number(a) - k.number(b))

    def Image_multiply(self, image1: Image, image2: Image) -> Image:
        return self._binary(image1, image2, wider, lambda a, b, k: k.number(a) * k.number(b))

    def Image_divide(self, image1: Image, image2: Image) -> Image:
        # [A]: division by zero gives 0; [?] a quotient of integers is float.
        def kind(a: Kind, b: Kind) -> Kind:
            made = wider(a, b)
            return Kind("float") if made.precision == "int" else made

        return self._binary(
            image1, image2, kind,
            lambda a, b, k: k.number(a) / k.number(b) if b != 0 else 0,
        )  # fmt: skip

    def Image_mod(self, image1: Image, image2: Image) -> Image:
        # The remainder has the sign of the first, as in Java, and is 0 where the second is.
        return self._binary(
            image1, image2, wider,
            lambda a, b, k: math.fmod(k.number(a), k.number(b)) if b != 0 else 0,
        )  # fmt: skip

    def Image_max(self, image1: Image, image2: Image) -> Image:
        return self._binary(image1, image2, union, lambda a, b, k: max(a, b))

    def Image_min(self, image1: Image, image2: Image) -> Image:
        return self._binary(image1, image2, union, lambda a, b, k: min(a, b))

    def _test(self, image1: Image, image2: Image, test: Callable[[Any, Any], bool]) -> Image:
        # [A]: comparisons give 1 or 0.
        unit = Kind("int", 0, 1)
        return self._binary(image1, image2, lambda a, b: unit, lambda a, b, k: int(test(a, b)))

    def Image_gt(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a > b)

    def Image_gte(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a >= b)

    def Image_lt(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a < b)

    def Image_lte(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a <= b)

    def Image_eq(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a == b)

    def Image_neq(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a != b)

    def Image_and(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a != 0 and b != 0)

    def Image_or(self, image1: Image, image2: Image) -> Image:
        return self._test(image1, image2, lambda a, b: a != 0 or b != 0)

    # ---- one image

    def _unary(
        self, image: Image, kind: Callable[[Kind], Kind], apply: Callable[[Any, Kind], Any]
    ) -> Image:
        out = {}
        for name, band in image.items():
            made = kind(band.kind)

            def at(g: Grid, c: int, r: int, band: Band = band, made: Kind = made) -> Value:
                p = band.at(g, c, r)
                if p.mask == 0:
                    return p
                return Value(made.number(apply(p.value, made)), p.mask, p.sure)

            out[name] = Band(made, band.grid, at)
        return out

    def Image_abs(self, value: Image) -> Image:
        return self._unary(value, lambda k: Kind(k.precision), lambda v, k: abs(v))

    def Image_not(self, value: Image) -> Image:
        return self._unary(value, lambda k: Kind("int", 0, 1), lambda v, k: int(v == 0))

    def Image_floor(self, value: Image) -> Image:
        return self._unary(value, lambda k: Kind(k.precision), lambda v, k: math.floor(float(v)))

    def Image_ceil(self, value: Image) -> Image:
        return self._unary(value, lambda k: Kind(k.precision), lambda v, k: math.ceil(float(v)))

    def Image_round(self, value: Image) -> Image:
        return self._unary(
            value, lambda k: Kind(k.precision), lambda v, k: math.floor(float(v) + 0.5)
        )

    def Image_sqrt(self, value: Image) -> Image:
        def kind(k: Kind) -> Kind:
            return Kind("double" if k.precision == "int" else k.precision)

        return self._unary(value, kind, lambda v, k: np.sqrt(k.number(v)))

    def _cast(self, value: Image, low: int, high: int) -> Image:
        # apidocs ee-image-tobyte: towards zero; [?] to the nearest end of the range.
        return self._unary(
            value, lambda k: Kind("int", low, high),
            lambda v, k: min(max(math.trunc(float(v)), low), high),
        )  # fmt: skip

    def Image_toByte(self, value: Image) -> Image:
        return self._cast(value, 0, 255)

    def Image_toInt8(self, value: Image) -> Image:
        return self._cast(value, -128, 127)

    def Image_toInt16(self, value: Image) -> Image:
        return self._cast(value, -(2**15), 2**15 - 1)

    def Image_toInt32(self, value: Image) -> Image:
        return self._cast(value, -(2**31), 2**31 - 1)

    def Image_toFloat(self, value: Image) -> Image:
        return self._unary(value, lambda k: Kind("float"), lambda v, k: v)

    def Image_toDouble(self, value: Image) -> Image:
        return self._unary(value, lambda k: Kind("double"), lambda v, k: v)

    def Image_clamp(self, input: Image, low: float, high: float) -> Image:
        return self._unary(input, lambda k: Kind(k.precision), lambda v, k: min(max(v, low), high))

    def Image_normalizedDifference(self, input: Image, bandNames: list[str] | None = None) -> Image:
        names = bandNames or list(input)[:2]
        first, second = input[names[0]], input[names[1]]
        wide = wider(first.kind, second.kind).precision
        made = Kind("float" if wide == "int" else wide, -1, 1)

        def at(g: Grid, c: int, r: int) -> Value:
            p, q = first.at(g, c, r), second.at(g, c, r)
            sure = p.sure and q.sure
            # [A]: negative inputs mask the result.
            if p.mask == 0 or q.mask == 0 or p.value < 0 or q.value < 0:
                return Value(0, 0.0, sure)
            a, b = made.number(p.value), made.number(q.value)
            total = a + b
            return Value((a - b) / total if total else 0.0, min(p.mask, q.mask), sure)

        return {"nd": Band(made, first.grid, at)}

    # ---- bands

    def Image_select(
        self, input: Image, bandSelectors: list[Any], newNames: list[str] | None = None
    ) -> Image:
        names = [list(input)[s] if isinstance(s, int) else s for s in bandSelectors]
        return dict(zip(newNames or names, (input[n] for n in names), strict=True))

    def Image_rename(self, input: Image, names: list[str]) -> Image:
        return dict(zip(names, input.values(), strict=True))

    def Image_addBands(
        self, dstImg: Image, srcImg: Image, names: Any = None, overwrite: bool = False
    ) -> Image:
        out = dict(dstImg)
        for name, band in srcImg.items():
            fresh, number = name, 0
            while fresh in out:
                number += 1
                fresh = f"{name}_{number}"
            out[fresh] = band
        return out

    # ---- masks

    def _partners(self, image: Image, other: Image) -> list[tuple[str, Band, Band]]:
        others = list(other.values())
        if len(others) == 1:
            others = others * len(image)
        return [(n, b, o) for (n, b), o in zip(image.items(), others, strict=True)]

    def Image_updateMask(self, image: Image, mask: Image) -> Image:
        out = {}
        for name, band, other in self._partners(image, mask):

            def at(g: Grid, c: int, r: int, band: Band = band, other: Band = other) -> Value:
                p, m = band.at(g, c, r), other.at(g, c, r)
                # [A]: replaced wherever the existing mask is not zero.
                new = p.mask and as_mask(m)
                return Value(p.value if new else 0, new, p.sure and m.sure)

            out[name] = Band(band.kind, band.grid, at)
        return out

    def Image_selfMask(self, image: Image) -> Image:
        return self.Image_updateMask(image, image)

    def Image_mask(self, image: Image, mask: Image | None = None) -> Image:
        out = {}
        if mask is None:
            for name, band in image.items():

                def get(g: Grid, c: int, r: int, band: Band = band) -> Value:
                    p = band.at(g, c, r)
                    return Value(np.float32(p.mask), 1.0, p.sure)

                out[name] = Band(Kind("float", 0, 1), band.grid, get)
            return out
        for name, band, other in self._partners(image, mask):

            def put(g: Grid, c: int, r: int, band: Band = band, other: Band = other) -> Value:
                # [A]: pixels that were masked get the value nearest zero.
                p, m = band.at(g, c, r), other.at(g, c, r)
                new = as_mask(m)
                nearest = 0.0
                if band.kind.low is not None and band.kind.high is not None:
                    nearest = min(max(0.0, band.kind.low), band.kind.high)
                value = p.value if p.mask else band.kind.number(nearest)
                return Value(value if new else 0, new, p.sure and m.sure)

            out[name] = Band(band.kind, band.grid, put)
        return out

    def Image_unmask(
        self, input: Image, value: Image | None = None, sameFootprint: bool = True
    ) -> Image:
        value = self.Image_constant(0) if value is None else value
        out = {}
        for name, band, other in self._partners(input, value):
            kind = union(band.kind, other.kind)

            def at(
                g: Grid, c: int, r: int, band: Band = band, other: Band = other, kind: Kind = kind
            ) -> Value:
                p, q = band.at(g, c, r), other.at(g, c, r)
                # [A]: value and mask of the other wherever the mask is zero.
                taken = p if p.mask else q
                sure = p.sure and q.sure
                return Value(kind.number(taken.value) if taken.mask else 0, taken.mask, sure)

            out[name] = Band(kind, band.grid, at)
        assert not sameFootprint, "footprints are not part of the reference"
        return out

    def Image_where(self, input: Image, test: Image, value: Image) -> Image:
        out = {}
        tests = self._partners(input, test)
        values = self._partners(input, value)
        for (name, band, t), (_, _, v) in zip(tests, values, strict=True):
            kind = union(band.kind, v.kind)

            def at(
                g: Grid, c: int, r: int, band: Band = band, t: Band = t, v: Band = v,
                kind: Kind = kind,
            ) -> Value:  # fmt: skip
                p, q, w = band.at(g, c, r), t.at(g, c, r), v.at(g, c, r)
                sure = p.sure and q.sure and w.sure
                if p.mask == 0:
                    return Value(0, 0.0, sure)
                # [A]: a masked test or value keeps the input; the mask stays the input's.
                take = q.mask > 0 and w.mask > 0 and q.value != 0
                return Value(kind.number(w.value if take else p.value), p.mask, sure)

            out[name] = Band(kind, band.grid, at)
        return out

    # ---- grids

    def Projection(self, crs: Any, transform: Any = None, transformWkt: Any = None) -> Grid:
        base = crs if isinstance(crs, Grid) else Grid(crs, (1, 0, 0, 0, 1, 0))
        return Grid(base.crs, tuple(transform)) if transform else base

    def _target(self, crs: Any, crsTransform: Any, scale: float | None) -> Grid:
        grid = self.Projection(crs, crsTransform)
        return grid if scale is None else grid.scaled(scale / grid.scale)

    def Image_reproject(
        self, image: Image, crs: Any, crsTransform: Any = None, scale: float | None = None
    ) -> Image:
        target = self._target(crs, crsTransform, scale)
        out = {}
        for name, band in image.items():

            def at(g: Grid, c: int, r: int, band: Band = band) -> Value:
                # [D] guides/projections: computed on that grid, then the nearest pixel.
                x, y, exact = moved(g, c + 0.5, r + 0.5, target)
                p = band.at(target, math.floor(x + 1e-9), math.floor(y + 1e-9))
                return p._replace(sure=p.sure and not (doubt(x, exact) or doubt(y, exact)))

            out[name] = Band(band.kind, target, at)
        return out

    def Image_setDefaultProjection(
        self, image: Image, crs: Any, crsTransform: Any = None, scale: float | None = None
    ) -> Image:
        # [D]: metadata only.
        target = self._target(crs, crsTransform, scale)
        return {n: Band(b.kind, target, b.at) for n, b in image.items()}

    def Image_resample(self, image: Image, mode: str = "bilinear") -> Image:
        out = {}
        for name, band in image.items():
            kind = Kind("float" if band.kind.precision == "int" else band.kind.precision)

            def at(g: Grid, c: int, r: int, band: Band = band, kind: Kind = kind) -> Value:
                # [D] guides/resample: no valid use on composites.
                if band.grid == WORLD:
                    return band.at(g, c, r)
                k, ratio = 1, g.scale / band.grid.scale
                while 2 * k <= ratio * (1 + 1e-6):
                    k *= 2
                own = band.grid.scaled(k)
                x, y, exact = moved(g, c + 0.5, r + 0.5, own)
                x, y = x - 0.5, y - 0.5
                if abs(x - round(x)) < 1e-6 and abs(y - round(y)) < 1e-6:
                    p = band.at(own, round(x), round(y))
                    return p._replace(value=kind.number(p.value))
                weigh = linear if mode == "bilinear" else cubic
                total, part, sure = 0.0, 0.0, exact
                for j, wx in weigh(x):
                    for i, wy in weigh(y):
                        p = band.at(own, j, i)
                        sure = sure and p.sure
                        if wx * wy == 0:
                            continue
                        # [?]: a masked pixel that contributes masks the result.
                        if p.mask == 0:
                            return Value(0, 0.0, sure)
                        total += float(p.value) * wx * wy
                        part += p.mask * wx * wy
                return Value(kind.number(total), min(max(part, 0.0), 1.0), sure)

            out[name] = Band(kind, band.grid, at)
        return out

    def Image_reduceResolution(
        self, image: Image, reducer: tuple[Any, ...], bestEffort: bool = False, maxPixels: int = 64
    ) -> Image:
        out = {}
        for name, band in image.items():
            kind = reducer[1](band.kind)

            def at(g: Grid, c: int, r: int, band: Band = band) -> Value:
                if g.scale <= band.grid.scale * (1 + 1e-6):
                    p = band.at(g, c, r)
                    return p if p.mask == 0 else reduced(reducer, [p], p.sure)
                corners = [
                    moved(g, c + dx, r + dy, band.grid)[:2]
                    for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))
                ]
                whole = area(corners)
                found, sure = [], True
                xs, ys = zip(*corners, strict=True)
                for j in range(math.floor(min(xs)), math.ceil(max(xs))):
                    for i in range(math.floor(min(ys)), math.ceil(max(ys))):
                        share = area(clipped(corners, j, i, j + 1, i + 1))
                        if share < 1e-4:
                            continue
                        p = band.at(band.grid, j, i)
                        sure = sure and p.sure
                        # [A]: weights are the mask times the covered fraction of the output.
                        found.append(p._replace(mask=p.mask * share / whole))
                return reduced(reducer, found, sure, weighted=True)

            out[name] = Band(kind, band.grid, at)
        return out

    def Image_clip(self, input: Image, geometry: list[tuple[float, float]]) -> Image:
        crs, ring = geometry
        left, top = min(p[0] for p in ring), max(p[1] for p in ring)
        right, bottom = max(p[0] for p in ring), min(p[1] for p in ring)
        out = {}
        for name, band in input.items():

            def at(g: Grid, c: int, r: int, band: Band = band) -> Value:
                # [D] guides/reducers_weighting: the mask is the share of the pixel inside.
                plane = Grid(crs, (1, 0, 0, 0, 1, 0))
                corners = [
                    moved(g, c + dx, r + dy, plane)[:2]
                    for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))
                ]
                share = area(clipped(corners, left, bottom, right, top)) / area(corners)
                share = 1.0 if share > 1 - 1e-9 else share
                p = band.at(g, c, r)
                # Engines cut shapes to some fraction of a pixel.
                sure = p.sure and not 0 < share < 0.01
                mask = p.mask * share
                return Value(p.value if mask else 0, mask, sure)

            out[name] = Band(band.kind, band.grid, at)
        return out

    def GeometryConstructors_Rectangle(
        self, coordinates: list[Any], crs: Grid | None = None, geodesic: bool = True,
        evenOdd: bool = True,
    ) -> Any:  # fmt: skip
        assert crs is not None and not geodesic
        return crs.crs, list(zip(*[iter(np.ravel(coordinates).tolist())] * 2, strict=True))

    # ---- collections

    def ImageCollection_fromImages(self, images: list[Image]) -> list[Image]:
        return images

    def Collection_map(
        self, collection: list[Image], baseAlgorithm: Callable[[Image], Image],
        dropNulls: bool = False,
    ) -> list[Image]:  # fmt: skip
        return [baseAlgorithm(image) for image in collection]

    def _stack(
        self, images: list[Image], kind: Callable[[Kind], Kind],
        reduce: Callable[[list[Any]], Any],
    ) -> Image:  # fmt: skip
        out = {}
        for name in dict.fromkeys(n for i in images for n in i):
            bands = [i[name] for i in images if name in i]
            whole = bands[0].kind
            for b in bands[1:]:
                whole = union(whole, b.kind)
            made = kind(whole)

            def at(g: Grid, c: int, r: int, bands: Any = bands, made: Kind = made) -> Value:
                found = [b.at(g, c, r) for b in bands]
                good = [p for p in found if p.mask > 0]
                sure = all(p.sure for p in found)
                if not good:
                    return Value(0, 0.0, sure)
                # [?]: a composite has the greatest of the masks.
                return Value(made.number(reduce(good)), max(p.mask for p in good), sure)

            # [D] guides/projections: composites have EPSG:4326 at one degree.
            out[name] = Band(made, WORLD, at)
        return out

    def reduce_median(self, collection: list[Image]) -> Image:
        return self._stack(collection, mean_kind, lambda p: np.median([float(v.value) for v in p]))

    def reduce_min(self, collection: list[Image]) -> Image:
        return self._stack(collection, lambda k: k, lambda p: min(v.value for v in p))

    def reduce_max(self, collection: list[Image]) -> Image:
        return self._stack(collection, lambda k: k, lambda p: max(v.value for v in p))

    def reduce_mean(self, collection: list[Image]) -> Image:
        # [D] guides/reducers_weighting: masks are weights.
        return self._stack(
            collection, mean_kind,
            lambda p: sum(float(v.value) * v.mask for v in p) / sum(v.mask for v in p),
        )  # fmt: skip

    def ImageCollection_mosaic(self, collection: list[Image]) -> Image:
        # [D] guides/ic_composite_mosaic: the last on top, by mask; [?] with its own mask.
        out = self._stack(collection, lambda k: k, lambda p: p[-1].value)
        for name, band in list(out.items()):
            stack = [i[name] for i in collection if name in i]

            def at(g: Grid, c: int, r: int, band: Band = band, stack: Any = stack) -> Value:
                p = band.at(g, c, r)
                good = [q.mask for b in stack if (q := b.at(g, c, r)).mask > 0]
                return p._replace(mask=good[-1] if good else 0.0)

            out[name] = Band(band.kind, WORLD, at)
        return out

    def ImageCollection_qualityMosaic(self, collection: list[Image], qualityBand: str) -> Image:
        def at(g: Grid, c: int, r: int, name: str) -> Value:
            best, chosen, sure = None, MASKED, True
            for image in collection:
                q = image[qualityBand].at(g, c, r)
                p = image[name].at(g, c, r)
                sure = sure and q.sure and p.sure
                # [D]: all bands from the image of the greatest quality; [?] the first of equals.
                if q.mask > 0 and (best is None or q.value > best):
                    best, chosen = q.value, p
            return chosen._replace(sure=sure, value=chosen.value if chosen.mask else 0)

        out = {}
        for name in collection[0]:
            kind = collection[0][name].kind
            for image in collection[1:]:
                kind = union(kind, image[name].kind)
            out[name] = Band(kind, WORLD, lambda g, c, r, name=name: at(g, c, r, name))
        return out

    # ---- reducers

    def Reducer_mean(self) -> tuple[Any, ...]:
        return "mean", mean_kind

    def Reducer_sum(self) -> tuple[Any, ...]:
        return "sum", lambda k: Kind("?")

    def Reducer_min(self, numInputs: int = 1) -> tuple[Any, ...]:
        return "min", lambda k: k

    def Reducer_max(self, numInputs: int = 1) -> tuple[Any, ...]:
        return "max", lambda k: k

    def Reducer_median(self, **_: Any) -> tuple[Any, ...]:
        return "median", mean_kind

    def Reducer_stdDev(self) -> tuple[Any, ...]:
        return "stdDev", lambda k: Kind("?")

    def Reducer_variance(self) -> tuple[Any, ...]:
        return "variance", lambda k: Kind("?")

    def Reducer_count(self) -> tuple[Any, ...]:
        return "count", lambda k: Kind("?")

    # ---- neighbourhoods: kernels are lists of (column, row, weight)

    def _kernel(
        self, radius: float, inside: Callable[[int, int], bool], normalize: bool, magnitude: float
    ) -> list[tuple[int, int, float]]:
        n = math.floor(radius)
        cells = [(c, r) for r in range(-n, n + 1) for c in range(-n, n + 1) if inside(c, r)]
        weight = magnitude / len(cells) if normalize else magnitude
        return [(c, r, weight) for c, r in cells]

    def Kernel_square(
        self, radius: float, units: str = "pixels", normalize: bool = True, magnitude: float = 1
    ) -> Any:
        return self._kernel(radius, lambda c, r: True, normalize, magnitude)

    def Kernel_circle(
        self, radius: float, units: str = "pixels", normalize: bool = True, magnitude: float = 1
    ) -> Any:
        return self._kernel(radius, lambda c, r: c * c + r * r <= radius**2, normalize, magnitude)

    def Kernel_plus(
        self, radius: float, units: str = "pixels", normalize: bool = True, magnitude: float = 1
    ) -> Any:
        return self._kernel(radius, lambda c, r: c == 0 or r == 0, normalize, magnitude)

    def Kernel_euclidean(
        self, radius: float, units: str = "pixels", normalize: bool = False, magnitude: float = 1
    ) -> Any:
        return "euclidean", radius

    def Kernel_manhattan(
        self, radius: float, units: str = "pixels", normalize: bool = False, magnitude: float = 1
    ) -> Any:
        return "manhattan", radius

    def Kernel_fixed(
        self, weights: list[list[float]], width: int = -1, height: int = -1, x: int = -1,
        y: int = -1, normalize: bool = False,
    ) -> Any:  # fmt: skip
        x = len(weights[0]) // 2 if x < 0 else x
        y = len(weights) // 2 if y < 0 else y
        return [(c - x, r - y, w) for r, row in enumerate(weights) for c, w in enumerate(row)]

    def Image_convolve(self, image: Image, kernel: Any) -> Image:
        out = {}
        for name, band in image.items():
            kind = Kind("float" if band.kind.precision == "float" else "double")

            def at(g: Grid, c: int, r: int, band: Band = band, kind: Kind = kind) -> Value:
                total, sure = 0.0, True
                for dc, dr, weight in kernel:
                    # A convolution: the kernel turned half round.
                    p = band.at(g, c - dc, r - dr)
                    if weight == 0:
                        continue
                    sure = sure and p.sure
                    if p.mask == 0:  # [?]
                        return Value(0, 0.0, sure)
                    total += float(p.value) * weight
                return Value(kind.number(total), 1.0, sure)

            out[name] = Band(kind, band.grid, at)
        return out

    def Image_reduceNeighborhood(
        self, image: Image, reducer: tuple[Any, ...], kernel: Any, inputWeight: str = "kernel",
        skipMasked: bool = True, optimization: Any = None,
    ) -> Image:  # fmt: skip
        out = {}
        for name, band in image.items():

            def at(g: Grid, c: int, r: int, band: Band = band) -> Value:
                here = band.at(g, c, r)
                if skipMasked and here.mask == 0:
                    return Value(0, 0.0, here.sure)
                found, sure = [], True
                for dc, dr, weight in kernel:
                    if weight == 0:
                        continue
                    p = band.at(g, c + dc, r + dr)
                    sure = sure and p.sure
                    # [A] inputWeight: kernel values, or masks, are the weights.
                    strength = (p.mask > 0) * weight if inputWeight == "kernel" else p.mask
                    found.append(p._replace(mask=strength))
                got = reduced(reducer, found, sure, weighted=True)
                mask = 0.0 if got.mask == 0 else 1.0
                return got._replace(mask=mask, value=got.value if mask else 0)

            out[f"{name}_{reducer[0]}"] = Band(reducer[1](band.kind), band.grid, at)
        return out

    def _focal(self, reducer: Any, image: Image, radius: float, kernelType: str) -> Image:
        kernel = getattr(self, f"Kernel_{kernelType}")(radius)
        # [A]: a morphological filter; masked pixels with valid neighbours get a value.
        found = self.Image_reduceNeighborhood(image, reducer, kernel, "kernel", False)
        return dict(zip(image, found.values(), strict=True))

    def Image_focalMax(
        self, image: Image, radius: float = 1.5, kernelType: str = "circle"
    ) -> Image:
        return self._focal(self.Reducer_max(), image, radius, kernelType)

    def Image_focalMin(
        self, image: Image, radius: float = 1.5, kernelType: str = "circle"
    ) -> Image:
        return self._focal(self.Reducer_min(), image, radius, kernelType)

    def Image_focalMean(
        self, image: Image, radius: float = 1.5, kernelType: str = "circle"
    ) -> Image:
        return self._focal(self.Reducer_mean(), image, radius, kernelType)

    def Image_focalMedian(
        self, image: Image, radius: float = 1.5, kernelType: str = "circle"
    ) -> Image:
        return self._focal(self.Reducer_median(), image, radius, kernelType)

    def _nearest(
        self, band: Band, g: Grid, c: int, r: int, reach: int, measure: Callable[[int, int], float]
    ) -> tuple[float, bool]:
        best, sure = math.inf, True
        for dr in range(-reach, reach + 1):
            for dc in range(-reach, reach + 1):
                p = band.at(g, c + dc, r + dr)
                sure = sure and p.sure
                if p.mask > 0 and p.value != 0:
                    best = min(best, measure(dc, dr))
        return best, sure

    def Image_fastDistanceTransform(
        self, image: Image, neighborhood: int = 256, units: str = "pixels",
        metric: str = "squared_euclidean",
    ) -> Image:  # fmt: skip
        band = next(iter(image.values()))
        measure: Any = {
            "squared_euclidean": lambda c, r: c * c + r * r,
            "manhattan": lambda c, r: abs(c) + abs(r),
            "chebyshev": lambda c, r: max(abs(c), abs(r)),
        }[metric]
        rim = neighborhood**2 if metric == "squared_euclidean" else neighborhood

        def at(g: Grid, c: int, r: int) -> Value:
            # [A]: all pixels, whatever the mask; [?] beyond the neighbourhood its rim.
            best, sure = self._nearest(band, g, c, r, neighborhood, measure)
            return Value(np.float32(min(best, rim)), 1.0, sure)

        return {"distance": Band(Kind("float"), band.grid, at)}

    def Image_distance(self, image: Image, kernel: Any, skipMasked: bool = True) -> Image:
        name, radius = kernel
        measure: Any = math.hypot if name == "euclidean" else lambda c, r: abs(c) + abs(r)
        out = {}
        for key, band in image.items():

            def at(g: Grid, c: int, r: int, band: Band = band) -> Value:
                here = band.at(g, c, r)
                best, sure = self._nearest(band, g, c, r, math.floor(radius), measure)
                if best > radius or (skipMasked and here.mask == 0):
                    return Value(0, 0.0, sure)
                return Value(np.float32(best), 1.0, sure)

            out[key] = Band(Kind("float"), band.grid, at)
        return out

    def Image_connectedPixelCount(
        self, input: Image, maxSize: int = 100, eightConnected: bool = True
    ) -> Image:
        steps = [(0, 1), (1, 0), (0, -1), (-1, 0)]
        if eightConnected:
            steps += [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        out = {}
        for name, band in input.items():

            def at(g: Grid, c: int, r: int, band: Band = band) -> Value:
                here = band.at(g, c, r)
                if here.mask == 0:
                    return here
                seen, edge, sure = {(c, r)}, [(c, r)], here.sure
                while edge and len(seen) < maxSize:
                    x, y = edge.pop(0)
                    for dx, dy in steps:
                        p = band.at(g, x + dx, y + dy)
                        sure = sure and p.sure
                        if p.mask > 0 and p.value == here.value and (x + dx, y + dy) not in seen:
                            seen.add((x + dx, y + dy))
                            edge.append((x + dx, y + dy))
                return Value(min(len(seen), maxSize), here.mask, sure)

            out[name] = Band(Kind("int"), band.grid, at)
        return out

    def Image_derivative(self, image: Image) -> Image:
        out = {}
        for name, band in image.items():
            kind = Kind("float" if band.kind.precision == "float" else "double")
            for axis, (dc, dr) in (("x", (1, 0)), ("y", (0, 1))):

                def at(
                    g: Grid, c: int, r: int, band: Band = band, dc: int = dc, dr: int = dr,
                    kind: Kind = kind,
                ) -> Value:  # fmt: skip
                    three = [band.at(g, c + k * dc, r + k * dr) for k in (-1, 0, 1)]
                    sure = all(p.sure for p in three)
                    if any(p.mask == 0 for p in three):
                        return Value(0, 0.0, sure)
                    rise = (float(three[2].value) - float(three[0].value)) / 2
                    return Value(kind.number(rise), 1.0, sure)

                out[f"{name}_{axis}"] = Band(kind, band.grid, at)
        return out

    def Terrain_slope(self, input: Image) -> Image:
        band = next(iter(input.values()))
        rises = list(self.Image_derivative({"z": band}).values())

        def at(g: Grid, c: int, r: int) -> Value:
            # [A]: from the four neighbours, in degrees; [?] per metre of the output's pixels.
            dx, dy = (b.at(g, c, r) for b in rises)
            sure = dx.sure and dy.sure
            if dx.mask == 0 or dy.mask == 0:
                return Value(0, 0.0, sure)
            a, b, _, d, e, _ = g.transform
            assert not geographic(g.crs)
            # dz/dcolumn = a dz/dx + d dz/dy, dz/drow = b dz/dx + e dz/dy
            east, north = np.linalg.solve([[a, d], [b, e]], [float(dx.value), float(dy.value)])
            return Value(np.float32(math.degrees(math.atan(math.hypot(east, north)))), 1.0, sure)

        return {"slope": Band(Kind("float", 0, 90), band.grid, at)}


# ---- rules that several functions share


def moved(grid: Grid, column: float, row: float, target: Grid) -> tuple[float, float, bool]:
    """Return where a place on one grid lies on another, and whether no projection was needed."""
    x, y = grid.place(column, row)
    if grid.crs == target.crs:
        return *target.pixel(x, y), True
    x, y = change(grid.crs, target.crs).transform(x, y)
    return *target.pixel(x, y), False


def wider(a: Kind, b: Kind) -> Kind:
    """[A] Image.add: the union of the input types, as far as precision goes."""
    for name in ("?", "double", "float"):
        if name in (a.precision, b.precision):
            return Kind(name)
    return Kind("int")


def union(a: Kind, b: Kind) -> Kind:
    """The smallest type that holds both."""
    precision = wider(a, b).precision
    if None in (a.low, a.high, b.low, b.high):
        return Kind(precision)
    return Kind(precision, min(a.low, b.low), max(a.high, b.high))  # type: ignore[type-var]


def mean_kind(kind: Kind) -> Kind:
    """[?]: means and medians of integers are double."""
    return Kind("double" if kind.precision == "int" else kind.precision)


def as_mask(p: Value) -> float:
    """[A] Image.updateMask: a number from 0 to 1, 0 where it is itself masked."""
    return min(max(float(p.value), 0.0), 1.0) * p.mask if p.mask else 0.0


def reduced(
    reducer: Sequence[Any], values: Sequence[Value], sure: bool, weighted: bool = False
) -> Value:
    """Reduce values whose masks are weights (guides/reducers_weighting)."""
    good = [p for p in values if p.mask > 0]
    name = reducer[0]
    if name == "count":
        return Value(len(good), 1.0, sure)
    if not good:
        return Value(0, 0.0, sure)
    numbers = [float(p.value) for p in good]
    weights = [p.mask if weighted else 1.0 for p in good]
    total = sum(w * v for w, v in zip(weights, numbers, strict=True))
    value: float
    if name == "mean":
        value = total / sum(weights)
    elif name == "sum":
        value = total
    elif name == "min":
        value = min(numbers)
    elif name == "max":
        value = max(numbers)
    elif name == "median":
        value = float(np.median(numbers))
    else:
        middle = total / sum(weights)
        value = sum(w * (v - middle) ** 2 for w, v in zip(weights, numbers, strict=True))
        value /= sum(weights)
        value = math.sqrt(value) if name == "stdDev" else value
    return Value(value, 1.0, sure)


def linear(x: float) -> list[tuple[int, float]]:
    base = math.floor(x)
    return [(base, 1 - (x - base)), (base + 1, x - base)]


def cubic(x: float) -> list[tuple[int, float]]:
    """Keys 1981, equation 8 with a = -1/2."""

    def weight(s: float) -> float:
        s = abs(s)
        if s < 1:
            return 1.5 * s**3 - 2.5 * s**2 + 1
        return -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2 if s < 2 else 0.0

    base = math.floor(x)
    return [(k, weight(x - k)) for k in range(base - 1, base + 3)]


Point = tuple[float, float]


def area(ring: Sequence[Point]) -> float:
    """The shoelace formula."""
    total = 0.0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], *ring[:1]], strict=True):
        total += x0 * y1 - x1 * y0
    return abs(total) / 2


def clipped(
    ring: Sequence[Point], left: float, low: float, right: float, high: float
) -> list[Point]:
    """Sutherland and Hodgman 1974: a convex polygon cut with a box."""
    out = list(ring)
    for axis, edge, keep_more in (
        (0, left, True),
        (0, right, False),
        (1, low, True),
        (1, high, False),
    ):
        points, out = out, []
        for k, p in enumerate(points):
            q = points[k - 1]
            p_in = (p[axis] >= edge) if keep_more else (p[axis] <= edge)
            q_in = (q[axis] >= edge) if keep_more else (q[axis] <= edge)
            if p_in != q_in:
                t = (edge - q[axis]) / (p[axis] - q[axis])
                out.append((q[0] + t * (p[0] - q[0]), q[1] + t * (p[1] - q[1])))
            if p_in:
                out.append(p)
    return out
