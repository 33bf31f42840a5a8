"""Features as files: CSV, GeoJSON, KML, KMZ, TFRecord and zipped shapefiles.

All take GeoJSON features in longitude and latitude, as `table:computeFeatures` answers.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from .encode import archive
from .errors import EngineError

__all__ = ["FORMATS", "encode_table", "selectors_of"]

Feature = dict[str, Any]
# file format -> (ending, media type)
FORMATS = {
    "CSV": (".csv", "text/csv"),
    "GEO_JSON": (".geojson", "application/geo+json"),
    "JSON": (".json", "application/json"),
    "KML": (".kml", "application/vnd.google-earth.kml+xml"),
    "KMZ": (".kmz", "application/vnd.google-earth.kmz"),
    "SHP": (".zip", "application/zip"),
    "TF_RECORD_TABLE": (".tfrecord.gz", "application/gzip"),
}


def selectors_of(body: dict[str, Any]) -> list[str] | None:
    """Return the properties that a request selects, or None for all.

    Raises
    ------
    EngineError
        They are no list of names.
    """
    given = body.get("selectors") or None
    if isinstance(given, str):
        given = given.split(",")
    if given is not None and not (
        isinstance(given, list) and all(isinstance(name, str) for name in given)
    ):
        raise EngineError("Invalid JSON payload received: 'selectors' is no list of names.")
    return given


def encode_table(
    features: Iterable[Feature],
    file_format: str,
    selectors: Sequence[str] | None = None,
    name: str = "table",
) -> bytes:
    """Return features in a file format.

    Parameters
    ----------
    features : iterable of GeoJSON features
    file_format : str
        A key of `FORMATS`.
    selectors : sequence of str, optional
        The properties to write, in that order; all by default. `.geo` is the geometry and
        `system:index` the id.
    name : str
        Of the files in an archive.

    Raises
    ------
    EngineError
        The format is not one that the emulator writes.

    Examples
    --------
    >>> feature = {"id": "0", "geometry": None, "properties": {"b": 2, "a": 1}}
    >>> encode_table([feature], "CSV").decode().splitlines()
    ['system:index,a,b,.geo', '0,1,2,']
    """
    rows = list(features)
    if file_format == "CSV":
        return _csv(rows, selectors)
    if file_format in ("GEO_JSON", "JSON"):
        chosen = [_selected(row, selectors) for row in rows]
        return json.dumps({"type": "FeatureCollection", "features": chosen}).encode()
    if file_format == "KML":
        return _kml(rows, selectors)
    if file_format == "KMZ":
        return archive({"doc.kml": _kml(rows, selectors)})
    if file_format == "SHP":
        return _shapefile(rows, selectors, name)
    if file_format == "TF_RECORD_TABLE":
        from .tfrecord import table_records

        return table_records(rows, selectors)
    raise EngineError(
        f"Table file format {str(file_format)[:80]} is not implemented in the emulator; it writes "
        f"{', '.join(FORMATS)}."
    )


def _selected(feature: Feature, selectors: Sequence[str] | None) -> Feature:
    properties = feature.get("properties") or {}
    if selectors:
        properties = {name: properties.get(name) for name in selectors if name in properties}
    return {
        "type": "Feature",
        "id": feature.get("id"),
        "geometry": feature.get("geometry"),
        "properties": properties,
    }


def _csv(rows: Sequence[Feature], selectors: Sequence[str] | None) -> bytes:
    if selectors:
        columns = list(selectors)
    else:
        names = {name for row in rows for name in (row.get("properties") or {})}
        columns = ["system:index", *sorted(names - {"system:index"}), ".geo"]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        known = dict(row.get("properties") or {})
        known.setdefault("system:index", row.get("id"))
        geometry = row.get("geometry")
        known.setdefault(".geo", None if geometry is None else geometry)
        writer.writerow([_cell(known.get(name)) for name in columns])
    return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else value


def _kml(rows: Sequence[Feature], selectors: Sequence[str] | None) -> bytes:
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<kml xmlns="http://www.opengis.net/kml/2.2"><Document>',
    ]
    for row in rows:
        feature = _selected(row, selectors)
        data = "".join(
            f'<Data name="{escape(str(name), {chr(34): "&quot;"})}">'
            f"<value>{escape(str(_cell(value)))}</value></Data>"
            for name, value in feature["properties"].items()
        )
        parts.append(
            f"<Placemark><name>{escape(str(feature['id']))}</name>"
            f"<ExtendedData>{data}</ExtendedData>{_kml_geometry(feature['geometry'])}</Placemark>"
        )
    return "\n".join([*parts, "</Document></kml>"]).encode()


def _kml_geometry(geometry: dict[str, Any] | None) -> str:
    if geometry is None:
        return ""

    def text(points: Any) -> str:
        pairs = " ".join(",".join(str(v) for v in point) for point in points)
        return f"<coordinates>{pairs}</coordinates>"

    def polygon(rings: Any) -> str:
        out = f"<outerBoundaryIs><LinearRing>{text(rings[0])}</LinearRing></outerBoundaryIs>"
        for ring in rings[1:]:
            out += f"<innerBoundaryIs><LinearRing>{text(ring)}</LinearRing></innerBoundaryIs>"
        return f"<Polygon>{out}</Polygon>"

    kind, places = geometry["type"], geometry.get("coordinates") or []
    if kind == "Point":
        return f"<Point>{text([places])}</Point>"
    if kind in ("LineString", "LinearRing"):
        return f"<{kind}>{text(places)}</{kind}>"
    if kind == "Polygon":
        return polygon(places)
    if kind == "GeometryCollection":
        members = [_kml_geometry(part) for part in geometry["geometries"]]
    else:
        single = kind.removeprefix("Multi")
        members = [_kml_geometry({"type": single, "coordinates": part}) for part in places]
    return f"<MultiGeometry>{''.join(members)}</MultiGeometry>"


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names of 10 bytes at most, as columns of a shapefile have them, no two alike.

    Examples
    --------
    >>> list(_short_names(["n", "a_long_name_1", "a_long_name_2", "geometry"]).values())
    ['n', 'a_long_nam', 'a_long_n_1', 'geometry_1']
    """
    taken = {"geometry"}
    out = {}
    for name in names:
        kept = name.encode()[:10].decode(errors="ignore") or "_"
        number = 0
        while kept.lower() in taken:  # their readers do not tell capitals apart
            number += 1
            end = f"_{number}"
            kept = name.encode()[: 10 - len(end)].decode(errors="ignore") + end
        taken.add(kept.lower())
        out[name] = kept
    return out


def _shapefile(
    rows: Sequence[Feature], selectors: Sequence[str] | None, name: str = "table"
) -> bytes:
    import geopandas

    chosen = [_selected(row, selectors) for row in rows]
    kinds = {
        (row["geometry"] or {}).get("type", "").removeprefix("Multi")
        for row in chosen
        if row["geometry"]
    }
    if len(kinds) != 1:
        raise EngineError(
            f"A shapefile holds one kind of geometry; the table has {sorted(kinds) or 'none'}."
        )
    columns = {key: None for row in chosen for key in row["properties"]}
    short = _short_names(list(columns))
    for row in chosen:
        row["properties"] = {
            short[key]: _cell(value) if isinstance(value, dict | list) else value
            for key, value in row["properties"].items()
        }
    frame = geopandas.GeoDataFrame.from_features(chosen, crs="EPSG:4326")
    with tempfile.TemporaryDirectory(prefix="emulator-") as folder:
        frame.to_file(Path(folder, f"{name}.shp"), driver="ESRI Shapefile", engine="pyogrio")
        files = sorted(Path(folder).iterdir())
        return archive({path.name: path.read_bytes() for path in files})
