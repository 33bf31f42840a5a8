"""Functions that make reducers, kept apart from what reducers do."""

from __future__ import annotations

from typing import Any

from .. import reducers
from ..image import Image
from ..reducers import SIMPLE_REDUCERS, Reducer, named_reducer
from .registry import function

__all__: list[str] = []

_WITH_SETTINGS = {"min", "max", "median", "mode", "toList", "kendallsCorrelation"}


def _register(name: str, reducer: str) -> None:
    function(f"Reducer.{name}")(lambda: named_reducer(reducer))


for _name in SIMPLE_REDUCERS:
    if _name not in _WITH_SETTINGS:
        _register(_name, _name)
_register("and", "allNonZero")
_register("or", "anyNonZero")


@function("Reducer.min")
def minimum(inputs: int) -> Reducer:
    """Least first input, and the inputs beside it."""
    return reducers.extremum(False, inputs)


@function("Reducer.max")
def maximum(inputs: int) -> Reducer:
    """Greatest first input, and the inputs beside it."""
    return reducers.extremum(True, inputs)


@function("Reducer.median")
def median_(buckets: Any, width: Any, raw: Any) -> Reducer:
    """Median, always exact: no histogram stands in for many values."""
    return reducers.median()


@function("Reducer.mode")
def mode(buckets: Any, width: Any, raw: Any) -> Reducer:
    """Most frequent value."""
    return named_reducer("mode")


@function("Reducer.percentile")
def percentiles(
    shares: list[float], names: list[str] | None, buckets: Any, width: Any, raw: Any
) -> Reducer:
    """Percentiles."""
    return reducers.percentile(shares, names)


@function("Reducer.toList")
def listed(size: int | None, optional: int) -> Reducer:
    """All inputs."""
    return reducers.to_list(size, optional)


@function("Reducer.combine")
def combine(first: Reducer, second: Reducer, prefix: str, shared: bool) -> Reducer:
    """Two reducers in parallel."""
    return reducers.combined(first, second, prefix, shared)


@function("Reducer.repeat")
def repeat(reducer: Reducer, count: int) -> Reducer:
    """Copies side by side."""
    return reducers.repeated(reducer, count)


@function("Reducer.group")
def group(reducer: Reducer, field: int, name: str) -> Reducer:
    """A reducer for every value of an input."""
    return reducers.grouped(reducer, field, name)


@function("Reducer.forEach")
def each(reducer: Reducer, names: list[str]) -> Reducer:
    """A copy for every name."""
    return reducers.for_each(reducer, names)


@function("Reducer.forEachBand")
def each_band(reducer: Reducer, image: Image) -> Reducer:
    """A copy for every band of an image."""
    return reducers.for_each(reducer, image.names)


@function("Reducer.unweighted")
def without_weights(reducer: Reducer) -> Reducer:
    """All weights 1."""
    return reducers.unweighted(reducer)


@function("Reducer.splitWeights")
def with_weights(reducer: Reducer) -> Reducer:
    """The weight as a further input."""
    return reducers.split_weights(reducer)


@function("Reducer.setOutputs")
def set_outputs(reducer: Reducer, names: list[str]) -> Reducer:
    """Other names."""
    return reducers.renamed(reducer, names)


@function("Reducer.getOutputs")
def get_outputs(reducer: Reducer) -> list[str]:
    """Names of the outputs."""
    return list(reducer.outputs)


@function("Reducer.fixedHistogram")
def fixed(low: float, high: float, steps: int, cumulative: bool) -> Reducer:
    """Counts in bins of one width."""
    return reducers.fixed_histogram(low, high, steps, cumulative)


@function("Reducer.histogram")
def automatic(most: int | None, width: float | None, raw: int | None) -> Reducer:
    """Counts in bins chosen from the data."""
    return reducers.histogram(most, width)


@function("Reducer.intervalMean")
def interval(low: float, high: float, buckets: Any, width: Any, raw: Any) -> Reducer:
    """Mean between percentiles."""
    return reducers.interval_mean(low, high)


@function("Reducer.linearRegression")
def regression(x: int, y: int) -> Reducer:
    """Least squares."""
    return reducers.linear_regression(x, y)


@function("Reducer.ridgeRegression")
def ridge(x: int, y: int, penalty: float) -> Reducer:
    """Least squares with a penalty on the coefficients."""
    return reducers.ridge_regression(x, y, penalty)


@function("Reducer.robustLinearRegression")
def robust(x: int, y: int, beta: float | None) -> Reducer:
    """Least squares without outliers."""
    return reducers.robust_regression(x, y, beta)


@function("Reducer.geometricMedian")
def geometric_median(count: int, eta: float, step: float) -> Reducer:
    """The point with the least summed distance."""
    return reducers.geometric_median(count, eta, step)


@function("Reducer.covariance")
def covariance() -> Reducer:
    """Covariances of vectors."""
    return reducers.covariance(centred=False)


@function("Reducer.centeredCovariance")
def centered_covariance() -> Reducer:
    """Covariances of vectors whose means are 0."""
    return reducers.covariance(centred=True)


@function("Reducer.kendallsCorrelation")
def kendall(inputs: int) -> Reducer:
    """Kendall's rank correlation of two inputs, or of one with its order."""
    return reducers.kendalls(inputs)


@function("Reducer.toCollection")
def collected(names: list[str], optional: int) -> Reducer:
    """All inputs as features."""
    return reducers.to_collection(names, optional)


@function("Reducer.disaggregate")
def items_of(reducer: Reducer, axis: int | None) -> Reducer:
    """A reducer over the items of lists."""
    return reducers.disaggregated(reducer, axis)


@function("Reducer.forEachElement")
def each_element(reducer: Reducer) -> Reducer:
    """A reducer for every position of arrays."""
    return reducers.for_each_element(reducer)


@function("Reducer.autoHistogram")
def automatic_table(
    most: int | None, width: float | None, raw: int | None, cumulative: bool
) -> Reducer:
    """Counts in bins chosen from the data, as an array."""
    return reducers.auto_histogram(most, width, cumulative)


@function("Reducer.fixed2DHistogram")
def fixed_2d(
    x_min: float, x_max: float, x_steps: int, y_min: float, y_max: float, y_steps: int
) -> Reducer:
    """Counts in bins of two inputs."""
    return reducers.fixed_2d_histogram((x_min, x_max, x_steps), (y_min, y_max, y_steps))


@function("Reducer.histogramCombiner")
def combiner(most: int | None, width: float | None) -> Reducer:
    """One histogram of several."""
    return reducers.histogram_combiner(most, width)
