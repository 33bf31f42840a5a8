"""Regular expressions that a request brings, run so that none can hang the server.

Python's matcher tries alternatives one after another and holds the interpreter while it does:
``(a+)+b`` on forty letters takes years. How many steps an expression can take at most is
estimated from its quantifiers; the usual ones run here, at full speed. One that could take
millions of steps runs in a process of its own, which is ended after two seconds.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import subprocess
import sys
from typing import Any

from .budget import reserve, tick
from .errors import EngineError

__all__ = ["Pattern", "most_steps", "pattern"]

SECONDS = 2.0
"""Time that a doubtful expression is given."""
LONGEST = 5000
_DIRECT = 5e6
_QUANTIFIER = re.compile(r"[*+?]|\{\d*,?\d*\}")
_HIDING = re.compile(r"#|[a-wyzA-Z]*x")
_CHILD = """
import json, re, sys
how, regex, flags, text, new, count = json.load(sys.stdin)
p = re.compile(regex, flags)
def shown(m):
    return None if m is None else [m[0], *m.groups()]
if how == "sub":
    out = p.sub(new, text, count)
elif how == "split":
    out = p.split(text)
elif how == "findall":
    out = [m[0] for m in p.finditer(text)]
elif how == "spans":
    out = []
    for m in p.finditer(text):
        out.append([m.start(), m.end(), m[0], *m.groups()])
        if len(out) == count:
            break
else:
    out = shown(getattr(p, how)(text))
json.dump(out, sys.stdout)
"""


def most_steps(regex: str, length: int) -> float:
    """Return about how many steps a backtracking matcher may take on a text.

    A quantifier multiplies the ways to match by the number of lengths it can take, a group by
    its alternatives; a quantifier of a group that can itself match in several ways multiplies
    without bound, as does a group that is referred back to.

    Examples
    --------
    >>> most_steps("B[1-4]", 10) < most_steps("B.*", 10) < most_steps("(a|a.)*b", 10)
    True
    >>> most_steps("(a+)+b", 40)
    inf
    """
    ways = [1.0]  # per open group
    steps = 1.0
    at, last = 0, 1.0
    while at < len(regex):
        sign = regex[at]
        if sign == "\\":
            if at + 1 < len(regex) and regex[at + 1].isdigit():
                return float("inf")
            at, last = at + 2, 1.0
            continue
        if sign == "[":
            at, last = _after_class(regex, at), 1.0
            continue
        if sign == "(":
            ways.append(1.0)
            at, last = at + 1, 1.0
            if regex[at : at + 1] == "?":
                at += 1
                # Comments and free spacing would have to be read as Python reads them.
                if _HIDING.match(regex, at):
                    return float("inf")
            continue
        if sign == ")":
            last = ways.pop() if len(ways) > 1 else 1.0
            ways[-1] *= last
            at += 1
            continue
        if sign == "|":
            ways[-1] += 1
            at, last = at + 1, 1.0
            continue
        found = _QUANTIFIER.match(regex, at)
        if found is None:
            at, last = at + 1, 1.0
            continue
        many = _lengths(found[0], length)
        if last > 1 and many > 2:
            return float("inf")
        ways[-1] *= many
        at, last = found.end(), 1.0
        # A second ? makes it lazy, a + possessive.
        if regex[at : at + 1] in ("?", "+"):
            at += 1
    for inner in ways:
        steps *= inner
    return steps * (length + 1)


def _after_class(regex: str, at: int) -> int:
    """Return where a set such as ``[^]a-z]`` that begins at a place is over."""
    at += 2 if regex[at + 1 : at + 2] == "^" else 1
    first = at
    while at < len(regex):
        if regex[at] == "\\":
            at += 1
        elif regex[at] == "]" and at > first:
            return at + 1
        at += 1
    return at


def _lengths(quantifier: str, length: int) -> float:
    if quantifier == "?":
        return 2.0
    if quantifier in "*+":
        return length + 1.0
    low, comma, high = quantifier[1:-1].partition(",")
    if not comma:
        return 1.0 if low else 2.0
    if not high:
        return length + 1.0
    return min(max(int(high) - int(low or 0), 0), length) + 1.0


class Pattern:
    """A compiled expression whose every use is bounded in time.

    Parameters
    ----------
    regex : str
    flags : int
        As of `re`.
    """

    def __init__(self, regex: str, flags: int = 0) -> None:
        if len(regex) > LONGEST:
            raise EngineError(
                f"Invalid regular expression: {len(regex)} characters (at most {LONGEST})."
            )
        try:
            self._compiled = re.compile(regex, flags)
        except (re.error, OverflowError, RecursionError, ValueError) as problem:
            shown = regex if len(regex) <= 200 else f"{regex[:200]}..."
            raise EngineError(f"Invalid regular expression '{shown}': {problem}.") from None
        self.regex = regex
        self.flags = flags

    @property
    def groups(self) -> int:
        """Number of capturing groups."""
        return self._compiled.groups

    def search(self, text: str) -> list[str | None] | None:
        """Return the first match and its groups, or None."""
        if self._safe(text):
            found = self._compiled.search(text)
            return None if found is None else [found[0], *found.groups()]
        out: list[str | None] | None = self._apart("search", text)
        return out

    def fullmatch(self, text: str) -> bool:
        """Return whether all of a text matches."""
        if self._safe(text):
            return self._compiled.fullmatch(text) is not None
        return self._apart("fullmatch", text) is not None

    def findall(self, text: str) -> list[str]:
        """Return all matches."""
        if self._safe(text):
            return [m[0] for m in self._compiled.finditer(text)]
        out: list[str] = self._apart("findall", text)
        return out

    @property
    def names(self) -> dict[str, int]:
        """Numbers of the groups that have names."""
        return dict(self._compiled.groupindex)

    def spans(self, text: str, count: int = 0) -> list[list[Any]]:
        """Return start, end, text and groups of all matches, or of the first ``count``."""
        if not self._safe(text):
            apart: list[list[Any]] = self._apart("spans", text, count=count)
            return apart
        found = self._compiled.finditer(text)
        return [
            [m.start(), m.end(), m[0], *m.groups()]
            for m in (itertools.islice(found, count) if count else found)
        ]

    def sub(self, new: str, text: str, count: int = 0) -> str:
        """Replace matches, at most ``count`` of them if that is not 0.

        Raises
        ------
        EngineError
            The replacement names a group that there is not.
        """
        matches = min(count, len(text) + 1) if count else len(text) + 1
        grown = len(new) + (len(text) if "\\" in new else 0)
        if matches * grown > 2**24:
            # Rather counted than refused: few expressions match at every character.
            found = self.findall(text)
            reserve(len(text) + (min(count, len(found)) if count else len(found)) * grown, 4)
        try:
            if self._safe(text):
                return self._compiled.sub(new, text, count)
            out: str = self._apart("sub", text, new, count)
        except (re.error, IndexError) as problem:
            raise EngineError(f"Invalid replacement '{new[:200]}': {problem}.") from None
        return out

    def split(self, text: str) -> list[str | None]:
        """Return the parts between matches."""
        if self._safe(text):
            return list(self._compiled.split(text))
        out: list[str | None] = self._apart("split", text)
        return out

    def _safe(self, text: str) -> bool:
        return most_steps(self.regex, len(text)) <= _DIRECT

    def _apart(self, how: str, text: str, new: str = "", count: int = 0) -> Any:
        tick()
        asked = json.dumps([how, self.regex, int(self.flags), text, new, count])
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _CHILD],
                input=asked,
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(
                f"The regular expression takes too long on a text of {len(text)} characters; "
                "avoid repeated groups that hold repetitions."
            ) from None
        if done.returncode:
            said = done.stderr.strip().rpartition("\n")[2]
            raise EngineError(f"Invalid regular expression: {said[:200]}.")
        return json.loads(done.stdout)


@functools.lru_cache(maxsize=512)
def pattern(regex: str, flags: int = 0) -> Pattern:
    """Return an expression, compiled once.

    Raises
    ------
    EngineError
        It is no regular expression, or a huge one.

    Examples
    --------
    >>> pattern("B([0-9])").search("xB8")
    ['B8', '8']
    """
    return Pattern(regex, flags)
