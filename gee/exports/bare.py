"""Parts of large areas that the sources show in part or not at all: sea, or a gap between orbits.

A site without images is a mistake in its file. A part without images is a place that was not looked
at: the rest of its area must not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee
import numpy as np
from numpy.typing import NDArray

from gee.exports.survey import NothingThere, Survey, survey
from gee.scripts.place import in_window, is_tiled, source
from gee.scripts.settled import Settled
from gee.scripts.slope_correction import vegetated_share_of_area
from gee.scripts.stack import left_out
from thawslump.areas import Part

if TYPE_CHECKING:
    from gee.exports.products import Product
    from thawslump.site import Site

__all__ = ["as_surveyed", "nothing", "survey_part"]

Ask = Callable[[Callable[[], Any]], Any]


def survey_part(part: Part, area: Site, ask: Ask, root: Path = Path()) -> Survey:
    """Ask what there is for a part of an area.

    - Without Sentinel-1 (no image of the part, or no orbit on both sides) its stack has no bands
      of it; a model takes those for missing.
    - Without Sentinel-2 or heights nothing can be made: its files will hold nothing.

    Both only where the area as a whole has images: else the area's file is to be mended.

    Parameters
    ----------
    part : Part
    area : Site
        As its file says.
    ask : callable
        Runs one request.
    root : Path
        The workspace.

    Returns
    -------
    Survey
        Without pictures where nothing can be made; without those of Sentinel-1 where there are
        none.

    Raises
    ------
    DataError
        As `gee.exports.survey.survey`.
    """
    try:
        return _by_the_area(survey(part, ask, root), area, ask)
    except NothingThere as missing:
        if not _there(area, missing.key, ask):
            raise
        why, key = missing.message, missing.key
    if key == "s1":
        try:
            found = survey(_without_radar(part), ask, root)
        except NothingThere as missing:
            if not _there(area, missing.key, ask):
                raise
            why = missing.message
        else:
            told = dict.fromkeys(found.settled.left_out, why) | dict(found.settled.left_out)
            names = set(left_out(_without_radar(part))) - set(left_out(part))
            told |= dict.fromkeys(sorted(names), why)
            return replace(found, settled=replace(found.settled, left_out=told))
    bands = tuple(name for name in part.bands if name not in left_out(part))
    settled = Settled(bands=bands, model="none", left_out=dict.fromkeys(bands, why))
    return Survey({}, settled, 1, (), None)


def _by_the_area(found: Survey, area: Site, ask: Ask) -> Survey:
    """Let the plants of the whole area choose the model of the slope correction."""
    settled = found.settled
    if area.slope_correction != "auto" or settled.vegetated is None:
        return found
    share = round(float(ask(vegetated_share_of_area(area).getInfo)), 4)
    model: Any = "volume" if share >= 0.5 else "surface"
    settled = replace(settled, vegetated=share, model=model)
    return replace(found, settled=settled, requests=found.requests + 1)


def as_surveyed(site: Site, found: Survey) -> Site:
    """Return a site as its survey found it: a part without radar does without."""
    radar = any(key == "s1" for key, _ in found.pictures)
    if not isinstance(site, Part) or radar or source(site, "s1") == "none":
        return site
    return _without_radar(site)


def nothing(wanted: Sequence[Product]) -> Iterator[NDArray[Any]]:
    """Yield products that hold nothing but nodata; they take no memory."""
    for product in wanted:
        value = np.asarray(product.nodata, product.dtype)
        yield np.broadcast_to(value, (len(product.bands), *product.grid.shape))


def _without_radar(part: Site) -> Site:
    return part.model_copy(
        update={"sources": {**part.sources, "s1": "none"}, "slope_correction": "none"}
    )


def _there(area: Site, key: str, ask: Ask) -> bool:
    """Return whether a source shows any of an area, in both of its windows."""
    name = source(area, key)
    box = ee.Geometry.BBox(*area.bounds)
    if key == "dem":
        tiles = name.removesuffix("/*") if is_tiled(name) else [ee.Image(name)]
        return bool(ask(ee.ImageCollection(tiles).filterBounds(box).size().getInfo))
    images = ee.ImageCollection(name).filterBounds(box)
    assert area.pre is not None and area.post is not None  # a site from Earth Engine has both
    counts = ee.List([in_window(images, window).size() for window in (area.pre, area.post)])
    return all(ask(counts.getInfo))
