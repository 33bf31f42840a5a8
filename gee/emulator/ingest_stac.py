"""STAC items, collections, catalogues and item collections as images and collections.

Only files of this machine are read; a link that leads to the network is an error.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError, nearest

from .catalog import BandData, Catalog, Policy, normalize_id
from .ingest_common import (
    Ledger,
    Progress,
    asset_part,
    band_name,
    check_above,
    make_collection,
    milliseconds,
    quiet,
)
from .ingest_rasters import read_raster, with_policies

__all__ = ["ingest_stac", "is_stac"]

RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img")
NOT_DATA = frozenset({"thumbnail", "overview", "visual", "metadata"})
# What the catalogue knows in other places.
LEFT_OUT = frozenset({"datetime", "start_datetime", "end_datetime", "created", "updated"})


def is_stac(path: Path) -> bool:
    """Tell whether a JSON file is STAC.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.json")
    >>> _ = path.write_text('{"type": "Feature", "stac_version": "1.0.0"}')
    >>> is_stac(path)
    True
    """
    if path.suffix.lower() not in (".json", ".geojson") or not path.is_file():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(content, dict):
        return False
    features = content.get("features")
    first = features[0] if isinstance(features, list) and features else {}
    return "stac_version" in content or (isinstance(first, dict) and "stac_version" in first)


def ingest_stac(
    catalog: Catalog,
    path: Path,
    asset_id: str,
    *,
    properties: Mapping[str, Any] | None = None,
    pyramiding: Policy = "MEAN",
    policies: Mapping[str, Policy] | None = None,
    assets: Sequence[str] | None = None,
    raw: bool = False,
    progress: Progress = quiet,
) -> list[str]:
    """Make images of STAC items.

    - An item becomes the image `asset_id`; anything with several becomes an image collection
      with an image per item, named by the item's id.
    - Every raster asset with the role `data`, or without a role and not a thumbnail, gives its
      bands, named by `eo:bands` or `bands`, else by the asset's key.
    - `datetime`, or `start_datetime` and `end_datetime`, become the image's times, the item's
      geometry its footprint, its other properties the image's properties.
    - `nodata` is masked; `scale` and `offset` of `raster:bands` (or `raster:scale` and
      `raster:offset`) are applied and make float32 of integers.

    Parameters
    ----------
    catalog : Catalog
    path : Path
    asset_id : str
    properties : mapping, optional
        Further ones of every image.
    pyramiding, policies
        As `ingest.ingest_geotiff` has them.
    assets : sequence of str, optional
        Keys of the assets to take.
    raw : bool
        Leave scale and offset unapplied.
    progress : callable

    Returns
    -------
    list of str
        Ids of the images, those that were there already included.

    Raises
    ------
    DataError
        The file is no STAC that can be read, a link or a raster is not on this machine, an item
        has no raster.
    """
    items, single, about = _items(path)
    if not items:
        raise DataError(f"{path} holds no item.")
    if not single:
        make_collection(catalog, asset_id, about)
    ledger = Ledger(catalog)
    made = []
    seen: set[str] = set()
    for number, item in enumerate(items, 1):
        image_id = normalize_id(asset_id if single else f"{asset_id}/{asset_part(item.id)}")
        if image_id in seen:
            raise DataError(f"{path} holds two items that would be {image_id}.")
        seen.add(image_id)
        places = _places(item, assets)
        settings = (
            item.to_dict(include_self_link=False), dict(properties or {}), pyramiding,
            dict(policies or {}), raw,
        )  # fmt: skip
        digest = Ledger.digest([place for _, _, place in places], *settings)
        if not ledger.has(image_id, digest):
            check_above(catalog, image_id)
            bands = [
                band for key, asset, place in places
                for band in _bands(item, key, asset, place, pyramiding, raw)
            ]  # fmt: skip
            _distinct(bands)
            start, end = _times(item)
            catalog.put_image(
                image_id,
                with_policies(bands, policies),
                {**_properties(item), **dict(properties or {})},
                start_ms=start,
                end_ms=end,
                footprint=item.geometry,
            )
            ledger.note(image_id, digest)
        made.append(image_id)
        progress(number, len(items), image_id)
    return made


def _items(path: Path) -> tuple[list[Any], bool, dict[str, Any]]:
    """Return the items of a file, whether it is one item, and properties of a collection."""
    import pystac
    from pystac.errors import STACError
    from pystac.stac_io import DefaultStacIO

    class LocalIO(DefaultStacIO):
        """Reads files of this machine only."""

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            href = str(getattr(source, "absolute_href", None) or getattr(source, "href", source))
            place = _local(href, "a link of the catalogue")
            return place.read_text(encoding="utf-8")

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("type") == "FeatureCollection":
            items = [
                pystac.Item.from_dict(dict(feature), href=str(path.absolute()), preserve_dict=False)
                for feature in content.get("features", [])
            ]
            return items, False, {}
        found = pystac.read_file(str(path.absolute()), stac_io=LocalIO())
        if isinstance(found, pystac.Item):
            return [found], True, {}
        if not isinstance(found, pystac.Catalog):
            raise DataError(f"{path} is no STAC item, collection or catalogue.")
        about = {"title": found.title, "description": found.description}
        if isinstance(found, pystac.Collection):
            about["license"] = found.license
        items = sorted(found.get_items(recursive=True), key=lambda item: item.id)
        return items, False, {key: value for key, value in about.items() if value}
    except DataError:
        raise
    except (STACError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None  # what `LocalIO` refused
        raise DataError(
            f"{path} cannot be read as STAC: {type(error).__name__}: {error}."
        ) from error


def _local(href: str, what: str) -> Path:
    parts = urllib.parse.urlsplit(href)
    if parts.scheme == "file":
        return Path(urllib.parse.unquote(parts.path))
    if "://" in href or href.startswith("/vsi"):
        raise DataError(
            f"{href[:200]} ({what}) is not on this machine.",
            hint="Download it, and let the STAC file name the local copy.",
        )
    return Path(href)


def _places(item: Any, wanted: Sequence[str] | None) -> list[tuple[str, Any, Path]]:
    """Return key, asset and path of the rasters of an item."""
    for key in wanted or ():
        if key not in item.assets:
            raise DataError(
                f"Item {item.id} has no asset {key!r}.{nearest(key, item.assets)}",
                hint=f"It has {', '.join(item.assets)}.",
            )
    found = []
    for key, asset in item.assets.items():
        roles = set(asset.roles or ())
        kind = str(asset.media_type or "")
        name = urllib.parse.urlsplit(asset.href).path.lower()
        raster = "tiff" in kind or "jp2" in kind or name.endswith(RASTERS)
        data = "data" in roles or not roles & NOT_DATA
        if key in wanted if wanted else raster and data and key not in NOT_DATA:
            href = asset.get_absolute_href() or asset.href
            place = _local(href, f"asset {key} of item {item.id}")
            if not place.is_file():
                raise DataError(f"{place} (asset {key} of item {item.id}) does not exist.")
            found.append((key, asset, place))
    if not found:
        raise DataError(
            f"Item {item.id} has no raster; its assets: {', '.join(item.assets) or 'none'}."
        )
    return found


def _descriptions(item: Any, asset: Any, count: int) -> list[dict[str, Any]]:
    """Return what STAC says of each band: `name`, `nodata`, `scale` and `offset`."""
    fields = asset.extra_fields
    out: list[dict[str, Any]] = [{} for _ in range(count)]
    # STAC 1.1 keeps band-wide values at the asset, 1.0 lists them by extension.
    for entry in out:
        for source in (item.properties, fields):
            for key, name in (
                ("nodata", "nodata"), ("raster:scale", "scale"), ("raster:offset", "offset"),
            ):  # fmt: skip
                if source.get(key) is not None:
                    entry[name] = source[key]
    for key in ("raster:bands", "eo:bands", "bands"):
        listed = fields.get(key)
        if not isinstance(listed, list) or len(listed) != count:
            continue
        for entry, band in zip(out, listed, strict=True):
            for theirs, ours in (
                ("name", "name"), ("nodata", "nodata"), ("scale", "scale"), ("offset", "offset"),
                ("raster:scale", "scale"), ("raster:offset", "offset"),
            ):  # fmt: skip
                if band.get(theirs) is not None:
                    entry[ours] = band[theirs]
    return out


def _bands(
    item: Any, key: str, asset: Any, place: Path, pyramiding: Policy, raw: bool
) -> Iterator[BandData]:
    bands = read_raster(place, pyramiding=pyramiding)
    said = _descriptions(item, asset, len(bands))
    for number, (band, known) in enumerate(zip(bands, said, strict=True), 1):
        name = known.get("name") or (key if len(bands) == 1 else f"{key}_{number}")
        band.id = band_name(str(name))
        band.array = np.asarray(band.array)
        if known.get("nodata") is not None:
            try:
                nodata = float(known["nodata"])  # "nan" and "inf" are written as text
            except (TypeError, ValueError):
                raise DataError(
                    f"Item {item.id}, asset {key}: nodata {known['nodata']!r} is no number."
                ) from None
            good = ~np.isnan(band.array) if nodata != nodata else band.array != nodata
            band.mask = good if band.mask is None else good & np.asarray(band.mask)
        scale, offset = float(known.get("scale", 1)), float(known.get("offset", 0))
        if not raw and (scale, offset) != (1.0, 0.0):
            wide = band.array.dtype == np.float64
            band.array = (band.array * scale + offset).astype(np.float64 if wide else np.float32)
        yield band


def _distinct(bands: list[BandData]) -> None:
    seen: dict[str, int] = {}
    for band in bands:
        seen[band.id] = seen.get(band.id, 0) + 1
        if seen[band.id] > 1:
            band.id = f"{band.id}_{seen[band.id] - 1}"


def _times(item: Any) -> tuple[int | None, int | None]:
    start = item.common_metadata.start_datetime or item.datetime
    end = item.common_metadata.end_datetime
    return (
        None if start is None else milliseconds(start),
        None if end is None else milliseconds(end),
    )


def _properties(item: Any) -> dict[str, Any]:
    """Return the properties of an item that JSON can hold and a script can filter by."""
    out = {}
    for key, value in item.properties.items():
        if key not in LEFT_OUT and value is not None:
            out[key] = value
    if item.collection_id:
        out["collection"] = item.collection_id
    return out
