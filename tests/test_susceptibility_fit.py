"""Fitting a model over all folds: nothing is lost by a stop, and what fails is named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from susceptibility_world import CONFIG, run_steps, settings, world

from thawslump.errors import DataError
from thawslump.pipeline import Item
from thawslump.workspace import Workspace
from trainer.susceptibility import held, registry, table
from trainer.susceptibility.config import HE2024
from trainer.susceptibility.files import Files
from trainer.susceptibility.folds import KINDS, Plan
from trainer.susceptibility.steps import fit, plan_fit
from trainer.susceptibility.validation import auc


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = world(tmp_path)
    settings(made, models=("logistic",))
    run_steps(made, until="susceptibility-select")
    return made


def item(workspace: Workspace, name: str, **changes: Any) -> Item:
    """The plan's item of one model."""
    settings(workspace, models=(name,), **changes)
    (found,) = plan_fit(workspace, 1)
    return found


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how many samples each fit learns from."""
    sizes: list[int] = []
    before = fit.fit_on_ground

    def spied(model: Any, X: Any, *rest: Any) -> Any:
        sizes.append(len(X))
        return before(model, X, *rest)

    monkeypatch.setattr(fit, "fit_on_ground", spied)
    return sizes


def quiet(share: float, words: str) -> None:
    pass


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from susceptibility_world import settings, world
from trainer.susceptibility.steps import plan_fit, fit
workspace = world(Path(sys.argv[1]))
settings(workspace, models=("logistic",), repetitions=2)
(item,) = plan_fit(workspace, 1)
def progress(share, words):
    print(f"{share:.4f} {words}", flush=True)
    if "fold 4 of 5 (blocked folds, repetition 1" in words:
        time.sleep(600)
fit.run(item, workspace, progress)
"""


def test_a_killed_fit_goes_on_where_it_was(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the fourteenth of twenty folds: thirteen are not fitted again, and equal bytes.

    Each of the two folds that judge and are left is also fitted without each of four factors.
    """
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(Path(__file__).parent)]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            said.append(line)
            if "fold 4 of 5 (blocked folds, repetition 1" in line:
                child.kill()
    assert child.returncode == -9
    shares = [float(line.split()[0]) for line in said]
    assert len(said) == 14 and shares == sorted(shares) and 0.6 < shares[-1] < 0.7

    sizes = count_fits(monkeypatch)
    work = item(workspace, "logistic", repetitions=2)
    facts = fit.run(work, workspace, quiet)
    assert facts["taken_up"] == 13 and facts["fits"] == 21 and len(sizes) == 8 + 2 * 4
    files = Files(workspace, 1)
    continued = {path: path.read_bytes() for path in work.outputs}
    assert not files.folds("logistic").exists()
    facts = fit.run(work, workspace, quiet)
    assert facts["taken_up"] == 0
    assert {path: path.read_bytes() for path in work.outputs} == continued


def test_folds_of_other_settings_or_samples_are_not_mixed_in(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    "What was kept counts only for equal settings and equal samples; damaged folds are fitted again"

    def stop(share: float, words: str) -> None:
        if "fold 4 of 5 (random" in words:
            raise KeyboardInterrupt

    def stopped(work: Item) -> None:
        with pytest.raises(KeyboardInterrupt):
            fit.run(work, workspace, stop)

    files = Files(workspace, 1)
    work = item(workspace, "forest", trees=5)
    stopped(work)
    assert len(list(files.folds("forest").glob("*/*.safetensors"))) == 3
    stopped(item(workspace, "forest", trees=6))
    assert len(list(files.folds("forest").glob("*"))) == 1  # the older ones are gone

    stopped(work)
    kept = sorted(files.folds("forest").glob("*/*.safetensors"))
    kept[0].write_bytes(kept[0].read_bytes()[:-3])
    save_file({"rows": np.arange(3)}, kept[1])
    assert fit.run(work, workspace, quiet)["taken_up"] == 1

    stopped(work)
    other = replace(table.read(files.samples), facts={"label_rule": "another"})
    table.write(files.samples, other)
    assert fit.run(work, workspace, quiet)["taken_up"] == 0


def test_held_out_probabilities_are_those_of_models_that_saw_other_folds(
    workspace: Workspace,
) -> None:
    "Fitted again by hand on the recorded folds, the same numbers; seeds and sizes are recorded"
    work = item(workspace, "logistic", repetitions=2, validation=("random", "blocked"))
    fit.run(work, workspace, quiet)
    files = Files(workspace, 1)
    found, samples = held.read(files.held("logistic")), table.read(files.samples)
    assert set(found.probability) == {(k, r) for k in ("random", "blocked") for r in (0, 1)}
    for key, of in found.fold.items():
        expected = np.full(len(of), np.nan)
        for number in np.unique(of[of >= 0]):
            test = of == number
            model = registry.build("logistic").fit(samples.features[~test], samples.labels[~test])
            expected[test] = model.predict_proba(samples.features[test])[:, 1]
        np.testing.assert_allclose(found.probability[key], expected, atol=1e-12)
    assert not np.array_equal(found.fold["random", 0], found.fold["random", 1])
    assert found.facts["seed"] == CONFIG.seed
    first = found.facts["folds"][0]
    assert (first["kind"], first["repetition"], first["fold"]) == ("random", 0, 0)
    assert sum(first["train"]) + sum(first["test"]) == len(samples.labels)
    elsewhere = table.read(files.test_samples)
    assert auc(elsewhere.labels, found.test) > 0.85


def test_all_kinds_of_folds(workspace: Workspace) -> None:
    "Each as it is defined, described and recorded; leave-one-region-out is not repeated"
    work = item(workspace, "logistic", repetitions=2, validation=KINDS, fold_buffer=150.0)
    assert work.inputs[2:] == tuple(workspace.factors(n) for n in work.settings["map"])
    fit.run(work, workspace, quiet)
    found, samples = held.read(Files(workspace, 1).held("logistic")), table.read(work.inputs[0])
    assert {kind: len(found.of(kind)) for kind in KINDS} == {
        "random": 2, "blocked": 2, "buffered": 2, "regions": 1, "nearest": 2
    }  # fmt: skip
    assert found.facts["kinds"]["regions.0"]["regions"] == "sites"
    for values in found.probability.values():
        assert auc(samples.labels, values) > 0.8
    (of,) = found.folds("regions")
    assert np.array_equal(of, samples.sites)
    trained = [f for f in found.facts["folds"] if f["kind"] == "buffered" and f["fold"] == 0]
    tested = [f for f in found.facts["folds"] if f["kind"] == "blocked" and f["fold"] == 0]
    assert trained[0]["test"] == tested[0]["test"]
    assert sum(trained[0]["train"]) < sum(tested[0]["train"])
    assert found.facts["kinds"]["nearest.0"]["kind"] == "nearest"


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_model_goes_through_the_chain(
    name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    "All samples are held out once in each kind of folds (networks with two epochs)"
    from trainer.susceptibility import networks

    for kind in (networks.Network, networks.FactorCnn):
        monkeypatch.setattr(kind, "_schedule", lambda self: (2, 128, None))
    facts = fit.run(
        item(workspace, name, device="cpu", bases=("cnn_small", "logistic")), workspace, quiet
    )
    assert facts["fits"] == 11
    found = held.read(Files(workspace, 1).held(name))
    for values in (*found.probability.values(), found.test):
        assert ((values >= 0) & (values <= 1)).all()


def test_one_class_to_learn_from_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = table.read(Files(workspace, 1).samples)
    slumps, others = np.flatnonzero(samples.labels == 1), np.flatnonzero(samples.labels == 0)
    made = Plan([(others, slumps)], None, {"same_every_repetition": True})
    monkeypatch.setattr(fit, "plan", lambda *given, **more: made)
    with pytest.raises(
        DataError,
        match=r"forest could not be fitted in fold 1 of 1 \(random folds\): all \d+ samples to "
        r"learn from are of one class \(no slump\)",
    ) as caught:
        fit.run(item(workspace, "forest"), workspace, quiet)
    assert "Take forest out of susceptibility.models" in str(caught.value.hint)


def test_what_does_not_converge_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    def short(*given: Any) -> Any:
        return Pipeline([("model", LogisticRegression(max_iter=1))])

    samples = table.read(Files(workspace, 1).samples)
    filled = {name: np.nan_to_num(each) for name, each in samples.factors.items()}
    table.write(Files(workspace, 1).samples, replace(samples, factors=filled))
    monkeypatch.setattr(fit, "model_of", short)
    with pytest.raises(
        DataError, match=r"logistic could not be fitted in fold 1 of 5 \(random folds\): lbfgs"
    ):
        fit.run(item(workspace, "logistic"), workspace, quiet)

    class Lost:
        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.full((len(X), 2), np.nan)

    monkeypatch.setattr(fit, "fit_on_ground", lambda *given: Lost())
    with pytest.raises(DataError, match=r"logistic did not converge in fold 1 of 5 \(random"):
        fit.run(item(workspace, "logistic"), workspace, quiet)


def test_constant_and_empty_columns_are_no_obstacle(workspace: Workspace) -> None:
    "A factor that is the same everywhere, or missing everywhere, says nothing and does no harm"
    files = Files(workspace, 1)
    samples = table.read(files.samples)
    factors = dict(samples.factors)
    factors["elevation"] = np.full_like(factors["elevation"], 7)
    factors["NDVI"] = np.full_like(factors["NDVI"], np.nan)
    table.write(files.samples, replace(samples, factors=factors))
    for name in ("logistic", "forest", "svr", "spatial_average"):
        fit.run(item(workspace, name), workspace, quiet)
        found = held.read(files.held(name))
        assert auc(samples.labels, found.probability["blocked", 0]) > 0.8


def test_another_file_is_not_taken_for_held_out_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for content in (b"", b"text", json.dumps({"a": 1}).encode()):
        path.write_bytes(content)
        with pytest.raises(DataError, match="does not hold held-out probabilities"):
            held.read(path)
    save_file({"random.0.probability": np.zeros(3)}, path, {"thawslump": "{}"})
    with pytest.raises(DataError, match=r"random\.0\.fold. is missing"):
        held.read(path)


def test_the_longest_fit_begins_first(workspace: Workspace) -> None:
    "So that it does not end alone; the time left is guessed from it"
    settings(workspace, models=(*HE2024, "logistic"))
    items = plan_fit(workspace, 1)
    assert [item.name for item in items[:2]] == ["stacking", "blending"]
    assert items[0].cost > sum(item.cost for item in items[1:])
    settings(workspace, models=("cnn",), repetitions=20)
    (twenty,) = plan_fit(workspace, 1)
    assert twenty.cost > 15 * next(item.cost for item in items if item.name == "cnn")


def test_bagging_repeats_the_model_that_is_asked_for(workspace: Workspace) -> None:
    "The setting reaches the estimator; a model that repeats nothing does not depend on it"
    bagging = item(workspace, "bagging", bagged="logistic")
    assert bagging.settings["bagged"] == "logistic"
    assert "bagged" not in item(workspace, "logistic", bagged="logistic").settings
    samples = table.read(Files(workspace, 1).samples)
    model = fit.model_of("bagging", bagging.settings, samples)
    assert isinstance(model.named_steps["model"].estimator, LogisticRegression)
