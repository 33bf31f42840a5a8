"""Probability maps to outlines, new outlines against known ones, and their order for review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry import Polygon, shape
from shapely.geometry.base import BaseGeometry

__all__ = ["Collector", "Outline", "is_known", "outlines", "teaching_score"]


@dataclass(frozen=True)
class Outline:
    """A connected place where the probability reaches the threshold.

    Attributes
    ----------
    geometry : Polygon
        In the CRS of the map.
    pixels : int
    probability_mean, probability_max, disagreement, filled : float
        Over the pixels of the outline, holes that were filled included; NaN pixels are left out.
    """

    geometry: Polygon
    pixels: int
    probability_mean: float
    probability_max: float
    disagreement: float
    filled: float


def outlines(
    probability: NDArray[np.float32],
    disagreement: NDArray[np.float32],
    filled: NDArray[np.float32],
    transform: Affine,
    *,
    threshold: float,
    minimum_pixels: int = 5,
    hole_pixels: int = 4,
    smoothing: float = 0.0,
) -> list[Outline]:
    """Return the outlines of a probability map.

    Parameters
    ----------
    probability : ndarray of float32, shape (y, x)
        0..1, NaN where the map has no data.
    disagreement, filled : ndarray of float32, shape (y, x)
        Standard deviation of the members, and share of filled bands, 0..1.
    transform : Affine
        From pixel corners to map coordinates.
    threshold : float
        A pixel belongs to an outline from this probability on.
    minimum_pixels : int
        Smaller outlines are left out.
    hole_pixels : int
        Holes up to this size are filled, unless they are nodata.
    smoothing : float
        Douglas-Peucker tolerance in pixels; 0 keeps the pixels' edges.

    Returns
    -------
    list of Outline
        From the upper left row by row. Pixels that share only a corner are two outlines.

    Examples
    --------
    >>> p = np.zeros((4, 5), "float32"); p[1:3, 1:4] = 0.8
    >>> found = outlines(p, p * 0, p * 0, Affine.scale(10, -10), threshold=0.5)
    >>> [(o.pixels, o.geometry.area, round(o.probability_mean, 3)) for o in found]
    [(6, 600.0, 0.8)]
    """
    collector = Collector(
        transform,
        threshold=threshold,
        minimum_pixels=minimum_pixels,
        hole_pixels=hole_pixels,
        smoothing=smoothing,
    )
    collector.add(probability, disagreement, filled)
    return collector.finish()


class Collector:
    """Outlines of a map that comes strip by strip; what crosses a seam is joined.

    The result does not depend on how the map is cut, so a map larger than the memory gives the
    outlines that it would give as a whole.

    Parameters
    ----------
    transform, threshold, minimum_pixels, hole_pixels, smoothing
        As for `outlines`.

    Examples
    --------
    >>> p = np.ones((4, 3), "float32")
    >>> collector = Collector(Affine.scale(10, -10), threshold=0.5, hole_pixels=0)
    >>> collector.add(p[:2], p[:2], p[:2])
    >>> collector.add(p[2:], p[2:], p[2:])
    >>> [(o.pixels, o.geometry.area) for o in collector.finish()]
    [(12, 1200.0)]
    """

    def __init__(
        self,
        transform: Affine,
        *,
        threshold: float,
        minimum_pixels: int = 5,
        hole_pixels: int = 4,
        smoothing: float = 0.0,
    ) -> None:
        self._transform = transform
        self._threshold = threshold
        self._minimum = minimum_pixels
        self._holes = hole_pixels
        self._smoothing = smoothing
        self._row = 0
        self._seam: NDArray[np.int64] | None = None
        self._parent: list[int] = [0]
        self._sums: list[NDArray[np.float64]] = [np.zeros((1, 8))]
        self._polygons: dict[int, list[Polygon]] = {}

    @property
    def halo(self) -> int:
        """Rows beyond a strip that decide whether a gap in it is a small hole."""
        return self._holes + 1 if self._holes > 0 else 0

    def add(
        self,
        probability: NDArray[np.float32],
        disagreement: NDArray[np.float32],
        filled: NDArray[np.float32],
        *,
        above: int = 0,
        below: int = 0,
    ) -> None:
        """Add the next strip.

        Parameters
        ----------
        probability, disagreement, filled : ndarray of float32, shape (y, x)
            The strip, with up to `halo` rows of its neighbours.
        above, below : int
            How many rows are the neighbours'.
        """
        from rasterio.features import shapes
        from scipy import ndimage

        if probability.size == 0:
            return
        data = np.isfinite(probability)
        inside = data & (np.nan_to_num(probability, nan=-1.0) >= self._threshold)
        if self._holes > 0:
            inside |= _small(~inside & data, self._holes) & ~_touches_border_or_nodata(inside, data)
        core = slice(above, probability.shape[0] - below)
        labels, count = ndimage.label(inside[core])
        sums = _sums((probability[core], disagreement[core], filled[core]), labels, count)
        offset = len(self._parent) - 1
        self._parent.extend(range(offset + 1, offset + count + 1))
        self._sums.append(sums)
        first, last = labels[0].astype("int64"), labels[-1].astype("int64")
        if self._seam is not None:
            both = (self._seam > 0) & (first > 0)
            for left, right in set(zip(self._seam[both], first[both] + offset, strict=True)):
                self._join(int(left), int(right))
        self._seam = np.where(last > 0, last + offset, 0)
        # What is too small is dropped at once, unless it may go on beyond the strip.
        wanted = np.concatenate([[False], sums[:, 0] >= self._minimum])
        wanted[np.union1d(first, last)] = True
        wanted[0] = False
        shift = self._transform @ Affine.translation(0, self._row)
        for geometry, value in shapes(labels.astype("int32"), mask=wanted[labels], transform=shift):
            self._polygons.setdefault(int(value) + offset, []).append(shape(geometry))
        self._row += labels.shape[0]

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def _join(self, left: int, right: int) -> None:
        left, right = sorted((self._root(left), self._root(right)))
        self._parent[right] = left

    def finish(self) -> list[Outline]:
        """Return the outlines of all strips, from the upper left row by row."""
        sums = np.concatenate(self._sums)
        groups: dict[int, list[int]] = {}
        for number in sorted(self._polygons):
            groups.setdefault(self._root(number), []).append(number)
        result = []
        for members in groups.values():
            parts = sums[members]
            if parts[:, 0].sum() < self._minimum:
                continue
            polygons = [polygon for number in members for polygon in self._polygons[number]]
            polygon = shapely.union_all(polygons)
            if len(polygons) > 1:
                # Along a seam a union keeps points that are no corners.
                polygon = shapely.normalize(polygon).simplify(0)
            if self._smoothing > 0:
                tolerance = self._smoothing * abs(self._transform.a)
                smooth = polygon.simplify(tolerance, preserve_topology=True)
                if smooth.geom_type == "Polygon" and smooth.area > 0:
                    polygon = smooth
            total = parts.sum(axis=0)
            means = total[2:5] / np.maximum(total[5:8], 1)
            result.append(
                Outline(
                    geometry=polygon,
                    pixels=int(total[0]),
                    probability_mean=float(means[0]),
                    probability_max=float(parts[:, 1].max()),
                    disagreement=float(means[1]),
                    filled=float(means[2]),
                )
            )
        return result


def _sums(
    layers: tuple[NDArray[np.float32], ...], labels: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """Return per label: pixels, highest of the first layer, sums of the layers, their counts."""
    from scipy import ndimage

    out = np.zeros((count, 8))
    if count == 0:
        return out
    out[:, 0] = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    out[:, 1] = ndimage.maximum(np.nan_to_num(layers[0], nan=-1.0), labels, np.arange(1, count + 1))
    for i, values in enumerate(layers):
        finite = np.isfinite(values) & (labels > 0)
        flat = labels[finite]
        weights = values[finite].astype("float64")
        out[:, 2 + i] = np.bincount(flat, weights=weights, minlength=count + 1)[1:]
        out[:, 5 + i] = np.bincount(flat, minlength=count + 1)[1:]
    return out


def _small(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    small = size <= pixels
    small[0] = False
    return np.asarray(small[labels])


def _touches_border_or_nodata(
    inside: NDArray[np.bool_], data: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return background that is connected with the map's edge or with nodata: never a hole."""
    from scipy import ndimage

    # The frame counts as nodata, so that one rule serves both.
    background = np.pad(~inside, 1, constant_values=True)
    edge = np.pad(~data, 1, constant_values=True)
    labels, count = ndimage.label(background)
    reached = np.zeros(count + 1, dtype=bool)
    reached[np.unique(labels[edge])] = True
    reached[0] = False
    return np.asarray(reached[labels][1:-1, 1:-1])


def is_known(
    found: Sequence[BaseGeometry],
    known: Sequence[BaseGeometry],
    *,
    covered: float = 0.2,
    contains: float = 0.5,
) -> NDArray[np.bool_]:
    """Return which of the found outlines are already known.

    An outline is known where known outlines together cover at least the share `covered` of it,
    or where it contains at least the share `contains` of a single known outline: a slump that
    grew, or that is drawn larger, is not a new slump.

    Parameters
    ----------
    found, known : sequence of polygons
        In one projected CRS.
    covered, contains : float
        Shares, above 0 and up to 1.

    Returns
    -------
    ndarray of bool, shape (len(found),)

    Examples
    --------
    >>> squares = [shapely.box(0, 0, 10, 10), shapely.box(50, 0, 60, 10)]
    >>> is_known(squares, [shapely.box(5, 0, 15, 10)]).tolist()
    [True, False]
    """
    result = np.zeros(len(found), dtype=bool)
    if not len(found) or not len(known):
        return result
    known_array = np.asarray(known, dtype=object)
    tree = shapely.STRtree(known_array)
    left, right = tree.query(np.asarray(found, dtype=object), predicate="intersects")
    for i in np.unique(left):
        touching = known_array[right[left == i]]
        common = shapely.intersection(found[i], touching)
        largest = (shapely.area(common) / np.maximum(shapely.area(touching), 1e-9)).max()
        share = shapely.area(shapely.union_all(common)) / found[i].area
        result[i] = share >= covered or largest >= contains
    return result


def teaching_score(
    probability_mean: NDArray[np.float64],
    disagreement: NDArray[np.float64],
    area: NDArray[np.float64],
    *,
    threshold: float,
) -> NDArray[np.float64]:
    """Return by how much a decision on each outline would teach the next round, 0..1.

    score = 0.4 * doubt + 0.4 * disagreement + 0.2 * size, with

    - doubt = 1 - (p - t) / (1 - t): 1 where the mean probability p just reaches the threshold t,
      0 where the ensemble is certain;
    - disagreement = std / 0.5, for 0.5 is the largest standard deviation values in 0..1 can have;
    - size = ln(area / smallest) / ln(largest / smallest): a large outline teaches more pixels,
      but not in proportion.

    Parameters
    ----------
    probability_mean, disagreement, area : ndarray, shape (n,)
    threshold : float

    Returns
    -------
    ndarray of float64, shape (n,)

    Examples
    --------
    >>> one = np.array([0.5, 1.0]); std = np.array([0.5, 0.0]); m2 = np.array([100.0, 100.0])
    >>> teaching_score(one, std, m2, threshold=0.5).round(3).tolist()
    [0.8, 0.0]
    """
    if probability_mean.size == 0:
        return np.zeros(0)
    doubt = 1.0 - (probability_mean - threshold) / max(1.0 - threshold, 1e-6)
    spread = disagreement / 0.5
    logs = np.log(np.maximum(area, 1e-9))
    extent = logs.max() - logs.min()
    size = (logs - logs.min()) / extent if extent > 1e-9 else np.zeros_like(logs)
    return np.asarray(
        0.4 * np.clip(doubt, 0, 1) + 0.4 * np.clip(spread, 0, 1) + 0.2 * np.clip(size, 0, 1)
    )
