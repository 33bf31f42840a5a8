"""What the endpoint can be asked: one table of methods, for routing and for the clients.

Clients of Google APIs build themselves from a *discovery document* that they fetch from the
endpoint, and Earth Engine's learn all its functions from `algorithms`. No document of version v1
is shipped with any client, so this module generates one from `METHODS`, the table by which
`protocol` routes as well: what is described is what is answered.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawslump import __version__
from thawslump.errors import BackendError

__all__ = ["METHODS", "Method", "algorithms", "document"]

VERSION = "v1"

_PROJECT = r"projects/[^/]+"
# The root itself is asked for with a slash at its end (ee.data.getAssetRootQuota).
_ASSET = r"projects/[^/]+/assets/.*"
_RESOURCES = {
    "project": _PROJECT,
    "asset": _ASSET,
    "operation": rf"{_PROJECT}/operations/[^/]+",
    "config": rf"{_PROJECT}/config",
    "map": rf"{_PROJECT}/maps/[^/]+",
    "thumbnail": rf"{_PROJECT}/thumbnails/[^/]+",
    "video": rf"{_PROJECT}/videoThumbnails/[^/]+",
    "filmstrip": rf"{_PROJECT}/filmstripThumbnails/[^/]+",
    "table": rf"{_PROJECT}/tables/[^/]+",
}


@dataclass(frozen=True)
class Method:
    """One method of the REST interface.

    Attributes
    ----------
    resource : str
        "projects.assets", as the client reaches it.
    name : str
    verb : str
        HTTP method.
    parameter : str
        Name of the path parameter.
    kind : str
        What that parameter names; a key of the patterns above.
    suffix : str
        What follows it in the path.
    query : tuple of str
    body : bool
        Whether a JSON body is sent.
    implemented : bool
        Methods that are not answer 400 with their name; clients still find them.
    """

    resource: str
    name: str
    verb: str
    parameter: str
    kind: str
    suffix: str = ""
    query: tuple[str, ...] = ()
    body: bool = False
    implemented: bool = True

    @property
    def id(self) -> str:
        """`earthengine.projects.assets.get`."""
        return f"earthengine.{self.resource}.{self.name}"

    @property
    def handler(self) -> str:
        """Name of the method of the endpoint that answers, as `assets_get`."""
        last = self.resource.rpartition(".")[2]
        return re.sub(r"(?<=[a-z])([A-Z])", lambda m: f"_{m[1].lower()}", f"{last}_{self.name}")

    @property
    def path(self) -> str:
        """The path template of the discovery document."""
        return f"{VERSION}/{{+{self.parameter}}}{self.suffix}"

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches a path without its leading slash; groups are the path parameters."""
        suffix = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", self.suffix)
        return re.compile(rf"{VERSION}/(?P<{self.parameter}>{_RESOURCES[self.kind]}){suffix}")


_PAGES = ("pageSize", "pageToken")
_LIST = (*_PAGES, "filter", "view")
_TAG = ("workloadTag",)


def _creates(resource: str, *, implemented: bool = True) -> Method:
    return Method(
        f"projects.{resource}", "create", "POST", "parent", "project", f"/{resource}",
        _TAG, True, implemented,
    )  # fmt: skip


def _computes(resource: str, name: str, *, implemented: bool = True) -> Method:
    return Method(
        f"projects.{resource}", name, "POST", "project", "project", f"/{resource}:{name}",
        (), True, implemented,
    )  # fmt: skip


# The order matters to routing: the first that matches answers, so what has a suffix comes first.
METHODS: tuple[Method, ...] = (
    Method("projects.algorithms", "list", "GET", "parent", "project", "/algorithms", _PAGES),
    _computes("value", "compute"),
    _computes("image", "computePixels"),
    _computes("image", "export"),
    _computes("image", "import"),
    _computes("image", "importExternal"),
    _computes("imageCollection", "computeImages"),
    _computes("table", "computeFeatures"),
    _computes("table", "export"),
    _computes("table", "import"),
    _computes("map", "export"),
    _computes("video", "export", implemented=False),
    _computes("videoMap", "export", implemented=False),
    _computes("classifier", "export"),
    _creates("maps"),
    _creates("thumbnails"),
    _creates("videoThumbnails"),
    _creates("filmstripThumbnails"),
    _creates("tables"),
    _creates("featureView", implemented=False),
    Method("projects.maps.tiles", "get", "GET", "parent", "map", "/tiles/{zoom}/{x}/{y}"),
    Method("projects.thumbnails", "getPixels", "GET", "name", "thumbnail", ":getPixels"),
    Method("projects.videoThumbnails", "getPixels", "GET", "name", "video", ":getPixels"),
    Method("projects.filmstripThumbnails", "getPixels", "GET", "name", "filmstrip", ":getPixels"),
    Method("projects.tables", "getFeatures", "GET", "name", "table", ":getFeatures"),
    Method("projects.operations", "cancel", "POST", "name", "operation", ":cancel", (), True),
    Method("projects.operations", "wait", "POST", "name", "operation", ":wait", (), True),
    Method("projects.operations", "get", "GET", "name", "operation"),
    Method("projects.operations", "delete", "DELETE", "name", "operation"),
    Method(
        "projects.operations", "list", "GET", "name", "project", "/operations",
        (*_PAGES, "filter"),
    ),
    Method("projects", "listAssets", "GET", "parent", "project", ":listAssets", _LIST),
    Method("projects", "getConfig", "GET", "name", "config"),
    Method("projects", "updateConfig", "PATCH", "name", "config", "", ("updateMask",), True),
    Method(
        "projects.assets", "create", "POST", "parent", "project", "/assets",
        ("assetId", "overwrite"), True,
    ),
    Method("projects.assets", "getPixels", "POST", "name", "asset", ":getPixels", (), True),
    Method(
        "projects.assets", "listFeatures", "GET", "asset", "asset", ":listFeatures",
        (*_PAGES, "region", "filter"),
    ),
    Method("projects.assets", "listAssets", "GET", "parent", "asset", ":listAssets", _LIST),
    Method("projects.assets", "copy", "POST", "sourceName", "asset", ":copy", (), True),
    Method("projects.assets", "move", "POST", "sourceName", "asset", ":move", (), True),
    Method(
        "projects.assets", "getIamPolicy", "POST", "resource", "asset", ":getIamPolicy", (), True
    ),
    Method(
        "projects.assets", "setIamPolicy", "POST", "resource", "asset", ":setIamPolicy", (), True
    ),
    Method(
        "projects.assets", "testIamPermissions", "POST", "resource", "asset",
        ":testIamPermissions", (), True,
    ),
    Method("projects.assets", "get", "GET", "name", "asset"),
    Method("projects.assets", "delete", "DELETE", "name", "asset"),
    Method("projects.assets", "patch", "PATCH", "name", "asset", "", ("updateMask",), True),
)  # fmt: skip


def document(root_url: str = "") -> dict[str, Any]:
    """Return the discovery document of this endpoint.

    Parameters
    ----------
    root_url : str
        Address of the endpoint, `http://127.0.0.1:8765/`.

    Examples
    --------
    >>> methods = document()["resources"]["projects"]["resources"]["value"]["methods"]
    >>> methods["compute"]["path"]
    'v1/{+project}/value:compute'
    """
    # Clients make `list_next` only where the answer's schema declares `nextPageToken`.
    page = {"type": "object", "properties": {"nextPageToken": {"type": "string"}}}
    tree: dict[str, Any] = {}
    for method in METHODS:
        node: dict[str, Any] = {"resources": tree}
        for part in method.resource.split("."):
            node = node.setdefault("resources", {}).setdefault(part, {})
        parameters: dict[str, Any] = {
            method.parameter: {
                "type": "string",
                "required": True,
                "location": "path",
                # The client adds a slash to the root of a project's assets.
                "pattern": f"^{_RESOURCES[method.kind]}$",
            }
        }
        for name in re.findall(r"\{(\w+)\}", method.suffix):
            parameters[name] = {"type": "string", "required": True, "location": "path"}
        for name in method.query:
            kind = {"pageSize": "integer", "overwrite": "boolean"}.get(name, "string")
            parameters[name] = {"type": kind, "location": "query"}
        paged = "pageToken" in method.query or method.name.startswith("compute")
        entry: dict[str, Any] = {
            "id": method.id,
            "httpMethod": method.verb,
            "path": method.path,
            "flatPath": method.path,
            "parameters": parameters,
            "parameterOrder": [name for name, p in parameters.items() if p.get("required")],
            "response": {"$ref": "Page" if paged else "Any"},
        }
        if method.body:
            entry["request"] = {"$ref": "Any"}
        node.setdefault("methods", {})[method.name] = entry
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"earthengine:{VERSION}",
        "name": "earthengine",
        "canonicalName": "Earth Engine",
        "version": VERSION,
        "revision": __version__,
        "title": "Earth Engine interface of the thawslump emulator",
        "protocol": "rest",
        "rootUrl": root_url,
        "baseUrl": root_url,
        "servicePath": "",
        "basePath": "",
        "batchPath": "batch",
        "fullyEncodeReservedExpansion": True,
        "parameters": {
            name: {"type": "string", "location": "query"}
            for name in (
                "$.xgafv", "access_token", "alt", "callback", "fields", "key", "oauth_token",
                "prettyPrint", "quotaUser", "uploadType", "upload_protocol",
            )
        },
        "schemas": {
            "Any": {"id": "Any", "type": "object", "properties": {}},
            "Page": {"id": "Page", **page},
        },
        "resources": tree,
    }  # fmt: skip


@functools.cache
def algorithms() -> bytes:
    """Return the list of Earth Engine's functions, as the answer to `algorithms` has it.

    The list is the one that the installed `earthengine-api` package carries for its own tests;
    it is read from there, and never imported nor copied.

    Raises
    ------
    BackendError
        The package is not installed, or its release no longer carries the list.
    """
    path = algorithms_file()
    content = path.read_bytes()
    # The file has the form of the answer, so it is served as it is; reading all of it again
    # would cost a tenth of what connecting may take.
    if not re.match(rb'\s*\{\s*"algorithms"\s*:\s*\[', content) or (
        content.count(b'"algorithms/') < 100
    ):
        raise BackendError(
            f"{path} does not hold the list of Earth Engine's functions.",
            hint="Install a known release: pip install 'earthengine-api>=1.7,<2'",
        )
    return content


def algorithms_file() -> Path:
    """Return the path of `algorithms.json` inside the installed `earthengine-api`."""
    spec = importlib.util.find_spec("ee")  # finds it without the cost of importing it
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        path = Path(place, "tests", "algorithms.json")
        if path.is_file():
            return path
    where = "is not installed" if not places else f"at {places[0]} has no tests/algorithms.json"
    raise BackendError(
        f"The emulator needs the list of Earth Engine's functions, but earthengine-api {where}.",
        hint="Install a release that carries it: pip install 'earthengine-api>=1.7,<2'",
    )
