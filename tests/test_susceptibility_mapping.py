"""Maps that have no seams, and hold what was said; classes that QGIS can name."""

from __future__ import annotations

import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from thawslump.mosaic import write_vrt
from trainer.susceptibility import mapping
from trainer.susceptibility.legend import class_colours, class_words
from trainer.susceptibility.mapping import classify, quantise
from trainer.susceptibility.tally import BIN, Cut, Tally, bins

CRS = "EPSG:32652"
AFFINE = Affine(30, 0, 500_000, 0, -30, 8_000_000)


def test_every_value_has_one_class_and_limits_belong_below() -> None:
    values = np.array([0.0, 0.2, 0.2000001, 0.5, 0.9, 1.0])
    assert classify(values, (0.2, 0.5, 0.9)).tolist() == [1, 1, 2, 2, 3, 3]


def test_stored_probabilities_are_within_half_a_step() -> None:
    probability = np.random.default_rng(2).uniform(size=1000)
    stored = quantise(probability, np.ones(1000, bool))
    assert np.abs(stored / mapping.LEVELS - probability).max() <= 0.5 / mapping.LEVELS + 1e-12


def say(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "A made-up model: the probability is the first feature, the spread the second"
    first = np.nan_to_num(features[:, 0], nan=0.5).astype(float)
    return first, features[:, 1].astype(float) / 2.0, (first > 0.9).astype(float)


def draw(
    target: Path, factors: np.ndarray, part: Window | None = None, **changes: object
) -> tuple[Tally, list[float]]:
    told: list[float] = []

    def read(window: Window) -> np.ndarray:
        rows, columns = window.toslices()
        return factors[:, rows, columns]

    def work(values: np.ndarray, _: Window) -> tuple[np.ndarray, Tally]:
        bands, counts = mapping.stored(values, lambda f: f.T, say)
        valid = bands[0] != mapping.NODATA
        return bands, Tally.of(bands[0][valid], counts=counts)

    profile = {
        "crs": CRS, "transform": AFFINE, "height": factors.shape[1], "width": factors.shape[2]
    }  # fmt: skip
    tally = mapping.draw(
        target, profile, read, work, told.append, {"made_up": "true"}, part=part, **changes
    )  # type: ignore[arg-type]
    return tally, told


def made_up(height: int, width: int) -> np.ndarray:
    factors = np.random.default_rng(3).uniform(size=(2, height, width)).astype(np.float32)
    factors[0, 3, 4] = np.nan
    factors[:, 5, 6] = np.nan
    return factors


def test_windows_parts_and_threads_leave_no_trace(tmp_path: Path) -> None:
    "However it is cut, the map is the same to the byte of its cells, and so is what was counted"
    factors = made_up(70, 90)
    whole, told = draw(tmp_path / "whole.tif", factors)
    assert told == [1.0]
    grid = GeoBox((70, 90), AFFINE, CRS)
    mapping.join([tmp_path / "whole.tif"], tmp_path / "map.tif", grid)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.descriptions == mapping.BANDS and raster.nodata == mapping.NODATA
        assert raster.scales == (1e-4, 1e-4, 1.0) and raster.units == ("1", "1", "1")
        assert raster.tags()["made_up"] == "true" and "members" in raster.tags(2)["meaning"]
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        expected = raster.read()
    valid = ~np.isnan(factors).all(axis=0)
    assert np.array_equal(expected[0] != mapping.NODATA, valid)
    assert expected[0, 3, 4] == 5000 and (expected[:, 5, 6] == mapping.NODATA).all()
    assert np.array_equal(expected[1][valid], np.rint(factors[1][valid].astype(float) / 2 * 10_000))
    assert np.array_equal(expected[2][valid], np.nan_to_num(factors[0], nan=0.5)[valid] > 0.9)
    assert whole.counts["valid"] == 70 * 90 - 1 and whole.counts["filled"] == 1
    assert whole.counts["outside"] == int((expected[2] == 1).sum())
    assert np.array_equal(whole.area, np.bincount(expected[0][valid], minlength=10_001))

    drawn, total = [], Tally.none()
    for name, (column, row, width, height) in mapping.parts(70, 90, 48).items():
        drawn.append(tmp_path / f"{name}.tif")
        tally, told = draw(
            drawn[-1], factors, Window(column, row, width, height), size=16, threads=3
        )
        assert told == sorted(told) and told[-1] == 1.0
        total = total + tally
    assert len(drawn) == 4
    mapping.join(drawn, tmp_path / "joined.tif", grid)
    with rasterio.open(tmp_path / "joined.tif") as raster:
        assert np.array_equal(raster.read(), expected)
        assert raster.transform == AFFINE and raster.descriptions == mapping.BANDS
        assert raster.tags()["made_up"] == "true" and "members" in raster.tags(2)["meaning"]
    assert np.array_equal(total.area, whole.area) and total.counts == whole.counts
    assert not list(tmp_path.glob(".*"))


def test_a_model_without_members_says_so_in_its_band(tmp_path: Path) -> None:
    draw(tmp_path / "a.tif", made_up(20, 20), members=False)
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.tags(2)["meaning"].startswith("nodata: the model has no members")


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 1600))
@settings(max_examples=60, deadline=None)
def test_parts_cover_every_cell_once(height: int, width: int, edge: int) -> None:
    seen = np.zeros((height, width), np.uint8)
    found = mapping.parts(height, width, edge)
    for column, row, wide, high in found.values():
        assert 0 < wide <= edge and 0 < high <= edge
        seen[row : row + high, column : column + wide] += 1
    assert seen.min() == seen.max() == 1
    assert len(found) == 1 or max(height, width) > edge


def test_reading_goes_ahead_and_work_is_shared(tmp_path: Path) -> None:
    "While one window is worked on the next is read; several are worked on at once; few are held"
    factors = made_up(64, 64)
    running, most, ahead, read_so_far, done = 0, 0, 0, 0, 0
    lock = threading.Lock()

    def read(window: Window) -> np.ndarray:
        nonlocal read_so_far, ahead
        with lock:
            read_so_far += 1
            ahead = max(ahead, read_so_far - done)
        rows, columns = window.toslices()
        return factors[:, rows, columns]

    def work(values: np.ndarray, _: Window) -> tuple[np.ndarray, Tally]:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        bands, counts = mapping.stored(values, lambda f: f.T, say)
        with lock:
            running, done = running - 1, done + 1
        return bands, Tally.of(bands[0][bands[0] != mapping.NODATA], counts=counts)

    profile = {"crs": CRS, "transform": AFFINE, "height": 64, "width": 64}
    target = tmp_path / "a.tif"
    mapping.draw(target, profile, read, work, lambda s: None, {}, size=16, threads=3)
    assert most > 1
    # Three at work, three waiting for their turn to be written, four read ahead.
    assert 4 <= ahead <= 10


def test_what_fails_in_a_thread_leaves_no_file(tmp_path: Path) -> None:
    def work(values: np.ndarray, window: Window) -> tuple[np.ndarray, Tally]:
        raise ValueError("on purpose")

    profile = {"crs": CRS, "transform": AFFINE, "height": 64, "width": 64}
    with pytest.raises(ValueError, match="on purpose"):
        mapping.draw(
            tmp_path / "a.tif", profile, lambda w: np.zeros((2, 16, 16), np.float32), work,
            lambda s: None, {}, size=16, threads=2,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_classes_have_colours_names_and_counts(tmp_path: Path) -> None:
    "As GDAL and QGIS read them: a colour table in the file, names of the classes beside it"
    draw(tmp_path / "plain.tif", made_up(70, 90))
    mapping.join([tmp_path / "plain.tif"], tmp_path / "map.tif", GeoBox((70, 90), AFFINE, CRS))
    target = tmp_path / "classes.tif"
    counts = mapping.write_classes(
        tmp_path / "map.tif", target, (0.25, 0.5, 1.0), {"made_up": "true"}
    )
    with rasterio.open(tmp_path / "map.tif") as raster:
        probability = raster.read(1)
    with rasterio.open(target) as raster:
        assert raster.dtypes == ("uint8",) and raster.nodata == 0
        assert raster.descriptions == ("class",) and raster.tags()["made_up"] == "true"
        assert raster.tags(1)["class_2"] == "medium: 0.2500 to 0.5000"
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        table = raster.colormap(1)
        classes = raster.read(1)
    for number, colour in enumerate(class_colours(3), start=1):
        assert "#" + bytes(table[number][:3]).hex() == colour
    assert np.array_equal(
        classes,
        np.where(
            probability == mapping.NODATA, 0, 1 + (probability > 2500) + (probability > 5000.0)
        ),
    )
    assert np.bincount(classes.ravel())[1:].tolist() == counts.tolist()
    named = mapping.names_of_classes(target).read_text()
    assert [f"<Category>{word}</Category>" in named for word in class_words(3)] == [True] * 3
    assert named.index("nodata") < named.index(">low<")  # in the order of the values


def test_mosaics_of_classes_keep_colours_and_names(tmp_path: Path) -> None:
    "A virtual raster over two sites: the colour table and the names that GDAL reads in it"
    paths = []
    for name, column in (("a", 0), ("b", 90)):
        moved = Affine(30, 0, 500_000 + 30 * column, 0, -30, 8_000_000)
        classes = np.random.default_rng(column).integers(0, 10_001, (1, 70, 90)).astype(np.uint16)
        profile = {"crs": CRS, "transform": moved, "height": 70, "width": 90, "count": 1}
        source = tmp_path / f"{name}-map.tif"
        with rasterio.open(source, "w", driver="GTiff", dtype="uint16", **profile) as raster:
            raster.write(classes)
        paths.append(tmp_path / f"{name}.tif")
        mapping.write_classes(source, paths[-1], (0.2, 1.0), {})
    write_vrt(tmp_path / "all.vrt", paths, GeoBox((70, 180), AFFINE, CRS))
    with rasterio.open(tmp_path / "all.vrt") as whole, rasterio.open(paths[1]) as part:
        assert np.array_equal(whole.read(1)[:, 90:], part.read(1))
        assert whole.colormap(1)[2] == part.colormap(1)[2] and whole.nodata == 0
    text = (tmp_path / "all.vrt").read_text()
    assert [f"<Category>{word}</Category>" in text for word in ("nodata", "low", "high")] == (
        [True] * 3
    )


def test_memory_does_not_grow_with_the_map(tmp_path: Path) -> None:
    "Arrays held at one time, as Python counts them: a few windows, a small part of the factors"
    peaks = []
    for height in (256, 1024, 4096):  # the first also loads what is loaded once

        def read(window: Window) -> np.ndarray:
            return np.ones((12, int(window.height), int(window.width)), np.float32)

        def work(values: np.ndarray, _: Window) -> tuple[np.ndarray, Tally]:
            bands, counts = mapping.stored(values, lambda f: f.T, say)
            return bands, Tally.of(bands[0][bands[0] != mapping.NODATA], counts=counts)

        profile = {"crs": CRS, "transform": AFFINE, "height": height, "width": 512}
        tracemalloc.start()
        mapping.draw(
            tmp_path / "a.tif", profile, read, work, lambda s: None, {}, size=128, threads=2
        )
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    window, factors = 12 * 128**2 * 4 / 2**20, 12 * 4096 * 512 * 4 / 2**20
    # At most two read ahead, three handed to the workers, one being read, and what two models use.
    assert max(peaks[1:]) < 16 * window < 0.15 * factors, peaks


def test_spread_of_models_is_that_of_their_maps(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        factors = made_up(40, 50)
        factors[0] = np.random.default_rng(number).uniform(size=(40, 50))
        factors[:, 5, 6] = np.nan
        draw(tmp_path / f"{number}.tif", factors)
        paths.append(tmp_path / f"{number}.tif")
    mapping.write_spread(paths, tmp_path / "all.tif", {"models": "a, b, c"})
    said = np.stack([rasterio.open(path).read(1) for path in paths]).astype(float)
    with rasterio.open(tmp_path / "all.tif") as raster:
        mean, spread = raster.read()
        assert raster.descriptions == ("mean", "spread") and raster.tags()["models"] == "a, b, c"
    assert mean[5, 6] == spread[5, 6] == mapping.NODATA
    valid = mean != mapping.NODATA
    assert valid.sum() == 40 * 50 - 1
    assert np.abs(mean - said.mean(0))[valid].max() <= 0.51
    assert np.abs(spread - said.std(0))[valid].max() <= 0.51


def test_tallies_add_up_and_are_read_as_written(tmp_path: Path) -> None:
    dice = np.random.default_rng(5)
    stored = dice.integers(0, 10_001, 5000).astype(np.uint16)
    slope, rock = dice.uniform(0, 40, 5000), dice.choice([2.0, 4.0, 9.0, np.nan], 5000)
    slope[:50] = np.nan
    looked, slump = dice.random(5000) < 0.6, dice.random(5000) < 0.1
    cuts = (Cut("slope", (5.0, 15.0)), Cut("rock", (), (2, 4)))
    factors = {"slope": slope, "rock": rock}
    whole = Tally.of(stored, looked, slump, factors, cuts, {"valid": 5000})
    half = [
        Tally.of(
            stored[part], looked[part], slump[part],
            {name: each[part] for name, each in factors.items()}, cuts, {"valid": 2500},
        )
        for part in (slice(0, 2500), slice(2500, None))
    ]  # fmt: skip
    both = half[0] + half[1]
    both.write(tmp_path / "a.safetensors")
    whole.write(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    held = Tally.read(tmp_path / "a.safetensors")
    assert held.counts == {"valid": 5000} and np.array_equal(held.slumps, whole.slumps)
    # Against the definition.
    assert held.slumps.sum() == (looked & slump).sum() and held.looked.sum() == looked.sum()
    expected = [
        (slope <= 5).sum(), ((slope > 5) & (slope <= 15)).sum(), (slope > 15).sum(), 50
    ]  # fmt: skip
    assert held.of_factor["slope"].sum(axis=1).tolist() == expected
    assert held.slumps_factor["rock"].tolist() == [
        int((hit & looked & slump).sum()) for hit in (rock == 2, rock == 4, ~np.isin(rock, (2, 4)))
    ]
    above = held.of_factor["rock"][:, bins() > 0.4999].sum(axis=1)
    assert above.tolist() == [
        int((hit & (stored > 4999)).sum()) for hit in (rock == 2, rock == 4, ~np.isin(rock, (2, 4)))
    ]
    assert held.binned().sum() == 5000
    assert held.binned()[3] == ((stored >= 3 * BIN) & (stored < 4 * BIN)).sum()
