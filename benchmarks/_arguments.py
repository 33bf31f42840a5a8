"""Arguments of every type that Earth Engine's functions take: plain, extreme and foreign."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from _bodies import CRS, S2

FOREIGN = (
    "../../../../etc/passwd", "/etc/passwd", "http://127.0.0.1:1/x", "file:///etc/passwd",
    "users/me/dem\x00.tif", "users/../users/me/dem", "projects/x/assets/../../y", "", " ", "..",
    "C:\\windows\\x", "users/me/%2e%2e/dem", "ÿþ", "users/me/\u202edem", "a" * 5000,
    "gs://bucket/x.tif", "/vsicurl/http://127.0.0.1:1/x.tif", "users//me/dem", "//host/share",
)  # fmt: skip
EXTREME = (
    0, -1, 1, 2, -0.0, 0.5, 1e-300, -1e-300, 1e300, -1e300, 1e9, -1e9, 1e12, 2**31, -(2**31) - 1,
    2**53, 2**63, 2**64, -(2**63), 10**18, 10**400 * 0 + 10**300, 5000, 100_000, 1e6, 3.7, 90, 181,
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, "", "x", "NaN", "Infinity", [], {}, [[]], [None], [1, "a", None],
    {"a": 1}, {"type": "Point", "coordinates": ["a"]}, {"type": "Polygon", "coordinates": []},
    {"type": "Feature"}, "2020-13-45", "EPSG:999999", "é" * 50, [[[0, 0], [1, 1]]], -5, 1.5,
    {"type": "Date", "value": 1e300}, {"type": "Polygon", "coordinates": [[[0, 0], [0, 0]]]},
)  # fmt: skip


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the node of a function call."""
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def constant(value: Any) -> dict[str, Any]:
    """Return the node of a constant."""
    return {"constantValue": value}


def _a(*values: Any) -> Callable[[Any, str], dict[str, Any]]:
    return lambda s, of: constant(copy.deepcopy(s.dice.choice(values)))


def _calls(*names: str) -> Callable[[Any, str], dict[str, Any]]:
    def make(s: Any, of: str) -> dict[str, Any]:
        return s.typed(s.dice.choice(names))

    return make


def _image(s: Any, of: str) -> dict[str, Any]:
    return s.dice.choice([
        call("Image.load", {"id": constant("users/me/dem")}),
        call("Image.load", {"id": constant("users/me/marks")}),
        call("Image.constant", {"value": constant(s.dice.choice([1, [1, 2, 3], 0.5, []]))}),
        call("Image.rename", {"input": call("Image.constant", {"value": constant([1, 2])}),
                              "names": constant(["a", "b"])}),
        call("Image.mask", {"image": call("Image.load", {"id": constant("users/me/dem")}),
                            "mask": call("Image.load", {"id": constant("users/me/marks")})}),
        call("Image.toArray", {"image": call("Image.constant", {"value": constant([1, 2])})}),
    ])  # fmt: skip


def _listed(s: Any, of: str) -> dict[str, Any]:
    if of in MAKERS and of not in ("List", "Object") and s.dice.random() < 0.7:
        inner = [MAKERS[of](s, "") for _ in range(s.dice.randrange(4))]
        return {"arrayValue": {"values": inner}}
    return _a(
        [], [1, 2, 3], ["a", "b"], [[1, 2], [3, 4]], [None], [0], ["B.*"], [1, "a"], [[]],
        [0.5, -1e300], [[[1]]], list(range(50)), [True], [{"a": 1}], ["kind", "name"], ["c"],
        [10, 0, 500000, 0, -10, 6762000], [[0, 0], [1, 1]], ["elevation"],
    )(s, of)  # fmt: skip


def _function(s: Any, of: str) -> dict[str, Any]:
    # A function needs a body among the values; one of the values is always "0".
    return {"functionDefinitionValue": {"argumentNames": ["a", "b"][: s.dice.randrange(3)],
                                        "body": "0"}}  # fmt: skip


MAKERS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "Number": _a(*EXTREME, 1, 2, 3, 10, 100),
    "Float": _a(*EXTREME, 0.1, 0.5, 10.0, "NaN", "Infinity"),
    "Integer": _a(*EXTREME, 1, 2, 3, 10, 100),
    "Long": _a(*EXTREME, 1, 2, 3, 10, 100),
    "String": _a(
        "",
        "a",
        "B4",
        "kind",
        "mean",
        "first",
        "meters",
        "EPSG:4326",
        "2020-01-01",
        "%d",
        "[",
        "(a",
        "day",
        "system:index",
        "users/me/dem",
        "bilinear",
        ".geo",
        "x" * 300,
        "é\n\t",
        "a.b",
        "elevation",
        "max",
        "euclidean",
        "yyyy",
        "B4 + 1",
        "1 / 0",
        "c",
    ),
    "Boolean": _a(True, False),
    "List": _listed,
    "Dictionary": _a(
        {},
        {"a": 1},
        {"type": "Point"},
        {"a": [1, {"b": None}]},
        {"min": 0, "max": 1},
        {"elevation": "int"},
        {"kind": 5, "": 2},
    ),
    "Image": _image,
    "ImageCollection": lambda s, of: s.dice.choice(
        [
            call("ImageCollection.load", {"id": constant(S2)}),
            call(
                "ImageCollection.fromImages",
                {"images": {"arrayValue": {"values": [_image(s, "")]}}},
            ),
            call("ImageCollection.fromImages", {"images": constant([])}),
        ]
    ),
    "FeatureCollection": lambda s, of: s.dice.choice(
        [
            call("Collection.loadTable", {"tableId": constant("users/me/lines")}),
            call("Collection", {"features": constant([])}),
            call(
                "Collection",
                {
                    "features": {
                        "arrayValue": {
                            "values": [
                                call(
                                    "Feature",
                                    {
                                        "geometry": MAKERS["Geometry"](s, ""),
                                        "metadata": constant({"kind": 1, "c": 0, "elevation": 3.5}),
                                    },
                                ),
                                call(
                                    "Feature",
                                    {
                                        "geometry": constant(None),
                                        "metadata": constant({"kind": "x", "c": None}),
                                    },
                                ),
                            ]
                        }
                    }
                },
            ),
        ]
    ),
    "Feature": lambda s, of: call(
        "Feature",
        {
            "geometry": MAKERS["Geometry"](s, ""),
            "metadata": constant(s.dice.choice([{}, {"a": 1}, {"kind": "x", "c": 1}])),
        },
    ),
    "Element": lambda s, of: s.dice.choice([MAKERS["Feature"], _image])(s, of),
    "Geometry": lambda s, of: s.dice.choice(
        [
            call("GeometryConstructors.Point", {"coordinates": constant([15.004, 60.995])}),
            call("GeometryConstructors.Point", {"coordinates": constant([500, -1000])}),
            call(
                "GeometryConstructors.Rectangle",
                {"coordinates": constant([15.003, 60.99, 15.01, 60.995])},
            ),
            call(
                "GeometryConstructors.LineString",
                {"coordinates": constant([[15, 60.99], [15.01, 61]])},
            ),
            call(
                "GeometryConstructors.Polygon",
                {"coordinates": constant([[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]])},
            ),
            call("GeometryConstructors.MultiGeometry", {"geometries": constant([])}),
            call(
                "GeometryConstructors.Polygon",
                {"coordinates": constant([[[-180, -90], [180, -90], [180, 90], [-180, 90]]])},
            ),
            constant({"type": "Point", "coordinates": [0, 0]}),
        ]
    ),
    "Projection": lambda s, of: call(
        "Projection",
        {
            "crs": constant(
                s.dice.choice([CRS, "EPSG:4326", "EPSG:3857", "SR-ORG:6974", "EPSG:3413"])
            ),
            **(
                {}
                if s.dice.random() < 0.5
                else {
                    "transform": constant(
                        s.dice.choice([[10, 0, 0, 0, -10, 0], [0] * 6, [1, 2], [1e300] * 6])
                    )
                }
            ),
        },
    ),
    "ErrorMargin": lambda s, of: call(
        "ErrorMargin", {"value": constant(s.dice.choice([1, 0, 1e-9, 1e9, -1]))}
    ),
    "Date": lambda s, of: call(
        "Date", {"value": constant(s.dice.choice(["2020-01-31", 0, -1e15, 1e17]))}
    ),
    "DateRange": lambda s, of: call(
        "DateRange",
        {"start": constant("2020-01-01"), "end": constant(s.dice.choice(["2021-01-01", None]))},
    ),
    "Filter": _calls(
        "Filter.always",
        "Filter.eq",
        "Filter.lt",
        "Filter.inList",
        "Filter.intersects",
        "Filter.stringContains",
        "Filter.notNull",
        "Filter.maxDifference",
        "Filter.never",
    ),
    "Reducer": _calls(
        "Reducer.mean",
        "Reducer.toList",
        "Reducer.percentile",
        "Reducer.histogram",
        "Reducer.linearFit",
        "Reducer.minMax",
        "Reducer.frequencyHistogram",
        "Reducer.countDistinct",
        "Reducer.first",
        "Reducer.linearRegression",
        "Reducer.sum",
    ),
    "Kernel": _calls(
        "Kernel.square",
        "Kernel.circle",
        "Kernel.plus",
        "Kernel.sobel",
        "Kernel.fixed",
        "Kernel.gaussian",
        "Kernel.euclidean",
    ),
    "Array": lambda s, of: call(
        "Array",
        {
            "values": constant(
                s.dice.choice(
                    [[1], [[1, 2], [3, 4]], 5, [[0.5]], [1, 2, 3], [[[1]]], [[0, 0], [0, 0]]]
                )
            )
        },
    ),
    "PixelType": _a("int", "float", "uint8", "double", "nonsense"),
    "Algorithm": _function,
    "Join": _calls(
        "Join.simple",
        "Join.inner",
        "Join.saveAll",
        "Join.saveBest",
        "Join.inverted",
        "Join.saveFirst",
    ),
    "Classifier": _calls(
        "Classifier.smileCart",
        "Classifier.smileRandomForest",
        "Classifier.minimumDistance",
        "Classifier.smileNaiveBayes",
        "Classifier.libsvm",
        "Classifier.smileKNN",
    ),
    "Clusterer": _calls("Clusterer.wekaKMeans", "Clusterer.wekaCascadeKMeans"),
    "ConfusionMatrix": lambda s, of: call(
        "ConfusionMatrix",
        {
            "array": call(
                "Array", {"values": constant(s.dice.choice([[[1, 0], [2, 3]], [[1, 2]], [1], []]))}
            )
        },
    ),
}
