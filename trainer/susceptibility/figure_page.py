"""The page that all figures of susceptibility share: width, title, axes, PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from thawslump.figures import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WIDE", "new_page", "plain", "png"]

WIDE = 12.0
"""Inches, at 100 dots each."""


def new_page(height: float, made_up: bool, title: str) -> Figure:
    """Return an empty figure, `height` inches high, with its title; made-up data is called so."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, height), layout="constrained")
    words = f"{title}\nMade-up data: nothing here is about a real place." if made_up else title
    figure.suptitle(words, x=0.01, ha="left", fontsize=14, color=INK["ink"])
    return figure


def plain(axes: Axes) -> None:
    """Leave the two axes that are read, and a grid behind what is drawn."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK["grey"])
    axes.tick_params(colors=INK["ink"], labelsize=11)
    axes.grid(color=INK["rule"], linewidth=0.8)
    axes.set_axisbelow(True)


def png(figure: Figure) -> bytes:
    """Return the figure as PNG, 1,200 pixels wide."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100, facecolor="white")
    return out.getvalue()
