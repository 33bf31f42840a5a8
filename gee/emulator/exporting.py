"""Batch exports: what `Export.image` and `Export.table` write, and where.

Files for Drive or Cloud Storage go to `<state>/exports/<folder or bucket>/<prefix>...`; exports
to assets become assets of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.files import atomic

from .errors import EngineError
from .limits import RequestLimits

if TYPE_CHECKING:
    from .catalog import Catalog
    from .encode import BandInfo, Canvas
    from .operations import Job

__all__ = [
    "check_image_export",
    "check_table_export",
    "export_classifier",
    "export_image",
    "export_table",
]

Windows = Callable[[int, int, int, int], Iterator[Any]]
POLICIES = {"PYRAMIDING_POLICY_UNSPECIFIED": "MEAN", "MEDIAN": "MEAN"}
# EPSG names of numpy types, as Earth Engine's message about mixed types has them.
_NAMES = {"uint8": "Byte", "float32": "Float32", "float64": "Float64"}


def check_image_export(body: Mapping[str, Any], folder: Path) -> None:
    """Refuse an image export that cannot be written, before it is queued.

    Raises
    ------
    EngineError
        No or an unknown destination, a file format that the emulator does not write, a path
        that leads out of the folder of exports.
    """
    if "assetExportOptions" in body:
        _asset_name(body["assetExportOptions"])
        return
    options = _file_options(body)
    file_format = options.get("fileFormat", "GEO_TIFF")
    if file_format not in ("GEO_TIFF", "TF_RECORD_IMAGE"):
        raise EngineError(
            f"Exporting images as {str(file_format)[:80]} is not implemented in the emulator; "
            "it writes GEO_TIFF and TF_RECORD_IMAGE."
        )
    if file_format == "TF_RECORD_IMAGE":
        from .tfrecord import patch_options

        patch_options(options)
    _target(options, folder)


def check_table_export(body: Mapping[str, Any], folder: Path) -> None:
    """Refuse a table export that cannot be written, before it is queued."""
    from .tables import FORMATS

    if "assetExportOptions" in body:
        _asset_name(body["assetExportOptions"])
        return
    options = _file_options(body)
    if options.get("fileFormat", "CSV") not in FORMATS:
        raise EngineError(
            f"Exporting tables as {options['fileFormat']} is not implemented in the emulator; "
            f"it writes {', '.join(FORMATS)}."
        )
    _target(options, folder)


def _file_options(body: Mapping[str, Any]) -> dict[str, Any]:
    options = body.get("fileExportOptions")
    if not isinstance(options, dict):
        kinds = [key for key in body if key.endswith("ExportOptions")]
        raise EngineError(
            f"Exporting to {', '.join(kinds) or 'no destination'} is not implemented in the "
            "emulator; it exports to Drive, Cloud Storage and assets."
        )
    return options


def _asset_name(options: Mapping[str, Any]) -> str:
    destination = options.get("earthEngineDestination") if isinstance(options, Mapping) else None
    name = destination.get("name") if isinstance(destination, Mapping) else None
    if not name:
        raise EngineError("An export to an asset needs the asset's id.")
    return str(name)


def _target(options: Mapping[str, Any], folder: Path) -> Path:
    """Return the path prefix of the files of an export, inside `folder`."""
    if "cloudStorageDestination" in options:
        destination = _object(options, "cloudStorageDestination")
        top = destination.get("bucket") or ""
        if not top:
            raise EngineError("An export to Cloud Storage needs a bucket.")
    elif "driveDestination" in options:
        destination = _object(options, "driveDestination")
        top = destination.get("folder") or "drive"
    else:
        raise EngineError("An export needs a Drive folder or a Cloud Storage bucket.")
    prefix = destination.get("filenamePrefix") or "export"
    parts = [*str(top).split("/"), *str(prefix).split("/")]
    for part in parts:
        if part in ("", ".", "..") or len(part) > 200 or re.search(r"[\x00-\x1f\\:*?\"<>|]", part):
            raise EngineError(f"The export path '{top}/{prefix}' is not valid: {part!r}.")
    target = folder.joinpath(*parts)
    root = folder.resolve()
    if not target.parent.resolve().is_relative_to(root):
        raise EngineError(f"The export path '{top}/{prefix}' leads out of the folder of exports.")
    return target


def _object(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = options[name]
    if not isinstance(value, Mapping):
        raise EngineError(f"Invalid JSON payload received: '{name}' is no object.")
    return value


def export_image(
    job: Job,
    catalog: Catalog,
    folder: Path,
    limits: RequestLimits,
    bands: Sequence[BandInfo],
    canvas: Canvas,
    windows: Windows,
    properties: Mapping[str, Any],
) -> list[str]:
    """Write the files or the asset of an image export.

    Parameters
    ----------
    job : Job
        Its body is the request; told of the progress.
    catalog : Catalog
    folder : Path
        Folder of all exported files.
    limits : RequestLimits
    bands : sequence of BandInfo
    canvas : Canvas
    windows : callable (row0, row1, col0, col1) -> iterator of tiles
        Computes a part of the canvas; its tiles count from the part's corner.
    properties : mapping
        Of the image, for an asset.

    Returns
    -------
    list of str
        Addresses of the files, or the name of the asset.
    """
    wanted = job.body.get("maxPixels")
    most = int(wanted.get("value", 0) if isinstance(wanted, dict) else wanted or 0)
    most = most or limits.export_pixels
    if canvas.width * canvas.height > most:
        raise EngineError(
            f"Export too large: specified {canvas.width * canvas.height} pixels (max: {most}). "
            "Specify higher maxPixels value if you intend to export a large area."
        )
    if "assetExportOptions" in job.body:
        return [_image_asset(job, catalog, bands, canvas, windows, properties)]
    return _image_files(job, folder, bands, canvas, windows)


def _image_files(
    job: Job, folder: Path, bands: Sequence[BandInfo], canvas: Canvas, windows: Windows
) -> list[str]:
    from .encode import write_geotiff

    options = _file_options(job.body)
    target = _target(options, folder)
    if options.get("fileFormat") == "TF_RECORD_IMAGE":
        from .tfrecord import write_patches

        return write_patches(job, target, options, bands, canvas, windows)
    kinds = {_NAMES.get(b.dtype.name, b.dtype.name.capitalize()): None for b in bands}
    if len(kinds) > 1:
        raise EngineError(
            "Exported bands must have compatible data types; found inconsistent types: "
            f"{' and '.join(list(kinds)[:2])}."
        )
    tiff = options.get("geoTiffOptions") or {}
    size = tiff.get("tileDimensions") or {}
    width, height = int(size.get("width") or 0), int(size.get("height") or 0)
    width, height = width or canvas.width, height or canvas.height
    nodata = tiff.get("noData")
    if isinstance(nodata, dict):
        nodata = next(iter(nodata.values()), None)
    written = []
    several = width < canvas.width or height < canvas.height
    total = canvas.width * canvas.height
    done = 0
    for row0 in range(0, canvas.height, height):
        for col0 in range(0, canvas.width, width):
            row1, col1 = min(row0 + height, canvas.height), min(col0 + width, canvas.width)
            mark = f"-{row0:010d}-{col0:010d}" if several else ""
            path = target.with_name(f"{target.name}{mark}.tif")
            pixels = (row1 - row0) * (col1 - col0)

            def progress(share: float, done: int = done, pixels: int = pixels) -> None:
                job.progress((done + share * pixels) / total)

            with atomic(path) as temporary:
                valid = write_geotiff(
                    temporary,
                    windows(row0, row1, col0, col1),
                    bands,
                    canvas.part(row0, row1, col0, col1),
                    nodata=None if nodata is None else float(nodata),
                    cloud_optimized=bool(tiff.get("cloudOptimized")),
                    progress=progress,
                )
            done += pixels
            if not valid and several and tiff.get("skipEmptyFiles"):
                path.unlink()
                continue
            written.append(path.as_uri())
    return written


def _image_asset(
    job: Job,
    catalog: Catalog,
    bands: Sequence[BandInfo],
    canvas: Canvas,
    windows: Windows,
    properties: Mapping[str, Any],
) -> str:
    from .catalog import POLICIES as KNOWN
    from .catalog import BandStream, ImageStream, asset_name, normalize_id

    options = job.body["assetExportOptions"]
    destination = options["earthEngineDestination"]
    name = normalize_id(_asset_name(options))
    if catalog.get(name) is not None and not destination.get("overwrite"):
        raise EngineError(f"Cannot overwrite asset '{asset_name(name)}'.")
    default = options.get("pyramidingPolicy") or "MEAN"
    special = options.get("pyramidingPolicyOverrides") or {}
    streams = []
    for band in bands:
        policy = special.get(band.id, default)
        policy = POLICIES.get(policy, policy)
        if policy not in KNOWN:
            raise EngineError(f"Unknown pyramiding policy: {policy}.")
        narrow = band.dtype.kind in "iu"
        low, high = (band.low, band.high) if narrow else (None, None)
        streams.append(BandStream(band.id, band.dtype, policy, low, high))

    def tiles() -> Iterator[Any]:
        done = 0
        for tile in windows(0, canvas.height, 0, canvas.width):
            yield tile
            row0, row1, col0, col1 = tile[:4]
            done += (row1 - row0) * (col1 - col0)
            # The pyramid, made after the last tile, is a part of the work too.
            job.progress(0.8 * done / (canvas.height * canvas.width))

    kept = {
        key: value
        for key, value in properties.items()
        if not key.startswith("system:") and _is_json(value)
    }
    start, end = (_whole(properties.get(f"system:time_{key}")) for key in ("start", "end"))
    stream = ImageStream(
        streams, canvas.crs, canvas.transform, (canvas.height, canvas.width), tiles()
    )
    catalog.put_streams(
        name, [stream], kept, start_ms=start, end_ms=end, check=lambda: job.progress(0.9)
    )
    return asset_name(name)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _is_json(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_json(item) for item in value)
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    return isinstance(value, str | int | bool)


def export_classifier(job: Job, catalog: Catalog, value: Any) -> list[str]:
    """Write the asset of a classifier export; return its address."""
    from .assets import asset_name, normalize_id
    from .functions.classifiers import Classifier
    from .functions.trees import classifier_to_json

    if not isinstance(value, Classifier):
        raise EngineError("The expression to export must be a classifier.")
    options = job.body["assetExportOptions"]
    name = normalize_id(_asset_name(options))
    overwrite = options["earthEngineDestination"].get("overwrite")
    if catalog.get(name) is not None and not overwrite:
        raise EngineError(f"Cannot overwrite asset '{asset_name(name)}'.")
    catalog.put_classifier(name, classifier_to_json(value))
    return [asset_name(name)]


def export_table(
    job: Job, catalog: Catalog, folder: Path, features: Iterable[dict[str, Any]]
) -> list[str]:
    """Write the file or the asset of a table export; return its address."""
    from .catalog import asset_name, normalize_id
    from .tables import FORMATS, encode_table

    rows = []
    for number, feature in enumerate(features):
        rows.append(feature)
        if number % 1000 == 0:
            job.progress(0.5)
    if "assetExportOptions" in job.body:
        options = job.body["assetExportOptions"]
        name = normalize_id(_asset_name(options))
        overwrite = options["earthEngineDestination"].get("overwrite")
        if catalog.get(name) is not None and not overwrite:
            raise EngineError(f"Cannot overwrite asset '{asset_name(name)}'.")
        catalog.put_table(name, rows)
        return [asset_name(name)]
    options = _file_options(job.body)
    file_format = options.get("fileFormat", "CSV")
    content = encode_table(rows, file_format, job.body.get("selectors") or None)
    target = _target(options, folder)
    path = target.with_name(target.name + FORMATS[file_format][0])
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return [path.as_uri()]
