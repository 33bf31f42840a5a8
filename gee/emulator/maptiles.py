"""Exported map tiles: `Export.map.toCloudStorage`.

Files lie at `<bucket>/<prefix>/<zoom>/<x>/<y>`, 256 x 256 pixels of EPSG:3857, as the guide on
exporting map tiles describes them. The emulator writes no `index.html` beside them, as that page
needs a key of Google's maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.files import atomic

from .errors import EngineError
from .limits import RequestLimits

if TYPE_CHECKING:
    from .image import Image
    from .operations import Job

__all__ = ["check_map_export", "export_tiles", "tiles_over"]

HALF = 20037508.342789244
EQUATOR = 2 * HALF / 256  # metres of a pixel at zoom 0
MOST = 24
FORMATS = {"AUTO_PNG_JPEG": "AUTO_JPEG_PNG", "AUTO_JPEG_PNG": "AUTO_JPEG_PNG",
           "PNG": "PNG", "JPEG": "JPEG"}  # fmt: skip


def check_map_export(body: Mapping[str, Any], folder: Path) -> None:
    """Refuse an export of tiles that cannot be written, before it is queued.

    Raises
    ------
    EngineError
    """
    from .exporting import _target

    options = body.get("tileExportOptions")
    if not isinstance(options, dict):
        raise EngineError("An export of map tiles needs a Cloud Storage bucket.")
    if options.get("fileFormat", "AUTO_JPEG_PNG") not in FORMATS:
        raise EngineError(
            f"Exporting map tiles as {str(options['fileFormat'])[:40]} is not possible: "
            f"{', '.join(FORMATS)}."
        )
    _target(options, folder)
    _zooms(body)


def _zooms(body: Mapping[str, Any]) -> tuple[int, int]:
    """Return the smallest and the largest zoom of an export."""
    options = body.get("tileOptions") or {}
    if not isinstance(options, dict):
        raise EngineError("Invalid JSON payload received: 'tileOptions' is no object.")
    try:
        start = int(options.get("startZoom") or 0)
        end = options.get("endZoom")
        scale = options.get("scale")
        if end is None and scale is not None:
            # The zoom whose pixels at the equator are closest to the scale.
            end = round(math.log2(EQUATOR / float(scale)))
        end = start if end is None else int(end)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise EngineError("Invalid JSON payload received: 'tileOptions'.") from None
    if not 0 <= start <= end <= MOST:
        raise EngineError(f"Zooms {start} to {end} are not within 0 to {MOST}.")
    return start, end


def tiles_over(bounds: tuple[float, float, float, float], zoom: int) -> tuple[range, range]:
    """Return the columns and rows of the tiles that touch a box.

    Parameters
    ----------
    bounds : (west, south, east, north)
        Metres of EPSG:3857.
    zoom : int

    Examples
    --------
    >>> tiles_over((-1.0, -1.0, 1.0, 1.0), 1)
    (range(0, 2), range(0, 2))
    """
    count = 2**zoom
    size = 2 * HALF / count
    west, south, east, north = bounds

    def span(low: float, high: float) -> range:
        first = min(max(math.floor(low / size), 0), count - 1)
        last = min(max(math.ceil(high / size) - 1, first), count - 1)
        return range(first, last + 1)

    return span(west + HALF, east + HALF), span(HALF - north, HALF - south)


def export_tiles(
    job: Job,
    folder: Path,
    limits: RequestLimits,
    image: Image,
    tile: Callable[[int, int, int, dict[str, Any]], tuple[bytes, str, bool]],
) -> list[str]:
    """Write the tiles of an export; return the address of their folder.

    Parameters
    ----------
    job : Job
    folder : Path
        Folder of all exported files.
    limits : RequestLimits
    image : Image
        Its footprint tells which tiles there are.
    tile : callable (zoom, x, y, body) -> (content, media type, whether any pixel shows)
    """
    from .exporting import _target

    options = job.body["tileExportOptions"]
    wanted = job.body.get("tileOptions") or {}
    start, end = _zooms(job.body)
    bounds = _bounds(image)
    places = list(_places(bounds, start, end, limits.export_pixels))
    target = _target(options, folder)
    body = {"fileFormat": FORMATS[options.get("fileFormat", "AUTO_JPEG_PNG")]}
    for number, (zoom, x, y) in enumerate(places):
        content, _, shows = tile(zoom, x, y, body)
        if shows or not wanted.get("skipEmpty"):
            path = target / str(zoom) / str(x) / str(y)
            # A link among the folders could lead anywhere.
            if not path.parent.resolve().is_relative_to(folder.resolve()):
                raise EngineError(f"The export path '{target.name}' leads out of its folder.")
            with atomic(path) as temporary:
                temporary.write_bytes(content)
        job.progress((number + 1) / len(places))
    return [target.as_uri()]


def _places(
    bounds: tuple[float, float, float, float], start: int, end: int, most: int
) -> Iterator[tuple[int, int, int]]:
    total = 0
    for zoom in range(start, end + 1):
        columns, rows = tiles_over(bounds, zoom)
        total += len(columns) * len(rows)
        if total * 256 * 256 > most:
            raise EngineError(
                f"Export too large: more than {most} pixels up to zoom {zoom}. Specify a smaller "
                "region or maxZoom."
            )
        yield from ((zoom, x, y) for y in rows for x in columns)


def _bounds(image: Image) -> tuple[float, float, float, float]:
    """Return the box of an image in EPSG:3857."""
    from rasterio.warp import transform_bounds

    from .grids import default_grid

    grid = default_grid(image, None)
    a, b, c, d, e, f = grid.transform
    xs = [c + a * i + b * j for i in (0, grid.width) for j in (0, grid.height)]
    ys = [f + d * i + e * j for i in (0, grid.width) for j in (0, grid.height)]
    west, south, east, north = transform_bounds(
        grid.crs, "EPSG:3857", min(xs), min(ys), max(xs), max(ys)
    )
    values = (west, south, east, north)
    if not all(math.isfinite(v) for v in values):
        raise EngineError("The image has no extent on the map: give a region.")
    return values
