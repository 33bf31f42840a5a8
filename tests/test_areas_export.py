"""Large areas exported from the emulator, on both sides of the antimeridian (made up)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from areas_world import PRE, an_area, height, lonlat, loss, make_workspace, world

from gee.exports.check import check
from gee.exports.step import run
from gee.session import connect
from gee.steps import FILES, plan_export
from thawslump.areas import Part
from thawslump.config import save_yaml
from thawslump.errors import DataError
from thawslump.files import sha256
from thawslump.grid import lonlat_bounds
from thawslump.ledger import Ledger
from thawslump.mosaic import plan as plan_mosaic
from thawslump.mosaic import run as run_mosaic
from thawslump.raster import grid_of, read_float
from thawslump.site import Site, Window
from thawslump.workspace import Workspace


def quiet(share: float, words: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An area of two zones with three parts each, wider than what the images show."""
    root = tmp_path_factory.mktemp("bering")
    bounds = lonlat_bounds(world(330))
    workspace = make_workspace(root, an_area(bounds=bounds, block=150, name="bering"))
    for item in plan_export(workspace, 0):
        run(item, workspace, quiet)
    for item in plan_mosaic(workspace, 0):
        run_mosaic(item, workspace, quiet)
    return workspace


def test_both_sides_of_the_meridian_hold_the_world(exported: Workspace) -> None:
    "Values at pixel centres of both zones, against the functions that the images were made from"
    assert len(exported.mosaics) == 2
    for name in exported.mosaics:
        found = read_float(exported.stack(name))
        assert found.grid == exported.mosaics[name].grid()
        lon, lat = lonlat(found.grid)
        change = found.band("dNDVI")
        there = np.isfinite(change)
        assert 0.2 < there.mean() < 1
        # Sentinel-2 is taken at the nearest pixel: within a pixel of the edge of a patch it may
        # be on the other side of it.
        assert np.median(np.abs(change - loss(lon, lat))[there]) < 1e-4
        assert np.abs(change - loss(lon, lat))[there].max() < 0.3
        rise = np.abs(found.band("elevation") - height(lon, lat))
        assert np.nanmax(rise) < 2.0  # bilinear between heights 30 m apart


def test_every_part_has_its_files_and_an_item(exported: Workspace) -> None:
    catalog = json.loads((exported.root / "tiles" / "catalog.json").read_text())
    listed = {link["href"] for link in catalog["links"] if link["rel"] == "item"}
    assert listed == {f"./{name}/item.json" for name in exported.sites}
    for name, part in exported.sites.items():
        assert all((exported.tiles(name) / file).exists() for file in FILES)
        assert grid_of(exported.stack(name)) == part.grid()
        item = json.loads(exported.item(name).read_text())
        assert item["id"] == name
        west, _, east, _ = item["bbox"]
        ring = item["geometry"]
        if west > east:
            # RFC 7946, 3.1.9: cut at the antimeridian.
            assert ring["type"] == "MultiPolygon"
            sides = [{xy[0] >= 0 for xy in poly[0]} for poly in ring["coordinates"]]
            assert sides == [{True}, {False}]
        else:
            assert ring["type"] == "Polygon"


def test_parts_without_images_hold_nothing_and_hold_nothing_up(exported: Workspace) -> None:
    empty = [
        name
        for name in exported.sites
        if np.isnan(read_float(exported.stack(name)).band("dNDVI")).all()
    ]
    assert 0 < len(empty) < len(exported.sites)
    for name in empty:
        properties = json.loads(exported.item(name).read_text())["properties"]
        assert properties["thawslump:left_out"]["dNDVI"].startswith("Sentinel-2: site " + name)


def test_an_area_without_any_image_is_a_mistake(exported: Workspace, tmp_path: Path) -> None:
    late = Window(start="2015-06-01", end="2015-09-01")  # type: ignore[arg-type]
    workspace = _copy(exported, tmp_path, an_area(pre=late, block=150))
    item = plan_export(workspace, 0)[0]  # type: ignore[index]
    with pytest.raises(DataError, match=r"no image of site .* in the window pre"):
        run(item, workspace, quiet)


def _copy(workspace: Workspace, root: Path, area: Site) -> Workspace:
    """A workspace with the same catalogue and another area."""
    for name in ("thawslump.yaml", "catalog"):
        (root / name).symlink_to(workspace.root / name)
    (root / "areas").mkdir()
    save_yaml(root / "areas" / "bering.yaml", area)
    return Workspace(root)


def test_the_plan_tells_of_the_area_as_one(exported: Workspace) -> None:
    found = check(exported, "bering")
    assert found["parts"] == found["done"] == len(exported.sites)
    assert set(found["zones"]) == {"bering-60N", "bering-01N"}
    assert len(found["looked_at"]) == min(5, len(exported.sites))
    assert f"{len(exported.sites)} parts of at most 150 x 150 pixels" in found["text"]
    assert found["text"].count("EPSG:32660") == 1
    # All parts alike, so what is scaled is what the parts come to.
    of_all = sum(check(exported, name)["pixels"] for name in exported.sites)
    assert found["pixels"] == pytest.approx(of_all, rel=0.2)


def test_a_small_area_on_the_antimeridian_is_one_file(tmp_path: Path) -> None:
    area = an_area(bounds=lonlat_bounds(world(60)), block=4096)
    workspace = make_workspace(tmp_path, area)
    assert not workspace.mosaics and list(workspace.sites) == ["bering"]
    (item,) = plan_export(workspace, 0)  # type: ignore[misc]
    run(item, workspace, quiet)
    found = read_float(workspace.stack("bering"))
    assert max(found.grid.shape) < 80
    change = found.band("dNDVI")
    assert np.isfinite(change).all()
    assert np.median(np.abs(change - loss(*lonlat(found.grid)))) < 1e-4
    west, _, east, _ = json.loads(workspace.item("bering").read_text())["bbox"]
    assert west > 179.9 and east < -179.9


SETTINGS = "executor: {workers: 1}\nexport: {tile: 64, workers: 2}\n"


def one_grid(**changes: Any) -> Site:
    """An area in one CRS, with bands that are derived from their neighbours."""
    bounds = lonlat_bounds(world(100))
    bands = ("elevation", "slope", "dNDVI")
    return an_area(
        **{"bounds": bounds, "block": 66, "crs": "EPSG:32660", "bands": bands, **changes}
    )


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """That area in parts, exported without a disturbance."""
    workspace = make_workspace(tmp_path_factory.mktemp("split"), one_grid(), SETTINGS)
    for item in plan_export(workspace, 0):
        run(item, workspace, quiet)  # type: ignore[arg-type]
    for item in plan_mosaic(workspace, 0):
        run_mosaic(item, workspace, quiet)
    return workspace


def test_parts_of_one_grid_are_as_the_whole(split: Workspace, tmp_path: Path) -> None:
    "Terrain is derived on the same pixels whichever part asks: no seam, to the bit"
    whole = _copy(split, tmp_path, one_grid(block=4096))
    (item,) = plan_export(whole, 0)  # type: ignore[misc]
    run(item, whole, quiet)
    (view,) = split.mosaics
    for path, other in (
        (split.stack(view), whole.stack("bering")),
        (split.context(view), whole.context("bering")),
    ):
        left, right = read_float(path), read_float(other)
        a, b = left.grid.transform, right.grid.transform
        row, column = round((b.f - a.f) / a.e), round((b.c - a.c) / a.a)
        for name in right.names:
            if name in ("slope", "hillshade"):
                # The whole's own 30 m grid begins at its corner, which need not be a part's.
                continue
            shown = left.band(name)[
                row : row + right.grid.shape[0], column : column + right.grid.shape[1]
            ]
            # The whole is a rectangle; parts in its corners that lie off the area are left out.
            there = np.isfinite(shown)
            assert there.mean() > 0.9
            np.testing.assert_array_equal(shown[there], right.band(name)[there], err_msg=name)
    # Terrain: no step where parts meet that is not in the ground.
    slope = read_float(split.stack(view)).band("slope")
    seams = np.nanmax(np.abs(np.diff(slope, axis=1)), axis=0)
    edges = [part.grid().transform.c for part in split.mosaics[view].parts]
    columns = {round((x - left.grid.transform.c) / 10) - 1 for x in edges} - {-1}
    elsewhere = [value for number, value in enumerate(seams) if number not in columns]
    for number in columns:
        assert seams[number] <= max(elsewhere)


def test_a_killed_run_goes_on_with_the_parts_that_are_left(
    split: Workspace, tmp_path: Path
) -> None:
    "Killed after the first parts: those are not begun again, and all end as undisturbed"
    workspace = _copy(split, tmp_path, one_grid())
    words = [sys.executable, "-m", "thawslump", "--workspace", str(workspace.root)]
    words += ["run", "--until", "mosaic"]
    process = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _until(lambda: len(_finished(workspace)) >= 2 or process.poll() is not None)
        assert process.poll() is None, "the run ended before it could be killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = _finished(workspace)
    assert 2 <= len(before) < len(workspace.sites)
    subprocess.run(words, check=True, capture_output=True)
    after = _finished(workspace)
    assert set(after) == set(workspace.sites)
    # A part whose files were whole is not worked on again.
    assert {name: after[name] for name in before} == before
    for name in workspace.sites:
        for file in FILES:
            one, other = (place.tiles(name) / file for place in (workspace, split))
            assert sha256(one) == sha256(other), f"{name}/{file}"
    for name in workspace.mosaics:
        assert workspace.stack(name).exists()


def _finished(workspace: Workspace) -> dict[str, tuple[int, float]]:
    """Parts whose export is done: tries, and when the item was written."""
    if not workspace.ledger.exists():
        return {}
    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        rows = [row for row in ledger.rows("export") if row.state == "done"]
    finally:
        ledger.close()
    return {row.name: (row.tries, workspace.item(row.name).stat().st_mtime_ns) for row in rows}


def _until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_a_part_says_what_it_is_part_of(exported: Workspace) -> None:
    part = exported.site(next(iter(exported.sites)))
    assert isinstance(part, Part) and part.area == "bering" and part.pre == PRE


@pytest.mark.parametrize(
    ("box", "found", "share"),
    [
        ((-179.985, 65.997, -179.98, 66.0), 2, 1.0),
        ((179.98, 65.997, 179.985, 66.0), 2, 1.0),
        ((179.99, 65.997, -179.99, 66.0), 2, 1.0),
        ((-179.94, 65.997, -179.93, 66.0), 0, 0.0),
        ((0.0, 65.997, 0.01, 66.0), 0, 0.0),
    ],
)
def test_the_emulator_finds_images_on_both_sides(
    exported: Workspace, box: tuple[float, float, float, float], found: int, share: float
) -> None:
    "Earth Engine takes longitudes for points of a circle (ee.Geometry.BBox)"
    with connect(exported.config.backend, exported.catalog):
        place = ee.Geometry.BBox(*box)
        images = ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED")
        assert images.filterBounds(place).size().getInfo() == found
        covered = images.first().geometry().intersection(place, 1).area(1).divide(place.area(1))
        assert covered.getInfo() == pytest.approx(share, abs=1e-3)
        if found:
            clipped = images.first().select("B4").clip(place)
            mean = clipped.reduceRegion(ee.Reducer.count(), place, 10)
            height, width = 3 / 1000 * 111_320, (box[2] - box[0]) % 360 * 111_320 * 0.4067
            assert mean.getInfo()["B4"] == pytest.approx(height * width / 100, rel=0.05)
