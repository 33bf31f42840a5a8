"""Random draws from more cells than fit into memory, the same however they are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Smallest", "keys", "stream"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream(*numbers: int) -> np.uint64:
    """Return the start of an independent sequence of keys for a seed and whatever else is given.

    Examples
    --------
    >>> bool(stream(0, 1) == stream(0, 1)), bool(stream(0, 1) == stream(0, 2))
    (True, False)
    """
    return np.uint64(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0])


def keys(
    start: np.uint64, cells: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return a random number for every cell; those with the smallest are a random sample.

    - A key depends on its cell alone (SplitMix64 of its number, Steele et al. 2014), not on the
      order or the parts in which cells are read.
    - Keys are exponential with rate `weights`: the k smallest are k draws without replacement,
      each with chances as the weights of what is left (Efraimidis and Spirakis 2006).
    - The sample of k is part of that of k + 1.

    Parameters
    ----------
    start : uint64
        From `stream`.
    cells : ndarray of int64, shape (n,)
        Numbers of the cells, at least 0.
    weights : ndarray of float64, shape (n,), optional
        Above 0 for cells that can be drawn; 0 gives infinity. Equal where not given.

    Returns
    -------
    ndarray of float64, shape (n,)

    References
    ----------
    Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators (OOPSLA).
    Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir (Information
    Processing Letters 97).

    Examples
    --------
    >>> some = keys(stream(0), np.arange(100_000))
    >>> bool(abs(some.mean() - 1) < 0.01), bool(abs((some < np.log(2)).mean() - 0.5) < 0.01)
    (True, True)
    >>> keys(stream(0), np.array([7])) == some[7]
    array([ True])
    """
    mixed = start + (np.asarray(cells).astype(np.uint64) + np.uint64(1)) * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    # The upper 53 bits, centred: never 0, so no cell is drawn whatever its weight.
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    drawn = -np.log1p(-uniform)
    if weights is None:
        return drawn
    with np.errstate(divide="ignore"):
        return np.asarray(drawn / weights)


class Smallest:
    """Keeps the cells with the smallest keys of a stream of them, and what is known of each.

    Parameters
    ----------
    size : int
        How many are kept; memory is a few times as much.
    values : int
        Numbers that are kept with each cell.

    Examples
    --------
    >>> kept = Smallest(2, 1)
    >>> kept.add(np.array([3.0, 1.0, 2.0]), 0, np.array([5, 6, 7]), np.array([[50.0, 60.0, 70.0]]))
    >>> kept.add(np.array([0.5]), 1, np.array([5]), np.array([[51.0]]))
    >>> sites, cells, values = kept.best(2)
    >>> sites.tolist(), cells.tolist(), values.tolist()
    ([0, 1], [6, 5], [[60.0, 51.0]])
    """

    def __init__(self, size: int, values: int) -> None:
        self.size = size
        self.highest = np.inf if size > 0 else -np.inf
        self._held: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []
        self._values: list[NDArray[np.float32]] = []
        self._count = 0
        self._none = values

    def wanted(self, key: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which keys may still be among the smallest, shape (n,)."""
        return (key <= self.highest) & np.isfinite(key)

    def add(
        self,
        key: NDArray[np.float64],
        site: int,
        cells: NDArray[np.int64],
        values: NDArray[np.floating],
    ) -> None:
        """Take cells of a site; `values` has the shape (numbers, n)."""
        may = self.wanted(key)
        if not may.any():
            return
        number = np.full(int(may.sum()), site, np.int64)
        self._held.append((key[may], number, cells[may]))
        self._values.append(np.asarray(values[:, may], np.float32))
        self._count += number.size
        if self._count > 4 * self.size + 4096:
            self._shrink()

    def _shrink(self) -> None:
        key, site, cells = (np.concatenate(part) for part in zip(*self._held, strict=True))
        values = np.concatenate(self._values, axis=1)
        order = np.lexsort((cells, site, key))[: self.size]
        self._held = [(key[order], site[order], cells[order])]
        self._values = [values[:, order]]
        self._count = order.size
        if order.size == self.size and self.size:
            self.highest = float(key[order[-1]])

    def best(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return sites, cells and values of the `size` smallest, ordered by site and cell.

        Parameters
        ----------
        size : int
            At most the size that is kept.
        """
        if not self._held:
            nothing = np.empty(0, np.int64)
            return nothing, nothing, np.empty((self._none, 0), np.float32)
        self._shrink()
        _, site, cells = self._held[0]
        site, cells, values = site[:size], cells[:size], self._values[0][:, :size]
        order = np.lexsort((cells, site))
        return site[order], cells[order], values[:, order]
