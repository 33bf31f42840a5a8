"""How far it is to lines on the map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ee

from gee.grids import factor_grid
from gee.scripts.hydrology import NEAR, channels
from gee.scripts.place import pinned, region, source
from gee.scripts.sources import REACH, is_file
from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from gee.scripts.settled import Lines, Settled
    from thawslump.site import Site

__all__ = ["REACH", "to_lines", "to_rivers"]

_WITHIN = 10  # metres to which distances are computed


def to_lines(site: Site, key: str, settled: Settled | None = None) -> ee.Image:
    """Return the distance to the nearest feature in metres, band ``distance_<key>``.

    Parameters
    ----------
    site : Site
    key : {"faults", "rivers", "roads", "railway"}
        ``sources.<key>`` is a table, which may reach beyond the site, and should; or a vector file,
        whose content is in `settled`. Beyond ``REACH[key]`` counts as that far.
    settled : Settled, optional
        What is known of the site already.

    Raises
    ------
    ConfigError
        The source is a file, and its content was not read.
    """
    near = _features(site, key, settled).filterBounds(region(site, REACH[key]))
    away = near.distance(REACH[key], _WITHIN).unmask(REACH[key], False)
    return pinned(away.min(REACH[key]).rename(f"distance_{key}"), factor_grid(site))


def _features(site: Site, key: str, settled: Settled | None) -> ee.FeatureCollection:
    name = source(site, key)
    if not is_file(name):
        return ee.FeatureCollection(name)
    lines: Mapping[str, Lines] = {} if settled is None else settled.vectors
    if key not in lines:
        raise ConfigError(
            f"Site {site.name}: sources.{key} is the file {name}, which a script does not read.",
            hint="Read it with gee.vectors.read_vectors and hand it over in Settled.vectors; "
            "exports do.",
        )
    features = ee.List(ee.String(lines[key].text).decodeJSON())
    return ee.FeatureCollection(
        features.map(lambda parts: ee.Feature(ee.Geometry.MultiLineString(ee.List(parts))))
    )


def to_rivers(site: Site, settled: Settled | None = None) -> ee.Image:
    """Return the distance to rivers in metres, band ``distance_rivers``.

    To ``sources.rivers`` where given, else to the channels of the upslope area
    (`hydrology.channels`), which exist north of 60 degrees too; those within `hydrology.NEAR`
    pixels of the factors' grid (7.7 km at 30 m), farther counts as that far.
    """
    if site.sources.get("rivers") is not None:
        return to_lines(site, "rivers", settled)
    grid = factor_grid(site)
    cell = abs(grid.transform.a)
    drawn = pinned(channels(site).unmask(0, False), grid)
    away = drawn.fastDistanceTransform(NEAR).sqrt().multiply(cell).min(NEAR * cell)
    return pinned(away.rename("distance_rivers"), grid)
