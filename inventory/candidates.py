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

__all__ = ["Outline", "is_known", "outlines", "teaching_score"]


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
    from rasterio.features import shapes
    from scipy import ndimage

    if probability.size == 0:
        return []
    data = np.isfinite(probability)
    inside = data & (np.nan_to_num(probability, nan=-1.0) >= threshold)
    if hole_pixels > 0:
        inside |= _small(~inside & data, hole_pixels) & ~_touches_border_or_nodata(inside, data)
    labels, count = ndimage.label(inside)
    if count == 0:
        return []
    index = np.arange(1, count + 1)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = pixels >= minimum_pixels
    means = [_mean(values, labels, count) for values in (probability, disagreement, filled)]
    highest = ndimage.maximum(np.nan_to_num(probability, nan=-1.0), labels, index)
    mask = np.concatenate([[False], kept])[labels]
    found: dict[int, list[Polygon]] = {}
    for geometry, value in shapes(labels.astype("int32"), mask=mask, transform=transform):
        found.setdefault(int(value), []).append(shape(geometry))
    result = []
    for number in sorted(found):
        polygon = shapely.union_all(found[number])
        if smoothing > 0:
            smooth = polygon.simplify(smoothing * abs(transform.a), preserve_topology=True)
            polygon = smooth if smooth.geom_type == "Polygon" and smooth.area > 0 else polygon
        i = number - 1
        result.append(
            Outline(
                geometry=polygon,
                pixels=int(pixels[i]),
                probability_mean=float(means[0][i]),
                probability_max=float(highest[i]),
                disagreement=float(means[1][i]),
                filled=float(means[2][i]),
            )
        )
    return result


def _mean(
    values: NDArray[np.float32], labels: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    finite = np.isfinite(values)
    flat = labels[finite].ravel()
    total = np.bincount(flat, weights=values[finite].astype("float64"), minlength=count + 1)[1:]
    number = np.bincount(flat, minlength=count + 1)[1:]
    return np.asarray(total / np.maximum(number, 1))


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
