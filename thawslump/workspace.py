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
    def sites(self) -> dict[str, Site]:
        """Sites and areas by name, in the order of their names."""
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

    def site(self, name: str) -> Site:
        """Return a site by name.

        Raises
        ------
        ConfigError
            There is none; the nearest name is offered.
        """
        if name not in self.sites:
            raise ConfigError(
                f'There is no site "{name}" in {self.root}.'
                + (nearest(name, self.sites) or f" There are: {', '.join(self.sites) or 'none'}."),
                hint="`thawslump site add` makes one.",
            )
        return self.sites[name]

    def outlines(self, site: str) -> Path | None:
        """The file of a site's known outlines; relative paths start at the workspace."""
        path = self.site(site).outlines
        return None if path is None else self.root / path

    # Where things lie ------------------------------------------------------------------------
    def tiles(self, site: str) -> Path:
        return self.root / "tiles" / site

    def stack(self, site: str) -> Path:
        return self.tiles(site) / "stack.tif"

    def context(self, site: str) -> Path:
        return self.tiles(site) / "context.tif"

    def factors(self, site: str) -> Path:
        return self.tiles(site) / "factors.tif"

    def item(self, site: str) -> Path:
        return self.tiles(site) / "item.json"

    def round(self, number: int) -> Path:
        return self.root / "rounds" / str(number)

    def labels(self, round: int, site: str) -> Path:
        return self.round(round) / site / "labels.tif"

    def models(self, round: int) -> Path:
        return self.round(round) / "models"

    def maps(self, round: int) -> Path:
        return self.round(round) / "maps"

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


def _words() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "thawslump"


def _holder(path: Path) -> str:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return f"process {known['pid']} (`{known['words']}`, since {known['since']})"
    except (OSError, ValueError, KeyError):
        return "a process that has not said its name yet"
