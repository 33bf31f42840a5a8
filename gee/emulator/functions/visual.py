"""Expressions and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..conversion import numbers
from ..errors import EngineError
from ..expressions import apply, free_names, parse
from ..image import Image, MapNode, PixelsNode
from ..kernels import both
from ..pixels import Band, Pixels
from ..types import BYTE, PixelType
from ..values import Function
from ._maths import BINARY, Binary
from .arithmetic import binary
from .masks import where
from .registry import REGISTRY, function

__all__ = ["colours"]


def _floor_divide(a: Any, b: Any) -> Any:
    zero = b == 0
    out = np.floor_divide(a, np.where(zero, 1, b)) if zero.any() else np.floor_divide(a, b)
    return np.where(zero, 0, out) if zero.any() else out


def _floor_kind(a: PixelType, b: PixelType) -> PixelType:
    """Type of a quotient of integers: the widest that either can reach."""
    if None in (a.low, a.high):
        return a.union(b)
    assert a.low is not None and a.high is not None
    most = max(abs(a.low), abs(a.high))
    negative = a.low < 0 or (b.low is None or b.low < 0)
    return PixelType("int", -int(most) if negative else 0, int(most))


_FLOOR = Binary(
    _floor_kind,
    lambda dtype: (
        lambda a, b: _floor_divide(
            a.astype(np.int64, copy=False), b.astype(np.int64, copy=False)
        ).astype(dtype, copy=False)
    ),
)


def _whole(image: Image) -> bool:
    return all(b.type.is_int for b in image.bands)


@function("Image.parseExpression", evaluator=True)
def parse_expression(
    evaluator: Any, text: str, default: str, names: list[str], free_bands: bool
) -> Function:
    """Return a function of images (guides/image_math); integers divide with floor."""
    from ..evaluate import coerce

    tree = parse(text)
    unknown = free_names(tree) - set(names)
    if unknown and not free_bands:
        raise EngineError(f"Unknown variable(s) {sorted(unknown)} in expression '{text}'.")

    def operate(name: str, *values: Any) -> Any:
        if name == "Image.select":
            return REGISTRY[name].call(coerce("Image", "", values[0], evaluator), *values[1:])
        images = [coerce("Image", "", v, evaluator) for v in values]
        if name == "divide":
            whole = _whole(images[0]) and _whole(images[1])
            return binary(_FLOOR if whole else BINARY["divide"], *images)
        if name == "choose":
            test, yes, no = images
            names_ = no.names if len(no.bands) >= len(yes.bands) else yes.names
            made = where(_like(no, len(names_)), test, _like(yes, len(names_)))
            return made.with_bands([b.renamed(n) for b, n in zip(made.bands, names_, strict=True)])
        entry = REGISTRY.get(name)
        if entry is None:
            raise EngineError(f"Unknown function '{name.removeprefix('Image.')}' in '{text}'.")
        return entry.call(*images)

    def call(given: dict[str, Any]) -> Image:
        for name, value in given.items():
            if value is None:
                raise EngineError(f"Variable '{name}' of the expression is null.")
        images = {k: coerce("Image", "", v, evaluator) for k, v in given.items()}
        made: Image = coerce(
            "Image", "", apply(tree, images, default, operate, free_bands), evaluator
        )
        return made

    return Function(names, call)


def _like(image: Image, count: int) -> Image:
    if len(image.bands) == count:
        return image
    first = image.bands[0]
    return image.with_bands([first.renamed(f"{first.id}_{i}") for i in range(count)])


def colours(palette: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return (n, 3) bytes of CSS names and hexadecimal colours."""
    from matplotlib import colors  # the one table of CSS names among the requirements

    entries = palette if isinstance(palette, list) else [palette]
    entries = [e for part in entries for e in str(part).replace(" ", "").split(",")]
    out = []
    for entry in entries:
        text = entry if not _is_hex(entry) else f"#{entry.lstrip('#')[:6]}"
        try:
            out.append([round(255 * v) for v in colors.to_rgb(text.lower())])
        except ValueError:
            raise EngineError(f"Invalid color '{entry}'.") from None
    return np.asarray(out, np.uint8)


def _is_hex(text: str) -> bool:
    raw = text.lstrip("#")
    return len(raw) in (6, 8) and all(c in "0123456789abcdefABCDEF" for c in raw)


def _numbers(value: Any, count: int) -> list[float] | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = [float(v) for v in value.split(",")]
        except ValueError:
            raise EngineError(f"Expected numbers, found '{value[:80]}'.") from None
    values = numbers(value, "Visualization parameters")
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise EngineError(f"Expected 1 or {count} values, got {len(values)}.")
    return values


@function("Image.visualize")
def visualize(
    image: Image,
    bands: Any,
    gain: Any,
    bias: Any,
    low: Any,
    high: Any,
    gamma: Any,
    opacity: float | None,
    palette: Any,
    force_rgb: bool,
) -> Image:
    """Return an 8-bit picture: vis-red, vis-green, vis-blue, or one band ``vis-gray``."""
    from .bands import chosen

    if isinstance(bands, str):
        bands = bands.split(",")
    if bands is not None and not isinstance(bands, list):
        raise EngineError("bands must be a list of names or one text.")
    picked: list[Band] = chosen(image, bands) if bands else list(image.bands[:3])
    if len(picked) == 2:
        picked = picked[:1]
    if len(picked) not in (1, 3):
        raise EngineError(f"Must specify 1 or 3 bands to visualize, not {len(picked)}.")
    n = len(picked)
    lows, highs = _numbers(low, n), _numbers(high, n)
    gains, biases = _numbers(gain, n), _numbers(bias, n)
    powers = _numbers(gamma, n)
    table = None
    if palette:
        if n != 1:
            raise EngineError("A palette needs a single band.")
        table = colours(palette)
    if (lows is not None or highs is not None) and (gains is not None or biases is not None):
        raise EngineError("Specify min and max, or gain and bias.")

    def scaled(index: int, data: Any) -> Any:
        v = data.astype(np.float64)
        if gains is not None or biases is not None:
            out = v * (gains[index] if gains else 1.0) + (biases[index] if biases else 0.0)
            out = out / 255
        else:
            kind = picked[index].type
            a = (
                lows[index]
                if lows is not None
                else (0.0 if not kind.is_int else float(kind.low or 0))
            )
            b = (
                highs[index]
                if highs is not None
                else (1.0 if not kind.is_int else float(kind.high or 0))
            )
            out = (v - a) / (b - a) if b != a else (v >= a).astype(float)
        out = np.clip(np.nan_to_num(out), 0, 1)
        return out if powers is None else out ** (1 / powers[index])

    def painted(*got: Pixels) -> list[Pixels]:
        mask = None
        for pixels in got:
            mask = both(mask, pixels.mask)
        if opacity is not None and opacity < 1:
            base = np.ones((1, 1), np.float32) if mask is None else mask.astype(np.float32)
            mask = base * np.float32(opacity)
        if table is not None:
            # Colours are mixed between the entries of the palette.
            x = scaled(0, got[0].data) * (len(table) - 1)
            i = np.clip(x.astype(int), 0, max(len(table) - 2, 0))
            t = (x - i)[..., None]
            rgb = table[i] * (1 - t) + table[np.minimum(i + 1, len(table) - 1)] * t
            return [Pixels(np.round(rgb[..., k]).astype(np.uint8), mask) for k in range(3)]
        out = [
            Pixels(np.minimum(scaled(i, p.data) * 256, 255).astype(np.uint8), mask)
            for i, p in enumerate(got)
        ]
        return out * 3 if len(out) == 1 and force_rgb else out

    node = PixelsNode(painted, picked)
    gray = n == 1 and table is None and not force_rgb
    names = ["vis-gray"] if gray else ["vis-red", "vis-green", "vis-blue"]
    return image.with_bands(
        [picked[0].computed(BYTE, node, k).renamed(name) for k, name in enumerate(names)]
    )


@function("Image.randomVisualizer")
def random_visualizer(image: Image) -> Image:
    """Give every value of the first band a colour of its own."""
    if not image.bands:
        raise EngineError("The image has no bands.")
    first = image.bands[0]

    def channel(shift: int) -> MapNode:
        def compute(a: Any) -> Any:
            from .sources import hashed

            mixed = hashed(a.astype(np.int64), np.full(a.shape, shift), 0)
            return (mixed * 256).astype(np.uint8)

        return MapNode(compute, (first,))

    made = [
        first.computed(BYTE, channel(k)).renamed(name)
        for k, name in enumerate(("viz-red", "viz-green", "viz-blue"))
    ]
    return image.with_bands([*made, *image.bands])
