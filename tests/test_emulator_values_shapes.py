"""Geometries: geodesic shapes on the sphere, measures on the ellipsoid, what is empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
import shapely
from emulator_engine_world import Earth, earth
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from gee.emulator.errors import EngineError
from gee.emulator.functions._gnomonic import gnomonic_of

GEOD = Geod(ellps="WGS84")
BAND = [[-60, 50], [60, 50], [60, 60], [-60, 60]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("shapes")) as found:
        yield found


def unit(lon: float, lat: float) -> np.ndarray:
    x, y = np.radians([lon, lat])
    return np.array([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)])


def crossing_latitude(a: list[float], b: list[float], lon: float) -> float:
    "Latitude at which the great circle through two points crosses a meridian."
    normal = np.cross(unit(*a), unit(*b))
    x = np.radians(lon)
    return float(
        np.degrees(np.arctan2(-(normal[0] * np.cos(x) + normal[1] * np.sin(x)), normal[2]))
    )


def test_geodesic_edges_decide_what_a_polygon_contains(world: Earth) -> None:
    "Edges are great circles unless said otherwise: at 0 E they lie far north of their ends."
    low, high = crossing_latitude(BAND[0], BAND[1], 0), crossing_latitude(BAND[3], BAND[2], 0)
    assert 60 < low < high
    bent, straight = ee.Geometry.Polygon([BAND]), ee.Geometry.Polygon([BAND], None, False)
    for latitude in (55, (low + high) / 2, low - 0.01, low + 0.01, high - 0.01, high + 0.01):
        point = ee.Geometry.Point(0, latitude)
        assert world.info(bent.contains(point)) is (low < latitude < high)
        assert world.info(bent.disjoint(point)) is not (low < latitude < high)
        assert world.info(straight.contains(point)) is (50 < latitude < 60)


def test_geodesic_intersections_have_corners_on_great_circles(world: Earth) -> None:
    half = ee.Geometry.Polygon([[[0, 0], [60, 0], [60, 89], [0, 89]]])
    found = world.info(ee.Geometry.Polygon([BAND]).intersection(half, 1))
    ring = found["coordinates"][0]
    corners = {tuple(np.round(c, 6)) for c in ring}
    # The corner of the band keeps its coordinates exactly; the others lie on the meridian.
    assert [60, 50] in ring
    assert [60, 60] in ring
    for south, north in ((BAND[0], BAND[1]), (BAND[3], BAND[2])):
        assert (0, round(crossing_latitude(south, north, 0), 6)) in corners
    assert shapely.Polygon(ring).exterior.is_ccw
    assert "geodesic" not in found


@given(
    st.integers(-180, 180), st.integers(-70, 70),
    st.lists(
        st.tuples(st.integers(-2000, 2000), st.integers(-2000, 2000)),
        min_size=3, max_size=8, unique=True,
    ),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_plane_of_great_circles_gives_points_back(
    lon: int, lat: int, steps: list[tuple[int, int]]
) -> None:
    "Known vertices exactly; others to the arithmetic; middles of edges lie on great circles."
    points = shapely.MultiPoint([(lon + x / 100, lat + y / 110) for x, y in steps])
    plane = gnomonic_of([points])
    assert plane is not None
    flat = plane.forward(points)
    assert plane.back(flat) == points
    a, b = (np.array(p.coords[0]) for p in flat.geoms[:2].geoms)
    middle = plane.back(shapely.Point((a + b) / 2)).coords[0]
    normal = np.cross(unit(*points.geoms[0].coords[0]), unit(*points.geoms[1].coords[0]))
    assert abs(normal @ unit(*middle)) < 1e-12


def test_hulls_are_of_the_sphere(world: Earth) -> None:
    "A point south of the great circle between two others is outside of their hull's edge."
    points = [[-60, 50], [60, 50], [0, 40], [0, 60]]
    hull = world.info(ee.Geometry.MultiPoint(points).convexHull())["coordinates"][0]
    # The great circle between the first two passes 0 E at 67 N: north of all others.
    assert crossing_latitude(points[0], points[1], 0) > 60
    assert sorted(map(tuple, hull[:-1])) == [(-60, 50), (0, 40), (60, 50)]
    assert world.info(ee.Geometry.Point(1, 2).convexHull().type()) == "Point"
    assert world.info(ee.Geometry.MultiPoint([[0, 0], [1, 1]]).convexHull().type()) == "LineString"


@pytest.mark.parametrize("distances", [[30_000], [30_000, 150_000, 10_000], [1e9], [0, -5]])
def test_lines_are_cut_at_distances_along_the_ellipsoid(
    world: Earth, distances: list[float]
) -> None:
    "GeographicLib: pieces end where the distances say and together are the line."
    line = [[0, 0], [0, 1], [1, 1]]
    found = world.info(ee.Geometry.LineString(line).cutLines(distances))
    lengths = [GEOD.line_length(*zip(*piece, strict=True)) for piece in found["coordinates"]]
    total = GEOD.line_length(*zip(*line, strict=True))
    inside = sorted(d for d in distances if 0 < d < total)
    assert np.cumsum(lengths) == pytest.approx([*inside, total], abs=1e-3)
    corners = [c for piece in found["coordinates"] for c in piece]
    assert all(corner in corners for corner in line)
    assert found["type"] == "MultiLineString"


def test_what_is_no_line_is_cut_to_nothing(world: Earth) -> None:
    "[A] Geometry.cutLines."
    found = world.info(ee.Geometry.Point(0, 0).cutLines([1]))
    assert (found["type"], found["coordinates"]) == ("MultiLineString", [])


def test_simplified_lines_keep_the_vertices_they_have(world: Earth) -> None:
    line = ee.Geometry.LineString([[0, 0], [1, 0.0001], [2, 0]])
    assert world.info(line.simplify(1))["coordinates"] == [[0, 0], [1, 0.0001], [2, 0]]
    assert world.info(line.simplify(100))["coordinates"] == [[0, 0], [2, 0]]


def test_distances_on_the_ellipsoid_and_on_the_sphere(world: Earth) -> None:
    a, b = ee.Geometry.Point(10, 50), ee.Geometry.Point(11, 51)
    assert world.info(a.distance(b)) == pytest.approx(GEOD.inv(10, 50, 11, 51)[2], rel=1e-9)
    angle = np.arccos(unit(10, 50) @ unit(11, 51))
    assert world.info(a.distance(b, spherical=True)) == pytest.approx(6_371_010 * angle, rel=1e-9)
    assert world.info(a.withinDistance(b, 1e6)) is True


def test_nothing_is_nowhere(world: Earth) -> None:
    "[A] closestPoint: null for an empty input; closestPoints: an empty dictionary."
    empty, point = ee.Geometry.MultiPoint([]), ee.Geometry.Point(3, 4)
    assert world.info(point.closestPoint(empty)) is None
    assert world.info(point.closestPoints(empty)) == {}
    assert world.info(point.distance(empty)) == "Infinity"
    assert world.info(point.withinDistance(empty, 1e9)) is False
    assert world.info(empty.bounds())["coordinates"] == []
    assert world.info(empty.area()) == 0
    assert world.info(empty.simplify(1))["coordinates"] == []
    with pytest.raises(EngineError, match=r"^Feature.area: The feature has no geometry"):
        world.info(ee.Feature(None).area())


def test_nearest_points_keep_the_coordinates_of_vertices(world: Earth) -> None:
    line = ee.Geometry.LineString([[0, 0], [0, 1]])
    found = world.info(line.closestPoints(ee.Geometry.Point(1, 2)))
    assert found["left"]["coordinates"] == [0, 1]
    assert found["right"]["coordinates"] == [1, 2]


def test_boxes_begin_at_their_lower_left(world: Earth) -> None:
    box = ee.Geometry.LineString([[1, 2], [3, 5]]).bounds()
    assert world.info(box)["coordinates"] == [[[1, 2], [3, 2], [3, 5], [1, 5], [1, 2]]]
    assert world.info(box)["geodesic"] is False


def test_without_even_odd_the_inside_is_on_the_left(world: Earth) -> None:
    "The client's ee.Geometry.Polygon: evenOdd false, interiors on the left of the edges."
    ring = [[0, 0], [1, 0], [1, 1], [0, 1]]

    def contains(corners: list[list[int]], even_odd: bool, at: list[float]) -> Any:
        made = ee.Geometry.Polygon(
            [corners], proj=None, geodesic=False, maxError=None, evenOdd=even_odd
        )
        return world.info(made.contains(ee.Geometry.Point(at)))

    for corners, even_odd, inside in (
        (ring, True, True),
        (ring[::-1], True, True),
        (ring, False, True),
        (ring[::-1], False, False),
    ):
        assert contains(corners, even_odd, [0.5, 0.5]) is inside
        assert contains(corners, even_odd, [20, 20]) is not inside


@pytest.mark.parametrize(
    ("sides", "bounds"),
    [
        ((190, 0, 200, 1), (-170, 0, -160, 1)),
        ((170, 0, -170, 1), (170, 0, 190, 1)),
        ((-200, -100, 200, 100), (-180, -90, 180, 90)),
        ((-190, 0, -185, 1), (170, 0, 175, 1)),
    ],
)
def test_boxes_of_computed_sides_are_the_clients(
    world: Earth, sides: tuple[float, ...], bounds: tuple[float, ...]
) -> None:
    "The client makes boxes of plain numbers itself (ee.Geometry.BBox): both must be one."
    served = world.info(ee.Geometry.BBox(*(ee.Number(s) for s in sides)))
    assert shapely.Polygon(served["coordinates"][0]).bounds == bounds
    made = shapely.Polygon(ee.Geometry.BBox(*sides).toGeoJSON()["coordinates"][0])
    assert made.bounds == bounds
