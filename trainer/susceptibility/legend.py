"""Words and colours of the classes of a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["MISSING", "class_colours", "class_words"]

MISSING = "#e4e7eb"
# From pale to dark: the order can be read without the hue, and in print.
_RAMP = ("#fff7d6", "#fed98e", "#fe9929", "#cc4c02", "#662506")
_WORDS = {
    1: ("all alike",),
    2: ("low", "high"),
    3: ("low", "medium", "high"),
    4: ("low", "medium", "high", "very high"),
    5: ("very low", "low", "medium", "high", "very high"),
}


def class_words(count: int) -> tuple[str, ...]:
    """Return the names of classes from the lowest to the highest.

    Examples
    --------
    >>> class_words(3)
    ('low', 'medium', 'high')
    >>> class_words(6)[-1]
    'class 6'
    """
    return _WORDS.get(count, tuple(f"class {number}" for number in range(1, count + 1)))


def class_colours(count: int) -> tuple[str, ...]:
    """Return a colour for each class.

    Examples
    --------
    >>> class_colours(5)[0], class_colours(2)
    ('#fff7d6', ('#fff7d6', '#662506'))
    """
    ends = np.array([_rgb(colour) for colour in _RAMP], float)
    places = np.linspace(0, len(ends) - 1, count) if count > 1 else np.array([2.0])
    mixed = [np.interp(places, np.arange(len(ends)), ends[:, band]) for band in range(3)]
    return tuple(_hex(colour) for colour in np.rint(np.stack(mixed, axis=1)).astype(int).tolist())


def _rgb(colour: str) -> tuple[int, int, int]:
    return (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)
