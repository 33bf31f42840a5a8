"""Fitted models asked for many cells: the same answers, and the spread of their members."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from trainer.susceptibility.ensembles import Blending, Stacking
from trainer.susceptibility.networks import FactorCnn, Mlp
from trainer.susceptibility.quick import has_members, network, quick
from trainer.susceptibility.registry import build


def samples(count: int, seed: int = 0, factors: int = 14) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(count, factors)).astype(np.float32)
    return x, (x[:, 0] * x[:, -1] + 0.5 * dice.normal(size=count) > 0).astype(int)


def fitted(name: str, **changes: Any) -> Any:
    model = build(name, device="cpu", trees=12, **changes)
    parts = [model, *getattr(model, "bases", {}).values()]
    for part in parts:
        if hasattr(part, "named_steps") and "epochs" in part.named_steps["model"].get_params():
            part.set_params(model__epochs=2)
    x, y = samples(160)
    x[::7, 2] = np.nan
    return model.fit(x, y)


NAMES = (
    "logistic", "forest", "boosting", "svr", "svc", "mlp", "cnn", "cnn_small", "bagging",
    "stacking", "blending", "spatial_average",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_model(name: str) -> None:
    "Also where factors are missing; members only where the model has some"
    model = fitted(name)
    new = samples(1500, 1)[0]
    new[::9, 3] = np.nan
    answer = quick(model, "cpu")(new)
    expected = model.predict_proba(new)[:, 1]
    # A step of the stored map is 1e-4. Trees above probabilities may turn on their last digit.
    off = np.abs(answer.probability - expected)
    assert np.quantile(off, 0.99) < 1e-6 and (off.max() < 1e-5 or name in ("stacking", "blending"))
    assert (answer.members is not None) == has_members(model)
    alone = ("logistic", "boosting", "svr", "svc", "mlp", "cnn", "cnn_small")
    assert has_members(model) == (name not in alone)
    if answer.members is not None:
        assert answer.members.shape == (1500,) and (answer.members >= 0).all()
        assert answer.members.max() <= 0.5 + 1e-9  # of numbers between 0 and 1


def test_spread_is_that_of_the_members() -> None:
    "Trees, bags, bases and members asked one by one through the library"
    new = samples(300, 2)[0]
    forest = fitted("forest")
    ready = forest[:-1].transform(new)
    trees = [tree.predict_proba(ready)[:, 1] for tree in forest[-1].estimators_]
    np.testing.assert_allclose(quick(forest)(new).members, np.std(trees, axis=0), atol=1e-12)
    bags = fitted("bagging")
    ready = bags[:-1].transform(new)
    said = [each.predict_proba(ready)[:, 1] for each in bags[-1].estimators_]
    np.testing.assert_allclose(quick(bags, "cpu")(new).members, np.std(said, axis=0), atol=1e-6)
    for kind in ("stacking", "blending"):
        model = fitted(kind, bases=("logistic", "svr", "forest"))
        assert isinstance(model, Stacking | Blending)
        expected = model.base_probabilities(new).std(axis=1)
        np.testing.assert_allclose(quick(model, "cpu")(new).members, expected, atol=1e-6)


def test_members_of_an_average_that_agree_have_no_spread() -> None:
    "One column: its linear and its radial member; their spread is half of what parts them"
    x = samples(120, factors=1)[0]
    model = build("spatial_average").fit(x, (x[:, 0] > 0).astype(int))
    answer = quick(model, "cpu")(x)
    slope, offset = model.curve_
    z = (x - model.mean_) / model.scale_
    linear = z @ model.slopes_
    radial = np.exp(-model.width * (z - model.vectors_[0].T) ** 2) @ model.weights_[0]
    one, other = (
        1 / (1 + np.exp(-(slope * (2 * part + model.constant_) + offset)))
        for part in (linear, radial)
    )
    np.testing.assert_allclose(answer.members, np.abs(one - other) / 2, atol=1e-5)


@pytest.mark.parametrize("factors", [1, 2, 3, 5, 14, 30])
@pytest.mark.parametrize("model", [Mlp((9, 4)), FactorCnn("zhang"), FactorCnn("he")])
def test_products_of_matrices_are_the_network(model: Any, factors: int) -> None:
    "Padding, pooling and odd lengths: to single precision, at every number of factors"
    import torch

    x = samples(40, factors=factors)[0]
    made = type(model)(**{**model.get_params(), "epochs": 1, "device": "cpu"})
    made.fit(x, np.arange(40) % 2)
    rows = torch.from_numpy(samples(97, 3, factors)[0])
    with torch.inference_mode():
        expected, found = made.network_(rows), network(made.network_)(rows)
    assert found.shape == expected.shape == (97, 1)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-5, atol=2e-6)


def test_a_network_of_other_layers_is_asked_as_it_is() -> None:
    import torch
    from torch import nn

    odd = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    rows = torch.ones(5, 3)
    with torch.inference_mode():
        assert torch.equal(network(odd)(rows), odd(rows))
        wide = nn.Sequential(
            nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3, dilation=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(4, 1),
        )  # fmt: skip
        assert torch.equal(network(wide)(torch.ones(5, 6)), wide(torch.ones(5, 6)))


def test_several_threads_may_ask_at_once() -> None:
    model = fitted("stacking", bases=("svr", "mlp", "forest"))
    ask, new = quick(model, "cpu"), samples(4000, 5)[0]
    expected = ask(new)
    gate = threading.Barrier(4)

    def turn(number: int) -> bool:
        gate.wait()
        found = ask(new)
        return bool(np.array_equal(found.probability, expected.probability))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(turn, range(4)))


def test_the_way_of_a_gpu_gives_the_same() -> None:
    "On a machine with one; the same tensors on the CPU are held above"
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    new = samples(3000, 6)[0]
    for name in ("cnn", "mlp", "svr"):
        model = fitted(name)
        cpu, gpu = (quick(model, where)(new).probability for where in ("cpu", "cuda"))
        assert np.abs(cpu - gpu).max() < 1e-4
