"""Computed pixels as files: NPY, GeoTIFF, PNG, JPEG and archives of GeoTIFFs.

Masked pixels are 0 in NPY and transparent in PNG. In GeoTIFFs they hold the file's nodata value:
the smallest value of an integer type, minus infinity for floats (what downloads of Earth Engine
hold, as clients expect it), unless the caller names one.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError

__all__ = [
    "BandInfo",
    "Canvas",
    "archive",
    "coloured",
    "geotiff",
    "geotiff_dtype",
    "nodata_of",
    "npy",
    "picture",
    "rgba",
    "write_geotiff",
]

Array = NDArray[Any]
Tile = tuple[int, int, int, int, Mapping[str, tuple[Array, Array]]]
Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class BandInfo:
    """Name and numpy type of a band, and the range that its pixels are declared to have."""

    id: str
    dtype: np.dtype[Any]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Canvas:
    """The grid of an answer: `crs`, a transform in Earth Engine's order, and its size."""

    crs: str
    transform: Transform
    width: int
    height: int

    def part(self, row0: int, row1: int, col0: int, col1: int) -> Canvas:
        """Return the canvas of some rows and columns.

        Examples
        --------
        >>> Canvas("EPSG:32633", (10, 0, 0, 0, -10, 100), 9, 9).part(2, 4, 1, 9).transform
        (10, 0, 10, 0, -10, 80)
        """
        a, b, c, d, e, f = self.transform
        moved = (a, b, c + a * col0 + b * row0, d, e, f + d * col0 + e * row0)
        return Canvas(self.crs, moved, col1 - col0, row1 - row0)


# --------------------------------------------------------------------------------------------
# numbers


def npy(tiles: Iterable[Tile], bands: Sequence[BandInfo], canvas: Canvas) -> bytes:
    """Return a NumPy file: a structured array with a field per band, shape (height, width).

    Parameters
    ----------
    tiles : iterable of (row0, row1, col0, col1, {band: (data, mask)})
        Data is 0 where masked.
    bands : sequence of BandInfo
    canvas : Canvas

    Examples
    --------
    >>> tile = (0, 1, 0, 2, {"a": (np.array([[1, 2]]), np.array([[True, True]]))})
    >>> content = npy([tile], [BandInfo("a", np.dtype("u1"))], Canvas("", (0,) * 6, 2, 1))
    >>> np.load(io.BytesIO(content))["a"].tolist()
    [[1, 2]]
    """
    dtype = np.dtype([(band.id, band.dtype) for band in bands])
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head,
        {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (canvas.height, canvas.width),
        },
    )
    # The tiles go where they are sent from: answers are large, and may not be held twice.
    content = bytearray(head.tell() + canvas.height * canvas.width * dtype.itemsize)
    content[: head.tell()] = head.getvalue()
    out = np.frombuffer(content, dtype, offset=head.tell()).reshape(canvas.height, canvas.width)
    for row0, row1, col0, col1, pixels in tiles:
        for band in bands:
            out[band.id][row0:row1, col0:col1] = pixels[band.id][0]
    return bytes(content)


# --------------------------------------------------------------------------------------------
# GeoTIFF


def nodata_of(dtype: np.dtype[Any]) -> float | int:
    """Return what masked pixels of a type hold in a GeoTIFF.

    Examples
    --------
    >>> nodata_of(np.dtype("uint8")), nodata_of(np.dtype("int16")), nodata_of(np.dtype("float32"))
    (0, -32768, -inf)
    """
    return -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def geotiff_dtype(bands: Sequence[BandInfo]) -> np.dtype[Any]:
    """Return the one type that all bands of a GeoTIFF have.

    64-bit integers become float64, as in Earth Engine's downloads: readers hold the nodata value
    of a file as a float64, which has no room for the smallest of them.

    Examples
    --------
    >>> geotiff_dtype([BandInfo("a", np.dtype("u1")), BandInfo("b", np.dtype("f4"))])
    dtype('float32')
    """
    dtype: np.dtype[Any] = np.result_type(*(band.dtype for band in bands))
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return np.dtype(np.float64)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def write_geotiff(
    path: Path,
    tiles: Iterable[Tile],
    bands: Sequence[BandInfo],
    canvas: Canvas,
    *,
    nodata: float | None = None,
    block: int = 256,
    cloud_optimized: bool = False,
    tags: Mapping[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> bool:
    """Write a GeoTIFF tile by tile, so that its size is not bounded by memory.

    Parameters
    ----------
    path : Path
        Replaced if it exists; the caller writes atomically.
    tiles : iterable
        As for `npy`, not all of the canvas need be covered.
    bands : sequence of BandInfo
    canvas : Canvas
    nodata : float, optional
        What masked pixels hold and the file declares; `nodata_of` the type if not given.
    block : int
        Side of the file's tiles, a multiple of 16.
    cloud_optimized : bool
        Write a COG with overviews.
    tags : mapping, optional
    progress : callable, optional
        Called with the share that is done; may raise to stop.

    Returns
    -------
    bool
        Whether any pixel is valid.
    """
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import Affine
    from rasterio.windows import Window

    from .blocks import limit_gdal

    dtype = geotiff_dtype(bands)
    missing = nodata_of(dtype) if nodata is None else nodata
    if dtype.kind in "iu" and not (
        np.iinfo(dtype).min <= missing <= np.iinfo(dtype).max and missing == int(missing)
    ):
        raise EngineError(f"The noData value {missing} does not fit into pixels of type {dtype}.")
    compress = {"compress": "DEFLATE", "zlevel": 1, "predictor": 3 if dtype.kind == "f" else 2}
    if dtype.itemsize == 1 or dtype.kind == "c":
        compress.pop("predictor")
    tiled = min(canvas.width, canvas.height) >= block
    options: dict[str, Any] = {"blockxsize": block, "blockysize": block} if tiled else {}
    plain = path.with_name(f"{path.name}.plain.tif") if cloud_optimized else path
    valid = False
    done = 0
    limit_gdal()
    with rasterio.Env():
        try:
            with rasterio.open(
                plain,
                "w",
                driver="GTiff",
                width=canvas.width,
                height=canvas.height,
                count=len(bands),
                dtype=dtype,
                crs=canvas.crs,
                transform=Affine(*canvas.transform),
                nodata=missing,
                tiled=tiled,
                bigtiff="IF_SAFER",
                interleave="band" if cloud_optimized else "pixel",
                **({} if cloud_optimized else compress),
                **options,
            ) as target:
                for number, band in enumerate(bands, 1):
                    target.set_band_description(number, band.id)
                if tags:
                    target.update_tags(**tags)
                for row0, row1, col0, col1, pixels in tiles:
                    block_out = np.empty((len(bands), row1 - row0, col1 - col0), dtype)
                    for number, band in enumerate(bands):
                        data, mask = pixels[band.id]
                        good = mask > 0
                        valid = valid or bool(good.any())
                        block_out[number] = np.where(good, data, dtype.type(missing))
                    target.write(block_out, window=Window(col0, row0, col1 - col0, row1 - row0))
                    done += (row1 - row0) * (col1 - col0)
                    if progress is not None:
                        progress(done / (canvas.width * canvas.height))
            if cloud_optimized:
                copy(
                    plain,
                    path,
                    driver="COG",
                    compress="DEFLATE",
                    predictor="YES",
                    blocksize=max(block, 128),
                    overview_resampling="AVERAGE" if dtype.kind == "f" else "NEAREST",
                    bigtiff="IF_SAFER",
                )
        finally:
            if cloud_optimized:
                plain.unlink(missing_ok=True)
                plain.with_name(f"{plain.name}.aux.xml").unlink(missing_ok=True)
    return valid


def geotiff(
    tiles: Iterable[Tile],
    bands: Sequence[BandInfo],
    canvas: Canvas,
    tags: Mapping[str, str] | None = None,
) -> bytes:
    """Return a GeoTIFF as bytes."""
    with tempfile.TemporaryDirectory(prefix="emulator-") as folder:
        path = Path(folder, "pixels.tif")
        write_geotiff(path, tiles, bands, canvas, tags=tags)
        return path.read_bytes()


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP archive of named files.

    Examples
    --------
    >>> zipfile.ZipFile(io.BytesIO(archive({"a.tif": b"x"}))).namelist()
    ['a.tif']
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name, content in files.items():
            # A fixed date: equal pixels give equal archives.
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------
# pictures


def rgba(pixels: Mapping[str, tuple[Array, Array]], bands: Sequence[BandInfo]) -> Array:
    """Return colours of pixels whose image was not visualised, or was to bytes already.

    - Three or more bands: the first three are red, green and blue; else the first is grey.
    - Bytes are shown as they are; other integers are stretched over the range that their type
      declares, floats over 0 to 1.
    - A pixel is as opaque as the least of its masks.

    Returns
    -------
    ndarray, (height, width, 4), uint8
    """
    shown = list(bands[:3]) if len(bands) >= 3 else [bands[0]] * 3
    planes, opacity = [], None
    for number, band in enumerate(shown):
        data, mask = pixels[band.id]
        if band.dtype == np.uint8:
            planes.append(data.astype(np.uint8))
        elif number and shown[number - 1] is band:
            planes.append(planes[-1])
        else:
            low, high = 0.0, 1.0
            if band.dtype.kind in "iu":
                info = np.iinfo(band.dtype)
                low = float(info.min if band.low is None else band.low)
                high = float(info.max if band.high is None else band.high)
            share = (data.astype(np.float64) - low) / ((high - low) or 1.0)
            planes.append((np.clip(np.nan_to_num(share), 0, 1) * 255 + 0.5).astype(np.uint8))
        alpha = mask.astype(np.float32)
        opacity = alpha if opacity is None else np.minimum(opacity, alpha)
    assert opacity is not None
    return np.stack([*planes, (opacity * 255 + 0.5).astype(np.uint8)], axis=-1)


def coloured(tiles: Iterable[Tile], bands: Sequence[BandInfo], canvas: Canvas) -> Array:
    """Return the colours (`rgba`) of tiles, holding no more than the picture and a tile.

    Returns
    -------
    ndarray, (height, width, 4), uint8
    """
    out: Array | None = None
    for row0, row1, col0, col1, pixels in tiles:
        part = rgba(pixels, bands)
        if part.shape[:2] == (canvas.height, canvas.width):
            return part
        if out is None:
            out = np.zeros((canvas.height, canvas.width, 4), np.uint8)
        out[row0:row1, col0:col1] = part
    assert out is not None
    return out


def picture(colours: Array, file_format: str) -> tuple[bytes, str]:
    """Return an encoded picture and its media type.

    Parameters
    ----------
    colours : ndarray, (height, width, 4), uint8
    file_format : {"PNG", "JPEG", "AUTO_JPEG_PNG"}
        AUTO is JPEG where every pixel is opaque. JPEG shows masked pixels black.
    """
    from PIL import Image

    opaque = bool((colours[..., 3] == 255).all())
    jpeg = file_format == "JPEG" or (file_format == "AUTO_JPEG_PNG" and opaque)
    buffer = io.BytesIO()
    if jpeg:
        if not opaque:
            colours = np.where(colours[..., 3:] > 0, colours, np.uint8(0))
        shown = Image.fromarray(np.ascontiguousarray(colours)).convert("RGB")
        del colours
        shown.save(buffer, "JPEG", quality=90)
        return buffer.getvalue(), "image/jpeg"
    Image.fromarray(np.ascontiguousarray(colours)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), "image/png"
