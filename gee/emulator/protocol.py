"""The REST interface of Earth Engine, without a web server: a request in, a response out.

`Endpoint.handle` answers every method of `discovery.METHODS` with the functions of `methods`.
The web application and the in-process transport are thin layers over it. It never raises, and it
never answers 429 or 5xx but as a fault that was asked for: clients would try such a request again
and again, so whatever goes wrong is a 400 with words.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import logging
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.errors import DataError, ThawslumpError

from . import memory
from .budget import Budget, limited
from .discovery import METHODS, Method, algorithms, document
from .errors import EngineError, worded
from .later import deferred
from .limits import RequestLimits
from .messages import CALL, SPENT, Call, Request, Response
from .methods import find
from .methods.requests import expression_of, read_body, visualized
from .profiles import ASKED, TOLD, profile_id

if TYPE_CHECKING:
    from .catalog import Asset, Catalog
    from .evaluate import Evaluator
    from .faults import Faults, FaultsConfig
    from .image import Image
    from .operations import Job, Operations
    from .quota import Meter
    from .store import Store

__all__ = ["Endpoint", "Request", "Response"]

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
IMAGES = 64  # evaluated expressions that are kept; they hold no pixels
LONGEST_TEXT = 4000  # characters of an error's words
# States of refusals that a faults file asks for, and of what is not there.
CODES = {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503}
# Pixels of maps, thumbnails and tables go to whoever knows their unguessable id, as a browser
# that shows them has no other credential.
OPEN = frozenset(
    {
        "tiles_get",
        "thumbnails_get_pixels",
        "video_thumbnails_get_pixels",
        "filmstrip_thumbnails_get_pixels",
        "tables_get_features",
    }
)


class _Refused(Exception):
    """A caller who may not call: answered with 403."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.response = Response.error(403, message, "PERMISSION_DENIED")


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
    imports : Path, optional
        The folder whose files manifests of `image:import` and `table:import` may name. Without
        one they may only name `gs://bucket/..`, which are files that were exported.
    faults : FaultsConfig or Path, optional
        Faults on demand; see `gee.emulator.faults`.
    run : str, optional
        Start of the server that its worker processes share; faults are counted by it.

    Raises
    ------
    DataError
        There is no catalogue at that place.
    ConfigError
        The faults file cannot be used.

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
        cache_bytes: int = 256 * 2**20,
        imports: Path | None = None,
        faults: FaultsConfig | Path | None = None,
        run: str | None = None,
    ) -> None:
        self.root = Path(catalog).absolute()
        if not self.root.is_dir():
            raise DataError(
                f"There is no catalogue at {self.root}.",
                hint="Make one with: thawslump emulator ingest, or thawslump demo.",
            )
        self.state = Path(state).absolute() if state is not None else self.root / ".state"
        self.exports = self.state / "exports"
        self.imports = None if imports is None else Path(imports).absolute()
        if self.imports is not None and not self.imports.is_dir():
            raise DataError(
                f"There is no folder of imports at {self.imports}.", hint="Make it first."
            )
        self.limits = limits or RequestLimits()
        self._token = token
        self._cache_bytes = cache_bytes
        self._lock = threading.RLock()
        self._busy = threading.BoundedSemaphore(self.limits.concurrency)
        self._catalog: Catalog | None = None
        self._evaluator: Evaluator | None = None
        self._store: Store | None = None
        self._operations: Operations | None = None
        self._meter: Meter | None = None
        self._images: OrderedDict[bytes, tuple[int, Image]] = OrderedDict()
        self.faults = self._faults(faults, run)

    def _faults(self, given: FaultsConfig | Path | None, run: str | None) -> Faults | None:
        if given is None:
            return None
        from .faults import Faults, FaultsConfig, load_faults

        config = given if isinstance(given, FaultsConfig) else load_faults(given)
        return Faults(config, self.store, run)

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

                # Many values read no asset: the catalogue waits for the first that does.
                self._evaluator = Evaluator(deferred(lambda: self.catalog))
            return self._evaluator

    @property
    def store(self) -> Store:
        """What is remembered between requests."""
        with self._lock:
            if self._store is None:
                from .store import Store

                self._store = Store(self.state)
            return self._store

    @property
    def operations(self) -> Operations:
        """The exports and imports."""
        with self._lock:
            if self._operations is None:
                from .operations import Operations

                self._operations = Operations(
                    self.store, self._run, on_progress=self._spent, on_takeover=self._tidy
                )
            return self._operations

    @property
    def meter(self) -> Meter:
        """What computing has cost."""
        with self._lock:
            if self._meter is None:
                from .quota import Meter

                exact = self.faults is not None and self.faults.config.eecu_budget is not None
                self._meter = Meter(lambda: self.store, exact=exact)
            return self._meter

    def start(self) -> None:
        """Load what the first request would load, and continue exports that were cut off."""
        from .functions import load_all

        self.operations.resume()
        algorithms()
        self.catalog  # noqa: B018 (its import is the work)
        self.evaluator  # noqa: B018
        load_all()

    def close(self) -> None:
        """Stop exports and close files; exports under way continue at the next start."""
        if self._operations is not None:
            self._operations.close()
        if self._meter is not None:
            with contextlib.suppress(ThawslumpError):
                self._meter.flush()
        if self._store is not None:
            self._store.close()

    # ---- one request

    def handle(self, request: Request) -> Response:
        """Answer a request. Never raises; safe to call from many threads."""
        if ASKED not in request.headers:
            return self._answered(request)
        spent = [0.0]
        token = SPENT.set(spent)
        try:
            answer = self._answered(request)
        finally:
            SPENT.reset(token)
        what = request.path.rpartition("/")[2][:100]
        told = {TOLD: profile_id(what, spent[0])}
        return replace(answer, headers={**answer.headers, **told})

    def _answered(self, request: Request) -> Response:
        try:
            with limited(Budget(self.limits.deadline)):
                return self._handle(request)
        except _Refused as refused:
            return refused.response
        except EngineError as error:
            code = CODES.get(error.status, 400)
            return Response.error(code, str(error)[:LONGEST_TEXT], error.status)
        except ThawslumpError as error:
            return Response.error(400, str(error)[:LONGEST_TEXT], "INVALID_ARGUMENT")
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
                worded(error)[:LONGEST_TEXT],
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
            arguments["body"] = read_body(request.body)
        call = _call(request, method, arguments)
        token = CALL.set(call)
        try:
            broken = "" if self.faults is None else self.faults.before(call)
            if broken == "dropped":
                return Response(500, b"", broken=broken)
            answer = find(method)(self, arguments)
        finally:
            CALL.reset(token)
        if not isinstance(answer, Response):
            fields = request.query.get("fields")
            if fields and isinstance(answer, dict):
                wanted = fields.split(",")
                answer = {key: value for key, value in answer.items() if key in wanted}
            answer = Response(200, json.dumps(answer).encode())
        if broken == "half_body":
            return replace(answer, body=answer.body[: len(answer.body) // 2])
        return replace(answer, broken=broken) if broken else answer

    def _other(self, request: Request, path: str) -> Response:
        if path == "$discovery/rest":
            host = request.headers.get("host", "")
            return Response(200, json.dumps(document(f"http://{host}/" if host else "")).encode())
        if path in ("", "status"):
            facts = {
                "service": "thawslump emulator",
                "catalog": str(self.root),
                "eecu": self.meter.report(),
            }
            return Response(200, json.dumps(facts).encode())
        return Response.error(
            404, f"The emulator has no method for {request.method} /{path[:500]}.", "NOT_FOUND"
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
                    f"The emulator answers this machine only, not {places[-1][:200]!r}; start it "
                    "with a token to let others call."
                )
            return
        if method is not None and method.handler in OPEN:
            return
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        given = shown.strip() if scheme.lower() == "bearer" else ""
        given = given or request.query.get("key") or request.headers.get("x-goog-api-key", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            # Not 401: clients answer that by renewing credentials, and hide these words.
            raise _Refused(
                "The emulator asks for a token: ee.Initialize(..., cloud_api_key=TOKEN)."
            )

    # ---- what the methods share

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Compute inside this block: a few requests at a time, metered, within quotas.

        Raises
        ------
        EngineError
            A quota or a budget that a faults file asks for is used up.
        """
        call = CALL.get()
        slot = contextlib.nullcontext() if self.faults is None else self.faults.slot(call)
        with slot:
            self.check_budget(call.project)
            with self._busy:
                start = time.perf_counter()
                try:
                    yield
                finally:
                    spent = time.perf_counter() - start
                    self.meter.add(call.project, call.tag, spent)
                    told = SPENT.get()
                    if told is not None:
                        told[0] += spent
                    if spent > 0.2:
                        memory.give_back()

    def check_budget(self, project: str) -> None:
        """Refuse to compute for a project whose budget is used up."""
        if self.faults is not None and self.faults.config.eecu_budget is not None:
            self.faults.check_budget(project, self.meter.used(project))

    def check_faulty_pixels(self, count: int) -> None:
        """Refuse a picture of more pixels than a faults file allows."""
        if self.faults is not None:
            self.faults.pixels(CALL.get(), count)

    def image(self, body: Mapping[str, Any]) -> Image:
        """Return the image of a request, visualised as it asks.

        A map or an export asks for many parts of one image: its expression is evaluated once,
        while no asset of the catalogue changes.

        Raises
        ------
        EngineError
            The expression is malformed, fails or is no image.
        """
        from .image import Image

        expression = expression_of(body)
        options = body.get("visualizationOptions")
        if options:
            expression = visualized(expression, body.get("bandIds") or [], options)
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

    def asset(self, name: str) -> Asset:
        """Return an asset of the catalogue.

        Raises
        ------
        EngineError
            There is none of that name (NOT_FOUND).
        """
        asset = self.catalog.get(name)
        if asset is None:
            raise EngineError(
                f"Asset '{name}' does not exist or doesn't allow this operation.", "NOT_FOUND"
            )
        return asset

    def recalled(self, kind: str, name: str) -> dict[str, Any]:
        """Return the request that `create` kept under a name.

        Raises
        ------
        EngineError
            There is none of that name (NOT_FOUND).
        """
        body = self.store.recall(kind, name.rpartition("/")[2])
        if body is None:
            raise EngineError(f"'{name[:200]}' not found: it expired or never was.", "NOT_FOUND")
        return body

    def _run(self, job: Job) -> list[str]:
        from .methods.exports import run

        return run(self, job)

    def _tidy(self, process: int, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Remove the half-written files of a process that was killed in the middle of exports."""
        import psutil

        from .assets import normalize_id

        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
                return  # another process has its number by now
        places = [self.exports.rglob(f".*.{process}.tmp*")]
        for body in bodies:
            options = body.get("assetExportOptions") or {}
            named = options.get("earthEngineDestination") or body.get("imageManifest") or {}
            with contextlib.suppress(ThawslumpError):
                folder = self.catalog.root / normalize_id(str(named.get("name") or ""))
                places.append(folder.glob(f".*.{process}.tmp*"))
        for path in itertools.chain(*places):
            with contextlib.suppress(OSError):
                path.unlink()

    def _spent(self, job: Job, seconds: float) -> None:
        """Meter what an export has computed since it told last, and stop it at the budget."""
        self.meter.add(job.project, str(job.body.get("workloadTag") or ""), seconds)
        self.check_budget(job.project)


# --------------------------------------------------------------------------------------------
# requests


def _call(request: Request, method: Method, arguments: Mapping[str, Any]) -> Call:
    path = str(arguments.get(method.parameter, ""))
    body = arguments.get("body") or {}
    tag = body.get("workloadTag") or request.query.get("workloadTag") or ""
    last = method.resource.rpartition(".")[2]
    return Call(
        verb=request.method,
        path=request.path,
        handler=method.handler,
        names=(method.handler, f"{last}:{method.name}", f"{last}.{method.name}", method.id),
        project="/".join(path.split("/")[:2]),
        tag=str(tag)[:63],
    )


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
