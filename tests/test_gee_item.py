"""What stands beside the tiles: bands, dates and shares in the item, names and terms everywhere."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pystac
import pytest
import rasterio
from gee_world import World, a_site, make_world
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from test_gee_export import a_workspace, exported

from gee.exports import credits
from gee.exports.item import _dates, _period, statistics
from gee.exports.products import Product
from gee.exports.survey import Picture, Survey
from gee.scripts.settled import Settled
from thawslump import options
from thawslump.cli import main
from thawslump.workspace import Workspace

S2_PRE = ["2020-06-10", "2020-07-10", "2020-08-10"]
S2_POST = ["2021-06-12", "2021-07-12", "2021-08-12"]
S1_PRE = ["2020-06-05", "2020-06-17", "2020-06-29"]
S1_POST = ["2021-06-05", "2021-06-17", "2021-06-29"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("item") / "catalog")


@pytest.fixture(scope="module")
def workspace(made: World, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = a_workspace(tmp_path_factory.mktemp("item"), made.folder)
    exported(found)
    return found


@pytest.fixture
def facts(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(workspace.item("place").read_text())
    return found


def bands(facts: dict[str, Any], asset: str) -> dict[str, dict[str, Any]]:
    return {band["name"]: band for band in facts["assets"][asset]["bands"]}


def test_the_item_keeps_to_the_schema(facts: dict[str, Any]) -> None:
    """Of STAC 1.1; the schemas of extensions are not on this machine, so their parts by hand."""
    assert facts["stac_version"] == "1.1.0"
    known = get_local_schema_cache()
    registry = Registry().with_resources(
        [(name, Resource.from_contents(schema)) for name, schema in known.items()]
    )
    (item,) = (schema for name, schema in known.items() if name.endswith("item.json"))
    validator = jsonschema.Draft7Validator(item, registry=registry)
    assert [error.message for error in validator.iter_errors(facts)] == []
    facts["properties"]["datetime"] = 5
    assert list(validator.iter_errors(facts))  # it does see faults


def test_the_extensions_read_what_was_written(workspace: Workspace) -> None:
    item = pystac.Item.from_file(str(workspace.item("place")))
    projection = ProjectionExtension.ext(item)
    with rasterio.open(workspace.stack("place")) as source:
        assert projection.epsg == source.crs.to_epsg() == 32633
        assert projection.shape == list(source.shape)
        assert projection.transform == list(source.transform)[:6]
    for asset in item.assets.values():
        file = FileExtension.ext(asset)
        assert file.size == Path(asset.get_absolute_href() or "").stat().st_size
        assert file.checksum is not None and file.checksum.startswith("1220")
        assert set(asset.extra_fields["processing:expression"]) == {"format", "expression"}
        for band in asset.extra_fields["bands"]:
            assert {"name", "unit", "data_type", "nodata", "statistics"} <= set(band)


def test_each_band_tells_the_dates_that_went_into_it(facts: dict[str, Any]) -> None:
    found = {
        name: band["thawslump:dates"]
        for asset in facts["assets"]
        for name, band in bands(facts, asset).items()
    }
    for name, dates in {
        "preVV": S1_PRE, "postVH": S1_POST, "dVH": S1_PRE + S1_POST, "liaDeg": S1_PRE + S1_POST,
        "dNDVI": S2_PRE + S2_POST, "pre_red": S2_PRE, "post_nir": S2_POST, "NDVI": S2_PRE,
        "pre_observations": S2_PRE, "slope": [], "hillshade": [], "elevation": [],
    }.items():  # fmt: skip
        assert found[name] == dates, name


def test_sums_and_means_tell_the_months_that_they_are_of() -> None:
    site = a_site()
    assert _period("precipitation", site) == ["2019-09-01", "2020-09-01"]
    assert _period("LST", site) == ["2020-06-01", "2020-09-01"]
    assert _period("A07", site) == ["2019-01-01", "2020-01-01"]
    assert _period("slope", site) is None
    # A map of the user's own has no months that are known.
    assert _period("LST", a_site(sources={"lst": "users/a/lst"})) is None


def test_the_land_cover_tells_the_one_day_that_it_saw() -> None:
    survey = a_survey(clear_day=dt.date(2020, 7, 2))
    assert _dates("CART_LC_classified", ("s2", "s1"), survey) == ["2020-07-02"]
    assert _dates("NDVI", ("s2",), survey) == ["2020-07-01"]


def test_each_band_tells_unit_sources_and_meaning(facts: dict[str, Any]) -> None:
    stack = bands(facts, "stack")
    assert stack["preVV"]["unit"] == "dB"
    assert stack["preVV"]["thawslump:sources"] == ["COPERNICUS/S1_GRD", "COPERNICUS/DEM/GLO30"]
    assert stack["dNDVI"]["thawslump:sources"] == ["COPERNICUS/S2_SR_HARMONIZED"]
    assert stack["slope"]["description"].startswith("steepness of the terrain; from COPERNICUS/DEM")
    context = bands(facts, "context")
    assert context["post_nir"]["description"].startswith("near infrared (B8) after, greenest pixel")
    assert context["hillshade"]["thawslump:sources"] == ["COPERNICUS/DEM/GLO30"]


def test_the_share_of_pixels_without_data_is_that_of_the_file(
    workspace: Workspace, facts: dict[str, Any]
) -> None:
    for asset in ("stack", "context", "factors"):
        with rasterio.open(workspace.tiles("place") / f"{asset}.tif") as source:
            array = source.read(masked=True)
            for name, values in zip(source.descriptions, array, strict=True):
                values = np.ma.masked_invalid(values)
                found = bands(facts, asset)[name]["statistics"]
                assert found["valid_percent"] == pytest.approx(
                    100 * (~values.mask).mean(), abs=1e-3
                )
                assert found["minimum"] == pytest.approx(values.min(), rel=1e-6)
                assert found["maximum"] == pytest.approx(values.max(), rel=1e-6)


def test_statistics_of_an_empty_band() -> None:
    product = Product(
        "stack",
        None,
        None,
        ("a", "b"),
        "float32",
        -99999.0,
        float("nan"),
        ("1",) * 2,
        ("x",) * 2,  # type: ignore[arg-type]
    )
    array = np.array([[[np.nan, np.nan]], [[np.nan, 2.5]]], "float32")
    assert statistics(product, array) == [
        {"valid_percent": 0.0},
        {"valid_percent": 50.0, "minimum": 2.5, "maximum": 2.5},
    ]


def test_what_was_decided_for_the_site(facts: dict[str, Any]) -> None:
    found = facts["properties"]
    assert found["thawslump:slope_correction"] in ("volume", "surface")
    assert f"model {found['thawslump:slope_correction']}" in found["processing:lineage"]
    assert abs(found["thawslump:look_direction"] - 104) < 3  # descending, as the world is made
    assert 37 < found["thawslump:incidence"] < 39
    assert (found["thawslump:speckle_filter"], found["thawslump:cast_shadow"]) == (None, False)
    assert found["thawslump:cloud_mask"] == "scl"
    assert found["thawslump:left_out"]["KG_climate"] == "sources.climate names no asset"
    named = {row["source"]: row for row in found["thawslump:attributions"]}
    assert set(named) == {"s1", "s2", "dem"}
    assert "modified Copernicus Sentinel data" in named["s1"]["attribution"]
    assert found["thawslump:warnings"] == []


def test_files_carry_names_and_terms(workspace: Workspace) -> None:
    with rasterio.open(workspace.tiles("place") / "context.tif") as source:
        tags = source.tags()
    assert "modified Copernicus Sentinel data" in tags["attribution"]
    assert "DLR e.V." in tags["TIFFTAG_COPYRIGHT"]
    assert "Copernicus DEM GLO-30: Copernicus DEM terms" in tags["licence"]
    assert "warning" not in tags


def a_survey(**settled: Any) -> Survey:
    day = dt.date(2020, 7, 1)
    return Survey({("s2", "pre"): (Picture("a", day, None, False),)}, Settled(**settled), 1)


def test_terms_that_exclude_commercial_use_are_in_the_file() -> None:
    tags = credits.tags("factors", ("TWI", "slope"), a_site(factors=("TWI", "slope")), a_survey())
    assert tags["warning"].startswith("not free for commercial use: MERIT Hydro")
    assert "Yamazaki" in tags["attribution"] and tags["TIFFTAG_COPYRIGHT"].isascii()
    # Data that the user names instead: their terms are not known, and not warned of.
    own = a_site(factors=("TWI",), sources={"upslope": "users/a/upslope"})
    tags = credits.tags("factors", ("TWI",), own, a_survey())
    assert "warning" not in tags and "to be given by whoever brings" in tags["attribution"]


def test_made_up_data_are_nobodys() -> None:
    tags = credits.tags("stack", ("preVV",), a_site(made_up=True), a_survey())
    assert tags == {"attribution": "made-up data: nobody is to be named"}


def test_the_map_that_chose_the_model_is_a_source() -> None:
    site = a_site()
    chosen = Settled(vegetated=0.7, model="volume", cloud_score=True)
    assert credits.sources_of("dVV", "stack", site, chosen) == ("s1", "dem", "landcover")
    assert "landcover" not in credits.sources_of("liaDeg", "stack", site, chosen)
    assert credits.sources_of("dVV", "stack", site, Settled(model="none")) == ("s1",)
    assert credits.sources_of("dNDVI", "stack", site, chosen) == ("s2", "cloud_score")
    assert credits.sources_of("post_red", "context", site, Settled()) == ("s2",)
    assert credits.sources_of("A07", "factors", site, chosen) == ("embedding",)
    assert credits.sources_of("distance_rivers", "factors", site, chosen) == ("upslope",)


def test_the_run_warns_once_for_all_sites(
    workspace: Workspace, made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mine = a_workspace(tmp_path, made.folder, a_site(factors=("TWI", "SPI")))
    started: list[str] = []
    monkeypatch.setattr(
        "thawslump.pipeline.run", lambda workspace, **more: started.append(more["until"])
    )
    monkeypatch.chdir(mine.root)
    with pytest.raises(SystemExit, match="0"):
        main(["export", "run"])
    said = capsys.readouterr().err
    assert started == ["export"]
    assert said.count("Warning: not free for commercial use: MERIT Hydro") == 1
    assert said.rstrip().endswith("place")
    monkeypatch.chdir(workspace.root)
    with pytest.raises(SystemExit, match="0"):
        main(["export", "run"])
    assert "Warning" not in capsys.readouterr().err
    options.current.workspace = Path()
