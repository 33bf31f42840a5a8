"""Arrays as values, against numpy."""

from __future__ import annotations

from collections.abc import Iterator

import ee
import numpy as np
import pytest
from emulator_engine_world import Earth, earth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gee.emulator.errors import EngineError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("arrays")) as found:
        yield found


TABLES = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(-20, 20), min_size=n, max_size=n), min_size=1, max_size=4
    )
)


@given(TABLES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_elementwise_and_shapes(world: Earth, rows: list[list[int]]) -> None:
    table, array = np.array(rows), ee.Array(rows)
    cases = {
        array.add(array): table + table,
        array.multiply(-3): table * -3,
        array.abs(): np.abs(table),
        array.gt(0): (table > 0).astype(int),
        array.transpose(): table.T,
        array.length(): np.array(table.shape),
        ee.Array.cat([array, array], 1): np.hstack([table] * 2),
        array.slice(0, 0, 1): table[:1],
        array.slice(1, -1): table[:, -1:],
        array.repeat(0, 2): np.vstack([table] * 2),
        array.reshape([-1]): table.ravel(),
        array.reduce(ee.Reducer.sum(), [0]): table.sum(axis=0, keepdims=True),
        array.reduce(ee.Reducer.max(), [0, 1]): table.max(keepdims=True),
        array.accum(1): np.cumsum(table, axis=1),
        array.matrixMultiply(array.transpose()): table @ table.T,
        array.toInt8().pow(2): table**2,
    }
    for value, expected in cases.items():
        np.testing.assert_allclose(np.array(world.info(value)), expected)


def test_linear_algebra(world: Earth) -> None:
    table = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 2.0]])
    array = ee.Array(table.tolist())
    np.testing.assert_allclose(world.info(array.matrixInverse()), np.linalg.inv(table))
    assert world.info(array.matrixDeterminant()) == pytest.approx(np.linalg.det(table))
    assert world.info(array.matrixTrace()) == 9
    solved = world.info(array.matrixSolve([[1], [2], [3]]))
    np.testing.assert_allclose(solved, np.linalg.solve(table, [[1], [2], [3]]))
    rows = np.array(world.info(array.eigen()))
    assert (np.diff(rows[:, 0]) <= 0).all()
    for value, *vector in rows:
        np.testing.assert_allclose(table @ vector, value * np.array(vector), atol=1e-9)
    parts = world.info(array.matrixCholeskyDecomposition())
    np.testing.assert_allclose(np.array(parts["L"]) @ np.array(parts["L"]).T, table)
    parts = {k: np.array(v) for k, v in world.info(array.matrixLUDecomposition()).items()}
    np.testing.assert_allclose(parts["P"] @ table, parts["L"] @ parts["U"])
    parts = {k: np.array(v) for k, v in world.info(array.matrixQRDecomposition()).items()}
    np.testing.assert_allclose(parts["Q"] @ parts["R"], table, atol=1e-12)
    parts = world.info(array.matrixSingularValueDecomposition())
    parts = {k: np.array(v) for k, v in parts.items()}
    np.testing.assert_allclose(parts["U"] @ parts["S"] @ parts["V"].T, table, atol=1e-12)


def test_choosing_elements(world: Earth) -> None:
    array = ee.Array([[3, 1], [9, 4]])
    cases = [
        (array.get([1, 0]), 9),
        (array.cut([-1, 1]), [[1], [4]]),
        (array.argmax(), [1, 0]),
        (ee.Array([[3], [9]]).project([0]), [3, 9]),
        (array.mask([[1], [0]]), [[3, 1]]),
        (ee.Array([3, 1, 2]).sort(), [1, 2, 3]),
        (ee.Array([3, 1, 2]).sort([0, 2, 1]), [3, 2, 1]),
        (ee.Array([1]).pad([3], 7), [1, 7, 7]),
        (ee.Array.identity(2), [[1, 0], [0, 1]]),
        (ee.Array([1, 2, 3]).dotProduct([1, 0, 2]), 7),
        (ee.Array([[1, 2], [3, 4]]).matrixDiagonal(), [[1], [4]]),
        (ee.Array([300], ee.PixelType.uint8()), [255]),
        (ee.Dictionary({"b": 2, "a": 1}).toArray(), [1, 2]),
    ]
    for value, expected in cases:
        assert world.info(value) == expected


def test_reducers_with_fields(world: Earth) -> None:
    "[A] Array.reduce: several inputs or outputs use the field axis."
    line = ee.Array([[1, 5], [2, 7], [3, 9]])
    assert world.info(line.reduce(ee.Reducer.linearFit(), [0], 1)) == [[2, 3]]


def test_mistakes_are_named(world: Earth) -> None:
    with pytest.raises(EngineError, match=r"Array.add: Array dimensions must match"):
        world.value(ee.Array([1, 2]).add([1, 2, 3]))
    with pytest.raises(EngineError, match=r"Array.get: Position \[5\] is out of bounds"):
        world.value(ee.Array([1, 2]).get([5]))
    with pytest.raises(EngineError, match="must have the same length"):
        world.value(ee.Array([[1], [1, 2]]))
    with pytest.raises(EngineError, match="singular"):
        world.value(ee.Array([[1, 1], [1, 1]]).matrixInverse())
