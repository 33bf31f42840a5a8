"""Members, weights, calibration and threshold: chosen on one part, fitted on the other."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special
from segmentation_world import a_run, a_stack, a_workspace, edit, grid_at
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, f1_score

from thawslump.errors import DataError
from thawslump.raster import write_cog
from thawslump.workspace import Workspace
from trainer import metrics
from trainer.segmentation import calibration, ensemble, predict
from trainer.segmentation.selection import (
    CALIBRATION,
    CHOOSING,
    best_f1,
    greedy,
    halves,
    running_means,
)
from trainer.steps import plan_ensemble, plan_predict

ROOT = Path(__file__).resolve().parents[1]


def quiet(fraction: float, words: str = "") -> None:
    assert 0 <= fraction <= 1


# Members ------------------------------------------------------------------------------------------


def pixels(seed: int, runs: int, size: int = 400) -> tuple[list[np.ndarray], np.ndarray]:
    """Runs that err each in its own way, some of them without data at some pixels."""
    random = np.random.default_rng(seed)
    labels = (random.random(size) < 0.3).astype("uint8")
    said = []
    for number in range(runs):
        odds = 1.5 * (2.0 * labels - 1) + random.normal(0, 1 + number / 2, size)
        p = special.expit(odds)
        if number % 2:
            p[random.random(size) < 0.1] = np.nan
        said.append(p)
    return said, labels


def mean_of(said: list[np.ndarray]) -> np.ndarray:
    """Mean of what is there, NaN where nothing is."""
    return np.ma.masked_invalid(np.array(said)).mean(axis=0).filled(np.nan)


def test_every_size_is_the_mean_of_so_many() -> None:
    said, _ = pixels(0, 7)
    for number, mean in enumerate(running_means(said), start=1):
        np.testing.assert_allclose(mean, np.nanmean(said[:number], axis=0), rtol=1e-12)


def test_every_run_is_added_once_whatever_the_number_of_sizes() -> None:
    asked = []

    class Runs(list):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            for number in range(90):
                asked.append(number)
                yield self[number % len(self)]

    said, _ = pixels(0, 3)
    assert len(list(running_means(Runs(said)))) == 90
    assert asked == list(range(90))


def test_the_best_threshold_agrees_with_another_library() -> None:
    said, labels = pixels(1, 1)
    whole = np.round(said[0], 4)
    thresholds = np.unique(whole)
    expected = max(f1_score(labels, whole >= t) for t in thresholds)
    assert best_f1(whole, labels) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_greedy_draws_are_the_best_that_one_more_can_be(seed: int, draws: int) -> None:
    """Each draw against all runs by hand, with means from scratch."""
    said, labels = pixels(seed, 4, 120)
    picks, scores = greedy(said, labels, draws)
    assert len(scores) == draws
    assert len(picks) == int(np.argmax(scores)) + 1
    drawn: list[int] = []
    for number in range(draws):
        by_hand = [
            best_f1(mean_of([said[i] for i in [*drawn, other]]), labels) for other in range(4)
        ]
        assert scores[number] == pytest.approx(max(by_hand), abs=1e-12)
        if number < len(picks):
            assert picks[number] == int(np.argmax(by_hand))
        drawn.append(int(np.argmax(by_hand)))


def test_greedy_finds_the_best_weights_where_it_can() -> None:
    """Of two runs that err apart and one that is noise: both, and none of the noise."""
    random = np.random.default_rng(0)
    labels = (random.random(2000) < 0.3).astype("uint8")
    half = random.random(2000) < 0.5
    sharp = special.expit(3.0 * (2.0 * labels - 1) + random.normal(size=2000))
    said = [
        np.where(half, sharp, 0.5),
        np.where(half, 0.5, sharp),
        random.random(2000),
    ]
    picks, scores = greedy(said, labels, 6)
    assert {0, 1} <= set(picks)
    assert scores[len(picks) - 1] == max(scores) > best_f1(said[0], labels) + 0.05
    every = max(
        best_f1(np.mean([said[i] for i in chosen], axis=0), labels)
        for n in (1, 2, 3)
        for chosen in itertools.combinations_with_replacement(range(3), n)
    )
    assert max(scores) >= every - 0.01


# Parts --------------------------------------------------------------------------------------------


def slumps(seed: int, shape: tuple[int, int] = (400, 500), count: int = 25) -> np.ndarray:
    random = np.random.default_rng(seed)
    marks = np.zeros(shape, "uint8")
    for _ in range(count):
        row, column = random.integers(0, shape[0] - 30), random.integers(0, shape[1] - 30)
        marks[row : row + random.integers(5, 30), column : column + random.integers(5, 30)] = 1
    marks[:20, :50] = 255
    return marks


@given(st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_no_slump_is_in_both_parts_and_both_hold_enough(seed: int) -> None:
    sites = [slumps(seed), slumps(seed + 1, (200, 150), 4)]
    found = halves(sites)
    assert found is not None
    held = np.zeros(2)
    for marks, codes in zip(sites, found, strict=True):
        numbers, count = ndimage.label(marks == 1, np.ones((3, 3)))
        for number in range(1, count + 1):
            assert len(set(codes[numbers == number]) - {255}) <= 1
        # No pixel of one part beside one of the other.
        near = ndimage.binary_dilation(codes == CALIBRATION, np.ones((3, 3)), iterations=4)
        assert not (near & (codes == CHOOSING)).any()
        held += [((codes == part) & (marks == 1)).sum() for part in (CHOOSING, CALIBRATION)]
    assert held.min() > 0.25 * held.sum()


def test_ground_with_too_few_slumps_has_no_parts() -> None:
    marks = np.zeros((300, 300), "uint8")
    marks[10:20, 10:20] = marks[200:210, 200:210] = 1
    assert halves([marks]) is None
    assert halves([np.zeros((40, 40), "uint8")]) is None


# Calibration --------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 3.5])
def test_the_temperature_is_found_again(true: float) -> None:
    """Labels drawn from known odds; and against logistic regression without an offset."""
    random = np.random.default_rng(0)
    odds = random.normal(-1, 2, 40_000)
    labels = (random.random(40_000) < special.expit(odds / true)).astype("uint8")
    said = special.expit(odds)
    found = calibration.fit_temperature(said, labels)
    assert found == pytest.approx(true, rel=0.05)
    peer = LogisticRegression(C=np.inf, fit_intercept=False).fit(odds[:, None], labels)
    assert found == pytest.approx(1 / peer.coef_[0, 0], rel=1e-3)
    met = calibration.reliability(calibration.calibrated(said, found), labels)
    before = calibration.reliability(said, labels)
    assert met.error < 0.01
    assert met.brier <= before.brier + 1e-6
    assert before.brier == pytest.approx(brier_score_loss(labels, said), abs=1e-12)


def test_a_temperature_changes_no_order_and_no_half() -> None:
    p = np.array([0.0, 1e-9, 0.2, 0.5, 0.8, 1.0, np.nan])
    found = calibration.calibrated(p, 3.0)
    assert (np.diff(found[:-1]) >= 0).all()
    assert found[3] == 0.5 and np.isnan(found[-1])
    np.testing.assert_array_equal(calibration.calibrated(p, 1.0), p)


def test_one_class_teaches_no_temperature() -> None:
    assert calibration.fit_temperature(np.full(5, 0.9), np.ones(5, "uint8")) == 1.0


def test_the_interval_of_the_temperature_grows_with_what_blocks_share() -> None:
    """Pixels that repeat each other are one piece of evidence, not a hundred."""
    random = np.random.default_rng(0)
    odds = random.normal(0, 2, 300)
    labels = (random.random(300) < special.expit(odds / 1.5)).astype("uint8")
    said, marks = np.repeat(special.expit(odds), 100), np.repeat(labels, 100)
    narrow = calibration.temperature_interval(said, marks, np.arange(30_000) % 3000)
    wide = calibration.temperature_interval(said, marks, np.repeat(np.arange(300), 100))
    fitted = calibration.fit_temperature(said, marks)
    assert narrow[0] < fitted < narrow[1] and wide[0] < fitted < wide[1]
    assert wide[1] - wide[0] > 4 * (narrow[1] - narrow[0])
    assert wide == calibration.temperature_interval(said, marks, np.repeat(np.arange(300), 100))


def test_the_reliability_plot_says_both(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = (random.random(500) < 0.3).astype("uint8")
    said = random.random(500)
    found = calibration.reliability(said, labels)
    text = calibration.figure(found, found, "made up: 500 pixels")
    assert text == calibration.figure(found, found, "made up: 500 pixels")
    assert f"ECE {found.error:.4f}" in text and "made up: 500 pixels" in text


# The step -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A validation site whose slumps follow what one of four runs says."""
    root = tmp_path_factory.mktemp("work")
    workspace = a_workspace(root, (192, 256), role="validation", settings="  ensemble_size: 2\n")
    models = workspace.models(1)
    for seed in (2, 3):
        a_run(models, f"run{seed}", seed)
    shutil.rmtree(models / "ensemble")
    names = [f"run{seed}" for seed in range(4)]
    bands, members = ensemble.load_members(models / "ensemble" / "item.json", names)
    from trainer.chips import read_bands

    array = read_bands(workspace.stack("site"), bands)
    first = predict.predict_array([members[2]], array).probability
    smooth = ndimage.gaussian_filter(np.nan_to_num(first, nan=0.5), 4)
    marks = (smooth > np.quantile(smooth, 0.9)).astype("uint8")
    marks[:10, :30] = 255
    write_cog(
        workspace.labels(1, "site"), marks[None], grid_at(marks.shape), ["label"], nodata=255,
        categorical=True,
    )  # fmt: skip
    return root


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(made, tmp_path / "w")
    return Workspace(tmp_path / "w")


def planned(workspace: Workspace, **changes: object):  # type: ignore[no-untyped-def]
    """The item of the step, with the four runs of the world."""
    from dataclasses import replace

    (item,) = plan_ensemble(workspace, 1)
    names = [f"run{seed}" for seed in range(4)]
    models = workspace.models(1)
    inputs = list(item.inputs[:2]) + [
        models / name / file
        for name in names
        for file in ("model.safetensors", "item.json", "metrics.json")
    ]
    settings_ = {**item.settings, "runs": names, **changes}
    return replace(item, settings=settings_, inputs=tuple(inputs))


def record(workspace: Workspace) -> dict:  # type: ignore[type-arg]
    return json.loads((workspace.models(1) / "ensemble" / "metrics.json").read_text())


@pytest.mark.parametrize("kind", ["best", "greedy"])
def test_what_the_step_chooses_is_what_the_map_uses(work: Workspace, kind: str) -> None:
    """Members, weights, temperature and threshold of the item give the scores of the record."""
    item = planned(work, ensemble=kind)
    facts = ensemble.run(item, work, quiet)
    found = record(work)
    folder = work.models(1) / "ensemble"
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in item.outputs)
    stac = json.loads((folder / "item.json").read_text())
    pystac.Item.from_dict(stac)
    assert stac["properties"]["thawslump:temperature"] == found["calibration"]["temperature"]
    assert stac["properties"]["thawslump:threshold"] == found["threshold"] == facts["threshold"]
    weights = stac["properties"]["thawslump:weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert {m["run"]: m["weight"] for m in found["members"]} == weights
    assert not found["parts"]["same"]
    assert "in which no member was chosen" in found["parts"]["words"]
    assert "reliability.svg" in (folder / "README.md").read_text()
    assert (folder / "reliability.svg").read_text().startswith("<svg")
    assert "made up" in (folder / "reliability.svg").read_text()

    (maps,) = plan_predict(work, 1)
    predict.run(maps, work, quiet)
    from thawslump.raster import read, read_float

    probability = read_float(work.map(1, "site"), ["probability"]).array[0]
    marks = read(work.labels(1, "site")).array[0]
    counts = metrics.counts_at(metrics.histogram(probability, marks), found["threshold"])
    # The map is made with other windows than the scores of the step.
    assert metrics.scores(counts).f1 == pytest.approx(found["validation"]["f1"], abs=0.03)

    before = {path: path.read_bytes() for path in item.outputs}
    ensemble.run(item, work, quiet)
    assert {path: path.read_bytes() for path in item.outputs} == before


def test_the_best_are_those_of_the_part_that_chooses(work: Workspace) -> None:
    ensemble.run(planned(work, calibration="none"), work, quiet)
    found = record(work)
    ranking = [row["f1_choosing"] for row in found["runs"]]
    assert ranking == sorted(ranking, reverse=True)
    # Against predictions of each run by itself, scored by another library.
    from trainer.chips import read_tile

    models = work.models(1)
    names = [row["run"] for row in found["runs"]]
    bands, members = ensemble.load_members(models / "ensemble" / "item.json", names)
    tile = read_tile(work.stack("site"), work.labels(1, "site"), bands, name="site")
    (codes,) = halves([tile.labels])  # type: ignore[misc]
    for row, member in zip(found["runs"], members, strict=True):
        p = predict.predict_array([member], tile.array).probability
        on = (codes == CHOOSING) & (tile.labels <= 1) & np.isfinite(p)
        expected = f1_score(tile.labels[on], np.rint(p[on] * 1e4) >= 5000)
        assert row["f1_choosing"] == pytest.approx(expected, abs=1e-12)
    assert [m["run"] for m in found["members"]] == [row["run"] for row in found["runs"][:2]]
    assert [row["size"] for row in found["sizes"]] == [1, 2, 3, 4]
    assert found["calibration"]["temperature"] == 1.0
    assert found["calibration"]["words"].startswith("No calibration was asked for")
    parts = found["parts"]
    assert parts["choosing"]["slump_pixels"] > 0 < parts["calibration"]["slump_pixels"]


def test_a_site_too_small_for_two_parts_says_so(work: Workspace) -> None:
    marks = np.zeros((192, 256), "uint8")
    marks[100:120, 100:130] = 1
    write_cog(
        work.labels(1, "site"), marks[None], grid_at(marks.shape), ["label"], nodata=255,
        categorical=True,
    )  # fmt: skip
    ensemble.run(planned(work), work, quiet)
    found = record(work)
    assert found["parts"]["same"]
    assert found["sizes"][0]["f1_apart"] is None
    assert "choosing" not in found["calibration"]
    card = (work.models(1) / "ensemble" / "README.md").read_text()
    assert "too few slumps for two parts" in card and "flatters" in card


KILLED = """
import os, signal, sys
from pathlib import Path
from test_trainer_ensemble import planned
from thawslump.workspace import Workspace
from trainer.segmentation import ensemble

def progress(fraction, words=""):
    if words.startswith("3 of 4"):
        os.kill(os.getpid(), signal.SIGKILL)

workspace = Workspace(Path(sys.argv[1]))
ensemble.run(planned(workspace), workspace, progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")
def test_a_killed_step_does_not_ask_its_runs_again(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(work.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    asked = []
    plain = ensemble.predict_array

    def counted(members, *rest, **how):  # type: ignore[no-untyped-def]
        asked.append(members[0].name)
        return plain(members, *rest, **how)

    monkeypatch.setattr(ensemble, "predict_array", counted)
    item = planned(work)
    ensemble.run(item, work, quiet)
    assert len(asked) == 2
    continued = {path.name: path.read_bytes() for path in item.outputs}
    for path in item.outputs:
        path.unlink()
    ensemble.run(item, work, quiet)
    assert len(asked) == 6
    assert {path.name: path.read_bytes() for path in item.outputs} == continued


def test_what_comes_after_training_retrains_nothing(work: Workspace) -> None:
    """And what changes a map draws it again."""
    from thawslump.pipeline import key_of
    from trainer.config import SegmentationConfig
    from trainer.steps import AFTER_TRAINING, plan_train

    path = work.root / "thawslump.yaml"
    plain = path.read_text()
    ensemble.run(planned(work), work, quiet)
    (work.root / "sites" / "train.yaml").write_text(
        (work.root / "sites" / "site.yaml").read_text().replace("validation", "train")
        .replace("name: site", "name: train")
    )  # fmt: skip

    def keys(text: str) -> tuple[list[str], list[str], list[str]]:
        path.write_text(text)
        place = Workspace(work.root)
        plans = plan_train(place, 1), plan_ensemble(place, 1), plan_predict(place, 1)
        return tuple([key_of(item, {}) for item in items] for items in plans)  # type: ignore[return-value]

    assert set(AFTER_TRAINING) < set(SegmentationConfig.model_fields)
    before = keys(plain)
    changes = {
        "  ensemble: greedy\n": (True, False),
        "  calibration: none\n": (True, False),
        "  tta: d4\n": (True, True),
        "  prediction_batch: 4\n": (False, True),
    }
    for line, (chosen_again, drawn_again) in changes.items():
        after = keys(plain + line)
        assert after[0] == before[0], line
        assert (after[1] != before[1], after[2] != before[2]) == (chosen_again, drawn_again), line


# Bad input ----------------------------------------------------------------------------------------


def test_a_run_without_a_score_is_refused(work: Workspace) -> None:
    edit(work.models(1) / "run3" / "metrics.json", lambda c: c["validation"].pop("f1"))
    with pytest.raises(DataError, match="run3 has no F1 on validation; it failed"):
        ensemble.run(planned(work), work, quiet)


def test_a_validation_site_of_another_resolution_is_refused(work: Workspace) -> None:
    a_stack(work.stack("site"), (192, 256), size=30.0)
    with pytest.raises(DataError, match="are 30 m wide; the models learned from pixels of 10 m"):
        ensemble.run(planned(work), work, quiet)


def test_runs_of_different_resolutions_cannot_vote_together(work: Workspace) -> None:
    def change(item: dict) -> None:  # type: ignore[type-arg]
        item["properties"]["thawslump:resolution"] = 9.5

    edit(work.models(1) / "run2" / "item.json", change)
    with pytest.raises(DataError, match=r"run2 learned from pixels of 9\.5 m"):
        ensemble.run(planned(work, size=4), work, quiet)


def test_sites_of_different_resolutions_are_not_trained_together() -> None:
    from trainer.segmentation.checks import refuse_resolutions

    refuse_resolutions({"a": 10.0, "b": 10.0})
    with pytest.raises(DataError, match=r"pixels of a are 10 m wide, those of b 12\.5 m"):
        refuse_resolutions({"a": 10.0, "b": 12.5})
