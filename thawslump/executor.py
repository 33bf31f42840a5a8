"""Where items of work run: processes on this machine, one process, or a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from thawslump.errors import ConfigError

if TYPE_CHECKING:
    from thawslump.config import ExecutorConfig

__all__ = ["Message", "report_progress", "running"]

Message = tuple[str, float, str]
"""Item name, fraction done (0..1), words."""

_send: Callable[[Message], None] | None = None


def report_progress(name: str, fraction: float, words: str) -> None:
    """Send progress from a worker to the driver; nothing happens where no one listens."""
    if _send is not None:
        _send((name, fraction, words))


def _begin(queue: Any, driver: int) -> None:
    """Prepare a worker process: die with the driver, leave Ctrl-C to it, send progress."""
    global _send
    _send = queue.put
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # A driver that is killed must not leave workers writing behind the next one's back.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != driver:
            os._exit(1)


class _Serial(concurrent.futures.Executor):
    """Runs each item when it is submitted, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def running(
    config: ExecutorConfig, listen: Callable[[Message], None]
) -> Iterator[concurrent.futures.Executor]:
    """Yield an executor with `submit`; stop it at the end.

    Parameters
    ----------
    config : ExecutorConfig
    listen : callable
        Called in a thread of this process with each progress message of a worker.

    Raises
    ------
    ConfigError
        Dask is asked for and not installed.
    """
    global _send
    if config.kind == "serial":
        _send, before = listen, _send
        try:
            yield _Serial()
        finally:
            _send = before
    elif config.kind == "dask":
        try:
            from distributed import Client
        except ImportError:
            raise ConfigError(
                "executor.kind is dask, but dask.distributed is not installed.",
                hint="pip install 'thawslump[dask]', or set executor.kind: processes.",
            ) from None
        client = (
            Client(config.address)
            if config.address
            else Client(n_workers=config.workers, threads_per_worker=1, dashboard_address=None)
        )
        with client:
            yield client.get_executor()
    else:
        yield from _processes(config, listen)


def _processes(
    config: ExecutorConfig, listen: Callable[[Message], None]
) -> Iterator[concurrent.futures.Executor]:
    import threading

    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()

    def pump() -> None:
        while True:
            message = queue.get()
            if message is None:
                return
            listen(message)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    threads = str(max(1, (os.cpu_count() or 1) // config.workers))
    # Several processes with a thread per core each would fight over the cores.
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    for name in before:
        os.environ.setdefault(name, threads)
    pool = concurrent.futures.ProcessPoolExecutor(
        config.workers, mp_context=context, initializer=_begin, initargs=(queue, os.getpid())
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
        queue.put(None)
        thread.join(timeout=5)
        queue.close()
