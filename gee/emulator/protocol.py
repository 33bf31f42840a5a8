"""The REST interface of Earth Engine, without a web server: a request in, a response out.

`Endpoint.handle` answers every method of `discovery.METHODS`. The web application and the
in-process transport are thin layers over it. It never raises and never answers 429 or 5xx:
clients would try such a request again and again, so whatever goes wrong is a 400 with words.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.errors import DataError, ThawslumpError

from .discovery import METHODS, Method, algorithms, document
from .errors import EngineError
from .limits import RequestLimits

if TYPE_CHECKING:
    from .catalog import Asset, Catalog
    from .encode import BandInfo, Canvas
    from .evaluate import Evaluator
    from .image import Image
    from .operations import Job, Operations, Store
    from .projection import PixelGrid

__all__ = ["Endpoint", "Request", "Response"]

log = logging.getLogger(__name__)

JSON = "application/json; charset=UTF-8"
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
PICTURES = ("PNG", "JPEG", "AUTO_JPEG_PNG")
ARCHIVES = ("ZIPPED_GEO_TIFF", "ZIPPED_GEO_TIFF_PER_BAND")
THUMBNAIL = 512  # longest side of a picture whose size nobody asked for
PAGE = 1000
IMAGES = 64  # evaluated expressions that are kept; they hold no pixels


@dataclass(frozen=True)
class Request:
    """An HTTP request.

    Attributes
    ----------
    method : str
    path : str
        Decoded, with its leading slash.
    query : mapping of str to str
    headers : mapping of str to str
        Names in lower case.
    body : bytes
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def error(cls, code: int, message: str, status: str) -> Response:
        """Return the body that clients turn into an EEException."""
        error = {"error": {"code": code, "message": message, "status": status}}
        return cls(code, json.dumps(error).encode())


class _Refused(Exception):
    """A request that is answered with an error other than 400 or 404."""

    def __init__(self, code: int, message: str, status: str) -> None:
        super().__init__(message)
        self.response = Response.error(code, message, status)


class Endpoint:
    """An Earth Engine endpoint over a catalogue.

    Parameters
    ----------
    catalog : Path
        The catalogue's folder.
    state : Path, optional
        Where maps, exports and their files are kept; `.state` inside the catalogue if not given.
    token : str, optional
        Whoever calls must show it, as `Authorization: Bearer <token>` or `?key=<token>`. Without
        one only this machine may call.
    limits : RequestLimits
    cache_bytes : int
        Memory for decoded pixels.

    Raises
    ------
    DataError
        There is no catalogue at that place.

    Examples
    --------
    >>> import tempfile
    >>> endpoint = Endpoint(Path(tempfile.mkdtemp()))
    >>> answer = endpoint.handle(Request("GET", "/v1/projects/p/operations/none"))
    >>> answer.status, json.loads(answer.body)["error"]["message"]
    (404, "Operation 'projects/p/operations/none' not found.")
    """

    def __init__(
        self,
        catalog: Path,
        state: Path | None = None,
        *,
        token: str | None = None,
        limits: RequestLimits | None = None,
        cache_bytes: int = 512 * 2**20,
    ) -> None:
        self.root = Path(catalog).absolute()
        if not self.root.is_dir():
            raise DataError(
                f"There is no catalogue at {self.root}.",
                hint="Make one with: thawslump emulator ingest, or thawslump demo.",
            )
        self.state = Path(state).absolute() if state is not None else self.root / ".state"
        self.limits = limits or RequestLimits()
        self._token = token
        self._cache_bytes = cache_bytes
        self._lock = threading.RLock()
        self._busy = threading.BoundedSemaphore(self.limits.concurrency)
        self._catalog: Catalog | None = None
        self._evaluator: Evaluator | None = None
        self._store: Store | None = None
        self._operations: Operations | None = None
        self._images: OrderedDict[bytes, tuple[int, Image]] = OrderedDict()

    # ---- parts that are made when they are first needed

    @property
    def catalog(self) -> Catalog:
        """The assets."""
        with self._lock:
            if self._catalog is None:
                from .catalog import Catalog

                self._catalog = Catalog(self.root, writable=True, cache_bytes=self._cache_bytes)
            return self._catalog

    @property
    def evaluator(self) -> Evaluator:
        """The engine."""
        with self._lock:
            if self._evaluator is None:
                from .evaluate import Evaluator

                self._evaluator = Evaluator(self.catalog)
            return self._evaluator

    @property
    def store(self) -> Store:
        """What is remembered between requests."""
        with self._lock:
            if self._store is None:
                from .operations import Store

                self._store = Store(self.state)
            return self._store

    @property
    def operations(self) -> Operations:
        """The exports."""
        with self._lock:
            if self._operations is None:
                from .operations import Operations

                self._operations = Operations(self.store, self._export)
            return self._operations

    def start(self) -> None:
        """Load what the first request would load, and continue exports that were cut off."""
        from .functions import load_all

        self.operations.resume()
        algorithms()
        self.evaluator  # noqa: B018 (its import is the work)
        load_all()

    def close(self) -> None:
        """Stop exports and close files; exports under way continue at the next start."""
        if self._operations is not None:
            self._operations.close()
        if self._store is not None:
            self._store.close()

    # ---- one request

    def handle(self, request: Request) -> Response:
        """Answer a request. Never raises; safe to call from many threads."""
        try:
            return self._handle(request)
        except _Refused as refused:
            return refused.response
        except EngineError as error:
            missing = error.status == "NOT_FOUND"
            return Response.error(404 if missing else 400, str(error), error.status)
        except ThawslumpError as error:
            return Response.error(400, str(error), "INVALID_ARGUMENT")
        except MemoryError:
            log.exception("%s %s ran out of memory", request.method, request.path)
            return Response.error(400, "User memory limit exceeded.", "INVALID_ARGUMENT")
        except RecursionError:
            log.exception("%s %s is nested too deeply", request.method, request.path)
            return Response.error(
                400, "Expression is nested too deeply to be computed.", "INVALID_ARGUMENT"
            )
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return Response.error(
                400,
                f"Internal error of the emulator: {type(error).__name__}: {error}",
                "INVALID_ARGUMENT",
            )

    def _handle(self, request: Request) -> Response:
        request = _overridden(request)
        if len(request.body) > self.limits.body_bytes:
            raise EngineError(
                f"Request payload size exceeds the limit: {self.limits.body_bytes} bytes."
            )
        path = request.path.lstrip("/")
        method, parameters = _match(request.method, path)
        self._check_caller(request, method)
        if path == "$discovery/rest" or method is None:
            return self._other(request, path)
        if not method.implemented:
            raise EngineError(f"{method.id} is not implemented in the emulator.")
        arguments: dict[str, Any] = {**request.query, **parameters}
        if method.body:
            arguments["body"] = _body(request.body)
        answer = getattr(self, f"_{method.handler}")(arguments)
        if isinstance(answer, Response):
            return answer
        fields = request.query.get("fields")
        if fields and isinstance(answer, dict):
            wanted = fields.split(",")
            answer = {key: value for key, value in answer.items() if key in wanted}
        return Response(200, json.dumps(answer).encode())

    def _other(self, request: Request, path: str) -> Response:
        if path == "$discovery/rest":
            host = request.headers.get("host", "")
            return Response(200, json.dumps(document(f"http://{host}/" if host else "")).encode())
        if path in ("", "status"):
            return Response(
                200,
                json.dumps({"service": "thawslump emulator", "catalog": str(self.root)}).encode(),
            )
        return Response.error(
            404, f"The emulator has no method for {request.method} /{path}.", "NOT_FOUND"
        )

    def _check_caller(self, request: Request, method: Method | None) -> None:
        if self._token is None:
            # A page in the user's browser must not reach the endpoint, neither under a name
            # that was made to point here nor by a request across sites.
            host = request.headers.get("host", "127.0.0.1")
            origin = request.headers.get("origin")
            places = [host] if origin is None else [host, origin.rpartition("//")[2]]
            if any(place.rpartition("//")[2].lower() not in _hosts(place) for place in places):
                raise _Refused(
                    403,
                    f"The emulator answers this machine only, not {places[-1]!r}; start it with "
                    "a token to let others call.",
                    "PERMISSION_DENIED",
                )
            return
        # Pixels of maps, thumbnails and tables go to whoever knows their unguessable id, as a
        # browser that shows them has no other credential.
        open_methods = ("tiles_get", "thumbnails_get_pixels", "tables_get_features")
        if method is not None and method.handler in open_methods:
            return
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        given = shown.strip() if scheme.lower() == "bearer" else ""
        given = given or request.query.get("key") or request.headers.get("x-goog-api-key", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            # Not 401: clients answer that by renewing credentials, and hide these words.
            raise _Refused(
                403,
                "The emulator asks for a token: ee.Initialize(..., cloud_api_key=TOKEN).",
                "PERMISSION_DENIED",
            )

    # ---- values

    def _algorithms_list(self, arguments: dict[str, Any]) -> Response:
        return Response(200, algorithms())

    def _value_compute(self, arguments: dict[str, Any]) -> dict[str, Any]:
        with self._busy:
            value = self.evaluator.evaluate(_expression(arguments["body"]))
            return {"result": self.evaluator.to_json(value)}

    def _table_compute_features(self, arguments: dict[str, Any]) -> dict[str, Any]:
        body = arguments["body"]
        size = _page_size(body.get("pageSize"), PAGE)
        with self._busy:
            value = self.evaluator.evaluate(_expression(body))
            features, token = self.evaluator.feature_pages(value, size, body.get("pageToken"))
        out: dict[str, Any] = {"type": "FeatureCollection", "features": features}
        if token:
            out["nextPageToken"] = token
        return out

    def _image_collection_compute_images(self, arguments: dict[str, Any]) -> dict[str, Any]:
        body = arguments["body"]
        size, start = _page_size(body.get("pageSize"), PAGE), _page_start(body.get("pageToken"))
        with self._busy:
            value = self.evaluator.evaluate(_expression(body))
            shown = self.evaluator.to_json(value)
        if not isinstance(shown, dict) or shown.get("type") != "ImageCollection":
            raise EngineError("Expression does not evaluate to an image collection.")
        images = shown.get("features", [])
        out: dict[str, Any] = {"images": images[start : start + size]}
        if len(images) > start + size:
            out["nextPageToken"] = str(start + size)
        return out

    # ---- pixels

    def _image_compute_pixels(self, arguments: dict[str, Any]) -> Response:
        with self._busy:
            return self._pixels(arguments["body"])

    def _assets_get_pixels(self, arguments: dict[str, Any]) -> Response:
        body = dict(arguments["body"])
        asset = self._asset(arguments["name"])
        if asset.type != "IMAGE":
            raise EngineError(f"Asset '{asset.id}' is not an Image.")
        body["expression"] = _call("Image.load", {"id": _constant(asset.id)})
        with self._busy:
            return self._pixels(body, region=body.get("region"))

    def _pixels(
        self,
        body: dict[str, Any],
        *,
        thumbnail: bool = False,
        region: dict[str, Any] | None = None,
    ) -> Response:
        """Compute and encode the pixels that a request asks for."""
        from . import encode

        file_format = body.get("fileFormat") or "AUTO_JPEG_PNG"
        if file_format not in (*PICTURES, *ARCHIVES, "NPY", "GEO_TIFF"):
            raise EngineError(f"Image file format {file_format} is not implemented.")
        image = self._image(body)
        small = thumbnail and file_format in PICTURES and not _sized(body["expression"])
        grid = self._grid(image, body.get("grid"), small, region)
        # A visualised image has the bands red, green, blue: what was asked for went into it.
        names = None if body.get("visualizationOptions") else body.get("bandIds") or None
        bands = _infos(image, names)
        if file_format in PICTURES and names is None and len(bands) > 3:
            bands = bands[:3]
        self.limits.check_pixels(
            grid.width, grid.height, [(band.id, band.dtype.itemsize) for band in bands]
        )
        canvas = _canvas(grid)
        tiles = self._tiles(image, grid, bands)
        if file_format == "NPY":
            return Response(200, encode.npy(tiles, bands, canvas), "application/octet-stream")
        if file_format == "GEO_TIFF":
            return Response(200, encode.geotiff(tiles, bands, canvas), "image/tiff")
        if file_format in PICTURES:
            colours = encode.rgba(_whole(tiles, bands, canvas), bands)
            return Response(200, *encode.picture(colours, file_format))
        prefix = _file_name(body.get("filenamePrefix") or "download")
        if file_format == "ZIPPED_GEO_TIFF":
            files = {f"{prefix}.tif": encode.geotiff(tiles, bands, canvas)}
        else:
            pixels = _whole(tiles, bands, canvas)
            whole = (0, canvas.height, 0, canvas.width)
            files = {
                f"{prefix}.{band.id}.tif": encode.geotiff([(*whole, pixels)], [band], canvas)
                for band in bands
            }
        return Response(
            200,
            encode.archive(files),
            "application/zip",
            {"Content-Disposition": f'attachment; filename="{prefix}.zip"'},
        )

    def _image(self, body: Mapping[str, Any]) -> Image:
        """Return the image of a request, visualised as it asks.

        A map or an export asks for many parts of one image: its expression is evaluated once,
        while no asset of the catalogue changes.
        """
        from .image import Image

        expression = _expression(body)
        options = body.get("visualizationOptions")
        if options:
            expression = _visualized(expression, body.get("bandIds") or [], options)
        text = json.dumps(expression, separators=(",", ":"))
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        stamp = self.catalog.generation
        with self._lock:
            known = self._images.get(key)
            if known is not None and known[0] == stamp:
                self._images.move_to_end(key)
                return known[1]
        value = self.evaluator.evaluate(expression)
        if not isinstance(value, Image):
            raise EngineError("Expression does not evaluate to an image.")
        with self._lock:
            self._images[key] = (stamp, value)
            while len(self._images) > IMAGES:
                self._images.popitem(last=False)
        return value

    def _grid(
        self,
        image: Image,
        wanted: Mapping[str, Any] | None,
        small: bool = False,
        region: dict[str, Any] | None = None,
    ) -> PixelGrid:
        from .evaluate import default_grid
        from .projection import PixelGrid

        if wanted and wanted.get("dimensions"):
            return PixelGrid.from_request(dict(wanted), image.first_projection)
        crs, transform = _placement(wanted or {})
        grid = default_grid(image, region, crs=crs, transform=transform)
        longest = max(grid.width, grid.height)
        if not small or longest <= THUMBNAIL:
            return grid
        k = longest / THUMBNAIL
        a, b, c, d, e, f = grid.transform
        return PixelGrid(
            grid.crs,
            (a * k, b * k, c, d * k, e * k, f),
            max(1, round(grid.width / k)),
            max(1, round(grid.height / k)),
        )

    def _tiles(self, image: Image, grid: PixelGrid, bands: Sequence[BandInfo]) -> Iterator[Any]:
        from .pixels import compute_pixels

        return compute_pixels(image, grid, [band.id for band in bands], self.evaluator.limits)

    # ---- maps, thumbnails, tables

    def _maps_create(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._remembered("maps", arguments)

    def _thumbnails_create(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._remembered("thumbnails", arguments)

    def _tables_create(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._remembered("tables", arguments)

    def _remembered(self, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        body = arguments["body"]
        with self._busy:
            # As in Earth Engine, a wrong expression fails here and not at the first tile.
            if kind == "tables":
                self.evaluator.evaluate(_expression(body))
            else:
                self._image(body)
        return {"name": f"{arguments['parent']}/{kind}/{self.store.remember(kind, body)}"}

    def _recalled(self, kind: str, name: str) -> dict[str, Any]:
        body = self.store.recall(kind, name.rpartition("/")[2])
        if body is None:
            raise EngineError(f"'{name}' not found: it expired or never was.", "NOT_FOUND")
        return body

    def _tiles_get(self, arguments: dict[str, Any]) -> Response:
        from . import encode
        from .projection import PixelGrid

        name = arguments["parent"]
        try:
            zoom, x, y = (int(arguments[key]) for key in ("zoom", "x", "y"))
        except ValueError:
            raise EngineError("Tile coordinates must be whole numbers.") from None
        if not 0 <= zoom <= 24 or not 0 <= y < 2**zoom:
            raise EngineError(f"There is no tile {zoom}/{x}/{y}.")
        body = self._recalled("maps", name)
        half = 20037508.342789244
        size = 2 * half / 2**zoom
        scale = size / 256
        corner = (-half + (x % 2**zoom) * size, half - y * size)
        transform = (scale, 0.0, corner[0], 0.0, -scale, corner[1])
        grid = PixelGrid("EPSG:3857", transform, 256, 256)
        with self._busy:
            image = self._image(body)
            names = None if body.get("visualizationOptions") else body.get("bandIds") or None
            bands = _infos(image, names)[:3]
            pixels = _whole(self._tiles(image, grid, bands), bands, _canvas(grid))
        content, kind = encode.picture(
            encode.rgba(pixels, bands), body.get("fileFormat") or "AUTO_JPEG_PNG"
        )
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "private, max-age=3600"}
        return Response(200, content, kind, headers)

    def _thumbnails_get_pixels(self, arguments: dict[str, Any]) -> Response:
        body = self._recalled("thumbnails", arguments["name"])
        with self._busy:
            return self._pixels(body, thumbnail=True)

    def _tables_get_features(self, arguments: dict[str, Any]) -> Response:
        from .tables import FORMATS, encode_table

        body = self._recalled("tables", arguments["name"])
        file_format = body.get("fileFormat") or "CSV"
        with self._busy:
            value = self.evaluator.evaluate(_expression(body))
            content = encode_table(
                self._features(value), file_format, body.get("selectors") or None
            )
        ending, kind = FORMATS[file_format]
        name = _file_name(body.get("filename") or "table").removesuffix(ending) + ending
        return Response(
            200, content, kind, {"Content-Disposition": f'attachment; filename="{name}"'}
        )

    def _features(self, value: Any) -> Iterator[dict[str, Any]]:
        token = None
        while True:
            features, token = self.evaluator.feature_pages(value, 5000, token)
            yield from features
            if not token:
                return

    # ---- assets

    def _asset(self, name: str) -> Asset:
        asset = self.catalog.get(name)
        if asset is None:
            raise EngineError(
                f"Asset '{name}' does not exist or doesn't allow this operation.", "NOT_FOUND"
            )
        return asset

    def _assets_get(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return asset_json(self._asset(arguments["name"]))

    def _projects_list_assets(self, arguments: dict[str, Any]) -> dict[str, Any]:
        project = arguments["parent"].rpartition("/")[2]
        top = {"earthengine-public": "", "earthengine-legacy": "users"}.get(
            project, f"projects/{project}/assets"
        )
        return self._listed(top, arguments)

    def _assets_list_assets(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._listed(self._asset(arguments["parent"]).id, arguments)

    def _listed(self, parent: str, arguments: dict[str, Any]) -> dict[str, Any]:
        from .assetfilter import matcher

        size = _page_size(arguments.get("pageSize"), PAGE)
        start = _page_start(arguments.get("pageToken"))
        keep = matcher(arguments.get("filter") or "")
        found: list[Asset] = []
        end = None
        children = self.catalog.children(parent)
        for position in range(start, len(children)):
            child = children[position]
            if not parent and child.id in ("projects", "users"):
                continue
            if keep(child):
                if len(found) == size:
                    end = position
                    break
                found.append(child)
        basic = arguments.get("view") == "BASIC"
        out: dict[str, Any] = {"assets": [asset_json(asset, basic=basic) for asset in found]}
        if end is not None:
            out["nextPageToken"] = str(end)
        return out

    def _assets_create(self, arguments: dict[str, Any]) -> dict[str, Any]:
        body = arguments["body"]
        if not arguments.get("assetId"):
            raise EngineError("An assetId is required.")
        name = f"{arguments['parent']}/assets/{arguments['assetId']}"
        kind = body.get("type")
        if self.catalog.get(name) is not None:
            raise EngineError(f"Cannot overwrite asset '{name}'.")
        self._check_parent(name)
        properties = body.get("properties") or {}
        if kind == "FOLDER":
            self.catalog.put_folder(name, properties)
        elif kind == "IMAGE_COLLECTION":
            self.catalog.put_collection(name, properties)
        else:
            raise EngineError(
                f"Creating an asset of type {kind} is not implemented in the emulator; it makes "
                "FOLDER and IMAGE_COLLECTION, and takes in files with: thawslump emulator ingest."
            )
        return asset_json(self._asset(name))

    def _check_parent(self, name: str) -> None:
        """Refuse a new asset whose folder does not exist, as Earth Engine does."""
        parent = name.rpartition("/")[0]
        if parent.endswith("/assets") or "/" not in parent:
            return
        found = self.catalog.get(parent)
        if found is None:
            raise EngineError(
                f"Cannot create asset: the parent '{parent}' does not exist or doesn't allow "
                "this operation."
            )
        if found.type not in ("FOLDER", "IMAGE_COLLECTION"):
            raise EngineError(f"Cannot create asset: '{parent}' is a {found.type}, not a folder.")

    def _assets_delete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        asset = self._asset(arguments["name"])
        self.catalog.delete(asset.id)
        return {}

    def _assets_patch(self, arguments: dict[str, Any]) -> dict[str, Any]:
        body = arguments["body"]
        asset = self._asset(arguments["name"])
        new = body.get("asset", body) or {}
        mask = body.get("updateMask") or arguments.get("updateMask") or {}
        paths = mask.get("paths") if isinstance(mask, dict) else str(mask).split(",")
        # The client sends `properties."name"` for one property, `properties` for all of them.
        changes: dict[str, Any] = {}
        times: dict[str, int | None] = {}
        given = new.get("properties") or {}
        for path in paths or ["properties"]:
            if path == "properties":
                changes.update(dict.fromkeys(asset.properties))
                changes.update(given)
            elif path.startswith("properties."):
                key = path.removeprefix("properties.").strip('"')
                changes[key] = given.get(key)
            elif path in ("start_time", "startTime", "end_time", "endTime"):
                start = path.startswith("start")
                text = new.get("startTime" if start else "endTime")
                text = text or new.get("start_time" if start else "end_time")
                times["start_ms" if start else "end_ms"] = None if text is None else _ms(text)
            else:
                raise EngineError(f"Updating '{path}' of an asset is not implemented.")
        self.catalog.update_properties(asset.id, changes, **times)
        return asset_json(self._asset(arguments["name"]))

    def _assets_copy(self, arguments: dict[str, Any]) -> dict[str, Any]:
        body = arguments["body"]
        source = self._asset(arguments["sourceName"])
        target = str(body.get("destinationName") or "")
        self._check_parent(target)
        self.catalog.copy(source.id, target, overwrite=bool(body.get("overwrite")))
        return asset_json(self._asset(target))

    def _assets_move(self, arguments: dict[str, Any]) -> dict[str, Any]:
        source = self._asset(arguments["sourceName"])
        if self.catalog.children(source.id):
            raise EngineError(f"Asset '{source.name}' has children and cannot be moved.")
        target = str(arguments["body"].get("destinationName") or "")
        self._check_parent(target)
        self.catalog.copy(source.id, target)
        self.catalog.delete(source.id)
        return asset_json(self._asset(target))

    def _assets_list_features(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from shapely.geometry import shape

        from .assetfilter import property_matcher

        asset = self._asset(arguments["asset"])
        if asset.type != "TABLE":
            raise EngineError(f"Asset '{asset.id}' is not a table.")
        size = _page_size(arguments.get("pageSize"), PAGE)
        start = _page_start(arguments.get("pageToken"))
        keep = property_matcher(arguments.get("filter") or "")
        try:
            region = shape(json.loads(arguments["region"])) if arguments.get("region") else None
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"The region is no GeoJSON geometry ({error}).") from None
        found: list[dict[str, Any]] = []
        features = self.catalog.features(asset.id)
        end = None
        for position in range(start, len(features)):
            feature = features[position]
            if not keep(feature["properties"]):
                continue
            geometry = feature["geometry"]
            if region is not None and not (geometry and shape(geometry).intersects(region)):
                continue
            if len(found) == size:
                end = position
                break
            found.append(feature)
        out: dict[str, Any] = {"type": "FeatureCollection", "features": found}
        if end is not None:
            out["nextPageToken"] = str(end)
        return out

    def _assets_get_iam_policy(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._asset(arguments["resource"])
        return {"bindings": [{"role": "roles/owner", "members": ["allUsers"]}]}

    def _projects_get_config(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"name": arguments["name"], "maxConcurrentExports": 2}

    # ---- exports

    def _image_export(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from .exporting import check_image_export

        body = arguments["body"]
        _expression(body)
        check_image_export(body, self.state / "exports")
        return self.operations.submit(arguments["project"], "EXPORT_IMAGE", body)

    def _table_export(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from .exporting import check_table_export

        body = arguments["body"]
        _expression(body)
        check_table_export(body, self.state / "exports")
        return self.operations.submit(arguments["project"], "EXPORT_FEATURES", body)

    def _export(self, job: Job) -> list[str]:
        from .exporting import export_image, export_table

        if job.kind == "EXPORT_IMAGE":
            image = self._image(job.body)
            grid = self._grid(image, job.body.get("grid"))
            bands = _infos(image, None)
            return export_image(
                job,
                self.catalog,
                self.state / "exports",
                self.limits,
                bands,
                _canvas(grid),
                lambda row0, row1, col0, col1: self._window(
                    image, grid, bands, row0, row1, col0, col1
                ),
                dict(getattr(image, "properties", {}) or {}),
            )
        value = self.evaluator.evaluate(_expression(job.body))
        return export_table(job, self.catalog, self.state / "exports", self._features(value))

    def _window(
        self,
        image: Image,
        grid: PixelGrid,
        bands: Sequence[BandInfo],
        row0: int,
        row1: int,
        col0: int,
        col1: int,
    ) -> Iterator[Any]:
        from .pixels import compute_pixels

        window = grid.part(row0, col0, row1 - row0, col1 - col0)
        names = [band.id for band in bands]
        return compute_pixels(image, window, names, self.evaluator.limits)

    def _operations_get(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self.operations.get(*_operation_name(arguments["name"]))

    def _operations_list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        size = _page_size(arguments.get("pageSize"), 500)
        start = _page_start(arguments.get("pageToken"))
        found, more = self.operations.list(arguments["name"], size, start)
        out: dict[str, Any] = {"operations": found}
        if more is not None:
            out["nextPageToken"] = str(more)
        return out

    def _operations_cancel(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.operations.cancel(*_operation_name(arguments["name"]))
        return {}

    def _operations_delete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.operations.delete(*_operation_name(arguments["name"]))
        return {}

    def _operations_wait(self, arguments: dict[str, Any]) -> dict[str, Any]:
        text = str(arguments["body"].get("timeout") or "10s").removesuffix("s")
        try:
            seconds = min(float(text), 60.0)
        except ValueError:
            raise EngineError(f"The timeout {text!r} is no duration such as '10s'.") from None
        return self.operations.wait(*_operation_name(arguments["name"]), seconds)


# --------------------------------------------------------------------------------------------
# requests


def _hosts(place: str) -> tuple[str, ...]:
    """Return the loopback names with the port that `place` has."""
    name = place.rpartition("//")[2].lower()
    tail = name.rpartition("]")[2] if name.startswith("[") else name
    port = tail.rpartition(":")[2] if ":" in tail else ""
    return tuple(f"{host}:{port}" if port else host for host in LOOPBACK)


def _overridden(request: Request) -> Request:
    """Return the GET that a client sent as a POST because its address was too long."""
    verb = request.headers.get("x-http-method-override", "").upper()
    if request.method != "POST" or verb != "GET":
        return request
    form = urllib.parse.parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    query = {**request.query, **{key: values[-1] for key, values in form.items()}}
    return Request(verb, request.path, query, request.headers)


def _match(verb: str, path: str) -> tuple[Method | None, dict[str, str]]:
    for method in METHODS:
        # Patterns are compiled when they are first tried, so most never are.
        fits = method.verb == verb and ("{" in method.suffix or path.endswith(method.suffix))
        if fits and (found := method.pattern.fullmatch(path)):
            return method, found.groupdict()
    return None, {}


def _body(content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    try:
        value = json.loads(content)
    except ValueError as error:
        raise EngineError(f"Invalid JSON payload received: {error}.") from None
    if not isinstance(value, dict):
        raise EngineError("Invalid JSON payload received: expected an object.")
    return value


def _expression(body: Mapping[str, Any]) -> dict[str, Any]:
    expression = body.get("expression")
    if (
        not isinstance(expression, dict)
        or not isinstance(expression.get("values"), dict)
        or not isinstance(expression.get("result"), str)
    ):
        raise EngineError("Invalid JSON payload received: 'expression' is missing or malformed.")
    return expression


def _page_size(value: Any, default: int) -> int:
    try:
        size = int(value or 0)
    except (TypeError, ValueError):
        raise EngineError(f"Page size {value!r} is not a whole number.") from None
    if size < 0:
        raise EngineError("Page size must not be negative.")
    return min(size, 10_000) or default


def _page_start(token: Any) -> int:
    if not token:
        return 0
    if not str(token).isdigit():
        raise EngineError(f"Invalid page token: {token!r}.")
    return int(token)


def _operation_name(name: str) -> tuple[str, str]:
    project, _, last = name.partition("/operations/")
    return project, last


def _file_name(text: str) -> str:
    """Return a name that is safe inside an archive and in a header."""
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in text.rpartition("/")[2])
    return kept.lstrip(".")[:200] or "download"


def _ms(text: str) -> int:
    import datetime

    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise EngineError(f"Invalid timestamp: {text!r}.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


# --------------------------------------------------------------------------------------------
# expressions


def _sized(node: Any) -> bool:
    """Tell whether an expression says how large its picture is (`dimensions`, `scale`)."""
    if isinstance(node, list):
        return any(_sized(item) for item in node)
    if not isinstance(node, dict):
        return False
    if node.get("functionName") == "Image.clipToBoundsAndScale":
        given = node.get("arguments") or {}
        if any(key in given for key in ("width", "height", "maxDimension", "scale")):
            return True
    return any(_sized(item) for item in node.values())


def _constant(value: Any) -> dict[str, Any]:
    return {"constantValue": value}


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return an expression that calls one function."""
    node = {"functionInvocationValue": {"functionName": name, "arguments": arguments}}
    return {"result": "0", "values": {"0": node}}


def _visualized(
    expression: dict[str, Any], bands: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the expression of a visualised image, computed by the engine's own function."""
    values = dict(expression["values"])
    arguments: dict[str, Any] = {"image": {"valueReference": expression["result"]}}
    if bands:
        arguments["bands"] = _constant(list(bands))
    ranges = options.get("ranges") or []
    if ranges:
        arguments["min"] = _constant([r.get("min", 0) for r in ranges])
        arguments["max"] = _constant([r.get("max", 1) for r in ranges])
    gamma = options.get("gamma")
    if gamma is not None:
        value = gamma.get("value", 1) if isinstance(gamma, Mapping) else gamma
        arguments["gamma"] = _constant([value])
    if options.get("paletteColors"):
        arguments["palette"] = _constant(list(options["paletteColors"]))
    if options.get("opacity") is not None:
        opacity = options["opacity"]
        arguments["opacity"] = _constant(
            opacity.get("value", 1) if isinstance(opacity, Mapping) else opacity
        )
    key = "visualized"
    while key in values:
        key += "_"
    call = {"functionName": "Image.visualize", "arguments": arguments}
    values[key] = {"functionInvocationValue": call}
    return {"result": key, "values": values}


# --------------------------------------------------------------------------------------------
# pixels and assets


def _infos(image: Image, names: Sequence[str] | None) -> list[BandInfo]:
    from .encode import BandInfo

    bands = image.bands if names is None else [image.band(name) for name in names]
    if not bands:
        raise EngineError("Image has no bands.")
    return [BandInfo(b.id, b.type.dtype, b.type.low, b.type.high) for b in bands]


def _placement(grid: Mapping[str, Any]) -> tuple[str | None, tuple[float, ...] | None]:
    """Return the CRS and the transform of a grid that leaves its dimensions to the image."""
    affine = grid.get("affineTransform")
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    transform = tuple(float(affine.get(name, 0)) for name in names) if affine else None
    return grid.get("crsCode") or grid.get("crsWkt"), transform


def _canvas(grid: PixelGrid) -> Canvas:
    from .encode import Canvas

    return Canvas(grid.crs, grid.transform, grid.width, grid.height)


def _whole(tiles: Iterator[Any], bands: Sequence[BandInfo], canvas: Canvas) -> dict[str, Any]:
    """Return the tiles as whole arrays by band: (data, mask)."""
    import numpy as np

    shape = (canvas.height, canvas.width)
    out: dict[str, Any] = {}
    for row0, row1, col0, col1, pixels in tiles:
        if (row1 - row0, col1 - col0) == shape:
            return dict(pixels)
        for band in bands:
            if band.id not in out:
                out[band.id] = np.zeros(shape, band.dtype), np.zeros(shape, np.float32)
            data, mask = out[band.id]
            data[row0:row1, col0:col1] = pixels[band.id][0]
            mask[row0:row1, col0:col1] = pixels[band.id][1]
    return out


def asset_json(asset: Asset, *, basic: bool = False) -> dict[str, Any]:
    """Return an asset as the REST interface describes it (EarthEngineAsset)."""
    from .operations import timestamp

    out: dict[str, Any] = {"type": asset.type, "name": asset.name, "id": asset.id}
    if basic:
        return out
    out["updateTime"] = timestamp(asset.updated)
    if asset.properties:
        out["properties"] = dict(asset.properties)
    for key in ("title", "description"):
        if isinstance(asset.properties.get(key), str):
            out[key] = asset.properties[key]
    if asset.start_ms is not None:
        out["startTime"] = timestamp(asset.start_ms / 1000)
    if asset.end_ms is not None:
        out["endTime"] = timestamp(asset.end_ms / 1000)
    if asset.footprint is not None:
        out["geometry"] = asset.footprint
    if asset.size_bytes:
        out["sizeBytes"] = str(asset.size_bytes)
    if asset.bands:
        out["bands"] = [_band_json(band) for band in asset.bands]
    return out


def _band_json(band: Any) -> dict[str, Any]:
    kind = band.data_type
    limits = {"min": kind.min, "max": kind.max}
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    code = {"crsCode": band.crs} if len(band.crs) < 20 else {"crsWkt": band.crs}
    return {
        "id": band.id,
        "dataType": {
            "precision": kind.precision.upper(),
            "range": {key: value for key, value in limits.items() if value is not None},
        },
        "grid": {
            **code,
            "dimensions": {"width": band.shape[1], "height": band.shape[0]},
            "affineTransform": dict(zip(names, band.transform, strict=True)),
        },
        "pyramidingPolicy": band.policy,
    }
