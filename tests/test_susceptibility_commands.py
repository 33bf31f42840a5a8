"""The commands as a user types them: tables, JSON lines, settings written with care."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from susceptibility_world import place, settings

from thawslump import options
from thawslump.config import config_model, load_model
from thawslump.errors import ConfigError
from thawslump.pipeline import STEPS, Driver
from thawslump.workspace import Workspace
from trainer.susceptibility import commands
from trainer.susceptibility.config import HE2024, SusceptibilityConfig
from trainer.susceptibility.edit import set_models
from trainer.susceptibility.files import Files


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    "A workspace with two models compared and mapped side by side"
    from susceptibility_world import run_steps, world

    workspace = world(tmp_path_factory.mktemp("drawn"))
    settings(workspace, side_by_side=True)
    run_steps(workspace)
    return workspace


@pytest.fixture
def shown(drawn: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    "The same, with nothing left to run"
    monkeypatch.setattr(commands, "_run", lambda step: Files(drawn, 1))
    monkeypatch.setattr(options.current, "json", False)
    return drawn


def test_one_table_with_the_gap_first(shown: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    commands.compare(None)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "model" and lines[0].index("gap") < lines[0].index("AUC")
    report = json.loads(Files(shown, 1).comparison.read_text())
    areas = {name: each["auc_spatial"] for name, each in report["models"].items()}
    best = sorted(areas, key=lambda name: -areas[name])
    assert [line.split()[0] for line in lines[1:3]] == best
    assert f"{report['models'][best[0]]['gap_random_minus_spatial']:+.3f} (" in lines[1]
    assert "Made-up data." in out and f"The map is drawn by {best[0]}." in out
    summary = json.loads(Files(shown, 1).summary.read_text())
    for model in best:
        share = summary["classes_by_model"][model]["share_of_area"][0]
        assert any(
            line.startswith(model) and "very low" in line and f"{share:.3f}" in line
            for line in lines
        )
    assert str(Files(shown, 1).probability("west")) in lines
    assert "side_by_side" not in out


def test_what_was_dropped_in_how_many_folds_is_said() -> None:
    models = {
        "svr": {"dropped_in_folds": {"TWI": 4, "TRI": 10}, "folds_fitted": 10},
        "cnn": {"dropped_in_folds": {"TRI": 9}, "folds_fitted": 10},
        "forest": {"dropped_in_folds": {}, "folds_fitted": 10},
    }
    assert commands._dropped(models) == [
        "Dropped inside folds: TWI (svr 4 of 10).",
        "Dropped inside folds: TRI (svr 10 of 10, cnn 9 of 10).",
    ]


def test_json_lines_hold_everything(
    shown: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options.current, "json", True)
    commands.compare(None)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["event"] for row in rows if row["event"] != "class"] == [
        "model", "model", "compared", "maps"
    ]  # fmt: skip
    report = json.loads(Files(shown, 1).comparison.read_text())
    for row in rows[:2]:
        assert row.items() >= report["models"][row["model"]].items()
    classes = [row for row in rows if row["event"] == "class"]
    assert len(classes) == 10 and {row["model"] for row in classes[:5]} == {report["map_model"]}
    assert sum(row["share_of_area"] for row in classes[:5]) == pytest.approx(1)
    assert len(rows[-1]["files"]) == 4


def test_one_model_alone_is_said(
    shown: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(shown)
    commands.compare(None)
    assert "set susceptibility.side_by_side: true" in capsys.readouterr().out
    settings(shown, side_by_side=True)


def test_factors_are_listed(shown: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    commands.select()
    out = capsys.readouterr().out
    for factor in ("elevation", "slope", "aspect", "NDVI"):
        assert any(line.startswith(factor) for line in out.splitlines())


def test_why_nothing_can_be_learned_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import thawslump.pipeline

    workspace = Workspace(tmp_path)
    workspace.__dict__["sites"] = {}
    settings(workspace)
    workspace.config.__dict__["rounds"] = SimpleNamespace(maximum=1)
    monkeypatch.setattr(options, "workspace", lambda: workspace)
    monkeypatch.setattr(thawslump.pipeline, "run", lambda *given, **more: None)
    commands.fit()
    assert "No site has tiles/<site>/factors.tif" in capsys.readouterr().out
    place(workspace, "west", "area", 4, labelled=False)
    commands.draw()
    out = capsys.readouterr().out
    assert "Of the sites with factors (west) none but tests has labels" in out
    assert "tiles import --outlines" in out


def test_nothing_is_trained_and_no_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    "Before the rounds, the labels of the last round that has any, and what comes after"
    ran: list[tuple[str, int]] = []

    def noted(self: Driver, name: str, round: int = 0) -> Any:
        ran.append((name, round))
        self.outcomes.append(SimpleNamespace(round=round))  # type: ignore[arg-type]

    monkeypatch.setattr(Driver, "run_step", noted)
    nothing: Any = None
    workspace: Any = SimpleNamespace(root=Path("nowhere"))
    Driver(workspace, nothing, nothing, nothing, rounds=False).run()
    places = {step.name: step.place for step in STEPS}
    assert [name for name, _ in ran if places[name] == "round"] == ["labels"]
    assert {round for name, round in ran if places[name] != "before"} == {1}
    assert {name for name in places if places[name] != "round"} <= {name for name, _ in ran}


def test_the_last_round_with_labels_counts(tmp_path: Path) -> None:
    for number in ("1", "2", "10", "notes"):
        (tmp_path / "rounds" / number / "a").mkdir(parents=True)
    for number in ("1", "2", "notes"):
        (tmp_path / "rounds" / number / "a" / "labels.tif").touch()
    nothing: Any = None
    assert Driver(Workspace(tmp_path), nothing, nothing, nothing)._labelled() == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": ("svr", "svr")}, "models is svr, svr; expected each once"),
        ({"validation": ("random", "blocked", "random")}, "validation is random, blocked, random;"),
        ({"bases": ("svr", "stacking")}, "stacking cannot lie below stacking and blending"),
        ({"validation": ("blocked", "regions")}, "expected random and at least one of"),
        ({"map_model": "svr"}, 'map_model is "svr", which is not among the models'),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SusceptibilityConfig(**given)


STARTER = """# mine
rounds: {maximum: 2}
susceptibility:  # here
  trees: 50
  # Models to fit.
  models: ["logistic", "forest"]  # two
  side_by_side: false
review:
  ring: 3
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            STARTER,
            STARTER.replace('["logistic", "forest"]', "he2024").replace("e: false", "e: true"),
        ),
        ("rounds: {maximum: 2}", None),
        ("susceptibility:\n    trees: 9\n", None),
        ("susceptibility:\n  models:\n  - svr\n  - mlp\n  # on trees\n  trees: 9\n", None),
        ("susceptibility:\n  models:\n    - svr\n    - mlp\nrounds: {maximum: 2}", None),
        ("", None),
    ],
    ids=["starter", "none", "few", "block", "indented", "empty"],
)
def test_models_are_written_and_nothing_else_changes(
    before: str, after: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "thawslump.yaml"
    path.write_text(before)
    old = load_model(config_model(), path)
    told = set_models(path, "he2024")
    assert len(told) == 2 and "susceptibility.models is he2024 now" in told[0]
    new = load_model(config_model(), path)
    assert new.susceptibility.models == HE2024 and new.susceptibility.side_by_side
    same = new.susceptibility.model_copy(
        update={"models": old.susceptibility.models, "side_by_side": False}
    )
    assert same == old.susceptibility and new.rounds == old.rounds
    assert all(line in path.read_text() for line in before.splitlines() if "#" in line) or after
    if after is not None:
        assert path.read_text() == after
    assert set_models(path, "he2024") == []
    assert set_models(path, "svr, forest")[0].endswith(
        "susceptibility.models is [svr, forest] now."
    )
    assert load_model(config_model(), path).susceptibility.models == ("svr", "forest")


@pytest.mark.parametrize(
    ("text", "models", "words"),
    [
        ("", "svr,magic", '--models names "magic"; models are logistic, forest'),
        ("", "svr,forst", 'Did you mean "forest"'),
        ("", "svr,he2024", "--models: models.1 = 'he2024'"),
        ("", ",", "--models: models"),
        ("susceptibility: {trees: 9}", "he2024", "not written as lines"),
        ("susceptibility:\n  map_model: forest\n  models: [forest]\n", "svr", "is not among the m"),
        ("susceptibility:\nrounds: {maximum: 2}\n", "he2024", "susceptibility = None"),
        ("susceptibility: [", "he2024", "is not valid YAML"),
    ],
)
def test_settings_that_cannot_be_are_left_as_they_were(
    text: str, models: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "thawslump.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        set_models(path, models)
    assert path.read_text() == text
