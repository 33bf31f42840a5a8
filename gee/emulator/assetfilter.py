"""The filter language of `listAssets`, `listImages` and `listFeatures` (google.aip.dev/160).

startTime >= "2023-01-01T00:00:00Z" AND properties.CLOUDY_PIXEL_PERCENTAGE < 20
AND NOT type = "FOLDER" AND intersects("{'type':'Point','coordinates':[11,44]}")
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import EngineError

if TYPE_CHECKING:
    from .catalog import Asset

__all__ = ["matcher", "property_matcher"]

Lookup = Callable[[str], Any]
Test = Callable[[Lookup], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<operator><=|>=|!=|==|=|<|>|:|\(|\))"""
    # A name may hold ':' as in system:index, and quotes as in properties."a name".
    r"""|(?P<word>(?:[A-Za-z0-9_+\-]|:(?=[A-Za-z0-9])|\.(?:"[^"]*")?)+|\*))"""
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise self.error(f"unexpected {text[position : position + 10]!r}")
            kind = found.lastgroup or ""
            self.tokens.append((kind, found[kind]))
            position = found.end()
        self.at = 0

    def error(self, what: str) -> EngineError:
        return EngineError(f"Invalid filter: {what} in '{self.text[:300]}'.")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def keyword(self, word: str) -> bool:
        kind, text = self.peek()
        if kind == "word" and text.upper() == word:
            self.at += 1
            return True
        return False

    def parse(self) -> Test:
        test = self.any_of()
        if self.peek()[0] != "end":
            raise self.error(f"unexpected {self.peek()[1]!r}")
        return test

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self.keyword("OR"):
            tests.append(self.all_of())
        return tests[0] if len(tests) == 1 else lambda get: any(test(get) for test in tests)

    def all_of(self) -> Test:
        tests = [self.one()]
        # Terms that stand side by side are joined by AND as well.
        while self.keyword("AND") or (self.peek()[0] == "word" and self.peek()[1].upper() != "OR"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda get: all(test(get) for test in tests)

    def one(self) -> Test:
        if self.keyword("NOT"):
            inner = self.one()
            return lambda get: not inner(get)
        kind, text = self.take()
        if (kind, text) == ("operator", "("):
            test = self.any_of()
            if self.take() != ("operator", ")"):
                raise self.error("a ')' is missing")
            return test
        if kind != "word":
            raise self.error(f"expected a name, got {text!r}")
        if text == "intersects" and self.peek() == ("operator", "("):
            return self.intersects()
        name = text.replace('"', "")
        kind, operator = self.take()
        if kind != "operator" or operator in "()":
            raise self.error(f"expected a comparison after {name!r}")
        kind, value = self.take()
        if kind not in ("word", "text"):
            raise self.error(f"expected a value after {name} {operator}")
        return _comparison(name, operator, _literal(kind, value), self)

    def intersects(self) -> Test:
        from shapely import from_wkt
        from shapely.errors import ShapelyError
        from shapely.geometry import shape

        self.take()
        kind, text = self.take()
        if kind != "text" or self.take() != ("operator", ")"):
            raise self.error('expected intersects("geometry")')
        content = re.sub(r"\\(.)", r"\1", text[1:-1])
        try:
            # The client writes single quotes inside, to need no escapes.
            region = (
                shape(json.loads(content.replace("'", '"')))
                if content.lstrip().startswith("{")
                else from_wkt(content)
            )
        except (ValueError, KeyError, TypeError, AttributeError, ShapelyError) as error:
            raise self.error(f"a geometry that is neither GeoJSON nor WKT ({error})") from None

        def test(get: Lookup) -> bool:
            geometry = get("geometry")
            return geometry is not None and bool(shape(geometry).intersects(region))

        return test


def _literal(kind: str, text: str) -> Any:
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _comparison(name: str, operator: str, value: Any, parser: _Parser) -> Test:
    time = name in ("startTime", "endTime", "updateTime")
    if time:
        try:
            moment = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            raise parser.error(f"{value!r} is no timestamp") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        value = moment.timestamp() * 1000

    def test(get: Lookup) -> bool:
        found = get(name)
        if found is None:
            return False
        if operator == ":":
            if value == "*":
                return True
            return value in found if isinstance(found, str | list) else bool(found == value)
        number = isinstance(value, float) and not isinstance(found, str)
        if not number and type(found) is not type(value):
            return operator == "!="
        return _COMPARE[operator](found, value)

    return test


def matcher(text: str) -> Callable[[Asset], bool]:
    """Return a test of assets for a filter; an empty filter keeps all.

    Names are `startTime`, `endTime`, `type`, `id`, `name` and `properties.<name>`. An asset
    without the named property does not pass.

    Raises
    ------
    EngineError
        The filter cannot be read; the message says where.
    """
    if not text.strip():
        return lambda asset: True
    test = _Parser(text).parse()

    def keep(asset: Asset) -> bool:
        known: dict[str, Any] = {
            "startTime": asset.start_ms,
            "endTime": asset.end_ms if asset.end_ms is not None else asset.start_ms,
            "updateTime": asset.updated * 1000,
            "type": asset.type,
            "id": asset.id,
            "name": asset.name,
            "geometry": asset.footprint,
        }

        def get(name: str) -> Any:
            if name.startswith("properties."):
                return asset.properties.get(name.removeprefix("properties."))
            return known[name] if name in known else asset.properties.get(name)

        return test(get)

    return keep


def property_matcher(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test of a feature's properties for a filter.

    Examples
    --------
    >>> keep = property_matcher('area > 10 AND kind = "slump"')
    >>> keep({"area": 12, "kind": "slump"}), keep({"area": 12})
    (True, False)
    """
    if not text.strip():
        return lambda properties: True
    test = _Parser(text).parse()
    return lambda properties: test(
        lambda name: properties.get(name, properties.get(name.removeprefix("properties.")))
    )
