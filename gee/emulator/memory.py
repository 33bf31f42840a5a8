"""Giving memory back: what the C library keeps of a large request is returned to the system."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from functools import lru_cache
from typing import Any

__all__ = ["give_back", "keep_little", "release_stack", "resident", "settled"]

_LARGE = 256 * 2**20  # a process above it looks whether it holds memory that it does not use
_PAUSE = 0.5  # seconds between two looks
# Of a thread's stack, from where it began; a thread between two requests uses a small part of it.
_SHALLOW = 1024 * 1024
_lock = threading.Lock()
_last = 0.0
_left = 0


@lru_cache(maxsize=1)
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


def give_back(idle: bool = False) -> None:
    """Return unused memory to the system, where there is much of it; costs milliseconds then.

    With `idle`, for whoever asks again and again: nothing is done where nothing has changed.

    Where it has grown since the last time, what only refers to itself is collected first: Python
    looks for such garbage by the number of objects, not by the size of their pixels.
    """
    global _last, _left
    now = time.monotonic()
    if now - _last < _PAUSE:
        return
    with _lock:
        if now - _last < _PAUSE:
            return
        _last = now
    found = _library()
    held = resident()
    if found is None or held <= _LARGE or (idle and abs(held - _left) < 0.01 * _left):
        return
    if held > 1.05 * _left:
        gc.collect()
    found.malloc_trim(0)
    _left = resident()


def release_stack() -> None:
    """Return the deep part of this thread's stack, which a deeply nested graph has touched.

    To be called by threads that serve requests, between two of them, and by nobody else: what lies
    more than 1 MiB from where the thread began must not be in use.
    """
    found = _library()
    if found is None or not hasattr(found, "pthread_getattr_np"):
        return
    import ctypes

    attributes = ctypes.create_string_buffer(256)
    start, size, guard = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    found.pthread_self.restype = ctypes.c_void_p
    if found.pthread_getattr_np(ctypes.c_void_p(found.pthread_self()), attributes):
        return
    known = (
        found.pthread_attr_getstack(attributes, ctypes.byref(start), ctypes.byref(size)) == 0
        and found.pthread_attr_getguardsize(attributes, ctypes.byref(guard)) == 0
    )
    found.pthread_attr_destroy(attributes)
    length = size.value - guard.value - _SHALLOW
    if known and start.value and length > 0:
        # Stacks grow downwards: the deep part has the low addresses. 4: MADV_DONTNEED.
        first = ctypes.c_void_p(start.value + guard.value)
        found.madvise(first, ctypes.c_size_t(length), 4)
