"""Errors whose words a user can act on, each with a stable exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BackendError",
    "BudgetError",
    "BusyError",
    "ConfigError",
    "DataError",
    "StorageError",
    "ThawslumpError",
    "nearest",
]


class ThawslumpError(Exception):
    """Base of all errors shown to the user without a traceback.

    Parameters
    ----------
    message : str
        What was given and what was expected.
    hint : str, optional
        What to do next; printed on a line of its own.

    Examples
    --------
    >>> print(ThawslumpError("no such site: a", hint="thawslump site add a"))
    no such site: a
    thawslump site add a
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes hand errors back pickled; keyword arguments would be lost.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[ThawslumpError], message: str, hint: str | None) -> ThawslumpError:
    return kind(message, hint=hint)


class ConfigError(ThawslumpError):
    """A YAML file, a setting or an argument is not usable (exit code 2)."""

    exit_code = 2


class DataError(ThawslumpError):
    """A raster, outline, date window or area does not fit (exit code 3)."""

    exit_code = 3


class BackendError(ThawslumpError):
    """Earth Engine or the emulator cannot be reached, or refused (exit code 4)."""

    exit_code = 4


class BusyError(ThawslumpError):
    """Another process holds the workspace or the port (exit code 5)."""

    exit_code = 5


class StorageError(ThawslumpError):
    """The disk is full or not writable (exit code 6)."""

    exit_code = 6


class BudgetError(ThawslumpError):
    """The budget that was set is used up; what is done is kept (exit code 7)."""

    exit_code = 7


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that offers the nearest known name, or nothing.

    Examples
    --------
    >>> nearest("resolutoin", ["resolution", "bounds"])
    ' Did you mean "resolution"?'
    >>> nearest("xyz", ["resolution"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""
