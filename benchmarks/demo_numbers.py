"""Time and memory of `thawslump demo`, its repetition, and what an edited setting recomputes.

    python benchmarks/demo_numbers.py [--keep DIR] [-- further words of the demo]

Targets: under 8 minutes on two cores, all processes together under 4 GiB, repeated under 10 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _processes import Weight, ledger_rows, start, weigh

from thawslump.files import write_json

GIB = 2**30
EDITS: tuple[tuple[str, str, Any], ...] = (
    ("susceptibility", "classes", 4),
    ("susceptibility", "trees", 120),
    ("candidates", "minimum_area", 900.0),
)
"""Section, key, value: two of the last steps, and one that the second round hangs on."""

DEPEND: dict[str, tuple[str, ...]] = {
    "classes": ("susceptibility", "report"),
    "trees": (
        "susceptibility-fit",
        "susceptibility-compare",
        "susceptibility-map",
        "susceptibility",
        "report",
    ),
}
"""Steps that hang on an edited setting; no other may be computed."""


@dataclass(frozen=True)
class Run:
    """One run of the demo.

    `cpu_seconds` is the processor time of all its processes: unlike `seconds`, it hardly changes
    when other work shares the machine.
    """

    seconds: float
    cpu_seconds: float
    exit_code: int
    peak_pss: int
    peak_rss: int
    peak_processes: int
    peak_at: float
    computed: tuple[str, ...]


def measured(command: Sequence[str], ledger: Path, log: Path, pause: float = 1.0) -> Run:
    """Run a command; weigh its whole family of processes all the time."""
    before = {(r.step, r.round, r.name): r.started for r in ledger_rows(ledger)}
    peak, most, at = Weight(0, 0, 0), 0, 0.0
    ended = threading.Event()
    begun = time.monotonic()
    with log.open("ab") as stream:
        process = start(command, stream)

        def watch() -> None:
            nonlocal peak, most, at
            while not ended.wait(pause):
                now = weigh(process.pid)
                if now.pss > peak.pss:
                    at = time.monotonic() - begun
                peak = Weight(max(peak.pss, now.pss), max(peak.rss, now.rss), 0)
                most = max(most, now.processes)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        before_it = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = process.wait()
        seconds = time.monotonic() - begun
        after_it = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended.set()
        watcher.join()
    computed = tuple(
        f"{r.step}{f' {r.round}' if r.round else ''}: {r.name}"
        for r in ledger_rows(ledger)
        if r.started != before.get((r.step, r.round, r.name))
    )
    cpu = (after_it.ru_utime + after_it.ru_stime) - (before_it.ru_utime + before_it.ru_stime)
    return Run(seconds, cpu, code, peak.pss, peak.rss, most, at, computed)


def edit(path: Path, section: str, key: str, value: Any) -> None:
    """Set one value in thawslump.yaml; comments stay."""
    from ruamel.yaml import YAML

    yaml = YAML()
    values = yaml.load(path.read_text(encoding="utf-8"))
    values[section][key] = value
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)


def step_seconds(ledger: Path) -> dict[str, float]:
    """Return the wall seconds of each step and round, first start to last end."""
    found: dict[str, list[float]] = {}
    for row in ledger_rows(ledger):
        ends = found.setdefault(f"{row.step} {row.round}", [row.started, row.started])
        ends[0], ends[1] = min(ends[0], row.started), max(ends[1], row.finished or row.started)
    return {name: round(ends[1] - ends[0], 2) for name, ends in found.items()}


def _only(computed: Sequence[str], steps: Sequence[str]) -> bool:
    """Return whether items of these steps were computed, of the fits the forest's alone."""
    named = [words.partition(": ") for words in computed]
    fits = [item for step, _, item in named if step.startswith("susceptibility-fit")]
    return {step.split()[0] for step, _, _ in named} == {*steps} and {*fits} <= {"forest"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keep", type=Path, help="folder for the workspace; else removed")
    parser.add_argument("words", nargs="*", help="further words of the demo")
    arguments = parser.parse_args()
    root = arguments.keep or Path(tempfile.mkdtemp(prefix="thawslump-numbers-"))
    root.mkdir(parents=True, exist_ok=True)
    folder, log = root / "demo", root / "demo.log"
    command = [sys.executable, "-m", "thawslump", "demo", str(folder), *arguments.words]
    ledger = folder / "ledger.sqlite"
    runs: dict[str, Run] = {}
    try:
        runs["first"] = measured(command, ledger, log)
        steps = step_seconds(ledger)
        runs["repeated"] = measured(command, ledger, log)
        for section, key, value in EDITS:
            edit(folder / "thawslump.yaml", section, key, value)
            runs[f"{section}.{key} = {value}"] = measured(command, ledger, log)
        tail = log.read_text(errors="replace")[-2000:]
    finally:
        if arguments.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    print(
        f"{'run':34} {'exit':>4} {'seconds':>8} {'CPU s':>7} "
        f"{'PSS GiB':>8} {'RSS GiB':>8} {'items':>6}"
    )
    for name, run in runs.items():
        print(
            f"{name:34} {run.exit_code:4d} {run.seconds:8.1f} {run.cpu_seconds:7.1f} "
            f"{run.peak_pss / GIB:8.2f} {run.peak_rss / GIB:8.2f} {len(run.computed):6d}"
        )
    for name, run in list(runs.items())[1:]:
        print(f"computed by {name}: {', '.join(run.computed) or 'nothing'}")
    for step, seconds in steps.items():
        print(f"  {step:20} {seconds:7.1f} s")
    first, again = runs["first"], runs["repeated"]
    targets = {
        "ended well": all(run.exit_code == 0 for run in runs.values()),
        "under 8 minutes": first.seconds < 480,
        "under 4 GiB": first.peak_pss < 4 * GIB,
        "repeated: nothing computed": not again.computed,
        "repeated under 10 s": again.seconds < 10,
        **{
            f"{section}.{key}: only what depends on it": _only(
                runs[f"{section}.{key} = {value}"].computed, DEPEND[key]
            )
            for section, key, value in EDITS
            if key in DEPEND
        },
    }
    for name, met in targets.items():
        print(f"{'met' if met else 'MISSED'}: {name}")
    if not targets["ended well"]:
        print(tail)
    write_json(
        Path(__file__).parent / "results" / "demo_numbers.json",
        {
            "cores": os.cpu_count(),
            "load_at_the_end": os.getloadavg(),
            "words": arguments.words,
            "runs": {name: asdict(run) for name, run in runs.items()},
            "steps_seconds": steps,
            "targets": targets,
        },
    )
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
