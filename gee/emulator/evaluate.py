"""Expression graphs to values: closures, defaults, conversion of arguments, and back to JSON.

A graph is turned into Python closures once; a mapped function is then a call. Results of
shared nodes are kept by the node and by what its free arguments are bound to: sibling
functions use the same argument names (guides, reference/rest/v1/Expression).
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thawslump.errors import ThawslumpError, nearest

from .errors import EngineError
from .functions import REGISTRY, load_all
from .geometry import Geometry, parse_geojson
from .image import Element, Image, constant
from .pixels import Limits, compute_pixels, render
from .projection import PixelGrid, Projection
from .signatures import Argument, signatures
from .types import PixelType
from .values import (
    Array,
    Blob,
    Collection,
    ConfusionMatrix,
    Date,
    DateRange,
    ErrorMargin,
    Feature,
    Filter,
    Function,
    as_feature,
    geometry_of,
    type_name,
)

if TYPE_CHECKING:
    from .catalog import Asset, Catalog

__all__ = ["Evaluator", "compute_pixels", "default_grid", "render"]

Env = dict[str, Any]
Code = Callable[[Env], Any]

# Chains made by iterate() nest some hundred calls deep; Python's own limit of 1000 frames
# is a guard against endless recursion, which a finite graph cannot have.
_DEPTH = 20_000
_KEPT = 4096
# Graphs with fewer nodes are evaluated faster than they are looked up.
_WORTH_KEEPING = 2
_VALUES_KEPT = 32
_MOST_ELEMENTS = 5000


class Evaluator:
    """Evaluates expression graphs against a catalogue.

    Parameters
    ----------
    catalog : Catalog
    limits : Limits, optional

    Examples
    --------
    >>> graph = {"result": "0", "values": {"0": {"functionInvocationValue": {
    ...     "functionName": "Number.add",
    ...     "arguments": {"left": {"constantValue": 1}, "right": {"constantValue": 2}}}}}}
    >>> Evaluator(None).evaluate(graph)
    3
    """

    def __init__(self, catalog: Catalog, limits: Limits | None = None) -> None:
        self.catalog = catalog
        self.limits = limits or Limits()
        self._kept: OrderedDict[bytes, tuple[Any, _Recorder]] = OrderedDict()
        self._lock = threading.Lock()
        load_all()
        if sys.getrecursionlimit() < _DEPTH:
            sys.setrecursionlimit(_DEPTH)

    def evaluate(self, expression: Mapping[str, Any]) -> Any:
        """Return the value of an expression graph.

        Parameters
        ----------
        expression : dict
            ``{"result": key, "values": {key: ValueNode}}``.

        Returns
        -------
        Image, Collection, Feature, Geometry, Date, list, dict, str, int, float, bool or None

        Raises
        ------
        EngineError
            With the words of Earth Engine; ``"<id>" is not implemented by this emulator``
            for functions that Earth Engine has and the emulator has not.
        """
        values = expression.get("values")
        result = expression.get("result")
        if not isinstance(values, Mapping) or result not in values:
            raise EngineError("Expression: 'values' must hold the node that 'result' names.")
        if len(values) < _WORTH_KEEPING or self.catalog is None:
            return self._run(self, values, str(result))
        # The same graph comes again for every chunk, map tile and page.
        key = hashlib.blake2b(json.dumps(expression).encode()).digest()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[1].current():
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
            return kept[0]
        session = copy.copy(self)
        recorder = _Recorder(self.catalog)
        session.catalog = recorder  # type: ignore[assignment]
        value = self._run(session, values, str(result))
        with self._lock:
            self._kept[key] = (value, recorder)
            while len(self._kept) > _VALUES_KEPT:
                self._kept.popitem(last=False)
        return value

    @staticmethod
    def _run(session: Evaluator, values: Mapping[str, Any], result: str) -> Any:
        try:
            return _Program(session, values).reference(result)[0]({})
        except RecursionError:
            raise EngineError("The expression is nested too deeply.") from None

    def to_json(self, value: Any) -> Any:
        """Return a value as ``getInfo`` shows it."""
        return to_json(value)

    def feature_pages(
        self, value: Any, page_size: int = 1000, token: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of the features of a collection, and the token of the next.

        Parameters
        ----------
        value : Collection, or what converts to one
        page_size : int
        token : str, optional
            As an earlier call returned it.

        Returns
        -------
        features : list of GeoJSON dict
        token : str or None
        """
        collection = coerce("FeatureCollection", "", value, self)
        try:
            start = int(token or 0)
        except ValueError:
            raise EngineError(f"Invalid page token '{token}'.") from None
        found: list[dict[str, Any]] = []
        for number, item in enumerate(collection):
            if number < start:
                continue
            if len(found) == page_size:
                return found, str(number)
            found.append(to_json(as_feature(item)))
        return found, None

    def image_asset(self, asset_id: str) -> Image:
        """Return an image of the catalogue."""
        from .functions.loading import load

        return load(self, asset_id, -1)

    def table_asset(self, asset_id: str) -> Collection:
        """Return a table of the catalogue."""
        from .functions.loading import load_table

        return load_table(self, asset_id, None, -1)


class _Recorder:
    """The catalogue, remembering what was read of it, to tell whether that still holds."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: dict[tuple[str, str], Any] = {}

    def get(self, asset_id: str) -> Asset | None:
        """Return an asset."""
        found = self._catalog.get(asset_id)
        self._seen["get", asset_id] = _stamp(found)
        return found

    def children(self, asset_id: str = "") -> list[Asset]:
        """Return the assets below one."""
        found = self._catalog.children(asset_id)
        self._seen["children", asset_id] = [_stamp(a) for a in found]
        return found

    def features(self, asset_id: str) -> list[dict[str, Any]]:
        """Return the features of a table."""
        self.get(asset_id)
        return self._catalog.features(asset_id)

    def current(self) -> bool:
        """Return whether everything that was read is as it was."""
        try:
            for (how, asset_id), stamp in list(self._seen.items()):
                if how == "get":
                    if _stamp(self._catalog.get(asset_id)) != stamp:
                        return False
                elif [_stamp(a) for a in self._catalog.children(asset_id)] != stamp:
                    return False
        except ThawslumpError:
            return False
        return True


def _stamp(asset: Asset | None) -> Any:
    return None if asset is None else (asset.id, asset.type, asset.updated)


class _Program:
    """The closures of one expression graph."""

    def __init__(self, evaluator: Evaluator, values: Mapping[str, Any]) -> None:
        self.evaluator = evaluator
        self.values = values
        self.compiled: dict[str, tuple[Code, frozenset[str]]] = {}
        self.open: set[str] = set()

    def reference(self, key: str) -> tuple[Code, frozenset[str]]:
        found = self.compiled.get(key)
        if found is not None:
            return found
        if key not in self.values:
            raise EngineError(f"Expression: there is no value '{key}'.")
        if key in self.open:
            raise EngineError(f"Expression: value '{key}' refers to itself.")
        self.open.add(key)
        code, free = self.node(self.values[key])
        self.open.discard(key)
        made = (_once(code), free) if not free else (_per_binding(code, free), free)
        self.compiled[key] = made
        return made

    def node(self, node: Mapping[str, Any]) -> tuple[Code, frozenset[str]]:
        nothing: frozenset[str] = frozenset()
        if "constantValue" in node:
            value = _constant(node["constantValue"])
            return (lambda env: value), nothing
        if "functionInvocationValue" in node:
            return self.invocation(node["functionInvocationValue"])
        if "valueReference" in node:
            return self.reference(node["valueReference"])
        if "argumentReference" in node:
            name = node["argumentReference"]

            def read(env: Env) -> Any:
                try:
                    return env[name]
                except KeyError:
                    raise EngineError(f"Variable '{name}' is not defined.") from None

            return read, frozenset([name])
        if "arrayValue" in node:
            parts = [self.node(n) for n in node["arrayValue"].get("values", ())]
            codes = [p[0] for p in parts]
            free = nothing.union(*(p[1] for p in parts))
            return (lambda env: [code(env) for code in codes]), free
        if "dictionaryValue" in node:
            named = {k: self.node(n) for k, n in node["dictionaryValue"].get("values", {}).items()}
            pairs = [(k, p[0]) for k, p in named.items()]
            free = nothing.union(*(p[1] for p in named.values()))
            return (lambda env: {k: code(env) for k, code in pairs}), free
        if "functionDefinitionValue" in node:
            spec = node["functionDefinitionValue"]
            names = tuple(spec.get("argumentNames", ()))
            body, inner = self.reference(spec["body"])
            return (lambda env: Function(names, lambda given: body({**env, **given}))), inner - set(
                names
            )
        if "integerValue" in node:
            integer = int(node["integerValue"])
            return (lambda env: integer), nothing
        if "bytesValue" in node:
            raw = base64.b64decode(node["bytesValue"])
            return (lambda env: raw), nothing
        if not node:
            return (lambda env: None), nothing
        raise EngineError(f"Expression: unknown kind of value {sorted(node)}.")

    def invocation(self, spec: Mapping[str, Any]) -> tuple[Code, frozenset[str]]:
        given = {k: self.node(n) for k, n in spec.get("arguments", {}).items()}
        free: frozenset[str] = frozenset().union(*(p[1] for p in given.values()))
        codes = {k: p[0] for k, p in given.items()}
        if "functionReference" in spec:
            callee, more = self.reference(spec["functionReference"])

            def apply(env: Env) -> Any:
                function = callee(env)
                if not isinstance(function, Function):
                    raise EngineError("Cannot call a value that is not a function.")
                return function.call({k: code(env) for k, code in codes.items()})

            return apply, free | more
        return self.builtin(str(spec.get("functionName")), codes), free

    def builtin(self, name: str, codes: dict[str, Code]) -> Code:
        known = signatures()
        signature = known.get(name)
        entry = REGISTRY.get(name)
        if signature is None:
            raise EngineError(f"'{name}' is not a function.{nearest(name, known)}")
        if entry is None:
            raise EngineError(f'"{name}" is not implemented by this emulator')
        unknown = codes.keys() - {a.name for a in signature.arguments}
        if unknown:
            raise EngineError(
                f"Unrecognized arguments {sorted(unknown)} to function: {name}({{"
                f"{', '.join(a.name for a in signature.arguments)}}})."
            )
        evaluator = self.evaluator
        slots = [
            (a, codes.get(a.name), _converter(name, a, evaluator), _default(a, evaluator))
            for a in signature.arguments
        ]
        call = entry.call
        first = (evaluator,) if entry.evaluator else ()

        def run(env: Env) -> Any:
            values = []
            for argument, code, convert, default in slots:
                value = None if code is None else code(env)
                if value is None:
                    if not argument.optional:
                        raise EngineError(
                            f"Parameter '{argument.name}' is required and may not be null.",
                            function=name,
                        )
                    values.append(default)
                else:
                    values.append(convert(value))
            try:
                made = call(*first, *values)
                if type(made) is Collection and made.origin is None:
                    # Elements are made later; what goes wrong then is this function's too.
                    made.origin = name
                return made
            except EngineError as problem:
                problem.locate(name)
                raise
            except (RecursionError, MemoryError):
                raise
            except ThawslumpError as problem:
                raise EngineError(str(problem), function=name) from problem
            except Exception as problem:
                raise EngineError(
                    f"Internal error: {type(problem).__name__}: {problem}", function=name
                ) from problem

        return run


def _constant(value: Any) -> Any:
    """Return a constant with whole floats as integers.

    On the wire constants are protobuf values, whose numbers are doubles: 1 and 1.0 are the
    same there, and both are integers ([G] ee_number).
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list):
        return [_constant(v) for v in value]
    if isinstance(value, dict):
        return {k: _constant(v) for k, v in value.items()}
    return value


def _once(code: Code) -> Code:
    kept: list[Any] = []

    def run(env: Env) -> Any:
        if not kept:
            kept.append(code(env))
        return kept[0]

    return run


def _per_binding(code: Code, free: frozenset[str]) -> Code:
    names = tuple(sorted(free))
    # The bound values are kept with the result, so that their identities stay theirs.
    kept: dict[tuple[int, ...], tuple[Any, tuple[Any, ...]]] = {}

    def run(env: Env) -> Any:
        bound = tuple(env.get(n) for n in names)
        key = tuple(map(id, bound))
        found = kept.get(key)
        if found is None:
            if len(kept) >= _KEPT:
                kept.clear()
            found = kept[key] = (code(env), bound)
        return found[0]

    return run


def _default(argument: Argument, evaluator: Evaluator) -> Any:
    if argument.default is None:
        return None
    return coerce(argument.type, argument.of, argument.default, evaluator)


def _converter(function: str, argument: Argument, evaluator: Evaluator) -> Callable[[Any], Any]:
    kind, of = argument.type, argument.of
    convert = _CONVERTERS.get(kind)
    if convert is None:
        return lambda value: value

    def run(value: Any) -> Any:
        try:
            return convert(value, of, evaluator)
        except _Mismatch:
            shown = f"{kind}<{of}>" if of else kind
            problem = EngineError(
                f"{function}, argument '{argument.name}': Invalid type.\n"
                f"Expected type: {shown}.\nActual type: {type_name(value)}."
            )
            problem.located = True
            raise problem from None
        except EngineError as problem:
            problem.locate(function)
            raise

    return run


class _Mismatch(Exception):
    """A value is not of the type that an argument takes."""


def coerce(kind: str, of: str, value: Any, evaluator: Evaluator) -> Any:
    """Convert a value to an argument type, as Earth Engine does.

    Raises
    ------
    EngineError
        The value has no such form.
    """
    convert = _CONVERTERS.get(kind)
    if convert is None or value is None:
        return value
    try:
        return convert(value, of, evaluator)
    except _Mismatch:
        raise EngineError(
            f"Invalid type.\nExpected type: {kind}.\nActual type: {type_name(value)}."
        ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _image(value: Any, of: str, evaluator: Evaluator) -> Image:
    if isinstance(value, Image):
        return value
    if isinstance(value, bool):
        value = int(value)
    if _is_number(value):
        return constant(value.item() if isinstance(value, np.number) else value)
    if isinstance(value, str):
        return evaluator.image_asset(value)
    if isinstance(value, list):
        from .functions.bands import concatenated

        return concatenated([_image(v, "", evaluator) for v in value])
    if isinstance(value, Array) and value.values.size == 1:
        return constant(value.values.item())
    if isinstance(value, Collection) and value.kind == "ImageCollection":
        from .functions.collections import mosaic

        return mosaic(value)
    raise _Mismatch


def _image_collection(value: Any, of: str, evaluator: Evaluator) -> Collection:
    if isinstance(value, Collection):
        if value.kind == "ImageCollection":
            return value
        return Collection(
            lambda: value, "ImageCollection", value.properties, value.id, size=value.size
        )
    if isinstance(value, str):
        from .functions.loading import load_collection

        return load_collection(evaluator, value, None)
    if isinstance(value, list):
        return Collection([_image(v, "", evaluator) for v in value], "ImageCollection")
    return Collection([_image(value, "", evaluator)], "ImageCollection")


def _feature_collection(value: Any, of: str, evaluator: Evaluator) -> Collection:
    if isinstance(value, Collection):
        return value
    if isinstance(value, str):
        return evaluator.table_asset(value)
    if isinstance(value, list):
        return Collection([_element(v, "", evaluator) for v in value])
    return Collection([_element(value, "", evaluator)])


def _element(value: Any, of: str, evaluator: Evaluator) -> Element:
    if isinstance(value, Element):
        return value
    if isinstance(value, Geometry):
        return Feature(value)
    if isinstance(value, dict):
        if value.get("type") == "Feature":
            made = Feature(
                parse_geojson(value["geometry"]) if value.get("geometry") else None,
                dict(value.get("properties") or {}),
            )
            if "id" in value:
                made.properties["system:index"] = value["id"]
            return made
        if "coordinates" in value or "geometries" in value:
            return Feature(parse_geojson(value))
        # A dictionary stands for an element without geometry.
        return Feature(None, dict(value))
    if isinstance(value, (int, float, str)):
        return _image(value, "", evaluator)
    raise _Mismatch


def _geometry(value: Any, of: str, evaluator: Evaluator) -> Geometry:
    if isinstance(value, Geometry):
        return value
    if isinstance(value, (Feature, Image, Collection)):
        found = geometry_of(value)
        if found is None:
            raise EngineError("Element has no geometry.")
        return found
    if isinstance(value, dict):
        if value.get("type") == "Feature":
            return parse_geojson(value["geometry"])
        if "type" in value:
            return parse_geojson(value)
    raise _Mismatch


def _number(value: Any, of: str, evaluator: Evaluator) -> int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, np.number):
        return value.item()
    if isinstance(value, Array) and value.values.size == 1:
        return value.values.item()
    raise _Mismatch


def _float(value: Any, of: str, evaluator: Evaluator) -> float:
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return float(value)
    return float(_number(value, of, evaluator))


def _integer(value: Any, of: str, evaluator: Evaluator) -> int:
    number = _number(value, of, evaluator)
    if isinstance(number, float) and not math.isfinite(number):
        raise EngineError(f"Cannot convert {number} to an integer.")
    return int(number)


def _string(value: Any, of: str, evaluator: Evaluator) -> str:
    if isinstance(value, str):
        return value
    raise _Mismatch


def _boolean(value: Any, of: str, evaluator: Evaluator) -> bool:
    if isinstance(value, bool):
        return value
    if _is_number(value):
        return bool(value)
    raise _Mismatch


def _list(value: Any, of: str, evaluator: Evaluator) -> list[Any]:
    if isinstance(value, Array):
        value = value.values.tolist()
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, list):
        if of in ("String", "Object") and isinstance(value, (str, int, float)):
            value = [value]
        elif isinstance(value, Collection) and of in ("Element", "Object", "Image"):
            value = value.items()
        else:
            raise _Mismatch
    convert = _CONVERTERS.get(of)
    return value if convert is None else [convert(v, "", evaluator) for v in value]


def _dictionary(value: Any, of: str, evaluator: Evaluator) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, (Feature, Image)):
        return value.properties
    raise _Mismatch


def _projection(value: Any, of: str, evaluator: Evaluator) -> Projection:
    if isinstance(value, (Projection, str, dict)):
        return Projection.coerce(value)
    if isinstance(value, Image):
        return value.first_projection
    raise _Mismatch


def _margin(value: Any, of: str, evaluator: Evaluator) -> ErrorMargin:
    if isinstance(value, ErrorMargin):
        return value
    if _is_number(value):
        return ErrorMargin(float(value))
    if isinstance(value, dict):
        return ErrorMargin(value.get("value"), value.get("unit", "meters"))
    raise _Mismatch


def _date(value: Any, of: str, evaluator: Evaluator) -> Date:
    if isinstance(value, (Date, str, dict)) or _is_number(value):
        return Date.coerce(value)
    if isinstance(value, Image):
        moment = value.properties.get("system:time_start")
        if moment is not None:
            return Date(moment)
    raise _Mismatch


def _date_range(value: Any, of: str, evaluator: Evaluator) -> DateRange:
    if isinstance(value, DateRange):
        return value
    if isinstance(value, dict) and value.get("type") == "DateRange":
        return DateRange(*(None if d is None else Date.coerce(d).ms for d in value["dates"]))
    if isinstance(value, list) and len(value) == 2:
        return DateRange(*(Date.coerce(v).ms for v in value))
    if isinstance(value, (Date, str)) or _is_number(value):
        start = Date.coerce(value).ms
        return DateRange(start, start + 1)
    raise _Mismatch


def _filter(value: Any, of: str, evaluator: Evaluator) -> Filter:
    if isinstance(value, Filter):
        return value
    if isinstance(value, str):
        from .functions.filters import parse_filter

        return parse_filter(value)
    raise _Mismatch


def _algorithm(value: Any, of: str, evaluator: Evaluator) -> Function:
    if isinstance(value, Function):
        return value
    raise _Mismatch


def _pixel_type(value: Any, of: str, evaluator: Evaluator) -> PixelType:
    return PixelType.coerce(value)


def _array(value: Any, of: str, evaluator: Evaluator) -> Array:
    if isinstance(value, Array):
        return value
    if isinstance(value, list) or _is_number(value):
        from .functions.arrays import as_array

        return as_array(value)
    if isinstance(value, ConfusionMatrix):
        return Array(value.values)
    raise _Mismatch


def _only(*types: type) -> Callable[[Any, str, Evaluator], Any]:
    def check(value: Any, of: str, evaluator: Evaluator) -> Any:
        if not isinstance(value, types):
            raise _Mismatch
        return value

    return check


def _lazy_types() -> dict[str, Callable[[Any, str, Evaluator], Any]]:
    from .functions.classifiers import Classifier
    from .functions.joins import Join
    from .functions.neighbourhoods import Kernel
    from .reducers import Reducer, named_reducer

    def reducer(value: Any, of: str, evaluator: Evaluator) -> Reducer:
        if isinstance(value, Reducer):
            return value
        if isinstance(value, str):
            return named_reducer(value)
        raise _Mismatch

    return {
        "Reducer": reducer,
        "Kernel": _only(Kernel),
        "Classifier": _only(Classifier),
        "Join": _only(Join),
        "ConfusionMatrix": _only(ConfusionMatrix),
        "Blob": _only(Blob),
    }


_CONVERTERS: dict[str, Callable[[Any, str, Evaluator], Any]] = {
    "Image": _image,
    "ImageCollection": _image_collection,
    "FeatureCollection": _feature_collection,
    "Element": _element,
    "Feature": _element,
    "Geometry": _geometry,
    "Number": _number,
    "Float": _float,
    "Integer": _integer,
    "Long": _integer,
    "String": _string,
    "Boolean": _boolean,
    "List": _list,
    "Dictionary": _dictionary,
    "Projection": _projection,
    "ErrorMargin": _margin,
    "Date": _date,
    "DateRange": _date_range,
    "Filter": _filter,
    "Algorithm": _algorithm,
    "PixelType": _pixel_type,
    "Array": _array,
}
load_all()
_CONVERTERS |= _lazy_types()


def to_json(value: Any) -> Any:
    """Return a value as ``getInfo`` shows it: plain JSON, whole floats as integers."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float, np.number)):
        return _json_number(value)
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, Image):
        return _image_json(value)
    if isinstance(value, Feature):
        return _feature_json(value)
    if isinstance(value, Collection):
        return _collection_json(value)
    if isinstance(value, Date):
        return {"type": "Date", "value": _json_number(value.ms)}
    if isinstance(value, DateRange):
        return {"type": "DateRange", "dates": [_json_number(value.start), _json_number(value.end)]}
    if isinstance(value, Array):
        return to_json(value.values.tolist())
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, ConfusionMatrix):
        return to_json(value.values.tolist())
    if isinstance(value, ErrorMargin):
        return {"type": "ErrorMargin", "unit": value.unit, "value": to_json(value.value)}
    if isinstance(value, Filter):
        return {"type": value.name}
    if isinstance(value, bytes):
        return {"type": "Bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, Blob):
        return {"type": "Blob", "id": value.url}
    if isinstance(value, Function):
        return {"type": "Algorithm", "args": [{"name": n} for n in value.names]}
    shown = getattr(value, "json", None)
    if shown is not None:
        return to_json(shown())
    raise EngineError(f"A value of type {type_name(value)} cannot be shown as JSON.")


def _json_number(value: Any) -> Any:
    if value is None:
        return None
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, float):
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        if number == int(number) and abs(number) < 2**53:
            return int(number)
    return number


def _image_json(image: Image) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "Image", "bands": []}
    for band in image.bands:
        entry: dict[str, Any] = {"id": band.id, "data_type": to_json(band.type.json())}
        if band.dimensions is not None:
            entry["dimensions"] = list(band.dimensions)
            if band.origin != (0, 0):
                entry["origin"] = list(band.origin)
        shown = band.projection.json()
        entry["crs" if "crs" in shown else "crs_wkt"] = shown.get("crs", shown.get("wkt"))
        entry["crs_transform"] = shown["transform"]
        out["bands"].append(entry)
    if image.id is not None:
        out["id"] = image.id
    if image.version is not None:
        out["version"] = image.version
    properties = {k: to_json(v) for k, v in image.properties.items()}
    if image.footprint is not None:
        properties.setdefault("system:footprint", image.footprint.json())
    if properties:
        out["properties"] = properties
    return out


def _feature_json(feature: Feature) -> dict[str, Any]:
    out: dict[str, Any] = {
        "type": "Feature",
        "geometry": None if feature.geometry is None else feature.geometry.json(),
    }
    index = feature.properties.get("system:index")
    if index is not None:
        out["id"] = index
    out["properties"] = {
        k: to_json(v) for k, v in feature.properties.items() if k != "system:index"
    }
    return out


def _collection_json(collection: Collection) -> dict[str, Any]:
    items: list[Element] = []
    for item in collection:
        items.append(item)
        if len(items) > _MOST_ELEMENTS:
            raise EngineError(
                f"Collection query aborted after accumulating over {_MOST_ELEMENTS} elements."
            )
    images = bool(items) and all(isinstance(i, Image) for i in items)
    kind = (
        "ImageCollection"
        if images or (not items and collection.kind[0] == "I")
        else ("FeatureCollection")
    )
    out: dict[str, Any] = {"type": kind}
    if kind == "ImageCollection":
        out["bands"] = []
    else:
        out["columns"] = _columns(items)
    if collection.id is not None:
        out["id"] = collection.id
    if collection.version is not None:
        out["version"] = collection.version
    if collection.properties:
        out["properties"] = to_json(collection.properties)
    # An empty collection has no such member (ee tests; clients read it with get()).
    if items:
        out["features"] = [to_json(i) for i in items]
    return out


def _columns(items: Iterable[Element]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for item in items:
        for key, value in item.properties.items():
            columns.setdefault(key, type_name(value))
    return dict(sorted(columns.items()))


def default_grid(
    image: Image,
    region: Geometry | dict[str, Any] | None = None,
    scale: float | None = None,
    *,
    crs: str | None = None,
    transform: tuple[float, ...] | None = None,
    dimensions: tuple[int | None, int | None] | int | None = None,
) -> PixelGrid:
    """Return the grid of a request that names none, or only part of one.

    Parameters
    ----------
    image : Image
    region : Geometry or GeoJSON, optional
        The footprint of the image by default.
    scale : float, optional
        Metres; the first band's own by default.
    crs : str, optional
        The first band's by default.
    transform : 6 floats, optional
        Puts the pixels exactly; ``scale`` is then not used.
    dimensions : (width, height) or int, optional
        Fits the region into so many pixels; an int bounds the longer side.

    Returns
    -------
    PixelGrid

    Raises
    ------
    EngineError
        The image has no bounds and no region is given.
    """
    band = image.bands[0] if image.bands else None
    if band is None:
        raise EngineError("Image has no bands.")
    if (
        region is None and scale is None and crs is None and transform is None
        and dimensions is None and band.dimensions is not None
    ):  # fmt: skip
        moved = band.projection.translated(*band.origin)
        return PixelGrid(moved.crs, moved.transform, *band.dimensions)
    base = band.projection
    if crs is not None and crs != base.crs:
        base = Projection(crs)
        if scale is None and transform is None and not band.projection.is_default:
            base = base.at_scale(band.projection.nominal_scale)
            a, b, c, d, e, f = base.transform
            base = Projection(crs, (a, b, c, d, -abs(e), f))
    if isinstance(region, dict):
        region = parse_geojson(region)
    if region is None:
        region = image.footprint
        own = band.window
        if own is not None and crs in (None, band.projection.crs):
            left, bottom, right, top = own.bounds()
            import shapely

            region = Geometry(shapely.box(left, bottom, right, top), band.projection.crs, False)
    if region is None:
        raise EngineError("Unable to compute the region of an unbounded image: specify a region.")
    if transform is not None:
        base = Projection(base.crs, tuple(transform))  # type: ignore[arg-type]
    elif scale is not None:
        base = base.at_scale(scale)
        a, b, c, d, e, f = base.transform
        if band.projection.is_default or crs is not None:
            base = Projection(base.crs, (abs(a), b, 0.0, d, -abs(e), 0.0))
    elif dimensions is not None:
        return _fitted(region, base.crs, dimensions)
    elif base.is_default:
        a, b, c, d, e, f = base.transform
        base = Projection(base.crs, (a, b, c, d, -abs(e), f))
    window = region.window(base)
    moved = base.translated(window.column, window.row)
    return PixelGrid(moved.crs, moved.transform, window.width, window.height)


def _fitted(
    region: Geometry, crs: str, dimensions: tuple[int | None, int | None] | int
) -> PixelGrid:
    left, bottom, right, top = region.in_crs(crs).bounds
    wide, high = right - left, top - bottom
    if not (wide > 0 and high > 0):
        raise EngineError("The region has no area: its bounds cannot be fitted into pixels.")
    width: int | None
    height: int | None
    if isinstance(dimensions, int):
        size = max(wide, high) / dimensions
        width, height = max(round(wide / size), 1), max(round(high / size), 1)
    else:
        width, height = dimensions
        if width is None and height is None:
            raise EngineError("Dimensions must name a width or a height.")
        if width is None:
            width = max(round(wide / high * (height or 1)), 1)
        if height is None:
            height = max(round(high / wide * width), 1)
    return PixelGrid(crs, (wide / width, 0.0, left, 0.0, -high / height, top), width, height)
