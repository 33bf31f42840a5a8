"""Fitted models asked for very many cells: the same answers, with their members', in less time.

What a model says is decided elsewhere (`registry`, `networks`, `ensembles`, `average`); here is
only how to ask it. Answers are those of `predict_proba` to rounding, which the tests hold. Besides
the probability each model gives the spread of its members, out of one pass over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from trainer.susceptibility.average import SpatialAverage
from trainer.susceptibility.ensembles import Blending, Stacking, SupportVectors
from trainer.susceptibility.kernels import RadialSum
from trainer.susceptibility.networks import FactorCnn, Mlp, device_of

__all__ = ["Answer", "Quick", "has_members", "network", "quick"]

Floats = NDArray[np.float64]
# Rows that pass through a network at once on a CPU: its layers then stay in a core's cache.
_ROWS = 1024
# On a GPU: some 250 MB of its memory for each thread that asks.
_DEVICE_ROWS = 32_768


@dataclass(frozen=True)
class Answer:
    """What a model says of cells.

    Attributes
    ----------
    probability : ndarray of float64, shape (n,)
    members : ndarray of float64, shape (n,), optional
        Standard deviation of what the members of the model say; None for a model without members.
    """

    probability: Floats
    members: Floats | None = None


Quick = Callable[[NDArray[np.float32]], Answer]
"""Features (cells, features), NaN where the model fills them, to its answer."""


def quick(model: Any, device: str = "auto") -> Quick:
    """Return how to ask a fitted model of `registry.build`.

    Members are the bases of stacking and blending, the estimators of bagging, the trees of a
    forest and the members of a spatial average. A model below others counts as one of them,
    whatever it has inside.

    Parameters
    ----------
    model : estimator
        One of another kind is asked through its `predict_proba`.
    device : {"auto", "cpu", "cuda"}
        Of networks and support vectors.

    Returns
    -------
    callable
        May be called from several threads at once; each call takes one core (BLAS and torch held
        to one thread by the caller).
    """
    if isinstance(model, Stacking | Blending):
        return _above([quick(base, device) for base in model.bases_.values()], model.final_, device)
    if isinstance(model, Pipeline):
        return _after(model, device)
    if isinstance(model, RandomForestClassifier):
        return _forest(model)
    if isinstance(model, SpatialAverage):
        return _average(model, device)
    if isinstance(model, SupportVectors):
        return _vectors(model, device)
    if isinstance(model, FactorCnn | Mlp):
        return _network(model, device)
    if hasattr(model, "estimators_features_"):
        return _bagging(model, device)

    def say(features: NDArray[np.float32]) -> Answer:
        return Answer(np.asarray(model.predict_proba(features)[:, 1], np.float64))

    return say


def has_members(model: Any) -> bool:
    """Return whether a model has members whose spread `quick` gives."""
    if isinstance(model, Pipeline):
        return has_members(model.steps[-1][1])
    known = Stacking | Blending | RandomForestClassifier | SpatialAverage
    return isinstance(model, known) or hasattr(model, "estimators_features_")


def _after(model: Pipeline, device: str) -> Quick:
    last = quick(model.steps[-1][1], device)
    steps = [step for _, step in model.steps[:-1] if hasattr(step, "transform")]

    def say(features: NDArray[np.float32]) -> Answer:
        for step in steps:
            features = step.transform(features)
        return last(features)

    return say


def _spread(said: Sequence[Floats]) -> Floats:
    return np.asarray(np.std(np.stack(said), axis=0))


def _above(bases: Sequence[Quick], final: Any, device: str) -> Quick:
    last = quick(final, device)

    def say(features: NDArray[np.float32]) -> Answer:
        said = [base(features).probability for base in bases]
        return Answer(last(np.column_stack(said)).probability, _spread(said))

    return say


def _bagging(model: Any, device: str) -> Quick:
    members = [quick(each, device) for each in model.estimators_]

    def say(features: NDArray[np.float32]) -> Answer:
        said = [
            member(features[:, columns]).probability
            for member, columns in zip(members, model.estimators_features_, strict=True)
        ]
        return Answer(np.mean(said, axis=0), _spread(said))

    return say


def _forest(model: RandomForestClassifier) -> Quick:
    trees = []
    for each in model.estimators_:
        counts = each.tree_.value[:, 0, :]
        trees.append((each.tree_, np.ascontiguousarray(counts[:, 1] / counts.sum(axis=1))))

    def say(features: NDArray[np.float32]) -> Answer:
        rows = np.ascontiguousarray(features, np.float32)  # what trees compare in
        total, squares = np.zeros(len(rows)), np.zeros(len(rows))
        for tree, second in trees:
            said = second[tree.apply(rows)]
            total += said
            squares += said * said
        mean = total / len(trees)
        return Answer(mean, np.sqrt(np.maximum(squares / len(trees) - mean**2, 0.0)))

    return say


def _vectors(model: SupportVectors, device: str) -> Quick:
    gamma, intercept = model.numbers_
    where = _place(device)
    machine = _prepared(
        RadialSum(model.vectors_, model.weights_, float(gamma), float(intercept)), where
    )

    def say(features: NDArray[np.float32]) -> Answer:
        value = model.curve_[0] * machine(features, device=where) + model.curve_[1]
        if model.kind == "regression":
            return Answer(np.clip(value + 0.5, 0, 1))
        return Answer(0.5 * (1.0 + np.tanh(0.5 * value)))

    return say


def _prepared(machine: RadialSum, where: str, tolerance: float = 1e-4) -> RadialSum:
    # What is prepared at the first call is prepared before several threads ask for it.
    machine(machine.vectors[:1], tolerance, where)
    return machine


def _average(model: SpatialAverage, device: str) -> Quick:
    where = _place(device)
    parts = [
        (
            chosen,
            _prepared(RadialSum(vectors, weights, model.width / chosen.size, 0.0), where, 1e-6),
        )
        for chosen, vectors, weights in zip(
            model.columns_, model.vectors_, model.weights_, strict=True
        )
    ]
    slope, offset = model.curve_

    def chance(value: Floats) -> Floats:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (slope * value + offset))))

    def say(features: NDArray[np.float32]) -> Answer:
        x = np.nan_to_num((np.asarray(features, np.float64) - model.mean_) / model.scale_, nan=0.0)
        linear = x @ model.slopes_
        total = linear + model.constant_
        # Half of all members are linear, and kept as their sum; each member has the same share.
        said = chance(2.0 * linear + model.constant_)
        first, second = said * 0.5, said**2 * 0.5
        for chosen, radial in parts:
            value = radial(x[:, chosen], 1e-6, device=where)
            total += value
            said = chance(2.0 * len(parts) * value + model.constant_)
            first += said * (0.5 / len(parts))
            second += said**2 * (0.5 / len(parts))
        return Answer(chance(total), np.sqrt(np.maximum(second - first**2, 0.0)))

    return say


def _network(model: FactorCnn | Mlp, device: str) -> Quick:
    import torch

    where = device_of(device)
    layers = network(model.network_.to(where))
    at_once = _ROWS if where.type == "cpu" else _DEVICE_ROWS

    def say(features: NDArray[np.float32]) -> Answer:
        rows = torch.from_numpy(np.ascontiguousarray(features, np.float32))
        found = np.empty(len(rows))
        with torch.inference_mode():
            for first in range(0, len(rows), at_once):
                logits = layers(rows[first : first + at_once].to(where)).squeeze(1)
                found[first : first + at_once] = torch.sigmoid(logits).cpu().numpy()
        return Answer(found)

    return say


def _place(device: str) -> str:
    where = str(device_of(device))
    return "cpu" if where == "cpu" else where


def network(fitted: Any) -> Callable[[Any], Any]:
    """Return a fitted network as a row of matrix products.

    A convolution along 14 values is too small for the kernels of a library. Laid out with the
    channels last, each place of its output is one product of a part of the rows, without a copy;
    places that a pooling drops are left out, and padding is never multiplied.

    Parameters
    ----------
    fitted : torch.nn.Sequential
        Of `networks.FactorCnn` or `networks.Mlp`; one with other layers is returned as it is.

    Returns
    -------
    callable
        Tensor (n, factors) to tensor (n, 1).
    """
    from torch import nn

    layers = [layer for layer in fitted if not isinstance(layer, nn.Dropout)]
    made: list[Callable[[Any], Any]] = []
    at = 0
    while at < len(layers):
        layer, rest = layers[at], layers[at + 1 :]
        relu = bool(rest) and isinstance(rest[0], nn.ReLU)
        if isinstance(layer, nn.Unflatten) and not made:
            made.append(lambda x: x.unsqueeze(2))
            at += 1
        elif isinstance(layer, nn.Conv1d) and _plain(layer) and relu:
            pool = 1
            if len(rest) > 1 and isinstance(rest[1], nn.MaxPool1d):
                pool = _one(rest[1].kernel_size)
            made.append(_convolution(layer, pool))
            at += 2 + (len(rest) > 1 and isinstance(rest[1], nn.MaxPool1d))
        elif isinstance(layer, nn.Flatten):
            # Channels come first in what the next layer has learned.
            made.append(lambda x: x.transpose(1, 2).flatten(1))
            at += 1
        elif isinstance(layer, nn.Linear):
            made.append(_linear(layer, relu))
            at += 1 + relu
        else:
            return lambda x: fitted(x)

    def forward(x: Any) -> Any:
        for step in made:
            x = step(x)
        return x

    return forward


def _one(size: Any) -> int:
    return int(size[0] if isinstance(size, tuple) else size)


def _plain(layer: Any) -> bool:
    return bool(
        layer.stride == (1,)
        and layer.dilation == (1,)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.bias is not None
        and not isinstance(layer.padding, str)
    )


def _linear(layer: Any, relu: bool) -> Callable[[Any], Any]:
    import torch

    weights, bias = layer.weight.detach().T.contiguous(), layer.bias.detach()

    def forward(x: Any) -> Any:
        found = torch.addmm(bias, x, weights)
        return found.relu_() if relu else found

    return forward


def _convolution(layer: Any, pool: int) -> Callable[[Any], Any]:
    """Convolution, ReLU and pooling: (n, length, channels) to (n, shorter, depth)."""
    import torch

    depth, channels, kernel = layer.weight.shape
    # Row (tap, channel), so that neighbouring places of the input are neighbouring columns.
    weights = layer.weight.detach().permute(2, 1, 0).reshape(-1, depth).contiguous()
    bias, padding = layer.bias.detach(), int(layer.padding[0])

    def forward(x: Any) -> Any:
        rows, length, _ = x.shape
        places = (length + 2 * padding - kernel + 1) // pool * pool
        flat = x.reshape(rows, length * channels)
        found = x.new_empty(rows, places, depth)
        columns = found.view(rows, places * depth)
        for place in range(places):
            first = place - padding
            low, high = max(first, 0), min(first + kernel, length)
            torch.mm(
                flat[:, low * channels : high * channels],
                weights[(low - first) * channels : (high - first) * channels],
                out=columns[:, place * depth : (place + 1) * depth],
            )
        if pool > 1:
            # The largest of sums with one bias is the largest, plus that bias.
            found = found.view(rows, places // pool, pool, depth).amax(2)
        return found.add_(bias).relu_()

    return forward
