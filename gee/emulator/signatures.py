"""Earth Engine's list of functions, read from the installed client library.

The list is part of the earthengine-api wheel (``ee/tests/algorithms.json``, Apache-2.0). It
is not copied here: names, argument types and defaults are those of the installed client.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from thawslump.errors import BackendError

__all__ = ["Argument", "Signature", "algorithms_document", "signatures"]

_ENTRY = re.compile(r'\{\s*"name":\s*"algorithms/([^"\\]+)"')


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a function: name, type without parameters, and default."""

    name: str
    type: str
    of: str
    optional: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Signature:
    """A function of Earth Engine."""

    name: str
    arguments: tuple[Argument, ...]
    returns: str


@lru_cache(maxsize=1)
def _text() -> str:
    """Return the list as the installed client carries it.

    Raises
    ------
    BackendError
        The client library is not installed, or no longer carries the list.
    """
    # Found without importing ee, which would take a third of a second.
    spec = importlib.util.find_spec("ee")
    if spec is None or spec.origin is None:
        raise BackendError(
            "The emulator needs the list of functions in earthengine-api, which is not installed.",
            hint="pip install earthengine-api",
        )
    path = Path(spec.origin).parent / "tests" / "algorithms.json"
    try:
        text = path.read_text(encoding="utf-8")
        if '"algorithms/' in text:
            return text
        problem: Exception | str = "no function is in it"
    except (OSError, ValueError) as error:
        problem = error
    raise BackendError(
        f"The installed earthengine-api has no usable {path} ({problem}).",
        hint="Install a release that carries ee/tests/algorithms.json, such as 1.7.50.",
    )


@lru_cache(maxsize=1)
def algorithms_document() -> dict[str, Any]:
    """Return the list as the REST interface serves it: ``{"algorithms": [...]}``.

    Raises
    ------
    BackendError
        The client library is not installed, or no longer carries the list.
    """
    found: dict[str, Any] = json.loads(_text())
    return found


class _Signatures(Mapping[str, Signature]):
    """The functions by id, each read from the list when it is first asked for.

    Reading all of the list takes a twentieth of the time in which a first value is due; so its
    entries are found by how they begin, unless they begin otherwise.
    """

    def __init__(self) -> None:
        text = _text()
        places = {m[1]: m.start() for m in _ENTRY.finditer(text)}
        if len(places) == text.count('"algorithms/'):
            decode = json.JSONDecoder().raw_decode
            self._entries: Mapping[str, Any] = places
            self._entry = lambda name: decode(text, places[name])[0]
        else:
            entries = {
                entry["name"].removeprefix("algorithms/"): entry
                for entry in algorithms_document()["algorithms"]
            }
            self._entries, self._entry = entries, entries.__getitem__
        self._read: dict[str, Signature] = {}

    def __getitem__(self, name: str) -> Signature:
        found = self._read.get(name)
        if found is None:
            found = self._read[name] = _signature(name, self._entry(name))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def _signature(name: str, entry: dict[str, Any]) -> Signature:
    arguments = []
    for item in entry.get("arguments", ()):
        kind, _, rest = item.get("type", "Object").partition("<")
        arguments.append(
            Argument(
                item["argumentName"],
                kind,
                rest[:-1].partition("<")[0],
                bool(item.get("optional", False)),
                item.get("defaultValue"),
            )
        )
    return Signature(name, tuple(arguments), entry["returnType"].partition("<")[0])


@lru_cache(maxsize=1)
def signatures() -> Mapping[str, Signature]:
    """Return the functions by id.

    Examples
    --------
    >>> [a.name for a in signatures()["Image.add"].arguments]
    ['image1', 'image2']
    """
    return _Signatures()
