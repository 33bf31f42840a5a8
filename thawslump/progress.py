"""What a run shows: bars with the time left on a terminal, else plain lines, or JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from thawslump.executor import Message
    from thawslump.pipeline import Item, Step, Waiting

__all__ = ["JsonLines", "Plain", "Reporter", "Silent", "Terminal", "chosen"]


class Reporter(Protocol):
    """Told what begins, advances and ends; used as a context manager around a run."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *details: object) -> None: ...
    def step_begins(self, step: Step, round: int, todo: list[Item], done: int) -> None: ...
    def step_ends(self, step: Step, round: int) -> None: ...
    def step_waits(self, step: Step, round: int, waiting: Waiting) -> None: ...
    def item_advances(self, message: Message) -> None: ...
    def item_ends(self, item: Item, seconds: float, facts: Mapping[str, Any]) -> None: ...
    def item_fails(self, item: Item, error: BaseException) -> None: ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def step_begins(self, step: Step, round: int, todo: list[Item], done: int) -> None:
        return None

    def step_ends(self, step: Step, round: int) -> None:
        return None

    def step_waits(self, step: Step, round: int, waiting: Waiting) -> None:
        return None

    def item_advances(self, message: Message) -> None:
        return None

    def item_ends(self, item: Item, seconds: float, facts: Mapping[str, Any]) -> None:
        return None

    def item_fails(self, item: Item, error: BaseException) -> None:
        return None


class JsonLines(Silent):
    """One JSON object a line on standard output, for machines."""

    def _say(self, event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), flush=True)

    def step_begins(self, step: Step, round: int, todo: list[Item], done: int) -> None:
        self._say("step", step=step.name, round=round, todo=[item.name for item in todo], done=done)

    def step_waits(self, step: Step, round: int, waiting: Waiting) -> None:
        self._say("waiting", step=step.name, round=round, count=waiting.count, text=waiting.message)

    def item_advances(self, message: Message) -> None:
        name, fraction, words = message
        self._say("progress", item=name, fraction=round(fraction, 4), text=words)

    def item_ends(self, item: Item, seconds: float, facts: Mapping[str, Any]) -> None:
        self._say(
            "done",
            step=item.step,
            round=item.round,
            name=item.name,
            seconds=round(seconds, 3),
            facts=dict(facts),
        )

    def item_fails(self, item: Item, error: BaseException) -> None:
        self._say("failed", step=item.step, round=item.round, name=item.name, error=str(error))


class _Clock:
    """Time left, from the usual seconds of the steps and how fast this machine proves to be."""

    def __init__(self, rounds: int) -> None:
        from thawslump.pipeline import STEPS

        self.expected = {}
        for step in STEPS:
            numbers = range(1, rounds + 1) if step.place == "round" else (0,)
            for number in numbers:
                self.expected[(step.name, number)] = step.seconds
        self.spent_expected = 0.0
        self.spent = 0.0
        self.current: tuple[str, int] | None = None
        self.begun = 0.0
        self.fractions: dict[str, tuple[float, float]] = {}

    def begin(self, step: Step, round: int, todo: list[Item]) -> None:
        number = round if step.place == "round" else 0
        self.current, self.begun = (step.name, number), time.monotonic()
        self.expected.setdefault(self.current, step.seconds)
        if not todo:
            self.expected[self.current] = 0.0
        total = sum(item.cost for item in todo) or 1.0
        self.fractions = {
            f"{item.step}/{item.round}/{item.name}": (item.cost / total, 0.0) for item in todo
        }

    def advance(self, name: str, fraction: float) -> None:
        if name in self.fractions:
            self.fractions[name] = (self.fractions[name][0], min(1.0, max(0.0, fraction)))

    def fraction(self) -> float:
        return sum(weight * done for weight, done in self.fractions.values())

    def end(self) -> None:
        if self.current is None:
            return
        expected = self.expected.pop(self.current, 0.0)
        if self.fractions:
            self.spent_expected += expected
            self.spent += time.monotonic() - self.begun
        self.current = None

    def left(self) -> float:
        inside = 0.0
        spent, spent_expected = self.spent, self.spent_expected
        ahead = dict(self.expected)
        if self.current is not None:
            usual = ahead.pop(self.current, 0.0)
            inside = usual * (1.0 - self.fraction())
            spent += time.monotonic() - self.begun
            spent_expected += usual * self.fraction()
        # Ten expected seconds of trust in the guess, so that the first step does not swing it.
        pace = (spent + 10.0) / (spent_expected + 10.0)
        return pace * (inside + sum(ahead.values()))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _facts(facts: Mapping[str, Any]) -> str:
    shown = []
    for name, value in facts.items():
        if isinstance(value, float):
            shown.append(f"{name} {value:.3g}")
        elif isinstance(value, int | str):
            shown.append(f"{name} {value}")
    return ", ".join(shown[:5])


def _title(step: Step, round: int) -> str:
    return f"{step.name} (round {round})" if step.place == "round" else step.name


class Plain(Silent):
    """Plain lines on standard error, one an event; each with the time left."""

    def __init__(self, rounds: int = 1) -> None:
        self.clock = _Clock(rounds)
        self.title = ""
        self.last = 0.0

    def _say(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    def step_begins(self, step: Step, round: int, todo: list[Item], done: int) -> None:
        self.clock.begin(step, round, todo)
        self.title = _title(step, round)
        if not todo:
            if done:
                self._say(f"{self.title}: nothing to do, {done} done before")
            return
        before = f", {done} done before" if done else ""
        self._say(
            f"{self.title}: {step.words}, {len(todo)} to do{before}; "
            f"about {_duration(self.clock.left())} left"
        )
        self.last = time.monotonic()

    def step_ends(self, step: Step, round: int) -> None:
        self.clock.end()

    def step_waits(self, step: Step, round: int, waiting: Waiting) -> None:
        self._say(f"{_title(step, round)}: {waiting.message}")

    def item_advances(self, message: Message) -> None:
        name, fraction, words = message
        self.clock.advance(name, fraction)
        if time.monotonic() - self.last > 15:
            self.last = time.monotonic()
            self._say(
                f"{self.title}: {self.clock.fraction():.0%} {words}; "
                f"about {_duration(self.clock.left())} left"
            )

    def item_ends(self, item: Item, seconds: float, facts: Mapping[str, Any]) -> None:
        self.clock.advance(f"{item.step}/{item.round}/{item.name}", 1.0)
        self.last = time.monotonic()
        extra = _facts(facts)
        self._say(f"  {item.name} in {_duration(seconds)}{': ' + extra if extra else ''}")

    def item_fails(self, item: Item, error: BaseException) -> None:
        self._say(f"  {item.name} failed: {error}")


class Terminal(Plain):
    """A live bar on a terminal under the same lines."""

    def __init__(self, rounds: int = 1) -> None:
        super().__init__(rounds)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=1.0, words="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.bar.stop()

    def _say(self, words: str) -> None:
        self.console.print(words, highlight=False, markup=False)

    def _update(self, words: str) -> None:
        self.bar.update(
            self.task,
            description=self.title,
            completed=self.clock.fraction(),
            words=f"about {_duration(self.clock.left())} left  {words}",
        )

    def step_begins(self, step: Step, round: int, todo: list[Item], done: int) -> None:
        super().step_begins(step, round, todo, done)
        self._update("")

    def item_advances(self, message: Message) -> None:
        name, fraction, words = message
        self.clock.advance(name, fraction)
        self._update(words)

    def item_ends(self, item: Item, seconds: float, facts: Mapping[str, Any]) -> None:
        super().item_ends(item, seconds, facts)
        self._update("")


def chosen(*, json_lines: bool, rounds: int) -> Reporter:
    """Return the reporter that fits where the output goes."""
    if json_lines:
        return JsonLines()
    return Terminal(rounds) if sys.stderr.isatty() else Plain(rounds)
