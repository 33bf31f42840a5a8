"""Training, ensembles and maps end to end on tiny made-up tiles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.mlm import MLMExtension
from safetensors.torch import load_file

from thawslump.errors import ConfigError, DataError
from thawslump.pipeline import Item, key_of
from thawslump.raster import write_cog
from thawslump.workspace import Workspace
from trainer import metrics
from trainer.chips import Chips, Tile, fit_scaling
from trainer.config import RunConfig, SegmentationConfig
from trainer.segmentation import ensemble, predict, train
from trainer.segmentation.checkpoint import load_state, save_state
from trainer.segmentation.models import build
from trainer.steps import plan_ensemble, plan_predict, plan_train

ROOT = Path(__file__).resolve().parents[1]
BANDS = ("dVH", "slope", "dNDVI")
ENCODER = "tu-mobilenetv3_small_050"


def made_up(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Bands in which slumps stand out from noise, and the labels."""
    random = np.random.default_rng(seed)
    labels = np.zeros((side, side), dtype="uint8")
    for row, column in random.integers(4, side - 12, (5, 2)):
        labels[row : row + 8, column : column + 8] = 1
    array = random.normal(size=(3, side, side)).astype("float32") * 0.5
    array[0] -= 2 * labels
    array[2] -= 1.5 * labels
    array[:, :2, :3] = np.nan
    array[1, 10:14] = np.nan
    return array, labels


def recipe(**changes: Any) -> train.Recipe:
    settings: dict[str, Any] = {
        "architecture": "fpn",
        "encoder": ENCODER,
        "depth": None,
        "loss": "dice",
        "learning_rate": 3e-3,
        "seed": 0,
        "batch": 2,
        "iterations": 3,
        "epochs": 4,
        "patience": 50,
        "schedule": "cosine",
        "weight_decay": 0.01,
        "flips": True,
        "jitter": 0.1,
        "background_share": 0.0,
        "rejected_share": 0.2,
    }
    return train.Recipe(**{**settings, **changes})


def material(crop: int = 32) -> tuple[Chips, list[Tile], Any]:
    tiles = [Tile(f"t{i}", *made_up(i)) for i in range(2)]
    scaling = fit_scaling([tile.array for tile in tiles], BANDS)
    return Chips(tiles, scaling, crop), [Tile("v", *made_up(7))], scaling


class Stop(Exception):
    """Stands for a process that was killed."""


def fitted(state: Path | None = None, stop: int | None = None, **changes: Any) -> train.Fitted:
    chips, validation, scaling = material()

    def progress(fraction: float, words: str) -> None:
        # "epoch 3 of 4" is said in the middle of an epoch, after the state of the last was kept.
        if stop is not None and words.startswith(f"epoch {stop} of"):
            raise Stop

    with train.reproducible(0, 1):
        return train.fit(
            chips,
            validation,
            scaling,
            recipe(**changes),
            state=state,
            fingerprint="a",
            progress=progress,
        )


def assert_equal_bits(first: train.Fitted, second: train.Fitted) -> None:
    assert first.history == second.history
    assert first.epoch == second.epoch
    assert first.weights.keys() == second.weights.keys()
    for name, value in first.weights.items():
        assert torch.equal(value, second.weights[name]), name


@pytest.mark.parametrize("loss", ["dice", "lovasz"])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, loss: str) -> None:
    """Stopped twice, within the second and the fourth epoch; dropout is part of the state."""
    whole = fitted(loss=loss)
    state = tmp_path / "state.safetensors"
    for stop in (2, 4):
        with pytest.raises(Stop):
            fitted(state, stop, loss=loss)
    assert load_state(state, "a") is not None
    torch.manual_seed(12345)
    assert_equal_bits(whole, fitted(state, loss=loss))


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not() -> None:
    first = fitted(epochs=1)
    assert_equal_bits(first, fitted(epochs=1))
    other = fitted(epochs=1, seed=1)
    assert first.history != other.history


def test_a_state_of_another_run_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    assert load_state(path, "a") is None
    save_state(path, {"x": torch.ones(2)}, {"fingerprint": "a"})
    assert load_state(path, "b") is None
    found = load_state(path, "a")
    assert found is not None
    assert found[0]["x"].tolist() == [1, 1]
    path.write_bytes(path.read_bytes()[:-3])
    assert load_state(path, "a") is None


def test_loss_that_is_no_number_is_a_failed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "loss_function", lambda name: lambda a, b: a.sum() * float("nan"))
    with pytest.raises(train.Diverged, match=r"became nan in epoch 1, iteration 1.*no score"):
        fitted()


def test_output_that_is_no_number_is_a_failed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * self.weight * (1.0 if self.training else float("nan"))

    monkeypatch.setattr(train, "build", lambda *names: Broken())
    with pytest.raises(train.Diverged, match="output is not finite in epoch 1"):
        fitted()


def test_validation_without_slumps_gives_no_score() -> None:
    chips, validation, scaling = material()
    bare = [Tile("v", validation[0].array, validation[0].labels * 0)]
    with pytest.raises(DataError, match="no F1 can be computed \\(v\\)"):
        train.fit(chips, bare, scaling, recipe())


def test_training_stops_without_a_better_epoch_and_keeps_the_best() -> None:
    found = fitted(epochs=12, patience=2, schedule="constant", learning_rate=1e-2, iterations=2)
    scores = [row["f1"] for row in found.history]
    assert found.epoch == int(np.argmax(scores)) + 1
    assert len(scores) == 12 or len(scores) - found.epoch == 2


def test_kept_weights_are_those_that_were_scored() -> None:
    found = fitted()
    _, validation, scaling = material()
    with train.reproducible(0, 1):
        model = build("fpn", ENCODER, 3)
        model.load_state_dict(found.weights)
        model.eval()
        counts, _ = train.validate(model, scaling, validation)
    score = metrics.scores(metrics.counts_at(counts, 0.5)).f1
    assert score == found.history[found.epoch - 1]["f1"]


@pytest.mark.parametrize("depth", [3, 4, None])
@pytest.mark.parametrize(
    "architecture",
    [
        "unet",
        "unetplusplus",
        "manet",
        "linknet",
        "fpn",
        "pspnet",
        "pan",
        "deeplabv3",
        "deeplabv3plus",
    ],
)
def test_every_architecture_trains_deterministically(architecture: str, depth: int | None) -> None:
    """One step forward and back with deterministic algorithms only."""
    with train.reproducible(3, 1):
        model = build(architecture, "mobilenet_v2", 2, depth)
        out = model(torch.randn(2, 2, 128, 160))
        assert out.shape == (2, 1, 128, 160)
        out.sum().backward()


def test_an_unknown_encoder_is_said_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'no encoder .resnet19.*Did you mean "resnet1'):
        build("unet", "resnet19", 2)


# The steps, on files -----------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A made-up workspace with a training, a validation and a test site and two tiny runs."""
    root = tmp_path / "work"
    (root / "sites").mkdir(parents=True)
    (root / "thawslump.yaml").write_text(
        "segmentation:\n"
        "  runs:\n"
        f"  - {{architecture: fpn, encoder: {ENCODER}, loss: dice, learning_rate: 0.003}}\n"
        f"  - {{architecture: linknet, encoder: {ENCODER}, loss: bce, bands: S2, seed: 1}}\n"
        "  crop: 32\n  batch: 2\n  iterations: 4\n  epochs: 2\n  window: 128\n  overlap: 32\n"
    )
    for number, role in enumerate(("train", "validation", "test")):
        west = 129 + number * 0.1
        (root / "sites" / f"{role}.yaml").write_text(
            f"name: {role}\nrole: {role}\nbounds: [{west}, 71.8, {west + 0.02}, 71.81]\n"
            "pre: {start: 2019-06-15, end: 2019-09-01}\n"
            "post: {start: 2023-06-15, end: 2023-09-01}\n"
            "outlines: known.gpkg\nmade_up: true\n"
        )
        place = Workspace(root)
        grid = GeoBox((64, 64), Affine(10, 0, 5e5 + 1e4 * number, 0, -10, 7.9e6), "EPSG:32652")
        array, labels = made_up(number)
        write_cog(place.stack(role), array, grid, BANDS, nodata=float("nan"))
        write_cog(
            place.labels(1, role), labels[None], grid, ["label"], nodata=255, categorical=True
        )
    return Workspace(root)


def quiet(fraction: float, words: str = "") -> None:
    assert 0 <= fraction <= 1


def test_train_ensemble_predict_leave_whole_files(workspace: Workspace) -> None:
    """The three steps in order; every file opens in its own library; again gives equal bytes."""
    items = plan_train(workspace, 1)
    assert [item.name for item in items] == [
        f"fpn-{ENCODER}-dice-3e-3-all-s0",
        f"linknet-{ENCODER}-bce-1e-3-S2-s1",
    ]
    facts = [train.run(item, workspace, quiet) for item in items]
    assert all(0 <= fact["f1"] <= 1 for fact in facts)
    before = {path: path.read_bytes() for item in items for path in item.outputs}
    assert {path.name for path in items[0].outputs[0].parent.iterdir()} == {
        "model.safetensors",
        "item.json",
        "README.md",
        "metrics.json",
        "history.json",
    }
    train.run(items[0], workspace, quiet)
    assert all(path.read_bytes() == content for path, content in before.items())

    properties = json.loads((workspace.models(1) / items[1].name / "item.json").read_text())
    entry = properties["properties"]["mlm:input"][0]
    assert entry["bands"] == ["dNDVI"]
    array, _ = made_up(0)
    assert entry["value_scaling"][0]["mean"] == pytest.approx(np.nanmean(array[2]), abs=1e-6)
    record = json.loads((workspace.models(1) / items[0].name / "metrics.json").read_text())
    assert record["bands"] == ["dVH", "slope", "dNDVI"]
    assert 0 < record["filled"]["train"] < 0.1
    assert record["validation"]["f1_interval"]["low"] <= record["validation"]["f1"]

    (one,) = plan_ensemble(workspace, 1)
    ensemble.run(one, workspace, quiet)
    chosen = json.loads((workspace.models(1) / "ensemble" / "metrics.json").read_text())
    assert [row["size"] for row in chosen["sizes"]] == [1, 2]
    assert sum(member["weight"] for member in chosen["members"]) == 1
    assert chosen["members"][0]["f1"] >= chosen["members"][1]["f1"]

    maps = plan_predict(workspace, 1)
    assert [item.name for item in maps] == ["test", "validation"]
    for item in maps:
        predict.run(item, workspace, quiet)
    bytes_before = maps[0].outputs[0].read_bytes()
    predict.run(maps[0], workspace, quiet)
    assert maps[0].outputs[0].read_bytes() == bytes_before
    with rasterio.open(maps[1].outputs[0]) as source:
        probability, disagreement, filled, information = source.read(masked=True) * 1e-4
        assert source.tags()["made_up"] == "yes"
    assert probability.mask[:2, :3].all()
    assert probability.mask.sum() == 6
    assert filled[11, 30] == pytest.approx(1 / 3, abs=1e-4)
    assert disagreement.max() > 0
    assert information.max() > 0

    # The stored map scores as the ensemble said: the same windows, the same threshold.
    with rasterio.open(workspace.labels(1, "validation")) as source:
        labels = source.read(1)
    counts = metrics.counts_at(
        metrics.histogram(np.asarray(probability.filled(np.nan), dtype="float64"), labels),
        chosen["threshold"],
    )
    assert metrics.scores(counts).f1 == pytest.approx(chosen["validation"]["f1"], abs=0.02)


def test_items_are_stac_with_the_machine_learning_extension(workspace: Workspace) -> None:
    items = plan_train(workspace, 1)
    for item in items:
        train.run(item, workspace, quiet)
    (one,) = plan_ensemble(workspace, 1)
    ensemble.run(one, workspace, quiet)
    for path in (items[0].outputs[0].with_name("item.json"), one.outputs[0]):
        stac = pystac.Item.from_dict(json.loads(path.read_text()))
        assert stac.properties["mlm:framework"] == "PyTorch"
        # The extension asks that the names of the inputs are bands of the item.
        named = {band["name"] for band in stac.properties["bands"]}
        assert all(set(entry["bands"]) <= named for entry in stac.properties["mlm:input"])
        assert stac.bbox is not None
        assert -180 <= stac.bbox[0] < stac.bbox[2] <= 180
        assert stac.properties["start_datetime"] == "2019-06-15T00:00:00Z"
        for asset in stac.assets.values():
            assert (path.parent / asset.href).is_file()
        for link in json.loads(path.read_text())["links"]:
            assert (path.parent / link["href"]).is_file()
    assert MLMExtension.get_schema_uri().startswith("https://stac-extensions.github.io/mlm/")
    weights = load_file(items[0].outputs[0])
    count = json.loads(items[0].outputs[1].read_text())["properties"]["mlm:total_parameters"]
    assert 0 < count <= sum(tensor.numel() for tensor in weights.values())


def test_a_run_without_a_score_is_never_a_member(workspace: Workspace) -> None:
    items = plan_train(workspace, 1)
    for item in items:
        train.run(item, workspace, quiet)
    path = items[0].outputs[0].with_name("metrics.json")
    record = json.loads(path.read_text())
    record["validation"]["f1"] = None
    path.write_text(json.dumps(record))
    (one,) = plan_ensemble(workspace, 1)
    with pytest.raises(DataError, match=r"fpn-.* has no F1 on validation; it failed"):
        ensemble.run(one, workspace, quiet)


def test_reviewed_areas_join_the_training_of_the_next_round(workspace: Workspace) -> None:
    root = workspace.root
    (root / "areas").mkdir()
    (root / "areas" / "valley.yaml").write_text(
        "name: valley\nrole: area\nbounds: [129.5, 71.8, 129.52, 71.81]\n"
        "pre: {start: 2019-06-15, end: 2019-09-01}\npost: {start: 2023-06-15, end: 2023-09-01}\n"
    )
    place = Workspace(root)
    first = plan_train(place, 1)
    assert [site["name"] for site in first[0].settings["sites"]] == ["train", "validation"]
    labels = place.labels(2, "valley")
    labels.parent.mkdir(parents=True)
    labels.write_bytes(b"")
    second = plan_train(place, 2)
    assert [site["name"] for site in second[0].settings["sites"]] == [
        "train",
        "valley",
        "validation",
    ]
    assert place.stack("valley") in second[0].inputs
    assert second[0].outputs[0].is_relative_to(place.models(2))


def test_plans_change_their_keys_with_what_matters_only(workspace: Workspace) -> None:
    def keys(text: str) -> list[str]:
        path = workspace.root / "thawslump.yaml"
        path.write_text(text)
        return [key_of(item, {}) for item in plan_train(Workspace(workspace.root), 1)]

    plain = (workspace.root / "thawslump.yaml").read_text()
    first = keys(plain)
    assert keys(plain.replace("overlap: 32", "overlap: 0")) == first
    assert all(
        a != b for a, b in zip(keys(plain.replace("epochs: 2", "epochs: 3")), first, strict=True)
    )
    one = keys(plain.replace("loss: dice", "loss: focal"))
    assert (one[0] != first[0], one[1] == first[1]) == (True, True)


def test_sites_to_train_and_to_validate_on_are_needed(workspace: Workspace) -> None:
    (workspace.root / "sites" / "validation.yaml").unlink()
    with pytest.raises(ConfigError, match="role validation"):
        plan_train(Workspace(workspace.root), 1)
    (workspace.root / "sites" / "train.yaml").unlink()
    with pytest.raises(ConfigError, match="nothing to learn from"):
        plan_train(Workspace(workspace.root), 1)


def test_labels_of_another_grid_or_value_are_refused(workspace: Workspace) -> None:
    item = plan_train(workspace, 1)[0]
    grid = GeoBox((64, 64), Affine(10, 0, 5e5, 0, -10, 7.9e6), "EPSG:32652")
    strange = np.full((1, 64, 64), 2, dtype="uint8")
    write_cog(workspace.labels(1, "train"), strange, grid, ["label"], nodata=255)
    with pytest.raises(DataError, match="holds the value 2"):
        train.run(item, workspace, quiet)
    moved = GeoBox((64, 64), Affine(10, 0, 6e5, 0, -10, 7.9e6), "EPSG:32652")
    write_cog(workspace.labels(1, "train"), strange, moved, ["label"], nodata=255)
    with pytest.raises(DataError, match="not on the grid"):
        train.run(item, workspace, quiet)


def test_names_of_runs_are_readable_and_distinct() -> None:
    run = RunConfig(architecture="unet", encoder="resnet18", loss="bce", learning_rate=0.0025)
    assert run.name == "unet-resnet18-bce-2.5e-3-all-s0"
    with pytest.raises(ValueError, match="stands there twice"):
        SegmentationConfig(runs=(run, run))
    with pytest.raises(ValueError, match="more than half of window"):
        SegmentationConfig(window=128, overlap=96)
    pan = RunConfig(architecture="pan", encoder="resnet18")
    with pytest.raises(ValueError, match="pan needs crops of 128 pixels"):
        SegmentationConfig(runs=(pan,), crop=96)
    config = SegmentationConfig()
    assert len({run.architecture for run in config.runs}) >= 3


KILLED = """
import os, signal, sys
from pathlib import Path
from thawslump.workspace import Workspace
from trainer.segmentation import train
from trainer.steps import plan_train

def progress(fraction, words=""):
    if words.startswith("epoch 2 of"):
        os.kill(os.getpid(), signal.SIGKILL)

workspace = Workspace(Path(sys.argv[1]))
train.run(plan_train(workspace, 1)[0], workspace, progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")
def test_a_killed_process_leaves_a_run_that_continues(workspace: Workspace) -> None:
    """After SIGKILL in another process, this one ends the run with the bytes of a whole one."""
    item: Item = plan_train(workspace, 1)[0]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(workspace.root)], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    folder = item.outputs[0].parent
    assert not item.outputs[0].exists()
    assert (folder / "checkpoint" / "state.safetensors").exists()
    epochs: set[str] = set()
    train.run(item, workspace, lambda fraction, words="": epochs.add(words[:7]))
    assert "epoch 1" not in epochs
    continued = {path.name: path.read_bytes() for path in item.outputs}
    for path in item.outputs:
        path.unlink()
    train.run(item, workspace, quiet)
    assert {path.name: path.read_bytes() for path in item.outputs} == continued
