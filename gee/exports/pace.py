"""How many requests are under way: fewer when the service says that it is too many."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ["Pace", "TimeLeft", "duration"]


class Pace:
    """Slots for requests: additive increase, multiplicative decrease.

    As congestion control on the internet does (Chiu and Jain 1989): refused for its rate, an
    export halves the requests it has under way, once for all that were under way together; every
    answer brings a little back, one slot for as many answers as there are slots.

    Parameters
    ----------
    most : int
        Slots at the beginning, and never more.
    clock : callable
        Seconds; replaced in tests.

    Examples
    --------
    >>> pace = Pace(8)
    >>> with pace.slot() as begun:
    ...     pace.slower(begun)
    >>> pace.allowed
    4
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.fewest = most
        self._allowed = float(most)
        self._under_way = 0
        self._lowered = float("-inf")
        self._clock = clock
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """Requests that may be under way now; at least one."""
        return max(1, int(self._allowed))

    @contextlib.contextmanager
    def slot(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[float]:
        """Hold a slot; yields the moment at which it was got.

        Parameters
        ----------
        stopped : callable
            Looked at while waiting; a slot is given at once when it says so.
        """
        with self._changed:
            while self._under_way >= self.allowed and not stopped():
                self._changed.wait(0.5)
            self._under_way += 1
            begun = self._clock()
        try:
            yield begun
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def slower(self, begun: float) -> None:
        """Note that a request which began then was refused for the rate of requests."""
        with self._changed:
            # Of many that were refused together the first halves; the others met the same jam.
            if begun < self._lowered:
                return
            self._allowed = max(1.0, self.allowed / 2)
            self._lowered = self._clock()
            self.fewest = min(self.fewest, self.allowed)

    def answered(self) -> None:
        """Note an answer."""
        with self._changed:
            if self._allowed < self.most:
                self._allowed = min(float(self.most), self._allowed + 1 / self._allowed)
                self._changed.notify_all()


class TimeLeft:
    """About how long something still takes, from how long its parts took so far.

    Parameters
    ----------
    total : float
        Of whatever is counted.
    clock : callable
        Seconds; replaced in tests.

    Examples
    --------
    >>> seconds = iter([0.0, 30.0])
    >>> left = TimeLeft(100, lambda: next(seconds))
    >>> left.done(25)
    >>> left.words()
    'about 2 min left'
    """

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._clock = clock
        self._begun = clock()
        self._done = 0.0
        self._before = 0.0

    def done(self, amount: float, kept: bool = False) -> None:
        """Count what was done; `kept` is what earlier runs did and took no time now."""
        self._done += amount
        if kept:
            self._before += amount

    def seconds(self) -> float | None:
        """Return the seconds left; None while nothing tells."""
        now = self._done - self._before
        if now <= 0:
            return None
        return (self._clock() - self._begun) / now * max(0.0, self.total - self._done)

    def words(self) -> str:
        """Return "about 3 min left", or nothing while nothing tells."""
        seconds = self.seconds()
        return "" if seconds is None else f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return seconds for people.

    Examples
    --------
    >>> duration(12), duration(200), duration(9000)
    ('12 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
