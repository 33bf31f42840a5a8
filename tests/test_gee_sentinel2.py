"""One mask for all of Sentinel-2: Cloud Score+ where it exists, else the scene classification."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import ee
import numpy as np
import pytest
from gee_world import (
    POST,
    PRE,
    S2_DATES,
    Array,
    World,
    _put,
    a_site,
    band,
    make_world,
    world,
)
from test_gee_scripts import pixels, window_of

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.scripts import context, landcover, sentinel2
from gee.scripts.settled import Settled
from gee.session import connect
from thawslump.errors import ConfigError

WITH = Settled(cloud_score=True)
SCORED = (*S2_DATES[:2], S2_DATES[3])  # one image of each window has no score
THRESHOLD = 0.35


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict]:
    made = make_world(tmp_path_factory.mktemp("scores") / "catalog")
    catalog = Catalog(made.folder, writable=True)
    catalog.put_collection(sentinel2.CLOUD_SCORE)
    catalog.put_collection("users/a/no_scores")
    dice = np.random.default_rng(2)
    scores = {}
    for date in SCORED:
        scores[date] = dice.random(world(10).shape).astype("float32")
        _put(catalog, sentinel2.CLOUD_SCORE, date, [band("cs_cdf", scores[date], world(10))], {})
    # A score of an image that the windows do not hold.
    _put(
        catalog, sentinel2.CLOUD_SCORE, "2019-07-01", [band("cs_cdf", scores[date], world(10))], {}
    )
    return made, scores


@pytest.fixture
def earth(built: tuple[World, dict]) -> Iterator[tuple[World, dict]]:
    with connect(BackendConfig(), built[0].folder):
        yield built


def expected_clear(earth: tuple[World, dict], date: str, score: bool) -> Array:
    """The rule in numpy, on the grid of the site."""
    made, scores = earth
    place = window_of(a_site().grid())
    scl = made.s2[date]["SCL"][place]
    if score and date in scores:
        return (scores[date][place] >= np.float32(THRESHOLD)) & ~np.isin(scl, [0, 1, 2, 11])
    return np.isin(scl, [4, 5, 6, 7])


def dates_of(window: object) -> tuple[str, ...]:
    return S2_DATES[:3] if window is PRE else S2_DATES[3:]


@pytest.mark.parametrize("score", [True, False])
def test_each_image_is_seen_by_the_rule(earth: tuple[World, dict], score: bool) -> None:
    "An image without a partner among the scores keeps its scene classification."
    site = a_site(cloud_score_threshold=THRESHOLD)
    for window in (PRE, POST):
        images = sentinel2.seen(site, window, WITH if score else None).toList(3)
        for number, date in enumerate(dates_of(window)):
            clear = pixels(ee.Image(images.get(number)).select("clear"), site.grid())["clear"]
            np.testing.assert_array_equal(clear, expected_clear(earth, date, score))


@pytest.mark.parametrize("score", [True, False])
def test_everything_sees_the_same_pixels(earth: tuple[World, dict], score: bool) -> None:
    """Composite, NDVI, its change, the counts and the picture of a day, against numpy."""
    made, _ = earth
    site = a_site(cloud_score_threshold=THRESHOLD)
    settled = WITH if score else Settled(cloud_score=False)
    place = window_of(site.grid())
    found, counts = {}, {}
    for window in (PRE, POST):
        clears = np.array([expected_clear(earth, d, score) for d in dates_of(window)])
        red, near = (
            np.array([made.s2[d][name][place].astype(float) for d in dates_of(window)])
            for name in ("B4", "B8")
        )
        values = np.where(clears, (near - red) / (near + red), -np.inf)
        best = values.max(axis=0)
        found[window], counts[window] = np.where(np.isinf(best), np.nan, best), clears.sum(axis=0)
        composite = pixels(sentinel2.greenest(site, window, settled), site.grid())
        np.testing.assert_allclose(composite["NDVI"], found[window], atol=1e-6)
        seen = pixels(sentinel2.observations(site, window, settled), site.grid())["observations"]
        np.testing.assert_array_equal(seen, counts[window])
        # Masked exactly where nothing was counted.
        np.testing.assert_array_equal(np.isnan(composite["B4"]), counts[window] == 0)
        assert (counts[window] == 0).any()
    change = pixels(sentinel2.dndvi(site, settled), site.grid())["dNDVI"]
    np.testing.assert_allclose(change, found[POST] - found[PRE], atol=1e-6)
    picture = pixels(context.context(site, settled), site.grid())
    np.testing.assert_array_equal(picture["pre_observations"], counts[PRE])
    np.testing.assert_array_equal(picture["post_observations"], counts[POST])
    np.testing.assert_array_equal(np.isnan(picture["pre_nir"]), counts[PRE] == 0)


def test_an_overpass_is_one_observation(tmp_path: Path) -> None:
    """Overlapping tiles of a day count once, also where UTC changes the date between them."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    catalog, grid = Catalog(folder, writable=True), world(10)
    catalog.put_collection("COPERNICUS/S2_SR_HARMONIZED")
    # At 15 degrees east the sun is an hour ahead of UTC.
    times = (
        "06-10T10:00",
        "06-10T10:01",
        "06-12T23:30",
        "06-13T00:30",
        "06-20T22:30",
        "06-20T23:30",
    )
    for number, time in enumerate(times):
        moment = dt.datetime.fromisoformat(f"2020-{time}:00+00:00")
        scl = np.full(grid.shape, 4, np.uint8)
        scl[:, : 80 + 10 * number] = 9  # each sees less of the west
        catalog.put_image(
            f"COPERNICUS/S2_SR_HARMONIZED/{number}",
            [band("SCL", scl, grid, pyramiding="SAMPLE")],
            start_ms=int(moment.timestamp() * 1000),
        )
    site = a_site()
    columns = window_of(site.grid())[1]
    place = np.arange(columns.start, columns.stop)
    days = ((0, 1), (2, 3), (4,), (5,))
    expected = sum((place >= min(80 + 10 * n for n in day)).astype(int) for day in days)
    with connect(BackendConfig(), folder):
        found = pixels(sentinel2.observations(site, PRE), site.grid())["observations"]
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
    assert expected.max() == 4


@pytest.mark.parametrize(
    ("longitude", "hours"), [(15.5, 1), (157.5, 10.5), (-179.0, -12), (179.0, 12), (0.1, 0)]
)
def test_the_sun_of_a_site_is_an_hour_ahead_every_15_degrees(
    longitude: float, hours: float
) -> None:
    bounds = (longitude - 0.01, 60.0, longitude + 0.01, 60.01)
    shift = sentinel2.solar_shift(a_site(bounds=bounds, crs=None))
    assert shift / 3_600_000 == pytest.approx(hours, abs=0.1)


def test_the_context_is_whole_numbers_of_two_bytes(earth: tuple[World, dict]) -> None:
    from thawslump.bands import CONTEXT

    image = context.context(a_site(), WITH)
    described = image.getInfo()["bands"]
    assert [b["id"] for b in described] == list(CONTEXT)
    assert {b["data_type"]["min"] for b in described} == {0}
    assert {b["data_type"]["max"] for b in described} == {65535}


def test_the_number_of_scores_counts_images_of_the_windows(earth: tuple[World, dict]) -> None:
    assert sentinel2.cloud_score_there(a_site()).getInfo() == len(SCORED)
    empty = a_site(sources={"cloud_score": "users/a/no_scores"})
    assert sentinel2.cloud_score_there(empty).getInfo() == 0


def test_a_collection_that_is_not_there_is_no_empty_one(earth: tuple[World, dict]) -> None:
    site = a_site(sources={"cloud_score": "users/a/never_made"})
    with pytest.raises(ee.EEException, match="not found"):
        sentinel2.cloud_score_there(site).getInfo()


@pytest.mark.parametrize(
    ("mask", "there", "expected"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("auto", None, False),
        ("scl", True, False),
        ("cloud_score", True, True),
        ("cloud_score", None, True),
    ],
)
def test_the_site_decides_and_auto_asks(mask: str, there: bool | None, expected: bool) -> None:
    assert sentinel2.by_score(a_site(cloud_mask=mask), Settled(cloud_score=there)) is expected


def test_scores_that_are_wanted_and_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="no image of its windows has a score in GOOGLE/CLOUD"):
        sentinel2.by_score(a_site(cloud_mask="cloud_score"), Settled(cloud_score=False))


def test_the_bits_of_qa60_are_read_nowhere(earth: tuple[World, dict]) -> None:
    for image in (
        sentinel2.dndvi(a_site(), WITH),
        context.context(a_site()),
        landcover.cart(a_site()),
    ):
        assert '"QA60"' not in image.serialize()


def test_scores_make_no_graph_of_their_own_size_per_image(earth: tuple[World, dict]) -> None:
    """One link for all images: a window of a year costs no more text than one of a month."""
    plain, with_scores = (
        len(sentinel2.dndvi(a_site(), s).serialize()) for s in (Settled(cloud_score=False), WITH)
    )
    assert with_scores < plain + 4000
