"""Strings."""

from __future__ import annotations

import json
from typing import Any

from ..errors import EngineError
from ..values import Date
from ._java import from_units, java_text, pattern_of, replaced, units
from ._java import split as parts
from .registry import function

__all__: list[str] = []

_SPACE = "".join(map(chr, range(0x21)))


@function("String")
def string(value: Any) -> str:
    """Return a value as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return java_text(value)
    if isinstance(value, Date):
        return value.at().strftime("%Y-%m-%dT%H:%M:%S")
    from ..jsonvalues import to_json

    return json.dumps(to_json(value), separators=(",", ":"))


@function("String.cat")
def cat(first: str, second: str) -> str:
    """Join two strings."""
    return first + second


@function("String.compareTo")
def compare(first: str, second: str) -> int:
    """Return -1, 0 or 1 for before, equal or after ([A]), by UTF-16 units as Java compares."""
    a, b = units(first), units(second)
    return (a > b) - (a < b)


@function("String.equals")
def equals(first: str, second: Any) -> bool:
    """Test equality."""
    return isinstance(second, str) and first == second


# Places and lengths count UTF-16 units, as Java does.


@function("String.index")
def index(target: str, pattern: str) -> int:
    """Return the first place of a substring, or -1."""
    return units(target).find(units(pattern))


@function("String.rindex")
def rindex(target: str, pattern: str) -> int:
    """Return the last place of a substring, or -1."""
    return units(target).rfind(units(pattern))


@function("String.length")
def length(text: str) -> int:
    """Return the number of characters."""
    return len(units(text))


@function("String.match")
def match(text: str, regex: str, flags: str) -> list[str | None]:
    """Return the first match and its groups, or with flag g all matches ([G])."""
    compiled = pattern_of(regex, flags)
    if "g" in flags:
        return [*compiled.findall(text)]
    return compiled.search(text) or []


@function("String.replace")
def replace(text: str, regex: str, replacement: str, flags: str) -> str:
    """Replace the first match, or with flag g all; ``$1`` is the first group."""
    return replaced(pattern_of(regex, flags), text, replacement, "g" in flags)


@function("String.slice")
def slice_text(text: str, start: int, end: int | None) -> str:
    """Return a part; negative places count from the end."""
    return from_units(units(text)[start:end])


@function("String.split")
def split(text: str, regex: str, flags: str) -> list[str]:
    """Split at matches, without empty text at the end; an empty expression gives characters."""
    compiled = pattern_of(regex, flags)
    return [*text] if not regex else parts(compiled, text)


@function("String.toLowerCase")
def lower(text: str) -> str:
    """Return lower case."""
    return text.lower()


@function("String.toUpperCase")
def upper(text: str) -> str:
    """Return upper case."""
    return text.upper()


@function("String.trim")
def trim(text: str) -> str:
    """Drop white space at both ends: every character up to the space, as Java's trim."""
    return text.strip(_SPACE)


@function("String.decodeJSON")
def decode(text: str) -> Any:
    """Read JSON."""

    def refuse(word: str) -> Any:
        raise ValueError(f"'{word}' is no value of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as problem:
        raise EngineError(f"Invalid JSON: {problem}.") from None


@function("String.encodeJSON")
def encode(value: Any) -> str:
    """Write JSON, without spaces and with keys in their natural order."""
    from ..jsonvalues import to_json

    return json.dumps(to_json(value), separators=(",", ":"), ensure_ascii=False, sort_keys=True)
