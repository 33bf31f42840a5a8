"""The eight symmetries of the square, there and back."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TURNS", "turn", "turn_back"]

TURNS = 8
"""Four quarter turns, plain and mirrored."""


def turn(images: Tensor, number: int) -> Tensor:
    """Mirror images from 4 on, then turn them by quarters.

    Parameters
    ----------
    images : Tensor, shape (..., y, x)
    number : int
        0 (nothing) to 7.

    Returns
    -------
    Tensor
        Shape (..., x, y) for odd numbers; the same values, moved.

    Examples
    --------
    >>> turn(torch.tensor([[1, 2], [3, 4]]), 1).tolist()
    [[2, 4], [1, 3]]
    """
    if number >= 4:
        images = images.flip(-1)
    return torch.rot90(images, number % 4, (-2, -1))


def turn_back(images: Tensor, number: int) -> Tensor:
    """Undo `turn`, to the bit.

    Examples
    --------
    >>> image = torch.arange(6).reshape(2, 3)
    >>> all(torch.equal(turn_back(turn(image, n), n), image) for n in range(TURNS))
    True
    """
    images = torch.rot90(images, -(number % 4), (-2, -1))
    return images.flip(-1) if number >= 4 else images
