"""Where a site lies, in the words of Earth Engine: region, projections, asset ids."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ee

from gee.grids import crs_code, crs_transform, padded
from gee.scripts.sources import SOURCES, resembles
from thawslump.errors import ConfigError, nearest
from thawslump.grid import coarser, lonlat_bounds

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from gee.scripts.settled import Settled
    from thawslump.site import Site, Window

__all__ = [
    "DEFAULT_SOURCES",
    "day",
    "in_window",
    "is_tiled",
    "mapped",
    "of_site",
    "or_nothing",
    "pinned",
    "region",
    "source",
    "terrain_grid",
]

_CAN_BE_NONE = ("s1", "landcover")

DEFAULT_SOURCES = {key: source.id for key, source in SOURCES.items()}
"""Asset ids that `Site.sources` can replace; None where the user has to bring the data."""


def source(site: Site, key: str) -> str:
    """Return the asset id that a site uses for a key of `SOURCES`; "none" where it is left out.

    Sentinel-1 (``s1``) and the reference map of the land cover (``landcover``) can be left out.

    Raises
    ------
    ConfigError
        The site's `sources` has a key that nothing reads, or leaves out what is needed.
    """
    for given in site.sources:
        if given not in DEFAULT_SOURCES:
            raise ConfigError(
                f'Site {site.name}: sources has the key "{given}"; it may have '
                f"{', '.join(DEFAULT_SOURCES)}." + nearest(given, DEFAULT_SOURCES),
                hint=f"Correct sources in sites/{site.name}.yaml or areas/{site.name}.yaml.",
            )
    name = site.sources.get(key, DEFAULT_SOURCES[key])
    if name is None:
        raise ConfigError(
            f"Site {site.name}: there is no default for {SOURCES[key].title}.",
            hint=f"Name an asset of yours under sources.{key}, or leave out what is made of it.",
        )
    if name.partition(":")[0] == "local" and key != "upslope":
        raise ConfigError(
            f"Site {site.name}: sources.{key} is {name}; only upslope can be computed locally.",
            hint=f"Give the id of an asset under sources.{key}, or remove it.",
        )
    if name == "none" and key not in _CAN_BE_NONE:
        raise ConfigError(
            f"Site {site.name}: sources.{key} is none; only {' and '.join(_CAN_BE_NONE)} can be "
            "left out.",
            hint=f"Give the id of a collection, or remove sources.{key}.",
        )
    return name


# Known collections of tiles; any other id is one image, unless it ends with "/*".
_TILED = {
    "COPERNICUS/DEM/GLO30",
    "COPERNICUS/DEM/GLO30_2024_1",
    "ESA/WorldCover/v200",
    "JAXA/ALOS/AW3D30/V3_2",
    "JAXA/ALOS/AW3D30/V4_1",
}


def is_tiled(name: str) -> bool:
    """Tell whether an asset id is that of a collection of tiles.

    Examples
    --------
    >>> is_tiled("COPERNICUS/DEM/GLO30"), is_tiled("projects/p/assets/lidar")
    (True, False)
    """
    return name in _TILED or name.endswith("/*")


def mapped(site: Site, key: str, *, smooth: bool = False) -> ee.Image:
    """Return the first band of a map that a site uses, named by its key.

    Parameters
    ----------
    site : Site
    key : str
        Of `SOURCES`; the map is an image, or a collection of tiles (`is_tiled`).
    smooth : bool
        Read bilinearly; never for classes.
    """
    name = source(site, key)

    def read(image: ee.Image) -> ee.Image:
        band = ee.Image(image).select([0], [key])
        return band.resample("bilinear") if smooth else band

    if not is_tiled(name):
        return read(ee.Image(name))
    tiles = ee.ImageCollection(name.removesuffix("/*")).filterBounds(region(site))
    read_tiles = tiles.map(read)
    if smooth:
        # Bilinear reading ends half a pixel before the edge of a tile: the nearest value below it.
        nearest = tiles.map(lambda tile: ee.Image(tile).select([0], [key]))
        read_tiles = nearest.merge(read_tiles)
    return or_nothing(read_tiles, [key]).mosaic()


def or_nothing(images: ee.ImageCollection, bands: Sequence[str]) -> ee.ImageCollection:
    """Return images and, below them, one that shows nothing.

    What is made of a collection without images has no bands at all; so it has them, masked: a part
    of a large area may lie where a map ends.
    """
    nothing = ee.Image.constant([0] * len(bands)).toFloat().rename(list(bands)).updateMask(0)
    return ee.ImageCollection([nothing]).merge(images)


def region(site: Site, margin: float = 0.0) -> ee.Geometry:
    """Return the box of longitudes and latitudes that holds the whole grid of a site.

    Parameters
    ----------
    site : Site
    margin : float
        Metres around the grid that it holds as well.
    """
    grid = site.grid()
    if margin:
        grid = padded(grid, margin)
    west, south, east, north = lonlat_bounds(grid)
    return ee.Geometry.BBox(west, south, east, north)


def day(date: dt.date) -> str:
    """Return a date as Earth Engine reads it: midnight UTC."""
    return date.isoformat()


def in_window(collection: ee.ImageCollection, window: Window) -> ee.ImageCollection:
    """Keep the images of a window; its last day is not part of it."""
    return collection.filterDate(day(window.start), day(window.end))


def of_site(
    images: ee.ImageCollection, site: Site, key: str, window: Window, settled: Settled | None
) -> ee.ImageCollection:
    """Keep the images of a window, and of them those that were settled on.

    Parameters
    ----------
    images : ee.ImageCollection
        Over the site.
    key : {"s1", "s2"}
    window : Window
        Images are settled on for `Site.pre` and `Site.post` only.
    """
    kept = in_window(images, window)
    side = {site.pre: "pre", site.post: "post"}.get(window)
    chosen = None if settled is None else settled.images.get(f"{key} {side}")
    return kept if chosen is None else kept.filter(ee.Filter.inList("system:index", list(chosen)))


def terrain_grid(site: Site) -> GeoBox:
    """Return the grid on which terrain is differentiated.

    Finite differences on pixels finer than the heights come from show the steps between
    neighbouring heights instead of slopes, so the 30 m of the global DEM are kept; a DEM of the
    user's own is taken at the pixel size of the site.
    """
    grid = site.grid()
    own = "dem" in site.sources and not resembles("dem", site.sources["dem"])
    return grid if own else coarser(grid, max(30.0, site.resolution))


def pinned(image: ee.Image, grid: GeoBox) -> ee.Image:
    """Compute everything before this on `grid` (CRS and affine transform) whatever is asked for."""
    return image.reproject(crs=crs_code(grid), crsTransform=crs_transform(grid))
