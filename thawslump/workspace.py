"""A workspace: a folder with its YAML files, and the one place that knows where files lie."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.errors import BusyError, ConfigError, nearest
from thawslump.files import write_json

if TYPE_CHECKING:
    from thawslump.areas import Mosaic
    from thawslump.site import Site

__all__ = ["Workspace"]


class Workspace:
    """A folder that holds thawslump.yaml, sites, tiles, rounds and the inventory.

    Parameters
    ----------
    root : Path
        The folder. Nothing is read until asked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Workspace, (self.root,))

    @cached_property
    def config(self) -> Any:
        """The typed content of thawslump.yaml; sections are attributes.

        Raises
        ------
        ConfigError
            No thawslump.yaml here, or a key or value in it that does not fit.
        """
        from thawslump.config import config_model, load_model

        path = self.root / "thawslump.yaml"
        if not path.exists():
            raise ConfigError(
                f"{self.root} is no workspace: it has no thawslump.yaml.",
                hint="Make one with `thawslump new DIR`, or give --workspace DIR.",
            )
        return load_model(config_model(), path)

    @cached_property
    def declared(self) -> dict[str, Site]:
        """Sites and areas as their files say, by name, in the order of their names."""
        from thawslump.config import load_model
        from thawslump.site import Site

        found: dict[str, Site] = {}
        for folder in ("sites", "areas"):
            for path in sorted((self.root / folder).glob("*.yaml")):
                site = load_model(Site, path)
                if site.name != path.stem:
                    raise ConfigError(
                        f'{path}: name is "{site.name}", but the file is called {path.name}.',
                        hint="Give both the same name.",
                    )
                if site.name in found:
                    raise ConfigError(
                        f'{path}: there is another site or area called "{site.name}".',
                        hint="Rename one of them.",
                    )
                found[site.name] = site
        return dict(sorted(found.items()))

    @cached_property
    def mosaics(self) -> dict[str, Mosaic]:
        """Large areas by UTM zone, by name of the mosaic (see `thawslump.areas`)."""
        if not any(_may_be_large(site) for site in self.declared.values()):
            # The grids of areas need packages that take time to load.
            return {}
        from thawslump.areas import mosaics

        found: dict[str, Mosaic] = {}
        for site in self.declared.values():
            if not _may_be_large(site):
                continue
            try:
                zones = mosaics(site)
            except ConfigError as error:
                raise ConfigError(f"Area {site.name}: {error.message}", hint=error.hint) from None
            for zone in zones:
                for name in (zone.name, *zone.names):
                    if name in self.declared:
                        raise ConfigError(
                            f'"{name}" is a part of the area "{site.name}" and a site of its own.',
                            hint="Rename the site.",
                        )
                found[zone.name] = zone
        return found

    @cached_property
    def sites(self) -> dict[str, Site]:
        """What is exported and mapped, by name: sites, small areas, and parts of large areas."""
        large = {zone.area for zone in self.mosaics.values()}
        found = {name: site for name, site in self.declared.items() if name not in large}
        for zone in self.mosaics.values():
            found |= {part.name: part for part in zone.parts}
        return dict(sorted(found.items()))

    def site(self, name: str) -> Site:
        """Return a site, an area, or a part of a large area by name.

        Raises
        ------
        ConfigError
            There is none; the nearest name is offered.
        """
        for known in (self.declared, self.sites, self.mosaics):
            if name in known:
                return known[name]
        raise ConfigError(
            f'There is no site "{name}" in {self.root}.'
            + (
                nearest(name, self.declared) or f" There are: {', '.join(self.declared) or 'none'}."
            ),
            hint="`thawslump site add` makes one.",
        )

    def area_of(self, name: str) -> str:
        """Return the name of the file that a site or a part of an area comes from.

        The inventory knows areas whole, so its rows carry this name.
        """
        return str(getattr(self.site(name), "area", name))

    def zones(self, name: str) -> tuple[Mosaic, ...]:
        """Return the mosaics of a large area, from west to east; nothing for other sites."""
        return tuple(zone for zone in self.mosaics.values() if zone.area == name)

    def parts(self, name: str) -> tuple[str, ...]:
        """Return the names in `sites` that a name stands for: the parts of a large area, or itself.

        Raises
        ------
        ConfigError
            There is no such site.
        """
        self.site(name)
        zones = [zone for zone in self.mosaics.values() if name in (zone.area, zone.name)]
        return tuple(part for zone in zones for part in zone.names) or (name,)

    def views(self, name: str) -> tuple[str, ...]:
        """Return under which names the files of a site show it: its mosaics, or itself."""
        return tuple(zone.name for zone in self.zones(name)) or (name,)

    def outlines(self, site: str) -> Path | None:
        """The file of a site's known outlines; relative paths start at the workspace."""
        path = self.site(site).outlines
        return None if path is None else self.root / path

    # Where things lie ------------------------------------------------------------------------
    def tiles(self, site: str) -> Path:
        return self.root / "tiles" / site

    def _suffix(self, site: str) -> str:
        # A mosaic of parts is a small file that names theirs.
        return "vrt" if site in self.mosaics else "tif"

    def stack(self, site: str) -> Path:
        return self.tiles(site) / f"stack.{self._suffix(site)}"

    def context(self, site: str) -> Path:
        return self.tiles(site) / f"context.{self._suffix(site)}"

    def factors(self, site: str) -> Path:
        return self.tiles(site) / f"factors.{self._suffix(site)}"

    def item(self, site: str) -> Path:
        return self.tiles(site) / "item.json"

    def round(self, number: int) -> Path:
        return self.root / "rounds" / str(number)

    def labels(self, round: int, site: str) -> Path:
        return self.round(round) / site / "labels.tif"

    def labels_soft(self, round: int, site: str) -> Path:
        return self.round(round) / site / "labels_soft.tif"

    def models(self, round: int) -> Path:
        return self.round(round) / "models"

    def maps(self, round: int) -> Path:
        return self.round(round) / "maps"

    def map(self, round: int, site: str, prefix: str = "") -> Path:
        return self.maps(round) / f"{prefix}{site}.{self._suffix(site)}"

    @property
    def inventory(self) -> Path:
        return self.root / "inventory.gpkg"

    @property
    def catalog(self) -> Path:
        return self.root / "catalog"

    @property
    def truth(self) -> Path:
        return self.root / "truth"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    # One run at a time -----------------------------------------------------------------------
    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace; the system frees the lock when the process dies.

        Raises
        ------
        BusyError
            Another process holds it; says which, and since when.
        """
        from filelock import FileLock, Timeout

        self.root.mkdir(parents=True, exist_ok=True)
        holder = self.root / ".lock.json"
        lock = FileLock(self.root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BusyError(
                f"Another run holds the workspace {self.root}: {_holder(holder)}.",
                hint="Wait for it, or stop it; then start again.",
            ) from None
        try:
            write_json(
                holder,
                {
                    "pid": os.getpid(),
                    "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                    "words": _words(),
                },
            )
            yield
        finally:
            lock.release()


def _may_be_large(site: Site) -> bool:
    """Return whether it takes a grid to know that an area is no large one."""
    if site.role != "area" or site.source != "earthengine":
        return False
    west, south, east, north = site.bounds
    # Turned against its meridian, a box is larger on the grid than on the ground, not by half.
    side = max((east - west) % 360.0, north - south) * 111_320.0 * 1.5
    return site.crs is not None or side > site.block * site.resolution or south >= north


def _words() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "thawslump"


def _holder(path: Path) -> str:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return f"process {known['pid']} (`{known['words']}`, since {known['since']})"
    except (OSError, ValueError, KeyError):
        return "a process that has not said its name yet"
