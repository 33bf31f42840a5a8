"""The closures of an expression graph.

A graph is turned into Python closures once; a mapped function is then a call. Results of
shared nodes are kept by the node and by what its free arguments are bound to: sibling
functions use the same argument names (guides, reference/rest/v1/Expression).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from thawslump.errors import ThawslumpError, nearest

from .budget import reserve, tick
from .conversion import coerce, converter
from .errors import EngineError, worded
from .functions import find
from .signatures import Argument, signatures
from .values import Array, Collection, Function

if TYPE_CHECKING:
    from .evaluate import Evaluator

__all__ = ["Program"]

Env = dict[str, Any]
Code = Callable[[Env], Any]

_KEPT = 4096


class Program:
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
            text = node["bytesValue"].rstrip("=").replace("-", "+").replace("_", "/")
            try:
                raw = base64.b64decode(text + "=" * (-len(text) % 4))
            except ValueError:
                raise EngineError("Expression: bytesValue must be base64.") from None
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
        entry = find(name)
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
        for argument in signature.arguments:
            if not argument.optional and argument.name not in codes:
                raise EngineError(
                    f"Parameter '{argument.name}' is required and may not be null.", function=name
                )
        evaluator = self.evaluator
        slots = [
            (a, codes.get(a.name), converter(name, a, evaluator), _default(a, evaluator))
            for a in signature.arguments
        ]
        call = entry.call
        first = (evaluator,) if entry.evaluator else ()

        def run(env: Env) -> Any:
            tick()
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
                kind = type(made)
                if kind is Collection:
                    if made.origin is None:
                        # Elements are made later; what goes wrong then is this function's too.
                        made.origin = name
                elif kind is list or kind is dict:
                    # Doubling in a loop grows step by step, each of them small.
                    reserve(len(made), 8)
                elif kind is str:
                    reserve(len(made), 4)
                elif kind is Array:
                    reserve(made.values.size, 32)
                return made
            except EngineError as problem:
                problem.locate(name)
                raise
            except (RecursionError, MemoryError):
                raise
            except ThawslumpError as problem:
                raise EngineError(str(problem), function=name) from problem
            except Exception as problem:
                raise EngineError(worded(problem), function=name) from problem

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
