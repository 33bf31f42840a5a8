"""TFRecord: tables and images as `tf.train.Example` records.

A TFRecord file is a row of records: the length as a little-endian uint64, a masked CRC-32C of
these 8 bytes, the content, a masked CRC-32C of the content. The content is a protocol buffer
`Example`, whose few fields are written here by hand: no library for it is a dependency, and the
only reader that most people know is TensorFlow.

Rules, from the guide "TFRecord and Earth Engine" and the reference of `Export.image`:

- every number becomes a float; strings become bytes; a table's file is always gzipped;
- an image is cut into patches in reading order; patches that the image does not fill are
  dropped; `kernelSize` adds a margin on all sides; a pixel that is masked in any way holds
  `defaultValue`; a patch with a larger share of masked pixels than `maskedThreshold` is dropped;
- a JSON file ("mixer") tells how the patches lie, unless `maskedThreshold` is below 1.

Names of the files, `<prefix>-00000.tfrecord`, are an assumption.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.files import atomic

from .errors import EngineError

if TYPE_CHECKING:
    from .encode import BandInfo, Canvas
    from .operations import Job

__all__ = ["example", "image_record", "patch_options", "records", "table_records", "write_patches"]

Array = NDArray[Any]
Value = bytes | str | Sequence[bytes] | Array
Windows = Callable[[int, int, int, int], Iterator[Any]]

PATCH = 256
MAX_FILE = 2**30  # bytes of a file where `maxFileSize` is not given
MAX_PATCH = 2**26  # values of one patch, all bands


def _crc(data: bytes) -> bytes:
    import google_crc32c

    plain = google_crc32c.value(data)
    return struct.pack("<I", (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def records(contents: Sequence[bytes]) -> bytes:
    """Return a TFRecord file of some contents.

    Examples
    --------
    >>> records([b"a"])[:8], len(records([b"a"]))
    (b'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00', 17)
    """
    out = bytearray()
    for content in contents:
        length = struct.pack("<Q", len(content))
        out += length + _crc(length) + content + _crc(content)
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(features: Mapping[str, Value]) -> bytes:
    """Return a `tf.train.Example`.

    Parameters
    ----------
    features : mapping
        Texts and bytes become byte lists; arrays of numbers become float lists, flattened.

    Examples
    --------
    >>> example({"a": np.array([1.0])})
    b'\\n\\x0f\\n\\r\\n\\x01a\\x12\\x08\\x12\\x06\\n\\x04\\x00\\x00\\x80?'
    """
    out = bytearray()
    for name, value in features.items():
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes):
            value = [value]
        if isinstance(value, np.ndarray):
            flat = np.ascontiguousarray(value, "<f4").tobytes()
            feature = _field(2, _field(1, flat))
        else:
            feature = _field(1, b"".join(_field(1, item) for item in value))
        out += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, bytes(out))


# --------------------------------------------------------------------------------------------
# tables


def table_records(
    rows: Sequence[Mapping[str, Any]], selectors: Sequence[str] | None = None
) -> bytes:
    """Return GeoJSON features as a gzipped TFRecord file, a record per feature.

    Properties that are neither numbers, strings nor arrays of numbers are left out, as are
    geometries. `system:index` is the feature's id.

    Parameters
    ----------
    rows : sequence of GeoJSON features
    selectors : sequence of str, optional
        The properties to write; all by default.
    """
    contents = []
    for row in rows:
        known = {"system:index": row.get("id"), **(row.get("properties") or {})}
        names = list(selectors) if selectors else list(known)
        features = {}
        for name in names:
            value = _value(known.get(name))
            if value is not None:
                features[name] = value
        contents.append(example(features))
    return gzip.compress(records(contents), mtime=0)


def _value(value: Any) -> Value | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return np.array([value], np.float32)
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return [item.encode() for item in value]
        try:
            array = np.array(value, np.float32)
        except (TypeError, ValueError):
            return None
        return array
    return None


# --------------------------------------------------------------------------------------------
# images


def image_record(pixels: Mapping[str, tuple[Array, Array]], bands: Sequence[BandInfo]) -> bytes:
    """Return an image as a TFRecord file of one record: a float list per band, row by row."""
    return records([example({band.id: pixels[band.id][0] for band in bands})])


def patch_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an image export, checked.

    Raises
    ------
    EngineError
        A setting is not one of TFRecord exports, or not implemented.
    """
    given = options.get("tfRecordOptions") or {}
    if not isinstance(given, dict):
        raise EngineError("Invalid JSON payload received: 'tfRecordOptions' is no object.")
    for name in ("sequenceData", "tensorDepths"):
        if given.get(name):
            raise EngineError(f"TFRecord exports with {name} are not implemented in the emulator.")
    width, height = _pair(given, "tileDimensions", PATCH)
    margin_x, margin_y = _pair(given, "marginDimensions", 0)
    if width < 1 or height < 1 or margin_x < 0 or margin_y < 0:
        raise EngineError("Patch and kernel dimensions must be positive.")
    return {
        "width": width,
        "height": height,
        "margin_x": margin_x,
        "margin_y": margin_y,
        "compress": bool(given.get("compress")),
        "most": int(_number(given, "maxSizeBytes", MAX_FILE)),
        "default": _number(given, "defaultValue", 0.0),
        "collapse": bool(given.get("collapseBands")),
        "masked": _number(given, "maxMaskedRatio", 1.0),
    }


def _number(options: Mapping[str, Any], name: str, default: float) -> float:
    value = options.get(name)
    if isinstance(value, dict):
        value = value.get("value")
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        raise EngineError(f"{name} {str(value)[:40]!r} is no number.") from None


def _pair(options: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    value = options.get(name) or {}
    try:
        return int(value.get("width") or default), int(value.get("height") or default)
    except (AttributeError, TypeError, ValueError):
        raise EngineError(f"{name} {str(value)[:40]!r} has no width and height.") from None


def write_patches(
    job: Job,
    target: Path,
    options: Mapping[str, Any],
    bands: Sequence[BandInfo],
    canvas: Canvas,
    windows: Windows,
) -> list[str]:
    """Write an image export; return the addresses of its files.

    Parameters
    ----------
    job : Job
        Told of the progress.
    target : Path
        Path prefix of the files.
    options : mapping
        `fileExportOptions` of the request.
    bands, canvas, windows
        As `exporting.export_image` has them.

    Notes
    -----
    One row of patches is in memory at a time.
    """
    wanted = patch_options(options)
    width, height = wanted["width"], wanted["height"]
    per_row, rows = canvas.width // width, canvas.height // height
    if not per_row or not rows:
        raise EngineError(
            f"The image of {canvas.width} x {canvas.height} pixels is smaller than a patch of "
            f"{width} x {height}."
        )
    size = (width + wanted["margin_x"]) * (height + wanted["margin_y"]) * len(bands)
    if size > MAX_PATCH:
        raise EngineError(f"A patch has {size} values (max: {MAX_PATCH}).")
    ending = ".tfrecord.gz" if wanted["compress"] else ".tfrecord"
    written: list[str] = []
    held: list[bytes] = []
    total = 0

    def flush() -> None:
        path = target.with_name(f"{target.name}-{len(written):05d}{ending}")
        content = records(held)
        with atomic(path) as temporary:
            temporary.write_bytes(
                gzip.compress(content, mtime=0) if wanted["compress"] else content
            )
        written.append(path.as_uri())
        held.clear()

    room = 0
    for row in range(rows):
        for patch in _patches(row, per_row, wanted, bands, windows):
            if patch is not None:
                total += 1
                if held and room + len(patch) > wanted["most"]:
                    flush()
                    room = 0
                held.append(patch)
                room += len(patch)
        job.progress((row + 1) / rows)
    if held or not written:
        flush()
    if wanted["masked"] >= 1:
        a, b, c, d, e, f = canvas.transform
        mixer = {
            "projection": {"crs": canvas.crs, "affine": {"doubleMatrix": [a, b, c, d, e, f]}},
            "patchDimensions": [width, height],
            "patchesPerRow": per_row,
            "totalPatches": total,
        }
        path = target.with_name(f"{target.name}-mixer.json")
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(mixer), encoding="utf-8")
        written.append(path.as_uri())
    return written


def _patches(
    row: int, per_row: int, wanted: Mapping[str, Any], bands: Sequence[BandInfo], windows: Windows
) -> Iterator[bytes | None]:
    """Yield the patches of a row; None for one that is masked too much."""
    width, height = wanted["width"], wanted["height"]
    left, top = wanted["margin_x"] // 2, wanted["margin_y"] // 2
    high, wide = height + wanted["margin_y"], width + wanted["margin_x"]
    for number in range(per_row):
        row0, col0 = row * height - top, number * width - left
        values = np.zeros((len(bands), high, wide), np.float32)
        masks = np.zeros((len(bands), high, wide), bool)
        for r0, r1, c0, c1, pixels in windows(row0, row0 + high, col0, col0 + wide):
            for k, band in enumerate(bands):
                data, mask = pixels[band.id]
                values[k, r0:r1, c0:c1] = data
                masks[k, r0:r1, c0:c1] = mask > 0
        valid = masks.all(axis=0)
        if 1 - valid.mean() > wanted["masked"]:
            yield None
            continue
        values[:, ~valid] = wanted["default"]
        if wanted["collapse"]:
            yield example({bands[0].id: np.moveaxis(values, 0, -1)})
        else:
            yield example({band.id: values[k] for k, band in enumerate(bands)})
