"""Held-out probabilities of one model, by kind of fold and repetition, as safetensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thawslump.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Held", "read", "write"]


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
    """

    probability: dict[tuple[str, int], NDArray[np.float64]]
    fold: dict[tuple[str, int], NDArray[np.int64]]
    test: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


def write(path: Path, held: Held) -> None:
    """Write held-out probabilities, atomically; equal ones give equal bytes."""
    from safetensors.numpy import save_file

    # safetensors writes the memory of a strided array as it lies.
    parts: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        "test": np.ascontiguousarray(held.test)
    }
    for (kind, number), values in held.probability.items():
        parts[f"{kind}.{number}.probability"] = np.ascontiguousarray(values)
        parts[f"{kind}.{number}.fold"] = np.ascontiguousarray(held.fold[kind, number])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        save_file(parts, temporary)


def read(path: Path) -> Held:
    """Read what `write` wrote."""
    from safetensors.numpy import load_file

    parts = load_file(path)
    keys = [tuple(name.split(".")[:2]) for name in parts if name.endswith(".probability")]
    found = sorted((kind, int(number)) for kind, number in keys)
    return Held(
        {key: parts[f"{key[0]}.{key[1]}.probability"] for key in found},
        {key: parts[f"{key[0]}.{key[1]}.fold"] for key in found},
        parts["test"],
    )
