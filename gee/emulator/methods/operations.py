"""Operations: the exports and imports that run, and those that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from .requests import page_size, page_start

if TYPE_CHECKING:
    from ..protocol import Endpoint

__all__ = [
    "operations_cancel",
    "operations_delete",
    "operations_get",
    "operations_list",
    "operations_wait",
]

LONGEST_WAIT = 60.0  # seconds


def _name(name: str) -> tuple[str, str]:
    project, _, last = name.partition("/operations/")
    return project, last


def operations_get(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with one operation."""
    return endpoint.operations.get(*_name(arguments["name"]))


def operations_list(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with a page of the operations of a project, the newest first."""
    size = page_size(arguments.get("pageSize"), 500)
    start = page_start(arguments.get("pageToken"))
    found, more = endpoint.operations.list(arguments["name"], size, start)
    out: dict[str, Any] = {"operations": found}
    if more is not None:
        out["nextPageToken"] = str(more)
    return out


def operations_cancel(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Cancel an operation; one that has ended stays as it is."""
    endpoint.operations.cancel(*_name(arguments["name"]))
    return {}


def operations_delete(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Forget an operation that has ended."""
    endpoint.operations.delete(*_name(arguments["name"]))
    return {}


def operations_wait(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer when an operation has ended, or after some time."""
    text = str(arguments["body"].get("timeout") or "10s").removesuffix("s")
    try:
        seconds = min(float(text), LONGEST_WAIT)
    except ValueError:
        seconds = float("nan")
    if not seconds >= 0:
        raise EngineError(f"The timeout {text[:80]!r} is no duration such as '10s'.")
    return endpoint.operations.wait(*_name(arguments["name"]), seconds)
