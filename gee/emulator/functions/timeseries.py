"""Breaks in the time series of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import kernels
from ..budget import tick
from ..cells import objects
from ..errors import EngineError
from ..image import Image, full
from ..pixels import Array, Band, Context, Node, Pixels
from ..projection import Window
from ..types import PixelType
from ..values import Collection
from .registry import function

__all__ = ["Segments", "breaks", "seasonal"]

_DAY = 86_400_000.0
_YEAR = 365.25 * _DAY
# Pixels of a window worked on at a time, by side; and of one design, by number.
_PART, _PIXELS = 64, 512
_LEAST = 1e-12


def seasonal(times: Array, years: Array, order: int) -> Array:
    """Return the columns 1, t, cos, sin, cos of twice the season, ... of a harmonic model.

    Parameters
    ----------
    times : (n,) float64
        What the trend is per.
    years : (n,) float64
        Years, whose fraction is the season.
    order : int
        Number of harmonics.

    Returns
    -------
    (n, 2 + 2 order) float64

    Examples
    --------
    >>> seasonal(np.array([2.0]), np.array([0.25]), 1).round(6).tolist()
    [[1.0, 2.0, 0.0, 1.0]]
    """
    columns = [np.ones(len(times)), times]
    for k in range(1, order + 1):
        columns += [np.cos(2 * np.pi * k * years), np.sin(2 * np.pi * k * years)]
    return np.column_stack(columns)


class Segments(NamedTuple):
    """Where a series breaks.

    Attributes
    ----------
    first, last : lists of int
        Rows that every segment begins and ends with.
    """

    first: list[int]
    last: list[int]


def _costs(design: Array, values: Array, least: int) -> Array:
    """Return the residual sum of squares of rows i to j: (n, n, pixels), infinite if too few."""
    n = len(design)
    out = np.full((n, n, values.shape[1]), np.inf)
    for i in range(n - least + 1):
        tick()
        total = np.cumsum(values[i:] ** 2, axis=0)
        for j in range(i + least - 1, n):
            basis, _ = np.linalg.qr(design[i : j + 1])
            fitted = basis.T @ values[i : j + 1]
            out[i, j] = np.maximum(total[j - i] - (fitted**2).sum(axis=0), 0)
    return out


def breaks(design: Array, values: Array, least: int, most: int) -> list[Segments]:
    """Return the segments of every series with the least Bayesian information criterion.

    For every number of breaks the segmentation with the least residual sum of squares (Bai &
    Perron 2003); of these the one with the least criterion, each segment costing as many
    parameters as the model has and one more (as R's strucchange counts).

    Parameters
    ----------
    design : (n, parameters) float64
    values : (n, pixels) float64
    least : int
        Rows of a segment, more than parameters.
    most : int
        Breaks.

    Returns
    -------
    list of Segments, one per pixel

    Examples
    --------
    >>> y = np.repeat([0.0, 5.0], 6)[:, None] + 0.1 * np.tile([1.0, -1.0], 6)[:, None]
    >>> breaks(np.ones((12, 1)), y, 3, 2)[0].first
    [0, 6]
    """
    n, parameters = design.shape
    pixels = values.shape[1]
    # A level that the model holds anyway is taken away: squares of it would hide the rest.
    values = values - values.mean(axis=0)
    cost = _costs(design, values, least)
    floor = _LEAST * (values**2).sum(axis=0) + 1e-300
    best = [cost[0]]
    back: list[Array] = []
    for _ in range(min(most, n // least - 1)):
        tick()
        total = np.full((n, pixels), np.inf)
        source = np.zeros((n, pixels), np.int64)
        for j in range(least - 1, n):
            starts = np.arange(least, j - least + 2)
            if not len(starts):
                continue
            offers = best[-1][starts - 1] + cost[starts, j]
            place = np.argmin(offers, axis=0)
            total[j] = np.take_along_axis(offers, place[None], axis=0)[0]
            source[j] = starts[place]
        best.append(total)
        back.append(source)
    last = np.stack([b[n - 1] for b in best])
    count = np.arange(len(best))[:, None] + 1
    with np.errstate(divide="ignore"):
        likelihood = -0.5 * n * (np.log(np.maximum(last, floor) / n) + 1 + np.log(2 * np.pi))
    criterion = -2 * likelihood + np.log(n) * (parameters + 1) * count
    chosen = np.argmin(criterion, axis=0)
    out = []
    for pixel in range(pixels):
        first, end = [], n - 1
        for level in range(int(chosen[pixel]), 0, -1):
            start = int(back[level - 1][end, pixel])
            first.append(start)
            end = start - 1
        starts_ = [0, *reversed(first)]
        out.append(Segments(starts_, [*(s - 1 for s in starts_[1:]), n - 1]))
    return out


class _Model(NamedTuple):
    """What the images of a series share."""

    stamps: Array
    times: Array
    years: Array
    order: int
    least: int
    most: int


def _fitted(
    model: _Model, keep: Array, segments: Segments, bands: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Return coefficients (segments, parameters) and errors (segments,) of every band."""
    rows = np.nonzero(keep)[0]
    coefficients: list[list[Array]] = [[] for _ in bands]
    errors: list[list[float]] = [[] for _ in bands]
    for first, last in zip(segments.first, segments.last, strict=True):
        part = rows[first : last + 1]
        middle = float(model.times[part].mean())
        table = seasonal(model.times[part] - middle, model.years[part], model.order)
        # The trend's scale must not decide what counts as zero.
        span = float(np.abs(table[:, 1]).max()) or 1.0
        table[:, 1] /= span
        for k, values in enumerate(bands):
            y = values[first : last + 1]
            found, *_ = np.linalg.lstsq(table, y, rcond=None)
            off = y - table @ found
            found = found.copy()
            found[1] /= span
            found[0] -= found[1] * middle
            coefficients[k].append(found)
            errors[k].append(float(np.sqrt((off**2).mean())))
    return [np.stack(c) for c in coefficients], [np.asarray(e) for e in errors]


class _BreaksNode(Node):
    """Segments of the series of every pixel: starts, ends, coefficients and errors per band."""

    __slots__ = ("bands", "leading", "model")

    def __init__(self, inputs: Sequence[Band], bands: int, leading: int, model: _Model) -> None:
        super().__init__(inputs)
        self.bands, self.leading, self.model = bands, leading, model

    def compute(self, context: Context, window: Window) -> Sequence[Pixels]:
        outputs = 2 + 2 * self.bands
        data = np.empty((outputs, *window.shape), object)
        mask = np.zeros(window.shape, bool)
        for row in range(0, window.height, _PART):
            for column in range(0, window.width, _PART):
                part = window.part(
                    row, column, min(_PART, window.height - row), min(_PART, window.width - column)
                )
                where = np.s_[row : row + part.height, column : column + part.width]
                found, some = self._part(context, part)
                data[(slice(None), *where)] = found
                mask[where] = some
        return [Pixels(data[k], mask) for k in range(outputs)]

    def _part(self, context: Context, part: Window) -> tuple[Array, Array]:
        count = part.width * part.height
        n = len(self.model.stamps)
        values = np.zeros((self.bands, n, count))
        keep = np.ones((n, count), bool)
        for place, band in enumerate(self.inputs):
            image, which = divmod(place, self.bands)
            got = full(context.read(band, part), part)
            ok = kernels.valid(got.mask)
            values[which, image] = got.data.ravel()
            if ok is not None:
                keep[image] &= ok.ravel()
            if got.data.dtype.kind == "f":
                keep[image] &= np.isfinite(got.data).ravel()
        out = [objects([None] * count, count) for _ in range(2 + 2 * self.bands)]
        some = np.zeros(count, bool)
        groups, member = np.unique(keep.T, axis=0, return_inverse=True)
        for number, group in enumerate(groups):
            if group.sum() < self.model.least:
                continue
            pixels = np.nonzero(np.asarray(member).ravel() == number)[0]
            some[pixels] = True
            for at in range(0, len(pixels), _PIXELS):
                self._group(group, pixels[at : at + _PIXELS], values, out)
        shaped = np.stack([v.reshape(part.shape) for v in out])
        return shaped, some.reshape(part.shape)

    def _group(self, keep: Array, pixels: Array, values: Array, out: Sequence[Array]) -> None:
        model = self.model
        times = model.times[keep]
        centred = times - times.mean()
        centred = centred / (np.abs(centred).max() or 1.0)
        design = seasonal(centred, model.years[keep], model.order)
        series = values[:, keep][:, :, pixels]
        found = breaks(design, series[self.leading], model.least, model.most)
        stamps = model.stamps[keep]
        for k, (pixel, segments) in enumerate(zip(pixels, found, strict=True)):
            tick()
            out[0][pixel] = stamps[segments.first]
            out[1][pixel] = stamps[segments.last]
            fits, errors = _fitted(model, keep, segments, [s[:, k] for s in series])
            for b in range(self.bands):
                out[2 + b][pixel] = fits[b]
                out[2 + self.bands + b][pixel] = errors[b]


@function("TemporalSegmentation.StructuralChangeBreakpoints")
def structural_breaks(
    items: Collection,
    leading: str | None,
    order: int,
    spacing: float,
    most: int,
    dates: int,
) -> Image:
    """Return piecewise linear and seasonal fits of a collection's pixels.

    Bands tStart and tEnd, then coefs_BAND and rmse_BAND of every band ([A]). The number of
    breaks has the least Bayesian criterion, at most ``maxBreaks`` (0: as many as the spacing
    allows but one, as R's strucchange does). Observations that a band lacks are left out;
    pixels with fewer than a segment needs are masked.
    """
    images = items.images()
    if not images:
        raise EngineError("The collection holds no images.")
    names = images[0].names
    if leading is None and len(names) != 1:
        raise EngineError("breakpointBand is needed where images have several bands.")
    chosen = names[0] if leading is None else leading
    if chosen not in names:
        images[0].band(chosen)
    if not 0 <= order <= 20:
        raise EngineError(f"seasonalModelOrder must be between 0 and 20, not {order}.")
    if dates not in (1, 2):
        raise EngineError(f"dateFormat must be 1 (years) or 2 (milliseconds), not {dates}.")
    if most < 0:
        raise EngineError(f"maxBreaks must not be negative: {most}.")
    moments = []
    for image in images:
        start = image.properties.get("system:time_start")
        if not isinstance(start, (int, float)):
            raise EngineError("Every image must have a 'system:time_start'.")
        moments.append(float(start))
    ordered = np.argsort(moments, kind="stable")
    stamps = np.asarray(moments)[ordered]
    years = stamps / _YEAR
    shown = years if dates == 1 else stamps
    least = math.floor(len(images) * spacing) if 0 < spacing < 1 else int(spacing)
    parameters = 2 + 2 * order
    if least <= parameters:
        raise EngineError(
            f"The minimum spacing of {least} images must be greater than the number of the "
            f"model's coefficients, {parameters}; use more images or a lower order."
        )
    bound = most or max(math.ceil(len(images) / least) - 2, 0)
    model = _Model(shown, shown, years, order, least, bound)
    inputs = [images[int(k)].band(name) for k in ordered for name in names]
    node = _BreaksNode(inputs, len(names), names.index(chosen), model)
    line, table = PixelType("double", dimensions=1), PixelType("double", dimensions=2)
    kinds = [("tStart", line), ("tEnd", line)]
    kinds += [(f"coefs_{n}", table) for n in names] + [(f"rmse_{n}", line) for n in names]
    first = images[0].band(chosen)
    return images[0].derived(
        [first.computed(kind, node, k).renamed(name) for k, (name, kind) in enumerate(kinds)]
    )
