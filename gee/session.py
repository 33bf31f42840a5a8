"""The one place that connects to Earth Engine: to the live service, or to the emulator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import ee

from thawslump.errors import BackendError

if TYPE_CHECKING:
    from gee.config import BackendConfig

__all__ = ["LOCAL_PROJECT", "connect", "describe"]

LOCAL_PROJECT = "thawslump-local"
"""Project id sent to an emulator where none is given."""


def describe(backend: BackendConfig, catalog: Path | None = None) -> str:
    """Return the words that errors and reports use for a backend.

    Examples
    --------
    >>> from gee.config import BackendConfig
    >>> describe(BackendConfig(url="http://127.0.0.1:8765"))
    'the emulator at http://127.0.0.1:8765'
    """
    if backend.kind == "earthengine":
        return f"Earth Engine at {backend.url or ee.data.DEFAULT_CLOUD_API_BASE_URL}"
    if backend.url is not None:
        return f"the emulator at {backend.url}"
    return f"the emulator on {catalog or 'catalog/'}"


@contextlib.contextmanager
def connect(backend: BackendConfig, catalog: Path | None = None) -> Iterator[None]:
    """Connect `ee` to a backend; disconnect when the block ends.

    Parameters
    ----------
    backend : BackendConfig
    catalog : Path, optional
        The emulator's catalogue; needed when `backend` is an emulator without a url, which is
        then started inside this process and speaks the same protocol without a port.

    Raises
    ------
    BackendError
        Nothing answers, credentials are missing, or the service refuses the project.

    Notes
    -----
    The client's own retries are turned off: the export tells passing faults from lasting ones.
    `ee` holds one connection per process, so blocks must not be nested.
    """
    ee.Reset()
    # Before connecting, too: an address where nothing answers is otherwise tried for 40 s.
    ee.data.setMaxRetries(0)
    try:
        if backend.kind == "earthengine":
            _initialize_live(backend)
        else:
            _initialize_emulator(backend, catalog)
        if backend.kind == "earthengine" or backend.url is not None:
            ee.data.setDeadline(backend.timeout * 1000)
        ee.data.setUserAgent("thawslump")
        yield
    finally:
        ee.Reset()


def _initialize_emulator(backend: BackendConfig, catalog: Path | None) -> None:
    from google.auth.credentials import AnonymousCredentials

    # The client would fetch the list of deprecated assets from the internet, without a time
    # limit; a list that is already there is not fetched.
    nothing = ee.deprecation.DeprecatedAsset("-", None, None, None)
    ee.deprecation.deprecated_assets = {"-": nothing}
    project = backend.project or LOCAL_PROJECT
    transport = None
    if backend.url is None:
        transport = _own_emulator(catalog)
    try:
        ee.Initialize(
            credentials=AnonymousCredentials(),
            project=project,
            url=None if backend.url is None else backend.url.rstrip("/"),
            http_transport=transport,
        )
    except Exception as error:
        where = describe(backend, catalog)
        raise BackendError(
            f"Nothing that speaks Earth Engine answers as {where}: {_first_line(error)}",
            hint="Start it with `thawslump emulator serve` and set backend.url to the address that "
            "it prints, or leave backend.url out to use the workspace's own emulator.",
        ) from error


def _own_emulator(catalog: Path | None) -> object:
    if catalog is None or not catalog.is_dir():
        raise BackendError(
            f"The emulator has no catalogue: the folder {catalog} does not exist.",
            hint="Fill it with `thawslump emulator ingest`, or let the demo make its valley, or "
            "set backend.kind to earthengine.",
        )
    from gee.emulator.protocol import Endpoint
    from gee.emulator.transport import Transport

    # Several sites are exported at once, each with an emulator of its own: a modest cache.
    return Transport(Endpoint(catalog, cache_bytes=256 * 2**20))


def _initialize_live(backend: BackendConfig) -> None:
    from google.auth.exceptions import GoogleAuthError

    where = describe(backend)
    try:
        ee.Initialize(project=backend.project, url=backend.url and backend.url.rstrip("/"))
    except (GoogleAuthError, ee.EEException) as error:
        words = _first_line(error)
        if "authorize" in words.lower() or "credentials" in words.lower():
            raise BackendError(
                f"There are no credentials for {where}: {words}",
                hint="Run `earthengine authenticate` once on this machine, or point "
                "GOOGLE_APPLICATION_CREDENTIALS to a service account's key file.",
            ) from error
        raise BackendError(
            f"{where} refused project {backend.project}: {words}",
            hint="Check backend.project, and that the project is registered for Earth Engine.",
        ) from error
    except Exception as error:
        raise BackendError(
            f"{where} cannot be reached: {_first_line(error)}",
            hint="Check the network (and the proxy settings), then start the same command again.",
        ) from error


def _first_line(error: BaseException) -> str:
    # The client wraps "connection refused" into three other errors, each longer than the last.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}."
        cause = cause.__cause__ or cause.__context__
    words = str(error).strip().splitlines()
    return words[0] if words else type(error).__name__
