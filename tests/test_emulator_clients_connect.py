"""What a first value waits for: measured by what is imported, not by the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gee.emulator.functions import find, load_all
from gee.emulator.signatures import _Signatures, algorithms_document, signatures

FIRST = """
import json, sys
from gee.emulator.protocol import Endpoint, Request
from pathlib import Path
endpoint = Endpoint(Path(sys.argv[1]))
body = json.dumps({"expression": json.loads(sys.argv[2])}).encode()
answer = endpoint.handle(Request("POST", "/v1/projects/local/value:compute", body=body))
print(json.dumps([json.loads(answer.body), sorted(sys.modules)]))
"""


def call(name: str, **arguments: object) -> dict:
    given = {key: {"constantValue": value} for key, value in arguments.items()}
    node = {"functionInvocationValue": {"functionName": name, "arguments": given}}
    return {"result": "0", "values": {"0": node}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (call("Number.add", left=1, right=2), 3),
        (call("String.length", string="thaw"), 4),
        (call("Date.parse", format="yyyy-MM-dd", date="1970-01-02"), 86_400_000),
    ],
    ids=lambda case: (
        case["values"]["0"]["functionInvocationValue"]["functionName"]
        if isinstance(case, dict)
        else ""
    ),
)
def test_a_first_value_does_not_load_what_it_does_not_use(
    expression: dict, value: object, tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FIRST, str(tmp_path), json.dumps(expression)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    answer, modules = json.loads(done.stdout)
    got = answer["result"]
    assert (got["value"] if isinstance(got, dict) else got) == value
    heavy = {"ee", "pyproj", "shapely", "rasterio", "scipy", "skimage", "sklearn", "PIL", "pandas"}
    assert not heavy & set(modules)
    assert "gee.emulator.functions.classifiers" not in modules


def test_functions_are_found_by_many_threads_at_once() -> None:
    """One fresh process, 16 threads, as many families: each finds its function."""
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
sys.setswitchinterval(1e-6)
from gee.emulator.functions import find
names = ["Number.add", "Image.add", "Join.saveFirst", "Date.millis", "Reducer.mean",
         "Geometry.area", "Kernel.circle", "Terrain.slope", "List.get", "Filter.eq",
         "Projection", "String.cat", "Image.sample", "Image.paint", "Array.abs", "Feature"] * 2
names = [n if n != "Filter.eq" else "Filter.equals" for n in names]
with ThreadPoolExecutor(16) as pool:
    print(sum(entry is None for entry in pool.map(find, names)))
"""
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "0"


def test_no_family_loads_a_library_that_few_functions_use() -> None:
    program = "import sys, json; from gee.emulator.functions import load_all; load_all()"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(json.dumps(sorted(sys.modules)))"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"ee", "rasterio", "scipy", "skimage", "sklearn", "PIL", "pandas", "h5py", "pystac"}
    assert not heavy & set(json.loads(done.stdout))


def test_every_registered_function_is_found_and_has_a_signature() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(find, load_all()))
    assert find("Number.nonesuch") is None
    known = signatures()
    assert len(known) == len(list(known)) > 900
    assert not load_all().keys() - known.keys()
    assert "Number.nonesuch" not in known and known.get("Number.nonesuch") is None
    assert known["Image.unmask"] is known["Image.unmask"]
    footprint = known["Image.unmask"].arguments[2]
    assert (footprint.name, footprint.optional, footprint.default) == ("sameFootprint", True, True)


def test_signatures_are_those_of_the_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that are found by their beginnings, and all of the list read as JSON."""
    found = signatures()
    entries = algorithms_document()["algorithms"]
    assert set(found) == {entry["name"].removeprefix("algorithms/") for entry in entries}
    for entry in entries:
        signature = found[entry["name"].removeprefix("algorithms/")]
        named = [argument.name for argument in signature.arguments]
        assert named == [item["argumentName"] for item in entry.get("arguments", ())]
    text = json.dumps({"algorithms": [dict(reversed(entry.items())) for entry in entries]})
    monkeypatch.setattr("gee.emulator.signatures._text", lambda: text)
    otherwise = _Signatures()
    assert list(otherwise) == list(found) and dict(otherwise) == dict(found)
