"""Reading the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thawslump.errors import ThawslumpError

from ..errors import EngineError
from ..geometry import parse_geojson
from ..image import Element, Image, load_image
from ..values import Blob, Collection, Feature
from .registry import function

if TYPE_CHECKING:
    from ..catalog import Asset
    from ..evaluate import Evaluator

__all__ = ["load", "load_collection", "load_table"]


def _asset(evaluator: Evaluator, asset_id: str, kind: str) -> Asset:
    try:
        found = evaluator.catalog.get(asset_id) if evaluator.catalog is not None else None
    except ThawslumpError:
        found = None
    if found is None:
        raise EngineError(
            f"{kind} asset '{asset_id}' not found (does not exist or caller does not have access)."
        )
    return found


def _wrong(asset: Asset, asset_id: str, kind: str) -> EngineError:
    shown = {"IMAGE": "an Image", "IMAGE_COLLECTION": "an ImageCollection"}
    return EngineError(
        f"Asset '{asset_id}' is not {kind}: it is "
        f"{shown.get(asset.type, 'a Table' if asset.type == 'TABLE' else 'a Folder')}."
    )


@function("Image.load", evaluator=True)
def load(evaluator: Evaluator, asset_id: str, version: int) -> Image:
    """Return an image of the catalogue."""
    asset = _asset(evaluator, asset_id, "Image")
    if asset.type != "IMAGE":
        raise _wrong(asset, asset_id, "an Image")
    return load_image(asset)


@function("ImageCollection.load", evaluator=True)
def load_collection(evaluator: Evaluator, asset_id: str, version: int | None) -> Collection:
    """Return a collection of the catalogue; images are made when asked for."""
    asset = _asset(evaluator, asset_id, "ImageCollection")
    if asset.type not in ("IMAGE_COLLECTION", "FOLDER"):
        raise _wrong(asset, asset_id, "an ImageCollection")

    def images() -> Iterator[Element]:
        for child in evaluator.catalog.children(asset.id):
            if child.type == "IMAGE":
                yield load_image(child)

    def size() -> int:
        return sum(child.type == "IMAGE" for child in evaluator.catalog.children(asset.id))

    return Collection(
        images, "ImageCollection", dict(asset.properties), asset.id,
        int(asset.updated * 1e6) if asset.updated else None, size=size,
    )  # fmt: skip


@function("Collection.loadTable", evaluator=True)
def load_table(
    evaluator: Evaluator, asset_id: str, geometry_column: str | None, version: int
) -> Collection:
    """Return a table of the catalogue."""
    asset = _asset(evaluator, asset_id, "Collection")
    if asset.type == "IMAGE_COLLECTION":
        return load_collection(evaluator, asset_id, None)
    if asset.type != "TABLE":
        raise _wrong(asset, asset_id, "a Table")

    def features() -> Iterator[Element]:
        for number, raw in enumerate(evaluator.catalog.features(asset.id)):
            yield read_feature(raw, number)

    return Collection(
        features, "FeatureCollection", dict(asset.properties), asset.id,
        int(asset.updated * 1e6) if asset.updated else None,
        size=lambda: len(evaluator.catalog.features(asset.id)),
    )  # fmt: skip


def read_feature(raw: dict[str, Any], number: int) -> Feature:
    """Return a GeoJSON feature as a value."""
    properties = dict(raw.get("properties") or {})
    identity = raw.get("id", properties.get("system:index"))
    properties["system:index"] = f"{number:020x}" if identity is None else str(identity)
    geometry = raw.get("geometry")
    return Feature(parse_geojson(geometry) if geometry else None, properties)


@function("Blob")
def blob(url: str) -> Blob:
    """Return a file by its address."""
    return Blob(url)


@function("Blob.string")
def blob_string(blob: Blob, encoding: str | None) -> str:
    """Refuse: there is no Cloud Storage to read from."""
    raise EngineError(
        f"Unable to read '{blob.url}': this emulator has no access to Google Cloud Storage."
    )


@function("Blob.url")
def blob_url(value: Blob) -> str:
    """Return the address of a file."""
    return value.url
