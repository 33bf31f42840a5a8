"""Held-out probabilities of one model, by kind of folds and repetition, as safetensors.

While a model goes through its folds each finished one is kept beside the file (`Finished`), so that
a stop in the middle of a long model costs one fold.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.errors import DataError
from trainer.tensors import write_tensors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Finished", "Fold", "Held", "read", "write"]

_KEY = "thawslump"


@dataclass(frozen=True)
class Held:
    """What a model said of samples that it did not learn from.

    Attributes
    ----------
    probability : dict of (kind, repetition) to ndarray of float64, shape (n,)
        Kind of folds: "random", "blocked" and so on (`folds.KINDS`). NaN where a sample lies in
        no test part.
    fold : dict of (kind, repetition) to ndarray of int64, shape (n,)
        Test fold of each sample; -1 for none.
    test : ndarray of float64, shape (m,), optional
        What the model fitted to all samples says of the samples of held-out sites.
    facts : mapping of JSON values
        Seeds, sizes of the parts of each fold, features that were dropped inside it.
    shuffled : dict of factor to ndarray of float64, shape (permutations, n)
        What it said with the values of a factor shuffled between blocks (`importance.permuted`),
        over the first repetition of the first spatial kind.
    without : dict of factor to ndarray of float64, shape (n,)
        What it said where it had learned without a factor, over the same folds; of models that
        are fitted in a moment, of others empty.
    """

    probability: dict[tuple[str, int], NDArray[np.float64]]
    fold: dict[tuple[str, int], NDArray[np.int64]]
    test: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    facts: Mapping[str, Any] = field(default_factory=dict)
    shuffled: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    without: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def of(self, kind: str) -> list[NDArray[np.float64]]:
        """Return the probabilities of every repetition of a kind, in their order."""
        return [self.probability[key] for key in sorted(self.probability) if key[0] == kind]

    def folds(self, kind: str) -> list[NDArray[np.int64]]:
        """Return the test folds of every repetition of a kind, in their order."""
        return [self.fold[key] for key in sorted(self.fold) if key[0] == kind]


def _save(path: Path, parts: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    write_tensors(path, parts, {_KEY: json.dumps(facts, sort_keys=True)})


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as source:
            facts = json.loads((source.metadata() or {})[_KEY])
            return {name: source.get_tensor(name) for name in source.keys()}, facts  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} does not hold held-out probabilities written by thawslump ({error!r}).",
            hint="Fit the susceptibility models again: `thawslump susceptibility fit`.",
        ) from error


def write(path: Path, held: Held) -> None:
    """Write held-out probabilities, atomically; equal ones give equal bytes."""
    parts: dict[str, NDArray[Any]] = {"test": held.test}
    for (kind, number), values in held.probability.items():
        parts[f"{kind}.{number}.probability"] = values
        parts[f"{kind}.{number}.fold"] = held.fold[kind, number]
    parts |= _named("shuffled", held.shuffled) | _named("without", held.without)
    _save(path, parts, held.facts)


def read(path: Path) -> Held:
    """Read what `write` wrote.

    Raises
    ------
    DataError
        Another file, or a damaged one.
    """
    parts, facts = _load(path)
    keys = [name.split(".")[:2] for name in parts if name.endswith(".probability")]
    found = sorted((kind, int(number)) for kind, number in keys)
    try:
        return Held(
            {key: parts[f"{key[0]}.{key[1]}.probability"] for key in found},
            {key: parts[f"{key[0]}.{key[1]}.fold"] for key in found},
            parts["test"],
            facts,
            _under("shuffled", parts),
            _under("without", parts),
        )
    except KeyError as error:
        raise DataError(
            f"{path} does not hold held-out probabilities by thawslump: {error} is missing.",
            hint="Fit the susceptibility models again: `thawslump susceptibility fit`.",
        ) from error


def _named(start: str, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{start}.{name}": part for name, part in values.items()}


def _under(start: str, parts: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    start += "."
    return {n.removeprefix(start): part for n, part in parts.items() if n.startswith(start)}


@dataclass(frozen=True)
class Fold:
    """What came of one fold.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Samples of its test part.
    probability : ndarray of float64, shape (m,)
    facts : mapping of JSON values
    shuffled : dict of factor to ndarray of float64, shape (permutations, m)
    without : dict of factor to ndarray of float64, shape (m,)
    """

    rows: NDArray[np.int64]
    probability: NDArray[np.float64]
    facts: Mapping[str, Any]
    shuffled: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    without: dict[str, NDArray[np.float64]] = field(default_factory=dict)


class Finished:
    """Folds that are finished, kept until all are; those of other settings are never mixed in.

    Parameters
    ----------
    folder : Path
        Of one model; made when the first fold is kept.
    digest : str
        Of all that the folds depend on. What was kept under another one is removed.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        self.own = folder / digest
        for other in folder.glob("*"):
            if other != self.own:
                shutil.rmtree(other)

    def _path(self, kind: str, repetition: int, number: int) -> Path:
        return self.own / f"{kind}-{repetition}-{number}.safetensors"

    def get(self, kind: str, repetition: int, number: int) -> Fold | None:
        """Return a fold that was kept, or None."""
        path = self._path(kind, repetition, number)
        if not path.exists():
            return None
        try:
            parts, facts = _load(path)
            return Fold(
                parts["rows"],
                parts["probability"],
                facts,
                _under("shuffled", parts),
                _under("without", parts),
            )
        except (DataError, KeyError):
            return None  # damaged: the fold is fitted again

    def keep(self, kind: str, repetition: int, number: int, fold: Fold) -> None:
        """Keep a fold."""
        parts: dict[str, NDArray[Any]] = {"rows": fold.rows, "probability": fold.probability}
        parts |= _named("shuffled", fold.shuffled) | _named("without", fold.without)
        _save(self._path(kind, repetition, number), parts, fold.facts)

    def clear(self) -> None:
        """Remove all that was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
