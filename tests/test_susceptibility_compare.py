"""Models side by side: every number against another way to it, the gap first."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics
from susceptibility_world import run_steps, settings, world

from thawslump.config import target
from thawslump.workspace import Workspace
from trainer.susceptibility import calibration, figures, held, registry, table
from trainer.susceptibility.applicability import Applicability
from trainer.susceptibility.files import Files
from trainer.susceptibility.steps import compare, plan_compare, plan_fit

NAMES = ("svr", "logistic", "forest")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    "Three models over three kinds of folds, drawn twice"
    workspace = world(tmp_path_factory.mktemp("compared"))
    settings(
        workspace, models=NAMES, validation=("random", "regions", "blocked"), repetitions=2,
        importance=2,
    )  # fmt: skip
    run_steps(workspace, until="susceptibility-compare")
    return workspace, json.loads(Files(workspace, 1).comparison.read_text())


def test_every_kind_has_its_gap_and_scores(compared: tuple[Workspace, dict[str, Any]]) -> None:
    "Areas are means over repetitions; the gap is random minus spatial; scores as scikit-learn's"
    workspace, report = compared
    files = Files(workspace, 1)
    samples = table.read(files.samples)
    assert report["spatial"] == "regions"  # the first that is not random
    assert set(report["models"]) == set(NAMES)
    for name, each in report["models"].items():
        said = held.read(files.held(name))
        assert set(each["by_kind"]) == {"random", "regions", "blocked"}
        for kind, about in each["by_kind"].items():
            areas = [metrics.roc_auc_score(samples.labels, p) for p in said.of(kind)]
            assert about["auc"] == pytest.approx(np.mean(areas))
            assert about["auc_repetitions"] == pytest.approx(areas)
            low, high = about["auc_interval"]
            assert low <= about["auc"] <= high
            if kind != "random":
                gap = each["by_kind"]["random"]["auc"] - about["auc"]
                assert about["gap_random_minus_spatial"] == pytest.approx(gap)
            first = said.probability[kind, 0]
            called = first >= 0.5
            expected = {
                "accuracy": metrics.accuracy_score(samples.labels, called),
                "precision": metrics.precision_score(samples.labels, called),
                "recall": metrics.recall_score(samples.labels, called),
                "specificity": metrics.recall_score(samples.labels, called, pos_label=0),
                "kappa": metrics.cohen_kappa_score(samples.labels, called),
                "heidke": metrics.cohen_kappa_score(samples.labels, called),
                "matthews": metrics.matthews_corrcoef(samples.labels, called),
            }
            expected["g_mean"] = np.sqrt(expected["recall"] * expected["specificity"])
            expected["auc"] = areas[0]
            assert {s: v[0] for s, v in about["scores"].items()} == pytest.approx(expected)
            assert about["brier"] == pytest.approx(metrics.brier_score_loss(samples.labels, first))
            for fold, area in enumerate(about["auc_folds"][0]):
                here = said.fold[kind, 0] == fold
                assert area == pytest.approx(
                    metrics.roc_auc_score(samples.labels[here], first[here])
                )
        assert each["auc_spatial"] == each["by_kind"]["regions"]["auc"]
        assert len(each["by_kind"]["regions"]["auc_repetitions"]) == 1
        assert len(each["by_kind"]["blocked"]["auc_repetitions"]) == 2
        elsewhere = table.read(files.test_samples)
        assert each["auc_test"] == pytest.approx(metrics.roc_auc_score(elsewhere.labels, said.test))


def test_the_best_over_spatial_folds_draws_the_map(
    compared: tuple[Workspace, dict[str, Any]],
) -> None:
    "And it is told which others cannot be told apart from it, paired over the same draws"
    _, report = compared
    areas = {name: each["auc_spatial"] for name, each in report["models"].items()}
    assert report["map_model"] == report["best"] == max(areas, key=lambda name: areas[name])
    for name, each in report["models"].items():
        if name == report["best"]:
            assert "auc_spatial_behind_best" not in each
            continue
        assert each["auc_spatial_behind_best"] == pytest.approx(areas[report["best"]] - areas[name])
        low = each["auc_spatial_behind_best_interval"][0]
        assert (name in report["not_told_apart_from_best"]) == (low <= 0)


def test_what_is_promised_of_the_best_is_told_after_the_choice(
    compared: tuple[Workspace, dict[str, Any]],
) -> None:
    "No more than the best has, and how often each is the best; pairs of one fold by brute force"
    workspace, report = compared
    best = report["models"][report["best"]]["auc_spatial"]
    assert sum(report["best_in_draws"].values()) == pytest.approx(1)
    assert set(report["best_in_draws"]) == set(NAMES)
    low, high = report["auc_spatial_after_choice_interval"]
    assert low < report["auc_spatial_after_choice"] < min(high, best + 0.01)
    files = Files(workspace, 1)
    labels = table.read(files.samples).labels
    up, down = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    for name, each in report["models"].items():
        said = held.read(files.held(name))
        p, of = said.probability["regions", 0], said.fold["regions", 0]
        better = (p[up][:, None] > p[down]) + 0.5 * (p[up][:, None] == p[down])
        wanted = better[of[up][:, None] == of[down]].mean()
        assert each["by_kind"]["regions"]["auc_within_folds"] == pytest.approx(wanted)


def test_of_equals_the_simpler_draws_the_map(
    compared: tuple[Workspace, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(compare.SIMPLEST_FIRST) == sorted(registry.NAMES)
    shutil.copytree(compared[0].root, tmp_path / "copy")
    workspace = Workspace(tmp_path / "copy")
    workspace.__dict__["sites"] = compared[0].sites
    files = Files(workspace, 1)
    same = held.read(files.held("logistic"))
    monkeypatch.setattr(held, "read", lambda path: same)
    settings(workspace, models=("forest", "svr", "logistic"), applicability=False, importance=0)
    (item,) = plan_compare(workspace, 1)
    assert files.figure("importance") not in item.outputs
    facts = compare.run(item, workspace, lambda share, words: None)
    assert facts["map_model"] == "logistic"


def test_folds_and_seeds_are_recorded(compared: tuple[Workspace, dict[str, Any]]) -> None:
    "In words and numbers, the same for all models"
    workspace, report = compared
    samples = table.read(Files(workspace, 1).samples)
    folds = report["folds"]
    assert report["seed"] == 0
    assert folds["random"]["words"] == "5 random folds."
    assert folds["regions"]["words"] == "Each of 2 sites left out once."
    for of in folds.values():
        for repetition in of["repetitions"]:
            tests = [each["test"] for each in repetition["slumps_and_others"]]
            assert np.sum(tests, axis=0).tolist() == [
                int((samples.labels == 1).sum()), int((samples.labels == 0).sum())
            ]  # fmt: skip


def test_what_models_owe_to_factors(compared: tuple[Workspace, dict[str, Any]]) -> None:
    "Slope decides in this world: its loss is the largest in each way of asking"
    workspace, report = compared
    for name, each in report["models"].items():
        fall = {factor: of["fall"] for factor, of in each["importance"].items()}
        assert max(fall, key=lambda factor: fall[factor]) == "slope" and fall["slope"] > 0.2
        assert ("auc_spatial_without" in each) == (name in ("logistic", "forest"))
    known = Applicability.read(Files(workspace, 1).applicability)
    names = table.read(Files(workspace, 1).samples).feature_names
    weights = dict(zip(names, known.weights, strict=True))
    assert max(weights, key=lambda name: weights[name]) == "slope" and weights["slope"] == 1
    assert weights["aspect_sine"] == weights["aspect_cosine"]


def test_the_table_has_a_row_for_each_model_and_the_gap_first(
    compared: tuple[Workspace, dict[str, Any]],
) -> None:
    workspace, report = compared
    rows = list(csv.DictReader(io.StringIO(Files(workspace, 1).table.read_text())))
    assert list(rows[0])[:3] == [
        "model",
        "gap_random_minus_spatial",
        "gap_random_minus_spatial_low",
    ]
    assert [row["model"] for row in rows] == list(NAMES)
    for row in rows:
        each = report["models"][row["model"]]
        assert float(row["auc_test"]) == each["auc_test"]
        assert float(row["kappa_blocked"]) == each["by_kind"]["blocked"]["scores"]["kappa"][0]


def test_figures_are_wide_enough_to_read(compared: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = compared
    for name in ("scores", "roc", "calibration", "importance"):
        with Image.open(Files(workspace, 1).figure(name)) as image:
            assert image.width == 1200 and 300 < image.height < 2000, name
            colours = image.convert("RGB").getcolors(2**24)
            assert colours is not None and len(colours) > 50


def test_two_figures_of_equal_numbers_are_equal() -> None:
    "And other numbers give another figure"
    dice = np.random.default_rng(0)
    labels = (dice.random(60) < 0.5).astype(np.uint8)
    said = {"svr": dice.random(60), "cnn": dice.random(60)}
    one, again = (calibration.reliability(said["svr"], labels) for _ in range(2))
    first = figures.calibration_curves({"svr": one}, "blocked")
    assert first == figures.calibration_curves({"svr": again}, "blocked")
    assert first != figures.calibration_curves({"svr": one}, "blocked", made_up=True)
    areas = {"svr": (0.5, 0.5), "cnn": (0.5, 0.5)}
    lines = figures.roc_curves(labels, said, said, areas, "blocked")
    assert lines != figures.roc_curves(1 - labels, said, said, areas, "blocked")


def test_more_models_than_colours_stay_apart() -> None:
    styles = [str(figures._style(number)) for number in range(len(registry.NAMES))]
    assert len(set(styles)) == len(styles)
    assert set(registry.NAMES) <= set(figures.TITLES)


def test_only_what_changed_is_compared_anew(compared: tuple[Workspace, dict[str, Any]]) -> None:
    "Another bootstrap does not fit any model again; more trees fit the forest alone"
    workspace, _ = compared
    settings(workspace, models=NAMES)
    before = {item.name: item.settings for item in plan_fit(workspace, 1)}
    settings(workspace, models=NAMES, resamples=500, map_model="svr", applicability=False)
    assert {item.name: item.settings for item in plan_fit(workspace, 1)} == before
    settings(workspace, models=NAMES, trees=3)
    after = {item.name: item.settings for item in plan_fit(workspace, 1)}
    assert [name for name in NAMES if after[name] != before[name]] == ["forest"]


def test_what_selection_dropped_inside_the_folds_is_told(tmp_path: Path) -> None:
    "A copy of a factor goes in every fold; the coefficients of what stays are there to read"
    workspace = world(tmp_path)
    settings(workspace, models=("logistic", "svr"), vif=10.0)
    for step in ("susceptibility-samples",):
        run_steps(workspace, until=step)
    files = Files(workspace, 1)
    samples = table.read(files.samples)
    copied = samples.factors["elevation"] * 2 + 1
    table.write(files.samples, replace(samples, factors={**samples.factors, "copy": copied}))
    others = table.read(files.test_samples)
    factors = {**others.factors, "copy": others.factors["elevation"] * 2 + 1}
    table.write(files.test_samples, replace(others, factors=factors))
    for item in (*plan_fit(workspace, 1), *plan_compare(workspace, 1)):
        target(item.target)(item, workspace, lambda share, words: None)
    report = json.loads(files.comparison.read_text())
    for name in ("logistic", "svr"):
        each = report["models"][name]
        ((gone, folds),) = each["dropped_in_folds"].items()
        assert gone in ("copy", "elevation") and folds == each["folds_fitted"] == 10
        assert [of["rule"] for of in each["dropped"]] == ["vif"]
    slopes = report["models"]["logistic"]["coefficients"]["per_standard_deviation"]
    assert len(slopes) == 5 and max(slopes, key=lambda name: slopes[name]) == "slope"
