"""Nothing that a request says may break the endpoint, keep it busy, or make it grow."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import _bodies  # noqa: E402
from _arguments import call, constant  # noqa: E402
from _spoiler import Spoiler  # noqa: E402

from gee.emulator import budget  # noqa: E402
from gee.emulator.budget import Budget, limited, reserve, steps, tick  # noqa: E402
from gee.emulator.errors import EngineError, LimitError, worded  # noqa: E402
from gee.emulator.evaluate import Evaluator  # noqa: E402
from gee.emulator.limits import RequestLimits  # noqa: E402
from gee.emulator.patterns import most_steps, pattern  # noqa: E402
from gee.emulator.payload import check_expression, parse_json  # noqa: E402
from gee.emulator.projection import crs_of  # noqa: E402
from gee.emulator.protocol import Endpoint, Request, Response  # noqa: E402

VALUE = "/v1/projects/local/value:compute"
PIXELS = "/v1/projects/local/image:computePixels"


class World:
    """An endpoint over made-up assets, and what real clients asked it."""

    def __init__(self, root: Path) -> None:
        (root / "catalog").mkdir()
        _bodies.made_up(root / "catalog")
        self.bodies = _bodies.recorded(root / "catalog", root / "recorded")
        self.endpoint = Endpoint(root / "catalog", root / "state")

    def ask(self, body: _bodies.Body) -> Response:
        path, _, query = body.path.partition("?")
        return self.endpoint.handle(
            Request(
                body.method,
                urllib.parse.unquote(path),
                dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
                {},
                body.encoded(),
            )
        )

    def refused(self, content: Any, path: str = VALUE) -> str:
        """Return the words of a refusal, which must have Earth Engine's shape."""
        answer = self.ask(_bodies.Body("POST", path, content))
        error = json.loads(answer.body)["error"]
        assert 400 <= answer.status < 500 and error["code"] == answer.status
        assert error["status"] and "Internal error" not in error["message"]
        return str(error["message"])

    def computed(self, node: dict[str, Any], **values: Any) -> Any:
        body = {"expression": {"result": "end", "values": {"end": node, **values}}}
        answer = self.ask(_bodies.Body("POST", VALUE, body))
        found = json.loads(answer.body)
        return found["result"] if answer.status == 200 else found["error"]["message"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.endpoint.close()


def expression(node: Any, **more: Any) -> dict[str, Any]:
    return {"expression": {"result": "0", "values": {"0": node, **more}}}


def test_recorded_requests_are_answered(world: World) -> None:
    answers = [world.ask(b).status for b in world.bodies if "value:compute" in b.path]
    assert len(answers) > 30 and answers.count(200) / len(answers) > 0.9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_spoilt_requests_are_refused_with_a_sentence(world: World, seed: int) -> None:
    spoiler = Spoiler(world.bodies, seed)
    for _ in range(150):
        body = spoiler.one()
        if body.how in ("doubling", "chain", "grown"):
            continue  # held one by one below
        start = time.monotonic()
        answer = world.ask(body)
        shown = f"{body.how} {body.method} {body.path} {body.encoded()[:500]!r}"
        assert time.monotonic() - start < 60, shown
        if answer.status == 200:
            assert not body.malformed, shown
            continue
        error = json.loads(answer.body)["error"]
        assert 400 <= answer.status < 500, shown
        assert error["message"] and "Internal error" not in error["message"], (error, shown)


# ---------------------------------------------------------------- the form of requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KINDS = (
    "constantValue", "functionInvocationValue", "valueReference", "argumentReference",
    "arrayValue", "dictionaryValue", "functionDefinitionValue", "integerValue", "bytesValue",
)  # fmt: skip
PARTS = ("values", "functionName", "functionReference", "arguments", "argumentNames", "body")


# Made once: it raises Python's recursion limit, which hypothesis would notice in a test.
ENGINE = Evaluator(None)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(KINDS), JSON | st.dictionaries(st.sampled_from(PARTS), JSON))
)
def test_a_node_of_any_form_is_computed_or_refused(node: dict[str, Any]) -> None:
    try:
        ENGINE.evaluate({"result": "0", "values": {"0": node}})
    except EngineError as problem:
        assert str(problem) and "Internal error" not in str(problem)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(
            ["expression", "grid", "fileFormat", "bandIds", "visualizationOptions", "pageSize",
             "pageToken", "workloadTag", "region", "selectors", "maxPixels"]
        ),
        JSON,
    ),
    st.sampled_from(
        ["image:computePixels", "value:compute", "table:computeFeatures", "maps", "thumbnails",
         "tables", "imageCollection:computeImages", "image:export", "table:export"]
    ),
    st.booleans(),
)  # fmt: skip
def test_fields_of_any_type(world: World, body: dict[str, Any], method: str, right: bool) -> None:
    if right:
        body["expression"] = expression(call("Image.constant", {"value": constant(1)}))[
            "expression"
        ]
    answer = world.ask(_bodies.Body("POST", f"/v1/projects/local/{method}", body))
    assert answer.status == 200 or 400 <= answer.status < 500
    if answer.status != 200:
        error = json.loads(answer.body)["error"]
        assert error["message"] and "Internal error" not in error["message"], (error, body)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep"),
        (b'{"expression": NaN}', "NaN is no JSON"),
        (b'{"pageSize": 1e999}', "out of the range"),
        (b'{"pageSize": ' + b"9" * 5000 + b"}", "out of the range"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'{"a": "\\ud800"}', "not valid UTF-8"),
        (b'{"a": 1, "a": 2}', "Duplicate key"),
        (b"[]", "Expected an object"),
        (b"", "'expression' is missing"),
        (b'{"expression": []}', "Invalid value at 'expression'"),
    ],
)
def test_payloads_that_are_no_requests(world: World, content: bytes, words: str) -> None:
    assert words in world.refused(content)


def test_brackets_in_texts_are_no_nesting() -> None:
    assert parse_json(b'{"a": "' + b"[" * 5000 + b'"}') == {"a": "[" * 5000}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"0": {"valueReference": "0"}}, "refers to itself"),
        ({"0": {"arrayValue": {"values": [{"valueReference": "1"}]}},
          "1": {"dictionaryValue": {"values": {"a": {"valueReference": "0"}}}}},
         "refers to itself"),
        ({"0": {"valueReference": "9"}}, "there is no value '9'"),
        ({"0": {"constantValue": 1}, "1": {"someValue": 1}}, "someValue"),
        ({"0": {"constantValue": 1, "valueReference": "0"}}, "a node holds one of"),
        ({"0": 5}, "a node must be an object"),
        ({"0": {"functionInvocationValue": {"functionName": "Number.add", "arguments": []}}},
         "'arguments' must be an object"),
        ({"0": {"functionDefinitionValue": {"argumentNames": ["a", "a"], "body": "0"}}},
         "names an argument twice"),
        ({"0": {"integerValue": "9" * 30}}, "64-bit integer"),
        ({"0": {"bytesValue": "*"}}, "base64"),
        ({str(k): call("Number.abs", {"input": {"valueReference": str(k + 1)}})
          for k in range(9000)} | {"9000": {"constantValue": 1}}, "nested too deeply"),
    ],
)  # fmt: skip
def test_graphs_whose_form_is_wrong(values: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        check_expression({"result": "0", "values": values})


def test_a_chain_within_the_limit_is_computed() -> None:
    values = {
        str(k): call("Number.add", {"left": {"valueReference": str(k + 1)}, "right": constant(1)})
        for k in range(1000)
    }
    values["1000"] = constant(0)
    assert Evaluator(None).evaluate({"result": "0", "values": values}) == 1000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "grid",
    [
        {"dimensions": {"width": 0, "height": 4}},
        {"dimensions": {"width": -5, "height": 4}},
        {"dimensions": {"width": 2**40, "height": 4}},
        {"dimensions": {"width": 10**6, "height": 10**6}},
        {"dimensions": {"width": "x", "height": 4}},
        {"dimensions": [4, 4]},
        {"dimensions": {"width": 4, "height": 4}, "affineTransform": {"scaleX": "NaN"}},
        {"dimensions": {"width": 4, "height": 4}, "affineTransform": {"scaleX": 0, "scaleY": 0}},
        {"dimensions": {"width": 4, "height": 4}, "affineTransform": {"scaleX": 1e308,
                                                                     "scaleY": 1e308}},
        {"dimensions": {"width": 4, "height": 4}, "crsCode": "EPSG:0"},
        {"dimensions": {"width": 4, "height": 4}, "crsCode": "\x00"},
        {"dimensions": {"width": 4, "height": 4}, "crsCode": "GEOGCS[" * 2000},
        "grid",
    ],
)  # fmt: skip
def test_grids_that_are_none(world: World, grid: Any) -> None:
    body = expression(call("Image.load", {"id": constant("users/me/dem")}))
    whole = {"crsCode": "EPSG:32633", "affineTransform": {"scaleX": 10, "scaleY": -10}}
    given_grid = {**whole, **grid} if isinstance(grid, dict) else grid
    world.refused({**body, "grid": given_grid, "fileFormat": "NPY"}, PIXELS)


@pytest.mark.parametrize(
    "name",
    ["../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x",
     "users/me/dem\x00", "users/../users/me/dem", "\ufeff", "a" * 5000, "", "..",
     "/vsicurl/http://127.0.0.1:1/x"],
)  # fmt: skip
def test_foreign_ids(world: World, name: str) -> None:
    node = call("Image.bandNames", {"image": call("Image.load", {"id": constant(name)})})
    assert world.refused(expression(node))
    if not name:
        return  # the folder of all assets of a project
    quoted = urllib.parse.quote(name, safe="")
    answer = world.ask(_bodies.Body("GET", f"/v1/projects/local/assets/{quoted}"))
    assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    "text", ["+init=/etc/passwd:root", "+proj=longlat +nadgrids=/etc/passwd", "+init=a\\b:1",
             'GEOGCS["a",EXTENSION["PROJ4","+proj=longlat +nadgrids=@../../x"]]', "x" * 50_000],
)  # fmt: skip
def test_coordinate_systems_name_no_files(text: str) -> None:
    with pytest.raises(EngineError, match="CRS of a map projection could not be parsed"):
        crs_of(text)


@pytest.mark.parametrize(
    "text", ["1+" * 45_000 + "1", "(" * 20_000, "-" * 9000 + "1", "1" * 200_000]
)
def test_long_expressions_end(world: World, text: str) -> None:
    node = {"functionInvocationValue": {"functionReference": "f", "arguments": {"a": DEM}}}
    made = call("Image.parseExpression", {"expression": constant(text), "argName": constant("a")})
    start = time.monotonic()
    assert world.refused({"expression": {"result": "0", "values": {"0": node, "f": made}}})
    assert time.monotonic() - start < 20


# ---------------------------------------------------------------- sizes

BOX = call("GeometryConstructors.Rectangle", {"coordinates": constant([14, 60, 16, 62])})
DEM = call("Image.load", {"id": constant("users/me/dem")})


@pytest.mark.parametrize(
    "node",
    [
        call("List.sequence", {"start": constant(1), "end": constant(1e12)}),
        call("List.repeat", {"value": constant(1), "count": constant(2**31 - 1)}),
        call("Array.identity", {"size": constant(10**6)}),
        call("Number.format", {"number": constant(1), "pattern": constant("%999999999d")}),
        call("FeatureCollection.randomPoints", {"region": BOX, "points": constant(10**9)}),
        call("Geometry.coveringGrid", {
            "geometry": BOX, "proj": call("Projection", {"crs": constant("EPSG:3857")}),
            "scale": constant(1e-3)}),
        call("Kernel.square", {"radius": constant(1e6)}),
        call("Image.reduceRegion", {
            "image": DEM, "reducer": call("Reducer.mean", {}), "geometry": BOX,
            "scale": constant(1e-6), "maxPixels": constant(2**62)}),
        call("Image.sample", {"image": DEM, "region": BOX, "scale": constant(1e-3)}),
        call("String.replace", {
            "input": constant("a" * 5000), "regex": constant("a"),
            "replacement": constant("b" * 100_000), "flags": constant("g")}),
        call("Reducer.max", {"numInputs": constant(2**31 - 1)}),
    ],
)  # fmt: skip
def test_absurd_sizes_are_refused_at_once(world: World, node: dict[str, Any]) -> None:
    start = time.monotonic()
    assert world.refused(expression(node))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("start", "double"),
    [
        (constant([1, 2]), lambda r: call("List.cat", {"list": r, "other": r})),
        (constant([1, 2]), lambda r: {"arrayValue": {"values": [r, r]}}),
        (constant("ab"), lambda r: call("String.cat", {"string1": r, "string2": r})),
        (call("Image.constant", {"value": constant(1)}),
         lambda r: call("Image.addBands", {"dstImg": r, "srcImg": r})),
        (call("Filter.always", {}),
         lambda r: call("Filter.and", {"filters": {"arrayValue": {"values": [r, r]}}})),
        (call("Reducer.mean", {}),
         lambda r: call("Reducer.combine", {"reducer1": r, "reducer2": r,
                                            "outputPrefix": constant("x")})),
        (call("GeometryConstructors.Point", {"coordinates": constant([15, 61])}),
         lambda r: call("GeometryConstructors.MultiGeometry",
                        {"geometries": {"arrayValue": {"values": [r, r]}}})),
        (call("Array", {"values": constant([1, 2])}),
         lambda r: call("Array.cat", {"arrays": {"arrayValue": {"values": [r, r]}},
                                      "axis": constant(0)})),
    ],
)  # fmt: skip
def test_values_that_double_at_every_step(world: World, start: Any, double: Any) -> None:
    values = {"0": start}
    for step in range(1, 60):
        values[str(step)] = double({"valueReference": str(step - 1)})
    body = {"expression": {"result": "59", "values": values}}
    begun = time.monotonic()
    assert world.refused(body)
    assert time.monotonic() - begun < 30


def test_a_collection_merged_with_itself_is_counted_and_not_made(world: World) -> None:
    values: dict[str, Any] = {
        "0": call("Collection.loadTable", {"tableId": constant("users/me/lines")})
    }
    for step in range(1, 40):
        r = {"valueReference": str(step - 1)}
        values[str(step)] = call("Collection.merge", {"collection1": r, "collection2": r})
    node = call("Collection.size", {"collection": {"valueReference": "39"}})
    assert world.computed(node, **values) == 3 * 2**39


def test_five_thousand_steps_are_fine(world: World) -> None:
    values = {
        "f": {"functionDefinitionValue": {"argumentNames": ["n", "s"], "body": "b"}},
        "b": call(
            "Number.add", {"left": {"argumentReference": "s"}, "right": {"argumentReference": "n"}}
        ),
    }
    numbers = call("List.sequence", {"start": constant(1), "end": constant(5000)})
    node = call(
        "List.iterate",
        {"list": numbers, "function": {"valueReference": "f"}, "first": constant(0)},
    )
    assert world.computed(node, **values) == 5000 * 5001 // 2


# ---------------------------------------------------------------- time and memory


def test_the_deadline_ends_a_computation(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path, limits=RequestLimits(deadline=0.3))
    values = {
        "f": {"functionDefinitionValue": {"argumentNames": ["n", "s"], "body": "b"}},
        "b": call("List.size", {"list": call("List.sequence", {
            "start": {"argumentReference": "n"}, "end": constant(110_000)})}),
    }  # fmt: skip
    numbers = call("List.sequence", {"start": constant(1), "end": constant(100_000)})
    values["0"] = call(
        "List.iterate",
        {"list": numbers, "function": {"valueReference": "f"}, "first": constant(0)},
    )
    body = json.dumps({"expression": {"result": "0", "values": values}}).encode()
    start = time.monotonic()
    answer = endpoint.handle(Request("POST", VALUE, body=body))
    assert json.loads(answer.body)["error"]["message"] == "Computation timed out."
    assert answer.status == 400 and time.monotonic() - start < 20
    endpoint.close()


def test_a_collection_that_ran_out_of_time_is_made_again() -> None:
    from gee.emulator.values import Collection, Feature

    items = Collection(lambda: (Feature(None, {"n": n}) for n in range(5)))
    with limited(Budget(0.0)), pytest.raises(LimitError, match=r"^Computation timed out\.$"):
        items.items()
    assert len(items.items()) == 5


def test_budgets_nest_and_end() -> None:
    outer = Budget(None)
    with limited(outer):
        tick()
        with limited(Budget(0.0)), pytest.raises(LimitError):
            list(steps(range(3)))
        assert budget.current() is outer
        with pytest.raises(LimitError, match="memory limit"):
            for _ in range(100):
                reserve(2**24, 8)
    assert budget.current() is None
    with pytest.raises(LimitError):
        reserve(float("nan"))


def test_a_swollen_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([10**9, 10**9 + 4 * 2**30])
    monkeypatch.setattr(budget, "resident", lambda: next(sizes))
    monkeypatch.setattr(budget, "_LOOK", 0.0)
    held = Budget(60)
    held.tick()
    with pytest.raises(LimitError, match=r"^User memory limit exceeded\.$"):
        held.tick()


def test_a_worker_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import Pipe

    from gee.emulator import dispatch

    monkeypatch.setattr(dispatch, "GRACE", 0.1)
    front = dispatch.Dispatcher(1, {}, RequestLimits(deadline=0.1))
    here, there = Pipe()
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    front._idle, front._processes = {0: [here]}, {0: worker}
    answer = front.handle(Request("POST", VALUE, body=b"{}"))
    assert json.loads(answer.body)["error"]["message"] == "Computation timed out."
    assert worker.wait(10) != 0 and not front._idle[0]
    there.close()
    front.close()


def test_words_for_what_libraries_raise() -> None:
    import numpy as np

    with pytest.raises(np.linalg.LinAlgError) as caught:
        np.linalg.inv(np.zeros((2, 2)))
    assert worded(caught.value) == "The matrix has no such form: Singular matrix."
    assert worded(KeyError("x")).startswith("Internal error")


# ---------------------------------------------------------------- regular expressions


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        ("(a+)+b", "a" * 40),
        ("(a|aa)+$", "a" * 60 + "b"),
        ("(?x) # [ \n (a+)+b", "a" * 40),
        ("a?" * 30 + "a" * 30, "a" * 30),
        (r"(.)\1*\1*\1*\1*\1*b", "a" * 400),
    ],
)
def test_catastrophic_expressions_end(regex: str, text: str) -> None:
    assert most_steps(regex, len(text)) > 5e6
    start = time.monotonic()
    try:
        pattern(regex).search(text)
    except EngineError as problem:
        assert "takes too long" in str(problem)
    assert time.monotonic() - start < 30


def test_doubtful_expressions_give_what_re_gives() -> None:
    import re

    regex, text = "(?:ab|a)*c|(x+)+y", "zzababac xxxy"
    assert most_steps(regex, len(text)) == float("inf")
    found = re.search(regex, text)
    assert found is not None
    assert pattern(regex).search(text) == [found[0], *found.groups()]
    assert pattern(regex).findall(text) == [m[0] for m in re.finditer(regex, text)]
    assert pattern(regex).sub("-", text) == re.sub(regex, "-", text)
    assert pattern(regex).split(text) == re.split(regex, text)


def test_what_counts_as_quick_is_quick() -> None:
    import re

    dice = random.Random(5)
    parts = ["a", "b", ".", "(", ")", "*", "+", "?", "|", "{2,5}", "[ab]", r"\w", "a*", "(a", "b)+"]
    tried = 0
    for _ in range(4000):
        regex = "".join(dice.choices(parts, k=dice.randint(2, 8)))
        try:
            compiled = re.compile(regex)
        except re.error:
            continue
        text = dice.choice(["ab" * 60, "a" * 120, "a" * 60 + "c"])
        if most_steps(regex, len(text)) <= 1e5:
            start = time.process_time()
            compiled.search(text)
            assert time.process_time() - start < 1, regex
            tried += 1
    assert tried > 200


@pytest.mark.parametrize("regex", ["(", "[", "a{99999999999}", "*", "(" * 4000, "a" * 6000])
def test_expressions_that_are_none(regex: str) -> None:
    with pytest.raises(EngineError, match="Invalid regular expression"):
        pattern(regex)
