"""What is done, running and failed in a workspace, and what it took."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from thawslump.ledger import Ledger, Row
from thawslump.pipeline import STEPS
from thawslump.workspace import Workspace

__all__ = ["show", "table"]


def table(workspace: Workspace) -> list[dict[str, Any]]:
    """Return one row per step and round, in the order of the chain.

    Raises
    ------
    ConfigError
        The folder is no workspace.
    """
    workspace.config  # noqa: B018  (says that the folder is no workspace)
    if not workspace.ledger.exists():
        return []
    ledger = Ledger(workspace.ledger, workspace.root)
    try:
        rows = ledger.rows()
    finally:
        ledger.close()
    grouped: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[(row.round, row.step)].append(row)
    order = {step.name: index for index, step in enumerate(STEPS)}
    places = {"before": 0, "round": 1, "after": 2}
    place = {step.name: places[step.place] for step in STEPS}
    found = []
    for (round_, step), members in sorted(
        grouped.items(), key=lambda g: (place[g[0][1]], g[0][0], order[g[0][1]])
    ):
        found.append(
            {
                "step": step,
                "round": round_,
                "done": sum(row.state == "done" for row in members),
                "running": sum(row.state == "running" for row in members),
                "failed": sum(row.state == "failed" for row in members),
                "seconds": round(sum(row.seconds or 0.0 for row in members), 1),
                "bytes": sum(row.bytes or 0 for row in members),
                "errors": _errors(workspace, members),
                "areas": _areas(workspace, members),
            }
        )
    return found


def _errors(workspace: Workspace, members: list[Row]) -> list[str]:
    """Return the errors of items; one that many parts of an area share, once."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in members:
        if row.error:
            area = _area(workspace, row.name)
            grouped.setdefault((area, row.error.replace(row.name, area)), []).append(row)
    return [
        f"{rows[0].name}: {rows[0].error}"
        if len(rows) == 1
        else f"{area} ({len(rows)} parts, {rows[0].name} first): {error}"
        for (area, error), rows in grouped.items()
    ]


def _areas(workspace: Workspace, members: list[Row]) -> dict[str, dict[str, int]]:
    """Return how many parts of each large area are done, of how many there are."""
    done: dict[str, int] = {}
    for row in members:
        if (area := _area(workspace, row.name)) != row.name:
            done[area] = done.get(area, 0) + (row.state == "done")
    return {
        area: {"done": count, "parts": len(workspace.parts(area))} for area, count in done.items()
    }


def _area(workspace: Workspace, name: str) -> str:
    return workspace.area_of(name) if name in workspace.sites else name


def show(rows: list[dict[str, Any]], *, json_lines: bool) -> str:
    """Return the table as text, or as JSON lines.

    Examples
    --------
    >>> print(show([], json_lines=False))
    Nothing was run here yet. `thawslump run` begins.
    """
    if json_lines:
        return "\n".join(json.dumps(row, sort_keys=True) for row in rows)
    if not rows:
        return "Nothing was run here yet. `thawslump run` begins."
    lines = [f"{'step':<24}{'round':>5}{'done':>6}{'begun':>7}{'failed':>8}{'time':>9}{'size':>10}"]
    for row in rows:
        lines.append(
            f"{row['step']:<24}{row['round'] or '':>5}{row['done']:>6}{row['running'] or '':>7}"
            f"{row['failed'] or '':>8}{row['seconds']:>7.1f} s{row['bytes'] / 1e6:>7.1f} MB"
        )
        lines += [
            f"    {area}: {count['done']} of {count['parts']} parts"
            for area, count in row["areas"].items()
        ]
        lines += [f"    {error.splitlines()[0]}" for error in row["errors"]]
    return "\n".join(lines)
