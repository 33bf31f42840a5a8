"""Folds whose test samples lie as far from training as the places to map lie from the samples.

J. Linnenbrink, C. Milà, M. Ludwig and H. Meyer, kNNDM CV: k-fold nearest-neighbour distance
matching cross-validation for map accuracy estimation, Geoscientific Model Development 17, 2024,
doi 10.5194/gmd-17-5897-2024 (reference implementation: knndm of the R package CAST).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial import cKDTree
from scipy.stats import ks_2samp, wasserstein_distance

from thawslump.errors import DataError

__all__ = ["geocentric", "match", "random_cells", "thinned"]

Floats = NDArray[np.float64]
# Groups that Ward's clustering takes at once: its distances fill memory with the square of them.
_LINKED = 4000
# Numbers of clusters that are tried.
_TRIED = 100
# Neighbours looked up once, for all trials.
_NEIGHBOURS = 32


def geocentric(lonlat: NDArray[np.float64]) -> Floats:
    """Return places on the ellipsoid (WGS 84) in metres from the centre of the earth.

    Straight lines between them are distances that hold across sites and UTM zones: 1 m short of
    the way along the ground at 60 km.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Degrees (EPSG:4326).

    Returns
    -------
    ndarray of float64, shape (n, 3)

    Examples
    --------
    >>> geocentric(np.array([[0.0, 0.0], [0.0, 90.0]])).round(1).tolist()
    [[6378137.0, 0.0, 0.0], [0.0, 0.0, 6356752.3]]
    """
    lon, lat = np.radians(np.asarray(lonlat, np.float64)).T
    major, flat = 6378137.0, 1 / 298.257223563
    squared = flat * (2 - flat)
    radius = major / np.sqrt(1 - squared * np.sin(lat) ** 2)
    return np.column_stack(
        [
            radius * np.cos(lat) * np.cos(lon),
            radius * np.cos(lat) * np.sin(lon),
            radius * (1 - squared) * np.sin(lat),
        ]
    )


def random_cells(
    valid: NDArray[np.bool_], affine: Affine, crs: str, count: int, rng: np.random.Generator
) -> tuple[Floats, int]:
    """Draw cells of a map of one site.

    Parameters
    ----------
    valid : ndarray of bool, shape (y, x)
        Cells that will be mapped.
    affine : Affine
        Of the cells.
    crs : str
        Anything that pyproj knows.
    count : int
        At most this many.
    rng : numpy.random.Generator

    Returns
    -------
    lonlat : ndarray of float64, shape (m, 2)
        Centres of the drawn cells, degrees.
    total : int
        Valid cells, for `thinned`.

    Examples
    --------
    >>> valid = np.array([[True, False], [True, True]])
    >>> lonlat, total = random_cells(
    ...     valid, Affine.scale(0.5, -0.5), "EPSG:4326", 9, np.random.default_rng(0)
    ... )
    >>> total, sorted(lonlat.tolist())
    (3, [[0.25, -0.75], [0.25, -0.25], [0.75, -0.75]])
    """
    from pyproj import Transformer

    cells = np.flatnonzero(valid)
    drawn = np.sort(rng.choice(cells, min(count, cells.size), replace=False))
    row, column = np.divmod(drawn, valid.shape[1])
    x = affine.a * (column + 0.5) + affine.b * (row + 0.5) + affine.c
    y = affine.d * (column + 0.5) + affine.e * (row + 0.5) + affine.f
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return np.column_stack([lon, lat]), int(cells.size)


def thinned(parts: Sequence[tuple[Floats, int]], count: int, rng: np.random.Generator) -> Floats:
    """Join the cells of several sites so that each stands for equally many.

    Parameters
    ----------
    parts : sequence of (lonlat, total)
        As `random_cells` returns them.
    count : int
        Cells wanted in all.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (m, 2)
        About `count`; at least one of every site that has cells.

    Examples
    --------
    >>> parts = [(np.zeros((50, 2)), 300), (np.ones((50, 2)), 100)]
    >>> thinned(parts, 40, np.random.default_rng(0)).sum(axis=0).tolist()
    [10.0, 10.0]
    """
    all_cells = sum(total for _, total in parts)
    found = [np.empty((0, 2))]
    for lonlat, total in parts:
        if not len(lonlat):
            continue
        wanted = min(len(lonlat), max(1, round(count * total / all_cells)))
        found.append(lonlat[np.sort(rng.choice(len(lonlat), wanted, replace=False))])
    return np.concatenate(found)


class _Neighbours:
    """Distances of samples to the nearest one of another part, for many ways to part them."""

    def __init__(self, positions: Floats) -> None:
        self.positions = positions
        count = min(len(positions), _NEIGHBOURS + 1)
        self.distance, self.index = cKDTree(positions).query(positions, k=count)

    def to_others(self, part: NDArray[np.int64]) -> Floats:
        other = part[self.index] != part[:, None]
        first = other.argmax(axis=1)
        found = np.asarray(self.distance[np.arange(part.size), first], np.float64)
        open_ = np.flatnonzero(~other.any(axis=1))
        for each in np.unique(part[open_]):
            here = open_[part[open_] == each]
            found[here] = cKDTree(self.positions[part != each]).query(self.positions[here])[0]
        return found


def match(
    labels: NDArray[Any],
    positions: Floats,
    groups: NDArray[np.int64],
    prediction: Floats | None,
    count: int,
    seed: int = 0,
    repetition: int = 0,
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return folds whose distances from test to training are those from the map to the samples.

    - Where samples lie no closer to one another than the places to map lie to them (one-sided
      Kolmogorov-Smirnov test, 5 %), folds are random: those of `folds.random_folds` where every
      group is one sample.
    - Else samples are clustered by Ward's method into from `count` to all groups (100 numbers,
      geometrically spaced), the clusters are dealt out to the folds, and the parting is taken
      whose distances come nearest to those of the map (Wasserstein: mean shift in metres). CAST
      orders clusters along a principal component to deal them; here they are dealt as blocks are,
      so that every fold holds slumps. No fold holds more than half of the samples.
    - More than 4,000 groups are first joined by squares of ground.

    Score what such folds hold out pooled over all folds: they are matched together.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        1 slump, 0 not.
    positions : ndarray of float64, shape (n, d)
        Metres, in coordinates that all samples and places to map share.
    groups : ndarray of int64, shape (n,)
        Samples that stay together, such as those of one slump; their distances to one another
        do not count.
    prediction : ndarray of float64, shape (m, d)
        Random places of the map; a few thousand will do.
    count : int
    seed, repetition : int

    Returns
    -------
    fold : ndarray of int64, shape (n,)
    facts : dict of JSON values
        ``clustered``, ``wasserstein_m``, ``wasserstein_random_m`` (of random folds of groups),
        ``clusters`` (chosen number; None if random), ``to_map_m`` and ``to_training_m`` (medians).

    Raises
    ------
    DataError
        No places to map, other coordinates, or fewer groups than folds.
    """
    if prediction is None or not len(prediction):
        raise DataError(
            "Folds matched to the map need places of the map, and none were given.",
            hint="Give a few thousand random cells (nearest.random_cells), or take blocked folds.",
        )
    wanted = np.asarray(prediction, np.float64)
    if wanted.ndim != 2 or wanted.shape[1] != positions.shape[1] or not np.isfinite(wanted).all():
        raise DataError(
            f"Places to map have the shape {wanted.shape}, samples {positions.shape}; finite "
            "places in the same coordinates were expected.",
            hint="Turn both into coordinates that all sites share (nearest.geocentric).",
        )
    group, groups_held = _numbered(groups)
    if groups_held < count:
        raise DataError(
            f"The samples lie at {groups_held} places; {count} folds were asked for.",
            hint=f"Set folds to {groups_held} or fewer, or add slumps.",
        )
    neighbours = _Neighbours(positions)
    to_map = np.asarray(cKDTree(positions).query(wanted)[0])
    at_random = _random_groups(group, groups_held, count, seed + repetition)
    reached = neighbours.to_others(at_random)
    best, chosen, distance = float(wasserstein_distance(to_map, reached)), at_random, reached
    of_random, clusters = best, None
    alone = neighbours.to_others(group)
    clustered = bool(ks_2samp(alone, to_map, alternative="greater", method="asymp").pvalue < 0.05)
    if clustered:
        for number, fold in _partings(labels, positions, group, count, seed, repetition):
            reached = neighbours.to_others(fold)
            found = float(wasserstein_distance(to_map, reached))
            if found < best:
                best, chosen, clusters, distance = found, fold, number, reached
    return chosen, {
        "clustered": clustered,
        "clusters": clusters,
        "wasserstein_m": best,
        "wasserstein_random_m": of_random,
        "to_map_m": float(np.median(to_map)),
        "to_training_m": float(np.median(distance)),
    }


def _numbered(groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    # In order of appearance: groups of one sample each are then the samples themselves.
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse], int(first.size)


def _random_groups(
    group: NDArray[np.int64], groups: int, count: int, seed: int
) -> NDArray[np.int64]:
    from trainer.susceptibility.folds import fold_numbers, random_folds

    return fold_numbers(random_folds(groups, count, seed), groups)[group]


def _partings(
    labels: NDArray[Any],
    positions: Floats,
    group: NDArray[np.int64],
    count: int,
    seed: int,
    repetition: int,
) -> list[tuple[int, NDArray[np.int64]]]:
    """Return (number of clusters, fold of each sample) for the clusterings that can be dealt."""
    from trainer.susceptibility.folds import fold_numbers, spatial_folds

    size = np.bincount(group)
    centre = np.stack([np.bincount(group, axis) / size for axis in positions.T], axis=1)
    joined = _joined(centre)
    held = np.bincount(joined)
    middle = np.stack([np.bincount(joined, axis) / held for axis in centre.T], axis=1)
    tree = linkage(middle, method="ward")
    most = max(0.5, 1.2 / count) * labels.size
    found: list[tuple[int, NDArray[np.int64]]] = []
    holding = np.unique(group[labels == 1]).size
    for number in np.unique(np.geomspace(count, held.size, _TRIED).round().astype(np.int64)):
        cluster = fcluster(tree, t=int(number), criterion="maxclust")[joined][group]
        if np.unique(cluster[labels == 1]).size < min(count, holding, number):
            continue  # fewer folds than asked for
        rng = None if repetition == 0 else np.random.default_rng([seed, repetition])
        if np.unique(cluster[labels == 1]).size < 2:
            continue
        fold = fold_numbers(spatial_folds(cluster, labels, count, rng), labels.size)
        if np.bincount(fold).max() <= most:
            found.append((int(number), fold))
    return found


def _joined(centre: Floats) -> NDArray[np.int64]:
    """Return a number for each group, shared by neighbours where there are too many groups."""
    if len(centre) <= _LINKED:
        return np.arange(len(centre))
    edge = float(np.ptp(centre, axis=0).max()) / _LINKED
    while True:
        cell = np.floor((centre - centre.min(axis=0)) / edge).astype(np.int64)
        _, found = np.unique(cell, axis=0, return_inverse=True)
        if found.max() < _LINKED:
            return np.asarray(found.ravel(), np.int64)
        edge *= 1.25
