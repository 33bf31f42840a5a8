"""Maps and candidates of large areas: what they are as a whole, and as parts (painted, made up)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from areas_world import LATITUDE, an_area, lonlat, loss
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from torch import nn

from inventory.candidates import outlines
from inventory.records import Candidate, areas
from inventory.review.gallery import PANELS, Gallery
from inventory.store import Inventory
from inventory.work import candidates
from thawslump.areas import Mosaic, mosaics
from thawslump.config import save_yaml, target
from thawslump.grid import lonlat_bounds
from thawslump.ledger import Ledger
from thawslump.mosaic import plan as plan_mosaic
from thawslump.mosaic import write_vrt
from thawslump.pipeline import Driver, Item, step_named
from thawslump.raster import grid_of, read, read_float, write_cog
from thawslump.site import Site
from thawslump.status import show, table
from thawslump.workspace import Workspace
from trainer.chips import looked_at, read_reviewed
from trainer.segmentation.places import Place, around, windows_over
from trainer.segmentation.predict import Member, predict_strips, quantised, write_strips

PRE = {"start": "2020-06-15", "end": "2020-09-01"}
POST = {"start": "2023-06-15", "end": "2023-09-01"}
CONFIG = {
    "threshold": 0.5, "minimum_area": 500.0, "hole_area": 400.0, "smoothing": 0.0,
    "covered": 0.2, "contains": 0.5, "rejected": 0.5,
}  # fmt: skip


def hills(shape: tuple[int, int] = (150, 177), block: int = 66) -> tuple[Site, Mosaic]:
    """An area in one CRS, whose blocks fill its grid."""
    grid = GeoBox(shape, Affine(10, 0, 500_010, 0, -10, 7_970_010), "EPSG:32652")
    site = Site(
        name="hills", role="area", bounds=lonlat_bounds(grid), crs="EPSG:32652", block=block,
        pre=PRE, post=POST, made_up=True, sources={"s1": "none"},
    )  # fmt: skip
    (zone,) = mosaics(site)
    return site, zone


def cut(array: NDArray[Any], whole: GeoBox, part: GeoBox) -> NDArray[Any]:
    a, b = whole.transform, part.transform
    row, column = round((b.f - a.f) / a.e), round((b.c - a.c) / a.a)
    return array[..., row : row + part.shape[0], column : column + part.shape[1]]


def a_workspace(root: Path, *sites: Site) -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    (root / "thawslump.yaml").write_text("name: painted\nmade_up: true\n")
    (root / "areas").mkdir()
    for site in sites:
        save_yaml(root / "areas" / f"{site.name}.yaml", site)
    return Workspace(root)


def paint(path: Path, probability: NDArray[Any], grid: GeoBox) -> None:
    """Write a map as the trainer does."""
    nodata = ~np.isfinite(probability)
    bands = np.stack([probability, 0.3 * np.sqrt(np.clip(probability, 0, 1)), 0 * probability])
    stored = np.where(nodata, 65535, np.nan_to_num(bands * 10_000).round()).astype("uint16")
    write_cog(
        path, stored, grid, ("probability", "disagreement", "filled"), nodata=65535,
        scales=(1e-4,) * 3,
    )  # fmt: skip


def draw(workspace: Workspace, round: int = 1) -> list[Candidate]:
    """Plan and run the step candidates in this process."""
    ensemble = workspace.models(round) / "ensemble"
    ensemble.mkdir(parents=True, exist_ok=True)
    (ensemble / "metrics.json").write_text(json.dumps({"threshold": 0.5}))
    (item,) = target(step_named("candidates").plan)(workspace, round)
    candidates(item, workspace, lambda share, words: None)
    assert all(path.exists() for path in item.outputs)
    return Inventory(workspace.inventory).candidates(round)


# Prediction ----------------------------------------------------------------------------------


@given(st.integers(-400, 400), st.integers(1, 300), st.sampled_from([(64, 0), (64, 32), (96, 32)]))
def test_all_windows_that_touch_are_read(first: int, length: int, size: tuple[int, int]) -> None:
    window, overlap = size
    step = window - overlap
    start, stop = windows_over(first, first + length, window, overlap)
    starts = range(-40 * step, 40 * step, step)
    touching = [at for at in starts if at < first + length and at + window > first]
    assert (start, stop) == (touching[0], touching[-1] + window)


def convolution(reach: int) -> Member:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 1, 2 * reach + 1, padding=reach).eval()
    return Member("convolution", layer, (0, 1), (0.0, 0.0), (1.0, 1.0))


def test_the_maps_of_parts_are_the_map_of_the_whole(tmp_path: Path) -> None:
    "To the bit, nodata included, though the model sees 15 pixels around each"
    _, zone = hills((260, 300), block=132)
    window, overlap = 128, 32
    grid = zone.grid()
    # The whole begins where windows begin, or its own windows would be others.
    step = (window - overlap) * 10
    a = grid.transform
    left, top = np.floor(a.c / step) * step, np.ceil(a.f / step) * step
    pad = (round((top - a.f) / 10), round((a.c - left) / 10))
    dice = np.random.default_rng(2)
    array = dice.normal(size=(2, *grid.shape)).astype("float32")
    array[:, 100:140, 120:150] = np.nan
    array[1, :40] = np.nan
    large = np.pad(array, ((0, 0), (pad[0], 0), (pad[1], 0)), constant_values=np.nan)
    members = [convolution(15)]
    strips = predict_strips(
        members,
        lambda f, l, w, e: large[:, f:l, w:e],
        large.shape[1:],
        window=window,
        overlap=overlap,
    )
    whole = np.concatenate([quantised(strip) for strip in strips], axis=1)
    whole = whole[:, pad[0] :, pad[1] :]
    for part in zone.parts:
        path = tmp_path / part.name / "stack.tif"
        write_cog(path, cut(array, grid, part.grid()), part.grid(), ("a", "b"), nodata=np.nan)
    vrt = tmp_path / "stack.vrt"
    write_vrt(vrt, [tmp_path / name / "stack.tif" for name in zone.names], grid)
    for part in zone.parts:
        pixels, neighbours = around(part, zone, window, overlap)
        assert neighbours and part.name not in neighbours
        place = Place(tmp_path / part.name / "stack.tif", vrt, pixels)
        strips = predict_strips(
            members,
            lambda f, l, w, e, place=place: place.read(("a", "b"), f, l, w, e),  # type: ignore[misc]
            place.shape,
            window=window,
            overlap=overlap,
        )
        path = tmp_path / f"{part.name}.tif"
        write_strips(path, place.own(strips), place.grid, {}, may_be_empty=True)
        np.testing.assert_array_equal(read(path).array, cut(whole, grid, part.grid()))
    assert (whole != 65535).any()


def test_a_part_may_hold_nothing(tmp_path: Path) -> None:
    _, zone = hills()
    part = zone.parts[0]
    path = tmp_path / "stack.tif"
    shape = tuple(part.grid().shape)
    write_cog(path, np.full((2, *shape), np.nan, "float32"), part.grid(), ("a", "b"), nodata=np.nan)
    place = Place(path)
    strips = predict_strips(
        [convolution(1)], lambda f, l, w, e: place.read(("a", "b"), f, l, w, e), place.shape
    )
    facts = write_strips(tmp_path / "m.tif", place.own(strips), place.grid, {}, may_be_empty=True)
    assert facts["pixels"] == facts["nodata_pixels"] == shape[0] * shape[1]
    assert (read(tmp_path / "m.tif").array == 65535).all()


# Candidates of one zone ------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_parts_give_the_candidates_of_the_whole(tmp_path_factory: Any, seed: int) -> None:
    "The same outlines, sizes and scores, across every seam"
    from scipy import ndimage

    site, zone = hills()
    grid = zone.grid()
    dice = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(dice.standard_normal(grid.shape), dice.uniform(1, 9))
    probability = np.clip(0.5 + 0.25 * noise / noise.std(), 0, 1)
    probability[ndimage.gaussian_filter(dice.standard_normal(grid.shape), 6) > 0.08] = np.nan
    root = tmp_path_factory.mktemp("area")
    split = a_workspace(root / "split", site)
    whole = a_workspace(root / "whole", site.model_copy(update={"block": 4096}))
    assert not whole.mosaics and len(split.parts("hills")) > 4
    # The grid of the whole need not begin on a block's lattice.
    own = whole.sites["hills"].grid()
    inside = np.full(own.shape, np.nan)
    view = cut(probability, grid, own)
    inside[: view.shape[0], : view.shape[1]] = view
    for part in zone.parts:
        # What the whole does not show, the parts must not.
        shown = np.full(grid.shape, np.nan)
        a, b = grid.transform, own.transform
        row, column = round((b.f - a.f) / a.e), round((b.c - a.c) / a.a)
        shown[row : row + own.shape[0], column : column + own.shape[1]] = view
        paint(split.map(1, part.name), cut(shown, grid, part.grid()), part.grid())
    paint(whole.map(1, "hills"), inside, own)
    left, right = draw(split), draw(whole)
    assert {c.site for c in left} <= {"hills"}
    key = lambda c: c.geometry.wkb  # noqa: E731
    left, right = sorted(left, key=key), sorted(right, key=key)
    assert [c.geometry for c in left] == [c.geometry for c in right]
    assert [c.candidate_id for c in left] == [c.candidate_id for c in right]
    for name in ("probability_mean", "probability_max", "disagreement", "score", "rank"):
        assert [getattr(c, name) for c in left] == pytest.approx([getattr(c, name) for c in right])


# Candidates across zones -----------------------------------------------------------------------


def test_outlines_across_a_meridian_come_once_and_whole(tmp_path: Path) -> None:
    "Against the patches that the map was painted from, in longitude and latitude"
    site = an_area(block=99)
    workspace = a_workspace(tmp_path, site)
    zones = workspace.zones("bering")
    assert [zone.inner for zone in zones] == [(False, True), (True, False)]
    for zone in zones:
        for part in zone.parts:
            probability = -2 * loss(*lonlat(part.grid()))
            paint(workspace.map(1, part.name), probability, part.grid())
    found = draw(workspace)
    # Three patches: one on the meridian, one on each side.
    assert len(found) == 3
    to_metres = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True)
    metres = 111_320.0
    seen = set()
    for dx, dy, radius in ((0.0, 0.0, 120.0), (-700.0, 300.0, 90.0), (650.0, -420.0, 110.0)):
        lon = 180.0 + dx / (metres * np.cos(np.radians(LATITUDE)))
        lat = LATITUDE + dy / metres
        near = [c for c in found if _near(c, lon, lat)]
        (one,) = near
        seen.add(one.candidate_id)
        assert one.area_m2 == pytest.approx(np.pi * radius**2, rel=0.05)
        assert one.probability_max == pytest.approx(1.0)
        x, y = to_metres.transform(lon, lat)
        truth = shapely.Point(x, y).buffer(radius)
        (drawn,) = _in_utm([one])
        assert len(shapely.get_parts(drawn)) == 1
        assert drawn.intersection(truth).area / drawn.union(truth).area > 0.9
    assert len(seen) == 3


def test_a_zone_alone_keeps_what_lies_at_its_meridian(tmp_path: Path) -> None:
    "The other zone was not mapped yet: nobody else would answer"
    workspace = a_workspace(tmp_path, an_area(block=99))
    zone = workspace.zones("bering")[0]
    for part in zone.parts:
        paint(workspace.map(1, part.name), -2 * loss(*lonlat(part.grid())), part.grid())
    found = draw(workspace)
    assert len(found) == 2
    (one,) = [c for c in found if _near(c, 180.0, LATITUDE)]
    # The western half, and a margin beyond.
    assert 0.5 * np.pi * 120**2 < one.area_m2 <= 1.02 * np.pi * 120**2


def _near(candidate: Candidate, lon: float, lat: float) -> bool:
    (shape,) = _in_utm([candidate])
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(lon, lat)
    return bool(shape.distance(shapely.Point(x, y)) < 30)


def _in_utm(found: list[Candidate]) -> list[Any]:
    from thawslump.vector import from_lonlat

    return from_lonlat([c.geometry for c in found], "EPSG:32660")


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_zones_give_the_candidates_of_one_grid(tmp_path_factory: Any, seed: int) -> None:
    "Random patches on both sides: none twice, none missing, the area that one grid finds"
    dice = np.random.default_rng(seed)
    patches = [
        (dice.uniform(-500, 500), dice.uniform(-700, 700), dice.uniform(30, 150)) for _ in range(6)
    ]

    def probability(lon: NDArray[Any], lat: NDArray[Any]) -> NDArray[Any]:
        x = (lon - 180.0) * 111_320.0 * np.cos(np.radians(LATITUDE))
        y = (lat - LATITUDE) * 111_320.0
        deep = [1 - np.hypot(x - cx, y - cy) / radius for cx, cy, radius in patches]
        return np.clip(0.5 + 3 * np.max(deep, axis=0), 0, 1)

    site = an_area(block=120)
    root = tmp_path_factory.mktemp("zones")
    split = a_workspace(root / "split", site)
    for part in split.sites.values():
        paint(split.map(1, part.name), probability(*lonlat(part.grid())), part.grid())
    whole = a_workspace(root / "whole", site.model_copy(update={"block": 4096}))
    grid = whole.sites["bering"].grid()
    paint(whole.map(1, "bering"), probability(*lonlat(grid)), grid)
    left, right = _in_utm(draw(split)), _in_utm(draw(whole))
    # A patch cut by the edge of the area may be cut otherwise by the other grid.
    middle = shapely.box(*grid.boundingbox.bbox).buffer(-100)
    left = [shape for shape in left if middle.contains(shape)]
    right = [shape for shape in right if middle.contains(shape)]
    merged, single = shapely.union_all(left), shapely.union_all(right)
    assert sum(shape.area for shape in left) == pytest.approx(merged.area, rel=1e-6)
    # A pixel of 10 m along every edge, at most.
    assert merged.symmetric_difference(single).area < 10 * max(single.length, 1)
    for shape in right:
        # Two patches that touch by a pixel on one grid may not on the other.
        touching = [other for other in left if other.intersection(shape).area > 0.3 * shape.area]
        assert len(touching) == 1


# Downstream ------------------------------------------------------------------------------------


@pytest.fixture
def bering(tmp_path: Path) -> Workspace:
    """An area across the antimeridian with stacks, contexts, mosaics and maps."""
    workspace = a_workspace(tmp_path, an_area(block=99))
    for name, part in workspace.sites.items():
        grid = part.grid()
        change = loss(*lonlat(grid)).astype("float32")
        write_cog(workspace.stack(name), change[None], grid, ("dNDVI",), nodata=np.nan)
        lit = np.clip(2000 - 3000 * change, 1, 9000).astype("uint16")
        names = [f"{d}_{c}" for d in ("pre", "post") for c in ("red", "green", "blue", "nir")]
        write_cog(workspace.context(name), np.stack([lit] * 8), grid, names, nodata=65535)
        paint(workspace.map(1, name), -2 * change, grid)
    for item in plan_mosaic(workspace, 0):
        target(item.target)(item, workspace, lambda share, words: None)
    draw(workspace)
    return workspace


def test_chips_show_what_lies_across_a_seam(bering: Workspace) -> None:
    inventory = Inventory(bering.inventory)
    gallery = Gallery(bering)
    for candidate in inventory.candidates(1):
        assert candidate.site == "bering"
        assert {"before", "after", "ndvi_change", "probability"} & set(PANELS)
        panels = gallery.panels(candidate)
        assert "ndvi_change" in panels and "probability" in panels
        frame = gallery.frame(candidate)
        assert frame.path(candidate.geometry).count("M") <= 3
        view = gallery._view(candidate)
        square = read_float(bering.map(1, view), ["probability"])
        a = square.grid.transform
        row, column = (round(v) for v in _pixel(frame.transform, a))
        seen = square.array[0][row : row + frame.side, column : column + frame.side]
        expected = (
            -2 * loss(*lonlat(square.grid))[row : row + frame.side, column : column + frame.side]
        )
        # Nothing is missing where blocks meet.
        assert np.isfinite(seen).all() and np.abs(seen - expected).max() < 1e-3
        assert gallery.chip(candidate, panels[0])[:4] == b"\x89PNG"
    gallery.close()


def _pixel(inner: Affine, outer: Affine) -> tuple[float, float]:
    return (inner.f - outer.f) / outer.e, (inner.c - outer.c) / outer.a


def test_a_ring_drawn_across_the_antimeridian_is_kept(bering: Workspace) -> None:
    gallery = Gallery(bering)
    (one,) = [c for c in Inventory(bering.inventory).candidates(1) if len(c.geometry.geoms) > 1]
    frame = gallery.frame(one)
    (own,) = _in_utm([one])
    drawn = frame.lonlat([(100.0, 100.0), (900.0, 100.0), (900.0, 900.0), (100.0, 900.0)])
    assert drawn.bounds[0] == -180 and drawn.bounds[2] == 180
    side = 0.8 * frame.side * 10
    assert sum(areas([shapely.normalize(drawn)])) == pytest.approx(side**2, rel=0.02)
    gallery.close()
    assert len(shapely.get_parts(own)) == 1


def test_labels_are_made_where_something_was_decided(bering: Workspace) -> None:
    inventory = Inventory(bering.inventory)
    found = inventory.candidates(1)
    (one,) = [c for c in found if len(c.geometry.geoms) > 1]
    inventory.decide(one.candidate_id, "accept", reviewer="a", kind="people")
    items = target(step_named("labels").plan)(bering, 2)
    names = {item.name for item in items}
    assert (
        names < set(bering.sites)
        and any("60N" in n for n in names)
        and any("01N" in n for n in names)
    )
    area = 0.0
    (shape,) = _in_utm([one])
    for item in items:
        facts = target(item.target)(item, bering, lambda share, words: None)
        part = bering.sites[item.name]
        labels = read(bering.labels(2, item.name))
        assert labels.grid == part.grid()
        lon, _ = lonlat(part.grid())
        zone = bering.mosaics[part.mosaic]  # type: ignore[attr-defined]
        own = (lon >= zone.own[0]) & (lon < zone.own[2])
        area += float(((labels.array[0] == 1) & own).sum()) * 100
        assert facts["slump_pixels"] == int((labels.array[0] == 1).sum())
    # On both sides of the meridian together, the slump once.
    assert area == pytest.approx(shape.area, rel=0.03)


def test_only_the_parts_of_an_area_run(bering: Workspace) -> None:
    other = an_area(name="other", bounds=(170.0, 66.0, 170.02, 66.01), block=4096)
    save_yaml(bering.root / "areas" / "other.yaml", other)
    workspace = Workspace(bering.root)
    items = [Item("export", name, "m:f", {}, (), ()) for name in workspace.sites]
    chosen = Driver(workspace, None, None, None, site="bering")._chosen(items)  # type: ignore[arg-type]
    assert [item.name for item in chosen] == [n for n in workspace.sites if n != "other"]
    one = workspace.parts("bering")[0]
    (only,) = Driver(workspace, None, None, None, site=one)._chosen(items)  # type: ignore[arg-type]
    assert only.name == one
    imports = [Item("import", name, "m:f", {}, (), ()) for name in workspace.declared]
    (mine,) = Driver(workspace, None, None, None, site="bering")._chosen(imports)  # type: ignore[arg-type]
    assert mine.name == "bering"


def test_a_part_is_predicted_from_its_neighbours_too(bering: Workspace) -> None:
    "Their stacks are inputs: where one is exported again, the map is drawn again"
    metrics = bering.models(1) / "ensemble" / "metrics.json"
    metrics.write_text(json.dumps({"threshold": 0.5, "members": [{"run": "a"}]}))
    items = target(step_named("predict").plan)(bering, 1)
    assert [item.name for item in items] == list(bering.sites)
    for item in items:
        part = bering.sites[item.name]
        stacks = {path.parent.name for path in item.inputs if path.name == "stack.tif"}
        box = shapely.box(*part.grid().boundingbox.bbox)
        top, left, bottom, right = item.settings["part"]["around"]
        rows, columns = part.grid().shape
        # More than the part, by less than a window each way.
        window = bering.config.segmentation.window
        assert -window < top <= 0 and rows <= bottom < rows + window
        assert -window < left <= 0 and columns <= right < columns + window
        reach = box.buffer(window * 10, join_style="mitre")
        for other in bering.sites.values():
            near = reach.intersects(shapely.box(*other.grid().boundingbox.bbox))
            same = other.mosaic == part.mosaic  # type: ignore[attr-defined]
            assert (same and near) or other.name not in stacks
        assert item.name in stacks and len(stacks) > 1
        assert item.outputs == (bering.map(1, item.name),)


def test_status_counts_the_parts_of_an_area(bering: Workspace) -> None:
    ledger = Ledger(bering.ledger, bering.root)
    names = bering.parts("bering")
    for number, name in enumerate(names):
        ledger.start("export", 0, name, "key")
        if number < 2:
            ledger.finish("export", 0, name, [bering.stack(name)], 1.0, {})
        else:
            ledger.fail("export", 0, name, 1.0, f"Site {name}: the backend is away")
    ledger.close()
    (row,) = table(bering)
    assert row["areas"] == {"bering": {"done": 2, "parts": len(names)}}
    (error,) = row["errors"]
    words = f"bering ({len(names) - 2} parts, {names[2]} first): Site bering: the backend is away"
    assert error == words
    assert f"bering: 2 of {len(names)} parts" in show([row], json_lines=False)


def test_outlines_of_an_area_come_in_once(bering: Workspace) -> None:
    import geopandas

    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(180, LATITUDE)
    shapes = [shapely.Point(x + d, y).buffer(40) for d in (-600, 600)]
    from thawslump.vector import to_lonlat

    path = bering.root / "known.gpkg"
    geopandas.GeoDataFrame(geometry=to_lonlat(shapes, "EPSG:32660"), crs="EPSG:4326").to_file(
        path, engine="pyogrio"
    )
    save_yaml(bering.root / "areas" / "bering.yaml", an_area(block=99, outlines=path))
    workspace = Workspace(bering.root)
    (item,) = target(step_named("import").plan)(workspace, 0)
    facts = target(item.target)(item, workspace, lambda share, words: None)
    assert (item.name, facts["outlines"]) == ("bering", 2)
    assert set(Inventory(workspace.inventory).slumps().site) == {"bering"}


def test_the_whole_is_drawn_from_its_mosaic(bering: Workspace) -> None:
    "A mosaic opens as one raster and holds what the parts hold"
    zone = bering.zones("bering")[0]
    whole = read_float(bering.map(1, zone.name), ["probability"])
    assert whole.grid == zone.grid() == grid_of(bering.stack(zone.name))
    expected = -2 * loss(*lonlat(zone.grid()))
    there = np.isfinite(whole.array[0])
    assert there.mean() > 0.9 and np.abs(whole.array[0] - expected)[there].max() < 1e-3
    assert len(outlines(whole.array[0], whole.array[0], whole.array[0], whole.grid.transform,
                        threshold=0.5)) >= 2  # fmt: skip


# Training --------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([8, 20, 33]))
@settings(max_examples=40, deadline=None)
def test_what_was_looked_at_is_read_once_and_with_its_margin(seed: int, margin: int) -> None:
    dice = np.random.default_rng(seed)
    mask = np.zeros(tuple(dice.integers(40, 260, 2)), bool)
    rows, columns = mask.shape
    places = np.stack([dice.integers(0, rows, 6), dice.integers(0, columns, 6)], axis=1)
    mask[places[:, 0], places[:, 1]] = True
    count = np.zeros(mask.shape, int)
    boxes = looked_at(mask, margin)
    for top, left, bottom, right in boxes:
        count[top:bottom, left:right] += 1
    assert (count[mask] == 1).all() and count.max() == 1
    for row, column in places:
        around = count[
            max(0, row - margin) : row + margin + 1, max(0, column - margin) : column + margin + 1
        ]
        assert (around == 1).all()


def test_a_large_reviewed_area_is_read_where_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.chips._WHOLE", 10_000)
    grid = GeoBox((300, 400), Affine(10, 0, 500_000, 0, -10, 7_970_000), "EPSG:32652")
    array = np.random.default_rng(0).normal(size=(2, 300, 400)).astype("float32")
    marks = np.full((300, 400), 255, "uint8")
    marks[10:20, 10:20], marks[250:255, 300:310] = 1, 0
    stack, labels = tmp_path / "stack.tif", tmp_path / "labels.tif"
    write_cog(stack, array, grid, ("dNDVI", "b"), nodata=float("nan"))
    write_cog(labels, marks[None], grid, ("label",), nodata=255)
    tiles = read_reviewed(stack, labels, ("b", "dNDVI"), name="part", margin=32)
    assert [tile.labels.shape for tile in tiles] == [(64, 64), (96, 96)]
    assert sum((tile.labels == 1).sum() for tile in tiles) == 100
    assert sum((tile.labels == 0).sum() for tile in tiles) == 50
    np.testing.assert_array_equal(tiles[0].array, array[::-1, :64, :64])
    assert all(tile.reviewed and tile.name == "part" for tile in tiles)
    assert read_reviewed(stack, labels, ("preVV",), name="part", margin=32) == []
    monkeypatch.setattr("trainer.chips._WHOLE", 1_000_000)
    (whole,) = read_reviewed(stack, labels, ("b",), name="part", margin=32)
    assert whole.labels.shape == (300, 400)
