"""Exports and imports that run in the background, over several processes and their deaths."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawslump.errors import StorageError, ThawslumpError
from thawslump.files import storage_errors

from .errors import EngineError
from .store import Store, timestamp

__all__ = ["Cancelled", "Job", "Operations"]

log = logging.getLogger(__name__)

FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
MAX_CONCURRENT_EXPORTS = 2  # of a project, where its config says nothing else
TAKE_OVER = 10.0  # seconds after which an idle process looks for what a dead one left


class Cancelled(Exception):
    """Raised inside a job whose operation was cancelled."""


@dataclass
class Job:
    """One export as its runner sees it.

    Attributes
    ----------
    id, project, kind : str
    body : dict
        The request.
    """

    id: str
    project: str
    kind: str
    body: dict[str, Any]
    _operations: Operations

    def progress(self, share: float) -> None:
        """Note how much is done.

        Raises
        ------
        Cancelled
            The operation was cancelled meanwhile.
        EngineError
            The project's budget is used up.
        """
        self._operations._progress(self, share)


class Operations:
    """Exports that run in the background, one after another or a few at a time.

    Parameters
    ----------
    store : Store
    run : callable (Job) -> list of str
        Does the work and returns the addresses of what it wrote.
    threads : int
        Exports that this process runs at a time. Of one project no more run than its
        `maxConcurrentExports`, over all processes.
    on_progress : callable (Job, float), optional
        Told the seconds that a job computed since it was told last; may raise to end the job.
    on_takeover : callable (int, list of dict), optional
        Told the id of a process that died in the middle of exports, and their requests.

    Notes
    -----
    An export whose process died is taken over by the next process that starts on the same state
    folder: its files are written under another name and renamed, so nothing half-done is seen.
    """

    def __init__(
        self,
        store: Store,
        run: Callable[[Job], list[str]],
        threads: int = 2,
        *,
        on_progress: Callable[[Job, float], None] | None = None,
        on_takeover: Callable[[int, list[dict[str, Any]]], None] | None = None,
    ) -> None:
        self.store = store
        self._run = run
        self._threads = threads
        self._on_progress = on_progress
        self._on_takeover = on_takeover
        self._since: dict[str, float] = {}  # when a job's seconds were last told
        self._owner = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._alive: Any = None  # the lock that tells other processes that this one lives
        self._wake = threading.Condition()
        self._workers: list[threading.Thread] = []
        self._stop = False
        self._last: dict[str, float] = {}

    # ---- what clients ask for

    def submit(self, project: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Queue an export and return its Operation; the same `requestId` is queued once."""
        request_id = str(body["requestId"]) if body.get("requestId") else None
        priority = _priority(body.get("priority"))
        now = time.time()
        name = "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(24))
        with self.store.transaction() as connection:
            row = None
            if request_id is not None:
                row = connection.execute(
                    "SELECT * FROM operations WHERE project=? AND request_id=?",
                    (project, request_id),
                ).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO operations (id, project, kind, description, body, request_id, "
                    "state, attempt, priority, progress, created, updated, uris) "
                    "VALUES (?,?,?,?,?,?,'PENDING',0,?,0,?,?,'[]')",
                    (
                        name,
                        project,
                        kind,
                        str(body.get("description") or _title(kind, body))[:1000],
                        json.dumps(body),
                        request_id,
                        priority,
                        now,
                        now,
                    ),
                )
            else:
                name = row["id"]
        self._start()
        return self.get(project, name)

    def get(self, project: str, name: str) -> dict[str, Any]:
        """Return an Operation.

        Raises
        ------
        EngineError
            There is none of that name (NOT_FOUND).
        """
        rows = self.store.query(
            "SELECT * FROM operations WHERE id=? AND project=?", (name, project)
        )
        if not rows:
            raise EngineError(f"Operation '{project}/operations/{name}' not found.", "NOT_FOUND")
        return _operation(rows[0])

    def list(self, project: str, size: int, start: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return a page of Operations, the newest first, and where the next page starts."""
        rows = self.store.query(
            "SELECT * FROM operations WHERE project=? ORDER BY created DESC, id LIMIT ? OFFSET ?",
            (project, size + 1, start),
        )
        more = start + size if len(rows) > size else None
        return [_operation(row) for row in rows[:size]], more

    def cancel(self, project: str, name: str) -> None:
        """Cancel an export that waits or runs; a finished one stays as it is."""
        self.get(project, name)
        now = time.time()
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE operations SET state='CANCELLED', updated=?, ended=? "
                "WHERE id=? AND state='PENDING'",
                (now, now, name),
            )
            connection.execute(
                "UPDATE operations SET state='CANCELLING', updated=? "
                "WHERE id=? AND state='RUNNING'",
                (now, name),
            )

    def delete(self, project: str, name: str) -> None:
        """Forget an export that has ended."""
        if not self.get(project, name).get("done"):
            raise EngineError(f"Operation '{name}' has not ended: cancel it first.")
        with self.store.transaction() as connection:
            connection.execute("DELETE FROM operations WHERE id=?", (name,))

    def wait(self, project: str, name: str, seconds: float) -> dict[str, Any]:
        """Return an Operation when it has ended, or after some seconds."""
        end = time.monotonic() + seconds
        while True:
            found = self.get(project, name)
            if found.get("done") or time.monotonic() >= end:
                return found
            time.sleep(0.05)

    # ---- running

    def resume(self) -> None:
        """Take over what a process that died left, and start on what waits."""
        if not (self.store.folder / "state.sqlite").is_file():
            return
        self._requeue()
        if self.store.query("SELECT 1 FROM operations WHERE state='PENDING' LIMIT 1"):
            self._start()

    def close(self) -> None:
        """Stop taking exports; those under way are left to whoever starts next."""
        with self._wake:
            self._stop = True
            self._wake.notify_all()
        if self._alive is not None:
            self._alive.release()
            self._alive = None

    def _start(self) -> None:
        with self._wake:
            if self._alive is None:
                self._alive = self._lock_of(self._owner)
                self._alive.acquire(timeout=5)
            if not self._workers and not self._stop:
                for number in range(self._threads):
                    worker = threading.Thread(
                        target=self._work, name=f"export-{number}", daemon=True
                    )
                    self._workers.append(worker)
                    worker.start()
            self._wake.notify_all()

    def _lock_of(self, owner: str) -> Any:
        from filelock import FileLock

        folder = self.store.folder / "processes"
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{owner}.lock", thread_local=False)

    def _requeue(self) -> None:
        from filelock import Timeout

        rows = self.store.query(
            "SELECT DISTINCT owner FROM operations WHERE state IN ('RUNNING', 'CANCELLING')"
        )
        for owner in {str(row["owner"]) for row in rows} - {self._owner}:
            lock = self._lock_of(owner)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # its process lives
            with self.store.transaction() as connection:
                now = time.time()
                bodies = [
                    json.loads(row["body"])
                    for row in connection.execute(
                        "SELECT body FROM operations WHERE owner=? AND ended IS NULL", (owner,)
                    )
                ]
                connection.execute(
                    "UPDATE operations SET state='CANCELLED', updated=?, ended=?, owner=NULL "
                    "WHERE state='CANCELLING' AND owner=?",
                    (now, now, owner),
                )
                connection.execute(
                    "UPDATE operations SET state='PENDING', updated=?, owner=NULL "
                    "WHERE state='RUNNING' AND owner=?",
                    (now, owner),
                )
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
            number = owner.partition("-")[0]
            if self._on_takeover is not None and number.isdigit():
                self._on_takeover(int(number), bodies)

    def _claim(self) -> Job | None:
        now = time.time()
        with self.store.transaction() as connection:
            row = self._next(connection)
            if row is None:
                return None
            connection.execute(
                "UPDATE operations SET state='RUNNING', owner=?, attempt=attempt+1, progress=0, "
                "started=?, updated=? WHERE id=?",
                (self._owner, now, now, row["id"]),
            )
        return Job(row["id"], row["project"], row["kind"], json.loads(row["body"]), self)

    def _next(self, connection: sqlite3.Connection) -> sqlite3.Row | None:
        """Return what runs next: the first in the queue whose project may run more."""
        running = {
            row["project"]: row["count"]
            for row in connection.execute(
                "SELECT project, COUNT(*) AS count FROM operations "
                "WHERE state IN ('RUNNING', 'CANCELLING') GROUP BY project"
            )
        }
        waiting = connection.execute(
            "SELECT project FROM operations WHERE state='PENDING' GROUP BY project"
        ).fetchall()
        free = [
            row["project"]
            for row in waiting
            if running.get(row["project"], 0) < self._most(row["project"])
        ]
        row: sqlite3.Row | None = connection.execute(
            "SELECT * FROM operations WHERE state='PENDING' AND project IN "
            f"({','.join('?' * len(free))}) ORDER BY priority DESC, created LIMIT 1",
            free,
        ).fetchone()
        return row

    def _most(self, project: str) -> int:
        known = self.store.look_up(f"config:{project}") or {}
        return int(known.get("maxConcurrentExports", MAX_CONCURRENT_EXPORTS))

    def _spent(self, job: Job) -> float:
        """Return the seconds since a job was last asked for them."""
        now = time.perf_counter()
        before = self._since.get(job.id, now)
        self._since[job.id] = now
        return now - before

    def _progress(self, job: Job, share: float) -> None:
        now = time.monotonic()
        name = job.id
        if now - self._last.get(name, 0.0) < 0.2:
            return
        self._last[name] = now
        spent = self._spent(job)
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE operations SET progress=?, updated=?, eecu=eecu+? WHERE id=? AND owner=?",
                (min(max(share, 0.0), 1.0), time.time(), spent, name, self._owner),
            )
            row = connection.execute("SELECT state FROM operations WHERE id=?", (name,)).fetchone()
        if self._stop or row is None or row["state"] != "RUNNING":
            raise Cancelled
        if self._on_progress is not None:
            self._on_progress(job, spent)

    def _work(self) -> None:
        looked = time.monotonic()
        while not self._stop:
            try:
                if time.monotonic() - looked > TAKE_OVER:
                    looked = time.monotonic()
                    self._requeue()
                job = self._claim()
            except (StorageError, sqlite3.Error):
                log.exception("The list of exports cannot be read")
                time.sleep(5)
                continue
            if job is None:
                with self._wake:
                    self._wake.wait(timeout=2)
                continue
            self._one(job)

    def _one(self, job: Job) -> None:
        state, message, code, uris = "SUCCEEDED", None, None, []
        self._spent(job)
        try:
            uris = self._run(job)
        except Cancelled:
            if self._stop:
                return  # the next process takes it over
            state, message, code = "CANCELLED", "Cancelled.", 1
        except EngineError as error:
            code = {"NOT_FOUND": 5, "RESOURCE_EXHAUSTED": 8}.get(error.status, 3)
            state, message = "FAILED", str(error)
        except ThawslumpError as error:
            state, message, code = "FAILED", str(error), 3
        except MemoryError:
            state, message, code = "FAILED", "User memory limit exceeded.", 8
        except Exception as error:
            log.exception("Export %s failed", job.id)
            state, code = "FAILED", 13
            message = f"Internal error of the emulator: {type(error).__name__}: {error}"
        now, spent = time.time(), self._spent(job)
        self._since.pop(job.id, None)
        self._last.pop(job.id, None)
        if self._on_progress is not None:
            with contextlib.suppress(ThawslumpError):  # the budget stops the next, not this one
                self._on_progress(job, spent)
        try:
            with self.store.transaction() as connection:
                connection.execute(
                    "UPDATE operations SET state=?, error=?, code=?, uris=?, updated=?, ended=?, "
                    "eecu=eecu+?, progress=CASE WHEN ?='SUCCEEDED' THEN 1 ELSE progress END "
                    "WHERE id=? AND owner=?",
                    (
                        state,
                        message,
                        code,
                        json.dumps(uris),
                        now,
                        now,
                        spent,
                        state,
                        job.id,
                        self._owner,
                    ),
                )
        except (StorageError, sqlite3.Error):
            log.exception("The end of export %s could not be noted", job.id)


def _priority(given: Any) -> int:
    value = given.get("value", 100) if isinstance(given, dict) else given
    try:
        priority = 100 if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        priority = -1
    if not 0 <= priority <= 9999:
        raise EngineError("The priority must be a whole number from 0 to 9999.")
    return priority


def _title(kind: str, body: dict[str, Any]) -> str:
    """Return what an operation is called that nobody named."""
    manifest = body.get("imageManifest") or body.get("tableManifest")
    if isinstance(manifest, dict):
        return f'Ingest {kind.removeprefix("INGEST_").lower()}: "{manifest.get("name")}"'
    return "myExport"


def _operation(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row as the Operation of the REST interface."""
    metadata: dict[str, Any] = {
        "@type": "type.googleapis.com/google.earthengine.v1.OperationMetadata",
        "state": row["state"],
        "description": row["description"],
        "priority": row["priority"],
        "createTime": timestamp(row["created"]),
        "updateTime": timestamp(row["updated"]),
        "type": row["kind"],
        "attempt": row["attempt"],
        "progress": row["progress"],
    }
    if row["started"] is not None:
        metadata["startTime"] = timestamp(row["started"])
    if row["ended"] is not None:
        metadata["endTime"] = timestamp(row["ended"])
    if row["attempt"]:
        metadata["batchEecuUsageSeconds"] = round(row["eecu"], 6)
    tag = json.loads(row["body"]).get("workloadTag")
    if tag:
        metadata["workloadTag"] = str(tag)
    uris = json.loads(row["uris"])
    if uris:
        metadata["destinationUris"] = uris
    out: dict[str, Any] = {
        "name": f"{row['project']}/operations/{row['id']}",
        "metadata": metadata,
        "done": row["state"] in FINAL,
    }
    if row["error"] is not None:
        out["error"] = {"code": row["code"], "message": row["error"]}
    elif row["state"] == "SUCCEEDED":
        out["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty"}
    return out
