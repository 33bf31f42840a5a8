"""The one place that connects to Earth Engine: to the live service, or to the emulator."""

from __future__ import annotations

import contextlib
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ee

from gee.credentials import find, load
from thawslump.errors import BackendError

if TYPE_CHECKING:
    from gee.config import BackendConfig, Purpose

__all__ = ["LOCAL_PROJECT", "aimed", "connect", "describe"]

LOCAL_PROJECT = "thawslump-local"
"""Project id sent to an emulator where none is given."""

_CATALOGUE_SECONDS = 30.0


def describe(
    backend: BackendConfig, catalog: Path | None = None, purpose: Purpose = "computed"
) -> str:
    """Return the words that errors and reports use for a backend.

    Examples
    --------
    >>> from gee.config import BackendConfig
    >>> describe(BackendConfig(url="http://127.0.0.1:8765"))
    'the emulator at http://127.0.0.1:8765'
    """
    if backend.kind == "earthengine":
        return f"Earth Engine at {backend.address(purpose)}"
    if backend.url is not None:
        return f"the emulator at {backend.url}"
    return f"the emulator on {catalog or 'catalog/'}"


@contextlib.contextmanager
def connect(
    backend: BackendConfig, catalog: Path | None = None, purpose: Purpose = "computed"
) -> Iterator[None]:
    """Connect `ee` to a backend; disconnect when the block ends.

    Parameters
    ----------
    backend : BackendConfig
    catalog : Path, optional
        The emulator's catalogue; needed when `backend` is an emulator without a url, which is
        then started inside this process and speaks the same protocol without a port.
    purpose : {"computed", "stored"}
        What will be asked for; chooses the endpoint of the live service where the settings leave
        that open. `aimed` changes it for a part of the block.

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
            _initialize_live(backend, purpose)
        else:
            _initialize_emulator(backend, catalog)
        if backend.kind == "earthengine" or backend.url is not None:
            ee.data.setDeadline(backend.timeout * 1000)
        ee.data.setUserAgent("thawslump")
        yield
    finally:
        ee.Reset()


@contextlib.contextmanager
def aimed(backend: BackendConfig, purpose: Purpose) -> Iterator[None]:
    """Send the requests of a block to the endpoint for a purpose; for use inside `connect`.

    Objects made before stay usable. Nothing happens where both purposes have one address.

    Raises
    ------
    BackendError
        The other endpoint cannot be reached.
    """
    usual, wanted = backend.address(), backend.address(purpose)
    if wanted == usual or wanted is None:
        yield
        return
    _aim(backend, wanted)
    try:
        yield
    except BaseException:
        # What went wrong in the block is told, not that the way back failed as well.
        with contextlib.suppress(BackendError):
            _aim(backend, usual)
        raise
    _aim(backend, usual)


def _aim(backend: BackendConfig, address: str | None) -> None:
    from google.auth.exceptions import GoogleAuthError

    try:
        # Keeps credentials and the functions that are known; only the address changes.
        ee.data.initialize(
            api_base_url=f"{address}/api",
            tile_base_url=address,
            cloud_api_base_url=address,
            project=backend.project,
        )
    except (GoogleAuthError, ee.EEException, OSError) as error:
        raise BackendError(
            f"Earth Engine at {address} cannot be reached: {_first_line(error)}",
            hint="Check the network (and the proxy settings), or set backend.endpoint: standard.",
        ) from error


def _without_catalogue() -> None:
    # The client would fetch the list of deprecated assets from the internet, without a time
    # limit; a list that is already there is not fetched.
    nothing = ee.deprecation.DeprecatedAsset("-", None, None, None)
    ee.deprecation.deprecated_assets = {"-": nothing}


def _initialize_emulator(backend: BackendConfig, catalog: Path | None) -> None:
    from google.auth.credentials import AnonymousCredentials

    _without_catalogue()
    project = backend.project or LOCAL_PROJECT
    transport = None
    if backend.url is None:
        transport = _own_emulator(catalog)
    try:
        ee.Initialize(
            credentials=AnonymousCredentials(),
            project=project,
            url=backend.address(),
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


def _initialize_live(backend: BackendConfig, purpose: Purpose) -> None:
    from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

    where = describe(backend, purpose=purpose)
    found = find(backend.service_account_key)
    credentials = load(found)
    if backend.url is not None and not backend.url.rstrip("/").endswith(".googleapis.com"):
        _without_catalogue()
    try:
        with _patience(_CATALOGUE_SECONDS):
            ee.Initialize(
                credentials=credentials, project=backend.project, url=backend.address(purpose)
            )
    except (RefreshError, ee.EEException, GoogleAuthError) as error:
        words = _first_line(error)
        if isinstance(error, TransportError):
            raise _unreachable(where, error) from error
        said = words.lower()
        if isinstance(error, RefreshError) or "authorize" in said or "credentials" in said:
            raise _refused(where, found, words) from error
        raise BackendError(
            f"{where} refused project {backend.project}: {words}",
            hint="Check backend.project, that the project is registered for Earth Engine "
            f"(https://code.earthengine.google.com/register?project={backend.project}), and that "
            "the account may use it (roles Earth Engine Resource Viewer or more, and Service "
            "Usage Consumer).",
        ) from error
    except Exception as error:
        raise _unreachable(where, error) from error


def _refused(where: str, found: Any, words: str) -> BackendError:
    if found.kind == "none":
        return BackendError(
            f"There are no credentials for {where}.",
            hint="Run `earthengine authenticate` once on this machine, or set "
            "backend.service_account_key (or GOOGLE_APPLICATION_CREDENTIALS) to the key file of a "
            "service account.",
        )
    cure = {
        "service account": "Check that the key was not deleted in the Cloud console, and the clock "
        "of this machine; make a new key if it was.",
        "user": "They have expired or were withdrawn: run `earthengine authenticate --force`.",
    }.get(found.kind, "Run `gcloud auth application-default login` again.")
    # The client asks for credentials in the same words when it has some that are refused.
    said = "." if words.lower().startswith("please authorize") else f": {words}"
    return BackendError(f"The credentials for {where} are not accepted, {found}{said}", hint=cure)


def _unreachable(where: str, error: BaseException) -> BackendError:
    return BackendError(
        f"{where} cannot be reached: {_first_line(error)}",
        hint="Check the network (and the proxy settings), then start the same command again.",
    )


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    # For the list of deprecated assets, which comes from another host than the service: behind a
    # firewall that lets only the service through it would be waited for without end.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unable to initialize deprecated assets")
            yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: BaseException) -> str:
    # The client wraps "connection refused" into three other errors, each longer than the last.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}."
        cause = cause.__cause__ or cause.__context__
    words = str(error).strip().splitlines()
    return words[0] if words else type(error).__name__
