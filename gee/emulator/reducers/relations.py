"""Correlations, trends and regressions: reducers of tuples of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import kernels, matrices
from ..budget import tick
from ..errors import EngineError
from ..pixels import Array, Pixels
from ..types import DOUBLE, PixelType
from .base import Reducer, array_value, real, widen
from .folds import _Base, tabled

__all__ = [
    "kendalls",
    "linear_fit",
    "linear_regression",
    "pearsons",
    "ridge_regression",
    "robust_regression",
    "sens_slope",
    "spearmans",
]

_MATRIX = DOUBLE.with_dimensions(2)
_VECTOR = DOUBLE.with_dimensions(1)


def _doubles(count: int) -> Callable[[Sequence[PixelType]], list[PixelType]]:
    return lambda kinds: [DOUBLE] * count


# ------------------------------------------------------------------ a line


def _fit(columns: list[Any], weights: Array) -> list[Any]:
    x, y = (real(c) for c in columns)
    total = weights.sum()
    if total <= 0:
        return [None, None]
    mx, my = np.dot(x, weights) / total, np.dot(y, weights) / total
    spread = np.dot((x - mx) ** 2, weights)
    scale = float(np.dot((x - mx) * (y - my), weights) / spread) if spread else 0.0
    return [scale, float(my - scale * mx)]


class _FitFold(_Base):
    """Sums for a line through (x, y), pixel by pixel, about running means."""

    def __init__(self, kinds: Sequence[PixelType], shape: tuple[int, int]) -> None:
        super().__init__(kinds, shape)
        self.weight: Array = np.zeros(shape)
        self.mean_x: Array = np.zeros(shape)
        self.mean_y: Array = np.zeros(shape)
        self.spread: Array = np.zeros(shape)
        self.common: Array = np.zeros(shape)

    def add(self, layers: Sequence[Pixels]) -> None:
        (x, mx), (y, my) = layers
        mask = kernels.both(mx, my)
        ok = self.see(mask)
        w: Any = 1.0 if mask is None else widen(mask)
        x, y = widen(x), widen(y)
        if ok is not None:
            x, y = np.where(ok, x, 0), np.where(ok, y, 0)
        # Moved about the means (West 1979): times in milliseconds keep their digits.
        self.weight = self.weight + w
        share = w / np.where(self.weight == 0, 1, self.weight)
        dx, dy = x - self.mean_x, y - self.mean_y
        self.mean_x = self.mean_x + share * dx
        self.mean_y = self.mean_y + share * dy
        rest = w * dx * (1 - share)
        self.spread = self.spread + rest * dx
        self.common = self.common + rest * dy

    def result(self) -> list[Pixels]:
        flat = self.spread == 0
        scale = np.where(flat, 0, self.common / np.where(flat, 1, self.spread))
        offset = self.mean_y - scale * self.mean_x
        return [Pixels(scale, self.mask), Pixels(offset, self.mask)]


def linear_fit() -> Reducer:
    """Return slope and offset of the (weighted) line through x and y."""
    return Reducer("linearFit", 2, ("scale", "offset"), _fit, _FitFold, _doubles(2), weighted=True)


def _sens_table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
    x, y = (widen(c) for c in columns)
    n, m = x.shape
    slope, offset, valid = np.zeros(n), np.zeros(n), np.zeros(n, bool)
    if m < 2:
        return [slope, offset], valid
    first, second = np.triu_indices(m, 1)
    step = max(2**20 // len(first), 1)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        dx = x[rows][:, second] - x[rows][:, first]
        dy = y[rows][:, second] - y[rows][:, first]
        use = dx != 0
        if ok is not None:
            use &= ok[rows][:, second] & ok[rows][:, first]
        slopes = np.where(use, dy / np.where(use, dx, 1), np.inf)
        valid[rows] = use.any(axis=1)
        slope[rows] = np.where(valid[rows], _middle(slopes, use.sum(axis=1)), 0)
    rest = y - slope[:, None] * x
    count = np.full(n, m) if ok is None else ok.sum(axis=1)
    if ok is not None:
        rest = np.where(ok, rest, np.inf)
    offset = np.where(count > 0, _middle(rest, count), 0)
    return [slope, np.where(valid, offset, 0)], valid


def _middle(values: Array, count: Array) -> Array:
    """Return the medians of rows whose first ``count`` values, once sorted, are valid."""
    ordered = np.sort(values, axis=1)
    last = np.maximum(count, 1)
    low = np.take_along_axis(ordered, ((last - 1) // 2)[:, None], 1)[:, 0]
    high = np.take_along_axis(ordered, (last // 2)[:, None], 1)[:, 0]
    return np.where(low == high, low, (low + high) / 2)


def sens_slope() -> Reducer:
    """Return Sen's slope, the median of the slopes of all pairs, and an offset.

    The offset is the median of y - slope x; Earth Engine does not say which it takes.
    """

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        found, valid = _sens_table([real(c)[None] for c in columns], None)
        return [float(f[0]) for f in found] if valid[0] else [None, None]

    return Reducer(
        "sensSlope", 2, ("slope", "offset"), compute, tabled(_sens_table, 2), _doubles(2)
    )


# ------------------------------------------------------------------ correlations


def _correlation(test: str) -> Callable[[list[Any], Array], list[Any]]:
    def compute(columns: list[Any], weights: Array) -> list[Any]:
        from scipy import stats

        x, y = (real(c) for c in columns)
        if len(x) < 2:
            return [None, None]
        if test != "kendalltau" and (np.ptp(x) == 0 or np.ptp(y) == 0):
            return [None, None]
        found = getattr(stats, test)(x, y)
        value, p = float(found[0]), float(found[1])
        return [None if math.isnan(v) else v for v in (value, p)]

    return compute


def _pearson_table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
    from scipy import stats

    x, y = (widen(c) for c in columns)
    use = np.ones(x.shape) if ok is None else ok.astype(float)
    count = use.sum(axis=1)
    many = np.maximum(count, 1)
    dx = (x - ((x * use).sum(axis=1) / many)[:, None]) * use
    dy = (y - ((y * use).sum(axis=1) / many)[:, None]) * use
    size = np.sqrt((dx**2).sum(axis=1) * (dy**2).sum(axis=1))
    valid = (count > 1) & (size > 0)
    r = np.clip((dx * dy).sum(axis=1) / np.where(valid, size, 1), -1, 1)
    half = np.where(count > 2, count / 2 - 1, 1)
    p = np.where(count > 2, 2 * stats.beta.sf(np.abs(r), half, half, loc=-1, scale=2), 1.0)
    return [r, p], valid


def _counted(values: Array, use: Array, equal: bool) -> Array:
    """Return for every value of a row how many valid ones are equal to it, or less."""
    out = np.zeros(values.shape)
    for k in range(values.shape[1]):
        one = values[:, k : k + 1]
        out += ((values == one) if equal else (values > one)) & use[:, k : k + 1]
    return out


def _spearman_table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
    use = np.ones(columns[0].shape, bool) if ok is None else ok
    ranks = [
        _counted(c, use, equal=False) + (_counted(c, use, equal=True) + 1) / 2 for c in columns
    ]
    found, valid = _pearson_table(ranks, ok)
    return found, valid & (use.sum(axis=1) > 2)


@lru_cache(maxsize=64)
def _exact_kendall(count: int) -> Array:
    """Return two-sided p-values of so many discordant pairs without ties (Kendall 1970)."""
    # Orders of n things by their number of inversions: those of n - 1, shifted by 0 ... n - 1.
    ways = np.ones(1)
    for n in range(2, count + 1):
        ways = np.convolve(ways, np.ones(n)) / n
    one_side = np.cumsum(ways)
    pairs = len(ways) - 1
    least = np.minimum(np.arange(pairs + 1), pairs - np.arange(pairs + 1))
    return np.where(2 * least == pairs, 1.0, np.clip(2 * one_side[least], 0, 1))


# As scipy.stats.kendalltau: exact up to so many pairs without ties.
_EXACT = 33


def _kendall_table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
    from scipy import stats

    shape = columns[-1].shape
    y = widen(columns[-1])
    x = widen(columns[0]) if len(columns) > 1 else np.broadcast_to(np.arange(shape[1]) * 1.0, shape)
    use = np.ones(shape, bool) if ok is None else ok
    balance = np.zeros(shape[0])
    for k in range(shape[1] - 1):
        sign = np.sign(x[:, k + 1 :] - x[:, k : k + 1]) * np.sign(y[:, k + 1 :] - y[:, k : k + 1])
        balance += np.where(use[:, k + 1 :] & use[:, k : k + 1], sign, 0).sum(axis=1)
    n = use.sum(axis=1).astype(float)
    total = n * (n - 1) / 2
    ties, thirds, fifths = [], [], []
    for values in (x, y):
        size = np.where(use, _counted(values, use, equal=True), 1)
        ties.append((size - 1).sum(axis=1) / 2)
        thirds.append(((size - 1) * (size - 2)).sum(axis=1))
        fifths.append(((size - 1) * (2 * size + 5)).sum(axis=1))
    spread = np.sqrt((total - ties[0]) * (total - ties[1]))
    valid = (n > 1) & (spread > 0)
    tau = np.clip(balance / np.where(valid, spread, 1), -1, 1)
    whole = np.where(n > 1, n * (n - 1), 1)
    variance = (
        (whole * (2 * n + 5) - fifths[0] - fifths[1]) / 18
        + 2 * ties[0] * ties[1] / whole
        + thirds[0] * thirds[1] / (9 * whole * np.maximum(n - 2, 1))
    )
    z = balance / np.sqrt(np.where(valid & (variance > 0), variance, 1))
    p = 2 * stats.norm.sf(np.abs(z))
    plain = valid & (ties[0] == 0) & (ties[1] == 0) & (n <= _EXACT)
    for count in np.unique(n[plain]):
        rows = plain & (n == count)
        discordant = np.rint((total[rows] - balance[rows]) / 2).astype(np.int64)
        p[rows] = _exact_kendall(int(count))[discordant]
    return [tau, p], valid


def pearsons() -> Reducer:
    """Return Pearson's correlation of two inputs, and its two-sided p-value."""
    return Reducer(
        "pearsonsCorrelation", 2, ("correlation", "p-value"), _correlation("pearsonr"),
        tabled(_pearson_table, 2), _doubles(2),
    )  # fmt: skip


def spearmans() -> Reducer:
    """Return Spearman's rank correlation of two inputs, and its p-value."""
    return Reducer(
        "spearmansCorrelation", 2, ("correlation", "p-value"), _correlation("spearmanr"),
        tabled(_spearman_table, 2), _doubles(2),
    )  # fmt: skip


def kendalls(inputs: int = 1) -> Reducer:
    """Return Kendall's tau-b of two inputs, or of one input with its order ([A])."""
    if inputs not in (1, 2):
        raise EngineError(f"numInputs must be 1 or 2, not {inputs}.")
    pair = _correlation("kendalltau")

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        if inputs == 1:
            return pair([np.arange(len(columns[0])), columns[0]], weights)
        return pair(columns, weights)

    return Reducer(
        "kendallsCorrelation", inputs, ("tau", "p-value"), compute, tabled(_kendall_table, 2),
        _doubles(2),
    )  # fmt: skip


# ------------------------------------------------------------------ regressions

# Solves for one table (n, m, inputs) of rows whose weights are the roots of w (n, m).
_Solver = Callable[[Array, Array, Array], tuple[list[Array], Array]]


def _regression(
    name: str,
    inputs: int,
    outputs: tuple[str, ...],
    solve: _Solver,
    options: dict[str, Any] | None = None,
) -> Reducer:
    def table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array]:
        full = np.stack([widen(c) for c in columns], axis=-1)
        weights = np.ones(full.shape[:2]) if ok is None else ok.astype(float)
        return _solved(full, weights)

    def _solved(full: Array, weights: Array) -> tuple[list[Array], Array]:
        # What does not count may be anything, also infinite.
        return solve(np.where(weights[..., None] > 0, full, 0), weights, (weights > 0).sum(axis=1))

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        full = np.column_stack([real(c) for c in columns])
        found, valid = _solved(full[None], np.asarray(weights, float)[None])
        return [array_value(f[0]) if valid[0] else None for f in found]

    def kinds(given: Sequence[PixelType]) -> list[PixelType]:
        return [_MATRIX] + [_VECTOR] * (len(outputs) - 1)

    return Reducer(
        name, inputs, outputs, compute, tabled(table, len(outputs)), kinds, weighted=True,
        options=options or {},
    )  # fmt: skip


def _check_counts(x_count: int, y_count: int) -> None:
    if x_count < 1 or y_count < 1:
        raise EngineError(f"numX and numY must be at least 1, not {x_count} and {y_count}.")


def _root_mean_square(off: Array, weights: Array) -> Array:
    total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
    found: Array = np.sqrt((weights[..., None] * off**2).sum(axis=1) / total[:, None])
    return found


def linear_regression(x_count: int, y_count: int = 1) -> Reducer:
    """Return least-squares coefficients (numX, numY) and the residuals' root mean squares."""
    _check_counts(x_count, y_count)

    def solve(full: Array, weights: Array, count: Array) -> tuple[list[Array], Array]:
        x, y = full[..., :x_count], full[..., x_count:]
        root = np.sqrt(weights)[..., None]
        found = matrices.least_squares(x * root, y * root)
        return [found, _root_mean_square(y - x @ found, weights)], count > x_count

    return _regression(
        "linearRegression", x_count + y_count, ("coefficients", "residuals"), solve,
        {"numX": x_count, "numY": y_count},
    )  # fmt: skip


def ridge_regression(x_count: int, y_count: int = 1, penalty: float = 0.1) -> Reducer:
    """Return least squares with a penalty on the coefficients but not on the intercept.

    The penalty is on the coefficients as they are, and the p-values are of an F-test against
    the intercept alone; Earth Engine documents neither.
    """
    _check_counts(x_count, y_count)

    def solve(full: Array, weights: Array, count: Array) -> tuple[list[Array], Array]:
        from scipy import stats

        x, y = full[..., :x_count], full[..., x_count:]
        total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)[:, None]
        mx = (x * weights[..., None]).sum(axis=1) / total
        my = (y * weights[..., None]).sum(axis=1) / total
        w = weights[..., None]
        xs, ys = x - mx[:, None], y - my[:, None]
        normal = np.swapaxes(xs * w, 1, 2) @ xs + penalty * np.eye(x_count)
        slope = np.linalg.pinv(normal) @ (np.swapaxes(xs * w, 1, 2) @ ys)
        base = my[:, None] - mx[:, None] @ slope
        off = y - (x @ slope + base)
        left = np.maximum(count - x_count - 1, 0)[:, None].astype(float)
        error = (w * off**2).sum(axis=1)
        gain = np.maximum((w * ys**2).sum(axis=1) - error, 0)
        ratio = gain * left / np.where(error > 0, error, 1) / x_count
        p = np.where(error > 0, stats.f.sf(ratio, x_count, np.maximum(left, 1)), 0.0)
        made = [np.concatenate([slope, base], axis=1), _root_mean_square(off, weights), p]
        return made, count >= x_count + 1

    return _regression(
        "ridgeRegression", x_count + y_count, ("coefficients", "residuals", "p-value"), solve,
        {"numX": x_count, "numY": y_count, "lambda": penalty},
    )  # fmt: skip


# Talwar's cost is quadratic up to 2.795 standard deviations, for 95 % efficiency.
_TALWAR = 2.795
_ROUNDS = 50


def robust_regression(x_count: int, y_count: int = 1, beta: float | None = None) -> Reducer:
    """Return least squares without the tuples whose residuals exceed a margin.

    Iteratively reweighted with Talwar's cost ([A]): a tuple counts fully or, where the root
    mean square of its residuals is above ``beta``, not at all. The default margin is 2.795
    standard deviations, estimated by the median absolute residual; Earth Engine's is not
    documented. The residuals' root mean squares are over the tuples that count.
    """
    _check_counts(x_count, y_count)

    def solve(full: Array, weights: Array, count: Array) -> tuple[list[Array], Array]:
        x, y = full[..., :x_count], full[..., x_count:]
        inside = weights > 0
        kept = inside.copy()
        # Rounding must not make outliers of tuples on one plane.
        least = 1e-12 * np.abs(y).max(axis=(1, 2), initial=0.0)
        found = np.zeros((len(full), x_count, y_count))
        open_ = np.arange(len(full))
        for _ in range(_ROUNDS):
            tick()
            root = np.sqrt(np.where(kept[open_], weights[open_], 0))[..., None]
            found[open_] = matrices.least_squares(x[open_] * root, y[open_] * root)
            off = np.sqrt(np.mean((y[open_] - x[open_] @ found[open_]) ** 2, axis=2))
            if beta is None:
                middle = _middle(np.where(inside[open_], off, np.inf), count[open_])
                margin = _TALWAR / 0.6745 * np.where(count[open_] > 0, middle, 0)
            else:
                margin = np.full(len(open_), beta)
            fresh = inside[open_] & (off <= np.maximum(margin, least[open_])[:, None])
            # Too few left to solve, or the same as before: that is the answer.
            moves = (fresh.sum(axis=1) >= x_count) & (fresh != kept[open_]).any(axis=1)
            open_ = open_[moves]
            if not len(open_):
                break
            kept[open_] = fresh[moves]
        residuals = _root_mean_square(y - x @ found, np.where(kept, weights, 0))
        return [found, residuals], count >= x_count

    return _regression(
        "robustLinearRegression", x_count + y_count, ("coefficients", "residuals"), solve,
        {"numX": x_count, "numY": y_count, "beta": beta},
    )  # fmt: skip
