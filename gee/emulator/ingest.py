"""Files into assets: by what they are, image by image, and where it stopped last time.

Rasters are read here. `ingest_tables` reads vectors and points, `ingest_cubes` NetCDF and Zarr,
`ingest_stac` STAC items and collections, `ingest_sen12` the cubes of one data set.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thawslump.errors import DataError, nearest
from thawslump.files import storage_errors

from .catalog import BandData, Catalog, Policy, Transform, normalize_id

__all__ = [
    "Ledger",
    "band_name",
    "check_above",
    "dated",
    "ingest",
    "ingest_geotiff",
    "ingest_reference",
    "ingest_scenes",
    "make_collection",
    "milliseconds",
    "read_raster",
]

RASTERS = (".tif", ".tiff", ".vrt")
LEDGER = ".ingested.jsonl"
# Called with the number of finished images, of all images, and the id of the last one.
Progress = Callable[[int, int, str], None]


def _quiet(done: int, total: int, asset_id: str) -> None:
    pass


# --------------------------------------------------------------------------------------------
# ids and times


def milliseconds(moment: str | datetime.date) -> int:
    """Return a date or time as milliseconds since 1970; UTC where no zone is given.

    Examples
    --------
    >>> milliseconds("1970-01-02")
    86400000
    """
    if isinstance(moment, str):
        try:
            moment = datetime.datetime.fromisoformat(moment)
        except ValueError:
            raise DataError(
                f"{moment!r} is no date.", hint="Write it as 2023-05-16 or 2023-05-16T10:30:00Z."
            ) from None
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.combine(moment, datetime.time())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


_DIGITS = {"Y": 4, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2, "y": 2}


def dated(name: str, pattern: str) -> datetime.datetime:
    """Return the date that a name holds.

    Parameters
    ----------
    name : str
    pattern : str
        As `strftime` writes it, with %Y %y %m %d %j %H %M %S and other characters as they are.
        It may stand anywhere in the name.

    Raises
    ------
    DataError
        The pattern is not known or does not fit.

    Examples
    --------
    >>> dated("S2_20230516T101031_B4", "_%Y%m%dT")
    datetime.datetime(2023, 5, 16, 0, 0)
    """
    parts, codes = re.split(r"%(.)", pattern), _DIGITS
    unknown = [code for code in parts[1::2] if code not in codes]
    if unknown or len(parts) < 2:
        what = f"%{unknown[0]} is not known" if unknown else "it has none"
        raise DataError(
            f"The date pattern {pattern!r} cannot be used: {what}.",
            hint="Write it with %Y %y %m %d %j %H %M %S, for example --dates %Y%m%d.",
        )
    expression = "".join(
        rf"\d{{{codes[part]}}}" if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )
    for found in re.finditer(f"(?=({expression}))", name):
        try:
            return datetime.datetime.strptime(found[1], pattern)
        except ValueError:
            continue
    raise DataError(
        f"{name!r} holds no date of the form {pattern!r}.",
        hint="Change the pattern (--dates), or move the file elsewhere.",
    )


def band_name(text: str) -> str:
    """Return a text as the name of a band.

    Examples
    --------
    >>> band_name("near ir (842 nm)")
    'near_ir__842_nm_'
    """
    kept = "".join(c if c.isalnum() or c in "_-" else "_" for c in text)
    return kept or "b"


def asset_part(text: str) -> str:
    """Return a text as the last part of an asset id."""
    kept = re.sub(r"[^A-Za-z0-9_\-]", "_", text).lstrip("-")
    return kept[:200] or "image"


def check_above(catalog: Catalog, asset_id: str) -> None:
    """Refuse an image inside an image, which no listing would show.

    Raises
    ------
    DataError
    """
    parts = normalize_id(asset_id).split("/")
    for count in range(1, len(parts)):
        above = catalog.get("/".join(parts[:count]))
        if above is not None and above.type in ("IMAGE", "TABLE"):
            raise DataError(f"{above.id} is a {above.type}: nothing can be put below it.")


def make_collection(
    catalog: Catalog, name: str, properties: Mapping[str, Any] | None = None
) -> None:
    """Make an image collection, unless there is one."""
    check_above(catalog, name)
    known = catalog.get(name)
    if known is None or known.type != "IMAGE_COLLECTION":
        catalog.put_collection(name, properties)


# --------------------------------------------------------------------------------------------
# going on where it stopped


class Ledger:
    """What was ingested from which files, so that a second start skips what is there.

    Parameters
    ----------
    catalog : Catalog
        The notes lie in its folder.

    Examples
    --------
    >>> import tempfile
    >>> catalog = Catalog(Path(tempfile.mkdtemp()), writable=True)
    >>> ledger = Ledger(catalog)
    >>> ledger.note("a", "digest")
    >>> ledger.has("a", "digest"), Ledger(catalog).known
    (False, {'a': 'digest'})
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._path = catalog.root / LEDGER
        self.known: dict[str, str] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self.known[entry["id"]] = entry["digest"]
                except (ValueError, KeyError, TypeError):
                    continue  # the last line of a process that was killed

    @staticmethod
    def digest(paths: Sequence[Path], *settings: Any) -> str:
        """Return a digest of files, by their sizes and times, and of settings."""
        facts = [
            (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns)
            for path in paths
            if path.exists()
        ]
        text = json.dumps([facts, settings], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def has(self, asset_id: str, digest: str) -> bool:
        """Tell whether an asset of this digest is whole in the catalogue."""
        return self.known.get(asset_id) == digest and self._catalog.get(asset_id) is not None

    def note(self, asset_id: str, digest: str) -> None:
        """Note that an asset is whole."""
        self.known[asset_id] = digest
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"id": asset_id, "digest": digest}) + "\n")


# --------------------------------------------------------------------------------------------
# rasters


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
    bands: list[BandData] = []
    for path in paths:
        bands += read_raster(path, nodata=nodata, pyramiding=pyramiding, first=len(bands) + 1)
    bands = with_policies(_named(bands, names), policies)
    check_above(catalog, asset_id)
    catalog.put_image(
        asset_id,
        bands,
        dict(properties or {}),
        start_ms=None if start is None else milliseconds(start),
        end_ms=None if end is None else milliseconds(end),
    )
    return normalize_id(asset_id)


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
    progress: Progress = _quiet,
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


# --------------------------------------------------------------------------------------------
# by what they are


def ingest(
    catalog: Catalog,
    sources: Sequence[Path],
    asset_id: str | None = None,
    *,
    dem: str | None = None,
    progress: Progress = _quiet,
    **options: Any,
) -> list[str]:
    """Ingest files by what they are; the ids of the assets that were made.

    Parameters
    ----------
    catalog : Catalog
    sources : sequence of Path
        The rasters of one image; a folder of dated rasters; one vector file or CSV of points; a
        NetCDF file or Zarr store; a STAC item, collection, catalogue or item collection; or
        cubes of Sen12Landslides.
    asset_id : str, optional
        Needed but for the cubes of Sen12Landslides, which become the collections of their
        sensors.
    dem : str, optional
        Id for the elevation model of such a cube.
    progress : callable (done, total, id)
    **options
        Of the function that reads the files; what it does not know must not be given.

    Raises
    ------
    DataError
        A file is missing or of a kind that is not read, or no id is given, or an option does not
        apply.
    """
    from .ingest_cubes import CUBES, ingest_cube
    from .ingest_sen12 import SEN12_DEM, ingest_sen12, is_sen12
    from .ingest_stac import ingest_stac, is_stac
    from .ingest_tables import TABLES, ingest_table

    for path in sources:
        if not path.exists():
            there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path} does not exist.{nearest(path.name, there)}")
    given = {
        key: value for key, value in options.items() if value is not None and value is not False
    }
    endings = {path.suffix.lower() for path in sources}
    if endings == {".nc"} and all(is_sen12(path) for path in sources):
        _only(given, (), "cubes of Sen12Landslides")
        return ingest_sen12(catalog, sources, dem=SEN12_DEM if dem is None else dem)
    if not asset_id:
        raise DataError("An asset id is missing.", hint="Give it with --as users/me/name.")
    normalize_id(asset_id)
    one = sources[0] if len(sources) == 1 else None
    raster = ("names", "properties", "start", "end", "pyramiding", "policies", "nodata")
    if one is not None and endings <= set(CUBES):
        _only(given, ("names", "properties", "pyramiding", "policies", "crs"), "a cube")
        return ingest_cube(catalog, one, asset_id, progress=progress, **given)
    if one is not None and is_stac(one):
        _only(given, ("properties", "pyramiding", "policies", "assets", "raw"), "STAC")
        return ingest_stac(catalog, one, asset_id, progress=progress, **given)
    if one is not None and one.is_dir():
        known = (*(name for name in raster if name not in ("start", "end")), "dates", "reference")
        _only(given, known, "a folder of scenes")
        return ingest_scenes(catalog, one, asset_id, progress=progress, **given)
    if endings <= set(RASTERS):
        if given.pop("reference", False):
            _only(given, ("names", "properties", "start", "end"), "a raster by reference")
            times: dict[str, Any] = {
                f"{key}_ms": milliseconds(given.pop(key))
                for key in ("start", "end")
                if key in given
            }
            return [ingest_reference(catalog, sources, asset_id, **times, **given)]
        _only(given, raster, "rasters")
        return [ingest_geotiff(catalog, sources, asset_id, **given)]
    if endings <= set(TABLES) and one is not None:
        _only(given, ("layer", "properties", "x", "y", "crs"), "a table")
        return [ingest_table(catalog, one, asset_id, **given)]
    raise DataError(
        f"Files ending with {', '.join(sorted(endings))} cannot be ingested together.",
        hint=f"Rasters {', '.join(RASTERS)}; one vector file {', '.join(TABLES)}; one cube "
        f"{', '.join(CUBES)}; or one STAC file.",
    )


def _only(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name in given:
        if name == "pyramiding" and given[name] == "MEAN":
            continue
        if name not in known:
            raise DataError(
                f"The option {name} does not apply to {what}.",
                hint=f"What applies: {', '.join(known) or 'none'}.",
            )


def masked_where(array: Any, values: Sequence[float]) -> Any:
    """Return a mask that is False where an array holds one of some values or NaN."""
    mask = np.ones(array.shape, bool)
    for value in values:
        mask &= ~np.isnan(array) if value != value else array != value
    if array.dtype.kind == "f":
        mask &= ~np.isnan(array)
    return mask
