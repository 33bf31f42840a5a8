"""Susceptibility on the page: the map's layer, the table of its classes, the figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.results import Results

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawslump.workspace import Workspace

__all__ = [
    "HATCH",
    "HATCH_KEY",
    "Figure",
    "class_colours",
    "class_rows",
    "class_words",
    "figures",
    "hatched",
    "hex_colours",
]

_RAMP = ("#fff7d6", "#fed98e", "#fe9929", "#cc4c02", "#662506")
HATCH = "#0b3c8c"
"""Lines over ground that is unlike anything learned from: blue beside the browns of the classes."""

HATCH_KEY = f"repeating-linear-gradient(135deg,#fff 0 3px,{HATCH} 3px 5px)"
"""The same in a legend, as CSS."""

_WORDS = {
    1: ["all alike"],
    2: ["low", "high"],
    3: ["low", "medium", "high"],
    4: ["low", "medium", "high", "very high"],
    5: ["very low", "low", "medium", "high", "very high"],
}

_PERIOD, _LINE = 7, 2
"""Pixels of the picture from line to line, and of a line's width along a row."""

_FIGURES = (
    (
        "Scores side by side",
        (
            ("scores", "The paper’s eight scores and the AUC, over random and over spatial folds."),
            ("roc", "ROC curves over random and over spatial folds."),
        ),
    ),
    (
        "What the models go by",
        (
            ("importance", "Fall of the AUC over spatial folds when a factor is shuffled."),
            ("calibration", "Probability given, and share of slumps that came true."),
            ("selection", "Collinearity, correlation and worth of the factors."),
        ),
    ),
    (
        "Maps side by side",
        (
            ("maps", "Classes of the maps, by model."),
            ("class_shares", "Share of the ground and of the slumps in each class."),
            ("map_parts", "Parts of the maps, closer."),
            ("frequency_ratios", "Frequency ratio of each class of each factor."),
            ("deformation", "Rates of the deformation points in each class."),
        ),
    ),
)
_WIDEST = 1100
_COLOURS = 64


@dataclass(frozen=True)
class Figure:
    """A figure of the susceptibility steps, made small enough for the page.

    Attributes
    ----------
    name, caption, uri : str
    width, height : int
        Pixels.
    """

    name: str
    caption: str
    uri: str
    width: int
    height: int


def figures(workspace: Workspace, round: int) -> list[tuple[str, list[Figure]]]:
    """Return the figures of a round in groups, those that exist; others go into the last group.

    A figure wider than the page is thinned to it, and all are reduced to few colours.
    """
    folder = workspace.round(round) / "susceptibility" / "figures"
    found = []
    there = {path.stem: path for path in sorted(folder.glob("*.png"))}
    for title, named in _FIGURES:
        group = [_figure(there.pop(name), words) for name, words in named if name in there]
        found.append((title, group))
    found[-1][1].extend(_figure(path, f"{name}.") for name, path in there.items())
    return [(title, group) for title, group in found if group]


def _figure(path: Path, caption: str) -> Figure:
    from PIL import Image

    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as source:
        size = source.size
        picture = source.convert("RGBA")
        # Transparent figures would be black where colours are few.
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    if picture.width > _WIDEST:
        height = round(picture.height * _WIDEST / picture.width)
        picture = picture.resize((_WIDEST, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    # Maps in a few plain colours are smaller as they were.
    least = min(content, out.getvalue(), key=len)
    width, height = size if least is content else picture.size
    uri = f"data:image/png;base64,{base64.b64encode(least).decode()}"
    return Figure(path.stem, caption, uri, width, height)


def class_colours(count: int) -> NDArray[np.uint8]:
    """Return a colour for each class, from pale to dark: they can be told apart in print."""
    import numpy as np

    ends = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _RAMP], float)
    places = np.linspace(0, len(ends) - 1, count) if count > 1 else np.array([2.0])
    return np.stack(
        [np.interp(places, np.arange(len(ends)), ends[:, band]) for band in range(3)], axis=1
    ).astype(np.uint8)


def class_words(count: int) -> list[str]:
    """Return the names of classes from the lowest to the highest.

    Examples
    --------
    >>> class_words(5)[0], class_words(9)[0]
    ('very low', 'class 1')
    """
    return _WORDS.get(count, [f"class {number}" for number in range(1, count + 1)])


def hatched(
    classes: NDArray[np.floating[Any]], outside: NDArray[np.bool_], longest: int
) -> NDArray[np.floating[Any]]:
    """Return classes as a picture in which ground outside of applicability is hatched.

    Pixels are repeated as long as the picture stays within `longest`, so that the lines are thin
    and the classes show between them.

    Parameters
    ----------
    classes : ndarray of float, shape (y, x)
        From 0; NaN where missing.
    outside : ndarray of bool, shape (y, x)
    longest : int
        Pixels.

    Returns
    -------
    ndarray of float
        -1 on the lines.

    Examples
    --------
    >>> import numpy as np
    >>> found = hatched(np.zeros((1, 2)), np.array([[False, True]]), 28)
    >>> found.shape, int((found[:, :14] == -1).sum()), int((found[:, 14:] == -1).sum())
    ((14, 28), 0, 56)
    """
    import numpy as np

    if not outside.any():
        return classes
    times = max(1, longest // max(classes.shape))
    large = classes.repeat(times, axis=0).repeat(times, axis=1)
    line = np.add.outer(np.arange(large.shape[0]), np.arange(large.shape[1])) % _PERIOD < _LINE
    over = outside.repeat(times, axis=0).repeat(times, axis=1) & np.isfinite(large)
    return np.where(over & line, -1.0, large)


def class_rows(results: Results) -> list[dict[str, Any]]:
    """Return a row per susceptibility class: its share of the ground and of the slumps."""
    facts = results.susceptibility_facts.get("classes", {})
    upper = facts.get("upper_probability", [])
    area = facts.get("share_of_area") or []
    slumps = facts.get("share_of_slump_cells_out_of_fold") or []
    held = facts.get("share_of_slump_cells_held_out_sites") or [None] * len(upper)
    if not upper or not len(upper) == len(area) == len(slumps) == len(held):
        return []
    colours = hex_colours(class_colours(len(upper)))
    return [
        {
            "name": name, "upper": u, "area": a, "slumps": s, "colour": colour,
            "ratio": s / a if a else None, "held": h,
        }
        for name, u, a, s, h, colour in zip(
            class_words(len(upper)), upper, area, slumps, held, colours, strict=True
        )
    ]  # fmt: skip


def hex_colours(colours: NDArray[np.uint8]) -> Sequence[str]:
    """Return colours as in CSS."""
    return tuple("#" + "".join(f"{int(v):02x}" for v in colour) for colour in colours)
