"""What an asset is: its id, its bands and their types, and what is put into a catalogue."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError

if TYPE_CHECKING:
    from .blocks import Blocks
    from .geometry import Geometry

__all__ = [
    "MANIFEST",
    "POLICIES",
    "Asset",
    "AssetType",
    "BandAsset",
    "BandData",
    "DataType",
    "Group",
    "Policy",
    "Transform",
    "asset_name",
    "is_name",
    "normalize_id",
    "six",
]

Array = NDArray[Any]
Transform = tuple[float, float, float, float, float, float]
Policy = Literal["MEAN", "SAMPLE", "MODE", "MIN", "MAX"]
AssetType = Literal["IMAGE", "IMAGE_COLLECTION", "TABLE", "CLASSIFIER", "FOLDER"]

POLICIES: tuple[Policy, ...] = ("MEAN", "SAMPLE", "MODE", "MIN", "MAX")
MANIFEST = "asset.json"

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")


def is_name(segment: str) -> bool:
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
        if not is_name(segment):
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


def six(values: Sequence[float]) -> Transform:
    """Return a transform as six floats."""
    a, b, c, d, e, f = (float(v) for v in values)
    return a, b, c, d, e, f


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
class Group:
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
    _group: Group = field(repr=False)
    _index: int = field(repr=False)
    _blocks: Blocks = field(repr=False, compare=False)

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
    type : {"IMAGE", "IMAGE_COLLECTION", "TABLE", "CLASSIFIER", "FOLDER"}
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

    @functools.cached_property
    def outline(self) -> Geometry | None:
        """The footprint as a geometry; kept, as filters ask for those of whole collections."""
        from .geometry import parse_geojson

        return None if self.footprint is None else parse_geojson(dict(self.footprint))

    @property
    def index(self) -> str:
        """The last part of the id: `system:index`."""
        return self.id.rpartition("/")[2]

    @property
    def name(self) -> str:
        """The resource name in the REST interface."""
        return asset_name(self.id)
