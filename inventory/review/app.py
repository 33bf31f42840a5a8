"""The review page's server: queue, chips, decisions; everything it needs is in the package.

Decisions are on the disk before they are answered (see `inventory.store`), so the server may be
killed at any moment. It listens on this machine only, unless a token is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import threading
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any

import shapely
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from inventory.records import Candidate, Decision, DecisionConflict
from inventory.review.gallery import PANELS, Gallery
from inventory.review.rasters import to_crs
from inventory.store import Inventory
from thawslump.errors import BusyError, ConfigError, DataError, StorageError, ThawslumpError
from thawslump.workspace import Workspace

__all__ = ["Running", "create_app", "serve"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_COOKIE = "thawslump_review"
_HEADER = "x-thawslump-review"

Next = Callable[[Request], Awaitable[Response]]


class DecisionBody(BaseModel):
    """What the page sends to decide.

    A corrected outline comes as GeoJSON in `geometry` (lon/lat), or in `drawn` as a ring in the
    square of 1000 x 1000 that the images of this `zoom` show.
    """

    model_config = ConfigDict(extra="forbid")

    candidate: str = Field(max_length=64)
    decision: str = Field(max_length=16)
    reviewer: str = Field(max_length=100)
    request: str = Field(min_length=8, max_length=64)
    expected: str | None = Field(None, max_length=16)
    note: str | None = Field(None, max_length=2000)
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    geometry: dict[str, Any] | None = None
    drawn: list[tuple[float, float]] | None = Field(None, min_length=3, max_length=5000)
    zoom: float = 1.0


class UndoBody(BaseModel):
    """What the page sends to take the last decision back."""

    model_config = ConfigDict(extra="forbid")

    reviewer: str = Field(max_length=100)
    request: str = Field(min_length=8, max_length=64)
    round: int | None = Field(None, ge=1)


def create_app(
    root: Path,
    *,
    round: int | None = None,
    kind: str = "people",
    token: str | None = None,
    hosts: tuple[str, ...] | None = LOOPBACK,
) -> FastAPI:
    """Return the review application of a workspace.

    Parameters
    ----------
    root : Path
        The workspace.
    round : int, optional
        Which round is shown first; the newest with candidates where not given.
    kind : {"people", "scripted"}
        Recorded with every decision; the page cannot choose it.
    token : str, optional
        Asked for with every request: as ``?token=`` once (kept in a cookie), or as a bearer.
    hosts : tuple of str, optional
        Host names that requests may carry (another page cannot reach the server under a name of
        its own); None allows all, for a server with a token.

    Returns
    -------
    FastAPI
    """
    workspace = Workspace(root)
    inventory = Inventory(workspace.inventory)
    gallery = Gallery(workspace)
    app = FastAPI(title="thawslump review", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.close = gallery.close

    @app.middleware("http")
    async def guard(request: Request, call_next: Next) -> Response:
        refused = _refused(request, token, hosts)
        if refused is not None:
            return refused
        if token is not None and "token" in request.query_params:
            answer: Response = RedirectResponse(request.url.path, status_code=303)
            answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
            return answer
        answer = await call_next(request)
        answer.headers.update(
            {
                "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
                "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            }
        )
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    @app.exception_handler(ThawslumpError)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ThawslumpError)
        status = 500
        for family, code in (
            (DecisionConflict, 409),
            (DataError, 400),
            (ConfigError, 400),
            (BusyError, 503),
            (StorageError, 507),
        ):
            if isinstance(error, family):
                status = code
                break
        return JSONResponse({"error": error.message, "hint": error.hint}, status_code=status)

    def shown_round() -> int:
        if round is not None:
            return round
        rounds = inventory.rounds()
        return rounds[-1] if rounds else 1

    @app.get("/api/info")
    def info() -> dict[str, Any]:
        # Candidates carry the names of areas, not of their parts.
        sites = workspace.declared
        return {
            # Names the place for decisions that a browser keeps while the server is away.
            "id": hashlib.sha256(str(workspace.root).encode()).hexdigest()[:16],
            "workspace": workspace.config.name,
            "round": shown_round(),
            "rounds": inventory.rounds() or [shown_round()],
            "kind": kind,
            "made_up": workspace.config.made_up or any(s.made_up for s in sites.values()),
            "sites": {
                name: {
                    "made_up": site.made_up,
                    "pre": None if site.pre is None else str(site.pre),
                    "post": None if site.post is None else str(site.post),
                }
                for name, site in sites.items()
            },
            "panels": {name: {"title": t, "legend": w} for name, (t, w) in PANELS.items()},
        }

    @app.get("/api/queue")
    def queue(round: int | None = None) -> dict[str, Any]:
        number = round or shown_round()
        # Before the candidates are read: a decision in between is then told twice, never missed.
        last, _ = inventory.changes(number, after=0)
        return {
            "round": number,
            "last": last,
            "candidates": [
                {
                    "id": c.candidate_id,
                    "site": c.site,
                    "rank": c.rank,
                    "state": c.state,
                    "area_m2": c.area_m2,
                    "probability": c.probability_mean,
                }
                for c in inventory.candidates(number)
            ],
            "counts": inventory.counts(number),
        }

    @app.get("/api/changes")
    def changes(after: int, round: int | None = None) -> dict[str, Any]:
        last, states = inventory.changes(round or shown_round(), after=after)
        return {"last": last, "states": states}

    @app.get("/api/candidates/{candidate_id}")
    def candidate(candidate_id: str, zoom: float = 1.0) -> dict[str, Any]:
        return _described(inventory, gallery, inventory.candidate(candidate_id), _zoom(zoom))

    @app.get("/api/chips/{candidate_id}/{panel}.png")
    def chip(candidate_id: str, panel: str, zoom: float = 1.0) -> Response:
        picture = gallery.chip(inventory.candidate(candidate_id), panel, _zoom(zoom))
        # The address carries the files' version, so that the browser may keep the picture.
        kept = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(picture, media_type="image/png", headers=kept)

    @app.post("/api/decisions")
    async def decide(body: DecisionBody) -> dict[str, Any]:
        return await run_in_threadpool(_decide, inventory, gallery, body, kind)

    @app.post("/api/undo")
    async def undo(body: UndoBody) -> dict[str, Any]:
        return await run_in_threadpool(_undo, inventory, body, kind, shown_round())

    folder = resources.files("inventory.review") / "static"
    app.mount("/", StaticFiles(directory=str(folder), html=True), name="static")
    return app


def _refused(
    request: Request, token: str | None, hosts: tuple[str, ...] | None
) -> JSONResponse | None:
    host = request.headers.get("host", "")
    if hosts is not None and _name_of(host) not in hosts:
        return _no(403, f"This server does not answer as {host!r}.")
    if token is not None:
        given = (
            request.query_params.get("token")
            or request.cookies.get(_COOKIE)
            or request.headers.get("authorization", "").removeprefix("Bearer ")
        )
        if not hmac.compare_digest(given.encode(), token.encode()):
            return _no(401, "The token is missing or wrong; open the address with its ?token=.")
    if request.method not in ("GET", "HEAD"):
        # A page of another origin can neither set this header without asking first (and is never
        # allowed) nor hide its origin.
        origin = request.headers.get("origin")
        same = origin is None or origin.split("://", 1)[-1] == host
        if not same or request.headers.get(_HEADER) is None:
            return _no(403, "Decisions are taken from the review page itself only.")
    return None


def _no(status: int, words: str) -> JSONResponse:
    return JSONResponse({"error": words, "hint": None}, status_code=status)


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].split("]", 1)[0]
    return host.rsplit(":", 1)[0] if ":" in host else host


def _zoom(value: float) -> float:
    # Few steps, so that the pictures are found again among those kept.
    return min((0.25, 0.5, 1.0, 2.0, 4.0), key=lambda step: abs(step - value))


def _described(
    inventory: Inventory, gallery: Gallery, candidate: Candidate, zoom: float
) -> dict[str, Any]:
    frame = gallery.frame(candidate, zoom)
    corners = [frame.transform @ (x, y) for x in (0, frame.side) for y in (0, frame.side)]
    view = _lonlat_box(corners, frame.crs)
    version = gallery.version(candidate)
    centre = candidate.geometry.centroid
    standing = inventory.standing(candidate.candidate_id)
    outline = candidate.geometry
    if standing is not None and standing.geometry is not None:
        outline = standing.geometry
    neighbours = inventory.around(view, candidate.round)
    history = inventory.decisions(candidate.candidate_id)
    taken_back = {d.undoes for d in history if d.undoes is not None}
    return {
        "id": candidate.candidate_id,
        "site": candidate.site,
        "round": candidate.round,
        "rank": candidate.rank,
        "state": candidate.state,
        "made_up": candidate.made_up,
        "score": candidate.score,
        "area_m2": candidate.area_m2,
        "probability_mean": candidate.probability_mean,
        "probability_max": candidate.probability_max,
        "disagreement": candidate.disagreement,
        "filled": candidate.filled,
        "lon": round(centre.x, 6),
        "lat": round(centre.y, 6),
        "metres": frame.metres,
        "pixels": frame.side,
        "outline": frame.path(outline),
        "edited": standing is not None and standing.edited,
        "known": [frame.path(g) for i, g in neighbours["slumps"] if i != candidate.candidate_id],
        "others": [frame.path(g) for i, g in neighbours["open"] if i != candidate.candidate_id],
        "panels": {
            name: f"api/chips/{candidate.candidate_id}/{name}.png?zoom={zoom:g}&v={version}"
            for name in gallery.panels(candidate)
        },
        "history": [_told(d, d.number in taken_back) for d in history if d.decision != "undo"],
    }


def _told(decision: Decision, taken_back: bool) -> dict[str, Any]:
    return {
        "decision": decision.decision,
        "reviewer": decision.reviewer,
        "kind": decision.kind,
        "time": decision.time,
        "note": decision.note,
        "edited": decision.edited,
        "taken_back": taken_back,
    }


def _lonlat_box(corners: list[Any], crs: str) -> tuple[float, float, float, float]:
    x, y = zip(*corners, strict=True)
    x, y = to_crs(crs).transform(x, y, direction="INVERSE")
    return min(x), min(y), max(x), max(y)


def _decide(
    inventory: Inventory,
    gallery: Gallery,
    body: DecisionBody,
    kind: str,
) -> dict[str, Any]:
    geometry = None
    if body.drawn is not None:
        frame = gallery.frame(inventory.candidate(body.candidate), _zoom(body.zoom))
        geometry = frame.lonlat(body.drawn)
    elif body.geometry is not None:
        try:
            geometry = shapely.geometry.shape(body.geometry)
        except Exception as error:  # shapely raises many classes for bad coordinates
            raise DataError(
                f"The outline is not GeoJSON geometry: {error}.", hint="Draw it again."
            ) from error
    elif body.decision == "accept":
        # Accepted once more without a new outline: the corrected one stays.
        standing = inventory.standing(body.candidate)
        geometry = None if standing is None else standing.geometry
    made = inventory.decide(
        body.candidate,
        body.decision,
        body.reviewer.strip(),
        kind=kind,
        geometry=geometry,
        note=body.note,
        seconds=body.seconds,
        expected=body.expected,
        request=body.request,
    )
    return {
        "candidate": body.candidate,
        "state": inventory.candidate(body.candidate).state,
        "number": made.number,
        "counts": inventory.counts(made.round),
    }


def _undo(inventory: Inventory, body: UndoBody, kind: str, round: int) -> dict[str, Any]:
    number = body.round or round
    undone = inventory.undo(body.reviewer.strip(), kind=kind, round=number, request=body.request)
    state = None
    if undone is not None and undone.candidate_id is not None:
        state = inventory.candidate(undone.candidate_id).state
    return {
        "candidate": None if undone is None else undone.candidate_id,
        "state": state,
        "undone": None if undone is None else undone.decision,
        "counts": inventory.counts(number),
    }


# ---------------------------------------------------------------------- serving


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port; 0 takes a free one.

    Raises
    ------
    BusyError
        Another program has the port.
    ConfigError
        The host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    # A port of a server that was just killed can be taken again at once.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(128)
    except OSError as error:
        server.close()
        if isinstance(error, socket.gaierror) or "assign" in str(error).lower():
            raise ConfigError(
                f"{host!r} is no address of this machine.", hint="Leave --host out, or 0.0.0.0."
            ) from error
        raise BusyError(
            f"Port {port} on {host} is in use by another program.",
            hint=f"Choose another one, for example --port {port + 1}, or --port 0 for a free one.",
        ) from error
    return server


def _check(host: str, token: str | None) -> tuple[str, ...] | None:
    if host in LOOPBACK:
        return LOOPBACK if token is None else None
    if not token:
        raise ConfigError(
            f"With --host {host} others on the network can reach the page and decide.",
            hint="Give --token WORD as well, or leave --host out.",
        )
    return None


def serve(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    round: int | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the review page until interrupted.

    Parameters
    ----------
    root : Path
        The workspace.
    host : str
        An address other than loopback needs a token.
    port : int
        0 takes a free one.
    token : str, optional
    round : int, optional
    ready : callable, optional
        Told the page's address once it can be opened.

    Raises
    ------
    BusyError
        The port is in use.
    ConfigError
        Not a workspace, or a host without a token.
    """
    import uvicorn

    hosts = _check(host, token)
    Workspace(root).config  # noqa: B018  (wrong YAML is said before the port is taken)
    app = create_app(root, round=round, token=token, hosts=hosts)
    with contextlib.closing(listen(host, port)) as server:
        if ready is not None:
            name = f"[{host}]" if ":" in host else host
            ready(
                f"http://{name}:{server.getsockname()[1]}/" + (f"?token={token}" if token else "")
            )
        try:
            uvicorn.Server(_settings(app)).run(sockets=[server])
        finally:
            app.state.close()


def _settings(app: FastAPI) -> Any:
    import uvicorn

    return uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
    )


class Running:
    """The application served by a thread of this process, on a free loopback port.

    Examples
    --------
    >>> with Running(FastAPI()) as address:
    ...     address.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, app: FastAPI) -> None:
        import uvicorn

        self._app = app
        self._socket = listen("127.0.0.1", 0)
        self._server = uvicorn.Server(_settings(app))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self.port = int(self._socket.getsockname()[1])

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *details: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()
        close = getattr(self._app.state, "close", None)
        if close is not None:
            close()
