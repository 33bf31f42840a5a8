"""Kill the demo at random moments, start it again, and compare the inventory it ends with.

    python benchmarks/kill_resume.py [--small] [--kills 20] [--seed 0]

The demo is run once undisturbed. In a second workspace it is then killed (SIGKILL to its process
group) and started again with the same words: once or more in every step of every round, at a
random moment within the step. The canonical dumps of the two inventories must be equal.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _processes import kill_group, ledger_rows, start, wait_until

from inventory.store import canonical_dump
from thawslump.files import write_json

Place = tuple[str, int]
"""A step and its round."""


@dataclass(frozen=True)
class Span:
    """When a step of a round ran in the undisturbed run, in seconds since its start."""

    step: str
    round: int
    begin: float
    end: float

    @property
    def place(self) -> Place:
        return (self.step, self.round)


@dataclass(frozen=True)
class Moment:
    """A kill to be: in which step, and how many seconds after its first item began."""

    place: Place
    delay: float


@dataclass(frozen=True)
class Kill:
    """A kill that was."""

    wanted: Place
    delay: float
    running: tuple[Place, ...]
    items: tuple[str, ...]
    done_before: int
    survivors: tuple[str, ...]


@dataclass
class Outcome:
    """What came of it."""

    same: bool = False
    seconds_undisturbed: float = 0.0
    spans: list[Span] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    not_killed_in: list[Place] = field(default_factory=list)
    workspaces: int = 0
    difference: str = ""
    same_outputs: int = 0
    other_outputs: list[str] = field(default_factory=list)


def demo_command(directory: Path, words: Sequence[str] = ()) -> list[str]:
    """Return the words that start the demo in a folder."""
    return [sys.executable, "-m", "thawslump", "demo", str(directory), *words]


def run_to_end(command: Sequence[str], log: Path, timeout: float) -> float:
    """Run a command to its end; return its seconds. Fails with the end of its output."""
    begun = time.monotonic()
    with log.open("ab") as stream:
        process = start(command, stream)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
            code = None
    if code != 0:
        tail = log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(command)} ended with {code} (None: too slow):\n{tail}")
    return time.monotonic() - begun


def spans_of(ledger: Path, begun: float) -> list[Span]:
    """Return the steps of an undisturbed run, in the order in which they began."""
    found: dict[Place, list[float]] = {}
    for row in ledger_rows(ledger):
        ends = found.setdefault((row.step, row.round), [row.started, row.started])
        ends[0] = min(ends[0], row.started)
        ends[1] = max(ends[1], row.finished or row.started)
    spans = [Span(*place, ends[0] - begun, ends[1] - begun) for place, ends in found.items()]
    return sorted(spans, key=lambda span: span.begin)


def moments(
    spans: Sequence[Span], kills: int, rng: random.Random, *, only: Sequence[str] | None = None
) -> list[Moment]:
    """Return the moments of the kills: each step once, the others wherever the time goes.

    Parameters
    ----------
    spans : sequence of Span
    kills : int
        At least one is planned for every step of every round, even if that is more.
    rng : random.Random
    only : sequence of str, optional
        Steps to be killed in; all where not given.

    Returns
    -------
    list of Moment
        In the order of the chain.
    """
    chosen = [span for span in spans if only is None or span.step in only]
    counts = [1] * len(chosen)
    lengths = [max(span.end - span.begin, 0.01) for span in chosen]
    for index in rng.choices(range(len(chosen)), lengths, k=max(0, kills - len(chosen))):
        counts[index] += 1
    found = []
    for span, count, length in zip(chosen, counts, lengths, strict=True):
        for _ in range(count):
            # Each start does a part of what is left, so the parts share the length.
            found.append(Moment(span.place, rng.uniform(0.0, length / count)))
    return found


def kill_in(
    command: Sequence[str],
    ledger: Path,
    moment: Moment,
    later: frozenset[Place],
    log: Path,
    timeout: float,
) -> Kill | None:
    """Start the command, kill it at a moment; None where it ended before.

    A step that is done already cannot be waited for: the first of the `later` ones is taken then,
    before the command does the work of the kills to come.
    """
    known = {(row.step, row.round, row.name): row.started for row in ledger_rows(ledger)}

    def begun() -> bool:
        return any(
            ((row.step, row.round) == moment.place or (row.step, row.round) in later)
            and row.started != known.get((row.step, row.round, row.name))
            for row in ledger_rows(ledger)
        )

    with log.open("ab") as stream:
        process = start(command, stream)
        if not wait_until(process, begun, timeout):
            code = process.poll()
            if code is None:
                kill_group(process)
            if code != 0:
                tail = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(
                    f"waiting for {moment.place}, the demo ended with {code}:\n{tail}"
                )
            return None
        try:
            process.wait(moment.delay)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None
        survivors = kill_group(process)
    rows = ledger_rows(ledger)
    running = [row for row in rows if row.state == "running"]
    return Kill(
        wanted=moment.place,
        delay=moment.delay,
        running=tuple(sorted({(row.step, row.round) for row in running})),
        items=tuple(row.name for row in running),
        done_before=sum(row.state == "done" for row in rows),
        survivors=tuple(survivors),
    )


def outputs_of(ledger: Path) -> dict[str, str]:
    """Return path and checksum of everything that the items of a ledger wrote."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT outputs FROM items WHERE state = 'done'").fetchall()
    return {path: digest for (text,) in rows for path, digest in json.loads(text or "{}").items()}


def compare(outcome: Outcome, first: Path, second: Path) -> None:
    """Compare two finished workspaces and note it in the outcome."""
    one, other = (canonical_dump(folder / "inventory.gpkg") for folder in (first, second))
    if one != other:
        lines = zip(one.splitlines(), other.splitlines(), strict=False)
        differing = next(((a, b) for a, b in lines if a != b), ("", "one is longer"))
        outcome.difference = f"undisturbed: {differing[0][:300]}\nkilled: {differing[1][:300]}"
    outcome.same = outcome.same and one == other
    held, again = outputs_of(first / "ledger.sqlite"), outputs_of(second / "ledger.sqlite")
    outcome.same_outputs = sum(again.get(path) == digest for path, digest in held.items())
    outcome.other_outputs = sorted(p for p, digest in held.items() if again.get(p) != digest)


def trial(
    root: Path,
    prepare: Any,
    words: Sequence[str],
    *,
    kills: int,
    seed: int,
    only: Sequence[str] | None = None,
    timeout: float = 3600.0,
    say: Any = print,
    most_workspaces: int = 4,
) -> Outcome:
    """Run the whole comparison below a folder.

    Parameters
    ----------
    root : Path
        Empty; workspaces are made in it.
    prepare : callable
        Called with each new workspace folder before its first start.
    words : sequence of str
        Options of `thawslump demo`.
    kills, seed : int
    only : sequence of str, optional
        Kill in these steps alone.
    timeout : float
        Seconds for one start.
    say : callable
        Told each event in words.
    most_workspaces : int
        A step that ended before its kill came is tried again in another workspace.

    Returns
    -------
    Outcome
    """
    rng = random.Random(seed)
    outcome = Outcome(same=True)
    first = root / "undisturbed"
    prepare(first)
    begun = time.time()
    outcome.seconds_undisturbed = run_to_end(
        demo_command(first, words), root / "first.log", timeout
    )
    outcome.spans = spans_of(first / "ledger.sqlite", begun)
    say(f"undisturbed: {outcome.seconds_undisturbed:.1f} s, {len(outcome.spans)} steps")
    left = moments(outcome.spans, kills, rng, only=only)
    wanted = {moment.place for moment in left}
    places = [span.place for span in outcome.spans]
    while left and outcome.workspaces < most_workspaces:
        outcome.workspaces += 1
        folder = root / f"killed-{outcome.workspaces}"
        prepare(folder)
        log = root / f"killed-{outcome.workspaces}.log"
        command = demo_command(folder, words)
        for moment in left:
            later = frozenset(places[places.index(moment.place) + 1 :])
            kill = kill_in(command, folder / "ledger.sqlite", moment, later, log, timeout)
            if kill is not None:
                outcome.kills.append(kill)
                hit = ", ".join(f"{step} {number}" for step, number in kill.running) or "between"
                say(f"kill {len(outcome.kills)}: wanted {moment.place}, hit {hit}")
        run_to_end(command, log, timeout)
        compare(outcome, first, folder)
        covered = {place for kill in outcome.kills for place in kill.running}
        outcome.not_killed_in = sorted(wanted - covered)
        left = [Moment(place, 0.0) for place in _in_order(outcome.not_killed_in, outcome.spans)]
    return outcome


def _in_order(places: Sequence[Place], spans: Sequence[Span]) -> list[Place]:
    order = {span.place: index for index, span in enumerate(spans)}
    return sorted(places, key=lambda place: order[place])


def small(directory: Path) -> None:
    """Prepare a workspace on a small valley with two short runs: seconds instead of minutes."""
    from ruamel.yaml import YAML

    from thawslump.demo import prepare

    prepare(directory, seed=1, shape=(192, 384))
    path = directory / "thawslump.yaml"
    yaml = YAML()
    values = yaml.load(path.read_text(encoding="utf-8"))
    segmentation = values["segmentation"]
    segmentation["runs"] = [dict(run) for run in segmentation["runs"]][:2]
    segmentation.update({"epochs": 2, "iterations": 4, "crop": 64})
    values["susceptibility"].update({"trees": 10, "resamples": 100, "importance": 1})
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="a small valley, two short runs")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the workspaces; else removed")
    arguments = parser.parse_args()
    root = arguments.keep or Path(tempfile.mkdtemp(prefix="thawslump-kill-"))
    root.mkdir(parents=True, exist_ok=True)

    def nothing(directory: Path) -> None:
        """Leave a folder to the demo itself."""

    prepare = small if arguments.small else nothing
    try:
        outcome = trial(root, prepare, (), kills=arguments.kills, seed=arguments.seed)
    finally:
        if arguments.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    name = "kill_resume_small.json" if arguments.small else "kill_resume.json"
    write_json(Path(__file__).parent / "results" / name, asdict(outcome))
    steps = {step for kill in outcome.kills for step, _ in kill.running}
    print(
        f"{len(outcome.kills)} kills in {len(steps)} steps "
        f"({', '.join(sorted(steps))}); undisturbed {outcome.seconds_undisturbed:.0f} s\n"
        f"not killed in: {outcome.not_killed_in or 'none'}\n"
        f"processes that outlived a kill: {sum(len(k.survivors) for k in outcome.kills)}\n"
        f"outputs with the same checksum: {outcome.same_outputs}, "
        f"others: {outcome.other_outputs or 'none'}\n"
        f"inventory: {'the same' if outcome.same else 'DIFFERS' + chr(10) + outcome.difference}"
    )
    return 0 if outcome.same and not outcome.not_killed_in else 1


if __name__ == "__main__":
    sys.exit(main())
