"""Images by reference: their pixels stay in a file outside the catalogue.

The asset's description holds the path, the size and the time of the file; a file that has
changed since is not read. Only who may run commands on this machine makes such assets, or a
manifest that names a file inside the folders which the server was told of.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError

__all__ = ["ReferenceHandle", "describe", "key_of"]

Array = NDArray[Any]
MARK = "\x00"  # stands in no path


def key_of(folder: str, source: Mapping[str, Any], level: int, mask: bool) -> str:
    """Return the name under which the catalogue keeps blocks of a referenced file."""
    names = ("path", "driver", "size", "mtime_ns")
    facts = (*(str(source[name]) for name in names), str(level), str(mask))
    return f"{folder}/{MARK}{MARK.join(facts)}"


def describe(
    path: Path, driver: str | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return what the catalogue notes of a file: a group, its bands, and its footprint.

    Parameters
    ----------
    path : Path
    driver : str, optional
        GDAL's name of the only format that is read: a VRT names other files.

    Raises
    ------
    DataError
        It is no GeoTIFF nor VRT, has no CRS, or holds complex numbers.
    """
    import rasterio

    from .assets import DataType
    from .ingest_common import band_name
    from .ingest_rasters import crs_of, six
    from .rasters import outline

    try:
        with rasterio.open(path, driver=driver) as source:
            opened_as = source.driver
            if opened_as not in ("GTiff", "VRT"):
                raise DataError(
                    f"{path} is {source.driver}: only a GeoTIFF or VRT can be referred to."
                )
            if source.crs is None:
                raise DataError(f"{path} has no coordinate system.")
            dtypes = set(source.dtypes)
            if len(dtypes) != 1 or np.dtype(source.dtypes[0]).kind not in "iuf":
                given = ", ".join(sorted(dtypes))
                raise DataError(
                    f"{path} has bands of type {given}: expected one real type.",
                    hint="Ingest it without --reference.",
                )
            dtype = np.dtype(source.dtypes[0])
            crs, transform = crs_of(source.crs), six(source.transform)
            shape = (source.height, source.width)
            factors = [set(source.overviews(number)) for number in source.indexes]
            levels = 1
            while all(2**levels in found for found in factors):
                levels += 1
            all_valid = all(
                flags == [rasterio.enums.MaskFlags.all_valid] for flags in source.mask_flag_enums
            )
            names = [
                band_name(text) if text else f"b{number}"
                for number, text in enumerate(source.descriptions, 1)
            ]
            count = source.count
    except rasterio.errors.RasterioIOError as error:
        raise DataError(f"{path} cannot be read as a raster: {error}.") from error
    if len(set(names)) != count:
        names = [f"b{number}" for number in range(1, count + 1)]
    status = path.stat()
    kind = DataType.of(dtype)
    group = {
        "crs": crs,
        "transform": list(transform),
        "shape": list(shape),
        "dtype": dtype.name,
        "policy": "MEAN",
        "data": [],
        "masks": [],
        "shared": [False] * levels,
        "bytes": 0,
        "source": {
            "path": str(path),
            "driver": opened_as,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "levels": levels,
            "masked": not (all_valid and dtype.kind != "f"),
        },
    }
    bands = [
        {"id": name, "group": 0, "index": index, "min": kind.min, "max": kind.max}
        for index, name in enumerate(names)
    ]
    return group, bands, outline(crs, transform, shape)


class ReferenceHandle:
    """One open level of a referenced file; GDAL must not read it from two threads at once.

    Parameters
    ----------
    key : str
        As `key_of` made it.
    """

    def __init__(self, key: str) -> None:
        _, self._path, self._driver, size, time, level, mask = key.split(MARK)
        self._identity = (int(size), int(time))
        self._level = int(level)
        self._mask = mask == "True"
        self._lock = threading.Lock()
        self._dataset: Any = None

    def read(self, index: int, i: int, j: int) -> Array:
        """Return a block of values, 0 where masked, or of the mask (uint8, 1 is valid)."""
        import rasterio
        from rasterio.windows import Window

        from .blocks import BLOCK, limit_gdal

        with self._lock:
            try:
                if self._dataset is None:
                    status = Path(self._path).stat()
                    if (status.st_size, status.st_mtime_ns) != self._identity:
                        raise DataError(
                            f"{self._path} has changed since an asset was made that refers to it.",
                            hint="Ingest it again.",
                        )
                    options = {} if self._level == 0 else {"overview_level": self._level - 1}
                    limit_gdal()
                    self._dataset = rasterio.open(
                        self._path, driver=self._driver, sharing=False, **options
                    )
                source = self._dataset
                height = min(BLOCK, source.height - i * BLOCK)
                width = min(BLOCK, source.width - j * BLOCK)
                window = Window(j * BLOCK, i * BLOCK, width, height)
                valid = source.read_masks(index + 1, window=window) > 0
                values: Array = source.read(index + 1, window=window)
            except (OSError, rasterio.errors.RasterioError, IndexError, ValueError) as error:
                raise DataError(
                    f"{self._path}, to which an asset refers, cannot be read ({error}).",
                    hint="Put the file back, or ingest it again.",
                ) from error
        if values.dtype.kind == "f":
            valid &= ~np.isnan(values)
        if self._mask:
            return valid.astype(np.uint8)
        return np.where(valid, values, np.zeros((), values.dtype))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._dataset is not None:
                self._dataset.close()
                self._dataset = None
