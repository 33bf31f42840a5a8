"""What the options before a command say; commands of all parts ask here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawslump.progress import Reporter
    from thawslump.workspace import Workspace

__all__ = ["Options", "current", "reporter", "workspace"]


@dataclass
class Options:
    """Options of `thawslump` itself.

    Attributes
    ----------
    workspace : Path
        Folder given with --workspace; the current one where not given.
    json : bool
        Machine-readable output.
    debug : bool
        Tracebacks are shown.
    """

    workspace: Path = Path()
    json: bool = False
    debug: bool = False


current = Options()


def workspace() -> Workspace:
    """Return the workspace that the command works in."""
    from thawslump.workspace import Workspace

    return Workspace(current.workspace)


def reporter(rounds: int = 1) -> Reporter:
    """Return how progress is shown: JSON lines, a live bar, or plain lines."""
    from thawslump.progress import chosen

    return chosen(json_lines=current.json, rounds=rounds)
