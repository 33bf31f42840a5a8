"""Pixels: `image:computePixels`, `getPixels` of assets, and what pictures and exports share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..messages import Response
from .requests import call, constant, file_name, sized

if TYPE_CHECKING:
    from ..encode import BandInfo, Canvas
    from ..image import Image
    from ..projection import PixelGrid, Window
    from ..protocol import Endpoint

__all__ = [
    "assets_get_pixels",
    "band_infos",
    "canvas_of",
    "encoded",
    "grid_of",
    "image_compute_pixels",
    "tiles_of",
    "whole",
    "windows_of",
]

PICTURES = ("PNG", "JPEG", "AUTO_JPEG_PNG")
ARCHIVES = ("ZIPPED_GEO_TIFF", "ZIPPED_GEO_TIFF_PER_BAND")
THUMBNAIL = 512  # longest side of a picture whose size nobody asked for


def image_compute_pixels(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Compute the pixels of an expression on a grid."""
    with endpoint.computing():
        return encoded(endpoint, arguments["body"])


def assets_get_pixels(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Read the pixels of an asset."""
    body = dict(arguments["body"])
    asset = endpoint.asset(arguments["name"])
    if asset.type != "IMAGE":
        raise EngineError(f"Asset '{asset.id}' is not an Image.")
    body["expression"] = call("Image.load", {"id": constant(asset.id)})
    with endpoint.computing():
        return encoded(endpoint, body, region=body.get("region"))


def encoded(
    endpoint: Endpoint,
    body: dict[str, Any],
    *,
    thumbnail: bool = False,
    region: dict[str, Any] | None = None,
) -> Response:
    """Compute and encode the pixels that a request asks for."""
    from .. import encode

    file_format = body.get("fileFormat") or "AUTO_JPEG_PNG"
    if file_format not in (*PICTURES, *ARCHIVES, "NPY", "GEO_TIFF", "TF_RECORD_IMAGE"):
        raise EngineError(f"Image file format {str(file_format)[:80]} is not implemented.")
    image = endpoint.image(body)
    small = thumbnail and file_format in PICTURES and not sized(body["expression"])
    grid = grid_of(image, body.get("grid"), small, region)
    # A visualised image has the bands red, green, blue: what was asked for went into it.
    names = None if body.get("visualizationOptions") else body.get("bandIds") or None
    bands = band_infos(image, names)
    if file_format in PICTURES and names is None and len(bands) > 3:
        bands = bands[:3]
    endpoint.limits.check_pixels(
        grid.width, grid.height, [(band.id, band.dtype.itemsize) for band in bands]
    )
    endpoint.check_faulty_pixels(grid.width * grid.height)
    canvas = canvas_of(grid)
    tiles = tiles_of(endpoint, image, grid, bands)
    if file_format == "NPY":
        return Response(200, encode.npy(tiles, bands, canvas), "application/octet-stream")
    if file_format == "GEO_TIFF":
        return Response(200, encode.geotiff(tiles, bands, canvas), "image/tiff")
    if file_format == "TF_RECORD_IMAGE":
        from ..tfrecord import image_record

        content = image_record(whole(tiles, bands, canvas), bands)
        return Response(200, content, "application/octet-stream")
    if file_format in PICTURES:
        colours = encode.coloured(tiles, bands, canvas)
        return Response(200, *encode.picture(colours, file_format))
    prefix = file_name(body.get("filenamePrefix") or "download")
    if file_format == "ZIPPED_GEO_TIFF":
        files = {f"{prefix}.tif": encode.geotiff(tiles, bands, canvas)}
    else:
        pixels = whole(tiles, bands, canvas)
        extent = (0, canvas.height, 0, canvas.width)
        files = {
            f"{prefix}.{file_name(band.id)}.tif": encode.geotiff(
                [(*extent, pixels)], [band], canvas
            )
            for band in bands
        }
    return Response(
        200,
        encode.archive(files),
        "application/zip",
        {"Content-Disposition": f'attachment; filename="{prefix}.zip"'},
    )


def grid_of(
    image: Image,
    wanted: Any,
    small: bool = False,
    region: dict[str, Any] | None = None,
) -> PixelGrid:
    """Return the grid that a request asks for, or that its image and region suggest."""
    from ..grids import default_grid
    from ..projection import PixelGrid

    if wanted is not None and not isinstance(wanted, Mapping):
        raise EngineError("Invalid JSON payload received: 'grid' is no object.")
    if wanted and wanted.get("dimensions"):
        return PixelGrid.from_request(dict(wanted), image.first_projection)
    crs, transform = _placement(wanted or {})
    grid = default_grid(image, region, crs=crs, transform=transform)
    longest = max(grid.width, grid.height)
    if not small or longest <= THUMBNAIL:
        return grid
    return shrunk(grid, longest / THUMBNAIL)


def shrunk(grid: PixelGrid, k: float) -> PixelGrid:
    """Return a grid over the same ground whose pixels are `k` times as large."""
    from ..projection import PixelGrid

    a, b, c, d, e, f = grid.transform
    return PixelGrid(
        grid.crs,
        (a * k, b * k, c, d * k, e * k, f),
        max(1, round(grid.width / k)),
        max(1, round(grid.height / k)),
    )


def _placement(grid: Mapping[str, Any]) -> tuple[str | None, tuple[float, ...] | None]:
    """Return the CRS and the transform of a grid that leaves its dimensions to the image."""
    affine = grid.get("affineTransform")
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    try:
        transform = tuple(float(affine.get(name, 0)) for name in names) if affine else None
    except (TypeError, ValueError, AttributeError):
        raise EngineError("Invalid JSON payload received: 'affineTransform'.") from None
    return grid.get("crsCode") or grid.get("crsWkt"), transform


def tiles_of(
    endpoint: Endpoint, image: Image, grid: PixelGrid | Window, bands: Sequence[BandInfo]
) -> Iterator[Any]:
    """Compute an image on a grid, tile by tile."""
    from ..pixels import compute_pixels

    return compute_pixels(image, grid, [band.id for band in bands], endpoint.evaluator.limits)


def windows_of(
    endpoint: Endpoint, image: Image, grid: PixelGrid, bands: Sequence[BandInfo]
) -> Callable[[int, int, int, int], Iterator[Any]]:
    """Return a function (row0, row1, col0, col1) that computes a part of the grid."""

    def window(row0: int, row1: int, col0: int, col1: int) -> Iterator[Any]:
        part = grid.part(row0, col0, row1 - row0, col1 - col0)
        return tiles_of(endpoint, image, part, bands)

    return window


def band_infos(image: Image, names: Any) -> list[BandInfo]:
    """Return the bands of an answer."""
    from ..arraypixels import refuse_arrays
    from ..encode import BandInfo

    if names is not None and (
        not isinstance(names, list) or not all(isinstance(name, str) for name in names)
    ):
        raise EngineError("Invalid JSON payload received: 'bandIds' is no list of names.")
    bands = image.bands if names is None else [image.band(name) for name in names]
    if not bands:
        raise EngineError("Image has no bands.")
    refuse_arrays(bands)
    return [BandInfo(b.id, b.type.dtype, b.type.low, b.type.high) for b in bands]


def canvas_of(grid: PixelGrid) -> Canvas:
    """Return the grid as the encoders take it."""
    from ..encode import Canvas

    return Canvas(grid.crs, grid.transform, grid.width, grid.height)


def whole(tiles: Iterator[Any], bands: Sequence[BandInfo], canvas: Canvas) -> dict[str, Any]:
    """Return the tiles as whole arrays by band: (data, valid or not)."""
    import numpy as np

    shape = (canvas.height, canvas.width)
    out: dict[str, Any] = {}
    for row0, row1, col0, col1, pixels in tiles:
        if (row1 - row0, col1 - col0) == shape:
            return dict(pixels)
        for band in bands:
            if band.id not in out:
                out[band.id] = np.zeros(shape, band.dtype), np.zeros(shape, bool)
            data, mask = out[band.id]
            data[row0:row1, col0:col1] = pixels[band.id][0]
            mask[row0:row1, col0:col1] = pixels[band.id][1] > 0
    return out
