"""What the inventory holds: outlines in one form, candidates, decisions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from thawslump.errors import DataError

__all__ = [
    "DECISIONS",
    "KINDS",
    "Candidate",
    "Decision",
    "DecisionConflict",
    "areas",
    "as_feature",
    "canonical_geometry",
    "stable_id",
    "with_rank",
]

DECISIONS = {"accept": "accepted", "reject": "rejected", "unsure": "unsure"}
"""Decision -> state of the candidate."""

KINDS = ("people", "scripted", "import")
"""Who decided: people, a script (always named so), or outlines that a user brought."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "inventory.thawslump")
_DIGITS = 7


class DecisionConflict(DataError):
    """Another reviewer decided the candidate since it was shown."""


@dataclass(frozen=True)
class Candidate:
    """An outline that an ensemble proposed.

    Attributes
    ----------
    candidate_id : str
        UUID5 of round, site and outline: the same outline has the same name in every run.
    round, rank : int
        Round of the iteration; place in the order of review, 1 first.
    site : str
    geometry : MultiPolygon
        EPSG:4326.
    probability_mean, probability_max, disagreement, filled : float
        0..1; means over the outline's pixels (`probability_max` excepted).
    area_m2, score : float
        Geodesic area; what the order of review is by, 0..1.
    made_up : bool
    state : {"open", "accepted", "rejected", "unsure"}
    """

    candidate_id: str
    round: int
    site: str
    rank: int
    geometry: MultiPolygon
    probability_mean: float
    probability_max: float
    disagreement: float
    filled: float
    area_m2: float
    score: float
    made_up: bool
    state: str = "open"


@dataclass(frozen=True)
class Decision:
    """A row of the layer ``decisions``.

    Attributes
    ----------
    number : int
        Counts up; the order in which decisions were made.
    time : str
        UTC, ISO 8601.
    candidate_id : str or None
        None for an import of outlines.
    decision : {"accept", "reject", "unsure", "undo", "import"}
    reviewer : str
    kind : {"people", "scripted", "import"}
    edited : bool
        The reviewer changed the outline; `geometry` is the changed one.
    undoes : int or None
        Number of the decision that this row takes back.
    """

    number: int
    time: str
    candidate_id: str | None
    round: int
    site: str
    decision: str
    reviewer: str
    kind: str
    edited: bool
    note: str | None
    seconds: float | None
    undoes: int | None
    request: str
    geometry: MultiPolygon | None


def canonical_geometry(geometry: BaseGeometry) -> MultiPolygon:
    """Return an outline as a normalised MultiPolygon on the 1e-7 degree grid.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon
        EPSG:4326.

    Returns
    -------
    MultiPolygon

    Raises
    ------
    DataError
        Not a polygon, empty, or outside -180..180 / -90..90 degrees.

    Examples
    --------
    >>> canonical_geometry(shapely.box(0, 0, 1.00000000001, 1)).wkt
    'MULTIPOLYGON (((0 0, 0 1, 1 1, 1 0, 0 0)))'
    """
    if geometry.is_empty or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        raise DataError(
            f"An outline must be a Polygon or MultiPolygon that is not empty; "
            f"this one is {'empty' if geometry.is_empty else 'a ' + geometry.geom_type}.",
            hint="Draw the outline again, or leave the feature out.",
        )
    west, south, east, north = geometry.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise DataError(
            f"An outline spans {west:.6g}..{east:.6g}, {south:.6g}..{north:.6g}: "
            "longitude and latitude in degrees were expected.",
            hint="Bring the outlines to EPSG:4326 first.",
        )
    rounded = shapely.transform(shapely.force_2d(geometry), lambda xy: np.round(xy, _DIGITS) + 0.0)
    if not rounded.is_valid:
        rounded = shapely.make_valid(rounded, method="structure", keep_collapsed=False)
    if rounded.is_empty or rounded.geom_type not in ("Polygon", "MultiPolygon"):
        raise DataError(
            "An outline has no area once rounded to a centimetre.",
            hint="Draw the outline again, or leave the feature out.",
        )
    if rounded.geom_type == "Polygon":
        rounded = MultiPolygon([rounded])
    normal = shapely.normalize(rounded)
    assert isinstance(normal, MultiPolygon)
    return normal


def stable_id(*parts: object) -> str:
    """Return the UUID5 of some words and outlines: equal parts, equal name.

    Examples
    --------
    >>> stable_id(1, "a") == stable_id(1, "a") != stable_id(1, "b")
    True
    """
    text = "|".join(p.wkb_hex if isinstance(p, BaseGeometry) else str(p) for p in parts)
    return str(uuid.uuid5(_NAMESPACE, text))


def areas(shapes: Iterable[BaseGeometry]) -> list[float]:
    """Return geodesic areas on the WGS 84 ellipsoid in square metres.

    Parameters
    ----------
    shapes : iterable of polygons
        EPSG:4326; rings in the order that `shapely.normalize` gives (holes against the shell).

    Examples
    --------
    >>> round(areas([canonical_geometry(shapely.box(0, 0, 0.001, 0.001))])[0], 1)
    12309.1
    """
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    return [abs(geod.geometry_area_perimeter(shape)[0]) for shape in shapes]


def with_rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates ranked by score, highest first; equal scores by id."""
    ordered = sorted(candidates, key=lambda c: (-c.score, c.candidate_id))
    return [replace(c, rank=i) for i, c in enumerate(ordered, start=1)]


def as_feature(candidate: Candidate) -> Mapping[str, Any]:
    """Return a candidate as a GeoJSON feature (RFC 7946)."""
    shape = shapely.orient_polygons(candidate.geometry)
    return {
        "type": "Feature",
        "id": candidate.candidate_id,
        "geometry": shapely.geometry.mapping(shape),
        "properties": {
            "round": candidate.round,
            "site": candidate.site,
            "rank": candidate.rank,
            "score": round(candidate.score, 4),
            "probability_mean": round(candidate.probability_mean, 4),
            "probability_max": round(candidate.probability_max, 4),
            "disagreement": round(candidate.disagreement, 4),
            "filled": round(candidate.filled, 4),
            "area_m2": round(candidate.area_m2, 1),
            "made_up": candidate.made_up,
        },
    }
