"""Bins and the choice of factors inside the fold: conformity, rules, files, and no leak."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils.estimator_checks import check_estimator
from susceptibility_world import run_steps, settings, world

from thawslump.bands import FACTORS_HE2024
from thawslump.errors import DataError
from trainer.susceptibility import registry, selection
from trainer.susceptibility.factor_report import as_text, factor_report
from trainer.susceptibility.files import Files
from trainer.susceptibility.persistence import load_model, save_model
from trainer.susceptibility.preparation import (
    FactorBins,
    FactorSelection,
    codes_of_factor,
    dropped_by,
)
from trainer.susceptibility.selection_figure import selection_page


def ground(seed: int = 0, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Slope decides; TRI says the same less well; aspect as sine and cosine; rock in classes."""
    dice = np.random.default_rng(seed)
    slope = dice.normal(size=count)
    angle = dice.uniform(0, 2 * np.pi, count)
    rock = dice.integers(0, 3, count)
    y = (dice.random(count) < 1 / (1 + np.exp(-2 * slope))).astype(np.uint8)
    tri = slope + 0.2 * dice.normal(size=count)
    columns = [slope, tri, np.sin(angle), np.cos(angle), *(rock == k for k in range(3))]
    return np.column_stack(columns).astype(np.float32), y


FACTORS = ("slope", "TRI", "aspect", "aspect", "lithology", "lithology", "lithology")
CLASSES = (4, 5, 6)


@pytest.mark.parametrize(
    "transformer",
    [FactorBins(), FactorSelection(), FactorSelection(vif=5, pearson=0.7)],
    ids=["bins", "selection", "both rules"],
)
def test_transformers_are_those_of_scikit_learn(transformer: Any) -> None:
    found = check_estimator(transformer, on_fail=None, on_skip=None)
    assert [c["check_name"] for c in found if c["status"] == "failed"] == []
    assert sum(c["status"] == "passed" for c in found) > 30


def test_bins_are_those_of_chimerge_and_classes_pass() -> None:
    x, y = ground()
    bins = FactorBins(6, 0.1, CLASSES).fit(x, y)
    said = bins.transform(x)
    for column in range(4):
        cuts = selection.chimerge(x[:, column], y, 6, 0.1, floor=selection.FLOOR)
        np.testing.assert_array_equal(bins.cuts_[column], cuts)
        np.testing.assert_array_equal(said[:, column], selection.discretise(x[:, column], cuts))
    np.testing.assert_array_equal(said[:, 4:], x[:, 4:])
    # What lies beyond all that was learned from belongs to the outermost intervals.
    beyond = bins.transform(np.array([[-99.0] * 7, [99.0] * 7]))
    assert beyond[0, 0] == 0 and beyond[1, 0] == len(bins.cuts_[0])
    named = bins.get_feature_names_out([f"c{k}" for k in range(7)])
    assert named.tolist() == [f"c{k}" for k in range(7)]
    with pytest.raises(DataError, match=r"Columns of classes \[9\] were named, of 7 columns"):
        FactorBins(classes=(9,)).fit(x, y)


def test_the_less_informative_of_two_goes_and_says_why() -> None:
    x, y = ground()
    chosen = FactorSelection(FACTORS, CLASSES, vif=None, pearson=0.7).fit(x, y)
    (gone,) = chosen.dropped_
    r = abs(np.corrcoef(x[:, 0], x[:, 1])[0, 1])
    assert gone["factor"] == "TRI" and gone["rule"] == "pearson" and gone["limit"] == 0.7
    assert gone["because_of"] == ["slope"] and gone["value"] == pytest.approx(r, rel=1e-5)
    assert chosen.gain_ratio_["slope"] > chosen.gain_ratio_["TRI"]
    assert chosen.kept_.tolist() == [0, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(chosen.transform(x), x[:, chosen.kept_])
    assert chosen.get_feature_names_out([*"abcdefg"]).tolist() == [*"acdefg"]
    # Worth decides, not the order: told of other labels, the other one goes.
    other = (x[:, 1] > 0).astype(int)
    again = clone(chosen).fit(x, other)
    assert [each["factor"] for each in again.dropped_] == ["slope"]
    assert not hasattr(clone(chosen), "dropped_")


def test_a_factor_goes_with_all_its_columns() -> None:
    x, y = ground()
    east = x[:, 2:3] * 2 + 1  # repeats the sine of aspect, and tells nothing
    x = np.column_stack([x, east])
    y = (x[:, 2] > 0).astype(int)
    chosen = FactorSelection((*FACTORS, "east"), CLASSES, vif=10).fit(x, y)
    assert {each["factor"] for each in chosen.dropped_} == {"TRI", "east"}
    # Worth less than what it repeats, aspect goes with sine and cosine.
    north = np.column_stack([x[:, :2], x[:, 3] * 3, x[:, 2:7]])
    order = ("slope", "TRI", "north", "aspect", "aspect", *FACTORS[4:])
    noisy = np.where(np.random.default_rng(1).random(len(x)) < 0.02, 1 - y, y)
    chosen = FactorSelection(order, (5, 6, 7), vif=10).fit(north, noisy)
    gone = next(each for each in chosen.dropped_ if each["value"] is None)
    assert {gone["factor"], *gone["because_of"]} == {"aspect", "north"}
    if gone["factor"] == "aspect":
        assert not {3, 4} & set(chosen.kept_.tolist())


def test_nothing_is_dropped_where_nothing_is_collinear() -> None:
    "The usual limits change no prediction; classes that add up to one are no collinearity."
    x, y = ground(3)
    x[::17, 0] = np.nan
    x = np.delete(x, 1, axis=1)
    factors, classes = (FACTORS[0], *FACTORS[2:]), (3, 4, 5)
    for name in ("logistic", "forest", "svr"):
        options: dict[str, Any] = {"classes": classes, "trees": 10}
        plain = registry.build(name, **options).fit(x, y)
        chosen = registry.build(name, factors=factors, vif=10.0, **options).fit(x, y)
        assert list(chosen.named_steps) == ["fill", "scale", "select", "model"]
        assert dropped_by(chosen) == [] and chosen.named_steps["select"].gain_ratio_ == {}
        np.testing.assert_array_equal(plain.predict_proba(x), chosen.predict_proba(x))


def test_constants_go_and_without_any_other_that_is_said() -> None:
    x, y = ground()
    x = np.column_stack([x, np.full(len(x), 7.0)])
    x[:, 6] = 0  # a class that this fold does not have
    chosen = FactorSelection((*FACTORS, "flat"), CLASSES).fit(x, y)
    assert chosen.dropped_[0] == {
        "factor": "flat", "rule": "constant", "value": None, "limit": None, "because_of": [],
    }  # fmt: skip
    # Its factor stays, and keeps its column for the map.
    assert 6 in chosen.kept_
    with pytest.raises(DataError, match="None of 2 factors varies in 9 samples: a, b"):
        FactorSelection(("a", "b")).fit(np.ones((9, 2)), [0, 1] * 4 + [0])
    with pytest.raises(DataError, match="factors of 2 columns were named, of 8 columns"):
        FactorSelection(("a", "b")).fit(x, y)
    with pytest.raises(DataError, match="4 samples cannot tell 7 factors apart"):
        FactorSelection(FACTORS, CLASSES).fit(np.random.default_rng(0).normal(size=(4, 7)), y[:4])


def test_each_fold_chooses_on_its_own() -> None:
    "A factor that is collinear in one half only is dropped where it is, by what that half holds."
    x, y = ground(5, 600)
    x = x[:, :4]
    half = np.arange(600) % 2
    x[half == 1, 1] = np.random.default_rng(6).normal(size=300)
    model = registry.build("logistic", factors=FACTORS[:4], pearson=0.7)
    for kind, gone in ((0, ["TRI"]), (1, [])):
        fitted = clone(model).fit(x[half == kind], y[half == kind])
        assert [each["factor"] for each in dropped_by(fitted)] == gone
    # Through scikit-learn's own machinery, and for its searches.
    said = cross_val_predict(model, x, y, cv=3, method="predict_proba")
    assert said.shape == (600, 2) and np.isfinite(said).all()
    search = GridSearchCV(model, {"select__pearson": [0.5, 0.99]}, cv=2).fit(x, y)
    assert search.best_params_["select__pearson"] in (0.5, 0.99)


@pytest.mark.parametrize("name", ["logistic", "forest", "boosting", "bagging", "stacking"])
def test_models_that_chose_are_read_back_from_files(name: str, tmp_path: Path) -> None:
    "Saved without pickles, with equal bytes, what was dropped, and the same answers"
    x, y = ground(9, 200)
    model = registry.build(
        name, trees=5, factors=FACTORS, classes=CLASSES, vif=10.0, pearson=0.7, chimerge=True,
        bases=("logistic", "forest_small"), upper="logistic", folds=3,
    ).fit(x, y)  # fmt: skip
    save_model(tmp_path / "one.zip", model, ["a"] * 7)
    save_model(tmp_path / "two.zip", model, ["a"] * 7)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    read, _ = load_model(tmp_path / "one.zip")
    np.testing.assert_array_equal(read.predict_proba(x), model.predict_proba(x))
    told = dropped_by(read)
    assert told == dropped_by(model)
    assert {"TRI", "slope"} & {each["factor"] for each in told}
    assert json.loads(json.dumps(told)) == told
    if name == "stacking":
        assert {each["part"] for each in told} == {"logistic", "forest_small"}


def test_intervals_instead_of_numbers_serve_a_linear_model() -> None:
    "Slumps at middle slopes: a line through the numbers cannot say so, one through gains can."
    dice = np.random.default_rng(10)
    slope = dice.uniform(0, 40, 800)
    y = (dice.random(800) < np.where((slope > 12) & (slope < 25), 0.9, 0.1)).astype(int)
    x = np.column_stack([slope, dice.normal(size=800)])
    built = registry.build("forest_small", chimerge=True, chimerge_alpha=1e-8).fit(x, y)
    assert list(built.named_steps) == ["fill", "bins", "scale", "select", "model"]
    np.testing.assert_allclose(built.named_steps["bins"].cuts_[0], [12, 25], atol=1.0)
    assert built.score(x, y) > 0.85
    # Noise has but one interval, so it is constant, and goes.
    assert [each["factor"] for each in dropped_by(built)] == ["x1"]


def test_codes_of_a_factor() -> None:
    rock = np.array([[1, 0, 0], [0, 0.4, 0.6], [0, 0, 0]])
    assert codes_of_factor(rock, [0, 1, 1], classes=True)[0].tolist() == [0, 2, -1]
    x, y = ground()
    assert len(codes_of_factor(x[:, 2:4], y, classes=False)) == 2
    assert codes_of_factor(x[:, :1], np.zeros(len(x)), classes=False)[0].max() == 0


def factors14(count: int = 600) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """Made-up samples of the 14 factors of He et al. 2024, LST following elevation."""
    dice = np.random.default_rng(11)
    made = {name: dice.normal(size=count).astype(np.float32) for name in FACTORS_HE2024}
    classes = {"lithology": (1, 2, 3), "permafrost": (1, 2), "landcover": (10, 20, 30, 40)}
    for name, kinds in classes.items():
        made[name] = dice.choice(kinds, count).astype(np.float32)
    made["aspect"] = dice.uniform(0, 360, count).astype(np.float32)
    made["slope"] = np.abs(made["slope"]) * 10
    made["LST"] = -made["elevation"] + np.float32(0.05) * made["LST"]
    made["NDVI"][:60] = np.nan
    y = (dice.random(count) < np.where(made["slope"] > 8, 0.9, 0.2)).astype(np.uint8)
    return made, y, classes


def test_flat_ground_faces_nowhere() -> None:
    "Class flat of He et al. 2024: aspect where slope is 0 says nothing, as in the models"
    made, y, _ = factors14()
    made = {"slope": made["slope"], "aspect": made["aspect"]}
    made["slope"][:50] = 0
    first, *others = factor_report(made, y)["factors"][1]["intervals"]
    assert first["sector"] == "flat" and first["samples"] == 50
    assert len(others) == 8 and sum(each["samples"] for each in others) == y.size - 50


def test_report_tells_inflation_worth_and_what_would_go() -> None:
    made, y, classes = factors14()
    made["flat"] = np.full(y.size, 3.0, np.float32)
    made["feet"] = made["slope"] * np.float32(3.28084)
    report = factor_report(made, y, classes, alpha=1e-5)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    rows = {row["name"]: row for row in report["factors"]}
    assert list(rows) == list(made)
    assert rows["LST"]["vif"] > 100 and rows["LST"]["tolerance"] == 1 / rows["LST"]["vif"]
    assert rows["LST"]["most_like"]["name"] == "elevation"
    assert rows["lithology"]["df"] == 2 and rows["landcover"]["df"] == 3
    assert rows["aspect"]["df"] == 2 and rows["aspect"]["vif"] < 1.1
    assert rows["lithology"]["gvif"] == pytest.approx(rows["lithology"]["vif"] ** 2)
    assert rows["NDVI"]["missing_share"] == pytest.approx(0.1)
    assert rows["flat"]["constant"] and rows["flat"]["vif"] is None
    assert rows["feet"]["exact_sum"] and rows["feet"]["tolerance"] == 0
    assert report["exact_sums"] == [["slope", "feet"]]
    gone = [each["factor"] for each in report["dropped"]]
    assert gone[:2] == ["flat", "feet"] and gone[2] in ("elevation", "LST") and len(gone) == 3
    ranked = sorted(rows.values(), key=lambda row: row["gain_ratio_rank"])
    assert {ranked[0]["name"], ranked[1]["name"]} == {"slope", "feet"}
    assert [row["gain_ratio"] for row in ranked] == sorted(
        (row["gain_ratio"] for row in ranked), reverse=True
    )
    np.testing.assert_allclose(rows["slope"]["cut_points"], [8.0], atol=0.3)
    below, above = rows["slope"]["intervals"]
    assert below["above"] is None and above["up_to"] is None
    assert below["frequency_ratio"] < 1 < above["frequency_ratio"]
    assert [each["sector"] for each in rows["aspect"]["intervals"]] == [
        "N", "NE", "E", "SE", "S", "SW", "W", "NW",
    ]  # fmt: skip
    north = (made["aspect"] >= 337.5) | (made["aspect"] < 22.5)
    assert rows["aspect"]["intervals"][0]["samples"] == int(north.sum())
    assert rows["aspect"]["intervals"][0]["slumps"] == int(y[north].sum())
    assert [each["class"] for each in rows["landcover"]["intervals"]] == [10, 20, 30, 40]
    for row in rows.values():
        known = np.isfinite(made[row["name"]]).sum()
        assert sum(each["samples"] for each in row["intervals"]) == known
    said = as_text(report)
    assert "feet, an exact sum of slope." in said and "flat, which is the same" in said
    assert len(said.splitlines()) == 1 + len(made) + len(
        {each["factor"] for each in report["dropped"] + report["dropped_at_usual_limits"]}
    )


@pytest.mark.parametrize("count", [4, 14])
def test_page_of_the_factors_is_drawn(count: int) -> None:
    "1,200 wide, higher with more factors, equal bytes; infinite inflation does not end it"

    made, y, classes = factors14()
    made = {name: made[name] for name in list(made)[:count]}
    classes = {name: each for name, each in classes.items() if name in made}
    if count == 4:
        made["up"] = made["elevation"] * 2
    report = factor_report(made, y, classes)
    page = selection_page(report, made_up=True)
    with Image.open(io.BytesIO(page)) as image:
        assert image.width == 1200 and (450 if count == 4 else 800) < image.height < 1100
    if count == 4:
        assert page == selection_page(report, made_up=True) != selection_page(report)


def test_step_reports_and_models_choose(tmp_path: Path) -> None:
    "selection.json and its page; a factor that repeats another is dropped inside the fits"
    from thawslump import raster

    workspace = world(tmp_path)
    for name in ("east", "north", "south", "west"):
        read = raster.read_float(workspace.factors(name))
        array = np.concatenate([read.array, read.array[1:2] * 2 + 1])
        raster.write_cog(
            workspace.factors(name), array, read.grid, (*read.names, "TPI"), nodata=float("nan")
        )
    settings(workspace, factors=("elevation", "slope", "aspect", "NDVI", "TPI"))
    done = run_steps(workspace, "susceptibility-fit")
    files = Files(workspace, 1)
    report = json.loads(files.selection.read_text(encoding="utf-8"))
    assert report["made_up"] is True and files.figure("selection").stat().st_size > 10_000
    (gone,) = report["dropped"]
    # The worth of both is the same to the last digit: the later one goes.
    assert gone["factor"] == "TPI" and gone["because_of"] == ["slope"] and gone["value"] is None
    facts = {item.step: facts for item, facts in done}
    assert facts["susceptibility-select"]["dropped"] == "TPI"
    for name in ("logistic", "forest"):
        model, features = load_model(files.model(name))
        assert features[-1] == "TPI"
        assert [each["factor"] for each in dropped_by(model)] == ["TPI"]
        assert model.named_steps["model"].n_features_in_ == 5
