"""Giving memory back: what the C library keeps of a large request is returned to the system."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from typing import Any

__all__ = ["give_back", "keep_little", "resident", "settled"]

_LARGE = 256 * 2**20  # a process above it looks whether it holds memory that it does not use
_PAUSE = 0.5  # seconds between two looks
_lock = threading.Lock()
_last = 0.0


def _library() -> Any:
    """Return glibc, or None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        found = ctypes.CDLL("libc.so.6", use_errno=True)
    except OSError:
        return None
    return found if hasattr(found, "malloc_trim") else None


def keep_little() -> None:
    """Tell the C library to keep few pools and to map large arrays one by one.

    By default it keeps a pool per thread, and learns from the first large arrays to hold on to
    the next. A process that computes tiles in threads would keep several times what it uses.
    """
    found = _library()
    if found is not None:
        found.mallopt(-8, 4)  # M_ARENA_MAX
        found.mallopt(-3, 8 * 2**20)  # M_MMAP_THRESHOLD: tiles stay in the pools
        found.mallopt(-1, 32 * 2**20)  # M_TRIM_THRESHOLD


def settled() -> None:
    """Leave what was imported out of later garbage collections: none of it goes away."""
    gc.collect()
    gc.freeze()


def resident() -> int:
    """Return the bytes of this process that are in memory; 0 where that is not known."""
    try:
        with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123 (a hot path)
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def give_back() -> None:
    """Return unused memory to the system, where there is much of it; costs milliseconds then."""
    global _last
    now = time.monotonic()
    if now - _last < _PAUSE:
        return
    with _lock:
        if now - _last < _PAUSE:
            return
        _last = now
    if resident() > _LARGE:
        found = _library()
        if found is not None:
            found.malloc_trim(0)
