"""Reducers: many values in, few out; over columns of values or pixel by pixel.

Weighted ones ([A]: sum, mean, linearFit, circular*, histograms) count a value by its weight;
the others count what has a weight above 0 and, over a region, its pixel centre inside.

- ``base``: what a reducer is.
- ``folds``: the forms in which stacks of pixels are reduced.
- ``statistics``: counts, sums, moments, extremes, logic.
- ``ordered``: medians, percentiles, modes.
- ``histograms``, ``relations`` (correlations, trends, regressions), ``multivariate``
  (covariances, the geometric median), ``collecting`` (lists and collections).
- ``combining``: reducers made of reducers.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import EngineError
from .base import Fold, Reducer, array_value, scalar
from .collecting import to_collection, to_list
from .combining import (
    combined,
    disaggregated,
    for_each,
    for_each_element,
    grouped,
    reduce_weighted,
    renamed,
    repeated,
    split_weights,
    unweighted,
)
from .histograms import (
    auto_histogram,
    fixed_2d_histogram,
    fixed_histogram,
    frequencies,
    histogram,
    histogram_combiner,
)
from .multivariate import covariance, geometric_median
from .ordered import interval_mean, median, mode, percentile, quantiles
from .relations import (
    kendalls,
    linear_fit,
    linear_regression,
    pearsons,
    ridge_regression,
    robust_regression,
    sens_slope,
    spearmans,
)
from .statistics import SIMPLE, extremum

__all__ = [
    "SIMPLE_REDUCERS",
    "Fold",
    "Reducer",
    "array_value",
    "auto_histogram",
    "combined",
    "covariance",
    "disaggregated",
    "extremum",
    "fixed_2d_histogram",
    "fixed_histogram",
    "for_each",
    "for_each_element",
    "geometric_median",
    "grouped",
    "histogram",
    "histogram_combiner",
    "interval_mean",
    "kendalls",
    "linear_regression",
    "median",
    "mode",
    "named_reducer",
    "percentile",
    "quantiles",
    "reduce_weighted",
    "renamed",
    "repeated",
    "ridge_regression",
    "robust_regression",
    "scalar",
    "split_weights",
    "to_collection",
    "to_list",
    "unweighted",
]

_SIMPLE: dict[str, Callable[[], Reducer]] = {
    **SIMPLE,
    "median": median,
    "mode": mode,
    "linearFit": linear_fit,
    "frequencyHistogram": frequencies,
    "pearsonsCorrelation": pearsons,
    "spearmansCorrelation": spearmans,
    "kendallsCorrelation": lambda: kendalls(1),
    "sensSlope": sens_slope,
    "toList": to_list,
}
SIMPLE_REDUCERS = tuple(_SIMPLE)


def named_reducer(name: str) -> Reducer:
    """Return the reducer of a name that takes no settings.

    Examples
    --------
    >>> named_reducer("mean").reduce([[1, 2, None, 3]])
    [2.0]
    """
    try:
        return _SIMPLE[name.removeprefix("Reducer.")]()
    except KeyError:
        raise EngineError(f"Unknown reducer '{name}'.") from None
