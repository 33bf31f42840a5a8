"""Process groups: start one, weigh it, kill it, and see what of it is left."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil


@dataclass(frozen=True)
class LedgerRow:
    """One item of the ledger of a workspace, as another process sees it."""

    step: str
    round: int
    name: str
    key: str
    state: str
    tries: int
    started: float
    finished: float | None


def ledger_rows(path: Path) -> list[LedgerRow]:
    """Return all items of a ledger in the order in which they were started; none if unreadable.

    The file may be in the middle of being made, or be held by a process that was just killed.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(
                "SELECT step, round, name, key, state, tries, started, finished "
                "FROM items ORDER BY started"
            ).fetchall()
    except sqlite3.OperationalError:
        return []
    return [LedgerRow(*row) for row in found]


def start(
    command: Sequence[str], log: IO[bytes] | int, extra: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a new session and process group."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **(extra or {})},
    )


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants that are alive."""
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_group(process: subprocess.Popen[bytes], patience: float = 5.0) -> list[str]:
    """Send SIGKILL to the group; return the command lines of descendants that outlived it."""
    before = family(process.pid)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return []
    finally:
        process.wait()
    _, alive = psutil.wait_procs(before, timeout=patience)
    return [" ".join(_words(one)) for one in alive]


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return ["?"]


@dataclass(frozen=True)
class Weight:
    """Memory of a family of processes, in bytes.

    Attributes
    ----------
    pss : int
        Shared pages divided among those who share them: what the family really takes.
    rss : int
        Shared pages counted once for each process: an upper bound.
    processes : int
    """

    pss: int
    rss: int
    processes: int


def weigh(pid: int) -> Weight:
    """Return the memory of a process and all its descendants at this moment."""
    pss = rss = count = 0
    for member in family(pid):
        try:
            info = member.memory_full_info()
        except psutil.Error:
            continue  # it ended in between
        pss, rss, count = pss + int(info.pss), rss + int(info.rss), count + 1
    return Weight(pss, rss, count)


def wait_until(
    process: subprocess.Popen[bytes], seen: Callable[[], bool], timeout: float, pause: float = 0.01
) -> bool:
    """Return True once `seen()` holds; False if the process ends or the time is up before."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if seen():
            return True
        if process.poll() is not None:
            return False
        time.sleep(pause)
    return False
