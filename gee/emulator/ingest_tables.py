"""Vector files and CSV points as tables."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thawslump.errors import DataError, nearest

from .catalog import Catalog, normalize_id
from .ingest_common import check_above

__all__ = ["SAFE", "TABLES", "ingest_table", "read_table"]

TABLES = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".zip", ".csv")
# What manifests of the REST interface may name: each is read by one reader, which looks at no
# other file than the ones that belong to it.
SAFE = (".csv", ".geojson", ".json", ".shp", ".zip")
LONGITUDES = ("longitude", "lon", "long", "lng", "x")
LATITUDES = ("latitude", "lat", "y")
GEOMETRIES = (".geo", "geometry", "geom", "wkt")
SHAPES = (".shp", ".shx", ".dbf", ".prj", ".cpg")
MOST_UNPACKED = 2**31  # bytes of a zipped shapefile
WGS84 = "EPSG:4326"

Feature = dict[str, Any]


def ingest_table(
    catalog: Catalog,
    path: Path,
    asset_id: str,
    *,
    layer: str | None = None,
    properties: Mapping[str, Any] | None = None,
    x: str | None = None,
    y: str | None = None,
    crs: str | None = None,
) -> str:
    """Make a table of a vector file or a CSV file; geometries become longitude and latitude.

    Parameters
    ----------
    catalog : Catalog
    path : Path
    asset_id : str
    layer : str, optional
        Of a GeoPackage; needed where it has several.
    properties : mapping, optional
        Of the table.
    x, y : str, optional
        Columns of a CSV file.
    crs : str, optional
        Of a file that says nothing of it; longitude and latitude for CSV and GeoJSON.

    Raises
    ------
    DataError
        The file cannot be read, or has no CRS (GeoJSON is in longitude and latitude).
    """
    features = read_table(path, layer=layer, x=x, y=y, crs=crs)
    check_above(catalog, asset_id)
    catalog.put_table(asset_id, features, dict(properties or {}))
    return normalize_id(asset_id)


def read_table(
    path: Path,
    *,
    layer: str | None = None,
    x: str | None = None,
    y: str | None = None,
    geometry: str | None = None,
    delimiter: str | None = None,
    charset: str = "utf-8",
    crs: str | None = None,
    safe: bool = False,
) -> list[Feature]:
    """Return the GeoJSON features of a file, in longitude and latitude.

    - Properties that are missing (null, NaN, an empty cell) are absent; a row without a geometry
      is a feature without one.
    - A column of a CSV file is numeric where every cell that is not empty is a number.
    - Times become text, ISO 8601.

    Parameters
    ----------
    path : Path
    layer : str, optional
    x, y : str, optional
        Columns of a CSV file; longitude, lon or x, and latitude, lat or y else.
    geometry : str, optional
        Column of a CSV file that holds GeoJSON or WKT.
    delimiter, charset : str
        Of a CSV file.
    crs : str, optional
    safe : bool
        Open nothing that may name other files; see `SAFE`.

    Raises
    ------
    DataError
        It cannot be read, or has no CRS.
    """
    ending = path.suffix.lower()
    if safe and ending not in SAFE:
        raise DataError(f"{path.name} is none of {', '.join(SAFE)}.")
    if ending == ".csv":
        rows = _csv(path, x, y, geometry, delimiter, charset, crs)
    elif ending in (".geojson", ".json"):
        rows = _geojson(path, crs)
    elif ending == ".zip":
        rows = _zipped(path, crs)
    else:
        if ending == ".shp":
            _check_shapefile(path)
        rows = _vectors(path, layer, crs)
    for number, row in enumerate(rows):
        row["id"] = f"{number:08d}"
    return rows


# --------------------------------------------------------------------------------------------
# vectors


def _vectors(path: Path, layer: str | None, crs: str | None) -> list[Feature]:
    import pyogrio

    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer is None and len(layers) > 1:
            raise DataError(
                f"{path} has {len(layers)} layers: {', '.join(layers)}.",
                hint="Choose one: --layer NAME",
            )
        if layer is not None and layer not in layers:
            raise DataError(
                f"{path} has no layer {layer!r}.{nearest(layer, layers)}",
                hint=f"Its layers: {', '.join(layers)}.",
            )
        frame = pyogrio.read_dataframe(path, layer=layer)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as vectors: {error}.") from error
    if not hasattr(frame, "geometry") or "geometry" not in frame:
        raise DataError(f"{path} has no geometries.")
    if frame.crs is None:
        if crs is None:
            raise DataError(
                f"{path} has no coordinate system.", hint="Save it with one, or give it: --crs"
            )
        frame = frame.set_crs(crs)
    return _features(frame)


def _features(frame: Any) -> list[Feature]:
    """Return the rows of a GeoDataFrame with what is missing left out."""
    import pandas as pd

    frame = frame.to_crs(WGS84)
    for name in frame.columns:
        if name != frame.geometry.name and pd.api.types.is_datetime64_any_dtype(frame[name]):
            frame[name] = [None if pd.isna(v) else v.isoformat() for v in frame[name]]
    text = frame.to_json(drop_id=True, na="drop")
    features: list[Feature] = json.loads(text)["features"]
    for feature in features:
        if feature.get("geometry") and not feature["geometry"].get("coordinates", True):
            feature["geometry"] = None  # an empty geometry
    return features


def _check_shapefile(path: Path) -> None:
    """Refuse what only looks like a shapefile: GDAL opens a file by its content."""
    with path.open("rb") as stream:
        if stream.read(4) != b"\x00\x00\x27\x0a":
            raise DataError(f"{path.name} is no shapefile.")
    for other in path.parent.glob(f"{path.stem}.*"):
        if other.is_symlink():
            raise DataError(f"{other.name} beside the shapefile is a link.")


def _zipped(path: Path, crs: str | None) -> list[Feature]:
    """Read a zipped shapefile from a folder of its own; names inside the archive lead nowhere."""
    try:
        with (
            zipfile.ZipFile(path) as archive,
            tempfile.TemporaryDirectory(prefix="emulator-") as folder,
        ):
            members: dict[str, list[zipfile.ZipInfo]] = {}
            for info in archive.infolist():
                name = info.filename.replace("\\", "/").rpartition("/")[2]
                ending = Path(name).suffix.lower()
                if ending in SHAPES and not name.startswith((".", "__")):
                    members.setdefault(ending, []).append(info)
            if len(members.get(".shp", [])) != 1:
                raise DataError(
                    f"{path.name} holds {len(members.get('.shp', []))} shapefiles, expected one."
                )
            if sum(info.file_size for found in members.values() for info in found) > MOST_UNPACKED:
                raise DataError(f"{path.name} is too large when unpacked.")
            stem = Path(members[".shp"][0].filename).stem
            for ending, found in members.items():
                for info in found:
                    if Path(info.filename).stem == stem:
                        Path(folder, f"table{ending}").write_bytes(_unpacked(archive, info))
            target = Path(folder, "table.shp")
            _check_shapefile(target)
            return _vectors(target, None, crs)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{path.name} cannot be read as an archive: {error}.") from error


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as stream:
        content = stream.read(info.file_size + 1)
    if len(content) > info.file_size:
        raise DataError(f"{info.filename} is larger than the archive says.")
    return content


def _geojson(path: Path, crs: str | None) -> list[Feature]:
    import geopandas

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path.name} cannot be read as GeoJSON: {error}.") from error
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "FeatureCollection":
        features = content.get("features")
    elif kind == "Feature":
        features = [content]
    else:
        raise DataError(f"{path.name} is no GeoJSON feature or collection of features.")
    named = content.get("crs") or {}
    name = (named.get("properties") or {}).get("name") if isinstance(named, dict) else None
    try:
        if not features:
            return []
        # The properties stay as JSON has them: a frame would make numbers of whole numbers.
        places = geopandas.GeoSeries(
            [_shape(feature.get("geometry")) for feature in features], crs=name or crs or WGS84
        )
        moved = places if places.crs.to_epsg() == 4326 else places.to_crs(WGS84)
        return [
            {
                "type": "Feature",
                "geometry": None if place is None or place.is_empty else _mapped(place),
                "properties": {
                    key: value
                    for key, value in (feature.get("properties") or {}).items()
                    if value is not None
                },
            }
            for feature, place in zip(features, moved, strict=True)
        ]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path.name} cannot be read as GeoJSON: {error}.") from error


def _shape(geometry: Any) -> Any:
    from shapely.geometry import shape

    return None if not geometry else shape(geometry)


def _mapped(place: Any) -> dict[str, Any]:
    from shapely.geometry import mapping

    found: dict[str, Any] = json.loads(json.dumps(mapping(place)))
    return found


# --------------------------------------------------------------------------------------------
# CSV


def _csv(
    path: Path,
    x: str | None,
    y: str | None,
    geometry: str | None,
    delimiter: str | None,
    charset: str,
    crs: str | None,
) -> list[Feature]:
    import geopandas

    try:
        text = path.read_text(
            encoding="utf-8-sig" if charset.lower() in ("utf-8", "utf8") else charset
        )
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter or ",", restkey="")
        rows = list(reader)
    except (OSError, UnicodeError, LookupError, csv.Error, TypeError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read as CSV: {error}.") from error
    columns = [name for name in reader.fieldnames or () if name]
    if any(row.get("") for row in rows):
        raise DataError(f"{path.name} has a row with more cells than its header has columns.")
    if geometry is None and x is None and y is None:
        geometry = next((name for name in columns if name.lower() in GEOMETRIES), None)
    used: tuple[str, ...]
    if geometry is not None:
        _need(path, columns, geometry)
        places = [_text_geometry(path, row[geometry]) for row in rows]
        used = (geometry,)
    else:
        x = x or next((name for name in columns if name.lower() in LONGITUDES), None)
        y = y or next((name for name in columns if name.lower() in LATITUDES), None)
        if x is None or y is None:
            raise DataError(
                f"{path.name} has no columns of places; its columns are {', '.join(columns)}.",
                hint="Name them: --x COLUMN --y COLUMN",
            )
        _need(path, columns, x)
        _need(path, columns, y)
        places = [_point(path, number, row[x], row[y]) for number, row in enumerate(rows, 2)]
        used = (x, y)
    series = geopandas.GeoSeries(places, crs=crs or WGS84)
    if series.crs.to_epsg() != 4326:
        series = series.to_crs(WGS84)
    values = {name: _column([row[name] for row in rows]) for name in columns if name not in used}
    return [
        {
            "type": "Feature",
            "geometry": None if place is None or place.is_empty else _mapped(place),
            "properties": {
                name: cells[number] for name, cells in values.items() if cells[number] is not None
            },
        }
        for number, place in enumerate(series)
    ]


def _need(path: Path, columns: list[str], name: str) -> None:
    if name not in columns:
        raise DataError(
            f"{path.name} has no column {name!r}.{nearest(name, columns)}",
            hint=f"Its columns: {', '.join(columns)}.",
        )


def _point(path: Path, line: int, x: str | None, y: str | None) -> Any:
    from shapely.geometry import Point

    if not (x or "").strip() and not (y or "").strip():
        return None
    try:
        place = float(x or ""), float(y or "")
    except ValueError:
        raise DataError(f"{path.name}, line {line}: {x!r}, {y!r} is no place.") from None
    if not all(math.isfinite(value) for value in place):
        return None
    return Point(*place)


def _text_geometry(path: Path, text: str | None) -> Any:
    from shapely import wkt
    from shapely.geometry import shape

    if not (text or "").strip():
        return None
    try:
        if str(text).lstrip().startswith("{"):
            return shape(json.loads(str(text)))
        return wkt.loads(str(text))
    except Exception as error:
        raise DataError(f"{path.name}: {str(text)[:60]!r} is no geometry ({error}).") from error


def _column(cells: list[str | None]) -> list[Any]:
    """Return a column's values: numbers where all of them are, else text; None where empty."""
    kept = [None if cell is None or not cell.strip() else cell.strip() for cell in cells]
    filled = [cell for cell in kept if cell is not None]
    try:
        numbers = [float(cell) for cell in filled]
    except ValueError:
        return kept
    # 007 and 1e5 may be codes; a leading zero tells.
    if any(len(cell) > 1 and cell[0] == "0" and cell.isdigit() for cell in filled):
        return kept
    whole = all(cell.lstrip("+-").isdigit() for cell in filled)
    values = iter([int(cell) for cell in filled] if whole else numbers)
    out = [None if cell is None else next(values) for cell in kept]
    return [None if isinstance(v, float) and not math.isfinite(v) else v for v in out]
