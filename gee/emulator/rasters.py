"""The files of images: pyramids, and how bands and their masks become GeoTIFFs."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError, StorageError
from thawslump.files import atomic

from .assets import POLICIES, BandData, Policy, Transform, six
from .blocks import BLOCK, limit_gdal

__all__ = ["checked", "created", "downsample", "outline", "pyramid", "write_group"]

Array = NDArray[Any]

TOP = 256  # the pyramid ends where a level fits into a square of this many pixels
FORMAT = 1  # of the files; part of their names


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


def checked(asset_id: str, band: BandData) -> BandData:
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
        transform=six(band.transform),
        mask=mask,
        pyramiding=band.pyramiding,
        min=None if band.min is None else float(band.min),
        max=None if band.max is None else float(band.max),
    )


def write_group(folder: Path, number: int, bands: Sequence[BandData]) -> dict[str, Any]:
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
    height, width = arrays[0].shape
    with (
        atomic(path) as temporary,
        created(
            temporary, (height, width), arrays[0].dtype, crs, transform, names, BLOCK
        ) as target,
    ):
        for number, array in enumerate(arrays, 1):
            target.write(array, number)
    return path.stat().st_size


@contextlib.contextmanager
def created(
    path: Path,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    crs: str,
    transform: Transform,
    names: Sequence[str],
    block: int,
) -> Iterator[Any]:
    """Yield a new raster to write into, and turn GDAL's troubles into words.

    Parameters
    ----------
    shape : (height, width)
    names : sequence of str
        One per band.
    block : int
        Side of the tiles inside the file.
    """
    import rasterio
    from rasterio.transform import Affine

    limit_gdal()
    height, width = shape
    options: dict[str, Any] = {}
    if max(height, width) > BLOCK // 2:
        options = {"tiled": True, "blockxsize": block, "blockysize": block}
    try:
        with (
            rasterio.Env(GDAL_NUM_THREADS="1"),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=len(names),
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
            for number, name in enumerate(names, 1):
                target.set_band_description(number, name)
            yield target
    except rasterio.errors.CRSError as error:
        raise DataError(f"{crs!r} is not a known CRS: {error}.") from error
    except rasterio.errors.RasterioIOError as error:
        # GDAL reports a full disk in words of its own; the old asset is still in place.
        raise StorageError(
            f"{path} could not be written: {error}.", hint="Is the disk full?"
        ) from error


def outline(crs: str, transform: Transform, shape: tuple[int, ...]) -> dict[str, Any]:
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
