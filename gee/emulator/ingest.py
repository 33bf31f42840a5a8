"""Files into assets: GeoTIFF, GeoJSON and GeoPackage, and the cubes of Sen12Landslides.

Only what a file says becomes a band or a property. What it does not say (an orbit number, an
hour, an incidence angle) stays absent.
"""

from __future__ import annotations

import ast
import datetime
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError, nearest

from .catalog import BandData, Catalog, Policy, Transform, normalize_id

__all__ = [
    "Annotation",
    "ingest",
    "ingest_geotiff",
    "ingest_sen12",
    "ingest_table",
    "milliseconds",
    "sen12_annotations",
    "sen12_mask",
]

Array = NDArray[Any]

SEN12_LICENCE = "Sen12Landslides (Hoehn et al. 2025), CC-BY-4.0; contains Copernicus Sentinel data"
SEN12_DEM = "sen12landslides/dem"
# Names of the cube -> names of COPERNICUS/S2_SR_HARMONIZED, in that collection's order.
SEN12_S2 = {
    "B02": "B2",
    "B03": "B3",
    "B04": "B4",
    "B05": "B5",
    "B06": "B6",
    "B07": "B7",
    "B08": "B8",
    "B8A": "B8A",
    "B11": "B11",
    "B12": "B12",
}
CLOUD_CLASSES = (8, 9, 10)  # SCL: cloud of medium and high probability, thin cirrus
TABLES = (".geojson", ".json", ".gpkg", ".shp", ".fgb")
RASTERS = (".tif", ".tiff", ".vrt")


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


# --------------------------------------------------------------------------------------------
# GeoTIFF and tables


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
    import rasterio

    bands: list[BandData] = []
    for path in paths:
        try:
            with rasterio.open(path) as source:
                if source.crs is None:
                    raise DataError(
                        f"{path} has no coordinate system.",
                        hint=f"Add it: rio edit-info --crs EPSG:<code> {path}",
                    )
                code = source.crs.to_epsg()
                crs = f"EPSG:{code}" if code else source.crs.to_wkt()
                transform = _six(source.transform)
                for number in source.indexes:
                    array = source.read(number)
                    mask = source.read_masks(number) > 0
                    if nodata is not None:
                        mask &= array != nodata
                    name = source.descriptions[number - 1] or f"b{len(bands) + 1}"
                    bands.append(
                        BandData(_band_name(name), array, crs, transform, mask, pyramiding)
                    )
        except rasterio.errors.RasterioIOError as error:
            raise DataError(
                f"{path} cannot be read as a raster: {error}.", hint="Is it complete?"
            ) from error
    if names:
        if len(names) != len(bands):
            raise DataError(
                f"{len(names)} band names were given ({', '.join(names)}) for {len(bands)} bands "
                f"({', '.join(band.id for band in bands)})."
            )
        for band, name in zip(bands, names, strict=True):
            band.id = name
    _parents(catalog, asset_id)
    catalog.put_image(
        asset_id,
        bands,
        dict(properties or {}),
        start_ms=None if start is None else milliseconds(start),
        end_ms=None if end is None else milliseconds(end),
    )
    return normalize_id(asset_id)


def ingest_table(
    catalog: Catalog,
    path: Path,
    asset_id: str,
    *,
    layer: str | None = None,
    properties: Mapping[str, Any] | None = None,
) -> str:
    """Make a table of a vector file; geometries become longitude and latitude.

    Raises
    ------
    DataError
        The file cannot be read, or has no CRS (GeoJSON is in longitude and latitude).
    """
    import geopandas

    try:
        frame = geopandas.read_file(path, layer=layer, engine="pyogrio")
    except Exception as error:
        raise DataError(f"{path} cannot be read as vectors: {error}.") from error
    if frame.crs is None:
        raise DataError(f"{path} has no coordinate system.", hint="Save it with one.")
    features = json.loads(frame.to_crs("EPSG:4326").to_json(drop_id=True, na="drop"))["features"]
    for number, feature in enumerate(features):
        feature["id"] = f"{number:08d}"
    _parents(catalog, asset_id)
    catalog.put_table(asset_id, features, dict(properties or {}))
    return normalize_id(asset_id)


def ingest(
    catalog: Catalog,
    sources: Sequence[Path],
    asset_id: str | None = None,
    *,
    dem: str = SEN12_DEM,
    **options: Any,
) -> list[str]:
    """Ingest files by what they are; the ids of the assets that were made.

    Parameters
    ----------
    catalog : Catalog
    sources : sequence of Path
        Cubes of Sen12Landslides (`.nc`), or the rasters of one image, or one vector file.
    asset_id : str, optional
        Needed but for the cubes, which become the collections of their sensors.
    dem : str
        Id for the elevation model of a cube.
    **options
        Of `ingest_geotiff` and `ingest_table`.

    Raises
    ------
    DataError
        A file is missing or of a kind that is not read, or no id is given.
    """
    for path in sources:
        if not path.exists():
            there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path} does not exist.{nearest(path.name, there)}")
    endings = {path.suffix.lower() for path in sources}
    if endings == {".nc"}:
        return ingest_sen12(catalog, sources, dem=dem)
    if not asset_id:
        raise DataError("An asset id is missing.", hint="Give it with --as users/me/name.")
    if endings <= set(RASTERS):
        options.pop("layer", None)
        return [ingest_geotiff(catalog, sources, asset_id, **options)]
    if endings <= set(TABLES) and len(sources) == 1:
        kept = {k: v for k, v in options.items() if k in ("layer", "properties")}
        return [ingest_table(catalog, sources[0], asset_id, **kept)]
    raise DataError(
        f"Files ending with {', '.join(sorted(endings))} cannot be ingested together.",
        hint=f"Rasters {', '.join(RASTERS)}; one vector file {', '.join(TABLES)}; or cubes .nc.",
    )


def _band_name(text: str) -> str:
    kept = "".join(c if c.isalnum() or c in "_-" else "_" for c in text)
    return kept or "b"


def _six(affine: Any) -> Transform:
    a, b, c, d, e, f = tuple(affine)[:6]
    return float(a), float(b), float(c), float(d), float(e), float(f)


def _parents(catalog: Catalog, asset_id: str) -> None:
    """Refuse an image inside an image, which no listing would show."""
    parts = normalize_id(asset_id).split("/")
    for count in range(1, len(parts)):
        above = catalog.get("/".join(parts[:count]))
        if above is not None and above.type in ("IMAGE", "TABLE"):
            raise DataError(f"{above.id} is a {above.type}: nothing can be put below it.")


# --------------------------------------------------------------------------------------------
# Sen12Landslides


@dataclass(frozen=True)
class Annotation:
    """One annotated landslide of a cube: its id, and its box in the cube's CRS."""

    id: str
    bounds: tuple[float, float, float, float]


@dataclass(frozen=True)
class _Cube:
    """A cube as it lies on the ground: arrays (time, y, x)."""

    name: str
    sensor: str
    crs: str
    transform: Transform
    days: tuple[str, ...]
    arrays: Mapping[str, Array]
    attributes: Mapping[str, Any]


def _open(path: Path, wanted: Sequence[str] | None = None) -> _Cube:
    """Read a cube and turn it the right way round.

    The files store (time, x, y), and their x and y are the upper-left corners of the pixels, as
    their `GeoTransform` says as well.
    """
    import xarray

    try:
        with xarray.open_dataset(path, mask_and_scale=False, engine=_engine()) as source:
            attributes = dict(source.attrs)
            if "satellite" not in attributes or "ann_bbox" not in attributes:
                raise DataError(
                    f"{path} is no cube of Sen12Landslides: the attributes satellite and "
                    "ann_bbox are missing.",
                    hint="Other NetCDF files: save their variables as GeoTIFFs and ingest those.",
                )
            xs, ys = source["x"].values.astype(float), source["y"].values.astype(float)
            arrays = {
                str(name): source[name].transpose("time", "y", "x").values
                for name in source.data_vars
                if set(source[name].dims) == {"time", "x", "y"}
                and (wanted is None or name in wanted)
            }
            moments = source["time"].values.astype("datetime64[D]").astype(str)
            grid = str(source["spatial_ref"].attrs.get("GeoTransform", ""))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", hint="Is it complete?") from error
    steps = np.diff(xs), np.diff(ys)
    if any(np.ptp(step) > 1e-6 * abs(step[0]) for step in steps):
        raise DataError(f"{path}: its x or y are not evenly spaced.")
    transform = (float(steps[0][0]), 0.0, xs[0], 0.0, float(steps[1][0]), ys[0])
    if grid:
        c, a, b, f, d, e = (float(v) for v in grid.split())
        if not np.allclose((a, b, c, d, e, f), transform):
            raise DataError(
                f"{path}: x and y begin at {xs[0]}, {ys[0]}, but its GeoTransform says {grid}."
            )
    return _Cube(
        name=path.stem,
        sensor=str(attributes["satellite"]),
        crs=str(attributes["crs"]),
        transform=transform,
        days=tuple(str(day) for day in moments),
        arrays=arrays,
        attributes=attributes,
    )


def _engine() -> Literal["h5netcdf", "netcdf4"]:
    """Return a reader of NetCDF 4 that is installed; h5netcdf alone has no HDF5 below it."""
    for engine, needs in (("h5netcdf", ("h5netcdf", "h5py")), ("netcdf4", ("netCDF4",))):
        if all(importlib.util.find_spec(name) for name in needs):
            return engine  # type: ignore[return-value]
    raise DataError("No reader of NetCDF is installed.", hint="pip install h5netcdf h5py")


def sen12_annotations(path: Path) -> list[Annotation]:
    """Return the annotated landslides of a cube.

    Returns
    -------
    list of Annotation
        Boxes (west, south, east, north) in metres of the cube's CRS.
    """
    attributes = _open(path, []).attributes
    names = str(attributes["ann_id"]).split(",")
    boxes = ast.literal_eval(f"[{attributes['ann_bbox']}]")
    if len(names) != len(boxes):
        raise DataError(f"{path} names {len(names)} annotations and has {len(boxes)} boxes.")
    return [
        Annotation(name, (float(w), float(s), float(e), float(n)))
        for name, (w, s, e, n) in zip(names, boxes, strict=True)
    ]


def sen12_mask(path: Path) -> tuple[Array, str, Transform]:
    """Return the landslide mask of a cube.

    Returns
    -------
    mask : ndarray, (y, x), uint8
        1 is landslide; rows from north to south.
    crs : str
    transform : tuple of 6 floats
        Earth Engine's order, from the upper-left corner of the upper-left pixel.
    """
    cube = _open(path, ["MASK"])
    mask = cube.arrays["MASK"]
    if not (mask == mask[0]).all():
        raise DataError(f"{path}: its mask changes with time.")
    return np.ascontiguousarray(mask[0]), cube.crs, cube.transform


def ingest_sen12(catalog: Catalog, paths: Sequence[Path], *, dem: str = SEN12_DEM) -> list[str]:
    """Make the images of Sen12Landslides cubes, and an elevation model.

    - Sentinel-1 cubes become images of COPERNICUS/S1_GRD: VV and VH in dB, float32. The cube
      knows the direction of the orbit and nothing else of it: no relative orbit, no platform, no
      incidence angle. 0 dB is fill and masked.
    - The Sentinel-2 cube becomes images of COPERNICUS/S2_SR_HARMONIZED: reflectance times 10,000
      as uint16, SCL. 0 is fill and masked, band by band. CLOUDY_PIXEL_PERCENTAGE is computed from
      the SCL of the cube, as `CLOUDY_PIXEL_PERCENTAGE_source` says.
    - The cubes know days, no hours: `system:time_start` is 00:00 UTC.

    Parameters
    ----------
    catalog : Catalog
    paths : sequence of Path
    dem : str
        Id of the elevation model, whole metres as in the cube; "" makes none.

    Returns
    -------
    list of str
        Ids of the images.

    Raises
    ------
    DataError
        A file is no such cube, or its sensor is not known, or its reflectances still carry the
        offset of +1000 that the harmonised collection has removed.
    """
    made = []
    for path in paths:
        cube = _open(path)
        if cube.sensor in ("s1-asc", "s1-dsc"):
            made += _sentinel1(catalog, cube, path)
        elif cube.sensor == "s2":
            made += _sentinel2(catalog, cube, path)
        else:
            raise DataError(f"{path}: expected satellite s1-asc, s1-dsc or s2: {cube.sensor!r}.")
        if dem and "DEM" in cube.arrays and normalize_id(dem) not in made:
            _parents(catalog, dem)
            height = np.ascontiguousarray(cube.arrays["DEM"][0])
            catalog.put_image(
                dem,
                [BandData("DEM", height, cube.crs, cube.transform)],
                {"source": f"{path.name} of {SEN12_LICENCE}", "unit": "m, whole numbers"},
            )
            made.append(normalize_id(dem))
    return made


def _sentinel1(catalog: Catalog, cube: _Cube, path: Path) -> list[str]:
    collection = "COPERNICUS/S1_GRD"
    _collection(catalog, collection)
    direction = {"s1-asc": "ASCENDING", "s1-dsc": "DESCENDING"}[cube.sensor]
    made = []
    for number, day in enumerate(cube.days):
        bands = []
        for name in ("VV", "VH"):
            decibels = cube.arrays[name][number].astype(np.float32)
            bands.append(BandData(name, decibels, cube.crs, cube.transform, mask=decibels != 0))
        asset_id = f"{collection}/{day.replace('-', '')}_{cube.name}"
        catalog.put_image(
            asset_id,
            bands,
            {
                "instrumentMode": "IW",
                "orbitProperties_pass": direction,
                "transmitterReceiverPolarisation": ["VV", "VH"],
                "source": f"{path.name} of {SEN12_LICENCE}",
                "time_precision": "day",
            },
            start_ms=milliseconds(day),
        )
        made.append(asset_id)
    return made


def _sentinel2(catalog: Catalog, cube: _Cube, path: Path) -> list[str]:
    collection = "COPERNICUS/S2_SR_HARMONIZED"
    _collection(catalog, collection)
    blue = cube.arrays["B02"]
    # With the offset even the darkest clear pixel of a series would lie near 1000.
    if float(np.percentile(blue[blue > 0], 1)) >= 1000:
        raise DataError(
            f"{path}: its reflectances seem to carry the offset of +1000 of processing baseline "
            "04.00, which COPERNICUS/S2_SR_HARMONIZED has removed.",
            hint="Subtract 1000 from the bands (not from SCL), then ingest.",
        )
    made = []
    for number, day in enumerate(cube.days):
        bands = []
        for theirs, ours in SEN12_S2.items():
            if theirs not in cube.arrays:
                continue
            values = np.clip(cube.arrays[theirs][number], 0, None).astype(np.uint16)
            bands.append(BandData(ours, values, cube.crs, cube.transform, mask=values != 0))
        classes = cube.arrays["SCL"][number].astype(np.uint8)
        seen = classes != 0
        bands.append(
            BandData("SCL", classes, cube.crs, cube.transform, mask=seen, pyramiding="MODE")
        )
        cloudy = np.isin(classes, CLOUD_CLASSES).sum() / max(int(seen.sum()), 1)
        asset_id = f"{collection}/{day.replace('-', '')}_{cube.name}"
        catalog.put_image(
            asset_id,
            bands,
            {
                "CLOUDY_PIXEL_PERCENTAGE": round(100 * float(cloudy), 4),
                "CLOUDY_PIXEL_PERCENTAGE_source": "share of SCL classes 8, 9 and 10 in the cube",
                "source": f"{path.name} of {SEN12_LICENCE}",
                "time_precision": "day",
            },
            start_ms=milliseconds(day),
        )
        made.append(asset_id)
    return made


def _collection(catalog: Catalog, name: str) -> None:
    known = catalog.get(name)
    if known is None or known.type != "IMAGE_COLLECTION":
        catalog.put_collection(name)
