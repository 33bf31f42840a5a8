"""Several processes behind one port: each request goes to the one that has least to do.

The process that owns the port speaks HTTP and computes nothing. It hands every request to a
worker over a local socket, so clients that keep their connections open cannot pile up on one
worker, however they share their requests among connections.

A worker opens a number of connections and serves one request at a time on each. When the process
in front ends, they end, and the worker with them; when a worker ends, another takes its place.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from thawslump.errors import BackendError

from . import memory
from .limits import RequestLimits
from .messages import Request, Response

__all__ = ["Dispatcher"]

log = logging.getLogger(__name__)

VARIABLE = "THAWSLUMP_EMULATOR_WORKER"
CONNECTIONS = 24  # requests that a worker holds at a time; few of them compute
GRACE = 60.0  # seconds after the deadline until a worker that does not answer is ended
ROOM = 90.0  # seconds to wait for a worker to have room
START = 60.0  # seconds in which the workers must have come up


class Dispatcher:
    """What answers requests in place of an `Endpoint`: worker processes that each have one.

    Parameters
    ----------
    workers : int
        Processes.
    environment : mapping of str to str
        Of the workers; holds the settings of their endpoints.
    limits : RequestLimits, optional
        The largest request that is read.
    """

    def __init__(
        self,
        workers: int,
        environment: Mapping[str, str],
        limits: RequestLimits | None = None,
    ) -> None:
        self.workers = workers
        self.limits = limits or RequestLimits()
        self._environment = dict(environment)
        self._key = secrets.token_bytes(32)
        self._room = threading.Condition()
        self._idle: dict[int, list[Connection[Any, Any]]] = {n: [] for n in range(workers)}
        self._turn = 0
        self._closed = self._started = self._failed = False
        self._listener: Listener | None = None
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the workers; returns when each has answered.

        Raises
        ------
        BackendError
            One ended before it could answer, or does not answer.
        """
        # Only this user can reach the socket, and only who knows the key is heard.
        self._listener = Listener(backlog=256, authkey=self._key)
        threading.Thread(target=self._accept, name="emulator-accept", daemon=True).start()
        threading.Thread(target=self._supervise, name="emulator-supervise", daemon=True).start()
        end = time.monotonic() + START
        with self._room:
            while not all(self._idle.values()) and time.monotonic() < end and not self._failed:
                self._room.wait(0.2)
            up = all(self._idle.values())
        if not up:
            self.close()
            raise BackendError(
                "A worker process could not start.", hint="Its own words stand above."
            )
        self._started = True

    def close(self) -> None:
        """End the workers; exports under way continue at the next start."""
        with self._room:
            self._closed = True
            idle = [connection for held in self._idle.values() for connection in held]
            self._idle = {n: [] for n in range(self.workers)}
            self._room.notify_all()
        for connection in idle:
            connection.close()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._listener is not None:
            self._listener.close()

    def handle(self, request: Request) -> Response:
        """Answer a request. Never raises; safe to call from many threads."""
        while True:
            taken = self._take()
            if taken is None:
                return Response.error(
                    400, "Too many concurrent requests: no process had room.", "INVALID_ARGUMENT"
                )
            worker, connection = taken
            try:
                _send(connection, _request_head(request), request.body)
                break
            except OSError:
                connection.close()  # its worker is gone and has not seen the request: another one
        try:
            if not connection.poll(self.limits.deadline + GRACE):
                return self._ended(worker, connection, request)
            head, body = _receive(connection)
        except (EOFError, OSError):
            connection.close()
            log.warning("A process ended while it answered %s %s", request.method, request.path)
            return Response.error(
                400,
                "User memory limit exceeded: the process that computed this request has ended.",
                "INVALID_ARGUMENT",
            )
        with self._room:
            if self._closed:
                connection.close()
            else:
                self._idle[worker].append(connection)
                self._room.notify()
        return Response(head["status"], body, head["content_type"], head["headers"], head["broken"])

    def _ended(self, worker: int, connection: Connection[Any, Any], request: Request) -> Response:
        """End a worker that a library call holds up beyond the deadline; another follows it."""
        connection.close()
        log.warning("A process hung while it answered %s %s", request.method, request.path)
        process = self._processes.get(worker)
        if process is not None:
            process.kill()
        return Response.error(400, "Computation timed out.", "INVALID_ARGUMENT")

    def _take(self) -> tuple[int, Connection[Any, Any]] | None:
        """Return a connection to the worker with the most of them free."""
        end = time.monotonic() + ROOM
        with self._room:
            while not self._closed:
                order = [(self._turn + k) % self.workers for k in range(self.workers)]
                worker = max(order, key=lambda n: len(self._idle[n]))
                if self._idle[worker]:
                    self._turn = (worker + 1) % self.workers
                    # The last one in is the warmest.
                    return worker, self._idle[worker].pop()
                if not self._room.wait(max(end - time.monotonic(), 0)):
                    return None
        return None

    # ---- threads

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._closed:
            try:
                connection = self._listener.accept()
                worker, process = connection.recv()
            except Exception as error:
                if not self._closed:
                    log.warning("A worker could not connect: %s", error)
                    time.sleep(0.1)
                continue
            with self._room:
                known = self._processes.get(worker)
                if self._closed or known is None or known.pid != process:
                    connection.close()
                    continue
                self._idle[worker].append(connection)
                self._room.notify_all()

    def _supervise(self) -> None:
        """Start the workers, and others in place of those that end."""
        started = {n: 0.0 for n in range(self.workers)}
        while not self._closed:
            for worker in range(self.workers):
                process = self._processes.get(worker)
                if process is not None and process.poll() is None:
                    continue
                if process is not None and not self._started:
                    self._failed = True
                    return
                if process is not None:
                    log.warning(
                        "Worker %d ended (%s); starting another", worker, process.returncode
                    )
                    with self._room:
                        lost, self._idle[worker] = self._idle[worker], []
                    for connection in lost:
                        connection.close()
                if time.monotonic() - started[worker] < 1 and started[worker]:
                    continue  # it does not come up: not too many attempts
                started[worker] = time.monotonic()
                self._processes[worker] = self._spawn(worker)
            time.sleep(0.2)

    def _spawn(self, worker: int) -> subprocess.Popen[bytes]:
        assert self._listener is not None
        facts = {"address": self._listener.address, "key": self._key.hex(), "worker": worker}
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            # Python's own pools keep a megabyte for one small object that stays; what the C
            # library holds can be given back page by page (`memory.give_back`).
            env={"PYTHONMALLOC": "malloc", **self._environment, VARIABLE: json.dumps(facts)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


def _request_head(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "headers": dict(request.headers),
    }


def _send(connection: Connection[Any, Any], head: dict[str, Any], body: bytes) -> None:
    # The body by itself: pixels are not copied into a message.
    connection.send_bytes(json.dumps(head).encode())
    connection.send_bytes(body)


def _receive(connection: Connection[Any, Any]) -> tuple[dict[str, Any], bytes]:
    head: dict[str, Any] = json.loads(connection.recv_bytes())
    return head, connection.recv_bytes()


def _serve(connection: Connection[Any, Any], handle: Callable[[Request], Response]) -> None:
    """Answer requests on a connection until its other end is closed."""
    with contextlib.suppress(EOFError, OSError), connection:
        while True:
            head, body = _receive(connection)
            answer = handle(Request(**head, body=body))
            memory.release_stack()
            facts = {
                "status": answer.status,
                "content_type": answer.content_type,
                "headers": dict(answer.headers),
                "broken": answer.broken,
            }
            _send(connection, facts, answer.body)


def _work() -> None:
    """Be a worker until the process in front ends."""
    from .app import endpoint_of

    # Ctrl-C reaches the whole group; the process in front decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    memory.keep_little()
    facts = json.loads(os.environ.pop(VARIABLE))
    endpoint = endpoint_of()
    endpoint.start()
    memory.settled()
    address = facts["address"]
    where = tuple(address) if isinstance(address, list) else address
    threads = []
    for number in range(CONNECTIONS):
        connection = Client(where, authkey=bytes.fromhex(facts["key"]))
        connection.send((facts["worker"], os.getpid()))
        thread = threading.Thread(
            target=_serve, args=(connection, endpoint.handle), name=f"request-{number}", daemon=True
        )
        thread.start()
        threads.append(thread)
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(2.0)
                memory.give_back(idle=True)  # what the last requests held, when none follows
    finally:
        endpoint.close()


if __name__ == "__main__":
    _work()
