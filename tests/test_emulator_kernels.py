"""Kernels, confusion matrices and pixel types as values.

[A]: the description of the function in the installed client's list, ee/tests/algorithms.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, at_scale, band, earth
from numpy.typing import NDArray

from gee.emulator.errors import EngineError
from gee.emulator.types import DOUBLE, FLOAT, PixelType

Array = NDArray[Any]
FORMS = ("circle", "cross", "diamond", "octagon", "plus", "square")
EDGES = ("compass", "kirsch", "laplacian4", "laplacian8", "prewitt", "roberts", "sobel")
DISTANCES = {
    "euclidean": np.hypot,
    "manhattan": lambda c, r: abs(c) + abs(r),
    "chebyshev": lambda c, r: np.maximum(abs(c), abs(r)),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("kernels")) as found:
        spot = np.zeros((41, 41))
        spot[20, 20] = 1
        found.put("T/spot", band("v", spot))
        yield found


def weights(world: Earth, kernel: ee.Kernel) -> Array:
    """Return the rows of weights that getInfo shows as text."""
    rows = re.findall(r"\[(.*?)\]", world.info(kernel)["weights"])
    return np.array([[float(v) for v in row.split(",")] for row in rows])


@pytest.mark.parametrize("name", FORMS)
def test_forms(world: Earth, name: str) -> None:
    "[A] normalize: weights sum to 1; magnitude scales; forms are symmetric and 0 or 1."
    make = getattr(ee.Kernel, name)
    for radius in (1, 2, 3):
        plain = weights(world, make(radius, "pixels", False))
        assert plain.shape == (2 * radius + 1,) * 2
        assert set(np.unique(plain)) <= {0.0, 1.0}
        for turned in (plain.T, plain[::-1], plain[:, ::-1]):
            np.testing.assert_array_equal(turned, plain)
        np.testing.assert_allclose(weights(world, make(radius)), plain / plain.sum())
        scaled = weights(world, make(radius, "pixels", True, 5))
        np.testing.assert_allclose(scaled, 5 * plain / plain.sum())


def test_cells_of_the_forms(world: Earth) -> None:
    "Which cells a form of radius 2 covers, by its definition."
    r, c = np.mgrid[-2:3, -2:3]
    expected = {
        "square": np.ones((5, 5)),
        "circle": r**2 + c**2 <= 4,
        "diamond": abs(r) + abs(c) <= 2,
        "plus": (r == 0) | (c == 0),
        "cross": abs(r) == abs(c),
    }
    for name, cells in expected.items():
        found = weights(world, getattr(ee.Kernel, name)(2, "pixels", False))
        np.testing.assert_array_equal(found, cells, err_msg=name)
    found = weights(world, ee.Kernel.rectangle(2, 1, "pixels", False))
    np.testing.assert_array_equal(found, np.ones((3, 5)))


@pytest.mark.parametrize("name", DISTANCES)
def test_distances(world: Earth, name: str) -> None:
    "[A]: the distance of each cell from the centre, where it is within the radius."
    r, c = np.mgrid[-3:4, -3:4].astype(float)
    distance = np.asarray(DISTANCES[name](c, r))
    expected = np.where(distance <= 3, distance, 0)
    np.testing.assert_allclose(weights(world, getattr(ee.Kernel, name)(3)), expected)


@pytest.mark.parametrize("name", EDGES)
def test_edges(world: Earth, name: str) -> None:
    "Edge detectors of 3 x 3 (Roberts: 2 x 2) cells answer 0 to a constant."
    found = weights(world, getattr(ee.Kernel, name)())
    assert found.shape == ((2, 2) if name == "roberts" else (3, 3))
    assert found.sum() == 0
    np.testing.assert_allclose(weights(world, getattr(ee.Kernel, name)(2)), 2 * found)


def test_gaussian(world: Earth) -> None:
    "[A]: a sampled continuous Gaussian; radius 3 is trimmed to 5 x 5 cells ([G])."
    r, c = np.mgrid[-2:3, -2:3]
    bell = np.exp(-(r**2 + c**2) / 2) * (r**2 + c**2 < 9)
    np.testing.assert_allclose(weights(world, ee.Kernel.gaussian(3)), bell / bell.sum())
    wide = np.exp(-(r**2 + c**2) / 8) * (r**2 + c**2 < 9)
    np.testing.assert_allclose(weights(world, ee.Kernel.gaussian(3, 2)), wide / wide.sum())


def test_kernels_of_kernels(world: Earth) -> None:
    "[A] fixed, rotate, add, inverse: by numpy on the weights."
    table = [[1, 2, 3], [4, 5, 6]]
    kernel = ee.Kernel.fixed(3, 2, table, 0, 1)
    assert world.info(kernel)["center"] == [0, 1]
    np.testing.assert_array_equal(weights(world, kernel), table)
    for turns in (-1, 0, 1, 2, 5):
        found = weights(world, kernel.rotate(turns))
        np.testing.assert_array_equal(found, np.rot90(table, -turns))
    assert world.info(kernel.rotate(1))["center"] == [0, 0]
    summed = weights(
        world, ee.Kernel.plus(1, "pixels", False).add(ee.Kernel.square(2, "pixels", False))
    )
    expected = np.ones((5, 5))
    expected[1:4, 2] += 1
    expected[2, [1, 3]] += 1
    np.testing.assert_array_equal(summed, expected)
    found = weights(world, ee.Kernel.plus(1, "pixels", False).add(ee.Kernel.plus(1), True))
    assert found.sum() == pytest.approx(1)
    inverted = weights(world, ee.Kernel.fixed(2, 1, [[4, 0]]).inverse())
    np.testing.assert_array_equal(inverted, [[0.25, 0]])
    np.testing.assert_array_equal(
        weights(world, ee.Kernel.fixed(2, 1, [[1, 3]], -1, -1, True)), [[0.25, 0.75]]
    )


def test_kernels_in_metres_follow_the_scale(world: Earth) -> None:
    "[A] units: in metres a kernel resizes with the scale, also one made of others."
    square = ee.Kernel.square(30, "meters", False)
    ones = ee.Image("T/spot").multiply(0).add(1)
    for kernel, weight in (
        (square, 1),
        (square.rotate(1), 1),
        (square.inverse(), 1),
        (square.add(square).inverse(), 0.5),
        (ee.Kernel.plus(1, "pixels", False).add(square.add(square)), 2),
    ):
        for metres, cells in ((10, 49), (30, 9)):
            side = 390 // metres
            found = world.data(ones.convolve(kernel), at_scale(metres, side, side))
            more = 5 if weight == 2 else 0
            assert found[side // 2, side // 2] == pytest.approx(cells * weight + more)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (lambda: ee.Kernel.square(-1), "must be positive"),
        (lambda: ee.Kernel.square(1e9), "too large"),
        (lambda: ee.Kernel.square(1, "feet"), "Unknown kernel units"),
        (lambda: ee.Kernel.fixed(3, 1, [[1, 2]]), "not 3 x 1"),
        (lambda: ee.Kernel.fixed(2, 2, [[1, 2], [3]]), "rows of one length"),
    ],
)
def test_mistakes_have_words(world: Earth, kernel: Any, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        world.info(kernel())


# ------------------------------------------------------------------ confusion matrices

TABLE = np.array([[12, 3, 0], [2, 20, 5], [1, 0, 7]])


def test_measures_of_a_confusion_matrix(world: Earth) -> None:
    "[A]: rows are actual, columns predicted; scikit-learn on the same pairs."
    from sklearn import metrics

    actual, predicted = np.repeat(np.stack(np.nonzero(np.ones((3, 3)))), TABLE.ravel(), axis=1)
    matrix = ee.ConfusionMatrix(ee.Array(TABLE.tolist()))
    assert world.info(matrix) == TABLE.tolist()
    assert world.info(matrix.array()) == TABLE.tolist()
    assert world.info(matrix.order()) == [0, 1, 2]
    assert world.info(matrix.accuracy()) == pytest.approx(metrics.accuracy_score(actual, predicted))
    assert world.info(matrix.kappa()) == pytest.approx(metrics.cohen_kappa_score(actual, predicted))
    recall = metrics.recall_score(actual, predicted, average=None)
    precision = metrics.precision_score(actual, predicted, average=None)
    np.testing.assert_allclose(world.info(matrix.producersAccuracy()), recall[:, None])
    np.testing.assert_allclose(world.info(matrix.consumersAccuracy()), precision[None, :])
    for beta in (1, 0.5, 2):
        expected = metrics.fbeta_score(actual, predicted, beta=beta, average=None)
        np.testing.assert_allclose(world.info(matrix.fscore(beta)), expected)
    other = ee.ConfusionMatrix(ee.Array(TABLE.tolist()), [5, 7, 9])
    assert world.info(other.order()) == [5, 7, 9]
    for table, order, words in (
        ([[1, 2]], None, "must be square"),
        ([[1]], [1, 2], "names 2 classes"),
    ):
        with pytest.raises(EngineError, match=words):
            world.info(ee.ConfusionMatrix(ee.Array(table), order))


# ------------------------------------------------------------------ pixel types


def test_pixel_types(world: Earth) -> None:
    "[A] PixelType: precision, range and dimensions; the named types."
    for name, low, high in (
        ("uint8", 0, 255), ("int8", -128, 127), ("uint16", 0, 65535), ("int16", -32768, 32767),
        ("uint32", 0, 2**32 - 1), ("int32", -(2**31), 2**31 - 1),
    ):  # fmt: skip
        kind = getattr(ee.PixelType, name)()
        assert world.info(kind) == {
            "type": "PixelType", "precision": "int", "min": low, "max": high
        }  # fmt: skip
        assert world.info(kind.minValue()) == low
        assert world.info(kind.maxValue()) == high
        assert world.info(kind.dimensions()) == 0
    assert world.info(ee.PixelType.float()) == {"type": "PixelType", "precision": "float"}
    assert world.info(ee.PixelType.double().precision()) == "double"
    made = ee.PixelType("double", 0, None, 2)
    assert world.info(made) == {
        "type": "PixelType", "precision": "double", "min": 0, "dimensions": 2
    }  # fmt: skip
    assert world.info(ee.PixelType("int", -5, 300)) == {
        "type": "PixelType", "precision": "int", "min": -5, "max": 300
    }  # fmt: skip
    for arguments, words in (
        (("half",), "Invalid pixel type"),
        (("int", 5, 1), "must not be above"),
        (("int", 0, 1, -1), "dimensions"),
    ):
        with pytest.raises(EngineError, match=words):
            world.info(ee.PixelType(*arguments))


def test_unions_of_types() -> None:
    "The smallest type that holds both; a float beside an int is a float, a double wins."
    byte, short = PixelType.named("uint8"), PixelType.named("int16")
    assert byte.union(short) == short
    assert byte.union(PixelType("int", -1, 3)) == PixelType("int", -1, 255)
    assert byte.union(FLOAT).precision == "float"
    assert FLOAT.union(DOUBLE).precision == "double"
    assert byte.union(byte.with_dimensions(2)).dimensions == 2
    assert byte.with_dimensions(2).dtype == np.uint8
