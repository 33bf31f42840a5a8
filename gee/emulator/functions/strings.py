"""Strings."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import EngineError
from ..patterns import Pattern, pattern
from ..values import Date
from .numbers import java_text
from .registry import function

__all__: list[str] = []


def _pattern(regex: str, flags: str) -> Pattern:
    known = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "g": re.NOFLAG}
    bits = re.NOFLAG
    for flag in flags:
        if flag not in known:
            raise EngineError(f"Invalid regular expression flag '{flag}'.")
        bits |= known[flag]
    # RE2 and Java write named groups as (?<name>...); Python as (?P<name>...).
    return pattern(re.sub(r"\(\?<(?![=!])", "(?P<", regex), bits)


@function("String")
def string(value: Any) -> str:
    """Return a value as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return java_text(value)
    if isinstance(value, Date):
        return value.at().strftime("%Y-%m-%dT%H:%M:%S")
    from ..evaluate import to_json

    return json.dumps(to_json(value), separators=(",", ":"))


@function("String.cat")
def cat(first: str, second: str) -> str:
    """Join two strings."""
    return first + second


@function("String.compareTo")
def compare(first: str, second: str) -> int:
    """Return -1, 0 or 1 for before, equal or after ([A])."""
    return (first > second) - (first < second)


@function("String.equals")
def equals(first: str, second: Any) -> bool:
    """Test equality."""
    return isinstance(second, str) and first == second


@function("String.index")
def index(target: str, pattern: str) -> int:
    """Return the first place of a substring, or -1."""
    return target.find(pattern)


@function("String.rindex")
def rindex(target: str, pattern: str) -> int:
    """Return the last place of a substring, or -1."""
    return target.rfind(pattern)


@function("String.length")
def length(text: str) -> int:
    """Return the number of characters, in UTF-16 units as Java counts."""
    return len(text.encode("utf-16-le")) // 2


@function("String.match")
def match(text: str, regex: str, flags: str) -> list[str | None]:
    """Return the first match and its groups, or with flag g all matches ([G])."""
    compiled = _pattern(regex, flags)
    if "g" in flags:
        return [*compiled.findall(text)]
    return compiled.search(text) or []


@function("String.replace")
def replace(text: str, regex: str, replacement: str, flags: str) -> str:
    """Replace the first match, or with flag g all; ``$1`` is the first group."""
    compiled = _pattern(regex, flags)
    new = re.sub(r"\$(\d+)", r"\\g<\1>", replacement.replace("\\", "\\\\"))
    return compiled.sub(new, text, 0 if "g" in flags else 1)


@function("String.slice")
def slice_text(text: str, start: int, end: int | None) -> str:
    """Return a part; negative places count from the end."""
    return text[start:end]


@function("String.split")
def split(text: str, regex: str, flags: str) -> list[str]:
    """Split at matches; an empty expression splits into characters."""
    if not regex:
        return list(text)
    parts = _pattern(regex, flags).split(text)
    return [p for p in parts if p is not None]


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
    """Drop white space at both ends."""
    return text.strip()


@function("String.decodeJSON")
def decode(text: str) -> Any:
    """Read JSON."""
    try:
        return json.loads(text)
    except ValueError as problem:
        raise EngineError(f"Invalid JSON: {problem}.") from None


@function("String.encodeJSON")
def encode(value: Any) -> str:
    """Write JSON."""
    from ..evaluate import to_json

    return json.dumps(to_json(value), separators=(",", ":"))
