"""Kernels that draw: arrays in, bytes of an image or the text of an SVG out.

- Colours can be told apart with every common form of colour blindness; outlines differ in their
  dashes as well.
- Equal input gives equal output: no dates, no random identifiers.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "INK",
    "Point",
    "error_colours",
    "indexed_png",
    "jpeg",
    "lines",
    "outline_path",
    "performance_diagram",
    "ramp",
    "scale_bar",
    "stretch",
    "stretch_limits",
]

# Okabe and Ito (2008), with a grey and an ink that print well.
INK = {
    "ink": "#1b2530",
    "grey": "#7b8794",
    "rule": "#d5dae0",
    "blue": "#0072b2",
    "sky": "#56b4e9",
    "green": "#009e73",
    "orange": "#e69f00",
    "vermilion": "#d55e00",
    "purple": "#cc79a7",
    "yellow": "#f0e442",
}
_ORDER = ("blue", "orange", "green", "purple", "sky", "vermilion")
_MARKERS = ("o", "s", "^", "D", "v", "P")


# Images -------------------------------------------------------------------------------------


def stretch_limits(
    images: Sequence[NDArray[np.floating[Any]]], low: float = 1.0, high: float = 99.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return limits for a contrast stretch that several images share.

    Parameters
    ----------
    images : sequence of ndarray, shape (band, y, x)
        NaN where missing. Band k of one image is compared with band k of the others.
    low, high : float
        Percentiles.

    Returns
    -------
    low, high : ndarray of float64, shape (band,)
        Shared, so that before and after can be compared by eye; 0 and 1 where all is missing.

    Examples
    --------
    >>> images = np.array([[[0.0, 10.0]]]), np.array([[[20.0, np.nan]]])
    >>> low, high = stretch_limits(images, 0, 100)
    >>> low.tolist(), high.tolist()
    ([0.0], [20.0])
    """
    bottoms, tops = [], []
    for band in range(images[0].shape[0]):
        pooled = np.concatenate([image[band].ravel() for image in images])
        pooled = pooled[np.isfinite(pooled)]
        a, b = np.percentile(pooled, [low, high]) if pooled.size else (0.0, 1.0)
        bottoms.append(float(a))
        tops.append(float(b) if b > a else float(a) + 1.0)
    return np.array(bottoms), np.array(tops)


def stretch(
    image: NDArray[np.floating[Any]],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    *,
    gamma: float = 1.0,
    missing: tuple[int, int, int] = (228, 231, 235),
) -> NDArray[np.uint8]:
    """Return an image stretched to 0..255.

    Parameters
    ----------
    image : ndarray, shape (3, y, x) or (1, y, x)
        NaN where missing.
    low, high : ndarray, shape (band,)
        Become 0 and 255.
    gamma : float
        Below 1 lifts the shadows.
    missing : (red, green, blue)

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)

    Examples
    --------
    >>> stretch(np.array([[[0.0, 5.0, 10.0, np.nan]]]), np.array([0.0]), np.array([10.0]))[0, :, 0]
    array([  0, 128, 255, 228], dtype=uint8)
    """
    scaled = (image - low[:, None, None]) / (high - low)[:, None, None]
    lost = ~np.isfinite(scaled).all(axis=0)
    scaled = np.where(lost, 0.0, np.clip(scaled, 0.0, 1.0)) ** gamma
    out = np.rint(scaled * 255.0).astype(np.uint8)
    out = np.repeat(out, 3, axis=0) if out.shape[0] == 1 else out
    out = np.moveaxis(out, 0, -1).copy()
    out[lost] = missing
    return out


def ramp(name: str) -> NDArray[np.uint8]:
    """Return the 256 colours of a matplotlib colour map, shape (256, 3).

    Examples
    --------
    >>> ramp("viridis").shape, ramp("viridis")[0].tolist()
    ((256, 3), [68, 1, 84])
    """
    from matplotlib import colormaps

    colours = colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3]
    return np.rint(colours * 255.0).astype(np.uint8)


def jpeg(rgb: NDArray[np.uint8], quality: int = 88) -> bytes:
    """Return a JPEG of an image, shape (y, x, 3)."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def indexed_png(
    values: NDArray[np.floating[Any]], colours: NDArray[np.uint8], low: float, high: float
) -> bytes:
    """Return a PNG of values on a colour ramp; missing values are transparent.

    Parameters
    ----------
    values : ndarray, shape (y, x)
        NaN where missing.
    colours : ndarray of uint8, shape (n, 3), n <= 255 or 256
        Of 256 colours the last but one is taken for the highest value: one place of the palette
        is needed for "missing".
    low, high : float
        Values of the first and the last colour; what lies beyond is clipped.

    Returns
    -------
    bytes
    """
    from PIL import Image

    used = colours if len(colours) <= 255 else np.delete(colours, 254, axis=0)
    count = len(used)
    with np.errstate(invalid="ignore"):
        index = np.rint((values - low) / (high - low) * (count - 1))
    index = np.where(np.isfinite(values), np.clip(index, 0, count - 1), count).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(index), mode=None).convert("P")
    picture.frombytes(np.ascontiguousarray(index).tobytes())
    palette = np.vstack([used, [[255, 255, 255]]]).astype(np.uint8)
    picture.putpalette(palette.ravel().tolist())
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True, transparency=count)
    return out.getvalue()


ERRORS = {
    "not looked at": (214, 219, 224),
    "rightly none": (245, 246, 248),
    "found": (0, 114, 178),
    "missed": (230, 159, 0),
    "false alarm": (204, 121, 167),
}
"""What a pixel of an error map can be -> colour."""


def error_colours(
    probability: NDArray[np.floating[Any]], labels: NDArray[np.uint8], threshold: float
) -> NDArray[np.uint8]:
    """Return where a map is right and wrong, as an image.

    Parameters
    ----------
    probability : ndarray of float, shape (y, x)
        NaN where not predicted; counts as no slump, as in the scores.
    labels : ndarray of uint8, shape (y, x)
        1 slump, 0 not, 255 not looked at.
    threshold : float
        Slump from this probability on.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
        Colours of `ERRORS`.
    """
    with np.errstate(invalid="ignore"):
        called = probability >= threshold
    out = np.empty((*labels.shape, 3), np.uint8)
    out[:] = ERRORS["not looked at"]
    out[labels == 0] = ERRORS["rightly none"]
    out[(labels == 1) & called] = ERRORS["found"]
    out[(labels == 1) & ~called] = ERRORS["missed"]
    out[(labels == 0) & called] = ERRORS["false alarm"]
    return out


# Maps ---------------------------------------------------------------------------------------


def scale_bar(metres_per_pixel: float, width: int, share: float = 0.25) -> tuple[str, float]:
    """Return the label and the length in pixels of a scale bar of round length.

    Parameters
    ----------
    metres_per_pixel : float
    width : int
        Width of the map in pixels.
    share : float
        The bar takes at most this share of the width.

    Examples
    --------
    >>> scale_bar(10.0, 512)
    ('1 km', 100.0)
    >>> scale_bar(10.0, 90)
    ('200 m', 20.0)
    """
    longest = max(metres_per_pixel * width * share, 1e-9)
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1.0, 2.0, 5.0) if step * power <= longest * (1 + 1e-9))
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return words, length / metres_per_pixel


def outline_path(geometry: Any, inverse: Sequence[float]) -> str:
    """Return an outline as the `d` of an SVG path in pixels.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon
        In the CRS of the grid.
    inverse : sequence of 6 float
        Affine coefficients a, b, c, d, e, f from that CRS to column and row.

    Examples
    --------
    >>> from shapely.geometry import box
    >>> outline_path(box(0, 0, 20, 10), (0.1, 0, 0, 0, -0.1, 1))
    'M2 1L2 0L0 0L0 1Z'
    """
    a, b, c, d, e, f = inverse[:6]
    parts = []
    for polygon in getattr(geometry, "geoms", [geometry]):
        if polygon.geom_type != "Polygon":
            continue
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.asarray(ring.coords)[:-1, :2]
            columns = a * points[:, 0] + b * points[:, 1] + c
            rows = d * points[:, 0] + e * points[:, 1] + f
            spots = [f"{_short(x)} {_short(y)}" for x, y in zip(columns, rows, strict=True)]
            parts.append("M" + "L".join(spots) + "Z")
    return "".join(parts)


def _short(value: float) -> str:
    return (
        f"{value + 0.0:.1f}".removesuffix(".0").replace("-0", "0")
        if abs(value) < 0.05
        else (f"{value:.1f}".removesuffix(".0"))
    )


# Charts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A model on a performance diagram.

    Attributes
    ----------
    precision, recall : float
        0..1.
    group : str
        Points of one group share colour and marker.
    strong : bool
        Drawn large, with its name beside it.
    hollow : bool
        Drawn without a fill.
    """

    precision: float
    recall: float
    group: str
    strong: bool = False
    hollow: bool = False


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    # Without pyplot: nothing global, nothing to close, no display asked for.
    import matplotlib
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "thawslump",
        "font.size": 10.0,
        "axes.edgecolor": INK["grey"],
        "axes.labelcolor": INK["ink"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "xtick.color": INK["grey"],
        "ytick.color": INK["grey"],
        "xtick.labelcolor": INK["ink"],
        "ytick.labelcolor": INK["ink"],
        "legend.frameon": False,
        "legend.fontsize": 9.0,
        "text.color": INK["ink"],
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Any, name: str, title: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    # Several figures share a page, so their identifiers must not.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>',
                  rf'<svg xmlns="http://www.w3.org/2000/svg" '
                  rf'xmlns:xlink="http://www.w3.org/1999/xlink" \1 role="img" '
                  rf'aria-label="{title}" class="chart">', text, count=1)  # fmt: skip
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)


def performance_diagram(points: Sequence[Point], *, name: str = "performance") -> str:
    """Return a performance diagram: precision, recall, F1 isolines and frequency bias.

    Parameters
    ----------
    points : sequence of Point
    name : str
        Prefix of the identifiers in the SVG.

    Returns
    -------
    str
        SVG. Solid lines are equal F1, dashed ones equal frequency bias (pixels called slump over
        pixels that are slump = recall / precision).
    """
    with _figure(6.4, 4.9) as (figure, axes):
        axis = np.linspace(0.001, 1.0, 400)
        p, r = np.meshgrid(axis, axis)
        levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        isolines = axes.contour(
            p, r, 2 * p * r / (p + r), levels=levels, colors=INK["rule"], linewidths=0.9
        )
        # A label where the isoline meets precision = recall + 0.
        axes.clabel(
            isolines, fmt="%.1f", fontsize=8, colors=INK["grey"],
            manual=[(min(0.985, f + (1 - f) * 0.9), f * min(0.985, f + (1 - f) * 0.9)
                     / (2 * min(0.985, f + (1 - f) * 0.9) - f)) for f in levels],
        )  # fmt: skip
        for bias in (0.25, 0.5, 1.0, 2.0, 4.0):
            end = (1.0, bias) if bias <= 1 else (1.0 / bias, 1.0)
            axes.plot([0, end[0]], [0, end[1]], "--", color=INK["grey"], linewidth=0.6, zorder=1)
            place = (end[0] * 1.012, end[1]) if bias < 1 else (end[0], 1.012)
            axes.annotate(
                f"bias {bias:g}", place, fontsize=8, color=INK["grey"], annotation_clip=False,
                ha="left" if bias < 1 else "center", va="center" if bias < 1 else "bottom",
            )  # fmt: skip
        groups = sorted({q.group for q in points}, key=lambda g: (
            any(q.strong for q in points if q.group == g), g))  # fmt: skip
        plain = [g for g in groups if not any(q.strong for q in points if q.group == g)]
        for group in groups:
            mine = [point for point in points if point.group == group]
            strong = mine[0].strong
            place_of = plain.index(group) % len(_ORDER) if group in plain else 0
            colour = INK["ink"] if strong else INK[_ORDER[place_of]]
            marker = "*" if strong else _MARKERS[place_of]
            for hollow in (False, True):
                some = [q for q in mine if q.hollow is hollow]
                if not some:
                    continue
                axes.plot(
                    [q.precision for q in some],
                    [q.recall for q in some],
                    linestyle="none",
                    marker=marker,
                    markersize=15 if strong else 7,
                    markerfacecolor="white" if hollow else colour,
                    markeredgecolor=colour if hollow or strong else "white",
                    markeredgewidth=1.4 if hollow else 0.8,
                    label=group if not hollow or all(q.hollow for q in mine) else None,
                    zorder=5 if strong else 4,
                    clip_on=False,
                )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="precision", ylabel="recall")
        axes.set_aspect("equal")
        if groups:
            axes.legend(loc="upper left", bbox_to_anchor=(1.1, 1.0), borderaxespad=0.0)
        return _svg(figure, name, "Performance diagram: precision, recall, F1 and frequency bias")


def lines(
    series: Mapping[str, Sequence[tuple[float, float, float | None, float | None]]],
    *,
    x_label: str,
    y_label: str,
    name: str,
    title: str,
    reference: Mapping[str, float] | None = None,
    whole: bool = True,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Return a line chart as SVG.

    Parameters
    ----------
    series : mapping of name to (x, y, low, high)
        low and high are the ends of an interval, None without one.
    x_label, y_label, title : str
    name : str
        Prefix of the identifiers in the SVG.
    reference : mapping of name to y, optional
        Drawn as dashed lines.
    whole : bool
        Only whole numbers along x.
    y_range : (low, high), optional
    """
    from matplotlib.ticker import MaxNLocator

    all_x = [v[0] for values in series.values() for v in values]
    bars = any(v[2] is not None for values in series.values() for v in values)
    with _figure(6.0, 3.4) as (figure, axes):
        for number, (label, values) in enumerate(series.items()):
            colour = INK[_ORDER[number % len(_ORDER)]]
            # Side by side, so that the intervals of several series do not hide each other.
            spread = max(all_x) - min(all_x) or 1.0
            shift = (number - (len(series) - 1) / 2) * 0.018 * spread if bars else 0.0
            x = [v[0] + shift for v in values]
            axes.plot(
                x, [v[1] for v in values], color=colour, linewidth=1.8,
                marker=_MARKERS[number % len(_MARKERS)], markersize=6, label=label, zorder=3,
            )  # fmt: skip
            known = [(v[0] + shift, v[2], v[3]) for v in values if v[2] is not None]
            axes.vlines(
                [k[0] for k in known], [k[1] for k in known], [k[2] for k in known],
                color=colour, linewidth=1.1, alpha=0.7, zorder=2,
            )  # fmt: skip
        for number, (label, level) in enumerate((reference or {}).items()):
            axes.axhline(
                level, color=INK["grey"], linewidth=1.0, zorder=1, label=label,
                linestyle=("--", ":", "-.")[number % 3],
            )  # fmt: skip
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel=x_label, ylabel=y_label)
        if y_range is not None:
            axes.set_ylim(*y_range)
        axes.margins(x=0.08)
        axes.grid(axis="y", color=INK["rule"], linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        return _svg(figure, name, title)
