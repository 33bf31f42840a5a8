"""Classifiers made of decision trees: given as text, grown, voting, boosted, stored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..budget import tick, work
from ..errors import EngineError
from .classifiers import Classifier, Learner, Model
from .registry import function
from .treetext import TextTree, parse_trees, plain, write_tree

__all__ = ["classifier_from_json", "classifier_to_json"]

Table = np.ndarray[Any, np.dtype[Any]]


class TextModel(Model):
    """Trees from text: the vote of their values, or their mean."""

    def __init__(
        self, trees: Sequence[TextTree], names: Sequence[str], classes: Sequence[float] = ()
    ) -> None:
        self.trees, self.names = list(trees), list(names)
        self.soft = bool(classes)
        self.classes = tuple(classes) or tuple(
            sorted({leaf.value for tree in trees for leaf in tree.leaves})
        )

    def raw(self, table: Table) -> Table:
        """Return the value of every tree."""
        return np.column_stack([tree.predict(table, self.names) for tree in self.trees])

    def values(self, table: Table) -> Table:
        """Return the mean of the trees."""
        total = np.zeros(len(table))
        for tree in self.trees:
            total += tree.predict(table, self.names)
        return total / len(self.trees)

    def _votes(self, table: Table) -> Table:
        ordered = np.asarray(self.classes)
        votes = np.zeros((len(table), len(ordered)))
        for tree in self.trees:
            found = tree.predict(table, self.names)
            known = ~np.isnan(found)
            place = np.searchsorted(ordered, found[known])
            votes[np.nonzero(known)[0], place] += 1
        return votes

    def labels(self, table: Table) -> Table:
        """Return the value that most trees give, the least of several."""
        if len(self.trees) == 1:
            return self.trees[0].predict(table, self.names)
        votes = self._votes(table)
        found = np.asarray(self.classes)[np.argmax(votes, axis=1)]
        return np.where(votes.any(axis=1), found, np.nan)

    def chances(self, table: Table) -> Table:
        """Return the probabilities of the leaves where they are written, else shares of votes."""
        if self.soft:
            parts = [tree.chances(table, self.names) for tree in self.trees]
            return np.asarray(sum(parts) / len(parts))
        votes = self._votes(table)
        total = votes.sum(axis=1, keepdims=True)
        return np.divide(votes, total, out=np.full(votes.shape, np.nan), where=total > 0)

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the number of trees."""
        return {"numberOfTrees": len(self.trees)}


def _from_text(name: str, trees: Sequence[TextTree]) -> Classifier:
    names: dict[str, None] = {}
    for tree in trees:
        names.update(dict.fromkeys(tree.names))
    bands = tuple(names)
    return Classifier(name, {}, bands=bands, ready=TextModel(trees, bands))


@function("Classifier.decisionTree")
def decision_tree(text: str) -> Classifier:
    """A tree given as text."""
    trees = parse_trees(text)
    if len(trees) > 1:
        raise EngineError(f"The text holds {len(trees)} decision trees, not one.")
    return _from_text("decisionTree", trees)


@function("Classifier.decisionTreeEnsemble")
def decision_trees(texts: list[str]) -> Classifier:
    """Several trees given as text; they vote."""
    trees = [tree for text in texts for tree in parse_trees(text)]
    if not trees:
        raise EngineError("The list holds no decision tree.")
    return _from_text("decisionTreeEnsemble", trees)


# ------------------------------------------------------------------ trees that are grown


def _arrays(tree: Any) -> dict[str, Any]:
    """Return the arrays of a grown tree as `write_tree` takes them."""
    return {
        "children": (tree.children_left, tree.children_right), "feature": tree.feature,
        "threshold": tree.threshold, "samples": tree.n_node_samples, "impurity": tree.impurity,
    }  # fmt: skip


def _gains(tree: Any, inputs: int) -> Table:
    """Return the decrease of impurity at a tree's splits, summed by input.

    A split counts by its own node's decrease, whatever the share of the data that it sees.
    """
    out = np.zeros(inputs)
    split = np.nonzero(tree.children_left >= 0)[0]
    left, right = tree.children_left[split], tree.children_right[split]
    weight, impurity = tree.weighted_n_node_samples, tree.impurity
    after = (weight[left] * impurity[left] + weight[right] * impurity[right]) / weight[split]
    np.add.at(out, tree.feature[split], impurity[split] - after)
    return out


class _Grown(Model):
    """One or many trees of scikit-learn, voting or averaged."""

    def __init__(
        self,
        trees: Sequence[Any],
        classes: Sequence[float],
        codes: Sequence[Table],
        forest: bool,
        error: float | None = None,
    ) -> None:
        self.classes = tuple(float(c) for c in classes)
        self.trees = [t.tree_ for t in trees]
        self.forest, self.error = forest, error
        self.tables = []
        for tree, known in zip(self.trees, codes, strict=True):
            found = tree.value[:, 0, :]
            if self.classes:
                # A tree that saw no member of a class gives it no chance.
                table = np.zeros((len(found), len(self.classes)))
                table[:, known] = found / found.sum(axis=1, keepdims=True)
                found = table
            self.tables.append(found)
        self.answers = [np.argmax(t, axis=1) if self.classes else t[:, 0] for t in self.tables]

    def _leaves(self, table: Table) -> Any:
        single = np.ascontiguousarray(table, np.float32)
        return (tree.apply(single) for tree in self.trees)

    def raw(self, table: Table) -> Table:
        """Return the answer of every tree."""
        out = np.empty((len(table), len(self.trees)))
        ordered = np.asarray(self.classes)
        for k, leaf in enumerate(self._leaves(table)):
            found = self.answers[k][leaf]
            out[:, k] = ordered[found] if self.classes else found
        return out

    def values(self, table: Table) -> Table:
        """Return the mean of the trees."""
        total = np.zeros(len(table))
        for k, leaf in enumerate(self._leaves(table)):
            total += self.answers[k][leaf]
        return total / len(self.trees)

    def labels(self, table: Table) -> Table:
        """Return the class that most trees give, the least of several."""
        votes = np.zeros((len(table), len(self.classes)), np.int32)
        rows = np.arange(len(table))
        for k, leaf in enumerate(self._leaves(table)):
            votes[rows, self.answers[k][leaf]] += 1
        return np.asarray(self.classes)[np.argmax(votes, axis=1)]

    def chances(self, table: Table) -> Table:
        """Return the mean share of every class at the leaves."""
        total = np.zeros((len(table), len(self.classes)))
        for k, leaf in enumerate(self._leaves(table)):
            total += self.tables[k][leaf]
        return total / len(self.trees)

    def texts(self, names: Sequence[str]) -> list[str]:
        """Return the trees as text."""
        return [
            write_tree(**_arrays(tree), values=values, classes=self.classes, names=names)
            for tree, values in zip(self.trees, self.tables, strict=True)
        ]

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return importances and the trees as text."""
        gains = sum(_gains(tree, len(names)) for tree in self.trees)
        importance = np.broadcast_to(np.asarray(gains, float), (len(names),))
        out: dict[str, Any] = {
            "importance": {n: float(v) for n, v in zip(names, importance, strict=True)}
        }
        if not self.forest:
            return {
                **out,
                "numberOfNodes": int(self.trees[0].node_count),
                "tree": self.texts(names)[0],
            }
        out["numberOfTrees"] = len(self.trees)
        if self.error is not None:
            out["outOfBagErrorEstimate"] = self.error
        return {**out, "trees": self.texts(names)}


def _leaves(nodes: int | None, rows: int) -> int | None:
    """Return the bound on leaves, none where there cannot be so many: room is made for all."""
    return None if nodes is None or nodes >= rows else nodes


def _bounds(options: dict[str, Any], rows: int) -> dict[str, Any]:
    nodes = options["maxNodes"]
    if nodes is not None and nodes < 2:
        raise EngineError(f"maxNodes must be at least 2, not {nodes}.")
    if options["minLeafPopulation"] < 1:
        raise EngineError(
            f"minLeafPopulation must be at least 1, not {options['minLeafPopulation']}."
        )
    return {
        "max_leaf_nodes": _leaves(nodes, rows),
        "min_samples_leaf": options["minLeafPopulation"],
    }


class _Cart(Learner):
    """One tree."""

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Grow a tree on the whole table."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        if mode in ("REGRESSION", "RAW_REGRESSION"):
            tree = DecisionTreeRegressor(random_state=0, **_bounds(options, len(table))).fit(
                table, labels
            )
            return _Grown([tree], (), [np.zeros(1, int)], False)
        tree = DecisionTreeClassifier(random_state=0, **_bounds(options, len(table))).fit(
            table, labels
        )
        return _Grown([tree], tree.classes_, [np.arange(len(tree.classes_))], False)


def _affordable(trees: int, rows: int) -> None:
    """Refuse more trees than can be grown in time; a small one costs as much as 20,000 rows."""
    work(10.0 * trees * max(rows, 20_000))


class _Forest(Learner):
    """Trees on random parts of the table, each split choosing among random inputs."""

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Grow the trees; what a tree was not shown judges it."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        count, share = options["numberOfTrees"], options["bagFraction"]
        wide = options["variablesPerSplit"] or max(math.isqrt(table.shape[1]), 1)
        regression = mode in ("REGRESSION", "RAW_REGRESSION")
        classes, codes = (np.empty(0), labels) if regression else np.unique(
            labels, return_inverse=True
        )  # fmt: skip
        random = np.random.default_rng(options["seed"] % 2**63)
        n = len(table)
        single = np.ascontiguousarray(table, np.float32)
        trees, known = [], []
        votes = np.zeros((n, 1 if regression else len(classes)))
        judged = np.zeros(n)
        _affordable(count, n)
        for _ in range(count):
            tick()
            # Parts are drawn without replacement, the whole table with it, as Smile does.
            take = (
                random.integers(0, n, n) if share == 1
                else random.permutation(n)[: max(round(share * n), 1)]
            )  # fmt: skip
            kind = DecisionTreeRegressor if regression else DecisionTreeClassifier
            tree = kind(
                max_features=min(wide, table.shape[1]),
                random_state=int(random.integers(2**31)),
                **_bounds(options, n),
            ).fit(single[take], codes[take])
            trees.append(tree)
            known.append(np.zeros(1, int) if regression else tree.classes_)
            out = np.ones(n, bool)
            out[take] = False
            if out.any():
                found = tree.predict(single[out])
                if regression:
                    votes[out, 0] += found
                else:
                    votes[np.nonzero(out)[0], found] += 1
                judged[out] += 1
        seen = judged > 0
        error = None
        if seen.any() and regression:
            wrong = votes[seen, 0] / judged[seen] - labels[seen]
            error = float(np.sqrt((wrong**2).mean()))
        elif seen.any():
            error = float((np.argmax(votes[seen], axis=1) != codes[seen]).mean())
        return _Grown(trees, tuple(classes), known, True, error)


class _BoostModel(Model):
    """Gradient boosted trees of scikit-learn."""

    def __init__(self, made: Any, regression: bool) -> None:
        self.made = made
        self.classes = () if regression else tuple(float(c) for c in made.classes_)

    def labels(self, table: Table) -> Table:
        """Return the likeliest class."""
        return np.asarray(self.made.predict(table), float)

    def chances(self, table: Table) -> Table:
        """Return the probability of every class."""
        return np.asarray(self.made.predict_proba(table))

    def values(self, table: Table) -> Table:
        """Return the sum of the trees."""
        return np.asarray(self.made.predict(table), float)

    def raw(self, table: Table) -> Table:
        """Return the sums before they become probabilities."""
        if not self.classes:
            return self.values(table)[:, None]
        return np.asarray(self.made.decision_function(table)).reshape(len(table), -1)

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return importances and the trees as text."""
        trees = [t.tree_ for t in self.made.estimators_.ravel()]
        gains = np.sum([_gains(t, len(names)) for t in trees], axis=0)
        return {
            "importance": {n: float(v) for n, v in zip(names, gains, strict=True)},
            "numberOfTrees": len(self.made.estimators_),
            "trees": [
                write_tree(**_arrays(t), values=t.value[:, 0, :], classes=(), names=names)
                for t in trees
            ],
        }


_LOSSES = {
    "leastsquares": "squared_error", "leastabsolutedeviation": "absolute_error", "huber": "huber",
}  # fmt: skip


class _Boost(Learner):
    """Trees that each mend what those before them leave."""

    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Grow the trees."""
        from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

        leaves = _leaves(options["maxNodes"], len(table))
        shared = {
            "n_estimators": options["numberOfTrees"], "learning_rate": options["shrinkage"],
            "subsample": options["samplingRate"], "max_leaf_nodes": leaves,
            "max_depth": None, "random_state": options["seed"] % 2**32,
        }  # fmt: skip
        _affordable(
            options["numberOfTrees"],
            len(table)
            * (len(np.unique(labels)) if (mode not in ("REGRESSION", "RAW_REGRESSION")) else 1),
        )
        if mode in ("REGRESSION", "RAW_REGRESSION"):
            loss = _LOSSES[options["loss"].lower()]
            made = GradientBoostingRegressor(loss=loss, **shared).fit(table, labels)
            return _BoostModel(made, True)
        return _BoostModel(GradientBoostingClassifier(**shared).fit(table, labels), False)


@function("Classifier.smileCart")
def smile_cart(nodes: int | None, leaf: int) -> Classifier:
    """A decision tree."""
    return Classifier("smileCart", {"maxNodes": nodes, "minLeafPopulation": leaf}, _Cart())


def _trees(count: int) -> int:
    if count < 1:
        raise EngineError(f"numberOfTrees must be at least 1, not {count}.")
    return count


@function("Classifier.smileRandomForest")
def smile_random_forest(
    trees: int, split: int | None, leaf: int, bag: float, nodes: int | None, seed: int
) -> Classifier:
    """A random forest."""
    if not 0 < bag <= 1:
        raise EngineError(f"bagFraction must be within (0, 1], not {bag:g}.")
    if split is not None and split < 0:
        raise EngineError(f"variablesPerSplit must be positive, not {split}.")
    return Classifier(
        "smileRandomForest",
        {"numberOfTrees": _trees(trees), "variablesPerSplit": split, "minLeafPopulation": leaf,
         "bagFraction": bag, "maxNodes": nodes, "seed": seed},
        _Forest(),
    )  # fmt: skip


@function("Classifier.smileGradientTreeBoost")
def smile_boost(
    trees: int, shrinkage: float, rate: float, nodes: int | None, loss: str, seed: int
) -> Classifier:
    """Gradient boosted trees."""
    if not 0 < shrinkage <= 1:
        raise EngineError(f"shrinkage must be within (0, 1], not {shrinkage:g}.")
    if not 0 < rate <= 1:
        raise EngineError(f"samplingRate must be within (0, 1], not {rate:g}.")
    if loss.lower() not in _LOSSES:
        raise EngineError(f"Unknown loss '{loss}': LeastSquares, LeastAbsoluteDeviation or Huber.")
    if nodes is not None and nodes < 2:
        raise EngineError(f"maxNodes must be at least 2, not {nodes}.")
    return Classifier(
        "smileGradientTreeBoost",
        {"numberOfTrees": _trees(trees), "shrinkage": shrinkage, "samplingRate": rate,
         "maxNodes": nodes, "loss": loss, "seed": seed},
        _Boost(),
    )  # fmt: skip


# ------------------------------------------------------------------ storing

_STORED = 1


def classifier_to_json(classifier: Classifier) -> str:
    """Return a trained classifier as text to store: trees, classes and names, no code.

    Parameters
    ----------
    classifier : Classifier
        smileCart, smileRandomForest, decisionTree or decisionTreeEnsemble: those that Earth
        Engine exports (Export.classifier.toAsset).

    Returns
    -------
    str
        JSON that `classifier_from_json` reads.

    Raises
    ------
    EngineError
        Another classifier, or one that is not trained.
    """
    model = classifier.model()
    if isinstance(model, TextModel):
        trees = [_rewritten(t) for t in model.trees]
        classes: Sequence[float] = model.classes if model.soft else ()
    elif isinstance(model, _Grown):
        trees, classes = model.texts(classifier.bands), model.classes
    else:
        raise EngineError(
            f"The classifier '{classifier.name}' cannot be exported: only smileCart, "
            "smileRandomForest, decisionTree and decisionTreeEnsemble can."
        )
    return json.dumps(
        {
            "format": "thawslump-classifier", "version": _STORED, "name": classifier.name,
            "options": classifier.options, "mode": classifier.mode,
            "bands": list(classifier.bands), "classes": list(classes), "trees": trees,
        }
    )  # fmt: skip


def _rewritten(tree: TextTree) -> str:
    lines = []
    for number in sorted(tree.nodes):
        line = tree.nodes[number]
        split = "root"
        if line.name is not None:
            split = f"{line.name}{line.sign}{','.join(plain(v) for v in line.at)}"
        chances = f" ({' '.join(plain(v) for v in line.chances)})" if line.chances else ""
        lines.append(f"{number}) {split} 0 0 {plain(line.value)}{chances}")
    return "\n".join(lines)


def classifier_from_json(text: str | bytes) -> Classifier:
    """Return the classifier that `classifier_to_json` stored.

    Parameters
    ----------
    text : str or bytes

    Returns
    -------
    Classifier
        It answers as the stored one; ``explain`` tells the number of its trees.

    Raises
    ------
    EngineError
        The text is something else.

    Examples
    --------
    >>> made = decision_tree("1) root 2 0 0\\n2) b<=3 1 0 7 *\\n3) b>3 1 0 8 *")
    >>> classifier_from_json(classifier_to_json(made)).predict(np.array([[5.0]])).tolist()
    [8.0]
    """
    try:
        stored = json.loads(text)
        if stored["format"] != "thawslump-classifier" or stored["version"] != _STORED:
            raise KeyError(stored["format"])
        trees = [tree for part in stored["trees"] for tree in parse_trees(part)]
        bands = tuple(str(b) for b in stored["bands"])
        missing = {n for tree in trees for n in tree.names} - set(bands)
        if missing or not trees:
            raise ValueError(sorted(missing))
        model = TextModel(trees, bands, [float(c) for c in stored["classes"]])
        return Classifier(
            str(stored["name"]), dict(stored["options"]), mode=str(stored["mode"]), bands=bands,
            ready=model,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise EngineError("The asset holds no classifier that can be read.") from None
