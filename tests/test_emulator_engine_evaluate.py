"""Expression graphs: closures, defaults, conversion of arguments, errors, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from emulator_engine_world import DAY, Earth, band, earth, native

from gee.emulator.errors import EngineError
from gee.emulator.evaluate import Evaluator
from gee.emulator.functions import REGISTRY, load_all
from gee.emulator.signatures import signatures


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earth]:
    with earth(tmp_path_factory.mktemp("evaluate")) as found:
        found.put("T/one", band("a", np.arange(64 * 64).reshape(64, 64)), start=DAY, k=1)
        yield found


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def const(value: Any) -> dict[str, Any]:
    return {"constantValue": value}


def run(result: Any, **values: Any) -> Any:
    return Evaluator(None).evaluate({"result": "0", "values": {"0": result, **values}})


def test_every_registered_function_is_earth_engines() -> None:
    "No id of our own, and every one takes the arguments of the list."
    assert not load_all().keys() - signatures().keys()


def test_the_workload_is_implemented_but_for_what_is_named() -> None:
    "What the papers' scripts send (section 6 of the endpoint page); cumulativeCost is to come."
    needed = {
        "Image.load", "ImageCollection.load", "Collection.filter", "Collection.map",
        "reduce.median",
        "ImageCollection.qualityMosaic", "Terrain.slope", "Terrain.aspect", "Image.reduceRegion",
        "Image.fastDistanceTransform", "Image.pixelArea", "Image.resample", "Image.reproject",
        "Classifier.smileCart", "Classifier.train", "Image.stratifiedSample", "Join.apply",
        "Image.parseExpression", "Kernel.fixed", "Collection.reduceToImage",
    }  # fmt: skip
    assert needed <= REGISTRY.keys()


def test_sibling_functions_share_argument_names() -> None:
    "Siblings reuse the names _MAPPING_VAR_0_0 (ee/serializer.py): a node has no one value."
    body = call("Number.add", left={"argumentReference": "x"}, right=const(1))
    first = {"functionDefinitionValue": {"argumentNames": ["x"], "body": "body"}}
    one = call("List.map", list=const([1, 2]), baseAlgorithm=first)
    two = call("List.map", list=const([10, 20]), baseAlgorithm=first)
    assert run(call("List.cat", list=one, other=two), body=body) == [2, 3, 11, 21]


def test_closures_see_the_arguments_around_them() -> None:
    "An inner function uses the outer's argument (reference/rest/v1/Expression)."
    outer = ee_free_map()
    assert outer == [[11, 21], [12, 22]]


def ee_free_map() -> Any:
    inner_body = call(
        "Number.add", left={"argumentReference": "outer"}, right={"argumentReference": "inner"}
    )
    outer_body = call(
        "List.map",
        list=const([10, 20]),
        baseAlgorithm={"functionDefinitionValue": {"argumentNames": ["inner"], "body": "i"}},
    )
    return run(
        call(
            "List.map",
            list=const([1, 2]),
            baseAlgorithm={"functionDefinitionValue": {"argumentNames": ["outer"], "body": "o"}},
        ),
        i=inner_body,
        o=outer_body,
    )


def test_nested_maps_of_the_client(world: Earth) -> None:
    "The same through the client's own serializer."
    rows = ee.List([1, 2]).map(
        lambda a: ee.List([10, 20]).map(lambda b: ee.Number(a).add(ee.Number(b)))
    )
    assert world.info(rows) == [[11, 21], [12, 22]]


def test_all_kinds_of_value_nodes() -> None:
    "integerValue, bytesValue, arrayValue, dictionaryValue (reference/rest/v1/Expression)."
    graph = {
        "dictionaryValue": {
            "values": {
                "long": {"integerValue": "9007199254740993"},
                "bytes": {"bytesValue": "YWI="},
                "list": {"arrayValue": {"values": [const(1), {"valueReference": "two"}]}},
            }
        }
    }
    assert run(graph, two=const(2)) == {"long": 9007199254740993, "bytes": b"ab", "list": [1, 2]}


def test_unknown_and_unimplemented_functions_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    "A function of the list that the registry has not is named."
    load_all()
    monkeypatch.delitem(REGISTRY, "Image.glcmTexture", raising=False)
    with pytest.raises(EngineError, match=r'^"Image.glcmTexture" is not implemented'):
        run(call("Image.glcmTexture", image=const(1), size=const(3)))
    with pytest.raises(EngineError, match=r'is not a function.*"Image.subtract"'):
        run(call("Image.subtrat", image1=const(1)))


def test_errors_name_the_function_once() -> None:
    "Errors carry Function.name: message (section 4.1)."
    broken = call("Dictionary.get", dictionary=const({"a": 1}), key=const("b"))
    with pytest.raises(EngineError) as caught:
        run(call("Number.add", left=broken, right=const(1)))
    assert str(caught.value).startswith("Dictionary.get: Dictionary does not contain key: 'b'")
    assert str(caught.value).count("Dictionary.get:") == 1


def test_missing_and_wrong_arguments() -> None:
    with pytest.raises(EngineError, match=r"Number.add: Parameter 'right' is required and may not"):
        run(call("Number.add", left=const(1)))
    with pytest.raises(EngineError, match=r"Number.add, argument 'left': Invalid type.\nExpected"):
        run(call("Number.add", left=const("x"), right=const(1)))
    with pytest.raises(EngineError, match="Unrecognized arguments"):
        run(call("Number.add", left=const(1), right=const(1), middle=const(1)))


def test_a_graph_that_refers_to_itself_is_refused() -> None:
    with pytest.raises(EngineError, match="refers to itself"):
        run({"valueReference": "a"}, a={"valueReference": "a"})


def test_deep_graphs_are_evaluated(world: Earth) -> None:
    "iterate() nests as deep as its list is long."
    image = ee.Image(
        ee.List.sequence(1, 3000).iterate(
            lambda n, a: ee.Image(a).add(1).updateMask(1), ee.Image(0)
        )
    )
    assert world.data(image, native(1, 1))[0, 0] == 3000


def test_defaults_are_applied_and_typed(world: Earth) -> None:
    "Defaults of algorithms.json: List.sequence step 1, Kernel radius units pixels."
    assert world.info(ee.List.sequence(1, 4)) == [1, 2, 3, 4]


def test_a_shared_mapped_value_is_computed_once_per_binding(world: Earth) -> None:
    "Caching must not hand one element's value to another."
    images = ee.List.sequence(1, 3).map(lambda n: ee.Image.constant(ee.Number(n)).rename("n"))
    summed = ee.ImageCollection.fromImages(images).sum()
    assert world.data(summed, native(2, 2)).tolist() == [[6, 6], [6, 6]]


def test_image_json(world: Earth) -> None:
    "getInfo of an image (section 1.2)."
    info = world.info(ee.Image("T/one"))
    assert info["type"] == "Image"
    assert info["id"] == "T/one"
    assert info["bands"][0]["dimensions"] == [64, 64]
    assert info["bands"][0]["crs"] == "EPSG:32633"
    assert info["bands"][0]["crs_transform"] == [10, 0, 500000, 0, -10, 6700000]
    assert info["properties"]["system:index"] == "one"
    assert info["properties"]["system:time_start"] == DAY
    assert info["properties"]["system:footprint"]["type"] in ("Polygon", "LinearRing")
    json.dumps(info)


def test_empty_collections_have_no_features_member(world: Earth) -> None:
    "Section 4.2, iterate row."
    empty = ee.FeatureCollection([]).filter(ee.Filter.eq("a", 1))
    assert "features" not in world.info(empty)


def test_not_found(world: Earth) -> None:
    with pytest.raises(EngineError, match=r"Image.load: Image asset 'no/such' not found"):
        world.value(ee.Image("no/such"))


def test_asset_names_mean_the_same(world: Earth) -> None:
    "projects/earthengine-public/assets/X is X (section 1.2)."
    first = world.data(ee.Image("T/one"), native(2, 2))
    other = world.data(ee.Image("projects/earthengine-public/assets/T/one"), native(2, 2))
    assert (first == other).all()


def test_feature_pages(world: Earth) -> None:
    "Pages put together are the collection."
    points = ee.FeatureCollection(
        [ee.Feature(ee.Geometry.Point([i, 0]), {"n": i}) for i in range(7)]
    )
    value = world.value(points)
    seen, token = [], None
    while True:
        page, token = world.engine.feature_pages(value, 3, token)
        assert len(page) <= 3
        seen += [f["properties"]["n"] for f in page]
        if token is None:
            break
    assert seen == list(range(7))


def test_kept_values_follow_the_catalogue(world: Earth) -> None:
    "The same graph is evaluated once while the assets stay, anew when one changes."
    world.catalog.put_collection("T/kept")
    world.put("T/kept/a", band("v", np.full((4, 4), 1, np.uint8)), start=1)
    total = ee.ImageCollection("T/kept").map(lambda i: i.add(0).multiply(1).unmask(0, False)).sum()
    graph = world.graph(total.add(0).subtract(0).multiply(1).add(0))
    first = world.engine.evaluate(graph)
    assert world.engine.evaluate(graph) is first

    def value() -> float:
        from gee.emulator.pixels import render

        return float(render(world.engine.evaluate(graph), native(1, 1))["v"][0][0, 0])

    assert value() == 1
    world.put("T/kept/b", band("v", np.full((4, 4), 5, np.uint8)), start=2)
    assert value() == 6
    world.put("T/kept/b", band("v", np.full((4, 4), 7, np.uint8)), start=2)
    assert value() == 8
    world.catalog.delete("T/kept/a")
    assert value() == 7


def test_whole_constants_are_integers(world: Earth) -> None:
    "Constants are protobuf values: 5 and 5.0 are one number on the wire."
    for constant in (5, 5.0):
        found = world.info(ee.Image(constant))["bands"][0]["data_type"]
        assert found == {"type": "PixelType", "precision": "int", "min": 5, "max": 5}
