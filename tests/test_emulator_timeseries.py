"""Breaks in time series, against all segmentations tried one by one.

[A] is the list of the installed client.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native

from gee.emulator.errors import EngineError
from gee.emulator.pixels import Limits

YEAR = 365.25 * 86_400_000
COUNT, SIZE = 30, 3
NAME = "TemporalSegmentation.StructuralChangeBreakpoints"


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        random = np.random.default_rng(4)
        # Irregular moments of ten years, put in another order than that of time.
        self.years = np.sort(random.uniform(40, 50, COUNT))
        t = self.years[:, None, None]
        step = np.where(t > 44, 3.0, 0.0) * (np.arange(SIZE)[None, :, None] > 0)
        turn = np.where(t > 47, 2.0 * (t - 47), 0.0) * (np.arange(SIZE)[None, None, :] > 1)
        noise = random.normal(0, 0.25, (COUNT, SIZE, SIZE))
        self.values = 0.3 * (t - 40) + np.cos(2 * np.pi * t) + step + turn + noise
        self.mask = random.random((COUNT, SIZE, SIZE)) > 0.1
        self.mask[5:, 2, 2] = False
        found.catalog.put_collection("T/c")
        found.catalog.put_collection("T/m")
        for k in random.permutation(COUNT):
            start = int(self.years[k] * YEAR)
            for folder, mask in (("c", None), ("m", self.mask[k])):
                found.put(
                    f"T/{folder}/i{k:02d}", band("v", self.values[k], mask),
                    band("w", -2 * self.values[k], mask), start=start,
                )  # fmt: skip
        self.years = np.asarray([int(y * YEAR) / YEAR for y in self.years])

    def all(self, image: Any, tile: int | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        return self.earth.pixels(image, native(SIZE, SIZE), limits)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("timeseries")) as found:
        yield World(found)


def call(folder: str = "c", **options: Any) -> Any:
    defaults = {"breakpointBand": "v", "seasonalModelOrder": 1, "minSpacing": 6, "maxBreaks": 3}
    return ee.ApiFunction.call_(
        NAME, collection=ee.ImageCollection(f"T/{folder}"), **{**defaults, **options}
    )


def model(years: np.ndarray, order: int) -> np.ndarray:
    columns = [np.ones(len(years)), years]
    for k in range(1, order + 1):
        columns += [np.cos(2 * np.pi * k * (years % 1)), np.sin(2 * np.pi * k * (years % 1))]
    return np.column_stack(columns)


def best(years: np.ndarray, values: np.ndarray, order: int, least: int, most: int) -> list[int]:
    "Starts of the segments with the least criterion, of all there are (as strucchange counts)."
    n = len(years)
    centred = model(years, order)
    centred[:, 1] -= years.mean()

    def rss(i: int, j: int) -> float:
        found, *_ = np.linalg.lstsq(centred[i:j], values[i:j], rcond=None)
        return float(((values[i:j] - centred[i:j] @ found) ** 2).sum())

    known = {(i, j): rss(i, j) for i in range(n) for j in range(i + least, n + 1)}
    offers = []
    for m in range(most + 1):
        for cuts in itertools.combinations(range(least, n - least + 1), m):
            ends = [0, *cuts, n]
            if all(b - a >= least for a, b in itertools.pairwise(ends)):
                total = sum(known[p] for p in itertools.pairwise(ends))
                penalty = np.log(n) * (centred.shape[1] + 1) * (m + 1)
                offers.append((n * np.log(total / n) + penalty, [0, *cuts]))
    return min(offers)[1]


@pytest.mark.parametrize(("order", "most"), [(0, 2), (1, 3)])
def test_the_best_of_all_segmentations(world: World, order: int, most: int) -> None:
    found = world.all(call(seasonalModelOrder=order, maxBreaks=most))
    assert list(found) == ["tStart", "tEnd", "coefs_v", "coefs_w", "rmse_v", "rmse_w"]
    breaks = set()
    for row, column in itertools.product(range(SIZE), range(SIZE)):
        values = world.values[:, row, column]
        starts = best(world.years, values, order, 6, most)
        breaks.add(len(starts))
        ends = [s - 1 for s in starts[1:]] + [COUNT - 1]
        cell = {k: d[row, column] for k, (d, _) in found.items()}
        np.testing.assert_allclose(cell["tStart"], world.years[starts])
        np.testing.assert_allclose(cell["tEnd"], world.years[ends])
        for name, series in (("v", values), ("w", -2 * values)):
            for k, (a, b) in enumerate(zip(starts, ends, strict=True)):
                table = model(world.years[a : b + 1], order)
                fit, *_ = np.linalg.lstsq(table, series[a : b + 1], rcond=None)
                np.testing.assert_allclose(cell[f"coefs_{name}"][k], fit, rtol=1e-5, atol=1e-5)
                off = series[a : b + 1] - table @ fit
                assert cell[f"rmse_{name}"][k] == pytest.approx(np.sqrt((off**2).mean()))
    assert len(breaks) > 1  # some pixels break, others do not


def test_one_break_at_a_step(world: World) -> None:
    "A step of twelve deviations at 44.0 is found between the images around it."
    found = world.all(call(maxBreaks=1))["tStart"][0][1, 0]
    assert len(found) == 2
    assert found[1] == pytest.approx(world.years[world.years > 44][0])


def test_milliseconds(world: World) -> None:
    "[A] dateFormat 2: times and trends in milliseconds, the same lines."
    years, other = world.all(call()), world.all(call(dateFormat=2))
    for row, column in itertools.product(range(SIZE), range(SIZE)):
        a, b = ({k: d[row, column] for k, (d, _) in f.items()} for f in (years, other))
        np.testing.assert_allclose(b["tStart"], a["tStart"] * YEAR)
        np.testing.assert_allclose(b["coefs_v"][:, 1] * YEAR, a["coefs_v"][:, 1], rtol=1e-6)
        np.testing.assert_allclose(b["coefs_v"][:, 2:], a["coefs_v"][:, 2:], atol=1e-8)
        np.testing.assert_allclose(b["rmse_v"], a["rmse_v"])


def test_masked_observations_are_left_out(world: World) -> None:
    found = world.all(call("m"))
    assert not found["tStart"][1][2, 2]  # five observations are no segment
    for row, column in ((0, 0), (1, 2), (2, 1)):
        keep = world.mask[:, row, column]
        years = world.years[keep]
        starts = best(years, world.values[keep, row, column], 1, 6, 3)
        np.testing.assert_allclose(found["tStart"][0][row, column], years[starts])
    for name, (data, mask) in world.all(call("m"), 2).items():
        np.testing.assert_array_equal(mask, found[name][1])
        for a, b in zip(data[mask], found[name][0][mask], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_results_are_array_bands(world: World) -> None:
    image = call()
    kinds = {b["id"]: b["data_type"]["dimensions"] for b in world.earth.info(image)["bands"]}
    assert kinds == {
        "tStart": 1, "tEnd": 1, "coefs_v": 2, "coefs_w": 2, "rmse_v": 1, "rmse_w": 1,
    }  # fmt: skip
    first = world.earth.data(image.select("coefs_v").arrayGet([0, 1]), native(SIZE, SIZE))
    whole = world.all(image)["coefs_v"][0]
    np.testing.assert_allclose(first, [[c[0, 1] for c in row] for row in whole])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"breakpointBand": None}, "breakpointBand is needed"),
        ({"breakpointBand": "z"}, r"'z' did not match any bands. Available bands: \[v, w\]"),
        ({"seasonalModelOrder": 3}, "spacing of 6 images must be greater than.* coefficients, 8"),
        ({"minSpacing": 0.1}, "spacing of 3 images"),
        ({"dateFormat": 0}, "dateFormat must be 1"),
    ],
)
def test_breaks_refuse_in_words(world: World, options: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=f"{NAME}: .*{words}"):
        world.earth.info(call(**options))
