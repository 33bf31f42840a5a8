"""Classes of all maps, what lies in them, and their figures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer
from susceptibility_world import CRS, run_steps, settings, world

from thawslump import raster
from thawslump.errors import DataError
from thawslump.workspace import Workspace
from trainer.susceptibility import map_figures, mapping, samples, table
from trainer.susceptibility.analysis import frequency_ratio
from trainer.susceptibility.files import Files
from trainer.susceptibility.legend import class_words
from trainer.susceptibility.map_figures import Panel, pieces, side_by_side
from trainer.susceptibility.steps.classes import few_classes, frequency_ratios, shares
from trainer.susceptibility.steps.map import cuts_of
from trainer.susceptibility.tally import Cut, Tally

SITES = ("east", "north", "south", "west")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished round with two models side by side and deformation points."""
    held = world(tmp_path_factory.mktemp("world"))
    dice = np.random.default_rng(0)
    x = 510_000 + dice.uniform(-500, 2400, 500)
    y = 8_000_000 - dice.uniform(0, 1800, 500)
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(x, y)
    frame = pd.DataFrame({"lon": lon, "lat": lat, "vel_mm_yr": dice.normal(0, 8, 500)})
    frame.to_csv(held.root / "points.csv", index=False)
    settings(held, side_by_side=True, deformation="points.csv", importance=0)
    run_steps(held)
    return held


def summary(workspace: Workspace) -> dict[str, Any]:
    return json.loads(Files(workspace, 1).summary.read_text())


def slumps_of(workspace: Workspace, site: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where labels say what is there, and which cells stand for slumps."""
    labels = raster.read(workspace.labels(1, site))
    grid = raster.grid_of(workspace.factors(site))
    shape, marks = tuple(grid.shape), labels.array[0]
    counts = samples.count_labels(marks, labels.grid.affine, shape, grid.affine)
    runs = samples.runs_of(marks == 1)
    cells = samples.slump_cells(runs, labels.grid.affine, shape, grid.affine).cells
    hit = np.zeros(shape[0] * shape[1], bool)
    hit[cells] = True
    return (counts.slump + counts.clear) > 0, hit.reshape(shape)


def test_shares_are_those_of_maps_and_labels(workspace: Workspace) -> None:
    "Counted again from the rasters: area, slumps of held-out sites, slumps of all"
    report, files = summary(workspace), Files(workspace, 1)
    chosen = report["map_model"]
    assert set(report["classes_by_model"]) == {"logistic", "forest"}
    for model, each in report["classes_by_model"].items():
        upper, found = each["upper_probability"], {}
        assert len(upper) == 5 and each["names"] == list(class_words(5))
        assert each["fewer_than_asked"] is None
        for site in SITES:
            path = files.probability(site, None if model == chosen else model)
            with rasterio.open(path) as source:
                stored = source.read(1)
            classes = mapping.classify(stored, np.rint(np.array(upper) * 10_000))
            found[site] = np.where(stored == mapping.NODATA, 0, classes)
        area = np.bincount(np.concatenate([each.ravel() for each in found.values()]))[1:]
        assert each["share_of_area"] == pytest.approx(area / area.sum())
        held, total = [], []
        for site in ("east", "north", "south"):
            seen, hit = slumps_of(workspace, site)
            inside = found[site][(seen | hit) & hit & (found[site] > 0)]
            total.append(inside)
            if site == "south":
                held.append(inside)
        for key, parts in (
            ("held_out_sites", held), ("by_the_map_flattering", total)
        ):  # fmt: skip
            counts = np.bincount(np.concatenate(parts), minlength=6)[1:]
            assert each[f"share_of_slump_cells_{key}"] == pytest.approx(counts / counts.sum())
        assert each["slump_cells_held_out_sites"] == sum(part.size for part in held) > 0
        assert sum(each["share_of_slump_cells_out_of_fold"]) == pytest.approx(1)
    assert (
        report["classes"]["share_of_area"] == (report["classes_by_model"][chosen]["share_of_area"])
    )
    # Fitted on the slumps it is then shown, a forest finds nearly all of them again.
    forest = report["classes_by_model"]["forest"]
    assert (
        forest["share_of_slump_cells_by_the_map_flattering"][-1]
        > (forest["share_of_slump_cells_held_out_sites"][-1])
    )


def test_frequency_ratios_are_those_of_the_definition(workspace: Workspace) -> None:
    "Every class of every factor, slumps and high ground, counted again cell by cell"
    report, files = summary(workspace), Files(workspace, 1)
    upper = report["classes"]["upper_probability"]
    cuts = {cut.factor: cut for cut in cuts_of(table.read(files.samples), 8, 0.05)}
    values: dict[str, list[np.ndarray]] = {name: [] for name in cuts}
    looked, slumps, high = [], [], []
    for site in SITES:
        read = raster.read_float(workspace.factors(site), tuple(cuts))
        with rasterio.open(files.probability(site)) as source:
            stored = source.read(1)
        valid = stored != mapping.NODATA
        for name, band in zip(read.names, read.array, strict=True):
            values[name].append(band[valid])
        high.append(stored[valid] > round(upper[2] * 10_000))
        if site == "west":
            seen = hit = np.zeros_like(valid)
        else:
            seen, hit = slumps_of(workspace, site)
        looked.append((seen | hit)[valid])
        slumps.append(hit[valid])
    seen, hit, above = (np.concatenate(each) for each in (looked, slumps, high))
    rows = list(csv.DictReader(io.StringIO(files.ratios.read_text())))
    assert {row["factor"] for row in rows} == set(cuts) == {"elevation", "slope", "aspect", "NDVI"}
    for name, cut in cuts.items():
        codes = cut.codes(np.concatenate(values[name]))
        of_slumps = frequency_ratio(codes[seen], hit[seen])
        of_high = frequency_ratio(codes, above)
        mine = {row["class"]: row for row in rows if row["factor"] == name}
        for code, ratio in zip(of_high.codes, of_high.ratio, strict=True):
            assert float(mine[cut.words[code]]["high_ratio"]) == pytest.approx(ratio, abs=1e-9)
        for code, ratio in zip(of_slumps.codes, of_slumps.ratio, strict=True):
            assert float(mine[cut.words[code]]["slumps_ratio"]) == pytest.approx(ratio, abs=1e-9)
    assert len(report["frequency_ratios"]) == len(rows)
    steep = [row for row in rows if row["factor"] == "slope"]
    assert float(steep[-1]["slumps_ratio"]) > 2 > float(steep[0]["slumps_ratio"])
    assert any(row["class"] == "missing" for row in rows if row["factor"] == "NDVI")


def test_points_and_models_are_laid_over_each_other(workspace: Workspace) -> None:
    report, files = summary(workspace), Files(workspace, 1)
    moving = report["deformation"]
    assert moving["points"] + moving["points_off_the_maps"] == 500
    assert moving["points_off_the_maps"] > 50 and moving["column"] == "vel_mm_yr"
    assert [each["name"] for each in moving["classes"]] == list(class_words(5))
    assert sum(each["points"] for each in moving["classes"]) == moving["points"]
    with rasterio.open(files.models_spread("west")) as source:
        assert source.tags()["models"] == "logistic, forest" or (
            source.tags()["models"] == "forest, logistic"
        )
        mean, spread = source.read()
    valid = spread != mapping.NODATA
    assert valid.sum() == 60 * 80 - 1 and 0 < spread[valid].max() <= 5000
    assert mean[valid].max() <= 10_000


def test_figures_are_drawn_and_say_that_data_are_made_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(workspace, 1)
    for name in (*map_figures.FIGURES, "deformation"):
        with Image.open(files.figure(name)) as image:
            assert image.format == "PNG" and image.width == 1200 and image.height > 300
            grey = np.asarray(image.convert("L"))
            assert (grey < 250).mean() > 0.05  # not an empty sheet
    told: list[str] = []
    new = map_figures.new_page
    monkeypatch.setattr(
        map_figures,
        "new_page",
        lambda h, made_up, title: told.append(title) or new(h, made_up, title),
    )
    panel = Panel("a", np.ones((30, 300), np.uint8), 30.0, (0, 300, 0, 30))
    plain = side_by_side([panel], 1, "one class", False)
    marked = side_by_side([panel], 1, "one class", True)
    assert told == ["one class"] * 2 and plain != marked
    assert side_by_side([panel], 1, "one class", False) == plain
    tall = Panel("b", np.ones((300, 30), np.uint8), 30.0, (0, 30, 0, 300))
    assert side_by_side([tall] * 7, 9, "nine classes", False).startswith(b"\x89PNG")


def test_pieces_cover_each_map_and_are_few() -> None:
    sizes = {f"s{number}": (100 + number, 900) for number in range(3)}
    found = pieces(sizes)
    assert len(found) == 9
    for site, (height, width) in sizes.items():
        mine = [window for name, window, _ in found if name == site]
        assert sum(window[2] * window[3] for window in mine) == height * width
        assert all(window[3] == height for window in mine)
        assert [window[0] for window in mine] == sorted(window[0] for window in mine)
    many = {f"s{number}": (10, 10 + number) for number in range(30)}
    assert [site for site, _, _ in pieces(many)] == [f"s{n}" for n in range(21, 30)]
    assert pieces({"dot": (1, 1)}) == [("dot", (0, 0, 1, 1), "dot")]


def test_classes_that_would_be_empty_are_not_made_and_it_is_said() -> None:
    def of(*values: int) -> Tally:
        return Tally.of(np.array(values, np.uint16))

    found, words = few_classes(of(5000, 5000, 5001), 5, "the maps of forest")
    assert found.upper == (0.5004,) and words is not None
    assert words.startswith("Probabilities of the maps of forest take only 1 value ")
    assert "1 class instead of 5" in words
    found, words = few_classes(of(0, 2000, 9000, 9000), 5, "the maps of svr")
    assert len(found.upper) == 3 and words is not None
    assert "only 3 different values" in words and "3 classes instead of 5" in words
    _, words = few_classes(of(*range(0, 10_000, 100)), 5, "x")
    assert words is None
    with pytest.raises(DataError, match="No cell of the maps of svr is valid") as told:
        few_classes(Tally.none(), 5, "the maps of svr")
    assert "factors.tif" in str(told.value.hint)


def test_shares_of_nothing_and_of_constant_maps() -> None:
    assert shares(np.zeros(10_001, int), (0.5, 1.0)) is None
    one = np.zeros(10_001, int)
    one[3333] = 7
    assert shares(one, (0.3334,)) == [1.0]


def test_ratios_of_no_slump_and_of_no_high_class() -> None:
    "What would divide by nothing is left empty, never infinite"
    cuts = (Cut("slope", (10.0,)),)
    stored = np.array([100, 200, 9000], np.uint16)
    tally = Tally.of(stored, np.ones(3, bool), None, {"slope": np.array([1.0, 2.0, 30.0])}, cuts)
    low, steep = frequency_ratios(tally, cuts, (0.5,))
    assert low["slumps_ratio"] is None and steep["high_ratio"] == pytest.approx(3.0)
    assert low["high_ratio"] == 0.0
    assert frequency_ratios(tally, cuts, None)[1]["high_ratio"] is None


def test_a_site_without_any_factor_leaves_the_others_alone(tmp_path: Path) -> None:
    "A map of nothing but nodata: no class there, and the others' classes as before"
    held = world(tmp_path)
    path = held.factors("west")
    read = raster.read_float(path)
    raster.write_cog(
        path, np.full_like(read.array, np.nan), read.grid, read.names, nodata=float("nan")
    )
    settings(held, models=("logistic",), importance=0)
    run_steps(held)
    report = json.loads(Files(held, 1).summary.read_text())
    assert report["cells_valid"]["west"] == 0 and report["cells_valid"]["east"] == 60 * 80 - 1
    assert report["classes"]["cells_by_site"]["west"] == [0] * 5
    with rasterio.open(Files(held, 1).classes("west")) as source:
        assert not source.read(1).any()
