"""One site is enough: training, choosing and judging on blocks of it; soft labels by a setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import ValidationError

from thawslump.config import load_model
from thawslump.doctor import in_workspace
from thawslump.errors import ConfigError, DataError
from thawslump.raster import write_cog
from thawslump.report import render
from thawslump.workspace import Workspace
from trainer import splits
from trainer.chips import Tile
from trainer.config import RunConfig, SegmentationConfig
from trainer.segmentation import ensemble, predict, train
from trainer.segmentation.experts import write_soft
from trainer.segmentation.parts import by_part, counts
from trainer.steps import SPLIT, plan_ensemble, plan_predict, plan_train

ENCODER = "tu-mobilenetv3_small_050"
BANDS = ("dVH", "slope", "dNDVI")
SHAPE = (160, 192)
GRID = GeoBox(SHAPE, Affine(10, 0, 5e5, 0, -10, 7.9e6), "EPSG:32652")
BLOCKS = "  split: blocks\n  split_block: 64\n  split_buffer: 8\n"


def made_up() -> tuple[np.ndarray, np.ndarray]:
    """Fourteen slumps that stand out from noise, all over the site."""
    random = np.random.default_rng(0)
    labels = np.zeros(SHAPE, "uint8")
    for row in (10, 60, 110, 140):
        for column in (10, 60, 110, 170):
            labels[row : row + 9, column : column + 9] = 1
    array = random.normal(size=(3, *SHAPE)).astype("float32") * 0.5
    array[0] -= 2 * labels
    array[2] -= 1.5 * labels
    return array, labels


def workspace_of(root: Path, more: str = "", change: Any = None, loss: str = "dice") -> Workspace:
    """Make a made-up workspace with one training site and one tiny run."""
    (root / "sites").mkdir(parents=True)
    (root / "thawslump.yaml").write_text(
        "segmentation:\n"
        f"  runs: [{{architecture: fpn, encoder: {ENCODER}, loss: {loss}, learning_rate: 0.003}}]\n"
        "  crop: 32\n  batch: 2\n  iterations: 4\n  epochs: 2\n  window: 128\n  overlap: 32\n"
        + more
    )
    (root / "sites" / "only.yaml").write_text(
        "name: only\nrole: train\nbounds: [129, 71.8, 129.02, 71.81]\n"
        "pre: {start: 2019-06-15, end: 2019-09-01}\npost: {start: 2023-06-15, end: 2023-09-01}\n"
        "outlines: known.gpkg\nmade_up: true\n"
    )
    place = Workspace(root)
    array, labels = made_up()
    if change is not None:
        change(array)
    write_cog(place.stack("only"), array, GRID, BANDS, nodata=float("nan"))
    write_cog(place.labels(1, "only"), labels[None], GRID, ["label"], nodata=255, categorical=True)
    return Workspace(root)


def quiet(fraction: float, words: str = "") -> None:
    assert 0 <= fraction <= 1


def trained(workspace: Workspace) -> bytes:
    (item,) = plan_train(workspace, 1)
    train.run(item, workspace, quiet)
    return item.outputs[0].read_bytes()


def test_one_site_trains_validates_and_is_judged(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path / "a", BLOCKS)
    trained(workspace)
    (one,) = plan_ensemble(workspace, 1)
    assert one.settings["split"] == {"block": 64, "buffer": 8, "seed": 0}
    ensemble.run(one, workspace, quiet)
    found = json.loads((workspace.models(1) / "ensemble" / "metrics.json").read_text())
    _, labels = made_up()
    codes = splits.block_split(labels, 64, buffer=8)
    for number, part in enumerate(splits.PARTS):
        inside = codes == number
        assert found["split"]["parts"]["only"][part] == {
            "pixels": int(inside.sum()),
            "slumps": int((inside & (labels == 1)).sum()),
        }
    for part in ("validation", "test"):
        own = found[part]
        inside = codes == splits.PARTS.index(part)
        assert own["tp"] + own["fn"] == (inside & (labels == 1)).sum()
        assert own["tp"] + own["fp"] + own["fn"] + own["tn"] == inside.sum()
        # Few slumps: counts of objects, no shares.
        assert (
            own["objects"]["slumps"]
            == own["objects"]["table"][0]["matched"] + (own["objects"]["table"][0]["missed"])
        )
        assert own["objects"]["slumps"] < 10 and own["objects"]["f1"] is None
        assert own["boundary"]["tolerance_m"] == 20
    (mapped,) = plan_predict(workspace, 1)
    assert mapped.name == "only"
    predict.run(mapped, workspace, quiet)
    page = render(workspace)
    own = found["test"]["objects"]
    assert page.index("Test, held out of every choice") < page.index(
        f"{own['matched']} of {own['slumps']} <span"
    )
    card = (workspace.models(1) / one.name / "README.md").read_text()
    assert "only (validation blocks)" in card
    run_card = next(workspace.models(1).glob("fpn*/README.md")).read_text()
    assert "only (train blocks)" in run_card and "only (validation blocks)" in run_card


def test_weights_know_nothing_of_the_test_blocks(tmp_path: Path) -> None:
    """Whatever lies in the test blocks and the buffer, the weights are the same to the bit."""
    _, labels = made_up()
    codes = splits.block_split(labels, 64, buffer=8)
    seen = splits.visible(codes, splits.TRAIN, 8) | splits.visible(codes, splits.VALIDATION, 8)
    assert (codes == splits.TEST).sum() > 1000 and not (seen & (codes == splits.TEST)).any()

    def elsewhere(array: np.ndarray) -> None:
        array[:, ~seen] = 1000.0

    def within(array: np.ndarray) -> None:
        array[:, codes == splits.TRAIN] += 0.01

    first = trained(workspace_of(tmp_path / "a", BLOCKS))
    assert trained(workspace_of(tmp_path / "b", BLOCKS, elsewhere)) == first
    assert trained(workspace_of(tmp_path / "c", BLOCKS, within)) != first


def test_the_default_says_nothing_of_splits(tmp_path: Path) -> None:
    """Work that was done before these settings were there stays done."""
    workspace = workspace_of(tmp_path / "a")
    with pytest.raises(ConfigError, match="No site has the role validation") as error:
        plan_train(workspace, 1)
    assert "split: blocks" in (error.value.hint or "")
    text = (workspace.root / "sites" / "only.yaml").read_text()
    other = text.replace("name: only", "name: other").replace("role: train", "role: validation")
    (workspace.root / "sites" / "other.yaml").write_text(other)
    workspace = Workspace(workspace.root)
    (item,) = plan_train(workspace, 1)
    assert not {*SPLIT, "roles"} & set(item.settings)
    (item,) = plan_ensemble(workspace, 1)
    assert not {*SPLIT, "roles"} & set(item.settings)


def test_the_doctor_asks_for_no_validation_site_with_blocks(tmp_path: Path) -> None:
    said = {
        more: [check.words for check in in_workspace(workspace_of(tmp_path / name, more))]
        for name, more in (("a", ""), ("b", BLOCKS))
    }
    assert any("role validation or area" in words for words in said[""])
    assert not any("validation" in words for words in said[BLOCKS])


def test_soft_labels_are_learned(tmp_path: Path) -> None:
    soft = BLOCKS + "  labels: soft\n"
    workspace = workspace_of(tmp_path / "a", soft)
    with pytest.raises(ConfigError, match=r"Site only has no soft labels.*labels_soft\.tif"):
        plan_train(workspace, 1)
    _, labels = made_up()
    write_soft(workspace.labels_soft(1, "only"), (0.7 * labels).astype("float32"), GRID)
    (item,) = plan_train(workspace, 1)
    assert item.settings["labels"] == "soft"
    assert item.inputs[-1] == workspace.labels_soft(1, "only")
    first = trained(workspace)
    assert first != trained(workspace_of(tmp_path / "b", BLOCKS))
    small = GeoBox((10, 10), GRID.transform, GRID.crs)
    write_soft(workspace.labels_soft(1, "only"), np.zeros((10, 10), "float32"), small)
    with pytest.raises(DataError, match=r"labels_soft\.tif is not on the grid of"):
        trained(workspace)
    # Those of an earlier round serve a later one.
    assert plan_train(workspace, 3)[0].inputs[-1] == workspace.labels_soft(1, "only")


def test_losses_that_cannot_learn_shares_are_refused(tmp_path: Path) -> None:
    runs = (RunConfig(architecture="fpn", encoder=ENCODER, loss="focal"),)
    with pytest.raises(ValidationError, match=r"cannot learn soft labels; .* bce, dice or jaccard"):
        SegmentationConfig(runs=runs, labels="soft")
    assert SegmentationConfig(labels="soft").labels == "soft"
    path = tmp_path / "x.yaml"
    path.write_text("split: block\n")
    with pytest.raises(ConfigError, match="split"):
        load_model(SegmentationConfig, path)


def test_sites_keep_their_roles_beside_split_ones() -> None:
    array, labels = made_up()
    names = {"a": "train", "b": "validation", "c": "area"}
    tiles = [Tile(name, array, labels) for name in names]
    parts = by_part(tiles, names, {"block": 64, "buffer": 8, "seed": 0})
    assert {part: [t.name for t in own] for part, own in parts.items()} == {
        "train": ["a", "c"], "validation": ["a", "b"], "test": ["a"],
    }  # fmt: skip
    whole = by_part(tiles, names, None)
    assert {part: [t.name for t in own] for part, own in whole.items()} == {
        "train": ["a", "c"], "validation": ["b"], "test": [],
    }  # fmt: skip
    assert counts(whole)["b"]["validation"] == {
        "pixels": labels.size, "slumps": int(labels.sum()),
    }  # fmt: skip


def test_a_site_that_cannot_be_split_is_named() -> None:
    array, labels = made_up()
    labels[:, 40:] = 0
    labels[40:] = 0
    with pytest.raises(DataError, match=r"Site a: The 81 slump pixels lie in 1 block") as error:
        by_part([Tile("a", array, labels)], {"a": "train"}, {"block": 64, "buffer": 8, "seed": 0})
    assert "split_block and split_buffer" in (error.value.hint or "")
