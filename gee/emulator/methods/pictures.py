"""Pictures: map tiles, thumbnails, animations and filmstrips.

A picture is asked for in two steps: `create` keeps the request under a name that cannot be
guessed, and whoever knows the name fetches the pixels.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..messages import Response
from .pixels import band_infos, canvas_of, encoded, grid_of, tiles_of
from .requests import expression_of

if TYPE_CHECKING:
    from ..image import Image
    from ..projection import PixelGrid
    from ..protocol import Endpoint

__all__ = [
    "filmstrip_thumbnails_create",
    "filmstrip_thumbnails_get_pixels",
    "map_tile",
    "maps_create",
    "thumbnails_create",
    "thumbnails_get_pixels",
    "tile_grid",
    "tiles_get",
    "video_thumbnails_create",
    "video_thumbnails_get_pixels",
]

HALF = 20037508.342789244  # half the width of the world in EPSG:3857
MAX_ZOOM = 24
FRAMES_PER_SECOND = 10.0  # as `ee.ImageCollection.getVideoThumbURL` documents its default


def maps_create(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep an image whose tiles will be asked for."""
    return _remembered(endpoint, "maps", arguments)


def thumbnails_create(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep an image whose picture or file will be asked for."""
    return _remembered(endpoint, "thumbnails", arguments)


def _remembered(endpoint: Endpoint, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    body = arguments["body"]
    with endpoint.computing():
        # As in Earth Engine, a wrong expression fails here and not at the first tile.
        endpoint.image(body)
    return {"name": f"{arguments['parent']}/{kind}/{endpoint.store.remember(kind, body)}"}


def tile_grid(zoom: int, x: int, y: int) -> PixelGrid:
    """Return the grid of a map tile: 256 x 256 pixels of EPSG:3857.

    Raises
    ------
    EngineError
        There is no such tile.
    """
    from ..projection import PixelGrid

    if not 0 <= zoom <= MAX_ZOOM or not 0 <= y < 2**zoom:
        raise EngineError(f"There is no tile {zoom}/{x}/{y}.")
    size = 2 * HALF / 2**zoom
    corner = (-HALF + (x % 2**zoom) * size, HALF - y * size)
    scale = size / 256
    return PixelGrid("EPSG:3857", (scale, 0.0, corner[0], 0.0, -scale, corner[1]), 256, 256)


def map_tile(
    endpoint: Endpoint, body: dict[str, Any], image: Image, grid: PixelGrid
) -> tuple[bytes, str, bool]:
    """Return a picture of a grid, its media type, and whether any pixel shows."""
    from .. import encode

    names = None if body.get("visualizationOptions") else body.get("bandIds") or None
    bands = band_infos(image, names)[:3]
    colours = encode.coloured(tiles_of(endpoint, image, grid, bands), bands, canvas_of(grid))
    content, kind = encode.picture(colours, body.get("fileFormat") or "AUTO_JPEG_PNG")
    return content, kind, bool(colours[..., 3].any())


def tiles_get(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Answer with a map tile."""
    try:
        zoom, x, y = (int(arguments[key]) for key in ("zoom", "x", "y"))
    except ValueError:
        raise EngineError("Tile coordinates must be whole numbers.") from None
    grid = tile_grid(zoom, x, y)
    body = endpoint.recalled("maps", arguments["parent"])
    with endpoint.computing():
        content, kind, _ = map_tile(endpoint, body, endpoint.image(body), grid)
    headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "private, max-age=3600"}
    return Response(200, content, kind, headers)


def thumbnails_get_pixels(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Answer with a thumbnail or a download."""
    body = endpoint.recalled("thumbnails", arguments["name"])
    with endpoint.computing():
        return encoded(endpoint, body, thumbnail=True)


# --------------------------------------------------------------------------------------------
# animations and filmstrips


def video_thumbnails_create(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep a collection whose animation will be asked for."""
    body = arguments["body"]
    if (body.get("fileFormat") or "GIF") != "GIF":
        raise EngineError(f"Video thumbnails are GIF, not {str(body['fileFormat'])[:40]}.")
    _frames_per_second(body)
    return _collection_remembered(endpoint, "videoThumbnails", arguments)


def filmstrip_thumbnails_create(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep a collection whose filmstrip will be asked for."""
    body = arguments["body"]
    if (body.get("fileFormat") or "PNG") not in ("PNG", "JPEG", "AUTO_JPEG_PNG"):
        raise EngineError(f"Filmstrips are PNG or JPEG, not {str(body['fileFormat'])[:40]}.")
    if (body.get("orientation") or "VERTICAL") not in ("VERTICAL", "HORIZONTAL"):
        raise EngineError(f"Unknown orientation: {str(body['orientation'])[:40]!r}.")
    return _collection_remembered(endpoint, "filmstripThumbnails", arguments)


def _collection_remembered(
    endpoint: Endpoint, kind: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    body = arguments["body"]
    with endpoint.computing():
        _images(endpoint, body)
    return {"name": f"{arguments['parent']}/{kind}/{endpoint.store.remember(kind, body)}"}


def _images(endpoint: Endpoint, body: dict[str, Any]) -> Iterator[Image]:
    """Yield the images of the collection that a request computes, one at a time."""
    from ..image import Image
    from ..values import Collection

    value = endpoint.evaluator.evaluate(expression_of(body))
    if isinstance(value, Image):
        return iter((value,))
    if not isinstance(value, Collection):
        raise EngineError("Expression does not evaluate to an image collection.")

    def images() -> Iterator[Image]:
        for element in value:
            if not isinstance(element, Image):
                raise EngineError("Expression does not evaluate to an image collection.")
            yield element

    return images()


def _frames(endpoint: Endpoint, body: dict[str, Any]) -> Iterator[Any]:
    """Yield the frames as (height, width, 4) bytes, all on the grid of the first image."""
    from .. import encode

    images = _images(endpoint, body)
    first = next(images, None)
    if first is None:
        raise EngineError("ImageCollection has no images.")
    grid = grid_of(first, body.get("grid"), small=not _sizes(body))
    for number, image in enumerate(itertools.chain((first,), images), 1):
        bands = band_infos(image, None)
        bands = bands[:3] if len(bands) >= 3 else bands[:1]
        # That the limit on the pixels of an answer counts all its frames is an assumption.
        endpoint.limits.check_pixels(
            grid.width, grid.height, [(f"frame {n}", 3) for n in range(min(number, 1000))]
        )
        endpoint.check_faulty_pixels(grid.width * grid.height * number)
        tiles = tiles_of(endpoint, image, grid, bands)
        yield encode.coloured(tiles, bands, canvas_of(grid))


def _sizes(body: dict[str, Any]) -> bool:
    from .requests import sized

    return sized(body.get("expression"))


def _frames_per_second(body: dict[str, Any]) -> float:
    options = body.get("videoOptions") or {}
    given = options.get("framesPerSecond") if isinstance(options, dict) else options
    if isinstance(given, dict):
        given = given.get("value")
    try:
        rate = FRAMES_PER_SECOND if given is None else float(given)
    except (TypeError, ValueError):
        raise EngineError(f"framesPerSecond {str(given)[:40]!r} is no number.") from None
    if not 0.1 <= rate <= 100:
        raise EngineError(f"framesPerSecond must be between 0.1 and 100, not {rate:g}.")
    return rate


def video_thumbnails_get_pixels(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Answer with an animated GIF; masked pixels are transparent."""
    from PIL import Image as Picture

    body = endpoint.recalled("videoThumbnails", arguments["name"])
    with endpoint.computing():
        frames = [Picture.fromarray(frame) for frame in _frames(endpoint, body)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        # GIF counts hundredths of a second.
        duration=max(10, round(100 / _frames_per_second(body)) * 10),
        loop=0,
        disposal=2,
        optimize=False,
    )
    return Response(200, buffer.getvalue(), "image/gif")


def filmstrip_thumbnails_get_pixels(endpoint: Endpoint, arguments: dict[str, Any]) -> Response:
    """Answer with all images of a collection in one picture, below one another."""
    import numpy as np

    from .. import encode

    body = endpoint.recalled("filmstripThumbnails", arguments["name"])
    axis = 1 if body.get("orientation") == "HORIZONTAL" else 0
    with endpoint.computing():
        strip = np.concatenate(list(_frames(endpoint, body)), axis=axis)
    return Response(200, *encode.picture(strip, body.get("fileFormat") or "PNG"))
