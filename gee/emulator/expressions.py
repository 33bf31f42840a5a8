"""The grammar of ``Image.expression``: parsed to a tree, applied to images or numbers.

Integer operands divide with floor there, unlike ``Image.divide`` (guides/image_math).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import EngineError

__all__ = ["Tree", "free_names", "parse", "scalar"]


@dataclass(frozen=True, slots=True)
class Tree:
    """A node: ``number``, ``name``, ``text``, ``call``, ``attribute``, ``index`` or an operator."""

    kind: str
    value: Any = None
    parts: tuple[Tree, ...] = ()


_TOKENS = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<op>\*\*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%^&|~!<>?:()\[\],.=]))"
)
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||", "or"), ("&&", "and"), ("|",), ("&",), ("==", "!="), ("<", "<=", ">", ">="),
    ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip


LONGEST = 100_000


@lru_cache(maxsize=256)
def parse(text: str) -> Tree:
    """Return the tree of an expression.

    Examples
    --------
    >>> parse("1 + 2 * 3").value
    '+'
    """
    if len(text) > LONGEST:
        raise EngineError(f"Expression is too long ({len(text)} > {LONGEST} characters).")
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKENS.match(text, at)
        if not found or found.lastgroup is None:
            raise EngineError(f"Unable to parse expression '{text}' at '{text[at:].strip()}'.")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    # "name = expression" gives the result a name that nothing here uses.
    if len(tokens) > 2 and tokens[0][0] == "name" and tokens[1][1] == "=":
        tokens = tokens[2:]
    return _Parser(text, tokens).whole()


class _Parser:
    def __init__(self, text: str, tokens: list[tuple[str, str]]) -> None:
        self.text, self.tokens, self.at = text, tokens, 0

    def fail(self) -> EngineError:
        rest = " ".join(t[1] for t in self.tokens[self.at :])
        return EngineError(f"Unable to parse expression '{self.text}' at '{rest}'.")

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at][0] in ("op", "name"):
            value = self.tokens[self.at][1]
            if value in wanted:
                self.at += 1
                return value
        return None

    def expect(self, wanted: str) -> None:
        if self.take(wanted) is None:
            raise self.fail()

    def whole(self) -> Tree:
        made = self.choice()
        if self.at != len(self.tokens):
            raise self.fail()
        return made

    def choice(self) -> Tree:
        test = self.level(0)
        if self.take("?"):
            yes = self.choice()
            self.expect(":")
            return Tree("?", None, (test, yes, self.choice()))
        return test

    def level(self, depth: int) -> Tree:
        if depth == len(_LEVELS):
            return self.unary()
        left = self.level(depth + 1)
        while True:
            sign = self.take(*_LEVELS[depth])
            if sign is None:
                return left
            sign = {"or": "||", "and": "&&"}.get(sign, sign)
            left = Tree("binary", sign, (left, self.level(depth + 1)))

    def unary(self) -> Tree:
        sign = self.take("-", "+", "!", "~")
        if sign:
            inner = self.unary()
            if sign == "+":
                return inner
            if sign == "-" and inner.kind == "number":
                return Tree("number", -inner.value)
            return Tree("unary", sign, (inner,))
        return self.power()

    def power(self) -> Tree:
        base = self.postfix()
        if self.take("**", "^"):
            return Tree("binary", "**", (base, self.unary()))
        return base

    def postfix(self) -> Tree:
        made = self.primary()
        while True:
            if self.take("."):
                if self.at >= len(self.tokens) or self.tokens[self.at][0] != "name":
                    raise self.fail()
                made = Tree("attribute", self.peek(), (made,))
                self.at += 1
            elif self.take("["):
                made = Tree("index", None, (made, *self.arguments("]")))
            else:
                return made

    def arguments(self, end: str) -> list[Tree]:
        parts: list[Tree] = []
        if self.take(end):
            return parts
        while True:
            parts.append(self.choice())
            if self.take(end):
                return parts
            self.expect(",")

    def primary(self) -> Tree:
        if self.at >= len(self.tokens):
            raise self.fail()
        kind, value = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            if value[:2] in ("0x", "0X"):
                return Tree("number", int(value, 16))
            whole = re.fullmatch(r"\d+", value)
            return Tree("number", int(value) if whole else float(value))
        if kind == "text":
            return Tree("text", value[1:-1])
        if kind == "name":
            if self.take("("):
                return Tree("call", value, tuple(self.arguments(")")))
            return Tree("name", value)
        if value == "(":
            made = self.choice()
            self.expect(")")
            return made
        self.at -= 1
        raise self.fail()


CONSTANTS = {"PI": math.pi, "E": math.e, "Math_PI": math.pi, "Math_E": math.e, "pi": math.pi}


def free_names(tree: Tree) -> set[str]:
    """Return the variables of an expression; ``Math`` and constants are none."""
    if tree.kind == "name":
        return set() if tree.value in CONSTANTS or tree.value == "Math" else {tree.value}
    return set().union(*(free_names(p) for p in tree.parts)) if tree.parts else set()


SIGNS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "mod", "**": "pow",
    "<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "==": "eq", "!=": "neq", "&&": "and",
    "||": "or", "&": "bitwiseAnd", "|": "bitwiseOr", "<<": "leftShift", ">>": "rightShift",
}  # fmt: skip
NAMES = {"asin", "acos", "atan", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "cbrt",
         "log", "log10", "exp", "abs", "floor", "ceil", "round", "min", "max", "pow", "atan2",
         "hypot", "mod", "signum"}  # fmt: skip


def scalar(tree: Tree, values: dict[str, Any]) -> int | float:
    """Return the value of an expression of numbers.

    Examples
    --------
    >>> scalar(parse("a / 2"), {"a": 5})
    2
    """

    def run(t: Tree) -> Any:
        if t.kind in ("number", "text"):
            return t.value
        if t.kind == "name":
            if t.value in values:
                return values[t.value]
            if t.value in CONSTANTS:
                return CONSTANTS[t.value]
            raise EngineError(f"Unknown variable '{t.value}' in an expression.")
        if t.kind == "attribute":
            if t.parts[0].value == "Math" and t.value in CONSTANTS:
                return CONSTANTS[t.value]
            holder = run(t.parts[0])
            if isinstance(holder, dict) and t.value in holder:
                return holder[t.value]
            raise EngineError(f"There is no '{t.value}' in a value of an expression.")
        if t.kind == "?":
            return run(t.parts[1]) if _number(run(t.parts[0]), "?") else run(t.parts[2])
        if t.kind == "unary":
            inner = run(t.parts[0])
            if t.value == "-":
                return -_number(inner, "-")
            return _called("not" if t.value == "!" else "bitwiseNot", inner)
        if t.kind == "binary":
            a, b = (run(p) for p in t.parts)
            if t.value == "/" and isinstance(a, int) and isinstance(b, int):
                return a // b if b else 0
            return _called(SIGNS[t.value], a, b)
        if t.kind == "call":
            found = [run(p) for p in t.parts]
            if t.value in ("min", "max") and len(found) > 2:
                return functools.reduce(lambda a, b: _called(t.value, a, b), found)
            return _called(t.value, *found)
        raise EngineError("An expression of numbers cannot use bands.")

    return _number(run(tree), "the result")


def _number(value: Any, of: str) -> int | float:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, (int, float)):
        raise EngineError(f"Invalid type for '{of}' in an expression: {type(value).__name__}.")
    return value


def _called(name: str, *given: Any) -> Any:
    """Call a function of numbers, with the number and types of arguments that it takes."""
    from .functions.registry import REGISTRY
    from .signatures import signatures

    function = f"Number.{name}"
    entry, signature = REGISTRY.get(function), signatures().get(function)
    if entry is None or signature is None:
        raise EngineError(f"Unknown function '{name}' in an expression.")
    least = sum(not a.optional for a in signature.arguments)
    if not least <= len(given) <= len(signature.arguments):
        raise EngineError(
            f"'{name}' takes {len(signature.arguments)} argument(s), found {len(given)}."
        )
    values: list[Any] = []
    for place, argument in enumerate(signature.arguments):
        value = given[place] if place < len(given) else argument.default
        if argument.type == "String":
            if not isinstance(value, str):
                raise EngineError(f"Invalid type for '{argument.name}' of '{name}'.")
            values.append(value)
            continue
        number = _number(value, f"{argument.name} of {name}")
        values.append(int(number) if argument.type == "Integer" else number)
    return entry.call(*values)


def apply(
    tree: Tree,
    images: dict[str, Any],
    default: str,
    operate: Callable[..., Any],
    free_bands: bool = False,
) -> Any:
    """Apply a tree to images.

    Parameters
    ----------
    tree : Tree
    images : dict of Image
    default : str
        Name of the image that ``b()`` reads.
    operate : function
        ``operate(id, *values)`` runs an Earth Engine function.
    free_bands : bool
        Unknown names are bands of the default image.
    """

    def select(image: Any, parts: tuple[Tree, ...]) -> Any:
        if not parts:
            return image
        selectors = []
        for p in parts:
            value = run(p) if p.kind not in ("text", "number", "name") else p.value
            selectors.append(value)
        return operate("Image.select", image, selectors, None)

    def first() -> Any:
        if default not in images:
            raise EngineError(f"Unknown variable '{default}' in an expression.")
        return images[default]

    def image_of(t: Tree) -> Any:
        if t.kind == "name" and t.value in images:
            return images[t.value]
        return None

    def run(t: Tree) -> Any:
        if t.kind == "number":
            return t.value
        if t.kind == "name":
            if t.value in images:
                return images[t.value]
            if t.value in CONSTANTS:
                return CONSTANTS[t.value]
            if free_bands:
                return operate("Image.select", first(), [t.value], None)
            raise EngineError(f"Unknown variable '{t.value}' in an expression.")
        if t.kind == "attribute":
            if t.parts[0].kind == "name" and t.parts[0].value == "Math":
                if t.value in CONSTANTS:
                    return CONSTANTS[t.value]
                raise EngineError(f"Unknown constant 'Math.{t.value}'.")
            return operate("Image.select", run(t.parts[0]), [t.value], None)
        if t.kind == "index":
            return select(run(t.parts[0]), t.parts[1:])
        if t.kind == "?":
            test, yes, no = (run(p) for p in t.parts)
            if isinstance(test, (int, float)):
                return yes if test else no
            return operate("choose", test, yes, no)
        if t.kind == "unary":
            inner = run(t.parts[0])
            if t.value == "-":
                if isinstance(inner, (int, float)):
                    return -inner
                return operate("Image.multiply", inner, -1)
            return operate("Image.not" if t.value == "!" else "Image.bitwiseNot", inner)
        if t.kind == "binary":
            a, b = (run(p) for p in t.parts)
            if isinstance(a, (int, float)) and isinstance(b, (int, float)):
                return scalar(Tree("binary", t.value, (Tree("number", a), Tree("number", b))), {})
            if t.value == "/":
                return operate("divide", a, b)
            return operate(f"Image.{SIGNS[t.value]}", a, b)
        if t.kind == "call":
            if t.value == "b":
                return select(first(), t.parts)
            found = [run(p) for p in t.parts]
            if all(isinstance(f, (int, float)) for f in found):
                return scalar(Tree("call", t.value, tuple(Tree("number", f) for f in found)), {})
            if t.value in ("min", "max") and len(found) > 2:
                made = found[0]
                for other in found[1:]:
                    made = operate(f"Image.{t.value}", made, other)
                return made
            return operate(f"Image.{t.value}", *found)
        raise EngineError(f"Unexpected {t.kind} '{t.value}' in an expression.")

    return run(tree)
