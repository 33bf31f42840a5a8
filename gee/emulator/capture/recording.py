"""Send the requests of the kit to a service, once, and keep its answers in one file."""

from __future__ import annotations

import importlib.metadata
import io
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from thawslump.errors import BackendError, DataError
from thawslump.files import write_text

from .kit import Kit, Request

__all__ = ["LIVE", "Answer", "Service", "read", "record"]

LIVE = "https://earthengine.googleapis.com"
# Answers that say nothing about the question: the account may not ask.
_FORBIDDEN = (401, 403)
_LATER = (429, 500, 502, 503, 504)
_TRIES = 6

Answer = dict[str, Any]


class Sender(Protocol):
    """What posts: `requests.Session`, and Google's that signs."""

    def post(self, url: str, **options: Any) -> Any:
        """Post."""


class Service:
    """An Earth Engine endpoint that takes requests as the client library sends them.

    Parameters
    ----------
    url : str
    project : str
    sender : object
        Its `post` sends, with whatever credentials it has.
    key : str, optional
        Token of an emulator.
    """

    def __init__(self, url: str, project: str, sender: Sender, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.project = project
        self._sender = sender
        self._key = key

    @classmethod
    def live(cls, project: str) -> Service:
        """Return Google's service, with the credentials that the client library has stored.

        Raises
        ------
        BackendError
            There are none.
        """
        import ee
        from google.auth.transport.requests import AuthorizedSession

        try:
            credentials = ee.data.get_persistent_credentials()
        except ee.EEException as problem:
            raise BackendError(
                f"Earth Engine's credentials were not found: {problem}",
                hint="Log in once with: earthengine authenticate",
            ) from problem
        if hasattr(credentials, "with_quota_project"):
            credentials = credentials.with_quota_project(project)
        return cls(LIVE, project, AuthorizedSession(credentials))

    @classmethod
    def at(cls, url: str, project: str, token: str | None = None) -> Service:
        """Return an emulator at an address."""
        import requests

        session = requests.Session()
        session.trust_env = False  # not through a proxy
        return cls(url, project, session, token)

    def send(self, request: Request, timeout: float = 300.0) -> Answer:
        """Return one answer, or raise if the service cannot be asked.

        Raises
        ------
        BackendError
            No connection, no permission, or no answer after several tries.
        """
        address = f"{self.url}/v1/projects/{self.project}/{request.method}"
        wait = 2.0
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._sender.post(
                    address,
                    data=json.dumps(request.body).encode(),
                    headers={"Content-Type": "application/json"},
                    params={"key": self._key} if self._key else None,
                    timeout=timeout,
                )
            except Exception as problem:  # requests' and Google's, unlike in kind
                if type(problem).__module__.startswith("google.auth"):
                    raise BackendError(
                        f"Google refuses the stored credentials: {type(problem).__name__}.",
                        hint="Log in anew with: earthengine authenticate --force",
                    ) from problem
                if attempt == _TRIES:
                    raise BackendError(
                        f"{self.url} does not answer: {type(problem).__name__}.",
                        hint="What was answered is kept; start the same command again.",
                    ) from problem
            else:
                if answer.status_code in _FORBIDDEN:
                    raise BackendError(
                        f"{self.url} refuses: {self._scrubbed(_message(answer.content))}",
                        hint="Is the project registered for Earth Engine, and may this account "
                        "use it? Log in anew with: earthengine authenticate",
                    )
                if answer.status_code not in _LATER:
                    return self._read(request, answer.status_code, answer.content)
                if attempt == _TRIES:
                    raise BackendError(
                        f"{self.url} answered {answer.status_code} {_TRIES} times: "
                        f"{self._scrubbed(_message(answer.content))}",
                        hint="What was answered is kept; start the same command later.",
                    )
                wait = max(wait, _retry_after(answer.headers))
            time.sleep(wait)
            wait = min(2 * wait, 60.0)
        raise AssertionError("unreachable")

    def _scrubbed(self, text: str) -> str:
        return text.replace(self.project, "PROJECT")

    def _read(self, request: Request, status: int, content: bytes) -> Answer:
        if status != 200:
            return {"status": status, "error": self._scrubbed(_message(content))}
        try:
            if request.method == "image:computePixels":
                return {"status": status, "pixels": _pixels(content)}
            return {
                "status": status,
                "value": json.loads(self._scrubbed(content.decode()))["result"],
            }
        except (ValueError, KeyError, TypeError) as problem:
            raise BackendError(
                f"{self.url} answered '{request.id}' in no form that is known: {content[:60]!r}.",
                hint="Is this the address of an Earth Engine endpoint?",
            ) from problem


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(120.0, float(headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content[:300].decode(errors="replace")


def _pixels(content: bytes) -> dict[str, Any]:
    """Return NPY as lists that people can read: the type and rows of each band."""
    import numpy as np

    array = np.load(io.BytesIO(content), allow_pickle=False)
    out: dict[str, Any] = {}
    for name in array.dtype.names or ():
        band = array[name]
        rows = [[_plain(value) for value in row] for row in band.tolist()]
        out[name] = {"type": band.dtype.str.lstrip("<>|="), "rows": rows}
    return out


def _plain(value: Any) -> Any:
    """Return a number as JSON has it; what is not finite as a word."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def read(path: Path) -> dict[str, Any]:
    """Return a recording.

    Raises
    ------
    DataError
        The file is not one.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found["answers"], dict):
            return found
    except (OSError, ValueError, KeyError):
        pass
    raise DataError(
        f"{path} is not a recording of Earth Engine's answers.",
        hint="Make one with: thawslump emulator capture --project PROJECT --output FILE",
    )


def record(
    service: Service,
    output: Path,
    *,
    kit: Kit | None = None,
    pause: float = 0.5,
    told: Callable[[int, int, Request, Answer], None] | None = None,
) -> dict[str, Any]:
    """Send every request that the file has no answer to, and return the recording.

    Parameters
    ----------
    service : Service
    output : Path
        Written after every answer, so that a run that was cut off continues.
    kit : Kit, optional
    pause : float
        Seconds between two requests.
    told : callable (number, count, request, answer), optional
        Called after every answer.

    Raises
    ------
    BackendError
        The service cannot be asked. What it answered before is in the file.
    DataError
        The file exists and is no recording, or one of another service.
    StorageError
        The file cannot be written.
    """
    kit = kit or Kit.stored()
    recording = _begun(output, service.url)
    answers = recording["answers"]
    for name in answers.keys() - kit.requests.keys():
        del answers[name]
    missing = [
        request
        for request in kit.requests.values()
        if answers.get(request.id, {}).get("request") != request.digest
    ]
    for number, request in enumerate(missing, 1):
        if number > 1 and pause > 0:
            time.sleep(pause)
        answer = service.send(request)
        answers[request.id] = {"request": request.digest, **answer}
        recording["recorded"] = _now()
        write_text(output, json.dumps(recording, indent=1, sort_keys=True) + "\n")
        if told is not None:
            told(number, len(missing), request, answer)
    return recording


def _begun(output: Path, url: str) -> dict[str, Any]:
    if output.exists():
        found = read(output)
        if found.get("service") != url:
            raise DataError(
                f"{output} holds answers of {found.get('service')}, not of {url}.",
                hint="Give another file: --output FILE",
            )
        return found
    versions = {"earthengine-api": importlib.metadata.version("earthengine-api")}
    return {"service": url, "begun": _now(), "client": versions, "answers": {}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
