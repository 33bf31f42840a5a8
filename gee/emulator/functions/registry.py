"""Where every function stands under its Earth Engine id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["REGISTRY", "Entry", "function"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Entry:
    """A function, and whether it is handed the evaluator first."""

    call: Callable[..., Any]
    evaluator: bool


REGISTRY: dict[str, Entry] = {}


def function(*names: str, evaluator: bool = False) -> Callable[[F], F]:
    """Register a function under one or more Earth Engine ids.

    It is called with the arguments in the order of Earth Engine's list, converted to their
    types, defaults filled in.

    Parameters
    ----------
    *names : str
    evaluator : bool
        Pass the evaluator as the first argument (to read the catalogue).
    """

    def register(call: F) -> F:
        for name in names:
            if name in REGISTRY:
                raise ValueError(f"{name} is registered twice")
            REGISTRY[name] = Entry(call, evaluator)
        return call

    return register
