"""The step: from labels and factors to scores, models and maps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from thawslump import raster
from thawslump.errors import DataError
from thawslump.workspace import Workspace
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.models import design, load_forest, read_logistic
from trainer.susceptibility.step import collect, run
from trainer.susceptibility.steps import plan_susceptibility

CRS = "EPSG:32652"
CONFIG = SusceptibilityConfig(block_size=300.0, resamples=100, trees=15, buffer=60.0)


def place(workspace: Workspace, name: str, role: str, seed: int, labelled: bool = True) -> None:
    """Write made-up factors (30 m) and labels (10 m); slumps lie where slope is high."""
    rng = np.random.default_rng(seed)
    height, width = 60, 80
    slope = ndimage.gaussian_filter(rng.normal(size=(height, width)), 3)
    slope = 10 + 5 * slope / slope.std()
    factors = np.stack(
        [
            rng.normal(300, 5, (height, width)),
            slope.clip(0),
            rng.uniform(0, 360, (height, width)),
            rng.uniform(0.2, 0.8, (height, width)),
        ]
    ).astype(np.float32)
    factors[3, :4, :4] = np.nan
    factors[:, -1, -1] = np.nan
    affine = Affine(30, 0, 500_000 + 10_000 * seed, 0, -30, 8_000_000)
    grid = GeoBox((height, width), affine, CRS)
    names = ("elevation", "slope", "aspect", "NDVI")
    raster.write_cog(workspace.factors(name), factors, grid, names, nodata=float("nan"))
    if labelled:
        labels = np.zeros((height * 3, width * 3), np.uint8)
        steep = np.argwhere(ndimage.maximum_filter(slope, 9) == slope)
        for row, column in steep[slope[tuple(steep.T)] > 13]:
            labels[row * 3 - 2 : row * 3 + 4, column * 3 - 3 : column * 3 + 3] = 1
        labels[-9:, :] = 255
        fine = GeoBox(labels.shape, Affine(10, 0, affine.c, 0, -10, affine.f), CRS)
        raster.write_cog(
            workspace.labels(1, name), labels[None], fine, ("label",), nodata=None, categorical=True
        )
    workspace.sites[name] = SimpleNamespace(role=role, made_up=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    held = Workspace(tmp_path)
    held.__dict__["sites"] = {}
    held.__dict__["config"] = SimpleNamespace(susceptibility=CONFIG)
    place(held, "east", "train", 1)
    place(held, "north", "validation", 2)
    place(held, "south", "test", 3)
    place(held, "west", "area", 4, labelled=False)
    return held


def test_whole_step(workspace: Workspace) -> None:
    "Scores, both models and a map of every site; the same again to the byte"
    (item,) = plan_susceptibility(workspace, 1)
    assert item.settings["learn"] == ["east", "north"]  # never the test site
    assert item.settings["test"] == ["south"]
    assert item.settings["map"] == ["east", "north", "south", "west"]
    assert json.loads(json.dumps(dict(item.settings))) == dict(item.settings)
    told: list[float] = []
    facts = run(item, workspace, lambda share, words: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0
    assert all(path.exists() for path in item.outputs)

    report = json.loads((workspace.round(1) / "susceptibility.json").read_text())
    assert report["made_up"] is True
    assert report["n_positive"] == facts["positives"] and report["block_size_m"] == 300.0
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

    first = {path: path.read_bytes() for path in item.outputs}
    run(item, workspace, lambda share, words: None)
    assert all(path.read_bytes() == content for path, content in first.items())
    assert not list(workspace.maps(1).glob(".*"))


def test_map_holds_what_the_model_says(workspace: Workspace) -> None:
    "Read back from the files, the model gives the probabilities of the map"
    (item,) = plan_susceptibility(workspace, 1)
    facts = run(item, workspace, lambda share, words: None)
    factors = raster.read_float(workspace.factors("west"))
    cells = design(dict(zip(factors.names, factors.array, strict=True)))
    folder = workspace.round(1) / "susceptibility"
    model = (
        read_logistic(folder / "logistic.json")
        if facts["map_model"] == "logistic"
        else load_forest(folder / "forest.skops")
    )
    with rasterio.open(workspace.maps(1) / "susceptibility-west.tif") as source:
        held, classes = source.read()
        assert source.crs.to_epsg() == 32652 and source.transform == factors.grid.transform
    expected = np.rint(model.predict_proba(cells)[:, 1] * 10_000).reshape(held.shape)
    valid = ~np.isnan(factors.array).all(axis=0)
    assert np.abs(held[valid] - expected[valid]).max() <= 1
    assert held[-1, -1] == classes[-1, -1] == 65535 and valid[0, 0]
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
    config = CONFIG.model_copy(update={"factors": ("elevation", "lithology")})
    workspace.__dict__["config"] = SimpleNamespace(susceptibility=config)
    (item,) = plan_susceptibility(workspace, 1)
    run(item, workspace, lambda share, words: None)
    report = json.loads((workspace.round(1) / "susceptibility.json").read_text())
    assert report["features"] == ["elevation", *(f"lithology={n}" for n in (1, 2, 3))]
    assert report["factor_classes"] == {"lithology": [1, 2, 3]}
    assert report["cells_with_unseen_classes"] == {"west": {"lithology": 100}}
    assert report["cells_with_filled_factors"]["west"] >= 100
    # As a number, the middle class could not be told from the mean of its neighbours.
    assert report["models"]["logistic"]["auc_spatial"] > 0.85
    assert report["models"]["logistic"]["auc_spatial_without"]["lithology"] < 0.65
    held = read_logistic(workspace.round(1) / "susceptibility" / "logistic.json")
    assert list(held.features) == report["features"]


def test_samples_do_not_depend_on_the_run_but_on_the_seed(workspace: Workspace) -> None:
    pairs = [(workspace.factors(name), workspace.labels(1, name)) for name in ("east", "north")]
    one, same = collect(pairs, CONFIG), collect(pairs, CONFIG)
    other = collect(pairs, CONFIG.model_copy(update={"seed": 1}))
    assert np.array_equal(one.features, same.features, equal_nan=True)
    assert not np.array_equal(one.features, other.features, equal_nan=True)
    blocks = one.blocks(1e6)
    assert np.unique(blocks).size == 2  # sites share no block, however large
    assert (one.labels == 1).sum() == (one.labels == 0).sum()


def rewrite(path: Path, change: object) -> None:
    read = raster.read(path)
    raster.write_cog(path, change(read.array), read.grid, read.names, nodata=None, categorical=True)  # type: ignore[operator]


def test_no_slump_at_all_is_said(workspace: Workspace) -> None:
    for name in ("east", "north"):
        rewrite(workspace.labels(1, name), lambda array: array * 0)
    (item,) = plan_susceptibility(workspace, 1)
    with pytest.raises(DataError, match="hold 0 slumps"):
        run(item, workspace, lambda share, words: None)


def test_no_place_without_a_slump_is_said(workspace: Workspace) -> None:
    pairs = [(workspace.factors("east"), workspace.labels(1, "east"))]
    with pytest.raises(DataError, match="beyond 9000 m"):
        collect(pairs, CONFIG.model_copy(update={"buffer": 9000.0}))


def test_labels_of_another_crs_are_refused(workspace: Workspace) -> None:
    path = workspace.labels(1, "east")
    read = raster.read(path)
    grid = GeoBox(read.grid.shape, read.grid.affine, "EPSG:32653")
    raster.write_cog(path, read.array, grid, read.names, nodata=None, categorical=True)
    with pytest.raises(DataError, match="one coordinate system"):
        collect([(workspace.factors("east"), path)], CONFIG)


def test_labels_elsewhere_are_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="do not overlap"):
        collect([(workspace.factors("east"), workspace.labels(1, "north"))], CONFIG)


def test_blocks_too_large_for_the_place_are_halved(workspace: Workspace) -> None:
    "A block wider than the site cannot be held out; the size that was used is reported"
    drawn = collect([(workspace.factors("east"), workspace.labels(1, "east"))], CONFIG)
    size = drawn.widest_blocks(9600.0)
    assert size < 2400
    positive = drawn.labels == 1
    assert np.unique(drawn.blocks(size)[positive]).size >= 2
    assert np.unique(drawn.blocks(size * 2)[positive]).size == 1


def test_a_model_that_is_not_fitted_cannot_draw(workspace: Workspace) -> None:
    workspace.__dict__["config"] = SimpleNamespace(
        susceptibility=CONFIG.model_copy(update={"models": ("forest",), "map_model": "logistic"})
    )
    (item,) = plan_susceptibility(workspace, 1)
    with pytest.raises(DataError, match='map_model is "logistic"'):
        run(item, workspace, lambda share, words: None)


def test_nothing_to_learn_from_is_nothing_to_do(tmp_path: Path) -> None:
    held = Workspace(tmp_path)
    held.__dict__["sites"] = {}
    assert plan_susceptibility(held, 1) == []


def test_planning_is_light() -> None:
    "The plan and the settings load no numpy"
    words = (
        "import sys, trainer.susceptibility.steps, trainer.susceptibility.config;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'rasterio', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
