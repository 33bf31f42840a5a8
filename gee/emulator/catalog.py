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
import functools
import hashlib
import json
import math
import os
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError, StorageError
from thawslump.files import atomic, storage_errors

__all__ = [
    "Asset",
    "BandAsset",
    "BandData",
    "Catalog",
    "DataType",
    "Policy",
    "asset_name",
    "downsample",
    "normalize_id",
    "pyramid",
]

Array = NDArray[Any]
Transform = tuple[float, float, float, float, float, float]
Policy = Literal["MEAN", "SAMPLE", "MODE", "MIN", "MAX"]
AssetType = Literal["IMAGE", "IMAGE_COLLECTION", "TABLE", "FOLDER"]

POLICIES: tuple[Policy, ...] = ("MEAN", "SAMPLE", "MODE", "MIN", "MAX")
TOP = 256  # the pyramid ends where a level fits into a square of this many pixels
BLOCK = 512  # side of the tiles inside the files, and of the blocks in the cache
FORMAT = 1
GDAL_CACHE = 32  # MB; GDAL takes the first value that a process gives it
MANIFEST = "asset.json"
CHANGES = ".changes"  # an empty file whose time is that of the last change

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_FILE = re.compile(r"[0-9a-f]{12}_[0-9]+(_[0-9]+(\.mask)?\.tif|\.geojson)")


# --------------------------------------------------------------------------------------------
# ids


def _is_name(segment: str) -> bool:
    """Tell whether a text may stand between the slashes of an id."""
    plain = bool(_SEGMENT.fullmatch(segment)) and ".." not in segment
    return plain and segment != MANIFEST and not segment.endswith(".")


def normalize_id(asset_id: str) -> str:
    """Return the one form of an asset id that the catalogue uses.

    Parameters
    ----------
    asset_id : str
        An id as scripts write it, or a name of the REST interface.

    Returns
    -------
    str
        Without `projects/earthengine-public/assets/` and `projects/earthengine-legacy/assets/`;
        ids below `projects/<project>/assets/` stay as they are.

    Raises
    ------
    DataError
        The id is empty, absolute, contains `..`, an empty segment or a character that Earth
        Engine does not allow. No such id reaches the file system.

    Examples
    --------
    >>> normalize_id("projects/earthengine-public/assets/COPERNICUS/S1_GRD")
    'COPERNICUS/S1_GRD'
    >>> normalize_id("projects/earthengine-legacy/assets/users/a/b")
    'users/a/b'
    >>> normalize_id("projects/my-project/assets/b/")
    'projects/my-project/assets/b'
    """
    if not isinstance(asset_id, str) or not asset_id or len(asset_id) > 2000:
        raise DataError(f"Asset id {str(asset_id)[:80]!r} is not valid: it is empty or too long.")
    segments = asset_id.removesuffix("/").split("/")
    for segment in segments:
        if not _is_name(segment):
            raise DataError(
                f"Asset id {asset_id!r} is not valid: {segment!r} is not an allowed name.",
                hint="Letters, digits, hyphens, underscores and dots, separated by single '/'.",
            )
    public = ("earthengine-public", "earthengine-legacy")
    if len(segments) > 3 and segments[0] == "projects" and segments[2] == "assets":
        segments = segments[3:] if segments[1] in public else segments
    return "/".join(segments)


def asset_name(asset_id: str) -> str:
    """Return the REST resource name of a normalised id.

    Examples
    --------
    >>> asset_name("COPERNICUS/S1_GRD")
    'projects/earthengine-public/assets/COPERNICUS/S1_GRD'
    >>> asset_name("users/a/b")
    'projects/earthengine-legacy/assets/users/a/b'
    >>> asset_name("projects/my-project/assets/b")
    'projects/my-project/assets/b'
    """
    parts = asset_id.split("/")
    if parts[0] == "projects" and len(parts) > 2 and parts[2] == "assets":
        return asset_id
    owner = "legacy" if parts[0] in ("users", "projects") else "public"
    return f"projects/earthengine-{owner}/assets/{asset_id}"


# --------------------------------------------------------------------------------------------
# pyramids


def _quarters(array: Array) -> Array:
    """Return the 2 x 2 blocks of `array` as (4, rows, cols), padded by its edge if odd."""
    h, w = array.shape
    padded = np.pad(array, ((0, h % 2), (0, w % 2)), mode="edge")
    return np.stack([padded[i::2, j::2] for i in (0, 1) for j in (0, 1)])


def downsample(data: Array, mask: Array | None, policy: Policy) -> tuple[Array, Array | None]:
    """Return the next level of a pyramid: every 2 x 2 block of pixels becomes one.

    - MEAN: mean of the values weighted by their masks; the new mask is the mean of the masks, so
      a block that is half valid is half transparent. Integers are rounded to the nearest.
    - SAMPLE: value and mask of the upper-left pixel.
    - MODE: the most frequent valid value, the first in reading order among equals.
    - MIN, MAX: over the valid pixels.
    - For MODE, MIN and MAX the new mask is the largest mask of the block.

    What lies outside the array counts as masked.

    Parameters
    ----------
    data : ndarray, (y, x)
    mask : ndarray (y, x) of bool or of float in [0, 1], or None
        None: every pixel is valid.
    policy : {"MEAN", "SAMPLE", "MODE", "MIN", "MAX"}

    Returns
    -------
    data : ndarray, (ceil(y / 2), ceil(x / 2)), the dtype of the input
        0 where the mask is 0.
    mask : ndarray of the same shape, or None where every pixel is wholly valid

    Examples
    --------
    >>> data, mask = downsample(np.array([[1.0, 3.0], [5.0, 100.0]]),
    ...                         np.array([[True, True], [True, False]]), "MEAN")
    >>> float(data[0, 0]), float(mask[0, 0])
    (3.0, 0.75)
    """
    if policy == "SAMPLE":
        return data[::2, ::2].copy(), None if mask is None else mask[::2, ::2].copy()
    h, w = data.shape
    whole = mask is None and h % 2 == 0 and w % 2 == 0
    values = _quarters(data)
    weights = _quarters(np.ones((h, w), np.float32) if mask is None else mask.astype(np.float32))
    if h % 2:
        weights[2:, -1, :] = 0
    if w % 2:
        weights[1::2, :, -1] = 0
    valid = weights > 0
    if policy == "MEAN":
        total = weights.sum(axis=0)
        wide = np.where(valid, values, 0).astype(np.float64)
        mean = (wide * weights).sum(axis=0) / np.where(total > 0, total, 1)
        out = np.rint(mean) if data.dtype.kind in "iub" else mean
        new_mask = total / 4
    elif policy == "MODE":
        votes = np.zeros(values.shape, np.int8)
        for k in range(4):
            votes[k] = ((values == values[k]) & valid).sum(axis=0)
        best = np.where(valid, votes, 0).argmax(axis=0)
        out = np.take_along_axis(values, best[None], axis=0)[0]
        new_mask = weights.max(axis=0)
    else:
        info: Any = np.iinfo(data.dtype) if data.dtype.kind in "iu" else np.finfo(data.dtype)
        if policy == "MIN":
            out = np.where(valid, values, info.max).min(axis=0)
        else:
            out = np.where(valid, values, info.min).max(axis=0)
        new_mask = weights.max(axis=0)
    if whole or bool((new_mask == 1).all()):
        return out.astype(data.dtype), None
    return np.where(new_mask > 0, out, 0).astype(data.dtype), new_mask.astype(np.float32)


def pyramid(
    data: Array, mask: Array | None, policy: Policy
) -> Iterator[tuple[Array, Array | None]]:
    """Yield the levels of a pyramid, the native one first, until one fits into 256 x 256 pixels.

    Examples
    --------
    >>> [level.shape for level, _ in pyramid(np.zeros((600, 100)), None, "MEAN")]
    [(600, 100), (300, 50), (150, 25)]
    """
    yield data, mask
    while max(data.shape) > TOP:
        data, mask = downsample(data, mask, policy)
        yield data, mask


# --------------------------------------------------------------------------------------------
# assets


@dataclass(frozen=True)
class DataType:
    """What values a band can hold, in Earth Engine's words.

    Examples
    --------
    >>> DataType.of(np.uint16)
    DataType(precision='int', min=0, max=65535)
    """

    precision: Literal["int", "float", "double"]
    min: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, dtype: Any, minimum: float | None = None, maximum: float | None = None) -> DataType:
        """Return the type of a numpy dtype, its range narrowed where one is given."""
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            precision: Literal["float", "double"] = "double" if dtype.itemsize > 4 else "float"
            return cls(precision, minimum, maximum)
        info = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
        return cls(
            "int",
            int(info.min if minimum is None else minimum),
            int(info.max if maximum is None else maximum),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the PixelType object of `getInfo`."""
        out: dict[str, Any] = {"type": "PixelType", "precision": self.precision}
        if self.min is not None:
            out["min"] = self.min
        if self.max is not None:
            out["max"] = self.max
        return out


@dataclass
class BandData:
    """One band of an image that is put into the catalogue.

    Parameters
    ----------
    id : str
        Band name.
    array : ndarray, (y, x)
        Any integer or float dtype; bool becomes uint8, float16 becomes float32.
    crs : str
        "EPSG:32633" or WKT.
    transform : tuple of 6 floats
        (xScale, xShearing, xTranslation, yShearing, yScale, yTranslation), the translation being
        the upper-left corner of the upper-left pixel.
    mask : ndarray (y, x) of bool or float in [0, 1], optional
        True or 1 is valid. Values that are NaN are masked as well.
    pyramiding : {"MEAN", "SAMPLE", "MODE", "MIN", "MAX"}
    min, max : float, optional
        The declared range, where it is narrower than the dtype's.
    """

    id: str
    array: Array
    crs: str
    transform: Transform
    mask: Array | None = None
    pyramiding: Policy = "MEAN"
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class _Group:
    """Bands that share files: one grid, one dtype, one pyramiding policy."""

    crs: str
    transform: Transform
    shape: tuple[int, int]
    dtype: str
    policy: Policy
    data: tuple[str, ...]  # a file per level
    masks: tuple[str | None, ...]  # a file per level, None where all is valid
    shared: tuple[bool, ...]  # per level: one mask for all the bands
    source: Mapping[str, Any] | None = None  # of an image by reference; then no files of its own


@dataclass(frozen=True)
class BandAsset:
    """One band of an image in the catalogue, readable by windows.

    Attributes
    ----------
    id : str
    data_type : DataType
    crs : str
    transform : tuple of 6 floats
        Earth Engine's order, of level 0.
    shape : (height, width)
        Of level 0.
    levels : int
        Number of pyramid levels, the native one included.
    policy : str
        How the pyramid was made.
    dtype : numpy dtype
        What `read` returns.
    """

    id: str
    data_type: DataType
    crs: str
    transform: Transform
    shape: tuple[int, int]
    levels: int
    policy: Policy
    dtype: np.dtype[Any]
    _folder: str = field(repr=False)
    _group: _Group = field(repr=False)
    _index: int = field(repr=False)
    _blocks: _Blocks = field(repr=False, compare=False)

    def level_shape(self, level: int) -> tuple[int, int]:
        """Return (height, width) of a pyramid level."""
        h, w = self.shape
        return -(-h // 2**level), -(-w // 2**level)

    def level_transform(self, level: int) -> Transform:
        """Return the transform of a level: the same corner, pixels 2**level times as large."""
        a, b, c, d, e, f = self.transform
        k = float(2**level)
        return a * k, b * k, c, d * k, e * k, f

    def read(self, level: int, row0: int, row1: int, col0: int, col1: int) -> tuple[Array, Array]:
        """Read a window of a pyramid level. Safe to call from many threads.

        Parameters
        ----------
        level : int
            0 is the native resolution; level k has pixels 2**k times as large.
        row0, row1, col0, col1 : int
            Half-open, inside the level.

        Returns
        -------
        data : ndarray, (row1 - row0, col1 - col0), native dtype
            Read-only; 0 where masked.
        mask : ndarray of the same shape, bool or float32 in [0, 1]
            Read-only; True or 1 is valid.

        Raises
        ------
        DataError
            The window lies outside the level, or a file is missing or damaged.
        """
        if not 0 <= level < self.levels:
            raise DataError(f"Band {self.id} has levels 0 to {self.levels - 1}, not {level}.")
        h, w = self.level_shape(level)
        if not (0 <= row0 < row1 <= h and 0 <= col0 < col1 <= w):
            raise DataError(
                f"Window rows {row0}:{row1}, columns {col0}:{col1} is not inside level {level} "
                f"of band {self.id}, which has {h} rows and {w} columns."
            )
        window = (row0, row1, col0, col1)
        if self._group.source is not None:
            return self._refer(self._group.source, level, window)
        data = self._blocks.window(f"{self._folder}/{self._group.data[level]}", self._index, window)
        name = self._group.masks[level]
        if name is None:
            return data, np.broadcast_to(np.True_, data.shape)
        index = 0 if self._group.shared[level] else self._index
        mask = self._blocks.window(f"{self._folder}/{name}", index, window)
        return data, mask.view(np.bool_) if mask.dtype == np.uint8 else mask

    def _refer(
        self, source: Mapping[str, Any], level: int, window: tuple[int, int, int, int]
    ) -> tuple[Array, Array]:
        """Read a window of a file that lies elsewhere; see `references`."""
        from .references import key_of

        key = key_of(self._folder, source, level, False)
        data = self._blocks.window(key, self._index, window)
        if not source["masked"]:
            return data, np.broadcast_to(np.True_, data.shape)
        mask = self._blocks.window(key_of(self._folder, source, level, True), self._index, window)
        return data, mask.view(np.bool_)


@dataclass(frozen=True)
class Asset:
    """What the catalogue knows of an asset without reading a pixel.

    Attributes
    ----------
    id : str
        Normalised.
    type : {"IMAGE", "IMAGE_COLLECTION", "TABLE", "FOLDER"}
    properties : mapping
        Not to be changed by the reader.
    start_ms, end_ms : int or None
        `system:time_start` and `system:time_end`, milliseconds since 1970 UTC.
    footprint : GeoJSON geometry in longitude and latitude, or None
    updated : float
        Seconds since 1970 when `asset.json` was written.
    size_bytes : int
        Of the data files.
    """

    id: str
    type: AssetType
    properties: Mapping[str, Any] = field(default_factory=dict)
    start_ms: int | None = None
    end_ms: int | None = None
    footprint: Mapping[str, Any] | None = None
    updated: float = 0.0
    size_bytes: int = 0
    _folder: str = field(default="", repr=False)
    _table: str | None = field(default=None, repr=False)
    _make_bands: Callable[[], tuple[BandAsset, ...]] = field(default=tuple, repr=False)

    @functools.cached_property
    def bands(self) -> tuple[BandAsset, ...]:
        """The bands; made when first asked for, as listings of thousands of images never do."""
        return self._make_bands()

    @property
    def index(self) -> str:
        """The last part of the id: `system:index`."""
        return self.id.rpartition("/")[2]

    @property
    def name(self) -> str:
        """The resource name in the REST interface."""
        return asset_name(self.id)


# --------------------------------------------------------------------------------------------
# the cache of decoded blocks


class _Blocks:
    """Decoded blocks of files in least-recently-used order, bounded by their bytes."""

    def __init__(self, limit: int, handles: int = 64) -> None:
        self.limit = limit
        self.used = 0
        self._blocks: OrderedDict[tuple[str, int, int, int], Array] = OrderedDict()
        self._handles: OrderedDict[str, _Handle] = OrderedDict()
        self._max_handles = handles
        self._lock = threading.Lock()

    def window(self, path: str, index: int, window: tuple[int, int, int, int]) -> Array:
        """Return rows and columns of band `index` (from 0) of a file, read-only."""
        row0, row1, col0, col1 = window
        rows = range(row0 // BLOCK, (row1 - 1) // BLOCK + 1)
        cols = range(col0 // BLOCK, (col1 - 1) // BLOCK + 1)
        if len(rows) == 1 and len(cols) == 1:
            i, j = rows[0], cols[0]
            block = self._block(path, index, i, j)
            y, x = i * BLOCK, j * BLOCK
            return block[row0 - y : row1 - y, col0 - x : col1 - x]
        out: Array | None = None
        for i in rows:
            for j in cols:
                block = self._block(path, index, i, j)
                if out is None:
                    out = np.empty((row1 - row0, col1 - col0), block.dtype)
                y, x = i * BLOCK, j * BLOCK
                r0, r1 = max(row0, y), min(row1, y + BLOCK)
                c0, c1 = max(col0, x), min(col1, x + BLOCK)
                out[r0 - row0 : r1 - row0, c0 - col0 : c1 - col0] = block[
                    r0 - y : r1 - y, c0 - x : c1 - x
                ]
        assert out is not None
        out.setflags(write=False)
        return out

    def _block(self, path: str, index: int, i: int, j: int) -> Array:
        key = (path, index, i, j)
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
        block = self._handle(path).read(index, i, j)
        block.setflags(write=False)
        with self._lock:
            if key not in self._blocks and block.nbytes <= self.limit:
                self._blocks[key] = block
                self.used += block.nbytes
                while self.used > self.limit:
                    _, old = self._blocks.popitem(last=False)
                    self.used -= old.nbytes
        return block

    def _handle(self, path: str) -> _Handle:
        with self._lock:
            handle = self._handles.get(path)
            if handle is None:
                handle = self._handles[path] = _handle_of(path)
                closing = [
                    self._handles.popitem(last=False)[1]
                    for _ in range(len(self._handles) - self._max_handles)
                ]
            else:
                self._handles.move_to_end(path)
                closing = []
        for old in closing:
            old.close()
        return handle

    def forget(self, folder: str) -> None:
        """Drop what was read from a folder whose asset was replaced or deleted."""
        prefix = folder + "/"
        with self._lock:
            for key in [key for key in self._blocks if key[0].startswith(prefix)]:
                self.used -= self._blocks.pop(key).nbytes
            closing = [
                self._handles.pop(path) for path in list(self._handles) if path.startswith(prefix)
            ]
        for handle in closing:
            handle.close()


def _handle_of(path: str) -> _Handle:
    if "\x00" not in path:
        return _Handle(path)
    from .references import ReferenceHandle

    return ReferenceHandle(path)  # type: ignore[return-value]  # it has the same methods


class _Handle:
    """One open file; GDAL data sets must not be read by two threads at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._dataset: Any = None

    def read(self, index: int, i: int, j: int) -> Array:
        import rasterio
        from rasterio.windows import Window

        with self._lock:
            try:
                if self._dataset is None:
                    # GDAL's own cache, by default a share of all memory, would keep a second
                    # copy of every block.
                    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
                        self._dataset = rasterio.open(self._path, driver="GTiff", sharing=False)
                        # GDAL looks at the setting when a process first reads a block.
                        self._dataset.read(1, window=Window(0, 0, 1, 1))
                source = self._dataset
                height = min(BLOCK, source.height - i * BLOCK)
                width = min(BLOCK, source.width - j * BLOCK)
                window = Window(j * BLOCK, i * BLOCK, width, height)
                block: Array = source.read(index + 1, window=window)
            except (rasterio.errors.RasterioError, IndexError, ValueError) as error:
                raise DataError(
                    f"{self._path} cannot be read ({error}).",
                    hint="The file is missing or damaged: ingest the asset again.",
                ) from error
            return block

    def close(self) -> None:
        with self._lock:
            if self._dataset is not None:
                self._dataset.close()
                self._dataset = None


# --------------------------------------------------------------------------------------------
# the catalogue


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

    Raises
    ------
    DataError
        The folder does not exist, or an id is not valid.
    StorageError
        Writing to a catalogue opened for reading; the disk is full or not writable.

    Examples
    --------
    >>> import tempfile
    >>> catalog = Catalog(Path(tempfile.mkdtemp()), writable=True)
    >>> band = BandData("B4", np.array([[7]], "uint16"), "EPSG:32633", (10, 0, 0, 0, -10, 0))
    >>> catalog.put_image("users/a/one", [band], {"cloud": 3}, start_ms=0)
    >>> image = catalog.get("users/a/one")
    >>> image.bands[0].read(0, 0, 1, 0, 1)[0].tolist(), image.properties["cloud"]
    ([[7]], 3)
    """

    def __init__(
        self, root: Path, writable: bool = False, *, cache_bytes: int = 256 * 2**20
    ) -> None:
        self.root = Path(root).absolute()
        self.writable = writable
        if writable:
            with storage_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
        elif not self.root.is_dir():
            raise DataError(
                f"There is no catalogue at {self.root}.",
                hint="Make one with: thawslump emulator ingest, or thawslump demo.",
            )
        self._real = os.path.realpath(self.root)
        self._blocks = _Blocks(cache_bytes)
        self._lock = threading.Lock()
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
        if asset is None and Path(folder).is_dir():
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
            if not _is_name(name):
                continue
            # Neither the folder above nor this one is a link, so nothing leads out.
            child, place = (f"{key}/{name}" if key else name), f"{folder}/{name}"
            asset = self._load(child, place)
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
        if asset is None or asset._table is None:
            kind = "not found" if asset is None else f"a {asset.type}, not a table"
            raise DataError(f"Table asset '{asset_id}' is {kind}.")
        path = f"{asset._folder}/{asset._table}"
        try:
            identity = _identity(path)
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
        bands = [_checked(asset_id, band) for band in bands]
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
            manifest_groups.append(_write_group(Path(folder), number, members))
            places.update({band.id: (number, i) for i, band in enumerate(members)})
        first = bands[0]
        if footprint is None:
            footprint = _outline(first.crs, first.transform, first.array.shape)
        self._commit(
            asset_id,
            folder,
            {
                "type": "IMAGE",
                "properties": dict(properties or {}),
                "start_ms": start_ms,
                "end_ms": end_ms,
                "footprint": footprint,
                "groups": manifest_groups,
                "bands": [
                    {
                        "id": band.id,
                        "group": places[band.id][0],
                        "index": places[band.id][1],
                        "min": band.min,
                        "max": band.max,
                    }
                    for band in bands
                ],
            },
        )

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
        text = _dumps(asset_id, {"type": "FeatureCollection", "features": kept})
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

    def update_properties(
        self,
        asset_id: str,
        changes: Mapping[str, Any],
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> None:
        """Set properties of an asset; a value of None removes one."""
        asset_id = normalize_id(asset_id)
        self._need_writable()
        folder = self._folder(asset_id)
        path = Path(folder or "", MANIFEST)
        if folder is None or not path.is_file():
            raise DataError(f"Asset '{asset_id}' does not exist.")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        properties = {**manifest.get("properties", {}), **changes}
        manifest["properties"] = {k: v for k, v in properties.items() if v is not None}
        if start_ms is not None:
            manifest["start_ms"] = start_ms
        if end_ms is not None:
            manifest["end_ms"] = end_ms
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
        with storage_errors(Path(folder)):
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
            for name in _files(manifest):
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
        text = _dumps(asset_id, {"format": FORMAT, **manifest})
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        keep = {MANIFEST, *_files(manifest)}
        for entry in list(os.scandir(folder)):
            # Only what a former version left: a temporary file may be another writer's.
            if entry.name not in keep and _FILE.fullmatch(entry.name):
                Path(entry.path).unlink(missing_ok=True)
        self._touched(asset_id, folder)

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
            identity = _identity(path)
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
            raise _not_an_asset(path, error) from error
        with self._lock:
            self._assets[asset_id] = (identity, asset)
        return asset

    def _parse(
        self, asset_id: str, folder: str, manifest: dict[str, Any], identity: tuple[int, ...]
    ) -> Asset:
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}, expected {FORMAT}")
        for name in _files(manifest):
            if not _FILE.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a data file")
        kind = manifest["type"]

        def bands() -> tuple[BandAsset, ...]:
            try:
                return tuple(_bands(manifest, folder, self._blocks))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise _not_an_asset(f"{folder}/{MANIFEST}", error) from error

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


# --------------------------------------------------------------------------------------------
# helpers


def _not_an_asset(path: str, error: Exception) -> DataError:
    return DataError(
        f"{path} is not the description of an asset ({type(error).__name__}: {error}).",
        hint="Ingest the asset again.",
    )


def _bands(manifest: Mapping[str, Any], folder: str, blocks: _Blocks) -> Iterator[BandAsset]:
    groups = [
        _Group(
            crs=g["crs"],
            transform=_six(g["transform"]),
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


def _identity(path: str) -> tuple[int, ...]:
    status = os.stat(path)  # noqa: PTH116 (a hot path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def _six(values: Sequence[float]) -> Transform:
    a, b, c, d, e, f = (float(v) for v in values)
    return a, b, c, d, e, f


def _files(manifest: Mapping[str, Any]) -> list[str]:
    names = [name for g in manifest.get("groups", ()) for name in (*g["data"], *g["masks"]) if name]
    return [*names, manifest["table"]] if manifest.get("table") else names


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays into what JSON can hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} is no JSON value")


def _dumps(asset_id: str, value: Any) -> str:
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain
        )
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Asset {asset_id}: its properties cannot be written as JSON ({error}).",
            hint="Properties are strings, finite numbers, booleans, lists and objects of those.",
        ) from error


def _checked(asset_id: str, band: BandData) -> BandData:
    """Return the band in a dtype that files hold, its mask merged with NaN, masked values 0."""
    array = np.asarray(band.array)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iufb":
        raise DataError(
            f"Image {asset_id}, band {band.id}: expected numbers in 2 dimensions (y, x), got "
            f"{array.dtype} of shape {array.shape}."
        )
    if band.pyramiding not in POLICIES:
        raise DataError(
            f"Image {asset_id}, band {band.id}: pyramiding {band.pyramiding!r} is none of "
            f"{', '.join(POLICIES)}."
        )
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    mask = None
    if band.mask is not None:
        mask = np.asarray(band.mask)
        if mask.shape != array.shape:
            raise DataError(
                f"Image {asset_id}, band {band.id}: the mask has shape {mask.shape}, the values "
                f"{array.shape}."
            )
        if mask.dtype != np.bool_:
            mask = np.clip(np.nan_to_num(mask.astype(np.float32)), 0, 1)
            if bool(((mask == 0) | (mask == 1)).all()):
                mask = mask > 0
        elif bool(mask.all()):
            mask = None
    if array.dtype.kind == "f":
        missing = np.isnan(array)
        if bool(missing.any()):
            mask = ~missing if mask is None else np.where(missing, np.zeros((), mask.dtype), mask)
    if mask is not None:
        array = np.where(mask > 0, array, np.zeros((), array.dtype))
        if bool((mask == 1).all()):
            mask = None
    return BandData(
        id=band.id,
        array=np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)),
        crs=str(band.crs),
        transform=_six(band.transform),
        mask=mask,
        pyramiding=band.pyramiding,
        min=None if band.min is None else float(band.min),
        max=None if band.max is None else float(band.max),
    )


def _write_group(folder: Path, number: int, bands: Sequence[BandData]) -> dict[str, Any]:
    """Write the files of bands that share a grid; return their entry in the manifest."""
    first = bands[0]
    digest = hashlib.blake2b(digest_size=6)
    digest.update(repr((first.crs, first.transform, first.pyramiding, FORMAT)).encode())
    for band in bands:
        digest.update(repr((band.id, band.array.shape, band.array.dtype.str)).encode())
        digest.update(band.array.data)
        if band.mask is not None:
            digest.update(np.ascontiguousarray(band.mask).data)
    stem = f"{digest.hexdigest()}_{number}"
    names = [band.id for band in bands]
    data_files: list[str] = []
    mask_files: list[str | None] = []
    shared_flags: list[bool] = []
    size = 0
    levels = zip(*(pyramid(b.array, b.mask, b.pyramiding) for b in bands), strict=True)
    for level, images in enumerate(levels):
        k = float(2**level)
        a, b, c, d, e, f = first.transform
        grid = (first.crs, (a * k, b * k, c, d * k, e * k, f))
        name = f"{stem}_{level}.tif"
        size += _write_tiff(folder / name, [data for data, _ in images], *grid, names)
        data_files.append(name)
        masks = [mask for _, mask in images]
        if all(mask is None for mask in masks):
            mask_files.append(None)
            shared_flags.append(True)
            continue
        filled = [np.ones(images[0][0].shape, np.bool_) if m is None else m for m in masks]
        shared = all(m is not None for m in masks) and all(
            np.array_equal(filled[0], m) for m in filled[1:]
        )
        if shared:
            filled = filled[:1]
        binary = all(m.dtype == np.bool_ or bool(((m == 0) | (m == 1)).all()) for m in filled)
        stored = [m.astype(np.uint8 if binary else np.float32) for m in filled]
        name = f"{stem}_{level}.mask.tif"
        size += _write_tiff(folder / name, stored, *grid, ["mask"] if shared else names)
        mask_files.append(name)
        shared_flags.append(shared)
    return {
        "crs": first.crs,
        "transform": first.transform,
        "shape": list(first.array.shape),
        "dtype": first.array.dtype.name,
        "policy": first.pyramiding,
        "data": data_files,
        "masks": mask_files,
        "shared": shared_flags,
        "bytes": size,
    }


def _write_tiff(
    path: Path, arrays: Sequence[Array], crs: str, transform: Transform, names: Sequence[str]
) -> int:
    import rasterio
    from rasterio.transform import Affine

    height, width = arrays[0].shape
    dtype = arrays[0].dtype
    options: dict[str, Any] = {}
    if max(height, width) > BLOCK // 2:
        options = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
    try:
        with (
            atomic(path) as temporary,
            rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=GDAL_CACHE),
            rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=len(arrays),
                dtype=dtype,
                crs=crs,
                transform=Affine(*transform),
                interleave="band",
                compress="ZSTD",
                predictor=3 if dtype.kind == "f" else 2,
                zstd_level=3,
                bigtiff="IF_SAFER",
                **options,
            ) as target,
        ):
            for number, (array, name) in enumerate(zip(arrays, names, strict=True), 1):
                target.write(array, number)
                target.set_band_description(number, name)
    except rasterio.errors.CRSError as error:
        raise DataError(f"{crs!r} is not a known CRS: {error}.") from error
    except rasterio.errors.RasterioIOError as error:
        # GDAL reports a full disk in words of its own; the old asset is still in place.
        raise StorageError(
            f"{path} could not be written: {error}.", hint="Is the disk full?"
        ) from error
    return path.stat().st_size


def _outline(crs: str, transform: Transform, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the outline of a grid as a GeoJSON polygon in longitude and latitude."""
    from rasterio.warp import transform as warp

    a, b, c, d, e, f = transform
    h, w = shape
    steps = np.linspace(0, 1, 9)[:-1]
    cols = np.concatenate([steps * w, np.full(8, w), (1 - steps) * w, np.zeros(8)])
    rows = np.concatenate([np.zeros(8), steps * h, np.full(8, h), (1 - steps) * h])
    xs, ys = a * cols + b * rows + c, d * cols + e * rows + f
    lon, lat = warp(crs, "EPSG:4326", xs.tolist(), ys.tolist())
    ring = [
        [round(x, 9), round(y, 9)]
        for x, y in zip(lon, lat, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    ring.reverse()  # counter-clockwise for a north-up grid
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
