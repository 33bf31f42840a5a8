"""The endpoint as a web application (ASGI, Starlette)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import memory
from .limits import RequestLimits
from .messages import Request, Response
from .protocol import Endpoint

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .dispatch import Dispatcher
    from .faults import FaultsConfig

__all__ = ["create_app", "endpoint_of", "from_environment"]

VARIABLE = "THAWSLUMP_EMULATOR"


def create_app(
    catalog: Path,
    state: Path | None = None,
    *,
    token: str | None = None,
    limits: RequestLimits | None = None,
    cache_bytes: int = 256 * 2**20,
    imports: Path | None = None,
    faults: FaultsConfig | Path | None = None,
    run: str | None = None,
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    catalog : Path
    state : Path, optional
        `.state` inside the catalogue if not given.
    token : str, optional
        What callers must show.
    limits : RequestLimits, optional
    cache_bytes : int
        Memory for decoded pixels, per process.
    imports : Path, optional
        The folder whose files manifests may name.
    faults : FaultsConfig or Path, optional
        Faults on demand.
    run : str, optional
        Start of the server that its processes share.
    """
    return _application(
        Endpoint(
            catalog, state, token=token, limits=limits, cache_bytes=cache_bytes, imports=imports,
            faults=faults, run=run,
        )
    )  # fmt: skip


def _application(endpoint: Endpoint | Dispatcher) -> Starlette:
    """Return the application over what answers requests."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request as WebRequest
    from starlette.responses import Response as WebResponse
    from starlette.routing import Route

    class BrokenResponse(WebResponse):
        """A fault that was asked for: the connection ends before the answer or inside it."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            # The server's own `send`: those of the layers between would mend what is broken.
            raw = scope["thawslump.send"]
            transport = getattr(getattr(raw, "__self__", None), "transport", None)
            if transport is None:
                raise RuntimeError("Connections can be broken off under uvicorn only.")
            if self.body:
                start = {"status": self.status_code, "headers": self.raw_headers}
                half = self.body[: len(self.body) // 2]
                await raw({"type": "http.response.start", **start})
                await raw({"type": "http.response.body", "body": half, "more_body": True})
                transport.close()
            else:
                transport.abort()
            while True:  # until the server has seen that the connection is gone
                if (await receive())["type"] == "http.disconnect":
                    return
                await asyncio.sleep(0)

    class App(Starlette):
        """The application; it hands the server's own `send` on to `BrokenResponse`."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["thawslump.send"] = send
            await super().__call__(scope, receive, send)

    def answer(response: Response) -> WebResponse:
        if response.broken:
            body = b"" if response.broken == "dropped" else response.body
            return BrokenResponse(body, response.status, media_type=response.content_type)
        return WebResponse(
            response.body,
            response.status,
            dict(response.headers),
            media_type=response.content_type,
        )

    def handled(request: Request) -> Response:
        response = endpoint.handle(request)
        memory.release_stack()  # a thread of the pool is as shallow here as between two requests
        return response

    async def handle(request: WebRequest) -> WebResponse:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > endpoint.limits.body_bytes:
                size = endpoint.limits.body_bytes
                message = f"Request payload size exceeds the limit: {size} bytes."
                return answer(Response.error(400, message, "INVALID_ARGUMENT"))
        query = dict(
            urllib.parse.parse_qsl(
                request.scope["query_string"].decode("latin-1"), keep_blank_values=True
            )
        )
        # `request.headers` has lower-case names; the path is decoded already.
        # A HEAD is a GET whose body the server leaves away.
        verb = "GET" if request.method == "HEAD" else request.method
        plain = Request(verb, request.scope["path"], query, dict(request.headers), bytes(body))
        response = await run_in_threadpool(handled, plain)
        wanted = request.headers.get("range")
        return answer(_part(response, wanted) if verb == "GET" and wanted else response)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(endpoint.start)
        await run_in_threadpool(memory.settled)
        yield
        await run_in_threadpool(endpoint.close)

    verbs = ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]
    app = App(routes=[Route("/{path:path}", handle, methods=verbs)], lifespan=lifespan)
    app.state.endpoint = endpoint
    return app


def _part(response: Response, wanted: str) -> Response:
    """Return the bytes that a `Range` header asks for: GDAL opens addresses part by part.

    Whole answers are allowed to any such request (RFC 9110, 14.2); what is not one range of
    bytes gets one.
    """
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", wanted.strip())
    if response.status != 200 or response.broken or found is None or found[0] == "bytes=-":
        return response
    size = len(response.body)
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first > last:
        return replace(response, status=416, body=b"", headers={"Content-Range": f"bytes */{size}"})
    headers = {**response.headers, "Content-Range": f"bytes {first}-{last}/{size}"}
    return replace(response, status=206, body=response.body[first : last + 1], headers=headers)


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return the environment by which worker processes learn their settings."""
    return {**os.environ, VARIABLE: json.dumps(settings)}


def from_environment() -> Starlette:
    """Return the application that `server` described in the environment."""
    settings = json.loads(os.environ[VARIABLE])
    workers = int(settings.get("workers", 1))
    if workers > 1:
        from .dispatch import Dispatcher

        limits = RequestLimits(deadline=float(settings.get("deadline", 300.0)))
        return _application(Dispatcher(workers, os.environ, limits))
    memory.keep_little()
    return _application(endpoint_of())


def endpoint_of() -> Endpoint:
    """Return the endpoint that `server` described in the environment."""
    settings = json.loads(os.environ[VARIABLE])

    def place(name: str) -> Path | None:
        return None if settings.get(name) is None else Path(settings[name])

    return Endpoint(
        Path(settings["catalog"]),
        place("state"),
        token=settings.get("token"),
        cache_bytes=int(settings.get("cache_bytes", 256 * 2**20)),
        imports=place("imports"),
        faults=place("faults"),
        limits=RequestLimits(
            deadline=float(settings.get("deadline", 300.0)),
            concurrency=int(settings.get("concurrency", RequestLimits.concurrency)),
        ),
        run=settings.get("run"),
    )
