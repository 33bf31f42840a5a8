"""Cloud Score+ beside the scene classification, and how often the ground was seen."""

from __future__ import annotations

from collections.abc import Iterator

import ee
import numpy as np
import pytest
from gee_world import (
    POST,
    PRE,
    S2_DATES,
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
from gee.scripts import sentinel2
from gee.session import connect


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict]]:
    made = make_world(tmp_path_factory.mktemp("scores") / "catalog")
    catalog = Catalog(made.folder, writable=True)
    catalog.put_collection(sentinel2.CLOUD_SCORE)
    dice = np.random.default_rng(2)
    scores = {}
    for date in S2_DATES[:2]:  # the third image before the change has no scores
        scores[date] = dice.random(world(10).shape).astype("float32")
        _put(catalog, sentinel2.CLOUD_SCORE, date, [band("cs_cdf", scores[date], world(10))], {})
    with connect(BackendConfig(), made.folder):
        yield made, scores


def test_the_score_decides_where_there_is_one(earth: tuple[World, dict]) -> None:
    made, scores = earth
    site = a_site()
    place = window_of(site.grid())
    images = sentinel2.scored(sentinel2.collection(site, PRE), threshold=0.6)
    found = images.toList(3)
    for number, date in enumerate(S2_DATES[:3]):
        clear = pixels(ee.Image(found.get(number)).select("clear"), site.grid())["clear"]
        scl = made.s2[date]["SCL"][place]
        if date in scores:
            expected = (scores[date][place] >= 0.6) & ~np.isin(scl, [0, 1, 11])
        else:
            expected = np.isin(scl, sentinel2.CLEAR)
        np.testing.assert_array_equal(clear, expected)


def test_observations_are_counted_and_never_masked(earth: tuple[World, dict]) -> None:
    made, _ = earth
    site = a_site()
    place = window_of(site.grid())
    for window, dates in ((PRE, S2_DATES[:3]), (POST, S2_DATES[3:])):
        found = pixels(sentinel2.observations(site, window), site.grid())["observations"]
        expected = sum(
            np.isin(made.s2[d]["SCL"][place], sentinel2.CLEAR).astype(int) for d in dates
        )
        np.testing.assert_array_equal(found, expected)
        assert (found == 0).any()
