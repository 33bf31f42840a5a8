"""Land cover by a tree: the day it takes, what it learns, and how its accuracy is judged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import ee
import numpy as np
import pytest
from gee_world import CRS, NORTH, WEST, Array, a_site, band, centres, height, world
from sklearn.metrics import cohen_kappa_score
from test_gee_scripts import pixels, window_of

from gee.config import BackendConfig
from gee.emulator.catalog import Catalog
from gee.scripts import landcover
from gee.session import connect
from thawslump.errors import ConfigError

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
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from thawslump.grid import lonlat_bounds

    grid = GeoBox((200, 200), Affine(10, 0, WEST + 200, 0, -10, NORTH - 200), CRS)
    return a_site(bounds=lonlat_bounds(grid), **SITE, **more)


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
    assert image.bandNames().getInfo() == [*landcover.OPTICAL, "NDVI", "elevation", "slope"]
    points = landcover.drawn_points(site, per_class=60, seed=1)
    counts = points.aggregate_histogram("landcover").getInfo()
    assert set(counts) == {"2", "3", "4", "5"} and set(counts.values()) == {60}
    training = landcover.sampled(image, points, site)
    found = pixels(landcover.classified(image, training), site.grid())["CART_LC_classified"]
    truth = earth.truth[window_of(site.grid())]
    seen = np.isfinite(found)
    assert (found[seen] == truth[seen]).mean() > 0.7


def test_accuracy_by_folds_is_scikit_learns_and_blocks_are_stricter(earth: Made) -> None:
    "Points of one field are alike: random folds promise more than ground that was not seen."
    site = a_larger_site()
    image = landcover.predictors(site)
    points = landcover.drawn_points(site, per_class=100, seed=2)
    training = landcover.sampled(image, points, site)
    blocked = landcover.folds_by_block(training, site, size=360, folds=5)
    at_random = training.randomColumn("r", 3).map(
        lambda f: f.set("fold", ee.Number(f.get("r")).multiply(5).floor())
    )
    scores = {}
    for name, points_ in (("blocks", blocked), ("random", at_random)):
        folds = points_.aggregate_histogram("fold").getInfo()
        assert len(folds) == 5
        assert min(folds.values()) > 40
        found = landcover.accuracy(image, points_, "fold", 5)
        # Asked for together: the trees are grown once.
        answer = ee.Dictionary(
            {"matrix": found.matrix.array(), "overall": found.overall, "kappa": found.kappa}
        ).getInfo()
        matrix = np.array(answer["matrix"])
        assert matrix.sum() == training.size().getInfo()
        cells = np.argwhere(matrix)
        counts = matrix[tuple(cells.T)].astype(int)
        true, said = np.repeat(cells[:, 0], counts), np.repeat(cells[:, 1], counts)
        assert answer["overall"] == pytest.approx((true == said).mean())
        assert answer["kappa"] == pytest.approx(cohen_kappa_score(true, said))
        scores[name] = answer["overall"]
    assert scores["blocks"] < scores["random"] - 0.01


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
