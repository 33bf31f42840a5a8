"""The land cover's tree, learned once per site and judged, before any tile is computed.

Three requests: which day shows most of the site; the predictors at the points; the tree that they
teach, with the confusion of its folds. Tiles then hold the tree as text.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
import numpy as np
from numpy.typing import NDArray

from gee.exports.faults import words
from gee.points import PER_CLASS, Points, read_points
from gee.scripts import landcover
from gee.scripts.landcover import CLASSES, GROUP, LABEL
from gee.scripts.place import source
from gee.scripts.settled import Settled
from thawslump.errors import DataError

if TYPE_CHECKING:
    from thawslump.site import Site

__all__ = [
    "FOLDS",
    "Learned",
    "dealt_at_random",
    "dealt_by_group",
    "grown",
    "learn",
    "measures",
    "summary",
    "table_of",
]

FOLDS = 5
_MOST = 5000  # points; what the service returns in one answer
_BLOCK = 500.0  # metres
_AGREES = 0.98
Ask = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Learned:
    """A tree, the day of its image, and what is known about it.

    Attributes
    ----------
    tree : str
        As Earth Engine writes it (`ee.Classifier.explain`) and reads it
        (`ee.Classifier.decisionTree`).
    day : date
        Of the Sentinel-2 images.
    facts : dict
        JSON values for item and report: points per class, where they come from, accuracies.
    requests : int
    """

    tree: str
    day: dt.date
    facts: dict[str, Any]
    requests: int


def learn(
    site: Site,
    settled: Settled,
    run: Ask | None = None,
    root: Path = Path(),
    per_class: int = PER_CLASS,
) -> Learned:
    """Learn the land cover of a site.

    Parameters
    ----------
    site : Site
    settled : Settled
        What is known of the site already: orbit, model, cloud scores, images.
    run : callable, optional
        Runs one request (and repeats it after passing faults).
    root : Path
        Where a relative `Site.landcover_points` begins.
    per_class : int
        Most points of one class that are taken from a file.

    Raises
    ------
    DataError
        No clear image; no points, or of one class only; the points' file cannot be used; the
        service's text does not classify as the tree it was written from.
    """

    def ask(request: Callable[[], Any]) -> Any:
        try:
            return request() if run is None else run(request)
        except ee.EEException as error:
            raise DataError(
                f"Site {site.name}: its land cover cannot be learned: {words(error)}",
                hint="Check landcover_points and sources.landcover of the site, or leave "
                f"{landcover.BAND} out of its bands.",
            ) from error

    given = None
    if site.landcover_points is not None:
        given = read_points(root / site.landcover_points, site, per_class)
    day, share, days = _clearest(site, settled, ask)
    settled = replace(settled, clear_day=day, tree=None)
    names, origin = landcover.inputs(site), _origin(site, given)
    grouped = given is not None and given.grouped
    points = landcover.points_of(site) if given is None else given.collection(_crs(site))
    size = None if grouped else _block(site)
    table, groups = table_of(landcover.predictors(site, settled), names, points, site, size, ask)
    _refuse_poor(site, table, origin["from"])
    folds = {"grouped": dealt_by_group(groups, table[:, 0]), "random": dealt_at_random(len(table))}
    answer = grown(table, names, folds, ask)
    agreement = 1 - answer["differ"] / len(table)
    if agreement < _AGREES:
        raise DataError(
            f"Site {site.name}: the land cover's tree, written as text, gives "
            f"{answer['differ']:.0f} of {len(table)} points another class than the tree itself.",
            hint=f"Leave {landcover.BAND} out of the site's bands, and report this.",
        )
    counts = Counter(int(label) for label in table[:, 0])
    facts = {
        "points": {
            **origin,
            "used": len(table),
            "per_class": {CLASSES[number]: counts[number] for number in sorted(counts)},
        },
        "image": {"date": str(day), "clear_share": round(share, 4), "days_looked_at": days},
        "predictors": list(names),
        "tree": {
            "sha256": hashlib.sha256(answer["tree"].encode()).hexdigest(),
            "nodes": int(answer["nodes"]),
            "text_agrees": round(agreement, 6),
        },
        "accuracy": {
            # Grouped first: random folds judge by neighbours of what was learned.
            way: {
                "by": _words(way, size),
                "folds": int(folds[way].max()) + 1,
                **measures(np.asarray(answer[way])),
            }
            if way in answer
            else {"by": _words(way, size), "refused": "all points lie in one group"}
            for way in ("grouped", "random")
        },
        "in_one_group": _alone(table[:, 0], groups),
    }
    return Learned(answer["tree"], day, facts, 3)


def summary(facts: dict[str, Any]) -> list[str]:
    """Return lines that say how far to trust a land cover, grouped folds first.

    Examples
    --------
    >>> folds = {"by": "polygon", "folds": 5, "overall": 0.8, "kappa": 0.7}
    >>> facts = {"points": {"used": 90, "from": "a.gpkg", "per_class": {"water, sea": 90}},
    ...          "image": {"date": "2020-07-01", "clear_share": 0.97},
    ...          "accuracy": {"grouped": folds, "random": {**folds, "by": "point at random"}}}
    >>> print(summary(facts)[1])
    by polygon: overall accuracy 0.80, kappa 0.70 (5 folds)
    """
    points, image = facts["points"], facts["image"]
    lines = [
        f"land cover learned from {points['used']} points of {points['from']} in "
        f"{len(points['per_class'])} classes, image of {image['date']} "
        f"({image['clear_share']:.0%} of the site clear)"
    ]
    for way in ("grouped", "random"):
        found = facts["accuracy"][way]
        if "overall" not in found:
            lines.append(f"by {found['by']}: not known, {found['refused']}")
            continue
        kappa = "none" if found["kappa"] is None else f"{found['kappa']:.2f}"
        lines.append(
            f"by {found['by']}: overall accuracy {found['overall']:.2f}, kappa {kappa} "
            f"({found['folds']} folds)"
        )
    if facts.get("in_one_group"):
        lines.append(
            f"not judged by groups, as all points lie in one: {'; '.join(facts['in_one_group'])}"
        )
    return lines


def measures(matrix: NDArray[Any]) -> dict[str, Any]:
    """Return the accuracies of a confusion matrix.

    Parameters
    ----------
    matrix : ndarray, shape (classes, classes)
        Rows are the true classes, columns the found ones, in the order of `CLASSES`.

    Returns
    -------
    dict
        ``overall``; ``kappa`` (Cohen's; None where chance alone would agree everywhere);
        ``producers`` (share of a class's points that were found) and ``users`` (share of what is
        called a class that is one) by class, None where there is nothing to divide by; ``matrix``.

    Examples
    --------
    >>> matrix = np.zeros((8, 8), int)
    >>> matrix[1, 1], matrix[1, 4], matrix[4, 4] = 6, 2, 8
    >>> found = measures(matrix)
    >>> found["overall"], found["kappa"], found["producers"]["forest, trees, scrub, herbaceous"]
    (0.875, 0.75, 0.75)
    """
    counts = np.asarray(matrix, float)
    total, right = counts.sum(), np.trace(counts)
    rows, cols = counts.sum(axis=1), counts.sum(axis=0)
    chance = float((rows * cols).sum() / total**2)
    present = [k for k in range(len(CLASSES)) if rows[k] or cols[k]]
    names = list(CLASSES.values())

    def shares(whole: NDArray[Any]) -> dict[str, float | None]:
        return {
            names[k]: round(float(counts[k, k] / whole[k]), 4) if whole[k] else None
            for k in present
        }

    overall = float(right / total)
    kappa = None if chance == 1 else round((overall - chance) / (1 - chance), 4)
    return {
        "overall": round(overall, 4),
        "kappa": kappa,
        "producers": shares(rows),
        "users": shares(cols),
        "matrix": counts.astype(int).tolist(),
    }


def dealt_at_random(count: int, folds: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Return a fold per point, all of one size or one more."""
    return np.asarray(np.random.default_rng(seed).permutation(count) % folds, np.int64)


def dealt_by_group(
    groups: Sequence[Any] | NDArray[Any], labels: Sequence[Any] | NDArray[Any], folds: int = FOLDS
) -> NDArray[np.int64]:
    """Return a fold per point: no group is in two, and classes are spread over them evenly.

    Without the second, the few polygons of a rare class may all be held back at once, and the
    figures hang on how the groups were dealt (scikit-learn's StratifiedGroupKFold).

    Parameters
    ----------
    groups, labels : sequences, one entry per point
    folds : int
        Fewer where there are fewer groups, or no class has that many points.

    Examples
    --------
    >>> dealt_by_group(["a", "b", "b", "c", "c", "d"], [1, 1, 1, 2, 2, 2], folds=2).tolist()
    [0, 1, 1, 0, 0, 1]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    parts = min(folds, len(np.unique(np.asarray(groups))), int(counts.max()))
    dealt = np.zeros(len(groups), np.int64)
    if parts < 2:
        return dealt
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
    # Its check that every class has a point per fold is none of groups; ours is `_alone`.
    padded = np.asarray(labels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held) in enumerate(splitter.split(padded, padded, groups)):
            dealt[held] = number
    return np.asarray(np.unique(dealt, return_inverse=True)[1].ravel(), np.int64)


def _alone(labels: NDArray[Any], groups: NDArray[Any]) -> list[str]:
    """Return the classes whose points lie in one group: no fold can both learn and judge them."""
    return [
        CLASSES[int(label)]
        for label in np.unique(labels)
        if len(np.unique(groups[labels == label])) == 1
    ]


def _clearest(site: Site, settled: Settled, ask: Ask) -> tuple[dt.date, float, int]:
    shares = landcover.clear_shares(site, settled)
    columns = ee.Dictionary({k: shares.aggregate_array(k) for k in ("day", "seen")})
    found = ask(columns.getInfo)
    rows = [(s, d) for d, s in zip(found["day"], found["seen"], strict=True) if s is not None]
    # Of equal days the first.
    share, number = max(rows, key=lambda row: (row[0], -row[1]), default=(0.0, 0))
    if share <= 0:
        raise DataError(
            f"Site {site.name}: no day of the window before ({site.pre}) shows any ground clear of "
            "clouds, so there is no image to learn the land cover from.",
            hint=f"Widen the window, or leave {landcover.BAND} out of the site's bands.",
        )
    return dt.date(1970, 1, 1) + dt.timedelta(days=int(number)), float(share), len(rows)


def _block(site: Site) -> float:
    rows, cols = site.grid().shape
    ten = 10 * site.resolution
    # Blocks for every fold also of a small site; ten pixels at least, in tens of pixels.
    return max(ten, min(_BLOCK, min(rows, cols) / FOLDS // 10 * ten))


def table_of(
    image: ee.Image,
    names: Sequence[str],
    points: ee.FeatureCollection,
    site: Site,
    block: float | None,
    ask: Ask,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of an image at points, and which points are alike; one request.

    Parameters
    ----------
    image : ee.Image
        Predictors, any.
    names : sequence of str
        Its bands.
    points : ee.FeatureCollection
        With the property ``landcover``, and ``group`` where `block` is None.
    site : Site
        For the grid on which pixels are read.
    block : float or None
        Side of the squares, in units of the site's CRS, whose points are alike; None takes the
        points' own groups.
    ask : callable
        Runs the request.

    Returns
    -------
    table : ndarray of float, shape (points, 1 + predictors)
        Classes first. Points on masked ground are not there; at most 5,000.
    groups : ndarray of int, shape (points,)
    """
    keep = (GROUP,) if block is None else ()
    found = landcover.sampled(image, points, site, keep=keep).limit(_MOST)

    def with_block(point: ee.Feature) -> ee.Feature:
        point = ee.Feature(point)
        place = point.geometry().transform(ee.Projection(_crs(site)), 0.1).coordinates()
        x, y = (ee.Number(place.get(k)).divide(block).floor() for k in (0, 1))
        return point.set({"block_x": x, "block_y": y})

    if block is not None:
        found = found.map(with_block)
    columns = [LABEL, *names, *(keep or ("block_x", "block_y"))]
    rows = found.reduceColumns(ee.Reducer.toList(len(columns)), columns)
    table = np.array(ask(ee.List(rows.get("list")).getInfo), float).reshape(-1, len(columns))
    values, places = np.split(table, [1 + len(names)], axis=1)
    if not len(table):
        return values, np.zeros(0, int)
    return values, np.unique(places, axis=0, return_inverse=True)[1].ravel()


def _refuse_poor(site: Site, table: NDArray[Any], where: str) -> None:
    counts = Counter(int(label) for label in table[:, 0])
    if len(counts) > 1:
        return
    there = "none" if not counts else f"{len(table)} of class {CLASSES[next(iter(counts))]} only"
    raise DataError(
        f"Site {site.name}: a land cover needs points of two classes at least; of {where} there "
        f"are {there} on ground that all predictors show.",
        hint=f"Give landcover_points, or leave {landcover.BAND} out of the site's bands.",
    )


def _crs(site: Site) -> str:
    from gee.grids import crs_code

    return crs_code(site.grid())


def grown(
    table: NDArray[Any], names: Sequence[str], folds: dict[str, NDArray[Any]], ask: Ask
) -> dict[str, Any]:
    """Return the tree of a table and how its folds are judged; one request.

    Parameters
    ----------
    table : ndarray, shape (points, 1 + predictors)
        From `table_of`.
    names : sequence of str
        Predictors.
    folds : dict of str to ndarray of int, shape (points,)
        Ways of holding points back, each with the fold of every point.
    ask : callable
        Runs the request.

    Returns
    -------
    dict
        ``tree`` (text), ``nodes``, ``differ`` (points to which the text gives another class than
        the tree it was written from), and the confusion matrix of each way with two folds or more.
    """
    columns = [LABEL, *names, *folds]
    # A list of lists, not a feature each: the request stays small.
    numbers = np.column_stack([table, *folds.values()]).tolist()

    def feature(row: Any) -> ee.Feature:
        return ee.Feature(None, ee.Dictionary.fromLists(columns, ee.List(row)))

    training = ee.FeatureCollection(ee.List(numbers).map(feature))
    tree = landcover.trained(training, list(names))
    explained = tree.explain()
    text = ee.String(explained.get("tree"))
    twice = training.classify(tree, "grown").classify(ee.Classifier.decisionTree(text), "read")
    same = ee.Filter.equals(leftField="grown", rightField="read")
    question: dict[str, Any] = {
        "tree": text,
        "nodes": explained.get("numberOfNodes", 0),
        "differ": twice.filter(same.Not()).size(),
    }
    for way, numbered in folds.items():
        count = int(numbered.max()) + 1
        if count > 1:
            question[way] = landcover.judged(training, list(names), way, count).array()
    return dict(ask(ee.Dictionary(question).getInfo))


def _origin(site: Site, given: Points | None) -> dict[str, Any]:
    if given is not None:
        return {"from": given.name, "sha256": given.sha256, "features_outside": given.outside}
    if "landcover_points" in site.sources:
        return {"from": source(site, "landcover_points")}
    return {
        "from": source(site, "landcover"),
        "note": "drawn from a map, whose own errors no figure here shows",
    }


def _words(way: str, size: float | None) -> str:
    if way == "random":
        return "point at random"
    return "polygon or group" if size is None else f"block of {size:g} m"
