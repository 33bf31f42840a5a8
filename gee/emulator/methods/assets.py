"""Assets: described, listed, made, changed, copied, moved, deleted and shared; project settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from .requests import milliseconds, page_size, page_start

if TYPE_CHECKING:
    from ..catalog import Asset
    from ..protocol import Endpoint

__all__ = [
    "asset_json",
    "assets_copy",
    "assets_create",
    "assets_delete",
    "assets_get",
    "assets_get_iam_policy",
    "assets_list_assets",
    "assets_move",
    "assets_patch",
    "assets_set_iam_policy",
    "assets_test_iam_permissions",
    "check_parent",
    "projects_get_config",
    "projects_list_assets",
    "projects_update_config",
]

# Shown as a project's quota (guides/quotas); the disk decides what fits.
_MOST_ASSETS, _MOST_BYTES = 10_000, 250 * 2**30
OWNER = {"bindings": [{"role": "roles/owner", "members": ["allUsers"]}]}


def assets_get(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Describe an asset, or the root of a project's."""
    root = arguments["name"].removesuffix("/")
    if root.count("/") == 2:
        return _root_json(endpoint, root)
    return asset_json(endpoint.asset(arguments["name"]))


def _root_json(endpoint: Endpoint, root: str) -> dict[str, Any]:
    """Describe the root folder of a project, with what it holds in bytes and assets."""
    count = size = 0
    waiting = [root]
    while waiting:
        for child in endpoint.catalog.children(waiting.pop()):
            count += 1
            size += child.size_bytes or 0
            if child.type in ("FOLDER", "IMAGE_COLLECTION"):
                waiting.append(child.id)
    quota = {
        "assetCount": str(count), "maxAssets": str(_MOST_ASSETS),
        "sizeBytes": str(size), "maxSizeBytes": str(_MOST_BYTES),
    }  # fmt: skip
    return {"type": "FOLDER", "name": root, "id": root, "quota": quota}


def projects_list_assets(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """List the assets of a project."""
    project = arguments["parent"].rpartition("/")[2]
    top = {"earthengine-public": "", "earthengine-legacy": "users"}.get(
        project, f"projects/{project}/assets"
    )
    return _listed(endpoint, top, arguments)


def assets_list_assets(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """List what a folder or a collection holds."""
    return _listed(endpoint, endpoint.asset(arguments["parent"]).id, arguments)


def _listed(endpoint: Endpoint, parent: str, arguments: dict[str, Any]) -> dict[str, Any]:
    from ..assetfilter import matcher

    size = page_size(arguments.get("pageSize"))
    start = page_start(arguments.get("pageToken"))
    keep = matcher(arguments.get("filter") or "")
    found: list[Asset] = []
    end = None
    children = endpoint.catalog.children(parent)
    for position in range(start, len(children)):
        child = children[position]
        if not parent and child.id in ("projects", "users"):
            continue
        if keep(child):
            if len(found) == size:
                end = position
                break
            found.append(child)
    basic = arguments.get("view") == "BASIC"
    out: dict[str, Any] = {"assets": [asset_json(asset, basic=basic) for asset in found]}
    if end is not None:
        out["nextPageToken"] = str(end)
    return out


def assets_create(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make a folder, a collection, or an image of a file in Cloud Storage."""
    body = arguments["body"]
    if not arguments.get("assetId"):
        raise EngineError("An assetId is required.")
    name = f"{arguments['parent']}/assets/{arguments['assetId']}"
    kind = body.get("type")
    overwrite = str(arguments.get("overwrite", "")).lower() == "true"
    check_free(endpoint, name, overwrite=overwrite)
    properties = _properties(body)
    location = body.get("cloudStorageLocation") or body.get("cloud_storage_location")
    if kind == "FOLDER":
        endpoint.catalog.put_folder(name, properties)
    elif kind == "IMAGE_COLLECTION":
        endpoint.catalog.put_collection(name, properties)
    elif kind == "IMAGE" and location is not None:
        from .imports import external_image

        external_image(endpoint, name, location, body)
    else:
        raise EngineError(
            f"Creating an asset of type {str(kind)[:80]} is not implemented in the emulator; it "
            "makes FOLDER and IMAGE_COLLECTION, and takes in files with: thawslump emulator ingest."
        )
    return asset_json(endpoint.asset(name))


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties") or {}
    if not isinstance(properties, dict):
        raise EngineError("Invalid JSON payload received: 'properties' is no object.")
    return properties


def check_free(endpoint: Endpoint, name: str, *, overwrite: bool) -> None:
    """Refuse an asset that exists, or whose folder does not.

    Raises
    ------
    EngineError
        As Earth Engine does.
    """
    if endpoint.catalog.get(name) is not None and not overwrite:
        raise EngineError(f"Cannot overwrite asset '{name}'.")
    check_parent(endpoint, name)


def check_parent(endpoint: Endpoint, name: str) -> None:
    """Refuse a new asset whose folder does not exist, as Earth Engine does."""
    parent = name.rpartition("/")[0]
    if parent.endswith("/assets") or "/" not in parent:
        return
    found = endpoint.catalog.get(parent)
    if found is None:
        raise EngineError(
            f"Cannot create asset: the parent '{parent}' does not exist or doesn't allow "
            "this operation."
        )
    if found.type not in ("FOLDER", "IMAGE_COLLECTION"):
        raise EngineError(f"Cannot create asset: '{parent}' is a {found.type}, not a folder.")


def assets_delete(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Delete an asset that has no children."""
    asset = endpoint.asset(arguments["name"])
    endpoint.catalog.delete(asset.id)
    endpoint.store.put(f"policy:{asset.id}", None)
    return {}


def assets_patch(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Change properties and times of an asset."""
    body = arguments["body"]
    asset = endpoint.asset(arguments["name"])
    new = body.get("asset", body) or {}
    if not isinstance(new, dict):
        raise EngineError("Invalid JSON payload received: 'asset' is no object.")
    mask = body.get("updateMask") or arguments.get("updateMask") or {}
    paths = mask.get("paths") if isinstance(mask, dict) else str(mask).split(",")
    if paths and not (isinstance(paths, list) and all(isinstance(p, str) for p in paths)):
        raise EngineError("Invalid JSON payload received: 'updateMask' has no list of paths.")
    # The client sends `properties."name"` for one property, `properties` for all of them.
    changes: dict[str, Any] = {}
    times: dict[str, Any] = {}
    forget: list[str] = []
    names: list[str] | None = None
    given = _properties(new)
    every = ["properties", "startTime", "endTime", *(["bands"] if new.get("bands") else [])]
    for path in paths or every:
        if path == "properties":
            changes.update(dict.fromkeys(asset.properties))
            changes.update(given)
        elif path.startswith("properties."):
            key = path.removeprefix("properties.").strip('"')
            changes[key] = given.get(key)
        elif path in ("start_time", "startTime", "end_time", "endTime"):
            start = path.startswith("start")
            text = new.get("startTime" if start else "endTime")
            text = text or new.get("start_time" if start else "end_time")
            key = "start_ms" if start else "end_ms"
            if text is None:
                forget.append(key)
            else:
                times[key] = milliseconds(text)
        elif path == "bands":
            listed = new.get("bands")
            if not isinstance(listed, list) or not all(
                isinstance(band, dict) and isinstance(band.get("id"), str) for band in listed
            ):
                raise EngineError("Invalid JSON payload received: a band has no 'id'.")
            names = [band["id"] for band in listed]
        else:
            raise EngineError(f"Updating '{path[:80]}' of an asset is not implemented.")
    endpoint.catalog.update_properties(asset.id, changes, forget=forget, bands=names, **times)
    return asset_json(endpoint.asset(arguments["name"]))


def assets_copy(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Copy an asset to another name."""
    body = arguments["body"]
    source = endpoint.asset(arguments["sourceName"])
    target = _destination(body)
    check_parent(endpoint, target)
    endpoint.catalog.copy(source.id, target, overwrite=bool(body.get("overwrite")))
    return asset_json(endpoint.asset(target))


def assets_move(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Give an asset another name."""
    source = endpoint.asset(arguments["sourceName"])
    if endpoint.catalog.children(source.id):
        raise EngineError(f"Asset '{source.name}' has children and cannot be moved.")
    target = _destination(arguments["body"])
    if target in (source.name, source.id):
        raise EngineError(f"Cannot overwrite asset '{source.name}'.")
    check_parent(endpoint, target)
    endpoint.catalog.copy(source.id, target)
    endpoint.catalog.delete(source.id)
    moved = endpoint.asset(target)
    endpoint.store.put(f"policy:{moved.id}", endpoint.store.look_up(f"policy:{source.id}"))
    endpoint.store.put(f"policy:{source.id}", None)
    return asset_json(moved)


def _destination(body: dict[str, Any]) -> str:
    target = body.get("destinationName")
    if not isinstance(target, str) or not target:
        raise EngineError("A destinationName is required.")
    return target


# --------------------------------------------------------------------------------------------
# sharing and settings


def assets_get_iam_policy(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with who may do what to an asset."""
    import hashlib
    import json

    asset = endpoint.asset(arguments["resource"])
    policy = endpoint.store.look_up(f"policy:{asset.id}") or OWNER
    etag = hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()[:16]
    return {**policy, "etag": etag}


def assets_set_iam_policy(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep who may do what to an asset.

    The emulator keeps and returns it; it holds nobody back, as it knows no users.
    """
    asset = endpoint.asset(arguments["resource"])
    policy = arguments["body"].get("policy")
    bindings = policy.get("bindings", []) if isinstance(policy, dict) else None
    if not isinstance(bindings, list):
        raise EngineError("Invalid JSON payload received: 'policy' is missing or malformed.")
    kept = []
    for binding in bindings:
        role = binding.get("role") if isinstance(binding, dict) else None
        members = binding.get("members", []) if isinstance(binding, dict) else None
        if (
            not isinstance(role, str)
            or not role.startswith("roles/")
            or not isinstance(members, list)
            or not all(isinstance(member, str) for member in members)
        ):
            raise EngineError(
                "Invalid JSON payload received: a binding has a 'role' such as 'roles/viewer' and "
                "a list of 'members'."
            )
        kept.append({"role": role, "members": members})
    etag = policy.get("etag")
    if etag and etag != assets_get_iam_policy(endpoint, arguments)["etag"]:
        raise EngineError("The policy was changed meanwhile (etag does not match): read it again.")
    endpoint.store.put(f"policy:{asset.id}", {"bindings": kept})
    return assets_get_iam_policy(endpoint, arguments)


def assets_test_iam_permissions(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with the permissions that the caller has: all, as there are no users."""
    endpoint.asset(arguments["resource"])
    asked = arguments["body"].get("permissions") or []
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise EngineError("Invalid JSON payload received: 'permissions' is no list of names.")
    return {"permissions": asked}


def projects_get_config(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer with the settings of a project."""
    from ..operations import MAX_CONCURRENT_EXPORTS

    project = arguments["name"].removesuffix("/config")
    known = endpoint.store.look_up(f"config:{project}") or {}
    most = known.get("maxConcurrentExports", MAX_CONCURRENT_EXPORTS)
    # Nothing is registered here; what somebody put there for a test is passed on.
    told = {key: known[key] for key in ("registrationState",) if key in known}
    return {"name": arguments["name"], **told, "maxConcurrentExports": str(most)}


def projects_update_config(endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
    """Set how many exports of a project run at a time."""
    body = arguments["body"]
    for path in str(arguments.get("updateMask") or "max_concurrent_exports").split(","):
        if path not in ("max_concurrent_exports", "maxConcurrentExports"):
            raise EngineError(f"Updating '{path[:80]}' of a project's config is not implemented.")
    given = body.get("maxConcurrentExports", body.get("max_concurrent_exports"))
    try:
        most = int(given)
    except (TypeError, ValueError, OverflowError):
        most = 0
    if not 1 <= most <= 1000:
        raise EngineError("maxConcurrentExports must be a whole number from 1 to 1000.")
    project = arguments["name"].removesuffix("/config")
    endpoint.store.put(f"config:{project}", {"maxConcurrentExports": most})
    return projects_get_config(endpoint, arguments)


# --------------------------------------------------------------------------------------------
# descriptions


def asset_json(asset: Asset, *, basic: bool = False) -> dict[str, Any]:
    """Return an asset as the REST interface describes it (EarthEngineAsset)."""
    from ..store import timestamp

    out: dict[str, Any] = {"type": asset.type, "name": asset.name, "id": asset.id}
    if basic:
        return out
    out["updateTime"] = timestamp(asset.updated)
    if asset.properties:
        out["properties"] = dict(asset.properties)
    for key in ("title", "description"):
        if isinstance(asset.properties.get(key), str):
            out[key] = asset.properties[key]
    if asset.start_ms is not None:
        out["startTime"] = timestamp(asset.start_ms / 1000)
    if asset.end_ms is not None:
        out["endTime"] = timestamp(asset.end_ms / 1000)
    if asset.footprint is not None:
        out["geometry"] = asset.footprint
    if asset.size_bytes:
        out["sizeBytes"] = str(asset.size_bytes)
    if asset.bands:
        out["bands"] = [_band_json(band) for band in asset.bands]
    return out


def _band_json(band: Any) -> dict[str, Any]:
    kind = band.data_type
    limits = {"min": kind.min, "max": kind.max}
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    code = {"crsCode": band.crs} if len(band.crs) < 20 else {"crsWkt": band.crs}
    return {
        "id": band.id,
        "dataType": {
            "precision": kind.precision.upper(),
            "range": {key: value for key, value in limits.items() if value is not None},
        },
        "grid": {
            **code,
            "dimensions": {"width": band.shape[1], "height": band.shape[0]},
            "affineTransform": dict(zip(names, band.transform, strict=True)),
        },
        "pyramidingPolicy": band.policy,
    }
