"""Eigenvectors with the signs and the order of the library that Earth Engine names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.emulator.functions import load_all
from gee.emulator.functions.arrays import as_array

HALF = 0.5**0.5


def eigen(matrix: list[list[float]]) -> np.ndarray:
    return np.asarray(load_all()["Array.eigen"].call(as_array(matrix)).values)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        # EJML 0.41, DecompositionFactory_DDRM.eig, rows put in descending order.
        ([[0]], [[0, 1]]),
        ([[-2]], [[-2, 1]]),
        ([[0, 0], [0, 0]], [[0, 0, 1], [0, 1, 0]]),
        ([[1, 0], [0, 1]], [[1, 1, 0], [1, 0, 1]]),
        ([[2, 0], [0, 3]], [[3, 0, 1], [2, 1, 0]]),
        ([[0, 1], [0, 0]], [[0, 0, 1], [0, 1, 0]]),
        ([[1, 1], [0, 1]], [[1, 0, 1], [1, 1, 0]]),
        ([[1, 2], [0, 3]], [[3, HALF, HALF], [1, 1, 0]]),
        ([[0, 1], [1, 0]], [[1, HALF, HALF], [-1, HALF, -HALF]]),
        ([[2, 1], [1, 2]], [[3, HALF, HALF], [1, HALF, -HALF]]),
        ([[3, 0], [1, 2]], [[3, -HALF, -HALF], [2, 0, 1]]),
        ([[1, 2], [3, 4]], [[5.3723, -0.416, -0.9094], [-0.3723, -0.8246, 0.5658]]),
        ([[4, 3], [2, 1]], [[5.3723, -0.9094, -0.416], [-0.3723, -0.5658, 0.8246]]),
        ([[1, -2], [-3, 4]], [[5.3723, -0.416, 0.9094], [-0.3723, 0.8246, 0.5658]]),
    ],
)
def test_signs_and_order_are_those_of_ejml(
    matrix: list[list[float]], expected: list[list[float]]
) -> None:
    "[A] Array.eigen: this implementation uses DecompositionFactory.eig() of https://ejml.org."
    assert eigen(matrix) == pytest.approx(np.array(expected), abs=5e-5)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_every_row_is_a_value_and_its_unit_vector(rows: list[list[int]]) -> None:
    "A v = lambda v, |v| = 1, the greatest value first; of triangular and of symmetric matrices."
    given_rows = np.array(rows, float)
    for matrix in (given_rows + given_rows.T, np.triu(given_rows)):
        found = eigen(matrix.tolist())
        values, vectors = found[:, 0], found[:, 1:]
        assert (np.diff(values) <= 1e-9).all()
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
        separate = len(set(np.round(values, 6))) == 3
        if separate or (matrix == matrix.T).all():
            assert matrix @ vectors.T == pytest.approx((values[:, None] * vectors).T, abs=1e-8)


@pytest.mark.parametrize(
    ("matrix", "u", "v"),
    [
        # EJML 0.41, DecompositionFactory_DDRM.svd, singular values in descending order.
        ([[1, 2], [3, 4]], [[0.4046, -0.9145], [0.9145, 0.4046]],
         [[0.576, 0.8174], [0.8174, -0.576]]),
        ([[2, 0], [0, 3]], [[0, 1], [1, 0]], [[0, 1], [1, 0]]),
        ([[1, 0], [0, 1]], [[1, 0], [0, 1]], [[1, 0], [0, 1]]),
        ([[1, 2], [3, 4], [5, 6]], [[0.2298, -0.8835], [0.5247, -0.2408], [0.8196, 0.4019]],
         [[0.6196, 0.7849], [0.7849, -0.6196]]),
    ],
)  # fmt: skip
def test_singular_vectors_have_the_signs_of_ejml(
    matrix: list[list[float]], u: list[list[float]], v: list[list[float]]
) -> None:
    found = load_all()["Array.matrixSingularValueDecomposition"].call(as_array(matrix))
    assert np.asarray(found["U"].values)[:, : len(v)] == pytest.approx(np.array(u), abs=5e-5)
    assert np.asarray(found["V"].values) == pytest.approx(np.array(v), abs=5e-5)
