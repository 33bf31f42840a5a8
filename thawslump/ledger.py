"""The ledger: one row per item of work, in SQLite, written by the driver process alone."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawslump.files import sha256, storage_errors

__all__ = ["Ledger", "Row"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    step TEXT NOT NULL, round INTEGER NOT NULL, name TEXT NOT NULL,
    key TEXT NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, seconds REAL, bytes INTEGER,
    error TEXT, outputs TEXT, facts TEXT, started REAL, finished REAL,
    PRIMARY KEY (step, round, name)
);
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Row:
    """One item of work as the ledger knows it.

    Attributes
    ----------
    step, name : str
    round : int
        0 for steps outside the rounds.
    key : str
        SHA-256 over the step, its version, settings and input checksums.
    state : {"running", "done", "failed"}
        "running" with no run in progress means that the process was killed.
    tries : int
    seconds : float or None
    bytes : int or None
        Size of the outputs.
    error : str or None
    outputs : mapping of str to str
        Path relative to the workspace -> SHA-256.
    facts : mapping
        What the item reported: scores, counts.
    """

    step: str
    round: int
    name: str
    key: str
    state: str
    tries: int
    seconds: float | None
    bytes: int | None
    error: str | None
    outputs: Mapping[str, str]
    facts: Mapping[str, Any]


class Ledger:
    """Items of work and checksums of files.

    Parameters
    ----------
    path : Path
        SQLite file; made where missing.
    root : Path
        Workspace; paths are kept relative to it, so that it can be moved.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.root = Path(root)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            # WAL needs shared memory that network file systems lack; SQLite then says "delete".
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def checksum(self, path: Path) -> str | None:
        """Return the SHA-256 of a file, from memory where size and time are unchanged.

        None where there is no such file.
        """
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        name = self._relative(path)
        row = self._db.execute(
            "SELECT size, mtime_ns, sha256 FROM files WHERE path = ?", (name,)
        ).fetchone()
        if row is not None and row[:2] == (status.st_size, status.st_mtime_ns):
            return str(row[2])
        digest = sha256(path)
        self._db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            (name, status.st_size, status.st_mtime_ns, digest),
        )
        return digest

    def done(self, step: str, round: int, name: str, key: str, outputs: Sequence[Path]) -> bool:
        """Return whether an item is done: same key, and its outputs are what it wrote."""
        row = self.row(step, round, name)
        if row is None or row.state != "done" or row.key != key:
            return False
        if set(row.outputs) != {self._relative(path) for path in outputs}:
            return False
        return all(self.checksum(path) == row.outputs[self._relative(path)] for path in outputs)

    def start(self, step: str, round: int, name: str, key: str) -> None:
        """Note that an item is being worked on."""
        self._db.execute(
            "INSERT INTO items (step, round, name, key, state, tries, started) "
            "VALUES (?, ?, ?, ?, 'running', 1, ?) ON CONFLICT (step, round, name) DO UPDATE SET "
            "tries = CASE WHEN key = excluded.key THEN tries + 1 ELSE 1 END, key = excluded.key, "
            "state = 'running', started = excluded.started, error = NULL, finished = NULL",
            (step, round, name, key, time.time()),
        )

    def finish(
        self,
        step: str,
        round: int,
        name: str,
        outputs: Sequence[Path],
        seconds: float,
        facts: Mapping[str, Any],
    ) -> None:
        """Note that an item is done, with the checksums of what it wrote."""
        sums = {self._relative(path): self.checksum(path) for path in outputs}
        size = sum(path.stat().st_size for path in outputs)
        self._db.execute(
            "UPDATE items SET state = 'done', seconds = ?, bytes = ?, outputs = ?, facts = ?, "
            "finished = ? WHERE step = ? AND round = ? AND name = ?",
            (seconds, size, json.dumps(sums), json.dumps(facts), time.time(), step, round, name),
        )

    def fail(self, step: str, round: int, name: str, seconds: float, error: str) -> None:
        """Note that an item failed, with the words of the error."""
        self._db.execute(
            "UPDATE items SET state = 'failed', seconds = ?, error = ?, finished = ? "
            "WHERE step = ? AND round = ? AND name = ?",
            (seconds, error, time.time(), step, round, name),
        )

    def row(self, step: str, round: int, name: str) -> Row | None:
        """Return one item, or None."""
        rows = self._rows("WHERE step = ? AND round = ? AND name = ?", (step, round, name))
        return rows[0] if rows else None

    def rows(self, step: str | None = None, round: int | None = None) -> list[Row]:
        """Return items in the order in which they were started."""
        where, values = [], []
        if step is not None:
            where.append("step = ?")
            values.append(step)
        if round is not None:
            where.append("round = ?")
            values.append(str(round))
        clause = f"WHERE {' AND '.join(where)}" if where else ""
        return self._rows(f"{clause} ORDER BY started", tuple(values))

    def _rows(self, clause: str, values: tuple[Any, ...]) -> list[Row]:
        found = self._db.execute(
            "SELECT step, round, name, key, state, tries, seconds, bytes, error, outputs, facts "
            f"FROM items {clause}",
            values,
        )
        rows = [[*r[:9], json.loads(r[9] or "{}"), json.loads(r[10] or "{}")] for r in found]
        return [Row(*values) for values in rows]

    def _relative(self, path: Path) -> str:
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()
