"""Puts the assets of a valley into a catalogue, labelled made up, and knows which are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from gee.emulator.catalog import BandData, Catalog, Policy
from gee.valley.place import CRS, LABEL, OWN, Frame

__all__ = [
    "CLOUD_SCORE",
    "DEM",
    "ERA5",
    "S1",
    "S2",
    "WORLDCOVER",
    "Progress",
    "Writer",
    "band_data",
    "milliseconds",
]

Progress = Callable[[float, str], None]

S1 = "COPERNICUS/S1_GRD"
S2 = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
DEM = "COPERNICUS/DEM/GLO30"
WORLDCOVER = "ESA/WorldCover/v200"
ERA5 = "ECMWF/ERA5_LAND/MONTHLY_AGGR"


def milliseconds(when: datetime) -> int:
    """Return a time as Earth Engine counts it, in milliseconds since 1970."""
    return int(when.timestamp() * 1000)


class Writer:
    """Puts assets that are not there yet, and knows which are.

    Parameters
    ----------
    root : Path
        Folder of the catalogue.
    key : str
        Of the valley; assets that bear another one are of another valley.
    total : int
        Steps to come, for the progress.
    progress : callable
        Told the share done and words.

    Attributes
    ----------
    hashes : dict of str to str
        SHA-256 of the content of every asset that is there, by id.
    """

    def __init__(self, root: Path, key: str, total: int, progress: Progress) -> None:
        self.catalog = Catalog(root, writable=True)
        self.key, self.total, self.done = key, total, 0
        self.progress = progress
        self.hashes: dict[str, str] = {}

    def clear(self) -> None:
        """Delete what another valley or a killed run left; other assets stay."""
        for collection in (S1, S2, CLOUD_SCORE, DEM, WORLDCOVER, ERA5, OWN):
            for asset in self.catalog.children(collection):
                known = asset.properties.get("valley")
                unfinished = asset.type == "FOLDER" and not self.catalog.children(asset.id)
                if unfinished or (known is not None and known != self.key):
                    self.catalog.delete(asset.id)

    def step(self, words: str, more: int = 1) -> None:
        """Tell that a step is done."""
        self.done += more
        self.progress(min(0.1 + 0.9 * self.done / self.total, 0.999), words)

    def here(self, asset_id: str) -> bool:
        """Return whether the asset is there already, from a run that was cut short."""
        asset = self.catalog.get(asset_id)
        if asset is None or asset.properties.get("valley") != self.key:
            return False
        self.hashes[asset_id] = str(asset.properties["content_sha256"])
        return True

    def _label(self, digest: str) -> dict[str, Any]:
        return {
            "made_up": True,
            "description": LABEL,
            "valley": self.key,
            "content_sha256": digest,
        }

    def image(
        self,
        asset_id: str,
        bands: Sequence[BandData],
        properties: Mapping[str, Any],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        """Put an image with its label; `end` is `start` where not given."""
        digest = hashlib.sha256()
        for band in bands:
            digest.update(f"{band.id} {band.array.dtype.str} {band.array.shape}".encode())
            digest.update(np.ascontiguousarray(band.array).data)
            if band.mask is not None:
                digest.update(np.ascontiguousarray(band.mask).data)
        code = digest.hexdigest()
        self.catalog.put_image(
            asset_id,
            bands,
            {**properties, **self._label(code)},
            None if start is None else milliseconds(start),
            None if start is None else milliseconds(end or start),
        )
        self.hashes[asset_id] = code

    def table(self, asset_id: str, lines: Iterable[tuple[str, BaseGeometry]], kind: str) -> None:
        """Put named lines of the valley's CRS as a table in degrees."""
        to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
        features = []
        for number, (name, line) in enumerate(lines):
            there = shapely.transform(
                line, lambda xy: np.round(np.column_stack(to.transform(xy[:, 0], xy[:, 1])), 7)
            )
            features.append(
                {
                    "type": "Feature",
                    "id": f"{number:05d}",
                    "geometry": mapping(there),
                    "properties": {"name": name, "kind": kind, "made_up": True},
                }
            )
        code = hashlib.sha256(json.dumps(features, sort_keys=True).encode()).hexdigest()
        self.catalog.put_table(asset_id, features, self._label(code))
        self.hashes[asset_id] = code


def band_data(
    name: str,
    array: NDArray[Any],
    frame: Frame,
    mask: NDArray[np.bool_] | None = None,
    pyramiding: Policy = "MEAN",
) -> BandData:
    """Return a band on a frame of the valley; masked where `mask` is false."""
    return BandData(name, array, CRS, frame.transform, mask, pyramiding)
