"""Figures of the maps, after figures 13 to 17 of He et al. 2024: rasters and numbers in, PNG out.

Rasters are read through their overviews, so that a figure costs the same for a map of any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawslump.figures import INK, scale_bar
from thawslump.files import atomic
from trainer.susceptibility import mapping
from trainer.susceptibility.figure_page import WIDE, new_page, plain, png
from trainer.susceptibility.figures import TITLES
from trainer.susceptibility.legend import MISSING, class_colours, class_words

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trainer.susceptibility.files import Files
    from trainer.susceptibility.steps.deformation import Overlay

__all__ = [
    "FIGURES",
    "Panel",
    "class_shares",
    "deformation_rates",
    "draw_all",
    "pieces",
    "ratio_bars",
    "side_by_side",
]

FIGURES = ("maps", "class_shares", "map_parts", "frequency_ratios")
"""Names of the figures that are always drawn; with deformation points ``deformation`` as well."""

_LONGEST = 700  # cells along the longer side of a panel
_PANELS = 9


@dataclass(frozen=True)
class Panel:
    """A map, or a part of one, in classes.

    Attributes
    ----------
    title : str
    classes : ndarray of uint8, shape (y, x)
        From 1; 0 where nodata.
    metres : float
        Width of a cell.
    extent : (left, right, bottom, top)
        In the map's CRS.
    """

    title: str
    classes: NDArray[np.uint8]
    metres: float
    extent: tuple[float, float, float, float]


def draw_all(
    files: Files,
    sites: Sequence[str],
    by_model: Mapping[str, Mapping[str, Any]],
    chosen: str,
    ratios: Sequence[Mapping[str, Any]],
    moving: Overlay | None,
    made_up: bool,
) -> None:
    """Write the figures of a round.

    Parameters
    ----------
    files : Files
    sites : sequence of str
        Mapped ones.
    by_model : mapping of model to its classes
        ``upper_probability`` and shares, as in susceptibility.json.
    chosen : str
        Model of the map.
    ratios : sequence of mapping
        As `steps.classes.frequency_ratios` returns them.
    moving : Overlay, optional
        Deformation points on the maps.
    made_up : bool
    """
    sizes = {site: _size(files.probability(site)) for site in sites}
    largest = max(sites, key=lambda site: sizes[site][0] * sizes[site][1])
    upper = by_model[chosen]["upper_probability"]
    if len(by_model) > 1:
        panels = [
            _panel(
                files.probability(largest, None if model == chosen else model),
                each["upper_probability"], _title(model),
            )
            for model, each in by_model.items()
        ]  # fmt: skip
        words = f"Susceptibility of {largest} by each model, in classes by natural breaks"
        counts = {len(each["upper_probability"]) for each in by_model.values()}
    else:
        shown = sorted(sites, key=lambda site: -sizes[site][0] * sizes[site][1])[:6]
        panels = [_panel(files.probability(site), upper, site) for site in sites if site in shown]
        words, counts = f"Susceptibility by {_title(chosen)}", {len(upper)}
    found = {
        "maps": side_by_side(panels, max(counts), words, made_up),
        "class_shares": class_shares(by_model, made_up),
        "map_parts": side_by_side(
            [
                _panel(files.probability(site), upper, f"({chr(97 + number)}) {words_of}", window)
                for number, (site, window, words_of) in enumerate(pieces(sizes))
            ],
            len(upper),
            f"Susceptibility by {_title(chosen)}, piece by piece",
            made_up,
        ),
        "frequency_ratios": ratio_bars(ratios, made_up),
    }
    if moving is not None:
        site = sites[int(np.bincount(moving.sites).argmax())]
        below = _panel(files.probability(site), upper, site)
        found["deformation"] = deformation_rates(
            moving, below, moving.sites == sites.index(site), made_up
        )
    for name, content in found.items():
        with atomic(files.figure(name)) as temporary:
            temporary.write_bytes(content)


def _title(model: str) -> str:
    return TITLES.get(model, model)


def _size(path: Path) -> tuple[int, int]:
    import rasterio

    with rasterio.open(path) as source:
        return source.height, source.width


def pieces(
    sizes: Mapping[str, tuple[int, int]], most: int = _PANELS
) -> list[tuple[str, tuple[int, int, int, int], str]]:
    """Return consecutive pieces of maps: site, window and words for each.

    Sites are cut along their longer side, from the west or the north, into as many pieces as make
    at most `most` in all; of more sites than that the largest are shown whole.

    Examples
    --------
    >>> [(window, words) for _, window, words in pieces({"a": (10, 40)}, 2)]
    [((0, 0, 20, 10), 'a, 1 of 2 from the west'), ((20, 0, 20, 10), 'a, 2 of 2 from the west')]
    """
    shown = sorted(sizes, key=lambda site: -sizes[site][0] * sizes[site][1])[:most]
    each = max(1, most // len(shown))
    found = []
    for site in [name for name in sizes if name in shown]:
        height, width = sizes[site]
        long, side = max(height, width), "west" if width >= height else "north"
        count = max(1, min(each, round(long / max(1, min(height, width)) * 3), long))
        cuts = np.linspace(0, long, count + 1).round().astype(int).tolist()
        for number, (first, last) in enumerate(pairwise(cuts), start=1):
            window = (
                (first, 0, last - first, height) if side == "west" else
                (0, first, width, last - first)
            )  # fmt: skip
            words = f"{site}, {number} of {count} from the {side}" if count > 1 else site
            found.append((site, window, words))
    return found


def _panel(
    path: Path,
    upper: Sequence[float],
    title: str,
    window: tuple[int, int, int, int] | None = None,
) -> Panel:
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    with rasterio.open(path) as source:
        part = Window(*(window or (0, 0, source.width, source.height)))
        thin = max(1.0, max(part.width, part.height) / _LONGEST)
        shape = (max(1, round(part.height / thin)), max(1, round(part.width / thin)))
        stored = source.read(1, window=part, out_shape=shape, resampling=Resampling.nearest)
        t = source.transform
        left, top = t.c + t.a * part.col_off, t.f + t.e * part.row_off
        right, bottom = left + t.a * part.width, top + t.e * part.height
        metres = abs(source.transform.a) * part.width / shape[1]
        if source.crs is not None and source.crs.is_geographic:
            metres *= 111_320 * math.cos(math.radians((bottom + top) / 2))
    steps = np.rint(np.asarray(upper) * mapping.LEVELS)
    classes = np.where(stored == mapping.NODATA, 0, mapping.classify(stored, steps))
    return Panel(title, classes.astype(np.uint8), metres, (left, right, bottom, top))


def side_by_side(panels: Sequence[Panel], classes: int, title: str, made_up: bool) -> bytes:
    """Return maps side by side with one legend, each with its scale bar (figures 13 and 15).

    Parameters
    ----------
    panels : sequence of Panel
    classes : int
        Classes of the legend.
    title : str
    made_up : bool

    Returns
    -------
    bytes
        PNG.
    """
    shape = panels[0].classes.shape
    columns = min(len(panels), 3 if shape[1] <= 2.5 * shape[0] and len(panels) != 4 else 2)
    if shape[0] > 2 * shape[1]:
        columns = min(len(panels), 5)
    rows = math.ceil(len(panels) / columns)
    tall = max(panel.classes.shape[0] / panel.classes.shape[1] for panel in panels)
    # Panels, each with its title, the heading and the legend.
    height = rows * (WIDE / columns * min(tall, 2.5) * 0.93 + 0.4) + 1.5
    figure = new_page(min(height, 40.0), made_up, title)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, panel in zip(axes.ravel(), panels, strict=False):
        _map(axis, panel, classes)
        axis.set_title(panel.title, fontsize=12, loc="left", color=INK["ink"])
    _legend(figure, classes)
    return png(figure)


def _map(axis: Axes, panel: Panel, classes: int) -> None:
    from matplotlib.colors import ListedColormap

    axis.set_axis_on()
    axis.imshow(
        panel.classes,
        cmap=ListedColormap([MISSING, *class_colours(classes)]),
        vmin=-0.5,
        vmax=classes + 0.5,
        interpolation="nearest",
        extent=panel.extent,
    )
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(INK["grey"])
    width = panel.classes.shape[1]
    words, length = scale_bar(panel.metres, width)
    left, right, bottom, top = panel.extent
    unit = (right - left) / width
    x, y = left + 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    axis.plot([x, x + length * unit], [y, y], color=INK["ink"], linewidth=3, solid_capstyle="butt")
    axis.text(
        x, y + 0.02 * (top - bottom), words, fontsize=10, color=INK["ink"], va="bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
    )  # fmt: skip


def _legend(figure: Figure, classes: int, missing: bool = True) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=colour, edgecolor=INK["grey"], label=word)
        for colour, word in zip(class_colours(classes), class_words(classes), strict=True)
    ]
    if missing:
        patches.append(Patch(facecolor=MISSING, edgecolor=INK["grey"], label="no data"))
    figure.legend(
        handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=12
    )


def class_shares(by_model: Mapping[str, Mapping[str, Any]], made_up: bool) -> bytes:
    """Return the shares of area and of slumps in each class, for every model (figure 14)."""
    kinds = [
        ("share_of_area", "of the area"),
        ("share_of_slump_cells_out_of_fold", "of slump cells, spatial folds"),
        ("share_of_slump_cells_held_out_sites", "of slump cells, held-out sites"),
    ]
    kinds = [(key, told) for key, told in kinds if any(each.get(key) for each in by_model.values())]
    rows = len(by_model) * (len(kinds) + 0.6)
    figure = new_page(max(2.8, 0.34 * rows + 1.9), made_up, "Share of each class")
    axes = figure.add_subplot()
    ticks, labels = [], []
    at = 0.0
    for model, each in by_model.items():
        count = len(each["upper_probability"])
        for number, (key, told) in enumerate(kinds):
            ticks.append(at)
            labels.append(f"{_title(model)}: {told}" if number == 0 else told)
            left = 0.0
            for share, colour in zip(each.get(key) or (), class_colours(count), strict=False):
                axes.barh(at, share, left=left, color=colour, edgecolor=INK["grey"], height=0.86)
                if share >= 0.04:
                    dark = sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) < 330
                    axes.text(
                        left + share / 2, at, f"{100 * share:.0f}", ha="center", va="center",
                        fontsize=10, color="white" if dark else INK["ink"],
                    )  # fmt: skip
                left += share
            at += 1.0
        at += 0.6
    axes.set_yticks(ticks, labels)
    axes.set_ylim(at - 1.0, -0.7)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{value:.0f} %" for value in np.linspace(0, 100, 6)])
    plain(axes)
    axes.grid(visible=False)
    _legend(figure, max(len(each["upper_probability"]) for each in by_model.values()), False)
    return png(figure)


def ratio_bars(rows: Sequence[Mapping[str, Any]], made_up: bool) -> bytes:
    """Return the frequency ratio of every class of every factor (figure 17)."""
    factors = list(dict.fromkeys(str(row["factor"]) for row in rows))
    columns = min(3, max(1, len(factors)))
    lines = math.ceil(len(factors) / columns)
    most = max((sum(row["factor"] == name for row in rows) for name in factors), default=1)
    figure = new_page(
        max(3.0, lines * (0.36 * most + 0.9) + 1.5), made_up, "Frequency ratio of factor classes"
    )
    axes = figure.subplots(max(1, lines), columns, squeeze=False)
    for axis in axes.ravel()[len(factors) :]:
        axis.set_axis_off()
    kinds = (
        ("slumps_ratio", "slumps, against the ground looked at", "vermilion", -0.2),
        ("high_ratio", "high and very high ground, against all", "blue", 0.2),
    )
    for axis, name in zip(axes.ravel(), factors, strict=False):
        mine = [row for row in rows if row["factor"] == name]
        for key, told, colour, off in kinds:
            values = [math.nan if row[key] is None else row[key] for row in mine]
            axis.barh(np.arange(len(mine)) + off, values, 0.38, color=INK[colour], label=told)
        axis.axvline(1.0, color=INK["ink"], linewidth=1)
        axis.set_yticks(range(len(mine)), [str(row["class"]) for row in mine])
        axis.invert_yaxis()
        axis.set_title(name, fontsize=12, loc="left", color=INK["ink"])
        plain(axis)
        axis.grid(visible=False, axis="y")
    if factors:
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower center", ncols=2, frameon=False, fontsize=12,
        )  # fmt: skip
    return png(figure)


def deformation_rates(
    moving: Overlay, below: Panel, here: NDArray[np.bool_], made_up: bool
) -> bytes:
    """Return rates by class, and the points on the map that holds most of them (figure 16).

    Parameters
    ----------
    moving : Overlay
    below : Panel
        The map.
    here : ndarray of bool, shape (n,)
        Points that lie on it.
    made_up : bool
    """
    facts = moving.facts["classes"]
    count = len(facts)
    title = f"Deformation by class: {moving.facts['points']} points of {moving.facts['file']}"
    figure = new_page(6.4, made_up, title)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    groups = [moving.velocity[moving.classes == number] for number in range(1, count + 1)]
    limit = float(np.quantile(np.abs(moving.velocity), 0.995)) or 1.0
    for number, (group, colour) in enumerate(zip(groups, class_colours(count), strict=True)):
        if group.size:
            left.boxplot(
                group, positions=[number], widths=0.6, whis=(5, 95), showfliers=False,
                patch_artist=True, manage_ticks=False,
                boxprops={"facecolor": colour, "edgecolor": INK["ink"]},
                medianprops={"color": INK["sky"], "linewidth": 2.5},
            )  # fmt: skip
    for line in (-moving.facts["stable_below"], moving.facts["stable_below"]):
        left.axhline(line, color=INK["grey"], linestyle=(0, (4, 3)), linewidth=1)
    left.set_xticks(
        range(count),
        [
            f"{each['name']}\nn = {each['points']}\n"
            + ("" if "share_moving" not in each else f"{100 * each['share_moving']:.0f} %\nmoving")
            for each in facts
        ],
    )
    left.set_xlim(-0.6, count - 0.4)
    left.set_ylabel("mm per year (box: quartiles, whiskers: 5 and 95 %)", fontsize=11)
    plain(left)
    left.grid(visible=False, axis="x")
    _map(right, below, count)
    # Too many to tell apart: every k-th, the same for equal input.
    at = np.flatnonzero(here)
    at = at[:: max(1, at.size // 4000)]
    drawn = right.scatter(
        moving.places[at, 0], moving.places[at, 1], c=moving.velocity[at], s=16, cmap="PRGn",
        vmin=-limit, vmax=limit, edgecolors=INK["ink"], linewidths=0.4,
    )  # fmt: skip
    right.set_xlim(below.extent[0], below.extent[1])
    right.set_ylim(below.extent[2], below.extent[3])
    right.set_title(f"{below.title}: {int(here.sum())} points", fontsize=12, loc="left")
    figure.colorbar(drawn, ax=right, label="mm per year", shrink=0.8)
    _legend(figure, count)
    return png(figure)
