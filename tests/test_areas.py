"""Large areas in parts: how they are cut, and that no seam shows in what is made of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from gee.grids import factor_grid
from gee.scripts.radar_geometry import orbit_look
from gee.steps import export_settings
from thawslump.areas import HALO, Mosaic, mosaics
from thawslump.errors import ConfigError, DataError
from thawslump.grid import (
    box_of_all,
    coarser,
    geojson_box,
    grid_over,
    lonlat_bounds,
    lonlat_box,
    unwrapped,
)
from thawslump.mosaic import write_vrt
from thawslump.raster import read_float, write_cog
from thawslump.site import Site, Window
from thawslump.vector import from_lonlat, to_lonlat
from thawslump.workspace import Workspace, _may_be_large

PRE = Window(start="2020-06-15", end="2020-09-01")  # type: ignore[arg-type]
POST = Window(start="2023-06-15", end="2023-09-01")  # type: ignore[arg-type]


def area(bounds: tuple[float, float, float, float], **more: Any) -> Site:
    values = {"name": "lena", "role": "area", "bounds": bounds, "pre": PRE, "post": POST}
    return Site(**(values | more))


def pixels(grid: GeoBox) -> tuple[int, int, int, int]:
    """Top, left, bottom, right on the lattice of all grids of one CRS and resolution."""
    a = grid.transform
    top, left = round(-a.f / a.a), round(a.c / a.a)
    assert abs(top * a.a + a.f) < 1e-6 and abs(left * a.a - a.c) < 1e-6
    return top, left, top + grid.shape[0], left + grid.shape[1]


# Cutting -------------------------------------------------------------------------------------


def _box(west: int, south: int, width: int, height: int) -> tuple[float, float, float, float]:
    east = west + width if west + width <= 18_000 else west + width - 36_000
    return west / 100, south / 100, east / 100, (south + height) / 100


places = st.builds(
    _box, st.integers(-18_000, 17_990), st.integers(-7000, 7700), st.integers(30, 300),
    st.integers(10, 40),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(places, st.sampled_from([512, 1000]), st.sampled_from([10.0, 20.0, 30.0, 50.0]))
def test_every_place_lies_in_one_part_of_its_zone(
    bounds: tuple[float, float, float, float], block: int, resolution: float
) -> None:
    zones = mosaics(area(bounds, block=block, resolution=resolution))
    west, south, east, north = unwrapped(bounds)
    assume(len(zones) > 0)
    assert [zone.own[0] for zone in zones] == sorted(zone.own[0] for zone in zones)
    assert (zones[0].own[0], zones[-1].own[2]) == (west, east)
    for left, right in pairwise(zones):
        assert left.own[2] == right.own[0] and left.own[2] % 6 == 0
    dice = np.random.default_rng(1)
    lon, lat = dice.uniform(west, east, 200), dice.uniform(south, north, 200)
    for zone in zones:
        count = np.zeros(200, int)
        mine = (lon >= zone.own[0]) & (lon < zone.own[2])
        to_grid = Transformer.from_crs("EPSG:4326", zone.pinned[0], always_xy=True)
        x, y = to_grid.transform(lon, lat)
        for part in zone.parts:
            box = part.grid().boundingbox
            assert max(part.grid().shape) <= block
            count += (x >= box.left) & (x < box.right) & (y > box.bottom) & (y <= box.top)
        assert (count[mine] == 1).all()
        assert (count <= 1).all()


@settings(max_examples=25, deadline=None)
@given(places, st.sampled_from([(10.0, 700), (20.0, 300), (12.5, 500), (30.0, 128)]))
def test_parts_lie_on_one_grid_and_their_factors_too(
    bounds: tuple[float, float, float, float], size: tuple[float, int]
) -> None:
    resolution, block = size
    for zone in mosaics(area(bounds, block=block, resolution=resolution)):
        top, left, bottom, right = pixels(zone.grid())
        assert zone.nests
        whole = coarser(zone.grid(), max(30.0, resolution))
        for part in zone.parts:
            t, l, b, r = pixels(part.grid())
            assert top <= t < b <= bottom and left <= l < r <= right
            fine, a = factor_grid(part), whole.transform
            column, row = (fine.transform.c - a.c) / a.a, (fine.transform.f - a.f) / a.e
            assert column == pytest.approx(round(column), abs=1e-6)
            assert row == pytest.approx(round(row), abs=1e-6)
            # The factors end where the part does: none is drawn twice.
            assert fine.shape[0] * 30 == pytest.approx(part.grid().shape[0] * resolution) or (
                resolution > 30
            )


def test_zones_go_on_beyond_their_meridian() -> None:
    left, right = mosaics(area((130.9, 71.8, 133.2, 72.0)))
    assert (left.inner, right.inner) == ((False, True), (True, False))
    lat = np.linspace(71.8, 72.0, 50)
    for zone, side, way in ((left, 1, 1), (right, 0, -1)):
        to_grid = Transformer.from_crs("EPSG:4326", zone.pinned[0], always_xy=True)
        x, y = to_grid.transform(np.full(50, 132.0), lat)
        assert zone.meridian(side, np.asarray(y)) == pytest.approx(np.asarray(x), abs=0.01)
        box = zone.grid().boundingbox
        edge = box.right if way == 1 else box.left
        assert (way * (edge - np.asarray(x)) >= HALO * 10 * 0.99).all()


def test_small_areas_and_sites_stay_whole() -> None:
    assert mosaics(area((131.9, 71.8, 132.3, 71.9))) == ()  # across a meridian, 14 km wide
    assert mosaics(area((129, 71, 133, 72), source="files")) == ()
    train = area((129, 71, 133, 72), role="train", outlines=Path("slumps.gpkg"))
    assert mosaics(train) == ()


@settings(max_examples=100, deadline=None)
@given(places, st.sampled_from([64, 512, 3072]), st.sampled_from([10.0, 30.0]))
def test_areas_that_are_taken_for_small_are_small(
    bounds: tuple[float, float, float, float], block: int, resolution: float
) -> None:
    "Without a grid, which takes packages that are slow to load"
    west, south, east, north = bounds
    site = area((west, south, west + (east - west) % 360 / 20, north), block=block)
    site = site.model_copy(update={"resolution": resolution})
    assume(site.bounds[2] <= 180)
    if not _may_be_large(site):
        assert mosaics(site) == ()


def test_a_grown_area_keeps_its_inner_parts(tmp_path: Path) -> None:
    "Names, pixels and settings: what was exported is not exported again"
    small, large = (129.0, 71.0, 131.5, 72.0), (128.5, 70.9, 131.8, 72.2)
    before = {part.name: part for zone in mosaics(area(small)) for part in zone.parts}
    after = {part.name: part for zone in mosaics(area(large, block=3072)) for part in zone.parts}
    same = [name for name in before if after[name].pinned == before[name].pinned]
    assert set(before) < set(after)
    assert len(same) >= 2  # those that the edge did not cut
    (tmp_path / "thawslump.yaml").write_text("name: x\n")
    workspace = Workspace(tmp_path)
    for name in same:
        left, right = (export_settings(workspace, one[name]) for one in (before, after))
        assert left == right


def test_across_the_antimeridian() -> None:
    left, right = mosaics(area((178.0, 64.0, -178.0, 65.0)))
    assert (left.pinned[0], right.pinned[0]) == ("EPSG:32660", "EPSG:32601")
    assert (left.name, right.name) == ("lena-60N", "lena-01N")
    assert (left.bounds, right.bounds) == ((178, 64, 180, 65), (-180, 64, -178, 65))
    assert left.holds(179.5) and not left.holds(-179.5)
    assert right.holds(-179.5) and not right.holds(179.5)
    small = grid_over((179.95, 65.0, -179.95, 65.03), 10)
    west, _, east, _ = lonlat_bounds(small)
    assert west == pytest.approx(179.95, abs=0.01) and east == pytest.approx(-179.95, abs=0.01)
    assert max(small.shape) < 600  # not around the globe


def test_a_crs_of_ones_own_and_the_pole_keep_one_grid() -> None:
    (one,) = mosaics(area((-140.0, 70.0, -120.0, 72.0), crs="EPSG:3413"))
    assert one.name == "lena-3413" and one.inner == (False, False) and len(one.parts) > 50
    (pole,) = mosaics(area((-40.0, 82.9, -30.0, 84.5)))
    assert pole.pinned[0] == "EPSG:3413"
    assert all("-s0" in name for name in pole.names)  # south of the projection's origin


def test_bounds_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"would be 359\.9 degrees wide"):
        grid_over((129.1, 71.8, 129.0, 71.9), 10)
    with pytest.raises(ConfigError, match="longitudes from -180 to 180"):
        grid_over((178.0, 64.0, 182.0, 65.0), 10)
    with pytest.raises(ConfigError, match="cannot hold the bounds"):
        grid_over((-40.0, -90.0, 40.0, -80.0), 10, "EPSG:3413")
    with pytest.raises(ConfigError, match=r"has 66 letters; names have at most 64"):
        mosaics(area((129, 71, 133, 72), name="a" * 53))


def workspace_with(root: Path, *sites: Site) -> Workspace:
    from thawslump.config import save_yaml

    (root / "thawslump.yaml").write_text("name: x\n")
    for folder in ("areas", "sites"):
        (root / folder).mkdir()
    for site in sites:
        folder = "areas" if site.role == "area" else "sites"
        save_yaml(root / folder / f"{site.name}.yaml", site)
    return Workspace(root)


def test_a_workspace_knows_areas_and_parts(tmp_path: Path) -> None:
    workspace = workspace_with(
        tmp_path, area((130.9, 71.8, 133.2, 72.0)), area((129, 71, 129.1, 71.1), name="small")
    )
    assert list(workspace.declared) == ["lena", "small"]
    assert list(workspace.mosaics) == ["lena-52N", "lena-53N"]
    assert set(workspace.sites) == {"small", *workspace.parts("lena")}
    one = workspace.mosaics["lena-52N"].names[0]
    assert workspace.area_of(one) == workspace.area_of("lena-52N") == "lena"
    assert workspace.parts(one) == (one,) and workspace.parts("small") == ("small",)
    assert workspace.views("lena") == ("lena-52N", "lena-53N")
    assert workspace.stack(one).name == "stack.tif"
    assert workspace.stack("lena-52N").name == "stack.vrt"
    assert workspace.map(2, "lena-52N").relative_to(tmp_path).as_posix() == (
        "rounds/2/maps/lena-52N.vrt"
    )
    with pytest.raises(ConfigError, match=r'no site "lene".*lena'):
        workspace.site("lene")


def test_a_site_that_is_called_like_a_part_is_refused(tmp_path: Path) -> None:
    name = mosaics(area((130.9, 71.8, 133.2, 72.0)))[0].names[0]
    workspace = workspace_with(
        tmp_path, area((130.9, 71.8, 133.2, 72.0)), area((129, 71, 129.1, 71.1), name=name)
    )
    with pytest.raises(ConfigError, match='is a part of the area "lena" and a site of its own'):
        workspace.sites  # noqa: B018


# Mosaics -------------------------------------------------------------------------------------


def one_zone(block: int = 66, side: int = 150) -> tuple[Site, Mosaic]:
    """An area whose blocks fill its grid, which is no multiple of their size."""
    grid = GeoBox((side, side + 27), _affine(500_010.0, 7_970_010.0), "EPSG:32652")
    site = area(lonlat_bounds(grid), crs="EPSG:32652", block=block, name="hills")
    (zone,) = mosaics(site)
    return site, zone


def _affine(x: float, y: float) -> Any:
    from affine import Affine

    return Affine(10, 0, x, 0, -10, y)


def cut(array: np.ndarray, zone: Mosaic, part: Any) -> np.ndarray:
    top, left, bottom, right = (
        v - w for v, w in zip(pixels(part.grid()), pixels(zone.grid())[:2] * 2, strict=True)
    )
    return array[..., top:bottom, left:right]


def test_a_mosaic_is_its_parts(tmp_path: Path) -> None:
    _, zone = one_zone()
    assert len(zone.parts) > 4
    shape = tuple(zone.grid().shape)
    dice = np.random.default_rng(0)
    array = dice.normal(size=(2, *shape)).astype("float32")
    array[0, :20] = np.nan
    for part in zone.parts[:-1]:
        write_cog(
            tmp_path / part.name / "stack.tif", cut(array, zone, part), part.grid(),
            ("a", "b") if part is not zone.parts[0] else ("a", "c"),
            nodata=float("nan"), units=("m", "dB"),
        )  # fmt: skip
    path = tmp_path / "whole" / "stack.vrt"
    write_vrt(path, [tmp_path / name / "stack.tif" for name in zone.names[:-1]], zone.grid())
    assert str(tmp_path) not in path.read_text()  # the folder can be moved
    found = read_float(path)
    assert found.names == ("a", "c", "b")
    assert found.grid == zone.grid()
    hole = np.ones(shape, bool)
    cut(hole, zone, zone.parts[-1])[...] = False
    expected = np.where(hole, array, np.nan)
    np.testing.assert_array_equal(found.array[0], expected[0])
    first = np.zeros(shape, bool)
    cut(first, zone, zone.parts[0])[...] = True
    np.testing.assert_array_equal(found.array[1], np.where(first, expected[1], np.nan))
    np.testing.assert_array_equal(found.array[2], np.where(first, np.nan, expected[1]))


def test_a_mosaic_refuses_what_does_not_fit(tmp_path: Path) -> None:
    _, zone = one_zone()
    part = zone.parts[0]
    shape = tuple(part.grid().shape)
    shifted = GeoBox(shape, part.grid().transform @ _shift(0.3), part.grid().crs)
    one, other, ints = (tmp_path / f"{n}.tif" for n in ("one", "other", "ints"))
    zeros = np.zeros((1, *shape), "float32")
    write_cog(one, zeros, part.grid(), ("a",), nodata=float("nan"))
    write_cog(other, zeros, shifted, ("a",), nodata=float("nan"))
    write_cog(ints, zeros.astype("uint16"), zone.parts[0].grid(), ("a",), nodata=0)
    with pytest.raises(DataError, match=r"other.tif is not on the grid of the mosaic"):
        write_vrt(tmp_path / "m.vrt", [one, other], zone.grid())
    with pytest.raises(DataError, match="band a is uint16, in another part float32"):
        write_vrt(tmp_path / "m.vrt", [one, ints], zone.grid())
    assert not (tmp_path / "m.vrt").exists()


def _shift(share: float) -> Any:
    from affine import Affine

    return Affine.translation(share, 0)


# Outlines across the antimeridian --------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(-3000, 3000), st.floats(-20_000, 20_000), st.floats(30, 2000))
def test_outlines_at_the_antimeridian_come_back(x: float, y: float, radius: float) -> None:
    east, north = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(180, 66)
    shape = shapely.Point(east + x, north + y).buffer(radius)
    (there,) = to_lonlat([shape], "EPSG:32660")
    assert there.bounds[0] >= -180 and there.bounds[2] <= 180
    # In two pieces where it crosses, none of them around the globe.
    assert all(p.bounds[2] - p.bounds[0] < 1 for p in shapely.get_parts(there))
    assert there.area == pytest.approx(
        shape.area / (111_320**2 * np.cos(np.radians(there.centroid.y))), rel=0.03
    )
    for crs in ("EPSG:32660", "EPSG:32601"):
        (back,) = from_lonlat([there], crs)
        assert len(shapely.get_parts(back)) == 1
        if crs == "EPSG:32660":
            assert back.symmetric_difference(shape).area < 1e-4 * shape.area + 1


def test_a_box_across_the_antimeridian_holds_both_sides() -> None:
    box = lonlat_box((179.0, 64.0, -179.0, 65.0))
    assert box.contains(shapely.Point(179.5, 64.5)) and box.contains(shapely.Point(-179.5, 64.5))
    assert not box.intersects(shapely.Point(0, 64.5))


@settings(max_examples=60, deadline=None)
@given(st.lists(places, min_size=1, max_size=5))
@example([(80.0, 0.0, 81.0, 1.0), (170.0, 0.0, 171.0, 1.0), (-100.0, 0.0, -99.0, 1.0)])
def test_the_box_of_all_holds_each(boxes: list[tuple[float, float, float, float]]) -> None:
    box = box_of_all(boxes)
    # East of 180 the box is folded back, which rounds: 1e-9 degrees are a tenth of a millimetre.
    assert box_of_all([box]) == pytest.approx(box, abs=1e-9)
    whole = lonlat_box(box).buffer(1e-9)
    for one in boxes:
        for corner in ((one[0], one[1]), (one[2], one[3])):
            assert whole.intersects(shapely.Point(corner)) or abs(corner[0]) == 180
    shape = shapely.geometry.shape(geojson_box(box))
    assert shape.area == pytest.approx(lonlat_box(box).area) and shape.is_valid


def test_the_satellite_is_seen_alike_on_both_sides_of_the_antimeridian() -> None:
    west, across, east = (
        orbit_look(area(bounds, crs="EPSG:32660"), "DESCENDING")
        for bounds in (
            (179.7, 66.0, 179.9, 66.1), (179.9, 66.0, -179.9, 66.1), (-179.9, 66.0, -179.7, 66.1),
        )
    )  # fmt: skip
    # The direction turns with the meridians, steadily.
    assert across == pytest.approx((west + east) / 2, abs=0.01)
    assert abs(west - east) < 0.5
