"""What a reducer is: inputs, outputs, weights, and the forms that it is used in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..cells import cell
from ..errors import EngineError
from ..pixels import Array, Pixels
from ..types import DOUBLE, PixelType

__all__ = ["COUNT", "Fold", "Reducer"]

COUNT = PixelType("int", 0, 2**31 - 1)

Columns = list[Any]
Compute = Callable[[Columns, Array], list[Any]]
Whole = Callable[[Sequence[Any], Array, "Array | None"], list[Any]]
Kinds = Callable[[Sequence[PixelType]], list[PixelType]]


class Fold:
    """Takes the layers of a stack one after another; gives the reduced pixels."""

    def add(self, layers: Sequence[Pixels]) -> None:
        """Take one layer: as many pixels as the reducer has inputs."""
        raise EngineError("This reducer cannot be used per pixel.")

    def result(self) -> list[Pixels]:
        """Return one Pixels per output."""
        raise EngineError("This reducer cannot be used per pixel.")


MakeFold = Callable[[Sequence[PixelType], tuple[int, int]], Fold]


@dataclass(frozen=True, eq=False)
class Reducer:
    """A reducer.

    Parameters
    ----------
    name : str
    inputs : int
    outputs : tuple of str
    compute : (columns, weights) -> outputs
        ``columns`` are the inputs, one sequence each, without nulls.
    make_fold : (kinds, shape) -> Fold, optional
        For use per pixel; without one, ``compute`` is called for every pixel.
    kinds : (input types) -> output types, optional
        Of numbers and arrays; without it outputs are doubles.
    weighted : bool
    optional : int
        Last inputs that may be null.
    nulls : bool
        Whether nulls count as values.
    options : dict
        Shown by ``getInfo``.
    parts : tuple of Reducer
        What it is combined of.
    arrays : bool
        Whether it takes arrays.
    plain : bool
        Whether its outputs are numbers or arrays, which pixels can hold.
    whole : (columns, weights, inside) -> outputs, optional
        Used instead of ``compute``, with nulls and with pixels whose centre is outside.
    """

    name: str
    inputs: int
    outputs: tuple[str, ...]
    compute: Compute
    make_fold: MakeFold | None = None
    kinds: Kinds | None = None
    weighted: bool = False
    optional: int = 0
    nulls: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Reducer, ...] = ()
    arrays: bool = False
    plain: bool = True
    whole: Whole | None = None

    def reduce(
        self,
        columns: Sequence[Any],
        weights: Array | None = None,
        inside: Array | None = None,
    ) -> list[Any]:
        """Return the outputs for columns of values.

        Parameters
        ----------
        columns : as many sequences as there are inputs
            None or NaN-free numbers; rows with a null in a required input are left out.
        weights : (n,) float, optional
        inside : (n,) bool, optional
            Rows that count for an unweighted reducer.
        """
        n = len(columns[0]) if columns else 0
        if weights is None:
            weights = np.ones(n)
        if self.whole is not None:
            return self.whole(columns, weights, inside)
        if self.parts:
            return self._parts(columns, weights, inside)
        keep = np.ones(n, bool)
        if not self.weighted:
            keep &= weights > 0
            if inside is not None:
                keep &= inside
        if not self.nulls:
            for column in columns[: len(columns) - self.optional]:
                if not (isinstance(column, np.ndarray) and column.dtype != object):
                    keep &= np.array([v is not None for v in column], bool)
        if not keep.all():
            columns = [taken(c, keep) for c in columns]
            weights = weights[keep]
        if not self.weighted:
            weights = np.ones(len(weights))
        return self.compute([*columns], weights)

    def _parts(self, columns: Sequence[Any], weights: Array, inside: Array | None) -> list[Any]:
        out: list[Any] = []
        if self.options.get("shared"):
            for part in self.parts:
                out += part.reduce(columns, weights, inside)
            return out
        start = 0
        for part in self.parts:
            out += part.reduce(columns[start : start + part.inputs], weights, inside)
            start += part.inputs
        return self.options["collect"](out) if "collect" in self.options else out

    def types(self, kinds: Sequence[PixelType]) -> list[PixelType]:
        """Return the pixel types of the outputs for inputs of given types."""
        if self.parts:
            out: list[PixelType] = []
            start = 0
            for part in self.parts:
                if self.options.get("shared"):
                    out += part.types(kinds)
                else:
                    out += part.types(kinds[start : start + part.inputs])
                    start += part.inputs
            if "collect" not in self.options:
                return out
            n = len(self.outputs)
            return [one_of(out[k::n]).with_dimensions(out[k].dimensions + 1) for k in range(n)]
        return [DOUBLE] * len(self.outputs) if self.kinds is None else self.kinds(kinds)

    def fold(self, kinds: Sequence[PixelType], shape: tuple[int, int]) -> Fold:
        """Return what reduces a stack of layers pixel by pixel.

        Raises
        ------
        EngineError
            Its outputs are no numbers or arrays, or it does not take arrays.
        """
        from . import folds

        self.check(kinds)
        if self.parts and "collect" not in self.options:
            return folds.PartsFold(self, kinds, shape)
        if not self.plain:
            raise EngineError(
                f"Reducer.{self.name} cannot be used per pixel: its output is neither a number "
                "nor an array."
            )
        if self.make_fold is not None:
            return self.make_fold(kinds, shape)
        return folds.EachPixelFold(self, kinds, shape)

    def check(self, kinds: Sequence[PixelType]) -> None:
        """Refuse arrays where only numbers can be reduced.

        Raises
        ------
        EngineError
            An input is of arrays, which the reducer does not take.
        """
        if self.arrays or not any(k.dimensions for k in kinds):
            return
        if not self.parts:
            raise EngineError(
                f"Reducer.{self.name} takes numbers, not arrays: use Reducer.forEachElement or "
                "Reducer.disaggregate."
            )
        start = 0
        for part in self.parts:
            shared = self.options.get("shared")
            part.check(kinds if shared else kinds[start : start + part.inputs])
            start += part.inputs

    @property
    def folds(self) -> bool:
        """Whether pixels are reduced together, not one by one."""
        if self.parts:
            return "collect" not in self.options and all(p.folds for p in self.parts)
        return self.make_fold is not None

    def json(self) -> dict[str, Any]:
        """Return the form that ``getInfo`` shows."""
        shown = {k: v for k, v in self.options.items() if k not in ("shared", "collect", "inner")}
        return {"type": f"Reducer.{self.name}", **shown}


def taken(column: Sequence[Any], keep: Array) -> Any:
    """Return the rows of a column that a boolean array names."""
    if isinstance(column, np.ndarray):
        return column[keep]
    return [v for v, k in zip(column, keep, strict=True) if k]


def numbers(column: Sequence[Any]) -> Array:
    """Return a column as numbers.

    Raises
    ------
    EngineError
        It holds something else.
    """
    if isinstance(column, np.ndarray) and column.dtype != object and column.dtype.names is None:
        return column
    try:
        return np.asarray([float(v) for v in column])
    except (TypeError, ValueError):
        raise EngineError("Reducer inputs must be numbers.") from None


def real(column: Sequence[Any]) -> Array:
    """Return a column as doubles."""
    return widen(numbers(column))


def widen(values: Array) -> Array:
    """Return values in double precision."""
    return values.astype(np.float64, copy=False)


def scalar(value: Any) -> Any:
    """Return one pixel or value as a Python number or an array value."""
    if isinstance(value, (np.void, np.ndarray)):
        found = cell(value)
        return array_value(found, PixelType.of_dtype(found.dtype))
    return value.item() if isinstance(value, np.generic) else value


def arrays_of(column: Sequence[Any]) -> list[Array]:
    """Return a column of arrays, given in any form, as numpy arrays of numbers.

    Raises
    ------
    EngineError
        It holds something else.
    """
    from ..values import Array as ArrayValue

    out = []
    for value in column:
        item = value.values if isinstance(value, ArrayValue) else cell(value)
        try:
            found = np.asarray(item)
        except ValueError:
            found = np.asarray(None)
        if found.dtype.kind not in "iufb" or found.ndim == 0:
            raise EngineError("Reducer inputs must be arrays.")
        out.append(found)
    return out


def array_value(values: Any, kind: PixelType = DOUBLE) -> Any:
    """Return numbers as an array value."""
    from ..values import Array as ArrayValue

    return ArrayValue(np.asarray(values).astype(kind.dtype), kind.with_dimensions(0))


def one_of(kinds: Sequence[PixelType]) -> PixelType:
    """Return the union of some types."""
    made = kinds[0]
    for other in kinds[1:]:
        made = made.union(other)
    return made


def same(kinds: Sequence[PixelType]) -> list[PixelType]:
    """Output of the type of the first input."""
    return [kinds[0]]


def averaged(kinds: Sequence[PixelType]) -> list[PixelType]:
    """Real output in the range of the first input."""
    kind = kinds[0]
    precision = "float" if kind.precision == "float" else "double"
    return [PixelType(precision, kind.low, kind.high)]


def unbounded(kinds: Sequence[PixelType]) -> list[PixelType]:
    """Real output of any size."""
    return [PixelType("float" if kinds[0].precision == "float" else "double")]
