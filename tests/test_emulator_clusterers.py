"""Clusterers: the conditions that their clusters meet, and clusters that are plain to see.

[A] is the list of the installed client.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, band, earth, native
from scipy.spatial.distance import cdist

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.pixels import Limits

load_all()

from gee.emulator.functions import clusterers, cobweb  # noqa: E402

SIZE = 40
CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 200.0], [10.0, 200.0]])


class World:
    def __init__(self, found: Earth, pixels: np.ndarray, mask: np.ndarray) -> None:
        self.earth, self.pixels, self.mask = found, pixels, mask
        random = np.random.default_rng(1)
        self.kinds = np.repeat(np.arange(4), 30)
        # The second input varies twenty times as much: distances must weigh both alike.
        self.table = CENTRES[self.kinds] + random.normal(0, 1, (120, 2)) * [0.8, 16]
        self.training = ee.FeatureCollection(
            [ee.Feature(None, {"x": float(x), "y": float(y)}) for x, y in self.table]
        )

    def info(self, value: Any) -> Any:
        return self.earth.info(value)

    def assigned(self, clusterer: Any) -> tuple[Any, np.ndarray]:
        trained = clusterer.train(self.training, ["x", "y"])
        return trained, np.asarray(self.earth.value(trained).assign(self.table))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    random = np.random.default_rng(0)
    kinds = random.integers(0, 4, (SIZE, SIZE))
    pixels = np.moveaxis(CENTRES[kinds] + random.normal(0, 1, (SIZE, SIZE, 2)), -1, 0)
    mask = random.random((2, SIZE, SIZE)) > 0.1
    with earth(tmp_path_factory.mktemp("clusterers")) as found:
        found.put("T/a", band("x", pixels[0], mask[0]), band("y", pixels[1], mask[1]))
        yield World(found, pixels, mask)


def same_parts(a: np.ndarray, b: np.ndarray) -> bool:
    "Whether two labellings part the rows alike, whatever the numbers are."
    pairs = {(int(x), int(y)) for x, y in zip(a, b, strict=True)}
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


PLAIN = {
    "plus": lambda: ee.Clusterer.wekaKMeans(4, 1),
    "canopy": lambda: ee.Clusterer.wekaKMeans(4, 2),
    "farthest": lambda: ee.Clusterer.wekaKMeans(4, 3),
    "manhattan": lambda: ee.Clusterer.wekaKMeans(4, 3, distanceFunction="Manhattan"),
    "cascade": lambda: ee.Clusterer.wekaCascadeKMeans(2, 8),
    "xmeans": lambda: ee.Clusterer.wekaXMeans(2, 9, 6),
    "lvq": lambda: ee.Clusterer.wekaLVQ(4, 0.5),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_clusters_are_found(world: World, name: str) -> None:
    "Four groups 12 deviations apart, at scales that differ twentyfold; also their number."
    _, found = world.assigned(PLAIN[name]())
    assert same_parts(found, world.kinds)
    assert found.min() == 0
    assert found.max() == 3


@pytest.mark.parametrize("init", range(4))
@pytest.mark.parametrize("metric", ["Euclidean", "Manhattan"])
@pytest.mark.parametrize("seed", [1, 10])
def test_k_means_is_at_rest(world: World, init: int, metric: str, seed: int) -> None:
    "Every row has the nearest centre; centres are the means, for Manhattan medians ([A])."
    clusterer = ee.Clusterer.wekaKMeans(5, init, distanceFunction=metric, seed=seed)
    trained, found = world.assigned(clusterer)
    model = world.earth.value(trained).model()
    scaled = (world.table - model.low) / model.span
    np.testing.assert_allclose([scaled.min(), scaled.max()], [0, 1])
    centres = (model.centres - model.low) / model.span
    far = cdist(scaled, centres, "cityblock" if metric == "Manhattan" else "euclidean")
    np.testing.assert_array_equal(found, far.argmin(axis=1))
    middle = np.median if metric == "Manhattan" else np.mean
    for k in range(model.count):
        np.testing.assert_allclose(model.centres[k], middle(world.table[found == k], axis=0))
    _, again = world.assigned(clusterer)
    np.testing.assert_array_equal(found, again)


def test_seeds_choose_other_starts(world: World) -> None:
    parts = {
        tuple(world.assigned(ee.Clusterer.wekaKMeans(7, 0, seed=s))[1].tolist()) for s in range(5)
    }
    assert len(parts) > 1


def test_iterations_are_limited(world: World) -> None:
    "One iteration from the same start moves the centres once (Lloyd)."
    rows = np.array([[0.0], [1.0], [2.0], [10.0]])
    found, labels, _ = clusterers.kmeans(rows, np.array([[0.0], [1.0]]), "Euclidean", 1)
    np.testing.assert_allclose(found.ravel(), [0, 13 / 3])
    np.testing.assert_array_equal(labels, [0, 0, 0, 1])


def test_the_criterion_of_calinski_and_harabasz(world: World) -> None:
    from sklearn.metrics import calinski_harabasz_score

    random = np.random.default_rng(3)
    labels = random.integers(0, 5, 120)
    centres = np.zeros((5, 2))
    assert clusterers.calinski_harabasz(world.table, labels, centres) == pytest.approx(
        calinski_harabasz_score(world.table, labels)
    )


def test_the_information_of_pelleg_and_moore() -> None:
    "The likelihood of spherical Gaussians, written out row by row with scipy."
    from scipy.stats import multivariate_normal

    random = np.random.default_rng(4)
    table = random.normal(0, 1, (50, 3))
    labels = np.arange(50) % 2
    centres = np.stack([table[labels == k].mean(axis=0) for k in range(2)])
    square = ((table - centres[labels]) ** 2).sum()
    variance = square / (3 * (50 - 2))
    each = [
        np.log((labels == k).mean()) + multivariate_normal(centres[k], variance).logpdf(row)
        for row, k in zip(table, labels, strict=True)
    ]
    expected = sum(each) - 2 * (3 + 1) / 2 * np.log(50)
    assert clusterers.information(table, labels, centres) == pytest.approx(expected)


def test_category_utility_by_hand() -> None:
    "Two parts of one input: the mean gain of reciprocal deviations over 2 sqrt(pi), halved."
    whole = cobweb.Concept(4.0, np.array([24.0]), np.array([0.0 + 4 + 100 + 144]))
    low = cobweb.Concept(2.0, np.array([2.0]), np.array([4.0]))
    high = cobweb.Concept(2.0, np.array([22.0]), np.array([244.0]))
    spread = np.sqrt(248 / 4 - 36)
    expected = (1 - 1 / spread) / 2 / (2 * np.sqrt(np.pi))
    assert cobweb.utility(whole, [low, high], 0.1) == pytest.approx(expected)


def test_cobweb_keeps_apart_what_is_apart(world: World) -> None:
    "No leaf holds rows of two groups; rows alike share one; the cut-off joins all."
    rows = np.array([[0, 0], [100, 0], [0, 100]])[np.arange(60) % 3] + np.zeros((60, 2))
    table = ee.FeatureCollection([ee.Feature(None, {"x": int(x), "y": int(y)}) for x, y in rows])
    trained = ee.Clusterer.wekaCobweb(1, 0.002).train(table, ["x", "y"])
    found = np.asarray(world.earth.value(trained).assign(rows))
    assert same_parts(found, np.arange(60) % 3)
    one = ee.Clusterer.wekaCobweb(1, 100).train(table, ["x", "y"])
    assert (np.asarray(world.earth.value(one).assign(rows)) == 0).all()
    model = world.earth.value(ee.Clusterer.wekaCobweb(1).train(world.training, ["x"])).model()
    far = model.assign(np.array([[0.0], [10.0]]))
    assert far[0] != far[1]


def test_images_are_clustered_by_tiles(world: World) -> None:
    "Image.cluster [A]: one band from 0 to N, named; masked where an input is."
    trained, _ = world.assigned(ee.Clusterer.wekaKMeans(4, 3))
    image = ee.Image("T/a").select(["y", "x"]).cluster(trained)
    whole = world.earth.pixels(image, native(SIZE, SIZE))
    small = world.earth.pixels(image, native(SIZE, SIZE), Limits(tile=11, threads=1))
    data, mask = whole["cluster"]
    np.testing.assert_array_equal(mask > 0, world.mask.all(axis=0))
    np.testing.assert_array_equal(data, small["cluster"][0])
    rows = world.pixels[:, mask > 0].T
    near = cdist(rows / [10, 200], CENTRES / [10, 200]).argmin(axis=1)
    assert same_parts(data[mask > 0], near)
    shown = world.info(image)["bands"][0]
    assert shown["data_type"] == {"type": "PixelType", "precision": "int", "min": 0, "max": 3}
    assert world.info(trained.schema()) == ["x", "y"]


def test_features_are_clustered(world: World) -> None:
    trained, found = world.assigned(ee.Clusterer.wekaKMeans(4, 3))
    table = world.training.merge(ee.FeatureCollection([ee.Feature(None, {"x": 1})]))
    rows = world.info(table.cluster(trained, "part"))["features"]
    assert [r["properties"].get("part") for r in rows] == [*found.tolist(), None]


def test_refusals_in_words(world: World) -> None:
    def refused(made: Any, words: str) -> None:
        with pytest.raises(EngineError, match=words):
            world.info(made)

    untrained = ee.Clusterer.wekaKMeans(3)
    assert world.info(untrained.schema()) is None
    refused(ee.Image("T/a").cluster(untrained), "Image.cluster: The clusterer has not been")
    refused(world.training.cluster(untrained), "has not been trained")
    refused(ee.Clusterer.wekaKMeans(0), "nClusters must be at least 1, not 0")
    refused(ee.Clusterer.wekaKMeans(3, 4), "init must be 0")
    refused(
        ee.Clusterer.wekaKMeans(3, distanceFunction="Chebyshev"),
        "Unknown distanceFunction 'Chebyshev': Euclidean, Manhattan",
    )
    refused(ee.Clusterer.wekaCascadeKMeans(5, 3), "maxClusters must be at least 5, not 3")
    refused(ee.Clusterer.wekaLVQ(3, 0), r"learningRate must be within \(0, 1\], not 0")
    refused(ee.Clusterer.wekaCobweb(0), "acuity must be positive")
    missing = untrained.train(world.training, ["x", "w"])
    refused(ee.Image("T/a").cluster(missing), "No valid training data were found")
