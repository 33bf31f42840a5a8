"""The scripts on the live Earth Engine, wherever there are credentials for it; skipped elsewhere.

    earthengine authenticate
    THAWSLUMP_EE_PROJECT=my-project pytest tests/test_live.py

Reads public collections over one small place and a few hundred pixels of each; writes nothing.
Nothing is claimed of the live service that these tests did not see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest

from gee.config import BackendConfig
from gee.exports.faults import Fault, classify
from gee.exports.plan import Tile, request_grid
from gee.exports.products import products
from gee.exports.survey import survey
from gee.grids import factor_grid
from gee.scripts import factors, landcover, sentinel1, stack
from gee.session import connect
from thawslump.site import Site, Window

pytestmark = pytest.mark.live

SITE = Site(
    name="bykovsky",
    role="area",
    bounds=(129.20, 71.76, 129.24, 71.78),
    pre=Window(start="2019-06-25", end="2019-09-05"),
    post=Window(start="2022-06-25", end="2022-09-05"),
)


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    project = os.environ.get("THAWSLUMP_EE_PROJECT")
    if not project:
        pytest.skip(
            "the live Earth Engine was not asked: set THAWSLUMP_EE_PROJECT to a project of yours"
        )
    with connect(BackendConfig(kind="earthengine", project=project)):
        yield


def pixels(image: ee.Image, grid: Any, side: int = 16) -> np.ndarray:
    rows, cols = grid.shape
    tile = Tile(rows // 2, cols // 2, side, side)
    request = {
        "expression": image.toFloat().unmask(-99999, False),
        "fileFormat": "NUMPY_NDARRAY",
        "grid": request_grid(grid, tile),
    }
    return ee.data.computePixels(request)


def test_the_survey_finds_images_of_both_summers() -> None:
    found = survey(SITE)
    assert not found.made_up
    for key in ("s1", "s2"):
        for side in ("pre", "post"):
            assert found.pictures[key, side], f"no {key} image {side}"  # type: ignore[index]
    assert found.orbits is not None and len(found.orbits) == 1


def test_the_stack_has_its_bands_and_plausible_values() -> None:
    found = survey(SITE)
    image = stack.stack(SITE, settled=found.settled)
    assert image.bandNames().getInfo() == list(SITE.bands)
    values = pixels(image, SITE.grid())
    for name, low, high in (
        ("preVV", -40, 5), ("postVH", -45, 0), ("slope", 0, 90), ("dNDVI", -2, 2),
    ):  # fmt: skip
        seen = values[name][values[name] > -99999]
        assert seen.size and low <= seen.min() and seen.max() <= high, name


def test_the_direction_to_the_radar_agrees_with_the_orbit() -> None:
    found = survey(SITE)
    look = found.settled.look
    assert found.orbits is not None and look is not None
    expected = sentinel1.orbit_look(SITE, found.orbits[0].direction)
    assert abs((look - expected + 180) % 360 - 180) < 10


@pytest.mark.parametrize("name", ["TPI", "curvature", "TWI", "LST", "precipitation", "landcover"])
def test_factors_are_there(name: str) -> None:
    values = pixels(factors.factors(SITE, [name]), factor_grid(SITE))
    assert (values[name] > -99999).any()


def test_requests_are_taken_as_exports_send_them() -> None:
    for product in products(SITE, survey(SITE)):
        values = pixels(product.filled, product.grid, 8)
        assert values.dtype.names == product.bands


def test_land_cover_can_be_judged() -> None:
    image = landcover.predictors(SITE)
    points = landcover.folds_by_block(landcover.drawn_points(SITE, 20), SITE, folds=3)
    found = landcover.accuracy(
        image, landcover.sampled(image, points, SITE, keep=["fold"]), "fold", 3
    )
    assert 0 <= found.overall.getInfo() <= 1


def test_faults_are_told_apart_by_the_words_of_the_service() -> None:
    with pytest.raises(ee.EEException) as missing:
        ee.Image("projects/earthengine-public/assets/no/such/asset").getInfo()
    assert classify(missing.value) is Fault.LASTING
    with pytest.raises(ee.EEException) as large:
        grid = request_grid(SITE.grid(), Tile(0, 0, 10_000, 10_000))
        ee.data.computePixels(
            {"expression": ee.Image(1).toDouble(), "fileFormat": "NPY", "grid": grid}
        )
    assert classify(large.value) is Fault.TOO_LARGE
