"""Choosing, naming and joining bands; properties of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import EngineError
from ..image import Element, Image, constant, unique_names
from ..patterns import pattern
from ..pixels import Band
from ..types import PixelType
from ..values import Array, Date
from .registry import function

__all__ = ["add_bands", "concatenated", "select"]


def chosen(image: Image, selectors: Sequence[Any]) -> list[Band]:
    """Return the bands that names, regular expressions or numbers select ([A] Image.select)."""
    out: list[Band] = []
    by_name = {b.id: b for b in image.bands}
    for selector in selectors:
        if isinstance(selector, bool) or not isinstance(selector, (str, int, float)):
            raise EngineError(f"Band selector {selector!r} is neither a name nor a number.")
        if isinstance(selector, (int, float)):
            index = int(selector)
            if not 0 <= index < len(image.bands):
                raise EngineError(
                    f"Band index {index} is out of range: the image has {len(image.bands)} bands."
                )
            out.append(image.bands[index])
            continue
        if selector in by_name:
            out.append(by_name[selector])
            continue
        try:
            found = [b for b in image.bands if pattern(selector).fullmatch(b.id)]
        except EngineError:
            found = []
        if not found:
            raise EngineError(
                f"Band pattern '{selector}' did not match any bands. Available bands: "
                f"[{', '.join(image.names)}]"
            )
        out += found
    return out


@function("Image.select")
def select(image: Image, selectors: list[Any], new_names: list[str] | None = None) -> Image:
    """Select bands, and rename them."""
    bands = chosen(image, selectors)
    if new_names is None:
        names = unique_names((), [b.id for b in bands])
    else:
        if len(new_names) != len(bands):
            raise EngineError(
                f"The number of new names ({len(new_names)}) must match the number of bands "
                f"selected ({len(bands)})."
            )
        names = _checked(new_names)
    return image.with_bands([b.renamed(n) for b, n in zip(bands, names, strict=True)])


def _checked(names: Sequence[str]) -> list[str]:
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_:.\- ]+", name):
            raise EngineError(f"Illegal band name '{name}'.")
    if len(set(names)) != len(names):
        twice = next(n for n in names if list(names).count(n) > 1)
        raise EngineError(f"Duplicate band name '{twice}'.")
    return list(names)


@function("Image.rename")
def rename(image: Image, names: list[str]) -> Image:
    """Rename all bands."""
    if len(names) != len(image.bands):
        raise EngineError(
            f"The number of names ({len(names)}) must match the number of bands "
            f"({len(image.bands)})."
        )
    return image.with_bands(
        [b.renamed(n) for b, n in zip(image.bands, _checked(names), strict=True)]
    )


@function("Image.regexpRename")
def regexp_rename(image: Image, regex: str, replacement: str, every: bool) -> Image:
    """Rename bands by a regular expression."""
    new = re.sub(r"\$(\d)", r"\\\1", replacement)
    names = [pattern(regex).sub(new, n, 0 if every else 1) for n in image.names]
    return rename(image, names)


@function("Image.slice")
def slice_bands(image: Image, start: int, end: int | None) -> Image:
    """Select a range of bands; negative numbers count from the end."""
    return image.with_bands(image.bands[start:end])


@function("Image.addBands")
def add_bands(
    target: Image, source: Image, names: list[str] | None = None, overwrite: bool = False
) -> Image:
    """Copy bands onto an image: twins are suffixed _1, _2 or overwritten ([A])."""
    added = list(source.bands) if names is None else chosen(source, names)
    if overwrite:
        new = {b.id: b for b in added}
        bands = [new.pop(b.id, b) for b in target.bands]
        return _with_more(target, [*bands, *new.values()], source)
    fresh = unique_names(target.names, [b.id for b in added])
    return _with_more(
        target,
        [*target.bands, *(b.renamed(n) for b, n in zip(added, fresh, strict=True))],
        source,
    )


def _with_more(target: Image, bands: Sequence[Band], source: Image) -> Image:
    made = target.with_bands(bands)
    if not target.bands and target.footprint_source is None:
        return made.with_footprint(source.footprint_source)
    return made


def concatenated(images: Sequence[Image]) -> Image:
    """Return all bands in one image, with the metadata of the first ([A] Image.cat)."""
    if not images:
        return Image([])
    first = images[0]
    names = unique_names((), [n for image in images for n in image.names])
    bands = [b for image in images for b in image.bands]
    return first.with_bands([b.renamed(n) for b, n in zip(bands, names, strict=True)])


@function("Image.cat", evaluator=True)
def cat(evaluator: Any, images: list[Any]) -> Image:
    """Combine images and numbers into one image."""
    from ..evaluate import coerce

    return concatenated([coerce("Image", "", i, evaluator) for i in images])


@function("Image.bandNames")
def band_names(image: Image) -> list[str]:
    """Return the names of the bands."""
    return image.names


@function("Image.bandTypes")
def band_types(image: Image) -> dict[str, PixelType]:
    """Return the pixel type of every band."""
    return {b.id: b.type for b in image.bands}


@function("Image.id")
def image_id(element: Element) -> str | None:
    """Return the asset id, or the index of a computed image."""
    if isinstance(element, Image) and element.id is not None:
        return element.id
    return element.properties.get("system:index")


@function("Image.date")
def image_date(image: Image) -> Date:
    """Return ``system:time_start`` as a date."""
    start = image.properties.get("system:time_start")
    if start is None:
        raise EngineError("Parameter 'value' is required and may not be null.")
    return Date(start)


@function("Image.constant")
def constants(value: Any) -> Image:
    """Return constant bands: ``constant``, or ``constant_0, constant_1`` for a list ([G])."""
    if isinstance(value, Array):
        from .array_images import constant_array

        return constant_array(value)
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, (int, float)):
        return constant(value)
    if isinstance(value, list):
        if not all(isinstance(v, (int, float)) for v in value):
            raise EngineError("Constant images are made of numbers.")
        made = [
            constant(int(v) if isinstance(v, bool) else v, f"constant_{i}")
            for i, v in enumerate(value)
        ]
        return Image([image.bands[0] for image in made])
    raise EngineError("Parameter 'value' must be a number or a list of numbers.")


@function("Image.metadata")
def metadata(image: Image, name: str, band: str | None) -> Image:
    """Return a constant double image of a property."""
    value = image.properties.get(name)
    if value is None or isinstance(value, (str, list, dict)):
        raise EngineError(f"Property '{name}' is not a number.")
    return constant(float(value), band or name)


@function("Dictionary.toImage")
def to_image(dictionary: dict[str, Any], names: list[str] | None) -> Image:
    """Return constant bands named by the keys."""
    keys = sorted(dictionary) if names is None else names
    bands: list[Band] = []
    for key in keys:
        value = dictionary.get(key)
        if isinstance(value, Array):
            from .array_images import constant_array

            bands += constant_array(value, key).bands
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise EngineError(f"The value of '{key}' must be a number.")
        bands.append(constant(value, key).bands[0])
    return Image(bands)
