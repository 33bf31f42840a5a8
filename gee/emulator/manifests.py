"""The description of an asset, `asset.json`: what is written into it and made of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError

from .assets import BandAsset, BandData, DataType, Group, six
from .blocks import Blocks
from .streams import BandStream

__all__ = [
    "bands_of",
    "dumps",
    "files_named_at",
    "files_of",
    "identity_of",
    "image_manifest",
    "not_an_asset",
]


def image_manifest(
    facts: dict[str, Any],
    groups: list[dict[str, Any]],
    bands: Sequence[BandData] | Sequence[BandStream],
    places: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """Return the manifest of an image."""
    shown = [
        {
            "id": band.id,
            "group": places[band.id][0],
            "index": places[band.id][1],
            "min": band.min,
            "max": band.max,
        }
        for band in bands
    ]
    return {"type": "IMAGE", **facts, "groups": groups, "bands": shown}


def not_an_asset(path: str, error: Exception) -> DataError:
    """Return the words for a description that cannot be used."""
    return DataError(
        f"{path} is not the description of an asset ({type(error).__name__}: {error}).",
        hint="Ingest the asset again.",
    )


def bands_of(manifest: Mapping[str, Any], folder: str, blocks: Blocks) -> Iterator[BandAsset]:
    """Yield the bands that a description names; `blocks` is the cache that they read from."""
    groups = [
        Group(
            crs=g["crs"],
            transform=six(g["transform"]),
            shape=(int(g["shape"][0]), int(g["shape"][1])),
            dtype=g["dtype"],
            policy=g["policy"],
            data=tuple(g["data"]),
            masks=tuple(g["masks"]),
            shared=tuple(g["shared"]),
            source=g.get("source"),
        )
        for g in manifest.get("groups", ())
    ]
    for item in manifest.get("bands", ()):
        group = groups[item["group"]]
        dtype = np.dtype(group.dtype)
        yield BandAsset(
            id=item["id"],
            data_type=DataType.of(dtype, item["min"], item["max"]),
            crs=group.crs,
            transform=group.transform,
            shape=group.shape,
            levels=len(group.data) if group.source is None else int(group.source["levels"]),
            policy=group.policy,
            dtype=dtype,
            _folder=folder,
            _group=group,
            _index=int(item["index"]),
            _blocks=blocks,
        )


def identity_of(path: str) -> tuple[int, ...]:
    """Return what tells one version of a file from another: time, size and inode."""
    status = os.stat(path)  # noqa: PTH116 (a hot path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def files_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the names of the data files of a description."""
    names = [name for g in manifest.get("groups", ()) for name in (*g["data"], *g["masks"]) if name]
    return [*names, manifest["table"]] if manifest.get("table") else names


def files_named_at(path: Path) -> set[str]:
    """Return the files that the description at a path names; none where there is none."""
    try:
        return set(files_of(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays into what JSON can hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} is no JSON value")


def dumps(asset_id: str, value: Any) -> str:
    """Return a value as JSON, the keys in order.

    Raises
    ------
    DataError
        It holds what JSON cannot.
    """
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain
        )
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Asset {asset_id}: its properties cannot be written as JSON ({error}).",
            hint="Properties are strings, finite numbers, booleans, lists and objects of those.",
        ) from error
