"""What cannot be learned from is refused or left out in words that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from susceptibility_world import CONFIG, place, run_steps, settings, world

from thawslump import raster
from thawslump.errors import DataError
from thawslump.workspace import Workspace
from trainer.susceptibility import inputs, models, registry, table
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.files import Files
from trainer.susceptibility.steps import plan_samples
from trainer.susceptibility.steps.samples import draw
from trainer.susceptibility.table import Samples


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return world(tmp_path)


def change(
    workspace: Workspace,
    name: str,
    *,
    nodata: float | None = float("nan"),
    crs: str | None = None,
    scale: float = 1.0,
    shift: float = 0.0,
    drop: tuple[str, ...] = (),
    **bands: Any,
) -> None:
    """Rewrite factors: other bands (values, or a function of the old ones), grid, nodata."""
    path = workspace.factors(name)
    read = raster.read(path)
    held = {band: array for band, array in zip(read.names, read.array, strict=True)}
    for band, value in bands.items():
        old = held.get(band)
        if callable(value):
            assert old is not None
            held[band] = value(old.copy())
        else:
            held[band] = np.broadcast_to(value, read.array.shape[1:])
    held = {band: array for band, array in held.items() if band not in drop}
    a = read.grid.affine
    affine = Affine(a.a * scale, a.b, a.c + shift, a.d, a.e * scale, a.f)
    grid = GeoBox(read.grid.shape, affine, crs or read.grid.crs)
    stack = np.stack(list(held.values())).astype(np.float32)
    raster.write_cog(path, stack, grid, tuple(held), nodata=nodata)


def drawn(workspace: Workspace, *names: str, **changes: Any) -> Samples:
    sites = [(name, workspace.factors(name), workspace.labels(1, name)) for name in names]
    config = SusceptibilityConfig.model_validate({**CONFIG.model_dump(), **changes})
    return draw(sites, config)


def at(values: float, *cells: tuple[int, int]) -> Any:
    """Return a function that sets some cells."""

    def put(array: np.ndarray) -> np.ndarray:
        for cell in cells:
            array[cell] = values
        return array

    return put


# Names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["x", "Y", "lon", "LAT", "longitude", "latitude", "east", "north", "Easting", "northing", "row",
     "col", "column", "X_coord", "coord_x", "POINT_Y", "utm_x", "lon_wgs84", "pixel_row"],
)  # fmt: skip
def test_coordinates_are_no_predictors(name: str) -> None:
    assert inputs.no_predictor(name) == "a coordinate"


@pytest.mark.parametrize(
    "name",
    ["fid", "FID", "id", "uid", "OBJECTID", "ogc_fid", "gid", "slump_id", "uuid", "index", "site",
     "cell_id", "block", "fold"],
)  # fmt: skip
def test_identifiers_are_no_predictors(name: str) -> None:
    assert inputs.no_predictor(name) == "an identifier"


def test_no_factor_of_the_project_is_taken_for_one() -> None:
    "All bands that the software knows, and those of the surroundings, but two about quality"
    from thawslump.bands import BANDS

    refused = {name for name in BANDS if inputs.no_predictor(name) is not None}
    assert refused == {"upslope_cut", "LST_days"}
    for name in ("north@100", "east@30", "position@300", "acid", "humidity", "grid_slope", "void"):
        assert inputs.no_predictor(name) is None, name
    assert inputs.no_predictor("landslide") == "what is to be predicted"


def test_all_factors_leave_out_what_is_none_and_say_why(workspace: Workspace) -> None:
    "factors: [] takes the common bands in the order of the first site; the facts name the rest"
    ramp = np.tile(np.arange(80.0), (60, 1))
    for name in ("east", "north"):
        change(
            workspace, name, x=ramp, FID=ramp * 7, upslope_cut=(ramp % 9 == 0) * 1.0,
            slope_horn=ramp % 31, LST_days=ramp % 5, TWI=np.sqrt(ramp), only=ramp,
            constant=5.0,
        )  # fmt: skip
    change(workspace, "north", drop=("only",))
    found = drawn(workspace, "east", "north", factors=())
    assert list(found.factors) == ["elevation", "slope", "aspect", "NDVI", "TWI"]
    assert found.facts["left_out"] == {
        "x": "a coordinate",
        "FID": "an identifier",
        "upslope_cut": "no property of the ground: it says how far TWI and SPI can be trusted",
        "slope_horn": "slope by another convention",
        "LST_days": "no property of the ground: it counts the days behind LST",
        "only": "not in north",
        "constant": "5 in all samples",
    }
    # Asked for by name they are taken: a person may want to see what a coordinate does.
    asked = drawn(workspace, "east", "north", factors=("x", "slope_horn"))
    assert list(asked.factors) == ["x", "slope_horn"] and asked.facts["left_out"] == {}


def test_a_site_that_lacks_a_factor_is_named(workspace: Workspace) -> None:
    change(workspace, "north", drop=("NDVI",))
    with pytest.raises(DataError) as error:
        drawn(workspace, "east", "north")
    words = str(error.value)
    assert "Factor NDVI is not in" in words and "(site north)" in words
    assert "it has elevation, slope, aspect. east has it." in words
    assert "`thawslump tiles import north ... --factor NDVI=FILE.tif`" in words
    assert "`thawslump export run`" in words and "leave NDVI out of `factors:`" in words


def test_a_mistyped_factor_gets_the_nearest_name(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r'Factor elevaton is not in.*Did you mean "elevation"'):
        drawn(workspace, "east", factors=("elevaton",))


def test_a_mapped_site_that_lacks_a_factor_is_named_before_any_fit(workspace: Workspace) -> None:
    "The area is mapped at the end; that it cannot be is said at the start"
    change(workspace, "west", drop=("slope",))
    with pytest.raises(DataError, match=r"Factor slope is not in .*west.* \(site west\)"):
        run_steps(workspace, until="susceptibility-samples")
    settings(workspace, factors=())
    run_steps(workspace, until="susceptibility-samples")
    samples = table.read(Files(workspace, 1).samples)
    assert list(samples.factors) == ["elevation", "aspect", "NDVI"]
    assert samples.facts["left_out"] == {"slope": "not in west"}
    (item,) = plan_samples(workspace, 1)
    assert workspace.factors("west") in item.inputs


def test_a_factor_named_twice_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="Factor slope is asked for 2 times"):
        drawn(workspace, "east", factors=("slope", "NDVI", "slope"))


def test_no_common_factor_is_said(workspace: Workspace) -> None:
    change(workspace, "east", drop=("slope", "aspect", "NDVI", "elevation"), x=1.0)
    with pytest.raises(DataError, match="No factor is left that all 2 sites have: x is"):
        drawn(workspace, "east", "north", factors=())


def test_two_sites_of_one_name_are_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="Two sites are called east"):
        drawn(workspace, "east", "east")


# Grids -----------------------------------------------------------------------------------------


def test_cells_of_another_size_are_refused_with_the_command(workspace: Workspace) -> None:
    "One site of 30 m, one of 20 m with labels over the same ground"
    change(workspace, "north", scale=2 / 3)
    path = workspace.labels(1, "north")
    read = raster.read(path)
    a = read.grid.affine
    grid = GeoBox(read.grid.shape, Affine(a.a * 2 / 3, 0, a.c, 0, a.e * 2 / 3, a.f), read.grid.crs)
    raster.write_cog(path, read.array, grid, read.names, nodata=None, categorical=True)
    with pytest.raises(DataError) as error:
        drawn(workspace, "east", "north")
    words = str(error.value)
    assert "Factors of east have cells of 30 x 30 m, those of north of 20 x 20 m" in words
    assert "`thawslump tiles import north ... --resolution 30`" in words
    assert "`thawslump export run`" in words


def test_the_commands_that_are_named_exist() -> None:
    "Every option that an error names is one of the command"
    import typer
    from typer.main import get_command

    from gee.commands import app as export
    from thawslump.tiles_commands import app as tiles

    found = get_command(tiles).commands["import"]  # type: ignore[attr-defined]
    options = {option for each in found.params for option in each.opts}
    assert {"--factor", "--crs", "--resolution"} <= options
    assert isinstance(export, typer.Typer) and "run" in get_command(export).commands  # type: ignore[attr-defined]


def test_labels_beside_the_factors_are_refused(workspace: Workspace) -> None:
    "Shifted by half the width: half of the labels have no factor"
    change(workspace, "east", shift=30.0 * 40)
    with pytest.raises(DataError) as error:
        drawn(workspace, "east")
    words = str(error.value)
    assert "covers 50% of the labels of east" in words
    assert "`thawslump run` makes the labels of east again" in words
    assert "`thawslump tiles import east ... --factor NAME=FILE.tif`" in words


def test_labels_off_by_less_than_a_cell_are_taken(workspace: Workspace) -> None:
    "Grids of 10 and 30 m end within a cell of each other"
    change(workspace, "east", shift=20.0)
    assert drawn(workspace, "east").labels.sum() > 0


def test_labels_elsewhere_are_refused(workspace: Workspace) -> None:
    change(workspace, "east", shift=1e6)
    with pytest.raises(DataError, match=r"do not overlap: they reach from 510000, 7998200"):
        drawn(workspace, "east")


def test_labels_of_another_crs_are_refused(workspace: Workspace) -> None:
    change(workspace, "east", crs="EPSG:32653")
    with pytest.raises(DataError, match=r"labels of east are in EPSG:32652.*one coordinate system"):
        drawn(workspace, "east")


def test_factors_in_degrees_are_refused(workspace: Workspace) -> None:
    change(workspace, "east", crs="EPSG:4326", scale=1e-5)
    with pytest.raises(DataError, match=r"counts in degrees.*(\n.*)--crs EPSG:32652"):
        drawn(workspace, "east")


def test_labels_of_other_numbers_are_refused(workspace: Workspace) -> None:
    path = workspace.labels(1, "east")
    read = raster.read(path)
    read.array[0, 50, 50] = 2
    raster.write_cog(path, read.array, read.grid, read.names, nodata=None, categorical=True)
    with pytest.raises(DataError, match=r"holds 2; 1 \(slump\), 0 \(none\) and 255"):
        drawn(workspace, "east")


# Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [-9999.0, -32768.0, -99999.0, 32767.0, 1e38, -3.4028235e38])
def test_a_number_for_missing_values_is_refused(workspace: Workspace, number: float) -> None:
    "Names file, factor, value, share and what to do; a real value can be kept"
    change(workspace, "east", elevation=at(number, (20, 20), (20, 21), (40, 7)))
    with pytest.raises(DataError) as error:
        drawn(workspace, "east", "north")
    words = str(error.value)
    assert f"Factor elevation of site east ({workspace.factors('east')}) is {number:g}" in words
    assert "in 3 of 4560 cells looked at (0.1%)" in words and "elsewhere" in words
    assert f"`gdal_edit.py -a_nodata {number:g} FILE.tif`" in words
    assert "`thawslump tiles import east ... --factor elevation=FILE.tif`" in words
    assert "`nodata_check: false`" in words
    kept = drawn(workspace, "east", "north", nodata_check=False)
    assert list(kept.factors) == ["elevation", "slope", "aspect", "NDVI"]


def test_a_declared_number_is_missing(workspace: Workspace) -> None:
    change(workspace, "east", nodata=-9999.0, elevation=at(-9999.0, (20, 20), (20, 21)))
    found = drawn(workspace, "east")
    assert np.nanmin(found.factors["elevation"]) > 200


def test_zero_far_below_all_heights_is_refused_and_zero_among_values_is_not(
    workspace: Workspace,
) -> None:
    "Heights about 300 m: a 0 is none. NDVI and slope may well be 0"
    change(workspace, "east", slope=at(0.0, (20, 20)), NDVI=at(0.0, (30, 30)))
    drawn(workspace, "east")
    change(workspace, "east", elevation=at(0.0, *((30, n) for n in range(40))))
    with pytest.raises(DataError, match=r"elevation of site east .* is 0 in 40 of .*\(0\.9%\)"):
        drawn(workspace, "east")


def test_a_number_where_nobody_looked_is_nobody_s_worry(workspace: Workspace) -> None:
    "Rows of labels that are 255 may hold what they like: the samples are those drawn before"
    before = drawn(workspace, "east")
    change(workspace, "east", elevation=at(-9999.0, (58, 20)))
    after = drawn(workspace, "east")
    assert np.array_equal(before.features, after.features, equal_nan=True)
    assert np.array_equal(before.lonlat, after.lonlat)
    assert after.features.min() > -9999


@pytest.mark.parametrize("number", [np.inf, -np.inf])
def test_infinite_values_are_refused(workspace: Workspace, number: float) -> None:
    change(workspace, "north", slope=at(number, (11, 12)))
    with pytest.raises(DataError) as error:
        drawn(workspace, "east", "north", nodata_check=False)
    words = str(error.value)
    assert "Factor slope of site north" in words
    assert "is infinite in 1 of 4560 cells looked at (less than 0.1%)" in words
    assert "mark those cells as missing" in words


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.r_[np.linspace(0, 60_000, 999), [-9999] * 9], -9999),  # distances: a wide band
        (np.r_[np.linspace(2, 9, 99), np.linspace(-9990, 2, 3), [-9999] * 9], -9999),  # smeared
        (np.full(50, -9999.0), -9999),
        (np.r_[np.linspace(0, 100, 99), 255.0], 255),
        (np.linspace(-12_000, -8000, 4001), None),  # real depths pass through -9999
        (np.r_[np.arange(32_700.0, 32_800.0), 32_767.0], None),
        (np.linspace(0, 1, 9), None),
        (np.r_[0.0, np.linspace(2, 30, 99)], None),
        (np.full(9, 400.0), None),
        (np.r_[np.full(9, 400.0), 0.0], None),  # a step of its own: no range to compare with
        (np.array([np.nan, np.nan]), None),
    ],
)
def test_suspicious_numbers(values: np.ndarray, expected: float | None) -> None:
    "The same in one look and in many, in any order"
    rng = np.random.default_rng(0)
    for parts in (1, 7):
        watch = inputs.Watch()
        for part in np.array_split(rng.permutation(values), parts):
            watch.look(part.astype(np.float32))
        found = watch.suspect()
        assert (found and found[0]) == expected
        if found:
            assert found[1] == (values == expected).sum()


def test_classes_may_begin_at_zero_but_not_at_minus_9999() -> None:
    for values, expected in (((0.0, 40.0, 41.0), None), ((1.0, 2.0, -9999.0), -9999.0),
                             ((10.0, 100.0, 255.0), 255.0)):  # fmt: skip
        watch = inputs.Watch(classes=True)
        watch.look(np.array(values))
        found = watch.suspect()
        assert (found and found[0]) == expected


# Factors that tell nothing ---------------------------------------------------------------------


def test_a_factor_without_values_is_refused_where_asked_for(workspace: Workspace) -> None:
    for name in ("east", "north"):
        change(workspace, name, NDVI=np.nan)
    with pytest.raises(DataError, match=r"Factor NDVI has no value in any of the 236 samples"):
        drawn(workspace, "east", "north")
    found = drawn(workspace, "east", "north", factors=())
    assert list(found.factors) == ["elevation", "slope", "aspect"]
    assert found.facts["left_out"] == {"NDVI": "no value in any sample"}
    similar = drawn(workspace, "east", "north", factors=(), negatives="similar")
    assert list(similar.factors) == ["elevation", "slope", "aspect"]


def test_a_factor_missing_at_one_site_is_told_by_site(workspace: Workspace) -> None:
    change(workspace, "north", NDVI=np.nan)
    found = drawn(workspace, "east", "north")
    assert found.facts["missing"]["north"] == {"NDVI": 1.0}
    assert "NDVI" not in found.facts["missing"].get("east", {}) or (
        found.facts["missing"]["east"]["NDVI"] < 0.1
    )


def test_a_constant_factor_is_left_out_aloud(workspace: Workspace) -> None:
    "Also where it was asked for: it can tell nothing, and scaling would divide by 0"
    for name in ("east", "north"):
        change(workspace, name, NDVI=0.5)
    for factors in ((), ("slope", "NDVI")):
        for negatives in ("buffered", "similar"):
            found = drawn(workspace, "east", "north", factors=factors, negatives=negatives)
            assert "NDVI" not in found.factors
            assert found.facts["left_out"] == {"NDVI": "0.5 in all samples"}
    with pytest.raises(DataError, match=r"No factor tells the samples apart \(NDVI: 0.5 in all"):
        drawn(workspace, "east", "north", factors=("NDVI",))


def test_the_step_tells_what_was_left_out(workspace: Workspace) -> None:
    for name in ("east", "north", "south", "west"):
        change(workspace, name, NDVI=0.5)
    ((_, facts),) = run_steps(workspace, until="susceptibility-samples")
    assert facts["left_out"] == "NDVI: 0.5 in all samples"
    assert facts["factors"] == "elevation, slope, aspect"
    assert list(table.read(Files(workspace, 1).test_samples).factors) == [
        "elevation", "slope", "aspect"
    ]  # fmt: skip


def test_the_summary_says_how_samples_were_drawn(workspace: Workspace) -> None:
    "What the report reads: kinds, counts by site, what is missing and what was left out"
    for name in ("east", "north", "south", "west"):
        change(workspace, name, NDVI=0.5)
    settings(
        workspace, models=("logistic",), importance=0, applicability=False, negatives="similar",
        positives="centroid",
    )  # fmt: skip
    run_steps(workspace)
    told = json.loads(Files(workspace, 1).summary.read_text())["samples"]
    assert told["positives"] == "centroid" and told["negatives"] == "similar"
    assert told["left_out"] == {"NDVI": "0.5 in all samples"}
    assert told["negatives_drawn"] == told["negatives_wanted"] == 30
    assert sum(each["slumps"] for each in told["by_site"].values()) == 30
    assert set(told["standardised_differences"]) == {
        "elevation", "slope", "aspect_sine", "aspect_cosine"
    }  # fmt: skip


def test_classes_that_are_no_whole_numbers_are_refused(workspace: Workspace) -> None:
    rock = np.random.default_rng(0).uniform(1, 4, (60, 80))
    change(workspace, "east", lithology=rock)
    with pytest.raises(DataError, match=r"Factor lithology holds .*whole numbers.*\n.*nearest"):
        drawn(workspace, "east", factors=("lithology", "slope"))


def test_a_class_unseen_in_training_counts_as_missing_and_is_told_by_site(
    workspace: Workspace,
) -> None:
    "Class 9 only on the held-out site: no column, missing in the features, counted in the facts"
    rng = np.random.default_rng(0)
    for name in ("east", "north", "south", "west"):
        rock = rng.integers(1, 4, (60, 80)).astype(float)
        if name == "south":
            rock[:, ::2] = 9
        change(workspace, name, lithology=rock)
    settings(workspace, factors=("slope", "lithology"))
    run_steps(workspace, until="susceptibility-samples")
    files = Files(workspace, 1)
    learned, tested = table.read(files.samples), table.read(files.test_samples)
    assert learned.classes == tested.classes == {"lithology": (1, 2, 3)}
    told = learned.facts["class_samples"]["lithology"]
    for number in (1, 2, 3):
        for site, name in enumerate(learned.site_names):
            here = learned.factors["lithology"][learned.sites == site]
            assert told[str(number)][name] == (here == number).sum()
    strange = tested.factors["lithology"] == 9
    assert 0.3 < strange.mean() < 0.7
    assert tested.facts["unseen_classes"] == {"south": {"lithology": int(strange.sum())}}
    assert tested.facts["unseen_classes_policy"] == "counted as missing"
    columns = [n for n, name in enumerate(tested.feature_names) if "=" in name]
    assert np.isnan(tested.features[np.ix_(strange, columns)]).all()
    assert np.isfinite(tested.features[np.ix_(~strange, columns)]).all()


def test_a_class_that_a_fold_holds_out_counts_as_missing_in_it() -> None:
    "Class 3 is only in the test part: it is answered as a cell whose class is not known"
    rng = np.random.default_rng(0)
    rock, slope = rng.integers(1, 3, 300).astype(np.float32), rng.normal(size=300)
    labels = (rock + slope + rng.normal(size=300) > 1.5).astype(np.uint8)
    known = {"lithology": (1, 2, 3)}

    def features(rock: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return models.design({"lithology": rock, "slope": slope.astype(np.float32)}, known)

    factors = models.feature_factors(["lithology", "slope"], known)
    at = np.linspace(-2, 2, 5)
    for name in ("logistic", "forest", "boosting", "svc", "bagging"):
        model = registry.build(name, classes=(0, 1, 2), factors=factors, trees=20)
        model.fit(features(rock, slope), labels)
        said = [
            model.predict_proba(features(np.full(5, each, np.float32), at))[:, 1]
            for each in (1, 2, 3, np.nan)
        ]
        assert np.array_equal(said[2], said[3]), name
        if name == "logistic":  # between those of the classes that it knows
            assert ((said[0] < said[2]) & (said[2] < said[1])).all()


# Too little ------------------------------------------------------------------------------------


def label(workspace: Workspace, name: str, marks: Any) -> None:
    path = workspace.labels(1, name)
    read = raster.read(path)
    raster.write_cog(path, marks(read.array), read.grid, read.names, nodata=None, categorical=True)


def one_slump(array: np.ndarray, side: int = 3) -> np.ndarray:
    array = array * 0
    array[0, 30 : 30 + side, 30 : 30 + side] = 1
    return array


def test_no_slump_at_all_is_said(workspace: Workspace) -> None:
    for name in ("east", "north"):
        label(workspace, name, lambda array: array * 0)
    with pytest.raises(DataError) as error:
        drawn(workspace, "east", "north")
    assert "The labels of 2 sites hold 0 slumps" in str(error.value)
    assert "Import outlines, or accept candidates in the review." in str(error.value)


def test_one_cell_with_a_slump_is_too_little(workspace: Workspace) -> None:
    label(workspace, "east", one_slump)
    with pytest.raises(DataError, match="of 1 site hold 1 slump, 1 of them where there are"):
        drawn(workspace, "east")


def test_one_slump_ends_the_run_in_words(workspace: Workspace) -> None:
    "Four cells of one slump on one site: samples can be drawn, but no folds keep ground apart"
    label(workspace, "east", lambda array: one_slump(array, 12))
    label(workspace, "north", lambda array: array * 0)
    settings(workspace, negatives_per_positive=20.0)
    run_steps(workspace, until="susceptibility-samples")
    assert table.read(Files(workspace, 1).samples).facts["n_slumps"] == 1
    with pytest.raises(DataError, match="slump") as error:
        run_steps(workspace)
    assert error.value.hint


def test_fewer_slumps_than_folds_end_the_run_in_words(workspace: Workspace) -> None:
    "Two slumps of one sample each cannot be dealt to five folds; what to set is said"

    def two(array: np.ndarray) -> np.ndarray:
        return one_slump(array, 6) | np.roll(one_slump(array, 6), 60, 2)

    label(workspace, "east", two)
    for name in ("north", "south"):
        label(workspace, name, lambda array: array * 0)
    settings(workspace, positives="one", factors=("slope", "NDVI"), models=("logistic",))
    run_steps(workspace, until="susceptibility-select")
    with pytest.raises(DataError) as error:
        run_steps(workspace)
    assert "2 slump samples and 2 others for 5 folds" in str(error.value)
    assert "Set folds to 2 or fewer" in str(error.value)


def test_no_ground_without_a_slump_is_said(workspace: Workspace) -> None:
    with pytest.raises(DataError) as error:
        drawn(workspace, "east", buffer=9000.0)
    assert "Looked at and without a slump: 0 cells beyond 9000 m of every one" in str(error.value)
    assert "Make buffer smaller" in str(error.value)


def test_a_held_out_site_without_slumps_says_nothing_and_why(workspace: Workspace) -> None:
    label(workspace, "south", lambda array: array * 0)
    run_steps(workspace, until="susceptibility-samples")
    tested = table.read(Files(workspace, 1).test_samples)
    assert len(tested.labels) == 0 and "hold 0 slumps" in tested.facts["nothing"]


def test_a_held_out_site_with_bad_factors_is_refused_all_the_same(workspace: Workspace) -> None:
    change(workspace, "south", slope=at(np.inf, (11, 12)))
    with pytest.raises(DataError, match="Factor slope of site south"):
        run_steps(workspace, until="susceptibility-samples")


def test_a_site_that_was_not_labelled_stays_unread(workspace: Workspace) -> None:
    "An area is mapped only: its values do not stop the samples, nor change them"
    run_steps(workspace, until="susceptibility-samples")
    before = table.read(Files(workspace, 1).samples)
    place(workspace, "far", "area", 5, labelled=False)
    change(workspace, "far", slope=at(-9999.0, (11, 12)))
    run_steps(workspace, until="susceptibility-samples")
    after = table.read(Files(workspace, 1).samples)
    assert after.site_names == before.site_names and "far" not in after.site_names
    assert np.array_equal(before.features, after.features, equal_nan=True)
