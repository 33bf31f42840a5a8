"""Profiles of computations."""

from __future__ import annotations

from typing import Any

from ..errors import EngineError
from ..profiles import read_profiles, table
from .registry import function

__all__: list[str] = []


@function("Profile.getProfiles")
def profiles(ids: list[Any], form: str | None, most: int | None) -> str | list[dict[str, Any]]:
    """Return what computations cost, as text or as a list."""
    entries = read_profiles(ids)[: most or 200]
    if form in (None, "text"):
        return table(entries)
    if form == "json":
        return entries
    raise EngineError(f"Profile format '{form}' is not known; expected 'text' or 'json'.")
