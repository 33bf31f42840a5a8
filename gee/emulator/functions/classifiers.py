"""Classifiers: trained on the properties of features, asked for pixels and features.

What learns stands beside: trees in `trees`, vector machines, neighbours and Bayes in
`learners`, maximum entropy in `maxent`. The learners are scikit-learn's where it has them:
grown by the same rules as the libraries behind Earth Engine, with other tie breaking and
random numbers, so alike but not identical.

Nothing is fitted until a value is asked for: an output mode that is chosen after the training
decides what is fitted.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thawslump.errors import ThawslumpError

from ..budget import tick
from ..cells import packed
from ..errors import EngineError, LimitError
from ..image import Element, Image, PixelsNode
from ..kernels import both, valid
from ..pixels import Pixels
from ..types import DOUBLE, FLOAT, PixelType
from ..values import Array, Collection, ConfusionMatrix
from .accuracy import confusion
from .registry import function

if TYPE_CHECKING:
    from ..evaluate import Evaluator

__all__ = ["Classifier", "Learner", "Model", "table_of", "training_table", "valid_rows"]

Table = np.ndarray[Any, np.dtype[Any]]

MODES = ("CLASSIFICATION", "REGRESSION", "PROBABILITY", "MULTIPROBABILITY", "RAW", "RAW_REGRESSION")
ARRAY_MODES = frozenset({"MULTIPROBABILITY", "RAW", "RAW_REGRESSION"})
_REGRESSIONS = frozenset({"REGRESSION", "RAW_REGRESSION"})
# Rows that a model is asked for at a time, so that no table of a whole tile is made.
BLOCK = 65_536


class Model:
    """What learning gives. Tables are (n, inputs) float64 without gaps; one answer per row.

    Methods that a model does not have refuse. An answer of NaN is none: it is masked.

    Attributes
    ----------
    classes : tuple of float
        Ascending; empty where none are known.
    modes : tuple of str
        Output modes that it answers in.
    many : bool
        Whether the answer of a class or a value is an array.
    """

    classes: tuple[float, ...] = ()
    modes: tuple[str, ...] = MODES
    many: bool = False

    def labels(self, table: Table) -> Table:
        """Return the class of every row."""
        chances = self.chances(table)
        return np.asarray(self.classes)[np.argmax(chances, axis=1)]

    def chances(self, table: Table) -> Table:
        """Return the probability of every class: (n, classes)."""
        raise EngineError("This classifier has no probabilities.")

    def values(self, table: Table) -> Table:
        """Return the regression of every row."""
        raise EngineError("This classifier has no regression.")

    def raw(self, table: Table) -> Table:
        """Return what stands behind the answer: votes, margins, distances; (n, k)."""
        raise EngineError("This classifier has no raw answer.")

    def outputs(self, table: Table, mode: str) -> Table:
        """Return the answers of a mode: (n,), or (n, k) where they are arrays."""
        if mode == "CLASSIFICATION":
            return self.labels(table)
        if mode == "REGRESSION":
            return self.values(table)
        if mode in ("RAW", "RAW_REGRESSION"):
            return self.raw(table)
        chances = self.chances(table)
        if mode == "MULTIPROBABILITY":
            return chances
        # Of two classes the chance of the second, as susceptibility maps use it.
        return chances[:, -1] if chances.shape[1] == 2 else chances.max(axis=1)

    def explain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what the model looks like, for inputs of these names."""
        return {}


class Learner(ABC):
    """A way of learning: what a classifier holds until it is trained.

    Attributes
    ----------
    modes : tuple of str
        Output modes that its models answer in.
    """

    modes: tuple[str, ...] = MODES

    @abstractmethod
    def fit(self, options: dict[str, Any], table: Table, labels: Table, mode: str) -> Model:
        """Return the model of a (n, inputs) table and its (n,) labels.

        The options also hold the names of the inputs, as ``inputs``.
        """


class _Training:
    """The training table, and the models fitted to it so far."""

    def __init__(self, names: Sequence[str], table: Table, labels: Table) -> None:
        self.names, self.table, self.labels = tuple(names), table, labels
        self._models: dict[bool, Model] = {}
        self._lock = threading.Lock()

    def model(self, learner: Learner, options: dict[str, Any], mode: str) -> Model:
        regression = mode in _REGRESSIONS
        with self._lock:
            if regression not in self._models:
                self._models[regression] = self._fitted(learner, options, mode, regression)
            return self._models[regression]

    def _fitted(
        self, learner: Learner, options: dict[str, Any], mode: str, regression: bool
    ) -> Model:
        labels = self.labels
        if not regression:
            if (labels != np.round(labels)).any() or (labels < 0).any():
                found = labels[(labels != np.round(labels)) | (labels < 0)][0]
                raise EngineError(f"Class values must be integers of at least 0; found {found:g}.")
            labels = labels.astype(np.int64)
        try:
            return learner.fit({**options, "inputs": self.names}, self.table, labels, mode)
        except ValueError as problem:
            # What scikit-learn says of too little or of hopeless data.
            raise EngineError(f"The training failed: {str(problem).splitlines()[0]}") from None
        except MemoryError:
            raise LimitError("User memory limit exceeded.") from None


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier, trained or not.

    Parameters
    ----------
    name : str
    options : dict
        Arguments that it was made with.
    learner : Learner, optional
        ``None`` for those that need no training.
    mode : str
        One of `MODES`.
    bands : tuple of str
        Names of the inputs, in the order of the table's columns.
    training : optional
    ready : Model, optional
        Of a classifier that needs no training.
    extra : tuple of str
        Names of its outputs where there are several; the output's name is then ignored
        ([A] Image.classify).
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    learner: Learner | None = None
    mode: str = "CLASSIFICATION"
    bands: tuple[str, ...] = ()
    training: _Training | None = None
    ready: Model | None = None
    extra: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        return {"type": "Classifier", "classifierName": self.name, "mode": self.mode,
                **{k: v for k, v in self.options.items() if v is not None}}  # fmt: skip

    @property
    def trained(self) -> bool:
        """True where values can be asked for."""
        return self.ready is not None or self.training is not None

    def model(self) -> Model:
        """Return the model of the output mode, fitted when it is first asked for."""
        if self.ready is not None:
            return self.ready
        if self.training is None or self.learner is None:
            raise EngineError("The classifier has not been trained.")
        return self.training.model(self.learner, self.options, self.mode)

    def predict(self, table: Table) -> Table:
        """Return the answers for a (n, inputs) table: (n,) or (n, k)."""
        model = self.model()
        parts = []
        for k in range(0, max(len(table), 1), BLOCK):
            tick()
            try:
                with np.errstate(all="ignore"):
                    found = model.outputs(table[k : k + BLOCK], self.mode)
            except ValueError as problem:
                # What scikit-learn says of values that it cannot take.
                raise EngineError(
                    f"The inputs cannot be classified: {str(problem).splitlines()[0]}"
                ) from None
            parts.append(np.asarray(found, float))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def pixel_type(self) -> PixelType:
        """Return the type of the answers."""
        if self.mode == "CLASSIFICATION":
            classes = self.model().classes
            if classes and all(float(c).is_integer() for c in classes):
                return PixelType("int", int(min(classes)), int(max(classes)))
            return DOUBLE
        if self.mode == "PROBABILITY":
            return FLOAT if self.extra else PixelType("float", 0.0, 1.0)
        return DOUBLE

    def shown(self, value: float) -> int | float:
        """Return an answer as a property: classes are integers."""
        return int(value) if self.pixel_type().is_int else float(value)


def training_table(
    items: Collection,
    inputs: Sequence[str] | None,
    label: str | None,
    part: float,
    seed: int,
) -> tuple[list[str], Table, Table]:
    """Return the names of inputs, their table and the labels of a collection's features.

    Parameters
    ----------
    items : Collection
    inputs : sequence of str, optional
        The property ``band_order`` of the collection names them by default ([A]
        Classifier.train); without one, the numbers of the first feature do.
    label : str, optional
    part : float
        Share of the rows to keep, drawn by ``seed``.
    seed : int

    Returns
    -------
    names : list of str
    table : (n, inputs) float64
    labels : (n,) float64
        Zeros without a label.

    Raises
    ------
    EngineError
        A label is missing, a value is no number, or nothing is left. A feature with an input
        that is null is left out.
    """
    if not 0 < part <= 1:
        raise EngineError(f"Subsampling must be within (0, 1], not {part:g}.")
    elements = items.items()
    names = list(inputs) if inputs is not None else _input_names(items, elements, label)
    if not names:
        raise EngineError("There are no input properties to train on.")
    rows, labels = [], []
    for place, item in enumerate(elements):
        shown = item.properties.get("system:index", place)
        wanted = 0.0
        if label is not None:
            wanted = _numeric(item.properties.get(label), label, shown)
        values = [item.properties.get(n) for n in names]
        if any(v is None for v in values):
            continue
        rows.append([_numeric(v, n, shown) for n, v in zip(names, values, strict=True)])
        labels.append(wanted)
    table, found = np.asarray(rows, float), np.asarray(labels)
    if part < 1 and rows:
        keep = np.random.default_rng(seed % 2**63).random(len(table)) < part
        table, found = table[keep], found[keep]
    if not len(table):
        raise EngineError("No valid training data were found.")
    return names, table, found


def _input_names(items: Collection, elements: Sequence[Element], label: str | None) -> list[str]:
    ordered = items.properties.get("band_order")
    if isinstance(ordered, list) and ordered:
        return [str(n) for n in ordered if n != label]
    if not elements:
        return []
    return sorted(
        k
        for k, v in elements[0].properties.items()
        if k != label and not k.startswith("system:") and isinstance(v, (int, float))
    )


def _numeric(value: Any, name: str, feature: Any) -> float:
    if value is None:
        raise EngineError(f"Property '{name}' of feature '{feature}' is missing.")
    if not isinstance(value, (int, float)):
        raise EngineError(
            f"Property '{name}' of feature '{feature}' must be a number, not '{value}'."
        )
    number = float(value)
    if not np.isfinite(number):
        raise EngineError(f"Property '{name}' of feature '{feature}' is not finite: {number}.")
    return number


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
    if classifier.learner is None:
        raise EngineError(f"The classifier '{classifier.name}' cannot be trained.")
    names, table, labels = training_table(items, inputs, target, part, seed)
    return replace(classifier, bands=tuple(names), training=_Training(names, table, labels))


@function("Classifier.setOutputMode")
def set_output_mode(classifier: Classifier, mode: str) -> Classifier:
    """Choose between classes, probabilities, regression and arrays of what is behind them."""
    if mode not in MODES:
        raise EngineError(f"Unknown output mode '{mode}': {', '.join(MODES)}.")
    source = classifier.learner or classifier.ready
    known = MODES if source is None else source.modes
    if mode not in known:
        raise EngineError(
            f"Output mode '{mode}' is not supported by the classifier '{classifier.name}': "
            f"{', '.join(known)}."
        )
    return replace(classifier, mode=mode)


@function("Classifier.mode")
def mode(classifier: Classifier) -> str:
    """Return the output mode."""
    return classifier.mode


@function("Classifier.schema")
def schema(classifier: Classifier) -> list[str] | None:
    """Return the names of the inputs; null before the training ([A])."""
    return list(classifier.bands) if classifier.trained else None


@function("Classifier.confusionMatrix")
def training_matrix(classifier: Classifier) -> ConfusionMatrix:
    """Return the matrix of the training data against itself ([A]: resubstitution error)."""
    if classifier.training is None:
        raise EngineError("The classifier has not been trained.")
    asked = replace(classifier, mode="CLASSIFICATION")
    if classifier.learner is None or "CLASSIFICATION" not in classifier.learner.modes:
        raise EngineError(f"The classifier '{classifier.name}' gives no classes.")
    found = asked.predict(classifier.training.table)
    # Of several nearest classes the nearest is the answer.
    return confusion(classifier.training.labels, found if found.ndim == 1 else found[:, 0])


@function("Classifier.explain")
def explain(classifier: Classifier) -> dict[str, Any]:
    """Return what a trained classifier looks like.

    ``classes``; for trees also ``importance`` (the decrease of impurity at every split, summed
    over splits and trees), ``numberOfTrees``, ``outOfBagErrorEstimate`` and the trees in R's
    text format, which Classifier.decisionTreeEnsemble reads.
    """
    model = classifier.model()
    out: dict[str, Any] = {}
    if model.classes and classifier.mode not in _REGRESSIONS:
        out["classes"] = [int(c) if float(c).is_integer() else c for c in model.classes]
    return out | model.explain(classifier.bands)


@function("Classifier.load", evaluator=True)
def load_classifier(evaluator: Evaluator, asset_id: str) -> Classifier:
    """Return a classifier of the catalogue, as Export.classifier.toAsset stored it."""
    from .trees import classifier_from_json

    try:
        stored = evaluator.catalog.classifier(asset_id) if evaluator.catalog is not None else None
    except ThawslumpError as problem:
        raise EngineError(str(problem)) from None
    if stored is None:
        raise EngineError(
            f"Classifier asset '{asset_id}' not found (does not exist or caller does not have "
            "access)."
        )
    return classifier_from_json(stored)


@function("Image.classify")
def classify(image: Image, classifier: Classifier, name: str) -> Image:
    """Classify every pixel; masked where any input is.

    Inputs are taken by name ([A]). The mask is the least of theirs; where the classifier has
    no answer the result is masked.
    """
    if not classifier.trained:
        raise EngineError("The classifier has not been trained.")
    inputs = [image.band(n) for n in classifier.bands]
    if not inputs:
        raise EngineError("The classifier has no inputs.")
    if classifier.mode in ARRAY_MODES or classifier.model().many:
        return _arrays(image, classifier, name)
    kind = classifier.pixel_type()
    names = classifier.extra or (name,)

    def compute(*got: Pixels) -> Sequence[Pixels]:
        shape, take, mask = valid_rows(got)
        made = [np.zeros(shape, kind.dtype) for _ in names]
        lost = np.zeros(shape, bool)
        if take.any():
            found = classifier.predict(table_of(got, take, shape)).reshape(-1, len(names))
            blank = np.isnan(found).any(axis=1)
            found[blank] = 0
            for k, data in enumerate(made):
                data[take] = found[:, k].astype(kind.dtype)
            lost[take] = blank
        if lost.any():
            mask = both(mask, ~lost)
        return [Pixels(data, mask) for data in made]

    node = PixelsNode(compute, inputs)
    first = inputs[0]
    return image.derived([first.computed(kind, node, k).renamed(n) for k, n in enumerate(names)])


def valid_rows(got: Sequence[Pixels]) -> tuple[tuple[int, ...], Any, Any]:
    """Return the common shape, the pixels that every input has, and their mask."""
    shape = np.broadcast_shapes(
        *(p.data.shape for p in got), *(p.mask.shape for p in got if p.mask is not None)
    )
    mask = None
    for pixels in got:
        mask = both(mask, pixels.mask)
    ok = valid(mask)
    take = np.ones(shape, bool) if ok is None else np.broadcast_to(ok, shape).copy()
    for pixels in got:
        if pixels.data.dtype.kind == "f":
            finite = np.isfinite(pixels.data)
            if not finite.all():
                take &= finite
                mask = both(mask, np.broadcast_to(finite, shape))
    return shape, take, mask


def table_of(got: Sequence[Pixels], take: Any, shape: tuple[int, ...]) -> Table:
    table = np.empty((int(take.sum()), len(got)))
    for k, pixels in enumerate(got):
        table[:, k] = np.broadcast_to(pixels.data, shape)[take]
    return table


def _arrays(image: Image, classifier: Classifier, name: str) -> Image:
    """Classify every pixel where the answer is an array of numbers."""
    inputs = [image.band(n) for n in classifier.bands]
    # One row tells how long the arrays are.
    width = classifier.predict(np.zeros((1, len(inputs)))).shape[1]
    blank = packed(np.zeros((1, width)))

    def compute(*got: Pixels) -> Sequence[Pixels]:
        shape, take, mask = valid_rows(got)
        data = np.zeros(shape, blank.dtype)
        if take.any():
            data[take] = packed(classifier.predict(table_of(got, take, shape)))
        return [Pixels(data, mask)]

    kind = PixelType("double", dimensions=1)
    return image.derived([inputs[0].computed(kind, PixelsNode(compute, inputs)).renamed(name)])


@function("FeatureCollection.classify")
def classify_features(items: Collection, classifier: Classifier, name: str) -> Collection:
    """Add the answer to every feature; those that miss an input have none."""
    if not classifier.trained:
        raise EngineError("The classifier has not been trained.")

    def source() -> Iterator[Element]:
        elements = items.items()
        rows = [[i.properties.get(n) for n in classifier.bands] for i in elements]
        good = [
            k
            for k, row in enumerate(rows)
            if all(isinstance(v, (int, float)) and np.isfinite(v) for v in row)
        ]
        found: dict[int, Any] = {}
        if good:
            table = np.asarray([rows[k] for k in good], float)
            found = dict(zip(good, classifier.predict(table), strict=True))
        for k, item in enumerate(elements):
            more = {} if k not in found else _properties(classifier, found[k], name)
            yield item.replaced({**item.properties, **more}) if more else item

    return items.over(source, items.size)


def _properties(classifier: Classifier, answer: Any, name: str) -> dict[str, Any]:
    if np.isnan(answer).any():
        return {}
    if classifier.extra:
        return {n: float(v) for n, v in zip(classifier.extra, answer, strict=True)}
    if np.ndim(answer):
        return {name: Array(np.asarray(answer))}
    return {name: classifier.shown(answer)}
