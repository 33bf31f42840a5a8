"""The real site, from its cubes to change bands, with what is weak called weak."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def found(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = ROOT / "benchmarks" / "real_site_dndvi.py"
    spec = importlib.util.spec_from_file_location("real_site_dndvi", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("emilia")
    return module.measure(folder, data_dir / "sen12landslides_italy4120")


def test_loss_of_green_finds_the_slides(found: Any) -> None:
    """Windows follow from the date of the event alone."""
    assert found["auc"]["emilia"]["-dNDVI"] >= 0.78
    assert found["auc"]["emilia-test"]["-dNDVI"] >= 0.78


def test_change_of_backscatter_is_next_to_no_signal(found: Any) -> None:
    """Said as it is: without slope correction and in this terrain the radar shows little."""
    for site in ("emilia", "emilia-ascending"):
        for band in ("|dVV|", "|dVH|"):
            assert 0.4 < found["auc"][site][band] < 0.65


def test_every_annotation_lies_on_the_mask(found: Any) -> None:
    assert (found["boxes_on_mask"], found["boxes"]) == (41, 41)


def test_the_two_cloudy_dates_are_rejected(found: Any) -> None:
    rejected = [date for date, share in found["clear"].items() if share < 0.01]
    assert rejected == ["2023-05-13", "2023-05-18"]
    # The sun of November leaves slopes in the shade, which does not count as clear ground.
    shaded = [date for date, share in found["clear"].items() if 0.8 < share < 0.95]
    assert shaded == ["2022-11-09", "2022-11-24"]
    assert sum(share > 0.95 for share in found["clear"].values()) == 10


def test_sites_are_apart_and_each_has_slides(found: Any) -> None:
    parts = [found["auc"][f"emilia-{role}"] for role in ("train", "validation", "test")]
    assert all(part["slump_pixels"] > 50 for part in parts)
    assert sum(part["rows"] * part["cols"] for part in parts) < 0.95 * 128 * 128
