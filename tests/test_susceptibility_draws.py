"""Samples drawn from rasters: kinds of positives and negatives, zones, windows, memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from thawslump import raster
from trainer.susceptibility import registry, table, validation
from trainer.susceptibility.config import SusceptibilityConfig
from trainer.susceptibility.steps.samples import draw
from trainer.susceptibility.table import Samples

Triple = tuple[str, Path, Path]


def site(
    folder: Path,
    name: str,
    factors: dict[str, np.ndarray],
    slumps: np.ndarray,
    crs: str = "EPSG:32652",
    corner: tuple[float, float] = (500_000, 8_000_000),
    unseen: np.ndarray | None = None,
) -> Triple:
    """Write factors and labels; `slumps` and `unseen` mark cells, labels have 3 x 3 pixels each."""
    shape = slumps.shape
    grids = [
        GeoBox((shape[0] * n, shape[1] * n), Affine(s, 0, corner[0], 0, -s, corner[1]), crs)
        for n, s in ((1, 30), (3, 10))
    ]
    paths = folder / f"{name}-factors.tif", folder / f"{name}-labels.tif"
    stack = np.stack(list(factors.values())).astype(np.float32)
    raster.write_cog(paths[0], stack, grids[0], tuple(factors), nodata=float("nan"))
    marks = slumps.astype(np.uint8)
    if unseen is not None:
        marks[unseen] = 255
    fine = marks.repeat(3, axis=0).repeat(3, axis=1)
    raster.write_cog(paths[1], fine[None], grids[1], ("label",), nodata=255, categorical=True)
    return name, *paths


def landscape(
    folder: Path, seed: int, signal: float = 1.5, side: int = 160, name: str = "land"
) -> Triple:
    """Return a made-up site: 60 slumps where `matters` is high; `noise` and `region` do not."""
    rng = np.random.default_rng(seed)
    bands = [ndimage.gaussian_filter(rng.normal(size=(side, side)), each) for each in (2, 2, 12)]
    factors = dict(zip(("matters", "noise", "region"), (b / b.std() for b in bands), strict=True))
    odds = np.exp(signal * factors["matters"]).ravel()
    slumps = np.zeros((side, side), bool)
    for cell in rng.choice(side * side, 60, replace=False, p=odds / odds.sum()):
        row, column = divmod(int(cell), side)
        slumps[row : row + 2, column : column + 2] = True
    return site(folder, f"{name}{seed}", factors, slumps)


def config(**changes: Any) -> SusceptibilityConfig:
    return SusceptibilityConfig.model_validate({"factors": (), "buffer": 60.0, **changes})


def same(one: Samples, other: Samples) -> bool:
    arrays = ("labels", "places", "sites", "slumps", "lonlat")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and list(one.factors) == list(other.factors)
        and all(np.array_equal(v, other.factors[k], equal_nan=True) for k, v in one.factors.items())
        and dict(one.facts) == dict(other.facts)
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Triple]:
    "Two sites of odd shapes with gaps, classes and ground that nobody looked at"
    folder = tmp_path_factory.mktemp("small")
    sites = []
    for number, shape in enumerate(((37, 53), (61, 29))):
        rng = np.random.default_rng(number)
        slumps = ndimage.binary_dilation(rng.random(shape) < 0.006, iterations=2)
        unseen = ndimage.gaussian_filter(rng.normal(size=shape), 6) > 0.08
        steep = ndimage.gaussian_filter(rng.normal(size=shape), 2)
        factors = {
            "slope": 10 + 20 * steep,
            "aspect": rng.uniform(0, 360, shape),
            "lithology": rng.integers(1, 4, shape).astype(float),
        }
        factors["slope"][5:9] = np.nan
        for band in factors.values():
            band[:3, :3] = np.nan
        corner = (500_000 + 10_000 * number, 8_000_000)
        sites.append(site(folder, f"s{number}", factors, slumps, "EPSG:32652", corner, unseen))
    return sites


@settings(max_examples=15, deadline=None)
@given(
    window=st.integers(11, 70),
    seed=st.integers(0, 1000),
    negatives=st.sampled_from(["random", "buffered", "similar"]),
    positives=st.sampled_from(["cells", "centroid", "one"]),
)
def test_samples_do_not_depend_on_the_windows(
    small: list[Triple], window: int, seed: int, negatives: str, positives: str
) -> None:
    "Read in squares of any size: the same samples and the same facts, to the bit"
    asked = config(seed=seed, negatives=negatives, positives=positives)
    assert same(draw(small, asked, window=window), draw(small, asked))


def test_another_seed_draws_others(small: list[Triple]) -> None:
    for negatives in ("random", "buffered", "similar"):
        one, other = (draw(small, config(seed=seed, negatives=negatives)) for seed in (0, 1))
        assert not np.array_equal(one.lonlat, other.lonlat)


def cell_indices(drawn: Samples, triple: Triple) -> np.ndarray:
    "Return the rows and columns of a site's samples by their coordinates, shape (n, 2)"
    grid = raster.grid_of(triple[1])
    back = Transformer.from_crs("EPSG:4326", grid.crs.to_wkt(), always_xy=True)
    here = drawn.sites == drawn.site_names.index(triple[0])
    x, y = back.transform(*drawn.lonlat[here].T)
    affine = grid.affine
    return np.stack([(y - affine.f) / affine.e, (x - affine.c) / affine.a], axis=1)


@pytest.mark.parametrize("negatives", ["random", "buffered", "similar"])
def test_negatives_lie_where_they_may(small: list[Triple], negatives: str) -> None:
    "Looked at, no slump pixel, some factor, and beyond the buffer unless drawn at random"
    drawn = draw(small, config(negatives=negatives, negatives_per_positive=50.0))
    for triple in small:
        at = cell_indices(drawn, triple)
        assert np.allclose(at % 1, 0.5, atol=1e-3)  # centres of cells
        row, column = at.astype(int).T
        marks = raster.read(triple[2]).array[0][1::3, 1::3]
        values = raster.read_float(triple[1]).array
        here = drawn.sites == drawn.site_names.index(triple[0])
        label = drawn.labels[here]
        assert (marks[row[label == 1], column[label == 1]] == 1).all()
        away = ndimage.distance_transform_edt(marks != 1) * 30
        free = (marks == 0) & ~np.isnan(values).all(axis=0)
        if negatives != "random":
            free &= away > 60
        # Fifty to one asks for more than there are: all that may be drawn are.
        chosen = np.zeros_like(free)
        chosen[row[label == 0], column[label == 0]] = True
        assert np.array_equal(chosen, free)
        for number, name in enumerate(("slope", "aspect", "lithology")):
            expected = values[number, row, column]
            assert np.array_equal(drawn.factors[name][here], expected, equal_nan=True)
    facts = drawn.facts
    assert facts["negatives_drawn"] < facts["negatives_wanted"]
    assert facts["negatives_drawn"] == (drawn.labels == 0).sum()
    assert facts["buffer_m"] == (0.0 if negatives == "random" else 60.0)


def test_random_negatives_may_lie_inside_the_buffer(small: list[Triple]) -> None:
    count = {
        kind: sum(each["cells_for_negatives"] for each in facts["by_site"].values())
        for kind in ("random", "buffered")
        for facts in [draw(small, config(negatives=kind)).facts]
    }
    assert count["random"] > count["buffered"]


def test_ratio_of_classes_and_samples_within_samples(small: list[Triple]) -> None:
    "Half, one and two negatives to a positive; each sample is part of the next"
    last: set[tuple[float, ...]] = set()
    for ratio in (0.5, 1.0, 2.0):
        drawn = draw(small, config(negatives_per_positive=ratio))
        positives = int((drawn.labels == 1).sum())
        negative = {tuple(each) for each in drawn.lonlat[drawn.labels == 0].tolist()}
        assert len(negative) == int(np.ceil(positives * ratio))
        assert last < negative
        last = negative


def test_kinds_of_positives(small: list[Triple]) -> None:
    "Cells: up to four a slump; one and centroid: one a slump, on the slump"
    found = {kind: draw(small, config(positives=kind)) for kind in ("cells", "centroid", "one")}
    for kind, drawn in found.items():
        of = np.unique(drawn.slumps[drawn.labels == 1], return_counts=True)[1]
        assert of.max() == (4 if kind == "cells" else 1)
        assert drawn.facts["positives"] == kind
    slumps = {drawn.facts["n_slumps"] for drawn in found.values()}
    assert len(slumps) == 1
    # Samples of one slump carry its centre: they cannot be parted by blocks.
    drawn = found["cells"]
    for slump in np.unique(drawn.slumps[drawn.labels == 1]):
        assert len(np.unique(drawn.places[drawn.slumps == slump], axis=0)) == 1


def test_sites_in_two_zones(tmp_path: Path) -> None:
    "Equal numbers in two UTM zones are two places: degrees apart, and no block in common"
    rng = np.random.default_rng(0)
    slumps = np.zeros((20, 20), bool)
    slumps[4:6, 4:6] = slumps[14:16, 12:14] = True
    sites = [
        site(tmp_path, name, {"slope": rng.uniform(0, 9, (20, 20))}, slumps, crs)
        for name, crs in (("west", "EPSG:32651"), ("east", "EPSG:32652"))
    ]
    drawn = draw(sites, config())
    lon = [drawn.lonlat[drawn.sites == number, 0] for number in (0, 1)]
    assert np.abs(lon[0] - 123.0).max() < 0.1 and np.abs(lon[1] - 129.0).max() < 0.1
    blocks = [set(drawn.blocks(1e6)[drawn.sites == number].tolist()) for number in (0, 1)]
    assert not blocks[0] & blocks[1]
    assert set(drawn.slumps[drawn.labels == 1].tolist()) == {0, 1, 2, 3}


def test_a_slump_on_the_edge_of_two_parts_stays_in_one_block(tmp_path: Path) -> None:
    "Parts of a large area: a slump across them counts once, with its centre and one site"
    rng = np.random.default_rng(0)
    slumps = np.zeros((20, 40), bool)
    slumps[5:9, 18:25] = True  # two columns in the west, five in the east
    slumps[15:17, 3:5] = slumps[15:17, 33:35] = True
    parts = [
        site(tmp_path, name, {"slope": rng.uniform(0, 9, (20, 20))}, slumps[:, columns],
             corner=(500_000 + 30 * columns.start, 8_000_000))
        for name, columns in (("west", slice(0, 20)), ("east", slice(20, 40)))
    ]  # fmt: skip
    drawn = draw(parts, config(cells_per_slump=28))
    assert drawn.facts["n_slumps"] == 3
    cut = drawn.slumps == np.bincount(drawn.slumps[drawn.labels == 1]).argmax()
    assert cut.sum() == 28
    assert set(drawn.sites[cut].tolist()) == {1}
    assert drawn.places[cut] == pytest.approx(np.tile((45.0, -210.0), (28, 1)))
    assert np.unique(drawn.blocks(30.0)[cut]).size == 1
    # The cells themselves lie on both sides of the edge.
    assert len({round(float(lon), 6) for lon in drawn.lonlat[cut, 0]}) >= 7
    one = draw(parts, config(positives="centroid"))
    assert (one.labels == 1).sum() == 3


def test_of_an_area_only_what_was_reviewed_counts(tmp_path: Path) -> None:
    "255 everywhere but around one slump: positives and negatives from there alone"
    unseen = np.ones((50, 50), bool)
    unseen[20:32, 20:32] = False
    slumps = np.zeros((50, 50), bool)
    slumps[24:26, 24:26] = True
    band = np.random.default_rng(0).normal(size=(50, 50))
    drawn = draw(
        [site(tmp_path, "area", {"slope": band}, slumps, unseen=unseen)],
        config(negatives="random", negatives_per_positive=1000.0),
    )
    assert (drawn.labels == 0).sum() == 12 * 12 - 4
    east, south = drawn.places[:, 0], -drawn.places[:, 1]
    assert min(east.min(), south.min()) > 600 and max(east.max(), south.max()) < 960
    assert drawn.facts["by_site"]["area"]["cells_for_negatives"] == 140


def test_a_site_with_slumps_alone_is_told(small: list[Triple], tmp_path: Path) -> None:
    "A part of an area where only the slump was reviewed gives no ground to compare with"
    unseen = np.ones((20, 20), bool)
    slumps = np.zeros((20, 20), bool)
    slumps[4:6, 4:6] = True
    unseen[slumps] = False
    bands = {name: np.full((20, 20), 2.0) for name in ("slope", "aspect", "lithology")}
    area = site(tmp_path, "area", bands, slumps, corner=(600_000, 8e6), unseen=unseen)
    facts = draw([*small, area], config()).facts
    assert facts["sites_without_negatives"] == ["area"]
    assert facts["by_site"]["area"]["positives"] == 4
    assert draw(small, config()).facts["sites_without_negatives"] == []


def test_slumps_without_factors_are_told(tmp_path: Path) -> None:
    "A slump where no factor has a value gives no sample, and is counted"
    band = np.random.default_rng(0).normal(size=(30, 30))
    band[:10] = np.nan
    slumps = np.zeros((30, 30), bool)
    slumps[2:4, 2:4] = slumps[20:22, 20:22] = slumps[25:27, 3:5] = True
    drawn = draw([site(tmp_path, "a", {"slope": band}, slumps)], config())
    assert drawn.facts["n_slumps"] == 2
    assert drawn.facts["by_site"]["a"]["slumps_without_factors"] == 1


# Similar ground --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lands(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, int], Triple]:
    folder = tmp_path_factory.mktemp("lands")
    made: dict[tuple[float, int], Triple] = {}

    def land(signal: float, seed: int) -> Triple:
        if (signal, seed) not in made:
            made[signal, seed] = landscape(folder, seed, signal, name=f"land{signal:g}-")
        return made[signal, seed]

    return land


def test_similar_negatives_are_more_like_slumps(lands: Callable[[float, int], Triple]) -> None:
    "The difference in the factor that matters falls by a third; others keep mean and spread"
    apart: dict[str, list[list[float]]] = {}
    spread: dict[str, list[float]] = {}
    for seed in range(6):
        for kind in ("buffered", "similar"):
            drawn = draw([lands(1.5, seed)], config(negatives=kind, seed=seed))
            apart.setdefault(kind, []).append(
                [drawn.facts["standardised_differences"][n] for n in ("matters", "noise", "region")]
            )
            spread.setdefault(kind, []).append(
                float(drawn.factors["noise"][drawn.labels == 0].std())
            )
    buffered, similar = (np.array(apart[kind]) for kind in ("buffered", "similar"))
    assert (similar[:, 0] < 0.75 * buffered[:, 0]).all()
    assert similar[:, 0].mean() < 0.65 * buffered[:, 0].mean()
    assert similar[:, 0].min() > 0.3  # not matched away: there is something left to learn
    for number in (1, 2):
        error = buffered[:, number].std() / np.sqrt(6) + similar[:, number].std() / np.sqrt(6)
        assert abs(similar[:, number].mean() - buffered[:, number].mean()) < 3 * error
    assert np.mean(spread["similar"]) == pytest.approx(np.mean(spread["buffered"]), rel=0.08)


def test_similar_negatives_of_classes(tmp_path: Path) -> None:
    "Slumps on class 2 of three: it becomes frequent among the negatives, 1 and 3 stay equal"
    rng = np.random.default_rng(0)
    rock = rng.integers(1, 4, (120, 120)).astype(float)
    slumps = np.zeros(rock.shape, bool)
    where = rng.permutation(np.argwhere(rock == 2))[:150]
    slumps[tuple(where.T)] = True
    other = rng.permutation(np.argwhere(rock != 2))[:15]
    slumps[tuple(other.T)] = True
    place = site(
        tmp_path, "rocks", {"lithology": rock, "slope": rng.normal(size=rock.shape)}, slumps
    )
    share = {}
    for kind in ("buffered", "similar"):
        drawn = draw([place], config(negatives=kind, buffer=0.0, negatives_per_positive=4.0))
        held = drawn.factors["lithology"][drawn.labels == 0]
        share[kind] = [float((held == each).mean()) for each in (1, 2, 3)]
    assert share["buffered"][1] == pytest.approx(1 / 3, abs=0.06)
    assert share["similar"][1] > 0.7
    assert share["similar"][0] == pytest.approx(share["similar"][2], abs=0.06)


def scores(drawn: Samples, seed: int) -> tuple[float, float]:
    "Return the AUC of a logistic regression over random and over spatial folds"
    held = []
    for folds in (
        validation.random_folds(len(drawn.labels), 5, seed),
        validation.spatial_folds(drawn.blocks(600.0), drawn.labels, 5),
    ):
        said = validation.out_of_fold(
            registry.build("logistic"), drawn.features, drawn.labels, folds
        )
        held.append(float(roc_auc_score(drawn.labels, said)))
    return held[0], held[1]


def test_similar_negatives_do_not_flatter(lands: Callable[[float, int], Triple]) -> None:
    "The draw looks at all labels: where factors say nothing, no fold may look as if they did"
    nothing = np.array(
        [scores(draw([lands(0.0, s)], config(negatives="similar", seed=s)), s) for s in range(6)]
    )
    error = nothing.std(axis=0) / np.sqrt(len(nothing))
    assert (nothing.mean(axis=0) < 0.5 + 2 * error).all()


def test_similar_negatives_make_a_harder_test(lands: Callable[[float, int], Triple]) -> None:
    for seed in range(3):
        easy, hard = (
            scores(draw([lands(1.5, seed)], config(negatives=kind, seed=seed)), seed)
            for kind in ("buffered", "similar")
        )
        assert hard[0] < easy[0] and hard[1] < easy[1] - 0.05


def test_held_out_sites_take_the_propensity_of_the_others(
    lands: Callable[[float, int], Triple],
) -> None:
    "Their labels are not looked at: slumps moved elsewhere leave the weights as they are"
    learned = draw([lands(1.5, 0)], config(negatives="similar"))
    tested = draw([lands(1.5, 1)], config(negatives="similar"), learned)
    assert tested.facts["likeness"] == {
        **learned.facts["likeness"], "fitted_to": "the sites that are learned from"
    }  # fmt: skip
    assert list(tested.factors) == list(learned.factors)


def test_held_out_sites_tell_how_far_off_they_are(tmp_path: Path) -> None:
    "3 km between two sites on the ground; none between a site and itself"
    rng = np.random.default_rng(0)
    slumps = np.zeros((30, 30), bool)
    slumps[4:6, 4:6] = slumps[14:16, 12:14] = True
    here, there = (
        site(tmp_path, name, {"slope": rng.uniform(0, 9, (30, 30))}, slumps, corner=(east, 8e6))
        for name, east in (("here", 500_000), ("there", 503_900))
    )
    learned = draw([here], config(negatives_per_positive=999))
    apart = draw([there], config(negatives_per_positive=999), learned).facts["metres_to_learned"]
    assert apart["least"] == pytest.approx(3030, rel=0.01) and apart["median"] > apart["least"]
    assert draw([here], config(), learned).facts["metres_to_learned"]["median"] == 0


# Size ------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    "Nine times the cells take as much memory, a small part of what the rasters take"
    peaks = []
    for side in (768, 2304):
        place = plain_site(tmp_path, side)
        tracemalloc.start()
        try:
            drawn = draw([place], config(negatives="similar"), window=256)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert drawn.facts["n_slumps"] == 100
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 2304 * 2304 * (2 * 4 + 9) / 3


def plain_site(folder: Path, side: int) -> Triple:
    "Return a site of many cells, written without compression: 2 factors, 9 labels to a cell"
    rng = np.random.default_rng(0)
    band = np.tile(rng.normal(size=(256, 256)).astype(np.float32), (side // 256, side // 256))
    marks = np.zeros((side * 3, side * 3), np.uint8)
    for number in range(100):
        row, column = (divmod(number, 10)[n] * (side // 10) * 3 + 30 for n in (0, 1))
        marks[row : row + 6, column : column + 9] = 1
    paths = folder / f"{side}.tif", folder / f"{side}-labels.tif"
    for path, array, size in ((paths[0], np.stack([band, band[::-1]]), 30), (paths[1], marks, 10)):
        array = np.atleast_3d(array.T).T
        with rasterio.open(
            path, "w", driver="GTiff", count=len(array), height=array.shape[1],
            width=array.shape[2], dtype=array.dtype, crs="EPSG:32652", tiled=True,
            transform=Affine(size, 0, 500_000, 0, -size, 8_000_000), blockxsize=512,
            blockysize=512,
        ) as target:  # fmt: skip
            target.write(array)
            if path == paths[0]:
                target.descriptions = ("a", "b")
    return f"side{side}", *paths


def test_facts_come_back_from_the_file(small: list[Triple], tmp_path: Path) -> None:
    "Written and read, samples are what they were; a coordinate asked for by name is a factor"
    drawn = draw(small, config(negatives="similar"))
    table.write(tmp_path / "samples.parquet", drawn)
    again = table.read(tmp_path / "samples.parquet")
    assert same(again, drawn) and again.classes == drawn.classes
