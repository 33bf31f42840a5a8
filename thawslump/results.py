"""What a workspace has come to, as numbers: read from its files, whichever of them exist.

The report, the notebook and the closing lines of a run read the same numbers here.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawslump.readings import Score, finite, read_score
from thawslump.susceptibility_results import Susceptibility, models

if TYPE_CHECKING:
    from thawslump.workspace import Workspace

__all__ = [
    "Model",
    "Results",
    "Review",
    "Round",
    "Score",
    "Split",
    "StepCost",
    "Susceptibility",
    "inventory_digest",
    "last_round",
    "read",
]


@dataclass(frozen=True)
class Split:
    """Scores of a model on one part of the data (validation, test).

    Attributes
    ----------
    f1 : Score
    precision, recall, bias : float or None
        bias is pixels called slump over pixels that are slump.
    """

    f1: Score
    precision: float | None = None
    recall: float | None = None
    bias: float | None = None


@dataclass(frozen=True)
class Model:
    """A trained run, or the ensemble of a round.

    Attributes
    ----------
    name : str
    round : int
    splits : mapping of "validation", "test" to Split
    architecture, encoder, loss, bands : str
        Empty for an ensemble.
    rate : float or None
        Learning rate.
    seconds : float or None
        Training time.
    threshold : float or None
    members : tuple of str
        Runs of the ensemble, best on validation first; empty for a run.
    sizes : tuple of (int, float)
        F1 on validation against the number of members, where it was kept.
    facts : mapping
        The file as it stands.
    """

    name: str
    round: int
    splits: Mapping[str, Split]
    architecture: str = ""
    encoder: str = ""
    loss: str = ""
    bands: str = ""
    rate: float | None = None
    seconds: float | None = None
    threshold: float | None = None
    members: tuple[str, ...] = ()
    sizes: tuple[tuple[int, float], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def f1(self, split: str) -> float | None:
        """Return F1 on a part of the data, None where it is not known."""
        found = self.splits.get(split)
        return None if found is None or not math.isfinite(found.f1.value) else found.f1.value


@dataclass(frozen=True)
class Round:
    """What a round proposed and what was decided.

    Attributes
    ----------
    number : int
    proposed, accepted, rejected, unsure, open : int
        Candidates by state.
    slumps : int
        Size of the inventory after the round.
    hectares : float
        Area of the inventory after the round.
    outcome : str
        Why the rounds went on or ended; empty where not recorded.
    """

    number: int
    proposed: int
    accepted: int
    rejected: int
    unsure: int
    open: int
    slumps: int
    hectares: float
    outcome: str = ""


@dataclass(frozen=True)
class Review:
    """How much deciding it took.

    Attributes
    ----------
    reviewer : str
    kind : {"people", "scripted"}
    decisions, undone, edited : int
    seconds : float or None
        Time with candidates on the screen, as far as it was kept.
    timed : int
        Decisions with a time.
    """

    reviewer: str
    kind: str
    decisions: int
    undone: int
    edited: int
    seconds: float | None
    timed: int


@dataclass(frozen=True)
class StepCost:
    """What a step took, over all rounds.

    Attributes
    ----------
    step : str
    items : int
        Done.
    seconds : float
        Seconds of work, summed over items; items of a step may run side by side.
    bytes : int
    tries : int
        Starts of items; more than `items` after a stop or a failure.
    failed : int
    """

    step: str
    items: int
    seconds: float
    bytes: int
    tries: int
    failed: int


@dataclass(frozen=True)
class Results:
    """Everything the report prints; what is absent is empty or None.

    Attributes
    ----------
    round : int
        The last round.
    rounds : tuple of Round
    known : int
        Slumps that were brought, not found.
    known_hectares : float
    kinds : mapping of str to int
        Standing decisions on candidates by "people" or "scripted".
    reviews : tuple of Review
    runs, ensembles : tuple of Model
        By round, then by F1 on validation, best first.
    susceptibility : tuple of Susceptibility
    susceptibility_facts : mapping
        The file susceptibility.json as it stands.
    susceptibility_round : int
        The round that it is of; 0 where there is none.
    cost : tuple of StepCost
    """

    round: int
    rounds: tuple[Round, ...] = ()
    known: int = 0
    known_hectares: float = 0.0
    kinds: Mapping[str, int] = field(default_factory=dict)
    reviews: tuple[Review, ...] = ()
    runs: tuple[Model, ...] = ()
    ensembles: tuple[Model, ...] = ()
    susceptibility: tuple[Susceptibility, ...] = ()
    susceptibility_facts: Mapping[str, Any] = field(default_factory=dict)
    susceptibility_round: int = 0
    cost: tuple[StepCost, ...] = ()

    @property
    def ensemble(self) -> Model | None:
        """The ensemble of the last round that has one."""
        return self.ensembles[-1] if self.ensembles else None

    @property
    def map_model(self) -> Susceptibility | None:
        """The susceptibility model that drew the map, else the best over spatial folds."""
        chosen = self.susceptibility_facts.get("map_model")
        for model in self.susceptibility:
            if model.name == chosen:
                return model
        return max(self.susceptibility, key=lambda m: m.spatial.value, default=None)

    def runs_of(self, round: int) -> tuple[Model, ...]:
        """Return the runs of a round, best on validation first."""
        return tuple(run for run in self.runs if run.round == round)


def last_round(workspace: Workspace) -> int:
    """Return the highest round that has a folder, at least 1."""
    numbers = [int(p.name) for p in workspace.root.glob("rounds/*") if p.name.isdigit()]
    return max([1, *numbers])


def read(workspace: Workspace, round: int | None = None) -> Results:
    """Read the numbers of a workspace.

    Parameters
    ----------
    workspace : Workspace
    round : int, optional
        Up to this round; the last where not given.

    Returns
    -------
    Results
    """
    last = round or last_round(workspace)
    runs, ensembles = [], []
    seconds = _training_seconds(workspace.ledger)
    for number in range(1, last + 1):
        found = [_model(path, number, seconds) for path in _metrics(workspace, number)]
        runs += sorted(
            (model for model in found if model.name != "ensemble"),
            key=lambda model: (-(model.f1("validation") or -1.0), model.name),
        )
        ensembles += [model for model in found if model.name == "ensemble"]
    facts: dict[str, Any] = {}
    learnt = 0
    for number in range(last, 0, -1):
        facts = _json(workspace.round(number) / "susceptibility.json")
        if facts:
            learnt = number
            break
    known, hectares, rounds, kinds, reviews = _inventory(workspace.inventory, last)
    return Results(
        round=last,
        rounds=rounds,
        known=known,
        known_hectares=hectares,
        kinds=kinds,
        reviews=reviews,
        runs=tuple(runs),
        ensembles=tuple(ensembles),
        susceptibility=models(facts),
        susceptibility_facts=facts,
        susceptibility_round=learnt,
        cost=tuple(_cost(workspace.ledger)),
    )


# Models -------------------------------------------------------------------------------------


def _metrics(workspace: Workspace, round: int) -> list[Path]:
    return sorted(workspace.models(round).glob("*/metrics.json"))


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _split(facts: Mapping[str, Any], name: str) -> Split | None:
    part = facts.get(name, {})
    score = read_score(part, "f1")
    if score is None:
        return None
    precision, recall, bias = (finite(part.get(key)) for key in ("precision", "recall", "bias"))
    return Split(score, precision, recall, bias)


def _model(path: Path, round: int, seconds: Mapping[tuple[int, str], float]) -> Model:
    facts = _json(path)
    name = path.parent.name
    item = _json(path.with_name("item.json"))
    settings = item.get("properties", {}).get("mlm:hyperparameters", {})
    parts = {split: _split(facts, split) for split in ("validation", "test")}
    return Model(
        name=name,
        round=round,
        splits={split: part for split, part in parts.items() if part is not None},
        architecture=str(settings.get("architecture", "")),
        encoder=str(settings.get("encoder", "")),
        loss=str(settings.get("loss", "")),
        bands=str(settings.get("bands", "")),
        rate=finite(settings.get("learning_rate")),
        seconds=seconds.get((round, name)),
        threshold=finite(facts.get("threshold")),
        members=tuple(str(member["run"]) for member in facts.get("members", [])),
        sizes=tuple((int(row["size"]), float(row["f1"])) for row in facts.get("sizes", [])),
        facts=facts,
    )


# Inventory ----------------------------------------------------------------------------------


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a SQLite file for reading; None where there is none."""
    if not path.exists():
        yield None
        return
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        yield db


def _tables(db: sqlite3.Connection) -> set[str]:
    return {str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}


def _inventory(
    path: Path, last: int
) -> tuple[int, float, tuple[Round, ...], dict[str, int], tuple[Review, ...]]:
    with _database(path) as db:
        if db is None or not {"slumps", "candidates", "decisions"} <= _tables(db):
            return 0, 0.0, (), {}, ()
        known, area = db.execute(
            "SELECT count(*), coalesce(sum(area_m2), 0) FROM slumps WHERE round = 0"
        ).fetchone()
        outcomes = (
            {row["round"]: row["outcome"] for row in db.execute("SELECT * FROM iterations")}
            if "iterations" in _tables(db)
            else {}
        )
        rounds = []
        numbers = [
            row[0]
            for row in db.execute(
                "SELECT DISTINCT round FROM candidates WHERE round <= ? ORDER BY round", (last,)
            )
        ]
        for number in numbers:
            states = dict(
                tuple(row)
                for row in db.execute(
                    "SELECT state, count(*) FROM candidates WHERE round = ? GROUP BY state",
                    (number,),
                )
            )
            slumps, total = db.execute(
                "SELECT count(*), coalesce(sum(area_m2), 0) FROM slumps WHERE round <= ?", (number,)
            ).fetchone()
            rounds.append(
                Round(
                    number,
                    proposed=sum(states.values()),
                    accepted=states.get("accepted", 0),
                    rejected=states.get("rejected", 0),
                    unsure=states.get("unsure", 0),
                    open=states.get("open", 0),
                    slumps=slumps,
                    hectares=total / 1e4,
                    outcome=str(outcomes.get(number, "")),
                )
            )
        standing = (
            "candidate_id IS NOT NULL AND decision <> 'undo' "
            "AND fid NOT IN (SELECT undoes FROM decisions WHERE undoes IS NOT NULL)"
        )
        kinds = dict(
            tuple(row)
            for row in db.execute(
                "SELECT kind, count(DISTINCT candidate_id) FROM decisions "
                f"WHERE {standing} AND round <= ? GROUP BY kind ORDER BY kind",
                (last,),
            )
        )
        reviews = tuple(
            Review(*row)
            for row in db.execute(
                "SELECT reviewer, kind, sum(decision <> 'undo'), sum(decision = 'undo'), "
                "sum(edited), sum(seconds), count(seconds) FROM decisions "
                "WHERE candidate_id IS NOT NULL AND round <= ? "
                "GROUP BY reviewer, kind ORDER BY kind, reviewer",
                (last,),
            )
        )
        return known, area / 1e4, tuple(rounds), kinds, reviews


def inventory_digest(path: Path) -> str:
    """Return a checksum of what an inventory says, whatever its bytes.

    Opening the file in a GIS, or writing equal rows again, changes its bytes and not this.

    Parameters
    ----------
    path : Path
        ``inventory.gpkg``; equal digests mean equal rows (times of writing left out).

    Returns
    -------
    str
        SHA-256 in hexadecimal digits; empty where there is no inventory.
    """
    digest = hashlib.sha256()
    with _database(path) as db:
        if db is None:
            return ""
        present = _tables(db)
        for table in ("slumps", "candidates", "decisions", "iterations"):
            if table not in present:
                continue
            hidden = {"fid", "added", "time", "request"}
            columns = [row["name"] for row in db.execute(f"PRAGMA table_info({table})")]
            names = ", ".join(f'"{name}"' for name in columns if name not in hidden)
            rows = [repr(tuple(row)) for row in db.execute(f"SELECT {names} FROM {table}")]
            digest.update("\n".join([table, names, *sorted(rows)]).encode())
    return digest.hexdigest()


# Cost ---------------------------------------------------------------------------------------


def _training_seconds(path: Path) -> dict[tuple[int, str], float]:
    with _database(path) as db:
        if db is None or "items" not in _tables(db):
            return {}
        return {
            (row["round"], row["name"]): row["seconds"]
            for row in db.execute(
                "SELECT round, name, seconds FROM items WHERE step = 'train' AND seconds > 0"
            )
        }


def _cost(path: Path) -> Iterator[StepCost]:
    from thawslump.pipeline import STEPS

    with _database(path) as db:
        if db is None or "items" not in _tables(db):
            return
        rows = {
            row["step"]: row
            for row in db.execute(
                "SELECT step, sum(state = 'done') AS items, sum(coalesce(seconds, 0)) AS seconds, "
                "sum(coalesce(bytes, 0)) AS bytes, sum(tries) AS tries, "
                "sum(state = 'failed') AS failed FROM items WHERE step <> 'report' GROUP BY step"
            )
        }
    for step in STEPS:
        if step.name in rows:
            row = rows[step.name]
            yield StepCost(
                step.name, row["items"], row["seconds"], row["bytes"], row["tries"], row["failed"]
            )
