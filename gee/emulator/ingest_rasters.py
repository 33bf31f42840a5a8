"""GeoTIFFs and other rasters as images: copied, or by reference, one or a folder of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError, nearest

from .catalog import (
    BandData,
    BandStream,
    Catalog,
    ImageStream,
    Policy,
    Transform,
    normalize_id,
)
from .ingest_common import (
    Ledger,
    Progress,
    asset_part,
    band_name,
    check_above,
    dated,
    make_collection,
    milliseconds,
    quiet,
)

__all__ = [
    "RASTERS",
    "crs_of",
    "ingest_geotiff",
    "ingest_reference",
    "ingest_scenes",
    "read_raster",
    "six",
    "with_policies",
]

RASTERS = (".tif", ".tiff", ".vrt")
LARGE = 128 * 2**20  # bytes of pixels above which they are read and written by windows


def crs_of(crs: Any) -> str:
    """Return a rasterio CRS as the catalogue writes it."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def six(affine: Any) -> Transform:
    """Return an affine transform in Earth Engine's order, six numbers."""
    a, b, c, d, e, f = tuple(affine)[:6]
    return float(a), float(b), float(c), float(d), float(e), float(f)


def read_raster(
    path: Path,
    *,
    nodata: float | None = None,
    pyramiding: Policy = "MEAN",
    driver: str | None = None,
    first: int = 1,
) -> list[BandData]:
    """Return the bands of a raster with their masks.

    Parameters
    ----------
    path : Path
    nodata : float, optional
        Masked value, where the file does not declare one.
    pyramiding : str
    driver : str, optional
        GDAL's name of the only format that is read, as "GTiff".
    first : int
        Number of the first band, for bands that have no description: b1, b2 ..

    Raises
    ------
    DataError
        It cannot be read or has no CRS.
    """
    import rasterio

    try:
        with rasterio.open(path, driver=driver) as source:
            if source.crs is None:
                raise DataError(
                    f"{path} has no coordinate system.",
                    hint=f"Add it: rio edit-info --crs EPSG:<code> {path}",
                )
            crs, transform = crs_of(source.crs), six(source.transform)
            bands = []
            for number in source.indexes:
                array = source.read(number)
                mask = source.read_masks(number) > 0
                if nodata is not None:
                    mask &= array != nodata
                name = source.descriptions[number - 1] or f"b{first + number - 1}"
                bands.append(BandData(band_name(name), array, crs, transform, mask, pyramiding))
            return bands
    except rasterio.errors.RasterioIOError as error:
        raise DataError(
            f"{path} cannot be read as a raster: {error}.", hint="Is it complete?"
        ) from error


def _named(bands: list[BandData], names: Sequence[str] | None) -> list[BandData]:
    if names:
        if len(names) != len(bands):
            raise DataError(
                f"{len(names)} band names were given ({', '.join(names)}) for {len(bands)} bands "
                f"({', '.join(band.id for band in bands)})."
            )
        for band, name in zip(bands, names, strict=True):
            band.id = name
    return bands


def with_policies(bands: list[BandData], overrides: Mapping[str, Policy] | None) -> list[BandData]:
    """Return bands with their own pyramiding policies where some are given.

    Raises
    ------
    DataError
        A policy is given for a band that is not there.
    """
    for name, policy in (overrides or {}).items():
        found = [band for band in bands if band.id == name]
        if not found:
            known = [band.id for band in bands]
            raise DataError(
                f"There is no band {name!r} to pyramid with {policy}.{nearest(name, known)}",
                hint=f"The bands are {', '.join(known)}.",
            )
        for band in found:
            band.pyramiding = policy
    return bands


def ingest_geotiff(
    catalog: Catalog,
    paths: Sequence[Path],
    asset_id: str,
    *,
    names: Sequence[str] | None = None,
    properties: Mapping[str, Any] | None = None,
    start: str | None = None,
    end: str | None = None,
    pyramiding: Policy = "MEAN",
    policies: Mapping[str, Policy] | None = None,
    nodata: float | None = None,
) -> str:
    """Make one image of the bands of one or more rasters.

    Parameters
    ----------
    catalog : Catalog
        Opened for writing.
    paths : sequence of Path
        Anything that rasterio reads; the grids may differ.
    asset_id : str
    names : sequence of str, optional
        Band names in the order of the files; the files' band descriptions, else b1, b2 ..
    properties : mapping, optional
    start, end : str, optional
        ISO dates: `system:time_start` and `system:time_end`.
    pyramiding : str
        MEAN, SAMPLE, MODE, MIN or MAX, for all the bands.
    policies : mapping, optional
        Band name to policy, where a band has its own.
    nodata : float, optional
        Masked value, where the files do not declare one.

    Returns
    -------
    str
        The id, normalised.

    Raises
    ------
    DataError
        A file cannot be read or has no CRS; names do not fit the bands.
    """
    facts: dict[str, Any] = {
        "properties": dict(properties or {}),
        "start_ms": None if start is None else milliseconds(start),
        "end_ms": None if end is None else milliseconds(end),
    }
    check_above(catalog, asset_id)
    if _bytes(paths) > LARGE:
        with contextlib.ExitStack() as stack:
            streams = _streams(stack, paths, names, pyramiding, policies, nodata)
            catalog.put_streams(asset_id, streams, **facts)
        return normalize_id(asset_id)
    bands: list[BandData] = []
    for path in paths:
        bands += read_raster(path, nodata=nodata, pyramiding=pyramiding, first=len(bands) + 1)
    catalog.put_image(asset_id, with_policies(_named(bands, names), policies), **facts)
    return normalize_id(asset_id)


def _bytes(paths: Sequence[Path]) -> int:
    """Return how much memory the pixels of rasters take; what cannot be read takes none."""
    import rasterio

    total = 0
    for path in paths:
        with contextlib.suppress(rasterio.errors.RasterioIOError), rasterio.open(path) as source:
            sizes = [np.dtype(name).itemsize for name in source.dtypes]
            total += source.width * source.height * sum(sizes)
    return total


def _streams(
    stack: contextlib.ExitStack,
    paths: Sequence[Path],
    names: Sequence[str] | None,
    pyramiding: Policy,
    policies: Mapping[str, Policy] | None,
    nodata: float | None,
) -> list[ImageStream]:
    """Return rasters as streams of windows, for what is too large to be read at once."""
    import rasterio

    sources = [stack.enter_context(rasterio.open(path)) for path in paths]
    # Only names, types and policies are looked at: a pixel stands for each band.
    bands: list[BandData] = []
    for path, source in zip(paths, sources, strict=True):
        if source.crs is None:
            raise DataError(
                f"{path} has no coordinate system.",
                hint=f"Add it: rio edit-info --crs EPSG:<code> {path}",
            )
        for text, dtype in zip(source.descriptions, source.dtypes, strict=True):
            pixel = np.zeros((1, 1), np.float32 if dtype == "float16" else dtype)
            name = band_name(text or f"b{len(bands) + 1}")
            place = (crs_of(source.crs), six(source.transform))
            bands.append(BandData(name, pixel, *place, pyramiding=pyramiding))
    left = iter(with_policies(_named(bands, names), policies))
    made = []
    for source in sources:
        own = [next(left) for _ in source.indexes]
        made.append(
            ImageStream(
                [BandStream(band.id, band.array.dtype, band.pyramiding) for band in own],
                own[0].crs,
                own[0].transform,
                (source.height, source.width),
                _windows(source, [band.id for band in own], nodata),
            )
        )
    return made


def _windows(source: Any, names: Sequence[str], nodata: float | None) -> Iterator[Any]:
    """Yield the windows of an open raster: values and masks by band."""
    from rasterio.windows import Window

    side = 1024
    for row in range(0, source.height, side):
        for column in range(0, source.width, side):
            height, width = min(side, source.height - row), min(side, source.width - column)
            place = Window(column, row, width, height)
            pixels = {}
            for number, name in enumerate(names, 1):
                array = source.read(number, window=place)
                mask = source.read_masks(number, window=place) > 0
                if nodata is not None:
                    mask &= array != nodata
                pixels[name] = array, mask
            yield row, row + height, column, column + width, pixels


def ingest_reference(
    catalog: Catalog,
    paths: Sequence[Path],
    asset_id: str,
    *,
    names: Sequence[str] | None = None,
    properties: Mapping[str, Any] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    driver: str | None = None,
) -> str:
    """Make an image whose pixels stay where they are.

    Nothing is copied: the asset holds the path, size and time of the file. Its overviews, at
    factors of 2, are the levels of the pyramid, whatever way they were made; a file without
    overviews has one level. When the file changes or goes, reading the asset is an error.

    Parameters
    ----------
    catalog : Catalog
    paths : sequence of Path
        One GeoTIFF, best cloud-optimised, or one VRT.
    asset_id : str
    names : sequence of str, optional
    properties : mapping, optional
    start_ms, end_ms : int, optional
        Milliseconds since 1970 UTC.
    driver : str, optional
        GDAL's name of the only format that is read.

    Raises
    ------
    DataError
        Not one file, not a GeoTIFF or VRT, no CRS, complex numbers.
    """
    from .references import describe

    if len(paths) != 1:
        raise DataError(f"An image by reference is one file, not {len(paths)}.")
    check_above(catalog, asset_id)
    group, described, footprint = describe(Path(paths[0]).absolute(), driver)
    if names:
        if len(names) != len(described):
            raise DataError(
                f"{len(names)} band names were given ({', '.join(names)}) for "
                f"{len(described)} bands."
            )
        for band, name in zip(described, names, strict=True):
            band["id"] = name
    catalog.put_manifest(
        asset_id,
        {
            "type": "IMAGE",
            "properties": dict(properties or {}),
            "start_ms": start_ms,
            "end_ms": end_ms,
            "footprint": footprint,
            "groups": [group],
            "bands": described,
        },
    )
    return normalize_id(asset_id)


def ingest_scenes(
    catalog: Catalog,
    folder: Path,
    collection: str,
    *,
    dates: str = "%Y%m%d",
    progress: Progress = quiet,
    reference: bool = False,
    properties: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[str]:
    """Make a collection of a folder of dated scenes, a file each.

    Parameters
    ----------
    catalog : Catalog
    folder : Path
        Its `.tif`, `.tiff` and `.vrt` files; what lies deeper is not looked at.
    collection : str
    dates : str
        How a file's name holds its date; see `dated`.
    progress : callable
    reference : bool
        Leave the pixels where they are; see `ingest_reference`.
    properties : mapping, optional
        Of every image.
    **options
        Of `ingest_geotiff`.

    Returns
    -------
    list of str
        Ids of the images, those that were there already included.

    Raises
    ------
    DataError
        There is no raster, or a name holds no date: before anything is made.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in RASTERS)
    if not paths:
        raise DataError(f"{folder} holds no raster ({', '.join(RASTERS)}).")
    scenes = [(path, dated(path.stem, dates)) for path in paths]
    make_collection(catalog, collection)
    ledger = Ledger(catalog)
    made = []
    for number, (path, moment) in enumerate(scenes, 1):
        asset_id = normalize_id(f"{collection}/{asset_part(path.stem)}")
        digest = Ledger.digest([path], str(moment), dict(properties or {}), options, reference)
        if not ledger.has(asset_id, digest):
            if reference:
                ingest_reference(
                    catalog, [path], asset_id, names=options.get("names"),
                    properties=properties, start_ms=milliseconds(moment),
                )  # fmt: skip
            else:
                start = moment.isoformat()
                kept = {key: value for key, value in options.items() if key != "start"}
                ingest_geotiff(
                    catalog, [path], asset_id, properties=properties, start=start, **kept
                )
            ledger.note(asset_id, digest)
        made.append(asset_id)
        progress(number, len(scenes), asset_id)
    return made
