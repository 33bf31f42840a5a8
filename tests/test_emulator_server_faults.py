"""Faults on demand over HTTP: what a file asks for happens, in every process, and no more."""

from __future__ import annotations

import io
import json
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any

import ee
import ee.deprecation
import numpy as np
import pytest
from google.auth.credentials import AnonymousCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gee.emulator.catalog import BandData, Catalog
from gee.emulator.commands import app
from gee.emulator.faults import Faults, FaultsConfig, Latency, Match, load_faults
from gee.emulator.messages import Call, Request
from gee.emulator.protocol import Endpoint
from gee.emulator.quota import Meter, month_of
from gee.emulator.server import running
from gee.emulator.store import Store
from gee.emulator.transport import Transport
from thawslump.errors import ConfigError

P = "projects/local-proj"
UTM = ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
COMPUTE = f"/v1/{P}/value:compute"
PIXELS = f"/v1/{P}/image:computePixels"
TWO = {"expression": {"result": "0", "values": {"0": {"constantValue": 2}}}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "catalog"
    values = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    Catalog(folder, writable=True).put_image("a", [BandData("b", values, *UTM)])
    return folder


def faulty(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "faults.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def pixels(side: int) -> dict[str, Any]:
    call = {"functionName": "Image.load", "arguments": {"id": {"constantValue": "a"}}}
    transform = {"scaleX": 10.0, "translateX": 5e5, "scaleY": -10.0, "translateY": 5e6}
    return {
        "expression": {"result": "0", "values": {"0": {"functionInvocationValue": call}}},
        "fileFormat": "NPY",
        "grid": {
            "dimensions": {"width": side, "height": side},
            "affineTransform": transform,
            "crsCode": "EPSG:32633",
        },
    }


def post(url: str, path: str, body: Any, query: str = "") -> tuple[int, bytes]:
    """One request over a connection of its own, without any client that would try again."""
    place = urllib.parse.urlsplit(url)
    connection = HTTPConnection(str(place.hostname), place.port, timeout=20)
    try:
        connection.request("POST", path + query, json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def error_of(content: bytes) -> tuple[str, str]:
    error = json.loads(content)["error"]
    return error["status"], error["message"]


# The file ---------------------------------------------------------------------------------------


def test_the_documented_example_is_a_faults_file(tmp_path: Path) -> None:
    """What the command shows is read by the reader of such files, and by the command."""
    shown = CliRunner().invoke(app, ["faults"])
    path = tmp_path / "faults.yaml"
    path.write_text(shown.output)
    config = load_faults(path)
    told = CliRunner().invoke(app, ["faults", str(path)]).output
    assert "6 rules, seed 7" in told and "0: tiles are slow: {'latency'" in told
    assert "requests at a time: 4" in told and "EECU-seconds a month: 3600" in told
    assert config.seed == 7 and len(config.rules) == 6
    assert config.rules[1].latency == Latency(
        distribution="lognormal", median=0.2, sigma=1.0, most=5
    )
    assert config.concurrent_requests is not None and config.concurrent_requests.most == 4
    assert config.eecu_budget is not None and config.eecu_budget.seconds_per_month == 3600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: [{status: 418}]", "rules.0.status: 418 was given; input should be 429, 500 or"),
        ("rule: []", "there is no setting 'rule'. Did you mean \"rules\"?"),
        (
            "rules: [{stauts: 429}]",
            "rules.0.stauts: there is no setting 'stauts'. Did you mean \"s",
        ),
        ("rules: [{match: {method: GET}}]", "a rule needs an effect: latency, status, connection"),
        ("rules: [{status: 500, connection: cut}]", "one rule has one effect, not status and conn"),
        ("rules: [{latency: -1}]", "latency.seconds: -1 was given; input should be greater"),
        ("rules: [{latency: {distribution: normal, mean: 1}}]", "normal needs sd"),
        ("rules: [{latency: {distribution: uniform, low: 2, high: 1}}]", "low must not be above"),
        ("rules: [{status: 429, probability: 2}]", "probability: 2 was given"),
        ("rules: [{latency: 1, message: hm}]", "message belongs to status"),
        ("concurrent_requests: {}", "concurrent_requests.most: it is missing"),
        ("- a", "holds list \"['a']\", expected names and values"),
        ("rules: [", "is not YAML"),
        ("\0", "is not YAML"),
    ],
)
def test_mistakes_are_told_with_place_and_cure(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as found:
        load_faults(path)
    assert words in str(found.value) and str(path) in str(found.value)
    assert found.value.hint, "what to do"


def test_an_empty_file_asks_for_nothing_and_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load_faults(tmp_path / "empty.yaml") == FaultsConfig()
    with pytest.raises(ConfigError, match=r"none.yaml cannot be read: No such file.*\n.*--faults"):
        load_faults(tmp_path / "none.yaml")


def test_the_server_does_not_start_with_a_bad_file(root: Path, tmp_path: Path) -> None:
    words = r"rules.0.status: 418 was given"
    with (
        pytest.raises(ConfigError, match=words),
        running(root, faults=faulty(tmp_path, rules=[{"status": 418}])),
    ):
        pass
    found = CliRunner().invoke(
        app, ["serve", "--catalog", str(root), "--faults", str(tmp_path / "faults.yaml")]
    )
    assert isinstance(found.exception, ConfigError)


# Which requests, and how often ------------------------------------------------------------------


CALL = Call("POST", PIXELS, "image_compute_pixels",
            ("image_compute_pixels", "image:computePixels"), P, "export-7")  # fmt: skip


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"method": "POST", "handler": "image:computePixels"}, True),
        ({"method": "GET"}, False),
        ({"handler": "image_*"}, True),
        ({"handler": ["value:compute", "image:*"]}, True),
        ({"handler": "value:compute"}, False),
        ({"path": "/v1/*/image:computePixels"}, True),
        ({"path": "image:computePixels"}, False),
        ({"project": "local-*", "workload_tag": "export-*"}, True),
        ({"project": "other"}, False),
        ({"workload_tag": ""}, False),
    ],
)
def test_rules_match_by_all_that_is_given(match: dict[str, Any], fits: bool) -> None:
    assert Match(**match).fits(CALL) is fits


def outcomes(tmp_path: Path, rule: dict[str, Any], number: int, seed: int = 0) -> list[bool]:
    """Whether each of `number` requests is refused."""
    store = Store(tmp_path / f"state-{time.time_ns()}")
    config = FaultsConfig.model_validate({"seed": seed, "rules": [{"status": 429, **rule}]})
    faults = Faults(config, store)
    out = []
    for _ in range(number):
        try:
            faults.before(CALL)
            out.append(False)
        except Exception as error:
            assert "Too Many Requests" in str(error)
            out.append(True)
    store.close()
    return out


@pytest.mark.parametrize(
    ("rule", "refused"),
    [
        ({}, "111111"),
        ({"every": 3}, "001001"),
        ({"first": 2}, "110000"),
        ({"count": 1}, "100000"),
        ({"every": 2, "count": 2}, "010100"),
        ({"first": 3, "every": 3}, "001000"),
        ({"probability": 0}, "000000"),
        ({"probability": 1, "first": 4}, "111100"),
        ({"match": {"method": "GET"}}, "000000"),
    ],
)
def test_how_often(tmp_path: Path, rule: dict[str, Any], refused: str) -> None:
    assert outcomes(tmp_path, rule, 6) == [c == "1" for c in refused]


def test_dice_follow_their_seed(tmp_path: Path) -> None:
    rule = {"probability": 0.3}
    first = outcomes(tmp_path, rule, 200, seed=1)
    assert first == outcomes(tmp_path, rule, 200, seed=1)
    assert first != outcomes(tmp_path, rule, 200, seed=2)
    assert 30 <= sum(first) <= 90, "within 4.6 standard deviations of 60"


@given(
    st.sampled_from(["uniform", "normal", "exponential", "lognormal"]),
    st.floats(0.001, 2), st.floats(0.001, 2), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_waits_lie_within_bounds(kind: str, a: float, b: float, seed: int) -> None:
    import random

    given_ = {"uniform": {"low": a, "high": a + b}, "normal": {"mean": a, "sd": b},
              "exponential": {"mean": a}, "lognormal": {"median": a, "sigma": b}}[kind]  # fmt: skip
    latency = Latency(distribution=kind, most=1.5, **given_)  # type: ignore[arg-type]
    wait = latency.draw(random.Random(seed))
    assert 0 <= wait <= 1.5
    if kind == "uniform":
        assert min(a, 1.5) <= wait <= a + b


def test_waits_of_all_matching_rules_add_up(tmp_path: Path) -> None:
    store, slept = Store(tmp_path / "state"), []
    config = FaultsConfig.model_validate(
        {"rules": [{"latency": 0.25}, {"latency": 0.5, "every": 2}]}
    )
    faults = Faults(config, store, sleep=slept.append)
    for _ in range(3):
        faults.before(CALL)
    store.close()
    assert slept == [0.25, 0.75, 0.25]


# Over HTTP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_refusals_and_breaks_over_http(root: Path, tmp_path: Path, workers: int) -> None:
    rules = [
        {"match": {"workload_tag": "busy"}, "status": 429},
        {"match": {"workload_tag": "bug"}, "status": 500},
        {"match": {"workload_tag": "down"}, "status": 503, "message": "Maintenance."},
        {"match": {"workload_tag": "gone"}, "connection": "dropped"},
        {"match": {"workload_tag": "cut"}, "connection": "cut"},
        {"match": {"workload_tag": "half"}, "connection": "half_body"},
        {"match": {"workload_tag": "slow"}, "latency": 0.3},
        {"match": {"handler": "image:computePixels"}, "memory_above_pixels": 1024},
    ]
    path = faulty(tmp_path, rules=rules)
    with running(root, state=tmp_path / "state", faults=path, workers=workers) as url:

        def ask(tag: str) -> tuple[int, bytes]:
            return post(url, COMPUTE, {**TWO, "workloadTag": tag})

        code, content = ask("busy")
        assert code == 429 and error_of(content)[0] == "RESOURCE_EXHAUSTED"
        code, content = ask("bug")
        assert code == 500 and error_of(content) == ("INTERNAL", "An internal error has occurred")
        code, content = ask("down")
        assert code == 503 and error_of(content) == ("UNAVAILABLE", "Maintenance.")
        with pytest.raises((RemoteDisconnected, ConnectionResetError)):
            ask("gone")
        with pytest.raises(IncompleteRead):
            ask("cut")
        assert ask("half") == (200, b'{"resu')
        start = time.perf_counter()
        assert ask("slow") == (200, b'{"result": 2}')
        assert 0.3 <= time.perf_counter() - start < 5
        assert post(url, PIXELS, pixels(32))[0] == 200
        code, content = post(url, PIXELS, pixels(33))
        assert code == 400 and error_of(content) == (
            "INVALID_ARGUMENT", "User memory limit exceeded."
        )  # fmt: skip
        # The query's workload tag is looked at as well, as maps and thumbnails send it.
        assert post(url, f"/v1/{P}/maps", pixels(1), "?workloadTag=down")[0] == 503
        # After all that the server is well.
        assert ask("") == (200, b'{"result": 2}')


def test_no_fault_without_a_file(root: Path, tmp_path: Path) -> None:
    endpoint = Endpoint(root, tmp_path / "state")
    for _ in range(20):
        answer = endpoint.handle(Request("POST", COMPUTE, body=json.dumps(TWO).encode()))
        assert answer.status == 200 and not answer.broken
    endpoint.close()


def test_workers_share_the_counts(root: Path, tmp_path: Path) -> None:
    """Of 30 requests to two processes every third is refused: neither counts on its own."""
    path = faulty(tmp_path, rules=[{"every": 3, "status": 503}])
    with (
        running(root, state=tmp_path / "state", faults=path, workers=2) as url,
        ThreadPoolExecutor(6) as pool,
    ):
        codes = [c for c, _ in pool.map(lambda _: post(url, COMPUTE, TWO), range(30))]
    assert sorted(set(codes)) == [200, 503] and codes.count(503) == 10


def test_counts_begin_anew_with_the_server(root: Path, tmp_path: Path) -> None:
    path = faulty(tmp_path, rules=[{"first": 1, "status": 429}])
    for _ in range(2):
        endpoint = Endpoint(root, tmp_path / "state", faults=path)
        codes = [
            endpoint.handle(Request("POST", COMPUTE, body=json.dumps(TWO).encode())).status
            for _ in range(2)
        ]
        endpoint.close()
        assert codes == [429, 200]


def test_too_many_at_a_time(root: Path, tmp_path: Path) -> None:
    """Two requests that are held up, in whichever process, leave no place for a third."""
    config = FaultsConfig.model_validate({"concurrent_requests": {"most": 2}})
    endpoint = Endpoint(root, tmp_path / "state", faults=config)
    other = Endpoint(root, tmp_path / "state", faults=config, run=endpoint.faults._run)
    body = json.dumps(TWO).encode()

    def ask(to: Endpoint, path: str = COMPUTE, content: bytes = body) -> tuple[int, str]:
        answer = to.handle(Request("POST", path, body=content))
        words = "" if answer.status == 200 else error_of(answer.body)[1]
        return answer.status, words

    with endpoint.computing():
        assert ask(other)[0] == 200
        with other.computing():
            assert ask(endpoint) == (429, "Too many concurrent aggregations.")
            code, words = ask(other, PIXELS, json.dumps(pixels(2)).encode())
            assert code == 429 and words.startswith("Too Many Requests")
        assert ask(endpoint)[0] == 200
    # A process that was killed leaves its place behind; it is given free.
    dead = 2**22 + 7  # above the largest process id of Linux
    with endpoint.store.transaction() as connection:
        for number in range(2):
            connection.execute(
                "INSERT INTO in_flight VALUES (?, ?, ?)", (f"x{number}", endpoint.faults._run, dead)
            )
    assert ask(endpoint)[0] == 200
    endpoint.close()
    other.close()


# What computing costs ---------------------------------------------------------------------------


def test_the_meter_counts_by_project_and_tag(root: Path, tmp_path: Path) -> None:
    endpoint = Endpoint(root, tmp_path / "state")
    for tag in ("x", "x", ""):
        body = json.dumps({**pixels(64), "workloadTag": tag}).encode()
        assert endpoint.handle(Request("POST", PIXELS, body=body)).status == 200
    status = json.loads(endpoint.handle(Request("GET", "/status")).body)
    entry = status["eecu"][P]
    assert set(entry["tags"]) == {"x"} and 0 < entry["tags"]["x"] < entry["seconds"] < 60
    endpoint.close()
    found = CliRunner().invoke(app, ["usage", "--state", str(tmp_path / "state")])
    assert P in found.output and month_of() in found.output
    found = CliRunner().invoke(app, ["usage", "--state", str(tmp_path / "none")])
    assert found.output.strip() == "Nothing was metered."


def test_months_are_counted_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    meter = Meter(store, exact=True)
    meter.add(P, "", 2.0)
    with store.transaction() as connection:
        connection.execute("INSERT INTO usage VALUES ('2001-02', ?, '', 50)", (P,))
    assert meter.used(P) == 2.0 and meter.used(P, "2001-02") == 50.0
    assert meter.used("projects/other") == 0.0
    store.close()
    assert month_of(951782399.0) == "2000-02" and month_of(951868800.0) == "2000-03"


def test_a_budget_outlives_the_server_and_ends_with_the_month(root: Path, tmp_path: Path) -> None:
    config = FaultsConfig.model_validate({"eecu_budget": {"seconds_per_month": 100}})
    body = json.dumps(TWO).encode()

    def ask(project: str = P) -> tuple[int, str]:
        endpoint = Endpoint(root, tmp_path / "state", faults=config)
        answer = endpoint.handle(Request("POST", COMPUTE.replace(P, project), body=body))
        endpoint.close()
        return answer.status, answer.body.decode()

    assert ask()[0] == 200
    store = Store(tmp_path / "state")
    Meter(store, exact=True).add(P, "", 100.0)
    code, words = ask()
    assert code == 429 and "Quota exceeded for quota metric 'EECU-time'" in words
    assert "EECU-seconds per month" in words and "100" in words
    assert ask("projects/other-project")[0] == 200, "another project has its own budget"
    with store.transaction() as connection:
        connection.execute("UPDATE usage SET month='2001-01'")
    store.close()
    assert ask()[0] == 200


# The client's own retries -----------------------------------------------------------------------


def test_the_client_tries_again_as_often_as_it_was_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ee.data.setMaxRetries` [S: ee/data.py, googleapiclient.http._should_retry_response]."""
    import googleapiclient.http

    waits: list[float] = []
    monkeypatch.setattr(googleapiclient.http.random, "random", lambda: 0.0)
    content = {
        "rules": [
            {"match": {"workload_tag": "two"}, "first": 2, "status": 503},
            {"match": {"workload_tag": "busy"}, "first": 2, "status": 429},
            {"match": {"workload_tag": "gone"}, "first": 1, "connection": "dropped"},
            {"match": {"workload_tag": "cut"}, "first": 1, "connection": "cut"},
            {"match": {"workload_tag": "always"}, "status": 500},
        ]
    }
    with running(root, state=tmp_path / "state", faults=faulty(tmp_path, **content)) as url:
        ee.deprecation.deprecated_assets = {
            "-": ee.deprecation.DeprecatedAsset("-", None, None, None)
        }
        ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)
        monkeypatch.setattr(time, "sleep", waits.append)
        try:
            for tag, retries in (("two", 2), ("busy", 2), ("gone", 1), ("cut", 1)):
                ee.data.setMaxRetries(retries)
                with ee.data.workloadTagContext(tag):
                    assert ee.Number(2).add(3).getInfo() == 5
            assert len(waits) == 6
            ee.data.setMaxRetries(2)
            waits.clear()
            with (
                ee.data.workloadTagContext("always"),
                pytest.raises(ee.EEException, match="An internal error has occurred"),
            ):
                ee.Number(2).getInfo()
            assert len(waits) == 2
        finally:
            ee.Reset()


def test_an_export_whose_answer_got_lost_is_made_once(root: Path, tmp_path: Path) -> None:
    """The client sends a lost request again with the same `requestId` [S: ee/data.py]."""
    rules = [{"match": {"handler": "image:export"}, "first": 2, "connection": "cut"}]
    with running(root, state=tmp_path / "state", faults=faulty(tmp_path, rules=rules)) as url:
        ee.deprecation.deprecated_assets = {
            "-": ee.deprecation.DeprecatedAsset("-", None, None, None)
        }
        ee.Initialize(credentials=AnonymousCredentials(), project="local-proj", url=url)
        ee.data.setMaxRetries(3)
        try:
            with ee.data.workloadTagContext("once"):
                task = ee.batch.Export.image.toDrive(ee.Image("a"), "lost")
                task.start()
            found = ee.data.listOperations()
            assert [operation["name"].rpartition("/")[2] for operation in found] == [task.id]
            end = time.monotonic() + 30
            while task.active() and time.monotonic() < end:
                time.sleep(0.05)
            assert task.status()["state"] == "COMPLETED"
            assert task.status()["batch_eecu_usage_seconds"] > 0
            assert ee.data.getOperation(found[0]["name"])["metadata"]["workloadTag"] == "once"
        finally:
            ee.Reset()


def test_in_process_a_broken_answer_is_a_connection_error(root: Path, tmp_path: Path) -> None:
    path = faulty(tmp_path, rules=[{"count": 1, "connection": "dropped"}])
    transport = Transport(root, tmp_path / "state", faults=path)
    with pytest.raises(ConnectionError, match="broken off"):
        transport.request(f"http://local{COMPUTE}", "POST", json.dumps(TWO))
    response, content = transport.request(f"http://local{COMPUTE}", "POST", json.dumps(TWO))
    assert response.status == 200 and content == b'{"result": 2}'
    transport.close()


def test_half_a_body_is_no_array(root: Path, tmp_path: Path) -> None:
    path = faulty(tmp_path, rules=[{"count": 1, "connection": "half_body"}])
    transport = Transport(root, tmp_path / "state", faults=path)
    _, half = transport.request(f"http://local{PIXELS}", "POST", json.dumps(pixels(8)))
    _, whole = transport.request(f"http://local{PIXELS}", "POST", json.dumps(pixels(8)))
    transport.close()
    assert half == whole[: len(whole) // 2]
    assert np.load(io.BytesIO(whole))["b"].shape == (8, 8)
    with pytest.raises((ValueError, EOFError)):
        np.load(io.BytesIO(half))
