"""Reducers that keep their inputs: lists and collections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import EngineError
from ..pixels import Array
from ..types import PixelType
from .base import Fold, Reducer, one_of, scalar
from .folds import EachPixelFold, ListFold

__all__ = ["to_collection", "to_list"]


def to_list(tuple_size: int | None = None, optional: int = 0) -> Reducer:
    """Return all inputs as a list, or as a list of tuples; as an array per pixel."""
    size = tuple_size or 1
    if size < 1 or not 0 <= optional <= size:
        raise EngineError(f"Invalid tupleSize {tuple_size} or numOptional {optional}.")

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        plain = [[scalar(v) for v in c] for c in columns]
        if tuple_size is None:
            return [plain[0]]
        return [[list(row) for row in zip(*plain, strict=True)]]

    def kinds(given: Sequence[PixelType]) -> list[PixelType]:
        made = one_of(given)
        return [made.with_dimensions(made.dimensions + (1 if tuple_size is None else 2))]

    def fold(given: Sequence[PixelType], shape: tuple[int, int]) -> Fold:
        if optional or any(k.dimensions for k in given):
            return EachPixelFold(made, given, shape)
        return ListFold(given, shape, tuple_size is not None)

    made = Reducer("toList", size, ("list",), compute, fold, kinds, optional=optional, arrays=True)
    return made


def to_collection(names: Sequence[str], optional: int = 0) -> Reducer:
    """Return all inputs as the features of a collection."""

    def compute(columns: list[Any], weights: Array) -> list[Any]:
        from ..values import Collection, Feature

        rows = zip(*([scalar(v) for v in c] for c in columns), strict=True)
        return [
            Collection(
                [
                    Feature(None, {**dict(zip(names, row, strict=True)), "system:index": str(k)})
                    for k, row in enumerate(rows)
                ]
            )
        ]

    return Reducer(
        "toCollection",
        len(names),
        ("features",),
        compute,
        optional=optional,
        plain=False,
        arrays=True,
    )
