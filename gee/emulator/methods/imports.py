"""Imports by manifest: `image:import`, `image:importExternal` and `table:import`.

A manifest names files by address. `gs://bucket/path` is a file of the state folder's `exports`,
where exports to that bucket lie; any other address is a path inside the folder of imports that
the server was told of. Nothing else can be read: not by `..`, not through a link, not through a
file that itself names others (a VRT), as only plain GeoTIFF, CSV, GeoJSON and shapefiles are
opened, each by its own reader.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from .assets import check_free
from .requests import milliseconds

if TYPE_CHECKING:
    from ..operations import Job
    from ..protocol import Endpoint

__all__ = [
    "external_image",
    "image_import",
    "image_import_external",
    "resolve",
    "run_import",
    "table_import",
]

IMAGES = (".tif", ".tiff")
SIDE = 1024  # of the windows by which files are read; a multiple of their usual blocks
SIDECARS = (".prj", ".tfw", ".xml", ".dbf", ".shx", ".cpg", ".sbn", ".sbx", ".qix", ".qpj", ".fix")


def image_import(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Queue the making of an image of files."""
    body = arguments["body"]
    manifest = _manifest(body, "imageManifest")
    _sources(endpoint, manifest)
    check_free(endpoint, manifest["name"], overwrite=True)  # see `exports`
    return endpoint.operations.submit(arguments["project"], "INGEST_IMAGE", body)


def table_import(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Queue the making of a table of a file."""
    body = arguments["body"]
    manifest = _manifest(body, "tableManifest")
    _table_files(endpoint, manifest)
    check_free(endpoint, manifest["name"], overwrite=True)
    return endpoint.operations.submit(arguments["project"], "INGEST_TABLE", body)


def image_import_external(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make an image whose pixels stay in a cloud-optimised GeoTIFF."""
    from .assets import asset_json

    body = arguments["body"]
    manifest = _manifest(body, "imageManifest")
    check_free(endpoint, manifest["name"], overwrite=bool(body.get("overwrite")))
    tilesets = _sources(endpoint, manifest)
    files = [path for _, paths in tilesets for path in paths]
    _register(endpoint, manifest["name"], files, manifest)
    return {"name": manifest["name"], **asset_json(endpoint.asset(manifest["name"]))}


def external_image(endpoint: Endpoint, name: str, location: Any, body: Mapping[str, Any]) -> None:
    """Make an image of the GeoTIFF that `cloudStorageLocation` of `createAsset` names."""
    uris = location.get("uris") if isinstance(location, dict) else None
    if not isinstance(uris, list) or len(uris) != 1:
        raise EngineError("An external image needs one address in cloudStorageLocation.uris.")
    _register(endpoint, name, [resolve(endpoint, uris[0], IMAGES)], body)


def _register(
    endpoint: Endpoint, name: str, files: Sequence[Path], description: Mapping[str, Any]
) -> None:
    from ..ingest_rasters import ingest_reference

    properties = description.get("properties") or {}
    if not isinstance(properties, dict):
        raise EngineError("Invalid JSON payload received: 'properties' is no object.")
    start, end = description.get("startTime"), description.get("endTime")
    bands = description.get("bands") or []
    names = [str(band.get("id")) for band in bands if isinstance(band, dict)] or None
    ingest_reference(
        endpoint.catalog,
        files,
        name,
        names=names,
        properties=properties,
        start_ms=None if start is None else milliseconds(start),
        end_ms=None if end is None else milliseconds(end),
        driver="GTiff",
    )


# --------------------------------------------------------------------------------------------
# manifests


def _manifest(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    manifest = body.get(key)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("name"), str):
        raise EngineError(f"Invalid JSON payload received: '{key}' has no name.")
    if not isinstance(manifest.get("properties") or {}, dict):
        raise EngineError("Invalid JSON payload received: 'properties' is no object.")
    for key in ("startTime", "endTime"):
        if manifest.get(key) is not None:
            milliseconds(manifest[key])
    return manifest


def resolve(endpoint: Endpoint, uri: Any, endings: Sequence[str]) -> Path:
    """Return the file that an address of a manifest names.

    Parameters
    ----------
    endpoint : Endpoint
    uri : str
        `gs://bucket/path`, or a path inside the folder of imports, with or without `file://`.
    endings : sequence of str
        What the name may end with.

    Raises
    ------
    EngineError
        The address leads out of these folders, or there is no such file. The words are the same,
        so that nobody can ask which files exist elsewhere.
    """
    if not isinstance(uri, str) or not uri or "\x00" in uri or len(uri) > 2000:
        raise EngineError("Invalid JSON payload received: an address of a file is missing.")
    shown = uri[:200]
    bucket = uri.startswith("gs://")
    if bucket:
        top, relative = endpoint.exports, uri.removeprefix("gs://")
    elif endpoint.imports is None:
        raise EngineError(
            f"'{shown}' cannot be read: the emulator was started without a folder of imports "
            "(--imports), so manifests may name gs://bucket/path only."
        )
    else:
        top, relative = endpoint.imports, uri
        if uri.startswith("file://"):
            relative = urllib.parse.unquote(uri.removeprefix("file://"))
        given = Path(relative)
        if given.is_absolute() and given.is_relative_to(top):
            relative = str(given.relative_to(top))
    missing = EngineError(f"'{shown}' does not exist or cannot be read.", "NOT_FOUND")
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
        raise missing
    path = top.joinpath(*parts)
    if not path.name.lower().endswith(tuple(endings)):
        raise EngineError(f"'{shown}' is none of {', '.join(endings)}.")
    try:
        real = path.resolve()
        # Neither the file nor a folder above it may be a link that leads elsewhere.
        plain = real == top.resolve().joinpath(*parts) and real.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        plain = False
    if not plain:
        raise missing
    return real


def _uris(source: Any) -> list[Any]:
    uris = source.get("uris") if isinstance(source, dict) else None
    if not isinstance(uris, list) or not uris:
        raise EngineError("Invalid JSON payload received: a source has no 'uris'.")
    return uris


def _sources(endpoint: Endpoint, manifest: Mapping[str, Any]) -> list[tuple[str, list[Path]]]:
    """Return the files of each tileset of an image manifest."""
    tilesets = manifest.get("tilesets")
    if not isinstance(tilesets, list) or not tilesets:
        raise EngineError("Invalid JSON payload received: 'tilesets' is missing.")
    prefix = str(manifest.get("uriPrefix") or "")
    found = []
    for number, tileset in enumerate(tilesets):
        sources = tileset.get("sources") if isinstance(tileset, dict) else None
        if not isinstance(sources, list) or not sources:
            raise EngineError("Invalid JSON payload received: a tileset has no 'sources'.")
        paths = []
        for source in sources:
            for uri in _uris(source):
                name = f"{prefix}{uri}" if isinstance(uri, str) else uri
                path = resolve(endpoint, name, (*IMAGES, *SIDECARS))
                if path.suffix.lower() in IMAGES:
                    paths.append(path)
        if not paths:
            raise EngineError("A tileset names no GeoTIFF.")
        found.append((str(tileset.get("id") or number), paths))
    if len({name for name, _ in found}) != len(found):
        raise EngineError("Invalid JSON payload received: tilesets share an id.")
    return found


def _table_files(endpoint: Endpoint, manifest: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the main file of a table manifest, and its source."""
    from ..ingest_tables import SAFE

    sources = manifest.get("sources")
    if not isinstance(sources, list) or len(sources) != 1:
        raise EngineError("A table manifest needs one source.")
    prefix = str(manifest.get("uriPrefix") or "")
    main = []
    for uri in _uris(sources[0]):
        path = resolve(endpoint, f"{prefix}{uri}", (*SAFE, *SIDECARS))
        if path.suffix.lower() in SAFE:
            main.append(path)
    if len(main) != 1:
        raise EngineError(f"A table manifest needs one file of {', '.join(SAFE)}.")
    return main[0], sources[0]


# --------------------------------------------------------------------------------------------
# the work


def run_import(endpoint: Endpoint, job: Job) -> list[str]:
    """Do what an import asks for; return the name of the asset."""
    image = job.kind == "INGEST_IMAGE"
    manifest = _manifest(job.body, "imageManifest" if image else "tableManifest")
    check_free(endpoint, manifest["name"], overwrite=bool(job.body.get("overwrite")))
    job.progress(0.0)
    if image:
        _run_image(endpoint, job, manifest)
    else:
        _run_table(endpoint, manifest)
    return [endpoint.asset(manifest["name"]).name]


def _times(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if manifest.get(name) is None else milliseconds(manifest[name])
        for key, name in (("start_ms", "startTime"), ("end_ms", "endTime"))
    }


def _run_image(endpoint: Endpoint, job: Job, manifest: Mapping[str, Any]) -> None:
    """Make an image of GeoTIFFs, a window in memory at a time."""
    import rasterio

    tilesets = _sources(endpoint, manifest)
    with contextlib.ExitStack() as stack:
        sources = {}
        for name, paths in tilesets:
            if len(paths) > 1:
                raise EngineError(
                    f"Tileset '{name[:80]}' has {len(paths)} files: joining several files into "
                    "one tileset is not implemented in the emulator."
                )
            try:
                source = stack.enter_context(rasterio.open(paths[0], driver="GTiff"))
            except rasterio.errors.RasterioIOError as error:
                raise EngineError(
                    f"{paths[0].name} cannot be read as a GeoTIFF: {error}."
                ) from None
            if source.crs is None:
                raise EngineError(f"{paths[0].name} has no coordinate system.")
            sources[name] = source
        bands = _bands(manifest, sources)
        try:
            endpoint.catalog.put_streams(
                manifest["name"],
                _streams(job, bands),
                manifest.get("properties") or {},
                **_times(manifest),
                check=lambda: job.progress(0.9),
            )
        except rasterio.errors.RasterioError as error:
            raise EngineError(f"A GeoTIFF cannot be read: {error}. Is it complete?") from None


@dataclass(frozen=True)
class _Band:
    """A band of a manifest: where its values are, and what masks them."""

    id: str
    source: Any
    index: int
    policy: Any
    missing: Sequence[float]
    masks: list[Any] = field(default_factory=list)


def _bands(manifest: Mapping[str, Any], sources: Mapping[str, Any]) -> list[_Band]:
    """Return the bands that a manifest describes, in their order."""
    from ..ingest_common import band_name

    default, missing = manifest.get("pyramidingPolicy"), _missing(manifest)
    wanted = manifest.get("bands")
    if wanted:
        if not isinstance(wanted, list):
            raise EngineError("Invalid JSON payload received: 'bands' is no list.")
        bands = [
            _band(item, number, sources, default, missing) for number, item in enumerate(wanted)
        ]
    else:
        bands = [
            _Band(band_name(text or f"b{number}"), source, number, _policy(default), missing)
            for source in sources.values()
            for number, text in enumerate(source.descriptions, 1)
        ]
        if len({band.id for band in bands}) < len(bands):
            bands = [replace(band, id=f"b{number}") for number, band in enumerate(bands, 1)]
    for item in manifest.get("maskBands") or []:
        name = str(item.get("tilesetId")) if isinstance(item, dict) else ""
        if name not in sources:
            raise EngineError(f"maskBands names the unknown tileset '{name[:80]}'.")
        chosen = item.get("bandIds") or [band.id for band in bands]
        for band in bands:
            if band.id in chosen:
                if sources[name].shape != band.source.shape:
                    raise EngineError(
                        f"The mask of band '{band.id}' has another size than the band."
                    )
                band.masks.append(sources[name])
    return bands


def _band(
    item: Any, number: int, sources: Mapping[str, Any], default: Any, missing: Sequence[float]
) -> _Band:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise EngineError("Invalid JSON payload received: a band has no 'id'.")
    names = list(sources)
    tileset = item.get("tilesetId")
    if tileset is None:
        # One tileset: its bands in order. As many tilesets as bands: one each.
        alone = len(names) == 1
        name = names[0 if alone else min(number, len(names) - 1)]
        index = item.get("tilesetBandIndex", number if alone else 0)
    else:
        name, index = str(tileset), item.get("tilesetBandIndex", 0)
    if name not in sources:
        raise EngineError(f"Band '{item['id'][:80]}' names the unknown tileset '{name[:80]}'.")
    count = sources[name].count
    if not isinstance(index, int) or not 0 <= index < count:
        raise EngineError(
            f"Band '{item['id'][:80]}' names band {str(index)[:20]} of tileset '{name[:80]}', "
            f"which has {count}."
        )
    own = _missing(item) if item.get("missingData") else missing
    policy = _policy(item.get("pyramidingPolicy") or default)
    return _Band(item["id"], sources[name], index + 1, policy, own)


def _missing(owner: Mapping[str, Any]) -> list[float]:
    given = owner.get("missingData") or {}
    values = given.get("values", []) if isinstance(given, dict) else None
    if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
        raise EngineError("Invalid JSON payload received: 'missingData' has no list of 'values'.")
    return [float(value) for value in values]


def _policy(given: Any) -> Any:
    from ..catalog import POLICIES

    if not given or given == "PYRAMIDING_POLICY_UNSPECIFIED":
        return "MEAN"
    if given not in POLICIES:
        raise EngineError(f"Unknown pyramiding policy: {str(given)[:40]}.")
    return given


def _streams(job: Job, bands: Sequence[_Band]) -> list[Any]:
    """Return bands as streams, one for each run of bands of one file, which keeps their order."""
    import numpy as np

    from ..catalog import BandStream, ImageStream
    from ..ingest_rasters import crs_of, six

    runs: list[list[_Band]] = []
    for band in bands:
        if runs and runs[-1][0].source is band.source:
            runs[-1].append(band)
        else:
            runs.append([band])
    made = []
    for position, run in enumerate(runs):
        source = run[0].source
        types = [
            np.dtype(np.float32 if dtype == "float16" else dtype)
            for dtype in (source.dtypes[band.index - 1] for band in run)
        ]
        made.append(
            ImageStream(
                [
                    BandStream(band.id, dtype, band.policy)
                    for band, dtype in zip(run, types, strict=True)
                ],
                crs_of(source.crs),
                six(source.transform),
                source.shape,
                _windows(job, run, position / len(runs), 1 / len(runs)),
            )
        )
    return made


def _windows(job: Job, run: Sequence[_Band], start: float, share: float) -> Iterator[Any]:
    """Yield the pixels of bands of one file, window by window."""
    from rasterio.windows import Window

    height, width = run[0].source.shape
    for row in range(0, height, SIDE):
        for col in range(0, width, SIDE):
            place = Window(col, row, min(SIDE, width - col), min(SIDE, height - row))
            pixels = {}
            for band in run:
                data = band.source.read(band.index, window=place)
                mask = band.source.read_masks(band.index, window=place) > 0
                for value in band.missing:
                    mask &= data != value
                for other in band.masks:
                    mask &= other.read(other.count, window=place) != 0
                pixels[band.id] = (data, mask)
            yield row, row + int(place.height), col, col + int(place.width), pixels
        job.progress(0.8 * (start + share * min(row + SIDE, height) / height))


def _run_table(endpoint: Endpoint, manifest: Mapping[str, Any]) -> None:
    from ..ingest_tables import read_table

    path, source = _table_files(endpoint, manifest)
    properties = dict(manifest.get("properties") or {})
    features = read_table(
        path,
        x=source.get("xColumn"),
        y=source.get("yColumn"),
        geometry=source.get("primaryGeometryColumn"),
        delimiter=source.get("csvDelimiter"),
        charset=str(source.get("charset") or "utf-8"),
        crs=source.get("crs"),
        safe=True,
    )
    endpoint.catalog.put_table(manifest["name"], features, properties)
