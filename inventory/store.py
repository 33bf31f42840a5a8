"""The inventory: one GeoPackage of slumps, candidates, decisions and iterations.

The file opens in QGIS as it is. Every change is one SQLite transaction that is on the disk before
the call returns, so a process killed at any moment leaves the last acknowledged decision and
nothing half done. The layer ``decisions`` is append-only: an undo is a row that names the row it
takes back. The state of a candidate (and the slump that an accepted one becomes) follows from the
last decision that was not taken back, and is kept beside it in the same transaction so that QGIS
can colour by it.

All geometries are longitude and latitude (EPSG:4326), rounded to 1e-7 degrees (about a
centimetre), normalised, as MultiPolygon.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from thawslump.errors import BusyError, DataError, StorageError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = [
    "DECISIONS",
    "KINDS",
    "Candidate",
    "Decision",
    "DecisionConflict",
    "Inventory",
    "areas",
    "as_feature",
    "canonical_dump",
    "canonical_geometry",
    "stable_id",
    "with_rank",
]

DECISIONS = {"accept": "accepted", "reject": "rejected", "unsure": "unsure"}
"""Decision -> state of the candidate."""

KINDS = ("people", "scripted", "import")
"""Who decided: people, a script (always named so), or outlines that a user brought."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "inventory.thawslump")
_DIGITS = 7
_PATIENCE = 20.0  # seconds that another program may keep the file

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


class DecisionConflict(DataError):
    """Another reviewer decided the candidate since it was shown."""


@dataclass(frozen=True)
class Candidate:
    """An outline that an ensemble proposed.

    Attributes
    ----------
    candidate_id : str
        UUID5 of round, site and outline: the same outline has the same name in every run.
    round, rank : int
        Round of the iteration; place in the order of review, 1 first.
    site : str
    geometry : MultiPolygon
        EPSG:4326.
    probability_mean, probability_max, disagreement, filled : float
        0..1; means over the outline's pixels (`probability_max` excepted).
    area_m2, score : float
        Geodesic area; what the order of review is by, 0..1.
    made_up : bool
    state : {"open", "accepted", "rejected", "unsure"}
    """

    candidate_id: str
    round: int
    site: str
    rank: int
    geometry: MultiPolygon
    probability_mean: float
    probability_max: float
    disagreement: float
    filled: float
    area_m2: float
    score: float
    made_up: bool
    state: str = "open"


@dataclass(frozen=True)
class Decision:
    """A row of the layer ``decisions``.

    Attributes
    ----------
    number : int
        Counts up; the order in which decisions were made.
    time : str
        UTC, ISO 8601.
    candidate_id : str or None
        None for an import of outlines.
    decision : {"accept", "reject", "unsure", "undo", "import"}
    reviewer : str
    kind : {"people", "scripted", "import"}
    edited : bool
        The reviewer changed the outline; `geometry` is the changed one.
    undoes : int or None
        Number of the decision that this row takes back.
    """

    number: int
    time: str
    candidate_id: str | None
    round: int
    site: str
    decision: str
    reviewer: str
    kind: str
    edited: bool
    note: str | None
    seconds: float | None
    undoes: int | None
    request: str
    geometry: MultiPolygon | None


def canonical_geometry(geometry: BaseGeometry) -> MultiPolygon:
    """Return an outline as a normalised MultiPolygon on the 1e-7 degree grid.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon
        EPSG:4326.

    Returns
    -------
    MultiPolygon

    Raises
    ------
    DataError
        Not a polygon, empty, or outside -180..180 / -90..90 degrees.

    Examples
    --------
    >>> canonical_geometry(shapely.box(0, 0, 1.00000000001, 1)).wkt
    'MULTIPOLYGON (((0 0, 0 1, 1 1, 1 0, 0 0)))'
    """
    if geometry.is_empty or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        raise DataError(
            f"An outline must be a Polygon or MultiPolygon that is not empty; "
            f"this one is {'empty' if geometry.is_empty else 'a ' + geometry.geom_type}.",
            hint="Draw the outline again, or leave the feature out.",
        )
    west, south, east, north = geometry.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise DataError(
            f"An outline spans {west:.6g}..{east:.6g}, {south:.6g}..{north:.6g}: "
            "longitude and latitude in degrees were expected.",
            hint="Bring the outlines to EPSG:4326 first.",
        )
    rounded = shapely.transform(shapely.force_2d(geometry), lambda xy: np.round(xy, _DIGITS) + 0.0)
    if not rounded.is_valid:
        rounded = shapely.make_valid(rounded, method="structure", keep_collapsed=False)
    if rounded.is_empty or rounded.geom_type not in ("Polygon", "MultiPolygon"):
        raise DataError(
            "An outline has no area once rounded to a centimetre.",
            hint="Draw the outline again, or leave the feature out.",
        )
    if rounded.geom_type == "Polygon":
        rounded = MultiPolygon([rounded])
    normal = shapely.normalize(rounded)
    assert isinstance(normal, MultiPolygon)
    return normal


def stable_id(*parts: object) -> str:
    """Return the UUID5 of some words and outlines: equal parts, equal name.

    Examples
    --------
    >>> stable_id(1, "a") == stable_id(1, "a") != stable_id(1, "b")
    True
    """
    text = "|".join(p.wkb_hex if isinstance(p, BaseGeometry) else str(p) for p in parts)
    return str(uuid.uuid5(_NAMESPACE, text))


class Inventory:
    """The inventory of a workspace.

    Every method opens the file, does its work in one transaction and closes it again: several
    processes (the review server, a run, QGIS) can use the file at the same time.

    Parameters
    ----------
    path : Path
        ``inventory.gpkg``; made where absent.

    Raises
    ------
    DataError
        The file is no GeoPackage, or not one of this program's.
    BusyError
        Another program keeps the file locked for longer than 20 seconds.
    StorageError
        The disk is full or the file not writable.

    Examples
    --------
    >>> import tempfile
    >>> inventory = Inventory(Path(tempfile.mkdtemp()) / "inventory.gpkg")
    >>> inventory.counts()
    {}
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise DataError(
                f"{self.path.parent} does not exist, so {self.path.name} cannot be made there.",
                hint="Give the folder of a workspace.",
            )
        with self._open() as db:
            tables = _tables(db)
        if not tables:
            with self._transaction() as db:
                if not _tables(db):
                    _create(db)
                tables = _tables(db)
        if not {"gpkg_contents", "slumps", "candidates", "decisions", "iterations"} <= tables:
            raise DataError(
                f"{self.path} is not an inventory of this program: it lacks the layers "
                "slumps, candidates, decisions and iterations.",
                hint="Move that file away; a new inventory is made in its place.",
            )

    # ------------------------------------------------------------------ connections

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                # EXTRA also syncs the folder after the journal is removed: a decision that
                # was acknowledged survives a power cut, not only a kill.
                db.execute("PRAGMA synchronous = EXTRA")
                yield db
            finally:
                db.close()
        except sqlite3.OperationalError as error:
            words = str(error)
            if "locked" in words or "busy" in words:
                raise BusyError(
                    f"{self.path} is locked by another program.",
                    hint="Save and close the layer's edits (in QGIS: toggle editing), then repeat.",
                ) from error
            if "full" in words:
                raise StorageError(
                    f"The disk is full: {self.path} could not be written. "
                    "What was there before is unchanged.",
                    hint="Free some space, then do the same again.",
                ) from error
            raise StorageError(
                f"{self.path} could not be opened for writing: {words}.",
                hint="Check that the folder exists and that you may write to it.",
            ) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise DataError(
                f"{self.path} is damaged or is no GeoPackage: {error}.",
                hint="Restore it from a copy, or move it away to begin a new inventory.",
            ) from error

    # ------------------------------------------------------------------ slumps

    def import_outlines(
        self,
        site: str,
        outlines: GeoDataFrame,
        *,
        source: str,
        made_up: bool = False,
        reviewer: str = "import",
    ) -> int:
        """Make the outlines that a user brought for a site those of the inventory.

        Parameters
        ----------
        site : str
        outlines : GeoDataFrame
            Polygons in any CRS; their areas are geodesic.
        source : str
            Where they come from, for the layer's column.
        made_up : bool
        reviewer : str

        Returns
        -------
        int
            Outlines of the site that came or went; 0 where the same ones were there.
        """
        shapes = _lonlat(outlines)
        wanted = {
            stable_id("import", site, g): (g, a) for g, a in zip(shapes, areas(shapes), strict=True)
        }
        with self._transaction() as db:
            there = {
                row["slump_id"]
                for row in db.execute(
                    "SELECT slump_id FROM slumps WHERE site = ? AND kind = 'import'", (site,)
                )
            }
            gone = there - wanted.keys()
            new = sorted(wanted.keys() - there)
            if not gone and not new:
                return 0
            db.executemany("DELETE FROM slumps WHERE slump_id = ?", [(i,) for i in sorted(gone)])
            now = _now()
            for identity in new:
                geometry, area = wanted[identity]
                _insert(
                    db,
                    "slumps",
                    geom=geometry,
                    slump_id=identity,
                    site=site,
                    round=0,
                    source=source,
                    kind="import",
                    reviewer=reviewer,
                    candidate_id=None,
                    area_m2=area,
                    made_up=made_up,
                    added=now,
                )
            _insert(
                db,
                "decisions",
                geom=None,
                time=now,
                candidate_id=None,
                round=0,
                site=site,
                decision="import",
                reviewer=reviewer,
                kind="import",
                edited=False,
                note=f"{len(new)} outlines from {source}; {len(gone)} earlier ones went",
                seconds=None,
                undoes=None,
                request=str(uuid.uuid4()),
            )
            return len(gone) + len(new)

    def slumps(self, site: str | None = None, *, before: int | None = None) -> GeoDataFrame:
        """Return the slumps.

        Parameters
        ----------
        site : str, optional
            Only those of one site.
        before : int, optional
            Only imported ones and those accepted in rounds below this one.

        Returns
        -------
        GeoDataFrame
            EPSG:4326, sorted by site and slump_id; columns of the layer.
        """
        import geopandas

        where, values = _where(site=site, before=before)
        with self._open() as db:
            rows = db.execute(
                f"SELECT * FROM slumps {where} ORDER BY site, slump_id", values
            ).fetchall()
        columns = ("slump_id", "site", "round", "source", "kind", "reviewer", "candidate_id",
                   "area_m2", "made_up", "added")  # fmt: skip
        return geopandas.GeoDataFrame(
            {name: [row[name] for row in rows] for name in columns},
            geometry=[_from_blob(row["geom"]) for row in rows],
            crs="EPSG:4326",
        ).astype({"made_up": bool})

    def imported(self, site: str) -> int:
        """Return how many outlines of a site a user brought."""
        with self._open() as db:
            row = db.execute(
                "SELECT count(*) FROM slumps WHERE site = ? AND kind = 'import'", (site,)
            ).fetchone()
        return int(row[0])

    def looked_at(self, site: str, *, before: int) -> bool:
        """Return whether a site has slumps or decided candidates of rounds below `before`."""
        with self._open() as db:
            row = db.execute(
                "SELECT EXISTS (SELECT 1 FROM slumps WHERE site = ?1 AND round < ?2) OR EXISTS "
                "(SELECT 1 FROM candidates WHERE site = ?1 AND round < ?2 AND state <> 'open')",
                (site, before),
            ).fetchone()
        return bool(row[0])

    # ------------------------------------------------------------------ candidates

    def add_candidates(self, round: int, site: str, candidates: Sequence[Candidate]) -> int:
        """Put the candidates of a round and site into the inventory.

        The same candidates again change nothing. Where they differ from what an earlier run of
        the same round proposed, earlier ones that nobody decided go; decided ones stay, for a
        decision is never thrown away.

        Returns
        -------
        int
            Number of candidates that came or went.
        """
        wanted = {c.candidate_id: c for c in candidates}
        wrong = [c for c in candidates if (c.round, c.site) != (round, site)]
        if wrong:
            raise DataError(
                f"Candidate {wrong[0].candidate_id} is of round {wrong[0].round}, site "
                f"{wrong[0].site}; round {round}, site {site} was expected.",
                hint="Add the candidates of each round and site by themselves.",
            )
        with self._transaction() as db:
            there = {
                row["candidate_id"]: row["state"]
                for row in db.execute(
                    "SELECT candidate_id, state FROM candidates WHERE round = ? AND site = ?",
                    (round, site),
                )
            }
            gone = sorted(i for i, s in there.items() if s == "open" and i not in wanted)
            new = [c for i, c in wanted.items() if i not in there]
            db.executemany("DELETE FROM candidates WHERE candidate_id = ?", [(i,) for i in gone])
            for c in new:
                _insert(
                    db,
                    "candidates",
                    geom=c.geometry,
                    candidate_id=c.candidate_id,
                    round=c.round,
                    site=c.site,
                    rank=c.rank,
                    state="open",
                    score=c.score,
                    probability_mean=c.probability_mean,
                    probability_max=c.probability_max,
                    disagreement=c.disagreement,
                    filled=c.filled,
                    area_m2=c.area_m2,
                    made_up=c.made_up,
                )
                # A decision made before the candidate went and came again still holds.
                _refresh(db, c.candidate_id)
            db.executemany(
                "UPDATE candidates SET rank = ?, score = ? WHERE candidate_id = ?",
                [(c.rank, c.score, i) for i, c in wanted.items() if i in there],
            )
            return len(gone) + len(new)

    def candidates(
        self, round: int | None = None, *, site: str | None = None, before: int | None = None,
        state: str | None = None,
    ) -> list[Candidate]:  # fmt: skip
        """Return candidates in the order of review (round, rank, id)."""
        where, values = _where(round=round, site=site, before=before, state=state)
        with self._open() as db:
            rows = db.execute(
                f"SELECT * FROM candidates {where} ORDER BY round, rank, candidate_id", values
            ).fetchall()
        return [_candidate(row) for row in rows]

    def open_candidates(self, round: int) -> list[Candidate]:
        """Return the candidates of a round that nobody decided yet, in the order of review."""
        return self.candidates(round, state="open")

    def candidate(self, candidate_id: str) -> Candidate:
        """Return one candidate; DataError where there is none of that name."""
        with self._open() as db:
            return _candidate(_known(db, candidate_id))

    def around(
        self, box: tuple[float, float, float, float], round: int
    ) -> dict[str, list[tuple[str, MultiPolygon]]]:
        """Return what lies in a box: slumps, and open candidates of a round.

        Parameters
        ----------
        box : (west, south, east, north)
            Degrees.
        round : int

        Returns
        -------
        dict
            "slumps" and "open": pairs of id and outline.
        """
        view = shapely.box(*box)
        with self._open() as db:
            slumps = db.execute("SELECT slump_id, geom FROM slumps ORDER BY slump_id").fetchall()
            left = db.execute(
                "SELECT candidate_id, geom FROM candidates WHERE round = ? AND state = 'open' "
                "ORDER BY candidate_id",
                (round,),
            ).fetchall()
        found: dict[str, list[tuple[str, MultiPolygon]]] = {}
        for name, rows in (("slumps", slumps), ("open", left)):
            near = [(row[0], row[1]) for row in rows if _near(row[1], box)]
            shapes = [(identity, _from_blob(blob)) for identity, blob in near]
            found[name] = [(i, g) for i, g in shapes if g.intersects(view)]
        return found

    def counts(self, round: int | None = None) -> dict[str, int]:
        """Return how many candidates are in which state.

        Returns
        -------
        dict
            Keys are those of "open", "accepted", "rejected", "unsure" that occur.
        """
        where, values = _where(round=round)
        with self._open() as db:
            rows = db.execute(
                f"SELECT state, count(*) FROM candidates {where} GROUP BY state ORDER BY state",
                values,
            ).fetchall()
        return {row[0]: row[1] for row in rows}

    def rounds(self) -> list[int]:
        """Return the rounds that have candidates, ascending."""
        with self._open() as db:
            rows = db.execute("SELECT DISTINCT round FROM candidates ORDER BY round").fetchall()
        return [row[0] for row in rows]

    # ------------------------------------------------------------------ decisions

    def decide(
        self,
        candidate_id: str,
        decision: str,
        reviewer: str,
        *,
        kind: str = "people",
        geometry: BaseGeometry | None = None,
        note: str | None = None,
        seconds: float | None = None,
        expected: str | None = None,
        request: str | None = None,
    ) -> Decision:
        """Record a decision; it is on the disk when this returns.

        Parameters
        ----------
        candidate_id : str
        decision : {"accept", "reject", "unsure"}
        reviewer : str
        kind : {"people", "scripted"}
        geometry : polygon, optional
            The outline as the reviewer corrected it, EPSG:4326.
        note : str, optional
        seconds : float, optional
            How long the reviewer looked, >= 0.
        expected : str, optional
            State of the candidate as the reviewer saw it.
        request : str, optional
            A name for this decision, made up by the client. Sent twice (the answer to the first
            was lost), the decision is recorded once.

        Returns
        -------
        Decision

        Raises
        ------
        DecisionConflict
            `expected` is given, and someone else decided in between.
        DataError
            Unknown candidate, decision or kind, no reviewer, or the outline is not usable.
        """
        if decision not in DECISIONS:
            raise DataError(
                f"{decision!r} is no decision.", hint=f"Use one of {', '.join(DECISIONS)}."
            )
        _check_reviewer(reviewer, kind)
        shape = None if geometry is None else canonical_geometry(geometry)
        token = request or str(uuid.uuid4())
        with self._transaction() as db:
            known = _by_request(db, token)
            if known is not None:
                return known
            row = _known(db, candidate_id)
            if expected is not None and row["state"] != expected:
                raise DecisionConflict(
                    f"The candidate is {row['state']} by now; it was {expected} when it was shown.",
                    hint="Look at it again, then decide.",
                )
            edited = shape is not None and shape.wkb != _from_blob(row["geom"]).wkb
            _insert(
                db,
                "decisions",
                geom=shape if edited else None,
                time=_now(),
                candidate_id=candidate_id,
                round=row["round"],
                site=row["site"],
                decision=decision,
                reviewer=reviewer,
                kind=kind,
                edited=edited,
                note=note or None,
                seconds=None if seconds is None else max(0.0, float(seconds)),
                undoes=None,
                request=token,
            )
            _refresh(db, candidate_id)
            made = _by_request(db, token)
            assert made is not None
            return made

    def undo(
        self,
        reviewer: str,
        *,
        kind: str = "people",
        round: int | None = None,
        request: str | None = None,
    ) -> Decision | None:
        """Take back the reviewer's last decision that still stands.

        Returns
        -------
        Decision or None
            The decision that was taken back; None where the reviewer has none.
        """
        _check_reviewer(reviewer, kind)
        token = request or str(uuid.uuid4())
        with self._transaction() as db:
            known = _by_request(db, token)
            if known is not None and known.undoes is not None:
                return _by_number(db, known.undoes)
            row = db.execute(
                "SELECT fid FROM decisions WHERE reviewer = ? AND candidate_id IS NOT NULL "
                "AND decision <> 'undo' AND (? IS NULL OR round = ?) "
                "AND fid NOT IN (SELECT undoes FROM decisions WHERE undoes IS NOT NULL) "
                "ORDER BY fid DESC LIMIT 1",
                (reviewer, round, round),
            ).fetchone()
            if row is None:
                return None
            last = _by_number(db, row["fid"])
            assert last.candidate_id is not None
            _insert(
                db,
                "decisions",
                geom=None,
                time=_now(),
                candidate_id=last.candidate_id,
                round=last.round,
                site=last.site,
                decision="undo",
                reviewer=reviewer,
                kind=kind,
                edited=False,
                note=None,
                seconds=None,
                undoes=last.number,
                request=token,
            )
            _refresh(db, last.candidate_id)
            return last

    def decisions(self, candidate_id: str | None = None) -> list[Decision]:
        """Return decisions in the order they were made, those taken back and undos included."""
        with self._open() as db:
            if candidate_id is None:
                rows = db.execute("SELECT * FROM decisions ORDER BY fid").fetchall()
            else:
                rows = db.execute(
                    "SELECT * FROM decisions WHERE candidate_id = ? ORDER BY fid", (candidate_id,)
                ).fetchall()
        return [_decision(row) for row in rows]

    def standing(self, candidate_id: str) -> Decision | None:
        """Return the decision that stands for a candidate, None where it is open."""
        with self._open() as db:
            return _standing(db, candidate_id)

    # ------------------------------------------------------------------ iterations

    def record_iteration(self, round: int, outcome: str) -> dict[str, int | float | str]:
        """Write the numbers of a finished round into the layer ``iterations``.

        Parameters
        ----------
        round : int
        outcome : str
            Why the iteration went on or ended, in words.

        Returns
        -------
        dict
            The row: round, candidates, accepted, rejected, unsure, open, slumps and area_m2 (the
            whole inventory after the round), outcome.
        """
        counts = self.counts(round)
        with self._transaction() as db:
            total = db.execute(
                "SELECT count(*), coalesce(sum(area_m2), 0) FROM slumps WHERE round <= ?", (round,)
            ).fetchone()
            row: dict[str, int | float | str] = {
                "round": round,
                "candidates": sum(counts.values()),
                "accepted": counts.get("accepted", 0),
                "rejected": counts.get("rejected", 0),
                "unsure": counts.get("unsure", 0),
                "open": counts.get("open", 0),
                "slumps": total[0],
                "area_m2": total[1],
                "outcome": outcome,
            }
            there = db.execute("SELECT * FROM iterations WHERE round = ?", (round,)).fetchone()
            if there is None or any(there[name] != value for name, value in row.items()):
                db.execute("DELETE FROM iterations WHERE round = ?", (round,))
                _insert(db, "iterations", **row)
            return row

    def iterations(self) -> list[dict[str, Any]]:
        """Return the rows of the layer ``iterations``, by round."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM iterations ORDER BY round").fetchall()
        return [{k: row[k] for k in row.keys() if k != "fid"} for row in rows]  # noqa: SIM118

    # ------------------------------------------------------------------ what depends on it

    def digest(self, site: str | None = None, *, before: int | None = None) -> str:
        """Return a checksum of what labels depend on.

        That is: the slumps, and the decided candidates with their state; of rounds below
        `before` where given. Times, reviewers and row numbers do not enter.

        Returns
        -------
        str
            SHA-256 in hexadecimal digits.
        """
        where, values = _where(site=site, before=before)
        total = hashlib.sha256()
        with self._open() as db:
            for row in db.execute(
                f"SELECT site, geom FROM slumps {where} ORDER BY site, slump_id", values
            ):
                total.update(f"slump|{row['site']}|".encode())
                total.update(_from_blob(row["geom"]).wkb)
            where = f"{where} {'AND' if where else 'WHERE'} state <> 'open'"
            for row in db.execute(
                f"SELECT site, state, geom FROM candidates {where} ORDER BY site, candidate_id",
                values,
            ):
                total.update(f"candidate|{row['site']}|{row['state']}|".encode())
                total.update(_from_blob(row["geom"]).wkb)
        return total.hexdigest()

    def problems(self) -> list[str]:
        """Return where the kept states differ from what the decisions say; empty when sound."""
        found = []
        with self._open() as db:
            for row in db.execute("SELECT candidate_id, state FROM candidates"):
                standing = _standing(db, row["candidate_id"])
                state = "open" if standing is None else DECISIONS[standing.decision]
                slump = db.execute(
                    "SELECT count(*) FROM slumps WHERE candidate_id = ?", (row["candidate_id"],)
                ).fetchone()[0]
                if state != row["state"]:
                    found.append(
                        f"candidate {row['candidate_id']} is kept as {row['state']}, "
                        f"its decisions say {state}"
                    )
                if slump != int(state == "accepted"):
                    found.append(
                        f"candidate {row['candidate_id']} is {state} and has {slump} slumps"
                    )
        return found


def canonical_dump(path: Path) -> str:
    """Return the inventory as text that is equal for equal inventories.

    Rows are sorted; times, row numbers, request names and the seconds a reviewer took are left
    out; numbers are rounded to 4 digits after the point.

    Parameters
    ----------
    path : Path
        ``inventory.gpkg``.

    Returns
    -------
    str
        One JSON object per line.
    """
    lines: list[str] = []
    left_out = {
        "slumps": {"fid", "geom", "added"},
        "candidates": {"fid", "geom"},
        "decisions": {"fid", "geom", "time", "request", "seconds", "undoes"},
        "iterations": {"fid"},
    }
    inventory = Inventory(path)
    with inventory._open() as db:
        undone = {
            row[0] for row in db.execute("SELECT undoes FROM decisions WHERE undoes IS NOT NULL")
        }
        for layer, hidden in left_out.items():
            part = []
            for row in db.execute(f"SELECT * FROM {layer}"):
                record: dict[str, Any] = {"layer": layer}
                for name in row.keys():  # noqa: SIM118
                    value = row[name]
                    if name == "geom" and value is not None:
                        record["geometry"] = _from_blob(value).wkt
                    elif name not in hidden and name != "geom":
                        record[name] = round(value, 4) if isinstance(value, float) else value
                if layer == "decisions":
                    record["taken back"] = row["fid"] in undone
                part.append(json.dumps(record, sort_keys=True, ensure_ascii=False))
            lines += sorted(part)
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------- rows


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _check_reviewer(reviewer: str, kind: str) -> None:
    if not reviewer.strip() or len(reviewer) > 100:
        raise DataError(
            "A decision needs the reviewer's name, 1 to 100 characters.",
            hint="Enter a name at the top of the page.",
        )
    if kind not in KINDS:
        raise DataError(f"{kind!r} is no kind of reviewer.", hint=f"Use {', '.join(KINDS)}.")
    if kind == "people" and reviewer.strip().lower() == "scripted":
        raise DataError(
            "The name scripted is kept for the scripted reviewer.",
            hint="Enter your own name.",
        )


def _where(
    *,
    round: int | None = None,
    site: str | None = None,
    before: int | None = None,
    state: str | None = None,
) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for clause, value in (
        ("round = ?", round),
        ("site = ?", site),
        ("round < ?", before),
        ("state = ?", state),
    ):
        if value is not None:
            parts.append(clause)
            values.append(value)
    return ("WHERE " + " AND ".join(parts) if parts else "", values)


def _insert(db: sqlite3.Connection, table: str, **values: Any) -> None:
    geometry = values.get("geom")
    if isinstance(geometry, BaseGeometry):
        west, south, east, north = geometry.bounds
        db.execute(
            "UPDATE gpkg_contents SET min_x = min(coalesce(min_x, ?1), ?1), "
            "min_y = min(coalesce(min_y, ?2), ?2), max_x = max(coalesce(max_x, ?3), ?3), "
            "max_y = max(coalesce(max_y, ?4), ?4) WHERE table_name = ?5",
            (west, south, east, north, table),
        )
        values["geom"] = _to_blob(geometry)
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
    db.execute("UPDATE gpkg_contents SET last_change = ? WHERE table_name = ?", (_now(), table))


def _known(db: sqlite3.Connection, candidate_id: str) -> sqlite3.Row:
    row = db.execute("SELECT * FROM candidates WHERE candidate_id = ?", (candidate_id,)).fetchone()
    if row is None:
        raise DataError(
            f"There is no candidate {candidate_id!r} in the inventory.",
            hint="The round may have been computed anew; load the page again.",
        )
    assert isinstance(row, sqlite3.Row)
    return row


def _standing(db: sqlite3.Connection, candidate_id: str) -> Decision | None:
    row = db.execute(
        "SELECT * FROM decisions WHERE candidate_id = ? AND decision <> 'undo' "
        "AND fid NOT IN (SELECT undoes FROM decisions WHERE undoes IS NOT NULL) "
        "ORDER BY fid DESC LIMIT 1",
        (candidate_id,),
    ).fetchone()
    return None if row is None else _decision(row)


def _refresh(db: sqlite3.Connection, candidate_id: str) -> None:
    """Bring a candidate's state and its slump in line with the decision that stands."""
    row = _known(db, candidate_id)
    standing = _standing(db, candidate_id)
    state = "open" if standing is None else DECISIONS[standing.decision]
    db.execute("UPDATE candidates SET state = ? WHERE candidate_id = ?", (state, candidate_id))
    db.execute("DELETE FROM slumps WHERE candidate_id = ?", (candidate_id,))
    if standing is None or state != "accepted":
        return
    shape = standing.geometry
    area = row["area_m2"]
    if shape is None:
        shape = _from_blob(row["geom"])
    else:
        area = areas([shape])[0]
    _insert(
        db,
        "slumps",
        geom=shape,
        slump_id=candidate_id,
        site=row["site"],
        round=row["round"],
        source=f"review of round {row['round']}",
        kind=standing.kind,
        reviewer=standing.reviewer,
        candidate_id=candidate_id,
        area_m2=area,
        made_up=row["made_up"],
        added=standing.time,
    )


def _by_request(db: sqlite3.Connection, request: str) -> Decision | None:
    row = db.execute("SELECT * FROM decisions WHERE request = ?", (request,)).fetchone()
    return None if row is None else _decision(row)


def _by_number(db: sqlite3.Connection, number: int) -> Decision:
    return _decision(db.execute("SELECT * FROM decisions WHERE fid = ?", (number,)).fetchone())


def _candidate(row: sqlite3.Row) -> Candidate:
    return Candidate(
        candidate_id=row["candidate_id"],
        round=row["round"],
        site=row["site"],
        rank=row["rank"],
        geometry=_from_blob(row["geom"]),
        probability_mean=row["probability_mean"],
        probability_max=row["probability_max"],
        disagreement=row["disagreement"],
        filled=row["filled"],
        area_m2=row["area_m2"],
        score=row["score"],
        made_up=bool(row["made_up"]),
        state=row["state"],
    )


def _decision(row: sqlite3.Row) -> Decision:
    return Decision(
        number=row["fid"],
        time=row["time"],
        candidate_id=row["candidate_id"],
        round=row["round"],
        site=row["site"],
        decision=row["decision"],
        reviewer=row["reviewer"],
        kind=row["kind"],
        edited=bool(row["edited"]),
        note=row["note"],
        seconds=row["seconds"],
        undoes=row["undoes"],
        request=row["request"],
        geometry=None if row["geom"] is None else _from_blob(row["geom"]),
    )


# ---------------------------------------------------------------------- GeoPackage


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _create(db: sqlite3.Connection) -> None:
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


def _to_blob(geometry: MultiPolygon) -> bytes:
    # GeoPackage binary: "GP", version 0, flags (little endian, x and y), EPSG, envelope.
    west, south, east, north = geometry.bounds
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b0000_0011, 4326, west, east, south, north)
    return header + shapely.to_wkb(geometry, byte_order=1)


def _from_blob(blob: bytes) -> MultiPolygon:
    # Other programs (QGIS) may write another envelope or none, and plain polygons.
    envelope = (blob[3] >> 1) & 0b111
    start = 8 + {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}[envelope]
    geometry = shapely.force_2d(shapely.from_wkb(blob[start:]))
    if geometry.geom_type == "Polygon":
        geometry = MultiPolygon([geometry])
    assert isinstance(geometry, MultiPolygon)
    return geometry


def _near(blob: bytes, box: tuple[float, float, float, float]) -> bool:
    """Tell from the envelope alone whether an outline may lie in a box."""
    if (blob[3] >> 1) & 0b111 != 1:
        return True
    order = "<" if blob[3] & 1 else ">"
    west, east, south, north = struct.unpack(f"{order}4d", blob[8:40])
    return bool(west <= box[2] and east >= box[0] and south <= box[3] and north >= box[1])


def _lonlat(outlines: GeoDataFrame) -> list[MultiPolygon]:
    if outlines.crs is None:
        raise DataError(
            "The outlines have no CRS, so they cannot be placed.",
            hint="Set it first, for example outlines.set_crs('EPSG:4326').",
        )
    return [canonical_geometry(g) for g in outlines.geometry.to_crs("EPSG:4326")]


def areas(shapes: Iterable[BaseGeometry]) -> list[float]:
    """Return geodesic areas on the WGS 84 ellipsoid in square metres.

    Parameters
    ----------
    shapes : iterable of polygons
        EPSG:4326; rings in the order that `shapely.normalize` gives (holes against the shell).

    Examples
    --------
    >>> round(areas([canonical_geometry(shapely.box(0, 0, 0.001, 0.001))])[0], 1)
    12309.1
    """
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    return [abs(geod.geometry_area_perimeter(shape)[0]) for shape in shapes]


def with_rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates ranked by score, highest first; equal scores by id."""
    ordered = sorted(candidates, key=lambda c: (-c.score, c.candidate_id))
    return [replace(c, rank=i) for i, c in enumerate(ordered, start=1)]


def as_feature(candidate: Candidate) -> Mapping[str, Any]:
    """Return a candidate as a GeoJSON feature (RFC 7946)."""
    shape = shapely.orient_polygons(candidate.geometry)
    return {
        "type": "Feature",
        "id": candidate.candidate_id,
        "geometry": shapely.geometry.mapping(shape),
        "properties": {
            "round": candidate.round,
            "site": candidate.site,
            "rank": candidate.rank,
            "score": round(candidate.score, 4),
            "probability_mean": round(candidate.probability_mean, 4),
            "probability_max": round(candidate.probability_max, 4),
            "disagreement": round(candidate.disagreement, 4),
            "filled": round(candidate.filled, 4),
            "area_m2": round(candidate.area_m2, 1),
            "made_up": candidate.made_up,
        },
    }
