"""Land cover on real images: a Sentinel-2 scene of the Amazon, Landsat 8 scenes of New York."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench(data_dir: Path) -> Any:
    path = ROOT / "benchmarks" / "landcover_real.py"
    spec = importlib.util.spec_from_file_location("landcover_real", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def amazon(bench: Any, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    catalog = tmp_path_factory.mktemp("amazon") / "catalog"
    catalog.mkdir()
    return bench.amazon(catalog, data_dir / "s2_amazon_landcover", per_class=60)


def test_samples_are_those_of_the_file_without_its_offset(amazon: Any) -> None:
    """Pixel for pixel what rasterio reads at the same places."""
    assert amazon["worst_difference_dn"] == 0
    assert amazon["points"] > 200


@pytest.mark.parametrize("way", ["polygon", "block of 200 m", "random"])
def test_figures_are_scikit_learns_within_its_own_spread(amazon: Any, way: str) -> None:
    ours, theirs = amazon[way], amazon[way]["scikit"]
    assert theirs["overall_least"] - 0.03 <= ours["overall"] <= theirs["overall_most"] + 0.03
    assert ours["kappa"] == pytest.approx(theirs["kappa"], abs=0.08)


def test_neighbours_of_what_was_learned_flatter_the_map(amazon: Any) -> None:
    assert amazon["random"]["overall"] > 0.9
    assert amazon["polygon"]["overall"] > 0.8
    assert amazon["random"]["overall"] > amazon["polygon"]["overall"]
    # The export's own figures are those of the same folds.
    learned = amazon["learned"]
    assert list(learned) == ["grouped", "random"]
    assert learned["grouped"]["overall"] == pytest.approx(amazon["polygon"]["overall"], abs=1e-4)
    assert learned["random"]["overall"] == pytest.approx(amazon["random"]["overall"], abs=1e-4)


def test_the_map_shows_river_town_and_forest(amazon: Any) -> None:
    """Coarse truths of the place: the river is its northern edge, most of it is forest."""
    classes = amazon["map"]["CART_LC_classified"]
    assert np.isfinite(classes).all()
    assert (classes[:10] == 5).mean() > 0.8
    shares = {number: float((classes == number).mean()) for number in (1, 2, 4, 5)}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.5 < shares[2] < 0.85 and 0.05 < shares[1] < 0.25


def test_landsat_scenes_go_the_same_way(bench: Any, data_dir: Path, tmp_path: Path) -> None:
    """19 scenes of different extents and QA; three plain classes on pixels of 3 km."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    found = bench.new_york(catalog, data_dir / "landcover_gdalcubes_l8")
    assert found["points"] >= 30
    for way in ("block of 50 km", "random"):
        ours, theirs = found[way], found[way]["scikit"]
        assert ours["overall"] > 0.85
        assert theirs["overall_least"] - 0.06 <= ours["overall"] <= theirs["overall_most"] + 0.06
