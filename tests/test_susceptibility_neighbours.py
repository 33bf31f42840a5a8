"""The nearest of many points: every distance worked out, in few and in many dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from thawslump.errors import DataError
from trainer.susceptibility import neighbours
from trainer.susceptibility.neighbours import Nearest


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 300),
    dimensions=st.integers(1, 16),
    kind=st.sampled_from(["numbers", "rounded", "classes", "far", "points"]),
)
def test_distances_are_the_least_of_all(seed: int, count: int, dimensions: int, kind: str) -> None:
    "Also where many points are as near, far away from all, and at the points themselves"
    dice = np.random.default_rng(seed)
    points = dice.normal(size=(count, dimensions)) * 10.0 ** dice.integers(-2, 3)
    rows = dice.normal(size=(70, dimensions)) * np.abs(points).max()
    if kind == "rounded":
        points, rows = np.round(points), np.round(rows)
    elif kind == "classes":
        points, rows = (points > 0).astype(float), (rows > 0).astype(float)
    elif kind == "far":
        rows = rows * 1e4 + 1e6
    elif kind == "points":
        rows = points[dice.integers(0, count, 70)]
    found = Nearest(points).distances(rows)
    np.testing.assert_allclose(found, cdist(rows, points).min(axis=1), rtol=1e-9, atol=1e-300)
    if kind == "points":
        assert not found.any()


@pytest.mark.parametrize("dimensions", [3, 14])
def test_blocks_and_threads_change_no_bit(dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    "Points of several products and rows of several blocks, by one thread and by three"
    dice = np.random.default_rng(1)
    points, rows = dice.normal(size=(900, dimensions)), dice.normal(size=(1003, dimensions))
    monkeypatch.setattr(neighbours, "_ROWS", 64)
    monkeypatch.setattr(neighbours, "_POINTS", 128)
    known = Nearest(points)
    assert (known._tree is None) == (dimensions == 14)
    alone = known.distances(rows)
    np.testing.assert_array_equal(alone, known.distances(rows, threads=3))
    np.testing.assert_allclose(alone, cdist(rows, points).min(axis=1), rtol=1e-12)


def test_what_single_precision_cannot_tell_apart_is_asked_again() -> None:
    "Two points 1e-9 nearer and farther, far from the others: rounding alone would choose either"
    dice = np.random.default_rng(2)
    points = dice.normal(size=(400, 14)) + 50
    points[:2] = 0.0
    points[0, 0], points[1, 0] = 1.0, -1.0 - 1e-9
    asked: list[int] = []
    known = Nearest(points)
    plain = known._nearest

    def counted(away: Any, kind: Any, out: Any = None) -> Any:
        if kind is np.float64:
            asked.append(len(away))
        return plain(away, kind, out)

    known._nearest = counted  # type: ignore[method-assign]
    rows = np.zeros((300, 14))
    rows[10:] = dice.normal(size=(290, 14)) + 50
    found = known.distances(rows)
    np.testing.assert_array_equal(found[:10], 1.0)
    np.testing.assert_allclose(found, cdist(rows, points).min(axis=1), rtol=1e-12)
    assert 10 <= sum(asked) < 40


def test_points_that_repeat_others_count_once() -> None:
    dice = np.random.default_rng(3)
    points = dice.normal(size=(50, 12))
    many = Nearest(np.repeat(points, 40, axis=0))
    assert many.points.shape == (2000, 12) and len(many._away) == 50
    rows = dice.normal(size=(20, 12))
    np.testing.assert_array_equal(many.distances(rows), Nearest(points).distances(rows))
    assert many.distances(np.empty((0, 12))).shape == (0,)


def test_rows_of_other_dimensions_are_refused() -> None:
    with pytest.raises(DataError, match=r"Rows of shape \(2, 2\) were given to points of 3"):
        Nearest(np.eye(3)).distances(np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"Points have the shape \(3,\)"):
        Nearest([1.0, 2.0, 3.0])
