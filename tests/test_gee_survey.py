"""What a survey settles is what the tiles are made of, also when the service takes in more."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gee_world import GIVEN, PRE, World, a_site, band, make_world, world
from test_gee_scripts import pixels

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.exports import kept
from gee.exports.survey import Survey, survey
from gee.scripts import sentinel2, stack
from gee.scripts.settled import Orbit
from gee.session import connect
from thawslump.errors import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("survey") / "catalog")


@pytest.fixture()
def earth(made: World) -> Iterator[World]:
    with connect(BackendConfig(), made.folder):
        yield made


def test_what_is_settled_gives_the_same_pixels(earth: World) -> None:
    site = a_site()
    settled = survey(site).settled
    assert settled.bands == GIVEN
    assert settled.look is not None and settled.orbits is not None
    # Left open, the scripts would join both passes.
    (orbit,) = settled.orbits
    open_site = a_site(orbit_pass=orbit.direction, relative_orbit=orbit.relative)
    ours = pixels(stack.stack(site, GIVEN, settled), site.grid())
    lazy = pixels(stack.stack(open_site, GIVEN), site.grid())
    for name in GIVEN:
        # The look direction is one for all images, and rounded.
        np.testing.assert_allclose(ours[name], lazy[name], rtol=2e-4, atol=2e-4, err_msg=name)


def test_a_settled_stack_sums_nothing_up_in_every_tile(earth: World) -> None:
    site = a_site()
    settled = survey(site).settled
    radar = [name for name in GIVEN if name != "dNDVI"]
    assert "reduceRegion" in stack.stack(site, radar).serialize()
    assert "reduceRegion" not in stack.stack(site, radar, settled).serialize()


def test_images_that_come_later_change_nothing(tmp_path: Path) -> None:
    made = make_world(tmp_path / "catalog")
    site = a_site(sources={"s1": "none"})
    with connect(BackendConfig(), made.folder):
        settled = survey(site).settled
        before = pixels(sentinel2.greenest(site, PRE, settled), site.grid())
    grid = world(10)
    catalog = Catalog(made.folder, writable=True)
    green = {"B2": 100, "B3": 100, "B4": 10, "B8": 9000, "B11": 100, "B12": 100, "SCL": 4}
    catalog.put_image(
        "COPERNICUS/S2_SR_HARMONIZED/LATER",
        [band(name, np.full(grid.shape, v, np.uint16), grid) for name, v in green.items()],
        start_ms=int(dt.datetime(2020, 7, 20, tzinfo=dt.UTC).timestamp() * 1000),
    )
    with connect(BackendConfig(), made.folder):
        after = pixels(sentinel2.greenest(site, PRE, settled), site.grid())
        anew = pixels(sentinel2.greenest(site, PRE, survey(site).settled), site.grid())
    np.testing.assert_array_equal(before["NDVI"], after["NDVI"])
    assert anew["NDVI"].min() > 0.99


def test_a_survey_is_kept_whole(earth: World, tmp_path: Path) -> None:
    found = survey(a_site())
    path = tmp_path / "survey.json"
    kept.save(path, "digest", found)
    assert kept.load(path, "digest") == dataclasses.replace(found, requests=0)
    assert kept.load(path, "another digest") is None
    assert kept.load(tmp_path / "none.json", "digest") is None
    values = json.loads(path.read_text())
    del values["survey"]["settled"]
    path.write_text(json.dumps(values))
    assert kept.load(path, "digest") is None
    path.write_text("{")
    assert kept.load(path, "digest") is None


def test_orbits_come_back_as_orbits(earth: World) -> None:
    again = kept.from_json(json.loads(json.dumps(kept.to_json(survey(a_site())))))
    assert isinstance(again, Survey)
    assert again.orbits is not None and all(isinstance(orbit, Orbit) for orbit in again.orbits)


def test_land_cover_decides_on_the_model(made: World, tmp_path: Path) -> None:
    """Bare ground over most of the site: the surface model; without a map: the volume model."""
    site = a_site(slope_correction="auto")
    with connect(BackendConfig(), made.folder):
        settled = survey(site).settled
    assert (settled.model, settled.vegetated) == ("volume", None)
    assert settled.left_out["CART_LC_classified"] == (
        "the images of COPERNICUS/S2_SR_HARMONIZED have no band B11, B12"
    )
    place = world(10)
    for share, model in ((0.3, "surface"), (0.7, "volume")):
        folder = tmp_path / f"catalog-{model}"
        fresh = make_world(folder)
        catalog = Catalog(folder, writable=True)
        classes = np.full(place.shape, 60, np.uint8)  # bare
        grid = site.grid()
        first = round((grid.transform.c - place.transform.c) / 10)
        classes[:, first : first + round(share * grid.shape[1])] = 30  # grass
        catalog.put_collection("ESA/WorldCover/v200")
        catalog.put_image("ESA/WorldCover/v200/tile", [band("Map", classes, place)])
        with connect(BackendConfig(), fresh.folder):
            found = survey(site).settled
        assert found.model == model
        assert found.vegetated == pytest.approx(share, abs=0.1)


def test_a_model_by_pixel_needs_its_map(earth: World) -> None:
    with pytest.raises(DataError, match="slope_correction is per_pixel, but ESA/WorldCover/v200"):
        survey(a_site(slope_correction="per_pixel"))
