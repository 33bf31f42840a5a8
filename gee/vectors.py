"""Vector files of the user, cut to what a site needs and small enough to travel in a request.

`Site.sources` may name a file (faults, rivers, roads, railway) instead of an asset: it is read
here, clipped, simplified below the pixels of the factors and handed to the scripts as text, which
every request then carries and the service takes apart. (As nested lists the same coordinates would
keep the client busy for seconds in every request: it looks at each number on its own.)
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gee.grids import factor_grid, padded
from gee.scripts.settled import Lines
from gee.scripts.sources import REACH, is_file
from thawslump.errors import DataError
from thawslump.grid import lonlat_bounds

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox

    from thawslump.site import Site

__all__ = ["LARGEST", "read_vectors", "shortened"]

LARGEST = 5_000_000
"""Bytes that the vectors of a site may take in a request. Earth Engine refuses requests above
10 MB, and the rest of the expression is in them too."""

_LONGEST = 5_000.0  # metres: between its ends a longer edge would leave the straight line
_DECIMALS = 6  # of a degree: a tenth of a metre
_KINDS = {"LineString", "MultiLineString", "LinearRing", "Polygon", "MultiPolygon"}
_TOGETHER = 1000  # vertices of one feature, about


def read_vectors(root: Path, site: Site) -> dict[str, Lines]:
    """Return the vector files of a site, by key of `Site.sources`.

    Parameters
    ----------
    root : Path
        Relative paths start here: the workspace.
    site : Site

    Returns
    -------
    dict
        Key to lines in longitude and latitude (see `shortened`); empty where no source is a file.
        There may be none: nothing lies within reach.

    Raises
    ------
    DataError
        A file is missing, unreadable, without a CRS, empty or of points; all together are too
        large for a request, with what to do instead.
    """
    grid = factor_grid(site)
    found: dict[str, Lines] = {}
    for key, name in sorted(site.sources.items()):
        if not is_file(name):
            continue
        if key not in REACH:
            raise DataError(
                f"Site {site.name}: sources.{key} is the file {name}; only "
                f"{', '.join(REACH)} can be read from a vector file.",
                hint="Bring rasters into Earth Engine as assets; the emulator takes them with "
                "`thawslump emulator ingest`.",
            )
        frame = shortened(_read(root / name, grid, REACH[key]), grid, REACH[key])
        found[key] = Lines(len(frame), _text(frame.geometry))
    sizes = {key: len(lines.text) for key, lines in found.items()}
    if sum(sizes.values()) > LARGEST:
        each = ", ".join(f"{key} {size / 1e6:.1f} MB" for key, size in sizes.items())
        key = max(sizes, key=lambda key: sizes[key])
        raise DataError(
            f"Site {site.name}: the vectors around it are too large to travel with every request "
            f"({each}; at most {LARGEST / 1e6:g} MB together, of the 10 MB of a request).",
            hint="Make an asset of the file and name that under sources: on the emulator "
            f"`thawslump emulator ingest {site.sources[key]} --as users/me/{key}`; on the live "
            f"service `earthengine upload table --asset_id projects/MINE/assets/{key} "
            "gs://BUCKET/FILE.zip` (a zipped Shapefile or CSV in a bucket).",
        )
    return found


def shortened(frame: GeoDataFrame, grid: GeoBox, reach: float) -> GeoDataFrame:
    """Return geometries within `reach` of a grid, with no more detail than its pixels show.

    Parameters
    ----------
    frame : GeoDataFrame
        Any CRS.
    grid : GeoBox
        Projected, square pixels.
    reach : float
        Metres around it.

    Returns
    -------
    GeoDataFrame
        Lines in EPSG:4326, those around areas too. Simplified by a quarter of a pixel (Douglas and
        Peucker 1973, doi 10.3138/FM57-6770-U75U-7727), edges of at most 5 km; parts farther than
        `reach` gone.
    """
    import shapely

    box = padded(grid, reach).boundingbox
    around = shapely.box(box.left, box.bottom, box.right, box.top)
    cell = abs(grid.transform.a)
    # Distances are to edges, so a lake cut in two at the end of the reach gets no shore there.
    areas = frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])
    frame = frame.set_geometry(frame.geometry.where(~areas, frame.geometry.boundary))
    if frame.crs.is_geographic:
        # Edges that are straight in degrees are not so elsewhere.
        frame = frame.set_geometry(shapely.segmentize(frame.geometry.array, 0.05))
    frame = frame.to_crs(str(grid.crs))
    frame = frame[frame.geometry.intersects(around)]
    shapes = shapely.intersection(frame.geometry.array, around)
    shapes = shapely.simplify(shapes, cell / 4, preserve_topology=True)
    frame = frame.set_geometry(shapely.segmentize(shapes, _LONGEST))
    frame = frame[~frame.geometry.is_empty]
    return frame.to_crs("EPSG:4326")


def _read(path: Path, grid: GeoBox, reach: float) -> GeoDataFrame:
    import geopandas
    import shapely
    from pyproj import Transformer

    if not path.is_file():
        raise DataError(
            f"{path} does not exist.",
            hint="Give the path of a GeoPackage, GeoJSON or Shapefile, from the workspace on, or "
            "the id of an asset.",
        )
    try:
        import pyogrio

        info = pyogrio.read_info(path, layer=0)
        crs, count = info["crs"], info["features"]
        if crs is None:
            raise DataError(
                f"{path} has no CRS, so its features cannot be placed.",
                hint="Save it with its coordinate reference system (in QGIS: Export > Save As).",
            )
        wide = padded(grid, reach)
        west, _, east, _ = lonlat_bounds(wide)
        bbox = None
        if west < east:  # else it crosses the antimeridian, and everything is read
            box = wide.boundingbox
            to_file = Transformer.from_crs(grid.crs.proj, crs, always_xy=True)
            bbox = to_file.transform_bounds(box.left, box.bottom, box.right, box.top)
            bbox = bbox if all(map(math.isfinite, bbox)) and bbox[0] < bbox[2] else None
        frame = geopandas.read_file(path, engine="pyogrio", layer=0, bbox=bbox, columns=[])
    except DataError:
        raise
    except Exception as error:  # pyogrio raises classes of its own for bad files
        raise DataError(
            f"{path} could not be read as a vector file: {error}.",
            hint="Give a GeoPackage, GeoJSON or Shapefile.",
        ) from error
    if not count or "geometry" not in frame:
        raise DataError(f"{path} holds no features.", hint="Give a file with lines or areas.")
    shapes = frame.geometry
    frame = frame[shapes.notna() & ~shapes.is_empty]
    kinds = sorted(set(frame.geometry.geom_type) - _KINDS)
    if kinds:
        raise DataError(
            f"{path} holds {', '.join(kinds)} features; lines or areas were expected.",
            hint="Give a file with lines or areas only.",
        )
    return frame.set_geometry(shapely.force_2d(frame.geometry.array))


def _text(shapes: Any) -> str:
    """Return lines as JSON: a list of features, each a list of lines of about `_TOGETHER` points.

    Small enough that the service can pass over those that are far away, few enough to map over.
    """
    import shapely

    parts = shapely.get_parts(shapely.get_parts(shapes.to_numpy()))
    features: list[list[list[list[float]]]] = [[]]
    points = 0
    for part in parts:
        line = np.round(shapely.get_coordinates(part), _DECIMALS).tolist()
        if points + len(line) > _TOGETHER and features[-1]:
            features.append([])
            points = 0
        features[-1].append(line)
        points += len(line)
    return json.dumps([lines for lines in features if lines], separators=(",", ":"))
