"""Maps to outlines and back, new against known, the order of review, labels."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from skimage import measure

from inventory.candidates import Collector, is_known, outlines, teaching_score
from inventory.labels import reviewed_labels, whole_labels
from inventory.scripted import are_slumps, errs
from inventory.statistics import power_law, sizes
from thawslump.vector import rasterize

TRANSFORM = Affine(10, 0, 500_000, 0, -10, 7_970_000)


def grid(shape: tuple[int, int]) -> GeoBox:
    return GeoBox(shape, TRANSFORM, "EPSG:32652")


def drawn(probability: np.ndarray, **options: float) -> list:
    zeros = np.zeros_like(probability)
    keep = {"threshold": 0.5, "minimum_pixels": 1, "hole_pixels": 0, **options}
    return outlines(probability, zeros, zeros, TRANSFORM, **keep)


maps = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 0.3, 0.5, 0.9, float("nan")]),
)


@settings(max_examples=60, deadline=None)
@given(maps)
def test_outlines_burned_back_are_the_thresholded_map(probability: np.ndarray) -> None:
    """Nothing is lost or invented between pixels and polygons; parts are those of scikit-image."""
    found = drawn(probability)
    expected = np.nan_to_num(probability, nan=0.0) >= 0.5
    burned = rasterize([o.geometry for o in found], grid(probability.shape)).astype(bool)
    np.testing.assert_array_equal(burned, expected)
    regions = measure.label(expected, connectivity=1)
    assert len(found) == regions.max()
    assert sorted(o.pixels for o in found) == sorted(np.bincount(regions.ravel())[1:])
    for outline in found:
        assert outline.geometry.is_valid
        assert outline.geometry.area == pytest.approx(100 * outline.pixels)


@settings(max_examples=60, deadline=None)
@given(maps, st.integers(1, 4))
def test_holes_are_filled_as_scikit_image_does(probability: np.ndarray, size: int) -> None:
    """Background parts of at most `size` pixels that touch neither edge nor nodata are filled."""
    inside = np.nan_to_num(probability, nan=0.0) >= 0.5
    expected = inside.copy()
    parts = measure.label(~inside, connectivity=1)
    nodata = np.isnan(probability)
    for part in measure.regionprops(parts):
        rows, columns = part.coords.T
        edge = (
            (rows == 0)
            | (columns == 0)
            | (rows == inside.shape[0] - 1)
            | (columns == inside.shape[1] - 1)
        )
        if part.area <= size and not edge.any() and not nodata[rows, columns].any():
            expected[rows, columns] = True
    found = drawn(probability, hole_pixels=size)
    burned = rasterize([o.geometry for o in found], grid(probability.shape)).astype(bool)
    np.testing.assert_array_equal(burned, expected)


@settings(max_examples=80, deadline=None)
@given(maps, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_a_map_cut_in_strips_has_the_same_outlines(
    probability: np.ndarray, rows: int, holes: int, minimum: int
) -> None:
    """Holes, small outlines and shapes that cross a seam come out as from the whole map."""
    rng = np.random.default_rng(probability.size)
    spread = rng.uniform(0, 0.5, probability.shape).astype("float32")
    options = {"threshold": 0.5, "minimum_pixels": minimum, "hole_pixels": holes}
    whole = outlines(probability, spread, spread, TRANSFORM, **options)
    collector = Collector(TRANSFORM, **options)
    for top in range(0, len(probability), rows):
        bottom = min(top + rows, len(probability))
        first, last = max(0, top - collector.halo), min(len(probability), bottom + collector.halo)
        parts = (layer[first:last] for layer in (probability, spread, spread))
        collector.add(*parts, above=top - first, below=last - bottom)
    cut = collector.finish()
    assert [o.pixels for o in cut] == [o.pixels for o in whole]
    for one, other in zip(cut, whole, strict=True):
        assert shapely.normalize(one.geometry).wkt == shapely.normalize(other.geometry).wkt
        assert one.probability_mean == pytest.approx(other.probability_mean, rel=1e-12)
        assert one.probability_max == other.probability_max
        assert one.disagreement == pytest.approx(other.disagreement, rel=1e-12)


def test_attributes_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.5, 1, (6, 8)).astype("float32")
    probability[:, 3] = 0.1
    spread = rng.uniform(0, 0.5, (6, 8)).astype("float32")
    filled = rng.uniform(0, 1, (6, 8)).astype("float32")
    left, right = outlines(
        probability, spread, filled, TRANSFORM, threshold=0.5, minimum_pixels=1, hole_pixels=0
    )
    for outline, part in ((left, np.s_[:, :3]), (right, np.s_[:, 4:])):
        assert outline.probability_mean == pytest.approx(probability[part].mean(), rel=1e-5)
        assert outline.probability_max == pytest.approx(probability[part].max())
        assert outline.disagreement == pytest.approx(spread[part].mean(), rel=1e-5)
        assert outline.filled == pytest.approx(filled[part].mean(), rel=1e-5)


def test_small_outlines_are_left_out() -> None:
    probability = np.zeros((6, 6), "float32")
    probability[0, 0] = probability[3:5, 3:5] = 1
    assert [o.pixels for o in drawn(probability, minimum_pixels=2)] == [4]


def test_smoothing_keeps_outlines_in_place() -> None:
    y, x = np.mgrid[:60, :60]
    disc = (np.hypot(y - 30, x - 30) < 20).astype("float32")
    rough, smooth = drawn(disc)[0], drawn(disc, smoothing=1.0)[0]
    assert len(smooth.geometry.exterior.coords) < len(rough.geometry.exterior.coords) / 2
    both = rough.geometry.intersection(smooth.geometry).area
    assert both / rough.geometry.union(smooth.geometry).area > 0.93


def test_an_empty_map_has_no_outlines() -> None:
    assert drawn(np.full((4, 4), np.nan, "float32")) == []
    assert drawn(np.zeros((0, 0), "float32")) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=1, max_size=8), st.integers(1, 4))
def test_known_agrees_with_counting_cells(boxes: list[tuple[int, ...]], split: int) -> None:
    """Shares by geometry against shares by counting unit cells."""
    squares = [shapely.box(x, y, x + 1 + w % 5, y + 1 + h % 5) for x, y, w, h in boxes]
    found, known = squares[:split], squares[split:]
    cells = []
    for square in squares:
        west, south, east, north = map(int, square.bounds)
        cells.append({(x, y) for x in range(west, east) for y in range(south, north)})
    expected = []
    for one in cells[:split]:
        union = set().union(*cells[split:]) if known else set()
        share = len(one & union) / len(one)
        largest = max((len(one & other) / len(other) for other in cells[split:]), default=0)
        expected.append(share >= 0.3 or largest >= 0.6)
    got = is_known(found, known, covered=0.3, contains=0.6)
    assert got.tolist() == expected


@given(
    arrays(np.float64, 6, elements=st.floats(0.5, 1)),
    arrays(np.float64, 6, elements=st.floats(0, 0.5)),
    arrays(np.float64, 6, elements=st.floats(100, 1e6)),
)
def test_what_teaches_more_comes_first(p: np.ndarray, d: np.ndarray, a: np.ndarray) -> None:
    """The score stays in 0..1, falls with certainty and rises with disagreement."""
    score = teaching_score(p, d, a, threshold=0.5)
    assert ((score >= 0) & (score <= 1)).all()
    surer = teaching_score(np.minimum(p + 0.1, 1), d, a, threshold=0.5)
    assert (surer <= score + 1e-12).all()
    calmer = teaching_score(p, d * 0.5, a, threshold=0.5)
    assert (calmer <= score + 1e-12).all()


def test_labels_of_a_reviewed_area() -> None:
    """1 in accepted, 0 in rejected, 255 in the ring, in unsure and where nobody looked."""
    place = grid((20, 20))

    def pixels(row: int, column: int, size: int) -> shapely.Polygon:
        x, y = TRANSFORM @ (column, row)
        return shapely.box(x, y - 10 * size, x + 10 * size, y)

    accepted, rejected, unsure = pixels(5, 5, 3), pixels(7, 9, 4), pixels(15, 15, 2)
    labels = reviewed_labels([accepted], [rejected], [unsure], place, ring=2)
    expected = np.full((20, 20), 255)
    expected[7:11, 9:13] = 0
    expected[3:10, 3:10] = 255
    expected[5:8, 5:8] = 1
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8


def test_labels_of_a_whole_site_have_no_gaps() -> None:
    slump = shapely.box(*(TRANSFORM @ (2, 6)), *(TRANSFORM @ (5, 2)))
    labels = whole_labels([slump], grid((8, 8)))
    assert set(np.unique(labels)) == {0, 1}
    assert labels.sum() == 12


def test_the_scripted_reviewer_knows_slumps_by_area() -> None:
    truth = [shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)]
    cases = {
        "inside": shapely.box(1, 1, 3, 3),
        "both": shapely.box(0, 0, 20, 10),
        "mostly beside": shapely.box(-20, 0, 1, 10),
        "large around": shapely.box(-2, -2, 12, 12),
        "apart": shapely.box(50, 50, 60, 60),
    }
    got = dict(zip(cases, are_slumps(list(cases.values()), truth).tolist(), strict=True))
    assert got == {
        "inside": True, "both": True, "mostly beside": False, "large around": True, "apart": False
    }  # fmt: skip


def test_errors_are_fixed_by_seed_and_near_their_rate() -> None:
    names = [f"candidate {i}" for i in range(4000)]
    first = [errs(n, 1, 0.05) for n in names]
    assert first == [errs(n, 1, 0.05) for n in names]
    assert first != [errs(n, 2, 0.05) for n in names]
    # Binomial: 200 expected, standard deviation 13.8.
    assert abs(sum(first) - 200) < 5 * 13.8


def test_power_law_is_found_again() -> None:
    """Sizes drawn from a known law above a bound, others below it."""
    rng = np.random.default_rng(5)
    tail = 1000 * (1 - rng.uniform(size=4000)) ** (-1 / 1.4)
    alpha, bound = power_law(np.concatenate([tail, rng.uniform(100, 1000, 1000)])) or (0, 0)
    assert alpha == pytest.approx(2.4, abs=0.1)
    assert 700 < bound < 2500
    assert power_law(np.ones(100)) is None
    assert sizes(np.zeros(0)) is None
