"""Clusterers: k-means in its forms, learning vector quantisation, and Cobweb (beside).

After the descriptions of Weka's, from which Earth Engine has them. Inputs are brought to 0..1
over the training for distances, as Weka's distance functions do. The seeds repeat, but the
random numbers are not Weka's: the same clusters where they are clear, in another order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..budget import tick, work
from ..errors import EngineError
from ..image import Element, Image, PixelsNode
from ..pixels import Pixels
from ..types import PixelType
from ..values import Collection
from .classifiers import BLOCK, table_of, training_table, valid_rows
from .cobweb import Cobweb
from .registry import function

__all__ = ["Clusterer"]

Table = np.ndarray[Any, np.dtype[Any]]
Metric = Callable[[Table, Table], Table]


class Centres:
    """Clusters given by their centres.

    Parameters
    ----------
    centres : (k, inputs) float64
        In the inputs' own units.
    low, span : (inputs,) float64
        What brings inputs to 0..1; a span of 1 where an input does not vary.
    metric : {"Euclidean", "Manhattan", "Chebyshev"}
    """

    def __init__(self, centres: Table, low: Table, span: Table, metric: str) -> None:
        self.centres, self.low, self.span, self.metric = centres, low, span, metric

    @property
    def count(self) -> int:
        """Number of clusters."""
        return len(self.centres)

    def assign(self, table: Table) -> Table:
        """Return the number of the nearest centre of every row."""
        scaled = (self.centres - self.low) / self.span
        return nearest((table - self.low) / self.span, scaled, self.metric)[0]


def distances(table: Table, centre: Table, metric: str) -> Table:
    """Return the distance of every row to a centre (squared for Euclidean).

    Summed input by input, so that a row's result does not depend on the rows beside it.
    """
    out = np.zeros(len(table))
    for j, value in enumerate(centre):
        off = table[:, j] - value
        if metric == "Manhattan":
            out += np.abs(off)
        elif metric == "Chebyshev":
            np.maximum(out, np.abs(off), out=out)
        else:
            out += off * off
    return out


def nearest(table: Table, centres: Table, metric: str) -> tuple[Table, Table]:
    """Return the nearest centre of every row, the first of equals, and the distance to it."""
    best = np.zeros(len(table), np.int64)
    least = distances(table, centres[0], metric)
    for k in range(1, len(centres)):
        far = distances(table, centres[k], metric)
        closer = far < least
        best[closer] = k
        least[closer] = far[closer]
    return best, least


# ------------------------------------------------------------------ k-means


def _plus_plus(table: Table, count: int, random: np.random.Generator, metric: str) -> Table:
    """Return rows drawn with chances by their squared distance to those drawn before."""
    chosen = [int(random.integers(len(table)))]
    least = distances(table, table[chosen[0]], metric)
    while len(chosen) < count:
        tick()
        weight = least if metric == "Euclidean" else least**2
        total = weight.sum()
        if total <= 0:
            break
        place = int(np.searchsorted(np.cumsum(weight), random.random() * total, side="right"))
        chosen.append(min(place, len(table) - 1))
        least = np.minimum(least, distances(table, table[chosen[-1]], metric))
    return table[chosen]


def _farthest(table: Table, count: int, random: np.random.Generator, metric: str) -> Table:
    """Return rows each farthest from those before."""
    chosen = [int(random.integers(len(table)))]
    least = distances(table, table[chosen[0]], metric)
    while len(chosen) < count and least.max() > 0:
        tick()
        chosen.append(int(np.argmax(least)))
        least = np.minimum(least, distances(table, table[chosen[-1]], metric))
    return table[chosen]


def _canopies(
    table: Table, count: int, random: np.random.Generator, metric: str, t2: float
) -> Table:
    """Return the means of the fullest canopies: rows within T2 of the row that opened one.

    A negative T2 is taken times the root of the summed variances over the number of inputs.
    """
    if t2 < 0:
        t2 = -t2 * float(np.sqrt(table.var(axis=0).sum() / table.shape[1])) or 1.0
    reach = t2**2 if metric == "Euclidean" else t2
    left = table[random.permutation(len(table))]
    means: list[Table] = []
    sizes: list[int] = []
    while len(left) and len(means) < 4096:
        inside = distances(left, left[0], metric) <= reach
        means.append(left[inside].mean(axis=0))
        sizes.append(int(inside.sum()))
        left = left[~inside]
    order = np.argsort(-np.asarray(sizes), kind="stable")[:count]
    found = np.stack([means[k] for k in order])
    if len(found) < count:
        more = _farthest(table, count - len(found), random, metric)
        found = np.unique(np.vstack([found, more]), axis=0)
    return found


def _random_rows(table: Table, count: int, random: np.random.Generator, metric: str) -> Table:
    """Return distinct rows drawn evenly."""
    rows = np.unique(table, axis=0)
    return rows[random.permutation(len(rows))[:count]]


def kmeans(table: Table, centres: Table, metric: str, most: int) -> tuple[Table, Table, float]:
    """Move centres to the middle of the rows nearest to them until nothing changes.

    Parameters
    ----------
    table : (n, inputs) float64
    centres : (k, inputs) float64
    metric : {"Euclidean", "Manhattan", "Chebyshev"}
        The middle is the mean, for Manhattan the median ([A] Clusterer.wekaKMeans).
    most : int
        Iterations.

    Returns
    -------
    centres : (<= k, inputs) float64
        Those that are nearest to some row.
    labels : (n,) int64
    cost : float
        Sum of the (squared, for Euclidean) distances.

    Examples
    --------
    >>> rows = np.array([[0.0], [1.0], [9.0], [11.0]])
    >>> kmeans(rows, np.array([[0.0], [1.0]]), "Euclidean", 50)[0].ravel().tolist()
    [0.5, 10.0]
    """
    labels, least = nearest(table, centres, metric)
    for _ in range(most):
        tick()
        kept, labels = np.unique(labels, return_inverse=True)
        middle = np.median if metric == "Manhattan" else np.mean
        centres = np.stack([middle(table[labels == k], axis=0) for k in range(len(kept))])
        again, least = nearest(table, centres, metric)
        same = bool((again == labels).all())
        labels = again
        if same:
            break
    kept, labels = np.unique(labels, return_inverse=True)
    return centres[kept], labels, float(least.sum())


def _spread(table: Table) -> tuple[Table, Table]:
    low = table.min(axis=0)
    span = table.max(axis=0) - low
    return low, np.where(span > 0, span, 1.0)


_STARTS: tuple[Callable[..., Table], ...] = (_random_rows, _plus_plus, _canopies, _farthest)
_UNLIMITED = 500


def _fit_kmeans(o: dict[str, Any], table: Table) -> Centres:
    work(10.0 * min(o["nClusters"], len(table)) * table.size)
    low, span = _spread(table)
    scaled = (table - low) / span
    random = np.random.default_rng(o["seed"] % 2**63)
    metric = o["distanceFunction"]
    more: tuple[float, ...] = (o["t2"],) if o["init"] == 2 else ()
    start = _STARTS[o["init"]](scaled, o["nClusters"], random, metric, *more)
    most = _UNLIMITED if o["maxIterations"] is None else o["maxIterations"]
    centres, _, _ = kmeans(scaled, start, metric, most)
    return Centres(centres * span + low, low, span, metric)


def calinski_harabasz(table: Table, labels: Table, centres: Table) -> float:
    """Return the ratio of the spread between clusters to that within, per degree of freedom.

    Calinski & Harabasz (1974).
    """
    n, k = len(table), len(centres)
    if k < 2 or n <= k:
        return 0.0
    sizes = np.bincount(labels, minlength=k)
    means = np.stack([table[labels == c].mean(axis=0) for c in range(k)])
    between = float((sizes[:, None] * (means - table.mean(axis=0)) ** 2).sum())
    within = float(((table - means[labels]) ** 2).sum())
    if within == 0:
        return np.inf
    return between * (n - k) / (within * (k - 1))


def _fit_cascade(o: dict[str, Any], table: Table) -> Centres:
    tries = (o["maxClusters"] - o["minClusters"] + 1) * max(o["restarts"], 1)
    work(10.0 * tries * max(min(o["maxClusters"], len(table)) * table.size, 20_000))
    low, span = _spread(table)
    scaled = (table - low) / span
    metric = o["distanceFunction"]
    begin = _plus_plus if o["init"] else _random_rows
    most = _UNLIMITED if o["maxIterations"] is None else o["maxIterations"]
    best: tuple[float, Table] | None = None
    for count in range(o["minClusters"], o["maxClusters"] + 1):
        tried = []
        for restart in range(max(o["restarts"], 1)):
            random = np.random.default_rng((count, restart))
            tried.append(kmeans(scaled, begin(scaled, count, random, metric), metric, most))
        centres, labels, _ = min(tried, key=lambda t: t[2])
        value = calinski_harabasz(scaled, labels, centres)
        if best is None or value > best[0]:
            best = value, centres
    assert best is not None
    return Centres(best[1] * span + low, low, span, metric)


def information(table: Table, labels: Table, centres: Table) -> float:
    """Return the Bayesian information of spherical Gaussians around centres.

    Pelleg & Moore (2000): one variance for all clusters; larger is better.
    """
    n, m = table.shape
    k = len(centres)
    if n <= k:
        return -np.inf
    # Of identical rows the variance is as small as numbers can tell.
    variance = max(float(((table - centres[labels]) ** 2).sum()) / (m * (n - k)), 1e-12)
    sizes = np.bincount(labels, minlength=k)
    sizes = sizes[sizes > 0]
    likelihood = (
        float((sizes * np.log(sizes / n)).sum())
        - n * m / 2 * np.log(2 * np.pi * variance)
        - m * (n - k) / 2
    )
    return likelihood - (k * (m + 1)) / 2 * np.log(n)


def _fit_xmeans(o: dict[str, Any], table: Table) -> Centres:
    low, span = _spread(table)
    scaled = (table - low) / span
    metric, most = o["distanceFunction"], o["maxClusters"]
    random = np.random.default_rng(o["seed"] % 2**63)
    start = _plus_plus(scaled, o["minClusters"], random, metric)
    centres, labels, _ = kmeans(scaled, start, metric, o["maxKMeans"])
    for _ in range(o["maxIterations"]):
        offers: list[tuple[float, int, Table]] = []
        for k in range(len(centres)):
            rows = scaled[labels == k]
            if len(rows) < 4:
                continue
            pair = _plus_plus(rows, 2, random, metric)
            if len(pair) < 2:
                continue
            children, halves, _ = kmeans(rows, pair, metric, o["maxForChildren"])
            if len(children) < 2:
                continue
            own = information(rows, np.zeros(len(rows), int), centres[k][None])
            offers.append((information(rows, halves, children) - own, k, children))
        taken = [offer for offer in offers if offer[0] > 0]
        if not taken and o["cutoffFactor"] > 0:
            # None wins by itself: so large a share of the best is split all the same ([A]).
            offers.sort(key=lambda offer: -offer[0])
            taken = offers[: round(len(offers) * min(o["cutoffFactor"], 1.0))]
        taken.sort(key=lambda offer: -offer[0])
        taken = taken[: max(most - len(centres), 0)]
        if not taken:
            break
        split = {k for _, k, _ in taken}
        stay = [centres[k][None] for k in range(len(centres)) if k not in split]
        start = np.vstack([*stay, *(children for _, _, children in taken)])
        centres, labels, _ = kmeans(scaled, start, metric, o["maxKMeans"])
    return Centres(centres * span + low, low, span, metric)


# ------------------------------------------------------------------ learning vector quantisation


def _fit_lvq(o: dict[str, Any], table: Table) -> Centres:
    """Centres that are drawn towards the rows nearest to them, less and less.

    An epoch moves every centre at once by the learning rate times the way to the mean of its
    rows; the rate falls to 0 over the epochs. It ends early when nothing moves.
    """
    work(10.0 * o["epochs"] * max(o["numClusters"] * table.size, 10_000))
    if o["normalizeInput"]:
        # The option reads "Skip normalizing the attributes" ([A]).
        low, span = np.zeros(table.shape[1]), np.ones(table.shape[1])
    else:
        low, span = _spread(table)
    scaled = (table - low) / span
    centres = _farthest(scaled, o["numClusters"], np.random.default_rng(0), "Euclidean").copy()
    for epoch in range(o["epochs"]):
        tick()
        labels, _ = nearest(scaled, centres, "Euclidean")
        rate = o["learningRate"] * (1 - epoch / o["epochs"])
        moved = 0.0
        for k in np.unique(labels):
            step = rate * (scaled[labels == k].mean(axis=0) - centres[k])
            centres[k] += step
            moved = max(moved, float(np.abs(step).max()))
        if moved < 1e-9:
            break
    return Centres(centres * span + low, low, span, "Euclidean")


def _fit_cobweb(o: dict[str, Any], table: Table) -> Cobweb:
    order = np.random.default_rng(o["seed"] % 2**63).permutation(len(table))
    return Cobweb(table[order], o["acuity"], o["cutoff"])


# ------------------------------------------------------------------ the value and its functions


class _Training:
    """The training table and what was made of it, once."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._model: Any = None
        self._lock = threading.Lock()

    def model(self, fit: Callable[[dict[str, Any], Table], Any], options: dict[str, Any]) -> Any:
        with self._lock:
            if self._model is None:
                self._model = fit(options, self.table)
            return self._model


@dataclass(frozen=True, eq=False)
class Clusterer:
    """A clusterer, trained or not.

    Parameters
    ----------
    name : str
    options : dict
    fit : function of (options, table) -> model with ``assign`` and ``count``
    bands : tuple of str
        Names of the inputs.
    training : optional
    """

    name: str
    options: dict[str, Any]
    fit: Callable[[dict[str, Any], Table], Any]
    bands: tuple[str, ...] = ()
    training: _Training | None = None

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        return {"type": "Clusterer", "clustererName": self.name,
                **{k: v for k, v in self.options.items() if v is not None}}  # fmt: skip

    def model(self) -> Any:
        """Return the clusters, found when they are first asked for."""
        if self.training is None:
            raise EngineError("The clusterer has not been trained.")
        return self.training.model(self.fit, self.options)

    def assign(self, table: Table) -> Table:
        """Return the cluster of every row of a (n, inputs) table."""
        model = self.model()
        parts = [model.assign(table[k : k + BLOCK]) for k in range(0, len(table), BLOCK)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


_TWO = ("Euclidean", "Manhattan")


def _metric(name: str, known: Sequence[str] = _TWO) -> str:
    for choice in known:
        if choice.lower() == name.lower():
            return choice
    raise EngineError(f"Unknown distanceFunction '{name}': {', '.join(known)}.")


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise EngineError(f"{name} must be at least {least:g}, not {value:g}.")


@function("Clusterer.wekaKMeans")
def weka_kmeans(
    count: int, init: int, canopies: bool, candidates: int, pruning: int, density: int,
    t1: float, t2: float, metric: str, most: int | None, keep_order: bool, fast: bool, seed: int,
) -> Clusterer:  # fmt: skip
    """k-means. Canopies and ``fast`` only spare time in Weka: here they change nothing."""
    _at_least("nClusters", count, 1)
    _at_least("maxIterations", most, 1)
    if init not in range(4):
        raise EngineError(
            f"init must be 0 (random), 1 (k-means++), 2 (canopy) or 3 (farthest first), not {init}."
        )
    options = {
        "nClusters": count, "init": init, "canopies": canopies, "maxCandidates": candidates,
        "periodicPruning": pruning, "minDensity": density, "t1": t1, "t2": t2,
        "distanceFunction": _metric(metric), "maxIterations": most, "preserveOrder": keep_order,
        "fast": fast, "seed": seed,
    }  # fmt: skip
    return Clusterer("wekaKMeans", options, _fit_kmeans)


@function("Clusterer.wekaCascadeKMeans")
def weka_cascade(
    least: int, largest: int, restarts: int, manual: bool, plus: bool, metric: str,
    most: int | None,
) -> Clusterer:  # fmt: skip
    """k-means with the number of clusters of the best Calinski-Harabasz criterion."""
    _at_least("minClusters", least, 2)
    _at_least("maxClusters", largest, least)
    _at_least("maxIterations", most, 1)
    options = {
        "minClusters": least, "maxClusters": largest, "restarts": restarts, "manual": manual,
        "init": plus, "distanceFunction": _metric(metric), "maxIterations": most,
    }  # fmt: skip
    return Clusterer("wekaCascadeKMeans", options, _fit_cascade)


@function("Clusterer.wekaXMeans")
def weka_xmeans(
    least: int, largest: int, rounds: int, inner: int, children: int, tree: bool, cutoff: float,
    metric: str, seed: int,
) -> Clusterer:  # fmt: skip
    """k-means whose centres divide where that tells more."""
    _at_least("minClusters", least, 1)
    _at_least("maxClusters", largest, least)
    for name, value in (("maxKMeans", inner), ("maxForChildren", children)):
        _at_least(name, value, 1)
    options = {
        "minClusters": least, "maxClusters": largest, "maxIterations": rounds,
        "maxKMeans": inner, "maxForChildren": children, "useKD": tree, "cutoffFactor": cutoff,
        "distanceFunction": _metric(metric, (*_TWO, "Chebyshev")), "seed": seed,
    }  # fmt: skip
    return Clusterer("wekaXMeans", options, _fit_xmeans)


@function("Clusterer.wekaLVQ")
def weka_lvq(count: int, rate: float, epochs: int, skip: bool) -> Clusterer:
    """Learning vector quantisation."""
    _at_least("numClusters", count, 1)
    _at_least("epochs", epochs, 1)
    if not 0 < rate <= 1:
        raise EngineError(f"learningRate must be within (0, 1], not {rate:g}.")
    options = {
        "numClusters": count, "learningRate": rate, "epochs": epochs, "normalizeInput": skip,
    }  # fmt: skip
    return Clusterer("wekaLVQ", options, _fit_lvq)


@function("Clusterer.wekaCobweb")
def weka_cobweb(acuity: float, cutoff: float, seed: int) -> Clusterer:
    """Conceptual clustering."""
    if not acuity > 0:
        raise EngineError(f"acuity must be positive, not {acuity:g}.")
    _at_least("cutoff", cutoff, 0)
    return Clusterer("wekaCobweb", {"acuity": acuity, "cutoff": cutoff, "seed": seed}, _fit_cobweb)


@function("Clusterer.train")
def train(
    clusterer: Clusterer, items: Collection, inputs: list[str] | None, part: float, seed: int
) -> Clusterer:
    """Train on the features of a collection; rows with a missing value are left out."""
    names, table, _ = training_table(items, inputs, None, part, seed)
    return replace(clusterer, bands=tuple(names), training=_Training(table))


@function("Clusterer.schema")
def schema(clusterer: Clusterer) -> list[str] | None:
    """Return the names of the inputs; null before the training ([A])."""
    return None if clusterer.training is None else list(clusterer.bands)


@function("Image.cluster")
def cluster(image: Image, clusterer: Clusterer, name: str) -> Image:
    """Return the cluster of every pixel; masked where any input is."""
    model = clusterer.model()
    inputs = [image.band(n) for n in clusterer.bands]
    kind = PixelType("int", 0, max(model.count - 1, 0))

    def compute(*got: Pixels) -> Sequence[Pixels]:
        shape, take, mask = valid_rows(got)
        out = np.zeros(shape, kind.dtype)
        if take.any():
            out[take] = clusterer.assign(table_of(got, take, shape)).astype(kind.dtype)
        return [Pixels(out, mask)]

    made = inputs[0].computed(kind, PixelsNode(compute, inputs)).renamed(name)
    return image.derived([made])


@function("FeatureCollection.cluster")
def cluster_features(items: Collection, clusterer: Clusterer, name: str) -> Collection:
    """Add the cluster to every feature; those that miss an input have none."""
    if clusterer.training is None:
        raise EngineError("The clusterer has not been trained.")

    def source() -> Iterator[Element]:
        elements = items.items()
        rows = [[i.properties.get(n) for n in clusterer.bands] for i in elements]
        good = [
            k
            for k, row in enumerate(rows)
            if all(isinstance(v, (int, float)) and np.isfinite(v) for v in row)
        ]
        table = np.asarray([rows[k] for k in good], float).reshape(len(good), len(clusterer.bands))
        numbers = dict(zip(good, clusterer.assign(table), strict=True))
        for k, item in enumerate(elements):
            if k in numbers:
                yield item.replaced({**item.properties, name: int(numbers[k])})
            else:
                yield item

    return items.over(source, items.size)
