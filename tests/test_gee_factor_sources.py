"""Sources that cannot give a factor are refused before any pixel, in words that say what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gee_world import Array, a_site, band, make_world, world

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.exports.factor_sources import refuse_unfit
from gee.exports.survey import survey
from gee.session import connect
from thawslump.errors import ConfigError, DataError
from thawslump.site import Window


def at(day: str) -> int:
    return int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000)


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sources") / "catalog"
    make_world(folder)
    catalog = Catalog(folder, writable=True)
    grid = world(300, margin=3000)
    flat: Array = np.ones(grid.shape, "float32")
    catalog.put_image("users/a/map", [band("b", flat, grid)])
    catalog.put_collection("users/a/tiles")
    catalog.put_image("users/a/tiles/one", [band("b", flat, grid)])
    catalog.put_table("users/a/lines", [])
    for name, days in {
        # June 2020 is missing, and the year before has all twelve.
        "ECMWF/ERA5_LAND/MONTHLY_AGGR": [
            *(f"2018-{month:02d}-01" for month in range(1, 13)),
            *(f"2019-{month:02d}-01" for month in range(1, 13)),
            *(f"2020-{month:02d}-01" for month in (1, 2, 3, 4, 5, 7, 8)),
        ],
        "LANDSAT/LC08/C02/T1_L2": ["2021-07-01"],
        "GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL": ["2020-01-01"],
    }.items():
        catalog.put_collection(name)
        for day in days:
            image = f"{name}/{day.replace('-', '')}"
            catalog.put_image(image, [band("b", flat, grid)], {}, start_ms=at(day))
    with connect(BackendConfig(), folder):
        yield folder


def run(request: Callable[[], Any]) -> Any:
    return request()


def refused(factor: str, **changes: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        refuse_unfit(a_site(factors=(factor,), **changes), run)
    return caught.value


def test_a_month_of_rain_that_is_missing(earth: Path) -> None:
    error = refused("precipitation")
    assert "lacks 1 of the 12 months before the change: 2020-06." in error.message
    assert "would look like a dry year" in error.message
    assert "sources.precipitation" in str(error.hint)
    far = Window(start=dt.date(1949, 1, 1), end=dt.date(1949, 6, 15))
    early = refused("precipitation", pre=far)
    assert "lacks 12 of the 12 months" in early.message and "1948-06" in early.message
    whole = Window(start=dt.date(2019, 12, 1), end=dt.date(2020, 1, 20))
    site = a_site(factors=("precipitation",), pre=whole)
    assert refuse_unfit(site, run) == 1


def test_everything_that_is_missing_is_named_at_once(earth: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_unfit(a_site(factors="he2024", sources={"railway": "users/a/lines"}), run)
    names = "distance_faults, lithology, permafrost are made of"
    assert f"there is no default for what {names}" in caught.value.message
    assert "sources.faults, sources.lithology, sources.permafrost" in str(caught.value.hint)


def test_no_day_of_landsat(earth: Path) -> None:
    for factor in ("LST", "LST_days"):
        error = refused(factor)
        assert "has no image of it in the window pre (2020-06-01 .. 2020-09-01)" in error.message
        assert "degrees Celsius" in str(error.hint)


def test_a_year_without_embedding(earth: Path) -> None:
    error = refused("embedding")
    assert "shows nothing of it in 2019, the last whole year before" in error.message
    assert "It begins in 2017" in error.message


def test_an_asset_of_another_kind(earth: Path) -> None:
    error = refused("distance_faults", sources={"faults": "users/a/map"})
    assert "sources.faults is users/a/map, an image; a table of lines" in error.message
    error = refused("lithology", sources={"lithology": "users/a/lines"})
    assert "a table; an image was expected" in error.message
    assert "thawslump emulator ingest" in str(error.hint)
    error = refused("lithology", sources={"lithology": "users/a/tiles"})
    assert "Write users/a/tiles/*" in str(error.hint)
    error = refused("TWI", sources={"upslope": "users/a/map/*"})
    assert "Leave /* out for a single image" in str(error.hint)
    error = refused("permafrost", sources={"permafrost": "users/a/nothing"})
    assert "sources.permafrost is users/a/nothing, which cannot be read" in error.message
    assert "shared with the account" in str(error.hint)


def test_what_fits_takes_one_request_for_each_asset_of_the_users_own(earth: Path) -> None:
    own = {
        "lst": "users/a/map",
        "precipitation": "users/a/tiles/*",
        "faults": "users/a/lines",
        "landcover": "none",
        "upslope": "local",
        "roads": "data/roads.gpkg",
    }
    names = ("LST", "precipitation", "distance_faults", "TWI", "distance_roads", "slope")
    assert refuse_unfit(a_site(sources=own, factors=names), run) == 3
    assert refuse_unfit(a_site(), run) == 0


def test_the_survey_refuses_too(earth: Path) -> None:
    site = a_site(factors=("precipitation",), sources={"s1": "none"}, bands=("dNDVI",))
    with pytest.raises(DataError, match="lacks 1 of the 12 months"):
        survey(site, run)
