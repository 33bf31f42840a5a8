"""What a client sent, checked before anything is computed: JSON, and the form of a graph.

Earth Engine's front end reads requests as protocol buffers; what does not fit their types is
refused there, whether it would have been used or not. The checks here do not recurse, so that
deep nesting cannot exhaust the stack.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from .errors import EngineError

__all__ = ["MOST_DEPTH", "check_expression", "parse_json"]

MOST_DEPTH = 600
"""Levels of brackets in one payload. The client nests 50 nodes, which takes some 250."""
MOST_REFERENCES = 4000
"""Nodes on one path of a graph."""
_BRACKETS = re.compile(rb"[\[\]{}]")
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_INT64 = 2**63
_KINDS = {
    "constantValue", "functionInvocationValue", "valueReference", "argumentReference",
    "arrayValue", "dictionaryValue", "functionDefinitionValue", "integerValue", "bytesValue",
}  # fmt: skip


def _invalid(what: str) -> EngineError:
    return EngineError(f"Invalid JSON payload received. {what}")


def _no_constant(name: str) -> NoReturn:
    raise _invalid(f"Unexpected token: {name} is no JSON.")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _invalid(f"Number {text[:40]} is out of the range of a double.")
    return value


def _whole(text: str) -> int | float:
    # Numbers of the protocol are doubles; what is beyond 64 bits is no integer any more.
    if len(text) < 19:
        return int(text)
    if len(text) > 400:
        raise _invalid(f"Number {text[:40]}... is out of the range of a double.")
    value = int(text)
    if -_INT64 <= value < _INT64:
        return value
    try:
        return float(value)
    except OverflowError:
        raise _invalid(f"Number {text[:40]}... is out of the range of a double.") from None


def _deeper(content: bytes, most: int) -> bool:
    depth = 0
    for sign in _BRACKETS.findall(_STRINGS.sub(b"", content)):
        depth += 1 if sign in b"[{" else -1
        if depth > most:
            return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise _invalid(f"Duplicate key: {twice[:100]!r}.")
    return made


_PLAIN = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_object)
_STRICT = json.JSONDecoder(
    parse_constant=_no_constant,
    object_pairs_hook=_object,
    parse_float=_number,
    parse_int=_whole,
)
# Numbers that could leave the range of doubles or of 64 bits; all others are read at full speed.
_LONG = re.compile(rb"[0-9]{19}|[eE]\+?[0-9]{3}")


def parse_json(content: bytes, depth: int = MOST_DEPTH) -> dict[str, Any]:
    """Return the object that a payload holds.

    Parameters
    ----------
    content : bytes
        UTF-8; nothing stands for an empty object.
    depth : int
        Most levels of brackets.

    Raises
    ------
    EngineError
        "Invalid JSON payload received. ...": no JSON, no object, NaN, a number beyond the
        doubles, or brackets nested too deeply.

    Examples
    --------
    >>> parse_json(b'{"a": 1.5, "b": 1e3}')
    {'a': 1.5, 'b': 1000.0}
    >>> parse_json(b"[" * 100_000)
    Traceback (most recent call last):
    ...
    gee.emulator.errors.EngineError: Invalid JSON payload received. Message too deep: more than \
600 levels.
    """
    if not content:
        return {}
    # Counting opening brackets is quick, and tells for nearly all payloads.
    opened = content.count(b"[") + content.count(b"{")
    if opened > depth and _deeper(content, depth):
        raise _invalid(f"Message too deep: more than {depth} levels.")
    try:
        value = (_STRICT if _LONG.search(content) else _PLAIN).decode(content.decode("utf-8"))
        if b"\\ud" in content or b"\\uD" in content:
            # Half of a surrogate pair is no character.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise _invalid("The payload is not valid UTF-8.") from None
    except RecursionError:
        raise _invalid(f"Message too deep: more than {depth} levels.") from None
    except ValueError as error:
        raise _invalid(f"{error}.") from None
    if not isinstance(value, dict):
        raise _invalid("Expected an object.")
    return value


def check_expression(expression: Any) -> None:
    """Refuse a graph whose form is wrong, wherever in it that is.

    Parameters
    ----------
    expression : dict
        ``{"result": key, "values": {key: ValueNode}}``.

    Raises
    ------
    EngineError
        A node of no known kind, a field of another type, a reference to nothing or in a
        circle, or a path of more than `MOST_REFERENCES` nodes.

    Examples
    --------
    >>> check_expression({"result": "0", "values": {"0": {"constantValue": 1}}})
    >>> check_expression({"result": "0", "values": {"0": {"valueReference": "0"}}})
    Traceback (most recent call last):
    ...
    gee.emulator.errors.EngineError: Expression: value '0' refers to itself.
    """
    if not isinstance(expression, Mapping):
        raise EngineError("Expression: expected an object.")
    values, result = expression.get("values"), expression.get("result")
    if not isinstance(values, Mapping) or not isinstance(result, str) or result not in values:
        raise EngineError("Expression: 'values' must hold the node that 'result' names.")
    links: dict[str, list[str]] = {}
    for key, node in values.items():
        links[key] = _references(key, node)
        for other in links[key]:
            if other not in values:
                raise EngineError(f"Expression: there is no value '{other[:100]}'.")
    _check_order(links)


def _references(key: str, whole: Any) -> list[str]:
    """Return the keys that a node refers to, at any depth."""
    found: list[str] = []
    stack = [(whole, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > MOST_DEPTH:
            raise EngineError("Expression: a value is nested too deeply.")
        if not isinstance(node, Mapping):
            raise _wrong(key, "a node must be an object", node)
        kinds = [k for k in node if k in _KINDS]
        if len(kinds) != len(node) or len(kinds) > 1:
            raise EngineError(
                f"Expression: value '{key[:100]}' has {_quoted(node) or 'no kind'}; a node holds "
                f"one of {', '.join(sorted(_KINDS))}."
            )
        if not kinds:
            continue  # null
        kind, held = kinds[0], node[kinds[0]]
        if kind == "constantValue":
            _check_constant(key, held)
        elif kind in ("valueReference", "argumentReference"):
            if not isinstance(held, str):
                raise _wrong(key, f"{kind} must be a string", held)
            if kind == "valueReference":
                found.append(held)
        elif kind == "functionInvocationValue":
            found += _check_invocation(key, held)
            stack += [(n, depth + 1) for n in held.get("arguments", {}).values()]
        elif kind in ("arrayValue", "dictionaryValue"):
            nothing: Any = [] if kind == "arrayValue" else {}
            inner = held.get("values", nothing) if isinstance(held, Mapping) else None
            if not isinstance(inner, (list if kind == "arrayValue" else dict)):
                raise _wrong(key, f"{kind} must hold 'values'", held)
            below = inner.values() if isinstance(inner, dict) else inner
            stack += [(n, depth + 1) for n in below]
        elif kind == "functionDefinitionValue":
            found.append(_check_definition(key, held))
        elif kind == "integerValue":
            _check_integer(key, held)
        elif not isinstance(held, str) or not _BASE64.fullmatch(held):
            raise _wrong(key, "bytesValue must be base64", held)
    return found


def _quoted(node: Mapping[str, Any]) -> str:
    return ", ".join(repr(str(k)[:40]) for k in list(node)[:5])


def _wrong(key: str, what: str, held: Any) -> EngineError:
    shown = repr(held) if isinstance(held, (str, int, float, bool)) else type(held).__name__
    return EngineError(f"Expression: value '{key[:100]}': {what}, not {shown[:100]}.")


def _check_constant(key: str, held: Any) -> None:
    if isinstance(held, (str, int, float, bool)) or held is None:
        return
    stack = [(held, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > MOST_DEPTH:
            raise EngineError("Expression: a constant is nested too deeply.")
        if isinstance(value, list):
            # Long lists of numbers are coordinates.
            stack += [(v, depth + 1) for v in value if isinstance(v, (list, dict))]
        elif isinstance(value, dict):
            stack += [(v, depth + 1) for v in value.values() if isinstance(v, (list, dict))]


def _check_invocation(key: str, held: Any) -> list[str]:
    if not isinstance(held, Mapping):
        raise _wrong(key, "functionInvocationValue must be an object", held)
    name, reference = held.get("functionName"), held.get("functionReference")
    if (name is None) == (reference is None):
        raise EngineError(
            f"Expression: value '{key[:100]}' must name either functionName or functionReference."
        )
    if not isinstance(name if reference is None else reference, str):
        raise _wrong(key, "a function is named by a string", name or reference)
    if not isinstance(held.get("arguments", {}), Mapping):
        raise _wrong(key, "'arguments' must be an object", held["arguments"])
    unknown = held.keys() - {"functionName", "functionReference", "arguments"}
    if unknown:
        raise EngineError(
            f"Expression: value '{key[:100]}' has unknown fields "
            f"{', '.join(sorted(map(str, unknown)))[:200]}."
        )
    return [] if reference is None else [str(reference)]


def _check_definition(key: str, held: Any) -> str:
    if not isinstance(held, Mapping):
        raise _wrong(key, "functionDefinitionValue must be an object", held)
    names, body = held.get("argumentNames", []), held.get("body")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise _wrong(key, "argumentNames must be a list of strings", names)
    if len(set(names)) != len(names):
        raise EngineError(f"Expression: value '{key[:100]}' names an argument twice.")
    if not isinstance(body, str):
        raise _wrong(key, "the body of a function must be the name of a value", body)
    return body


def _check_integer(key: str, held: Any) -> None:
    try:
        whole = int(held) if isinstance(held, (str, int)) and len(str(held)) < 40 else None
    except ValueError:
        whole = None
    if whole is None or isinstance(held, bool) or not -_INT64 <= whole < _INT64:
        raise _wrong(key, "integerValue must be a 64-bit integer", held)


def _check_order(links: Mapping[str, list[str]]) -> None:
    """Refuse circles, and paths that are too long to follow."""
    length: dict[str, int] = {}
    for start in links:
        stack: list[tuple[str, int]] = [(start, 0)]
        open_keys: set[str] = set()
        while stack:
            key, at = stack.pop()
            if at == 0:
                if key in length:
                    continue
                if key in open_keys:
                    raise EngineError(f"Expression: value '{key[:100]}' refers to itself.")
                open_keys.add(key)
            below = links[key]
            if at < len(below):
                stack.append((key, at + 1))
                stack.append((below[at], 0))
                continue
            open_keys.discard(key)
            length[key] = 1 + max((length[k] for k in below), default=0)
            if length[key] > MOST_REFERENCES:
                raise EngineError("The expression is nested too deeply.")
