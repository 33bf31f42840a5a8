"""Faults on demand: slow, refused, broken and rationed answers, to test what clients do then.

`thawslump emulator serve --faults faults.yaml` reads such a file; everything in it is optional:

.. code-block:: yaml

    seed: 7                      # of all dice: the same seed and requests give the same faults
    rules:                       # every rule that matches takes part; the first refusal answers
      - name: tiles are slow
        match:                   # which requests; all that is given must hold
          handler: image:computePixels   # or value_compute, assets.get .. ; * matches anything
          method: POST           # HTTP
          path: "/v1/projects/*/image:*"
          project: local-*
          workload_tag: [export-*, test]
        latency: 0.5             # seconds, or a distribution:
      - match: {handler: image:computePixels}
        probability: 0.2         # how often; one or more of probability, every, first, count
        latency: {distribution: lognormal, median: 0.2, sigma: 1.0, most: 5}
      - match: {handler: image:computePixels}
        every: 10                # the 10th, 20th .. request that matches
        status: 429              # 429, 500 or 503, with the words of Earth Engine
      - match: {method: POST}
        first: 2                 # the first two that match
        status: 503
        message: The service is currently unavailable.
      - match: {handler: image:computePixels}
        probability: 0.5
        count: 3                 # three times in all
        connection: dropped      # no answer; cut: it ends in the middle of the body;
                                 # half_body: a whole answer with half the content
      - match: {handler: image:computePixels}
        memory_above_pixels: 65536       # "User memory limit exceeded." for larger requests
    concurrent_requests:         # more at a time are answered with 429
      most: 4
      match: {handler: image:computePixels}
    eecu_budget:                 # a project that has used it up is refused until next month
      seconds_per_month: 3600

Counts are kept in the state folder and shared by all worker processes; they start anew with
every start of the server, while the EECU meter goes on.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
import random
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from thawslump.errors import ConfigError, nearest

from .errors import EngineError
from .messages import Broken, Call

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Faults", "FaultsConfig", "Latency", "Match", "Rule", "example", "load_faults"]

# As Earth Engine words them.
WORDS = {
    429: "Too Many Requests: Request was rejected because the request rate or concurrency limit "
    "was exceeded.",
    500: "An internal error has occurred",
    503: "The service is currently unavailable.",
}
STATES = {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
AGGREGATIONS = "Too many concurrent aggregations."
MEMORY = "User memory limit exceeded."


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Patterns = str | list[str] | None


class Match(_Strict):
    """Which requests a rule is about. `*` matches anything; of a list one must fit."""

    method: Patterns = Field(None, description="HTTP method: GET, POST, PATCH or DELETE.")
    handler: Patterns = Field(
        None, description="Method of the interface: image:computePixels, value:compute, assets.get."
    )
    path: Patterns = Field(None, description="Path of the address, without the query.")
    project: Patterns = Field(None, description="Project, without projects/.")
    workload_tag: Patterns = Field(None, description="Tag set with ee.data.setWorkloadTag.")

    def fits(self, call: Call) -> bool:
        """Tell whether a request is meant."""
        project = call.project.removeprefix("projects/")
        pairs = (
            (self.method, (call.verb,)),
            (self.handler, call.names),
            (self.path, (call.path,)),
            (self.project, (project,)),
            (self.workload_tag, (call.tag,)),
        )
        return all(_one_of(patterns, values) for patterns, values in pairs)


def _one_of(patterns: Patterns, values: tuple[str, ...]) -> bool:
    if patterns is None:
        return True
    wanted = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatch.fnmatchcase(value, pattern) for value in values for pattern in wanted)


class Latency(_Strict):
    """How long an answer waits, in seconds, drawn anew for each request."""

    distribution: Literal["fixed", "uniform", "normal", "exponential", "lognormal"] = "fixed"
    seconds: float | None = Field(None, ge=0, description="Of `fixed`.")
    low: float | None = Field(None, ge=0, description="Of `uniform`.")
    high: float | None = Field(None, ge=0, description="Of `uniform`.")
    mean: float | None = Field(None, ge=0, description="Of `normal` and `exponential`.")
    sd: float | None = Field(None, ge=0, description="Of `normal`; below 0 counts as 0.")
    median: float | None = Field(None, gt=0, description="Of `lognormal`.")
    sigma: float | None = Field(None, ge=0, description="Of `lognormal`, of the logarithm.")
    most: float = Field(600.0, ge=0, le=3600, description="No wait is longer.")

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        fixed = isinstance(value, int | float) and not isinstance(value, bool)
        return {"seconds": value} if fixed else value

    @model_validator(mode="after")
    def _complete(self) -> Latency:
        needed = {
            "fixed": ("seconds",),
            "uniform": ("low", "high"),
            "normal": ("mean", "sd"),
            "exponential": ("mean",),
            "lognormal": ("median", "sigma"),
        }[self.distribution]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.distribution} needs {' and '.join(missing)}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low must not be above high")
        return self

    def draw(self, dice: random.Random) -> float:
        """Return a wait in seconds."""
        match self.distribution:
            case "uniform":
                value = dice.uniform(self.low or 0.0, self.high or 0.0)
            case "normal":
                value = dice.gauss(self.mean or 0.0, self.sd or 0.0)
            case "exponential":
                value = dice.expovariate(1 / self.mean) if self.mean else 0.0
            case "lognormal":
                value = dice.lognormvariate(math.log(self.median or 1.0), self.sigma or 0.0)
            case _:
                value = self.seconds or 0.0
        return min(max(value, 0.0), self.most)


class Rule(_Strict):
    """One fault: which requests, how often, and what happens to them."""

    name: str = Field("", description="For people.")
    match: Match = Field(default_factory=Match)
    probability: float | None = Field(None, ge=0, le=1, description="Share of the requests.")
    every: int | None = Field(None, ge=1, description="Every n-th request that matches.")
    first: int | None = Field(None, ge=0, description="The first n requests that match.")
    count: int | None = Field(None, ge=0, description="At most so many times in all.")
    latency: Latency | None = Field(None, description="Seconds to wait before the answer.")
    status: Literal[429, 500, 503] | None = Field(None, description="Refuse with this state.")
    message: str | None = Field(None, description="Words of the refusal; Earth Engine's else.")
    connection: Literal["dropped", "cut", "half_body"] | None = Field(
        None, description="Break the answer off: before it, inside it, or halve its content."
    )
    memory_above_pixels: int | None = Field(
        None, ge=0, description="Refuse larger pictures: User memory limit exceeded."
    )

    @model_validator(mode="after")
    def _one_effect(self) -> Rule:
        ends = [
            name
            for name in ("status", "connection", "memory_above_pixels")
            if getattr(self, name) is not None
        ]
        if len(ends) > 1:
            raise ValueError(f"one rule has one effect, not {' and '.join(ends)}")
        if not ends and self.latency is None:
            raise ValueError(
                "a rule needs an effect: latency, status, connection or memory_above_pixels"
            )
        if self.message is not None and self.status is None:
            raise ValueError("message belongs to status")
        return self

    def hits(self, number: int, done: int, dice: random.Random) -> bool:
        """Tell whether the `number`-th matching request (from 1) gets the fault.

        Parameters
        ----------
        number : int
        done : int
            How many got it before.
        dice : Random
        """
        return (
            (self.first is None or number <= self.first)
            and (self.every is None or number % self.every == 0)
            and (self.count is None or done < self.count)
            and (self.probability is None or dice.random() < self.probability)
        )


class Concurrency(_Strict):
    """A quota of requests that compute at a time, over all worker processes."""

    most: Annotated[int, Field(ge=0)]
    match: Match = Field(default_factory=Match)
    message: str | None = Field(None, description="Words of the refusal; Earth Engine's else.")


class Budget(_Strict):
    """EECU-seconds that each project may use in a calendar month (UTC)."""

    seconds_per_month: Annotated[float, Field(ge=0)]
    match: Match = Field(default_factory=Match, description="Only `project` is looked at.")


class FaultsConfig(_Strict):
    """The content of a faults file; see the module's description."""

    seed: int = Field(0, description="Of all dice.")
    rules: list[Rule] = Field(default_factory=list)
    concurrent_requests: Concurrency | None = None
    eecu_budget: Budget | None = None


def example() -> str:
    """Return a faults file with every setting, as this module's description has it.

    Examples
    --------
    >>> example().splitlines()[1]
    'rules:                       # every rule that matches takes part; the first refusal answers'
    """
    text = (__doc__ or "").partition(".. code-block:: yaml\n\n")[2].partition("\n\nCounts are")[0]
    return "\n".join(line[4:] for line in text.splitlines())


def load_faults(path: Path) -> FaultsConfig:
    """Read a faults file.

    Raises
    ------
    ConfigError
        It is not there, no YAML, or holds what is not known: with the place, what was
        given, what was expected and what to do.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "faults.yaml")
    >>> _ = path.write_text("rules: [{status: 429, every: 10}]")
    >>> load_faults(path).rules[0].every
    10
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"The faults file {path} cannot be read: {reason}.",
            hint="Give the path of a YAML file: --faults faults.yaml",
        ) from error
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        words = " ".join(str(error).split())
        raise ConfigError(
            f"{path} is not YAML: {words}", hint="Check indentation, colons and brackets there."
        ) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds {type(content).__name__} {str(content)[:60]!r}, expected names and "
            "values.",
            hint="Begin it with: rules:",
        )
    try:
        return FaultsConfig.model_validate(content)
    except ValidationError as error:
        lines = [_problem(detail) for detail in error.errors()]
        raise ConfigError(
            f"{path} cannot be used:\n  " + "\n  ".join(lines),
            hint="Correct it; every setting is shown by: thawslump emulator faults",
        ) from None


def _problem(detail: Any) -> str:
    """Return one line on one mistake: where, what was given, what was expected."""
    place = ".".join(str(part) for part in detail["loc"]) or "the file"
    given = detail.get("input")
    if detail["type"] == "extra_forbidden":
        name = str(detail["loc"][-1])
        known = sorted(
            {field for model in (FaultsConfig, Rule, Match, Latency, Concurrency, Budget)
             for field in model.model_fields}
        )  # fmt: skip
        return f"{place}: there is no setting {name!r}.{nearest(name, known)}"
    if detail["type"] == "missing":
        return f"{place}: it is missing."
    words = str(detail["msg"]).removeprefix("Value error, ")
    if isinstance(given, dict | list):
        return f"{place}: {words}."
    return f"{place}: {given!r} was given; {words[:1].lower()}{words[1:]}."


class Faults:
    """The faults of a server, counted in its state folder.

    Parameters
    ----------
    config : FaultsConfig
    store : Store
    run : str, optional
        Start of the server that worker processes share; counts of another one do not matter.
    sleep : callable (seconds)
        Replaced in tests.
    """

    def __init__(
        self, config: FaultsConfig, store: Store, run: str | None = None, sleep: Any = time.sleep
    ) -> None:
        self.config = config
        self._store = store
        self._run = run or secrets.token_hex(8)
        self._sleep = sleep

    def before(self, call: Call) -> Broken:
        """Wait or refuse as the rules have it; return how the answer is to be broken.

        Raises
        ------
        EngineError
            With the state of a refusal; see `STATES`.
        """
        refusal: Rule | None = None
        broken: Broken = ""
        wait = 0.0
        for position, rule in enumerate(self.config.rules):
            if rule.memory_above_pixels is not None or not rule.match.fits(call):
                continue
            dice = self._hit(position, rule)
            if dice is None:
                continue
            if rule.latency is not None:
                wait += rule.latency.draw(dice)
            if refusal is None and not broken:
                if rule.status is not None:
                    refusal = rule
                elif rule.connection is not None:
                    broken = rule.connection
        if wait:
            self._sleep(wait)
        if refusal is not None and refusal.status is not None:
            raise EngineError(refusal.message or WORDS[refusal.status], STATES[refusal.status])
        return broken

    def pixels(self, call: Call, count: int) -> None:
        """Refuse a picture with more pixels than a rule allows.

        Raises
        ------
        EngineError
        """
        for position, rule in enumerate(self.config.rules):
            most = rule.memory_above_pixels
            if most is None or count <= most or not rule.match.fits(call):
                continue
            dice = self._hit(position, rule)
            if dice is None:
                continue
            if rule.latency is not None:
                self._sleep(rule.latency.draw(dice))
            raise EngineError(MEMORY)

    def _hit(self, position: int, rule: Rule) -> random.Random | None:
        """Count a matching request; return its dice if it gets the fault, else None."""
        with self._store.transaction() as connection:
            connection.execute(
                "INSERT INTO fault_counts VALUES (?, ?, 1, 0) "
                "ON CONFLICT (run, rule) DO UPDATE SET seen = seen + 1",
                (self._run, position),
            )
            row = connection.execute(
                "SELECT seen, done FROM fault_counts WHERE run=? AND rule=?", (self._run, position)
            ).fetchone()
            # By the number of the request, so that the dice do not depend on which process rolls.
            dice = random.Random(f"{self.config.seed}:{position}:{row['seen']}")
            if not rule.hits(row["seen"], row["done"], dice):
                return None
            connection.execute(
                "UPDATE fault_counts SET done = done + 1 WHERE run=? AND rule=?",
                (self._run, position),
            )
        return dice

    @contextlib.contextmanager
    def slot(self, call: Call) -> Iterator[None]:
        """Hold one of the places for requests that compute at a time.

        Raises
        ------
        EngineError
            All are taken (429).
        """
        quota = self.config.concurrent_requests
        if quota is None or not quota.match.fits(call):
            yield
            return
        name = secrets.token_hex(8)
        if not self._take(name, quota.most):
            # The worker that took a place may have been killed meanwhile.
            self._drop_dead()
            if not self._take(name, quota.most):
                aggregation = call.handler in ("value_compute", "table_compute_features")
                words = quota.message or (AGGREGATIONS if aggregation else WORDS[429])
                raise EngineError(words, STATES[429])
        try:
            yield
        finally:
            with self._store.transaction() as connection:
                connection.execute("DELETE FROM in_flight WHERE name=?", (name,))

    def _take(self, name: str, most: int) -> bool:
        with self._store.transaction() as connection:
            row = connection.execute(
                "SELECT COUNT(*) AS taken FROM in_flight WHERE run=?", (self._run,)
            ).fetchone()
            if row["taken"] >= most:
                return False
            connection.execute("INSERT INTO in_flight VALUES (?, ?, ?)",
                               (name, self._run, os.getpid()))  # fmt: skip
        return True

    def _drop_dead(self) -> None:
        import psutil

        for row in self._store.query("SELECT DISTINCT pid FROM in_flight"):
            try:
                alive = psutil.Process(row["pid"]).status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                alive = False
            if not alive:
                with self._store.transaction() as connection:
                    connection.execute("DELETE FROM in_flight WHERE pid=?", (row["pid"],))

    def check_budget(self, project: str, used: float) -> None:
        """Refuse to compute for a project that has used up its month.

        Raises
        ------
        EngineError
            As a quota of Google's services is worded; the metric's name is an assumption.
        """
        budget = self.config.eecu_budget
        if budget is None or not budget.match.fits(Call(project=project)):
            return
        if used >= budget.seconds_per_month:
            raise EngineError(
                "Quota exceeded for quota metric 'EECU-time' and limit 'EECU-seconds per month' "
                f"({used:.1f} of {budget.seconds_per_month:g}) of service "
                f"'earthengine.googleapis.com' for consumer '{project}'.",
                STATES[429],
            )
