"""Exports through the real HTTP server while it fails on purpose: they end whole, or in words.

Every test holds the files of an export that met faults against those of one that met none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gee_world import World, a_site, make_world

from gee.emulator.server import running
from gee.exports.step import run
from gee.steps import plan_export
from thawslump.config import save_yaml
from thawslump.errors import BackendError
from thawslump.files import sha256
from thawslump.workspace import Workspace

FILES = ("stack.tif", "context.tif", "factors.tif")
PIXELS = {"handler": "image:computePixels"}
# Quick waits, small tiles: the ways are those of a large export.
SETTINGS = {"tile": 32, "smallest_tile": 8, "workers": 3, "retries": 12, "backoff": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("faulty") / "catalog")


def exported(
    folder: Path, url: str | None, made: World, project: str | None = None, **changes: Any
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    backend = {} if url is None else {"backend": {"url": url, "project": project}}
    content = {"name": "test", "export": {**SETTINGS, **changes}, **backend}
    (folder / "thawslump.yaml").write_text(json.dumps(content))
    save_yaml(folder / "areas" / "place.yaml", a_site())
    if url is None and not (folder / "catalog").exists():
        (folder / "catalog").symlink_to(made.folder)
    workspace = Workspace(folder)
    (item,) = plan_export(workspace, 0)
    return dict(run(item, workspace, lambda fraction, words: None))


def sums(folder: Path) -> list[str]:
    return [sha256(Workspace(folder).tiles("place") / name) for name in FILES]


@pytest.fixture(scope="module")
def whole(made: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], int, int]:
    """Checksums and numbers of requests (all, of the survey) of an export that met no fault."""
    folder = tmp_path_factory.mktemp("whole")
    facts = exported(folder, None, made)
    assert facts["retries"] == facts["splits"] == 0
    return sums(folder), int(facts["requests"]), int(facts["survey_requests"])


@pytest.fixture
def serving(made: World, tmp_path: Path) -> Iterator[Any]:
    """Start servers with faults on one state folder."""
    import contextlib

    def start(port: int = 0, **content: Any) -> contextlib.AbstractContextManager[str]:
        path = tmp_path / "faults.yaml"
        path.write_text(json.dumps(content))
        return running(made.folder, state=tmp_path / "state", faults=path, port=port)

    yield start


# Of one server: each fault is met by exports of the project that is named after it.
FAULTS: dict[str, tuple[dict[str, Any], int]] = {
    "state-429": ({"every": 3, "status": 429}, 3),
    "state-500": ({"every": 3, "status": 500}, 3),
    "state-503": ({"first": 3, "status": 503}, 3),
    "dropped": ({"count": 3, "connection": "dropped"}, 3),
    "cut-off": ({"count": 3, "connection": "cut"}, 3),
    "half-body": ({"count": 3, "connection": "half_body"}, 3),
    "at-random": ({"probability": 0.3, "status": 429}, 1),
    "slow-one": (
        {"probability": 0.5, "latency": {"distribution": "exponential", "mean": 0.02}}, 0
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def faulty(made: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    rules: list[dict[str, Any]] = [
        {"match": {**PIXELS, "project": name}, **rule} for name, (rule, _) in FAULTS.items()
    ]
    asking = {"handler": "value:compute", "project": "asking"}
    rules.append({"match": asking, "every": 2, "status": 503})
    rules.append({"match": {**PIXELS, "project": "memory"}, "memory_above_pixels": 300})
    path = folder / "faults.yaml"
    path.write_text(json.dumps({"seed": 3, "rules": rules}))
    with running(made.folder, state=folder / "state", faults=path) as url:
        yield url


@pytest.mark.parametrize("name", FAULTS)
def test_an_export_survives(
    faulty: str, made: World, whole: Any, tmp_path: Path, name: str
) -> None:
    facts = exported(tmp_path, faulty, made, project=name)
    assert sums(tmp_path) == whole[0]
    assert facts["retries"] >= FAULTS[name][1] and facts["splits"] == 0
    assert facts["requests"] == whole[1] + facts["retries"]


def test_faults_while_it_asks_which_images_there_are(
    faulty: str, made: World, whole: Any, tmp_path: Path
) -> None:
    exported(tmp_path, faulty, made, project="asking")
    assert sums(tmp_path) == whole[0]


def test_memory_errors_cut_tiles_once_and_leave_no_seam(
    faulty: str, made: World, whole: Any, tmp_path: Path
) -> None:
    facts = exported(tmp_path, faulty, made, project="memory")
    assert sums(tmp_path) == whole[0]
    # One step for each of three files: refused once per slot at most.
    assert 1 <= facts["splits"] <= 3 * SETTINGS["workers"] and facts["retries"] == 0
    assert "stack: tiles of 16 instead of 32: User memory limit exceeded." in facts["smaller_tiles"]


def test_a_quota_of_concurrent_requests_is_waited_for(
    serving: Any, made: World, whole: Any, tmp_path: Path
) -> None:
    """Three threads ask, one may: the others back off and come again."""
    rules = [{"match": PIXELS, "latency": 0.02}]
    with serving(rules=rules, concurrent_requests={"most": 1, "match": PIXELS}) as url:
        facts = exported(tmp_path / "work", url, made, retries=20)
    assert sums(tmp_path / "work") == whole[0]
    assert facts["requests"] == whole[1] + facts["retries"]


def test_a_spent_budget_stops_at_once_and_the_rest_follows_when_it_is_renewed(
    serving: Any, made: World, whole: Any, tmp_path: Path
) -> None:
    """No request is sent again and again against a quota that is renewed next month."""
    work = tmp_path / "work"
    with (
        serving(eecu_budget={"seconds_per_month": 1e9}) as url,
        pytest.raises(BackendError) as found,
    ):
        _spend_after_two_tiles(tmp_path / "state", work, url)
    said = str(found.value)
    assert "Quota exceeded for quota metric 'EECU-time'" in said
    assert "Finished tiles are kept" in said and "tries" not in said
    kept = len(list(Workspace(work).tiles("place").rglob("*.npy")))
    assert kept >= 2 and not Workspace(work).stack("place").exists()
    # A new month, or a larger budget. Tiles of another backend are not taken over: same address.
    port = int(url.rpartition(":")[2])
    with serving(port, eecu_budget={"seconds_per_month": 1e12}) as url:
        facts = exported(work, url, made)
    assert sums(work) == whole[0] and facts["tiles_kept"] == kept
    # The images that it began with are known; only tiles are asked for.
    assert facts["requests"] == whole[1] - whole[2] - kept and facts["survey_requests"] == 0


def _spend_after_two_tiles(state: Path, work: Path, url: str) -> None:
    """Run an export, and use up the project's month when two of its tiles are there."""
    from gee.emulator.quota import Meter
    from gee.emulator.store import Store
    from gee.session import LOCAL_PROJECT

    work.mkdir(parents=True, exist_ok=True)
    (work / "thawslump.yaml").write_text(
        json.dumps({"name": "test", "export": {**SETTINGS, "workers": 1}, "backend": {"url": url}})
    )
    save_yaml(work / "areas" / "place.yaml", a_site())
    workspace = Workspace(work)
    (item,) = plan_export(workspace, 0)

    def told(fraction: float, words: str) -> None:
        if words.startswith("stack") and len(list(work.rglob("*.npy"))) == 2:
            store = Store(state)
            Meter(store, exact=True).add(f"projects/{LOCAL_PROJECT}", "", 1e9)
            store.close()

    run(item, workspace, told)


def test_faults_without_end_are_told_and_what_is_done_is_kept(
    serving: Any, made: World, whole: Any, tmp_path: Path
) -> None:
    rules = [{"match": PIXELS, "status": 503}]
    with serving(rules=rules) as url, pytest.raises(BackendError) as found:
        exported(tmp_path / "work", url, made, retries=2)
    assert "after 3 tries" in str(found.value)
    assert "The service is currently unavailable." in str(found.value)
    with serving() as url:
        exported(tmp_path / "work", url, made)
    assert sums(tmp_path / "work") == whole[0]
