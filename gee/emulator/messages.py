"""HTTP requests and responses, without a web server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["CALL", "JSON", "SPENT", "Broken", "Call", "Request", "Response"]

Broken = Literal["", "dropped", "cut", "half_body"]

JSON = "application/json; charset=UTF-8"


@dataclass(frozen=True)
class Request:
    """An HTTP request.

    Attributes
    ----------
    method : str
    path : str
        Decoded, with its leading slash.
    query : mapping of str to str
    headers : mapping of str to str
        Names in lower case.
    body : bytes
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """An HTTP response.

    Attributes
    ----------
    status : int
    body : bytes
    content_type : str
    headers : mapping of str to str
    broken : {"", "dropped", "cut", "half_body"}
        A fault that was asked for: the connection ends without an answer, or in the middle of
        the body, or the body is whole but half as long.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    broken: Broken = ""

    @classmethod
    def error(cls, code: int, message: str, status: str) -> Response:
        """Return the body that clients turn into an EEException."""
        error = {"error": {"code": code, "message": message, "status": status}}
        return cls(code, json.dumps(error).encode())


@dataclass(frozen=True)
class Call:
    """What a request is about, for faults, quotas and the meter.

    Attributes
    ----------
    verb, path : str
    handler : str
        "image_compute_pixels"; "" for what is no method of the interface.
    names : tuple of str
        All names by which a rule may call the method.
    project : str
        "projects/my-project", or "".
    tag : str
        The workload tag, or "".
    """

    verb: str = ""
    path: str = ""
    handler: str = ""
    names: tuple[str, ...] = ()
    project: str = ""
    tag: str = ""


SPENT: ContextVar[list[float] | None] = ContextVar("spent", default=None)
"""Seconds that the request computed so far, where its caller asks for a profile."""
CALL: ContextVar[Call] = ContextVar("call", default=Call())  # noqa: B039 (it is frozen)
