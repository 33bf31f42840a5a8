"""Reducers of vectors: covariances and the geometric median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import EngineError
from ..pixels import Array
from ..types import DOUBLE, PixelType
from .base import Reducer, array_value, arrays_of, real, widen
from .folds import tabled

__all__ = ["covariance", "geometric_median"]


def covariance(centred: bool) -> Reducer:
    """Return the covariance matrix of vectors, given as 1-D arrays of one length.

    Divided by the number of vectors, as Reducer.variance is; with ``centred`` the means are
    taken to be 0.
    """

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        rows = arrays_of(columns[0])
        if not rows:
            return [None]
        if any(r.ndim != 1 or len(r) != len(rows[0]) for r in rows):
            raise EngineError("The inputs of a covariance must be 1-D arrays of one length.")
        table = np.stack(rows).astype(float)
        total = weights.sum()
        if total <= 0:
            return [None]
        if not centred:
            table = table - (weights @ table) / total
        return [array_value((table * weights[:, None]).T @ table / total)]

    def kinds(given: Sequence[PixelType]) -> list[PixelType]:
        return [DOUBLE.with_dimensions(2)]

    name = "centeredCovariance" if centred else "covariance"
    return Reducer(name, 1, (name,), compute, kinds=kinds, weighted=True, arrays=True)


_ROUNDS = 500


def _weiszfeld(points: Array, weights: Array, eta: float) -> Array:
    """Return the points with the least summed distance to those of every table.

    Parameters
    ----------
    points : (n, m, d)
    weights : (n, m)
    eta : float
        Stops once no point moves by more than this share of a thousandth of the spread.
    """
    total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)[:, None]
    at = (points * weights[..., None]).sum(axis=1) / total
    spread = np.sqrt((weights[..., None] * (points - at[:, None]) ** 2).sum(axis=1).max() / 1.0)
    stop = max(min(eta, 1e-3) * 1e-4 * max(float(spread), 1e-300), 1e-300)
    for _ in range(_ROUNDS):
        far = np.sqrt(((points - at[:, None]) ** 2).sum(axis=2))
        here = (far <= stop * 1e-3) & (weights > 0)
        pull = np.where(here, 0, weights / np.where(far > 0, far, 1))
        sums = np.maximum(pull.sum(axis=1), np.finfo(float).tiny)[:, None]
        moved = (points * pull[..., None]).sum(axis=1) / sums
        # Vardi and Zhang 2000: a data point may itself be the median.
        force = np.sqrt((((points - at[:, None]) * pull[..., None]).sum(axis=1) ** 2).sum(axis=1))
        held = (weights * here).sum(axis=1)
        stay = np.where(held > 0, np.minimum(held / np.maximum(force, np.finfo(float).tiny), 1), 0)[
            :, None
        ]
        fresh = (1 - stay) * moved + stay * at
        step = np.abs(fresh - at).max()
        at = fresh
        if step <= stop:
            break
    return at


def geometric_median(count: int, eta: float = 0.001, step: float = 10.0) -> Reducer:
    """Return the point with the least summed distance to the inputs.

    ``eta`` bounds the last improvement; the size of the first step is not needed here. The
    names of the outputs are not documented.
    """
    if count < 1:
        raise EngineError(f"numX must be at least 1, not {count}.")
    outputs = ("median", *(f"median{k}" for k in range(1, count)))

    def table(columns: list[Array], ok: Array | None) -> tuple[list[Array], Array | None]:
        points = np.stack([widen(c) for c in columns], axis=-1)
        weights = np.ones(points.shape[:2]) if ok is None else ok.astype(float)
        found = _weiszfeld(np.where(weights[..., None] > 0, points, 0), weights, eta)
        return [found[:, k] for k in range(count)], None if ok is None else np.asarray(
            ok.any(axis=1)
        )

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        points = np.column_stack([real(c) for c in columns])
        if not len(points):
            return [None] * count
        return [float(v) for v in _weiszfeld(points[None], weights[None], eta)[0]]

    return Reducer(
        "geometricMedian", count, outputs, compute, tabled(table, count),
        options={"numX": count, "eta": eta, "initialStepSize": step},
    )  # fmt: skip
