"""The SQLite file of the state folder: maps by id, settings, operations, usage and faults.

Several server processes share it, and a server that is started again finds all as it was.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thawslump.errors import StorageError
from thawslump.files import storage_errors

__all__ = ["Store", "timestamp"]

KEEP_REQUESTS = 20_000  # maps, thumbnails and tables; the oldest are forgotten beyond that

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS operations (
  id TEXT PRIMARY KEY, project TEXT NOT NULL, kind TEXT NOT NULL, description TEXT NOT NULL,
  body TEXT NOT NULL, request_id TEXT, state TEXT NOT NULL, owner TEXT, attempt INTEGER NOT NULL,
  priority INTEGER NOT NULL, progress REAL NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
  started REAL, ended REAL, error TEXT, code INTEGER, uris TEXT NOT NULL,
  eecu REAL NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS once ON operations (project, request_id)
  WHERE request_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS usage (
  month TEXT NOT NULL, project TEXT NOT NULL, tag TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (month, project, tag));
CREATE TABLE IF NOT EXISTS fault_counts (
  run TEXT NOT NULL, rule INTEGER NOT NULL, seen INTEGER NOT NULL, done INTEGER NOT NULL,
  PRIMARY KEY (run, rule));
CREATE TABLE IF NOT EXISTS in_flight (
  name TEXT PRIMARY KEY, run TEXT NOT NULL, pid INTEGER NOT NULL);
"""


def timestamp(seconds: float) -> str:
    """Return a time as the REST interface writes it, with at most six digits and a Z.

    Examples
    --------
    >>> timestamp(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Store:
    """The SQLite file of the state folder.

    Parameters
    ----------
    folder : Path
        Made where it is missing, at the first use.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> name = store.remember("maps", {"expression": 1})
    >>> store.recall("maps", name), store.recall("maps", "unknown")
    ({'expression': 1}, None)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._secret = b""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a write transaction; commit at the end."""
        with self._lock:
            connection = self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise StorageError(
                    f"The emulator's state in {self.folder} could not be written: {error}.",
                    hint="Is the disk full, or the folder not writable?",
                ) from error
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a SELECT."""
        with self._lock:
            return self._open().execute(sql, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            with storage_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            try:
                connection = sqlite3.connect(
                    self.folder / "state.sqlite",
                    timeout=30,
                    isolation_level=None,
                    check_same_thread=False,
                )
                # It holds the secret by which names of pictures cannot be guessed.
                with contextlib.suppress(OSError):
                    (self.folder / "state.sqlite").chmod(0o600)
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(_SCHEMA)
                columns = connection.execute("PRAGMA table_info(operations)").fetchall()
                if "eecu" not in {column["name"] for column in columns}:  # an older state folder
                    connection.execute(
                        "ALTER TABLE operations ADD COLUMN eecu REAL NOT NULL DEFAULT 0"
                    )
                connection.execute(
                    "INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_hex(32),)
                )
                row = connection.execute("SELECT value FROM meta WHERE key='secret'").fetchone()
            except sqlite3.Error as error:
                raise StorageError(
                    f"{self.folder / 'state.sqlite'} cannot be opened: {error}.",
                    hint="If the file is damaged, delete it: maps and the list of exports are "
                    "lost, assets and exported files stay.",
                ) from error
            self._secret = bytes.fromhex(row["value"])
            self._connection = connection
            # An endpoint that is dropped without `close` must not leave its database open.
            weakref.finalize(self, connection.close)
        return self._connection

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def remember(self, kind: str, body: dict[str, Any]) -> str:
        """Keep a request and return its id: the same request has the same id.

        The id cannot be guessed from the request, because pixels are served to whoever knows it.
        """
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        self.query("SELECT 1")  # reads the secret
        digest = hmac.new(self._secret, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()
        name = digest[:32]
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET used = excluded.used",
                (name, kind, text, time.time()),
            )
            connection.execute(
                "DELETE FROM requests WHERE id IN "
                "(SELECT id FROM requests ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (KEEP_REQUESTS,),
            )
        return name

    def recall(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return a request that was remembered, or None."""
        rows = self.query("SELECT body FROM requests WHERE id=? AND kind=?", (name, kind))
        return json.loads(rows[0]["body"]) if rows else None

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key; None forgets it."""
        if value is None:
            if self.look_up(key) is not None:
                with self.transaction() as connection:
                    connection.execute("DELETE FROM meta WHERE key=?", (f":{key}",))
            return
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET "
                "value = excluded.value",
                (f":{key}", json.dumps(value)),
            )

    def look_up(self, key: str) -> Any:
        """Return the value kept under a key, or None."""
        rows = self.query("SELECT value FROM meta WHERE key=?", (f":{key}",))
        return json.loads(rows[0]["value"]) if rows else None
