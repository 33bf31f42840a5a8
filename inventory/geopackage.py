"""The inventory's tables in a GeoPackage, written with SQLite alone.

One writer for everything keeps each decision a transaction of a few milliseconds; other programs
read and edit the layers through GDAL.
"""

from __future__ import annotations

import sqlite3
import struct
from datetime import UTC, datetime
from typing import Any

import shapely
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

__all__ = ["create", "from_blob", "insert", "may_touch", "now", "tables", "to_blob"]

_SCHEMA = """
CREATE TABLE slumps (
  fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  geom MULTIPOLYGON NOT NULL,
  slump_id TEXT NOT NULL UNIQUE,
  site TEXT NOT NULL,
  round INTEGER NOT NULL,
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  reviewer TEXT NOT NULL,
  candidate_id TEXT,
  area_m2 DOUBLE NOT NULL,
  made_up BOOLEAN NOT NULL,
  added DATETIME NOT NULL
);
CREATE INDEX slumps_site ON slumps (site, round);
CREATE TABLE candidates (
  fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  geom MULTIPOLYGON NOT NULL,
  candidate_id TEXT NOT NULL UNIQUE,
  round INTEGER NOT NULL,
  site TEXT NOT NULL,
  rank INTEGER NOT NULL,
  state TEXT NOT NULL,
  score DOUBLE NOT NULL,
  probability_mean DOUBLE NOT NULL,
  probability_max DOUBLE NOT NULL,
  disagreement DOUBLE NOT NULL,
  filled DOUBLE NOT NULL,
  area_m2 DOUBLE NOT NULL,
  made_up BOOLEAN NOT NULL
);
CREATE INDEX candidates_round ON candidates (round, rank);
CREATE TABLE decisions (
  fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  geom MULTIPOLYGON,
  time DATETIME NOT NULL,
  candidate_id TEXT,
  round INTEGER NOT NULL,
  site TEXT NOT NULL,
  decision TEXT NOT NULL,
  reviewer TEXT NOT NULL,
  kind TEXT NOT NULL,
  edited BOOLEAN NOT NULL,
  note TEXT,
  seconds DOUBLE,
  undoes INTEGER,
  request TEXT NOT NULL UNIQUE
);
CREATE INDEX decisions_candidate ON decisions (candidate_id);
CREATE INDEX decisions_undoes ON decisions (undoes);
CREATE TABLE iterations (
  fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  round INTEGER NOT NULL UNIQUE,
  candidates INTEGER NOT NULL,
  accepted INTEGER NOT NULL,
  rejected INTEGER NOT NULL,
  unsure INTEGER NOT NULL,
  open INTEGER NOT NULL,
  slumps INTEGER NOT NULL,
  area_m2 DOUBLE NOT NULL,
  outcome TEXT NOT NULL
);
"""

_LAYERS = {
    "slumps": "Slumps: brought by users, or accepted in review",
    "candidates": "Outlines that an ensemble proposed, with their state",
    "decisions": "Every decision and every undo, in order; rows are only ever added",
}

_GPKG = """
CREATE TABLE gpkg_spatial_ref_sys (
  srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (
  table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '',
  last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (
  table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL,
  srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
  CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
"""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def create(db: sqlite3.Connection) -> None:
    from pyproj import CRS

    db.execute("PRAGMA application_id = 0x47504B47")
    db.execute("PRAGMA user_version = 10300")
    for statement in (_GPKG + _SCHEMA).split(";"):
        if statement.strip():
            db.execute(statement)
    wgs84 = CRS.from_epsg(4326).to_wkt("WKT1_GDAL")
    db.executemany(
        "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)",
        [
            ("Undefined cartesian SRS", -1, "NONE", -1, "undefined", None),
            ("Undefined geographic SRS", 0, "NONE", 0, "undefined", None),
            ("WGS 84 geodetic", 4326, "EPSG", 4326, wgs84, "longitude and latitude in degrees"),
        ],
    )
    for layer, words in _LAYERS.items():
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
            "VALUES (?, 'features', ?, ?, 4326)",
            (layer, layer, words),
        )
        db.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', 4326, 0, 0)",
            (layer,),
        )
    db.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description) "
        "VALUES ('iterations', 'attributes', 'iterations', 'One row per finished round')"
    )


def to_blob(geometry: MultiPolygon) -> bytes:
    # GeoPackage binary: "GP", version 0, flags (little endian, x and y), EPSG, envelope.
    west, south, east, north = geometry.bounds
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b0000_0011, 4326, west, east, south, north)
    return header + shapely.to_wkb(geometry, byte_order=1)


def from_blob(blob: bytes) -> MultiPolygon:
    # Other programs (QGIS) may write another envelope or none, and plain polygons.
    envelope = (blob[3] >> 1) & 0b111
    start = 8 + {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}[envelope]
    geometry = shapely.force_2d(shapely.from_wkb(blob[start:]))
    if geometry.geom_type == "Polygon":
        geometry = MultiPolygon([geometry])
    assert isinstance(geometry, MultiPolygon)
    return geometry


def may_touch(blob: bytes, box: tuple[float, float, float, float]) -> bool:
    """Tell from the envelope alone whether an outline may lie in a box."""
    if (blob[3] >> 1) & 0b111 != 1:
        return True
    order = "<" if blob[3] & 1 else ">"
    west, east, south, north = struct.unpack(f"{order}4d", blob[8:40])
    return bool(west <= box[2] and east >= box[0] and south <= box[3] and north >= box[1])


def insert(db: sqlite3.Connection, table: str, **values: Any) -> None:
    geometry = values.get("geom")
    if isinstance(geometry, BaseGeometry):
        west, south, east, north = geometry.bounds
        db.execute(
            "UPDATE gpkg_contents SET min_x = min(coalesce(min_x, :w), :w), "
            "min_y = min(coalesce(min_y, :s), :s), max_x = max(coalesce(max_x, :e), :e), "
            "max_y = max(coalesce(max_y, :n), :n) WHERE table_name = :table",
            {"w": west, "s": south, "e": east, "n": north, "table": table},
        )
        values["geom"] = to_blob(geometry)
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
    db.execute("UPDATE gpkg_contents SET last_change = ? WHERE table_name = ?", (now(), table))
