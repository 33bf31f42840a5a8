"""The endpoint as a web application (ASGI, Starlette)."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .limits import RequestLimits
from .protocol import Endpoint, Request, Response

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["create_app", "from_environment"]

VARIABLE = "THAWSLUMP_EMULATOR"


def create_app(
    catalog: Path,
    state: Path | None = None,
    *,
    token: str | None = None,
    limits: RequestLimits | None = None,
    cache_bytes: int = 512 * 2**20,
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
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request as WebRequest
    from starlette.responses import Response as WebResponse
    from starlette.routing import Route

    endpoint = Endpoint(catalog, state, token=token, limits=limits, cache_bytes=cache_bytes)

    def answer(response: Response) -> WebResponse:
        return WebResponse(
            response.body,
            response.status,
            dict(response.headers),
            media_type=response.content_type,
        )

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
        plain = Request(
            request.method, request.scope["path"], query, dict(request.headers), bytes(body)
        )
        return answer(await run_in_threadpool(endpoint.handle, plain))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(endpoint.start)
        yield
        await run_in_threadpool(endpoint.close)

    verbs = ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]
    app = Starlette(routes=[Route("/{path:path}", handle, methods=verbs)], lifespan=lifespan)
    app.state.endpoint = endpoint
    return app


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return the environment by which worker processes learn their settings."""
    return {**os.environ, VARIABLE: json.dumps(settings)}


def from_environment() -> Starlette:
    """Return the application that `server` described in the environment (worker processes)."""
    settings = json.loads(os.environ[VARIABLE])
    state = settings.get("state")
    if settings.get("supervised"):
        from .server import die_with_parent

        die_with_parent()
    return create_app(
        Path(settings["catalog"]),
        None if state is None else Path(state),
        token=settings.get("token"),
        cache_bytes=int(settings.get("cache_bytes", 512 * 2**20)),
    )
