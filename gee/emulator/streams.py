"""Images that are larger than memory: written by windows, their pyramids built from the files."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from thawslump.files import storage_errors

from .assets import POLICIES, BandData, Policy, Transform, six
from .rasters import FORMAT, TOP, checked, created, downsample

__all__ = ["BandStream", "ImageStream", "write_stream"]

Array = NDArray[Any]
Window = tuple[int, int, int, int, Mapping[str, tuple[Array, Array | None]]]
SIDE = 1024  # of the windows in which one level is read to make the next
TILE = 256  # side of the tiles inside the files: windows need not be multiples of 512


@dataclass(frozen=True)
class BandStream:
    """A band of an image that is written by windows.

    Parameters
    ----------
    id : str
    dtype : numpy dtype
        Of the files: integers or floats of 32 or 64 bits.
    pyramiding : {"MEAN", "SAMPLE", "MODE", "MIN", "MAX"}
    min, max : float, optional
        The declared range, where it is narrower than the dtype's.
    """

    id: str
    dtype: np.dtype[Any]
    pyramiding: Policy = "MEAN"
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class ImageStream:
    """Bands on one grid, and their pixels as they come.

    Parameters
    ----------
    bands : sequence of BandStream
    crs : str
    transform : tuple of 6 floats
        Earth Engine's order.
    shape : (height, width)
    windows : iterable of (row0, row1, col0, col1, {band: (data, mask)})
        All pixels, each once; `mask` is bool, float in [0, 1], or None for all valid.
    """

    bands: Sequence[BandStream]
    crs: str
    transform: Transform
    shape: tuple[int, int]
    windows: Iterable[Window]


class _Level:
    """Writes one level of bands that share a grid: the values, and the masks once one is needed."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        stem: Path,
        level: int,
        stream: ImageStream,
        bands: Sequence[BandStream],
    ) -> None:
        k = 2.0**level
        h, w = stream.shape
        self.shape = (-(-h // 2**level), -(-w // 2**level))
        a, b, c, d, e, f = six(stream.transform)
        self.crs, self.transform = stream.crs, (a * k, b * k, c, d * k, e * k, f)
        self.names = [band.id for band in bands]
        self.path = stem.with_name(f"{stem.name}_{level}.tif")
        self.mask_path = stem.with_name(f"{stem.name}_{level}.mask.tif")
        self._stack = stack
        self._target = self._create(self.path, bands[0].dtype, self.names)
        self._marks: Any = None
        self._whole: list[tuple[int, int, int, int]] = []  # windows without a masked pixel
        self.shared = self.binary = True

    def _create(self, path: Path, dtype: np.dtype[Any], names: Sequence[str]) -> Any:
        self._stack.callback(path.unlink, missing_ok=True)
        return self._stack.enter_context(
            created(path, self.shape, dtype, self.crs, self.transform, names, TILE)
        )

    def write(self, row: int, column: int, images: Sequence[tuple[Array, Array | None]]) -> None:
        """Write the bands of a window."""
        from rasterio.windows import Window as Place

        height, width = images[0][0].shape
        place = Place(column, row, width, height)
        for number, (data, _) in enumerate(images, 1):
            self._target.write(data, number, window=place)
        if all(mask is None for _, mask in images):
            if self._marks is None:
                self._whole.append((row, column, height, width))
                return
        elif self._marks is None:
            self._marks = self._create(self.mask_path, np.dtype(np.float32), self.names)
            for earlier in self._whole:
                self._fill(*earlier)
        ones = np.ones((height, width), np.float32)
        first = None
        for number, (_, mask) in enumerate(images, 1):
            values = ones if mask is None else mask.astype(np.float32)
            self._marks.write(values, number, window=place)
            self.binary = self.binary and bool(((values == 0) | (values == 1)).all())
            if first is None:
                first = values
            else:
                self.shared = self.shared and np.array_equal(first, values)

    def _fill(self, row: int, column: int, height: int, width: int) -> None:
        from rasterio.windows import Window as Place

        ones = np.ones((height, width), np.float32)
        for number in range(1, len(self.names) + 1):
            self._marks.write(ones, number, window=Place(column, row, width, height))

    def finish(self) -> None:
        """End the files; masks of zeros and ones become bytes, equal ones become one."""
        import rasterio

        self._target.close()
        if self._marks is None:
            return
        self._marks.close()
        if not (self.binary or self.shared):
            return
        small = self.mask_path.with_name(f"{self.mask_path.stem}.small.tif")
        names = ["mask"] if self.shared else self.names
        dtype = np.dtype(np.uint8 if self.binary else np.float32)
        self._stack.callback(small.unlink, missing_ok=True)
        with (
            rasterio.open(self.mask_path) as source,
            created(small, self.shape, dtype, self.crs, self.transform, names, TILE) as target,
        ):
            for place in _places(self.shape):
                for number in range(1, len(names) + 1):
                    values = source.read(number, window=place)
                    target.write(values.astype(dtype), number, window=place)
        small.replace(self.mask_path)

    @property
    def masked(self) -> bool:
        """Whether there is a file of masks."""
        return self._marks is not None


def _places(shape: tuple[int, int]) -> Iterator[Any]:
    from rasterio.windows import Window as Place

    for row in range(0, shape[0], SIDE):
        for column in range(0, shape[1], SIDE):
            yield Place(column, row, min(SIDE, shape[1] - column), min(SIDE, shape[0] - row))


def write_stream(
    asset_id: str,
    folder: Path,
    stream: ImageStream,
    first: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[list[dict[str, Any]], dict[str, tuple[int, int]]]:
    """Write the files of a stream with their pyramids, holding a window at a time.

    Parameters
    ----------
    asset_id : str
        For errors.
    folder : Path
    stream : ImageStream
    first : int
        Number of the first group.
    check : callable
        Called now and then; may raise to stop.

    Returns
    -------
    groups : list of dict
        Entries of the manifest.
    places : dict of band id to (group, index)
    """
    members: dict[tuple[str, Policy], list[BandStream]] = {}
    for band in stream.bands:
        if band.pyramiding not in POLICIES:
            raise DataError(
                f"Image {asset_id}, band {band.id}: pyramiding {band.pyramiding!r} is none of "
                f"{', '.join(POLICIES)}."
            )
        members.setdefault((np.dtype(band.dtype).str, band.pyramiding), []).append(band)
    groups = list(members.values())
    places = {
        band.id: (first + number, index)
        for number, bands in enumerate(groups)
        for index, band in enumerate(bands)
    }
    stem = f".{secrets.token_hex(8)}"
    with storage_errors(folder), contextlib.ExitStack() as stack:
        digests = [hashlib.blake2b(digest_size=6) for _ in groups]
        bases = []
        for number, (digest, bands) in enumerate(zip(digests, groups, strict=True)):
            facts = (stream.crs, six(stream.transform), tuple(stream.shape), bands, FORMAT)
            digest.update(repr(facts).encode())
            path = folder / f"{stem}_{first + number}"
            bases.append(_Level(stack, path, 0, stream, bands))
        for row0, row1, column0, column1, pixels in stream.windows:
            place = repr((row0, row1, column0, column1)).encode()
            for base, digest, bands in zip(bases, digests, groups, strict=True):
                images = [
                    _plain(
                        asset_id, band, stream, pixels[band.id], (row1 - row0, column1 - column0)
                    )
                    for band in bands
                ]
                digest.update(place)
                for data, mask in images:
                    digest.update(np.ascontiguousarray(data).data)
                    if mask is not None:
                        digest.update(np.ascontiguousarray(mask).data)
                base.write(row0, column0, images)
        made = []
        for number, (base, digest, bands) in enumerate(zip(bases, digests, groups, strict=True)):
            levels = [base]
            base.finish()
            while max(levels[-1].shape) > TOP:
                check()
                levels.append(_next(stack, folder / f"{stem}_{first + number}", levels, stream,
                                    bands))  # fmt: skip
            made.append(
                _named(folder, f"{digest.hexdigest()}_{first + number}", levels, stream, bands)
            )
    return made, places


def _plain(
    asset_id: str,
    band: BandStream,
    stream: ImageStream,
    pixels: tuple[Array, Array | None],
    shape: tuple[int, int],
) -> tuple[Array, Array | None]:
    """Return a window as the files hold it: the dtype, NaN masked, 0 where masked."""
    data, mask = pixels
    if data.shape != shape:
        raise DataError(
            f"Image {asset_id}, band {band.id}: a window of shape {shape} came with values of "
            f"shape {data.shape}."
        )
    made = checked(
        asset_id,
        BandData(band.id, data, stream.crs, stream.transform, mask, band.pyramiding),
    )
    return made.array.astype(band.dtype, copy=False), made.mask


def _next(
    stack: contextlib.ExitStack,
    stem: Path,
    levels: Sequence[_Level],
    stream: ImageStream,
    bands: Sequence[BandStream],
) -> _Level:
    """Write the level above the last one, read from its files."""
    import rasterio

    below = levels[-1]
    made = _Level(stack, stem, len(levels), stream, bands)
    with contextlib.ExitStack() as reading:
        source = reading.enter_context(rasterio.open(below.path))
        marks = None
        if below.masked:
            marks = reading.enter_context(rasterio.open(below.mask_path))
        for place in _places(below.shape):
            images = []
            for number, band in enumerate(bands, 1):
                mask = None
                if marks is not None:
                    mask = marks.read(1 if below.shared else number, window=place)
                    mask = None if bool((mask == 1).all()) else mask.astype(np.float32)
                data = source.read(number, window=place)
                images.append(downsample(data, mask, band.pyramiding))
            made.write(place.row_off // 2, place.col_off // 2, images)
    made.finish()
    return made


def _named(
    folder: Path,
    stem: str,
    levels: Sequence[_Level],
    stream: ImageStream,
    bands: Sequence[BandStream],
) -> dict[str, Any]:
    """Give the files the names that belong to their content; return the manifest's entry."""
    data: list[str] = []
    masks: list[str | None] = []
    size = 0
    for number, level in enumerate(levels):
        data.append(f"{stem}_{number}.tif")
        size += level.path.stat().st_size
        level.path.replace(folder / data[-1])
        masks.append(f"{stem}_{number}.mask.tif" if level.masked else None)
        if level.masked:
            size += level.mask_path.stat().st_size
            level.mask_path.replace(folder / str(masks[-1]))
    return {
        "crs": stream.crs,
        "transform": six(stream.transform),
        "shape": list(stream.shape),
        "dtype": np.dtype(bands[0].dtype).name,
        "policy": bands[0].pyramiding,
        "data": data,
        "masks": masks,
        "shared": [not level.masked or level.shared for level in levels],
        "bytes": size,
    }
