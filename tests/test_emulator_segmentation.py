"""Superpixels and clusters of cells: connected, complete, at rest, the same in all tiles.

[A] is the list of the installed client.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native
from scipy import ndimage
from scipy.spatial.distance import cdist

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.pixels import Limits

load_all()

from gee.emulator.functions import segmentation  # noqa: E402

SIZE = 48


class World:
    def __init__(self, found: Earth) -> None:
        self.earth = found
        random = np.random.default_rng(2)
        shapes = ndimage.gaussian_filter(random.normal(0, 1, (SIZE, SIZE)), 4)
        self.kinds = (shapes > 0).astype(int) + (shapes > shapes.std())
        self.values = np.stack([self.kinds * 40 + 10, 90 - self.kinds * 30]) + random.normal(
            0, 2, (2, SIZE, SIZE)
        )
        self.mask = random.random((SIZE, SIZE)) > 0.03
        found.put("T/a", *(band(n, v) for n, v in zip("xy", self.values, strict=True)))
        found.put("T/m", *(band(n, v, self.mask) for n, v in zip("xy", self.values, strict=True)))
        found.put("T/flat", band("x", np.full((SIZE, SIZE), 5.0)))

    def all(self, image: Any, tile: int | None = None) -> dict[str, np.ndarray]:
        limits = None if tile is None else Limits(tile=tile, threads=1)
        found = self.earth.pixels(image, native(SIZE, SIZE), limits)
        return {k: np.where(m > 0, d.astype(float), np.nan) for k, (d, m) in found.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with earth(tmp_path_factory.mktemp("segmentation")) as found:
        yield World(found)


def call(name: str, **arguments: Any) -> Any:
    return ee.ApiFunction.call_(f"Image.Segmentation.{name}", **arguments)


# ------------------------------------------------------------------ superpixels


@pytest.mark.parametrize("connectivity", [4, 8])
def test_superpixels_are_connected_and_complete(world: World, connectivity: int) -> None:
    "[A] SNIC: cluster ids, the averages of the bands, and the seeds."
    image = call("SNIC", image=ee.Image("T/a"), size=8, connectivity=connectivity)
    found = world.all(image)
    assert list(found) == ["clusters", "x_mean", "y_mean", "seeds"]
    labels = found["clusters"]
    assert np.isfinite(labels).all()
    seeds = found["seeds"] == 1
    assert seeds.sum() == (SIZE // 8) ** 2
    structure = np.ones((3, 3)) if connectivity == 8 else None
    inner = labels[8:-8, 8:-8]
    for label in np.unique(inner):
        part = labels == label
        assert ndimage.label(part, structure)[1] == 1
        assert seeds[part].sum() == 1
        for name, values in zip("xy", world.values, strict=True):
            np.testing.assert_allclose(found[f"{name}_mean"][part], values[part].mean())
    tiled = world.all(image, 13)
    for name, expected in found.items():
        np.testing.assert_array_equal(tiled[name], expected)


def test_superpixels_keep_to_what_is_alike(world: World) -> None:
    "Without compactness hardly a superpixel holds two kinds; on a flat image they are squares."
    image = call("SNIC", image=ee.Image("T/a"), size=6, compactness=0)
    labels = world.all(image)["clusters"]
    purity = [
        np.bincount(world.kinds[labels == k]).max() / (labels == k).sum() for k in np.unique(labels)
    ]
    assert np.mean(purity) > 0.95
    flat = world.all(call("SNIC", image=ee.Image("T/flat"), size=6, compactness=1))
    # Six divides the lattice's origin: seeds lie three pixels into every square.
    rows, columns = np.nonzero(flat["seeds"])
    y, x = np.mgrid[:SIZE, :SIZE]
    far = np.hypot(y[..., None] - rows, x[..., None] - columns)
    own = flat["clusters"][rows, columns]
    nearest = own[far.argmin(axis=-1)]
    sure = np.sort(far, axis=-1)[..., 1] - far.min(axis=-1) > 1.5
    assert (flat["clusters"] == nearest)[sure].mean() > 0.98


def test_seeds_that_are_given_grow(world: World) -> None:
    "[A]: any non-zero pixels; those that touch belong to one cluster; no band of seeds."
    seeds = np.zeros((SIZE, SIZE), np.uint8)
    seeds[10, 10:13] = 7
    seeds[40, 40] = 1
    world.earth.put("T/seeds", band("s", seeds))
    image = call("SNIC", image=ee.Image("T/m"), seeds=ee.Image("T/seeds"), neighborhoodSize=50)
    found = world.all(image, 48)
    assert list(found) == ["clusters", "x_mean", "y_mean"]
    labels = found["clusters"]
    assert len(np.unique(labels[np.isfinite(labels)])) == 2
    assert len(set(labels[10, 10:13][world.mask[10, 10:13]])) == 1
    assert np.isnan(labels[~world.mask]).all()


@pytest.mark.parametrize(("kind", "expected"), [("square", 25.0), ("hex", 25 * np.sqrt(3) / 2)])
def test_seeds_lie_on_a_grid(world: World, kind: str, expected: float) -> None:
    found = world.all(call("seedGrid", size=5, gridType=kind), 17)["seeds"]
    assert found.size / found.sum() == pytest.approx(expected, rel=0.15)
    points = np.argwhere(found == 1)
    gaps = cdist(points, points)
    gaps[gaps == 0] = 99
    assert gaps.min() >= 4
    with pytest.raises(EngineError, match="Unknown gridType 'round': square or hex"):
        world.earth.info(call("seedGrid", gridType="round"))


# ------------------------------------------------------------------ clusters of cells


@pytest.mark.parametrize("unique", [True, False])
def test_cells_are_clustered_each_for_itself(world: World, unique: bool) -> None:
    "[A] KMeans: on a grid of cells; every pixel has the nearest of its cell's means."
    image = call("KMeans", image=ee.Image("T/a"), numClusters=3, gridSize=16, uniqueLabels=unique)
    found = world.all(image)
    assert list(found) == ["clusters"]
    labels = found["clusters"]
    # Sixteen divides the lattice's origin: cells begin at the image's corner.
    seen: list[set[float]] = []
    for row in range(0, SIZE, 16):
        for column in range(0, SIZE, 16):
            part = np.s_[row : row + 16, column : column + 16]
            own = labels[part].ravel()
            table = world.values[(slice(None), *part)].reshape(2, -1).T
            names = np.unique(own)
            means = np.stack([table[own == k].mean(axis=0) for k in names])
            np.testing.assert_array_equal(names[cdist(table, means).argmin(axis=1)], own)
            seen.append(set(names))
    together = set().union(*seen)
    assert len(together) == (sum(map(len, seen)) if unique else 3)
    np.testing.assert_array_equal(labels, world.all(image, 11)["clusters"])


def test_partly_masked_pixels_are_masked(world: World) -> None:
    "[A]: any input pixels with partial masks are fully masked in the output."
    half = ee.Image("T/a").updateMask(ee.Image("T/m").select("x").mask().multiply(0.5).add(0.5))
    found = world.all(call("KMeans", image=half, gridSize=16))["clusters"]
    np.testing.assert_array_equal(np.isfinite(found), world.mask)


def test_convergence_can_be_asked_for(world: World) -> None:
    image = call(
        "KMeans", image=ee.Image("T/a"), numClusters=9, numIterations=1, forceConvergence=True
    )
    with pytest.raises(EngineError, match=r"Segmentation.KMeans: No convergence within 1"):
        world.all(image)


def test_gmeans_finds_how_many_there_are(world: World) -> None:
    "Hamerly & Elkan (2003): four normal clusters are found, and not divided further."
    random = np.random.default_rng(7)
    kinds = random.integers(0, 4, (SIZE, SIZE))
    centres = np.array([[0.0, 0], [100, 0], [0, 100], [100, 100]])
    values = centres[kinds] + random.normal(0, 4, (SIZE, SIZE, 2))
    world.earth.put("T/four", band("x", values[..., 0]), band("y", values[..., 1]))
    # The whole image in one cell: the lattice's origin is 80 and 48 pixels into blocks of 256.
    image = call("GMeans", image=ee.Image("T/four"), pValue=0.01, uniqueLabels=False)
    grid = native(48, 48)
    found = world.earth.pixels(image, grid)["clusters"][0]
    pairs = {(int(a), int(b)) for a, b in zip(found.ravel(), kinds.ravel(), strict=True)}
    assert len({a for a, _ in pairs}) >= 4
    for label in np.unique(found):
        assert len({b for a, b in pairs if a == label}) == 1


def test_the_normality_test_keeps_its_level() -> None:
    "Of normal samples a share p has a smaller chance than p (Stephens 1986)."
    random = np.random.default_rng(1)
    chances = np.array([segmentation.normality(random.normal(3, 2, 60)) for _ in range(1500)])
    for level in (0.05, 0.2, 0.5, 0.8):
        assert (chances < level).mean() == pytest.approx(level, abs=0.035)
    assert segmentation.normality(random.exponential(1, 200)) < 1e-4


def test_refusals_in_words(world: World) -> None:
    image = ee.Image("T/a")
    for name, arguments, words in (
        ("SNIC", {"size": 0}, "size must be between 1 and 1024"),
        ("SNIC", {"connectivity": 6}, "connectivity must be 4 or 8, not 6"),
        ("SNIC", {"compactness": 1e300}, "compactness must be between 0 and 1e[+]09"),
        ("KMeans", {"numClusters": 0}, "numClusters must be between"),
        ("KMeans", {"neighborhoodSize": 3, "gridSize": 16}, "exclude each other"),
        ("GMeans", {"pValue": 120}, "pValue must be between 0 and 100"),
    ):
        with pytest.raises(EngineError, match=f"Image.Segmentation.{name}: .*{words}"):
            world.earth.info(call(name, image=image, **arguments))
