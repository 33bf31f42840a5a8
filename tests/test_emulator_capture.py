"""The golden-capture kit: what is asked, that nothing else is sent, and how answers compare.

No answer of the live service is here: recordings are compared where there are any, in
tests/golden/. What is recorded from the emulator shows that the machinery works, no more.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest

from gee.emulator import functions
from gee.emulator.capture import Kit, Service, author, compare, record
from gee.emulator.capture.comparing import InProcess, differences
from gee.emulator.capture.kit import KINDS, PATH
from gee.emulator.capture.kit import Request as Asked
from gee.emulator.capture.page import page
from gee.emulator.capture.recording import read
from gee.emulator.catalog import BandData, Catalog
from gee.emulator.server import running
from thawslump.cli import main
from thawslump.errors import BackendError, DataError

ROOT = Path(__file__).parents[1]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.json"))
KIT = Kit.stored()


class Reply:
    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = headers or {}


class Sender:
    """Notes what is posted, and replies in turn; the last reply again and again."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.posts: list[tuple[str, dict]] = []

    def post(self, url: str, **options: Any) -> Reply:
        self.posts.append((url, options))
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def thawslump(*words: str) -> tuple[int, str, str]:
    """Run a command and return its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(words))
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def few(*names: str) -> Kit:
    """Return a kit of some of the requests."""
    wanted = {name: KIT.requests[name] for name in names}
    return Kit(KIT.rules, wanted, {})


# ---- what is asked


def test_stored_requests_are_what_their_authors_write() -> None:
    made = author.build()
    assert author.text(made) == PATH.read_text(encoding="utf-8"), (
        "write it anew: python -m gee.emulator.capture.author"
    )
    assert page(Kit.of(made)) == (ROOT / "docs" / "emulator-undetermined.md").read_text(
        encoding="utf-8"
    )


def test_every_rule_is_decided_by_a_request_and_every_request_decides_one() -> None:
    assert {request.rule for request in KIT.requests.values()} == KIT.rules.keys()
    for rule in KIT.rules.values():
        assert rule.question.endswith("?") and rule.here and rule.source
    for request in KIT.requests.values():
        assert request.compare["kind"] in KINDS and request.why
        assert request.method in ("value:compute", "image:computePixels")
        assert len(json.dumps(request.body)) < 20_000
        size = request.body.get("grid", {}).get("dimensions", {"width": 1, "height": 1})
        assert size["width"] * size["height"] <= 64 * 64 or request.compare["kind"] == "error"
    assert len({request.digest for request in KIT.requests.values()}) == len(KIT.requests)


# The points of the list by how they begin, and the rules that ask about them.
ASSUMPTIONS = {
    "Types": ("types-of-two", "types-of-one", "types-of-composites"),
    "Masks": ("partial-masks",),
    "Pyramids": ("pyramids",),
    "resample": ("resample-kernels",),
    "convolve": ("convolve-masks",),
    "updateMask": ("mask-values",),
    "reduceResolution": ("reduce-resolution",),
    "Columns": ("longitudes",),
    "cumulativeCost": ("distance-transforms",),
    "directionalDistanceTransform": ("distance-transforms",),
    "hillShadow": ("hill-shadow",),
    "What a neighbourhood": ("size-limits",),
    "A region or a sample": ("size-limits",),
    "Terrain": ("terrain-differences",),
    "fastDistanceTransform": ("distance-transforms",),
    "qualityMosaic": ("quality-ties",),
    "Percentiles": ("percentiles",),
    "default projection": ("projection-of-pairs",),
    "Random numbers": ("random-images", "random-columns", "samples"),
    "Numbers": ("json-numbers", "json-not-finite", "casts"),
    "Number": ("number-texts",),
    "Strings": ("strings",),
    "List": ("sequences",),
    "Dates": ("dates",),
    "Filters": ("filters-of-nothing",),
    "Geometries": ("geometry-measures", "getinfo-values"),
    "Classifiers": ("trees",),
    "minimumDistance": ("trees",),
    "Clusterers": ("trees",),
    "glcmTexture": ("textures",),
    "spectralErosion": ("spectra",),
    "CannyEdgeDetector": ("edges",),
    "inverseDistance": ("interpolation",),
}
# Of these no small request without assets decides.
UNDECIDED = ("simpleCloudScore",)


def test_assumptions_of_the_functions_are_among_the_rules() -> None:
    """Each point of the list in gee/emulator/functions/__init__.py has its rules."""
    words = functions.__doc__ or ""
    points = re.findall(r"^- [`]*([A-Za-z ]*[A-Za-z])", words, re.MULTILINE)
    assert len(points) > 10
    for point in points:
        if point in UNDECIDED:
            continue
        names = [name for name in ASSUMPTIONS if point.startswith(name)]
        assert names, f"no rule in gee/emulator/capture for the assumption '{point}'"
        assert all(rule in KIT.rules for rule in ASSUMPTIONS[names[0]])


def test_requests_name_no_asset_but_the_declared_and_the_missing() -> None:
    loads = Counter(
        re.findall(
            r'"functionName": "((?:Image|ImageCollection|Collection)\.load\w*)", "arguments": '
            r'\{"(?:id|tableId)": \{"constantValue": "([^"]+)"',
            json.dumps([dict(request.body) for request in KIT.requests.values()]),
        )
    )
    missing = {"projects/earthengine-public/assets/no/such/asset", "no/such/table"}
    assert {name for _, name in loads} == KIT.assets.keys() | missing
    exports = re.compile(r"export|toDrive|toAsset|toCloud|import", re.IGNORECASE)
    assert not any(exports.search(request.method) for request in KIT.requests.values())


# ---- recording


def test_only_these_requests_are_sent_and_the_project_stays_out_of_the_file(
    tmp_path: Path,
) -> None:
    sender = Sender(
        Reply(200, {"result": {"of": "projects/my-secret-project/assets/x"}}),
        Reply(400, {"error": {"message": "Project my-secret-project has no such thing."}}),
    )
    service = Service("http://there", "my-secret-project", sender)
    kit = few("json-nan", "error-wrong-type", "json-infinity")
    out = tmp_path / "sub" / "answers.json"
    made = record(service, out, kit=kit, pause=0)
    assert [
        (url, json.loads(options["data"])) for url, options in sender.posts
    ] == [
        (f"http://there/v1/projects/my-secret-project/{r.method}", dict(r.body))
        for r in kit.requests.values()
    ]  # fmt: skip
    text = out.read_text()
    assert "my-secret-project" not in text and "PROJECT" in text
    assert json.loads(text) == made == read(out)
    assert made["service"] == "http://there"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["recorded"])
    assert made["client"]["earthengine-api"] == ee.__version__
    assert made["answers"]["error-wrong-type"]["status"] == 400


def test_a_run_that_was_cut_off_continues(tmp_path: Path) -> None:
    out, names = tmp_path / "a.json", ("json-nan", "json-infinity", "json-list")
    first = Sender(Reply(200, {"result": 1}), Reply(403, {"error": {"message": "no."}}))
    with pytest.raises(BackendError, match="refuses: no") as caught:
        record(Service("http://there", "p", first), out, kit=few(*names), pause=0)
    assert "earthengine authenticate" in str(caught.value) and caught.value.exit_code == 4
    assert list(read(out)["answers"]) == ["json-nan"]
    second, seen = Sender(Reply(200, {"result": 2})), []
    record(
        Service("http://there", "p", second), out, kit=few(*names), pause=0,
        told=lambda number, count, request, answer: seen.append((number, count, request.id)),
    )  # fmt: skip
    assert seen == [(1, 2, "json-infinity"), (2, 2, "json-list")]
    assert {n: a["value"] for n, a in read(out)["answers"].items()} == dict(
        zip(names, (1, 2, 2), strict=True)
    )
    third = Sender(Reply(200, {"result": 3}))
    record(Service("http://there", "p", third), out, kit=few(*names), pause=0)
    assert not third.posts
    with pytest.raises(DataError, match="answers of http://there, not of http://elsewhere"):
        record(Service("http://elsewhere", "p", third), out, kit=few(*names), pause=0)


def test_an_answer_to_an_older_form_of_a_request_is_asked_again(tmp_path: Path) -> None:
    out, kit = tmp_path / "a.json", few("json-nan")
    record(Service("http://there", "p", Sender(Reply(200, {"result": 1}))), out, kit=kit, pause=0)
    changed = read(out)
    changed["answers"]["json-nan"]["request"] = "older"
    changed["answers"]["gone"] = {"request": "x", "status": 200, "value": 1}
    out.write_text(json.dumps(changed))
    assert [f.verdict for f in compare(changed, kit)] == ["unanswered"]
    record(Service("http://there", "p", Sender(Reply(200, {"result": 5}))), out, kit=kit, pause=0)
    assert {n: a["value"] for n, a in read(out)["answers"].items()} == {"json-nan": 5}


def test_politeness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("gee.emulator.capture.recording.time.sleep", waits.append)
    busy = {"error": {"message": "Too many requests."}}
    sender = Sender(
        Reply(429, busy, {"Retry-After": "7"}), Reply(503, b"<html>"), Reply(200, {"result": 1})
    )
    service = Service("http://there", "p", sender)
    record(service, tmp_path / "a.json", kit=few("json-nan", "json-list"), pause=0.5)
    assert waits == [7.0, 14.0, 0.5]
    waits.clear()
    with pytest.raises(BackendError, match=r"answered 429 6 times: Too many requests\."):
        Service("http://there", "p", Sender(Reply(429, busy))).send(KIT.requests["json-nan"])
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0]


def test_nobody_there_and_nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gee.emulator.capture.recording.time.sleep", lambda seconds: None)
    out = str(tmp_path / "a.json")
    capture = ("emulator", "capture")
    code, _, told = thawslump(*capture, "--url", "http://127.0.0.1:9", "--output", out)
    assert code == BackendError.exit_code and "does not answer" in told

    def nobody() -> None:
        raise ee.EEException("Please authorize access to your Earth Engine account")

    monkeypatch.setattr(ee.data, "get_persistent_credentials", nobody)
    code, _, told = thawslump(*capture, "--project", "some-project", "--output", out)
    assert code == 4 and "Please authorize" in told and "earthengine authenticate" in told
    code, _, told = thawslump(*capture)
    assert code == 2 and "--project PROJECT" in told
    assert not Path(out).exists()
    Path(out).write_text("[]")
    code, _, told = thawslump(*capture, "--compare", out)
    assert code == DataError.exit_code and "is not a recording" in told


def test_refused_credentials_and_odd_answers_end_at_once(tmp_path: Path) -> None:
    from google.auth.exceptions import RefreshError

    class Refusing:
        def post(self, url: str, **options: Any) -> Reply:
            raise RefreshError("invalid_grant")

    asked = KIT.requests["json-nan"]
    with pytest.raises(BackendError, match="stored credentials: RefreshError") as caught:
        Service("http://there", "p", Refusing()).send(asked)
    assert "authenticate --force" in str(caught.value)
    for name in ("json-nan", "masked-npy"):
        odd = Service("http://there", "p", Sender(Reply(200, b"<html>welcome</html>")))
        with pytest.raises(BackendError, match=f"answered '{name}' in no form that is known"):
            odd.send(KIT.requests[name])


def test_credentials_sign_requests_for_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    class Credentials:
        quota = None

        def with_quota_project(self, project: str) -> Credentials:
            self.quota = project
            return self

    known = Credentials()
    monkeypatch.setattr(ee.data, "get_persistent_credentials", lambda: known)
    service = Service.live("some-project")
    assert service.url == "https://earthengine.googleapis.com"
    assert known.quota == "some-project" and service._sender.credentials is known


# ---- the command against the emulator


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("capture") / "catalog"
    catalog = Catalog(root, writable=True)
    for asset in KIT.assets.values():
        # Made-up heights, over more than the requests see, with the grid of the real ones.
        heights = np.random.default_rng(3).integers(0, 900, (2048, 2048)).astype(np.int16)
        band = BandData(
            asset.band, heights, asset.crs, asset.transform, pyramiding=asset.pyramiding
        )
        catalog.put_image(asset.id, [band])
    with running(root, state=tmp_path_factory.mktemp("state"), token="sesame") as address:
        yield address


@pytest.fixture(scope="module")
def recorded(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recorded") / "answers.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWSLUMP_EMULATOR_TOKEN", "sesame")
        code, told, wrong = thawslump(
            "--json", "emulator", "capture", "--url", url, "--output", str(out), "--pause", "0"
        )
    assert code == 0, wrong
    events = [json.loads(line) for line in told.splitlines()]
    assert events[0]["event"] == "begins" and events[0]["requests"] == len(KIT.requests)
    answered = [e["request"] for e in events if e["event"] == "answer"]
    assert answered == list(KIT.requests) and events[-1]["answers"] == len(KIT.requests)
    return out


def test_the_emulator_answers_every_request(recorded: Path) -> None:
    text = recorded.read_text()
    assert "sesame" not in text and "Traceback" not in text and "Internal error" not in text
    answers = read(recorded)["answers"]
    refused = {n: a["error"] for n, a in answers.items() if a["status"] != 200}
    expected = {n for n, r in KIT.requests.items() if r.compare["kind"] == "error"}
    assert refused.keys() == expected, {n: e for n, e in refused.items() if n not in expected}


def test_a_recording_of_the_emulator_agrees_with_it(recorded: Path) -> None:
    findings = compare(read(recorded))
    assert [f.request.id for f in findings] == list(KIT.requests)
    assert not [(f.request.id, f.words) for f in findings if f.verdict != "agrees"]
    code, told, _ = thawslump("emulator", "capture", "--compare", str(recorded))
    assert code == 0 and f"{len(KIT.requests)} agrees" in told


def test_an_altered_answer_is_found(recorded: Path, tmp_path: Path) -> None:
    changed = copy.deepcopy(read(recorded))
    answers = changed["answers"]
    answers["fast-distance"]["pixels"]["distance"]["rows"][6][6] += 1
    answers["info-images"]["value"][1]["bands"][0]["crs"] = "EPSG:4326"
    answers["error-no-scale"]["error"] = "Other words."
    answers["random-column"]["value"] = [v * 0.5 for v in answers["random-column"]["value"]]
    answers["cart-explain"]["value"]["tree"] = "another tree"
    answers["stored-at-2"]["pixels"]["elevation"]["rows"][0][0] += 1
    answers["random-shuffle"]["value"].reverse()
    labels = answers["components-labels"]["pixels"]["labels"]["rows"]
    flat = {v for row in labels for v in row if v != -1}
    one, other = sorted(flat)[:2]
    answers["components-labels"]["pixels"]["labels"]["rows"] = [
        [one if v == other else v for v in row] for row in labels
    ]
    del answers["json-nan"]
    altered = (
        "fast-distance", "info-images", "error-no-scale", "random-column", "cart-explain",
        "stored-at-2", "random-shuffle", "components-labels", "json-nan", "casts-of-images",
    )  # fmt: skip
    kit = Kit(KIT.rules, {name: KIT.requests[name] for name in altered}, KIT.assets)
    found = {f.request.id: f for f in compare(changed, kit) if f.verdict != "agrees"}
    assert {name: f.verdict for name, f in found.items()} == {
        "fast-distance": "differs",
        "info-images": "differs",
        "error-no-scale": "differs",
        "random-column": "differs",
        "cart-explain": "not promised",
        "stored-at-2": "differs",
        "components-labels": "differs",
        "json-nan": "unanswered",
    }
    assert found["info-images"].words == (
        "value[1].bands[0].crs: theirs 'EPSG:4326', ours 'EPSG:32633'"
    )
    assert "theirs: 'Other words.'" in found["error-no-scale"].words
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(changed))
    code, told, wrong = thawslump("--json", "emulator", "capture", "--compare", str(path))
    lines = [json.loads(line) for line in told.splitlines()]
    verdicts = {line["rule"]: line["verdict"] for line in lines if line["event"] == "rule"}
    assert verdicts.keys() == KIT.rules.keys()
    assert verdicts["distance-transforms"] == "differs" and verdicts["casts"] == "agrees"
    assert code == DataError.exit_code and "6 of" in wrong


# ---- comparing


def asked(**how: Any) -> Asked:
    return Asked("r", "rule", "why", "value:compute", {}, how)


def value(content: Any) -> dict:
    return {"status": 200, "value": content}


@pytest.mark.parametrize(
    ("how", "theirs", "ours", "count"),
    [
        ({"kind": "equal"}, {"a": [1, "x", None]}, {"a": [1.0, "x", None]}, 0),
        ({"kind": "equal"}, {"a": 1}, {"a": True}, 1),
        ({"kind": "equal"}, {"a": 1, "b": 2}, {"a": 1, "c": 2}, 2),
        ({"kind": "equal"}, [1, 2], [1], 1),
        ({"kind": "equal"}, "NaN", "NaN", 0),
        ({"kind": "equal"}, 1.0, 1.0 + 1e-12, 1),
        ({"kind": "equal", "rtol": 1e-9}, 1.0, 1.0 + 1e-12, 0),
        ({"kind": "equal", "atol": 0.1}, [0.0, 5.0], [0.05, 5.2], 1),
        ({"kind": "spread", "low": 0, "high": 1, "mean": 0.5, "tolerance": 0.1},
         [0.1, 0.9], [0.4, 0.6], 0),
        ({"kind": "spread", "low": 0, "high": 1, "mean": 0.5, "tolerance": 0.1},
         [0.1, 1.9], [0.4, 0.6, 0.5], 3),
    ],
)  # fmt: skip
def test_differences(how: dict, theirs: Any, ours: Any, count: int) -> None:
    assert len(list(differences(asked(**how), value(theirs), value(ours)))) == count


def test_partitions_are_compared_whatever_their_labels() -> None:
    def labels(*rows: list[int]) -> dict:
        return {"status": 200, "pixels": {"labels": {"type": "i4", "rows": list(rows)}}}

    theirs = labels([1, 1, -1, 2])
    how = asked(kind="partition")
    assert not list(differences(how, theirs, labels([7, 7, -1, 3])))
    assert list(differences(how, theirs, labels([7, 8, -1, 3])))
    assert list(differences(how, theirs, labels([7, 7, -1, 7])))
    assert list(differences(how, theirs, labels([7, 7, 5, 3])))


def test_errors_differ_by_their_words() -> None:
    how = asked(kind="error")
    one, other = {"status": 400, "error": "a"}, {"status": 400, "error": "b"}
    assert not list(differences(how, one, one))
    assert list(differences(how, one, other)) == ["theirs: 'a', ours: 'b'"]
    assert list(differences(how, value(1), one)) == ["theirs: 'an answer', ours: 'a'"]
    assert not list(differences(how, value(1), value(2)))


def test_pixels_are_kept_as_people_read_them(tmp_path: Path) -> None:
    service = InProcess(tmp_path)
    answer = service.send(KIT.requests["masked-npy"])
    service.close()
    assert answer["status"] == 200 and list(answer["pixels"]) == [
        "short", "byte", "float", "double",
    ]  # fmt: skip
    assert answer["pixels"]["double"] == {"type": "f8", "rows": [[7.0, 0.0, 9.0, 0.0]]}


# ---- the live service's answers, where somebody has recorded them


@pytest.mark.parametrize("path", GOLDEN or [None], ids=lambda p: "none" if p is None else p.stem)
def test_recorded_answers_of_earth_engine(path: Path | None) -> None:
    if path is None:
        pytest.skip(
            "nobody has recorded the live service yet: thawslump emulator capture --project "
            "PROJECT --output tests/golden/live.json"
        )
    found = [f"{f.request.rule}/{f.request.id}: {f.words}" for f in compare(read(path))
             if f.verdict == "differs"]  # fmt: skip
    assert not found, "\n".join(found)
