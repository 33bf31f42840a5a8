"""What a survey settles is what the tiles are made of, also when the service takes in more."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import ee
import geopandas
import numpy as np
import pytest
from gee_world import CRS, GIVEN, PRE, World, a_site, band, make_world, world
from pyproj import Transformer
from shapely.geometry import Point
from test_gee_scripts import pixels, window_of

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.exports import kept
from gee.exports.survey import Survey, survey
from gee.scripts import sentinel2, stack
from gee.scripts.settled import Orbit, Settled
from gee.session import connect
from thawslump.areas import Part
from thawslump.errors import ConfigError, DataError
from thawslump.site import Site


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


# Clouds and land cover -----------------------------------------------------------------------

SCORES = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"


@pytest.mark.parametrize("scored", [None, 0, 1])
def test_scores_are_looked_for_once(tmp_path: Path, scored: int | None) -> None:
    """No collection, an empty one, one score of one image."""
    made = make_world(tmp_path / "catalog")
    catalog = Catalog(made.folder, writable=True)
    if scored is not None:
        catalog.put_collection(SCORES)
    if scored:
        grid = world(10)
        catalog.put_image(
            f"{SCORES}/20200610",
            [band("cs_cdf", np.ones(grid.shape, np.float32), grid)],
            start_ms=int(dt.datetime(2020, 6, 10, tzinfo=dt.UTC).timestamp() * 1000),
        )
    with connect(BackendConfig(), made.folder):
        found = survey(a_site())
        assert found.settled.cloud_score is bool(scored)
        assert ("cs_cdf" in sentinel2.dndvi(a_site(), found.settled).serialize()) is bool(scored)
        assert survey(a_site(cloud_mask="scl")).settled.cloud_score is None
        wants = a_site(cloud_mask="cloud_score")
        if scored:
            assert survey(wants).settled.cloud_score is True
        else:
            with pytest.raises(ConfigError, match="no image of its windows has a score"):
                survey(wants)


def test_a_service_that_fails_is_not_a_collection_without_scores(earth: World) -> None:
    """Only "not found" means that there are none: a refusal is passed on."""
    asked = sentinel2.cloud_score_there(a_site()).serialize()

    def ask(request):  # type: ignore[no-untyped-def]
        if request.__self__.serialize() == asked:
            raise ee.EEException("User memory limit exceeded.")
        return request()

    with pytest.raises(ee.EEException, match="memory limit"):
        survey(a_site(), ask)


def with_land(folder: Path) -> World:
    """The made-up world with infrared bands and a reference map of two halves."""
    made = make_world(folder)
    catalog, grid = Catalog(folder, writable=True), world(10)
    water = np.zeros(grid.shape, bool)
    water[:, grid.shape[1] // 2 - 40 :] = True
    dice = np.random.default_rng(4)
    for day in (dt.datetime(2020, 7, 5, tzinfo=dt.UTC), dt.datetime(2021, 7, 5, tzinfo=dt.UTC)):
        bands = [
            band(
                name,
                (np.where(water, 200, level) + dice.integers(0, 60, grid.shape)).astype(np.uint16),
                grid,
            )
            for name, level in (
                ("B2", 300), ("B3", 500), ("B4", 400), ("B8", 3000), ("B11", 1500), ("B12", 700),
            )
        ]  # fmt: skip
        bands.append(band("SCL", np.full(grid.shape, 4, np.uint8), grid, pyramiding="SAMPLE"))
        catalog.put_image(f"users/a/s2/{day:%Y%m%d}", bands, start_ms=int(day.timestamp() * 1000))
    classes = np.where(water, 80, 10).astype(np.uint8)
    catalog.put_collection("ESA/WorldCover/v200")
    catalog.put_image("ESA/WorldCover/v200/tile", [band("Map", classes, grid, pyramiding="MODE")])
    return made


def in_water(site: Site) -> np.ndarray:
    """Columns of a site that lie in the water, which begins 80 columns into the world."""
    columns = window_of(site.grid())[1]
    return np.arange(columns.start, columns.stop) >= 80


def land_site(**more):  # type: ignore[no-untyped-def]
    sources = {"s1": "none", "s2": "users/a/s2"}
    return a_site(sources=sources | more.pop("sources", {}), **more)


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("land") / "catalog"
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("users/a/s2")
    with_land(folder)
    return folder


def test_the_tree_of_the_survey_is_in_the_stack(land: Path, tmp_path: Path) -> None:
    with connect(BackendConfig(), land):
        found = survey(land_site())
        assert found.settled.bands is not None and "CART_LC_classified" in found.settled.bands
        assert found.landcover is not None
        assert found.landcover["accuracy"]["grouped"]["overall"] > 0.95
        made = stack.stack(land_site(), ["CART_LC_classified"], found.settled)
        assert "smileCart" not in made.serialize() and "reduceRegion" not in made.serialize()
        classes = pixels(made, land_site().grid())["CART_LC_classified"]
        water = in_water(land_site())
        assert (classes[:, ~water] == 2).all() and (classes[:, water] == 5).all()
    kept.save(tmp_path / "survey.json", "digest", found)
    again = kept.load(tmp_path / "survey.json", "digest")
    assert again == dataclasses.replace(found, requests=0)


def test_points_of_the_user_are_read_from_the_workspace(land: Path, tmp_path: Path) -> None:
    grid = land_site().grid()
    west, north = grid.transform.c, grid.transform.f
    rows = [(Point(west + 15 + 10 * k, north - 45), 7) for k in range(6)]
    rows += [(Point(west + 205 + 10 * k, north - 45), 8) for k in range(6)]
    frame = geopandas.GeoDataFrame(
        {"landcover": [c for _, c in rows]}, geometry=[g for g, _ in rows], crs=CRS
    )
    frame.to_file(tmp_path / "known.gpkg", engine="pyogrio")
    site = land_site(landcover_points="known.gpkg", sources={"landcover": "none"})
    with connect(BackendConfig(), land):
        found = survey(site, root=tmp_path)
        made = stack.stack(site, ["CART_LC_classified"], found.settled)
        classes = pixels(made, site.grid())["CART_LC_classified"]
        water = in_water(site)
        assert (classes[:, ~water] == 7).all() and (classes[:, water] == 8).all()
        assert found.landcover["points"]["per_class"] == {"bare rock": 6, "glacier, snow": 6}
        with pytest.raises(DataError, match=r"known\.gpkg does not exist"):
            survey(site, root=tmp_path / "elsewhere")


def test_a_part_without_points_has_no_land_cover(land: Path, tmp_path: Path) -> None:
    """Points lie where people went, not in every part of a large area."""
    frame = geopandas.GeoDataFrame({"landcover": [7]}, geometry=[Point(100, 0)], crs=4326)
    frame.to_file(tmp_path / "known.gpkg", engine="pyogrio")
    site = land_site(landcover_points="known.gpkg")
    grid = site.grid()
    pinned = (CRS, grid.transform.c, grid.transform.f, *grid.shape)
    part = Part(**site.model_dump(), area="place", mosaic="place-33", pinned=pinned)
    with connect(BackendConfig(), land):
        with pytest.raises(DataError, match="none of its features lies within site place"):
            survey(site, root=tmp_path)
        settled = survey(part, root=tmp_path).settled
    assert settled.bands is not None and "CART_LC_classified" not in settled.bands
    assert "none of its features lies within" in settled.left_out["CART_LC_classified"]


def test_points_of_an_asset_come_before_the_map(land: Path) -> None:
    site = land_site(sources={"landcover_points": "users/a/points"})
    a = site.grid().transform
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    rows = []
    for first, label in ((15, 3), (205, 6), (15, 0)):  # 0 is no class: passed over
        for k in range(6):
            place = to_degrees.transform(a.c + first + 10 * k, a.f - 45)
            point = {"type": "Point", "coordinates": place}
            rows.append({"geometry": point, "properties": {"landcover": label}})
    Catalog(land, writable=True).put_table("users/a/points", rows)
    with connect(BackendConfig(), land):
        found = survey(site)
    assert found.landcover is not None
    assert found.landcover["points"] == {
        "from": "users/a/points",
        "used": 12,
        "per_class": {"pasture, grass": 6, "wetland": 6},
    }
    missing = land_site(sources={"landcover_points": "users/a/never_made"})
    with connect(BackendConfig(), land), pytest.raises(DataError, match="never_made"):
        survey(missing)


def test_a_map_of_one_class_leaves_the_band_out_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    Catalog(folder, writable=True).put_collection("users/a/s2")
    with_land(folder)
    grid = world(10)
    catalog = Catalog(folder, writable=True)
    whole = np.full(grid.shape, 10, np.uint8)
    catalog.put_image("users/a/forest", [band("Map", whole, grid, pyramiding="MODE")])
    site = land_site(sources={"landcover": "users/a/forest"})
    with connect(BackendConfig(), folder):
        found = survey(site)
    assert found.landcover is None
    assert "CART_LC_classified" not in (found.settled.bands or ())
    assert (
        "of class forest, trees, scrub, herbaceous only"
        in (found.settled.left_out["CART_LC_classified"])
    )


@pytest.mark.parametrize("refused", [True, False])
def test_what_the_service_refuses_is_no_missing_band(
    monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """A map that does not fit leaves the land cover out; a refusal ends the survey in words."""
    from gee.exports import survey as module

    def fail(*_: object) -> None:
        cause = ee.EEException("User memory limit exceeded.") if refused else None
        raise DataError("no land cover", hint="leave it out") from cause

    monkeypatch.setattr(module, "learn", fail)
    settled = Settled(bands=("dNDVI", "CART_LC_classified"))

    def learned() -> Settled:
        return module._learn(a_site(), settled, lambda request: request(), Path())[0]

    if refused:
        with pytest.raises(DataError, match="no land cover"):
            learned()
    else:
        assert learned().bands == ("dNDVI",)
        assert learned().left_out == {"CART_LC_classified": "no land cover"}
