"""The emulator as an HTTP server: in this process, or as a child that never outlives it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thawslump.errors import BackendError, BusyError, ConfigError, DataError

__all__ = ["running", "serve"]

DEFAULT_PORT = 8765


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be reached from this machine.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, or say who may hold the port and what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Else a small answer waits 40 ms for the acknowledgement of its own header.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if os.name == "posix":
            # Not on Windows, where it would let two servers share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise BusyError(
            f"Port {port} on {host} cannot be used: {error.strerror or error}.",
            hint=f"Another emulator may be running there: use it (url: http://{host}:{port}), "
            f"stop it, or choose another port: --port {port + 1}",
        ) from error
    listener.set_inheritable(True)
    return listener


def serve(
    catalog: Path,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    state: Path | None = None,
    token: str | None = None,
    workers: int = 1,
    cache_bytes: int = 256 * 2**20,
    imports: Path | None = None,
    faults: Path | None = None,
    deadline: float = 300.0,
    concurrency: int = 4,
    ready: Any = None,
) -> None:
    """Serve a catalogue until the process is told to stop.

    Parameters
    ----------
    catalog : Path
    host : str
        Anything but a loopback address needs a token.
    port : int
        0 takes a free one.
    state : Path, optional
        Where maps and exports are kept; `.state` inside the catalogue if not given.
    token : str, optional
        What callers must show, as `Authorization: Bearer` or `?key=`.
    workers : int
        Processes that compute. They share the catalogue and the state; each has its own cache.
        With more than one, another process owns the port and gives each request to the worker
        that has least to do (`dispatch`).
    cache_bytes : int
        Memory for decoded pixels, shared out among the processes.
    imports : Path, optional
        Folder whose files manifests of `image:import` and `table:import` may name.
    faults : Path, optional
        A YAML file of faults on demand; see `gee.emulator.faults`.
    deadline : float
        Seconds that an interactive request may take.
    concurrency : int
        Requests that one process computes at a time; the others wait.
    ready : callable (url), optional
        Called once the port is bound.

    Raises
    ------
    BusyError
        The port is in use.
    ConfigError
        A host that others can reach, without a token; a faults file that cannot be used.
    DataError
        There is no catalogue, or no folder of imports, at that place.
    """
    import uvicorn

    from .app import VARIABLE, environment

    catalog = Path(catalog).absolute()
    if not catalog.is_dir():
        raise DataError(
            f"There is no catalogue at {catalog}.",
            hint="Make one with: thawslump emulator ingest, or thawslump demo.",
        )
    if not is_loopback(host) and not token:
        raise ConfigError(
            f"The emulator would answer everybody who can reach {host}.",
            hint="Give it a token that callers must show (--token), or serve on 127.0.0.1.",
        )
    if faults is not None:
        from .faults import load_faults

        load_faults(faults)  # its mistakes are told here, not by every worker
    if imports is not None and not Path(imports).is_dir():
        raise DataError(f"There is no folder of imports at {imports}.", hint="Make it first.")
    listener = _bind(host, port)
    bound = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    settings = {
        "catalog": str(catalog),
        "state": None if state is None else str(Path(state).absolute()),
        "token": token,
        "cache_bytes": cache_bytes // max(1, workers),
        "workers": workers,
        "imports": None if imports is None else str(Path(imports).absolute()),
        "faults": None if faults is None else str(Path(faults).absolute()),
        "deadline": deadline,
        "concurrency": concurrency,
        "run": secrets.token_hex(8),
    }
    os.environ[VARIABLE] = environment(settings)[VARIABLE]
    os.environ.setdefault("GDAL_CACHEMAX", "64")  # MB; decoded blocks are kept by the catalogue
    config = uvicorn.Config(
        "gee.emulator.app:from_environment",
        factory=True,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    if ready is not None:
        ready(f"http://{shown}:{bound}")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends (Linux; elsewhere nothing)."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)


@contextlib.contextmanager
def running(
    catalog: Path,
    *,
    state: Path | None = None,
    token: str | None = None,
    port: int = 0,
    workers: int = 1,
    cache_bytes: int = 256 * 2**20,
    imports: Path | None = None,
    faults: Path | None = None,
    concurrency: int = 4,
    timeout: float = 60.0,
) -> Iterator[str]:
    """Serve a catalogue from a child process for the time of a `with` block.

    The child ends with the block, and on Linux also when this process is killed.

    Parameters
    ----------
    catalog : Path
    state : Path, optional
    token : str, optional
    port : int
        0 takes a free one.
    workers : int
    cache_bytes : int
    imports : Path, optional
        Folder whose files manifests may name.
    faults : Path, optional
        A YAML file of faults on demand.
    concurrency : int
        Requests that one process computes at a time.
    timeout : float
        Seconds to wait for the first answer.

    Yields
    ------
    str
        The address, for `ee.Initialize(url=...)`.

    Raises
    ------
    BackendError
        The server did not come up; its own words are quoted.
    BusyError
        The port is in use.
    """
    command = [
        sys.executable,
        "-m",
        "gee.emulator",
        str(Path(catalog).absolute()),
        "--port",
        str(port),
        "--workers",
        str(workers),
        "--cache-bytes",
        str(cache_bytes),
        "--concurrency",
        str(concurrency),
        "--parent",
        str(os.getpid()),
    ]
    for name, given in (("--state", state), ("--imports", imports), ("--faults", faults)):
        if given is not None:
            command += [name, str(Path(given).absolute())]
    environment = dict(os.environ)
    # The child must find the packages where this process found them.
    root = str(Path(__file__).parents[2])
    known = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root if not known else os.pathsep.join((root, known))
    environment.setdefault("PYTHONMALLOC", "malloc")  # see Dispatcher._spawn
    if token is not None:
        environment["THAWSLUMP_EMULATOR_TOKEN"] = token
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
        )
        try:
            yield _await(child, words, timeout)
        finally:
            _stop(child)


def _await(child: subprocess.Popen[bytes], words: Any, timeout: float) -> str:
    """Return the address once the child answers there."""
    end = time.monotonic() + timeout
    assert child.stdout is not None
    line = child.stdout.readline().decode().strip()  # ends when the child does
    url = line.removeprefix("serving ") if line.startswith("serving ") else ""
    while url and child.poll() is None and time.monotonic() < end:
        try:
            # Not through a proxy: the address is on this machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{url}/$discovery/rest", timeout=5):
                return url
        except urllib.error.HTTPError:
            return url  # it answers; the token is the caller's matter
        except OSError:
            time.sleep(0.02)
    _stop(child)
    words.seek(0)
    said = words.read().decode(errors="replace").strip()
    for kind in (BusyError, ConfigError):
        if child.returncode == kind.exit_code:
            raise kind(said)
    reason = said[-2000:] or f"no answer within {timeout:g} s"
    raise BackendError(f"The emulator did not start: {reason}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout is not None:
        child.stdout.close()
