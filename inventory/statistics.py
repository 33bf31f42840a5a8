"""Numbers of an inventory: how many, how large, by whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sizes", "power_law", "sizes", "summary"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of outlines, in square metres."""

    count: int
    total: float
    smallest: float
    median: float
    mean: float
    largest: float


def sizes(areas: NDArray[np.float64]) -> Sizes | None:
    """Return the sizes of outlines; None where there are none.

    Parameters
    ----------
    areas : ndarray of float, shape (n,)
        Square metres.

    Examples
    --------
    >>> sizes(np.array([100.0, 300.0, 500.0])).median
    300.0
    """
    if areas.size == 0:
        return None
    return Sizes(
        count=int(areas.size),
        total=float(areas.sum()),
        smallest=float(areas.min()),
        median=float(np.median(areas)),
        mean=float(areas.mean()),
        largest=float(areas.max()),
    )


def power_law(areas: NDArray[np.float64], *, minimum: int = 20) -> tuple[float, float] | None:
    """Return exponent and lower bound of a power law in the tail of the sizes.

    p(a) is proportional to a^-alpha from the bound on: alpha = 1 + n / sum ln(a / bound), with
    the bound whose tail lies closest to its power law by the Kolmogorov-Smirnov distance
    (Clauset et al. 2009).

    Parameters
    ----------
    areas : ndarray of float, shape (n,)
        Above 0.
    minimum : int
        Smallest tail that is looked at.

    Returns
    -------
    (alpha, bound) or None
        None where there are fewer than `minimum` sizes, or all are equal.
    """
    ordered = np.sort(areas[areas > 0])
    best: tuple[float, float, float] | None = None
    for bound in np.unique(ordered):
        tail = ordered[ordered >= bound]
        total = np.log(tail / bound).sum()
        if tail.size < minimum or total <= 0:
            break
        alpha = 1.0 + tail.size / total
        model = 1.0 - (tail / bound) ** (1.0 - alpha)
        steps = np.arange(tail.size)
        distance = max(
            np.abs(model - steps / tail.size).max(), np.abs(model - (steps + 1) / tail.size).max()
        )
        if best is None or distance < best[0]:
            best = (float(distance), float(alpha), float(bound))
    return None if best is None else best[1:]


def summary(path: Path) -> list[str]:
    """Return the inventory in a few lines for people.

    Parameters
    ----------
    path : Path
        ``inventory.gpkg``.
    """
    from inventory.store import Inventory

    if not Path(path).exists():
        return ["inventory: none yet"]
    inventory = Inventory(path)
    slumps = inventory.slumps()
    found = sizes(slumps["area_m2"].to_numpy(dtype=float))
    if found is None:
        lines = ["inventory: no slumps yet"]
    else:
        made_up = " (made up)" if bool(slumps["made_up"].all()) else ""
        kinds = slumps["kind"].value_counts()
        words = {
            "import": "known at the start",
            "people": "accepted by people",
            "scripted": "accepted by the scripted reviewer",
        }
        parts = [f"{kinds[kind]} {word}" for kind, word in words.items() if kind in kinds]
        lines = [
            f"inventory: {found.count} slumps{made_up}, {found.total / 1e4:.1f} ha, "
            f"median {found.median:.0f} m2; {', '.join(parts)}"
        ]
    for row in inventory.iterations():
        unsure = f", {row['unsure']} not sure" if row["unsure"] else ""
        lines.append(
            f"round {row['round']}: {row['candidates']} candidates, {row['accepted']} accepted, "
            f"{row['rejected']} rejected{unsure}; {row['outcome']}"
        )
    return lines
