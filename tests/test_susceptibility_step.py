"""The step: from labels and factors to scores, models and maps."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from susceptibility_world import CONFIG, run_steps, settings, world

from thawslump import estimate, raster
from thawslump.config import target
from thawslump.errors import DataError
from thawslump.ledger import Ledger
from thawslump.pipeline import STEPS, Driver
from thawslump.progress import Silent
from thawslump.workspace import Workspace
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.files import Files
from trainer.susceptibility.models import design
from trainer.susceptibility.persistence import load_model
from trainer.susceptibility.steps import chosen_model
from trainer.susceptibility.steps.samples import draw


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return world(tmp_path)


def test_whole_step(workspace: Workspace) -> None:
    "Scores, both models and a map of every site; the same again to the byte"
    done = run_steps(workspace)
    facts = {item.step: facts for item, facts in done}
    for item, _ in done:
        assert json.loads(json.dumps(dict(item.settings))) == dict(item.settings)
    settings = done[-1][0].settings
    assert settings["learn"] == ["east", "north"]  # never the test site
    assert settings["test"] == ["south"]
    assert settings["map"] == ["east", "north", "south", "west"]

    report = json.loads((workspace.round(1) / "susceptibility.json").read_text())
    assert report["made_up"] is True
    assert (
        report["n_positive"] == facts["susceptibility-samples"]["positives"]
        and report["block_size_m"] == 300.0
    )
    for scores in report["models"].values():
        low, high = scores["auc_spatial_interval"]
        assert low <= scores["auc_spatial"] <= high
        assert scores["gap_random_minus_spatial"] == pytest.approx(
            scores["auc_random"] - scores["auc_spatial"]
        )
        # Slope decides, whatever the fold and also on the site that was held out.
        assert scores["auc_spatial"] > 0.85 and scores["auc_test"] > 0.85
        without = scores["auc_spatial_without"]
        assert set(without) == {"elevation", "slope", "aspect", "NDVI"}
        assert without["slope"] == min(without.values()) < 0.7
    classes = report["classes"]
    assert sum(classes["share_of_area"]) == pytest.approx(1)
    upper = classes["upper_probability"]
    assert upper == sorted(upper) and len(upper) == 5
    # Slumps lie in the high classes, which are a small part of the area.
    assert classes["share_of_slump_cells_out_of_fold"][-1] > 2 * classes["share_of_area"][-1]

    first = {path: path.read_bytes() for item, _ in done for path in item.outputs}
    run_steps(workspace)
    assert [path for path, content in first.items() if path.read_bytes() != content] == []
    assert not list(workspace.round(1).rglob(".*"))


def test_map_holds_what_the_model_says(workspace: Workspace) -> None:
    "Read back from the files, the model gives the probabilities of the map"
    run_steps(workspace)
    factors = raster.read_float(workspace.factors("west"))
    cells = design(dict(zip(factors.names, factors.array, strict=True)))
    files = Files(workspace, 1)
    model, _ = load_model(files.model(str(chosen_model(files))))
    with rasterio.open(files.classes("west")) as source:
        classes = source.read(1)
    with rasterio.open(files.probability("west")) as source:
        held = source.read(1)
        assert source.crs.to_epsg() == 32652 and source.transform == factors.grid.transform
    expected = np.rint(model.predict_proba(cells)[:, 1] * 10_000).reshape(held.shape)
    valid = ~np.isnan(factors.array).all(axis=0)
    assert np.abs(held[valid] - expected[valid]).max() <= 1
    assert held[-1, -1] == 65535 and classes[-1, -1] == 0 and valid[0, 0]
    assert set(np.unique(classes[valid])) <= {1, 2, 3, 4, 5}


def test_classes_of_a_factor_are_columns_and_unknown_ones_are_counted(
    workspace: Workspace,
) -> None:
    "Slumps on lithology 2 of 1, 2, 3: a linear model sees it; class 9 of another site is missing"
    for name in ("east", "north", "south", "west"):
        read = raster.read_float(workspace.factors(name))
        rng = np.random.default_rng(len(name))
        rock = rng.choice([1.0, 3.0], read.array.shape[1:]).astype(np.float32)
        path = workspace.labels(1, name)
        if path.exists():
            slump = raster.read(path).array[0][1::3, 1::3] == 1
            rock[slump] = np.where(rng.random(slump.sum()) < 0.9, 2, 1)
        if name == "west":
            rock[10:20, 5:15] = 9
        array = np.concatenate([read.array, rock[None]])
        raster.write_cog(
            workspace.factors(name), array, read.grid, (*read.names, "lithology"),
            nodata=float("nan"),
        )  # fmt: skip
    settings(workspace, factors=("elevation", "lithology"))
    run_steps(workspace)
    report = json.loads((workspace.round(1) / "susceptibility.json").read_text())
    assert report["features"] == ["elevation", *(f"lithology={n}" for n in (1, 2, 3))]
    assert report["factor_classes"] == {"lithology": [1, 2, 3]}
    assert report["cells_with_unseen_classes"] == {"west": {"lithology": 100}}
    assert report["cells_with_filled_factors"]["west"] >= 100
    # As a number, the middle class could not be told from the mean of its neighbours.
    assert report["models"]["logistic"]["auc_spatial"] > 0.85
    assert report["models"]["logistic"]["auc_spatial_without"]["lithology"] < 0.65
    _, names = load_model(Files(workspace, 1).model("logistic"))
    assert list(names) == report["features"]


def test_samples_do_not_depend_on_the_run_but_on_the_seed(workspace: Workspace) -> None:
    pairs = [triple(workspace, name) for name in ("east", "north")]
    one, same = draw(pairs, CONFIG), draw(pairs, CONFIG)
    other = draw(pairs, CONFIG.model_copy(update={"seed": 1}))
    assert np.array_equal(one.features, same.features, equal_nan=True)
    assert not np.array_equal(one.features, other.features, equal_nan=True)
    blocks = one.blocks(1e6)
    assert np.unique(blocks).size == 2  # sites share no block, however large
    assert (one.labels == 1).sum() == (one.labels == 0).sum()


def triple(workspace: Workspace, name: str) -> tuple[str, Path, Path]:
    return name, workspace.factors(name), workspace.labels(1, name)


def rewrite(path: Path, change: object) -> None:
    read = raster.read(path)
    raster.write_cog(path, change(read.array), read.grid, read.names, nodata=None, categorical=True)  # type: ignore[operator]


def test_no_slump_at_all_is_said(workspace: Workspace) -> None:
    for name in ("east", "north"):
        rewrite(workspace.labels(1, name), lambda array: array * 0)
    with pytest.raises(DataError, match="hold 0 slumps"):
        run_steps(workspace)


def test_no_place_without_a_slump_is_said(workspace: Workspace) -> None:
    pairs = [triple(workspace, "east")]
    with pytest.raises(DataError, match="beyond 9000 m"):
        draw(pairs, CONFIG.model_copy(update={"buffer": 9000.0}))


def test_labels_of_another_crs_are_refused(workspace: Workspace) -> None:
    path = workspace.labels(1, "east")
    read = raster.read(path)
    grid = GeoBox(read.grid.shape, read.grid.affine, "EPSG:32653")
    raster.write_cog(path, read.array, grid, read.names, nodata=None, categorical=True)
    with pytest.raises(DataError, match="one coordinate system"):
        draw([triple(workspace, "east")], CONFIG)


def test_labels_elsewhere_are_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="do not overlap"):
        draw([("east", workspace.factors("east"), workspace.labels(1, "north"))], CONFIG)


def test_blocks_too_large_for_the_place_are_halved(workspace: Workspace) -> None:
    "A block wider than the site cannot be held out; the size that was used is reported"
    drawn = draw([triple(workspace, "east")], CONFIG)
    size = drawn.widest_blocks(9600.0)
    assert size < 2400
    positive = drawn.labels == 1
    assert np.unique(drawn.blocks(size)[positive]).size >= 2
    assert np.unique(drawn.blocks(size * 2)[positive]).size == 1


def test_a_model_that_is_not_fitted_cannot_draw() -> None:
    with pytest.raises(ValueError, match='map_model is "logistic"'):
        SusceptibilityConfig(models=("forest",), map_model="logistic")


def test_nothing_to_learn_from_is_nothing_to_do(tmp_path: Path) -> None:
    held = Workspace(tmp_path)
    held.__dict__["sites"] = {}
    settings(held)
    assert run_steps(held) == []


def test_planning_is_light() -> None:
    "The plan and the settings load no numpy"
    words = (
        "import sys, trainer.susceptibility.steps, trainer.susceptibility.config;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'rasterio', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0


def bring_up_to_date(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """Run what is left, with a ledger; return the items that ran, by step."""
    ledger = Ledger(workspace.ledger, workspace.root)
    with ThreadPoolExecutor(1) as executor:
        driver = Driver(workspace, ledger, executor, Silent())
        for step in STEPS:
            if step.name.startswith("susceptibility"):
                driver.run_step(step.name, 1)
    ledger.close()
    return {
        outcome.step.removeprefix("susceptibility-"): tuple(sorted(outcome.ran))
        for outcome in driver.outcomes
        if outcome.ran
    }


def planned(workspace: Workspace, patch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Return what `run --dry-run` says is left of each step."""
    steps = [step for step in STEPS if step.name.startswith("susceptibility")]
    patch.setattr(estimate, "STEPS", steps)
    # The workspace of these tests has no export.
    none = lambda workspace: {}  # noqa: E731
    patch.setattr(estimate, "target", lambda name: none if "totals" in name else target(name))
    config = workspace.config.susceptibility
    executor = SimpleNamespace(workers=1)
    workspace.__dict__["config"] = SimpleNamespace(susceptibility=config, executor=executor)
    found = estimate.expect(workspace)["steps"]
    return {row["step"].removeprefix("susceptibility-"): row["left"] for row in found}


def test_an_edited_setting_recomputes_what_depends_on_it_and_nothing_else(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = {"importance": 0}
    settings(workspace, **edited)
    sites = ("east", "north", "south", "west")
    assert bring_up_to_date(workspace) == {
        "samples": ("samples",),
        "select": ("factors",),
        "fit": ("forest", "logistic"),
        "compare": ("models",),
        "map": sites,
        "susceptibility": ("maps",),
    }
    assert bring_up_to_date(workspace) == {}
    chosen = chosen_model(Files(workspace, 1))

    edited |= {"classes": 4}
    settings(workspace, **edited)
    left = planned(workspace, monkeypatch)
    assert {step: count for step, count in left.items() if count != 0} == {"susceptibility": 1}
    assert bring_up_to_date(workspace) == {"susceptibility": ("maps",)}
    assert len(summary(workspace)["classes"]["upper_probability"]) == 4

    # Another model beside, and other intervals: the models that are there are not fitted again,
    # and the map of the chosen one stays.
    edited |= {
        "models": ("logistic", "forest", "forest_small"),
        "map_model": chosen,
        "resamples": 120,
    }
    settings(workspace, **edited)
    assert bring_up_to_date(workspace) == {
        "fit": ("forest_small",),
        "compare": ("models",),
        "susceptibility": ("maps",),
    }

    edited |= {"trees": 16}
    settings(workspace, **edited)
    left = planned(workspace, monkeypatch)
    assert left["fit"] == 1 and left["compare"] is None  # what follows is known only then
    ran = bring_up_to_date(workspace)
    assert ran.pop("map", sites) == sites  # drawn anew where the forest draws it
    assert ran == {"fit": ("forest",), "compare": ("models",), "susceptibility": ("maps",)}


def summary(workspace: Workspace) -> dict[str, Any]:
    return json.loads((workspace.round(1) / "susceptibility.json").read_text())


def test_a_lost_map_is_drawn_again_and_nothing_else(workspace: Workspace) -> None:
    settings(workspace, importance=0)
    bring_up_to_date(workspace)
    files = Files(workspace, 1)
    lost = files.probability("west")
    before = lost.read_bytes()
    lost.unlink()
    assert bring_up_to_date(workspace) == {"map": ("west",)}
    assert lost.read_bytes() == before
    # A round whose comparison is gone is compared again, from what the folds said.
    files.comparison.unlink()
    ran = bring_up_to_date(workspace)
    assert ran == {"compare": ("models",)}
