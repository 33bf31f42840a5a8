"""Land cover by a tree: the day it takes, what it learns, and how its accuracy is judged."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ee
import geopandas
import numpy as np
import pytest
from affine import Affine
from gee_world import CRS, NORTH, WEST, Array, a_site, band, centres, height, world
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from shapely.geometry import box
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.tree import DecisionTreeClassifier
from test_gee_scripts import pixels, window_of

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.exports import landcover as exported
from gee.points import class_of, read_points
from gee.scripts import landcover
from gee.scripts.settled import Settled
from gee.session import connect
from thawslump.errors import ConfigError, DataError

SPECTRA = {  # B2, B3, B4, B8, B11, B12 of four classes, reflectance * 10000
    2: (300, 500, 300, 3200, 1500, 700),
    3: (500, 800, 600, 2600, 2000, 1200),
    4: (1200, 1500, 1800, 2200, 2900, 2500),
    5: (400, 350, 250, 120, 60, 40),
}
CLEAR_DAY = "2020-07-10"


@dataclass(frozen=True)
class Made:
    truth: Array


def put(catalog: Catalog, date: str, name: str, arrays: dict[str, Array]) -> None:
    time = dt.datetime.fromisoformat(f"{date}T10:00:00+00:00").timestamp() * 1000
    bands = [band(key, array, world(10)) for key, array in arrays.items()]
    catalog.put_image(f"COPERNICUS/S2_SR_HARMONIZED/{name}", bands, {}, start_ms=int(time))


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("landcover") / "catalog"
    folder.mkdir()
    dice = np.random.default_rng(5)
    grid = world(10)
    # Fields of 12 x 12 pixels; each has colours of its own, so neighbours are alike.
    fields = tuple(n // 12 for n in grid.shape)
    kinds = dice.choice(list(SPECTRA), fields)
    truth = np.kron(kinds, np.ones((12, 12), int)).astype(np.uint8)
    tones = [
        np.kron(dice.normal(1, 0.4, fields).clip(0.2, 2), np.ones((12, 12)))
        for _ in landcover.OPTICAL
    ]
    catalog = Catalog(folder, writable=True)
    catalog.put_collection("COPERNICUS/S2_SR_HARMONIZED")
    for date, cloudy in (("2020-06-10", 0.5), (CLEAR_DAY, 0.02), ("2020-08-10", 0.9)):
        bright = 1 if date == CLEAR_DAY else 3  # only one day shows the true colours
        arrays = {
            name: np.clip(
                bright * tones[number] * np.vectorize(lambda k, n=number: SPECTRA[k][n])(truth)
                + dice.normal(0, 60, grid.shape), 1, 10_000,
            ).astype("uint16")
            for number, name in enumerate(landcover.OPTICAL)
        }  # fmt: skip
        cloud = dice.random(grid.shape) < cloudy
        arrays["SCL"] = np.where(cloud, 9, 4).astype("uint8")
        half = grid.shape[1] // 2
        if date == CLEAR_DAY:  # two tiles of one day, each without the other's half
            for name, keep in (("west", slice(0, half)), ("east", slice(half, None))):
                parts = {k: np.zeros_like(v) for k, v in arrays.items()}
                for key, part in parts.items():
                    part[:, keep] = arrays[key][:, keep]
                put(catalog, date, f"{date}_{name}", parts)
        else:
            put(catalog, date, date, arrays)
    back = {v: k for k, v in reversed(landcover.FROM_WORLDCOVER.items())}
    cover = np.vectorize(back.__getitem__)(truth).astype("uint8")
    catalog.put_collection("ESA/WorldCover/v200")
    catalog.put_image("ESA/WorldCover/v200/2021", [band("Map", cover, grid, pyramiding="MODE")])
    dem = world(30, margin=90)
    heights = height(*centres(dem)).astype("float32")
    catalog.put_collection("COPERNICUS/DEM/GLO30")
    catalog.put_image("COPERNICUS/DEM/GLO30/all", [band("DEM", heights, dem)])
    with connect(BackendConfig(), folder):
        yield Made(truth)


SITE = {"sources": {"s1": "none"}}


def a_larger_site(**more: object):  # type: ignore[no-untyped-def]
    from thawslump.grid import lonlat_bounds

    grid = GeoBox((200, 200), Affine(10, 0, WEST + 200, 0, -10, NORTH - 200), CRS)
    return a_site(bounds=lonlat_bounds(grid), **SITE, **more)


@pytest.fixture(scope="module")
def learned(earth: Made) -> exported.Learned:
    """From the reference map."""
    return exported.learn(a_larger_site(), Settled())


def test_the_clearest_day_is_taken_whole(earth: Made) -> None:
    "Both tiles of the day, clouds masked; SCL 0 (no data) of a tile hides nothing of the other."
    site = a_larger_site()
    found = pixels(landcover.clearest_day(site), site.grid())
    assert list(found) == list(landcover.OPTICAL)
    assert 0.97 < np.isfinite(found["B4"]).mean() < 0.995
    truth = earth.truth[window_of(site.grid())]
    water = np.nanmedian(found["B8"][truth == 5])
    assert water == pytest.approx(120, rel=0.3)  # 360 on the other days


def test_the_tree_finds_the_classes(earth: Made) -> None:
    site = a_larger_site()
    image = landcover.predictors(site)
    names = [*landcover.OPTICAL, "NDVI", "elevation", "slope"]
    assert image.bandNames().getInfo() == names == list(landcover.inputs(site))
    points = landcover.drawn_points(site, per_class=60, seed=1)
    counts = points.aggregate_histogram("landcover").getInfo()
    assert set(counts) == {"2", "3", "4", "5"} and set(counts.values()) == {60}
    tree = landcover.trained(landcover.sampled(image, points, site), names)
    found = pixels(landcover.by_tree(image, tree), site.grid())["CART_LC_classified"]
    truth = earth.truth[window_of(site.grid())]
    seen = np.isfinite(found)
    assert (found[seen] == truth[seen]).mean() > 0.7


def test_what_is_learned_once_is_what_every_tile_would_learn(
    earth: Made, learned: exported.Learned
) -> None:
    """The tree as text gives the map of the tree that is trained inside the expression."""
    site = a_larger_site()
    assert str(learned.day) == CLEAR_DAY and learned.requests == 3
    settled = Settled(clear_day=learned.day, tree=learned.tree)
    ours, lazy = landcover.cart(site, settled), landcover.cart(site)
    np.testing.assert_array_equal(
        pixels(ours, site.grid())["CART_LC_classified"],
        pixels(lazy, site.grid())["CART_LC_classified"],
    )
    # A tile's classes do not depend on where the tile is cut.
    tile = GeoBox((70, 90), site.grid().transform @ Affine.translation(40, 100), CRS)
    np.testing.assert_array_equal(
        pixels(ours, tile)["CART_LC_classified"],
        pixels(ours, site.grid())["CART_LC_classified"][100:170, 40:130],
    )
    # Nothing is summed up, sampled or trained in a tile.
    for costly in ("reduceRegion", "sampleRegions", "stratifiedSample", "smileCart"):
        assert costly in lazy.serialize() and costly not in ours.serialize()
    assert exported.learn(site, Settled()) == learned


def test_accuracies_are_scikit_learns(learned: exported.Learned) -> None:
    """Confusions, kappa, producer's and user's accuracy, grouped folds first."""
    facts = learned.facts
    assert list(facts["accuracy"]) == ["grouped", "random"]
    for found in facts["accuracy"].values():
        matrix = np.array(found["matrix"])
        assert matrix.sum() == facts["points"]["used"] == sum(facts["points"]["per_class"].values())
        cells = np.argwhere(matrix)
        counts = matrix[tuple(cells.T)]
        true, said = np.repeat(cells[:, 0], counts), np.repeat(cells[:, 1], counts)
        assert found["overall"] == pytest.approx((true == said).mean(), abs=1e-4)
        assert found["kappa"] == pytest.approx(cohen_kappa_score(true, said), abs=1e-4)
        labels = np.unique(np.concatenate([true, said]))
        for key, score in (("producers", recall_score), ("users", precision_score)):
            expected = score(true, said, labels=labels, average=None, zero_division=0)
            ours = list(found[key].values())
            assert list(found[key]) == [list(landcover.CLASSES.values())[k] for k in labels]
            np.testing.assert_allclose([v or 0 for v in ours], expected, atol=1e-4)
    grouped, at_random = facts["accuracy"].values()
    assert (grouped["by"], at_random["by"]) == ("block of 400 m", "point at random")
    assert "block of 400 m" in exported.summary(facts)[1]


def test_folds_are_judged_by_trees_that_have_not_seen_them(earth: Made) -> None:
    """The confusion is that of scikit-learn's tree on the same table and folds."""
    site = a_larger_site()
    image, names = landcover.predictors(site), list(landcover.inputs(site))
    training = landcover.folds_by_block(
        landcover.sampled(image, landcover.drawn_points(site, 80, 2), site), site, size=400
    )
    columns = ["landcover", *names, "fold"]
    rows = training.reduceColumns(ee.Reducer.toList(len(columns)), columns).get("list").getInfo()
    table = np.array(rows, float)
    matrix = np.array(landcover.judged(training, names, "fold", 5).array().getInfo())
    x, y, fold = table[:, 1:-1], table[:, 0], table[:, -1]
    # Splits that are equally good are broken by chance there: many trees give the spread.
    theirs = []
    for seed in range(10):
        said = cross_val_predict(
            DecisionTreeClassifier(random_state=seed), x, y, groups=fold, cv=LeaveOneGroupOut()
        )
        theirs.append((said == y).mean())
    ours = np.trace(matrix) / matrix.sum()
    assert min(theirs) - 0.03 <= ours <= max(theirs) + 0.03


def test_no_group_is_in_two_folds() -> None:
    groups = np.random.default_rng(0).integers(0, 23, 400)
    folds = exported.dealt_by_group(groups, groups % 3)
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))
    sizes = np.bincount(folds)
    assert len(sizes) == 5 and sizes.max() - sizes.min() < 25


def polygons_of(earth: Made, path: Path, names: bool = False) -> Path:
    """One square inside every field of the made-up world, with its class."""
    fields = earth.truth[::12, ::12]
    rows = []
    for (row, col), label in np.ndenumerate(fields):
        x, y = WEST + col * 120, NORTH - row * 120
        rows.append((box(x + 30, y - 90, x + 90, y - 30), int(label)))
    frame = geopandas.GeoDataFrame(
        {
            "landcover": [landcover.CLASSES[v].split(", ")[-1] if names else v for _, v in rows],
            "geometry": [g for g, _ in rows],
        },
        crs=CRS,
    )
    frame.to_crs("EPSG:4326").to_file(path, engine="pyogrio")
    return path


def test_points_come_from_the_users_polygons(earth: Made, tmp_path: Path) -> None:
    path = polygons_of(earth, tmp_path / "known.gpkg", names=True)
    site = a_larger_site(landcover_points="known.gpkg")
    found = read_points(path, site, per_class=120)
    assert found.grouped and found.outside > 0
    truth = earth.truth[window_of(site.grid())]
    a = site.grid().transform
    for point in found.points:
        row, col = int((point.y - a.f) // a.e), int((point.x - a.c) // a.a)
        assert truth[row, col] == point.label
    per_class = Counter(point.label for point in found.points)
    assert set(per_class) == set(SPECTRA) and set(per_class.values()) == {120}
    # Taken in turn: no field gives many more than another.
    for label in per_class:
        of_field = Counter(point.group for point in found.points if point.label == label)
        assert max(of_field.values()) - min(of_field.values()) <= 1
    again = [[p.x, p.y] for p in read_points(path, site, per_class=120).points]
    assert again == [[p.x, p.y] for p in found.points]


def test_the_users_polygons_teach_the_tree(earth: Made, tmp_path: Path) -> None:
    path = polygons_of(earth, tmp_path / "known.geojson")
    site = a_larger_site(landcover_points="known.geojson")
    learned = exported.learn(site, Settled(), root=tmp_path, per_class=150)
    points = learned.facts["points"]
    assert points["from"] == "known.geojson"
    assert points["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    grouped, at_random = learned.facts["accuracy"].values()
    assert grouped["by"] == "polygon or group" and at_random["by"] == "point at random"
    # Pixels of one field have one tone: other pixels of the same field give it away.
    assert at_random["overall"] > grouped["overall"] + 0.02
    image = landcover.cart(site, Settled(clear_day=learned.day, tree=learned.tree))
    found = pixels(image, site.grid())["CART_LC_classified"]
    truth = earth.truth[window_of(site.grid())]
    seen = np.isfinite(found)
    assert (found[seen] == truth[seen]).mean() > 0.8


def test_a_class_of_one_polygon_is_said_not_to_be_judged(earth: Made, tmp_path: Path) -> None:
    path = tmp_path / "known.gpkg"
    rows = [(2, 0), (2, 300), (5, 600), (5, 900), (3, 1200)]
    geopandas.GeoDataFrame(
        {"landcover": [label for label, _ in rows]},
        geometry=[box(WEST + 300 + x, NORTH - 700, WEST + 360 + x, NORTH - 640) for _, x in rows],
        crs=CRS,
    ).to_file(path, engine="pyogrio")
    site = a_larger_site(landcover_points="known.gpkg")
    facts = exported.learn(site, Settled(), root=tmp_path).facts
    assert facts["in_one_group"] == ["pasture, grass"]
    assert facts["accuracy"]["grouped"]["producers"]["pasture, grass"] == 0
    said = "not judged by groups, as all points lie in one: pasture, grass"
    assert exported.summary(facts)[-1] == said


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("class", ["water"], "has no column landcover; it has class"),
        ("landcover", ["watr"], 'holds watr, which is no class. Did you mean "water"'),
        ("landcover", [9], "holds 9, which is no class"),
    ],
)
def test_files_that_teach_nothing_are_refused(
    tmp_path: Path, column: str, values: list, said: str
) -> None:
    path = tmp_path / "known.geojson"
    shape = [box(WEST + 800, NORTH - 1000, WEST + 900, NORTH - 950)]
    geopandas.GeoDataFrame({column: values}, geometry=shape, crs=CRS).to_crs(4326).to_file(path)
    with pytest.raises(DataError, match=said):
        read_points(path, a_site())


def test_a_file_of_another_place_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "known.geojson"
    shape = [box(100, 0, 101, 1)]
    geopandas.GeoDataFrame({"landcover": [5]}, geometry=shape, crs=4326).to_file(path)
    with pytest.raises(DataError, match="none of its features lies within site place"):
        read_points(path, a_site())
    with pytest.raises(DataError, match=r"never\.gpkg does not exist"):
        read_points(tmp_path / "never.gpkg", a_site())


def test_a_polygon_smaller_than_a_pixel_gives_one_point(tmp_path: Path) -> None:
    path = tmp_path / "known.geojson"
    shape = [box(WEST + 801, NORTH - 1002, WEST + 803, NORTH - 1001)]
    geopandas.GeoDataFrame({"landcover": [5]}, geometry=shape, crs=CRS).to_crs(4326).to_file(path)
    (point,) = read_points(path, a_site()).points
    assert point.x == pytest.approx(WEST + 802, abs=0.1) and point.label == 5


def test_one_class_is_no_land_cover(earth: Made, tmp_path: Path) -> None:
    path = tmp_path / "known.geojson"
    shape = [box(WEST + 400, NORTH - 900, WEST + 500, NORTH - 800)]
    geopandas.GeoDataFrame({"landcover": [5]}, geometry=shape, crs=CRS).to_crs(4326).to_file(path)
    site = a_larger_site(landcover_points="known.geojson")
    with pytest.raises(DataError, match=r"two classes at least.*known\.geojson.*water, sea only"):
        exported.learn(site, Settled(), root=tmp_path)


def test_points_of_a_file_cannot_be_read_inside_an_expression(earth: Made) -> None:
    with pytest.raises(ConfigError, match=r"file known\.gpkg, which an expression cannot read"):
        landcover.cart(a_site(landcover_points="known.gpkg"))


def test_large_sites_are_looked_at_coarsely(earth: Made) -> None:
    """A hundred kilometres at 10 m would be 10^8 pixels of the reference map."""
    small = a_larger_site()
    large = a_site(bounds=(14.0, 60.0, 15.8, 60.9), crs=CRS)
    for site in (small, large):
        rows, cols = site.grid().shape
        graph = json.loads(landcover.drawn_points(site).serialize())
        (call,) = (
            node["functionInvocationValue"]["arguments"]
            for node in graph["values"].values()
            if node.get("functionInvocationValue", {}).get("functionName")
            == "Image.stratifiedSample"
        )
        scale = call["scale"]["constantValue"]
        assert scale == 10 if site is small else 10 < scale < 25
        assert rows * cols * 100 / scale**2 <= 25_000_001


def test_a_file_where_an_asset_belongs_is_told_its_place(earth: Made) -> None:
    site = a_site(sources={"landcover_points": "known.gpkg"})
    with pytest.raises(ConfigError) as refused:
        landcover.points_of(site)
    assert "sources.landcover_points is known.gpkg, a file" in str(refused.value)
    assert "Write `landcover_points: known.gpkg`" in str(refused.value)


def test_no_map_and_no_points_are_refused(earth: Made) -> None:
    with pytest.raises(ConfigError, match="no points to learn the land cover from"):
        landcover.cart(a_site(sources={"landcover": "none"}))


def test_a_window_of_clouds_has_no_image_to_learn_from(earth: Made) -> None:
    from thawslump.site import Window

    site = a_larger_site(pre=Window(start="2020-08-01", end="2020-09-01"), cloud_mask="scl")
    cloudy = exported.learn(site, Settled()).facts["image"]
    assert cloudy["date"] == "2020-08-10" and cloudy["clear_share"] < 0.2
    with pytest.raises(DataError, match=r"no day of the window before .* shows any ground"):
        exported.learn(a_larger_site(pre=Window(start="2020-09-01", end="2020-10-01")), Settled())


def test_blocks_hold_neighbours_together(earth: Made) -> None:
    site = a_larger_site()
    points = landcover.folds_by_block(landcover.drawn_points(site, 40, 4), site, size=500)
    rows = points.map(
        lambda f: f.set("xy", f.geometry().transform(CRS, 0.1).coordinates())
    ).reduceColumns(ee.Reducer.toList(2), ["fold", "xy"]).get("list").getInfo()  # fmt: skip
    seen: dict[tuple[int, int], set[int]] = {}
    for fold, (x, y) in rows:
        seen.setdefault((int(x // 500), int(y // 500)), set()).add(fold)
    assert all(len(folds) == 1 for folds in seen.values())
    assert len({next(iter(folds)) for folds in seen.values()}) == 5


def test_no_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 points per class cannot train"):
        landcover.drawn_points(a_site(), per_class=0)


@given(arrays(np.int64, (8, 8), elements=st.integers(0, 30)))
@settings(max_examples=60, deadline=None)
def test_measures_are_scikit_learns_for_any_confusion(matrix: Array) -> None:
    assume(matrix.sum() > 0)
    cells = np.argwhere(matrix)
    counts = matrix[tuple(cells.T)]
    true, said = np.repeat(cells[:, 0], counts), np.repeat(cells[:, 1], counts)
    found = exported.measures(matrix)
    assert found["overall"] == pytest.approx((true == said).mean(), abs=1e-4)
    if len(set(true) | set(said)) == 1:
        assert found["kappa"] is None
    else:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(true, said), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), min_size=1), st.integers(2, 7))
@settings(max_examples=60, deadline=None)
def test_groups_are_dealt_whole(points: list[tuple[int, int]], folds: int) -> None:
    groups, labels = (list(column) for column in zip(*points, strict=True))
    dealt = exported.dealt_by_group(groups, labels, folds)
    for group in set(groups):
        assert len({int(f) for f, g in zip(dealt, groups, strict=True) if g == group}) == 1
    # Numbered without gaps: every fold has something to judge.
    assert set(dealt) == set(range(dealt.max() + 1))
    assert dealt.max() < min(folds, len(set(groups)))
    assert (dealt == exported.dealt_by_group(groups, labels, folds)).all()


def test_polygons_of_a_rare_class_are_not_held_back_together() -> None:
    """Four polygons of a rare class among 25: each lies in a fold of its own."""
    labels = np.repeat([1] * 9 + [2] * 8 + [4] * 4 + [5] * 4, 22)
    groups = np.repeat(np.arange(25), 22)
    dealt = exported.dealt_by_group(groups, labels)
    for label in (4, 5):
        assert len(set(dealt[labels == label])) == 4


@pytest.mark.parametrize(("number", "names"), landcover.CLASSES.items())
def test_classes_have_numbers_and_names(number: int, names: str) -> None:
    for given_ in (number, str(number), float(number), names, *names.upper().split(", ")):
        assert class_of(given_) == number
    assert class_of(number + 0.5) is None and class_of(None) is None


def test_a_text_that_is_another_tree_is_refused(earth: Made) -> None:
    """What tiles would be made of must be what was learned and judged."""

    def ask(request):  # type: ignore[no-untyped-def]
        answer = request()
        return answer | {"differ": 12} if isinstance(answer, dict) and "tree" in answer else answer

    with pytest.raises(DataError, match=r"written as text, gives 12 of \d+ points another class"):
        exported.learn(a_larger_site(), Settled(), ask)


def test_what_the_service_refuses_is_said_of_the_land_cover(earth: Made) -> None:
    def ask(request):  # type: ignore[no-untyped-def]
        raise ee.EEException("User memory limit exceeded.")

    with pytest.raises(DataError) as refused:
        exported.learn(a_larger_site(), Settled(), ask)
    assert "its land cover cannot be learned: User memory limit exceeded." in str(refused.value)
    assert "leave CART_LC_classified out of its bands" in str(refused.value)
