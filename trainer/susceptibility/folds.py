"""Ways to part samples into training and test: by chance, and so that the test is new ground.

Which kind answers which question: ``random`` how well gaps between samples are filled; ``blocked``
and ``buffered`` how well ground a block away is foretold; ``regions`` a region never seen;
``nearest`` the places that are to be mapped, as far from the samples as those are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans
from sklearn.model_selection import KFold

from thawslump.errors import DataError
from trainer.susceptibility.samples import block_ids

__all__ = [
    "KINDS",
    "Folds",
    "Plan",
    "described",
    "fold_numbers",
    "folds",
    "plan",
    "random_folds",
    "spatial_folds",
]

Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
KINDS = ("random", "blocked", "buffered", "regions", "nearest")

# Numbers of one site's blocks stay below this (`samples.block_ids`).
_APART = 10**15
# Origins of the blocks that are tried before the blocks are made smaller.
_ORIGINS = 20


@dataclass(frozen=True)
class Plan:
    """Folds, the ground that models with folds of their own must not split, and what to tell.

    Attributes
    ----------
    folds : list of (train, test)
        Ascending positions of the samples.
    blocks : ndarray of int64, shape (n,), or None
        None where the folds are random: inner folds then are, too.
    facts : dict of JSON values
        `described` puts them into words. ``same_every_repetition`` says that other repetitions
        would give the same folds.
    """

    folds: Folds
    blocks: NDArray[np.int64] | None
    facts: dict[str, Any]


def random_folds(samples: int, folds: int, seed: int) -> Folds:
    """Return (train, test) positions of a shuffled k-fold split, as the papers did it."""
    split = KFold(folds, shuffle=True, random_state=seed)
    return [(train, test) for train, test in split.split(np.zeros(samples))]


def spatial_folds(
    blocks: NDArray[np.int64],
    labels: NDArray[np.uint8],
    folds: int,
    rng: np.random.Generator | None = None,
) -> Folds:
    """Return (train, test) positions where no block is on both sides.

    As scikit-learn's GroupKFold, but blocks with slumps are dealt out first, so that every fold
    has some: the largest goes to the fold with the fewest slump samples (then fewest samples).

    Parameters
    ----------
    blocks : ndarray of int64, shape (n,)
        Block of each sample.
    labels : ndarray, shape (n,)
        1 slump, 0 not.
    folds : int
        Lowered to the number of blocks that hold slumps where there are fewer.
    rng : numpy.random.Generator, optional
        Deals otherwise each time: sizes are taken times a random number from 0.5 to 1.5.

    Returns
    -------
    list of (train, test)
        Ascending positions; the same for the same input.

    Raises
    ------
    DataError
        All slumps lie in one block.

    Examples
    --------
    >>> blocks, labels = np.array([7, 7, 9, 9, 5]), np.array([1, 0, 1, 0, 0])
    >>> [test.tolist() for _, test in spatial_folds(blocks, labels, 5)]
    [[0, 1, 4], [2, 3]]
    """
    distinct, inverse = np.unique(blocks, return_inverse=True)
    positives = np.bincount(inverse, weights=labels == 1, minlength=distinct.size).astype(np.int64)
    sizes = np.bincount(inverse, minlength=distinct.size)
    holding = int((positives > 0).sum())
    if holding < 2:
        raise DataError(
            f"The {int(positives.sum())} slump samples lie in {holding} block; "
            "spatial folds need slumps in at least 2.",
            hint="Make block_size smaller, or add sites or slumps.",
        )
    count = min(folds, holding)
    fold_of = np.zeros(distinct.size, np.int64)
    totals = [(0, 0)] * count
    seen_as = np.ones(distinct.size) if rng is None else rng.uniform(0.5, 1.5, distinct.size)
    for block in np.lexsort((distinct, -sizes * seen_as, -positives * seen_as)):
        if positives[block] == 0:
            fold = min(range(count), key=lambda each: (totals[each][1], each))
        else:
            fold = min(range(count), key=lambda each: (*totals[each], each))
        fold_of[block] = fold
        totals[fold] = (
            totals[fold][0] + int(positives[block]),
            totals[fold][1] + int(sizes[block]),
        )
    return _of_numbers(fold_of[inverse])


def _of_numbers(fold_of: NDArray[np.int64]) -> Folds:
    return [
        (np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold))
        for fold in np.unique(fold_of)
    ]


def fold_numbers(folds: Folds, samples: int) -> NDArray[np.int64]:
    """Return the test fold of each sample, -1 where it is never tested.

    Examples
    --------
    >>> fold_numbers([(np.array([1]), np.array([0])), (np.array([0]), np.array([1]))], 3).tolist()
    [0, 1, -1]
    """
    found = np.full(samples, -1, np.int64)
    for number, (_, test) in enumerate(folds):
        found[test] = number
    return found


def folds(kind: str, labels: NDArray[np.uint8], places: NDArray[np.float64], **given: Any) -> Folds:
    """Return only the (train, test) positions of `plan`, which takes the same arguments.

    Examples
    --------
    >>> labels = np.array([1, 0, 1, 0], np.uint8)
    >>> places = np.array([[0.0, 0.0], [10.0, 0.0], [900.0, 0.0], [990.0, 0.0]])
    >>> [test.tolist() for _, test in folds("blocked", labels, places, block_size=500.0)]
    [[0, 1], [2, 3]]
    """
    return plan(kind, labels, places, **given).folds


def plan(
    kind: str,
    labels: NDArray[np.uint8],
    places: NDArray[np.float64],
    sites: NDArray[np.int64] | None = None,
    *,
    count: int = 5,
    seed: int = 0,
    repetition: int = 0,
    block_size: float = 1000.0,
    block_shape: Literal["square", "kmeans"] = "square",
    buffer: float = 500.0,
    positions: NDArray[np.float64] | None = None,
    groups: NDArray[np.int64] | None = None,
    prediction: NDArray[np.float64] | None = None,
) -> Plan:
    """Part the samples into training and test.

    Parameters
    ----------
    kind : {"random", "blocked", "buffered", "regions", "nearest"}
        - ``random``: shuffled, as in the papers.
        - ``blocked``: blocks of ground are dealt out to the folds, so that each holds slumps
          (`spatial_folds`). Repetition 0 has its blocks from the origin of `places`; others shift
          them and deal them otherwise.
        - ``buffered``: the same, and no training sample lies within `buffer` of a test sample.
        - ``regions``: each site once; with one site, `count` regions by k-means of the places.
        - ``nearest``: as far from training as the places to map are from the samples
          (`nearest.match`).
    labels : ndarray, shape (n,)
        1 slump, 0 not.
    places : ndarray of float64, shape (n, 2)
        Metres east and north, of its site. Samples of one place stay together, so give all
        samples of a slump one place.
    sites : ndarray of int64, shape (n,), optional
        Sites share no block, however near their places; left out, there is one.
    count : int
        Folds; fewer where fewer blocks hold slumps.
    seed, repetition : int
        Equal ones give equal folds.
    block_size : float
        Edge in metres of square blocks; halved, up to six times, while fewer than two hold slumps.
    block_shape : {"square", "kmeans"}
        ``kmeans``: as many clusters of places as folds, shared among the sites by their samples
        (at least one each): as in Brenning 2012 (doi 10.1109/IGARSS.2012.6352393).
    buffer : float
        In metres; of ``buffered``.
    positions : ndarray of float64, shape (n, d), optional
        Where each sample itself lies, in metres, in coordinates that all sites share
        (`nearest.geocentric`): distances of ``buffered`` and ``nearest`` are taken there. Left out,
        `places` are, and sites lie infinitely apart.
    groups : ndarray of int64, shape (n,), optional
        Samples that ``nearest`` keeps together; left out, those of one place.
    prediction : ndarray of float64, shape (m, d), optional
        Of ``nearest``: a few thousand random places of the map, in the coordinates of `positions`.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        Another kind, shapes that do not fit, too few slumps for the folds, or a training part that
        holds one class only.

    Examples
    --------
    >>> labels = np.array([1, 0, 1, 0], np.uint8)
    >>> places = np.array([[0.0, 0.0], [10.0, 0.0], [900.0, 0.0], [990.0, 0.0]])
    >>> plan("regions", labels, places, np.array([0, 0, 4, 4])).facts["regions"]
    'sites'
    """
    labels, places = np.asarray(labels), np.asarray(places, np.float64)
    site = np.zeros(labels.size, np.int64) if sites is None else np.asarray(sites, np.int64)
    _checked(kind, labels, places, site, count)
    facts: dict[str, Any] = {
        "kind": kind,
        "folds_asked": count,
        "same_every_repetition": False,
    }
    blocks: NDArray[np.int64] | None = None
    if kind == "random":
        found = random_folds(labels.size, count, seed + repetition)
    else:
        rng = None if repetition == 0 else np.random.default_rng([seed, repetition])
        blocks, cut = _blocks(labels, places, site, count, seed, rng, block_size, block_shape)
        if kind in ("blocked", "buffered"):
            facts |= cut
            found = spatial_folds(blocks, labels, count, rng)
            if kind == "buffered":
                where = _common(places, site) if positions is None else np.asarray(positions)
                found, lost = _buffered(found, labels, where, buffer)
                facts |= {"buffer_m": buffer, **lost}
        elif kind == "regions":
            found, told = _regions(places, site, count, seed + repetition)
            facts |= told
        else:
            from trainer.susceptibility.nearest import match

            where = places if positions is None else np.asarray(positions, np.float64)
            if positions is None and np.unique(site).size > 1:
                raise DataError(
                    f"The samples lie in {np.unique(site).size} sites, whose places do not tell "
                    "how far apart they are.",
                    hint="Give positions that all sites share (nearest.geocentric).",
                )
            if groups is None:
                _, groups = np.unique(_common(places, site), axis=0, return_inverse=True)
            of, told = match(
                labels, where, np.asarray(groups).ravel(), prediction, count, seed, repetition
            )
            found = _of_numbers(of)
            facts |= told
    _trainable(found, labels, kind)
    facts["folds"] = len(found)
    return Plan(found, blocks, facts)


def described(facts: Mapping[str, Any]) -> str:
    """Return one sentence on folds, from the facts of their `Plan`.

    Examples
    --------
    >>> described({"kind": "random", "folds": 5, "folds_asked": 5})
    '5 random folds.'
    """
    number = facts["folds"]
    kind = facts["kind"]
    if kind == "random":
        return f"{number} random folds."
    if kind == "regions":
        what = "sites" if facts["regions"] == "sites" else "regions by k-means (there is one site)"
        return f"Each of {number} {what} left out once."
    if kind == "nearest":
        if not facts["clustered"]:
            return (
                f"{number} random folds: the samples lie no closer to one another than the places "
                "to map lie to them."
            )
        words = (
            f"{number} folds matched to the places to map: distances differ by "
            f"{facts['wasserstein_m']:.0f} m on average, with random folds by "
            f"{facts['wasserstein_random_m']:.0f} m."
        )
        if facts["to_map_m"] > 2 * facts["to_training_m"]:
            words += (
                f" Half of the places to map still lie more than {facts['to_map_m']:.0f} m from "
                f"all samples, the tests {facts['to_training_m']:.0f} m from training: what is "
                "said of them is too good; compare with regions."
            )
        return words
    ground = (
        f"{facts['blocks']} clusters of places"
        if facts["block_shape"] == "kmeans"
        else f"{facts['blocks']} blocks of {facts['block_size_m']:g} m"
    )
    words = f"{number} folds of {ground}"
    if number < facts["folds_asked"]:
        words += f" (no more blocks hold slumps; {facts['folds_asked']} were asked for)"
    if kind == "buffered":
        words += (
            f"; training samples within {facts['buffer_m']:g} m of the test left out "
            f"({facts['left_out_share']:.0%})"
        )
    return words + "."


def _checked(
    kind: str,
    labels: NDArray[Any],
    places: NDArray[np.float64],
    sites: NDArray[np.int64],
    count: int,
) -> None:
    if kind not in KINDS:
        raise DataError(f'Folds of the kind "{kind}" were asked for; known are {", ".join(KINDS)}.')
    if places.ndim != 2 or not len(places) == labels.size == sites.size:
        raise DataError(
            f"There are places of shape {places.shape} and {sites.size} sites for "
            f"{labels.size} samples.",
            hint="Give one place (x, y) and one site per sample.",
        )
    if not np.isfinite(places).all():
        raise DataError(
            f"{int((~np.isfinite(places).all(axis=1)).sum())} samples have no place.",
            hint="Leave them out: they belong to no ground.",
        )
    if count < 2:
        raise DataError(f"{count} fold was asked for.", hint="Give 2 or more.")
    slumps = int((labels == 1).sum())
    least = min(slumps, labels.size - slumps)
    if least < 2 or (kind == "random" and slumps < count):
        raise DataError(
            f"There are {slumps} slump samples and {labels.size - slumps} others for {count} folds "
            f"({kind}).",
            hint=f"Set folds to {slumps} or fewer."
            if slumps >= 2 and least >= 2
            else "Add slumps and ground without: at least 2 samples of each.",
        )


def _common(places: NDArray[np.float64], sites: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return places with a third coordinate that keeps sites apart farther than anything else."""
    far = 10.0 * float(np.ptp(places, axis=0).max(initial=0.0)) + 1e7
    return np.column_stack([places, sites * far])


def _blocks(
    labels: NDArray[Any],
    places: NDArray[np.float64],
    sites: NDArray[np.int64],
    count: int,
    seed: int,
    rng: np.random.Generator | None,
    size: float,
    shape: str,
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    if shape == "kmeans":
        state = seed if rng is None else int(rng.integers(2**31))
        blocks = _clusters(places, sites, count, state)
        return blocks, {"block_shape": shape, "blocks": int(np.unique(blocks).size)}
    if shape != "square":
        raise DataError(f'Blocks of the shape "{shape}" were asked for; known: square, kmeans.')
    asked, positive = size, labels == 1
    for halved in range(7):
        for _ in range(1 if rng is None else _ORIGINS):
            origin = (0.0, 0.0) if rng is None else tuple(-size * rng.random(2))
            blocks = block_ids(places[:, 0], places[:, 1], origin, size) + sites * _APART
            holding = np.unique(blocks[positive]).size
            if holding >= 2:
                break
        if holding >= 2 or halved == 6:
            break
        size /= 2
    return blocks, {
        "block_shape": shape,
        "block_size_m": size,
        "block_size_asked_m": asked,
        "blocks": int(np.unique(blocks).size),
    }


def _clusters(
    places: NDArray[np.float64], sites: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Return clusters of places: `count` in all, but at least one of every site."""
    found = np.zeros(len(places), np.int64)
    number = 0
    for site in np.unique(sites):
        here = np.flatnonzero(sites == site)
        wanted = max(1, round(count * here.size / len(places)))
        wanted = min(wanted, len(np.unique(places[here], axis=0)))
        if wanted > 1:
            # One start, as in the literature: repetitions then differ.
            made = KMeans(wanted, n_init=1, random_state=seed).fit_predict(places[here])
        else:
            made = np.zeros(here.size, np.int64)
        found[here] = made + number
        number += wanted
    return found


def _regions(
    places: NDArray[np.float64], sites: NDArray[np.int64], count: int, seed: int
) -> tuple[Folds, dict[str, Any]]:
    if np.unique(sites).size > 1:
        return _of_numbers(sites), {"regions": "sites", "same_every_repetition": True}
    regions = _clusters(places, sites, count, seed)
    if np.unique(regions).size < 2:
        raise DataError(
            "All samples lie at one place of one site; no region can be left out.",
            hint="Add a site, or take random folds.",
        )
    return _of_numbers(regions), {"regions": "k-means"}


def _buffered(
    folds: Folds, labels: NDArray[Any], positions: NDArray[np.float64], buffer: float
) -> tuple[Folds, dict[str, float]]:
    if buffer < 0:
        raise DataError(f"A buffer of {buffer:g} m was asked for.", hint="Give 0 or more.")
    found, lost = [], []
    for number, (train, test) in enumerate(folds):
        distance, _ = cKDTree(positions[test]).query(positions[train])
        kept = train[distance > buffer]
        if np.unique(labels[kept]).size < 2:
            raise DataError(
                f"Within {buffer:g} m of the test ground of fold {number + 1} of {len(folds)} lie "
                f"{train.size - kept.size} of its {train.size} training samples; of "
                f"{'slumps' if not (labels[kept] == 1).any() else 'ground without slumps'} "
                "none is left.",
                hint="Make fold_buffer smaller or block_size larger, or add sites.",
            )
        found.append((kept, test))
        lost.append(1.0 - kept.size / train.size)
    return found, {
        "left_out_share": float(np.mean(lost)),
        "left_out_share_most": float(np.max(lost)),
    }


def _trainable(folds: Folds, labels: NDArray[Any], kind: str) -> None:
    for number, (train, _) in enumerate(folds):
        if np.unique(labels[train]).size < 2:
            held = "slumps" if (labels[train] == 1).any() else "ground without slumps"
            raise DataError(
                f"The training part of fold {number + 1} of {len(folds)} ({kind}) holds only "
                f"{held} ({train.size} samples).",
                hint="Use fewer folds or smaller blocks, or add slumps in other places.",
            )
