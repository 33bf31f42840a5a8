"""What the collections hold for a site, asked once per collection before any pixel."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import ee

from gee.exports.factor_sources import refuse_unfit
from gee.exports.faults import words
from gee.exports.landcover import learn
from gee.scripts import landcover, sentinel1, sentinel2, stack
from gee.scripts.place import in_window, is_tiled, region, source
from gee.scripts.settled import Orbit, Settled
from gee.vectors import read_vectors
from thawslump.areas import Part
from thawslump.errors import DataError

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = ["NothingThere", "Picture", "Survey", "survey"]

T = TypeVar("T")
Side = Literal["pre", "post"]
_SIDES: tuple[Side, ...] = ("pre", "post")
_ROUGHLY = 100  # metres to which covered areas are computed
_MOST = 5000  # images per window; more than any window holds
_PROPERTIES = (
    "system:index",
    "system:time_start",
    "orbitProperties_pass",
    "relativeOrbitNumber_start",
    "made_up",
    "platform_number",
)
_NEEDED = {"s1": ("VV", "VH"), "s2": ("B2", "B3", "B4", "B8", "SCL")}
_TITLES = {"s1": "Sentinel-1", "s2": "Sentinel-2"}


class NothingThere(DataError):
    """A source shows nothing of a place.

    Attributes
    ----------
    key : str
        "s1", "s2" or "dem".
    """

    key: str = ""


@contextlib.contextmanager
def _about(key: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        told = NothingThere(error.message, hint=error.hint)
        told.key = key
        raise told from error


@dataclass(frozen=True)
class Picture:
    """One image of a window."""

    index: str
    date: dt.date
    orbit: Orbit | None
    made_up: bool
    platform: str | None = None
    """Sentinel-1 satellite: A, B, C or D."""
    share: float = 1.0
    """Share of the site that the image covers."""


@dataclass(frozen=True)
class Survey:
    """What an export will use.

    Attributes
    ----------
    pictures : dict
        Key ``(source, side)``, for example ``("s1", "pre")``; in order of time.
    settled : Settled
        What the scripts take as constants: the viewing geometry of Sentinel-1 among them.
    other_orbits : tuple of Orbit
        Others that have images on both sides too, and are left out.
    requests : int
        Requests that the survey took.
    """

    pictures: dict[tuple[str, Side], tuple[Picture, ...]]
    settled: Settled
    requests: int
    other_orbits: tuple[Orbit, ...] = ()
    landcover: Mapping[str, Any] | None = None
    """How far the site's land cover is to be trusted, for its item; None where it is not made."""

    @property
    def orbits(self) -> tuple[Orbit, ...] | None:
        """The viewing geometry of Sentinel-1 that is used; None where the images do not say."""
        return self.settled.orbits

    @property
    def platforms(self) -> dict[Side, dict[str, int]]:
        """Images of each Sentinel-1 satellite by side, where the images say."""
        return {
            side: dict(
                sorted(
                    Counter(
                        picture.platform
                        for picture in self.pictures.get(("s1", side), ())
                        if picture.platform is not None
                    ).items()
                )
            )
            for side in _SIDES
        }

    @property
    def made_up(self) -> bool:
        return any(picture.made_up for group in self.pictures.values() for picture in group)

    @property
    def images(self) -> int:
        return sum(len(group) for group in self.pictures.values())


def survey(
    site: Site, ask: Callable[[Callable[[], T]], T] | None = None, root: Path = Path()
) -> Survey:
    """Ask what there is for a site, and refuse what cannot work, in words that say why.

    Parameters
    ----------
    site : Site
    ask : callable, optional
        Runs one request (and repeats it after passing faults).
    root : Path
        Where relative paths of the site's own files begin: the workspace.

    Raises
    ------
    DataError
        A collection is not there; the site lies outside its images; a window is empty (which one,
        and what dates there are); bands are missing; no viewing geometry of Sentinel-1 on both
        sides; no DEM.
    """
    run: Callable[[Callable[[], Any]], Any] = ask or (lambda request: request())
    vectors = read_vectors(root, site)
    pictures: dict[tuple[str, Side], tuple[Picture, ...]] = {}
    requests = 0
    bands: dict[str, set[str]] = {}
    keys = [key for key in ("s2", "s1") if source(site, key) != "none"]
    for key in keys:
        found = _inventory(site, key, run)
        requests += 1
        for side in _SIDES:
            rows = sorted(found[side], key=lambda row: (row[1], row[0]))
            pictures[key, side] = tuple(_picture(row) for row in rows)
            if not rows:
                with _about(key):
                    _refuse_empty(site, key, side, found, run)
        bands[key] = {name for names in found["bands"] for name in names}
        _refuse_bands(site, key, bands[key])
    with _about("dem"):
        _refuse_dem(site, run)
    orbits: tuple[Orbit, ...] | None = None
    others: tuple[Orbit, ...] = ()
    if "s1" in keys:
        with _about("s1"):
            shared = _orbits_on_both_sides(site, pictures["s1", "pre"], pictures["s1", "post"])
        if shared is not None:
            orbits, others = shared[:1], shared[1:]
            for side in _SIDES:
                pictures["s1", side] = tuple(
                    picture for picture in pictures["s1", side] if picture.orbit in orbits
                )
    settled, more = _settle(site, orbits, bands["s2"], run)
    chosen = {
        f"{key} {side}": tuple(picture.index for picture in group)
        for (key, side), group in pictures.items()
    }
    settled = replace(settled, images=chosen, vectors=vectors)
    more += refuse_unfit(site, run)
    settled = replace(settled, cloud_score=_has_scores(site, run))
    more += settled.cloud_score is not None
    settled, facts, learning = _learn(site, settled, run, root)
    more += learning
    return Survey(pictures, settled, requests + 1 + more, others, facts)


def _has_scores(site: Site, run: Callable[[Callable[[], Any]], Any]) -> bool | None:
    """Tell whether the images have Cloud Score+; None where the site does not want to know."""
    if site.cloud_mask == "scl":
        return None
    try:
        there = bool(run(sentinel2.cloud_score_there(site).getInfo))
    except ee.EEException as error:
        # An emulator need not hold the collection. Anything else is not for us to pass over.
        if "not found" not in words(error):
            raise
        there = False
    sentinel2.by_score(site, Settled(cloud_score=there))  # refuses scores that are not there
    return there


def _learn(
    site: Site, settled: Settled, run: Callable[[Callable[[], Any]], Any], root: Path
) -> tuple[Settled, Mapping[str, Any] | None, int]:
    """Return what is settled with the land cover's tree, what is known of it, requests taken."""
    name = landcover.BAND
    if settled.bands is None or name not in settled.bands:
        return settled, None, 0
    try:
        found = learn(site, settled, run, root)
    except DataError as error:
        # Points of the user's own are meant to be used; a map may just not fit, and not every
        # part of a large area holds points.
        if landcover.has_points(site) and not isinstance(site, Part):
            raise
        # What the service refuses is no property of the site; a band left out would hide it.
        if isinstance(error.__cause__, ee.EEException):
            raise
        left = tuple(band for band in settled.bands if band != name)
        why = {**settled.left_out, name: error.message}
        return replace(settled, bands=left, left_out=why), None, 2
    settled = replace(settled, clear_day=found.day, tree=found.tree)
    return settled, found.facts, found.requests


def _settle(
    site: Site,
    orbits: tuple[Orbit, ...] | None,
    optical: set[str],
    run: Callable[[Callable[[], Any]], Any],
) -> tuple[Settled, int]:
    """Return what tiles take as constants, and how many requests it took."""
    missing = stack.left_out(site)
    requests = 0
    map_id = source(site, "landcover")
    has_map = False
    if map_id != "none" and (
        "CART_LC_classified" in site.bands or site.slope_correction in ("auto", "per_pixel")
    ):
        has_map = _shows(site, map_id, run)
        requests += 1
    if "CART_LC_classified" in site.bands and "CART_LC_classified" not in missing:
        lacking = [band for band in landcover.OPTICAL if band not in optical]
        if lacking:
            missing["CART_LC_classified"] = (
                f"the images of {source(site, 's2')} have no band {', '.join(lacking)}"
            )
        elif not has_map and not landcover.has_points(site):
            missing["CART_LC_classified"] = (
                f"{map_id} shows nothing of the site, and there are no landcover_points"
            )
    settled = Settled(
        orbits=orbits,
        bands=tuple(name for name in site.bands if name not in missing),
        left_out=missing,
    )
    if source(site, "s1") == "none" or site.slope_correction == "none":
        return replace(settled, model="none"), requests
    if site.slope_correction == "per_pixel" and not has_map:
        raise DataError(
            f"Site {site.name}: slope_correction is per_pixel, but {map_id} shows nothing of it.",
            hint="Name another map under sources.landcover, or set slope_correction: volume.",
        )
    orbit = orbits[0] if orbits is not None and len(orbits) == 1 else None
    facts = run(sentinel1.survey_facts(site, orbit, with_map=has_map).getInfo)
    share = facts.get("vegetated")
    model: Any = site.slope_correction
    if model == "auto":
        # Where no map tells: plants cover most ground that thaws.
        model = "volume" if share is None or share >= 0.5 else "surface"
    settled = replace(
        settled,
        look=_rounded(facts.get("look")),
        incidence=_rounded(facts.get("incidence")),
        vegetated=_rounded(share),
        model=model,
    )
    return settled, requests + 1


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _shows(site: Site, name: str, run: Callable[[Callable[[], Any]], Any]) -> bool:
    """Tell whether a map is there and touches a site."""
    tiles = name.removesuffix("/*") if is_tiled(name) else [ee.Image(name)]
    try:
        return bool(run(ee.ImageCollection(tiles).filterBounds(region(site)).size().getInfo))
    except ee.EEException as error:
        # An emulator need not hold the map. Anything else is not for us to pass over.
        if "not found" not in words(error):
            raise
        return False


def _collection(site: Site, key: str) -> ee.ImageCollection:
    return sentinel1.collection(site) if key == "s1" else sentinel2.collection(site)


def _window(site: Site, side: Side) -> Window:
    window = site.pre if side == "pre" else site.post
    assert window is not None  # a Site from Earth Engine has both
    return window


def _rows(images: ee.ImageCollection, place: ee.Geometry) -> ee.List:
    # A list of lists keeps missing properties as null and the columns together.
    def row(image: ee.Image) -> ee.List:
        image = ee.Image(image)
        covered = image.geometry().intersection(place, _ROUGHLY).area(_ROUGHLY)
        values = [image.get(name) for name in _PROPERTIES]
        return ee.List([*values, covered.divide(place.area(_ROUGHLY))])

    return images.toList(_MOST).map(row)


def _inventory(site: Site, key: str, run: Callable[[Callable[[], Any]], Any]) -> dict[str, Any]:
    everything = _collection(site, key)
    question = ee.Dictionary(
        {
            "pre": _rows(in_window(everything, _window(site, "pre")), region(site)),
            "post": _rows(in_window(everything, _window(site, "post")), region(site)),
            "all": everything.size(),
            "bands": everything.toList(1).map(lambda image: ee.Image(image).bandNames()),
        }
    )
    try:
        answer = run(question.getInfo)
    except ee.EEException as error:
        raise DataError(
            f"{_TITLES[key]}: the collection {source(site, key)} of site {site.name} cannot be "
            f"read: {words(error)}",
            hint="Check the id under `sources` of the site; an emulator must hold the collection "
            "(`thawslump emulator list`, `thawslump emulator ingest`).",
        ) from error
    return dict(answer)


def _picture(row: Sequence[Any]) -> Picture:
    index, time, direction, relative, made_up, platform, share = row
    orbit = None if direction is None or relative is None else Orbit(direction, int(relative))
    satellite = None if platform is None else str(platform)
    return Picture(str(index), _date(time), orbit, bool(made_up), satellite, float(share))


def _date(milliseconds: float) -> dt.date:
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC).date()


def _refuse_empty(
    site: Site,
    key: str,
    side: Side,
    found: dict[str, Any],
    run: Callable[[Callable[[], Any]], Any],
) -> None:
    name, window = source(site, key), _window(site, side)
    west, south, east, north = site.bounds
    place = f"{west:.4f}, {south:.4f} to {east:.4f}, {north:.4f}"
    if found["all"]:
        everything = _collection(site, key)
        times = run(everything.aggregate_array("system:time_start").getInfo)
        dates = sorted({_date(time) for time in times})
        raise DataError(
            f"{_TITLES[key]}: {name} has no image of site {site.name} in the window {side} "
            f"({window}). There are {len(dates)} dates, {dates[0]} to {dates[-1]}; nearest: "
            f"{_nearest(dates, window)}.",
            hint=f"Move or widen the window `{side}` of the site.",
        )
    if key == "s1":
        images = ee.ImageCollection(name).filterBounds(region(site))
        passes = Counter(run(images.aggregate_array("orbitProperties_pass").getInfo))
        if passes:
            there = ", ".join(f"{count} {way}" for way, count in sorted(passes.items()))
            raise DataError(
                f"{_TITLES[key]}: {name} has no {site.orbit_pass or ''} IW image with VV and VH "
                f"over site {site.name}. Images over it by pass: {there}.",
                hint="Set orbit_pass of the site to one that is there.",
            )
    total = run(ee.ImageCollection(name).size().getInfo)
    raise DataError(
        f"{_TITLES[key]}: site {site.name} ({place}) lies outside the images of {name}: "
        f"none of its {total} images touches it.",
        hint="Check bounds (west, south, east, north in degrees), or add images of that place.",
    )


def _nearest(dates: Sequence[dt.date], window: Window, count: int = 5) -> str:
    def away(date: dt.date) -> int:
        return min(abs((date - window.start).days), abs((date - window.end).days))

    return ", ".join(str(date) for date in sorted(sorted(dates, key=away)[:count]))


def _refuse_bands(site: Site, key: str, there: set[str]) -> None:
    name = source(site, key)
    missing = [band for band in _NEEDED[key] if band not in there]
    if missing:
        raise DataError(
            f"{_TITLES[key]}: the images of {name} have no band {', '.join(missing)}; they have "
            f"{', '.join(sorted(there))}.",
            hint=f"Name another collection under sources.{key} of site {site.name}.",
        )
    if key == "s1" and site.slope_correction != "none" and "angle" not in there:
        raise DataError(
            f"{_TITLES[key]}: the images of {name} have no band angle (incidence angle), which "
            f"slope_correction: {site.slope_correction} of site {site.name} needs; they have "
            f"{', '.join(sorted(there))}.",
            hint=f"Set slope_correction: none for site {site.name}.",
        )


def _refuse_dem(site: Site, run: Callable[[Callable[[], Any]], Any]) -> None:
    name = source(site, "dem")
    place = region(site)
    tiles = name.removesuffix("/*") if is_tiled(name) else [ee.Image(name)]
    try:
        there = run(ee.ImageCollection(tiles).filterBounds(place).size().getInfo)
    except ee.EEException as error:
        raise DataError(
            f"DEM: {name} of site {site.name} cannot be read: {words(error)}",
            hint="Check sources.dem of the site; the id of a collection of tiles ends with /* "
            "unless it is COPERNICUS/DEM/GLO30.",
        ) from error
    if not there:
        raise DataError(
            f"DEM: site {site.name} lies outside {name}.",
            hint="Check bounds (west, south, east, north in degrees), or name another DEM under "
            "sources.dem.",
        )


def _orbits_on_both_sides(
    site: Site, before: Sequence[Picture], after: Sequence[Picture]
) -> tuple[Orbit, ...] | None:
    """Return the orbits with images on both sides, the one that shows the site most often first."""
    if any(picture.orbit is None for picture in (*before, *after)):
        return None
    seen: dict[Side, Counter[Orbit]] = {"pre": Counter(), "post": Counter()}
    for side, pictures in (("pre", before), ("post", after)):
        for picture in pictures:
            if picture.orbit is not None:
                # Covered ground, not images: one that only touches the site counts for little.
                seen[side][picture.orbit] += picture.share  # type: ignore[index, assignment]
    shared = set(seen["pre"]) & set(seen["post"])
    if not shared:
        raise DataError(
            f"Sentinel-1: site {site.name} has no orbit with images in both windows: "
            f"{_named(set(seen['pre']))} before, {_named(set(seen['post']))} after. The difference "
            "between two viewing geometries is not a change of the ground.",
            hint="Widen the windows, or set orbit_pass or relative_orbit of the site.",
        )
    if site.relative_orbit is not None:
        shared = {orbit for orbit in shared if orbit.relative == site.relative_orbit}
        if not shared:
            raise DataError(
                f"Sentinel-1: site {site.name} has no images of relative orbit "
                f"{site.relative_orbit} in both windows; there are {_named(set(seen['pre']))} "
                f"before and {_named(set(seen['post']))} after.",
                hint="Set relative_orbit of the site to one of those, or remove it.",
            )
    return tuple(
        sorted(shared, key=lambda orbit: (-min(seen["pre"][orbit], seen["post"][orbit]), orbit))
    )


def _named(orbits: set[Orbit]) -> str:
    return ", ".join(f"{orbit.direction.lower()} {orbit.relative}" for orbit in sorted(orbits))
