"""What is imported, or made, when it is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["deferred", "later"]


class _Later(ModuleType):
    """A module that becomes another one, attribute by attribute."""

    def __getattr__(self, name: str) -> Any:
        # Not importlib.util.LazyLoader, which before Python 3.12 may run the module twice
        # where two threads meet; an import waits for the other thread's.
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def later(name: str) -> ModuleType:
    """Return a stand-in for a module that is imported at its first attribute.

    Examples
    --------
    >>> later("math").sqrt(4.0)
    2.0
    """
    return _Later(name)


class _Deferred:
    """An object that is made when one of its attributes is first needed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def deferred(make: Callable[[], Any]) -> Any:
    """Return a stand-in for what a function returns, called at every attribute.

    Examples
    --------
    >>> deferred(lambda: "thaw").upper()
    'THAW'
    """
    return _Deferred(make)
