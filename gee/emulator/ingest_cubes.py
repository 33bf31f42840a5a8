"""NetCDF files, Zarr stores and xarray data sets as images and collections.

A cube is anything with evenly spaced x and y: `(y, x)` variables become the bands of one image,
`(time, y, x)` variables those of a collection with an image per time. One time is in memory at
once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError, nearest

from .catalog import BandData, Catalog, Policy, Transform, normalize_id
from .ingest_common import (
    Ledger,
    Progress,
    asset_part,
    band_name,
    check_above,
    make_collection,
    masked_where,
    quiet,
)
from .ingest_rasters import _named, with_policies

if TYPE_CHECKING:
    import xarray

__all__ = ["CUBES", "ingest_cube", "ingest_dataset"]

Array = NDArray[Any]

CUBES = (".nc", ".nc4", ".zarr")
XS = ("x", "lon", "longitude", "easting", "rlon")
YS = ("y", "lat", "latitude", "northing", "rlat")
TIMES = ("time", "t", "date", "datetime")
DEGREES = ("lon", "longitude")
EVEN = 1e-4  # share of a step by which steps may differ: coordinates are often float32


def ingest_cube(
    catalog: Catalog, path: Path, asset_id: str, *, progress: Progress = quiet, **options: Any
) -> list[str]:
    """Ingest a NetCDF file or a Zarr store; see `ingest_dataset`.

    Raises
    ------
    DataError
        It cannot be read, or no reader is installed.
    """
    import xarray

    from .ingest_sen12 import netcdf_engine

    if path.suffix.lower() == ".zarr":
        if importlib.util.find_spec("zarr") is None:
            raise DataError("No reader of Zarr is installed.", hint="pip install zarr")
        engine: Any = "zarr"
    else:
        engine = netcdf_engine()
    try:
        source = xarray.open_dataset(path, mask_and_scale=False, engine=engine, decode_coords="all")
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", hint="Is it complete?") from error
    with source:
        digest = Ledger.digest([path] if path.is_file() else sorted(path.rglob("*")))
        return ingest_dataset(
            catalog, source, asset_id, progress=progress, where=str(path), digest=digest, **options
        )


def ingest_dataset(
    catalog: Catalog,
    source: xarray.Dataset,
    asset_id: str,
    *,
    names: Sequence[str] | None = None,
    properties: Mapping[str, Any] | None = None,
    pyramiding: Policy = "MEAN",
    policies: Mapping[str, Policy] | None = None,
    crs: str | None = None,
    progress: Progress = quiet,
    where: str = "The data set",
    digest: str = "",
) -> list[str]:
    """Make an image, or a collection with an image per time, of an xarray data set.

    - x and y are centres of pixels, evenly spaced, in either direction; any order of dimensions.
    - The CRS is that of the grid mapping (`crs_wkt`, `spatial_ref` or `epsg_code`), else
      longitude and latitude where the coordinates are so called, else `crs`.
    - `_FillValue`, `missing_value` and NaN are masked; `scale_factor` and `add_offset` are
      applied, and make floats of integers.
    - A further dimension, as `band`, makes a band of each of its values.

    Parameters
    ----------
    catalog : Catalog
    source : Dataset
        Opened with `mask_and_scale=False`, or already scaled.
    asset_id : str
    names : sequence of str, optional
        The variables to take; all that lie on the grid by default.
    properties : mapping, optional
    pyramiding, policies
        As `ingest.ingest_geotiff` has them.
    crs : str, optional
    progress : callable
    where : str
        For the words of errors.
    digest : str
        Of the source: images with the same digest are not made again.

    Returns
    -------
    list of str
        Ids of the images.

    Raises
    ------
    DataError
        No variable lies on a grid, steps differ, no CRS is known.
    """
    x, y = _dimension(source, XS, where, "x"), _dimension(source, YS, where, "y")
    transform, flip_y, flip_x = _grid(source, x, y, where)
    code = _crs(source, x, crs, where)
    time = next((name for name in source.dims if str(name).lower() in TIMES), None)
    variables = [str(n) for n in source.data_vars if {x, y} <= set(source[n].dims)]
    if names:
        for name in names:
            if name not in variables:
                raise DataError(
                    f"{where} has no variable {name!r} on its grid.{nearest(name, variables)}",
                    hint=f"It has {', '.join(variables) or 'none'}.",
                )
        variables = list(names)
    if not variables:
        raise DataError(f"{where} has no variable over {y} and {x}.")

    def bands(part: xarray.Dataset) -> list[BandData]:
        found = []
        for name in variables:
            for label, array, mask in _layers(part[name], y, x):
                if flip_y:
                    array, mask = array[::-1], mask[::-1]
                if flip_x:
                    array, mask = array[:, ::-1], mask[:, ::-1]
                found.append(BandData(label, array, code, transform, mask, pyramiding))
        return with_policies(_named(found, None), policies)

    known = {**_attributes(source), **dict(properties or {})}
    if time is None or all(time not in source[name].dims for name in variables):
        check_above(catalog, asset_id)
        catalog.put_image(asset_id, bands(source), known)
        progress(1, 1, normalize_id(asset_id))
        return [normalize_id(asset_id)]
    if source.sizes[time] == 0:
        raise DataError(f"{where} has no time.")
    variables = [name for name in variables if time in source[name].dims]
    make_collection(catalog, asset_id)
    ledger = Ledger(catalog)
    moments = _moments(source[time], where)
    labels = _labels(moments)
    made = []
    for number, (moment, label) in enumerate(zip(moments, labels, strict=True)):
        image_id = normalize_id(f"{asset_id}/{asset_part(label)}")
        mark = Ledger.digest([], digest, label, variables, pyramiding, dict(policies or {}), known)
        if not digest or not ledger.has(image_id, mark):
            catalog.put_image(image_id, bands(source.isel({time: number})), known, start_ms=moment)
            ledger.note(image_id, mark)
        made.append(image_id)
        progress(number + 1, len(moments), image_id)
    return made


def _dimension(source: xarray.Dataset, known: Sequence[str], where: str, what: str) -> str:
    for name in source.dims:
        attributes = source[name].attrs if name in source.coords else {}
        standard = str(attributes.get("standard_name", ""))
        axis = str(attributes.get("axis", "")).lower()
        if str(name).lower() in known or axis == what or standard in known:
            return str(name)
    raise DataError(
        f"{where} has no dimension for {what}; it has {', '.join(map(str, source.dims))}.",
        hint=f"Rename one to {what}.",
    )


def _grid(source: xarray.Dataset, x: str, y: str, where: str) -> tuple[Transform, bool, bool]:
    """Return the transform, and whether rows and columns must be reversed."""
    ends = []
    for name in (x, y):
        if name not in source.coords:
            raise DataError(f"{where}: the dimension {name} has no coordinates.")
        values = source[name].values.astype(np.float64)
        if len(values) < 2:
            raise DataError(f"{where}: a cube needs two or more values of {name}.")
        steps = np.diff(values)
        step = (values[-1] - values[0]) / (len(values) - 1)
        if not np.isfinite(step) or step == 0 or np.ptp(steps) > EVEN * abs(step):
            raise DataError(
                f"{where}: its {name} are not evenly spaced.", hint="Resample it to a regular grid."
            )
        ends.append((values, step))
    (xs, dx), (ys, dy) = ends
    left, top = min(xs[0], xs[-1]), max(ys[0], ys[-1])
    dx, dy = abs(dx), abs(dy)
    transform = (dx, 0.0, float(left - dx / 2), 0.0, -dy, float(top + dy / 2))
    return transform, bool(ys[-1] > ys[0]), bool(xs[-1] < xs[0])


def _crs(source: xarray.Dataset, x: str, given: str | None, where: str) -> str:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    candidates: list[Any] = [given]
    for name in source.variables:
        attributes = source[name].attrs
        candidates += [attributes.get(key) for key in ("crs_wkt", "spatial_ref")]
        if attributes.get("epsg_code") is not None:
            text = str(attributes["epsg_code"]).removeprefix("EPSG:")
            candidates.append(f"EPSG:{text}")
        if "grid_mapping_name" in attributes:
            candidates.append(dict(attributes))
    candidates += [source.attrs.get(key) for key in ("crs_wkt", "spatial_ref", "crs", "proj:code")]
    for candidate in candidates:
        if candidate is None or candidate == "":
            continue
        try:
            known = CRS.from_cf(candidate) if isinstance(candidate, dict) else CRS(str(candidate))
        except (CRSError, KeyError, ValueError):
            if candidate is given:
                raise DataError(f"{given!r} is not a known CRS.") from None
            continue
        code = known.to_epsg()
        return f"EPSG:{code}" if code else known.to_wkt()
    if x.lower() in DEGREES or "degrees" in str(source[x].attrs.get("units", "")):
        return "EPSG:4326"
    raise DataError(
        f"{where} says nothing of its coordinate system.", hint="Give it: --crs EPSG:<code>"
    )


def _layers(variable: xarray.DataArray, y: str, x: str) -> Iterator[tuple[str, Array, Array]]:
    """Yield name, values (y, x) and mask of the bands of a variable at one time."""
    rest = [name for name in variable.dims if name not in (y, x)]
    if len(rest) > 1:
        raise DataError(
            f"Variable {variable.name} has the dimensions {', '.join(map(str, variable.dims))}: "
            "expected y, x, a time and one more at most."
        )
    if not rest:
        yield (band_name(str(variable.name)), *_values(variable.transpose(y, x)))
        return
    (extra,) = rest
    for number in range(variable.sizes[extra]):
        layer = variable.isel({extra: number})
        label = str(layer[extra].values) if extra in variable.coords else str(number + 1)
        name = label if not _is_number(label) else f"{variable.name}_{label}"
        yield (band_name(name), *_values(layer.transpose(y, x)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(variable: xarray.DataArray) -> tuple[Array, Array]:
    attributes = {**variable.encoding, **variable.attrs}
    array = np.asarray(variable.values)
    if array.dtype.kind not in "iufb":
        raise DataError(f"Variable {variable.name} holds {array.dtype}, expected numbers.")
    missing: list[float] = []
    for key in ("_FillValue", "missing_value", "nodata"):
        # After `mask_and_scale` these stand in the encoding, and NaN in the array.
        if key in variable.attrs:
            missing += [float(v) for v in np.atleast_1d(attributes[key])]
    mask = masked_where(array, missing)
    scale = float(variable.attrs.get("scale_factor", 1.0))
    offset = float(variable.attrs.get("add_offset", 0.0))
    if scale != 1.0 or offset != 0.0:
        wide = array.dtype.itemsize > 4 and array.dtype.kind == "f"
        array = (array * scale + offset).astype(np.float64 if wide else np.float32)
    return array, mask


def _moments(variable: xarray.DataArray, where: str) -> list[int]:
    values = variable.values
    if values.dtype.kind != "M":
        raise DataError(
            f"{where}: its {variable.name} are no dates but {values.dtype}.",
            hint="Give the variable units such as 'days since 2020-01-01'.",
        )
    return [int(v) for v in values.astype("datetime64[ms]").astype(np.int64)]


def _labels(moments: Sequence[int]) -> list[str]:
    """Return a name per time: the day where that tells them apart, else the time as well."""
    stamps = [np.datetime64(moment, "ms").astype(str) for moment in moments]
    days = [stamp[:10].replace("-", "") for stamp in stamps]
    if len(set(days)) == len(days):
        return days
    full = [stamp[:19].replace("-", "").replace(":", "") for stamp in stamps]
    if len(set(full)) == len(full):
        return full
    return [f"{label}_{number:05d}" for number, label in enumerate(full)]


def _attributes(source: xarray.Dataset) -> dict[str, Any]:
    """Return what the data set says of itself, as properties."""
    kept = ("title", "institution", "source", "references", "comment", "license")
    return {key: str(source.attrs[key]) for key in kept if source.attrs.get(key)}
