"""What was asked about a site once, so that no tile of it asks again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Lines", "Orbit", "Settled"]


class Orbit(NamedTuple):
    """A viewing geometry: change is only ever taken between images of the same one."""

    direction: Literal["ASCENDING", "DESCENDING"]
    relative: int


class Lines(NamedTuple):
    """Lines of a vector file around a site.

    Attributes
    ----------
    features : int
        Features of the file that are within reach.
    text : str
        JSON: a list of features, each a list of lines, each a list of (longitude, latitude).
    """

    features: int
    text: str


@dataclass(frozen=True)
class Settled:
    """Facts about a site that its expressions take as constants.

    `gee.exports.survey.survey` asks for them. None is "not asked": scripts then decide inside the
    expression, which every tile computes (and pays for) again.

    Attributes
    ----------
    orbits : tuple of Orbit or None
        Sentinel-1 viewing geometries to use.
    look : float or None
        Direction from the ground to the satellite, degrees clockwise from grid north; known
        for a single orbit only.
    incidence : float or None
        Mean incidence angle on the ellipsoid of that orbit over the site, degrees.
    model : str or None
        Model of the slope correction.
    vegetated : float or None
        Share of the site on which plants scatter as a volume, 0 to 1.
    cloud_score : bool or None
        Whether the Sentinel-2 images have Cloud Score+.
    clear_day : date or None
        Day before the change whose Sentinel-2 images show most of the site.
    tree : str or None
        Decision tree of the land cover, as Earth Engine writes it.
    bands : tuple of str or None
        Bands of the change stack that the sources can give.
    left_out : mapping of str to str
        Bands that they cannot, and why.
    images : mapping of str to tuple of str
        Key "s1 pre", "s2 post" and so on: ``system:index`` of the images to use. Without it, all
        of the window: those that the service takes in between two tiles, too.
    vectors : mapping of str to Lines
        Key of `Site.sources` to what the vector file that it names has around the site
        (`gee.vectors.read_vectors`).
    """

    orbits: tuple[Orbit, ...] | None = None
    look: float | None = None
    incidence: float | None = None
    model: Literal["volume", "surface", "per_pixel", "none"] | None = None
    vegetated: float | None = None
    cloud_score: bool | None = None
    clear_day: dt.date | None = None
    tree: str | None = None
    bands: tuple[str, ...] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vectors: Mapping[str, Lines] = field(default_factory=dict, repr=False)
