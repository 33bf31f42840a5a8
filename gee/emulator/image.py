"""Lazy images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import EngineError
from .geometry import Geometry
from .moving import AssetNode, ClipNode, ReprojectNode, ResampleNode, geometry_mask
from .nodes import BlockNode, ConstantNode, HaloNode, MapNode, PixelsNode, WindowNode, full
from .pixels import Band
from .projection import WGS84, Projection
from .types import FLOAT, PixelType

if TYPE_CHECKING:
    from .catalog import Asset, BandAsset

__all__ = [
    "BlockNode",
    "ClipNode",
    "ConstantNode",
    "Element",
    "HaloNode",
    "Image",
    "MapNode",
    "PixelsNode",
    "ReprojectNode",
    "ResampleNode",
    "WindowNode",
    "constant",
    "full",
    "geometry_mask",
    "load_image",
    "masked_band",
    "merged_properties",
    "unique_names",
]

Footprint = Geometry | Callable[[], Geometry] | None


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


def constant(value: int | float, name: str = "constant") -> Image:
    """Return an image with one value everywhere (apidocs ee-image-constant)."""
    kind = PixelType.of_number(value)
    if kind.is_int and not -(2**63) <= int(value) < 2**63:
        kind, value = PixelType("double", float(value), float(value)), float(value)
    return Image([Band(name, kind, WGS84, ConstantNode(value, kind))])


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

        def made() -> Geometry:
            outline = asset.outline
            assert outline is not None
            return outline

        footprint = made
    version = int(asset.updated * 1e6) if asset.updated else None
    return Image(bands, properties, asset.id, version, footprint)


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
