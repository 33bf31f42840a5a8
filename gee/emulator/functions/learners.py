"""Classifiers other than trees: vector machines, distances, neighbours, Bayes, regions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..budget import work
from ..errors import EngineError
from .classifiers import Classifier, Learner, Model
from .registry import function

__all__: list[str] = []

Table = np.ndarray[Any, np.dtype[Any]]

# Rows of a distance matrix made at a time.
_ROWS = 4096


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Return the known spelling of an option."""
    for choice in known:
        if choice.lower() == value.lower():
            return choice
    raise EngineError(f"Unknown {name} '{value}': {', '.join(known)}.")


# ------------------------------------------------------------------ support vector machines

_SVM_TYPES = ("C_SVC", "NU_SVC", "ONE_CLASS", "EPSILON_SVR", "NU_SVR")
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


class _Machine(Model):
    """A classifier of libsvm, by votes or by the sum of margins."""

    def __init__(self, made: Any, margin: bool, table: Table, labels: Table) -> None:
        self.made, self.margin = made, margin
        self.classes = tuple(float(c) for c in made.classes_)
        self._training = table, labels
        self._calibrated: Any = None
        self._lock = threading.Lock()

    def labels(self, table: Table) -> Table:
        """Return the class with most votes, or with the greatest sum of margins."""
        if not self.margin:
            return np.asarray(self.made.predict(table), float)
        return np.asarray(self.classes)[np.argmax(self._sums(table), axis=1)]

    def _sums(self, table: Table) -> Table:
        margins = self.raw(table)
        k = len(self.classes)
        total = np.zeros((len(table), k))
        at = 0
        for i in range(k):
            for j in range(i + 1, k):
                total[:, i] += margins[:, at]
                total[:, j] -= margins[:, at]
                at += 1
        return total

    def raw(self, table: Table) -> Table:
        """Return the margin of every pair of classes, positive for the first."""
        margins = np.asarray(self.made.decision_function(table))
        # Of two classes scikit-learn turns the sign round.
        return -margins[:, None] if margins.ndim == 1 else margins

    def chances(self, table: Table) -> Table:
        """Return Platt's probabilities, from cross-validated margins."""
        with self._lock:
            if self._calibrated is None:
                self._calibrated = self._calibrate()
        return np.asarray(self._calibrated.predict_proba(table))

    def _calibrate(self) -> Any:
        from sklearn.base import clone
        from sklearn.calibration import CalibratedClassifierCV

        table, labels = self._training
        least = int(np.unique(labels, return_counts=True)[1].min())
        if least < 2:
            raise EngineError(
                "Probabilities need at least 2 training features of every class.",
                function="Classifier.libsvm",
            )
        model = CalibratedClassifierCV(clone(self.made), ensemble=False, cv=min(least, 5))
        return model.fit(table, labels)

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return how many vectors hold up the machine, class by class."""
        counts = [int(n) for n in self.made.n_support_]
        return {"numberOfSupportVectors": int(sum(counts)), "supportVectorsPerClass": counts}


class _OneClass(Model):
    """Inside or outside of the one class that was shown."""

    def __init__(self, made: Any, inside: int) -> None:
        self.made, self.inside = made, inside
        self.classes = (0.0, 1.0)

    def labels(self, table: Table) -> Table:
        """Return the class shown for what belongs to it, the other for the rest ([A])."""
        found = np.asarray(self.made.predict(table)) > 0
        return np.where(found, self.inside, 1 - self.inside).astype(float)

    def raw(self, table: Table) -> Table:
        """Return the signed distance from the border, positive inside."""
        return np.asarray(self.made.decision_function(table)).reshape(-1, 1)


class _Regressor(Model):
    """A regression of scikit-learn."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def values(self, table: Table) -> Table:
        """Return the value of every row."""
        return np.asarray(self.made.predict(table), float)

    def raw(self, table: Table) -> Table:
        """Return the value of every row."""
        return self.values(table)[:, None]


class _Svm(Learner):
    """Support vector machines, through scikit-learn's libsvm."""

    def __init__(self, kind: str) -> None:
        self.modes = {
            "ONE_CLASS": ("CLASSIFICATION", "RAW"),
            "EPSILON_SVR": ("REGRESSION", "RAW_REGRESSION"),
            "NU_SVR": ("REGRESSION", "RAW_REGRESSION"),
        }.get(kind, ("CLASSIFICATION", "PROBABILITY", "MULTIPROBABILITY", "RAW"))

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Find the vectors."""
        from sklearn import svm

        rows = len(table)
        work(float(rows) ** 2 * table.shape[1])
        gamma = options["gamma"]
        shared: dict[str, Any] = {
            "kernel": options["kernelType"].lower(),
            "degree": 3 if options["degree"] is None else options["degree"],
            # The reciprocal of the number of inputs ([A]); scikit-learn's own default is another.
            "gamma": 1 / table.shape[1] if gamma is None else gamma,
            "coef0": options["coef0"] or 0.0,
            "shrinking": options["shrinking"],
        }
        cost = 1.0 if options["cost"] is None else options["cost"]
        nu = 0.5 if options["nu"] is None else options["nu"]
        loss = 0.1 if options["lossEpsilon"] is None else options["lossEpsilon"]
        end = options["terminationEpsilon"]
        shared["tol"] = 0.001 if end is None else end
        # As libsvm itself bounds them: with an enormous cost they would not end.
        shared["max_iter"] = max(min(10_000_000, 2_000_000_000 // rows), 1000)
        kind = options["svmType"]
        if kind == "ONE_CLASS":
            inside = options["oneClass"] or 0
            own = table[labels == inside]
            if not len(own):
                raise ValueError(f"there are no training features of class {inside}.")
            return _OneClass(svm.OneClassSVM(nu=nu, **shared).fit(own), inside)
        if kind == "EPSILON_SVR":
            return _Regressor(svm.SVR(C=cost, epsilon=loss, **shared).fit(table, labels))
        if kind == "NU_SVR":
            return _Regressor(svm.NuSVR(C=cost, nu=nu, **shared).fit(table, labels))
        shared["decision_function_shape"] = "ovo"
        made = svm.SVC(C=cost, **shared) if kind == "C_SVC" else svm.NuSVC(nu=nu, **shared)
        margin = options["decisionProcedure"] == "Margin"
        return _Machine(made.fit(table, labels), margin, table, labels)


@function("Classifier.libsvm", "Classifier.svm")
def libsvm(
    procedure: str,
    kind: str,
    kernel: str,
    shrinking: bool,
    degree: int | None,
    gamma: float | None,
    coef0: float | None,
    cost: float | None,
    nu: float | None,
    end: float | None,
    loss: float | None,
    one: int | None,
) -> Classifier:
    """A support vector machine. Margins of pairs are summed by 'Margin', counted by 'Voting'."""
    kind = _one_of("svmType", kind, _SVM_TYPES)
    for name, value in (("gamma", gamma), ("cost", cost), ("terminationEpsilon", end)):
        if value is not None and value <= 0:
            raise EngineError(f"{name} must be positive, not {value:g}.")
    if nu is not None and not 0 < nu <= 1:
        raise EngineError(f"nu must be within (0, 1], not {nu:g}.")
    if degree is not None and degree < 0:
        raise EngineError(f"degree must not be negative: {degree}.")
    if one is not None and one not in (0, 1):
        raise EngineError(f"oneClass must be 0 or 1, not {one}.")
    learner = _Svm(kind)
    return Classifier(
        "libsvm",
        {"decisionProcedure": _one_of("decisionProcedure", procedure, ("Voting", "Margin")),
         "svmType": kind, "kernelType": _one_of("kernelType", kernel, _KERNELS),
         "shrinking": shrinking, "degree": degree, "gamma": gamma, "coef0": coef0, "cost": cost,
         "nu": nu, "terminationEpsilon": end, "lossEpsilon": loss, "oneClass": one},
        learner,
        learner.modes[0],
    )  # fmt: skip


# ------------------------------------------------------------------ minimum distance

_METRICS = ("euclidean", "cosine", "mahalanobis", "manhattan")


class _Centres(Model):
    """The distance to the mean of every class."""

    modes = ("CLASSIFICATION", "REGRESSION", "RAW")

    def __init__(self, table: Table, labels: Table, metric: str, nearest: int) -> None:
        found = np.unique(labels)
        self.classes = tuple(float(c) for c in found)
        self.metric = metric
        self.nearest = min(nearest, len(found))
        self.many = nearest > 1
        self.means = np.stack([table[labels == c].mean(axis=0) for c in found])
        self.inverses: list[Table] = []
        if metric == "mahalanobis":
            for c, mean in zip(found, self.means, strict=True):
                off = table[labels == c] - mean
                spread = off.T @ off / max(len(off) - 1, 1)
                # A class without spread in some direction: the inverse of what there is.
                self.inverses.append(np.linalg.pinv(spread, hermitian=True))

    def distances(self, table: Table) -> Table:
        """Return the distance of every row to every centre."""
        out = np.empty((len(table), len(self.classes)))
        for k, mean in enumerate(self.means):
            # Summed input by input, so that a row's result does not depend on the others.
            if self.metric == "cosine":
                dot, own = np.zeros(len(table)), np.zeros(len(table))
                for j, value in enumerate(mean):
                    dot += table[:, j] * value
                    own += table[:, j] ** 2
                size = np.sqrt(own) * np.sqrt((mean**2).sum())
                ratio = np.divide(dot, size, out=np.zeros(len(table)), where=size > 0)
                out[:, k] = np.arccos(np.clip(ratio, -1, 1))
                continue
            off = table - mean
            total = np.zeros(len(table))
            if self.metric == "mahalanobis":
                for i, row in enumerate(self.inverses[k]):
                    part = np.zeros(len(table))
                    for j, weight in enumerate(row):
                        part += off[:, j] * weight
                    total += off[:, i] * part
                out[:, k] = np.sqrt(np.maximum(total, 0))
                continue
            for j in range(off.shape[1]):
                total += np.abs(off[:, j]) if self.metric == "manhattan" else off[:, j] ** 2
            out[:, k] = total if self.metric == "manhattan" else np.sqrt(total)
        return out

    def _order(self, distances: Table) -> Table:
        return np.argsort(distances, axis=1, kind="stable")[:, : self.nearest]

    def labels(self, table: Table) -> Table:
        """Return the class of the nearest centre, or of the nearest ones."""
        found = np.asarray(self.classes)[self._order(self.distances(table))]
        return found if self.many else found[:, 0]

    def values(self, table: Table) -> Table:
        """Return the distance to the nearest centre, or to the nearest ones ([A])."""
        distances = self.distances(table)
        found = np.take_along_axis(distances, self._order(distances), axis=1)
        return found if self.many else found[:, 0]

    def raw(self, table: Table) -> Table:
        """Return the distance to every centre ([A])."""
        return self.distances(table)

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the centres."""
        return {
            "metric": self.metric,
            "centers": {
                f"{c:g}": dict(zip(names, map(float, m), strict=True))
                for c, m in zip(self.classes, self.means, strict=True)
            },
        }


class _MinimumDistance(Learner):
    """Means of the classes."""

    modes = _Centres.modes

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Take the means; distances are those to classes in every mode."""
        return _Centres(table, labels, options["metric"], options["kNearest"])


@function("Classifier.minimumDistance")
def minimum_distance(metric: str, nearest: int) -> Classifier:
    """The nearest mean of a class."""
    if nearest < 1:
        raise EngineError(f"kNearest must be at least 1, not {nearest}.")
    return Classifier(
        "minimumDistance",
        {"metric": _one_of("metric", metric, _METRICS), "kNearest": nearest},
        _MinimumDistance(),
    )


# ------------------------------------------------------------------ nearest neighbours

_SEARCHES = ("AUTO", "LINEAR_SEARCH", "KD_TREE", "COVER_TREE")
_KNN_METRICS = ("EUCLIDEAN", "MAHALANOBIS", "MANHATTAN", "BRAYCURTIS")
# With fewer inputs the automatic search is a KD tree ([A] Classifier.smileKNN).
_KD_INPUTS = 10


class _Neighbours(Model):
    """The nearest rows of the training table, which vote or are averaged."""

    def __init__(self, table: Table, labels: Table, k: int, metric: str, regression: bool) -> None:
        from scipy.spatial import cKDTree

        self.known, self.targets, self.metric = table, labels, metric
        self.k = min(k, len(table))
        self.classes = () if regression else tuple(float(c) for c in np.unique(labels))
        self.turn: Table | None = None
        if metric == "MAHALANOBIS":
            # Distances in the space where the training data have unit covariance.
            spread = np.atleast_2d(np.cov(table, rowvar=False)) if len(table) > 1 else np.eye(1)
            values, vectors = np.linalg.eigh(np.linalg.pinv(spread, hermitian=True))
            self.turn = vectors * np.sqrt(np.maximum(values, 0))
            self.known = self._turned(table)
        self.tree = None if metric == "BRAYCURTIS" else cKDTree(self.known)

    def _turned(self, table: Table) -> Table:
        if self.turn is None:
            return table
        out = np.zeros((len(table), self.turn.shape[1]))
        for j, row in enumerate(self.turn):
            out += table[:, j, None] * row
        return out

    def _nearest(self, table: Table) -> Table:
        if self.tree is not None:
            p = 1 if self.metric == "MANHATTAN" else 2
            _, found = self.tree.query(self._turned(table), k=self.k, p=p)
            return np.asarray(found).reshape(len(table), self.k)
        from scipy.spatial.distance import cdist

        parts = []
        rows = max(_ROWS * 1024 // len(self.known), 1)
        for at in range(0, len(table), rows):
            far = np.nan_to_num(cdist(table[at : at + rows], self.known, "braycurtis"), nan=0.0)
            parts.append(np.argsort(far, axis=1, kind="stable")[:, : self.k])
        return np.concatenate(parts)

    def raw(self, table: Table) -> Table:
        """Return the labels of the neighbours, nearest first."""
        return self.targets[self._nearest(table)].astype(float)

    def chances(self, table: Table) -> Table:
        """Return the share of every class among the neighbours."""
        found = self.raw(table)
        return np.stack([(found == c).mean(axis=1) for c in self.classes], axis=1)

    def values(self, table: Table) -> Table:
        """Return the mean of the neighbours."""
        return self.raw(table).mean(axis=1)


class _Knn(Learner):
    """All training rows."""

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Keep the rows."""
        search, metric = options["searchMethod"], options["metric"]
        if search == "KD_TREE" or (search == "AUTO" and table.shape[1] < _KD_INPUTS):
            metric = "EUCLIDEAN"  # the metric is not used there ([A])
        return _Neighbours(
            table, labels, options["k"], metric, mode in ("REGRESSION", "RAW_REGRESSION")
        )


@function("Classifier.smileKNN")
def smile_knn(k: int, search: str, metric: str) -> Classifier:
    """Nearest neighbours."""
    if k < 1:
        raise EngineError(f"k must be at least 1, not {k}.")
    return Classifier(
        "smileKNN",
        {"k": k, "searchMethod": _one_of("searchMethod", search, _SEARCHES),
         "metric": _one_of("metric", metric, _KNN_METRICS)},
        _Knn(),
    )  # fmt: skip


# ------------------------------------------------------------------ naive Bayes


class _Bayes(Model):
    """Counts per class: a row is a bag of so many of every input."""

    def __init__(self, table: Table, labels: Table, smooth: float) -> None:
        found = np.unique(labels)
        self.classes = tuple(float(c) for c in found)
        counts = np.stack([table[labels == c].sum(axis=0) for c in found])
        total = counts.sum(axis=1, keepdims=True) + smooth * table.shape[1]
        share = (counts + smooth) / np.where(total > 0, total, 1)
        # Without smoothing an input that a class never had rules the class out.
        self.logs = np.log(share, out=np.full(share.shape, -1e300), where=share > 0)
        self.prior = np.log([(labels == c).mean() for c in found])

    def raw(self, table: Table) -> Table:
        """Return the logarithm of every class's likelihood and prior."""
        out = np.tile(self.prior, (len(table), 1))
        # Negative inputs are discarded ([A]).
        positive = np.maximum(table, 0)
        for j in range(table.shape[1]):
            out += np.where(positive[:, j, None] > 0, positive[:, j, None] * self.logs[:, j], 0)
        return out

    def chances(self, table: Table) -> Table:
        """Return the probability of every class."""
        logs = self.raw(table)
        odds = np.exp(logs - logs.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


class _NaiveBayes(Learner):
    """Multinomial naive Bayes."""

    modes = ("CLASSIFICATION", "PROBABILITY", "MULTIPROBABILITY", "RAW")

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Count."""
        return _Bayes(np.maximum(table, 0), labels, options["lambda"])


@function("Classifier.smileNaiveBayes")
def smile_naive_bayes(smooth: float) -> Classifier:
    """Naive Bayes of counts."""
    if not smooth >= 0:
        raise EngineError(f"lambda must not be negative: {smooth:g}.")
    return Classifier("smileNaiveBayes", {"lambda": smooth}, _NaiveBayes())


# ------------------------------------------------------------------ regions of two inputs


class _Region(Model):
    """Whether two values lie in a polygon."""

    modes = ("CLASSIFICATION",)
    classes = (0.0, 1.0)

    def __init__(self, rings: Sequence[Table]) -> None:
        self.rings = rings

    def labels(self, table: Table) -> Table:
        """Return 1 where an odd number of edges must be crossed to get out ([A])."""
        u, v = table[:, 0], table[:, 1]
        inside = np.zeros(len(table), bool)
        for ring in self.rings:
            for (u0, v0), (u1, v1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                crosses = (v0 > v) != (v1 > v)
                if v0 != v1:
                    inside ^= crosses & (u < u0 + (v - v0) * (u1 - u0) / (v1 - v0))
        return inside.astype(float)


@function("Classifier.spectralRegion")
def spectral_region(coordinates: list[Any], names: list[str] | None) -> Classifier:
    """A polygon in the plane of two inputs."""
    rings = []
    for ring in coordinates:
        try:
            flat = np.asarray(ring, float).ravel()
        except (TypeError, ValueError):
            raise EngineError("The coordinates must be rings of numbers.") from None
        if flat.size % 2 or flat.size < 6:
            raise EngineError(
                f"A ring must have at least 3 pairs of coordinates, not {flat.size} numbers."
            )
        rings.append(flat.reshape(-1, 2))
    if not rings:
        raise EngineError("There are no coordinates.")
    inputs = ("u", "v") if names is None else tuple(names)
    if len(inputs) != 2:
        raise EngineError(f"The schema must name 2 inputs, not {len(inputs)}.")
    return Classifier("spectralRegion", {}, bands=inputs, ready=_Region(rings))
