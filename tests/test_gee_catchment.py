"""TWI, SPI and channels from the site's own heights: exported, flagged, told."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from gee_world import CRS, NORTH, WEST, Array, World, a_site, centres, height, make_world
from odc.geo.geobox import GeoBox
from test_gee_export import a_workspace, exported

import gee
from gee import drainage
from gee.config import BackendConfig
from gee.emulator.server import running
from gee.exports import batch
from gee.exports.bare import nothing
from gee.exports.catchment import Catchment, local_factors
from gee.exports.check import check
from gee.exports.plan import totals
from gee.exports.products import Product
from gee.grids import factor_grid, padded
from gee.scripts import factors, hydrology
from gee.scripts.place import source
from gee.scripts.sources import catchment_margin
from gee.session import connect
from thawslump.errors import ConfigError
from thawslump.raster import read_float

pytest.importorskip("pyflwdir", reason="the extra `hydrology` is not installed")

NAMES = ("slope", "TWI", "SPI", "upslope_cut", "distance_rivers", "elevation")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("gee") / "catalog")


def local(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "sources": {"upslope": "local:600", "s1": "none"},
        "factors": NAMES,
        "bands": ("dNDVI",),
    }
    return a_site(**(values | changes))


@pytest.fixture(scope="module")
def files(made: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    workspace = a_workspace(tmp_path_factory.mktemp("local"), made.folder, local())
    exported(workspace)
    found = read_float(workspace.factors("place"))
    assert found.names == NAMES
    assert found.grid == factor_grid(local())
    return workspace.root, dict(zip(found.names, found.array, strict=True))


def test_the_files_hold_what_the_heights_around_give(files: tuple[Path, dict[str, Array]]) -> None:
    "Heights by the formula of the made-up world: bilinear reading changes them by centimetres."
    _, found = files
    site = local()
    wide = padded(factor_grid(site), 600)
    x, y = centres(wide)
    area, cut = drainage.drainage(height(x, y), 30.0)
    here = np.s_[20:-20, 20:-20]
    same = np.isclose(np.log(area[here]), np.log(found["SPI"] / steep(found) * 30), atol=0.2)
    assert same.mean() > 0.9  # a few cells turn where two ways are nearly as steep
    assert (found["upslope_cut"] == cut[here]).mean() > 0.9
    assert 0 < found["upslope_cut"].mean() < 1


def steep(found: dict[str, Array]) -> Array:
    return np.tan(np.radians(np.maximum(found["slope"], drainage.LEAST_SLOPE)))


def test_wetness_and_power_share_the_slope_of_the_slope_factor(
    files: tuple[Path, dict[str, Array]],
) -> None:
    "TWI = ln(A / tan), SPI = A tan: their ratio knows the slope, and A is whole cells."
    _, found = files
    cells = np.exp(found["TWI"].astype(float)) * steep(found) / 30.0
    np.testing.assert_allclose(cells, np.round(cells), rtol=1e-4)
    assert np.round(cells).min() >= 1
    np.testing.assert_allclose(found["SPI"], cells * 30.0 * steep(found), rtol=1e-4)


def test_the_item_says_how_and_how_much_is_cut_off(files: tuple[Path, dict[str, Array]]) -> None:
    root, found = files
    item = json.loads((root / "tiles" / "place" / "item.json").read_text())
    facts = item["properties"]["thawslump:upslope"]
    assert facts["margin"] == 600
    assert facts["cut_share"] == pytest.approx(found["upslope_cut"].mean(), abs=1e-4)
    assert "catchment" not in item["assets"]
    rows = {row["source"]: row for row in item["properties"]["thawslump:attributions"]}
    assert rows["upslope"]["licence"] == "that of the DEM"
    assert rows["upslope"]["non_commercial"] is False
    assert not (root / "tiles" / "place" / "catchment.tif").exists()


def test_the_plan_counts_the_heights_around(made: World, tmp_path: Path) -> None:
    workspace = a_workspace(tmp_path, made.folder, local())
    found = check(workspace, "place")
    rows, cols = factor_grid(local()).shape
    assert found["files"]["catchment"]["shape"] == [rows + 40, cols + 40]
    assert "catchment.tif" not in found["text"]
    assert "600 m" in found["text"] and "upslope area" in found["text"]
    exported(workspace)
    assert "% of its cells" in check(workspace, "place")["text"]


def test_scripts_and_lazy_data_say_that_an_export_is_needed(made: World) -> None:
    with connect(BackendConfig(), made.folder):
        with pytest.raises(ConfigError, match="computed on this machine") as caught:
            factors.factors(local(), ["TWI"])
        assert "thawslump export run" in str(caught.value.hint)
        with pytest.raises(ConfigError, match="computed on this machine"):
            gee.open_factors(local(), ["SPI"])
        with pytest.raises(ConfigError, match="computed on this machine"):
            hydrology.channels(local())
        # A table of rivers makes channels needless.
        tabled = local(sources={"upslope": "local", "rivers": "users/a/rivers"})
        assert factors.computed_here(tabled, NAMES) == ("TWI", "SPI", "upslope_cut")
        with pytest.raises(ConfigError, match="upslope_cut flags what a local"):
            factors.factors(a_site(), ["upslope_cut"])


def test_batch_tasks_bring_the_same_files(
    made: World, files: tuple[Path, dict[str, Array]], tmp_path: Path
) -> None:
    "The heights around the site are a task of their own; the factors are completed from its file."
    with running(made.folder, state=tmp_path / "state") as url:
        workspace = a_workspace(
            tmp_path / "workspace",
            None,
            local(),
            backend={"kind": "emulator", "url": url},
            export={"method": "drive", "destination": "tests"},
        )
        batch.submit(workspace, "place")
        for _ in range(200):
            rows = batch.status(workspace, ["place"])
            if all(row["state"] in ("SUCCEEDED", "FAILED") for row in rows):
                break
            time.sleep(0.1)
        assert {row["state"] for row in rows} == {"SUCCEEDED"}
        assert "catchment" in {row["product"] for row in rows}
        exports = tmp_path / "state" / "exports" / "tests"
        batch.collect(workspace, "place", exports, lambda share, words: None)
    found = read_float(workspace.factors("place"))
    assert found.names == NAMES
    for name, array in zip(found.names, found.array, strict=True):
        np.testing.assert_array_equal(array, files[1][name])


def test_a_missing_pyflwdir_is_told_before_anything_is_fetched(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyflwdir", None)
    monkeypatch.setattr(drainage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs pyflwdir") as caught:
        check(a_workspace(tmp_path, made.folder, local()), "place")
    assert "thawslump[hydrology]" in str(caught.value.hint)


def test_a_dry_run_counts_the_heights_around(made: World, tmp_path: Path) -> None:
    with_margin = totals(a_workspace(tmp_path / "a", made.folder, local()))
    without = totals(a_workspace(tmp_path / "b", made.folder, local(sources={"s1": "none"})))
    rows, cols = factor_grid(local()).shape
    assert with_margin["pixels"] - without["pixels"] == (rows + 40) * (cols + 40)


def test_margins_are_metres() -> None:
    assert catchment_margin("local") == 5000
    for wrong in ("local:far", "local:-5", "local:1e9", "local:nan"):
        with pytest.raises(ConfigError, match="expected local:METRES"):
            catchment_margin(wrong)
    with pytest.raises(ConfigError, match=r"sources\.dem is local; only upslope"):
        source(a_site(sources={"dem": "local"}), "dem")


def test_a_margin_that_holds_the_whole_catchment_cuts_nothing() -> None:
    "A bowl with a rim: nothing comes in over the rim, whatever lies beyond."
    inner = GeoBox((20, 20), Affine(30, 0, WEST, 0, -30, NORTH), CRS)
    grid = padded(inner, 900)
    x, y = centres(grid)
    away = np.hypot(x - x.mean(), y - y.mean())
    heights = 1000 - np.abs(away - 700) * 0.2
    found = local_factors(heights, np.full(grid.shape, 11.0), grid, inner, 900.0)
    assert found["upslope_cut"].max() == 0
    # Heights count by their differences only; beyond the margin no channel is looked for.
    open_ = local_factors(heights - 400, np.full(grid.shape, 11.0), grid, inner, 100.0)
    np.testing.assert_array_equal(open_["TWI"], found["TWI"])
    assert open_["distance_rivers"].max() <= 100 < found["distance_rivers"].max()


def test_ground_without_heights_gives_empty_bands_and_no_file() -> None:
    "A part of a large area at sea: nothing to follow water on."
    site = local()
    grid = factor_grid(site)

    def product(name: str, bands: tuple[str, ...], where: GeoBox) -> Product:
        empty = tuple("" for _ in bands)
        image = None
        return Product(name, image, where, bands, "float32", -99999, np.nan, empty, empty)

    wanted = [product("catchment", ("elevation", "slope"), padded(grid, 600))]
    wanted.append(product("factors", NAMES, grid))
    catchment = Catchment(site)
    ((only, array),) = catchment.completed(wanted, nothing(wanted))
    assert only.name == "factors" and np.isnan(array).all()
    assert catchment.facts == {}
