"""The rules that are not known, and the requests that decide them, read from `requests.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..catalog import Policy

__all__ = ["KINDS", "PATH", "Asset", "Kit", "Request", "Rule"]

PATH = Path(__file__).with_name("requests.json")

KINDS = {
    "equal": "the same JSON; numbers within the tolerance",
    "pixels": "the same bands, types and values; values within the tolerance",
    "partition": "the same pixels belong together, whatever their labels",
    "spread": "numbers of the same range and mean; not the same numbers",
    "error": "refused with the same words",
    "report": "reported, not required: the emulator does not promise it",
    "recorded": "not compared: others are made of it",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What is not known.

    Attributes
    ----------
    id : str
    question : str
    here : str
        What the emulator does.
    source : str
        The text that leaves it open.
    """

    id: str
    question: str
    here: str
    source: str


@dataclass(frozen=True)
class Request:
    """One request, and how its answers are compared.

    Attributes
    ----------
    id : str
    rule : str
        Id of the rule that it decides.
    why : str
    method : str
        "value:compute" or "image:computePixels", as the REST interface names it.
    body : dict
        What is sent.
    compare : dict
        "kind", a key of `KINDS`; "rtol" and "atol", or what a spread is compared by.
    """

    id: str
    rule: str
    why: str
    method: str
    body: Mapping[str, Any]
    compare: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """Identity of what is sent: an answer to anything else does not count."""
        text = json.dumps([self.method, self.body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Asset:
    """A stored image of the live service that requests read.

    The emulator gets the part that they need from the recording itself.

    Attributes
    ----------
    id : str
    request : str
        The request whose answer has its native pixels.
    band : str
    crs : str
    transform : tuple of 6 float
    pyramiding : str
    """

    id: str
    request: str
    band: str
    crs: str
    transform: tuple[float, ...]
    pyramiding: Policy


@dataclass(frozen=True)
class Kit:
    """All rules and requests, in their order."""

    rules: Mapping[str, Rule]
    requests: Mapping[str, Request]
    assets: Mapping[str, Asset]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Kit:
        """Return the kit that a document like `requests.json` describes."""
        return cls(
            {item["id"]: Rule(**item) for item in document["rules"]},
            {item["id"]: Request(**item) for item in document["requests"]},
            {
                name: Asset(id=name, **{**item, "transform": tuple(item["transform"])})
                for name, item in document["assets"].items()
            },
        )

    @staticmethod
    @lru_cache(maxsize=1)
    def stored() -> Kit:
        """Return the kit that comes with the emulator.

        Examples
        --------
        >>> kit = Kit.stored()
        >>> kit.rules[kit.requests["region-centres"].rule].here
        "At the corner of the image's own grid, with square pixels of the scale."
        """
        return Kit.of(json.loads(PATH.read_text(encoding="utf-8")))

    def needs_asset(self, request: Request) -> bool:
        """Tell whether a request reads an asset that the emulator has from the recording only."""
        text = json.dumps(request.body)
        return any(name in text for name in self.assets)
