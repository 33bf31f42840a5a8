"""A budget of EECU-seconds: by how much it is overshot, and what the plan's estimate is worth.

    python benchmarks/export_budget.py [--tiles 12] [--side 32] [--workers 8] [--steps 8]

An area of a made-up valley is exported from the emulator with budgets that are raised step by
step. The emulator's own meter (by workload tag, read from its status) tells what the export had
computed when it stopped; what each request cost, and when it began and ended, is written down
beside it. A request that began after the budget was reached would be one too many. At the end
every file is held against an export without a budget.

The estimate of `thawslump export plan` and the emulator's meter are printed side by side as shares
of the three files: a check of relative size only. The seconds of this machine are no EECU-seconds,
and neither was held against a bill. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parent))

from export_faults import FILES, _area

from gee.emulator.profiles import read_profiles
from gee.emulator.server import running
from gee.exports import step as steps_of_an_export
from gee.exports.check import check
from gee.exports.meter import LEDGER, Ledger, Meter
from gee.exports.step import run, tag_of
from gee.steps import plan_export
from thawslump.config import save_yaml
from thawslump.demo import prepare
from thawslump.errors import BudgetError
from thawslump.files import sha256
from thawslump.pipeline import run as run_pipeline
from thawslump.site import Site
from thawslump.workspace import Workspace


def workspace_at(folder: Path, site: Site, url: str, **export: Any) -> Workspace:
    """Return a workspace with one area and some settings of the export."""
    folder.mkdir(parents=True, exist_ok=True)
    save_yaml(folder / "areas" / f"{site.name}.yaml", site)
    config = {"name": folder.name, "backend": {"kind": "emulator", "url": url}, "export": export}
    (folder / "thawslump.yaml").write_text(json.dumps(config))
    return Workspace(folder)


def metered(url: str, tag: str) -> float:
    """Return what the server's meter counted for a tag."""
    with urllib.request.urlopen(f"{url}/status") as answer:
        projects = json.load(answer)["eecu"]
    return sum(float(project["tags"].get(tag, 0.0)) for project in projects.values())


class Watched(Meter):
    """Writes down when requests came, and when they had ended at which cost; of all exports."""

    came: ClassVar[list[float]] = []
    ended_at: ClassVar[list[tuple[float, float]]] = []

    def _begin(self, pixels: int) -> float:
        moment = time.perf_counter()
        expected = super()._begin(pixels)
        self.came.append(moment)
        return expected

    def _end(
        self, pixels: int, expected: float, ids: list[str], failed: BaseException | None
    ) -> None:
        super()._end(pixels, expected, ids, failed)
        cost = sum(entry["eecuSeconds"] for entry in read_profiles(ids))
        self.ended_at.append((time.perf_counter(), cost))


def after(budget: float) -> dict[str, Any]:
    """Return what was under way when the budget was reached, and what began later."""
    spent, reached = 0.0, float("inf")
    for moment, cost in sorted(Watched.ended_at):
        spent += cost
        if spent >= budget:
            reached = moment
            break
    under_way = [cost for moment, cost in Watched.ended_at if moment > reached]
    return {
        "requests_under_way_when_reached": len(under_way),
        "their_cost": round(sum(under_way), 3),
        "requests_begun_later": sum(moment > reached for moment in Watched.came),
    }


def export(workspace: Workspace) -> dict[str, Any] | None:
    """Run the export of the only site; None where the budget stopped it."""
    (item,) = plan_export(workspace, 0)
    try:
        return dict(run(item, workspace, lambda share, words: None))
    except BudgetError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=12, help="tiles a side")
    parser.add_argument("--side", type=int, default=32, help="pixels of a tile a side")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="budgets that are used up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        pixels = options.tiles * options.side
        valley = prepare(root / "valley", seed=1, shape=(pixels + 64, pixels + 64))
        run_pipeline(valley, until="valley")
        site = _area(valley, next(iter(valley.sites.values())), pixels)
        common = {"tile": options.side, "smallest_tile": 8, "workers": options.workers}
        # Budgets of the emulator make its meter exact; this one is never reached.
        (root / "faults.yaml").write_text(json.dumps({"eecu_budget": {"seconds_per_month": 1e9}}))
        faults = root / "faults.yaml"
        with running(valley.catalog, state=root / "state", faults=faults) as url:
            whole = workspace_at(root / "whole", site, url, **common)
            plan = check(whole, site.name)
            facts = export(whole)
            assert facts is not None
            cost, count = float(facts["eecu_seconds"]), int(facts["requests"])
            ledger = Ledger(whole.root / "tiles" / LEDGER)
            measured = {job.partition("/")[2]: one for job, one, _ in ledger.rows()}
            ledger.close()
            steps_of_an_export.Meter = Watched  # type: ignore[misc]
            steps = []
            for step in range(1, options.steps + 1):
                budget = cost * step / (options.steps + 1)
                work = workspace_at(
                    root / "work", site, url, **common, eecu_budget=round(budget, 6)
                )
                done = export(work)
                used = metered(url, tag_of(work, site.name))
                steps.append(
                    {
                        "budget": round(budget, 3),
                        "metered_by_the_server": round(used, 3),
                        "overshoot": round(used - budget, 3),
                        **after(budget),
                        "ended": done is not None,
                    }
                )
                if done is not None:
                    break
            last = workspace_at(root / "work", site, url, **common, eecu_budget=1e9)
            export(last)
            equal = {
                name: sha256(whole.tiles(site.name) / name) == sha256(last.tiles(site.name) / name)
                for name in FILES
            }
        estimate = {n: f["eecu_seconds_estimate"] for n, f in plan["files"].items()}
        everything = sum(measured[name] for name in estimate)
        report = {
            "requests": count,
            "requests_at_a_time": options.workers,
            "eecu_seconds_by_profile": round(cost, 3),
            "steps": steps,
            "requests_begun_too_late": sum(one["requests_begun_later"] for one in steps),
            "files_equal": equal,
            "share_of_the_cost": {
                name: {
                    "estimated": round(value / sum(estimate.values()), 3),
                    "metered": round(measured[name] / everything, 3),
                }
                for name, value in estimate.items()
            },
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
