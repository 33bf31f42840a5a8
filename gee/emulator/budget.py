"""What one request may use: time until its deadline, and memory.

A request runs in one thread and its tile threads, all of which find the same budget. Loops
call `tick` or go through `steps`; whatever makes a value whose size the request chooses calls
`reserve` before it makes it, so that an absurd size is refused at once and not after minutes.
Work in a library call cannot be stopped half-way: `work` refuses it by its size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .errors import LimitError
from .memory import resident

__all__ = ["Budget", "count", "current", "limited", "reserve", "steps", "tick", "work"]

T = TypeVar("T")

SECONDS = 300.0
"""Deadline of an interactive request (guides/computation_overview: five minutes)."""
MOST_AT_ONCE = 192 * 2**20
MOST_TOGETHER = 2 * 2**30
MOST_GROWTH = 3 * 2**30
MOST_ELEMENTS = 500_000
"""Elements of collections that an interactive request may make; Earth Engine's is not known."""
# Elementary steps of a library call that cannot be interrupted; about five seconds.
MOST_WORK = 2_000_000_000
_LOOK = 0.25
_here = threading.local()


class Budget:
    """Time and memory of one request.

    Parameters
    ----------
    seconds : float or None
        Until the deadline; None for exports, which have none.

    Examples
    --------
    >>> with limited(Budget(0.0)):
    ...     tick()
    Traceback (most recent call last):
    ...
    gee.emulator.errors.LimitError: Computation timed out.
    """

    __slots__ = ("_next", "_resident", "deadline", "elements", "reserved")

    def __init__(self, seconds: float | None = SECONDS) -> None:
        now = time.monotonic()
        self.deadline = float("inf") if seconds is None else now + seconds
        self.reserved = 0
        # What a batch job makes is bounded by its memory alone.
        self.elements: float = MOST_ELEMENTS if seconds is not None else float("inf")
        self._next = now + _LOOK
        self._resident: int | None = None

    def tick(self) -> None:
        """Refuse to go on after the deadline, or when the process has swollen."""
        now = time.monotonic()
        if now >= self.deadline:
            raise LimitError("Computation timed out.")
        if now >= self._next:
            self._next = now + _LOOK
            now_held = resident()
            if self._resident is None:
                # Not at the start: most requests end before they are worth looking at.
                self._resident = now_held
            elif now_held - self._resident > MOST_GROWTH:
                raise LimitError("User memory limit exceeded.")

    def expect(self, seconds: float) -> None:
        """Refuse what would take longer than is left, however fast it were."""
        if not seconds <= self.deadline - time.monotonic():
            raise LimitError("Computation timed out.")

    @property
    def made(self) -> float:
        """About how many bytes the values of the request take."""
        elements = 0.0 if self.elements == float("inf") else MOST_ELEMENTS - self.elements
        return self.reserved + 1000 * elements

    def count(self, elements: int) -> None:
        """Take elements of collections, or values of an answer."""
        self.elements -= elements
        if self.elements < 0:
            raise LimitError("User memory limit exceeded.")

    def reserve(self, size: float) -> None:
        """Take memory, in bytes; refused when that is too much at once or in all."""
        self.reserved += int(min(size, MOST_TOGETHER)) if size == size else 0
        if not size <= MOST_AT_ONCE or self.reserved > MOST_TOGETHER:
            raise LimitError("User memory limit exceeded.")


def current() -> Budget | None:
    """Return the budget of this thread, if it works on a request."""
    return getattr(_here, "budget", None)


@contextmanager
def limited(budget: Budget | None) -> Iterator[None]:
    """Work under a budget for the time of a `with` block; an outer one returns afterwards.

    Tile threads are given the budget of the request that they work for in this way.
    """
    before = current()
    _here.budget = budget
    try:
        yield
    finally:
        _here.budget = before


def tick() -> None:
    """Refuse to go on when the budget of this thread is used up; some 0.1 microseconds."""
    held = getattr(_here, "budget", None)
    if held is not None:
        held.tick()


def steps(items: Iterable[T], every: int = 64) -> Iterator[T]:
    """Yield items, looking at the budget now and then.

    Examples
    --------
    >>> list(steps(range(3)))
    [0, 1, 2]
    """
    left = 0
    for item in items:
        if not left:
            tick()
            left = every
        left -= 1
        yield item


def reserve(count: float, each: float = 32) -> None:
    """Refuse a value that is too large, before it is made.

    Parameters
    ----------
    count : number of elements
    each : bytes of one

    Raises
    ------
    LimitError
        "User memory limit exceeded."

    Examples
    --------
    >>> reserve(1e12)
    Traceback (most recent call last):
    ...
    gee.emulator.errors.LimitError: User memory limit exceeded.
    """
    size = count * each
    held = getattr(_here, "budget", None)
    if held is not None:
        held.reserve(size)
    elif not size <= MOST_AT_ONCE:
        raise LimitError("User memory limit exceeded.")


def count(elements: int) -> None:
    """Take elements that are made one by one, refused when there are too many."""
    held = getattr(_here, "budget", None)
    if held is not None:
        held.count(elements)


def work(amount: float) -> None:
    """Refuse a library call that would take too long, by its number of elementary steps.

    Raises
    ------
    LimitError
        "Computation timed out."
    """
    tick()
    if not amount <= MOST_WORK:
        raise LimitError("Computation timed out.")
