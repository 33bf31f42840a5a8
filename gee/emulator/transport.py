"""The emulator inside the caller's process: no socket, no server.

    transport = Transport("catalog")
    ee.Initialize(credentials=AnonymousCredentials(), project="local", http_transport=transport)

What the client opens by address (map tiles, downloads) needs the real server; see `server`.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .messages import Request
from .protocol import Endpoint

if TYPE_CHECKING:
    from .faults import FaultsConfig

__all__ = ["Transport"]


class Transport:
    """An object that `ee.Initialize` takes as `http_transport`.

    Parameters
    ----------
    endpoint : Endpoint, Path or str
        An endpoint, or the folder of a catalogue.
    state : Path, optional
        Where exports go, if `endpoint` is a folder; `.state` inside it if not given.
    imports : Path, optional
        Folder whose files manifests may name, if `endpoint` is a folder.
    faults : FaultsConfig or Path, optional
        Faults on demand, if `endpoint` is a folder. A broken answer is a `ConnectionError`.

    Raises
    ------
    DataError
        There is no catalogue at that place.
    ConfigError
        The faults file cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> status, content = Transport(tempfile.mkdtemp()).request("http://local/$discovery/rest")
    >>> status["status"], content[:9]
    ('200', b'{"kind": ')
    """

    def __init__(
        self,
        endpoint: Endpoint | Path | str,
        state: Path | None = None,
        *,
        imports: Path | None = None,
        faults: FaultsConfig | Path | None = None,
    ) -> None:
        if not isinstance(endpoint, Endpoint):
            endpoint = Endpoint(Path(endpoint), state, imports=imports, faults=faults)
        self.endpoint = endpoint

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,
        connection_type: Any = None,
    ) -> tuple[Any, bytes]:
        """Answer a request as `httplib2.Http.request` does."""
        import httplib2

        parts = urllib.parse.urlsplit(uri)
        content = body.encode() if isinstance(body, str) else body or b""
        answer = self.endpoint.handle(
            Request(
                method.upper(),
                urllib.parse.unquote(parts.path),
                dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)),
                # No host: a caller in the same process needs no permission.
                {k.lower(): v for k, v in (headers or {}).items() if k.lower() != "host"},
                content,
            )
        )
        if answer.broken:
            raise ConnectionError("The connection was broken off, as the faults file asks.")
        response = httplib2.Response(
            {
                "status": str(answer.status),
                "content-type": answer.content_type,
                "content-length": str(len(answer.body)),
                **{k.lower(): v for k, v in answer.headers.items()},
            }
        )
        return response, answer.body

    def close(self) -> None:
        """Stop exports and close files."""
        self.endpoint.close()
