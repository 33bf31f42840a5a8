"""Are the sources of a site's factors what they are taken for? Asked once, before any pixel.

What is missing would otherwise be found after hours, in Earth Engine's words, or not at all: a sum
over no months looks like a dry year.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ee

from gee import drainage
from gee.exports.faults import words
from gee.scripts import climate, factors
from gee.scripts.place import DEFAULT_SOURCES, in_window, region, source
from gee.scripts.sources import (
    FACTOR_SOURCES,
    REACH,
    SOURCES,
    catchment_margin,
    is_file,
    keys_of,
    resembles,
)
from thawslump.areas import Part
from thawslump.errors import ConfigError, DataError

if TYPE_CHECKING:
    from thawslump.site import Site, Window

__all__ = ["refuse_unfit"]

Run = Callable[[Callable[[], Any]], Any]

_SAID = {
    "IMAGE": "an image",
    "IMAGE_COLLECTION": "a collection of images",
    "TABLE": "a table",
    "FOLDER": "a folder",
}


def refuse_unfit(site: Site, run: Run) -> int:
    """Refuse sources of a site's factors that cannot give them, in words that say why.

    Parameters
    ----------
    site : Site
    run : callable
        Runs one request.

    Returns
    -------
    int
        Requests that it took: one per asset that the user named, one per dated collection.

    Raises
    ------
    ConfigError
        Factors without a default source and without one of the user's (all are named), or factors
        to be computed here without pyflwdir.
    DataError
        An asset of the user's is not there or of another kind; months of rain, days of Landsat or
        the year of the embedding are missing.
    """
    _refuse_missing(site)
    if factors.computed_here(site, site.factors):
        drainage.require()  # rather now than when everything else is fetched
    requests = 0
    for key in keys_of((*site.bands, *site.factors)):
        if key in site.sources and key not in ("s1", "s2", "dem"):
            requests += _refuse_kind(site, key, run)
    if "precipitation" in site.factors and _default(site, "precipitation"):
        _refuse_months(site, run)
        requests += 1
    if isinstance(site, Part):
        return requests  # what ends within a large area shows nothing beyond
    if {"LST", "LST_days"} & set(site.factors) and _default(site, "lst"):
        _refuse_no_days(site, run)
        requests += 1
    if "embedding" in site.factors and _default(site, "embedding"):
        _refuse_no_year(site, run)
        requests += 1
    return requests


def _refuse_missing(site: Site) -> None:
    missing: dict[str, str] = {}
    for name in site.factors:
        key = FACTOR_SOURCES[name][0] if name in FACTOR_SOURCES else ""
        # Without a table of rivers there are the channels of the upslope area.
        if name != "distance_rivers" and key in SOURCES and SOURCES[key].id is None:
            missing |= {} if key in site.sources else {name: key}
    if missing:
        raise ConfigError(
            f"Site {site.name}: there is no default for what {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} made of.",
            hint=f"Name data of yours: {', '.join(f'sources.{key}' for key in missing.values())}; "
            "or leave those factors out.",
        )


def _default(site: Site, key: str) -> bool:
    return resembles(key, source(site, key))


def _refuse_kind(site: Site, key: str, run: Run) -> int:
    name = site.sources[key]
    ours = name == DEFAULT_SOURCES[key] or resembles(key, name)
    if ours or name == "none" or is_file(name) or catchment_margin(name) is not None:
        return 0
    plain = name.removesuffix("/*")
    try:
        kind = str(run(lambda: ee.data.getAsset(plain))["type"])
    except ee.EEException as error:
        raise DataError(
            f"Site {site.name}: sources.{key} is {name}, which cannot be read: {words(error)}",
            hint="Check the id, and that it is shared with the account in use; an emulator must "
            "hold it (`thawslump emulator list`, `thawslump emulator ingest`).",
        ) from error
    said = _SAID.get(kind, kind.lower())
    if key in REACH:
        if kind != "TABLE":
            raise DataError(
                f"Site {site.name}: sources.{key} is {name}, {said}; a table of lines was "
                "expected, or a vector file.",
                hint=f"Name another asset under sources.{key}.",
            )
    elif name.endswith("/*"):
        if kind != "IMAGE_COLLECTION":
            raise DataError(
                f"Site {site.name}: sources.{key} is {name}, but {plain} is {said}; with /* a "
                "collection of tiles was expected.",
                hint="Leave /* out for a single image.",
            )
    elif kind != "IMAGE":
        cure = (
            f"Write {name}/* to take its images for the tiles of one map, or name one image."
            if kind == "IMAGE_COLLECTION"
            else "Name an image, or a collection of tiles with /* at its end; on the emulator "
            "`thawslump emulator ingest` makes an image of a GeoTIFF."
        )
        raise DataError(
            f"Site {site.name}: sources.{key} is {name}, {said}; an image was expected.", hint=cure
        )
    return 1


def _days(site: Site, key: str, window: Window, run: Run, *, near: bool) -> list[dt.date]:
    name = source(site, key)
    images = ee.ImageCollection(name)
    if near:
        images = images.filterBounds(region(site))
    times = in_window(images, window).aggregate_array("system:time_start")
    try:
        found = run(times.getInfo)
    except ee.EEException as error:
        raise DataError(
            f"Site {site.name}: {name} (sources.{key}) cannot be read: {words(error)}",
            hint=f"Check sources.{key}; an emulator must hold the collection "
            "(`thawslump emulator list`, `thawslump emulator ingest`).",
        ) from error
    return [dt.datetime.fromtimestamp(time / 1000, tz=dt.UTC).date() for time in found]


def _refuse_months(site: Site, run: Run) -> None:
    window = climate.rain_months(site)
    there = {(day.year, day.month) for day in _days(site, "precipitation", window, run, near=False)}
    first = window.start.year * 12 + window.start.month - 1
    wanted = [divmod(first + number, 12) for number in range(climate.MONTHS)]
    missing = [
        f"{year}-{month + 1:02d}" for year, month in wanted if (year, month + 1) not in there
    ]
    if missing:
        raise DataError(
            f"Site {site.name}: {source(site, 'precipitation')} lacks {len(missing)} of the "
            f"{climate.MONTHS} months before the change: {', '.join(missing)}. A sum of the others "
            "would look like a dry year.",
            hint="Move the window `pre`, wait until the months are published, name a map in mm "
            "under sources.precipitation, or leave precipitation out of the factors.",
        )


def _refuse_no_days(site: Site, run: Run) -> None:
    assert site.pre is not None
    if not _days(site, "lst", site.pre, run, near=True):
        raise DataError(
            f"Site {site.name}: {source(site, 'lst')} has no image of it in the window pre "
            f"({site.pre}), so there is no surface temperature. (Landsat 8 begins in 2013, Landsat "
            "9 in 2021.)",
            hint="Widen the window `pre`, name another collection or a map in degrees Celsius "
            "under sources.lst, or leave LST out of the factors.",
        )


def _refuse_no_year(site: Site, run: Run) -> None:
    from thawslump.site import Window

    year = factors.embedding_year(site)
    window = Window(start=dt.date(year, 1, 1), end=dt.date(year + 1, 1, 1))
    if not _days(site, "embedding", window, run, near=True):
        raise DataError(
            f"Site {site.name}: {source(site, 'embedding')} shows nothing of it in {year}, the "
            f"last whole year before the end of the window pre ({site.pre}). It begins in "
            f"{factors.FIRST_EMBEDDING}.",
            hint="Leave embedding out of the factors, or take a later window `pre`.",
        )
