"""Requests that are wrong, or merely strange, made of requests that were right."""

from __future__ import annotations

import copy
import random
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from _arguments import EXTREME, FOREIGN, MAKERS, ODD, call, constant
from _bodies import CRS, Body

from gee.emulator.signatures import signatures


@dataclass
class Spoiler:
    """Makes requests that are wrong, or merely strange, of requests that were right.

    Parameters
    ----------
    bodies : list of Body
    seed : int
    """

    bodies: list[Body]
    seed: int = 0
    pool: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.graphs = [b for b in self.bodies if isinstance(_values_of(b), dict)]
        self.names = sorted(signatures())
        for body in self.graphs:
            self._gather(body)

    def _gather(self, body: Body) -> None:
        """Put the calls of a graph into the pool, by what they return, references resolved."""
        values = _values_of(body)
        for node in _nodes(values):
            spec = node.get("functionInvocationValue")
            known = signatures().get(spec.get("functionName")) if spec else None
            if known is None:
                continue
            whole = _inlined(node, values)
            if whole is not None:
                self.pool.setdefault(known.returns, []).append(whole)

    # ---- one request

    def one(self) -> Body:
        """Return a new request."""
        how = self.dice.choice(self._ways())
        for _ in range(20):
            body = how(copy.deepcopy(self.dice.choice(self.graphs)))
            if body is not None:
                body.how = how.__name__.strip("_")
                return body
        return self._cycle(copy.deepcopy(self.graphs[0]))

    def _ways(self) -> list[Callable[[Body], Body | None]]:
        wrong = [
            self._cycle, self._dangling, self._no_function, self._unknown_argument,
            self._no_argument, self._scalar_node, self._two_kinds, self._truncated,
            self._not_utf8, self._literal,
            self._deep_json, self._deep_nodes, self._bad_expression, self._twice, self._bad_body,
            self._bad_definition, self._bad_grid, self._foreign_load,
        ]  # fmt: skip
        strange = [
            self._extreme, self._odd_constant, self._swapped, self._spliced, self._other_function,
            self._typed_call, self._typed_call, self._typed_call, self._foreign_string,
            self._argument_of_other_type, self._strange_field, self._strange_request,
            self._doubling, self._chain, self._grown,
        ]  # fmt: skip
        return wrong + strange

    # ---- wrong whatever it means

    def _cycle(self, body: Body) -> Body:
        values = _values_of(body)
        key = self.dice.choice(list(values))
        other = self.dice.choice(list(values))
        values[key] = {"arrayValue": {"values": [{"valueReference": other}]}}
        values[other] = {"dictionaryValue": {"values": {"a": {"valueReference": key}}}}
        body.content["expression"]["result"] = key
        return _wrong(body)

    def _dangling(self, body: Body) -> Body:
        node = self._node(body)
        node.clear()
        node["valueReference"] = self.dice.choice(["nowhere", "999999", "", "../0"])
        return _wrong(body)

    def _no_function(self, body: Body) -> Body | None:
        spec = self._call(body)
        if spec is None:
            return None
        name = self.dice.choice(
            ["Nothing", "", "image.add", "Image.add ", "__import__", "x" * 9999]
        )
        spec["functionName"] = name
        return _wrong(self._reached(body, spec))

    def _unknown_argument(self, body: Body) -> Body | None:
        spec = self._call(body)
        if spec is None:
            return None
        spec.setdefault("arguments", {})[self.dice.choice(["nonsense", "", "self", "🛰"])] = (
            constant(1)
        )
        return _wrong(self._reached(body, spec))

    def _no_argument(self, body: Body) -> Body | None:
        spec = self._call(body)
        if spec is None:
            return None
        known = signatures()[spec["functionName"]]
        needed = [a.name for a in known.arguments if not a.optional]
        if not needed:
            return None
        spec["arguments"].pop(self.dice.choice(needed), None)
        return _wrong(self._reached(body, spec))

    def _scalar_node(self, body: Body) -> Body:
        values = _values_of(body)
        values[self.dice.choice(list(values))] = self.dice.choice([1, "x", None, [], [{}], True])
        return _wrong(body)

    def _two_kinds(self, body: Body) -> Body:
        node = self._node(body)
        node["constantValue"] = 1
        node[self.dice.choice(["arrayValue", "valueReference", "unknownValue"])] = "0"
        return _wrong(body)

    def _truncated(self, body: Body) -> Body:
        text = body.encoded()
        body.content = text[: self.dice.randrange(1, len(text))]
        return _wrong(body)

    def _not_utf8(self, body: Body) -> Body:
        text = body.encoded()
        at = text.index(b'"') + 1
        bad = self.dice.choice([b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\x00", b"\\ud800"])
        body.content = text[:at] + bad + text[at:]
        if self.dice.random() < 0.2:
            body.content = text.decode().encode(self.dice.choice(["utf-16", "utf-32"]))
        return _wrong(body)

    def _literal(self, body: Body) -> Body | None:
        node = self._constant(body)
        if node is None:
            return None
        node["constantValue"] = "@@"
        bad = self.dice.choice(
            [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"9" * 600, b"'"]
        )
        body.content = body.encoded().replace(b'"@@"', bad)
        return _wrong(body)

    def _deep_json(self, body: Body) -> Body | None:
        node = self._constant(body)
        if node is None:
            return None
        node["constantValue"] = "@@"
        n = self.dice.choice([1000, 5000, 100_000])
        deep = self.dice.choice([b"[" * n + b"]" * n, b'{"a":' * n + b"1" + b"}" * n])
        body.content = body.encoded().replace(b'"@@"', deep)
        return _wrong(body)

    def _deep_nodes(self, body: Body) -> Body:
        n = self.dice.choice([1000, 20_000])
        start, end = self.dice.choice([
            (b'{"arrayValue":{"values":[', b"]}}"),
            (b'{"functionInvocationValue":{"functionName":"Image.abs",'
             b'"arguments":{"value":', b"}}}"),
        ])  # fmt: skip
        deep = start * n + b'{"constantValue":1}' + end * n
        body.content = b'{"expression":{"result":"0","values":{"0":' + deep + b"}}}"
        return _wrong(body)

    def _bad_expression(self, body: Body) -> Body:
        whole = body.content["expression"]
        field_ = self.dice.choice(["values", "result", "expression"])
        bad = self.dice.choice([None, [], 3, "", True, {}, "x" * 100])
        if field_ == "expression":
            body.content["expression"] = bad
        else:
            whole[field_] = bad
        if self.dice.random() < 0.3:
            body.content.pop("expression", None)
        return _wrong(body)

    def _twice(self, body: Body) -> Body:
        text = body.encoded()
        body.content = b'{"expression":1,' + text[1:]
        return _wrong(body)

    def _bad_body(self, body: Body) -> Body:
        body.content = self.dice.choice(
            [b"[]", b"null", b"1", b'"x"', b"{", b"\x00" * 50, b"a=b&c=d", b"{}", b"<xml/>", b""]
        )
        return _wrong(body)

    def _bad_definition(self, body: Body) -> Body:
        values = _values_of(body)
        bad = self.dice.choice([
            {"argumentNames": "x", "body": "0"}, {"argumentNames": ["a", "a"], "body": "0"},
            {"body": 3}, {"argumentNames": [1], "body": "0"}, {"argumentNames": ["a"]}, [], "0",
            {"argumentNames": ["a"], "body": "no such"},
        ])  # fmt: skip
        values["bad"] = {"functionDefinitionValue": bad}
        return _wrong(body)

    def _bad_grid(self, body: Body) -> Body | None:
        grid = body.content.get("grid")
        if not isinstance(grid, dict) or "dimensions" not in grid:
            return None
        bad: Any = self.dice.choice([0, -1, -(2**40), 2**31, 2**62, 1e18, "x", None, [], {}, "NaN"])
        kind = self.dice.choice(["dimensions", "both", "affine", "crs", "whole"])
        if kind == "dimensions":
            if bad is None:
                bad = -3
            grid["dimensions"][self.dice.choice(["width", "height"])] = bad
        elif kind == "both":
            grid["dimensions"] = self.dice.choice(
                [[1, 1], "5x5", 5, {"width": 10**9, "height": 10**9}]
            )
        elif kind == "affine":
            bad = self.dice.choice(["NaN", "Infinity", "x", [], {}, 1e308])
            grid["affineTransform"][self.dice.choice(["scaleX", "scaleY"])] = bad
        elif kind == "crs":
            grid["crsCode"] = self.dice.choice(["EPSG:0", "x", 7, [], "EPSG:" + "9" * 999, "é", {}])
        else:
            body.content["grid"] = self.dice.choice([[], "grid", 5, True])
        return _wrong(body)

    def _foreign_load(self, body: Body) -> Body:
        names = ("Image.load", "ImageCollection.load", "Collection.loadTable", "Image.loadGeoTIFF")
        name = self.dice.choice(names)
        first = signatures()[name].arguments[0].name
        found: dict[str, Any] = call(name, {first: constant(self.dice.choice(FOREIGN))})
        if name != "Image.load" and "GeoTIFF" not in name:
            found = call("Collection.size", {"collection": found})
        elif "pixels" not in body.path.lower():
            found = call("Image.bandNames", {"image": found})
        body.content["expression"] = {"result": "0", "values": {"0": found}}
        # What an export reads is looked for when it runs.
        return body if "export" in body.path else _wrong(body)

    # ---- strange, perhaps right

    def _extreme(self, body: Body) -> Body | None:
        changed = 0
        for node in list(_nodes(_values_of(body))):
            value = node.get("constantValue")
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                if self.dice.random() < 0.25:
                    node["constantValue"] = self.dice.choice(EXTREME)
                    changed += 1
            elif isinstance(value, list) and value and self.dice.random() < 0.2:
                _scatter(value, self.dice)
                changed += 1
        return body if changed else None

    def _odd_constant(self, body: Body) -> Body | None:
        node = self._constant(body)
        if node is None:
            return None
        node["constantValue"] = copy.deepcopy(self.dice.choice(ODD))
        return body

    def _swapped(self, body: Body) -> Body:
        one, other = self._node(body), self._node(body)
        kept = copy.deepcopy(one)
        taken = copy.deepcopy(other)
        one.clear()
        one.update(taken)
        if other is not one:
            other.clear()
            other.update(kept)
        return body

    def _spliced(self, body: Body) -> Body:
        node = self._node(body)
        kind = self.dice.choice(list(self.pool))
        node.clear()
        node.update(copy.deepcopy(self.dice.choice(self.pool[kind])))
        return body

    def _other_function(self, body: Body) -> Body | None:
        spec = self._call(body)
        if spec is None:
            return None
        known = signatures()[self.dice.choice(self.names)]
        given = list((spec.get("arguments") or {}).values())
        spec["functionName"] = known.name
        spec["arguments"] = {
            a.name: given[k] if k < len(given) else self.value(a.type, a.of)
            for k, a in enumerate(known.arguments)
            if k < len(given) or not a.optional or self.dice.random() < 0.5
        }
        return body

    def _typed_call(self, body: Body) -> Body:
        """Any function of the list, with arguments of the right types."""
        made = self.typed(self.dice.choice(self.names))
        body.content["expression"] = {"result": "0", "values": {"0": made}}
        return body

    def typed(self, name: str) -> dict[str, Any]:
        """Return a call of a function with arguments of the types that it takes."""
        known = signatures()[name]
        return call(
            name,
            {
                a.name: self.value(a.type, a.of)
                for a in known.arguments
                if not a.optional or self.dice.random() < 0.5
            },
        )

    def _argument_of_other_type(self, body: Body) -> Body | None:
        spec = self._call(body)
        if spec is None or not spec.get("arguments"):
            return None
        name = self.dice.choice(list(spec["arguments"]))
        spec["arguments"][name] = self.value(self.dice.choice(list(MAKERS)), "Object")
        return body

    def _foreign_string(self, body: Body) -> Body | None:
        texts = [n for n in _nodes(_values_of(body)) if isinstance(n.get("constantValue"), str)]
        if not texts:
            return None
        self.dice.choice(texts)["constantValue"] = self.dice.choice(
            (*FOREIGN, "(a+)+$", "((a|a)*)*b", ".*" * 20, "[", "%s%n%d", "%99999999d", "{{", "\\")
        )
        return body

    def _strange_field(self, body: Body) -> Body:
        """A field of the request itself."""
        fields = [k for k in body.content if k != "expression"]
        fields += [
            "fileFormat", "bandIds", "visualizationOptions", "pageSize", "pageToken", "workloadTag",
            "selectors", "filename", "maxPixels", "requestId", "priority", "fileExportOptions",
            "assetExportOptions", "description", "region", "timeout", "grid",
        ]  # fmt: skip
        name = self.dice.choice(fields)
        value = body.content.get(name)
        if isinstance(value, dict) and value and self.dice.random() < 0.7:
            value[self.dice.choice(list(value))] = copy.deepcopy(self.dice.choice(ODD + EXTREME))
        else:
            body.content[name] = copy.deepcopy(self.dice.choice(ODD + EXTREME))
        return body

    def _strange_request(self, body: Body) -> Body:
        """A method other than those with graphs, its address or its fields changed."""
        body = copy.deepcopy(self.dice.choice(self.bodies))
        if self.dice.random() < 0.5:
            parts = body.path.split("/")
            at = self.dice.randrange(2, len(parts)) if len(parts) > 2 else len(parts) - 1
            parts[at] = urllib.parse.quote(self.dice.choice(FOREIGN)[:200], safe="%:")
            body.path = "/".join(parts) or "/"
        if self.dice.random() < 0.3:
            body.path += ("&" if "?" in body.path else "?") + self.dice.choice([
                "pageSize=x", "pageSize=-1", "pageToken=x", "filter=(", "filter=" + "(" * 500,
                "filter=a%3D%3D%22", "pageSize=99999999999999999999", "fields=x", "alt=media",
                "view=NONSENSE", "filter=" + "NOT%20" * 900 + "a%3D1", "assetId=../../x",
                "assetId=%00", "updateMask=properties.%00", "assetId=" + "a/" * 300,
            ])  # fmt: skip
        if self.dice.random() < 0.2:
            body.method = self.dice.choice(["GET", "POST", "PATCH", "DELETE", "PUT"])
        if isinstance(body.content, dict) and body.content and self.dice.random() < 0.6:
            name = self.dice.choice(list(body.content))
            body.content[name] = copy.deepcopy(self.dice.choice(ODD + EXTREME))
        return body

    def _doubling(self, body: Body) -> Body:
        """A value that doubles with every step: lists, texts, bands, collections, shapes."""
        steps = self.dice.choice([10, 40, 200])
        kind, start, double = self.dice.choice([
            ("List", constant([1, 2]), lambda r: call("List.cat", {"list": r, "other": r})),
            ("List", constant([1, 2]), lambda r: {"arrayValue": {"values": [r, r]}}),
            ("String", constant("ab"), lambda r: call("String.cat", {"string1": r, "string2": r})),
            ("Image", call("Image.constant", {"value": constant(1)}),
             lambda r: call("Image.addBands", {"dstImg": r, "srcImg": r})),
            ("Image", call("Image.load", {"id": constant("users/me/dem")}),
             lambda r: call("Image.add", {"image1": r, "image2": r})),
            ("FeatureCollection",
             call("Collection.loadTable", {"tableId": constant("users/me/lines")}),
             lambda r: call("Collection.merge", {"collection1": r, "collection2": r})),
            ("Reducer", call("Reducer.mean", {}),
             lambda r: call("Reducer.combine", {"reducer1": r, "reducer2": r,
                                                "outputPrefix": constant("x")})),
            ("Filter", call("Filter.always", {}),
             lambda r: call("Filter.and", {"filters": {"arrayValue": {"values": [r, r]}}})),
            ("Geometry", call("GeometryConstructors.Point", {"coordinates": constant([15, 61])}),
             lambda r: call("GeometryConstructors.MultiGeometry",
                            {"geometries": {"arrayValue": {"values": [r, r]}}})),
            ("Array", call("Array", {"values": constant([1, 2])}),
             lambda r: call("Array.cat", {"arrays": {"arrayValue": {"values": [r, r]}},
                                          "axis": constant(0)})),
            ("Number", constant(3), lambda r: call("Number.multiply", {"left": r, "right": r})),
            ("Number", constant(3), lambda r: call("Number.pow", {"left": r, "right": r})),
        ])  # fmt: skip
        values = {"0": start}
        for step in range(1, steps):
            values[str(step)] = double({"valueReference": str(step - 1)})
        last = {"valueReference": str(steps - 1)}
        ends = [last]
        if kind in ("List", "String"):
            ends.append(call(f"{kind}.length", {"list" if kind == "List" else "string": last}))
            if kind == "List":
                ends.append(call("List.flatten", {"list": last}))
                ends.append(call("List.equals", {"list": last, "other": last}))
                ends.append(call("List.contains", {"list": last, "element": last}))
        elif kind == "FeatureCollection":
            ends.append(call("Collection.size", {"collection": last}))
            ends.append(call("Collection.geometry", {"collection": last}))
        elif kind == "Filter":
            ends.append(call("Collection.filter", {
                "collection": call("Collection.loadTable", {"tableId": constant("users/me/lines")}),
                "filter": last,
            }))  # fmt: skip
        elif kind == "Reducer":
            ends.append(call("List.reduce", {"list": constant([1, 2, 3]), "reducer": last}))
        values["end"] = self.dice.choice(ends)
        body.content["expression"] = {"result": "end", "values": values}
        return body

    def _chain(self, body: Body) -> Body:
        """A long chain of references."""
        steps = self.dice.choice([50, 1000, 3000, 8000])
        name, argument, start = self.dice.choice([
            ("Number.abs", "input", constant(1)),
            ("Image.abs", "value", call("Image.constant", {"value": constant(1)})),
            ("Collection.distinct", "collection",
             call("Collection.loadTable", {"tableId": constant("users/me/lines")})),
            ("List.reverse", "list", constant([1])),
            ("Filter.not", "filter", call("Filter.always", {})),
            ("Geometry.convexHull", "geometry",
             call("GeometryConstructors.Point", {"coordinates": constant([15, 61])})),
        ])  # fmt: skip
        values = {"0": start}
        for step in range(1, steps):
            given = {argument: {"valueReference": str(step - 1)}}
            if name == "Collection.distinct":
                given["properties"] = constant(["kind"])
            values[str(step)] = call(name, given)
        body.content["expression"] = {"result": str(steps - 1), "values": values}
        return body

    def _grown(self, body: Body) -> Body:
        """A size that no one means."""
        big = self.dice.choice([10**6, 10**7, 10**9, 10**12, 2**62])
        point = call("GeometryConstructors.Point", {"coordinates": constant([15, 61])})
        box = call("GeometryConstructors.Rectangle", {"coordinates": constant([14, 60, 16, 62])})
        dem = call("Image.load", {"id": constant("users/me/dem")})
        n = constant(big)
        one = constant(1)
        found = self.dice.choice([
            call("List.sequence", {"start": one, "end": n}),
            call("List.sequence", {"start": one, "count": n}),
            call("List.repeat", {"value": one, "count": n}),
            call("Array.identity", {"size": n}),
            call("Array.repeat", {"array": call("Array", {"values": constant([1])}),
                                  "axis": constant(0), "copies": n}),
            call("Array.pad", {"array": call("Array", {"values": constant([1])}),
                               "lengths": constant([big, big])}),
            call("Array.repeat", {"array": call("Array", {"values": constant([1])}),
                                  "axis": n, "copies": constant(2)}),
            call("Number.pow", {"left": n, "right": n}),
            call("Number.leftShift", {"left": one, "right": n}),
            call("Number.format", {"number": one, "pattern": constant(f"%{big}d")}),
            call("Number.format", {"number": one, "pattern": constant(f"%.{big}f")}),
            call("FeatureCollection.randomPoints", {"region": box, "points": n}),
            call("Collection.size", {"collection": call(
                "FeatureCollection.randomPoints", {"region": box, "points": n})}),
            call("Geometry.buffer", {"geometry": point, "distance": n}),
            call("Geometry.buffer", {"geometry": point, "distance": one,
                                     "maxError": constant(1.0 / big)}),
            call("Geometry.coveringGrid", {"geometry": box, "proj": call(
                "Projection", {"crs": constant(CRS)}), "scale": constant(1.0 / big)}),
            call("Geometry.cutLines", {"geometry": call("GeometryConstructors.LineString", {
                "coordinates": constant([[0, 0], [50, 50]])}), "distances": constant([1.0 / big])}),
            call("Kernel.square", {"radius": n}),
            call("Kernel.gaussian", {"radius": n, "sigma": one}),
            call("Kernel.fixed", {"width": n, "height": n, "weights": constant([[1]])}),
            call("Kernel.rotate", {"kernel": call("Kernel.square", {"radius": one}),
                                   "rotations": n}),
            call("Image.reduceRegion", {"image": call("Image.focalMean", {
                "image": dem, "radius": n}), "reducer": call("Reducer.mean", {}),
                "geometry": box, "scale": constant(1000)}),
            call("Image.reduceRegion", {"image": dem, "reducer": call("Reducer.mean", {}),
                                        "geometry": box, "scale": constant(1.0 / big)}),
            call("Image.reduceRegion", {"image": dem, "reducer": call("Reducer.toList", {}),
                                        "geometry": box, "scale": constant(10),
                                        "maxPixels": n}),
            call("Image.sample", {"image": dem, "region": box, "scale": one, "numPixels": n}),
            call("Image.stratifiedSample", {"image": dem, "numPoints": n, "region": box,
                                            "scale": one}),
            call("Image.sampleRectangle", {"image": dem, "region": box}),
            call("Image.reduceToVectors", {"image": dem, "geometry": box, "scale": one,
                                           "maxPixels": n}),
            call("Date.advance", {"date": call("Date", {"value": constant("2020-01-01")}),
                                  "delta": n, "unit": constant("year")}),
            call("Date", {"value": n}),
            call("Reducer.percentile", {"percentiles": call(
                "List.sequence", {"start": constant(0), "end": constant(100),
                                  "step": constant(1.0 / big)})}),
            call("Reducer.repeat", {"reducer": call("Reducer.mean", {}), "times": n}),
            call("List.reduce", {"list": constant([1, 2, 3]), "reducer": call(
                "Reducer.fixedHistogram", {"min": constant(0), "max": one, "steps": n})}),
            call("String.replace", {"input": constant("a" * 5000), "regex": constant("a"),
                                    "replacement": constant("b" * 50_000),
                                    "flags": constant("g")}),
            call("String.match", {"input": constant("a" * 2000), "regex": constant("(a+)+$b")}),
            call("Image.connectedPixelCount", {"input": dem, "maxSize": n}),
            call("Image.reproject", {"image": dem, "crs": call(
                "Projection", {"crs": constant(CRS)}), "scale": constant(1.0 / big)}),
        ])  # fmt: skip
        body.content["expression"] = {"result": "0", "values": {"0": found}}
        return body

    # ---- parts

    def _node(self, body: Body) -> dict[str, Any]:
        return self.dice.choice(list(_nodes(_values_of(body))))

    def _constant(self, body: Body) -> dict[str, Any] | None:
        found = [n for n in _nodes(_values_of(body)) if "constantValue" in n]
        return self.dice.choice(found) if found else None

    def _call(self, body: Body) -> dict[str, Any] | None:
        found = [
            n["functionInvocationValue"]
            for n in _nodes(_values_of(body))
            if "functionName" in n.get("functionInvocationValue", {})
        ]
        return self.dice.choice(found) if found else None

    def _reached(self, body: Body, spec: dict[str, Any]) -> Body:
        """Make a call the result, so that it is read whatever the rest of the graph does."""
        values = _values_of(body)
        values["wanted"] = {"functionInvocationValue": spec}
        body.content["expression"]["result"] = "wanted"
        return body

    def value(self, kind: str, of: str) -> dict[str, Any]:
        """Return a node of a type: one that was recorded, or one made up."""
        found = self.pool.get(kind)
        if found and self.dice.random() < 0.6:
            return copy.deepcopy(self.dice.choice(found))
        if kind == "Object" or kind not in MAKERS:
            kind = self.dice.choice(list(MAKERS))
        return MAKERS[kind](self, of)


def _wrong(body: Body) -> Body:
    body.malformed = True
    return body


def _values_of(body: Body) -> Any:
    if not isinstance(body.content, dict):
        return None
    expression = body.content.get("expression")
    return expression.get("values") if isinstance(expression, dict) else None


def _nodes(values: Any) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a graph, at any depth."""
    stack = list(values.values())
    while stack:
        node = stack.pop()
        if not isinstance(node, dict):
            continue
        yield node
        if "functionInvocationValue" in node:
            stack += list((node["functionInvocationValue"].get("arguments") or {}).values())
        elif "arrayValue" in node:
            stack += node["arrayValue"].get("values", [])
        elif "dictionaryValue" in node:
            stack += list(node["dictionaryValue"].get("values", {}).values())


def _inlined(node: Any, values: dict[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """Return a node without references, or None where it is large or not on its own."""
    if depth > 12 or "argumentReference" in node or "functionDefinitionValue" in node:
        return None
    if "valueReference" in node:
        return _inlined(values[node["valueReference"]], values, depth + 1)
    out = copy.copy(node)
    if "functionInvocationValue" in node:
        spec = node["functionInvocationValue"]
        if "functionName" not in spec:
            return None
        given = {k: _inlined(n, values, depth + 1) for k, n in spec.get("arguments", {}).items()}
        if None in given.values():
            return None
        out = call(spec["functionName"], given)
    for kind in ("arrayValue", "dictionaryValue"):
        if kind not in node:
            continue
        inner = node[kind].get("values", {})
        if isinstance(inner, list):
            listed = [_inlined(n, values, depth + 1) for n in inner]
            if None in listed:
                return None
            out = {kind: {"values": listed}}
        else:
            named = {k: _inlined(n, values, depth + 1) for k, n in inner.items()}
            if None in named.values():
                return None
            out = {kind: {"values": named}}
    return out


def _scatter(value: list[Any], dice: random.Random) -> None:
    """Put a number that no one expects somewhere into a nested list."""
    while True:
        at = dice.randrange(len(value))
        inner = value[at]
        if isinstance(inner, list) and inner:
            value = inner
            continue
        value[at] = dice.choice(EXTREME)
        return
