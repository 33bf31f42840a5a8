"""Steps, items and the driver: what is done is skipped, what is left is worked on.

The parts are found by name through the table `STEPS`; nothing of them is imported here.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.config import target
from thawslump.errors import ConfigError, DataError, ThawslumpError, nearest
from thawslump.executor import report_progress, running
from thawslump.ledger import Ledger
from thawslump.workspace import Workspace

if TYPE_CHECKING:
    from thawslump.progress import Reporter

__all__ = ["STEPS", "Driver", "Item", "Outcome", "Step", "Stopped", "Waiting", "key_of", "run"]


@dataclass(frozen=True)
class Item:
    """One piece of work: a pure function of its settings and the content of its inputs.

    Attributes
    ----------
    step, name : str
        Together with `round` they name the item in the ledger.
    target : str
        "package.module:function" with ``(item, workspace, progress) -> facts``.
    settings : mapping of JSON values
        Everything but the inputs that changes the outputs.
    inputs, outputs : tuple of Path
        Files. Outputs are written atomically by the target.
    version : int
        Raised when the code of the target changes what it writes.
    round : int
        0 outside the rounds.
    cost : float
        Expected seconds on two cores; weighs the time left.
    """

    step: str
    name: str
    target: str
    settings: Mapping[str, Any]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    version: int = 1
    round: int = 0
    cost: float = 1.0


@dataclass(frozen=True)
class Waiting:
    """A step that waits for people: how many things wait, and what to do."""

    count: int
    message: str


@dataclass(frozen=True)
class Outcome:
    """What running a step came to."""

    step: str
    round: int = 0
    ran: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Step:
    """A step of the chain: where its plan is, and whether it belongs to a round.

    Attributes
    ----------
    name : str
    plan : str
        "package.module:function" with ``(workspace, round) -> list[Item] | Waiting``.
    place : {"before", "round", "after"}
        Before the rounds, in each, or after the last.
    words : str
        What it does, for people.
    seconds : float
        Usual wall seconds in the demo on two cores: the first guess of the time left.
    """

    name: str
    plan: str
    place: str
    words: str
    seconds: float


STEPS: tuple[Step, ...] = (
    Step("valley", "gee.steps:plan_valley", "before", "make the made-up valley", 30),
    Step("import", "inventory.steps:plan_import", "before", "known outlines into the inventory", 3),
    Step("export", "gee.steps:plan_export", "before", "tiles from Earth Engine", 60),
    Step("mosaic", "thawslump.mosaic:plan", "before", "mosaics of large areas", 1),
    Step("labels", "inventory.steps:plan_labels", "round", "label rasters", 4),
    Step("train", "trainer.steps:plan_train", "round", "train the runs", 90),
    Step("ensemble", "trainer.steps:plan_ensemble", "round", "choose the members", 10),
    Step("predict-blocks", "trainer.steps:plan_blocks", "round", "blocks of large maps", 1),
    Step("predict", "trainer.steps:plan_predict", "round", "probability maps", 15),
    Step("candidates", "inventory.steps:plan_candidates", "round", "candidate outlines", 3),
    Step("review", "inventory.steps:plan_review", "round", "review of the candidates", 6),
    Step(
        "susceptibility-samples",
        "trainer.susceptibility.steps:plan_samples",
        "after",
        "samples of susceptibility",
        2,
    ),
    Step(
        "susceptibility-select",
        "trainer.susceptibility.steps:plan_select",
        "after",
        "look at the factors",
        2,
    ),
    Step(
        "susceptibility-fit",
        "trainer.susceptibility.steps:plan_fit",
        "after",
        "fit the susceptibility models",
        6,
    ),
    Step(
        "susceptibility-compare",
        "trainer.susceptibility.steps:plan_compare",
        "after",
        "compare the susceptibility models",
        6,
    ),
    Step(
        "susceptibility-map",
        "trainer.susceptibility.steps:plan_map",
        "after",
        "susceptibility maps",
        6,
    ),
    Step(
        "susceptibility-join",
        "trainer.susceptibility.steps:plan_join",
        "after",
        "put the parts of large maps together",
        1,
    ),
    Step(
        "susceptibility",
        "trainer.susceptibility.steps:plan_susceptibility",
        "after",
        "classes of susceptibility",
        3,
    ),
    Step("report", "thawslump.report:plan_report", "after", "the report", 8),
)


class Stopped(Exception):
    """Raised inside a run when the step named by `--until` is done."""


def step_named(name: str) -> Step:
    """Return a step by name.

    Raises
    ------
    ConfigError
        There is none; the nearest is offered.
    """
    for step in STEPS:
        if step.name == name:
            return step
    names = [step.name for step in STEPS]
    raise ConfigError(
        f'There is no step "{name}".' + (nearest(name, names) or f" Steps: {', '.join(names)}.")
    )


def key_of(item: Item, checksums: Mapping[str, str]) -> str:
    """Return the key of an item: equal keys mean equal outputs.

    Parameters
    ----------
    item : Item
    checksums : mapping
        Name of each input -> SHA-256.

    Examples
    --------
    >>> item = Item("train", "a", "m:f", {"epochs": 3}, (), ())
    >>> key_of(item, {}) == key_of(item, {}), key_of(item, {}) == key_of(item, {"x": "1"})
    (True, False)
    """
    content = {
        "step": item.step,
        "round": item.round,
        "name": item.name,
        "target": item.target,
        "version": item.version,
        "settings": item.settings,
        "inputs": dict(checksums),
    }
    text = json.dumps(content, sort_keys=True, default=_refuse)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(value: Any) -> Any:
    raise TypeError(f"settings of an item are JSON values, not {type(value).__name__}: {value!r}")


def work(item: Item, workspace: Workspace) -> tuple[dict[str, Any], float]:
    """Run an item in a worker; return its facts and its seconds."""
    begun = time.monotonic()
    name = _label(item)

    def progress(fraction: float, words: str = "") -> None:
        report_progress(name, fraction, words)

    facts = target(item.target)(item, workspace, progress)
    return dict(facts or {}), time.monotonic() - begun


def _label(item: Item) -> str:
    return f"{item.step}/{item.round}/{item.name}"


@dataclass
class Driver:
    """Runs steps of a workspace; the only writer of its ledger.

    Parameters
    ----------
    workspace : Workspace
    ledger : Ledger
    executor : Executor
    reporter : Reporter
        Told what begins, advances and ends.
    until : str, optional
        Stop after this step.
    until_round : int
        The round in which `until` counts.
    site : str, optional
        Only items of this site, in steps whose items are sites.
    rounds : bool
        False: of the rounds only the labels of the last one that has any; nothing is trained, no
        one is waited for.
    """

    workspace: Workspace
    ledger: Ledger
    executor: concurrent.futures.Executor
    reporter: Reporter
    until: str | None = None
    until_round: int = 1
    site: str | None = None
    rounds: bool = True
    outcomes: list[Outcome] = field(default_factory=list)

    def run_step(self, name: str, round: int = 0) -> Outcome:
        """Bring one step up to date.

        Parameters
        ----------
        name : str
        round : int
            1, 2, ... for steps in rounds, else 0.

        Returns
        -------
        Outcome

        Raises
        ------
        ThawslumpError
            The first error of an item, after the others of the step have ended.
        Stopped
            The step was the last one asked for.
        """
        step = step_named(name)
        plan = target(step.plan)(self.workspace, round)
        if isinstance(plan, Waiting):
            outcome = Outcome(name, round, waiting=plan)
            self.reporter.step_waits(step, round, plan)
        else:
            items = [replace(item, round=round) for item in plan]
            outcome = self._run_items(step, round, self._chosen(items))
        self.outcomes.append(outcome)
        if name == self.until and (step.place != "round" or round >= self.until_round):
            raise Stopped(name)
        return outcome

    def _chosen(self, items: list[Item]) -> list[Item]:
        place = self.workspace
        named = {*place.declared, *place.sites, *place.mosaics}
        # Of a large map, items are blocks: site/block.
        if self.site is None or not any(item.name.partition("/")[0] in named for item in items):
            return items
        # Of a large area, its parts are worked on, but its outlines are brought in once.
        wanted = {*place.parts(self.site), *place.views(self.site), place.area_of(self.site)}
        return [item for item in items if item.name.partition("/")[0] in wanted]

    def left(self, items: list[Item]) -> list[tuple[Item, str]]:
        """Return the items that are not done, each with its key."""
        found = []
        for item in items:
            key = key_of(item, self._checksums(item))
            if not self.ledger.done(item.step, item.round, item.name, key, item.outputs):
                found.append((item, key))
        return found

    def _checksums(self, item: Item) -> dict[str, str]:
        sums = {}
        for path in item.inputs:
            digest = self.ledger.checksum(path)
            if digest is None:
                raise DataError(
                    f"{path} is missing; step {item.step} ({item.name}) needs it.",
                    hint="Run the steps before it: `thawslump run` does all that are left.",
                )
            name = (
                path.relative_to(self.workspace.root).as_posix()
                if path.is_relative_to(self.workspace.root)
                else path.name
            )
            sums[name] = digest
        return sums

    def _run_items(self, step: Step, round: int, items: list[Item]) -> Outcome:
        todo = self.left(items)
        names = {item.name for item, _ in todo}
        skipped = tuple(item.name for item in items if item.name not in names)
        self.reporter.step_begins(step, round, [item for item, _ in todo], len(skipped))
        waiting: dict[concurrent.futures.Future[Any], tuple[Item, float]] = {}
        for item, key in todo:
            self.ledger.start(item.step, item.round, item.name, key)
            waiting[self.executor.submit(work, item, self.workspace)] = (item, time.monotonic())
        errors: list[tuple[Item, BaseException]] = []
        try:
            for future in concurrent.futures.as_completed(waiting):
                item, begun = waiting[future]
                error = future.exception()
                if error is None:
                    facts, seconds = future.result()
                    self.ledger.finish(
                        item.step, item.round, item.name, item.outputs, seconds, facts
                    )
                    self.reporter.item_ends(item, seconds, facts)
                else:
                    seconds = time.monotonic() - begun
                    self.ledger.fail(item.step, item.round, item.name, seconds, str(error))
                    self.reporter.item_fails(item, error)
                    errors.append((item, error))
        except KeyboardInterrupt:
            for future in waiting:
                future.cancel()
            raise
        self.reporter.step_ends(step, round)
        if errors:
            raise _joined(errors)
        return Outcome(step.name, round, tuple(item.name for item, _ in todo), skipped)

    def run(self) -> Waiting | None:
        """Run every step that is left; return what waits for people, or None."""
        try:
            for step in STEPS:
                if step.place == "before":
                    self.run_step(step.name)
            if self.rounds:
                waiting: Waiting | None = target("inventory.iterate:iterate")(self)
                if waiting is not None:
                    return waiting
            else:
                self.run_step("labels", self._labelled())
            for step in STEPS:
                if step.place == "after":
                    self.run_step(step.name, self.last_round())
        except Stopped:
            return None
        return None

    def _labelled(self) -> int:
        """Return the highest round that has labels; 1 where none has."""
        found = self.workspace.root.glob("rounds/*/*/labels.tif")
        numbers = [path.parent.parent.name for path in found]
        return max([1, *(int(number) for number in numbers if number.isdigit())])

    def last_round(self) -> int:
        """Return the highest round that a step of this run belonged to (at least 1)."""
        return max([1, *(outcome.round for outcome in self.outcomes)])


def _joined(errors: list[tuple[Item, BaseException]]) -> BaseException:
    item, first = errors[0]
    if isinstance(first, concurrent.futures.process.BrokenProcessPool):
        return ThawslumpError(
            f"A worker process of step {item.step} died while it worked on {item.name} "
            "(often: not enough memory).",
            hint="Close other programs or set executor.workers: 1, then start again.",
        )
    if not isinstance(first, ThawslumpError):
        return first
    more = f"\n({len(errors) - 1} more of step {item.step} failed too)" if errors[1:] else ""
    return type(first)(f"{item.step} {item.name}: {first.message}{more}", hint=first.hint)


def run(
    workspace: Workspace,
    *,
    until: str | None = None,
    until_round: int = 1,
    site: str | None = None,
    rounds: bool = True,
    reporter: Reporter | None = None,
) -> Waiting | None:
    """Run what is left in a workspace.

    Parameters
    ----------
    workspace : Workspace
    until : str, optional
        Stop after this step (of round `until_round`).
    until_round : int
    site : str, optional
        Only this site, in steps whose items are sites.
    rounds : bool
        False for what needs labels alone (`Driver.rounds`).
    reporter : Reporter, optional
        Nothing is shown where not given.

    Returns
    -------
    Waiting or None
        What waits for people; None where the end (or `until`) was reached.

    Raises
    ------
    BusyError
        Another run holds the workspace.
    ThawslumpError
        An item failed; the others of its step have ended.
    """
    from thawslump.progress import Silent

    if until is not None:
        step_named(until)
    if site is not None:
        workspace.site(site)
    shown = reporter or Silent()
    with workspace.lock():
        ledger = Ledger(workspace.ledger, workspace.root)
        try:
            config = workspace.config
            workspace.sites  # noqa: B018  (wrong YAML is said before any work)
            with shown, running(config.executor, shown.item_advances) as executor:
                driver = Driver(
                    workspace, ledger, executor, shown, until, until_round, site, rounds
                )
                return driver.run()
        finally:
            ledger.close()
