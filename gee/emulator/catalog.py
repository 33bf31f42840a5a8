"""Local Earth Engine assets: what they are on disk, how they are written, read and listed.

An asset is a folder that mirrors its id, with an `asset.json` beside its data files::

    catalog/COPERNICUS/S1_GRD/asset.json                    an image collection
    catalog/COPERNICUS/S1_GRD/S1A_IW_.../asset.json         one of its images
    catalog/COPERNICUS/S1_GRD/S1A_IW_.../3f0c12_0_0.tif     bands of one grid, at native scale
    catalog/COPERNICUS/S1_GRD/S1A_IW_.../3f0c12_0_1.tif     the same at half the resolution
    catalog/COPERNICUS/S1_GRD/S1A_IW_.../3f0c12_0_0.mask.tif  their masks, where not all 1

Data files are plain tiled GeoTIFFs, so any GIS opens them. They are written first and named by
their content; `asset.json` is renamed into place last: an asset is either whole or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thawslump.errors import DataError, StorageError
from thawslump.files import atomic, storage_errors

from .assets import (
    MANIFEST,
    POLICIES,
    Asset,
    AssetType,
    BandAsset,
    BandData,
    DataType,
    Policy,
    Transform,
    asset_name,
    is_name,
    normalize_id,
)
from .blocks import BLOCK, Blocks
from .manifests import (
    bands_of,
    dumps,
    files_named_at,
    files_of,
    identity_of,
    image_manifest,
    not_an_asset,
)
from .rasters import FORMAT, checked, downsample, outline, pyramid, write_group
from .streams import BandStream, ImageStream, write_stream

__all__ = [
    "BLOCK",
    "POLICIES",
    "Asset",
    "BandAsset",
    "BandData",
    "BandStream",
    "Catalog",
    "DataType",
    "ImageStream",
    "Policy",
    "Transform",
    "asset_name",
    "downsample",
    "normalize_id",
    "pyramid",
]

CHANGES = ".changes"  # an empty file whose time is that of the last change
REPLACED = ".replaced"  # files of replaced versions, a line each: the time and the path
GRACE = 900.0  # seconds that they are kept for whoever still reads the former version

_FILE = re.compile(r"[0-9a-f]{12}_[0-9]+(_[0-9]+(\.mask)?\.tif|\.(geo)?json)")


class Catalog:
    """The assets below a folder.

    Parameters
    ----------
    root : Path
        The catalogue's folder.
    writable : bool
        Whether assets may be put and deleted; then the folder is made where it is missing.
    cache_bytes : int
        Most memory that decoded blocks may hold.
    grace_seconds : float
        How long the files of a replaced version stay for requests that read them; they are
        deleted at the next change after that.

    Raises
    ------
    DataError
        The folder does not exist, or an id is not valid.
    StorageError
        Writing to a catalogue opened for reading; the disk is full or not writable.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> catalog = Catalog(Path(tempfile.mkdtemp()), writable=True)
    >>> band = BandData("B4", np.array([[7]], "uint16"), "EPSG:32633", (10, 0, 0, 0, -10, 0))
    >>> catalog.put_image("users/a/one", [band], {"cloud": 3}, start_ms=0)
    >>> image = catalog.get("users/a/one")
    >>> image.bands[0].read(0, 0, 1, 0, 1)[0].tolist(), image.properties["cloud"]
    ([[7]], 3)
    """

    def __init__(
        self,
        root: Path,
        writable: bool = False,
        *,
        cache_bytes: int = 256 * 2**20,
        grace_seconds: float = GRACE,
    ) -> None:
        self.root = Path(root).absolute()
        self.writable = writable
        self.grace = grace_seconds
        if writable:
            with storage_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
        elif not self.root.is_dir():
            raise DataError(
                f"There is no catalogue at {self.root}.",
                hint="Make one with: thawslump emulator ingest, or thawslump demo.",
            )
        self._real = os.path.realpath(self.root)
        self._blocks = Blocks(cache_bytes)
        self._lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._file_lock: Any = None
        # id -> (identity of asset.json, asset); an entry is used while the identity holds
        self._assets: dict[str, tuple[tuple[int, ...], Asset]] = {}
        self._children: dict[str, tuple[int, list[Asset]]] = {}
        self._tables: OrderedDict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = OrderedDict()

    @property
    def generation(self) -> int:
        """A number that differs after any change of an asset, by whichever process."""
        try:
            return os.stat(f"{self.root}/{CHANGES}").st_mtime_ns  # noqa: PTH116 (a hot path)
        except OSError:
            return 0

    # ---- reading

    def get(self, asset_id: str) -> Asset | None:
        """Return an asset, or None where there is none of that id.

        A folder without an `asset.json` that leads to assets is a FOLDER.
        """
        asset_id = normalize_id(asset_id)
        folder = self._folder(asset_id)
        if folder is None:
            return None
        asset = self._load(asset_id, folder)
        if asset is None and _leads_on(folder):
            updated = Path(folder).stat().st_mtime
            return Asset(asset_id, "FOLDER", updated=updated, _folder=folder)
        return asset

    def children(self, asset_id: str = "") -> list[Asset]:
        """Return the assets directly below a collection or folder, sorted by id.

        Parameters
        ----------
        asset_id : str
            "" is the top of the catalogue.

        Notes
        -----
        The list is kept in memory and used again while the folder's modification time stays;
        every change through a `Catalog`, of this or another process, renews that time. Whoever
        edits an `asset.json` by hand must `touch` the folder above it.
        """
        key = normalize_id(asset_id) if asset_id else ""
        folder = self._folder(key) if key else str(self.root)
        if folder is None or not Path(folder).is_dir():
            return []
        stamp = Path(folder).stat().st_mtime_ns
        with self._lock:
            known = self._children.get(key)
        if known is not None and known[0] == stamp:
            return list(known[1])
        found = []
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        for name in names:
            if not is_name(name):
                continue
            # Neither the folder above nor this one is a link, so nothing leads out.
            child, place = (f"{key}/{name}" if key else name), f"{folder}/{name}"
            asset = self._load(child, place)
            if asset is None and not _leads_on(place):
                continue  # what a writer that was stopped left, or has not finished
            if asset is None:
                updated = Path(place).stat().st_mtime
                asset = Asset(child, "FOLDER", updated=updated, _folder=place)
            found.append(asset)
        with self._lock:
            self._children[key] = (stamp, found)
        return list(found)

    def features(self, asset_id: str) -> list[dict[str, Any]]:
        """Return the GeoJSON features of a table, in the order in which they were put.

        The list and its features are shared between callers: they must not be changed.

        Raises
        ------
        DataError
            There is no such table.
        """
        asset = self.get(asset_id)
        if asset is None or asset._table is None or asset.type != "TABLE":
            kind = "not found" if asset is None else f"a {asset.type}, not a table"
            raise DataError(f"Table asset '{asset_id}' is {kind}.")
        path = f"{asset._folder}/{asset._table}"
        try:
            identity = identity_of(path)
            with self._lock:
                known = self._tables.get(path)
                if known is not None and known[0] == identity:
                    self._tables.move_to_end(path)
                    return known[1]
            with open(path, encoding="utf-8") as stream:  # noqa: PTH123 (a hot path)
                features: list[dict[str, Any]] = json.load(stream)["features"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path} cannot be read ({error}).", hint="Ingest the table again."
            ) from error
        with self._lock:
            self._tables[path] = (identity, features)
            while len(self._tables) > 16:
                self._tables.popitem(last=False)
        return features

    def classifier(self, asset_id: str) -> str | None:
        """Return the text that `put_classifier` was given; None where there is no classifier.

        Raises
        ------
        DataError
            Its file cannot be read.
        """
        asset = self.get(asset_id)
        if asset is None or asset.type != "CLASSIFIER" or asset._table is None:
            return None
        path = Path(asset._folder) / asset._table
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read ({error}).", hint="Export the classifier again."
            ) from error

    # ---- writing

    def put_image(
        self,
        asset_id: str,
        bands: Sequence[BandData],
        properties: Mapping[str, Any] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        footprint: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an image with its pyramid, replacing one of the same id.

        Parameters
        ----------
        asset_id : str
        bands : sequence of BandData
            At least one; each may have its own grid and dtype.
        properties : mapping
            JSON values; numpy scalars are taken as numbers.
        start_ms, end_ms : int, optional
            Milliseconds since 1970 UTC.
        footprint : GeoJSON geometry, optional
            Longitude and latitude; the outline of the first band's grid where not given.

        Raises
        ------
        DataError
            No band, two of one name, shapes that differ between array and mask, a CRS that is
            not known, properties that are no JSON.
        """
        asset_id = normalize_id(asset_id)
        bands = [checked(asset_id, band) for band in bands]
        names = [band.id for band in bands]
        if not names or len(set(names)) != len(names):
            raise DataError(f"Image {asset_id}: expected one or more bands, each once: {names}.")
        folder = self._make(asset_id)
        groups: dict[tuple[Any, ...], list[BandData]] = {}
        for band in bands:
            key = (band.crs, band.transform, band.array.shape, band.array.dtype.str)
            groups.setdefault((*key, band.pyramiding), []).append(band)
        manifest_groups, places = [], {}
        for number, members in enumerate(groups.values()):
            manifest_groups.append(write_group(Path(folder), number, members))
            places.update({band.id: (number, i) for i, band in enumerate(members)})
        first = bands[0]
        if footprint is None:
            footprint = outline(first.crs, first.transform, first.array.shape)
        facts = {
            "properties": dict(properties or {}),
            "start_ms": start_ms,
            "end_ms": end_ms,
            "footprint": footprint,
        }
        self._commit(asset_id, folder, image_manifest(facts, manifest_groups, bands, places))

    def put_streams(
        self,
        asset_id: str,
        streams: Sequence[ImageStream],
        properties: Mapping[str, Any] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        footprint: Mapping[str, Any] | None = None,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write an image by windows, with its pyramid, whatever its size.

        What `read` returns afterwards is what it would return after `put_image`.

        Parameters
        ----------
        streams : sequence of ImageStream
            Bands on one grid each; the windows are computed while they are written.
        properties, start_ms, end_ms, footprint
            As for `put_image`.
        check : callable
            Called now and then; may raise to stop.

        Raises
        ------
        DataError
            As `put_image`; a window whose values have another shape than it.
        """
        asset_id = normalize_id(asset_id)
        bands = [band for stream in streams for band in stream.bands]
        names = [band.id for band in bands]
        if not names or len(set(names)) != len(names):
            raise DataError(f"Image {asset_id}: expected one or more bands, each once: {names}.")
        folder = self._make(asset_id)
        groups: list[dict[str, Any]] = []
        places: dict[str, tuple[int, int]] = {}
        for stream in streams:
            made, found = write_stream(asset_id, Path(folder), stream, len(groups), check)
            groups += made
            places.update(found)
        if footprint is None:
            footprint = outline(streams[0].crs, streams[0].transform, streams[0].shape)
        facts = {
            "properties": dict(properties or {}),
            "start_ms": start_ms,
            "end_ms": end_ms,
            "footprint": footprint,
        }
        self._commit(asset_id, folder, image_manifest(facts, groups, bands, places))

    def put_manifest(self, asset_id: str, manifest: Mapping[str, Any]) -> None:
        """Write an asset whose description was made elsewhere; see `references.describe`."""
        asset_id = normalize_id(asset_id)
        folder = self._make(asset_id)
        self._commit(asset_id, folder, dict(manifest))

    def put_collection(self, asset_id: str, properties: Mapping[str, Any] | None = None) -> None:
        """Write an image collection; the images below it stay."""
        self._put_container(asset_id, "IMAGE_COLLECTION", properties)

    def put_folder(self, asset_id: str, properties: Mapping[str, Any] | None = None) -> None:
        """Write a folder; what lies below it stays."""
        self._put_container(asset_id, "FOLDER", properties)

    def put_table(
        self,
        asset_id: str,
        features: Iterable[Mapping[str, Any]],
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a table, replacing one of the same id.

        Parameters
        ----------
        features : iterable of GeoJSON features
            Geometries in longitude and latitude; `id` becomes `system:index` (numbers from 0
            where it is missing).
        properties : mapping
        """
        asset_id = normalize_id(asset_id)
        kept = []
        for number, feature in enumerate(features):
            kept.append(
                {
                    "type": "Feature",
                    "id": str(feature.get("id", number)),
                    "geometry": feature.get("geometry"),
                    "properties": dict(feature.get("properties") or {}),
                }
            )
        text = dumps(asset_id, {"type": "FeatureCollection", "features": kept})
        folder = self._make(asset_id)
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:12]}_0.geojson"
        with atomic(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._commit(
            asset_id,
            folder,
            {
                "type": "TABLE",
                "properties": dict(properties or {}),
                "table": name,
                "count": len(kept),
            },
        )

    def put_classifier(
        self, asset_id: str, text: str, properties: Mapping[str, Any] | None = None
    ) -> None:
        """Write a trained classifier, replacing an asset of the same id.

        Parameters
        ----------
        text : str
            As `gee.emulator.functions.trees.classifier_to_json` returns it.
        properties : mapping
        """
        asset_id = normalize_id(asset_id)
        folder = self._make(asset_id)
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:12]}_0.json"
        with atomic(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._commit(
            asset_id,
            folder,
            {"type": "CLASSIFIER", "properties": dict(properties or {}), "table": name},
        )

    def update_properties(
        self,
        asset_id: str,
        changes: Mapping[str, Any],
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        forget: Sequence[str] = (),
        bands: Sequence[str] | None = None,
    ) -> None:
        """Set properties of an asset; a value of None removes one.

        Parameters
        ----------
        asset_id : str
        changes : mapping
        start_ms, end_ms : int, optional
            New times; those not given stay.
        forget : sequence of {"start_ms", "end_ms"}
            Times to remove.
        bands : sequence of str, optional
            New names of all bands, in their order.
        """
        asset_id = normalize_id(asset_id)
        self._need_writable()
        folder = self._folder(asset_id)
        path = Path(folder or "", MANIFEST)
        if folder is None or not path.is_file():
            raise DataError(f"Asset '{asset_id}' does not exist.")
        with self._writing():
            manifest = json.loads(path.read_text(encoding="utf-8"))
            properties = {**manifest.get("properties", {}), **changes}
            manifest["properties"] = {k: v for k, v in properties.items() if v is not None}
            if start_ms is not None:
                manifest["start_ms"] = start_ms
            if end_ms is not None:
                manifest["end_ms"] = end_ms
            for key in forget:
                manifest[key] = None
            if bands is not None:
                known = manifest.get("bands", [])
                if len(bands) != len(known) or len(set(bands)) != len(bands):
                    raise DataError(
                        f"Image {asset_id} has {len(known)} bands: expected as many names, each "
                        f"once, not {list(bands)}."
                    )
                for band, name in zip(known, bands, strict=True):
                    band["id"] = name
            self._commit(asset_id, folder, manifest)

    def delete(self, asset_id: str, *, recursive: bool = False) -> None:
        """Delete an asset.

        Raises
        ------
        DataError
            It does not exist, or has children and `recursive` is False.
        """
        asset_id = normalize_id(asset_id)
        self._need_writable()
        asset = self.get(asset_id)
        folder = self._folder(asset_id)
        if asset is None or folder is None:
            raise DataError(f"Asset '{asset_id}' does not exist.")
        if not recursive and self.children(asset_id):
            raise DataError(
                f"Asset '{asset_id}' has children and cannot be deleted.",
                hint="Delete what lies below it first.",
            )
        with self._writing(), storage_errors(Path(folder)):
            Path(folder, MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)
        self._touched(asset_id, folder)

    def copy(self, source_id: str, target_id: str, *, overwrite: bool = False) -> None:
        """Copy an asset (a container without its children) to another id."""
        source_id, target_id = normalize_id(source_id), normalize_id(target_id)
        source = self.get(source_id)
        if source is None:
            raise DataError(f"Asset '{source_id}' does not exist.")
        if not overwrite and self.get(target_id) is not None:
            raise DataError(f"Cannot overwrite asset '{target_id}'.")
        if source_id == target_id:
            return
        path = Path(source._folder, MANIFEST)
        manifest: dict[str, Any] = {"type": "FOLDER", "properties": {}}
        if path.is_file():
            manifest = json.loads(path.read_text(encoding="utf-8"))
        folder = self._make(target_id)
        with storage_errors(Path(folder)):
            for name in files_of(manifest):
                with atomic(Path(folder, name)) as temporary:
                    shutil.copyfile(Path(source._folder, name), temporary)
        self._commit(target_id, folder, manifest)

    # ---- inside

    def _folder(self, asset_id: str) -> str | None:
        """Return the folder of a normalised id, or None if it leaves the catalogue."""
        folder = f"{self.root}/{asset_id}"
        real = os.path.realpath(folder)
        # A link inside the catalogue could lead anywhere: such an asset does not exist.
        return folder if real == f"{self._real}/{asset_id}" else None

    def _need_writable(self) -> None:
        if not self.writable:
            raise StorageError(
                f"The catalogue {self.root} was opened for reading only.",
                hint="Open it with Catalog(root, writable=True).",
            )

    def _make(self, asset_id: str) -> str:
        self._need_writable()
        folder = self._folder(asset_id)
        if folder is None:
            raise DataError(f"Asset id {asset_id!r} leads out of the catalogue {self.root}.")
        with storage_errors(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
        return folder

    def _put_container(
        self, asset_id: str, kind: AssetType, properties: Mapping[str, Any] | None
    ) -> None:
        asset_id = normalize_id(asset_id)
        folder = self._make(asset_id)
        self._commit(asset_id, folder, {"type": kind, "properties": dict(properties or {})})

    def _commit(self, asset_id: str, folder: str, manifest: dict[str, Any]) -> None:
        path = Path(folder, MANIFEST)
        text = dumps(asset_id, {"format": FORMAT, **manifest})
        with self._writing():
            with atomic(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            keep = files_of(manifest)
            names = sorted(e.name for e in os.scandir(folder) if _FILE.fullmatch(e.name))
            self._sweep(f"{asset_id}/{name}" for name in names if name not in keep)
        self._touched(asset_id, folder)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one thread of one process at a time change what the catalogue holds."""
        from filelock import FileLock

        with self._write_lock:
            if self._file_lock is None:
                self._file_lock = FileLock(self.root / ".lock", thread_local=False)
            with storage_errors(self.root), self._file_lock:
                yield

    def _sweep(self, replaced: Iterable[str]) -> None:
        """Note files that no description names, and delete those noted long enough ago.

        A request reads an asset's description once and its files as it goes: they stay until
        no request can still be under way. A new one may be another writer's.
        """
        now = time.time()
        note = self.root / REPLACED
        known = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
        noted = {line.partition(" ")[2] for line in known}
        lines = [f"{now:.0f} {path}" for path in replaced if path not in noted]

        def over(line: str) -> bool:
            return self.grace <= 0 or now - _noted(line) > self.grace

        if not lines and not any(over(line) for line in known):
            return
        kept = []
        for line in known + lines:
            if not over(line):
                kept.append(line)
                continue
            asset_id, _, name = line.partition(" ")[2].rpartition("/")
            folder = None
            with contextlib.suppress(DataError):
                folder = self._folder(normalize_id(asset_id))
            # The same content may have been put again since.
            if folder and _FILE.fullmatch(name):
                place = Path(folder, name)
                if name not in files_named_at(Path(folder, MANIFEST)):
                    place.unlink(missing_ok=True)
        if not kept:
            note.unlink(missing_ok=True)
            return
        with atomic(note) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def _touched(self, asset_id: str, folder: str) -> None:
        parent = Path(folder).parent
        now = time.time_ns()
        with contextlib.suppress(OSError):
            os.utime(parent, ns=(now, now))
            mark = self.root / CHANGES
            mark.touch()
            os.utime(mark, ns=(now, now))
        with self._lock:
            self._assets.pop(asset_id, None)
        self._blocks.forget(folder)

    def _load(self, asset_id: str, folder: str) -> Asset | None:
        path = f"{folder}/{MANIFEST}"
        try:
            identity = identity_of(path)
        except OSError:
            return None
        with self._lock:
            known = self._assets.get(asset_id)
        if known is not None and known[0] == identity:
            return known[1]
        try:
            with open(path, encoding="utf-8") as stream:  # noqa: PTH123 (a hot path)
                manifest = json.load(stream)
            asset = self._parse(asset_id, folder, manifest, identity)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise not_an_asset(path, error) from error
        with self._lock:
            self._assets[asset_id] = (identity, asset)
        return asset

    def _parse(
        self, asset_id: str, folder: str, manifest: dict[str, Any], identity: tuple[int, ...]
    ) -> Asset:
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}, expected {FORMAT}")
        for name in files_of(manifest):
            if not _FILE.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a data file")
        kind = manifest["type"]

        def bands() -> tuple[BandAsset, ...]:
            try:
                return tuple(bands_of(manifest, folder, self._blocks))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise not_an_asset(f"{folder}/{MANIFEST}", error) from error

        return Asset(
            id=asset_id,
            type=kind,
            properties=manifest.get("properties", {}),
            start_ms=manifest.get("start_ms"),
            end_ms=manifest.get("end_ms"),
            footprint=manifest.get("footprint"),
            updated=identity[0] / 1e9,
            size_bytes=sum(int(g.get("bytes", 0)) for g in manifest.get("groups", ())),
            _folder=folder,
            _table=manifest.get("table"),
            _make_bands=bands,
        )


def _leads_on(folder: str) -> bool:
    """Tell whether a folder without a description holds folders, and so may hold assets."""
    try:
        with os.scandir(folder) as entries:
            return any(e.is_dir(follow_symlinks=False) and is_name(e.name) for e in entries)
    except OSError:
        return False


def _noted(line: str) -> float:
    time_noted = line.partition(" ")[0]
    return float(time_noted) if time_noted.isdigit() else 0.0
