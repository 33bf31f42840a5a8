"""Export.classifier.toAsset and Classifier.load, by the unmodified client over the endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, earth

from gee.emulator.catalog import Catalog
from gee.emulator.functions.trees import classifier_to_json
from thawslump.errors import ThawslumpError

ROOT = "projects/made-up/assets"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("assets")) as found:
        yield found


def training() -> Any:
    random = np.random.default_rng(0)
    return ee.FeatureCollection(
        [
            ee.Feature(None, {"x": float(x), "y": float(y), "c": int(x + y > 1)})
            for x, y in random.random((80, 2))
        ]
    )


def finished(task: Any) -> dict[str, Any]:
    task.start()
    for _ in range(400):
        status = task.status()
        if status["state"] in ("COMPLETED", "FAILED", "CANCELLED"):
            return status
        time.sleep(0.05)
    raise AssertionError(f"The task did not end: {status}")


def test_a_classifier_is_exported_and_loaded(world: Earth) -> None:
    "batch.Export.classifier.toAsset; the loaded one answers as the one that was trained."
    table = training()
    forest = ee.Classifier.smileRandomForest(6, seed=2).train(table, "c", ["x", "y"])
    name = f"{ROOT}/forest"
    status = finished(ee.batch.Export.classifier.toAsset(forest, "forest", name))
    assert status["state"] == "COMPLETED", status
    assert status["task_type"] == "EXPORT_CLASSIFIER"
    assert ee.data.getAsset(name)["type"] == "CLASSIFIER"
    loaded = ee.Classifier.load(name)
    assert loaded.schema().getInfo() == ["x", "y"]
    assert loaded.mode().getInfo() == "CLASSIFICATION"
    for mode in ("CLASSIFICATION", "PROBABILITY"):
        before = table.classify(forest.setOutputMode(mode), "k").aggregate_array("k").getInfo()
        after = table.classify(loaded.setOutputMode(mode), "k").aggregate_array("k").getInfo()
        assert after == pytest.approx(before)
    # It is one asset among others: listed, copied, deleted.
    assert name in [a["name"] for a in ee.data.listAssets(ROOT)["assets"]]
    ee.data.copyAsset(name, f"{ROOT}/copy")
    ee.data.deleteAsset(name)
    assert ee.Classifier.load(f"{ROOT}/copy").explain().getInfo()["numberOfTrees"] == 6
    with pytest.raises(ee.EEException, match=r"Classifier asset '.*forest' not found"):
        loaded.mode().getInfo()


def test_exports_that_are_refused(world: Earth) -> None:
    "Other classifiers, other values, an asset that is there."
    table = training()
    nearest = ee.Classifier.smileKNN(3).train(table, "c", ["x", "y"])
    status = finished(ee.batch.Export.classifier.toAsset(nearest, "knn", f"{ROOT}/knn"))
    assert status["state"] == "FAILED"
    assert "'smileKNN' cannot be exported: only smileCart" in status["error_message"]
    tree = ee.Classifier.smileCart().train(table, "c", ["x", "y"])
    name = f"{ROOT}/tree"
    assert finished(ee.batch.Export.classifier.toAsset(tree, "a", name))["state"] == "COMPLETED"
    again = finished(ee.batch.Export.classifier.toAsset(tree, "b", name))
    assert again["state"] == "FAILED"
    assert "Cannot overwrite asset" in again["error_message"]
    over = ee.batch.Export.classifier.toAsset(tree, "c", name, overwrite=True)
    assert finished(over)["state"] == "COMPLETED"
    with pytest.raises(ee.EEException, match=r"not found|is not"):
        ee.Image(name).getInfo()


def test_the_catalogue_holds_classifiers(world: Earth) -> None:
    table = training()
    tree = world.value(ee.Classifier.smileCart().train(table, "c", ["x", "y"]))
    text = classifier_to_json(tree)
    world.catalog.put_classifier("T/tree", text, {"made": "here"})
    again = Catalog(world.root)
    assert again.classifier("T/tree") == text
    asset = again.get("T/tree")
    assert asset is not None
    assert (asset.type, asset.properties) == ("CLASSIFIER", {"made": "here"})
    assert again.classifier("T/none") is None
    with pytest.raises(ThawslumpError, match="is a CLASSIFIER, not a table"):
        again.features("T/tree")
