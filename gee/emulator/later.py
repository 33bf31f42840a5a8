"""Libraries that are imported when they are first used."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__all__ = ["later"]


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
