"""What a run is going to take, said before it starts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

from thawslump.config import target
from thawslump.errors import ThawslumpError
from thawslump.ledger import Ledger
from thawslump.pipeline import STEPS, Item, Waiting, key_of
from thawslump.results import last_round
from thawslump.workspace import Workspace

__all__ = ["expect", "show"]


def expect(workspace: Workspace) -> dict[str, Any]:
    """Return what is left of the steps that can be planned now, and what it takes.

    Later steps depend on the results of earlier ones, so only their names are given.

    Returns
    -------
    dict
        steps: per step its items left; pixels, requests, eecu_seconds, download_bytes of the
        export (estimates); seconds: sum of the items' expected seconds; disk_free.
    """
    ledger = Ledger(workspace.ledger, workspace.root)
    steps: list[dict[str, Any]] = []
    seconds = 0.0
    workers = workspace.config.executor.workers
    last = last_round(workspace)
    rounds = {"before": (0,), "round": range(1, last + 1), "after": (last,)}
    try:
        blocked = False
        for step in STEPS:
            if step.place != "before" and blocked:
                steps.append({"step": step.name, "left": None})
                continue
            plan: list[Item] = []
            waiting: Waiting | None = None
            try:
                for number in rounds[step.place]:
                    found_plan = target(step.plan)(workspace, number)
                    if isinstance(found_plan, Waiting):
                        waiting = found_plan
                    else:
                        plan += [replace(item, round=number) for item in found_plan]
            except ThawslumpError as error:
                # A later step may lack what an earlier one is going to make.
                blocked = True
                steps.append({"step": step.name, "left": None, "lacks": error.message})
                continue
            if waiting is not None:
                steps.append({"step": step.name, "left": waiting.count, "waits": waiting.message})
                continue
            left = 0
            for item in plan:
                sums = {str(path): ledger.checksum(path) for path in item.inputs}
                if None in sums.values():
                    blocked = True
                    left += 1
                    seconds += item.cost / workers
                    continue
                named = {
                    p.relative_to(workspace.root).as_posix()
                    if p.is_relative_to(workspace.root)
                    else p.name: ledger.checksum(p) or ""
                    for p in item.inputs
                }
                key = key_of(item, named)
                if not ledger.done(item.step, item.round, item.name, key, item.outputs):
                    left += 1
                    seconds += item.cost / workers
            steps.append({"step": step.name, "left": left})
            # What comes after the rounds reads, step by step, what the step before it writes.
            blocked = blocked or (left > 0 and step.place != "round")
    finally:
        ledger.close()
    found: dict[str, Any] = {
        "steps": steps,
        "seconds": round(seconds),
        "disk_free": shutil.disk_usage(workspace.root).free,
    }
    try:
        found["export"] = target("gee.exports.plan:totals")(workspace)
    except ThawslumpError as error:
        found["export"] = {"error": error.message}
    return found


def show(found: dict[str, Any], *, json_lines: bool) -> str:
    """Return the expectation as text, or as one JSON line."""
    if json_lines:
        return json.dumps({"event": "expect", **found})
    left = [f"{s['step']} {s['left']}" for s in found["steps"] if s["left"]]
    later = [s["step"] for s in found["steps"] if s["left"] is None]
    lines = ["Left: " + (", ".join(left) or "nothing that can be planned now")]
    if later:
        lines.append("Then: " + ", ".join(later))
    export = found["export"]
    if export.get("requests"):
        lines.append(
            f"Export: {export['pixels'] / 1e6:.1f} million pixels in {export['requests']} "
            f"requests, about {export['bytes'] / 1e6:.0f} MB, "
            f"{export['eecu_seconds']:.0f} EECU-seconds and {export['seconds']:.0f} s "
            "(estimates, never held against a bill)"
        )
    lines.append(
        f"Planned items take about {found['seconds']} s; "
        f"{found['disk_free'] / 1e9:.0f} GB of disk are free."
    )
    return "\n".join(lines)
