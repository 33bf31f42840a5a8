"""Cells of the S2 grid: squares on the six faces of a cube, counted along a Hilbert curve.

Written from the mathematics of the grid: a cell's number holds its face (3 bits), its place
along the curve (2 bits a level), and a one that marks where the number ends.
"""

from __future__ import annotations

import re

import numpy as np
import shapely

from ..errors import EngineError
from ..geometry import Geometry
from .registry import function

__all__ = ["corners"]

_LEVELS = 30
# For each way that the curve runs through a square: the quarter (column, row) of each step, and
# how the way through that quarter differs (1: axes swapped, 2: both turned round).
_QUARTERS = (
    ((0, 0), (0, 1), (1, 1), (1, 0)),
    ((0, 0), (1, 0), (1, 1), (0, 1)),
    ((1, 1), (1, 0), (0, 0), (0, 1)),
    ((1, 1), (0, 1), (0, 0), (1, 0)),
)
_TURNS = (1, 0, 0, 3)


def _place(number: int) -> tuple[int, int, int, int]:
    """Return face, level, column and row of a cell."""
    number %= 2**64
    face = number >> 61
    end = number & -number
    if face > 5 or not end & 0x1555555555555555:
        raise EngineError(f"{number:#018x} is not the id of an S2 cell.")
    level = _LEVELS - (end.bit_length() - 1) // 2
    column = row = 0
    way = face & 1
    for k in range(level):
        step = number >> (61 - 2 * (k + 1)) & 3
        right, up = _QUARTERS[way][step]
        column, row = 2 * column + right, 2 * row + up
        way ^= _TURNS[step]
    return face, level, column, row


def _plane(share: float) -> float:
    """Return the place on the cube's face, -1..1, of a share 0..1 of its side.

    A quadratic that makes cells on the sphere more alike in size.
    """
    if share >= 0.5:
        return (4 * share**2 - 1) / 3
    return (1 - 4 * (1 - share) ** 2) / 3


def _direction(face: int, u: float, v: float) -> tuple[float, float, float]:
    return (
        (1, u, v), (-u, 1, v), (-u, -v, 1), (-1, -v, -u), (v, -1, -u), (v, u, -1),
    )[face]  # fmt: skip


def corners(number: int) -> list[tuple[float, float]]:
    """Return longitude and latitude of a cell's four corners, counter-clockwise.

    Parameters
    ----------
    number : int
        Of 64 bits, signed or not.

    Raises
    ------
    EngineError
        No cell has that number.

    Examples
    --------
    >>> [round(v, 4) for v in corners(0x1 << 60)[2]]
    [45.0, 35.2644]
    """
    face, level, column, row = _place(number)
    size = 2.0**-level
    u = [_plane(column * size), _plane((column + 1) * size)]
    v = [_plane(row * size), _plane((row + 1) * size)]
    found = []
    for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)):
        x, y, z = _direction(face, u[i], v[j])
        found.append(
            (float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y)))))
        )
    return found


@function("Geometry.s2Cell", "Geometry.fromS2CellId")
def from_id(number: int) -> Geometry:
    """Return the cell of a number; its edges are shortest paths."""
    return Geometry(shapely.Polygon(corners(number)), "EPSG:4326", True)


@function("Geometry.fromS2CellToken")
def from_token(token: str) -> Geometry:
    """Return the cell of a number written in hexadecimal digits."""
    match = re.fullmatch(r"(?:0x)?([0-9a-f]{1,16})", token.strip().lower())
    if match is None:
        raise EngineError(f"'{token}' is not the token of an S2 cell: 1 to 16 hexadecimal digits.")
    return from_id(int(match[1], 16))
