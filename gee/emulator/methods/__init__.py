"""What the methods of the REST interface do, a module per resource.

Each function takes the `Endpoint` and the arguments of a request (path parameters, query and
`body`), and returns the answer: a dictionary that becomes JSON, or a `Response`. Its name is
that of `discovery.Method.handler`; `find` brings the two together.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..discovery import Method

__all__ = ["Handler", "find"]

Handler = Callable[..., Any]


def _module(method: Method) -> str:
    resource = method.resource.rpartition(".")[2]
    if method.name == "export":
        return "exports"
    if method.name in ("import", "importExternal"):
        return "imports"
    if resource == "operations":
        return "operations"
    if method.name in ("computePixels", "getPixels") and resource in ("image", "assets"):
        return "pixels"
    if resource in ("maps", "tiles") or resource.lower().endswith("thumbnails"):
        return "pictures"
    if resource in ("table", "tables") or method.name == "listFeatures":
        return "tables"
    if resource in ("assets", "projects"):
        return "assets"
    return "values"


@functools.cache
def find(method: Method) -> Handler:
    """Return the function that answers a method; its module is imported when first needed."""
    module = importlib.import_module(f".{_module(method)}", __name__)
    found: Handler = getattr(module, method.handler)
    return found
