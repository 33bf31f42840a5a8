"""What lies where in a map: cells counted by probability, by slump and by class of each factor.

The limits of the classes are known only when all maps are drawn. Counted by stored probability
while they are drawn, any limits can be applied afterwards, and no raster is read twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.tensors import write_tensors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BIN", "Cut", "Tally", "bins"]

Counts = NDArray[np.int64]
_LEVELS = 10_000
# Stored steps in a bin: 2,001 bins, so that limits are exact to 0.0005.
BIN = 5
BINS = _LEVELS // BIN + 1


def bins() -> NDArray[np.float64]:
    """Return the largest stored probability of each bin, shape (2001,).

    Examples
    --------
    >>> bins()[[0, 1, -1]].tolist()
    [0.0004, 0.0009, 1.0]
    """
    return np.asarray(np.minimum(np.arange(BINS) * BIN + BIN - 1, _LEVELS) / _LEVELS)


@dataclass(frozen=True)
class Cut:
    """A factor in classes.

    Attributes
    ----------
    factor : str
    limits : tuple of float
        Of a factor that is measured: values up to and with the first limit are class 0, and so on.
    numbers : tuple of int
        Of a factor of classes: its class numbers, ascending; other numbers count as missing.

    Examples
    --------
    >>> Cut("slope", (5.0, 10.0)).codes(np.array([5.0, 7.0, np.nan])).tolist()
    [0, 1, 3]
    >>> Cut("lithology", (), (2, 4)).words
    ('2', '4', 'missing')
    """

    factor: str
    limits: tuple[float, ...] = ()
    numbers: tuple[int, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Name of each class, the last for missing values."""
        if self.numbers:
            return (*(str(number) for number in self.numbers), "missing")
        if not self.limits:
            return ("all", "missing")
        told = [f"{limit:.4g}" for limit in self.limits]
        middle = [f"{low} to {high}" for low, high in pairwise(told)]
        return (f"up to {told[0]}", *middle, f"above {told[-1]}", "missing")

    def codes(self, values: NDArray[np.floating[Any]]) -> Counts:
        """Return the class of each value; the number of classes stands for missing ones."""
        missing = len(self.words) - 1
        if self.numbers:
            known = np.asarray(self.numbers, np.float64)
            at = np.minimum(np.searchsorted(known, values), len(known) - 1)
            return np.where(known[at] == values, at, missing).astype(np.int64)
        at = np.searchsorted(np.asarray(self.limits, np.float64), values, side="left")
        return np.where(np.isfinite(values), at, missing).astype(np.int64)


@dataclass(frozen=True)
class Tally:
    """Counts of a map, or of a part of one.

    Attributes
    ----------
    area, looked, slumps : ndarray of int64, shape (10001,)
        Cells by stored probability: all, those where labels say what is there, and those of them
        that stand for slumps.
    of_factor : dict of str to ndarray of int64, shape (classes + 1, 2001)
        Cells by class of the factor (the last: missing) and bin of probability.
    looked_factor, slumps_factor : dict of str to ndarray of int64, shape (classes + 1,)
        As above, whatever their probability.
    counts : dict of str to int
        Further sums, such as "valid", "filled" and "outside".
    """

    area: Counts
    looked: Counts
    slumps: Counts
    of_factor: dict[str, Counts] = field(default_factory=dict)
    looked_factor: dict[str, Counts] = field(default_factory=dict)
    slumps_factor: dict[str, Counts] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        probability: NDArray[np.uint16],
        looked: NDArray[np.bool_] | None = None,
        slumps: NDArray[np.bool_] | None = None,
        factors: Mapping[str, NDArray[np.floating[Any]]] | None = None,
        cuts: Sequence[Cut] = (),
        counts: Mapping[str, int] | None = None,
    ) -> Tally:
        """Count valid cells.

        Parameters
        ----------
        probability : ndarray of uint16, shape (n,)
            Stored, without nodata.
        looked, slumps : ndarray of bool, shape (n,), optional
        factors : mapping of str to ndarray of float, shape (n,), optional
        cuts : sequence of Cut
            Of the factors to count by.
        counts : mapping of str to int, optional
        """
        nothing = np.zeros(len(probability), bool)
        seen = nothing if looked is None else looked
        hit = nothing if slumps is None else slumps & seen

        def by(chosen: NDArray[np.bool_] | None) -> Counts:
            part = probability if chosen is None else probability[chosen]
            return np.bincount(part, minlength=_LEVELS + 1).astype(np.int64)

        of, looked_of, slumps_of = {}, {}, {}
        column = probability.astype(np.int64) // BIN
        for cut in cuts:
            codes, size = cut.codes((factors or {})[cut.factor]), len(cut.words)
            both = np.bincount(codes * BINS + column, minlength=size * BINS)
            of[cut.factor] = both.reshape(size, BINS).astype(np.int64)
            looked_of[cut.factor] = np.bincount(codes[seen], minlength=size).astype(np.int64)
            slumps_of[cut.factor] = np.bincount(codes[hit], minlength=size).astype(np.int64)
        return cls(by(None), by(seen), by(hit), of, looked_of, slumps_of, dict(counts or {}))

    def __add__(self, other: Tally) -> Tally:
        """Return the counts of both."""

        def both(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
            return {
                name: a[name] + b[name] if name in a and name in b else a.get(name, b.get(name))
                for name in sorted({*a, *b})
            }

        return Tally(
            self.area + other.area,
            self.looked + other.looked,
            self.slumps + other.slumps,
            both(self.of_factor, other.of_factor),
            both(self.looked_factor, other.looked_factor),
            both(self.slumps_factor, other.slumps_factor),
            both(self.counts, other.counts),
        )

    @classmethod
    def none(cls) -> Tally:
        """Return the counts of nothing."""
        return cls.of(np.empty(0, np.uint16))

    def binned(self) -> NDArray[np.float64]:
        """Return the cells of each bin of probability, shape (2001,)."""
        return np.add.reduceat(self.area, np.arange(0, _LEVELS + 1, BIN)).astype(np.float64)

    def write(self, path: Path) -> None:
        """Write as safetensors, atomically; equal counts give equal bytes."""
        parts = {"area": self.area, "looked": self.looked, "slumps": self.slumps}
        for kind in ("of_factor", "looked_factor", "slumps_factor"):
            parts |= {f"{kind}/{name}": each for name, each in getattr(self, kind).items()}
        write_tensors(path, parts, {"counts": json.dumps(self.counts, sort_keys=True)})

    @classmethod
    def read(cls, path: Path) -> Tally:
        """Read what `write` wrote."""
        from safetensors import safe_open

        kinds: dict[str, dict[str, Counts]] = {
            "of_factor": {}, "looked_factor": {}, "slumps_factor": {}
        }  # fmt: skip
        with safe_open(path, "numpy") as held:
            for name in held.keys():  # noqa: SIM118 - no mapping
                kind, _, factor = name.partition("/")
                if factor:
                    kinds[kind][factor] = held.get_tensor(name)
            whole = {name: held.get_tensor(name) for name in ("area", "looked", "slumps")}
            counts = json.loads(held.metadata()["counts"])
        return cls(
            whole["area"], whole["looked"], whole["slumps"],
            kinds["of_factor"], kinds["looked_factor"], kinds["slumps_factor"], counts,
        )  # fmt: skip
