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
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from inventory.geopackage import create, from_blob, insert, may_touch, now, tables
from inventory.records import (
    DECISIONS,
    KINDS,
    Candidate,
    Decision,
    DecisionConflict,
    areas,
    canonical_geometry,
    stable_id,
)
from thawslump.errors import BusyError, DataError, StorageError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ["Inventory", "canonical_dump"]

_PATIENCE = 20.0  # seconds that another program may keep the file


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
            there = tables(db)
        if not there:
            with self._transaction() as db:
                if not tables(db):
                    create(db)
                there = tables(db)
        if not {"gpkg_contents", "slumps", "candidates", "decisions", "iterations"} <= there:
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
                # On a full disk SQLite has rolled back by itself.
                if db.in_transaction:
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
            time = now()
            for identity in new:
                geometry, area = wanted[identity]
                insert(
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
                    added=time,
                )
            insert(
                db,
                "decisions",
                geom=None,
                time=time,
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
            geometry=[from_blob(row["geom"]) for row in rows],
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
                "SELECT EXISTS (SELECT 1 FROM slumps WHERE site = :s AND round < :r) OR EXISTS "
                "(SELECT 1 FROM candidates WHERE site = :s AND round < :r AND state <> 'open')",
                {"s": site, "r": before},
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
                insert(
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
            near = [(row[0], row[1]) for row in rows if may_touch(row[1], box)]
            shapes = [(identity, from_blob(blob)) for identity, blob in near]
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
            edited = shape is not None and shape.wkb != from_blob(row["geom"]).wkb
            insert(
                db,
                "decisions",
                geom=shape if edited else None,
                time=now(),
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
            insert(
                db,
                "decisions",
                geom=None,
                time=now(),
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

    def changes(self, round: int, *, after: int) -> tuple[int, dict[str, str]]:
        """Return what was decided in a round since a decision.

        Parameters
        ----------
        round : int
        after : int
            Number of the last decision that is known; 0 for none.

        Returns
        -------
        (int, dict of str to str)
            Number of the last decision there is, and candidate -> state for those that a later
            decision or undo is about.
        """
        with self._open() as db:
            last = db.execute("SELECT coalesce(max(fid), 0) FROM decisions").fetchone()[0]
            rows = db.execute(
                "SELECT DISTINCT candidate_id, state FROM candidates JOIN decisions "
                "USING (candidate_id) WHERE candidates.round = ? AND decisions.fid > ? "
                "AND decisions.fid <= ? ORDER BY candidate_id",
                (round, after, last),
            ).fetchall()
        return last, {row["candidate_id"]: row["state"] for row in rows}

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
                insert(db, "iterations", **row)
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
                total.update(from_blob(row["geom"]).wkb)
            where = f"{where} {'AND' if where else 'WHERE'} state <> 'open'"
            for row in db.execute(
                f"SELECT site, state, geom FROM candidates {where} ORDER BY site, candidate_id",
                values,
            ):
                total.update(f"candidate|{row['site']}|{row['state']}|".encode())
                total.update(from_blob(row["geom"]).wkb)
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
                        record["geometry"] = from_blob(value).wkt
                    elif name not in hidden and name != "geom":
                        record[name] = round(value, 4) if isinstance(value, float) else value
                if layer == "decisions":
                    record["taken back"] = row["fid"] in undone
                part.append(json.dumps(record, sort_keys=True, ensure_ascii=False))
            lines += sorted(part)
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------- rows


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
        shape = from_blob(row["geom"])
    else:
        area = areas([shape])[0]
    insert(
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
        geometry=from_blob(row["geom"]),
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
        geometry=None if row["geom"] is None else from_blob(row["geom"]),
    )


def _lonlat(outlines: GeoDataFrame) -> list[MultiPolygon]:
    if outlines.crs is None:
        raise DataError(
            "The outlines have no CRS, so they cannot be placed.",
            hint="Set it first, for example outlines.set_crs('EPSG:4326').",
        )
    return [canonical_geometry(g) for g in outlines.geometry.to_crs("EPSG:4326")]
