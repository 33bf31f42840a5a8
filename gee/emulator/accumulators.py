"""Reducing more pixels than memory holds: values are taken tile by tile.

As long as the values of a region fit into a bound they are gathered and given to the reducer at
once. Beyond it the reducers that can go on do so, with the same results:

- sums, means, extremes, spreads, linear fits and correlations by their moments;
- medians and percentiles by the digits of the values: a first pass over the region counts the
  leading ones, further passes look at the few values that share those of the wanted ranks;
- modes, frequencies, distinct values and histograms by a table of the values, and histograms of
  values that are nearly all different by a second pass that fills bins chosen from the range;
- groups by one of these per group.

What needs every value (`toList`, rank correlations) is refused as Earth Engine refuses it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import concatenated
from .errors import LimitError
from .reducers import Reducer, array_value

__all__ = ["Accumulator", "accumulator", "memory_exceeded"]

Array = NDArray[Any]

_BY_MOMENTS = {
    "mean", "sum", "count", "min", "max", "stdDev", "variance", "sampleStdDev", "sampleVariance",
}  # fmt: skip
_BY_TABLE = {"mode", "countDistinct", "countDistinctNonNull", "frequencyHistogram"}
_BY_RANGE = {"histogram", "autoHistogram"}
_DIGIT = 16  # bits of a value that one pass looks at


def memory_exceeded() -> LimitError:
    """Return Earth Engine's words for a computation that would hold too much."""
    return LimitError("User memory limit exceeded.")


class Accumulator(ABC):
    """Takes the values of a region in parts, in one or more passes over it."""

    @abstractmethod
    def add(self, columns: Sequence[Array], weights: Array, inside: Array) -> None:
        """Take some pixels.

        Parameters
        ----------
        columns : sequence of ndarray, (n,)
            One per input of the reducer.
        weights : ndarray of float, (n,)
            Above 0.
        inside : ndarray of bool, (n,)
            Whether the centre counts, for unweighted reducers.
        """

    def again(self) -> bool:
        """End a pass; return whether all pixels have to be added once more."""
        return False

    @abstractmethod
    def result(self) -> list[Any]:
        """Return the reducer's outputs."""


def accumulator(reducer: Reducer, rows: int) -> Accumulator:
    """Return what reduces any number of pixels.

    Parameters
    ----------
    reducer : Reducer
    rows : int
        Pixels that may be held.

    Examples
    --------
    >>> from gee.emulator.reducers import named_reducer
    >>> made = accumulator(named_reducer("median"), rows=2)
    >>> while True:
    ...     for part in np.array([[5.0, 1.0], [4.0, 9.0]]):
    ...         made.add([part], np.ones(2), np.ones(2, bool))
    ...     if not made.again():
    ...         break
    >>> made.result()
    [4.5]
    """
    if reducer.parts:
        return _Parts(reducer, rows)
    if reducer.inputs == 1 and reducer.name in _BY_MOMENTS and len(reducer.outputs) == 1:
        return _ByMoments(reducer)
    spill = _spill(reducer, rows)
    return _Gathered(reducer, rows, spill)


def _spill(reducer: Reducer, rows: int) -> Callable[[], Accumulator] | None:
    """Return what goes on where gathering ends, or None."""
    name, shares = reducer.name, reducer.options.get("percentiles")
    if reducer.inputs == 1:
        if name == "median" and len(reducer.outputs) == 1:
            return lambda: _Ranks(reducer, [50.0], rows)
        if name == "percentile" and shares is not None and len(shares) == len(reducer.outputs):
            return lambda: _Ranks(reducer, shares, rows)
        if name in _BY_TABLE:
            return lambda: _Table(reducer, rows)
        if name in _BY_RANGE:
            return lambda: _Table(reducer, rows, ranged=True)
        if name == "fixedHistogram":
            return lambda: _Added(reducer)
    pair = reducer.inputs == 2 and len(reducer.outputs) == 2
    if pair and name in ("linearFit", "pearsonsCorrelation"):
        return lambda: _Pairs(reducer)
    inner = reducer.options.get("inner")
    if name == "group" and inner is not None:
        return lambda: _Groups(reducer, inner, rows)
    return None


class _Parts(Accumulator):
    """Reducers side by side, on the same inputs or each on its own."""

    def __init__(self, reducer: Reducer, rows: int) -> None:
        self.reducer = reducer
        self.shared = bool(reducer.options.get("shared"))
        share = max(rows // len(reducer.parts), 1)
        self.made = [accumulator(part, share) for part in reducer.parts]

    def add(self, columns: Sequence[Array], weights: Array, inside: Array) -> None:
        start = 0
        for part, made in zip(self.reducer.parts, self.made, strict=True):
            taken = columns if self.shared else columns[start : start + part.inputs]
            made.add(taken, weights, inside)
            start += part.inputs

    def again(self) -> bool:
        # Every part has to end its pass, so no short cut.
        return any([made.again() for made in self.made])

    def result(self) -> list[Any]:
        out = [value for made in self.made for value in made.result()]
        collect = self.reducer.options.get("collect")
        return out if collect is None else list(collect(out))


class _Once(Accumulator):
    """Takes what the first pass brings, and lets further passes, meant for others, go by."""

    def __init__(self, reducer: Reducer) -> None:
        self.reducer = reducer
        self._passed = False

    def add(self, columns: Sequence[Array], weights: Array, inside: Array) -> None:
        if self._passed:
            return
        if not self.reducer.weighted:
            keep = inside & (weights > 0)
            if not keep.all():
                columns, weights = [c[keep] for c in columns], weights[keep]
            weights = np.ones(len(weights))
        if len(weights):
            self.take(columns, weights.astype(float, copy=False))

    @abstractmethod
    def take(self, columns: Sequence[Array], weights: Array) -> None:
        """Take pixels that count."""

    def again(self) -> bool:
        self._passed = True
        return False


class _ByMoments(_Once):
    """Sums of one input: what means, spreads and extremes need.

    Spreads are merged about their means (Chan et al. 1979), so large values keep their digits.
    """

    def __init__(self, reducer: Reducer) -> None:
        super().__init__(reducer)
        self.weight = self.total = 0.0
        self.count = 0
        self.mean = self.spread = 0.0
        self.low: Any = None
        self.high: Any = None

    def take(self, columns: Sequence[Array], weights: Array) -> None:
        values = columns[0]
        name = self.reducer.name
        n = len(values)
        if name in ("min", "max"):
            low, high = values.min().item(), values.max().item()
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
        elif name in ("mean", "sum"):
            self.weight += float(weights.sum())
            self.total += float(np.dot(values.astype(float), weights))
        elif name != "count":
            wide = values.astype(float)
            mean = float(wide.mean())
            step = mean - self.mean
            whole = self.count + n
            self.spread += float(((wide - mean) ** 2).sum()) + step**2 * self.count * n / whole
            self.mean += step * n / whole
        self.count += n

    def result(self) -> list[Any]:
        name = self.reducer.name
        if name == "count":
            return [self.count]
        if name in ("min", "max"):
            return [self.low if name == "min" else self.high]
        if name == "sum":
            return [self.total]
        if name == "mean":
            return [self.total / self.weight if self.weight > 0 else None]
        less = 1 if name.startswith("sample") else 0
        if self.count <= less:
            return [None]
        variance = self.spread / (self.count - less)
        return [math.sqrt(variance) if name.lower().endswith("stddev") else variance]


class _Gathered(Accumulator):
    """Holds the pixels and reduces them at once; beyond a number of them another goes on."""

    def __init__(
        self, reducer: Reducer, rows: int, spill: Callable[[], Accumulator] | None
    ) -> None:
        self.reducer = reducer
        self.rows = rows
        self.spill = spill
        self.count = 0
        self.parts: list[tuple[list[Array], Array, Array]] = []
        self.other: Accumulator | None = None
        self._passed = False

    def add(self, columns: Sequence[Array], weights: Array, inside: Array) -> None:
        if self.other is not None:
            self.other.add(columns, weights, inside)
            return
        if self._passed:
            return
        self.count += len(weights)
        if self.count <= self.rows:
            self.parts.append((list(columns), weights, inside))
            return
        if self.spill is None:
            raise memory_exceeded()
        self.other = self.spill()
        for held in self.parts:
            self.other.add(*held)
        self.parts = []
        self.other.add(columns, weights, inside)

    def again(self) -> bool:
        self._passed = True
        return self.other is not None and self.other.again()

    def result(self) -> list[Any]:
        if self.other is not None:
            return self.other.result()
        inputs = range(self.reducer.inputs)
        if not self.parts:
            columns: list[Array] = [np.empty(0) for _ in inputs]
            return self.reducer.reduce(columns, np.empty(0), np.empty(0, bool))
        columns = [concatenated([part[0][i] for part in self.parts]) for i in inputs]
        weights = np.concatenate([part[1] for part in self.parts]).astype(float)
        inside = np.concatenate([part[2] for part in self.parts])
        self.parts = []
        return self.reducer.reduce(columns, weights, inside)


class _Pairs(_Once):
    """Linear fit or Pearson's correlation of two inputs by their moments about the means."""

    def __init__(self, reducer: Reducer) -> None:
        super().__init__(reducer)
        self.weight = 0.0
        self.count = 0
        self.means = np.zeros(2)
        self.products = np.zeros((2, 2))

    def take(self, columns: Sequence[Array], weights: Array) -> None:
        values = np.stack([c.astype(float) for c in columns])
        total = float(weights.sum())
        means = values @ weights / total
        off = values - means[:, None]
        step = means - self.means
        whole = self.weight + total
        self.products += (off * weights) @ off.T
        self.products += np.outer(step, step) * (self.weight * total / whole)
        self.means += step * total / whole
        self.weight = whole
        self.count += len(weights)

    def result(self) -> list[Any]:
        if self.weight <= 0:
            return [None, None]
        (xx, xy), (_, yy) = self.products
        if self.reducer.name == "linearFit":
            scale = float(xy / xx) if xx else 0.0
            return [scale, float(self.means[1] - scale * self.means[0])]
        from scipy import stats

        if self.count < 2 or not xx or not yy:
            return [None, None]
        r = float(np.clip(xy / math.sqrt(xx * yy), -1, 1))
        # The distribution of r without correlation, as scipy.stats.pearsonr has it.
        shape = self.count / 2 - 1
        p = 2 * float(stats.beta(shape, shape, loc=-1, scale=2).sf(abs(r))) if shape > 0 else 1.0
        return [r, p]


class _Added(_Once):
    """A histogram of fixed bins: those of the parts, added."""

    def __init__(self, reducer: Reducer) -> None:
        super().__init__(reducer)
        self.edges: Array | None = None
        self.counts: Array | None = None

    def take(self, columns: Sequence[Array], weights: Array) -> None:
        found = np.asarray(self.reducer.compute([columns[0]], weights)[0], float)
        if self.counts is None:
            self.edges, self.counts = found[:, 0], found[:, 1]
        else:
            self.counts = self.counts + found[:, 1]

    def result(self) -> list[Any]:
        if self.counts is None:
            return list(self.reducer.compute([np.empty(0)], np.empty(0)))
        assert self.edges is not None
        return [array_value(np.column_stack([self.edges, self.counts]))]


class _Table(Accumulator):
    """The different values and the weight of each.

    Parameters
    ----------
    rows : int
        Different values that may be held.
    ranged : bool
        The reducer is a histogram: with more values than that, a second pass fills its bins.
    """

    def __init__(self, reducer: Reducer, rows: int, ranged: bool = False) -> None:
        self.reducer = reducer
        self.rows = rows
        self.ranged = ranged
        self.values: Array = np.empty(0)
        self.sums: Array = np.empty(0)
        self.waiting: list[tuple[Array, Array]] = []
        self.waits = 0
        self.dense: tuple[int, Array] | None = None
        self.low: Any = math.inf
        self.high: Any = -math.inf
        self.whole = True  # every value is a whole number
        self.passes = 0
        self.bins: _Bins | None = None

    def add(self, columns: Sequence[Array], weights: Array, inside: Array) -> None:
        if self.passes > (0 if self.bins is None else 1):
            return
        values = columns[0]
        if not self.reducer.weighted:
            keep = inside & (weights > 0)
            values, weights = values[keep], np.ones(int(keep.sum()))
        if not len(values):
            return
        if self.bins is not None:
            self.bins.add(values, weights)
            return
        if values.dtype.kind in "iub" and values.dtype.itemsize <= 2:
            kind = np.iinfo(np.uint8 if values.dtype.kind == "b" else values.dtype)
            if self.dense is None:
                self.dense = (int(kind.min), np.zeros(int(kind.max) - int(kind.min) + 1))
            first, sums = self.dense
            sums += np.bincount(values.astype(np.int64) - first, weights, minlength=len(sums))
            return
        if self.ranged:
            finite = values[np.isfinite(values)]
            if len(finite):
                self.low = min(self.low, finite.min().item())
                self.high = max(self.high, finite.max().item())
                self.whole = self.whole and bool((finite == np.round(finite)).all())
            if self.rows == 0:
                return
        self.waiting.append((values, weights.astype(float)))
        self.waits += len(values)
        if self.waits > max(self.rows, 2**18):
            self._merge()

    def _merge(self) -> None:
        if not self.waiting:
            return
        columns = [v for v, _ in self.waiting]
        sums = [w for _, w in self.waiting]
        if len(self.values):
            columns.append(self.values)
            sums.append(self.sums)
        found, place = np.unique(np.concatenate(columns), return_inverse=True)
        self.values, self.sums = found, np.bincount(place.ravel(), np.concatenate(sums))
        self.waiting, self.waits = [], 0
        if len(found) > self.rows:
            if not self.ranged:
                raise memory_exceeded()
            self.rows = 0
            self.values = self.sums = np.empty(0)

    def again(self) -> bool:
        self.passes += 1
        if self.passes > 1 or self.dense is not None:
            return False
        if self.rows:
            self._merge()
        if self.rows == 0:
            self.bins = _Bins(self.reducer, self.low, self.high, self.whole)
            return True
        return False

    def result(self) -> list[Any]:
        if self.bins is not None:
            return self.bins.result()
        if self.dense is not None:
            first, sums = self.dense
            found = np.nonzero(sums)[0]
            self.values, self.sums = found + first, sums[found]
        name = self.reducer.name
        if name == "mode":
            return [self.values[np.argmax(self.sums)].item() if len(self.values) else None]
        if name.startswith("countDistinct"):
            return [len(self.values)]
        return list(self.reducer.compute([self.values], self.sums))


class _Bins:
    """A histogram whose bins the reducer chooses from the range alone, filled part by part."""

    def __init__(self, reducer: Reducer, low: float, high: float, whole: bool) -> None:
        values = [float(low), float(high)]
        if not whole:
            # Something between the two that is no whole number.
            values.append(low + (high - low) * 0.4142135623730951)
        self.cumulative = bool(reducer.options.get("cumulative"))
        (self.shown,) = reducer.compute([np.array(values)], np.full(len(values), 1e-300))
        if isinstance(self.shown, dict):
            self.first, self.width = self.shown["bucketMin"], self.shown["bucketWidth"]
            count = len(self.shown["histogram"])
        else:
            edges = np.asarray(self.shown, float)[:, 0]
            self.first, count = float(edges[0]), len(edges)
            self.width = float(edges[1] - edges[0]) if count > 1 else 1.0
        self.counts = np.zeros(count)
        self.sums = np.zeros(count)

    def add(self, values: Array, weights: Array) -> None:
        """Take values."""
        wide = values.astype(float)
        finite = np.isfinite(wide)
        if not finite.all():
            wide, weights = wide[finite], weights[finite]
        place = np.floor((wide - self.first) / self.width).astype(np.int64)
        place = np.clip(place, 0, len(self.counts) - 1)
        self.counts += np.bincount(place, weights, minlength=len(self.counts))
        self.sums += np.bincount(place, wide * weights, minlength=len(self.counts))

    def result(self) -> list[Any]:
        """Return the histogram in the reducer's form."""
        if not isinstance(self.shown, dict):
            shown = np.asarray(self.shown, float)
            running = self.cumulative
            shown[:, 1] = np.cumsum(self.counts) if running else self.counts
            return [array_value(shown)]
        middle = self.first + (np.arange(len(self.counts)) + 0.5) * self.width
        means = np.divide(self.sums, self.counts, out=middle, where=self.counts > 0)
        return [{**self.shown, "bucketMeans": means.tolist(), "histogram": self.counts.tolist()}]


def _keys(values: Array) -> NDArray[np.uint64]:
    """Return unsigned numbers in the order of the values, their leading digits first.

    Examples
    --------
    >>> _keys(np.array([-2.5, -0.0, 0.0, 7.0], np.float32)).argsort(kind="stable").tolist()
    [0, 1, 2, 3]
    """
    size = values.dtype.itemsize * 8
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0 and 0 are one value
        raw = values.view({32: np.uint32, 64: np.uint64}[size])
        top = raw.dtype.type(1 << (size - 1))
        made = np.where(raw & top, ~raw, raw | top)
    elif values.dtype.kind == "i":
        raw = values.view(f"u{values.dtype.itemsize}")
        made = raw ^ raw.dtype.type(1 << (size - 1))
    else:
        made = values.view(f"u{values.dtype.itemsize}") if size > 8 else values.astype(np.uint8)
    return made.astype(np.uint64) << np.uint64(64 - size)


class _Ranks(_Once):
    """Percentiles of any number of values, exactly: digit by digit, in passes.

    Every pass counts the next 16 bits of the values that share the leading bits of a wanted one;
    once few enough are left they are held and sorted.
    """

    def __init__(self, reducer: Reducer, shares: Sequence[float], rows: int) -> None:
        super().__init__(reducer)
        self.shares = list(shares)
        self.rows = rows
        self.total = 0
        self.dtype: np.dtype[Any] | None = None
        # Leading bits that are known -> (values below them, values that have them).
        self.known: dict[int, tuple[int, int]] = {0: (0, 0)}
        self.bits = 0
        self.counts: dict[int, Array] = {0: np.zeros(2**_DIGIT, np.int64)}
        self.held: dict[int, list[Array]] | None = None
        self.found: dict[int, Any] = {}

    def take(self, columns: Sequence[Array], weights: Array) -> None:
        values = np.ascontiguousarray(columns[0])
        if values.dtype == np.float16 or values.dtype.kind == "b":
            values = values.astype(np.float32 if values.dtype.kind == "f" else np.uint8)
        self.dtype = values.dtype
        keys = _keys(values)
        if self.bits == 0:
            self.total += len(values)
            self._count(0, keys)
            return
        lead = keys >> np.uint64(64 - self.bits)
        for prefix in self.known:
            same = lead == np.uint64(prefix)
            if not same.any():
                continue
            if self.held is not None:
                self.held[prefix].append(values[same])
            else:
                self._count(prefix, keys[same])

    def _count(self, prefix: int, keys: NDArray[np.uint64]) -> None:
        shift = np.uint64(64 - self.bits - _DIGIT)
        digit = (keys >> shift) & np.uint64(2**_DIGIT - 1)
        self.counts[prefix] += np.bincount(digit.astype(np.int64), minlength=2**_DIGIT)

    def _wanted(self) -> list[int]:
        """Return the ranks (from 0) on either side of every percentile."""
        out: set[int] = set()
        for share in self.shares:
            at = (self.total - 1) * (share / 100)
            low = min(max(math.floor(at), 0), self.total - 1)
            out |= {low, min(low + 1, self.total - 1)}
        return sorted(out)

    def again(self) -> bool:
        if self._passed or not self.total:
            return False
        assert self.dtype is not None
        if self.held is not None:
            self._finish()
            return False
        known: dict[int, tuple[int, int]] = {}
        for prefix, counts in self.counts.items():
            below = self.known[prefix][0] + np.concatenate([[0], np.cumsum(counts)])
            for rank in self._wanted():
                if below[0] <= rank < below[-1]:
                    digit = int(np.searchsorted(below, rank, side="right")) - 1
                    at = (int(below[digit]), int(counts[digit]))
                    known[(prefix << _DIGIT) | digit] = at
        self.known, self.bits = known, self.bits + _DIGIT
        size = self.dtype.itemsize * 8
        if self.bits >= size:
            # All digits are known, so the values are.
            for prefix, (below_it, count) in known.items():
                key = np.uint64(prefix >> (self.bits - size))
                for rank in self._wanted():
                    if below_it <= rank < below_it + count:
                        self.found[rank] = _value(key, self.dtype)
            self._passed = True
            return False
        self.counts = {}
        if sum(count for _, count in known.values()) <= self.rows:
            self.held = {prefix: [] for prefix in known}
        else:
            self.counts = {prefix: np.zeros(2**_DIGIT, np.int64) for prefix in known}
        return True

    def _finish(self) -> None:
        assert self.held is not None
        for prefix, parts in self.held.items():
            below, count = self.known[prefix]
            values = np.sort(np.concatenate(parts))
            for rank in self._wanted():
                if below <= rank < below + count:
                    self.found[rank] = values[rank - below]
        self.held, self._passed = None, True

    def result(self) -> list[Any]:
        if not self.total:
            return [None] * len(self.shares)
        out = []
        for share in self.shares:
            at = (self.total - 1) * (share / 100)
            low = min(max(math.floor(at), 0), self.total - 1)
            pair = [float(self.found[low]), float(self.found[min(low + 1, self.total - 1)])]
            # Between two neighbours numpy's own rule, so that small and large regions agree.
            out.append(float(np.quantile(pair, min(max(at - low, 0.0), 1.0))))
        return out


def _value(key: np.uint64, dtype: np.dtype[Any]) -> Any:
    """Return the value of a key of `_keys` (moved to the right end)."""
    size = dtype.itemsize * 8
    kind: Any = np.dtype(f"u{dtype.itemsize}").type
    raw = kind(key)
    top = kind(1 << (size - 1))
    if dtype.kind == "f":
        raw = raw & ~top if raw & top else ~raw
    elif dtype.kind == "i":
        raw = raw ^ top
    return np.array([raw]).view(dtype)[0]


class _Groups(Accumulator):
    """A reducer per value of one input."""

    def __init__(self, reducer: Reducer, inner: Reducer, rows: int) -> None:
        self.reducer = reducer
        self.inner = inner
        self.rows = rows
        self.place = int(reducer.options["groupField"])
        self.made: dict[Any, Accumulator] = {}

    def add(self, columns: Sequence[Array], weights: Array, inside: Array) -> None:
        if not self.reducer.weighted:
            keep = inside & (weights > 0)
            columns, weights = [c[keep] for c in columns], weights[keep]
            inside = inside[keep]
        else:
            inside = np.ones(len(weights), bool)
        rest = [c for i, c in enumerate(columns) if i != self.place]
        found, at = np.unique(columns[self.place], return_inverse=True)
        order = np.argsort(at.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(at.ravel(), minlength=len(found)))
        start = 0
        for key, end in zip(found.tolist(), ends.tolist(), strict=True):
            rows = order[start:end]
            start = end
            if key not in self.made:
                if len(self.made) >= 65_536:
                    raise memory_exceeded()
                # Few rows per group: there may be many of them.
                self.made[key] = accumulator(self.inner, max(self.rows // 256, 1024))
            self.made[key].add([c[rows] for c in rest], weights[rows], inside[rows])

    def again(self) -> bool:
        return any([made.again() for made in self.made.values()])

    def result(self) -> list[Any]:
        name = self.reducer.options["groupName"]
        out = []
        for key in sorted(self.made):
            values = self.made[key].result()
            if self.inner.outputs == ("groups",):
                out.append({name: key, "groups": values[0]})
            else:
                out.append({name: key, **dict(zip(self.inner.outputs, values, strict=True))})
        return [out]
