"""Every registered function, called with plausible values: an answer or a refusal in words."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from emulator_engine_world import DAY, NATIVE, NORTH, UTM, WEST, Earth, band, earth, native

from gee.emulator.errors import EngineError
from gee.emulator.functions import load_all
from gee.emulator.image import Image
from gee.emulator.pixels import render
from gee.emulator.signatures import signatures
from gee.emulator.values import Collection

FAMILIES = sorted({name.partition(".")[0] for name in load_all()})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    random = np.random.default_rng(0)

    def bands() -> list[Any]:
        return [
            band("a", random.integers(0, 9, (64, 64)).astype(np.uint8)),
            band("b", random.random((64, 64)).astype(np.float32)),
        ]

    with earth(tmp_path_factory.mktemp("every")) as found:
        found.put("T/a", *bands(), start=DAY)
        found.catalog.put_collection("T/c")
        for k in range(2):
            found.put(f"T/c/i{k}", *bands(), start=k * DAY, p=k)
        yield found


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def const(value: Any) -> dict[str, Any]:
    return {"constantValue": value}


def several(*values: Any) -> dict[str, Any]:
    return {"arrayValue": {"values": list(values)}}


BOX = call(
    "GeometryConstructors.Rectangle",
    coordinates=const([WEST + 10, NORTH - 200, WEST + 300, NORTH - 10]),
    crs=const(UTM),
    geodesic=const(False),
)
FEATURE = call("Feature", geometry=BOX, metadata=const({"p": 1, "q": 2.5, "label": 1}))
OTHER = call(
    "Feature",
    geometry=call("GeometryConstructors.Point", coordinates=const([15.0, 60.43])),
    metadata=const({"p": 2, "q": 1.5, "label": 0}),
)
TABLE = call("Collection", features=several(FEATURE, OTHER))
IMAGE = call("Image.load", id=const("T/a"))
ARRAY = call("Array", values=const([[1.0, 2.0], [3.0, 5.0]]))
VALUES = {
    "Image": IMAGE,
    "ImageCollection": call("ImageCollection.load", id=const("T/c")),
    "FeatureCollection": TABLE,
    "Geometry": BOX,
    "Element": FEATURE,
    "Feature": FEATURE,
    "Number": const(2),
    "Float": const(2.5),
    "Integer": const(1),
    "Long": const(3),
    "String": const("a"),
    "Boolean": const(True),
    "List": const([1, 2, 3]),
    "Dictionary": const({"a": 1, "b": 2}),
    "Projection": call("Projection", crs=const(UTM), transform=const(list(NATIVE))),
    "ErrorMargin": call("ErrorMargin", value=const(1)),
    "Date": call("Date", value=const("2020-01-02")),
    "DateRange": call("DateRange", start=const("2020-01-01"), end=const("2021-01-01")),
    "Filter": call("Filter.gt", leftField=const("p"), rightValue=const(1)),
    "Reducer": call("Reducer.mean"),
    "Kernel": call("Kernel.square", radius=const(1)),
    "Classifier": call(
        "Classifier.train",
        classifier=call("Classifier.smileCart"),
        features=TABLE,
        classProperty=const("label"),
        inputProperties=const(["p"]),
    ),
    "Clusterer": call(
        "Clusterer.train",
        clusterer=call("Clusterer.wekaKMeans", nClusters=const(2)),
        features=TABLE,
        inputProperties=const(["p"]),
    ),
    "Join": call("Join.saveAll", matchesKey=const("m")),
    "ConfusionMatrix": call(
        "Collection.errorMatrix",
        collection=TABLE,
        actual=const("label"),
        predicted=const("label"),
    ),
    "Array": ARRAY,
    "PixelType": call("PixelType.int8"),
    "Algorithm": {"functionDefinitionValue": {"argumentNames": ["x"], "body": "x"}},
    "Blob": call("Blob", url=const("x")),
    "Object": const("T/a"),
}
LISTS = {
    "String": const(["a", "b"]),
    "Image": several(IMAGE, IMAGE),
    "Geometry": several(BOX, BOX),
    "Filter": several(VALUES["Filter"]),
    "Array": several(ARRAY, ARRAY),
    "List": const([[1, 2], [3, 4]]),
    "Element": several(FEATURE),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_function_fails_without_words(world: Earth, family: str) -> None:
    "Bugs show as 'Internal error' or as other exceptions; refusals begin with the function."
    for name in sorted(load_all()):
        if name.partition(".")[0] != family:
            continue
        for every in (False, True):
            given = {
                a.name: LISTS.get(a.of, VALUES[a.type]) if a.type == "List" else VALUES[a.type]
                for a in signatures()[name].arguments
                if every or not a.optional
            }
            graph = {
                "result": "0",
                "values": {"0": call(name, **given), "x": {"argumentReference": "x"}},
            }
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    value = world.engine.evaluate(graph)
                    if isinstance(value, Image) and value.bands:
                        render(value, native(16, 16, 3, 3))
                    elif isinstance(value, Collection):
                        value.items()
                    world.engine.to_json(value)
            except EngineError as problem:
                assert "Internal error" not in str(problem), name
                if "aborted after accumulating" not in str(problem):
                    assert str(problem).startswith(name), str(problem)
