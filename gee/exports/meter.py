"""What exports cost in EECU-seconds: measured where the service says it, assumed where not.

The interface answers a request for pixels without its cost. Two ways lead to it: the client's
profiler (``ee.data.profiling``: an id in a header of the answer, read with
``Profile.getProfiles``), which tells at once and is used here; and Cloud Monitoring, which sums
by workload tag, minutes late. For failed requests Earth Engine gives no figures. A batch task
tells what it has used in its metadata.

Where nothing is told, the cost is assumed: as much per pixel as was measured so far, else as the
plan estimates.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ee

from gee.exports.faults import Fault, classify, is_rate
from thawslump.errors import BudgetError, StorageError
from thawslump.files import storage_errors

__all__ = ["LEDGER", "Ledger", "Meter", "profiled", "workload_tag"]

LEDGER = "eecu.sqlite"
"""Name of the ledger's file, in the folder ``tiles`` of a workspace."""

_ROW = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s")
_TRIES = 4  # a profile may be there only some moments after the answer
_BATCH = 32  # answers whose profiles are read together while no budget waits for them
_LONGEST = 100  # profiles read with one request
_IN_VAIN = 3  # after so many that could not be read, no others are asked for


def workload_tag(site: str, identity: str) -> str:
    """Return the tag under which Cloud Monitoring shows what an export of a site used.

    At most 63 characters: lower-case letters, digits, dashes and underscores, as the client
    wants them.

    Examples
    --------
    >>> workload_tag("Qilian.Shan", "0F3a9c")
    'thawslump-qilian-shan-0f3a9c'
    """
    name = re.sub(r"[^a-z0-9_]+", "-", site.lower()).strip("-_")
    mark = re.sub(r"[^a-z0-9]", "", identity.lower())[:8] or "0"
    return f"thawslump-{name[: 63 - len(mark) - 11].strip('-_') or 'x'}-{mark}"


class Ledger:
    """What each job has cost, in a SQLite file that the processes of a workspace share.

    Parameters
    ----------
    path : Path
        Made when something is first written.

    Examples
    --------
    >>> import tempfile
    >>> ledger = Ledger(Path(tempfile.mkdtemp()) / LEDGER)
    >>> ledger.add("place/stack", measured=2.0, assumed=0.5)
    >>> ledger.put("operations/A", measured=3.0)
    >>> ledger.put("operations/A", measured=4.0)
    >>> ledger.total()
    6.5
    >>> ledger.close()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def _connection(self, make: bool) -> sqlite3.Connection | None:
        if self._open is None:
            if not make and not self.path.is_file():
                return None
            with storage_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._told():
                self._open = sqlite3.connect(
                    self.path, timeout=60, isolation_level=None, check_same_thread=False
                )
                self._open.execute("PRAGMA journal_mode=WAL")
                self._open.execute("PRAGMA synchronous=NORMAL")
                self._open.execute(
                    "CREATE TABLE IF NOT EXISTS spent (job TEXT PRIMARY KEY, "
                    "measured REAL NOT NULL, assumed REAL NOT NULL, updated REAL NOT NULL)"
                )
        return self._open

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path}, which remembers what exports have cost, cannot be used: {error}.",
                hint="Where it is damaged, remove it; budgets count anew then.",
            ) from error

    def add(self, job: str, *, measured: float = 0.0, assumed: float = 0.0) -> None:
        """Add to what a job has cost."""
        self._write(
            "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT (job) DO UPDATE SET "
            "measured = measured + excluded.measured, assumed = assumed + excluded.assumed, "
            "updated = excluded.updated",
            (job, measured, assumed, time.time()),
        )

    def put(self, job: str, *, measured: float) -> None:
        """Set what a job has cost so far."""
        self._write(
            "INSERT INTO spent VALUES (?, ?, 0, ?) ON CONFLICT (job) DO UPDATE SET "
            "measured = excluded.measured, assumed = 0, updated = excluded.updated",
            (job, measured, time.time()),
        )

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            connection = self._connection(make=True)
            assert connection is not None
            with self._told():
                connection.execute(statement, values)

    def total(self) -> float:
        """Return the EECU-seconds of all jobs, measured and assumed."""
        return sum(row[1] + row[2] for row in self.rows())

    def rows(self) -> list[tuple[str, float, float]]:
        """Return (job, measured, assumed) of every job, by name."""
        with self._lock:
            connection = self._connection(make=False)
            if connection is None:
                return []
            with self._told():
                found = connection.execute("SELECT job, measured, assumed FROM spent ORDER BY job")
                return [(str(job), float(one), float(two)) for job, one, two in found]

    def clear(self) -> None:
        """Forget everything, so that a budget counts anew."""
        if self.path.is_file():
            self._write("DELETE FROM spent WHERE ?", (1,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None


def profiled(ids: list[str]) -> float:
    """Ask the connected service what requests cost that were made with the profiler on.

    Returns
    -------
    float
        EECU-seconds: the sum of the first column of the profiles' table.

    Raises
    ------
    ee.EEException
        It knows no such profile (any more, or yet).
    """
    ask = ee.ApiFunction.lookup("Profile.getProfiles").call
    lines = str(ask(ids=ids).getInfo()).splitlines()
    return sum(float(row[1]) for row in map(_ROW.match, lines) if row)


class Meter:
    """Counts what requests cost, and lets none begin once a budget is used up.

    Parameters
    ----------
    ledger : Ledger
    job : str
        Under which the ledger counts.
    budget : float, optional
        EECU-seconds that all jobs of the ledger may cost together.
    guess : float
        EECU-seconds per pixel that are assumed before anything was measured.
    ask : bool
        Use the profiler. Without it everything is assumed.
    cost_of : callable
        EECU-seconds of profiles; replaced in tests.
    patience : float
        Seconds to wait before profiles that are not there yet are asked for again.

    Notes
    -----
    A request begins only when the cost of every request that had ended before is known, and when
    what was spent, with what those under way are expected to cost, stays below the budget. So the
    budget is overshot by at most the requests under way when it is reached, and as a rule by less
    than one of them: towards the end fewer and fewer are under way.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: str,
        budget: float | None = None,
        guess: float = 0.0,
        *,
        ask: bool = True,
        cost_of: Callable[[list[str]], float] = profiled,
        patience: float = 0.5,
    ) -> None:
        self.ledger, self.job, self.budget, self.guess = ledger, job, budget, guess
        self.measured = self.assumed = 0.0
        self.requests = 0
        self._ask, self._cost_of, self._patience = ask, cost_of, patience
        self._measured_pixels = 0
        self._ended = 0  # requests; the first `_known` of them are settled
        self._known = 0
        self._waiting: list[tuple[str, int]] = []  # profiles to be read, with their pixels
        self._under_way = 0.0  # expected cost
        self._unread = 0.0  # expected cost of what has ended, until its profile is read
        self._count = 0
        self._in_vain = 0
        self._state = threading.Condition()
        self._reading = threading.Lock()

    @property
    def rate(self) -> float:
        """EECU-seconds per pixel: as measured so far, else as guessed."""
        if self._measured_pixels:
            return self.measured / self._measured_pixels
        return self.guess

    @contextlib.contextmanager
    def request(self, pixels: int) -> Iterator[None]:
        """Make a request for so many pixels inside this block, and count what it costs.

        Raises
        ------
        BudgetError
            The budget is used up; the request must not be made.
        """
        expected = self._begin(pixels)
        ids: list[str] = []
        failed: BaseException | None = None
        try:
            with ee.data.profiling(ids.append) if self._ask else contextlib.nullcontext():
                yield
        except BaseException as error:
            failed = error
            raise
        finally:
            self._end(pixels, expected, ids, failed)

    def _begin(self, pixels: int) -> float:
        expected = pixels * self.rate
        with self._state:
            ended = self._ended
        if self.budget is None:
            with self._state:
                self._under_way += expected
                self._count += 1
            return expected
        while True:
            self.settle(ended)
            with self._state:
                spent = self.ledger.total()
                if spent >= self.budget:
                    raise self._refusal(spent)
                alone = not self._count and self._unread <= 1e-9
                if alone or spent + self._under_way + self._unread < self.budget:
                    self._under_way += expected
                    self._count += 1
                    return expected
                # What is under way is expected to use up the rest: wait and see what it does.
                if self._known >= self._ended:
                    self._state.wait(1.0)
                ended = self._ended

    def _refusal(self, spent: float) -> BudgetError:
        return BudgetError(
            f"The budget of {self.budget:g} EECU-seconds is used up: the exports of this workspace "
            f"have cost {spent:.4g}.",
            hint="Finished tiles are kept. Raise export.eecu_budget in thawslump.yaml and start "
            "the same command again; `thawslump export cost` tells what was spent on what.",
        )

    def _end(
        self, pixels: int, expected: float, ids: list[str], failed: BaseException | None
    ) -> None:
        assumed = 0.0
        if not ids and (failed is None or _computed(failed)):
            assumed = pixels * self.rate
        if assumed:
            self.ledger.add(self.job, assumed=assumed)
        with self._state:
            self._under_way -= expected
            self._count -= 1
            if not self._count:
                self._under_way = 0.0  # no rounding is left over
            self._ended += 1
            self._unread += expected if ids else 0.0
            self.assumed += assumed
            # Of what took several requests every one is counted; the pixels once.
            self._waiting += [(one, 0 if n else pixels) for n, one in enumerate(ids)]
            many = len(self._waiting) >= _BATCH
            self._state.notify_all()
        if many and self.budget is None:
            self.settle()

    def settle(self, ended: int | None = None) -> None:
        """Learn what the requests cost that have ended (the first `ended` of them, or all)."""
        with self._state:
            wanted = self._ended if ended is None else ended
            if self._known >= wanted:
                return
        with self._reading:
            with self._state:
                # Whoever held the lock meanwhile may have read them.
                if self._known >= wanted:
                    return
                known, waiting, self._waiting = self._ended, self._waiting, []
                unread = self._unread
            measured, counted, lost = self._read(waiting)
            with self._state:
                self.measured += measured
                self._measured_pixels += counted
                assumed = lost * self.rate
                self.assumed += assumed
            if measured or assumed:
                self.ledger.add(self.job, measured=measured, assumed=assumed)
            with self._state:
                self._known = max(self._known, known)
                self._unread = max(0.0, self._unread - unread)
                self._state.notify_all()

    def _read(self, waiting: list[tuple[str, int]]) -> tuple[float, int, int]:
        """Return what profiles say, the pixels that they are of, and the pixels of those lost."""
        measured, counted, lost = 0.0, 0, 0
        for start in range(0, len(waiting), _LONGEST):
            part = waiting[start : start + _LONGEST]
            pixels = sum(count for _, count in part)
            cost = self._cost([one for one, _ in part])
            if cost is None:
                lost += pixels
            else:
                measured, counted = measured + cost, counted + pixels
        return measured, counted, lost

    def _cost(self, ids: list[str]) -> float | None:
        for attempt in range(_TRIES if self._in_vain < _IN_VAIN else 0):
            try:
                self.requests += 1
                cost = self._cost_of(ids)
            except Exception:
                # Any fault: an export does not fail because its cost cannot be told.
                if attempt + 1 < _TRIES:
                    time.sleep(self._patience * 2**attempt)
            else:
                self._in_vain = 0
                return cost
        self._in_vain += 1
        return None


def _computed(error: BaseException) -> bool:
    """Tell whether a request that failed may have been computed, and so paid for, all the same."""
    if is_rate(error):
        return False
    lost = isinstance(error, ConnectionError | TimeoutError | OSError)
    return lost or classify(error) is Fault.TOO_LARGE
