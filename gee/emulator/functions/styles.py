"""Pictures by OGC's Styled Layer Descriptors.

SLD 1.0 and SE 1.1 ([A] Image.sldStyle): channels, contrast, gamma and colour maps of a
RasterSymbolizer; overlap, shaded relief, outlines and geometries are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from .. import kernels
from ..errors import EngineError
from ..image import Image, PixelsNode
from ..pixels import Array, Band, Pixels, render
from ..types import BYTE
from .registry import function

if TYPE_CHECKING:
    from ..evaluate import Evaluator

__all__: list[str] = []

_LONGEST = 1_000_000
# Side of the grid that the range and histogram of a band are taken on.
_SAMPLE = 256


# ------------------------------------------------------------------ reading the document


def _local(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _child(node: ElementTree.Element | None, *names: str) -> ElementTree.Element | None:
    for name in names:
        if node is None:
            return None
        node = next((c for c in node if _local(c) == name), None)
    return node


def _text(node: ElementTree.Element | None) -> str:
    return "" if node is None else "".join(node.itertext()).strip()


def _number(text: str, what: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise EngineError(f"The SLD's {what} must be a number, not '{text}'.")
    return found


def _symbolizer(text: str) -> ElementTree.Element:
    if len(text) > _LONGEST:
        raise EngineError(f"The SLD is too long: {len(text)} > {_LONGEST} characters.")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        # Entities can be made to grow without end.
        raise EngineError("The SLD must not declare document types or entities.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as problem:
        raise EngineError(f"The SLD is not well-formed XML: {problem}.") from None
    found = [node for node in root.iter() if _local(node) == "RasterSymbolizer"]
    if len(found) != 1:
        raise EngineError(f"The SLD must hold exactly one RasterSymbolizer, not {len(found)}.")
    return found[0]


def _colour(text: str) -> tuple[int, int, int]:
    digits = text.strip().lstrip("#")
    if len(digits) == 6 and all(c in "0123456789abcdefABCDEF" for c in digits):
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    raise EngineError(f"The SLD's colour must be written #rrggbb, not '{text}'.")


@dataclass(frozen=True)
class _Map:
    """Colours of values: ``kind`` is ramp, intervals or values."""

    kind: str
    quantities: Array
    colours: Array
    opaque: Array

    def paint(self, values: Array) -> tuple[Array, Array]:
        """Return colours (h, w, 3) as float64 and which pixels are shown."""
        q = self.quantities
        if self.kind == "values":
            place = np.clip(np.searchsorted(q, values), 0, len(q) - 1)
            return self.colours[place], (q[place] == values) & self.opaque[place]
        if self.kind == "intervals":
            # An entry colours the values below its quantity, from the one before it on.
            place = np.searchsorted(q, values, side="right")
            inside = place < len(q)
            place = np.minimum(place, len(q) - 1)
            return self.colours[place], inside & self.opaque[place]
        found = np.stack([np.interp(values, q, self.colours[:, k]) for k in range(3)], axis=-1)
        # Opacity only hides: a value belongs to the entry at or below it.
        place = np.clip(np.searchsorted(q, values, side="right") - 1, 0, len(q) - 1)
        return found, self.opaque[place]


def _colour_map(node: ElementTree.Element) -> _Map:
    kind = node.get("type", "ramp")
    entries: list[tuple[float, str, float]] = []
    smooth, steps = _child(node, "Interpolate"), _child(node, "Categorize")
    if smooth is not None:
        for point in smooth:
            if _local(point) == "InterpolationPoint":
                data, value = _text(_child(point, "Data")), _text(_child(point, "Value"))
                entries.append((_number(data, "Data"), value, 1.0))
    elif steps is not None:
        # Value, Threshold, Value, Threshold, ... Value: each threshold ends a colour.
        kind, colour = "intervals", ""
        for part in steps:
            if _local(part) == "Value":
                colour = _text(part)
            elif _local(part) == "Threshold":
                entries.append((_number(_text(part), "Threshold"), colour, 1.0))
        entries.append((math.inf, colour, 1.0))
    else:
        for entry in node:
            if _local(entry) == "ColorMapEntry":
                entries.append(
                    (
                        _number(entry.get("quantity", ""), "quantity"),
                        entry.get("color", ""),
                        _number(entry.get("opacity", "1"), "opacity"),
                    )
                )
    if kind not in ("ramp", "intervals", "values"):
        raise EngineError(f"Unknown type of ColorMap '{kind}': ramp, intervals or values.")
    if not entries:
        raise EngineError("The SLD's ColorMap has no entries.")
    entries.sort(key=lambda e: e[0])
    return _Map(
        kind,
        np.asarray([e[0] for e in entries]),
        np.asarray([_colour(e[1]) for e in entries], float),
        np.asarray([e[2] != 0 for e in entries]),
    )


@dataclass(frozen=True)
class _Contrast:
    """How a channel is stretched to 0..255: ``how`` is "", Normalize or Histogram."""

    how: str
    gamma: float


def _contrast(node: ElementTree.Element | None) -> _Contrast | None:
    found = _child(node, "ContrastEnhancement")
    if found is None:
        return None
    how = next((k for k in ("Normalize", "Histogram") if _child(found, k) is not None), "")
    gamma = _text(_child(found, "GammaValue"))
    value = _number(gamma, "GammaValue") if gamma else 1.0
    if value <= 0:
        raise EngineError(f"The SLD's GammaValue must be positive, not {value:g}.")
    return _Contrast(how, value)


def _channel(image: Image, node: ElementTree.Element) -> Band:
    name = _text(_child(node, "SourceChannelName"))
    for band in image.bands:
        if band.id == name:
            return band
    if name.isdigit() and 1 <= int(name) <= len(image.bands):
        return image.bands[int(name) - 1]
    return image.band(name)


# ------------------------------------------------------------------ painting


def _sampled(evaluator: Evaluator, image: Image, band: Band) -> Array:
    """Return the valid values of a band on a coarse grid over its image."""
    from ..grids import default_grid

    one = image.with_bands([band])
    grid = default_grid(one, dimensions=_SAMPLE)
    data, mask = render(one, grid, None, evaluator.limits)[band.id]
    values = data[mask > 0].astype(float)
    return np.asarray(values[np.isfinite(values)])


def _stretch(
    evaluator: Evaluator, image: Image, band: Band, contrast: _Contrast | None
) -> Callable[[Array], Array]:
    """Return what brings a band's values to 0..1."""
    if contrast is None or not contrast.how:
        power = 1.0 if contrast is None else 1 / contrast.gamma
        return lambda v: np.clip(v / 255, 0, 1) ** power
    values = _sampled(evaluator, image, band)
    if not len(values):
        return lambda v: np.zeros(np.shape(v))
    power = 1 / contrast.gamma
    if contrast.how == "Normalize":
        low, high = float(values.min()), float(values.max())
        span = high - low or 1.0
        return lambda v: np.clip((v - low) / span, 0, 1) ** power
    known, counts = np.unique(values, return_counts=True)
    share = np.cumsum(counts) / len(values)
    return lambda v: np.asarray(np.interp(v, known, share)) ** power


@function("Image.sldStyle", evaluator=True)
def sld_style(evaluator: Evaluator, image: Image, text: str) -> Image:
    """Return a picture of bands vis-red, vis-green and vis-blue.

    Without contrast values are taken as 0..255. A stretch by range or histogram is that of
    256 pixels a side over the image. Where the colour map shows nothing, or its opacity is 0,
    the picture is masked.
    """
    node = _symbolizer(text)
    if not image.bands:
        raise EngineError("The image has no bands.")
    shown = _text(_child(node, "Opacity"))
    hidden = bool(shown) and _number(shown, "Opacity") == 0
    chosen = _child(node, "ChannelSelection")
    places = [_child(chosen, name) for name in ("RedChannel", "GreenChannel", "BlueChannel")]
    gray = _child(chosen, "GrayChannel")
    general = _contrast(node)
    bands: list[Band]
    if all(p is not None for p in places):
        bands = [_channel(image, p) for p in places if p is not None]
        contrasts = [_contrast(p) or general for p in places]
    elif any(p is not None for p in places):
        raise EngineError("The SLD must select red, green and blue channels, or a gray one.")
    elif gray is not None:
        bands, contrasts = [_channel(image, gray)], [_contrast(gray) or general]
    else:
        bands = list(image.bands[:3] if len(image.bands) >= 3 else image.bands[:1])
        contrasts = [general] * len(bands)
    coloured = _child(node, "ColorMap")
    table = None
    if coloured is not None:
        table = _colour_map(coloured)
        bands = bands[:1]
        stretches: list[Callable[[Array], Array]] = []
    else:
        stretches = [
            _stretch(evaluator, image, b, c) for b, c in zip(bands, contrasts, strict=True)
        ]

    def paint(*got: Pixels) -> Sequence[Pixels]:
        mask: Any = None
        for pixels in got:
            mask = kernels.both(mask, pixels.mask)
        if hidden:
            return [Pixels(np.zeros((1, 1), np.uint8), np.zeros((1, 1), bool))] * 3
        if table is not None:
            colours, seen = table.paint(got[0].data.astype(float))
            mask = kernels.both(mask, seen)
            return [Pixels(np.round(colours[..., k]).astype(np.uint8), mask) for k in range(3)]
        made = [
            Pixels(np.round(stretch(p.data.astype(float)) * 255).astype(np.uint8), mask)
            for stretch, p in zip(stretches, got, strict=True)
        ]
        return made * 3 if len(made) == 1 else made

    node_ = PixelsNode(paint, bands)
    return image.with_bands(
        [
            bands[0].computed(BYTE, node_, k).renamed(name)
            for k, name in enumerate(("vis-red", "vis-green", "vis-blue"))
        ]
    )
