"""Files into assets: by what they are, image by image, and where it stopped last time.

`ingest_rasters` reads GeoTIFFs, `ingest_tables` vectors and points, `ingest_cubes` NetCDF and
Zarr, `ingest_stac` STAC items and collections, `ingest_sen12` the cubes of one data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thawslump.errors import DataError, nearest

from .catalog import Catalog, normalize_id
from .ingest_common import Progress, milliseconds, quiet

__all__ = ["ingest"]


def ingest(
    catalog: Catalog,
    sources: Sequence[Path],
    asset_id: str | None = None,
    *,
    dem: str | None = None,
    progress: Progress = quiet,
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
    from .ingest_rasters import RASTERS, ingest_geotiff, ingest_reference, ingest_scenes
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
