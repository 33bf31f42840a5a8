"""Plans of the Earth Engine part: the made-up valley and the export of every site."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.files import sha256
from thawslump.pipeline import Item, Waiting

if TYPE_CHECKING:
    from thawslump.site import Site
    from thawslump.workspace import Workspace

__all__ = [
    "FILES",
    "catalog_digest",
    "export_settings",
    "plan_export",
    "plan_valley",
    "settings_digest",
    "vector_checksums",
]

FILES = ("stack.tif", "context.tif", "factors.tif", "item.json")
"""What an export leaves in tiles/<site>/."""

# Seconds per million pixels of a site on two cores; weighs the time left.
_SECONDS_PER_MEGAPIXEL = 30.0


def plan_valley(workspace: Workspace, round: int) -> list[Item]:
    """Plan the made-up valley; nothing where thawslump.yaml has no section `valley`."""
    valley = workspace.config.valley
    if valley is None:
        return []
    settings = {"seed": valley.seed, "rows": valley.rows, "cols": valley.cols}
    return [
        Item(
            step="valley",
            name="valley",
            target="gee.valley.step:run",
            settings=settings,
            inputs=(),
            outputs=(
                workspace.catalog / "valley.json",
                workspace.truth / "slumps.gpkg",
                workspace.truth / "truth.tif",
                workspace.truth / "susceptibility_truth.tif",
            ),
            version=3,  # gee.valley.write.VERSION, whose module is slow to import
            cost=valley.rows * valley.cols / 1e6 * 60.0,
        )
    ]


# What a part of a large area takes from its area without its pixels depending on it: when the area
# grows, blocks inside it stay as they are. Their place is `pinned`.
_NOT_OF_PARTS = frozenset({"area", "mosaic", "bounds"})


def export_settings(
    workspace: Workspace, site: Site, digests: dict[tuple[str, ...], str] | None = None
) -> dict[str, Any]:
    """Return everything but the code that determines the tiles of a site.

    Parameters
    ----------
    workspace : Workspace
    site : Site
    digests : dict, optional
        Keeps what was found of the catalogue from one site to the next.
    """
    backend = workspace.config.backend
    own = backend.kind == "emulator" and backend.url is None
    digest = None
    if own:
        names = tuple(_collections(site))
        digests = {} if digests is None else digests
        if names not in digests:
            digests[names] = catalog_digest(workspace.catalog, names)
        digest = digests[names]
    left_out = {"outlines", "role", "block", *(_NOT_OF_PARTS if hasattr(site, "pinned") else ())}
    return {
        "site": site.model_dump(mode="json", exclude=left_out),
        "backend": {"kind": backend.kind, "url": backend.url if not own else None},
        "catalog": digest,
        "landcover_points": _points_digest(workspace, site),
        "vectors": vector_checksums(workspace.root, site),
    }


def vector_checksums(root: Path, site: Site) -> dict[str, str]:
    """Return the checksum of every vector file that a site's sources name, by key.

    Of a Shapefile with its companions; "missing" where there is no file.
    """
    from gee.scripts.sources import is_file

    found = {}
    for key, name in site.sources.items():
        if is_file(name):
            path = root / name
            parts = [path]
            if path.suffix.lower() == ".shp":
                parts = sorted(path.parent.glob(f"{path.stem}.*"))
            there = path.is_file()
            found[key] = "-".join(sha256(part)[:16] for part in parts) if there else "missing"
    return found


def _points_digest(workspace: Workspace, site: Site) -> str | None:
    # The points' content counts, not their path: corrected points make another map.
    if site.landcover_points is None:
        return None
    path = workspace.root / site.landcover_points
    return sha256(path) if path.is_file() else None


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return a digest of settings.

    Examples
    --------
    >>> settings_digest({"b": 1, "a": 2}) == settings_digest({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def plan_export(workspace: Workspace, round: int) -> list[Item] | Waiting:
    """Plan one item per site and area that comes from Earth Engine.

    Where exports are made in batch, nothing is planned: tasks run on the service, and their files
    are brought here by hand.
    """
    sites = [site for site in workspace.sites.values() if site.source == "earthengine"]
    if workspace.config.export.method != "pixels":
        return _awaited(workspace, sites)
    items = []
    digests: dict[tuple[str, ...], str] = {}
    for site in sites:
        folder = workspace.tiles(site.name)
        items.append(
            Item(
                step="export",
                name=site.name,
                target="gee.exports.step:run",
                settings=export_settings(workspace, site, digests),
                inputs=(),
                outputs=tuple(folder / name for name in FILES),
                cost=_megapixels(site) * _SECONDS_PER_MEGAPIXEL,
            )
        )
    return items


def _awaited(workspace: Workspace, sites: Iterable[Site]) -> list[Item] | Waiting:
    left = []
    digests: dict[tuple[str, ...], str] = {}
    for site in sites:
        folder = workspace.tiles(site.name)
        path = folder / "batch.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        current = kept.get("settings") == settings_digest(export_settings(workspace, site, digests))
        complete = all((folder / name).exists() for name in FILES)
        if not (current and complete and kept.get("state") == "collected"):
            left.append(site.name)
    if not left:
        return []
    return Waiting(
        len(left),
        f"batch exports of {_grouped(workspace, left)}: thawslump export submit, then thawslump "
        "export status, then thawslump export fetch --from FOLDER",
    )


def _grouped(workspace: Workspace, names: Iterable[str]) -> str:
    """Return names in words; the parts of a large area as their number."""
    counts: dict[str, int] = {}
    for name in names:
        area = workspace.area_of(name)
        counts[area] = counts.get(area, 0) + 1
    return ", ".join(
        f"{area} ({count} of {len(workspace.parts(area))} parts)" if workspace.zones(area) else area
        for area, count in counts.items()
    )


def _megapixels(site: Site) -> float:
    rows, columns = site.grid().shape
    return max(0.01, rows * columns / 1e6)


def _collections(site: Site) -> list[str]:
    from gee.scripts.sources import SOURCES, keys_of

    keys = {"s1", "s2", "dem", "cloud_score", *keys_of(site.bands), *keys_of(site.factors)}
    chosen = {key: SOURCES[key].id for key in keys} | dict(site.sources)
    return sorted(name.removesuffix("/*") for name in chosen.values() if name is not None)


def catalog_digest(catalog: Path, collections: Iterable[str]) -> str:
    """Return a digest of what the emulator holds of some collections.

    It changes with every image that is added, removed or replaced: descriptions are read, and the
    data files, which are named by their content, are listed.
    """
    digest = hashlib.sha256()
    for name in collections:
        folder = catalog / name
        digest.update(name.encode())
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.name.startswith("."):
                continue
            digest.update(path.relative_to(catalog).as_posix().encode())
            if path.name == "asset.json":
                digest.update(path.read_bytes())
    return digest.hexdigest()
