"""Classifiers, and the matrices that judge them.

Trees are scikit-learn's: grown by the same rules as Smile's, with other tie breaking, so
alike but not identical to Earth Engine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import EngineError
from ..image import Element, Image, PixelsNode
from ..kernels import both, valid
from ..pixels import Pixels
from ..types import DOUBLE, PixelType
from ..values import Array, Collection, ConfusionMatrix
from .registry import function

__all__ = ["Classifier"]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier, trained or not.

    Parameters
    ----------
    name : str
    options : dict
    model : object, optional
        With ``predict`` on a (n, bands) table.
    bands : tuple of str
    classes : tuple of int
    matrix : ConfusionMatrix, optional
        Of the training data against itself.
    mode : str
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    bands: tuple[str, ...] = ()
    classes: tuple[float, ...] = ()
    matrix: ConfusionMatrix | None = None
    mode: str = "CLASSIFICATION"

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        return {"type": "Classifier", "classifierName": self.name, "mode": self.mode,
                **{k: v for k, v in self.options.items() if v is not None}}  # fmt: skip

    def predict(self, table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return one value per row."""
        if self.model is None:
            raise EngineError("The classifier is not trained.")
        if len(table) == 0:
            return np.empty(0)
        if self.mode == "PROBABILITY":
            chances = self.model.predict_proba(table)
            return chances[:, -1] if chances.shape[1] <= 2 else chances.max(axis=1)
        if self.mode == "RAW":
            raise EngineError("Output mode RAW gives arrays, which this emulator has not.")
        found: np.ndarray[Any, Any] = self.model.predict(table)
        return found.astype(float)


@function("Classifier.smileCart")
def smile_cart(nodes: int | None, leaf: int) -> Classifier:
    """A decision tree."""
    return Classifier("smileCart", {"maxNodes": nodes, "minLeafPopulation": leaf})


@function("Classifier.smileRandomForest")
def smile_random_forest(
    trees: int, split: int | None, leaf: int, bag: float, nodes: int | None, seed: int
) -> Classifier:
    """A random forest."""
    return Classifier(
        "smileRandomForest",
        {"numberOfTrees": trees, "variablesPerSplit": split, "minLeafPopulation": leaf,
         "bagFraction": bag, "maxNodes": nodes, "seed": seed},
    )  # fmt: skip


@function("Classifier.smileKNN")
def smile_knn(k: int, search: str, metric: str) -> Classifier:
    """Nearest neighbours."""
    return Classifier("smileKNN", {"k": k, "searchMethod": search, "metric": metric})


def _estimator(classifier: Classifier) -> Any:
    o = classifier.options
    regression = classifier.mode == "REGRESSION"
    if classifier.name == "smileCart":
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        kind = DecisionTreeRegressor if regression else DecisionTreeClassifier
        return kind(
            max_leaf_nodes=o["maxNodes"], min_samples_leaf=max(o["minLeafPopulation"], 1),
            random_state=0,
        )  # fmt: skip
    if classifier.name == "smileRandomForest":
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestRegressor if regression else RandomForestClassifier
        return kind(
            n_estimators=o["numberOfTrees"], max_features=o["variablesPerSplit"] or "sqrt",
            min_samples_leaf=max(o["minLeafPopulation"], 1), max_samples=o["bagFraction"],
            max_leaf_nodes=o["maxNodes"], random_state=o["seed"] % 2**32,
        )  # fmt: skip
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    metric = {"EUCLIDEAN": "euclidean", "MANHATTAN": "manhattan", "COSINE": "cosine"}
    kind = KNeighborsRegressor if regression else KNeighborsClassifier
    return kind(n_neighbors=o["k"], metric=metric.get(o["metric"], "euclidean"))


@function("Classifier.train")
def train(
    classifier: Classifier,
    items: Collection,
    target: str,
    inputs: list[str] | None,
    part: float,
    seed: int,
) -> Classifier:
    """Train on the features of a collection; rows with a missing value are left out."""
    elements = items.items()
    if not elements:
        raise EngineError("No valid training data were found.")
    names = inputs
    if names is None:
        names = sorted(
            k
            for k, v in elements[0].properties.items()
            if k != target and not k.startswith("system:") and isinstance(v, (int, float))
        )
    rows, labels = [], []
    for item in elements:
        values = [item.properties.get(n) for n in names]
        label = item.properties.get(target)
        if label is None:
            raise EngineError(f"Property '{target}' of feature is missing.")
        if any(v is None for v in values):
            continue
        rows.append([float(v) for v in values])  # type: ignore[arg-type]
        labels.append(float(label))
    if not rows:
        raise EngineError("No valid training data were found.")
    table, wanted = np.asarray(rows), np.asarray(labels)
    if part < 1:
        keep = np.random.default_rng(seed).random(len(table)) < part
        table, wanted = table[keep], wanted[keep]
    if classifier.mode != "REGRESSION":
        if (wanted != np.round(wanted)).any() or (wanted < 0).any():
            raise EngineError("Class values must be integers of at least 0.")
        wanted = wanted.astype(np.int64)
    model = _estimator(classifier).fit(table, wanted)
    classes = tuple(float(c) for c in getattr(model, "classes_", ()))
    matrix = None
    if classifier.mode != "REGRESSION":
        matrix = confusion(wanted, model.predict(table))
    return replace(classifier, model=model, bands=tuple(names), classes=classes, matrix=matrix)


@function("Classifier.setOutputMode")
def set_output_mode(classifier: Classifier, mode: str) -> Classifier:
    """Choose between classes, probabilities and regression."""
    known = ("CLASSIFICATION", "REGRESSION", "PROBABILITY", "MULTIPROBABILITY", "RAW",
             "RAW_REGRESSION")  # fmt: skip
    if mode not in known:
        raise EngineError(f"Unknown output mode '{mode}': {', '.join(known)}.")
    if mode not in known[:3]:
        raise EngineError(f"Output mode '{mode}' is not implemented by this emulator")
    return replace(classifier, mode=mode)


@function("Classifier.mode")
def mode(classifier: Classifier) -> str:
    """Return the output mode."""
    return classifier.mode


@function("Classifier.schema")
def schema(classifier: Classifier) -> list[str]:
    """Return the names of the inputs."""
    return list(classifier.bands)


@function("Classifier.confusionMatrix")
def training_matrix(classifier: Classifier) -> ConfusionMatrix:
    """Return the matrix of the training data against itself."""
    if classifier.matrix is None:
        raise EngineError("The classifier is not trained.")
    return classifier.matrix


@function("Classifier.explain")
def explain(classifier: Classifier) -> dict[str, Any]:
    """Return what a trained classifier looks like."""
    if classifier.model is None:
        raise EngineError("The classifier is not trained.")
    out: dict[str, Any] = {"classes": [int(c) for c in classifier.classes]}
    importance = getattr(classifier.model, "feature_importances_", None)
    if importance is not None:
        out["importance"] = dict(zip(classifier.bands, map(float, importance), strict=True))
    if classifier.name == "smileCart":
        tree = classifier.model.tree_
        out["numberOfNodes"] = int(tree.node_count)
        out["tree"] = _tree_text(tree, classifier)
    elif classifier.name == "smileRandomForest":
        out["numberOfTrees"] = classifier.options["numberOfTrees"]
    return out


def _tree_text(tree: Any, classifier: Classifier) -> str:
    lines = [f"n= {int(tree.n_node_samples[0])}", "node), split, n, yval * denotes terminal node"]

    def walk(node: int, number: int, text: str, depth: int) -> None:
        value = tree.value[node][0]
        label = classifier.classes[int(np.argmax(value))] if classifier.classes else value[0]
        leaf = tree.children_left[node] < 0
        lines.append(
            f"{'  ' * depth}{number}) {text} {int(tree.n_node_samples[node])} {label:g}"
            + (" *" if leaf else "")
        )
        if not leaf:
            name = classifier.bands[int(tree.feature[node])]
            at = float(tree.threshold[node])
            walk(int(tree.children_left[node]), 2 * number, f"{name}<={at:g}", depth + 1)
            walk(int(tree.children_right[node]), 2 * number + 1, f"{name}>{at:g}", depth + 1)

    walk(0, 1, "root", 0)
    return "\n".join(lines)


@function("Image.classify")
def classify(image: Image, classifier: Classifier, name: str) -> Image:
    """Classify every pixel; masked where any input is."""
    inputs = [image.band(n) for n in classifier.bands]
    if not inputs:
        raise EngineError("The classifier is not trained.")
    whole = classifier.mode == "CLASSIFICATION"
    kind = (
        PixelType("int", int(min(classifier.classes)), int(max(classifier.classes)))
        if whole and classifier.classes
        else DOUBLE
    )

    def compute(*got: Pixels) -> Sequence[Pixels]:
        shape = np.broadcast_shapes(
            *(p.data.shape for p in got), *(p.mask.shape for p in got if p.mask is not None)
        )
        mask = None
        for pixels in got:
            mask = both(mask, pixels.mask)
        ok = valid(mask)
        take = np.ones(shape, bool) if ok is None else np.broadcast_to(ok, shape)
        out = np.zeros(shape, kind.dtype)
        if take.any():
            table = np.column_stack(
                [np.broadcast_to(p.data, shape)[take].astype(float) for p in got]
            )
            out[take] = classifier.predict(table).astype(kind.dtype)
        return [Pixels(out, mask)]

    first = inputs[0]
    return image.derived([first.computed(kind, PixelsNode(compute, inputs)).renamed(name)])


@function("FeatureCollection.classify")
def classify_features(items: Collection, classifier: Classifier, name: str) -> Collection:
    """Add the class to every feature; those that miss an input have none."""

    def source() -> Iterator[Element]:
        elements = items.items()
        rows = [[i.properties.get(n) for n in classifier.bands] for i in elements]
        good = [k for k, row in enumerate(rows) if all(v is not None for v in row)]
        found: dict[int, float] = {}
        if good:
            table = np.asarray([rows[k] for k in good], float)
            found = dict(zip(good, classifier.predict(table), strict=True))
        for k, item in enumerate(elements):
            if k not in found:
                yield item
                continue
            value = float(found[k])
            shown = int(value) if classifier.mode == "CLASSIFICATION" else value
            yield item.replaced({**item.properties, name: shown})

    return items.over(source, items.size)


# ------------------------------------------------------------------ confusion matrices


def confusion(
    actual: np.ndarray[Any, Any],
    predicted: np.ndarray[Any, Any],
    order: Sequence[int] | None = None,
) -> ConfusionMatrix:
    """Return counts of actual (rows) against predicted (columns) classes.

    Examples
    --------
    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0])).values.astype(int).tolist()
    [[1, 0], [1, 1]]
    """
    a, p = np.asarray(actual, int), np.asarray(predicted, int)
    if order is None:
        size = int(max(a.max(initial=0), p.max(initial=0))) + 1
        if size > 4096:
            raise EngineError(f"Class values must be small integers; found {size - 1}.")
        order = range(size)
    places = {int(v): k for k, v in enumerate(order)}
    table = np.zeros((len(places), len(places)))
    for x, y in zip(a, p, strict=True):
        if int(x) in places and int(y) in places:
            table[places[int(x)], places[int(y)]] += 1
    return ConfusionMatrix(table, tuple(places))


@function("Collection.errorMatrix")
def error_matrix(
    items: Collection, actual: str, predicted: str, order: list[int] | None
) -> ConfusionMatrix:
    """Compare two properties."""
    pairs = [
        (i.properties[actual], i.properties[predicted])
        for i in items
        if i.properties.get(actual) is not None and i.properties.get(predicted) is not None
    ]
    table = np.asarray(pairs, float).reshape(-1, 2)
    return confusion(table[:, 0], table[:, 1], order)


@function("ConfusionMatrix")
def confusion_matrix(array: Any, order: list[int] | None) -> ConfusionMatrix:
    """Return a matrix of counts."""
    from .arrays import as_array

    table = as_array(array).values.astype(float)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise EngineError("A confusion matrix must be square.")
    return ConfusionMatrix(table, tuple(order or range(len(table))))


@function("ConfusionMatrix.accuracy")
def accuracy(matrix: ConfusionMatrix) -> float:
    """Return the share on the diagonal."""
    total = matrix.values.sum()
    return float(np.trace(matrix.values) / total) if total else 0.0


@function("ConfusionMatrix.kappa")
def kappa(matrix: ConfusionMatrix) -> float:
    """Return the agreement beyond chance."""
    table = matrix.values
    total = table.sum()
    if not total:
        return 0.0
    agree = np.trace(table) / total
    chance = float((table.sum(axis=0) * table.sum(axis=1)).sum()) / total**2
    return float((agree - chance) / (1 - chance)) if chance != 1 else 1.0


def _shares(table: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    sums = table.sum(axis=axis)
    return np.divide(np.diag(table), sums, out=np.zeros(len(table)), where=sums > 0)


@function("ConfusionMatrix.producersAccuracy")
def producers(matrix: ConfusionMatrix) -> Array:
    """Return the share right of each actual class, as a column."""
    return Array(_shares(matrix.values, 1)[:, None])


@function("ConfusionMatrix.consumersAccuracy")
def consumers(matrix: ConfusionMatrix) -> Array:
    """Return the share right of each predicted class, as a row."""
    return Array(_shares(matrix.values, 0)[None, :])


@function("ConfusionMatrix.fscore")
def fscore(matrix: ConfusionMatrix, beta: float) -> Array:
    """Return the F score of each class."""
    p, r = _shares(matrix.values, 0), _shares(matrix.values, 1)
    square = beta**2
    low = square * p + r
    return Array(np.divide((1 + square) * p * r, low, out=np.zeros(len(p)), where=low > 0))


@function("ConfusionMatrix.order")
def order(matrix: ConfusionMatrix) -> list[int]:
    """Return the classes."""
    return list(matrix.order)


@function("ConfusionMatrix.array")
def array(matrix: ConfusionMatrix) -> Array:
    """Return the counts."""
    return Array(matrix.values)
