"""The cubes of Sen12Landslides as assets: Sentinel-1, Sentinel-2 and an elevation model.

Only what a cube says becomes a band or a property. What it does not say (an orbit number, an
hour, an incidence angle) stays absent.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError

from .catalog import BandData, Catalog, Transform, normalize_id
from .ingest_common import check_above, make_collection, milliseconds

__all__ = [
    "SEN12_DEM",
    "Annotation",
    "ingest_sen12",
    "is_sen12",
    "netcdf_engine",
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
        with xarray.open_dataset(path, mask_and_scale=False, engine=netcdf_engine()) as source:
            attributes = dict(source.attrs)
            if "satellite" not in attributes or "ann_bbox" not in attributes:
                raise DataError(
                    f"{path} is no cube of Sen12Landslides: the attributes satellite and "
                    "ann_bbox are missing.",
                    hint="Other NetCDF files are ingested with an asset id: --as users/me/name.",
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


def is_sen12(path: Path) -> bool:
    """Tell whether a NetCDF file is a cube of Sen12Landslides.

    Raises
    ------
    DataError
        It cannot be read.
    """
    import xarray

    try:
        with xarray.open_dataset(path, mask_and_scale=False, engine=netcdf_engine()) as source:
            return {"satellite", "ann_bbox"} <= set(source.attrs)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", hint="Is it complete?") from error


def netcdf_engine() -> Literal["h5netcdf", "netcdf4"]:
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
            check_above(catalog, dem)
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
    make_collection(catalog, collection)
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
    make_collection(catalog, collection)
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
