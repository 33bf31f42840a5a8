"""Every conditioning factor of the papers, against numpy on a made-up world."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator
from pathlib import Path

import ee
import numpy as np
import pytest
import shapely
from gee_world import (
    CRS,
    PRE,
    Array,
    a_site,
    band,
    centres,
    downhill,
    height,
    make_world,
    part_of,
    world,
)
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from ruamel.yaml import YAML
from scipy import ndimage
from test_gee_scripts import pixels

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.grids import factor_grid, padded
from gee.scripts import climate, factors, hydrology, relief
from gee.scripts.place import terrain_grid
from gee.scripts.sources import FACTOR_SOURCES, SOURCES, attributions
from gee.session import connect
from thawslump.bands import BANDS, EMBEDDING, FACTORS_HE2024, FACTORS_ZHANG2023
from thawslump.errors import ConfigError
from thawslump.site import Site, Window

TABLES = {"faults": "users/a/faults", "roads": "users/a/roads", "railway": "users/a/roads"}
MAPS = {"lithology": "users/a/rocks", "permafrost": "users/a/rocks"}
OWN = {**TABLES, **MAPS}


def upslope(x: Array, y: Array) -> Array:
    """Square kilometres that drain through a place; above 1 in a channel 60 m wide."""
    return np.where(np.abs(x - 501_000) < 45, 5.0, 0.02 + 1e-5 * np.abs(x - 501_000))


def put_as_tiles(catalog: Catalog, name: str, parts: dict[str, Array], grid: GeoBox) -> None:
    """Two halves that meet inside the site."""
    rows, cols = grid.shape
    catalog.put_collection(name)
    for side, first, last in (("west", 0, cols // 2 - 5), ("east", cols // 2 - 5, cols)):
        tile = part_of(grid, rows, last - first, first)
        halves = [
            band(key, value[:, first:last].astype("float32"), tile, pyramiding="MODE")
            for key, value in parts.items()
        ]
        catalog.put_image(f"{name}/{side}", halves)


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
    own = {
        "rocks": {"class": rocks},
        "temperature": {"t": (x - 500_000) / 100},
        "rain": {"mm": (6_762_000 - y) / 10},
        "area": {"m2": upslope(x, y) * 1e6},
        "axes": {name: x / 1e6 + number for number, name in enumerate(EMBEDDING)},
    }
    for name, parts in own.items():
        put_as_tiles(catalog, f"users/a/{name}_tiles", parts, dem)
        if name != "rocks":
            single = [band(key, value.astype("float32"), dem) for key, value in parts.items()]
            catalog.put_image(f"users/a/{name}", single)
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


def nearest(site: Site, values: Array) -> Array:
    """What a map on the DEM's grid shows at the factors' pixels, read without averaging."""
    dem = world(30, margin=90)
    x, y = centres(factor_grid(site))
    cols = ((x - dem.transform.c) // 30).astype(int)
    rows = ((dem.transform.f - y) // 30).astype(int)
    return values[rows, cols]


@pytest.mark.parametrize("form", ["", "_tiles/*"])
@pytest.mark.parametrize(
    ("key", "asset", "factor"),
    [
        ("lst", "temperature", "LST"),
        ("precipitation", "rain", "precipitation"),
        ("lithology", "rocks", "lithology"),
        ("permafrost", "rocks", "permafrost"),
        ("landcover", "rocks", "landcover"),
        ("embedding", "axes", "embedding"),
    ],
)
def test_maps_of_the_users_own_are_read_as_they_are(
    earth: dict[str, Array], key: str, asset: str, factor: str, form: str
) -> None:
    site = a_site(sources={key: f"users/a/{asset}{form}"})
    found = pixels(factors.factors(site, [factor]), factor_grid(site))
    x, y = centres(world(30, margin=90))
    expected = {
        "temperature": (x - 500_000) / 100,
        "rain": (6_762_000 - y) / 10,
        "rocks": (x // 90) % 3,
        "axes": x / 1e6,
    }[asset]
    name = "A00" if factor == "embedding" else factor
    np.testing.assert_allclose(found[name], nearest(site, expected), rtol=1e-5, atol=1e-5)
    if factor == "embedding":
        np.testing.assert_allclose(found["A63"], found["A00"] + 63, rtol=1e-5)


def test_where_a_map_ends_its_bands_are_there_and_empty(earth: dict[str, Array]) -> None:
    "A part of a large area beyond all tiles, days and years must not stop the others."
    tiled = {"lithology": "users/a/rocks_tiles/*", "upslope": "users/a/area_tiles/*"}
    site = a_site(sources=tiled, bounds=(15.3, 60.98, 15.31, 60.985))
    names = ["LST", "LST_days", "embedding", "lithology", "landcover", "distance_rivers"]
    found = pixels(factors.factors(site, names), factor_grid(site))
    assert tuple(found) == (*names[:2], *EMBEDDING, *names[3:])
    assert (found.pop("LST_days") == 0).all()
    assert (found.pop("distance_rivers") == 256 * 30).all()
    assert all(np.isnan(array).all() for array in found.values())


@pytest.mark.parametrize("form", ["", "_tiles/*"])
def test_an_upslope_area_of_the_users_own_is_in_square_metres(
    earth: dict[str, Array], form: str
) -> None:
    names = ["TWI", "SPI", "distance_rivers"]
    site = a_site(sources={"upslope": f"users/a/area{form}"})
    found = pixels(factors.factors(site, names), factor_grid(site))
    merit = computed(*names)
    for name in names:
        np.testing.assert_allclose(found[name], merit[name], rtol=1e-5)


def test_a_dem_of_the_users_own_gives_every_terrain_factor(earth: dict[str, Array]) -> None:
    names = ["elevation", "slope", "aspect", "slope_horn", "aspect_horn", *relief.BANDS]
    site = a_site(sources={"dem": "users/a/dem"})
    found = pixels(factors.factors(site, names), factor_grid(site))
    x, y = centres(factor_grid(site))
    np.testing.assert_allclose(found["elevation"], height(x, y), atol=0.3)
    east, north = downhill(x, y)
    steep = np.degrees(np.arctan(np.hypot(east, north)))
    facing = np.degrees(np.arctan2(east, north)) % 360
    for name in ("slope", "slope_horn"):
        np.testing.assert_allclose(found[name], steep, atol=0.3)
    for name in ("aspect", "aspect_horn"):
        np.testing.assert_allclose((found[name] - facing + 180) % 360 - 180, 0, atol=1.5)
    assert all(np.isfinite(array).all() for array in found.values())


def test_channels_are_as_far_as_scipy_says(earth: dict[str, Array]) -> None:
    "Within 256 pixels; beyond them everything counts as that far."
    site = a_site(sources={"upslope": "users/a/area"})
    grid = factor_grid(site)
    drawn = pixels(hydrology.channels(site).unmask(0, False), padded(grid, 900))["channel"]
    away = ndimage.distance_transform_edt(drawn == 0, sampling=30)[30:-30, 30:-30]
    found = pixels(factors.factors(site, ["distance_rivers"]), grid)["distance_rivers"]
    np.testing.assert_allclose(found, away, rtol=1e-6)
    dry = a_site(sources={"upslope": "users/a/rain"})  # nowhere 1 km2
    far = pixels(factors.factors(dry, ["distance_rivers"]), grid)["distance_rivers"]
    np.testing.assert_allclose(far, 256 * 30)


def test_clear_days_are_counted_and_fill_is_none(earth: dict[str, Array]) -> None:
    found = computed("LST", "LST_days")
    site = a_site()
    hidden = np.stack([nearest(site, day) for day in earth["clouds"][:2]])
    count = (~hidden.astype(bool)).sum(0)
    np.testing.assert_array_equal(found["LST_days"], count)
    assert {0, 1, 2} == set(np.unique(count))
    np.testing.assert_array_equal(np.isnan(found["LST"]), count == 0)
    with pytest.raises(ConfigError, match="counts clear days of Landsat"):
        factors.factors(a_site(sources={"lst": "users/a/temperature"}), ["LST_days"])


@pytest.mark.parametrize("bit", range(8))
def test_bits_of_quality_that_hide_the_ground(earth: dict[str, Array], bit: int) -> None:
    "Fill, dilated cloud, cirrus, cloud, shadow and snow hide it; clear (6) and water (7) do not."
    quality = ee.Image.constant(1 << bit).rename("QA_PIXEL").toUint16()
    numbers = ee.Image.constant(40_000).rename("ST_B10").toUint16()
    image = numbers.addBands(quality).set("system:time_start", 1_593_000_000_000)
    site = a_site()
    answer = climate.clear_temperature(image).reduceRegion(
        ee.Reducer.first(), ee.Geometry.Point(15.01, 60.99), 30
    )
    found = answer.getInfo()["LST"]
    assert site.pre is not None
    assert (found is None) == (bit < 6)
    if found is not None:
        assert found == pytest.approx(40_000 * 0.00341802 + 149.0 - 273.15, abs=1e-6)


def test_a_number_that_is_no_temperature_is_none(earth: dict[str, Array]) -> None:
    image = ee.Image.constant([0, 64]).rename(["ST_B10", "QA_PIXEL"]).toUint16()
    answer = climate.clear_temperature(image).reduceRegion(
        ee.Reducer.first(), ee.Geometry.Point(15.01, 60.99), 30
    )
    assert answer.getInfo()["LST"] is None  # not 149 K


def test_months_of_rain_are_whole_and_before_the_change() -> None:
    for end, months in (
        ("2020-09-01", ("2019-09-01", "2020-09-01")),
        ("2023-05-16", ("2022-05-01", "2023-05-01")),  # not the month of the event
        ("2020-01-01", ("2019-01-01", "2020-01-01")),
        ("2021-02-15", ("2020-02-01", "2021-02-01")),  # over the turn of the year
    ):
        window = Window(start=dt.date(2018, 1, 1), end=dt.date.fromisoformat(end))
        later = Window(start=dt.date(2024, 1, 1), end=dt.date(2024, 6, 1))
        found = climate.rain_months(a_site(pre=window, post=later))
        assert (str(found.start), str(found.end)) == months


def test_a_sum_of_fewer_months_is_no_sum(earth: dict[str, Array]) -> None:
    "The made-up months end with 2020: of the year up to 2021-03 ten are there."
    site = a_site(pre=Window(start=dt.date(2020, 12, 1), end=dt.date(2021, 3, 1)))
    found = pixels(factors.factors(site, ["precipitation"]), factor_grid(site))["precipitation"]
    assert np.isnan(found).all()


def test_sets_of_the_papers_are_asked_for_by_name(earth: dict[str, Array]) -> None:
    he, zhang = a_site(factors="he2024"), a_site(factors="zhang2023")
    assert he.factors == FACTORS_HE2024 and len(he.factors) == 14
    assert zhang.factors == FACTORS_ZHANG2023 and len(zhang.factors) == 17 - 3
    assert set(he.factors) | set(zhang.factors) <= set(factors.NAMES)
    assert Site.model_validate(he.model_dump(mode="json")).factors == he.factors
    with pytest.raises(ValueError, match='no set of factors "he2023"; there are he2024, zhang2023'):
        a_site(factors="he2023")
    for site in (he, zhang):
        whole = site.model_copy(update={"sources": OWN})
        found = pixels(factors.factors(whole, whole.factors), factor_grid(whole))
        assert tuple(found) == whole.factors
        shares = {name: np.isfinite(array).mean() for name, array in found.items()}
        # Clouds hide days of Landsat and Sentinel-2; nothing else is missing.
        assert all(share == 1 for name, share in shares.items() if name not in ("LST", "NDVI"))


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


def test_a_new_release_of_the_dem_is_no_dem_of_the_users_own() -> None:
    site = a_site(sources={"dem": "COPERNICUS/DEM/GLO30_2024_1"})
    assert terrain_grid(site).resolution.x == 30
    (row,) = attributions(["dem"], site.sources)
    assert row["id"] == "COPERNICUS/DEM/GLO30_2024_1" and row["non_commercial"] is False
    (row,) = attributions(["dem"], {"dem": "users/a/lidar"})
    assert row["non_commercial"] is None and "own data in place of" in str(row["title"])


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


def test_the_page_on_factors_names_them_all_and_its_settings_hold() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "factors.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    site = a_site(**YAML(typ="safe").load(block))
    assert site.factors == FACTORS_HE2024
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    listed = {name for row in rows if len(row) == 7 for name in row[1].strip().split(", ")}
    assert listed - {"factor"} == set(factors.NAMES)
    marked = {
        label: {name for row in rows if len(row) == 7 and row[column].strip() == "x"
                for name in row[1].strip().split(", ")}
        for label, column in (("he2024", 4), ("zhang2023", 5))
    }  # fmt: skip
    assert marked["he2024"] == set(FACTORS_HE2024) and marked["zhang2023"] == set(FACTORS_ZHANG2023)
    for key in re.findall(r"`(\w+)`: ", page):
        assert key in SOURCES
