"""Numbers as the files of a workspace hold them: a value, and where it is known its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Score", "finite", "read_score"]


@dataclass(frozen=True)
class Score:
    """A value and, where it is known, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


def finite(value: Any) -> float | None:
    """Return a finite number, None for anything else.

    Examples
    --------
    >>> finite(3), finite(True), finite(float("nan")), finite("3")
    (3.0, None, None, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def read_score(facts: Mapping[str, Any], name: str) -> Score | None:
    """Read a score and its interval: `name`, with `name`_interval beside it.

    The interval is [low, high] or {"low", "high"}.

    Examples
    --------
    >>> read_score({"auc": 0.8, "auc_interval": [0.7, 0.9]}, "auc")
    Score(value=0.8, low=0.7, high=0.9)
    """
    value = finite(facts.get(name))
    if value is None:
        return None
    ends = facts.get(f"{name}_interval")
    if isinstance(ends, Mapping):
        return Score(value, finite(ends.get("low")), finite(ends.get("high")))
    if isinstance(ends, list) and len(ends) == 2:
        return Score(value, finite(ends[0]), finite(ends[1]))
    return Score(value)
