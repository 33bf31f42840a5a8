"""Maximum entropy: the flattest distribution over the background with the presences' means.

After Phillips, Anderson & Schapire (2006) and Phillips & Dudík (2008): a Gibbs distribution
over the background points, exponential in features of the inputs, fitted with a penalty on
the absolute weights. The problem is convex, so its solution does not depend on the solver;
the classes of features, their automatic choice and the regularisation are those of the second
paper. Simplified: thresholds and hinges have at most `_KNOTS` knots per input, and test points
that are held aside are only left out of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..budget import work
from ..errors import EngineError
from .classifiers import Classifier, Learner, Model
from .registry import function

__all__ = ["fit_gibbs"]

Table = np.ndarray[Any, np.dtype[Any]]

_KNOTS = 30
_FORMATS = ("cloglog", "logistic", "cumulative", "raw")

# Regularisation by the number of presences, interpolated (Phillips & Dudík 2008, table 3 and
# the values that the program has used since): (numbers, values) by feature class.
_BETAS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "linear": ((0, 10, 30, 100), (1.0, 1.0, 0.2, 0.05)),
    "quadratic": ((0, 10, 17, 30, 100), (1.3, 0.8, 0.5, 0.25, 0.05)),
    "product": ((0, 10, 17, 30, 100), (2.6, 1.6, 0.9, 0.55, 0.05)),
    "threshold": ((0, 100), (2.0, 1.0)),
    "hinge": ((0, 1), (0.5, 0.5)),
    "categorical": ((0, 10, 17), (0.65, 0.5, 0.25)),
}


@dataclass(frozen=True)
class _Feature:
    """One feature: a function of one input, or of two, scaled to 0..1 over the training."""

    kind: str
    first: int
    second: int = -1
    at: float = 0.0
    end: float = 1.0

    def __call__(self, table: Table) -> Table:
        v = table[:, self.first]
        if self.kind == "threshold":
            return (v > self.at).astype(float)
        if self.kind == "categorical":
            return (v == self.at).astype(float)
        if self.kind == "quadratic":
            v = v**2
        elif self.kind == "product":
            v = v * table[:, self.second]
        scaled = (v - self.at) / (self.end - self.at)
        return np.clip(scaled, 0, 1) if self.kind == "hinge" else scaled


def fit_gibbs(background: Table, target: Table, beta: Table) -> Table:
    """Return the weights of the penalised Gibbs distribution.

    Minimises ``log(sum(exp(background @ w))) - target @ w + beta @ abs(w)``: at the solution
    the distribution's mean of every feature is within ``beta`` of its target.

    Parameters
    ----------
    background : (n, features) float64
    target : (features,) float64
        Means over the presences.
    beta : (features,) float64
        At least 0.

    Returns
    -------
    (features,) float64

    Examples
    --------
    >>> fit_gibbs(np.array([[0.0], [1.0]]), np.array([0.75]), np.array([0.0])).round(3)
    array([1.099])
    """
    from scipy.optimize import minimize

    count = background.shape[1]
    if not count:
        return np.empty(0)

    def cost(split: Table) -> tuple[float, Table]:
        weights = split[:count] - split[count:]
        scores = background @ weights
        most = scores.max()
        odds = np.exp(scores - most)
        total = odds.sum()
        slope = odds @ background / total - target
        value = most + np.log(total) - target @ weights + beta @ (split[:count] + split[count:])
        return float(value), np.concatenate([slope + beta, beta - slope])

    found = minimize(
        cost, np.zeros(2 * count), jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * count),
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-8},
    )  # fmt: skip
    return np.asarray(found.x[:count] - found.x[count:])


class _Maxent(Model):
    """A fitted distribution, and how it is shown."""

    modes = ("PROBABILITY",)

    def __init__(self, table: Table, labels: Table, names: Sequence[str], o: dict[str, Any]):
        presence, others = table[labels == 1], table[labels != 1]
        if not len(presence) or not len(others):
            raise EngineError("Maximum entropy needs presences (1) and background (0) features.")
        if o["randomTestPoints"]:
            random = np.random.default_rng(o["seed"] % 2**63)
            keep = random.permutation(len(presence))
            presence = presence[keep[round(len(keep) * o["randomTestPoints"] / 100) :]]
            if not len(presence):
                raise EngineError("All presences are held aside as test points.")
        self.options = o
        self.background = _with_samples(others, presence, o)
        everything = np.vstack([self.background, presence])
        self.least, self.most = everything.min(axis=0), everything.max(axis=0)
        self.continuous = np.array([n not in o["categoricalNames"] for n in names])
        self.features = self._features(everything, presence, names)
        work(100.0 * len(self.background) * len(self.features))
        shown = self._table(self.background)
        own = self._table(presence)
        self.weights = fit_gibbs(shown, own.mean(axis=0), self._betas(own))
        scores = self._scores(shown)
        self.shift = float(scores.max() + np.log(np.exp(scores - scores.max()).sum()))
        raw = np.exp(scores - self.shift)
        self.entropy = float(-(raw * np.log(np.maximum(raw, 1e-300))).sum())
        self.ranked = np.sort(raw)
        self.summed = np.cumsum(self.ranked)

    def _kinds(self, count: int) -> set[str]:
        o = self.options
        if not o["autoFeature"]:
            return {k for k in ("linear", "quadratic", "product", "threshold", "hinge") if o[k]}
        kinds = {"linear"}
        if count >= o["l2lqThreshold"]:
            kinds.add("quadratic")
        if count >= o["hingeThreshold"]:
            kinds.add("hinge")
        if count >= o["lq2lqptThreshold"]:
            kinds |= {"product", "threshold"}
        return kinds

    def _features(self, all_: Table, presence: Table, names: Sequence[str]) -> list[_Feature]:
        kinds = self._kinds(len(presence))
        out: list[_Feature] = []
        for k in range(len(names)):
            if not self.continuous[k]:
                out += [_Feature("categorical", k, at=float(v)) for v in np.unique(all_[:, k])]
                continue
            low, high = float(self.least[k]), float(self.most[k])
            if low == high:
                continue
            if "linear" in kinds:
                out.append(_Feature("linear", k, at=low, end=high))
            if "quadratic" in kinds:
                out += _scaled("quadratic", k, -1, all_[:, k] ** 2)
            knots = np.linspace(low, high, _KNOTS)
            if "threshold" in kinds:
                out += [_Feature("threshold", k, at=float(v)) for v in knots[1:-1]]
            if "hinge" in kinds:
                out += [_Feature("hinge", k, at=float(v), end=high) for v in knots[:-1]]
                out += [_Feature("hinge", k, at=float(v), end=low) for v in knots[1:]]
        if "product" in kinds:
            places = np.nonzero(self.continuous)[0]
            for i, a in enumerate(places):
                for b in places[i + 1 :]:
                    out += _scaled("product", int(a), int(b), all_[:, a] * all_[:, b])
        return out

    def _betas(self, own: Table) -> Table:
        o, count = self.options, len(own)
        kinds = self._kinds(count)
        given = {"threshold": o["betaThreshold"], "hinge": o["betaHinge"],
                 "categorical": o["betaCategorical"]}  # fmt: skip
        # The richest of linear, quadratic and product sets the value of all three.
        richest = next((k for k in ("product", "quadratic") if k in kinds), "linear")
        spread = own.std(axis=0, ddof=1) if count > 1 else np.full(own.shape[1], 0.5)
        out = np.empty(len(self.features))
        for k, feature in enumerate(self.features):
            lqp = feature.kind in ("linear", "quadratic", "product")
            value = o["betaLqp"] if lqp else given[feature.kind]
            if value < 0:
                value = float(np.interp(count, *_BETAS[richest if lqp else feature.kind]))
            # A feature that never varies among few presences may vary in truth.
            out[k] = value * o["betaMultiplier"] * max(spread[k], 0.001) / np.sqrt(count)
        return out

    def _table(self, table: Table) -> Table:
        out = np.empty((len(table), len(self.features)))
        for k, feature in enumerate(self.features):
            out[:, k] = feature(table)
        return out

    def _scores(self, shown: Table) -> Table:
        out = np.zeros(len(shown))
        for k in np.nonzero(self.weights)[0]:
            out += shown[:, k] * self.weights[k]
        return out

    def _linear(self, table: Table) -> Table:
        out = np.zeros(len(table))
        for k in np.nonzero(self.weights)[0]:
            out += self.features[k](table) * self.weights[k]
        return out

    def _shown(self, table: Table) -> Table:
        with np.errstate(over="ignore"):
            raw = np.exp(np.minimum(self._linear(table) - self.shift, 700))
            how = self.options["outputFormat"]
            if how == "raw":
                return raw
            if how == "cumulative":
                at = np.searchsorted(self.ranked, raw, side="right")
                return 100 * np.concatenate([[0.0], self.summed])[at]
            odds = raw * np.exp(self.entropy)
            return odds / (1 + odds) if how == "logistic" else 1 - np.exp(-odds)

    def chances(self, table: Table) -> Table:
        """Return the suitability."""
        return self.outputs(table, "PROBABILITY")

    def outputs(self, table: Table, mode: str) -> Table:
        """Return the suitability, and how much clamping changed it where that is asked for."""
        o = self.options
        inside = np.where(self.continuous, np.clip(table, self.least, self.most), table)
        clamped = self._shown(inside)
        found = clamped if o["doClamp"] else self._shown(table)
        if not o["extrapolate"]:
            found = np.where((inside != table).any(axis=1), np.nan, found)
        if not o["writeClampGrid"]:
            return found
        return np.column_stack([found, np.abs(clamped - self._shown(table))])

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the entropy, the number of features and the importance of every input.

        An input's importance is the share of the absolute weights of its features.
        """
        size = np.zeros(len(names))
        for feature, weight in zip(self.features, self.weights, strict=True):
            size[feature.first] += abs(weight) / (2 if feature.second >= 0 else 1)
            if feature.second >= 0:
                size[feature.second] += abs(weight) / 2
        total = size.sum() or 1.0
        return {
            "entropy": self.entropy,
            "numberOfFeatures": int(np.count_nonzero(self.weights)),
            "contributions": {n: float(100 * v / total) for n, v in zip(names, size, strict=True)},
        }


def _scaled(kind: str, first: int, second: int, values: Table) -> list[_Feature]:
    low, high = float(values.min()), float(values.max())
    return [_Feature(kind, first, second, low, high)] if high > low else []


def _with_samples(others: Table, presence: Table, o: dict[str, Any]) -> Table:
    if o["addAllSamplesToBackground"]:
        return np.vstack([others, presence])
    if not o["addSamplesToBackground"]:
        return others
    known = {row.tobytes() for row in np.ascontiguousarray(others)}
    new: dict[bytes, Table] = {}
    for row in np.ascontiguousarray(presence):
        if row.tobytes() not in known:
            new.setdefault(row.tobytes(), row)
    return np.vstack([others, *new.values()])


class _Learner(Learner):
    """The distribution of the presences."""

    modes = ("PROBABILITY",)

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Fit the weights."""
        if not np.isin(labels, (0, 1)).all():
            raise EngineError("Classes must be 0 (background) or 1 (presence).")
        return _Maxent(table, labels, options["inputs"], options)


@function("Classifier.amnhMaxent")
def maxent(
    categorical: list[str] | None, how: str, automatic: bool, linear: bool, quadratic: bool,
    product: bool, threshold: bool, hinge: bool, hinge_from: int, quadratic_from: int,
    product_from: int, add_samples: bool, add_all: bool, multiplier: float, beta_hinge: float,
    beta_lqp: float, beta_categorical: float, beta_threshold: float, extrapolate: bool,
    clamp: bool, grid: bool, test_points: int, seed: int,
) -> Classifier:  # fmt: skip
    """Maximum entropy of presences among a background; bands 'probability' and 'clamp'."""
    if how not in _FORMATS:
        raise EngineError(f"Unknown outputFormat '{how}': {', '.join(_FORMATS)}.")
    if not 0 <= test_points < 100:
        raise EngineError(f"randomTestPoints must be a percentage below 100, not {test_points}.")
    if not multiplier >= 0:
        raise EngineError(f"betaMultiplier must not be negative: {multiplier:g}.")
    options = {
        "categoricalNames": list(categorical or ()), "outputFormat": how, "autoFeature": automatic,
        "linear": linear, "quadratic": quadratic, "product": product, "threshold": threshold,
        "hinge": hinge, "hingeThreshold": hinge_from, "l2lqThreshold": quadratic_from,
        "lq2lqptThreshold": product_from, "addSamplesToBackground": add_samples,
        "addAllSamplesToBackground": add_all, "betaMultiplier": multiplier,
        "betaHinge": beta_hinge, "betaLqp": beta_lqp, "betaCategorical": beta_categorical,
        "betaThreshold": beta_threshold, "extrapolate": extrapolate, "doClamp": clamp,
        "writeClampGrid": grid, "randomTestPoints": test_points, "seed": seed,
    }  # fmt: skip
    return Classifier(
        "amnhMaxent", options, _Learner(), "PROBABILITY",
        extra=("probability", "clamp") if grid else ("probability",),
    )  # fmt: skip
