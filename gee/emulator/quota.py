"""What computing costs: EECU-seconds by month, project and workload tag.

Earth Engine counts EECU-seconds, the time that one of its processors computes. The emulator
counts the seconds that a request or an export computes on this machine: an assumption that makes
budgets testable, and no estimate of what the live service would charge.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thawslump.errors import StorageError

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Meter", "month_of"]

FLUSH = 1.0  # seconds for which small amounts are held back before they are written


def month_of(seconds: float | None = None) -> str:
    """Return the month of a time, UTC, as budgets count it.

    Examples
    --------
    >>> month_of(0.0)
    '1970-01'
    """
    moment = time.time() if seconds is None else seconds
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m")


class Meter:
    """Seconds of computing, summed in the state folder and so over all server processes.

    Parameters
    ----------
    store : Store, or callable that returns one
        A callable is called when an amount is first written or read.
    exact : bool
        Write every amount at once, as a budget needs it; else at most once a second.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gee.emulator.store import Store
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> meter = Meter(store)
    >>> meter.add("projects/p", "tag", 1.5)
    >>> meter.add("projects/p", "", 0.5)
    >>> meter.used("projects/p"), meter.report()["projects/p"]["tags"]
    (2.0, {'tag': 1.5})
    >>> store.close()
    """

    def __init__(self, store: Store | Callable[[], Store], *, exact: bool = False) -> None:
        self._given = store
        self._exact = exact
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str, str], float] = {}
        self._written = time.monotonic()

    @property
    def _store(self) -> Store:
        return self._given() if callable(self._given) else self._given

    def add(self, project: str, tag: str, seconds: float) -> None:
        """Count seconds of computing."""
        key = (month_of(), project, tag[:63])
        with self._lock:
            self._held[key] = self._held.get(key, 0.0) + seconds
            due = self._exact or time.monotonic() - self._written > FLUSH
        if due:
            # An answer must not fail because its cost could not be noted.
            with contextlib.suppress(StorageError):
                self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        with self._lock:
            held, self._held = self._held, {}
            self._written = time.monotonic()
        if not held:
            return
        with self._store.transaction() as connection:
            connection.executemany(
                "INSERT INTO usage VALUES (?, ?, ?, ?) ON CONFLICT (month, project, tag) "
                "DO UPDATE SET seconds = seconds + excluded.seconds",
                [(*key, seconds) for key, seconds in held.items()],
            )

    def used(self, project: str, month: str | None = None) -> float:
        """Return the seconds that a project has used in a month; this month by default."""
        self.flush()
        rows = self._store.query(
            "SELECT SUM(seconds) AS total FROM usage WHERE month=? AND project=?",
            (month or month_of(), project),
        )
        return float(rows[0]["total"] or 0.0)

    def report(self, month: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the seconds of a month by project, and by workload tag within it."""
        self.flush()
        out: dict[str, dict[str, Any]] = {}
        for row in self._store.query(
            "SELECT project, tag, seconds FROM usage WHERE month=? ORDER BY project, tag",
            (month or month_of(),),
        ):
            entry = out.setdefault(row["project"], {"seconds": 0.0, "tags": {}})
            entry["seconds"] += row["seconds"]
            if row["tag"]:
                entry["tags"][row["tag"]] = row["seconds"]
        return out
