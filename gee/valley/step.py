"""The pipeline step `valley`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gee.valley.write import build

if TYPE_CHECKING:
    from thawslump.pipeline import Item
    from thawslump.workspace import Workspace

__all__ = ["run"]


def run(
    item: Item, workspace: Workspace, progress: Callable[[float, str], None]
) -> dict[str, float | int | str]:
    """Make the valley that the item's settings `seed`, `rows` and `cols` describe.

    Parameters
    ----------
    item : Item
        Its outputs are catalog/valley.json and the three files of truth/.
    workspace : Workspace
    progress : callable

    Returns
    -------
    dict
        Facts for the ledger.
    """
    settings = item.settings
    facts = build(
        workspace.catalog,
        workspace.truth,
        seed=int(settings["seed"]),
        shape=(int(settings["rows"]), int(settings["cols"])),
        progress=progress,
    )
    return {name: value for name, value in facts.items() if isinstance(value, (int, float, str))}
