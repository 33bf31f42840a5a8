"""Every conditioning factor of the papers, against numpy on a made-up world."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator

import ee
import numpy as np
import pytest
import shapely
from gee_world import CRS, PRE, Array, a_site, band, centres, downhill, height, make_world, world
from pyproj import Transformer
from test_gee_scripts import pixels

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.grids import factor_grid
from gee.scripts import factors, hydrology
from gee.scripts.sources import FACTOR_SOURCES, SOURCES, attributions
from gee.session import connect
from thawslump.bands import BANDS, EMBEDDING
from thawslump.errors import ConfigError

TABLES = {"faults": "users/a/faults", "roads": "users/a/roads", "railway": "users/a/roads"}
MAPS = {"lithology": "users/a/rocks", "permafrost": "users/a/rocks"}
OWN = {**TABLES, **MAPS}


def upslope(x: Array, y: Array) -> Array:
    """Square kilometres that drain through a place; above 1 in a channel 60 m wide."""
    return np.where(np.abs(x - 501_000) < 45, 5.0, 0.02 + 1e-5 * np.abs(x - 501_000))


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Array]]:
    folder = tmp_path_factory.mktemp("factors") / "catalog"
    make_world(folder)
    catalog = Catalog(folder, writable=True)
    dem = world(30, margin=90)
    x, y = centres(dem)
    catalog.put_image("MERIT/Hydro/v1_0_1", [band("upa", upslope(x, y).astype("float32"), dem)])
    rocks = ((x // 90) % 3).astype("uint8")
    catalog.put_image("users/a/rocks", [band("class", rocks, dem, pyramiding="MODE")])
    catalog.put_collection("ESA/WorldCover/v200")
    catalog.put_image(
        "ESA/WorldCover/v200/a", [band("Map", rocks * 10 + 10, dem, pyramiding="MODE")]
    )
    dice = np.random.default_rng(4)
    catalog.put_collection("LANDSAT/LC08/C02/T1_L2")
    days, clouds = [], []
    for number, date in enumerate(("2020-06-10", "2020-07-10", "2021-07-10")):
        raw = dice.integers(40_000, 46_000, dem.shape).astype("uint16")
        quality = np.where(dice.random(dem.shape) < 0.3, 1 << dice.integers(1, 6), 64)
        time = dt.datetime.fromisoformat(f"{date}T10:00:00+00:00").timestamp() * 1000
        bands = [band("ST_B10", raw, dem), band("QA_PIXEL", quality.astype("uint16"), dem)]
        catalog.put_image(f"LANDSAT/LC08/C02/T1_L2/{number}", bands, {}, start_ms=int(time))
        days.append(raw * 0.00341802 + 149 - 273.15)
        clouds.append(quality != 64)
    catalog.put_collection("ECMWF/ERA5_LAND/MONTHLY_AGGR")
    coarse = world(1000, margin=3000)
    for year, month in [(2019, m) for m in range(1, 13)] + [(2020, m) for m in range(1, 13)]:
        rain = np.full(coarse.shape, (year - 2018) * 0.01 * month)
        time = dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp() * 1000
        catalog.put_image(
            f"ECMWF/ERA5_LAND/MONTHLY_AGGR/{year}{month:02d}",
            [band("total_precipitation_sum", rain.astype("float32"), coarse)],
            {},
            start_ms=int(time),
        )
    catalog.put_collection("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL")
    for year in (2019, 2020):
        time = dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp() * 1000
        axes = [
            band(name, np.full(dem.shape, year + number / 100, "float32"), dem)
            for number, name in enumerate(EMBEDDING)
        ]
        catalog.put_image(
            f"GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL/{year}", axes, {}, start_ms=int(time)
        )
    to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    for name, where in (("faults", 500_500.0), ("roads", 503_000.0)):
        line = [to.transform(where, north) for north in np.arange(6_755_000, 6_766_000, 500.0)]
        catalog.put_table(
            f"users/a/{name}",
            [
                {
                    "type": "Feature",
                    "geometry": shapely.geometry.mapping(shapely.LineString(line)),
                    "properties": {},
                }
            ],
        )
    with connect(BackendConfig(), folder):
        grid = factor_grid(a_site())
        yield {"days": np.stack(days), "clouds": np.stack(clouds), "x": centres(grid)[0]}


def computed(*names: str) -> dict[str, Array]:
    site = a_site(sources=OWN)
    return pixels(factors.factors(site, names), factor_grid(site))


def test_every_factor_has_unit_source_and_function() -> None:
    assert set(factors.NAMES) == set(FACTOR_SOURCES)
    for name in factors.NAMES:
        bands = EMBEDDING if name == "embedding" else (name,)
        assert all(b in BANDS for b in bands)
        assert set(FACTOR_SOURCES[name]) <= set(SOURCES)


def test_wetness_is_that_of_the_formula(earth: dict[str, Array]) -> None:
    found = computed("TWI", "SPI")
    grid = factor_grid(a_site())
    x, y = centres(grid)
    east, north = downhill(x, y)
    steep = np.maximum(np.hypot(east, north), math.tan(math.radians(hydrology.LEAST_SLOPE)))
    area = upslope(x, y) * 1e6 / 30
    away = np.abs(np.abs(x - 501_000) - 45) > 30  # pixels across the bank are either
    np.testing.assert_allclose(found["TWI"][away], np.log(area / steep)[away], atol=0.06)
    np.testing.assert_allclose(found["SPI"][away], (area * steep)[away], rtol=0.06)
    assert height(x, y).shape == found["TWI"].shape


def test_temperature_is_the_mean_of_clear_days_before(earth: dict[str, Array]) -> None:
    found = computed("LST")["LST"]
    site = a_site()
    grid, dem = factor_grid(site), world(30, margin=90)
    x, y = centres(grid)
    cols = ((x - dem.transform.c) // 30).astype(int)
    rows = ((dem.transform.f - y) // 30).astype(int)
    seen = np.where(earth["clouds"][:2], np.nan, earth["days"][:2])[:, rows, cols]
    count = np.isfinite(seen).sum(0)
    mean = np.where(count, np.nansum(seen, 0) / np.maximum(count, 1), np.nan)
    np.testing.assert_allclose(found, mean, atol=1e-3)


def test_precipitation_is_that_of_twelve_months(earth: dict[str, Array]) -> None:
    "PRE ends on 2020-09-01: September to December of 2019 and January to August of 2020."
    assert str(PRE.end) == "2020-09-01"
    expected = 10 * (9 + 10 + 11 + 12) + 20 * sum(range(1, 9))
    np.testing.assert_allclose(computed("precipitation")["precipitation"], expected, rtol=1e-5)


def test_distances_to_lines(earth: dict[str, Array]) -> None:
    found = computed("distance_faults", "distance_roads", "distance_railway")
    np.testing.assert_allclose(found["distance_faults"], np.abs(earth["x"] - 500_500), atol=12)
    np.testing.assert_allclose(found["distance_roads"], np.abs(earth["x"] - 503_000), atol=15)
    np.testing.assert_array_equal(found["distance_roads"], found["distance_railway"])


def test_rivers_are_channels_where_no_table_is_given(earth: dict[str, Array]) -> None:
    found = computed("distance_rivers")["distance_rivers"]
    expected = np.maximum(np.abs(earth["x"] - 501_000) - 30, 0)
    np.testing.assert_allclose(found, expected, atol=31)
    own = a_site(sources={**OWN, "rivers": "users/a/faults"})
    lines = pixels(factors.factors(own, ["distance_rivers"]), factor_grid(own))
    np.testing.assert_allclose(lines["distance_rivers"], np.abs(earth["x"] - 500_500), atol=12)


def test_classes_are_never_mixed(earth: dict[str, Array]) -> None:
    found = computed("lithology", "permafrost", "landcover")
    assert set(np.unique(found["lithology"])) <= {0, 1, 2}
    np.testing.assert_array_equal(found["lithology"], found["permafrost"])
    np.testing.assert_array_equal(found["landcover"], found["lithology"] * 10 + 10)


def test_the_embedding_is_of_the_year_before_and_has_all_axes(earth: dict[str, Array]) -> None:
    found = computed("embedding")
    assert tuple(found) == EMBEDDING
    assert np.allclose(found["A00"], 2019) and np.allclose(found["A63"], 2019.63)


def test_relief_comes_by_name(earth: dict[str, Array]) -> None:
    found = computed("TPI", "curvature", "plan_curvature", "profile_curvature", "TRI")
    total = found["plan_curvature"] + found["profile_curvature"]
    np.testing.assert_allclose(found["curvature"], total, atol=1e-7)
    assert found["TRI"].min() > 0


def test_what_has_no_default_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"no default for faults \(lines\)") as caught:
        factors.factors(a_site(), ["distance_faults"])
    assert "sources.faults" in str(caught.value.hint)
    with pytest.raises(ConfigError, match='no factor "TWY"'):
        factors.factors(a_site(), ["TWY"])


def test_terms_are_named_and_those_of_own_data_left_open() -> None:
    rows = {r["source"]: r for r in attributions(["upslope", "dem", "faults"], replaced=["dem"])}
    assert rows["upslope"]["non_commercial"] is True
    assert "10.1029/2019WR024873" in str(rows["upslope"]["attribution"])
    assert rows["dem"]["non_commercial"] is None and rows["faults"]["non_commercial"] is None


def test_scripts_ask_nothing(earth: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a script asked the service for a value")

    monkeypatch.setattr(ee.data, "computeValue", refuse)
    for name in set(factors.NAMES) - {"upslope_cut"}:
        factors.factors(a_site(sources=OWN), [name]).serialize()
